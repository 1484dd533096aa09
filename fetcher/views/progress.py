"""L4: the two ways to show a run while it works: a live screen, or a line now and then."""

import asyncio
import os
import select
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TextIO

from fetcher.clock import Clock
from fetcher.events import Counters
from fetcher.text import printable
from fetcher.views.lines import Line, cells, painter, plain
from fetcher.views.meter import Meter
from fetcher.views.summary import plain_line

if TYPE_CHECKING:
    from fetcher.views.screen import ScreenContext

#: Seconds before the first frame, so that a tiny job never flashes.
DELAY: Final = 0.3
#: Seconds between frames, and after a frame that took longer than ``COSTLY`` seconds.
PERIOD: Final = 0.1
SLOW_PERIOD: Final = 0.25
COSTLY: Final = 0.005
#: Seconds that the terminal gets to take the last of the output.
LAST_MOMENT: Final = 0.5
#: At most so many printed lines wait for the next frame.
MAX_PENDING: Final = 100

#: Control functions of ECMA-48, and private modes that every terminal of today shares with xterm.
_UP: Final = "\x1b[{}A"
_ERASE_BELOW: Final = "\x1b[J"
_ERASE_RIGHT: Final = "\x1b[K"
_HIDE_CURSOR: Final = "\x1b[?25l"
_SHOW_CURSOR: Final = "\x1b[?25h"
_NO_WRAP: Final = "\x1b[?7l"
_WRAP: Final = "\x1b[?7h"


