"""L3: one attempt at one request: transport, redirects, body, sink."""

import asyncio
import traceback
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from fetcher.body import ACCEPTED, Decoding, Rest, codings
from fetcher.clock import Clock
from fetcher.conditional import Held, remainder, renewed, strong_validator
from fetcher.cookies import Cookies
from fetcher.errors import Error, ErrorKind, FetchError, http_kind, is_transient
from fetcher.events import Observer, Redirected, Transfer, Trouble
from fetcher.hosts import ALIKE, Hosts, merged
from fetcher.limits import TokenBucket
from fetcher.model import Attempt, Head, Headers, Kept, Redirect, Request, Stored, Timings
from fetcher.options import Limits
from fetcher.redirects import REDIRECTS, next_hop
from fetcher.retry import quota_reset, retry_after
from fetcher.sinks.base import Sink, Writer
from fetcher.text import seconds_text, size_text
from fetcher.transport.base import Hop, Response, Transport
from fetcher.urls import parse

#: The body of an error or a redirect is read, so that its connection can be used again, if it is no longer than so
#: many bytes and comes within so many seconds.
_DRAINED: Final = 64 * 1024
_DRAINING: Final = 1.0

_NOT_MODIFIED: Final = 304
#: These have no body, whatever length they tell (RFC 9110 section 6.4.1).
_BODILESS: Final = frozenset({204, _NOT_MODIFIED})

_ALL: Final = (("Accept-Encoding", ACCEPTED),)


class Identity:
    """What every request tells the server: ``user_agent`` everyone, ``headers`` only the URL's own origin.

    What ``hosts`` says besides goes to a URL's own origin too, if that is on such a host; never to one it redirects to.
    """

    def __init__(self, user_agent: str, headers: Headers = (), hosts: Hosts = ALIKE) -> None:
        self._ours = ("User-Agent", user_agent), ("Accept", "*/*")
        self._headers = headers
        self._hosts = hosts
        self._usual = self._fields(self._ours, headers, None, _ALL)

    def fields(self, request: Request, *, own_origin: bool, cookie: str | None, asked: Headers) -> Headers:
        """Return the header fields of one hop; a header of the user's replaces ours of that name, but what is ``asked``.

        All cookies go in one field (RFC 6265 section 5.4).
        """
        if not own_origin:
            return self._fields(self._ours, (), cookie, asked)
        section = self._hosts.of(request.host)
        headers = self._headers if section is None else merged(self._headers, section.headers)
        if request.userinfo is not None:
            ours = (*self._ours, ("Authorization", _basic(request.userinfo)))
            return self._fields(ours, headers, cookie, asked)
        if cookie is None and asked is _ALL and section is None:
            return self._usual
        return self._fields(self._ours, headers, cookie, asked)

    @staticmethod
    def _fields(ours: Headers, headers: Headers, cookie: str | None, asked: Headers) -> Headers:
        theirs = [(name.lower(), name, value) for name, value in headers]
        given = {lower for lower, _, _ in theirs}
        taken = {"cookie", *(name.lower() for name, _ in asked)}
        cookies = [value for lower, _, value in theirs if lower == "cookie"] + ([cookie] if cookie else [])
        return (
            *(field for field in ours if field[0].lower() not in given),
            *asked,
            *((name, value) for lower, name, value in theirs if lower not in taken),
            *([("Cookie", "; ".join(cookies))] if cookies else []),
        )


def _asked(held: Held | None, condition: Headers) -> Headers:
    """Return the fields for a whole body, for the rest of one, or for either if it is not the one that is kept.

    Only what can be undone is asked for. The rest of a body is the rest of its bytes as they are, so no coding then.
    """
    if held is None:
        return (*_ALL, *condition) if condition else _ALL
    return (("Accept-Encoding", "identity"), *held.fields, *condition)


def _basic(userinfo: str) -> str:
    """RFC 7617; the user's name and password are percent-encoded in the URL."""
    return "Basic " + b64encode(unquote_to_bytes(userinfo)).decode("ascii")


@dataclass(slots=True)
class _Progress:
    """What is known of an attempt so far, so that a failed one can still tell it."""

    head: Head | None = None
    redirects: tuple[Redirect, ...] = ()
    resumed_from: int | None = None
    retry_after: float | None = None
    timings: Timings | None = None
    warnings: tuple[str, ...] = ()


