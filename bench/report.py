"""The report: what was measured where, with which versions, and what people have noted about it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

NOTES: Final = "## Notes"
_HOW: Final = """\
# Benchmarks

Written by `python -m bench`; what stands below Notes is kept. Contestants take turns on one machine, each once a round.
Figures are medians, ratios are medians of the rounds' ratios, start-up takes the least of all runs. The server is nginx
with one worker on loopback, unless said; site and files are in memory when there is room.

After every run each body is compared byte for byte, and each of fetcher's records with what was sent. fetcher hashes
every body and writes a record for each; the others do neither. CPU is user and system time with all children; peak
memory is summed over processes. W5's rate is that of the answers in the server's log, from the first one to SIGINT.
`curl -Z` takes at most 300 at once.

"""
_NO_NOTES: Final = f"{NOTES}\n\nEverything from this line on is kept when the report is written anew.\n"


def write(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, followed by the notes that stood there before, if any."""
    old = path.read_text() if path.exists() else ""
    path.write_text(f"{text.rstrip()}\n\n{notes(old)}")


def notes(old: str) -> str:
    """The notes in an earlier report: its line ``## Notes`` and all after it; an empty section without one."""
    lines = old.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.rstrip() == NOTES:
            return "".join(lines[number:])
    return _NO_NOTES


def preface(facts: Iterable[tuple[str, str]], absent: Mapping[str, str], rounds: int) -> str:
    """The report's beginning: how it is measured, on what, and who is left out and why."""
    lines = [f"- {name}: {fact}" for name, fact in facts]
    lines.append(f"- rounds: {rounds}")
    lines += [f"- {name}: left out, {reason}" for name, reason in absent.items()]
    return _HOW + "\n".join(lines) + "\n"


def compose(beginning: str, tables: Sequence[tuple[str, str]]) -> str:
    """The report: its beginning, and each table below its title."""
    return beginning + "".join(f"\n## {title}\n\n{table}\n" for title, table in tables)
