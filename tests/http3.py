"""A server of HTTP/3, which answers every request with its path, and one of DNS over HTTPS."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated, QuicEvent


class _Http3(QuicConnectionProtocol):
    """One client's connection."""

    _http: H3Connection | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self._http = H3Connection(self._quic)
        if self._http is None:
            return
        for heard in self._http.handle_event(event):
            if isinstance(heard, HeadersReceived):
                path = dict(heard.headers)[b":path"]
                length = str(len(path)).encode()
                self._http.send_headers(heard.stream_id, [(b":status", b"200"), (b"content-length", length)])
                self._http.send_data(heard.stream_id, path, end_stream=True)
                self.transmit()


@asynccontextmanager
async def serving_http3(certificate: Path) -> AsyncIterator[int]:
    """Serve HTTP/3 with the chain and key in one file, on a port of 127.0.0.1, which is yielded."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(certificate, certificate)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    server = await serve("127.0.0.1", port, configuration=configuration, create_protocol=_Http3)
    try:
        yield port
    finally:
        server.close()
        await asyncio.sleep(0)


async def answer_dns(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Tell over HTTP/1.1 that every name asked for has the address 127.0.0.1, and no other (RFC 8484, RFC 1035)."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        query = await reader.readexactly(length)
        end = query.index(b"\0", 12) + 5
        wants_ipv4 = query[end - 4 : end - 2] == b"\0\1"
        answer = struct.pack(">HHHIH4s", 0xC00C, 1, 1, 60, 4, bytes((127, 0, 0, 1))) if wants_ipv4 else b""
        reply = query[:2] + struct.pack(">HHHHH", 0x8180, 1, bool(answer), 0, 0) + query[12:end] + answer
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\nContent-Length: %d\r\n\r\n" % len(reply)
        )
        writer.write(reply)
        await writer.drain()
