"""L1: a map from 64-bit hashes to numbers, about 13 bytes an entry, for lists of millions."""

from array import array
from bisect import bisect_left
from collections.abc import Hashable
from typing import Final, Literal

#: A leaf with more entries than this is split: what it costs to make room in the middle of one stays small.
_MOST: Final = 512
#: The directory is doubled only while there are this many entries for each of its places, however they are spread.
_SHARE: Final = _MOST // 4
_BITS: Final = 64
_MASK: Final = (1 << _BITS) - 1

#: How large the numbers of a table can be.
Bits = Literal[32, 64]


def hash64(key: Hashable) -> int:
    """Return the key's hash as a number from 0 to 2**64 - 1, the same within one process.

    Strings hash by SipHash with a secret of the process (PEP 456), so nobody can choose keys that collide;
    among ten million keys, the chance that any two do is 1 in 370,000.
    """
    return hash(key) & _MASK


class HashTable:
    """Maps numbers from :func:`hash64` to numbers of 32 or 64 bits; entries are never removed.

    Extendible hashing: the leading bits of a key choose a leaf from a directory; several places of it can share one. A
    leaf is two sorted arrays without a free place in between, so that the search and the shifting are done by C.
    Nothing is ever moved but the leaf that is split, so that no call takes long and growing takes no memory to speak of.
    """

    def __init__(self, bits: Bits) -> None:
        leaf = array("Q"), array("I" if bits == 32 else "Q")
        self._leaves = [leaf]
        self._shift = _BITS
        self._count = 0

    def get(self, key: int) -> int | None:
        """Return the key's number, or None."""
        keys, values = self._leaves[key >> self._shift]
        place = bisect_left(keys, key)
        return values[place] if place < len(keys) and keys[place] == key else None

    def add(self, key: int, value: int) -> int | None:
        """Return the key's number; None if it had none and has this one from now on.

        Raises OverflowError if the number is too large.
        """
        keys, values = self._leaves[key >> self._shift]
        place = bisect_left(keys, key)
        if place < len(keys) and keys[place] == key:
            return values[place]
        values.insert(place, value)
        keys.insert(place, key)
        self._count += 1
        if len(keys) > _MOST:
            self._split(key >> self._shift)
        return None

    def set(self, key: int, value: int) -> None:
        """Give the key this number, whatever it had. Raises OverflowError if the number is too large."""
        if self.add(key, value) is not None:
            keys, values = self._leaves[key >> self._shift]
            values[bisect_left(keys, key)] = value

    def __len__(self) -> int:
        return self._count

    def _split(self, place: int) -> None:
        """Divide the leaf at this place of the directory, unless keys are so badly spread that it must grow on."""
        leaves = self._leaves
        leaf = keys, values = leaves[place]
        first, end = place, place + 1
        while first and leaves[first - 1] is leaf:
            first -= 1
        while end < len(leaves) and leaves[end] is leaf:
            end += 1
        if end - first == 1:
            if self._count < len(leaves) * _SHARE:
                return
            leaves = self._leaves = [shared for shared in leaves for _ in range(2)]
            self._shift -= 1
            first, end = 2 * first, 2 * end
        middle = (first + end) // 2
        cut = bisect_left(keys, middle << self._shift)
        leaves[first:middle] = [(keys[:cut], values[:cut])] * (middle - first)
        leaves[middle:end] = [(keys[cut:], values[cut:])] * (end - middle)
