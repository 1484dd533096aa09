"""L2: which proxy a URL goes through."""

from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from fetcher.errors import ErrorKind, FetchError
from fetcher.urls import redact

#: The schemes of URLs that are fetched, and of proxies that speak HTTP.
_SCHEMES: Final = ("http", "https")
#: The kinds of SOCKS proxy, and whether the proxy looks names up.
SOCKS: Final = {"socks4": False, "socks4a": True, "socks5": False, "socks5h": True}


class Proxies:
    """The proxy that was given, else the environment's ``http_proxy``, ``https_proxy`` and ``no_proxy``."""

    def __init__(self, given: str | None) -> None:
        self._given = given
        self._environment = {} if given is not None else getproxies_environment()

    @property
    def used(self) -> bool:
        """Whether any URL goes through a proxy."""
        return bool(self._given or self._environment.keys() - {"no"})

    @property
    def socks(self) -> bool:
        """Whether any URL goes through a SOCKS proxy."""
        return any(is_socks(self._given if self._given is not None else self._of(scheme)) for scheme in _SCHEMES)

    def find(self, url: str) -> str | None:
        """Return the proxy's URL for a request to ``url``, None to go directly.

        A proxy without a scheme is an HTTP proxy. Raises FetchError of kind ``proxy`` for a scheme that nobody speaks:
        going around it could tell what it is there to hide.
        """
        proxy = self._given if self._given is not None else self._by_environment(url)
        if not proxy:
            return None
        scheme, found, _ = proxy.partition("://")
        if not found:
            return f"http://{proxy}"
        if scheme.lower() in _SCHEMES or is_socks(proxy):
            return proxy
        raise FetchError(ErrorKind.PROXY, f"proxy {redact(proxy)} is neither http:// nor https:// nor socks")

    def _by_environment(self, url: str) -> str | None:
        if not self._environment:
            return None
        parts = urlsplit(url)
        if proxy_bypass_environment(parts.netloc, self._environment):
            return None
        return self._of(parts.scheme)

    def _of(self, scheme: str) -> str | None:
        return self._environment.get(scheme) or self._environment.get("all")


def is_socks(proxy: str | None) -> bool:
    """Tell whether a proxy's URL is that of a SOCKS proxy."""
    return proxy is not None and _scheme(proxy) in SOCKS


def looks_up(proxy: str) -> bool:
    """Tell whether this proxy is given names, and not addresses."""
    return SOCKS.get(_scheme(proxy), True)


def _scheme(proxy: str) -> str:
    return proxy.partition("://")[0].lower()
