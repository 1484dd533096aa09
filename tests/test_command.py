"""The way the tests run the real command, tried on pieces of Python."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.command import Command


def python(directory: Path, code: str) -> Command:
    """Return a command that is a piece of Python, run as ``fetcher`` is."""
    return Command(directory, program=("-c", code))


def test_command_result(tmp_path: Path) -> None:
    """A run gives exit status, both streams and the records."""
    code = "import sys; print('{\"a\": 1}\\n{}'); print(*sys.argv[1:], file=sys.stderr); sys.exit(3)"
    ran = python(tmp_path, code)("x y", tmp_path)
    assert (ran.code, ran.stdout, ran.stderr) == (3, '{"a": 1}\n{}\n', f"x y {tmp_path}\n")
    assert ran.records == [{"a": 1}, {}]
    assert python(tmp_path, "")().records == []


@pytest.mark.parametrize("output", ["{}", "[]\n", "{}\nno\n", "\n"])
def test_command_records_are_strict(tmp_path: Path, output: str) -> None:
    """Torn lines and lines that are not objects are no records."""
    with pytest.raises((AssertionError, ValueError)):
        _ = python(tmp_path, f"print({output!r}, end='')")().records


def test_command_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process gets the directory, an environment of PATH and what is given, and input only if given."""
    monkeypatch.setenv("SECRET", "1")
    code = "import json, os, sys; print(json.dumps([os.getcwd(), dict(os.environ), sys.stdin.read()]))"
    directory, environment, given = json.loads(python(tmp_path, code)(env={"A": "b"}).stdout)
    environment.pop("LC_CTYPE", None)  # Python's own, PEP 538
    assert (directory, environment, given) == (str(tmp_path), {"PATH": os.environ["PATH"], "A": "b"}, "")
    assert json.loads(python(tmp_path, code)(stdin=b"in").stdout)[2] == "in"


@pytest.mark.parametrize(
    "code",
    [
        "import sys; open(sys.executable)",
        "async def f(): pass\nf()",
        "import asyncio\nasync def f(): 1/0\nasync def main(): asyncio.create_task(f()); await asyncio.sleep(0)\nasyncio.run(main())",
    ],
)
def test_command_leaves_nothing_unclosed(tmp_path: Path, code: str) -> None:
    """A process that forgets a file, a coroutine or a task's error fails the test, although it exits with 0."""
    with pytest.raises(AssertionError, match="unclosed"):
        python(tmp_path, code)()


def test_command_timeout(tmp_path: Path) -> None:
    """A process that does not end is killed."""
    with pytest.raises(subprocess.TimeoutExpired):
        python(tmp_path, "import time; time.sleep(60)")(timeout=0.2)


def test_started_command(tmp_path: Path) -> None:
    """A started process can be sent signals, and does not outlive its block."""
    with python(tmp_path, "print('up', flush=True); input()").start(stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
    with python(tmp_path, "import time; time.sleep(60)").start() as process:
        pass
    assert process.returncode == -signal.SIGKILL


def test_run_fetcher(run_fetcher: Command, tmp_path: Path) -> None:
    """The fixture runs the real command in the test's directory."""
    assert run_fetcher == Command(tmp_path, ("-m", "fetcher"))
