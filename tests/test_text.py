"""Outside text is harmless wherever it is shown; numbers read the way people write them."""

import re
import sys
import unicodedata

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.text import clock_text, harmless_json, middle_cut, printable, seconds_text, size_text, span_text

ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"
BIDI_MARKS = "\u061c\u200e\u200f"
BIDI_CONTROLS = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


def is_harmful(char: str) -> bool:
    """Say by Unicode's own tables what must not reach a terminal."""
    return (
        unicodedata.category(char) in {"Cc", "Zl", "Zp", "Cs"}
        or unicodedata.bidirectional(char) in BIDI_CONTROLS
        or char in ZERO_WIDTH + BIDI_MARKS
    )


EVERYTHING = [chr(code) for code in range(sys.maxunicode + 1)]
HARMFUL = [char for char in EVERYTHING if is_harmful(char)]
#: Text in which harmful characters, quotes and backslashes are common; JSON cannot hold lone surrogates.
NASTY = st.text(
    st.sampled_from([char for char in HARMFUL if unicodedata.category(char) != "Cs"])
    | st.sampled_from('\\"/u x')
    | st.characters(exclude_categories=["Cs"])
)


def test_every_harmful_character_is_escaped_and_no_other() -> None:
    """All of Unicode goes through as it is, but for what a terminal would obey or hide."""
    changed = [char for char in EVERYTHING if printable(char) != char]
    assert changed == HARMFUL


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("Grüße, 世界 🙂", "Grüße, 世界 🙂"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\r\n\tb\x00", r"a\x0d\x0a\x09b\x00"),
        ("\x7f\x9b", r"\x7f\x9b"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\udcff", r"\udcff"),
        ("[bold]:smile:", "[bold]:smile:"),
    ],
)
def test_harmful_characters_are_shown_by_number(text: str, shown: str) -> None:
    """The reader sees that something was there, and what."""
    assert printable(text) == shown


@given(st.text() | NASTY, st.integers(3, 40))
def test_printable_keeps_its_limit(text: str, limit: int) -> None:
    """The limit counts what is shown, escapes included; text that fits is not touched."""
    whole, cut = printable(text), printable(text, limit)
    assert len(cut) <= limit
    assert cut == whole if len(whole) <= limit else cut == whole[: limit - 3] + "..."


@given(NASTY)
def test_harmless_json_is_the_same_value(text: str) -> None:
    """A reader of the line gets every character; a terminal gets none that does harm."""
    line = orjson.dumps({text: [text, 1.5, None]})
    safe = harmless_json(line)
    assert orjson.loads(safe) == orjson.loads(line)
    assert not any(is_harmful(char) for char in safe.decode())


@given(st.text(st.characters(exclude_categories=["Cs"]).filter(lambda char: not is_harmful(char))))
def test_harmless_json_leaves_the_rest_alone(text: str) -> None:
    """Other text stays readable UTF-8."""
    line = orjson.dumps(text)
    assert harmless_json(line) == line


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("abcdefghij", 10, "abcdefghij"),
        ("abcdefghij", 9, "abc...hij"),
        ("abcdefghij", 8, "ab...hij"),
        ("abcdefghij", 4, "...j"),
        ("abcdefghij", 3, "abc"),
        ("abcdefghij", 0, ""),
    ],
)
def test_middle_cut(text: str, width: int, expected: str) -> None:
    """Beginning and end stay, the end by one character more."""
    assert middle_cut(text, width) == expected


@given(st.text(), st.integers(0, 50))
def test_middle_cut_fills_its_width(text: str, width: int) -> None:
    """No column is wasted and none overrun."""
    assert len(middle_cut(text, width)) == min(len(text), width)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (999, "999 B"),
        (999.6, "1.00 kB"),
        (1_000, "1.00 kB"),
        (4_200_000, "4.20 MB"),
        (9_994, "9.99 kB"),
        (9_995, "10.0 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (659_000_000, "659 MB"),
        (3_100_000_000, "3.10 GB"),
        (10**15, "1.00 PB"),
        (12_345 * 10**15, "12345 PB"),
    ],
)
def test_size_text(count: float, expected: str) -> None:
    """Three digits and a unit, in powers of 1000."""
    assert size_text(count) == expected


@given(st.floats(0, 9e17))
def test_size_text_is_short_and_right(count: float) -> None:
    """Seven columns are enough, and what they say is right within half a percent or half a byte."""
    shown = size_text(count)
    number, unit = shown.split()
    assert re.fullmatch(r"\d{1,3}|\d\.\d\d|\d\d\.\d", number)
    value = float(number) * 1000 ** ["B", "kB", "MB", "GB", "TB", "PB"].index(unit)
    assert value == pytest.approx(count, rel=0.00502, abs=0.5)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-1, "0:00:00"), (0, "0:00:00"), (67.9, "0:01:07"), (3_600, "1:00:00"), (360_061, "100:01:01")],
)
def test_clock_text(seconds: float, expected: str) -> None:
    """Hours, minutes and whole seconds that have passed."""
    assert clock_text(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 ms"),
        (0.0484, "48 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (4.1, "4.1 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (14.2, "14 s"),
        (599.4, "599 s"),
        (600, "10 min"),
        (7_250, "121 min"),
    ],
)
def test_span_text(seconds: float, expected: str) -> None:
    """Two or three digits and the unit that fits."""
    assert span_text(seconds) == expected


@pytest.mark.parametrize(("seconds", "expected"), [(30.0, "30 s"), (0.5, "0.5 s"), (7_200, "7200 s")])
def test_seconds_text(seconds: float, expected: str) -> None:
    """A setting is shown as it was written."""
    assert seconds_text(seconds) == expected
