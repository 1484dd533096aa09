r"""L3: a chunk of requests fetched on some machine of a cluster, once, and told about in a file.

claimed --> fetching --nothing more can be started, or time is up--> leaving --> ended: the rest is handed back
                 \--the run finishes, or is gone--> finishing --> ended: all that was begun is settled
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import count
from socket import gethostname
from typing import Final, Protocol

from fetcher import __version__
from fetcher.clock import Clock, DistantClock
from fetcher.disk import Disk
from fetcher.engines.base import Engine
from fetcher.engines.channel import Abort, Cease, Ended, Finish, Held, Learned, Leaving, Left, Order
from fetcher.engines.spool import Inbox, Outbox, Space
from fetcher.engines.worker import Desk, beat, pulse
from fetcher.errors import LocalError, words_of
from fetcher.events import Counters
from fetcher.history import History
from fetcher.model import Request, Stop
from fetcher.naming import PARTS, Told
from fetcher.options import Options
from fetcher.robots import Ruling
from fetcher.sinks.base import Name

#: What a chunk calls the place in which it tells, below its own.
TOLD: Final = "told"

#: Seconds after which a chunk starts nothing more, and that it waits for a request that may start.
_TIME: Final = 30.0
_QUIET: Final = 1.0
#: Seconds between two looks at what may have changed here, and how many of them go by until one at the run's orders.
_TICK: Final = 0.05
_TICKS: Final = 10


@dataclass(frozen=True, slots=True, repr=False)
class Chunk:
    """What a machine needs to know of a chunk. Nobody who prints it learns what is in it: header fields can be secret.

    ``name`` is that of its own place in the ``space`` of all machines, which is not there before it is fetched. What the
    run has to say to all chunks stands in ``orders``, new to this one from ``begin`` on. ``abroad`` has limits for hosts
    of others. ``epoch`` is for a :class:`DistantClock`.
    """

    name: str
    space: Space
    orders: str
    begin: int
    options: Options
    abroad: Options
    requests: tuple[Order, ...]
    holds: tuple[Held, ...]
    rulings: tuple[Ruling, ...]
    epoch: float
    version: str = __version__

    def __repr__(self) -> str:
        return f"Chunk({self.name})"

    @property
    def told(self) -> str:
        """Where it tells how it goes."""
        return f"{self.name}/{TOLD}"

    @property
    def bodies(self) -> str:
        """Where it lays bodies aside, as a path relative to the run's output."""
        return f"{PARTS}/{self.name}"


class Aside:
    """Calls each body of a chunk by a number, below a path relative to the sink's; ``lay`` hears what the run can name it by."""

    needs_body: Final = False

    def __init__(self, directory: str, lay: Callable[[Request, Told], None]) -> None:
        self._directory = directory
        self._lay = lay
        self._numbers = count()

    async def reserve(
        self,
        request: Request,
        told: Told,
        digest: str | None,  # noqa: ARG002  the signature is a NameGiver's
        obstacle: str | None = None,  # noqa: ARG002
    ) -> Name:
        """Return the next one."""
        self._lay(request, told)
        return Name(f"{self._directory}/{next(self._numbers)}", ours=False)


class Leaver(Engine, Protocol):
    """An engine that can leave what it has not begun to others."""

    def know(self, rulings: Iterable[Ruling]) -> None:
        """Learn what others have heard of origins' rules."""
        ...

    @property
    def rulings(self) -> list[Ruling]:
        """What others had better know of origins' rules."""
        ...

    def leave(self) -> None:
        """Start nothing more."""
        ...

    async def left(self) -> list[History]:
        """Wait for what is under way, and return what is to be tried again."""
        ...


#: Opens a chunk's engine.
Build = Callable[[Chunk, Desk, Counters, Clock], AbstractAsyncContextManager[Leaver]]


