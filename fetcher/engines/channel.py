"""L3: messages between a run and its workers, over a socket, many in one block."""

import asyncio
import pickle
import socket
from asyncio import IncompleteReadError
from contextlib import suppress
from typing import Final, NamedTuple, Self

from fetcher.engines.base import Past
from fetcher.events import Event
from fetcher.model import Record, Request, Stop
from fetcher.naming import Told
from fetcher.origins import Hold

_HEADER: Final = 4


class Order(NamedTuple):
    """To a worker: fetch this; ``past`` is what workers that have died told of it."""

    request: Request
    past: Past


class Named(NamedTuple):
    """To a worker: the answer to its :class:`Claim`, a :class:`fetcher.sinks.base.Name`."""

    key: str
    path: str
    ours: bool


class Cease(NamedTuple):
    """To a worker: start nothing more, for this reason."""

    reason: str


class Finish(NamedTuple):
    """To a worker: give what is under way so many seconds, then drop it, tell, and end."""

    seconds: float


class Abort(NamedTuple):
    """To a worker: drop what is under way now."""


class Claim(NamedTuple):
    """From a worker: what is this request's body called? See :class:`fetcher.sinks.base.NameGiver`."""

    key: str
    told: Told
    digest: str | None
    obstacle: str | None


class Begun(NamedTuple):
    """From a worker: it makes an attempt at this request."""

    key: str


class Done(NamedTuple):
    """From a worker: what a request ends with, as a :class:`fetcher.events.Settled`; ``ended_bytes`` as in a Pulse.

    Unpickling the record takes a quarter of the time of reading its line.
    """

    record: Record
    line: bytes
    key: str
    ended_bytes: int


class Held(NamedTuple):
    """From a worker, and then to the others: it holds this host."""

    host: str
    hold: Hold


class Heard(NamedTuple):
    """From a worker: something has happened."""

    event: Event


class GivenUp(NamedTuple):
    """From a worker: going on makes no sense."""

    reason: Stop
    message: str


class Moving(NamedTuple):
    """How far a transfer is; see :class:`fetcher.events.Transfer`."""

    key: str
    received: int
    total: int | None
    last_byte: float


class Pulse(NamedTuple):
    """From a worker, now and then: how many wait, how many bytes ended attempts took, and what is under way."""

    waiting: int
    retrying: int
    ended_bytes: int
    active: tuple[Moving, ...]


class Ended(NamedTuple):
    """From a worker: all is told."""


Message = Order | Named | Cease | Finish | Abort | Claim | Begun | Done | Held | Heard | GivenUp | Pulse | Ended


class Channel:
    """One end of a pair of sockets; an async context manager. Messages keep their order."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._outbox: list[Message] = []
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

    def send(self, message: Message) -> None:
        """Send a message with the others of this turn of the loop; to an end that is gone, in vain."""
        self._outbox.append(message)
        if len(self._outbox) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    async def drain(self) -> None:
        """Wait while the other end is far behind."""
        if self._writer is not None:
            with suppress(OSError):
                await self._writer.drain()

    async def receive(self) -> list[Message]:
        """Return the next messages; none when the other end is gone."""
        if self._reader is None:
            raise RuntimeError("the channel is not open")
        try:
            size = int.from_bytes(await self._reader.readexactly(_HEADER), "big")
            block = await self._reader.readexactly(size)
        except (IncompleteReadError, OSError):
            return []
        return list(pickle.loads(block))  # noqa: S301  from our own process

    def _flush(self) -> None:
        if self._writer is None or not self._outbox:
            return
        block = pickle.dumps(self._outbox, pickle.HIGHEST_PROTOCOL)
        self._outbox = []
        self._writer.write(len(block).to_bytes(_HEADER, "big") + block)
