"""L1: which request may start now.

A request is in one of three places. It never sleeps in a task and never holds a slot while it waits:

    add(now) --------> queue of its host --next()--> running --finished()--> gone
       ^                     ^                                                 |
       |                     | its time has come                               |
       +-- add(not_before) --> delayed <---------- a retry is added again -----+

Hosts take turns (round robin), each host's requests keep their order; those whose time has come go first. A host
leaves the ring while it has nothing queued, runs as many requests as it may, waits for its rate, or has asked to be left
alone; a list sorted by host runs like a shuffled one as far as the look-ahead reaches.
"""

from collections import deque
from heapq import heapify, heappop, heappush
from math import inf

from fetcher.adaptive import Adaptive
from fetcher.delayed import Delayed
from fetcher.hosts import ALIKE, Hosts, limits_of
from fetcher.limits import TokenBucket
from fetcher.model import Request
from fetcher.options import Limits
from fetcher.origins import MEMORY, Hold, Origin, Pushback, Refusal


class _Host:
    """One host: its queue, of which the first ``due`` had to wait, how many run, and if it is in the ring or held.

    Between two starts there are ``apart`` seconds, so that the next is not before ``spaced``.
    Its ``bucket`` has all its tokens at ``full``, and ``origin`` is forgotten then if it is in trouble; from then on a new
    host would do as well.
    """

    __slots__ = (
        *("adaptive", "apart", "bucket", "due", "full", "limit", "listed", "noted", "origin", "queue", "refill"),
        *("running", "spaced"),
    )

    def __init__(self, limits: Limits) -> None:
        most = inf if limits.per_host is None else limits.per_host
        rate = limits.host_rate
        self.queue: deque[Request] = deque()
        self.due = 0
        self.running = 0
        self.listed = False
        self.bucket = TokenBucket(rate) if rate is not None else None
        self.refill = 0.0 if rate is None else 1 / rate
        self.adaptive = Adaptive(most) if limits.adaptive else None
        self.limit = most if self.adaptive is None else self.adaptive.limit
        self.full = -inf
        self.noted = inf
        self.origin: Origin | None = None
        self.apart = 0.0
        self.spaced = -inf

    @property
    def idle(self) -> bool:
        return not self.queue and not self.running


