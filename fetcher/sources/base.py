"""L2: what every source of rows promises."""

from collections.abc import AsyncGenerator
from typing import Protocol

from fetcher.model import Row


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
