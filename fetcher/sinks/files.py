"""L2: bodies as files, visible under their names only when they are whole."""

import asyncio
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import aiofiles

from fetcher.atomic import whole
from fetcher.conditional import Held
from fetcher.errors import LocalError, words_of
from fetcher.model import Head, Request, Stored
from fetcher.naming import Names, Template
from fetcher.sinks.partial import Partials

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

_WRITING: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


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

    def claim(self, request: Request, content_type: str | None, digest: str | None) -> str:
        """Return the relative path that this body gets; equal bodies share one where names come from the digest."""
        name = self._template.name(request, content_type, digest, self._date)
        return self._names.claim(name, self._owner(request.key, digest))

    def remember(self, path: str, key: str, digest: str) -> None:
        """Learn what an earlier run called a body."""
        self._names.remember(path, self._owner(key, digest))

    def remembers(self, path: str, request: Request, digest: str | None) -> bool:
        """Tell whether an earlier run has made the file of this path, for the same owner."""
        return self._names.remembers(path, self._owner(request.key, digest))

    def _owner(self, key: str, digest: str | None) -> str:
        return digest if digest is not None and self.needs_body else key

    def avoid(self, path: str) -> None:
        """Learn that something that is not ours lies there."""
        self._names.avoid(path)


class FilesSink:
    """Keeps each body in its own file below ``directory``.

    Bytes are put together among the ``partials``, in the same file system, and renamed when the body is whole: after a
    crash whatever has its final name is complete. Nothing is synced to the medium, so a power cut can lose what the
    kernel had not written yet. What lies in the directory and was not made by a run is never replaced: the body gets
    another name, unless it is the same byte for byte. All disk work runs on ``executor``.
    """

    def __init__(self, directory: Path, partials: Partials, naming: Naming, executor: Executor) -> None:
        self.directory = directory
        self.partials = partials
        self.naming = naming
        self._executor = executor

    async def take_up(self) -> None:
        """Find what earlier runs have left half done; raises LocalError."""
        try:
            await self.run(self.partials.sweep)
        except OSError as error:
            where = error.filename or self.directory
            raise LocalError(f"cannot use {where}: {words_of(error)}") from error

    async def held(self, request: Request) -> Held | None:
        """Return what an earlier attempt has left of this request's body."""
        if not self.partials.may_hold(request.key):
            return None
        return await self.run(self.partials.find, request.key)

    async def open(self, request: Request, head: Head, held: Held | None = None) -> "_FileWriter":
        """Prepare to take one body; no file is made before there is something to put in it."""
        writer = _FileWriter(self, request, head)
        if held is not None:
            await writer.go_on(held)
        return writer

    async def run(self, function: Callable[..., _T], *args: object) -> _T:
        """Call a function that blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    async def open_file(self, path: Path, opener: Callable[[str, int], int]) -> "AsyncFileIO":
        """Open a file for writing, unbuffered."""
        return await aiofiles.open(path, "wb", buffering=0, opener=opener, executor=self._executor)


class _FileWriter:
    """One body on its way to its file. A cancellation waits for the disk work under way, then the writer is ended."""

    def __init__(self, sink: FilesSink, request: Request, head: Head) -> None:
        self._sink = sink
        self._request = request
        self._head = head
        self._partial = sink.partials.path(request.key)
        self._digest = sha256()
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._size = 0
        self._file: AsyncFileIO | None = None
        self._begun = False  # whether the partial file holds the beginning of this body
        self._worth_holding = head.validator is not None

    async def go_on(self, held: Held) -> None:
        """Take up the body where it was left; raises LocalError."""
        self._digest = await self._finished(self._sink.run(_digest_of, self._partial, held.size))
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
        small = not self._begun and not self._sink.naming.needs_body
        return await self._finished(self._commit_small() if small else self._commit())

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

    async def _finished(self, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            return await whole(work)
        except OSError as error:
            where = error.filename2 or error.filename or self._sink.directory
            raise LocalError(f"{words_of(error)}: {where}") from error

    async def _commit_small(self) -> Stored:
        """Write, hash and rename a body that fits a block in a single hop."""
        sink = self._sink
        body = b"".join(self._waiting)
        path = self._claim(None)
        ours = sink.naming.remembers(path, self._request, None)
        await self._forget()
        digest, obstacle = await sink.run(_store, body, self._partial, sink.directory, path, ours)
        if obstacle is not None:
            self._begun = True
            path = await self._place(digest, obstacle)
        return Stored(path, self._size, digest)

    async def _commit(self) -> Stored:
        await self._flush_and_close()
        digest = self._digest.hexdigest()
        path = await self._place(digest)
        await self._forget()
        return Stored(path, self._size, digest)

    async def _place(self, digest: str, obstacle: str | None = None) -> str:
        """Rename the whole body to a name where nothing of anybody else's lies, and return it."""
        sink = self._sink
        path = ""
        for _ in range(_NAMES):
            if obstacle is not None:
                sink.naming.avoid(obstacle)
            path = self._claim(digest)
            ours = sink.naming.remembers(path, self._request, digest)
            obstacle = await sink.run(_place, self._partial, sink.directory, path, ours, digest)
            if obstacle is None:
                return path
        raise OSError(errno.EEXIST, "no name is free", str(sink.directory / path))

    def _claim(self, digest: str | None) -> str:
        return self._sink.naming.claim(self._request, self._head.content_type, digest)

    async def _flush(self) -> "AsyncFileIO":
        """Write and hash, at the same time, what is waiting."""
        block = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_size = 0
        file = self._file or await self._open_file()
        hashed = asyncio.ensure_future(self._sink.run(self._digest.update, block))
        try:
            left = memoryview(block)
            while left:
                left = left[await file.write(left) :]
        finally:
            await hashed
        return file

    async def _open_file(self) -> "AsyncFileIO":
        """Go on with the file, or begin it anew and note what it is the beginning of."""
        sink = self._sink
        if self._begun:
            self._file = await sink.open_file(self._partial, _open_to_append)
            return self._file
        await self._forget()
        self._file = await sink.open_file(self._partial, _open_anew)
        self._begun = True
        if self._head.validator is not None:
            await sink.run(sink.partials.note, self._request.key, self._head.validator)
        return self._file

    async def _flush_and_close(self) -> None:
        await (await self._flush()).close()

    async def _discard(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                await self._file.close()
        await self._sink.run(self._sink.partials.remove, self._request.key)

    async def _forget(self) -> None:
        """Take back the note; nothing is to be done for most bodies."""
        if self._sink.partials.may_hold(self._request.key):
            await self._sink.run(self._sink.partials.forget, self._request.key)


def _open_anew(path: str, flags: int) -> int:  # noqa: ARG001  the flags of "wb", which lack O_NOFOLLOW
    return os.open(path, _WRITING | os.O_TRUNC, 0o666)


def _open_to_append(path: str, flags: int) -> int:  # noqa: ARG001
    return os.open(path, _WRITING | os.O_APPEND, 0o666)


def _digest_of(path: Path, size: int) -> "HASH":
    """Return the digest, so far, of a file that is ``size`` bytes long."""
    digest = sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            size -= len(block)
            digest.update(block)
    if size:
        raise OSError(errno.EIO, "a partial file has changed", str(path))
    return digest


def _store(body: bytes, partial: Path, directory: Path, path: str, ours: bool) -> tuple[str, str | None]:
    """Write, hash and place a whole small body; leaves nothing behind if it cannot."""
    descriptor = os.open(partial, _WRITING | os.O_TRUNC, 0o666)
    try:
        try:
            left = memoryview(body)
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)
        digest = sha256(body).hexdigest()
        return digest, _place(partial, directory, path, ours, digest)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise


def _place(partial: Path, directory: Path, path: str, ours: bool, digest: str) -> str | None:
    """Rename, or return the relative path of what is in the way: no folder on the way, no file of ours at its end."""
    slash = path.find("/")
    while slash >= 0:
        mode = _mode(f"{directory}/{path[:slash]}")
        if mode is None:
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            break
        if not stat.S_ISDIR(mode):
            return path[:slash]
        slash = path.find("/", slash + 1)
    final = f"{directory}/{path}"
    mode = _mode(final)
    if mode is not None:
        if not stat.S_ISREG(mode):
            return path
        if not ours:
            if not _is(final, partial, digest):
                return path
            partial.unlink()
            return None
    os.replace(partial, final)  # noqa: PTH105  a Path per file costs as much as the rename
    return None


def _mode(path: str) -> int | None:
    """Return what kind of thing is there; a symbolic link is one."""
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None


def _is(final: str, partial: Path, digest: str) -> bool:
    """Tell whether a file is the same body: that of a run that was killed before it could say so."""
    try:
        if os.lstat(final).st_size != partial.lstat().st_size:
            return False
        with open(final, "rb") as file:  # noqa: PTH123
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:  # it cannot be read, so it is somebody else's
        return False
