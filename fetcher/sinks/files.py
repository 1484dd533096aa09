"""L2: bodies as files, visible under their names only when they are whole."""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import aiofiles

from fetcher.atomic import whole
from fetcher.claims import Names
from fetcher.conditional import Held
from fetcher.disk import Disk, Result
from fetcher.errors import LocalError, words_of
from fetcher.model import Head, Request, Stored
from fetcher.naming import Template, Told
from fetcher.sinks.base import Name, NameGiver, check_digest
from fetcher.sinks.partial import Partials
from fetcher.sinks.shelf import WRITING, Placed, Shelf
from fetcher.sinks.small import Call, SmallBodies

if TYPE_CHECKING:
    from hashlib import _Hash as HASH

    from aiofiles.threadpool.binary import AsyncFileIO

#: A body is gathered in blocks of this many bytes; one that fits a single block costs one hop to the disk threads.
BLOCK: Final = 1 << 20

#: The beginning of a body that is shorter than this many bytes is not worth going on with.
_WORTH: Final = 64 * 1024

#: How many names are tried where others have put something in the way.
_NAMES: Final = 20

_T = TypeVar("_T")


class Naming:
    """Gives each body of one run its path, unlike that of any other URL; ``date`` is the run's, ``YYYY-MM-DD``."""

    def __init__(self, template: Template, date: str) -> None:
        self._template = template
        self._date = date
        self._names = Names()

    @property
    def needs_body(self) -> bool:
        """Whether a name depends on the digest of its body."""
        return self._template.needs_body

    def foresee(self, request: Request) -> str | None:
        """Return the relative path that a body will get, but for an extension, if that can be known before it comes."""
        return self.claim(request, Told(), None) if self._template.foresees(request) else None

    def claim(self, request: Request, told: Told, digest: str | None) -> str:
        """Return the relative path that this body gets; equal bodies share one where names come from the digest."""
        name = self._template.name(request, told, digest, self._date)
        return self._names.claim(name, self._owner(request.key, digest))

    async def reserve(self, request: Request, told: Told, digest: str | None, obstacle: str | None = None) -> Name:
        """Return the name of this body; what lies at ``obstacle`` is not ours."""
        if obstacle is not None:
            self._names.avoid(obstacle)
        path = self.claim(request, told, digest)
        return Name(path, self._names.remembers(path, self._owner(request.key, digest)))

    def remember(self, path: str, key: str, digest: str) -> None:
        """Learn what an earlier run called a body."""
        self._names.remember(path, self._owner(key, digest))

    def _owner(self, key: str, digest: str | None) -> str:
        # Behind a "#" is a name that the list gives, which depends on no digest.
        return digest if digest is not None and self.needs_body and "#" not in key else key


