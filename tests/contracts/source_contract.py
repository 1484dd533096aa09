"""What every source of rows must keep; a test class per source inherits it and gives ``make``."""

import asyncio
import os
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from fetcher.model import Row
from fetcher.sources.base import Source

Make = Callable[[Sequence[str]], Source]


def open_descriptors() -> set[int]:
    """Return the descriptors this process has open."""
    found = set()
    for path in Path("/dev/fd").iterdir():
        descriptor = int(path.name)
        with suppress(OSError):  # the one that listed the directory
            os.fstat(descriptor)
            found.add(descriptor)
    return found


async def collect(source: Source) -> list[Row]:
    """Return all rows of a source."""
    async with aclosing(source.rows()) as rows:
        return [row async for row in rows]


class SourceContract:
    #: The line of the first row.
    first = 1

    @pytest.fixture
    def make(self) -> Make:
        """Return a function that makes a source of the given URLs."""
        raise NotImplementedError

    async def test_order_and_lines(self, make: Make) -> None:
        """Rows come in order, as written, with their source and line, and without errors."""
        urls = [f"http://h{number % 7}/{number}" for number in range(2000)]
        source = make(urls)
        rows = await collect(source)
        assert [row.text for row in rows] == urls
        assert [row.line for row in rows] == list(range(self.first, self.first + 2000))
        assert {(row.source, row.error) for row in rows} == {(source.name, None)}

    async def test_empty(self, make: Make) -> None:
        """A source of nothing ends at once."""
        assert await collect(make([])) == []

    @pytest.mark.parametrize("length", [0, 1, 5000])
    async def test_count(self, make: Make, length: int) -> None:
        """The count, where there is one, is the number of rows, and counting does not use them up."""
        source = make([f"http://h/{number}" for number in range(length)])
        count = await source.count()
        assert len(await collect(source)) == length
        assert count in (None, length)

    async def test_lazy(self, make: Make) -> None:
        """Reading twenty megabytes of list holds a small part of them at a time."""
        source = make([f"http://h/{number:0500}" for number in range(40_000)])
        tracemalloc.start()
        try:
            async with aclosing(source.rows()) as rows:
                number = 0
                async for _row in rows:
                    number += 1
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert number == 40_000
        assert peak < 4_000_000

    async def test_early_close(self, make: Make) -> None:
        """A consumer that stops after one row leaves nothing open."""
        source = make([f"http://h/{number}" for number in range(50_000)])
        before = open_descriptors()
        async with aclosing(source.rows()) as rows:
            assert (await anext(rows)).line == self.first
        assert open_descriptors() <= before

    async def test_cancel(self, make: Make) -> None:
        """A consumer cancelled between rows ends at once and leaves nothing open."""
        source = make(["http://h/1", "http://h/2"])
        before = open_descriptors()
        begun = asyncio.Event()

        async def consume() -> None:
            async with aclosing(source.rows()) as rows:
                async for _row in rows:
                    begun.set()
                    await asyncio.Event().wait()

        task = asyncio.create_task(consume())
        await begun.wait()
        task.cancel()
        await asyncio.wait({task}, timeout=1)
        assert task.cancelled()
        assert open_descriptors() <= before

    async def test_cancel_anywhere(self, make: Make) -> None:
        """A reader cancelled at any step of its work ends and leaves nothing open."""
        for steps in range(40):
            source = make([f"http://h/{number}" for number in range(300)])
            before = open_descriptors()
            task = asyncio.create_task(collect(source))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task}, timeout=1)
            assert task.done()
            assert open_descriptors() <= before
