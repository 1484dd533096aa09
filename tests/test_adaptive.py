"""How many at once, found out against servers made of arithmetic."""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.adaptive import Adaptive
from fetcher.model import Request
from fetcher.options import Limits
from fetcher.origins import Pushback, Refusal
from fetcher.scheduler import Scheduler

#: What one answer takes, in seconds, as long as there are not too many at once.
_BASE = 0.05


@dataclass(slots=True)
class Simulated:
    """A run of so many requests, in virtual time, at a host that slows down beyond ``knee`` and refuses from ``refuses`` on.

    ``levels`` are how many it was answering as each request came, ``refused`` when it refused, ``took`` the time of all.
    """

    knee: float
    refuses: float
    count: int = 3_000
    most: int = 200
    jitter: float = 0.0
    levels: list[int] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    took: float = 0.0

    def __post_init__(self) -> None:
        scheduler = Scheduler(Limits(per_host=self.most, adaptive=True), pushback=Pushback(retries=3, max_wait=300.0))
        for index in range(self.count):
            scheduler.add(Request(index, f"/{index}", f"/{index}", "host", "list", index + 1))
        now, active, sequence = 0.0, 0, 0
        ends: list[tuple[float, int, float, bool, Request]] = []
        while len(scheduler) or ends:
            while (request := scheduler.next(now)) is not None:
                sequence += 1
                refuse = active + 1 >= self.refuses
                if refuse:
                    self.refused.append(now)
                else:
                    active += 1
                self.levels.append(active)
                noise = 1 + self.jitter * (sequence * 13 % 11 - 5) / 5
                seconds = 0.001 if refuse else _BASE * max(1.0, active / self.knee) * noise
                heappush(ends, (now + seconds, sequence, now, refuse, request))
            wake = scheduler.wake_at(now)
            if not ends or (wake is not None and now < wake < ends[0][0]):
                assert wake is not None
                now = wake
                continue
            now, _, started, refuse, request = heappop(ends)
            if refuse:
                scheduler.refused("host", Refusal(started, now, None, vague=False, random=0.5))
                scheduler.add(request, now + 0.5)
            else:
                active -= 1
                scheduler.answered("host", started, now)
            scheduler.finished(request, now)
        self.took = now

    @property
    def late(self) -> list[int]:
        """The levels in the second half."""
        return self.levels[len(self.levels) // 2 :]


@pytest.mark.parametrize("jitter", [0.0, 0.3])
@pytest.mark.parametrize(("knee", "refuses"), [(8, 12), (8, 10_000), (50, 70), (2, 3), (8, 9), (20, 12), (10_000, 30)])
def test_it_settles_near_the_knee(knee: float, refuses: float, jitter: float) -> None:
    """Where answers slow down, or, where they never do, below what is refused; and takes little longer than the best."""
    run = Simulated(knee, refuses, jitter=jitter)
    near = min(knee, refuses - 1)
    assert 0.6 * near <= fmean(run.late) <= 1.5 * near
    assert run.took <= 1.3 * run.count * _BASE / near + 3.0


def test_what_was_refused_is_tried_ever_more_rarely() -> None:
    """At a host that refuses without getting slower before, each try costs a wait: there are few, and fewer in time."""
    run = Simulated(knee=10_000, refuses=12, count=12_000)
    half = run.took / 2
    early, late = (len([time for time in run.refused if (time > half) is second]) for second in (False, True))
    assert 1 <= late < early <= 60


def test_a_lower_limit_is_not_for_ever() -> None:
    """When a host takes again what it has refused, it gets more and more."""
    adaptive, now = Adaptive(100.0), 0.0
    adaptive.refused(12, now)
    reached = []
    for _ in range(40_000):
        now += 1.0
        adaptive.answered(now - 0.5, now, int(adaptive.limit))
        reached.append(int(adaptive.limit))
    assert reached[200] < 12
    assert reached[-1] == 100


def test_it_grows_quickly_to_the_most() -> None:
    """A server that never slows gets all there is, in two rounds for each doubling."""
    run = Simulated(10_000, 10_000)
    assert max(run.levels) == run.most
    assert run.levels.index(run.most) < 2.5 * run.most
    assert max(Simulated(10_000, 10_000, count=100, most=3).levels) == 3


def test_an_unused_limit_does_not_grow() -> None:
    """What was not tried is not known to be good."""
    adaptive = Adaptive(200.0)
    assert not any(adaptive.answered(now, now + 0.1, 1) for now in range(1_000))
    assert adaptive.limit == 2


def test_slower_answers_of_another_kind_are_the_new_measure() -> None:
    """Pages of 10 ms, then of 100 ms whatever the load: it takes a step back and goes on."""
    adaptive, now = Adaptive(50.0), 0.0
    for seconds, count in ((0.01, 300), (0.1, 4_000)):
        for _ in range(count):
            now += seconds
            adaptive.answered(now - seconds, now, int(adaptive.limit))
    assert adaptive.limit == 50


def test_answers_from_before_a_change_say_nothing() -> None:
    """What began with another limit is not counted with what began with this one."""
    adaptive = Adaptive(50.0)
    for _ in range(5):
        adaptive.answered(0.0, 1.0, 2)
    assert adaptive.limit == 4
    for _ in range(50):
        assert not adaptive.answered(0.9, 1.9, 4)
    assert any(adaptive.answered(1.0, 2.0, 4) for _ in range(5))


@given(
    st.lists(
        st.tuples(st.sampled_from(["answered", "refused"]), st.floats(0, 1e4), st.floats(0, 10), st.integers(1, 300)),
        max_size=300,
    ),
    st.floats(1, 500),
)
def test_it_stays_within_its_bounds(events: list[tuple[str, float, float, int]], most: float) -> None:
    """Whatever happens, one may always run, and never more than the most."""
    adaptive, now = Adaptive(most), 0.0
    for what, seconds, passed, running in events:
        now += passed
        if what == "refused":
            adaptive.refused(running, now)
        else:
            before = adaptive.limit
            assert adaptive.answered(now - seconds, now, running) == (adaptive.limit > before)
        assert 1 <= adaptive.limit <= most
