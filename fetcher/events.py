"""L0: what a run tells while it works: events to hear, counters to poll."""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import frexp, ldexp
from typing import Final, Protocol

from fetcher.errors import Error, ErrorKind
from fetcher.frozen import value
from fetcher.model import Failure, Outcome, Record, Request, Stop, Summary

#: How many hosts are counted one by one; the rest of a very wide list is counted as one.
MAX_HOSTS: Final = 10_000
OTHER_HOSTS: Final = "(other hosts)"

_FAILED: Final = Outcome.FAILED
_ANSWERED: Final = frozenset({Outcome.FETCHED, Outcome.UNCHANGED})

#: How many failures a summary can list one by one.
MAX_LISTED: Final = 10


@dataclass(frozen=True, slots=True)
class Retrying:
    """A request failed for now and starts again after ``delay`` seconds."""

    request: Request
    error: Error
    attempt: int
    delay: float


@dataclass(frozen=True, slots=True)
class Redirected:
    """A response sent the request on to another URL."""

    request: Request
    status: int
    location: str


@dataclass(frozen=True, slots=True)
class Ruled:
    """What came of asking for the robots.txt at ``url``, in words."""

    url: str
    words: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know although no URL failed by it, in one line."""

    message: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """What only somebody who looks on need know, in one line: why nothing happens yet, or where it will."""

    message: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """A bug in this program met one URL: the text of its traceback."""

    request: Request
    traceback: str


@dataclass(frozen=True, slots=True)
class Said:
    """Lines that the command for a URL has written."""

    url: str
    text: str


Event = Retrying | Redirected | Ruled | Notice | Waiting | Trouble | Said
#: Hears events at once; must neither block nor raise.
Observer = Callable[[Event], None]


@value(frozen=True, slots=True)
class Settled:
    """A record and its line of JSON, encoded once for everyone who writes it; ``key`` is its request's, if it had one."""

    record: Record
    line: bytes
    key: str | None


class RecordWriter(Protocol):
    """Takes settled records, in batches, in the order in which they were settled."""

    async def write(self, batch: Sequence[Settled]) -> None:
        """Take over the batch; a slow writer slows the run down.

        Raises LocalError if this machine cannot take it, BrokenPipeError if its reader went away.
        """
        ...


@dataclass(slots=True)
class Transfer:
    """One attempt under way: counters written by the attempt, read by the display. Bytes, monotonic seconds."""

    request: Request
    started: float
    received: int = 0
    total: int | None = None
    last_byte: float = 0.0


class Latencies:
    """A histogram of durations in constant memory; a quantile is right within 5 percent.

    Each power of two is divided into 16 equal buckets.
    """

    _FLOOR: Final = 1e-4

    def __init__(self) -> None:
        self._buckets: defaultdict[int, int] = defaultdict(int)

    @property
    def count(self) -> int:
        """How many durations there are."""
        return sum(self._buckets.values())

    def add(self, seconds: float) -> None:
        """Count one duration."""
        mantissa, exponent = frexp(max(self._FLOOR, seconds))  # mantissa: 0.5 to 1
        self._buckets[16 * exponent + int(32 * mantissa)] += 1

    def quantile(self, share: float) -> float | None:
        """Return the duration in seconds that ``share`` (0 to 1) of all stay within; None if there are none."""
        rank = share * self.count
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                exponent, part = divmod(bucket - 16, 16)
                return ldexp((part + 16.5) / 32, exponent)
        return None


@dataclass(slots=True)
class HostCount:
    """One host in numbers, and how it is.

    ``trouble`` is the kind of the latest failure that may be the host's and not one URL's, ``times`` how often in a
    row it was that kind, ``answers`` if the host has answered since. It is asked again at ``until``, in seconds on the
    clock of the run.
    """

    ok: int = 0
    failed: int = 0
    retries: int = 0
    trouble: str = ""
    times: int = 0
    answers: bool = True
    until: float = 0.0
    latencies: Latencies = field(default_factory=Latencies)

    def suffer(self, kind: str) -> None:
        """Count a failure that may be the host's."""
        self.times = self.times + 1 if self.trouble == kind else 1
        self.trouble = kind
        self.answers = False


@dataclass(frozen=True, slots=True)
class Machines:
    """The cluster of a run: its workers, the lanes that share the list, and how many of these have a chunk at work."""

    workers: int
    lanes: int
    busy: int


