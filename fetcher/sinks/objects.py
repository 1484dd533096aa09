"""L2: bodies as objects of S3, Google Cloud Storage or Azure; the only importer of obstore, an extra.

An object appears when it is whole: a small body is put at once, a larger one in parts that are joined at its end and
dropped if it has none. A process that is killed leaves parts that nobody sees, which the store can be told to remove.
"""

import asyncio
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, Final

from fetcher.conditional import Held
from fetcher.disk import Disk
from fetcher.errors import LocalError, UsageError
from fetcher.hashtable import HashTable, hash64
from fetcher.model import Head, Record, Request, Stored
from fetcher.naming import STATE_DIRECTORY, Told
from fetcher.paths import digest
from fetcher.sinks.base import NameGiver, check_digest

#: A body of fewer bytes is put at once.
BLOCK: Final = 1 << 20
#: Bytes of a part. Stores take 10,000 of them, so a body can have 83 GB.
_PART: Final = 8 << 20
_PARTS: Final = 9_999
#: So many bodies go in parts at once; each holds two of them.
_UPLOADS: Final = 4
#: Larger pieces are hashed on a thread, in bytes: hashing takes longer than the hop.
_LARGE: Final = 128 * 1024
#: Bytes of a key, which all stores take.
_KEY: Final = 1024
#: How many names are tried where others have put something in the way.
_NAMES: Final = 20
#: So many objects are looked for one by one before all of them are listed.
_ASKED: Final = 64
#: Tells, in an object's metadata, of which URL it is the body. Azure takes words for names, without hyphens.
_OWNER: Final = "fetcherurl"

_MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")
_RETRYING: Final = {"max_retries": 4}
#: Time for one request to the store, which may bring a part over a slow line.
_PATIENCE: Final = {"timeout": "300s", "connect_timeout": "10s"}
#: What can name a server of one's own; plain HTTP is for those that are named so.
_ENDPOINTS: Final = (
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"),
    *("GOOGLE_BASE_URL", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
)


def load() -> Any:
    """Return obstore; raises UsageError if it is not installed."""
    try:
        import obstore  # noqa: PLC0415
        import obstore.exceptions  # noqa: PLC0415
        import obstore.store  # noqa: PLC0415
    except ImportError as error:
        raise UsageError("an object store needs obstore: pip install 'fetcher[s3]'") from error
    return obstore


class ObjectStore:
    """The objects below ``url``, such as ``s3://bucket/prefix``; credentials come from the environment.

    Raises UsageError if that names no store, or without obstore.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.obstore = load()
        self.failures: tuple[type[Exception], ...] = (self.obstore.exceptions.BaseError, OSError, ValueError)
        plain = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
        options = {**_PATIENCE, "allow_http": plain}
        try:
            self.store = self.obstore.store.from_url(self.url, retry_config=_RETRYING, client_options=options)
        except self.failures as error:
            raise UsageError(f"cannot use {self.url}: {_reason(error)}") from error
        self._prefix = len(self.url.partition("://")[2].partition("/")[2].encode()) + 1
        self._listing = Lock()
        self._sizes: HashTable | None = None
        self._asked = 0

    def key(self, path: str) -> str:
        """Return the key below the prefix that a path becomes: itself, unless no store takes so long a one."""
        room = _KEY - self._prefix
        if len(path.encode()) <= room:
            return path
        return f"{path.encode()[: room - 9].decode(errors='ignore')}~{digest(path)[:8]}"

    def failure(self, error: Exception) -> LocalError:
        """Return what a failure of the store means to a run."""
        return LocalError(f"{self.url}: {_reason(error)}")

    def has(self, record: Record) -> bool:
        """Tell whether the object of a record is there; blocks. Raises OSError if the store cannot say."""
        if record.path is None:
            return record.bytes == 0
        with self._listing:
            self._asked += 1
            try:
                if self._sizes is None and self._asked > _ASKED:
                    self._sizes = self._listed()
                size = None if self._sizes is None else self._sizes.get(hash64(record.path))
                return _has(record, size) or _has(record, self.obstore.head(self.store, record.path)["size"])
            except FileNotFoundError:
                return False
            except self.obstore.exceptions.BaseError as error:
                raise OSError(_reason(error)) from error

    def holds(self, name: str) -> bool:
        """Tell whether there is an object of that name; see Depot."""
        return self._size(name) >= 0

    async def send(self, path: Path) -> None:
        """Put a file under its own name, then remove it; see Depot."""
        try:
            size = await asyncio.to_thread(os.path.getsize, path)
            part = max(_PART, size // _PARTS)
            await self.obstore.put_async(self.store, path.name, path, chunk_size=part, max_concurrency=2)
            await asyncio.to_thread(os.unlink, path)
        except self.failures as error:
            raise self.failure(error) from error

    async def copy(self, file: Path, key: str) -> None:
        """Put a file; raises LocalError."""

        def put() -> None:
            self.obstore.put(self.store, key, file, chunk_size=_PART, max_concurrency=1)

        try:
            # It is the last thing done, and what the library does for a loop may still be in its own threads when a
            # caller's interpreter ends, which aborts the process.
            await asyncio.to_thread(put)
        except self.failures as error:
            raise self.failure(error) from error

    def read(self, key: str, begin: int = 0, size: int | None = None) -> Iterator[bytes]:
        """Yield an object from a byte on, so many if it has them; blocks.

        Raises FileNotFoundError if there is none, ValueError if it ends before, LocalError.
        """
        options = {} if size is None else {"range": (begin, begin + size)}
        try:
            for piece in self.obstore.get(self.store, key, options=options).stream(BLOCK):
                yield bytes(piece)
        except FileNotFoundError:
            raise
        except self.failures as error:
            if begin and self._size(key) <= begin:
                raise ValueError("it ends before") from error
            raise self.failure(error) from error

    def paths(self) -> Iterator[str]:
        """Yield the key of every object that is no part of the state; blocks. Raises LocalError."""
        try:
            for objects in self.obstore.list(self.store):
                keys = (str(each["path"]) for each in objects)
                yield from (key for key in keys if not key.startswith(f"{STATE_DIRECTORY}/"))
        except self.failures as error:
            raise self.failure(error) from error

    def _size(self, key: str) -> int:
        """Return the bytes of an object, -1 if there is none; raises LocalError."""
        try:
            return int(self.obstore.head(self.store, key)["size"])
        except FileNotFoundError:
            return -1
        except self.failures as error:
            raise self.failure(error) from error

    def _listed(self) -> HashTable:
        sizes = HashTable(64)
        for objects in self.obstore.list(self.store):
            for each in objects:
                sizes.set(hash64(each["path"]), each["size"])
        return sizes


class ObjectsSink:
    """Keeps each body as an object of ``store``, under the name that a file would have.

    An object that is another's, by its metadata, is left alone: the body gets another name.
    """

    wants_wire: Final = False

    def __init__(self, store: ObjectStore, naming: NameGiver, disk: Disk) -> None:
        self.store = store
        self.disk = disk
        self.uploads = asyncio.Semaphore(_UPLOADS)
        self._naming = naming

    async def held(self, request: Request) -> None:
        """Return None: a body that was cut off begins anew."""

    async def open(self, request: Request, head: Head, held: Held | None = None) -> "_ObjectWriter":  # noqa: ARG002
        """Prepare to take one body."""
        return _ObjectWriter(self, request, head)

    async def put(self, request: Request, head: Head, body: bytes) -> str:
        """Store a whole body and return its key."""
        obstore, store = self.store.obstore, self.store.store
        obstacle, told = None, Told(head.content_type, head.disposition)
        for _ in range(_NAMES):
            path, ours = await self._naming.reserve(request, told, None, obstacle)
            key = self.store.key(path)
            more: dict[str, Any] = {"attributes": _attributes(request, head), "use_multipart": False}
            with suppress(obstore.exceptions.AlreadyExistsError):
                await obstore.put_async(store, key, body, mode="overwrite" if ours else "create", **more)
                return key
            if await self._owner(key) == _owned(request):
                await obstore.put_async(store, key, body, mode="overwrite", **more)
                return key
            obstacle = path
        raise OSError("no name is free")

    async def begin(self, request: Request, head: Head) -> tuple[str, Any]:
        """Begin to store a larger body, and return its key and what takes it."""
        obstacle, told = None, Told(head.content_type, head.disposition)
        for _ in range(_NAMES):
            path, ours = await self._naming.reserve(request, told, None, obstacle)
            key = self.store.key(path)
            if ours or await self._owner(key) in (None, _owned(request)):
                upload = self.store.obstore.open_writer_async(
                    self.store.store,
                    key,
                    attributes=_attributes(request, head),
                    buffer_size=_PART,
                    max_concurrency=1,
                )
                return key, upload
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


def _has(record: Record, size: int | None) -> bool:
    """Tell whether an object of that size has what a record tells of: it is the body, or an archive with its entry."""
    if size is None or record.offset is None:
        return size == record.bytes
    return size >= record.offset + (record.length or 0)


def _attributes(request: Request, head: Head) -> Mapping[str, str]:
    """Return what is told of an object; a media type only if it is one."""
    known = head.content_type is not None and _MEDIA_TYPE.fullmatch(head.content_type)
    return {_OWNER: _owned(request), **({"Content-Type": head.content_type} if known and head.content_type else {})}


def _owned(request: Request) -> str:
    return digest(request.target)[:32]


def _reason(error: Exception) -> str:
    """Return in a few words why a store fails, without addresses: a query can be a credential."""
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    if code is not None:
        return code[1]
    line = text.partition("\n")[0]
    return re.sub(r"\S+://\S+", "", line.rpartition(" - ")[2])[:100].strip(" :")
