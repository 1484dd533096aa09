"""Stand-ins for the outside, written by hand: time that costs none, servers, places and lists that do as told."""

import asyncio
import selectors
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Self, TypeVar

from fetcher.conditional import Held
from fetcher.errors import FetchError, LocalError
from fetcher.events import Settled
from fetcher.model import Head, Headers, Record, Request, Row, Stored, Timings
from fetcher.transport.base import Hop

_T = TypeVar("_T")

#: The wall clock's time when a simulation starts: 2023-11-14T22:13:20Z.
START: Final = 1_700_000_000.0


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: "_Loop") -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("everything waits, for nothing that will ever come")
        if not ready:
            self._loop.passed += timeout or 0.0
        return ready


class _Loop(asyncio.SelectorEventLoop):
    """Whenever nothing is ready, its clock jumps to the next timer; without a timer, that is a deadlock."""

    def __init__(self) -> None:
        self.passed = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.passed


def simulated(main: Coroutine[Any, Any, _T]) -> _T:
    """Run ``main`` in simulated time, which starts at 0 and passes only in timers; no threads may be waited for.

    Raises AssertionError at a deadlock.
    """
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


class Clock:
    """The loop's time; the dice always show ``dice``."""

    def __init__(self, dice: float = 0.0) -> None:
        self.dice = dice

    def now(self) -> float:
        return START + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def random(self) -> float:
        return self.dice

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server does with one request: ``delay`` seconds, then ``error``, or a head and a body.

    ``gap`` seconds pass before each piece of the body; ``cut`` is raised behind the last.
    """

    body: Sequence[bytes] = (b"body",)
    status: int = 200
    headers: Headers = ()
    delay: float = 0.0
    gap: float = 0.0
    error: FetchError | None = None
    cut: Exception | None = None
    length: int | None = None
    ends_with_connection: bool = False


#: An answer that does not come within a simulated day.
SILENCE: Final = Answer(delay=86_400.0)


class Response:
    """The response of an :class:`Answer`."""

    reason = ""
    http_version = "1.1"
    remote_ip = "192.0.2.1"

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._pieces = iter(answer.body)
        self.status = answer.status
        self.headers = answer.headers
        self.length = answer.length
        self.ends_with_connection = answer.ends_with_connection
        self._pieces = iter(answer.body)

    async def read(self) -> bytes:
        for piece in self._pieces:
            await asyncio.sleep(self._answer.gap)
            if piece:
                return piece
        if self._answer.cut is not None:
            raise self._answer.cut
        return b""

    def close(self) -> None:
        self._pieces = iter(())

    def doubts(self) -> tuple[str, ...]:
        return ("length_unknown",) if self.ends_with_connection else ()

    def timings(self) -> Timings | None:
        return None


Answers = Mapping[str, Sequence[Answer]]


class Transport:
    """Answers the n-th request for a URL with the n-th of its ``answers``, then with the last again, else ``default``.

    ``hops`` are all requests, ``sent`` counts them by URL; ``peak`` are the most at once, ``peak_of`` those for one URL.
    """

    def __init__(self, answers: Answers | None = None, default: Answer | None = None) -> None:
        self._answers = answers or {}
        self._default = default or Answer()
        self._active: Counter[str] = Counter()
        self.hops: list[Hop] = []
        self.sent: Counter[str] = Counter()
        self.peak = 0
        self.peak_of: dict[str, int] = defaultdict(int)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    @asynccontextmanager
    async def send(self, hop: Hop) -> AsyncIterator[Response]:
        answers = self._answers.get(hop.url, (self._default,))
        answer = answers[min(self.sent[hop.url], len(answers) - 1)]
        self.hops.append(hop)
        self.sent[hop.url] += 1
        self._active[hop.url] += 1
        self.peak = max(self.peak, self._active.total())
        self.peak_of[hop.url] = max(self.peak_of[hop.url], self._active[hop.url])
        try:
            await asyncio.sleep(answer.delay)
            if answer.error is not None:
                raise answer.error
            yield Response(answer)
        finally:
            self._active[hop.url] -= 1


class _Body:
    def __init__(self, sink: "Sink", request: Request) -> None:
        self._sink = sink
        self._request = request
        self._body = b""

    async def write(self, chunk: bytes) -> None:
        self._sink.trip("write")
        self._body += chunk

    async def commit(self) -> Stored:
        self._sink.trip("commit")
        self._sink.bodies[self._request.target] = self._body
        return Stored(f"file{self._request.index}", len(self._body), sha256(self._body).hexdigest())

    async def abort(self) -> None:
        self._sink.aborted.append(self._request.target)

    async def hold(self) -> None:
        await self.abort()


@dataclass(slots=True)
class Sink:
    """Keeps ``bodies`` by URL, notes those ``aborted``, holds nothing; at the step ``trap`` it raises ``error``."""

    trap: str = ""
    error: BaseException | None = None
    bodies: dict[str, bytes] = field(default_factory=dict)
    aborted: list[str] = field(default_factory=list)
    wants_wire: bool = False
    heads: list[Head] = field(default_factory=list)

    async def held(self, request: Request) -> None:
        return None

    async def open(self, request: Request, head: Head, held: Held | None = None) -> _Body:
        self.trip("open")
        self.heads.append(head)
        return _Body(self, request)

    def trip(self, step: str) -> None:
        """Raise the error if this is its step."""
        if step == self.trap and self.error is not None:
            raise self.error


class Source:
    """Rows of the given texts, from line 1; ``read`` is how many were taken, ``closed`` if reading was ended."""

    def __init__(self, texts: Iterable[str], *, name: str = "list", countable: bool = True) -> None:
        self._texts = texts
        self._countable = countable
        self.name = name
        self.read = 0
        self.closed = False

    async def rows(self) -> AsyncGenerator[Row, None]:
        try:
            for line, text in enumerate(self._texts, start=1):
                self.read += 1
                yield Row(self.name, line, text)
        finally:
            self.closed = True

    async def count(self) -> int | None:
        return sum(1 for _ in self._texts) if self._countable else None


class Writer:
    """Notes the ``batches`` it gets, each after ``gate`` has opened and ``delay`` seconds; the first raises ``error``."""

    def __init__(self, *, error: Exception | None = None, delay: float = 0.0, opened: bool = True) -> None:
        self.batches: list[Sequence[Settled]] = []
        self.gate = asyncio.Event()
        if opened:
            self.gate.set()
        self._error = error
        self._delay = delay

    async def write(self, batch: Sequence[Settled]) -> None:
        await self.gate.wait()
        await asyncio.sleep(self._delay)
        if self._error is not None:
            raise self._error
        self.batches.append(batch)

    @property
    def settled(self) -> list[Settled]:
        """All that was written, in order."""
        return [settled for batch in self.batches for settled in batch]

    @property
    def records(self) -> list[Record]:
        """The records of all that was written, in order."""
        return [settled.record for settled in self.settled]


class Memory(Writer):
    """A journal without a file: what was stored before, and what this run stores; looking it up takes a turn.

    ``refusal`` is what it says to what is to be fetched again.
    """

    def __init__(self, stored: Mapping[str, Record] | None = None, refusal: LocalError | None = None) -> None:
        super().__init__()
        self._refusal = refusal
        self._stored = dict(stored or {})
        self.begun: list[str] = []

    async def write(self, batch: Sequence[Settled]) -> None:
        await super().write(batch)
        self._stored |= {each.key: each.record for each in batch if each.key is not None and each.record.ok}

    def knows(self, key: str) -> bool:
        return key in self._stored

    async def find(self, keys: Sequence[str]) -> list[Record | None]:
        await asyncio.sleep(0)
        return [self._stored.get(key) for key in keys]

    async def begin(self, keys: Sequence[str]) -> None:
        if self._refusal is not None:
            raise self._refusal
        self.begun += keys


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait, in turns of the loop, until ``condition`` holds; TimeoutError after so many seconds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  what is waited for happens outside, too
            await asyncio.sleep(0.001)
