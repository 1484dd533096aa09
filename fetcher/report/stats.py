"""L4: what a report tells of a run, gathered record by record in bounded memory; arithmetic only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from heapq import heappush, heapreplace
from math import floor, log10
from typing import Final

from fetcher.events import OTHER_HOSTS, Counters
from fetcher.frozen import value
from fetcher.model import Outcome, Record, Summary, Timings
from fetcher.report.timeline import Timeline
from fetcher.text import middle_cut
from fetcher.urls import redact

#: URLs that a list shows, and a ranking.
LISTED: Final = 200
RANKED: Final = 50
#: How many kinds of failure and media types are told apart, since a records file can hold any words.
MAX_NAMES: Final = 300
OTHERS: Final = "(others)"
NO_TYPE: Final = "(none)"
NO_HOST: Final = "-"
#: The longest URLs and messages that are kept, in characters, and the longest names.
LONGEST: Final = 250
LONGEST_NAME: Final = 80

#: Equal steps of the histogram's logarithmic axis for each factor of ten, and where it begins, in seconds.
STEPS: Final = 10
_FLOOR: Final = 1e-4

PHASES: Final = tuple(Timings.__dataclass_fields__)

_TRIED: Final = frozenset({Outcome.FETCHED, Outcome.UNCHANGED, Outcome.FAILED})


class Change(StrEnum):
    """What a record says against what was known of its URL before the run."""

    FIRST = "first seen"
    SAME = "as before"
    DIFFERENT = "content changed"
    BROKEN = "new failure"
    MENDED = "mended"
    STILL = "still failing"


@value(frozen=True, slots=True)
class Entry:
    """What a list shows of one record; ``kind`` and ``message`` are empty unless it failed."""

    url: str
    source: str
    line: int
    kind: str
    message: str
    elapsed: float
    bytes: int


def entry(record: Record) -> Entry:
    """Return what lists show of a record: no user or password, and no text of absurd length."""
    kind, message = ("", "") if record.error is None else (record.error.kind, record.error.message)
    return Entry(
        middle_cut(redact(record.url), LONGEST),
        middle_cut(record.source, LONGEST_NAME),
        record.line,
        kind[:LONGEST_NAME],
        message[:LONGEST],
        record.elapsed,
        record.bytes or 0,
    )


@dataclass(slots=True)
class Group:
    """Records with something in common: how many, and the first of them."""

    count: int = 0
    first: list[Entry] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Count a record."""
        self.count += 1
        if len(self.first) < LISTED:
            self.first.append(entry(record))


class Ranking:
    """The records with the greatest numbers; of equal ones the first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Entry]] = []
        self._seen = 0

    def add(self, number: float, record: Record) -> None:
        """Consider a record."""
        self._seen -= 1
        if len(self._heap) < RANKED:
            heappush(self._heap, (number, self._seen, entry(record)))
        elif number > self._heap[0][0]:
            heapreplace(self._heap, (number, self._seen, entry(record)))

    @property
    def entries(self) -> list[Entry]:
        """They, the greatest first."""
        return [ranked for _, _, ranked in sorted(self._heap, key=lambda item: item[:2], reverse=True)]


@dataclass(slots=True)
class Share:
    """A media type: how many bodies, and their bytes."""

    count: int = 0
    bytes: int = 0


@dataclass(slots=True)
class HostTimes:
    """Where the time of one host's URLs went: seconds by phase of their last attempts, and bytes received."""

    timed: int = 0
    seconds: list[float] = field(default_factory=lambda: [0.0] * len(PHASES))
    bytes: int = 0

    def add(self, timings: Timings) -> None:
        """Count one attempt."""
        self.timed += 1
        seconds = self.seconds
        phases = (
            *(timings.blocked, timings.dns, timings.connect, timings.tls),
            *(timings.send, timings.wait, timings.receive),
        )
        for index, spent in enumerate(phases):
            if spent:
                seconds[index] += spent


@dataclass(slots=True)
class RetryCount:
    """One kind of failure that was tried again: how often, for how many URLs, and how many of these got through."""

    attempts: int = 0
    urls: int = 0
    saved: int = 0


