"""L2: the files of a directory compared with the records that tell of them."""

import errno
import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from fetcher.errors import LocalError, words_of
from fetcher.frozen import value
from fetcher.hashtable import HashTable, hash64
from fetcher.model import Record, from_line
from fetcher.naming import STATE_DIRECTORY
from fetcher.replay import Past, archive_of

#: Hashing is bound by the processor, or by a disk that takes a few at a time.
_THREADS: Final = min(8, os.cpu_count() or 1)
#: Files under way or waiting to be told of.
_AHEAD: Final = 16 * _THREADS

_READING: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

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


class Audit:
    """Compares every file of a directory; ``files`` and ``bytes`` count what was hashed so far.

    ``body_in`` yields the body that a record says is in an archive: of those each body counts, and is compared. It
    raises OSError if the file cannot be read, ValueError if there is no such body.

    Nothing is written or locked. It holds about 50 bytes per file that a record tells of.
    """

    def __init__(self, past: Past, body_in: Callable[[Path, Record], Iterable[bytes]]) -> None:
        self._past = past
        self._body_in = body_in
        self._told = HashTable(32)
        self.files = 0
        self.bytes = 0

    def findings(self) -> Iterator[Finding]:
        """Yield what is not as recorded, in the order of the records, then files that no record tells of.

        Of several bodies that a URL has had, the latest is compared, also if a later attempt failed. Earlier ones may
        be there or not. Raises LocalError if the journal or a folder cannot be read.
        """
        with ThreadPoolExecutor(_THREADS, "audit") as threads:
            for size, finding in _in_order(threads, self._compare, self._stored(), _AHEAD):
                self.files += 1
                self.bytes += size
                if finding is not None:
                    yield finding
        for _, _, said in self._past.every():
            if said.ok and said.path is not None:
                self._told.add(hash64(said.path), 0)
        for path in self._walk():
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
        """Return how many bytes were hashed, and what is wrong with the record's file."""
        path = record.path or ""
        if record.offset is not None:
            return self._compare_archived(path, record)
        try:
            # A link is not followed, and a pipe not waited for.
            descriptor = os.open(self._past.directory / path, _READING)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    return 0, Finding(Problem.CHANGED, path, record)
                with open(descriptor, "rb", buffering=0, closefd=False) as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return 0, Finding(Problem.MISSING, path, record)
        except OSError as error:
            is_another = error.errno in (errno.ELOOP, errno.ENXIO)  # a link, a socket
            return 0, Finding(Problem.CHANGED if is_another else Problem.UNREADABLE, path, record)
        if digest == record.sha256:
            return found.st_size, None
        return found.st_size, Finding(Problem.CHANGED, path, record, found.st_size, digest)

    def _compare_archived(self, path: str, record: Record) -> tuple[int, Finding | None]:
        """Do the same with a body in an archive."""
        size, digest = 0, hashlib.sha256()
        try:
            for piece in self._body_in(archive_of(self._past.directory, path), record):
                size += len(piece)
                digest.update(piece)
        except FileNotFoundError:
            return 0, Finding(Problem.MISSING, path, record)
        except OSError:
            return size, Finding(Problem.UNREADABLE, path, record)
        except ValueError:
            return size, Finding(Problem.CHANGED, path, record)
        if digest.hexdigest() == record.sha256:
            return size, None
        return size, Finding(Problem.CHANGED, path, record, size, digest.hexdigest())

    def _walk(self) -> Iterator[str]:
        """Yield the path of everything that is no folder, folder by folder; links are not followed."""
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self._past.directory / folder) as entries:
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
    for item in items:
        waiting.append(threads.submit(function, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
