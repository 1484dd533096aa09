"""``--existing refresh``: what has not changed is not sent again, and what was there survives whatever comes instead."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from fetcher.conditional import condition
from fetcher.events import Transfer
from fetcher.fetch import Fetch
from fetcher.identity import Identity
from fetcher.model import Attempt, Head, Headers, Kept, Request, Stored
from fetcher.options import Limits
from tests.answers import Seen
from tests.command import Command
from tests.fakes import Answer, Answers, Clock, Sink, Transport, simulated
from tests.server import Scope

URL: Final = "http://h/a"
MODIFIED: Final = "Sat, 01 Nov 2025 08:00:00 GMT"
KEPT: Final = Kept(
    Stored("h/a", 4, sha256(b"body").hexdigest()),
    Head(200, URL, content_type="text/html", etag='"1"'),
    condition('"1"', None),
)
NOT_MODIFIED: Final = Answer(status=304, body=(), headers=(("etag", '"1"'),))
MOVED: Final = Answer(status=301, headers=(("location", "http://h/b"),))


class Asked:
    """One attempt at a URL of which a body is kept, and what was sent for it."""

    def __init__(self, kept: Kept, answers: Answers, headers: Headers = ()) -> None:
        self.sink = Sink()
        self.transport = Transport(answers)
        self._request = Request(0, URL, URL, "h", "list", 1, kept=kept)
        self._headers = headers
        self.attempt = simulated(self._try())

    async def _try(self) -> Attempt:
        fetch = Fetch(self.transport, self.sink, Identity("test", self._headers), Limits(), Clock())
        return await fetch.attempt(Transfer(self._request, 0.0), 1, None, lambda _: None)

    @property
    def tags(self) -> list[str | None]:
        """What each request, in order, says is known."""
        return [dict(hop.headers).get("If-None-Match") for hop in self.transport.hops]


def at(url: str) -> Kept:
    """Return what is kept, as if this URL had answered."""
    return replace(KEPT, head=replace(KEPT.head, url=url))


def test_a_304_gives_back_what_is_kept() -> None:
    """Nothing is stored, and the head is that of the exchange with what it left out."""
    asked = Asked(KEPT, {URL: [replace(NOT_MODIFIED, headers=(("etag", '"2"'),))]})
    assert asked.attempt.error is None
    assert asked.attempt.stored == KEPT.stored
    told = replace(KEPT.head, http_version="1.1", remote_ip="192.0.2.1", validator='"2"')
    assert asked.attempt.head == replace(told, status=304, etag='"2"')
    assert (asked.tags, asked.sink.bodies, asked.attempt.wire_bytes) == (['"1"'], {}, 0)


@pytest.mark.parametrize(
    ("kept", "answers", "tags", "kind", "stored"),
    [
        # It was moved, and still is.
        (at("http://h/b"), {URL: [MOVED], "http://h/b": [NOT_MODIFIED]}, [None, '"1"'], None, KEPT.stored.path),
        # It has moved since.
        (at(URL), {URL: [MOVED], "http://h/b": [Answer()]}, ['"1"', None], None, "file0"),
        # It was moved to another place.
        (at("http://h/c"), {URL: [MOVED], "http://h/b": [Answer()]}, [None, None], None, "file0"),
        # Nobody has asked whether it was modified.
        (at("http://h/c"), {URL: [MOVED], "http://h/b": [NOT_MODIFIED]}, [None, None], "redirect.invalid", None),
        (replace(KEPT, condition=()), {URL: [NOT_MODIFIED]}, [None], "redirect.invalid", None),
    ],
)
def test_a_validator_is_said_where_it_came_from(
    kept: Kept, answers: Answers, tags: list[str | None], kind: str | None, stored: str | None
) -> None:
    """Another URL's version may have the same name, so only the URL that answered then is asked about it."""
    asked = Asked(kept, answers)
    assert asked.tags == tags
    assert (asked.attempt.error and asked.attempt.error.kind) == kind
    assert (asked.attempt.stored and asked.attempt.stored.path) == stored


def test_the_users_validator_gives_way() -> None:
    """One If-None-Match is sent, ours: the answer is about what is kept."""
    asked = Asked(KEPT, {URL: [NOT_MODIFIED]}, (("if-none-match", '"theirs"'),))
    [hop] = asked.transport.hops
    assert [value for name, value in hop.headers if name.lower() == "if-none-match"] == ['"1"']


def versions(server: Scope, path: str) -> str:
    """Return a URL that answers with another body the first time than ever after."""
    old = 'body=old&etag="old"'
    return server.url(path, body="new", etag='"new"', revalidate=True, fail_times=1, fail_as=old)


def stats(directory: Path) -> dict[str, tuple[int, int, int]]:
    """Return inode and times of every file in a directory but for the run's state."""
    found = {}
    for path in directory.rglob("*"):
        if path.is_file() and ".fetcher" not in path.parts:
            status = path.stat()
            found[str(path.relative_to(directory))] = status.st_ino, status.st_mtime_ns, status.st_ctime_ns
    return found


