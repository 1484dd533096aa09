"""The test server answers exactly what its URLs ask for."""

import gzip
import json
import zlib
from collections.abc import Callable

import pytest

from tests.answers import Value
from tests.server import Scope
from tests.sockets import ask

MEGABYTE = 2**20


def unchunked(body: bytes) -> list[bytes]:
    """Return the chunks of a body, the last and empty one too if it came."""
    chunks = []
    while body:
        size, _, body = body.partition(b"\r\n")
        chunks.append(body[: int(size, 16)])
        assert body[len(chunks[-1]) :][:2] == b"\r\n"
        body = body[len(chunks[-1]) + 2 :]
    return chunks


def test_plain_answer(server: Scope) -> None:
    """Without options the body is the path and a newline, with its length."""
    answer = ask(server.url("a/b"))
    assert answer.status == "HTTP/1.1 200 OK"
    assert answer.body == server.body_of("a/b") == f"{server.prefix}a/b\n".encode()
    assert answer.values("content-length") == [str(len(answer.body))]
    assert answer.values("content-type") == ["application/octet-stream"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"status": 404}, "HTTP/1.1 404 Not Found"),
        ({"status": 404, "reason": "gone fishing"}, "HTTP/1.1 404 gone fishing"),
        ({"status": 99}, "HTTP/1.1 099 Odd"),
        ({"status_line": "HTTP/1.2 200"}, "HTTP/1.2 200"),
    ],
)
def test_status_line(server: Scope, options: dict[str, Value], line: str) -> None:
    """The first line is as asked for."""
    assert ask(server.url(**options)).status == line


@pytest.mark.parametrize(
    ("options", "name", "values"),
    [
        ({"type": "text/html"}, "content-type", ["text/html"]),
        ({"type": ""}, "content-type", []),
        ({"header": ["A:1", "B: 2", "A:3"]}, "a", ["1", "3"]),
        ({"header": "Content-Length:7"}, "content-length", ["7"]),
        ({"set_cookie": ["a=b; Path=/", "c=d"]}, "set-cookie", ["a=b; Path=/", "c=d"]),
        ({"etag": '"x"'}, "etag", ['"x"']),
        ({"last_modified": "Sat, 21 Nov 2026 03:00:00 GMT"}, "last-modified", ["Sat, 21 Nov 2026 03:00:00 GMT"]),
        ({"retry_after": "5", "status": 503}, "retry-after", ["5"]),
        ({"retry_after": "5"}, "retry-after", []),
        ({"claim_encoding": "gzip"}, "content-encoding", ["gzip"]),
        ({"te": "gzip, chunked"}, "transfer-encoding", ["gzip, chunked"]),
        ({"te": "gzip, chunked"}, "content-length", []),
        ({"redirect_to": "http://f.example/\udcff?a=1&b=2"}, "location", ["http://f.example/\xff?a=1&b=2"]),
    ],
)
def test_header_fields(server: Scope, options: dict[str, Value], name: str, values: list[str]) -> None:
    """Header fields are as asked for, byte for byte."""
    assert ask(server.url(**options)).values(name) == values


def test_chosen_body(server: Scope) -> None:
    """A body can be given, or a size for one that differs from path to path."""
    assert ask(server.url(body="gr\u00fc\u00df & k\u00fc\u00df")).body == "gr\u00fc\u00df & k\u00fc\u00df".encode()
    whole = ask(server.url("a", size=3 * MEGABYTE)).body
    assert whole == server.body_of("a", 3 * MEGABYTE)
    assert len(whole) == 3 * MEGABYTE
    assert ask(server.url("b", size=10)).body == server.body_of("b", 10) != whole[:10]
    assert ask(server.url("b", size=0)).body == b""


def test_no_body_where_none_may_be(server: Scope) -> None:
    """204 and 304 carry neither body nor length, and the connection stays."""
    for status in (204, 304):
        answer = ask(server.url(status=status))
        assert (answer.body, answer.values("content-length"), answer.values("connection")) == (b"", [], [])


