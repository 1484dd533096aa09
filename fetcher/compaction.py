"""L2: a journal rewritten without the records that later ones have replaced."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from fetcher.atomic import write_all
from fetcher.hashtable import HashTable, hash64
from fetcher.replay import Fact, fact, whole_lines

#: A shorter journal, in bytes, is not worth the work.
LEAST: Final = 1 << 20
#: Nor is one with fewer records for each URL or file.
TIMES: Final = 4

#: Bytes written at once.
_BLOCK: Final = 1 << 20


class _Kept:
    """Which lines of a journal still count: the latest about each URL, and the latest about each body it has had.

    The first is what is known of the URL; the others tell which files are ours, and what to go back to if the URL
    fails from now on.
    """

    def __init__(self, descriptor: int, end: int) -> None:
        self._latest = HashTable(64)
        self._bodies = HashTable(64)
        self.lines = 0
        for offset, line in whole_lines(descriptor, end):
            self.lines += 1
            said = fact(line)
            if said is not None:
                self._latest.set(hash64(said.key), offset)
                if said.delivered:
                    self._bodies.set(_body(said), offset)

    @property
    def most(self) -> int:
        """How many URLs there are, or bodies if there are more of them."""
        return max(len(self._latest), len(self._bodies))

    def has(self, said: Fact, offset: int) -> bool:
        """Tell whether the line that begins there counts."""
        if self._latest.get(hash64(said.key)) == offset:
            return True
        return said.delivered and self._bodies.get(_body(said)) == offset


def _body(said: Fact) -> int:
    return hash64((said.key, said.path))


def compact(descriptor: int, end: int, path: Path, temporary: Path) -> bool:
    """Put a file without superseded records in the place of ``path``, whose first ``end`` bytes ``descriptor`` reads.

    Does so only if the file is large and most of it is superseded, and tells whether it did. Order is kept; damaged
    lines go. Whatever happens, ``path`` is the old file or the new one, and whole; the descriptor still reads the old.
    Nobody else may write to it meanwhile. Raises OSError; then ``path`` is the old file.
    """
    if end < LEAST:
        return False
    kept = _Kept(descriptor, end)
    if kept.lines <= TIMES * kept.most:
        return False
    target = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        try:
            _copy(descriptor, end, kept, target)
            os.fsync(target)  # before the rename, or a power cut could leave an empty file under the name
        finally:
            os.close(target)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    return True


def _copy(descriptor: int, end: int, kept: _Kept, target: int) -> None:
    block = bytearray()
    for offset, line in whole_lines(descriptor, end):
        said = fact(line)
        if said is not None and kept.has(said, offset):
            block += line
        if len(block) >= _BLOCK:
            write_all(target, block)
            block.clear()
    write_all(target, block)