class Counters:
    """The run in plain numbers, kept up to date as it goes; reading them costs the run nothing.

    ``read`` rows have come from the list, ``total`` are in it (None while unknown), ``waiting`` stand in the queue,
    ``commands`` are run, ``machines`` are there if a cluster fetches. Some request is not made before ``until``, so the
    run does not end before either.
    """

    def __init__(self, started: float) -> None:
        self.started = started
        self.read = 0
        self.total: int | None = None
        self.outcomes: dict[str, int] = {outcome.value: 0 for outcome in Outcome}
        self.ok = 0
        self.failed = 0
        self.retries = 0
        self.retrying = 0
        self.waiting = 0
        self.bytes = 0
        self.ended_bytes = 0
        self.errors: dict[str, dict[str, int]] = {}
        self.first_failures: list[Failure] = []
        self.last_failures: deque[Failure] = deque(maxlen=5)
        self.hosts: dict[str, HostCount] = {}
        self.latencies = Latencies()
        self.active: dict[int, Transfer] = {}
        self.commands = 0
        self.machines: Machines | None = None
        self.stopping: str | None = None
        self.until = 0.0

    @property
    def settled(self) -> int:
        """How many input lines have their record."""
        return self.ok + self.failed

    @property
    def known(self) -> int:
        """How many input lines are known of: all of them once they were counted."""
        return max(self.read, self.total or 0, self.settled)

    @property
    def queued(self) -> int:
        """How many known lines have neither a record, nor an attempt or a command under way, nor an attempt behind them."""
        return max(0, self.known - self.settled - self.retrying - len(self.active) - self.commands)

    @property
    def error_kinds(self) -> dict[str, int]:
        """How many failures there are of each kind, the most frequent first."""
        sums = {kind: sum(hosts.values()) for kind, hosts in self.errors.items()}
        return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))

    @property
    def wire_bytes(self) -> int:
        """Body bytes received so far, before decoding, by all attempts, those under way included."""
        return self.ended_bytes + sum(transfer.received for transfer in self.active.values())

    def host(self, name: str | None) -> HostCount:
        """Return the count of one host, or of all others once there are very many."""
        key = name or "-"
        count = self.hosts.get(key)
        if count is None:
            if len(self.hosts) >= MAX_HOSTS:
                key = OTHER_HOSTS
            count = self.hosts.setdefault(key, HostCount())
        return count

    def settle(self, record: Record) -> None:
        """Count a finished record."""
        outcome = record.outcome
        self.outcomes[outcome] += 1
        if outcome is _FAILED:
            self.failed += 1
            self._fail(record, record.error or Error.of(ErrorKind.INTERNAL, "no reason was given"))
            return
        self.ok += 1
        if outcome in _ANSWERED:
            host = self.host(record.host)
            host.ok += 1
            host.answers = True
            host.latencies.add(record.elapsed)
            self.latencies.add(record.elapsed)
            self.bytes += record.bytes or 0

    def retry(self, host: str, kind: str) -> None:
        """Count a retry that was decided."""
        self.retries += 1
        count = self.host(host)
        count.retries += 1
        count.suffer(kind)

    def hold(self, host: str, until: float) -> None:
        """Learn until when a host is left alone, on the clock of ``started``."""
        count = self.host(host)
        count.until = max(count.until, until)
        self.postpone(until)

    def postpone(self, until: float) -> None:
        """Learn that a request is not made before then."""
        self.until = max(self.until, until)

    def _fail(self, record: Record, error: Error) -> None:
        name = record.host or "-"
        count = self.host(name)
        count.failed += 1
        if error.transient or record.status is None:
            count.suffer(error.kind)
        else:
            count.answers = True
        by_host = self.errors.setdefault(error.kind, {})
        if name not in by_host and len(by_host) >= MAX_HOSTS:
            name = OTHER_HOSTS
        by_host[name] = by_host.get(name, 0) + 1
        failure = Failure(record.url, record.source, record.line, error.kind, error.message)
        self.last_failures.append(failure)
        if len(self.first_failures) < MAX_LISTED:
            self.first_failures.append(failure)

    def summary(self, now: float, stop: Stop | None = None, stopped: str = "") -> Summary:
        """Return the run so far as a value; ``now`` is on the clock of ``started``, ``stopped`` are the words for ``stop``."""
        return Summary(
            lines=self.known,
            ok=self.ok,
            failed=self.failed,
            not_started=self.known - self.settled,
            outcomes=dict(self.outcomes),
            errors={kind: dict(hosts) for kind, hosts in self.errors.items()},
            failures=tuple(self.first_failures),
            retries=self.retries,
            bytes=self.bytes,
            wire_bytes=self.wire_bytes,
            elapsed=max(0.0, now - self.started),
            p50=self.latencies.quantile(0.5),
            p95=self.latencies.quantile(0.95),
            stop=stop,
            stopped=stopped,
        )
