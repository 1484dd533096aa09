"""What the test server answers: the options a URL can ask for, and the bytes they make. No sockets here."""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, Self
from urllib.parse import parse_qs, quote, urlencode

#: What a query option can be given as; bytes become base64, several values are given as a list.
Value = str | float | bytes | list[str]

#: The bound of what has no end, in bytes.
ENDLESS: Final = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How to answer a request. Times are seconds, sizes bytes; -1 and "" stand for: not asked for."""

    # The head.
    status: int = 200
    reason: str = ""
    status_line: str = ""  # the whole first line
    type: str = "application/octet-stream"  # blank: no Content-Type
    header: tuple[str, ...] = ()  # "Name:value"; replaces what the server would say under that name
    set_cookie: tuple[str, ...] = ()
    etag: str = ""
    last_modified: str = ""
    te: str = ""  # Transfer-Encoding as written; naming no chunks, the body ends with the connection
    # The body.
    body: str = ""  # by default the path and a newline
    size: int = -1  # that many bytes of `body_of`
    echo: bool = False  # JSON: method, target and headers as received
    endless_body: bool = False  # 64 MiB of zeros, no length: with an encoding, a bomb
    encoding: str = ""  # gzip, x-gzip, multi-gzip, deflate, raw-deflate, identity; several with commas
    encoding_cut: int = 0  # drops that many of the last encoded bytes, the framing being right
    claim_encoding: str = ""  # says so, encodes nothing
    chunked: bool = False
    no_length: bool = False  # ends with the connection
    range: bool = False  # honours Range and If-Range
    ignore_range: bool = False  # announces ranges, answers 200
    revalidate: bool = False  # answers 304 to a request that names its etag or last_modified
    # Its way.
    delay: float = 0.0  # before the head
    drip: str = ""  # "N,S": in N pieces, S seconds apart
    truncate_at: int = -1  # announces all, sends so much of the body, closes
    reset_at: int = -1  # the same, but resets the connection
    close_before_head: bool = False
    reset_before_head: bool = False
    hang: bool = False  # never answers
    endless_headers: bool = False  # 64 MiB of them
    raw: str = ""  # exactly these bytes (base64, URL-safe alphabet), then closes
    raw_hold: bool = False  # but stays open
    no_notify: bool = False  # ends the connection, of TLS without its close_notify
    # Over several requests.
    redirect_to: str = ""  # a Location, byte for byte; 302 unless `status` says else
    loop: bool = False  # redirects to itself
    hops: int = 0  # redirects to itself that many times
    fail_times: int = 0  # the first so many requests for this very target fail ...
    fail_status: int = 503  # ... with this status
    fail_as: str = ""  # ... or as these options say: "truncate_at=10"
    retry_after: str = ""  # on every answer that is not 2xx


_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_DEFAULTS: Final[dict[str, Any]] = {option.name: option.default for option in fields(Asked)}
_METHODS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": lambda data: zlib.compress(data, wbits=31),
    "x-gzip": lambda data: zlib.compress(data, wbits=31),
    "multi-gzip": lambda data: b"".join(zlib.compress(half, wbits=31) for half in _halves(data)),
    "deflate": zlib.compress,
    "raw-deflate": lambda data: zlib.compress(data, wbits=-15),
    "identity": bytes,
}


def _halves(data: bytes) -> tuple[bytes, bytes]:
    return data[: len(data) // 2], data[len(data) // 2 :]


@lru_cache(maxsize=1024)
def asked_by(query: str) -> Asked:
    """Read the options in a query; of one given twice the last counts. Raises ValueError for a bad value."""
    values = parse_qs(query, keep_blank_values=True, errors="surrogateescape")
    chosen: dict[str, Any] = {}
    for name, default in _DEFAULTS.items():
        if name not in values:
            continue
        last = values[name][-1]
        match default:
            case tuple():
                chosen[name] = tuple(values[name])
            case bool():
                chosen[name] = last == "1"
            case _:
                chosen[name] = type(default)(last)
    return Asked(**chosen)


def with_options(path: str, /, **options: Value) -> str:
    """Return ``path``, as it stands, with a query that asks for ``options``.

    Raises TypeError for an unknown option, ValueError for a bad value: a typo must not turn a test into a plain fetch.
    """
    if unknown := options.keys() - _DEFAULTS.keys():
        raise TypeError(f"the test server knows no option {', '.join(sorted(unknown))}")
    texts = {name: _texts(value) for name, value in options.items()}
    query = urlencode(texts, doseq=True, safe="/:,=", encoding="utf-8", errors="surrogateescape", quote_via=quote)
    asked_by(query)
    return path + ("&" if "?" in path else "?") * bool(query) + query


def _texts(value: Value) -> list[str]:
    match value:
        case list():
            return value
        case bytes():
            return [base64.urlsafe_b64encode(value).decode()]
        case bool():
            return [str(int(value))]
        case _:
            return [str(value)]


def body_of(path: str, size: int = -1) -> bytes:
    """Return the body served at ``path``: ``size`` bytes that look random; by default the path and a newline."""
    text = path.encode("utf-8", "surrogateescape")
    return hashlib.shake_128(text).digest(size) if size >= 0 else text + b"\n"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as received.

    ``resource`` is its path and query, also when the target is a whole URL, as a proxy gets it;
    ``time`` is on the monotonic clock, ``connection`` counts the server's connections from 1.
    """

    method: str
    target: bytes
    resource: str
    head: bytes
    time: float
    connection: int

    @classmethod
    def of(cls, head: bytes, time: float, connection: int) -> Self:
        """Read the request line of ``head``, spaces within the target included."""
        method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        target = rest.rpartition(b" ")[0]
        resource = re.sub("^https?://[^/?]*", "", target.decode("utf-8", "surrogateescape"))
        return cls(method.decode("latin-1"), target, resource, head, time, connection)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The header fields in order, names as sent."""
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    def header(self, name: str) -> str | None:
        """Return the value of the first header field of that name, in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Reply:
    """A response ready to send; ``close`` if the connection ends with it."""

    head: bytes
    content: bytes
    chunked: bool = False
    close: bool = False

    def blocks(self, cut: int, size: int) -> Iterator[bytes]:
        """Yield what goes out, at most ``size`` bytes of content at a time; ``cut`` of them in all, or -1 for all."""
        end = len(self.content) if cut < 0 else min(cut, len(self.content))
        tail = b"0\r\n\r\n" if self.chunked and cut < 0 else b""
        for start in range(0, end or 1, size):
            piece = self.content[start : min(start + size, end)]
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if self.chunked and piece else piece
            yield (self.head if start == 0 else b"") + framed + (tail if start + size >= end else b"")


