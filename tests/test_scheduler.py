"""The scheduler, driven by numbers: who starts when, never too many, never too fast, nobody forgotten."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fetcher.hosts import Hosts
from fetcher.limits import TokenBucket
from fetcher.model import Request
from fetcher.options import HostOptions, Limits
from fetcher.origins import MEMORY, Pushback, Refusal
from fetcher.scheduler import Scheduler

#: Float arithmetic may be off by this many seconds.
ROUNDING = 1e-9
PUSHBACK = Pushback(retries=3, max_wait=300.0)


def request(host: str, index: int = 0) -> Request:
    """Make a request to a host."""
    url = f"http://{host}/{index}"
    return Request(index, url, url, host, "urls.txt", index + 1)


def filled(hosts: Iterable[str], scheduler: Scheduler | None = None) -> Scheduler:
    """Return a scheduler with one request for each letter, in this order."""
    scheduler = Scheduler(Limits()) if scheduler is None else scheduler
    for index, host in enumerate(hosts):
        scheduler.add(request(host, index))
    return scheduler


def ready(scheduler: Scheduler, now: float) -> list[Request]:
    """Take all that may start now."""
    return list(iter(lambda: scheduler.next(now), None))


def hosts(requests: Iterable[Request]) -> str:
    """Spell the order of hosts."""
    return "".join(request.host for request in requests)


def indexes(requests: Iterable[Request]) -> list[int]:
    """Spell the order of requests."""
    return [request.index for request in requests]


def simulate(scheduler: Scheduler, slots: int, seconds: float) -> list[tuple[float, Request]]:
    """Run all that waits on a virtual clock, each request taking so long; return who started when."""
    running: list[tuple[float, int, Request]] = []
    started: list[tuple[float, Request]] = []
    now = 0.0
    while True:
        while len(running) < slots and (following := scheduler.next(now)) is not None:
            heappush(running, (now + seconds, len(started), following))
            started.append((now, following))
        wake = scheduler.wake_at(now) if len(running) < slots else None
        if running and (wake is None or running[0][0] <= wake):
            now, _, done = heappop(running)
            scheduler.finished(done, now)
        elif wake is not None:
            assert wake > now, "a busy loop"
            now = wake
        else:
            return started


def test_hosts_take_turns() -> None:
    """One from each host in the order in which they came, each host's own requests in theirs."""
    taken = ready(filled("aaabbc"), 0.0)
    assert hosts(taken) == "abcaba"
    assert indexes(taken) == [0, 3, 5, 1, 4, 2]


def test_a_host_that_comes_back_goes_to_the_end() -> None:
    """Whoever got a slot waits until the others had one."""
    scheduler = filled("aabb", Scheduler(Limits(per_host=1)))
    first, second = ready(scheduler, 0.0)
    scheduler.finished(second, 0.0)
    scheduler.finished(first, 0.0)
    assert hosts(ready(scheduler, 0.0)) == "ba"


@pytest.mark.parametrize(("per_host", "taken"), [(None, "abaaa"), (1, "ab"), (2, "aba"), (4, "abaaa"), (9, "abaaa")])
def test_no_host_gets_more_than_its_share_at_once(per_host: int | None, taken: str) -> None:
    """``per_host`` bounds what runs; without it everything may."""
    assert hosts(ready(filled("aaaab", Scheduler(Limits(per_host=per_host))), 0.0)) == taken


def test_an_end_makes_room_for_one() -> None:
    """When a request ends, one of the same host may start, and there is no time at which that happens by itself."""
    scheduler = filled("aaa", Scheduler(Limits(per_host=1)))
    (running,) = ready(scheduler, 0.0)
    assert scheduler.wake_at(0.0) is None
    scheduler.finished(running, 0.0)
    assert scheduler.wake_at(0.0) == 0.0
    assert indexes(ready(scheduler, 0.0)) == [1]


@pytest.mark.parametrize(
    ("limits", "lent"),
    [
        (Limits(), [True, True, True]),
        (Limits(per_host=2), [True, False, False]),
        (Limits(per_host=1), [False, False, False]),
        (Limits(host_rate=100.0), [False, False, False]),
        (Limits(rate=100.0), [False, False, False]),
    ],
)
def test_lent(limits: Limits, lent: list[bool]) -> None:
    """A host may run more than it was given, up to its limit; not where a rate counts what starts."""
    scheduler = filled("a", Scheduler(limits))
    (running,) = ready(scheduler, 0.0)
    assert [scheduler.lend("a") for _ in lent] == lent
    for _ in range(lent.count(True)):
        scheduler.returned("a", 1.0)
    scheduler.finished(running, 1.0)
    assert ready(filled("aa", scheduler), 9.0)