class FilesSink:
    """Keeps each body in its own file below ``directory``.

    Bytes are put together among the ``partials``, in the same file system, and renamed when the body is whole: after a
    crash whatever has its final name is complete. Nothing is synced to the medium, so a power cut can lose what the
    kernel had not written yet. What lies in the directory and was not made by a run is never replaced: the body gets
    another name, unless it is the same byte for byte. All disk work runs on ``disk``, or with ``small`` in its process.
    """

    wants_wire: Final = False

    def __init__(
        self, directory: Path, partials: Partials, naming: NameGiver, disk: Disk, small: SmallBodies | None = None
    ) -> None:
        self.directory = directory
        self.partials = partials
        self.naming = naming
        self.disk = disk
        self.shelf = Shelf(directory)
        self._small = small

    async def take_up(self) -> None:
        """Find what earlier runs have left half done; raises LocalError."""
        try:
            await self.disk.run(self.partials.sweep)
        except OSError as error:
            where = error.filename or self.directory
            raise LocalError(f"cannot use {where}: {words_of(error)}") from error

    async def held(self, request: Request) -> Held | None:
        """Return what an earlier attempt has left of this request's body."""
        if not self.partials.may_hold(request.key):
            return None
        return await self.disk.run(self.partials.find, request.key)

    async def open(self, request: Request, head: Head, held: Held | None = None) -> "_FileWriter":
        """Prepare to take one body; no file is made before there is something to put in it."""
        writer = _FileWriter(self, request, head)
        if held is not None:
            await writer.go_on(held)
        return writer

    def store(self, *call: *Call) -> Result[Placed]:
        """Put a small body in its place; see :meth:`Shelf.store`."""
        return self.disk.together(self.shelf.store, *call) if self._small is None else self._small.store(*call)

    async def adopt(self, request: Request, told: Told, path: str, digest: str) -> str:
        """Give a whole body that lies at a relative ``path`` the name that is its own, and return that; raises LocalError."""
        try:
            return await self.place(f"{self.directory}/{path}", request, told, digest)
        except OSError as error:
            raise self.failure(error) from error

    async def adopted(self, request: Request, told: Told, size: int, digest: str) -> str | None:
        """Return the name of a body that was given it by a run that could not say so any more; None if it is not there."""
        path, _ = await self.naming.reserve(request, told, digest)
        return path if await self.disk.together(self.shelf.has, path, size, digest) else None

    async def place(self, partial: str, request: Request, told: Told, digest: str, obstacle: str | None = None) -> str:
        """Rename a whole body to a name where nothing of anybody else's lies, and return that; raises OSError."""
        before = request.kept.stored.sha256 if request.kept is not None else None
        path = ""
        for _ in range(_NAMES):
            path, ours = await self.naming.reserve(request, told, digest, obstacle)
            obstacle = await self.disk.together(self.shelf.place, partial, path, ours, digest, before)
            if obstacle is None:
                return path
        raise OSError(errno.EEXIST, "no name is free", str(self.directory / path))

    def failure(self, error: OSError) -> LocalError:
        """Return what to say of an error."""
        where = error.filename2 or error.filename or self.directory
        return LocalError(f"{words_of(error)}: {where}")

    async def open_file(self, path: str, opener: Callable[[str, int], int]) -> "AsyncFileIO":
        """Open a file for writing, unbuffered."""
        return await aiofiles.open(path, "wb", buffering=0, opener=opener, executor=self.disk.executor)


