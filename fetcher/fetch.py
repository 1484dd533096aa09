"""L3: one attempt at one request: transport, redirects, body, sink."""

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Self

from fetcher.answer import Answer
from fetcher.body import Decoding, Rest, Undecoded
from fetcher.clock import Clock
from fetcher.conditional import Held, Part, renewed
from fetcher.cookies import Cookies
from fetcher.division import LEAST, PART, Division
from fetcher.errors import Error, ErrorKind, FetchError, is_transient
from fetcher.events import Observer, Redirected, Transfer, Trouble
from fetcher.exchange import Exchange
from fetcher.identity import Identity, Step, asked_for
from fetcher.limits import TokenBucket
from fetcher.model import Attempt, Head, Kept, Redirect, Request, Stored, Timings
from fetcher.options import Limits
from fetcher.redirects import REDIRECTS, next_hop
from fetcher.retry import quota_reset
from fetcher.robots import Gate, UnknownRules
from fetcher.segments import Segments, Slots, Supply
from fetcher.sinks.base import Sink, Writer, check_digest
from fetcher.text import seconds_text, size_text
from fetcher.transport.base import Hop, Response, Transport
from fetcher.urls import parse

if TYPE_CHECKING:
    from fetcher.visits import Visits

#: The body of an error or a redirect is read, so that its connection can be used again, if it is no longer than so
#: many bytes and comes within so many seconds.
_DRAINED: Final = 64 * 1024
_DRAINING: Final = 1.0

_NOT_MODIFIED: Final = 304
_UNAUTHORIZED: Final = 401
#: These have no body, whatever length they tell (RFC 9110 section 6.4.1).
_BODILESS: Final = frozenset({204, _NOT_MODIFIED})

_NO_VISIT: Final = nullcontext()

#: Parts of bodies that may wait in memory for those before them, and how many of one body's beyond those under way.
_ROOM: Final = 24
_AHEAD: Final = 4

#: What may stand between the network and the sink.
_Between = Decoding | Undecoded | Rest


