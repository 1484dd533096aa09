"""What every transport must keep of its connections: reaching, trusting, leaving; a test class inherits it."""

import asyncio
import socket
import time
from pathlib import Path

import pytest

from fetcher.errors import ErrorKind, UsageError
from fetcher.options import Timeouts
from fetcher.options import Tls as Trust
from fetcher.transport.base import Hop, Transport
from tests.answers import Value
from tests.certificates import Certificates
from tests.conftest import Tls
from tests.contracts.exchange import MEGABYTE, Make, WithTransport, failure, forward, get, listening, tunnel, until
from tests.contracts.source_contract import open_descriptors
from tests.server import Scope


class ConnectionContract(WithTransport):
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

    @pytest.mark.parametrize("kind", ["apart", "together"])
    async def test_certificate(self, make: Make, certificates: Certificates, kind: str) -> None:
        """The user's certificate is shown to the URL's own origin only, over connections of its own."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.readuntil(b"\r\n\r\n"):
                body = b"known" if writer.get_extra_info("peercert") else b"alien"
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)

        cert, key, password = certificates.both, None, None
        if kind == "apart":
            cert, key, password = certificates.client, certificates.client_key, certificates.client_password
        trust = Trust(ca_file=certificates.ca_file, cert=cert, key=key, key_password=password)
        async with listening(talk, certificates.optional) as server, make(trust=trust) as transport:
            shown = [
                (await get(transport, f"https://{server}/", own_origin=own)).body
                for own in (True, False, True, False, False, True)
            ]
        assert shown == [b"known", b"alien", b"known", b"alien", b"alien", b"known"]

    async def test_certificate_that_is_none(self, make: Make, certificates: Certificates, tmp_path: Path) -> None:
        """What cannot be shown is refused when the transport is entered, and nobody is asked for a password."""
        client, key, other = certificates.client, certificates.client_key, certificates.ca_file
        for trust, message in (
            (Trust(cert=client, key=key), f"the key in {key} is encrypted: say --key-password @FILE"),
            (Trust(cert=client, key=key, key_password="x"), f"the password does not open the key in {key}"),
            (Trust(cert=client, key=key, key_password=""), f"the password does not open the key in {key}"),
            (Trust(cert=client), f"no certificate (PEM) in {client}, or no private key in {client}"),
            (Trust(cert=other, key=certificates.both), f"the key in {certificates.both} is not that of the"),
            (Trust(cert=tmp_path / "none"), f"{tmp_path / 'none'}: No such file or directory"),
        ):
            with pytest.raises(UsageError) as caught:
                async with make(trust=trust):
                    pass
            assert str(caught.value).startswith(message)

    async def test_trust_by_default(self, transport: Transport, tls: Tls) -> None:
        """Without a file of certificates the system's count, which know nothing of ours."""
        assert (await failure(transport, tls.good.url()))[0] == ErrorKind.TLS_VERIFY

    async def test_tls_to_a_plain_port(self, transport: Transport, server: Scope) -> None:
        """A server that does not speak TLS is said not to."""
        kind, words = await failure(transport, server.url().replace("http:", "https:"))
        assert kind == ErrorKind.TLS_HANDSHAKE
        assert words.startswith(f"{server.host} does not speak TLS")

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(b"\x15\x03\x01\x00\x02\x02\x46", id="alert"),
            pytest.param(
                b"\x16\x03\x01\x00\x2a\x02\x00\x00\x26\x03\x01" + bytes(32) + b"\x00\x00\x2f\x00", id="server hello"
            ),
        ],
    )
    async def test_old_tls(self, transport: Transport, answer: bytes) -> None:
        """A server that knows no TLS after 1.0 is refused, whether it says so or chooses that (RFC 8996)."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10_000)
            writer.write(answer)
            await reader.read()

        async with listening(talk) as server:
            kind, words = await failure(transport, f"https://{server}/")
        assert kind == ErrorKind.TLS_HANDSHAKE
        assert words.startswith(f"{server} does not speak TLS")

    async def test_close_amid_the_handshake(self, transport: Transport) -> None:
        """A server that leaves while TLS begins has closed."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)

        async with listening(talk) as server:
            kind, words = await failure(transport, f"https://{server}/")
        assert kind in (ErrorKind.CONNECT_CLOSED, ErrorKind.TLS_HANDSHAKE)
        assert words.startswith(server)

    async def test_tls_too_old(self, transport: Transport) -> None:
        """A server that only speaks what TLS 1.2 has replaced, and says so, is not spoken to."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)
            writer.write(b"\x15\x03\x01\x00\x02\x02\x46")  # the fatal alert protocol_version
            await reader.read()

        async with listening(talk) as server:
            kind, words = await failure(transport, f"https://{server}/")
        assert kind == ErrorKind.TLS_HANDSHAKE
        assert words == f"{server} does not speak TLS with us: tlsv1 alert protocol version"

    @pytest.mark.parametrize(
        ("options", "doubts"),
        [
            ({"size": 10}, ()),
            ({"size": 10, "chunked": 1}, ()),
            ({"size": 10, "no_notify": 1}, ()),
            ({"size": 10, "chunked": 1, "no_notify": 1}, ()),
            ({"status": 204, "no_notify": 1}, ()),
            ({"size": 0, "no_length": 1}, ("length_unknown",)),
            ({"size": 10, "no_length": 1}, ("length_unknown",)),
            ({"size": 60_000, "no_length": 1}, ("length_unknown",)),
            ({"size": 0, "no_length": 1, "no_notify": 1}, ("length_unknown", "tls_cut")),
            ({"size": 10, "no_length": 1, "no_notify": 1}, ("length_unknown", "tls_cut")),
            ({"size": 60_000, "no_length": 1, "no_notify": 1}, ("length_unknown", "tls_cut")),
        ],
    )
    async def test_doubts(
        self, make: Make, tls: Tls, ca_file: Path, options: dict[str, Value], doubts: tuple[str, ...]
    ) -> None:
        """Of a body that only the connection ended it is told, and whether TLS confirmed that end."""
        size = int(str(options.get("size", 0)))
        async with make(trust=Trust(ca_file=ca_file)) as transport:
            got = await get(transport, tls.good.url("a", **options))
            assert (got.body, got.doubts) == (tls.good.body_of("a", size), doubts)
            plain = {name: value for name, value in options.items() if name != "no_notify"}
            over_tcp = await get(
                transport, tls.good.server.base + tls.good.url("a", **plain).removeprefix(tls.good.base)
            )
            assert over_tcp.doubts == doubts[:1]

    @pytest.mark.parametrize("ending", [{}, {"no_notify": 1}])
    async def test_tls_body_cut(self, make: Make, tls: Tls, ca_file: Path, ending: dict[str, Value]) -> None:
        """A body cut short is found out over TLS too, however the connection ends."""
        async with make(trust=Trust(ca_file=ca_file)) as transport:
            assert await failure(transport, tls.good.url(size=10, truncate_at=4, **ending)) == (
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

    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_proxy_over_tls(
        self, make: Make, tls: Tls, server: Scope, certificates: Certificates, scheme: str
    ) -> None:
        """A proxy can be spoken to over TLS; it has to have the right certificate, and is not shown the user's."""
        trust = Trust(ca_file=certificates.ca_file, cert=certificates.both)
        aim, shown = tls.good if scheme == "https" else server, []

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            shown.append(bool(writer.get_extra_info("peercert")))
            if scheme == "https":
                await tunnel(reader, writer)
            else:
                await forward(reader, writer)

        async with (
            listening(talk, certificates.optional) as proxy,
            make(trust=trust, proxy=f"https://me:secret@{proxy}") as transport,
        ):
            assert (await get(transport, aim.url("a"), own_origin=True)).body == aim.body_of("a")
        assert shown == [False]

    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_proxy_with_a_wrong_certificate(self, make: Make, tls: Tls, scheme: str) -> None:
        """A proxy that nobody vouches for is the proxy's failure, and gets nothing."""
        async with make(proxy=tls.good.base.replace("//", "//me:secret@")) as transport:
            kind, words = await failure(transport, f"{scheme}://elsewhere.invalid/")
        assert kind == ErrorKind.PROXY
        assert words.startswith(f"certificate of proxy https://***@{tls.good.host}: ")
        async with make(trust=Trust(verify=False), proxy=tls.wrong_host.base) as transport:
            assert (await get(transport, f"http://elsewhere.invalid{tls.wrong_host.path('a')}")).status == 200
        assert len(tls.good.requests()) == 1

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
            for _ in range(read):
                assert await response.read()
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
