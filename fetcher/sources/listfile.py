"""L2: a list that is a file or standard input, in whatever form, read piece by piece."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Final

from fetcher.errors import Error, ErrorKind
from fetcher.model import Row
from fetcher.sources.base import Reader, ReadError
from fetcher.sources.opener import chunks, rereadable

#: Makes a reader for a list of this name that begins with these bytes.
Choose = Callable[[str, bytes], Reader]

#: Yields the rows of lists that are rows of another list.
Follow = Callable[[Sequence[Row]], AsyncGenerator[Row, None]]

#: A reader is chosen when there are so many bytes, or a whole line, or nothing more comes.
_ENOUGH: Final = 4_096


class ListSource:
    """A list whose bytes one reader understands, chosen by the first of them; see Source.

    Where it cannot be read on, its last row says so.
    """

    def __init__(
        self, path: str, choose: Choose, content: int | bytes | None = None, follow: Follow | None = None
    ) -> None:
        """Read the file ``path``, or standard input for ``-``.

        With ``content`` read that instead: bytes, or an open descriptor, which stays open. ``follow`` says what rows
        nested lists have; without it, a nested list is a row.
        """
        self.name = shown(path)
        self._choose = choose
        self._follow = follow
        self._file = (0 if path == "-" else path) if content is None else content

    async def rows(self) -> AsyncGenerator[Row, None]:
        """Yield the rows as their bytes come."""
        line = 0
        try:
            async with aclosing(chunks(self._file)) as pieces:
                reader, head = await self._begin(pieces)
                piece: bytes | None = head
                while piece is not None:
                    try:
                        for row in reader.feed(piece):
                            yield row
                    finally:
                        line = reader.line
                    if reader.nested:
                        async with aclosing(self._rows_of(reader.nested)) as rows:
                            async for row in rows:
                                yield row
                    piece = await anext(pieces, None)
            for row in reader.end():
                yield row
        except ReadError as error:
            yield unreadable(self.name, error, line)

    async def _rows_of(self, nested: Sequence[Row]) -> AsyncGenerator[Row, None]:
        if self._follow is None:
            for row in nested:
                yield row
            return
        async with aclosing(self._follow(nested)) as rows:
            async for row in rows:
                yield row

    async def count(self) -> int | None:
        """Return how many rows there are, or None if the list can be read only once, or has others in it."""
        if not rereadable(self._file):
            return None
        rows = 0
        loop = asyncio.get_running_loop()
        try:
            async with aclosing(chunks(self._file)) as pieces:
                reader, head = await self._begin(pieces)
                piece: bytes | None = head
                while piece is not None:
                    rows += await loop.run_in_executor(None, reader.tally, piece)
                    if reader.nested:
                        return None
                    piece = await anext(pieces, None)
            return rows + sum(1 for _ in reader.end())
        except ReadError:
            return rows + 1

    async def _begin(self, pieces: AsyncIterator[bytes]) -> tuple[Reader, bytes]:
        """Return a reader and the bytes by which it was chosen."""
        head = b""
        async for piece in pieces:
            head += piece
            if len(head) >= _ENOUGH or b"\n" in head.lstrip():
                break
        return self._choose(self.name, head), head


def shown(path: str) -> str:
    r"""Return a file's name with bytes that are no text as ``\xe9``."""
    return os.fsencode(path).decode(errors="backslashreplace")


def unreadable(source: str, error: ReadError, line: int) -> Row:
    """Return the row that tells that a list cannot be read on after this line.

    What was read of the next one is not a row: half a URL must not be fetched.
    """
    after = f" after line {line}" if line else ""
    return Row(source, line + 1, source, Error.of(ErrorKind.BAD_RECORD, f"{source}: {error}{after}"))