@pytest.mark.parametrize(
    ("encoding", "says", "decode"),
    [
        ("gzip", "gzip", gzip.decompress),
        ("x-gzip", "x-gzip", gzip.decompress),
        ("multi-gzip", "gzip", gzip.decompress),
        ("deflate", "deflate", zlib.decompress),
        ("raw-deflate", "deflate", lambda data: zlib.decompress(data, wbits=-15)),
        ("gzip,gzip", "gzip,gzip", lambda data: gzip.decompress(gzip.decompress(data))),
        ("deflate, identity, gzip", "deflate, identity, gzip", lambda data: zlib.decompress(gzip.decompress(data))),
    ],
)
@pytest.mark.parametrize("framing", [{}, {"chunked": 1}, {"no_length": 1}])
def test_encodings(
    server: Scope, encoding: str, says: str, decode: Callable[[bytes], bytes], framing: dict[str, Value]
) -> None:
    """An encoded body is really encoded, whatever frames it."""
    answer = ask(server.url(encoding=encoding, size=1000, **framing))
    body = b"".join(unchunked(answer.body)) if "chunked" in framing else answer.body
    assert answer.values("content-encoding") == [says]
    assert body != server.body_of(size=1000) == decode(body)


def test_several_gzip_members(server: Scope) -> None:
    """multi-gzip is two members, not one."""
    first = zlib.decompressobj(wbits=31)
    assert first.decompress(ask(server.url(encoding="multi-gzip", size=100)).body) == server.body_of(size=100)[:50]
    assert first.unused_data


def test_cut_encoding_is_framed_well(server: Scope) -> None:
    """encoding_cut drops encoded bytes only; the length is right."""
    whole = ask(server.url(encoding="gzip", size=100)).body
    answer = ask(server.url(encoding="gzip", size=100, encoding_cut=4))
    assert answer.body == whole[:-4]
    assert answer.values("content-length") == [str(len(whole) - 4)]


def test_claimed_encoding_is_a_lie(server: Scope) -> None:
    """claim_encoding leaves the body as it is."""
    assert ask(server.url("a", claim_encoding="gzip")).body == server.body_of("a")


def test_chunked(server: Scope) -> None:
    """Chunks carry the body and end with the empty one; there is no length."""
    answer = ask(server.url(chunked=1, size=10, drip="3,0"))
    assert [len(chunk) for chunk in unchunked(answer.body)] == [4, 4, 2, 0]
    assert b"".join(unchunked(answer.body)) == server.body_of(size=10)
    assert (answer.values("transfer-encoding"), answer.values("content-length")) == (["chunked"], [])
    assert ask(server.url(chunked=1, size=0)).body == b"0\r\n\r\n"


def test_odd_transfer_coding(server: Scope) -> None:
    """A coding that names chunks gets them, another one ends with the connection."""
    assert unchunked(ask(server.url("a", te="gzip, chunked")).body) == [server.body_of("a"), b""]
    assert ask(server.url("a", te="gzip")).body == server.body_of("a")


def test_redirects(server: Scope) -> None:
    """A redirect goes where asked, with the status asked for."""
    assert ask(server.url(redirect_to="/x")).status == "HTTP/1.1 302 Found"
    assert ask(server.url(redirect_to="/x", status=308)).status == "HTTP/1.1 308 Permanent Redirect"


def test_redirect_loop(server: Scope) -> None:
    """A loop redirects to itself."""
    url = server.url("a", loop=1)
    assert [server.base + place for place in ask(url).values("location")] == [url]


def test_counted_hops(server: Scope) -> None:
    """hops=N is N redirects and then an answer."""
    url, hops = server.url("a?x=1", hops=3), 0
    while places := ask(url).values("location"):
        url, hops = server.base + places[0], hops + 1
    assert hops == 3
    assert ask(url).body == server.body_of("a")


def test_first_requests_fail(server: Scope) -> None:
    """The first N requests to one target fail, and no other target's count."""
    url = server.url("a", fail_times=2, fail_status=429, retry_after="7")
    answers = [ask(url), ask(url), ask(server.url("b")), ask(url)]
    assert [answer.status.split()[1] for answer in answers] == ["429", "429", "200", "200"]
    assert [answer.values("retry-after") for answer in answers] == [["7"], ["7"], [], []]


