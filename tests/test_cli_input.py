"""Lists as they really come: one record for every line that asks for something, whatever its bytes are."""

import gzip
import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.command import Command, Ran
from tests.server import Scope


def test_empty_lists(run_fetcher: Command, tmp_path: Path) -> None:
    """A list without URLs is no error, but is told, even to the quiet; /dev/null as standard input is one too."""
    for name, content in (("urls.txt", b"# none yet\n\n \t\r\n"), ("packed.gz", gzip.compress(b""))):
        (tmp_path / name).write_bytes(content)
        ran = run_fetcher("get", name, "-q")
        assert (ran.code, ran.stdout, ran.stderr) == (0, "", f"no URLs in {name}\n")
    for words, message in ((["-", "urls.txt"], "no URLs in - urls.txt\n"), (["-", "-qq"], "")):
        ran = run_fetcher("get", *words)
        assert (ran.code, ran.stdout, ran.stderr) == (0, "", message)


def test_kinds_of_lines(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """Every line that asks has its record, with the line as written, its number and a reason for people."""
    good, accented = server.url("good"), server.url("caf") + "é"
    latin = server.url("caf").encode() + b"\xe9"
    lines = [
        b"\xef\xbb\xbf# a comment behind a byte order mark",
        b"",
        f"  {good}\t\r".encode(),
        b" \t",
        good.encode(),
        accented.encode(),
        latin,
        b"example.com/x",
        b"ftp://h/x",
        b"file:///etc/passwd",
        b"javascript:alert(1)",
        b"http://",
        b"http://h:99999/",
        b"http://a b/",
        server.url("a").encode() + b" # no comment",
        b"\x1b[31mhttp://h/\x00",
        b"http://h/" + b"x" * 1_000_000,
        b"x" * 1_200_000,
        server.url("last#fragment").encode(),
    ]
    (tmp_path / "urls.txt").write_bytes(b"\n".join(lines))
    ran = run_fetcher("get", "urls.txt")
    assert ran.code == 1
    records = {record["line"]: record for record in ran.records}
    asking = [number for number, line in enumerate(lines, 1) if number not in (1, 2, 4)]
    assert sorted(records) == asking
    assert len(ran.records) == len(asking)
    assert {record["source"] for record in ran.records} == {"urls.txt"}
    found = {number: records[number]["error"] and records[number]["error"]["kind"] for number in asking}
    assert found == dict.fromkeys(asking, "invalid_url") | dict.fromkeys((3, 5, 6, 19)) | dict.fromkeys(
        (9, 10, 11), "unsupported_scheme"
    )
    for number in set(asking) - {3, 7, 18}:
        assert records[number]["url"].encode() == lines[number - 1]
    assert (records[3]["url"], records[7]["url"]) == (good, latin.decode(errors="backslashreplace"))
    assert (records[5]["outcome"], records[5]["duplicate_of"], records[5]["path"]) == (
        "duplicate",
        3,
        records[3]["path"],
    )
    assert records[7]["error"]["message"].endswith(r"(urls.txt:7); write the byte \xe9 as %E9")
    assert records[8]["error"]["message"] == 'not a URL: "example.com/x" (urls.txt:8)'
    assert "1,200,000 bytes" in records[18]["error"]["message"]
    assert max(len(record["error"]["message"]) for record in ran.records if record["error"]) <= 300
    assert [seen.resource for seen in server.requests("last")] == [server.path("last")]
    assert len(server.requests()) == 3
    assert "\x1b" not in ran.stderr
    assert len(ran.stderr) < 3000


@pytest.mark.parametrize("seed", range(2))
def test_binary_junk(seed: int, run_fetcher: Command, tmp_path: Path) -> None:
    """Random bytes are lines like any others: a failed record each, never a traceback."""
    junk = random.Random(seed).randbytes(40_000)
    if seed:
        junk = bytes(byte % 128 for byte in junk)
    (tmp_path / "junk").write_bytes(junk)
    ran = run_fetcher("get", "junk")
    lines = [line.strip(b" \t\r") for line in junk.split(b"\n")]
    assert [record["line"] for record in ran.records] == [
        number for number, line in enumerate(lines, 1) if line and not line.startswith(b"#")
    ]
    assert {record["ok"] for record in ran.records} == {False}
    assert ran.code == 1
    assert "Traceback" not in ran.stderr
    assert not any(ord(character) < 0x20 and character != "\n" for character in ran.stderr)


def test_lists_that_end_badly(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """What comes before the damage is fetched, and one record tells of the damage."""
    text = "".join(f"{server.url(str(number))}\n" for number in range(3)).encode()
    packed = gzip.compress(text, 0)
    (tmp_path / "cut.gz").write_bytes(packed[:-20])
    (tmp_path / "damaged.gz").write_bytes(packed[:-8] + bytes(8))
    (tmp_path / "utf16.txt").write_text(text.decode(), "utf-16")
    ran = run_fetcher("get", "cut.gz", "damaged.gz", "utf16.txt")
    assert ran.code == 1
    told = {record["source"]: record for record in ran.records if not record["ok"]}
    assert {source: record["error"]["message"] for source, record in told.items()} == {
        "cut.gz": "cut.gz: compressed data ends early after line 2",
        "damaged.gz": "damaged.gz: compressed data is damaged after line 3",
        "utf16.txt": "utf16.txt: this is UTF-16; save it as UTF-8",
    }
    assert {record["error"]["kind"] for record in told.values()} == {"bad_record"}
    assert len(ran.records) == 2 + 3 + 3
    assert len(server.requests()) == 3


def test_several_sources(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """Files, gzip, standard input, a pipe and literal URLs are one run; a duplicate across them is told by its line."""
    urls = [server.url(str(number)) for number in range(5)]
    (tmp_path / "plain.txt").write_text(f"{urls[0]}\n{urls[1]}\n")
    (tmp_path / "packed").write_bytes(gzip.compress(f"# packed\n{urls[2]}\n{urls[0]}\n".encode()))
    read, write = os.pipe()
    os.write(write, f"{urls[3]}\n".encode())
    os.close(write)
    with run_fetcher.start("get", "plain.txt", urls[4], "packed", "-", urls[4], stdin=read) as process:
        os.close(read)
        output, _ = process.communicate(timeout=60)
    ran = Ran(process.returncode, output, b"")
    assert ran.code == 0
    sources = sorted(record["source"] for record in ran.records)
    assert sources == ["-", "argv", "argv", "packed", "packed", "plain.txt", "plain.txt"]
    duplicates = [record for record in ran.records if record["outcome"] == "duplicate"]
    assert sorted((record["url"], record["line"], record["duplicate_of"]) for record in duplicates) == [
        (urls[0], 3, 1),
        (urls[4], 5, 2),
    ]
    assert len(server.requests()) == 5


def test_process_substitution(tmp_path: Path, server: Scope) -> None:
    """A list may come from a shell's <(command), packed or not."""
    url = server.url("a")
    (tmp_path / "packed.gz").write_bytes(gzip.compress(f"{url}\n".encode()))
    script = f'"$0" -X dev -W error -m fetcher get <(cat packed.gz) <(echo {server.url("b")}) -q --json'
    run = f"import os, sys; os.execvp('bash', ['bash', '-c', {script!r}, sys.executable])"
    ran = Command(tmp_path, ("-c", run))()
    assert (ran.code, ran.stderr) == (0, "")
    assert {record["url"] for record in ran.records} == {url, server.url("b")}
    assert all(record["source"].startswith("/dev/fd/") for record in ran.records)


def test_an_open_list_is_fetched_as_it_comes(run_fetcher: Command, server: Scope) -> None:
    """A line is fetched and its record written while the list is still open; the end of the list ends the run."""
    with run_fetcher.start("get", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(2):
            process.stdin.write(f"{server.url(str(number))}\n".encode())
            process.stdin.flush()
            assert f'"url":"{server.url(str(number))}"'.encode() in process.stdout.readline()
        output, errors = process.communicate(server.url("last").encode(), timeout=60)
    assert process.returncode == 0
    assert output.count(b"\n") == 1
    assert b"3 ok, 0 failed, 0 not started" in errors


def test_closed_standard_input_of_a_file_list(tmp_path: Path, server: Scope) -> None:
    """A run that does not read standard input does not need one."""
    run = f"import os, sys; os.close(0); os.execv(sys.executable, [sys.executable, '-m', 'fetcher', 'get', {server.url('a')!r}])"
    ran = Command(tmp_path, ("-c", run))()
    assert ran.code == 0
    assert len(ran.records) == 1