class LiveProgress:
    """Keeps a screen at the bottom of a terminal while the context lasts, and leaves no trace of it.

    A job in the background draws nothing: the terminal is then another's.

    Rich measures and styles the text, but the screen is placed here, not by ``rich.live.Live``: that one measures
    the standard streams instead of the one it writes to, takes its last frame for as high as it was when the terminal
    has been made narrower since, and erases all before it writes, which flickers. Frames are overwritten in place,
    with wrapping off, so that a character which the terminal draws wider than expected costs no row.
    """

    def __init__(
        self, counters: Counters, clock: Clock, stream: TextIO, context: "ScreenContext", *, no_color: bool = False
    ) -> None:
        from fetcher.views.screen import Screen  # noqa: PLC0415 - only a live screen pays for Rich

        self._counters = counters
        self._clock = clock
        self._terminal = _Terminal(stream)
        self._screen = Screen(counters, context)
        self._paint = painter(color=not no_color)
        self._pending: list[str] = []
        self._widths: list[int] = []
        self._hidden = False
        self._ended = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await _stop(self._task)
        finally:
            self._ended = True
            self.leave()
            self._terminal.close()

    def leave(self) -> None:
        """Give the terminal back as it was found; the next frame, if there is one, takes it again."""
        self._terminal.write(self._replace([], self._terminal.size()) + (_SHOW_CURSOR if self._hidden else ""))
        self._hidden = False

    def print_line(self, text: str) -> None:
        """Print one line above the screen, escaped: with the next frame, or at once when there will be none."""
        self._pending.append(printable(text))
        if self._ended or (len(self._pending) >= MAX_PENDING and self._terminal.takes_output()):
            self._terminal.write(self._replace([], self._terminal.size()))
        if self._ended:
            self._terminal.close()

    def report(self) -> None:
        """Print how it goes as one line above the screen."""
        self.print_line(plain_line(self._counters, self._clock.monotonic()))

    async def _run(self) -> None:
        await self._clock.sleep(DELAY)
        while True:
            begun = self._clock.monotonic()
            self._draw(begun)
            cost = self._clock.monotonic() - begun
            await self._clock.sleep(SLOW_PERIOD if cost > COSTLY else PERIOD)

    def _draw(self, now: float) -> None:
        size = self._terminal.size()
        lines = self._screen.frame(now, size)
        if self._terminal.is_for_others():
            # Their lines stand where the last frame was.
            lines, self._widths = [], []
        if self._terminal.takes_output():
            hide = _HIDE_CURSOR if lines and not self._hidden else ""
            self._hidden = self._hidden or bool(lines)
            self._terminal.write(hide + self._replace(lines, size))

    def _replace(self, lines: list[Line], size: tuple[int, int]) -> str:
        """Return what puts ``lines`` into the place of the last frame, below the lines that were to be printed."""
        width, height = size
        # A terminal that became narrower has wrapped the last frame.
        rows = min(height, sum(max(1, -(-taken // width)) for taken in self._widths))
        output = "\r" if rows else ""
        output += _UP.format(rows - 1) if rows > 1 else ""
        if rows and (self._pending or len(lines) < rows):
            output += _ERASE_BELOW
        output += "".join(f"{line}\n" for line in self._pending)
        self._pending.clear()
        self._widths = [cells(plain(line)) for line in lines]
        if not lines:
            return output
        painted = []
        for line, taken in zip(lines, self._widths, strict=True):
            # At the end of a full row the cursor stands on the last character, which would be erased.
            painted.append(self._paint(line) + (_ERASE_RIGHT if taken < width else ""))
        return output + _NO_WRAP + "\n".join(painted) + _WRAP


class _Terminal:
    """The terminal of a stream, written through an open file of our own: a stopped one (Ctrl-S) never stops the run.

    What it does not take is kept and goes first the next time. An error is swallowed: a terminal that went away is
    told by SIGHUP, and is no reason to lose the run.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._left = b""
        self._descriptor = -1

    def write(self, text: str) -> None:
        """Write what the terminal takes now."""
        self._left += text.encode(self._stream.encoding, "replace")
        with suppress(OSError):
            while self._left:
                self._left = self._left[os.write(self._open(), self._left) :]

    def takes_output(self) -> bool:
        """Write what was left over, and tell whether there is room for more."""
        self.write("")
        return not self._left

    def is_for_others(self) -> bool:
        """Tell whether this is a job in the background of the terminal that controls it."""
        with suppress(OSError):
            return os.tcgetpgrp(self._stream.fileno()) != os.getpgrp()
        return False

    def size(self) -> tuple[int, int]:
        """Return columns and rows."""
        with suppress(OSError):
            columns, rows = os.get_terminal_size(self._stream.fileno())
            if columns and rows:
                return columns, rows
        return 80, 24

    def close(self) -> None:
        """Write what was left over, waiting a moment for a slow terminal, and give the file back."""
        if not self.takes_output():
            select.select([], [self._open()], [], LAST_MOMENT)
            self.write("")
        with suppress(OSError):
            os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> int:
        """Return our descriptor: its own open file, so that not blocking is not forced on who else shares the other."""
        if self._descriptor < 0:
            name = os.ttyname(self._stream.fileno())
            self._descriptor = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        return self._descriptor


@dataclass(frozen=True, slots=True)
class Wording:
    """What :class:`LineProgress` writes: a line for how it goes, and for what is to be printed.

    With ``last`` there is a line at the end, whenever that is.
    """

    progress: Callable[[Counters, float, Meter], str]
    message: Callable[[str], str]
    last: bool = False


FOR_PEOPLE: Final = Wording(plain_line, printable)


class LineProgress:
    """Writes one line every so many seconds while the context lasts: no escape, no carriage return."""

    def __init__(
        self, counters: Counters, clock: Clock, stream: TextIO, every: float, wording: Wording = FOR_PEOPLE
    ) -> None:
        self._counters = counters
        self._clock = clock
        self._stream = stream
        self._every = every
        self._wording = wording
        self._meter = Meter(counters.started)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await _stop(self._task)
        if self._wording.last:
            self.report()

    def print_line(self, text: str) -> None:
        """Print one line at once, made harmless."""
        self.write(self._wording.message(text))

    def report(self) -> None:
        """Print how it goes at once."""
        self.write(self._wording.progress(self._counters, self._clock.monotonic(), self._meter))

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(self._every)
            self.report()

    def write(self, line: str) -> None:
        """Write one line that is harmless already."""
        with suppress(OSError):
            self._stream.write(f"{line}\n")
            self._stream.flush()


async def _stop(task: asyncio.Task[None]) -> None:
    """End the task; raises what it failed with, if it did."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
