"""L1: what is to be done about each row of the list."""

from dataclasses import replace

from fetcher.conditional import condition
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

    It remembers a hash of what each row asked for, and its line, and nothing else.
    """

    def __init__(self) -> None:
        self._first = HashTable(32)
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
        request = Request(index, row.text, url.target, url.host, row.source, row.line, url.userinfo)
        first = self._first.add(hash64(request.key), row.line)
        return request if first is None else Repeated(request, first)


def _invalid(row: Row, error: Error) -> Record:
    return Record(url=row.text, source=row.source, line=row.line, outcome=Outcome.FAILED, error=error)


def again(record: Record) -> Row | None:
    """Return the row that a record came from; None if nothing could be fetched for it, or something else would be.

    That is a line with a newline in it, one whose bytes were no text and stand escaped, and the complaint of a list
    that could not be read to its end.
    """
    if (record.error is not None and record.error.kind == ErrorKind.BAD_RECORD) or "\n" in record.url:
        return None
    try:
        same = parse(record.url).host == record.host
    except FetchError:
        same = True
    return Row(record.source, record.line, record.url) if same else None


def planned(request: Request, path: str | None) -> Record:
    """Return the record of a request that a dry run leaves unsent."""
    return Record(
        url=request.url,
        source=request.source,
        line=request.line,
        host=request.host,
        outcome=Outcome.PLANNED,
        path=path,
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
    stored = Stored(earlier.path, earlier.bytes or 0, earlier.sha256)
    asked = condition(head.etag, head.last_modified) if conditional else ()
    return replace(request, kept=Kept(stored, head, asked))


def carried(request: Request, earlier: Record | None, outcome: Outcome, duplicate_of: int | None = None) -> Record:
    """Return the record of a request for which nothing is sent, telling of the file that is there already."""
    record = planned(request, None)
    if earlier is None or not earlier.ok:
        return replace(record, outcome=outcome, duplicate_of=duplicate_of)
    return replace(
        earlier,
        url=request.url,
        id=None,
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
        meta=None,
    )
