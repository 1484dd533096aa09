"""A report's numbers: those of the run's own counters, and what lists and rankings hold."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.errors import Error
from fetcher.model import Outcome, Record, Timings
from fetcher.replay import Fact
from fetcher.report.earlier import Earlier
from fetcher.report.stats import LISTED, MAX_NAMES, OTHERS, RANKED, Change, RetryCount, Stats


def record(line: int = 1, kind: str | None = None, **more: Any) -> Record:
    """Return the record of a fetched URL, or of one that failed so."""
    known: dict[str, Any] = {"url": f"http://h/{line}", "source": "urls.txt", "line": line, "host": "h", "attempts": 1}
    known["outcome"] = Outcome.FETCHED if kind is None else Outcome.FAILED
    if kind is not None:
        known["error"] = Error.of(kind, "so it was chosen")
    return Record(**known | {"bytes": None if kind else 10, "started_at": "2026-11-21T03:00:00.000Z"} | more)


def gathered(*records: Record) -> Stats:
    """Return what they amount to."""
    stats = Stats()
    for each in records:
        stats.add(each)
    return stats


@given(
    st.lists(
        st.builds(
            record,
            st.integers(1, 5),
            st.sampled_from([None, None, "dns", "http.404"]),
            host=st.sampled_from(["a", "b", None]),
            elapsed=st.floats(0, 100),
            wire_bytes=st.integers(0, 10**9),
            retried=st.lists(st.sampled_from(["dns", "http.503"]), max_size=3).map(tuple),
        )
    )
)
def test_all_parts_add_up(records: list[Record]) -> None:
    """Every part of a report counts the same records."""
    stats = gathered(*records)
    summary = stats.summary()
    assert summary.lines == len(records) == sum(group.count for group in stats.outcomes.values())
    assert summary.failed == sum(group.count for group in stats.kinds.values())
    assert summary.wire_bytes == sum(times.bytes for times in stats.hosts.values())
    assert summary.ok == sum(share.count for share in stats.types.values()) == sum(stats.histogram.values())
    assert summary.retries == sum(count.attempts for count in stats.retries.kinds.values())
    assert summary.bytes == sum(share.bytes for share in stats.types.values())
    slots = stats.timeline.slots()
    assert (sum(slot.ok for slot in slots), sum(slot.failed for slot in slots)) == (summary.ok, summary.failed)


def test_what_took_no_part() -> None:
    """Skipped, duplicate and planned lines are counted, and are nowhere else: nothing was sent for them."""
    stats = gathered(*(record(outcome=outcome) for outcome in (Outcome.SKIPPED, Outcome.DUPLICATE, Outcome.PLANNED)))
    assert stats.summary().ok == 3
    assert (stats.types, stats.hosts, stats.histogram, stats.slowest.entries, stats.started) == ({}, {}, {}, [], None)


def test_lists_end() -> None:
    """A list holds the first, a ranking the greatest; both go on counting."""
    stats = gathered(*(record(line, "dns", elapsed=line % 100) for line in range(1, 1001)))
    assert stats.kinds["dns"].count == 1000
    assert [each.line for each in stats.kinds["dns"].first] == list(range(1, LISTED + 1))
    slowest = stats.slowest.entries
    assert [each.elapsed for each in slowest] == sorted((line % 100 for line in range(1, 1001)), reverse=True)[:RANKED]
    assert [each.line for each in slowest[:3]] == [99, 199, 299], "equal ones in the order of their coming"


def test_names_end() -> None:
    """Words that anybody can make up are told apart only up to a number, and all are counted."""
    types = gathered(*(record(line, content_type=f"x/{line}", bytes=1) for line in range(1000))).types
    assert len(types) == MAX_NAMES + 1
    assert types[OTHERS].count == 1000 - MAX_NAMES
    kinds = gathered(*(record(line, f"x.{line}") for line in range(1000))).kinds
    assert kinds[OTHERS].count == 1000 - MAX_NAMES
    retries = gathered(record(retried=tuple(f"x.{number}" for number in range(1000)))).retries
    assert retries.kinds[OTHERS] == RetryCount(attempts=1000 - MAX_NAMES, urls=1, saved=1)


def test_long_texts_and_secrets() -> None:
    """What lists keep is cut to a bearable length, and has no user and password."""
    stats = gathered(record(url=f"http://user:secret@h/{'x' * 10_000}", kind="dns", source="s" * 10_000))
    (kept,) = stats.kinds["dns"].first
    assert "secret" not in kept.url
    assert max(len(kept.url), len(kept.source)) <= 300


def test_retries() -> None:
    """A kind counts its attempts, its URLs, and those of them that got through; seconds are those before the last try."""
    stats = gathered(
        record(1, retried=("dns", "dns", "http.503"), elapsed=5.0, timings=Timings(wait=1.0, receive=0.5)),
        record(2, "dns", retried=("dns",), elapsed=2.0, timings=None),
        record(3),
    )
    assert stats.retries.kinds == {"dns": RetryCount(3, 2, 1), "http.503": RetryCount(1, 1, 1)}
    assert (stats.retries.urls, stats.retries.saved) == (2, 1)
    assert stats.retries.seconds == pytest.approx(5.5)


def test_phases() -> None:
    """Seconds add up by phase and host; a phase that did not happen took none."""
    stats = gathered(
        record(1, timings=Timings(dns=0.5, wait=1.0)),
        record(2, timings=Timings(wait=2.0, receive=0.25)),
        record(3, host="other", timings=Timings(tls=1.0)),
        record(4, "dns", timings=None),
    )
    assert stats.hosts["h"].seconds == [0.0, 0.5, 0.0, 0.0, 0.0, 3.0, 0.25]
    assert (stats.hosts["h"].timed, stats.all_hosts.timed) == (2, 3)


def test_span() -> None:
    """Without a run's own clock, it took from the first start to the last end."""
    stats = gathered(
        record(1, started_at="2026-11-21T03:00:05.000Z", elapsed=1.0),
        record(2, started_at="2026-11-21T03:00:01.000Z", elapsed=2.0),
        record(3, "invalid_url", started_at=None, attempts=0),
        record(4, started_at="nonsense", elapsed=100.0),
    )
    assert stats.summary().elapsed == pytest.approx(5.0)


