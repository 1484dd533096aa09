"""L2: the failures of aiohttp and the socket, in our own vocabulary."""

import errno
import ssl
from dataclasses import dataclass
from typing import Final

import aiohttp

from fetcher.errors import ErrorKind, FetchError
from fetcher.options import Timeouts
from fetcher.text import seconds_text, size_text
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


def translate(error: BaseException, at: Exchanged) -> FetchError:  # noqa: C901, PLR0911, PLR0912  one table
    """Return our word for what went wrong, subject first, without class names."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            wait = seconds_text(at.timeouts.connect)
            return FetchError(ErrorKind.TIMEOUT_CONNECT, f"{at.server} did not accept a connection within {wait}")
        case TimeoutError() if not isinstance(error, aiohttp.ClientOSError):
            wait = seconds_text(at.timeouts.read)
            return FetchError(ErrorKind.TIMEOUT_READ, f"no byte for {wait} after {at.progress}")
        case aiohttp.ClientHttpProxyError():
            return FetchError(ErrorKind.PROXY, f"proxy {_proxy(at)} said {error.status}")
        case aiohttp.ClientProxyConnectionError():
            return FetchError(ErrorKind.PROXY, f"proxy {_proxy(at)}: {_reason(error.os_error)}")
        case aiohttp.ClientConnectorCertificateError():
            return FetchError(
                ErrorKind.TLS_VERIFY, f"certificate of {at.host}: {_verify_message(error.certificate_error)}"
            )
        case aiohttp.ClientConnectorSSLError():
            return FetchError(
                ErrorKind.TLS_HANDSHAKE, f"{at.server} does not speak TLS with us: {_reason(error.os_error)}"
            )
        case aiohttp.ClientConnectorDNSError():
            return FetchError(ErrorKind.DNS, f"no address for {at.host}")
        case aiohttp.ClientConnectorError():
            return _not_connected(error.os_error, at)
        case aiohttp.ClientPayloadError() | OSError() if at.length is not None or at.received:
            return FetchError(ErrorKind.TRUNCATED, _cut(error, at))
        case aiohttp.ServerDisconnectedError():
            return FetchError(ErrorKind.CONNECT_CLOSED, f"{at.server} closed without answering")
        case aiohttp.ClientPayloadError():
            return FetchError(ErrorKind.TRUNCATED, _cut(error, at))
        case aiohttp.ClientResponseError():
            return FetchError(ErrorKind.PROTOCOL, f"the answer of {at.server} is not HTTP: {error.message}")
        case OSError():
            return FetchError(ErrorKind.CONNECT_CLOSED, f"{at.server} closed without answering ({_reason(error)})")
        case _:
            return FetchError(ErrorKind.PROTOCOL, f"the answer of {at.server} makes no sense: {error}")


def _not_connected(error: OSError, at: Exchanged) -> FetchError:
    if error.errno == errno.ECONNREFUSED:
        return FetchError(ErrorKind.CONNECT_REFUSED, f"{at.server} refused the connection")
    if error.errno == errno.ETIMEDOUT:
        return FetchError(ErrorKind.TIMEOUT_CONNECT, f"{at.server} did not answer")
    if error.errno in _UNREACHABLE:
        return FetchError(ErrorKind.CONNECT_UNREACHABLE, f"no route to {at.server}")
    if error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED):
        return FetchError(ErrorKind.CONNECT_CLOSED, f"{at.server} closed while connecting")
    return FetchError(ErrorKind.CONNECT_UNREACHABLE, f"{at.server}: {_reason(error)}")


def _cut(error: BaseException, at: Exchanged) -> str:
    how = "reset" if isinstance(error, ConnectionResetError) else "closed"
    if at.length is not None:
        return f"{at.received:,} of {at.length:,} bytes, then {how}"
    return f"{at.received:,} bytes without an end, then {how}"


def _proxy(at: Exchanged) -> str:
    return redact(at.proxy or "")


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "handshake failed").lower().replace("_", " ")
    return (error.strerror or "failed").lower()


def _verify_message(error: Exception) -> str:
    return getattr(error, "verify_message", "") or "not valid for this host"