def test_lending_takes_nothing_from_others() -> None:
    """While requests of the host wait nothing is lent, and what is lent counts; a host is forgotten as ever."""
    scheduler = filled("aaa", Scheduler(Limits(per_host=2)))
    first, second = ready(scheduler, 0.0)
    assert not scheduler.lend("a")
    scheduler.finished(first, 0.0)
    assert not scheduler.lend("a")
    assert not scheduler.lend("b")
    (third,) = ready(scheduler, 0.0)
    scheduler.finished(second, 0.0)
    assert scheduler.lend("a")
    scheduler.add(request("a", 9))
    assert scheduler.next(0.0) is None
    scheduler.returned("a", 0.0)
    assert scheduler.next(0.0) is not None
    scheduler.finished(third, 0.0)
    assert scheduler.lend("elsewhere")
    scheduler.returned("elsewhere", 1.0)
    assert "elsewhere" not in scheduler._hosts


def test_nothing_is_lent_to_a_host_in_trouble() -> None:
    """Whoever has asked to be left alone gets no parts either, nor one whose robots.txt sets its pace."""
    scheduler = filled("ab")
    ready(scheduler, 0.0)
    scheduler.refused("a", Refusal(0.0, 0.1, 5.0, False, 0.0))
    assert not scheduler.lend("a")
    scheduler.space("b", 1.0)
    assert not scheduler.lend("b")


def test_a_delayed_request_waits_for_its_time() -> None:
    """It neither starts before, nor holds up anybody."""
    scheduler = filled("aa")
    scheduler.add(request("a", 7), not_before=5.0)
    assert (len(scheduler), scheduler.delayed) == (3, 1)
    assert indexes(ready(scheduler, 4.9)) == [0, 1]
    assert scheduler.wake_at(4.9) == 5.0
    assert indexes(ready(scheduler, 5.0)) == [7]
    assert (len(scheduler), scheduler.delayed) == (0, 0)
    assert scheduler.wake_at(5.0) is None


def test_delayed_requests_go_first_and_in_the_order_of_their_times() -> None:
    """Whoever waited has waited enough; those with the same time keep the order in which they came."""
    scheduler = filled("aa", Scheduler(Limits(per_host=1)))
    running = scheduler.next(0.0)
    assert running is not None
    for index, time in ((10, 3.0), (11, 1.0), (12, 2.0), (13, 2.0), (14, 9.0)):
        scheduler.add(request("a", index), not_before=time)
    assert scheduler.next(2.0) is None
    assert scheduler.next(3.0) is None
    order = []
    while running is not None:
        scheduler.finished(running, 3.0)
        running = scheduler.next(3.0)
        order += [running.index] if running is not None else []
    assert order == [11, 12, 13, 10, 1]
    assert scheduler.wake_at(3.0) == 9.0


