"""Commands run for each fetched URL: what they are given, what becomes of their failures, and that they end."""

import json
import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

import pytest

from fetcher.cli.flags import Flags
from fetcher.cli.get import options_of
from fetcher.errors import UsageError
from fetcher.options import Command as Chosen
from tests.command import Command, Ran
from tests.server import Scope
from tests.sockets import until


def sh(script: str, *words: str) -> tuple[str, str]:
    """Return the option for a script of the shell, whose first word is $1."""
    quoted = script.replace("'", "'\\''")
    return "--exec", f"sh -c '{quoted}' sh {' '.join(words)}"


def by_url(ran: Ran) -> dict[str, dict[str, Any]]:
    """Return the records by URL."""
    return {record["url"]: record for record in ran.records}


def lines(path: Path) -> list[str]:
    """Return the lines of a file that commands write to; none if there is none."""
    return path.read_text().splitlines() if path.exists() else []


def gone(pid: int) -> bool:
    """Tell whether a process is there no more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("more", [(), ("--workers", "2")])
def test_what_it_gets(run_fetcher: Command, server: Scope, tmp_path: Path, more: tuple[str, ...]) -> None:
    """It runs once for each fetched URL, with file and URL as words and the record on its standard input, and no other."""
    good = [server.url("a'b; $(touch oops)"), server.url("x", redirect_to="y"), server.url("secret")]
    good = [good[0].replace(" ", "%20"), good[1], good[2].replace("://", "://me:hush@")]
    bad = [server.url("gone", status=404), "no URL"]
    (tmp_path / "urls").write_text("\n".join([*good, *bad, good[0]]))
    script = sh('{ echo "$1"; echo "$2"; cat; } >> got; printf "on standard %s" output', "{path}", "{url}")
    jobs = ("--exec-jobs", "1", "--retries", "0", *more)
    ran = run_fetcher("get", "urls", *jobs, *script)
    found = by_url(ran)
    got = lines(tmp_path / "got")
    told = {json.loads(got[at + 2])["url"]: got[at : at + 2] for at in range(0, len(got), 3)}
    assert told == {url: [f"fetched/{found[url]['path']}", url.replace("me:hush@", "")] for url in good}
    for record in map(json.loads, got[2::3]):
        if record["url"] != good[0]:  # whose second line has a record, too
            assert record == found[record["url"]]
    assert ran.code == 1
    assert not (tmp_path / "oops").exists()
    assert "on standard output" not in ran.stdout + ran.stderr
    ran = run_fetcher("get", "urls", *jobs, *script)
    assert {record["outcome"] for record in ran.records} == {"skipped", "failed", "duplicate"}
    assert lines(tmp_path / "got") == got


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "sh ended with 3"),
        ("echo first; printf 'no \\033[31m good\\n\\n' >&2; exit 1", r"sh ended with 1: no \x1b[31m good"),
        ("yes | head -c 10000000; printf '\\377'; exit 1", r"sh ended with 1: \xff"),
        ("kill -9 $$", "sh was ended by SIGKILL"),
        ("sleep 60", "sh took longer than 300 ms"),
        ("trap '' TERM; sleep 60 & wait; sleep 60", "sh took longer than 300 ms"),
    ],
)
def test_failures(run_fetcher: Command, server: Scope, script: str, message: str) -> None:
    """However a command fails, its URL has failed by it, the file is there, and the message tells why."""
    ran = run_fetcher("get", server.url("a"), "--exec-timeout", "0.3", *sh(script))
    (record,) = ran.records
    assert ran.code == 1
    assert (record["outcome"], record["ok"]) == ("failed", False)
    assert record["error"] == {"kind": "exec", "message": message, "transient": False}
    assert (run_fetcher.directory / "fetched" / record["path"]).read_bytes() == server.body_of("a")
    assert f"  exec  {server.url('a')}  argv:1  sh " in ran.stderr
    assert "\x1b" not in ran.stderr


def test_not_a_program(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """What the system does not take for a program is a failure too."""
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF junk")
    program.chmod(0o700)
    ran = run_fetcher("get", server.url("a"), "--exec", str(program))
    assert ran.records[0]["error"]["message"] == "program cannot be started: exec format error"


def test_again(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """What a command has refused is fetched again by the next run, whatever was there before, and keeps its name."""
    url = server.url("a", size=10)
    test = sh("test -e good", "{path}")
    assert run_fetcher("get", url, "-q").code == 0
    assert run_fetcher("get", url, "-q", "--existing", "replace", *test).code == 1
    told = run_fetcher("records", "fetched", "--failed").records
    assert [record["error"]["kind"] for record in told] == ["exec"]
    assert run_fetcher("get", url, "-q", *test).code == 1
    assert run_fetcher("retry", "fetched", "-q", "--kind", "exec", *test).code == 1
    (tmp_path / "good").touch()
    ran = run_fetcher("get", url, *test)
    assert (ran.code, ran.records[0]["outcome"]) == (0, "fetched")
    assert len(server.requests()) == 5
    assert run_fetcher("get", url, *test).records[0]["outcome"] == "skipped"
    assert ran.records[0]["path"] == told[0]["path"]
    assert not list(tmp_path.rglob("*~*"))


def test_refresh(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """What has not changed needs no command; what has, and was refused, is not taken for what was there before."""
    url = server.url("a", etag='"v"', revalidate=1)
    mark = sh("echo ran >> log; test -e good", "{path}")
    (tmp_path / "good").touch()
    assert run_fetcher("get", url, "-q", *mark).code == 0
    assert run_fetcher("get", url, "-q", "--existing", "refresh", *mark).code == 0
    assert lines(tmp_path / "log") == ["ran"]
    (tmp_path / "good").unlink()
    assert run_fetcher("get", url, "-q", "--existing", "replace", *mark).code == 1
    ran = run_fetcher("get", url, "--existing", "refresh", *mark)
    assert (ran.code, ran.records[0]["status"]) == (1, 200)
    assert lines(tmp_path / "log") == ["ran"] * 3


@pytest.mark.parametrize("jobs", [1, 3])
def test_some_at_a_time(run_fetcher: Command, server: Scope, tmp_path: Path, jobs: int) -> None:
    """As many run at once as may, and no more; meanwhile other URLs are fetched."""
    urls = [server.url(str(number)) for number in range(9)]
    script = sh("echo + >> log; sleep 0.1; echo - >> log")
    ran = run_fetcher("get", *urls, "--exec-jobs", str(jobs), *script)
    assert ran.code == 0
    running = peak = 0
    for mark in lines(tmp_path / "log"):
        running += 1 if mark == "+" else -1
        peak = max(peak, running)
    assert (running, peak, len(lines(tmp_path / "log"))) == (0, jobs, 18)
    assert len(ran.records) == 9


def test_verbose(run_fetcher: Command, server: Scope) -> None:
    """With -v each line that a command writes is shown, harmless, with its URL; standard output has the records only."""
    url = server.url("a")
    ran = run_fetcher("get", url, "-v", *sh("echo one; printf 'two \\033[2J\\nthree'"))
    assert [line for line in ran.stderr.splitlines() if line.endswith(f"  {url}")] == [
        f"one  {url}",
        rf"two \x1b[2J  {url}",
        f"three  {url}",
    ]
    assert len(ran.records) == 1


def test_what_it_leaves_behind(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """A command ends when its process does, whatever still holds its output, or has never read its input."""
    began = time.monotonic()
    long = server.url("a?" + "x" * 40_000)
    ran = run_fetcher("get", long, *sh("sleep 20 & echo $! > pid"), timeout=30)
    with suppress(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert ran.code == 0
    assert time.monotonic() - began < 15


def heard(process: Popen[bytes], kind: str) -> dict[str, Any]:
    """Return the next object of a kind that a run with ``--progress json`` tells."""
    assert process.stderr is not None
    return next(found for line in process.stderr if (found := json.loads(line))["type"] == kind)


@pytest.mark.parametrize("signals", [1, 2])
def test_stopped(run_fetcher: Command, server: Scope, tmp_path: Path, signals: int) -> None:
    """A signal lets commands under way finish, the second ends them and all that they have started; no record is lost."""
    urls = [server.url(str(number)) for number in range(3)]
    wait = "while ! test -e go; do sleep 0.05; done" if signals == 1 else "sleep 600 & echo $! >> pids; wait"
    script = sh(f"echo $$ >> pids; {wait}")
    with run_fetcher.start("get", *urls, "--progress", "json", "--exec-jobs", "1", *script) as process:
        until(lambda: len(lines(tmp_path / "pids")) == signals)
        # A transfer has its file shortly before it is over.
        until(lambda: all(any(tmp_path.glob(f"fetched/*/*/{number}*")) for number in range(3)))
        active = -1
        while active:
            process.send_signal(signal.SIGUSR1)
            active = heard(process, "progress")["active"]
        process.send_signal(signal.SIGTERM)
        stopping = heard(process, "message")["message"]
        assert stopping == "stopping: finishing 1 command (up to 5 s), Ctrl-C again to drop them"
        if signals == 2:
            process.send_signal(signal.SIGTERM)
        (tmp_path / "go").touch()
        asked = time.monotonic()
        output, errors = process.communicate(timeout=30)
    assert time.monotonic() - asked < 4
    ran = Ran(process.returncode, output, errors)
    assert ran.code == 143
    told = sorted(record["error"]["message"] if record["error"] else "" for record in ran.records)
    first = "" if signals == 1 else "sh ended: stopped by SIGTERM"
    assert told == [first, "sh not run: stopped by SIGTERM", "sh not run: stopped by SIGTERM"]
    assert all(map(gone, map(int, lines(tmp_path / "pids"))))
    ran = run_fetcher("get", *urls, *sh("true"))
    assert (ran.code, len(ran.records)) == (0, 3)


def test_deadline(run_fetcher: Command, server: Scope) -> None:
    """A run whose time is over ends its commands, too."""
    began = time.monotonic()
    ran = run_fetcher("get", server.url("a"), "--deadline", "0.5", *sh("sleep 600"))
    assert ran.code == 5
    assert ran.records[0]["error"]["message"] == "sh ended: stopped by --deadline 500 ms"
    assert time.monotonic() - began < 15


def test_killed(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """A run that is killed leaves no lock with its commands; the next one does what it has not."""
    with run_fetcher.start("get", server.url("a"), *sh("echo $$ > pid; exec sleep 60")) as process:
        until(lambda: bool(lines(tmp_path / "pid")))
        process.kill()
        process.wait()
        try:
            ran = run_fetcher("get", server.url("a"), *sh("true"))
        finally:
            os.kill(int(lines(tmp_path / "pid")[0]), signal.SIGKILL)
    assert (ran.code, ran.records[0]["outcome"]) == (0, "fetched")


PATH: Final = "{path}"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (Flags(exec=""), "--exec: write a command such as: gzip -t {path}"),
        (Flags(exec="sh 'x"), "--exec: no closing quotation"),
        (Flags(exec="no-such-command {path}"), "--exec: no such command: no-such-command"),
        (
            Flags(exec="sh -c 'rm {path}'"),
            "exec: {path} and {url} stand alone, as in: sh -c 'wc -c < \"$1\"' sh {path}",
        ),
        (Flags(exec="sh --to={url}"), "exec: {path} and {url} stand alone, as in: sh -c 'wc -c < \"$1\"' sh {path}"),
        (Flags(exec="sh {path}", no_save=True), "exec with {path} needs a file, and no-save keeps none"),
        (
            Flags(exec="sh {path}", format="warc"),
            "exec with {path} needs a file for each body: format files, in a directory",
        ),
        (Flags(exec="sh", exec_jobs="0"), "exec-jobs must be at least 1, not 0"),
        (Flags(exec="sh", exec_timeout="0"), "exec-timeout must be above 0"),
        (Flags(exec_jobs="2"), "--exec-jobs and --exec-timeout need --exec"),
    ],
)
def test_refusals(flags: Flags, message: str) -> None:
    """What cannot be meant is refused before anything is fetched; a file's name never becomes part of a script."""
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        options_of(flags)


def test_words() -> None:
    """A command is read as a shell would read its words, and nothing more; other braces are its own."""
    chosen = options_of(Flags(exec="awk '{ print $1 }' {path} $HOME *", exec_jobs="2", exec_timeout="1m")).command
    assert chosen == Chosen(words=("awk", "{ print $1 }", PATH, "$HOME", "*"), jobs=2, timeout=60.0)
