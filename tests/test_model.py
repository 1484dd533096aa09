"""A record and its line of JSON are the same thing, for every text the world can send."""

import pickle
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.errors import Error, ErrorKind
from fetcher.model import RECORD_KEYS, Outcome, Record, Redirect, Request, Timings, from_line, timestamp, to_line

#: Section 3 of the contract: names and order of the keys. Keys are only ever added, at the end or in their group.
CONTRACT = (
    "url id asked source line host final_url outcome ok status error path offset length bytes wire_bytes sha256 content_type charset "
    "etag last_modified http_version remote_ip redirects attempts retried resumed_from started_at elapsed timings "
    "headers duplicate_of changed previous_sha256 warnings meta"
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
MAYBE_TEXT = st.none() | TEXT
COUNT = st.integers(0, 2**53)
SECONDS = st.floats(0, 1e9)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
RECORDS = st.builds(
    Record,
    url=TEXT,
    id=MAYBE_TEXT,
    source=TEXT,
    line=COUNT,
    host=MAYBE_TEXT,
    final_url=MAYBE_TEXT,
    outcome=st.sampled_from(Outcome),
    status=st.none() | st.integers(100, 599),
    error=st.none() | st.builds(Error.of, st.sampled_from(ErrorKind), TEXT),
    path=MAYBE_TEXT,
    bytes=st.none() | COUNT,
    wire_bytes=COUNT,
    content_type=MAYBE_TEXT,
    etag=MAYBE_TEXT,
    redirects=st.lists(st.builds(Redirect, st.integers(300, 399), TEXT), max_size=3).map(tuple),
    attempts=COUNT,
    retried=st.lists(TEXT, max_size=3).map(tuple),
    elapsed=SECONDS,
    timings=st.none() | st.builds(Timings, dns=st.none() | SECONDS, wait=st.none() | SECONDS),
    asked=st.none() | st.dictionaries(TEXT, JSON, max_size=2),
    headers=st.none() | st.dictionaries(TEXT, st.lists(TEXT, max_size=2), max_size=2),
    duplicate_of=st.none() | COUNT,
    changed=st.none() | st.booleans(),
    previous_sha256=MAYBE_TEXT,
    warnings=st.lists(TEXT, max_size=2).map(tuple),
    meta=st.none() | st.dictionaries(TEXT, JSON, max_size=3),
)
SMALLEST = Record(url="http://a/", source="urls.txt", line=1, outcome=Outcome.PLANNED)


def test_the_keys_are_those_of_the_contract() -> None:
    """Scripts depend on the names; people depend on the order."""
    assert " ".join(RECORD_KEYS) == CONTRACT


@given(RECORDS)
def test_a_record_survives_its_line(record: Record) -> None:
    """What the journal gives back is what was put in."""
    assert from_line(to_line(record)) == record


@given(RECORDS)
def test_a_record_is_one_line_with_every_key(record: Record) -> None:
    """A line ends where the record ends, whatever its text, and unknown values are null, not absent."""
    line = to_line(record)
    assert line.endswith(b"}\n")
    assert len(line.decode().splitlines()) == 1
    values = orjson.loads(line)
    assert " ".join(values) == CONTRACT
    assert values["ok"] is record.ok is (record.outcome != "failed")
    assert values["url"] == record.url


@given(RECORDS)
def test_a_line_says_what_the_record_says(record: Record) -> None:
    """No key is given another one's value, and each has its own name; whatever orjson would make of it is made."""
    plain = {key: getattr(record, key) for key in RECORD_KEYS}
    assert orjson.loads(to_line(record)) == orjson.loads(orjson.dumps(plain))


def test_a_terminal_may_show_any_line() -> None:
    """No byte of a line can move a cursor, whatever a server sent."""
    line = to_line(Record(url="\x1b\x7f\x9b\u202e\u2028", source="-", line=1, outcome=Outcome.FETCHED))
    assert line.startswith(rb'{"url":"\u001b\u007f\u009b\u202e\u2028",')


def test_nested_values_have_the_contracts_form() -> None:
    """Errors, redirects and timings are objects under the documented names."""
    record = Record(
        url="http://a/",
        source="-",
        line=1,
        outcome=Outcome.FAILED,
        error=Error.of("http.404", "404 Not Found"),
        redirects=(Redirect(301, "http://a/"),),
        timings=Timings(wait=0.25),
    )
    values = orjson.loads(to_line(record))
    assert values["error"] == {"kind": "http.404", "message": "404 Not Found", "transient": False}
    assert values["redirects"] == [{"status": 301, "url": "http://a/"}]
    assert list(values["timings"]) == ["blocked", "dns", "connect", "tls", "send", "wait", "receive"]
    assert values["timings"]["wait"] == 0.25


def test_a_line_of_a_later_version_is_read() -> None:
    """Keys are only ever added, so a key that is not known is no error."""
    values = orjson.loads(to_line(SMALLEST)) | {"added_later": [1]}
    assert from_line(orjson.dumps(values)) == SMALLEST


def test_a_line_of_an_earlier_version_is_read() -> None:
    """Keys that were not known yet take their defaults."""
    assert from_line(b'{"url":"http://a/","source":"urls.txt","line":1,"outcome":"planned"}') == SMALLEST


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"url"',
        b"{}",
        b'{"outcome":"fetched"}',
        b'{"url":"u","source":"-","line":1}',
        b'{"url":"u","source":"-","line":1,"outcome":"eaten"}',
        b'{"url":"u","source":"-","line":1,"outcome":["fetched"]}',
        b'{"url":"u","source":"-","line":1,"outcome":"failed","error":"why"}',
        b'{"url":"u","source":"-","line":1,"outcome":"failed","error":{"kind":"dns"}}',
        b'{"url":"u","source":"-","line":1,"outcome":"fetched","redirects":[1]}',
        b'{"url":"u","source":"-","line":1,"outcome":"fetched","timings":[]}',
        b'{"url":"\xff","source":"-","line":1,"outcome":"fetched"}',
    ],
)
def test_what_is_no_record_is_a_value_error(line: bytes) -> None:
    """A damaged line is one kind of error, whatever the damage."""
    with pytest.raises(ValueError, match=r"."):
        from_line(line)


