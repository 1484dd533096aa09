"""L2: what went over the wire as records of WARC 1.1 files (ISO 28500:2017), a gzip member each.

    warcinfo | response request | response request | revisit request | ...

Bodies stand there as they were sent, with their content codings. The transfer coding is undone, so two header fields
are told differently: Transfer-Encoding gets the prefix ``x-archive-orig-``, and Content-Length is that of the body.
"""

import re
import zlib
from base64 import b32encode
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import sha1
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple
from uuid import uuid4

from fetcher import __version__
from fetcher.exchange import Exchange
from fetcher.model import Headers, Record, Stored, timestamp
from fetcher.sinks.base import Entry

if TYPE_CHECKING:
    from hashlib import _Hash as HASH

#: zlib's number for gzip with the largest window, and the effort beyond which files hardly shrink.
_GZIP: Final = 16 + zlib.MAX_WBITS
_EFFORT: Final = 6
_BLOCK: Final = 1 << 20

#: So many bodies are remembered, so that what is equal is stored once; not those that a revisit record would exceed.
_REMEMBERED: Final = 16_384
_WORTH: Final = 256

_EQUAL: Final = "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest"
_CONFORMS: Final = "http://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/"
#: Header fields of a request that may be told: those that the program makes, and what answers depend on.
_OPEN: Final = frozenset({"user-agent", "accept", "accept-encoding", "accept-language"})
#: As a protocol is called in WARC-Protocol.
_PROTOCOLS: Final = {"1.0": "http/1.0", "1.1": "http/1.1", "2": "h2", "3": "h3"}
#: What describes a body, and is wrong of one that is not there.
_OF_BODIES: Final = frozenset({"content-length", "content-encoding", "transfer-encoding"})

_Write = Callable[[bytes], None]
_Fields = tuple[tuple[str, str], ...]


class _Response(NamedTuple):
    """A record of a response: which, of what, when, and what is told of it in particular."""

    kind: str
    exchange: Exchange
    date: str
    fields: _Fields


class _Seen(NamedTuple):
    """Where a body stands that others may be equal to, and for what it was fetched when."""

    stored: Stored
    url: str
    date: str


class WarcArchive:
    """Exchanges as WARC records; see :class:`fetcher.sinks.base.Archive`.

    A body equal to one of the same process becomes a revisit record, and is said to stand where the other does.
    """

    suffix: Final = ".warc.gz"
    wants_wire: Final = True
    most: Final = None

    def __init__(self) -> None:
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def begin(self, name: str, at: float, write: _Write) -> int:
        """Write the warcinfo record."""
        told = (("software", f"fetcher/{__version__}"), ("format", "WARC File Format 1.1"), ("conformsTo", _CONFORMS))
        block = _lines(told)
        fields = (
            ("WARC-Filename", name),
            ("WARC-Block-Digest", _named(_sha1(block))),
            ("Content-Type", "application/warc-fields"),
        )
        return _record(_head("warcinfo", _identity(), timestamp(at), fields, len(block)), (block,), write)

    def append(self, name: str, offset: int, entry: Entry, write: _Write) -> Stored:
        """Write records of the redirects, then of the response, or of its being equal to an earlier one."""
        date = timestamp(entry.at)
        *before, last = entry.head.exchanges
        for exchange in before:
            offset += _redirect(exchange, date, write)
        head = _response_head(last, entry.size)
        payload, block = _sha1(b""), _sha1(head)
        for piece in entry.blocks():
            payload.update(piece)
            block.update(piece)
        told: _Fields = (("WARC-Payload-Digest", _named(payload)),)
        seen = self._seen.get(entry.sha256)
        if seen is not None:
            self._seen.move_to_end(entry.sha256)
            told += (
                *(("WARC-Block-Digest", _named(_sha1(head))), ("WARC-Profile", _EQUAL)),
                *(("WARC-Refers-To-Target-URI", seen.url), ("WARC-Refers-To-Date", seen.date)),
            )
            _pair(_Response("revisit", last, date, told), (head,), len(head), write)
            return seen.stored
        told += (("WARC-Block-Digest", _named(block)),)
        size = len(head) + entry.size
        length, _ = _pair(_Response("response", last, date, told), chain((head,), entry.blocks()), size, write)
        stored = Stored(name, entry.size, entry.sha256, offset, length)
        if entry.size >= _WORTH:
            self._seen[entry.sha256] = _Seen(stored, last.url, date)
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        return stored

    def whole(self, path: Path) -> int:
        """Return where the last whole record ends; 0 if that is the first, which tells of the file itself."""
        before = end = 0
        with path.open("rb") as file:
            for each in _ends(file):
                before, end = end, each
        return end if before else 0

    def body_of(self, file: BinaryIO, record: Record) -> Iterator[bytes]:
        """Yield the body that a record tells of, as it was sent; raises ValueError if there is none, OSError."""
        pieces = (piece for piece, _ in _inflated(file, record.offset or 0))
        fields, block = _divided(b"", pieces)
        head, body = _divided(block, pieces)
        size = re.search(rb"\r\nContent-Length: ([0-9]+)\r\n", fields)
        if size is None:
            raise ValueError("no WARC record begins there")
        left = int(size[1]) - len(head)
        for piece in chain((body,), pieces):
            yield piece[:left]
            left -= len(piece[:left])

    def finish(self, path: Path, final: Path) -> None:
        """Move the file to its place."""
        path.replace(final)


