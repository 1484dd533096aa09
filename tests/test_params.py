"""What people type on the command line, understood or refused."""

import string
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from fetcher.cli import params
from fetcher.errors import UsageError


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (params.whole, "50", 50),
        (params.whole, " 7 ", 7),
        (params.whole, "0", 0),
        (params.size, "0", 0),
        (params.rotation, "1G", (10**9, None)),
        (params.rotation, "10000x", (None, 10_000)),
        (params.rotation, "7x,3Gi", (3 * 1024**3, 7)),
        (params.size, "1500", 1500),
        (params.size, "1500B", 1500),
        (params.size, "500k", 500_000),
        (params.size, "500 kB", 500_000),
        (params.size, "10M", 10_000_000),
        (params.size, "1.5G", 1_500_000_000),
        (params.size, "2Gi", 2 * 1024**3),
        (params.size, "2gib", 2 * 1024**3),
        (params.size, "1T", 10**12),
        (params.duration, "30", 30.0),
        (params.duration, "30s", 30.0),
        (params.duration, "0.5 s", 0.5),
        (params.duration, "500ms", 0.5),
        (params.duration, "5m", 300.0),
        (params.duration, "2h", 7200.0),
        (params.concurrency, "50", (50, False)),
        (params.concurrency, "auto", (200, True)),
        (params.failures, "50", (50, None)),
        (params.failures, "0", (0, None)),
        (params.failures, "5%", (None, 0.05)),
        (params.failures, "0.5 %", (None, 0.005)),
        (params.rate, "20", 20.0),
        (params.rate, "20/s", 20.0),
        (params.rate, "90 / m", 1.5),
        (params.rate, "0.5", 0.5),
        (params.rate, "36/h", 0.01),
        (params.proxy, "http://proxy:3128", "http://proxy:3128"),
        (params.proxy, "https://u:p@proxy", "https://u:p@proxy"),
        (params.proxy, "proxy:3128", "http://proxy:3128"),
        (params.proxy, "", ""),
        (params.directory, "a/b", Path("a/b")),
        (params.contact, " me@example.com ", "me@example.com"),
        (params.contact, "https://example.com/bot?x=1#a", "https://example.com/bot?x=1#a"),
        (params.field_value, " Mozilla/5.0 (é) ", "Mozilla/5.0 (é)"),
    ],
)
def test_accepted(parse: Callable[[str, str], Any], text: str, value: object) -> None:
    """Numbers come with or without blanks and units."""
    assert parse("--option", text) == value


@pytest.mark.parametrize(
    ("parse", "texts", "message"),
    [
        (params.whole, ["", "x", "-1", "1.5", "5k", "1_0", "٣", "9" * 10], "write a whole number such as 50"),
        (
            params.size,
            ["", "x", "-5", "5x", "5i", "k", "1e3", "1.k", "9" * 16],
            "write a size such as 500k, 10M or 2Gi",
        ),
        (params.duration, ["", "x", "1d", "-1", "1 m s", "inf"], "write a time such as 30, 30s, 5m or 2h"),
        (params.rate, ["", "0", "0.0/s", "-1", "20/d", "/s", "nan"], "write a rate such as 20, 20/s or 100/m"),
    ],
)
def test_refused_numbers(parse: Callable[[str, str], Any], texts: list[str], message: str) -> None:
    """A refusal names the option, repeats what was typed and shows what would be accepted."""
    for text in texts:
        with pytest.raises(UsageError) as refusal:
            parse("--option", text)
        assert str(refusal.value) == f'--option "{text}": {message}'


def test_choice() -> None:
    """One of the words is taken; a refusal lists them."""
    assert params.choice("--progress", "live", ("auto", "live")) == "live"
    with pytest.raises(UsageError, match=r'^--progress "Live": write one of auto, live$'):
        params.choice("--progress", "Live", ("auto", "live"))


@pytest.mark.parametrize(
    "text",
    [
        "ftp://secret:1",
        "socks5://secret:0",
        "http://",
        "http://secret:0",
        "secret:99999",
        "http://[secret",
        "my secret",
        "://secret",
    ],
)
def test_refused_proxies(text: str) -> None:
    """A proxy that cannot be one is refused without being shown: its URL may hold a password."""
    with pytest.raises(UsageError, match=r"^--proxy: write a proxy such as http://proxy:3128$"):
        params.proxy("--proxy", text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", ""),
        ("p:3128", "http://p:3128"),
        ("https://u:p@p:1", "https://u:p@p:1"),
        ("socks5h://u:p@[::1]:1080", "socks5h://u:p@[::1]:1080"),
    ],
)
def test_proxies(text: str, url: str) -> None:
    """A proxy is a URL, http:// unless it says otherwise; nothing is none at all."""
    assert params.proxy("--proxy", text) == url


