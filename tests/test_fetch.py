"""One attempt: ok means whole, everything else says why, and what is secret stays where it belongs."""

import asyncio
import json
import ssl
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, Final

import pytest

from fetcher.clock import SystemClock
from fetcher.errors import Error, ErrorKind, FetchError, LocalError
from fetcher.events import Event, Redirected, Transfer, Trouble
from fetcher.fetch import Fetch
from fetcher.history import History
from fetcher.hosts import Hosts
from fetcher.identity import Identity
from fetcher.model import Attempt, Redirect, Request, Row, to_line
from fetcher.options import HostOptions, Limits, Timeouts
from fetcher.options import Tls as TlsOptions
from fetcher.plan import Planner
from fetcher.transport.proxies import Proxies
from fetcher.transport.session import SessionTransport
from tests.answers import Value
from tests.conftest import Tls
from tests.fakes import SILENCE, START, Answer, Clock, Sink, Transport, simulated
from tests.server import Scope

PLAIN: Final = Identity("test/1.0")


def request(url: str) -> Request:
    """Return the request of a line."""
    planned = Planner().plan(Row("list", 1, url))
    assert isinstance(planned, Request)
    return planned


class Tried:
    """One attempt and what it left: in the sink, among the events, in its transfer."""

    def __init__(self, url: str, sink: Sink | None = None) -> None:
        self.request = request(url)
        self.sink = sink or Sink()
        self.events: list[Event] = []
        self.transfer = Transfer(self.request, 0.0)

    async def over(
        self,
        transport: Any,
        identity: Identity = PLAIN,
        limits: Limits | None = None,
        clock: Any = None,
        total: float | None = None,
    ) -> "Tried":
        """Make the attempt over this transport."""
        fetch = Fetch(transport, self.sink, identity, limits or Limits(), clock or SystemClock())
        self.attempt = await fetch.attempt(self.transfer, 1, total, self.events.append)
        assert (self.attempt.stored is None) != (self.attempt.error is None)
        return self

    @property
    def body(self) -> bytes | None:
        """The stored body, if there is one; a failed attempt stored none."""
        return self.sink.bodies.get(self.request.target)

    @property
    def error(self) -> Error:
        """Why it failed."""
        assert self.attempt.error is not None
        return self.attempt.error

    @property
    def kind(self) -> str | None:
        """The kind of its error."""
        return self.attempt.error.kind if self.attempt.error else None


@asynccontextmanager
async def session(timeouts: Timeouts | None = None, tls: TlsOptions | None = None) -> AsyncIterator[SessionTransport]:
    """Open a real transport that asks no proxy."""
    proxies = Proxies("")
    async with SessionTransport(timeouts or Timeouts(), tls or TlsOptions(), proxies, SystemClock()) as transport:
        yield transport


async def fetched(
    url: str, identity: Identity = PLAIN, *, total: float | None = None, read: float = 10.0, **limits: Any
) -> Tried:
    """Try a real server once."""
    async with session(Timeouts(read=read)) as transport:
        return await Tried(url).over(transport, identity, Limits(**limits), total=total)


def simulate(url: str, answers: dict[str, list[Answer]] | Answer, **more: Any) -> Tried:
    """Try a simulated server once."""

    async def main() -> Tried:
        sink = more.pop("sink", None)
        transport = Transport({url: [answers]} if isinstance(answers, Answer) else answers)
        more["clock"] = Clock()
        return await Tried(url, sink).over(transport, **more)

    return simulated(main())


