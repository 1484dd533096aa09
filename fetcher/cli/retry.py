"""L4: ``fetcher retry``: what failed in a directory, as a list to fetch again."""

import asyncio
from array import array
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from fetcher.cli.env import Environment
from fetcher.cli.flags import RetryFlags
from fetcher.cli.get import carry_out, load, options_of
from fetcher.cli.records import warn
from fetcher.cli.show import Show
from fetcher.errors import ErrorKind, UsageError, http_kind
from fetcher.model import Record, Row, from_line
from fetcher.plan import again
from fetcher.replay import Past
from fetcher.status import ExitStatus
from fetcher.text import printable

_KINDS: Final = (*ErrorKind, *map(http_kind, range(400, 600)))
#: Rows read from the journal in one hop to a thread.
_ROWS: Final = 256


class FailedSource:
    """The lines whose latest record is a failure, of one of these kinds if there are any; see Source.

    They stand in the journal, of which this holds 8 bytes a line.
    """

    def __init__(self, past: Past, kinds: Sequence[str]) -> None:
        self.name = str(past.directory)
        self._past = past
        self._offsets = array("Q")
        #: How many failures are left out since their header fields stand only in the list that they came from.
        self.incomplete = 0
        for offset, line, said in past.latest():
            record = None if said.ok else _failed(line, kinds)
            if record is None:
                continue
            if again(record) is not None:
                self._offsets.append(offset)
            elif record.asked and "headers" in record.asked:
                self.incomplete += 1

    async def rows(self) -> AsyncGenerator[Row, None]:
        """Yield each line as it stood in its list, with that list's name and its number there."""
        for start in range(0, len(self._offsets), _ROWS):
            for row in await asyncio.to_thread(self._read, self._offsets[start : start + _ROWS]):
                yield row

    async def count(self) -> int:
        """Return how many lines there are."""
        return len(self._offsets)

    def _read(self, offsets: Sequence[int]) -> list[Row]:
        rows = (again(self._past.record(offset)) for offset in offsets)
        return [row for row in rows if row is not None]


def _failed(line: bytes, kinds: Sequence[str]) -> Record | None:
    """Return the record on a line, if it is one of a failure of these kinds."""
    try:
        record = from_line(line)
    except ValueError:
        return None
    kind = record.error.kind if record.error is not None else ""
    return record if not kinds or any(f"{kind}.".startswith(f"{each}.") for each in kinds) else None


def main(flags: RetryFlags, environment: Environment, typed: Sequence[str]) -> ExitStatus:
    """Fetch what failed and return how it ended; raises UsageError before anything is fetched, LocalError."""
    kinds = flags.kind or []
    for kind in kinds:
        if not any(f"{known}.".startswith(f"{kind}.") for known in _KINDS):
            raise UsageError(f'--kind "{kind}": write a kind of failure such as http.503, dns or timeout')
    options = options_of(flags)
    load(options)
    with Past(options.output.directory) as past:
        source = FailedSource(past, kinds)
        show = Show(flags, environment, typed, f"nothing to fetch again in {printable(flags.output_dir)}")
        if not flags.quiet:
            warn(past, say=show.say)
        if source.incomplete and flags.quiet < 2:
            show.say(
                f"fetcher: {source.incomplete:,} left out: their header fields stand in the lists only; run these again"
            )
        return carry_out(options, [source], show)
