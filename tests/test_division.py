"""Bodies divided into parts: each byte is in one part, claimed by one at a time, and none is far ahead of the reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.division import Division


@pytest.mark.parametrize(
    ("start", "size", "bounds"),
    [
        (0, 10, [(0, 4), (4, 8), (8, 10)]),
        (0, 8, [(0, 4), (4, 8)]),
        (7, 12, [(7, 11), (11, 12)]),
        (3, 4, [(3, 4)]),
    ],
)
def test_bounds(start: int, size: int, bounds: list[tuple[int, int]]) -> None:
    """Parts begin where the reader does, and the last ends where the body does."""
    division = Division(start, size, ahead=9, part=4)
    found = []
    while (number := division.next(0)) is not None:
        assert division.claim(number)
        found.append(division.bounds(number))
    assert found == bounds
    for number, (begin, end) in enumerate(bounds):
        assert {division.number(at) for at in range(begin, end)} == {number}


def test_no_farther_than_that() -> None:
    """So many parts may be asked for beyond the one that is read."""
    division = Division(0, 100, ahead=2, part=10)
    taken = []
    for reading in (0, 1, 5, 8):
        while (number := division.next(reading)) is not None:
            division.claim(number)
            taken.append((reading, number))
    assert taken == [(0, 0), (0, 1), (0, 2), (1, 3), (5, 4), (5, 5), (5, 6), (5, 7), (8, 8), (8, 9)]


def test_given_back() -> None:
    """What was given back goes first, and can be claimed once."""
    division = Division(0, 100, ahead=9, part=10)
    for number in range(4):
        assert division.claim(number)
        assert not division.claim(number)
    assert not division.claim(7)
    division.give_back(2)
    division.give_back(1)
    assert [division.next(0), division.claim(1), division.next(0), division.claim(2)] == [1, True, 2, True]
    assert division.next(0) == 4


@given(st.data(), st.integers(0, 50), st.integers(1, 200), st.integers(1, 30), st.integers(0, 6))
def test_all_of_it_once(data: st.DataObject, start: int, length: int, part: int, ahead: int) -> None:
    """However often parts are given back, the reader gets each byte, once, in order, within what may be ahead."""
    division = Division(start, start + length, ahead, part)
    at, claimed, failures = start, set[int](), 0
    while at < start + length:
        reading = division.number(at)
        while (number := division.next(reading)) is not None:
            assert division.claim(number)
            assert number not in claimed
            assert reading <= number <= reading + ahead
            claimed.add(number)
        if failures < 20 and data.draw(st.booleans()):
            failures += 1
            number = data.draw(st.sampled_from(sorted(claimed)))
            claimed.remove(number)
            division.give_back(number)
        elif reading in claimed:
            begin, end = division.bounds(reading)
            assert begin == at < end
            at = end
            claimed.remove(reading)
    assert at == start + length
    assert division.next(division.number(at - 1)) is None
