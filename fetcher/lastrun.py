"""L1: how a run went and how it was called, as ``--summary`` writes it and the report reads it again."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

import orjson

from fetcher.model import Failure, Stop, Summary
from fetcher.status import ExitStatus

#: Outcomes are names as well as text.
_OPTIONS: Final = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
_WHOLE: Final = ("lines", "ok", "failed", "not_started", "retries", "bytes", "wire_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """A run that has ended; ``started_at`` is RFC 3339 in UTC, ``command`` can be pasted and has no secrets."""

    summary: Summary
    status: ExitStatus
    started_at: str
    command: str
    version: str


def to_json(run: LastRun) -> bytes:
    """Return the run as an indented JSON object: the summary's numbers, then how it ended and how it was called."""
    return orjson.dumps(values(run), option=_OPTIONS)


def values(run: LastRun) -> dict[str, Any]:
    """Return the same as values by name."""
    numbers = {field.name: getattr(run.summary, field.name) for field in fields(run.summary)}
    about = {
        "exit_status": int(run.status),
        "started_at": run.started_at,
        "command": run.command,
        "version": run.version,
    }
    return numbers | about


def from_json(text: bytes) -> LastRun:
    """Return the run that :func:`to_json` wrote; keys that this version does not know are ignored.

    Raises ValueError if it is none.
    """
    try:
        told = orjson.loads(text)
        known = {field.name: told[field.name] for field in fields(Summary)}
        known["failures"] = tuple(Failure(**failure) for failure in known["failures"])
        known["stop"] = None if known["stop"] is None else Stop(known["stop"])
        summary = Summary(**known)
        words = {name: told[name] for name in ("started_at", "command", "version")}
        run = LastRun(summary=summary, status=ExitStatus(told["exit_status"]), **words)
        _check(run)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the summary of a run: {error}") from error
    return run


def _check(run: LastRun) -> None:
    summary = run.summary
    texts: list[Any] = [run.started_at, run.command, run.version, summary.stopped]
    texts += [text for each in summary.failures for text in (each.url, each.source, each.kind, each.message)]
    whole = [getattr(summary, name) for name in _WHOLE] + [each.line for each in summary.failures]
    whole += _counts(summary.outcomes)
    for hosts in summary.errors.values():
        whole += _counts(hosts)
    seconds = [summary.elapsed, *(number for number in (summary.p50, summary.p95) if number is not None)]
    if not (
        all(isinstance(text, str) for text in texts)
        and all(type(number) is int and number >= 0 for number in whole)
        and all(type(number) in (int, float) and 0 <= number < 1e10 for number in seconds)
    ):
        raise ValueError("not the summary of a run")
    datetime.fromisoformat(run.started_at)


def _counts(counts: Mapping[str, int]) -> list[int]:
    return list(counts.values())
