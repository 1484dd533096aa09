"""L2: bytes that come in pieces of any size, cut into whole lines, and read by them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from fetcher.model import Row
from fetcher.sources.base import ReadError

#: The longest line that is kept whole, in bytes without its line end.
MAX_LINE: Final = 1024 * 1024

_BOM: Final = b"\xef\xbb\xbf"
_UTF16_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Lines:
    """Whole lines of a list: the number of the first, and their bytes, parted by newlines.

    If ``dropped`` is above 0, this is one line that was longer by so many bytes.
    """

    first: int
    data: bytes
    dropped: int = 0


class Framer:
    """Cuts bytes that come in chunks of any size into whole lines; holds at most ``limit`` bytes of one.

    ``line`` counts the lines given out. Raises ReadError at the byte order mark of UTF-16.
    """

    def __init__(self, limit: int = MAX_LINE) -> None:
        self.line = 0
        self._limit = limit
        self._held = bytearray()
        self._dropped = 0

    def feed(self, chunk: bytes) -> Iterator[Lines]:
        """Yield the lines that end in this chunk, many at a time."""
        start = 0
        if self._held or not self.line:
            start = chunk.find(b"\n") + 1
            self._hold(chunk[: start - 1] if start else chunk)
            if not start:
                return
            yield self._release()
        end = chunk.rfind(b"\n") + 1
        if end - start > self._limit:
            for line in chunk[start : end - 1].split(b"\n"):
                self._hold(line)
                yield self._release()
        elif end > start:
            lines = Lines(self.line + 1, chunk[start : end - 1])
            self.line += chunk.count(b"\n", start, end)
            yield lines
        self._hold(chunk[end:])

    def end(self) -> Iterator[Lines]:
        """Yield the last line if it has no newline."""
        if self._held:
            yield self._release()

    def _hold(self, piece: bytes) -> None:
        room = self._limit - len(self._held)
        self._held += piece[:room]
        self._dropped += max(0, len(piece) - room)

    def _release(self) -> Lines:
        data = bytes(self._held)
        if not self.line:
            data = data.removeprefix(_BOM)
            if data.startswith(_UTF16_BOMS):
                raise ReadError("this is UTF-16; save it as UTF-8")
        self.line += 1
        lines = Lines(self.line, data, self._dropped)
        self._held.clear()
        self._dropped = 0
        return lines


class LineReader:
    """Reads a list line by line; see Reader.

    ``rows`` makes the rows that end in some lines, ``tally`` only counts them, and ``rest`` makes those that were waiting
    for more lines.
    """

    nested = ()

    def __init__(
        self,
        rows: Callable[[Lines], Iterable[Row]],
        tally: Callable[[Lines], int] | None = None,
        rest: Callable[[], Iterable[Row]] = tuple,
    ) -> None:
        self._framer = Framer()
        self._rows = rows
        self._tally = tally or (lambda lines: sum(1 for _ in rows(lines)))
        self._rest = rest

    @property
    def line(self) -> int:
        """How many lines have been read."""
        return self._framer.line

    def feed(self, piece: bytes) -> Iterator[Row]:
        """Yield the rows of the lines that end in this piece."""
        for lines in self._framer.feed(piece):
            yield from self._rows(lines)

    def end(self) -> Iterator[Row]:
        """Yield the rows of a last line that has no newline, and those that were waiting for more."""
        for lines in self._framer.end():
            yield from self._rows(lines)
        yield from self._rest()

    def tally(self, piece: bytes) -> int:
        """Return how many rows the lines that end in this piece make."""
        return sum(map(self._tally, self._framer.feed(piece)))
