"""L1: what one row of a list says, column by column, checked and made a Row; and the way back."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from fetcher.details import NO_DETAILS, Details, Item
from fetcher.errors import Error, ErrorKind, FetchError
from fetcher.headers import fault
from fetcher.model import Headers, Record, Row
from fetcher.text import place
from fetcher.urls import parse

#: The column with the URL, unless another one is named.
URL: Final = "url"
#: The columns that mean something; all others are the row's ``meta``.
COLUMNS: Final = ("id", "name", "headers", "sha256", "max_size", "mirrors")

#: What an object has that is the record of an earlier run.
_RECORD: Final = frozenset({"url", "outcome", "ok", "attempts", "wire_bytes"})

_SHA256: Final = re.compile(r"[0-9A-Fa-f]{64}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_MOST_MIRRORS: Final = 20
#: Bytes of UTF-8.
_LONGEST_NAME: Final = 1000


class _ColumnError(Exception):
    """A column that cannot be meant; the message begins with its name, and has no header field's value in it."""


def row_of(source: str, line: int, values: Mapping[str, Any], column: str = URL) -> Row:
    """Return the row of an object or of a table's row, whose URL stands in ``column``.

    Empty cells are as if they were not there. A record of an earlier run is the row that it came from. What cannot be
    meant makes the row a ``bad_record``.
    """
    return _of_record(source, line, values) if values.keys() >= _RECORD else _row(source, line, values, column)


def _row(source: str, line: int, values: Mapping[str, Any], column: str) -> Row:
    url = values.get(column)
    if not isinstance(url, str) or not url:
        return bad_row(source, line, f'{place(source, line)} has no "{column}"')
    meta = {key: value for key, value in values.items() if key not in COLUMNS and key != column} or None
    if meta is not None and any(isinstance(value, dict | list) for value in meta.values()) and not _is_json(meta):
        return _wrong(source, line, url, "nested too deeply")
    return _checked(source, line, url, values, meta)


def item_row(source: str, line: int, item: Item) -> Row:
    """Return the row of an item of the library's; what cannot be meant makes it a ``bad_record``."""
    values = {column: getattr(item, column) for column in COLUMNS}
    meta = dict(item.meta) if item.meta else None
    if not _is_json([item.id, meta]):
        return _wrong(source, line, item.url, '"id" or "meta" cannot be said in JSON')
    return _checked(source, line, item.url, values, meta)


def _checked(source: str, line: int, url: str, values: Mapping[str, Any], meta: dict[str, Any] | None) -> Row:
    known = Details(meta=meta)
    try:
        known = Details(id=_id(values.get("id")), meta=meta)
        name, sha256, headers = (
            _name(values.get("name")),
            _sha256(values.get("sha256")),
            _headers(values.get("headers")),
        )
        max_size, mirrors = _max_size(values.get("max_size")), _mirrors(values.get("mirrors"))
    except _ColumnError as error:
        return _wrong(source, line, url, str(error), known)
    details = Details(known.id, name, headers, sha256, max_size, mirrors, meta)
    return Row(source, line, url, None, None if details == NO_DETAILS else details)


def bad_row(source: str, line: int, message: str) -> Row:
    """Return the row of something that has no URL; the source stands for it, as its text may hold secrets."""
    return Row(source, line, source, Error.of(ErrorKind.BAD_RECORD, message))


def _wrong(source: str, line: int, url: str, message: str, known: Details | None = None) -> Row:
    return Row(source, line, url, Error.of(ErrorKind.BAD_RECORD, f"{message} ({place(source, line)})"), known)


def row_again(record: Record) -> Row:
    """Return the row that a record came from; a ``bad_record`` if that cannot be told."""
    if record.asked is None and record.id is None and record.meta is None:
        return Row(record.source, record.line, record.url)
    return _again(record.source, record.line, record.url, (record.id, record.asked, record.meta))


