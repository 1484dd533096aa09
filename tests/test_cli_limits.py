"""The real command where the machine or the network gives it too little."""

import signal
import socket
import time
from pathlib import Path

import pytest

from fetcher import __version__
from tests.answers import Value
from tests.command import Command
from tests.server import Scope
from tests.sockets import until


def limited(directory: Path, files: int, before: str = "") -> Command:
    """Return the command with at most so many open files."""
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))\n"
        f"{before}\n"
        "from fetcher.__main__ import main\n"
        "main()\n"
    )
    return Command(directory, ("-c", code))


def test_few_descriptors(server: Scope, tmp_path: Path) -> None:
    """With few descriptors fewer URLs are fetched at once, all of them well, and one line says so."""
    urls = [server.url(str(number), size=5_000, delay=0.01) for number in range(200)]
    (tmp_path / "urls.txt").write_text("\n".join(urls))
    ran = limited(tmp_path, 64)("get", "urls.txt", "-c", "50")
    assert ran.code == 0, ran.stderr
    assert [record["outcome"] for record in ran.records] == ["fetched"] * 200
    assert ran.stderr.count("20 at once instead of 50: the limit of open files is low (ulimit -n)") == 1
    assert server.active_peak() <= 20


def test_many_hosts(server: Scope, tmp_path: Path) -> None:
    """Connections kept to the hosts that are done with do not use the descriptors up."""
    urls = [server.origin(number).url(str(number)) for number in range(100)]
    (tmp_path / "urls.txt").write_text("\n".join(urls))
    ran = limited(tmp_path, 64)("get", "urls.txt")
    assert ran.code == 0, ran.stderr
    assert [record["attempts"] for record in ran.records] == [1] * 100


def test_no_descriptor_left(server: Scope, tmp_path: Path) -> None:
    """Descriptors that run out cost no URL for good: it may be tried again, and nothing is a bug."""
    urls = [server.url(str(number), size=5_000) for number in range(30)]
    (tmp_path / "urls.txt").write_text("\n".join(urls))
    starved = "from fetcher import descriptors; descriptors.allow = lambda wanted: wanted"
    ran = limited(tmp_path, 24, starved)("get", "urls.txt", "-c", "30", "--retries", "1")
    assert ran.code in (0, 1, 3), ran.stderr
    assert "Traceback" not in ran.stderr
    kinds = {record["error"]["kind"] for record in ran.records if not record["ok"]}
    assert all(
        record["ok"] or record["error"]["transient"] or record["error"]["kind"] == "disk" for record in ran.records
    )
    assert "internal" not in kinds
    again = Command(tmp_path)("get", "urls.txt")
    assert again.code == 0, again.stderr


HANGING_DNS = """
import pathlib, socket, threading
def look_up(*_, **__):
    pathlib.Path("asked").touch()
    threading.Event().wait()
socket.getaddrinfo = look_up
from fetcher.__main__ import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_while_a_look_up_hangs(tmp_path: Path, number: signal.Signals) -> None:
    """A name server that never answers does not keep a run from being stopped."""
    with Command(tmp_path, ("-c", HANGING_DNS)).start(
        "get", "http://name.invalid/", "--connect-timeout", "60"
    ) as process:
        assert process.stderr is not None
        until((tmp_path / "asked").exists)
        process.send_signal(number)
        assert process.stderr.readline().startswith(b"stopping: finishing 1 transfer")
        process.send_signal(number)
        began = time.monotonic()
        _, errors = process.communicate(timeout=30)
    assert time.monotonic() - began < 2
    assert process.returncode == 128 + number
    assert b"Traceback" not in errors


def test_total_timeout_while_a_look_up_hangs(tmp_path: Path) -> None:
    """--timeout holds for a look-up, and the process ends with it."""
    began = time.monotonic()
    command = Command(tmp_path, ("-c", HANGING_DNS))
    ran = command("get", "http://name.invalid/", "--timeout", "0.3s", "--retries", "0")
    assert time.monotonic() - began < 5
    assert [record["error"]["kind"] for record in ran.records] == ["timeout.total"]


@pytest.mark.parametrize(
    "options",
    [
        {"hang": 1},
        {"hops": 15, "delay": 0.2},
        {"drip": "100,0.1", "size": 1000},
        {"drip": "100,0.1", "size": 1000, "chunked": 1},
    ],
    ids=["head", "redirects", "body", "chunks"],
)
def test_total_timeout(run_fetcher: Command, server: Scope, options: dict[str, Value]) -> None:
    """--timeout bounds an attempt as a whole, though no single wait is long."""
    began = time.monotonic()
    ran = run_fetcher("get", server.url(**options), "--timeout", "0.7s", "--retries", "0")
    assert time.monotonic() - began < 4
    assert [record["error"]["kind"] for record in ran.records] == ["timeout.total"]


def test_total_timeout_of_a_handshake(run_fetcher: Command) -> None:
    """--timeout holds for TLS with a server that says nothing."""
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        ran = run_fetcher("get", url, "--timeout", "0.7s", "--retries", "0")
    assert time.monotonic() - began < 4
    assert [record["error"]["kind"] for record in ran.records] == ["timeout.total"]


def test_deadline(run_fetcher: Command, server: Scope) -> None:
    """A run that is out of time ends with status 5 and says why; the same command again does just the rest."""
    words = ["get", *(server.url(str(number), delay=0.3) for number in range(10)), "-c", "2"]
    first = run_fetcher(*words, "--deadline", "0.7s")
    done = len(first.records)
    assert (first.code, first.stderr.splitlines()[0]) == (5, "stopped by --deadline 700 ms")
    assert 0 < done < 10
    assert f"{10 - done} not started" in first.stderr
    second = run_fetcher(*words)
    assert second.code == 0
    assert [record["outcome"] for record in second.records].count("skipped") == done
    assert len(server.requests()) == 10


def test_contact(run_fetcher: Command, server: Scope) -> None:
    """Servers are told whom to write to; what would break out of the comment is refused."""
    assert run_fetcher("get", server.url("a"), "--contact", "me@example.com").code == 0
    (agent,) = [value for name, value in server.requests("a")[0].headers if name.lower() == "user-agent"]
    assert agent == f"fetcher/{__version__} (+me@example.com)"
    for contact in ("", "a b", "a)", "(a", "a\\"):
        assert run_fetcher("get", server.url("a"), "--contact", contact).code == 2


def test_max_failures(run_fetcher: Command, server: Scope) -> None:
    """A run that fails too often ends with status 5."""
    urls = [server.url(str(number), status=404) for number in range(10)]
    ran = run_fetcher("get", *urls, "-c", "1", "--max-failures", "3")
    assert (ran.code, len(ran.records)) == (5, 4)
    assert ran.stderr.splitlines()[0] == "stopped by --max-failures 3"
    assert run_fetcher("get", *urls, "--max-failures", "100%").code == 2
