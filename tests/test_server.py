"""The test server misbehaves exactly as its URLs say; looked at with plain sockets."""

import gzip
import socket
import ssl
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.answers import Value
from tests.certificates import Certificates
from tests.conftest import Tls
from tests.server import Scope, Server
from tests.sockets import Answer, ask, connect, request, rest, until

MEGABYTE = 2**20


@pytest.mark.parametrize("size", [0, 1, 100, 300_000])
@pytest.mark.parametrize("way", ["truncate_at", "reset_at"])
def test_cut_short(server: Scope, way: str, size: int) -> None:
    """The head announces all, so many bytes come, then the connection closes or is reset."""
    answer = ask(server.url("a", size=MEGABYTE, **{way: size}))
    assert answer.values("content-length") == [str(MEGABYTE)]
    assert answer.body == server.body_of("a", size)
    assert answer.reset is (way == "reset_at")


@pytest.mark.parametrize("size", [4, 10])
def test_chunks_cut_short(server: Scope, size: int) -> None:
    """A cut chunked body lacks its last chunk, even when all its bytes came."""
    body = ask(server.url("a", size=10, chunked=1, truncate_at=size)).body
    assert body == b"%x\r\n%b\r\n" % (size, server.body_of("a", size))


def test_nothing_before_the_head(server: Scope) -> None:
    """The connection can close, or be reset, in place of an answer."""
    assert ask(server.url(close_before_head=1)) == Answer(b"", reset=False)
    assert ask(server.url(reset_before_head=1)) == Answer(b"", reset=True)


def test_body_without_length(server: Scope) -> None:
    """no_length ends with the connection and says nothing of a length."""
    answer = ask(server.url("a", no_length=1))
    assert answer.body == server.body_of("a")
    assert not answer.values("content-length") + answer.values("transfer-encoding")
    assert ask(server.url("a", no_length=1, reset_at=3)).reset


def test_raw_bytes(server: Scope) -> None:
    """With raw these bytes come and nothing else."""
    data = bytes(range(256))
    assert ask(server.url(raw=data)) == Answer(data, reset=False)


def test_held_raw_bytes(server: Scope) -> None:
    """raw_hold keeps the connection open behind them."""
    url = server.url(raw=b"HTTP/1.1 200 OK\r\n", raw_hold=1)
    with connect(url) as link:
        link.sendall(request(url))
        link.settimeout(0.2)
        assert link.recv(100) == b"HTTP/1.1 200 OK\r\n"
        with pytest.raises(TimeoutError):
            link.recv(1)


def test_hang(server: Scope) -> None:
    """hang=1 takes the request and never answers, though others are answered meanwhile."""
    url = server.url(hang=1)
    with connect(url) as link:
        link.sendall(request(url))
        until(lambda: len(server.requests()) == 1)
        assert ask(server.url("a")).body == server.body_of("a")
        link.settimeout(0.2)
        with pytest.raises(TimeoutError):
            link.recv(1)


@pytest.mark.parametrize(
    ("options", "least"), [({"delay": 0.2}, 0.2), ({"drip": "5,0.05", "size": 100}, 0.2), ({"drip": "1,9"}, 0.0)]
)
def test_slowness(server: Scope, options: dict[str, Value], least: float) -> None:
    """A delay comes before the head; a drip pauses between its pieces, not after them."""
    began = time.monotonic()
    assert ask(server.url("a", **options)).body == server.body_of("a", int(str(options.get("size", -1))))
    assert least <= time.monotonic() - began < 5


def test_first_drop_comes_at_once(server: Scope) -> None:
    """The head and the first piece of a drip do not wait."""
    url = server.url(drip="2,60", size=10)
    with connect(url) as link:
        link.sendall(request(url))
        data = b""
        while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < 5:
            data += link.recv(1000)
        assert Answer(data, reset=False).body == server.body_of(size=5)


