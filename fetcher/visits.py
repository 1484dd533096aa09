"""L3: requests to hosts that are others' to ask: where redirects and mirrors lead from a chunk of a cluster."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fetcher.chunks import Pace
from fetcher.clock import Clock
from fetcher.limits import TokenBucket


class _Door:
    __slots__ = ("bucket", "slots")

    def __init__(self, pace: Pace) -> None:
        self.slots = None if pace.per_host is None else asyncio.Semaphore(pace.per_host)
        self.bucket = None if pace.host_rate is None else TokenBucket(pace.host_rate)


class Visits:
    """Keeps each of these hosts to its ``pace_of``, whoever visits it; remembers all of them, as long as a chunk lasts."""

    def __init__(self, pace_of: Callable[[str], Pace], clock: Clock) -> None:
        self._pace_of = pace_of
        self._clock = clock
        self._doors: dict[str, _Door] = {}

    @asynccontextmanager
    async def to(self, host: str) -> AsyncIterator[None]:
        """Wait until there may be one visit more, and make it. A visit that waits for another never has one itself."""
        door = self._doors.get(host)
        if door is None:
            door = self._doors[host] = _Door(self._pace_of(host))
        if door.slots is None:
            await self._wait(door)
            yield
            return
        async with door.slots:
            await self._wait(door)
            yield

    async def _wait(self, door: _Door) -> None:
        """Wait for the host's rate."""
        if door.bucket is not None:
            now = self._clock.monotonic()
            ready = door.bucket.ready_at(now)
            door.bucket.take(now)
            await self._clock.sleep(ready - now)
