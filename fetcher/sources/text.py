"""L2: a list with one URL per line."""

import os
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from fetcher.errors import Error, ErrorKind
from fetcher.model import Row
from fetcher.sources.opener import ReadError, chunks, rereadable
from fetcher.text import middle_cut, printable

#: The longest line that is kept whole, in bytes without its line end.
MAX_LINE: Final = 1024 * 1024

#: What may stand around a URL; the carriage return is that of CRLF.
_BLANKS: Final = " \t\r"
_BLANK_BYTES: Final = _BLANKS.encode()
_BOM: Final = b"\xef\xbb\xbf"
_UTF16_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")

#: Matches once per line that is neither blank nor a comment, given a newline in front of each.
_ASKING: Final = re.compile(rb"\n[ \t\r]*+[^ \t\r\n#]")


class TextSource:
    r"""One URL per line, read as a stream; plain or gzip.

    Blank lines and those that start with ``#`` ask for nothing but are counted; outer blanks, CRLF and a
    UTF-8 byte order mark are fine. Lines end in ``\n``. Where the list cannot be read on, its last row says so.
    """

    def __init__(self, path: str, descriptor: int | None = None) -> None:
        """``path`` is a file's, or ``-`` for standard input; a ``descriptor`` is read instead and stays open."""
        self.name = os.fsencode(path).decode(errors="backslashreplace")
        self._file = (0 if path == "-" else path) if descriptor is None else descriptor

    async def rows(self) -> AsyncGenerator[Row, None]:
        """Yield one row per line that asks for a fetch."""
        async with aclosing(self._parts()) as parts:
            async for part in parts:
                if isinstance(part, Row):
                    yield part
                else:
                    for row in parse(self.name, part):
                        yield row

    async def count(self) -> int | None:
        """Return how many rows there are, or None if the list can be read only once."""
        if not rereadable(self._file):
            return None
        rows = 0
        async with aclosing(self._parts()) as parts:
            async for part in parts:
                rows += 1 if isinstance(part, Row) else tally(part)
        return rows

    async def _parts(self) -> AsyncGenerator["Lines | Row", None]:
        """Yield the list's lines, and a row with an error if it cannot be read to its end."""
        framer = Framer()
        try:
            async with aclosing(chunks(self._file)) as pieces:
                async for piece in pieces:
                    for lines in framer.feed(piece):
                        yield lines
            for lines in framer.end():
                yield lines
        except ReadError as error:
            # The unfinished line is not a row: half a URL must not be fetched.
            after = f" after line {framer.line}" if framer.line else ""
            message = f"{self.name}: {error}{after}"
            yield Row(self.name, framer.line + 1, self.name, Error.of(ErrorKind.BAD_RECORD, message))


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


def parse(source: str, lines: Lines) -> Iterator[Row]:
    """Yield the rows that ``lines`` ask for."""
    if lines.dropped:
        if tally(lines):
            yield _too_long(source, lines)
        return
    try:
        text = lines.data.decode()
    except UnicodeDecodeError:
        for number, raw in enumerate(lines.data.split(b"\n"), lines.first):
            stripped = raw.strip(_BLANK_BYTES)
            if stripped and not stripped.startswith(b"#"):
                yield decode(source, number, stripped)
        return
    for number, line in enumerate(text.split("\n"), lines.first):
        url = line.strip(_BLANKS)
        if url and url[0] != "#":
            yield Row(source, number, url)


def tally(lines: Lines) -> int:
    """Return how many rows ``lines`` ask for; a line too long to know is one, unless it is a comment."""
    if lines.dropped:
        return int(not lines.data.lstrip(_BLANK_BYTES).startswith(b"#"))
    return len(_ASKING.findall(b"\n" + lines.data))


def decode(source: str, line: int, raw: bytes) -> Row:
    r"""Return the row of one line; bytes that are not UTF-8 stand in it as ``\xe9`` and make it an error."""
    try:
        return Row(source, line, raw.decode())
    except UnicodeDecodeError as error:
        text = raw.decode(errors="backslashreplace")
        byte = raw[error.start]
        message = (
            f'not UTF-8: "{middle_cut(printable(text), 120)}" ({_place(source, line)}); '
            f"write the byte \\x{byte:02x} as %{byte:02X}"
        )
        return Row(source, line, text, Error.of(ErrorKind.INVALID_URL, message))


def _too_long(source: str, lines: Lines) -> Row:
    length = len(lines.data) + lines.dropped
    message = f"line too long: {length:,} bytes, at most {MAX_LINE:,} ({_place(source, lines.first)})"
    text = lines.data.strip(_BLANK_BYTES).decode(errors="backslashreplace")
    return Row(source, lines.first, text, Error.of(ErrorKind.INVALID_URL, message))


def _place(source: str, line: int) -> str:
    return f"{middle_cut(printable(source), 80)}:{line}"
