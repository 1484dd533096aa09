"""L2: messages between processes of one run, over a socket, many in one block."""

import asyncio
import socket
from asyncio import IncompleteReadError
from contextlib import suppress
from typing import Generic, Self, TypeVar

from fetcher.blocks import HEADER, packed, size_of, unpacked

_Out = TypeVar("_Out")
_In = TypeVar("_In")


class Channel(Generic[_Out, _In]):
    """One end of a pair of sockets; an async context manager. Messages keep their order."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._outbox: list[_Out] = []
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._end)
        self._flush()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
        if self._writer is not None:
            with suppress(OSError):
                await self._writer.wait_closed()

    def close(self) -> None:
        """Send what waits, then let the other end receive no more."""
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def send(self, message: _Out) -> None:
        """Send a message with the others of this turn of the loop; to an end that is gone, in vain."""
        self._outbox.append(message)
        if len(self._outbox) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    async def drain(self) -> None:
        """Wait while the other end is far behind."""
        if self._writer is not None:
            with suppress(OSError):
                await self._writer.drain()

    async def receive(self) -> list[_In]:
        """Return the next messages; none when the other end is gone."""
        if self._reader is None:
            raise RuntimeError("the channel is not open")
        try:
            block = await self._reader.readexactly(size_of(await self._reader.readexactly(HEADER)))
        except (IncompleteReadError, OSError):
            return []
        return unpacked(block)

    def _flush(self) -> None:
        if self._writer is None or not self._outbox:
            return
        outbox, self._outbox = self._outbox, []
        self._writer.write(packed(outbox))
