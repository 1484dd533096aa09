"""L3: a run as a library call: records come as they finish."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from typing import Final

from fetcher.clock import SystemClock
from fetcher.columns import item_row
from fetcher.details import Item
from fetcher.errors import Error, ErrorKind, LocalError
from fetcher.events import Counters, Event, Notice, Settled
from fetcher.model import Record, Row, Stop
from fetcher.options import Options
from fetcher.run import Run
from fetcher.sources.base import Source
from fetcher.wiring import Ears, opened, prepare

__all__ = ["Item", "fetch_all", "fetch_one"]

prepare(Options())  # imported with this module, not in its caller's loop

#: How many records may wait for the caller before fetching slows down.
_AHEAD: Final = 1_000


class _Urls:
    """The caller's URLs as a source; ``line`` counts them from 1."""

    name = "argv"

    def __init__(self, urls: Iterable[str | Item] | AsyncIterable[str | Item]) -> None:
        self._urls = urls

    async def rows(self) -> AsyncGenerator[Row, None]:
        line = 0
        if isinstance(self._urls, AsyncIterable):
            async for url in self._urls:
                line += 1
                yield _row(line, url)
        else:
            for url in self._urls:
                line += 1
                yield _row(line, url)

    async def count(self) -> int | None:
        return len(self._urls) if isinstance(self._urls, Sequence) else None


def _row(line: int, asked: str | Item) -> Row:
    url = asked.url if isinstance(asked, Item) else asked
    try:
        url.encode()
    except UnicodeEncodeError:
        shown = url.encode("utf-8", "backslashreplace").decode()
        return Row("argv", line, shown, Error.of(ErrorKind.INVALID_URL, f'not text: "{shown}"'))
    return item_row("argv", line, asked) if isinstance(asked, Item) else Row("argv", line, url)


class _Records:
    """Hands records over to the caller, as fast as the caller takes them; None is the end of them."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Record | None] = asyncio.Queue(_AHEAD)
        self._closed = False

    async def write(self, batch: Sequence[Settled]) -> None:
        for settled in batch:
            if self._closed:
                raise BrokenPipeError
            await self.queue.put(settled.record)

    def close(self) -> None:
        """The caller takes no more: let go of a write that waits for it."""
        self._closed = True
        while not self.queue.empty():
            self.queue.get_nowait()


async def fetch_all(
    urls: Iterable[str | Item] | AsyncIterable[str | Item], options: Options | None = None
) -> AsyncGenerator[Record, None]:
    """Fetch every URL and yield one record for each, as they finish; the same work as ``fetcher get``.

    An ``Item`` says more of its URL: a name, header fields, a digest, mirrors.
    Bodies go below ``options.output.directory`` (``fetched`` by default; nowhere with ``save=False``), and what an
    earlier call has stored there is ``skipped``. A failed URL is a record, never an exception. Leaving the loop early
    drops what is under way; use ``contextlib.aclosing`` for that.

    Raises UsageError for options that cannot be, BusyError if the directory is in use, LocalError if it cannot be used
    or the disk fails, and what ``urls`` raises.
    """
    records = _Records()
    notices: list[str] = []

    def observe(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.message)

    clock = SystemClock()
    ears = Ears(counters=Counters(clock.monotonic()), observe=observe, writers=[records], clock=clock)
    async with opened(options or Options(), ears) as run:
        work = asyncio.create_task(_run(run, _Urls(urls), records))
        try:
            while (record := await records.queue.get()) is not None:
                yield record
            if (stop := await work) is not None and stop.local:
                raise LocalError(notices[-1])
        finally:
            records.close()
            run.stop(Stop.PIPE)
            await asyncio.gather(work, return_exceptions=True)


async def _run(run: Run, source: Source, records: _Records) -> Stop | None:
    try:
        return (await run([source])).stop
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the first; others can only follow from it
    finally:
        await records.queue.put(None)


async def fetch_one(url: str | Item, options: Options | None = None) -> Record:
    """Fetch one URL and return its record; see :func:`fetch_all`."""
    [record] = [record async for record in fetch_all([url], options)]
    return record
