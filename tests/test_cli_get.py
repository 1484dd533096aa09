"""What the options of ``fetcher get`` do on the wire, seen from the server."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.command import Command, Ran
from tests.conftest import Tls
from tests.server import Scope


def by_url(ran: Ran) -> dict[str, dict[str, Any]]:
    """Return the records by their URL, of which each must have one."""
    records = {record["url"]: record for record in ran.records}
    assert len(records) == len(ran.records)
    return records


def kinds(ran: Ran) -> dict[str, str | None]:
    """Return the error kind of each URL, None if it is ok."""
    return {url: record["error"] and record["error"]["kind"] for url, record in by_url(ran).items()}


def test_all_is_well(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """All URLs ok: status 0, files with their bytes, two lines of summary, and a second run that sends nothing."""
    urls = [server.url("a.txt", size=1000), server.url("b/", body="<p>"), server.url("none", status=204)]
    ran = run_fetcher("get", *urls, "-o", "out")
    assert ran.code == 0
    records = by_url(ran)
    assert (tmp_path / "out" / records[urls[0]]["path"]).read_bytes() == server.body_of("a.txt", 1000)
    assert (tmp_path / "out" / records[urls[1]]["path"]).read_bytes() == b"<p>"
    assert (records[urls[2]]["path"], records[urls[2]]["bytes"], records[urls[2]]["ok"]) == (None, 0, True)
    assert ran.stderr.splitlines()[1:] == ["3 ok, 0 failed, 0 not started"]
    assert len(server.requests()) == 3
    again = run_fetcher("get", *urls, "-o", "out")
    assert again.code == 0
    for url, record in by_url(again).items():
        assert record["outcome"] == "skipped"
        assert [record[key] for key in ("path", "bytes", "sha256", "status")] == [
            records[url][key] for key in ("path", "bytes", "sha256", "status")
        ]
    assert len(server.requests()) == 3


def test_replace(run_fetcher: Command, server: Scope, tmp_path: Path, closed_port: int) -> None:
    """--existing replace fetches again what is there, under the same name; a failure leaves the old file."""
    url = server.url("a")
    path = tmp_path / "fetched" / run_fetcher("get", url).records[0]["path"]
    path.write_text("old")
    ran = run_fetcher("get", url, "--existing", "replace", "--proxy", f"127.0.0.1:{closed_port}", "--retries", "0")
    assert kinds(ran) == {url: "proxy"}
    assert path.read_text() == "old"
    ran = run_fetcher("get", url, "--existing", "replace")
    assert tmp_path / "fetched" / ran.records[0]["path"] == path
    assert path.read_bytes() == server.body_of("a")
    assert len(server.requests("a")) == 2


def test_names(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """--name makes names by its template, one per URL, and equal bodies share the one made of their digest."""
    urls = [server.url(f"dir{n}/x.html", body="same", type="text/html") for n in range(3)]
    ran = run_fetcher("get", *urls, "-o", "numbered", "--name", "{n:03}-{stem}{ext}")
    assert [by_url(ran)[url]["path"] for url in urls] == ["001-x.html", "002-x.html", "003-x.html"]
    ran = run_fetcher("get", *urls, "-o", "plain", "--name", "{stem}{ext}")
    paths = [record["path"] for record in ran.records]
    assert len({path.lower() for path in paths}) == 3
    assert all((tmp_path / "plain" / path).read_bytes() == b"same" for path in paths)
    ran = run_fetcher("get", *urls, "-o", "content", "--name", "{sha256:.2}/{sha256}{ext}")
    assert len({record["path"] for record in ran.records}) == 1


def test_dry_run_and_no_save(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """-n sends nothing and makes nothing, --no-save sends all and makes nothing."""
    lines = [server.url("a"), "no url", server.url("a"), server.url("b.bin", size=10)]
    (tmp_path / "urls.txt").write_text("\n".join(lines))
    ran = run_fetcher("get", "urls.txt", "-n")
    assert ran.code == 1
    assert [(record["url"], record["outcome"], bool(record["path"])) for record in ran.records] == [
        (lines[0], "planned", True),
        (lines[1], "failed", False),
        (lines[2], "duplicate", True),
        (lines[3], "planned", True),
    ]
    assert server.requests() == []
    ran = run_fetcher("get", "urls.txt", "--no-save")
    assert ran.code == 1
    assert len(server.requests()) == 2
    assert {record["path"] for record in ran.records} == {None}
    assert [record["bytes"] for record in ran.records if record["url"] == lines[3]] == [10]
    assert [path.name for path in tmp_path.iterdir()] == ["urls.txt"]
    assert "fetched" not in ran.stderr.replace("fetcher", "")


def test_max_size_and_redirects(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """--max-size refuses what is announced, cuts what is not, and counts decoded bytes; --max-redirects bounds hops."""
    urls = [
        server.url("fits", size=1000),
        server.url("large", size=1001),
        server.url("endless", endless_body=True),
        server.url("bomb", endless_body=True, encoding="gzip"),
        server.url("two", hops=2),
        server.url("three", hops=3),
    ]
    ran = run_fetcher("get", *urls, "--max-size", "1k", "--max-redirects", "2", "--retries", "0")
    assert [kinds(ran)[url] for url in urls] == [
        None,
        "too_large",
        "too_large",
        "too_large",
        None,
        "redirect.limit",
    ]
    assert sum(path.is_file() for path in (tmp_path / "fetched" / server.host.replace(":", "_")).rglob("*")) == 2
    assert list((tmp_path / "fetched/.fetcher/partial").iterdir()) == []


def test_patience(run_fetcher: Command, server: Scope) -> None:
    """Timeouts are kinds of their own, --retries bounds the tries, and a Retry-After that is too long is not waited for."""
    urls = [
        server.url("mute", hang=True),
        server.url("slow", size=9, drip="9,0.1"),
        server.url("down", status=503, retry_after="1000"),
        server.url("flaky", fail_times=1, retry_after="0"),
    ]
    bounds = ("--read-timeout=300ms", "--timeout=0.5", "--retries=1", "--max-retry-wait=10s")
    ran = run_fetcher("get", *urls, *bounds)
    assert [kinds(ran)[url] for url in urls] == ["timeout.read", "timeout.total", "http.503", None]
    assert [len(server.requests(name)) for name in ("mute", "slow", "down", "flaky")] == [2, 2, 1, 2]
    assert by_url(ran)[urls[0]]["retried"] == ["timeout.read"]
    assert by_url(ran)[urls[3]]["retried"] == ["http.503"]


def test_limits(run_fetcher: Command, server: Scope) -> None:
    """--concurrency bounds all requests under way, --per-host those of each host."""
    other = server.origin(1)
    urls = [scope.url(f"{name}/{n}", delay=0.05) for n in range(8) for scope, name in ((server, "a"), (other, "b"))]
    assert run_fetcher("get", *urls, "-c", "3", "--per-host", "2").code == 0
    assert server.active_peak() == 3
    assert (server.active_peak("a/"), server.active_peak("b/")) == (2, 2)
    many = [server.url(f"c/{n}", delay=0.3) for n in range(30)]
    assert run_fetcher("get", *many, "-c", "30").code == 0
    assert server.active_peak("c/") == 30


def test_rates(run_fetcher: Command, server: Scope) -> None:
    """--rate spaces all requests, --host-rate those of each host."""
    other = server.origin(1)
    urls = [scope.url(f"{name}/{n}") for n in range(5) for scope, name in ((server, "a"), (other, "b"))]
    assert run_fetcher("get", *urls, "--rate", "20").code == 0
    times = [seen.time for seen in server.requests()]
    # Nine gaps of 50 ms; the first request may have been late by a connection.
    assert times[-1] - times[0] > 0.3
    begun = len(server.requests())
    assert run_fetcher("get", *urls, "--existing", "replace", "--host-rate", "10/s").code == 0
    for name in ("/a/", "/b/"):
        times = [seen.time for seen in server.requests()[begun:] if name in seen.resource]
        assert times[-1] - times[0] > 0.25
    assert all(before.time <= after.time for before, after in pairwise(server.requests()))


def test_headers(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """Fields go to the URL's own origin, from arguments, files and the environment, and to no other origin."""
    (tmp_path / "secrets").write_text("# comment\nX-File: f\n")
    elsewhere = server.url("elsewhere", redirect_to=server.origin(1).url("target"))
    at_home = server.url("at-home", redirect_to=server.url("home"))
    ran = run_fetcher("get", elsewhere, at_home, "-H", "X-Key: k 1", "-H", "@secrets", "--user-agent", "me/1")
    assert ran.code == 0
    for path, key, file in (
        ("elsewhere", "k 1", "f"),
        ("at-home", "k 1", "f"),
        ("home", "k 1", "f"),
        ("target", None, None),
    ):
        [seen] = server.requests(path)
        assert (seen.header("x-key"), seen.header("x-file")) == (key, file)
        assert seen.header("user-agent") == "me/1"
        assert seen.header("accept-encoding") == "gzip, deflate"
    assert run_fetcher("get", server.url("env"), env={"FETCHER_HEADER": "X-Key: a b\nAccept: text/html"}).code == 0
    [seen] = server.requests("env")
    assert (seen.header("x-key"), seen.header("accept")) == ("a b", "text/html")
    assert str(seen.header("user-agent")).startswith("fetcher/")


