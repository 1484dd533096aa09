"""What a run writes down about itself comes back as it was, and nothing else is taken for it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from fetcher.lastrun import LastRun, from_json, to_json
from fetcher.model import Stop
from fetcher.status import ExitStatus
from tests.test_summary import EXAMPLE

RUN = LastRun(
    summary=replace(EXAMPLE, stop=Stop.LIMIT, stopped="stopped by --deadline 5m"),
    status=ExitStatus.UNFINISHED,
    started_at="2026-11-21T03:00:00.123Z",
    command="fetcher get urls.txt",
    version="0.1.0",
)


def test_there_and_back() -> None:
    """Reading gives what was written, also if a later version has written more."""
    text = to_json(RUN)
    assert from_json(text) == RUN
    assert from_json(json.dumps(json.loads(text) | {"more": 1}).encode()) == RUN


@pytest.mark.parametrize(
    "change",
    [
        {"lines": "many"},
        {"failed": -1},
        {"failed": True},
        {"elapsed": 1e300},
        {"p50": "fast"},
        {"outcomes": [1]},
        {"outcomes": {"fetched": None}},
        {"errors": {"dns": 3}},
        {"failures": [{"url": "http://h/"}]},
        {"stopped": [1]},
        {"stop": "tired"},
        {"exit_status": 99},
        {"started_at": "yesterday"},
        {"started_at": None},
        {"command": 5},
    ],
    ids=str,
)
def test_refused(change: dict[str, Any]) -> None:
    """A file that something else has written is no run, whatever is wrong with it."""
    with pytest.raises(ValueError, match=r"summary of a run|is not a valid|Invalid isoformat"):
        from_json(json.dumps(json.loads(to_json(RUN)) | change).encode())


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"1", b"{}", to_json(RUN)[:-20]])
def test_no_json(text: bytes) -> None:
    """Nor is what is not even such an object."""
    with pytest.raises(ValueError, match=r"."):
        from_json(text)
