"""Every engine against the contract of engines, each with the real transport and real files."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing import resource_tracker

import pytest

from fetcher import wiring
from fetcher.disk import Disk
from fetcher.engines.base import Engine
from fetcher.engines.inline import Inline
from fetcher.lanes import worker_count
from fetcher.naming import Template
from fetcher.options import DEFAULT_NAME, Options
from fetcher.sinks.files import FilesSink, Naming
from fetcher.sinks.partial import Partials
from fetcher.wiring import Ears
from tests.contracts.engine_contract import EngineContract, Opened


def naming() -> Naming:
    """Return what names the bodies of a run."""
    return Naming(Template.parse(DEFAULT_NAME), "2026-11-21")


@asynccontextmanager
async def inline(options: Options, ears: Ears) -> AsyncIterator[Engine]:
    """Open the engine that fetches in this process."""
    async with AsyncExitStack() as stack:
        partials = Partials(options.output.directory / ".fetcher/partial")
        sink = FilesSink(options.output.directory, partials, naming(), stack.enter_context(Disk()))
        fetch = await stack.enter_async_context(wiring.fetching(options, sink, ears.clock))
        yield Inline(options, fetch, ears.clock, ears.counters, ears.observe)


@asynccontextmanager
async def processes(options: Options, ears: Ears) -> AsyncIterator[Engine]:
    """Open the engine that fetches in two others."""
    yield wiring._processes(options, worker_count(options, 2), naming(), ears)


class TestInline(EngineContract):
    @pytest.fixture
    def opened(self) -> Opened:
        return inline


class TestProcesses(EngineContract):
    @pytest.fixture
    def opened(self) -> Iterator[Opened]:
        yield processes
        # Python's own, which lives as long as the process that has had others.
        resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]
