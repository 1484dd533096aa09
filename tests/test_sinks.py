"""Bodies as files, and bodies that are only counted."""

import asyncio
import errno
import os
import shutil
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fetcher.disk import Disk
from fetcher.errors import LocalError
from fetcher.naming import Template
from fetcher.sinks import files
from fetcher.sinks.files import FilesSink, Naming
from fetcher.sinks.null import NullSink
from fetcher.sinks.partial import Partials
from fetcher.sinks.shelf import Shelf
from fetcher.sinks.small import SmallBodies
from tests.contracts.sink_contract import Place, SinkContract, cut, head, request, store
from tests.contracts.source_contract import open_descriptors
from tests.fakes import until

SMALL = [b"small"]
LARGE = [b"x" * 700] * 5
FULL = Path("/dev/full")


@pytest.fixture
def disk() -> Iterator[Disk]:
    """The disk's threads."""
    with Disk() as disk:
        yield disk


class Directory:
    """An output directory, looked at from outside."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.partial = root / ".fetcher" / "partial"
        self.partial.mkdir(parents=True)

    def shown(self) -> dict[str, bytes]:
        """Return the files by path, without the tool's own."""
        found = {path.relative_to(self.root): path for path in self.root.rglob("*") if path.is_file()}
        return {str(name): path.read_bytes() for name, path in found.items() if name.parts[0] != ".fetcher"}

    def hidden(self) -> list[str]:
        """Return the names of bodies on their way."""
        return [path.name for path in self.partial.iterdir()]

    def partial_of(self, url: str) -> Path:
        """Return where the body of ``url`` is put together."""
        return self.partial / sha256(url.encode()).hexdigest()[:32]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Directory:
    """An empty output directory; bodies are gathered in blocks of 1,000 bytes."""
    monkeypatch.setattr(files, "BLOCK", 1_000)
    return Directory(tmp_path / "out")


@pytest.fixture
def sink(directory: Directory, disk: Disk) -> FilesSink:
    """Files below the directory, called by host and path."""
    return named(directory, disk, "{host}/{path}")


def named(directory: Directory, disk: Disk, template: str) -> FilesSink:
    """Return a sink whose files are called as ``template`` says."""
    return FilesSink(directory.root, Partials(directory.partial), naming(template), disk)


def naming(template: str = "{host}/{path}") -> Naming:
    """Return what names files as ``template`` says."""
    return Naming(Template.parse(template), "2026-11-21")


def naming_of(sink: FilesSink) -> Naming:
    """Return what names the files of a sink made by :func:`named`."""
    assert isinstance(sink.naming, Naming)
    return sink.naming


class TestFiles(SinkContract):
    @pytest.fixture
    def place(self, directory: Directory, sink: FilesSink) -> Place:
        """Files named by their URLs."""
        return Place(sink, directory.shown, directory.hidden)


class TestFilesNamedByBody(SinkContract):
    @pytest.fixture
    def place(self, directory: Directory, disk: Disk) -> Place:
        """Files named by their content."""
        return Place(named(directory, disk, "{sha256}"), directory.shown, directory.hidden)


class TestFilesByAProcess(SinkContract):
    @pytest.fixture
    async def place(self, directory: Directory, disk: Disk) -> AsyncIterator[Place]:
        """Files whose bodies a process of their own stores."""
        async with SmallBodies(directory.root, disk, after=0) as small:
            await small.delegating.wait()
            sink = FilesSink(directory.root, Partials(directory.partial), naming(), disk, small)
            yield Place(sink, directory.shown, directory.hidden)
            assert small.delegating.is_set()


class TestNull(SinkContract):
    @pytest.fixture
    def place(self) -> Place:
        """Nowhere."""
        return Place(NullSink(), dict, list)


async def test_null_keeps_nothing() -> None:
    """A body that is only counted has no path."""
    assert (await store(NullSink(), "http://h/a", SMALL)).path is None


async def test_hidden_while_it_grows(directory: Directory, sink: FilesSink) -> None:
    """A large body grows in the state directory, and moves when it is whole."""
    writer = await sink.open(request("http://h/a"), head("http://h/a"))
    assert not directory.hidden()
    await writer.write(b"x" * 2_000)
    partial = directory.partial_of("http://h/a")
    await until(lambda: partial.exists() and partial.stat().st_size == 2_000)  # a thread writes behind us
    assert (await writer.commit()).path == "h/a.txt"
    assert directory.shown() == {"h/a.txt": b"x" * 2_000}


