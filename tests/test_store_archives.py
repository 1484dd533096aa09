"""Archives in an object store: finished here, whole there, and each body where its record says."""

import asyncio
import signal
from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fetcher.disk import Disk
from fetcher.errors import LocalError
from fetcher.options import Format
from fetcher.sinks.formats import archive
from fetcher.sinks.shards import Rotation, ShardsSink
from tests import s3
from tests.command import Command, Ran
from tests.contracts.sink_contract import store
from tests.fakes import Clock
from tests.server import Scope
from tests.test_archives import FORMATS, READERS, Archives
from tests.test_formats import urls  # noqa: F401  a fixture

pytest.importorskip("obstore", reason="obstore, the extra `s3`, is not installed")

_NUMBERS = count()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The server."""
    with s3.running() as port:
        yield port


class Kept:
    """A bucket with archives of one format, looked at with others' readers, and the state of runs, which is here."""

    def __init__(self, port: int, form: Format, directory: Path) -> None:
        self.bucket = s3.Bucket(port, f"archives{next(_NUMBERS)}")
        self.bucket.make()
        self.form = form
        self.state = directory / "fetcher-state" / self.bucket.url.replace("://", "/")
        self._looked_at = directory / "looked-at"

    def words(self, *more: str) -> tuple[str, ...]:
        """Return a command with small archives."""
        return ("get", "urls.txt", "-o", self.bucket.url, "--format", self.form, "--rotate", "5k", *more)

    def archives(self) -> list[str]:
        """Return the keys of the archives."""
        keys = self.bucket.keys()
        return [key for key in keys if not key.startswith(".fetcher/")]

    def shown(self) -> dict[str, str]:
        """Return each body's digest by its archive and where it begins there."""
        found: dict[str, str] = {}
        for key in self.archives():
            self._looked_at.write_bytes(self.bucket.body(key))
            bodies = READERS[self.form](self._looked_at)
            rows = enumerate(body for _, body in bodies) if self.form is Format.PARQUET else bodies
            found |= {f"{key}@{place}": sha256(body).hexdigest() for place, body in rows}
        return found

    def check(self, ran: Ran, digests: dict[str, str], failed: int = 1) -> None:
        """Assert that a run has ended well, that each body is in the store, and that no archive is left here."""
        assert ran.code == (1 if failed else 0), ran.stderr
        good = [record for record in ran.records if record["ok"]]
        assert {record["url"]: record["sha256"] for record in good} == digests
        shown = self.shown()
        assert {record["url"]: shown[f"{record['path']}@{record['offset']}"] for record in good} == digests
        assert not self.bucket.uploads()
        assert {path.name for path in self.state.rglob("fetcher-*")} == set()


@pytest.fixture(params=FORMATS)
def kept(request: pytest.FixtureRequest, port: int, tmp_path: Path) -> Kept:
    """A bucket for each format."""
    return Kept(port, request.param, tmp_path)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run(workers: str, kept: Kept, urls: dict[str, str], server: Scope, run_fetcher: Command) -> None:  # noqa: F811
    """All that belongs to an archive in a directory belongs to one in a store: skipping, verifying, fetching again."""
    words, environment = kept.words("--workers", workers), kept.bucket.environment
    ran = run_fetcher(*words, env=environment)
    kept.check(ran, urls)
    archives = kept.archives()
    assert len(archives) > 1
    again = run_fetcher(*words, env=environment)
    kept.check(again, urls)
    assert {record["outcome"] for record in again.records} == {"skipped", "failed"}
    assert kept.archives() == archives
    verified = run_fetcher("verify", kept.bucket.url, env=environment)
    assert (verified.code, verified.stdout) == (0, ""), verified.stderr
    assert int(verified.stderr.partition(" files, ")[0]) >= len({*urls.values()})
    path = next(record["path"] for record in ran.records if record["ok"])
    kept.bucket.remove(path)
    missing = run_fetcher("verify", kept.bucket.url, env=environment)
    assert missing.code == 1
    assert {(line["finding"], line["path"]) for line in missing.records} == {("missing", path)}
    kept.check(run_fetcher(*words, env=environment), urls)


