"""Which addresses --block-private lets through, and that none of the others ever gets a socket."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp.connector import AddrInfoType

from fetcher.clock import SystemClock
from fetcher.errors import ErrorKind, FetchError, UsageError
from fetcher.events import Counters
from fetcher.options import Options, Output, Timeouts, Tls
from fetcher.transport import connector, resolver
from fetcher.transport.base import Reach
from fetcher.transport.guard import is_public
from fetcher.transport.proxies import Proxies
from fetcher.transport.session import SessionTransport
from fetcher.wiring import Ears, opened
from tests.command import Command
from tests.contracts.exchange import failure, get
from tests.server import Scope

PUBLIC = "8.8.8.8 172.32.0.1 100.128.0.1 2001:4860:4860::8888 ::ffff:8.8.8.8 2002:808:808::1 64:ff9b::8.8.8.8"
PRIVATE = {
    "this machine": "127.0.0.1 127.255.255.254 ::1 ::ffff:127.0.0.1 ::ffff:7f00:1 64:ff9b::7f00:1 2002:7f00:1::",
    "networks": "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 fd12::1 fec0::1 ::ffff:10.0.0.1",
    "link": "169.254.169.254 fe80::1 fe80::1%eth0 ::ffff:169.254.169.254",
    "carrier": "100.64.0.1 100.127.255.255 64:ff9b::100.64.0.1",
    "multicast": "224.0.0.1 232.1.1.1 239.1.1.1 ff02::1 ff0e::1 2002:e000:1::",
    "none": "0.0.0.0 0.1.2.3 :: ::ffff:0.0.0.0",
    "broadcast": "255.255.255.255",
    "reserved": "240.0.0.1 198.18.0.1 192.0.2.1 2001:db8::1 100::1 5f00::1 4000::1",
    "abandoned": "::7f00:1 ::8.8.8.8 2001:0:808:808::1",
    "local translation": "64:ff9b:1::8.8.8.8 ::ffff:0:8.8.8.8",
}


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public(address: str) -> None:
    """The internet's addresses are public, however they are carried."""
    assert is_public(address)


@pytest.mark.parametrize("address", " ".join(PRIVATE.values()).split())
def test_private(address: str) -> None:
    """Everything else is not, whatever family it hides in."""
    assert not is_public(address)


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that sockets were made for."""
    made: list[str] = []
    make = connector._socket

    def noting(info: AddrInfoType) -> socket.socket:
        made.append(str(info[4][0]))
        return make(info)

    monkeypatch.setattr(connector, "_socket", noting)
    return made


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that gives every name these addresses, one list per look-up."""

    def put(*answers: list[str]) -> None:
        left = list(answers)

        def look_up(_: str, port: int, *__: object, **___: object) -> list[object]:
            found = left.pop(0) if len(left) > 1 else left[0]
            kind = socket.SOCK_STREAM
            return [(socket.AF_INET6 if ":" in ip else socket.AF_INET, kind, 6, "", (ip, port)) for ip in found]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    return put


