"""L2: where machines leave each other blocks of bytes and bodies: a directory, or a store, that all of them reach.

A directory grows files: each block is written by opening the file, appending and closing it, and looked for by opening it
again, which is what makes it seen over NFS too, whose caches promise no more. A store keeps each block as an object of its
own, which is made once.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from shutil import rmtree
from typing import Final

from fetcher.atomic import write_all
from fetcher.blocks import HEADER, size_of
from fetcher.clock import entropy
from fetcher.errors import UsageError
from fetcher.naming import PARTS
from fetcher.sinks.store import ObjectStore

#: Bytes read at once, and so the most that is looked through for whole blocks in one step.
_READ: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """Files below ``directory``, under the same path on all machines; see :class:`fetcher.engines.spool.Space`."""

    directory: Path

    def __str__(self) -> str:
        return str(self.directory)

    @property
    def pause(self) -> float:
        """Looking costs next to nothing."""
        return 0.1

    def begin(self, name: str) -> None:
        """Remove everything, and make a place for a run."""
        self.clear()
        self._path(name).mkdir(parents=True)

    def claim(self, name: str) -> bool:
        """Make a directory, which one can do."""
        try:
            self._path(name).mkdir()
        except FileExistsError:
            return False
        return True

    def write(self, name: str, at: int, block: bytes) -> int:
        """Append to a file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path(name), flags, 0o600)
        try:
            write_all(descriptor, block)
        finally:
            os.close(descriptor)
        return at + len(block)

    def read(self, name: str, at: int) -> tuple[list[bytes], int]:
        """Read a file from there on."""
        blocks: list[bytes] = []
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return blocks, at
        try:
            while (block := _block(descriptor, at)) is not None:
                blocks.append(block)
                at += HEADER + len(block)
        finally:
            os.close(descriptor)
        return blocks, at

    def names(self) -> list[str]:
        """Return the files of blocks that runs have left."""
        root = self._path("")
        return sorted(path.relative_to(root).as_posix() for path in root.glob("*/*/*") if path.is_file())

    def remove(self, name: str) -> None:
        """Remove a directory."""
        rmtree(self._path(name), ignore_errors=True)

    def clear(self) -> None:
        """Remove everything."""
        rmtree(self._path(""), ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.directory / PARTS / name


@dataclass(frozen=True, slots=True)
class SharedStore:
    """Objects below ``url``; see :class:`fetcher.engines.spool.Space`. Credentials are those of each machine."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def pause(self) -> float:
        """Looking is a request, and costs money."""
        return 1.0

    def begin(self, name: str) -> None:  # noqa: ARG002  a store has no folders
        """Remove everything."""
        self.clear()

    def claim(self, name: str) -> bool:
        """Make an object, which one can do."""
        return self._store.create(f"{PARTS}/{name}/claim", entropy())

    def write(self, name: str, at: int, block: bytes) -> int:
        """Make the object of the next block."""
        if not self._store.create(f"{PARTS}/{name}-{at:08}", block):
            raise FileExistsError(f"somebody else writes {name}")
        return at + 1

    def read(self, name: str, at: int) -> tuple[list[bytes], int]:
        """Read one object after the other, until there is none."""
        blocks: list[bytes] = []
        while (block := self._store.find(f"{PARTS}/{name}-{at:08}")) is not None:
            blocks.append(block[HEADER:])
            at += 1
        return blocks, at

    def names(self) -> list[str]:
        """Return what runs have left."""
        return [key.removeprefix(f"{PARTS}/") for key in self._store.below(PARTS)]

    def remove(self, name: str) -> None:
        """Remove all objects below a name."""
        with suppress(OSError):
            self._store.remove(self._store.below(f"{PARTS}/{name}".rstrip("/")))

    def clear(self) -> None:
        """Remove everything."""
        self.remove("")

    @property
    def _store(self) -> ObjectStore:
        return _opened(self.url)


@lru_cache(maxsize=4)
def _opened(url: str) -> ObjectStore:
    """Return a store; raises OSError if this machine has no way to it."""
    try:
        return ObjectStore(url)
    except UsageError as error:
        raise OSError(str(error)) from error


def _block(descriptor: int, at: int) -> bytes | None:
    """Return the block that begins there, without its header; None if it is not whole."""
    header = os.pread(descriptor, HEADER, at)
    if len(header) < HEADER:
        return None
    size, at = size_of(header), at + HEADER
    block = b""
    while len(block) < size and (more := os.pread(descriptor, min(_READ, size - len(block)), at + len(block))):
        block += more
    return block if len(block) == size else None
