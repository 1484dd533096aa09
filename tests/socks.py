"""A SOCKS proxy of versions 4, 4a and 5 (RFC 1928, RFC 1929), for what a client says to one."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.contracts.exchange import listening, pump

_NO_LOGIN, _LOGIN, _NEITHER = 0, 2, 255
_IPV4, _IPV6 = 1, 4
_GRANTED4 = 0x5A


@dataclass(slots=True)
class Socks:
    """Where it was asked to connect to, and by whom; it connects to this machine in any case.

    It answers ``reply`` (0 is success in each version), which is another for the host ``not_reached``, wants a
    ``login`` if there is one, and leaves, or falls silent, before its ``leaves``-th or ``hangs``-th piece of the greeting.
    """

    base: str = ""
    reply: int = 0
    not_reached: str = ""
    login: tuple[bytes, bytes] | None = None
    leaves: int = 0
    hangs: int = 0
    asked: list[tuple[str, int]] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak with one client, and pass on what it and the other end say."""
        client = _Client(self, reader, writer)
        await (client.greet5() if (await reader.readexactly(1))[0] == 5 else client.greet4())
        host, port = self.asked[-1]
        if self.answer(host) == 0:
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(pump(reader, onward_writer), pump(onward_reader, writer))

    def answer(self, host: str) -> int:
        """Return what it says to one who asks for this host."""
        return 4 if host == self.not_reached else self.reply


@dataclass(slots=True)
class _Client:
    proxy: Socks
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    said: int = 0

    async def greet5(self) -> None:
        offered = await _counted(self.reader)
        method = _LOGIN if _LOGIN in offered else _NO_LOGIN if self.proxy.login is None else _NEITHER
        await self.say(bytes([5, method]))
        if method == _LOGIN:
            await self.reader.readexactly(1)
            self.proxy.logins.append((await _counted(self.reader), await _counted(self.reader)))
            await self.say(bytes([1, self.proxy.login not in (None, self.proxy.logins[-1])]))
        _, _, _, kind = await self.reader.readexactly(4)
        host = await _host(self.reader, kind)
        port = int.from_bytes(await self.reader.readexactly(2), "big")
        self.proxy.asked.append((host, port))
        await self.say(bytes([5, self.proxy.answer(host), 0, _IPV4, 0, 0, 0, 0, 0, 0]))

    async def greet4(self) -> None:
        port = int.from_bytes((await self.reader.readexactly(3))[1:], "big")
        address = await self.reader.readexactly(4)
        self.proxy.logins.append(((await self.reader.readuntil(b"\0"))[:-1], b""))
        host = socket.inet_ntop(socket.AF_INET, address)
        if address[:3] == bytes(3) and address[3]:
            host = (await self.reader.readuntil(b"\0"))[:-1].decode()
        self.proxy.asked.append((host, port))
        await self.say(bytes([0, _GRANTED4 + self.proxy.answer(host), 0, 0, 0, 0, 0, 0]))

    async def say(self, words: bytes) -> None:
        self.said += 1
        if self.said == self.proxy.leaves:
            raise EOFError
        if self.said == self.proxy.hangs:
            await self.reader.read()
            raise EOFError
        self.writer.write(words)


async def _host(reader: asyncio.StreamReader, kind: int) -> str:
    if kind == _IPV4:
        return socket.inet_ntop(socket.AF_INET, await reader.readexactly(4))
    if kind == _IPV6:
        return socket.inet_ntop(socket.AF_INET6, await reader.readexactly(16))
    return (await _counted(reader)).decode()


async def _counted(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly((await reader.readexactly(1))[0])


@asynccontextmanager
async def serving_socks() -> AsyncIterator[Socks]:
    """Run the proxy in this event loop; its ``base`` is ``127.0.0.1:PORT``."""
    proxy = Socks()
    async with listening(proxy.serve) as proxy.base:
        yield proxy