class TestStatus:
    @pytest.mark.parametrize("status", [200, 201, 203, 207, 226, 299])
    async def test_whole(self, server: Scope, status: int) -> None:
        """Any 2xx with a whole body is good."""
        tried = await fetched(server.url("a", status=status, size=10_000))
        assert tried.kind is None
        assert tried.attempt.head is not None
        assert tried.attempt.head.status == status
        assert tried.body == server.body_of("a", 10_000)
        assert tried.attempt.stored is not None
        assert tried.attempt.stored.sha256 == sha256(tried.body).hexdigest()
        assert tried.attempt.wire_bytes == tried.attempt.stored.bytes == tried.transfer.total == 10_000

    async def test_no_content(self, server: Scope) -> None:
        """204 is good, has no bytes and no file; the sink hears nothing of it."""
        tried = await fetched(server.url("a", status=204))
        assert tried.attempt.stored is not None
        assert (tried.attempt.stored.path, tried.attempt.stored.bytes, tried.attempt.stored.sha256) == (None, 0, None)
        assert tried.sink.bodies == {}

    async def test_empty(self, server: Scope) -> None:
        """An empty body with status 200 is a file of no bytes."""
        tried = await fetched(server.url("a", size=0))
        assert (tried.kind, tried.body) == (None, b"")

    @pytest.mark.parametrize(
        ("options", "kind", "message"),
        [
            ({"status": 206}, "truncated", "206 Partial Content: a part, where the whole was asked for"),
            ({"status": 304}, "redirect.invalid", "304 Not Modified leads nowhere"),
            ({"status": 300}, "redirect.invalid", "300 Multiple Choices leads nowhere"),
            ({"status": 301}, "redirect.invalid", "301 without a Location"),
            ({"status": 305, "redirect_to": "/x"}, "redirect.invalid", "305 Use Proxy leads nowhere"),
            ({"status": 307}, "redirect.invalid", "307 without a Location"),
            ({"status": 400}, "http.400", "400 Bad Request"),
            ({"status": 404, "reason": "Gone Fishing"}, "http.404", "404 Gone Fishing"),
            ({"status_line": "HTTP/1.1 503"}, "http.503", "503"),
            ({"status": 599}, "http.599", "599 Odd"),
            ({"status": 600}, "protocol", "600 Odd is no answer to a GET"),
            ({"status": 999}, "protocol", "999 Odd is no answer to a GET"),
            ({"status": 99}, "protocol", "099 Odd is no answer to a GET"),
            ({"status": 101}, "protocol", "101 Switching Protocols is no answer to a GET"),
        ],
    )
    async def test_bad(self, server: Scope, options: dict[str, Value], kind: str, message: str) -> None:
        """Whatever is no whole answer to a GET fails and says so; nothing of its body is kept."""
        tried = await fetched(server.url("a", **options))
        assert (tried.kind, tried.error.message) == (kind, message)
        assert tried.sink == Sink()

    async def test_error_keeps_the_head(self, server: Scope) -> None:
        """A failed attempt tells what the server said about itself."""
        tried = await fetched(server.url("a", status=404, type="text/html", etag='"x"'))
        assert tried.attempt.head is not None
        assert (tried.attempt.head.status, tried.attempt.head.content_type, tried.attempt.head.etag) == (
            404,
            "text/html",
            '"x"',
        )
        assert tried.attempt.head.remote_ip == "127.0.0.1"

    async def test_connection_survives_an_error(self, server: Scope) -> None:
        """The small body of an error or a redirect is read, so that its connection serves the next request."""
        async with session() as transport:
            await Tried(server.url("a", status=404)).over(transport)
            await Tried(server.url("b", redirect_to=server.path("c"))).over(transport)
        assert len({seen.connection for seen in server.requests()}) == 1
        assert len(server.requests()) == 3

    @pytest.mark.parametrize("options", [{"endless_body": 1}, {"size": 10_000_000}])
    async def test_big_error_body_is_not_read(self, server: Scope, options: dict[str, Value]) -> None:
        """The body of an error is not worth a download."""
        tried = await fetched(server.url("a", status=404, **options))
        assert (tried.kind, tried.attempt.wire_bytes) == ("http.404", 0)

    def test_slow_error_body_is_not_waited_for(self) -> None:
        """An error is known from its head: its dripping body costs a second at most and changes nothing."""
        tried = simulate("http://h/", Answer(status=404, length=1000, body=[b"x"] * 1000, gap=5.0))
        assert tried.kind == "http.404"
        assert tried.attempt.ended == pytest.approx(1.0)

    @pytest.mark.parametrize(
        ("value", "wait"), [("120", 120.0), ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0), ("soon", None), ("-1", None)]
    )
    def test_retry_after(self, value: str, wait: float | None) -> None:
        """The server's wish is taken from the answer, in seconds; junk is none."""
        assert START == 1_700_000_000.0
        tried = simulate("http://h/", Answer(status=503, headers=(("retry-after", value),)))
        assert tried.attempt.retry_after == wait

    def test_retry_after_of_success(self) -> None:
        """Only a failure can ask to wait."""
        assert simulate("http://h/", Answer(headers=(("retry-after", "9"),))).attempt.retry_after is None

    @pytest.mark.parametrize(
        ("value", "content_type", "charset"),
        [
            ("text/HTML; Charset=UTF-8", "text/html", "utf-8"),
            ('text/plain;a=b; charset="latin-1"', "text/plain", "latin-1"),
            ("image/png", "image/png", None),
            ("text/plain; charset=", "text/plain", None),
            (" ;", None, None),
        ],
    )
    def test_content_type(self, value: str, content_type: str | None, charset: str | None) -> None:
        """Media type and charset come apart and in lower case (RFC 9110 section 8.3)."""
        head = simulate("http://h/", Answer(headers=(("content-type", value), ("content-type", "x/y")))).attempt.head
        assert head is not None
        assert (head.content_type, head.charset) == (content_type, charset)


