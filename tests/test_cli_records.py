"""``fetcher records``: the journal read by its users, in the command and beside a run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fetcher.errors import Error
from fetcher.model import Outcome, Record, to_line
from tests.command import Command, Ran
from tests.server import Scope
from tests.sockets import until


def record(url: str, path: str | None = None, kind: str | None = None, **more: Any) -> Record:
    """Return the record of a stored body, or of a failure of this kind."""
    known: dict[str, Any] = {"url": url, "source": "urls.txt", "line": 1, "host": "h", "outcome": Outcome.FETCHED}
    if kind is not None:
        known |= {"outcome": Outcome.FAILED, "error": Error.of(kind, "so it was chosen")}
    elif path is not None:
        known |= {"path": path, "bytes": 3, "sha256": "5a"}
    return Record(**known | more)


OLD = record("http://h/a", "h/a", line=1)
BAD = record("http://h/b", kind="http.404", line=2)
WORSE = record("h/c", kind="invalid_url", line=3, host=None)
NEW = record("http://H/a", "h/new", line=4)
RECORDS = (OLD, BAD, WORSE, NEW)


def journal(root: Path, *records: Record, more: bytes = b"") -> Path:
    """Make ``root/out`` with these records, and return its journal."""
    path = root / "out/.fetcher/records.ndjson"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(to_line, records)) + more)
    return path


def lines(*records: Record) -> list[dict[str, Any]]:
    """Return records as a reader of NDJSON gets them."""
    return [json.loads(to_line(record)) for record in records]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", (BAD, WORSE, NEW)),
        ("--all", RECORDS),
        ("--failed", (BAD, WORSE)),
        ("--url http://h:80/a", (NEW,)),
        ("--url http://h/a --all", (OLD, NEW)),
        ("--url h/c", (WORSE,)),
        ("--url http://h/none", ()),
        ("--path h/new", (NEW,)),
        ("--path out/h/new", (NEW,)),
        ("--path h/a", ()),
        ("--path h/a --all", (OLD,)),
        ("--failed --url http://h/a", ()),
    ],
)
def test_what_is_shown(words: str, found: tuple[Record, ...], run_fetcher: Command, tmp_path: Path) -> None:
    """The latest record of each URL, whatever its spelling, or all; each choice narrows what is left."""
    journal(tmp_path, *RECORDS)
    ran = run_fetcher("records", "out", *words.split())
    assert (ran.code, ran.stderr) == (0, "")
    assert ran.records == lines(*found)


def test_a_list_again(run_fetcher: Command, tmp_path: Path) -> None:
    """``--urls`` writes lines that get takes, failed ones below why they failed."""
    journal(tmp_path, *RECORDS, record("a\nb", kind="invalid_url", host=None))
    assert run_fetcher("records", "out", "--urls").stdout == (
        "# http.404 (urls.txt:2)\nhttp://h/b\n# invalid_url (urls.txt:3)\nh/c\nhttp://H/a\n"
        "# invalid_url (urls.txt:1)\n# a\\x0ab\n"
    )
    assert run_fetcher("records", "out", "--urls", "--url", "http://h/a").stdout == "http://H/a\n"


def test_damage(run_fetcher: Command, tmp_path: Path) -> None:
    """What is no record, or not to its end, is left out and counted; a torn last line is not even that."""
    half = to_line(record("http://h/d", "h/d"))[:-40] + b"\0" * 39 + b"\n"
    outside = to_line(record("http://h/e", "../e"))
    path = journal(tmp_path, *RECORDS, more=b"garbage\n" + half + outside + to_line(OLD)[:-1])
    before = path.read_bytes()
    ran = run_fetcher("records", "out")
    assert (ran.code, ran.records) == (0, lines(BAD, WORSE, NEW))
    assert ran.stderr == "fetcher: out/.fetcher/records.ndjson: 3 damaged lines ignored\n"
    assert path.read_bytes() == before


def test_keys_of_later_versions(run_fetcher: Command, tmp_path: Path) -> None:
    """A key that this version does not know is shown all the same, and nothing that a terminal obeys."""
    line = to_line(OLD).replace(b'"meta":null', b'"meta":null,"mood":"\xc2\x9bgood"')
    journal(tmp_path, more=line)
    ran = run_fetcher("records", "out")
    assert ran.records == [{**lines(OLD)[0], "mood": "\x9bgood"}]
    assert ran.stdout_bytes.isascii()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("records", "name a DIR: what -o of fetcher get was, by default fetched"),
        ("records nothing", "no such directory: nothing"),
        ("records .", ". has no records: nothing was fetched into it"),
        ("records file", "no such directory: file"),
    ],
)
def test_no_records(words: str, said: str, run_fetcher: Command, tmp_path: Path) -> None:
    """A DIR that was never used is a mistake, and says so."""
    (tmp_path / "file").touch()
    ran = run_fetcher(*words.split())
    assert (ran.code, ran.stdout, ran.stderr) == (2, "", f"fetcher: {said}\n")


def test_journal_that_cannot_be_read(run_fetcher: Command, tmp_path: Path) -> None:
    """A journal that is a folder is this machine's trouble."""
    (tmp_path / "out/.fetcher/records.ndjson").mkdir(parents=True)
    ran = run_fetcher("records", "out")
    assert (ran.code, ran.stderr) == (3, "fetcher: cannot read out/.fetcher/records.ndjson: is a directory\n")


def test_streams(run_fetcher: Command, tmp_path: Path) -> None:
    """A reader that went away is 141, without a word; a full disk is 3."""
    journal(tmp_path, *[record(f"http://h/{n}", f"h/{n}") for n in range(2_000)])
    bash = shutil.which("bash") or pytest.skip("there is no bash")
    script = 'set -o pipefail; "$0" -W error -m fetcher records out | head -1'
    ran = subprocess.run([bash, "-c", script, sys.executable], cwd=tmp_path, capture_output=True, check=False)
    assert (ran.returncode, ran.stderr, ran.stdout.count(b"\n")) == (141, b"", 1)
    with (
        Path("/dev/full").open("wb") as full,
        run_fetcher.start("records", "out", stdout=full.fileno()) as process,
    ):
        assert process.communicate(timeout=30)[1] == b"fetcher: no space left on device\n"
    assert process.returncode == 3


def test_beside_a_run(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """Records can be read while a run holds the directory, and name what it has failed to fetch so far."""
    urls = [server.url("good"), server.url("bad", status=404), server.url("slow", delay=30)]
    with run_fetcher.start("get", *urls, "-q") as process:
        shown: list[Ran] = []

        def both() -> bool:
            if (tmp_path / "fetched/.fetcher/records.ndjson").exists():
                shown.append(run_fetcher("records", "fetched"))
            return bool(shown) and len(shown[-1].records) == 2

        until(both)
        assert {record["url"]: record["ok"] for record in shown[-1].records} == {urls[0]: True, urls[1]: False}
        assert process.poll() is None
        os.kill(process.pid, 15)
        process.communicate(timeout=30)


def test_the_summary_names_it(run_fetcher: Command, server: Scope) -> None:
    """A run with failures says how to list them, and that lists them."""
    ran = run_fetcher("get", server.url("good"), server.url("bad", status=404), "-o", "my dir")
    assert "list     python -m fetcher records 'my dir' --failed\n" in ran.stderr
    assert [record["status"] for record in run_fetcher("records", "my dir", "--failed").records] == [404]
