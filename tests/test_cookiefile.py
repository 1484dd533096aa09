"""Files of cookies: what stands in them, and where it goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.access import Cookie
from fetcher.cookiefile import Shelf, cookies_of
from fetcher.cookies import Cookies
from fetcher.errors import UsageError

NOW = 1_700_000_000.0
HERE = "https://www.example.org/a/b"


def line(domain: str = "www.example.org", below: str = "FALSE", path: str = "/", **more: str) -> str:
    """Return one line of a file."""
    fields = {"secure": "FALSE", "expires": "0", "name": "n", "value": "v", **more}
    return "\t".join((domain, below, path, *fields.values()))


def sent(text: str, url: str = HERE) -> str | None:
    """Return the Cookie field of a request to ``url``."""
    return Cookies(Shelf(cookies_of(text)), lambda: NOW).field(url)


def test_a_file() -> None:
    """Comments and blank lines are passed over; those of HTTP only are none; a value may be empty or odd."""
    text = (
        "\n# Netscape HTTP Cookie File\r\n\n"
        + line(expires="1700000001", value='a="b c"=\u00e9') + "\r\n"
        + "#HttpOnly_" + line(domain=".Example.org", below="TRUE", path="/a", name="x[y]", expires="-1") + "\n"
        + line(name="empty", value="") + "\n"
        + line(name="cut", expires="1700000001.5").removesuffix("\tv")
    )  # fmt: skip
    whole, hidden, *_ = cookies_of(text)
    assert whole == Cookie(
        domain="www.example.org", below=False, path="/", secure=False, expires=NOW + 1, name="n", value='a="b c"=\u00e9'
    )
    assert (hidden.domain, hidden.below, hidden.expires) == ("example.org", True, None)
    assert sent(text) == 'x[y]=v; n=a="b c"=\u00e9; empty=; cut='


@pytest.mark.parametrize(
    "bad",
    [
        "hush",
        line(below="hush"),
        line(secure="hush"),
        line(expires="hush"),
        line(expires="\u0661"),
        line(path="hush"),
        line(domain="."),
        line(name=""),
        line(name="hu=sh"),
        line(value="hush;b=c"),
        line(value="hush\x00"),
        line(value="hush\rX: y"),
        line() + "\thush",
        line(domain="hush").replace("\t", " "),
    ],
)
def test_bad_lines(bad: str) -> None:
    """A line that is no cookie is named by its number, and nothing of it is shown."""
    with pytest.raises(UsageError, match=r"^line 2 is no cookie: 7 fields") as caught:
        cookies_of(f"# a comment\n{bad}\n{line()}")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("cookie", "goes", "stays"),
    [
        (line(), [HERE, "http://www.example.org:81/"], ["http://example.org/", "http://a.www.example.org/"]),
        (
            line(".example.org", "TRUE"),
            ["http://example.org/", "http://a.b.example.org/"],
            ["http://notexample.org/", "http://example.org.evil.net/", "http://org/"],
        ),
        (
            line(path="/a"),
            ["http://www.example.org/a", "http://www.example.org/a/x", "http://www.example.org/a?x"],
            ["http://www.example.org/", "http://www.example.org/ab", "http://www.example.org/b?/a/"],
        ),
        (line(path="/a/"), ["http://www.example.org/a/x"], ["http://www.example.org/a"]),
        (line(secure="TRUE"), [HERE], ["http://www.example.org/"]),
        (line(expires="1699999999"), [], [HERE]),
        (line("127.0.0.1"), ["http://127.0.0.1:8080/"], ["http://1.127.0.0.1/"]),
        (line("0.0.1", "TRUE"), [], ["http://127.0.0.1/"]),
        (line("[::1]"), ["http://[::1]:8080/", "http://[::1]/"], ["http://localhost/"]),
        (line("localhost"), ["http://localhost:8080/"], ["http://x.localhost/"]),
    ],
)
def test_reach(cookie: str, goes: list[str], stays: list[str]) -> None:
    """A cookie goes where it may, and nowhere else, also beside one that a server has set there."""
    assert [url for url in goes if sent(cookie, url) != "n=v"] == []
    assert [url for url in stays if sent(cookie, url)] == []
    for url in goes + stays:
        cookies = Cookies(Shelf(cookies_of(cookie)), lambda: NOW)
        cookies.take(url, (("set-cookie", "set=1; Path=/"),))
        assert set((cookies.field(url) or "").split("; ")) == ({"set=1", "n=v"} if url in goes else {"set=1"})


def test_the_later_line() -> None:
    """Of two lines for one place the later one counts."""
    assert sent(f"{line()}\n{line(value='w')}") == "n=w"


def test_servers_go_first() -> None:
    """What a server sets on the way takes the place of the file's, for good; what it removes is gone."""
    text = f"{line(name='a')}\n{line(name='b')}\n{line(name='c')}\n{line('other.example', name='d')}"
    cookies = Cookies(Shelf(cookies_of(text)), lambda: NOW)
    assert cookies.field(HERE) == "a=v; b=v; c=v"
    cookies.take(HERE, (("set-cookie", "a=new; Path=/"), ("set-cookie", "b=; Path=/; Max-Age=0")))
    assert set((cookies.field(HERE) or "").split("; ")) == {"a=new", "c=v"}
    assert cookies.field("http://other.example/") == "d=v"
    assert set((cookies.field(HERE) or "").split("; ")) == {"a=new", "c=v"}
    assert sent(text) == "a=v; b=v; c=v"


def test_many() -> None:
    """A file may have more for one host than a server may set, and a server may still set its own."""
    text = "\n".join(line(name=f"n{number}") for number in range(80))
    cookies = Cookies(Shelf(cookies_of(text)), lambda: NOW)
    cookies.take(HERE, tuple(("set-cookie", f"s{number}=1; Path=/") for number in range(60)))
    names = [each.partition("=")[0] for each in (cookies.field(HERE) or "").split("; ")]
    assert len([name for name in names if name.startswith("n")]) == 80
    assert len([name for name in names if name.startswith("s")]) == 50


@given(st.text(st.sampled_from("ab.\t\n\r #0T;=\x00\u00e9\u2028")))
def test_any_text(text: str) -> None:
    """Whatever stands in a file, it is refused or goes into one line."""
    for good in (line(), f"\n{line(value='x')}"):
        try:
            field = sent(text + good)
        except UsageError:
            continue
        assert not set("\r\n") & set(field or "")
