"""Certificates made for the run: one that is right and the ways to be wrong."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """The authority's certificate, and a server's TLS context for each case.

    ``client`` is a user's certificate, ``client_key`` its key, which ``client_password`` opens; ``both`` has the two, the
    key as it is. ``optional`` asks clients for a certificate, ``required`` insists on one.
    """

    ca_file: Path
    contexts: Mapping[str, ssl.SSLContext]
    optional: ssl.SSLContext
    required: ssl.SSLContext
    client: Path
    client_key: Path
    both: Path
    client_password: str = "hush"


def make_certificates(directory: Path) -> Certificates:
    """Make an authority and the server certificates ``good``, ``expired``, ``wrong_host`` and ``self_signed``.

    All but ``wrong_host`` and ``self_signed`` are for 127.0.0.1 and localhost. One is made for a user, too.
    """
    authority = trustme.CA()
    ca_file = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    lone = trustme.CA()
    lone_file = directory / "self_signed.pem"
    lone_file.write_bytes(lone.private_key_pem.bytes() + lone.cert_pem.bytes())
    self_signed = _context()
    self_signed.load_cert_chain(lone_file)
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    leaves = {
        "good": authority.issue_cert("127.0.0.1", "localhost"),
        "expired": authority.issue_cert("127.0.0.1", "localhost", not_before=long_ago, not_after=long_ago),
        "wrong_host": authority.issue_cert("elsewhere.example"),
    }
    contexts = {name: _context() for name in leaves}
    for name, leaf in leaves.items():
        leaf.configure_cert(contexts[name])
    asking = {}
    for mode in (ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED):
        asking[mode] = context = _context()
        leaves["good"].configure_cert(context)
        context.load_verify_locations(ca_file)
        context.verify_mode = mode
    user = authority.issue_cert("me@example.org")
    client, client_key, both = (directory / name for name in ("client.pem", "client.key", "both.pem"))
    user.cert_chain_pems[0].write_to_path(str(client))
    user.private_key_and_cert_chain_pem.write_to_path(str(both))
    key = serialization.load_pem_private_key(user.private_key_pem.bytes(), None)
    encryption = serialization.BestAvailableEncryption(Certificates.client_password.encode())
    form = serialization.PrivateFormat.PKCS8
    client_key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    return Certificates(
        ca_file=ca_file,
        contexts={**contexts, "self_signed": self_signed},
        optional=asking[ssl.CERT_OPTIONAL],
        required=asking[ssl.CERT_REQUIRED],
        client=client,
        client_key=client_key,
        both=both,
    )


def _context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
