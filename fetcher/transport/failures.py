"""L2: the failures of aiohttp and the socket, in our own vocabulary."""

import errno
import ssl
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from fetcher.errors import ErrorKind, FetchError, words_of
from fetcher.options import Timeouts
from fetcher.text import seconds_text, size_text
from fetcher.transport.timeline import Timeline
from fetcher.urls import redact

_UNREACHABLE: Final = frozenset(
    {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL}
)


@dataclass(slots=True)
class Exchanged:
    """What was asked of whom, and how much of the body has come: the words of a message."""

    host: str
    port: int
    timeouts: Timeouts
    proxy: str | None
    timeline: Timeline
    answered: bool = False
    length: int | None = None
    received: int = 0

    @property
    def server(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    @property
    def progress(self) -> str:
        """``4.2 MB of 10 MB``."""
        return size_text(self.received) + (f" of {size_text(self.length)}" if self.length is not None else "")


def translate(error: BaseException, at: Exchanged) -> FetchError:  # noqa: PLR0911  one table
    """Return our word for what went wrong, subject first, without class names."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return FetchError(ErrorKind.TIMEOUT_CONNECT, _late(at))
        case TimeoutError() if not isinstance(error, aiohttp.ClientOSError):
            wait = seconds_text(at.timeouts.read)
            return FetchError(ErrorKind.TIMEOUT_READ, f"no byte for {wait} after {at.progress}")
        case aiohttp.ClientConnectorError():
            return _not_connected(error, at)
        case aiohttp.ClientHttpProxyError():
            return FetchError(ErrorKind.PROXY, f"proxy {_proxy(at)} said {error.status}")
        case aiohttp.InvalidURL():
            return FetchError(ErrorKind.INVALID_URL, f"{at.host} is no IPv4 address: write it as 192.0.2.1")
        case aiohttp.ClientResponseError() | HttpProcessingError():
            # Behind the first words stand the bytes that were read, which may be many.
            reason = error.message.partition("\n")[0].partition(":")[0].lower()
            return FetchError(ErrorKind.PROTOCOL, f"the answer of {at.server} is not HTTP: {reason}")
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | OSError() if at.answered:
            return FetchError(ErrorKind.TRUNCATED, _cut(error, at))
        case aiohttp.ServerDisconnectedError() | OSError():
            return FetchError(ErrorKind.CONNECT_CLOSED, f"{at.server} closed without answering")
        case _:
            return FetchError(ErrorKind.PROTOCOL, f"the answer of {at.server} makes no sense: {error}")


def _not_connected(error: aiohttp.ClientConnectorError, at: Exchanged) -> FetchError:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = _verify_message(error.certificate_error)
            return FetchError(ErrorKind.TLS_VERIFY, f"certificate of {at.host}: {reason}")
        case aiohttp.ClientConnectorSSLError():
            reason = reason_of(error.os_error)
            return FetchError(ErrorKind.TLS_HANDSHAKE, f"{at.server} does not speak TLS with us: {reason}")
        case aiohttp.ClientConnectorDNSError() if at.proxy is not None:
            return FetchError(ErrorKind.PROXY, f"proxy {_proxy(at)} has no address")
        case aiohttp.ClientConnectorDNSError():
            return FetchError(ErrorKind.DNS, f"no address for {at.host}")
        case aiohttp.ClientProxyConnectionError():
            return FetchError(ErrorKind.PROXY, f"proxy {_proxy(at)}: {reason_of(error.os_error)}")
        case _:
            return _unreached(error.os_error, at)


def _unreached(error: OSError, at: Exchanged) -> FetchError:
    blocked = at.timeline.blocked_address
    if blocked is not None and error.errno == errno.EACCES:
        leads_to = "" if blocked == at.host.strip("[]") else f" resolves to {blocked}, which"
        return FetchError(ErrorKind.BLOCKED_ADDRESS, f"{at.host}{leads_to} is not public; --block-private is on")
    if error.errno == errno.ECONNREFUSED:
        return FetchError(ErrorKind.CONNECT_REFUSED, f"{at.server} refused the connection")
    if error.errno == errno.ETIMEDOUT:
        return FetchError(ErrorKind.TIMEOUT_CONNECT, f"{at.server} did not answer")
    if error.errno in _UNREACHABLE:
        return FetchError(ErrorKind.CONNECT_UNREACHABLE, f"no route to {at.server}")
    if isinstance(error, ConnectionError):
        return FetchError(ErrorKind.CONNECT_CLOSED, f"{at.server} closed while connecting")
    return FetchError(ErrorKind.CONNECT_UNREACHABLE, f"{at.server}: {reason_of(error)}")


def _late(at: Exchanged) -> str:
    wait = seconds_text(at.timeouts.connect)
    if at.timeline.connecting is None:
        return f"no address for {at.host if at.proxy is None else _proxy(at)} within {wait}"
    return f"{at.server} did not accept a connection within {wait}"


def _cut(error: BaseException, at: Exchanged) -> str:
    announced = f" of {at.length:,} bytes" if at.length is not None else " bytes without an end"
    how = "reset" if getattr(error, "errno", None) == errno.ECONNRESET else "closed"
    return f"{at.received:,}{announced}, then {how}"


def _proxy(at: Exchanged) -> str:
    return redact(at.proxy or "")


def reason_of(error: OSError) -> str:
    """Return what the system or the TLS library says, in a few words."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "handshake failed").lower().replace("_", " ")
    return words_of(error, "failed")


def _verify_message(error: Exception) -> str:
    return getattr(error, "verify_message", "") or "not valid for this host"
