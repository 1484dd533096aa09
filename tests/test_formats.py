"""Runs that keep bodies in archives: complete and valid whatever happens, and known to the other commands."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fetcher.disk import Disk
from fetcher.options import Format
from tests.command import Command, Ran
from tests.server import Scope
from tests.sockets import until
from tests.test_archives import FORMATS, Archives
from tests.test_crash import Nursery, nursery  # noqa: F401  a fixture

KINDS = [form.value for form in FORMATS]


@pytest.fixture
def disk() -> Iterator[Disk]:
    """The disk's threads."""
    with Disk() as disk:
        yield disk


@pytest.fixture(params=FORMATS)
def out(request: pytest.FixtureRequest, tmp_path: Path, disk: Disk) -> Archives:
    """What a run with each format leaves in ``fetched``."""
    return Archives(tmp_path / "fetched", request.param, disk)


@pytest.fixture
def urls(server: Scope, tmp_path: Path) -> dict[str, str]:
    """A list with bodies small and large, coded and empty, equal and moved, as ``urls.txt``, with their digests."""
    sizes = {"a.txt": 60, "b": 3_000, "c.json": 0, "d": 1_500_000, "e": 700}
    bodies = {server.url(name, size=size): server.body_of(name, size) for name, size in sizes.items()}
    bodies[server.url("f", body="x" * 500)] = bodies[server.url("g", body="x" * 500)] = b"x" * 500
    bodies[server.url("h", redirect_to=server.path("there"))] = server.body_of("there")
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in [*bodies, server.url("gone", status=404)]))
    return {url: sha256(body).hexdigest() for url, body in bodies.items()}


def journal(out: Archives) -> list[dict[str, Any]]:
    """Return the whole lines of the journal."""
    path = out.root / ".fetcher/records.ndjson"
    return [*map(json.loads, path.read_bytes().split(b"\n")[:-1])] if path.exists() else []


def check(out: Archives, ran: Ran, urls: dict[str, str], failed: int = 1) -> None:
    """Assert that a run has ended well, and that others' readers find every body where its record says."""
    assert ran.code == (1 if failed else 0), ran.stderr
    assert len(ran.records) == len(urls) + failed
    good = [record for record in ran.records if record["ok"]]
    assert {record["url"]: record["sha256"] for record in good} == urls
    shown = {place: sha256(body).hexdigest() for place, body in out.shown().items()}
    assert {record["url"]: shown[f"{record['path']}@{record['offset']}"] for record in good} == urls
    assert not out.growing()
    assert {path.name for path in (out.root / ".fetcher").iterdir()} <= {
        *("open", "partial", "lock", "records.ndjson", "last-run.json"),
    }


def test_a_run(out: Archives, urls: dict[str, str], server: Scope, run_fetcher: Command) -> None:
    """All that belongs to a file belongs to a body in an archive: skipping, verifying, finding, fetching again."""
    words = ("get", "urls.txt", "--format", out.form, "--rotate", "5k")
    ran = run_fetcher(*words)
    check(out, ran, urls)
    assert len(out.finished()) > 1
    asked = len(server.requests())
    again = run_fetcher(*words)
    check(out, again, urls)
    assert {record["outcome"] for record in again.records} == {"skipped", "failed"}
    assert len(server.requests()) == asked + 1
    verified = run_fetcher("verify", "fetched")
    assert (verified.code, verified.stdout) == (0, ""), verified.stderr
    path = next(record["path"] for record in ran.records if record["ok"])
    found = run_fetcher("records", "fetched", "--path", path).records
    assert {record["path"] for record in found} == {path}
    (out.root / path).unlink()
    missing = run_fetcher("verify", "fetched")
    assert missing.code == 1
    assert {(line["finding"], line["path"]) for line in missing.records} == {("missing", path)}
    check(out, run_fetcher(*words), urls)
    assert run_fetcher("retry", "fetched", "--format", out.form).code == 1


def test_a_damaged_archive(out: Archives, urls: dict[str, str], run_fetcher: Command) -> None:
    """``verify`` tells of the bodies that are damaged, and fetches them again from its list; the others are well."""
    check(out, run_fetcher("get", "urls.txt", "--format", out.form), urls)
    [path] = out.finished()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF  # within the largest body
    path.write_bytes(data)
    found = run_fetcher("verify", "fetched")
    assert found.code == 1
    told = [(line["finding"], line["url"]) for line in found.records]
    largest = list(urls)[3]
    assert ("changed", largest) in told
    assert out.form is Format.PARQUET or told == [("changed", largest)]


