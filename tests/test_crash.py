"""Kill -9 at any moment, damaged journals, full disks and closed streams: the same command again makes good."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from tests.command import Command, Ran
from tests.saboteur import SmallRun
from tests.server import Scope
from tests.sockets import until

#: Forks one run of the command per line of its standard input, so that not each has to import all: a number at which
#: it is killed or 0, then the words; says how it ended.
_NURSERY = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from pathlib import Path
from fetcher.__main__ import main
import fetcher.cli.get, fetcher.wiring, aiohttp
from tests.saboteur import sabotaged
for line in sys.stdin:
    at, *words = line.split()
    child = os.fork()
    if child == 0:
        for descriptor, name in enumerate(("/dev/null", "stdout", "stderr")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), descriptor)
        sys.argv[:] = ["fetcher", *words]
        if at == "0":
            main()
        with sabotaged(Path("fetched"), "kill", int(at)):
            main()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Nursery:
    """Runs the command in ``directory``, quickly, in processes of their own."""

    directory: Path
    process: subprocess.Popen[bytes]

    def __call__(self, *words: str, killed_at: int = 0) -> Ran:
        """Run to the end, or to the thing done to ``fetched`` at which it is killed, counted from 1."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{killed_at} {' '.join(words)}\n".encode())
        stdin.flush()
        code = int(stdout.readline())
        return Ran(code, (self.directory / "stdout").read_bytes(), (self.directory / "stderr").read_bytes())


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    """Return what runs commands in ``tmp_path``."""
    with Command(tmp_path, ("-c", _NURSERY)).start(stdin=subprocess.PIPE) as process:
        yield Nursery(tmp_path, process)


@pytest.fixture
def small(server: Scope, tmp_path: Path) -> SmallRun:
    """A small list, as ``urls.txt``."""
    small = SmallRun(server)
    (tmp_path / "urls.txt").write_text("".join(f"{line}\n" for line in small.lines))
    return small


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_every_step(step: int, nursery: Nursery, small: SmallRun, tmp_path: Path) -> None:
    """Whatever kill -9 cuts off, the next run makes good, and asks for nothing that was recorded as done."""
    small.learn(tmp_path / "reference", nursery("get", "urls.txt", "-o", "reference"))
    out = tmp_path / "fetched"
    at = 1
    while (ran := nursery("get", "urls.txt", killed_at=at)).code == -signal.SIGKILL:
        small.check_whole(out)
        done, before = small.done(out), len(small.asked())
        small.check_complete(out, nursery("get", "urls.txt"))
        assert not done & set(small.asked()[before:])
        assert small.done(out) == small.good
        shutil.rmtree(out)
        at += step
    small.check_complete(out, ran)
    assert at > 20


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_while_replacing(step: int, nursery: Nursery, server: Scope, tmp_path: Path) -> None:
    """Whenever kill -9 comes amid a run that replaces files, the next one believes no record of what is there no more."""
    (tmp_path / "urls.txt").write_text("".join(f"{server.url(str(number), echo=1)}\n" for number in range(4)))
    out = tmp_path / "fetched"
    at, code = 1, -signal.SIGKILL
    while code == -signal.SIGKILL:
        assert nursery("get", "urls.txt", "--user-agent", "one").code == 0
        code = nursery("get", "urls.txt", "--user-agent", "two", "--existing", "replace", killed_at=at).code
        ran = nursery("get", "urls.txt", "--user-agent", "two")
        assert (ran.code, len(ran.records)) == (0, 4)
        for record in ran.records:
            body = (out / record["path"]).read_bytes()
            assert record["sha256"] == sha256(body).hexdigest()
            assert record["outcome"] == "skipped" or b'"two"' in body
        assert not list((out / ".fetcher").glob("replacing*"))
        shutil.rmtree(out)
        at += step
    assert at > 12