def test_empty_directory() -> None:
    """An empty directory is a variable that was not set, not the current directory."""
    with pytest.raises(UsageError, match=r'^--output-dir "": write a directory such as fetched$'):
        params.directory("--output-dir", "")


def test_certificates(ca_file: Path, tmp_path: Path) -> None:
    """A file of certificates is read before the run; what is none, or not there, is refused."""
    assert params.certificates("--ca-file", str(ca_file)) == ca_file
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate\n")
    for path, reason in (
        (junk, "write a file of certificates (PEM)"),
        (tmp_path / "none", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(UsageError) as refusal:
            params.certificates("--ca-file", str(path))
        assert str(refusal.value) == f"--ca-file {path}: {reason}"


def test_headers(tmp_path: Path) -> None:
    """Fields keep their order, from arguments and files; a file may have comments, blank lines, CRLF and a BOM."""
    file = tmp_path / "headers"
    file.write_bytes("\ufeffX-B: 2\r\n\n# X-C: 3\nX-D:\tfour: é \n".encode())
    fields = params.headers("--header", ["X-A: 1", f"@{file}", "x-a:", "X-E : 5"])
    assert fields == (("X-A", "1"), ("X-B", "2"), ("X-D", "four: é"), ("x-a", ""), ("X-E", "5"))
    assert params.headers("--header", []) == ()


@pytest.mark.parametrize(
    "text", ["hush", ": hush", "X Y: hush", "X: hush\r\nY: z", "X: \x1bhush", "X: hush\udce9", "é: hush", ""]
)
def test_refused_fields(text: str) -> None:
    """What is no header field is refused without being shown."""
    with pytest.raises(UsageError, match=r"^--header: write a header field such as 'Accept: text/html'$"):
        params.headers("--header", ["X-A: 1", text])


def test_refused_fields_of_files(tmp_path: Path) -> None:
    """What is no header field in a file is refused with its line, without being shown."""
    file = tmp_path / "headers"
    file.write_text("# hush\nX-A: 1\nhush\n")
    with pytest.raises(UsageError) as refusal:
        params.headers("--header", [f"@{file}"])
    assert str(refusal.value) == f"--header @{file}, line 3: write a header field such as 'Accept: text/html'"


@pytest.mark.parametrize(
    "name",
    [
        "Host", "content-length", "Transfer-Encoding", "CONNECTION", "accept-encoding", "TE", "upgrade", "Range",
        "If-Range",
    ],
)  # fmt: skip
def test_fields_that_are_not_the_users(name: str) -> None:
    """What the request itself decides cannot be set."""
    with pytest.raises(UsageError, match=f"^--header: {name} is decided by the request itself$"):
        params.headers("--header", [f"{name}: secret"])


def test_header_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A header file that is not there or no text is refused by name."""
    (tmp_path / "latin").write_bytes(b"X: caf\xe9")
    for name, reason in (("none", "No such file or directory"), ("latin", "not UTF-8"), (".", "Is a directory")):
        with pytest.raises(UsageError) as refusal:
            params.headers("--header", [f"@{tmp_path / name}"])
        assert str(refusal.value) == f"--header @{tmp_path / name}: {reason}"


ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text(string.digits + " ./:kMGisbmh%@[]", max_size=40)


@pytest.mark.parametrize("parse", [params.whole, params.size, params.duration, params.rate])
@given(text=ANY_TEXT)
@example(text="9" * 400)
@example(text="0." + "0" * 400 + "1")
def test_any_number(parse: Callable[[str, str], float], text: str) -> None:
    """Whatever is typed is refused, or a finite number of 0 or more."""
    with suppress(UsageError):
        assert 0 <= parse("--option", text) < inf


@given(ANY_TEXT)
def test_any_proxy(text: str) -> None:
    """Whatever is typed is refused, or a URL that aiohttp takes."""
    with suppress(UsageError):
        URL(params.proxy("--option", text))


@given(ANY_TEXT.map(lambda text: f"X: {text}"))
def test_any_field(text: str) -> None:
    """Whatever is typed is refused, or can be sent as one line."""
    with suppress(UsageError):
        [(_, value)] = params.headers("--option", [text])
        assert not set(value.encode()) & set(b"\r\n\0\x1b\x7f")
        assert params.field_value("--option", value) == value
