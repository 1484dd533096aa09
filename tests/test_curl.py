"""Requests over libcurl."""

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from fetcher.clock import SystemClock
from fetcher.errors import ErrorKind, FetchError, UsageError, is_transient
from fetcher.options import Timeouts
from fetcher.options import Tls as Trust
from fetcher.transport import curl_transfer
from fetcher.transport.base import Hop, Reach
from fetcher.transport.curl import CurlTransport
from fetcher.transport.proxies import Proxies
from tests.conftest import Tls
from tests.contracts.connection_contract import ConnectionContract
from tests.contracts.exchange import MEGABYTE, Make, failure, get, listening, until
from tests.contracts.socks_contract import SocksContract
from tests.contracts.transport_contract import TransportContract
from tests.http2 import serving_http2
from tests.server import Scope

pytest.importorskip("pycurl", reason="pycurl, the extra `curl`, is not installed")


@pytest.fixture(autouse=True)
def _quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """An exception within a callback is lost but for what pycurl prints of it."""
    yield
    assert capfd.readouterr().err == ""


class TestCurl(TransportContract, ConnectionContract, SocksContract):
    @pytest.fixture
    def make(self) -> Make:
        """Transports over libcurl."""

        def make(*, timeouts: Timeouts | None = None, trust: Trust | None = None, proxy: str = "") -> CurlTransport:
            return CurlTransport(timeouts or Timeouts(), trust or Trust(), Proxies(proxy), SystemClock())

        return make

    @pytest.fixture
    def no_address(self) -> None:
        """The system is asked by libcurl itself itself, and knows that no name ends in ``.invalid`` (RFC 6761)."""


def transport(*, trust: Trust | None = None, timeouts: Timeouts | None = None, block: bool = False) -> CurlTransport:
    """Make a transport that goes directly."""
    reach = Reach(block_private=block)
    return CurlTransport(timeouts or Timeouts(connect=5), trust or Trust(), Proxies(""), SystemClock(), reach)


