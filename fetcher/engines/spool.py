"""L3: messages in a file that grows, between machines that share a directory: one writes, others read meanwhile.

Each block is written by opening the file, appending and closing it, and looked for by opening it again: that is what
makes it seen over NFS too, whose caches promise no more.
"""

import asyncio
import os
import pickle
from io import BytesIO
from pathlib import Path
from typing import Final, NoReturn

from fetcher.atomic import write_all
from fetcher.blocks import HEADER, packed, size_of
from fetcher.clock import Clock
from fetcher.disk import Disk
from fetcher.engines.channel import Message

#: Where messages, and what they are made of, are defined: words and plain values.
_MODULES: Final = frozenset(
    f"fetcher.{name}"
    for name in (
        *("details", "engines.base", "engines.channel", "errors", "events", "exchange", "history", "model", "naming"),
        *("origins", "robots"),
    )
)
#: Bytes read at once, and so the most that is looked through for whole blocks in one step.
_READ: Final = 1 << 20
#: What unpickling may raise beside its own error where a block is not what it seems.
_BROKEN: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)
#: Seconds between two blocks.
_PAUSE: Final = 0.1


class Outbox:
    """The end that writes; a file that is not there is made with the first block."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self._disk = disk
        self._waiting: list[Message] = []
        self._some = asyncio.Event()
        #: Bytes written: where whoever begins to read now had better start.
        self.size = 0

    def send(self, message: Message) -> None:
        """Have a message written, with the others that come meanwhile."""
        self._waiting.append(message)
        self._some.set()

    async def drain(self) -> None:
        """Nothing: those who read take from the file what they can."""

    async def run(self, clock: Clock) -> NoReturn:
        """Write what is sent, until it is cancelled; raises OSError."""
        while True:
            await self._some.wait()
            self._some.clear()
            await self.flush()
            await clock.sleep(_PAUSE)

    async def flush(self) -> None:
        """Write what was sent; raises OSError. To be called by one at a time."""
        if self._waiting:
            block = packed(self._waiting)
            self._waiting = []
            await self._disk.together(_append, self.path, block)
            self.size += len(block)


class Inbox:
    """An end that reads, from ``offset`` on."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.offset = offset
        self._path = path

    def read(self) -> list[Message]:
        """Return the messages of the next whole blocks; none of a file that is not there. Blocks.

        Raises OSError, and ValueError for what is no block of messages.
        """
        messages: list[Message] = []
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return messages
        try:
            while block := self._next(descriptor):
                messages += _messages(block)
        finally:
            os.close(descriptor)
        return messages

    def _next(self, descriptor: int) -> bytes:
        header = os.pread(descriptor, HEADER, self.offset)
        if len(header) < HEADER:
            return b""
        size = size_of(header)
        start = self.offset + HEADER
        block = b""
        while len(block) < size and (more := os.pread(descriptor, min(_READ, size - len(block)), start + len(block))):
            block += more
        if len(block) < size:
            return b""
        self.offset = start + size
        return block


def _messages(block: bytes) -> list[Message]:
    try:
        return list[Message](_Unpickler(BytesIO(block)).load())
    except (pickle.UnpicklingError, *_BROKEN) as error:
        raise ValueError(f"no messages: {error}") from error


class _Unpickler(pickle.Unpickler):
    """Makes messages, and what they are made of, and nothing else: the file may be one that others have put there."""

    def find_class(self, module: str, name: str) -> type:
        """Return one of our own classes; raises UnpicklingError for anything else that can be called."""
        if module in _MODULES and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no message")


def _append(path: Path, block: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        write_all(descriptor, block)
    finally:
        os.close(descriptor)
