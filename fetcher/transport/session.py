"""L2: requests over one shared aiohttp ClientSession."""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientResponse
from aiohttp.connector import AddrInfoType, Connection
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from fetcher.clock import Clock
from fetcher.errors import ErrorKind, FetchError, UsageError
from fetcher.model import Headers, Timings
from fetcher.options import Timeouts, Tls
from fetcher.redirects import location_text
from fetcher.transport.base import Hop
from fetcher.transport.failures import Exchanged, reason_of, translate
from fetcher.transport.guard import is_public
from fetcher.transport.proxies import Proxies
from fetcher.transport.resolver import SystemResolver
from fetcher.transport.timeline import Timeline, begin, current_timeline

#: The longest header line in bytes and the most header fields that are taken; browsers take as much.
_MAX_LINE: Final = 256 * 1024
_MAX_FIELDS: Final = 4_000
#: The most bytes before a head or between two pieces of a body, and the most interim responses (1xx).
_MAX_BESIDE: Final = 2 * 1024 * 1024
_MAX_INTERIM: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How many connections may be open, kept ones included, and whether only to addresses of the public internet."""

    connections: int = 100
    block_private: bool = False


_ANYWHERE: Final = Reach()


class _Protocol(ResponseHandler):
    """Bounds what a server may send beside bodies, and tells a body's reader too when the bytes stop making sense.

    aiohttp 3.14 bounds each field and their number, which together may be a gigabyte; interim responses, chunk
    extensions and answers to nothing it bounds not at all; and it leaves a reader waiting for ever when chunks break
    after the head. A body that nobody reads stops the connection, so bytes that arrive were parsed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._beside = 0
        self._interim = 0
        self._answered = False

    def set_response_params(self, **params: Any) -> None:
        self._beside = self._interim = 0
        self._answered = False
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        before = self._progress()
        super().data_received(data)
        self._beside = 0 if self._progress() != before else self._beside + len(data)
        if self._beside > _MAX_BESIDE:
            self._refuse("fields without an end")
        broken, body = self.exception(), self._payload
        if broken is not None and body is not None and not body.is_eof():
            body.set_exception(broken)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take one head; of those that nobody asked for, none."""
        status = data[0].code
        self._interim += status < 200
        if self._interim > _MAX_INTERIM:
            self._refuse("interim responses without an end")
        elif self._answered:
            self._refuse("two answers to one request")
        else:
            self._answered = status >= 200 or status == HTTPStatus.SWITCHING_PROTOCOLS
            super().feed_data(data, size)

    def _progress(self) -> int:
        """Return a number that changes with the head and with every byte of the body, and with nothing else."""
        return self._payload.total_bytes if self._answered and self._payload is not None else -1

    def _refuse(self, reason: str) -> None:
        if self.exception() is None:
            self.set_exception(HttpProcessingError(message=reason))
        if self.transport is not None:
            self.transport.abort()


class _Connector(aiohttp.TCPConnector):
    """Makes connections that speak :class:`_Protocol`, and keeps at most ``most``, those in use included.

    aiohttp bounds only the latter: after a list of many hosts the kept ones would take every descriptor.
    """

    def __init__(self, most: int, *, block_private: bool) -> None:
        self._most = most
        self._new_socket = _public_socket if block_private else _socket
        resolver = SystemResolver(public_first=block_private)
        super().__init__(limit=0, resolver=resolver, socket_factory=self._make_room)
        self._factory = partial(_Protocol, loop=self._loop)  # type: ignore[assignment]  # partial is invariant

    def _make_room(self, info: AddrInfoType) -> socket.socket:
        """Make a socket; for it goes the kept connection of the host that was done with first."""
        while self._conns and len(self._acquired) + sum(map(len, self._conns.values())) > self._most:
            key, kept = next(iter(self._conns.items()))
            kept.popleft()[0].abort()
            if not kept:
                del self._conns[key]
        return self._new_socket(info)


class _Response(ClientResponse):
    """A response that remembers its connection, which aiohttp forgets once the body is in."""

    peer: str | None = None
    protocol: Any = None
    tls: "_TlsObject | None" = None

    async def start(self, connection: Connection) -> ClientResponse:
        current_timeline().mark("sent")
        self.protocol = connection.protocol
        transport = connection.transport
        address = transport.get_extra_info("peername") if transport is not None else None
        self.peer = str(address[0]) if address else None
        self.tls = transport.get_extra_info("ssl_object") if transport is not None else None
        return await super().start(connection)


class _TlsObject(ssl.SSLObject):
    """Notes the peer's close_notify: without it an end may be an attacker's (RFC 8446 section 6.1)."""

    closed = False

    def read(self, *args: Any) -> Any:
        found = super().read(*args)
        self.closed = self.closed or not found
        return found


class _TimedContext(ssl.SSLContext):
    """Notes when a handshake begins: asyncio wraps a connection as soon as TCP has it."""

    sslobject_class = _TlsObject

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        current_timeline().mark("tls")
        return super().wrap_bio(*args, **kwargs)


def _socket(info: AddrInfoType) -> socket.socket:
    timeline = current_timeline()
    if timeline.connecting is None:
        timeline.mark("connecting")
    family, kind, proto, _, _ = info
    return socket.socket(family, kind, proto)


def _public_socket(info: AddrInfoType) -> socket.socket:
    """Make a socket for a public address only: this is where every address of every hop comes by."""
    address = str(info[4][0])
    if not is_public(address):
        timeline = current_timeline()
        timeline.blocked_address = timeline.blocked_address or address
        raise PermissionError(errno.EACCES, f"{address} is not public")
    return _socket(info)


def _tls_context(tls: Tls) -> ssl.SSLContext:
    context = _TimedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca_file is not None:
        try:
            context.load_verify_locations(cafile=tls.ca_file)
        except OSError as error:
            raise UsageError(f"no certificates in {tls.ca_file}: {reason_of(error)}") from error
    else:
        context.load_default_certs()
    return context


class SessionResponse:
    """One response of the session; see :class:`fetcher.transport.base.Response`."""

    def __init__(self, response: _Response, exchanged: Exchanged, timeline: Timeline) -> None:
        self._response = response
        self._exchanged = exchanged
        self._timeline = timeline
        self.status = response.status
        self.reason = response.reason or ""
        self.remote_ip = response.peer
        version = response.version
        self.http_version = f"{version.major}.{version.minor}" if version is not None else "1.1"
        self.headers: Headers = tuple(_header(name, value) for name, value in response.raw_headers)
        codings = [value for name, value in self.headers if name == "transfer-encoding"]
        if codings and [coding.strip().lower() for coding in codings] != ["chunked"]:
            raise FetchError(ErrorKind.PROTOCOL, f"transfer coding {', '.join(codings)[:100]} was not asked for")
        length = None if codings else response.headers.get("Content-Length")
        self.length = int(length) if length is not None else None
        self.ends_with_connection = not codings and length is None and self.status not in (204, 304)
        exchanged.length = self.length
        exchanged.answered = True

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes as they arrive."""
        content = self._response.content
        try:
            while chunk := await content.readany():
                self._exchanged.received += len(chunk)
                yield chunk
        except (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError) as error:
            # What broke the connection says more than what the body's reader is told of it.
            cause = self._response.protocol.exception() or error
            raise translate(cause, self._exchanged) from error
        # A reset while the body ends with the connection looks to the parser like the end.
        broken = self._response.protocol.exception() if self.ends_with_connection else None
        if isinstance(broken, OSError):
            raise translate(broken, self._exchanged) from broken

    def doubts(self) -> tuple[str, ...]:
        """Return why the body may not be whole."""
        if not self.ends_with_connection:
            return ()
        tls = self._response.tls
        return ("length_unknown",) if tls is None or tls.closed else ("length_unknown", "tls_cut")

    def timings(self) -> Timings | None:
        """Return the phases up to the head."""
        return self._timeline.timings()


