"""L0: what can go wrong, in a closed vocabulary.

Exception
 +- FetchError     one URL failed; becomes the record's ``error``
 |   +- LocalError  this machine failed (disk); the run stops, exit 3
 +- UsageError     the command or the options are wrong, exit 2
     +- BusyError   another run holds the directory, exit 4
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fetcher.text import printable

#: The longest ``message`` of an error, in characters.
MAX_MESSAGE: Final = 300


class ErrorKind(StrEnum):
    """The kinds of failure. ``http.400`` to ``http.599`` are made by :func:`http_kind`."""

    INVALID_URL = "invalid_url"
    UNSUPPORTED_SCHEME = "unsupported_scheme"
    BAD_RECORD = "bad_record"
    BLOCKED_ADDRESS = "blocked_address"
    ROBOTS = "robots"
    DNS = "dns"
    CONNECT_REFUSED = "connect.refused"
    CONNECT_UNREACHABLE = "connect.unreachable"
    CONNECT_CLOSED = "connect.closed"
    TLS_VERIFY = "tls.verify"
    TLS_HANDSHAKE = "tls.handshake"
    PROXY = "proxy"
    TIMEOUT_CONNECT = "timeout.connect"
    TIMEOUT_READ = "timeout.read"
    TIMEOUT_TOTAL = "timeout.total"
    REDIRECT_LIMIT = "redirect.limit"
    REDIRECT_INVALID = "redirect.invalid"
    PROTOCOL = "protocol"
    TRUNCATED = "truncated"
    DECODE = "decode"
    TOO_LARGE = "too_large"
    CHECKSUM = "checksum"
    DISK = "disk"
    EXEC = "exec"
    CANCELLED = "cancelled"
    HOST_DOWN = "host_down"
    INTERNAL = "internal"


#: Kinds that may succeed when tried again, in this run or a later one.
_TRANSIENT: Final = frozenset(
    {
        ErrorKind.DNS,
        ErrorKind.CONNECT_REFUSED,
        ErrorKind.CONNECT_UNREACHABLE,
        ErrorKind.CONNECT_CLOSED,
        ErrorKind.TIMEOUT_CONNECT,
        ErrorKind.TIMEOUT_READ,
        ErrorKind.TIMEOUT_TOTAL,
        ErrorKind.TRUNCATED,
        ErrorKind.CHECKSUM,
        ErrorKind.CANCELLED,
        ErrorKind.HOST_DOWN,
        "http.408",
        "http.425",
        "http.429",
        "http.500",
        "http.502",
        "http.503",
        "http.504",
    }
)

#: Transient kinds for which one retry is enough: a second look rarely changes the answer.
ONCE: Final = frozenset({ErrorKind.DNS, ErrorKind.CHECKSUM})

#: What to type next, by kind, shown behind a group of failures.
HINTS: Final[dict[str, str]] = {
    ErrorKind.INVALID_URL: "write https://example.com/x",
    ErrorKind.TLS_VERIFY: "try --ca-file FILE",
    ErrorKind.TLS_HANDSHAKE: "http:// ?",
    ErrorKind.TIMEOUT_CONNECT: "try --connect-timeout 30",
    ErrorKind.TIMEOUT_READ: "try --read-timeout 60",
    ErrorKind.TIMEOUT_TOTAL: "try a longer --timeout",
    ErrorKind.REDIRECT_LIMIT: "try --max-redirects 50",
    ErrorKind.TOO_LARGE: "try a larger --max-size",
    ErrorKind.DISK: "free space, run the same command again",
    ErrorKind.INTERNAL: "a bug: please report it with -v output",
    "http.401": "try -H @FILE",
    "http.403": "try -H @FILE",
    "http.429": "try --host-rate 5",
}


def http_kind(status: int) -> str:
    """Return the kind of an HTTP error status, 400 to 599: ``http.404``."""
    return f"http.{status}"


def words_of(error: OSError, otherwise: str = "disk error") -> str:
    """Return what the system says of its failure, as part of a message of ours; ``otherwise`` if it says nothing."""
    return (error.strerror or otherwise).lower()


def is_transient(kind: str) -> bool:
    """Tell whether a failure of this kind may go away by trying again."""
    return kind in _TRANSIENT


@dataclass(frozen=True, slots=True)
class Error:
    """Why a URL failed, as it stands in its record."""

    kind: str
    message: str
    transient: bool

    @classmethod
    def of(cls, kind: str, message: str) -> "Error":
        """Make an error whose message is safe to print and at most 300 characters."""
        return cls(str(kind), printable(message, MAX_MESSAGE), is_transient(kind))


class FetchError(Exception):
    """One URL failed, for the reason ``kind``; ``message`` starts with the subject, in lower case."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message

    @property
    def error(self) -> Error:
        """The same as data for a record."""
        return Error.of(self.kind, self.message)


class LocalError(FetchError):
    """This machine, not a server, failed: the disk is full or not writable. No later URL can do better."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorKind.DISK, message)
        self.args = (message,)


class UsageError(Exception):
    """The command cannot be carried out as written; nothing was fetched. The message says what to type instead."""


class BusyError(UsageError):
    """Another run is using the output directory."""
