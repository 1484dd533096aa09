"""What every transport must keep; a test class per transport inherits it and gives ``make``."""

import asyncio
import re
import socket
import sys
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from fetcher.errors import ErrorKind, FetchError
from fetcher.model import Headers, Timings
from fetcher.options import Timeouts
from fetcher.options import Tls as Trust
from fetcher.text import printable
from fetcher.transport.base import Hop, Transport
from tests.answers import Value
from tests.conftest import Tls
from tests.contracts.source_contract import open_descriptors
from tests.server import Scope

MEGABYTE = 2**20
#: What no person should have to read: names of classes, numbers of the system, the insides of objects.
JARGON = re.compile(r"Error|Exception|errno|aiohttp|curl|0x|\bNone\b|[<>{}]", re.IGNORECASE)


class Make(Protocol):
    """Makes a transport that is not open yet; without a ``proxy`` it goes directly, whatever the environment says."""

    def __call__(
        self, *, timeouts: Timeouts | None = None, trust: Trust | None = None, proxy: str = ""
    ) -> Transport: ...


@dataclass(frozen=True, slots=True)
class Got:
    """A whole response."""

    status: int
    reason: str
    headers: Headers
    http_version: str
    remote_ip: str | None
    length: int | None
    ends_with_connection: bool
    timings: Timings | None
    body: bytes


async def get(transport: Transport, url: str, headers: Headers = ()) -> Got:
    """Send one request and read all of its response."""
    async with transport.send(Hop(url, headers)) as response:
        body = b"".join([chunk async for chunk in response.chunks()])
        return Got(
            status=response.status,
            reason=response.reason,
            headers=response.headers,
            http_version=response.http_version,
            remote_ip=response.remote_ip,
            length=response.length,
            ends_with_connection=response.ends_with_connection,
            timings=response.timings(),
            body=body,
        )


async def failure(transport: Transport, url: str) -> tuple[str, str]:
    """Return kind and message of the failure of a request, which must be fit for people's eyes."""
    with pytest.raises(FetchError) as caught:
        await get(transport, url)
    message = caught.value.message
    assert len(message) <= 300
    assert printable(message) == message
    assert not JARGON.search(message)
    assert message[0] == message[0].lower()
    return caught.value.kind, message


async def until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds; TimeoutError after five seconds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  the server is another thread
            await asyncio.sleep(0.002)


