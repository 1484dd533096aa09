"""The suite's loopback server, whose misbehaviour is chosen by the URL: every option of ``answers.Asked``.

Raw streams in a thread of their own, so that the tests' event loops and real processes can both be clients.
"""

import asyncio
import base64
import fcntl
import itertools
import socket
import ssl
import struct
import termios
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final, Self, TypeVar

from tests.answers import ENDLESS, Asked, Reply, Seen, Value, asked_by, body_of, reply_to, with_options

_T = TypeVar("_T")

_HOST: Final = "127.0.0.1"
_BLOCK: Final = 256 * 2**10
_TLS_HELLO: Final = b"\x16"
_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(slots=True)
class _Entry:
    """One request in the log, answered from ``began`` to ``ended``: ticks of the server, so that no two are equal."""

    seen: Seen
    began: int
    ended: float = inf


class _Connection:
    """One client: reads requests, answers each as asked, until either side has enough."""

    def __init__(self, server: "Server", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.number = next(server.connections)
        self._tls = writer.get_extra_info("ssl_object") is not None

    async def serve(self) -> None:
        try:
            with suppress(OSError, EOFError, asyncio.LimitOverrunError):
                while await self._exchange():
                    pass
        finally:
            self.writer.close()
            with suppress(OSError):
                await self.writer.wait_closed()
            self.drop()  # asyncio's TLS can leave the socket beneath it open

    def drop(self) -> None:
        """End the connection at once, if it has not ended.

        Without TLS, asyncio fails at ``abort()`` if ``close()`` left something to send that has been sent since.
        """
        transport = self.writer.transport
        if self._tls or transport.get_write_buffer_size() or not transport.is_closing():
            transport.abort()

    async def _exchange(self) -> bool:
        """Read and answer one request; False if the connection ends with it."""
        head = await self._head()
        if not head:
            return False
        entry = self.server.enter(head, self.number)
        try:
            stay = await self._answer(entry.seen)
        finally:
            entry.ended = next(self.server.ticks)
        return stay and b"\r\nconnection: close" not in head.lower()

    async def _head(self) -> bytes:
        first = await self.reader.read(1)
        if first == _TLS_HELLO:
            self.writer.write(_BAD_REQUEST)
            return b""
        return first and first + await self.reader.readuntil(b"\r\n\r\n")

    async def _pause(self, seconds: float | None) -> None:
        """Wait, for ever if None; ConnectionError as soon as the client goes (or pipelines, which none does)."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.reader.read(1)
                raise ConnectionResetError

    async def _answer(self, seen: Seen) -> bool:
        query = seen.resource.partition("?")[2]
        asked = asked_by(query)
        if asked.fail_times:
            self.server.tries[seen.target] += 1
            if self.server.tries[seen.target] <= asked.fail_times:
                asked = asked_by(f"{query}&{asked.fail_as or f'status={asked.fail_status}'}")
        if asked.delay:
            await self._pause(asked.delay)
        if asked.hang:
            await self._pause(None)
        if asked.reset_before_head:
            await self._reset()
        if asked.close_before_head or asked.reset_before_head:
            return False
        if asked.raw:
            self.writer.write(base64.urlsafe_b64decode(asked.raw))
            if asked.raw_hold:
                await self._pause(None)
            return False
        if asked.endless_headers:
            return await self._endless_headers()
        return await self._send(asked, reply_to(asked, seen))

    async def _send(self, asked: Asked, reply: Reply) -> bool:
        count, _, gap = asked.drip.partition(",")
        cut = max(asked.truncate_at, asked.reset_at)
        size = -(-len(reply.content) // int(count)) or 1 if count else _BLOCK
        # No await after the last write: the client must not be ahead of the log.
        for number, block in enumerate(reply.blocks(cut, size)):
            if number:
                await self.writer.drain()
                if gap:
                    await self._pause(float(gap))
            self.writer.write(block)
        if asked.reset_at >= 0:
            await self._reset()
        if asked.no_notify:
            await self._cut()
        return cut < 0 and not reply.close

    async def _endless_headers(self) -> bool:
        lines = b"".join(b"X-Endless-%d: %s\r\n" % (number, b"x" * 1000) for number in range(64))
        self.writer.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(ENDLESS // len(lines)):
            self.writer.write(lines)
            await self.writer.drain()
        return False

    async def _reset(self) -> None:
        """Send RST instead of FIN."""
        sock = await self._flushed()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def _cut(self) -> None:
        """Close beneath TLS."""
        await self._flushed()
        self.writer.transport.abort()

    async def _flushed(self) -> socket.socket:
        """Wait until the client's side has what is written, which an end would discard; return the socket."""
        transport = self.writer.transport
        sock: socket.socket = transport.get_extra_info("socket")
        while transport.get_write_buffer_size() or any(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))):
            await self._pause(0.001)
        return sock


