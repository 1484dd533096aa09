"""The engine that has a cluster of Dask's against the contract of engines, with the cluster in this process.

What it is made of follows: addresses, the files in which machines tell each other, and chunks.
"""

import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fetcher import wiring
from fetcher.disk import Disk
from fetcher.engines import dask
from fetcher.engines.base import Engine
from fetcher.engines.channel import Begun
from fetcher.engines.chunk import Chunk, fetch_chunk
from fetcher.engines.cluster import Cluster
from fetcher.engines.dask import scheduler_address
from fetcher.engines.spool import Inbox, Outbox
from fetcher.errors import LocalError, UsageError
from fetcher.events import Counters
from fetcher.model import Outcome, Request
from fetcher.naming import PARTS, Template
from fetcher.options import DEFAULT_NAME, Format, Limits, Options, Output
from fetcher.sinks.files import FilesSink, Naming
from fetcher.sinks.partial import Partials
from fetcher.sinks.shared import SharedFolder
from fetcher.wiring import Ears
from tests.contracts.engine_contract import EngineContract, Opened
from tests.test_cli_robots import answer, serving


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Yield the URL of a scheduler with two workers, all on threads of this process."""
    from distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
    )
    with cluster:
        yield cluster.scheduler_address.replace("tcp:", "dask:")


class TestDask(EngineContract):
    @pytest.fixture
    def opened(self, scheduler: str) -> Opened:
        @asynccontextmanager
        async def cluster(options: Options, ears: Ears) -> AsyncIterator[Engine]:
            naming = Naming(Template.parse(DEFAULT_NAME), "2026-11-21")
            with Disk() as disk:
                sink = FilesSink(
                    options.output.directory, Partials(options.output.directory / ".fetcher/partial"), naming, disk
                )
                async with wiring._cluster(options, scheduler, sink, ears) as engine:
                    yield engine

        return cluster

    async def test_rules_are_asked_for_once(self, opened: Opened, tmp_path: Path) -> None:
        """What one chunk has heard of an origin's rules, the others know, and keep to over all of them."""
        rules = answer(body=b"User-agent: *\nDisallow: /no\nCrawl-delay: 0.05\n")
        with serving({"/robots.txt": rules}) as site:
            async with self.shop(opened, tmp_path, Limits(concurrency=8, robots=True)) as shop:
                assert isinstance(shop.engine, Cluster)
                for lane in shop.engine._lanes:
                    lane.most = 3
                host = site.base.removeprefix("http://")
                for index, url in enumerate(site.urls(*(str(number) for number in range(20)), "no")):
                    shop.engine.add(Request(index, url, url, host, "list", 1))
                records = await shop.settled(21)
                assert shop.engine._number >= 3
        assert Counter(record.outcome for record in records.values()) == {Outcome.FETCHED: 20, Outcome.FAILED: 1}
        assert Counter(site.asked) == {f"/{number}": 1 for number in ("robots.txt", *range(20))}
        times = sorted(site.times)
        assert times[-1] - times[1] >= 0.9 * 0.05 * 19


