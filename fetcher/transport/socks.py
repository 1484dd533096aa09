"""L2: what is said to a SOCKS proxy; the only importer of python_socks, an extra.

That library speaks SOCKS 4, 4a and 5 (RFC 1928, RFC 1929) over a connection that stands. Its own way to connect is not
taken: look-ups, descriptors and addresses tried side by side are the connector's business.
"""

import errno
import math
import socket
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from fetcher.errors import ErrorKind, FetchError, UsageError
from fetcher.transport.proxies import looks_up
from fetcher.urls import redact

_PORT: Final = 1080
#: The most bytes of a user or a password (RFC 1929 section 2).
_MAX_LOGIN: Final = 255


def load() -> Any:
    """Return the module python_socks; raises UsageError that says how to get it."""
    try:
        import python_socks.async_.asyncio  # noqa: PLC0415  an extra
    except ImportError as error:
        raise UsageError("a SOCKS proxy needs python-socks: pip install 'fetcher[socks]'") from error
    return python_socks


@dataclass(frozen=True, slots=True)
class SocksProxy:
    """A SOCKS proxy: where it is, of which version, who asks, and whether it looks names up."""

    host: str
    port: int
    version: int
    looks_up: bool
    user: str = field(repr=False)
    password: str = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> "SocksProxy":
        """Return the proxy of a URL such as ``socks5h://me:secret@host:1080``; raises FetchError of kind ``proxy``."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or _PORT
        except ValueError:
            raise _unusable(url, "is no URL") from None
        if not host:
            raise _unusable(url, "has no host")
        user, password = (unquote(word or "") for word in (parts.username, parts.password))
        version = 5 if parts.scheme.startswith("socks5") else 4
        if version == 5 and bool(user) != bool(password):
            raise _unusable(url, "takes a user only with a password")
        if not (user + password).isascii() or max(len(user), len(password)) > _MAX_LOGIN:
            raise _unusable(url, f"takes a user and a password of ASCII, {_MAX_LOGIN} bytes at most")
        return cls(host, port, version, looks_up(url), user, password)

    async def connect(self, leading: socket.socket, host: str, port: int) -> None:
        """Have the proxy, to which a connection is ``leading``, lead it on to a name or address.

        Raises OSError, and then has closed it. How long it may take is the caller's business.
        """
        socks = load()
        if self.version == 4 and ":" in host:
            leading.close()
            raise OSError(errno.EAFNOSUPPORT, "SOCKS 4 has no IPv6")
        kind = socks.ProxyType.SOCKS5 if self.version == 5 else socks.ProxyType.SOCKS4
        proxy = socks.async_.asyncio.Proxy(
            kind, self.host, self.port, self.user, self.password, rdns=True, forward=_Standing(leading)
        )
        try:
            await proxy.connect(host, port, timeout=math.inf)
        except (socks.ProxyError, ValueError) as error:
            # Behind the first words stand bytes that were read. A ValueError tells of text that is none.
            words = str(error).partition(":")[0] if isinstance(error, socks.ProxyError) else "it makes no sense"
            raise OSError(errno.EPROTO, words) from error


@dataclass(frozen=True, slots=True)
class _Standing:
    """A connection that stands, as python_socks takes it: the proxy before this one."""

    leading: socket.socket

    async def connect(self, **_: object) -> socket.socket:
        return self.leading


def _unusable(url: str, why: str) -> FetchError:
    return FetchError(ErrorKind.PROXY, f"proxy {redact(url)} {why}")
