"""L2: what every place for bodies promises."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, runtime_checkable

from fetcher.conditional import Held
from fetcher.disk import Disk
from fetcher.errors import ErrorKind, FetchError
from fetcher.model import Head, Record, Request, Stored
from fetcher.naming import Told


class Writer(Protocol):
    """Takes one body. Exactly one of :meth:`commit`, :meth:`hold` and :meth:`abort` ends it."""

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes of the body; waits while the place is slower than the network.

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

    @property
    def wants_wire(self) -> bool:
        """Whether it takes bodies as they were sent, content codings and all, with every exchange in their heads."""
        ...

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


class Entry(NamedTuple):
    """A whole body on its way into an archive; ``at`` is when its head came, in seconds since 1970.

    ``blocks`` reads it from its beginning, as often as it is called.
    """

    request: Request
    head: Head
    at: float
    size: int
    sha256: str
    blocks: Callable[[], Iterator[bytes]]


class Archive(Protocol):
    """How bodies lie one behind the other in large files. Its methods block; one thread at a time calls them."""

    @property
    def suffix(self) -> str:
        """What the names of its files end in."""
        ...

    @property
    def wants_wire(self) -> bool:
        """See :class:`Sink`."""
        ...

    @property
    def most(self) -> int | None:
        """The bytes of the largest body that it takes; None if there is no such limit."""
        ...

    def begin(self, name: str, at: float, write: Callable[[bytes], None]) -> int:
        """Write what stands before the first entry of a new file, and return how many bytes that are."""
        ...

    def append(self, name: str, offset: int, entry: Entry, write: Callable[[bytes], None]) -> Stored:
        """Write an entry at this offset of an unfinished file, or find that an equal body is there already."""
        ...

    def whole(self, path: Path) -> int:
        """Return where the last whole entry of an unfinished file ends; 0 if there is none. Raises OSError."""
        ...

    def body_of(self, file: BinaryIO, record: Record) -> Iterator[bytes]:
        """Yield the body that a record tells of, as it is stored; raises ValueError if it is not there, OSError."""
        ...

    def finish(self, path: Path, final: Path) -> None:
        """Make a finished file of an unfinished one that ends with a whole entry; raises OSError.

        It may be killed at any point, and then be called again.
        """
        ...


class Depot(Protocol):
    """Where finished archives go, if they do not stay in their directory."""

    def holds(self, name: str) -> bool:
        """Tell whether there is an archive of that name; blocks. Raises LocalError."""
        ...

    async def send(self, path: Path) -> None:
        """Put an archive there under its own name, whole, and then remove the file; raises LocalError.

        A cancellation leaves the file, to be sent again.
        """
        ...


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


@runtime_checkable
class Adopter(Protocol):
    """Whoever takes bodies that others have put together. All of its work runs on ``disk``."""

    @property
    def disk(self) -> Disk:
        """The threads."""
        ...

    async def adopt(self, request: Request, told: Told, path: str, digest: str) -> str:
        """Give a whole body that lies at a relative ``path`` the name that is its own, and return that; raises LocalError."""
        ...

    async def adopted(self, request: Request, told: Told, size: int, digest: str) -> str | None:
        """Return the name of a body that was given it by a run that could not say so any more; None if it is not there."""
        ...
