"""L4: progress, messages and the summary for programs: JSON objects, one a line; no I/O."""

from dataclasses import replace
from typing import Any

import orjson

from fetcher.events import Counters
from fetcher.lastrun import LastRun, values
from fetcher.text import harmless_json, printable
from fetcher.urls import redact
from fetcher.views.meter import Meter


def progress_object(counters: Counters, now: float, meter: Meter) -> str:
    """Return how it goes; ``settled``, ``retrying``, ``active`` and ``waiting`` add up to the ``lines`` known so far.

    Names that the summary has too mean the same. Seconds, bytes, and numbers per second; None while there is no telling.
    """
    meter.sample(counters, now)
    return _line(
        "progress",
        {
            "elapsed": round(now - counters.started, 3),
            "lines": counters.known,
            "open": counters.total is None,
            "settled": counters.settled,
            "ok": counters.ok,
            "failed": counters.failed,
            "retrying": counters.retrying,
            "active": len(counters.active),
            "waiting": counters.queued,
            "outcomes": counters.outcomes,
            "error_kinds": counters.error_kinds,
            "retries": counters.retries,
            "bytes": counters.bytes,
            "wire_bytes": counters.wire_bytes,
            "rate": round(meter.rate, 3),
            "byte_rate": round(meter.byte_rate, 3),
            "eta": None if meter.eta is None or counters.stopping else round(meter.eta, 1),
            "p50": counters.latencies.quantile(0.5),
            "p95": counters.latencies.quantile(0.95),
            "stopping": counters.stopping,
            "cluster": counters.machines,
        },
    )


def message_object(text: str) -> str:
    """Return what people would read as a line."""
    return _line("message", {"message": printable(text.removeprefix("fetcher: "))})


def error_object(message: str, status: int) -> str:
    """Return why the command ends without a summary, and with which status."""
    return _line("error", {"message": printable(message), "exit_status": status})


def summary_object(run: LastRun) -> str:
    """Return the run as a whole, without anybody's password."""
    failures = tuple(replace(failure, url=redact(failure.url)) for failure in run.summary.failures)
    return _line("summary", values(replace(run, summary=replace(run.summary, failures=failures))))


def _line(kind: str, told: dict[str, Any]) -> str:
    return harmless_json(orjson.dumps({"type": kind} | told, option=orjson.OPT_NON_STR_KEYS)).decode()
