"""L3: what a cluster needs of the machines that fetch its chunks."""

from enum import Enum
from typing import Protocol

from fetcher.engines.chunk import Chunk


class State(Enum):
    """How a chunk is, as the pool sees it: pending or under way; over, well or not; not possible; or not known any more."""

    OPEN = 0
    OVER = 1
    FAILED = 2
    LOST = 3


class Job(Protocol):
    """A chunk that a pool was given."""

    @property
    def state(self) -> State:
        """How it is."""
        ...

    async def reason(self) -> str:
        """Return why it failed or was lost."""
        ...

    def release(self) -> None:
        """Want nothing more of it: if it is not over, it is to notice."""
        ...


class Pool(Protocol):
    """Machines that call :func:`fetcher.engines.chunk.fetch_chunk`: at least once for each chunk, until one has ended."""

    @property
    def workers(self) -> int:
        """How many machines, or processes on them, there are."""
        ...

    def submit(self, chunk: Chunk) -> Job:
        """Have a chunk fetched."""
        ...
