"""What the environment decides: the streams, the terminal, and the variables that stand for options."""

import io
import os
import pty
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest

from fetcher.cli.config import Config
from fetcher.cli.env import Display, Environment
from fetcher.cli.flags import Flags
from fetcher.cli.outcome import outcome

#: Neither stream is a terminal: cron, CI.
NOWHERE = Environment(
    stderr=io.StringIO(),
    stdout_fd=1,
    stdin_is_terminal=False,
    stdout_is_terminal=False,
    stdout_is_pipe=False,
    stderr_is_terminal=False,
    no_color=False,
    dumb=False,
    ascii_only=False,
    width=80,
)
TERMINAL = replace(NOWHERE, stdout_is_terminal=True, stderr_is_terminal=True)
PIPED = replace(NOWHERE, stdout_is_pipe=True, stderr_is_terminal=True)
FILED = replace(NOWHERE, stderr_is_terminal=True)

OFF, LINES, LIVE = Display.OFF, Display.LINES, Display.LIVE


@pytest.mark.parametrize(
    ("environment", "flags", "records", "display"),
    [
        (TERMINAL, Flags(), False, LIVE),
        (TERMINAL, Flags(json=True), True, OFF),
        (TERMINAL, Flags(json=True, progress="lines"), True, LINES),
        (TERMINAL, Flags(changed=True), True, OFF),
        (TERMINAL, Flags(changed=True, json=False), False, LIVE),
        (TERMINAL, Flags(json=True, progress="live"), True, LIVE),
        (TERMINAL, Flags(progress="lines"), False, LINES),
        (TERMINAL, Flags(progress="off"), False, OFF),
        (TERMINAL, Flags(quiet=1), False, OFF),
        (TERMINAL, Flags(quiet=1, progress="live"), False, OFF),
        (replace(TERMINAL, dumb=True), Flags(), False, LINES),
        (replace(TERMINAL, dumb=True), Flags(progress="live"), False, LINES),
        (replace(TERMINAL, no_color=True), Flags(), False, LIVE),
        (PIPED, Flags(), True, LINES),
        (PIPED, Flags(json=False), False, LINES),
        (PIPED, Flags(progress="live"), True, LIVE),
        (PIPED, Flags(quiet=1), False, OFF),
        (PIPED, Flags(quiet=1, changed=True), True, OFF),
        (PIPED, Flags(quiet=2, json=True), True, OFF),
        (FILED, Flags(), True, LIVE),
        (NOWHERE, Flags(), True, LINES),
        (NOWHERE, Flags(progress="live"), True, LINES),
        (NOWHERE, Flags(progress="off"), True, OFF),
        (NOWHERE, Flags(json=False), False, LINES),
        (NOWHERE, Flags(quiet=1), False, OFF),
        (replace(NOWHERE, stdout_is_terminal=True), Flags(), False, LINES),
        (NOWHERE, Flags(progress="json"), True, Display.JSON),
        (NOWHERE, Flags(progress="json", quiet=1), False, OFF),
        (TERMINAL, Flags(progress="json"), False, Display.JSON),
    ],
)
def test_what_is_shown_where(environment: Environment, flags: Flags, records: bool, display: Display) -> None:
    """Records go to whoever is no person; a live screen shares its terminal with nobody, unless asked to."""
    assert environment.prints_records(flags) is records
    assert environment.display(flags) is display


def test_pace_of_progress_lines() -> None:
    """A person gets a line every 5 seconds, a log every 30."""
    assert (PIPED.line_seconds, NOWHERE.line_seconds) == (5.0, 30.0)