@pytest.mark.parametrize("options", [{"endless_headers": 1}, {"endless_body": 1}, {"endless_body": 1, "chunked": 1}])
def test_endless_until_the_client_goes(server: Scope, options: dict[str, Value]) -> None:
    """What has no end goes on for megabytes, and ends when the client goes."""
    url = server.url(**options)
    with connect(url) as link:
        link.sendall(request(url))
        assert sum(len(link.recv(MEGABYTE)) for _ in range(64)) > 2 * MEGABYTE
    until(lambda: server.active_now() == 0)


def test_endless_is_bounded(server: Scope) -> None:
    """An endless body stops at 64 MiB; encoded it is a bomb, small on the wire."""
    url = server.url(endless_body=1)
    with connect(url) as link:
        link.sendall(request(url))
        received = 0
        while piece := link.recv(MEGABYTE):
            received += len(piece)
    assert 64 * MEGABYTE < received < 65 * MEGABYTE
    bomb = ask(server.url(endless_body=1, encoding="gzip")).body
    assert len(bomb) < MEGABYTE
    assert len(gzip.decompress(bomb)) == 64 * MEGABYTE


def test_log(server: Scope, running_server: Server) -> None:
    """The log tells what was asked, below a path, in order, and on which connection."""
    before = time.monotonic()
    with connect(server.base) as link:
        for path in ("a?q=%2f", "b", "a/c"):
            link.sendall(request(server.url(path), f"X-Path: {path}"))
            assert link.recv(1000).startswith(b"HTTP/1.1 200 OK")
    ask(server.url("b"))
    seen = server.requests()
    assert [each.target for each in seen] == [f"{server.prefix}{end}".encode() for end in ("a?q=%2f", "b", "a/c", "b")]
    assert [each.header("x-path") for each in seen] == ["a?q=%2f", "b", "a/c", None]
    assert seen[0].headers == [("Host", "x"), ("X-Path", "a?q=%2f")]
    assert len({each.connection for each in seen[:3]}) == 1
    assert seen[3].connection > seen[0].connection
    assert before <= seen[0].time <= seen[1].time <= time.monotonic()
    assert server.requests("a") == [seen[0], seen[2]]
    assert running_server.scope(server.prefix + "a/").requests() == [seen[2]]