@dataclass(slots=True)
class Progress:
    """What is known of an attempt so far, so that a failed one can still tell it, and one that was put off go on.

    ``step`` is what is asked for next, and ``spent`` how many seconds it took until it was put off.
    """

    step: Step
    cookies: Cookies
    spent: float = 0.0
    head: Head | None = None
    redirects: tuple[Redirect, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    resumed_from: int | None = None
    retry_after: float | None = None
    timings: Timings | None = None
    warnings: tuple[str, ...] = ()


class PutOff(Exception):  # noqa: N818  no error: it goes on with ``progress``
    """A redirect leads to an origin whose rules must be known before an attempt can go on."""

    def __init__(self, origin: str, progress: Progress) -> None:
        super().__init__(origin)
        self.origin = origin
        self.progress = progress


class Fetch:
    """Makes attempts; holds what they share and nothing about any of them."""

    def __init__(
        self,
        transport: Transport,
        sink: Sink,
        identity: Identity,
        limits: Limits,
        clock: Clock,
        gate: Gate | None = None,
    ) -> None:
        self.gate = gate
        self._slots: Slots | None = None
        self._room = asyncio.Semaphore(_ROOM)
        #: Who keeps count where redirects and mirrors lead, if that is counted.
        self.visits: Visits | None = None
        self._transport = transport
        self._sink = sink
        self._identity = identity
        self._limits = limits
        self._speed = TokenBucket(limits.max_speed) if limits.max_speed is not None else None
        self._clock = clock

    def aside(self, sink: Sink, limits: Limits) -> Self:
        """Return what makes attempts with all that this has, but for another place, and asks no gate before redirects."""
        other = copy(self)
        other.gate, other._slots, other._sink, other._limits = None, None, sink, limits  # noqa: SLF001  our own
        return other

    def on(self, slots: Slots) -> Self:
        """Return what makes attempts with all that this has, and fetches parts of bodies on such slots."""
        other = copy(self)
        other._slots = slots  # noqa: SLF001  our own
        return other

    async def attempt(
        self,
        transfer: Transfer,
        number: int,
        total: float | None,
        observe: Observer,
        progress: Progress | None = None,
    ) -> Attempt:
        """Try once, within ``total`` seconds, and say what came of it; raises only CancelledError and PutOff.

        ``transfer`` counts the bytes as they arrive; with ``progress`` an attempt that was put off goes on. An error of
        this program becomes the kind ``internal``.
        """
        if progress is None:
            progress = Progress(Step(transfer.request.target), Cookies(self._identity.shelf, self._clock.now))
        stored: Stored | None = None
        error: Error | None = None
        started = self._clock.monotonic()
        try:
            if total is None:
                stored = await self._get(transfer, progress, observe)
            else:
                async with asyncio.timeout(total - progress.spent):
                    stored = await self._get(transfer, progress, observe)
        except UnknownRules as unknown:
            progress.spent += self._clock.monotonic() - started
            raise PutOff(unknown.origin, progress) from unknown
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

    async def _get(self, transfer: Transfer, progress: Progress, observe: Observer) -> Stored:
        """Follow redirects to a response that is no redirect, and store its body, or the rest of what is held of it.

        What is kept is compared at the URL that it came from, wherever else redirects lead now. What is held came from
        the URL of the list, so a mirror is asked for the whole.
        """
        request = transfer.request
        held, kept = None if request.primary is not None else await self._sink.held(request), request.kept
        while True:
            step = progress.step
            url = step.url
            if progress.redirects and self.gate is not None:
                self.gate.check(parse(url), self._clock.monotonic())
            condition = kept.condition if kept is not None and kept.head.url == url else ()
            asked, cookie = asked_for(held, condition), progress.cookies.field(url)
            fields = self._identity.fields(request, step, cookie=cookie, asked=asked)
            hop = Hop(url, fields, step.own_origin)
            async with self._visit(request, url), self._transport.send(hop) as response:
                answer = Answer(response, url)
                progress.head, progress.timings = answer.head, response.timings()
                if self._sink.wants_wire:
                    progress.exchanges += (answer.exchange(fields),)
                if response.status == _NOT_MODIFIED and condition and kept is not None:
                    return await self._keep(kept, answer, transfer, progress, held)
                if response.status == _UNAUTHORIZED and self._is_new(step, request, response):
                    await _drain(response)
                    continue
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
                progress.cookies.take(url, response.headers)
                await _drain(response)
            own_origin = step.own_origin and following.origin == parse(request.target).origin
            progress.step = Step(following.target, own_origin)

    def _visit(self, request: Request, url: str) -> AbstractAsyncContextManager[None]:
        """Return what to have open while a URL is asked for."""
        if self.visits is not None and self.visits.are(request, host := parse(url).host):
            return self.visits.to(host)
        return _NO_VISIT

    def _is_new(self, step: Step, request: Request, response: Response) -> bool:
        """Take the challenge of a response, to be answered by the same request again; only the first one of a step."""
        if step.own_origin and step.challenge is None:
            step.challenge = self._identity.logins.challenge(request, step.url, response.headers)
            return step.challenge is not None
        return False

    async def _keep(
        self, kept: Kept, answer: Answer, transfer: Transfer, progress: Progress, held: Held | None
    ) -> Stored:
        """Leave what is kept as it is. What is held of another version is of no use then."""
        progress.head = renewed(kept.head, answer.head)
        progress.retry_after = quota_reset(answer.fields, self._clock.now())
        await _drain(answer.response)
        if held is not None:
            await (await self._open(transfer.request, answer.head, held)).abort()
        return kept.stored

    async def _take(self, answer: Answer, held: Held | None, transfer: Transfer, progress: Progress) -> Stored:
        """Store the body of a final response; anything but a whole good one is a FetchError."""
        response = answer.response
        rest = answer.rest_of(held) if held is not None else None
        if rest is None:
            held = None
        if not 200 <= response.status < 300 or (response.status == 206 and held is None):
            progress.retry_after = answer.wish(self._clock.now())
            await _drain(response)
            raise answer.failure()
        progress.retry_after = quota_reset(answer.fields, self._clock.now())
        if response.status == 204:
            check_digest(transfer.request, sha256().hexdigest())
            return Stored(None, 0, None)
        start = held.size if held is not None else 0
        applied = answer.codings
        max_size, length = self._most(transfer.request), response.length if rest is None else rest
        if not applied and length is not None and max_size is not None and start + length > max_size:
            announced = size_text(start + length)
            whose = "--max-size" if max_size == self._limits.max_size else "the list's max_size"
            raise FetchError(ErrorKind.TOO_LARGE, f"{announced} announced, {whose} is {size_text(max_size)}")
        transfer.total = length
        progress.resumed_from = start or None
        between: _Between | None = None
        if rest is not None:
            between = Rest(rest)
        elif self._sink.wants_wire:
            between = Undecoded(Decoding(applied, max_size=max_size), partial(check_digest, transfer.request))
        elif applied or max_size is not None:
            between = Decoding(applied, max_size=max_size)
        head = answer.head if not progress.exchanges else replace(answer.head, exchanges=progress.exchanges)
        writer = await self._open(transfer.request, head, held)
        visits, slots = self.visits, self._slots
        if visits is not None and visits.shared and visits.are(transfer.request, parse(answer.head.url).host):
            slots = None  # none of those who ask that host knows of these slots
        if slots is None or length is None or not self._divides(answer, held, length):
            stored = await self._pour(transfer, response, between, writer)
        else:
            division = Division(start, start + length, self._limits.segments + _AHEAD, PART)
            supply = self._supply(slots, transfer, progress, answer.head, division.size)
            segments = Segments(response, division, supply)
            try:
                async with segments:
                    stored = await self._pour(transfer, segments, between, writer)
            finally:
                transfer.received += segments.unread
        progress.warnings += response.doubts()
        return stored

    def _most(self, request: Request) -> int | None:
        """Return how large the body may be: the list can ask for less than the user allows."""
        ours, theirs = self._limits.max_size, None if request.details is None else request.details.max_size
        return ours if theirs is None else theirs if ours is None else min(ours, theirs)

    async def _open(self, request: Request, head: Head, held: Held | None) -> Writer:
        """Prepare to take a body; one of a mirror goes by the name of what it mirrors, and is not gone on with."""
        if request.primary is not None:
            request, head = request.primary, replace(head, validator=None)
        return await self._sink.open(request, head, held)

    def _divides(self, answer: Answer, held: Held | None, length: int) -> bool:
        """Tell whether parts of a body can be asked for, and are worth it: a speed is kept by reading slowly."""
        if length < LEAST or self._speed is not None or self._sink.wants_wire or answer.codings:
            return False
        return answer.divisible(held)

    def _supply(self, slots: Slots, transfer: Transfer, progress: Progress, head: Head, size: int) -> Supply:
        """Return what asks for parts of this body, where and as it was asked for."""

        @asynccontextmanager
        async def ask(begin: int, end: int) -> AsyncIterator[Response]:
            part, step = Part(begin, end, size, head.validator or ""), progress.step
            cookie, asked = progress.cookies.field(head.url), asked_for(part)
            fields = self._identity.fields(transfer.request, step, cookie=cookie, asked=asked)
            started = self._clock.monotonic()
            async with self._transport.send(Hop(head.url, fields, step.own_origin)) as response:
                answer = Answer(response, head.url)
                if not answer.brings(part):
                    failure = answer.failure() if response.status >= 400 else _no_part(response, part)
                    ended, wish = self._clock.monotonic(), answer.wish(self._clock.now())
                    refusal = Attempt(0, started, ended, answer.head, error=failure.error, retry_after=wish)
                    slots.refused(transfer.request, replace(refusal, redirects=progress.redirects))
                    await _drain(response)
                    raise failure
                yield response

        return Supply(ask, slots, parse(head.url).host, self._limits.segments, self._room)

    async def _pour(
        self, transfer: Transfer, response: Response | Segments, between: _Between | None, writer: Writer
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


async def _drain(response: Response) -> None:
    """Read a small body that nobody wants; how it ends changes nothing."""
    if response.status in _BODILESS or (response.length is not None and response.length <= _DRAINED):
        with suppress(FetchError, TimeoutError):
            async with asyncio.timeout(_DRAINING):
                while await response.read():
                    pass


def _no_part(response: Response, part: Part) -> FetchError:
    """Return what it means that the whole body came, or another part of it, or none."""
    asked = f"bytes {part.begin:,} to {part.end - 1:,}"
    return FetchError(ErrorKind.TRUNCATED, f"{response.status:03} in the place of {asked}, which were asked for")


def _complete(timings: Timings | None, elapsed: float) -> Timings | None:
    """Add the phase that ends with the body: what the others leave of the attempt's time."""
    if timings is None:
        return None
    before = (timings.blocked, timings.dns, timings.connect, timings.tls, timings.send, timings.wait)
    receive = elapsed - sum(phase or 0.0 for phase in before)
    return Timings(*before, round(max(0.0, receive), 6))
