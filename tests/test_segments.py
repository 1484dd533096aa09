"""One body over several requests at once: whole and in order, whatever becomes of its parts, and no more than is lent."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from random import Random
from typing import Final, Self

import pytest

from fetcher import division, fetch
from fetcher.errors import ErrorKind, FetchError
from fetcher.events import Transfer
from fetcher.fetch import Fetch
from fetcher.identity import Identity
from fetcher.model import Attempt, Headers, Request
from fetcher.options import Limits
from fetcher.transport.base import Hop
from tests.command import Command
from tests.fakes import Answer, Clock, Response, Sink, simulated
from tests.server import Scope

URL: Final = "http://h/big"
PART: Final = 40_000
LEAST: Final = 4 * PART
BODY: Final = Random(7).randbytes(6 * PART + 123)
CHUNK: Final = 3_000
VERSION: Final = ("etag", '"v1"')
RANGES: Final = ("accept-ranges", "bytes")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let parts be short, to save time."""
    monkeypatch.setattr(fetch, "PART", PART)
    monkeypatch.setattr(fetch, "LEAST", LEAST)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its number, from 0, and the range that it asks for, if it does."""

    number: int
    hop: Hop
    begin: int = 0
    end: int = len(BODY)
    part: bool = False


def answer_to(asked: Asked, version: str = '"v1"', body: bytes = BODY) -> Answer:
    """Return what a server that knows ranges says, at 10 ms a piece."""
    pieces = tuple(body[at : min(at + CHUNK, asked.end)] for at in range(asked.begin, asked.end, CHUNK))
    headers: Headers = (("etag", version), RANGES)
    if asked.part:
        headers += (("content-range", f"bytes {asked.begin}-{asked.end - 1}/{len(body)}"),)
    return Answer(pieces, 206 if asked.part else 200, headers, gap=0.01, length=asked.end - asked.begin)


Server = Callable[[Asked], Answer]


@dataclass
class Ranges:
    """A transport to a server that answers as ``server`` says; ``open`` are the responses that are being read now, ``sent`` all bytes of bodies."""

    server: Server
    asked: list[Asked] = field(default_factory=list)
    peak: int = 0
    open: set["_Closing"] = field(default_factory=set)
    sent: int = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    @asynccontextmanager
    async def send(self, hop: Hop) -> AsyncIterator[Response]:
        """Answer one request."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", dict(hop.headers).get("Range", ""))
        asked = Asked(len(self.asked), hop)
        if match is not None:
            begin, last = match.groups()
            asked = Asked(len(self.asked), hop, int(begin), int(last) + 1 if last else len(BODY), part=True)
        self.asked.append(asked)
        answer = self.server(asked)
        response = _Closing(answer, self)
        self.open.add(response)
        self.peak = max(self.peak, len(self.open))
        try:
            await asyncio.sleep(answer.delay)
            if answer.error is not None:
                raise answer.error
            yield response
        finally:
            self.open.discard(response)


class _Closing(Response):
    def __init__(self, answer: Answer, ranges: Ranges) -> None:
        super().__init__(answer)
        self._ranges = ranges

    async def read(self) -> bytes:
        chunk = await super().read()
        self._ranges.sent += len(chunk)
        return chunk

    def close(self) -> None:
        super().close()
        self._ranges.open.discard(self)


@dataclass
class Lent:
    """Slots of which ``free`` are there to be lent."""

    free: int
    refusals: list[Attempt] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    async def borrow(self, host: str) -> bool:
        """Lend one, if there is one."""
        self.hosts.add(host)
        if not self.free:
            return False
        self.free -= 1
        return True

    def give_back(self, host: str) -> None:
        """Take one back."""
        assert host in self.hosts
        self.free += 1

    def refused(self, request: Request, attempt: Attempt) -> None:
        """Note a refusal."""
        assert request.url == URL
        self.refusals.append(attempt)


@dataclass
class Tried:
    """One attempt and all that can be seen of it."""

    attempt: Attempt
    transport: Ranges
    slots: Lent
    sink: Sink

    @property
    def parts(self) -> list[Asked]:
        """The requests for parts."""
        return [asked for asked in self.transport.asked if asked.part]

    @property
    def whole(self) -> bool:
        """Whether the body was stored as it is."""
        assert self.attempt.stored is None or self.attempt.stored.sha256 == sha256(BODY).hexdigest()
        return self.attempt.stored is not None


