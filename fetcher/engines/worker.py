"""L3: a worker's end: a process that fetches what it is told to, and tells what came of it."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from socket import socket
from typing import Final, NoReturn

from fetcher.clock import Clock, SystemClock
from fetcher.ending import leave
from fetcher.engines.base import Engine
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
    Laid,
    Moving,
    Named,
    Order,
    Pulse,
    Sender,
)
from fetcher.errors import words_of
from fetcher.events import Counters, Event, Settled
from fetcher.model import Request, Stop
from fetcher.naming import Told
from fetcher.options import Options
from fetcher.origins import Hold
from fetcher.sinks.base import Name

#: Seconds between two pulses, and how many transfers one tells of: those that have taken longest.
_PULSE: Final = 0.2
_TOLD: Final = 50

#: These are for the run to obey, which tells its workers.
STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is for: its number, the options with its share of the limits, and how bodies are named.

    ``abroad`` are the limits for hosts that are other workers' to ask.
    """

    number: int
    options: Options
    abroad: Options
    needs_body: bool


class Desk:
    """Whom a worker's engine deals with: a customer, an observer and a giver of names in another process."""

    def __init__(self, channel: Sender, counters: Counters, *, needs_body: bool) -> None:
        self.needs_body = needs_body
        self._channel = channel
        self._counters = counters
        self._names: dict[str, asyncio.Future[Name]] = {}

    def started(self, request: Request) -> None:
        """Tell the run, so that it knows what this worker was at if it dies."""
        self._channel.send(Begun(request.key))

    def held(self, host: str, hold: Hold) -> None:
        """Tell the run, which tells the other workers."""
        self._channel.send(Held(host, hold))

    def hurry(self) -> None:
        """Nothing: the run knows."""

    async def settle(self, settled: Settled) -> None:
        """Send a record; waits while the run takes no more."""
        if settled.key is not None:
            self._channel.send(Done(settled.record, settled.line, settled.key, self._counters.ended_bytes))
            await self._channel.drain()

    def give_up(self, reason: Stop, message: str) -> None:
        """Tell the run that going on makes no sense."""
        self._channel.send(GivenUp(reason, message))

    def lay(self, request: Request, told: Told) -> None:
        """Tell the run that a body is laid aside, and what it needs to name it."""
        self._channel.send(Laid(request, told))

    def observe(self, event: Event) -> None:
        """Tell the run what has happened."""
        self._channel.send(Heard(event))

    async def reserve(self, request: Request, told: Told, digest: str | None, obstacle: str | None = None) -> Name:
        """Ask the run for a name."""
        future: asyncio.Future[Name] = asyncio.get_running_loop().create_future()
        self._names[request.key] = future
        self._channel.send(Claim(request.key, told, digest, obstacle))
        try:
            return await future
        finally:
            del self._names[request.key]

    def named(self, key: str, name: Name) -> None:
        """Take the answer; whoever asked may have been cancelled meanwhile."""
        future = self._names.get(key)
        if future is not None and not future.done():
            future.set_result(name)


#: Makes a worker's engine.
Build = Callable[[Assignment, Desk, Counters], AbstractAsyncContextManager[Engine]]


def work(end: socket, assignment: Assignment, build: Build) -> None:
    """Be a worker, with this end of a channel: fetch until the run says that it is over.

    It leaves signals to the run, prints nothing but the traceback of a bug, and does not outlive it.
    """
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    asyncio.run(_serve(end, assignment, build))
    leave(0)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


async def _serve(end: socket, assignment: Assignment, build: Build) -> None:
    clock = SystemClock()
    counters = Counters(clock.monotonic())
    finish: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
    abort = asyncio.Event()
    async with Channel(end) as channel:
        desk = Desk(channel, counters, needs_body=assignment.needs_body)
        try:
            async with build(assignment, desk, counters) as engine, asyncio.TaskGroup() as tasks:
                helpers = [
                    tasks.create_task(engine.run(desk)),
                    tasks.create_task(_obey(channel, desk, engine, finish, abort)),
                    tasks.create_task(pulse(channel, counters, clock)),
                ]
                seconds = await finish
                if seconds is not None:
                    await engine.finish(seconds, abort)
                for helper in helpers:
                    helper.cancel()
        except OSError as error:
            desk.give_up(Stop.WORKERS, f"a worker process failed: {words_of(error, str(error))}")
        channel.send(beat(counters))
        channel.send(Ended())


async def _obey(
    channel: Channel, desk: Desk, engine: Engine, finish: asyncio.Future[float | None], abort: asyncio.Event
) -> None:
    """Do what the run says; when it is gone, ``finish`` without a word."""
    while messages := await channel.receive():
        for message in messages:
            match message:
                case Order(request, past):
                    engine.add(request, past)
                case Held(host, hold):
                    engine.hold(host, hold)
                case Named(key, path, ours):
                    desk.named(key, Name(path, ours))
                case Cease(reason):
                    engine.stop(reason)
                case Finish(seconds):
                    finish.set_result(seconds)
                case Abort():
                    abort.set()
    if not finish.done():
        finish.set_result(None)


async def pulse(channel: Sender, counters: Counters, clock: Clock) -> NoReturn:
    """Tell again and again how it goes."""
    while True:
        await clock.sleep(_PULSE)
        channel.send(beat(counters))


def beat(counters: Counters) -> Pulse:
    """Return how it goes."""
    oldest = list(counters.active.values())[:_TOLD]
    active = (Moving(each.request.key, each.received, each.total, each.last_byte) for each in oldest)
    return Pulse(counters.waiting, counters.retrying, counters.ended_bytes, tuple(active))
