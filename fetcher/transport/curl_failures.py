"""L2: the failures of libcurl, in our own vocabulary."""

import errno
import os
import re
from dataclasses import dataclass
from typing import Final

from fetcher.errors import ErrorKind, FetchError
from fetcher.transport.failures import (
    Exchanged,
    cut,
    late,
    no_handshake,
    no_sense,
    proxy_text,
    silent,
    unanswered,
    unreached,
    untrusted,
)

#: Beside libcurl's own numbers: the server fell silent, it sent too much, this side has closed.
SILENT: Final = -1
REFUSED: Final = -2
CLOSED: Final = -3

# The numbers of curl/curl.h, which never change.
_URL: Final = 3
_NO_PROXY_ADDRESS: Final = 5
_NO_ADDRESS: Final = 6
_NOT_CONNECTED: Final = 7
_HTTP2: Final = 16
_PARTIAL: Final = 18
_LATE: Final = 28
_HANDSHAKE: Final = 35
_NOTHING: Final = 52
_SEND: Final = 55
_RECEIVE: Final = 56
_VERIFY: Final = frozenset({60, 77, 83, 90, 91})
#: What a connection ends in that had ended before it was used again.
DIED: Final = frozenset({_NOTHING, _SEND, _RECEIVE})
_CODING: Final = 61
_STREAM: Final = 92
_PROXY: Final = 97

_RESET: Final = os.strerror(errno.ECONNRESET)
#: How OpenSSL says that a connection ended without its close_notify.
_NO_NOTIFY: Final = "unexpected eof"
#: The words of a receive error that is the connection's, not the bytes'.
_BROKEN: Final = re.compile(
    "^Recv failure|^Send failure|SSL_read|SSL_write|unexpected eof|^Failure when receiving|HTTP/[23]|QUIC"
)
_CODING_NAME: Final = re.compile(r"\((.*?)\)")


@dataclass(frozen=True, slots=True)
class Failure:
    """How libcurl ended a transfer: its number and words, the system's number, and what a proxy said to CONNECT."""

    code: int
    words: str
    system: int = 0
    proxy_status: int = 0

    @property
    def is_tls_cut(self) -> bool:
        """Whether the connection ended in order, but for TLS not saying so (RFC 8446 section 6.1)."""
        return self.code == _RECEIVE and _NO_NOTIFY in self.words


def translate(failure: Failure, at: Exchanged) -> FetchError:  # noqa: C901, PLR0911, PLR0912  one table
    """Return our word for what went wrong, subject first, without class names."""
    code = failure.code
    if failure.proxy_status >= 300:
        return FetchError(ErrorKind.PROXY, f"proxy {proxy_text(at)} said {failure.proxy_status}")
    if code == SILENT:
        return silent(at)
    if code == CLOSED:
        return FetchError(ErrorKind.CANCELLED, f"{at.server} was left")
    if code == REFUSED:
        return no_sense(at, failure.words)
    if code == _URL:
        return FetchError(ErrorKind.INVALID_URL, f"{at.host} is no host: {_reason(failure.words)}")
    if code == _NO_PROXY_ADDRESS:
        return FetchError(ErrorKind.PROXY, f"proxy {proxy_text(at)} has no address")
    if code == _NO_ADDRESS:
        return FetchError(ErrorKind.DNS, f"no address for {at.host}")
    if code == _PROXY:
        return FetchError(ErrorKind.PROXY, f"proxy {proxy_text(at)}: {_reason(failure.words)}")
    if code == _LATE and failure.system != errno.ETIMEDOUT:
        return late(at)
    if code in (_NOT_CONNECTED, _LATE):
        return _not_connected(failure, at)
    if code in _VERIFY:
        return untrusted(at, _certificate(failure.words), proxy=_with_proxy(failure, at))
    if code == _HANDSHAKE:
        return _no_handshake(failure, at)
    if code == _CODING:
        name = _CODING_NAME.search(failure.words)
        return FetchError(ErrorKind.PROTOCOL, f"transfer coding {name[1] if name else ''} was not asked for")
    if code in (_PARTIAL, _NOTHING, _SEND, _STREAM) or (code == _RECEIVE and _BROKEN.search(failure.words)):
        return cut(at, reset=_RESET in failure.words) if at.answered else unanswered(at)
    return no_sense(at, _reason(failure.words))


def _not_connected(failure: Failure, at: Exchanged) -> FetchError:
    error = OSError(failure.system, os.strerror(failure.system) if failure.system else "no connection")
    if at.timeline.blocked_address is not None:
        error = OSError(errno.EACCES, "")
    elif at.proxy is not None:
        return FetchError(ErrorKind.PROXY, f"proxy {proxy_text(at)}: {(error.strerror or '').lower()}")
    return unreached(OSError(error.errno, error.strerror), at)


def _no_handshake(failure: Failure, at: Exchanged) -> FetchError:
    if _RESET in failure.words or "SYSCALL" in failure.words or _NO_NOTIFY in failure.words:
        return FetchError(ErrorKind.CONNECT_CLOSED, f"{at.server} closed while connecting")
    return no_handshake(at, _tls_reason(failure.words), proxy=_with_proxy(failure, at))


def _with_proxy(failure: Failure, at: Exchanged) -> bool:
    """Tell whether TLS failed with the proxy: what it leads to is spoken to once it has answered."""
    return at.proxy is not None and at.proxy.lower().startswith("https:") and not failure.proxy_status


def _tls_reason(words: str) -> str:
    """``TLS connect error: error:0A00042E:SSL routines::tlsv1 alert protocol version`` ends with the reason."""
    return words.rpartition("::")[2].rpartition(": ")[2].lower() or "handshake failed"


def _certificate(words: str) -> str:
    return words.partition(": ")[2].lower() or "not valid"


def _reason(words: str) -> str:
    """Behind the first words may stand bytes that were read."""
    return words.partition(":")[0].lower() or "it makes no sense"
