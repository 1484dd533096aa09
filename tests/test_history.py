"""Histories: attempts in, one record out."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.errors import Error, ErrorKind
from fetcher.history import History, untried
from fetcher.model import Attempt, Head, Kept, Outcome, Record, Redirect, Request, Stored, Timings

REQUEST = Request(7, "HTTP://me:pw@Example.com/a#b", "http://example.com/a", "example.com", "urls.txt", 8, "me:pw")
HEAD = Head(
    status=200,
    url="http://example.com/z",
    http_version="1.1",
    remote_ip="192.0.2.1",
    content_type="text/html",
    charset="utf-8",
    etag='"x"',
    last_modified="Sat, 21 Nov 2026 03:00:00 GMT",
)


def begun() -> History:
    """Start a history at 2026-11-21T03:00:00.5Z, when the monotonic clock shows 100."""
    return History(REQUEST, started_at=1_795_230_000.5, started=100.0)


def failed(number: int, kind: str, wire_bytes: int = 0) -> Attempt:
    """Make an attempt that took a second, ten seconds after the one before, and failed."""
    started = 90.0 + 10.0 * number
    return Attempt(number, started, started + 1.0, error=Error.of(kind, kind), wire_bytes=wire_bytes)


def test_a_success_fills_the_record() -> None:
    """Every fact of request, head, body and attempt stands where the contract says."""
    timings = Timings(dns=0.1, connect=0.2, wait=0.3)
    redirects = (Redirect(301, "http://example.com/a"),)
    stored = Stored("example.com/a.html", 12, "ab" * 32)
    attempt = Attempt(1, 100.0, 101.23456789, HEAD, stored, None, redirects, 9, 4, 5.0, timings, ("length_unknown",))
    assert begun().after(attempt).record() == Record(
        url="HTTP://me:pw@Example.com/a#b",
        source="urls.txt",
        line=8,
        host="example.com",
        final_url="http://example.com/z",
        outcome=Outcome.FETCHED,
        status=200,
        path="example.com/a.html",
        bytes=12,
        wire_bytes=9,
        sha256="ab" * 32,
        content_type="text/html",
        charset="utf-8",
        etag='"x"',
        last_modified="Sat, 21 Nov 2026 03:00:00 GMT",
        http_version="1.1",
        remote_ip="192.0.2.1",
        redirects=redirects,
        attempts=1,
        resumed_from=4,
        started_at="2026-11-21T03:00:00.500Z",
        elapsed=1.234568,
        timings=timings,
        changed=True,
        warnings=("length_unknown",),
    )


def test_every_fact_of_a_head_reaches_the_record() -> None:
    """A field that is added to a head is not forgotten on the way, but what serves on the way only."""
    names = {field.name for field in fields(Head)} - {"validator", "exchanges", "disposition"}
    record = begun().after(Attempt(1, 100.0, 101.0, HEAD, Stored(None, 0, None))).record()
    told = {name: getattr(record, "final_url" if name == "url" else name) for name in names}
    assert told == {name: getattr(HEAD, name) for name in names}


def test_a_failure_without_an_answer_says_nothing_about_one() -> None:
    """No head, no body: their fields stay empty, the error and the redirects before it are told."""
    attempt = Attempt(1, 100.0, 100.25, error=Error.of("dns", "no address"), redirects=(Redirect(302, "http://a/"),))
    record = begun().after(attempt).record()
    assert (record.outcome, record.ok, record.error) == (
        Outcome.FAILED,
        False,
        Error("dns", "no address", transient=True),
    )
    assert (record.status, record.final_url, record.path, record.bytes, record.sha256) == (None,) * 5
    assert record.redirects == (Redirect(302, "http://a/"),)
    assert record.elapsed == 0.25


def test_an_error_status_keeps_its_head() -> None:
    """A 404 has an answer, so its status and final URL are told."""
    attempt = Attempt(1, 100.0, 101.0, Head(404, "http://example.com/z"), error=Error.of("http.404", "404 Not Found"))
    record = begun().after(attempt).record()
    assert (record.outcome, record.status, record.final_url) == (Outcome.FAILED, 404, "http://example.com/z")


KEPT = Kept(Stored("old", 3, "aa" * 32), replace(HEAD, etag='"old"'))


@pytest.mark.parametrize(
    ("kept", "stored", "changed", "previous"),
    [
        (None, Stored("new", 4, "bb" * 32), True, None),
        (KEPT, Stored("new", 4, "bb" * 32), True, "aa" * 32),
        (KEPT, Stored("old", 3, "aa" * 32), False, "aa" * 32),
        (KEPT, Stored(None, 0, None), True, "aa" * 32),
        (Kept(Stored(None, 0, None), HEAD), Stored("new", 4, "bb" * 32), True, None),
        (Kept(Stored(None, 0, None), HEAD), Stored(None, 0, None), False, None),
        (None, Stored(None, 0, None), None, None),
        (None, Stored(None, 4, "bb" * 32), None, None),
        (KEPT, None, None, None),
    ],
)
def test_changed(kept: Kept | None, stored: Stored | None, changed: bool | None, previous: str | None) -> None:
    """A file is compared with the one before it, or with none; what is no file, or failed, is not compared."""
    error = None if stored is not None else Error.of("http.404", "404 Not Found")
    history = History(replace(REQUEST, kept=kept), 0.0, 100.0)
    record = history.after(Attempt(1, 100.0, 101.0, HEAD, stored, error)).record()
    assert (record.changed, record.previous_sha256) == (changed, previous)


def test_what_has_not_changed_is_told_of_again() -> None:
    """After a 304 the record has the file that is there, and says that nothing was stored."""
    history = History(replace(REQUEST, kept=KEPT), 0.0, 100.0)
    record = history.after(Attempt(1, 100.0, 101.0, replace(HEAD, status=304), KEPT.stored)).record()
    assert (record.outcome, record.ok, record.status) == (Outcome.UNCHANGED, True, 304)
    assert (record.path, record.bytes, record.sha256) == ("old", 3, "aa" * 32)
    assert (record.changed, record.previous_sha256) == (False, "aa" * 32)


def test_a_failure_tells_of_the_file_that_is_kept() -> None:
    """Whether it was tried or not, its file is the one before."""
    request = replace(REQUEST, kept=KEPT)
    failure = History(request, 0.0, 100.0).after(failed(1, "timeout.read")).record()
    for record in (failure, untried(request, Error.of(ErrorKind.HOST_DOWN, "20 refusals in a row"))):
        assert (record.ok, record.path, record.bytes, record.sha256) == (False, "old", 3, "aa" * 32)
        assert (record.changed, record.previous_sha256, record.etag) == (None, None, None)


def test_only_the_last_attempt_is_described() -> None:
    """Earlier attempts leave their kind and their bytes; the time runs from the first to the last."""
    history = begun().after(failed(1, "http.503", 10)).after(failed(2, "timeout.read", 200))
    last = Attempt(3, 120.0, 121.5, Head(200, "http://example.com/a"), Stored("p", 3, "00"), wire_bytes=3_000)
    record = history.after(last).record()
    assert (record.attempts, record.retried, record.wire_bytes) == (3, ("http.503", "timeout.read"), 3_210)
    assert (record.outcome, record.error, record.elapsed) == (Outcome.FETCHED, None, 21.5)
    assert record.started_at == "2026-11-21T03:00:00.500Z"


def test_a_history_is_a_value() -> None:
    """An attempt makes a new history; the old one still ends as before."""
    once = begun().after(failed(1, "dns"))
    before = once.record()
    once.after(failed(2, "dns"))
    assert once.record() == before
    assert begun().retried == ()


def test_without_an_attempt_there_is_no_record() -> None:
    """A request that was never started is not settled this way."""
    with pytest.raises(ValueError, match="without an attempt"):
        begun().record()


@given(st.lists(st.tuples(st.sampled_from([*ErrorKind, "http.503"]), st.integers(0, 10**12)), min_size=1, max_size=10))
def test_nothing_of_a_failed_history_is_lost(attempts: list[tuple[str, int]]) -> None:
    """All kinds but the last are ``retried``, the last is the error, bytes add up, attempts are counted."""
    history = begun()
    for number, (kind, wire_bytes) in enumerate(attempts, start=1):
        history = history.after(failed(number, kind, wire_bytes))
    record = history.record()
    assert record.error is not None
    assert [*record.retried, record.error.kind] == [kind for kind, _ in attempts]
    assert record.wire_bytes == sum(wire_bytes for _, wire_bytes in attempts)
    assert record.attempts == len(attempts)
    assert record.elapsed == 10.0 * len(attempts) - 9.0