class Server:
    """The server, running inside its ``with``; after that no thread, task or socket of it remains.

    All that is public may be used from any thread.
    """

    def __init__(self) -> None:
        self.connections = itertools.count(1)
        self.ticks = itertools.count()
        self.tries: Counter[bytes] = Counter()
        self._faults: list[str] = []
        self._log: list[_Entry] = []
        self._serving: dict[asyncio.Task[None], _Connection] = {}
        self._listeners: list[asyncio.Server] = []
        self._origins: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._note)
        self._thread = threading.Thread(target=self._loop.run_forever, name="test server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._faults:
            raise AssertionError(f"the test server has a fault: {self._faults}")

    @property
    def base(self) -> str:
        """The scheme and authority of the plain server: ``http://127.0.0.1:PORT``."""
        return self.origin(0)

    def origin(self, number: int) -> str:
        """Return the base of the plain server's port ``number``; all ports answer alike."""
        while len(self._origins) <= number:
            self._origins.append(self.listen())
        return self._origins[number]

    def listen(self, tls: ssl.SSLContext | None = None) -> str:
        """Open one more port, with TLS if given a context; return its base."""
        port = self._run(self._listen(tls))
        return f"{'https' if tls else 'http'}://{_HOST}:{port}"

    def scope(self, prefix: str = "/") -> "Scope":
        """Return the part of the plain server below ``prefix``, which ends in a slash."""
        return Scope(self, self.base, prefix)

    def requests(self, prefix: str) -> list[Seen]:
        """Return the requests whose path and query start with ``prefix``, in order of arrival."""
        return [entry.seen for entry in self._entries(prefix)]

    def active_peak(self, prefix: str) -> int:
        """Return the most requests below ``prefix`` that were being answered at the same time."""
        entries = self._entries(prefix)
        steps = [(entry.began, 1) for entry in entries] + [(entry.ended, -1) for entry in entries]
        return max(itertools.accumulate((step for _, step in sorted(steps)), initial=0))

    def active_now(self, prefix: str) -> int:
        """Return how many requests below ``prefix`` are being answered."""
        return sum(entry.ended == inf for entry in self._entries(prefix))

    def enter(self, head: bytes, connection: int) -> _Entry:
        """Log a request that has just arrived."""
        entry = _Entry(Seen.of(head, time.monotonic(), connection), next(self.ticks))
        self._log.append(entry)
        return entry

    def _entries(self, prefix: str) -> list[_Entry]:
        return [entry for entry in tuple(self._log) if entry.seen.resource.startswith(prefix)]

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep what the event loop reports, but for TLS handshakes that either side gave up."""
        if not isinstance(context.get("exception"), OSError | asyncio.CancelledError):
            self._faults.append(repr(context))

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _listen(self, tls: ssl.SSLContext | None) -> int:
        patience = {"ssl_shutdown_timeout": 1.0} if tls else {}
        listener = await asyncio.start_server(self._serve, _HOST, 0, limit=2**20, backlog=1024, ssl=tls, **patience)
        self._listeners.append(listener)
        port: int = listener.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = connection = _Connection(self, reader, writer)
        task.add_done_callback(self._served)
        await connection.serve()

    def _served(self, task: asyncio.Task[None]) -> None:
        """Keep what a connection's task failed with; not every Python 3.11 tells the loop."""
        del self._serving[task]
        if not task.cancelled() and task.exception() is not None:
            self._note(self._loop, {"exception": task.exception()})

    async def _shut(self) -> None:
        # Who has just come gets a transport, a protocol and a task in turns of the loop. A listener that is closed before
        # would refuse the transport, and a task that is cancelled before it begins would leave the socket open.
        for sock in (sock for listener in self._listeners for sock in listener.sockets):
            self._loop.remove_reader(sock)
        for _ in range(10):
            await asyncio.sleep(0)
        for listener in self._listeners:
            listener.close()
        for connection in self._serving.values():
            connection.drop()
        if self._serving:
            await asyncio.wait(self._serving)
        handshakes = asyncio.all_tasks() - {asyncio.current_task()}
        for task in handshakes:
            task.cancel()
        await asyncio.gather(*handshakes, return_exceptions=True)
        await asyncio.sleep(0)  # their sockets close in the loop's next turn


@dataclass(frozen=True, slots=True)
class Scope:
    """One test's own part of the server: everything below ``prefix``, at the origin ``base``."""

    server: Server
    base: str
    prefix: str

    @property
    def host(self) -> str:
        """The authority: ``127.0.0.1:PORT``."""
        return self.base.partition("//")[2]

    def origin(self, number: int) -> "Scope":
        """Return the same part on another port: another origin, another host, one log."""
        return replace(self, base=self.server.origin(number))

    def path(self, path: str = "") -> str:
        """Return the path on the server of this scope's ``path``."""
        return self.prefix + path.removeprefix("/")

    def url(self, path: str = "", /, **options: Value) -> str:
        """Return the URL of ``path``, taken as it is, that asks for ``options``: the fields of ``Asked``."""
        return self.base + with_options(self.path(path), **options)

    def body_of(self, path: str = "", size: int = -1) -> bytes:
        """Return the body served at ``path``."""
        return body_of(self.path(path), size)

    def requests(self, path: str = "") -> list[Seen]:
        """Return this scope's requests below ``path``, in order of arrival, on every origin."""
        return self.server.requests(self.path(path))

    def active_peak(self, path: str = "") -> int:
        """Return the most requests below ``path`` that were being answered at the same time."""
        return self.server.active_peak(self.path(path))

    def active_now(self, path: str = "") -> int:
        """Return how many requests below ``path`` are being answered."""
        return self.server.active_now(self.path(path))
