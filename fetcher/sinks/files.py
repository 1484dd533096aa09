"""L2: bodies as files, visible under their names only when they are whole."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import aiofiles

from fetcher.atomic import whole
from fetcher.errors import LocalError
from fetcher.model import Head, Request, Stored
from fetcher.naming import Names, Template

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncFileIO

#: A body is gathered in blocks of this many bytes; one that fits a single block costs one hop to the disk threads.
BLOCK: Final = 1 << 20

_T = TypeVar("_T")

_TEMPORARY: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


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
        return self._names.claim(name, digest if digest is not None and self.needs_body else request.key)

    def remember(self, path: str, key: str, digest: str) -> None:
        """Learn what an earlier run called a body."""
        self._names.remember(path, digest if self.needs_body else key)


class FilesSink:
    """Keeps each body in its own file below ``directory``.

    Bytes go to ``partial`` first, in the same file system, and are renamed when the body is whole: after a crash
    whatever has its final name is complete. Nothing is synced to the medium, so a power cut can lose what the
    kernel had not written yet. All disk work runs on ``executor``.
    """

    def __init__(self, directory: Path, partial: Path, naming: Naming, executor: Executor) -> None:
        self.directory = directory
        self.partial = partial
        self.naming = naming
        self.executor = executor

    async def open(self, request: Request, head: Head) -> "_FileWriter":
        """Prepare to take one body; no file is made before there is something to put in it."""
        return _FileWriter(self, request, head)


class _FileWriter:
    """One body on its way to its file. A cancellation waits for the disk work under way, then :meth:`abort` tidies up."""

    def __init__(self, sink: FilesSink, request: Request, head: Head) -> None:
        self._sink = sink
        self._request = request
        self._head = head
        self._partial = sink.partial / sha256(request.key.encode()).hexdigest()[:32]
        self._digest = sha256()
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._size = 0
        self._file: AsyncFileIO | None = None

    async def write(self, chunk: bytes) -> None:
        self._waiting.append(chunk)
        self._waiting_size += len(chunk)
        self._size += len(chunk)
        if self._waiting_size >= BLOCK:
            await self._finished(self._flush())

    async def commit(self) -> Stored:
        small = self._file is None and not self._sink.naming.needs_body
        return await self._finished(self._commit_small() if small else self._commit())

    async def abort(self) -> None:
        self._waiting.clear()
        if self._file is not None:
            await whole(self._discard(self._file))

    async def _finished(self, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            return await whole(work)
        except OSError as error:
            where = error.filename2 or error.filename or self._sink.directory
            raise LocalError(f"{(error.strerror or 'disk error').lower()}: {where}") from error

    async def _commit_small(self) -> Stored:
        path = self._sink.naming.claim(self._request, self._head.content_type, None)
        body = b"".join(self._waiting)
        digest = await self._run(_store, body, self._partial, self._sink.directory / path)
        return Stored(path, self._size, digest)

    async def _commit(self) -> Stored:
        file = await self._flush()
        await file.close()
        digest = self._digest.hexdigest()
        path = self._sink.naming.claim(self._request, self._head.content_type, digest)
        await self._run(_rename, self._partial, self._sink.directory / path)
        return Stored(path, self._size, digest)

    async def _flush(self) -> "AsyncFileIO":
        """Write and hash, at the same time, what is waiting."""
        block = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_size = 0
        if self._file is None:
            self._file = await aiofiles.open(
                self._partial, "wb", buffering=0, opener=_open_temporary, executor=self._sink.executor
            )
        hashed = asyncio.get_running_loop().run_in_executor(self._sink.executor, self._digest.update, block)
        try:
            left = memoryview(block)
            while left:
                left = left[await self._file.write(left) :]
        finally:
            await hashed
        return self._file

    async def _discard(self, file: "AsyncFileIO") -> None:
        with suppress(OSError):
            await file.close()
        with suppress(OSError):
            await self._run(os.unlink, self._partial)

    async def _run(self, function: Callable[..., _T], *args: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._sink.executor, function, *args)


def _open_temporary(path: str, flags: int) -> int:  # noqa: ARG001  the flags of "wb", which lack O_NOFOLLOW
    return os.open(path, _TEMPORARY, 0o666)


def _store(body: bytes, partial: Path, final: Path) -> str:
    """Write, hash and rename a whole small body in one go; leaves nothing behind if it cannot."""
    descriptor = os.open(partial, _TEMPORARY, 0o666)
    try:
        try:
            left = memoryview(body)
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)
        _rename(partial, final)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise
    return sha256(body).hexdigest()


def _rename(partial: Path, final: Path) -> None:
    try:
        os.replace(partial, final)  # noqa: PTH105  a Path per file costs as much as the rename
    except FileNotFoundError:
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, final)  # noqa: PTH105