def reply_to(asked: Asked, seen: Seen) -> Reply:
    """Build the answer: everything but the way it is sent."""
    content = _content(asked, seen)
    status, etag = asked.status, asked.etag
    headers: list[tuple[str, str]] = []
    if asked.range or asked.ignore_range:
        etag = etag or f'"{zlib.crc32(content):08x}"'
        status, content, headers = _part(asked, content, etag, seen)
    if asked.revalidate and asked.status == 200 and _is_known(asked, etag, seen):
        status, headers = 304, []
    location = _location(asked, seen.resource)
    if location and status == 200:
        status = 302
    if status in (204, 304) or status < 200:
        reply = Reply(b"", b"")
    else:
        chunked = asked.chunked or "chunked" in asked.te
        unbounded = asked.no_length or asked.endless_body or bool(asked.te)
        reply = Reply(b"", content, chunked, close=unbounded and not chunked)
        headers.append(("Content-Length", "" if chunked or unbounded else str(len(content))))
    headers += [
        ("Content-Type", "application/json" if asked.echo else asked.type),
        ("Content-Encoding", asked.claim_encoding or re.sub("multi-|raw-", "", asked.encoding)),
        ("Transfer-Encoding", asked.te or "chunked" * reply.chunked),
        ("Location", location),
        ("ETag", etag),
        ("Last-Modified", asked.last_modified),
        ("Retry-After", "" if 200 <= status < 300 else asked.retry_after),
        ("Connection", "close" * reply.close),
    ]
    return replace(reply, head=_head(asked, status, headers))


def _content(asked: Asked, seen: Seen) -> bytes:
    if asked.echo:
        request = {"method": seen.method, "target": seen.target.decode("latin-1"), "headers": seen.headers}
        return json.dumps(request).encode()
    if asked.endless_body:
        content = bytes(ENDLESS)
    elif asked.body:
        content = asked.body.encode("utf-8", "surrogateescape")
    else:
        content = body_of(seen.resource.partition("?")[0], asked.size)
    if asked.encoding:
        content = _encoded(content, asked.encoding)
    return content[: len(content) - asked.encoding_cut]


def _encoded(content: bytes, encoding: str) -> bytes:
    for method in encoding.split(","):
        content = _METHODS[method.strip()](content)
    return content


def _part(asked: Asked, content: bytes, etag: str, seen: Seen) -> tuple[int, bytes, list[tuple[str, str]]]:
    """Return status, content and headers of the answer to a Range request (RFC 9110 section 14)."""
    announced = [("Accept-Ranges", "bytes")]
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", seen.header("range") or "")
    unchanged = (seen.header("if-range") or etag) in (etag, asked.last_modified)
    if asked.ignore_range or asked.status != 200 or not wanted or not unchanged:
        return asked.status, content, announced
    size, first = len(content), int(wanted[1])
    if first >= size:
        return 416, b"", [*announced, ("Content-Range", f"bytes */{size}")]
    last = min(int(wanted[2] or size), size - 1)
    return 206, content[first : last + 1], [*announced, ("Content-Range", f"bytes {first}-{last}/{size}")]


def _is_known(asked: Asked, etag: str, seen: Seen) -> bool:
    """Tell whether the client has this version (RFC 9110 section 13.2.2)."""
    tag = seen.header("if-none-match")
    if tag is not None:
        return bool(etag) and tag.removeprefix("W/") == etag.removeprefix("W/")
    return bool(asked.last_modified) and seen.header("if-modified-since") == asked.last_modified


def _location(asked: Asked, resource: str) -> str:
    if asked.hops > 0:
        return re.sub(r"([?&]hops=)\d+", rf"\g<1>{asked.hops - 1}", resource)
    return resource if asked.loop else asked.redirect_to


def _head(asked: Asked, status: int, headers: list[tuple[str, str]]) -> bytes:
    own = [(name.strip(), value.strip()) for name, _, value in (text.partition(":") for text in asked.header)]
    replaced = {name.lower() for name, _ in own}
    lines = [asked.status_line or f"HTTP/1.1 {status:03} {asked.reason or _PHRASES.get(status, 'Odd')}"]
    lines += [f"{name}: {value}" for name, value in headers if value and name.lower() not in replaced]
    lines += [f"{name}: {value}" for name, value in own]
    lines += [f"Set-Cookie: {value}" for value in asked.set_cookie]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
