"""L1: what an origin's answers say about how soon, and how much at once, it may be asked again.

free --refused--> held --time--> recovering --answers--> free
  |                ^                 | refused
  |                +-----------------+
  +--failures in a row--> open --time--> probed --answer--> recovering
                           ^               | failed
                           +---------------+--patience over--> down: told with each wait, probed ever more rarely
"""

from enum import Enum
from math import inf
from typing import Final

from fetcher.errors import ErrorKind
from fetcher.frozen import value
from fetcher.model import Attempt
from fetcher.text import seconds_text

#: So many connections in a row that failed mean that there is no server, not an accident.
_FAILURES: Final = 10
#: Seconds until a silent origin is tried again for the first time, and at most; each wait is twice the one before.
_PROBE: Final = 1.0
_PROBE_MOST: Final = 60.0
#: Seconds for which the requests to a silent origin wait; its probes are at 1, 3, 7 and 15.
_PATIENCE: Final = 15.0
#: Seconds for which it is remembered of an origin without requests that it was in trouble.
MEMORY: Final = 60.0


#: The server's way to say "not now" to everyone; 503 may also be about one URL.
_TOO_MANY, _UNAVAILABLE = "http.429", "http.503"
#: There was no connection, or nothing came of it.
_UNREACHED: Final = frozenset(
    {
        *(ErrorKind.DNS, ErrorKind.CONNECT_REFUSED, ErrorKind.CONNECT_UNREACHABLE, ErrorKind.CONNECT_CLOSED),
        *(ErrorKind.TLS_HANDSHAKE, ErrorKind.TIMEOUT_CONNECT),
    }
)
#: Without a response's head, these too mean that there is a server.
_REACHED: Final = frozenset({ErrorKind.TLS_VERIFY, ErrorKind.TIMEOUT_READ, ErrorKind.PROTOCOL})


class Sign(Enum):
    """What an attempt tells about the origin that ended it."""

    NONE = 0
    ANSWERED = 1
    REFUSED = 2
    UNREACHED = 3


def sign_of(attempt: Attempt) -> Sign:
    """Return what an attempt tells."""
    kind = attempt.error.kind if attempt.error is not None else ""
    if attempt.head is not None:
        refused = attempt.retry_after or kind in (_TOO_MANY, _UNAVAILABLE)
        return Sign.REFUSED if refused else Sign.ANSWERED
    return Sign.ANSWERED if kind in _REACHED else Sign.UNREACHED if kind in _UNREACHED else Sign.NONE


@value(frozen=True, slots=True)
class Pushback:
    """How refusals and failures are taken.

    A wait of more than ``max_wait`` seconds is not obeyed to its end; what one URL may fail in all its
    ``retries`` never counts as an origin's failure. Without a stated wait, backoff is as for one URL.
    """

    retries: int
    max_wait: float
    base: float = 1.0
    cap: float = 60.0

    @property
    def failures(self) -> int:
        """How many connections in a row must fail."""
        return max(_FAILURES, self.retries + 1)


@value(frozen=True, slots=True)
class Refusal:
    """An answer that says "not now", to a request that ran from ``started`` to ``ended``.

    ``wait`` is in seconds, None or 0 if it does not say how long; ``vague`` if it may be about its URL alone, as a 503
    without a time may be; ``random`` is even from 0 to 1.
    """

    started: float
    ended: float
    wait: float | None
    vague: bool
    random: float

    @classmethod
    def of(cls, attempt: Attempt, random: float) -> "Refusal":
        """Return what an attempt that was refused says."""
        vague = attempt.error is not None and attempt.error.kind == _UNAVAILABLE
        return cls(attempt.started, attempt.ended, attempt.retry_after, vague, random)


@value(frozen=True, slots=True)
class Hold:
    """An origin held from ``began`` to ``until``, and what had led to it, for others who ask the same origin.

    Times are on the monotonic clock, which on Linux is one for all processes of a machine.
    """

    began: float
    until: float
    down: str
    refusals: int
    too_long: bool
    failures: int
    opened: float
    interval: float


