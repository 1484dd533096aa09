"""The library call: one record per URL as they finish, and nothing left behind, however the caller leaves."""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fetcher import (
    BusyError,
    ErrorKind,
    Existing,
    HostOptions,
    Item,
    Limits,
    LocalError,
    Options,
    Outcome,
    Output,
    Record,
    Retries,
    Timeouts,
    UsageError,
    fetch_all,
    fetch_one,
)
from fetcher.naming import STATE_DIRECTORY
from fetcher.sinks.files import FilesSink
from tests.contracts.source_contract import open_descriptors
from tests.fakes import until
from tests.server import Scope

NOWHERE = Options(output=Output(save=False), retries=Retries(count=0))


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """Options for a directory of the test's own."""
    return Options(output=Output(directory=tmp_path / "out"), retries=Retries(count=0))


@pytest.fixture(autouse=True)
async def nothing_open(server: Scope) -> AsyncIterator[None]:
    """Fail a test that leaves a task, a socket or a file behind; the server gets a moment to see that we are gone."""
    before = open_descriptors()
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await until(lambda: open_descriptors() <= before)


async def collect(records: AsyncGenerator[Record, None]) -> dict[int, Record]:
    """Return all records by line, in the order in which they came."""
    found = {}
    async with aclosing(records):
        async for record in records:
            assert record.line not in found
            found[record.line] = record
    return found


def journal(options: Options) -> list[dict[str, Any]]:
    """Return what the directory remembers."""
    path = options.output.directory / STATE_DIRECTORY / "records.ndjson"
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def test_as_they_finish(server: Scope, options: Options) -> None:
    """Records come when they are ready, not in the list's order, while others are still under way."""
    order: list[int] = []
    async with aclosing(fetch_all([server.url("a", delay=0.7), server.url("b")], options)) as records:
        async for record in records:
            order.append(record.line)
            assert record.line == 1 or server.active_now("a")
    assert order == [2, 1]


async def test_record(server: Scope, options: Options) -> None:
    """A record tells where the body lies, and the body is right."""
    record = await fetch_one(server.url("a", size=5_000), options)
    assert (record.ok, record.outcome, record.status, record.source, record.line) == (
        True,
        Outcome.FETCHED,
        200,
        "argv",
        1,
    )
    assert record.path is not None
    body = await asyncio.to_thread((options.output.directory / record.path).read_bytes)
    assert body == server.body_of("a", 5_000)


def some(urls: list[str]) -> Iterator[str]:
    """Yield the URLs."""
    yield from urls


async def later(urls: list[str]) -> AsyncIterator[str]:
    """Yield the URLs, each in a later turn."""
    for url in urls:
        await asyncio.sleep(0)
        yield url


@pytest.mark.parametrize("make", [list, tuple, some, later])
async def test_any_iterable(server: Scope, make: Callable[[list[str]], Any]) -> None:
    """URLs may come in any iterable, asynchronous or not; lines count from 1."""
    urls = [server.url(str(number)) for number in range(5)]
    found = await collect(fetch_all(make(urls), NOWHERE))
    assert {line: record.url for line, record in found.items()} == dict(enumerate(urls, 1))
    assert all(record.ok and record.path is None for record in found.values())


