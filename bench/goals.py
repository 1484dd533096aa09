"""The goals, and which of them a run meets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.peers import ARIA2, CURL, CURL_TRANSPORT, CURL_WORKERS, SESSION, WGET2, WORKERS
from bench.samples import Quantity, Samples
from bench.table import figure, render

PASS: Final = "python -c pass"
VERSION: Final = "fetcher --version"
HELP: Final = "fetcher --help"
BY_HOST: Final = ", list by host"
SHUFFLED: Final = ", list shuffled"
LIVE: Final = ", live"
OFF: Final = ", no progress"

#: Who stands in the other column beside whom.
_CURL_COLUMN: Final = {SESSION: CURL_TRANSPORT, WORKERS: CURL_WORKERS}

#: What a contestant reached in a workload; None where it was not measured.
Reached = Callable[[Samples, str, str], float | None]


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on something measured: from below with ``at_least``, else from above.

    ``session`` is the bound for the default transport, ``curl`` the one for ``--transport curl``; None without one.
    ``contestant`` is who is measured for the session's column.
    """

    workload: str
    text: str
    reached: Reached
    session: float | None
    curl: float | None
    at_least: bool = False
    contestant: str = SESSION


def _beside(peer: str, of: Quantity = "rate") -> Reached:
    return lambda samples, workload, name: samples.ratio(workload, name, peer, of)


def _plain(of: Quantity) -> Reached:
    return lambda samples, workload, name: samples.median(workload, name, of)


def _order(samples: Samples, workload: str, name: str) -> float | None:
    """How far the order of the list changes the wall time, as the larger of both ratios."""
    ratio = samples.ratio(workload, name + BY_HOST, name + SHUFFLED, "wall")
    return max(ratio, 1 / ratio) if ratio else None


def _display(of: Quantity) -> Reached:
    return lambda samples, workload, name: samples.ratio(workload, name + LIVE, name + OFF, of)


def _start(samples: Samples, workload: str, name: str) -> float | None:
    return samples.ratio_of_least(workload, name, PASS)


def _version(samples: Samples, workload: str, _: str) -> float | None:
    return _start(samples, workload, VERSION)


GOALS: Final = (
    Goal("W1", "rate / curl -Z", _beside(CURL), 0.40, 1.1, at_least=True),
    Goal("W1", "rate / curl -Z, 2 workers", _beside(CURL), 0.60, None, at_least=True, contestant=WORKERS),
    Goal("W1", "rate / aria2", _beside(ARIA2), None, 2.5, at_least=True),
    Goal("W1", "rate / wget2", _beside(WGET2), None, 1.9, at_least=True),
    Goal("W1", "CPU per request / curl -Z", _beside(CURL, "cpu"), None, 1.1),
    Goal("W1", "peak memory / aria2", _beside(ARIA2, "peak"), None, 1.3),
    Goal("W1", "peak memory / curl -Z", _beside(CURL, "peak"), None, 2.6),
    Goal("W2", "rate / curl -Z", _beside(CURL), None, 0.8, at_least=True),
    Goal("W3", "rate / curl -Z", _beside(CURL), 1.0, 1.2, at_least=True),
    Goal("W3", "rate / wget2", _beside(WGET2), None, 0.6, at_least=True),
    Goal("W4@50", "wall / ideal", _plain("excess"), 1.06, 1.06),
    Goal("W4@200", "wall / ideal", _plain("excess"), 1.15, 1.15),
    Goal("W4@1000", "rate / wget2", _beside(WGET2), 0.7, 1.1, at_least=True),
    Goal("W4@1000", "rate / curl -Z", _beside(CURL), None, 2.2, at_least=True),
    Goal("W5", "peak memory, MiB", _plain("peak"), 64, 48),
    Goal("W5", "first request after, s", _plain("first"), 0.35, 0.30),
    Goal("W5", "rate / curl -Z", _beside(CURL), None, 1.2, at_least=True),
    Goal("W5", "stop after SIGINT, s", _plain("stopping"), None, 1.0),
    Goal("W6", "rate / curl -Z", _beside(CURL), 0.40, 1.0, at_least=True),
    Goal("W7", "wall, the slower order of the list / the other", _order, 1.10, 1.10),
    Goal("live", "wall / off", _display("wall"), 1.03, 1.03),
    Goal("live", "CPU / off", _display("cpu"), 1.03, 1.03),
    Goal("start", "--version / python -c pass", _version, None, 8),
    Goal("start", "get of one URL / python -c pass", _start, None, 12),
)


def judge(samples: Samples) -> str:
    """The table of the goals for what was run: for both transports the bound, what was reached, and the verdict."""
    rows = [
        [
            f"{goal.workload}: {goal.text}",
            *_verdict(goal, goal.session, goal.reached(samples, goal.workload, goal.contestant)),
            *_verdict(goal, goal.curl, goal.reached(samples, goal.workload, _CURL_COLUMN[goal.contestant])),
        ]
        for goal in GOALS
        if samples.names(goal.workload)
    ]
    return render(["goal", "session", "reached", "", "--transport curl", "reached", ""], rows)


def _verdict(goal: Goal, bound: float | None, reached: float | None) -> Sequence[str]:
    if bound is None:
        return "-", figure(reached), ""
    sign = ">=" if goal.at_least else "<="
    if reached is None:
        return f"{sign} {bound:g}", "-", "not measured"
    met = reached >= bound if goal.at_least else reached <= bound
    return f"{sign} {bound:g}", figure(reached), "met" if met else "missed"
