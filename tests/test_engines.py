"""Every engine against the contract of engines, each with the real transport and real files."""

import pickle
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

from fetcher import wiring
from fetcher.details import Details
from fetcher.disk import Disk
from fetcher.engines.base import Engine, Past
from fetcher.engines.inline import Inline
from fetcher.lanes import worker_count
from fetcher.model import Request
from fetcher.naming import Template
from fetcher.options import DEFAULT_NAME, Options
from fetcher.sinks.files import FilesSink, Naming
from fetcher.sinks.partial import Partials
from fetcher.wiring import Ears
from tests.contracts.engine_contract import EngineContract, Opened
from tests.fakes import until
from tests.server import Scope


def naming() -> Naming:
    """Return what names the bodies of a run."""
    return Naming(Template.parse(DEFAULT_NAME), "2026-11-21")


@asynccontextmanager
async def inline(options: Options, ears: Ears) -> AsyncIterator[Engine]:
    """Open the engine that fetches in this process."""
    async with AsyncExitStack() as stack:
        partials = Partials(options.output.directory / ".fetcher/partial")
        sink = FilesSink(options.output.directory, partials, naming(), stack.enter_context(Disk()))
        yield await stack.enter_async_context(wiring._inline(options, sink, ears))


@asynccontextmanager
async def processes(options: Options, ears: Ears) -> AsyncIterator[Engine]:
    """Open the engine that fetches in two others."""
    yield wiring._processes(options, worker_count(options, 2), naming(), ears)


class TestInline(EngineContract):
    @pytest.fixture
    def opened(self) -> Opened:
        return inline

    async def test_left(self, opened: Opened, server: Scope, tmp_path: Path) -> None:
        """Left to another one, a request goes on where it was: at the mirror that it had got to."""
        url, mirror = server.url("gone", status=404), server.origin(1).url("there", fail_times=1)
        request = Request(0, url, url, server.host, "list", 1, details=Details(name="x", mirrors=(mirror,)))
        async with self.shop(opened, tmp_path / "one") as shop:
            assert isinstance(shop.engine, Inline)
            shop.engine.add(request)
            await until(lambda: shop.counters.retries == 2, 20.0)
            shop.engine.leave()
            (history,) = await shop.engine.left()
            shop.counters.waiting = shop.counters.retrying = 0
        assert shop.customer.settled == []
        async with self.shop(opened, tmp_path / "other") as shop:
            shop.engine.add(request, Past(history=pickle.loads(pickle.dumps(history))))
            (record,) = (await shop.settled(1)).values()
        assert (record.url, record.path, record.attempts) == (url, "x", 3)
        assert record.retried == ("http.404", "http.503")
        assert [len(server.requests(path)) for path in ("gone", "there")] == [1, 2]


class TestProcesses(EngineContract):
    @pytest.fixture
    def opened(self) -> Iterator[Opened]:
        yield processes
        # Python's own, which lives as long as the process that has had others.
        resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]
