"""L2: which proxy a URL goes through."""

from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]


class Proxies:
    """The proxy that was given, else the environment's ``http_proxy``, ``https_proxy`` and ``no_proxy``."""

    def __init__(self, given: str | None) -> None:
        self._given = given
        self._environment = {} if given is not None else getproxies_environment()

    def find(self, url: str) -> str | None:
        """Return the proxy's URL for a request to ``url``, None to go directly."""
        if self._given is not None:
            return self._given or None
        if not self._environment:
            return None
        parts = urlsplit(url)
        proxy = self._environment.get(parts.scheme) or self._environment.get("all")
        if proxy is None or proxy_bypass_environment(parts.netloc, self._environment):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"
