"""``--concurrency auto`` at a real server that gets slower with its load, and refuses when it is too much."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import pytest

from tests.command import Command


@dataclass(slots=True)
class Loaded:
    """Answers up to ``knee`` requests at once in ``base`` seconds, more of them slower, and refuses from ``refuses`` on.

    ``levels`` are how many it was answering as each request came.
    """

    status: int
    knee: int = 8
    refuses: int = 12
    base: float = 0.03
    active: int = 0
    refused: int = 0
    levels: list[int] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 %d -\r\nContent-Length: 0\r\n\r\n" % await self._answer())
        except (EOFError, ConnectionError):
            writer.close()

    async def _answer(self) -> int:
        if self.active + 1 >= self.refuses:
            self.refused += 1
            return self.status
        self.active += 1
        self.levels.append(self.active)
        await asyncio.sleep(self.base * max(1.0, self.active / self.knee))
        self.active -= 1
        return 200


@asynccontextmanager
async def serving(loaded: Loaded) -> AsyncIterator[str]:
    """Serve on a free port and yield its base."""
    async with await asyncio.start_server(loaded, "127.0.0.1", 0, backlog=256) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 503])
async def test_it_settles_near_the_knee(status: int, run_fetcher: Command, tmp_path: Path) -> None:
    """Every URL is fetched, few are refused, and in the second half there are about as many at once as it can do."""
    loaded = Loaded(status)
    async with serving(loaded) as base:
        (tmp_path / "urls.txt").write_text("".join(f"{base}/{number}\n" for number in range(1_000)))
        words = ("get", "urls.txt", "--no-save", "-c", "auto", "--no-json", "-q")
        ran = await asyncio.to_thread(run_fetcher, *words)
    assert (ran.code, ran.stderr) == (0, "")
    assert len(loaded.levels) == 1_000
    assert loaded.refused <= 60
    assert 5.0 <= fmean(loaded.levels[500:]) <= 11.0
