"""``--workers N`` as its users meet it: several processes, one run."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.answers import Value
from tests.command import Command, Ran
from tests.server import Scope
from tests.sockets import until
from tests.test_cli_signals import finished

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

#: Starts the command as the leader of a session of its own, by which its processes are found.
_SESSION = "import os, sys; os.setsid(); os.execv(sys.executable, [sys.executable, '-W', 'error', *sys.argv[1:]])"

#: Begins programs that workers, too, run before they work.
_PATCHED = """
import os, signal, sys
worker = __name__ == "__mp_main__"
{patch}
if __name__ == "__main__":
    from fetcher.__main__ import main
    main()
"""


def processes(session: int) -> dict[int, str]:
    """Return the processes of a session but for zombies: command lines by process id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, *_, number = (path / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(number) == session and state != "Z":
                found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


def workers(session: int) -> list[int]:
    """Return the worker processes of a session."""
    return [number for number, line in processes(session).items() if "spawn_main" in line]


def heard(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a process sleeps: then it has heard of all that its workers had told before."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@pytest.fixture
def session(tmp_path: Path) -> Command:
    """The command with a session of its own, whose number is its process's."""
    return Command(tmp_path, ("-c", _SESSION, "-m", "fetcher"))


@pytest.fixture
def patched(tmp_path: Path) -> Iterator[Any]:
    """Return a function that makes the command with a patch, which workers run too."""

    def make(patch: str) -> Command:
        (tmp_path / "patched.py").write_text(_PATCHED.format(patch=patch))
        return Command(tmp_path, ("-c", _SESSION, "patched.py"))

    yield make
    (tmp_path / "patched.py").unlink(missing_ok=True)


def listed(server: Scope, count: int, directory: Path, **options: Value) -> list[str]:
    """Write a list of so many URLs on three hosts to ``urls.txt``, and return it."""
    urls = [server.origin(number % 3).url(str(number), **options) for number in range(count)]
    (directory / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
    return urls


def essence(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record without what depends on when and how fast."""
    return {key: value for key, value in record.items() if key not in {"started_at", "elapsed", "timings"}}


def files(directory: Path) -> dict[str, bytes]:
    """Return all files below ``directory`` but the run's own."""
    found = {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(".fetcher/")}


def whole(ran: Ran, urls: list[str], directory: Path) -> dict[str, dict[str, Any]]:
    """Assert that each URL has one record and its own bytes; return the records by URL."""
    records = {record["url"]: record for record in ran.records}
    assert len(ran.records) == len(records)
    assert set(records) == set(urls)
    paths = [record["path"] for record in records.values() if record["path"] is not None]
    assert len(set(paths)) == len(paths)
    assert set(files(directory)) == set(paths)
    assert list((directory / ".fetcher/partial").iterdir()) == []
    return records


@pytest.mark.slow
def test_as_one_process_does_it(session: Command, server: Scope, tmp_path: Path) -> None:
    """A thousand lines, good and bad, end as the same records and files with one, two and three workers."""
    urls = listed(server, 980, tmp_path)
    odd = [server.url("gone", status=404), server.url("cut", truncate_at=3), "no url", urls[7], urls[8]]
    odd += [server.url(f"zipped{number}", encoding="gzip") for number in range(10)]
    odd += [server.url(f"moved{number}", redirect_to=urls[number]) for number in range(5)]
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in [*urls, *odd]))
    seen = []
    for count in ("1", "2", "3"):
        ran = session("get", "urls.txt", "-o", count, "--workers", count, "--retries", "0")
        assert ran.code == 1
        records = {record["line"]: essence(record) for record in ran.records}
        assert len(ran.records) == len(records) == 1000
        seen.append((records, files(tmp_path / count)))
    assert seen[0] == seen[1] == seen[2]


def test_a_killed_worker(session: Command, server: Scope, tmp_path: Path) -> None:
    """When a worker is killed, what it was at is fetched by the next one, and its record says so; nothing is lost."""
    urls = listed(server, 90, tmp_path, delay=0.1)
    with session.start("get", "urls.txt", "--workers", "2", "-c", "8") as process:
        until(lambda: len(server.requests()) > 20)
        os.kill(workers(process.pid)[0], signal.SIGKILL)
        ran = finished(process)
    records = whole(ran, urls, tmp_path / "fetched")
    assert ran.code == 0, ran.stderr
    lost = [record for record in records.values() if record["retried"]]
    assert 1 <= len(lost) <= 4
    assert {(*record["retried"], record["attempts"]) for record in lost} == {("internal", 2)}
    for url, record in records.items():
        name = re.sub(r".*/(\d+)\?.*", r"\1", url)
        assert (tmp_path / "fetched" / record["path"]).read_bytes() == server.body_of(name)


def test_a_lethal_url(patched: Any, server: Scope, tmp_path: Path) -> None:
    """A URL that kills every worker that gets it fails, for that reason; all others are served."""
    command = patched("""
from contextlib import asynccontextmanager
from fetcher.transport.session import SessionTransport
send = SessionTransport.send
@asynccontextmanager
async def lethal(self, hop):
    async with send(self, hop) as response:
        if "lethal" in hop.url:
            os.kill(os.getpid(), signal.SIGKILL)
        yield response
SessionTransport.send = lethal
""")
    urls = listed(server, 12, tmp_path)
    lethal = server.url("lethal")
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in [lethal, *urls]))
    ran = command("get", "urls.txt", "--workers", "2", "-c", "2", "--summary", "summary.json")
    assert ran.code == 1, ran.stderr
    records = whole(ran, [lethal, *urls], tmp_path / "fetched")
    failed = records.pop(lethal)
    assert (failed["error"]["kind"], failed["attempts"]) == ("internal", 3)
    assert failed["retried"] == ["internal", "internal"]
    assert {record["outcome"] for record in records.values()} == {"fetched"}
    assert json.loads((tmp_path / "summary.json").read_text())["retries"] == 2


