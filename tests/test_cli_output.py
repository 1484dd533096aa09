"""What ``fetcher get`` writes: records, the list of what failed, the summary."""

import hashlib
import json
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tests.command import Command
from tests.conftest import Tls
from tests.server import Scope
from tests.sockets import until

TIME: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"

#: The record's keys in their order, as promised, and what their values may be; None where they may be null.
KEYS: Final[dict[str, tuple[type | None, ...]]] = {
    "url": (str,),
    "id": (None,),
    "asked": (None,),
    "source": (str,),
    "line": (int,),
    "host": (str, None),
    "final_url": (str, None),
    "outcome": (str,),
    "ok": (bool,),
    "status": (int, None),
    "error": (dict, None),
    "path": (str, None),
    "offset": (None,),
    "length": (None,),
    "bytes": (int, None),
    "wire_bytes": (int,),
    "sha256": (str, None),
    "content_type": (str, None),
    "charset": (str, None),
    "etag": (str, None),
    "last_modified": (str, None),
    "http_version": (str, None),
    "remote_ip": (str, None),
    "redirects": (list,),
    "attempts": (int,),
    "retried": (list,),
    "resumed_from": (None,),
    "started_at": (str, None),
    "elapsed": (float,),
    "timings": (dict, None),
    "headers": (None,),
    "duplicate_of": (int, None),
    "changed": (bool, None),
    "previous_sha256": (None,),
    "warnings": (list,),
    "meta": (None,),
}
PHASES: Final = ["blocked", "dns", "connect", "tls", "send", "wait", "receive"]


def check(record: dict[str, Any]) -> None:
    """Assert that a record is as documented."""
    assert list(record) == list(KEYS)
    for key, types in KEYS.items():
        value = record[key]
        assert (None if value is None else type(value)) in types, (key, value)
    assert record["ok"] is (record["outcome"] != "failed") is (record["error"] is None)
    if record["error"] is not None:
        assert [(key, type(value)) for key, value in record["error"].items()] == [
            ("kind", str),
            ("message", str),
            ("transient", bool),
        ]
    assert all(list(hop) == ["status", "url"] for hop in record["redirects"])
    assert record["started_at"] is None or re.fullmatch(TIME, record["started_at"])
    if record["timings"] is not None:
        assert list(record["timings"]) == PHASES
        assert sum(phase or 0.0 for phase in record["timings"].values()) <= record["elapsed"] + 0.001


def test_records(run_fetcher: Command, server: Scope, tls: Tls, tmp_path: Path) -> None:
    """Every record has all keys in order, of their types; what it says is what happened."""
    headers = [
        "Content-Type: Text/HTML; Charset=UTF-8",
        'ETag: W/"a b"',
        "Last-Modified: Sat, 01 Nov 2025 08:00:00 GMT",
    ]
    page = server.url("page", body="päge", encoding="gzip", header=headers)
    moved = server.url("moved", status=301, redirect_to=server.url("target.txt", size=10))
    flaky = server.url("flaky", size=5, fail_times=2, retry_after="0", fail_as="truncate_at=3&size=5&retry_after=")
    open_end = server.url("open", size=7, no_length=True)
    missing = server.url("missing", status=404, reason="Nope")
    secure = tls.self_signed.url("x")
    lines = [page, moved, flaky, open_end, missing, secure, "no url", page, server.url("none", status=204)]
    (tmp_path / "urls.txt").write_text("".join(f"{line}\n" for line in lines))
    ran = run_fetcher("get", "urls.txt")
    assert ran.code == 1
    for record in ran.records:
        check(record)
    records = {record["line"]: record for record in ran.records}
    assert [records[number]["url"] for number in range(1, 10)] == lines
    body = "päge".encode()
    wanted: dict[int, dict[str, Any]] = {
        1: {
            "source": "urls.txt",
            "host": server.host,
            "final_url": page,
            "outcome": "fetched",
            "status": 200,
            "bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "content_type": "text/html",
            "charset": "utf-8",
            "etag": 'W/"a b"',
            "last_modified": "Sat, 01 Nov 2025 08:00:00 GMT",
            "http_version": "1.1",
            "remote_ip": "127.0.0.1",
            "attempts": 1,
            "warnings": [],
        },
        2: {
            "final_url": server.url("target.txt", size=10),
            "redirects": [{"status": 301, "url": moved}],
            "status": 200,
            "bytes": 10,
            "wire_bytes": 10,
        },
        3: {"attempts": 3, "retried": ["truncated", "truncated"], "wire_bytes": 11, "bytes": 5, "ok": True},
        4: {"warnings": ["length_unknown"], "bytes": 7, "ok": True},
        5: {
            "status": 404,
            "error": {"kind": "http.404", "message": "404 Nope", "transient": False},
            "path": None,
            "bytes": None,
            "sha256": None,
        },
        6: {"status": None, "final_url": None, "remote_ip": None, "timings": None, "attempts": 1},
        7: {"host": None, "attempts": 0, "started_at": None, "elapsed": 0.0},
        8: {"outcome": "duplicate", "duplicate_of": 1, "attempts": 0, "bytes": len(body), "wire_bytes": 0},
        9: {"status": 204, "bytes": 0, "path": None, "sha256": None, "ok": True},
    }
    for number, values in wanted.items():
        assert {key: records[number][key] for key in values} == values
    assert records[1]["wire_bytes"] > 0
    assert records[8]["path"] == records[1]["path"]
    assert (tmp_path / "fetched" / records[1]["path"]).read_bytes() == body
    journal = (tmp_path / "fetched/.fetcher/records.ndjson").read_bytes()
    assert set(journal.splitlines()) == {line for line in ran.stdout_bytes.splitlines() if b'"duplicate"' not in line}


