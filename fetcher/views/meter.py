"""L4: rates over time and the time left, by arithmetic on counters and a given ``now``."""

from collections import deque
from itertools import pairwise
from math import inf
from typing import Final, NamedTuple

from fetcher.events import Counters

#: Rates are those of so many seconds, or of the whole run while it is younger.
WINDOW: Final = 10.0
#: The history is so many seconds long.
HISTORY: Final = 60
#: For so many seconds a run is too young for a guess of its end.
TOO_YOUNG: Final = 3.0


class _Sample(NamedTuple):
    now: float
    settled: int
    received: int


class Meter:
    """Turns samples of the counters into rates. Keeps one sample a second, for a minute.

    ``eta`` is the guessed number of seconds left, None if there is no telling; it changes at most once a second.
    """

    def __init__(self, started: float) -> None:
        self.eta: float | None = None
        self._started = started
        self._guessed = -inf
        self._latest = _Sample(started, 0, 0)
        self._history = deque([self._latest], maxlen=HISTORY + 1)

    def sample(self, counters: Counters, now: float) -> None:
        """Take in the counters as they are ``now``, in seconds on the clock of ``started``."""
        self._latest = _Sample(now, counters.settled, counters.wire_bytes)
        if int(now - self._started) > int(self._history[-1].now - self._started):
            self._history.append(self._latest)
        if now - self._guessed >= 1:
            self._guessed = now
            self.eta = self._guess(counters, now)

    @property
    def rate(self) -> float:
        """Lines settled per second."""
        return _rate(self._before(), self._latest)

    @property
    def byte_rate(self) -> float:
        """Bytes received per second."""
        return _byte_rate(self._before(), self._latest)

    def history(self, step: int) -> list[float]:
        """Return the rate of every ``step`` seconds of the last minute, oldest first."""
        # Whole steps since the start, or each new sample would group all others anew.
        kept = [sample for sample in self._history if int(sample.now - self._started) % step == 0]
        return [_rate(before, after) for before, after in pairwise(kept)]

    def _before(self) -> _Sample:
        for sample in reversed(self._history):
            if self._latest.now - sample.now >= WINDOW:
                return sample
        return self._history[0]

    def _guess(self, counters: Counters, now: float) -> float | None:
        """Guess from the lines left and their rate, but no less than known bytes need or a request has to wait."""
        if counters.total is None or now - self._started < TOO_YOUNG:
            return None
        left = counters.total - counters.settled
        if left <= 0:
            return 0.0
        known = [transfer for transfer in counters.active.values() if transfer.total is not None]
        missing = sum(max(0, (transfer.total or 0) - transfer.received) for transfer in known)
        by_bytes = missing / self.byte_rate if self.byte_rate else None
        soonest = max(by_bytes or 0.0, counters.until - now)
        if self.rate:
            return max(left / self.rate, soonest)
        foreseen = (len(known) if by_bytes is not None else 0) + (counters.retrying if counters.until > now else 0)
        return soonest if foreseen >= left else None


def _rate(before: _Sample, after: _Sample) -> float:
    return (after.settled - before.settled) / (after.now - before.now) if after.now > before.now else 0.0


def _byte_rate(before: _Sample, after: _Sample) -> float:
    return (after.received - before.received) / (after.now - before.now) if after.now > before.now else 0.0
