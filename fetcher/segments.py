"""L3: a long body whose parts arrive side by side, read in order.

    own response --until the next part comes from elsewhere--> closed
                                                                 |
    slots that are free --borrowed--> a request for one part ----+--> read()

Whoever reads gets the bytes in order, so that all behind it is as with one stream. The response that was there first
goes on for as long as nobody else brings what is behind it: from a server that sends no parts, all of it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, Self

from fetcher.body import Rest
from fetcher.division import Division
from fetcher.errors import FetchError
from fetcher.model import Attempt, Request
from fetcher.transport.base import Response


class Slots(Protocol):
    """Whoever knows how much may be under way at once: lends what nothing else wants."""

    async def borrow(self, host: str) -> bool:
        """Take a slot for one more request to a host, if there is one to spare; does not wait."""
        ...

    def give_back(self, host: str) -> None:
        """Return it."""
        ...

    def refused(self, request: Request, attempt: Attempt) -> None:
        """Learn how a server has refused a request that was made on a borrowed slot."""
        ...


#: Asks for the bytes from one offset to another; raises FetchError unless these are what comes.
Ask = Callable[[int, int], AbstractAsyncContextManager[Response]]


@dataclass(slots=True)
class _Part:
    """Bytes on their way; ``here`` once its response says that it brings them. ``spent`` is its share of the room."""

    number: int
    begin: int
    end: int
    spent: bool
    here: bool = False
    chunks: deque[bytes] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Supply:
    """What parts are got with: ``most`` streams at once, on ``slots`` for ``host``, in ``room`` for parts in memory."""

    ask: Ask
    slots: Slots
    host: str
    most: int
    room: asyncio.Semaphore


class Segments:
    """The bytes of a divided body, all of which ``own`` would send; an async context manager.

    One request always runs on the slot of the body's own, which ``own`` has at first.
    """

    def __init__(self, own: Response, division: Division, supply: Supply) -> None:
        self._own: Response | None = own
        self._left = b""  # what it has sent behind the end of the part that is read
        self._reading = -1  # the part that it sends
        self._at = division.start
        self._came = 0
        self._division = division
        self._supply = supply
        self._most = supply.most
        self._parts: dict[int, _Part] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._lent = 0
        self._own_busy = False
        self._failure: BaseException | None = None
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for part in self._parts.values():
            self._forget(part)

    @property
    def unread(self) -> int:
        """How many bytes have come that nobody has read."""
        return self._came - (self._at - self._division.start)

    async def read(self) -> bytes:
        """Return the next bytes of the body; none once it is whole. Raises FetchError as a response does."""
        while self._at < self._division.size:
            number = self._division.number(self._at)
            if self._own is not None and (self._reading == number or self._division.claim(number)):
                self._reading = number
                await self._recruit(number)
                return await self._read_own(self._own)
            await self._recruit(number)
            self._changed.clear()
            part = self._parts.get(number)
            if part is not None and part.here and self._own is not None:
                self._own.close()
                self._own, self._left = None, b""
                continue
            if part is not None and part.chunks:
                return self._read_part(part)
            if self._failure is not None:
                raise self._failure
            await self._changed.wait()
        return b"" if self._own is None else self._left or await self._receive(self._own)

    async def _receive(self, response: Response) -> bytes:
        chunk = await response.read()
        self._came += len(chunk)
        return chunk

    async def _read_own(self, own: Response) -> bytes:
        chunk = self._left or await self._receive(own)
        most = self._division.bounds(self._reading)[1] - self._at
        self._left = chunk[most:]
        if self._left:
            chunk = chunk[:most]
        self._at += len(chunk)
        return chunk

    def _read_part(self, part: _Part) -> bytes:
        chunk = part.chunks.popleft()
        self._at += len(chunk)
        if self._at == part.end:
            del self._parts[part.number]
            self._forget(part)
        return chunk

    def _forget(self, part: _Part) -> None:
        if part.spent:
            self._supply.room.release()

    async def _recruit(self, reading: int) -> None:
        """Ask for more parts, as many as there are slots and there is room for; for the one that is read in any case."""
        supply = self._supply
        while self._own_busy + (self._own is not None) + self._lent < self._most:
            number = self._division.next(reading)
            spent = number != reading
            if number is None or (spent and supply.room.locked()):
                return
            lent = self._own is not None or self._own_busy
            if lent and not await supply.slots.borrow(supply.host):
                return
            if spent:
                await supply.room.acquire()
            self._division.claim(number)
            begin, end = self._division.bounds(number)
            part = self._parts[number] = _Part(number, max(begin, self._at), end, spent)
            self._start(part, lent=lent)

    def _start(self, part: _Part, *, lent: bool) -> None:
        if lent:
            self._lent += 1
        else:
            self._own_busy = True
        task = asyncio.create_task(self._bring(part))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, part, lent))

    async def _bring(self, part: _Part) -> None:
        rest = Rest(part.end - part.begin)
        async with self._supply.ask(part.begin, part.end) as response:
            part.here = True
            self._changed.set()
            while chunk := await self._receive(response):
                part.chunks.extend(rest.feed(chunk))
                self._changed.set()
            rest.close()

    def _ended(self, part: _Part, lent: bool, task: asyncio.Task[None]) -> None:
        """Return the slot; a part that did not come can be asked for again, by fewer if it was one too many."""
        self._tasks.discard(task)
        if lent:
            self._lent -= 1
            self._supply.slots.give_back(self._supply.host)
        else:
            self._own_busy = False
        self._changed.set()
        failure = None if task.cancelled() else task.exception()
        if failure is None or part.number not in self._parts:  # what came behind its end does not matter
            return
        self._forget(self._parts.pop(part.number))
        self._division.give_back(part.number)
        if lent and isinstance(failure, FetchError):
            self._most -= 1
        else:
            self._failure = failure