STEPS = [17, pytest.param(3, marks=pytest.mark.slow)]


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_step(
    step: int,
    out: Archives,
    urls: dict[str, str],
    server: Scope,
    nursery: Nursery,  # noqa: F811
) -> None:
    """Whatever kill -9 cuts off, the next run finishes what was there, and asks for nothing that was recorded."""
    words = ("get", "urls.txt", "--format", out.form, "--rotate", "2k")
    at = 1
    while (ran := nursery(*words, killed_at=at)).code == -signal.SIGKILL:
        before = len(server.requests())
        done = {record["url"] for record in journal(out) if record["ok"]}
        check(out, nursery(*words), urls)
        asked = [server.base + seen.resource for seen in server.requests()[before:]]
        assert not done & {*asked}
        shutil.rmtree(out.root)
        at += step
    check(out, ran, urls)
    assert at > 40


def workers_of(pid: int) -> list[int]:
    """Return the processes that a process has started and that fetch."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


@pytest.mark.slow
def test_a_killed_worker(out: Archives, server: Scope, run_fetcher: Command, tmp_path: Path) -> None:
    """Each worker has archives of its own; what one leaves that dies is finished at the end of the run."""
    urls = {
        server.url(f"{n}", size=900 + n, delay=0.1 if n > 20 else 0): sha256(
            server.body_of(f"{n}", 900 + n)
        ).hexdigest()
        for n in range(60)
    }
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
    words = ("get", "urls.txt", "--format", out.form, "--workers", "2", "-c", "4", "--json")
    with run_fetcher.start(*words) as process:
        until(lambda: len(journal(out)) > 20)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=60)
    check(out, Ran(process.returncode, stdout, stderr), urls, failed=0)
    assert len(out.finished()) >= 3


@pytest.mark.parametrize("form", KINDS)
def test_nothing_saved(form: str, urls: dict[str, str], run_fetcher: Command, tmp_path: Path) -> None:
    """``--no-save`` keeps nothing in any format."""
    ran = run_fetcher("get", "urls.txt", "--format", form, "--no-save")
    assert (ran.code, (tmp_path / "fetched").exists()) == (1, False)
    assert sum(record["ok"] for record in ran.records) == len(urls)


def test_without_pyarrow(urls: dict[str, str], server: Scope, tmp_path: Path) -> None:
    """Without the extra the command to install it is told, and nothing is fetched; the other formats need none."""
    program = "import sys; sys.modules['pyarrow'] = None; from fetcher.__main__ import main; main()"
    without = Command(tmp_path, ("-c", program))
    ran = without("get", "urls.txt", "--format", "parquet")
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr == "fetcher: --format parquet needs pyarrow: pip install 'fetcher[parquet]'\n"
    assert not server.requests()
    assert not (tmp_path / "fetched").exists()
    assert without("get", "urls.txt", "--format", "tar").code == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "zip"), '--format "zip": write one of files, warc, tar, parquet'),
        (("--format", "tar", "--name", "{sha256}"), "--name is for --format files: in an archive bodies have no names"),
        (("--rotate", "0"), "rotate must be at least 1 byte"),
        (("--rotate", "x"), '--rotate "x": write a size such as 500k, 10M or 2Gi'),
        (("--rotate", "0x"), "rotate must be at least 1 body"),
        (
            ("--rotate", "5x,5x"),
            '--rotate "5x,5x": write a size such as 1G, a number of bodies such as 10000x, or 1G,10000x',
        ),
    ],
)
def test_refused(words: tuple[str, ...], said: str, run_fetcher: Command) -> None:
    """What cannot be meant is refused in one line."""
    ran = run_fetcher("get", "http://127.0.0.1:1/", *words)
    assert (ran.code, ran.stderr) == (2, f"fetcher: {said}\n")


def test_secrets_stay_out(out: Archives, server: Scope, run_fetcher: Command) -> None:
    """Neither a password of the URL nor a header of the user's stands in an archive."""
    url = server.url("a").replace("//", "//user:PASSWORD@")
    ran = run_fetcher("get", url, "--format", out.form, "-H", "X-Key: KEY-OF-MINE")
    assert ran.code == 0
    [seen] = server.requests()
    assert seen.header("X-Key") == "KEY-OF-MINE"
    unpack: Callable[[bytes], bytes] = _inflated if out.form is Format.WARC else bytes
    text = unpack(out.finished()[0].read_bytes())
    assert not [secret for secret in (b"PASSWORD", b"KEY-OF-MINE", b"user:", b"dXNlcj") if secret in text]


def _inflated(data: bytes) -> bytes:
    import gzip

    return gzip.decompress(data)
