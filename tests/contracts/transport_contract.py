"""What every transport must keep of what is sent and received; a test class per transport inherits it."""

import asyncio
import sys
import zlib

import pytest

from fetcher.errors import ErrorKind, FetchError
from fetcher.transport.base import Hop, Transport
from tests.answers import Value
from tests.contracts.exchange import MEGABYTE, WithTransport, failure, get, listening
from tests.fakes import until
from tests.server import Scope

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

#: Transfer codings that no request asks for, and the one of them that is odd.
CODINGS = {
    "gzip": "gzip",
    "chunked, gzip": "gzip",
    "gzip, chunked": "gzip",
    "chunked, x": "x",
    "chunked, chunked": "chunked, chunked",
    "identity": "identity",
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
    **{f"coding {coding}": ({"te": coding}, ErrorKind.PROTOCOL, "transfer coding ") for coding in CODINGS},
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


class TransportContract(WithTransport):
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

    async def test_closed_early(self, transport: Transport, server: Scope) -> None:
        """A response can be dropped before its end, and before its context's; others are not touched."""
        async with transport.send(Hop(server.url("long", endless_body=1), ())) as response:
            assert await response.read()
            response.close()
            await until(lambda: not server.active_now("long"))
            assert (await get(transport, server.url("b", body="x"))).body == b"x"

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

    @pytest.mark.parametrize(("coding", "odd"), CODINGS.items())
    async def test_transfer_coding(self, transport: Transport, server: Scope, coding: str, odd: str) -> None:
        """A transfer coding that was not asked for is named, alone or with those beside it."""
        _, words = await failure(transport, server.url(te=coding))
        assert words in {f"transfer coding {named} was not asked for" for named in (coding, odd)}

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
            assert await response.read() == b"good"
            good_is_read.set()
            with pytest.raises(FetchError, match=f"^the answer of {server} is not HTTP") as caught:
                await response.read()
        assert caught.value.kind == ErrorKind.PROTOCOL
