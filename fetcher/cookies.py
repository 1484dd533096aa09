"""L2: the cookies that one URL's redirects set; no other URL's requests carry them."""

from typing import TYPE_CHECKING

from fetcher.model import Headers

if TYPE_CHECKING:
    from fetcher.cookiejar import Jar


class Cookies:
    """What the hops before told us to send. One for each URL; most have none."""

    def __init__(self) -> None:
        self._jar: Jar | None = None

    def take(self, url: str, headers: Headers) -> None:
        """Remember what the response from ``url`` set."""
        fields = [value for name, value in headers if name == "set-cookie"]
        if not fields:
            return
        if self._jar is None:
            from fetcher.cookiejar import Jar  # noqa: PLC0415  few lists need one

            self._jar = Jar()
        self._jar.take(url, fields)

    def field(self, url: str) -> str | None:
        """Return the Cookie field value for a request to ``url``, None if there is none."""
        return None if self._jar is None else self._jar.field(url)
