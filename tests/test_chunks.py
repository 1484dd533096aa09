"""What a lane fetches next, as plain tables, and what holds whatever comes."""

from collections import Counter
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.chunks import Backlog, Pace, paces, room, size
from fetcher.model import Request
from fetcher.options import HostOptions, Limits, Options

FREE = Pace(None, None, learning=False)
CAPPED = Pace(2, None, learning=False)
RATED = Pace(None, 0.5, learning=False)

_PACES = st.sampled_from([FREE, CAPPED, RATED, Pace(1, 2.0, learning=True)])


def request(number: int, host: str) -> Request:
    """Return a request to a host."""
    url = f"http://{host}/{number}"
    return Request(number, url, url, host, "list", number + 1)


def backlog(pace: Pace, *hosts: str, slots: int = 10) -> Backlog:
    """Return a backlog of requests to these hosts, in this order."""
    made = Backlog(slots, lambda _: pace)
    for number, host in enumerate(hosts):
        made.add(request(number, host))
    return made


def hosts_of(requests: list[Request]) -> dict[str, int]:
    """Return how many there are of each host."""
    return dict(Counter(each.host for each in requests))


@pytest.mark.parametrize(
    ("free", "waited", "slots", "requests"),
    [
        (50, 0.0, 50, 500),
        (40, 0.0, 40, 400),
        (39, 0.0, 0, 0),
        (39, 0.5, 39, 390),
        (1, 9.0, 1, 10),
        (0, 9.0, 0, 0),
        (-1, 9.0, 0, 0),
    ],
)
def test_room(free: int, waited: float, slots: int, requests: int) -> None:
    """A chunk begins when most slots are free, or with those that are after a while, and is as large as it has room."""
    assert room(50, free, waited) == slots
    assert size(500, 50, slots) == requests


def test_hosts_take_turns() -> None:
    """A chunk has of each host as many as of the others, as far as there are, and the order of each host is kept."""
    taken = backlog(FREE, *"aaaaaaaab", "c", "c").take(0.0, 6)
    assert hosts_of(taken) == {"a": 3, "b": 1, "c": 2}
    assert [each.index for each in taken if each.host == "a"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("pace", "slots", "taken"),
    [(FREE, 10, 20), (CAPPED, 10, 4), (CAPPED, 3, 14), (CAPPED, 2, 20), (RATED, 10, 20)],
)
def test_a_share(pace: Pace, slots: int, taken: int) -> None:
    """Of a host that may have a part of the slots, a chunk has that part, rounded up, so that it ends with the others."""
    assert len(backlog(pace, *("a" * 30), slots=slots).take(0.0, 20)) == taken


@pytest.mark.parametrize(("pace", "again"), [(FREE, 1), (CAPPED, 0), (RATED, 0)])
def test_one_chunk_at_a_time(pace: Pace, again: int) -> None:
    """A host with a limit is in no second chunk before all of the first is done."""
    waiting = backlog(pace, "a", "a", slots=2)
    assert len(waiting.take(0.0, 1)) == 1
    assert len(waiting.take(0.0, 1)) == again
    waiting.done("a", 0.0)
    assert len(waiting.take(0.0, 1)) == 1 - again


def test_a_hold() -> None:
    """A host that wants to be left alone is in no chunk until then; what waits for its own time comes when that has come."""
    waiting = backlog(FREE, "a", "b")
    waiting.add(request(2, "c"), not_before=3.0)
    waiting.hold("a", 5.0)
    waiting.hold("unknown", 99.0)
    assert hosts_of(waiting.take(0.0)) == {"b": 1}
    assert (len(waiting), waiting.delayed, waiting.wake_at(0.0)) == (2, 1, 3.0)
    assert hosts_of(waiting.take(4.0)) == {"c": 1}
    assert waiting.wake_at(4.0) == 5.0
    assert hosts_of(waiting.take(5.0)) == {"a": 1}
    assert waiting.wake_at(5.0) is None


def test_a_rate() -> None:
    """The next chunk of a host comes when its rate has forgotten what was started in the one before."""
    waiting = backlog(RATED, *"aaaa")
    assert len(waiting.take(0.0, 2)) == 2
    waiting.begun("a", 0.0)
    waiting.begun("a", 2.0)
    waiting.done("a", 2.1)
    waiting.done("a", 2.1)
    assert (waiting.take(2.1), waiting.wake_at(2.1)) == ([], 4.0)
    assert len(waiting.take(4.0)) == 2


def test_paces() -> None:
    """What holds for a host is what its section says, else what holds for all."""
    options = Options(
        limits=Limits(per_host=5, host_rate=2.0), hosts=(HostOptions(pattern="a.example", per_host=1, host_rate=9.0),)
    )
    pace_of = paces(options)
    assert pace_of("a.example") == Pace(1, 9.0, learning=False)
    assert pace_of("b.example") == Pace(5, 2.0, learning=False)


@given(
    pace=_PACES,
    slots=st.integers(1, 6),
    adds=st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.floats(0, 20)), max_size=60),
    holds=st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 20)), max_size=6),
    most=st.integers(1, 12),
    back=st.sets(st.integers(0, 59), max_size=10),
)
def test_whatever_comes(
    pace: Pace,
    slots: int,
    adds: list[tuple[str, float | None]],
    holds: list[tuple[str, float]],
    most: int,
    back: set[int],
) -> None:
    """Each request is in a chunk, none before its time, with no host in two; at the end nothing is remembered."""
    waiting = Backlog(slots, lambda _: pace)
    due = {}
    for number, (host, not_before) in enumerate(adds):
        waiting.add(request(number, host), not_before)
        due[number] = -inf if not_before is None else not_before
    known = {host for host, not_before in adds if not_before is None}
    until = {host: max((time for each, time in holds if each == host), default=-inf) for host in known}
    for host, time in holds:
        waiting.hold(host, time)
    now = 0.0
    open_chunks: list[list[Request]] = []
    seen: list[int] = []
    for _ in range(10_000):
        chunk = waiting.take(now, most)
        busy = {each.host for other in open_chunks for each in other}
        assert len(chunk) <= most
        assert pace.free or not busy & {each.host for each in chunk}
        for each in chunk:
            assert now >= max(due[each.index], until.get(each.host, -inf))
            waiting.begun(each.host, now)
        if chunk:
            open_chunks.append(chunk)
        elif open_chunks:
            for each in open_chunks.pop(0):
                waiting.done(each.host, now)
                seen.append(each.index)
                if seen.count(each.index) == 1 and each.index in back:
                    due[each.index] = now + 1
                    waiting.add(each, now + 1)
        else:
            wake = waiting.wake_at(now)
            if wake is None:
                break
            assert wake > now
            now = wake
    assert Counter(seen) == {number: 1 + (number in back) for number in range(len(adds))}
    assert (len(waiting), waiting.delayed, waiting._hosts) == (0, 0, {})
