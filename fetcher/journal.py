"""L2: the directory's memory: every finished record, appended to one file, found again by its URL.

DIR/.fetcher/records.ndjson   the journal: one record a line; a run only appends, or replaces it whole at its end
DIR/.fetcher/replacing        whose records may be wrong if the run dies: what they tell of is being fetched again
DIR/.fetcher/lock             held (flock) by the run that uses DIR; the kernel frees it when that run dies
DIR/.fetcher/partial/         bodies on their way
DIR/.fetcher/open/            archives that grow
DIR/.fetcher/last-run.json    the summary of the last run, which the command writes
"""

import asyncio
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from hashlib import file_digest, sha256
from math import inf
from pathlib import Path
from typing import Final, Self, TypeVar

from fetcher.atomic import replace_file, whole, write_all
from fetcher.compaction import TIMES, compact
from fetcher.errors import ErrorKind, FetchError, LocalError, words_of
from fetcher.events import Settled
from fetcher.hashtable import HashTable, hash64
from fetcher.lock import Lock, Patience
from fetcher.model import Outcome, Record, from_line
from fetcher.naming import STATE_DIRECTORY
from fetcher.replay import JOURNAL, archive_of, fact, key_of_record, line_at, whole_lines

#: What the journal keeps: facts that a fetch has established. The other outcomes repeat what it says already.
_KEPT: Final = frozenset({Outcome.FETCHED, Outcome.UNCHANGED, Outcome.FAILED})

#: Failures that may come when a body has its name already; behind the others, what was there is still there.
_LATE: Final = frozenset({ErrorKind.CANCELLED, ErrorKind.DISK, ErrorKind.INTERNAL, ErrorKind.TIMEOUT_TOTAL})

#: So many lines of what is replaced are not worth being written anew.
_FEW: Final = 10_000

_T = TypeVar("_T")
#: Told of each stored body: its path, its request's key and its SHA-256.
Remember = Callable[[str, str, str], None]


def partial_in(directory: Path) -> Path:
    """Return where bodies for this output directory are put together."""
    return directory / STATE_DIRECTORY / "partial"


