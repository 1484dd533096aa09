"""The built-in site behaves as its table says, as seen by plain sockets and by a client that decodes nothing."""

import asyncio
import csv
import json
import logging
import re
import socket
import struct
import zlib
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import urljoin
from xml.etree import ElementTree as ET

import aiohttp
import pytest
import pytest_asyncio

from fetcher.demosite import DemoSite, demo_lines, expected
from fetcher.errors import ErrorKind, UsageError, http_kind, is_transient

EXAMPLES = Path(__file__).parent.parent / "examples" / "urls.txt"
#: As many tries as the demo's own run makes.
TRIES = 4


class InstantClock:
    """A clock that only sleeping moves on."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def random(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock() -> InstantClock:
    """The site's clock."""
    return InstantClock()


@pytest_asyncio.fixture
async def site(clock: InstantClock) -> AsyncIterator[DemoSite]:
    """A site of its own on a free port, where waiting takes no time."""
    async with DemoSite(clock=clock) as site:
        yield site


async def exchange(port: int, path: str) -> tuple[bytes, bytes]:
    """Return head and body as they came, up to the end of the connection; raises what the socket raises."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        return head, body
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


class Witness:
    """Says how a URL ends, in the words of the error kinds, without any code of the program under test."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.body = b""

    async def sees(self, url: str) -> str | None:
        """Return the kind of the last try; a transient one is tried again at once."""
        kind = None
        for _ in range(TRIES):
            kind = await self.tries(url)
            if kind is None or not is_transient(kind):
                break
        return kind

    async def tries(self, url: str) -> str | None:
        """Return how one try ends."""
        if not url.startswith("http:"):
            return ErrorKind.UNSUPPORTED_SCHEME if "://" in url else ErrorKind.INVALID_URL
        try:
            return await self.follows(url)
        except aiohttp.ClientConnectorError:
            return ErrorKind.CONNECT_REFUSED
        except aiohttp.ClientPayloadError:
            return ErrorKind.TRUNCATED
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return ErrorKind.CONNECT_CLOSED

    async def follows(self, url: str) -> str | None:
        """Return how the last of at most twenty redirects ends."""
        for _ in range(21):
            async with self.session.get(url, allow_redirects=False) as response:
                encoded = await response.read()
            if response.status >= 400:
                return http_kind(response.status)
            if response.status < 300:
                return self.decodes(encoded, response.headers.get("Content-Encoding"))
            url = urljoin(url, response.headers["Location"])
        return ErrorKind.REDIRECT_LIMIT

    def decodes(self, encoded: bytes, coding: str | None) -> str | None:
        """Return how decoding a whole body ends; keep what came out."""
        self.body = encoded
        if coding is None:
            return None
        decoder = zlib.decompressobj(31 if coding == "gzip" else 15)
        try:
            self.body = decoder.decompress(encoded)
        except zlib.error:
            return ErrorKind.DECODE
        return None if decoder.eof and not decoder.unused_data else ErrorKind.TRUNCATED


@pytest_asyncio.fixture
async def witness() -> AsyncIterator[Witness]:
    """A client that follows and decodes nothing by itself; a connection per request, so that none is replayed."""
    connector = aiohttp.TCPConnector(force_close=True)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        yield Witness(session)


def urls_of(lines: list[str]) -> list[str]:
    """Return the lines of a list that ask for a fetch."""
    return [line for line in lines if line and not line.startswith("#")]


async def test_every_url_of_the_demo_ends_as_declared(site: DemoSite, witness: Witness) -> None:
    """All cases of the table, each judged by what comes over the wire."""
    table = expected(site.base_url, site.closed_port)
    seen = {line: await witness.sees(line) for line in table}
    assert seen == table


async def test_a_second_run_meets_the_same_bytes(site: DemoSite, witness: Witness) -> None:
    """Bodies depend on the path alone, and what fails at first does so again; a small body is nobody else's."""

    async def run(base_url: str) -> dict[str, str]:
        digests = {}
        for line, kind in expected(base_url, 0).items():
            path = line.removeprefix(base_url)
            if kind is None and not path.startswith("/big/"):
                tries = 0
                while await witness.tries(line) is not None:
                    tries += 1
                digests[path] = f"{sha256(witness.body).hexdigest()} after {tries}"
        return digests

    first = await run(site.base_url)
    assert await run(site.base_url) == first
    async with DemoSite(clock=InstantClock()) as other:
        assert await run(other.base_url) == first
    pages = [digest for path, digest in first.items() if path.startswith("/pages/")]
    assert len(set(pages)) == len(pages) == 208