def test_log_of_a_proxied_request(server: Scope) -> None:
    """A target that is a whole URL counts below its path, and stays in the log as sent."""
    target = f"http://elsewhere.example{server.prefix}a?status=407"
    with connect(server.base) as link:
        link.sendall(f"GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        assert rest(link).status == "HTTP/1.1 407 Proxy Authentication Required"
    assert [each.target for each in server.requests("a")] == [target.encode()]


def test_active_peak(server: Scope) -> None:
    """The peak counts requests that are answered at the same time, not those one after another."""
    for _ in range(3):
        ask(server.url("serial"))
    url = server.url("parallel", hang=1)
    links = [connect(url) for _ in range(3)]
    for link in links:
        link.sendall(request(url))
    until(lambda: len(server.requests("parallel")) == 3)
    assert server.active_now() == 3
    for link in links:
        link.close()
    until(lambda: server.active_now() == 0)
    assert (server.active_peak("serial"), server.active_peak("parallel"), server.active_peak("none")) == (1, 3, 0)


def test_hundreds_at_once(server: Scope) -> None:
    """Three hundred clients are answered together."""
    url = server.url(delay=0.5)
    links = [connect(url) for _ in range(300)]
    for link in links:
        link.sendall(request(url, "Connection: close"))
    for link in links:
        with link:
            assert rest(link).body == server.body_of()
    assert server.active_peak() == 300


def test_other_origins(server: Scope) -> None:
    """Another origin has another port, the same behaviour and the same log."""
    other = server.origin(2)
    assert other.host != server.host
    assert other.origin(0) == server
    assert ask(other.url("a", status=201)).status == "HTTP/1.1 201 Created"
    assert len(server.requests("a")) == 1


def test_tls_to_a_plain_port_is_told_off(server: Scope) -> None:
    """A TLS client gets a plain error instead of silence."""
    with connect(server.base) as link, pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(link, server_hostname="localhost")


def ask_tls(scope: Scope, ca_file: Path | None, url: str) -> Answer:
    """Ask over TLS, trusting the authority of ``ca_file``, or the system's."""
    context = ssl.create_default_context(cafile=ca_file)
    with connect(scope.base) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as link:
        link.sendall(request(url, "Connection: close"))
        return rest(link)


def test_good_certificate(tls: Tls, server: Scope, ca_file: Path) -> None:
    """The good certificate convinces who trusts the authority, and nobody else."""
    assert tls.good.base.startswith("https://127.0.0.1:")
    assert ask_tls(tls.good, ca_file, tls.good.url("a", size=MEGABYTE)).body == server.body_of("a", MEGABYTE)
    assert len(server.requests("a")) == 1
    with pytest.raises(ssl.SSLCertVerificationError):
        ask_tls(tls.good, None, tls.good.url())


@pytest.mark.parametrize("options", [{}, {"no_notify": 1}])
def test_end_of_tls(tls: Tls, ca_file: Path, options: dict[str, Value]) -> None:
    """TLS says that it ends, unless it is asked to break off."""
    url = tls.good.url("a", no_length=1, **options)
    context = ssl.create_default_context(cafile=ca_file)
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # set by default in some builds of Python
    with (
        connect(url) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as link,
    ):
        link.sendall(request(url))
        if options:
            with pytest.raises(ssl.SSLError, match=r"EOF|eof"):
                rest(link)
        else:
            assert rest(link).body == tls.good.body_of("a")


@pytest.mark.parametrize(
    ("variant", "reason"),
    [("expired", "certificate has expired"), ("wrong_host", "mismatch"), ("self_signed", "self[- ]signed")],
)
def test_bad_certificates(tls: Tls, server: Scope, ca_file: Path, variant: str, reason: str) -> None:
    """Each bad certificate is refused for its own reason, before any request."""
    scope = getattr(tls, variant)
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        ask_tls(scope, ca_file, scope.url())
    assert server.requests() == []


def test_stop_with_clients_waiting() -> None:
    """A server stops at once, whatever its clients wait for, and leaves no thread."""
    threads = threading.active_count()
    with Server() as own:
        scope = own.scope()
        links = []
        for options in ({"hang": 1}, {"delay": 60}, {"drip": "2,60"}, {"endless_body": 1}):
            url = scope.url(**options)
            links.append(connect(url))
            links[-1].sendall(request(url))
        links.append(connect(scope.base))
        until(lambda: len(scope.requests()) == 4)
    for link in links:
        link.close()
    assert threading.active_count() == threads


def test_sent_after_closing() -> None:
    """What a client takes slowly comes whole, though the server has closed the connection behind it."""
    with Server() as own:
        url = own.scope().url("a", size=30 * MEGABYTE, no_length=1, drip="1,0")
        assert len(ask(url).body) == 30 * MEGABYTE


def test_stop_amid_a_handshake(certificates: Certificates) -> None:
    """A TLS client that does not finish its handshake cannot keep its connection."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with ExitStack() as clients:
        with Server() as own:
            link = clients.enter_context(connect(own.listen(certificates.contexts["good"])))
            link.sendall(outgoing.read())
            assert link.recv(1)
        rest(link)


def test_fault_of_the_server_itself() -> None:
    """A mistake in the server is not taken for misbehaviour: it is raised when the server stops."""
    own = Server()
    with pytest.raises(AssertionError, match="KeyError"), own:
        assert ask(own.scope().url(encoding="rot13")).data == b""


def test_closed_port(closed_port: int) -> None:
    """Nobody listens on the closed port."""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", closed_port))


def test_jq(jq: str) -> None:
    """The path found is that of a jq that works."""
    assert subprocess.run([jq, "-c", ".a"], input=b'{"a": 1}', capture_output=True, check=True).stdout == b"1\n"
