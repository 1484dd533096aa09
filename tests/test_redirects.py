"""Redirects: where they lead, and which lead nowhere."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.errors import ErrorKind, FetchError
from fetcher.redirects import REDIRECTS, location_text, next_hop

BASE = "http://a/b/c/d;p?q"


def refused(location: str | None, current: str = BASE) -> str:
    """Return the message of the failure that the redirect becomes."""
    with pytest.raises(FetchError) as caught:
        next_hop(current, 302, location)
    assert caught.value.kind == ErrorKind.REDIRECT_INVALID
    return str(caught.value)


def test_the_statuses_are_those_of_a_get() -> None:
    """300 offers a choice, 304 has no body, 305 and 306 are history (RFC 9110 section 15.4)."""
    assert {301, 302, 303, 307, 308} == REDIRECTS


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("g", "http://a/b/c/g"), ("./g", "http://a/b/c/g"), ("g/", "http://a/b/c/g/"), ("/g", "http://a/g"),
        ("//g", "http://g/"), ("?y", "http://a/b/c/d;p?y"), ("g?y", "http://a/b/c/g?y"), ("#s", BASE),
        ("g#s", "http://a/b/c/g"), ("g?y#s", "http://a/b/c/g?y"), (";x", "http://a/b/c/;x"), ("g;x", "http://a/b/c/g;x"),
        ("g;x?y#s", "http://a/b/c/g;x?y"), (".", "http://a/b/c/"), ("./", "http://a/b/c/"), ("..", "http://a/b/"),
        ("../", "http://a/b/"), ("../g", "http://a/b/g"), ("../..", "http://a/"), ("../../", "http://a/"),
        ("../../g", "http://a/g"),
    ],
)  # fmt: skip
def test_the_standards_normal_examples(location: str, target: str) -> None:
    """RFC 3986 section 5.4.1, without the fragment, which is not sent."""
    assert next_hop(BASE, 302, location).target == target


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("../../../g", "http://a/g"), ("../../../../g", "http://a/g"), ("/./g", "http://a/g"), ("/../g", "http://a/g"),
        ("g.", "http://a/b/c/g."), (".g", "http://a/b/c/.g"), ("g..", "http://a/b/c/g.."), ("..g", "http://a/b/c/..g"),
        ("./../g", "http://a/b/g"), ("./g/.", "http://a/b/c/g/"), ("g/./h", "http://a/b/c/g/h"),
        ("g/../h", "http://a/b/c/h"), ("g;x=1/./y", "http://a/b/c/g;x=1/y"), ("g;x=1/../y", "http://a/b/c/y"),
        ("g?y/./x", "http://a/b/c/g?y/./x"), ("g?y/../x", "http://a/b/c/g?y/../x"), ("g#s/./x", "http://a/b/c/g"),
    ],
)  # fmt: skip
def test_the_standards_abnormal_examples(location: str, target: str) -> None:
    """RFC 3986 section 5.4.2; ``http:g`` is refused below, as strict parsers may."""
    assert next_hop(BASE, 302, location).target == target


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://b.example:444/%2F%3a?%2f+%20", "https://b.example:444/%2F%3a?%2f+%20"),
        ("HTTP://B.example:80", "http://b.example/"),
        ("http://b/x?", "http://b/x?"),
        ("http://b/a/../x", "http://b/a/../x"),
        ("/%2F%2E%2e/%zz?a=%7E", "http://a/%2F%2E%2e/%zz?a=%7E"),
        ("/a b", "http://a/a%20b"),
        ("http://b/a b\xa0c\x85d\u2028e", "http://b/a%20b%C2%A0c%C2%85d%E2%80%A8e"),
        ("/é?ü=日", "http://a/%C3%A9?%C3%BC=%E6%97%A5"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("//bücher.example/", "http://xn--bcher-kva.example/"),
        ("//[::1]:81/x", "http://[::1]:81/x"),
        ('/a|b"<>^`{}', "http://a/a%7Cb%22%3C%3E%5E%60%7B%7D"),
        ("a/b:c", "http://a/b/c/a/b:c"),
        ("./a:b", "http://a/b/c/a:b"),
        ("/" + "x" * 60_000, "http://a/" + "x" * 60_000),
    ],
)
def test_a_location_is_followed_as_the_server_wrote_it(location: str, target: str) -> None:
    """What is legal stays byte for byte; blanks and other characters are escaped as browsers do."""
    assert next_hop(BASE, 302, location).target == target


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/\\evil.example/x", "http://a/%5Cevil.example/x"),
        ("\\\\evil.example\\x", "http://a/b/c/%5C%5Cevil.example%5Cx"),
        ("http://b\\@evil.example/", "http://b/%5C@evil.example/"),
        ("//b/\\..\\x", "http://b/%5C..%5Cx"),
    ],
)
def test_a_backslash_never_chooses_the_host(location: str, target: str) -> None:
    """What one client takes for a path and another for a host is a path here."""
    assert next_hop(BASE, 302, location).target == target


def test_the_scheme_is_inherited_and_may_change_between_the_two() -> None:
    """A relative reference stays on https; an absolute one may leave it."""
    assert next_hop("https://a:444/b", 301, "//c/d").target == "https://c/d"
    assert next_hop("https://a:444/b", 301, "c").target == "https://a:444/c"
    assert next_hop("https://a/b", 301, "http://a/b").origin == "http://a"


@pytest.mark.parametrize("location", ["http://me:pw@b/x", "//me:pw@b/x", "http://me@b:80/x"])
def test_userinfo_in_a_location_is_dropped(location: str) -> None:
    """A server does not choose who we are."""
    url = next_hop(BASE, 302, location)
    assert (url.target, url.userinfo, url.key) == ("http://b/x", None, "http://b/x")


@pytest.mark.parametrize("location", [None, ""])
def test_no_location_is_a_failure(location: str | None) -> None:
    """There is nowhere to go, and the message says so."""
    assert refused(location) == "302 without a Location"


@pytest.mark.parametrize("character", [*map(chr, range(0x20)), "\x7f"])
def test_control_characters_are_refused(character: str) -> None:
    """Browsers drop some of them, which lets a Location read two ways; and the message does not repeat them."""
    assert refused(f"http://b/{character}x") == "302 to a Location with control characters"
    assert refused(f"{character}/x") == "302 to a Location with control characters"


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd", "ftp://b/", "gopher://b:70/_x", "data:text/html,x", "javascript:alert(1)", "mailto:a@b.example",
        "ws://b/", "about:blank", "g:h", "http:g", "http:/b/", "http:///b/", "http:\\\\b\\x", "http://", "https://:80/",
        "http://b:99999/", "http://b:x/", "//b:99999/", "http://b c/", "http://-b/", "http://b%2ec/", "//[::1", "//[::1%25x]/",
        "//b\\@evil.example/", "http://\uff0f/", "http://\ud800/", "http://b/" + "x" * 65_536, "/" + "é" * 20_000,
    ],
)  # fmt: skip
def test_what_is_no_good_url_is_refused(location: str) -> None:
    """Only http and https, a host that can be looked up, a port there is; however long, the message is short."""
    assert re.fullmatch(r"302 to .{1,200}", refused(location))


def test_a_refusal_does_not_repeat_a_password() -> None:
    """Messages are read by more people than responses."""
    assert refused("ftp://me:secret@b/x") == "302 to ftp://***@b/x"
    assert refused("http://me:" + "secret" * 50 + "@b:x/") == "302 to http://***@b:x/"


@given(st.sampled_from(["", "/", "//", "?", "http://", "https://b/", "\\", "../"]), st.text())
def test_every_location_is_a_url_or_a_refusal(start: str, rest: str) -> None:
    """Whatever a server sends, the next request is plain ASCII to an http or https origin, or there is none."""
    try:
        url = next_hop(BASE, 307, start + rest)
    except FetchError as error:
        assert error.kind == ErrorKind.REDIRECT_INVALID  # noqa: PT017
        return
    assert re.fullmatch(r"https?://[\x21-\x7e]+", url.target)
    assert url.userinfo is None


@given(st.text(st.sampled_from("ab/.?;=%&é "), max_size=20))
def test_a_relative_location_stays_with_its_server(rest: str) -> None:
    """No path, however made of dots, leaves the origin."""
    assert next_hop(BASE, 302, "./" + rest).origin == "http://a"


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (b"/plain%20x", "/plain%20x"),
        ("/é日".encode(), "/é日"),
        (b"/caf\xe9", "/caf%E9"),
        ("/é".encode() + b"\xff", "/%C3%A9%FF"),
        (b"/\xc3", "/%C3"),
        (b"", ""),
    ],
)
def test_a_location_field_is_text(field: bytes, text: str) -> None:
    """UTF-8 if it is that; else the very bytes come back to the server, escaped."""
    assert location_text(field) == text


@given(st.binary())
def test_every_field_reaches_the_server_as_it_was_sent(field: bytes) -> None:
    """The text, escaped as UTF-8, is the field with its odd bytes escaped."""
    escaped = re.sub(
        rb"%([89A-F][0-9A-F])", lambda match: bytes.fromhex(match[1].decode()), location_text(field).encode()
    )
    assert escaped == re.sub(rb"%([89A-F][0-9A-F])", lambda match: bytes.fromhex(match[1].decode()), field)