def test_killed_while_compacting(nursery: Nursery, small: SmallRun, tmp_path: Path) -> None:
    """A journal that is being rewritten is the old one or the new one, whenever kill -9 comes; nothing is forgotten."""
    reference, out = tmp_path / "reference", tmp_path / "fetched"
    small.learn(reference, nursery("get", "urls.txt", "-o", "reference"))
    path = out / ".fetcher/records.ndjson"
    once = (reference / ".fetcher/records.ndjson").read_bytes()
    sizes = set()
    at, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        at += 1
        shutil.copytree(reference, out)
        path.write_bytes(once * (2**20 // len(once) + 1))
        long = path.stat().st_size
        before = len(small.asked())
        code = nursery("get", "urls.txt", killed_at=at).code
        sizes.add(path.stat().st_size >= long)
        assert small.done(out) == small.good
        small.check_whole(out)
        small.check_complete(out, nursery("get", "urls.txt"))
        assert not small.good & set(small.asked()[before:])
        assert path.stat().st_size < 2 * len(once)
        shutil.rmtree(out)
    assert sizes == {True, False}
    assert at > 6


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_stopped_and_started_again(
    number: signal.Signals, status: int, nursery: Nursery, small: SmallRun, run_fetcher: Command, tmp_path: Path
) -> None:
    """What a signal has kept from being fetched, the next run fetches, and nothing else."""
    small.learn(tmp_path / "reference", nursery("get", "urls.txt", "-o", "reference"))
    before = len(small.asked())
    with run_fetcher.start("get", "urls.txt", "--rate", "10") as process:
        until(lambda: len(small.asked()) > before + 2)
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode == status
    out = tmp_path / "fetched"
    done, before = small.done(out), len(small.asked())
    assert done < small.good
    small.check_whole(out)
    small.check_complete(out, nursery("get", "urls.txt"))
    assert not done & set(small.asked()[before:])
    assert small.done(out) == small.good


def test_damaged_journals(nursery: Nursery, small: SmallRun, tmp_path: Path) -> None:
    """A journal cut or overwritten anywhere is noticed with one line; what it does not tell any more is fetched."""
    reference, out = tmp_path / "reference", tmp_path / "fetched"
    small.learn(reference, nursery("get", "urls.txt", "-o", "reference"))
    whole = (reference / ".fetcher/records.ndjson").read_bytes()
    dice = random.Random(3)
    cuts = [whole[: dice.randrange(1, len(whole))] for _ in range(4)]
    lines = whole.splitlines(keepends=True)
    garbage = [b"".join([*lines[:2], b"\xff{garbage\0\n", *lines[3:]]), b"\n" * 5, b"x" * 10_000]
    for damaged in [*cuts, *garbage]:
        shutil.copytree(reference, out)
        (out / ".fetcher/records.ndjson").write_bytes(damaged)
        ran = nursery("get", "urls.txt")
        notices = [line for line in ran.stderr.splitlines() if line.startswith("fetcher: ")]
        assert len(notices) == (damaged not in [b"".join(lines[:n]) for n in range(len(lines))])
        assert all("records.ndjson: " in notice for notice in notices)
        small.check_complete(out, ran)
        shutil.rmtree(out)


def test_damaged_bodies(nursery: Nursery, small: SmallRun, tmp_path: Path) -> None:
    """A body that was removed, cut or lengthened is fetched again; no other is."""
    out = tmp_path / "fetched"
    ran = nursery("get", "urls.txt")
    small.learn(out, ran)
    paths = [record["path"] for record in sorted(ran.records, key=lambda record: int(record["line"]))]
    bodies = [out / path for path in paths[:6]]
    bodies[0].unlink()
    bodies[1].write_bytes(bodies[1].read_bytes()[:500])
    bodies[2].write_bytes(bodies[2].read_bytes() + b"x")
    os.truncate(bodies[4], 1_500_000)
    before = len(small.asked())
    again = nursery("get", "urls.txt")
    small.check_complete(out, again)
    fetched = {record["line"] for record in again.records if record["outcome"] == "fetched"}
    assert fetched == {1, 2, 3, 5}
    assert {small.lines.index(url) + 1 for url in small.asked()[before:] if url in small.lines} == {1, 2, 3, 5, 9}


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("mkdir -p fetched/.fetcher/records.ndjson", "fetched/.fetcher/records.ndjson: is a directory"),
        ("mkdir -p fetched/.fetcher/lock", "fetched/.fetcher/lock: is a directory"),
        ("mkdir fetched && touch fetched/.fetcher", "fetched/.fetcher/partial: not a directory"),
        ("mkdir -p fetched/.fetcher && touch fetched/.fetcher/partial", "fetched/.fetcher/partial: file exists"),
        ("touch fetched", "fetched/.fetcher/partial: not a directory"),
        ("ln -s nowhere/x fetched", "fetched: file exists"),
        ("ln -s /proc/self fetched", "fetched/.fetcher: no such file or directory"),
    ],
)
def test_directories_that_cannot_be_used(
    harm: str, said: str, run_fetcher: Command, server: Scope, tmp_path: Path
) -> None:
    """A DIR in which nothing can be kept ends the run with status 3 and one line, before the first request."""
    subprocess.run(["/bin/sh", "-c", harm], cwd=tmp_path, check=True)
    ran = run_fetcher("get", server.url("a"))
    assert (ran.code, ran.stdout, ran.stderr) == (3, "", f"fetcher: cannot use {said}\n")
    assert server.requests() == []


