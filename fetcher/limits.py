"""L1: how fast requests may start, as arithmetic on `now`."""

from math import inf, isfinite


class TokenBucket:
    """Lets ``rate`` tokens per second through, and ``burst`` at once after a pause (default: a tenth of a second's).

    Takers that wait for :meth:`ready_at` take at most ``rate * t + burst`` tokens in any t seconds.
    Times are seconds of one clock that never goes back; how far it jumps forward does not matter.
    Raises ValueError for a rate not above 0 or a burst below 1.
    """

    # The bucket is kept as the time it was last full and the tokens taken since, not as a level:
    # nothing is added up, so rounding errors do not add up either.

    def __init__(self, rate: float, burst: float | None = None) -> None:
        if burst is None:
            burst = max(1.0, rate / 10)
        if not (isfinite(rate) and rate > 0 and burst >= 1):
            raise ValueError(f"no such bucket: rate {rate}, burst {burst}")
        self._rate = rate
        self._burst = burst
        self._full = -inf
        self._taken = 0

    @property
    def full_at(self) -> float:
        """When all tokens are there, unless more are taken."""
        return self._full + self._taken / self._rate

    def ready_at(self, now: float) -> float:
        """Return when the next token is there: ``now`` itself, or a later time at which it will be."""
        return max(now, self._full + (self._taken + 1 - self._burst) / self._rate)

    def take(self, now: float, tokens: int = 1) -> None:
        """Take tokens. Whoever takes them before they are ready borrows, and those who come later wait longer."""
        if now > self.full_at:
            self._full, self._taken = now, 0
        self._taken += tokens
