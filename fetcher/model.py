"""L0: the nouns that travel through a run, frozen, and the record's one line of JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from math import floor
from typing import Any, Final

import orjson

from fetcher.details import Details
from fetcher.errors import Error, ErrorKind
from fetcher.exchange import Exchange
from fetcher.frozen import value
from fetcher.text import harmless_json

#: Header fields as received: lower-case names, values without surrounding blanks, in order.
Headers = tuple[tuple[str, str], ...]


class Outcome(StrEnum):
    """What became of one input line."""

    FETCHED = "fetched"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    DUPLICATE = "duplicate"
    PLANNED = "planned"
    FAILED = "failed"


#: A member is found in its class ten times slower than in a module.
_FAILED: Final = Outcome.FAILED


class Stop(StrEnum):
    """Why a run ended before its list did."""

    INTERRUPT = "interrupt"
    TERMINATE = "terminate"
    HANGUP = "hangup"
    PIPE = "pipe"
    DISK = "disk"
    WORKERS = "workers"
    CLUSTER = "cluster"
    LIMIT = "limit"

    @property
    def words(self) -> str:
        """The reason as a person reads it; whoever stops the run may know better ones."""
        return _STOPPED[self]

    @property
    def local(self) -> bool:
        """Whether it is this machine's fault."""
        return self in (Stop.DISK, Stop.WORKERS)


_STOPPED: Final = {
    Stop.INTERRUPT: "stopped by Ctrl-C",
    Stop.TERMINATE: "stopped by SIGTERM",
    Stop.HANGUP: "stopped by a hang-up",
    Stop.PIPE: "stopped: the reader of the output went away",
    Stop.DISK: "stopped: the disk failed",
    Stop.WORKERS: "stopped: worker processes failed",
    Stop.CLUSTER: "stopped: the cluster failed",
    Stop.LIMIT: "stopped by a limit",
}


@value(frozen=True, slots=True)
class Row:
    """One input line that asks for a fetch, as a source read it.

    ``text`` is its URL, outer blanks removed, bytes that are not UTF-8 backslash-escaped;
    ``error`` is set when the source already knows that it cannot be fetched.
    """

    source: str
    line: int
    text: str
    error: Error | None = None
    details: Details | None = None


@value(frozen=True, slots=True)
class Request:
    """One URL to fetch.

    ``url`` is the line as written; ``target`` what is asked for on the wire, without ``userinfo``; ``host`` is
    ``name`` or ``name:port`` and the unit of politeness; ``index`` counts the run's rows from 0; ``kept`` is what an
    earlier run has left of it, if that is to be compared. At a mirror, ``primary`` is the request as the list has it.
    """

    index: int
    url: str
    target: str
    host: str
    source: str
    line: int
    userinfo: str | None = None
    kept: "Kept | None" = None
    details: Details | None = None
    primary: "Request | None" = None

    @property
    def key(self) -> str:
        """Equal for two requests that ask for the same thing, as the same user, under the same name if they give one."""
        if self.primary is not None:
            return self.primary.key
        key = self.target if self.userinfo is None else f"{self.userinfo}@{self.target}"
        return key if self.details is None else named_key(key, self.details.name)


def named_key(key: str, name: str | None) -> str:
    """Return the key of a request whose row gives it a name: a target has no fragment, so this is no other's."""
    return key if name is None else f"{key}#{name}"


@value(frozen=True, slots=True)
class Stored:
    """A whole body: where it lies (relative to the output directory), its size in bytes and its SHA-256 in hex.

    ``path`` is None if it is kept nowhere; ``sha256`` too if there was none: a 204. In an archive its entry begins at
    byte ``offset`` and is ``length`` bytes long; where rows are counted, it is row ``offset`` and has no length.
    """

    path: str | None
    bytes: int
    sha256: str | None
    offset: int | None = None
    length: int | None = None


@value(frozen=True, slots=True)
class Redirect:
    """One hop that was followed: the status and the URL that answered it."""

    status: int
    url: str


@value(frozen=True, slots=True)
class Timings:
    """Seconds of one attempt by phase, with HAR 1.2's names; None for a phase that did not happen."""

    blocked: float | None = None
    dns: float | None = None
    connect: float | None = None
    tls: float | None = None
    send: float | None = None
    wait: float | None = None
    receive: float | None = None


@value(frozen=True, slots=True)
class Head:
    """What a response said about itself, before its body.

    ``url`` is the URL that answered, after redirects; ``disposition`` is its Content-Disposition field; ``validator``
    proves that another response has the same body.
    ``exchanges`` are all that led here, redirects first, for sinks that want them; none for others.
    """

    status: int
    url: str
    http_version: str | None = None
    remote_ip: str | None = None
    content_type: str | None = None
    charset: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    validator: str | None = None
    disposition: str | None = None
    exchanges: tuple[Exchange, ...] = ()


@value(frozen=True, slots=True)
class Kept:
    """A body of an earlier run whose file is still there, and the head it came with.

    ``condition`` are the header fields that ask the URL of that head for another body only.
    """

    stored: Stored
    head: Head
    condition: Headers = ()


@value(frozen=True, slots=True)
class Attempt:
    """What one try at a request gave: a stored body, or an error; never both, never neither.

    With status 304, ``stored`` is what the request had ``kept``. ``started`` and ``ended`` are seconds of the monotonic
    clock; ``retry_after`` is the server's wish in seconds.
    """

    number: int
    started: float
    ended: float
    head: Head | None = None
    stored: Stored | None = None
    error: Error | None = None
    redirects: tuple[Redirect, ...] = ()
    wire_bytes: int = 0
    resumed_from: int | None = None
    retry_after: float | None = None
    timings: Timings | None = None
    warnings: tuple[str, ...] = ()


