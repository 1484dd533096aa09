"""Disk work shares hops; a failure is its own call's, a bug nobody's secret, and order is kept."""

import asyncio
import os
import threading

import pytest

from fetcher.disk import Disk


async def test_run() -> None:
    """A call of its own runs on a thread and gives its result, or its error."""
    with Disk() as disk:
        assert await disk.run(threading.get_ident) != threading.get_ident()
        with pytest.raises(FileNotFoundError):
            await disk.run(open, "/nowhere/at/all")


async def test_together() -> None:
    """Calls of one turn of the loop share a hop, in their order; later ones get the next."""
    hops: list[tuple[int, int]] = []

    def note(number: int) -> int:
        hops.append((threading.get_ident(), number))
        return number * 2

    with Disk() as disk:
        assert await asyncio.gather(*(disk.together(note, number) for number in range(100))) == list(range(0, 200, 2))
        assert sorted(number for _, number in hops) == list(range(100))
        first = [number for thread, number in hops if thread == hops[0][0]]
        assert first == sorted(first)
        assert await disk.together(note, 7) == 14


async def test_failures() -> None:
    """One call that fails leaves the others of its hop alone; a bug fails all of them and no later one."""
    with Disk() as disk:
        good, bad = disk.together(int, "5"), disk.together(open, "/nowhere/at/all")
        assert await good == 5
        with pytest.raises(FileNotFoundError):
            await bad
        calls = [disk.together(int, "1"), disk.together(int, "x")]
        assert [type(each) for each in await asyncio.gather(*calls, return_exceptions=True)] == [ValueError] * 2
        assert await disk.together(int, "6") == 6


async def test_slow_calls_do_not_hold_up_the_rest() -> None:
    """When many wait, further threads take them; no more than there are."""
    gate, busy = threading.Event(), threading.Semaphore(0)

    def block() -> None:
        busy.release()
        gate.wait(10)

    with Disk() as disk:
        slow = [disk.together(block)]
        for _ in range(3):
            await asyncio.sleep(0)
            slow += [disk.together(block) for _ in range(16)]
        for _ in range(4):
            assert await asyncio.to_thread(busy.acquire, timeout=10)
        assert not busy.acquire(blocking=False)
        gate.set()
        await asyncio.gather(*slow)


@pytest.mark.parametrize("path", ["/nowhere/at/all", os.devnull])
async def test_cancelled(path: str) -> None:
    """A cancellation waits for the call, however it ends, and then goes on."""
    gate, begun = threading.Event(), threading.Event()
    ended: list[str] = []

    def look() -> None:
        begun.set()
        gate.wait(10)
        ended.append(path)
        os.stat(path)  # noqa: PTH116

    async def wait() -> None:
        await disk.together(look)

    with Disk() as disk:
        task = asyncio.create_task(wait())
        assert await asyncio.to_thread(begun.wait, 10)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ended == [path]