@pytest.fixture
def http2_tls(tmp_path: Path) -> tuple[ssl.SSLContext, Trust]:
    """A server's context, which will offer HTTP/2, and how to trust it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return context, Trust(ca_file=tmp_path / "ca.pem")


async def test_http2(http2_tls: tuple[ssl.SSLContext, Trust]) -> None:
    """Where TLS agrees on HTTP/2, requests share a connection at the same time, each with its own answer."""
    context, trust = http2_tls
    async with serving_http2(context) as server, transport(trust=trust) as client:
        await get(client, f"{server.base}/")
        server.wanted = 20
        headers = (("User-Agent", "me/1"), ("X-Empty", ""))
        got = await asyncio.gather(*(get(client, f"{server.base}/%2f{n}?", headers) for n in range(20)))
        assert [each.body for each in got] == [b"/%%2f%d?" % n for n in range(20)]
        assert {(each.status, each.http_version, each.ends_with_connection) for each in got} == {(200, "2", False)}
        assert got[0].headers[1:] == (("x-odd", "a"),)
        assert (server.connections, len(server.seen)) == (1, 21)
        assert server.seen[1].keys() == {b":method", b":path", b":scheme", b":authority", b"user-agent", b"x-empty"}
        await client.__aexit__()
        await client.__aenter__()


async def test_http2_streams_end_alone(http2_tls: tuple[ssl.SSLContext, Trust]) -> None:
    """A stream that is reset, or left, is cut short; the others on its connection go on."""
    context, trust = http2_tls
    async with serving_http2(context) as server:
        async with transport(trust=trust, timeouts=Timeouts(read=0.3)) as client:
            assert await failure(client, f"{server.base}/cut") == ("truncated", "4 of 10 bytes, then closed")
            async with client.send(Hop(f"{server.base}/silent", ())) as left:
                assert await left.read() == b"abcd"
                assert (await get(client, f"{server.base}/a")).body == b"/a"
            words = "no byte for 0.3 s after 4 B of 10 B"
            assert await failure(client, f"{server.base}/silent") == ("timeout.read", words)
            assert (await get(client, f"{server.base}/b")).body == b"/b"
        assert server.connections == 1


async def test_http2_refused_stream(http2_tls: tuple[ssl.SSLContext, Trust]) -> None:
    """A stream that the server refuses before it has done anything is asked for again at once (RFC 9113 section 8.7)."""
    context, trust = http2_tls
    async with serving_http2(context) as server, transport(trust=trust) as client:
        assert (await get(client, f"{server.base}/refused")).body == b"/refused"
        assert (server.refused, len(server.seen)) == (1, 2)


async def test_http2_stream_without_an_answer(http2_tls: tuple[ssl.SSLContext, Trust]) -> None:
    """A stream that breaks before its head is a failure worth another attempt; its connection goes on."""
    context, trust = http2_tls
    async with serving_http2(context) as server, transport(trust=trust) as client:
        kind, words = await failure(client, f"{server.base}/reset")
        assert (kind, words.endswith(" closed without answering")) == ("connect.closed", True)
        assert is_transient(ErrorKind(kind))
        assert (await get(client, f"{server.base}/a")).body == b"/a"
        assert server.connections == 1


async def test_http2_connection_that_goes(http2_tls: tuple[ssl.SSLContext, Trust]) -> None:
    """What a server leaves unanswered when it says goodbye is asked for again elsewhere; what it answers counts."""
    context, trust = http2_tls
    async with serving_http2(context) as server, transport(trust=trust) as client:
        await get(client, f"{server.base}/first")
        server.wanted, server.last = 20, 21
        asked = [asyncio.create_task(get(client, f"{server.base}/{n}")) for n in range(20)]
        await until(lambda: len(server.seen) >= 21)
        server.wanted = 1
        got = await asyncio.gather(*asked)
        assert [each.body for each in got] == [b"/%d" % n for n in range(20)]
        assert len(server.seen) == 1 + 20 + 10


async def test_http2_server_that_speaks_unasked(http2_tls: tuple[ssl.SSLContext, Trust]) -> None:
    """A kept connection of HTTP/2 may say what it likes: it is no answer, and the connection is used again."""
    context, trust = http2_tls
    async with serving_http2(context) as server, transport(trust=trust) as client:
        for _ in range(3):
            assert (await get(client, f"{server.base}/a")).body == b"/a"
            server.ping()
            await asyncio.sleep(0.02)
        assert server.connections == 1


@pytest.mark.parametrize("platform", ["linux", "darwin"])
async def test_any_selector(server: Scope, monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """Kept, paused and closed connections come and go on a system without epoll too."""
    monkeypatch.setattr(sys, "platform", platform)
    async with transport() as client:
        for options in ({"size": 1}, {"size": 3 * MEGABYTE}, {"size": 1, "no_length": 1}, {"size": 1}):
            for name in ("a", "b"):
                assert (await get(client, server.url(name, **options))).body == server.body_of(name, options["size"])


async def test_claimed_version(server: Scope) -> None:
    """An answer that calls itself HTTP/2, on a connection that does not speak it, is none."""
    async with transport() as client:
        kind, _ = await failure(client, server.url(raw=b"HTTP/2 200\r\nContent-Length: 1\r\n\r\na"))
    assert kind == ErrorKind.PROTOCOL


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Le", ErrorKind.CONNECT_CLOSED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", ErrorKind.CONNECT_CLOSED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nab", ErrorKind.TRUNCATED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nab", ErrorKind.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nab", ErrorKind.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", ErrorKind.PROTOCOL),
    ],
)
async def test_what_libcurl_calls_whole(server: Scope, raw: bytes, kind: str) -> None:
    """Answers that libcurl takes for whole, though they are not, fail."""
    async with transport() as client:
        assert (await failure(client, server.url(raw=raw)))[0] == kind


async def test_unread_body() -> None:
    """A body that nobody reads stops its sender; what waits in memory is bounded, and all of it comes in the end."""
    size, sent = 64 * MEGABYTE, 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(bytes(65_536))
            await writer.drain()
            sent += 65_536

    async with listening(talk) as server:
        async with transport(timeouts=Timeouts(read=0.2)) as client, client.send(Hop(f"http://{server}/", ())) as got:
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.3)  # longer than a server may be silent: this one only waits for us
            assert sent < 16 * MEGABYTE
            received = largest = 0
            while data := await got.read():
                received += len(data)
                largest = max(largest, len(data))
        assert received == size
        assert largest <= MEGABYTE


LITERALS = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]"]


@pytest.mark.parametrize("host", [*LITERALS, "localhost", "0x7f.1"])
async def test_blocked(server: Scope, host: str) -> None:
    """However this machine is written, nothing is sent to it; host and address are named."""
    async with transport(block=True) as client:
        with pytest.raises(FetchError) as caught:
            await get(client, server.url().replace("127.0.0.1", host))
    kind, words = caught.value.kind, caught.value.message
    assert kind == ErrorKind.BLOCKED_ADDRESS
    assert words.startswith(f"{host} is not" if host in LITERALS else f"{host} resolves to ")
    assert words.endswith(" is not public; --block-private is on")
    assert not server.requests()


async def test_blocked_second_hop(server: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect from a public address to another is checked as well, though a connection is kept."""
    monkeypatch.setattr(curl_transfer, "is_public", lambda address: address == "127.0.0.1")
    elsewhere = server.url("b").replace("127.0.0.1", "127.0.0.2")
    async with transport(block=True) as client:
        assert (await get(client, server.url("a", redirect_to=elsewhere))).status == 302
        kind, words = await failure(client, elsewhere)
    assert (kind, words) == ("blocked_address", "127.0.0.2 is not public; --block-private is on")
    assert not server.requests("b")


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0177.0.0.1", "0", "127.0.0.1."])
@pytest.mark.parametrize("block", [True, False])
async def test_short_addresses(server: Scope, host: str, *, block: bool) -> None:
    """An address of fewer numbers, of octal ones or with one dot more, is an invalid one, blocked or not."""
    async with transport(block=block) as client:
        assert (await failure(client, server.url().replace("127.0.0.1", host)))[0] == ErrorKind.INVALID_URL
    assert not server.requests()


