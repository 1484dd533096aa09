"""L2: requests over one shared aiohttp ClientSession."""

import ssl
from functools import lru_cache, partial
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp.client_reqrep import ClientResponse
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from fetcher.clock import Clock
from fetcher.errors import ErrorKind, FetchError
from fetcher.model import Headers, Timings
from fetcher.options import Timeouts, Tls
from fetcher.transport.base import ANYWHERE, Hop, Reach
from fetcher.transport.connector import Connector, Protocol
from fetcher.transport.failures import Exchanged
from fetcher.transport.fields import field
from fetcher.transport.proxies import Proxies, is_socks
from fetcher.transport.session_failures import translate
from fetcher.transport.timeline import Timeline, begin, current_timeline
from fetcher.transport.tls import tls_context

#: The longest header line in bytes and the most header fields that are taken; browsers take as much.
_MAX_LINE: Final = 256 * 1024
_MAX_FIELDS: Final = 4_000
#: What aiohttp would add to a request that lacks it.
_ADDED: Final = frozenset({"accept", "accept-encoding", "user-agent"})


class _Response(ClientResponse):
    """A response that remembers its connection, which aiohttp forgets once the body is in."""

    protocol: Protocol

    async def start(self, connection: Connection) -> ClientResponse:
        current_timeline().mark("sent")
        assert isinstance(connection.protocol, Protocol)  # noqa: S101  the connector makes no other
        self.protocol = connection.protocol
        return await super().start(connection)


class SessionResponse:
    """One response of the session; see :class:`fetcher.transport.base.Response`."""

    http_version = "1.1"

    def __init__(self, response: _Response, exchanged: Exchanged, timeline: Timeline) -> None:
        self._response = response
        self._exchanged = exchanged
        self._timeline = timeline
        self.status = response.status
        self.reason = response.reason or ""
        self.remote_ip = response.protocol.peer
        version = response.version
        if version is not None and version != aiohttp.HttpVersion11:
            self.http_version = f"{version.major}.{version.minor}"
        self.headers: Headers = tuple([field(name, value) for name, value in response.raw_headers])
        codings = response.headers.getall("Transfer-Encoding", ())
        if codings and [coding.strip().lower() for coding in codings] != ["chunked"]:
            raise FetchError(ErrorKind.PROTOCOL, f"transfer coding {', '.join(codings)[:100]} was not asked for")
        length = None if codings else response.headers.get("Content-Length")
        self.length = int(length) if length is not None else None
        self.ends_with_connection = not codings and length is None and self.status not in (204, 304)
        exchanged.length = self.length
        exchanged.answered = True

    async def read(self) -> bytes:
        """Return the next bytes of the body."""
        try:
            chunk = await self._response.content.readany()
        except (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError) as error:
            # What broke the connection says more than what the body's reader is told of it.
            cause = self._response.protocol.exception() or error
            raise translate(cause, self._exchanged) from error
        self._exchanged.received += len(chunk)
        if not chunk and self.ends_with_connection:
            # A reset while the body ends with the connection looks to the parser like the end.
            broken = self._response.protocol.exception()
            if isinstance(broken, OSError):
                raise translate(broken, self._exchanged) from broken
        return chunk

    def close(self) -> None:
        """Drop what has not been read."""
        self._response.close()

    def doubts(self) -> tuple[str, ...]:
        """Return why the body may not be whole."""
        if not self.ends_with_connection:
            return ()
        tls = self._response.protocol.tls
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
                skip_auto_headers=_lacking(self._hop.headers),
                allow_redirects=False,
                proxy=None if is_socks(proxy) else proxy,
                ssl=transport.tls_context(own_origin=self._hop.own_origin) if secure else True,
            )
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise translate(error, exchanged) from error
        self._response = response
        timeline.head = transport.clock.monotonic()
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
    so a counted attempt may be two requests. Entering raises UsageError for files of certificates and keys that are none.
    """

    def __init__(self, timeouts: Timeouts, tls: Tls, proxies: Proxies, clock: Clock, reach: Reach = ANYWHERE) -> None:
        self.timeouts = timeouts
        self._reach = reach
        self.proxies = proxies
        self.clock = clock
        self._tls = tls
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The shared session, while the context is open."""
        if self._session is None:
            raise RuntimeError("the transport is not open")
        return self._session

    def tls_context(self, *, own_origin: bool) -> ssl.SSLContext:
        """Return the context that all TLS connections share, or all who may know the user; made when needed first."""
        shown = own_origin and self._tls.cert is not None
        if shown not in self._contexts:
            self._contexts[shown] = tls_context(self._tls, own_origin=shown)
        return self._contexts[shown]

    async def __aenter__(self) -> Self:
        if self._tls.has_files:
            self.tls_context(own_origin=True)
        self._session = aiohttp.ClientSession(
            connector=Connector(self._reach, self.timeouts, self.proxies, partial(self.tls_context, own_origin=False)),
            response_class=_Response,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(sock_read=self.timeouts.read),
            auto_decompress=False,
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


@lru_cache(maxsize=64)
def _lacking(headers: Headers) -> tuple[str, ...] | None:
    """Return which fields aiohttp shall not add of its own; None, which costs less, if the request has them all."""
    return tuple(_ADDED.difference(name.lower() for name, _ in headers)) or None
