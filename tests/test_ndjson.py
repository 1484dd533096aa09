"""Lines of JSON reach whoever reads them whole, at the reader's pace, and nobody else waits for it."""

import asyncio
import fcntl
import json
import os
import pty
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from fetcher.errors import LocalError
from fetcher.events import Settled
from fetcher.model import Outcome, Record, to_line
from fetcher.views.ndjson import NdjsonWriter
from tests.fakes import until

PIPE_BUF: Final = 4096


def settled(number: int, size: int = 0) -> Settled:
    """Return a settled record whose line has at least so many bytes."""
    record = Record(url=f"http://h/{'x' * size}", source="list", line=number, outcome=Outcome.FETCHED)
    return Settled(record, to_line(record), None)


def batch(count: int, size: int = 0) -> list[Settled]:
    """Return so many of them."""
    return [settled(number, size) for number in range(count)]


def text(*batches: list[Settled]) -> bytes:
    """Return what the reader shall get."""
    return b"".join(each.line for several in batches for each in several)


class Ends:
    """A pipe or socket: NDJSON goes in at ``writing``, the test takes it out at ``reading``."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading = reading
        self.writing = writing
        self._open = {reading, writing}

    def close(self, *ends: int) -> None:
        """Close the given ends, or both."""
        for end in ends or tuple(self._open):
            self._open.discard(end)
            os.close(end)

    def drain(self) -> bytes:
        """Read until the writing end is closed."""
        pieces = []
        while piece := os.read(self.reading, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)

    def fill(self) -> int:
        """Fill the pipe to the last byte, and return how many that took."""
        blocking = os.get_blocking(self.writing)
        os.set_blocking(self.writing, False)
        filled = 0
        for size in (65_536, 1):
            with suppress(BlockingIOError):
                while True:
                    filled += os.write(self.writing, b"\0" * size)
        os.set_blocking(self.writing, blocking)
        return filled


@pytest.fixture
def pipe() -> Iterator[Ends]:
    """A pipe."""
    ends = Ends(*os.pipe())
    yield ends
    ends.close()


@pytest.fixture(params=["pipe", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """A pipe, and a pair of sockets."""
    found = Ends(*os.pipe()) if request.param == "pipe" else Ends(*(end.detach() for end in socket.socketpair()))
    yield found
    found.close()


async def test_slow_reader(ends: Ends) -> None:
    """While a full pipe waits for its reader, the loop goes on; when the reader comes, it gets every byte in order."""
    several = batch(3_000)
    filled = ends.fill()
    writing = asyncio.create_task(NdjsonWriter(ends.writing).write(several))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not writing.done()
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(ends.drain()))
    reader.start()
    await asyncio.wait_for(writing, 10)
    ends.close(ends.writing)
    await asyncio.to_thread(reader.join)
    assert got[0][filled:] == text(several)


async def test_waiting_takes_no_turns(pipe: Ends) -> None:
    """Waiting for a reader is no polling: the loop sleeps meanwhile."""
    loop = asyncio.get_running_loop()
    pipe.fill()
    writing = asyncio.create_task(NdjsonWriter(pipe.writing).write(batch(1)))
    await asyncio.sleep(0.05)
    selects = 0
    selector = loop._selector  # type: ignore[attr-defined]
    select = selector.select

    def counted(timeout: float | None) -> object:
        nonlocal selects
        selects += 1
        return select(timeout)

    selector.select = counted
    await asyncio.sleep(0.1)
    selector.select = select
    assert selects < 5
    writing.cancel()
    await asyncio.wait({writing})


@pytest.mark.parametrize("size", [0, PIPE_BUF - 1, PIPE_BUF, 3 * PIPE_BUF, 300_000])
async def test_long_lines(pipe: Ends, size: int) -> None:
    """Lines longer than a pipe takes at once, or than it holds, arrive whole."""
    several = [*batch(2, size), settled(9)]
    reading = asyncio.create_task(asyncio.to_thread(pipe.drain))
    await NdjsonWriter(pipe.writing).write(several)
    pipe.close(pipe.writing)
    assert await reading == text(several)


async def test_whole_lines_at_any_moment(pipe: Ends) -> None:
    """What is in the pipe while the writer waits for its reader, or is dropped there, is whole lines."""
    fcntl.fcntl(pipe.writing, fcntl.F_SETPIPE_SZ, 16 * PIPE_BUF)
    writing = asyncio.create_task(NdjsonWriter(pipe.writing).write(batch(1_000)))
    await asyncio.sleep(0.05)
    assert not writing.done()
    writing.cancel()
    await asyncio.wait({writing})
    pipe.close(pipe.writing)
    got = pipe.drain()
    assert len(got) > 10 * PIPE_BUF
    assert got.endswith(b"\n")
    assert [json.loads(line)["line"] for line in got.splitlines()] == list(range(got.count(b"\n")))


async def test_reader_gone(ends: Ends) -> None:
    """Without a reader, BrokenPipeError: before the first byte."""
    ends.close(ends.reading)
    with pytest.raises(BrokenPipeError):
        await NdjsonWriter(ends.writing).write(batch(1))


async def test_reader_goes_while_waited_for(ends: Ends) -> None:
    """And when it goes while the writer waits for it."""
    ends.fill()
    writing = asyncio.create_task(NdjsonWriter(ends.writing).write(batch(1)))
    await asyncio.sleep(0.01)
    assert not writing.done()
    ends.close(ends.reading)
    with pytest.raises(BrokenPipeError):
        await asyncio.wait_for(writing, 10)


async def test_reader_resets(pipe: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket whose reader leaves bytes unread is reset: the same, in another word."""

    def write(descriptor: int, data: bytes) -> int:
        raise ConnectionResetError

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(BrokenPipeError):
        await NdjsonWriter(pipe.writing).write(batch(1))