class TestBody:
    @pytest.mark.parametrize(
        "encoding",
        ["gzip", "x-gzip", "multi-gzip", "deflate", "raw-deflate", "identity", "gzip,gzip", "deflate,identity,gzip"],
    )
    @pytest.mark.parametrize("options", [{}, {"chunked": 1}, {"no_length": 1}])
    async def test_coded(self, server: Scope, encoding: str, options: dict[str, Value]) -> None:
        """The stored body is the decoded one, whatever its codings and framing."""
        tried = await fetched(server.url("a", size=300_000, encoding=encoding, **options))
        assert (tried.kind, tried.body) == (None, server.body_of("a", 300_000))
        assert tried.attempt.warnings == (("length_unknown",) if "no_length" in options else ())

    @pytest.mark.parametrize("encoding", ["gzip", "multi-gzip", "deflate", "raw-deflate", "gzip,gzip"])
    @pytest.mark.parametrize("cut", [1, 8, 500])
    async def test_coding_cut(self, server: Scope, encoding: str, cut: int) -> None:
        """A coding that stops before its end is a truncation, though the framing be right; nothing is kept."""
        tried = await fetched(server.url("a", size=10_000, encoding=encoding, encoding_cut=cut))
        assert (tried.kind, tried.body) == ("truncated", None)
        assert tried.sink.aborted == [tried.request.target]

    @pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "compress, gzip"])
    async def test_not_what_it_says(self, server: Scope, coding: str) -> None:
        """A body that is not what its head says, or not what was asked for, fails."""
        tried = await fetched(server.url("a", size=10_000, claim_encoding=coding))
        assert (tried.kind, tried.body) == ("decode", None)

    @pytest.mark.parametrize(
        ("options", "kind"),
        [
            ({"truncate_at": 4_000}, "truncated"),
            ({"reset_at": 4_000}, "truncated"),
            ({"truncate_at": 4_000, "chunked": 1}, "truncated"),
            ({"reset_at": 10_000, "no_length": 1}, "truncated"),
            ({"truncate_at": 4_000, "encoding": "gzip"}, "truncated"),
            ({"truncate_at": 4_000, "encoding": "gzip", "no_length": 1}, "truncated"),
            ({"te": "chunked, gzip"}, "protocol"),
            ({"te": "gzip"}, "protocol"),
            ({"close_before_head": 1}, "connect.closed"),
            ({"reset_before_head": 1}, "connect.closed"),
            ({"raw": b"hello\r\n\r\n"}, "protocol"),
            ({"endless_headers": 1}, "protocol"),
        ],
    )
    async def test_broken(self, server: Scope, options: dict[str, Value], kind: str) -> None:
        """A body that does not arrive whole is none."""
        tried = await fetched(server.url("a", size=10_000, **options))
        assert (tried.kind, tried.body) == (kind, None)

    async def test_cut_tells_how_far(self, server: Scope) -> None:
        """The message of a cut body counts bytes."""
        tried = await fetched(server.url("a", size=10_000, truncate_at=4_000))
        assert tried.error.message == "4,000 of 10,000 bytes, then closed"
        assert tried.attempt.wire_bytes == tried.transfer.received == 4_000


