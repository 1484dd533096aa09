"""URLs: sent as written, refused when they cannot be, never shown with a password."""

import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fetcher.errors import ErrorKind, FetchError
from fetcher.text import printable
from fetcher.urls import _CLEAN, _CLEAN_HOST, MAX_URL, Url, _parse, parse, redact

#: Every character that RFC 3986 allows somewhere behind the authority, without the fragment's ``#``.
LEGAL = string.ascii_letters + string.digits + "-._~:/?[]@!$&'()*+,;=%"
#: Text with whatever a list may hold, and more often than chance what a URL is made of.
LINES = st.text(st.sampled_from(LEGAL + '#\\ "<>^`{|}\t\x00\x7f\x85\xa0é日ß。\u200d\u2028\ufeff😀') | st.characters())
URLS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["http://", "https://", "HTTP://", "hTtPs://"]),
    st.sampled_from(["", "me@", "me:secret@", "a@b:c@", "é:%20@"]),
    st.sampled_from(
        ["a", "Example.COM", "bücher.de", "127.0.0.1", "[::1]", "[::FFFF:1.2.3.4]", "x_y.z.", "a:80", "a:8080"]
    ),
    st.just("") | LINES.map(lambda line: "/" + line) | LINES.map(lambda line: "?" + line),
)


def refused(text: str) -> FetchError:
    """Return the error that the line becomes."""
    with pytest.raises(FetchError) as caught:
        parse(text)
    return caught.value


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://example.com/a%2Fb%3Ac%40d%28%7E%29?e=%2f+%20&f",
        "http://example.com:8080/a;b=c,d/(e)/[f]/g:h@i!$&'*+=~",
        "https://example.com/?",
        "https://example.com/?a?b/c#".removesuffix("#"),
        "http://example.com/a/../b/./c//d",
        "http://example.com/100%/%zz/%",
        "http://127.0.0.1:1/x",
        "http://[::1]:8080/x",
        "http://xn--bcher-kva.example/",
        "http://under_score.example./x",
        "http://example.com/http://user:pw@other/",
    ],
)
def test_a_legal_url_is_sent_byte_for_byte(url: str) -> None:
    """Signed URLs break if anything is escaped, unescaped, sorted or resolved."""
    assert parse(url).target == url


@given(st.text(LEGAL))
def test_nothing_legal_is_rewritten(rest: str) -> None:
    """Path and query are what the list says, whatever it says."""
    assert parse(f"https://example.com/{rest}").target == f"https://example.com/{rest}"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h/é/日?q=ß", "http://h/%C3%A9/%E6%97%A5?q=%C3%9F"),
        ("http://h/😀", "http://h/%F0%9F%98%80"),
        ('http://h/a|b^c`d{e}f"g<h>', "http://h/a%7Cb%5Ec%60d%7Be%7Df%22g%3Ch%3E"),
        ("http://h\\a\\b", "http://h/%5Ca%5Cb"),
        ("http://h/\u202e\u3000\ufeff", "http://h/%E2%80%AE%E3%80%80%EF%BB%BF"),
        ("http://h/é%20%C3%A9", "http://h/%C3%A9%20%C3%A9"),
    ],
)
def test_what_is_illegal_is_escaped_as_utf8_and_nothing_else(url: str, target: str) -> None:
    """People and browsers write such URLs; escapes that are there already stay."""
    assert parse(url).target == target


@pytest.mark.parametrize(
    ("url", "target", "host"),
    [
        ("HTTP://EXAMPLE.com/A", "http://example.com/A", "example.com"),
        ("http://h", "http://h/", "h"),
        ("http://h?a", "http://h/?a", "h"),
        ("http://h#a", "http://h/", "h"),
        ("http://h/a#b?c#d", "http://h/a", "h"),
        ("http://h:80/", "http://h/", "h"),
        ("https://h:443/", "https://h/", "h"),
        ("http://h:00080/", "http://h/", "h"),
        ("http://h:/", "http://h/", "h"),
        ("http://h:443/", "http://h:443/", "h:443"),
        ("https://h:80/", "https://h:80/", "h:80"),
        ("http://h:01/", "http://h:1/", "h:1"),
        ("http://h:65535", "http://h:65535/", "h:65535"),
        ("http://[0:0::1]:80/", "http://[::1]/", "[::1]"),
        ("http://[2001:DB8::A]:81/", "http://[2001:db8::a]:81/", "[2001:db8::a]:81"),
    ],
)
def test_scheme_host_and_port_are_normalised(url: str, target: str, host: str) -> None:
    """They are compared by case-blind rules (RFC 3986 section 6.2), so one spelling stands for all."""
    parsed = parse(url)
    assert (parsed.target, parsed.host) == (target, host)
    assert parsed.origin == target[: target.index("/", 8)] == f"{parsed.scheme}://{host}"


