"""Metrics: what a monitoring system reads of a run, however that has ended."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fetcher.model import Outcome
from fetcher.status import ExitStatus
from fetcher.views.metrics import metrics_text
from tests.command import Command
from tests.server import Scope
from tests.sockets import until
from tests.test_summary import EXAMPLE

SAMPLE = re.compile(r'([a-z_]+)\{job="((?:[^"\\]|\\["\\n])*)"(?:,([a-z]+)="([\w.]+)")?\} (-?\d+(?:\.\d+)?)')


def samples(text: str) -> dict[str, float]:
    """Return the samples by name and own label's value; AssertionError unless it is the format, each metric in one piece."""
    found: dict[str, float] = {}
    declared = list[str]()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            declared.append(line.split()[2])
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {declared[-1]} gauge"
        else:
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            assert match[1] == declared[-1]
            key = match[1] + (f" {match[4]}" if match[4] else "")
            assert key not in found
            found[key] = float(match[5])
    assert len(set(declared)) == len(declared)
    return found


def test_numbers() -> None:
    """Each metric has the summary's number; kinds are summed over hosts, of which none is named."""
    text = metrics_text(EXAMPLE, ExitStatus.SOME_FAILED, job="mirror", now=1_795_264_136.5124)
    found = samples(text)
    assert found == {
        "fetcher_run_timestamp_seconds": 1_795_264_136.512,
        "fetcher_last_success_timestamp_seconds": 0,
        "fetcher_run_duration_seconds": 108,
        "fetcher_exit_code": 1,
        "fetcher_received_bytes": 3_100_000_000,
        "fetcher_urls fetched": 9_740,
        "fetcher_urls unchanged": 122,
        "fetcher_urls skipped": 0,
        "fetcher_urls failed": 138,
        "fetcher_urls not_started": 0,
        "fetcher_errors dns": 3,
        "fetcher_errors http.404": 96,
        "fetcher_errors http.429": 31,
        "fetcher_errors timeout.read": 8,
    }
    assert not re.search("example|such", text)


def test_the_last_success() -> None:
    """A run in which all is ok is the last success; one that fails keeps that of the file before; damage means never."""
    good = metrics_text(EXAMPLE, ExitStatus.OK, job="mirror", now=1_000.25)
    assert samples(good)["fetcher_last_success_timestamp_seconds"] == 1_000.25
    bad = metrics_text(EXAMPLE, ExitStatus.LOCAL, job="other", now=2_000.0, before=good)
    worse = metrics_text(EXAMPLE, ExitStatus.LOCAL, job="other", now=3_000.0, before=bad)
    assert samples(worse)["fetcher_last_success_timestamp_seconds"] == 1_000.25
    assert samples(worse)["fetcher_run_timestamp_seconds"] == 3_000
    name = "fetcher_last_success_timestamp_seconds"
    for damaged in ("", "x", f"{name} 5", f'{name}{{job="x"}} later', f"{name}{{", "\0"):
        text = metrics_text(EXAMPLE, ExitStatus.LOCAL, job="x", now=1.0, before=damaged)
        assert samples(text)[name] == 0


def test_names_of_directories() -> None:
    """Whatever a directory is called, the label stands on one line, escaped as the format demands."""
    text = metrics_text(replace(EXAMPLE, errors={}), ExitStatus.OK, job='a"b\\c\nd', now=1.0)
    assert samples(text)["fetcher_exit_code"] == 0
    assert 'job="a\\"b\\\\c\\nd"' in text


def test_a_run(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """The file is written by a run that is ok, and by one that is not, which keeps the time of the success."""
    path = tmp_path / "fetcher.prom"
    assert run_fetcher("get", server.url("a", size=70), "-o", "my/mirror/", "--metrics", path).code == 0
    good = samples(path.read_text())
    assert 'job="mirror"' in path.read_text()
    assert (good["fetcher_exit_code"], good["fetcher_urls fetched"], good["fetcher_received_bytes"]) == (0, 1, 70)
    assert good["fetcher_last_success_timestamp_seconds"] == good["fetcher_run_timestamp_seconds"] > 1.7e9
    assert {f"fetcher_urls {outcome}" for outcome in Outcome} < good.keys()
    assert run_fetcher("get", server.url("b", status=404), "-o", "my/mirror", "--metrics", path).code == 1
    bad = samples(path.read_text())
    assert (bad["fetcher_exit_code"], bad["fetcher_errors http.404"]) == (1, 1)
    assert bad["fetcher_last_success_timestamp_seconds"] == good["fetcher_last_success_timestamp_seconds"]
    assert bad["fetcher_run_timestamp_seconds"] > good["fetcher_run_timestamp_seconds"]
    assert [found.name for found in tmp_path.iterdir() if "fetcher.prom" in found.name] == ["fetcher.prom"]


def test_a_directory_that_cannot_be_used(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """A run that cannot begin for this machine's fault writes the file all the same."""
    (tmp_path / "fetched").touch()
    ran = run_fetcher("get", server.url("a"), "--metrics", "fetcher.prom")
    assert ran.code == 3
    found = samples((tmp_path / "fetcher.prom").read_text())
    assert (found["fetcher_exit_code"], found["fetcher_urls fetched"]) == (3, 0)


def test_a_bug(tmp_path: Path, server: Scope) -> None:
    """So does a run that meets a bug."""
    program = "import fetcher.cli.get; fetcher.cli.get.exit_status = None; from fetcher.__main__ import main; main()"
    assert Command(tmp_path, ("-c", program))("get", server.url("a"), "--metrics", "fetcher.prom").code == 70
    assert samples((tmp_path / "fetcher.prom").read_text())["fetcher_exit_code"] == 70


def test_a_second_run(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """A run that is refused since there is another leaves the file to that one."""
    (tmp_path / "fetcher.prom").write_text("old\n")
    with run_fetcher.start("get", server.url("slow", delay=30), "-q") as first:
        until(lambda: server.active_now("slow") == 1)
        assert run_fetcher("get", server.url("a"), "--metrics", "fetcher.prom").code == 4
        assert (tmp_path / "fetcher.prom").read_text() == "old\n"
        first.terminate()
        first.communicate(timeout=30)


@pytest.mark.parametrize("words", [("--failed", "a", "--metrics", "a"), ("--summary", "a", "--metrics", "a")])
def test_one_file_for_two(words: tuple[str, ...], run_fetcher: Command) -> None:
    """A file cannot be two things."""
    ran = run_fetcher("get", "http://127.0.0.1:1/", *words)
    assert (ran.code, ran.stderr) == (2, f"fetcher: {words[0]} and --metrics need a file each\n")