class TestMaxSize:
    async def test_announced(self, server: Scope) -> None:
        """A body that is announced too large is not begun."""
        tried = await fetched(server.url("a", size=10_001), max_size=10_000)
        assert tried.kind == "too_large"
        assert tried.error.message == "10.0 kB announced, --max-size is 10.0 kB"
        assert tried.sink == Sink()

    @pytest.mark.parametrize(
        "options", [{"chunked": 1}, {"no_length": 1}, {"encoding": "gzip"}, {"endless_body": 1, "encoding": "gzip"}]
    )
    async def test_counted(self, server: Scope, options: dict[str, Value]) -> None:
        """A body that turns out too large is cut off and forgotten, counted as it is stored."""
        tried = await fetched(server.url("a", size=10_001, **options), max_size=10_000)
        assert (tried.kind, tried.body) == ("too_large", None)
        assert tried.sink.aborted == [tried.request.target]

    @pytest.mark.parametrize("options", [{}, {"chunked": 1}, {"encoding": "gzip"}, {"encoding": "gzip,gzip"}])
    async def test_just_fits(self, server: Scope, options: dict[str, Value]) -> None:
        """A body of that very size is good, also when its coding makes it longer on the wire."""
        tried = await fetched(server.url("a", size=100, **options), max_size=100)
        assert (tried.kind, tried.body) == (None, server.body_of("a", 100))

    async def test_bomb(self, server: Scope) -> None:
        """Without a limit of the user's, stacked codings still cannot grow without bound."""
        tried = await fetched(server.url("a", endless_body=1, encoding="gzip,gzip,gzip"))
        assert tried.kind == "too_large"


class TestTime:
    @pytest.mark.parametrize(
        ("answer", "came"),
        [
            (SILENCE, "0 B"),
            (Answer(body=[b"x"] * 100, gap=1.0), "4 B"),
            (Answer(body=[b"x"] * 100, gap=1.0, status=404, length=100), None),
        ],
    )
    def test_total(self, answer: Answer, came: str | None) -> None:
        """The total covers a head that does not come and a body that drips."""
        tried = simulate("http://h/", answer, total=4.5)
        if came is None:
            assert tried.kind == "http.404"
        else:
            assert tried.error.message == f"not done within 4.5 s, {came} came"
            assert tried.kind == "timeout.total"
            assert tried.attempt.ended == pytest.approx(4.5)
        assert tried.sink.aborted == (["http://h/"] if came == "4 B" else [])

    def test_total_covers_redirects(self) -> None:
        """All hops share one total."""
        hop = Answer(status=302, headers=(("location", "/"),), delay=2.0)
        assert simulate("http://h/", hop, total=9.0).attempt.ended == pytest.approx(9.0)

    @pytest.mark.parametrize("options", [{"delay": 30}, {"drip": "50,0.1", "size": 500}, {"hang": 1}])
    async def test_total_over_sockets(self, server: Scope, options: dict[str, Value]) -> None:
        """The same over real connections, which are dropped."""
        tried = await fetched(server.url("a", **options), total=0.25)
        assert (tried.kind, tried.body) == ("timeout.total", None)
        assert tried.attempt.ended - tried.attempt.started < 5.0

    async def test_read(self, server: Scope) -> None:
        """A body that stops coming fails after the read timeout."""
        tried = await fetched(server.url("a", size=100, drip="2,30"), read=0.5)
        assert (tried.kind, tried.error.message) == ("timeout.read", "no byte for 0.5 s after 50 B of 100 B")

    def test_phases_add_up(self) -> None:
        """An attempt's times are on the clock it was given."""
        tried = simulate("http://h/", Answer(delay=2.0, body=[b"x", b"y"], gap=1.0))
        assert (tried.attempt.started, tried.attempt.ended, tried.transfer.last_byte) == (0.0, 4.0, 4.0)

    async def test_timings(self, server: Scope) -> None:
        """The phases of an attempt are its whole time."""
        attempt = (await fetched(server.url("a", size=1_000_000, delay=0.05, drip="3,0.05"))).attempt
        timings = attempt.timings
        assert timings is not None
        phases = (timings.blocked, timings.dns, timings.connect, timings.tls, timings.send, timings.wait)
        total = sum(phase or 0.0 for phase in phases) + (timings.receive or 0.0)
        assert total == pytest.approx(attempt.ended - attempt.started, abs=0.001)
        waits, receives = timings.wait or 0.0, timings.receive or 0.0
        assert waits + receives >= 0.14  # a busy machine may find the head late, and with it some of the body
        assert min(waits, receives) > 0.0


