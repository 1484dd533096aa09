"""L1: a file of cookies, as browsers and curl write them, and which of its cookies go to a URL."""

import re
from collections.abc import Callable, Iterable
from typing import Final

from fetcher.access import Cookie
from fetcher.errors import UsageError
from fetcher.urls import host_of

#: Before the domain of a cookie that scripts of a page may not see, which those who read lines by hand take for a comment.
_HTTP_ONLY: Final = "#HttpOnly_"
#: Domain, whether for names below it too, path, whether for TLS only, the end of its life, name, value.
_FIELDS: Final = 7
_TRUTHS: Final = {"TRUE": True, "FALSE": False}
#: Browsers take more than RFC 6265 allows, but nothing that would end a cookie or a header field.
_NAME: Final = re.compile(r"[\x21-\x3a\x3c\x3e-\x7e\xa0-\ud7ff\ue000-\U0010ffff]+")
_VALUE: Final = re.compile(r"[\x20-\x3a\x3c-\x7e\xa0-\ud7ff\ue000-\U0010ffff]*")
_TIME: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]*)?")
_ADDRESS: Final = re.compile(r"\[.*\]|[0-9.]+")


def cookies_of(text: str) -> tuple[Cookie, ...]:
    """Return the cookies of a file in Netscape's format; raises UsageError for a bad line, of which it shows nothing."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        hidden = line.startswith(_HTTP_ONLY)
        if line.strip() and (hidden or not line.startswith("#")):
            cookie = _cookie(line.removeprefix(_HTTP_ONLY))
            if cookie is None:
                raise UsageError(
                    f"line {number} is no cookie: 7 fields with tabs between them, as browsers export them"
                )
            found.append(cookie)
    return tuple(found)


def _cookie(line: str) -> Cookie | None:
    fields = line.removesuffix("\r").split("\t")
    if len(fields) == _FIELDS - 1:
        fields.append("")  # an editor has cut off the tab before an empty value
    if len(fields) != _FIELDS:
        return None
    domain, below, path, secure, expires, name, value = fields
    good = below in _TRUTHS and secure in _TRUTHS and _TIME.fullmatch(expires) and path.startswith("/")
    if not (good and domain.strip(".") and _NAME.fullmatch(name) and _VALUE.fullmatch(value)):
        return None
    name_of_host = domain.strip(".").lower()
    return Cookie(
        domain=name_of_host,
        below=_TRUTHS[below] and _ADDRESS.fullmatch(name_of_host) is None,
        path=path,
        secure=_TRUTHS[secure],
        expires=float(expires) if float(expires) > 0 else None,
        name=name,
        value=value,
    )


class Shelf:
    """The user's cookies, found by URL. Of two in one place the later one counts; longer paths go first (RFC 6265)."""

    def __init__(self, cookies: Iterable[Cookie] = ()) -> None:
        self._of_domain: dict[str, list[Cookie]] = {}
        last = {(each.domain, each.below, each.path, each.name): each for each in cookies}
        for cookie in sorted(last.values(), key=lambda each: -len(each.path)):
            self._of_domain.setdefault(cookie.domain, []).append(cookie)

    def __bool__(self) -> bool:
        return bool(self._of_domain)

    def of(self, url: str, now: Callable[[], float]) -> list[Cookie]:
        """Return what goes to ``url`` (RFC 6265 section 5.4), time being seconds since 1970."""
        scheme, _, rest = url.partition("://")
        authority, slash, behind = rest.partition("/")
        host, path, secure = host_of(authority), slash + re.split(r"[?#]", behind)[0], scheme == "https"
        found, time, name = [], now(), host
        while name:
            found += [
                cookie
                for cookie in self._of_domain.get(name, ())
                if (cookie.below or name == host)
                and (secure or not cookie.secure)
                and (cookie.expires is None or cookie.expires > time)
                and _is_below(path, cookie.path)
            ]
            name = name.partition(".")[2]
        return sorted(found, key=lambda cookie: -len(cookie.path))


#: Nothing.
EMPTY: Final = Shelf()


def _is_below(path: str, place: str) -> bool:
    """RFC 6265 section 5.1.4."""
    return path == place or (path.startswith(place) and (place.endswith("/") or path[len(place)] == "/"))