async def test_timings(tls: Tls, ca_file: Path) -> None:
    """The phases of a new connection and of a kept one; the wait is where the delay is."""
    async with transport(trust=Trust(ca_file=ca_file)) as client:
        first, again = [(await get(client, tls.good.url(delay=0.1))).timings for _ in range(2)]
    assert first is not None
    assert again is not None
    assert (first.dns, again.dns, again.connect, again.tls) == (None, None, None, None)
    assert min(first.connect or 0, first.tls or 0) > 0
    assert min(first.wait or 0, again.wait or 0) >= 0.1


async def test_left_before_its_requests(server: Scope) -> None:
    """Requests that outlive their transport fail, each in words; nothing hangs."""
    async with transport() as client:
        tasks = [asyncio.create_task(get(client, server.url(hang=1))) for _ in range(3)]
        await until(lambda: server.active_now() == 3)
    async with asyncio.timeout(2):
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [each.kind for each in ends if isinstance(each, FetchError)] == [ErrorKind.CANCELLED] * 3


async def test_not_open() -> None:
    """A transport outside its context is a bug, and says so."""
    with pytest.raises(RuntimeError, match="not open"):
        await get(transport(), "http://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "no such file or directory"), (b"no certificate", "no certificate")]
)
async def test_bad_ca_file(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """A file of certificates that has none is said before anything is fetched."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=f"^no certificates in {path}: {reason}"):
        await transport(trust=Trust(ca_file=path)).__aenter__()


def test_without_pycurl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the command to install it is told."""
    monkeypatch.setitem(sys.modules, "pycurl", None)
    with pytest.raises(UsageError, match=r"^--transport curl needs pycurl: pip install 'fetcher\[curl\]'$"):
        transport()


def test_light_start() -> None:
    """Neither aiohttp nor, before it is needed, pycurl is imported: they cost more than a small run."""
    program = "import sys, fetcher.transport.curl; print(sys.modules.keys() & {'aiohttp', 'pycurl'})"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    assert ran.stdout == "set()\n"
