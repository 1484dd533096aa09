"""The journal: what was appended is found again, whatever happened in between."""

import asyncio
import errno
import os
import re
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fetcher.errors import BusyError, Error, ErrorKind, LocalError
from fetcher.events import Settled
from fetcher.journal import Journal
from fetcher.model import Outcome, Record, to_line
from fetcher.urls import parse
from tests.contracts.source_contract import open_descriptors

BODY = b"whole"


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """The disk's threads."""
    with ThreadPoolExecutor(4) as executor:
        yield executor


class Directory:
    """An output directory and its journal."""

    def __init__(self, root: Path, executor: ThreadPoolExecutor) -> None:
        self.root = root
        self.path = root / ".fetcher" / "records.ndjson"
        self.remembered: list[tuple[str, str, str | None]] = []
        self._executor = executor

    def journal(self, *, writable: bool = True) -> Journal:
        """Return a journal, not opened yet."""
        return Journal(self.root, self._executor, lambda *told: self.remembered.append(told), writable=writable)

    @asynccontextmanager
    async def written(self, *records: Record) -> AsyncIterator[Journal]:
        """A journal of these records, closed and opened again, with all files that they name."""
        async with self.journal() as journal:
            await journal.write([self.settled(record) for record in records])
        async with self.journal() as journal:
            yield journal

    def settled(self, record: Record) -> Settled:
        """Store what the record names, and return it ready to be written."""
        if record.path is not None:
            (self.root / record.path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / record.path).write_bytes(BODY)
        return Settled(record, to_line(record), parse(record.url).key)

    def lines(self) -> list[bytes]:
        """Return the journal's lines, which must all be whole."""
        lines = self.path.read_bytes().split(b"\n")
        assert lines.pop() == b""
        return lines


@pytest.fixture
def directory(tmp_path: Path, executor: ThreadPoolExecutor) -> Directory:
    """An output directory that does not exist yet."""
    return Directory(tmp_path / "some" / "out", executor)


def fetched(url: str, path: str | None = "h/a", **more: Any) -> Record:
    """Return the record of a stored body."""
    known: dict[str, Any] = {
        "url": url, "source": "list", "line": 1, "outcome": Outcome.FETCHED, "status": 200, "path": path,
        "bytes": len(BODY), "sha256": "5a",
    }  # fmt: skip
    return Record(**known | more)


def failed(url: str) -> Record:
    """Return the record of a failure."""
    error = Error.of(ErrorKind.DNS, "no address for h")
    return fetched(url, None, outcome=Outcome.FAILED, error=error, bytes=None, sha256=None, status=None)


async def find(journal: Journal, *urls: str) -> list[Record | None]:
    """Return the records of some URLs."""
    return await journal.find([parse(url).key for url in urls])


async def test_append_and_find(directory: Directory) -> None:
    """A record is found by its URL at once, and by the next run; others are not."""
    first, second = fetched("http://h/1", "h/1"), fetched("http://h/2", "h/2", meta={"a": ["\u202e\u00e9"]})
    async with directory.journal() as journal:
        assert await find(journal, "http://h/1") == [None]
        await journal.write([directory.settled(first)])
        await journal.write([directory.settled(second)])
        assert await find(journal, "http://h/2", "http://h/3", "http://h/1") == [second, None, first]
        assert (journal.knows("http://h/1"), journal.knows("http://h/3")) == (True, False)
    async with directory.journal() as journal:
        assert await find(journal, "http://h/2", "http://h/3", "http://h/1") == [second, None, first]
        assert (journal.knows("http://h/1"), journal.knows("http://h/3")) == (True, False)
        assert not journal.notices
    assert directory.lines() == [to_line(first).strip(), to_line(second).strip()]
    assert directory.remembered == [("h/1", "http://h/1", "5a"), ("h/2", "http://h/2", "5a")]


async def test_second_run_appends(directory: Directory) -> None:
    """A run goes on where the last one ended; of two records for a URL the later counts."""
    old, new = fetched("http://h/a", "h/old"), fetched("http://h/a", "h/new")
    async with directory.written(fetched("http://h/b", "h/b"), old) as journal:
        await journal.write([directory.settled(new)])
        assert await find(journal, "http://h/a") == [new]
    async with directory.journal() as journal:
        assert await find(journal, "http://h/a") == [new]
    assert len(directory.lines()) == 3


