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
from fetcher.engines.base import NONE, Customer, Past, all_set
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
from fetcher.engines.ledger import Account, Entry, Ledger
from fetcher.engines.worker import STOPS, Assignment, Build, work
from fetcher.errors import words_of
from fetcher.events import Counters, Observer, Retrying, Settled
from fetcher.lanes import Lanes
from fetcher.model import Request, Stop
from fetcher.origins import Hold
from fetcher.sinks.base import NameGiver

#: So many workers in a row that die before they begin anything are a fault of this machine.
_BARREN: Final = 2
#: How much longer than its transfers a worker may take to end, in seconds.
_SLACK: Final = 2.0

#: So many holds, the latest, are told to a worker that takes the place of another.
_HOLDS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers: what each is for, who gets which request, and what makes a worker's engine (a picklable function)."""

    assignments: Sequence[Assignment]
    lanes: Lanes
    build: Build


@dataclass(slots=True)
class _Worker:
    """The place of a worker, taken by one process after another if they die."""

    assignment: Assignment
    account: Account = field(default_factory=Account)
    channel: Channel | None = None
    #: Whether its process has lived long enough to be of use.
    fruitful: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

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
        self._ledger = Ledger(clock, counters, observe)
        self._observe = observe
        self._holds: dict[str, Hold] = {}
        self._customer: Customer | None = None
        self._stopped: str | None = None
        self._finishing: float | None = None

    def add(self, request: Request, past: Past = NONE) -> None:
        """Take a request."""
        worker = self._workers[self._crew.lanes.assign(request.host)]
        worker.account.entries[request.key] = Entry(request, past)
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
        ended = [worker.ended for worker in self._workers]
        await all_set(ended, seconds, abort)
        for worker in self._workers:
            worker.tell(Abort())
        if self._customer is not None:
            self._customer.hurry()
        await all_set(ended, _SLACK)
        for worker in self._workers:
            for settled in self._ledger.drop(worker.account, self._stopped or "stopped"):
                if self._customer is not None:
                    await self._customer.settle(settled)

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
            self._ledger.silence(worker.account)
            for entry in worker.account.entries.values():
                self._ledger.ended(worker.account, entry)
            worker.ended.set()

    async def _employ(self, worker: _Worker, customer: Customer) -> None:
        """Give the place to a process until it ends, and take what it tells; raises OSError if there can be none."""
        ours, theirs = socketpair()
        with theirs:
            async with Channel(ours) as channel:
                process = _started(theirs, worker.assignment, self._crew.build)
                theirs.close()
                try:
                    worker.channel = channel
                    now = self._clock.monotonic()
                    for host, hold in self._holds.items():
                        if hold.until > now:
                            channel.send(Held(host, hold))
                    for entry in worker.account.entries.values():
                        channel.send(Order(entry.request, entry.past))
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
        account, ledger = worker.account, self._ledger
        match message:
            case Begun(key) if key in account.entries:
                worker.fruitful = True
                ledger.begun(account.entries[key])
            case Claim(key, told, digest, obstacle) if key in account.entries:
                request = account.entries[key].request
                worker.tell(Named(key, *await self._naming.reserve(request, told, digest, obstacle)))
            case Done(record, line, key, ended_bytes) if key in account.entries:
                self._forget(worker, key)
                ledger.count(account, ended_bytes)
                await customer.settle(Settled(record, line, key))
            case Pulse():
                worker.fruitful = True
                ledger.show(account, message)
            case Held(host, hold):
                self.hold(host, hold)
                customer.held(host, hold)
            case Heard(event):
                if isinstance(event, Retrying):
                    ledger.retried(account, event)
                self._observe(event)
            case GivenUp(reason, words):
                customer.give_up(reason, words)
            case Ended():
                worker.ended.set()

    def _forget(self, worker: _Worker, key: str) -> None:
        """Let go of a request that is settled."""
        entry = worker.account.entries.pop(key)
        self._crew.lanes.finished(entry.request.host, worker.number)
        self._ledger.ended(worker.account, entry)

    async def _mourn(self, worker: _Worker, customer: Customer) -> None:
        """See to it that what a dead worker was at is tried again, but not for ever."""
        for key, entry in self._ledger.mourn(worker.account):
            self._forget(worker, key)
            await customer.settle(self._ledger.end(entry))


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