def fields(seen: Any, name: str) -> list[str]:
    """Return all values of a header field in a request as it was received."""
    return [value for key, value in seen.headers if key.lower() == name.lower()]


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_followed(self, server: Scope, status: int) -> None:
        """Each hop is followed and recorded; the name and the body are those of the end."""
        end = server.url("end")
        middle = server.url("middle", redirect_to="end", status=301)
        start = server.url("start", redirect_to=middle, status=status)
        tried = await fetched(start)
        assert tried.body == server.body_of("end")
        assert tried.attempt.redirects == (Redirect(status, start), Redirect(301, middle))
        assert tried.attempt.head is not None
        assert (tried.attempt.head.url, tried.attempt.head.status) == (end, 200)
        assert tried.events == [
            Redirected(tried.request, status, middle),
            Redirected(tried.request, 301, end),
        ]

    @pytest.mark.parametrize(("hops", "kind"), [(3, None), (4, "redirect.limit")])
    async def test_limit(self, server: Scope, hops: int, kind: str | None) -> None:
        """As many redirects as allowed are followed, not one more."""
        tried = await fetched(server.url("a", hops=hops), max_redirects=3)
        assert tried.kind == kind
        assert len(server.requests()) == 4

    async def test_none_allowed(self, server: Scope) -> None:
        """With a limit of 0 no redirect is followed."""
        assert (await fetched(server.url("a", hops=1), max_redirects=0)).kind == "redirect.limit"
        assert len(server.requests()) == 1

    async def test_loop(self, server: Scope) -> None:
        """A loop ends at the limit, and its message and redirects say so."""
        url = server.url("a", loop=1)
        tried = await fetched(url)
        assert (tried.kind, tried.error.message) == ("redirect.limit", f"20 redirects, last to {url}")
        assert tried.attempt.redirects == (Redirect(302, url),) * 21

    @pytest.mark.parametrize("location", ["b?x=%2F%41", "./b?x=%2F%41", "?x=%2F%41", "//{host}{path}b?x=%2F%41"])
    async def test_relative(self, server: Scope, location: str) -> None:
        """A relative reference is resolved and otherwise left as it is (RFC 3986 section 5.2)."""
        target = location.format(host=server.host, path=server.path())
        tried = await fetched(server.url("b", redirect_to=target))
        assert tried.kind is None
        assert server.requests()[-1].resource == server.path("b?x=%2F%41")

    @pytest.mark.parametrize(
        "location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "javascript:alert(1)", "http://", "http://h:99999/"]
    )
    async def test_refused(self, server: Scope, location: str) -> None:
        """A redirect to anything but an http or https URL is refused."""
        tried = await fetched(server.url("a", redirect_to=location))
        assert (tried.kind, tried.error.message) == ("redirect.invalid", f"302 to {location}")
        assert len(server.requests()) == 1

    async def test_cookie_wall(self, server: Scope) -> None:
        """A cookie set by one hop is sent to the next, in its own field, to its own host only."""
        other = server.origin(1)
        third = server.url("third")
        second = server.url("second", redirect_to=third, set_cookie=["b=2; Path=/", "c=3; Path=/elsewhere"])
        await fetched(server.url("first", redirect_to=second, set_cookie=["a=1; Path=/"]))
        assert [fields(seen, "cookie") for seen in server.requests()] == [[], ["a=1"], ["a=1; b=2"]]
        away = other.url("away").replace("127.0.0.1", "localhost")
        await fetched(server.url("fourth", redirect_to=away, set_cookie=["a=1; Path=/"]))
        assert fields(server.requests("away")[0], "cookie") == []

    async def test_cookies_stay_with_their_url(self, server: Scope) -> None:
        """No cookie of one URL, nor of one attempt, reaches another."""
        async with session() as transport:
            first = Tried(server.url("a", redirect_to=server.path("b"), set_cookie=["a=1; Path=/"]))
            await first.over(transport)
            await Tried(server.url("c")).over(transport)
            await first.over(transport)
        assert [fields(seen, "cookie") for seen in server.requests()] == [[], ["a=1"], [], [], ["a=1"]]

    async def test_cookies_join_the_users(self, server: Scope) -> None:
        """The user's own cookies and those of a wall go in one field (RFC 6265 section 5.4)."""
        url = server.url("a", redirect_to=server.path("b"), set_cookie=["a=1; Path=/"])
        await fetched(url, Identity("test/1.0", headers=(("Cookie", "u=0"),)))
        assert [fields(seen, "cookie") for seen in server.requests()] == [["u=0"], ["u=0; a=1"]]