def _redirect(exchange: Exchange, date: str, write: _Write) -> int:
    """Write the records of a redirect, whose body nobody has kept, and return how many bytes they have."""
    head = _response_head(exchange, None)
    told: _Fields = (("WARC-Block-Digest", _named(_sha1(head))),)
    if dict(exchange.headers).get("content-length") != "0":
        told += (("WARC-Truncated", "unspecified"),)
    return sum(_pair(_Response("response", exchange, date, told), (head,), len(head), write))


def _pair(response: _Response, block: Iterable[bytes], size: int, write: _Write) -> tuple[int, int]:
    """Write the records of a response, whose block has so many bytes, and of its request; return each one's bytes."""
    kind, exchange, date, told = response
    identity = _identity()
    about: _Fields = (
        ("WARC-Target-URI", exchange.url),
        *((("WARC-IP-Address", exchange.remote_ip),) if exchange.remote_ip else ()),
        *((("WARC-Protocol", _PROTOCOLS[exchange.http_version]),) if exchange.http_version in _PROTOCOLS else ()),
    )
    answered = (*about, *told, ("Content-Type", "application/http;msgtype=response"))
    length = _record(_head(kind, identity, date, answered, size), block, write)
    head = _request_head(exchange)
    asked = (
        *(*about, ("WARC-Concurrent-To", identity), ("WARC-Block-Digest", _named(_sha1(head)))),
        ("Content-Type", "application/http;msgtype=request"),
    )
    return length, _record(_head("request", _identity(), date, asked, len(head)), (head,), write)


def _record(head: bytes, block: Iterable[bytes], write: _Write) -> int:
    """Write a record as a gzip member, and return how many bytes it has."""
    stream = zlib.compressobj(_EFFORT, zlib.DEFLATED, _GZIP)
    waiting = stream.compress(head)
    length = 0
    for piece in block:
        waiting += stream.compress(piece)
        if len(waiting) >= _BLOCK:
            write(waiting)
            length, waiting = length + len(waiting), b""
    waiting += stream.compress(b"\r\n\r\n") + stream.flush()
    write(waiting)
    return length + len(waiting)


def _head(kind: str, identity: str, date: str, fields: _Fields, size: int) -> bytes:
    """Return a record's header."""
    told = (("WARC-Type", kind), ("WARC-Record-ID", identity), ("WARC-Date", date), *fields)
    return b"WARC/1.1\r\n" + _lines((*told, ("Content-Length", str(size)))) + b"\r\n"


def _request_head(exchange: Exchange) -> bytes:
    """Return the head of a request, of whose fields only those are told that cannot be secret."""
    _, _, rest = exchange.url.partition("://")
    host, _, path = rest.partition("/")
    fields = (("Host", host), *(field for field in exchange.asked if field[0].lower() in _OPEN))
    return f"GET /{path} HTTP/1.1\r\n".encode() + _lines(fields) + b"\r\n"


def _response_head(exchange: Exchange, size: int | None) -> bytes:
    """Return the head of a response with a body of so many bytes, or with none where the body was dropped."""
    wrong = _OF_BODIES if size is None else frozenset({"transfer-encoding"})
    if ("content-length", str(size or 0)) not in exchange.headers:
        wrong |= {"content-length"}
    fields: Headers = tuple(
        (f"x-archive-orig-{name}" if name in wrong else name, value) for name, value in exchange.headers
    )
    if "content-length" in wrong:
        fields += (("content-length", str(size or 0)),)
    version = exchange.http_version if exchange.http_version.startswith("1.") else "1.1"
    return _lines(((f"HTTP/{version} {exchange.status:03} {exchange.reason}", None), *fields)) + b"\r\n"


def _lines(fields: Iterable[tuple[str, str | None]]) -> bytes:
    """Return header lines; whatever would end one within a value is a blank."""
    lines = (name if value is None else f"{name}: {value}" for name, value in fields)
    return b"".join(re.sub(r"[\r\n\0]", " ", line).encode("utf-8", "surrogateescape") + b"\r\n" for line in lines)


def _sha1(data: bytes) -> "HASH":
    """Return the digest that readers of WARC files expect; what is equal is found out by SHA-256."""
    return sha1(data, usedforsecurity=False)


def _named(digest: "HASH") -> str:
    return f"sha1:{b32encode(digest.digest()).decode()}"


def _identity() -> str:
    return f"<urn:uuid:{uuid4()}>"


def _divided(begun: bytes, pieces: Iterator[bytes]) -> tuple[bytes, bytes]:
    """Return all up to the next empty line, with it, and what has come behind it; ValueError if there is none."""
    while (end := begun.find(b"\r\n\r\n")) < 0:
        piece = next(pieces, None)
        if piece is None:
            raise ValueError("no empty line")
        begun += piece
    return begun[: end + 4], begun[end + 4 :]


def _inflated(file: BinaryIO, position: int) -> Iterator[tuple[bytes, int]]:
    """Yield what the gzip member that begins there holds, piece by piece, and with the last where it ends, else 0.

    Raises ValueError if it is damaged or does not end.
    """
    file.seek(position)
    stream = zlib.decompressobj(_GZIP)
    data, full = b"", False
    while True:
        if not (data or full):
            data = file.read(_BLOCK)
            if not data:
                raise ValueError("it does not end")
            position += len(data)
        try:
            piece = stream.decompress(data, _BLOCK)
        except zlib.error as error:
            raise ValueError(f"no gzip: {error}") from error
        data, full = stream.unconsumed_tail, len(piece) == _BLOCK
        if stream.eof:
            yield piece, position - len(stream.unused_data)
            return
        yield piece, 0


def _ends(file: BinaryIO) -> Iterator[int]:
    """Yield where each whole gzip member ends."""
    end = 0
    with suppress(ValueError):
        while True:
            end = max(each for _, each in _inflated(file, end))
            yield end
