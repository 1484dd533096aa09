"""Bodies that an engine fetches into memory."""

import asyncio

import pytest

from fetcher.asking import Pages
from fetcher.download import Downloads
from fetcher.engines.base import NONE, Customer, Past
from fetcher.errors import Error
from fetcher.events import Settled
from fetcher.history import untried
from fetcher.model import Outcome, Record, Request
from fetcher.origins import Hold

REQUEST = Request(0, "http://h/a", "http://h/a", "h", "list", 1)


class Scripted:
    """An engine that settles each request with the next of these: a body, why there is none, or a bug; then with nothing."""

    def __init__(self, pages: Pages, *ends: bytes | Error | Exception) -> None:
        self._pages = pages
        self._ends = list(ends)
        self._added: asyncio.Queue[Request] = asyncio.Queue()

    def add(self, request: Request, past: Past = NONE) -> None:
        self._added.put_nowait(request)

    def hold(self, host: str, hold: Hold) -> None:
        raise NotImplementedError

    def stop(self, reason: str) -> None:
        raise NotImplementedError

    async def finish(self, seconds: float, abort: asyncio.Event) -> None:
        raise NotImplementedError

    async def run(self, customer: Customer) -> None:
        while True:
            request = await self._added.get()
            if not self._ends:
                await asyncio.Event().wait()
            end = self._ends.pop(0)
            if isinstance(end, Exception):
                raise end
            if isinstance(end, Error):
                await customer.settle(Settled(untried(request, end), b"", None))
            else:
                self._pages.body += end
                record = Record(url=request.url, source="list", line=1, outcome=Outcome.FETCHED)
                await customer.settle(Settled(record, b"", None))


async def test_one_after_another() -> None:
    """Each body is that of its own request, also after a failure and after one without a body."""
    pages = Pages(100)
    gone = Error.of("http.404", "gone")
    async with Downloads(Scripted(pages, b"a", gone, b"", b"b"), pages) as downloads:
        assert [await downloads.get(REQUEST) for _ in range(4)] == [b"a", gone, b"", b"b"]


async def test_a_bug() -> None:
    """An engine that breaks is not waited for."""
    pages = Pages(100)
    async with asyncio.timeout(5), Downloads(Scripted(pages, KeyError("bug")), pages) as downloads:
        with pytest.raises(KeyError, match="bug"):
            await downloads.get(REQUEST)


async def test_left() -> None:
    """Whoever leaves amid a download leaves no task behind."""
    pages = Pages(100)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), Downloads(Scripted(pages), pages) as downloads:
            await downloads.get(REQUEST)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_another_attempt() -> None:
    """A body takes the place of what an earlier attempt has left."""
    pages = Pages(4)
    for body in (b"abcd", b"xy"):
        writer = await pages.open(REQUEST, None)  # type: ignore[arg-type]
        await writer.write(body)
        assert bytes(pages.body) == body
        assert (await writer.commit()).bytes == len(body)