class TestSecrets:
    SECRET: Final = Identity("test/1.0", headers=(("X-Token", "hush"), ("User-Agent", "mine"), ("Cookie", "k=hush")))

    async def test_own_origin(self, server: Scope) -> None:
        """The user's headers go to the URL's own origin, in place of ours, redirects within it included."""
        await fetched(server.url("a", redirect_to=server.url("b")), self.SECRET)
        for seen in server.requests():
            assert fields(seen, "x-token") == ["hush"]
            assert fields(seen, "user-agent") == ["mine"]
            assert fields(seen, "accept") == ["*/*"]

    async def test_never_to_another_origin(self, server: Scope) -> None:
        """Another port is another origin: it gets none of them, nor does the way back."""
        other = server.origin(1)
        back = server.url("back")
        away = other.url("away", redirect_to=back)
        start = server.url("start", redirect_to=away).replace("://", "://user:pass@", 1)
        assert (await fetched(start, self.SECRET)).kind is None
        first, *later = server.requests()
        assert fields(first, "authorization")
        assert len(later) == 2
        for seen in later:
            assert b"hush" not in seen.head
            assert fields(seen, "authorization") == []
            assert fields(seen, "user-agent") == ["test/1.0"]

    async def test_a_hosts_own(self, server: Scope) -> None:
        """Fields of a section go to its hosts besides those for all, but never where a redirect leads."""
        other = server.origin(1)
        section = HostOptions(
            pattern=server.base.removeprefix("http://"), headers=(("X-Token", "own"), ("Authorization", "mine"))
        )
        identity = Identity("test/1.0", (("x-token", "all"), ("X-All", "1")), Hosts([section]))
        await fetched(server.url("a", redirect_to=other.url("away", redirect_to=server.url("back"))), identity)
        await fetched(other.url("b", redirect_to=server.url("c")), identity)
        await fetched(server.url("d").replace("://", "://user:pass@", 1), identity)
        told = {
            seen.resource.partition("?")[0].rpartition("/")[2]: [
                fields(seen, name) for name in ("x-token", "authorization", "x-all")
            ]
            for seen in server.requests()
        }
        nothing: list[list[str]] = [[], [], []]
        assert told == {
            "a": [["own"], ["mine"], ["1"]],
            "away": nothing,
            "back": nothing,
            "b": [["all"], [], ["1"]],
            "c": nothing,
            "d": [["own"], ["mine"], ["1"]],
        }

    async def test_never_to_another_scheme(self, server: Scope, tls: Tls) -> None:
        """The same host without TLS is another origin."""
        async with session(tls=TlsOptions(verify=False)) as transport:
            url = tls.good.url("start", redirect_to=server.url("plain"))
            await Tried(url).over(transport, self.SECRET)
        assert fields(server.requests("start")[0], "x-token") == ["hush"]
        assert b"hush" not in server.requests("plain")[0].head

    @pytest.mark.parametrize(
        ("userinfo", "credentials"),
        [("user:pass", b"user:pass"), ("u%40h:p%3Aq", b"u@h:p:q"), ("user", b"user:"), ("%FF:", b"\xff:")],
    )
    async def test_userinfo(self, server: Scope, userinfo: str, credentials: bytes) -> None:
        """Name and password in the URL become Basic authentication (RFC 7617)."""
        tried = await fetched(server.url("a").replace("://", f"://{userinfo}@", 1))
        assert tried.kind is None
        assert fields(server.requests()[0], "authorization") == ["Basic " + b64encode(credentials).decode()]

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"status": 404},
            {"loop": 1},
            {"redirect_to": "ftp://x/"},
            {"truncate_at": 1},
            {"raw": b"user:hush@"},
            {"close_before_head": 1},
        ],
    )
    async def test_never_told(self, server: Scope, options: dict[str, Value]) -> None:
        """However an attempt ends, its record names user and password in the line as written and nowhere else."""
        tried = await fetched(server.url("a", **options).replace("://", "://user:hush@", 1))
        history = History(tried.request, 0.0, 0.0).after(tried.attempt)
        values = json.loads(to_line(history.record()))
        assert "hush" in values.pop("url")
        assert "hush" not in json.dumps(values)
        assert "user:" not in json.dumps(values)
        told = [event.location for event in tried.events if isinstance(event, Redirected)]
        assert not any("hush" in location for location in told)

    async def test_header_before_userinfo(self, server: Scope) -> None:
        """An Authorization of the user's own takes the place of the URL's."""
        identity = Identity("test/1.0", headers=(("authorization", "Bearer t"),))
        await fetched(server.url("a").replace("://", "://user:pass@", 1), identity)
        assert fields(server.requests()[0], "authorization") == ["Bearer t"]

    @pytest.mark.parametrize("name", ["Accept-Encoding", "accept-encoding"])
    async def test_accept_encoding_is_ours(self, server: Scope, name: str) -> None:
        """Only what can be undone is asked for, whatever the user writes."""
        await fetched(
            server.url("a", redirect_to=server.path("b")), Identity("test/1.0", headers=((name, "br, zstd"),))
        )
        assert [fields(seen, "accept-encoding") for seen in server.requests()] == [["gzip, deflate"]] * 2


