"""``fetcher verify``: every file compared with its record, and nothing touched."""

import os
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from fetcher.model import to_line
from tests.command import Command
from tests.server import Scope
from tests.test_cli_records import journal, record

FILES = {"h/a": b"first", "h/deep/b": b"", "h/c": b"third" * 1_000}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output directory with three bodies, one of which two URLs share."""
    root = tmp_path / "out"
    records = [
        record(f"http://{path}", path, bytes=len(body), sha256=sha256(body).hexdigest()) for path, body in FILES.items()
    ]
    shared = record("http://h/again", "h/a", bytes=5, sha256=sha256(b"first").hexdigest())
    empty = record("http://h/204", None)
    failed_later = record("http://h/c", kind="http.503")
    journal(tmp_path, *records, shared, empty, failed_later, record("http://h/d", kind="dns"))
    for path, body in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(body)
    (root / ".fetcher/partial").mkdir()
    (root / ".fetcher/partial/1").touch()
    return root


def state(root: Path) -> dict[str, tuple[int, int]]:
    """Return what would show that something was touched."""
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in root.rglob("*")}


def test_all_is_well(out: Path, run_fetcher: Command) -> None:
    """Each body is hashed once, nothing is found and nothing touched; ``-q`` is silent."""
    before = state(out)
    ran = run_fetcher("verify", "out")
    assert (ran.code, ran.stdout) == (0, "")
    assert ran.stderr.startswith("3 files, 5.00 kB in ")
    assert ran.stderr.endswith(": all as recorded\n")
    ran = run_fetcher("verify", "out", "-q")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")
    assert state(out) == before


#: What a shell in ``out`` does to ``h/a``, what that is called, and the bytes that are there then.
HARMS = [
    ("rm h/a", "missing", None),
    ("mv h gone", "missing", None),
    ("printf tsrif >h/a", "changed", b"tsrif"),
    ("printf more >>h/a", "changed", b"firstmore"),
    ("ln -sf c h/a", "changed", None),
    ("rm h/a; mkdir h/a", "changed", None),
    ("rm h/a; mkfifo h/a", "changed", None),
    ("rm h/a; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"h/a\")'", "changed", None),
]


@pytest.mark.parametrize(("harm", "finding", "now"), HARMS)
def test_a_harmed_file(harm: str, finding: str, now: bytes | None, out: Path, run_fetcher: Command) -> None:
    """A file that is missing, or not what was stored, is told with its record and what it is now."""
    subprocess.run(["/bin/sh", "-c", harm], cwd=out, check=True)
    before = state(out)
    ran = run_fetcher("verify", "out")
    assert ran.code == 1
    assert state(out) == before
    told = ran.records[0]
    assert (told["finding"], told["path"]) == (finding, "h/a")
    assert told["url"] in ("http://h/a", "http://h/again")
    assert (told["bytes"], told["sha256"]) == (5, sha256(b"first").hexdigest())
    assert told["found_bytes"] == (None if now is None else len(now))
    assert told["found_sha256"] == (None if now is None else sha256(now).hexdigest())
    assert f"1 {finding}" in ran.stderr or f"3 {finding}" in ran.stderr
    assert ran.stderr.splitlines()[1] == (
        "again    python -m fetcher verify out --urls | python -m fetcher get - -o out --existing replace"
    )


def test_a_file_that_cannot_be_read(out: Path, tmp_path: Path) -> None:
    """A file that the disk does not give back is a finding, and the others are compared all the same."""
    program = """
import os
real = os.read
def broken(descriptor, size):
    piece = real(descriptor, size)
    if os.lseek(descriptor, 0, os.SEEK_CUR) == 5000:
        raise OSError(5, "Input/output error")
    return piece
os.read = broken
from fetcher.__main__ import main; main()
"""
    ran = Command(tmp_path, ("-c", program))("verify", "out")
    assert ran.code == 1
    assert [(told["finding"], told["url"]) for told in ran.records] == [("unreadable", "http://h/c")]


def test_foreign_files(out: Path, run_fetcher: Command) -> None:
    """What no record tells of is foreign, links and names that are no text too; below .fetcher it is not looked for."""
    for name in (b"mine", b"h/deep/mine", b"h/.fetcher", b"h/\xe9\x1b"):
        path = Path(os.fsdecode(os.fsencode(out) + b"/" + name))
        path.touch()
    (out / "link").symlink_to("h")
    ran = run_fetcher("verify", "out")
    assert ran.code == 1
    assert {told["finding"] for told in ran.records} == {"foreign"}
    assert [told["path"] for told in ran.records] == ["link", "mine", "h/.fetcher", "h/\\xe9\x1b", "h/deep/mine"]
    assert {told["url"] for told in ran.records} == {None}
    assert "\x1b" not in ran.stdout
    assert ran.stderr.endswith(": 5 foreign\n")


def test_earlier_bodies(out: Path, run_fetcher: Command) -> None:
    """Only a URL's latest body must be there; one that it had under another name may stay or go."""
    with (out / ".fetcher/records.ndjson").open("ab") as file:
        file.write(to_line(record("http://h/deep/b", "h/new", bytes=1, sha256=sha256(b"n").hexdigest())))
    (out / "h/new").write_bytes(b"n")
    assert run_fetcher("verify", "out", "-q").stdout == ""
    (out / "h/deep/b").unlink()
    assert run_fetcher("verify", "out", "-q").stdout == ""
    (out / "h/new").unlink()
    assert [told["path"] for told in run_fetcher("verify", "out").records] == ["h/new"]


def test_no_records(run_fetcher: Command) -> None:
    """A directory that was never used is a mistake."""
    ran = run_fetcher("verify", "nothing")
    assert (ran.code, ran.stdout, ran.stderr) == (2, "", "fetcher: no such directory: nothing\n")


def test_mended_by_what_it_says(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """What is not whole any more is fetched again by the list that ``--urls`` prints; what is whole is not."""
    urls = [server.url(name, size=50) for name in ("a", "b", "c")]
    paths = {told["url"]: tmp_path / "fetched" / told["path"] for told in run_fetcher("get", *urls).records}
    paths[urls[0]].unlink()
    paths[urls[1]].write_bytes(b"x" * 50)
    before = len(server.requests())
    found = run_fetcher("verify", "fetched", "--urls")
    assert found.code == 1
    assert sorted(line.split()[1] for line in found.stdout.splitlines() if line[0] == "#") == ["changed", "missing"]
    assert run_fetcher("get", "-", "--existing", "replace", stdin=found.stdout_bytes).code == 0
    assert len(server.requests()) == before + 2
    assert run_fetcher("verify", "fetched").code == 0
