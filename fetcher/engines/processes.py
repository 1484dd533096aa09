"""L3: requests fetched by several processes, each with its own loop, session and share of the limits."""

import asyncio
import os
import signal
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from socket import socketpair
from typing import Final

from fetcher.clock import Clock
from fetcher.engines.base import Customer
from fetcher.engines.channel import (
    Abort,
    Begun,
    Cease,
    Channel,
    Claim,
    Done,
    Ended,
    Finish,
    GivenUp,
    Heard,
    Message,
    Named,
    Order,
    Pulse,
    Ready,
)
from fetcher.engines.worker import STOPS, Assignment, Build, begin, work
from fetcher.errors import Error, ErrorKind, LocalError
from fetcher.events import Counters, Observer, Retrying, Settled, Transfer
from fetcher.history import History
from fetcher.lanes import Lanes
from fetcher.model import Attempt, Request, from_line, to_line
from fetcher.sinks.base import NameGiver

#: A request over which so many workers have died is not given to another one.
_DEATHS: Final = 3
#: So many workers in a row that die before they take orders are a fault of this machine.
_STILLBORN: Final = 2
#: How much longer than its transfers a worker may take to end, in seconds.
_SLACK: Final = 2.0

_SILENT: Final = Pulse(0, 0, 0, ())


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers: what each is for, who gets which request, and what makes a worker's engine (a picklable function)."""

    assignments: Sequence[Assignment]
    lanes: Lanes
    build: Build


@dataclass(slots=True)
class _Order:
    """A request that a worker has; ``lost`` workers have died over it."""

    request: Request
    lost: int
    begun: bool = False


@dataclass(slots=True)
class _Worker:
    """The place of a worker, taken by one process after another if they die."""

    assignment: Assignment
    orders: dict[str, _Order] = field(default_factory=dict)
    channel: Channel | None = None
    pid: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    pulse: Pulse = _SILENT
    #: Bytes that ended attempts took, of this process and of those before it.
    bytes: int = 0
    bytes_before: int = 0

    @property
    def number(self) -> int:
        return self.assignment.number

    def tell(self, message: Message) -> None:
        """Send a message, if there is a process; one that comes later is told what counts."""
        if self.channel is not None:
            self.channel.send(message)


