"""Command lines that cannot be carried out, and the pages that say what can."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from fetcher import __version__
from fetcher.cli.flags import NOT_FOR_RETRY, Flags, RetryFlags
from fetcher.cli.help import COMMON
from fetcher.cli.outcome import outcome
from tests.command import Command
from tests.server import Scope

#: Gives ``fetcher`` some words; returns its exit status and what it says on standard error.
Say = Callable[..., tuple[int, str]]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Say:
    """Return what carries out a command line in this process, in a directory of its own."""
    monkeypatch.chdir(tmp_path)

    def say(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["fetcher", *words])
        status = outcome()
        written = capsys.readouterr()
        assert written.out == ""
        return status, written.err

    return say


URL = "http://127.0.0.1:1/"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("get", "name a SOURCE: a list file, - for standard input, or a URL; fetcher get --help tells more"),
        ("gte", "no such command 'gte'. Did you mean 'get'?  (fetcher --help tells more)"),
        ("\x1b[31m", r"no such command '\x1b[31m'  (fetcher --help tells more)"),
        ("demo x", "got unexpected extra argument(s) (x)  (fetcher demo --help tells more)"),
        ("demo --serve x", '--serve "x": write a whole number such as 50'),
        ("get nofile", "no such file: nofile"),
        ("get urls.txt", "no such file: urls.txt"),
        ("get example.com/x", "no such file: example.com/x; for a URL write https://example.com/x"),
        ("get localhost:8080", "no such file: localhost:8080; for a URL write https://localhost:8080"),
        ("get \x1b[31m", r"no such file: \x1b[31m"),
        ("get .", ". is a directory; name a list file in it"),
        (f"get {URL} nofile", "no such file: nofile"),
        (f"get {URL} -c 0", "concurrency must be 1 to 10000, not 0"),
        (f"get {URL} -c 5x", '--concurrency "5x": write a whole number such as 50, or auto'),
        (f"get {URL} --per-host 0", "per-host must be at least 1, not 0"),
        (f"get {URL} --per-host x", '--per-host "x": write a whole number such as 50'),
        (f"get {URL} --rate 0", '--rate "0": write a rate such as 20, 20/s or 100/m'),
        (f"get {URL} --host-rate x", '--host-rate "x": write a rate such as 20, 20/s or 100/m'),
        (f"get {URL} --retries -1", '--retries "-1": write a whole number such as 50'),
        (f"get {URL} --connect-timeout 0", "connect-timeout must be above 0"),
        (f"get {URL} --read-timeout 1d", '--read-timeout "1d": write a time such as 30, 30s, 5m or 2h'),
        (f"get {URL} --timeout 0", "timeout must be above 0"),
        (f"get {URL} --max-retry-wait x", '--max-retry-wait "x": write a time such as 30, 30s, 5m or 2h'),
        (f"get {URL} --max-size 5x", '--max-size "5x": write a size such as 500k, 10M or 2Gi'),
        (f"get {URL} --max-redirects x", '--max-redirects "x": write a whole number such as 50'),
        (f"get {URL} --existing x", '--existing "x": write one of skip, refresh, replace'),
        (f"get {URL} --progress x", '--progress "x": write one of auto, live, lines, json, off'),
        (f"get {URL} -H x", "--header: write a header field such as 'Accept: text/html'"),
        (f"get {URL} -H @none", "--header @none: No such file or directory"),
        (f"get {URL} -H Host:x", "--header: Host is decided by the request itself"),
        (f"get {URL} -H range:bytes=0-", "--header: range is decided by the request itself"),
        (f"get {URL} --user-agent \x1b", "--user-agent: control characters have no place in a header field"),
        (f"get {URL} --proxy ftp://x", "--proxy: write a proxy such as http://proxy:3128"),
        (f"get {URL} --ca-file none", "--ca-file none: No such file or directory"),
        (f"get {URL} --failed no/dir", "cannot write no/dir: No such file or directory"),
        (f"get {URL} --summary .", "cannot write .: Is a directory"),
        (f"get {URL} --failed a --summary a", "--failed and --summary need a file each"),
        (f"get {URL} --wait x", '--wait "x": write a time such as 30, 30s, 5m or 2h'),
        (f"get {URL} --metrics .", "cannot write .: Is a directory"),
        (f"get {URL} --output-dir=", '--output-dir "": write a directory such as fetched'),
    ],
)
def test_refusals(words: str, message: str, say: Say) -> None:
    """What cannot be carried out ends with status 2 and one line that says what to type instead."""
    assert say(*words.split(" ")) == (2, f"fetcher: {message}\n")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("option", "suggested"),
    [
        ("--conc", "(Possible options: --concurrency)"),
        ("--max-s", "(Possible options: --max-size, --max-speed)"),
        ("--concurency", "--concurrency"),
        ("--dryrun", "--dry-run"),
        ("--retry", "--retries"),
    ],
)
def test_suggested_options(option: str, suggested: str, say: Say) -> None:
    """A mistyped option is met with the one that was meant."""
    status, message = say("get", URL, option, "5")
    assert (status, message.count("\n")) == (2, 1)
    assert message.startswith(f"fetcher: no such option: {option} (Possible options: ")
    assert suggested in message


def test_missing_value(say: Say) -> None:
    """An option without its value is named."""
    assert say("get", URL, "-o") == (2, "fetcher: option '-o' requires an argument  (fetcher --help tells more)\n")


def test_bad_names(say: Say) -> None:
    """A template that cannot be is refused with the fields that there are."""
    for template in ("{foo}", "", "/{path}", "../{path}", "{n"):
        status, message = say("get", URL, "--name", template)
        assert (status, message.count("\n")) == (2, 1)
        assert message.startswith("fetcher: --name: ")
        assert "{host} {path}" in message


def test_refused_headers_are_not_shown(say: Say) -> None:
    """A mistyped secret does not land on the screen."""
    for words in (["-H", "hush"], ["-H", "X: \x01hush"], ["--proxy", "ftp://u:hush@h"], ["--user-agent", "\x01hush"]):
        status, message = say("get", URL, *words)
        assert status == 2
        assert "hush" not in message


@pytest.mark.parametrize("words", ["--help", "get --help", "get -h", "retry --help", "demo --help", "--version", ""])
def test_pages(words: str, run_fetcher: Command) -> None:
    """Help fits a terminal of 60 lines by 80 columns, whatever the environment; without a command it is an error."""
    ran = run_fetcher(*words.split())
    assert ran.code == (0 if words else 2)
    page, rest = (ran.stdout, ran.stderr) if words else (ran.stderr, ran.stdout)
    assert rest == ""
    lines = page.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 80
    assert page.isascii()
    assert "\x1b" not in page
    if words == "--version":
        assert page == f"fetcher {__version__}\n"


@pytest.mark.parametrize(("command", "flags"), [("get", Flags), ("retry", RetryFlags)])
def test_every_option_is_on_the_pages(command: str, flags: type[Flags], run_fetcher: Command) -> None:
    """``--help`` explains common options and names the others, ``--help-all`` explains all, examples come first."""
    short, whole = (run_fetcher(command, page).stdout for page in ("--help", "--help-all"))
    assert {field.name for field in fields(RetryFlags)} >= COMMON
    for field in fields(flags):
        option = f"--{field.name.replace('_', '-')}"
        if field.name in {"sources", "directory"} or (command == "retry" and field.name in NOT_FOR_RETRY):
            continue
        explained = re.compile(rf"^  (-\w, )?{option} .*  [a-z]", re.MULTILINE)
        assert explained.search(whole), option
        assert bool(explained.search(short)) == (field.name in COMMON), option
        assert re.search(rf"{option}\s", short), option
    assert max(map(len, whole.splitlines())) <= 80
    for page in (short, whole):
        assert page.index(f"fetcher {command} ") < page.index("Output:")
        assert "FETCHER_CONCURRENCY" in page


@pytest.mark.parametrize(
    ("shell", "status"),
    [
        ("--help >/dev/full", 3),
        ("--version >/dev/full", 3),
        ("get nofile 2>/dev/full", 2),
        ("get nofile 2>&-", 2),
        ("--version >&-", 0),
        ("get - <&-", 2),
    ],
)
def test_streams_that_take_nothing(shell: str, status: int, tmp_path: Path) -> None:
    """A full or closed stream costs what was to be written there, never a traceback or another status."""
    program = (
        "-c",
        f"import os, sys; os.execv('/bin/sh', ['sh', '-c', sys.executable + ' -X dev -W error -m fetcher {shell}'])",
    )
    ran = Command(tmp_path, program)()
    assert ran.code == status
    assert ran.stdout == ""
    assert ran.stderr.count("\n") <= 1


@pytest.mark.parametrize("words", [["--help"], ["get", "--help"], ["get", "--help-all"], ["--version"]])
def test_a_page_that_nobody_reads(words: list[str], run_fetcher: Command) -> None:
    """A reader that went away ends the command quietly with status 141."""
    read, write = os.pipe()
    os.close(read)
    with run_fetcher.start(*words, stdout=write) as process:
        os.close(write)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (141, b"")


def test_nothing_is_fetched_before_all_is_clear(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """A SOURCE that cannot be read ends the run before the first request of any other, and before DIR is made."""
    good = tmp_path / "good.txt"
    good.write_text(server.url("a") + "\n")
    ran = run_fetcher("get", good, server.url("b"), tmp_path / "none.txt")
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr == f"fetcher: no such file: {tmp_path}/none.txt\n"
    assert server.requests() == []
    assert not (tmp_path / "fetched").exists()


def test_directory_that_cannot_be_made(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """A DIR below a file ends the run with status 3 before the first request."""
    (tmp_path / "file").touch()
    ran = run_fetcher("get", server.url("a"), "-o", "file/dir")
    assert (ran.code, ran.stdout) == (3, "")
    assert ran.stderr == "fetcher: cannot use file/dir/.fetcher/partial: not a directory\n"
    assert server.requests() == []


def test_bugs(tmp_path: Path, server: Scope) -> None:
    """A bug ends the run with status 70 and its traceback; one that meets a single URL costs that URL."""
    for broken in ("fetcher.cli.get.exit_status", "fetcher.plan.parse"):
        ran = Command(tmp_path, ("-c", patched(broken)))("get", server.url("a"), "-o", broken)
        assert ran.code == 70
        assert "TypeError" in ran.stderr
        assert ran.stderr.endswith("fetcher: a bug; please report the lines above\n")
    ran = Command(tmp_path, ("-c", patched("fetcher.answer.codings")))(
        "get", server.url("a", encoding="gzip"), server.url("b", status=404)
    )
    assert ran.code == 1
    assert sorted(record["error"]["kind"] for record in ran.records) == ["http.404", "internal"]
    assert "a bug met" in ran.stderr
    assert "Traceback" not in ran.stderr


def patched(name: str) -> str:
    """Return a program that is ``fetcher`` with one of its functions broken."""
    module = name.rpartition(".")[0]
    return f"import {module}; {name} = None; from fetcher.__main__ import main; main()"
