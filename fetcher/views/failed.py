"""L4: the failed lines as a list that can be fetched again."""

import asyncio
from collections.abc import Sequence

from fetcher.atomic import AtomicFile
from fetcher.events import Settled
from fetcher.model import Record
from fetcher.plan import again
from fetcher.text import printable


class FailedList:
    """Writes each failed line below a comment that says where it stood and why it failed.

    A line that would be read back as another one is a comment too: one with a newline in it, one whose bytes were no
    text and stand escaped, and the complaint of a list that could not be read to its end.
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
    line = record.url if again(record) is not None else f"# {printable(record.url)}"
    if record.ok:
        return f"{line}\n"
    kind = record.error.kind if record.error is not None else ""
    return f"# {kind} ({printable(record.source)}:{record.line})\n{line}\n"
