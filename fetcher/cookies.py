"""L2: the cookies that one URL's redirects set, kept among themselves by the standard library's jar."""

from email.message import Message
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final
from urllib.request import Request as UrllibRequest

from fetcher.model import Headers

#: A flood beyond this many cookies, or bytes in one of them, is ignored (RFC 6265 section 6.1 asks for 50 and 4096).
_MOST: Final = 50
_LONGEST: Final = 4_096


class _Answer:
    """The part of a response that the jar reads."""

    def __init__(self, fields: list[str]) -> None:
        self._message = Message()
        for value in fields:
            self._message["Set-Cookie"] = value

    def info(self) -> Message:
        return self._message


class Cookies:
    """What the hops before told us to send; domains, paths and ``Secure`` as RFC 6265 says. One for each URL."""

    def __init__(self) -> None:
        self._jar: CookieJar | None = None

    def take(self, url: str, headers: Headers) -> None:
        """Remember what the response from ``url`` set."""
        fields = [value for name, value in headers if name == "set-cookie" and len(value) <= _LONGEST][:_MOST]
        if not fields:
            return
        if self._jar is None:
            self._jar = CookieJar(DefaultCookiePolicy(rfc2965=False, hide_cookie2=True))
        if len(self._jar) < _MOST:
            self._jar.extract_cookies(_Answer(fields), UrllibRequest(url))  # type: ignore[arg-type]  # noqa: S310

    def field(self, url: str) -> str | None:
        """Return the Cookie field value for a request to ``url``, None if there is none."""
        if self._jar is None:
            return None
        request = UrllibRequest(url)  # noqa: S310  nothing is opened
        self._jar.add_cookie_header(request)
        return request.get_header("Cookie")
