"""L2: small bodies put in their places: by the disk's threads, and by a process of its own when there are many.

A thread shares the interpreter's lock with the event loop, and every call of the system hands it over: storing a body of
a few KiB then costs the run twice what it costs alone.

    store --few--> the disk's threads
      |                   ^
      +--many--> process -+ if it ends
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections import deque
from functools import partial
from pathlib import Path
from typing import Final, Self

from fetcher.channel import Channel
from fetcher.disk import Disk, Result
from fetcher.sinks.shelf import Placed, Shelf

#: The process is started behind so many bodies: it takes the time and the memory of an interpreter.
_MANY: Final = 500
#: In place of a number: all bodies are the threads'.
NEVER: Final = -1
#: Longer bodies go to a thread: hashing and writing them takes longer than handing over the lock, copying costs more.
_MOST: Final = 32 * 1024

_CODE: Final = "import sys; sys.path.insert(0, sys.argv[1]); from fetcher.sinks.storing import main; main(sys.argv[2])"
_PACKAGES: Final = Path(__file__).parent.parent.parent


#: The arguments of :meth:`Shelf.store`.
Call = tuple[bytes, str, str, bool, str | None]


class SmallBodies:
    """Stores bodies below ``directory``, with a process ``after`` so many; an async context manager.

    The process ends with the socket to it, so it never outlives the run for long. If it ends before, or does not start,
    the threads do what it has not told of: storing a body again changes nothing.
    """

    def __init__(self, directory: Path, disk: Disk, after: int | None = None) -> None:
        self.shelf = Shelf(directory)
        self._directory = directory
        self._disk = disk
        self._before = after if after is not None else _MANY if _cores() > 1 else NEVER
        #: Set while the process takes bodies.
        self.delegating = asyncio.Event()
        self._channel: Channel[Call, Placed | OSError | None] | None = None
        self._closing = False
        self._sent: deque[tuple[Call, Result[Placed]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._before == 0:
            self._delegate()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closing = True
        if self._channel is not None:
            self._channel.close()
        if self._task is not None:
            await self._task

    def store(self, *call: *Call) -> Result[Placed]:
        """Do what :meth:`Shelf.store` does; a cancellation is put off until it is done."""
        if self._channel is not None and self.delegating.is_set() and len(call[0]) <= _MOST:
            result: Result[Placed] = Result()
            self._sent.append((call, result))
            self._channel.send(call)
            return result
        self._before -= 1
        if self._before == 0:
            self._delegate()
        return self._disk.together(self.shelf.store, *call)

    def _delegate(self) -> None:
        self._task = asyncio.create_task(self._serve(), name="small bodies")

    async def _serve(self) -> None:
        """Start the process, and hand out what it tells until it ends."""
        end, other = socket.socketpair()
        with other:
            try:
                process = await self._disk.run(_start, other, self._directory)
            except OSError:  # as many processes as there may be: the threads go on
                end.close()
                return
        async with Channel[Call, Placed | OSError | None](end) as self._channel:
            if self._closing:
                self._channel.close()
            while results := await self._channel.receive():
                self.delegating.set()
                for placed in results:
                    if placed is not None:
                        self._sent.popleft()[1].settle(placed)
        self.delegating.clear()
        for call, result in self._sent:
            self._disk.together(self.shelf.store, *call).add_done_callback(partial(_pass_on, result))
        self._sent.clear()
        await self._disk.run(process.wait)


def _pass_on(result: Result[Placed], other: "asyncio.Future[Placed]") -> None:
    result.settle(other.exception() or other.result())


def _start(end: socket.socket, directory: Path) -> "subprocess.Popen[bytes]":
    """Start the process that serves the other end. It needs nothing but the standard library: it is there in 20 ms."""
    same_text = f"utf8={sys.flags.utf8_mode}"
    command = [sys.executable, "-I", "-S", "-X", same_text, "-c", _CODE, str(_PACKAGES), str(directory)]
    return subprocess.Popen(command, stdin=end.fileno(), stdout=subprocess.DEVNULL)  # noqa: S603  nothing but ours


def _cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
