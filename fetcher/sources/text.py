"""L2: a list with one URL per line, or an object of JSON where there is more to say."""

import re
from collections.abc import Iterator
from typing import Final

from fetcher.columns import bad_row
from fetcher.errors import Error, ErrorKind
from fetcher.model import Row
from fetcher.sources.framing import MAX_LINE, LineReader, Lines
from fetcher.sources.ndjson import asking, begins_object, object_row
from fetcher.text import middle_cut, place, printable

#: What may stand around a URL; the carriage return is that of CRLF.
_BLANKS: Final = " \t\r"
_BLANK_BYTES: Final = _BLANKS.encode()

#: Matches once per line that is neither blank nor a comment, given a newline in front of each.
_ASKING: Final = re.compile(rb"\n[ \t\r]*+[^ \t\r\n#]")


def text_reader(source: str, column: str) -> LineReader:
    r"""Return a reader of one URL per line; a line that begins with ``{"`` is an object as in NDJSON.

    Blank lines and those that start with ``#`` ask for nothing but are counted; outer blanks, CRLF and a
    UTF-8 byte order mark are fine. Lines end in ``\n``. The URL of an object stands in ``column``.
    """
    return LineReader(lambda lines: parse(source, lines, column), tally)


def parse(source: str, lines: Lines, column: str) -> Iterator[Row]:
    """Yield the rows that ``lines`` ask for."""
    if lines.dropped:
        if tally(lines):
            yield _too_long(source, lines)
        return
    try:
        text = lines.data.decode()
    except UnicodeDecodeError:
        text = "{"
    if "{" in text:
        for number, raw in asking(lines):
            yield object_row(source, number, raw, column) if begins_object(raw) else decode(source, number, raw)
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
            f'not UTF-8: "{middle_cut(printable(text), 120)}" ({place(source, line)}); '
            f"write the byte \\x{byte:02x} as %{byte:02X}"
        )
        return Row(source, line, text, Error.of(ErrorKind.INVALID_URL, message))


def _too_long(source: str, lines: Lines) -> Row:
    length = len(lines.data) + lines.dropped
    message = f"line too long: {length:,} bytes, at most {MAX_LINE:,} ({place(source, lines.first)})"
    text = lines.data.strip(_BLANK_BYTES)
    if begins_object(text):
        return bad_row(source, lines.first, message)
    return Row(source, lines.first, text.decode(errors="backslashreplace"), Error.of(ErrorKind.INVALID_URL, message))