@pytest.fixture
def loopback_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 stands for the internet."""
    for module in (connector, resolver):
        monkeypatch.setattr(module, "is_public", lambda address: address == "127.0.0.1")


def guarded() -> SessionTransport:
    """Make a transport for the public internet only."""
    return SessionTransport(Timeouts(connect=5), Tls(), Proxies(""), SystemClock(), Reach(block_private=True))


LITERALS = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"]
NAMES = ["localhost", "0x7f.1", "0x7f.0.0.1"]


@pytest.mark.parametrize("host", LITERALS + NAMES)
async def test_blocked(server: Scope, sockets: list[str], host: str) -> None:
    """However this machine is written, nothing is sent to it; host and address are named."""
    url = server.url().replace("127.0.0.1", host)
    async with guarded() as transport:
        with pytest.raises(FetchError) as caught:
            await get(transport, url)
    assert caught.value.kind == ErrorKind.BLOCKED_ADDRESS
    assert not caught.value.error.transient
    words = caught.value.message
    assert words.startswith(host if host in LITERALS else f"{host} resolves to ")
    assert words.endswith(" is not public; --block-private is on")
    assert (sockets, server.requests()) == ([], [])


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0177.0.0.1", "0", "127.0.0.1."])
@pytest.mark.parametrize("block", [True, False])
async def test_short_addresses(server: Scope, sockets: list[str], host: str, *, block: bool) -> None:
    """An address of fewer numbers, of octal ones or with one dot more, is an invalid one, blocked or not."""
    transport = SessionTransport(Timeouts(), Tls(), Proxies(""), SystemClock(), Reach(block_private=block))
    async with transport:
        kind, _ = await failure(transport, server.url().replace("127.0.0.1", host))
    assert (kind, sockets) == (ErrorKind.INVALID_URL, [])


async def test_by_default(server: Scope) -> None:
    """Without the option this machine is a host like any other."""
    async with SessionTransport(Timeouts(), Tls(), Proxies(""), SystemClock()) as transport:
        assert (await get(transport, server.url().replace("127.0.0.1", "localhost"))).status == 200


@pytest.mark.usefixtures("loopback_is_public")
@pytest.mark.parametrize(
    "answer", [["10.0.0.1", "127.0.0.1"], ["127.0.0.1", "10.0.0.1"], ["fd00::1", "127.0.0.1", "10.0.0.1"]]
)
async def test_mixed_answer(
    server: Scope, closed_port: int, sockets: list[str], names: Callable[..., None], answer: list[str]
) -> None:
    """Of a mixed answer the public part is used, and a failure is that part's own."""
    names(answer)
    async with guarded() as transport:
        assert (await get(transport, server.url().replace("127.0.0.1", "mixed.invalid"))).status == 200
        said = await failure(transport, f"http://mixed.invalid:{closed_port}/")
    assert said == ("connect.refused", f"mixed.invalid:{closed_port} refused the connection")
    assert set(sockets) == {"127.0.0.1"}


@pytest.mark.parametrize("answer", [["10.0.0.1"], ["10.0.0.1", "fd00::1"], ["fd00::1", "10.0.0.1", "fe80::1"]])
async def test_private_names(sockets: list[str], names: Callable[..., None], answer: list[str]) -> None:
    """A name with private addresses only is blocked, and the first of them is named."""
    names(answer)
    async with guarded() as transport:
        kind, words = await failure(transport, "http://inside.invalid/")
    assert (kind, sockets) == (ErrorKind.BLOCKED_ADDRESS, [])
    assert words.startswith(f"inside.invalid resolves to {answer[0]}, which")


@pytest.mark.usefixtures("loopback_is_public")
async def test_rebinding(server: Scope, sockets: list[str], names: Callable[..., None]) -> None:
    """A name that was public before is blocked as soon as it leads inside."""
    names(["127.0.0.1"], ["10.0.0.1"])
    url = server.url(header="Connection: close").replace("127.0.0.1", "rebinding.invalid")
    async with guarded() as transport:
        assert (await get(transport, url)).status == 200
        transport.session.connector.clear_dns_cache()  # type: ignore[union-attr]
        assert (await failure(transport, url))[0] == ErrorKind.BLOCKED_ADDRESS
    assert sockets == ["127.0.0.1"]


@pytest.mark.parametrize("inside", ["http://[::1]:{port}/x", "http://10.0.0.1/x", "http://localhost:{port}/x"])
def test_redirect_inside(run_fetcher: Command, server: Scope, inside: str) -> None:
    """A redirect that leads inside is blocked, once, though its first hop was public."""
    code = (
        "from fetcher.transport import connector, resolver\n"
        "connector.is_public = resolver.is_public = lambda address: address == '127.0.0.1'\n"
        "import socket\n"
        "real = socket.getaddrinfo\n"
        "socket.getaddrinfo = lambda host, port, *a, **k: real('::1' if host == 'localhost' else host, port)\n"
        "from fetcher.__main__ import main\n"
        "main()\n"
    )
    command = Command(run_fetcher.directory, ("-c", code))
    url = server.url("a", redirect_to=inside.format(port=server.host.partition(":")[2]))
    ran = command("get", url, "--block-private")
    (record,) = ran.records
    assert (ran.code, record["error"]["kind"], record["error"]["transient"]) == (1, "blocked_address", False)
    assert [seen.resource for seen in server.requests()] == [url.removeprefix(server.base)]


async def test_proxy_is_a_contradiction(tmp_path: Path) -> None:
    """With a proxy nobody could keep the promise, so it is not made."""
    options = Options(proxy="http://127.0.0.1:1", block_private=True, output=Output(directory=tmp_path))
    with pytest.raises(UsageError, match="--block-private cannot see where a proxy connects to"):
        async with opened(options, Ears(counters=Counters(0.0))):
            pass