async def test_items(server: Scope, options: Options) -> None:
    """What is said of a URL counts as in a list, and comes back in the record."""
    digest = hashlib.sha256(server.body_of("a")).hexdigest()
    meta = {"name": "mine", "url": [1, None], "outcome": "?", "ok": 1, "attempts": 2, "wire_bytes": 3}
    urls: list[str | Item] = [
        server.url("plain"),
        Item(
            server.url("gone", status=404),
            id=7,
            name="dir/a.txt",
            headers=(("X-Key", "secret"), ("X-Key", "other")),
            sha256=digest.upper(),
            max_size=10_000,
            mirrors=(server.url("a"),),
            meta=meta,
        ),
        Item(server.url("b"), sha256=digest, headers=(("X-Key", "secret"),)),
        Item(server.url("c", size=9_000), max_size=100),
    ]
    found = await collect(fetch_all(urls, options))
    plain, full, other, large = (found[line] for line in (1, 2, 3, 4))
    assert (plain.ok, plain.id, plain.asked, plain.meta) == (True, None, None, None)
    assert (full.outcome, full.id, full.path, full.sha256) == (Outcome.FETCHED, "7", "dir/a.txt", digest)
    assert full.meta == meta
    assert full.asked == {
        "name": "dir/a.txt",
        "headers": ["X-Key", "X-Key"],
        "sha256": digest,
        "max_size": 10_000,
        "mirrors": (server.url("a"),),
    }
    assert [record.error and record.error.kind for record in (other, large)] == ["checksum", "too_large"]
    assert [value for seen in server.requests("gone") for name, value in seen.headers if name.lower() == "x-key"] == [
        "secret",
        "other",
    ]
    assert "secret" not in repr(urls) + str(journal(options))
    again = await collect(fetch_all(urls[:2], options))
    assert [(record.outcome, record.meta) for _, record in sorted(again.items())] == [
        (Outcome.SKIPPED, None),
        (Outcome.SKIPPED, meta),
    ]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"sha256": "x"}, '"sha256" is not 64 hex digits (argv:1)'),
        ({"name": "../a"}, '"name" is not a path below the output directory, such as a/b.html (argv:1)'),
        ({"headers": (("Host", "secret"),)}, '"headers": Host is decided by the request itself (argv:1)'),
        ({"headers": ("secret",)}, '"headers" is not an object of names and values (argv:1)'),
        ({"max_size": -1}, '"max_size" is not a whole number of bytes (argv:1)'),
        ({"mirrors": ("nonsense",)}, '"mirrors": '),
        ({"id": "\ud800"}, '"id" or "meta" cannot be said in JSON (argv:1)'),
        ({"id": 1.5}, '"id" is neither a text nor a whole number (argv:1)'),
        ({"meta": {"a": {1, 2}}}, '"id" or "meta" cannot be said in JSON (argv:1)'),
        ({"meta": {1: "a"}}, '"id" or "meta" cannot be said in JSON (argv:1)'),
    ],
)
async def test_bad_items(server: Scope, said: dict[str, Any], words: str) -> None:
    """What cannot be meant is a record like any other failure, and nothing is sent."""
    record = await fetch_one(Item(server.url("a"), **said), NOWHERE)
    assert record.error is not None
    assert (record.url, record.error.kind) == (server.url("a"), ErrorKind.BAD_RECORD)
    assert record.error.message.startswith(words)
    assert "secret" not in record.error.message
    assert server.requests() == []


@pytest.mark.parametrize("url", ["nonsense", "http://h/\ud800", ""])
async def test_items_without_url(url: str) -> None:
    """The URL of an item fails as one that stands alone does."""
    alone, item = [await fetch_one(asked, NOWHERE) for asked in (url, Item(url, id=1))]
    assert (item.url, item.error) == (alone.url, alone.error)


async def test_empty() -> None:
    """No URLs, no records."""
    assert await collect(fetch_all([], NOWHERE)) == {}


async def test_every_line_has_a_record(server: Scope, options: Options) -> None:
    """What fails is a record, never an exception; so is what cannot be a URL, lone surrogates included."""
    urls = [
        server.url("a"),
        server.url("a"),
        server.url("b", status=404),
        "",
        "example.com/x",
        "ftp://h/",
        "http://h/\ud800\x1b",
        "http://h/\n",
    ]
    found = await collect(fetch_all(urls, options))
    kinds = [found[line].error.kind if found[line].error else found[line].outcome for line in range(1, 9)]  # type: ignore[union-attr]
    assert kinds == [
        "fetched",
        "duplicate",
        "http.404",
        "invalid_url",
        "invalid_url",
        "unsupported_scheme",
        "invalid_url",
        "invalid_url",
    ]
    assert found[7].url == "http://h/\\ud800\x1b"
    assert [found[line].url for line in (1, 2, 3, 4, 5, 6, 8)] == urls[:6] + urls[7:]


