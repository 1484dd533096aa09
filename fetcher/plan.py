"""L1: what is to be done about each row of the list."""

from dataclasses import replace

from fetcher.columns import row_again
from fetcher.conditional import condition
from fetcher.details import NO_DETAILS, Details
from fetcher.errors import Error, ErrorKind, FetchError
from fetcher.frozen import value
from fetcher.hashtable import HashTable, hash64
from fetcher.model import Head, Kept, Outcome, Record, Request, Row, Stored
from fetcher.urls import parse


@value(frozen=True, slots=True)
class Repeated:
    """A row that asks for what line ``of`` asked for already, as ``request``."""

    request: Request
    of: int


class Planner:
    """Makes of each row, in the list's order, a request, a repetition of an earlier one, or a failed record.

    A repetition asks for the same URL as the same user, under the same name if it gives one. It must not do so with
    other header fields or for another SHA-256: one of the two would be served with what only the other asked for.
    It remembers a hash of what each row asked for, and its line, and nothing else.
    """

    def __init__(self) -> None:
        self._first = HashTable(32)
        self._terms = HashTable(64)
        self._count = 0

    def plan(self, row: Row) -> Request | Repeated | Record:
        """Decide about the next row."""
        index = self._count
        self._count += 1
        if row.error is not None:
            return _invalid(row, row.error)
        try:
            url = parse(row.text)
        except FetchError as error:
            return _invalid(row, Error.of(error.kind, f"{error.message} ({row.source}:{row.line})"))
        request = Request(index, row.text, url.target, url.host, row.source, row.line, url.userinfo, None, row.details)
        key = hash64(request.key)
        first = self._first.add(key, row.line)
        terms = 0 if row.details is None else _terms(row.details)
        if first is None:
            if terms:
                self._terms.set(key, terms)
            return request
        if terms == (self._terms.get(key) or 0):
            return Repeated(request, first)
        message = f"line {first} asks for this with other header fields or another sha256: give one of them a name"
        return _invalid(row, Error.of(ErrorKind.BAD_RECORD, f"{message} ({row.source}:{row.line})"))


def _terms(details: Details) -> int:
    """Return what two rows for the same thing must agree on; 0 if it is nothing."""
    if not (details.headers or details.sha256):
        return 0
    return hash64((details.headers, details.sha256)) or 1


def _invalid(row: Row, error: Error) -> Record:
    details = row.details or NO_DETAILS
    return Record(
        url=row.text,
        id=details.id,
        asked=details.asked,
        source=row.source,
        line=row.line,
        outcome=Outcome.FAILED,
        error=error,
        meta=details.meta,
    )


def again(record: Record) -> Row | None:
    """Return the row that a record came from; None if nothing could be fetched for it, or something else would be.

    That is a line with a newline in it, one whose bytes were no text and stand escaped, one whose header fields stand
    in its list only, and the complaint of a list that could not be read to its end.
    """
    if (record.error is not None and record.error.kind == ErrorKind.BAD_RECORD) or "\n" in record.url:
        return None
    try:
        same = parse(record.url).host == record.host
    except FetchError:
        same = True
    row = row_again(record)
    return row if same and row.error is None else None


def planned(request: Request, path: str | None) -> Record:
    """Return the record of a request that is not sent, as that of a dry run."""
    details = request.details or NO_DETAILS
    return Record(
        url=request.url,
        id=details.id,
        asked=details.asked,
        source=request.source,
        line=request.line,
        host=request.host,
        outcome=Outcome.PLANNED,
        path=path,
        meta=details.meta,
    )


def compared(request: Request, earlier: Record, *, conditional: bool) -> Request:
    """Return the request with what an earlier run has kept; if ``conditional``, what has not changed is not sent again."""
    head = Head(
        status=earlier.status or 0,
        url=earlier.final_url or "",
        content_type=earlier.content_type,
        charset=earlier.charset,
        etag=earlier.etag,
        last_modified=earlier.last_modified,
    )
    stored = Stored(earlier.path, earlier.bytes or 0, earlier.sha256, earlier.offset, earlier.length)
    asked = condition(head.etag, head.last_modified) if conditional else ()
    return replace(request, kept=Kept(stored, head, asked))


def has_other_digest(request: Request, earlier: Record) -> bool:
    """Tell whether the row asks for another body than the one that is there."""
    return request.details is not None and request.details.sha256 not in (None, earlier.sha256)


def carried(request: Request, earlier: Record | None, outcome: Outcome, duplicate_of: int | None = None) -> Record:
    """Return the record of a request for which nothing is sent, telling of the file that is there already."""
    record = planned(request, None)
    if earlier is None or not earlier.ok:
        return replace(record, outcome=outcome, duplicate_of=duplicate_of)
    return replace(
        earlier,
        url=request.url,
        id=record.id,
        asked=record.asked,
        source=request.source,
        line=request.line,
        host=request.host,
        outcome=outcome,
        wire_bytes=0,
        attempts=0,
        retried=(),
        resumed_from=None,
        redirects=(),
        started_at=None,
        elapsed=0.0,
        timings=None,
        duplicate_of=duplicate_of,
        changed=None,
        previous_sha256=None,
        warnings=(),
        meta=record.meta,
    )
