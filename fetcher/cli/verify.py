"""L4: ``fetcher verify``: files that are not as their records say."""

import os
import shlex
import sys
from collections import Counter
from pathlib import Path

import orjson

from fetcher.audit import Audit, Finding, Problem
from fetcher.cli.env import Environment, command_words
from fetcher.cli.records import warn
from fetcher.clock import SystemClock
from fetcher.replay import Past
from fetcher.sinks.formats import Reader
from fetcher.status import ExitStatus
from fetcher.text import harmless_json, printable, size_text, span_text
from fetcher.views.failed import list_line


def main(directory: Path, environment: Environment, *, urls: bool, quiet: bool) -> ExitStatus:
    """Print each finding, then how many there are; return 0 if there are none, else 1.

    Raises UsageError if there are no records, LocalError if they or a folder cannot be read.
    """
    clock = SystemClock()
    started = clock.monotonic()
    output = sys.stdout.buffer
    counts: Counter[Problem] = Counter()
    with Past(directory) as past:
        audit = Audit(past, Reader().body_in)
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
            print(f"again    {printable(_again(str(directory)))}", file=environment.stderr)
    return ExitStatus.SOME_FAILED if counts else ExitStatus.OK


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
