"""Progress on a real terminal and as plain lines, driven by a clock that the test moves."""

import asyncio
import os
import re
import select
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from typing import TextIO

import pytest

from fetcher.events import Counters
from fetcher.views.progress import MAX_PENDING, LineProgress, LiveProgress
from fetcher.views.screen import ScreenContext

CONTEXT = ScreenContext(sources="urls.txt", directory="fetched", concurrency=50)
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class FakeClock:
    """A clock that stands still until it is moved; each look at it may cost time."""

    def __init__(self) -> None:
        self.time = 100.0
        self.cost = 0.0
        self.slept: list[float] = []
        self._wakes: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        self.time += self.cost
        return self.time

    def random(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wakes.append((self.time + seconds, wake))
        await wake

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, and everyone who wakes meanwhile do what they do."""
        end = self.time + seconds + 1e-9
        await self._settle()
        while self._wakes and min(self._wakes)[0] <= end:
            self._wakes.sort(key=lambda item: item[0])
            self.time, wake = self._wakes.pop(0)
            if not wake.done():
                wake.set_result(None)
            await self._settle()
        self.time = end

    async def _settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


class Terminal:
    """A pseudo-terminal, and what its screen shows: just the control functions that progress may use."""

    def __init__(self) -> None:
        self._master, slave = os.openpty()
        os.set_blocking(self._master, False)
        self.stream: TextIO = os.fdopen(slave, "w", encoding="utf-8")
        self.rows = [""]
        self._cursor = True
        self._wrap = True
        self.resize(80, 24)

    def resize(self, width: int, height: int) -> None:
        """Change the size; what no longer fits into a row is wrapped."""
        self.width, self.height = width, height
        termios.tcsetwinsize(self.stream.fileno(), (height, width))
        self.rows = [row[at : at + width] for row in self.rows for at in range(0, max(1, len(row)), width)]
        self._row, self._column = len(self.rows) - 1, len(self.rows[-1])

    def take(self) -> str:
        """Return what was written since."""
        data = b""
        while True:
            try:
                data += os.read(self._master, 65_536)
            except BlockingIOError:
                return data.decode()

    def read(self) -> str:
        """Return what was written since, and show it."""
        text = self.take()
        for token in re.findall(r"\x1b\[\??\d*[A-Za-z]|[\s\S]", text):
            self._show(token)
        return text

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def shows_cursor(self) -> bool:
        """Tell whether the cursor can be seen."""
        return self._cursor

    def fill(self) -> None:
        """Write until the terminal takes no more, as if its user had stopped it."""
        os.set_blocking(self.stream.fileno(), False)
        # What was written is moved on by the kernel in its own time, which makes room again.
        while select.select([], [self.stream], [], 0.1)[1]:
            with suppress(BlockingIOError):
                os.write(self.stream.fileno(), b"x" * 1024)
        os.set_blocking(self.stream.fileno(), True)

    def relieve(self) -> str:
        """Take what was written until the terminal takes more, and return it."""
        text = ""
        while not (ready := select.select([self._master], [self.stream], [], 10))[1]:
            assert ready[0]
            text += self.take()
        return text

    def wait_for(self, words: str) -> None:
        """Take what is written until these words come."""
        text = ""
        while words not in text:
            assert select.select([self._master], [], [], 10)[0]
            text += self.take()

    def close(self) -> None:
        self.stream.close()
        os.close(self._master)

    def _show(self, token: str) -> None:
        if token == "\r":
            self._column = 0
        elif token == "\n":
            self._row += 1
            self.rows += [""] * (self._row + 1 - len(self.rows))
        elif not token.startswith("\x1b"):
            assert token.isprintable()
            assert self._wrap or self._column < self.width
            row = self.rows[self._row].ljust(self._column)
            self.rows[self._row] = row[: self._column] + token + row[self._column + 1 :]
            self._column += 1
        elif token.endswith("A"):
            self._row -= int(token[2:-1])
            assert self._row >= 0
            assert len(self.rows) - self._row <= self.height
        elif token in ("\x1b[K", "\x1b[J"):
            self.rows[self._row] = self.rows[self._row][: self._column]
            if token == "\x1b[J":
                del self.rows[self._row + 1 :]
        elif token in (HIDE, SHOW):
            self._cursor = token == SHOW
        elif token in ("\x1b[?7l", "\x1b[?7h"):
            self._wrap = token == "\x1b[?7h"
        else:
            assert re.fullmatch(r"\x1b\[\d*m", token)


@pytest.fixture(name="terminal")
def _terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def counters(clock: FakeClock) -> Counters:
    """Return the counters of a run that starts now."""
    made = Counters(clock.time)
    made.total = 10
    return made


async def test_a_tiny_job_never_flashes(terminal: Terminal) -> None:
    """Nothing is written in the first 0.3 seconds, nor by the end of a run that took less."""
    clock = FakeClock()
    async with LiveProgress(counters(clock), clock, terminal.stream, CONTEXT):
        await clock.advance(0.29)
    assert terminal.read() == ""


async def test_the_screen_is_drawn_in_place_and_leaves_nothing(terminal: Terminal) -> None:
    """Frames replace each other ten times a second; the end finds the terminal as it was before."""
    clock = FakeClock()
    counted = counters(clock)
    print("before", file=terminal.stream)
    async with LiveProgress(counted, clock, terminal.stream, CONTEXT):
        await clock.advance(0.3)
        assert terminal.read().count(HIDE) == 1
        assert not terminal.shows_cursor()
        assert terminal.rows[1].startswith("fetcher  urls.txt -> fetched/  ")
        counted.errors["dns"] = {"no.such.host": 1}
        counted.failed = counted.outcomes["failed"] = 1
        await clock.advance(1.15)
        assert "\x1b[31m" in terminal.read()
        assert terminal.rows[0] == "before"
        assert terminal.rows[5:] == ["ok 0   failed 1   active 0   waiting 9", "dns 1"]
        counted.errors.clear()
        await clock.advance(1.15)
        terminal.read()
        assert terminal.rows[5:] == ["ok 0   failed 1   active 0   waiting 9"]
    terminal.read()
    assert terminal.rows == ["before", ""]
    assert terminal.shows_cursor()
    assert clock.slept[:4] == [0.3, 0.1, 0.1, 0.1]


async def test_costly_frames_come_less_often(terminal: Terminal) -> None:
    """After a frame that took more than 5 ms the next one comes a quarter of a second later."""
    clock = FakeClock()
    async with LiveProgress(counters(clock), clock, terminal.stream, CONTEXT):
        clock.cost = 0.006
        await clock.advance(0.35)
        clock.cost = 0.004
        await clock.advance(0.3)
    assert clock.slept[:3] == [0.3, 0.25, 0.1]


async def test_the_cursor_comes_back_when_the_run_is_cancelled(terminal: Terminal) -> None:
    """Cancelled or failed, a run gives the terminal back with its cursor, and the cancellation goes on."""
    clock = FakeClock()

    async def run() -> None:
        async with LiveProgress(counters(clock), clock, terminal.stream, CONTEXT):
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await clock.advance(0.5)
    terminal.read()
    assert not terminal.shows_cursor()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert terminal.read().endswith(SHOW)
    assert terminal.rows == [""]


async def test_a_bug_in_the_screen_is_told_after_the_cursor_is_back(terminal: Terminal) -> None:
    """A screen that fails does not stop the run; at its end the cursor is shown and the failure raised."""
    clock = FakeClock()
    counted = counters(clock)

    async def run() -> None:
        async with LiveProgress(counted, clock, terminal.stream, CONTEXT):
            await clock.advance(0.5)
            counted.outcomes = {}
            await clock.advance(0.5)

    with pytest.raises(KeyError):
        await run()
    terminal.read()
    assert terminal.shows_cursor()


async def test_lines_are_printed_above_the_screen(terminal: Terminal) -> None:
    """Printed lines stand above the screen, escaped, in order, and stay when it goes."""
    clock = FakeClock()
    async with LiveProgress(counters(clock), clock, terminal.stream, CONTEXT) as progress:
        progress.print_line("one\x1b[31m\r\n")
        await clock.advance(0.3)
        progress.print_line("two " + "x" * 100)
        progress.print_line("[bold]three[/a]")
        await clock.advance(0.1)
        terminal.read()
        assert terminal.rows[:3] == [r"one\x1b[31m\x0d\x0a", "two " + "x" * 100, "[bold]three[/a]"]
        assert terminal.rows[3].startswith("fetcher  urls.txt")
        for number in range(MAX_PENDING):
            progress.print_line(str(number))
        assert "99\r\n" in terminal.read()
        progress.print_line("last")
    progress.print_line("after")
    terminal.read()
    assert terminal.rows[-4:] == ["99", "last", "after", ""]
    assert len(terminal.rows) == 3 + MAX_PENDING + 3


async def test_a_narrower_terminal_is_redrawn(terminal: Terminal) -> None:
    """A frame that the terminal has wrapped is erased as high as it is now, and the next one fits."""
    clock = FakeClock()
    async with LiveProgress(counters(clock), clock, terminal.stream, CONTEXT):
        await clock.advance(0.3)
        terminal.read()
        assert len(terminal.rows) == 5
        terminal.resize(62, 24)
        assert len(terminal.rows) == 7
        await clock.advance(0.1)
        assert terminal.read().startswith("\r\x1b[6A\x1b[J")
        assert len(terminal.rows) == 5
        terminal.resize(40, 24)
        await clock.advance(0.1)
        terminal.read()
        assert terminal.rows == ["fetcher: 0/10 0% failed 0 0/s ETA -"]


async def test_a_stopped_terminal_does_not_stop_the_run(terminal: Terminal) -> None:
    """While the terminal takes no output no frame is written, and the run goes on."""
    clock = FakeClock()
    async with LiveProgress(counters(clock), clock, terminal.stream, CONTEXT):
        terminal.fill()
        await clock.advance(1.0)
        assert set(terminal.relieve()) == {"x"}
        await clock.advance(0.1)
        terminal.wait_for(HIDE)


async def test_a_terminal_that_was_given_back_is_taken_again(terminal: Terminal) -> None:
    """While the run is suspended the terminal is as it was before; then the screen stands below what came between."""
    clock = FakeClock()
    async with LiveProgress(counters(clock), clock, terminal.stream, CONTEXT) as progress:
        await clock.advance(0.3)
        progress.leave()
        terminal.read()
        assert terminal.rows == [""]
        assert terminal.shows_cursor()
        print("$ fg", file=terminal.stream, flush=True)
        await clock.advance(0.1)
        terminal.read()
        assert terminal.rows[0] == "$ fg"
        assert terminal.rows[1].startswith("fetcher  urls.txt")
        assert not terminal.shows_cursor()


async def test_no_color_means_no_styles(terminal: Terminal) -> None:
    """Without colour the screen has no style at all."""
    clock = FakeClock()
    counted = counters(clock)
    counted.failed = 1
    async with LiveProgress(counted, clock, terminal.stream, CONTEXT, no_color=True):
        await clock.advance(0.3)
        written = terminal.read()
    assert "failed 1" in written
    assert re.search(r"\x1b\[\d*m", written) is None


async def test_plain_lines_at_their_pace() -> None:
    """Every so many seconds one line, with neither an escape nor a carriage return in it."""
    clock = FakeClock()
    counted = counters(clock)
    stream = StringIO()
    async with LineProgress(counted, clock, stream, 5.0) as progress:
        await clock.advance(4.9)
        assert stream.getvalue() == ""
        counted.ok = 5
        await clock.advance(0.2)
        progress.print_line("retrying \x1b[31m\r")
        counted.ok = 9
        await clock.advance(5.0)
    assert stream.getvalue().split("\n") == [
        "fetcher: 5/10 50% failed 0 1.00/s ETA 5s",
        r"retrying \x1b[31m\x0d",
        "fetcher: 9/10 90% failed 0 0.90/s ETA 1s",
        "",
    ]


async def test_a_stream_that_went_away_is_no_reason_to_fail() -> None:
    """When nobody can read the progress any more, the run goes on."""
    clock = FakeClock()
    async with LineProgress(counters(clock), clock, _Gone(), 5.0):
        await clock.advance(11.0)
    assert clock.slept == [5.0, 5.0, 5.0]


class _Gone(StringIO):
    """A stream without a reader."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_plain_lines_need_no_rich() -> None:
    """A run without a terminal does not pay for Rich."""
    code = "import sys, fetcher.views.progress as p; p.LineProgress; print([m for m in sys.modules if 'rich' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
