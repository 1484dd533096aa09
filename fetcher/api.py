"""L3: a run as a library call: records come as they finish."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing
from typing import Final

from fetcher.clock import SystemClock
from fetcher.errors import Error, ErrorKind
from fetcher.events import Counters, Settled
from fetcher.model import Record, Row
from fetcher.options import Options
from fetcher.sources.base import Source
from fetcher.wiring import Ears, opened

#: How many records may wait for the caller before fetching slows down.
_AHEAD: Final = 1_000


class _Urls:
    """The caller's URLs as a source; ``line`` counts them from 1."""

    name = "argv"

    def __init__(self, urls: Iterable[str] | AsyncIterable[str]) -> None:
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


def _row(line: int, url: str) -> Row:
    try:
        url.encode()
    except UnicodeEncodeError:
        shown = url.encode("utf-8", "backslashreplace").decode()
        return Row("argv", line, shown, Error.of(ErrorKind.INVALID_URL, f'not text: "{shown}"'))
    return Row("argv", line, url)


class _Queue:
    """Hands records over to the caller, as fast as the caller takes them."""

    def __init__(self) -> None:
        self.records: asyncio.Queue[Record | None] = asyncio.Queue(_AHEAD)

    async def write(self, batch: Sequence[Settled]) -> None:
        for settled in batch:
            await self.records.put(settled.record)


async def fetch_all(
    urls: Iterable[str] | AsyncIterable[str], options: Options | None = None
) -> AsyncGenerator[Record, None]:
    """Fetch every URL and yield one record for each, as they finish; the same work as ``fetcher get``.

    Bodies go below ``options.output.directory`` (``fetched`` by default; nowhere with ``save=False``), and what an
    earlier call has stored there is ``skipped``. A failed URL is a record, never an exception. Leaving the loop early
    drops what is under way; use ``contextlib.aclosing`` for that.

    Raises UsageError for options that cannot be, BusyError if the directory is in use, LocalError if it cannot be used
    or the disk fails.
    """
    async for record in _records(_Urls(urls), options or Options()):
        yield record


async def fetch_one(url: str, options: Options | None = None) -> Record:
    """Fetch one URL and return its record; see :func:`fetch_all`."""
    async with aclosing(fetch_all([url], options)) as records:
        return await anext(records)


async def _records(source: Source, options: Options) -> AsyncGenerator[Record, None]:
    clock = SystemClock()
    queue = _Queue()
    ears = Ears(counters=Counters(clock.monotonic()), writers=[queue], clock=clock)
    async with opened(options, ears) as run:

        async def work() -> None:
            try:
                await run([source])
            finally:
                await queue.records.put(None)

        task = asyncio.create_task(work())
        try:
            while (record := await queue.records.get()) is not None:
                yield record
            await task
        finally:
            task.cancel()
            await asyncio.wait((task,))
