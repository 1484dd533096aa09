"""Lists of URLs as files, gzip, pipes, terminals and arguments."""

import asyncio
import gzip
import os
import pty
import sys
import tempfile
import threading
import zlib
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from io import FileIO
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from fetcher.errors import ErrorKind, UsageError
from fetcher.model import Row
from fetcher.sources import opener
from fetcher.sources.argv import ArgvSource
from fetcher.sources.base import ReadError
from fetcher.sources.framing import MAX_LINE, Framer
from fetcher.sources.listfile import ListSource
from fetcher.sources.opener import check, chunks
from fetcher.sources.text import parse, tally
from tests.contracts.source_contract import Make, SourceContract, collect, open_descriptors
from tests.lists import list_at


def listed(urls: Sequence[str]) -> bytes:
    """Return a list file's bytes."""
    return "".join(f"{url}\n" for url in urls).encode()


def write_and_close(descriptor: int, data: bytes) -> None:
    """Write all the data, as far as somebody reads them."""
    with suppress(BrokenPipeError), os.fdopen(descriptor, "wb", buffering=0) as stream:
        view = memoryview(data)
        while view:
            view = view[stream.write(view) or 0 :]


@dataclass(frozen=True, slots=True)
class Pipe:
    """Both ends of a pipe; closing one twice is harmless."""

    read: FileIO
    write: FileIO


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe that is closed at the end."""
    read, write = os.pipe()
    with FileIO(read, "rb") as reading, FileIO(write, "wb") as writing:
        yield Pipe(reading, writing)


class TestFile(SourceContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        """A plain file."""

        def make(urls: Sequence[str]) -> ListSource:
            path = tmp_path / "urls.txt"
            path.write_bytes(listed(urls))
            return list_at(str(path))

        return make


class TestGzip(SourceContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        """A gzip file of two members and padding, under any name."""

        def make(urls: Sequence[str]) -> ListSource:
            data = listed(urls)
            path = tmp_path / "urls"
            path.write_bytes(gzip.compress(data[:1000], 1) + gzip.compress(data[1000:], 1) + bytes(600))
            return list_at(str(path))

        return make


class TestPipe(SourceContract):
    @pytest.fixture
    def make(self) -> Iterator[Make]:
        """A pipe, as standard input often is."""
        reads: list[int] = []
        threads: list[threading.Thread] = []

        def make(urls: Sequence[str]) -> ListSource:
            read, write = os.pipe()
            reads.append(read)
            thread = threading.Thread(target=write_and_close, args=(write, listed(urls)))
            threads.append(thread)
            thread.start()
            return list_at("-", read)

        yield make
        for read in reads:
            os.close(read)
        for thread in threads:
            thread.join()


class TestArgv(SourceContract):
    @pytest.fixture
    def make(self) -> Make:
        """Arguments of the command line."""
        return lambda urls: ArgvSource(enumerate(urls, 1))


async def test_argv_positions() -> None:
    """Arguments keep their position, and bytes that are no text are shown and refused."""
    rows = await collect(ArgvSource([(2, "http://h/a "), (5, os.fsdecode(b"http://h/caf\xe9")), (6, "http://h/\xe9")]))
    assert [(row.source, row.line, row.text) for row in rows] == [
        ("argv", 2, "http://h/a"),
        ("argv", 5, "http://h/caf\\xe9"),
        ("argv", 6, "http://h/\xe9"),
    ]
    assert [row.error and row.error.message for row in rows] == [
        None,
        'not UTF-8: "http://h/caf\\xe9" (argv:5); write the byte \\xe9 as %E9',
        None,
    ]


@given(st.text(st.characters(exclude_categories=())))
async def test_argv_any_text(url: str) -> None:
    """Whatever the argument is, its row can be written as UTF-8."""
    [row] = await collect(ArgvSource([(1, url)]))
    row.text.encode()


# The format of lines.


def rows_of(pieces: Iterable[bytes], limit: int = MAX_LINE) -> list[Row]:
    """Return the rows of a list that comes in the given pieces."""
    framer = Framer(limit)
    framed = [lines for piece in pieces for lines in framer.feed(piece)] + list(framer.end())
    rows = [row for lines in framed for row in parse("urls.txt", lines, "url")]
    assert sum(map(tally, framed)) == len(rows)
    return rows


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n\n \t\r\n", []),
        (b"http://h/a", [(1, "http://h/a")]),
        (b"http://h/a\nhttp://h/b\n", [(1, "http://h/a"), (2, "http://h/b")]),
        (b"http://h/a\r\nhttp://h/b\r", [(1, "http://h/a"), (2, "http://h/b")]),
        (b" \thttp://h/a\t \n", [(1, "http://h/a")]),
        (b"# c\n\n  # c\nhttp://h/a#b #c\n", [(4, "http://h/a#b #c")]),
        (b"\xef\xbb\xbfhttp://h/a\n", [(1, "http://h/a")]),
        (b"\xef\xbb\xbf# c\nhttp://h/a\n", [(2, "http://h/a")]),
        (b"\xef\xbb\xbf", []),
        (b"http://h/\xc3\xa9\n", [(1, "http://h/é")]),
        (b"http://h/\xe2\x80\xa8\xc2\x85x\x0b\x0c\n", [(1, "http://h/\u2028\x85x\x0b\x0c")]),
        (b"a\0b\n\x1b[m\n", [(1, "a\0b"), (2, "\x1b[m")]),
    ],
)
def test_lines(data: bytes, expected: list[tuple[int, str]]) -> None:
    """Blanks, comments, line ends and byte order marks are understood, everything else is kept."""
    assert [(row.line, row.text) for row in rows_of([data])] == expected
    assert not any(row.error for row in rows_of([data]))


def test_not_utf8() -> None:
    """A line that is not UTF-8 is an invalid URL with its bytes shown; its neighbours are not touched."""
    first, bad, last = rows_of([b"http://h/\xc3\xa9\n\n http://h/caf\xe9 \nhttp://h/b\n# \xe9\n"])
    assert (first.text, first.error, last.text, last.line, last.error) == ("http://h/é", None, "http://h/b", 4, None)
    assert (bad.line, bad.text) == (3, "http://h/caf\\xe9")
    assert bad.error is not None
    assert bad.error.kind == ErrorKind.INVALID_URL
    assert bad.error.message == 'not UTF-8: "http://h/caf\\xe9" (urls.txt:3); write the byte \\xe9 as %E9'


@pytest.mark.parametrize("end", [b"", b"\n", b"\nhttp://h/b\n"])
def test_line_too_long(end: bytes) -> None:
    """A line above 1 MiB is one row that says its length and holds its first MiB."""
    line = b"http://h/" + b"x" * (3 * MAX_LINE)
    data = b"# c\n" + line + end
    rows = rows_of(data[start : start + 70_000] for start in range(0, len(data), 70_000))
    assert (rows[0].line, rows[0].text.encode()) == (2, line[:MAX_LINE])
    assert rows[0].error is not None
    assert rows[0].error.message == "line too long: 3,145,737 bytes, at most 1,048,576 (urls.txt:2)"
    assert [row.line for row in rows[1:]] == [3] * end.count(b"b")


def test_long_line_is_not_held() -> None:
    """A line without end does not fill the memory."""
    framer = Framer(limit=100)
    for _ in range(1000):
        assert list(framer.feed(b"x" * 1000)) == []
    [lines] = framer.end()
    assert (len(lines.data), lines.dropped) == (100, 999_900)


def reference(data: bytes, limit: int) -> list[tuple[int, str, bool]]:
    """Read a list in the plainest way: line, text and whether it is refused."""
    rows = []
    for number, line in enumerate(data.split(b"\n"), 1):
        long = len(line) > limit
        kept = line[:limit].removeprefix(b"\xef\xbb\xbf") if number == 1 else line[:limit]
        kept = kept.strip(b" \t\r")
        if kept.startswith(b"#") or not (kept or long):
            continue
        text = kept.decode(errors="backslashreplace")
        rows.append((number, text, long or text.encode() != kept))
    return rows


def is_utf16(data: bytes) -> bool:
    """Tell whether a list is read no further for its byte order mark."""
    return data.removeprefix(b"\xef\xbb\xbf").startswith((b"\xff\xfe", b"\xfe\xff"))


PARTS = [b"http://h/a", b"#", b" ", b"\t", b"\r", b"\n", b"\xef\xbb\xbf", b"\xe9", b"\xc3", b"\xa9", b"\0", b"x" * 9]
LISTS = st.lists(st.sampled_from(PARTS), max_size=40).map(b"".join) | st.binary(max_size=60)


@given(LISTS, st.lists(st.integers(0, 200)), st.sampled_from([8, 30, MAX_LINE]))
@example(b"\xef\xbb\xbf# c\n", [1, 2, 3], MAX_LINE)
@example(b"\nhttp://h/a\n", [], 8)
def test_chunks_do_not_matter(data: bytes, cuts: list[int], limit: int) -> None:
    """However the bytes are cut, the rows are those of a plain reading."""
    assume(not is_utf16(data))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges)]
    rows = rows_of(pieces, limit)
    assert [(row.line, row.text, row.error is not None) for row in rows] == reference(data, limit)


@given(LISTS, st.booleans())
async def test_any_file(data: bytes, packed: bool) -> None:
    """Reading a file of any bytes, plain or packed, raises nothing; rows and count are those of a plain reading."""
    assume(packed or not data.startswith(b"\x1f\x8b"))
    with tempfile.NamedTemporaryFile() as file:
        file.write(gzip.compress(data) if packed else data)
        file.flush()
        source = list_at(file.name)
        rows = await collect(source)
        expected = 1 if is_utf16(data) else len(reference(data, MAX_LINE))
        assert (len(rows), await source.count()) == (expected, expected)


@pytest.mark.parametrize("text", ["http://h/a", "http://h/a\nhttp://h/b\n"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
async def test_utf16(tmp_path: Path, encoding: str, text: str) -> None:
    """A list in UTF-16 is one row that says what to do."""
    path = tmp_path / "urls.txt"
    path.write_bytes(f"\ufeff{text}".encode(encoding))
    source = list_at(str(path))
    [row] = await collect(source)
    assert row.error is not None
    assert (row.line, row.text, row.error.kind) == (1, str(path), ErrorKind.BAD_RECORD)
    assert row.error.message == f"{path}: this is UTF-16; save it as UTF-8"
    assert await source.count() == 1


# gzip.


async def test_gzip_is_known_by_its_bytes(tmp_path: Path) -> None:
    """A name in .gz over plain bytes is a plain list."""
    path = tmp_path / "urls.gz"
    path.write_bytes(b"http://h/a\n")
    assert [row.text for row in await collect(list_at(str(path)))] == ["http://h/a"]


async def test_gzip_cut_anywhere(tmp_path: Path) -> None:
    """Wherever gzip is cut, its whole lines are rows, the started one is not, and a last row says so."""
    urls = [f"http://h/{zlib.crc32(bytes([number])):x}" for number in range(20)]
    packed = gzip.compress(listed(urls))
    path = tmp_path / "urls.txt.gz"
    for length in range(2, len(packed)):
        path.write_bytes(packed[:length])
        known = zlib.decompressobj(wbits=31).decompress(packed[:length]).count(b"\n")
        source = list_at(str(path))
        *rows, last = await collect(source)
        assert [row.text for row in rows] == urls[:known]
        assert last.error is not None
        assert (last.line, last.text, last.error.kind) == (known + 1, str(path), ErrorKind.BAD_RECORD)
        after = f" after line {known}" if known else ""
        assert last.error.message == f"{path}: compressed data ends early{after}"
        assert await source.count() == known + 1


async def test_gzip_cut_with_more_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the last packed byte stands for comes out in full, even when it is more than one piece."""
    monkeypatch.setattr(opener, "_PIECE", 1)
    data = b"http://h/a\n" * 30
    packed = gzip.compress(data)
    path = tmp_path / "urls.txt.gz"
    for length in range(20, len(packed)):
        path.write_bytes(packed[:length])
        known = zlib.decompressobj(wbits=31).decompress(packed[:length]).count(b"\n")
        assert len(await collect(list_at(str(path)))) == known + 1


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(b"http://h/a\nhttp://h/b\n")[:-8] + bytes(8),
        gzip.compress(b"http://h/a\nhttp://h/b\n") + b"more",
        gzip.compress(b"http://h/a\nhttp://h/b\n") + gzip.compress(b"http://h/c\n")[:10] + b"\xff" * 40,
    ],
    ids=["checksum", "garbage behind", "bad second member"],
)
async def test_gzip_damaged(tmp_path: Path, packed: bytes) -> None:
    """Damage is told after everything that could be unpacked."""
    path = tmp_path / "urls.txt.gz"
    path.write_bytes(packed)
    *rows, last = await collect(list_at(str(path)))
    assert [row.text for row in rows] == ["http://h/a", "http://h/b"]
    assert last.error is not None
    assert last.error.message == f"{path}: compressed data is damaged after line 2"


