"""L3: requests fetched by several processes, each with its own loop, session and share of the limits."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context, resource_tracker
from multiprocessing.context import SpawnProcess
from socket import socket, socketpair
from typing import Final

from fetcher.clock import Clock
from fetcher.engines.base import NONE, Customer, Past
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
    Held,
    Message,
    Named,
    Order,
    Pulse,
)
from fetcher.engines.worker import STOPS, Assignment, Build, work
from fetcher.errors import Error, ErrorKind, words_of
from fetcher.events import Counters, Observer, Retrying, Settled, Transfer
from fetcher.history import History
from fetcher.lanes import Lanes
from fetcher.model import Attempt, Request, Stop, to_line
from fetcher.origins import Hold
from fetcher.sinks.base import NameGiver

#: A request over which so many workers have died is not given to another one.
_DEATHS: Final = 3
#: So many workers in a row that die before they begin anything are a fault of this machine.
_BARREN: Final = 2
#: How much longer than its transfers a worker may take to end, in seconds.
_SLACK: Final = 2.0

#: So many holds, the latest, are told to a worker that takes the place of another.
_HOLDS: Final = 1_000

_SILENT: Final = Pulse(0, 0, 0, ())


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers: what each is for, who gets which request, and what makes a worker's engine (a picklable function)."""

    assignments: Sequence[Assignment]
    lanes: Lanes
    build: Build


_DIED: Final = Error.of(ErrorKind.INTERNAL, "its worker process died")


@dataclass(slots=True)
class _Order:
    """A request that a worker has: what came of its attempts so far, and the one under way."""

    request: Request
    past: Past
    last: Error = _DIED
    transfer: Transfer | None = None
    deaths: int = 0

    def failed(self, error: Error, not_before: float | None = None) -> None:
        """Note how the attempt under way has ended."""
        self.past = Past((*self.past.retried, error.kind), not_before)
        self.last = error
        self.transfer = None


