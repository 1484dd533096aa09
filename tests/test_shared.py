"""Where machines leave each other what they have: a directory and an object store, and a run over the latter."""

import asyncio
import pickle
import threading
from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from fetcher import wiring
from fetcher.blocks import packed
from fetcher.clock import SystemClock
from fetcher.disk import Disk
from fetcher.engines.channel import Begun, Done, Laid
from fetcher.engines.salvage import run_name, salvage
from fetcher.engines.spool import Inbox, Outbox, Space
from fetcher.events import Counters
from fetcher.model import Outcome, Record, Request, to_line
from fetcher.naming import PARTS, Template, Told
from fetcher.options import DEFAULT_NAME, Limits, Options, Output
from fetcher.sinks.files import Naming
from fetcher.sinks.objects import ObjectsSink
from fetcher.sinks.shared import SharedFolder, SharedStore
from fetcher.sinks.store import ObjectStore
from fetcher.sources.argv import ArgvSource
from fetcher.wiring import Ears
from tests import s3
from tests.server import Scope
from tests.test_dask import scheduler
from tests.test_salvage import Memory

pytest.importorskip("obstore", reason="obstore, the extra `s3`, is not installed")

__all__ = ["scheduler"]

_NUMBERS: Final = count()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Yield the port of a server of objects."""
    with s3.running() as running:
        yield running


@pytest.fixture
def bucket(port: int, monkeypatch: pytest.MonkeyPatch) -> s3.Bucket:
    """An empty bucket, to which the environment leads."""
    bucket = s3.Bucket(port, f"shared{next(_NUMBERS)}")
    bucket.make()
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    return bucket


@pytest.fixture(params=["folder", "store"])
def space(request: pytest.FixtureRequest, port: int, tmp_path: Path) -> Space:
    """A place of each kind, as another machine gets it."""
    made: Space = SharedFolder(tmp_path)
    if request.param == "store":
        made = SharedStore(request.getfixturevalue("bucket").url)
    unpickled: Space = pickle.loads(pickle.dumps(made))
    return unpickled


def test_a_place(space: Space) -> None:
    """A chunk is one's who claims it; blocks are read as they were written; what is removed is gone."""
    space.begin("run")
    assert [space.claim(name) for name in ("run/1", "run/1", "run/12")] == [True, False, True]
    assert space.read("run/1/told", 0) == ([], 0)
    one, two = packed(["one"]), packed(["two"])
    at = space.write("run/1/told", 0, one)
    blocks, begin = space.read("run/1/told", 0)
    assert (blocks, begin) == ([one[4:]], at)
    space.write("run/1/told", at, two)
    assert space.read("run/1/told", begin)[0] == [two[4:]]
    assert space.read("run/1/told", 0)[0] == [one[4:], two[4:]]
    space.write("run/12/told", 0, two)
    space.remove("run/1")
    assert space.read("run/1/told", 0) == ([], 0)
    assert len(space.read("run/12/told", 0)[0]) == 1
    assert any(name.startswith("run/12/told") for name in space.names())
    space.begin("other")
    assert space.names() == []


async def test_messages(space: Space) -> None:
    """What is sent is read, once and in order, wherever one begins to."""
    space.begin("run")
    with Disk() as disk:
        outbox = Outbox(space, "run/orders", disk)
        outbox.send(Begun("a"))
        await outbox.flush()
        begin = outbox.end
        outbox.send(Begun("b"))
        outbox.send(Begun("c"))
        await outbox.flush()
    inbox = Inbox(space, "run/orders")
    assert (inbox.read(), inbox.read()) == ([Begun("a"), Begun("b"), Begun("c")], [])
    assert Inbox(space, "run/orders", begin).read() == [Begun("b"), Begun("c")]


async def test_cancelled_in_mid_block() -> None:
    """Who is cancelled while a block is written has written it before anybody writes the next."""
    begun, go_on, blocks = threading.Event(), threading.Event(), []

    class Slow(SharedFolder):
        def write(self, name: str, at: int, block: bytes) -> int:
            begun.set()
            assert go_on.wait(10)
            blocks.append(at)
            return at + 1

    with Disk() as disk:
        outbox = Outbox(Slow(Path("nowhere")), "told", disk)
        outbox.send(Begun("a"))
        running = asyncio.create_task(outbox.run(SystemClock()))
        await asyncio.to_thread(begun.wait, 10)
        running.cancel()
        outbox.send(Begun("b"))
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        await asyncio.wait((running,))
        assert running.cancelled()
        await outbox.flush()
    assert (blocks, outbox.end) == ([0, 1], 2)


def test_a_store_that_is_none(bucket: s3.Bucket) -> None:
    """A store that cannot be used fails as a disk does."""
    missing = SharedStore(bucket.url.replace("shared", "missing"))
    with pytest.raises(OSError):
        missing.claim("run/1")
    missing.remove("run/1")
    with pytest.raises(OSError, match="cannot use none"):
        SharedStore("none://x").claim("run/1")


async def test_salvage(bucket: s3.Bucket, tmp_path: Path) -> None:
    """What a run has left that died is taken over from a store, too; an object of anybody else's stays."""
    name = run_name("1-1", commanded=False)
    space = SharedStore(bucket.url)
    url, body = "http://a.example/x", b"body"
    path = f"{PARTS}/{name}/1/0"
    record = Record(
        url=url, source="list", line=1, outcome=Outcome.FETCHED, path=path, bytes=4, sha256=sha256(body).hexdigest()
    )
    request = Request(0, url, url, "a.example", "list", 1)
    space.write(f"{name}/1/told", 0, packed([Laid(request, Told("text/plain")), Done(record, to_line(record), url, 4)]))
    bucket.put(path, body)
    bucket.put("a.example/x.txt", b"mine")
    memory = Memory()
    with Disk() as disk:
        naming = Naming(Template.parse(DEFAULT_NAME), "2026-11-21")
        sink = ObjectsSink(ObjectStore(bucket.url), tmp_path, naming, disk)
        assert await salvage(space, sink, memory, disk) == 1
    named = memory.written[0].record.path or ""
    assert bucket.objects() == {"a.example/x.txt": b"mine", named: body}


async def test_a_run(bucket: s3.Bucket, scheduler: str, server: Scope, tmp_path: Path) -> None:
    """A cluster puts bodies into a store under the names that one machine gives them, and leaves nothing else there."""
    sizes = {f"{number}.bin": number * 997 for number in range(40)} | {"large.bin": 9_000_000}
    urls = {server.url(name, size=size): server.body_of(name, size) for name, size in sizes.items()}
    given = [*urls, server.url("gone", status=404)]
    told = {}
    for engine in (None, scheduler):
        output = Output(directory=tmp_path / str(engine is None), store=f"{bucket.url}/{engine is None}")
        options = Options(limits=Limits(concurrency=8), output=output, engine=engine)
        async with wiring.opened(options, Ears(counters=Counters(0.0))) as run:
            summary = await run([ArgvSource([*enumerate(given)])])
        assert (summary.ok, summary.failed, summary.stop) == (41, 1, None)
        prefix = f"{engine is None}/"
        held = {key.removeprefix(prefix): body for key, body in bucket.objects().items() if key.startswith(prefix)}
        told[engine] = {key: body for key, body in held.items() if not key.startswith(".fetcher/")}
        assert sorted(key for key in held if key.startswith(".fetcher/")) == [".fetcher/records.ndjson"]
    assert sorted(told[scheduler].values()) == sorted(urls.values())
    assert told[scheduler] == told[None]
    assert not bucket.uploads()
