"""L2: how the failure of an exchange is told, whichever library met it."""

import errno
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fetcher.errors import ErrorKind, FetchError, UsageError, words_of
from fetcher.options import Timeouts
from fetcher.text import seconds_text, size_text
from fetcher.transport.proxies import looks_up
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
    def looked_up_there(self) -> bool:
        """Whether the only name that is looked up here is the proxy's."""
        return self.proxy is not None and looks_up(self.proxy)

    @property
    def server(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    @property
    def progress(self) -> str:
        """``4.2 MB of 10 MB``."""
        return size_text(self.received) + (f" of {size_text(self.length)}" if self.length is not None else "")


def unreached(error: OSError, at: Exchanged) -> FetchError:
    """Return the failure of a connection that could not be made, from what the system said of it."""
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


def late(at: Exchanged) -> FetchError:
    """Return the failure of a connection that did not stand in time."""
    wait = seconds_text(at.timeouts.connect)
    if at.timeline.connecting is None:
        words = f"no address for {proxy_text(at) if at.looked_up_there else at.host} within {wait}"
    else:
        words = f"{at.server} did not accept a connection within {wait}"
    return FetchError(ErrorKind.TIMEOUT_CONNECT, words)


def silent(at: Exchanged) -> FetchError:
    """Return the failure of a server that said nothing for too long."""
    return FetchError(ErrorKind.TIMEOUT_READ, f"no byte for {seconds_text(at.timeouts.read)} after {at.progress}")


def untrusted(at: Exchanged, reason: str, *, proxy: bool = False) -> FetchError:
    """Return the failure of a certificate: the server's, or the proxy's."""
    if proxy:
        return FetchError(ErrorKind.PROXY, f"certificate of proxy {proxy_text(at)}: {reason}")
    return FetchError(ErrorKind.TLS_VERIFY, f"certificate of {at.host}: {reason}")


def no_handshake(at: Exchanged, reason: str, *, proxy: bool = False) -> FetchError:
    """Return the failure of a handshake with the server, or with the proxy."""
    if proxy:
        return FetchError(ErrorKind.PROXY, f"proxy {proxy_text(at)} does not speak TLS with us: {reason}")
    return FetchError(ErrorKind.TLS_HANDSHAKE, f"{at.server} does not speak TLS with us: {reason}")


def no_sense(at: Exchanged, reason: str) -> FetchError:
    """Return the failure of an answer that is not HTTP."""
    return FetchError(ErrorKind.PROTOCOL, f"the answer of {at.server} is not HTTP: {reason}")


def unanswered(at: Exchanged) -> FetchError:
    """Return the failure of a connection that ended before the head."""
    return FetchError(ErrorKind.CONNECT_CLOSED, f"{at.server} closed without answering")


def no_certificates(path: Path, error: OSError) -> UsageError:
    """Return what to say of a file of certificates that has none."""
    return UsageError(f"no certificates in {path}: {reason_of(error)}")


def cut(at: Exchanged, *, reset: bool) -> FetchError:
    """Return the failure of a body that ended before its end."""
    announced = f" of {at.length:,} bytes" if at.length is not None else " bytes without an end"
    return FetchError(ErrorKind.TRUNCATED, f"{at.received:,}{announced}, then {'reset' if reset else 'closed'}")


def proxy_text(at: Exchanged) -> str:
    """Return the proxy without its password."""
    return redact(at.proxy or "")


def reason_of(error: OSError) -> str:
    """Return what the system or the TLS library says, in a few words."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "handshake failed").lower().replace("_", " ")
    return words_of(error, "failed")
