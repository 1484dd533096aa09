"""The command as cron starts it: without an environment, a terminal, an input, or anyone who looks."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import Command, Ran
from tests.server import Scope
from tests.sockets import until


def at_night(*words: str | Path, directory: Path) -> Ran:
    """Run the command in a session without a terminal and with an empty environment; its current directory is ``/``."""
    line = [sys.executable, "-m", "fetcher", "get", *map(str, words), "-o", str(directory), "-q"]
    ran = subprocess.run(
        line,
        cwd="/",
        env={},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        timeout=60,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def bodies(directory: Path) -> dict[str, bytes]:
    """Return the files of a run but for its own."""
    paths = [path for path in directory.rglob("*") if path.is_file() and ".fetcher" not in path.parts]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("options", [(), ("--existing", "refresh"), ("--workers", "2"), ("--transport", "curl")])
def test_a_good_night(options: tuple[str, ...], server: Scope, tmp_path: Path) -> None:
    """All is well: status 0 and not a byte on either stream, the first time and every other."""
    if "curl" in options:
        pytest.importorskip("pycurl")
    urls = [server.url(str(number), etag='"1"') for number in range(20)]
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
    for _ in range(2):
        ran = at_night(tmp_path / "urls.txt", *options, directory=tmp_path / "mirror")
        assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")
    assert len(bodies(tmp_path / "mirror")) == len(urls)
    assert {path.name for path in tmp_path.iterdir()} == {"urls.txt", "mirror"}


@pytest.mark.parametrize("count", [1, 9, 300])
def test_a_bad_night(count: int, server: Scope, tmp_path: Path) -> None:
    """Some have failed: status 1, and at most 20 lines that say which, or how to find out, why, and what to type next."""
    bad = [server.origin(number % 9).url(f"bad{number}", status=404 + number % 40) for number in range(count)]
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in [server.url("good"), *bad]))
    ran = at_night(tmp_path / "urls.txt", "--retries", "0", directory=tmp_path / "mirror")
    assert (ran.code, ran.stdout) == (1, "")
    assert not set("\x1b\r") & set(ran.stderr)
    lines = ran.stderr.splitlines()
    assert 4 <= len(lines) <= 20
    assert lines[1] == f"1 ok, {count} failed, 0 not started"
    assert "http.404" in ran.stderr
    assert re.search(r"^again    .* get .*urls\.txt --retries 0 -o .*mirror -q$", ran.stderr, re.MULTILINE)
    told = ran.stderr
    if count > 10:
        command = re.search(r"list     ?(.* records .* --failed)$", ran.stderr, re.MULTILINE)
        assert command is not None
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        told = subprocess.run(
            ["/bin/sh", "-c", command[1]], env={"PATH": path}, capture_output=True, check=True
        ).stdout.decode()
    assert all(re.search(rf"/bad{number}\b", told) for number in range(count))


def test_two_at_once(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """Of two that start together one works, and the other leaves at once with 4 and one line."""
    words = ("get", server.url("hanging", hang=True), "-q")
    with run_fetcher.start(*words) as one, run_fetcher.start(*words) as another:
        until(lambda: (one.poll() is None) != (another.poll() is None))
        late, works = (one, another) if another.poll() is None else (another, one)
        output, errors = late.communicate(timeout=30)
        until(lambda: server.active_now() == 1)
        works.send_signal(signal.SIGTERM)
        works.send_signal(signal.SIGTERM)
        works.communicate(timeout=30)
    assert (late.returncode, output) == (4, b"")
    assert re.fullmatch(rb"fetcher: another fetcher \(pid %d, .*\) is using fetched\n" % works.pid, errors)
    assert works.returncode == 143
    assert len(server.requests()) == 1


@pytest.mark.slow
def test_short_nights_are_as_a_long_one(server: Scope, tmp_path: Path) -> None:
    """Runs that a deadline ends, one after another, fetch what one long run does, each URL once."""
    urls = [server.url(str(number), delay=0.2, size=1_000 + number) for number in range(12)]
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
    nights = 0
    while (ran := at_night(tmp_path / "urls.txt", "-c", "2", "--deadline", "0.5", directory=tmp_path / "short")).code:
        assert ran.code == 5
        assert ran.stderr.splitlines()[0] == "stopped by --deadline 500 ms"
        nights += 1
        assert nights < 12
    assert nights >= 1
    assert len(server.requests()) == len(urls)
    assert at_night(tmp_path / "urls.txt", directory=tmp_path / "long").code == 0
    assert bodies(tmp_path / "short") == bodies(tmp_path / "long")
    last = json.loads((tmp_path / "short/.fetcher/last-run.json").read_bytes())
    assert (last["exit_status"], last["stopped"], last["not_started"]) == (0, "", 0)
