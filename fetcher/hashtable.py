"""L1: a map from 64-bit hashes to 64-bit numbers, 21 to 43 bytes an entry, for lists of millions."""

from array import array
from collections.abc import Hashable
from typing import Final

#: Entries are spread over this many small tables, so that growing one never takes long.
_SHARDS: Final = 256
_MASK: Final = (1 << 64) - 1


def hash64(key: Hashable) -> int:
    """Return the key's hash as a number from 1 to 2**64 - 1, the same within one process.

    Strings hash by SipHash with a secret of the process (PEP 456), so nobody can choose keys that collide;
    among ten million keys, the chance that any two do is 1 in 370,000.
    """
    return hash(key) & _MASK or 1


class _Shard:
    """Open addressing with linear probing in two arrays; a key of 0 marks a free place."""

    __slots__ = ("count", "keys", "values")

    def __init__(self, size: int) -> None:
        self.keys = array("Q", bytes(8 * size))
        self.values = array("Q", bytes(8 * size))
        self.count = 0

    def slot(self, key: int) -> int:
        keys = self.keys
        mask = len(keys) - 1
        slot = key & mask
        while keys[slot] not in (0, key):
            slot = (slot + 1) & mask
        return slot

    def grow(self) -> None:
        keys, values = self.keys, self.values
        self.keys = array("Q", bytes(16 * len(keys)))
        self.values = array("Q", bytes(16 * len(keys)))
        for key, value in zip(keys, values, strict=True):
            if key:
                slot = self.slot(key)
                self.keys[slot], self.values[slot] = key, value


class HashTable:
    """Maps numbers from :func:`hash64` to numbers from 0 to 2**64 - 1; entries are never removed."""

    def __init__(self) -> None:
        self._shards = [_Shard(8) for _ in range(_SHARDS)]

    def get(self, key: int) -> int | None:
        """Return the key's number, or None."""
        shard = self._shards[key >> 56]
        slot = shard.slot(key)
        return shard.values[slot] if shard.keys[slot] else None

    def set(self, key: int, value: int) -> None:
        """Give the key this number, whatever it had."""
        shard = self._shards[key >> 56]
        slot = shard.slot(key)
        if not shard.keys[slot]:
            if shard.count * 4 >= len(shard.keys) * 3:
                shard.grow()
                slot = shard.slot(key)
            shard.count += 1
            shard.keys[slot] = key
        shard.values[slot] = value

    def setdefault(self, key: int, value: int) -> int:
        """Return the key's number; give it this one first if it has none."""
        known = self.get(key)
        if known is None:
            self.set(key, value)
            return value
        return known

    def __len__(self) -> int:
        return sum(shard.count for shard in self._shards)
