"""The run as a job of a shell: suspended, in the background, in the foreground again."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.command import Command
from tests.server import Scope
from tests.test_cli_terminal import XTERM, ended, shown
from tests.test_progress import HIDE, Terminal

#: As much of a shell as it takes: the job has its own process group, and the terminal is its or the shell's.
SHELL = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
os.setsid()
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(2, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, "-m", "fetcher", *sys.argv[1:]])
while True:
    status = os.waitpid(job, os.WUNTRACED)[1]
    if not os.WIFSTOPPED(status):
        sys.exit(os.waitstatus_to_exitcode(status))
    os.tcsetpgrp(2, os.getpgrp())
    os.write(2, b"suspended by %d\\n" % os.WSTOPSIG(status))
    while os.read(0, 3) != b"fg\\n":
        os.killpg(job, signal.SIGCONT)
        os.kill(job, signal.SIGUSR1)
    os.tcsetpgrp(2, job)
    os.killpg(job, signal.SIGCONT)
"""


@pytest.fixture(name="terminal")
def _terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def tell(shell: Popen[bytes], command: str) -> None:
    """Give the shell a command."""
    assert shell.stdin is not None
    shell.stdin.write(f"{command}\n".encode())
    shell.stdin.flush()


@pytest.mark.parametrize("workers", [1, 2])
def test_suspended_and_continued(workers: int, server: Scope, terminal: Terminal, tmp_path: Path) -> None:
    """Ctrl-Z leaves cursor and terminal to the shell, the background draws nothing, and with fg the screen is back."""
    tty = terminal.stream.fileno()
    url = server.url("hanging", hang=True)
    shell = Command(tmp_path, ("-c", SHELL))
    words = ("get", url, "--workers", str(workers))
    with shell.start(*words, stdin=PIPE, stdout=tty, stderr=tty, env=XTERM) as process:
        shown(terminal, "active 1")
        terminal.type("\x1a")
        shown(terminal, f"suspended by {signal.SIGTSTP:d}")
        assert terminal.shows_cursor()
        assert [row for row in terminal.rows if row] == [f"suspended by {signal.SIGTSTP:d}"]
        tell(process, "bg")
        written = shown(terminal, "fetcher: 0/1")
        assert "\x1b" not in written.replace("\x1b[?7l", "").replace("\x1b[?7h", "")
        tell(process, "fg")
        assert HIDE in shown(terminal, "active 1")
        terminal.type("\x03\x03")
        ended(process, terminal)
    assert process.returncode == 130
    assert terminal.shows_cursor()
    rows = [re.sub(r"\^[CZ]", "", row) for row in terminal.rows if row]
    assert [row.split()[0] for row in rows[:4]] == ["suspended", "fetcher:", "stopped", "1"]
    assert not any("active" in row for row in rows)
