"""L3: many requests: the only file with tasks, the semaphore and cancellation.

    sources --rows--> feed --requests--> scheduler --next--> slots --attempts--> settle --records--> writers
                       |                     ^                 |
                       +--known--> look up --+<----retries-----+

A slot is a task that holds the semaphore and goes on with the next ready request until there is none.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

from fetcher.clock import Clock
from fetcher.errors import ErrorKind, FetchError
from fetcher.events import Counters, Notice, Observer, RecordWriter, Retrying, Settled, Transfer
from fetcher.fetch import Fetch
from fetcher.history import History
from fetcher.model import Attempt, Outcome, Record, Request, Stop, Summary, to_line
from fetcher.options import Existing, Options
from fetcher.plan import Planner, Repeated, carried, planned
from fetcher.recorder import Recorder
from fetcher.retry import RetryPolicy
from fetcher.scheduler import Scheduler
from fetcher.sources.base import Source
from fetcher.text import size_text

#: How long transfers under way may take to finish once the run is asked to stop, in seconds.
GRACE: Final = 5.0
#: How long counting the rest of the list may take when a run was stopped, in seconds.
_COUNTING: Final = 2.0
#: Counting the list for the display starts after this many seconds: the first requests go first.
_COUNT_AFTER: Final = 0.3
#: Look-ups of what earlier runs have stored go to the disk in batches of at most this many.
_LOOK_UPS: Final = 256

_STOPPED_BY: Final = {
    Stop.INTERRUPT: "stopped by Ctrl-C",
    Stop.TERMINATE: "stopped by SIGTERM",
    Stop.HANGUP: "stopped by a hang-up",
    Stop.PIPE: "stopped: the reader of the output went away",
    Stop.DISK: "stopped: the disk failed",
    Stop.LIMIT: "stopped by a limit",
}
#: Transfers under way are of no use to these, and many of them fail at once with the first.
_AT_ONCE: Final = frozenset({Stop.PIPE, Stop.DISK})


class Memory(Protocol):
    """What earlier runs have stored; see :class:`fetcher.journal.Journal`."""

    def knows(self, key: str) -> bool:
        """Tell whether a body for this request key was stored at some time."""
        ...

    async def find(self, keys: Sequence[str]) -> list[Record | None]:
        """Return for each key the record of its stored body, None if it is not there any more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a run is made of.

    ``memory`` is None where nothing is kept; ``preview`` names the file that a dry run would make.
    """

    fetch: Fetch
    memory: Memory | None
    writers: Sequence[RecordWriter]
    clock: Clock
    counters: Counters
    observe: Observer
    preview: Callable[[Request], str | None]


class Run:
    """One run over some sources; :meth:`stop` may end it early, from a signal handler too."""

    def __init__(self, options: Options, parts: Parts) -> None:
        limits = options.limits
        self._options = options
        self._parts = parts
        self._counters = parts.counters
        self._scheduler = Scheduler(per_host=limits.per_host, rate=limits.rate, host_rate=limits.host_rate)
        self._retries = RetryPolicy(options.retries.count, options.retries.max_wait)
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._recorder = Recorder(parts.writers, self._written, self._give_up)
        self._histories: dict[int, History] = {}
        #: What each request key is coming to: rows that repeat it and wait, then, until it is written, its record.
        self._coming: dict[str, list[Repeated] | Record] = {}
        self._look_ups: asyncio.Queue[Request | Repeated] = asyncio.Queue()
        self._working: set[asyncio.Task[None]] = set()
        self._outstanding = 0
        self._fed = False
        self._stop: Stop | None = None
        self._told = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._abort = asyncio.Event()

    async def __call__(self, sources: Sequence[Source], *, count: bool = False) -> Summary:
        """Settle every row of every source and return the run in numbers; with ``count`` count the rows meanwhile.

        A run that is stopped settles what was under way; the rest of the list is in ``not_started``.
        """
        async with self._recorder, asyncio.TaskGroup() as tasks:
            helpers = [tasks.create_task(self._feed(sources)), tasks.create_task(self._look_up())]
            if count:
                helpers.append(tasks.create_task(self._count(sources, after=_COUNT_AFTER)))
            await self._dispatch(tasks)
            for helper in helpers:
                helper.cancel()
            if self._stop is not None:
                await self._wind_down()
        if self._stop is not None and self._counters.total is None:
            await self._give([asyncio.create_task(self._count(sources))], _COUNTING)
        return self._counters.summary(self._parts.clock.monotonic(), self._stop)

    def stop(self, reason: Stop) -> None:
        """End the run: start nothing more, let transfers under way finish for a while. The second call drops them."""
        if self._stop is None:
            self._stop = reason
            self._counters.stopping = _STOPPED_BY[reason]
        elif reason not in _AT_ONCE:
            self._abort.set()
        self._changed.set()

    async def _feed(self, sources: Sequence[Source]) -> None:
        """Plan rows as long as there is room for what they ask for."""
        planner = Planner()
        most = self._options.limits.look_ahead
        for source in sources:
            async with aclosing(source.rows()) as rows:
                async for row in rows:
                    self._counters.read += 1
                    self._outstanding += 1
                    await self._admit(planner.plan(row))
                    while self._outstanding >= most:
                        self._room.clear()
                        await self._room.wait()
        self._fed = True
        self._changed.set()

    async def _admit(self, decision: Request | Repeated | Record) -> None:
        """Send what was planned for a row on its way."""
        memory, skip = self._parts.memory, self._options.output.existing is Existing.SKIP
        match decision:
            case Record():
                await self._settle(decision, None)
            case Repeated(request=request):
                coming = self._coming.get(request.key)
                if isinstance(coming, list):
                    coming.append(decision)
                elif coming is None and memory is not None:
                    self._look_ups.put_nowait(decision)
                else:
                    await self._settle(self._repetition(decision, coming), None)
            case Request():
                self._coming[decision.key] = []
                if skip and memory is not None and memory.knows(decision.key):
                    self._look_ups.put_nowait(decision)
                else:
                    await self._enqueue(decision)

    async def _enqueue(self, request: Request) -> None:
        if self._options.dry_run:
            await self._settle(planned(request, self._parts.preview(request)), request.key)
            return
        self._scheduler.add(request)
        self._changed.set()

    async def _look_up(self) -> None:
        """Settle requests that an earlier run has served, and repetitions of them; pass on the others."""
        memory, queue = self._parts.memory, self._look_ups
        while memory is not None:
            batch = [await queue.get()]
            while not queue.empty() and len(batch) < _LOOK_UPS:
                batch.append(queue.get_nowait())
            requests = [item.request if isinstance(item, Repeated) else item for item in batch]
            found = await memory.find([request.key for request in requests])
            for item, earlier in zip(batch, found, strict=True):
                if isinstance(item, Repeated):
                    await self._settle(self._repetition(item, earlier), None)
                elif earlier is not None:
                    await self._settle(carried(item, earlier, Outcome.SKIPPED), item.key)
                else:
                    await self._enqueue(item)

    async def _dispatch(self, tasks: asyncio.TaskGroup) -> None:
        """Give free slots to ready requests until all is settled or the run is stopped."""
        clock = self._parts.clock
        while self._stop is None and not (self._fed and not self._outstanding):
            self._changed.clear()
            now = clock.monotonic()
            while not self._slots.locked() and (request := self._scheduler.next(now)) is not None:
                await self._slots.acquire()
                task = tasks.create_task(self._work(request))
                self._working.add(task)
                task.add_done_callback(self._working.discard)
            self._counters.waiting, self._counters.retrying = len(self._scheduler), self._scheduler.delayed
            wake = None if self._slots.locked() else self._scheduler.wake_at(now)
            await _wait(self._changed, None if wake is None else max(0.0, wake - now))

    async def _work(self, request: Request | None) -> None:
        """Hold one slot, which the dispatcher has taken, as long as there is something to start."""
        try:
            while request is not None:
                await self._try(request)
                ready = self._stop is None
                request = self._scheduler.next(self._parts.clock.monotonic()) if ready else None
        finally:
            self._slots.release()
            self._changed.set()

    async def _try(self, request: Request) -> None:
        """Make one attempt, then settle the request or add it again for later."""
        clock, counters = self._parts.clock, self._counters
        started = clock.monotonic()
        history = self._histories.get(request.index) or History(request, clock.now(), started)
        transfer = Transfer(request, started, last_byte=started)
        counters.active[request.index] = transfer
        number = history.attempts + 1
        try:
            attempt = await self._parts.fetch.attempt(
                transfer, number, self._options.timeouts.total, self._parts.observe
            )
        except asyncio.CancelledError:
            self._histories[request.index] = history.after(self._cancelled(transfer, number))
            raise
        finally:
            del counters.active[request.index]
            counters.ended_bytes += transfer.received
            self._scheduler.finished(request, clock.monotonic())
        history = history.after(attempt)
        error = attempt.error
        if error is not None and error.kind == ErrorKind.DISK:
            self._give_up(Stop.DISK, error.message)
        delay = self._retries.delay(attempt, history.retried, clock.random()) if self._stop is None else None
        if error is None or delay is None:
            self._histories.pop(request.index, None)
            await self._settle(history.record(), request.key)
            return
        self._histories[request.index] = history
        self._scheduler.add(request, clock.monotonic() + delay)
        counters.retry(request.host, error.kind)
        self._parts.observe(Retrying(request, error, number, delay))
        self._changed.set()

    def _cancelled(self, transfer: Transfer, number: int) -> Attempt:
        reason = _STOPPED_BY[self._stop] if self._stop is not None else "stopped"
        failure = FetchError(ErrorKind.CANCELLED, f"{reason} after {size_text(transfer.received)}")
        return Attempt(
            number=number,
            started=transfer.started,
            ended=self._parts.clock.monotonic(),
            error=failure.error,
            wire_bytes=transfer.received,
        )

    async def _settle(self, record: Record, key: str | None) -> None:
        """Count a record and those of the rows that waited for it, and hand them to the writers, in one step."""
        settled = [Settled(record, to_line(record), key)]
        if key is not None:
            coming = self._coming.get(key)
            if isinstance(coming, list):
                self._coming[key] = record
                records = (self._repetition(repeated, record) for repeated in coming)
                settled += [Settled(record, to_line(record), None) for record in records]
        for each in settled:
            self._counters.settle(each.record)
        self._outstanding -= len(settled)
        self._room.set()
        self._changed.set()
        await self._recorder.put(*settled)

    def _repetition(self, repeated: Repeated, earlier: Record | None) -> Record:
        request = repeated.request
        if self._parts.memory is None:
            earlier = None
        elif earlier is None and self._options.dry_run:
            earlier = planned(request, self._parts.preview(request))
        return carried(request, earlier, Outcome.DUPLICATE, repeated.of)

    def _written(self, batch: Sequence[Settled]) -> None:
        """From here on the journal knows these."""
        for settled in batch:
            if settled.key is not None and self._coming.get(settled.key) is settled.record:
                del self._coming[settled.key]

    def _give_up(self, reason: Stop, message: str) -> None:
        """Stop, and say why, once: one full disk fails many transfers."""
        if message and not self._told:
            self._told = True
            self._parts.observe(Notice(message))
        self.stop(reason)

    async def _wind_down(self) -> None:
        """Let the slots finish for a while, drop the rest, and settle what was started."""
        self._scheduler.drain()
        self._counters.waiting = self._counters.retrying = 0
        await self._give(self._working, 0.0 if self._stop in _AT_ONCE else GRACE)
        self._recorder.hurry()
        for history in self._histories.values():
            await self._settle(history.record(), history.request.key)

    async def _give(self, tasks: Collection[asyncio.Task[None]], seconds: float) -> None:
        """Let tasks go on for so many seconds, or until the run is aborted, and end them."""
        finishing = asyncio.gather(*tasks, return_exceptions=True)
        aborted = asyncio.create_task(self._abort.wait())
        try:
            await asyncio.wait((finishing, aborted), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, aborted):
                task.cancel()
        await asyncio.gather(finishing, aborted, return_exceptions=True)

    async def _count(self, sources: Sequence[Source], *, after: float = 0.0) -> None:
        """Find out how many rows there are in all, if the sources can tell."""
        await self._parts.clock.sleep(after)
        total = 0
        for source in sources:
            rows = await source.count()
            if rows is None:
                return
            total += rows
        self._counters.total = total


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for the event, but no longer than so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
