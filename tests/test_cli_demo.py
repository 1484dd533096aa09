"""The demo: the real command on the site built in."""

import re
import signal
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.command import Command


@pytest.mark.slow
def test_demo(run_fetcher: Command, tmp_path: Path) -> None:
    """All of its URLs do what they were made to do, and it says so; nothing but DIR is made."""
    ran = run_fetcher("demo", "-o", "out", timeout=120)
    assert ran.code == 0
    told = re.search(
        r"^(\d+) of (\d+) did what they were made to do; (\d+) were meant to fail\.$", ran.stdout, re.MULTILINE
    )
    assert told is not None
    assert told[1] == told[2]
    summary = re.search(r"^(\d+) ok \(1 duplicate\), (\d+) failed, 0 not started$", ran.stderr, re.MULTILINE)
    assert summary is not None
    assert (int(summary[1]) + int(summary[2]), summary[2]) == (int(told[1]), told[3])
    assert len(ran.stderr.splitlines()) <= 20
    assert "fetcher get examples/urls.txt --concurrency 50" in ran.stdout
    assert "out/.fetcher/records.ndjson" in ran.stdout
    assert "\x1b" not in ran.stdout + ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_demo_can_be_stopped(run_fetcher: Command) -> None:
    """Ctrl-C ends the demo with its summary and status 130."""
    with run_fetcher.start("demo", "--output-dir", "out") as process:
        journal = run_fetcher.directory / "out/.fetcher/records.ndjson"
        while not (journal.exists() and journal.stat().st_size):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith(b"stopping: finishing"), line
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output == b""
    assert re.search(r"^\d+ ok.*, \d+ failed, \d+ not started$", errors.decode(), re.MULTILINE)
    assert b"again    python -m fetcher demo -o out" in errors


def test_demo_site(run_fetcher: Command) -> None:
    """The site alone is served, its list for everyone to read, until a signal ends it; its port cannot be had twice."""
    with run_fetcher.start("demo", "--serve", "0") as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        base = re.match(r"serving (http://127\.0\.0\.1:(\d+)/) until Ctrl-C", line)
        assert base is not None
        with urlopen(base[1], timeout=10) as response:
            urls = response.read().decode().splitlines()
        assert len(urls) > 250
        ran = run_fetcher("demo", "--serve", base[2])
        assert (ran.code, ran.stderr.count("\n")) == (2, 1)
        assert ran.stderr.startswith(f"fetcher: port {base[2]} ")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")
