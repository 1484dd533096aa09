"""L2: bodies as samples of tar archives, in WebDataset's convention.

    00000012-5f2a9c01.jpg   the body
    00000012-5f2a9c01.json  what is known of it

Both have the same name up to the first dot and stand side by side; the second ends the entry.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tarfile import BLOCKSIZE, GNU_FORMAT, NUL, HeaderError, TarInfo
from typing import Any, BinaryIO, Final

import orjson

from fetcher.atomic import write_all
from fetcher.details import Details
from fetcher.mediatypes import extension
from fetcher.model import Record, Stored, timestamp
from fetcher.paths import digest, split_extension
from fetcher.sinks.base import Entry

#: Two blocks of zeros end an archive.
_END: Final = NUL * (2 * BLOCKSIZE)
_BLOCK: Final = 1 << 20


#: What is told of each body.
FACTS: Final = (
    *("url", "id", "source", "line", "final_url", "status", "bytes", "sha256", "content_type", "charset", "etag"),
    *("last_modified", "http_version", "remote_ip", "fetched_at", "meta"),
)


def facts(entry: Entry) -> dict[str, Any]:
    """Return what is known of a body by the time it is whole, in words of its record, without credentials."""
    request, head, details = entry.request, entry.head, entry.request.details or Details()
    values = (
        *(request.target, details.id, request.source, request.line, head.url, head.status, entry.size, entry.sha256),
        *(head.content_type, head.charset, head.etag, head.last_modified, head.http_version, head.remote_ip),
        *(timestamp(entry.at), details.meta),
    )
    return dict(zip(FACTS, values, strict=True))


class TarArchive:
    """Samples of a body and its facts; see :class:`fetcher.sinks.base.Archive`.

    Keys are the row's number in its run, from 0, and 8 hex digits of the URL's hash; an extension is the URL's or that
    of the media type, ``bin`` if there is none, and ``body.json`` where it would be that of the facts.
    """

    suffix: Final = ".tar"
    wants_wire: Final = False
    most: Final = None

    def begin(self, name: str, at: float, write: Callable[[bytes], None]) -> int:  # noqa: ARG002
        """Return 0: nothing stands before the first sample."""
        return 0

    def append(self, name: str, offset: int, entry: Entry, write: Callable[[bytes], None]) -> Stored:
        """Write a body and its facts."""
        key = f"{entry.request.index:08}-{digest(entry.request.target)[:8]}"
        at, told = int(entry.at), orjson.dumps(facts(entry))
        behind = _padding(entry.size) + _header(f"{key}.json", len(told), at) + told + _padding(len(told))
        waiting = _header(f"{key}.{_extension(entry)}", entry.size, at)
        length = len(waiting) + entry.size + len(behind)
        for block in entry.blocks():
            write(waiting + block)
            waiting = b""
        write(waiting + behind)
        return Stored(name, entry.size, entry.sha256, offset, length)

    def whole(self, path: Path) -> int:
        """Return where the last whole sample ends."""
        with path.open("rb") as file:
            return max((end for _, _, end in samples(file)), default=0)

    def body_of(self, file: BinaryIO, record: Record) -> Iterator[bytes]:
        """Yield the body that a record tells of; raises ValueError if there is none, OSError."""
        offset = record.offset or 0
        member = _member(file, offset)
        if member is None:
            raise ValueError("no entry begins there")
        file.seek(offset + BLOCKSIZE)
        left = member.size
        while left and (block := file.read(min(left, _BLOCK))):
            left -= len(block)
            yield block

    def finish(self, path: Path, final: Path) -> None:
        """Write the end, and move the archive to its place."""
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            write_all(descriptor, _END)
        finally:
            os.close(descriptor)
        path.replace(final)


def samples(file: BinaryIO) -> Iterator[tuple[int, TarInfo, int]]:
    """Yield of each whole sample where its body's bytes begin, the body's header, and where the sample ends."""
    size = os.fstat(file.fileno()).st_size
    position = 0
    body: tuple[int, TarInfo] | None = None
    while (member := _member(file, position)) is not None:
        begins = position + BLOCKSIZE
        position = begins + member.size + len(_padding(member.size))
        if position > size:
            return
        if body is not None and member.name == f"{body[1].name.partition('.')[0]}.json":
            yield *body, position
            body = None
        else:
            body = begins, member


def facts_behind(file: BinaryIO, begins: int, body: TarInfo) -> dict[str, Any]:
    """Return the facts of the sample whose body begins there."""
    position = begins + body.size + len(_padding(body.size))
    member = _member(file, position)
    if member is None:
        raise ValueError("no facts stand behind the body")
    file.seek(position + BLOCKSIZE)
    told = orjson.loads(file.read(member.size))
    if not isinstance(told, dict):
        raise ValueError("facts are no object")  # noqa: TRY004  a damaged file, not a wrong call
    return told


def _member(file: BinaryIO, position: int) -> TarInfo | None:
    file.seek(position)
    try:
        return TarInfo.frombuf(file.read(BLOCKSIZE), "utf-8", "surrogateescape")
    except HeaderError:
        return None


def _header(name: str, size: int, at: int) -> bytes:
    member = TarInfo(name)
    member.size, member.mtime = size, at
    return member.tobuf(GNU_FORMAT)


def _padding(size: int) -> bytes:
    return NUL * (-size % BLOCKSIZE)


def _extension(entry: Entry) -> str:
    path = entry.request.target.partition("#")[0].partition("?")[0].partition("://")[2]
    suffix = split_extension(path.rpartition("/")[2])[1] if "/" in path else ""
    found = (suffix or extension(entry.head.content_type or "")).lower()
    return "body.json" if found == ".json" else found[1:] or "bin"
