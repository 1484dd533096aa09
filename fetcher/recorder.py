"""L3: settled records on their way to everyone who writes them, in batches."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Self

from fetcher.errors import LocalError
from fetcher.events import RecordWriter, Settled
from fetcher.model import Stop

#: Writers get a batch after this many seconds, or as soon as there are this many records.
_SECONDS: Final = 0.05
_RECORDS: Final = 256
#: With this many records unwritten, putting another one waits.
_UNWRITTEN: Final = 4 * _RECORDS
#: How long a writer may take for a batch once the run is in a hurry, in seconds.
_HURRY: Final = 2.0


class Recorder:
    """Hands every record to every writer, in order, the first writer first; an async context manager.

    A slow writer slows down :meth:`put`. A writer that fails is left out from then on and reported to ``failed``;
    the others go on. Leaving the context waits until all is written. ``written`` hears of each batch after that.
    A bug in a writer ends the recorder; it is raised by :meth:`put` and on leaving.
    """

    def __init__(
        self,
        writers: Sequence[RecordWriter],
        written: Callable[[Sequence[Settled]], None],
        failed: Callable[[Stop, str], None],
    ) -> None:
        self._writers = list(writers)
        self._written = written
        self._failed = failed
        self._waiting: list[Settled] = []
        self._some = asyncio.Event()
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._hurried = False
        self._closing = False
        self._limit: asyncio.Timeout | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="recorder")
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closing = True
        self._some.set()
        self._full.set()
        if self._task is not None:
            await self._task

    async def put(self, *settled: Settled) -> None:
        """Take records, at once and all of them, then wait while too many are unwritten."""
        self._waiting += settled
        self._some.set()
        if len(self._waiting) >= _RECORDS:
            self._full.set()
        while len(self._waiting) >= _UNWRITTEN and not self._hurried:
            if self._task is not None and self._task.done():
                self._task.result()
            self._room.clear()
            await self._room.wait()

    def hurry(self) -> None:
        """From now on wait for nobody long: the run is ending. A writer that is stuck is left out."""
        self._hurried = True
        self._room.set()
        self._full.set()
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + _HURRY)

    async def _run(self) -> None:
        try:
            await self._write_batches()
        finally:
            self._room.set()

    async def _write_batches(self) -> None:
        while self._waiting or not self._closing:
            await self._some.wait()
            if not (self._closing or self._hurried):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SECONDS):
                        await self._full.wait()
            batch, self._waiting = self._waiting, []
            self._room.set()
            if not self._closing:
                self._some.clear()
                self._full.clear()
            if batch:
                await self._write(batch)

    async def _write(self, batch: Sequence[Settled]) -> None:
        for writer in tuple(self._writers):
            try:
                await self._write_within_limit(writer, batch)
            except LocalError as error:
                self._writers.remove(writer)
                self._failed(Stop.DISK, error.message)
            except BrokenPipeError:
                self._writers.remove(writer)
                self._failed(Stop.PIPE, "")
            except TimeoutError:
                self._writers.remove(writer)
        self._written(batch)

    async def _write_within_limit(self, writer: RecordWriter, batch: Sequence[Settled]) -> None:
        try:
            async with asyncio.timeout(_HURRY if self._hurried else None) as self._limit:
                await writer.write(batch)
        finally:
            self._limit = None
