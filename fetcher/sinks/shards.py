"""L2: bodies one behind the other in archives, each visible under its name when it is finished.

DIR/.fetcher/open/NAME    an archive that grows; one file per process, which only appends
DIR/NAME                  the same, finished; from here it goes to a depot, if there is one

A body stands whole in its archive before its record is written. What a crash leaves is mended by the next run: cut back
to the last whole entry and finished, so nothing that a record tells of is lost. A body whose record was not written is
fetched again; then it is there twice, and the record tells of one that counts.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fetcher.atomic import whole, write_all
from fetcher.clock import Clock
from fetcher.conditional import Held
from fetcher.disk import Disk
from fetcher.errors import ErrorKind, FetchError, LocalError, words_of
from fetcher.model import Head, Request, Stored, timestamp
from fetcher.naming import OPEN, STATE_DIRECTORY
from fetcher.sinks.base import Archive, Depot, Entry, check_digest
from fetcher.sinks.spool import Spool
from fetcher.text import size_text

_APPENDING: Final = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = _APPENDING | os.O_CREAT | os.O_EXCL


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """When a new archive is begun, and how it is numbered: from ``first``, by ``step``.

    An archive takes no more entries once it has ``size`` bytes or ``count`` of them. Processes with one directory number
    differently.
    """

    size: int
    count: int | None = None
    first: int = 1
    step: int = 1


class ShardsSink:
    """Keeps bodies in archives below ``directory``; an async context manager, which finishes the last one on leaving.

    A body is put together among the ``partials`` and appended when it is whole, one at a time. Nothing is synced.
    With a ``depot`` the next body is appended when the archive before has got there; whoever opened this sends the last.
    """

    def __init__(
        self,
        directory: Path,
        archive: Archive,
        rotation: Rotation,
        disk: Disk,
        clock: Clock,
        depot: Depot | None = None,
    ) -> None:
        self.disk = disk
        self.clock = clock
        self.archive = archive
        self._depot = depot
        self._finished = ""
        self._directory = directory
        self._rotation = rotation
        self._serial = rotation.first
        self._name = ""
        self._end = 0
        self._entries = 0
        self._turn = asyncio.Lock()

    @property
    def wants_wire(self) -> bool:
        """Whether its archives hold what went over the wire."""
        return self.archive.wants_wire

    @property
    def partials(self) -> Path:
        """Where bodies are put together."""
        return self._directory / STATE_DIRECTORY / "partial"

    async def __aenter__(self) -> Self:
        await self._run(partial(os.makedirs, self._directory / OPEN, exist_ok=True))
        await self._run(partial(os.makedirs, self.partials, exist_ok=True))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._run(self._finish)

    async def held(self, request: Request) -> None:
        """Return None: a body that was cut off begins anew."""

    async def open(self, request: Request, head: Head, held: Held | None = None) -> "_ShardWriter":  # noqa: ARG002
        """Prepare to take one body."""
        return _ShardWriter(self, request, head)

    async def keep(self, request: Request, head: Head, at: float, spool: Spool) -> Stored:
        """Append a whole body; raises LocalError."""
        async with self._turn:
            try:
                stored = await whole(self.disk.run(self._keep, request, head, at, spool))
            except OSError as error:
                raise self.failure(error) from error
            finished, self._finished = self._finished, ""
            if finished and self._depot is not None:
                await self._depot.send(self._directory / finished)
            return stored

    def failure(self, error: OSError) -> LocalError:
        """Return what a failure of the disk means to a run."""
        return LocalError(f"{words_of(error, str(error))}: {error.filename or self._directory}")

    async def _run(self, function: Callable[[], None]) -> None:
        try:
            await whole(self.disk.run(function))
        except OSError as error:
            raise self.failure(error) from error

    def _keep(self, request: Request, head: Head, at: float, spool: Spool) -> Stored:
        sha256 = spool.close()
        if not self.wants_wire:  # else it was compared before, decoded
            check_digest(request, sha256)
        if self._name and (self._end >= self._rotation.size or self._entries == self._rotation.count):
            self._finish()
        if not self._name:
            self._begin(at)
        entry = Entry(request, head, at, spool.size, sha256, spool.blocks)
        descriptor = os.open(self._open(self._name), _APPENDING)
        try:
            stored = self.archive.append(self._name, self._end, entry, partial(write_all, descriptor))
            self._end = os.fstat(descriptor).st_size
            self._entries += 1
        except BaseException:
            os.ftruncate(descriptor, self._end)
            raise
        finally:
            os.close(descriptor)
        return stored

    def _begin(self, at: float) -> None:
        """Begin an archive under a name that is free."""
        stamp = "".join(digit for digit in timestamp(at)[:19] if digit.isdigit())
        while True:
            name = f"fetcher-{stamp}-{self._serial:05}{self.archive.suffix}"
            self._serial += self._rotation.step
            if (self._directory / name).exists() or (self._depot is not None and self._depot.holds(name)):
                continue
            with suppress(FileExistsError):
                descriptor = os.open(self._open(name), _NEW, 0o666)
                break
        try:
            self._end = self.archive.begin(name, at, partial(write_all, descriptor))
        finally:
            os.close(descriptor)
        self._name, self._entries = name, 0

    def _finish(self) -> None:
        name, self._name = self._name, ""
        if name and not self._entries:
            self._open(name).unlink()
        elif name:
            self.archive.finish(self._open(name), self._directory / name)
            self._finished = name

    def _open(self, name: str) -> Path:
        return self._directory / OPEN / name


class _ShardWriter:
    """One body on its way into an archive."""

    def __init__(self, sink: ShardsSink, request: Request, head: Head) -> None:
        self._sink = sink
        self._request = request
        self._head = head
        self._at = sink.clock.now()
        self._spool = Spool(sink.partials, sink.disk)

    async def write(self, chunk: bytes) -> None:
        most = self._sink.archive.most
        if most is not None and self._spool.size + len(chunk) > most:
            raise FetchError(ErrorKind.TOO_LARGE, f"body is more than {size_text(most)}, the most that --format takes")
        try:
            await self._spool.put(chunk)
        except OSError as error:
            raise self._sink.failure(error) from error

    async def commit(self) -> Stored:
        stored = await self._sink.keep(self._request, self._head, self._at, self._spool)
        await self._spool.drop()
        return stored

    async def abort(self) -> None:
        await self._spool.drop()

    async def hold(self) -> None:
        await self._spool.drop()


def mend(directory: Path, archive_named: Callable[[str], Archive | None]) -> None:
    """Finish what processes that died have left open below a directory that nobody else uses; raises OSError.

    ``archive_named`` tells from a file's name what it is; what is no archive is removed.
    """
    growing = directory / OPEN
    for path in sorted(growing.iterdir()) if growing.exists() else ():
        final = directory / path.name
        archive = archive_named(path.name)
        if archive is None or final.exists() or (end := archive.whole(path)) == 0:
            path.unlink(missing_ok=True)
            continue
        os.truncate(path, end)
        archive.finish(path, final)
