"""L4: ``fetcher report``: a run as a page of HTML, or its summary once more."""

import shlex
import sys
from pathlib import Path

from fetcher import __version__
from fetcher.atomic import AtomicFile
from fetcher.cli.env import Environment, command_words
from fetcher.errors import LocalError, UsageError, words_of
from fetcher.model import Summary
from fetcher.naming import STATE_DIRECTORY
from fetcher.report.page import About, page
from fetcher.report.reading import Gathered, from_directory, from_lines
from fetcher.status import ExitStatus
from fetcher.text import printable
from fetcher.views.summary import SummaryContext, summary_lines

_STREAM = "-"


def main(source: str, output: str | None, environment: Environment, *, text: bool) -> ExitStatus:
    """Write the page and say where it is, or print the summary.

    Raises UsageError if there are no records or the page cannot be written there, LocalError if this machine fails.
    """
    if text and output is not None:
        raise UsageError("--text prints; it takes no -o")
    target = None if text else _target(source, output, environment)
    found = _gathered(source, environment)
    summary = found.stats.summary() if found.last is None else found.last.summary
    if found.damaged:
        name = "standard input" if source == _STREAM else printable(source)
        print(f"fetcher: {name}: {found.damaged:,} damaged lines ignored", file=environment.stderr)
    if not summary.lines:
        raise UsageError(f"no records in {'standard input' if source == _STREAM else source}")
    if text:
        print("\n".join(summary_lines(summary, _context(source, found, environment))), flush=True)
        return ExitStatus.OK
    content = page(found.stats, _about(source, found, summary))
    if target is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return ExitStatus.OK
    with AtomicFile(target) as file:
        file.write(content)
    print(f"report   {printable(str(target))}", file=environment.stderr)
    return ExitStatus.OK


def _target(source: str, output: str | None, environment: Environment) -> Path | None:
    """Return the file that the page becomes, None for standard output."""
    path = Path(source)
    # A pipe that has a name, as a shell makes them, has no place beside it.
    streams = source == _STREAM or not (path.is_dir() or path.is_file() or not path.exists())
    if output == _STREAM or (output is None and streams):
        if environment.stdout_is_terminal:
            raise UsageError("name a file for the page: -o report.html")
        return None
    if output is not None:
        return Path(output)
    return path / STATE_DIRECTORY / "report.html" if path.is_dir() else path.with_suffix(".html")


def _gathered(source: str, environment: Environment) -> Gathered:
    if source == _STREAM:
        if environment.stdin_is_terminal:
            print("reading records from the keyboard, Ctrl-D ends", file=environment.stderr)
        if sys.stdin is None:
            raise UsageError("standard input is closed")
        return from_lines(sys.stdin.buffer)
    path = Path(source)
    if path.is_dir():
        return from_directory(path)
    try:
        with path.open("rb") as lines:
            return from_lines(lines)
    except FileNotFoundError as error:
        raise UsageError(f"no such directory or file: {source}") from error
    except OSError as error:
        raise LocalError(f"cannot read {source}: {words_of(error)}") from error


def _about(source: str, found: Gathered, summary: Summary) -> About:
    last = found.last
    return About(
        source="standard input" if source == _STREAM else source,
        summary=summary,
        version=__version__ if last is None else last.version,
        command=None if last is None else last.command,
        ended=summary.stopped or None,
        compared=found.compared,
    )


def _context(source: str, found: Gathered, environment: Environment) -> SummaryContext:
    """Return what the summary says beside its numbers: what a run in a directory said itself."""
    directory = source if source != _STREAM and Path(source).is_dir() else None
    return SummaryContext(
        again=None if found.last is None else found.last.command,
        directory=directory,
        records=directory and shlex.join([*command_words(), "records", directory, "--failed"]),
        report=directory and shlex.join([*command_words(), "report", directory]),
        resumes=False,
        width=environment.width if environment.stdout_is_terminal else None,
    )
