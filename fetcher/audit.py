"""L2: the bodies in a place compared with the records that tell of them."""

import errno
import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol, TypeVar

from fetcher.errors import LocalError, words_of
from fetcher.frozen import value
from fetcher.hashtable import HashTable, hash64
from fetcher.model import Record, from_line
from fetcher.naming import STATE_DIRECTORY
from fetcher.replay import Past, archive_of

_READING: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: Bytes read at once.
_PIECE: Final = 1 << 18
#: For each thread, so many files are under way or waiting to be told of.
_AHEAD: Final = 16

_T = TypeVar("_T")
_R = TypeVar("_R")


class Problem(StrEnum):
    """How a file is not as its record says."""

    MISSING = "missing"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    FOREIGN = "foreign"


@value(frozen=True, slots=True)
class Finding:
    """A file that is not as recorded: its path below the directory, its record, and its size and hash now.

    A foreign file has no record; only what has changed and is still a plain file has a size and a hash.
    """

    problem: Problem
    path: str
    record: Record | None = None
    bytes: int | None = None
    sha256: str | None = None


class Place(Protocol):
    """Where bodies are. Threads call it, at most ``threads`` at once."""

    @property
    def threads(self) -> int:
        """How many bodies are read at once."""
        ...

    def pieces(self, record: Record) -> Iterator[bytes]:
        """Yield what a record tells of, from its beginning.

        Raises FileNotFoundError or NotADirectoryError if nothing is there, ValueError if it is no body, OSError if it
        cannot be read, LocalError if nothing can.
        """
        ...

    def paths(self) -> Iterator[str]:
        """Yield the path of everything that is there; raises LocalError."""
        ...


class Audit:
    """Compares every body in a place; ``files`` and ``bytes`` count what was hashed so far.

    Nothing is written or locked. It holds about 50 bytes per file that a record tells of.
    """

    def __init__(self, past: Past, place: Place) -> None:
        self._past = past
        self._place = place
        self._told = HashTable(32)
        self.files = 0
        self.bytes = 0

    def findings(self) -> Iterator[Finding]:
        """Yield what is not as recorded, in the order of the records, then files that no record tells of.

        Of several bodies that a URL has had, the latest is compared, also if a later attempt failed. Earlier ones may
        be there or not. Raises LocalError if the journal or the place cannot be read.
        """
        at_once = self._place.threads
        with ThreadPoolExecutor(at_once, "audit") as threads:
            for size, finding in _in_order(threads, self._compare, self._stored(), _AHEAD * at_once):
                self.files += 1
                self.bytes += size
                if finding is not None:
                    yield finding
        for _, _, said in self._past.every():
            if said.ok and said.path is not None:
                self._told.add(hash64(said.path), 0)
        for path in self._place.paths():
            if self._told.get(hash64(path)) is None:
                yield Finding(Problem.FOREIGN, path)

    def _stored(self) -> Iterator[Record]:
        """Yield the record of each body once, however many URLs have it."""
        seen = HashTable(32)
        for _, line, said in self._past.latest(lambda said: said.ok):
            if said.path is None or (not said.archived and seen.add(hash64(said.path), 0) is not None):
                continue
            try:
                record = from_line(line)
            except ValueError:
                self._past.damaged += 1
                continue
            if record.offset is None or seen.add(hash64((said.path, record.offset)), 0) is None:
                yield record

    def _compare(self, record: Record) -> tuple[int, Finding | None]:
        """Return how many bytes were hashed, and what is wrong with the record's body."""
        path = record.path or ""
        size, digest = 0, hashlib.sha256()
        try:
            for piece in self._place.pieces(record):
                size += len(piece)
                digest.update(piece)
        except (FileNotFoundError, NotADirectoryError):
            return size, Finding(Problem.MISSING, path, record)
        except OSError:
            return size, Finding(Problem.UNREADABLE, path, record)
        except ValueError:
            return size, Finding(Problem.CHANGED, path, record)
        if digest.hexdigest() == record.sha256:
            return size, None
        return size, Finding(Problem.CHANGED, path, record, size, digest.hexdigest())


class Directory:
    """The files of a directory; ``body_in`` yields the body that a record says is in an archive.

    That raises OSError if the archive cannot be read, ValueError if there is no such body.
    """

    #: Hashing is bound by the processor, or by a disk that takes a few at a time.
    threads: Final = min(8, os.cpu_count() or 1)

    def __init__(self, root: Path, body_in: Callable[[Path, Record], Iterable[bytes]]) -> None:
        self._root = root
        self._body_in = body_in

    def pieces(self, record: Record) -> Iterator[bytes]:
        """Yield a file's bytes, or those of an entry; see Place. A link is not followed, and a pipe not waited for."""
        path = record.path or ""
        if record.offset is not None:
            yield from self._body_in(archive_of(self._root, path), record)
            return
        try:
            descriptor = os.open(self._root / path, _READING)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise ValueError("a link or a socket") from error
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("no file")
            while piece := os.read(descriptor, _PIECE):
                yield piece
        finally:
            os.close(descriptor)

    def paths(self) -> Iterator[str]:
        """Yield the path of everything that is no folder, folder by folder; links are not followed."""
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self._root / folder) as entries:
                    found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
            except OSError as error:
                raise LocalError(f"cannot read {error.filename}: {words_of(error)}") from error
            yield from (folder + name for name, is_folder in found if not is_folder)
            inner = (name for name, is_folder in reversed(found) if is_folder)
            folders += [f"{folder}{name}/" for name in inner if folder or name != STATE_DIRECTORY]


def _in_order(
    threads: ThreadPoolExecutor, function: Callable[[_T], _R], items: Iterable[_T], ahead: int
) -> Iterator[_R]:
    """Yield what the function makes of each item, in order; so many are taken ahead."""
    waiting: deque[Future[_R]] = deque()
    try:
        for item in items:
            waiting.append(threads.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
