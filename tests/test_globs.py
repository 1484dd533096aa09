"""Patterns in URLs stand for what they stand for in curl."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.errors import ErrorKind, FetchError
from fetcher.globs import MOST, Pattern


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("http://h/a", ["http://h/a"]),
        ("http://h/[1-3]", ["http://h/1", "http://h/2", "http://h/3"]),
        ("[8-11]", ["8", "9", "10", "11"]),
        ("[008-011:3]", ["008", "011"]),
        ("[a-e:2][X-Y]", ["aX", "aY", "cX", "cY", "eX", "eY"]),
        ("{one,two}.[1-2]", ["one.1", "one.2", "two.1", "two.2"]),
        ("{a,}b", ["ab", "b"]),
        ("[5-5]", ["5"]),
        (r"\[1-2\]\{a\}\x", [r"[1-2]{a}\x"]),
        ("http://[::1]:80/[1-2]", ["http://[::1]:80/1", "http://[::1]:80/2"]),
        ("http://u@[fe80::1]/", ["http://u@[fe80::1]/"]),
    ],
)
def test_patterns(text: str, urls: list[str]) -> None:
    """The last part varies fastest, padding stays, an address is none."""
    assert list(Pattern(text)) == urls
    assert len(Pattern(text)) == len(urls)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1-]", "has no pattern at character 1: write [1-100], [a-z:2], {a,b} or \\["),
        ("x{a", "has no pattern at character 2"),
        ("a]", "has no pattern at character 2"),
        ("{}", "has no pattern at character 1"),
        ("{a,{b}}", "has no pattern at character 1"),
        ("[a-Z]", "has no pattern"),
        ("[2-1]", "has a range that does not go up"),
        ("[b-a]", "has a range that does not go up"),
        ("[1-2:0]", "has a range that does not go up"),
        ("[1-10000001]", "stands for 10,000,001 URLs; the most is 10,000,000"),
        ("[1-99999999999999999]" * 9, "the most is 10,000,000"),
        ("[1-4000][1-4000]", "stands for 16,000,000 URLs; the most is 10,000,000"),
        ("http://u:secret@h/[", '"http://***@h/[" has no pattern'),
    ],
)
def test_no_patterns(text: str, reason: str) -> None:
    """What is no pattern, or too many URLs, is refused before there is any."""
    with pytest.raises(FetchError, match=re.escape(reason)) as caught:
        Pattern(text)
    assert caught.value.kind == ErrorKind.INVALID_URL


def test_lazy() -> None:
    """Ten million URLs cost nothing until they are asked for."""
    pattern = Pattern("http://h/[0-9999999]")
    assert len(pattern) == MOST
    assert next(iter(pattern)) == "http://h/0"


@given(st.text("[]{}a1-9:,\\/", max_size=30))
def test_any_text(text: str) -> None:
    """Any text is a pattern of that many different places, or refused; one without brackets and braces is itself."""
    try:
        pattern = Pattern(text)
    except FetchError:
        assert set(text) & set("[]{}")
        return
    if len(pattern) < 1000:
        assert len(list(pattern)) == len(pattern) > 0
    if not set(text) & set("[]{}"):
        assert list(pattern) == [text]