class _Exchange:
    """One request and its response, as a context."""

    def __init__(self, transport: "SessionTransport", hop: Hop) -> None:
        self._transport = transport
        self._hop = hop
        self._response: ClientResponse | None = None

    async def __aenter__(self) -> SessionResponse:
        transport = self._transport
        timeline = Timeline(transport.clock)
        begin(timeline)
        url = _verbatim(self._hop.url)
        proxy = transport.proxies.find(self._hop.url)
        exchanged = Exchanged(url.host_subcomponent or "", url.port or 0, transport.timeouts, proxy, timeline)
        secure = url.scheme == "https"
        try:
            response = await transport.session.get(
                url,
                headers=self._hop.headers,
                allow_redirects=False,
                proxy=proxy,
                ssl=transport.tls_context() if secure else True,
            )
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise translate(error, exchanged) from error
        self._response = response
        timeline.mark("head")
        try:
            assert isinstance(response, _Response)  # noqa: S101  the session makes no other
            return SessionResponse(response, exchanged, timeline)
        except FetchError:
            response.close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response is not None:
            self._response.release()


class SessionTransport:
    """Sends requests over one aiohttp ClientSession: pooled, kept-alive HTTP/1.1 connections.

    The session follows no redirect, keeps no cookie and decodes no body; those are decided above.
    An idle connection that the server has closed is replaced silently once (RFC 9112 section 9.3.1),
    so a counted attempt may be two requests. Entering raises UsageError if there are no certificates in ``ca_file``.
    """

    def __init__(self, timeouts: Timeouts, tls: Tls, proxies: Proxies, clock: Clock, reach: Reach = _ANYWHERE) -> None:
        self.timeouts = timeouts
        self._reach = reach
        self.proxies = proxies
        self.clock = clock
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The shared session, while the context is open."""
        if self._session is None:
            raise RuntimeError("the transport is not open")
        return self._session

    def tls_context(self) -> ssl.SSLContext:
        """Return the context that all TLS connections share; made when the first one needs it."""
        if self._context is None:
            self._context = _tls_context(self._tls)
        return self._context

    async def __aenter__(self) -> Self:
        if self._tls.ca_file is not None:
            self.tls_context()
        self._session = aiohttp.ClientSession(
            connector=_Connector(self._reach.connections, block_private=self._reach.block_private),
            response_class=_Response,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(connect=self.timeouts.connect, sock_read=self.timeouts.read),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
            max_headers=_MAX_FIELDS,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.session.close()
        self._session = None

    def send(self, hop: Hop) -> _Exchange:
        """Send one GET."""
        return _Exchange(self, hop)


def _verbatim(target: str) -> URL:
    """Return a URL that aiohttp sends as it stands: all behind the authority is its path, since yarl drops an empty query."""
    scheme, _, rest = target.partition("://")
    authority, slash, path = rest.partition("/")
    return URL.build(scheme=scheme, authority=authority, path=slash + path, encoded=True)


def _header(name: bytes, value: bytes) -> tuple[str, str]:
    """Values are ASCII by the book; UTF-8 and Latin-1 are seen (RFC 9110 section 5.5)."""
    lower = name.decode("ascii", "replace").lower()
    if lower == "location":
        return lower, location_text(value)
    try:
        return lower, value.decode()
    except UnicodeDecodeError:
        return lower, value.decode("latin-1")
