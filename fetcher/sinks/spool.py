"""L2: one body on its way into an archive: in memory while it is small, then in a file that has no name."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final

from fetcher.atomic import whole, write_all
from fetcher.disk import Disk

if TYPE_CHECKING:
    from io import FileIO

#: A body that fits into so many bytes touches no disk before its archive.
BLOCK: Final = 1 << 20


class Spool:
    """Gathers a body; a crash leaves nothing of it. What :meth:`put` and :meth:`drop` do to the disk runs on ``disk``.

    :meth:`close` and :meth:`blocks` block.
    """

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk
        self._digest = sha256()
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._file: FileIO | None = None
        self.size = 0

    async def put(self, chunk: bytes) -> None:
        """Take the next bytes; raises OSError."""
        self._waiting.append(chunk)
        self._waiting_size += len(chunk)
        self.size += len(chunk)
        if self._waiting_size >= BLOCK:
            await whole(self._disk.run(self._flush))

    def close(self) -> str:
        """Return the SHA-256 of the body, which is whole; raises OSError."""
        if self._file is not None:
            self._flush()
        else:
            self._waiting = [b"".join(self._waiting)]
            self._digest.update(self._waiting[0])
        return self._digest.hexdigest()

    def blocks(self) -> Iterator[bytes]:
        """Yield the body from its beginning, once it is closed; raises OSError."""
        if self._file is None:
            yield from self._waiting
            return
        start = 0
        while block := os.pread(self._file.fileno(), BLOCK, start):
            start += len(block)
            yield block

    async def drop(self) -> None:
        """Forget the body."""
        self._waiting.clear()
        file, self._file = self._file, None
        if file is not None:
            await whole(self._disk.run(file.close))

    def _flush(self) -> None:
        block = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_size = 0
        if self._file is None:
            self._file = TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115  it is closed by drop
        self._digest.update(block)
        write_all(self._file.fileno(), block)
