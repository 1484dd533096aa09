"""L3: requests fetched by other machines, in chunks, through a place that all share.

            .--- one chunk at a time starts requests ---.
list --> lane --chunk--> pool --> some machine --told--> lane --> settle
            ^                                             |
            +-- handed back: held, waiting, or bereft ----+

Chunks put bodies together below ``.fetcher/parts``; a body gets its name here, when its record is taken. So each
request counts once, with the first record that is taken of it, and names are given as in any other run.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from fetcher.chunks import MOST, Backlog, paces, size
from fetcher.clock import Clock
from fetcher.disk import Disk
from fetcher.engines.base import NONE, Customer, Past, all_set
from fetcher.engines.channel import (
    Abort,
    Begun,
    Cease,
    Done,
    Ended,
    Finish,
    GivenUp,
    Heard,
    Held,
    Laid,
    Learned,
    Leaving,
    Left,
    Message,
    Order,
    Pulse,
)
from fetcher.engines.chunk import Chunk
from fetcher.engines.lane import Lane, Work
from fetcher.engines.ledger import Account, Entry, Ledger
from fetcher.engines.lore import Lore
from fetcher.engines.pool import Pool, State
from fetcher.engines.spool import Inbox, Outbox, Space
from fetcher.errors import LocalError, words_of
from fetcher.events import Counters, Machines, Observer, Retrying, Settled
from fetcher.lanes import Lanes
from fetcher.model import Outcome, Request, Stop, to_line
from fetcher.naming import PARTS
from fetcher.options import Options
from fetcher.origins import Hold
from fetcher.sinks.base import Adopter
from fetcher.text import printable

#: How many looks at what chunks have told there are a second, in all.
_LOOKS: Final = 2_000
#: Seconds in which a lane that has had nothing to do gathers a chunk.
_GATHER: Final = 0.05
#: How much longer than its transfers a chunk may take to hear that it is to end, and then to end, in seconds.
_SLACK: Final = 2.0
#: What a chunk that died had not done is in so many others.
_PARTS: Final = 4
#: So many chunks in a row that end before they begin anything are a fault of the cluster.
_BARREN: Final = 4


@dataclass(frozen=True, slots=True)
class Site:
    """What a cluster works with: the options of each lane, who gets which request, and who gives bodies their names.

    ``abroad`` has limits for hosts that are another lane's; ``space`` is shared by all machines, and ``name``
    that of the run's own place in it.
    """

    options: Sequence[Options]
    abroad: Options
    lanes: Lanes
    sink: Adopter
    disk: Disk
    space: Space
    name: str


class Cluster:
    """Fetches requests with the machines of a pool; see :class:`fetcher.engines.base.Engine`.

    The run's own process plans, names bodies, settles and writes. Of a chunk whose machine dies, what it had told
    counts, and the rest is in another chunk; what the machine was at then is a retry.
    """

    def __init__(self, pool: Pool, site: Site, clock: Clock, counters: Counters, observe: Observer) -> None:
        #: Whether there may be chunks of which it cannot be told what they are at.
        self.lost = False
        self._pool = pool
        self._site = site
        self._clock = clock
        self._counters = counters
        self._ledger = Ledger(clock, counters, observe)
        self._observe = observe
        self._disk = site.disk
        self._orders = Outbox(site.space, f"{site.name}/orders", self._disk)
        self._lanes = [
            Lane(number, options, Backlog(options.limits.concurrency, paces(options)))
            for number, options in enumerate(site.options)
        ]
        self._lore = Lore()
        self._number = 0
        self._barren = 0
        self._customer: Customer | None = None
        self._stopped: str | None = None

    def add(self, request: Request, past: Past = NONE) -> None:
        """Take a request."""
        lane = self._lanes[self._site.lanes.assign(request.host)]
        self._queue(lane, request.key, Entry(request, past))

    def hold(self, host: str, hold: Hold) -> None:
        """Leave a host alone, as another engine does."""
        self._lore.hold(host, hold, self._clock.monotonic())
        for lane in self._lanes:
            self._lore.keep_to(lane, host)
        self._orders.send(Held(host, hold))

    async def run(self, customer: Customer) -> None:
        """Keep every lane busy until it is stopped or cancelled; gives up if the cluster fails."""
        self._customer = customer
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._command(customer))
            for lane in self._lanes:
                tasks.create_task(self._drive(lane, customer))

    async def _command(self, customer: Customer) -> None:
        try:
            await self._orders.run(self._clock)
        except OSError as error:
            self._fail(words_of(error, str(error)), customer)

    def stop(self, reason: str) -> None:
        """Start nothing more."""
        if self._stopped is None:
            self._stopped = reason
            self._orders.send(Cease(reason))
            for lane in self._lanes:
                lane.changed.set()

    async def finish(self, seconds: float, abort: asyncio.Event) -> None:
        """Let the chunks finish for a while, drop the rest, and settle what was started."""
        self._orders.send(Finish(seconds))
        pause = self._site.space.pause
        slack = _SLACK + 4 * pause
        works = [work for lane in self._lanes for work in lane.works]
        over = [work.over for work in works]
        await all_set(over, seconds + slack, abort)
        self._orders.send(Abort())
        await all_set(over, 2 * pause)  # for the order to be written
        for work in works:
            work.job.release()
        if self._customer is not None:
            self._customer.hurry()
        await all_set(over, slack)
        accounts = [work.account for lane in self._lanes for work in lane.works]
        for account in (*accounts, *(lane.account for lane in self._lanes)):
            for settled in self._ledger.drop(account, self._stopped or "stopped"):
                if self._customer is not None:
                    await self._customer.settle(settled)
            self._ledger.silence(account)

    async def _drive(self, lane: Lane, customer: Customer) -> None:
        """Have one chunk after the other fetched; the next begins when the one before starts nothing more."""
        patient = lane.options.limits.max_speed is not None  # which whatever is under way takes its part of
        try:
            async with asyncio.TaskGroup() as tasks:
                while self._stopped is None:
                    lane.changed.clear()
                    now = self._clock.monotonic()
                    slots = lane.room(now)
                    requests = lane.backlog.take(now, size(lane.most, lane.slots, slots)) if slots else []
                    if not requests:
                        await self._idle(lane, now)
                        continue
                    work = self._submit(lane, requests, slots)
                    tasks.create_task(self._follow(work, customer))
                    await (work.over if patient else work.leaving).wait()
                    lane.left = self._clock.monotonic()
        finally:
            self._ledger.silence(lane.account)

    async def _idle(self, lane: Lane, now: float) -> None:
        """Wait until there may be something to do, and then, for it to be more, a moment."""
        wake = lane.wake_at(now)
        seconds = None if wake is None else wake - now
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await lane.changed.wait()
        await self._clock.sleep(_GATHER)

    def _submit(self, lane: Lane, requests: Sequence[Request], slots: int) -> Work:
        """Make a chunk of these requests, and have it fetched with so many slots."""
        entries = {request.key: lane.account.entries.pop(request.key) for request in requests}
        self._show(lane)
        self._number += 1
        now = self._clock.monotonic()
        hosts = dict.fromkeys(request.host for request in requests)
        chunk = Chunk(
            name=f"{self._site.name}/{self._number}",
            space=self._site.space,
            orders=self._orders.name,
            begin=self._orders.end,
            abroad=self._site.abroad,
            options=replace(lane.options, limits=replace(lane.options.limits, concurrency=slots)),
            requests=tuple(Order(entry.request, entry.past) for entry in entries.values()),
            holds=tuple(self._lore.holds(hosts, now)),
            rulings=tuple(self._lore.rulings(lane, requests, now)),
            epoch=self._clock.now() - now,
        )
        work = Work(lane, chunk, self._pool.submit(chunk), Inbox(chunk.space, chunk.told), Account(entries))
        lane.works.add(work)
        self._count_machines()
        return work

    def _count_machines(self) -> None:
        """Let the display know what there is."""
        busy = sum(bool(lane.works) for lane in self._lanes)
        self._counters.machines = Machines(self._pool.workers, len(self._lanes), busy)

    async def _follow(self, work: Work, customer: Customer) -> None:
        """Take what a chunk tells until it is over, and see to what it has not done."""
        try:
            while True:
                state = work.job.state  # before reading, so that nothing is told afterwards
                messages = await self._disk.run(work.inbox.read)
                await self._hear(work, messages, customer)
                if work.ended or state is not State.OPEN:
                    break
                if not messages:
                    await self._clock.sleep(
                        max(self._site.space.pause, sum(len(lane.works) for lane in self._lanes) / _LOOKS)
                    )
            if work.ended or state is State.OVER:
                await self._close(work, customer)
            elif self._stopped is None:
                self._fail(printable(await work.job.reason(), 300), customer)
        except OSError as error:
            self._fail(words_of(error, str(error)), customer)
        finally:
            work.job.release()
            work.leaving.set()
            work.over.set()
            self._ledger.silence(work.account)
            for entry in work.account.entries.values():
                self._counters.active.pop(entry.request.index, None)

    def _fail(self, reason: str, customer: Customer) -> None:
        self.lost = True
        customer.give_up(Stop.CLUSTER, f"the cluster failed: {reason}")

    async def _close(self, work: Work, customer: Customer) -> None:
        """Put what a chunk has not settled where it came from."""
        lane, entries = work.lane, work.account.entries
        if work.ended:
            self._barren = 0
            lane.most = min(MOST, 2 * lane.most)
        elif self._stopped is None:
            self._barren = 0 if work.inbox.at else self._barren + 1
            lane.most = max(1, len(entries) // _PARTS)
            if len(work.chunk.requests) == 1:
                for entry in entries.values():
                    self._ledger.begun(entry)  # whether or not it came to tell
            for key, entry in self._ledger.mourn(work.account):
                self._forget(work, key)
                await customer.settle(self._ledger.end(entry))
            if self._barren >= _BARREN:
                self._fail("its workers end as soon as they begin", customer)
        if self._stopped is not None and not work.ended:
            return  # what it was at is settled with the rest
        lane.works.discard(work)
        self._count_machines()
        work.account.entries = {}
        now = self._clock.monotonic()
        for key, entry in entries.items():
            self._ledger.ended(work.account, entry)
            entry.transfer = None  # which one has that was put off
            lane.backlog.done(entry.request.host, now)
            self._queue(lane, key, entry)
        lane.changed.set()
        work.job.release()
        if work.ended:
            await self._disk.run(work.chunk.space.remove, work.chunk.name)

    def _queue(self, lane: Lane, key: str, entry: Entry) -> None:
        """Let a request wait for a chunk."""
        lane.account.entries[key] = entry
        lane.backlog.add(entry.request, entry.past.not_before)
        self._lore.keep_to(lane, entry.request.host)
        self._show(lane)
        lane.changed.set()

    def _show(self, lane: Lane) -> None:
        self._ledger.show(lane.account, Pulse(len(lane.backlog), lane.backlog.delayed, lane.account.bytes, ()))

    async def _hear(self, work: Work, messages: Sequence[Message], customer: Customer) -> None:
        """Take messages: what is done first, so that it is not shown as under way; its bodies get their names together."""
        account, ended_bytes = work.account, work.account.bytes
        dones = {each.key: each for each in messages if isinstance(each, Done) and each.key in account.entries}
        for message in messages:
            match message:
                case Begun(key) if key in account.entries:
                    self._keep_rates(work.lane, account.entries[key].request.host)
                case Laid(request, told) if request.key in account.entries:
                    account.entries[request.key].told = told
        entries = [self._forget(work, key) for key in dones]
        for message in messages:
            if isinstance(message, Done | Pulse):
                ended_bytes = message.ended_bytes
            if not isinstance(message, Done):
                self._take(work, message, customer)
        self._ledger.count(account, ended_bytes)
        named = (self._named(done, entry, customer) for done, entry in zip(dones.values(), entries, strict=True))
        for settled in await asyncio.gather(*named):
            await customer.settle(settled)
        work.lane.changed.set()

    def _take(self, work: Work, message: Message, customer: Customer) -> None:
        """Do what a message from a chunk asks for."""
        account = work.account
        match message:
            case Begun(key) if key in account.entries:
                self._ledger.begun(account.entries[key])
            case Pulse():
                self._ledger.show(account, message)
            case Held(host, hold):
                self.hold(host, hold)
                customer.held(host, hold)
            case Heard(event):
                if isinstance(event, Retrying):
                    self._ledger.retried(account, event)
                self._observe(event)
            case GivenUp(reason, words):
                customer.give_up(reason, words)
            case Left(history):
                self._ledger.handed_back(account, history)
            case Learned(ruling):
                self._lore.learn(ruling)
            case Leaving() | Ended():
                work.leaving.set()
                work.ended = isinstance(message, Ended)

    def _keep_rates(self, lane: Lane, host: str) -> None:
        """Note that an attempt has begun, for the rates that hold over chunks too."""
        now, rate = self._clock.monotonic(), lane.options.limits.rate
        lane.backlog.begun(host, now)
        if rate is not None:
            lane.clear = max(lane.clear, now) + 1 / rate

    def _forget(self, work: Work, key: str) -> Entry:
        """Let go of a request that is settled, and return all that was known of it."""
        entry = work.account.entries.pop(key)
        self._site.lanes.finished(entry.request.host, work.lane.number)
        work.lane.backlog.done(entry.request.host, self._clock.monotonic())
        self._ledger.ended(work.account, entry)
        return entry

    async def _named(self, done: Done, entry: Entry, customer: Customer) -> Settled:
        """Return a record with its body in its place."""
        record, line, key, _ = done
        if record.path is None or record.sha256 is None or not record.path.startswith(f"{PARTS}/"):
            return Settled(record, line, key)
        try:
            path = await self._site.sink.adopt(entry.request, entry.told, record.path, record.sha256)
            record = replace(record, path=path)
        except LocalError as error:
            customer.give_up(Stop.DISK, error.message)
            record = replace(
                record, outcome=Outcome.FAILED, error=error.error, path=None, bytes=None, sha256=None, changed=None
            )
        return Settled(record, to_line(record), key)
