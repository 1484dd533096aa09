"""Plans: every row becomes one decision, and what was asked for before is known."""

from dataclasses import fields, replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.errors import Error, ErrorKind
from fetcher.model import Head, Kept, Outcome, Record, Redirect, Request, Row, Stored, Timings
from fetcher.plan import Planner, Repeated, carried, compared, planned
from fetcher.urls import parse

REQUEST = Request(4, "http://h/x#y", "http://h/x", "h", "urls.txt", 5)
#: A record with something in every field.
FULL = Record(
    url="http://h/X", id="7", source="old.txt", line=99, host="old", final_url="http://h/z", outcome=Outcome.FETCHED,
    status=200, path="h/x.html", offset=3, length=40, bytes=12, wire_bytes=9, sha256="ab" * 32, content_type="text/html", charset="utf-8",
    etag='"x"', last_modified="yesterday", http_version="1.1", remote_ip="192.0.2.1", redirects=(Redirect(301, "http://h/x"),),
    attempts=2, retried=("dns",), resumed_from=3, started_at="2026-11-21T03:00:00.000Z", elapsed=1.5, timings=Timings(dns=0.1),
    headers={"etag": ['"x"']}, asked={"name": "n"}, duplicate_of=1, changed=True, previous_sha256="cd" * 32,
    warnings=("length_unknown",), meta={"a": 1},
)  # fmt: skip


def rows(*texts: str, source: str = "urls.txt") -> list[Row]:
    """Make the rows of a list."""
    return [Row(source, line, text) for line, text in enumerate(texts, start=1)]


def decisions(*given: Row) -> list[Request | Repeated | Record]:
    """Plan them in this order."""
    planner = Planner()
    return [planner.plan(row) for row in given]


def repetitions(*texts: str) -> list[int | None]:
    """Return for each text the line that it repeats."""
    return [decision.of if isinstance(decision, Repeated) else None for decision in decisions(*rows(*texts))]


def test_a_row_becomes_a_request() -> None:
    """The URL stands as written and as sent; rows are counted from 0, lines from 1."""
    assert decisions(Row("urls.txt", 17, "HTTP://me:pw@H:81/é#x")) == [
        Request(0, "HTTP://me:pw@H:81/é#x", "http://h:81/%C3%A9", "h:81", "urls.txt", 17, "me:pw")
    ]


@pytest.mark.parametrize(
    ("texts", "repeated"),
    [
        (["http://h/a", "http://h/b", "http://h/a"], [None, None, 1]),
        (["http://h/a", "http://h/a", "http://h/a"], [None, 1, 1]),
        (["http://h/a", "HTTP://H:80/a#b", "http://h/a#c"], [None, 1, 1]),
        (["http://h/é", "http://h/%C3%A9"], [None, 1]),
        (["http://h", "http://h/", "http://@h/"], [None, 1, 1]),
        (["http://h/a", "http://h/A", "http://h/a?", "http://h/a/", "https://h/a", "http://h:81/a"], [None] * 6),
        (["http://h/%2f", "http://h/%2F", "http://h//"], [None] * 3),
        (["http://h/a", "http://me@h/a", "http://me:pw@h/a", "http://you@h/a", "http://me@h/a"], [None] * 4 + [2]),
        (["junk", "junk", "http://h/a", "junk", "http://h/a"], [None, None, None, None, 3]),
    ],
)
def test_only_what_asks_for_the_same_is_a_repetition(texts: list[str], repeated: list[int | None]) -> None:
    """Spelling and fragment do not matter, the user does; a repetition names the first line, never another repetition."""
    assert repetitions(*texts) == repeated


def test_two_lists_may_repeat_each_other_on_the_same_line() -> None:
    """Rows are told apart by their place in the run, not by their line in a source."""
    first, again, other = decisions(
        *rows("http://h/a", source="one"), *rows("http://h/a", source="two"), *rows("http://h/b", source="three")
    )
    assert isinstance(first, Request)
    assert again == Repeated(Request(1, "http://h/a", "http://h/a", "h", "two", 1), 1)
    assert isinstance(other, Request)


def test_a_repetition_is_a_request_of_its_own() -> None:
    """Its record tells its own line, URL as written and index."""
    assert decisions(*rows("http://h/a", "http://h/a#z"))[1] == Repeated(
        Request(1, "http://h/a#z", "http://h/a", "h", "urls.txt", 2), 1
    )


@pytest.mark.parametrize("line", [0, 1, 2**31, 2**32 - 1])
def test_any_line_number_is_remembered(line: int) -> None:
    """Lists of four thousand million lines keep their numbers."""
    planner = Planner()
    planner.plan(Row("a", 3, "http://h/other"))
    planner.plan(Row("a", line, "http://h/a"))
    decision = planner.plan(Row("a", 5, "http://h/a"))
    assert isinstance(decision, Repeated)
    assert decision.of == line


def test_a_bad_line_is_a_record() -> None:
    """It tells what is wrong and where, and has no host, because there is none."""
    assert decisions(Row("urls.txt", 12, "example.com/x")) == [
        Record(
            url="example.com/x",
            source="urls.txt",
            line=12,
            outcome=Outcome.FAILED,
            error=Error("invalid_url", 'not a URL: "example.com/x" (urls.txt:12)', transient=False),
        )
    ]