async def test_two_urls_with_one_name(directory: Directory, sink: FilesSink) -> None:
    """Two URLs whose names would be the same, if only on some disks, get two files; one URL keeps its own."""
    urls = ["http://h/a.txt", "http://h/A.TXT", "http://h/%61.txt", "http://h/a.txt"]
    paths = [(await store(sink, url, [url.encode()])).path for url in urls]
    assert paths[0] == paths[3] == "h/a.txt"
    assert len({str(path).lower() for path in paths}) == 3
    assert sorted(directory.shown().values()) == sorted(url.encode() for url in urls[:3])


@pytest.mark.parametrize("pieces", [SMALL, LARGE])
async def test_names_from_the_body(directory: Directory, disk: Disk, pieces: list[bytes]) -> None:
    """Where the digest makes the name, equal bodies share a file and others do not."""
    sink = named(directory, disk, "{sha256}.bin")
    first, same, other = [await store(sink, f"http://h/{n}", [*pieces, bad]) for n, bad in enumerate((b"", b"", b"!"))]
    assert first == same != other
    assert first.path == f"{first.sha256}.bin"
    assert directory.shown().keys() == {first.path, other.path}


@pytest.mark.parametrize("pieces", [SMALL, LARGE])
async def test_replacement(directory: Directory, sink: FilesSink, pieces: list[bytes]) -> None:
    """A file that an earlier run has made of the same URL is replaced as a whole: who has it open keeps it."""
    naming_of(sink).remember("h/a.txt", "http://h/a", "0" * 64)
    (directory.root / "h").mkdir()
    (directory.root / "h/a.txt").write_bytes(b"old")
    with (directory.root / "h/a.txt").open("rb") as reader:
        assert (await store(sink, "http://h/a", pieces)).path == "h/a.txt"
        assert reader.read() == b"old"
    assert directory.shown() == {"h/a.txt": b"".join(pieces)}


Obstacle = Callable[[Path, Path], object]


def a_folder(place: Path, _: Path) -> None:
    """Put a folder there, with something in it."""
    place.mkdir()
    (place / "mine").touch()


#: What can lie where a body should: at its name, and where its folder should be.
AT_THE_NAME: dict[str, Obstacle] = {
    "file": lambda place, _: place.write_text("mine"),
    "file of that size": lambda place, _: place.write_text("mine!"),
    "empty file": lambda place, _: place.touch(),
    "folder": a_folder,
    "pipe": lambda place, _: os.mkfifo(place),
    "symlink to a file": lambda place, outside: place.symlink_to(outside / "precious"),
    "symlink to a folder": lambda place, outside: place.symlink_to(outside),
    "symlink to nothing": lambda place, outside: place.symlink_to(outside / "nothing"),
    "symlink to itself": lambda place, _: place.symlink_to(place),
}
AT_THE_FOLDER = {name: obstacle for name, obstacle in AT_THE_NAME.items() if name != "folder"}