def fetch_chunk(chunk: Chunk, build: Build, gone: Callable[[], bool]) -> None:
    """Fetch a chunk, unless somebody has begun to before; blocks until it ends, or at once drops all if ``gone()``.

    Raises LocalError if this machine cannot. Of two that begin at once one is the first: its place is made once.
    """
    here = gethostname()
    if chunk.version != __version__:
        raise LocalError(f"{here} has fetcher {__version__}, not {chunk.version}")
    try:
        first = chunk.space.claim(chunk.name)
    except FileNotFoundError as error:
        raise LocalError(f"{here} cannot find {chunk.space}: all machines need the same directory") from error
    except OSError as error:
        raise LocalError(f"{here} cannot use {chunk.space}: {words_of(error, str(error))}") from error
    if not first:
        return
    asyncio.run(_Work(chunk, build, gone).run())


class _Work:
    """One chunk at work."""

    def __init__(self, chunk: Chunk, build: Build, gone: Callable[[], bool]) -> None:
        self._chunk = chunk
        self._build = build
        self._gone = gone
        self._clock = DistantClock(chunk.epoch)
        self._counters = Counters(self._clock.monotonic())
        self._orders = Inbox(chunk.space, chunk.orders, chunk.begin)
        self._finish = asyncio.Event()
        self._seconds = 0.0
        self._abort = asyncio.Event()

    async def run(self) -> None:
        """Fetch, and tell."""
        with Disk() as disk:
            outbox = Outbox(self._chunk.space, self._chunk.told, disk)
            desk = Desk(outbox, self._counters, needs_body=False)
            try:
                async with (
                    self._build(self._chunk, desk, self._counters, self._clock) as engine,
                    asyncio.TaskGroup() as tasks,
                ):
                    engine.know(self._chunk.rulings)
                    for host, hold in self._chunk.holds:
                        engine.hold(host, hold)
                    for request, past in self._chunk.requests:
                        engine.add(request, past)
                    work = (engine.run(desk), outbox.run(self._clock), self._listen(engine, disk))
                    helpers = [tasks.create_task(each) for each in (*work, pulse(outbox, self._counters, self._clock))]
                    await self._end(engine, outbox)
                    for helper in helpers:
                        helper.cancel()
            except OSError as error:
                desk.give_up(Stop.CLUSTER, f"{gethostname()} failed: {words_of(error, str(error))}")
            outbox.send(beat(self._counters))
            outbox.send(Ended())
            await outbox.flush()

    async def _end(self, engine: Leaver, outbox: Outbox) -> None:
        """Wait until nothing more can be started, or the run says so, and end."""
        finish = asyncio.create_task(self._finish.wait())
        leaving = asyncio.create_task(self._leave(engine, outbox))
        try:
            await asyncio.wait((finish, leaving), return_when=asyncio.FIRST_COMPLETED)
            if self._finish.is_set():
                await engine.finish(self._seconds, self._abort)
        finally:
            finish.cancel()
            leaving.cancel()
            await asyncio.wait((finish, leaving))

    async def _leave(self, engine: Leaver, outbox: Outbox) -> None:
        """Leave when all that waits here waits for its time, so that others use the slots, and hand it back."""
        clock, counters = self._clock, self._counters
        busy = began = clock.monotonic()
        while True:
            await clock.sleep(_TICK)
            now = clock.monotonic()
            busy = now if counters.active else busy
            if counters.waiting <= counters.retrying or now - busy > _QUIET or now - began > _TIME:
                break
        engine.leave()
        outbox.send(Leaving())
        for history in await engine.left():
            outbox.send(Left(history))
        for ruling in engine.rulings:
            if ruling not in self._chunk.rulings:
                outbox.send(Learned(ruling))

    async def _listen(self, engine: Leaver, disk: Disk) -> None:
        """Do what the run says; without one, drop everything."""
        while True:
            for tick in range(max(_TICKS, int(2 * self._chunk.space.pause / _TICK))):
                gone = self._gone()
                if gone or not tick:
                    for message in await disk.run(self._orders.read):
                        match message:
                            case Held(host, hold):
                                engine.hold(host, hold)
                            case Cease(reason):
                                engine.stop(reason)
                            case Finish(seconds):
                                self._seconds = seconds
                                self._finish.set()
                            case Abort():
                                self._abort.set()
                if gone:
                    engine.stop("the run is gone")
                    self._abort.set()
                    self._finish.set()
                await self._clock.sleep(_TICK)
