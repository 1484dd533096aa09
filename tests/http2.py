"""A server of HTTP/2 over TLS, for what only many streams on one connection can show."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event, RequestReceived, WindowUpdated
from h2.exceptions import StreamClosedError
from hyperframe.frame import GoAwayFrame


@dataclass(slots=True)
class Http2Server:
    """What it was asked, by connection; it answers when ``wanted`` requests are waiting.

    The body is the path. ``/cut`` announces ten bytes and resets its stream after four; ``/silent`` never ends;
    ``/reset`` has no answer at all, and ``/refused`` none the first time. With ``last``, the first connection that
    gets so far is told to go (GOAWAY) with that stream as the last that is answered.
    """

    base: str = ""
    wanted: int = 1
    last: int | None = None
    connections: int = 0
    refused: int = 0
    newest: "_Connection | None" = None
    seen: list[dict[bytes, bytes]] = field(default_factory=list)
    waiting: list[tuple["_Connection", int, bytes]] = field(default_factory=list)

    def ping(self) -> None:
        """Say something on the newest connection that is no answer."""
        assert self.newest is not None
        self.newest.ping()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak with one client until it goes."""
        self.connections += 1
        self.newest = connection = _Connection(self, writer)
        with suppress(OSError):
            while data := await reader.read(65_536):
                connection.take(data)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


class _Connection:
    def __init__(self, server: Http2Server, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._writer = writer
        self._last: int | None = None
        self._h2 = H2Connection(H2Configuration(client_side=False))
        self._h2.initiate_connection()
        self._send()

    def take(self, data: bytes) -> None:
        for event in self._h2.receive_data(data):
            self._react(event)
        self._send()

    def _react(self, event: Event) -> None:
        server = self._server
        if not isinstance(event, RequestReceived):
            assert not isinstance(event, WindowUpdated) or event.delta
            return
        fields = {bytes(name): bytes(value) for name, value in event.headers or ()}
        server.seen.append(fields)
        server.waiting.append((self, event.stream_id or 0, fields[b":path"]))
        if len(server.waiting) >= server.wanted:
            for connection, stream, path in server.waiting:
                with suppress(StreamClosedError):
                    connection.answer(stream, path)
            server.waiting.clear()

    def answer(self, stream: int, path: bytes) -> None:
        server = self._server
        if server.last is not None and stream > server.last:
            self._last, server.last = server.last, None
            self._writer.write(GoAwayFrame(last_stream_id=self._last).serialize())
        if self._last is not None and stream > self._last:
            return
        if path == b"/reset" or (path == b"/refused" and not server.refused):
            server.refused += path == b"/refused"
            self._h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM if server.refused else ErrorCodes.INTERNAL_ERROR)
            self._send()
            return
        whole = path not in (b"/cut", b"/silent")
        body = path if whole else b"abcd"
        length = len(body) if whole else 10
        self._h2.send_headers(stream, [(":status", "200"), ("content-length", str(length)), ("x-odd", "a")])
        self._h2.send_data(stream, body, end_stream=whole)
        if path == b"/cut":
            self._h2.reset_stream(stream)
        self._send()

    def ping(self) -> None:
        self._h2.ping(b"whoareu?")
        self._send()

    def _send(self) -> None:
        self._writer.write(self._h2.data_to_send())


@asynccontextmanager
async def serving_http2(context: ssl.SSLContext) -> AsyncIterator[Http2Server]:
    """Run the server in this event loop."""
    context.set_alpn_protocols(["h2"])
    server = Http2Server()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context) as listener:
        server.base = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield server
        async with asyncio.timeout(5):
            while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110  the clients' connections
                await asyncio.sleep(0.002)
