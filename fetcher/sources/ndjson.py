"""L2: a list with one object of JSON per line."""

import re
from collections.abc import Iterator
from typing import Final

import orjson

from fetcher.columns import bad_row, row_of
from fetcher.model import Row
from fetcher.sources.framing import MAX_LINE, LineReader, Lines
from fetcher.text import place

_BLANKS: Final = b" \t\r"
#: A URL can begin with a brace, in a pattern; not with this.
_OBJECT: Final = re.compile(rb'\{[ \t]*["}]')


def ndjson_reader(source: str, column: str) -> LineReader:
    """Return a reader of one object of JSON per line, with the URL in ``column``; see :func:`fetcher.columns.row_of`.

    Blank lines and those that start with ``#`` ask for nothing but are counted. Any other line is a row, bad if it is
    no object; its text may hold secrets, so the row does not have it.
    """
    return LineReader(lambda lines: _rows(source, lines, column), lambda lines: sum(1 for _ in asking(lines)))


def _rows(source: str, lines: Lines, column: str) -> Iterator[Row]:
    for number, line in asking(lines):
        if lines.dropped:
            message = f"line too long: {len(lines.data) + lines.dropped:,} bytes, at most {MAX_LINE:,}"
            yield bad_row(source, number, f"{message} ({place(source, number)})")
        else:
            yield object_row(source, number, line, column)


def begins_object(line: bytes) -> bool:
    """Tell whether a line without outer blanks is an object rather than a URL."""
    return _OBJECT.match(line) is not None


def object_row(source: str, line: int, raw: bytes, column: str) -> Row:
    """Return the row of one line, bad if that is no object with a URL."""
    try:
        values = orjson.loads(raw)
    except orjson.JSONDecodeError:
        values = None
    if not isinstance(values, dict):
        return bad_row(source, line, f'{place(source, line)} is not a JSON object with "{column}"')
    return row_of(source, line, values, column)


def asking(lines: Lines) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each line that is neither blank nor a comment."""
    for number, line in enumerate(lines.data.split(b"\n"), lines.first):
        stripped = line.strip(_BLANKS)
        if stripped and not stripped.startswith(b"#"):
            yield number, stripped
