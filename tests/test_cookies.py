"""Cookies among the redirects of one URL."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetcher.cookies import Cookies

HERE = "http://www.example.org/a/b"


def sent(url: str, *fields: str, setter: str = HERE) -> set[str]:
    """Return the cookies that go to ``url`` after ``setter`` has set these fields."""
    cookies = Cookies()
    cookies.take(setter, tuple(("set-cookie", field) for field in fields))
    return set((cookies.field(url) or "").split("; ")) - {""}


@pytest.mark.parametrize(
    ("field", "goes", "stays"),
    [
        # Host-only, RFC 6265 section 5.4.
        ("a=1; Path=/", ["http://www.example.org/", "http://www.example.org:81/x", "http://WWW.example.org/"],
         ["http://example.org/", "http://x.www.example.org/", "http://www.example.com/", "http://ww.example.org/"]),
        # Domain, section 5.1.3: the name itself and what is below it.
        ("a=1; Path=/; Domain=example.org", ["http://www.example.org/", "http://x.example.org/", "http://example.org/"],
         ["http://notexample.org/", "http://example.org.evil.net/"]),
        ("a=1; Path=/; Domain=.example.org", ["http://x.example.org/"], ["http://notexample.org/"]),
        # Not ours to set for.
        ("a=1; Path=/; Domain=example.com", [], ["http://example.com/", HERE]),
        ("a=1; Path=/; Domain=x.example.org", [], ["http://x.example.org/"]),
        ("a=1; Path=/; Domain=org", [], ["http://example.org/"]),
        # Path, section 5.1.4: whole parts; by default that of the setter.
        ("a=1; Path=/a", ["http://www.example.org/a", "http://www.example.org/a/x", "http://www.example.org/a?x"],
         ["http://www.example.org/", "http://www.example.org/ab", "http://www.example.org/b/a"]),
        ("a=1", ["http://www.example.org/a/c"], ["http://www.example.org/", "http://www.example.org/x"]),
        # Secure.
        ("a=1; Path=/; Secure", ["https://www.example.org/"], ["http://www.example.org/"]),
        # Other attributes.
        ("a=1; Path=/; HttpOnly; SameSite=Strict; Partitioned; Priority=High", ["http://www.example.org/"], []),
        ("a=1; Path=/; Max-Age=60", ["http://www.example.org/"], []),
        ("a=1; Max-Age ; Path=/; max-age", ["http://www.example.org/"], []),
        ("a=1; Path=/; Max-Age=0", [], ["http://www.example.org/"]),
        ("a=1; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT", [], ["http://www.example.org/"]),
    ],
)  # fmt: skip
def test_reach(field: str, goes: list[str], stays: list[str]) -> None:
    """A cookie goes where it may, and nowhere else."""
    assert [url for url in goes if sent(url, field) != {"a=1"}] == []
    assert [url for url in stays if sent(url, field)] == []


def test_values_as_they_are() -> None:
    """Values go back as they came, quotes and odd characters included, several in one field."""
    fields = ['a="b c"', "d=e=f==", "g=", "h=\xe9", "i=%20"]
    assert sent(HERE, *fields) == set(fields)


def test_replaced_and_removed() -> None:
    """A later value replaces an earlier one; an old date removes it."""
    cookies = Cookies()
    cookies.take(HERE, (("set-cookie", "a=1"), ("set-cookie", "b=1")))
    cookies.take(HERE, (("set-cookie", "a=2"), ("set-cookie", "b=; Max-Age=0"), ("x-other", "c=1")))
    assert cookies.field(HERE) == "a=2"


def test_none() -> None:
    """Without a cookie there is no field."""
    cookies = Cookies()
    assert cookies.field(HERE) is None
    cookies.take(HERE, (("content-type", "text/html"),))
    assert cookies.field(HERE) is None


def test_nothing_across_urls() -> None:
    """What one URL's hops have set does not reach another URL, even of the same host."""
    first, second = Cookies(), Cookies()
    first.take(HERE, (("set-cookie", "a=1"),))
    assert first.field(HERE) == "a=1"
    assert second.field(HERE) is None


def test_addresses() -> None:
    """Cookies work for addresses too, and stay with theirs."""
    for host in ("127.0.0.1", "[::1]", "localhost"):
        assert sent(f"http://{host}:8080/", "a=1", setter=f"http://{host}:8080/") == {"a=1"}
        assert sent("http://127.0.0.2/", "a=1", setter=f"http://{host}/") == set()


def test_floods() -> None:
    """However many and long they are and however often they come, 50 cookies of 4 kB are the most."""
    cookies = Cookies()
    for hop in range(30):
        cookies.take(HERE, tuple(("set-cookie", f"c{hop}-{n}={'x' * n}") for n in range(0, 6_000, 100)))
    field = cookies.field(HERE) or ""
    assert len(field.split("; ")) == 50
    assert max(map(len, field.split("; "))) <= 4_096


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(codec="latin-1"), max_size=60), max_size=5))
def test_any_text(values: list[str]) -> None:
    """Whatever a server sets, it breaks nothing, and no field grows a line."""
    cookies = Cookies()
    cookies.take(HERE, tuple(("set-cookie", value.replace("\r", "").replace("\n", "")) for value in values))
    assert not set("\r\n") & set(cookies.field(HERE) or "")


PARTS = ["a", "=", ";", " ", '"', ",", "Path", "Domain", "Expires", "Max-Age", "Version=1", "Port", "/", ".", "-1", "9" * 30,
         "Thu, 01 Jan 1970 00:00:00 GMT", "99 Feb 99999 99:99:99", "\t", "example.org", "\\", "\xff", "$"]  # fmt: skip


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
def test_any_attributes(value: str) -> None:
    """However attributes are mangled, reading them neither fails nor warns."""
    sent(HERE, value)