async def test_gzip_byte_by_byte(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed data that come byte by byte are known and unpacked."""
    monkeypatch.setattr(opener, "_PIECE", 1)
    pipe.write.write(gzip.compress(b"http://h/a\n") + gzip.compress(b"http://h/b\n") + bytes(3))
    pipe.write.close()
    assert [row.text for row in await collect(list_at("-", pipe.read.fileno()))] == ["http://h/a", "http://h/b"]


async def test_gzip_bomb_comes_in_pieces(tmp_path: Path) -> None:
    """A small file that unpacks to 64 MiB does so in bounded pieces."""
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(bytes(64 * 1024 * 1024), 9))
    async with aclosing(chunks(str(path))) as pieces:
        sizes = [len(piece) async for piece in pieces]
    assert sum(sizes) == 64 * 1024 * 1024
    assert max(sizes) <= 256 * 1024


@given(st.binary(max_size=200))
async def test_gzip_of_anything(junk: bytes) -> None:
    """Bytes that only start like gzip end in ReadError, never in another exception."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\x1f\x8b" + junk)
        file.flush()
        with suppress(ReadError):
            async for _piece in chunks(file.name):
                pass


# What can be opened and waited for.


async def cancel_waiting(rows: AsyncGenerator[Row, None]) -> None:
    """Cancel somebody who waits for the next row, which must end at once."""
    waiting = asyncio.ensure_future(anext(rows))
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done
    waiting.cancel()
    await asyncio.wait({waiting}, timeout=1)
    assert waiting.cancelled()


