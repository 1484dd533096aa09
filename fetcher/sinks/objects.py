"""L2: bodies as objects of a store.

An object appears when it is whole: a small body is put at once, a larger one in parts that are joined at its end and
dropped if it has none. A process that is killed leaves parts that nobody sees, which the store can be told to remove.
"""

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from fetcher.atomic import whole
from fetcher.conditional import Held
from fetcher.disk import Disk
from fetcher.errors import LocalError, words_of
from fetcher.model import Head, Request, Stored
from fetcher.naming import Told
from fetcher.paths import digest
from fetcher.sinks.base import NameGiver, Writer, check_digest
from fetcher.sinks.spool import Spool
from fetcher.sinks.store import PART, ObjectStore

#: A body of fewer bytes is put at once.
BLOCK: Final = 1 << 20
#: So many bodies go in parts at once; each holds two of them.
_UPLOADS: Final = 4
#: Larger pieces are hashed on a thread, in bytes: hashing takes longer than the hop.
_LARGE: Final = 128 * 1024
#: How many names are tried where others have put something in the way.
_NAMES: Final = 20
#: Tells, in an object's metadata, of which URL it is the body, or which body it is. Azure takes words for names,
#: without hyphens.
_OWNER: Final = "fetcherurl"

_MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")


class ObjectsSink:
    """Keeps each body as an object of ``store``, under the name that a file would have.

    An object that is another's, by its metadata, is left alone: the body gets another name. Where names come from
    bodies, each is put together in ``directory`` first, and of equal ones the first is put.
    """

    wants_wire: Final = False

    def __init__(self, store: ObjectStore, directory: Path, naming: NameGiver, disk: Disk) -> None:
        self.store = store
        self.directory = directory
        self.disk = disk
        self.uploads = asyncio.Semaphore(_UPLOADS)
        self._naming = naming

    async def held(self, request: Request) -> None:
        """Return None: a body that was cut off begins anew."""

    async def open(self, request: Request, head: Head, held: Held | None = None) -> Writer:  # noqa: ARG002
        """Prepare to take one body."""
        if self._naming.needs_body:
            return _SpooledWriter(self, request, head)
        return _ObjectWriter(self, request, head)

    async def put(self, request: Request, head: Head, body: bytes, sha256: str | None = None) -> str:
        """Store a whole body and return its key; with its hash, only if it is not there."""
        obstore, store = self.store.obstore, self.store.store
        obstacle, told = None, Told(head.content_type, head.disposition)
        for _ in range(_NAMES):
            path, ours = await self._naming.reserve(request, told, sha256, obstacle)
            key = self.store.key(path)
            more: dict[str, Any] = {"attributes": _attributes(request, head, sha256), "use_multipart": False}
            with suppress(obstore.exceptions.AlreadyExistsError):
                await obstore.put_async(store, key, body, mode="overwrite" if ours else "create", **more)
                return key
            if await self._owner(key) == _owned(request, sha256):
                if sha256 is None:
                    await obstore.put_async(store, key, body, mode="overwrite", **more)
                return key
            obstacle = path
        raise OSError("no name is free")

    async def begin(self, request: Request, head: Head, sha256: str | None = None) -> tuple[str, Any]:
        """Begin to store a larger body, and return its key and what takes it; with its hash, None if it is there."""
        key, there = await self._free(request, Told(head.content_type, head.disposition), sha256)
        if there and sha256 is not None:
            return key, None
        upload = self.store.obstore.open_writer_async(
            self.store.store,
            key,
            attributes=_attributes(request, head, sha256),
            buffer_size=PART,
            max_concurrency=1,
        )
        return key, upload

    async def adopt(self, request: Request, told: Told, path: str, digest: str) -> str:  # noqa: ARG002  a file's needs it
        """Give a whole body that lies at ``path`` the name that is its own, and return that; raises LocalError."""
        obstore, store = self.store.obstore, self.store.store
        try:
            key, _ = await self._free(request, told)
            await obstore.copy_async(store, path, key)
            await obstore.delete_async(store, path)
        except self.store.failures as error:
            raise self.store.failure(error) from error
        return key

    async def adopted(self, request: Request, told: Told, size: int, digest: str) -> None:
        """Return None: a store does not tell what an object has in it."""

    async def _free(self, request: Request, told: Told, sha256: str | None = None) -> tuple[str, bool]:
        """Return a key under which nothing of anybody else's lies, and whether this body's does; raises OSError."""
        obstacle = None
        for _ in range(_NAMES):
            path, ours = await self._naming.reserve(request, told, sha256, obstacle)
            key = self.store.key(path)
            owner = None if ours else await self._owner(key)
            if owner in (None, _owned(request, sha256)):
                return key, owner is not None
            obstacle = path
        raise OSError("no name is free")

    async def _owner(self, key: str) -> str | None:
        """Return whose body an object is, "" if nobody can tell, None if there is none."""
        with suppress(FileNotFoundError):
            found = await self.store.obstore.get_async(self.store.store, key, options={"head": True})
            return str(found.attributes.get(_OWNER, ""))
        return None


