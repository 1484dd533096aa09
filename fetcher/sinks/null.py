"""L2: bodies that are counted and hashed, and kept nowhere."""

import asyncio
from hashlib import sha256
from typing import Final

from fetcher.conditional import Held
from fetcher.model import Head, Request, Stored
from fetcher.sinks.base import check_digest

#: Larger pieces are hashed on a thread, in bytes: hashing takes longer than the hop.
_LARGE: Final = 128 * 1024


class _NullWriter:
    def __init__(self, request: Request) -> None:
        self._request = request
        self._digest = sha256()
        self._size = 0

    async def write(self, chunk: bytes) -> None:
        if len(chunk) < _LARGE:
            self._digest.update(chunk)
        else:
            await asyncio.to_thread(self._digest.update, chunk)
        self._size += len(chunk)

    async def commit(self) -> Stored:
        digest = self._digest.hexdigest()
        check_digest(self._request, digest)
        return Stored(None, self._size, digest)

    async def abort(self) -> None:
        pass

    async def hold(self) -> None:
        pass


class NullSink:
    """Takes every body and leaves nothing: for checking links."""

    wants_wire: Final = False

    async def held(self, request: Request) -> None:
        """Return None: nothing is ever left."""

    async def open(self, request: Request, head: Head, held: Held | None = None) -> _NullWriter:  # noqa: ARG002
        """Prepare to count and hash one body."""
        return _NullWriter(request)
