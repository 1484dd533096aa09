"""L4: ``fetcher records``: what is known about each URL, from the journal."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fetcher.cli.env import Environment
from fetcher.model import from_line
from fetcher.replay import Fact, Past, key_of
from fetcher.status import ExitStatus
from fetcher.text import harmless_json, printable
from fetcher.views.failed import entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which records are shown, and how.

    The latest of each URL, or ``every`` one; of those the ``failed``, those of ``url`` in any spelling, those whose
    file is ``path``. ``urls`` shows them as lines of a list.
    """

    failed: bool = False
    url: str | None = None
    path: str | None = None
    every: bool = False
    urls: bool = False


def main(directory: Path, wanted: Wanted, environment: Environment) -> ExitStatus:
    """Print the records; raises UsageError if there are none, LocalError if they cannot be read."""
    with Past(directory) as past:
        output = sys.stdout.buffer
        half = 0
        for line in _chosen(past, wanted):
            try:
                output.write(_list_entry(line, environment) if wanted.urls else _checked(line))
            except ValueError:
                half += 1
        output.flush()
        warn(past, half)
    return ExitStatus.OK


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def warn(past: Past, more: int = 0, say: Callable[[str], None] = _tell) -> None:
    """Say how many lines are no records, if any are; ``more`` only looked like some."""
    if past.damaged + more:
        path = printable(str(past.path))
        say(f"fetcher: {path}: {past.damaged + more:,} damaged lines ignored")


def _chosen(past: Past, wanted: Wanted) -> Iterator[bytes]:
    key = None if wanted.url is None else key_of(wanted.url)
    # A shell completes a path from where it stands.
    paths = None if wanted.path is None else (wanted.path, wanted.path.removeprefix(f"{past.directory}/"))

    def fits(said: Fact) -> bool:
        return not (wanted.failed and said.ok) and (paths is None or said.path in paths)

    def is_asked_for(said: Fact) -> bool:
        return key is None or said.key.partition("#")[0] == key.partition("#")[0]

    records = past.every() if wanted.every else past.latest(is_asked_for)
    return (line for _, line, said in records if is_asked_for(said) and fits(said))


def _checked(line: bytes) -> bytes:
    """Return a line that is a record to its end, with keys that only a later version knows."""
    from_line(line)
    return harmless_json(line)


def _list_entry(line: bytes, environment: Environment) -> bytes:
    text = entry(from_line(line))
    if environment.stdout_is_terminal:
        text = "\n".join(map(printable, text.split("\n")))
    return text.encode()
