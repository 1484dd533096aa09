"""L2: libcurl's multi interface on the event loop: every connection behind one descriptor."""

import asyncio
import os
import select
import selectors
import socket
import sys
import threading
from contextlib import suppress
from typing import Any, Final, Generic, Protocol, TypeVar

from fetcher.clock import Clock

#: What libcurl and ``selectors`` both call reading, writing, and both.
_READ: Final = 1
_WRITE: Final = 2
_BOTH: Final = 3
#: The most sockets dealt with in one turn of the loop: each may have a quarter of a megabyte to hand over.
_AT_ONCE: Final = 64


class Told(Protocol):
    """A transfer that is told of its own progress, never from within libcurl."""

    def wake(self) -> None:
        """Something has arrived, or the end."""
        ...

    def finish(self, code: int, words: str) -> None:
        """Take the end that libcurl tells: ``code`` is 0 or a CURLE number, which ``words`` explain."""
        ...


class _Selected:
    """What a system without epoll has, in epoll's manner, but for the numbers of events."""

    def __init__(self) -> None:
        self._selector: Any = selectors.DefaultSelector()
        self.fileno = self._selector.fileno
        self.close = self._selector.close
        self.register = self._selector.register
        self.unregister = self._selector.unregister

    def modify(self, fd: int, events: int) -> None:
        with suppress(KeyError):  # what was closed may be in there still
            self._selector.unregister(fd)
        self._selector.register(fd, events)

    def poll(self, seconds: float, most: int) -> list[tuple[int, int]]:
        return [(key.fd, events) for key, events in self._selector.select(seconds)[:most]]


def _poller() -> tuple[Any, dict[int, int]]:
    """Return what watches descriptors and is one itself, and its numbers for libcurl's events."""
    if sys.platform != "linux":
        return _Selected(), {_READ: _READ, _WRITE: _WRITE, _BOTH: _BOTH}
    return select.epoll(), {_READ: select.EPOLLIN, _WRITE: select.EPOLLOUT, _BOTH: select.EPOLLIN | select.EPOLLOUT}


_T = TypeVar("_T", bound=Told)