@pytest.mark.parametrize("outcome", [Outcome.SKIPPED, Outcome.DUPLICATE, Outcome.PLANNED])
async def test_what_is_not_kept(directory: Directory, outcome: Outcome) -> None:
    """Outcomes that only repeat what the journal says are not written."""
    async with directory.written(fetched("http://h/a", outcome=outcome)):
        assert directory.lines() == []


async def test_failures_hide_nothing(directory: Directory) -> None:
    """A failure is kept, but an earlier body stays found, in this run and the next."""
    good = fetched("http://h/a")
    async with directory.written(good, failed("http://h/a"), failed("http://h/b")) as journal:
        assert await find(journal, "http://h/a", "http://h/b") == [good, None]
        await journal.write([directory.settled(failed("http://h/a"))])
        assert await find(journal, "http://h/a") == [good]
    assert len(directory.lines()) == 4


@pytest.mark.parametrize("same", ["http://H/a", "HTTP://h:80/a", "http://h/a#part"])
async def test_other_spellings(directory: Directory, same: str) -> None:
    """Spellings of one URL share a record; another path, port or user does not."""
    good = fetched(same)
    async with directory.written(good) as journal:
        others = "http://h/A", "http://h:81/a", "https://h/a", "http://h/a?", "http://me@h/a"
        assert await find(journal, "http://h/a", *others) == [good, *[None] * len(others)]


async def test_users_do_not_share(directory: Directory) -> None:
    """What one user was given is not another's."""
    async with directory.written(fetched("http://me:1@h/a")) as journal:
        mine, yours, nobodys = await find(journal, "http://me:1@h/a", "http://you:1@h/a", "http://h/a")
        assert mine is not None
        assert yours is nobodys is None


async def test_no_body(directory: Directory) -> None:
    """A response without a body needs no file; one whose body was not kept is not found."""
    empty = fetched("http://h/204", None, bytes=0, sha256=None, status=204)
    counted = fetched("http://h/a", None)
    async with directory.written(empty, counted) as journal:
        assert await find(journal, "http://h/204", "http://h/a") == [empty, None]


@pytest.mark.parametrize("harm", ["missing", "shorter", "longer", "folder", "link"])
async def test_file_that_changed(directory: Directory, harm: str) -> None:
    """A record counts only while its file is there, a plain one of the right size."""
    async with directory.written(fetched("http://h/a")) as journal:
        path = directory.root / "h/a"
        path.unlink()
        match harm:
            case "shorter":
                path.write_bytes(BODY[1:])
            case "longer":
                path.write_bytes(BODY + b"x")
            case "folder":
                path.mkdir()
            case "link":
                (directory.root / "h/b").write_bytes(BODY)
                path.symlink_to("b")
        assert await find(journal, "http://h/a") == [None]
        assert journal.knows("http://h/a")


def digest(body: bytes) -> str:
    """Return the SHA-256 in hex."""
    return sha256(body).hexdigest()


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("body", [BODY, BODY[::-1]])
async def test_what_may_have_been_replaced(directory: Directory, body: bytes, writable: bool) -> None:
    """What a run has begun to fetch again, and not told of, is compared by the next; other files are not."""
    one, other = (fetched(f"http://h/{name}", f"h/{name}", sha256=digest(BODY)) for name in "ab")
    async with directory.written(one, other) as journal:
        await journal.begin([parse(one.url).key, "http://h/unknown"])
    for record in (one, other):
        (directory.root / (record.path or "")).write_bytes(body)
    async with directory.journal(writable=writable) as journal:
        assert await find(journal, one.url, other.url) == [one if body == BODY else None, other]
    left = directory.path.with_name("replacing").exists()
    assert left is (not writable or body != BODY)


@pytest.mark.parametrize(
    ("kind", "retried", "left"),
    [
        (None, (), False),
        (ErrorKind.EXEC, (), False),
        ("http.404", (), False),
        (ErrorKind.TRUNCATED, ("http.503",), False),
        ("http.404", (ErrorKind.TIMEOUT_TOTAL,), True),
        (ErrorKind.CANCELLED, (), True),
        (ErrorKind.DISK, (), True),
        (ErrorKind.INTERNAL, (), True),
    ],
)
async def test_what_was_told(directory: Directory, kind: str | None, retried: tuple[str, ...], left: bool) -> None:
    """A new record ends the doubt about the one before, unless it is that of a failure when the body was in its place."""
    good = fetched("http://h/a", sha256=digest(BODY))
    error = None if kind is None else Error.of(kind, "so")
    outcome = Outcome.FETCHED if error is None else Outcome.FAILED
    async with directory.written(good) as journal:
        await journal.begin([parse(good.url).key])
        await journal.write([directory.settled(replace(good, outcome=outcome, error=error, retried=retried))])
    assert directory.path.with_name("replacing").exists() is left


