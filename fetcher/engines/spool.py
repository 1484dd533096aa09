"""L3: messages between machines that share a place, where one writes them and others look for them meanwhile."""

import asyncio
import pickle
from io import BytesIO
from typing import Final, NoReturn, Protocol

from fetcher.atomic import whole
from fetcher.blocks import packed
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


class Space(Protocol):
    """A place that all machines of a run reach, for blocks of bytes and bodies under relative names with slashes.

    Its methods block, and raise OSError. It can be pickled.
    """

    @property
    def pause(self) -> float:
        """Seconds between two looks at what may have changed."""
        ...

    def begin(self, name: str) -> None:
        """Remove what other runs have left, and make a place for one."""
        ...

    def claim(self, name: str) -> bool:
        """Make a place for a chunk in that of its run; False if somebody has."""
        ...

    def write(self, name: str, at: int, block: bytes) -> int:
        """Add a block with its header, at the end of the others; return where the next one goes. One at a time does it."""
        ...

    def read(self, name: str, at: int) -> tuple[list[bytes], int]:
        """Return the whole blocks from there on, without headers, and where the next one will be."""
        ...

    def names(self) -> list[str]:
        """Return the names of all that is there."""
        ...

    def remove(self, name: str) -> None:
        """Remove the place of a chunk, as far as that is possible."""
        ...

    def clear(self) -> None:
        """Remove everything, as far as that is possible."""
        ...


class Outbox:
    """The end that writes."""

    def __init__(self, space: Space, name: str, disk: Disk) -> None:
        self.name = name
        self._space = space
        self._disk = disk
        self._waiting: list[Message] = []
        self._some = asyncio.Event()
        #: Where whoever begins to read now had better start.
        self.end = 0

    def send(self, message: Message) -> None:
        """Have a message written, with the others that come meanwhile."""
        self._waiting.append(message)
        self._some.set()

    async def drain(self) -> None:
        """Nothing: those who read take what they can."""

    async def run(self, clock: Clock) -> NoReturn:
        """Write what is sent, until it is cancelled; raises OSError."""
        while True:
            await self._some.wait()
            self._some.clear()
            await self.flush()
            await clock.sleep(self._space.pause)

    async def flush(self) -> None:
        """Write what was sent, all of it even if cancelled; raises OSError. To be called by one at a time."""
        if self._waiting:
            block = packed(self._waiting)
            self._waiting = []
            await whole(self._write(block))

    async def _write(self, block: bytes) -> None:
        self.end = await self._disk.together(self._space.write, self.name, self.end, block)


class Inbox:
    """An end that reads, from ``at`` on."""

    def __init__(self, space: Space, name: str, at: int = 0) -> None:
        self.at = at
        self._space = space
        self._name = name

    def read(self) -> list[Message]:
        """Return the messages of the next whole blocks; none of what is not there. Blocks.

        Raises OSError, and ValueError for what is no block of messages.
        """
        blocks, self.at = self._space.read(self._name, self.at)
        return [message for block in blocks for message in _messages(block)]


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