def test_the_list_is_300_urls_mostly_good_with_few_that_hold_it_up() -> None:
    """The list and the expectation are the same URLs; what is tried in vain, with growing waits, is at most six."""
    lines = demo_lines("http://127.0.0.1:1234", 99)
    table = expected("http://127.0.0.1:1234", 99)
    urls = urls_of(lines)
    failing = [kind for kind in table.values() if kind is not None]
    assert len(urls) == 300
    assert set(urls) == set(table)
    assert len(urls) == len(table) + 1, "one duplicate"
    assert len(failing) <= 30
    assert sum(is_transient(kind) for kind in failing) <= 6
    assert "" in lines
    assert "example.com/no-scheme" in urls
    assert any(url.startswith("ftp://") for url in urls)
    assert any(url.startswith("http://127.0.0.1:99/") for url in urls)


def test_the_list_says_above_each_failing_url_how_it_fails() -> None:
    """The comment over a group names its kind of error; the comments over the others name none."""
    table = expected("http://127.0.0.1:1", 2)
    kind = None
    for line in demo_lines("http://127.0.0.1:1", 2):
        if line.startswith("#"):
            kind = line.partition(": fails with ")[2] or None
        elif line:
            assert table[line] == kind, line


async def test_the_front_page_is_the_list(site: DemoSite, witness: Witness) -> None:
    """Who serves the site can pipe its list into a run."""
    assert await witness.sees(site.base_url + "/") is None
    assert witness.body.decode().splitlines() == demo_lines(site.base_url, site.closed_port)


async def test_the_example_list_works_as_commented(site: DemoSite, witness: Witness) -> None:
    """Each URL of examples/urls.txt ends well, but for the two under a comment that names a kind of error."""
    lines = EXAMPLES.read_text(encoding="utf-8").splitlines()
    kinds: list[str | None] = []
    above = ""
    for line in lines:
        if line.startswith("#"):
            above = line
        elif line:
            marked = re.search(r"\(([a-z.0-9]+)\):$", above)
            kinds.append(marked[1] if marked else None)
            assert await witness.sees(line.replace("http://127.0.0.1:8080", site.base_url)) == kinds[-1], line
    assert sum(kind is not None for kind in kinds) == 2
    assert len(set(urls_of(lines))) == len(urls_of(lines)) - 1
    assert all(line.startswith("http://127.0.0.1:8080/") for line in urls_of(lines))
    assert any(line == "" for line in lines)


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/pages/007.html", "text/html; charset=utf-8"),
        ("/pages/001.txt", "text/plain; charset=utf-8"),
        ("/pages/002.json", "application/json"),
        ("/pages/003.csv", "text/csv; charset=utf-8"),
        ("/pages/004.svg", "image/svg+xml"),
        ("/pages/005.png", "image/png"),
        ("/pages/006", "text/html; charset=utf-8"),
        ("/queries/search?q=a.txt", "text/html; charset=utf-8"),
    ],
)
async def test_a_page_is_what_its_content_type_says(site: DemoSite, path: str, content_type: str) -> None:
    """Type, length and validators are there, and the body is of that type."""
    head, body = await exchange(site.port, path)
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert f"Content-Type: {content_type}" in lines
    assert f"Content-Length: {len(body)}" in lines
    assert re.search(r'\r\nETag: "[0-9a-f]{16}"', head.decode())
    assert "\r\nLast-Modified: Sat, 01 Nov 2025 " in head.decode()
    match content_type.partition(";")[0]:
        case "text/html":
            assert body.startswith(b"<!doctype html>\n<title>")
        case "text/plain":
            assert body.decode().isascii()
        case "application/json":
            assert json.loads(body)[0].keys() == {"name", "x", "y"}
        case "text/csv":
            assert {len(row) for row in csv.reader(body.decode().splitlines())} == {3}
        case "image/svg+xml":
            assert ET.fromstring(body).tag == "{http://www.w3.org/2000/svg}svg"
        case "image/png":
            assert_png(body)
        case _:
            pytest.fail("no check for this type")


async def test_a_page_is_sent_once(site: DemoSite) -> None:
    """Who names a page's version gets no body if that is still the one."""
    async with aiohttp.ClientSession() as session:
        url = f"{site.base_url}/pages/001.txt"
        async with session.get(url) as response:
            tag, body = response.headers["ETag"], await response.read()
        for known, status, expected_body in ((tag, 304, b""), ('"other"', 200, body)):
            async with session.get(url, headers={"If-None-Match": known}) as response:
                assert (response.status, response.headers["ETag"], await response.read()) == (
                    status,
                    tag,
                    expected_body,
                )