@asynccontextmanager
async def listening(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Serve every connection by ``talk``, in this event loop, and yield ``127.0.0.1:PORT``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            await talk(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield "{}:{}".format(*server.sockets[0].getsockname()[:2])
        await until(lambda: len(asyncio.all_tasks()) == 1)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes until it ends."""
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()


async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a proxy that connects its client to any port of this machine."""
    request = await reader.readuntil(b"\r\n\r\n")
    port = int(request.split()[1].rpartition(b":")[2])
    onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await asyncio.gather(pump(reader, onward_writer), pump(onward_reader, writer))


TARGETS = {
    "dots": "a/./b/../../c/..",
    "escapes": "%2f%2F%7E~%41%c3%a9",
    "plus": "a+b?c+d=%20+",
    "pipe": "a%7Cb?c=%7C",
    "empty query": "a?",
    "question marks": "a??b?",
    "slashes": "//a//",
    "query": "a?url=http://x/;y,:@&=$!*'()/?#".removesuffix("#"),
    "stray percent": "100%?x=%zz%",
    "brackets": "a[1]?b[]=2",
    "long": "a" * 30_000 + "?" + "b" * 30_000,
}

#: The server's options, and the failure they make.
FAILURES: dict[str, tuple[dict[str, Value], str, str]] = {
    "closed": ({"close_before_head": 1}, ErrorKind.CONNECT_CLOSED, "{host} closed without answering"),
    "reset": ({"reset_before_head": 1}, ErrorKind.CONNECT_CLOSED, "{host} closed without answering"),
    "cut": ({"size": 10_000, "truncate_at": 4_000}, ErrorKind.TRUNCATED, "4,000 of 10,000 bytes, then closed"),
    "cut at once": ({"size": 10, "truncate_at": 0}, ErrorKind.TRUNCATED, "0 of 10 bytes, then closed"),
    "reset within": ({"size": 10, "reset_at": 4}, ErrorKind.TRUNCATED, "4 of 10 bytes, then reset"),
    "reset in large": ({"size": 3 * MEGABYTE, "reset_at": MEGABYTE}, ErrorKind.TRUNCATED, "1,048,576 of 3,145,728"),
    "reset without length": ({"size": 10, "no_length": 1, "reset_at": 4}, ErrorKind.TRUNCATED, "4 bytes without"),
    "reset for an end": ({"size": 10, "no_length": 1, "reset_at": 10}, ErrorKind.TRUNCATED, "10 bytes without"),
    "reset at once": ({"size": 10, "no_length": 1, "reset_at": 0}, ErrorKind.TRUNCATED, "0 bytes without"),
    "cut chunks": ({"size": 10, "chunked": 1, "truncate_at": 4}, ErrorKind.TRUNCATED, "4 bytes without an end"),
    "no last chunk": ({"size": 10, "chunked": 1, "truncate_at": 10}, ErrorKind.TRUNCATED, "10 bytes without an end"),
    "reset chunks": ({"size": 10, "chunked": 1, "reset_at": 4}, ErrorKind.TRUNCATED, "4 bytes without an end"),
    **{
        f"coding {coding}": ({"te": coding}, ErrorKind.PROTOCOL, f"transfer coding {coding}")
        for coding in ("gzip", "chunked, gzip", "gzip, chunked", "chunked, x", "chunked, chunked", "identity")
    },
    **{
        f"raw {name}": ({"raw": data}, ErrorKind.PROTOCOL, "the answer of {host} is not HTTP")
        for name, data in {
            "garbage": b"\x00\xff<junk>" * 25_000,
            "version 0.9": b"<html>hello</html>",
            "other protocol": b"SSH-2.0-x\r\n",
            "two-digit status": b"HTTP/1.1 99 OK\r\n\r\n",
            "null in a field": b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
            "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\na",
            "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "bad chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab",
            "bad chunk end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n",
        }.items()
    },
    "endless fields": ({"endless_headers": 1}, ErrorKind.PROTOCOL, "the answer of {host} is not HTTP"),
}


class TransportContract:
    @pytest.fixture
    def make(self) -> Make:
        """Return a function that makes a transport."""
        raise NotImplementedError

    @pytest.fixture
    def no_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No name has an address, and nobody is asked; for a transport with another resolver to override."""

        def look_up(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    @pytest.fixture
    async def transport(self, make: Make) -> AsyncIterator[Transport]:
        """An open transport."""
        async with make() as transport:
            yield transport

    @pytest.fixture
    def full_port(self) -> Iterator[int]:
        """A port that lets clients wait for ever: nobody accepts them, and the queue is full."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            waiting = [socket.socket()]
            with suppress(TimeoutError):
                while True:
                    waiting[-1].settimeout(0.2)
                    waiting[-1].connect(listener.getsockname())
                    waiting.append(socket.socket())
            yield listener.getsockname()[1]
            for client in waiting:
                client.close()

    @pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
    async def test_target(self, transport: Transport, server: Scope, target: str) -> None:
        """The server gets the path and query as they stand in the URL, byte for byte."""
        assert (await get(transport, server.url() + target)).status == 200
        assert [seen.target for seen in server.requests()] == [(server.prefix + target).encode()]

    @pytest.mark.parametrize("suffix", ["", "?a=b"])
    async def test_target_of_a_bare_host(self, transport: Transport, server: Scope, suffix: str) -> None:
        """Dots and escapes directly behind the host are not touched either."""
        await get(transport, server.base + server.prefix.removesuffix("/") + "/../%2e." + suffix)
        assert [seen.target for seen in server.requests()] == [f"{server.prefix}../%2e.{suffix}".encode()]

    async def test_header_fields(self, transport: Transport, server: Scope) -> None:
        """Header fields go out as given, in order, and nothing is added but Host."""
        fields = (
            ("User-Agent", "me/1"),
            ("X-Odd-CASE", "a  b"),
            ("accept-encoding", "gzip"),
            ("X-B", "1"),
            ("X-B", "2"),
        )
        await get(transport, server.url("some"), fields)
        await get(transport, server.url("none"))
        some, none = server.requests()
        assert sorted(some.headers) == sorted([("Host", server.host), *fields])
        assert [value for name, value in some.headers if name == "X-B"] == ["1", "2"]
        assert none.headers == [("Host", server.host)]
        assert some.method == "GET"

    async def test_reuse(self, transport: Transport, server: Scope) -> None:
        """Connections are kept for the next request, whatever the status was."""
        for options in ({"status": 404}, {"chunked": 1}, {"size": 0}, {"status": 204}, {"size": MEGABYTE}):
            await get(transport, server.url(**options))
        assert len({seen.connection for seen in server.requests()}) == 1

    async def test_kept_connection_that_died(self, transport: Transport) -> None:
        """A kept connection that the server has closed meanwhile costs no request."""

        async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")

        async with listening(answer_once) as server:
            assert [(await get(transport, f"http://{server}/")).body for _ in range(3)] == [b"a"] * 3

    async def test_redirect(self, transport: Transport, server: Scope) -> None:
        """A redirect is a response like any other."""
        got = await get(transport, server.url(redirect_to="/elsewhere", body="x"))
        assert (got.status, got.body, dict(got.headers)["location"]) == (302, b"x", "/elsewhere")
        assert len(server.requests()) == 1

    async def test_cookies(self, transport: Transport, server: Scope) -> None:
        """Cookies are told, not kept."""
        got = await get(transport, server.url(set_cookie=["a=1; Path=/", "b=2"]))
        assert [value for name, value in got.headers if name == "set-cookie"] == ["a=1; Path=/", "b=2"]
        await get(transport, server.url())
        assert [seen.header("cookie") for seen in server.requests()] == [None, None]

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    async def test_raw_body(self, transport: Transport, server: Scope, coding: str) -> None:
        """A coded body comes as it is sent."""
        got = await get(transport, server.url("a", encoding=coding, size=100_000))
        assert zlib.decompress(got.body, wbits=47) == server.body_of("a", 100_000)
        assert got.length == len(got.body)

    @pytest.mark.parametrize(
        ("options", "length", "ends_with_connection"),
        [
            ({"size": 0}, 0, False),
            ({"size": 1}, 1, False),
            ({"size": 3 * MEGABYTE}, 3 * MEGABYTE, False),
            ({"size": 5, "chunked": 1}, None, False),
            ({"size": 3 * MEGABYTE, "chunked": 1}, None, False),
            ({"size": 5, "chunked": 1, "header": "Transfer-Encoding: Chunked"}, None, False),
            ({"size": 5, "no_length": 1}, None, True),
            ({"size": 3 * MEGABYTE, "no_length": 1}, None, True),
            ({"size": 0, "no_length": 1}, None, True),
        ],
    )
    async def test_framing(
        self,
        transport: Transport,
        server: Scope,
        options: dict[str, Value],
        length: int | None,
        ends_with_connection: bool,
    ) -> None:
        """Every way to say where a body ends is understood and told."""
        got = await get(transport, server.url("a", **options))
        assert got.body == server.body_of("a", int(str(options["size"])))
        assert (got.length, got.ends_with_connection) == (length, ends_with_connection)

    @pytest.mark.parametrize("status", [204, 304])
    async def test_no_body(self, transport: Transport, server: Scope, status: int) -> None:
        """These statuses have no body and do not wait for the end of the connection."""
        got = await get(transport, server.url(status=status))
        assert (got.status, got.body, got.ends_with_connection) == (status, b"", False)

    async def test_head(self, transport: Transport, server: Scope) -> None:
        """The head is told as it came, but for names in lower case; the address too, though the body is tiny."""
        head = b"HTTP/1.0 299 Not  So Bad\r\nX-Two: 1\r\nx-two:  2 \r\nContent-Length: 2\r\nX-Utf: \xc3\xa9\r\nX-Latin: \xe9\r\n\r\n"
        got = await get(transport, server.url(raw=head + b"ab"))
        assert (got.status, got.reason, got.http_version) == (299, "Not  So Bad", "1.0")
        assert got.headers[:3] == (("x-two", "1"), ("x-two", "2"), ("content-length", "2"))
        assert got.headers[3:] == (("x-utf", "\xe9"), ("x-latin", "\xe9"))
        assert (got.remote_ip, got.length, got.body) == ("127.0.0.1", 2, b"ab")

    async def test_short_head(self, transport: Transport, server: Scope) -> None:
        """A head can be as short as its status line; interim responses before it are passed over."""
        got = await get(transport, server.url(raw=b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\n\r\nab"))
        assert (got.status, got.reason, got.headers, got.http_version, got.body) == (200, "", (), "1.1", b"ab")

    @pytest.mark.skipif(sys.flags.dev_mode, reason="the parser is strict in Python's development mode")
    @pytest.mark.parametrize("fields", [b"X: a\nContent-Length: 2\n", b"X: a\r\n b\r\nContent-Length: 2\r\n"])
    async def test_old_ways(self, transport: Transport, server: Scope, fields: bytes) -> None:
        """Bare line feeds and folded lines, which some servers still send, are understood."""
        end = fields.rpartition(b"2")[2]
        assert (await get(transport, server.url(raw=b"HTTP/1.1 200 OK" + end + fields + end + b"ab"))).body == b"ab"

    async def test_large_heads(self, transport: Transport, server: Scope) -> None:
        """A field of 100 kB and 2,000 fields are taken, as browsers do."""
        long = await get(transport, server.url(raw=b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\nab" % (b"x" * 100_000)))
        assert (len(dict(long.headers)["x"]), long.body) == (100_000, b"ab")
        many = await get(transport, server.url(raw=b"HTTP/1.1 200 OK\r\n%b\r\nab" % (b"X: y\r\n" * 2_000)))
        assert (many.headers, many.body) == ((("x", "y"),) * 2_000, b"ab")

    @pytest.mark.parametrize(("options", "kind", "message"), FAILURES.values(), ids=FAILURES)
    async def test_failure(
        self, transport: Transport, server: Scope, options: dict[str, Value], kind: str, message: str
    ) -> None:
        """Every way to fail has its kind and its words, and spoils nothing for the next request."""
        found, words = await failure(transport, server.url("a", **options))
        assert found == kind
        assert words.startswith(message.format(host=server.host))
        assert (await get(transport, server.url("b"))).body == server.body_of("b")

    async def test_chunks_that_break_later(self, transport: Transport) -> None:
        """Bad chunks are found out also when good ones have been read before."""
        good_is_read = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n")
            await good_is_read.wait()
            writer.write(b"zz\r\nbad")
            await reader.read()

        async with listening(talk) as server, transport.send(Hop(f"http://{server}/", ())) as response:
            chunks = response.chunks()
            assert await anext(chunks) == b"good"
            good_is_read.set()
            with pytest.raises(FetchError, match=f"^the answer of {server} is not HTTP") as caught:
                await anext(chunks)
        assert caught.value.kind == ErrorKind.PROTOCOL

    async def test_refused(self, transport: Transport, closed_port: int) -> None:
        """Nobody listens."""
        host = f"127.0.0.1:{closed_port}"
        assert await failure(transport, f"http://{host}/") == ("connect.refused", f"{host} refused the connection")

    async def test_no_address(self, transport: Transport, no_address: None) -> None:
        """A name without an address is named."""
        assert await failure(transport, "http://no.such.invalid/") == ("dns", "no address for no.such.invalid")

    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_connect_timeout(self, make: Make, full_port: int, scheme: str) -> None:
        """A connection that is not accepted in time is given up."""
        async with make(timeouts=Timeouts(connect=0.2)) as transport:
            words = f"127.0.0.1:{full_port} did not accept a connection within 0.2 s"
            assert await failure(transport, f"{scheme}://127.0.0.1:{full_port}/") == ("timeout.connect", words)

    async def test_handshake_timeout(self, make: Make) -> None:
        """A handshake belongs to connecting."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            host = f"127.0.0.1:{silent.getsockname()[1]}"
            async with make(timeouts=Timeouts(connect=0.2)) as transport:
                kind, words = await failure(transport, f"https://{host}/")
        assert kind == ErrorKind.TIMEOUT_CONNECT
        assert words.startswith(host)

    @pytest.mark.parametrize(
        ("options", "after"),
        [
            ({"hang": 1}, "0 B"),
            ({"drip": "2,60", "size": 10}, "5 B of 10 B"),
            ({"drip": "2,60", "size": 10, "no_length": 1}, "5 B"),
        ],
    )
    async def test_read_timeout(self, make: Make, server: Scope, options: dict[str, Value], after: str) -> None:
        """A server that falls silent is given up, and the message tells how far it had come."""
        async with make(timeouts=Timeouts(read=0.2)) as transport:
            words = f"no byte for 0.2 s after {after}"
            assert await failure(transport, server.url(**options)) == ("timeout.read", words)

    async def test_slow_but_steady(self, make: Make, server: Scope) -> None:
        """The read timeout starts anew with every byte."""
        async with make(timeouts=Timeouts(read=0.5)) as transport:
            began = time.monotonic()
            assert (await get(transport, server.url("a", drip="5,0.15", size=100))).body == server.body_of("a", 100)
            assert time.monotonic() - began > 0.5

    @pytest.mark.parametrize("name", ["good", "expired", "wrong_host", "self_signed"])
    async def test_trust(self, make: Make, tls: Tls, ca_file: Path, name: str) -> None:
        """Only the right certificate is taken, unless anyone is; a bad one sees no request."""
        scope: Scope = getattr(tls, name)
        async with make(trust=Trust(verify=False)) as credulous:
            assert (await get(credulous, scope.url("a"))).body == scope.body_of("a")
        async with make(trust=Trust(ca_file=ca_file)) as transport:
            if name == "good":
                got = await get(transport, scope.url("a", size=MEGABYTE))
                assert (got.body, got.remote_ip) == (scope.body_of("a", MEGABYTE), "127.0.0.1")
                return
            kind, words = await failure(transport, scope.url("b"))
            assert kind == ErrorKind.TLS_VERIFY
            assert words.startswith("certificate of 127.0.0.1: ")
            assert not scope.requests("b")

    async def test_trust_by_default(self, transport: Transport, tls: Tls) -> None:
        """Without a file of certificates the system's count, which know nothing of ours."""
        assert (await failure(transport, tls.good.url()))[0] == ErrorKind.TLS_VERIFY

    async def test_tls_to_a_plain_port(self, transport: Transport, server: Scope) -> None:
        """A server that does not speak TLS is said not to."""
        kind, words = await failure(transport, server.url().replace("http:", "https:"))
        assert kind == ErrorKind.TLS_HANDSHAKE
        assert words.startswith(f"{server.host} does not speak TLS")

    async def test_close_amid_the_handshake(self, transport: Transport) -> None:
        """A server that leaves while TLS begins has closed."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)

        async with listening(talk) as server:
            kind, words = await failure(transport, f"https://{server}/")
        assert kind in (ErrorKind.CONNECT_CLOSED, ErrorKind.TLS_HANDSHAKE)
        assert words.startswith(server)

    async def test_tls_body_cut(self, make: Make, tls: Tls, ca_file: Path) -> None:
        """A body cut short is found out over TLS too."""
        async with make(trust=Trust(ca_file=ca_file)) as transport:
            assert await failure(transport, tls.good.url(size=10, truncate_at=4)) == (
                "truncated",
                "4 of 10 bytes, then closed",
            )

    async def test_proxy(self, make: Make, server: Scope) -> None:
        """A plain request goes to the proxy as a whole URL, byte for byte; the proxy looks the name up."""
        url = f"http://elsewhere.invalid:81{server.prefix}a/../%2f?"
        async with make(proxy=server.base.replace("//", "//me:se%20cret@")) as transport:
            assert (await get(transport, url, (("X-A", "b"),))).status == 200
        (seen,) = server.requests()
        assert seen.target == url.encode()
        assert (seen.header("host"), seen.header("x-a")) == ("elsewhere.invalid:81", "b")
        assert seen.header("proxy-authorization") == "Basic bWU6c2UgY3JldA=="

    async def test_tunnel(self, make: Make, tls: Tls, ca_file: Path) -> None:
        """A secure request goes through a tunnel, whose end must have the right certificate."""
        async with listening(tunnel) as proxy, make(trust=Trust(ca_file=ca_file), proxy=f"http://{proxy}") as transport:
            assert (await get(transport, tls.good.url("a"))).body == tls.good.body_of("a")
            assert (await failure(transport, tls.wrong_host.url()))[0] == ErrorKind.TLS_VERIFY
        (seen,) = tls.good.requests()
        assert seen.target == tls.good.path("a").encode()

    async def test_proxy_that_says_no(self, make: Make) -> None:
        """A proxy that refuses the tunnel is named, without its password."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

        async with listening(talk) as proxy, make(proxy=f"http://me:secret@{proxy}") as transport:
            said = await failure(transport, "https://elsewhere.invalid/")
        assert said == ("proxy", f"proxy http://***@{proxy} said 407")

    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_refused_proxy(self, make: Make, closed_port: int, scheme: str) -> None:
        """A proxy that is not there is named, not the server."""
        async with make(proxy=f"http://me:secret@127.0.0.1:{closed_port}") as transport:
            kind, words = await failure(transport, f"{scheme}://elsewhere.invalid/")
        assert kind == ErrorKind.PROXY
        assert words.startswith(f"proxy http://***@127.0.0.1:{closed_port}: ")

    async def test_proxy_without_address(self, make: Make, no_address: None) -> None:
        """A proxy whose name has no address is the proxy's failure."""
        async with make(proxy="http://proxy.invalid:3128") as transport:
            kind, words = await failure(transport, "http://elsewhere.invalid/")
        assert kind == ErrorKind.PROXY
        assert words.startswith("proxy http://proxy.invalid:3128")

    @pytest.mark.parametrize("read", [0, 1])
    async def test_leave_early(self, transport: Transport, server: Scope, read: int) -> None:
        """Leaving before the body's end drops the connection at once, and the next request takes a new one."""
        async with transport.send(Hop(server.url(endless_body=1), ())) as response:
            chunks = response.chunks()
            for _ in range(read):
                assert await anext(chunks)
        await until(lambda: server.active_now() == 0)
        assert (await get(transport, server.url("b"))).body == server.body_of("b")
        first, second = server.requests()
        assert first.connection != second.connection

    async def test_leave_by_an_error(self, transport: Transport, server: Scope) -> None:
        """The connection is dropped also when an error ends the context, which it passes on."""
        with pytest.raises(ZeroDivisionError):
            async with transport.send(Hop(server.url(drip="2,60", size=10), ())):
                raise ZeroDivisionError
        await until(lambda: server.active_now() == 0)

    @pytest.mark.parametrize("options", [{"hang": 1}, {"drip": "2,60", "size": 10}])
    async def test_cancel(self, transport: Transport, server: Scope, options: dict[str, Value]) -> None:
        """A request that is cancelled while it waits ends at once and drops its connection."""
        task = asyncio.create_task(get(transport, server.url(**options)))
        await until(lambda: server.active_now() == 1)
        task.cancel()
        await asyncio.wait({task}, timeout=1)
        assert task.cancelled()
        await until(lambda: server.active_now() == 0)

    async def test_cancel_while_connecting(self, make: Make, full_port: int) -> None:
        """A connection that is cancelled before it stands leaves nothing open."""
        async with make() as transport:
            before = open_descriptors()
            task = asyncio.create_task(get(transport, f"http://127.0.0.1:{full_port}/"))
            await until(lambda: not open_descriptors() <= before)
            task.cancel()
            await asyncio.wait({task}, timeout=1)
            assert task.cancelled()
            await until(lambda: open_descriptors() <= before)

    async def test_cancel_anywhere(self, make: Make, tls: Tls, ca_file: Path) -> None:
        """A request cancelled at any step of its way ends, and no connection stays open after the transport's end."""
        before = open_descriptors()
        async with make(trust=Trust(ca_file=ca_file)) as transport:
            for steps in range(0, 60, 3):
                task = asyncio.create_task(get(transport, tls.good.url(size=MEGABYTE)))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait({task}, timeout=1)
                assert task.done()
            assert (await get(transport, tls.good.url("a"))).body == tls.good.body_of("a")
        await until(lambda: open_descriptors() <= before)

    async def test_many_at_once(self, transport: Transport, server: Scope) -> None:
        """A hundred requests share a transport, and each gets its own answer."""
        got = await asyncio.gather(*(get(transport, server.url(f"a{n}", size=n * 1000)) for n in range(100)))
        assert [each.body for each in got] == [server.body_of(f"a{n}", n * 1000) for n in range(100)]

    async def test_close(self, make: Make, server: Scope) -> None:
        """Nothing stays open behind a closed transport, kept connections included."""
        before = open_descriptors()
        async with make() as transport:
            await asyncio.gather(*(get(transport, server.url(delay=0.05)) for _ in range(5)))
        await until(lambda: open_descriptors() <= before)
