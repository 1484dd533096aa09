"""L3: bodies that a cluster has fetched for a run that died: the next run in its directory takes them over."""

import asyncio
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final, Protocol

from fetcher import __version__
from fetcher.disk import Disk
from fetcher.engines.channel import Done, Laid
from fetcher.engines.chunk import TOLD
from fetcher.engines.spool import Inbox, Space
from fetcher.errors import LocalError, words_of
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


async def salvage(space: Space, sink: Adopter, memory: Memory, disk: Disk) -> int:
    """Name and note the bodies of chunks that nobody has taken, remove all chunks, and return how many bodies there were.

    Those that were named, but not noted, when the run died count too. Raises LocalError.
    """
    found = 0
    try:
        names = frozenset(await disk.run(space.names))
    except OSError as error:
        raise LocalError(f"{space}: {words_of(error, str(error))}") from error
    for chunk in _chunks(names):
        try:
            messages = await disk.run(Inbox(space, f"{chunk}/{TOLD}").read)
        except (OSError, ValueError):
            continue  # what it told is fetched again
        laid = {each.request.key: each for each in messages if isinstance(each, Laid)}
        done = [
            each for each in messages if isinstance(each, Done) and each.key in laid and _lies_in(chunk, each.record)
        ]
        taken = await asyncio.gather(*(_take(each, laid[each.key], names, sink, memory) for each in done))
        batch = [settled for settled in taken if settled is not None]
        await memory.write(batch)
        found += len(batch)
    if names:
        await disk.run(space.clear)
    return found


async def _take(done: Done, laid: Laid, names: AbstractSet[str], sink: Adopter, memory: Memory) -> Settled | None:
    """Return the record of a body under its own name, None if it is not there, or long known."""
    record, (request, told) = done.record, laid
    path, digest = str(record.path), str(record.sha256)
    named: str | None = None
    if path.removeprefix(f"{PARTS}/") in names:
        named = await sink.adopt(request, told, path, digest)
    elif not memory.knows(request.key):
        named = await sink.adopted(request, told, record.bytes or 0, digest)
    if named is None:
        return None
    record = replace(record, path=named)
    return Settled(record, to_line(record), request.key)


def _chunks(names: Iterable[str]) -> list[str]:
    """Return the chunks that can be taken over, of those that have told something."""
    found = set()
    for name in names:
        run, _, rest = name.partition("/")
        chunk, _, last = rest.partition("/")
        if last.startswith(TOLD) and run.startswith(f"{__version__}-") and not run.endswith(_EXEC):
            found.add(f"{run}/{chunk}")
    return sorted(found)


def _lies_in(chunk: str, record: Record) -> bool:
    """Tell whether a record is of a body in this chunk's own place, whatever somebody may have written there."""
    folder, _, name = (record.path or "").rpartition("/")
    return folder == f"{PARTS}/{chunk}" and name.isdigit() and record.ok and record.sha256 is not None
