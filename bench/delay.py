"""A server that answers each request after 100 ms, which nginx cannot; a process of its own.

``python -m bench.delay FOLDER`` serves the files of FOLDER at ``/NAME/FILE``, NAME being the folder's, on a free port of
127.0.0.1 that it prints. It ends when its standard input does, so it cannot outlive whoever started it.
"""

import gc
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.workloads import DELAY

_MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def delaying(folder: Path) -> Iterator[int]:
    """Serve ``folder`` until the end of the block; gives the port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.delay", folder],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        try:
            assert process.stdout
            yield int(process.stdout.readline())
        finally:
            process.kill()


def _answers(folder: Path) -> dict[bytes, bytes]:
    """What is sent for each path."""
    return {
        f"/{folder.name}/{path.name}".encode(): b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (path.stat().st_size, path.read_bytes())
        for path in folder.iterdir()
    }


class _Server:
    """Sockets on one epoll; since all wait equally long, answers leave in the order in which requests came."""

    def __init__(self, answers: Mapping[bytes, bytes], listener: socket.socket) -> None:
        self._answers = answers
        self._listener = listener
        self._poll = select.epoll()
        self._connections: dict[int, tuple[socket.socket, bytes]] = {}
        self._due: deque[tuple[float, socket.socket, bytes]] = deque()

    def serve(self, end: int) -> None:
        """Answer until the descriptor ``end`` can be read."""
        self._poll.register(self._listener, select.EPOLLIN)
        self._poll.register(end, select.EPOLLIN | select.EPOLLHUP)
        while True:
            wait = max(self._due[0][0] - time.monotonic(), 0) if self._due else None
            for descriptor, _ in self._poll.poll(wait, 1024):
                if descriptor == end:
                    return
                if descriptor == self._listener.fileno():
                    self._accept()
                else:
                    self._read(descriptor)
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, connection, answer = self._due.popleft()
                with suppress(OSError):  # it may have gone meanwhile
                    connection.send(answer)

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            while True:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connections[connection.fileno()] = connection, b""
                self._poll.register(connection, select.EPOLLIN)

    def _read(self, descriptor: int) -> None:
        connection, head = self._connections[descriptor]
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._poll.unregister(descriptor)
            del self._connections[descriptor]
            connection.close()
            return
        *heads, rest = (head + data).split(b"\r\n\r\n")
        self._connections[descriptor] = connection, rest
        due = time.monotonic() + DELAY
        for head in heads:
            self._due.append((due, connection, self._answers.get(head.split(b" ", 2)[1], _MISSING)))


def _main(folder: Path) -> None:
    answers = {
        f"/{folder.name}/{path.name}".encode(): b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (path.stat().st_size, path.read_bytes())
        for path in folder.iterdir()
    }
    gc.collect()
    gc.freeze()
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        listener.setblocking(False)
        print(listener.getsockname()[1], flush=True)
        _Server(answers, listener).serve(sys.stdin.fileno())


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
