"""L3: what every way to get requests fetched promises."""

import asyncio
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple, Protocol

from fetcher.events import Settled
from fetcher.history import History
from fetcher.model import Request, Stop
from fetcher.origins import Hold


class Customer(Protocol):
    """Whoever has ordered the fetches."""

    def started(self, request: Request) -> None:
        """Learn that an attempt at this request begins."""
        ...

    def held(self, host: str, hold: Hold) -> None:
        """Learn that a host is held, or longer than before, which concerns whoever else asks it."""
        ...

    async def settle(self, settled: Settled) -> None:
        """Take what a request ends with; waits while too many are on their way."""
        ...

    def give_up(self, reason: Stop, message: str) -> None:
        """Learn that going on makes no sense, and why, in one line."""
        ...

    def hurry(self) -> None:
        """Learn that time is up: from now on settling waits for nobody long."""
        ...


class Past(NamedTuple):
    """Attempts at a request that another engine has made: what each failed with, and when the next may start.

    ``not_before`` is on the monotonic clock, which all processes of a machine share; ``history`` is there if all is known.
    """

    retried: tuple[str, ...] = ()
    not_before: float | None = None
    history: History | None = None


NONE: Final = Past()


class Engine(Protocol):
    """Fetches requests, each as often as it takes, within the limits of the run."""

    def add(self, request: Request, past: Past = NONE) -> None:
        """Take a request; it is fetched when its turn comes."""
        ...

    def hold(self, host: str, hold: Hold) -> None:
        """Leave a host alone, as another engine does."""
        ...

    async def run(self, customer: Customer) -> None:
        """Fetch what is added, and settle each request once; goes on until it is stopped or cancelled."""
        ...

    def stop(self, reason: str) -> None:
        """Start nothing more, neither requests nor retries; ``reason`` is said of what will be dropped."""
        ...

    async def finish(self, seconds: float, abort: asyncio.Event) -> None:
        """Give what is under way so long, or until ``abort``, then drop it, and settle all that was started.

        To be called after :meth:`stop`.
        """
        ...


async def all_set(events: Iterable[asyncio.Event], seconds: float, abort: asyncio.Event | None = None) -> None:
    """Wait until all of them are set, but no longer than so many seconds, nor once ``abort`` is set."""
    groups = (events,) if abort is None else (events, (abort,))
    waiting = [asyncio.gather(*(event.wait() for event in group)) for group in groups]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def give(tasks: Collection[asyncio.Task[None]], seconds: float, abort: asyncio.Event) -> None:
    """Let tasks go on for so many seconds, or until ``abort`` is set, and end them."""
    finishing = asyncio.gather(*tasks, return_exceptions=True)
    aborted = asyncio.create_task(abort.wait())
    try:
        await asyncio.wait((finishing, aborted), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*tasks, aborted):
            task.cancel()
    await asyncio.gather(finishing, aborted, return_exceptions=True)
