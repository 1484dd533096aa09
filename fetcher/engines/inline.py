"""L3: requests fetched in this process: the only file with a task per slot, and the semaphore.

    add --> gate --> scheduler --next--> slots --attempts--> settle
             ^           ^                 |
             |           +----retries------+
             +------robots.txt files-------+

A slot is a task that holds the semaphore and goes on with the next ready request until there is none.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from math import inf

from fetcher.asking import Asking
from fetcher.clock import Clock
from fetcher.engines.base import NONE, Customer, Past, give
from fetcher.errors import Error, ErrorKind, FetchError
from fetcher.events import Counters, Observer, Retrying, Ruled, Settled, Transfer
from fetcher.fetch import Fetch, Progress, PutOff
from fetcher.history import History, untried
from fetcher.hosts import Hosts
from fetcher.mirrors import at_mirror
from fetcher.model import Attempt, Request, Stop, to_line
from fetcher.options import Options
from fetcher.origins import Hold, Pushback, Refusal, Sign, sign_of
from fetcher.retry import RetryPolicy
from fetcher.robots import Ruling, UnknownRules, asks_for_rules
from fetcher.scheduler import Scheduler
from fetcher.text import size_text, span_text
from fetcher.urls import parse


class Inline:
    """Fetches requests as tasks of the running loop; see :class:`fetcher.engines.base.Engine`.

    ``counters`` hears of what waits and what is under way, ``observe`` of retries.
    """

    def __init__(self, options: Options, fetch: Fetch, clock: Clock, counters: Counters, observe: Observer) -> None:
        limits = options.limits
        self._fetch = fetch if limits.segments == 1 else fetch.on(self)
        self._clock = clock
        self._counters = counters
        self._observe = observe
        self._total = options.timeouts.total
        pushback = Pushback(options.retries.count, options.retries.max_wait)
        self._scheduler = Scheduler(limits, Hosts(options.hosts), pushback)
        self._retries = RetryPolicy(options.retries.count, options.retries.max_wait)
        #: Hosts that are down, or were a moment ago, and requests that are not made for that reason.
        self._down: set[str] = set()
        self._untried: deque[tuple[Request, Error]] = deque()
        self._settling = False
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._histories: dict[int, History] = {}
        self._asking = Asking(fetch, limits, fetch.gate) if fetch.gate is not None else None
        #: How far attempts have got that were put off.
        self._put_off: dict[int, tuple[Request, Progress]] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._customer: Customer | None = None
        self._stopped: str | None = None
        self._leaving = False
        self._changed = asyncio.Event()

    def add(self, request: Request, past: Past = NONE) -> None:
        """Take a request."""
        retried, not_before, history = past
        if history is not None:
            self._histories[request.index] = history
            request = history.mirror or request
        elif retried:
            clock = self._clock
            self._histories[request.index] = History(request, clock.now(), clock.monotonic(), len(retried), retried)
        self._take(request, not_before)

    def _take(self, request: Request, not_before: float | None = None) -> None:
        """Let a request wait for its turn, unless its host is down."""
        if self._down and (reason := self._why_down(request.host)):
            self._turn_away(request, reason)
            return
        self._admit(request, not_before=not_before)

    def hold(self, host: str, hold: Hold) -> None:
        """Leave a host alone, as another engine does."""
        self._scheduler.told(host, hold)
        self._shun(host)

    async def run(self, customer: Customer) -> None:
        """Give free slots to ready requests until it is stopped or cancelled."""
        clock = self._clock
        self._customer = customer
        async with asyncio.TaskGroup() as tasks:
            while self._stopped is None:
                self._changed.clear()
                now = clock.monotonic()
                while not self._slots.locked() and (request := self._next(now)) is not None:
                    await self._slots.acquire()
                    self._keep(tasks.create_task(self._work(request, customer)))
                if self._untried and not self._settling:
                    self._settling = True
                    self._keep(tasks.create_task(self._settle_untried(customer)))
                wake = None if self._slots.locked() else self._scheduler.wake_at(now)
                await _wait(self._changed, None if wake is None else max(0.0, wake - now))

    def stop(self, reason: str) -> None:
        """Start nothing more."""
        if self._stopped is None:
            self._stopped = reason
            self._changed.set()

    async def finish(self, seconds: float, abort: asyncio.Event) -> None:
        """Let the slots finish for a while, drop the rest, and settle what was started."""
        self._scheduler.drain()
        self._counters.waiting = self._counters.retrying = 0
        await give(self._working, seconds, abort)
        if self._customer is None:
            return
        self._customer.hurry()
        for index, (request, progress) in self._put_off.items():
            history = self._histories[index]
            transfer = Transfer(request, history.started)
            self._histories[index] = history.after(self._cancelled(transfer, history.attempts + 1, progress))
        for history in self._histories.values():
            if history.last is not None:
                await self._customer.settle(history.settled())

    async def borrow(self, host: str) -> bool:
        """Take a slot for a part of a body that is under way, if nothing else wants it."""
        if self._stopped is not None or self._leaving or self._slots.locked() or not self._scheduler.lend(host):
            return False
        await self._slots.acquire()
        return True

    def give_back(self, host: str) -> None:
        """Return a slot that was borrowed."""
        self._scheduler.returned(host, self._clock.monotonic())
        self._slots.release()
        self._changed.set()

    def refused(self, request: Request, attempt: Attempt) -> None:
        """Heed what a server has said to a request for a part."""
        if self._customer is not None:
            self._heed(request, attempt, self._customer)

    def leave(self) -> None:
        """Start nothing more, neither requests nor retries: all that waits is others' to do."""
        self._leaving = True

    def know(self, rulings: Iterable[Ruling]) -> None:
        """Learn what others have heard of origins' rules."""
        if self._asking is not None:
            self._asking.know(rulings)

    @property
    def rulings(self) -> list[Ruling]:
        """What others had better know of origins' rules."""
        return [] if self._asking is None else self._asking.rulings

    async def left(self) -> list[History]:
        """Wait, after :meth:`leave`, for what is under way, and return what is to be tried again."""
        while self._working:
            await asyncio.wait(self._working)
        return [history for history in self._histories.values() if history.last is not None]

    def _admit(self, request: Request, *, not_before: float | None = None, asked: float = -inf) -> None:
        """Let a request wait for its turn, if it is allowed; if that is not known, until it is.

        ``asked`` is when its origin was asked, if that was a moment ago.
        """
        if self._asking is not None and request.index not in self._put_off:
            try:
                apart = self._asking.gate.check(parse(request.target), self._clock.monotonic())
            except UnknownRules as unknown:
                self._wait_for_rules(request, unknown.origin)
                return
            except FetchError as refusal:
                self._refuse(request, refusal.error)
                return
            if apart:
                self._scheduler.space(request.host, apart, asked)
        self._scheduler.add(request, not_before)
        self._offer()

    def _wait_for_rules(self, request: Request, origin: str) -> None:
        """Keep a request from its turn until an origin's rules are known, and see to it that they will be."""
        asking = self._asking.gate.wait(origin, request) if self._asking is not None else None
        if asking is not None:
            self._scheduler.add(asking)
            self._offer()

    def _refuse(self, request: Request, error: Error) -> None:
        """Let a request be settled that is not made, or not again."""
        self._untried.append((request, error))
        self._changed.set()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    def _offer(self) -> None:
        """Tell the dispatcher of something to start, unless a slot that ends will find it."""
        if not self._slots.locked():
            self._changed.set()

    def _next(self, now: float) -> Request | None:
        """Return a request that starts now, None if none may."""
        if self._stopped is not None or self._leaving:
            return None
        request = self._scheduler.next(now)
        waiting = len(self._scheduler)
        if self._asking is not None:
            waiting += self._asking.gate.waiting
        self._counters.waiting, self._counters.retrying = waiting, self._scheduler.delayed
        return request

    async def _work(self, request: Request | None, customer: Customer) -> None:
        """Hold one slot, which the dispatcher has taken, as long as there is something to start."""
        try:
            while request is not None and self._stopped is None:
                if self._asking is not None and asks_for_rules(request):
                    await self._ask(request, self._asking, customer)
                else:
                    await self._try(request, customer)
                request = self._next(self._clock.monotonic())
        finally:
            self._slots.release()
            self._changed.set()

    async def _try(self, request: Request, customer: Customer) -> None:
        """Make one attempt, then settle the request or add it again for later."""
        clock, counters = self._clock, self._counters
        started = clock.monotonic()
        _, progress = self._put_off.pop(request.index, (None, None))
        history = self._histories.get(request.index) or History(request.primary or request, clock.now(), started)
        transfer = Transfer(request, started, last_byte=started)
        customer.started(request)
        counters.active[request.index] = transfer
        number = history.attempts + 1
        try:
            attempt = await self._fetch.attempt(transfer, number, self._total, self._observe, progress)
        except asyncio.CancelledError:
            self._histories[request.index] = history.after(self._cancelled(transfer, number, progress))
            raise
        except PutOff as put_off:
            self._histories[request.index] = history
            self._put_off[request.index] = request, put_off.progress
            self._wait_for_rules(request, put_off.origin)
            return
        else:
            self._heed(request, attempt, customer)
        finally:
            del counters.active[request.index]
            counters.ended_bytes += transfer.received
            self._scheduler.finished(request, clock.monotonic())
        history = history.after(attempt)
        error = attempt.error
        if error is not None and error.kind == ErrorKind.DISK:
            customer.give_up(Stop.DISK, error.message)
        retried = history.retried[history.elsewhere :]
        delay = self._retries.delay(attempt, retried, clock.random()) if self._stopped is None else None
        if delay is not None and self._down and self._why_down(request.host):
            delay = None
        again: Request | None = request
        if error is not None and delay is None and self._stopped is None and (again := at_mirror(request, error)):
            delay, history = 0.0, history.at_mirror(again)
        if error is None or delay is None or again is None:
            self._histories.pop(request.index, None)
            await customer.settle(history.settled())
            return
        self._histories[request.index] = history
        counters.retry(request.host, error.kind)
        self._observe(Retrying(request, error, number, delay))
        if again is not request:
            self._take(again)
            return
        self._scheduler.add(request, clock.monotonic() + delay)
        self._offer()

    async def _ask(self, request: Request, asking: Asking, customer: Customer) -> None:
        """Make one attempt at a robots.txt; then let those go on that wait for it, or add it again for later."""
        clock = self._clock
        started = clock.monotonic()
        origin = parse(request.target).origin
        retried = asking.failed.pop(origin, ())
        transfer = Transfer(request, started, last_byte=started)
        try:
            attempt, body = await asking.attempt(transfer, len(retried) + 1, self._total, self._observe)
            self._heed(request, attempt, customer)
        finally:
            self._scheduler.finished(request, clock.monotonic())
        if self._stopped is not None:
            return
        if reason := self._why_down(request.host):
            self._turn_away(request, reason)
            return
        delay = self._retries.delay(attempt, retried, clock.random())
        if attempt.error is not None and delay is not None:
            asking.failed[origin] = (*retried, attempt.error.kind)
            self._scheduler.add(request, clock.monotonic() + delay)
            self._observe(Ruled(request.url, f"{attempt.error.message}, asked again in {span_text(delay)}"))
        else:
            self._observe(Ruled(request.url, await asking.learn(request, attempt, body)))
            for waiting in asking.release(request):
                self._admit(waiting, asked=started)
        self._offer()

    def _heed(self, request: Request, attempt: Attempt, customer: Customer) -> None:
        """Let the scheduler know what an attempt tells about its host, and, after redirects, about the one that ended it."""
        host, head = request.host, attempt.head
        match sign_of(attempt):
            case Sign.REFUSED:
                if head is not None and attempt.redirects:
                    self._answered(host, attempt)
                    host = parse(head.url).host
                hold = self._scheduler.refused(host, Refusal.of(attempt, self._clock.random()))
            case Sign.ANSWERED:
                self._answered(host, attempt)
                return
            case Sign.NONE:
                return
            case _:
                hold = self._scheduler.unreached(host, attempt.started, attempt.ended)
        if hold is not None:
            customer.held(host, hold)
            self._shun(host)

    def _shun(self, host: str) -> None:
        """Make no requests to a host if they had better not wait for it."""
        if reason := self._scheduler.down(host, self._clock.monotonic()):
            self._down.add(host)
            for each in self._scheduler.withdraw(host):
                self._turn_away(each, reason)

    def _turn_away(self, request: Request, reason: str) -> None:
        """Let a request be settled whose host is down, or all that wait for what it asks for."""
        error = Error.of(ErrorKind.HOST_DOWN, f"not tried: {request.host}: {reason}")
        if self._asking is not None and asks_for_rules(request):
            for each in self._asking.release(request):
                self._refuse(each, error)
        else:
            self._refuse(request, error)

    def _answered(self, host: str, attempt: Attempt) -> None:
        if self._scheduler.answered(host, attempt.started, attempt.ended):
            self._offer()

    def _why_down(self, host: str) -> str:
        """Return why requests to a host are not worth making; empty if it is time to try."""
        if host not in self._down:
            return ""
        reason = self._scheduler.down(host, self._clock.monotonic())
        if not reason:
            self._down.discard(host)
        return reason

    async def _settle_untried(self, customer: Customer) -> None:
        """Settle what was not tried, or not again, until there is none or the run is stopped."""
        try:
            while self._untried and self._stopped is None:
                request, error = self._untried.popleft()
                self._put_off.pop(request.index, None)
                history = self._histories.pop(request.index, None)
                if (mirror := at_mirror(request)) is not None:
                    if history is not None:
                        self._histories[request.index] = history.at_mirror(mirror)
                    self._take(mirror)
                    continue
                if history is not None and history.last is not None:
                    await customer.settle(history.settled())
                else:
                    record = untried(request, error)
                    await customer.settle(Settled(record, to_line(record), request.key))
        finally:
            self._settling = False

    def _cancelled(self, transfer: Transfer, number: int, progress: Progress | None) -> Attempt:
        failure = FetchError(ErrorKind.CANCELLED, f"{self._stopped or 'stopped'} after {size_text(transfer.received)}")
        return Attempt(
            number=number,
            started=transfer.started,
            ended=self._clock.monotonic(),
            head=progress.head if progress is not None else None,
            error=failure.error,
            redirects=progress.redirects if progress is not None else (),
            wire_bytes=transfer.received,
        )


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for the event, but no longer than so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
