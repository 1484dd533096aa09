"""L2: effects that happen as a whole or not at all: the replacement of a file, and work that a cancellation would cut."""

import asyncio
import os
import stat
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

from fetcher.errors import LocalError, UsageError, words_of

_T = TypeVar("_T")


class AtomicFile:
    """A context manager that writes beside ``path`` and takes its place at the end, unless an error ends it.

    What is no regular file, such as a pipe or a device, is written in place.
    Raises UsageError on entering if it cannot be written, LocalError if writing or the last step fails.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary: Path | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            if self._path.exists() and not stat.S_ISREG(self._path.stat().st_mode):
                self._file = self._path.open("wb", buffering=0)
            else:
                self._temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
                self._temporary.unlink(missing_ok=True)  # of a run that was killed, or a trap
                self._file = self._temporary.open("xb")
        except OSError as error:
            raise UsageError(f"cannot write {self._path}: {error.strerror}") from error
        return self

    def write(self, text: bytes) -> None:
        """Add to the new content."""
        if self._file is None:
            raise ValueError("the file is not open")
        try:
            self._file.write(text)
        except OSError as error:
            raise self._failure(error) from error

    def conclude(self, content: bytes, error: BaseException | None) -> None:
        """End the context with this as the whole content, although ``error`` ends the work that it is about.

        Raises LocalError if it cannot be written, unless there is an error already.
        """
        try:
            self.write(content)
        except LocalError as failure:
            self.__exit__(LocalError, failure, None)
            if error is None:
                raise
        else:
            self.__exit__(None, None, None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._finish(keep=kind is None)
        except OSError as failure:
            if kind is None:
                raise self._failure(failure) from failure

    def _finish(self, *, keep: bool) -> None:
        try:
            if self._file is not None:
                self._file.close()
            if self._temporary is not None and keep:
                self._temporary.replace(self._path)
        finally:
            if self._temporary is not None:
                self._temporary.unlink(missing_ok=True)

    def _failure(self, error: OSError) -> LocalError:
        return LocalError(f"cannot write {self._path}: {words_of(error)}")


def replace_file(path: Path, content: bytes) -> None:
    """Put a file with this content in the place of ``path``, where nobody else writes meanwhile; raises LocalError.

    What a crash leaves behind has a fixed name, ``path`` with ``.new``, and goes with the next call.
    """
    temporary = path.with_name(f"{path.name}.new")
    try:
        target = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            write_all(target, content)
        finally:
            os.close(target)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise LocalError(f"cannot write {path}: {words_of(error)}") from error


def write_all(descriptor: int, content: bytes | bytearray) -> None:
    """Write it whole; raises OSError."""
    with memoryview(content) as left:
        written = 0
        while written < len(left):
            written += os.write(descriptor, left[written:])


async def whole(work: Awaitable[_T]) -> _T:
    """Await ``work`` to its end; a cancellation meanwhile goes on only after that, and its result is dropped.

    A thread cannot be stopped. Without this it would go on behind the back of whoever tidies up after it.
    """
    future = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while cancelled is None or not future.done():
        try:
            if cancelled is None:
                return await asyncio.shield(future)
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = error
    if not future.cancelled():
        future.exception()  # or asyncio complains that nobody looked
    raise cancelled
