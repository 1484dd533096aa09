"""What a row says, column by column: what is meant, what cannot be, and the way back."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.columns import row_again, row_of, values_of
from fetcher.details import Details
from fetcher.errors import Error, ErrorKind
from fetcher.model import Outcome, Record, Request, Row, from_line, to_line
from fetcher.plan import Planner, again, planned

URL = "http://h/a"
SHA = "Ab" * 32


@pytest.mark.parametrize(
    ("said", "details"),
    [
        ({}, None),
        ({"id": "", "name": None, "headers": {}, "mirrors": [], "sha256": "", "max_size": None}, None),
        ({"id": 7}, Details(id="7")),
        ({"id": "x/../y"}, Details(id="x/../y")),
        ({"name": "a/b c.html"}, Details(name="a/b c.html")),
        ({"name": "a/...b/.c"}, Details(name="a/...b/.c")),
        ({"sha256": SHA}, Details(sha256=SHA.lower())),
        ({"max_size": 0}, Details(max_size=0)),
        ({"max_size": "1000"}, Details(max_size=1000)),
        ({"mirrors": ["http://i/a", "https://j"]}, Details(mirrors=("http://i/a", "https://j"))),
        ({"mirrors": " http://i/a  https://j "}, Details(mirrors=("http://i/a", "https://j"))),
        ({"headers": {"A": " b ", "C": ["d", "e"]}}, Details(headers=(("A", "b"), ("C", "d"), ("C", "e")))),
        ({"headers": '{"A": "b"}'}, Details(headers=(("A", "b"),))),
        ({"color": "red", "x": [1, None]}, Details(meta={"color": "red", "x": [1, None]})),
    ],
)
def test_columns(said: dict[str, Any], details: Details | None) -> None:
    """Each column has its type; what is empty is not there, what has no meaning is meta."""
    assert row_of("list", 3, {"url": URL, **said}) == Row("list", 3, URL, None, details)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"id": True}, '"id" is neither a text nor a whole number (list:3)'),
        ({"id": {}}, '"id" is neither a text nor a whole number (list:3)'),
        ({"name": 1}, '"name" is not a text (list:3)'),
        *(
            ({"name": name}, '"name" is not a path below the output directory, such as a/b.html (list:3)')
            for name in ("..", "a/../b", "/etc/passwd", "a//b", "a/", "./a", "a/..")
        ),
        ({"name": "a\nb"}, '"name" has characters that cannot be shown (list:3)'),
        ({"name": "a\u202eb"}, '"name" has characters that cannot be shown (list:3)'),
        ({"name": "a" * 1001}, '"name" is longer than 1,000 bytes (list:3)'),
        ({"sha256": SHA[1:]}, '"sha256" is not 64 hex digits (list:3)'),
        ({"sha256": SHA + "\n"}, '"sha256" is not 64 hex digits (list:3)'),
        ({"max_size": -1}, '"max_size" is not a whole number of bytes (list:3)'),
        ({"max_size": "10M"}, '"max_size" is not a whole number of bytes (list:3)'),
        ({"max_size": True}, '"max_size" is not a whole number of bytes (list:3)'),
        ({"mirrors": {"a": 1}}, '"mirrors" is not a list of URLs (list:3)'),
        ({"mirrors": [1]}, '"mirrors" is not a list of URLs (list:3)'),
        ({"mirrors": ["ftp://h"]}, '"mirrors": ftp:// is not fetched; http and https are (list:3)'),
        ({"mirrors": [URL] * 21}, '"mirrors" are more than 20 (list:3)'),
        ({"headers": []}, None),
        ({"headers": "secret"}, '"headers" is not a JSON object (list:3)'),
        ({"headers": ["secret"]}, '"headers" is not an object of names and values (list:3)'),
        ({"headers": {"A": 1}}, '"headers" has a value that is not a text (list:3)'),
        (
            {"headers": {"A": "secret\r\nB: c"}},
            "\"headers\": write a header field such as 'Accept: text/html' (list:3)",
        ),
        ({"headers": {"secret:\n": "b"}}, "\"headers\": write a header field such as 'Accept: text/html' (list:3)"),
        ({"headers": {"Host": "secret"}}, '"headers": Host is decided by the request itself (list:3)'),
        ({"x": orjson.loads("[" * 253 + "]" * 253)}, "nested too deeply (list:3)"),
    ],
)
def test_what_cannot_be_meant(said: dict[str, Any], message: str | None) -> None:
    """The row is bad; the message names the column, and no value of a header field."""
    row = row_of("list", 3, {"url": URL, **said})
    assert (row.error and row.error.kind) == (message and ErrorKind.BAD_RECORD)
    assert (row.error and row.error.message) == message
    assert "secret" not in repr(row)


@pytest.mark.parametrize("url", [None, "", 7, ["http://h/"]])
def test_no_url(url: Any) -> None:
    """A row without a URL stands under the name of its list."""
    row = row_of("list", 3, {"link": url, "url": URL}, "link")
    assert (row.text, row.error and row.error.message) == ("list", 'list:3 has no "link"')


def test_a_bad_row_keeps_what_tells_it_apart() -> None:
    """Whoever joins records with the list finds bad rows too."""
    row = row_of("list", 3, {"url": URL, "id": 5, "color": "red", "max_size": "x"})
    record = Planner().plan(row)
    assert isinstance(record, Record)
    assert (record.url, record.id, record.asked, record.meta) == (URL, "5", None, {"color": "red"})


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS
SAID = st.fixed_dictionaries(
    {},
    optional={
        "id": TEXTS | st.integers(0, 99),
        "name": st.sampled_from(["a", "a/b.c", "..", "ü"]),
        "sha256": st.sampled_from([SHA, "x"]),
        "max_size": st.integers(-1, 99),
        "mirrors": st.lists(st.sampled_from(["http://i/", "https://j/x y"])),
        "x": PLAIN,
        "y": st.lists(PLAIN, max_size=2),
        "outcome": TEXTS,
        "ok": st.booleans(),
    },
)


@given(SAID)
def test_the_way_back(said: dict[str, Any]) -> None:
    """A row is found again in what is written of it, in the record of it, and in that record as a list's object."""
    row = row_of("list", 3, {"url": URL, **said})
    if row.error is not None:
        return
    assert row_of("list", 3, values_of(row)) == row
    request = Planner().plan(row)
    assert isinstance(request, Request)
    record = from_line(to_line(planned(request, None)))
    assert row_again(record) == row
    assert row_of("list", 3, orjson.loads(to_line(record))) == row


