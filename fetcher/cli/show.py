"""L4: what a person sees of one run, on standard error."""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

from fetcher import __version__
from fetcher.cli import params
from fetcher.cli.env import Display, Environment, command_words
from fetcher.cli.flags import Flags
from fetcher.clock import SystemClock
from fetcher.events import Counters, Event, Notice, Retrying, Waiting
from fetcher.lastrun import LastRun
from fetcher.model import Summary, timestamp
from fetcher.status import exit_status
from fetcher.text import printable
from fetcher.urls import redact
from fetcher.views.log import listener
from fetcher.views.objects import message_object, progress_object, summary_object
from fetcher.views.progress import LineProgress, LiveProgress, Wording
from fetcher.views.summary import SummaryContext, summary_lines, summary_text

#: A header field is a secret. Short options without a value may stand in the same word.
_HEADER: Final = re.compile(r"(-[knqv]*H|--header=|--header\Z)(.*)", re.DOTALL)

#: Seconds between two objects that tell how it goes.
_OBJECT_SECONDS: Final = 1.0


class Show:
    """Shows the progress of a run while the context lasts, and its summary at the end.

    ``counts`` tells whether the display wants to know how long the list is; ``nothing`` is what to say of a list that
    may well be empty, unless to be quiet; ``command`` is the user's own, which can be pasted and has no secrets.
    """

    def __init__(
        self, flags: Flags, environment: Environment, typed: Sequence[str], nothing: str | None = None
    ) -> None:
        self.clock = SystemClock()
        self.counters = Counters(self.clock.monotonic())
        self._started_at = timestamp(self.clock.now())
        self.flags = flags
        self._nothing = nothing
        self.environment = environment
        self.command = again(typed)
        self._display = environment.display(flags)
        self._objects = self._make_objects()
        self._progress = self._make_progress()
        self._hear = listener(self._progress.print_line, verbose=flags.verbose)
        self._notice = ""
        self.counts = self._display is not Display.OFF

    async def __aenter__(self) -> Self:
        if self._display is not Display.OFF:
            await self._progress.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._display is not Display.OFF:
            await self._progress.__aexit__(None, None, None)

    def observe(self, event: Event) -> None:
        """Show an event, if it is one to be shown."""
        match event:
            case Notice(message=message):
                self._notice = message
            case Retrying(delay=delay):
                self.counters.postpone(self.clock.monotonic() + delay)
        if self.flags.quiet < (1 if isinstance(event, Waiting) else 2):
            self._hear(event)

    def stopping(self) -> None:
        """Say that the run is ending, and how to end it faster."""
        under_way = {"transfer": len(self.counters.active), "command": self.counters.commands}
        words = " and ".join(f"{count} {what}{'s' if count > 1 else ''}" for what, count in under_way.items() if count)
        if words:
            self.counters.stopping = f"finishing {words} (up to 5 s), Ctrl-C again to drop them"
            if self._display is not Display.LIVE and not self.flags.quiet:
                self._progress.print_line(f"stopping: {self.counters.stopping}")

    def leave(self) -> None:
        """Leave the terminal to others for a while."""
        if isinstance(self._progress, LiveProgress):
            self._progress.leave()

    def report(self) -> None:
        """Say in one line how it goes."""
        self._progress.report()

    def say(self, text: str) -> None:
        """Print a line."""
        self._progress.print_line(text)

    def told(self, summary: Summary) -> LastRun:
        """Return what there is to write down about the run."""
        return LastRun(
            summary=summary,
            status=exit_status(summary),
            started_at=self._started_at,
            command=self.command,
            version=__version__,
        )

    def end(self, summary: Summary) -> None:
        """Print the summary, as loudly as was asked for."""
        flags = self.flags
        if flags.quiet >= 2 and summary.stop is not None and summary.stop.local:
            self._progress.print_line(f"fetcher: {self._notice}")
        expected = summary.lines or self._nothing
        if flags.quiet >= 2 or (flags.quiet and not summary.failed and summary.stop is None and expected):
            return
        empty = not summary.lines and summary.stop is None
        if empty:
            self._progress.print_line(self._nothing or f"no URLs in {self.sources}")
        if self._objects is not None:
            self._objects.write(summary_object(self.told(summary)))
        elif not empty:
            self._summarise(summary)

    def _summarise(self, summary: Summary) -> None:
        flags, environment = self.flags, self.environment
        sources = flags.sources or ()
        directory = None if flags.no_save or flags.dry_run else flags.output_dir
        context = SummaryContext(
            again=self.command,
            directory=directory,
            records=directory and shlex.join([*command_words(), "records", directory, "--failed"]),
            report=flags.report or (directory and shlex.join([*command_words(), "report", directory])),
            resumes=not flags.no_save and not flags.dry_run and flags.existing == "skip" and "-" not in sources,
            width=environment.width if environment.stderr_is_terminal else None,
        )
        # Nobody may be there to read it; how the run ended does not change by that.
        with suppress(OSError):
            self._print(summary, context)

    def _print(self, summary: Summary, context: SummaryContext) -> None:
        environment = self.environment
        if environment.stderr_is_terminal and not environment.dumb and not environment.no_color:
            from rich.console import Console

            console = Console(file=environment.stderr, force_terminal=True, markup=False, highlight=False, emoji=False)
            console.print(summary_text(summary, context), soft_wrap=True)
        else:
            environment.stderr.write("".join(f"{line}\n" for line in summary_lines(summary, context)))
            environment.stderr.flush()

    @property
    def sources(self) -> str:
        """What is fetched, as it was named, secrets blotted out."""
        return " ".join(redact(source) for source in self.flags.sources or ())

    def _make_objects(self) -> LineProgress | None:
        """Return what writes objects, if everything on standard error is to be one, however quiet the run is."""
        if self.flags.progress != "json":
            return None
        wording = Wording(progress_object, message_object, last=True)
        return LineProgress(self.counters, self.clock, self.environment.stderr, _OBJECT_SECONDS, wording)

    def _make_progress(self) -> LiveProgress | LineProgress:
        environment = self.environment
        if self._objects is not None:
            return self._objects
        if self._display is not Display.LIVE:
            return LineProgress(self.counters, self.clock, environment.stderr, environment.line_seconds)
        from fetcher.views.screen import ScreenContext

        directory = None if self.flags.no_save else self.flags.output_dir
        concurrency, adaptive = params.concurrency("--concurrency", self.flags.concurrency)
        context = ScreenContext(
            sources=self.sources,
            directory=directory,
            concurrency=concurrency,
            adaptive=adaptive,
            ascii_only=environment.ascii_only,
        )
        return LiveProgress(self.counters, self.clock, environment.stderr, context, no_color=environment.no_color)


def again(typed: Sequence[str]) -> str:
    """Return a command line as it can be pasted into a shell, secrets blotted out."""
    words: list[str] = []
    field_follows = False
    for word in typed:
        header = None if field_follows else _HEADER.fullmatch(word)
        if field_follows:
            words.append(_blotted(word))
        elif header and header[2]:
            words.append(header[1] + _blotted(header[2]))
        else:
            words.append(_redacted(word))
        field_follows = header is not None and not header[2]
    return printable(shlex.join(words))


def _redacted(word: str) -> str:
    option, equals, value = word.partition("=")
    return f"{option}={redact(value)}" if equals and option.startswith("--") else redact(word)


def _blotted(field: str) -> str:
    name, colon, _ = field.partition(":")
    return field if field.startswith("@") else f"{name}: ***" if colon else "***"
