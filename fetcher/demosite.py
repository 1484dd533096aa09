"""L2: the built-in site on 127.0.0.1 that behaves as its URLs ask, and the list that goes through all of it."""

import asyncio
import errno
import gzip
import json
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256, shake_128
from math import inf
from pathlib import PurePosixPath
from textwrap import fill
from typing import Final, Self
from weakref import WeakSet

from aiohttp import web
from aiohttp.typedefs import Handler

from fetcher.clock import Clock, SystemClock
from fetcher.errors import ErrorKind, UsageError, http_kind

_HOST: Final = "127.0.0.1"

#: Big bodies leave in pieces of this many bytes, at this many bytes a second, so that there is something to watch.
_PIECE: Final = 256 * 1024
_PACE: Final = 18e6

#: The size of a small ``.bin`` body in bytes; a truncated one breaks off after two fifths.
_BIN: Final = 10_000

_LAST_MODIFIED: Final = "Sat, 01 Nov 2025 08:00:00 GMT"
_WORDS: Final = (
    "acorn amber basalt birch cedar coral delta dune elm ember fern fjord garnet harbor juniper kelp "
    "lichen maple nectar opal pine quartz river slate tundra umber valley willow xenon yarrow zephyr zinc"
)


@dataclass(slots=True)
class _State:
    clock: Clock
    tries: Counter[str] = field(default_factory=Counter)
    connections: WeakSet[asyncio.Task[None]] = field(default_factory=WeakSet)


_STATE: Final = web.AppKey("state", _State)


# --- content: a function of the path alone, so that every run gets the same bytes


def _noise(seed: str, size: int) -> bytes:
    return shake_128(seed.encode()).digest(size)


def _png(seed: str) -> bytes:
    """Return a picture of 16 by 16 coloured dots (PNG, third edition, section 5)."""
    rows = b"".join(b"\0" + _noise(f"{seed} {row}", 16 * 3) for row in range(16))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _content(path: str) -> tuple[str, bytes]:
    """Return media type and body of a small page: what the extension in ``path`` says, HTML if it says nothing."""
    dice = _noise(path, 512)
    vocabulary = _WORDS.split()
    words = [vocabulary[die % len(vocabulary)] for die in dice[: 64 + dice[0]]]
    rows = list(zip(words, dice[1:], dice[2:], strict=False))
    match PurePosixPath(path.partition("?")[0]).suffix:
        case ".png":
            return "image/png", _png(path)
        case ".bin":
            return "application/octet-stream", _noise(path, _BIN)
        case ".txt":
            content_type, text = "text/plain; charset=utf-8", fill(" ".join(words)) + "\n"
        case ".json":
            content_type, text = "application/json", json.dumps([{"name": word, "x": x, "y": y} for word, x, y in rows])
        case ".csv":
            content_type, text = "text/csv; charset=utf-8", "".join(f"{word},{x},{y}\r\n" for word, x, y in rows)
        case ".svg":
            dots = "".join(f'<circle cx="{x}" cy="{y}" r="3"/>' for _, x, y in rows)
            text = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 256 256">{dots}</svg>'
            content_type = "image/svg+xml"
        case _:
            text = f"<!doctype html>\n<title>{words[0]} {words[1]}</title>\n<p>{fill(' '.join(words))}</p>\n"
            content_type = "text/html; charset=utf-8"
    return content_type, text.encode()


def _headers(path: str, content_type: str) -> dict[str, str]:
    tag = sha256(path.encode()).hexdigest()[:16]
    return {"Content-Type": content_type, "ETag": f'"{tag}"', "Last-Modified": _LAST_MODIFIED}


# --- answers: what a request meets


async def _page(request: web.Request) -> web.StreamResponse:
    """A small page, whole, with its length; whoever has it already is told so."""
    content_type, body = _content(request.raw_path)
    headers = _headers(request.raw_path, content_type)
    known = request.headers.get("If-None-Match") == headers["ETag"]
    return web.Response(status=304, headers=headers) if known else web.Response(body=body, headers=headers)


async def _empty(_request: web.Request) -> web.StreamResponse:
    """A whole body of no bytes."""
    return web.Response(content_type="text/plain")


async def _status(status: int, request: web.Request) -> web.StreamResponse:
    """A status, and a line of text where one may be; 429 asks to come back after a second."""
    headers = {"Retry-After": "1"} if status == 429 else None
    return web.Response(status=status, text=None if status == 204 else f"{request.raw_path}\n", headers=headers)