def test_current_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal is what the kernel calls one; variables can only take something away."""
    master, slave = pty.openpty()
    read, write = os.pipe()
    saved = os.dup(1), os.dup(2)
    try:
        os.dup2(write, 1)
        os.dup2(slave, 2)
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), "utf-8"))
        found = Environment.current({"TERM": "xterm", "FORCE_COLOR": "1"})
        assert (found.stdout_is_pipe, found.stdout_is_terminal, found.stderr_is_terminal) == (True, False, True)
        assert (found.no_color, found.dumb, found.ascii_only) == (False, False, False)
        assert found.width == 80
        os.dup2(write, 2)
        assert not Environment.current({"TERM": "xterm", "FORCE_COLOR": "1"}).stderr_is_terminal
    finally:
        for descriptor, copy in enumerate(saved, 1):
            os.dup2(copy, descriptor)
        for descriptor in (*saved, master, slave, read, write):
            os.close(descriptor)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert Environment.current({"NO_COLOR": "1", "TERM": "dumb"}).no_color
    assert not Environment.current({"NO_COLOR": ""}).no_color
    assert Environment.current({}).dumb
    assert Environment.current({}).ascii_only


#: Carries out a command line up to the fetching, and returns how it was understood.
Parse = Callable[..., Flags]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Return what gives ``fetcher get`` some words and returns its flags."""
    seen: list[Flags] = []

    def main(flags: Flags, _environment: Environment, _typed: Sequence[str]) -> int:
        seen.append(flags)
        return 0

    def parse(*words: str) -> Flags:
        monkeypatch.setattr(sys, "argv", ["fetcher", "get", *words])
        assert outcome() == 0
        return seen.pop()

    monkeypatch.setattr("fetcher.cli.get.main", main)
    return parse


def option_of(name: str) -> str:
    """Return the long option that sets a field."""
    return "--" + name.replace("_", "-")


NAMES = [field.name for field in fields(Flags) if field.name != "sources"]


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_its_variable(
    name: str, parse: Parse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """FETCHER_<NAME> sets what --name sets, unless that is given too; an empty one says nothing."""
    monkeypatch.delenv(f"FETCHER_{name.upper()}", raising=False)
    default = getattr(parse("x"), name)
    typed: object
    match getattr(Flags(), name):
        case bool():
            value, typed, words = "1", True, [option_of(name)]
        case int():
            value, typed, words = "2", 2, ["-qq"]
        case _ if name == "json":
            value, typed, words = "0", False, ["--no-json"]
        case _ if name == "header":
            value, typed, words = "X-A: 1 2\nX-B: @", ["X-A: 1 2", "X-B: @"], ["-H", "X-A: 1 2", "-H", "X-B: @"]
        case _ if name == "config":
            (path := tmp_path / "a b").write_text("")
            value, typed, words = str(path), Config(str(path), {}, ()), ["--config", str(path)]
        case _:
            value, typed, words = "a b", "a b", [option_of(name), "a b"]
    monkeypatch.setenv(f"FETCHER_{name.upper()}", value)
    assert getattr(parse("x"), name) == typed != default
    monkeypatch.setenv(f"FETCHER_{name.upper()}", "")
    assert getattr(parse("x"), name) == default
    assert getattr(parse("x", *words), name) == typed


def test_the_command_line_wins(parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is typed beats what the environment says; options may follow the sources, and -- ends them."""
    for variable, value in (("CONCURRENCY", "7"), ("JSON", "1"), ("HEADER", "X: 1"), ("QUIET", "2")):
        monkeypatch.setenv(f"FETCHER_{variable}", value)
    flags = parse("a", "-c", "9", "-", "--no-json", "-q", "-HY: 2", "--", "-v")
    assert (flags.concurrency, flags.json, flags.quiet, flags.header) == ("9", False, 1, ["Y: 2"])
    assert flags.sources == ["a", "-", "-v"]
    assert not flags.verbose


@pytest.mark.parametrize("variable", ["FETCHER_NO_SAVE", "FETCHER_JSON", "FETCHER_QUIET", "FETCHER_DRY_RUN"])
def test_refused_variable(variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A switch takes 1 or 0, says the refusal of anything else."""
    monkeypatch.setenv(variable, "perhaps")
    monkeypatch.setattr(sys, "argv", ["fetcher", "get", "x"])
    assert outcome() == 2
    assert capsys.readouterr() == ("", f"fetcher: {variable}: write 1 or 0\n")