@dataclass(slots=True)
class Retries:
    """What trying again was good for; ``seconds`` went by before the last attempts began."""

    urls: int = 0
    saved: int = 0
    seconds: float = 0.0
    kinds: dict[str, RetryCount] = field(default_factory=dict)


class Stats:
    """A run in numbers. Memory does not grow with the records but for hosts, which are bounded too.

    ``counters`` are those that a run keeps itself, so that its summary has the same numbers.
    """

    def __init__(self) -> None:
        self.counters = Counters(0.0)
        self.outcomes: dict[Outcome, Group] = {}
        self.kinds: dict[str, Group] = {}
        self.timeline = Timeline()
        self.histogram: dict[int, int] = {}
        self.hosts: dict[str, HostTimes] = {}
        self.all_hosts = HostTimes()
        self.slowest = Ranking()
        self.biggest = Ranking()
        self.retries = Retries()
        self.types: dict[str, Share] = {}
        self.changes: dict[Change, Group] = {}
        self._started: float | None = None
        self._ended = 0.0

    @property
    def started(self) -> float | None:
        """When the first attempt began, in seconds since 1970; None if there was none."""
        return self._started

    def summary(self) -> Summary:
        """Return the records as the summary of a run that took from the first attempt to the last one's end."""
        return self.counters.summary(0.0 if self._started is None else self._ended - self._started)

    def add(self, record: Record, change: Change | None = None) -> None:
        """Count a record, and what it changes if that is known."""
        counters = self.counters
        for kind in record.retried:
            counters.retry(record.host or NO_HOST, kind)
        counters.settle(record)
        counters.ended_bytes += record.wire_bytes
        self.outcomes.setdefault(record.outcome, Group()).add(record)
        if change is not None:
            self.changes.setdefault(change, Group()).add(record)
        if record.outcome not in _TRIED:
            return
        if not record.ok:
            kind = record.error.kind if record.error is not None else "internal"
            self.kinds.setdefault(_name(kind, self.kinds), Group()).add(record)
        else:
            step = floor(STEPS * log10(max(_FLOOR, record.elapsed)))
            self.histogram[step] = self.histogram.get(step, 0) + 1
            self._body(record, record.bytes or 0)
        if record.attempts or record.elapsed:
            self.slowest.add(record.elapsed, record)
        self._host(record)
        if record.retried:
            self._retried(record)
        if record.started_at is not None and (start := _epoch(record.started_at)) is not None:
            self._attempted(record, start)

    def _body(self, record: Record, size: int) -> None:
        self.biggest.add(size, record)
        kind = record.content_type or NO_TYPE
        share = self.types.setdefault(_name(kind[:LONGEST_NAME], self.types), Share())
        share.count += 1
        share.bytes += size

    def _host(self, record: Record) -> None:
        name = record.host or NO_HOST
        # The counters have decided already if this host is told apart.
        times = self.hosts.setdefault(name if name in self.counters.hosts else OTHER_HOSTS, HostTimes())
        times.bytes += record.wire_bytes
        if record.timings is not None:
            times.add(record.timings)
            self.all_hosts.add(record.timings)

    def _retried(self, record: Record) -> None:
        retries = self.retries
        retries.urls += 1
        retries.saved += record.ok
        timings = record.timings
        last = 0.0 if timings is None else sum(getattr(timings, phase) or 0.0 for phase in PHASES)
        retries.seconds += max(0.0, record.elapsed - last)
        counts: dict[int, RetryCount] = {}
        for kind in record.retried:
            count = retries.kinds.setdefault(_name(kind, retries.kinds), RetryCount())
            count.attempts += 1
            counts[id(count)] = count
        for count in counts.values():
            count.urls += 1
            count.saved += record.ok

    def _attempted(self, record: Record, start: float) -> None:
        end = start + record.elapsed
        self._started = start if self._started is None else min(start, self._started)
        self._ended = max(end, self._ended)
        receive = record.timings.receive if record.timings is not None else None
        self.timeline.add(ok=record.ok, start=start, end=end, receive=receive or 0.0, received=record.wire_bytes)


def _name(name: str, known: Mapping[str, object]) -> str:
    """Return the name, cut if it is a long one, or that of all others once there are very many."""
    name = name[:LONGEST_NAME]
    return name if name in known or len(known) < MAX_NAMES else OTHERS


def _epoch(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
