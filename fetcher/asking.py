"""L3: an origin's robots.txt, fetched as anything else is, but kept in memory and no longer than it is heeded."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from fetcher.conditional import Held
from fetcher.errors import ErrorKind, FetchError
from fetcher.events import Observer, Transfer
from fetcher.fetch import Fetch
from fetcher.model import Attempt, Head, Request, Stored
from fetcher.options import Limits
from fetcher.robots import MOST_HEEDED, MOST_HOPS, Gate, Ruling, learned
from fetcher.urls import parse

#: Longer files are parsed on a thread, in bytes.
_LONG: Final = 32 * 1024


class _Page:
    def __init__(self, body: bytearray, most: int) -> None:
        self._body = body
        self._most = most

    async def write(self, chunk: bytes) -> None:
        self._body += chunk
        if len(self._body) > self._most:
            del self._body[self._most :]
            raise FetchError(ErrorKind.TOO_LARGE, f"only {self._most:,} bytes of it are heeded")

    async def commit(self) -> Stored:
        return Stored(None, len(self._body), None)

    async def abort(self) -> None:
        pass

    async def hold(self) -> None:
        pass


class Pages:
    """A sink for one body, kept in memory; one of more than ``most`` bytes ends there, with ``too_large``."""

    wants_wire: Final = False

    def __init__(self, most: int) -> None:
        self.body = bytearray()
        self._most = most

    async def held(self, request: Request) -> None:
        """Return None: an attempt begins anew."""

    async def open(self, request: Request, head: Head, held: Held | None = None) -> _Page:  # noqa: ARG002
        """Prepare to take the body, instead of what came of an earlier attempt."""
        self.body.clear()
        return _Page(self.body, self._most)


class Asking:
    """Makes attempts at robots.txt files, as ``fetch`` makes others, and tells the gate what comes of the last."""

    def __init__(self, fetch: Fetch, limits: Limits, gate: Gate) -> None:
        self._fetch = fetch
        self._limits = replace(limits, max_size=None, max_redirects=MOST_HOPS)
        self.gate = gate
        #: With which errors attempts have failed, by origin, where there will be another one.
        self.failed: dict[str, tuple[str, ...]] = {}

    def know(self, rulings: Iterable[Ruling]) -> None:
        """Learn what others have heard."""
        for ruling in rulings:
            if ruling.rules is not None:
                self.gate.know(ruling.rules, ruling.until)
            else:
                self.failed[ruling.origin] = ruling.failed

    @property
    def rulings(self) -> list[Ruling]:
        """What others had better know."""
        return [*self.gate.rulings(), *(Ruling(origin, failed) for origin, failed in self.failed.items())]

    def release(self, asked: Request) -> list[Request]:
        """Return who has waited for what this request asked for, of which there will be no further attempt."""
        self.failed.pop(parse(asked.target).origin, None)
        return self.gate.release(asked)

    async def attempt(
        self, transfer: Transfer, number: int, total: float | None, observe: Observer
    ) -> tuple[Attempt, bytes]:
        """Try once, as :meth:`fetcher.fetch.Fetch.attempt` does; return what came, too."""
        pages = Pages(MOST_HEEDED)
        attempt = await self._fetch.aside(pages, self._limits).attempt(transfer, number, total, observe)
        return attempt, bytes(pages.body)

    async def learn(self, request: Request, last: Attempt, body: bytes) -> str:
        """Let the gate know what the last attempt says, and return it in words for people."""
        origin, token = parse(request.target).origin, self.gate.token
        if len(body) < _LONG:
            rules, parsed = learned(origin, last.error, body, token)
        else:
            rules, parsed = await asyncio.to_thread(learned, origin, last.error, body, token)
        return self.gate.learn(rules, parsed, last.ended)
