"""Bodies in archives: what every place for bodies keeps, and what the readers of each format make of them."""

import errno
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fastwarc.warc import ArchiveIterator as FastReader
from fastwarc.warc import WarcRecordType
from warcio.archiveiterator import ArchiveIterator
from warcio.checker import Checker

from fetcher.details import Details
from fetcher.disk import Disk
from fetcher.errors import ErrorKind, FetchError, LocalError
from fetcher.exchange import Exchange
from fetcher.model import Head, Outcome, Record, Stored
from fetcher.options import Format
from fetcher.sinks import parquet, shards, spool
from fetcher.sinks.formats import Reader, archive, mend_all
from fetcher.sinks.shards import Rotation, ShardsSink
from tests.answers import body_of
from tests.contracts.sink_contract import Place, SinkContract, cut, head, request, store
from tests.fakes import Clock

FORMATS = [Format.WARC, Format.TAR, Format.PARQUET]


class Archives:
    """An output directory with archives of one format, looked at from outside with others' readers."""

    def __init__(self, root: Path, form: Format, disk: Disk) -> None:
        self.root = root
        self.form = form
        self._disk = disk

    def sink(self, size: int = 1_000_000_000, first: int = 1, step: int = 1) -> ShardsSink:
        """Return a sink, not opened yet."""
        rotation = Rotation(size=size, first=first, step=step)
        return ShardsSink(self.root, archive(self.form), rotation, self._disk, Clock())

    def finished(self) -> list[Path]:
        """Return the archives that have their names."""
        return sorted(path for path in self.root.iterdir() if path.is_file())

    def growing(self) -> list[Path]:
        """Return those that have not."""
        return sorted((self.root / ".fetcher/open").iterdir())

    def hidden(self) -> list[str]:
        """Return the names of bodies on their way."""
        return [path.name for path in (self.root / ".fetcher/partial").iterdir()]

    def shown(self) -> dict[str, bytes]:
        """Return every body by its archive and where it begins there."""
        found: dict[str, bytes] = {}
        for path in self.growing() + self.finished():
            growing_rows = self.form is Format.PARQUET and path in self.growing()
            read = _samples if growing_rows else READERS[self.form]
            bodies = read(path)
            rows = enumerate(body for _, body in bodies) if self.form is Format.PARQUET else bodies
            found |= {f"{path.name}@{place}": body for place, body in rows}
        return found


def where(stored: Stored) -> str:
    """Return the place of a stored body as :meth:`Archives.shown` tells it."""
    return f"{stored.path}@{stored.offset}"


def _samples(path: Path) -> Iterator[tuple[int, bytes]]:
    with tarfile.open(path) as file:
        members = file.getmembers()
        for body, facts in zip(members[::2], members[1::2], strict=True):
            assert facts.name == f"{body.name.partition('.')[0]}.json"
            stream = file.extractfile(body)
            assert stream is not None
            yield body.offset, stream.read()


