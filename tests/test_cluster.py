"""``--engine dask:...`` as its users meet it: a scheduler and workers that are processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fetcher.engines.channel import Done, Ended, Message
from fetcher.engines.spool import Inbox
from fetcher.sinks.shared import SharedFolder
from tests.command import Command, Ran
from tests.server import Scope
from tests.sockets import until
from tests.test_cli_signals import finished
from tests.test_workers import essence, files, listed, whole

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="kills processes")]


class Site:
    """A scheduler, whose file is ``scheduler.json``, and its workers, each a process without a nanny."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self.engine = f"dask:{directory / 'scheduler.json'}"
        self.workers: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start("dask_scheduler", "--port", "0", "--scheduler-file", "scheduler.json")
        until(self._up)

    def hire(self, count: int, *options: str) -> None:
        """Start so many workers more."""
        same = ("--scheduler-file", "scheduler.json", "--nthreads", "1", *options)
        self.workers += [self._start("dask_worker", *same) for _ in range(count)]

    def _up(self) -> bool:
        try:
            return bool(json.loads((self._directory / "scheduler.json").read_bytes())["address"])
        except (OSError, ValueError):
            return False

    def _start(self, module: str, *options: str) -> subprocess.Popen[bytes]:
        here = ("--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0")
        command = (sys.executable, "-m", f"distributed.cli.{module}", *here, *options)
        log = self._stack.enter_context((self._directory / f"{module}.log").open("ab"))
        process = self._stack.enter_context(
            subprocess.Popen(command, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        )
        self._stack.callback(process.kill)
        return process


Sites = Callable[[], Site]


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    """Return what makes a site, whose processes end with the test."""
    with ExitStack() as stack:
        numbers = iter(range(9))

        def make() -> Site:
            directory = tmp_path / f"site{next(numbers)}"
            directory.mkdir()
            return Site(directory, stack)

        yield make


@pytest.fixture
def site(sites: Sites) -> Site:
    """A site with two workers."""
    made = sites()
    made.hire(2, "--no-nanny")
    return made


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command."""
    return Command(tmp_path)


def same_again(ran: Ran, before: Iterable[str], urls: list[str], directory: Path) -> dict[str, str]:
    """Assert that a run went on where one before had ended; return the outcomes by URL."""
    assert ran.code == 0, ran.stderr
    outcomes = {url: record["outcome"] for url, record in whole(ran, urls, directory).items()}
    assert {url for url, outcome in outcomes.items() if outcome == "skipped"} == set(before)
    return outcomes


def left(state: Path) -> list[list[Message]]:
    """Return what each chunk that has left something here has told."""
    space = SharedFolder(state.parent)
    return [Inbox(space, name).read() for name in space.names() if name.endswith("/told")]


def told(state: Path) -> set[str]:
    """Return the URLs whose bodies chunks have told of that have left something here."""
    messages = (each for chunk in left(state) for each in chunk)
    return {each.record.url for each in messages if isinstance(each, Done) and each.record.ok}


def test_as_one_process_does_it(command: Command, site: Site, server: Scope, tmp_path: Path) -> None:
    """A thousand lines, good and bad, end as the same records and files, in any order."""
    urls = listed(server, 980, tmp_path)
    odd = [server.url("gone", status=404), server.url("cut", truncate_at=3), "no url", urls[7], urls[8]]
    odd += [server.url(f"zipped{number}", encoding="gzip") for number in range(10)]
    odd += [server.url(f"moved{number}", redirect_to=urls[number]) for number in range(5)]
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in [*urls, *odd]))
    seen = []
    for name, options in (("one", ()), ("many", ("--engine", site.engine))):
        ran = command("get", "urls.txt", "-o", name, "--retries", "1", *options)
        assert ran.code == 1, ran.stderr
        records = {record["line"]: essence(record) for record in ran.records}
        assert len(ran.records) == len(records) == 1000
        seen.append((records, files(tmp_path / name)))
        assert not (tmp_path / name / ".fetcher/parts").exists()
        assert ("2 lanes on 2 workers" in ran.stderr) == (name == "many")
    assert seen[0] == seen[1]


def test_one_large_host(command: Command, site: Site, server: Scope, tmp_path: Path) -> None:
    """Of a host with most of the list no more is under way at once, over the whole cluster, than may be."""
    urls = [server.origin(number % 5 and 1).url(f"h{number % 5 and 1}/{number}", delay=0.03) for number in range(400)]
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
    ran = command("get", "urls.txt", "--engine", site.engine, "-c", "30", "--per-host", "8")
    assert ran.code == 0, ran.stderr
    whole(ran, urls, tmp_path / "fetched")
    assert server.active_peak("h1/") == 8


def test_a_killed_worker(command: Command, site: Site, server: Scope, tmp_path: Path) -> None:
    """When a worker is killed, what it was at is fetched by another one; nothing is lost or told twice."""
    urls = listed(server, 300, tmp_path, delay=0.1)
    with command.start("get", "urls.txt", "--engine", site.engine, "-c", "8") as process:
        until(lambda: len(server.requests()) > 60)
        site.workers[0].kill()
        ran = finished(process)
    assert ran.code == 0, ran.stderr
    records = whole(ran, urls, tmp_path / "fetched")
    lost = [record for record in records.values() if record["retried"]]
    assert 1 <= len(lost) <= 4
    assert {(*record["retried"], record["attempts"]) for record in lost} == {("internal", 2)}


def test_a_killed_scheduler(command: Command, sites: Sites, site: Site, server: Scope, tmp_path: Path) -> None:
    """When the scheduler is killed, the run ends within seconds, says so, and goes on with another one."""
    urls = listed(server, 300, tmp_path, delay=0.1)
    with command.start("get", "urls.txt", "--engine", site.engine, "-c", "8") as process:
        until(lambda: len(server.requests()) > 60)
        site.scheduler.kill()
        began = time.monotonic()
        ran = finished(process)
    assert time.monotonic() - began < 20
    assert ran.code == 1
    assert "is gone" in ran.stderr
    assert "Traceback" not in ran.stderr
    done = {record["url"] for record in ran.records if record["ok"]}
    assert 1 <= len(done) < 300
    other = sites()
    other.hire(1, "--no-nanny")
    state = tmp_path / "fetched/.fetcher"
    for worker in site.workers:  # which would end by themselves
        worker.kill()
        worker.wait()
    done |= told(state)
    asked = len(server.requests())
    same_again(command("get", "urls.txt", "--engine", other.engine), done, urls, tmp_path / "fetched")
    assert len(server.requests()) == asked + 300 - len(done)
    assert not (state / "parts").exists()


def test_a_killed_run(command: Command, site: Site, server: Scope, tmp_path: Path) -> None:
    """When the run is killed, its work ends with it; the next run fetches nothing that had been told of already."""
    urls = listed(server, 300, tmp_path, delay=0.1)
    with command.start("get", "urls.txt", "--engine", site.engine, "-c", "8") as process:
        until(lambda: len(server.requests()) > 60)
        os.kill(process.pid, signal.SIGKILL)
        finished(process)
    until(lambda: not server.active_now())
    asked = len(server.requests())
    state = tmp_path / "fetched/.fetcher"
    until(lambda: all(messages[-1] == Ended() for messages in left(state)))
    journal = (state / "records.ndjson").read_bytes().splitlines(keepends=True)
    done = {json.loads(line)["url"] for line in journal if line.endswith(b"\n")}
    done |= told(state)
    assert len(done) <= asked < 300
    ran = command("get", "urls.txt", "--engine", site.engine)
    same_again(ran, done, urls, tmp_path / "fetched")
    assert len(server.requests()) == asked + 300 - len(done)
    assert not (state / "parts").exists()


def test_a_lethal_url(command: Command, sites: Sites, server: Scope, tmp_path: Path) -> None:
    """A URL that kills every worker that gets it fails, for that reason; all others are served."""
    site = sites()
    (tmp_path / "site0/patch.py").write_text("""
import os, signal
from contextlib import asynccontextmanager
from fetcher.transport.session import SessionTransport
original = SessionTransport.send
@asynccontextmanager
async def lethal(self, hop, send=original):
    async with send(self, hop) as response:
        if "lethal" in hop.url:
            os.kill(os.getpid(), signal.SIGKILL)
        yield response
if original.__name__ != "lethal":  # Dask loads it more than once
    SessionTransport.send = lethal
""")
    site.hire(5, "--no-nanny", "--preload", "patch.py")
    urls = listed(server, 12, tmp_path)
    lethal = server.url("lethal", delay=0.3)
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in [lethal, *urls]))
    ran = command("get", "urls.txt", "--engine", site.engine, "--workers", "2", "-c", "2")
    assert ran.code == 1, ran.stderr
    records = whole(ran, [lethal, *urls], tmp_path / "fetched")
    failed = records.pop(lethal)
    assert failed["error"]["message"] == "its worker process died"
    assert failed["retried"] == ["internal", "internal"]
    assert {record["outcome"] for record in records.values()} == {"fetched"}