@pytest.mark.parametrize(
    ("host", "ascii_host"),
    [
        ("Bücher.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("βόλος.com", "xn--nxasmm1c.com"),
        ("a\u0301.example", "xn--1ca.example"),
        ("☃.net", "xn--n3h.net"),
        ("日本。jp", "xn--wgv71a.jp"),
        ("EXAMPLE。com", "example.com"),
        ("ex\u00adample.com", "example.com"),
        ("\uff11\uff12\uff17.0.0.1", "127.0.0.1"),
    ],
)
def test_names_are_mapped_as_browsers_do(host: str, ascii_host: str) -> None:
    """UTS 46 without the transitional step: sharp s and final sigma stay themselves, they name other domains."""
    assert parse(f"http://{host}/").host == ascii_host


@pytest.mark.parametrize(
    "host",
    [
        "", ":80", "\u00ad", ".", ".a", "a..b", "a..", "-a", "a-", "a.-b", "a,b", "a%20b", "a%2eb", "{}", "{0}", "a*b", "[",
        "[]", "[::1", "[::1]x", "[::g]", "[v1.a]", "[1.2.3.4]", "[::1%25eth0]", "[::1%eth0]", "[fe80::1%1]", "::1", "a]",
        "a:b", "a:-1", "a:+1", "a:0", "a:65536", "a:000080", "a:1:2", "a:\u0665", "a:\uff15", "a:1x", "[::1]:x", "[::1]:0",
        "ex\uff0fa", "a\u2100b", "a\uff20b", "a\uff1a80", "a\u2024b\uff03", "\ufffd", "a.\u0378", "a.b\u200b.ü..c",
        "a" * 64, "ü" * 64, ".".join(["a" * 63] * 4), "a." * 126 + "bc", "é" * 10_000,
        "".join(map(chr, range(0x4E00, 0x9E00))),
    ],
)  # fmt: skip
def test_a_host_or_port_that_cannot_be_is_refused_at_once(host: str) -> None:
    """No name is looked up, no port guessed, no IPv6 zone sent, and no long name encoded for minutes."""
    error = refused(f"http://{host}/x")
    assert error.kind == ErrorKind.INVALID_URL
    assert re.search(
        r"^(no host|not a host name|not an IPv6 address|an IPv6 zone has no place|port is not .*) in \"", str(error)
    )


def test_a_name_may_be_as_long_as_dns_allows() -> None:
    """253 characters in labels of at most 63 (RFC 1035 section 2.3.4), a final dot not counted."""
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    for host in (longest, longest + ".", "a." * 126 + "b"):
        assert parse(f"http://{host}/").host == host
    assert refused(f"http://{longest}d/").kind == ErrorKind.INVALID_URL


@pytest.mark.parametrize(
    ("character", "what", "write"),
    [
        (" ", "blank", "%20"),
        ("\xa0", "blank", "%C2%A0"),
        ("\x00", "control character", "%00"),
        ("\t", "control character", "%09"),
        ("\r", "control character", "%0D"),
        ("\n", "control character", "%0A"),
        ("\x7f", "control character", "%7F"),
        ("\x85", "control character", "%C2%85"),
        ("\u2028", "control character", "%E2%80%A8"),
    ],
)
def test_blanks_and_control_characters_are_refused_wherever_they_are(character: str, what: str, write: str) -> None:
    """They could split a request; the message says where they are and what to write."""
    for before, after in (
        ("http://h", "/x"),
        ("http://h:", "80/"),
        ("http://u", "@h/"),
        ("http://h/a", "b"),
        ("http://h/#", ""),
    ):
        error = refused(before + character + after)
        assert error.kind == ErrorKind.INVALID_URL
        assert str(error).startswith(f"{what} at character {len(before) + 1} of ")
        assert str(error).endswith(f"; write {write}")


def test_a_lone_surrogate_is_refused() -> None:
    """It is no character, so it has no bytes to send."""
    for code in (0xD800, 0xDC80, 0xDFFF):
        assert refused(f"http://h/{chr(code)}").kind == ErrorKind.INVALID_URL


@pytest.mark.parametrize(
    "text",
    [
        "", "not a url", "example.com/x", "//example.com/x", "/x", "localhost:8080/x", "http", "http:", "http:/", "http:x",
        "http:/h/", "https:\\\\h\\", ":http://h/", "1http://h/", "ht tp://h/", " http://h/", "\ufeffhttp://h/", "<http://h/>",
    ],
)  # fmt: skip
def test_no_scheme_is_guessed(text: str) -> None:
    """A line that does not start with a scheme is no URL, and the message shows it."""
    error = refused(text)
    assert error.kind == ErrorKind.INVALID_URL
    assert str(error) == f'not a URL: "{text}"'.replace("\ufeff", "\\ufeff")


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("ftp://h/", "ftp://"), ("FTP://h/", "ftp://"), ("file:///etc/passwd", "file://"), ("ws://h/", "ws://"),
        ("httpx://h/", "httpx://"), ("s3://bucket/key", "s3://"), ("data:,x", "data"), ("javascript:alert(1)", "javascript"),
        ("mailto:me@example.com", "mailto"), ("JavaScript://%0aalert(1)", "javascript://"),
    ],
)  # fmt: skip
def test_only_http_and_https_are_fetched(text: str, scheme: str) -> None:
    """Another scheme is named in the message, with those that work."""
    error = refused(text)
    assert error.kind == ErrorKind.UNSUPPORTED_SCHEME
    assert str(error) == f"{scheme} is not fetched; http and https are"


