"""L2: the connections of the session: bounded in number, in time, and in what a server may send over them."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import aiohappyeyeballs
import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import AddrInfoType
from aiohttp.helpers import is_ip_address
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tracing import Trace

from fetcher.options import Timeouts
from fetcher.transport.base import Reach
from fetcher.transport.guard import is_public
from fetcher.transport.proxies import Proxies, is_socks
from fetcher.transport.resolver import SystemResolver
from fetcher.transport.socks import SocksProxy
from fetcher.transport.timeline import current_timeline
from fetcher.transport.tls import TlsObject

#: How much of the read timeout may pass before a look at who is late, and the bounds of that in seconds.
_LOOK: Final = 0.1
_LOOK_BOUNDS: Final = (0.02, 1.0)
#: The most bytes before a head or between two pieces of a body, and the most interim responses (1xx).
_MAX_BESIDE: Final = 2 * 1024 * 1024
_MAX_INTERIM: Final = 100


class Protocol(ResponseHandler):
    """Bounds what a server may send beside bodies, and tells a body's reader too when the bytes stop making sense.

    aiohttp 3.14 bounds each field and their number, which together may be a gigabyte; interim responses, chunk
    extensions and answers to nothing it bounds not at all; and it leaves a reader waiting for ever when chunks break
    after the head. A body that nobody reads stops the connection, so bytes that arrive were parsed.

    Where aiohttp would start, move and cancel a timer for every piece of every body, only the deadline is noted;
    :meth:`expire` is called now and then. ``peer`` is the address at the other end, ``tls`` its TLS layer.
    """

    peer: str | None = None
    tls: TlsObject | None = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._beside = 0
        self._interim = 0
        self._answered = False
        self._deadline: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who is at the other end."""
        super().connection_made(transport)
        address = transport.get_extra_info("peername")
        self.peer = str(address[0]) if address else None
        self.tls = transport.get_extra_info("ssl_object")

    def _reschedule_timeout(self) -> None:
        self._deadline = self._loop.time() + self._read_timeout if self._read_timeout else None

    def _drop_timeout(self) -> None:
        self._deadline = None

    def expire(self, now: float) -> None:
        """Fail the exchange if nothing has come for as long as its read timeout; ``now`` is the loop's time."""
        if self._deadline is not None and self._deadline <= now:
            self._on_read_timeout()

    def set_response_params(self, **params: Any) -> None:
        """Prepare for the answer to one request."""
        self._beside = self._interim = 0
        self._answered = False
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
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


class Connector(aiohttp.TCPConnector):
    """Makes connections that speak :class:`Protocol`, and keeps at most as many as ``reach`` says, those in use included.

    aiohttp bounds only the latter: after a list of many hosts the kept ones would take every descriptor.
    ``proxy_context`` returns what TLS with a proxy goes by; aiohttp would take that of the server behind it, which may
    know the user, or none of ours.
    What goes through a SOCKS proxy is for aiohttp a direct connection; which proxy it is, the origin alone decides, so
    kept ones are not mixed up.
    """

    def __init__(
        self, reach: Reach, timeouts: Timeouts, proxies: Proxies, proxy_context: Callable[[], ssl.SSLContext]
    ) -> None:
        self._most = reach.connections
        self._timeouts = timeouts
        self._proxies = proxies
        self._proxy_context = proxy_context
        self._new_socket = _public_socket if reach.block_private else _socket
        resolver = SystemResolver(public_first=reach.block_private)
        super().__init__(limit=0, resolver=resolver, socket_factory=self._make_room)
        self._factory = partial(Protocol, loop=self._loop)  # type: ignore[assignment]  # partial is invariant
        self._looking = self._loop.call_later(self._interval, self._look)

    @property
    def _interval(self) -> float:
        least, most = _LOOK_BOUNDS
        return min(most, max(least, self._timeouts.read * _LOOK))

    def _look(self) -> None:
        """End the exchanges that have waited too long for a byte."""
        now = self._loop.time()
        for protocol in tuple(self._acquired):
            if isinstance(protocol, Protocol):  # or the place of one that is still connecting
                protocol.expire(now)
        self._looking = self._loop.call_later(self._interval, self._look)

    def close(self, *, abort_ssl: bool = False) -> Any:
        """Close all connections."""
        self._looking.cancel()
        return super().close(abort_ssl=abort_ssl)

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  as aiohttp has it
    ) -> ResponseHandler:
        proxy = None if req.proxy is not None else self._proxies.find(str(req.url))
        async with asyncio.timeout(self._timeouts.connect):
            if proxy is not None and is_socks(proxy):
                return await self._connect_through(SocksProxy.parse(proxy), req, timeout)
            return await super()._create_connection(req, traces, timeout)

    async def _create_direct_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  as aiohttp has it
        *,
        client_error: type[Exception] = aiohttp.ClientConnectorError,
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        to_proxy = client_error is aiohttp.ClientProxyConnectionError
        if to_proxy and req.is_ssl():
            req = ClientRequest(req.method, req.url, headers=req.headers, loop=self._loop, ssl=self._proxy_context())
        try:
            return await super()._create_direct_connection(req, traces, timeout, client_error=client_error)
        except aiohttp.ClientConnectorCertificateError as error:
            if to_proxy and isinstance(error.certificate_error, OSError):
                raise aiohttp.ClientProxyConnectionError(req.connection_key, error.certificate_error) from error
            raise
        except aiohttp.ClientConnectorSSLError as error:
            if to_proxy:
                raise aiohttp.ClientProxyConnectionError(req.connection_key, error.os_error) from error
            raise

    async def _connect_through(
        self,
        proxy: SocksProxy,
        req: ClientRequest,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  as aiohttp has it
    ) -> ResponseHandler:
        """Connect by a SOCKS proxy to the first address that it reaches."""
        host = req.url.raw_host or ""
        port = req.port or 0
        places = [host]
        if not proxy.looks_up or is_ip_address(host):
            try:
                places = [found["host"] for found in await self._resolve_host(host, port)]
            except OSError as error:
                raise aiohttp.ClientConnectorDNSError(req.connection_key, error) from error
        sock = await self._lead(proxy, places, req)
        context = self._get_ssl_context(req)
        name = host.rstrip(".") if context is not None else None
        _, protocol = await self._wrap_existing_connection(
            self._factory, req=req, timeout=timeout, sock=sock, ssl=context, server_hostname=name
        )
        return protocol

    async def _lead(self, proxy: SocksProxy, places: list[str], req: ClientRequest) -> socket.socket:
        """Return a connection that the proxy leads on to one of these places."""
        refusal = OSError()
        try:
            at = self._convert_hosts_to_addr_infos(await self._resolve_host(proxy.host, proxy.port))
            for place in places:
                sock = await aiohappyeyeballs.start_connection(
                    at,
                    happy_eyeballs_delay=self._happy_eyeballs_delay,
                    interleave=self._interleave,
                    socket_factory=self._make_room,
                )
                try:
                    await proxy.connect(sock, place, req.port or 0)
                except OSError as error:
                    refusal = error
                else:
                    return sock
        except OSError as error:
            refusal = error
        raise aiohttp.ClientProxyConnectionError(req.connection_key, refusal)

    def _make_room(self, info: AddrInfoType) -> socket.socket:
        """Make a socket; for it goes the kept connection of the host that was done with first."""
        while self._conns and len(self._acquired) + sum(map(len, self._conns.values())) > self._most:
            key, kept = next(iter(self._conns.items()))
            kept.popleft()[0].abort()
            if not kept:
                del self._conns[key]
        return self._new_socket(info)


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
