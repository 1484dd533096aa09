"""Which records a report is made of: those of the last run, and no line that is none."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fetcher.errors import Error, UsageError
from fetcher.lastrun import LastRun, to_json
from fetcher.model import Outcome, Record, Timings, to_line
from fetcher.report.reading import beginning, checked, from_directory, from_lines
from fetcher.report.stats import Change
from fetcher.status import ExitStatus
from tests.test_report_stats import record
from tests.test_summary import EXAMPLE


def run(kept: int, started: str = "03:00:00.000", elapsed: float = 60.0) -> LastRun:
    """Return what a run of this day wrote down that left so many records in the journal."""
    outcomes = {Outcome.FETCHED.value: kept, Outcome.SKIPPED.value: 7}
    summary = replace(EXAMPLE, outcomes=outcomes, elapsed=elapsed)
    started_at = f"2026-11-21T{started}Z"
    return LastRun(summary=summary, status=ExitStatus.OK, started_at=started_at, command="fetcher get", version="0")


@pytest.mark.parametrize(
    ("minutes", "kept", "begin", "ours"),
    [
        ("0 0 0", 3, 0, True),
        ("-9 -9 0 0", 2, 2, True),
        ("-9 -9 . 0 0", 3, 2, True),  # one that was not tried belongs to what follows it
        ("-9 . . 0 0", 3, 2, True),  # but no more of them than the run has counted
        ("-9 . . 0 0", 2, 3, True),
        ("-9 . .", 2, 1, True),  # a run in which nothing could be tried
        ("-9 -9", 0, 2, True),  # one that has skipped everything
        ("-9 0 0 0", 2, 2, True),  # while it waited, the other one went on
        ("-9 0 0 5 5", 2, 3, False),  # a later one, which was killed or goes on
        ("-9 0 0 . 5", 2, 3, False),
        (". .", 5, 0, True),
        ("", 0, 0, True),
        ("", 3, 0, True),
    ],
)
def test_where_a_run_begins(minutes: str, kept: int, begin: int, ours: bool) -> None:
    """In a journal of lines tried so many minutes after the last run's start, or never, its first line is found."""
    starts = []
    for place, minute in enumerate(minutes.split()):
        after = None if minute == "." else f"2026-11-21T{3 + int(minute) // 60:02}:{int(minute) % 60:02}:00.500Z"
        starts.append((place * 100, after))
    found, is_ours = beginning(starts, run(kept))
    assert is_ours is ours
    assert sum(place < found for place, _ in starts) == begin


def directory(root: Path, *records: Record, last: LastRun | None = None) -> Path:
    """Make a directory with this journal, and what the last run wrote down."""
    state = root / ".fetcher"
    state.mkdir()
    (state / "records.ndjson").write_bytes(b"".join(map(to_line, records)))
    if last is not None:
        (state / "last-run.json").write_bytes(to_json(last))
    return root


BEFORE = {"started_at": "2026-11-20T03:00:00.000Z"}
NOW = {"started_at": "2026-11-21T03:00:01.000Z"}
OLD = (
    record(1, sha256="5a", path="a", **BEFORE),
    record(2, "dns", **BEFORE),
    record(3, sha256="5a", path="c", **BEFORE),
)
NEW = (record(1, "http.404", **NOW), record(2, sha256="5b", path="b", **NOW), record(3, sha256="5c", path="c", **NOW))


def test_a_second_run(tmp_path: Path) -> None:
    """Only the last run is counted, and compared with what was known before."""
    found = from_directory(directory(tmp_path, *OLD, *NEW, record(4, sha256="5a", path="d", **NOW), last=run(4)))
    assert found.last == run(4)
    assert found.compared
    assert found.stats.summary().lines == 4
    assert {change: group.count for change, group in found.stats.changes.items()} == {
        Change.BROKEN: 1,
        Change.MENDED: 1,
        Change.DIFFERENT: 1,
        Change.FIRST: 1,
    }


def test_a_run_without_a_summary(tmp_path: Path) -> None:
    """A run that was killed, or goes on, is told from its records, and the summary of another one is not taken for its."""
    found = from_directory(directory(tmp_path, *OLD, *NEW, last=run(3, elapsed=1.0, started="02:00:00.000")))
    assert found.last is None
    assert (found.stats.summary().lines, found.compared) == (3, True)


@pytest.mark.parametrize("text", [None, "", "{}", "no JSON"])
def test_without_a_good_summary(text: str | None, tmp_path: Path) -> None:
    """Where no run has written down anything of use, all records count."""
    directory(tmp_path, *NEW)
    if text is not None:
        (tmp_path / ".fetcher/last-run.json").write_text(text)
    found = from_directory(tmp_path)
    assert (found.last, found.stats.summary().lines, found.compared) == (None, 3, False)


def test_no_records(tmp_path: Path) -> None:
    """A directory that nothing was fetched into is refused."""
    with pytest.raises(UsageError, match="has no records"):
        from_directory(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"url": 1},
        {"source": None},
        {"line": "1"},
        {"line": -1},
        {"line": True},
        {"host": 1},
        {"outcome": "lost"},
        {"error": {"kind": 1, "message": "", "transient": False}},
        {"error": "dns"},
        {"bytes": "1"},
        {"wire_bytes": -1},
        {"wire_bytes": None},
        {"content_type": []},
        {"sha256": 1},
        {"attempts": None},
        {"retried": [1]},
        {"retried": 7},
        {"started_at": 5},
        {"elapsed": None},
        {"elapsed": -1},
        {"elapsed": 1e300},
        {"elapsed": True},
        {"timings": {"wait": "1"}},
        {"timings": {"wait": -1}},
        {"timings": 1},
    ],
    ids=str,
)
def test_no_record(change: dict[str, Any]) -> None:
    """A line whose values are not what a record has is damaged; it costs itself and nothing else."""
    good = to_line(record(error=Error.of("dns", "x"), outcome=Outcome.FAILED, timings=Timings(wait=1.0)))
    line = json.dumps(json.loads(good) | change).encode()
    with pytest.raises(ValueError, match=r"."):
        checked(line)
    found = from_lines([good, line + b"\n", b"\n", b"[]\n", b"garbage\n", good])
    assert (found.stats.summary().lines, found.damaged) == (2, 3)
