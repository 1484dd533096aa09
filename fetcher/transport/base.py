"""L2: what every way to send one request promises."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol, Self

from fetcher.model import Headers, Timings


@dataclass(frozen=True, slots=True)
class Hop:
    """One GET as it goes out: an absolute URL, escaped and ASCII, sent byte for byte, and its header fields.

    The user's certificate is shown only to who may know the user: ``own_origin``.
    """

    url: str
    headers: Headers
    own_origin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How many connections may be open, kept ones included, and whether only to addresses of the public internet."""

    connections: int = 100
    block_private: bool = False


#: As far as the network goes.
ANYWHERE: Final = Reach()


class Response(Protocol):
    """The head of one response and its body, still encoded as its Content-Encoding says."""

    @property
    def status(self) -> int:
        """The status code as received."""
        ...

    @property
    def reason(self) -> str:
        """The reason phrase as received; may be empty."""
        ...

    @property
    def headers(self) -> Headers:
        """The header fields as received, names in lower case (RFC 9110 section 5.1)."""
        ...

    @property
    def http_version(self) -> str:
        """``1.0``, ``1.1``, ``2`` or ``3``."""
        ...

    @property
    def remote_ip(self) -> str | None:
        """The address that answered, if it is known."""
        ...

    @property
    def length(self) -> int | None:
        """How many body bytes are announced, None if the end shows only when it comes."""
        ...

    @property
    def ends_with_connection(self) -> bool:
        """Whether only the closing of the connection marks the body's end (RFC 9112 section 6.3 rule 8)."""
        ...

    async def read(self) -> bytes:
        """Return the next bytes of the body as they arrive, without the transfer coding; none once it is whole.

        Raises FetchError of kind ``truncated``, ``timeout.read`` or ``protocol`` if it does not arrive whole.
        """
        ...

    def close(self) -> None:
        """Drop the connection, if the body has not been read to its end; nothing more can be read."""
        ...

    def doubts(self) -> tuple[str, ...]:
        """Return, once the body is read, what keeps it from being known to be whole.

        ``length_unknown`` if only the end of the connection ended it, and ``tls_cut`` if TLS did not confirm that end.
        """
        ...

    def timings(self) -> Timings | None:
        """Return how long each phase up to the head took, None if it was not measured."""
        ...


class Transport(Protocol):
    """Sends requests over shared connections; an async context manager that owns them."""

    async def __aenter__(self) -> Self:
        """Open what the requests will share."""
        ...

    async def __aexit__(self, *exc: object) -> None:
        """Close every connection."""
        ...

    def send(self, hop: Hop) -> AbstractAsyncContextManager[Response]:
        """Send one GET, without following redirects; the response lives as long as the context.

        Leaving the context before the body's end drops the connection.
        Raises FetchError with the kinds ``dns``, ``connect.*``, ``tls.*``, ``proxy``, ``timeout.*``, ``protocol``.
        """
        ...