@pytest.mark.parametrize(
    ("url", "userinfo", "host"),
    [
        ("http://me@h/", "me", "h"),
        ("http://me:pw@h:81/", "me:pw", "h:81"),
        ("http://me:p%40w:x@h/", "me:p%40w:x", "h"),
        ("http://a@b@h/", "a@b", "h"),
        ("http://é:ü@h/", "é:ü", "h"),
        ("http://:@h/", ":", "h"),
        ("http://@h/", None, "h"),
        ("http://good.example\\@h/", None, "good.example"),
        ("http://h/me:pw@x", None, "h"),
        ("http://h?me:pw@x", None, "h"),
        ("http://h#me:pw@x", None, "h"),
    ],
)
def test_userinfo_is_taken_off_the_target(url: str, userinfo: str | None, host: str) -> None:
    """It is kept as written, apart; and it ends where the authority does, as in browsers."""
    parsed = parse(url)
    assert (parsed.userinfo, parsed.host) == (userinfo, host)
    assert parsed.target.startswith(f"http://{host}/")


def test_the_key_tells_users_apart() -> None:
    """The same address asked for as somebody else may give something else."""
    keys = {parse(f"http://{user}h/x").key for user in ("", "me@", "me:pw@", "you@")}
    assert len(keys) == 4
    assert parse("HTTP://me@H:80/x#y").key == parse("http://me@h/x").key


