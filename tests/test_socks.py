"""SOCKS proxies over the session, and in the command."""

import asyncio
import hashlib
import socket
from pathlib import Path

import pytest

from fetcher.clock import SystemClock
from fetcher.errors import ErrorKind, FetchError
from fetcher.options import Timeouts, Tls
from fetcher.text import printable
from fetcher.transport.base import Reach
from fetcher.transport.proxies import Proxies
from fetcher.transport.session import SessionTransport
from fetcher.transport.socks import SocksProxy
from tests.command import Command
from tests.conftest import Tls as TlsServers
from tests.contracts.exchange import failure, get, listening
from tests.server import Scope
from tests.socks import serving_socks


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("socks5://h", SocksProxy("h", 1080, 5, False, "", "")),
        ("SOCKS5H://h:1", SocksProxy("h", 1, 5, True, "", "")),
        ("socks4://me@h:1", SocksProxy("h", 1, 4, False, "me", "")),
        ("socks4a://me:pw@h:1/", SocksProxy("h", 1, 4, True, "me", "pw")),
        ("socks5://m%40e:p%3Aw@[::1]:9", SocksProxy("::1", 9, 5, False, "m@e", "p:w")),
    ],
)
def test_parse(url: str, proxy: SocksProxy) -> None:
    """Scheme, place and login of a proxy's URL; the port of old is 1080."""
    assert SocksProxy.parse(url) == proxy


@pytest.mark.parametrize(
    "url",
    [
        *("socks5://", "socks5://:1080", "socks5://h:0x1", "socks5://h:99999", "socks5://[h:1"),
        *("socks5://secret@h", "socks5://:secret@h", "socks5://me:secr%C3%A9t@h", "socks4://secr\xe9t@h"),
        f"socks5://me:secret{'t' * 250}@h",
    ],
)
def test_unusable(url: str) -> None:
    """What cannot be a proxy, or cannot be told to one, is said without the password."""
    with pytest.raises(FetchError, match=r"^proxy socks\d://") as caught:
        SocksProxy.parse(url)
    assert caught.value.kind == ErrorKind.PROXY
    assert "secr" not in caught.value.message
    assert printable(caught.value.message) == caught.value.message


def test_repr() -> None:
    """Who shows the proxy shows no login."""
    assert "secret" not in repr(SocksProxy.parse("socks5://secret:secret@h"))


async def test_timings(tls: TlsServers, ca_file: Path) -> None:
    """The greeting belongs to connecting; the look-up and TLS are phases of their own."""
    trust = Tls(ca_file=ca_file)
    async with serving_socks() as proxy:
        proxies = Proxies(f"socks5://{proxy.base}")
        async with SessionTransport(Timeouts(), trust, proxies, SystemClock()) as transport:
            url = tls.good.url().replace("127.0.0.1", "localhost")
            first, again = [(await get(transport, url)).timings for _ in range(2)]
    assert first is not None
    assert again is not None
    assert min(first.dns or 0, first.connect or 0, first.tls or 0, first.wait or 0) > 0
    assert (again.dns, again.connect, again.tls) == (None, None, None)


async def test_room(server: Scope) -> None:
    """Connections by a proxy count among those that may be open, and a kept one makes room for another host's."""
    async with serving_socks() as proxy:
        proxies, reach = Proxies(f"socks5h://{proxy.base}"), Reach(connections=1)
        async with SessionTransport(Timeouts(), Tls(), proxies, SystemClock(), reach) as transport:
            for host in ("a.example", "b.example", "a.example"):
                assert (await get(transport, server.url().replace("127.0.0.1", host))).status == 200
        assert [host for host, _ in proxy.asked] == ["a.example", "b.example", "a.example"]


async def test_next_address(server: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that the proxy does not reach makes way for the next one of the name."""

    def look_up(_: str, port: int, *__: object, **___: object) -> list[object]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, (address, port)) for address in ("192.0.2.1", "127.0.0.1")]

    async with serving_socks() as proxy:
        proxy.not_reached = "192.0.2.1"
        transport = SessionTransport(Timeouts(), Tls(), Proxies(f"socks5://{proxy.base}"), SystemClock())
        async with transport:
            monkeypatch.setattr(socket, "getaddrinfo", look_up)
            assert (await get(transport, server.url().replace("127.0.0.1", "a.example"))).status == 200
            monkeypatch.undo()
        assert [host for host, _ in proxy.asked] == ["192.0.2.1", "127.0.0.1"]


async def test_odd_name() -> None:
    """A proxy that says it is somewhere that is no text makes no sense."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(3)
        writer.write(b"\5\0" + b"\5\0\0\3\1\xff\0\0")
        await reader.read()

    async with listening(talk) as proxy:
        transport = SessionTransport(Timeouts(), Tls(), Proxies(f"socks5h://{proxy}"), SystemClock())
        async with transport:
            said = await failure(transport, "http://127.0.0.1:1/")
    assert said == ("proxy", f"proxy socks5h://{proxy}: it makes no sense")


async def test_command(run_fetcher: Command, server: Scope) -> None:
    """A proxy of the environment carries a run, whatever is fetched; its login stands in nothing that is written."""
    async with serving_socks() as proxy:
        proxy.login = (b"me", b"secret")
        environment = {"ALL_PROXY": f"socks5h://me:secret@{proxy.base}"}
        urls = [server.url("a").replace("127.0.0.1", "a.example"), "http://127.0.0.1:1/"]
        proxy.not_reached = "127.0.0.1"
        ran = await asyncio.to_thread(run_fetcher, "get", *urls, env=environment)
        good, bad = sorted(ran.records, key=lambda record: not record["ok"])
        assert (ran.code, good["sha256"]) == (1, hashlib.sha256(server.body_of("a")).hexdigest())
        assert bad["error"] == {
            "kind": "proxy",
            "message": f"proxy socks5h://***@{proxy.base}: host unreachable",
            "transient": False,
        }
    written = b"".join(path.read_bytes() for path in run_fetcher.directory.rglob("*") if path.is_file())
    assert b"secret" not in written + ran.stdout_bytes + ran.stderr_bytes


@pytest.mark.parametrize("more", [(), ("--workers", "2")])
def test_missing_extra(run_fetcher: Command, server: Scope, more: tuple[str, ...]) -> None:
    """Without python-socks one line says how to get it, before anything is fetched."""
    code = "import sys; sys.modules['python_socks'] = None; from fetcher.__main__ import main; main()"
    command = Command(run_fetcher.directory, ("-c", code))
    ran = command("get", server.url("a"), "--proxy", "socks5h://127.0.0.1:1", *more)
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr == "fetcher: a SOCKS proxy needs python-socks: pip install 'fetcher[socks]'\n"
    assert server.requests() == []
    assert not (run_fetcher.directory / "fetched").exists()
