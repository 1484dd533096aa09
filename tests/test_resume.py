"""Bodies that were cut short and are gone on with: in a run, after a kill, after Ctrl-C; never two versions in one file."""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from fetcher.clock import SystemClock
from fetcher.conditional import condition
from fetcher.disk import Disk
from fetcher.errors import FetchError
from fetcher.events import Transfer
from fetcher.fetch import Fetch
from fetcher.identity import Identity
from fetcher.model import Attempt, Head, Headers, Kept, Request, Stored
from fetcher.naming import Template
from fetcher.options import Limits
from fetcher.sinks import files
from fetcher.sinks.files import FilesSink, Naming
from fetcher.sinks.partial import Partials
from tests.answers import body_of
from tests.command import Command
from tests.fakes import Answer, Transport
from tests.server import Scope
from tests.sockets import until

URL: Final = "http://h/a"
OLD: Final = body_of("old", 300_000)
NEW: Final = body_of("new", 300_000)
HALF: Final = 150_000
SIZE: Final = 3_000_000


class Place:
    """A directory that attempts are made into."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self.root = root
        (root / "partial").mkdir(parents=True)
        naming = Naming(Template.parse("{stem}"), "2026-11-21")
        self.sink = FilesSink(root, Partials(root / "partial"), naming, disk)
        self.request = Request(index=0, url=URL, target=URL, host="h", source="list", line=1)
        self.transport = Transport()

    async def attempt(self, *answers: Answer, headers: Headers = (), max_size: int | None = None) -> Attempt:
        """Make one attempt, at a server that gives these answers."""
        self.transport = Transport({URL: answers})
        limits = Limits(max_size=max_size)
        fetch = Fetch(self.transport, self.sink, Identity("test/1.0", headers), limits, SystemClock())
        attempt = await fetch.attempt(Transfer(self.request, 0.0), 1, None, lambda _: None)
        assert self.transport.sent[URL] == len(answers)
        return attempt

    async def begin(self, headers: Headers = (("etag", '"old"'),), kind: str = "truncated") -> None:
        """Hold the first half of the old version, or try to."""
        cut = FetchError(kind, "cut")
        attempt = await self.attempt(Answer(body=(OLD[:HALF],), headers=headers, length=len(OLD), cut=cut))
        assert attempt.error is not None
        assert attempt.error.kind == kind

    def asked(self, number: int = 0) -> dict[str, str]:
        """Return the header fields of a request."""
        return dict(self.transport.hops[number].headers)

    @property
    def body(self) -> bytes:
        """The one file there is."""
        [path] = [path for path in self.root.iterdir() if path.is_file()]
        return path.read_bytes()

    @property
    def held(self) -> list[str]:
        """What is kept of bodies that are not whole."""
        return sorted(path.name for path in (self.root / "partial").iterdir())


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """An empty directory."""
    monkeypatch.setattr(files, "BLOCK", 100_000)
    with Disk() as disk:
        yield Place(tmp_path / "out", disk)


def part(content: bytes, start: int = HALF, etag: str | None = '"old"', **more: Any) -> Answer:
    """Return the 206 that brings the rest."""
    told = (("content-range", f"bytes {start}-{len(content) - 1}/{len(content)}"),)
    answer = Answer(body=(content[start:],), status=206, headers=told, length=len(content) - start)
    return replace(answer, **{"headers": told + ((("etag", etag),) if etag else ())} | more)


def whole(body: bytes, etag: str = '"new"') -> Answer:
    """Return a 200."""
    return Answer(body=(body,), headers=(("etag", etag),), length=len(body))


async def test_asked_for(place: Place) -> None:
    """The rest is asked for as it is, under the validator, whatever the user's headers say; the whole file is hashed."""
    await place.begin()
    users = (("range", "bytes=0-1"), ("If-range", "x"), ("Accept-encoding", "br"), ("X", "y"))
    attempt = await place.attempt(part(OLD), headers=users)
    assert place.asked() == {
        "User-Agent": "test/1.0",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Range": f"bytes={HALF}-",
        "If-Range": '"old"',
        "X": "y",
    }
    assert attempt.stored is not None
    assert (attempt.stored.bytes, attempt.stored.sha256) == (len(OLD), sha256(OLD).hexdigest())
    assert (attempt.resumed_from, attempt.wire_bytes) == (HALF, len(OLD) - HALF)
    assert place.body == OLD
    assert place.held == []


@pytest.mark.parametrize("kind", ["truncated", "timeout.read", "connect.closed"])
async def test_kept(place: Place, kind: str) -> None:
    """What was cut short is kept."""
    await place.begin(kind=kind)
    assert len(place.held) == 2


