"""L4: a run in Prometheus' text format, for the textfile collector of its node exporter."""

from collections.abc import Iterable, Mapping

from fetcher.model import Summary
from fetcher.status import ExitStatus

#: A metric's samples: labels without ``job``, and the value.
_Samples = Iterable[tuple[Mapping[str, str], float]]

_SUCCESS = "fetcher_last_success_timestamp_seconds"


def metrics_text(summary: Summary, status: ExitStatus, *, job: str, now: float, before: str = "") -> str:
    """Return the metrics of a run that ended at ``now``, in seconds since 1970; ``before`` is the last run's text.

    All are gauges without a timestamp, as the collector wants them. There is no label for a host or a URL, so their
    number is bounded; every outcome is there, also with 0, so that a rule can rely on it. The time of the last success
    is kept while runs fail; 0 means never.
    """
    labels = {"job": job}
    success = now if status is ExitStatus.OK else _last_success(before)
    errors = sorted((kind, sum(hosts.values())) for kind, hosts in summary.errors.items())
    metrics: tuple[tuple[str, str, _Samples], ...] = (
        ("fetcher_run_timestamp_seconds", "When the last run ended.", [({}, now)]),
        (_SUCCESS, "When the last run ended in which every URL was ok, or 0.", [({}, success)]),
        ("fetcher_run_duration_seconds", "How long the last run took.", [({}, round(summary.elapsed, 3))]),
        ("fetcher_exit_code", "The exit status of the last run.", [({}, int(status))]),
        ("fetcher_received_bytes", "Body bytes that the last run received.", [({}, summary.wire_bytes)]),
        (
            "fetcher_urls",
            "Lines of the last run's lists by what became of them.",
            [({"outcome": name}, count) for name, count in _outcomes(summary).items()],
        ),
        ("fetcher_errors", "Failed lines by kind.", [({"kind": kind}, count) for kind, count in errors]),
    )
    return "".join(
        f"# HELP {name} {text}\n# TYPE {name} gauge\n"
        + "".join(f"{name}{_labels({**labels, **own})} {_number(number)}\n" for own, number in samples)
        for name, text, samples in metrics
    )


def _outcomes(summary: Summary) -> dict[str, int]:
    return {**summary.outcomes, "not_started": summary.not_started}


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(number: float) -> str:
    return f"{number:.3f}".rstrip("0").rstrip(".")


def _last_success(before: str) -> float:
    for line in before.splitlines():
        name, _, number = line.rpartition(" ")
        if name.startswith(f"{_SUCCESS}{{"):
            try:
                return float(number)
            except ValueError:
                return 0
    return 0