def assert_png(body: bytes) -> None:
    """Check signature, chunks, their sums, and that the picture has all its dots."""
    assert body.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(body):
        (size,) = struct.unpack_from(">I", body, at)
        name, data = body[at + 4 : at + 8], body[at + 8 : at + 8 + size]
        assert body[at + 8 + size : at + 12 + size] == struct.pack(">I", zlib.crc32(name + data))
        chunks[name] = data
        at += 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert len(zlib.decompress(chunks[b"IDAT"])) == 16 * (1 + 16 * 3)


async def test_the_target_decides_byte_for_byte(site: DemoSite) -> None:
    """An escape is not what it stands for, nor is a letter its other case: a client that rewrites gets other bytes."""
    paths = [
        "/names/AC%2FDC.txt",
        "/names/AC/DC.txt",
        "/case/Readme.txt",
        "/case/readme.txt",
        "/queries/search?q=a%20b+c",
    ]
    bodies = {(await exchange(site.port, path))[1] for path in paths}
    assert len(bodies) == len(paths)


@pytest.mark.parametrize(
    ("path", "coding", "wbits"), [("/gzip/001.json", "gzip", 31), ("/deflate/001.txt", "deflate", 15)]
)
async def test_a_coded_page_is_whole(site: DemoSite, path: str, coding: str, wbits: int) -> None:
    """Content-Encoding is announced and true, in the formats of RFC 9110 section 8.4.1."""
    head, body = await exchange(site.port, path)
    decoder = zlib.decompressobj(wbits)
    text = decoder.decompress(body)
    assert f"\r\nContent-Encoding: {coding}".encode() in head
    assert decoder.eof
    assert len(text) > len(body)


async def test_a_chunked_page_has_no_length(site: DemoSite) -> None:
    """Five chunks and the last one of no size."""
    head, body = await exchange(site.port, "/chunked/002.bin")
    assert b"\r\nTransfer-Encoding: chunked" in head
    assert b"Content-Length" not in head
    assert body.startswith(b"7d0\r\n")
    assert body.endswith(b"\r\n0\r\n\r\n")
    assert len(body) == 10_000 + 5 * len("7d0\r\n\r\n") + len("0\r\n\r\n")


async def test_a_page_without_length_ends_with_the_connection(site: DemoSite) -> None:
    """Neither Content-Length nor Transfer-Encoding, and an orderly end."""
    head, body = await exchange(site.port, "/until-close/001.html")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Content-Length" not in head
    assert b"Transfer-Encoding" not in head
    assert body.endswith(b"</p>\n")


async def test_a_truncated_page_announces_more_than_it_sends(site: DemoSite) -> None:
    """4,000 of 10,000 bytes, then an orderly end; they are the first of the page that comes the second time."""
    head, body = await exchange(site.port, "/flaky/cut/001.bin")
    assert b"\r\nContent-Length: 10000" in head
    assert len(body) == 4_000
    _, whole = await exchange(site.port, "/flaky/cut/001.bin")
    assert len(whole) == 10_000
    assert whole.startswith(body)


async def test_a_reset_comes_before_the_first_byte(site: DemoSite) -> None:
    """The connection ends with RST, not with an answer."""
    with pytest.raises(ConnectionResetError):
        await exchange(site.port, "/reset/001.html")


async def test_429_asks_to_come_back_after_a_second(site: DemoSite) -> None:
    """Retry-After stands in the first answer only."""
    head, _ = await exchange(site.port, "/flaky/429/001.html")
    assert head.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nRetry-After: 1\r\n" in head
    head, _ = await exchange(site.port, "/flaky/429/001.html")
    assert head.startswith(b"HTTP/1.1 200 ")


async def test_busy_is_counted_for_each_url(site: DemoSite) -> None:
    """503 twice, then 200, and so on; another URL has its own count."""
    paths = ["/flaky/503/001.html"] * 4 + ["/flaky/503/002.html"]
    heads = [(await exchange(site.port, path))[0] for path in paths]
    assert [head[9:12] for head in heads] == [b"503", b"503", b"200", b"503", b"503"]


async def test_204_and_empty_have_no_body(site: DemoSite) -> None:
    """Nothing follows the head; only the 200 says that this is nothing."""
    head, body = await exchange(site.port, "/status/204/nothing")
    assert head.startswith(b"HTTP/1.1 204 ")
    assert body == b""
    head, body = await exchange(site.port, "/empty/nothing.txt")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nContent-Length: 0" in head
    assert body == b""