def conditional(requests: Sequence[Seen]) -> int:
    """Count the requests that name a version."""
    return sum(bool(seen.header("if-none-match") or seen.header("if-modified-since")) for seen in requests)


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--workers", "2"), ("--transport", "curl")], ids=["session", "workers", "curl"])
def test_a_thousand_urls(run_fetcher: Command, server: Scope, tmp_path: Path, more: tuple[str, ...]) -> None:
    """3 of 1,000 have changed: 3 are printed, 3 are replaced. Then none: nothing is said, sent or touched."""
    if "curl" in more:
        pytest.importorskip("pycurl")
    known = {"revalidate": True, "size": 5_000}
    urls = [versions(server, f"changing{number}") for number in range(3)]
    urls += [server.url(f"a{number}", etag='W/"1"', **known) for number in range(500)]
    urls += [server.url(f"b{number}", last_modified=MODIFIED, **known) for number in range(497)]
    (tmp_path / "urls.txt").write_text("\n".join(urls))
    run = ("get", "urls.txt", "-o", "out", *more)
    assert run_fetcher(*run, "-q").code == 0
    first = stats(tmp_path / "out")

    ran = run_fetcher(*run, "--existing", "refresh", "--changed")
    assert ran.code == 0
    assert {record["url"] for record in ran.records} == set(urls[:3])
    for record in ran.records:
        assert (record["outcome"], record["changed"], record["previous_sha256"]) == (
            "fetched",
            True,
            sha256(b"old").hexdigest(),
        )
        assert (tmp_path / "out" / record["path"]).read_bytes() == b"new"
    assert "1,000 ok (997 unchanged), 0 failed, 0 not started" in ran.stderr
    second = stats(tmp_path / "out")
    assert {path for path in first if first[path] != second[path]} == {record["path"] for record in ran.records}

    seen = len(server.requests())
    assert seen == 2_000
    ran = run_fetcher(*run, "--existing", "refresh", "--changed", "-q")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")
    requests = server.requests()[seen:]
    assert len(requests) == conditional(requests) == 1_000
    assert len({request.connection for request in requests}) <= 50
    assert stats(tmp_path / "out") == second

    ran = run_fetcher(*run, "--existing", "refresh", "--json")
    assert {record["outcome"] for record in ran.records} == {"unchanged"}
    assert sum(record["wire_bytes"] for record in ran.records) == 0
    assert run_fetcher("verify", "out").code == 0


def test_a_failed_refresh_keeps_the_file(run_fetcher: Command, server: Scope, tmp_path: Path, closed_port: int) -> None:
    """Its record tells of the file that is there, nothing else does otherwise, and the next run asks as before."""
    url = server.url("a", etag='"1"', revalidate=True)
    good = run_fetcher("get", url).records[0]
    before = stats(tmp_path / "fetched")
    refresh = ("get", url, "--existing", "refresh")
    failing = (*refresh, "--proxy", f"127.0.0.1:{closed_port}", "--retries", "0")
    for ran in (run_fetcher(*failing), run_fetcher(*failing)):
        [failed] = ran.records
        assert (ran.code, failed["ok"], failed["error"]["kind"], failed["changed"]) == (1, False, "proxy", None)
        assert [failed[key] for key in ("path", "bytes", "sha256")] == [
            good[key] for key in ("path", "bytes", "sha256")
        ]
    [latest] = run_fetcher("records", "fetched", "--failed", "--path", good["path"]).records
    assert latest == ran.records[0]
    assert (run_fetcher("verify", "fetched").code, stats(tmp_path / "fetched")) == (0, before)
    [skipped] = run_fetcher("get", url).records
    assert (skipped["outcome"], skipped["etag"]) == ("skipped", '"1"')

    [retried] = run_fetcher("retry", "fetched").records  # for whoever asks for it anew, as verify does
    assert (retried["outcome"], retried["changed"]) == ("fetched", False)
    run_fetcher(*failing)
    [unchanged] = run_fetcher(*refresh).records
    assert (unchanged["outcome"], unchanged["changed"], unchanged["wire_bytes"]) == ("unchanged", False, 0)
    assert [unchanged[key] for key in ("path", "bytes", "sha256", "etag", "content_type")] == [
        good[key] for key in ("path", "bytes", "sha256", "etag", "content_type")
    ]
    assert [conditional([seen]) for seen in server.requests()] == [0, 0, 1]
    assert stats(tmp_path / "fetched") == before


@pytest.mark.parametrize("existing", ["refresh", "replace"])
@pytest.mark.parametrize("options", [{"size": 100}, {"size": 3_000_000}, {"size": 0}])
def test_equal_bytes_are_not_written(
    run_fetcher: Command, server: Scope, tmp_path: Path, options: dict[str, Any], existing: str
) -> None:
    """Where the server sends the same body again, the file stays as it is, and has not changed."""
    url = server.url("a", **options)
    run_fetcher("get", url)
    before = stats(tmp_path / "fetched")
    [record] = run_fetcher("get", url, "--existing", existing).records
    assert (record["outcome"], record["changed"], record["previous_sha256"]) == ("fetched", False, record["sha256"])
    assert stats(tmp_path / "fetched") == before
    assert not list((tmp_path / "fetched/.fetcher/partial").iterdir())


