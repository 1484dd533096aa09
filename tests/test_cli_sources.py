"""Lists in every form, and what their rows say, from the command line to the files and back."""

import gzip
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd

from fetcher.options import Form
from tests.command import Command, Ran
from tests.server import Scope
from tests.test_forms import NAMESPACE, sitemap, written

FORMS = {Form.LINES: "txt", Form.NDJSON: "ndjson", Form.CSV: "csv", Form.TSV: "tsv", Form.SITEMAP: "xml"}


def objects(path: Path, *rows: dict[str, Any]) -> None:
    """Write a list of objects."""
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def by_line(ran: Ran) -> dict[int, dict[str, Any]]:
    """Return the records of a run by their line."""
    return {record["line"]: record for record in ran.records}


def essence(ran: Ran) -> list[dict[str, Any]]:
    """Return the records without what tells where the row stood and when it was fetched."""
    where = ("source", "line", "started_at", "elapsed", "timings")
    records = [{key: value for key, value in record.items() if key not in where} for record in ran.records]
    return sorted(records, key=lambda record: str(record["url"]))


def digest(body: bytes) -> str:
    """Return a body's SHA-256 in hex."""
    return sha256(body).hexdigest()


def test_equal_in_every_form(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """The same 1,000 URLs in every form, packed or not, as file or standard input, give the same records."""
    urls = [server.url(f"d{number % 7}/{number}", body="x") for number in range(1_000)]
    expected = None
    for form, ending in FORMS.items():
        data = written(form, urls)
        (tmp_path / f"urls.{ending}").write_bytes(data)
        (tmp_path / f"urls.{ending}.gz").write_bytes(gzip.compress(data))
        (tmp_path / f"urls.{ending}.zst").write_bytes(zstd.compress(data))
    pq.write_table(pa.table({"url": urls}), tmp_path / "urls.parquet")
    ran = run_fetcher("get", "urls.txt", "-o", "fetched", "--no-save", "-q", "--json")
    fetched = essence(ran)
    assert [record["ok"] for record in fetched] == [True] * 1_000
    for name in [f"urls.{ending}{packed}" for ending in FORMS.values() for packed in ("", ".gz", ".zst")]:
        ran = run_fetcher("get", name, "-n", "-q", "--json")
        expected = expected or essence(ran)
        assert (len(ran.records), essence(ran)) == (1_000, expected), name
    for name in ["urls.parquet", "urls.csv"]:
        ran = run_fetcher("get", name, "-o", "fetched", "--no-save", "-q", "--json")
        assert essence(ran) == fetched, name
    ran = run_fetcher("get", "-", "-n", "-q", "--json", stdin=(tmp_path / "urls.xml.zst").read_bytes())
    assert essence(ran) == expected
    ran = run_fetcher("get", "-", "-n", "-q", "--json", "--input-format", "tsv", stdin=written(Form.TSV, urls))
    assert essence(ran) == expected


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_a_row_says(run_fetcher: Command, server: Scope, tmp_path: Path, workers: str) -> None:
    """Names, digests, sizes and what else is said hold, and come back; so they do in the next run."""
    good, big = server.url("good", body="good"), server.url("big", size=5_000)
    objects(
        tmp_path / "urls.ndjson",
        {"url": good, "id": 7, "name": "x/One File.txt", "color": {"hue": 3}},
        {"url": good, "name": "x/two", "sha256": digest(b"good").upper()},
        {"url": server.url("bad", body="bad"), "sha256": digest(b"good"), "id": "bad"},
        {"url": big, "max_size": 4_999},
        {"url": big, "name": "../../x"},
        {"url": big, "headers": {"X": "secret\nY: z"}},
        {"url": server.url("other"), "name": "X/one file.TXT"},
        {"url": server.url("état", body="x"), "name": ".fetcher/records.ndjson"},
        {"url": good, "name": "x/two", "sha256": digest(b"good"), "id": "again"},
    )
    ran = run_fetcher("get", "urls.ndjson", "--workers", workers, "--retries", "1")
    records = by_line(ran)
    assert ran.code == 1
    assert [(records[n]["id"], records[n]["meta"], records[n]["path"]) for n in (1, 2)] == [
        ("7", {"color": {"hue": 3}}, "x/One File.txt"),
        (None, None, "x/two"),
    ]
    assert (tmp_path / "fetched/x/One File.txt").read_bytes() == (tmp_path / "fetched/x/two").read_bytes() == b"good"
    errors = {number: record["error"] and record["error"]["kind"] for number, record in records.items()}
    assert errors == dict.fromkeys((1, 2, 7, 8, 9)) | {3: "checksum", 4: "too_large", 5: "bad_record", 6: "bad_record"}
    assert (records[3]["retried"], records[3]["path"], records[3]["id"]) == (["checksum"], None, "bad")
    assert len(server.requests("bad")) == 2
    assert records[4]["error"]["message"] == "5.00 kB announced, the list's max_size is 5.00 kB"
    assert records[7]["path"].startswith("X/one file~")
    assert records[8]["path"] == "%2Efetcher/records.ndjson"
    assert (records[9]["outcome"], records[9]["duplicate_of"], records[9]["id"]) == ("duplicate", 2, "again")
    assert "secret" not in ran.stdout + ran.stderr + (tmp_path / "fetched/.fetcher/records.ndjson").read_text()
    again = by_line(run_fetcher("get", "urls.ndjson", "--workers", workers, "--retries", "0"))
    assert {number for number, record in again.items() if record["outcome"] == "skipped"} == {1, 2, 7, 8}
    for number, record in again.items():
        assert {key: record[key] for key in ("id", "asked", "meta", "path")} == {
            key: records[number][key] for key in ("id", "asked", "meta", "path")
        }


def test_another_digest_is_fetched_again(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """What is there is not skipped if the list asks for other bytes; a failure leaves it, and says where it is."""
    url = server.url("a", body="good")
    objects(tmp_path / "plain.ndjson", {"url": url})
    objects(tmp_path / "wrong.ndjson", {"url": url, "sha256": digest(b"other")})
    objects(tmp_path / "right.ndjson", {"url": url, "sha256": digest(b"good")})
    [first] = run_fetcher("get", "plain.ndjson").records
    for existing in ("skip", "refresh"):
        [wrong] = run_fetcher("get", "wrong.ndjson", "--retries", "0", "--existing", existing).records
        assert (wrong["error"]["kind"], wrong["path"]) == ("checksum", first["path"])
    assert (tmp_path / "fetched" / first["path"]).read_bytes() == b"good"
    [right] = run_fetcher("get", "right.ndjson").records
    assert right["outcome"] == "skipped"
    assert len(server.requests("a")) == 3


def test_digest_of_a_resumed_body(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """The digest is that of the whole body, however many attempts it took."""
    url = server.url("a", size=300_000, range=True, etag='"x"', fail_times=1, fail_as="truncate_at=200000")
    objects(tmp_path / "urls.ndjson", {"url": url, "sha256": digest(server.body_of("a", 300_000))})
    [record] = run_fetcher("get", "urls.ndjson").records
    assert (record["ok"], record["retried"], record["resumed_from"]) == (True, ["truncated"], 200_000)


def test_headers_of_one_url(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """They go to the URL's own origin, in place of the run's own, and nowhere else, nor to the next row."""
    elsewhere = server.origin(1)
    here = server.url("here", redirect_to=elsewhere.url("there"))
    objects(
        tmp_path / "urls.ndjson",
        {"url": here, "headers": {"Authorization": "Bearer row", "X-Row": ["a", "b"]}},
        {"url": server.url("plain")},
        {"url": server.url("dead", status=404), "headers": {"X-Row": "c"}, "mirrors": [elsewhere.url("mirror")]},
    )
    ran = run_fetcher("get", "urls.ndjson", "-H", "Authorization: Bearer run", "--failed", "failed.txt")
    assert ran.code == 0
    [first], [there], [plain], [dead], [mirror] = map(server.requests, ("here", "there", "plain", "dead", "mirror"))
    assert b"Bearer row" in first.head
    assert b"Bearer run" not in first.head
    assert first.head.count(b"X-Row: ") == 2
    assert b"Bearer" not in there.head
    assert b"X-Row" not in there.head + plain.head + mirror.head
    assert b"Bearer run" in plain.head
    assert b"X-Row: c" in dead.head
    assert by_line(ran)[1]["asked"] == {"headers": ["Authorization", "X-Row", "X-Row"]}


def test_mirrors(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """They are asked in order, each as often as it takes, under one name; the last failure is the record's."""
    body = digest(b"right")
    right, wrong = server.url("right", body="right"), server.url("wrong", body="wrong")
    objects(
        tmp_path / "urls.ndjson",
        {"url": server.url("a.txt", status=404), "mirrors": [server.url("busy", status=503), right], "sha256": body},
        {"url": server.url("b.txt", body="first"), "mirrors": [wrong]},
        {"url": "http://127.0.0.1:1/c.txt", "mirrors": [wrong, right], "sha256": body},
        {"url": server.url("d.txt", status=404), "mirrors": [server.url("gone", status=410)]},
    )
    ran = run_fetcher("get", "urls.ndjson", "--retries", "1")
    records = by_line(ran)
    assert [records[number]["final_url"] for number in (1, 2, 3)] == [right, server.url("b.txt", body="first"), right]
    assert records[1]["retried"] == ["http.404", "http.503", "http.503"]
    assert records[1]["path"].endswith("/a@status=404.txt")
    assert records[3]["retried"] == ["connect.refused", "connect.refused", "checksum", "checksum"]
    assert records[3]["host"] == "127.0.0.1:1"
    assert (records[4]["error"]["kind"], records[4]["retried"]) == ("http.410", ["http.404"])
    again = by_line(run_fetcher("get", "urls.ndjson", "--retries", "0"))
    assert [again[number]["outcome"] for number in (1, 2, 3, 4)] == ["skipped", "skipped", "skipped", "failed"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_mirrors_of_a_host_that_is_down(run_fetcher: Command, server: Scope, tmp_path: Path, workers: str) -> None:
    """Rows that are not tried for that reason are tried at their mirrors."""
    mirror = server.url("mirror")
    rows = [{"url": f"http://127.0.0.1:1/{number}", "mirrors": [mirror]} for number in range(30)]
    objects(tmp_path / "urls.ndjson", *rows)
    ran = run_fetcher("get", "urls.ndjson", "--retries", "0", "--max-retry-wait", "0", "--workers", workers)
    assert [record["final_url"] for record in ran.records] == [mirror] * 30
    assert ran.code == 0


def test_failures_are_lists(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """What --failed, records and verify write says all that the list said, and retry knows it, but for header fields."""
    objects(
        tmp_path / "urls.ndjson",
        {"url": server.url("a", status=404), "name": "n/a", "id": 1, "x": [1], "sha256": "ab" * 32},
        {"url": server.url("b", status=404)},
        {"url": server.url("c", status=404), "headers": {"Authorization": "secret"}},
        {"url": server.url("d", body="d"), "name": "n/d"},
    )
    first = run_fetcher("get", "urls.ndjson", "--failed", "failed.txt")
    keys = ("url", "id", "asked", "meta")

    def asked(ran: Ran) -> list[list[Any]]:
        return sorted([record[key] for key in keys] for record in ran.records if "outcome" in record)

    expected = [values for values in asked(first) if values[0].split("?")[0][-1] in "ab"]
    text = (tmp_path / "failed.txt").read_text()
    assert "secret" not in text
    assert f"# http.404 (urls.ndjson:3)\n# {server.url('c', status=404)}\n" in text
    assert asked(run_fetcher("get", "failed.txt", "-n")) == expected
    listed = run_fetcher("records", "fetched", "--failed", "--urls").stdout_bytes
    assert asked(run_fetcher("get", "-", "-n", stdin=listed)) == expected
    as_records = run_fetcher("get", "-", "-n", stdin=run_fetcher("records", "fetched", "--failed").stdout_bytes)
    assert asked(as_records)[:2] == expected
    assert [record["error"]["message"] for record in as_records.records if record["error"]] == [
        "its header fields stand in the list that it came from, and only there (-:3)"
    ]
    tried = run_fetcher("retry", "fetched", "--retries", "0")
    assert asked(tried) == expected
    assert "fetcher: 1 left out: their header fields stand in the lists only; run these again\n" in tried.stderr
    (tmp_path / "fetched/n/d").unlink()
    damaged = run_fetcher("verify", "fetched", "--urls").stdout_bytes
    mended = run_fetcher("get", "-", "--existing", "replace", stdin=damaged)
    assert [record["path"] for record in mended.records] == ["n/d"]
    of_url = run_fetcher("records", "fetched", "--url", server.url("d", body="d")).records
    assert [record["path"] for record in of_url] == ["n/d"]


def test_names_that_need_an_answer(run_fetcher: Command, server: Scope) -> None:
    """{filename} is what the server proposes, made harmless, or the end of the URL; {id} what the list says."""
    evil = server.url("get", header='Content-Disposition:attachment; filename="../../a b.pdf"', type="text/html")
    dots = server.url("dots.txt", header="Content-Disposition:attachment; filename=..")
    for workers in ("1", "2"):
        words = ("-o", workers, "--name", "{n}/{filename}", "--workers", workers)
        ran = run_fetcher("get", evil, server.url("plain.txt"), dots, *words)
        first, second, third = sorted(record["path"] for record in ran.records)
        assert (first, second) == ("1/a b.pdf", "2/plain.txt")
        assert third.startswith("3/dots@")
    ran = run_fetcher("get", evil, "-n", "--name", "{n}/{filename}")
    assert [record["path"] for record in ran.records] == [None]
    ran = run_fetcher("get", "-", "-n", "--name", "{id}{ext}", stdin=json.dumps({"url": evil, "id": "a/../b"}).encode())
    assert [record["path"] for record in ran.records] == ["a%2F..%2Fb"]


def test_sitemap_index(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """The sitemaps that an index names are fetched and read, one level deep; one that cannot be had is a record."""
    pages = [server.url(f"page{number}") for number in range(4)]
    packed = server.url("packed.xml", encoding="gzip", body=sitemap(pages[2:3]).decode())
    tried = server.url("tried.xml", body=sitemap(pages[:2]).decode(), fail_times=1)
    gone, page = server.url("gone.xml", status=404), server.url("page.html", body="<html/>")
    index = f'<sitemapindex xmlns="{NAMESPACE}">{{}}</sitemapindex>'
    nested = server.url("nested.xml", body=index.format(f"<sitemap><loc>{pages[3]}</loc></sitemap>"))
    entries = "".join(
        f"<sitemap><loc>{url.replace('&', '&amp;')}</loc></sitemap>" for url in (tried, packed, gone, page, nested)
    )
    (tmp_path / "index.xml").write_text(index.format(entries))
    ran = run_fetcher("get", "index.xml", "--no-save")
    found = {record["url"]: (record["source"], record["line"], record["error"]) for record in ran.records}
    assert [found.pop(pages[number]) for number in (0, 1, 2)] == [(tried, 1, None), (tried, 2, None), (packed, 1, None)]
    assert {url: (source, line, error["kind"]) for url, (source, line, error) in found.items()} == {
        gone: ("index.xml", 3, "http.404"),
        page: (page, 1, "bad_record"),
        pages[3]: (nested, 1, "bad_record"),
    }
    assert ran.stderr.count("index.xml is an index of sitemaps: reading ") == 5
    assert run_fetcher("get", "index.xml", "--no-save", "-q").stderr.count("reading") == 0
    planned = run_fetcher("get", "index.xml", "-n").records
    assert [record["url"] for record in planned] == [tried, packed, gone, page, nested]


def test_glob(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """Patterns are URLs only when asked for; each URL has the line of its pattern."""
    (tmp_path / "urls.txt").write_text(f"{server.url('')}{{a,b}}/[08-10]\n{server.url('')}[2-1]\nhttp://[::1]:1/\n")
    plain = run_fetcher("get", "urls.txt", "-n", "-q", "--json")
    assert len(plain.records) == 3
    ran = run_fetcher("get", "urls.txt", "-n", "-q", "--json", "--glob")
    made = [(record["line"], record["url"].removeprefix(server.url(""))) for record in ran.records]
    assert made[:6] == [(1, f"{letter}/{number}") for letter in "ab" for number in ("08", "09", "10")]
    assert ran.records[6]["error"]["message"].endswith("has a range that does not go up (urls.txt:2)")
    assert made[7:] == [(3, "http://[::1]:1/")]


@pytest.mark.parametrize(
    ("name", "content", "words", "message"),
    [
        ("a.csv", b"link\nhttp://h/\n", (), 'a.csv: no column "url"; there are: link; see --column'),
        ("a.xml", b"<html/>", (), "a.xml: not a sitemap: its root is <html>"),
        ("a.txt", b"x", ("--input-format", "xls"), '--input-format "xls": write one of auto, lines, ndjson, csv, tsv, parquet, sitemap'),
        ("a.txt", b"x", ("--column", ""), "column must not be empty"),
        ("a.parquet.gz", gzip.compress(b"PAR1", mtime=0), (), "a.parquet.gz: Parquet can be read only from a file that is not packed, named *.parquet"),
    ],
)  # fmt: skip
def test_refused_before_anything_is_fetched(
    run_fetcher: Command, tmp_path: Path, name: str, content: bytes, words: tuple[str, ...], message: str
) -> None:
    """A list in another form than it should have is a wrong command."""
    (tmp_path / name).write_bytes(content)
    ran = run_fetcher("get", name, *words)
    assert (ran.code, ran.stdout, ran.stderr) == (2, "", f"fetcher: {message}\n")
    assert not (tmp_path / "fetched").exists()


def test_missing_extra(run_fetcher: Command, tmp_path: Path) -> None:
    """Without pyarrow one line says how to get it, before anything is fetched; other lists do not miss it."""
    code = "import sys; sys.modules['pyarrow'] = None; from fetcher.__main__ import main; main()"
    command = Command(run_fetcher.directory, ("-c", code))
    pq.write_table(pa.table({"url": ["http://h/"]}), tmp_path / "a.parquet")
    ran = command("get", "a.parquet")
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr == "fetcher: a Parquet list needs pyarrow: pip install 'fetcher[parquet]'\n"
    assert command("get", "-", "-n", stdin=b'{"url":"http://h/"}').code == 0