class Fetch:
    """Makes attempts; holds what they share and nothing about any of them."""

    def __init__(self, transport: Transport, sink: Sink, identity: Identity, limits: Limits, clock: Clock) -> None:
        self._transport = transport
        self._sink = sink
        self._identity = identity
        self._limits = limits
        self._speed = TokenBucket(limits.max_speed) if limits.max_speed is not None else None
        self._clock = clock

    async def attempt(self, transfer: Transfer, number: int, total: float | None, observe: Observer) -> Attempt:
        """Try once, within ``total`` seconds, and say what came of it; raises only CancelledError.

        ``transfer`` counts the bytes as they arrive. An error of this program becomes the kind ``internal``.
        """
        progress = _Progress()
        stored: Stored | None = None
        error: Error | None = None
        started = self._clock.monotonic()
        try:
            if total is None:
                stored = await self._get(transfer, progress, observe)
            else:
                async with asyncio.timeout(total):
                    stored = await self._get(transfer, progress, observe)
        except TimeoutError:
            limit = seconds_text(total or 0.0)
            error = Error.of(ErrorKind.TIMEOUT_TOTAL, f"not done within {limit}, {size_text(transfer.received)} came")
        except FetchError as failure:
            error = failure.error
        except Exception as bug:  # noqa: BLE001  the one place: a bug costs one URL, and is reported
            observe(Trouble(transfer.request, traceback.format_exc()))
            error = Error.of(ErrorKind.INTERNAL, f"bug: {type(bug).__name__} {bug}")
        ended = self._clock.monotonic()
        return Attempt(
            number=number,
            started=started,
            ended=ended,
            head=progress.head,
            stored=stored,
            error=error,
            redirects=progress.redirects,
            wire_bytes=transfer.received,
            resumed_from=progress.resumed_from,
            retry_after=progress.retry_after,
            timings=progress.timings if stored is None else _complete(progress.timings, ended - started),
            warnings=progress.warnings,
        )

    async def _get(self, transfer: Transfer, progress: _Progress, observe: Observer) -> Stored:
        """Follow redirects to a response that is no redirect, and store its body, or the rest of what is held of it.

        What is kept is compared at the URL that it came from, wherever else redirects lead now.
        """
        request = transfer.request
        url, own_origin, cookies = request.target, True, Cookies()
        held, kept = await self._sink.held(request), request.kept
        while True:
            condition = kept.condition if kept is not None and kept.head.url == url else ()
            asked = _asked(held, condition)
            fields = self._identity.fields(request, own_origin=own_origin, cookie=cookies.field(url), asked=asked)
            async with self._transport.send(Hop(url, fields)) as response:
                answer = _Answer(response, url)
                progress.head, progress.timings = answer.head, response.timings()
                if response.status == _NOT_MODIFIED and condition and kept is not None:
                    return await self._keep(kept, answer, transfer, progress, held)
                if response.status not in REDIRECTS:
                    if held is None or response.status not in (206, 416) or answer.rest_of(held) is not None:
                        return await self._take(answer, held, transfer, progress)
                    held = None  # it does not go on from there: the same again, from the start
                    await _drain(response)
                    continue
                following = next_hop(url, response.status, answer.fields.get("location"))
                observe(Redirected(request, response.status, following.target))
                progress.redirects += (Redirect(response.status, url),)
                if len(progress.redirects) > self._limits.max_redirects:
                    most = self._limits.max_redirects
                    raise FetchError(ErrorKind.REDIRECT_LIMIT, f"{most} redirects, last to {following.target}")
                cookies.take(url, response.headers)
                await _drain(response)
            own_origin = own_origin and following.origin == parse(request.target).origin
            url = following.target

    async def _keep(
        self, kept: Kept, answer: "_Answer", transfer: Transfer, progress: _Progress, held: Held | None
    ) -> Stored:
        """Leave what is kept as it is. What is held of another version is of no use then."""
        progress.head = renewed(kept.head, answer.head)
        progress.retry_after = quota_reset(answer.fields, self._clock.now())
        await _drain(answer.response)
        if held is not None:
            await (await self._sink.open(transfer.request, answer.head, held)).abort()
        return kept.stored

    async def _take(self, answer: "_Answer", held: Held | None, transfer: Transfer, progress: _Progress) -> Stored:
        """Store the body of a final response; anything but a whole good one is a FetchError."""
        response = answer.response
        rest = answer.rest_of(held) if held is not None else None
        if rest is None:
            held = None
        if not 200 <= response.status < 300 or (response.status == 206 and held is None):
            progress.retry_after = _wish(answer, self._clock.now())
            await _drain(response)
            raise _bad_status(response)
        progress.retry_after = quota_reset(answer.fields, self._clock.now())
        if response.status == 204:
            return Stored(None, 0, None)
        start = held.size if held is not None else 0
        applied = answer.codings
        max_size, length = self._limits.max_size, response.length if rest is None else rest
        if not applied and length is not None and max_size is not None and start + length > max_size:
            announced = size_text(start + length)
            raise FetchError(ErrorKind.TOO_LARGE, f"{announced} announced, --max-size is {size_text(max_size)}")
        transfer.total = length
        progress.resumed_from = start or None
        between: Decoding | Rest | None = None
        if rest is not None:
            between = Rest(rest)
        elif applied or max_size is not None:
            between = Decoding(applied, max_size=max_size)
        writer = await self._sink.open(transfer.request, answer.head, held)
        stored = await self._pour(transfer, response, between, writer)
        progress.warnings += response.doubts()
        return stored

    async def _pour(
        self, transfer: Transfer, response: Response, between: Decoding | Rest | None, writer: Writer
    ) -> Stored:
        """Give the writer the whole body. Of one that was cut short, what can be gone on with is held."""
        try:
            while chunk := await response.read():
                transfer.received += len(chunk)
                transfer.last_byte = self._clock.monotonic()
                if self._speed is not None:
                    await self._slow_down(self._speed, len(chunk), transfer.last_byte)
                if between is None:
                    await writer.write(chunk)
                else:
                    for piece in between.feed(chunk):
                        await writer.write(piece)
            if between is not None:
                between.close()
            return await writer.commit()
        except BaseException as error:
            cut_short = isinstance(error, asyncio.CancelledError)
            if isinstance(error, FetchError):
                cut_short = is_transient(error.kind)
            await (writer.hold() if cut_short else writer.abort())
            raise

    async def _slow_down(self, speed: TokenBucket, received: int, now: float) -> None:
        """Wait until so many bytes were not too many; what is not read meanwhile waits in the network."""
        speed.take(now, received)
        wait = speed.ready_at(now) - now
        if wait > 0:
            await self._clock.sleep(wait)


