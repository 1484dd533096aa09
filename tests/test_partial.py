"""Beginnings of bodies: whatever step a crash comes at, nothing is left that could be joined to the wrong rest."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from fetcher.conditional import Held
from fetcher.disk import Disk
from fetcher.errors import LocalError
from fetcher.naming import Template
from fetcher.sinks import files, partial
from fetcher.sinks.files import FilesSink, Naming
from fetcher.sinks.partial import Partials
from tests.answers import body_of
from tests.contracts.sink_contract import cut, head, request
from tests.contracts.source_contract import open_descriptors

URL: Final = "http://h/a"
OLD: Final = body_of("old", 200_000)
NEW: Final = body_of("new", 200_000)


@pytest.fixture
def disk() -> Iterator[Disk]:
    """The disk's thread."""
    with Disk() as disk:
        yield disk


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty output directory; bodies are gathered in blocks of 50,000 bytes."""
    monkeypatch.setattr(files, "BLOCK", 50_000)
    (tmp_path / "partial").mkdir()
    (tmp_path / "out").mkdir()
    return tmp_path


def swept(root: Path) -> Partials:
    """Return the beginnings as a new run finds them."""
    partials = Partials(root / "partial")
    partials.sweep()
    return partials


class Run:
    """A new run on the directory."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self.partials = swept(root)
        self.sink = FilesSink(root / "out", self.partials, Naming(Template.parse("{stem}"), "2026-11-21"), disk)

    async def take(self, body: bytes, etag: str | None, *, end: str, cut_at: int = 120_000) -> None:
        """Take up what is held if it is of this version, as a fetch does, and end by that method of the writer."""
        held = await self.sink.held(request(URL))
        if held is not None and held.validator != etag:
            held = None
        writer = await self.sink.open(request(URL), replace(head(URL), validator=etag), held)
        try:
            stop = len(body) if end == "commit" else cut_at
            for piece in cut(body[held.size if held else 0 : stop], 30_000):
                await writer.write(piece)
            await getattr(writer, end)()
        except BaseException:
            await writer.abort()
            raise


def names(root: Path) -> set[str]:
    """Return what lies among the beginnings."""
    return {path.name for path in (root / "partial").iterdir()}


async def test_held_by_the_next_run(root: Path, disk: Disk) -> None:
    """What one run has held the next one goes on with."""
    await Run(root, disk).take(OLD, '"1"', end="hold")
    run = Run(root, disk)
    assert await run.sink.held(request(URL)) == Held(120_000, '"1"')
    assert await run.sink.held(request("http://h/other")) is None
    await run.take(OLD, '"1"', end="commit")
    assert (root / "out/a").read_bytes() == OLD
    assert not names(root)


@pytest.mark.parametrize(
    ("etag", "cut_at", "end"), [(None, 120_000, "hold"), ('"1"', 65_535, "hold"), ('"1"', 120_000, "abort")]
)
async def test_not_held(root: Path, disk: Disk, etag: str | None, cut_at: int, end: str) -> None:
    """Without a validator, below 64 KiB, or when the body is no good, nothing is kept."""
    await Run(root, disk).take(OLD, etag, end=end, cut_at=cut_at)
    assert not names(root)


async def test_held_again_without_a_new_validator(root: Path, disk: Disk) -> None:
    """The rest that is cut short too adds to what is held."""
    run = Run(root, disk)
    await run.take(OLD, '"1"', end="hold", cut_at=70_000)
    await run.take(OLD, '"1"', end="hold", cut_at=130_000)
    assert await run.sink.held(request(URL)) == Held(130_000, '"1"')
    await run.take(OLD, '"1"', end="abort", cut_at=140_000)
    assert not names(root)


