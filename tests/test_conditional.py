"""Validators that prove two bodies equal, and the 206 that may be joined to what is held."""

from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.conditional import (
    _HTTP_DATE,
    Held,
    Part,
    _seconds,
    condition,
    is_part,
    remainder,
    renewed,
    strong_validator,
)
from fetcher.model import Head

DATE = "Tue, 14 Nov 2023 22:14:20 GMT"
EARLIER = "Tue, 14 Nov 2023 22:13:20 GMT"
HELD = Held(100, '"v1"')


def test_fields() -> None:
    """The rest is asked for by its first byte, under the validator."""
    assert HELD.fields == (("Range", "bytes=100-"), ("If-Range", '"v1"'))


@given(
    st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001  UTC is added
        lambda moment: format_datetime(moment.replace(tzinfo=UTC), usegmt=True)
    )
    | st.from_regex(_HTTP_DATE, fullmatch=True)
)
def test_dates_are_those_of_the_standard_library(date: str) -> None:
    """Reading them by hand changes no second, and what is no day or hour is no date."""
    try:
        expected = parsedate_to_datetime(date).timestamp()
    except ValueError:
        expected = None
    assert _seconds(date) == expected


@pytest.mark.parametrize(
    ("etag", "modified", "date", "validator"),
    [
        ('"v1"', None, None, '"v1"'),
        ('"v1"', EARLIER, DATE, '"v1"'),
        ('W/"v1"', EARLIER, DATE, None),
        ("v1", None, None, None),
        ('""', None, None, None),
        ('"a b"', None, None, None),
        ('"a"b"', None, None, None),
        ('"\xe9"', None, None, None),
        ('"\udcff"', None, None, None),
        ('"a\r\nX: y"', None, None, None),
        (f'"{"x" * 256}"', None, None, f'"{"x" * 256}"'),
        (f'"{"x" * 257}"', None, None, None),
        (None, EARLIER, DATE, EARLIER),
        (None, "Tue, 14 Nov 2023 22:13:21 GMT", DATE, None),
        (None, DATE, EARLIER, None),
        (None, EARLIER, None, None),
        (None, None, DATE, None),
        (None, "Tue, 99 Nov 2023 22:13:20 GMT", DATE, None),
        (None, "2023-11-14", DATE, None),
        (None, f"{EARLIER}\n", DATE, None),
        (None, EARLIER.replace("GMT", "+0000"), DATE, None),
    ],
)
def test_strong_validator(etag: str | None, modified: str | None, date: str | None, validator: str | None) -> None:
    """A strong ETag counts, else a date that was a minute old; nothing that could not be said back (RFC 9110 8.8)."""
    assert strong_validator(etag, modified, date) == validator


@pytest.mark.parametrize(
    ("etag", "modified", "asked"),
    [
        ('"v1"', None, ("If-None-Match", '"v1"')),
        ('W/"v1"', EARLIER, ("If-None-Match", 'W/"v1"')),
        (None, EARLIER, ("If-Modified-Since", EARLIER)),
        ("v1", EARLIER, ("If-Modified-Since", EARLIER)),
        ('w/"v1"', None, None),
        ('W/ "v1"', None, None),
        ("*", None, None),
        ('"a", "b"', None, None),
        ('"a\r\nX: y"', None, None),
        ('"\xe9"', None, None),
        (f'W/"{"x" * 257}"', None, None),
        (None, "yesterday", None),
        (None, f"{EARLIER}\r\nX: y", None),
        (None, None, None),
    ],
)
def test_condition(etag: str | None, modified: str | None, asked: tuple[str, str] | None) -> None:
    """Any ETag is said back, else the date, and nothing that is neither (RFC 9110 13.1.2, 13.1.3)."""
    assert condition(etag, modified) == (() if asked is None else (asked,))


