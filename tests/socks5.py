"""A SOCKS proxy of version 5 (RFC 1928, RFC 1929), for what a client says to one."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.contracts.exchange import listening, pump

_NO_LOGIN, _LOGIN = 0, 2
_IPV4, _IPV6 = 1, 4


@dataclass(slots=True)
class Socks5:
    """Where it was asked to connect to, and by whom; it answers ``reply``, and connects to this machine in any case."""

    base: str = ""
    reply: int = 0
    asked: list[tuple[str, int]] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak with one client, and pass on what it and the other end say."""
        _, count = await reader.readexactly(2)
        method = _LOGIN if _LOGIN in await reader.readexactly(count) else _NO_LOGIN
        writer.write(bytes([5, method]))
        if method == _LOGIN:
            await reader.readexactly(1)
            self.logins.append((await _counted(reader), await _counted(reader)))
            writer.write(bytes([1, 0]))
        _, _, _, kind = await reader.readexactly(4)
        host = await _host(reader, kind)
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append((host, port))
        writer.write(bytes([5, self.reply, 0, _IPV4, 0, 0, 0, 0, 0, 0]))
        if self.reply == 0:
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(pump(reader, onward_writer), pump(onward_reader, writer))


async def _host(reader: asyncio.StreamReader, kind: int) -> str:
    if kind == _IPV4:
        return socket.inet_ntop(socket.AF_INET, await reader.readexactly(4))
    if kind == _IPV6:
        return socket.inet_ntop(socket.AF_INET6, await reader.readexactly(16))
    return (await _counted(reader)).decode()


async def _counted(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly((await reader.readexactly(1))[0])


@asynccontextmanager
async def serving_socks5() -> AsyncIterator[Socks5]:
    """Run the proxy in this event loop; its ``base`` is ``127.0.0.1:PORT``."""
    proxy = Socks5()
    async with listening(proxy.serve) as proxy.base:
        yield proxy