@dataclass(slots=True)
class _Worker:
    """The place of a worker, taken by one process after another if they die."""

    assignment: Assignment
    orders: dict[str, _Order] = field(default_factory=dict)
    channel: Channel | None = None
    #: Whether its process has lived long enough to be of use.
    fruitful: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    pulse: Pulse = _SILENT
    #: Bytes that ended attempts of its process took.
    bytes: int = 0

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
        self._holds: dict[str, Hold] = {}
        self._customer: Customer | None = None
        self._stopped: str | None = None
        self._finishing: float | None = None

    def add(self, request: Request, past: Past = NONE) -> None:
        """Take a request."""
        worker = self._workers[self._crew.lanes.assign(request.host)]
        worker.orders[request.key] = _Order(request, past)
        worker.tell(Order(request, past))

    def hold(self, host: str, hold: Hold) -> None:
        """Leave a host alone, as another engine does."""
        self._holds.pop(host, None)
        self._holds[host] = hold
        if len(self._holds) > _HOLDS:
            del self._holds[next(iter(self._holds))]
        for worker in self._workers:
            worker.tell(Held(host, hold))

    async def run(self, customer: Customer) -> None:
        """Keep every worker's place filled until it is stopped or cancelled; gives up if that cannot be."""
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
        barren = 0
        try:
            while barren < _BARREN:
                if self._stopped is not None:
                    return
                worker.fruitful = False
                await self._employ(worker, customer)
                if worker.ended.is_set() or self._stopped is not None:
                    return
                barren = 0 if worker.fruitful else barren + 1
                await self._mourn(worker, customer)
            customer.give_up(Stop.WORKERS, "worker processes end as soon as they begin")
        except OSError as error:
            customer.give_up(Stop.WORKERS, f"cannot start a worker process: {words_of(error, str(error))}")
        finally:
            self._silence(worker)
            for order in worker.orders.values():
                self._ended(worker, order)
            worker.ended.set()

    async def _employ(self, worker: _Worker, customer: Customer) -> None:
        """Give the place to a process until it ends, and take what it tells; raises OSError if there can be none."""
        ours, theirs = socketpair()
        async with Channel(ours) as channel:
            with theirs:
                process = _started(theirs, worker.assignment, self._crew.build)
            try:
                worker.channel = channel
                now = self._clock.monotonic()
                for host, hold in self._holds.items():
                    if hold.until > now:
                        channel.send(Held(host, hold))
                for order in worker.orders.values():
                    channel.send(Order(order.request, order.past))
                if self._stopped is not None:
                    channel.send(Cease(self._stopped))
                if self._finishing is not None:
                    channel.send(Finish(self._finishing))
                while messages := await channel.receive():
                    for message in messages:
                        await self._take(worker, message, customer)
            finally:
                worker.channel = None
                channel.close()
                await _end(process)

    async def _take(self, worker: _Worker, message: Message, customer: Customer) -> None:
        """Do what a message from a worker asks for; one about a request that was dropped comes too late."""
        match message:
            case Begun(key) if key in worker.orders:
                worker.fruitful = True
                self._begin(worker.orders[key])
            case Claim(key, told, digest, obstacle) if key in worker.orders:
                request = worker.orders[key].request
                worker.tell(Named(key, *await self._naming.reserve(request, told, digest, obstacle)))
            case Done(record, line, key, ended_bytes) if key in worker.orders:
                self._forget(worker, key)
                self._count(worker, ended_bytes)
                await customer.settle(Settled(record, line, key))
            case Pulse():
                worker.fruitful = True
                self._show(worker, message)
            case Held(host, hold):
                self.hold(host, hold)
                customer.held(host, hold)
            case Heard(event):
                if isinstance(event, Retrying):
                    self._retried(worker, event)
                self._observe(event)
            case GivenUp(reason, words):
                customer.give_up(reason, words)
            case Ended():
                worker.ended.set()

    def _begin(self, order: _Order) -> None:
        now = self._clock.monotonic()
        order.transfer = Transfer(order.request, now, last_byte=now)
        self._counters.active[order.request.index] = order.transfer

    def _retried(self, worker: _Worker, event: Retrying) -> None:
        """Note a retry, so that it is one for the next worker too if this one dies."""
        self._counters.retry(event.request.host, event.error.kind)
        order = worker.orders.get(event.request.key)
        if order is not None:
            self._ended(worker, order)
            order.failed(event.error, self._clock.monotonic() + event.delay)

    def _forget(self, worker: _Worker, key: str) -> None:
        """Let go of a request that is settled."""
        order = worker.orders.pop(key)
        self._crew.lanes.finished(order.request.host, worker.number)
        self._ended(worker, order)

    def _ended(self, worker: _Worker, order: _Order) -> None:
        """Count what is known of the attempt under way; its worker, if it lives, says how much it really was."""
        transfer = self._counters.active.pop(order.request.index, None)
        if transfer is not None:
            self._count(worker, worker.bytes + transfer.received)

    def _count(self, worker: _Worker, ended_bytes: int) -> None:
        self._counters.ended_bytes += ended_bytes - worker.bytes
        worker.bytes = ended_bytes

    def _show(self, worker: _Worker, pulse: Pulse) -> None:
        """Let the run's counters show what the worker is at."""
        worker.pulse = pulse
        self._count(worker, pulse.ended_bytes)
        for moving in pulse.active:
            order = worker.orders.get(moving.key)
            if order is not None and (transfer := order.transfer) is not None:
                transfer.received, transfer.total, transfer.last_byte = moving.received, moving.total, moving.last_byte
        counters = self._counters
        counters.waiting = sum(each.pulse.waiting for each in self._workers)
        counters.retrying = sum(each.pulse.retrying for each in self._workers)

    def _silence(self, worker: _Worker) -> None:
        """Let the run's counters show that nothing waits at this worker any more."""
        self._show(worker, _SILENT._replace(ended_bytes=worker.bytes))

    async def _mourn(self, worker: _Worker, customer: Customer) -> None:
        """See to it that what a dead worker was at is tried again, but not for ever."""
        self._silence(worker)
        for key, order in tuple(worker.orders.items()):
            if order.transfer is None:
                continue
            self._ended(worker, order)
            order.failed(_DIED)
            order.deaths += 1
            if order.deaths < _DEATHS:
                self._counters.retry(order.request.host, _DIED.kind)
                self._observe(Retrying(order.request, _DIED, len(order.past.retried), 0.0))
                continue
            self._forget(worker, key)
            await customer.settle(self._failed(order))
        worker.bytes = 0

    async def _drop(self, worker: _Worker) -> None:
        """Settle what a worker that is gone had begun."""
        orders, worker.orders = worker.orders, {}
        for order in orders.values():
            if order.transfer is not None:
                self._ended(worker, order)
                order.failed(Error.of(ErrorKind.CANCELLED, f"{self._stopped or 'stopped'}; its worker told no more"))
            if order.past.retried and self._customer is not None:
                await self._customer.settle(self._failed(order))

    def _failed(self, order: _Order) -> Settled:
        """Return how a request ends with its last attempt, which nobody else can tell of."""
        now, (*retried, _) = self._clock.monotonic(), order.past.retried
        history = History(order.request, self._clock.now(), now, len(retried), tuple(retried))
        attempt = Attempt(number=len(retried) + 1, started=now, ended=now, error=order.last)
        record = history.after(attempt).record()
        return Settled(record, to_line(record), order.request.key)


def _started(end: socket, assignment: Assignment, build: Build) -> SpawnProcess:
    """Return a new worker, which keeps signals blocked until it is ready to ignore them; raises OSError."""
    process = get_context("spawn").Process(target=work, args=(end, assignment, build))
    for stream in (0, 1, 2):  # those opened in place of closed ones would be closed again, and their numbers given away
        with suppress(OSError):
            os.set_inheritable(stream, True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        # Started here, lest a hang-up ends it, too; it unblocks some of them.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


async def _end(process: SpawnProcess) -> None:
    """Wait until a worker is gone, and make it go if it will not; raises RuntimeError if it had a bug."""
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(process.sentinel, gone.set)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_SLACK):
                await gone.wait()
    finally:
        loop.remove_reader(process.sentinel)
        if not gone.is_set():
            process.kill()
        process.join()
    status = process.exitcode
    process.close()
    if status is not None and status > 0:
        raise RuntimeError(f"a worker process ended with status {status}; its traceback stands above")