def failed(**more: Any) -> Record:
    """Return a record of a failure."""
    error = Error.of(more.pop("kind", "dns"), "so it is")
    return Record(url=URL, source="old", line=9, host="h", outcome=Outcome.FAILED, error=error, **more)


def test_records_are_rows() -> None:
    """What a record tells of its fetch is not taken for what the list asks: its digest was that of a body, not a wish."""
    record = failed(id="7", sha256="ab" * 32, bytes=3, meta={"color": "red", "name": "no"}, asked={"max_size": 5})
    assert row_of("list", 3, orjson.loads(to_line(record))) == Row(
        "list", 3, URL, None, Details(id="7", max_size=5, meta={"color": "red"})
    )


def test_header_fields_do_not_come_back() -> None:
    """Records have their names only, so a row that had some is bad rather than fetched without them."""
    row = row_of("list", 3, {"url": URL, "headers": {"Authorization": "secret"}})
    assert row.details is not None
    assert row.details.asked == {"headers": ["Authorization"]}
    assert values_of(row) == {"url": URL}
    record = failed(asked=row.details.asked)
    assert again(record) is None
    bad = row_of("list", 3, orjson.loads(to_line(record)))
    assert bad.error is not None
    assert bad.error.message == "its header fields stand in the list that it came from, and only there (list:3)"


def test_a_bad_record_stays_one() -> None:
    """What made it bad is not in it, so it must not be fetched as if it had asked for nothing."""
    row = row_of("list", 3, orjson.loads(to_line(failed(kind="bad_record"))))
    assert (row.text, row.error and row.error.message) == (URL, "so it is")


@pytest.mark.parametrize("damage", [{"url": 5}, {"error": "x"}, {"asked": []}, {"meta": 3}, {"asked": {"name": ".."}}])
def test_damaged_records(damage: dict[str, Any]) -> None:
    """What only looks like a record is a bad row, not an exception."""
    row = row_of("list", 3, orjson.loads(to_line(failed())) | damage)
    assert row.error is not None
    assert row.error.kind == ErrorKind.BAD_RECORD


# Repetitions.


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ({"id": "1"}, {"id": "2", "x": 1}, "repeated"),
        ({"name": "a"}, {"name": "a"}, "repeated"),
        ({"name": "a"}, {"name": "b"}, "request"),
        ({"name": "a"}, {}, "request"),
        ({"max_size": 1}, {"max_size": 2}, "repeated"),
        ({"headers": {"A": "b"}}, {"headers": {"A": "b"}}, "repeated"),
        ({"headers": {"A": "b"}}, {"headers": {"A": "c"}}, "bad"),
        ({"headers": {"A": "b"}}, {}, "bad"),
        ({}, {"headers": {"A": "b"}}, "bad"),
        ({}, {"sha256": SHA}, "bad"),
        ({"headers": {"A": "b"}}, {"headers": {"A": "c"}, "name": "c"}, "request"),
    ],
)
def test_repetitions(first: dict[str, Any], second: dict[str, Any], outcome: str) -> None:
    """The same URL under the same name is one thing; rows that disagree about what it is cannot both be served."""
    planner = Planner()
    planner.plan(row_of("list", 1, {"url": URL, **first}))
    decision = planner.plan(row_of("list", 2, {"url": URL, **second}))
    names = {"Repeated": "repeated", "Request": "request", "Record": "bad"}
    assert names[type(decision).__name__] == outcome
    if isinstance(decision, Record):
        assert decision.error is not None
        assert decision.error.message == (
            "line 1 asks for this with other header fields or another sha256: give one of them a name (list:2)"
        )