def test_the_line_is_told_however_bad_it_is() -> None:
    """A long line full of control characters leaves room for its place in the message."""
    (record,) = decisions(Row("urls.txt", 12, "\x1b" * 5_000))
    assert isinstance(record, Record)
    assert record.error is not None
    assert record.error.message.endswith(" (urls.txt:12)")


def test_what_the_source_knows_to_be_bad_is_not_looked_at() -> None:
    """Its error stands as it is, even for a text that would be a URL; and it repeats nothing."""
    error = Error.of(ErrorKind.BAD_RECORD, "urls.txt:1 is not UTF-8")
    bad = Row("urls.txt", 1, "http://h/a", error)
    (record, request, again) = decisions(bad, Row("urls.txt", 2, "http://h/a"), bad)
    assert record == again == Record(url="http://h/a", source="urls.txt", line=1, outcome=Outcome.FAILED, error=error)
    assert isinstance(request, Request)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["one", "two"]),
            st.sampled_from(["http://h/a", "http://H/a#x", "http://me@h/a", "http://i/a", "ftp://h/a", "a b", ""])
            | st.text(),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_every_row_gets_one_decision(given: list[tuple[str, str, bool]]) -> None:
    """A record for a bad row, a request the first time, then repetitions of that line; nothing else, nothing twice."""
    planner, first, index = Planner(), dict[str, int](), count()
    for line, (source, text, known_bad) in enumerate(given, start=1):
        row = Row(source, line, text, Error.of("bad_record", "bad") if known_bad else None)
        decision, place = planner.plan(row), next(index)
        if isinstance(decision, Record):
            assert (decision.url, decision.source, decision.line) == (text, source, line)
            assert decision.outcome is Outcome.FAILED
            assert decision.error is not None
            continue
        request = decision.request if isinstance(decision, Repeated) else decision
        assert (request.index, request.url, request.source, request.line) == (place, text, source, line)
        assert request.key == parse(text).key
        assert (decision.of if isinstance(decision, Repeated) else line) == first.setdefault(request.key, line)
        assert not known_bad


def test_a_dry_run_tells_the_path() -> None:
    """Nothing was sent, so nothing else is known; ``planned`` is ok."""
    record = planned(REQUEST, "h/x.html")
    assert record == Record(
        url="http://h/x#y", source="urls.txt", line=5, host="h", outcome=Outcome.PLANNED, path="h/x.html"
    )
    assert record.ok


def test_what_is_there_already_is_told_of_again() -> None:
    """The file and what was known of it, with the line of this run, and nothing about the exchange of an earlier one."""
    assert all(getattr(FULL, field.name) not in (None, (), 0) for field in fields(Record) if field.name != "error")
    kept = (
        "final_url", "status", "path", "offset", "length", "bytes", "sha256", "content_type", "charset", "etag", "last_modified", "http_version",
        "remote_ip", "headers",
    )  # fmt: skip
    assert carried(REQUEST, FULL, Outcome.SKIPPED) == Record(
        url="http://h/x#y",
        source="urls.txt",
        line=5,
        host="h",
        outcome=Outcome.SKIPPED,
        **{name: getattr(FULL, name) for name in kept},
    )


@pytest.mark.parametrize(
    ("etag", "modified", "conditional", "asked"),
    [
        ('W/"x"', None, True, (("If-None-Match", 'W/"x"'),)),
        (None, "Tue, 14 Nov 2023 22:13:20 GMT", True, (("If-Modified-Since", "Tue, 14 Nov 2023 22:13:20 GMT"),)),
        (None, None, True, ()),
        ('"x"', None, False, ()),
    ],
)
def test_what_is_kept_goes_with_the_request(
    etag: str | None, modified: str | None, conditional: bool, asked: tuple[tuple[str, str], ...]
) -> None:
    """Its file, what was told of it, and, if the server is to be asked about it, its validator."""
    earlier = replace(FULL, etag=etag, last_modified=modified)
    head = Head(200, "http://h/z", content_type="text/html", charset="utf-8", etag=etag, last_modified=modified)
    kept = Kept(Stored("h/x.html", 12, "ab" * 32, 3, 40), head, asked)
    assert compared(REQUEST, earlier, conditional=conditional) == replace(REQUEST, kept=kept)


def test_a_duplicate_of_a_success_has_its_file() -> None:
    """Same path, same digest, and the line that was fetched."""
    record = carried(REQUEST, FULL, Outcome.DUPLICATE, 2)
    assert record == replace(carried(REQUEST, FULL, Outcome.SKIPPED), outcome=Outcome.DUPLICATE, duplicate_of=2)
    assert record.ok


@pytest.mark.parametrize(
    "earlier", [None, Record(url="u", source="s", line=1, outcome=Outcome.FAILED, status=404, path="old", bytes=3)]
)
def test_a_duplicate_of_nothing_is_still_a_duplicate(earlier: Record | None) -> None:
    """If the first line failed, or nothing is kept, there is no file to tell of; the line is settled all the same."""
    assert carried(REQUEST, earlier, Outcome.DUPLICATE, 2) == Record(
        url="http://h/x#y", source="urls.txt", line=5, host="h", outcome=Outcome.DUPLICATE, duplicate_of=2
    )