@pytest.mark.parametrize("kind", ["decode", "too_large", "protocol", "disk", "internal"])
async def test_forgotten(place: Place, kind: str) -> None:
    """What is no good, or has no room, is not kept; nor is what was held before."""
    await place.begin(kind=kind)
    assert place.held == []
    await place.begin()
    await place.attempt(part(OLD, body=(OLD[HALF : HALF + 10],), cut=FetchError(kind, "cut")))
    assert place.held == []


async def test_cancelled_is_kept(place: Place) -> None:
    """A cancelled attempt keeps what has come."""
    cancelled: Any = asyncio.CancelledError()
    answer = Answer(body=(OLD[:HALF], OLD[HALF:]), headers=(("etag", '"old"'),), cut=cancelled)
    with pytest.raises(asyncio.CancelledError):
        await place.attempt(answer)
    held = await place.sink.held(place.request)
    assert held is not None
    assert held.size == len(OLD)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("etag", 'W/"old"'),),
        (("etag", '"\udcff"'),),
        (("etag", '"old"'), ("content-encoding", "identity")),
        (("last-modified", "Tue, 14 Nov 2023 22:14:20 GMT"), ("date", "Tue, 14 Nov 2023 22:14:30 GMT")),
    ],
)
async def test_without_a_strong_validator(place: Place, headers: Headers) -> None:
    """What cannot be told from another version is not kept, and the next attempt asks for all."""
    await place.begin(headers)
    assert place.held == []
    await place.attempt(whole(NEW))
    assert "Range" not in place.asked()
    assert place.body == NEW


async def test_changed(place: Place) -> None:
    """A server whose file has changed answers 200, and that is what is stored."""
    await place.begin()
    attempt = await place.attempt(whole(NEW))
    assert (attempt.resumed_from, attempt.wire_bytes) == (None, len(NEW))
    assert place.body == NEW
    assert place.held == []