async def test_one_failed(server: Scope) -> None:
    """fetch_one returns the failure, too."""
    record = await fetch_one(server.url("a", status=404), NOWHERE)
    assert (record.ok, record.status) == (False, 404)
    assert (await fetch_one("nonsense", NOWHERE)).error is not None


async def test_nothing_saved(server: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``save=False`` the body is hashed and kept nowhere, and no directory is made."""
    monkeypatch.chdir(tmp_path)
    record = await fetch_one(server.url("a", size=10), NOWHERE)
    assert (record.ok, record.path, record.bytes) == (True, None, 10)
    assert record.sha256 is not None
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


async def test_earlier_call(server: Scope, options: Options) -> None:
    """What an earlier call has stored is skipped, unless it shall be replaced."""
    url = server.url("a")
    first = await fetch_one(url, options)
    second = await fetch_one(url, options)
    again = replace(options, output=replace(options.output, existing=Existing.REPLACE))
    third = await fetch_one(url, again)
    assert [record.outcome for record in (first, second, third)] == ["fetched", "skipped", "fetched"]
    assert first.path == second.path == third.path
    assert len(server.requests()) == 2


async def test_refresh(server: Scope, options: Options) -> None:
    """With ``Existing.REFRESH`` a call asks whether bodies have changed, and records say it."""
    refresh = replace(options, output=replace(options.output, existing=Existing.REFRESH))
    url = server.url("a", etag='"1"', revalidate=True)
    records = [await fetch_one(url, refresh) for _ in range(3)]
    assert [record.outcome for record in records] == ["fetched", "unchanged", "unchanged"]
    assert [(record.changed, record.status, record.path) for record in records[1:]] == [
        (False, 304, records[0].path)
    ] * 2
    assert (records[0].changed, records[0].previous_sha256, records[2].etag) == (True, None, '"1"')


async def test_default_directory(server: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without options bodies go below ``fetched``."""
    monkeypatch.chdir(tmp_path)
    record = await fetch_one(server.url("a"))
    assert (tmp_path / "fetched" / (record.path or "?")).is_file()


async def test_early_exit(server: Scope, options: Options) -> None:
    """Leaving early drops what is under way at once, and its records stay in the journal."""
    urls = [server.url("a"), server.url("b", hang=1), server.url("c", size=1_000, drip="2,60")]
    async with asyncio.timeout(10), aclosing(fetch_all(urls, options)) as records:
        assert (await anext(records)).line == 1
        await until(lambda: server.active_now() == 2)
    assert {entry["line"]: (entry["error"] or {}).get("kind") for entry in journal(options)} == {
        1: None,
        2: "cancelled",
        3: "cancelled",
    }
    assert len([path async for path in walk(options)]) == 1


async def test_early_exit_with_records_waiting(server: Scope, options: Options) -> None:
    """Also when thousands of records wait that nobody will take: what was done is known to the next call."""
    url, taken = server.url("a"), 0

    def urls() -> Iterator[str]:
        nonlocal taken
        for taken in range(9_000):  # noqa: B007
            yield url

    async with asyncio.timeout(20):
        async with aclosing(fetch_all(urls(), options)) as records:
            await anext(records)
            await until(lambda: taken > 2_000)
        assert taken < 8_999
        assert (await fetch_one(url, options)).outcome is Outcome.SKIPPED


@pytest.mark.parametrize("delay", [0.0, 0.05])
async def test_cancelled_caller(server: Scope, options: Options, delay: float) -> None:
    """A cancelled caller is cancelled at once, wherever it is."""
    task = asyncio.create_task(collect(fetch_all([server.url("a", hang=1)], options)))
    await asyncio.sleep(delay)
    task.cancel()
    await asyncio.wait({task}, timeout=10)
    assert task.cancelled()


async def test_slow_caller(server: Scope) -> None:
    """A caller that takes nothing stops the fetching after a bounded number of URLs."""
    taken = 0

    def urls() -> Iterator[str]:
        nonlocal taken
        while taken < 50_000:
            taken += 1
            yield f"no url {taken}"

    async with aclosing(fetch_all(urls(), NOWHERE)) as records:
        await anext(records)
        before = -1
        while taken != before:
            before = taken
            await asyncio.sleep(0.1)
        assert taken < 8_000
        rest = [record async for record in records]
    assert len(rest) == 49_999


async def test_two_at_once(server: Scope, options: Options) -> None:
    """A directory in use is refused, and free again afterwards."""
    async with aclosing(fetch_all([server.url("a"), server.url("b", hang=1)], options)) as records:
        await anext(records)
        with pytest.raises(BusyError, match="is using"):
            await fetch_one(server.url("c"), options)
    assert (await fetch_one(server.url("c"), options)).ok


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Options(limits=Limits(concurrency=0)),
        lambda: Options(limits=Limits(rate=0)),
        lambda: Options(timeouts=Timeouts(total=-1)),
        lambda: Options(retries=Retries(count=-1)),
        lambda: Options(hosts=(HostOptions(pattern="a", per_host=0),)),
        lambda: Options(hosts=(HostOptions(pattern="a", host_rate=0),)),
    ],
)
def test_wrong_options(wrong: Callable[[], Options]) -> None:
    """Options that cannot be are refused where they are made."""
    with pytest.raises(UsageError):
        wrong()