KNOWN = {"same": (True, "5a"), "other": (True, "00"), "empty": (True, None), "bad": (False, None)}


@pytest.mark.parametrize(
    ("key", "now", "change"),
    [
        ("same", record(sha256="5a"), Change.SAME),
        ("same", record(sha256="5b"), Change.DIFFERENT),
        ("same", record(sha256=None), Change.DIFFERENT),
        ("same", record(kind="dns"), Change.BROKEN),
        ("empty", record(sha256=None), Change.SAME),
        ("bad", record(sha256="5a"), Change.MENDED),
        ("bad", record(kind="dns"), Change.STILL),
        ("new", record(), Change.FIRST),
        ("new", record(kind="dns"), Change.FIRST),
        ("same", record(outcome=Outcome.SKIPPED), None),
        ("same", record(outcome=Outcome.DUPLICATE), None),
    ],
)
def test_changes(key: str, now: Record, change: Change | None) -> None:
    """A record is compared with the latest that was known of its URL."""
    earlier = Earlier()
    earlier.learn(Fact("same", ok=False, path=None, sha256=None))
    for known, (ok, sha256) in KNOWN.items():
        earlier.learn(Fact(known, ok=ok, path=None, sha256=sha256))
    assert earlier.compare(now, key) is change


def test_nothing_to_compare_with() -> None:
    """In a first run nothing is new, or all is; it is not said of any record."""
    assert Earlier().compare(record(), "new") is None


def test_changes_are_counted() -> None:
    """Each change has its list."""
    stats = Stats()
    for change in (Change.BROKEN, Change.BROKEN, None, Change.SAME):
        stats.add(record(), change)
    assert Counter({change: group.count for change, group in stats.changes.items()}) == {
        Change.BROKEN: 2,
        Change.SAME: 1,
    }