def test_retries_outlive_their_worker(session: Command, server: Scope, tmp_path: Path) -> None:
    """What a dead worker had told of a request still counts: its retries, and the wait before the next one."""
    url = server.url("a", fail_times=1, fail_as="status=503&retry_after=1")
    with session.start("get", url, server.url("b"), "--workers", "2", "-v") as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith(b"retry"):
            pass
        for number in workers(process.pid):
            os.kill(number, signal.SIGKILL)
        ran = finished(process)
    record = {record["url"]: record for record in ran.records}[url]
    assert (ran.code, record["outcome"], record["retried"], record["attempts"]) == (0, "fetched", ["http.503"], 2)
    first, second = server.requests("a")
    assert second.time - first.time >= 1.0


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ("if worker: os.kill(os.getpid(), signal.SIGKILL)", "worker processes end as soon as they begin"),
        (
            """
import errno
from multiprocessing import resource_tracker, util
def refuse(*_):
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
resource_tracker.ensure_running()
util.spawnv_passfds = refuse
""",
            "cannot start a worker process: resource temporarily unavailable",
        ),
        (
            """
from fetcher.sinks.partial import Partials
def look(self):
    raise OSError(5, "Input/output error")
Partials.look = look
""",
            "a worker process failed: input/output error",
        ),
    ],
)
def test_no_workers(patch: str, words: str, patched: Any, server: Scope) -> None:
    """A machine that does not let workers start ends the run with status 3 and one line that says why."""
    ran = patched(patch)("get", server.url("a"), "--workers", "2")
    assert (ran.code, ran.stdout) == (3, "")
    assert ran.stderr.splitlines()[:2] == [f"fetcher: {words}", "stopped: worker processes failed"]
    assert server.requests() == []


def test_a_bug_in_a_worker(patched: Any, server: Scope) -> None:
    """A bug in a worker's own machinery ends the run with status 70 and its traceback."""
    patch = """
from fetcher.engines.inline import Inline
async def buggy(self, customer):
    1 / 0
Inline.run = buggy
"""
    ran = patched(patch)("get", server.url("a"), "--workers", "2", timeout=20)
    assert ran.code == 70
    assert "ZeroDivisionError" in ran.stderr
    assert ran.stderr.endswith("fetcher: a bug; please report the lines above\n")


