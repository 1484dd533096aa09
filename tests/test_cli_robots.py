"""The real command against servers with robots.txt files of every kind, over both transports."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Any, Final

import pytest

from fetcher import __version__
from tests.command import Command, Ran

TRANSPORTS: Final = ("session", "curl")
FORBIDS: Final = b"User-agent: *\nDisallow: /no\n"

Reply = Callable[[BaseHTTPRequestHandler], None]


def answer(status: int = 200, body: bytes = b"", location: str | None = None) -> Reply:
    """Return what sends this."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        if location is not None:
            handler.send_header("Location", location)
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Send rules, and then comments until nobody listens any more."""
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    handler.wfile.write(FORBIDS)
    try:
        while True:
            handler.wfile.write(b"# more\n" * 1000)
    except OSError:
        pass


@dataclass(slots=True)
class Site:
    """A server on a port of its own: what it answers by path, else the path, and what it was asked, and when."""

    replies: dict[str, Reply]
    asked: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    base: str = ""

    def urls(self, *paths: str) -> list[str]:
        """Return URLs of this site."""
        return [f"{self.base}/{path}" for path in paths]


@contextmanager
def serving(replies: dict[str, Reply]) -> Iterator[Site]:
    """Serve a site until the end of the ``with``."""
    site = Site(replies)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.asked.append(self.path)
            site.times.append(monotonic())
            site.agents.add(self.headers["User-Agent"])
            site.replies.get(self.path, answer(body=self.path.encode()))(self)

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        site.base = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


def get(directory: Path, transport: str, *arguments: str) -> Ran:
    """Run the command with ``--robots``."""
    return Command(directory)("get", "--robots", "--json", "--transport", transport, *arguments)


def outcomes(ran: Ran) -> dict[str, str]:
    """Return the kind of each failure, else the outcome, by path."""
    return {
        record["url"].split("/", 3)[3]: (record["error"] or {"kind": record["outcome"]})["kind"]
        for record in ran.records
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("reply", "kinds"),
    [
        (answer(body=FORBIDS), ("fetched", "robots")),
        (answer(404), ("fetched", "fetched")),
        (answer(500), ("robots", "robots")),
        (endless, ("fetched", "robots")),
        (answer(301, location="/elsewhere"), ("fetched", "robots")),
        (answer(301, location="/robots.txt"), ("fetched", "fetched")),
        (answer(200, b"<html>\xff</html>"), ("fetched", "fetched")),
    ],
    ids=["rules", "404", "500", "endless", "moved", "loop", "html"],
)
def test_kinds_of_files(tmp_path: Path, transport: str, reply: Reply, kinds: tuple[str, str]) -> None:
    """Each URL has its record, the file none; nothing forbidden is asked for."""
    with serving({"/robots.txt": reply, "/elsewhere": answer(body=FORBIDS)}) as site:
        ran = get(tmp_path, transport, *site.urls("yes", "no"), "--retries", "0")
    assert outcomes(ran) == {"yes": kinds[0], "no": kinds[1]}, ran.stderr
    assert ran.code == (0 if set(kinds) == {"fetched"} else 1)
    assert ("/no" in site.asked) is (kinds[1] == "fetched")
    assert site.asked[0] == "/robots.txt"
    assert [record["attempts"] for record in ran.records if record["error"]] == [0] * kinds.count("robots")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nobody_there(tmp_path: Path, transport: str) -> None:
    """A host that cannot be asked gets no more requests, and the record says what became of the asking."""
    with serving({}) as site:
        pass
    ran = get(tmp_path, transport, *site.urls("a", "b"), "--retries", "0", "-v")
    assert outcomes(ran) == {"a": "robots", "b": "robots"}
    said = f"{site.base}/robots.txt: {site.base.removeprefix('http://')} refused the connection"
    assert all(record["error"]["message"].startswith(said) for record in ran.records), ran.stdout
    assert f"{said}, so nothing is fetched from there" in ran.stderr


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_slow_file_keeps_nobody_else_waiting(tmp_path: Path, transport: str) -> None:
    """While it is on its way, URLs of other origins are fetched; then those of its own."""
    arrived = threading.Event()

    def when_all_others_have_come(handler: BaseHTTPRequestHandler) -> None:
        assert arrived.wait(30)
        answer(body=FORBIDS)(handler)

    def last(handler: BaseHTTPRequestHandler) -> None:
        answer()(handler)
        arrived.set()

    with serving({"/robots.txt": when_all_others_have_come}) as slow, serving({"/30": last}) as other:
        urls = slow.urls(*map(str, range(20)), "no") + other.urls(*map(str, range(31)))
        ran = get(tmp_path, transport, *urls, "-c", "2")
    assert set(outcomes(ran).values()) == {"fetched", "robots"}
    assert arrived.is_set()
    assert slow.asked.count("/robots.txt") == other.asked.count("/robots.txt") == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_crawl_delay(tmp_path: Path, transport: str) -> None:
    """Requests start no sooner after each other, the first after the asking included."""
    with serving({"/robots.txt": answer(body=b"User-agent: fetcher\nCrawl-delay: 0.2")}) as site:
        ran = get(tmp_path, transport, *site.urls("a", "b", "c"), "-v")
    assert ran.code == 0, ran.stderr
    assert f"{site.base}/robots.txt: obeyed, 0.2 s between requests" in ran.stderr
    assert site.times[3] - site.times[0] > 3 * 0.2 - 0.1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_redirect_to_what_is_forbidden(tmp_path: Path, transport: str) -> None:
    """It is not followed, to another origin neither, which is asked before."""
    with serving({"/robots.txt": answer(body=FORBIDS)}) as there:
        replies = {f"/{path}": answer(302, location=f"{there.base}/{path}") for path in ("no", "yes")}
        with serving(replies) as here:
            ran = get(tmp_path, transport, *here.urls("no", "yes"))
    assert outcomes(ran) == {"no": "robots", "yes": "fetched"}
    assert sorted(there.asked) == ["/robots.txt", "/yes"]
    assert sorted(here.asked) == ["/no", "/robots.txt", "/yes"]


@pytest.mark.parametrize(
    ("arguments", "agent", "path"),
    [
        ((), f"fetcher/{__version__}", "fetcher"),
        (("--contact", "me@example.com"), f"fetcher/{__version__} (+me@example.com)", "fetcher"),
        (("--user-agent", "MyBot/2", "--contact", "http://h/bot"), "MyBot/2 (+http://h/bot)", "mybot"),
        (("-H", "User-Agent: Other"), "Other", "other"),
    ],
)
def test_by_which_name(tmp_path: Path, arguments: tuple[str, ...], agent: str, path: str) -> None:
    """The rules are those for the first word of the User-Agent that is sent, with the asking too."""
    names = ("fetcher", "mybot", "other")
    rules = "\n".join(f"User-agent: {name}\nDisallow: /{name}\n" for name in names)
    with serving({"/robots.txt": answer(body=rules.encode())}) as site:
        ran = get(tmp_path, "session", *site.urls(*names), *arguments)
    assert site.agents == {agent}
    assert [name for name, kind in outcomes(ran).items() if kind == "robots"] == [path]


def test_workers(tmp_path: Path) -> None:
    """Each origin belongs to one worker, which asks it once."""
    with serving({"/robots.txt": answer(body=FORBIDS)}) as one, serving({}) as another:
        urls = [url for number in range(30) for site in (one, another) for url in site.urls(str(number))]
        ran = get(tmp_path, "session", *urls, *one.urls("no"), "--workers", "2")
    assert sorted(set(outcomes(ran).values())) == ["fetched", "robots"]
    assert len(ran.records) == 61
    assert one.asked.count("/robots.txt") == another.asked.count("/robots.txt") == 1


SITEMAP: Final = "<urlset><url><loc>{base}/{page}</loc></url></urlset>"


def index(directory: Path, site: Site, *names: str) -> None:
    """Write an index of sitemaps of this site, each of which names one page, and let it have them."""
    for name in names:
        site.replies[f"/{name}"] = answer(body=SITEMAP.format(base=site.base, page=f"page-{name}").encode())
    entries = "".join(f"<sitemap><loc>{url}</loc></sitemap>" for url in site.urls(*names))
    (directory / "index.xml").write_text(f"<sitemapindex>{entries}</sitemapindex>")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_sitemaps(tmp_path: Path, transport: str) -> None:
    """Sitemaps that an index names are asked for only if that is allowed, and no sooner after each other than it says."""
    rules = b"User-agent: *\nCrawl-delay: 0.2\nDisallow: /no"
    with serving({"/robots.txt": answer(body=rules)}) as site:
        index(tmp_path, site, "a.xml", "no.xml", "b.xml", "c.xml")
        ran = get(tmp_path, transport, "index.xml", "--no-save")
    assert outcomes(ran) == {
        "no.xml": "robots",
        **dict.fromkeys(("page-a.xml", "page-b.xml", "page-c.xml"), "fetched"),
    }
    assert "/no.xml" not in site.asked
    at = [site.times[site.asked.index(f"/{name}.xml")] for name in "abc"]
    assert at[2] - at[0] > 2 * 0.2 - 0.1


def test_sitemaps_of_a_host(tmp_path: Path) -> None:
    """The rate of a host holds for the sitemaps on it; one that asks to be left alone is, and is asked again."""
    refused = threading.Event()

    def later(handler: BaseHTTPRequestHandler) -> None:
        if refused.is_set():
            answer(body=SITEMAP.format(base="http://127.0.0.1:1", page="").encode())(handler)
            return
        refused.set()
        handler.send_response(429)
        handler.send_header("Retry-After", "1")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with serving({}) as site:
        index(tmp_path, site, "a.xml", "b.xml", "c.xml", "later.xml")
        site.replies["/later.xml"] = later
        words = ("--no-save", "--json", "--host-rate", "5", "--retries", "1")
        ran = Command(tmp_path)("get", "index.xml", *words)
    found = {record["url"].rpartition("/")[2]: record["ok"] for record in ran.records}
    assert found == {"page-a.xml": True, "page-b.xml": True, "page-c.xml": True, "": False}
    a, c, *tries = [site.times[n] for n, path in enumerate(site.asked) if path in ("/a.xml", "/c.xml", "/later.xml")]
    assert c - a > 2 / 5 - 0.1
    assert tries[1] - tries[0] > 0.9


def test_sitemaps_elsewhere(tmp_path: Path) -> None:
    """With ``--block-private`` no sitemap leads to this machine either; one that does is a record."""
    with serving({}) as site:
        index(tmp_path, site, "a.xml")
        ran = Command(tmp_path)("get", "index.xml", "--no-save", "--json", "--block-private")
    assert outcomes(ran) == {"a.xml": "blocked_address"}
    assert site.asked == []
