"""Runs that are stopped, killed and started again: what was done is kept, what was not is told."""

import json
import os
import random
import re
import signal
import time
from pathlib import Path
from subprocess import Popen

import pytest

from tests.command import Command, Ran
from tests.server import Scope
from tests.sockets import until


def finished(process: Popen[bytes]) -> Ran:
    """Read to the end what the process writes."""
    output, errors = process.communicate(timeout=30)
    return Ran(process.returncode, output, errors)


def ignoring(number: signal.Signals, directory: Path) -> Command:
    """Return the command as nohup and a shell's ``&`` start it: with a signal ignored."""
    code = (
        f"import os, signal, sys; signal.signal({int(number)}, signal.SIG_IGN); "
        "os.execv(sys.executable, [sys.executable, '-m', 'fetcher', *sys.argv[1:]])"
    )
    return Command(directory, ("-c", code))


@pytest.mark.parametrize(
    ("number", "status", "reason"),
    [(signal.SIGINT, 130, "interrupt"), (signal.SIGTERM, 143, "terminate"), (signal.SIGHUP, 129, "hangup")],
)
def test_one_signal_finishes_what_has_begun(
    number: signal.Signals, status: int, reason: str, run_fetcher: Command, server: Scope, tmp_path: Path
) -> None:
    """The first signal starts nothing more, lets transfers finish and says so; the numbers add up to the list."""
    urls = [server.url(str(position), delay=0.7) for position in range(20)]
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
    with run_fetcher.start("get", "urls.txt", "-c", "2", "--summary", "sum.json") as process:
        until(lambda: server.active_now() == 2)
        process.send_signal(number)
        ran = finished(process)
    assert ran.code == status
    done = len(server.requests())
    assert len(ran.records) == done < 20
    assert {record["outcome"] for record in ran.records} == {"fetched"}
    told, stopped, headline, counts, *_, again, report = ran.stderr.splitlines()
    assert re.fullmatch(r"stopping: finishing \d transfers? \(up to 5 s\), Ctrl-C again to drop them", told)
    assert stopped.startswith("stopped")
    assert headline.startswith(f"{done} of 20 URLs in ")
    assert counts == f"{done} ok, 0 failed, {20 - done} not started"
    assert again == "again    python -m fetcher get urls.txt -c 2 --summary sum.json"
    assert report == "report   python -m fetcher report fetched"
    summary = json.loads((tmp_path / "sum.json").read_text())
    assert (summary["lines"], summary["ok"], summary["not_started"]) == (20, done, 20 - done)
    assert (summary["exit_status"], summary["stop"]) == (status, reason)