def values_of(row: Row) -> dict[str, Any]:
    """Return the object that :func:`row_of` makes this row of. Header fields are left out."""
    details = row.details or NO_DETAILS
    asked = {key: value for key, value in (details.asked or {}).items() if key != "headers"}
    known = {URL: row.text} if details.id is None else {URL: row.text, "id": details.id}
    return {**(details.meta or {}), **known, **asked}


def _of_record(source: str, line: int, values: Mapping[str, Any]) -> Row:
    url, error = values[URL], values.get("error")
    if not isinstance(url, str) or not isinstance(error, Mapping | None):
        return bad_row(source, line, f"{place(source, line)} is not a record")
    if error is not None and error.get("kind") == ErrorKind.BAD_RECORD:
        return Row(source, line, url, Error.of(ErrorKind.BAD_RECORD, str(error.get("message"))))
    return _again(source, line, url, (values.get("id"), values.get("asked"), values.get("meta")))


def _again(source: str, line: int, url: str, said: tuple[Any, Any, Any]) -> Row:
    id_, asked, meta = said
    if not isinstance(asked, Mapping | None) or not isinstance(meta, Mapping | None):
        return bad_row(source, line, f"{place(source, line)} is not a record")
    values = {key: value for key, value in (meta or {}).items() if key not in COLUMNS}
    values |= {key: value for key, value in (asked or {}).items() if key in COLUMNS}
    if values.pop("headers", None):
        message = "its header fields stand in the list that it came from, and only there"
        return _wrong(source, line, url, message)
    return _row(source, line, values | {"id": id_, URL: url}, URL)


def _id(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _ColumnError('"id" is neither a text nor a whole number')
    return str(value)


def _name(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _ColumnError('"name" is not a text')
    if not value.isprintable():
        raise _ColumnError('"name" has characters that cannot be shown')
    if len(value.encode()) > _LONGEST_NAME:
        raise _ColumnError(f'"name" is longer than {_LONGEST_NAME:,} bytes')
    if {"", ".", ".."}.intersection(value.split("/")):
        raise _ColumnError('"name" is not a path below the output directory, such as a/b.html')
    return value


def _sha256(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or _SHA256.fullmatch(value) is None:
        raise _ColumnError('"sha256" is not 64 hex digits')
    return value.lower()


def _max_size(value: Any) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _ColumnError('"max_size" is not a whole number of bytes')
    return value


def _mirrors(value: Any) -> tuple[str, ...]:
    urls = value.split() if isinstance(value, str) else value
    if urls is None:
        return ()
    if not isinstance(urls, list | tuple) or not all(isinstance(url, str) for url in urls):
        raise _ColumnError('"mirrors" is not a list of URLs')
    if len(urls) > _MOST_MIRRORS:
        raise _ColumnError(f'"mirrors" are more than {_MOST_MIRRORS}')
    try:
        for url in urls:
            parse(url)
    except FetchError as error:
        raise _ColumnError(f'"mirrors": {error.message}') from error
    return tuple(urls)


def _headers(value: Any) -> Headers:
    if isinstance(value, str) and value:
        try:
            value = orjson.loads(value)
        except ValueError:
            raise _ColumnError('"headers" is not a JSON object') from None
    if value is None or value == "":
        return ()
    if isinstance(value, list | tuple) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        return tuple(_fields(value))  # a map in Parquet, or an item's
    if not isinstance(value, Mapping):
        raise _ColumnError('"headers" is not an object of names and values')
    return tuple(_fields(value.items()))


def _fields(headers: Iterable[tuple[Any, Any]]) -> Iterable[tuple[str, str]]:
    for name, value in headers:
        for each in value if isinstance(value, list) else [] if value is None else [value]:
            if not isinstance(name, str) or not isinstance(each, str):
                raise _ColumnError('"headers" has a value that is not a text')
            if (wrong := fault(name, each.strip())) is not None:
                raise _ColumnError(f'"headers": {wrong}')
            yield name, each.strip()


def _is_json(value: Any) -> bool:
    """Tell whether a record with it can be written: two levels deeper, at most 254 in all."""
    try:
        orjson.dumps([[value]])
    except TypeError:
        return False
    return True
