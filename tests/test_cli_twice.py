"""Two runs on one directory, and what the last one leaves to be read."""

import fcntl
import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.command import Command, Ran
from tests.server import Scope
from tests.sockets import until


def test_the_second_gives_up(run_fetcher: Command, server: Scope) -> None:
    """A second run that has waited in vain ends with status 4 and one line that names the first, and sends nothing."""
    with run_fetcher.start("get", server.url("slow", delay=30), "-q") as first:
        until(lambda: server.active_now("slow") == 1)
        ran = run_fetcher("get", server.url("other"), "-q", "--wait", "0.3")
        assert (ran.code, ran.stdout) == (4, "")
        said = rf"fetcher: another fetcher \(pid {first.pid}, since \d\d:\d\d:\d\d\) is using fetched\n"
        assert re.fullmatch(said, ran.stderr)
        assert server.requests("other") == []
        os.kill(first.pid, 15)
        first.communicate(timeout=30)


def test_the_second_waits(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """With ``--wait`` the second goes on when the first has ended, and says at first what it waits for."""
    assert run_fetcher("get", server.url("a"), "-q").code == 0
    with (tmp_path / "fetched/.fetcher/lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with run_fetcher.start("get", server.url("a"), "--wait", "1m") as second:
            assert second.stderr is not None
            told = second.stderr.readline()
            assert second.poll() is None
            fcntl.flock(lock, fcntl.LOCK_UN)
            output, errors = second.communicate(timeout=30)
    ran = Ran(second.returncode, output, told + errors)
    assert (ran.code, ran.records[0]["outcome"]) == (0, "skipped")
    assert re.match(r"fetcher: another fetcher \(.*\) is using fetched; waiting up to 60 s\n", ran.stderr)
    assert len(server.requests("a")) == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_stopped_while_it_waits(number: int, status: int, run_fetcher: Command, tmp_path: Path) -> None:
    """A run that is stopped before it began says so, fetches nothing, and leaves all files as they were."""
    written = [tmp_path / name for name in ("failed.txt", "summary.json", "metrics.prom")]
    for path in written:
        path.write_text("of an earlier run\n")
    files = ("--failed", written[0], "--summary", written[1], "--metrics", written[2])
    (tmp_path / "fetched/.fetcher").mkdir(parents=True)
    with (tmp_path / "fetched/.fetcher/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with run_fetcher.start("get", "http://127.0.0.1:9/", "--wait", "1m", *files) as process:
            assert process.stderr is not None
            assert process.stderr.readline().endswith(b"is using fetched; waiting up to 60 s\n")
            process.send_signal(number)
            output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (status, b"")
    assert re.fullmatch(rb"fetcher: stopped by [-\w ]+ before the run began\n", errors)
    assert {path: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == dict.fromkeys(
        written, "of an earlier run\n"
    )


def test_last_run(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """DIR keeps what ``--summary`` says of the last run that was one."""
    path = tmp_path / "fetched/.fetcher/last-run.json"
    run_fetcher("get", server.url("a"), "--summary", "summary.json")
    first = path.read_bytes()
    assert first == (tmp_path / "summary.json").read_bytes()
    assert json.loads(first)["exit_status"] == 0
    for word in ("-n", "--no-save"):
        run_fetcher("get", server.url("a"), word)
        assert path.read_bytes() == first
    run_fetcher("get", server.url("b", status=404))
    assert json.loads(path.read_bytes())["errors"] == {"http.404": {server.base.removeprefix("http://"): 1}}
    assert json.loads(path.read_bytes())["exit_status"] == 1


def test_last_run_without_room(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """A last-run.json that cannot be written is this machine's trouble: status 3, one line, and the rest as ever."""
    (tmp_path / "fetched/.fetcher/last-run.json").mkdir(parents=True)
    ran = run_fetcher("get", server.url("a"))
    assert (ran.code, ran.records[0]["ok"]) == (3, True)
    assert ran.stderr.count("fetcher: cannot write fetched/.fetcher/last-run.json: is a directory\n") == 1
    assert not list(tmp_path.rglob("*.new"))