class _Answer:
    """A response and what its header fields say; of repeated fields, ``fields`` has the first."""

    __slots__ = ("fields", "head", "response")

    def __init__(self, response: Response, url: str) -> None:
        self.response = response
        self.fields = dict(reversed(response.headers))
        self.head = _head(response, self.fields, url)

    @property
    def codings(self) -> tuple[str, ...]:
        """The content codings of the body, in the order they were applied; raises FetchError for unknown ones."""
        if "content-encoding" not in self.fields:
            return ()
        return codings(value for name, value in self.response.headers if name == "content-encoding")

    def rest_of(self, held: Held) -> int | None:
        """Return how many bytes it brings if it is the rest of what is held; None if it is anything else."""
        if self.response.status != 206 or "content-encoding" in self.fields:
            return None
        told = (self.fields.get(name) for name in ("content-range", "etag", "last-modified"))
        rest = remainder(held, *told)
        return rest if self.response.length in (None, rest) else None


def _wish(answer: _Answer, now: float) -> float | None:
    """Return the seconds that the origin of a failure asks to be left alone, now being seconds since 1970."""
    asked, quota = retry_after(answer.fields.get("retry-after"), now), quota_reset(answer.fields, now)
    return quota if not asked else max(asked, quota or 0.0)


async def _drain(response: Response) -> None:
    """Read a small body that nobody wants; how it ends changes nothing."""
    if response.status in _BODILESS or (response.length is not None and response.length <= _DRAINED):
        with suppress(FetchError, TimeoutError):
            async with asyncio.timeout(_DRAINING):
                while await response.read():
                    pass


def _bad_status(response: Response) -> FetchError:
    status, said = response.status, f"{response.status:03} {response.reason}".strip()
    if 400 <= status < 600:
        return FetchError(http_kind(status), said)
    if status == 206:
        return FetchError(ErrorKind.TRUNCATED, f"{said}: a part, where the whole was asked for")
    if 300 <= status < 400:
        return FetchError(ErrorKind.REDIRECT_INVALID, f"{said} leads nowhere")
    return FetchError(ErrorKind.PROTOCOL, f"{said} is no answer to a GET")


def _head(response: Response, found: Mapping[str, str], url: str) -> Head:
    media_type, _, parameters = found.get("content-type", "").partition(";")
    return Head(
        status=response.status,
        url=url,
        http_version=response.http_version,
        remote_ip=response.remote_ip,
        content_type=media_type.strip().lower() or None,
        charset=_charset(parameters),
        etag=found.get("etag"),
        last_modified=found.get("last-modified"),
        # Bytes that were decoded on their way cannot be gone on with.
        validator=None
        if "content-encoding" in found
        else strong_validator(found.get("etag"), found.get("last-modified"), found.get("date")),
    )


def _charset(parameters: str) -> str | None:
    """RFC 9110 section 8.3.2; quoted or not."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower() or None
    return None


def _complete(timings: Timings | None, elapsed: float) -> Timings | None:
    """Add the phase that ends with the body: what the others leave of the attempt's time."""
    if timings is None:
        return None
    before = (timings.blocked, timings.dns, timings.connect, timings.tls, timings.send, timings.wait)
    receive = elapsed - sum(phase or 0.0 for phase in before)
    return Timings(*before, round(max(0.0, receive), 6))
