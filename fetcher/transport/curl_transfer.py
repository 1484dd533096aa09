"""L2: one request over libcurl, as its callbacks tell of it."""

import asyncio
import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from fetcher.clock import Clock
from fetcher.errors import ErrorKind, FetchError
from fetcher.options import Timeouts, Tls, Wire
from fetcher.transport.base import Hop
from fetcher.transport.curl_failures import DIED, REFUSED, Failure, translate
from fetcher.transport.curl_options import header_lines, identify, new_handle
from fetcher.transport.failures import Exchanged, unanswered
from fetcher.transport.guard import is_public
from fetcher.transport.proxies import Proxies, is_socks
from fetcher.transport.timeline import Timeline

if TYPE_CHECKING:
    from fetcher.model import Headers
    from fetcher.transport.curl_multi import Multi

#: The most fields of a head and of the trailers, and the most interim responses (1xx).
#: libcurl itself takes lines of 100 KiB and heads of 300 KiB, interim ones included.
_MAX_FIELDS: Final = 4_000
_MAX_INTERIM: Final = 100
#: A body that is not read stops arriving when so many bytes wait.
_MAX_WAITING: Final = 256 * 1024

_NUMBERS: Final = re.compile(r"[0-9.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all transfers of a transport share."""

    pycurl: Any
    loop: asyncio.AbstractEventLoop
    multi: "Multi[Transfer]"
    timeouts: Timeouts
    tls: Tls
    proxies: Proxies
    clock: Clock
    wire: Wire
    block_private: bool


class Transfer:
    """One handle of libcurl, used for one request after another.

    idle -> under way -> headed -> done -> idle; what leaves this way is not used again.
    """

    def __init__(self, shared: "Shared", *, identified: bool = False) -> None:
        self._shared = shared
        self.identified = identified
        self._headers: Headers | None = None
        self._proxy: str | None = None
        self._anew = False
        self.curl = curl = new_handle(shared.pycurl, shared.timeouts, shared.tls, shared.wire)
        if identified:
            identify(shared.pycurl, curl, shared.tls)
        self._pause: int = shared.pycurl.WRITEFUNC_PAUSE
        curl.setopt(shared.pycurl.HEADERFUNCTION, self._on_line)
        curl.setopt(shared.pycurl.WRITEFUNCTION, self._on_body)
        curl.setopt(shared.pycurl.SOCKOPTFUNCTION, self._on_socket)
        if shared.block_private:
            curl.setopt(shared.pycurl.OPENSOCKETFUNCTION, self._open_socket)
        self._reset("")

    def _reset(self, url: str) -> None:
        self.url = url
        self.is_address = False
        self.lines: list[bytes] = []
        self.headed = False
        self.done = False
        self.moved = True
        self.began = self.last = 0.0
        self.paused = False
        self.received = 0
        self.length: int | None = None
        self.failure: Failure | None = None
        self._refusal = ""
        self._socket: int | None = None
        self._blocked: str | None = None
        self._trailers = self._interim = 0
        self._chunks: list[bytes] = []
        self._waiting = 0
        self._waiter: asyncio.Future[None] | None = None

    def begin(self, hop: Hop) -> None:
        """Start on a request."""
        self._reset(hop.url)
        pycurl, setopt = self._shared.pycurl, self.curl.setopt
        proxy = self._shared.proxies.find(hop.url)
        scheme, _, rest = hop.url.partition("://")
        authority, slash, path = rest.partition("/")
        self.is_address = _is_address(authority)
        setopt(pycurl.URL, hop.url)
        # libcurl would write escapes its own way. A proxy that speaks HTTP is asked for a plain URL as a whole.
        whole = proxy is not None and not is_socks(proxy) and scheme == "http"
        setopt(pycurl.REQUEST_TARGET, hop.url if whole else slash + path)
        if hop.headers != self._headers:
            setopt(pycurl.HTTPHEADER, header_lines(hop.headers))
            self._headers = hop.headers
        if proxy != self._proxy:
            setopt(pycurl.PROXY, proxy or "")
            self._proxy = proxy
        if self._anew:
            setopt(pycurl.FRESH_CONNECT, 0)
            self._anew = False
        self.began = self._shared.clock.monotonic()
        self._shared.multi.add(self.curl, self)

    def change(self) -> asyncio.Future[None]:
        """Return what is done when something has arrived, or the end."""
        self._waiter = waiter = self._shared.loop.create_future()
        return waiter

    def wake(self) -> None:
        """Let the one who waits for a change go on."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def finish(self, code: int, words: str) -> None:
        """Take the end that libcurl tells."""
        if code in DIED and not (self.lines or self.headed or self._anew) and not self._connects():
            self._begin_anew()
            return
        self.done = True
        if self._refusal:
            self.failure = Failure(REFUSED, self._refusal)
        elif code:
            self._note_look_up()
            pycurl, getinfo = self._shared.pycurl, self.curl.getinfo
            self.failure = Failure(code, words, getinfo(pycurl.OS_ERRNO), getinfo(pycurl.HTTP_CONNECTCODE))

    def _connects(self) -> int:
        """Return how many connections were made for it: none if all was tried on kept ones."""
        connects: int = self.curl.getinfo(self._shared.pycurl.NUM_CONNECTS)
        return connects

    def _begin_anew(self) -> None:
        """Ask on a new connection: libcurl has found several kept ones dead, and gives up after the fifth."""
        self._anew = True
        self.curl.setopt(self._shared.pycurl.FRESH_CONNECT, 1)
        self._shared.multi.add(self.curl, self)

    def stop(self, code: int) -> None:
        """End it from this side, if it has not ended."""
        if not self.done:
            self._note_look_up()
            self._shared.multi.remove(self.curl)
            self.done = True
            self.failure = Failure(code, "")
            self.wake()

    def _note_look_up(self) -> None:
        """Say so if it ends amid a look-up, which goes on without it."""
        if not self.headed and not self.is_address and not self.curl.getinfo(self._shared.pycurl.NAMELOOKUP_TIME_T):
            self._shared.multi.looking_up = True

    def take(self) -> bytes:
        """Return what waits to be read, and let more come."""
        chunks = self._chunks
        if chunks:
            self._chunks = []
            self._waiting = 0
        if self.paused and not self.done:
            self.paused = False
            self.moved = True
            with suppress(self._shared.pycurl.error):  # it will be told as the end
                self.curl.pause(self._shared.pycurl.PAUSE_CONT)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def note_framed(self) -> None:
        """Say that the connection is one of HTTP/2, if it was made for this request."""
        if self._socket is not None:
            self._shared.multi.framed.add(self._socket)

    def silent_since(self, now: float) -> float | None:
        """Return since when the server has been silent, as far as is known ``now``; None while it may be so.

        It may as long as the connection does not stand, and as long as this side does not read.
        """
        if self.moved or self.paused:
            self.moved = False
            self.last = now
        sent_after: int = self.curl.getinfo(self._shared.pycurl.PRETRANSFER_TIME_T)
        return max(self.last, self.began + sent_after / 1e6) if sent_after and not self.paused else None

    def forget(self) -> None:
        """Let go of what nobody has read."""
        self.lines, self._chunks = [], []

    def told(self) -> Exchanged:
        """Return the words of a message."""
        shared = self._shared
        timeline = Timeline(shared.clock)
        timeline.blocked_address = self._blocked
        if self.is_address or self.curl.getinfo(shared.pycurl.NAMELOOKUP_TIME_T):
            timeline.mark("connecting")
        parts = urlsplit(self.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = parts.netloc.removesuffix(f":{port}")
        told = Exchanged(host, port, shared.timeouts, self._proxy, timeline)
        told.answered, told.length, told.received = self.headed, self.length, self.received
        return told

    def error(self) -> FetchError:
        """Return why it ended before its end."""
        return translate(self.failure, self.told()) if self.failure is not None else unanswered(self.told())

    # What follows is called from within libcurl, which must not be called back.

    def _on_line(self, line: bytes) -> int | None:
        """Take one line of a head or trailer."""
        self.moved = True
        if self.headed:
            self._trailers += 1
            return self._refuse("fields without an end") if self._trailers > _MAX_FIELDS else None
        self.lines.append(line)
        return self._on_blank() if len(line) <= 2 else None

    def _on_blank(self) -> int | None:
        """Take the end of a head."""
        if len(self.lines) == 1:
            return self._refuse("empty lines")
        if len(self.lines) > _MAX_FIELDS + 2:
            return self._refuse("fields without an end")
        if _is_interim(self.lines[0]):
            self._interim += 1
            self.lines = []
            return self._refuse("interim responses without an end") if self._interim > _MAX_INTERIM else None
        self.headed = True
        self._shared.multi.stirred.append(self)
        return None

    def _refuse(self, why: str) -> int:
        """Make libcurl give up."""
        self._refusal = why
        return -1

    def _on_body(self, data: bytes) -> int | None:
        """Take a piece of the body; with too many waiting, libcurl keeps it and reads no more."""
        if self._waiting > _MAX_WAITING:
            self.paused = True
            return self._pause
        self.moved = True
        size = len(data)
        self.received += size
        self._waiting += size
        if not self._chunks:
            self._shared.multi.stirred.append(self)
        self._chunks.append(data)
        return None

    def _on_socket(self, fd: int, _purpose: int) -> int:
        """Note the socket of a new connection."""
        self._socket = fd
        self._shared.multi.framed.discard(fd)
        return 0

    def _open_socket(self, _purpose: int, address: Any) -> Any:
        """Make a socket for a public address only: this is where every address of every hop comes by."""
        family, kind, protocol, name = address
        where = str(name[0])
        if not is_public(where):
            self._blocked = self._blocked or where
            return self._shared.pycurl.SOCKET_BAD
        with suppress(OSError):
            return _Handed(socket.socket(family, kind, protocol).detach())
        return self._shared.pycurl.SOCKET_BAD


class _Handed:
    """A socket for pycurl, which takes a copy of it and leaves this one."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def __del__(self) -> None:
        os.close(self._fd)


def _is_interim(status_line: bytes) -> bool:
    """Tell whether a head is followed by another (RFC 9110 section 15.2); 101 is not."""
    status = status_line.partition(b" ")[2]
    return status.startswith(b"1") and not status.startswith(b"101")


@lru_cache(256)
def _is_address(authority: str) -> bool:
    """Tell whether the host needs no look-up; refuse what libcurl takes for one IPv4 address, and others for another."""
    host = authority.partition(":")[0]
    if _NUMBERS.fullmatch(host) is None:
        return host.startswith("[")
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        reason = f"{host} is no IPv4 address: write it as 192.0.2.1"
        raise FetchError(ErrorKind.INVALID_URL, reason) from None
    return True