def test_a_killed_run(session: Command, server: Scope, tmp_path: Path) -> None:
    """After kill -9 no process of the run is left, its readers see the end, and the same command completes it."""
    urls = listed(server, 60, tmp_path, delay=0.1)
    with session.start("get", "urls.txt", "--workers", "3", "-c", "6") as process:
        until(lambda: len(server.requests()) > 20)
        assert len(workers(process.pid)) == 3
        process.kill()
        output, errors = process.communicate(timeout=2)  # which waits until nobody holds the pipes
        until(lambda: not processes(process.pid))
    assert errors == b""
    done = {json.loads(line)["url"] for line in output.split(b"\n")[:-1]}
    before = len(server.requests())
    ran = session("get", "urls.txt", "--workers", "3", "-c", "6")
    assert ran.code == 0
    records = whole(ran, urls, tmp_path / "fetched")
    assert done <= {url for url, record in records.items() if record["outcome"] == "skipped"}
    asked = {seen.resource for seen in server.requests()[before:]}
    assert not asked & {"/" + url.split("/", 3)[3] for url in done}
    before = len(server.requests())
    assert {record["outcome"] for record in session("get", "urls.txt", "--workers", "2").records} == {"skipped"}
    assert len(server.requests()) == before


@pytest.mark.slow
def test_a_body_goes_on(session: Command, server: Scope, tmp_path: Path) -> None:
    """What a killed run had of a large body is gone on with, not fetched again."""
    size = 4_000_000
    urls = [server.url(f"big{number}", size=size, drip="40,0.05", range=True) for number in range(2)]
    partial = tmp_path / "fetched/.fetcher/partial"
    with session.start("get", *urls, "--workers", "2") as process:
        # A body goes to the disk in blocks of a mebibyte.
        until(lambda: partial.exists() and sum(path.stat().st_size > 2**20 for path in partial.iterdir()) == 2)
        process.kill()
        process.communicate(timeout=5)
    records = whole(session("get", *urls, "--workers", "2"), urls, tmp_path / "fetched")
    for number, url in enumerate(urls):
        assert records[url]["resumed_from"] > 2**20
        assert (tmp_path / "fetched" / records[url]["path"]).read_bytes() == server.body_of(f"big{number}", size)


@pytest.mark.parametrize(
    ("number", "status", "send"),
    [
        (signal.SIGINT, 130, os.kill),
        (signal.SIGINT, 130, os.killpg),
        (signal.SIGTERM, 143, os.kill),
        (signal.SIGHUP, 129, os.killpg),
        pytest.param(signal.SIGTERM, 143, os.killpg, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, os.kill, marks=pytest.mark.slow),
    ],
)
def test_a_signal(
    number: int, status: int, send: Callable[[int, int], None], session: Command, server: Scope, tmp_path: Path
) -> None:
    """A signal, to the run or to all its processes, finishes what has begun, starts nothing more, and says so."""
    urls = listed(server, 20, tmp_path, delay=0.9)
    with session.start("get", "urls.txt", "--workers", "2", "-c", "4", "--summary", "sum.json") as process:
        until(lambda: server.active_now() == 4 and heard(process))
        send(process.pid, number)
        ran = finished(process)
    assert ran.code == status
    records = ran.records
    assert len(records) == len(server.requests()) < 20
    assert {record["outcome"] for record in records} == {"fetched"}
    told, _, headline, counts, *_ = ran.stderr.splitlines()
    assert re.fullmatch(r"stopping: finishing \d transfers? \(up to 5 s\), Ctrl-C again to drop them", told)
    assert headline.startswith(f"{len(records)} of 20 URLs in ")
    assert counts == f"{len(records)} ok, 0 failed, {len(urls) - len(records)} not started"
    assert json.loads((tmp_path / "sum.json").read_text())["exit_status"] == status
    until(lambda: not processes(process.pid))


