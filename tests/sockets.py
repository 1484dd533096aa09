"""A client of plain sockets, which takes no answer for wrong."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back until the connection ended, and whether it was reset."""

    data: bytes
    reset: bool

    @property
    def head(self) -> list[str]:
        """The lines of the head."""
        return self.data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")

    @property
    def status(self) -> str:
        """The status line."""
        return self.head[0]

    @property
    def body(self) -> bytes:
        """What follows the head, chunks and codings as they came."""
        return self.data.partition(b"\r\n\r\n")[2]

    def values(self, name: str) -> list[str]:
        """Return the values of the header fields of that name, given in lower case."""
        pairs = (line.partition(": ") for line in self.head[1:])
        return [value for key, _, value in pairs if key.lower() == name]


def connect(url: str) -> socket.socket:
    """Connect to the server of ``url``."""
    host, _, port = url.split("/")[2].partition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def request(url: str, *fields: str) -> bytes:
    """Return a GET request for ``url``, with further header lines."""
    target = "/" + url.split("/", 3)[3]
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


def rest(link: socket.socket) -> Answer:
    """Read until the connection ends."""
    pieces, reset = [], False
    try:
        while piece := link.recv(2**20):
            pieces.append(piece)
    except ConnectionResetError:
        reset = True
    return Answer(b"".join(pieces), reset)


def ask(url: str, *fields: str) -> Answer:
    """Send one request on a connection of its own and return all that comes back."""
    with connect(url) as link:
        link.sendall(request(url, "Connection: close", *fields))
        return rest(link)


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until ``condition`` holds; AssertionError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