@given(RECORDS, st.data())
def test_a_torn_line_is_never_a_record(record: Record, draw: st.DataObject) -> None:
    """A crash in the middle of a write leaves nothing that could be mistaken for a record."""
    line = to_line(record).rstrip(b"\n")
    with pytest.raises(ValueError, match=r"."):
        from_line(line[: draw.draw(st.integers(0, len(line) - 1))])


@given(RECORDS)
def test_a_record_crosses_processes(record: Record) -> None:
    """Workers send records to their parent."""
    assert pickle.loads(pickle.dumps(record)) == record


def test_requests_of_different_users_differ() -> None:
    """The same address asked for under another name is another request; the source line does not matter."""
    request = Request(index=0, url="http://a/", target="http://a/", host="a", source="-", line=1)
    anonymous = replace(request, index=7, line=8, url="HTTP://A/")
    users = {replace(request, userinfo=userinfo).key for userinfo in ("ann", "ann:x", "bob", "")}
    assert anonymous.key == request.key
    assert len(users | {request.key}) == 5


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_795_230_000.1239, "2026-11-21T03:00:00.123Z"),
        (951_782_400.5, "2000-02-29T00:00:00.500Z"),
        (951_782_399.999_999_9, "2000-02-29T00:00:00.000Z"),
        (-0.001, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_timestamps_are_utc_with_milliseconds(epoch: float, expected: str) -> None:
    """They sort as text and mean the same everywhere."""
    assert timestamp(epoch) == expected


@given(st.floats(0, 4e9))
def test_timestamps_are_the_standard_librarys(epoch: float) -> None:
    """Putting them together by hand changes no digit."""
    exact = datetime.fromtimestamp(epoch, UTC)
    assert timestamp(epoch) == exact.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_values_behave_as_frozen_ones_do() -> None:
    """They are equal and have one hash if their fields are; they have no room for anything else."""
    one, other = (Redirect(301, "http://a/") for _ in range(2))
    assert one == other
    assert len({one, other, Redirect(302, "http://a/")}) == 2
    with pytest.raises(AttributeError):
        one.extra = 1  # type: ignore[attr-defined]
