"""``python -m bench.simulate``: the planner of a cluster with a list that no machine here could fetch, in virtual time.

Exact, with the program's own code: the beginning of a shuffled list (LINES of 100 million) is dealt out to lanes, cut
into chunks, and started by each chunk's scheduler, request by request, as on a cluster; only the requests themselves are
made up, each taking as long as its host takes, between 0.05 and 0.6 seconds, 0.18 on average. Hosts are drawn from 5
million by Zipf's law, so that the first has one line in sixteen. A chunk is under way 0.1 seconds after it was made, and
what it tells is heard 0.1 seconds later.

By calculation: the whole list. It takes as long as the slowest of three: all of its lines at the pace of the part that was
simulated, all of its lines at the pace of the command's own process, and the lines of its largest host at that host's.
"""

import argparse
import random
import resource
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import exp, log
from typing import Final, NamedTuple

from fetcher.chunks import MOST, PATIENCE, Backlog, paces, room, size
from fetcher.hosts import Hosts
from fetcher.lanes import Lanes, keeps, share, worker_count
from fetcher.model import Request
from fetcher.options import Limits, Options
from fetcher.scheduler import Scheduler

LIST: Final = 100_000_000
HOSTS: Final = 5_000_000
#: Seconds until a chunk is under way, and until it is heard of what has happened; when it starts nothing more.
_START: Final = 0.1
_TELL: Final = 0.1
_TIME: Final = 30.0
#: Lines a second that the command's own process settles; measured, see docs/scale.md.
_SETTLED: Final = 8_000
_FASTEST: Final = 0.05
_SLOWEST: Final = 0.6


def lines(number: int) -> Iterator[Request]:
    """Yield the first lines of the list."""
    dice = random.Random(1)
    for index in range(number):
        host = f"h{int(exp(dice.random() * log(HOSTS + 1)))}"
        yield Request(index, "", "", host, "list", index + 1)


def seconds(host: str) -> float:
    """Return how long this host takes: evenly distributed on a logarithmic scale."""
    return float(_FASTEST * (_SLOWEST / _FASTEST) ** random.Random(host).random())


@dataclass(eq=False)
class _Lane:
    options: Options
    backlog: Backlog
    open: "_Chunk | None" = None
    active: int = 0
    drives_at: float = -1.0
    left: float = -PATIENCE


@dataclass(eq=False)
class _Chunk:
    lane: _Lane
    scheduler: Scheduler
    slots: int
    ends: float
    waiting: dict[int, Request]
    active: int = 0
    leaving: bool = False


class Result(NamedTuple):
    """What came of one simulation; ``busy`` is the share of the slots that were in use until the list was read."""

    lanes: int
    chunks: int
    pace: float
    busy: float
    per_host: int


