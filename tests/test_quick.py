"""What lets commands start quickly changes nothing that outlasts the start."""

import os
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from fetcher.cli.quick import trusting_nobody

VARIABLE = "SSL_CERT_FILE"


@pytest.mark.parametrize("given", [True, False])
def test_trusting_nobody(ca_file: Path, monkeypatch: pytest.MonkeyPatch, given: bool) -> None:
    """Contexts made meanwhile trust nobody; those made later whom the environment says, also if something went wrong."""
    if given:
        monkeypatch.setenv(VARIABLE, str(ca_file))
    else:
        monkeypatch.delenv(VARIABLE, raising=False)
    before = os.environ.get(VARIABLE)
    with suppress(ImportError), trusting_nobody():
        assert ssl.create_default_context().get_ca_certs() == []
        raise ImportError
    assert os.environ.get(VARIABLE) == before
    if given:
        assert len(ssl.create_default_context().get_ca_certs()) == 1