def test_the_second_signal_drops_them(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """The second signal ends the transfers at once, each with its record; nothing of them is left in DIR."""
    urls = [server.url(f"{position}", size=1_000_000, drip="100,1") for position in range(2)]
    with run_fetcher.start("get", *urls, server.url("later"), "-c", "2") as process:
        assert process.stderr is not None
        until(lambda: server.active_now() == 2)
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith(b"stopping: finishing 2 transfers")
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        ran = finished(process)
    # Far less than the grace of 5 seconds.
    assert time.monotonic() - asked < 4
    assert ran.code == 130
    assert "stopping" not in ran.stderr
    assert "0 ok, 2 failed, 1 not started" in ran.stderr
    assert sorted(record["url"] for record in ran.records) == sorted(urls)
    for record in ran.records:
        assert record["error"]["kind"] == "cancelled"
        assert re.fullmatch("stopped by Ctrl-C after .*", record["error"]["message"])
        assert (record["attempts"], record["path"]) == (1, None)
    assert [path.name for path in (tmp_path / "fetched").iterdir()] == [".fetcher"]
    assert list((tmp_path / "fetched/.fetcher/partial").iterdir()) == []


@pytest.mark.slow
def test_the_grace_has_an_end(run_fetcher: Command, server: Scope) -> None:
    """A transfer that does not end is dropped after 5 seconds, without a second signal."""
    with run_fetcher.start("get", server.url("hanging", hang=True)) as process:
        until(lambda: server.active_now() == 1)
        process.send_signal(signal.SIGINT)
        ran = finished(process)
    assert ran.code == 130
    assert ran.records[0]["error"]["kind"] == "cancelled"


def test_retries_are_not_waited_for(run_fetcher: Command, server: Scope) -> None:
    """What waits for its next attempt when the run is stopped gets the record of its last one."""
    with run_fetcher.start("get", server.url("a", status=503, retry_after="200"), "-v") as process:
        assert process.stderr is not None
        assert re.match(rb"retry 1 in \d+ s: http\.503", process.stderr.readline())
        process.send_signal(signal.SIGINT)
        ran = finished(process)
    assert ran.code == 130
    assert [(record["status"], record["attempts"]) for record in ran.records] == [(503, 1)]
    assert "0 ok, 1 failed, 0 not started" in ran.stderr


@pytest.mark.parametrize("source", ["-", "fifo"])
def test_an_open_list(source: str, run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """A list that nobody writes to any more does not keep the run from ending."""
    os.mkfifo(tmp_path / "fifo")
    hold = os.open(tmp_path / "fifo", os.O_RDWR)
    read, write = (hold, os.dup(hold)) if source == "fifo" else os.pipe()
    with run_fetcher.start("get", source, stdin=read) as process:
        os.write(write, f"{server.url('a')}\n".encode())
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        ran = finished(process)
    for descriptor in {hold, read, write}:
        os.close(descriptor)
    assert (ran.code, ran.stdout) == (130, "")
    assert "1 ok, 0 failed, 0 not started" in ran.stderr


@pytest.mark.slow
def test_a_reader_that_does_not_read(run_fetcher: Command, tmp_path: Path) -> None:
    """A full pipe that nobody empties does not keep the run from ending, in seconds."""
    (tmp_path / "urls.txt").write_text("".join(f"bad line {number} {'x' * 5000}\n" for number in range(3000)))
    with run_fetcher.start("get", "urls.txt") as process:
        journal = tmp_path / "fetched/.fetcher/records.ndjson"
        # More than a pipe takes: from here on the records wait for their reader.
        until(lambda: journal.exists() and journal.stat().st_size > 2 * 65_536)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        errors = process.stderr.read().decode()
        process.communicate()
    assert "Traceback" not in errors
    assert re.search(r"0 ok, [\d,]+ failed, [\d,]+ not started", errors)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_an_ignored_signal_stays_ignored(number: signal.Signals, server: Scope, tmp_path: Path) -> None:
    """A signal that was ignored when the command started means nothing to it."""
    with ignoring(number, tmp_path).start("get", server.url("a", delay=0.5)) as process:
        until(lambda: server.active_now() == 1)
        process.send_signal(number)
        ran = finished(process)
    assert ran.code == 0
    assert "1 ok, 0 failed, 0 not started" in ran.stderr


def test_progress_on_demand(run_fetcher: Command, server: Scope) -> None:
    """SIGUSR1 asks for one line of progress and changes nothing else."""
    with run_fetcher.start("get", server.url("slow", delay=1.0), server.url("b"), "-q", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGUSR1)
        line = process.stderr.readline().decode()
        ran = finished(process)
    assert re.fullmatch(r"fetcher: 1/2 50% failed 0 .*/s ETA .+\n", line)
    assert (ran.code, ran.stderr) == (0, "")


@pytest.mark.parametrize(
    "module", ["fetcher.cli.outcome", "typer.core", "fetcher.cli.get", "aiohttp.client", "aiohttp.web"]
)
def test_ctrl_c_during_the_imports(module: str, run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """Ctrl-C while the program is still being loaded ends it at once, without a word."""
    code = f"""
import os, signal, sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from fetcher.__main__ import main
main()
"""
    words = ["demo"] if module == "aiohttp.web" else ["get", server.url("a")]
    ran = Command(tmp_path, ("-c", code))(*words)
    assert (ran.code, ran.stdout, ran.stderr) == (130, "", "")
    assert server.requests() == []


def test_ctrl_c_after_the_run(server: Scope, tmp_path: Path) -> None:
    """Ctrl-C while the summary is being made ends it without a traceback; the records are out already."""
    code = """
import os, signal
from fetcher.cli.show import Show
Show.end = lambda *_: os.kill(os.getpid(), signal.SIGINT)
from fetcher.__main__ import main
main()
"""
    ran = Command(tmp_path, ("-c", code))("get", server.url("a"))
    assert (ran.code, len(ran.records), ran.stderr) == (130, 1, "")


@pytest.mark.slow
def test_ctrl_c_at_any_moment(server: Scope, tmp_path: Path) -> None:
    """Whenever Ctrl-C comes after the program's first lines, the exit status is 130 and there is no traceback."""
    code = """
import os
import fetcher.__main__ as program
hold = program._hold_standard_descriptors
program._hold_standard_descriptors = lambda: (os.write(2, b"up\\n"), hold())
program.main()
"""
    dice = random.Random(7)
    for _ in range(8):
        with Command(tmp_path, ("-c", code)).start("get", server.url("hanging", hang=True)) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == b"up\n"
            time.sleep(dice.random() * 0.5)
            while process.poll() is None:
                process.send_signal(signal.SIGINT)
                time.sleep(0.02)
            ran = finished(process)
        # While Python tears itself down the signal kills the process, which shells call 130 too.
        assert ran.code in (130, -signal.SIGINT), ran.stderr
        assert "Traceback" not in ran.stderr
        assert all(record["error"]["kind"] == "cancelled" for record in ran.records)


@pytest.mark.parametrize("seed", range(3))
def test_killed_and_started_again(seed: int, run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """After kill -9 the same command gives every line its record, every body its bytes, and fetches nothing twice."""
    dice = random.Random(seed)
    sizes = {f"{position}.bin": dice.choice([0, 10, 70_000, 300_000]) for position in range(40)}
    urls = {server.url(name, size=size, drip="3,0.02"): name for name, size in sizes.items()}
    lines = [*urls, "no url", server.url("0.bin", size=sizes["0.bin"], drip="3,0.02"), server.url("gone", status=404)]
    (tmp_path / "urls.txt").write_text("".join(f"{line}\n" for line in lines))
    with run_fetcher.start("get", "urls.txt", "-c", "4") as process:
        wanted = dice.randrange(2, 38)
        until(lambda: len(server.requests()) >= wanted)
        process.kill()
        whole_lines = process.communicate()[0].split(b"\n")[:-1]
    asked_before = {seen.resource for seen in server.requests()}
    before = len(server.requests())
    ran = run_fetcher("get", "urls.txt", "-c", "4")
    assert ran.code == 1
    assert sorted(record["line"] for record in ran.records) == list(range(1, len(lines) + 1))
    records = {record["line"]: record for record in ran.records}
    for number, (url, name) in enumerate(urls.items(), 1):
        record = records[number]
        assert (record["url"], record["bytes"]) == (url, sizes[name])
        assert (tmp_path / "fetched" / record["path"]).read_bytes() == server.body_of(name, sizes[name])
    asked_again = [seen.resource for seen in server.requests()[before:]]
    skipped = {record["url"] for record in ran.records if record["outcome"] == "skipped"}
    assert {json.loads(line)["url"] for line in whole_lines} & set(urls) <= skipped
    assert not {url.removeprefix(server.base) for url in skipped} & set(asked_again)
    assert {url.removeprefix(server.base) for url in skipped} <= asked_before
    assert len(asked_again) == len(urls) - len(skipped) + 1
    assert len({record["path"] for record in ran.records if record["path"]}) == len(urls)
    assert list((tmp_path / "fetched/.fetcher/partial").iterdir()) == []