def test_a_delayed_request_overtakes_only_those_that_never_waited() -> None:
    """Those that waited and are gone do not count."""
    scheduler = filled("aaaa")
    for index, time in ((10, 1.0), (11, 2.0)):
        scheduler.add(request("a", index), not_before=time)
        assert indexes(filter(None, [scheduler.next(time), scheduler.next(time)])) == [index, index // 11]


def test_a_delay_that_is_over_is_none() -> None:
    """A time that has passed means now."""
    scheduler = Scheduler(Limits())
    scheduler.add(request("a"), not_before=-1.0)
    assert hosts(ready(scheduler, 0.0)) == "a"


def test_the_rate_of_all() -> None:
    """Two a second, over all hosts together; the time of the next one is known."""
    scheduler = filled("abab", Scheduler(Limits(rate=2.0)))
    assert hosts(ready(scheduler, 0.0)) == "a"
    assert scheduler.wake_at(0.0) == 0.5
    assert ready(scheduler, 0.49) == []
    assert hosts(ready(scheduler, 0.5)) == "b"
    assert hosts(ready(scheduler, 1.0)) == "a"


def test_the_rate_of_each_host() -> None:
    """Two a second for each host; one that waits holds up no other."""
    scheduler = filled("aab", Scheduler(Limits(host_rate=2.0)))
    assert hosts(ready(scheduler, 0.0)) == "ab"
    assert scheduler.wake_at(0.0) == 0.5
    scheduler.add(request("c", 9))
    assert hosts(ready(scheduler, 0.1)) == "c"
    assert hosts(ready(scheduler, 0.5)) == "a"
    assert scheduler.wake_at(0.5) is None


def test_limits_of_some_hosts() -> None:
    """A host's own cap and rate take the place of those for all, for each host of a wildcard by itself."""
    sections = HostOptions(pattern="a", host_rate=0.5), HostOptions(pattern="*.x", per_host=1)
    order = ["a", "b.x", "c.x", "d", "e"] * 3
    scheduler = Scheduler(Limits(per_host=2), Hosts(sections))
    for index, host in enumerate(order):
        scheduler.add(request(host, index))
    running = ready(scheduler, 0.0)
    assert [each.host for each in running] == ["a", "b.x", "c.x", "d", "e", "d", "e"]
    assert scheduler.wake_at(0.0) == 2.0
    assert [each.host for each in ready(scheduler, 2.0)] == ["a"]
    scheduler.finished(running[1], 2.0)
    assert [each.host for each in ready(scheduler, 2.0)] == ["b.x"]


def test_nobody_is_woken_before_the_rate_of_all_allows() -> None:
    """A request whose time has come, or whose host may go on, waits for the common rate too."""
    scheduler = filled("aa", Scheduler(Limits(rate=0.1, host_rate=1.0)))
    scheduler.add(request("b", 9), not_before=2.0)
    assert hosts(ready(scheduler, 0.0)) == "a"
    assert scheduler.wake_at(0.0) == 10.0


def test_an_empty_host_wakes_nobody() -> None:
    """A host whose rate recovers, but which has nothing left, is no reason to look again."""
    scheduler = filled("a", Scheduler(Limits(host_rate=1.0)))
    (running,) = ready(scheduler, 0.0)
    assert scheduler.wake_at(0.0) is None
    scheduler.finished(running, 0.0)
    assert scheduler.wake_at(0.0) is None


def test_a_rate_outlives_its_hosts_queue() -> None:
    """A host that runs dry and comes back finds its bucket as it left it, however large a burst is."""
    scheduler = filled("aaaa", Scheduler(Limits(host_rate=40.0)))
    for running in ready(scheduler, 0.0):
        scheduler.finished(running, 0.0)
    for index in range(8):
        scheduler.add(request("a", 10 + index))
    assert indexes(ready(scheduler, 0.025)) == [10]
    assert indexes(ready(scheduler, 0.075)) == [11, 12]


def test_a_host_is_not_forgotten_for_what_it_was_before() -> None:
    """A host that ran dry, came back and ran dry again is remembered for as long as the second time asks for."""
    scheduler = Scheduler(Limits(host_rate=40.0))
    for now, some in ((0.0, "a"), (0.01, "aaa"), (0.03, "aaaa")):
        assert scheduler.next(now) is None
        taken = ready(filled(some, scheduler), now)
        assert len(taken) == {"a": 1, "aaa": 3, "aaaa": 1}[some]
        for running in taken:
            scheduler.finished(running, now)


def test_drain_forgets_what_waits() -> None:
    """Queued, delayed and held requests are gone; what runs may still end, and new ones may come."""
    scheduler = filled("aaabc", Scheduler(Limits(per_host=2, host_rate=1.0)))
    first, second, third = ready(scheduler, 0.0)
    scheduler.add(request("b", 8), not_before=3.0)
    scheduler.add(request("d", 9))
    assert scheduler.drain() == 4
    assert (len(scheduler), scheduler.delayed, scheduler.drain()) == (0, 0, 0)
    assert scheduler.wake_at(0.0) is None
    assert ready(scheduler, 9.0) == []
    for running in (first, second, third):
        scheduler.finished(running, 9.0)
    assert not scheduler._hosts
    assert hosts(ready(filled("ab", scheduler), 20.0)) == "ab"


def test_a_host_that_runs_survives_a_drain() -> None:
    """What comes for it afterwards is treated as ever: its rate, its turn, and who waited goes first."""
    scheduler = filled("aa", Scheduler(Limits(host_rate=1.0)))
    ready(scheduler, 0.0)
    scheduler.add(request("a", 8), not_before=0.5)
    assert ready(scheduler, 0.5) == []
    assert scheduler.drain() == 2
    filled("aa", scheduler)
    scheduler.add(request("a", 9), not_before=0.6)
    assert ready(scheduler, 0.6) == []
    assert [indexes(ready(scheduler, now)) for now in (1.0, 2.0, 3.0)] == [[9], [0], [1]]


def refuse(scheduler: Scheduler, given: Request, now: float, wait: float) -> None:
    """Let a request that started now end by being refused."""
    scheduler.refused(given.host, Refusal(now, now, wait, vague=False, random=0.0))
    scheduler.finished(given, now)


def test_a_hold_is_for_one_host() -> None:
    """Its requests wait, also those that come or whose time comes meanwhile; the others go on."""
    scheduler = filled("aab", Scheduler(Limits(), pushback=PUSHBACK))
    first = scheduler.next(0.0)
    assert first is not None
    refuse(scheduler, first, 0.0, 3.0)
    scheduler.add(first, not_before=1.0)
    scheduler.add(request("a", 9))
    assert hosts(ready(scheduler, 0.0)) == "b"
    assert ready(scheduler, 2.9) == []
    assert scheduler.wake_at(2.9) == 3.0
    assert indexes(ready(scheduler, 3.0)) == [0]


def test_after_a_hold_a_host_recovers_step_by_step() -> None:
    """Eight ran; then 1, 2, 4 and 8 at once, then as many as there are."""
    scheduler = filled("a" * 60, Scheduler(Limits(), pushback=PUSHBACK))
    running = [each for each in (scheduler.next(0.0) for _ in range(8)) if each is not None]
    for each in running:
        refuse(scheduler, each, 0.0, 2.0)
    now, rounds = 2.0, []
    while running := ready(scheduler, now):
        rounds.append(len(running))
        for each in running:
            scheduler.answered("a", now, now)
            scheduler.finished(each, now)
        now += 1.0
    assert rounds == [1, 2, 4, 45]


def test_a_withdrawn_host_leaves_nothing() -> None:
    """Queued, delayed and held requests come back, in order; others and those that run stay; new ones may come."""
    scheduler = filled("aabab", Scheduler(Limits(host_rate=1.0), pushback=PUSHBACK))
    first = scheduler.next(0.0)
    assert first is not None
    scheduler.add(request("a", 8), not_before=5.0)
    scheduler.add(request("a", 7), not_before=4.0)
    scheduler.add(request("b", 9), not_before=5.0)
    assert hosts(ready(scheduler, 0.0)) == "b"
    assert indexes(scheduler.withdraw("a")) == [1, 3, 7, 8]
    assert (len(scheduler), scheduler.delayed) == (2, 1)
    assert scheduler.withdraw("a") == scheduler.withdraw("nobody") == []
    scheduler.finished(first, 0.0)
    scheduler.add(request("a", 10))
    assert sorted(indexes(ready(scheduler, 1.0))) == [4, 10]
    assert len(scheduler) == 1


def test_hosts_in_trouble_are_forgotten() -> None:
    """Those that failed, refused or are merely heard of are remembered for a while after their time, and no longer."""
    scheduler = Scheduler(Limits(), pushback=PUSHBACK)
    for number in range(3_000):
        now = number * 0.1
        scheduler.add(request(f"host{number}.example", number))
        (given,) = ready(scheduler, now)
        if number % 2:
            refuse(scheduler, given, now, 5.0)
        else:
            scheduler.unreached(given.host, now, now)
            scheduler.finished(given, now)
        scheduler.refused(f"other{number}.example", Refusal(now, now, 5.0, vague=False, random=0.0))
        assert len(scheduler._hosts) <= 2 * (MEMORY + 5.0) / 0.1 + 2
    assert scheduler.next(1_000.0) is None
    assert not scheduler._hosts
    assert not scheduler._idle


@given(
    order=st.lists(st.sampled_from("abc"), max_size=40),
    fates=st.lists(st.sampled_from(["answered", "refused", "unreached"]), max_size=60),
    per_host=st.none() | st.integers(1, 3),
    host_rate=st.none() | st.sampled_from([0.5, 40.0]),
)
def test_nothing_starts_inside_a_hold_and_nothing_is_lost(
    order: list[str], fates: list[str], per_host: int | None, host_rate: float | None
) -> None:
    """However hosts refuse, no request of a host starts before its time has come, and all start in the end."""
    scheduler = filled(order, Scheduler(Limits(per_host=per_host, host_rate=host_rate), pushback=PUSHBACK))
    running: list[tuple[float, float, int, Request]] = []
    until: dict[str, float] = defaultdict(float)
    started: list[int] = []
    coming = iter(fates)
    now = 0.0
    while len(scheduler) or running:
        for new in ready(scheduler, now):
            assert now >= until[new.host]
            heappush(running, (now + 0.5, now, new.index, new))
            started.append(new.index)
        wake = scheduler.wake_at(now)
        if running and (wake is None or running[0][0] <= wake):
            now, begun, _, old = heappop(running)
            fate = next(coming, "answered")
            if fate == "answered":
                scheduler.answered(old.host, begun, now)
            elif fate == "refused":
                scheduler.refused(old.host, Refusal(begun, now, 3.0, vague=False, random=0.0))
                until[old.host] = now + 3.0
            else:
                scheduler.unreached(old.host, begun, now)
            scheduler.finished(old, now)
        elif wake is not None:
            now = max(now, wake)
    assert sorted(started) == list(range(len(order)))
    scheduler.next(now + 1e4)
    assert not scheduler._hosts


@pytest.mark.parametrize("host_rate", [None, 0.5, 1_000.0])
def test_hosts_are_forgotten(host_rate: float | None) -> None:
    """Of ten thousand hosts with one request each, only those whose rate still binds are remembered."""
    scheduler = Scheduler(Limits(per_host=2, host_rate=host_rate))
    for number in range(10_000):
        now = number * 0.01
        scheduler.add(request(f"host{number}.example", number))
        (running,) = ready(scheduler, now)
        scheduler.finished(running, now + 0.005)
        assert len(scheduler._hosts) <= (1 if host_rate != 0.5 else 201)
    assert scheduler.next(1_000.0) is None
    assert not scheduler._hosts
    assert not scheduler._idle


def test_a_busy_host_leaves_no_notes() -> None:
    """A host that runs dry a thousand times within its rate's memory is not noted a thousand times."""
    scheduler = Scheduler(Limits(host_rate=40.0))
    for number in range(1_000):
        now = number * 0.025
        scheduler.add(request("a", number))
        for running in ready(scheduler, now):
            scheduler.finished(running, now)
    assert len(scheduler._hosts) == 1
    assert len(scheduler._idle) <= 5


def test_a_sorted_list_runs_like_a_shuffled_one() -> None:
    """1,000 URLs of 20 hosts, 50 slots, 4 a host, 10 ms each: within ten percent, and near the least there can be."""
    names = [f"host{number % 20}" for number in range(1_000)]
    shuffled = random.Random(7).sample(names, len(names))
    lasted = {}
    for name, order in (("sorted", sorted(names)), ("shuffled", shuffled), ("in turn", names)):
        started = simulate(filled(order, Scheduler(Limits(per_host=4))), slots=50, seconds=0.01)
        assert len(started) == 1_000
        lasted[name] = started[-1][0] + 0.01
    assert lasted["sorted"] == pytest.approx(lasted["shuffled"], rel=0.1)
    assert lasted["sorted"] == pytest.approx(1_000 / 50 * 0.01, rel=0.15)
    assert lasted["in turn"] == pytest.approx(0.2)


def test_a_big_host_does_not_hold_up_the_others() -> None:
    """One host with half the list, and first in it: the others end as soon as if they were alone."""
    order = ["big"] * 500 + [f"host{number % 20}" for number in range(500)]
    started = simulate(filled(order, Scheduler(Limits(per_host=4))), slots=50, seconds=0.01)
    assert max(time for time, request in started if request.host != "big") <= 0.12
    assert len(started) == 1_000


def within(times: list[float], rate: float) -> bool:
    """Tell whether starts kept to the rate: in any t seconds at most rate * t, and the documented burst."""
    burst = max(1.0, rate / 10)
    return all(
        last - first + 1 <= rate * (times[last] - times[first] + ROUNDING) + burst + ROUNDING
        for first in range(len(times))
        for last in range(first, len(times))
    )


@given(
    order=st.lists(st.sampled_from("abcd"), max_size=60),
    per_host=st.none() | st.integers(1, 3),
    rate=st.none() | st.sampled_from([0.5, 7.0, 40.0, 300.0]),
    host_rate=st.none() | st.sampled_from([0.5, 7.0, 40.0, 300.0]),
    slots=st.integers(1, 10),
)
def test_every_request_starts_once_within_the_rates(
    order: list[str], per_host: int | None, rate: float | None, host_rate: float | None, slots: int
) -> None:
    """However a list is mixed and limited, it comes to its end, each host's part in its order, and never too fast."""
    scheduler = filled(order, Scheduler(Limits(per_host=per_host, rate=rate, host_rate=host_rate)))
    started = simulate(scheduler, slots, 0.01)
    assert sorted(indexes(request for _, request in started)) == list(range(len(order)))
    assert len(scheduler) == 0
    if rate is not None:
        assert within([time for time, _ in started], rate)
    for host in set(order):
        own = [(time, request.index) for time, request in started if request.host == host]
        assert [index for _, index in own] == sorted(index for _, index in own)
        if host_rate is not None:
            assert within([time for time, _ in own], host_rate)


class Day(RuleBasedStateMachine):
    """A run in which anything may happen in any order, beside a model that knows all and decides nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.indexes = count()
        self.running: list[Request] = []
        self.begin(None, None, None)

    @initialize(
        per_host=st.none() | st.integers(1, 3),
        rate=st.none() | st.sampled_from([0.3, 40.0]),
        host_rate=st.none() | st.sampled_from([0.3, 40.0]),
    )
    def begin(self, per_host: int | None, rate: float | None, host_rate: float | None) -> None:
        """Choose the limits."""
        self.limits = (per_host, rate, host_rate)
        self.scheduler = Scheduler(Limits(per_host=per_host, rate=rate, host_rate=host_rate))
        self.bucket = None if rate is None else TokenBucket(rate)
        self.buckets: dict[str, TokenBucket] = {}
        self.waiting: dict[int, tuple[Request, float]] = {}
        self.starts: list[tuple[float, str]] = []

    @rule(host=st.sampled_from("abc"), delay=st.none() | st.sampled_from([0.0, 0.01, 1.0, 5.0]))
    def add(self, host: str, delay: float | None) -> None:
        """A row is read, or a retry decided."""
        new = request(host, next(self.indexes))
        self.waiting[new.index] = (new, self.now + (delay or 0.0))
        self.scheduler.add(new, None if delay is None else self.now + delay)

    @rule(seconds=st.sampled_from([0.001, 0.024, 0.1, 1.0, 30.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def start(self) -> None:
        """A slot is free: what starts may start, and if nothing does, nothing could; sleeping is never too long."""
        given = self.scheduler.next(self.now)
        earliest = min((self.may_start(*each) for each in self.waiting.values()), default=None)
        if given is None:
            wake = self.scheduler.wake_at(self.now)
            assert earliest is None or earliest > self.now
            assert wake is None or wake > self.now
            if earliest is not None and earliest < float("inf"):
                assert wake is not None
                assert wake <= earliest
            return
        assert self.may_start(*self.waiting.pop(given.index)) <= self.now + ROUNDING
        self.running.append(given)
        self.starts.append((self.now, given.host))
        for bucket in self.buckets_of(given.host):
            bucket.take(self.now)

    @precondition(lambda self: self.running)
    @rule(choice=st.integers(0, 1_000))
    def finish(self, choice: int) -> None:
        """Some request ends."""
        self.scheduler.finished(self.running.pop(choice % len(self.running)), self.now)

    @precondition(lambda self: self.waiting)
    @rule()
    def drain(self) -> None:
        """The run is stopped: all that waits is forgotten. Another one begins when what runs has ended."""
        assert self.scheduler.drain() == len(self.waiting)
        assert self.scheduler.next(self.now + 1e6) is None
        assert self.scheduler.wake_at(self.now) is None
        while self.running:
            self.scheduler.finished(self.running.pop(), self.now)
        assert self.scheduler.next(self.now + 1e6) is None
        assert not self.scheduler._hosts
        self.begin(*self.limits)

    @invariant()
    def is_sound(self) -> None:
        """What waits is counted, no host runs too much at once, and no rate was exceeded."""
        per_host, rate, host_rate = self.limits
        assert len(self.scheduler) == len(self.waiting)
        assert self.scheduler.delayed <= len(self.waiting)
        assert max(Counter(hosts(self.running)).values(), default=0) <= (per_host or len(self.running))
        if rate is not None:
            assert within([time for time, _ in self.starts], rate)
        for host in "abc" if host_rate is not None else "":
            assert within([time for time, started in self.starts if started == host], host_rate or 0.0)

    def teardown(self) -> None:
        """Whatever happened, the rest comes to its end: nothing starves."""
        for running in self.running:
            self.scheduler.finished(running, self.now)
        self.now += 1e6
        left = simulate(self.scheduler, slots=2, seconds=1.0)
        assert sorted(indexes(request for _, request in left)) == sorted(self.waiting)

    def buckets_of(self, host: str) -> list[TokenBucket]:
        """Return the model's buckets for a host: it never forgets one."""
        host_rate = self.limits[2]
        own = [] if host_rate is None else [self.buckets.setdefault(host, TokenBucket(host_rate))]
        return own if self.bucket is None else [self.bucket, *own]

    def may_start(self, request: Request, not_before: float) -> float:
        """Return when a waiting request could start at the earliest; never, if something must end before."""
        per_host = self.limits[0]
        if per_host is not None and hosts(self.running).count(request.host) >= per_host:
            return float("inf")
        return max([not_before, *(bucket.ready_at(self.now) for bucket in self.buckets_of(request.host))])


TestDay = Day.TestCase
TestDay.settings = settings(max_examples=60, stateful_step_count=40)


def starts(scheduler: Scheduler, slots: int = 10, seconds: float = 0.5) -> dict[str, list[float]]:
    """Return when the requests of each host start."""
    times: dict[str, list[float]] = {}
    for when, started in simulate(scheduler, slots, seconds):
        times.setdefault(started.host, []).append(when)
    return times


def test_starts_that_are_spaced() -> None:
    """However many slots there are, and however long it takes, a host's requests start so far apart; others do not wait."""
    scheduler = filled("aaabbb")
    scheduler.space("a", 2.0)
    assert starts(scheduler) == {"a": [0.0, 2.0, 4.0], "b": [0.0, 0.0, 0.0]}


def test_the_first_of_those_that_are_spaced() -> None:
    """It waits from the time at which the host was last asked something."""
    scheduler = filled("aa")
    scheduler.space("a", 2.0, since=-0.5)
    assert starts(scheduler) == {"a": [1.5, 3.5]}


@pytest.mark.parametrize(("rate", "apart", "times"), [(1.0, 3.0, [0.0, 3.0, 6.0]), (0.25, 3.0, [0.0, 4.0, 8.0])])
def test_the_slower_of_rate_and_space(rate: float, apart: float, times: list[float]) -> None:
    """Both hold, each on a clock of its own."""
    scheduler = filled("aaa", Scheduler(Limits(host_rate=rate)))
    scheduler.space("a", apart)
    assert starts(scheduler) == {"a": times}


def test_the_longest_space_holds() -> None:
    """What an origin of the host asks for is not undone by another one."""
    scheduler = filled("aa")
    scheduler.space("a", 3.0)
    scheduler.space("a", 1.0)
    assert starts(scheduler) == {"a": [0.0, 3.0]}


def test_a_retry_is_spaced_too() -> None:
    """It is a request like another."""
    scheduler = filled("aa")
    scheduler.space("a", 3.0)
    scheduler.add(request("a", 7), not_before=0.1)
    assert starts(scheduler) == {"a": [0.0, 3.0, 6.0]}


def test_a_hold_and_a_space() -> None:
    """A host that asks to be left alone is; then its requests are spaced again."""
    scheduler = filled("aaa", Scheduler(Limits(), pushback=Pushback(3, 300.0)))
    scheduler.space("a", 2.0)
    first = scheduler.next(0.0)
    assert first is not None
    scheduler.refused("a", Refusal(0.0, 0.5, 5.0, vague=False, random=0.0))
    scheduler.finished(first, 0.5)
    assert starts(scheduler) == {"a": [5.5, 7.5]}


def test_a_host_that_is_spaced_is_not_forgotten_before_its_time() -> None:
    """Who comes back waits as if nobody had gone; later the host is as a new one."""
    scheduler = filled("a")
    scheduler.space("a", 10.0)
    assert starts(scheduler) == {"a": [0.0]}
    scheduler.add(request("a", 1))
    assert scheduler.next(9.0) is None
    assert scheduler.wake_at(9.0) == 10.0
    done = scheduler.next(10.0)
    assert done is not None
    scheduler.finished(done, 10.0)
    assert scheduler.next(20.0) is None
    assert scheduler._hosts == {}
