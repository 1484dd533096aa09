"""Retries: which failures, how often, how long to wait."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.errors import ONCE, Error, ErrorKind, is_transient
from fetcher.model import Attempt
from fetcher.retry import RetryPolicy, quota_reset, retry_after

POLICY = RetryPolicy(count=3, max_wait=300)
KINDS = [*ErrorKind, "http.404", "http.429", "http.500", "http.501", "http.503"]
#: 2026-11-21T03:00:00Z
NOW = 1_795_230_000.0


def failed(kind: str, wait: float | None = None) -> Attempt:
    """Make an attempt that failed this way."""
    return Attempt(number=1, started=0.0, ended=1.0, error=Error.of(kind, "failed"), retry_after=wait)


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_may_pass_is_retried(kind: str) -> None:
    """Transient kinds are retried, except those that only another run can mend."""
    retried = POLICY.delay(failed(kind), (), 0.5) is not None
    assert retried is (is_transient(kind) and kind not in ("cancelled", "host_down"))


def test_success_is_not_retried() -> None:
    """An attempt without an error is the last one."""
    assert POLICY.delay(Attempt(number=1, started=0.0, ended=1.0), (), 0.5) is None


@pytest.mark.parametrize("count", [0, 1, 3])
def test_retries_are_counted(count: int) -> None:
    """There are as many retries as allowed and not one more."""
    policy = RetryPolicy(count=count, max_wait=300)
    delays = [policy.delay(failed("http.503"), ("http.503",) * earlier, 0.5) for earlier in range(count + 2)]
    assert [delay is not None for delay in delays] == [True] * count + [False, False]


@pytest.mark.parametrize("kind", sorted(ONCE))
def test_some_kinds_are_retried_once(kind: str) -> None:
    """A second retry of the same kind is refused; a retry for another reason does not count."""
    assert POLICY.delay(failed(kind), ("timeout.read",), 0.5) is not None
    assert POLICY.delay(failed(kind), (kind, "timeout.read"), 0.5) is None
    assert POLICY.delay(failed("timeout.read"), (kind,), 0.5) is not None


@pytest.mark.parametrize(("earlier", "ceiling"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (7, 60), (5_000, 60)])
def test_backoff_doubles_up_to_its_cap(earlier: int, ceiling: float) -> None:
    """The random number spreads the wait evenly from nothing to the ceiling."""
    policy = RetryPolicy(count=10_000, max_wait=300)
    delays = [policy.delay(failed("http.500"), ("http.500",) * earlier, random) for random in (0.0, 0.25, 0.5)]
    assert delays == [0.0, ceiling / 4, ceiling / 2]


def test_base_and_cap_can_be_chosen() -> None:
    """A test suite or an impatient user need not wait seconds."""
    policy = RetryPolicy(count=9, max_wait=300, base=0.01, cap=0.03)
    assert [policy.delay(failed("dns"), ("truncated",) * earlier, 1.0) for earlier in range(3)] == [0.01, 0.02, 0.03]


@pytest.mark.parametrize(
    ("wait", "random", "expected"),
    [
        (2.0, 0.0, 2.0),
        (2.0, 0.5, 2.1),
        (300.0, 0.5, 300.5),
        (300.1, 0.0, None),
        (float("inf"), 0.0, None),
        (0.0, 0.5, 0.5),
        (None, 0.5, 0.5),
    ],
)
def test_the_servers_wish_is_obeyed_up_to_the_longest_wait(
    wait: float | None, random: float, expected: float | None
) -> None:
    """Retry-After replaces the backoff; too long a one ends the tries; 0 is no wish."""
    assert POLICY.delay(failed("http.503", wait), (), random) == expected


@given(st.floats(0, 300, exclude_min=True), st.integers(0, 2), st.floats(0, 1, exclude_max=True))
def test_the_servers_wish_is_never_undercut(wait: float, earlier: int, random: float) -> None:
    """Nobody comes back too early, or much too late."""
    delay = POLICY.delay(failed("http.429", wait), ("http.429",) * earlier, random)
    assert delay is not None
    assert wait <= delay <= wait + min(1.0, wait / 10)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        (" 007 ", 7.0),
        ("-1", None),
        ("+5", None),
        ("1.5", None),
        ("1e3", None),
        ("5 s", None),
        ("5, 7", None),
        ("\u0665", None),
        ("\u00b2", None),
        ("soon", None),
        ("9" * 300, float("9" * 300)),
        ("9" * 5_000, float("inf")),
        ("Sat, 21 Nov 2026 03:01:40 GMT", 100.0),
        ("Saturday, 21-Nov-26 03:01:40 GMT", 100.0),
        ("Sat Nov 21 03:01:40 2026", 100.0),
        ("Sat, 21 Nov 2026 03:01:40 -0000", 100.0),
        ("Sat, 21 Nov 2026 03:00:00 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", None),
        ("Sunday, 06-Nov-94 08:49:37 GMT", None),
        ("Sun Nov  6 08:49:37 1994", None),
        ("Sat, 32 Nov 2026 03:01:40 GMT", None),
        ("Sat, 21 Nov 2026 25:01:40 GMT", None),
        ("Sat, 21 Nov 99999999999 03:01:40 GMT", None),
        ("Sat, 21 Nov 2026 03:01:40 +99999999999", None),
    ],
)
def test_retry_after_is_read_as_the_standard_says(value: str | None, expected: float | None) -> None:
    """Seconds and all three forms of date are read; anything else counts as not sent."""
    assert retry_after(value, NOW) == expected


@given(st.integers(1, 10**9))
def test_a_date_ahead_is_the_seconds_until_then(seconds: int) -> None:
    """A date means the same as the number of seconds to it."""
    date = format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)
    assert retry_after(date, NOW) == retry_after(str(seconds), NOW) == seconds


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, [0-9]+ Nov [0-9]+ [0-9]+:[0-9]+:[0-9]+ [-+]?[A-Z0-9]+"))
def test_no_retry_after_breaks_the_reader(value: str) -> None:
    """Whatever the server writes, the answer is None or seconds not below 0."""
    seconds = retry_after(value, NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, None),
        ({"ratelimit": '"default";r=0;t=30'}, 30.0),
        ({"ratelimit": '"default";r=5;t=30'}, None),
        ({"ratelimit": '"burst";r=5;t=2, "daily";r=0;t=900'}, 900.0),
        ({"ratelimit": '"a";t=7;r=0'}, 7.0),
        ({"ratelimit": '"a";r=0'}, None),
        ({"ratelimit": '"a";r=0;t=0'}, None),
        ({"ratelimit": '"a";xr=0;t=9'}, None),
        ({"ratelimit": "limit=100, remaining=0, reset=12"}, 12.0),
        ({"ratelimit": "limit=100, remaining=10, reset=12"}, None),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "5"}, 5.0),
        ({"ratelimit-remaining": "0, 3", "ratelimit-reset": "5, 9"}, 5.0),
        ({"ratelimit-remaining": "1", "ratelimit-reset": "5"}, None),
        ({"ratelimit-remaining": "0"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}, 60.0),
        ({"x-ratelimit-remaining": "0.0", "x-ratelimit-reset": "60.5"}, 60.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 90)}, 90.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) - 90)}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "-1"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9" * 400}, None),
        ({"x-ratelimit-remaining": "00", "x-ratelimit-reset": "soon"}, None),
        ({"ratelimit": '"a";r=0;t=3', "x-ratelimit-remaining": "0", "x-ratelimit-reset": "8"}, 8.0),
    ],
)
def test_quota_reset(fields: dict[str, str], seconds: float | None) -> None:
    """A quota of which nothing is left names its time in every form in use; junk names none."""
    assert quota_reset(fields, NOW) == seconds


@given(st.dictionaries(st.sampled_from(["ratelimit", "ratelimit-remaining", "ratelimit-reset"]), st.text()))
def test_quota_reset_takes_anything(fields: dict[str, str]) -> None:
    """Whatever a server sends gives a positive number of seconds or None."""
    wait = quota_reset(fields, NOW)
    assert wait is None or wait > 0