async def test_idle_pipe(pipe: Pipe) -> None:
    """A row is there while the pipe is still open; waiting for the next can be cancelled; the pipe stays as it was."""
    source = list_at("-", pipe.read.fileno())
    assert await source.count() is None
    pipe.write.write(b"http://h/a\nhttp://h")
    rows = source.rows()
    assert await anext(rows) == Row("-", 1, "http://h/a")
    await cancel_waiting(rows)
    assert os.get_blocking(pipe.read.fileno())
    assert not asyncio.get_running_loop().remove_reader(pipe.read)


async def test_dev_null() -> None:
    """The null device, by name and as standard input, is an empty list."""
    assert await collect(list_at(os.devnull)) == []
    descriptor = os.open(os.devnull, os.O_RDONLY)
    try:
        assert await collect(list_at("-", descriptor)) == []
    finally:
        os.close(descriptor)


async def test_redirected_file(tmp_path: Path) -> None:
    """Standard input that is a file is read from where it stands, not counted, and left open."""
    path = tmp_path / "urls.txt"
    path.write_bytes(b"skipped\nhttp://h/a\n")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.lseek(descriptor, 8, os.SEEK_SET)
        source = list_at("-", descriptor)
        assert await source.count() is None
        assert await collect(source) == [Row("-", 1, "http://h/a")]
    finally:
        os.close(descriptor)


