"""``fetcher report`` and ``--report``: where the page goes, whose numbers it has, and what it does in a browser."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetcher.model import to_line
from fetcher.text import rate_text, size_text, span_text
from tests.browser import Tab, browser_path, opened
from tests.command import Command, Ran
from tests.server import Scope
from tests.sockets import until
from tests.test_report_page import Page, harmless
from tests.test_report_stats import record

PAGE = "fetched/.fetcher/report.html"


def mixed(server: Scope) -> list[str]:
    """Return lines of a list in which something of everything happens."""
    return [
        *(server.url(f"page{number}.html", body=f"<p>{number}", type="text/html") for number in range(12)),
        *(server.url(f"data{number}.bin", size=1000 * number, delay=0.01 * number) for number in range(8)),
        *(server.url(f"missing{number}", status=404) for number in range(4)),
        server.url("busy", status=503, retry_after="0"),
        server.url("flaky", fail_times=1, retry_after="0"),
        server.url("none", status=204),
        server.url("page1.html", body="<p>1", type="text/html"),
        "not a URL",
    ]


def fetched(command: Command, lines: list[str], *words: str) -> Ran:
    """Fetch a list."""
    (command.directory / "urls.txt").write_text("".join(f"{line}\n" for line in lines))
    return command("get", "urls.txt", "--retries", "1", *words)


def read(command: Command, path: str) -> Page:
    """Return the page in a file, which nobody has to fear."""
    found = Page((command.directory / path).read_bytes())
    harmless(found)
    return found


def tiles(found: Page) -> dict[str, str]:
    """Return the numbers at the top, by their names."""
    head = found.raw.decode().partition("</header>")[0]
    return dict(re.findall(r"<div[^>]*><dt>([^<]*)</dt><dd>([^<]*)</dd></div>", head))


def bars(found: Page, title: str) -> dict[str, int]:
    """Return the numbers of the bars below a heading."""
    section = found.raw.decode().partition(f"<h2>{title}</h2>")[2].partition("</section>")[0]
    shown = re.findall(r"<span>([^<]*)</span><svg.*?</svg><span class=\"number\">([\d,]+)</span>", section)
    return {name: int(number.replace(",", "")) for name, number in shown}


def summary(ran: Ran) -> list[str]:
    """Return the lines of the end summary."""
    return [line for line in ran.stderr.splitlines() if not line.startswith("Executing <")]


#: The percentiles of docs/report.md: those of equal buckets, 16 to each power of two.
PERCENTILES = r"""
def bucket: [., 0.0001] | max | frexp | .[1] as $e | (.[0] * 32 | floor) as $part | ldexp(($part + 0.5) / 32; $e);
map(select(.outcome == "fetched" or .outcome == "unchanged").elapsed) | sort | length as $n
| [0.5, 0.9, 0.95, 0.99] as $shares | [$shares[] as $share | .[[$share * $n | ceil, 1] | max - 1] | bucket]
"""

COUNTS = """
{
  outcomes: (reduce .[] as $r ({}; .[$r.outcome] += 1)),
  errors: (reduce (.[] | select(.ok | not)) as $r ({}; .[$r.error.kind] += 1)),
  types: (reduce (.[] | select(.outcome == "fetched")) as $r ({}; .[$r.content_type // "(none)"] += 1)),
  wire: (map(.wire_bytes) | add),
  biggest: (map(select(.outcome == "fetched" and .bytes > 0)) | sort_by(-.bytes) | map([.bytes, .url])),
  slowest: (map(select(.attempts > 0)) | sort_by(-.elapsed) | map(.url)),
  retried: (map(.retried[]) | reduce .[] as $kind ({}; .[$kind] += 1)),
  saved: (map(select(.ok and (.retried | length > 0))) | length)
}
"""


def test_one_set_of_numbers(jq: str, run_fetcher: Command, server: Scope) -> None:
    """The page, ``--text``, the end summary and jq tell the same of the same run, digit by digit."""
    ran = fetched(run_fetcher, mixed(server))

    def ask(program: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run([jq, "-s", program], input=ran.stdout_bytes, capture_output=True, check=True, timeout=30)

    counts, percentiles = json.loads(ask(COUNTS).stdout), json.loads(ask(PERCENTILES).stdout)
    assert run_fetcher("report", "fetched").code == 0
    text = run_fetcher("report", "fetched", "--text").stdout.splitlines()
    found = read(run_fetcher, PAGE)

    assert text == [line.removesuffix("   (fetches only the 6)") for line in summary(ran)]
    assert bars(found, "What became of the URLs") == counts["outcomes"]
    assert bars(found, "Why URLs failed") == counts["errors"]
    assert {row[0]: int(row[1]) for row in found.rows("What was fetched")} == counts["types"]
    assert [(row[0], row[1]) for row in found.rows("The biggest")] == [
        (size_text(size), url.replace("&", "&amp;")) for size, url in counts["biggest"]
    ]
    assert [row[1] for row in found.rows("The slowest")] == [url.replace("&", "&amp;") for url in counts["slowest"]]
    assert {row[0]: int(row[1]) for row in found.rows("Retries")} == counts["retried"]
    assert f"of which {counts['saved']} got through" in found.shown

    shown = tiles(found)
    assert int(shown["failed"]) == sum(counts["errors"].values())
    assert int(shown["ok"]) == len(ran.records) - sum(counts["errors"].values())
    assert shown["received"] == size_text(counts["wire"])
    elapsed = json.loads((run_fetcher.directory / "fetched/.fetcher/last-run.json").read_bytes())["elapsed"]
    assert shown["URLs per second"] == rate_text(len(ran.records) / elapsed)
    p50, _, p95, _ = (span_text(seconds) for seconds in percentiles)
    assert (shown["median time"], shown["p95"]) == (p50, p95)
    assert f"p50 {p50}, p95 {p95}" in summary(ran)[0]
    quantiles = found.raw.decode().partition("<h2>How long a URL took</h2>")[2].partition("</dl>")[0]
    assert re.findall(r"<dd>([^<]*)</dd>", quantiles) == [span_text(seconds) for seconds in percentiles]


def test_records_tell_the_same(run_fetcher: Command, server: Scope) -> None:
    """A page of the records that were printed has the numbers of the directory's, but for the run's own clock."""
    ran = fetched(run_fetcher, mixed(server))
    (run_fetcher.directory / "run.ndjson").write_bytes(ran.stdout_bytes)
    run_fetcher("report", "fetched")
    said = run_fetcher("report", "run.ndjson")
    assert (said.code, said.stdout, said.stderr) == (0, "", "report   run.html\n")
    piped = run_fetcher("report", "-", stdin=ran.stdout_bytes)
    assert (piped.code, piped.stderr) == (0, "")
    assert run_fetcher("report", "/dev/stdin", stdin=ran.stdout_bytes).stdout_bytes.count(b"<h2>") == 11
    whole = tiles(read(run_fetcher, PAGE))
    for found in (read(run_fetcher, "run.html"), Page(piped.stdout_bytes)):
        shown = tiles(found)
        for name in ("ok", "failed", "received", "median time", "p95"):
            assert shown[name] == whole[name], name


def test_at_the_end_of_a_run(run_fetcher: Command, server: Scope) -> None:
    """``--report`` writes the same page as ``fetcher report`` makes, skipped and duplicate URLs listed too."""
    lines = mixed(server)
    ran = fetched(run_fetcher, lines, "--report", "page.html")
    assert "report   page.html" in summary(ran)
    run_fetcher("report", "fetched")
    pages = [read(run_fetcher, path) for path in ("page.html", PAGE)]
    heads = [re.findall(r"<h2>.*", page.raw.decode().partition("<main>")[2])[0] for page in pages]
    assert tiles(pages[0]) == tiles(pages[1])
    duplicates = "<details><summary><span>duplicate</span>", '<div class="row"><span>duplicate</span>'
    assert [duplicate in head for duplicate, head in zip(duplicates, heads, strict=True)] == [True, True]
    rest = [head.partition("<h2>Why URLs failed")[2].replace("urls.txt", "fetched") for head in heads]
    assert rest[0] == rest[1]
    again = fetched(run_fetcher, lines, "--report", "page.html")
    assert sum(record["outcome"] == "skipped" for record in again.records) == 22
    second = read(run_fetcher, "page.html")
    assert bars(second, "What became of the URLs")["skipped"] == 22
    assert bars(second, "What is new") == {"still failing": 6}
    run_fetcher("report", "fetched")
    assert tiles(read(run_fetcher, PAGE)) == tiles(second)


def test_a_link_check(run_fetcher: Command, server: Scope) -> None:
    """A run that keeps nothing can have its page all the same, and so can one that sends nothing."""
    for word in ("--no-save", "-n"):
        fetched(run_fetcher, [server.url("a")], word, "--report", "page.html")
        assert read(run_fetcher, "page.html").texts["h1"] == ["1 URL, all ok"]
    assert not (run_fetcher.directory / "fetched").exists()


def test_what_is_new(run_fetcher: Command, server: Scope) -> None:
    """The second run is compared with the first: what broke, what was mended, and what has another content."""
    for status, body in ((200, "one"), (404, "two")):
        lines = [
            server.url("breaks", status=status),
            server.url("mends", status=604 - status),
            server.url("changes", body=body),
            server.url("stays", body="x"),
        ]
        # The server decides by the query, so the query is what must not differ.
        plain = [line.partition("?")[0] for line in lines]
        journal = run_fetcher.directory / "fetched/.fetcher/records.ndjson"
        before = journal.read_bytes() if journal.exists() else b""
        fetched(run_fetcher, lines, "--existing", "replace")
        added = journal.read_bytes()[len(before) :]
        for line, short in zip(lines, plain, strict=True):
            added = added.replace(json.dumps(line).encode(), json.dumps(short).encode())
        journal.write_bytes(before + added)
    run_fetcher("report", "fetched")
    expected = {"new failure": 1, "mended": 1, "content changed": 1, "as before": 1}
    assert bars(read(run_fetcher, PAGE), "What is new") == expected


def test_beside_a_run_and_after_a_kill(run_fetcher: Command, server: Scope) -> None:
    """What a run has recorded so far can be looked at while it goes on, and when it has been killed."""
    slow = server.url("slow", delay=60)
    with run_fetcher.start("get", server.url("quick"), slow, "-q") as running:
        until(lambda: server.active_now("slow") == 1)
        until(lambda: (run_fetcher.directory / "fetched/.fetcher/records.ndjson").stat().st_size > 0)
        assert run_fetcher("report", "fetched").code == 0
        running.kill()
        running.communicate(timeout=30)
    assert read(run_fetcher, PAGE).texts["h1"] == ["1 URL, all ok"]


def test_a_run_that_is_stopped(run_fetcher: Command, server: Scope) -> None:
    """``--report`` is written also by a run that is stopped, and says so."""
    words = ("get", server.url("quick"), server.url("slow", delay=60), "--report", "page.html")
    with run_fetcher.start(*words) as running:
        until(lambda: server.active_now("slow") == 1)
        running.send_signal(signal.SIGTERM)
        assert running.stderr is not None
        while not running.stderr.readline().startswith(b"stopping: "):
            pass
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=30)
    assert "stopped by SIGTERM" in read(run_fetcher, "page.html").shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("report", "name a DIR, a file of records, or - for standard input; fetcher report --help tells more"),
        ("report nowhere", "no such directory or file: nowhere"),
        ("report empty", "empty has no records: nothing was fetched into it"),
        ("report nothing.ndjson", "no records in nothing.ndjson"),
        ("report -", "no records in standard input"),
        ("report run.ndjson -o no/where.html", "cannot write no/where.html: No such file or directory"),
        ("report run.ndjson --text -o page.html", "--text prints; it takes no -o"),
        ("get http://h/ --report x --failed x", "--failed and --report need a file each"),
        ("get nowhere.txt --report page.html", "no such file: nowhere.txt"),
    ],
)
def test_refused(words: str, message: str, run_fetcher: Command, tmp_path: Path) -> None:
    """What cannot be carried out is said in one line, and leaves nothing behind."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing.ndjson").write_bytes(b"")
    (tmp_path / "run.ndjson").write_bytes(to_line(record()))
    ran = run_fetcher(*words.split(), stdin=b"")
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"fetcher: {message}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "nothing.ndjson", "run.ndjson"]


def test_damage(run_fetcher: Command, tmp_path: Path) -> None:
    """Lines that are no records are counted aloud and left out."""
    (tmp_path / "run.ndjson").write_bytes(b"garbage\n" + to_line(record()) + b'{"url": 1}\n' + to_line(record())[:50])
    ran = run_fetcher("report", "run.ndjson", "-o", "-")
    assert (ran.code, ran.stderr) == (0, "fetcher: run.ndjson: 3 damaged lines ignored\n")
    assert Page(ran.stdout_bytes).texts["h1"] == ["1 URL, all ok"]


# --- in a browser


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A tab of a real browser; without one the test is skipped."""
    path = browser_path()
    if path is None:
        pytest.skip("chromium is not installed")
    with opened(path, tmp_path_factory.mktemp("profile")) as found:
        yield found


HOSTILE = "</script><script>document.title='run'</script><img src=http://127.0.0.1:9/x onerror=document.title='run'>"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(width: int, scheme: str, tab: Tab, run_fetcher: Command, tmp_path: Path) -> None:
    """The page complains of nothing, asks for nothing, fits the window in both schemes, and its tables and lists work."""
    lines = [record(line, elapsed=0.001 * line, host=f"h{line % 7}", bytes=line, wire_bytes=line) for line in range(60)]
    lines += [record(61, "dns", url=HOSTILE, host=HOSTILE), record(62, content_type=HOSTILE, source=HOSTILE)]
    (tmp_path / "run.ndjson").write_bytes(b"".join(map(to_line, lines)))
    assert run_fetcher("report", "run.ndjson").code == 0
    tab.complaints.clear()
    tab.requests.clear()
    tab.look(width=width, scheme=scheme)
    tab.open((tmp_path / "run.html").as_uri())
    assert tab.evaluate("document.title") == "62 URLs, 98.4 % ok"
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    dark = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor") != "rgb(255, 255, 255)"
    assert dark is (scheme == "dark")
    assert tab.evaluate("document.scripts.length") == 1

    first = "document.querySelector('#the-biggest tbody td').textContent"
    press = "document.querySelector('#the-biggest th button').click(); "
    assert [tab.evaluate(first), tab.evaluate(press + first), tab.evaluate(press + first)] == ["59 B", "59 B", "10 B"]
    assert tab.evaluate("document.querySelector('#the-biggest th').ariaSort") == "ascending"
    height = "document.querySelector('#why-urls-failed details').offsetHeight"
    closed = tab.evaluate(height)
    assert tab.evaluate(f"document.querySelector('#why-urls-failed summary').click(); {height}") > closed
    assert tab.complaints == []
    assert tab.requests == [(tmp_path / "run.html").as_uri()]