async def test_doubts_that_cannot_be_kept(directory: Directory) -> None:
    """That something may be replaced has to be noted, or nothing can be."""
    good = fetched("http://h/a")
    async with directory.written(good) as journal:
        directory.path.with_name("replacing").mkdir()
        with pytest.raises(LocalError, match=r"^cannot write .*/replacing: is a directory"):
            await journal.begin([parse(good.url).key])
        directory.path.with_name("replacing").rmdir()


async def test_doubts_do_not_pile_up(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was noted and told of goes from the file now and then, and what is left of a torn line with the first note."""
    monkeypatch.setattr("fetcher.journal._FEW", 10)
    records = [fetched(f"http://h/{number}", f"h/{number}", sha256=digest(BODY)) for number in range(60)]
    noted = directory.path.with_name("replacing")
    async with directory.written(*records) as journal:
        await journal.begin([parse(records[0].url).key])
        for record in records[1:]:
            await journal.begin([parse(record.url).key])
            assert len(noted.read_bytes()) <= 33 * 20
            await journal.write([directory.settled(record)])
    noted.write_bytes(noted.read_bytes()[:-9])
    async with directory.journal() as journal:
        await journal.begin([parse(records[1].url).key])
        assert max(map(len, noted.read_bytes().split())) <= 32
        assert noted.read_bytes().endswith(b"\n")


@pytest.mark.parametrize("writable", [True, False])
async def test_torn_line(directory: Directory, writable: bool) -> None:
    """A last line that was cut short is dropped with a notice, and cut off unless the journal is only read."""
    good = fetched("http://h/a")
    async with directory.written(good):
        pass
    whole = directory.path.read_bytes()
    directory.path.write_bytes(whole + to_line(fetched("http://h/b"))[:-1])
    async with directory.journal(writable=writable) as journal:
        assert await find(journal, "http://h/a", "http://h/b") == [good, None]
        assert journal.notices == [f"{directory.path}: dropped a last line that was cut short"]
        if writable:
            more = fetched("http://h/c", "h/c")
            await journal.write([directory.settled(more)])
            assert await find(journal, "http://h/c") == [more]
            whole += to_line(more)
            assert directory.path.read_bytes() == whole
        else:
            assert directory.path.read_bytes() == whole + to_line(fetched("http://h/b"))[:-1]


GARBAGE = [
    b"", b"garbage", b"\xff\xfe\x00", b"{}", b"[]", b"null", b"17", b'"ok"', b'{"ok": true}', b'{"ok": true, "url": 5}',
    b'{"ok": true, "url": "no url", "path": null}', b'{"ok": true, "url": "http://h/a"}',
    b"[" * 100_000, b'{"ok": true, "url": "http://h/a", "path"',
]  # fmt: skip


async def test_garbage(directory: Directory) -> None:
    """Lines that are no records are ignored, with one notice for all; those around them count."""
    first, last = fetched("http://h/1", "h/1"), fetched("http://h/2", "h/2")
    async with directory.written(first):
        pass
    with directory.path.open("ab") as file:
        file.write(b"".join(line + b"\n" for line in GARBAGE) + to_line(last))
    (directory.root / "h/2").write_bytes(BODY)
    async with directory.journal() as journal:
        assert await find(journal, "http://h/1", "http://h/2", "http://h/a") == [first, last, None]
        (notice,) = journal.notices
        assert notice == f"{directory.path}: 14 damaged lines ignored; what they told is fetched again"


@pytest.mark.parametrize(
    "line",
    [
        b'{"ok": true, "url": "http://h/a", "path": 5, "sha256": "5a"}',
        b'{"ok": true, "url": "http://h/a", "path": "h/a", "sha256": "5a"}',
        b'{"ok": true, "url": "http://h/a", "path": null, "outcome": "strange"}',
        b'{"ok": true, "url": "http://h/a", "path": ["h"], "sha256": "5a", "outcome": "fetched", "source": "", "line": 1}',
        b'{"ok": true, "url": "http://h/a", "path": "a\\u0000b", "sha256": "5a", "outcome": "fetched", "source": "", "line": 1}',
    ],
)
async def test_almost_a_record(directory: Directory, line: bytes) -> None:
    """A line that looks like a record until it is read is no record."""
    directory.path.parent.mkdir(parents=True)
    directory.path.write_bytes(line + b"\n")
    async with directory.journal() as journal:
        assert await find(journal, "http://h/a") == [None]


async def test_a_damaged_end_of_a_line(directory: Directory) -> None:
    """A line whose first half alone can be read is no record when it is asked for, and hides none of the others."""
    good, other = fetched("http://h/a"), fetched("http://h/b", "h/b")
    async with directory.written(good, other):
        pass
    first, *rest = directory.path.read_bytes().splitlines(keepends=True)
    directory.path.write_bytes(b"".join([first[:-40] + b"\0" * 39 + b"\n", *rest]))
    (directory.root / "h/b").write_bytes(BODY)
    async with directory.journal() as journal:
        assert await find(journal, "http://h/a", "http://h/b") == [None, other]


async def test_busy(directory: Directory) -> None:
    """A second run on the directory is refused, told who has it, and changes nothing; it may start when that ends."""
    async with directory.journal() as first:
        since = datetime.fromtimestamp((directory.root / ".fetcher/lock").stat().st_mtime).strftime("%H:%M:%S")  # noqa: DTZ006
        said = f"another fetcher (pid {os.getpid()}, since {since}) is using {directory.root}"
        with pytest.raises(BusyError, match=f"^{re.escape(said)}$"):
            async with directory.journal():
                pytest.fail("two runs at once")
        await first.write([directory.settled(fetched("http://h/a"))])
    async with directory.journal() as second:
        assert len(await find(second, "http://h/a")) == 1


async def test_lock_of_a_dead_run(directory: Directory) -> None:
    """A run that was killed holds nothing."""
    program = (
        "import fcntl, os, sys; lock = open(sys.argv[1], 'w'); fcntl.flock(lock, fcntl.LOCK_EX);"
        "lock.write('999'); lock.flush(); os.kill(os.getpid(), 9)"
    )
    (directory.root / ".fetcher").mkdir(parents=True)
    run = await asyncio.create_subprocess_exec(sys.executable, "-c", program, directory.root / ".fetcher" / "lock")
    assert await run.wait() == -9
    async with directory.journal():
        assert (directory.root / ".fetcher" / "lock").read_text() == f"{os.getpid()}\n"


async def test_reading_alone(directory: Directory) -> None:
    """A journal that is only read makes nothing, locks nothing, and works beside a run."""
    async with directory.journal(writable=False) as journal:
        assert await find(journal, "http://h/a") == [None]
    assert not directory.root.exists()
    good = fetched("http://h/a")
    async with directory.written(good), directory.journal(writable=False) as journal:
        assert await find(journal, "http://h/a") == [good]


async def test_closing(directory: Directory, executor: ThreadPoolExecutor) -> None:
    """A closed journal leaves nothing open, nor does one that could not be opened."""
    before = open_descriptors()
    async with directory.written(fetched("http://h/a")) as journal:
        assert await find(journal, "http://h/a") != [None]
        with pytest.raises(BusyError):
            await directory.journal().__aenter__()
    directory.path.unlink()
    directory.path.mkdir()
    with pytest.raises(LocalError, match=f"^cannot use {directory.path}: is a directory$"):
        await directory.journal().__aenter__()
    assert open_descriptors() <= before


async def test_directory_that_cannot_be(directory: Directory) -> None:
    """A directory that cannot be made is named."""
    directory.root.parent.write_bytes(b"a file")
    with pytest.raises(LocalError, match=f"^cannot use {directory.root}.*: not a directory$"):
        await directory.journal().__aenter__()


async def test_cancelled_opening(directory: Directory) -> None:
    """An opening that is cancelled at any step keeps no lock."""
    before = open_descriptors()
    for steps in range(12):
        task = asyncio.create_task(directory.journal().__aenter__())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        if not task.cancelled():
            await done.pop().result().__aexit__()
        assert open_descriptors() <= before


@pytest.mark.parametrize("taken", [0, 1, 40, 10_000])
async def test_full_disk(directory: Directory, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    """A batch that the disk takes only in part is a LocalError; whole lines remain, and a later batch fits behind."""
    first, lost, later = (fetched(f"http://h/{name}", f"h/{name}") for name in ("first", "lost", "later"))
    room = len(to_line(first)) + taken
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if not os.fstat(descriptor).st_size < room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[: room - os.fstat(descriptor).st_size])

    async with directory.journal() as journal:
        await journal.write([directory.settled(first)])
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            with pytest.raises(LocalError, match=f"^no space left on device: {directory.path}$"):
                await journal.write([directory.settled(lost)] * 50)
        assert directory.lines() == [to_line(first).strip()]
        await journal.write([directory.settled(later)])
        assert await find(journal, "http://h/first", "http://h/lost", "http://h/later") == [first, None, later]


async def test_synced_once(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced when the journal is closed, on the disk's threads, and nothing else ever is."""
    synced: list[tuple[Path, int, bool]] = []

    def fsync(descriptor: int) -> None:
        file = os.fstat(descriptor)
        synced.append(
            (Path(f"/proc/self/fd/{descriptor}").readlink(), file.st_size, threading.main_thread().ident == me())
        )

    me = threading.get_ident
    monkeypatch.setattr(os, "fsync", fsync)
    async with directory.journal() as journal:
        await journal.write([directory.settled(fetched("http://h/a"))])
        await journal.write([directory.settled(fetched("http://h/b", "h/b"))])
        assert synced == []
    assert synced == [(directory.path, directory.path.stat().st_size, False)]
    async with directory.journal(writable=False):
        pass
    assert len(synced) == 1


async def test_unsyncable(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that cannot keep the file is a LocalError, and leaves nothing open."""

    def fsync(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    before = open_descriptors()
    journal = await directory.journal().__aenter__()
    with pytest.raises(LocalError, match=f"^input/output error: {directory.path}$"):
        await journal.__aexit__()
    assert open_descriptors() <= before


async def test_journal_that_vanished(directory: Directory) -> None:
    """A journal that somebody removes meanwhile still knows what it knew."""
    good = fetched("http://h/a")
    async with directory.written(good) as journal:
        directory.path.unlink()
        assert await find(journal, "http://h/a") == [good]


async def test_looking_while_writing(directory: Directory) -> None:
    """Look-ups on several threads, with writing going on, disturb each other in nothing."""
    records = [fetched(f"http://h/{n}", "h/a", meta={"x": "y" * (n * 37 % 9_000)}) for n in range(400)]
    urls = [record.url for record in records]
    async with directory.written(*records[:200]) as journal:
        for start in range(200, 400, 10):
            looking = [find(journal, *urls[first:200:7]) for first in range(7)]
            batch = [directory.settled(record) for record in records[start : start + 10]]
            *found, _ = await asyncio.gather(*looking, journal.write(batch))
            assert found == [records[first:200:7] for first in range(7)]
        assert await find(journal, *urls) == records


def appended(count: int) -> list[bytes]:
    """Return a journal's lines: bodies, now and then a failure, of many lengths."""
    records = [
        fetched(f"http://h/{n}", "h/a", meta={"x": "\u20ac" * n}) if n % 5 else failed(f"http://h/{n}")
        for n in range(count)
    ]
    return [to_line(record) for record in records]


LINES = appended(12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(cut=st.integers(0, sum(map(len, LINES))))
def test_cut_anywhere(tmp_path: Path, executor: ThreadPoolExecutor, cut: int) -> None:
    """Of a journal cut at any byte all whole lines are found and nothing else, and the next line fits behind."""
    directory = Directory(tmp_path, executor)
    directory.path.parent.mkdir(exist_ok=True)
    directory.path.write_bytes(b"".join(LINES)[:cut])
    whole = next(n for n in range(len(LINES), -1, -1) if len(b"".join(LINES[:n])) <= cut)
    more = fetched("http://h/more")

    async def check() -> None:
        async with directory.journal() as journal:
            assert len(journal.notices) == (cut > len(b"".join(LINES[:whole])))
            await journal.write([directory.settled(more)])
            found = await find(journal, *(f"http://h/{n}" for n in range(len(LINES))), more.url)
            assert [record is not None for record in found] == [
                *(bool(n < whole and n % 5) for n in range(len(LINES))),
                True,
            ]

    asyncio.run(check())
    assert directory.path.read_bytes() == b"".join([*LINES[:whole], to_line(more)])
