"""What a person sees, and what a log gets: the real command on a terminal, in a pipe, in a file."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest

from tests.command import Command
from tests.server import Scope
from tests.sockets import until
from tests.test_progress import HIDE, SHOW, Terminal

XTERM = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1"}

#: What a list, a header or a reason phrase may hold to change what a person sees.
HOSTILE = "\x1b[2J\x1b]0;pwned\x07\u202egpj.exe[bold red]:smile:[/a]\x9b31m"


@pytest.fixture(name="terminal")
def _terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def ended(process: Popen[bytes], terminal: Terminal) -> str:
    """Read the terminal until the process has ended; return all that was written since."""
    written = ""

    def over() -> bool:
        nonlocal written
        done = process.poll() is not None
        written += terminal.read()
        return done

    until(over)
    return written


def shown(terminal: Terminal, text: str) -> str:
    """Read the terminal until it shows ``text``; return all that was written since."""
    written = ""

    def there() -> bool:
        nonlocal written
        written += terminal.read()
        return any(text in row for row in terminal.rows)

    until(there)
    return written


def test_live_screen_and_what_stays(run_fetcher: Command, server: Scope, terminal: Terminal) -> None:
    """On a terminal there are no records; a slow URL is watched live, and only the summary stays."""
    tty = terminal.stream.fileno()
    slow = server.url("slow.bin", size=100, drip="13,0.1")
    with run_fetcher.start("get", slow, server.url("gone", status=404), stdout=tty, stderr=tty, env=XTERM) as process:
        assert HIDE in shown(terminal, "1 / 2")
        assert not terminal.shows_cursor()
        assert terminal.rows[0].startswith("fetcher  http://127.0.")
        written = ended(process, terminal)
    assert process.returncode == 1
    assert terminal.shows_cursor()
    assert "\x1b[31m" in written
    assert re.fullmatch(r"2 URLs in [\d.]+ m?s   .*", terminal.rows[0])
    assert terminal.rows[1] == "1 ok, 1 failed, 0 not started"
    assert terminal.rows[2].startswith("  http.404  http://127.0.0.1:")
    assert [row.split()[0] for row in terminal.rows[3:] if row] == ["files", "list", "again", "report"]
    assert "{" not in written


def test_auto_on_the_screen(run_fetcher: Command, server: Scope, terminal: Terminal) -> None:
    """With ``--concurrency auto`` the screen says how many there may be."""
    tty, slow = terminal.stream.fileno(), server.url("slow.bin", size=100, drip="13,0.1")
    words = ("get", slow, "-o", "out", "--concurrency", "auto")
    with run_fetcher.start(*words, stdout=tty, stderr=tty, env=XTERM) as process:
        shown(terminal, " up to 200 at once, Ctrl-C to stop")
        ended(process, terminal)
    assert process.returncode == 0


def test_a_tiny_run_does_not_flash(run_fetcher: Command, server: Scope, terminal: Terminal) -> None:
    """What is done at once shows two lines and nothing else."""
    tty = terminal.stream.fileno()
    with run_fetcher.start("get", server.url("a"), stdout=tty, stderr=tty, env=XTERM) as process:
        written = ended(process, terminal)
    assert process.returncode == 0
    assert HIDE not in written
    assert len(written.splitlines()) == 2
    assert terminal.rows[1] == "1 ok, 0 failed, 0 not started"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_terminal_is_given_back(
    number: signal.Signals, status: int, run_fetcher: Command, server: Scope, terminal: Terminal
) -> None:
    """Stopped by a signal, twice to be quick, the run tells so and leaves the summary and the cursor."""
    tty = terminal.stream.fileno()
    url = server.url("hanging", hang=True)
    with run_fetcher.start("get", url, stdout=tty, stderr=tty, env=XTERM) as process:
        assert HIDE in shown(terminal, "active 1")
        process.send_signal(number)
        shown(terminal, "finishing 1 transfer (up to 5 s), Ctrl-C again to drop them")
        process.send_signal(number)
        ended(process, terminal)
    assert process.returncode == status
    assert terminal.shows_cursor()
    assert terminal.rows[0].startswith("stopped")
    assert terminal.rows[2] == "0 ok, 1 failed, 0 not started"
    assert "cancelled" in terminal.rows[3]


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ([], XTERM | {"NO_COLOR": "1"}, {"screen", "summary"}),
        ([], {"TERM": "dumb"}, {"summary"}),
        ([], {}, {"summary"}),
        (["-c", "auto"], XTERM, {"screen", "colour", "summary"}),
        (["--progress", "off"], XTERM, {"colour", "summary"}),
        (["--progress", "lines"], XTERM, {"colour", "summary"}),
        (["--json"], XTERM, {"records", "colour", "summary"}),
        (["--json", "--progress", "live"], XTERM, {"records", "screen", "colour", "summary"}),
        (["-q"], XTERM, {"colour", "summary"}),
        (["-qq"], XTERM, set()),
    ],
)
def test_what_terminals_can_do(
    words: list[str],
    environment: dict[str, str],
    expected: set[str],
    run_fetcher: Command,
    server: Scope,
    terminal: Terminal,
) -> None:
    """NO_COLOR, TERM=dumb, --progress, --json and -q are obeyed."""
    tty = terminal.stream.fileno()
    urls = [server.url("a", delay=0.5), server.url("b", status=404)]
    with run_fetcher.start("get", *urls, *words, stdout=tty, stderr=tty, env=environment) as process:
        written = ended(process, terminal)
    assert process.returncode == 1
    assert written.count(HIDE) == written.count(SHOW)
    found = {
        "screen": HIDE in written,
        "colour": re.search(r"\x1b\[\d+m", written) is not None,
        "records": written.count('{"url":') == 2,
        "summary": "2 URLs in " in written,
    }
    assert {name for name, there in found.items() if there} == expected
    assert "\x1b" not in written or expected & {"screen", "colour"}


def test_a_pipe_on_the_same_terminal(run_fetcher: Command, server: Scope, terminal: Terminal) -> None:
    """While the records go through a pipe, whose reader prints to this terminal, no screen is drawn over it."""
    with run_fetcher.start("get", server.url("a", delay=0.6), stderr=terminal.stream.fileno(), env=XTERM) as process:
        written = ended(process, terminal)
        assert process.stdout is not None
        assert process.stdout.read().count(b"\n") == 1
    assert re.fullmatch(r"1 URL in .*\r\n1 ok, 0 failed, 0 not started\r\n", written.replace("\x1b[0m", ""))


@pytest.mark.usefixtures("jq")
def test_a_reader_on_the_same_terminal(server: Scope, terminal: Terminal, tmp_path: Path) -> None:
    """What jq prints to this terminal while the run goes on is whole, line by line, and so is what the run says."""
    tty = terminal.stream.fileno()
    urls = [server.url(f"{number:02}", delay=0.03 * number) for number in range(40)]
    urls += [server.url("gone", status=404), server.url("moved", redirect_to="00")]
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
    line = ["bash", "-c", f"{sys.executable} -m fetcher get urls.txt -v | jq -rc .url"]
    environment = XTERM | {"PATH": os.environ["PATH"]}
    with Popen(line, cwd=tmp_path, env=environment, stdin=DEVNULL, stdout=tty, stderr=tty) as process:
        written = re.sub(r"\x1b\[\d*m", "", ended(process, terminal))
    lines = written.removesuffix("\r\n").split("\r\n")
    printed = [line for line in lines if line.startswith("http://")]
    assert sorted(printed) == sorted(urls)
    told = [line for line in lines if line not in printed]
    assert re.fullmatch(r"302 to .*/00  .*/moved.*  \(urls.txt:42\)", told[0])
    assert re.fullmatch(r"42 URLs in .*", told[1])
    assert told[2] == "41 ok, 1 failed, 0 not started"
    assert "\x1b" not in written


def test_a_file_on_a_terminal(run_fetcher: Command, server: Scope, terminal: Terminal, tmp_path: Path) -> None:
    """While the records go to a file, the terminal is free for the live screen."""
    with (
        (tmp_path / "records").open("wb") as file,
        run_fetcher.start(
            "get", server.url("a", delay=0.6), stdout=file.fileno(), stderr=terminal.stream.fileno(), env=XTERM
        ) as process,
    ):
        written = ended(process, terminal)
    assert HIDE in written
    assert (tmp_path / "records").read_bytes().count(b"\n") == 1


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1", "TERM": "xterm", "CLICOLOR_FORCE": "1"}])
def test_no_escape_off_a_terminal(environment: dict[str, str], run_fetcher: Command, server: Scope) -> None:
    """Off a terminal neither stream has an escape or a carriage return, whatever the environment and --progress say."""
    urls = [server.url("a", delay=0.5), server.url("b", status=404), server.url("c", redirect_to="a"), "http://\x1b\r/"]
    ran = run_fetcher("get", *urls, "-v", "--progress", "live", env=environment)
    assert ran.code == 1
    assert len(ran.records) == 4
    for stream in (ran.stdout_bytes, ran.stderr_bytes):
        assert b"\x1b" not in stream
        assert b"\r" not in stream


def test_nothing_in_the_environment(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """Without PATH, HOME, LANG and TERM all is as ever, and nothing is made but DIR."""
    program = (
        "-c",
        "import os, sys; os.execve(sys.executable, [sys.executable, '-m', 'fetcher', *sys.argv[1:]], {})",
    )
    ran = Command(tmp_path, program)("get", server.url("é"), server.url("b", status=404))
    assert (ran.code, len(ran.records)) == (1, 2)
    assert "1 ok, 1 failed, 0 not started" in ran.stderr
    assert b"\x1b" not in ran.stderr_bytes + ran.stdout_bytes
    assert [path.name for path in tmp_path.iterdir()] == ["fetched"]


@pytest.mark.parametrize("ascii_only", [False, True])
def test_hostile_text(
    run_fetcher: Command, server: Scope, terminal: Terminal, tmp_path: Path, ascii_only: bool
) -> None:
    """Text of lists and servers cannot move the cursor, change the title, reorder what is read, or be markup."""
    tty = terminal.stream.fileno()
    lines = [
        f"http://h/{HOSTILE}",
        server.url(f"x{HOSTILE[20:]}".replace("\x9b", ""), status=404, reason=HOSTILE.replace("\x07", "")),
        server.url("moved", redirect_to=server.url("b[bold]:smile:[/a]", status=500, retry_after="0")),
        server.url("slow[/a]", delay=0.6),
    ]
    (tmp_path / f"list{HOSTILE.replace('/', '')}").write_text("\n".join(lines))
    name = next(path.name for path in tmp_path.iterdir())
    environment = XTERM | (
        {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONIOENCODING": "ascii:backslashreplace"} if ascii_only else {}
    )
    words = ("get", name, "-v", "--retries", "1", "-o", "out[/a]\x1b[2J")
    with run_fetcher.start(*words, stdout=tty, stderr=tty, env=environment) as process:
        written = ended(process, terminal)
    assert process.returncode == 1
    assert "\x1b[2J" not in written
    assert "\x1b]" not in written
    assert not re.search("[\x07\x9b\u202e]", written)
    text = "\n".join(terminal.rows)
    assert r"\x1b[2J" in text
    assert "[/a]" in text
    assert ":smile:" in text
    assert not ascii_only or written.isascii()


def test_a_keyboard(run_fetcher: Command, server: Scope) -> None:
    """URLs can be typed: the run says so, and Ctrl-D ends the list."""
    keyboard, tty = os.openpty()
    with run_fetcher.start("get", "-", stdin=tty) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"reading URLs from the keyboard, Ctrl-D ends\n"
        os.write(keyboard, f"{server.url('a')}\n\x04".encode())
        process.communicate(timeout=30)
    os.close(keyboard)
    os.close(tty)
    assert process.returncode == 0
    assert len(server.requests("a")) == 1


def test_a_host_that_is_left_alone(run_fetcher: Command, server: Scope, terminal: Terminal) -> None:
    """The screen says of a host that refuses when it goes on."""
    tty = terminal.stream.fileno()
    url = server.url("busy", status=429, retry_after="60")
    with run_fetcher.start("get", url, stdout=tty, stderr=tty, env=XTERM) as process:
        shown(terminal, "429, resumes in 5")
        assert any("retry 1" in row for row in terminal.rows)
        process.send_signal(signal.SIGINT)
        ended(process, terminal)
    assert process.returncode == 130
