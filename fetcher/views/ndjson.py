"""L4: records as lines of JSON on a descriptor that others read: standard output."""

import asyncio
import os
import select
import stat
from collections.abc import Sequence
from typing import Final

from fetcher.errors import LocalError, words_of
from fetcher.events import Settled

#: A pipe that takes anything takes this many bytes at once and in one piece (POSIX: PIPE_BUF).
_PIECE: Final = select.PIPE_BUF


class NdjsonWriter:
    """Writes each record's line to ``descriptor``; a reader that is slow holds up neither the loop nor a thread.

    The descriptor keeps its blocking mode, which belongs to every process that shares it. Lines up to PIPE_BUF bytes
    enter a pipe whole, so that its reader never meets a torn one, however the run ends. With ``changed`` it writes those
    of files only that are new or no longer what they were.
    """

    def __init__(self, descriptor: int, *, changed: bool = False) -> None:
        self._descriptor = descriptor
        self._changed = changed
        mode = os.fstat(descriptor).st_mode
        self._waits = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or not os.get_blocking(descriptor)

    async def write(self, batch: Sequence[Settled]) -> None:
        """Write the lines whole; raises BrokenPipeError if nobody reads, LocalError if they cannot be written."""
        block = b"".join(settled.line for settled in batch if settled.record.changed or not self._changed)
        try:
            await (self._write_when_ready(block) if self._waits else self._write_on_thread(block))
        except ConnectionError as error:
            raise BrokenPipeError from error
        except OSError as error:
            raise LocalError(f"standard output: {words_of(error, 'cannot be written')}") from error

    async def _write_when_ready(self, block: bytes) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        start = 0
        while start < len(block):
            if not poll.poll(0):
                await self._room()
            end = block.rfind(b"\n", start, start + _PIECE) + 1 or start + _PIECE
            try:
                start += os.write(self._descriptor, block[start:end])
            except BlockingIOError:  # another process that shares the descriptor was faster
                await self._room()

    async def _write_on_thread(self, block: bytes) -> None:
        """Write to a file, which nobody can wait for, or a terminal, which takes less at once than it says."""
        left = memoryview(block)
        while left:
            left = left[await asyncio.to_thread(os.write, self._descriptor, left) :]

    async def _room(self) -> None:
        """Wait until the reader has made room."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._descriptor)
