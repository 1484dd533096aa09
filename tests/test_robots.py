"""What a robots.txt allows, from its bytes; and who waits to know it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protego import Protego

from fetcher.errors import Error, ErrorKind, FetchError, http_kind
from fetcher.model import Request
from fetcher.robots import MOST_HEEDED, Gate, Rules, UnknownRules, asks_for_rules, group, learned, product_token
from fetcher.urls import parse

ORIGIN = "http://h"


def gate_for(body: bytes | str, error: Error | None = None, token: str = "fetcher", now: float = 0.0) -> Gate:
    """Return a gate that knows this of one origin."""
    gate = Gate(token, 300.0)
    gate.learn(*learned(ORIGIN, error, body.encode() if isinstance(body, str) else body, token), now)
    return gate


def verdict(gate: Gate, path: str, now: float = 0.0) -> str:
    """Spell what the gate says of a path: nothing if it may be fetched."""
    try:
        gate.check(parse(ORIGIN + path), now)
    except FetchError as refusal:
        return refusal.message if refusal.kind == ErrorKind.ROBOTS else refusal.kind
    return ""


def allowed(text: str, path: str, token: str = "fetcher") -> bool:
    """Tell whether a file lets a path be fetched."""
    return not verdict(gate_for(text, token=token), path)


def request(index: int = 0, path: str = "/a") -> Request:
    """Return a request of a list."""
    return Request(index, ORIGIN + path, ORIGIN + path, "h", "list", index + 1)


@pytest.mark.parametrize(
    ("agent", "token"),
    [
        ("fetcher/0.1.0 (+me@example.com)", "fetcher"),
        ("MyBot", "mybot"),
        ("Example-Bot_x/1.0", "example-bot_x"),
        ("Mozilla/5.0 (compatible; Foo/1)", "mozilla"),
        ("", ""),
        ("007", ""),
    ],
)
def test_product_token(agent: str, token: str) -> None:
    """It is the first word of the User-Agent, without its version."""
    assert product_token(agent) == token


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ""),
        ("<html><p>Not Found</p></html>", ""),
        ("Disallow: /", ""),
        ("User-agent: *\nDisallow: /a", "Disallow: /a"),
        ("User-agent: *\nDisallow: /a\nUser-agent: fetcher\nAllow: /b", "Allow: /b"),
        ("User-agent: FETCHER\nDisallow: /a", "Disallow: /a"),
        ("User-agent: fetcher/2.0\nDisallow: /a", "Disallow: /a"),
        ("User-agent: fetch\nDisallow: /a\n\nUser-agent: fetchers\nDisallow: /b", ""),
        ("User-agent: fetcher\n\nUser-agent: *\nDisallow: /a", "Disallow: /a"),
        ("User-agent: fetcher\nDisallow:\n\nUser-agent: *\nDisallow: /a", "Disallow:"),
        ("User-agent: x\nUser-agent: fetcher\nDisallow: /a\nUser-agent: x\nDisallow: /b", "Disallow: /a"),
        ("User-agent: fetcher\nDisallow: /a\nUser-agent: x\nDisallow: /b\nUser-agent: fetcher\nDisallow: /c", "ac"),
        ("User-agent: x\nSitemap: http://h/s\nUser-agent: fetcher\nDisallow: /a", "Disallow: /a"),
        ("User-agent: x\nCrawl-delay: 1\nUser-agent: fetcher\nDisallow: /a", "Disallow: /a"),
        ("user agent fetcher\r\ndisalow /a\r\nCRAWL-DELAY : 2", "disalow /a\nCRAWL-DELAY : 2"),
        ("  useragent:fetcher # us\rDisallow: /a # this", "Disallow: /a # this"),
        ("User-agent: *bot\nDisallow: /", ""),
        ("User-agent:\nDisallow: /", ""),
    ],
)
def test_group(text: str, lines: str) -> None:
    """The rules for us are those of every group with our name, else those for all; nobody else's."""
    assert group(text, "fetcher") == ("Disallow: /a\nDisallow: /c" if lines == "ac" else lines)


def test_without_a_name() -> None:
    """Who has no product token is anyone."""
    assert group("User-agent:\nDisallow: /a\nUser-agent: *\nDisallow: /b", "") == "Disallow: /b"


