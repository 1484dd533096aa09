"""Requests over one aiohttp session."""

import asyncio
import socket
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from fetcher.clock import SystemClock
from fetcher.errors import UsageError
from fetcher.model import Timings
from fetcher.options import Timeouts
from fetcher.options import Tls as Trust
from fetcher.transport.base import Hop
from fetcher.transport.proxies import Proxies
from fetcher.transport.session import SessionTransport
from tests.conftest import Tls
from tests.contracts.connection_contract import ConnectionContract
from tests.contracts.exchange import Make, failure, get
from tests.contracts.socks_contract import SocksContract
from tests.contracts.transport_contract import TransportContract
from tests.server import Scope


class TestSession(TransportContract, ConnectionContract, SocksContract):
    @pytest.fixture
    def make(self) -> Make:
        """Sessions."""

        def make(*, timeouts: Timeouts | None = None, trust: Trust | None = None, proxy: str = "") -> SessionTransport:
            return SessionTransport(timeouts or Timeouts(), trust or Trust(), Proxies(proxy), SystemClock())

        return make


class Ticking(SystemClock):
    """A clock that remembers when it was asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def monotonic(self) -> float:
        self.asked.append(super().monotonic())
        return self.asked[-1]


def phases(timings: Timings | None) -> dict[str, float]:
    """Return the phases that happened."""
    assert timings is not None
    names = ("blocked", "dns", "connect", "tls", "send", "wait", "receive")
    return {name: value for name in names if (value := getattr(timings, name)) is not None}


async def head_timings(transport: SessionTransport, clock: Ticking, url: str) -> dict[str, float]:
    """Return the phases of one request, which must fill the time from its start to its head."""
    clock.asked.clear()
    async with transport.send(Hop(url, ())) as response:
        between = clock.asked[-1] - clock.asked[0]
        while await response.read():
            pass
    found = phases(response.timings())
    assert sum(found.values()) == pytest.approx(between, abs=1e-5)
    assert all(value >= 0 for value in found.values())
    return found


async def test_timings(server: Scope) -> None:
    """The phases add up; a kept connection has neither look-up nor connecting, and waiting is where the delay is."""
    clock = Ticking()
    async with SessionTransport(Timeouts(), Trust(), Proxies(""), clock) as transport:
        url = server.url(delay=0.3).replace("127.0.0.1", "localhost")
        first = await head_timings(transport, clock, url)
        again = await head_timings(transport, clock, url)
    assert first.keys() == {"blocked", "dns", "connect", "send", "wait"}
    assert again.keys() == {"blocked", "send", "wait"}
    for timings in (first, again):  # a busy machine may note late that it has sent
        assert sum(timings.values()) >= 0.3
        assert timings["wait"] == max(timings.values())


async def test_tls_timings(tls: Tls, ca_file: Path) -> None:
    """A handshake is a phase of its own; an address needs no look-up."""
    clock = Ticking()
    async with SessionTransport(Timeouts(), Trust(ca_file=ca_file), Proxies(""), clock) as transport:
        first = await head_timings(transport, clock, tls.good.url())
        again = await head_timings(transport, clock, tls.good.url())
    assert first.keys() == {"blocked", "connect", "tls", "send", "wait"}
    assert first["tls"] > 0
    assert again.keys() == {"blocked", "send", "wait"}


async def test_timings_side_by_side(server: Scope) -> None:
    """Requests at the same time do not mix up their phases."""
    async with SessionTransport(Timeouts(), Trust(), Proxies(""), SystemClock()) as transport:
        delays = [0.0, 0.2, 0.4]
        got = await asyncio.gather(*(get(transport, server.url(delay=delay)) for delay in delays))
    waits = [phases(each.timings)["wait"] for each in got]
    assert all(later - earlier > 0.1 for earlier, later in pairwise(waits))


async def test_look_up_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that never answers is a connect timeout, and the message does not blame the server."""
    release = threading.Event()

    def look_up(*_: object, **__: object) -> None:
        release.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    async with SessionTransport(Timeouts(connect=0.2), Trust(), Proxies(""), SystemClock()) as transport:
        said = await failure(transport, "http://slow.invalid/")
    release.set()
    assert said == ("timeout.connect", "no address for slow.invalid within 0.2 s")


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "no such file or directory"), (b"no certificate", "no certificate")]
)
async def test_bad_ca_file(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """A file of certificates that has none is said before anything is fetched."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=f"^no certificates in {path}: {reason}"):
        await SessionTransport(Timeouts(), Trust(ca_file=path), Proxies(""), SystemClock()).__aenter__()


async def test_not_open() -> None:
    """A transport outside its context is a bug, and says so."""
    with pytest.raises(RuntimeError, match="not open"):
        await get(SessionTransport(Timeouts(), Trust(), Proxies(""), SystemClock()), "http://127.0.0.1:1/")
