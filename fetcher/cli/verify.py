"""L4: ``fetcher verify``: files that are not as their records say."""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import orjson

from fetcher.audit import Audit, Directory, Finding, Place, Problem
from fetcher.cli.env import Environment, command_words
from fetcher.cli.records import warn
from fetcher.clock import SystemClock
from fetcher.errors import UsageError
from fetcher.replay import JOURNAL, Past, archive_of
from fetcher.sinks.formats import Reader
from fetcher.status import ExitStatus
from fetcher.text import harmless_json, printable, size_text, span_text
from fetcher.views.failed import list_line

if TYPE_CHECKING:
    from fetcher.sinks.store import ObjectStore


def main(directory: Path, store: str | None, environment: Environment, *, urls: bool, quiet: bool) -> ExitStatus:
    """Print each finding, then how many there are; return 0 if there are none, else 1.

    With ``store``, a URL, bodies are there, and the records in the directory or, if that has none, in the store too.
    Raises UsageError if there are no records, LocalError if they, a folder or the store cannot be read.
    """
    clock = SystemClock()
    started = clock.monotonic()
    output = sys.stdout.buffer
    counts: Counter[Problem] = Counter()
    with _opened(directory, store) as (past, place):
        audit = Audit(past, place)
        for finding in audit.findings():
            counts[finding.problem] += 1
            output.write(_list_entry(finding) if urls else _line(finding))
        output.flush()
        warn(past)
    if counts or not quiet:
        took = span_text(clock.monotonic() - started)
        found = ", ".join(f"{counts[problem]:,} {problem}" for problem in Problem if counts[problem])
        files = f"{audit.files:,} file{'' if audit.files == 1 else 's'}"
        print(f"{files}, {size_text(audit.bytes)} in {took}: {found or 'all as recorded'}", file=environment.stderr)
        if counts - Counter({Problem.FOREIGN: counts[Problem.FOREIGN]}):
            print(f"again    {printable(_again(store or str(directory)))}", file=environment.stderr)
    return ExitStatus.SOME_FAILED if counts else ExitStatus.OK


@contextmanager
def _opened(directory: Path, store: str | None) -> Iterator[tuple[Past, Place]]:
    """Open the records, and what has the bodies."""
    if store is None:
        with Past(directory) as past:
            yield past, Directory(directory, Reader().body_in)
        return
    from fetcher.sinks.store import ObjectStore
    from fetcher.sinks.stored import StoredBodies

    objects = ObjectStore(store)
    with ExitStack() as stack:
        if not (directory / JOURNAL).exists():
            directory = Path(stack.enter_context(TemporaryDirectory(prefix="fetcher-")))
            _copy(objects, directory / JOURNAL)
        bodies = stack.enter_context(StoredBodies(objects, partial(archive_of, directory), Reader().body_in))
        yield stack.enter_context(Past(directory)), bodies


def _copy(objects: "ObjectStore", journal: Path) -> None:
    """Write the journal that the last run has left in a store to a file."""
    journal.parent.mkdir()
    try:
        with journal.open("xb") as file:
            for piece in objects.read(JOURNAL):
                file.write(piece)
    except FileNotFoundError as error:
        raise UsageError(f"{objects.url} has no records: nothing was fetched into it") from error


def _again(directory: str) -> str:
    """Return the command that fetches what is not whole any more."""
    fetcher = shlex.join(command_words())
    directory = shlex.quote(directory)
    return f"{fetcher} verify {directory} --urls | {fetcher} get - -o {directory} --existing replace"


def _line(finding: Finding) -> bytes:
    record = finding.record
    values = {
        "url": record and record.url,
        "finding": finding.problem,
        "path": _text(finding.path),
        "bytes": record and record.bytes,
        "sha256": record and record.sha256,
        "found_bytes": finding.bytes,
        "found_sha256": finding.sha256,
    }
    return harmless_json(orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE))


def _list_entry(finding: Finding) -> bytes:
    if finding.record is None:
        return b""
    return f"# {finding.problem} ({printable(finding.path)})\n{list_line(finding.record)}\n".encode()


def _text(path: str) -> str:
    r"""Return a file's name with bytes that are no text as ``\xe9``."""
    return os.fsencode(path).decode(errors="backslashreplace")
