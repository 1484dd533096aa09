"""L1: where a redirect leads, and whether it may be followed."""

import re
from typing import Final
from urllib.parse import quote

from fetcher.errors import ErrorKind, FetchError
from fetcher.text import printable
from fetcher.urls import Url, parse, redact

#: The statuses that name another place for the same GET (RFC 9110 section 15.4).
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
#: What a list may not hold, but a server may send.
_BLANK: Final = re.compile("[ \x80-\xa0\u2028\u2029]")
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def next_hop(current: str, status: int, location: str | None) -> Url:
    """Return the URL that a redirect from ``current`` names; a relative one is resolved (RFC 3986 section 5.2).

    Userinfo in it is dropped: a server does not choose who we are.
    Raises FetchError of kind ``redirect.invalid`` when there is no Location or it is no http or https URL.
    """
    if not location:
        raise FetchError(ErrorKind.REDIRECT_INVALID, f"{status} without a Location")
    if _CONTROL.search(location):
        raise FetchError(ErrorKind.REDIRECT_INVALID, f"{status} to a Location with control characters")
    reference = _BLANK.sub(lambda blank: quote(blank[0]), location)
    try:
        if _ABSOLUTE.match(reference) is None:
            from yarl import URL  # noqa: PLC0415  takes 8 ms, and a list of good URLs needs it not

            reference = str(URL(current, encoded=True).join(URL(reference, encoded=True)))
        url = parse(reference)
    except (ValueError, FetchError):
        shown = printable(redact(location), 200)
        raise FetchError(ErrorKind.REDIRECT_INVALID, f"{status} to {shown}") from None
    return Url(url.target, url.scheme, url.host, None)


def location_text(value: bytes) -> str:
    """Return a Location field as text: UTF-8, as browsers send it back, else each odd byte percent-escaped."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in value)
