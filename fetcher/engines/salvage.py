"""L3: bodies that a cluster has fetched for a run that died: the next run in its directory takes them over."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Final, Protocol

from fetcher import __version__
from fetcher.disk import Disk
from fetcher.engines.channel import Done, Laid
from fetcher.engines.spool import Inbox
from fetcher.events import Settled
from fetcher.model import Record, to_line
from fetcher.naming import PARTS
from fetcher.sinks.base import Adopter

#: Ends the name of a run that has a command for each body: one that was not run for it must have it fetched again.
_EXEC: Final = "-exec"


class Memory(Protocol):
    """What runs have stored; see :class:`fetcher.journal.Journal`."""

    def knows(self, key: str) -> bool:
        """Tell whether a body for this request key was stored at some time."""
        ...

    async def write(self, batch: Sequence[Settled]) -> None:
        """Note records."""
        ...


def run_name(unique: str, *, commanded: bool) -> str:
    """Return what a run calls its directory for chunks, so that a later one knows whether it can take them over."""
    return f"{__version__}-{unique}{_EXEC if commanded else ''}"


async def salvage(directory: Path, sink: Adopter, memory: Memory, disk: Disk) -> int:
    """Name and note the bodies of chunks that nobody has taken, remove all chunks, and return how many bodies there were.

    Those that were named, but not noted, when the run died count too. Raises LocalError.
    """
    found = 0
    for told in await disk.run(_told, directory):
        chunk = told.parent.relative_to(directory).as_posix()
        try:
            messages = await disk.run(Inbox(told).read)
        except (OSError, ValueError):
            continue  # what it told is fetched again
        laid = {each.request.key: each for each in messages if isinstance(each, Laid)}
        done = [
            each for each in messages if isinstance(each, Done) and each.key in laid and _lies_in(chunk, each.record)
        ]
        taken = await asyncio.gather(*(_take(each, laid[each.key], directory, sink, memory) for each in done))
        batch = [settled for settled in taken if settled is not None]
        await memory.write(batch)
        found += len(batch)
    await disk.run(rmtree, directory / PARTS, True)
    return found


async def _take(done: Done, laid: Laid, directory: Path, sink: Adopter, memory: Memory) -> Settled | None:
    """Return the record of a body under its own name, None if it is not there, or long known."""
    record, (request, told) = done.record, laid
    path: str | None = None
    if (directory / str(record.path)).is_file():
        path = await sink.adopt(request, told, str(record.path), str(record.sha256))
    elif not memory.knows(request.key):
        path = await sink.adopted(request, told, record.bytes or 0, str(record.sha256))
    if path is None:
        return None
    record = replace(record, path=path)
    return Settled(record, to_line(record), request.key)


def _told(directory: Path) -> list[Path]:
    """Return the files in which chunks have told."""
    runs = (run for run in (directory / PARTS).glob(f"{__version__}-*") if not run.name.endswith(_EXEC))
    return sorted(told for run in runs for told in run.glob("*/told"))


def _lies_in(chunk: str, record: Record) -> bool:
    """Tell whether a record is of a body in this chunk's own directory, whatever somebody may have written there."""
    folder, _, name = (record.path or "").rpartition("/")
    return folder == chunk and name.isdigit() and record.ok and record.sha256 is not None