class Multi(Generic[_T]):
    """Runs transfers, by the callbacks of libcurl's sockets and timer.

    libcurl's sockets are watched by a selector of their own, which the event loop watches: all that are ready are dealt
    with in one turn, and what came of it is told once at its end. A kept connection is watched too: libcurl looks at
    it at most once a second, and would take what a server says unasked for the answer to the next request. Append to
    ``stirred``, also from within libcurl, a transfer that shall be woken then; set ``looking_up`` when one has ended
    amid a look-up.
    """

    def __init__(self, pycurl: Any, clock: Clock, connections: int) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._timeout: int = pycurl.SOCKET_TIMEOUT
        self._removed: int = pycurl.POLL_REMOVE
        self._socket: int = pycurl.ACTIVESOCKET
        self._curls: dict[Any, _T] = {}
        self.stirred: list[_T] = []
        self._resting: set[int] = set()
        #: Sockets of connections that tell by themselves what an answer belongs to: HTTP/2.
        self.framed: set[int] = set()
        self._closed = False
        self.looking_up = False
        self._soon = False
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._poll, self._events = _poller()
        self._ended, other = socket.socketpair()
        other.close()
        self._ready_as = {events: mask for mask, events in self._events.items()}
        self._loop.add_reader(self._poll.fileno(), self._ready)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)
        self._multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, connections)

    def close(self) -> None:
        """Close every connection; transfers under way must have been removed.

        libcurl would wait for look-ups that nobody waits for any more, a name server's patience long: a thread does.
        """
        self._closed = True
        self._loop.remove_reader(self._poll.fileno())
        if self._timer is not None:
            self._timer.cancel()
        if self.looking_up:
            threading.Thread(target=self._multi.close, name="libcurl's end", daemon=True).start()
        else:
            self._multi.close()
        self._poll.close()
        self._ended.close()

    def add(self, curl: Any, transfer: _T) -> None:
        """Start a transfer, in the loop's next turn."""
        self._curls[curl] = transfer
        self._multi.add_handle(curl)

    def remove(self, curl: Any) -> None:
        """Stop a transfer and drop its connection, or its stream of one."""
        if self._curls.pop(curl, None) is not None:
            self._multi.remove_handle(curl)

    def transfers(self) -> list[_T]:
        """Return those under way."""
        return list(self._curls.values())

    def _watch(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        if self._closed:
            return
        if what == self._removed:
            self._resting.add(fd)  # or closed, and thereby forgotten by the selector
        elif what in self._events:
            self._resting.discard(fd)
            try:
                self._poll.modify(fd, self._events[what])
            except FileNotFoundError:
                self._poll.register(fd, self._events[what])

    def _set_timer(self, milliseconds: int) -> None:
        if self._closed:
            return
        if milliseconds < 0:
            self._due = None
        elif milliseconds == 0:
            if not self._soon:
                self._soon = True
                self._loop.call_soon(self._at_once)
        else:
            self._due = self._clock.monotonic() + milliseconds / 1000
            if self._timer is None:
                self._timer = self._loop.call_later(milliseconds / 1000, self._in_time)
            elif self._due < self._timer.when():
                self._timer.cancel()
                self._timer = self._loop.call_later(milliseconds / 1000, self._in_time)

    def _at_once(self) -> None:
        self._soon = False
        if not self._closed:
            self._settle(self._multi.socket_action(self._timeout, 0)[1])

    def _in_time(self) -> None:
        """A timer that libcurl has put off meanwhile is set again: it does so with every request."""
        self._timer = None
        if self._due is None:
            return
        left = self._due - self._clock.monotonic()
        if left > 0.001:
            self._timer = self._loop.call_later(left, self._in_time)
        else:
            self._due = None
            self._settle(self._multi.socket_action(self._timeout, 0)[1])

    def _ready(self) -> None:
        running = len(self._curls)
        action = self._multi.socket_action
        ready = self._poll.poll(0, _AT_ONCE)
        if not self._resting.isdisjoint([fd for fd, _ in ready]):
            ready = self._look_at_resting(ready)
        for fd, events in ready:
            running = action(fd, self._ready_as.get(events, _BOTH))[1]
        self._settle(running)

    def _look_at_resting(self, ready: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Put an ended connection in the place of any that speaks, or ends, while it is asked nothing; return the rest.

        What libcurl has not closed before the poll it cannot close before this, so every number still means its socket.
        One that rests because its body is not read, whose answers are numbered, or that only wakes libcurl, is watched
        no more.
        """
        active = {curl.getinfo(self._socket) for curl in self._curls}
        rest = []
        for fd, events in ready:
            if fd not in self._resting:
                rest.append((fd, events))
            elif self._ready_as.get(events) == _WRITE:  # what libcurl wanted to know last
                self._poll.modify(fd, self._events[_READ])
            elif fd not in active and fd not in self.framed and _is_connection(fd):
                os.dup2(self._ended.fileno(), fd, inheritable=False)
            else:
                with suppress(OSError, KeyError):  # a look-up's own thread may close what wakes libcurl
                    self._poll.unregister(fd)
        return rest

    def _settle(self, running: int) -> None:
        """Tell what came of one turn."""
        if running < len(self._curls):
            self._finish()
        stirred, self.stirred = self.stirred, []
        for transfer in stirred:
            transfer.wake()

    def _finish(self) -> None:
        left = 1
        while left:
            left, whole, failed = self._multi.info_read()
            for curl in whole:
                self._take(curl, 0, "")
            for curl, code, words in failed:
                self._take(curl, code, words)

    def _take(self, curl: Any, code: int, words: str) -> None:
        transfer = self._curls.pop(curl, None)
        if transfer is not None:
            self._multi.remove_handle(curl)
            transfer.finish(code, words)
            self.stirred.append(transfer)


def _is_connection(fd: int) -> bool:
    try:
        looked_at = socket.socket(fileno=fd)
    except OSError:
        return False
    looked_at.detach()
    return looked_at.family in (socket.AF_INET, socket.AF_INET6)
