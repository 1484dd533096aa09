"""What every way to get requests fetched must keep; a test class per engine inherits it and gives ``opened``."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Final

import pytest

from fetcher.engines.base import NONE, Engine, Past
from fetcher.errors import ErrorKind
from fetcher.events import Counters, Event, Retrying, Settled
from fetcher.model import Outcome, Record, Request, Stop
from fetcher.options import HostOptions, Limits, Options, Output, Retries
from fetcher.origins import Hold
from fetcher.wiring import Ears
from tests.fakes import until
from tests.server import Scope

#: Long enough for whatever is waited for: a failing test, not a slow one, reaches it.
_PATIENCE: Final = 20.0


@dataclass(slots=True)
class Customer:
    """Notes what it is told; ``bug`` is raised by :meth:`settle`."""

    settled: list[Settled] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    holds: list[tuple[str, Hold]] = field(default_factory=list)
    hurried: bool = False
    bug: Exception | None = None

    def started(self, request: Request) -> None:
        self.begun.append(request.key)

    async def settle(self, settled: Settled) -> None:
        if self.bug is not None:
            raise self.bug
        self.settled.append(settled)
        await asyncio.sleep(0)

    def give_up(self, reason: Stop, message: str) -> None:
        raise AssertionError(message)

    def held(self, host: str, hold: Hold) -> None:
        self.holds.append((host, hold))

    def hurry(self) -> None:
        self.hurried = True

    @property
    def records(self) -> dict[str, Record]:
        """The records by URL; there are no two of one URL."""
        found = {settled.record.url: settled.record for settled in self.settled}
        assert len(found) == len(self.settled)
        return found


@dataclass(slots=True)
class Shop:
    """An engine at work, and all that can be seen of it."""

    engine: Engine
    directory: Path
    counters: Counters
    events: list[Event]
    customer: Customer
    running: asyncio.Task[None]

    def add(self, *urls: str, past: Past = NONE) -> None:
        """Order these URLs."""
        for url in urls:
            host = url.split("/")[2]
            self.engine.add(Request(hash(url), url, url, host, "list", 1), past)

    async def settled(self, count: int) -> dict[str, Record]:
        """Wait for so many records and return them."""
        await until(lambda: len(self.customer.settled) >= count or self.running.done(), _PATIENCE)
        return self.customer.records

    async def stop(self, seconds: float, abort: asyncio.Event | None = None) -> dict[str, Record]:
        """Stop and finish, as a run does, and return the records."""
        self.engine.stop("stopped by a test")
        await self.engine.finish(seconds, abort or asyncio.Event())
        return self.customer.records

    async def close(self) -> None:
        """End it as a run does, and check that nothing is under way any more."""
        self.running.cancel()
        with suppress(asyncio.CancelledError):
            await self.running
        assert (self.counters.active, self.counters.waiting, self.counters.retrying) == ({}, 0, 0)


Opened = Callable[[Options, Ears], AbstractAsyncContextManager[Engine]]


class EngineContract:
    @pytest.fixture
    def opened(self) -> Opened:
        """Return what opens an engine, whose customers' bodies go to files."""
        raise NotImplementedError

    @asynccontextmanager
    async def shop(
        self, opened: Opened, directory: Path, limits: Limits | None = None, hosts: tuple[HostOptions, ...] = ()
    ) -> AsyncIterator[Shop]:
        """Open an engine and let it run."""
        options = Options(
            limits=limits or Limits(concurrency=8),
            retries=Retries(count=2),
            output=Output(directory=directory),
            hosts=hosts,
        )
        (directory / ".fetcher/partial").mkdir(parents=True)
        events: list[Event] = []
        counters, customer = Counters(0.0), Customer()
        before = asyncio.all_tasks()
        async with opened(options, Ears(counters=counters, observe=events.append)) as engine:
            running = asyncio.create_task(engine.run(customer))
            shop = Shop(engine, directory, counters, events, customer, running)
            yield shop
            await shop.close()
        assert asyncio.all_tasks() == before

    async def test_each_is_settled_once(self, opened: Opened, server: Scope, tmp_path: Path) -> None:
        """Each request ends as one record, good or bad, with its own bytes; the counters are exact at the end."""
        good = [server.origin(number % 3).url(f"{number}", size=number * 997) for number in range(60)]
        again = server.url("again", fail_times=1)
        gone, cut = server.url("gone", status=404), server.url("cut", truncate_at=3)
        async with self.shop(opened, tmp_path) as shop:
            shop.add(*good, again, gone, cut)
            records = await shop.settled(63)
        assert set(records) == {*good, again, gone, cut}
        assert {records[url].outcome for url in (*good, again)} == {Outcome.FETCHED}
        assert (records[again].retried, records[again].attempts) == (("http.503",), 2)
        assert (records[gone].status, records[gone].outcome, records[gone].attempts) == (404, Outcome.FAILED, 1)
        assert records[cut].retried == (ErrorKind.TRUNCATED,) * 2
        for number, url in enumerate(good):
            assert (tmp_path / (records[url].path or "")).read_bytes() == server.body_of(f"{number}", number * 997)
        assert shop.counters.ended_bytes == sum(record.wire_bytes for record in records.values())
        assert shop.counters.retries == sum(isinstance(event, Retrying) for event in shop.events) == 3

    async def test_names_are_unique(self, opened: Opened, server: Scope, tmp_path: Path) -> None:
        """URLs whose files a disk may take for one, or for each other's folder, do not share a file."""
        paths = ["a", "A", "x", "x.html", "f", "f/g", "f/G", "F/g/h", "%61", "q?1", "q?2"]
        urls = [server.base + server.path(path) for path in paths]
        urls += [server.url(f"late{path}", delay=0.1, size=9) for path in ("a", "A", "f", "f/g")]
        async with self.shop(opened, tmp_path) as shop:
            shop.add(*urls)
            records = await shop.settled(len(urls))
        named = [record.path or "" for record in records.values()]
        assert len({path.casefold() for path in named}) == len(urls)
        for url, record in records.items():
            asked = "/" + url.split("/", 3)[3].partition("?")[0]
            body = server.server.scope("/").body_of(asked, 9 if "size" in url else -1)
            assert (tmp_path / (record.path or "")).read_bytes() == body

    @pytest.mark.parametrize("limits", [Limits(concurrency=5, per_host=2), Limits(concurrency=4, per_host=3)])
    async def test_limits(self, limits: Limits, opened: Opened, server: Scope, tmp_path: Path) -> None:
        """No more are under way at once, in all and of one host, than may be; and as many as may be are."""
        urls = [server.origin(number % 3).url(f"h{number % 3}/{number}", delay=0.1) for number in range(36)]
        async with self.shop(opened, tmp_path, limits) as shop:
            shop.add(*urls)
            await shop.settled(len(urls))
        assert limits.per_host is not None
        assert limits.per_host < server.active_peak() <= limits.concurrency
        for host in range(3):
            assert server.active_peak(f"h{host}/") <= limits.per_host

    async def test_where_redirects_lead(self, opened: Opened, server: Scope, tmp_path: Path) -> None:
        """A host that many others lead to gets no more at once from all of them than it may."""
        urls = [
            server.origin(number % 4 + 1).url(f"{number}", redirect_to=server.url(f"far/{number}", delay=0.05))
            for number in range(32)
        ]
        async with self.shop(opened, tmp_path, Limits(concurrency=8, per_host=2)) as shop:
            shop.add(*urls)
            records = await shop.settled(len(urls))
        assert {record.outcome for record in records.values()} == {Outcome.FETCHED}
        assert server.active_peak("far/") == 2

    async def test_sections(self, opened: Opened, server: Scope, tmp_path: Path) -> None:
        """A host with a section of its own has its limits and its header fields; the others have those for all."""
        one, two = (server.origin(number) for number in range(2))
        section = HostOptions(
            pattern=one.base.removeprefix("http://"), per_host=1, host_rate=20.0, headers=(("X-Token", "hush"),)
        )
        urls = [
            scope.url(f"h{number}/{each}", delay=0.02) for number, scope in enumerate((one, two)) for each in range(9)
        ]
        async with self.shop(opened, tmp_path, Limits(concurrency=6), hosts=(section,)) as shop:
            shop.add(*urls)
            await shop.settled(len(urls))
        assert server.active_peak("h0/") == 1
        assert 1 < server.active_peak("h1/") <= 6
        times = [seen.time for seen in server.requests("h0/")]
        assert times[-1] - times[0] >= 0.9 * (len(times) - 2) / 20
        told = [seen.resource.partition("/h")[2][0] for seen in server.requests() if b"hush" in seen.head]
        assert told == ["0"] * 9

    @pytest.mark.parametrize(("limits", "per_second"), [(Limits(rate=40.0), 40), (Limits(host_rate=20.0), 40)])
    async def test_rates(
        self, limits: Limits, per_second: float, opened: Opened, server: Scope, tmp_path: Path
    ) -> None:
        """No more start per second than may."""
        urls = [server.origin(number % 2).url(f"{number}") for number in range(30)]
        async with self.shop(opened, tmp_path, limits) as shop:
            shop.add(*urls)
            await shop.settled(len(urls))
        times = [seen.time for seen in server.requests()]
        # Each of two workers or hosts may begin with a tenth of a second's.
        assert times[-1] - times[0] >= 0.9 * (len(urls) - 8) / per_second

    @pytest.mark.parametrize("down", ["", "10 connections failed in a row"])
    async def test_hold(self, down: str, opened: Opened, server: Scope, tmp_path: Path) -> None:
        """A host that others hold is asked nothing until its time has come; if it is down, its requests fail."""
        urls = [server.url(f"{number}") for number in range(8)]
        async with self.shop(opened, tmp_path) as shop:
            began = time.monotonic()
            until = began + (30.0 if down else 1.0)
            hold = Hold(began, until, down, refusals=1, too_long=False, failures=0, opened=inf, interval=1.0)
            shop.engine.hold(server.host, hold)
            shop.add(*urls)
            records = await shop.settled(len(urls))
        if not down:
            assert {record.outcome for record in records.values()} == {Outcome.FETCHED}
            assert server.requests()[0].time >= until
            return
        for record in records.values():
            assert record.error is not None
            assert (record.error.kind, record.attempts) == (ErrorKind.HOST_DOWN, 0)
        assert server.requests() == []

    async def test_a_hold_is_told(self, opened: Opened, server: Scope, tmp_path: Path) -> None:
        """Whoever has ordered it hears of a host that asks to be left alone."""
        async with self.shop(opened, tmp_path) as shop:
            shop.add(server.url("busy", fail_times=1, fail_status=429, retry_after="1"))
            await shop.settled(1)
        host, hold = shop.customer.holds[0]
        assert host == server.host
        assert hold.until >= hold.began + 1.0

    async def test_stop(self, opened: Opened, server: Scope, tmp_path: Path) -> None:
        """Stopped, it finishes what has begun, starts nothing more, and settles exactly what was started."""
        urls = [server.url(f"{number}", delay=0.3) for number in range(20)]
        retried = server.origin(1).url("retried", status=503, retry_after="100")
        async with self.shop(opened, tmp_path, Limits(concurrency=5)) as shop:
            shop.add(retried, *urls)
            await until(lambda: shop.counters.retries == 1 and server.active_now() == 5, _PATIENCE)
            records = await shop.stop(10.0)
            asked = {seen.resource for seen in server.requests()}
        assert {"/" + url.split("/", 3)[3] for url in records} == asked
        assert 6 <= len(records) < 20
        waited = records.pop(retried)
        assert (waited.outcome, waited.status, waited.attempts) == (Outcome.FAILED, 503, 1)
        assert {record.outcome for record in records.values()} == {Outcome.FETCHED}
        assert shop.customer.hurried

    @pytest.mark.parametrize("by", ["event", "time"])
    async def test_drop(self, by: str, opened: Opened, server: Scope, tmp_path: Path) -> None:
        """What is not done in time, or by the time of an abort, is dropped at once, says why, and leaves no file."""
        urls = [server.url(f"{number}", size=1_000_000, drip="100,1") for number in range(6)]
        async with self.shop(opened, tmp_path, Limits(concurrency=4)) as shop:
            shop.add(*urls)
            await until(lambda: server.active_now() == 4, _PATIENCE)
            abort = asyncio.Event()
            if by == "event":
                asyncio.get_running_loop().call_later(0.1, abort.set)
            began = time.monotonic()
            records = await shop.stop(60.0 if by == "event" else 0.1, abort)
            took = time.monotonic() - began
        assert took < 20  # of a hundred that the bodies take, and of a minute that is given to them
        assert len(records) == 4
        for record in records.values():
            assert record.error is not None
            assert record.error.kind == ErrorKind.CANCELLED
            assert record.error.message.startswith("stopped by a test")
        assert below(tmp_path) == [".fetcher", ".fetcher/partial"]

    async def test_stopped_at_once(self, opened: Opened, server: Scope, tmp_path: Path) -> None:
        """Stopped before it has begun anything, it settles nothing."""
        async with self.shop(opened, tmp_path) as shop:
            shop.add(server.url("a"))
            assert await shop.stop(10.0) == {}
        assert server.requests() == []

    @pytest.mark.parametrize("turns", range(4))
    async def test_ended_as_it_begins(self, turns: int, opened: Opened, server: Scope, tmp_path: Path) -> None:
        """A run that finds nothing to do ends its engine at any moment of its start, which leaves nothing open."""
        async with self.shop(opened, tmp_path):
            for _ in range(turns):
                await asyncio.sleep(0)

    async def test_cancel(self, opened: Opened, server: Scope, tmp_path: Path) -> None:
        """Cancelled, it drops everything without a word."""
        async with self.shop(opened, tmp_path) as shop:
            shop.add(*(server.url(f"{number}", hang=True) for number in range(10)))
            await until(lambda: server.active_now() == 8, _PATIENCE)
            shop.running.cancel()
            await asyncio.wait((shop.running,), timeout=_PATIENCE)
            assert shop.running.cancelled()
            assert (shop.counters.active, shop.counters.waiting) in [({}, 0), ({}, 2)]
            shop.counters.waiting = 0
        assert shop.customer.settled == []
        await until(lambda: not server.active_now(), _PATIENCE)

    async def test_past(self, opened: Opened, server: Scope, tmp_path: Path) -> None:
        """Attempts made elsewhere count as its own: their kinds, their number, and the wait they asked for."""
        url, other = server.url("a"), server.url("b", status=503)
        wait = time.monotonic() + 1.5
        async with self.shop(opened, tmp_path) as shop:
            shop.add(url, past=Past(("internal",), wait))
            shop.add(other, past=Past(("http.503", "internal")))
            records = await shop.settled(2)
        assert (records[url].attempts, records[url].retried) == (2, ("internal",))
        assert (records[other].attempts, records[other].retried) == (3, ("http.503", "internal"))
        assert server.requests("a")[0].time >= wait

    async def test_a_bug(self, opened: Opened, server: Scope, tmp_path: Path) -> None:
        """A bug in whoever takes the records ends the engine, and is not lost."""
        async with self.shop(opened, tmp_path) as shop:
            shop.customer.bug = ZeroDivisionError()
            shop.add(server.url("a"))
            await asyncio.wait((shop.running,), timeout=_PATIENCE)
            assert causes(shop.running.exception()) == [ZeroDivisionError]
            shop.running = asyncio.create_task(asyncio.sleep(0))


def below(directory: Path) -> list[str]:
    """Return what a directory holds."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def causes(error: BaseException | None) -> Sequence[type[BaseException]]:
    """Return the kinds of the errors in a group, however deep."""
    if isinstance(error, BaseExceptionGroup):
        return [kind for each in error.exceptions for kind in causes(each)]
    return [] if error is None else [type(error)]