class Origin:
    """One origin in trouble: nothing starts before ``until``, nor more than ``limit`` at once.

    If ``down`` is not empty, requests had better not wait for it: it says why. Times are seconds on one clock.
    Requests that were under way when a hold began tell nothing new by being refused too: a burst counts once.
    """

    __slots__ = (
        *("_began", "_ceiling", "_failures", "_interval", "_opened", "_pushback", "_refusals", "_too_long", "_vague"),
        *("down", "limit", "until"),
    )

    def __init__(self, pushback: Pushback) -> None:
        self.until = -inf
        self.limit: float = inf
        self.down = ""
        self._pushback = pushback
        self._began = -inf
        self._ceiling = 1
        self._refusals = 0
        self._vague = False
        self._too_long = False
        self._failures = 0
        self._interval = _PROBE
        self._opened = inf

    @property
    def healthy(self) -> bool:
        """Whether there is nothing to remember."""
        return self.limit == inf and not (self._failures or self._refusals or self._vague)

    @property
    def hold(self) -> Hold:
        """The last hold, to be told to others."""
        return Hold(
            began=self._began,
            until=self.until,
            down=self.down,
            refusals=self._refusals,
            too_long=self._too_long,
            failures=self._failures,
            opened=self._opened,
            interval=self._interval,
        )

    def told(self, hold: Hold, running: int) -> bool:
        """Learn that others hold it, while ``running`` run here; tell if a hold begins with it.

        Theirs is ours from here on, as if this origin had heard itself what they have; so each counts it once.
        """
        if hold.began <= self._began:
            self.until = max(self.until, hold.until)
            return False
        self.down = hold.down
        self._refusals, self._too_long = hold.refusals, hold.too_long
        self._failures, self._opened, self._interval = hold.failures, hold.opened, hold.interval
        self._hold(hold.began, hold.until - hold.began, running)
        return True

    def answered(self, started: float) -> None:
        """Learn of any other answer. Each that was asked for after the hold lets one more run: 1, 2, 4, ... in turn."""
        self._failures = 0
        self._vague = False
        if started <= self._began:
            return
        self._refusals = 0
        self._too_long = False
        self._opened = inf
        self.down = ""
        self.limit += 1
        if self.limit >= self._ceiling:
            self.limit = inf

    def refused(self, refusal: Refusal, running: int) -> bool:
        """Learn that a request was refused while ``running`` ran, itself included; tell if a hold begins with it.

        The second refusal in a row that asks for more than may be waited means that the others need not wait either.
        """
        wait, most = refusal.wait or 0.0, self._pushback.max_wait
        self._failures = 0
        if refusal.started <= self._began:
            self.until = max(self.until, refusal.ended + min(wait, most))
            return False
        if refusal.vague and not wait and not self._vague:
            self._vague = True
            return False
        if not wait:
            wait = refusal.random * min(self._pushback.cap, self._pushback.base * 2.0 ** min(self._refusals, 64))
        self.down = f"it asks to wait {seconds_text(wait)}" if wait > most and self._too_long else ""
        self._too_long = wait > most
        self._refusals += 1
        self._hold(refusal.ended, min(wait, most), running)
        return True

    def unreached(self, started: float, now: float, running: int) -> None:
        """Learn that there was no connection, or none that was any good."""
        if started <= self._began:
            return
        self._failures += 1
        if self._failures < self._pushback.failures:
            return
        if self._opened == inf:
            self._opened, self._interval = now, _PROBE
        if now + self._interval > self._opened + _PATIENCE:
            self.down = f"{self._failures} connections failed in a row"
        self._hold(now, self._interval, running)
        self._interval = min(2 * self._interval, _PROBE_MOST)

    def _hold(self, now: float, seconds: float, running: int) -> None:
        if self.limit == inf:
            self._ceiling = running
        self.limit = 1
        self._began = now
        self.until = max(self.until, now + seconds)