@pytest.mark.parametrize(
    ("engine", "encrypted", "address"),
    [
        ("dask://127.0.0.1:8786", False, "tcp://127.0.0.1:8786"),
        ("dask://localhost:8786", False, "tcp://localhost:8786"),
        ("dask://[::1]:8786", False, "tcp://[::1]:8786"),
        ("dask://localhost:8786", True, "tls://localhost:8786"),
        ("dask://head.example:8786", True, "tls://head.example:8786"),
    ],
)
def test_addresses(engine: str, encrypted: bool, address: str) -> None:
    """A scheduler is spoken to over TLS where that is set up, and else on this machine only."""
    assert scheduler_address(engine, encrypted=encrypted) == address


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("dask://head.example:8786", "set up TLS"),
        ("dask://10.0.0.1:8786", "set up TLS"),
        ("dask://localhost.example:8786", "set up TLS"),
        ("dask://127.0.0.1", "write dask://HOST:PORT"),
        ("dask://user@127.0.0.1:8786", "write dask://HOST:PORT"),
        ("dask:", "write dask://HOST:PORT"),
        ("dask://", "write dask://HOST:PORT"),
        ("ray://127.0.0.1:6379", "write dask://HOST:PORT"),
        ("dask:missing.json", "no such file or directory"),
        ("dask:odd.json", "the file is no scheduler's"),
        ("dask:list.json", "the file is no scheduler's"),
        ("dask:far.json", "set up TLS"),
        ("dask:\x1b[2J", r"\x1b[2J: no such file"),
    ],
)
def test_addresses_refused(engine: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no address, or leads to another machine without TLS, is refused with what to do instead."""
    monkeypatch.chdir(tmp_path)
    Path("odd.json").write_text("{}")
    Path("list.json").write_text("[1]")
    Path("far.json").write_text('{"address": "tcp://10.0.0.1:8786"}')
    with pytest.raises(UsageError) as refused:
        scheduler_address(engine, encrypted=False)
    assert words in str(refused.value)


def test_a_file_of_a_scheduler(tmp_path: Path) -> None:
    """A scheduler's file says how it is spoken to."""
    (tmp_path / "far.json").write_text('{"address": "tls://10.0.0.1:8786"}')
    assert scheduler_address(f"dask:{tmp_path}/far.json", encrypted=False) == "tls://10.0.0.1:8786"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(engine="dask://127.0.0.1:1"), "cannot be reached"),
        (Options(engine="dask://192.0.2.1:1"), "set up TLS"),
    ],
)
async def test_what_cannot_be(options: Options, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot work is refused before anything is fetched."""
    monkeypatch.setattr(dask, "_CONNECT", 0.2)
    with pytest.raises(UsageError, match=words):
        async with wiring.opened(replace(options, output=Output(directory=tmp_path)), Ears(counters=Counters(0.0))):
            raise AssertionError


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (Output(save=False), "--no-save keeps nothing"),
        (Output(format=Format.WARC), "--format files"),
    ],
)
def test_what_cannot_be_shared(output: Output, words: str) -> None:
    """Bodies that are not files in a directory of all machines are refused with the options that ask for them."""
    with pytest.raises(UsageError, match=words):
        Options(engine="dask://127.0.0.1:1", output=output)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Dask is not installed, one line says how to install it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'fetcher\[dask\]'"):
        wiring.prepare(Options(engine="dask://127.0.0.1:8786"))


async def test_a_torn_block(tmp_path: Path) -> None:
    """Who reads meanwhile gets each message once, in order, and none of a block that is not whole yet."""
    space = SharedFolder(tmp_path)
    space.begin("")
    with Disk() as disk:
        outbox = Outbox(space, "told", disk)
        for each in ("a", "b"):
            outbox.send(Begun(each))
        await outbox.flush()
        outbox.send(Begun("c"))
        await outbox.flush()
    path = tmp_path / PARTS / "told"
    assert path.stat().st_mode & 0o077 == 0
    block = path.read_bytes()
    assert outbox.end == len(block)
    inbox, got = Inbox(space, "growing"), []
    assert inbox.read() == []
    for end in range(len(block) + 1):
        path.with_name("growing").write_bytes(block[:end])
        got += inbox.read()
    assert got == [Begun("a"), Begun("b"), Begun("c")]
    assert Inbox(space, "told", inbox.at).read() == []


def chunk(parts: Path, **changed: Any) -> Chunk:
    """Return a chunk whose options hold a secret."""
    fields: dict[str, Any] = {
        "name": "run/1",
        "space": SharedFolder(parts),
        "orders": "run/orders",
        "begin": 0,
        "options": Options(headers=(("Authorization", "hush"),)),
        "abroad": Options(),
        "requests": (),
        "holds": (),
        "rulings": (),
        "epoch": 0.0,
    }
    return Chunk(**{**fields, **changed})


def never(*_: object) -> Any:
    """Be called by nobody."""
    raise AssertionError


def test_a_chunk_is_fetched_once(tmp_path: Path) -> None:
    """A chunk that somebody has begun is left to him."""
    SharedFolder(tmp_path).begin("run")
    assert SharedFolder(tmp_path).claim("run/1")
    fetch_chunk(chunk(tmp_path), never, never)
    assert SharedFolder(tmp_path).names() == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"version": "0.0"}, "has fetcher .*, not 0.0"),
        ({"space": SharedFolder(Path("/missing"))}, "cannot find /missing: all machines"),
    ],
)
def test_a_machine_that_cannot(changed: dict[str, Any], words: str, tmp_path: Path) -> None:
    """A machine with another version, or without the directory, says so; nothing is fetched."""
    with pytest.raises(LocalError, match=words):
        fetch_chunk(chunk(tmp_path, **changed), never, never)


def test_a_chunk_tells_nobody(tmp_path: Path) -> None:
    """Whoever prints a chunk, as Dask does when something fails, prints no secret."""
    assert str(chunk(tmp_path)) == repr(chunk(tmp_path)) == "Chunk(run/1)"
