"""L1: which request may start now.

A request is in one of three places. It never sleeps in a task and never holds a slot while it waits:

    add(now) --------> queue of its host --next()--> running --finished()--> gone
       ^                     ^                                                 |
       |                     | its time has come                               |
       +-- add(not_before) --> delayed <---------- a retry is added again -----+

Hosts take turns (round robin), each host's requests keep their order; those whose time has come go first. A host
leaves the ring while it has nothing queued, runs as many requests as it may, or waits for its rate; a list sorted by
host runs like a shuffled one as far as the look-ahead reaches.
"""

from collections import deque
from heapq import heappop, heappush
from math import inf

from fetcher.limits import TokenBucket
from fetcher.model import Request


class _Host:
    """One host: its queue, of which the first ``due`` had to wait, how many run, and if it is in the ring or held.

    Its ``bucket`` has all its tokens at ``full``; from then on a new one would do as well.
    """

    __slots__ = ("bucket", "due", "full", "listed", "queue", "running")

    def __init__(self, rate: float | None) -> None:
        self.queue: deque[Request] = deque()
        self.due = 0
        self.running = 0
        self.listed = False
        self.bucket = TokenBucket(rate) if rate is not None else None
        self.full = -inf

    @property
    def idle(self) -> bool:
        return not self.queue and not self.running


class Scheduler:
    """Decides who gets a freed slot. Times are seconds on any clock that never goes back, given as ``now``.

    ``per_host`` bounds how many requests of one host run at once; ``rate`` and ``host_rate`` how many start a second.
    """

    def __init__(
        self, *, per_host: int | None = None, rate: float | None = None, host_rate: float | None = None
    ) -> None:
        self._per_host = per_host
        self._host_rate = host_rate
        self._refill = 0.0 if host_rate is None else 1 / host_rate
        self._bucket = TokenBucket(rate) if rate is not None else None
        self._hosts: dict[str, _Host] = {}
        self._ring: deque[str] = deque()
        self._held: list[tuple[float, str]] = []
        self._idle: list[tuple[float, str]] = []
        self._delayed: list[tuple[float, int, Request]] = []
        self._sequence = 0
        self._count = 0

    def __len__(self) -> int:
        """How many requests wait here, delayed ones included; running ones are not counted."""
        return self._count

    @property
    def delayed(self) -> int:
        """How many of them wait for their time."""
        return len(self._delayed)

    def add(self, request: Request, not_before: float | None = None) -> None:
        """Take a request; with ``not_before`` it stays out of the way until then, then goes before its host's others."""
        self._count += 1
        if not_before is None:
            host = self._host(request.host)
            host.queue.append(request)
            self._list(request.host, host)
        else:
            self._sequence += 1
            heappush(self._delayed, (not_before, self._sequence, request))

    def next(self, now: float) -> Request | None:
        """Return a request that starts now, or None if none may; :meth:`wake_at` then says when to ask again."""
        if self._delayed or self._held or self._idle:
            self._release(now)
        if self._bucket is not None and self._bucket.ready_at(now) > now:
            return None
        while self._ring:
            name = self._ring.popleft()
            host = self._hosts[name]
            if host.bucket is not None and (ready := host.bucket.ready_at(now)) > now:
                heappush(self._held, (ready, name))
                continue
            return self._start(name, host, now)
        return None

    def wake_at(self, now: float) -> float | None:
        """Return when :meth:`next` may give a request without anything finishing before; None if that cannot be."""
        times = [heap[0][0] for heap in (self._delayed, self._held) if heap]
        if self._ring:
            times.append(now)
        if not times or self._bucket is None:
            return min(times, default=None)
        return max(min(times), self._bucket.ready_at(now))

    def finished(self, request: Request, now: float) -> None:
        """Learn that a request given by :meth:`next` runs no more, however it ended."""
        host = self._hosts[request.host]
        host.running -= 1
        if host.queue:
            self._list(request.host, host)
        elif not host.running:
            heappush(self._idle, (host.full, request.host))
            self._forget(now)

    def drain(self) -> int:
        """Forget everything that waits, and return how many requests that were."""
        dropped, self._count = self._count, 0
        self._delayed.clear()
        self._held.clear()
        self._ring.clear()
        self._hosts = {name: host for name, host in self._hosts.items() if host.running}
        for host in self._hosts.values():
            host.queue.clear()
            host.due = 0
            host.listed = False
        return dropped

    def _host(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(self._host_rate)
        return host

    def _list(self, name: str, host: _Host) -> None:
        """Give the host its place in the ring if it has something to start and may start it."""
        if host.queue and not host.listed and (self._per_host is None or host.running < self._per_host):
            host.listed = True
            self._ring.append(name)

    def _start(self, name: str, host: _Host, now: float) -> Request:
        request = host.queue.popleft()
        self._count -= 1
        host.running += 1
        host.listed = False
        if host.due:
            host.due -= 1
        if self._bucket is not None:
            self._bucket.take(now)
        if host.bucket is not None:
            host.bucket.take(now)
            host.full = max(host.full, now) + self._refill
        self._list(name, host)
        return request

    def _release(self, now: float) -> None:
        """Put back what waited for its time."""
        while self._delayed and self._delayed[0][0] <= now:
            request = heappop(self._delayed)[2]
            host = self._host(request.host)
            host.queue.insert(host.due, request)
            host.due += 1
            self._list(request.host, host)
        while self._held and self._held[0][0] <= now:
            name = heappop(self._held)[1]
            host = self._hosts[name]
            host.listed = False
            self._list(name, host)
        self._forget(now)

    def _forget(self, now: float) -> None:
        """Drop hosts that have nothing left, but not before their buckets are full again."""
        while self._idle and self._idle[0][0] <= now:
            name = heappop(self._idle)[1]
            host = self._hosts.get(name)
            if host is not None and host.idle and host.full <= now:
                del self._hosts[name]
