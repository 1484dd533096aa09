"""L2: what every place for bodies promises."""

from typing import Protocol

from fetcher.model import Head, Request, Stored


class Writer(Protocol):
    """Takes one body. Exactly one of :meth:`commit` and :meth:`abort` ends it."""

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes of the decoded body; waits while the place is slower than the network.

        Raises LocalError if they cannot be kept.
        """
        ...

    async def commit(self) -> Stored:
        """Make the body visible under its final name, whole, and say where. Raises LocalError."""
        ...

    async def abort(self) -> None:
        """Forget the body: nothing becomes visible. Safe to call at any point before commit has returned.

        After a commit that was cancelled, the body is visible whole or not at all.
        """
        ...


class Sink(Protocol):
    """Opens one Writer per response that is worth keeping."""

    async def open(self, request: Request, head: Head) -> Writer:
        """Prepare to take the body of this response. Raises LocalError."""
        ...
