"""L2: a journal's file read again: its whole lines, what each is about, and which of them still count."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Self

import orjson

from fetcher.errors import ErrorKind, FetchError, LocalError, UsageError, words_of
from fetcher.frozen import value
from fetcher.hashtable import HashTable, hash64
from fetcher.model import Record, from_line, named_key
from fetcher.naming import OPEN, STATE_DIRECTORY
from fetcher.urls import parse

#: The journal's file below its directory.
JOURNAL: Final = f"{STATE_DIRECTORY}/records.ndjson"

#: When a record's URL was first tried. Quotes inside of JSON's strings are escaped, so nothing else can look so.
_STARTED: Final = re.compile(rb'"started_at":"([^"\\]*)"')

#: Bytes read at once.
_BUFFER: Final = 1 << 20
#: Bytes read for one line at first; most lines are shorter.
_READ: Final = 4_096


@value(frozen=True, slots=True)
class Fact:
    """What a record says about its URL: whether it failed, and where its body lies with which SHA-256.

    ``archived`` bodies lie there with others; ``undone`` if only the command for it has failed.
    ``key`` is the request's; of a line that is no URL, the line itself, which cannot be a request's.
    """

    key: str
    ok: bool
    path: str | None
    sha256: str | None
    archived: bool = False
    undone: bool = False

    @property
    def delivered(self) -> bool:
        """Whether it says what lies at its path, as in Record."""
        return self.ok or self.undone


def key_of(url: str) -> str:
    """Return what records of the same URL have in common, whatever its spelling; behind a ``#`` keys may tell more."""
    try:
        return parse(url).key
    except FetchError:
        return url


def key_of_record(record: Record) -> str:
    """Return the key of the request that a record is of."""
    return named_key(parse(record.url).key, (record.asked or {}).get("name"))


def fact(line: bytes) -> Fact | None:
    """Return what a line of the journal says, None if it is damaged."""
    try:
        # What stands behind the digest is half of the line, and looked at when the record is asked for.
        facts, behind, _ = line.partition(b',"content_type":')
        values = orjson.loads(facts + b"}" if behind else line)
        url, ok, path, sha256 = values["url"], values["ok"], values["path"], values["sha256"]
        archived = values.get("offset") is not None
        name = (values.get("asked") or {}).get("name")
        undone = (values["error"] or {}).get("kind") == ErrorKind.EXEC
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not (isinstance(url, str) and isinstance(ok, bool) and isinstance(name, str | None)):
        return None
    if path is not None and not (isinstance(path, str) and isinstance(sha256, str) and _is_inside(path)):
        return None
    try:
        return Fact(named_key(parse(url).key, name), ok, path, sha256, archived, undone)
    except FetchError:
        return None if ok else Fact(url, ok, path, sha256, archived)


def _is_inside(path: str) -> bool:
    return not path.startswith("/") and "\0" not in path and (".." not in path or ".." not in path.split("/"))


def archive_of(directory: Path, path: str) -> Path:
    """Return where an archive lies, which may not be finished."""
    final = directory / path
    growing = directory / OPEN / path
    return growing if growing.exists() and not final.exists() else final


def whole_lines(descriptor: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield each line that ends within the first ``end`` bytes, and where it begins. Moves the file's position."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    start = 0
    with open(descriptor, "rb", buffering=_BUFFER, closefd=False) as lines:
        for line in lines:
            if start + len(line) > end or not line.endswith(b"\n"):
                return
            yield start, line
            start += len(line)


def line_at(descriptor: int, offset: int) -> bytes:
    """Return the line that begins there, without moving the file's position, which other threads share."""
    line = b""
    while not line.endswith(b"\n") and (more := os.pread(descriptor, _READ, offset + len(line))):
        line += more[: more.find(b"\n") + 1 or None]
    return line


class Past:
    """The records of a directory, read beside whatever runs there, as a context manager.

    It sees the records that were there when it was entered. It takes no lock and changes nothing; ``damaged`` counts
    the lines that are no records. It holds about 17 bytes a URL and the line at hand. Reading blocks.
    Raises UsageError on entering if there are no records, LocalError if they cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.damaged = 0
        self._file = -1
        self._end = 0

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self.directory / JOURNAL

    def __enter__(self) -> Self:
        try:
            self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            if not self.directory.is_dir():
                raise UsageError(f"no such directory: {self.directory}") from error
            raise UsageError(f"{self.directory} has no records: nothing was fetched into it") from error
        except OSError as error:
            raise LocalError(f"cannot read {self.path}: {words_of(error)}") from error
        self._end = os.fstat(self._file).st_size
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._file)

    def record(self, offset: int) -> Record:
        """Return the record that begins there; raises LocalError if it cannot be read any more. Any thread may call."""
        try:
            return from_line(line_at(self._file, offset))
        except (OSError, ValueError) as error:
            raise LocalError(f"cannot read {self.path}: {error}") from error

    def every(self) -> Iterator[tuple[int, bytes, Fact]]:
        """Yield each record in order: where its line begins, the line, and what it says."""
        self.damaged = 0
        try:
            for offset, line in whole_lines(self._file, self._end):
                said = fact(line)
                if said is None:
                    self.damaged += 1
                else:
                    yield offset, line, said
        except OSError as error:
            raise LocalError(f"cannot read {self.path}: {words_of(error)}") from error

    def starts(self) -> Iterator[tuple[int, str | None]]:
        """Yield where each line begins and when its URL was first tried, None if it was not. Reads little of them."""
        try:
            for offset, line in whole_lines(self._file, self._end):
                found = _STARTED.search(line)
                yield offset, None if found is None else found[1].decode(errors="replace")
        except OSError as error:
            raise LocalError(f"cannot read {self.path}: {words_of(error)}") from error

    def latest(self, counts: Callable[[Fact], bool] = lambda _: True) -> Iterator[tuple[int, bytes, Fact]]:
        """Yield the latest record of each URL, of those that count, in the order of the file, which is read twice."""
        places = HashTable(64)
        for offset, _, said in self.every():
            if counts(said):
                places.set(hash64(said.key), offset)
        for offset, line, said in self.every():
            if places.get(hash64(said.key)) == offset:
                yield offset, line, said