def _responses(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for record in FastReader(file, record_types=WarcRecordType.response, auto_decode="none", verify_digests=True):
            yield record.stream_pos, record.reader.read()


def _rows(path: Path) -> Iterator[tuple[int, bytes]]:
    yield from enumerate(pq.read_table(path)["body"].to_pylist())


READERS: dict[Format, Callable[[Path], Iterator[tuple[int, bytes]]]] = {
    Format.WARC: _responses,
    Format.TAR: _samples,
    Format.PARQUET: _rows,
}


@pytest.fixture
def disk() -> Iterator[Disk]:
    """The disk's threads."""
    with Disk() as disk:
        yield disk


@pytest.fixture(params=FORMATS)
def archives(request: pytest.FixtureRequest, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Archives:
    """An output directory of each format; bodies are gathered in blocks of 1,000 bytes."""
    monkeypatch.setattr(spool, "BLOCK", 1_000)
    return Archives(tmp_path / "out", request.param, disk)


@pytest.fixture
async def sink(archives: Archives) -> AsyncIterator[ShardsSink]:
    """An open sink."""
    async with archives.sink() as sink:
        yield sink


class TestArchives(SinkContract):
    @pytest.fixture
    def place(self, archives: Archives, sink: ShardsSink) -> Place:
        """Archives of each format."""
        return Place(sink, archives.shown, archives.hidden, where)


def read(archives: Archives, stored: Stored) -> bytes:
    """Return a body as ``fetcher verify`` reads it."""
    assert stored.path is not None
    record = Record(url="u", source="s", line=1, outcome=Outcome.FETCHED, offset=stored.offset, length=stored.length)
    path = archives.root / stored.path
    path = path if path.exists() else archives.root / ".fetcher/open" / stored.path
    return b"".join(Reader().body_in(path, record))


BODIES = {f"http://h/{n}": body_of(str(n), n * 700) for n in range(12)}


async def fill(sink: ShardsSink) -> dict[str, Stored]:
    """Store every body."""
    return {url: await store(sink, url, cut(body, 600)) for url, body in BODIES.items()}


async def test_read_again(archives: Archives) -> None:
    """Each body is found where it is said to be, while its archive grows and when it is finished."""
    async with archives.sink(size=6_000) as sink:
        stored = await fill(sink)
        assert archives.growing()
        assert {url: read(archives, each) for url, each in stored.items()} == BODIES
    assert not archives.growing()
    assert {url: read(archives, each) for url, each in stored.items()} == BODIES
    assert len({each.path for each in stored.values()}) == len(archives.finished()) > 2
    assert all(path.name.startswith("fetcher-") for path in archives.finished())


async def test_rotated_by_count(archives: Archives) -> None:
    """An archive takes so many bodies and no more, whatever they have of bytes."""
    rotation = Rotation(size=1_000_000_000, count=5)
    async with ShardsSink(archives.root, archive(archives.form), rotation, archives._disk, Clock()) as sink:
        await fill(sink)
    held = [place.partition("@")[0] for place in archives.shown()]
    assert [held.count(path.name) for path in archives.finished()] == [5, 5, 2]


async def test_processes_number_differently(archives: Archives) -> None:
    """Two processes of one directory never have the same archive, and what has a name already keeps it."""
    async with AsyncExitStack() as stack:
        sinks = [await stack.enter_async_context(archives.sink(1, first, 2)) for first in (1, 2, 1)]
        paths = [(await store(sink, "http://h/a", [b"x"])).path for sink in sinks for _ in range(3)]
    assert len(set(paths)) == 9
    assert archives.shown().keys() >= set()
    assert {path.name for path in archives.finished()} == set(paths)


@pytest.mark.parametrize("at", [0, 1, 300, 511, 1_100, 2_000, -1_200, -1, None])
async def test_mended(archives: Archives, at: int | None) -> None:
    """What a crash leaves at any point is cut back to the last whole body, and finished under its name."""
    sink = archives.sink()
    await sink.__aenter__()
    stored = await fill(sink)
    [path] = archives.growing()
    before = archives.shown()
    size = path.stat().st_size
    cut_at = size if at is None else at % size
    os.truncate(path, cut_at)
    mend_all(archives.root)
    assert not archives.growing()
    after = archives.shown()
    assert after.items() <= before.items()
    whole = {where(each) for each in stored.values() if (each.offset or 0) + (each.length or size) <= cut_at}
    assert after.keys() >= whole
    assert len(after) == {None: 12, -1_200: 11}.get(at, len(after))
    assert bool(after) == bool(archives.finished())
    for url, each in stored.items():
        if where(each) in after:
            assert read(archives, each) == BODIES[url]
    mend_all(archives.root)
    assert archives.shown() == after


@pytest.mark.parametrize("step", ["replace", "unlink"])
async def test_killed_while_finishing(archives: Archives, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finishing may end at any step; the next run does it again."""

    class Killed(BaseException):
        pass

    def fail(*args: object, **named: object) -> None:
        raise Killed

    sink = archives.sink()
    await sink.__aenter__()
    stored = await fill(sink)
    [path] = archives.growing()
    with monkeypatch.context() as patch:
        patch.setattr(Path, step, fail)
        if step == "replace" or archives.form is Format.PARQUET:
            with pytest.raises(Killed):
                archive(archives.form).finish(path, archives.root / path.name)
    mend_all(archives.root)
    assert not archives.growing()
    assert {url: read(archives, each) for url, each in stored.items()} == BODIES


async def test_full_disk(archives: Archives, sink: ShardsSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not fit leaves nothing of itself behind the others, and the next one does not notice."""
    first = await store(sink, "http://h/a", [b"first"])

    def fail(descriptor: int, block: bytes) -> None:
        os.write(descriptor, block[: len(block) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_all", fail)
        with pytest.raises(LocalError, match="no space left"):
            await store(sink, "http://h/b", [b"second"])
    assert [*archives.shown().values()] == [b"first"]
    third = await store(sink, "http://h/c", [b"third"])
    assert (read(archives, first), read(archives, third)) == (b"first", b"third")


def in_another_process(program: str, argument: object) -> Any:
    """Return what a program calls ``result``; it runs a reader that leaves things behind where it was."""
    whole = f"import json, sys\nargument = sys.argv[1]\n{program}\nprint(json.dumps(result))"
    ran = subprocess.run([sys.executable, "-c", whole, str(argument)], check=True, capture_output=True, text=True)
    return json.loads(ran.stdout)


async def test_nothing_fits(archives: Archives, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that got no body is removed, not finished."""

    def fail(descriptor: int, block: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with archives.sink() as sink:
        with monkeypatch.context() as patch:
            patch.setattr(type(sink.archive), "append", lambda *_: fail(0, b""))
            with pytest.raises(LocalError):
                await store(sink, "http://h/a", [b"body"])
        assert archives.growing()
    assert not archives.growing()
    assert not archives.finished()


async def test_a_wrong_digest(archives: Archives, sink: ShardsSink) -> None:
    """A body that the list expects to be another is not kept; that of a WARC was compared before, decoded."""
    expecting = replace(request("http://h/a"), details=Details(sha256="0" * 64))
    writer = await sink.open(expecting, head("http://h/a"))
    await writer.write(b"other")
    if sink.wants_wire:
        await writer.commit()
        return
    with pytest.raises(FetchError) as refused:
        await writer.commit()
    await writer.abort()
    assert refused.value.kind == ErrorKind.CHECKSUM
    assert not archives.shown()


async def test_labels_come_along(tmp_path: Path, disk: Disk) -> None:
    """What else a row of the list says stands beside the body: an object in tar, JSON in Parquet."""
    labelled = replace(request("http://h/a"), details=Details(id="one", meta={"label": "cat", "n": [1]}))
    for form in (Format.TAR, Format.PARQUET):
        archives = Archives(tmp_path / form, form, disk)
        async with archives.sink() as sink:
            await (await sink.open(labelled, head("http://h/a"))).commit()
    with tarfile.open(next((tmp_path / "tar").glob("*.tar"))) as file:
        stream = file.extractfile(file.getmembers()[1])
        assert stream is not None
        facts = json.load(stream)
    [row] = pq.read_table(next((tmp_path / "parquet").glob("*.parquet"))).to_pylist()
    assert (facts["id"], facts["meta"]) == (row["id"], json.loads(row["meta"])) == ("one", {"label": "cat", "n": [1]})


async def test_tar_is_a_web_dataset(tmp_path: Path, disk: Disk) -> None:
    """WebDataset takes each body and its facts for one sample, whatever its extension."""
    archives = Archives(tmp_path, Format.TAR, disk)
    async with archives.sink() as sink:
        for n, name in enumerate(("a.JPG", "b", "c.tar.gz", "d.json", "e.f/", "g.1?x=.h#.i", ".png")):
            writer = await sink.open(request(f"http://u:p@h/{name}", n), replace(head("http://h/"), content_type=None))
            await writer.write(b'{"n": 1}')
            await writer.commit()
    [path] = archives.finished()
    program = (
        "import webdataset; result = [{k: str(v, 'utf-8') if isinstance(v, bytes) else v for k, v in each.items()} "
    )
    samples = in_another_process(program + "for each in webdataset.WebDataset(argument, shardshuffle=False)]", path)
    known = {"json", "__key__", "__url__", "__local_path__"}
    bodies = [next(key for key in sample if key not in known) for sample in samples]
    assert bodies == ["jpg", "bin", "gz", "body.json", "bin", "bin", "bin"]
    assert all(sample[key] == '{"n": 1}' for sample, key in zip(samples, bodies, strict=True))
    facts = [json.loads(sample["json"]) for sample in samples]
    assert [each["line"] for each in facts] == list(range(1, 8))
    assert facts[0]["sha256"] == sha256(b'{"n": 1}').hexdigest()
    assert all("." not in sample["__key__"] for sample in samples)


async def test_parquet_is_queried(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB and pyarrow read what is known of each body beside it, in row groups of bounded size."""
    monkeypatch.setattr(parquet, "_GROUP", 10_000)
    archives = Archives(tmp_path, Format.PARQUET, disk)
    async with archives.sink() as sink:
        stored = await fill(sink)
    [path] = archives.finished()
    query = f"select url, bytes, sha256, sha256(body), year(fetched_at) from '{path}'"
    found = in_another_process("import duckdb; result = duckdb.sql(argument).fetchall()", query)
    assert found == [[url, each.bytes, each.sha256, each.sha256, 2023] for url, each in stored.items()]
    groups = pq.ParquetFile(path).metadata
    sizes = [sum(len(body) for body in list(BODIES.values())[start : start + 1]) for start in range(12)]
    assert groups.num_row_groups > 3
    assert max(groups.row_group(n).total_byte_size for n in range(groups.num_row_groups)) < 10_000 + max(sizes) + 5_000


async def test_parquet_bounds_a_body(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is held in memory by who reads it, so a very large body is refused."""
    monkeypatch.setattr(parquet.ParquetArchive, "most", 1_000)
    async with Archives(tmp_path, Format.PARQUET, disk).sink() as sink:
        assert (await store(sink, "http://h/a", [b"x" * 1_000])).bytes == 1_000
        with pytest.raises(FetchError, match=r"more than 1\.00 kB") as refused:
            await store(sink, "http://h/b", [b"x" * 1_000, b"x"])
    assert refused.value.kind == ErrorKind.TOO_LARGE


@pytest.fixture
def warcs(tmp_path: Path, disk: Disk) -> Archives:
    """A directory of WARC files."""
    return Archives(tmp_path, Format.WARC, disk)


def exchange(url: str, *fields: tuple[str, str], status: int = 200, version: str = "1.1") -> Exchange:
    """Return an exchange with these header fields of the response."""
    asked = (("User-Agent", "fetcher/1"), ("Authorization", "Basic SECRET"), ("X-Key", "SECRET"), ("Accept", "*/*"))
    return Exchange(url, asked, status, "OK", fields, version, "192.0.2.1")


async def put(sink: ShardsSink, body: bytes, *exchanges: Exchange) -> Stored:
    """Store what a fetch with these exchanges has brought."""
    last = exchanges[-1]
    writer = await sink.open(request("http://h/listed"), Head(status=200, url=last.url, exchanges=exchanges))
    await writer.write(body)
    return await writer.commit()


def records(path: Path) -> list[Any]:
    """Return the records of a WARC file as warcio sees them, each with its ``body``, as it was sent and decoded."""
    found = []
    with path.open("rb") as file:
        for record in ArchiveIterator(file, check_digests="raise"):
            decoding = record.rec_type == "response"
            record.body = record.content_stream().read() if decoding else record.raw_stream.read()
            found.append(record)
    return found


def checked(path: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """Return the status of ``warcio check``, which must have looked at a digest."""
    checker = Checker(type("Command", (), {"inputs": [str(path)], "verbose": True}))
    checker.process_all()
    told = capsys.readouterr().out
    assert "digest pass" in told
    assert "no digest to check" not in told
    return int(checker.exit_value)


async def test_warc_holds_what_was_sent(warcs: Archives, capsys: pytest.CaptureFixture[str]) -> None:
    """Readers get the body decoded as its fields say; the transfer coding, which is gone, is told as history."""
    coded = gzip.compress(b"body" * 500)
    fields = (
        ("content-encoding", "gzip"),
        ("transfer-encoding", "chunked"),
        ("x", "b\u00e9\r\nInjected: 1"),
        ("x", "c"),
    )
    async with warcs.sink() as sink:
        stored = await put(sink, coded, exchange("http://h/a?b", *fields, version="2"))
    [path] = warcs.finished()
    assert checked(path, capsys) == 0
    about, response, asked = records(path)
    assert about.rec_headers["WARC-Filename"] == path.name
    assert (stored.bytes, stored.sha256) == (len(coded), sha256(coded).hexdigest())
    assert response.body == b"body" * 500
    assert response.rec_headers["WARC-Target-URI"] == "http://h/a?b"
    assert response.rec_headers["WARC-IP-Address"] == "192.0.2.1"
    assert response.rec_headers["WARC-Protocol"] == "h2"
    assert response.http_headers.get_statuscode() == "200"
    assert response.http_headers["x-archive-orig-transfer-encoding"] == "chunked"
    assert response.http_headers["content-length"] == str(len(coded))
    assert response.http_headers["Injected"] is None
    assert asked.rec_headers["WARC-Concurrent-To"] == response.rec_headers["WARC-Record-ID"]
    assert asked.http_headers.headers == [("Host", "h"), ("User-Agent", "fetcher/1"), ("Accept", "*/*")]
    assert asked.http_headers.statusline == "/a?b HTTP/1.1"


async def test_warc_members(warcs: Archives) -> None:
    """Each record is a gzip member, and a body's is found by its offset and length alone."""
    async with warcs.sink() as sink:
        await put(sink, b"first", exchange("http://h/a"))
        stored = await put(sink, b"second", exchange("http://h/b"))
    data = warcs.finished()[0].read_bytes()
    assert stored.offset is not None
    assert stored.length is not None
    member = data[stored.offset : stored.offset + stored.length]
    assert gzip.decompress(member).startswith(b"WARC/1.1\r\nWARC-Type: response\r\n")
    assert gzip.decompress(member).endswith(b"\r\n\r\nsecond\r\n\r\n")
    assert [record.reader.read() for record in FastReader(io.BytesIO(member))] == [b"second"]


async def test_warc_stores_equal_bodies_once(warcs: Archives, capsys: pytest.CaptureFixture[str]) -> None:
    """An equal body is a revisit record, also when the first is in a finished file; both are said to be there."""
    body = b"x" * 1_000
    async with warcs.sink(size=1) as sink:
        first = await put(sink, body, exchange("http://h/a"))
        again = await put(sink, body, exchange("http://h/b", ("content-length", "1000")))
        other = await put(sink, body + b"!", exchange("http://h/c"))
        small = [await put(sink, b"small", exchange("http://h/d")) for _ in range(2)]
    assert first == again != other
    assert small[0].path != small[1].path
    assert read(warcs, again) == body
    paths = warcs.finished()
    assert [checked(path, capsys) for path in paths] == [0] * len(paths)
    (
        _,
        response,
        _,
    ) = records(paths[0])
    _, revisit, _ = records(paths[1])
    assert revisit.rec_type == "revisit"
    assert revisit.rec_headers["WARC-Profile"].endswith("/revisit/identical-payload-digest")
    assert revisit.rec_headers["WARC-Payload-Digest"] == response.rec_headers["WARC-Payload-Digest"]
    assert revisit.rec_headers["WARC-Refers-To-Target-URI"] == "http://h/a"
    assert revisit.rec_headers["WARC-Refers-To-Date"] == response.rec_headers["WARC-Date"]
    assert revisit.http_headers["content-length"] == "1000"


async def test_warc_follows_redirects(warcs: Archives, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever replays the listed URL is led where the fetch was; bodies of redirects are not kept, and it says so."""
    moved = exchange(
        "http://h/listed", ("location", "/b"), ("content-length", "9"), ("content-encoding", "gzip"), status=301
    )
    async with warcs.sink() as sink:
        stored = await put(sink, b"there", moved, exchange("http://h/b"))
    [path] = warcs.finished()
    assert checked(path, capsys) == 0
    _, first, _, second, _ = records(path)
    assert first.rec_headers["WARC-Target-URI"] == "http://h/listed"
    assert first.rec_headers["WARC-Truncated"] == "unspecified"
    assert (first.http_headers.get_statuscode(), first.http_headers["location"]) == ("301", "/b")
    assert (first.http_headers["content-length"], first.http_headers["content-encoding"]) == ("0", None)
    assert (first.body, second.body) == (b"", b"there")
    assert read(warcs, stored) == b"there"
