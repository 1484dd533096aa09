"""L2: the cookies that one URL's redirects set, kept among themselves by the standard library's jar."""

import re
from email.message import Message
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final
from urllib.request import Request as UrllibRequest

from fetcher.model import Headers

#: A flood beyond this many cookies, or bytes in one of them, is ignored (RFC 6265 section 6.1 asks for 50 and 4096).
_MOST: Final = 50
_LONGEST: Final = 4_096

#: The standard library's jar drops all cookies of a response, with a warning, over a Max-Age without a value.
_BARE_MAX_AGE: Final = re.compile(r";\s*max-age\s*(?=;|\Z)", re.IGNORECASE)


class _Answer:
    """The part of a response that the jar reads."""

    def __init__(self, fields: list[str]) -> None:
        self._message = Message()
        for value in fields:
            self._message["Set-Cookie"] = _BARE_MAX_AGE.sub("", value)

    def info(self) -> Message:
        return self._message


class Cookies:
    """What the hops before told us to send; domains, paths and ``Secure`` as RFC 6265 says. One for each URL."""

    def __init__(self) -> None:
        self._jar: CookieJar | None = None

    def take(self, url: str, headers: Headers) -> None:
        """Remember what the response from ``url`` set."""
        fields = [value for name, value in headers if name == "set-cookie" and len(value) <= _LONGEST]
        if not fields:
            return
        if self._jar is None:
            self._jar = CookieJar(DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrictNonDomain))
        answer = _Answer(fields[: _MOST - len(self._jar)])
        self._jar.extract_cookies(answer, UrllibRequest(url))  # type: ignore[arg-type]  # noqa: S310

    def field(self, url: str) -> str | None:
        """Return the Cookie field value for a request to ``url``, None if there is none."""
        if self._jar is None:
            return None
        request = UrllibRequest(url)  # noqa: S310  nothing is opened
        self._jar.add_cookie_header(request)
        return request.get_header("Cookie")