LIES: Final = {
    "another version": part(NEW, etag='"new"'),
    "a weak one": part(NEW, etag='W/"old"'),
    "no version": part(NEW, etag=None),
    "no version, another size": part(NEW[:200_000], etag=None),
    "from the start": part(NEW, start=0),
    "a byte early": part(OLD, start=HALF - 1),
    "a byte late": part(OLD, start=HALF + 1),
    "not to the end": part(OLD, headers=(("content-range", f"bytes {HALF}-200000/300000"), ("etag", '"old"'))),
    "of unknown size": part(OLD, headers=(("content-range", f"bytes {HALF}-299999/*"), ("etag", '"old"'))),
    "another length": part(OLD, length=7),
    "coded": part(OLD, headers=(*part(OLD).headers, ("content-encoding", "gzip"))),
    "several parts": part(OLD, headers=(("content-type", "multipart/byteranges; boundary=x"), ("etag", '"old"'))),
    "416": Answer(status=416, body=(), length=0, headers=(("content-range", "bytes */10"),)),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_lies(place: Place, lie: Answer) -> None:
    """Whatever is not the rest makes the same attempt ask again, for all."""
    await place.begin()
    attempt = await place.attempt(lie, whole(NEW))
    assert attempt.error is None
    assert attempt.resumed_from is None
    assert "Range" in place.asked(0)
    assert not {"Range", "If-Range"} & place.asked(1).keys()
    assert place.asked(1)["Accept-Encoding"] == "gzip, deflate"
    assert place.body == NEW


@pytest.mark.parametrize("reverted", [False, True])
async def test_of_a_new_version(place: Place, reverted: bool) -> None:
    """The beginning of a version that followed the one that is kept: its rest comes, or the kept one is back."""
    kept = Kept(Stored("a", 4, sha256(b"kept").hexdigest()), Head(200, URL, etag='"kept"'), condition('"kept"', None))
    place.request = replace(place.request, kept=kept)
    await place.begin()
    back = Answer(status=304, body=(), headers=(("etag", '"kept"'),))
    attempt = await place.attempt(back if reverted else part(OLD))
    assert (place.asked()["If-Range"], place.asked()["If-None-Match"]) == ('"old"', '"kept"')
    assert attempt.stored == (kept.stored if reverted else Stored("a", len(OLD), sha256(OLD).hexdigest()))
    assert attempt.resumed_from == (None if reverted else HALF)
    assert place.held == []


async def test_unasked_part_after_all(place: Place) -> None:
    """A server that gives a part to who asks for all fails, as ever."""
    await place.begin()
    attempt = await place.attempt(part(NEW, etag='"new"'), part(NEW, etag='"new"'))
    assert attempt.error is not None
    assert attempt.error.kind == "truncated"


@pytest.mark.parametrize(("size", "kind"), [(HALF - 1, "truncated"), (HALF + 1, "protocol")])
async def test_another_size_than_told(place: Place, size: int, kind: str) -> None:
    """Without a length, Content-Range is what the body is measured by."""
    await place.begin()
    attempt = await place.attempt(part(OLD, body=(b"x" * size,), length=None))
    assert attempt.error is not None
    assert attempt.error.kind == kind
    assert not [path for path in place.root.iterdir() if path.is_file()]


@pytest.mark.parametrize("length", [None, len(OLD) - HALF])
async def test_max_size_counts_the_whole(place: Place, length: int | None) -> None:
    """What is held counts towards --max-size."""
    await place.begin()
    attempt = await place.attempt(part(OLD, length=length), max_size=len(OLD) - 1)
    assert attempt.error is not None
    assert (attempt.error.kind, attempt.error.message) == ("too_large", "300 kB announced, --max-size is 300 kB")
    assert (await place.attempt(part(OLD, length=length), max_size=len(OLD))).error is None
    assert place.body == OLD


async def test_cut_again_and_again(place: Place) -> None:
    """Each attempt adds to what is held."""
    await place.begin()
    for start in range(HALF, 299_000, 10_000):
        cut = FetchError("truncated", "cut")
        attempt = await place.attempt(part(OLD, start, body=(OLD[start : start + 10_000],), cut=cut))
        assert attempt.resumed_from == start
    assert (await place.attempt(whole(OLD, '"old"'))).error is None
    assert place.body == OLD


def record_of(command: Command, url: str, directory: Path, *more: str) -> dict[str, Any]:
    """Fetch one URL; its file must be what the record says, and nothing else be kept."""
    [record] = command("get", url, "-o", directory, *more).records
    assert record["error"] is None, record
    body = (directory / record["path"]).read_bytes()
    assert (len(body), sha256(body).hexdigest()) == (record["bytes"], record["sha256"])
    assert list((directory / ".fetcher/partial").iterdir()) == []
    return dict(record)


@pytest.mark.parametrize("way", ["truncate_at", "reset_at"])
def test_in_a_run(run_fetcher: Command, server: Scope, tmp_path: Path, way: str) -> None:
    """A retry goes on where the connection broke."""
    url = server.url("a", size=SIZE, range=True, fail_times=1, fail_as=f"{way}=2000000")
    record = record_of(run_fetcher, url, tmp_path / "out")
    assert (tmp_path / "out" / record["path"]).read_bytes() == server.body_of("a", SIZE)
    assert 65_536 <= record["resumed_from"] <= 2_000_000
    assert record["wire_bytes"] == SIZE
    assert (record["status"], record["attempts"], record["retried"]) == (206, 2, ["truncated"])
    assert server.requests()[1].header("accept-encoding") == "identity"


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("numbers", [(signal.SIGKILL,), (signal.SIGINT, signal.SIGINT)], ids=["kill", "Ctrl-C twice"])
def test_in_the_next_run(
    run_fetcher: Command, server: Scope, tmp_path: Path, numbers: tuple[signal.Signals, ...], changed: bool
) -> None:
    """What a run that was killed or stopped had is gone on with by the next, unless the file has changed since."""
    out = tmp_path / "out"
    before = "endless_body=1&drip=32,60" if changed else f"size={SIZE}&drip=2,60"
    etag = '"2"' if changed else '"1"'
    url = server.url("a", size=SIZE, range=True, etag=etag, fail_times=1)
    url += f"&fail_as={quote(before + '&etag=' + quote(chr(34) + '1' + chr(34)))}"

    def arrived() -> bool:
        return any(path.stat().st_size >= 1_000_000 for path in (out / ".fetcher/partial").glob("*") if not path.suffix)

    with run_fetcher.start("get", url, "-o", out) as process:
        assert process.stderr is not None
        until(arrived)
        for number in numbers:
            process.send_signal(number)
            if number == signal.SIGINT:
                process.stderr.readline()
        process.communicate(timeout=20)
    partials = out / ".fetcher/partial"
    assert len(list(partials.iterdir())) == 2
    record = record_of(run_fetcher, url, out)
    assert (out / record["path"]).read_bytes() == server.body_of("a", SIZE)
    asked = server.requests()[1]
    assert asked.header("if-range") == '"1"'
    if changed:
        assert (record["resumed_from"], record["status"], record["wire_bytes"]) == (None, 200, SIZE)
    else:
        assert asked.header("range") == f"bytes={record['resumed_from']}-"
        assert record["resumed_from"] >= 1_000_000
        assert (record["status"], record["wire_bytes"]) == (206, SIZE - record["resumed_from"])