class _FileWriter:
    """One body on its way to its file. A cancellation waits for the disk work under way, then the writer is ended."""

    def __init__(self, sink: FilesSink, request: Request, head: Head) -> None:
        self._sink = sink
        self._request = request
        self._head = head
        self._told = Told(head.content_type, head.disposition)
        self._digest = sha256()
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._size = 0
        self._file: AsyncFileIO | None = None
        self._writing: asyncio.Task[None] | None = None
        self._partial = ""
        self._begun = False  # whether the partial file holds the beginning of this body
        self._worth_holding = head.validator is not None
        self._before = request.kept.stored.sha256 if request.kept is not None else None

    async def go_on(self, held: Held) -> None:
        """Take up the body where it was left; raises LocalError."""
        self._partial = self._sink.partials.path(self._request.key)
        self._digest = await self._finished(self._sink.disk.run(_digest_of, self._partial, held.size))
        self._size = held.size
        self._begun = self._worth_holding = True

    async def write(self, chunk: bytes) -> None:
        self._waiting.append(chunk)
        self._waiting_size += len(chunk)
        self._size += len(chunk)
        if self._waiting_size >= BLOCK:
            await self._finished(self._flush())

    async def commit(self) -> Stored:
        self._worth_holding = False
        sink, key = self._sink, self._request.key
        expects = self._request.details is not None and self._request.details.sha256 is not None
        if self._begun or sink.naming.needs_body or expects or sink.partials.may_hold(key):
            return await self._finished(self._commit())
        body = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
        path, ours = await sink.naming.reserve(self._request, self._told, None)
        self._partial = sink.partials.fresh()
        try:
            digest, obstacle = await sink.store(body, self._partial, path, ours, self._before)
        except asyncio.CancelledError:
            self._begun = True  # perhaps: something may have been in its way
            raise
        except OSError as error:
            raise self._sink.failure(error) from error
        if obstacle is not None:
            self._begun = True
            path = await self._finished(self._place(digest, obstacle))
        return Stored(path, self._size, digest)

    async def abort(self) -> None:
        self._waiting.clear()
        if self._begun:
            await whole(self._discard())

    async def hold(self) -> None:
        try:
            if self._worth_holding and self._size >= _WORTH:
                await self._finished(self._flush_and_close())
                return
        except LocalError:
            pass  # then there is nothing to go on with
        await self.abort()

    async def _finished(self, work: Awaitable[_T]) -> _T:
        try:
            return await whole(work)
        except OSError as error:
            raise self._sink.failure(error) from error

    async def _commit(self) -> Stored:
        await self._flush_and_close()
        digest = self._digest.hexdigest()
        check_digest(self._request, digest)
        path = await self._place(digest)
        await self._forget()
        return Stored(path, self._size, digest)

    async def _place(self, digest: str, obstacle: str | None = None) -> str:
        """Rename the whole body and return its name."""
        return await self._sink.place(self._partial, self._request, self._told, digest, obstacle)

    async def _flush(self) -> "AsyncFileIO":
        """Begin to write and hash what is waiting, once what was begun before is done: one block ahead of the network."""
        block = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_size = 0
        file = self._file or await self._open_file()
        await self._written()
        self._writing = asyncio.create_task(self._write(file, block))
        return file

    async def _written(self) -> None:
        """Wait until what was begun is done; raises OSError if it failed."""
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    async def _write(self, file: "AsyncFileIO", block: bytes) -> None:
        """Write and hash a block, at the same time."""
        hashed = asyncio.ensure_future(self._sink.disk.run(self._digest.update, block))
        try:
            left = memoryview(block)
            while left:
                left = left[await file.write(left) :]
        finally:
            await hashed

    async def _open_file(self) -> "AsyncFileIO":
        """Go on with the file, or begin it anew and note what it is the beginning of."""
        sink = self._sink
        if self._begun:
            self._file = await sink.open_file(self._partial, _open_to_append)
            return self._file
        await self._forget()
        self._partial = sink.partials.path(self._request.key)
        self._file = await sink.open_file(self._partial, _open_anew)
        self._begun = True
        if self._head.validator is not None:
            await sink.disk.together(sink.partials.note, self._request.key, self._head.validator)
        return self._file

    async def _flush_and_close(self) -> None:
        file = await self._flush()
        try:
            await self._written()
        finally:
            await file.close()

    async def _discard(self) -> None:
        with suppress(OSError):
            await self._written()
        if self._file is not None:
            with suppress(OSError):
                await self._file.close()
        await self._sink.disk.together(self._sink.partials.remove, self._request.key, self._partial)

    async def _forget(self) -> None:
        """Take back the note; nothing is to be done for most bodies."""
        if self._sink.partials.may_hold(self._request.key):
            await self._sink.disk.together(self._sink.partials.forget, self._request.key)


def _open_anew(path: str, flags: int) -> int:  # noqa: ARG001  the flags of "wb", which lack O_NOFOLLOW
    return os.open(path, WRITING | os.O_TRUNC, 0o666)


def _open_to_append(path: str, flags: int) -> int:  # noqa: ARG001
    return os.open(path, WRITING | os.O_APPEND, 0o666)


def _digest_of(path: str, size: int) -> "HASH":
    """Return the digest, so far, of a file that is ``size`` bytes long."""
    digest = sha256()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        while block := file.read(BLOCK):
            size -= len(block)
            digest.update(block)
    if size:
        raise OSError(errno.EIO, "a partial file has changed", path)
    return digest