class Journal:
    """The records of all runs in one directory, as an async context manager.

    Entering it takes the lock and reads the file once. It then holds where each stored URL's latest record lies,
    about 17 bytes a URL, and not the records. A last line that a crash has torn is cut off. Leaving it syncs the file
    to the medium, once; the bodies it tells of are not synced. A file that has grown far beyond one record per URL is
    then written anew, without what later records have replaced.
    A record of which the last run could not say whether it still holds is compared with the file before it is believed.
    ``there`` tells whether the body of a record is there, if that is not in the directory; it may block.
    With ``patience`` it waits for a run that uses the directory. With ``writable=False`` nothing is made, locked or mended: what a dry run needs.
    Raises LocalError if the directory cannot be used or the file not be synced, BusyError if another run uses it.
    """

    def __init__(
        self,
        directory: Path,
        executor: Executor,
        remember: Remember,
        *,
        writable: bool = True,
        patience: Patience | None = None,
        there: Callable[[Record], bool] | None = None,
    ) -> None:
        self._directory = directory
        self._executor = executor
        self._remember = remember
        self._writable = writable
        self._offsets = HashTable(64)
        self._end = 0
        self._lines = 0
        self._file = -1
        self._lock = Lock(directory)
        self._patience = patience
        self._there = there or self._is_there
        self._comparable = there is None
        #: The marks of keys whose records' bodies may have been replaced since.
        self._doubtful: set[str] = set()
        #: How many lines the file has that notes them.
        self._noted: float = 0
        self.notices: list[str] = []

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self._directory / JOURNAL

    @property
    def _compacted(self) -> Path:
        return self.path.with_name(f"{self.path.name}.new")

    @property
    def _replacing(self) -> Path:
        return self.path.with_name("replacing")

    @property
    def partial(self) -> Path:
        """Where bodies are put together."""
        return partial_in(self._directory)

    async def __aenter__(self) -> Self:
        try:
            if self._writable:
                await whole(self._run(self._make))
                await self._lock.take(self._patience)
            await whole(self._run(self._open))
        except OSError as error:
            self._close()
            where = error.filename or self._directory
            raise LocalError(f"cannot use {where}: {words_of(error, str(error))}") from error
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await whole(self._run(self._sync_and_close))
        except OSError as error:
            raise self._failure(error) from error

    async def write(self, batch: Sequence[Settled]) -> None:
        """Append the records of a batch; raises LocalError if the disk does not take them."""
        kept = [settled for settled in batch if settled.record.outcome in _KEPT]
        if not kept:
            return
        try:
            offset = await self._run(self._append, b"".join(settled.line for settled in kept))
        except OSError as error:
            raise self._failure(error) from error
        for settled in kept:
            if settled.key is not None:
                self._learn(settled.key, settled.record, offset)
            offset += len(settled.line)
        self._lines += len(kept)

    def _learn(self, key: str, record: Record, offset: int) -> None:
        """Learn where the record of a key lies, or that the one before it still holds."""
        if record.delivered:
            self._offsets.set(hash64(key), offset)
        if self._doubtful:
            kinds = (record.error.kind if record.error else "", *record.retried)
            if record.delivered or _LATE.isdisjoint(kinds):
                self._doubtful.discard(_mark(key))

    def knows(self, key: str) -> bool:
        """Tell whether a body for this request key was stored at some time; :meth:`find` tells if it still is."""
        return self._offsets.get(hash64(key)) is not None

    async def find(self, keys: Sequence[str]) -> list[Record | None]:
        """Return for each request key the record of its stored body, None if there is none or the file is not there."""
        # The table changes on the event loop, so it is read there too.
        places = [(key, self._offsets.get(hash64(key)), self._doubts(key)) for key in keys]
        found = await self._run(self._find, places)
        if self._doubtful:
            self._doubtful -= {_mark(key) for key, record in zip(keys, found, strict=True) if record is not None}
        return found

    async def begin(self, keys: Sequence[str]) -> None:
        """Note that the bodies for these request keys may be replaced from now on; raises LocalError."""
        marks = {_mark(key) for key in keys if self.knows(key)} - self._doubtful
        if not marks:
            return
        self._doubtful |= marks
        self._noted += len(marks)
        if self._noted > TIMES * len(self._doubtful) + _FEW:
            self._noted = len(self._doubtful)
            await self._run(replace_file, self._replacing, _lines(self._doubtful))
            return
        try:
            await self._run(_append, self._replacing, _lines(marks))
        except OSError as error:
            raise LocalError(f"cannot write {self._replacing}: {words_of(error)}") from error

    def _doubts(self, key: str) -> bool:
        return bool(self._doubtful) and _mark(key) in self._doubtful

    def _failure(self, error: OSError) -> LocalError:
        return LocalError(f"{words_of(error)}: {self.path}")

    async def _run(self, function: Callable[..., _T], *args: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    def _make(self) -> None:
        self.partial.mkdir(parents=True, exist_ok=True)

    def _open(self) -> None:
        if self._writable:
            for path in (self.path, self._replacing):
                path.with_name(f"{path.name}.new").unlink(missing_ok=True)  # of a run that was killed
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        elif self.path.exists():
            self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        if self._file >= 0:
            self._replay()
            with suppress(FileNotFoundError):
                self._doubtful = set(self._replacing.read_text("ascii", "replace").split())
                self._noted = inf  # its end may be torn, so it is written anew before anything is added

    def _sync_and_close(self) -> None:
        try:
            if self._writable and self._file >= 0:
                os.fsync(self._file)
                if self._doubtful:
                    replace_file(self._replacing, _lines(self._doubtful))
                else:
                    self._replacing.unlink(missing_ok=True)
                self._compact()
        finally:
            self._close()

    def _compact(self) -> None:
        """Drop superseded records, if there are many; what cannot be done now is tried again by the next run."""
        # Most runs see here, without reading the file, that there is nothing to gain.
        if self._lines > TIMES * len(self._offsets):
            with suppress(OSError):
                compact(self._file, self._end, self.path, self._compacted)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._lock.release()

    def _replay(self) -> None:
        damaged = 0
        size = os.fstat(self._file).st_size
        for offset, line in whole_lines(self._file, size):
            damaged += not self._replay_line(offset, line)
            self._end = offset + len(line)
            self._lines += 1
        if self._end < size:
            self.notices.append(f"{self.path}: dropped a last line that was cut short")
            if self._writable:
                os.ftruncate(self._file, self._end)
        if damaged:
            self.notices.append(f"{self.path}: {damaged:,} damaged lines ignored; what they told is fetched again")

    def _replay_line(self, offset: int, line: bytes) -> bool:
        said = fact(line)
        if said is None:
            return False
        if said.delivered:
            if said.path is not None and said.sha256 is not None and not said.archived:
                self._remember(said.path, said.key, said.sha256)
            self._offsets.set(hash64(said.key), offset)
        return True

    def _append(self, block: bytes) -> int:
        """Return where the block begins."""
        start = self._end
        left = memoryview(block)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            os.ftruncate(self._file, start)
            raise
        self._end += len(block)
        return start

    def _find(self, places: Sequence[tuple[str, int | None, bool]]) -> list[Record | None]:
        return [None if offset is None else self._read(key, offset, doubtful) for key, offset, doubtful in places]

    def _read(self, key: str, offset: int, doubtful: bool) -> Record | None:
        try:
            record = from_line(line_at(self._file, offset))
            found = record.ok and key_of_record(record) == key and self._there(record)
            found = found and not (doubtful and self._has_changed(record))
        except (OSError, ValueError, TypeError, AttributeError, FetchError):
            return None
        return record if found else None

    def _has_changed(self, record: Record) -> bool:
        """Tell whether something else than the record's body is there, or may be. In an archive nothing is replaced."""
        if record.offset is not None:
            return False
        if not self._comparable or record.path is None:
            return True
        with (self._directory / record.path).open("rb") as file:
            return file_digest(file, "sha256").hexdigest() != record.sha256

    def _is_there(self, record: Record) -> bool:
        if record.path is None:
            return record.bytes == 0
        if record.offset is None:
            found = (self._directory / record.path).lstat()
            return stat.S_ISREG(found.st_mode) and found.st_size == record.bytes
        found = archive_of(self._directory, record.path).lstat()
        return stat.S_ISREG(found.st_mode) and found.st_size >= record.offset + (record.length or 0)


def _mark(key: str) -> str:
    """Return what stands for a key in a file, where it needs no secrets and no escapes."""
    return sha256(key.encode()).hexdigest()[:32]


def _append(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        write_all(descriptor, content)
    finally:
        os.close(descriptor)


def _lines(marks: Iterable[str]) -> bytes:
    return "".join(f"{mark}\n" for mark in marks).encode()