def test_userinfo(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """User and password are sent, to their own origin only, and shown nowhere but in ``url``."""
    target = server.origin(1).url("target", status=404)
    urls = [
        server.url("a", status=500).replace("http://", "http://user:hush@", 1),
        server.url("b", redirect_to=target).replace("http://", "http://user:hush@", 1),
        "http://user:hush@bad host/",
    ]
    ran = run_fetcher(
        "get", *urls, "-v", "--retries", "1", "-H", "X-Key: hush", "--summary", "sum", "--failed", "failed"
    )
    assert ran.code == 1
    assert server.requests("a")[0].header("authorization") == "Basic dXNlcjpodXNo"
    assert server.requests("target")[0].header("authorization") is None
    assert "hush" not in ran.stderr
    assert "***@" in ran.stderr
    for record in ran.records:
        assert record.pop("url") in urls
        assert "hush" not in json.dumps(record)
    assert (tmp_path / "failed").read_text().count("hush") == 3


def test_certificates(run_fetcher: Command, tls: Tls, ca_file: Path) -> None:
    """--ca-file and SSL_CERT_FILE say who is trusted, --insecure trusts anyone."""
    urls = [scope.url("x") for scope in (tls.good, tls.expired, tls.wrong_host, tls.self_signed)]
    one_is_good = [None, "tls.verify", "tls.verify", "tls.verify"]
    ran = run_fetcher("get", *urls, "--no-save", "--ca-file", ca_file)
    assert [kinds(ran)[url] for url in urls] == one_is_good
    assert "try --ca-file FILE" in ran.stderr
    ran = run_fetcher("get", *urls, "--no-save", env={"SSL_CERT_FILE": str(ca_file)})
    assert [kinds(ran)[url] for url in urls] == one_is_good
    assert run_fetcher("get", *urls, "--no-save", "--insecure").code == 0


def test_proxies(run_fetcher: Command, server: Scope, closed_port: int) -> None:
    """The environment's proxy is used, except for no_proxy's hosts; --proxy overrides both, an empty one goes directly."""
    closed = f"http://127.0.0.1:{closed_port}"
    far = server.url("far").replace(server.base, "http://far.invalid")
    near = server.url("near")
    environment = {"http_proxy": server.base, "no_proxy": "127.0.0.1"}
    assert run_fetcher("get", far, near, "--no-save", env=environment).code == 0
    assert server.requests("far")[0].target == far.encode()
    assert server.requests("near")[0].target == near.removeprefix(server.base).encode()
    environment = {"http_proxy": closed}
    assert run_fetcher("get", near, "--no-save", "--proxy", server.host, env=environment).code == 0
    assert server.requests("near")[1].target == near.encode()
    assert run_fetcher("get", near, "--no-save", "--proxy", "", env=environment).code == 0
    assert server.requests("near")[2].target == near.removeprefix(server.base).encode()
    hushed = closed.replace("//", "//user:hush@")
    ran = run_fetcher("get", near, "--no-save", "--proxy", hushed, "--retries", "0")
    assert kinds(ran) == {near: "proxy"}
    assert "hush" not in ran.stdout + ran.stderr
