"""L2: a file that is replaced as a whole or not at all."""

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from fetcher.errors import UsageError


class AtomicFile:
    """A context manager that writes beside ``path`` and takes its place at the end, unless an error ends it.

    What is no regular file, such as a pipe or a device, is written in place.
    Raises UsageError on entering if it cannot be written.
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
                self._file = self._temporary.open("wb")
        except OSError as error:
            raise UsageError(f"cannot write {self._path}: {error.strerror}") from error
        return self

    def write(self, text: bytes) -> None:
        """Add to the new content; raises OSError."""
        if self._file is None:
            raise ValueError("the file is not open")
        self._file.write(text)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._temporary is not None:
            if kind is None:
                self._temporary.replace(self._path)
            else:
                self._temporary.unlink(missing_ok=True)
