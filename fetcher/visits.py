"""L3: requests to hosts whose turn it is not: where redirects lead, and, from workers, mirrors."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from itertools import islice

from fetcher.chunks import Pace
from fetcher.clock import Clock
from fetcher.limits import TokenBucket
from fetcher.model import Request


class _Door:
    __slots__ = ("bucket", "guests", "slots")

    def __init__(self, pace: Pace) -> None:
        self.slots: AbstractAsyncContextManager[None] = nullcontext()
        if pace.per_host is not None:
            self.slots = asyncio.Semaphore(pace.per_host)
        self.bucket = None if pace.host_rate is None else TokenBucket(pace.host_rate)
        self.guests = 0

    def fresh(self, now: float) -> bool:
        """Tell whether a new one would do as well."""
        return not self.guests and (self.bucket is None or self.bucket.full_at <= now)


class Visits:
    """Keeps each of these hosts to its ``pace_of``, whoever visits it.

    The scheduler counts a request for the host that it was started for, so requests to others are counted here, apart
    from those of the list. If ``shared``, other schedulers have these hosts: mirrors are visits, too.
    """

    def __init__(self, pace_of: Callable[[str], Pace], clock: Clock, *, shared: bool) -> None:
        self._pace_of = pace_of
        self._clock = clock
        self.shared = shared
        self._doors: dict[str, _Door] = {}

    def __len__(self) -> int:
        """How many hosts it remembers."""
        return len(self._doors)

    def are(self, request: Request, host: str) -> bool:
        """Tell whether asking ``host`` for a request is a visit."""
        return host != ((request.primary or request) if self.shared else request).host

    @asynccontextmanager
    async def to(self, host: str) -> AsyncIterator[None]:
        """Wait until there may be one visit more, and make it. A visit that waits for another never has one itself."""
        door = self._doors.get(host)
        if door is None:
            door = self._doors[host] = _Door(self._pace_of(host))
        door.guests += 1
        try:
            async with door.slots:
                await self._wait(door)
                yield
        finally:
            door.guests -= 1
            self._forget()

    async def _wait(self, door: _Door) -> None:
        """Wait for the host's rate."""
        if door.bucket is not None:
            now = self._clock.monotonic()
            ready = door.bucket.ready_at(now)
            door.bucket.take(now)
            await self._clock.sleep(ready - now)

    def _forget(self) -> None:
        """Look at two hosts, and forget those that nobody visits or knows of: more than come, so all have their turn."""
        now = self._clock.monotonic()
        for host in list(islice(self._doors, 2)):
            door = self._doors.pop(host)
            if not door.fresh(now):
                self._doors[host] = door
