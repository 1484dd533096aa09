"""``fetcher retry``: what failed is fetched again, and nothing else."""

import json
from pathlib import Path

import pytest

from tests.command import Command
from tests.server import Scope
from tests.test_cli_records import BAD, NEW, OLD, RECORDS, journal, record


def asked(server: Scope, before: int = 0) -> list[str]:
    """Return the names that the server was asked for, since so many requests."""
    return sorted(seen.resource.partition("?")[0].rpartition("/")[2] for seen in server.requests()[before:])


def test_what_failed(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """Each failed line is fetched again under its own place in its list; what mends is not asked for a third time."""
    mended, lost = server.url("mended", fail_times=1, fail_status=404), server.url("lost", status=404)
    (tmp_path / "urls.txt").write_text(f"{server.url('good')}\n{mended}\n{lost}\nno url\n")
    assert run_fetcher("get", "urls.txt").code == 1
    before = len(server.requests())
    ran = run_fetcher("retry", "fetched")
    assert ran.code == 1
    assert asked(server, before) == ["lost", "mended"]
    told = {each["url"]: (each["source"], each["line"], each["outcome"], each["attempts"]) for each in ran.records}
    assert told == {
        mended: ("urls.txt", 2, "fetched", 1),
        lost: ("urls.txt", 3, "failed", 1),
        "no url": ("urls.txt", 4, "failed", 0),
    }
    assert "again    python -m fetcher retry fetched\n" in ran.stderr
    assert {each["url"] for each in run_fetcher("records", "fetched", "--failed").records} == {lost, "no url"}
    before = len(server.requests())
    assert run_fetcher("retry", "fetched", "--kind", "http", "-qq").code == 1
    assert asked(server, before) == ["lost"]


@pytest.mark.parametrize(
    ("kinds", "names"),
    [
        ("--kind http.404", ["a"]),
        ("--kind http", ["a", "b"]),
        ("--kind http.503 --kind timeout", ["b", "c"]),
        ("--kind timeout.read", ["c"]),
        ("--kind dns", []),
        ("", ["a", "b", "c"]),
    ],
)
def test_kinds(kinds: str, names: list[str], run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """Only what failed in one of these ways; a word before a dot stands for all that it begins."""
    host = server.base.removeprefix("http://")
    failures = {"a": "http.404", "b": "http.503", "c": "timeout.read"}
    journal(tmp_path, *[record(server.url(name), kind=kind, host=host) for name, kind in failures.items()])
    ran = run_fetcher("retry", "out", *kinds.split())
    assert (ran.code, asked(server)) == (0, names)
    assert [each["ok"] for each in ran.records] == [True] * len(names)
    if not names:
        assert ran.stderr == "nothing to fetch again in out\n"
        assert run_fetcher("retry", "out", *kinds.split(), "-q").stderr == ""


def test_a_body_that_was_there_before(run_fetcher: Command, server: Scope) -> None:
    """A URL whose latest record is a failure is fetched, although an earlier run has stored its body."""
    url = server.url("a")
    run_fetcher("get", url)
    run_fetcher("get", url, "--existing", "replace", "--retries", "0", "--proxy", "http://127.0.0.1:9")
    assert [each["ok"] for each in run_fetcher("records", "fetched").records] == [False]
    before = len(server.requests())
    assert run_fetcher("retry", "fetched").code == 0
    assert len(server.requests()) == before + 1
    assert [each["ok"] for each in run_fetcher("records", "fetched").records] == [True]


def test_lines_that_are_no_lines(run_fetcher: Command, tmp_path: Path) -> None:
    """What could not be read of a list is nothing to be fetched."""
    journal(tmp_path, OLD, record("damaged gzip", kind="bad_record", host=None), record("a\nb", kind="invalid_url"))
    ran = run_fetcher("retry", "out")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "nothing to fetch again in out\n")


def test_options_of_get(run_fetcher: Command, tmp_path: Path) -> None:
    """What get can write and show, retry can: here what would be fetched, the failed list and the numbers."""
    journal(tmp_path, *RECORDS)
    ran = run_fetcher("retry", "out", "-n", "--failed", "failed.txt", "--summary", "summary.json")
    assert {each["url"]: each["outcome"] for each in ran.records} == {BAD.url: "planned", "h/c": "failed"}
    assert (tmp_path / "failed.txt").read_text().endswith("\nh/c\n")
    assert json.loads((tmp_path / "summary.json").read_bytes())["lines"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("retry", "name a DIR: what -o of fetcher get was, by default fetched"),
        ("retry nothing", "no such directory: nothing"),
        ("retry out --kind http.200", '--kind "http.200": write a kind of failure such as http.503, dns or timeout'),
        ("retry out -c 0", "concurrency must be 1 to 10000, not 0"),
        ("retry out -o x", "no such option: -o  (fetcher retry --help tells more)"),
        ("retry out --existing skip", "no such option: --existing"),
    ],
)
def test_refusals(words: str, said: str, run_fetcher: Command, tmp_path: Path) -> None:
    """What cannot be carried out ends with status 2 and one line."""
    journal(tmp_path, NEW)
    ran = run_fetcher(*words.split())
    assert (ran.code, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert ran.stderr.startswith(f"fetcher: {said}")