@pytest.mark.parametrize(("left", "asked"), [(None, 0), (b"longer", 0), (b"old", 1), (b"mad", 1)])
def test_files_that_were_touched(
    run_fetcher: Command, server: Scope, tmp_path: Path, left: bytes | None, asked: int
) -> None:
    """A file that is gone or of another size is fetched whole; one of the same size is taken for what it was."""
    url = versions(server, "a")
    path = tmp_path / "fetched" / run_fetcher("get", url).records[0]["path"]
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    [record] = run_fetcher("get", url, "--existing", "refresh").records
    assert conditional(server.requests()) == asked
    assert (record["outcome"], record["changed"], path.read_bytes()) == ("fetched", True, b"new")


def test_a_file_of_the_same_size_is_mended(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """Only a body that comes shows that a file is not as recorded, and replaces it; ``verify`` finds such files."""
    urls = [server.url("a", body="good"), server.url("b", body="good", etag='"1"', revalidate=True)]
    paths = {record["url"]: tmp_path / "fetched" / record["path"] for record in run_fetcher("get", *urls).records}
    for path in paths.values():
        path.write_bytes(b"mad!")
    ran = run_fetcher("get", *urls, "--existing", "refresh")
    assert [record["changed"] for record in ran.records] == [False, False]
    assert [paths[url].read_bytes() for url in urls] == [b"good", b"mad!"]
    found = run_fetcher("verify", "fetched", "--urls")
    assert run_fetcher("get", "-", "--existing", "replace", stdin=found.stdout_bytes).code == 0
    assert paths[urls[1]].read_bytes() == b"good"


def test_names_from_the_body(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """A new body has a new name; what has not changed keeps the name that it has, whatever the template is now."""
    urls = [versions(server, "a"), server.url("b", etag='"1"', revalidate=True)]
    name = ("--name", "{sha256}")
    old = {record["url"]: record["path"] for record in run_fetcher("get", *urls, *name).records}
    run_fetcher("get", *urls, "--existing", "refresh", *name)
    ran = run_fetcher("get", *urls, "--existing", "refresh", "--name", "{n}")
    new = {record["url"]: record["path"] for record in ran.records}
    assert {record["outcome"] for record in ran.records} == {"unchanged"}
    assert (new[urls[0]], new[urls[1]]) == (sha256(b"new").hexdigest(), old[urls[1]])
    assert stats(tmp_path / "fetched").keys() == {*old.values(), *new.values()}
    assert run_fetcher("verify", "fetched").code == 0


def test_only_what_changed_is_printed(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """New files are printed, each once; what failed, has no file or repeats a line is not."""
    urls = [versions(server, "a"), server.url("b", etag='"1"', revalidate=True), server.url("none", status=204)]
    run_fetcher("get", *urls)
    new, gone = server.url("new"), server.url("gone", status=404)
    ran = run_fetcher("get", *urls, new, gone, urls[0], "http:///", "--existing", "refresh", "--changed", "-q")
    assert ran.code == 1
    assert {record["url"]: (record["changed"], record["previous_sha256"]) for record in ran.records} == {
        urls[0]: (True, sha256(b"old").hexdigest()),
        new: (True, None),
    }
    assert len(ran.records) == 2
    assert len((tmp_path / "fetched/.fetcher/records.ndjson").read_bytes().splitlines()) == 3 + 5 + 1
    assert run_fetcher("get", new, "--changed", "--no-json").stdout == ""


def test_where_nothing_is_kept(run_fetcher: Command, server: Scope) -> None:
    """--no-save asks as if nothing were there and compares nothing, -n asks nobody, --changed wants files."""
    url = server.url("a", etag='"1"', revalidate=True)
    run_fetcher("get", url)
    [record] = run_fetcher("get", url, "--existing", "refresh", "--no-save").records
    assert (record["outcome"], record["changed"]) == ("fetched", None)
    [record] = run_fetcher("get", url, "--existing", "refresh", "-n").records
    assert (record["outcome"], record["changed"]) == ("planned", None)
    assert (len(server.requests()), conditional(server.requests())) == (2, 0)
    ran = run_fetcher("get", url, "--changed", "--no-save")
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr == "fetcher: --changed compares with what is there, and --no-save keeps nothing\n"


def test_a_server_cannot_choose_header_fields(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """What is said back of a record is an ETag or a date, even if the journal was tampered with."""
    url = server.url("a", etag='"1"', last_modified="1 Nov, 8 o'clock", revalidate=True)
    run_fetcher("get", url)
    journal = tmp_path / "fetched/.fetcher/records.ndjson"
    journal.write_bytes(journal.read_bytes().replace(rb'"etag":"\"1\""', rb'"etag":"\"1\"\r\nX: y"'))
    [record] = run_fetcher("get", url, "--existing", "refresh").records
    assert (record["outcome"], conditional(server.requests())) == ("fetched", 0)
    assert server.requests()[1].header("x") is None