class Scheduler:
    """Decides who gets a freed slot. Times are seconds on any clock that never goes back, given as ``now``.

    The limits' ``per_host`` bounds how many requests of one host run at once; ``rate`` and ``host_rate`` how many start a
    second. ``hosts`` says for which they are others.
    """

    def __init__(self, limits: Limits, hosts: Hosts = ALIKE, pushback: Pushback | None = None) -> None:
        self._limits = limits
        self._sections = hosts
        #: Whether a host may have to wait although it runs less than ``per_host``; most runs end before any has to.
        rates = [limits.host_rate, *(section.host_rate for section in hosts.sections)]
        self._heeds = limits.adaptive or any(rate is not None for rate in rates)
        self._pushback = pushback or Pushback(0, inf)
        self._bucket = TokenBucket(limits.rate) if limits.rate is not None else None
        self._hosts: dict[str, _Host] = {}
        self._ring: deque[str] = deque()
        self._held: list[tuple[float, str]] = []
        self._idle: list[tuple[float, str]] = []
        self._delayed = Delayed()
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
            self._delayed.add(request, not_before)

    def next(self, now: float) -> Request | None:
        """Return a request that starts now, or None if none may; :meth:`wake_at` then says when to ask again."""
        if self._delayed or self._held or self._idle:
            self._release(now)
        if self._bucket is not None and self._bucket.ready_at(now) > now:
            return None
        while self._ring:
            name = self._ring.popleft()
            host = self._hosts[name]
            if self._heeds and not self._may_start(name, host, now):
                continue
            return self._start(name, host, now)
        return None

    def wake_at(self, now: float) -> float | None:
        """Return when :meth:`next` may give a request without anything finishing before; None if that cannot be."""
        times = [self._held[0][0]] if self._held else []
        if (next_at := self._delayed.next_at) is not None:
            times.append(next_at)
        if self._ring:
            times.append(now)
        if not times or self._bucket is None:
            return min(times, default=None)
        return max(min(times), self._bucket.ready_at(now))

    def lend(self, name: str) -> bool:
        """Let one more request to a host run, if none that waits could start instead; :meth:`returned` ends it.

        To a host that has a rate or is in trouble nothing is lent.
        """
        if self._ring or self._bucket is not None:
            return False
        host = self._hosts.get(name) or self._new(name)
        if host.running >= host.limit or host.bucket is not None or host.apart or host.origin is not None:
            return False
        self._hosts[name] = host
        host.running += 1
        return True

    def finished(self, request: Request, now: float) -> None:
        """Learn that a request given by :meth:`next` runs no more, however it ended."""
        self.returned(request.host, now)

    def returned(self, name: str, now: float) -> None:
        """Learn that one request less to this host runs."""
        host = self._hosts[name]
        host.running -= 1
        if host.queue:
            self._list(name, host)
        elif not host.running:
            if host.full != host.noted:
                host.noted = host.full
                heappush(self._idle, (host.full, name))
            self._forget(now)

    def answered(self, name: str, started: float, ended: float) -> bool:
        """Learn that a host has answered a request; to be told, like what follows, before its end.

        Tell whether more than before may start when it has ended.
        """
        host = self._hosts.get(name) if self._heeds else None
        if host is None:
            return False
        more = False
        if host.adaptive is not None:
            more = host.adaptive.answered(started, ended, host.running)
            host.limit = int(host.adaptive.limit)
            if host.full < ended + MEMORY / 2:
                host.full = ended + MEMORY
        if host.origin is not None:
            host.origin.answered(started)
            if host.origin.healthy:
                host.origin = None
            more = True
        return more

    def space(self, name: str, apart: float, since: float = -inf) -> None:
        """Learn how many seconds apart the requests to a host shall start at least, the next counted from ``since``.

        Of several, the most holds, for as long as there are requests to the host; to be told, therefore, before each.
        """
        host = self._host(name)
        self._heeds = True
        host.apart = max(host.apart, apart)
        host.spaced = max(host.spaced, since + apart)
        host.full = max(host.full, host.spaced)

    def refused(self, name: str, refusal: Refusal) -> Hold | None:
        """Learn that a host wants to be left alone for a while: its requests wait, and then start one by one.

        Return the hold, if it is longer now, for others who ask that host; so do those that follow.
        """
        host, origin = self._in_trouble(name)
        before, running = origin.until, max(1, host.running)
        if origin.refused(refusal, running):
            self._shrink(host, running, refusal.ended)
        self._remember(name, host, max(origin.until, refusal.ended) + MEMORY)
        return origin.hold if origin.until > before else None

    def unreached(self, name: str, started: float, now: float) -> Hold | None:
        """Learn that no connection could be made to a host."""
        host, origin = self._in_trouble(name)
        before = origin.until
        origin.unreached(started, now, max(1, host.running))
        self._remember(name, host, max(origin.until, now) + MEMORY)
        return origin.hold if origin.until > before else None

    def told(self, name: str, hold: Hold) -> None:
        """Learn that others hold a host."""
        host, origin = self._in_trouble(name)
        running = max(1, host.running)
        if origin.told(hold, running):
            self._shrink(host, running, hold.began)
        self._remember(name, host, origin.until + MEMORY)

    def down(self, name: str, now: float) -> str:
        """Return why a host's requests had better not wait for it; empty if it is worth a try now."""
        host = self._hosts.get(name)
        return host.origin.down if host is not None and host.origin is not None and host.origin.until > now else ""

    def withdraw(self, name: str) -> list[Request]:
        """Take back all requests to a host that wait, delayed ones last."""
        host = self._hosts.get(name)
        taken: list[Request] = []
        if host is not None:
            taken += host.queue
            host.queue.clear()
            host.due = 0
            if host.listed:
                host.listed = False
                self._ring = deque(each for each in self._ring if each != name)
                self._held = [each for each in self._held if each[1] != name]
                heapify(self._held)
            if host.idle:
                heappush(self._idle, (host.full, name))
        taken += self._delayed.withdraw(name)
        self._count -= len(taken)
        return taken

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
            host = self._hosts[name] = self._new(name)
        return host

    def _new(self, name: str) -> _Host:
        section = self._sections.of(name)
        return _Host(self._limits if section is None else limits_of(self._limits, section))

    def _in_trouble(self, name: str) -> tuple[_Host, Origin]:
        self._heeds = True
        host = self._host(name)
        host.origin = host.origin or Origin(self._pushback)
        return host, host.origin

    @staticmethod
    def _shrink(host: _Host, running: int, now: float) -> None:
        if host.adaptive is not None:
            host.adaptive.refused(running, now)
            host.limit = int(host.adaptive.limit)

    def _remember(self, name: str, host: _Host, until: float) -> None:
        host.full = max(host.full, until)
        if host.idle:
            heappush(self._idle, (host.full, name))

    def _list(self, name: str, host: _Host) -> None:
        """Give the host its place in the ring if it has something to start and may start it."""
        if host.queue and not host.listed and host.running < host.limit:
            host.listed = True
            self._ring.append(name)

    def _may_start(self, name: str, host: _Host, now: float) -> bool:
        """Tell whether a host that has its turn may use it; if not, note when, or what, it waits for."""
        origin = host.origin
        if host.running >= host.limit or (origin is not None and host.running >= origin.limit):
            host.listed = False
            return False
        ready = host.spaced if origin is None else max(host.spaced, origin.until)
        if host.bucket is not None:
            ready = max(ready, host.bucket.ready_at(now))
        if ready > now:
            heappush(self._held, (ready, name))
        return ready <= now

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
            host.full = max(host.full, now) + host.refill
        if host.apart:
            host.spaced = now + host.apart
            host.full = max(host.full, host.spaced)
        self._list(name, host)
        return request

    def _release(self, now: float) -> None:
        """Put back what waited for its time."""
        while (request := self._delayed.pop(now)) is not None:
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
            if host is not None:
                host.noted = inf
                if host.idle and host.full <= now:
                    del self._hosts[name]
