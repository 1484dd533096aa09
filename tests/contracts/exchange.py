"""What the contracts of a transport share: how to make one, to ask with it, and whom to ask."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import pytest

from fetcher.errors import FetchError
from fetcher.model import Headers, Timings
from fetcher.options import Timeouts
from fetcher.options import Tls as Trust
from fetcher.text import printable
from fetcher.transport.base import Hop, Response, Transport

MEGABYTE = 2**20
#: What no person should have to read: names of classes, numbers of the system, the insides of objects.
JARGON = re.compile(r"Error|Exception|errno|aiohttp|curl|0x|\bNone\b|[<>{}]", re.IGNORECASE)


class Make(Protocol):
    """Makes a transport that is not open yet; without a ``proxy`` it goes directly, whatever the environment says."""

    def __call__(
        self, *, timeouts: Timeouts | None = None, trust: Trust | None = None, proxy: str = ""
    ) -> Transport: ...


@dataclass(frozen=True, slots=True)
class Got:
    """A whole response."""

    status: int
    reason: str
    headers: Headers
    http_version: str
    remote_ip: str | None
    length: int | None
    ends_with_connection: bool
    doubts: tuple[str, ...]
    timings: Timings | None
    body: bytes


async def chunks(response: Response) -> AsyncIterator[bytes]:
    """Yield the pieces of a body as they come."""
    while chunk := await response.read():
        yield chunk


async def get(transport: Transport, url: str, headers: Headers = (), *, own_origin: bool = False) -> Got:
    """Send one request and read all of its response."""
    async with transport.send(Hop(url, headers, own_origin)) as response:
        body = b"".join([chunk async for chunk in chunks(response)])
        return Got(
            status=response.status,
            reason=response.reason,
            headers=response.headers,
            http_version=response.http_version,
            remote_ip=response.remote_ip,
            length=response.length,
            ends_with_connection=response.ends_with_connection,
            doubts=response.doubts(),
            timings=response.timings(),
            body=body,
        )


async def failure(transport: Transport, url: str) -> tuple[str, str]:
    """Return kind and message of the failure of a request, which must be fit for people's eyes."""
    with pytest.raises(FetchError) as caught:
        await get(transport, url)
    message = caught.value.message
    assert len(message) <= 300
    assert printable(message) == message
    assert not JARGON.search(message)
    assert message[0] == message[0].lower()
    return caught.value.kind, message


async def until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds; TimeoutError after five seconds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  the server is another thread
            await asyncio.sleep(0.002)


@asynccontextmanager
async def listening(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """Serve every connection by ``talk``, in this event loop, and yield ``127.0.0.1:PORT``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            await talk(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        yield "{}:{}".format(*server.sockets[0].getsockname()[:2])
        await until(lambda: len(asyncio.all_tasks()) == 1)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes until it ends."""
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()


async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a proxy that connects its client to any port of this machine."""
    request = await reader.readuntil(b"\r\n\r\n")
    port = int(request.split()[1].rpartition(b":")[2])
    onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await asyncio.gather(pump(reader, onward_writer), pump(onward_reader, writer))


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a proxy that passes one request on to where its URL says."""
    method, url, rest = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)
    host, _, path = url.removeprefix(b"http://").partition(b"/")
    name, _, port = host.decode().partition(":")
    onward_reader, onward_writer = await asyncio.open_connection(name, int(port))
    onward_writer.write(b" ".join((method, b"/" + path, rest)))
    await asyncio.gather(pump(reader, onward_writer), pump(onward_reader, writer))


class WithTransport:
    """The fixtures of every contract."""

    @pytest.fixture
    def make(self) -> Make:
        """Return a function that makes a transport."""
        raise NotImplementedError

    @pytest.fixture
    def no_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No name has an address, and nobody is asked; for a transport with another resolver to override."""

        def look_up(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    @pytest.fixture
    async def transport(self, make: Make) -> AsyncIterator[Transport]:
        """An open transport."""
        async with make() as transport:
            yield transport

    @pytest.fixture
    def full_port(self) -> Iterator[int]:
        """A port that lets clients wait for ever: nobody accepts them, and the queue is full."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            waiting = [socket.socket()]
            with suppress(TimeoutError):
                while True:
                    waiting[-1].settimeout(0.2)
                    waiting[-1].connect(listener.getsockname())
                    waiting.append(socket.socket())
            yield listener.getsockname()[1]
            for client in waiting:
                client.close()
