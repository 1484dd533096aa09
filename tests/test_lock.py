"""The lock of a directory: one holder, named to whoever comes second, who may wait."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fetcher.errors import BusyError
from fetcher.lock import Lock, Patience
from tests.contracts.source_contract import open_descriptors


class Clock:
    """Hours pass in no time; ``slept`` is how long, and ``then`` is what happens when it is so long."""

    def __init__(self) -> None:
        self.slept = 0.0
        self.then: tuple[float, Lock] | None = None

    def now(self) -> float:
        return self.slept

    def monotonic(self) -> float:
        return self.slept

    def random(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept += seconds
        if self.then is not None and self.slept >= self.then[0]:
            self.then[1].release()
        await asyncio.sleep(0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory that a run has made."""
    (tmp_path / ".fetcher").mkdir()
    return tmp_path


@contextmanager
def released(*locks: Lock) -> Iterator[None]:
    """Release them at the end."""
    try:
        yield
    finally:
        for lock in locks:
            lock.release()


async def test_waiting(root: Path) -> None:
    """Who waits gets the lock soon after it is free, and says once what it waits for; its own name stands there then."""
    clock, told = Clock(), list[str]()
    first, second = Lock(root), Lock(root)
    with released(first, second):
        await first.take(None)
        clock.then = (100.0, first)
        await second.take(Patience(3600.0, clock, told.append))
        assert 100 <= clock.slept < 101
        (said,) = told
        assert said.startswith(f"another fetcher (pid {os.getpid()}, since ")
        assert said.endswith(f") is using {root}; waiting up to 3600 s")
        assert (root / ".fetcher/lock").read_text() == f"{os.getpid()}\n"
        with pytest.raises(BusyError):
            await first.take(None)


@pytest.mark.parametrize("seconds", [0.0, 0.05, 60.0])
async def test_giving_up(root: Path, seconds: float) -> None:
    """Who waits in vain gives up after that time and no later, and leaves nothing open."""
    clock, told = Clock(), list[str]()
    first, second = Lock(root), Lock(root)
    before = open_descriptors()
    with released(first, second):
        await first.take(None)
        with pytest.raises(BusyError, match=r"^another fetcher .* is using [^;]*$"):
            await second.take(Patience(seconds, clock, told.append))
        assert clock.slept == pytest.approx(seconds)
        assert len(told) == (seconds > 0)
    assert open_descriptors() <= before


async def test_nothing_to_wait_for(root: Path) -> None:
    """A lock that is free is taken at once, whatever a dead holder has left in it."""
    (root / ".fetcher/lock").write_text("999999\nand more")
    clock = Clock()
    lock = Lock(root)
    with released(lock):
        await lock.take(Patience(60.0, clock, lambda _: pytest.fail("waits")))
        assert clock.slept == 0
        assert (root / ".fetcher/lock").read_text() == f"{os.getpid()}\n"
