"""L2: what every place for bodies promises."""

from typing import NamedTuple, Protocol

from fetcher.conditional import Held
from fetcher.errors import ErrorKind, FetchError
from fetcher.model import Head, Request, Stored
from fetcher.naming import Told


class Writer(Protocol):
    """Takes one body. Exactly one of :meth:`commit`, :meth:`hold` and :meth:`abort` ends it."""

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes of the decoded body; waits while the place is slower than the network.

        Raises LocalError if they cannot be kept.
        """
        ...

    async def commit(self) -> Stored:
        """Make the body visible under its final name, whole, and say where.

        Raises LocalError, and FetchError as :func:`check_digest` does, with nothing made visible.
        """
        ...

    async def abort(self) -> None:
        """Forget the body: nothing becomes visible. Safe to call at any point before commit has returned.

        After a commit that was cancelled, the body is visible whole or not at all.
        """
        ...

    async def hold(self) -> None:
        """End as :meth:`abort` does, but keep what has come for :meth:`Sink.held`, if it is worth it and can be."""
        ...


class Sink(Protocol):
    """Opens one Writer per response that is worth keeping."""

    async def held(self, request: Request) -> Held | None:
        """Return what an earlier attempt, of this run or another, has left of this request's body; None if nothing."""
        ...

    async def open(self, request: Request, head: Head, held: Held | None = None) -> Writer:
        """Prepare to take the body of this response, or with ``held`` the rest of it. Raises LocalError."""
        ...


def check_digest(request: Request, digest: str | None) -> None:
    """Raise FetchError of kind ``checksum`` if the list says that a body has another SHA-256, in hex."""
    expected = None if request.details is None else request.details.sha256
    if expected is not None and digest != expected:
        found = "none" if digest is None else f"{digest[:16]}..."
        raise FetchError(ErrorKind.CHECKSUM, f"sha256 is {found}, the list says {expected[:16]}...")


class Name(NamedTuple):
    """The relative path that a body gets, and whether an earlier run has made the file there for the same URL."""

    path: str
    ours: bool


class NameGiver(Protocol):
    """Whoever knows which names are taken: in this process, or where all workers of a run ask."""

    @property
    def needs_body(self) -> bool:
        """Whether a name depends on the digest of its body."""
        ...

    async def reserve(self, request: Request, told: Told, digest: str | None, obstacle: str | None = None) -> Name:
        """Return the name of this body, unlike that of any other URL; ``obstacle`` is a path that nobody can have."""
        ...
