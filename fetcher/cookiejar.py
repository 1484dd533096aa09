"""L2: cookies of a few hops, kept among themselves by the standard library's jar, which takes 11 ms to import."""

import re
from collections.abc import Iterable
from email.message import Message
from http import cookiejar
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final
from urllib.request import Request as UrllibRequest

from fetcher.access import Cookie
from fetcher.urls import host_of

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


class Jar:
    """What the hops before told us to send; domains, paths and ``Secure`` as RFC 6265 says."""

    def __init__(self) -> None:
        self._jar = CookieJar(DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrictNonDomain))
        self._added: set[Cookie] = set()

    def add(self, url: str, cookies: Iterable[Cookie]) -> None:
        """Take cookies of the user's that go to ``url``, each once, unless there are others in their place."""
        for cookie in cookies:
            if cookie not in self._added:
                self._added.add(cookie)
                taken = _own(cookie, host_of(url.split("/", 3)[2]))
                place = taken.domain, taken.path, taken.name
                if place not in {(each.domain, each.path, each.name) for each in self._jar}:
                    self._jar.set_cookie(taken)

    def take(self, url: str, fields: list[str]) -> None:
        """Remember what the Set-Cookie fields of a response from ``url`` say."""
        kept = [value for value in fields if len(value) <= _LONGEST]
        answer = _Answer(kept[: max(0, _MOST + len(self._added) - len(self._jar))])
        self._jar.extract_cookies(answer, UrllibRequest(url))  # type: ignore[arg-type]  # noqa: S310

    def field(self, url: str) -> str | None:
        """Return the Cookie field value for a request to ``url``, None if there is none."""
        request = UrllibRequest(url)  # noqa: S310  nothing is opened
        self._jar.add_cookie_header(request)
        return request.get_header("Cookie")


def _own(cookie: Cookie, host: str) -> cookiejar.Cookie:
    """Return a cookie as the jar would have it of this host."""
    # A host without a dot has one more name for the jar (RFC 2965).
    alone = host if "." in host else f"{host}.local"
    return cookiejar.Cookie(
        version=0,
        name=cookie.name,
        value=cookie.value,
        port=None,
        port_specified=False,
        domain=f".{cookie.domain}" if cookie.below else alone,
        domain_specified=cookie.below,
        domain_initial_dot=cookie.below,
        path=cookie.path,
        path_specified=True,
        secure=cookie.secure,
        expires=None,  # which the shelf looks after
        discard=True,
        comment=None,
        comment_url=None,
        rest={},
    )
