"""What every transport must keep of SOCKS proxies; a test class per transport inherits it."""

import asyncio
from pathlib import Path

import pytest

from fetcher.errors import ErrorKind
from fetcher.options import Timeouts
from fetcher.options import Tls as Trust
from fetcher.transport.base import Hop
from tests.conftest import Tls
from tests.contracts.exchange import Make, WithTransport, failure, get, listening, until
from tests.contracts.source_contract import open_descriptors
from tests.server import Scope
from tests.socks import serving_socks

ADDRESSES = {"127.0.0.1", "::1"}
SCHEMES = {"socks4": {"127.0.0.1"}, "socks4a": {"localhost"}, "socks5": ADDRESSES, "SOCKS5H": {"localhost"}}


class SocksContract(WithTransport):
    @pytest.mark.parametrize("scheme", SCHEMES)
    async def test_socks(self, make: Make, tls: Tls, server: Scope, ca_file: Path, scheme: str) -> None:
        """A SOCKS proxy carries plain and secure requests; the name is looked up here, or with an h or a by the proxy."""
        async with serving_socks() as proxy:
            url = f"{scheme}://me:se%20cret@{proxy.base}"
            async with make(trust=Trust(ca_file=ca_file), proxy=url) as transport:
                plain = await get(transport, server.url("a/../%2f").replace("127.0.0.1", "localhost"))
                secure = await get(transport, tls.good.url("b").replace("127.0.0.1", "localhost"))
            assert (plain.body, secure.body) == (server.body_of("a/../%2f"), tls.good.body_of("b"))
            assert (plain.remote_ip, secure.remote_ip) == ("127.0.0.1", "127.0.0.1")
            assert len(proxy.asked) == 2
            assert SCHEMES[scheme].issuperset(host for host, _ in proxy.asked)
            assert proxy.logins == [(b"me", b"" if "4" in scheme else b"se cret")] * 2
        assert [seen.target for seen in server.requests()] == [server.path(name).encode() for name in ("a/../%2f", "b")]

    async def test_socks_without_login(self, make: Make, server: Scope) -> None:
        """Without a user no login is offered; a connection by the proxy is kept and used again."""
        async with serving_socks() as proxy, make(proxy=f"socks5h://{proxy.base}") as transport:
            for name in ("a", "b"):
                assert (await get(transport, server.url(name))).body == server.body_of(name)
            assert (proxy.asked, proxy.logins) == ([("127.0.0.1", int(server.host.partition(":")[2]))], [])

    @pytest.mark.parametrize("scheme", ["socks4", "socks4a", "socks5", "socks5h"])
    async def test_socks_that_fails(self, make: Make, closed_port: int, scheme: str) -> None:
        """A SOCKS proxy that refuses, is not there or has no address is named, without its password."""
        async with serving_socks() as server:
            server.reply = 5
            for there in (server.base, f"127.0.0.1:{closed_port}", "proxy.invalid:1"):
                async with make(proxy=f"{scheme}://me:secret@{there}") as transport:
                    kind, words = await failure(transport, "http://127.0.0.1:1/")
                assert (kind, words.startswith(f"proxy {scheme}://***@{there}")) == (ErrorKind.PROXY, True), words

    @pytest.mark.parametrize("login", ["", "me:wrong@"])
    async def test_socks_login(self, make: Make, server: Scope, login: str) -> None:
        """A proxy that wants another login, or one at all, carries nothing, and no word of it is told."""
        async with serving_socks() as proxy, make(proxy=f"socks5h://{login}{proxy.base}") as transport:
            proxy.login = (b"me", b"secret")
            kind, words = await failure(transport, server.url())
            assert kind == ErrorKind.PROXY
            assert words.startswith(f"proxy socks5h://{login and '***@'}{proxy.base}")
            assert "wrong" not in words
            assert proxy.asked == []
            proxy.login = None
            assert (await get(transport, server.url("a"))).body == server.body_of("a")

    @pytest.mark.parametrize("piece", [1, 2, 3])
    async def test_socks_that_leaves(self, make: Make, server: Scope, piece: int) -> None:
        """A proxy that leaves anywhere in its greeting is the one that failed; nothing stays open."""
        async with serving_socks() as proxy, make(proxy=f"socks5h://me:secret@{proxy.base}") as transport:
            proxy.leaves = piece
            before = open_descriptors()
            kind, words = await failure(transport, server.url())
            assert (kind, words.startswith(f"proxy socks5h://***@{proxy.base}")) == (ErrorKind.PROXY, True), words
            await until(lambda: open_descriptors() <= before)
        assert server.requests() == []

    @pytest.mark.parametrize("scheme", ["socks4", "socks5h"])
    @pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05\x07" + bytes(8)])
    async def test_no_socks(self, make: Make, scheme: str, answer: bytes) -> None:
        """What does not speak SOCKS is said to be the one that failed."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(3)
            writer.write(answer)
            await reader.read()

        async with listening(talk) as proxy, make(proxy=f"{scheme}://{proxy}") as transport:
            kind, words = await failure(transport, "http://127.0.0.1:1/")
        assert (kind, words.startswith(f"proxy {scheme}://{proxy}")) == (ErrorKind.PROXY, True), words

    @pytest.mark.parametrize("piece", [1, 2, 3])
    async def test_socks_that_hangs(self, make: Make, server: Scope, piece: int) -> None:
        """The greeting belongs to connecting, and its time is bounded; nothing stays open."""
        brief = Timeouts(connect=0.2)
        async with serving_socks() as proxy, make(timeouts=brief, proxy=f"socks5://me:pw@{proxy.base}") as transport:
            proxy.hangs = piece
            before = open_descriptors()
            assert (await failure(transport, server.url()))[0] == ErrorKind.TIMEOUT_CONNECT
            await until(lambda: open_descriptors() <= before)
        assert server.requests() == []

    async def test_socks_cancelled(self, make: Make, server: Scope) -> None:
        """A request that is cancelled amid the greeting ends at once and leaves nothing open."""
        async with serving_socks() as proxy, make(proxy=f"socks5://{proxy.base}") as transport:
            proxy.hangs = 2
            before = open_descriptors()
            task = asyncio.create_task(get(transport, server.url()))
            await until(lambda: len(proxy.asked) == 1)
            task.cancel()
            await asyncio.wait({task}, timeout=1)
            assert task.cancelled()
            await until(lambda: open_descriptors() <= before)

    @pytest.mark.parametrize(
        ("options", "kind"),
        [
            ({"size": 10_000, "truncate_at": 4_000}, ErrorKind.TRUNCATED),
            ({"close_before_head": 1}, ErrorKind.CONNECT_CLOSED),
            ({"hang": 1}, ErrorKind.TIMEOUT_READ),
        ],
    )
    async def test_failures_behind_socks(
        self, make: Make, server: Scope, options: dict[str, int], kind: ErrorKind
    ) -> None:
        """Once the proxy has connected, failures are the server's."""
        brief = Timeouts(read=0.2)
        async with serving_socks() as proxy, make(timeouts=brief, proxy=f"socks5://{proxy.base}") as transport:
            assert (await failure(transport, server.url(**options)))[0] == kind

    async def test_trust_behind_socks(self, make: Make, tls: Tls, ca_file: Path) -> None:
        """A certificate is judged by the server's name, whoever leads there."""
        async with serving_socks() as proxy:
            trust = Trust(ca_file=ca_file)
            async with make(trust=trust, proxy=f"socks5h://{proxy.base}") as transport:
                assert (await failure(transport, tls.wrong_host.url()))[0] == ErrorKind.TLS_VERIFY

    async def test_no_address_behind_socks(self, make: Make) -> None:
        """A name that is looked up here and has no address is the server's failure, not the proxy's."""
        async with serving_socks() as proxy, make(proxy=f"socks5://{proxy.base}") as transport:
            assert await failure(transport, "http://nowhere.invalid/") == ("dns", "no address for nowhere.invalid")
            assert proxy.asked == []

    async def test_no_such_address_in_socks4(self, make: Make) -> None:
        """SOCKS 4 has no addresses of IPv6."""
        async with serving_socks() as proxy, make(proxy=f"socks4://{proxy.base}") as transport:
            kind, words = await failure(transport, "http://[::1]:1/")
            assert (kind, words.startswith(f"proxy socks4://{proxy.base}")) == (ErrorKind.PROXY, True), words

    async def test_left_by_socks(self, make: Make, server: Scope) -> None:
        """Leaving a body early drops the proxy's connection with it."""
        async with serving_socks() as proxy, make(proxy=f"socks5://{proxy.base}") as transport:
            async with transport.send(Hop(server.url(endless_body=1), ())) as response:
                assert await response.read()
            await until(lambda: server.active_now() == 0)
