"""What only libcurl can do with the wire: HTTP/3, and names looked up over HTTPS."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from fetcher.clock import SystemClock
from fetcher.errors import ErrorKind, UsageError
from fetcher.options import Carrier, Options, Timeouts, Wire
from fetcher.options import Tls as Trust
from fetcher.transport.base import Reach
from fetcher.transport.curl import CurlTransport
from fetcher.transport.proxies import Proxies
from tests.command import Command
from tests.contracts.exchange import failure, get
from tests.http3 import answer_dns, serving_http3
from tests.server import Scope


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """An authority, whose certificate is in ``ca.pem``."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return authority


def transport(directory: Path, wire: Wire, *, block: bool = False) -> CurlTransport:
    """Make a transport that trusts the authority and goes directly."""
    trust, reach = Trust(ca_file=directory / "ca.pem"), Reach(block_private=block)
    return CurlTransport(Timeouts(connect=5), trust, Proxies(""), SystemClock(), reach, wire)


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> Path:
    """A file with key and certificate of 127.0.0.1."""
    leaf = authority.issue_cert("127.0.0.1")
    path = tmp_path / "server.pem"
    path.write_bytes(leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes())
    return path


async def test_http3(certificate: Path, tmp_path: Path) -> None:
    """Where it is asked for and the server has it, HTTP/3 is spoken, byte for byte as written."""
    async with serving_http3(certificate) as port, transport(tmp_path, Wire(http3=True)) as client:
        got = await asyncio.gather(*(get(client, f"https://127.0.0.1:{port}/%2f{n}?") for n in range(20)))
    assert [each.body for each in got] == [b"/%%2f%d?" % n for n in range(20)]
    assert {(each.status, each.http_version, each.remote_ip) for each in got} == {(200, "3", "127.0.0.1")}
    assert {each.ends_with_connection for each in got} == {False}


async def test_http3_is_tried_only(server: Scope, tmp_path: Path, authority: trustme.CA) -> None:
    """A server without HTTP/3 is asked in what it speaks."""
    async with transport(tmp_path, Wire(http3=True)) as client:
        assert (await get(client, server.url("a"))).http_version == "1.1"

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as plain:
            port = plain.sockets[0].getsockname()[1]
            assert (await get(client, f"https://127.0.0.1:{port}/")).body == b"a"


async def test_http3_guard(certificate: Path, tmp_path: Path) -> None:
    """UDP reaches no private address either."""
    async with serving_http3(certificate) as port, transport(tmp_path, Wire(http3=True), block=True) as client:
        kind, _ = await failure(client, f"https://127.0.0.1:{port}/")
    assert kind == ErrorKind.BLOCKED_ADDRESS


async def test_doh(authority: trustme.CA, server: Scope, tmp_path: Path) -> None:
    """Names are asked of the server that is named, and of nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with await asyncio.start_server(answer_dns, "127.0.0.1", 0, ssl=context) as names:
        wire = Wire(doh=f"https://127.0.0.1:{names.sockets[0].getsockname()[1]}/dns-query")
        async with transport(tmp_path, wire) as client:
            url = server.url("a").replace("127.0.0.1", "nowhere.example")
            assert (await get(client, url)).body == server.body_of("a")
    async with transport(tmp_path, wire) as client:
        assert (await failure(client, url))[0] == ErrorKind.DNS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--http3",), "HTTP/3 needs --transport curl"),
        (("--doh-url", "https://d.example/"), "DNS over HTTPS needs --transport curl"),
        (("--transport", "curl", "--doh-url", "http://d.example/"), "write an https URL"),
        (("--transport", "carrier-pigeon"), "write one of session, curl"),
    ],
)
def test_usage(run_fetcher: Command, server: Scope, arguments: tuple[str, ...], words: str) -> None:
    """What cannot be done is said before anything is fetched."""
    ran = run_fetcher("get", server.url("a"), *arguments)
    assert (ran.code, ran.stdout, len(ran.stderr.splitlines())) == (2, "", 1)
    assert words in ran.stderr
    assert server.requests() == []


def test_missing_extra(run_fetcher: Command, server: Scope) -> None:
    """Without pycurl one line says how to get it, before anything is fetched."""
    code = "import sys; sys.modules['pycurl'] = None; from fetcher.__main__ import main; main()"
    command = Command(run_fetcher.directory, ("-c", code))
    for more in ((), ("--workers", "2")):
        ran = command("get", server.url("a"), "--transport", "curl", *more)
        assert (ran.code, ran.stdout) == (2, "")
        assert ran.stderr == "fetcher: --transport curl needs pycurl: pip install 'fetcher[curl]'\n"
    assert server.requests() == []
    assert not (run_fetcher.directory / "fetched").exists()


def test_options() -> None:
    """The library refuses the same."""
    assert Options(transport=Carrier.CURL, wire=Wire(http3=True)).wire.http3
    with pytest.raises(UsageError, match="HTTP/3"):
        Options(wire=Wire(http3=True))
