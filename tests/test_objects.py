"""Progress for programs: which objects there are, what is in them, and that every line is one."""

import json
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from fetcher.events import Counters
from fetcher.model import Failure, Outcome
from fetcher.views.meter import Meter
from fetcher.views.objects import error_object, message_object, progress_object, summary_object
from tests.command import Command
from tests.server import Scope
from tests.test_lastrun import RUN
from tests.test_screen import NOW, example

DOCUMENT = Path(__file__).parent.parent / "docs/progress.md"


def test_progress_in_numbers() -> None:
    """An object has the numbers of the screen; what becomes of the lines adds up to them."""
    counters = example()
    counters.bytes, counters.retries = 900, 26
    found = json.loads(progress_object(counters, NOW, Meter(0.0)))
    assert found == {
        "type": "progress",
        "elapsed": 67.0,
        "lines": 10_000,
        "open": False,
        "settled": 6_204,
        "ok": 6_133,
        "failed": 71,
        "retrying": 14,
        "active": 50,
        "waiting": 3_732,
        "outcomes": counters.outcomes,
        "error_kinds": {"http.404": 52, "http.429": 9, "http.503": 6, "timeout.read": 3, "dns": 1},
        "retries": 26,
        "bytes": 900,
        "wire_bytes": counters.wire_bytes,
        "rate": 92.597,
        "byte_rate": round(counters.wire_bytes / 67, 3),
        "eta": 41.0,
        "p50": counters.latencies.quantile(0.5),
        "p95": counters.latencies.quantile(0.95),
        "stopping": None,
        "cluster": None,
    }
    assert found["settled"] + found["retrying"] + found["active"] + found["waiting"] == found["lines"]


def test_what_is_not_known_is_null() -> None:
    """While the list is open there is no guess of the end; before the first answer there are no quantiles."""
    found = json.loads(progress_object(Counters(NOW), NOW, Meter(NOW)))
    assert found["open"]
    assert (found["eta"], found["p50"], found["p95"], found["lines"]) == (None, None, None, 0)


def test_no_guess_while_stopping() -> None:
    """A run that is being stopped does not end when its list would."""
    counters = example()
    counters.stopping = "finishing"
    found = json.loads(progress_object(counters, NOW, Meter(0.0)))
    assert (found["eta"], found["stopping"]) == (None, "finishing")


def test_a_line_is_harmless() -> None:
    """Control characters, bidirectional ones and passwords of lists and servers are on no line."""
    counters = Counters(0.0)
    counters.failed = counters.outcomes[Outcome.FAILED] = 1
    counters.first_failures = [Failure("http://u:secret@h/\x9b\u202e", "l\u2028", 1, "dns", "\x1b[2J")]
    lines = [
        message_object("fetcher: \x1b[2J\n\x9b\udc80"),
        error_object("\x1b[2J\n\x9b\udc80", 3),
        summary_object(replace(RUN, summary=counters.summary(1.0))),
    ]
    for line in lines:
        assert re.search("[\x00-\x1f\x7f-\x9f\u2028\u202e]", line) is None
        assert "secret" not in line
    assert json.loads(lines[0]) == {"type": "message", "message": r"\x1b[2J\x0a\x9b\udc80"}
    assert json.loads(lines[2])["failures"][0]["url"].startswith("http://***@h/")


def test_every_key_is_documented() -> None:
    """The page has a row for each key of a progress object, and no others."""
    rows = re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert rows == list(json.loads(progress_object(example(), NOW, Meter(0.0))))[1:]


def objects(stderr: str) -> list[dict[str, object]]:
    """Return the lines, each of which must be an object with a type."""
    found = [json.loads(line) for line in stderr.splitlines()]
    assert all(each["type"] in ("progress", "message", "summary", "error") for each in found)
    return found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_line_is_an_object(workers: str, run_fetcher: Command, server: Scope) -> None:
    """Progress once a second and at the end, retries and redirects as messages, last the summary."""
    urls = [
        server.url("slow", delay=1.3),
        server.url("gone", status=404),
        server.url("moved", redirect_to="slow"),
        server.url("busy", status=503, retry_after="0"),
    ]
    words = ("-v", "--progress", "json", "--workers", workers, "--summary", "sum.json")
    ran = run_fetcher("get", *urls, *words, env={"FETCHER_RETRIES": "1"})
    assert ran.code == 1
    assert len(ran.records) == 4
    found = objects(ran.stderr)
    kinds = [each["type"] for each in found]
    assert kinds[-2:] == ["progress", "summary"]
    assert kinds.count("progress") >= 2
    assert kinds.count("message") == 2
    assert (found[-2]["settled"], found[-2]["lines"], found[-2]["failed"]) == (4, 4, 2)
    summary = json.loads((run_fetcher.directory / "sum.json").read_text())
    assert found[-1] == {"type": "summary"} | summary


@pytest.mark.parametrize(
    ("words", "status", "kinds"),
    [
        (("{good}", "-q"), 0, []),
        (("{bad}", "-q"), 1, ["summary"]),
        (("{bad}", "-qq"), 1, []),
        (("empty.txt",), 0, ["message", "progress", "summary"]),
        (("missing.txt",), 2, ["error"]),
        (("{good}", "--rate", "x"), 2, ["error"]),
        ((), 2, ["error"]),
        (("{good}", "-o", "empty.txt"), 3, ["error"]),
    ],
)
def test_quiet_and_wrong(
    words: tuple[str, ...], status: int, kinds: list[str], run_fetcher: Command, server: Scope
) -> None:
    """How quiet a run is stays as it is; what ends it early is an object too."""
    (run_fetcher.directory / "empty.txt").write_text("")
    good, bad = server.url("a"), server.url("b", status=404)
    ran = run_fetcher("get", *(word.format(good=good, bad=bad) for word in words), env={"FETCHER_PROGRESS": "json"})
    assert ran.code == status
    found = objects(ran.stderr)
    assert sorted(str(each["type"]) for each in found) == kinds
    assert status in (0, 1) or found[-1]["exit_status"] == status


def test_stopped_and_asked(run_fetcher: Command, server: Scope) -> None:
    """SIGUSR1 asks for an object now; what Ctrl-C does is told in one."""
    with run_fetcher.start("get", server.url("hanging", hang=True), "--progress", "json") as process:
        assert process.stderr is not None
        while json.loads(process.stderr.readline())["active"] == 0:
            pass
        process.send_signal(signal.SIGUSR1)
        assert json.loads(process.stderr.readline())["type"] == "progress"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        found = objects(process.communicate(timeout=30)[1].decode())
    assert any(str(each.get("message")).startswith("stopping: finishing 1 transfer") for each in found)
    assert (found[-1]["type"], found[-1]["stop"], found[-1]["exit_status"]) == ("summary", "interrupt", 130)


def test_a_busy_directory(run_fetcher: Command, server: Scope) -> None:
    """That another run is at work is told in an object, with status 4."""
    with run_fetcher.start("get", server.url("hanging", hang=True), "--progress", "json") as process:
        assert process.stderr is not None
        process.stderr.readline()
        ran = run_fetcher("get", server.url("a"), "--progress", "json")
        process.kill()
        process.communicate()
    assert ran.code == 4
    (found,) = objects(ran.stderr)
    assert found["type"] == "error"