@pytest.mark.parametrize(
    ("path", "hops"),
    [
        ("/moved/001.html", [(301, "/pages/001.html")]),
        ("/relative/001.html", [(307, "../pages/001.html")]),
        ("/absolute/001.html", [(308, "http://HOST/pages/001.html")]),
        ("/loop/001.html", [(302, "001.html")]),
        ("/hops/4/1.txt", [(302, f"/hops/{left}/1.txt") for left in (3, 2, 1)] + [(302, "/pages/1.txt")]),
    ],
)
async def test_redirects_lead_where_they_should(site: DemoSite, path: str, hops: list[tuple[int, str]]) -> None:
    """Status and Location of every hop, as written."""
    for status, location in hops:
        head, _ = await exchange(site.port, path)
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert f"\r\nLocation: {location.replace('HOST', f'127.0.0.1:{site.port}')}\r\n".encode() in head
        path = location


async def test_an_unknown_path_is_not_found(site: DemoSite) -> None:
    """Whatever the table does not name is 404, a folder without a name included."""
    for path in ("/nothing", "/pages/", "/pages"):
        head, _ = await exchange(site.port, path)
        assert head.startswith(b"HTTP/1.1 404 "), path


@pytest.mark.parametrize(
    ("path", "least", "most", "size"),
    [
        ("/late/001.html", 1.0, 1.0, None),
        ("/drip/001.txt", 2.0, 2.0, None),
        ("/big/20/001.bin", 20 / 20, 20 / 15, 20_000_000),
        ("/big/40/001.bin", 40 / 20, 40 / 15, 40_000_000),
    ],
)
async def test_slow_and_big_take_their_time(
    site: DemoSite, clock: InstantClock, path: str, least: float, most: float, size: int | None
) -> None:
    """Seconds slept by the site's clock; a big body comes at 15 to 20 MB/s, with its length announced."""
    head, body = await exchange(site.port, path)
    assert least <= round(clock.time, 6) <= most
    assert f"\r\nContent-Length: {size or len(body)}\r\n".encode() in head
    assert len(body) == (size or len(body))


async def test_a_big_body_never_repeats_itself(site: DemoSite) -> None:
    """A piece at the wrong place would change the digest."""
    _, body = await exchange(site.port, "/big/20/001.bin")
    pieces = {body[at : at + 4096] for at in range(0, len(body), 4096)}
    assert len(pieces) == -(-len(body) // 4096)


async def test_a_port_in_use_is_a_usage_error(site: DemoSite) -> None:
    """The message names the port and what to do; what was opened on the way is closed again."""
    with pytest.raises(UsageError, match=rf"^port {site.port} is in use; choose another one"):
        async with DemoSite(site.port):
            pytest.fail("two sites on one port")


async def test_a_port_that_is_none_is_a_usage_error() -> None:
    """Numbers above 65535 cannot be bound."""
    with pytest.raises(UsageError, match=r"^port 65536 cannot be had; choose another one"):
        async with DemoSite(65_536):
            pytest.fail("bound to no port")


async def test_the_site_is_on_this_machine_only(site: DemoSite) -> None:
    """Another loopback address, which a wildcard would cover, is refused; so is the closed port."""
    assert site.base_url == f"http://127.0.0.1:{site.port}"
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.2", site.port)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", site.closed_port)


async def test_nobody_else_gets_the_closed_port(site: DemoSite) -> None:
    """It stays taken while the site is up."""
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", site.closed_port))


async def test_leaving_cuts_off_everything() -> None:
    """With a silent, a dripping, a big and an idle connection open: at once no task, no listener, both ports free."""
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    writers = []
    async with DemoSite() as site:
        for path in ("/late/1.html", "/drip/1.txt", "/big/40/1.bin", "/pages/1.txt"):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            if path != "/late/1.html":
                await reader.readuntil(b"\r\n\r\n")
            writers.append(writer)
        left = loop.time()
    assert asyncio.all_tasks() == before
    assert loop.time() - left < 1.5, "waited for answers that nobody reads"
    for port in (site.port, site.closed_port):
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


async def test_leaving_ends_with_what_went_wrong_inside() -> None:
    """An exception passes through, and the site is down."""
    with pytest.raises(ZeroDivisionError):
        async with DemoSite() as site:
            raise ZeroDivisionError
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", site.port)


async def test_nothing_is_logged(site: DemoSite, caplog: pytest.LogCaptureFixture) -> None:
    """No access log, and no complaint about a connection that the site itself broke or the client left."""
    caplog.set_level(logging.INFO)
    for path in ("/pages/1.txt", "/until-close/1.txt", "/cut/1.bin", "/nothing", "/hops/x/%0d%0aX:1"):
        await exchange(site.port, path)
    with pytest.raises(ConnectionResetError):
        await exchange(site.port, "/reset/1.html")
    _, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(b"GET /big/40/1.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    await exchange(site.port, "/pages/2.json")
    assert [record.getMessage() for record in caplog.records] == []
