"""What every test can ask for: the hostile server, the real command, and that nothing is left behind."""

import gc
import itertools
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

from tests.certificates import Certificates, make_certificates
from tests.command import Command
from tests.leftovers import none_left
from tests.server import Scope, Server

# How long an example takes is the machine's affair.
settings.register_profile("patient", settings.default, deadline=None)
settings.load_profile("patient")

_PREFIXES: Final = itertools.count(1)


@pytest.fixture(scope="session")
def running_server() -> Iterator[Server]:
    """The one server of this process."""
    with Server() as server:
        yield server


@pytest.fixture
def server(running_server: Server) -> Scope:
    """A part of the server that is this test's own."""
    return running_server.scope(f"/t{next(_PREFIXES)}/")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The authority and the servers' certificates."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def ca_file(certificates: Certificates) -> Path:
    """The certificate (PEM) of the authority that signed ``tls.good``."""
    return certificates.ca_file


@dataclass(frozen=True, slots=True)
class Tls:
    """The test's own part of the server over TLS, one per certificate."""

    good: Scope
    expired: Scope
    wrong_host: Scope
    self_signed: Scope


@pytest.fixture(scope="session")
def tls_bases(running_server: Server, certificates: Certificates) -> dict[str, str]:
    """The TLS ports, by the name of their certificate."""
    return {name: running_server.listen(context) for name, context in certificates.contexts.items()}


@pytest.fixture
def tls(server: Scope, tls_bases: dict[str, str]) -> Tls:
    """The same part of the server as ``server``, with good and bad certificates."""
    return Tls(**{name: Scope(server.server, base, server.prefix) for name, base in tls_bases.items()})


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of 127.0.0.1 that refuses connections, and that nobody else gets meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def run_fetcher(tmp_path: Path) -> Command:
    """The real command, run in ``tmp_path``."""
    return Command(tmp_path)


@pytest.fixture(scope="session")
def jq() -> str:
    """The path of jq; without it the test is skipped, but fails in continuous integration."""
    path = shutil.which("jq")
    if path is None and "CI" in os.environ:
        pytest.fail("jq is not installed; the README's recipes need it")
    return path or pytest.skip("jq is not installed")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail a test that leaves a thread or a child process behind."""
    with none_left():
        yield


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests talk to their server directly, whatever the machine's environment says."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


#: So many objects are no garbage of a test any more.
_MANY: Final = 20_000


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported and collected: it will not become garbage."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Look for garbage behind each test, so that what it has left open is its own fault and not a later one's.

    What tests import stays, and looking at it again and again would take as long as all tests.
    """
    gc.collect()
    if len(gc.get_objects()) > _MANY:
        gc.freeze()
