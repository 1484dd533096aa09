"""Completion in real shells, installed and used as the README says."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest

from docs.tables import parameter
from fetcher.cli.flags import Flags
from tests.sockets import until
from tests.test_packaging import imported
from tests.test_progress import Terminal

#: Each shell's start file, with a prompt that can be waited for.
SHELLS: Final = {
    "bash": (".bashrc", "PS1='ready> '\n"),
    "zsh": (".zshrc", "PS1='ready> '\n"),
    "fish": (".config/fish/config.fish", "function fish_prompt; echo 'ready> '; end\n"),
}

#: Metavars of options that take one of a few words.
WORDS: Final = {"HOW", "WHAT", "FORM"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a ``fetcher`` on its PATH, and nothing else."""
    program = tmp_path / "bin" / "fetcher"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fetcher "$@"\n')
    program.chmod(0o755)
    return tmp_path


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal for the shell."""
    terminal = Terminal()
    yield terminal
    terminal.close()


def environment(home: Path) -> dict[str, str]:
    """Return what a shell finds at its start."""
    return {"HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}", "TERM": "xterm", "LANG": "C.UTF-8"}


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("fetcher get --conc", "urrency"),
        ("fetcher veri", "fy"),
        ("fetcher get urls.txt --existing ref", "resh"),
        ("fetcher retry fetched --kind timeout.to", "tal"),
        ("fetcher get li", "st.txt"),
    ],
)
def test_tab(name: str, typed: str, completed: str, home: Path, terminal: Terminal) -> None:
    """After ``fetcher --install-completion`` a new shell completes commands, options, words and files."""
    shell = shutil.which(name) or pytest.skip(f"{name} is not installed")
    start_file, settings = SHELLS[name]
    (home / start_file).parent.mkdir(parents=True, exist_ok=True)
    (home / start_file).write_text(settings)
    (home / "list.txt").touch()
    installed = subprocess.run(
        [shell, "-c", "fetcher --install-completion; :"],
        env=environment(home),
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert f"{name} completion installed in {home}" in installed.stdout, installed.stderr

    written = ""

    def shows(text: str) -> bool:
        nonlocal written
        written += terminal.take()
        return text in written

    tty = terminal.stream.fileno()
    with subprocess.Popen(
        ["setsid", "--ctty", shell, "-i"], env=environment(home), cwd=home, stdin=tty, stdout=tty, stderr=tty
    ) as process:
        try:
            until(lambda: shows("ready> "))
            written = ""
            terminal.type(f"{typed}\t")
            if name == "zsh":  # whose first Tab only loads the script, and rings
                until(lambda: shows("\a"))
                terminal.type("\t")
            until(lambda: shows(completed))
        finally:
            process.kill()


def test_a_tab_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shell asks for at each Tab waits for no import that is of no use to it."""
    monkeypatch.setenv("_FETCHER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "fetcher get --conc")
    monkeypatch.setenv("COMP_CWORD", "2")
    modules = imported("-m", "fetcher")
    assert "fetcher.cli.app" in modules
    assert not {"aiohttp", "pydantic", "rich", "fetcher.wiring"} & modules


def test_words() -> None:
    """Every option that takes one of a few words completes them."""
    options = {field.name: parameter(field.name) for field in fields(Flags) if field.name != "sources"}
    assert [name for name, each in options.items() if each.metavar in WORDS and each.autocompletion is None] == []
    assert list(options["existing"].autocompletion()) == ["skip", "refresh", "replace"]
