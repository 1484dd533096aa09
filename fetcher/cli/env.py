"""L4: the streams and the terminal that the command was started with."""

import os
import shutil
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Self, TextIO

from fetcher.cli.flags import Flags

#: Seconds between progress lines, for people and for logs.
_LINES_FOR_PEOPLE: Final = 5.0
_LINES_FOR_LOGS: Final = 30.0


class Display(Enum):
    """How a run shows its progress on standard error."""

    OFF = "off"
    LINES = "lines"
    JSON = "json"
    LIVE = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where output goes and what can be shown there; tests make their own."""

    stderr: TextIO
    stdout_fd: int
    stdin_is_terminal: bool
    stdout_is_terminal: bool
    stdout_is_pipe: bool
    stderr_is_terminal: bool
    no_color: bool
    dumb: bool
    ascii_only: bool
    width: int

    @classmethod
    def current(cls, variables: Mapping[str, str] = os.environ) -> Self:
        """Return that of this process. A terminal is what the kernel calls one, whatever FORCE_COLOR says."""
        encoding = (getattr(sys.stderr, "encoding", None) or "ascii").lower().replace("-", "")
        return cls(
            stderr=sys.stderr,
            stdout_fd=1,
            stdin_is_terminal=_is_terminal(0),
            stdout_is_terminal=_is_terminal(1),
            stdout_is_pipe=_is_pipe(1),
            stderr_is_terminal=_is_terminal(2),
            no_color=bool(variables.get("NO_COLOR")),
            dumb=variables.get("TERM", "dumb") == "dumb",
            ascii_only=encoding != "utf8",
            width=_width(2),
        )

    def prints_records(self, flags: Flags) -> bool:
        """Tell whether records go to standard output: by wish, else unless a person sits there or wants silence."""
        if flags.json is not None:
            return flags.json
        return flags.changed or (not self.stdout_is_terminal and not flags.quiet)

    def display(self, flags: Flags) -> Display:
        """Tell how progress is shown.

        A live screen shares the terminal with nobody: a pipe's reader may print there too.
        """
        if flags.quiet or flags.progress == "off":
            return Display.OFF
        if flags.progress == "json":
            return Display.JSON
        can_live = self.stderr_is_terminal and not self.dumb
        shared = self.stdout_is_pipe or (self.stdout_is_terminal and self.prints_records(flags))
        if flags.progress == "live":
            return Display.LIVE if can_live else Display.LINES
        if flags.progress == "auto" and self.stdout_is_terminal and self.prints_records(flags):
            return Display.OFF
        if flags.progress == "auto" and can_live and not shared:
            return Display.LIVE
        return Display.LINES

    @property
    def line_seconds(self) -> float:
        """Seconds between progress lines."""
        return _LINES_FOR_PEOPLE if self.stderr_is_terminal else _LINES_FOR_LOGS


def command_words() -> list[str]:
    """Return what this command is called by: ``fetcher`` where the shell finds it, else as it was called."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return ["python", "-m", "fetcher"]
    if called.name == "fetcher" and shutil.which("fetcher") is None:
        here = Path.cwd()
        return [str(called.relative_to(here) if called.is_relative_to(here) else called)]
    return ["fetcher"]


def _is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def _is_pipe(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _width(descriptor: int) -> int:
    try:
        return os.get_terminal_size(descriptor).columns or 80
    except OSError:
        return 80