@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_twice(send: Callable[[int, int], None], session: Command, server: Scope, tmp_path: Path) -> None:
    """The second signal drops what is under way at once, each with its record, and leaves nothing of it."""
    urls = [server.origin(number).url(f"{number}", size=1_000_000, drip="100,1") for number in range(4)]
    with session.start("get", *urls, server.url("later"), "--workers", "2", "-c", "4") as process:
        assert process.stderr is not None
        until(lambda: server.active_now() == 4 and heard(process))
        send(process.pid, signal.SIGINT)
        assert process.stderr.readline().startswith(b"stopping: finishing ")
        send(process.pid, signal.SIGINT)
        asked = time.monotonic()
        ran = finished(process)
    assert time.monotonic() - asked < 2
    assert ran.code == 130
    assert sorted(record["url"] for record in ran.records) == sorted(urls)
    for record in ran.records:
        assert record["error"]["kind"] == "cancelled"
        assert re.fullmatch("stopped by Ctrl-C after .*", record["error"]["message"])
    assert "0 ok, 4 failed, 1 not started" in ran.stderr
    assert files(tmp_path / "fetched") == {}
    assert list((tmp_path / "fetched/.fetcher/partial").iterdir()) == []


def test_stopped_while_a_lost_request_waits(session: Command, server: Scope) -> None:
    """A request whose worker has died has its record, too, if the run is stopped before it is tried again."""
    with session.start("get", server.url("a", delay=60), server.url("b", delay=60), "--workers", "2", "-v") as process:
        assert process.stderr is not None
        until(lambda: server.active_now() == 2 and heard(process))
        for number in workers(process.pid):
            os.kill(number, signal.SIGKILL)
        retries = [process.stderr.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        ran = finished(process)
    assert all(line.startswith(b"retry 1") for line in retries)
    assert ran.code == 130
    assert len(ran.records) == 2
    assert {record["error"]["kind"] for record in ran.records} <= {"internal", "cancelled"}
    assert "0 ok, 2 failed, 0 not started" in ran.stderr


@pytest.mark.slow
def test_ctrl_c_while_workers_start(patched: Any, server: Scope, tmp_path: Path) -> None:
    """Whenever Ctrl-C reaches all processes at their start, the run ends in order, without a traceback."""
    command = patched("""
import fetcher.engines.processes as engine
started = engine._started
def telling(*words):
    process = started(*words)
    os.write(2, b"up\\n")
    return process
engine._started = telling
""")
    for step in range(6):
        with command.start("get", server.url("hanging", hang=True), "--workers", "2") as process:
            assert process.stderr is not None
            assert process.stderr.readline() == b"up\n"
            time.sleep(step * 0.08)  # what the worker is at then does not matter
            for _ in range(2):
                os.killpg(process.pid, signal.SIGINT)
                time.sleep(0.02)
            ran = finished(process)
        assert ran.code == 130
        assert "Traceback" not in ran.stderr
        until(lambda: not processes(process.pid))


def test_an_ignored_signal(server: Scope, tmp_path: Path) -> None:
    """Ctrl-C means nothing to a run that was started with it ignored."""
    code = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {_SESSION}"
    command = Command(tmp_path, ("-c", code, "-m", "fetcher"))
    with command.start("get", server.url("a", delay=0.5), server.url("b"), "--workers", "2") as process:
        until(lambda: server.active_now("a") == 1)
        os.killpg(process.pid, signal.SIGINT)
        ran = finished(process)
    assert (ran.code, len(ran.records)) == (0, 2)


def test_the_first_lines_are_enough(server: Scope, tmp_path: Path) -> None:
    """``| head -3`` gets three lines and ends the run quietly with status 141."""
    listed(server, 300, tmp_path)
    bash = shutil.which("bash") or pytest.skip("there is no bash")
    script = 'set -o pipefail; "$0" -W error -m fetcher get urls.txt --workers 2 -c 4 | head -3'
    words = [bash, "-c", script, sys.executable]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False, timeout=30, stdin=subprocess.DEVNULL)
    assert (ran.returncode, ran.stdout.count(b"\n")) == (141, 3)
    assert b"rror" not in ran.stderr


