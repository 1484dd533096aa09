"""Where a request goes when its URL has failed."""

from dataclasses import replace

import pytest

from fetcher.details import Details
from fetcher.errors import Error
from fetcher.mirrors import at_mirror
from fetcher.model import Request

MIRRORS = ("https://u:p@i:81/a#x", "http://h/b")
DETAILS = Details(id="7", name="n", headers=(("A", "b"),), mirrors=MIRRORS)
REQUEST = Request(4, "http://h/a", "http://h/a", "h", "list", 5, "me", None, DETAILS)


def test_mirrors_in_order() -> None:
    """Each is asked as the URL that it is; what the request is known by stays, header fields go to its own origin only."""
    first = at_mirror(REQUEST, Error.of("http.404", ""))
    assert first is not None
    assert (first.target, first.host, first.userinfo) == ("https://i:81/a", "i:81", "u:p")
    assert first.details == replace(DETAILS, headers=(), mirrors=MIRRORS[1:])
    second = at_mirror(first, Error.of("timeout.read", ""))
    assert second is not None
    assert (second.target, second.host, second.userinfo) == ("http://h/b", "h", None)
    assert second.details == replace(DETAILS, mirrors=())
    assert {first.key, second.key} == {REQUEST.key}
    assert {(each.url, each.index, each.line) for each in (first, second)} == {("http://h/a", 4, 5)}
    assert first.primary is second.primary is REQUEST
    assert at_mirror(second, Error.of("http.404", "")) is None


@pytest.mark.parametrize("kind", ["cancelled", "disk", "internal"])
def test_what_no_mirror_mends(kind: str) -> None:
    """A full disk is as full for another server's body."""
    assert at_mirror(REQUEST, Error.of(kind, "")) is None


def test_no_mirrors() -> None:
    """Most requests have none."""
    assert at_mirror(replace(REQUEST, details=None)) is None
