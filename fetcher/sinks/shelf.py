"""L2: whole bodies put in their places below a directory, where nothing of anybody else's lies."""

import hashlib
import os
import stat
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

#: How what is put together is opened, beside truncating or appending.
WRITING: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

#: The SHA-256 of a body, and the relative path of what is in its way.
Placed = tuple[str, str | None]

#: How many folders are remembered to be there.
_FOLDERS: Final = 10_000


class Shelf:
    """Files below ``directory`` under relative paths with ``/``. Its methods block; several threads may call them."""

    def __init__(self, directory: "Path | str") -> None:
        self._directory = str(directory)
        self._folders: set[str] = set()

    def store(self, body: bytes, partial: str, path: str, ours: bool, before: str | None = None) -> Placed:
        """Write a small body to ``partial``, hash and :meth:`place` it; returns its SHA-256 and what is in the way.

        Leaves nothing behind if it raises OSError.
        """
        descriptor = os.open(partial, WRITING | os.O_TRUNC, 0o666)
        try:
            try:
                written = os.write(descriptor, body)
                while written < len(body):
                    written += os.write(descriptor, memoryview(body)[written:])
            finally:
                os.close(descriptor)
            digest = sha256(body).hexdigest()
            return digest, self.place(partial, path, ours, digest, before)
        except OSError:
            with suppress(OSError):
                os.unlink(partial)  # noqa: PTH108  a Path per file costs as much as the call
            raise

    def place(self, partial: str, path: str, ours: bool, digest: str, before: str | None = None) -> str | None:
        """Rename a whole file to ``path``, which an earlier run made if it is ``ours``.

        Returns the relative path of what is in the way: no folder on the way, or no file of ours at its end. A file
        with the same bytes, by size and ``digest``, is taken for ours. It stays untouched, as does one of ours that
        has still the SHA-256 that it had ``before``.
        """
        obstacle = self._make_way(path)
        if obstacle is not None:
            return obstacle
        final = f"{self._directory}/{path}"
        mode = _mode(final)
        if mode is not None:
            if not stat.S_ISREG(mode):
                return path
            if (not ours or digest == before) and _is(final, partial, digest):
                os.unlink(partial)  # noqa: PTH108
                return None
            if not ours:
                return path
        try:
            os.replace(partial, final)  # noqa: PTH105
        except FileNotFoundError:
            if not self._folders:
                raise
            self._folders.clear()  # somebody has removed the folder; make it again
            return self.place(partial, path, ours, digest, before)
        return None

    def has(self, path: str, size: int, digest: str) -> bool:
        """Tell whether these bytes lie there, by size and SHA-256, in a file and below folders that are no links."""
        folders = [path[:slash] for slash, character in enumerate(path) if character == "/"]
        if not all(stat.S_ISDIR(_mode(f"{self._directory}/{folder}") or 0) for folder in folders):
            return False
        final = f"{self._directory}/{path}"
        return stat.S_ISREG(_mode(final) or 0) and _same(final, size, digest)

    def _make_way(self, path: str) -> str | None:
        """Make the folders of ``path``; returns the first that is something else, a symbolic link for instance."""
        folder = path.rpartition("/")[0]
        if not folder or folder in self._folders:
            return None
        slash = path.find("/")
        while slash >= 0:
            mode = _mode(f"{self._directory}/{path[:slash]}")
            if mode is None:
                os.makedirs(f"{self._directory}/{folder}", exist_ok=True)  # noqa: PTH103
                break
            if not stat.S_ISDIR(mode):
                return path[:slash]
            slash = path.find("/", slash + 1)
        if len(self._folders) >= _FOLDERS:
            self._folders.clear()
        self._folders.add(folder)
        return None


def _mode(path: str) -> int | None:
    """Return what kind of thing is there; a symbolic link is one."""
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None


def _is(final: str, partial: str, digest: str) -> bool:
    """Tell whether a file is the same body: that of a run that was killed before it could say so."""
    try:
        return _same(final, os.lstat(partial).st_size, digest)
    except OSError:
        return False


def _same(final: str, size: int, digest: str) -> bool:
    """Tell whether a file has so many bytes, and this SHA-256."""
    try:
        if os.lstat(final).st_size != size:
            return False
        with open(final, "rb") as file:  # noqa: PTH123
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:  # it cannot be read, so it is somebody else's
        return False