_lines = st.one_of(
    st.sampled_from(["User-agent: x", "User-agent: fetchers", "Sitemap: /s", "#", "", "Crawl-delay: 9"]),
    st.sampled_from(["Disallow: /", "Allow: /a", "Disallow: /a$", "Disallow: /*b", "useragent y"]),
    st.text(max_size=12).filter(lambda line: "*" not in line and "fetcher" not in line.lower()),
)


@given(st.lists(_lines, max_size=12), st.lists(_lines, max_size=12))
def test_rules_for_others_are_not_ours(before: list[str], after: list[str]) -> None:
    """Whatever stands around our group, in a group of its own, it changes nothing."""
    ours = ["User-agent: z", "Disallow: /z", "User-agent: fetcher", "Disallow: /ours", "User-agent: z", "Disallow: /"]
    text = "\n".join([*before, *ours, "User-agent: z", *after])
    assert group(text, "fetcher") == "Disallow: /ours"


@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    """No file is an error."""
    verdict(gate_for(b"User-agent: *\n" + body), "/a?b=%2f")


@pytest.mark.parametrize(
    ("rules", "path", "answer"),
    [
        ("Disallow: /", "/a", False),
        ("Disallow: /", "/robots.txt", True),
        ("Disallow:", "/a", True),
        ("Disallow: /a", "/ab?c", False),
        ("Disallow: /a/", "/a", True),
        ("Disallow: /a\nAllow: /a/b", "/a/b/c", True),
        ("Allow: /a\nDisallow: /a", "/a", True),
        ("Disallow: /*.gif$", "/x/y.gif", False),
        ("Disallow: /*.gif$", "/x/y.gif?z", True),
        ("Disallow: /*?", "/x?y", False),
        ("Disallow: /%66oo", "/foo", False),
        ("Disallow: /a%2Fb", "/a/b", True),
        ("Disallow: /ä", "/%C3%A4", False),
        ("Disallow: /A", "/a", True),
    ],
)
def test_rules(rules: str, path: str, answer: bool) -> None:
    """The longest match counts, and of equals the one that allows (RFC 9309 section 2.2.2)."""
    assert allowed(f"User-agent: *\n{rules}", path) is answer


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        *((http_kind(status), True) for status in (400, 401, 403, 404, 410, 418, 451, 499)),
        *((http_kind(status), False) for status in (429, 500, 502, 503, 504, 599)),
        *(
            (kind, kind in (ErrorKind.REDIRECT_LIMIT, ErrorKind.REDIRECT_INVALID, ErrorKind.TOO_LARGE))
            for kind in ErrorKind
        ),
    ],
)
def test_without_an_answer(kind: str, answer: bool) -> None:
    """No file is no rule; a server that cannot say, or does not want to be asked now, is left alone, and it is said why."""
    gate = gate_for(b"", Error.of(kind, "so it was"))
    why = "" if answer else "http://h/robots.txt: so it was, so nothing is fetched from there"
    assert verdict(gate, "/a") == why
    assert verdict(gate, "/a", 80_000.0) == why


def test_a_file_that_is_cut() -> None:
    """What is heeded of a long file ends with its last whole line: the rest of a rule may forbid far more."""
    text = b"User-agent: *\nDisallow: /x\nDisallow: /abc"
    gate = gate_for(text[:-2], Error.of(ErrorKind.TOO_LARGE, "long"))
    assert verdict(gate, "/a") == ""
    assert verdict(gate, "/x") == "disallowed by http://h/robots.txt"


@pytest.mark.parametrize(
    ("line", "seconds"), [("2", 2.0), ("0.5", 0.5), ("1e9", 300.0), ("inf", 0.0), ("-1", 0.0), ("x", 0.0)]
)
def test_crawl_delay(line: str, seconds: float) -> None:
    """It is what counts for our name, within reason, or nothing."""
    gate = gate_for(f"User-agent: *\nCrawl-delay: 7\nUser-agent: fetcher\nCrawl-delay: {line}\nDisallow: /b")
    assert gate.check(parse("http://h/a"), 0.0) == seconds


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (b"", None, "allows everything"),
        (b"User-agent: *\nDisallow: /a", None, "obeyed"),
        (b"User-agent: *\nCrawl-delay: 2", None, "obeyed, 2 s between requests"),
        (b"", Error.of("http.404", "404 Not Found"), "404 Not Found, so everything is allowed"),
        (b"", Error.of("dns", "no address for h"), "no address for h, so nothing is fetched from there"),
    ],
)
def test_words(body: bytes, error: Error | None, words: str) -> None:
    """It is said what came of asking."""
    assert Gate("fetcher", 300.0).learn(*learned(ORIGIN, error, body, "fetcher"), 0.0) == words


