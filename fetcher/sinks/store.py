"""L2: an object store, S3, Google Cloud Storage or Azure; the only importer of obstore, an extra."""

import asyncio
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final

from fetcher.errors import LocalError, UsageError
from fetcher.hashtable import HashTable, hash64
from fetcher.model import Record
from fetcher.naming import STATE_DIRECTORY
from fetcher.paths import digest

#: Bytes of a part. Stores take 10,000 of them, so a body can have 83 GB.
PART: Final = 8 << 20
_PARTS: Final = 9_999
#: Bytes read at once.
_PIECE: Final = 1 << 20
#: Bytes of a key, which all stores take.
_KEY: Final = 1024
#: So many objects are looked for one by one before all of them are listed.
_ASKED: Final = 64
#: Objects that are removed with one request.
_REMOVED: Final = 1000

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
        with self._listing, self._failing(), suppress(FileNotFoundError):
            self._asked += 1
            if self._sizes is None and self._asked > _ASKED:
                self._sizes = self._listed()
            size = None if self._sizes is None else self._sizes.get(hash64(record.path))
            return _has(record, size) or _has(record, self.obstore.head(self.store, record.path)["size"])
        return False

    def holds(self, name: str) -> bool:
        """Tell whether there is an object of that name; see Depot."""
        return self._size(name) >= 0

    def create(self, key: str, content: bytes) -> bool:
        """Make an object, and tell if there was no other; blocks. Raises OSError.

        An answer that was lost is not one: what has the same content is taken for what was made.
        """
        with self._failing():
            try:
                self.obstore.put(self.store, key, content, mode="create", use_multipart=False)
            except self.obstore.exceptions.AlreadyExistsError:
                return self.find(key) == content
        return True

    def find(self, key: str) -> bytes | None:
        """Return an object, None if there is none; blocks. Raises OSError."""
        with self._failing(), suppress(FileNotFoundError):
            return bytes(self.obstore.get(self.store, key).bytes())
        return None

    def below(self, prefix: str) -> list[str]:
        """Return the keys of all objects below a key; blocks. Raises OSError."""
        with self._failing():
            return [str(each["path"]) for objects in self.obstore.list(self.store, prefix) for each in objects]

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects; blocks. Raises OSError."""
        with self._failing(), suppress(FileNotFoundError):
            for begin in range(0, len(keys), _REMOVED):
                self.obstore.delete(self.store, keys[begin : begin + _REMOVED])

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Let failures of the store be those of a disk."""
        try:
            yield
        except FileNotFoundError:
            raise
        except self.failures as error:
            raise OSError(_reason(error)) from error

    async def send(self, path: Path) -> None:
        """Put a file under its own name, then remove it; see Depot."""
        try:
            size = await asyncio.to_thread(os.path.getsize, path)
            part = max(PART, size // _PARTS)
            await self.obstore.put_async(self.store, path.name, path, chunk_size=part, max_concurrency=2)
            await asyncio.to_thread(os.unlink, path)
        except self.failures as error:
            raise self.failure(error) from error

    async def copy(self, file: Path, key: str) -> None:
        """Put a file; raises LocalError."""

        def put() -> None:
            self.obstore.put(self.store, key, file, chunk_size=PART, max_concurrency=1)

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
            for piece in self.obstore.get(self.store, key, options=options).stream(_PIECE):
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


def _has(record: Record, size: int | None) -> bool:
    """Tell whether an object of that size has what a record tells of: it is the body, or an archive with its entry."""
    if size is None or record.offset is None:
        return size == record.bytes
    return size >= record.offset + (record.length or 0)


def _reason(error: Exception) -> str:
    """Return in a few words why a store fails, without addresses: a query can be a credential."""
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    if code is not None:
        return code[1]
    line = text.partition("\n")[0]
    return re.sub(r"\S+://\S+", "", line.rpartition(" - ")[2])[:100].strip(" :")