class TestTrouble:
    @pytest.mark.parametrize("step", ["open", "write", "commit"])
    def test_bug(self, step: str) -> None:
        """A bug costs one URL: kind ``internal``, with a traceback for whoever mends it, and nothing is kept."""
        tried = simulate("http://h/", Answer(), sink=Sink(trap=step, error=ZeroDivisionError("oops")))
        assert (tried.kind, tried.error.message) == ("internal", "bug: ZeroDivisionError oops")
        [event] = tried.events
        assert isinstance(event, Trouble)
        assert event.request is tried.request
        assert "in trip" in event.traceback
        assert tried.sink.aborted == ([] if step == "open" else ["http://h/"])

    @pytest.mark.parametrize("step", ["open", "write", "commit"])
    def test_disk(self, step: str) -> None:
        """A disk that fails is no bug."""
        tried = simulate("http://h/", Answer(), sink=Sink(trap=step, error=LocalError("disk full")))
        assert (tried.kind, tried.error.message, tried.events) == ("disk", "disk full", [])

    @pytest.mark.parametrize("seconds", [0.5, 1.5, 3.5])
    def test_cancelled(self, seconds: float) -> None:
        """CancelledError passes through, and a body that was begun is aborted."""

        async def main() -> None:
            tried = Tried("http://h/")
            transport = Transport({"http://h/": [Answer(delay=1.0, body=[b"x"] * 9, gap=1.0)]})
            task = asyncio.create_task(tried.over(transport, clock=Clock(), total=60.0))
            await asyncio.sleep(seconds)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
            assert tried.sink.aborted == (["http://h/"] if seconds > 1 else [])
            assert tried.events == []

        simulated(main())

    def test_cancelled_while_storing(self) -> None:
        """Also when the place itself is where it is cancelled."""

        async def main() -> None:
            tried = Tried("http://h/", Sink(trap="commit", error=asyncio.CancelledError()))
            with pytest.raises(asyncio.CancelledError):
                await tried.over(Transport(), clock=Clock())
            assert tried.sink.aborted == ["http://h/"]

        simulated(main())

    @pytest.mark.parametrize("kind", list(ErrorKind))
    def test_every_kind(self, kind: ErrorKind) -> None:
        """What the transport calls a failure, before the head or in the body, is the attempt's error."""
        failure = FetchError(kind, "so it was chosen")
        for answer in (Answer(error=failure), Answer(cut=failure)):
            tried = simulate("http://h/", answer)
            assert tried.attempt.error == failure.error
            assert tried.body is None