def test_first_request_fails_in_any_way(server: Scope) -> None:
    """fail_as says how the first requests fail: with any options at all."""
    url = server.url("a", size=100, fail_times=1, fail_as="truncate_at=10&etag=old")
    first, second = ask(url), ask(url)
    assert (first.body, first.values("etag")) == (server.body_of("a", 10), ["old"])
    assert (second.body, second.values("etag")) == (server.body_of("a", 100), [])


@pytest.mark.parametrize(
    ("asked", "status", "part", "says"),
    [
        ("bytes=4-", 206, slice(4, 10), "bytes 4-9/10"),
        ("bytes=2-3", 206, slice(2, 4), "bytes 2-3/10"),
        ("bytes=2-99", 206, slice(2, 10), "bytes 2-9/10"),
        ("bytes=10-", 416, slice(0), "bytes */10"),
    ],
)
def test_ranges(server: Scope, asked: str, status: int, part: slice, says: str) -> None:
    """range=1 answers with the part asked for."""
    answer = ask(server.url("a", range=1, size=10), f"Range: {asked}")
    assert answer.status.split()[1] == str(status)
    assert answer.body == server.body_of("a", 10)[part]
    assert answer.values("content-range") == [says]
    assert answer.values("content-length") == [str(len(answer.body))]


def test_range_of_what_has_changed(server: Scope) -> None:
    """If-Range with another validator gets the whole, with the same one the part; the ETag follows the content."""
    url = server.url("a", range=1, size=10)
    (tag,) = ask(url).values("etag")
    assert ask(url, "Range: bytes=4-", f"If-Range: {tag}").body == server.body_of("a", 10)[4:]
    assert ask(url, "Range: bytes=4-", 'If-Range: "other"').body == server.body_of("a", 10)
    assert ask(server.url("a", range=1, size=11)).values("etag") != [tag]


def test_ignored_range(server: Scope) -> None:
    """ignore_range=1 announces ranges and answers with the whole."""
    answer = ask(server.url("a", ignore_range=1, size=10), "Range: bytes=4-")
    assert (answer.status, answer.body) == ("HTTP/1.1 200 OK", server.body_of("a", 10))
    assert answer.values("accept-ranges") == ["bytes"]


def test_echo(server: Scope) -> None:
    """echo=1 shows the request as it arrived."""
    url = server.url("a%2Fb?q=a%7eb", echo=1)
    answer = ask(url, "X-Odd:  Value ")
    assert answer.values("content-type") == ["application/json"]
    assert json.loads(answer.body) == {
        "method": "GET",
        "target": url.removeprefix(server.base),
        "headers": [["Host", "x"], ["Connection", "close"], ["X-Odd", "Value"]],
    }


def test_misspelt_options(server: Scope) -> None:
    """A URL cannot ask for what the server does not know."""
    with pytest.raises(TypeError, match="statsu"):
        server.url(statsu=404)
    with pytest.raises(ValueError, match="invalid literal"):
        server.url(status="many")


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ('If-None-Match: "x"', 304),
        ('If-None-Match: W/"x"', 304),
        ('If-None-Match: "y"\r\nIf-Modified-Since: Sat, 21 Nov 2026 03:00:00 GMT', 200),
        ("If-Modified-Since: Sat, 21 Nov 2026 03:00:00 GMT", 304),
        ("If-Modified-Since: Sat, 21 Nov 2026 04:00:00 GMT", 200),
        ("X: y", 200),
    ],
)
def test_revalidation(server: Scope, field: str, status: int) -> None:
    """revalidate=1 answers without a body to whoever names the version, and other options are as they were."""
    named: dict[str, Value] = {"etag": '"x"', "last_modified": "Sat, 21 Nov 2026 03:00:00 GMT"}
    answer = ask(server.url("a", revalidate=1, **named), field)
    assert answer.status.split()[1] == str(status)
    assert answer.body == (b"" if status == 304 else server.body_of("a"))
    assert answer.values("etag") == ['"x"']
    assert ask(server.url("a", **named), field).status == "HTTP/1.1 200 OK"
