"""L2: which certificates are trusted, and what a TLS connection notes of itself."""

import ssl
from typing import Any

from fetcher.options import Tls
from fetcher.transport.failures import no_certificates
from fetcher.transport.timeline import current_timeline


class TlsObject(ssl.SSLObject):
    """Notes the peer's close_notify: without it an end may be an attacker's (RFC 8446 section 6.1)."""

    closed = False

    def read(self, *args: Any) -> Any:
        """Read; nothing is the peer's close_notify."""
        found = super().read(*args)
        self.closed = self.closed or not found
        return found


class _TimedContext(ssl.SSLContext):
    """Notes when a handshake begins: asyncio wraps a connection as soon as TCP has it."""

    sslobject_class = TlsObject

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin a handshake."""
        current_timeline().mark("tls")
        return super().wrap_bio(*args, **kwargs)


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return the context of all connections: TLS 1.2 or later. Raises UsageError if ``ca_file`` holds no certificates."""
    context = _TimedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca_file is not None:
        try:
            context.load_verify_locations(cafile=tls.ca_file)
        except OSError as error:
            raise no_certificates(tls.ca_file, error) from error
    else:
        context.load_default_certs()
    return context
