"""L1: what has happened to one request, attempt by attempt, and the record it ends as."""

from dataclasses import replace

from fetcher.details import NO_DETAILS
from fetcher.errors import Error
from fetcher.events import Settled
from fetcher.frozen import value
from fetcher.model import Attempt, Kept, Outcome, Record, Request, Stored, timestamp, to_line
from fetcher.plan import planned

_FAILED = Outcome.FAILED
_FETCHED = Outcome.FETCHED
_UNCHANGED = Outcome.UNCHANGED
_NOT_MODIFIED = 304


@value(frozen=True, slots=True)
class History:
    """A request that has been started: when (``started_at`` since 1970, ``started`` monotonic), and what came of it.

    ``request`` is as the list has it. ``retried`` holds the error kinds of all attempts but the last one; the first
    ``elsewhere`` of them were made at the URL, or mirror, before the one that is asked now: ``mirror``, if it is one.
    """

    request: Request
    started_at: float
    started: float
    attempts: int = 0
    retried: tuple[str, ...] = ()
    elsewhere: int = 0
    wire_bytes: int = 0
    last: Attempt | None = None
    mirror: Request | None = None

    def after(self, attempt: Attempt) -> "History":
        """Return the history with one more attempt."""
        earlier = self.last.error if self.last is not None else None
        return History(
            self.request,
            self.started_at,
            self.started,
            attempts=attempt.number,
            retried=self.retried if earlier is None else (*self.retried, earlier.kind),
            elsewhere=self.elsewhere,
            wire_bytes=self.wire_bytes + attempt.wire_bytes,
            last=attempt,
            mirror=self.mirror,
        )

    def at_mirror(self, mirror: Request) -> "History":
        """Return the history of what goes on at the next mirror."""
        return replace(self, elsewhere=self.attempts, mirror=mirror)

    def settled(self) -> Settled:
        """Return the record that the request ends with, for those who write it."""
        record = self.record()
        return Settled(record, to_line(record), self.request.key)

    def record(self) -> Record:
        """Return the record that the request ends with after its last attempt; a failure tells of the file that is kept."""
        last, request = self.last, self.request
        if last is None:
            raise ValueError("a request without an attempt has no record")
        head, kept = last.head, request.kept
        stored = last.stored or (kept and kept.stored)
        changed = _changed(kept, last.stored)
        details = request.details or NO_DETAILS
        return Record(
            url=request.url,
            id=details.id,
            asked=details.asked,
            source=request.source,
            line=request.line,
            host=request.host,
            final_url=head.url if head else None,
            outcome=_FAILED if last.error else _UNCHANGED if head and head.status == _NOT_MODIFIED else _FETCHED,
            status=head.status if head else None,
            error=last.error,
            path=stored.path if stored else None,
            offset=stored.offset if stored else None,
            length=stored.length if stored else None,
            bytes=stored.bytes if stored else None,
            wire_bytes=self.wire_bytes,
            sha256=stored.sha256 if stored else None,
            content_type=head.content_type if head else None,
            charset=head.charset if head else None,
            etag=head.etag if head else None,
            last_modified=head.last_modified if head else None,
            http_version=head.http_version if head else None,
            remote_ip=head.remote_ip if head else None,
            redirects=last.redirects,
            attempts=self.attempts,
            retried=self.retried,
            resumed_from=last.resumed_from,
            started_at=timestamp(self.started_at),
            elapsed=round(last.ended - self.started, 6),
            timings=last.timings,
            changed=changed,
            previous_sha256=kept.stored.sha256 if kept and changed is not None else None,
            warnings=last.warnings,
            meta=details.meta,
        )


def untried(asked: Request, error: Error) -> Record:
    """Return the record of a request that was not made, for this reason; it tells of the file that is kept."""
    request = asked.primary or asked
    record = replace(planned(request, None), outcome=_FAILED, error=error)
    if request.kept is None:
        return record
    kept = request.kept.stored
    return replace(record, path=kept.path, offset=kept.offset, length=kept.length, bytes=kept.bytes, sha256=kept.sha256)


def _changed(kept: Kept | None, stored: Stored | None) -> bool | None:
    """Tell whether what is stored differs from what was there, None if there is nothing to compare."""
    if stored is None or kept is None:
        return None if stored is None or stored.path is None else True
    return stored.sha256 != kept.stored.sha256