def test_from_standard_input_to_nowhere(session: Command, server: Scope, tmp_path: Path) -> None:
    """A list on standard input is read by the run alone; with --no-save nothing is written."""
    urls = listed(server, 50, tmp_path)
    text = (tmp_path / "urls.txt").read_bytes()
    (tmp_path / "urls.txt").unlink()
    ran = session("get", "-", "--no-save", "--workers", "2", stdin=text)
    assert ran.code == 0
    assert {record["url"]: (record["path"], record["bytes"] > 0) for record in ran.records} == dict.fromkeys(
        urls, (None, True)
    )
    assert list(tmp_path.iterdir()) == []


def test_limits(session: Command, server: Scope, tmp_path: Path) -> None:
    """The limits hold over all workers together, as the server sees them."""
    for options, most in (
        (["--per-host", "4", "--workers", "2", "-c", "6"], 4),
        (["--per-host", "3", "--workers", "4", "-c", "4"], 3),
        (["-c", "1", "--workers", "4"], 1),
    ):
        part = Scope(server.server, server.base, server.path(f"{most}/"))
        urls = [part.url(str(number), delay=0.05) for number in range(20)]
        ran = session("get", *urls, "--no-save", *options)
        assert (ran.code, len(ran.records)) == (0, 20)
        assert part.active_peak() == most


@pytest.mark.slow
def test_rates(session: Command, server: Scope, tmp_path: Path) -> None:
    """No more requests start per second than the rates of the run, over all workers, allow."""
    urls = listed(server, 30, tmp_path)
    for rate in (["--rate", "20"], ["--host-rate", "10"]):
        before = len(server.requests())
        assert session("get", "urls.txt", "--no-save", "--workers", "2", *rate).code == 0
        times = [seen.time for seen in server.requests()[before:]]
        assert len(times) == len(urls)
        per_second = 20 if rate[0] == "--rate" else 30
        assert times[-1] - times[0] >= (len(urls) - 6) / per_second * 0.9


@pytest.mark.slow
def test_a_hold_is_everyones(session: Command, server: Scope, tmp_path: Path) -> None:
    """A host that asks one worker to wait is left alone by all of them; only what is on its way still comes."""
    busy = server.url("busy", fail_times=1, fail_status=429, retry_after="2")
    urls = [server.url(str(number), delay=0.1) for number in range(120)]
    urls.insert(20, busy)
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
    ran = session("get", "urls.txt", "--no-save", "--workers", "2", "-c", "8", "--retries", "1")
    assert (ran.code, len(ran.records)) == (0, 121)
    refused = server.requests("busy")[0].time
    times = [seen.time for seen in server.requests()]
    assert len(times) == 122
    # Each of eight slots may have made one more request before its worker heard of it.
    assert sum(refused < time < refused + 2.0 for time in times) <= 16


def test_two_runs_on_one_directory(session: Command, server: Scope) -> None:
    """A directory belongs to one run and its workers: the second run is refused with status 4."""
    with session.start("get", server.url("a", delay=2), server.url("b", delay=2), "--workers", "2") as process:
        until(lambda: server.active_now() == 2 and heard(process))
        assert session("get", server.url("c"), "--workers", "2").code == 4
        os.killpg(process.pid, signal.SIGKILL)
    assert server.requests("c") == []