@pytest.mark.parametrize("part", [{"name": "{nonsense}"}, {"pattern": "nonsense/"}])
async def test_wrong_text(part: dict[str, str], server: Scope, tmp_path: Path) -> None:
    """A name template or a pattern of hosts that cannot be is refused before anything is made or fetched."""
    output = Output(directory=tmp_path / "out", name=part.get("name", "{path}"))
    hosts = HostOptions(pattern=part.get("pattern", "*.example.com"))
    options = Options(output=output, hosts=(hosts,))
    with pytest.raises(UsageError, match="nonsense"):
        await fetch_one(server.url("a"), options)
    assert (list(tmp_path.iterdir()), server.requests()) == ([], [])  # noqa: ASYNC240


async def test_unusable_directory(server: Scope, tmp_path: Path) -> None:
    """A directory that cannot be used is this machine's failure."""
    (tmp_path / "out").write_text("a file")
    with pytest.raises(LocalError, match="cannot use"):
        await fetch_one(server.url("a"), Options(output=Output(directory=tmp_path / "out")))


async def test_disk_fails(server: Scope, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails on the way is raised, behind the records of what it cost."""

    async def full(self: object, request: object, head: object, held: object) -> None:
        raise LocalError("no space left on device: out")

    monkeypatch.setattr(FilesSink, "open", full)
    records = fetch_all([server.url("a"), server.url("b", hang=1)], options)
    found = [await anext(records), await anext(records)]
    assert {record.error.kind for record in found if record.error} == {ErrorKind.CANCELLED, ErrorKind.DISK}
    with pytest.raises(LocalError, match=r"^no space left on device: out$"):
        await anext(records)
    with pytest.raises(LocalError):
        await fetch_one(server.url("a"), options)


async def test_urls_raise(server: Scope) -> None:
    """An error of the caller's own iterable reaches the caller as it is, and ends the run."""

    def urls() -> Iterator[str]:
        yield server.url("a", hang=1)
        raise KeyError("mine")

    async with asyncio.timeout(10):
        with pytest.raises(KeyError, match="mine"):
            await collect(fetch_all(urls(), NOWHERE))


async def walk(options: Options) -> AsyncIterator[Path]:
    """Yield the files that are bodies, finished or not."""
    for path in options.output.directory.rglob("*"):
        below = path.relative_to(options.output.directory).parts
        if path.is_file() and (below[0] != STATE_DIRECTORY or below[1] == "partial"):
            yield path
