"""The hash table: a dict of numbers in little memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.hashtable import HashTable, hash64

NUMBERS = st.integers(0, 2**64 - 1)
#: Keys of all sizes, and many that meet in one shard and in one place of it.
KEYS = st.integers(1, 2**64 - 1) | st.builds(
    lambda high, low: high << 56 | low << 3, st.integers(0, 2), st.integers(1, 40)
)


@given(st.lists(st.tuples(st.sampled_from(["get", "set", "setdefault"]), KEYS, NUMBERS), max_size=200))
def test_it_does_what_a_dict_does(steps: list[tuple[str, int, int]]) -> None:
    """In any order of calls, every answer is the dict's."""
    table, model = HashTable(), dict[int, int]()
    for step, key, value in steps:
        if step == "get":
            assert table.get(key) == model.get(key)
        elif step == "set":
            table.set(key, value)
            model[key] = value
        else:
            assert table.setdefault(key, value) == model.setdefault(key, value)
        assert len(table) == len(model)
    assert {key: table.get(key) for key in model} == model


@pytest.mark.parametrize("step", [1, 8, (1 << 56) + 1, 0x9E3779B97F4A7C15])
def test_it_grows(step: int) -> None:
    """Ten thousand keys, spread well or badly, are all found again, and no others."""
    keys = [number * step % 2**64 for number in range(1, 10_011)]
    table = HashTable()
    for number, key in enumerate(keys[:10_000]):
        table.set(key, number)
    assert len(table) == 10_000
    assert [table.get(key) for key in keys] == [*range(10_000)] + [None] * 10


def test_zero_is_a_value() -> None:
    """A number of 0 is told from none."""
    table = HashTable()
    assert table.get(5) is None
    assert table.setdefault(5, 0) == 0
    assert table.get(5) == 0
    assert table.setdefault(5, 7) == 0
    assert len(table) == 1


def test_memory_is_as_documented() -> None:
    """At most three quarters of the places are taken and, once it has grown, at least three eighths."""
    table = HashTable()
    for number in range(1, 50_001):
        table.set(number * 0x9E3779B97F4A7C15 % 2**64, 1)
        if number % 5_000 == 0:
            size = sum(
                shard.keys.itemsize * len(shard.keys) + shard.values.itemsize * len(shard.values)
                for shard in table._shards
            )
            assert 21 <= size / number <= 43


@given(st.text() | st.integers() | st.none())
def test_hashes_are_positive_numbers_of_64_bits(key: str | int | None) -> None:
    """0 marks a free place, so no key hashes to it; equal keys hash equally."""
    assert 1 <= hash64(key) < 2**64
    assert hash64(key) == hash64(key)


def test_a_hash_of_zero_is_moved() -> None:
    """The one hash that the table cannot hold."""
    assert hash(0) == 0
    assert hash64(0) == 1
    assert hash64(-1) == 2**64 - 2
