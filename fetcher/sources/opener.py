"""L2: the bytes of a list file or of standard input, unpacked if they are gzip or zstd."""

import asyncio
import os
import re
import stat
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Final

import aiofiles

from fetcher.errors import UsageError
from fetcher.sources.base import ReadError
from fetcher.sources.packed import Unpacker, may_be_packed, unpacker
from fetcher.text import printable

#: The first read is small, so that the first URL is there at once; later ones grow up to the piece. Bytes.
_FIRST: Final = 16 * 1024
_PIECE: Final = 256 * 1024

#: Non-blocking, because opening a FIFO would otherwise wait for its writer. The flag is on our own open file only.
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY

#: ``example.com/x``, ``localhost:8080``, ``10.0.0.5/x``: a URL whose scheme was forgotten.
_HOST: Final = re.compile(
    r"(?:localhost(?=[:/])|\d{1,3}(?:\.\d{1,3}){3}|(?:[\w-]+\.)+(?P<ending>[a-z]{2,}))(?::\d+)?(?:[/?#]|\Z)",
    re.IGNORECASE,
)
#: Endings that are a file's rather than a host's.
_FILE_ENDINGS: Final = frozenset(
    {"bz2", "conf", "csv", "gz", "html", "json", "jsonl", "list", "log", "lst", "ndjson", "parquet", "tsv", "txt"}
    | {"urls", "xml", "xz", "yaml", "zip", "zst"}
)


def check(path: str) -> None:
    """Make sure that ``path`` (``-``: standard input) can be read as a list.

    Raises UsageError, which says what to type instead, if there is no such file, it is a directory,
    or it may not be read.
    """
    shown = printable(path)
    if not path:
        raise UsageError("the name of a list file is empty")
    if path == "-":
        # Python leaves this None if descriptor 0 was closed; by now the number may belong to something else.
        if sys.stdin is None:
            raise UsageError("cannot read standard input: it is closed")
        return
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"{shown} is a directory; name a list file in it")
        if stat.S_ISFIFO(mode):
            # Opening a FIFO and closing it again would break the pipe of a writer that waits for its reader.
            readable = os.access(path, os.R_OK)
        else:
            os.close(os.open(path, _FLAGS))
            readable = True
    except FileNotFoundError:
        hint = f"; for a URL write https://{shown}" if _looks_like_host(path) else ""
        raise UsageError(f"no such file: {shown}{hint}") from None
    except OSError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror}") from error
    if not readable:
        raise UsageError(f"cannot read {shown}: Permission denied")


def _looks_like_host(path: str) -> bool:
    found = _HOST.match(path)
    if found is None or Path(path.partition("/")[0]).is_dir():
        return False
    return (found["ending"] or "").lower() not in _FILE_ENDINGS


def rereadable(file: str | int | bytes) -> bool:
    """Tell whether reading ``file`` leaves it as it was: true of a regular file named by its path."""
    return isinstance(file, str) and Path(file).is_file()


def beginning(path: str) -> bytes:
    """Return the first bytes of a file, unpacked, at most 16 KiB; raises ReadError. It blocks."""
    try:
        with Path(path).open("rb", buffering=0) as file:
            head = file.read(_FIRST)
    except OSError as error:
        raise ReadError(error.strerror or "cannot be read") from error
    decoder = unpacker(head)
    return head if decoder is None else decoder.step(head, _FIRST)[0]


def is_packed(path: str) -> bool:
    """Tell whether a file is gzip or zstd; raises OSError. It blocks."""
    with Path(path).open("rb", buffering=0) as file:
        return unpacker(file.read(_FIRST)) is not None


async def chunks(file: str | int | bytes) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of ``file``, a path, an open descriptor or the bytes themselves, in pieces of at most 256 KiB.

    gzip (RFC 1952) and zstd (RFC 8878) are known by their first bytes and unpacked: several members or frames in a row.
    A descriptor stays open and its flags as they are. A FIFO that nobody has opened for writing is waited for.
    Cancellable at any time; close it (``aclosing``) to give the file back early.
    Raises ReadError if the file cannot be read or what is packed is cut or damaged, after all that came before.
    """
    async with aclosing(_raw(file) if isinstance(file, str | int) else _cut(file)) as raw:
        head = b""
        async for piece in raw:
            head += piece
            if not may_be_packed(head):
                break
        decoder = unpacker(head)
        if decoder is not None:
            async with aclosing(_unpacked(decoder, head, raw)) as pieces:
                async for piece in pieces:
                    yield piece
        elif head:
            yield head
            async for piece in raw:
                yield piece


async def _cut(data: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]


async def _raw(file: str | int) -> AsyncGenerator[bytes, None]:
    try:
        # On the loop, as a look-up of a name does not wait; a thread could be cancelled with the file just opened.
        descriptor = file if isinstance(file, int) else os.open(file, _FLAGS)
        try:
            if _pollable(descriptor):
                while piece := await _read_when_ready(descriptor):
                    yield piece
            else:
                async with aiofiles.open(descriptor, "rb", closefd=False) as stream:
                    size = _FIRST
                    while piece := await stream.read(size):
                        yield piece
                        size = min(2 * size, _PIECE)
        finally:
            if descriptor is not file:
                os.close(descriptor)
    except OSError as error:
        raise ReadError(error.strerror or "cannot be read") from error


def _pollable(descriptor: int) -> bool:
    """Tell whether the loop can wait for the descriptor; epoll refuses regular files and /dev/null."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return False
    loop = asyncio.get_running_loop()
    try:
        loop.add_reader(descriptor, lambda: None)
    except PermissionError:
        return False
    loop.remove_reader(descriptor)
    return True


async def _read_when_ready(descriptor: int) -> bytes:
    """Return the next bytes of a pipe, socket or terminal; empty at its end."""
    loop = asyncio.get_running_loop()
    while True:
        ready = asyncio.Event()
        loop.add_reader(descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(descriptor)
        with suppress(BlockingIOError):  # another process that shares the pipe was faster
            return os.read(descriptor, _PIECE)


async def _unpacked(decoder: Unpacker, head: bytes, raw: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    rest, piece = head, b""
    while True:
        # In a thread not for speed but to let the loop run: a few packed bytes can be gigabytes of blank lines.
        piece, rest = await loop.run_in_executor(None, decoder.step, rest, _PIECE)
        if piece:
            yield piece
        if not rest and len(piece) < _PIECE:
            rest = await anext(raw, b"")
            if not rest:
                break
    decoder.finish()