class Processes:
    """Fetches requests in worker processes; see :class:`fetcher.engines.base.Engine`.

    The run's own process plans, names bodies, settles and writes; the workers fetch. One that dies is replaced, and what
    it was at is tried again by the next one. They end when the run does, however it ends.
    """

    def __init__(self, crew: Crew, naming: NameGiver, clock: Clock, counters: Counters, observe: Observer) -> None:
        self._crew = crew
        self._workers = [_Worker(assignment) for assignment in crew.assignments]
        self._naming = naming
        self._clock = clock
        self._counters = counters
        self._observe = observe
        self._customer: Customer | None = None
        self._stopped: str | None = None
        self._finishing: float | None = None

    def add(self, request: Request, lost: int = 0) -> None:
        """Take a request."""
        worker = self._workers[self._crew.lanes.assign(request.host)]
        worker.orders[request.key] = _Order(request, lost)
        worker.tell(Order(request, lost))

    async def run(self, customer: Customer) -> None:
        """Keep every worker's place filled until it is stopped or cancelled; raises LocalError if that cannot be."""
        self._customer = customer
        async with asyncio.TaskGroup() as tasks:
            for worker in self._workers:
                tasks.create_task(self._fill(worker, customer))

    def stop(self, reason: str) -> None:
        """Start nothing more."""
        if self._stopped is None:
            self._stopped = reason
            for worker in self._workers:
                worker.tell(Cease(reason))

    async def finish(self, seconds: float, abort: asyncio.Event) -> None:
        """Let the workers finish for a while, drop the rest, and settle what was started."""
        self._finishing = seconds
        for worker in self._workers:
            worker.tell(Finish(seconds))
        ended = asyncio.gather(*(worker.ended.wait() for worker in self._workers))
        aborted = asyncio.create_task(abort.wait())
        try:
            await asyncio.wait((ended, aborted), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for worker in self._workers:
                worker.tell(Abort())
            if self._customer is not None:
                self._customer.hurry()
            await asyncio.wait((ended,), timeout=_SLACK)
        finally:
            ended.cancel()
            aborted.cancel()
            await asyncio.gather(ended, aborted, return_exceptions=True)
        for worker in self._workers:
            await self._drop(worker)

    async def _fill(self, worker: _Worker, customer: Customer) -> None:
        """Employ one process after another for this place."""
        stillborn = 0
        try:
            while stillborn < _STILLBORN:
                await self._employ(worker, customer)
                if worker.ended.is_set() or self._finishing is not None:
                    return
                stillborn = stillborn + 1 if worker.pid is None else 0
                await self._mourn(worker, customer)
            raise LocalError("worker processes end as soon as they begin")
        finally:
            worker.ended.set()

    async def _employ(self, worker: _Worker, customer: Customer) -> None:
        """Give the place to a process until it ends, and take what it tells."""
        ours, theirs = socketpair()
        pool = ProcessPoolExecutor(1, get_context("spawn"), begin, (theirs,))
        working: Future[None] | None = None
        try:
            async with Channel(ours) as channel:
                working = await asyncio.to_thread(_start, pool, worker.assignment, self._crew.build)
                theirs.close()
                worker.channel = channel
                for order in worker.orders.values():
                    channel.send(Order(order.request, order.lost))
                if self._stopped is not None:
                    channel.send(Cease(self._stopped))
                if self._finishing is not None:
                    channel.send(Finish(self._finishing))
                while messages := await channel.receive():
                    for message in messages:
                        await self._take(worker, message, customer)
        finally:
            worker.channel = None
            theirs.close()
            await _end(pool, working, worker)

    async def _take(self, worker: _Worker, message: Message, customer: Customer) -> None:
        """Do what a message from a worker asks for."""
        match message:
            case Begun(key):
                worker.orders[key].begun = True
            case Claim(key, content_type, digest, obstacle):
                request = worker.orders[key].request
                worker.tell(Named(key, await self._naming.reserve(request, content_type, digest, obstacle)))
            case Done(key, line, ended_bytes):
                request = worker.orders.pop(key).request
                self._crew.lanes.finished(request.host, worker.number)
                self._counters.active.pop(request.index, None)
                self._count(worker, ended_bytes)
                await customer.settle(Settled(from_line(line), line, key))
            case Pulse():
                self._show(worker, message)
            case Heard(event):
                if isinstance(event, Retrying):
                    self._counters.retry(event.request.host, event.error.kind)
                self._observe(event)
            case GivenUp(reason, words):
                customer.give_up(reason, words)
            case Ready(pid):
                worker.pid = pid
            case Ended():
                worker.ended.set()

    def _count(self, worker: _Worker, ended_bytes: int) -> None:
        worker.bytes = ended_bytes
        self._counters.ended_bytes = sum(each.bytes_before + each.bytes for each in self._workers)

    def _show(self, worker: _Worker, pulse: Pulse) -> None:
        """Let the run's counters show what the worker is at."""
        counters = self._counters
        for moving in worker.pulse.active:
            order = worker.orders.get(moving.key)
            if order is not None:
                counters.active.pop(order.request.index, None)
        worker.pulse = pulse
        self._count(worker, pulse.ended_bytes)
        for moving in pulse.active:
            order = worker.orders.get(moving.key)
            if order is not None:
                counters.active[order.request.index] = Transfer(
                    order.request, moving.started, moving.received, moving.total, moving.last_byte
                )
        counters.waiting = sum(each.pulse.waiting for each in self._workers)
        counters.retrying = sum(each.pulse.retrying for each in self._workers)

    async def _mourn(self, worker: _Worker, customer: Customer) -> None:
        """See to it that what a dead worker was at is tried again, but not for ever."""
        self._show(worker, _SILENT._replace(ended_bytes=worker.bytes))
        worker.pid = None
        worker.bytes_before, worker.bytes = worker.bytes_before + worker.bytes, 0
        for key, order in tuple(worker.orders.items()):
            if not order.begun:
                continue
            order.begun = False
            order.lost += 1
            request, died = order.request, Error.of(ErrorKind.INTERNAL, "its worker process died")
            if order.lost < _DEATHS:
                self._counters.retry(request.host, died.kind)
                self._observe(Retrying(request, died, order.lost, 0.0))
                continue
            del worker.orders[key]
            self._crew.lanes.finished(request.host, worker.number)
            await customer.settle(self._failed(order, died))

    async def _drop(self, worker: _Worker) -> None:
        """Settle what a worker that is gone had begun."""
        self._show(worker, _SILENT._replace(ended_bytes=worker.bytes))
        for order in worker.orders.values():
            if order.begun and self._customer is not None:
                dropped = Error.of(ErrorKind.CANCELLED, f"{self._stopped or 'stopped'}; its worker told no more")
                await self._customer.settle(self._failed(order, dropped))
        worker.orders.clear()

    def _failed(self, order: _Order, error: Error) -> Settled:
        """Return how a request ends whose attempts nobody can tell of."""
        now, retried = self._clock.monotonic(), (ErrorKind.INTERNAL.value,) * (order.lost - 1)
        history = History(order.request, self._clock.now(), now, max(0, order.lost - 1), retried)
        attempt = Attempt(number=max(1, order.lost), started=now, ended=now, error=error)
        record = history.after(attempt).record()
        return Settled(record, to_line(record), order.request.key)


def _start(pool: ProcessPoolExecutor, assignment: Assignment, build: Build) -> Future[None]:
    """Start the pool's process with signals blocked, as it keeps them until it is ready to ignore them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        return pool.submit(work, assignment, build)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _end(pool: ProcessPoolExecutor, working: Future[None] | None, worker: _Worker) -> None:
    """Wait until the pool's process is gone, and make it go if it will not; raises what ended its work early."""
    if working is None:
        await asyncio.to_thread(pool.shutdown)
        return
    ending = asyncio.wrap_future(working)
    await asyncio.wait((ending,), timeout=_SLACK)
    if not ending.done() and worker.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)
    await asyncio.to_thread(pool.shutdown)
    with suppress(BrokenProcessPool):
        await ending
