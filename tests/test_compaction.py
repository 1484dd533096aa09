"""Compaction: a journal keeps what still counts and stays in bounds, whatever happens meanwhile."""

import asyncio
import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fetcher import compaction, journal
from fetcher.model import Record, from_line, to_line
from fetcher.replay import Past
from tests.test_journal import Directory, failed, fetched, find


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """The disk's threads."""
    with ThreadPoolExecutor(4) as executor:
        yield executor


@pytest.fixture
def directory(tmp_path: Path, executor: ThreadPoolExecutor) -> Directory:
    """An output directory that does not exist yet."""
    return Directory(tmp_path / "out", executor)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the journal is, it is compacted when that halves it."""
    monkeypatch.setattr(compaction, "LEAST", 0)
    monkeypatch.setattr(compaction, "TIMES", 2)
    monkeypatch.setattr(journal, "TIMES", 2)


async def run(directory: Directory, *records: Record) -> None:
    """Write records as one run does."""
    async with directory.journal() as opened:
        for start in range(0, len(records), 100):
            await opened.write([directory.settled(record) for record in records[start : start + 100]])


def kept(directory: Directory) -> list[Record]:
    """Return the journal's records."""
    return [from_line(line) for line in directory.lines()]


@pytest.mark.usefixtures("eager")
async def test_what_is_kept(directory: Directory) -> None:
    """The latest record of each URL stays, in order, and the latest of each body that it has had; so does what it means."""
    a1, a2 = fetched("http://h/a", "h/a", line=1), fetched("http://H/a", "h/a", line=2)
    b1, b2 = fetched("http://h/b", "h/b", line=3), failed("http://h/b")
    c1, c2 = fetched("http://h/c", "h/c.txt", line=4), fetched("http://h/c", "h/c.html", line=5)
    no = failed("no url")
    records = (a1, b1, no, c1, a1, no, *[a2] * 10, b2, no, *[c2] * 10, b2)
    await run(directory, *(r for r in records if r is not no))
    directory.path.write_bytes(b"".join(map(to_line, records)) + b"garbage\n")
    await run(directory)
    assert kept(directory) == [b1, c1, a2, no, c2, b2]
    directory.remembered.clear()
    async with directory.journal() as opened:
        assert await find(opened, "http://h/a", "http://h/b", "http://h/c") == [a2, b1, c2]
    assert {path for path, _, _ in directory.remembered} == {"h/a", "h/b", "h/c.txt", "h/c.html"}
    assert sorted(path.name for path in directory.path.parent.iterdir()) == ["lock", "partial", "records.ndjson"]


async def test_not_worth_it(directory: Directory) -> None:
    """A short journal stays as it is, and so does one in which most records still count."""
    await run(directory, *[fetched("http://h/a")] * 100)
    assert len(directory.lines()) == 100
    inode = directory.path.stat().st_ino
    many = [fetched(f"http://h/{n % 600}", meta={"x": "y" * 300}) for n in range(2_000)]
    await run(directory, *many)
    assert directory.path.stat().st_size > compaction.LEAST
    assert (len(directory.lines()), directory.path.stat().st_ino) == (2_100, inode)


async def test_failures_alone(directory: Directory) -> None:
    """A list that never succeeds is bounded too."""
    many = [failed(f"http://h/{n}") for n in range(500)]
    for _ in range(6):
        await run(directory, *many)
    assert len(directory.lines()) <= 5 * len(many)
    await run(directory)
    assert kept(directory)[:500] == many


async def test_a_refreshed_list_stays_bounded(directory: Directory) -> None:
    """A list that is fetched anew again and again never has more than a few records per URL."""
    many = [fetched(f"http://h/{n}", f"h/{n % 10}", bytes=5) for n in range(500)]
    most = 0
    for _ in range(25):
        await run(directory, *many)
        most = max(most, len(directory.lines()))
    assert 500 * 3 < most <= 500 * 6
    with Past(directory.root) as past:
        assert [from_line(line) for _, line, _ in past.latest()] == many


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(picked=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=60))
@pytest.mark.usefixtures("eager")
def test_nothing_is_forgotten(tmp_path: Path, executor: ThreadPoolExecutor, picked: list[tuple[int, int]]) -> None:
    """Whatever was recorded, what is found and remembered, and the latest record of each URL, are the same after it."""
    directory = Directory(tmp_path, executor)
    directory.path.unlink(missing_ok=True)
    records = [fetched(f"http://h/{u}", f"h/{u}.{p}", line=n + 1) if p else failed(f"http://h/{u}")
               for n, (u, p) in enumerate(picked)]  # fmt: skip
    urls = sorted({record.url for record in records})

    async def check() -> None:
        for record in records:
            directory.settled(record)
        directory.path.parent.mkdir(exist_ok=True)
        directory.path.write_bytes(b"".join(map(to_line, records)))
        async with directory.journal(writable=False) as opened:
            before = await find(opened, *urls)
        told, directory.remembered = set(directory.remembered), []
        with Past(directory.root) as past:
            latest = [line for _, line, _ in past.latest()]
        await run(directory)
        directory.remembered.clear()
        async with directory.journal(writable=False) as opened:
            assert await find(opened, *urls) == before
        assert set(directory.remembered) == told
        with Past(directory.root) as past:
            assert [line for _, line, _ in past.latest()] == latest

    asyncio.run(check())


@pytest.mark.usefixtures("eager")
async def test_a_reader_meanwhile(directory: Directory) -> None:
    """Who reads the journal while it is replaced goes on reading what was there."""
    old = [fetched("http://h/a", line=n + 1) for n in range(50)]
    directory.path.parent.mkdir(parents=True)
    directory.path.write_bytes(b"".join(map(to_line, old)))
    with Past(directory.root) as past:
        records = past.every()
        next(records)
        await run(directory)
        assert len(directory.lines()) == 1
        assert len(list(records)) == 49
        assert [line for _, line, _ in past.latest()] == [to_line(old[-1])]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("broken", ["open", "write", "fsync", "replace"])
async def test_a_disk_that_fails(directory: Directory, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """What the disk refuses leaves the journal as it was, costs the run nothing, and is done by the next one."""
    records = [fetched("http://h/a", line=n + 1) for n in range(50)]
    await run(directory, records[0])
    directory.path.write_bytes(b"".join(map(to_line, records)))
    real, calls = getattr(os, broken), []

    def fail(target: int | Path, *args: object) -> object:
        name = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)  # noqa: PTH115
        if name.endswith(".new"):
            calls.append(name)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(target, *args)

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        await run(directory)
    assert calls
    assert kept(directory) == records
    assert not (directory.path.parent / "records.ndjson.new").exists()
    await run(directory)
    assert kept(directory) == records[-1:]