def tried(server: Server, free: int = 3, segments: int = 4, *, wire: bool = False) -> Tried:
    """Make one attempt, which must leave nothing behind."""

    async def main() -> Tried:
        transport, slots, sink = Ranges(server), Lent(free), Sink(wants_wire=wire)
        maker = Fetch(transport, sink, Identity("test"), Limits(segments=segments), Clock()).on(slots)
        request = Request(index=0, url=URL, target=URL, host="h", source="list", line=1)
        attempt = await maker.attempt(Transfer(request, 0.0), 1, None, lambda _: None)
        assert slots.free == free
        assert not transport.open
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert maker._room._value == 24  # all that parts took in memory has been returned
        assert transport.peak <= min(segments, free + 1)
        assert attempt.wire_bytes == transport.sent or slots.refusals  # which have bodies of their own
        return Tried(attempt, transport, slots, sink)

    return simulated(main())


def test_parts() -> None:
    """The body is asked for once, then in parts of one version, as it is, side by side, each once."""
    got = tried(answer_to)
    assert got.whole
    assert got.attempt.head == got.sink.heads[0]
    assert got.attempt.head is not None
    assert got.attempt.head.status == 200
    first, *parts = got.transport.asked
    assert not first.part
    assert [asked.begin for asked in parts] == [number * PART for number in range(1, 7)]
    assert [asked.end for asked in parts] == [*(number * PART for number in range(2, 7)), len(BODY)]
    for asked in parts:
        fields = dict(asked.hop.headers)
        assert (fields["If-Range"], fields["Accept-Encoding"], fields["User-Agent"]) == ('"v1"', "identity", "test")
    assert got.transport.peak == 4
    assert got.slots.hosts == {"h"}


@pytest.mark.parametrize("free", [0, 1, 2, 15])
@pytest.mark.parametrize("segments", [1, 2, 4, 16])
def test_no_more_than_is_lent(free: int, segments: int) -> None:
    """One stream, and as many others as there are slots, up to the limit; without any the one that is there goes on."""
    got = tried(answer_to, free, segments)
    assert got.whole
    assert got.transport.peak == min(segments, free + 1, 7)
    assert len(got.parts) == (6 if got.transport.peak > 1 else 0)


def test_what_is_not_divided() -> None:
    """Short bodies, those of servers that tell no version or no ranges, coded ones, and those that are kept as sent."""
    for headers in ((VERSION,), (RANGES,), (RANGES, ("etag", 'W/"v1"')), ((RANGES[0], "none"), VERSION)):
        got = tried(lambda asked, headers=headers: replace(answer_to(asked), headers=headers))  # type: ignore[misc]
        assert got.whole
        assert not got.parts
    short = Answer((b"x" * (LEAST - 1),), headers=(VERSION, RANGES), length=LEAST - 1)
    assert not tried(lambda _: short).parts
    assert not tried(lambda _: replace(short, length=None)).parts
    assert not tried(answer_to, wire=True).parts
    coded = (VERSION, RANGES, ("content-encoding", "gzip"))
    assert not tried(lambda asked: replace(answer_to(asked), headers=coded)).parts


def lies(asked: Asked) -> dict[str, Answer]:
    """Return what is not the part that was asked for."""
    good = answer_to(asked)
    told = f"bytes {asked.begin}-{asked.end - 1}/{len(BODY)}"

    def saying(content_range: str, *more: tuple[str, str]) -> Answer:
        return replace(good, headers=(*(more or (VERSION,)), ("content-range", content_range)))

    return {
        "the whole": answer_to(replace(asked, part=False, begin=0, end=len(BODY))),
        "another version": saying(told, ("etag", '"v2"')),
        "a weak one": saying(told, ("etag", 'W/"v1"')),
        "no version": saying(told, RANGES),
        "another part": saying(f"bytes {asked.begin + 1}-{asked.end}/{len(BODY)}"),
        "less of it": saying(f"bytes {asked.begin}-{asked.end - 2}/{len(BODY)}"),
        "of another size": saying(f"bytes {asked.begin}-{asked.end - 1}/{len(BODY) + 1}"),
        "of unknown size": saying(f"bytes {asked.begin}-{asked.end - 1}/*"),
        "coded": saying(told, VERSION, ("content-encoding", "gzip")),
        "no such range": Answer(status=416, body=(), length=0),
        "not now": Answer(status=503, body=(), length=0, headers=(("retry-after", "7"),)),
        "too many": Answer(status=429, body=(), length=0),
        "elsewhere": Answer(status=302, body=(), length=0, headers=(("location", "/x"),)),
        "silence": Answer(delay=30.0, error=FetchError(ErrorKind.TIMEOUT_READ, "silent")),
        "no connection": Answer(error=FetchError(ErrorKind.CONNECT_REFUSED, "refused")),
    }


LIES: Final = tuple(lies(Asked(1, Hop("", ()), 0, PART, part=True)))


