"""L3: lists that are somewhere else, fetched by the rules for all URLs, but kept in memory until they are read."""

import asyncio
from typing import Final, Self

from fetcher.asking import Pages
from fetcher.engines.base import Engine
from fetcher.errors import Error
from fetcher.events import Settled
from fetcher.model import Request, Stop
from fetcher.origins import Hold

#: No sitemap is longer, in bytes (sitemaps.org), packed or not.
MOST: Final = 50 * 1024 * 1024


class Downloads:
    """The customer of an engine that puts bodies into ``pages``, one after another; an async context manager."""

    def __init__(self, engine: Engine, pages: Pages) -> None:
        self._engine = engine
        self._pages = pages
        self._work: asyncio.Task[None] | None = None
        self._coming: asyncio.Future[Error | None] | None = None

    async def __aenter__(self) -> Self:
        self._work = asyncio.create_task(self._engine.run(self))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    async def get(self, request: Request) -> bytes | Error:
        """Return a body, or why there is none: it has failed as a URL of a list does."""
        if self._work is None:
            raise RuntimeError("it is not open")
        coming = self._coming = asyncio.get_running_loop().create_future()
        self._pages.body.clear()
        self._engine.add(request)
        await asyncio.wait((coming, self._work), return_when=asyncio.FIRST_COMPLETED)
        if self._work.done():
            self._work.result()
        error = coming.result()
        return bytes(self._pages.body) if error is None else error

    async def settle(self, settled: Settled) -> None:
        """Take what the request ends with."""
        if self._coming is not None:
            self._coming.set_result(settled.record.error)

    def started(self, request: Request) -> None:
        """Nothing."""

    def held(self, host: str, hold: Hold) -> None:
        """Nothing: the engine itself leaves the host alone."""

    def give_up(self, reason: Stop, message: str) -> None:
        """Nothing: no disk is asked."""

    def hurry(self) -> None:
        """Nothing."""
