"""L1: what a lane fetches next: chunks of requests, of many hosts in turn, and of no host that may not be asked now.

    add --> its host's queue --take()--> a chunk --done()--> gone
     ^                                     |
     +------------- handed back -----------+

A host whose requests are counted or timed is in one chunk at a time, so what a chunk keeps to, the host sees kept.
"""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from math import ceil, inf
from typing import Final

from fetcher.delayed import Delayed
from fetcher.frozen import value
from fetcher.hosts import Hosts, limits_of
from fetcher.model import Request
from fetcher.options import Limits, Options

#: The most requests in a chunk: what is lost with a worker, and told to one in one piece.
MOST: Final = 500

#: Seconds for which a chunk waits for most of its lane's slots.
PATIENCE: Final = 0.5


def room(slots: int, free: int, waited: float) -> int:
    """Return with how many of a lane's slots its next chunk begins, ``waited`` seconds after the one before began to leave.

    A chunk keeps as many as it begins with, so none begins with few that may soon be more; 0 is not yet.
    """
    return max(0, free) if 5 * free >= 4 * slots or waited >= PATIENCE else 0


def size(most: int, slots: int, free: int) -> int:
    """Return how many requests a chunk with that room has, so that one with little room does not last longer."""
    return ceil(most * free / slots)


@value(frozen=True, slots=True)
class Pace:
    """What holds for one host: how much at once, and how many a second; None is no limit.

    ``learning`` if more may be known once it was asked.
    """

    per_host: int | None
    host_rate: float | None
    learning: bool

    @classmethod
    def of(cls, limits: Limits) -> "Pace":
        """Return the pace that is in these limits."""
        return cls(limits.per_host, limits.host_rate, limits.adaptive or limits.robots)

    @property
    def free(self) -> bool:
        """Whether a host may be in two chunks at once: there is nothing that one must know of the other."""
        return self.per_host is None and self.host_rate is None and not self.learning


def paces(options: Options) -> Callable[[str], Pace]:
    """Return what tells what holds for a host."""
    hosts, usual = Hosts(options.hosts), Pace.of(options.limits)

    def pace_of(host: str) -> Pace:
        section = hosts.of(host)
        return usual if section is None else Pace.of(limits_of(options.limits, section))

    return pace_of


class _Host:
    __slots__ = ("apart", "busy", "clear", "listed", "pace", "queue", "until")

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.queue: deque[Request] = deque()
        self.busy = 0
        self.listed = False
        #: Seconds between two starts.
        self.apart = 0.0 if pace.host_rate is None else 1 / pace.host_rate
        #: When it may be asked again: because it said so, and because its rate has forgotten what was started.
        self.until = -inf
        self.clear = -inf

    @property
    def ready(self) -> float:
        return max(self.until, self.clear)


class Backlog:
    """The requests of one lane that are in no chunk. Times are seconds on any clock that never goes back.

    ``pace_of`` tells what holds for a host, ``slots`` how many requests the lane may make at once.
    """

    def __init__(self, slots: int, pace_of: Callable[[str], Pace]) -> None:
        self._slots = slots
        self._pace_of = pace_of
        self._hosts: dict[str, _Host] = {}
        self._ring: deque[str] = deque()
        self._held: list[tuple[float, str]] = []
        self._delayed = Delayed()
        self._count = 0

    def __len__(self) -> int:
        """How many requests wait here."""
        return self._count

    @property
    def delayed(self) -> int:
        """How many of them wait for their time."""
        return len(self._delayed)

    def add(self, request: Request, not_before: float | None = None) -> None:
        """Take a request, which is in no chunk before its time."""
        self._count += 1
        if not_before is not None:
            self._delayed.add(request, not_before)
            return
        host = self._host(request.host)
        host.queue.append(request)
        self._list(request.host, host)

    def hold(self, name: str, until: float) -> None:
        """Learn that a host wants to be left alone, if it is known here."""
        host = self._hosts.get(name)
        if host is not None:
            host.until = max(host.until, until)

    def begun(self, name: str, now: float) -> None:
        """Learn that a request to a host was started; its rate is kept over chunks."""
        host = self._hosts.get(name)
        if host is not None and host.apart:
            host.clear = max(host.clear, now) + host.apart

    def space(self, name: str, apart: float) -> None:
        """Learn how many seconds apart the requests to a host shall start at least, if it is known here."""
        host = self._hosts.get(name)
        if host is not None:
            host.apart = max(host.apart, apart)

    def take(self, now: float, most: int = MOST) -> list[Request]:
        """Return a chunk: requests that may start now, of each host in turn; none if there are none.

        A host with a limit gets no more of it than keeps pace with the rest, so that no chunk ends with it alone.
        """
        self._release(now)
        taken: dict[str, list[Request]] = {}
        room = most
        while room and self._ring:
            name = self._ring.popleft()
            host = self._hosts[name]
            host.listed = False
            mine = taken.get(name)
            if mine is None:
                if host.busy and not host.pace.free:
                    continue
                if host.ready > now:
                    self._rest(name, host)
                    continue
                mine = taken[name] = []
            mine.append(host.queue.popleft())
            room -= 1
            if host.queue and len(mine) < self._share(host.pace, most):
                host.listed = True
                self._ring.append(name)
        self._count -= most - room
        for name, mine in taken.items():
            host = self._hosts[name]
            host.busy += len(mine)
            self._list(name, host)
        return [request for mine in taken.values() for request in mine]

    def wake_at(self, now: float) -> float | None:
        """Return when :meth:`take` may give something without anything done before; None if that cannot be."""
        self._release(now)
        if self._ring:
            return now
        times = (self._delayed.next_at, self._held[0][0] if self._held else None)
        return min((time for time in times if time is not None), default=None)

    def done(self, name: str, now: float) -> None:
        """Learn that a request of a chunk is settled, or handed back."""
        host = self._hosts[name]
        host.busy -= 1
        self._list(name, host)
        if host.ready > now:
            self._rest(name, host)
        elif not (host.queue or host.busy or host.listed):
            del self._hosts[name]

    def _share(self, pace: Pace, most: int) -> int:
        """Return how many requests of one host a chunk may have."""
        if pace.per_host is None or pace.per_host >= self._slots:
            return most
        return ceil(most * pace.per_host / self._slots)

    def _host(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(self._pace_of(name))
        return host

    def _list(self, name: str, host: _Host) -> None:
        if host.queue and not host.listed and (not host.busy or host.pace.free):
            host.listed = True
            self._ring.append(name)

    def _rest(self, name: str, host: _Host) -> None:
        """Come back to a host when it may be asked again, or can be forgotten."""
        if not host.listed:
            host.listed = True
            heappush(self._held, (host.ready, name))

    def _release(self, now: float) -> None:
        """Put back what waited for its time."""
        while (request := self._delayed.pop(now)) is not None:
            host = self._host(request.host)
            host.queue.append(request)
            self._list(request.host, host)
        while self._held and self._held[0][0] <= now:
            name = heappop(self._held)[1]
            host = self._hosts[name]
            host.listed = False
            self._list(name, host)
            if not (host.queue or host.busy):
                del self._hosts[name]
