"""L4: the failed lines as a list that can be fetched again."""

import asyncio
from collections.abc import Sequence

import orjson

from fetcher.atomic import AtomicFile
from fetcher.columns import values_of
from fetcher.events import Settled
from fetcher.model import Record
from fetcher.plan import again
from fetcher.text import harmless_json, printable


class FailedList:
    """Writes each failed line below a comment that says where it stood and why it failed.

    It is an object of JSON if its list said more of it than the URL. A line that would be read back as another one is
    a comment too: one with a newline in it, one whose bytes were no text and stand escaped, one whose header fields
    stand in its list only, and the complaint of a list that could not be read to its end.
    """

    def __init__(self, file: AtomicFile) -> None:
        self._file = file

    async def write(self, batch: Sequence[Settled]) -> None:
        """Add the failed ones of a batch; raises LocalError."""
        text = "".join(entry(settled.record) for settled in batch if not settled.record.ok)
        if text:
            await asyncio.to_thread(self._file.write, text.encode())


def entry(record: Record) -> str:
    """Return a record as lines of a list; a failed one below a comment that says where it stood and why it failed."""
    line = list_line(record)
    if record.ok:
        return f"{line}\n"
    kind = record.error.kind if record.error is not None else ""
    return f"# {kind} ({printable(record.source)}:{record.line})\n{line}\n"


def list_line(record: Record) -> str:
    """Return the line of a list that a record came from, as URL or object; a comment if that cannot be told."""
    row = again(record)
    if row is None:
        return f"# {printable(record.url)}"
    if row.details is None and row.text[:1] not in "{#" and row.text == row.text.strip():
        return row.text
    return harmless_json(orjson.dumps(values_of(row))).decode()
