"""L2: the cookies of one URL: those that its redirects set, which no other URL's requests carry, and the user's own."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from fetcher.cookiefile import EMPTY, Shelf
from fetcher.model import Headers

if TYPE_CHECKING:
    from fetcher.cookiejar import Jar


class Cookies:
    """What the user's ``shelf`` and then the hops before told us to send. One for each URL; most have none.

    ``now`` is asked only if there is something on the shelf.
    """

    def __init__(self, shelf: Shelf = EMPTY, now: Callable[[], float] = float) -> None:
        self._shelf = shelf
        self._now = now
        self._jar: Jar | None = None

    def take(self, url: str, headers: Headers) -> None:
        """Remember what the response from ``url`` set, which goes before what was there."""
        fields = [value for name, value in headers if name == "set-cookie"]
        if not fields:
            return
        if self._jar is None:
            from fetcher.cookiejar import Jar  # noqa: PLC0415  few lists need one

            self._jar = Jar()
        self._jar.add(url, self._shelf.of(url, self._now))
        self._jar.take(url, fields)

    def field(self, url: str) -> str | None:
        """Return the Cookie field value for a request to ``url``, None if there is none."""
        if self._jar is None and not self._shelf:
            return None
        found = self._shelf.of(url, self._now)
        if self._jar is None:
            return "; ".join(f"{cookie.name}={cookie.value}" for cookie in found) or None
        self._jar.add(url, found)
        return self._jar.field(url)
