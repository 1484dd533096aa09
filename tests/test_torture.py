"""A disk that fails at any moment: nothing half is left, and the same command again makes good."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fetcher.cli.outcome import outcome
from tests.command import Ran
from tests.saboteur import SmallRun, sabotaged
from tests.server import Scope

#: Gives ``fetcher`` some words, in this process.
Fetcher = Callable[..., Ran]


@pytest.fixture
def fetcher(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Fetcher:
    """Return what carries out a command line in this process, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["fetcher", *words])
        code = outcome()
        written = capfd.readouterr()
        return Ran(code, written.out.encode(), written.err.encode())

    return call


@pytest.fixture
def small(server: Scope, tmp_path: Path) -> SmallRun:
    """The list, as ``urls.txt``."""
    small = SmallRun(server)
    (tmp_path / "urls.txt").write_text("".join(f"{line}\n" for line in small.lines))
    return small


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("full", "no space left on device"),
        pytest.param("descriptors", "too many open files", marks=pytest.mark.slow),
        pytest.param("broken", "input/output error", marks=pytest.mark.slow),
    ],
)
def test_every_step_fails_once(harm: str, said: str, fetcher: Fetcher, small: SmallRun, tmp_path: Path) -> None:
    """Whatever the disk refuses, the run ends as documented; the next one makes good and asks for nothing twice."""
    small.learn(tmp_path / "reference", fetcher("get", "urls.txt", "-o", "reference"))
    out = tmp_path / "fetched"
    at, struck = 0, True
    while struck:
        at += 1
        with sabotaged(out, harm, at) as saboteur:
            ran = fetcher("get", "urls.txt")
        struck = saboteur.struck
        assert ran.code in ((1, 3) if struck else (1,)), (at, ran.stderr)
        assert "Traceback" not in ran.stderr, (at, ran.stderr)
        if ran.code == 3:
            assert len(re.findall(f"^fetcher: .*{said}", ran.stderr, re.MULTILINE)) == 1, (at, ran.stderr)
        small.check_whole(out)
        done, before = small.done(out), len(small.asked())
        again = fetcher("get", "urls.txt")
        small.check_complete(out, again)
        assert not done & set(small.asked()[before:])
        assert small.done(out) == small.good
        shutil.rmtree(out)
    assert at > 8
