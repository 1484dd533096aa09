"""The hash table: a dict of numbers in little memory."""

import sys
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher import hashtable
from fetcher.hashtable import HashTable, hash64

NUMBERS = st.integers(0, 2**64 - 1)
#: Keys of all sizes, and many that share their leading bits.
KEYS = st.integers(0, 2**64 - 1) | st.builds(
    lambda high, low: high << 56 | low << 3, st.integers(0, 2), st.integers(0, 40)
)
#: Multiples of it are spread as hashes are.
GOLDEN = 0x9E3779B97F4A7C15


@given(st.lists(st.tuples(st.sampled_from(["get", "set", "add"]), KEYS, NUMBERS), max_size=200))
def test_it_does_what_a_dict_does(steps: list[tuple[str, int, int]]) -> None:
    """In any order of calls, every answer is the dict's, however often leaves are split."""
    table, model = HashTable(64), dict[int, int]()
    with patch.multiple(hashtable, _MOST=4, _SHARE=1):
        for step, key, value in steps:
            if step == "get":
                assert table.get(key) == model.get(key)
            elif step == "set":
                table.set(key, value)
                model[key] = value
            else:
                assert table.add(key, value) == model.get(key)
                model.setdefault(key, value)
            assert len(table) == len(model)
    assert {key: table.get(key) for key in model} == model


@pytest.mark.parametrize("step", [1, 8, (1 << 56) + 1, GOLDEN])
def test_it_grows(step: int) -> None:
    """Ten thousand keys, spread well or badly, are all found again, and no others."""
    keys = [number * step % 2**64 for number in range(1, 10_011)]
    table = HashTable(32)
    for number, key in enumerate(keys[:10_000]):
        table.set(key, number)
    assert len(table) == 10_000
    assert [table.get(key) for key in keys] == [*range(10_000)] + [None] * 10
    assert len(table._leaves) <= 10_000 / 64, "badly spread keys make the directory explode"


def test_zero_is_a_value_and_a_key() -> None:
    """A number of 0 is told from none, and a hash of 0 is one like the others."""
    table = HashTable(32)
    assert table.get(0) is None
    assert table.add(0, 0) is None
    assert table.get(0) == 0
    assert table.add(0, 7) == 0
    assert len(table) == 1


@pytest.mark.parametrize("bits", [32, 64])
def test_what_is_too_large_changes_nothing(bits: hashtable.Bits) -> None:
    """A number that does not fit is refused, and the largest that does comes back whole."""
    table = HashTable(bits)
    for put in (table.add, table.set):
        with pytest.raises(OverflowError):
            put(5, 2**bits)
        assert table.get(5) is None
        assert len(table) == 0
    table.set(5, 2**bits - 1)
    assert table.get(5) == 2**bits - 1


@pytest.mark.parametrize(("bits", "promised"), [(32, 16), (64, 20)])
def test_memory_is_as_documented(bits: hashtable.Bits, promised: float) -> None:
    """At every size beyond a few leaves, an entry needs no more than it is said to, leaves and directory included."""
    table = HashTable(bits)
    count = 0
    while count < 60_000:
        for _ in range(500):
            count += 1
            table.add(count * GOLDEN % 2**64, 1)
        if count >= 4_000:
            leaves = {id(leaf): leaf for leaf in table._leaves}.values()
            size = sum(sys.getsizeof(leaf) + sum(map(sys.getsizeof, leaf)) for leaf in leaves)
            assert (size + sys.getsizeof(table._leaves)) / count <= promised


@given(st.text() | st.integers() | st.none())
def test_hashes_are_numbers_of_64_bits(key: str | int | None) -> None:
    """None is negative; equal keys hash equally."""
    assert 0 <= hash64(key) < 2**64
    assert hash64(key) == hash64(key)


def test_no_bit_of_a_hash_is_lost() -> None:
    """Keys whose hashes differ anywhere are two keys."""
    assert hash64(-1) == 2**64 - 2
    assert len({hash64(1 << bit) for bit in range(60)}) == 60