async def test_cancelled_while_waiting(pipe: Ends) -> None:
    """A writer cancelled while it waits leaves the descriptor to others, and the loop free of it."""
    filled = pipe.fill()
    writing = asyncio.create_task(NdjsonWriter(pipe.writing).write(batch(1)))
    await asyncio.sleep(0.01)
    writing.cancel()
    await asyncio.wait({writing})
    assert writing.cancelled()
    assert not asyncio.get_running_loop().remove_writer(pipe.writing)
    assert os.get_blocking(pipe.writing)
    pipe.close(pipe.writing)
    assert len(pipe.drain()) == filled


@pytest.mark.parametrize("blocking", [True, False])
async def test_mode_is_kept(ends: Ends, blocking: bool) -> None:
    """The descriptor's blocking mode, which others share, stays as it was; either will do."""
    os.set_blocking(ends.writing, blocking)
    several = batch(2_000)
    reading = asyncio.create_task(asyncio.to_thread(ends.drain))
    await NdjsonWriter(ends.writing).write(several)
    assert os.get_blocking(ends.writing) is blocking
    ends.close(ends.writing)
    assert await reading == text(several)


async def test_room_taken_by_another(pipe: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process takes the room first, the writer waits again."""
    os_write, refusals = os.write, [BlockingIOError(), BlockingIOError()]

    def write(descriptor: int, data: bytes) -> int:
        if refusals:
            raise refusals.pop()
        return os_write(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    await NdjsonWriter(pipe.writing).write(batch(3))
    pipe.close(pipe.writing)
    assert pipe.drain() == text(batch(3))


async def test_regular_file(tmp_path: Path) -> None:
    """A file gets all lines, one batch behind the other."""
    path = tmp_path / "records.ndjson"
    with path.open("wb") as file:
        writer = NdjsonWriter(file.fileno())
        await writer.write(batch(1_000))
        await writer.write([])
        await writer.write(batch(3, 10_000))
    assert path.read_bytes() == text(batch(1_000), batch(3, 10_000))


async def test_short_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system takes a part, the rest follows."""
    os_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: os_write(descriptor, bytes(data)[:100]))
    path = tmp_path / "records.ndjson"
    with path.open("wb") as file:
        await NdjsonWriter(file.fileno()).write(batch(5))
    assert path.read_bytes() == text(batch(5))


async def test_full_device() -> None:
    """A standard output that is full is this machine's failure, named so."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(LocalError, match=r"^standard output: no space left on device$"):
        await NdjsonWriter(descriptor).write(batch(1))
    os.close(descriptor)


async def test_null_device() -> None:
    """The null device takes everything, and without a reader."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    await NdjsonWriter(descriptor).write(batch(1_000))
    os.close(descriptor)


@pytest.mark.parametrize("blocking", [True, False])
async def test_terminal(blocking: bool) -> None:
    """A terminal that is read slowly gets every line."""
    primary, secondary = pty.openpty()
    os.set_blocking(secondary, blocking)
    several = batch(50)
    wanted = text(several).replace(b"\n", b"\r\n")
    got = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(primary, lambda: got.extend(os.read(primary, 500)))
    try:
        await asyncio.wait_for(NdjsonWriter(secondary).write(several), 10)
        await until(lambda: len(got) >= len(wanted))
    finally:
        loop.remove_reader(primary)
        os.close(primary)
        os.close(secondary)
    assert got == wanted
