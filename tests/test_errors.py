"""The closed list of failures, and the exit statuses they lead to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher import errors
from fetcher.errors import (
    HINTS,
    MAX_MESSAGE,
    ONCE,
    BusyError,
    Error,
    ErrorKind,
    FetchError,
    LocalError,
    UsageError,
    http_kind,
    is_transient,
)
from fetcher.model import Stop, Summary
from fetcher.status import ExitStatus, exit_status

#: Section 4 of the contract: every kind, and whether trying again may help.
TRANSIENT = {
    "invalid_url": False,
    "unsupported_scheme": False,
    "bad_record": False,
    "blocked_address": False,
    "robots": False,
    "dns": True,
    "connect.refused": True,
    "connect.unreachable": True,
    "connect.closed": True,
    "tls.verify": False,
    "tls.handshake": False,
    "proxy": False,
    "timeout.connect": True,
    "timeout.read": True,
    "timeout.total": True,
    "redirect.limit": False,
    "redirect.invalid": False,
    "protocol": False,
    "truncated": True,
    "decode": False,
    "too_large": False,
    "checksum": True,
    "disk": False,
    "exec": False,
    "cancelled": True,
    "host_down": True,
    "internal": False,
}
TRANSIENT_STATUSES = {408, 425, 429, 500, 502, 503, 504}


def test_the_kinds_are_those_of_the_contract() -> None:
    """No word is added in passing; scripts match on them."""
    assert {kind.value: is_transient(kind) for kind in ErrorKind} == TRANSIENT
    assert {"dns", "checksum"} == ONCE


def test_http_statuses_are_kinds_too() -> None:
    """Of 400 to 599, those may pass that say the server is busy or broken."""
    kinds = {status: http_kind(status) for status in range(400, 600)}
    assert kinds[404] == "http.404"
    assert {status for status, kind in kinds.items() if is_transient(kind)} == TRANSIENT_STATUSES


def test_an_unknown_kind_is_not_transient() -> None:
    """Doubt does not cost a server more requests."""
    assert not is_transient("no.such.kind")


def test_hints_are_given_for_kinds_that_exist() -> None:
    """A misspelt kind would never show its hint."""
    assert HINTS.keys() <= TRANSIENT.keys() | {http_kind(status) for status in range(400, 600)}


@given(st.text() | st.text("\x1b\u202ea", min_size=200, max_size=700))
def test_a_message_is_short_and_harmless(text: str) -> None:
    """A server that answers with 100 kB of escape codes gets 300 plain characters in the record."""
    message = Error.of(ErrorKind.PROTOCOL, text).message
    assert len(message) <= MAX_MESSAGE == 300
    assert not set(message) & set("\x1b\n\r\x7f\u202e")


def test_an_exception_becomes_the_records_error() -> None:
    """Kind, message and the chance of a retry go into the record."""
    error = FetchError("http.503", "503 Service Unavailable").error
    assert error == Error("http.503", "503 Service Unavailable", transient=True)
    kind = FetchError(ErrorKind.DECODE, "says gzip, is not").error.kind
    assert type(kind) is str
    assert kind == "decode"


def test_local_errors_are_about_the_disk() -> None:
    """What this machine cannot do is not the fault of a URL."""
    assert LocalError("no space left on out").error == Error("disk", "no space left on out", transient=False)


def test_the_error_tree_is_as_drawn() -> None:
    """The drawing in the module's docstring is the code's own tree."""
    drawn: dict[str, str] = {}
    above = {-1: "Exception"}
    for line in (errors.__doc__ or "").splitlines():
        before, branch, text = line.partition("+- ")
        if branch:
            name = text.split()[0]
            drawn[name] = above[max(depth for depth in above if depth < len(before))]
            above = {depth: parent for depth, parent in above.items() if depth < len(before)} | {len(before): name}
    assert drawn == {
        kind.__name__: kind.__bases__[0].__name__ for kind in (FetchError, LocalError, UsageError, BusyError)
    }


def summary(failed: int, stop: Stop | None) -> Summary:
    """Make a summary of three lines."""
    return Summary(
        lines=3,
        ok=3 - failed,
        failed=failed,
        not_started=0,
        outcomes={},
        errors={},
        failures=(),
        retries=0,
        bytes=0,
        wire_bytes=0,
        elapsed=1.0,
        p50=None,
        p95=None,
        stop=stop,
    )


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        (Stop.INTERRUPT, 130),
        (Stop.TERMINATE, 143),
        (Stop.HANGUP, 129),
        (Stop.PIPE, 141),
        (Stop.DISK, 3),
        (Stop.WORKERS, 3),
        (Stop.CLUSTER, 1),
        (Stop.LIMIT, 5),
    ],
)
def test_a_run_that_was_stopped_says_why(stop: Stop, status: int) -> None:
    """The reason for stopping outweighs failed URLs."""
    assert exit_status(summary(0, stop)) == exit_status(summary(1, stop)) == status


def test_every_reason_to_stop_has_a_status() -> None:
    """A new reason cannot be forgotten; a failed cluster looks like failed URLs, nothing else does."""
    failed = {stop for stop in Stop if exit_status(summary(0, stop)) in (ExitStatus.OK, ExitStatus.SOME_FAILED)}
    assert failed == {Stop.CLUSTER}
    assert exit_status(summary(0, Stop.CLUSTER)) is ExitStatus.SOME_FAILED


def test_a_complete_run_tells_whether_all_is_well() -> None:
    """0 only if every URL is ok."""
    assert exit_status(summary(0, None)) == 0
    assert exit_status(summary(1, None)) == 1


def test_the_statuses_are_those_of_the_contract() -> None:
    """Cron jobs and shell scripts branch on the numbers."""
    assert {status.value for status in ExitStatus} == {0, 1, 2, 3, 4, 5, 70, 129, 130, 141, 143}
    assert (ExitStatus.USAGE, ExitStatus.LOCAL, ExitStatus.BUSY, ExitStatus.UNFINISHED, ExitStatus.BUG) == (
        2,
        3,
        4,
        5,
        70,
    )
