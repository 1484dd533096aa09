"""L2: when the phases of one exchange happened, gathered where they happen."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fetcher.clock import Clock
from fetcher.model import Timings


class Timeline:
    """Notes the moments of one exchange; each phase is the time between two of them.

    ``blocked_address`` is one that the exchange was not allowed to connect to.
    A name looked up for several exchanges at once, or a reused connection, leaves its phases out.
    """

    lookup: float | None = None
    looked_up: float | None = None
    connecting: float | None = None
    tls: float | None = None
    sent: float | None = None
    head: float | None = None
    blocked_address: str | None = None

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.started = clock.monotonic()

    @contextmanager
    def dns(self) -> Iterator[None]:
        """Note a look-up."""
        self.lookup = self._clock.monotonic()
        yield
        self.looked_up = self._clock.monotonic()

    def mark(self, moment: str) -> None:
        """Note that ``moment`` (a slot of this class) is now."""
        setattr(self, moment, self._clock.monotonic())

    def timings(self) -> Timings | None:
        """Return the phases up to the head; they add up to the time from start to head."""
        if self.sent is None or self.head is None:
            return None
        dns = _span(self.lookup, self.looked_up)
        connect = _span(self.connecting, self.tls if self.tls is not None else self.sent)
        tls = _span(self.tls, self.sent)
        blocked = self.sent - self.started - sum(phase or 0.0 for phase in (dns, connect, tls))
        return Timings(
            blocked=round(max(0.0, blocked), 6),
            dns=dns,
            connect=connect,
            tls=tls,
            send=0.0,
            wait=round(self.head - self.sent, 6),
        )


def _span(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(end - start, 6)


_current: ContextVar[Timeline] = ContextVar("timeline")


def current_timeline() -> Timeline:
    """Return the timeline of the exchange that this code runs for."""
    return _current.get()


def begin(timeline: Timeline) -> None:
    """Make ``timeline`` the one of this task."""
    _current.set(timeline)