def test_a_damaged_archive(kept: Kept, urls: dict[str, str], run_fetcher: Command) -> None:  # noqa: F811
    """``verify`` tells of what is damaged or cut off, in whatever way its archive cannot be read any more."""
    kept.check(run_fetcher(*kept.words("--rotate", "1G"), env=kept.bucket.environment), urls)
    [key] = kept.archives()
    body = kept.bucket.body(key)
    for size, at_least in ((len(body) // 2, 1), (10, 5)):
        kept.bucket.put(key, body[:size])
        found = run_fetcher("verify", kept.bucket.url, env=kept.bucket.environment)
        assert found.code == 1, found.stderr
        assert {(line["finding"], line["path"]) for line in found.records} == {("changed", key)}
        assert len(found.records) >= at_least


_KILLED = """
import sys
from pathlib import Path
from fetcher.__main__ import main
from tests.saboteur import sabotaged
with sabotaged(Path("fetcher-state"), "kill", int(sys.argv.pop())):
    main()
"""


@pytest.mark.parametrize("step", [29, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_at_every_step(
    step: int,
    port: int,
    kept: Kept,
    urls: dict[str, str],  # noqa: F811
    run_fetcher: Command,
    tmp_path: Path,
) -> None:
    """Whatever kill -9 cuts off, the next run sends what was finished, and each body is there."""
    killed = Command(tmp_path, ("-c", _KILLED))
    environment = {**kept.bucket.environment, "PYTHONPATH": str(Path(__file__).parent.parent)}
    at = 11
    while (ran := killed(*kept.words(), str(at), env=environment)).code == -signal.SIGKILL:
        kept.check(run_fetcher(*kept.words(), env=environment), urls)
        kept = Kept(port, kept.form, tmp_path)
        at += step
    kept.check(ran, urls)
    assert at > 60


def test_a_store_that_fails(kept: Kept, urls: dict[str, str], closed_port: int, run_fetcher: Command) -> None:  # noqa: F811
    """What cannot be sent stops the run and stays here; the same command sends it, and asks for nothing again."""
    nowhere = s3.Bucket(closed_port, kept.bucket.name).environment
    words = kept.words("--rotate", "1G")
    stopped = run_fetcher(*words, env=nowhere)
    assert stopped.code == 3, stopped.stderr
    assert kept.bucket.url in stopped.stderr
    kept.check(run_fetcher(*words, env=kept.bucket.environment), urls)


class Depot:
    """Keeps archives in memory, or fails; notes how many lie in the directory when one comes."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.taken: dict[str, bytes] = {}
        self.seen: list[int] = []

    def holds(self, name: str) -> bool:
        """Tell whether it is there."""
        return name in self.taken

    async def send(self, path: Path) -> None:
        """Take it."""
        self.seen.append(len([each for each in path.parent.rglob("fetcher-*") if each.is_file()]))
        if self.failure is not None:
            raise self.failure
        self.taken[path.name] = path.read_bytes()  # noqa: ASYNC240
        path.unlink()  # noqa: ASYNC240


@pytest.fixture(params=FORMATS)
def archives(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archives]:
    """A directory."""
    with Disk() as disk:
        yield Archives(tmp_path / "out", request.param, disk)


def sink_of(archives: Archives, depot: Depot, size: int) -> ShardsSink:
    """Return a sink whose archives go to a depot."""
    disk: Any = archives._disk
    return ShardsSink(archives.root, archive(archives.form), Rotation(size=size), disk, Clock(), depot)


async def test_room(archives: Archives) -> None:
    """However many bodies come at once, no more than two archives are here; no name is given twice."""
    for _ in range(2):  # a second run at the same time of day
        depot = Depot()
        depot.taken["fetcher-19700101000000-00002" + archive(archives.form).suffix] = b"another's"
        async with sink_of(archives, depot, 3_000) as sink:
            await asyncio.gather(*(store(sink, f"http://h/{n}", [b"%d" % n * 900]) for n in range(30)))
        assert max(depot.seen) <= 2
        assert len(depot.seen) > 3
        assert len(archives.finished()) == 1
        archives.finished()[0].unlink()
        assert [body for body in depot.taken.values() if body == b"another's"] == [b"another's"]


@pytest.mark.parametrize("failure", [LocalError("no answer"), asyncio.CancelledError()])
async def test_not_sent(failure: BaseException, archives: Archives) -> None:
    """An archive that does not get there stays, finished, and what was stored meanwhile is in the next one."""
    depot = Depot()
    depot.failure = failure
    async with sink_of(archives, depot, 1) as sink:
        await store(sink, "http://h/0", [b"0"])
        with pytest.raises(type(failure)):
            await store(sink, "http://h/1", [b"1"])
    assert sorted(archives.shown().values()) == [b"0", b"1"]
    assert len(archives.finished()) == 2
