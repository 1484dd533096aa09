"""Whole or not at all: files that are replaced, and work that is not cut."""

import asyncio
import os
from pathlib import Path
from typing import IO, Any

import pytest

from fetcher.atomic import AtomicFile, whole
from fetcher.errors import LocalError, UsageError

FULL = Path("/dev/full")


def test_new_file(tmp_path: Path) -> None:
    """The file appears at the end, with all that was written."""
    path = tmp_path / "list"
    with AtomicFile(path) as file:
        file.write(b"a" * 100_000)
        file.write(b"b")
        assert not path.exists()
    assert path.read_bytes() == b"a" * 100_000 + b"b"
    assert list(tmp_path.iterdir()) == [path]


def test_replacement(tmp_path: Path) -> None:
    """An older file stays until the new one is whole."""
    path = tmp_path / "list"
    path.write_bytes(b"old")
    with AtomicFile(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, asyncio.CancelledError])
def test_error(tmp_path: Path, error: type[BaseException]) -> None:
    """An error leaves the older file and nothing else, and is passed on."""
    path = tmp_path / "list"
    path.write_bytes(b"old")
    with pytest.raises(error):  # noqa: PT012, SIM117  the error is the test's own
        with AtomicFile(path) as file:
            file.write(b"new")
            raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_pipe(tmp_path: Path) -> None:
    """A pipe is written in place, at once."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with AtomicFile(path) as file:
        file.write(b"a line\n")
        assert os.read(reading, 100) == b"a line\n"
    os.close(reading)
    assert path.is_fifo()


@pytest.mark.parametrize("path", ["missing/list", ".", "a/list"])
def test_no_such_place(tmp_path: Path, path: str) -> None:
    """What cannot be written is said before anything else is done."""
    (tmp_path / "a").write_bytes(b"a file")
    with pytest.raises(UsageError, match=f"^cannot write {tmp_path}"):
        AtomicFile(tmp_path / path).__enter__()


def test_symlink(tmp_path: Path) -> None:
    """A symbolic link is replaced; what it points to stays."""
    (tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / "list").symlink_to("precious")
    with AtomicFile(tmp_path / "list") as file:
        file.write(b"new")
    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert (tmp_path / "list").read_bytes() == b"new"


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A disk that is full, be it noticed only when the file is closed, leaves the older file and nothing else."""
    if not FULL.exists():
        pytest.skip("there is no /dev/full")
    path = tmp_path / "list"
    path.write_bytes(b"old")
    real = Path.open

    def full(self: Path, mode: str) -> IO[Any]:
        self.touch()
        return real(FULL, mode.replace("x", "w"))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(LocalError, match=f"^cannot write {path}: no space left on device$"):  # noqa: SIM117  one line may raise
            with AtomicFile(path) as file:
                file.write(b"x" * size)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_trap_at_the_temporary_name(tmp_path: Path) -> None:
    """What lies where the file is put together, remains or a link, is not written through."""
    (tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / f".list.{os.getpid()}.tmp").symlink_to("precious")
    with AtomicFile(tmp_path / "list") as file:
        file.write(b"new")
    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert (tmp_path / "list").read_bytes() == b"new"


def test_not_open(tmp_path: Path) -> None:
    """Writing outside the context is a bug, and says so."""
    with pytest.raises(ValueError, match="not open"):
        AtomicFile(tmp_path / "list").write(b"x")


async def test_whole_result() -> None:
    """Without a cancellation the result, or the error, is that of the work."""

    async def work(error: Exception | None = None) -> int:
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return 5

    assert await whole(work()) == 5
    with pytest.raises(ZeroDivisionError):
        await whole(work(ZeroDivisionError()))


@pytest.mark.parametrize("error", [None, OSError("disk")])
@pytest.mark.parametrize("cancels", [1, 2, 5])
async def test_whole_cancelled(cancels: int, error: Exception | None) -> None:
    """However often it is cancelled, the work comes to its end first; then the cancellation goes on."""
    done = asyncio.Event()
    finished = False

    async def work() -> None:
        nonlocal finished
        await done.wait()
        finished = True
        if error is not None:
            raise error

    task = asyncio.create_task(whole(work()))
    for _ in range(cancels):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    done.set()
    await asyncio.wait({task}, timeout=1)
    assert task.cancelled()
    assert finished


async def test_whole_within_a_timeout() -> None:
    """A timeout around such work ends after it, and is still a timeout."""
    steps = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        steps.append("done")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await whole(work())
    assert steps == ["done"]
