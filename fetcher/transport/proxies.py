"""L2: which proxy a URL goes through."""

from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from fetcher.errors import ErrorKind, FetchError
from fetcher.urls import redact

#: What every transport speaks to a proxy.
HTTP: Final = frozenset({"http", "https"})
#: What only libcurl speaks; with an ``h`` or an ``a`` at its end the proxy looks names up.
SOCKS: Final = frozenset({"socks4", "socks4a", "socks5", "socks5h"})


class Proxies:
    """The proxy that was given, else the environment's ``http_proxy``, ``https_proxy`` and ``no_proxy``."""

    def __init__(self, given: str | None) -> None:
        self._given = given
        self._environment = {} if given is not None else getproxies_environment()

    @property
    def used(self) -> bool:
        """Whether any URL goes through a proxy."""
        return bool(self._given or self._environment.keys() - {"no"})

    def find(self, url: str, schemes: frozenset[str] = HTTP) -> str | None:
        """Return the proxy's URL for a request to ``url``, None to go directly; its scheme is one of ``schemes``.

        A proxy without a scheme is an HTTP proxy. Raises FetchError of kind ``proxy`` for any other scheme: going
        around it could tell what it is there to hide.
        """
        proxy = self._given if self._given is not None else self._by_environment(url)
        if not proxy:
            return None
        scheme, found, _ = proxy.partition("://")
        if not found:
            return f"http://{proxy}"
        if scheme.lower() in schemes:
            return proxy
        speaks = "needs --transport curl" if scheme.lower() in SOCKS else "is neither http:// nor https:// nor socks"
        raise FetchError(ErrorKind.PROXY, f"proxy {redact(proxy)} {speaks}")

    def _by_environment(self, url: str) -> str | None:
        if not self._environment:
            return None
        parts = urlsplit(url)
        if proxy_bypass_environment(parts.netloc, self._environment):
            return None
        return self._environment.get(parts.scheme) or self._environment.get("all")
