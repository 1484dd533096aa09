"""L1: no two owners get the same path, not even where a disk takes two for one."""

import re
from collections.abc import Iterator
from itertools import chain, count
from typing import Final

from fetcher.hashtable import HashTable, hash64
from fetcher.paths import digest, folded, split_extension

#: The owner of what no run has made.
_NOBODY: Final = "\0"

#: A path whose folders got so many marks that it is longer than this is collapsed too; systems take 4,096 in all.
_MAX_MARKED: Final = 1500


def _variants(stem: str, suffix: str, seed: str) -> Iterator[str]:
    """Yield other names, the same ones for the same seed: ``stem~0a1b2c3d.html``, endlessly."""
    for number in count(1):
        yield f"{stem}~{digest(seed if number == 1 else f'{seed} {number}')[:8]}{suffix}"


#: What is known of a path: whether it is a folder, whose file it is and if an earlier run has made that, or, as long as
#: it is neither, that a variant of it can be in use.
_FOLDER: Final = 1
_EARLIER: Final = 2
_VARIED: Final = 4
_OWNER: Final = (1 << 64) - 8

_LATELY: Final = 1024

#: The mark of a variant of a file or folder, in a folded path.
_VARIANT: Final = re.compile(r"~[0-9a-f]{8}(?=(?:\.[a-z0-9]{1,10})?\Z)")


def _mark(owner: str) -> int:
    return hash64(owner) & _OWNER or 8


class Names:
    """Remembers which owner has which name, so that no two share one, not even on a case-blind or NFD disk.

    No name is both a file and a folder. The owner is the URL; for a template that ``needs_body`` give the
    body's SHA-256 instead, and equal content gets one name, that is, one file.

    A name costs about 17 bytes, and so does a folder: paths are kept as Python's 64-bit string hashes, owners as the
    first 61 bits of them; those are keyed anew in each process, so that no list can aim at a clash.
    """

    def __init__(self) -> None:
        self._facts = HashTable(64)
        self._remembering = False
        self._nested = True  # whether all that a folder lies in are folders
        self._lately: set[str] = set()  # folders, so that few are looked up again and again

    def claim(self, path: str, owner: str) -> str:
        """Return ``path`` if it is free or the owner's, else a variant of it that is: ``a~0a1b2c3d.html``.

        A folder of that path which is another's file becomes ``folder~0a1b2c3d``, for everything below it.
        Asking again gives the same name, as does a later run that was told this one by :meth:`remember`; only where
        a list holds the variant itself as a URL must that run remember its owner too.
        """
        # Most names are new, in a folder that is known.
        key = folded(path)
        folder = key.rpartition("/")[0]
        if self._nested and len(path) <= _MAX_MARKED // 4 and (not folder or self._is_folder(folder)):
            mark = _mark(owner)
            facts = self._facts.add(hash64(key), mark)
            if facts is None:
                self._note_variant(key)
                return path
            if facts & _OWNER == mark:
                return path
        return self._claim(path, owner)

    def remember(self, path: str, owner: str) -> None:
        """Record that an earlier run gave ``path`` to ``owner``."""
        self._remembering = True
        self._put(folded(path), _mark(owner) | _EARLIER)

    def remembers(self, path: str, owner: str) -> bool:
        """Tell whether an earlier run gave ``path`` to ``owner``."""
        return self._remembering and self._get(folded(path)) & (_OWNER | _EARLIER) == _mark(owner) | _EARLIER

    def avoid(self, path: str) -> None:
        """Record that nobody may have ``path``, nor anything below it."""
        key = folded(path)
        facts = self._get(key)
        if facts & _FOLDER:
            self._nested = False
            self._lately.clear()
            self._facts.set(hash64(key), facts & ~_FOLDER)
        self._put(key, _mark(_NOBODY))

    def _claim(self, path: str, owner: str) -> str:
        path = self._below_folders(path)
        if len(path.encode()) > _MAX_MARKED:
            path = f"{path.partition('/')[0]}/{digest(owner)[:16]}{split_extension(path)[1]}"
        folder, slash, last = path.rpartition("/")
        stem, suffix = split_extension(last)
        variants = _variants(folder + slash + stem, suffix, owner)
        if self._get(folded(path)) == _VARIED:
            first = next(variants)
            if self._owns(first, owner):
                return first
            variants = chain((first,), variants)
        return next(name for name in chain((path,), variants) if self._take(name, owner))

    def _below_folders(self, path: str) -> str:
        """Return ``path`` with every folder that is a file replaced by its variant.

        A variant in use stays in use although this run has not met the file: an earlier one has.
        """
        folder, slash, last = path.rpartition("/")
        if not slash:
            return path
        placed = ""
        for part in folder.split("/"):
            plain = placed + part
            key = folded(plain)
            facts = self._get(key)
            if facts and not facts & _FOLDER:
                variants = _variants(plain, "", key)
                first = next(variants)
                if self._get(folded(first)) & _FOLDER:
                    plain = first
                elif facts & _OWNER:
                    plain = next(name for name in chain((first,), variants) if not self._get(folded(name)) & _OWNER)
            placed = plain + "/"
        return placed + last

    def _take(self, path: str, owner: str) -> bool:
        key = folded(path)
        if self._get(key) & (_FOLDER | _OWNER):
            return self._owns(path, owner)
        self._put(key, _mark(owner))
        return True

    def _owns(self, path: str, owner: str) -> bool:
        return self._get(folded(path)) & _OWNER == _mark(owner)

    def _put(self, key: str, mark: int) -> None:
        place = hash64(key)
        facts = self._facts.add(place, mark)
        if facts is not None:
            self._facts.set(place, facts & _FOLDER | mark)
        self._note_variant(key)
        while (key := key.rpartition("/")[0]) and not self._is_folder(key):
            self._facts.set(hash64(key), self._get(key) | _FOLDER)
            self._note_variant(key)

    def _is_folder(self, key: str) -> bool:
        if key in self._lately:
            return True
        if not self._get(key) & _FOLDER:
            return False
        if len(self._lately) >= _LATELY:
            self._lately.clear()
        self._lately.add(key)
        return True

    def _note_variant(self, key: str) -> None:
        """If this can be the first variant of a path, note with that path that it has one."""
        if "~" in key and (varied := _VARIANT.sub("", key)) != key:
            self._facts.set(hash64(varied), self._get(varied) | _VARIED)

    def _get(self, key: str) -> int:
        return self._facts.get(hash64(key)) or 0