async def _coded(coding: str, encode: Callable[[bytes], bytes], request: web.Request) -> web.StreamResponse:
    """A page that is said to be in ``coding``, and is what ``encode`` made of it."""
    content_type, body = _content(request.raw_path)
    headers = _headers(request.raw_path, content_type) | {"Content-Encoding": coding}
    return web.Response(body=encode(body), headers=headers)


def _gzip(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


def _cut_gzip(body: bytes) -> bytes:
    return _gzip(body)[:-40]


async def _pour(
    request: web.Request, pieces: Iterable[bytes], size: int | None = None, pace: float = inf
) -> web.StreamResponse:
    """Send the pieces at ``pace`` bytes a second; without a size they go out chunked (RFC 9112 section 7.1)."""
    clock = request.app[_STATE].clock
    response = web.StreamResponse(headers=_headers(request.raw_path, _content(request.raw_path)[0]))
    response.content_length = size
    await response.prepare(request)
    started, sent = clock.monotonic(), 0
    for piece in pieces:
        await response.write(piece)
        sent += len(piece)
        ahead = started + sent / pace - clock.monotonic()
        if ahead > 0:
            await clock.sleep(ahead)
    return response


def _cut_up(body: bytes, count: int) -> list[bytes]:
    step = -(-len(body) // count)
    return [body[at : at + step] for at in range(0, len(body), step)]


async def _chunked(request: web.Request) -> web.StreamResponse:
    """A page of unknown length, in five chunks."""
    return await _pour(request, _cut_up(_content(request.raw_path)[1], 5))


async def _drip(seconds: float, request: web.Request) -> web.StreamResponse:
    """A page that takes its time, in twenty drops."""
    body = _content(request.raw_path)[1]
    return await _pour(request, _cut_up(body, 20), len(body), len(body) / seconds)


async def _big(size: int, request: web.Request) -> web.StreamResponse:
    """A body of ``size`` bytes, never whole in memory."""
    pieces = (_noise(f"{request.raw_path} {at}", min(_PIECE, size - at)) for at in range(0, size, _PIECE))
    return await _pour(request, pieces, size, _PACE)


async def _late(seconds: float, request: web.Request) -> web.StreamResponse:
    """A page after a silence."""
    await request.app[_STATE].clock.sleep(seconds)
    return await _page(request)


async def _redirect(status: int, target: str, request: web.Request) -> web.StreamResponse:
    """A redirect to ``target``, in which ``{host}`` is this site and ``{name}`` the last part of the path asked for."""
    location = target.format(host=request.host, name=request.raw_path.rpartition("/")[2])
    return web.Response(status=status, headers={"Location": location})


async def _hops(request: web.Request) -> web.StreamResponse:
    """A redirect to the folder with one hop less, after ``/hops/1/`` to a page."""
    left = request.raw_path.split("/")[2]
    target = f"/hops/{int(left) - 1}/{{name}}" if left in ("2", "3", "4") else "/pages/{name}"
    return await _redirect(302, target, request)


async def _at_first(times: int, bad: Handler, request: web.Request) -> web.StreamResponse:
    """So many bad answers, then the page; then again from the start, so that a second run meets the same."""
    tries = request.app[_STATE].tries
    tries[request.raw_path] += 1
    if tries[request.raw_path] <= times:
        return await bad(request)
    del tries[request.raw_path]
    return await _page(request)


def _transport(request: web.Request) -> asyncio.Transport:
    """Return the connection, for what a well-behaved server would not do with it."""
    if request.transport is None:
        raise ConnectionResetError
    return request.transport


async def _truncated(request: web.Request) -> web.StreamResponse:
    """A page whose connection ends after two fifths of the announced length."""
    body = _content(request.raw_path)[1]
    response = await _pour(request, [body[: len(body) * 2 // 5]], len(body))
    _transport(request).close()
    return response


async def _until_close(request: web.Request) -> web.StreamResponse:
    """A page as HTTP/1.0 sent it: only the end of the connection is the end of the body (RFC 9112 section 6.3)."""
    content_type, body = _content(request.raw_path)
    transport = _transport(request)
    transport.write(f"HTTP/1.0 200 OK\r\nContent-Type: {content_type}\r\n\r\n".encode() + body)
    transport.close()
    raise ConnectionResetError


async def _reset(request: web.Request) -> web.StreamResponse:
    """A TCP reset instead of an answer."""
    transport = _transport(request)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    raise ConnectionResetError


# --- the table: routes, list and expectation in one


@dataclass(frozen=True, slots=True)
class _Case:
    """One behaviour: the URLs of the list that show it are ``prefix`` plus each of ``names``.

    A prefix that starts with ``/`` is on this site, where ``answer`` serves all names below it; None adds no route.
    ``error`` is the kind of failure the URLs must end in, None if they are to succeed.
    """

    title: str
    prefix: str
    names: tuple[str, ...]
    answer: Handler | None
    error: str | None = None

    def lines(self, base_url: str, closed_port: int) -> list[str]:
        start = base_url + self.prefix if self.prefix.startswith("/") else self.prefix
        return [start.replace("{closed_port}", str(closed_port)) + name for name in self.names]


def _names(count: int, *suffixes: str) -> tuple[str, ...]:
    suffixes = suffixes or (".html",)
    return tuple(f"{number:03}{suffixes[number % len(suffixes)]}" for number in range(1, count + 1))


_KINDS: Final = (".html", ".txt", ".json", ".csv", ".svg", ".png", "")
_ODD: Final = ("two%20words.txt", "gr%C3%BC%C3%9Fe.html", "%E6%97%A5%E6%9C%AC%E8%AA%9E.txt", "AC%2FDC.txt")
_QUERIES: Final = ("search?q=cedar&page=1", "search?q=cedar&page=2", "search?q=a%20b+c")
_CLOSED: Final = f"http://{_HOST}:{{closed_port}}/"

_CASES: Final = (
    _Case("Small pages of all kinds", "/pages/", _names(208, *_KINDS), _page),
    _Case("Big: 20 MB", "/big/20/", _names(2, ".bin"), partial(_big, 20_000_000)),
    _Case("Big: 40 MB", "/big/40/", _names(1, ".bin"), partial(_big, 40_000_000)),
    _Case("First byte after 1 s", "/late/", _names(3), partial(_late, 1.0)),
    _Case("A little at a time, for 2 s", "/drip/", _names(2, ".txt"), partial(_drip, 2.0)),
    _Case("Compressed with gzip", "/gzip/", _names(12, ".html", ".json", ".csv"), partial(_coded, "gzip", _gzip)),
    _Case("Compressed with deflate", "/deflate/", _names(6, ".svg", ".txt"), partial(_coded, "deflate", zlib.compress)),
    _Case("Chunked, length not known before", "/chunked/", _names(8, ".html", ".txt", ".bin"), _chunked),
    _Case("No length: ends with the connection", "/until-close/", _names(3, ".txt", ".html"), _until_close),
    _Case("Names with escapes", "/names/", _ODD, _page),
    _Case("Queries", "/queries/", _QUERIES, _page),
    _Case("Names that differ only in case", "/case/", ("Readme.txt", "readme.txt"), _page),
    _Case("Empty", "/empty/", ("nothing.txt",), _empty),
    _Case("204 No Content", "/status/204/", ("nothing",), partial(_status, 204)),
    _Case("Redirected by a path", "/moved/", _names(3), partial(_redirect, 301, "/pages/{name}")),
    _Case("Redirected by a relative path", "/relative/", _names(1), partial(_redirect, 307, "../pages/{name}")),
    _Case("Redirected by a whole URL", "/absolute/", _names(1), partial(_redirect, 308, "http://{host}/pages/{name}")),
    _Case("Redirected four times", "/hops/", ("4/001.html", "4/002.txt"), _hops),
    _Case("503 twice, then well", "/flaky/503/", _names(3), partial(_at_first, 2, partial(_status, 503))),
    _Case("429 once, then well", "/flaky/429/", _names(2), partial(_at_first, 1, partial(_status, 429))),
    _Case("Truncated once, then whole", "/flaky/cut/", _names(2, ".bin"), partial(_at_first, 1, _truncated)),
    _Case("The first URL again: a duplicate", "/pages/", _names(1, ".txt"), None),
    _Case("Not found", "/status/404/", _names(15), partial(_status, 404), http_kind(404)),
    _Case("Gone", "/status/410/", _names(3), partial(_status, 410), http_kind(410)),
    _Case("Forbidden", "/status/403/", _names(2), partial(_status, 403), http_kind(403)),
    _Case("Redirected to itself", "/loop/", _names(1), partial(_redirect, 302, "{name}"), ErrorKind.REDIRECT_LIMIT),
    _Case("Said to be gzip, is not", "/bad-gzip/", _names(1), partial(_coded, "gzip", bytes), ErrorKind.DECODE),
    _Case("Not a URL", "example.com/", ("no-scheme",), None, ErrorKind.INVALID_URL),
    _Case("Another scheme", "ftp://example.com/", ("file.txt",), None, ErrorKind.UNSUPPORTED_SCHEME),
    # Transient kinds are tried again and again: each of these holds the demo up for seconds, so they stay few.
    _Case("Always 500", "/status/500/", _names(1), partial(_status, 500), http_kind(500)),
    _Case("Always truncated", "/cut/", _names(1, ".bin"), _truncated, ErrorKind.TRUNCATED),
    _Case("gzip without its end", "/cut-gzip/", _names(1), partial(_coded, "gzip", _cut_gzip), ErrorKind.TRUNCATED),
    _Case("Reset before the first byte", "/reset/", _names(1), _reset, ErrorKind.CONNECT_CLOSED),
    _Case("Nobody listens", _CLOSED, _names(1), None, ErrorKind.CONNECT_REFUSED),
)


def demo_lines(base_url: str, closed_port: int) -> list[str]:
    """Return the lines of the demo's list: URLs grouped under comments that say what they are, failing ones last."""
    lines = [
        "# One URL a line; a line that starts with # is a comment, blank lines are fine.",
        "# The last groups are meant to fail; their comments say how.",
        "",
    ]
    for case in _CASES:
        lines.append(f"# {case.title}: fails with {case.error}" if case.error else f"# {case.title}")
        lines += case.lines(base_url, closed_port)
    return lines


def expected(base_url: str, closed_port: int) -> dict[str, str | None]:
    """Return for each line of :func:`demo_lines` that asks for a fetch its kind of error, None if it ends well."""
    return {line: case.error for case in _CASES for line in case.lines(base_url, closed_port)}


class DemoSite:
    """The site, up while the context lasts: on 127.0.0.1 only, without a log. ``GET /`` is the demo's list itself.

    ``port`` 0 takes a free one; ``port`` says which. ``closed_port`` refuses connections for as long.
    Entering raises UsageError if the port cannot be had. Leaving cuts off whoever is still being served.
    """

    def __init__(self, port: int = 0, clock: Clock | None = None) -> None:
        self.port = port
        self.closed_port = 0
        self._state = _State(clock or SystemClock())
        self._open = AsyncExitStack()

    @property
    def base_url(self) -> str:
        """The site's address, without a slash at the end."""
        return f"http://{_HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            # Bound but not listening: refuses, and nobody else can be given this port meanwhile.
            closed = stack.enter_context(socket.socket())
            closed.bind((_HOST, 0))
            self.closed_port = closed.getsockname()[1]
            runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await self._listen(runner)
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._open.aclose()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[_outermost])
        app[_STATE] = self._state
        app.router.add_get("/", self._list)
        for case in _CASES:
            if case.answer is not None:
                app.router.add_get(case.prefix + "{name:.+}", case.answer)
        app.on_shutdown.append(_cut_off)
        return app

    async def _listen(self, runner: web.AppRunner) -> None:
        site = web.TCPSite(runner, _HOST, self.port)
        try:
            await site.start()
        except (OSError, OverflowError) as error:
            why = "is in use" if getattr(error, "errno", 0) == errno.EADDRINUSE else "cannot be had"
            raise UsageError(f"port {self.port} {why}; choose another one, or 0 for any that is free") from error
        self.port = site.port

    async def _list(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text="\n".join([*demo_lines(self.base_url, self.closed_port), ""]))


@web.middleware
async def _outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
    request.app[_STATE].connections.add(request.task)
    try:
        return await handler(request)
    except ConnectionError:
        return web.Response()  # the client has left; the server would log it as our fault


async def _cut_off(app: web.Application) -> None:
    """End all connections now; the server by itself would wait for their answers, and then not for their end."""
    connections = list(app[_STATE].connections)
    for task in connections:
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)