async def test_fifo(tmp_path: Path) -> None:
    """A FIFO is waited for while nobody writes, and given back when the waiting is cancelled."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    check(str(path))
    source = list_at(str(path))
    assert await source.count() is None
    before = open_descriptors()
    await cancel_waiting(source.rows())
    assert open_descriptors() == before

    rows = asyncio.create_task(collect(list_at(str(path))))
    await asyncio.to_thread(path.write_bytes, b"http://h/a\n")
    assert await rows == [Row(str(path), 1, "http://h/a")]


async def test_process_substitution(pipe: Pipe) -> None:
    """A pipe that is named by its descriptor survives the check and is read to its end."""
    path = f"/dev/fd/{pipe.read.fileno()}"
    check(path)
    pipe.write.write(b"http://h/a\n")
    pipe.write.close()
    assert await collect(list_at(path)) == [Row(path, 1, "http://h/a")]


async def test_terminal_that_hangs_up() -> None:
    """A terminal is read line by line; an error in the middle is a row and drops the started line."""
    controller, terminal = pty.openpty()
    try:
        os.write(terminal, b"http://h/a\nhttp://h")
        async with aclosing(list_at("-", controller).rows()) as rows:
            assert (await anext(rows)).text == "http://h/a"
            os.close(terminal)
            last = await anext(rows)
            assert last.error is not None
            assert (last.line, last.error.kind) == (2, ErrorKind.BAD_RECORD)
            assert last.error.message == "-: Input/output error after line 1"
            assert await anext(rows, None) is None
    finally:
        os.close(controller)


async def test_file_gone_or_directory(tmp_path: Path) -> None:
    """A list that cannot be opened after all is one row, no traceback."""
    gone = tmp_path / "gone.txt"
    [row] = await collect(list_at(str(gone)))
    assert row.error is not None
    assert (row.line, row.error.message) == (1, f"{gone}: No such file or directory")
    before = open_descriptors()
    [row] = await collect(list_at(str(tmp_path)))
    assert row.error is not None
    assert row.error.message == f"{tmp_path}: Is a directory"
    assert open_descriptors() == before


async def test_name_that_is_no_text(tmp_path: Path) -> None:
    """A file name that is not UTF-8 is shown in the records with its bytes escaped, so that they can be written."""
    source = list_at(f"{tmp_path}/caf\udce9.txt")
    [row] = await collect(source)
    assert row.source == source.name == f"{tmp_path}/caf\\xe9.txt"


# Before anything is fetched.


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("urls.txt", "no such file: urls.txt"),
        ("lists/urls.txt", "no such file: lists/urls.txt"),
        ("../example.com", "no such file: ../example.com"),
        ("known.dir/x", "no such file: known.dir/x"),
        ("localhost", "no such file: localhost"),
        ("\x1b[m", "no such file: \\x1b[m"),
        ("example.com/x", "no such file: example.com/x; for a URL write https://example.com/x"),
        ("www.Example.COM", "no such file: www.Example.COM; for a URL write https://www.Example.COM"),
        ("localhost:80/", "no such file: localhost:80/; for a URL write https://localhost:80/"),
        ("10.0.0.5/a", "no such file: 10.0.0.5/a; for a URL write https://10.0.0.5/a"),
        ("known.dir", "known.dir is a directory; name a list file in it"),
        ("here.txt/x", "cannot read here.txt/x: Not a directory"),
        ("", "the name of a list file is empty"),
    ],
)
def test_check_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str) -> None:
    """What cannot be a list is refused with a message that says what to type."""
    monkeypatch.chdir(tmp_path)
    Path("known.dir").mkdir()
    Path("here.txt").touch()
    with pytest.raises(UsageError) as caught:
        check(path)
    assert str(caught.value) == message


def test_check_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or FIFO without permission is refused by name."""
    file, fifo = tmp_path / "urls.txt", tmp_path / "fifo"
    file.touch()
    os.mkfifo(fifo)

    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for path in (file, fifo):
        with pytest.raises(UsageError, match=f"^cannot read {path}: Permission denied$"):
            check(str(path))


def test_check_accepts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file and standard input pass, unless it is closed; nothing stays open."""
    path = tmp_path / "urls.txt"
    path.touch()
    before = open_descriptors()
    check(str(path))
    check("-")
    assert open_descriptors() == before
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="standard input"):
        check("-")
