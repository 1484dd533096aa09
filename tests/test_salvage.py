"""What the next run takes over of one that died while a cluster fetched for it."""

import os
import pickle
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from fetcher import __version__
from fetcher.blocks import packed
from fetcher.disk import Disk
from fetcher.engines.channel import Begun, Done, Laid, Message
from fetcher.engines.salvage import run_name, salvage
from fetcher.engines.spool import Inbox
from fetcher.events import Settled
from fetcher.model import Outcome, Record, Request, from_line, to_line
from fetcher.naming import Template, Told
from fetcher.options import DEFAULT_NAME
from fetcher.sinks.files import FilesSink, Naming
from fetcher.sinks.partial import Partials
from fetcher.sinks.shared import SharedFolder
from tests.contracts.engine_contract import below

NAME = run_name("1-1", commanded=False)
RUN = f".fetcher/parts/{NAME}"


@dataclass
class Memory:
    """Knows these keys, and notes what it is told."""

    known: set[str] = field(default_factory=set)
    written: list[Settled] = field(default_factory=list)

    def knows(self, key: str) -> bool:
        return key in self.known

    async def write(self, batch: Sequence[Settled]) -> None:
        self.written += batch


@pytest.fixture
async def sink(tmp_path: Path) -> AsyncIterator[FilesSink]:
    """A sink for the directory of the test."""
    with Disk() as disk:
        naming = Naming(Template.parse(DEFAULT_NAME), "2026-11-21")
        yield FilesSink(tmp_path, Partials(tmp_path / ".fetcher/partial"), naming, disk)


def told(path: str, body: bytes = b"body", url: str = "http://a.example/x") -> list[Message]:
    """Return what a chunk tells of a body that it has laid aside."""
    request = Request(0, url, url, "a.example", "list", 1)
    record = Record(
        url=url,
        source="list",
        line=1,
        outcome=Outcome.FETCHED,
        path=path,
        bytes=len(body),
        sha256=sha256(body).hexdigest(),
    )
    return [Begun(url), Laid(request, Told("text/plain")), Done(record, to_line(record), url, len(body))]


def part(root: Path, messages: list[Message], run: str = RUN, body: bytes | None = b"body") -> None:
    """Lay out a chunk that has told this, with a body if there is one."""
    chunk = root / run / "1"
    chunk.mkdir(parents=True)
    (chunk / "told").write_bytes(packed(messages))
    if body is not None:
        (chunk / "0").write_bytes(body)


async def test_taken_over(sink: FilesSink, tmp_path: Path) -> None:
    """A body that nobody has named gets its name and its record; then nothing is left of the run."""
    part(tmp_path, told(f"{RUN}/1/0"))
    memory = Memory()
    assert await salvage(SharedFolder(tmp_path), sink, memory, sink.disk) == 1
    (settled,) = memory.written
    assert (settled.record.path, settled.key) == ("a.example/x.txt", "http://a.example/x")
    assert from_line(settled.line) == settled.record
    assert (tmp_path / "a.example/x.txt").read_bytes() == b"body"
    assert not (tmp_path / ".fetcher/parts").exists()


@pytest.mark.parametrize(("lies", "known", "found"), [(b"body", False, 1), (b"bode", False, 0), (b"body", True, 0)])
async def test_named_but_not_noted(*, lies: bytes, known: bool, found: int, sink: FilesSink, tmp_path: Path) -> None:
    """A body that had its name already is noted if it is that body, and nobody has noted it."""
    part(tmp_path, told(f"{RUN}/1/0"), body=None)
    (tmp_path / "a.example").mkdir()
    (tmp_path / "a.example/x.txt").write_bytes(lies)
    memory = Memory({"http://a.example/x"} if known else set())
    assert await salvage(SharedFolder(tmp_path), sink, memory, sink.disk) == len(memory.written) == found
    assert (tmp_path / "a.example/x.txt").read_bytes() == lies


@pytest.mark.parametrize(
    ("messages", "run"),
    [
        (told("secret"), RUN),
        (told(f"{RUN}/1/../../../../secret"), RUN),
        (told(f"{RUN}/1/told"), RUN),
        (told(f"{RUN}/1/0")[::2], RUN),
        (told(f"{RUN}/1/0"), RUN.replace(__version__, "0.0")),
        (told(f"{RUN}-exec/1/0"), f"{RUN}-exec"),
    ],
    ids=["elsewhere", "climbs", "no body", "not laid aside", "another version", "with a command"],
)
async def test_left(messages: list[Message], run: str, sink: FilesSink, tmp_path: Path) -> None:
    """What is no body of its chunk, or of a run that cannot be taken over, is not touched, or fetched again."""
    (tmp_path / "secret").write_bytes(b"body")
    part(tmp_path, messages, run=run)
    assert await salvage(SharedFolder(tmp_path), sink, Memory(), sink.disk) == 0
    assert below(tmp_path) == [".fetcher", "secret"]


class _Hostile:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    "block",
    [
        b"\x00\x00\x00\x04junk",
        b"\x00\x00\x00\x02N.",
        packed([Begun("x")])[:-1] + b"x",
        b"\x00\x00\x00\x1dcfetcher.model\norjson.loads\n.",
        b"\x00\x00\x00\x20cfetcher.sinks.files\nFilesSink\n.",
    ],
)
async def test_no_messages(block: bytes, sink: FilesSink, tmp_path: Path) -> None:
    """A file with anything but messages tells nothing, and does no harm."""
    part(tmp_path, [])
    (tmp_path / RUN / "1/told").write_bytes(block)
    with pytest.raises(ValueError, match="no messages"):
        Inbox(SharedFolder(tmp_path), f"{NAME}/1/told").read()
    assert await salvage(SharedFolder(tmp_path), sink, Memory(), sink.disk) == 0


def test_nothing_is_executed(tmp_path: Path) -> None:
    """Whoever can write the file cannot have anything done by those who read it."""
    block = pickle.dumps([_Hostile(str(tmp_path / "done"))])
    part(tmp_path, [])
    (tmp_path / RUN / "1/told").write_bytes(len(block).to_bytes(4, "big") + block)
    with pytest.raises(ValueError, match="mkdir is no message"):
        Inbox(SharedFolder(tmp_path), f"{NAME}/1/told").read()
    assert not (tmp_path / "done").exists()
