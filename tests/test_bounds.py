"""What a server may send beside bodies is bounded, and a body is never taken for it."""

import asyncio
import resource
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest

from fetcher.clock import SystemClock
from fetcher.errors import ErrorKind, FetchError
from fetcher.options import Carrier, Options, Timeouts, Tls
from fetcher.transport.base import ANYWHERE, Hop, Transport
from fetcher.transport.proxies import Proxies
from fetcher.wiring import maker
from tests.contracts.exchange import MEGABYTE, get, listening, until

#: What a refused server may have sent: the bound, and the buffers of both sides.
MOST = 16 * MEGABYTE
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
#: How an answer begins, and what goes on for ever.
FLOODS: dict[str, tuple[bytes, Callable[[int], bytes]]] = {
    "large fields": (OK, lambda number: b"X-%d: %b\r\n" % (number, b"x" * 200_000)),
    "small fields": (OK, lambda number: b"X-%d: y\r\n" % number * 1000),
    "cookies": (OK, lambda number: b"Set-Cookie: a%d=b\r\n" % number * 1000),
    "one field": (OK + b"X: ", lambda _: b"x" * 65_536),
    "one name": (OK, lambda _: b"x" * 65_536),
    "blanks": (OK + b"X:", lambda _: b" " * 65_536),
    "one line": (b"HTTP/1.1 200 ", lambda _: b"x" * 65_536),
    "empty lines": (b"", lambda _: b"\r\n" * 32_768),
    "interim responses": (b"", lambda _: b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "large interim responses": (b"", lambda _: b"HTTP/1.1 103 Early\r\nX: %b\r\n\r\n" % (b"x" * 200_000)),
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\n", lambda number: b"X-%d: %b\r\n" % (number, b"x" * 200_000)),
    "one trailer": (CHUNKED + b"1\r\na\r\n0\r\nX: ", lambda _: b"x" * 65_536),
    "chunk extensions": (CHUNKED + b"1;", lambda _: b"x" * 65_536),
    "chunk size": (CHUNKED, lambda _: b"0" * 65_536),
}


@pytest.fixture(params=Carrier)
def carrier(request: pytest.FixtureRequest) -> Carrier:
    """Each kind of transport."""
    if request.param is Carrier.CURL:
        pytest.importorskip("pycurl", reason="pycurl, the extra `curl`, is not installed")
    return Carrier(request.param)


@pytest.fixture
def transport(carrier: Carrier) -> Transport:
    """A transport, to be opened, that waits for nothing long."""
    return made(carrier, read=5)


def made(carrier: Carrier, *, read: float) -> Transport:
    """Make a transport that is not open yet."""
    return maker(Options(transport=carrier))(
        Timeouts(connect=5, read=read), Tls(), Proxies(""), SystemClock(), ANYWHERE
    )


def peak() -> int:
    """Return the most memory that this process has used, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize(
    ("carrier", "begin", "flood"),
    [
        pytest.param(carrier, *flood, id=f"{carrier}-{name}")
        for carrier in Carrier
        for name, flood in FLOODS.items()
        # libcurl passes over these as they come, keeps nothing of them and says nothing; see below how they end.
        if (carrier, name) != (Carrier.CURL, "chunk extensions")
    ],
    indirect=["carrier"],
)
async def test_flood(transport: Transport, begin: bytes, flood: Callable[[int], bytes]) -> None:
    """What has no end is refused after a few megabytes, which memory holds at most a few times."""
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begin)
        for number in range(10_000):
            writer.write(piece := flood(number))
            await writer.drain()
            sent += len(piece)

    before = peak()
    async with listening(talk) as server, transport:
        async with asyncio.timeout(10):
            with pytest.raises(FetchError) as caught:
                await get(transport, f"http://{server}/")
    assert caught.value.kind == ErrorKind.PROTOCOL
    assert sent < MOST
    assert peak() - before < 4 * MOST


async def test_extensions_without_an_end() -> None:
    """Chunk extensions that libcurl would read for ever are no body: their server counts as silent, and memory rests."""
    pytest.importorskip("pycurl", reason="pycurl, the extra `curl`, is not installed")
    begin, flood = FLOODS["chunk extensions"]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begin)
        while True:
            writer.write(flood(0))
            await writer.drain()

    before = peak()
    async with listening(talk) as server, made(Carrier.CURL, read=0.5) as transport, asyncio.timeout(10):
        with pytest.raises(FetchError) as caught:
            await get(transport, f"http://{server}/")
    assert caught.value.kind == ErrorKind.TIMEOUT_READ
    assert peak() - before < MOST


def field(size: int) -> bytes:
    """Return a header line of ``size`` bytes."""
    return b"X: " + b"x" * (size - 5) + b"\r\n"


@pytest.mark.parametrize(
    ("carrier", "fields", "count"),
    [
        (Carrier.SESSION, field(256 * 1024), 1),
        (Carrier.SESSION, field(250_000) * 7, 7),
        # libcurl's own bounds are 100 KiB a line and 300 KiB a head, interim ones included.
        (Carrier.CURL, field(100_000), 1),
        (Carrier.CURL, field(90_000) * 3, 3),
        *((carrier, b"X: y\r\n" * 3_900, 3_900) for carrier in Carrier),
        *((carrier, b"Set-Cookie: a=b\r\n" * 3_900, 3_900) for carrier in Carrier),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else str(value),
    indirect=["carrier"],
)
async def test_large_but_fine(transport: Transport, fields: bytes, count: int) -> None:
    """Heads as large as browsers take are taken, interim ones and trailers too."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 50)
            writer.write(OK + fields + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX: y\r\n\r\n")

    async with listening(talk) as server, transport:
        for _ in range(3):
            got = await get(transport, f"http://{server}/")
            assert (len(got.headers), got.body) == (count + 1, b"ab")


@pytest.mark.parametrize("chunk", [1, 7, 100_000])
async def test_large_body_read_slowly(transport: Transport, chunk: int) -> None:
    """A body that is read haltingly stops its sender, and none of it counts as anything else, on a kept connection too."""
    count = 3 * MEGABYTE // (chunk + 8)
    piece = b"%x\r\n%b\r\n" % (chunk, b"b" * chunk)
    written = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(CHUNKED)
            at_once = max(1, 65_536 // len(piece))
            for start in range(0, count, at_once):
                data = piece * min(at_once, count - start)
                writer.write(data)
                await writer.drain()
                written += len(data)
            writer.write(b"0\r\n\r\n")

    async with listening(talk) as server, transport:
        for _ in range(2):
            async with transport.send(Hop(f"http://{server}/", ())) as response:
                before = -1
                while before != written:
                    before = written
                    await asyncio.sleep(0.1)  # the sender is stopped by nobody's reading
                received = 0
                while data := await response.read():
                    received += len(data)
                assert received == count * chunk


async def test_second_answer(transport: Transport) -> None:
    """A second answer in the packet of the first changes nothing, and answers no later request."""
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        answer = OK + b"Content-Length: 1\r\n\r\n"
        writer.write(answer + b"a" + answer + b"b")
        await reader.read()

    async with listening(talk) as server, transport:
        for _ in range(3):
            assert (await get(transport, f"http://{server}/")).body == b"a"
    assert connections == 3


async def test_answers_to_nothing(transport: Transport) -> None:
    """A kept connection that goes on talking is dropped, however little it says at a time; no request gets its words."""
    answered, gone = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        answer = OK + b"Content-Length: 1\r\n\r\n"
        writer.write(answer + b"a")
        await answered.wait()
        writer.write(answer + b"b")
        with suppress(ConnectionResetError):
            more = await reader.read()
            assert more == b""
        gone.set()

    async with listening(talk) as server, transport:
        assert (await get(transport, f"http://{server}/")).body == b"a"
        answered.set()
        await until(gone.is_set)
        assert (await get(transport, f"http://{server}/")).body == b"a"


@pytest.mark.parametrize("last", [b"", OK + b"Content-Length: 1\r\n\r\nb"])
async def test_many_kept_connections_that_end(transport: Transport, last: bytes) -> None:
    """However many kept connections end at once, quietly or not, the next request costs one attempt."""
    together, ending = asyncio.Barrier(20), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if not ending.is_set():
            await together.wait()
        writer.write(OK + b"Content-Length: 1\r\n\r\na")
        await ending.wait()
        writer.write(last)

    async with listening(talk) as server, transport:
        await asyncio.gather(*(get(transport, f"http://{server}/") for _ in range(20)))
        ending.set()
        await asyncio.sleep(0.05)
        assert (await get(transport, f"http://{server}/")).body == b"a"
