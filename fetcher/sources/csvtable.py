"""L2: a table whose first line names its columns: CSV (RFC 4180), or parted by tabs or semicolons."""

import csv
from collections.abc import Iterator
from typing import Final

from fetcher.columns import bad_row, row_of
from fetcher.model import Row
from fetcher.sources.base import FormError
from fetcher.sources.framing import MAX_LINE, LineReader, Lines
from fetcher.text import place, printable

#: What may part the cells; of several that would do, the first.
_COMMAS: Final = (",", ";", "\t")
_SHOWN: Final = 200
#: So often the end of one row is looked for: it is looked for from its beginning each time.
_MOST_OPEN: Final = 50


def csv_reader(source: str, column: str, comma: str | None = None) -> LineReader:
    """Return a reader of the rows of a table, with the URL in the column of that name; see :func:`fetcher.columns.row_of`.

    A quoted cell may hold line ends; the row's line is then where it begins. Blank lines ask for nothing. ``comma`` is
    what parts the cells, found out from the first line if it is None. A row with more cells than the first line has
    is bad, since a URL with a comma in it may have been cut; one with fewer lacks the last ones.
    """
    table = _Table(source, column, comma)
    return LineReader(table.rows, rest=table.rest)


class _Table:
    """Makes rows of lines, and holds those of a row that has not ended."""

    def __init__(self, source: str, column: str, comma: str | None) -> None:
        self._source = source
        self._column = column
        self._comma = comma
        self._header: list[str] = []
        #: Lines of a row that has not ended yet, the number of the first, and their length in bytes; how often they were
        #: found to end within quotes, and the quotes since.
        self._held: list[str] = []
        self._first = 0
        self._size = 0
        self._open = 0
        self._quotes = 0

    def rest(self) -> Iterator[Row]:
        """Yield the row whose quotes are still open, which is bad."""
        if self._held:
            yield self._bad("a quote that is never closed")

    def rows(self, lines: Lines) -> Iterator[Row]:
        """Yield the rows that end in these lines; raises FormError if the first one does not name the column."""
        for number, raw in enumerate(lines.data.split(b"\n"), lines.first):
            if not self._held:
                self._first, self._size, self._open, self._quotes = number, 0, 0, 1
            try:
                self._held.append(raw.decode().removesuffix("\r") + "\n")
            except UnicodeDecodeError:
                yield self._bad("not UTF-8")
                continue
            self._size += len(raw) + lines.dropped
            self._quotes += raw.count(b'"') if self._open else 0
            if not self._header:
                self._take_header()
            elif self._size > MAX_LINE or self._open > _MOST_OPEN:
                yield self._bad("a quote that is not closed soon" if self._open else f"longer than {MAX_LINE:,} bytes")
            elif self._quotes % 2 and (row := self._row()) is not None:  # an even number leaves it open
                yield row

    def _row(self) -> Row | None:
        """Return the row that the lines at hand make, None if they make none, or none yet."""
        try:
            cells = next(csv.reader(self._held, delimiter=self._comma or ",", strict=True), [])
        except csv.Error as error:
            if not _is_open(error):
                return self._bad(f"not a row of a table: {error}")
            self._open += 1
            self._quotes = 0
            return None
        if not any(map(str.strip, cells)):
            self._held.clear()
            return None
        if len(cells) > len(self._header):
            many = f"{len(cells)} cells, where the first line names {len(self._header)}"
            return self._bad(f"{many}: quote a cell that holds what parts them")
        self._held.clear()
        values = {name: cell.strip() if name == self._column else cell for name, cell in zip(self._header, cells)}  # noqa: B905
        return row_of(self._source, self._first, values, self._column)

    def _take_header(self) -> None:
        line = self._held.pop()
        if not line.strip():
            return
        commas = _COMMAS if self._comma is None else (self._comma,)
        headers = [header_of(line, comma) for comma in commas]
        for comma, header in zip(commas, headers, strict=True):
            if self._column in header:
                self._comma, self._header = comma, header
                return
        names = printable(", ".join(max((len(header), header) for header in headers)[1]), _SHOWN)
        raise FormError(f'no column "{self._column}"; there are: {names}; see --column')

    def _bad(self, message: str) -> Row:
        """Return the lines at hand as a bad row, and let go of them."""
        self._held.clear()
        return bad_row(self._source, self._first, f"{message} ({place(self._source, self._first)})")


def header_of(line: str, comma: str) -> list[str]:
    """Return the names of a table's columns, without outer blanks."""
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=comma), [])]
    except csv.Error:
        return []


def _is_open(error: csv.Error) -> bool:
    """Tell whether a row was refused because its quotes are still open; there is no other way to know."""
    return "unexpected end of data" in str(error)