def test_a_byte_order_mark_and_latin_letters() -> None:
    """Neither keeps the rules around it from being read."""
    text = b"\xef\xbb\xbfUser-agent: *\nDisallow: /\xe9\nDisallow: /a"
    assert verdict(gate_for(text), "/a")


def test_who_waits() -> None:
    """The first makes a request for the rules, which no row asked for; all go on together, in their order."""
    gate = Gate("fetcher", 300.0)
    with pytest.raises(UnknownRules) as unknown:
        gate.check(parse("http://h/a"), 0.0)
    assert unknown.value.origin == ORIGIN
    asking = gate.wait(ORIGIN, request(0))
    assert asking is not None
    assert asks_for_rules(asking)
    assert not asks_for_rules(request(0))
    assert (asking.url, asking.target, asking.host) == ("http://h/robots.txt", "http://h/robots.txt", "h")
    assert gate.wait(ORIGIN, request(1)) is None
    other = gate.wait("https://h", request(2))
    assert other is not None
    assert (other.target, other.host) == ("https://h/robots.txt", "h")
    assert other.index != asking.index
    assert gate.waiting == 3
    assert gate.release(asking) == [request(0), request(1)]
    assert gate.release(asking) == []
    assert gate.waiting == 1


def test_an_origin_whose_host_was_down_is_asked_again() -> None:
    """Who is released without rules has taught nothing."""
    gate = Gate("fetcher", 300.0)
    asking = gate.wait(ORIGIN, request(0))
    assert asking is not None
    gate.release(asking)
    assert gate.wait(ORIGIN, request(1)) is not None


def test_rules_of_yesterday() -> None:
    """After a day an origin is asked again."""
    gate = gate_for("User-agent: *\nDisallow: /a", now=10.0)
    assert verdict(gate, "/a", 86_409.0)
    with pytest.raises(UnknownRules):
        gate.check(parse("http://h/a"), 86_410.0)


def test_rules_are_bounded() -> None:
    """Of very many rules only those used last are known, and fewer are parsed; the others are asked for, or parsed, again."""
    gate = Gate("fetcher", 300.0)
    long = "#" * MOST_HEEDED
    for number in range(100):
        gate.learn(Rules(f"http://h{number}", f"Disallow: /{number}\n{long}"), Protego(), 0.0)
    with pytest.raises(UnknownRules):
        gate.check(parse("http://h0/b"), 0.0)
    gate.check(parse("http://h99/99"), 0.0)  # what was parsed for it has no rules
    with pytest.raises(FetchError):
        gate.check(parse("http://h98/98"), 0.0)


@pytest.mark.parametrize("rule", ["Disallow: /*a", "Allow: /a$"])
def test_rules_with_very_many_wildcards(rule: str) -> None:
    """They would take long for each URL, so nothing is fetched; as many for others are no matter."""
    many = "\n".join(f"{rule}" for _ in range(5_001))
    assert verdict(gate_for(f"User-agent: *\n{many}"), "/b").endswith(
        "more than 5,000 wildcards, so nothing is fetched from there"
    )
    assert verdict(gate_for(f"User-agent: x\n{many}"), "/b") == ""
    assert verdict(gate_for(f"User-agent: *\n{many.partition(chr(10))[2]}"), "/b") == ""


def test_rules_for_very_many_names() -> None:
    """A file with rules for each of many names costs no more than another of its size."""
    names = "\n".join(f"User-agent: a{number}" for number in range(18_000))
    rules = "\n".join(f"Disallow: /{number}" for number in range(15_000))
    gate = gate_for(f"{names}\n{rules}\nUser-agent: *\nDisallow: /b")
    assert verdict(gate, "/1") == ""
    assert verdict(gate, "/b")