@value(frozen=True, slots=True, kw_only=True)
class Record:
    """What happened to one input line: the line of output, of the journal, and the input of every report."""

    url: str
    id: str | None = None
    asked: Mapping[str, Any] | None = None
    source: str
    line: int
    host: str | None = None
    final_url: str | None = None
    outcome: Outcome
    status: int | None = None
    error: Error | None = None
    path: str | None = None
    offset: int | None = None
    length: int | None = None
    bytes: int | None = None
    wire_bytes: int = 0
    sha256: str | None = None
    content_type: str | None = None
    charset: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    http_version: str | None = None
    remote_ip: str | None = None
    redirects: tuple[Redirect, ...] = ()
    attempts: int = 0
    retried: tuple[str, ...] = ()
    resumed_from: int | None = None
    started_at: str | None = None
    elapsed: float = 0.0
    timings: Timings | None = None
    headers: Mapping[str, list[str]] | None = None
    duplicate_of: int | None = None
    changed: bool | None = None
    previous_sha256: str | None = None
    warnings: tuple[str, ...] = ()
    meta: Mapping[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Whether the line got what it asked for: every outcome but ``failed``."""
        return self.outcome is not _FAILED

    @property
    def delivered(self) -> bool:
        """Whether it says what lies at its path: if it is ok, and if only the command for it has failed."""
        return self.outcome is not _FAILED or (self.error is not None and self.error.kind == ErrorKind.EXEC)


#: The record's keys in the order of its line; ``ok`` follows ``outcome``.
RECORD_KEYS: Final[tuple[str, ...]] = tuple(
    key for name in Record.__dataclass_fields__ for key in ((name, "ok") if name == "outcome" else (name,))
)


def to_line(record: Record) -> bytes:
    """Return the record as one line of JSON (RFC 8259) with its newline: every key, UTF-8, safe to print."""
    # Written out, since this is done once per line of a list: a loop over the names takes twice as long.
    values = {
        "url": record.url,
        "id": record.id,
        "asked": record.asked,
        "source": record.source,
        "line": record.line,
        "host": record.host,
        "final_url": record.final_url,
        "outcome": record.outcome,
        "ok": record.outcome is not _FAILED,
        "status": record.status,
        "error": record.error,
        "path": record.path,
        "offset": record.offset,
        "length": record.length,
        "bytes": record.bytes,
        "wire_bytes": record.wire_bytes,
        "sha256": record.sha256,
        "content_type": record.content_type,
        "charset": record.charset,
        "etag": record.etag,
        "last_modified": record.last_modified,
        "http_version": record.http_version,
        "remote_ip": record.remote_ip,
        "redirects": record.redirects,
        "attempts": record.attempts,
        "retried": record.retried,
        "resumed_from": record.resumed_from,
        "started_at": record.started_at,
        "elapsed": record.elapsed,
        "timings": record.timings and _phases(record.timings),
        "headers": record.headers,
        "duplicate_of": record.duplicate_of,
        "changed": record.changed,
        "previous_sha256": record.previous_sha256,
        "warnings": record.warnings,
        "meta": record.meta,
    }
    return harmless_json(orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE))


def _phases(timings: Timings) -> dict[str, float | None]:
    """Return what orjson would make of the timings itself, in a third of the time."""
    return {
        "blocked": timings.blocked,
        "dns": timings.dns,
        "connect": timings.connect,
        "tls": timings.tls,
        "send": timings.send,
        "wait": timings.wait,
        "receive": timings.receive,
    }


def from_line(line: bytes) -> Record:
    """Return the record that :func:`to_line` wrote; keys that this version does not know are ignored.

    Raises ValueError if the line is not such a record.
    """
    try:
        values = orjson.loads(line)
        known = _known(Record, values)
        known["outcome"] = Outcome(known["outcome"])
        if known.get("error") is not None:
            known["error"] = Error(**_known(Error, known["error"]))
        if known.get("timings") is not None:
            known["timings"] = Timings(**_known(Timings, known["timings"]))
        known["redirects"] = tuple(Redirect(**_known(Redirect, hop)) for hop in known.get("redirects") or ())
        known["retried"] = tuple(known.get("retried") or ())
        known["warnings"] = tuple(known.get("warnings") or ())
        return Record(**known)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record: {error}") from error


def _known(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in kind.__dataclass_fields__}


def timestamp(epoch: float) -> str:
    """Return seconds since 1970 as RFC 3339 in UTC with milliseconds: ``2026-11-21T03:00:00.123Z``."""
    second = floor(epoch)
    microseconds = round((epoch - second) * 1e6)
    if microseconds == 1_000_000:
        second, microseconds = second + 1, 0
    return f"{_second(second)}.{microseconds // 1000:03}Z"


@lru_cache(maxsize=64)
def _second(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed line, as the summary lists it."""

    url: str
    source: str
    line: int
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The whole run in numbers; ``ok + failed + not_started`` is ``lines``.

    ``not_started`` and ``lines`` are those known: of a list that was still being sent, what had arrived.
    ``errors`` counts failures by kind and host; ``failures`` are the first of them. ``stopped`` says what ``stop`` was.
    """

    lines: int
    ok: int
    failed: int
    not_started: int
    outcomes: Mapping[str, int]
    errors: Mapping[str, Mapping[str, int]]
    failures: tuple[Failure, ...]
    retries: int
    bytes: int
    wire_bytes: int
    elapsed: float
    p50: float | None
    p95: float | None
    stop: Stop | None = None
    stopped: str = ""