class _ObjectWriter:
    """One body on its way to a store."""

    def __init__(self, sink: ObjectsSink, request: Request, head: Head) -> None:
        self._sink = sink
        self._request = request
        self._head = head
        self._digest = sha256()
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._size = 0
        self._has_turn = False
        self._key = ""
        self._upload: Any = None

    async def write(self, chunk: bytes) -> None:
        if len(chunk) < _LARGE:
            self._digest.update(chunk)
        else:
            await self._sink.disk.run(self._digest.update, chunk)
        self._waiting.append(chunk)
        self._waiting_size += len(chunk)
        self._size += len(chunk)
        if self._waiting_size >= BLOCK:
            try:
                await self._flush()
            except self._sink.store.failures as error:
                raise self._sink.store.failure(error) from error

    async def commit(self) -> Stored:
        check_digest(self._request, self._digest.hexdigest())
        try:
            if not self._has_turn:
                self._key = await self._sink.put(self._request, self._head, b"".join(self._waiting))
            else:
                await self._flush()
                await self._upload.close()
                self._upload = None
        except self._sink.store.failures as error:
            raise self._sink.store.failure(error) from error
        self._end_turn()
        return Stored(self._key, self._size, self._digest.hexdigest())

    async def abort(self) -> None:
        self._waiting.clear()
        upload, self._upload = self._upload, None
        if upload is not None:
            with suppress(*self._sink.store.failures):
                cause = asyncio.CancelledError()
                await upload.__aexit__(type(cause), cause, None)  # which drops the parts
        self._end_turn()

    async def hold(self) -> None:
        await self.abort()

    async def _flush(self) -> None:
        block = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_size = 0
        if not self._has_turn:
            await self._sink.uploads.acquire()
            self._has_turn = True
        if self._upload is None:
            self._key, self._upload = await self._sink.begin(self._request, self._head)
        await self._upload.write(block)

    def _end_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._sink.uploads.release()


class _SpooledWriter:
    """One body that is called by its hash, so that nothing of it goes to a store before it is whole."""

    def __init__(self, sink: ObjectsSink, request: Request, head: Head) -> None:
        self._sink = sink
        self._request = request
        self._head = head
        self._spool = Spool(sink.directory, sink.disk)

    async def write(self, chunk: bytes) -> None:
        try:
            await self._spool.put(chunk)
        except OSError as error:
            raise self._failure(error) from error

    async def commit(self) -> Stored:
        sink, spool = self._sink, self._spool
        try:
            sha256 = await whole(sink.disk.run(spool.close))
        except OSError as error:
            raise self._failure(error) from error
        check_digest(self._request, sha256)
        try:
            if spool.size < BLOCK:
                key = await sink.put(self._request, self._head, b"".join(spool.blocks()), sha256)
            else:
                key = await self._upload(sha256)
        except sink.store.failures as error:
            raise sink.store.failure(error) from error
        await spool.drop()
        return Stored(key, spool.size, sha256)

    async def abort(self) -> None:
        await self._spool.drop()

    async def hold(self) -> None:
        await self._spool.drop()

    async def _upload(self, sha256: str) -> str:
        """Store a larger body and return its key; what breaks off is dropped."""
        async with self._sink.uploads:
            key, upload = await self._sink.begin(self._request, self._head, sha256)
            if upload is not None:
                async with upload:
                    blocks = self._spool.blocks()
                    while (block := await whole(self._sink.disk.run(next, blocks, None))) is not None:
                        await upload.write(block)
        return key

    def _failure(self, error: OSError) -> LocalError:
        return LocalError(f"{words_of(error, str(error))}: {error.filename or self._sink.directory}")


def _attributes(request: Request, head: Head, sha256: str | None) -> Mapping[str, str]:
    """Return what is told of an object; a media type only if it is one."""
    known = head.content_type is not None and _MEDIA_TYPE.fullmatch(head.content_type)
    kind = {"Content-Type": head.content_type} if known and head.content_type else {}
    return {_OWNER: _owned(request, sha256), **kind}


def _owned(request: Request, sha256: str | None) -> str:
    """Return whose an object is: its URL's, or of all that have this body."""
    return (sha256 or digest(request.target))[:32]
