"""Small bodies stored by a process of their own: what it changes, and that nothing is lost with it."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from fetcher.disk import Disk
from fetcher.sinks import small
from fetcher.sinks.small import NEVER, SmallBodies

BODIES = {f"h/{number}": b"%d" % number * number for number in range(300)}


@pytest.fixture
def disk() -> Iterator[Disk]:
    """The disk's threads."""
    with Disk() as disk:
        yield disk


@pytest.fixture
async def bodies(tmp_path: Path, disk: Disk) -> AsyncIterator[SmallBodies]:
    """Bodies that a process takes already."""
    async with SmallBodies(tmp_path, disk, after=0) as bodies:
        await bodies.delegating.wait()
        yield bodies


def children() -> list[int]:
    """Return the processes that this one has started, and has not waited for."""
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


async def store_all(bodies: SmallBodies, root: Path) -> None:
    """Store them all at once, and check what is told and what is there."""
    partials = (str(root / f"{number}.partial") for number in range(len(BODIES)))
    stores = [
        bodies.store(body, partial, path, False, None)
        for (path, body), partial in zip(BODIES.items(), partials, strict=True)
    ]
    assert await asyncio.gather(*stores) == [(sha256(body).hexdigest(), None) for body in BODIES.values()]
    check(root)


def shown(root: Path) -> list[str]:
    """Return the names in a folder."""
    return sorted(path.name for path in root.iterdir())


def check(root: Path) -> None:
    """Assert that each body is there, and nothing else."""
    assert {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()} == BODIES


async def test_stored(bodies: SmallBodies, tmp_path: Path) -> None:
    """What it stores is there when it says so, and no thread of this process has a part in it."""
    bodies.shelf.store = None  # type: ignore[method-assign, assignment]
    await store_all(bodies, tmp_path)
    assert bodies.delegating.is_set()


async def test_the_first_ones_need_no_process(tmp_path: Path, disk: Disk) -> None:
    """A process is started for the bodies behind the first so many, and ends with them."""
    before = children()
    async with SmallBodies(tmp_path, disk, after=3) as bodies:
        for number in range(2):
            await bodies.store(b"x", str(tmp_path / "partial"), str(number), False, None)
        assert children() == before
        await bodies.store(b"x", str(tmp_path / "partial"), "2", False, None)
        await bodies.delegating.wait()
        assert len(children()) == len(before) + 1
    assert children() == before
    assert shown(tmp_path) == ["0", "1", "2"]


async def test_never(tmp_path: Path, disk: Disk) -> None:
    """However many there are, the threads can be left to do it."""
    before = children()
    async with SmallBodies(tmp_path, disk, after=NEVER) as bodies:
        await store_all(bodies, tmp_path)
        assert children() == before


async def test_left_while_it_starts(tmp_path: Path, disk: Disk) -> None:
    """A run that ends before the process is there waits for it, and leaves none."""
    before = children()
    async with SmallBodies(tmp_path, disk, after=0):
        pass
    assert children() == before


async def test_large_bodies_stay(bodies: SmallBodies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long to copy is stored by a thread."""
    monkeypatch.setattr(bodies.shelf, "store", lambda *call: (str(len(call[0])), None))
    partial = str(tmp_path / "partial")
    assert await bodies.store(b"x" * 100_000, partial, "a", False, None) == ("100000", None)
    assert await bodies.store(b"x", partial, "b", False, None) == (sha256(b"x").hexdigest(), None)


async def test_failures_and_obstacles(bodies: SmallBodies, tmp_path: Path) -> None:
    """An error is that of its own body, with its number and its paths; so is what lies in the way."""
    (tmp_path / "theirs").write_bytes(b"something else")
    partial = str(tmp_path / "partial")
    lost = bodies.store(b"1", str(tmp_path / "no folder" / "partial"), "a", False, None)
    in_the_way = bodies.store(b"2", partial, "theirs", False, None)
    below = bodies.store(b"3", partial, "theirs/b", False, None)
    with pytest.raises(FileNotFoundError) as failure:
        await lost
    assert failure.value.filename == str(tmp_path / "no folder" / "partial")
    assert await in_the_way == (sha256(b"2").hexdigest(), "theirs")
    assert await below == (sha256(b"3").hexdigest(), "theirs")
    assert await bodies.store(b"4", partial, "a", False, None) == (sha256(b"4").hexdigest(), None)


async def test_killed(tmp_path: Path, disk: Disk) -> None:
    """When the process dies amid its work, threads store what it has not told of, and all that comes later."""
    before = children()
    async with SmallBodies(tmp_path, disk, after=0) as bodies:
        await bodies.delegating.wait()
        [process] = set(children()) - set(before)
        os.kill(process, signal.SIGSTOP)
        work = asyncio.create_task(store_all(bodies, tmp_path))
        await asyncio.sleep(0)
        os.kill(process, signal.SIGKILL)
        await work
        assert not bodies.delegating.is_set()
        await store_all(bodies, tmp_path)


async def test_killed_behind_the_last_step(bodies: SmallBodies, tmp_path: Path) -> None:
    """A body that is in its place already, though nobody has heard of it, is not in its own way."""
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "7").write_bytes(BODIES["h/7"])
    await store_all(bodies, tmp_path)


@pytest.mark.parametrize("interpreter", ["/nowhere/python", "/bin/false"])
async def test_not_started(interpreter: str, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process can be had, threads do it all."""
    monkeypatch.setattr(sys, "executable", interpreter)
    async with SmallBodies(tmp_path, disk, after=0) as bodies:
        await store_all(bodies, tmp_path)
        assert not bodies.delegating.is_set()


async def test_cancelled(bodies: SmallBodies, tmp_path: Path) -> None:
    """A cancellation goes on only when the body is in its place: nobody tidies up before."""
    task = asyncio.ensure_future(
        asyncio.wait_for(bodies.store(b"x", str(tmp_path / "partial"), "a", False, None), None)
    )
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "a").read_bytes() == b"x"


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\1\0half a block"])
async def test_the_run_is_killed(sent: bytes, tmp_path: Path, disk: Disk) -> None:
    """The process ends with the run, whatever it has heard of it, and signals for the run are not for it."""
    end, other = socket.socketpair()
    with end:
        with other:
            process = await disk.run(small._start, other, tmp_path)
        await asyncio.get_running_loop().run_in_executor(None, end.recv, 1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        end.sendall(sent)
    assert await disk.run(process.wait, 20) == 0
