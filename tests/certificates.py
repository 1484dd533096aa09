"""Certificates made for the run: one that is right and the ways to be wrong."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Certificates:
    """The authority's certificate, and a server's TLS context for each case."""

    ca_file: Path
    contexts: Mapping[str, ssl.SSLContext]


def make_certificates(directory: Path) -> Certificates:
    """Make an authority and the server certificates ``good``, ``expired``, ``wrong_host`` and ``self_signed``.

    All but ``wrong_host`` and ``self_signed`` are for 127.0.0.1 and localhost.
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
    return Certificates(ca_file, {**contexts, "self_signed": self_signed})


def _context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
