"""L3: a list to records: each row planned, fetched by an engine, settled once, and written.

sources --rows--> feed --requests--> engine --records--> [command] --> settle --> writers
|                    ^
+--known--> look up -+
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

from fetcher.clock import Clock
from fetcher.commands import Commands
from fetcher.engines.base import Engine, give
from fetcher.errors import LocalError
from fetcher.events import Counters, Notice, Observer, RecordWriter, Settled
from fetcher.model import Outcome, Record, Request, Stop, Summary, to_line
from fetcher.options import Existing, Options
from fetcher.origins import Hold
from fetcher.plan import Planner, Repeated, carried, compared, has_other_digest, planned
from fetcher.recorder import Recorder
from fetcher.sources.base import Source
from fetcher.text import span_text

#: How long transfers under way may take to finish once the run is asked to stop, in seconds.
GRACE: Final = 5.0
#: How long counting the rest of the list may take when a run was stopped, in seconds.
_COUNTING: Final = 2.0
#: Counting the list for the display starts after this many seconds: the first requests go first.
_COUNT_AFTER: Final = 0.3
#: The feeder goes on when so many rows fewer are known than may be.
_REFILL: Final = 256
#: Look-ups of what earlier runs have stored go to the disk in batches of at most this many.
_LOOK_UPS: Final = 256
#: A share of failures means something among so many settled rows.
_SAMPLE: Final = 100

#: Transfers under way are of no use to these, and many of them fail at once with the first.
_AT_ONCE: Final = frozenset({Stop.PIPE, Stop.CLUSTER, *(reason for reason in Stop if reason.local)})


class Memory(Protocol):
    """What earlier runs have stored; see :class:`fetcher.journal.Journal`."""

    def knows(self, key: str) -> bool:
        """Tell whether a body for this request key was stored at some time."""
        ...

    async def find(self, keys: Sequence[str]) -> list[Record | None]:
        """Return for each key the record of its stored body, None if it is not there any more."""
        ...

    async def begin(self, keys: Sequence[str]) -> None:
        """Note that the bodies for these keys may be replaced from now on; raises LocalError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a run is made of.

    ``memory`` is None where nothing is kept; ``preview`` names the file that a dry run would make.
    """

    engine: Engine
    memory: Memory | None
    writers: Sequence[RecordWriter]
    clock: Clock
    counters: Counters
    observe: Observer
    preview: Callable[[Request], str | None]


class Run:
    """One run over some sources; :meth:`stop` may end it early, from a signal handler too."""

    def __init__(self, options: Options, parts: Parts) -> None:
        self._options = options
        self._parts = parts
        self._counters = parts.counters
        self._recorder = Recorder(parts.writers, self._written, self.give_up)
        #: What each request key is coming to: rows that repeat it and wait, then, until it is written, its record.
        self._coming: dict[str, list[Repeated] | Record] = {}
        self._look_ups: asyncio.Queue[Request | Repeated] = asyncio.Queue()
        self._outstanding = 0
        self._most = options.limits.look_ahead
        bounds = options.bounds
        self._failures_count = bounds.failures is not None or bounds.failed_share is not None
        self._fed = False
        self._commands: Commands | None = None
        if options.command is not None:
            self._commands = Commands(
                options.command, options.output.directory, self._conclude, parts.counters, parts.observe
            )
        self._stop: Stop | None = None
        self._stopped = ""
        self._told = False
        self._over = asyncio.Event()
        self._room = asyncio.Event()
        self._abort = asyncio.Event()

    async def __call__(self, sources: Sequence[Source], *, count: bool = False) -> Summary:
        """Settle every row of every source and return the run in numbers; with ``count`` count the rows meanwhile.

        A run that is stopped settles what was under way; the rest of the list is in ``not_started``.
        """
        async with self._recorder, asyncio.TaskGroup() as tasks:
            helpers = [tasks.create_task(self._feed(sources)), tasks.create_task(self._look_up())]
            if self._commands is not None:
                self._commands.begin(tasks)
            engine = tasks.create_task(self._parts.engine.run(self))
            if self._options.bounds.deadline is not None:
                helpers.append(tasks.create_task(self._expire(self._options.bounds.deadline)))
            if count:
                helpers.append(tasks.create_task(self._count(sources, after=_COUNT_AFTER)))
            await self._over.wait()
            for helper in helpers:
                helper.cancel()
            if self._stop is not None:
                await self._finish(0.0 if self._stop in _AT_ONCE else GRACE)
                self._recorder.hurry()
            engine.cancel()
        if self._stop is not None and self._counters.total is None:
            await give([asyncio.create_task(self._count(sources))], _COUNTING, self._abort)
        return self._counters.summary(self._parts.clock.monotonic(), self._stop, self._stopped)

    def stop(self, reason: Stop, words: str | None = None) -> None:
        """End the run: start nothing more, let transfers under way finish for a while. The second call drops them.

        ``words`` say why, better than the reason alone: of what is dropped, and in the summary.
        """
        if self._stop is None:
            self._stop = reason
            self._stopped = self._counters.stopping = words or reason.words
            self._parts.engine.stop(self._stopped)
            if self._commands is not None:
                self._commands.stop(self._stopped)
        elif reason not in _AT_ONCE:
            self._abort.set()
        self._over.set()

    async def _finish(self, seconds: float) -> None:
        """Give what is under way so long, then drop it."""
        engine = self._parts.engine.finish(seconds, self._abort)
        if self._commands is None:
            await engine
        else:
            await asyncio.gather(engine, self._commands.finish(seconds, self._abort))

    async def _expire(self, seconds: float) -> None:
        """Stop the run when its time is over."""
        await self._parts.clock.sleep(seconds)
        self._reach(f"stopped by --deadline {span_text(seconds)}")

    def _check_failures(self) -> None:
        """Stop the run if too much of it has failed."""
        bounds, counters = self._options.bounds, self._counters
        if bounds.failures is not None and counters.failed > bounds.failures:
            self._reach(f"stopped by --max-failures {bounds.failures}")
        share = bounds.failed_share
        if share is not None and counters.settled >= _SAMPLE and counters.failed > share * counters.settled:
            self._reach(f"stopped by --max-failures {100 * share:g}%")

    def _reach(self, words: str) -> None:
        """Stop at a limit, unless the run is ending anyway."""
        if self._stop is None and not self._over.is_set():
            self.stop(Stop.LIMIT, words)

    async def _feed(self, sources: Sequence[Source]) -> None:
        """Plan rows as long as there is room for what they ask for."""
        planner = Planner()
        for source in sources:
            async with aclosing(source.rows()) as rows:
                async for row in rows:
                    self._counters.read += 1
                    self._outstanding += 1
                    await self._admit(planner.plan(row))
                    while self._outstanding >= self._most:
                        self._room.clear()
                        await self._room.wait()
        self._fed = True
        self._counters.total = self._counters.read
        if not self._outstanding:
            self._over.set()

    async def _admit(self, decision: Request | Repeated | Record) -> None:
        """Send what was planned for a row on its way."""
        memory = self._parts.memory
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
                if memory is not None and memory.knows(decision.key):
                    self._look_ups.put_nowait(decision)
                else:
                    await self._enqueue(decision)

    async def _enqueue(self, request: Request) -> None:
        if self._options.dry_run:
            await self._settle(planned(request, self._parts.preview(request)), request.key)
            return
        self._parts.engine.add(request)

    async def _look_up(self) -> None:
        """Settle requests that an earlier run has served, or have them compared, and repetitions; pass on the others."""
        memory, queue, existing = self._parts.memory, self._look_ups, self._options.output.existing
        while memory is not None:
            batch = [await queue.get()]
            while not queue.empty() and len(batch) < _LOOK_UPS:
                batch.append(queue.get_nowait())
            requests = [item.request if isinstance(item, Repeated) else item for item in batch]
            found = await memory.find([request.key for request in requests])
            wanted: list[Request] = []
            for item, earlier in zip(batch, found, strict=True):
                if isinstance(item, Repeated):
                    await self._settle(self._repetition(item, earlier), None)
                elif earlier is None:
                    wanted.append(item)
                elif has_other_digest(item, earlier):
                    wanted.append(compared(item, earlier, conditional=False))
                elif existing is Existing.SKIP:
                    await self._settle(carried(item, earlier, Outcome.SKIPPED), item.key)
                else:
                    wanted.append(compared(item, earlier, conditional=existing is Existing.REFRESH))
            if wanted and await self._may_replace(memory, wanted):
                for request in wanted:
                    await self._enqueue(request)

    async def _may_replace(self, memory: Memory, requests: Sequence[Request]) -> bool:
        """Have it noted that these are fetched again; if it cannot be, the run ends."""
        if not self._options.dry_run:
            try:
                await memory.begin([request.key for request in requests])
            except LocalError as error:
                self.give_up(Stop.DISK, error.message)
                return False
        return True

    def started(self, request: Request) -> None:
        """Nothing: the engine counts what is under way."""

    def held(self, host: str, hold: Hold) -> None:
        """Let the display tell until when a host is left alone."""
        self._counters.hold(host, hold.until)

    def hurry(self) -> None:
        """Let writers take no longer than they must."""
        self._recorder.hurry()

    async def settle(self, settled: Settled) -> None:
        """Take a record from the engine; if there is a command to run for it, that comes first."""
        if self._commands is not None and self._commands.wants(settled.record):
            await self._commands.take(settled)
        else:
            await self._conclude(settled)

    async def _conclude(self, settled: Settled) -> None:
        """Count a record and those of the rows that waited for it, and hand them to the writers, in one step."""
        record, key = settled.record, settled.key
        batch = [settled]
        if key is not None:
            coming = self._coming.get(key)
            if isinstance(coming, list):
                self._coming[key] = record
                if coming:
                    records = (self._repetition(repeated, record) for repeated in coming)
                    batch += [Settled(record, to_line(record), None) for record in records]
        for each in batch:
            self._counters.settle(each.record)
        self._outstanding -= len(batch)
        if self._outstanding <= self._most - _REFILL:
            self._room.set()
        if self._fed and not self._outstanding:
            self._over.set()
        if self._failures_count:
            self._check_failures()
        await self._recorder.put(*batch)

    async def _settle(self, record: Record, key: str | None) -> None:
        await self._conclude(Settled(record, to_line(record), key))

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

    def give_up(self, reason: Stop, message: str) -> None:
        """Stop, and say why, once: one full disk fails many transfers."""
        if message and not self._told:
            self._told = True
            self._parts.observe(Notice(message))
        self.stop(reason)

    async def _count(self, sources: Sequence[Source], *, after: float = 0.0) -> None:
        """Find out how many rows there are in all, if the sources can tell."""
        await self._parts.clock.sleep(after)
        total = 0
        for source in sources:
            rows = await source.count()
            if rows is None:
                return
            total += rows
        if not self._fed:
            self._counters.total = total
