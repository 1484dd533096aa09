"""L2: requests over libcurl: HTTP/1.1 and HTTP/2, at a fraction of the session's cost."""

import asyncio
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self

from fetcher.clock import Clock
from fetcher.errors import ErrorKind, FetchError
from fetcher.model import Headers, Timings
from fetcher.options import Timeouts, Tls, Wire
from fetcher.transport.base import ANYWHERE, Hop, Reach
from fetcher.transport.curl_failures import CLOSED, SILENT
from fetcher.transport.curl_multi import Multi
from fetcher.transport.curl_options import PLAIN, load
from fetcher.transport.curl_transfer import Shared, Transfer
from fetcher.transport.failures import cut, no_sense
from fetcher.transport.fields import decoded
from fetcher.transport.proxies import Proxies
from fetcher.transport.tls import tls_context

#: Seconds between looks for silent servers.
_SWEEP: Final = 1.0
#: Lines of common headers are the same again and again; longer ones are not remembered.
_COMMON_LINE: Final = 100
#: The number of HTTP/2 in libcurl; those of older versions are smaller.
_HTTP2: Final = 3


class CurlResponse:
    """One response of libcurl; see :class:`fetcher.transport.base.Response`."""

    __slots__ = (
        *("_bodiless", "_pycurl", "_tls_cut", "_transfer"),
        *("ends_with_connection", "headers", "http_version", "length", "reason", "remote_ip", "status"),
    )

    def __init__(self, transfer: Transfer, pycurl: Any) -> None:
        self._transfer = transfer
        self._pycurl = pycurl
        self._tls_cut = False
        if not transfer.headed:
            raise transfer.error()
        self.http_version, self.status, self.reason = _status_line(transfer.lines[0])
        framed = not self.http_version.startswith("1.")
        if framed and transfer.curl.getinfo(pycurl.INFO_HTTP_VERSION) < _HTTP2:
            raise no_sense(transfer.told(), "bad status line")
        if framed:
            transfer.note_framed()
        self.headers: Headers = tuple(
            [_common_field(line) if len(line) < _COMMON_LINE else _field(line) for line in transfer.lines[1:-1]]
        )
        self.remote_ip: str | None = transfer.curl.getinfo(pycurl.PRIMARY_IP) or None
        codings: list[str] = []
        length: str | None = None
        for name, value in self.headers:
            if name.endswith((" ", "\t")):  # a field to some, another to others (RFC 9112 section 5.1)
                raise no_sense(transfer.told(), "blank behind a field's name")
            if name == "content-length":
                length = value
            elif name == "transfer-encoding":
                codings.append(value)
        if codings and (len(codings) > 1 or codings[0].lower() != "chunked"):
            raise FetchError(ErrorKind.PROTOCOL, f"transfer coding {', '.join(codings)[:100]} was not asked for")
        if length is not None and not (length.isascii() and length.isdigit()):
            raise no_sense(transfer.told(), "bad length")
        self.length = int(length) if length is not None and not codings else None
        transfer.length = self.length
        self._bodiless = self.status in (204, 304)
        self.ends_with_connection = not codings and length is None and not self._bodiless and not framed

    async def read(self) -> bytes:
        """Return the next bytes of the body as they arrived."""
        transfer = self._transfer
        while True:
            if data := transfer.take():
                return data
            if transfer.done:
                return self._end()
            await transfer.change()

    def _end(self) -> bytes:
        transfer = self._transfer
        failure = transfer.failure
        if failure is not None:
            self._tls_cut = self.ends_with_connection and failure.is_tls_cut
            if not self._tls_cut:
                raise transfer.error()
        elif self.length not in (None, transfer.received) and not self._bodiless:
            raise cut(transfer.told(), reset=False)
        return b""

    def close(self) -> None:
        """Drop what has not been read."""
        self._transfer.stop(CLOSED)

    def doubts(self) -> tuple[str, ...]:
        """Return why the body may not be whole."""
        if not self.ends_with_connection:
            return ()
        return ("length_unknown", "tls_cut") if self._tls_cut else ("length_unknown",)

    def timings(self) -> Timings | None:
        """Return the phases up to the head."""
        pycurl, getinfo = self._pycurl, self._transfer.curl.getinfo
        sent = getinfo(pycurl.PRETRANSFER_TIME_T) / 1e6
        wait = max(0.0, getinfo(pycurl.STARTTRANSFER_TIME_T) / 1e6 - sent)
        if not getinfo(pycurl.NUM_CONNECTS):
            return Timings(blocked=round(sent, 6), send=0.0, wait=round(wait, 6))
        looked_up = getinfo(pycurl.NAMELOOKUP_TIME_T) / 1e6
        connected = getinfo(pycurl.CONNECT_TIME_T) / 1e6
        secured = getinfo(pycurl.APPCONNECT_TIME_T) / 1e6
        blocked = getinfo(pycurl.QUEUE_TIME_T) / 1e6
        return Timings(
            blocked=round(blocked + sent - max(secured, connected), 6),
            dns=None if self._transfer.is_address else round(looked_up - blocked, 6),
            connect=round(connected - looked_up, 6),
            tls=round(secured - connected, 6) if secured else None,
            send=0.0,
            wait=round(wait, 6),
        )