def looked_at(path: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return what can be seen of everything at and below a path, without following links."""
    every = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    facts = {str(each): each.lstat() for each in every}
    plain = {name for name, fact in facts.items() if stat.S_ISREG(fact.st_mode)}
    return {
        name: (fact.st_ino, fact.st_mode, Path(name).read_bytes() if name in plain else b"")
        for name, fact in facts.items()
    }


@pytest.mark.parametrize("pieces", [SMALL, LARGE])
@pytest.mark.parametrize("remembered", [False, True])
@pytest.mark.parametrize(
    ("path", "obstacle"),
    [("h/d/a.txt", each) for each in AT_THE_NAME.values()]
    + [(path, each) for path in ("h", "h/d") for each in AT_THE_FOLDER.values()],
    ids=[*AT_THE_NAME, *(f"{name} for {path}" for path in ("host", "folder") for name in AT_THE_FOLDER)],
)
async def test_what_others_made_is_left_alone(
    directory: Directory,
    sink: FilesSink,
    path: str,
    obstacle: Obstacle,
    remembered: bool,
    pieces: list[bytes],
) -> None:
    """A body takes another name than what no run has made, which is neither replaced nor followed."""
    outside = directory.root.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"mine")
    place = directory.root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    obstacle(place, outside)
    if remembered and not (stat.S_ISREG(place.lstat().st_mode) and path == "h/d/a.txt"):
        naming_of(sink).remember("h/d/a.txt", "http://h/d/a", "0" * 64)
    before = looked_at(place), looked_at(outside)
    stored = await store(sink, "http://h/d/a", pieces)
    assert stored.path not in (None, "h/d/a.txt")
    assert directory.shown()[str(stored.path)] == b"".join(pieces)
    assert (looked_at(place), looked_at(outside)) == before
    assert not directory.hidden()
    other = await store(sink, "http://h/d/b", pieces)
    assert directory.shown()[str(other.path)] == b"".join(pieces)


@pytest.mark.parametrize("template", ["{host}/{path}", "{sha256}"])
@pytest.mark.parametrize("pieces", [SMALL, LARGE])
async def test_same_bytes_are_adopted(directory: Directory, disk: Disk, template: str, pieces: list[bytes]) -> None:
    """A file that a run has made and not told of before it was killed is taken over, not made twice."""
    stored = await store(named(directory, disk, template), "http://h/a", pieces)
    inode = (directory.root / str(stored.path)).stat().st_ino
    assert await store(named(directory, disk, template), "http://h/a", pieces) == stored
    assert (directory.root / str(stored.path)).stat().st_ino == inode
    assert directory.shown() == {stored.path: b"".join(pieces)}
    assert not directory.hidden()


@pytest.mark.parametrize("pieces", [SMALL, LARGE])
async def test_no_end_of_obstacles(
    directory: Directory, sink: FilesSink, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]
) -> None:
    """Where every name is taken, the disk is to blame; nothing stays behind."""
    monkeypatch.setattr(Shelf, "place", lambda _shelf, _partial, path, _ours, _digest, _before: path)
    with pytest.raises(LocalError, match=f"^no name is free: {directory.root}/h/a~"):
        await store(sink, "http://h/a", pieces)
    assert not directory.hidden()


@pytest.mark.parametrize("pieces", [SMALL, LARGE])
async def test_folder_removed_meanwhile(directory: Directory, sink: FilesSink, pieces: list[bytes]) -> None:
    """A folder that somebody removes during the run is made again; what takes its place is respected."""
    await store(sink, "http://h/a/b", pieces)
    shutil.rmtree(directory.root / "h")
    stored = await store(sink, "http://h/a/c", pieces)
    assert directory.shown() == {stored.path: b"".join(pieces)}
    assert not directory.hidden()


@pytest.mark.parametrize("pieces", [SMALL, LARGE])
async def test_symlink_at_the_partial_name(
    directory: Directory, sink: FilesSink, tmp_path: Path, pieces: list[bytes]
) -> None:
    """A symbolic link where a body is put together is neither followed nor removed."""
    target = tmp_path / "precious"
    target.write_bytes(b"mine")
    link = directory.partial / "0" if pieces is SMALL else directory.partial_of("http://h/a")
    link.symlink_to(target)
    with pytest.raises(LocalError, match="symbolic link"):
        await store(sink, "http://h/a", pieces)
    assert target.read_bytes() == b"mine"
    assert link.is_symlink()


@pytest.mark.parametrize("pieces", [SMALL, LARGE])
async def test_remains_of_a_crash(directory: Directory, sink: FilesSink, pieces: list[bytes]) -> None:
    """What a killed run left of the same body does not show through."""
    remains = directory.partial / "0" if pieces is SMALL else directory.partial_of("http://h/a")
    remains.write_bytes(b"y" * 10_000)
    await store(sink, "http://h/a", pieces)
    assert directory.shown() == {"h/a.txt": b"".join(pieces)}
    assert not directory.hidden()


@pytest.mark.parametrize("pieces", [SMALL, LARGE])
@pytest.mark.parametrize("umask", [0o022, 0o077])
async def test_umask(directory: Directory, sink: FilesSink, pieces: list[bytes], umask: int) -> None:
    """Files get the permissions that the user's umask leaves, and are not executable."""
    before = os.umask(umask)
    try:
        await store(sink, "http://h/a", pieces)
    finally:
        os.umask(before)
    assert stat.S_IMODE((directory.root / "h/a.txt").stat().st_mode) == 0o666 & ~umask


Fault = Callable[[pytest.MonkeyPatch, Directory], None]


def failing(name: str, error: int) -> Fault:
    """Return a fault: ``os.NAME`` fails for every path below the output directory."""

    def apply(monkeypatch: pytest.MonkeyPatch, directory: Directory) -> None:
        real = getattr(os, name)

        def fail(path: Any, *rest: Any, **more: Any) -> Any:
            if str(path).startswith(str(directory.root)):
                targets = [str(each) for each in rest if isinstance(each, Path)]
                raise OSError(error, os.strerror(error), str(path), None, *targets)
            return real(path, *rest, **more)

        monkeypatch.setattr(os, name, fail)

    return apply


def full_disk(monkeypatch: pytest.MonkeyPatch, directory: Directory) -> None:
    """Files can be made, but hold nothing."""
    if not FULL.exists():
        pytest.skip("there is no /dev/full")
    real = os.open

    def full(path: Any, *rest: Any, **more: Any) -> int:
        descriptor = real(path, *rest, **more)
        if str(path).startswith(str(directory.partial)):
            device = real(FULL, os.O_WRONLY)
            os.dup2(device, descriptor)
            os.close(device)
        return descriptor

    monkeypatch.setattr(os, "open", full)


FAULTS: dict[str, tuple[Fault, str]] = {
    "not allowed": (failing("open", errno.EACCES), "permission denied"),
    "no room for a file": (failing("open", errno.ENOSPC), "no space left on device"),
    "no descriptor": (failing("open", errno.EMFILE), "too many open files"),
    "no room for bytes": (full_disk, "no space left on device"),
    "no room for a name": (failing("replace", errno.ENOSPC), "no space left on device"),
    "folder not allowed": (failing("mkdir", errno.EACCES), "permission denied"),
}


@pytest.mark.parametrize("pieces", [SMALL, LARGE])
@pytest.mark.parametrize(("fault", "words"), FAULTS.values(), ids=FAULTS)
async def test_faults_of_the_disk(
    directory: Directory, sink: FilesSink, fault: Fault, words: str, pieces: list[bytes]
) -> None:
    """Whatever the disk refuses is a LocalError that says where, and leaves nothing behind."""
    before = open_descriptors()
    with pytest.MonkeyPatch.context() as monkeypatch:
        fault(monkeypatch, directory)
        with pytest.raises(LocalError, match=f"^{words}: {directory.root}"):
            await store(sink, "http://h/a", pieces)
    assert not directory.shown()
    assert not directory.hidden()
    assert open_descriptors() <= before
    await store(sink, "http://h/a", pieces)
    assert directory.shown() == {"h/a.txt": b"".join(pieces)}


async def test_short_writes(directory: Directory, sink: FilesSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes less than it is given gets the rest again."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data[:7])))
    await store(sink, "http://h/a", [b"x" * 100])
    assert directory.shown() == {"h/a.txt": b"x" * 100}


class Gate:
    """Holds the disk's threads at one of the ``os`` functions until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, root: Path) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()
        real = getattr(os, name)

        def held(path: Any, *rest: Any, **more: Any) -> Any:
            if str(path).startswith(str(root)):
                self.reached.set()
                assert self._open.wait(10)
            return real(path, *rest, **more)

        monkeypatch.setattr(os, name, held)

    def open(self) -> None:
        """Let them go on."""
        self._open.set()


@pytest.mark.parametrize("cancels", [1, 3])
@pytest.mark.parametrize("pieces", [SMALL, LARGE])
@pytest.mark.parametrize("name", ["open", "replace"])
async def test_cancel_amid_disk_work(
    directory: Directory,
    sink: FilesSink,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    pieces: list[bytes],
    cancels: int,
) -> None:
    """A cancellation waits for the disk operation under way, however often it comes, and only then tidies up."""
    before = open_descriptors()
    gate = Gate(monkeypatch, name, directory.root)
    task = asyncio.create_task(store(sink, "http://h/a", pieces))
    await asyncio.to_thread(gate.reached.wait, 10)
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not task.done()
    gate.open()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()
    assert not directory.hidden()
    assert directory.shown() in ({}, {"h/a.txt": b"".join(pieces)})
    assert open_descriptors() <= before


async def test_pieces_of_a_slow_disk_stay_in_order(
    directory: Directory, sink: FilesSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer waits for its disk, so that the network cannot run ahead of it."""
    gate = Gate(monkeypatch, "open", directory.root)
    writer = await sink.open(request("http://h/a"), head("http://h/a"))
    writing = asyncio.create_task(writer.write(b"a" * 1_000))
    await asyncio.to_thread(gate.reached.wait, 10)
    assert not writing.done()
    gate.open()
    await writing
    for piece in cut(b"b" * 2_500, 400):
        await writer.write(piece)
    await writer.commit()
    assert directory.shown() == {"h/a.txt": b"a" * 1_000 + b"b" * 2_500}
