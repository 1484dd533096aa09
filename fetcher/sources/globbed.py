"""L2: a source whose URLs are patterns."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from fetcher.errors import Error, FetchError
from fetcher.globs import Pattern
from fetcher.model import Row
from fetcher.sources.base import Source
from fetcher.text import place


class GlobbedSource:
    """Another source, each row of which becomes one row per URL that its pattern stands for; see Source."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._source = source

    async def rows(self) -> AsyncGenerator[Row, None]:
        """Yield the rows; each tells the line of its pattern."""
        async with aclosing(self._source.rows()) as rows:
            async for row in rows:
                pattern = _pattern(row)
                if isinstance(pattern, Row):
                    yield pattern
                    continue
                for url in pattern:
                    yield replace(row, text=url)

    async def count(self) -> int | None:
        """Return how many rows there are, if the source can tell how many it has."""
        if await self._source.count() is None:
            return None
        total = 0
        async with aclosing(self._source.rows()) as rows:
            async for row in rows:
                pattern = _pattern(row)
                total += 1 if isinstance(pattern, Row) else len(pattern)
        return total


def _pattern(row: Row) -> Pattern | Row:
    """Return the pattern of a row, or the row if it has none or a wrong one."""
    if row.error is not None or not any(char in row.text for char in "[]{}"):
        return row
    try:
        return Pattern(row.text)
    except FetchError as error:
        wrong = Error.of(error.kind, f"{error.message} ({place(row.source, row.line)})")
        return replace(row, error=wrong)