@pytest.mark.parametrize("block", [50_000, 100_000])
async def test_committed_is_not_held(root: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Holding after a commit, as when the fetch was cancelled within it, keeps nothing twice."""
    monkeypatch.setattr(files, "BLOCK", block)
    writer = await Run(root, disk).sink.open(request(URL), replace(head(URL), validator='"1"'))
    await writer.write(OLD[:80_000])
    await writer.commit()
    await writer.hold()
    assert not names(root)
    assert (root / "out/a").read_bytes() == OLD[:80_000]


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b'{"validator": "\\"1\\""}',
        b'{"boot": "BOOT"}',
        b'{"boot": "BOOT", "validator": 7}',
        b'{"boot": "BOOT", "validator": null}',
        b'{"boot": "another", "validator": "\\"1\\""}',
        b'{"boot": "BOOT", "validator": "\\"1\\""',
        None,
    ],
)
async def test_swept(root: Path, disk: Disk, note: bytes | None) -> None:
    """A beginning whose note is torn, missing, or of another boot is removed with it."""
    await Run(root, disk).take(OLD, '"1"', end="hold")
    [path] = (root / "partial").glob("*.json")
    boot = orjson.loads(path.read_bytes())["boot"]
    if note is None:
        path.unlink()
    else:
        path.write_bytes(note.replace(b"BOOT", boot.encode()))
    partials = swept(root)
    assert not partials.may_hold(URL)
    assert partials.find(URL) is None
    assert not names(root)


async def test_another_boot(root: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart of the machine nothing is trusted; where boots cannot be told apart, no other process is."""
    await Run(root, disk).take(OLD, '"1"', end="hold")
    monkeypatch.setattr(partial, "_BOOT", root / "nothing")
    assert swept(root).find(URL) is None
    assert not names(root)


def test_note_without_bytes(root: Path) -> None:
    """A note whose bytes are gone is swept, and of no bytes there is no beginning."""
    partials = Partials(root / "partial")
    partials.note(URL, '"1"')
    assert partials.find(URL) is None
    Path(partials.path(URL)).touch()
    assert partials.find(URL) is None
    Path(partials.path(URL)).unlink()
    swept(root)
    assert not names(root)


def held_bytes(run: Run) -> bytes:
    """Return the bytes of the beginning."""
    return Path(run.partials.path(URL)).read_bytes()


class Crash(BaseException):
    """The process is killed here: nothing after it reaches the disk."""


class Steps:
    """Counts the calls that change the disk below ``root``; at number ``at`` and after it none does anything any more.

    The call itself is cut short: a write takes half.
    """

    CHANGES: Final = ("open", "replace", "unlink", "mkdir")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, at: int) -> None:
        self.root = str(root)
        self.at = at
        self.count = 0
        for name in self.CHANGES:
            monkeypatch.setattr(os, name, self.counted(getattr(os, name)))
        for owner, name in ((Path, "write_bytes"), (Path, "unlink"), (Path, "mkdir")):
            monkeypatch.setattr(owner, name, self.counted(getattr(owner, name)))
        monkeypatch.setattr(os, "write", self.halved(os.write))
        monkeypatch.setattr(FilesSink, "open_file", self.opened(FilesSink.open_file))

    def next(self) -> bool:
        """Count a step; tell whether the process is still alive after it. Raises Crash when it is long dead."""
        self.count += 1
        if self.count > self.at:
            raise Crash
        return self.count < self.at

    def counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call, made or not."""

        def call(path: Any, *rest: Any, **more: Any) -> Any:
            if str(getattr(path, "path", path)).startswith(self.root) and not self.next():
                if real.__name__ == "write_bytes":
                    real(path, rest[0][: len(rest[0]) // 2])
                raise Crash
            return real(path, *rest, **more)

        return call

    def halved(self, real: Callable[[int, bytes], int]) -> Callable[[int, bytes], int]:
        """Return a write that may do half."""

        def call(descriptor: int, data: bytes) -> int:
            if not self.next():
                real(descriptor, bytes(data[: len(data) // 2]))
                raise Crash
            return real(descriptor, data)

        return call

    def opened(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return an opening whose file may die half-way through a write."""

        async def call(*args: Any) -> Any:
            file = await real(*args)
            write = file.write

            async def dying(data: bytes) -> int:
                if not self.next():
                    await write(bytes(data[: len(data) // 2]))
                    raise Crash
                return int(await write(data))

            file.write = dying
            return file

        return call


async def story(run: Run, last: bytes) -> None:
    """Hold a beginning of the old version, begin the new one, go on with it, make one without a validator whole."""
    await run.take(OLD, '"old"', end="hold")
    await run.take(NEW, '"new"', end="hold", cut_at=90_000)
    await run.take(NEW, '"new"', end="hold")
    await run.take(last, None, end="commit")


@pytest.mark.parametrize("size", [40_000, 110_000])
async def test_crash_at_every_step(root: Path, disk: Disk, size: int) -> None:
    """Killed at any step, the next run finds bytes only of the version that their note names, or none."""
    versions, last = {'"old"': OLD, '"new"': NEW}, body_of("last", size)
    found: set[str] = set()
    at, crashed = 0, True
    while crashed:
        at, crashed = at + 1, False
        with pytest.MonkeyPatch.context() as monkeypatch:
            run = Run(root, disk)
            Steps(monkeypatch, root, at)
            try:
                await story(run, last)
            except Crash:
                crashed = True
        held = await Run(root, disk).sink.held(request(URL))
        if held is not None:
            assert held_bytes(run) == versions[held.validator][: held.size], f"step {at}"
            found.add(held.validator)
        assert {path.read_bytes() for path in (root / "out").iterdir()} <= {last}
        for path in [*(root / "out").iterdir(), *(root / "partial").iterdir()]:
            path.unlink()
    assert at > 15
    assert found == versions.keys()


@pytest.mark.parametrize("step", ["note", "forget"])
async def test_faults_of_the_note(root: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A note that cannot be written or taken back fails the body, leaves no file open, and no bytes under it."""
    run = Run(root, disk)
    await run.take(OLD, '"old"', end="hold")
    before = open_descriptors()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", str(root))

    monkeypatch.setattr(Partials, step, fail)
    with pytest.raises(LocalError, match="no space left"):
        await run.take(NEW, '"new"', end="commit")
    assert open_descriptors() <= before
    monkeypatch.undo()
    held = swept(root).find(URL)
    assert held is None or (held.validator == '"old"' and held_bytes(run) == OLD[: held.size])