@pytest.mark.parametrize(
    ("etag", "modified", "told"),
    [(None, None, ('"v1"', EARLIER)), ('"v2"', None, ('"v2"', EARLIER)), (None, DATE, ('"v1"', DATE))],
)
def test_renewed(etag: str | None, modified: str | None, told: tuple[str, str]) -> None:
    """A 304 tells of its exchange and may tell new validators; what it says of a body is not about ours."""
    kept = Head(200, "http://h/", "1.0", "192.0.2.9", "text/html", "utf-8", '"v1"', EARLIER)
    head = Head(304, "http://h/", "1.1", "192.0.2.1", "text/plain", None, etag, modified)
    assert renewed(kept, head) == Head(304, "http://h/", "1.1", "192.0.2.1", "text/html", "utf-8", *told)


@pytest.mark.parametrize(
    ("content_range", "etag", "modified", "rest"),
    [
        ("bytes 100-299/300", '"v1"', None, 200),
        ("BYTES 100-100/101", '"v1"', DATE, 1),
        ("bytes 100-299/300", None, None, None),
        ("bytes 100-299/300", '"v2"', None, None),
        ("bytes 100-299/300", 'W/"v1"', None, None),
        ("bytes 100-298/300", '"v1"', None, None),
        ("bytes 100-300/300", '"v1"', None, None),
        ("bytes 99-299/300", '"v1"', None, None),
        ("bytes 101-299/300", '"v1"', None, None),
        ("bytes 0-299/300", '"v1"', None, None),
        ("bytes 100-99/100", '"v1"', None, None),
        ("bytes 100-299/*", '"v1"', None, None),
        ("bytes */300", '"v1"', None, None),
        ("bytes=100-299/300", '"v1"', None, None),
        ("bytes 100-299/300, bytes 0-1/300", '"v1"', None, None),
        (f"bytes 100-{10**30}/{10**30 + 1}", '"v1"', None, None),
        ("bytes \u0661\u0660\u0660-299/300", '"v1"', None, None),
        (None, '"v1"', None, None),
    ],
)
def test_remainder(content_range: str | None, etag: str | None, modified: str | None, rest: int | None) -> None:
    """Only what starts where asked, goes to the end and names the same version is the rest (RFC 9110 15.3.7)."""
    assert remainder(HELD, content_range, etag, modified) == rest


def test_remainder_by_date() -> None:
    """A date that was the validator must come back unchanged."""
    held = Held(1, EARLIER)
    assert remainder(held, "bytes 1-9/10", None, EARLIER) == 9
    assert remainder(held, "bytes 1-9/10", '"new"', EARLIER) == 9
    assert remainder(held, "bytes 1-9/10", None, DATE) is None
    assert remainder(held, "bytes 1-9/10", None, None) is None


@given(size=st.integers(1, 50), first=st.integers(0, 60), last=st.integers(0, 60), total=st.integers(0, 60))
def test_rest_makes_whole(size: int, first: int, last: int, total: int) -> None:
    """What is held and its rest are as many bytes as the whole."""
    rest = remainder(Held(size, '"v"'), f"bytes {first}-{last}/{total}", '"v"', None)
    assert rest is None or (first == size and size + rest == total == last + 1)
    assert (rest is not None) == (first == size <= last == total - 1)


@pytest.mark.parametrize(
    ("content_range", "etag", "modified", "good"),
    [
        ("bytes 100-199/300", '"v1"', None, True),
        ("BYTES 100-199/300", '"v1"', DATE, True),
        ("bytes 100-199/300", None, '"v1"', True),
        ("bytes 100-199/300", None, None, False),
        ("bytes 100-199/300", '"v2"', None, False),
        ("bytes 100-199/300", 'W/"v1"', None, False),
        ("bytes 100-198/300", '"v1"', None, False),
        ("bytes 100-299/300", '"v1"', None, False),
        ("bytes 101-199/300", '"v1"', None, False),
        ("bytes 100-199/301", '"v1"', None, False),
        ("bytes 100-199/*", '"v1"', None, False),
        ("bytes */300", '"v1"', None, False),
        (None, '"v1"', None, False),
    ],
)
def test_is_part(content_range: str | None, etag: str | None, modified: str | None, good: bool) -> None:
    """Only just the bytes that were asked for, of the same version and size, are the part."""
    part = Part(100, 200, 300, '"v1"')
    assert part.fields == (("Range", "bytes=100-199"), ("If-Range", '"v1"'))
    assert is_part(part, content_range, etag, modified) is good