class _Exchange:
    """One request and its response, as a context."""

    __slots__ = ("_hop", "_transfer", "_transport")

    def __init__(self, transport: "CurlTransport", hop: Hop) -> None:
        self._transport = transport
        self._hop = hop
        self._transfer: Transfer | None = None

    async def __aenter__(self) -> CurlResponse:
        transport = self._transport
        self._transfer = transfer = transport.begin(self._hop)
        try:
            while not (transfer.headed or transfer.done):
                await transfer.change()
            return CurlResponse(transfer, transport.pycurl)
        except BaseException:
            transport.end(transfer)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._transfer is not None:
            self._transport.end(self._transfer)


class CurlTransport:
    """Sends requests over libcurl: pooled connections of HTTP/1.1, and of HTTP/2 where TLS agrees on it.

    libcurl follows no redirect, keeps no cookie, reads no file but certificates and decodes no body.
    A kept connection that the server has closed is replaced silently (RFC 9112 section 9.3.1), so a counted attempt
    may be two requests. Raises UsageError without pycurl, and on entering for files of certificates and keys that are none.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        tls: Tls,
        proxies: Proxies,
        clock: Clock,
        reach: Reach = ANYWHERE,
        wire: Wire = PLAIN,
    ) -> None:
        self.pycurl = load(wire)
        self._wire = wire
        self._timeouts = timeouts
        self._tls = tls
        self._proxies = proxies
        self._clock = clock
        self._reach = reach
        self._shared: Shared | None = None
        #: Handles that are free: those that show the user's certificate apart, since they cannot forget it.
        self._idle: dict[bool, list[Transfer]] = {False: [], True: []}
        self._period = min(_SWEEP, timeouts.read / 4)
        self._sweeper: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        if self._tls.has_files:
            tls_context(self._tls, own_origin=True)  # to fail now if there are no certificates in them
        self._shared = Shared(
            pycurl=self.pycurl,
            loop=asyncio.get_running_loop(),
            multi=Multi(self.pycurl, self._clock, self._reach.connections),
            timeouts=self._timeouts,
            tls=self._tls,
            proxies=self._proxies,
            clock=self._clock,
            wire=self._wire,
            block_private=self._reach.block_private,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        shared, self._shared = self._open(), None
        for transfer in shared.multi.transfers():
            transfer.stop(CLOSED)
        for idle in self._idle.values():
            for transfer in idle:
                transfer.curl.close()
            idle.clear()
        shared.multi.close()

    def send(self, hop: Hop) -> _Exchange:
        """Send one GET."""
        return _Exchange(self, hop)

    def begin(self, hop: Hop) -> Transfer:
        """Start a request on a handle that is free."""
        shared = self._open()
        identified = hop.own_origin and self._tls.cert is not None
        idle = self._idle[identified]
        transfer = idle.pop() if idle else Transfer(shared, identified=identified)
        try:
            transfer.begin(hop)
        except FetchError:
            idle.append(transfer)
            raise
        if self._sweeper is None:
            self._sweeper = shared.loop.call_later(self._period, self._sweep)
        return transfer

    def end(self, transfer: Transfer) -> None:
        """Take a handle back; a request that has not ended is dropped."""
        transfer.forget()
        if transfer.done and transfer.failure is None and self._shared is not None:
            self._idle[transfer.identified].append(transfer)
        else:
            transfer.stop(CLOSED)
            transfer.curl.close()

    def _open(self) -> Shared:
        if self._shared is None:
            raise RuntimeError("the transport is not open")
        return self._shared

    def _sweep(self) -> None:
        """Give up servers that have been silent for too long."""
        shared = self._open()
        self._sweeper = None
        now = self._clock.monotonic()
        under_way = shared.multi.transfers()
        for transfer in under_way:
            since = transfer.silent_since(now)
            if since is not None and now - since >= self._timeouts.read:
                transfer.stop(SILENT)
        if under_way:
            self._sweeper = shared.loop.call_later(self._period, self._sweep)


@lru_cache(64)
def _status_line(line: bytes) -> tuple[str, int, str]:
    """Return version, status and reason; libcurl has checked the numbers."""
    version, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
    return version.partition("/")[2], int(rest[:3]), rest[4:]


def _field(line: bytes) -> tuple[str, str]:
    name, _, value = line.partition(b":")
    return decoded(name, value.strip(b" \t\r\n"))


_common_field: Final = lru_cache(512)(_field)