def test_attempt_is_one_of_two() -> None:
    """A stored body leaves no error, and counts are those of the transfer."""
    attempt: Attempt = simulate("http://h/", Answer(body=[b"a", b"bc"])).attempt
    assert (attempt.error, attempt.wire_bytes, attempt.number) == (None, 3, 1)
    assert attempt.stored is not None
    assert attempt.stored.sha256 == sha256(b"abc").hexdigest()


def test_small_pieces() -> None:
    """A coded body that arrives byte by byte is the same body."""
    data = zlib.compress(b"hello" * 100, wbits=31)
    pieces = [data[at : at + 1] for at in range(len(data))]
    tried = simulate("http://h/", Answer(body=pieces, headers=(("content-encoding", "gzip"),)))
    assert tried.body == b"hello" * 100


async def test_verified(tls: Tls, ca_file: Any) -> None:
    """Over TLS with a certificate that is trusted, a body is as good; with another, the attempt fails."""
    async with session(tls=TlsOptions(ca_file=ca_file)) as transport:
        assert (await Tried(tls.good.url("a")).over(transport)).kind is None
        assert (await Tried(tls.expired.url("a")).over(transport)).kind == "tls.verify"
    assert ssl.HAS_TLSv1_2


class TestWire:
    """A sink that wants what went over the wire."""

    @pytest.mark.parametrize("encoding", ["gzip", "gzip,gzip", "identity"])
    async def test_as_sent(self, server: Scope, encoding: str) -> None:
        """The body comes as it was sent, with every exchange, redirects first; the request as the transport got it."""
        answer = server.path("there?size=3000&encoding=" + encoding)
        url = server.url("a", redirect_to=answer)
        async with session() as transport:
            tried = await Tried(url, Sink(wants_wire=True)).over(transport)
        assert tried.kind is None
        assert tried.body is not None
        assert tried.attempt.wire_bytes == len(tried.body)
        for _ in range(encoding.count("gzip")):
            tried.sink.bodies[url] = zlib.decompress(tried.sink.bodies[url], wbits=31)
        assert tried.body == server.body_of("there", 3_000)
        moved, last = tried.sink.heads[-1].exchanges
        assert (moved.url, moved.status, last.url, last.status) == (url, 302, server.base + answer, 200)
        assert ("User-Agent", "test/1.0") in moved.asked
        assert ("content-encoding", encoding) in last.headers

    @pytest.mark.parametrize(
        ("options", "kind"),
        [
            ({"encoding": "gzip", "encoding_cut": 4}, "truncated"),
            ({"claim_encoding": "gzip"}, "decode"),
            ({"encoding": "gzip", "endless_body": 1}, "too_large"),
        ],
    )
    async def test_checked(self, server: Scope, options: dict[str, Value], kind: str) -> None:
        """It is whole by the same standards as a body that is decoded, and as large."""
        async with session() as transport:
            tried = Tried(server.url("a", size=10_000, **options), Sink(wants_wire=True))
            await tried.over(transport, limits=Limits(max_size=20_000))
        assert tried.kind == kind
        assert tried.sink.aborted

    async def test_others_hear_nothing_of_it(self, server: Scope) -> None:
        """No sink pays for what it does not want."""
        tried = await fetched(server.url("a"))
        assert [head.exchanges for head in tried.sink.heads] == [()]