def test_a_url_has_a_longest_length() -> None:
    """It counts as written and as sent: what is escaped gets longer, what is a fragment counts too."""
    base = "http://h/"
    room = MAX_URL - len(base)
    assert parse(base + "a" * room).target == base + "a" * room
    assert len(parse(base + "é" * (room // 6)).target) <= MAX_URL
    for rest in ("a" * (room + 1), "#" + "a" * room, "é" * (room // 6 + 1)):
        assert re.fullmatch(r"URL of [0-9,]+ characters; the most is 65,536", str(refused(base + rest)))
    assert refused("http://" + "u" * MAX_URL + "@h/").kind == ErrorKind.INVALID_URL


@given(
    st.from_regex(_CLEAN, fullmatch=True)
    | st.from_regex(_CLEAN_HOST, fullmatch=True).map(lambda host: f"http://{host}/a?b")
)
@example("http://h:80/")
@example("https://h:443/")
@example("http://h:443/")
@example("https://h:80/")
@example("http://h:65535/")
@example("http://h:65536/")
@example("http://h:99999/")
@example("http://" + "a." * 30 + "b/")
@example("http://" + ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61]) + "/")
@example("http://" + ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 62]) + "/")
def test_the_fast_path_is_only_faster(text: str) -> None:
    """A line that needs no work becomes the same URL, or the same error, as by the long way."""

    def outcome(of: object) -> Url | str:
        try:
            return parse(text) if of is parse else _parse(text)
        except FetchError as error:
            return str(error)

    assert outcome(parse) == outcome(_parse)


@given(URLS | LINES)
@example("http://h/" + "é" * 10_000)
def test_a_target_is_a_url_that_parses_to_itself(text: str) -> None:
    """Whatever is accepted is plain ASCII, has no blank, and survives being parsed again; all else is a FetchError."""
    try:
        url = parse(text)
    except FetchError as error:
        assert error.kind in (ErrorKind.INVALID_URL, ErrorKind.UNSUPPORTED_SCHEME)  # noqa: PT017
        return
    assert re.fullmatch(r"[\x21-\x7e]+", url.target)
    assert "#" not in url.target
    assert parse(url.target) == Url(url.target, url.scheme, url.host, None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pw@h/x", "http://***@h/x"),
        ("HTTPS://me@h", "HTTPS://***@h"),
        ("http://a@b:c@h/x@y", "http://***@h/x@y"),
        ("http://me:p\\w@h/", "http://***@h/"),
        ("socks5://me:pw@h:1", "socks5://***@h:1"),
        ("me:pw@h/x", "***@h/x"),
        ("//me:pw@h/x", "//***@h/x"),
        ("http:/me:pw@h/x", "http:/***@h/x"),
        ("http:///me:pw@h/x", "http:///***@h/x"),
        (" \x00http://me:pw@h/x", " \x00http://***@h/x"),
        ("http://h/?next=https://me:pw@h2/", "http://h/?next=https://***@h2/"),
        ("http://***@h/", "http://***@h/"),
        ("http://h/@me", "http://h/@me"),
        ("http://h?a=b@c", "http://h?a=b@c"),
        ("http://h#b@c", "http://h#b@c"),
        ("http://h:80/a/b:c@d", "http://h:80/a/b:c@d"),
        ("lists@2026.txt", "lists@2026.txt"),
        ("@secrets", "@secrets"),
        ("", ""),
    ],
)
def test_what_people_see_has_no_password(text: str, shown: str) -> None:
    """User and password are blotted out, also in a mistyped URL; what only looks like them is left alone."""
    assert redact(text) == shown


@given(
    before=st.sampled_from(["http://", "https://", "ftp://", "//", "http:/", " http://", "\thttp://", ""]),
    user=st.text(st.sampled_from("ab:%\\ é\x00@[]{}!"), max_size=5),
    padding=st.sampled_from([0, 10, 300]),
    after=st.sampled_from(["h/", "h:99999/", "h:x", "[::1", "", "a b/", "-/", "[::1%1]/", "h/ ", "{}/", ":@h", "é..ü"]),
)
def test_no_message_tells_a_password(before: str, user: str, padding: int, after: str) -> None:
    """Whatever is wrong with a line, and however long its password, the message keeps it to itself."""
    text = f"{before}{user}:S{'x' * padding}CRET@{after}"
    assert "CRET" not in redact(text)
    try:
        parse(text)
    except FetchError as error:
        assert not re.search("CRET|xxxx|:S", str(error))  # noqa: PT017


@given(URLS)
def test_redacting_twice_is_redacting_once(text: str) -> None:
    """What is redacted can be redacted again on its next way to the screen."""
    assert redact(redact(text)) == redact(text)


@given(st.text(max_size=50))
@example("://")
@example(":")
def test_a_message_is_short_and_harmless(text: str) -> None:
    """A long or hostile line leaves room for the rest of the message, and cannot move the cursor."""
    error = refused("x" * 300 + text)
    assert len(str(error)) < 230
    assert printable(str(error)) == str(error)
