"""The list of failed lines says why they failed and can be fetched again."""

from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.atomic import AtomicFile
from fetcher.errors import Error, LocalError
from fetcher.events import Settled
from fetcher.model import Outcome, Record, Request, Row, to_line
from fetcher.plan import Planner
from fetcher.sources.framing import Framer
from fetcher.sources.text import parse
from fetcher.views.failed import FailedList, entry
from tests.lists import list_at


def record(row: Row, kind: str | None = "http.404") -> Record:
    """Return how a row ends: as what the planner makes of it, failed with ``kind``, or fetched for None."""
    decision = Planner().plan(row)
    if isinstance(decision, Record):
        return decision
    assert isinstance(decision, Request)
    error = Error.of(kind, "so it was chosen") if kind is not None else None
    outcome = Outcome.FAILED if error else Outcome.FETCHED
    return Record(url=row.text, source=row.source, line=row.line, host=decision.host, outcome=outcome, error=error)


async def written(path: Path, *records: Record) -> str:
    """Write a failed list of these records, in two batches, and return its text."""
    settled = [Settled(each, to_line(each), None) for each in records]
    with AtomicFile(path) as file:
        failed = FailedList(file)
        await failed.write(settled[:1])
        await failed.write(settled[1:])
    return path.read_bytes().decode()  # noqa: ASYNC240


async def read_back(path: Path) -> list[str]:
    """Return the lines that a list file asks for."""
    async with aclosing(list_at(str(path)).rows()) as rows:
        return [row.text async for row in rows]


async def test_form(tmp_path: Path) -> None:
    """Each failed line stands below its kind and place; what went well does not."""
    text = await written(
        tmp_path / "failed.txt",
        record(Row("urls.txt", 3, "http://h/a")),
        record(Row("urls.txt", 4, "http://h/b"), None),
        record(Row("urls.txt", 5, "http://h/c"), "timeout.read"),
        record(Row("argv", 1, "h/d")),
    )
    assert text == (
        "# http.404 (urls.txt:3)\nhttp://h/a\n# timeout.read (urls.txt:5)\nhttp://h/c\n# invalid_url (argv:1)\nh/d\n"
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://h/a#fragment",
        "HTTP://H:80/%7e?q=a b".replace(" ", "+"),
        "http://user:pass@h/",
        "http://h/\u202epdf.exe",
        "http://bücher.example/ü",
        "http://h/\\x",
        "http://h/a b",
        "example.com/x",
        "ftp://h/x",
        "http://h/\x1b[31m",
        "http://h/" + "x" * 70_000,
    ],
)
async def test_reads_back(tmp_path: Path, url: str) -> None:
    """The failed list, read as a list, asks for the very lines that failed, good and bad."""
    path = tmp_path / "failed.txt"
    await written(path, record(Row("list", 1, url)), record(Row("list", 2, "http://h/last")))
    assert await read_back(path) == [url, "http://h/last"]


@pytest.mark.parametrize(
    "row",
    [
        Row("argv", 1, "http://h/a\nhttp://evil/b", Error.of("invalid_url", "control character")),
        *parse("list", next(iter([*Framer().feed(b"http://h/\xe9\n")])), "url"),
        Row("urls.txt.gz", 9, "urls.txt.gz", Error.of("bad_record", "compressed data ends early")),
    ],
)
async def test_what_cannot_be_written(tmp_path: Path, row: Row) -> None:
    """What would be read back as another line than it was is told in a comment."""
    path = tmp_path / "failed.txt"
    text = await written(path, record(row), record(Row("list", 2, "http://h/last")))
    assert await read_back(path) == ["http://h/last"]
    assert len(text.splitlines()) == 4


async def test_comments_are_harmless(tmp_path: Path) -> None:
    """The name of a list cannot smuggle a line in."""
    path = tmp_path / "failed.txt"
    text = await written(path, record(Row("a\nhttp://evil/\x1b", 1, "http://h/a")))
    assert await read_back(path) == ["http://h/a"]
    assert "\x1b" not in text


@given(lines=st.lists(st.text(alphabet="htp:/ab#%\\ \té@.?\r\ufeff", max_size=20)))
def test_any_list(lines: list[str]) -> None:
    """What any list of text asks for, all of it failed, is what its failed list asks for."""
    framer = Framer()
    framed = [*framer.feed("".join(f"{line}\n" for line in lines).encode()), *framer.end()]
    rows = [row for part in framed for row in parse("list", part, "url")]
    again = Framer()
    text = "".join(entry(record(row)) for row in rows).encode()
    back = [row.text for part in [*again.feed(text), *again.end()] for row in parse("failed", part, "url")]
    assert back == [row.text for row in rows]


async def test_full_disk() -> None:
    """A list that cannot be written is this machine's failure."""
    with AtomicFile(Path("/dev/full")) as file:
        failed = FailedList(file)
        line = record(Row("list", 1, "http://h/a"))
        with pytest.raises(LocalError, match=r"^cannot write /dev/full: no space left on device$"):
            await failed.write([Settled(line, to_line(line), None)])


async def test_nothing_failed(tmp_path: Path) -> None:
    """Of a run without failures the list is empty."""
    assert await written(tmp_path / "failed.txt", record(Row("list", 1, "http://h/a"), None)) == ""
