"""L2: what every source of rows promises."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Protocol

from fetcher.model import Row


class ReadError(Exception):
    """The list cannot be read on; the message says why, without naming it."""


class FormError(ReadError):
    """The list is not in the form that it should have: the command is wrong rather than the list damaged."""


class Source(Protocol):
    """A list of things to fetch, read lazily, in order, with bounded memory.

    ``name`` is what records show as ``source``: the path as the user wrote it, ``-`` or ``argv``.
    """

    @property
    def name(self) -> str:
        """What records call this source."""
        ...

    def rows(self) -> AsyncGenerator[Row, None]:
        """Yield one Row per line that asks for a fetch; a line that cannot be one has ``error`` set.

        Reading never blocks the event loop and can be cancelled at any time. May be called once.
        """
        ...

    async def count(self) -> int | None:
        """Return how many rows there are in all, or None where finding out would use them up (a pipe)."""
        ...


class Reader(Protocol):
    """Makes rows of the bytes of one list, which come in pieces of any size; holds a bounded part of them.

    All rows of a piece are to be taken before the next one is fed.
    """

    @property
    def line(self) -> int:
        """How many lines, or whatever rows are counted by, have been read whole."""
        ...

    @property
    def nested(self) -> Sequence[Row]:
        """The rows of the piece at hand that are lists themselves; they are not among those of :meth:`feed`."""
        ...

    def feed(self, piece: bytes) -> Iterator[Row]:
        """Yield the rows that end in this piece; raises ReadError if it cannot be read on."""
        ...

    def end(self) -> Iterator[Row]:
        """Yield the rows that were waiting for more; raises ReadError if the list is cut."""
        ...

    def tally(self, piece: bytes) -> int:
        """Return how many rows :meth:`feed` would yield, instead of calling it."""
        ...