def test_before_any_process(patched: Any, server: Scope, tmp_path: Path) -> None:
    """What cannot be done is said, and a dry run is made, before any process starts."""
    command = patched("""
import fetcher.engines.processes as engine
engine._started = lambda *_: os.abort()
""")
    (tmp_path / "bad.pem").write_text("no certificate")
    url = server.url("a")
    ran = command("get", url, "--workers", "2", "--ca-file", "bad.pem")
    assert (ran.code, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    ran = command("get", url, "--workers", "2", "--dry-run")
    assert (ran.code, [record["outcome"] for record in ran.records]) == (0, ["planned"])
    assert server.requests() == []


def test_progress(session: Command, server: Scope, tmp_path: Path) -> None:
    """Lines of progress and the summary show sane numbers."""
    urls = listed(server, 30, tmp_path, delay=0.1)
    words = ["get", "urls.txt", "--workers", "2", "-c", "4", "--progress", "lines", "--summary", "sum.json"]
    with session.start(*words) as process:
        until(lambda: len(server.requests()) > 12)
        process.send_signal(signal.SIGUSR1)
        ran = finished(process)
    found = re.search(r"(\d+)/30 \d+% failed 0 [\d.]+/s", ran.stderr)
    assert found is not None, ran.stderr
    assert 8 <= int(found[1]) < 30
    summary = json.loads((tmp_path / "sum.json").read_text())
    records = whole(ran, urls, tmp_path / "fetched").values()
    assert (summary["lines"], summary["ok"], summary["retries"]) == (30, 30, 0)
    assert summary["bytes"] == summary["wire_bytes"] == sum(record["bytes"] for record in records)
    assert Counter(summary["outcomes"])["fetched"] == 30


@pytest.mark.slow
def test_few_descriptors(session: Command, server: Scope, tmp_path: Path) -> None:
    """Where few files may be open, fewer are fetched at once, and no more workers than that start."""
    urls = listed(server, 60, tmp_path)
    code = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32)); {_SESSION}"
    ran = Command(tmp_path, ("-c", code, "-m", "fetcher"))("get", "urls.txt", "--workers", "16")
    assert ran.code == 0, ran.stderr
    assert "the limit of open files is low (ulimit -n)" in ran.stderr
    whole(ran, urls, tmp_path / "fetched")


_LIBRARY = """
import asyncio, json, os, sys, threading
from pathlib import Path
from fetcher import Options, Output, fetch_all

async def main():
    options = Options(workers=2, output=Output(directory=Path("out")))
    async with asyncio.timeout(20):
        return [record async for record in fetch_all(sys.argv[1:], options)]

if __name__ == "__main__":
    records = asyncio.run(main())
    alive = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    print(json.dumps([sorted(record.outcome for record in records), alive]))
"""


def test_as_a_library(server: Scope, tmp_path: Path) -> None:
    """A script gets its records by workers, too, and keeps no thread and no worker of the run."""
    (tmp_path / "script.py").write_text(_LIBRARY)
    command = Command(tmp_path, ("-c", _SESSION, "script.py"))
    with command.start(*[server.url(str(number)) for number in range(10)]) as process:
        ran = finished(process)
        assert not workers(process.pid)
    assert (ran.code, ran.stderr) == (0, "")
    assert json.loads(ran.stdout) == [["fetched"] * 10, []]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "most"), [(signal.SIGKILL, 3.0), (signal.SIGSTOP, 6.0)])
def test_a_worker_lost_at_the_end(number: int, most: float, session: Command, server: Scope, tmp_path: Path) -> None:
    """A worker that dies or hangs while the run is ending keeps nobody; what it was at has its record."""
    urls = [server.url(f"{position}", size=1_000_000, drip="100,1") for position in range(4)]
    with session.start("get", *urls, "--workers", "2", "-c", "4") as process:
        assert process.stderr is not None
        until(lambda: server.active_now() == 4 and heard(process))
        process.send_signal(signal.SIGINT)
        process.stderr.readline()
        os.kill(workers(process.pid)[0], number)
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        ran = finished(process)
    assert time.monotonic() - asked < most
    assert ran.code == 130
    messages = Counter(record["error"]["message"].split(" after ")[0] for record in ran.records)
    assert messages == {"stopped by Ctrl-C": 2, "stopped by Ctrl-C; its worker told no more": 2}
    assert "0 ok, 4 failed, 0 not started" in ran.stderr
    until(lambda: not processes(process.pid))


@pytest.mark.parametrize(
    "closed", ["<&- >&- 2>&-", *(pytest.param(one, marks=pytest.mark.slow) for one in ("<&-", ">&-", "2>&-"))]
)
def test_without_standard_streams(closed: str, server: Scope, tmp_path: Path) -> None:
    """Closed standard streams, whose numbers other files could get, do no harm."""
    urls = listed(server, 10, tmp_path)
    script = '"$0" -W error -m fetcher get urls.txt --workers 2 --failed failed.txt '
    ran = subprocess.run(
        ["/bin/sh", "-c", script + closed, sys.executable], cwd=tmp_path, capture_output=True, check=False, timeout=30
    )
    assert (ran.returncode, ran.stderr.count(b"rror")) == (0, 0)
    assert len(files(tmp_path / "fetched")) == len(urls)
