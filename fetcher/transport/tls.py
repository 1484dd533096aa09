"""L2: which certificates are trusted, and what a TLS connection notes of itself."""

import ssl
from typing import Any

from fetcher.errors import UsageError
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


def tls_context(tls: Tls, *, own_origin: bool) -> ssl.SSLContext:
    """Return the context of all connections: TLS 1.2 or later. Only a URL's own origin is shown the user's certificate.

    Raises UsageError if ``ca_file`` holds no certificates, or what :func:`load_identity` says.
    """
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
    if own_origin:
        load_identity(context, tls)
    return context


def load_identity(context: ssl.SSLContext, tls: Tls) -> None:
    """Let connections show the user's certificate, if there is one.

    Raises UsageError if a file cannot be read or is none, for a key of another certificate, and for one that is
    encrypted, without its password; it asks nobody for that.
    """
    if tls.cert is None:
        return
    key, asked = tls.key or tls.cert, False

    def password() -> str:
        nonlocal asked
        asked = True
        return tls.key_password or ""

    for path in (tls.cert, key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
    try:
        context.load_cert_chain(tls.cert, key, password)
    except ssl.SSLError as error:
        if asked and tls.key_password is None:
            raise UsageError(f"the key in {key} is encrypted: say --key-password @FILE") from error
        if asked:
            raise UsageError(f"the password does not open the key in {key}") from error
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(f"the key in {key} is not that of the certificate in {tls.cert}") from error
        raise UsageError(f"no certificate (PEM) in {tls.cert}, or no private key in {key}") from error