def mounted(script: str, directory: Path) -> Callable[[str], Ran]:
    """Run a shell script that may mount; return what tells how a command in it ended.

    The script calls such a command with ``run NAME WORD ...``. Where nothing can be mounted the test is skipped.
    """
    alone = ["unshare", "--map-root-user", "--mount", "/bin/sh", "-ec"]
    try:
        subprocess.run([*alone, "mount -t tmpfs tmpfs ."], cwd=directory, check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    run = """
        run() {
            name=$1; shift; code=0
            "$python" -W error -m fetcher "$@" >$name.out 2>$name.err || code=$?
            echo $code >$name.code
        }
    """
    subprocess.run([*alone, f"python=$0 {run} {script}", sys.executable], cwd=directory, check=True, timeout=60)
    return lambda name: Ran(
        int((directory / f"{name}.code").read_text()),
        (directory / f"{name}.out").read_bytes(),
        (directory / f"{name}.err").read_bytes(),
    )


def test_a_small_disk(nursery: Nursery, small: SmallRun, tmp_path: Path) -> None:
    """A disk that is really full ends the run with status 3 and one line; with more room the same command makes good."""
    small.learn(tmp_path / "reference", nursery("get", "urls.txt", "-o", "reference"))
    script = """
        mkdir disk
        mount -t tmpfs -o size=2m tmpfs disk
        run first get urls.txt -o disk/out
        cp -R disk/out between
        mount -o remount,size=20m disk
        run second get urls.txt -o disk/out
        cp -R disk/out after
    """
    ran = mounted(script, tmp_path)
    assert ran("first").code == 3
    assert ran("first").stderr.count("fetcher: no space left on device") == 1
    assert "Traceback" not in ran("first").stderr
    small.check_whole(tmp_path / "between")
    small.check_complete(tmp_path / "after", ran("second"))


def test_a_disk_that_cannot_be_written(server: Scope, tmp_path: Path) -> None:
    """A disk that is mounted read-only ends the run with status 3 and one line, before the first request."""
    script = f"""
        mkdir disk
        mount -t tmpfs tmpfs disk
        mkdir -p disk/old/.fetcher/partial
        mount -o remount,ro disk
        run old get '{server.url("a")}' -o disk/old
        run new get '{server.url("a")}' -o disk/new
    """
    ran = mounted(script, tmp_path)
    for name, path in (("old", "disk/old/.fetcher/lock"), ("new", "disk/new")):
        said = f"fetcher: cannot use {path}: read-only file system\n"
        assert (ran(name).code, ran(name).stdout, ran(name).stderr) == (3, "", said)
    assert server.requests() == []


def test_records_that_nobody_keeps(nursery: Nursery, small: SmallRun, tmp_path: Path) -> None:
    """With standard output on a full disk the run ends with status 3; the journal keeps what was done."""
    small.learn(tmp_path / "reference", nursery("get", "urls.txt", "-o", "reference"))
    with (
        Path("/dev/full").open("wb") as full,
        Command(tmp_path).start("get", "urls.txt", stdout=full.fileno()) as process,
    ):
        errors = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 3
    assert errors.count("standard output: no space left on device\n") == 1
    out = tmp_path / "fetched"
    done = small.done(out)
    assert small.check_whole(out)
    assert done
    before = len(small.asked())
    small.check_complete(out, nursery("get", "urls.txt"))
    assert not done & set(small.asked()[before:])


def test_the_first_line_is_enough(small: SmallRun, nursery: Nursery, run_fetcher: Command, tmp_path: Path) -> None:
    """``| head -1`` gets a whole line and ends the run quietly with status 141; the next one makes good."""
    small.learn(tmp_path / "reference", nursery("get", "urls.txt", "-o", "reference"))
    script = 'set -o pipefail; "$0" -W error -m fetcher get urls.txt -c 1 | head -1'
    bash = shutil.which("bash") or pytest.skip("there is no bash")
    words = [bash, "-c", script, sys.executable]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False, timeout=30, stdin=subprocess.DEVNULL)
    assert json.loads(ran.stdout)["line"]
    assert ran.returncode in (1, 141)
    assert b"rror" not in ran.stderr
    done, before = small.done(tmp_path / "fetched"), len(small.asked())
    small.check_complete(tmp_path / "fetched", nursery("get", "urls.txt"))
    assert not done & set(small.asked()[before:])


def test_standard_input_is_left_alone(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """Nothing is read from standard input unless ``-`` asks for it: from a file, an idle pipe, or nothing at all."""
    read, write = os.pipe()
    (tmp_path / "file").write_text(server.url("from-file") + "\n")
    with (tmp_path / "file").open("rb") as file:
        for stdin in (subprocess.DEVNULL, file.fileno(), read):
            with run_fetcher.start("get", server.url("a"), "-q", stdin=stdin) as process:
                assert process.communicate(timeout=30)[1] == b""
            assert process.returncode == 0
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 0
    os.close(read)
    os.close(write)
    assert server.requests("from-file") == []
