"""L4: the records that a report is made of, from a directory or as lines; reads, and changes nothing."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fetcher.errors import Error, UsageError
from fetcher.lastrun import LastRun, from_json
from fetcher.model import Outcome, Record, from_line, timestamp
from fetcher.naming import STATE_DIRECTORY
from fetcher.replay import Past
from fetcher.report.earlier import Earlier
from fetcher.report.stats import PHASES, Stats

#: A run's last request begins before its end, as far as clocks that were read one after the other can tell. Seconds.
_SLACK = 0.1
#: No run takes longer, in seconds.
_LONGEST = 1e9


@dataclass(slots=True)
class Gathered:
    """A run in numbers; ``last`` is what it wrote down about itself, if it came to that.

    ``compared`` tells if there were records of earlier runs, ``damaged`` how many lines are no records.
    """

    stats: Stats = field(default_factory=Stats)
    last: LastRun | None = None
    compared: bool = False
    damaged: int = 0


def from_lines(lines: Iterable[bytes]) -> Gathered:
    """Return what lines of NDJSON tell, every line of which counts."""
    found = Gathered()
    for line in lines:
        if line.strip():
            try:
                found.stats.add(checked(line))
            except ValueError:
                found.damaged += 1
    return found


def from_directory(directory: Path) -> Gathered:
    """Return the last run in a directory, compared with the runs before it; also one that is going on, or was killed.

    Raises UsageError if there are no records, LocalError if they cannot be read.
    """
    found = Gathered()
    earlier = Earlier()
    with Past(directory) as past:
        found.last = last_run(directory)
        begin = 0
        if found.last is not None:
            begin, ours = beginning(past.starts(), found.last)
            if not ours:
                found.last = None
        for offset, line, said in past.every():
            if offset < begin:
                earlier.learn(said)
                continue
            try:
                record = checked(line)
            except ValueError:
                found.damaged += 1
            else:
                found.stats.add(record, earlier.compare(record, said.key))
        found.damaged += past.damaged
    found.compared = len(earlier) > 0
    return found


def earlier_in(directory: Path) -> Earlier:
    """Return what the runs so far have found out; nothing if there were none. Raises LocalError if it cannot be read."""
    earlier = Earlier()
    try:
        with Past(directory) as past:
            for _, _, said in past.every():
                earlier.learn(said)
    except UsageError:
        pass
    return earlier


def last_run(directory: Path) -> LastRun | None:
    """Return what the last run in a directory wrote down about itself, None if there is no such thing."""
    try:
        return from_json((directory / STATE_DIRECTORY / "last-run.json").read_bytes())
    except (OSError, ValueError):
        return None


def beginning(starts: Iterable[tuple[int, str | None]], last: LastRun) -> tuple[int, bool]:
    """Return where in a journal the last run begins, and if that is the run which ``last`` is about.

    ``starts`` tells where each line begins and when its URL was first tried. A later run than ``last`` is one that goes
    on, or was killed. What was never tried belongs to the run of the URLs that follow it. There may be more than ``last``
    counts, of the run before: what that did not try at its end, or did while this one waited for it.
    """
    summary = last.summary
    since = last.started_at
    until = timestamp(datetime.fromisoformat(since).timestamp() + summary.elapsed + _SLACK)
    kept = sum(summary.outcomes.get(outcome, 0) for outcome in (Outcome.FETCHED, Outcome.UNCHANGED, Outcome.FAILED))
    ours = array("Q")
    begun = False
    untried: int | None = None
    end = 0
    for offset, started in starts:
        end = offset + 1
        if started is None:
            untried = offset if untried is None else untried
        elif started > until:
            return offset if untried is None else untried, False
        else:
            untried = None
            begun = begun or started >= since
            if not begun:
                ours = array("Q")
                continue
        ours.append(offset)
    kept = min(kept, len(ours))
    return ours[-kept] if kept else end, True


def checked(line: bytes) -> Record:
    """Return the record in a line; raises ValueError if it is none, or one that no version of this program writes."""
    record = from_line(line)
    error, timings = record.error, record.timings
    # What JSON holds need not be what the types promise.
    texts: tuple[object, ...] = (record.url, record.source, *record.retried)
    perhaps: tuple[object, ...] = (record.host, record.content_type, record.started_at, record.sha256)
    counts: tuple[Any, ...] = (
        record.line,
        record.wire_bytes,
        record.attempts,
        0 if record.bytes is None else record.bytes,
    )
    seconds: list[Any] = [record.elapsed]
    if timings is not None:
        seconds += [spent for phase in PHASES if (spent := getattr(timings, phase)) is not None]
    if not (
        all(isinstance(text, str) for text in texts)
        and all(text is None or isinstance(text, str) for text in perhaps)
        and all(type(count) is int and count >= 0 for count in counts)
        and all(type(spent) in (int, float) and 0 <= spent < _LONGEST for spent in seconds)
        and (error is None or all(isinstance(text, str) for text in _words(error)))
    ):
        raise ValueError("not a record")
    return record


def _words(error: Error) -> tuple[object, ...]:
    return error.kind, error.message