@dataclass(eq=False)
class Simulation:
    """One run; times are virtual seconds."""

    options: Options
    wanted: int
    number: int
    now: float = 0.0
    _events: list[tuple[float, int, str, object, Request | None]] = field(default_factory=list)
    _active: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Deal out limits as a run does."""
        options = self.options
        lanes = worker_count(options, self.wanted)
        shares = [share(options, lanes, number) for number in range(lanes)]
        self._lanes = [_Lane(each, Backlog(each.limits.concurrency, paces(each))) for each in shares]
        self._dealer = Lanes(lanes, keeps(options, lanes))
        self._number_of = {id(lane): number for number, lane in enumerate(self._lanes)}
        self._rows = lines(self.number)
        self._sequence = count()
        self._outstanding = self._chunks = self._settled = self._most = self._running = 0
        self._busy = 0.0
        self._read_at = self._busy_then = 0.0
        self._settled_then = 0
        self._fed = False

    def __call__(self) -> Result:
        """Let it run to its end."""
        self._feed()
        while self._events:
            at, _, what, subject, request = heappop(self._events)
            self._busy += (at - self.now) * self._running
            self.now = at
            match what, subject:
                case "drive", _Lane() as lane:
                    self._drive(lane)
                case "pump", _Chunk() as chunk:
                    self._pump(chunk)
                case "finish", _Chunk() as chunk:
                    self._finish(chunk, request)
                case "told", _Chunk() as chunk:
                    self._told(chunk, request)
        slots = self.options.limits.concurrency
        if not self._read_at:
            self._read_at, self._busy_then, self._settled_then = self.now, self._busy, self._settled
        return Result(
            lanes=len(self._lanes),
            chunks=self._chunks,
            pace=self._settled_then / self._read_at,
            busy=self._busy_then / (slots * self._read_at),
            per_host=self._most,
        )

    def _at(self, seconds_later: float, what: str, subject: object, request: Request | None = None) -> None:
        heappush(self._events, (self.now + seconds_later, next(self._sequence), what, subject, request))

    def _feed(self) -> None:
        """Read as far ahead as a run does."""
        while not self._fed and self._outstanding < self.options.limits.look_ahead:
            request = next(self._rows, None)
            if request is None:
                self._fed = True
                self._read_at, self._busy_then, self._settled_then = self.now, self._busy, self._settled
                break
            self._outstanding += 1
            lane = self._lanes[self._dealer.assign(request.host)]
            lane.backlog.add(request)
            if lane.open is None:
                self._wake(lane, self.now + 0.05)

    def _wake(self, lane: _Lane, at: float) -> None:
        if lane.drives_at <= self.now or at < lane.drives_at:
            lane.drives_at = at
            self._at(at - self.now, "drive", lane)

    def _drive(self, lane: _Lane) -> None:
        """Make the lane's next chunk."""
        if lane.open is not None:
            return
        own = lane.options.limits.concurrency
        slots = room(own, own - lane.active, self.now - lane.left)
        if not slots:
            if self.now < lane.left + PATIENCE:
                self._wake(lane, lane.left + PATIENCE)
            return
        requests = lane.backlog.take(self.now, size(MOST, own, slots))
        if not requests:
            wake = lane.backlog.wake_at(self.now)
            if wake is not None:
                self._wake(lane, wake)
            return
        self._chunks += 1
        scheduler = Scheduler(lane.options.limits, Hosts(lane.options.hosts))
        waiting = {request.index: request for request in requests}
        for request in requests:
            scheduler.add(request)
        lane.open = _Chunk(lane, scheduler, slots, self.now + _START + _TIME, waiting)
        self._at(_START, "pump", lane.open)
        self._at(_START + _TIME, "pump", lane.open)

    def _pump(self, chunk: _Chunk) -> None:
        """Start what may start; leave when nothing is left to be, or time is up."""
        while not chunk.leaving and chunk.active < chunk.slots:
            request = chunk.scheduler.next(self.now)
            if request is None:
                break
            del chunk.waiting[request.index]
            chunk.active += 1
            chunk.lane.active += 1
            self._running += 1
            self._active[request.host] += 1
            self._most = max(self._most, self._active[request.host])
            self._at(seconds(request.host), "finish", chunk, request)
        if not chunk.leaving and (not chunk.waiting or self.now >= chunk.ends):
            chunk.leaving = True
            self._at(_TELL, "told", chunk)
        elif not chunk.leaving and not chunk.active:
            wake = chunk.scheduler.wake_at(self.now)
            if wake is not None:
                self._at(max(0.01, wake - self.now), "pump", chunk)

    def _finish(self, chunk: _Chunk, request: Request | None) -> None:
        """End a request."""
        if request is None:
            return
        chunk.active -= 1
        self._running -= 1
        self._active[request.host] -= 1
        chunk.scheduler.finished(request, self.now)
        self._at(_TELL, "told", chunk, request)
        self._pump(chunk)

    def _told(self, chunk: _Chunk, request: Request | None) -> None:
        """Hear of the end of a request, or that a chunk leaves, and go on."""
        lane = chunk.lane
        if request is not None:
            lane.active -= 1
            self._settled += 1
            self._outstanding -= 1
            lane.backlog.done(request.host, self.now)
            self._dealer.finished(request.host, self._number_of[id(lane)])
            self._feed()
        elif lane.open is chunk:
            lane.open = None
            lane.left = self.now
        if chunk.leaving and not chunk.active and chunk.waiting:
            for each in chunk.waiting.values():
                lane.backlog.done(each.host, self.now)
                lane.backlog.add(each)
            chunk.waiting = {}
        self._wake(lane, self.now)


def span(seconds_taken: float) -> str:
    """Return a time as people say it."""
    hours = seconds_taken / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h"


def whole(result: Result, per_host: int | None) -> str:
    """Return how long the whole list takes, and why."""
    largest = LIST / log(HOSTS + 1) * log(2)
    host = 0.0 if per_host is None else largest * seconds("h1") / per_host
    bounds = {"the workers": LIST / result.pace, "the command": LIST / _SETTLED, "the largest host": host}
    why = max(bounds, key=lambda each: bounds[each])
    return f"{span(bounds[why])}, by {why}"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulate", description="Simulate a cluster's planner.")
    parser.add_argument("--lines", type=int, default=200_000, help="how many lines of the list are simulated")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000])
    arguments = parser.parse_args()
    print("| workers | -c | --per-host | chunks | URLs/s | slots in use | most of a host | 100 million URLs | memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    for workers in arguments.workers:
        for per_host in (None, 8):
            concurrency = min(10_000, 50 * workers)
            limits = Limits(concurrency=concurrency, per_host=per_host)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            result = Simulation(Options(limits=limits), workers, arguments.lines)()
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            print(
                f"| {workers:,} | {concurrency:,} | {per_host or '-'} | {result.chunks:,} | {result.pace:,.0f} "
                f"| {result.busy:.0%} | {result.per_host} | {whole(result, per_host)} | {grown:.0f} MiB more |",
                flush=True,
            )


if __name__ == "__main__":
    main()
