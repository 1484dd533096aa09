"""L2: the failures of aiohttp and the socket, in our own vocabulary."""

import errno
from socket import gaierror
from ssl import SSLCertVerificationError, SSLError

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from fetcher.errors import ErrorKind, FetchError
from fetcher.transport.failures import (
    Exchanged,
    cut,
    late,
    no_handshake,
    no_sense,
    proxy_text,
    reason_of,
    silent,
    unanswered,
    unreached,
    untrusted,
)


def translate(error: BaseException, at: Exchanged) -> FetchError:  # noqa: PLR0911  one table
    """Return our word for what went wrong, subject first, without class names."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return late(at)
        case TimeoutError() if not isinstance(error, aiohttp.ClientOSError):
            return silent(at)
        case aiohttp.ClientConnectorError():
            return _not_connected(error, at)
        case aiohttp.ClientHttpProxyError():
            return FetchError(ErrorKind.PROXY, f"proxy {proxy_text(at)} said {error.status}")
        case aiohttp.InvalidURL():
            return FetchError(ErrorKind.INVALID_URL, f"{at.host} is no IPv4 address: write it as 192.0.2.1")
        case aiohttp.ClientResponseError() | HttpProcessingError():
            # Behind the first words stand the bytes that were read, which may be many.
            reason = error.message.partition("\n")[0].partition(":")[0].lower()
            return no_sense(at, reason)
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | OSError() if at.answered:
            return cut(at, reset=getattr(error, "errno", None) == errno.ECONNRESET)
        case aiohttp.ServerDisconnectedError() | OSError():
            return unanswered(at)
        case _:
            return FetchError(ErrorKind.PROTOCOL, f"the answer of {at.server} makes no sense: {error}")


def _not_connected(error: aiohttp.ClientConnectorError, at: Exchanged) -> FetchError:  # noqa: PLR0911  one table
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return untrusted(at, _verify_message(error.certificate_error))
        case aiohttp.ClientConnectorSSLError():
            return no_handshake(at, reason_of(error.os_error))
        case aiohttp.ClientConnectorDNSError() if not at.looked_up_there:
            return FetchError(ErrorKind.DNS, f"no address for {at.host}")
        case aiohttp.ClientConnectorDNSError() | aiohttp.ClientProxyConnectionError(os_error=gaierror()):
            return FetchError(ErrorKind.PROXY, f"proxy {proxy_text(at)} has no address")
        case aiohttp.ClientProxyConnectionError(os_error=SSLCertVerificationError() as reason):
            return untrusted(at, _verify_message(reason), proxy=True)
        case aiohttp.ClientProxyConnectionError(os_error=SSLError() as reason):
            return no_handshake(at, reason_of(reason), proxy=True)
        case aiohttp.ClientProxyConnectionError():
            return FetchError(ErrorKind.PROXY, f"proxy {proxy_text(at)}: {reason_of(error.os_error)}")
        case _:
            return unreached(error.os_error, at)


def _verify_message(error: Exception) -> str:
    return getattr(error, "verify_message", "") or "not valid for this host"