def test_a_record_is_there_while_others_hang(run_fetcher: Command, server: Scope) -> None:
    """A record can be read as soon as its URL is done, whatever the others do."""
    done, hanging = server.url("done"), server.url("hanging", hang=True)
    with run_fetcher.start("get", done, hanging) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["url"] == done
        assert process.poll() is None
        until(lambda: server.active_now("hanging") == 1)
        process.kill()
        process.communicate()


def test_failed_lines_can_be_fetched_again(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """--failed holds the failed lines as a list with their reasons, also when it is the list that is read."""
    flaky = [server.url(f"flaky{number}", fail_times=2, fail_status=404) for number in range(3)]
    lines = [server.url("good"), flaky[0], "no url", flaky[1], flaky[2]]
    (tmp_path / "urls.txt").write_text("".join(f"{line}\n" for line in lines))
    assert run_fetcher("get", "urls.txt", "--failed", "failed.txt").code == 1
    failed = (tmp_path / "failed.txt").read_text().splitlines()
    assert sorted(zip(failed[1::2], failed[::2], strict=True)) == sorted(
        (line, f"# {'http.404' if 'flaky' in line else 'invalid_url'} (urls.txt:{number})")
        for number, line in enumerate(lines, 1)
        if "good" not in line
    )
    again = run_fetcher("get", "failed.txt", "--failed", "failed.txt")
    assert (again.code, len(again.records)) == (1, 4)
    again = run_fetcher("get", "failed.txt", "--failed", "failed.txt")
    assert (again.code, len(again.records)) == (1, 4)
    assert (tmp_path / "failed.txt").read_text().splitlines()[1:] == ["no url"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["failed.txt", "fetched", "urls.txt"]
    assert run_fetcher("get", server.url("good"), "--failed", "failed.txt").code == 0
    assert (tmp_path / "failed.txt").read_text() == ""


def test_summary_file(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """--summary writes the end of the run as JSON whose numbers add up, and the exit status."""
    lines = [server.url("a", size=100), server.url("a", size=100), server.url("b", status=404), "no url"]
    ran = run_fetcher("get", *lines[:3], "--summary", "sum.json", "-q", "--no-json")
    assert ran.stdout == ""
    summary = json.loads((tmp_path / "sum.json").read_text())
    assert summary["lines"] == summary["ok"] + summary["failed"] + summary["not_started"] == 3
    assert summary["outcomes"]["fetched"] == summary["outcomes"]["duplicate"] == summary["outcomes"]["failed"] == 1
    assert summary["errors"] == {"http.404": {server.host: 1}}
    assert summary["failures"][0]["url"] == lines[2]
    assert (summary["bytes"], summary["exit_status"], summary["stop"]) == (100, 1, None)
    # Without a regular file it is written in place.
    ran = run_fetcher("get", lines[0], "--summary", "/dev/stderr", "-qq")
    assert json.loads(ran.stderr)["outcomes"]["skipped"] == 1


def test_how_loud(run_fetcher: Command, server: Scope) -> None:
    """-q is silent unless something failed, -qq always; -v tells of every retry and redirect."""
    good, bad = server.url("good"), server.url("bad", status=500, retry_after="0")
    moved = server.url("moved", redirect_to="good")
    words = ("--no-save", "--retries", "0")
    ran = run_fetcher("get", good, "-q", *words)
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")
    ran = run_fetcher("get", good, bad, "-q", *words)
    assert (ran.code, ran.stdout) == (1, "")
    assert "1 ok, 1 failed, 0 not started" in ran.stderr
    assert bad in ran.stderr
    ran = run_fetcher("get", good, bad, "-qq", "--json", *words)
    assert (ran.code, len(ran.records), ran.stderr) == (1, 2, "")
    ran = run_fetcher("get", moved, bad, "-v", "--no-save", "--retries", "1")
    assert f"302 to {server.base}{server.path('good')}  {moved}  (argv:1)" in ran.stderr
    assert re.search(rf"retry 1 in .*s: http.500: 500 Internal Server Error  {re.escape(bad)}  \(argv:2\)", ran.stderr)


def test_a_reader_that_leaves(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """When nobody reads the records any more, the run ends quietly with 141, and the next one goes on from there."""
    urls = [server.url(str(number), delay=0.05 * (number > 0)) for number in range(20)]
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
    with run_fetcher.start("get", "urls.txt", "-c", "2") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["ok"]
        process.stdout.close()
        errors = process.stderr.read().decode()
        assert process.wait(30) == 141
    assert "Traceback" not in errors
    assert "rror" not in errors
    before = len(server.requests())
    assert before < 20
    ran = run_fetcher("get", "urls.txt")
    assert sorted(record["url"] for record in ran.records) == sorted(urls)
    skipped = sum(record["outcome"] == "skipped" for record in ran.records)
    assert skipped > 0
    assert len(server.requests()) - before == 20 - skipped


def test_a_full_disk(run_fetcher: Command, server: Scope) -> None:
    """Output that cannot be written ends the run with status 3, says which, and how to go on."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        for words, what in (
            (["--json"], "standard output"),
            (["--json", "-qq"], "standard output"),
            (["--no-json", "--failed", "/dev/full"], "--failed|/dev/full"),
            (["--no-json", "--summary", "/dev/full"], "/dev/full"),
        ):
            with run_fetcher.start("get", server.url("a", status=404), *words, stdout=full.fileno()) as process:
                _, errors = process.communicate(timeout=30)
            assert process.returncode == 3, words
            assert re.search(rf"^fetcher: .*({what}).*no space left on device", errors.decode(), re.MULTILINE), errors
            assert b"Traceback" not in errors


def test_a_slow_reader(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """A reader that takes its time gets whole lines, all of them; the pipe stays in blocking mode."""
    lines = [f"bad line {number} {'x' * 1000}" for number in range(300)]
    (tmp_path / "urls.txt").write_text("\n".join(lines))
    read, write = os.pipe()
    with run_fetcher.start("get", "urls.txt", stdout=write, stderr=subprocess.DEVNULL) as process:
        os.close(write)
        output = b""
        with suppress(OSError), os.fdopen(read, "rb", buffering=0) as stream:
            while piece := stream.read(3000):
                output += piece
        assert process.wait(30) == 1
    assert sorted(json.loads(line)["line"] for line in output.splitlines()) == list(range(1, 301))


def test_two_runs_in_one_directory(run_fetcher: Command, server: Scope) -> None:
    """The second run on a directory is refused with status 4 and the number of the first one's process."""
    with run_fetcher.start("get", server.url("hanging", hang=True)) as process:
        until(lambda: server.active_now("hanging") == 1)
        ran = run_fetcher("get", server.url("second"))
        assert (ran.code, ran.stdout) == (4, "")
        said = rf"fetcher: another fetcher \(pid {process.pid}, since \d\d:\d\d:\d\d\) is using fetched\n"
        assert re.fullmatch(said, ran.stderr)
        process.kill()
        process.communicate()
    assert server.requests("second") == []
    # The lock goes with its holder, however that ended.
    assert run_fetcher("get", server.url("third")).code == 0
