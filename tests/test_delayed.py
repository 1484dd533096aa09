"""Requests that wait come back in the order of their times, all of them, and none before."""

from hypothesis import given
from hypothesis import strategies as st

from fetcher.delayed import Delayed
from fetcher.model import Request


def request(index: int, host: str) -> Request:
    """Make a request to a host."""
    url = f"http://{host}/{index}"
    return Request(index, url, url, host, "urls.txt", index + 1)


TIMES = st.lists(st.tuples(st.integers(0, 5), st.sampled_from("ab")), max_size=20)


def filled(times: list[tuple[int, str]]) -> tuple[Delayed, list[tuple[int, Request]]]:
    """Return what waits, and the same in the order in which it is to come back."""
    delayed = Delayed()
    waiting = [(time, request(index, host)) for index, (time, host) in enumerate(times)]
    for time, each in waiting:
        delayed.add(each, time)
    return delayed, sorted(waiting, key=lambda each: each[0])


def taken(delayed: Delayed, now: float) -> list[Request]:
    """Take all whose time has come."""
    return list(iter(lambda: delayed.pop(now), None))


@given(TIMES, st.integers(-1, 6))
def test_in_their_order(times: list[tuple[int, str]], now: int) -> None:
    """Those whose time has come come first to last, in the order of arrival where it is the same; the others stay."""
    delayed, expected = filled(times)
    assert delayed.next_at == min((time for time, _ in times), default=None)
    assert taken(delayed, now) == [each for time, each in expected if time <= now]
    assert len(delayed) == sum(time > now for time, _ in times)
    assert taken(delayed, 6) == [each for time, each in expected if time > now]
    assert delayed.next_at is None


@given(TIMES)
def test_withdrawn(times: list[tuple[int, str]]) -> None:
    """One host's are given back in their order, and the others' are not disturbed."""
    delayed, expected = filled(times)
    assert delayed.withdraw("a") == [each for _, each in expected if each.host == "a"]
    assert taken(delayed, 6) == [each for _, each in expected if each.host == "b"]


def test_forgotten() -> None:
    """After a clear there is nothing."""
    delayed, _ = filled([(1, "a"), (2, "b")])
    delayed.clear()
    assert (len(delayed), delayed.next_at, delayed.pop(9)) == (0, None, None)