@pytest.mark.parametrize("lie", LIES)
def test_lies(lie: str) -> None:
    """From a server that gives no parts, or others, the first response brings all; each slot is tried once."""
    got = tried(lambda asked: lies(asked)[lie] if asked.part else answer_to(asked))
    assert got.whole
    assert len(got.parts) == 3
    answered = lie not in ("silence", "no connection")
    assert len(got.slots.refusals) == (3 if answered else 0)
    if lie == "not now":
        assert [each.retry_after for each in got.slots.refusals] == [7.0] * 3
        assert got.slots.refusals[0].error is not None
        assert got.slots.refusals[0].error.kind == "http.503"


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("good", [1, 2, 4])
def test_lies_later(lie: str, good: int) -> None:
    """What comes of a server that gives parts first and then no more is a failure that passes, or the whole body."""
    got = tried(lambda asked: lies(asked)[lie] if asked.number > good else answer_to(asked))
    error = got.attempt.error
    if error is None:
        assert got.whole
    else:
        kinds = {"truncated", "http.416", "http.503", "http.429", "timeout.read", "connect.refused"}
        assert error.kind in kinds
        assert not got.sink.bodies


@pytest.mark.parametrize("number", range(1, 7))
@pytest.mark.parametrize("body", ["cut", "short", "long", "late"])
def test_a_part_that_breaks(number: int, body: str) -> None:
    """A part that does not come whole is asked for again, from where it was read to; nothing is joined wrongly."""

    def server(asked: Asked) -> Answer:
        answer = answer_to(asked)
        if asked.number != number:
            return answer
        cut = FetchError(ErrorKind.TRUNCATED, "cut")
        return {
            "cut": replace(answer, body=answer.body[:5], cut=cut),
            "short": replace(answer, body=answer.body[:-1]),
            "long": replace(answer, body=(*answer.body, b"more")),
            "late": replace(answer, body=answer.body[:2], gap=3.0, cut=cut),
        }[body]

    got = tried(server)
    if got.attempt.error is None:
        assert got.whole
        assert len(got.parts) in (6, 7)  # the first response may bring it too
    else:  # it was the one on the body's own slot
        assert got.attempt.error.kind == ("protocol" if body == "long" else "truncated")
        assert not got.sink.bodies


def test_slow_parts() -> None:
    """However unequal the streams are, the bytes come in order, and memory has room for those that wait."""
    got = tried(lambda asked: replace(answer_to(asked), gap=(0.001, 0.5, 0.02, 0.1)[asked.number % 4]), 15, 16)
    assert got.whole


def test_stopped_amid() -> None:
    """A cancelled attempt takes its parts with it, and returns every slot."""

    async def main() -> None:
        transport, slots = Ranges(answer_to), Lent(3)
        maker = Fetch(transport, Sink(), Identity("test"), Limits(segments=4), Clock()).on(slots)
        request = Request(index=0, url=URL, target=URL, host="h", source="list", line=1)
        for seconds in (0.0, 0.005, 0.015, 0.05, 0.1):
            attempt = asyncio.create_task(maker.attempt(Transfer(request, 0.0), 1, None, lambda _: None))
            await asyncio.sleep(seconds)
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempt
            assert slots.free == 3
            assert not transport.open
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert maker._room._value == 24

    simulated(main())


@pytest.mark.parametrize("transport", ["session", "curl"])
def test_command(run_fetcher: Command, server: Scope, tmp_path: object, transport: str) -> None:
    """The command asks a real server so: one file, one record, no more at once than --per-host."""
    size = division.LEAST + 3 * division.PART + 1
    url = server.url("a", size=size, range=True, drip="64,0.01")
    arguments = ("--segments", "4", "--per-host", "3", "--transport", transport, "-o", f"{tmp_path}/out")
    [record] = run_fetcher("get", url, *arguments).records
    assert (record["ok"], record["status"], record["bytes"]) == (True, 200, size)
    assert size <= record["wire_bytes"] < size + 2**20  # the first response may bring a little of what others do
    assert record["sha256"] == sha256(server.body_of("a", size)).hexdigest()
    asked = [request.header("range") for request in server.requests("a")]
    assert asked[0] is None
    assert len(asked) == len(set(asked)) == 1 + 7
    assert 2 <= server.active_peak("a") <= 3


@pytest.mark.parametrize("limit", [("--host-rate", "5"), ("--rate", "5"), ("--max-speed", "1G"), ("-c", "1")])
def test_one_stream(run_fetcher: Command, server: Scope, tmp_path: object, limit: tuple[str, str]) -> None:
    """Slots are lent while nothing else wants them; a limit that parts would break leaves one stream."""
    size = division.LEAST + 3 * division.PART + 1
    url = server.url("a", size=size, range=True)
    [record] = run_fetcher("get", url, "--segments", "8", *limit, "-o", f"{tmp_path}/out").records
    assert record["ok"]
    assert len(server.requests("a")) == 1
