"""The token bucket: never too fast, never needlessly slow, however long it runs."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.limits import TokenBucket

RATES = st.floats(0.01, 10_000)
BURSTS = st.none() | st.floats(1, 100)


def burst_of(rate: float, burst: float | None) -> float:
    """Spell out the documented default."""
    return max(1, rate / 10) if burst is None else burst


def takes(bucket: TokenBucket, start: float, pauses: list[float]) -> list[float]:
    """Return when a taker got its tokens, who pauses before each and then waits until it is ready."""
    now, times = start, []
    for pause in pauses:
        now = bucket.ready_at(now + pause)
        bucket.take(now)
        times.append(now)
    return times


@pytest.mark.parametrize(
    ("rate", "burst", "expected"),
    [
        (2.0, None, [0, 0.5, 1, 1.5]),
        (2.0, 1, [0, 0.5, 1, 1.5]),
        (2.0, 3, [0, 0, 0, 0.5]),
        (2.0, 1.5, [0, 0.25, 0.75, 1.25]),
        (40.0, None, [0, 0, 0, 0, 0.025]),
        (0.1, None, [0, 10, 20]),
    ],
)
def test_tokens_come_at_the_rate_after_the_burst(rate: float, burst: float | None, expected: list[float]) -> None:
    """A full bucket gives its burst at once, then one token every 1/rate seconds."""
    assert takes(TokenBucket(rate, burst), 0.0, [0.0] * len(expected)) == pytest.approx(expected)


def test_ready_means_now() -> None:
    """A token that is there is there now, and asking takes nothing."""
    bucket = TokenBucket(1.0)
    assert bucket.ready_at(5.0) == 5.0
    assert bucket.ready_at(5.0) == 5.0
    bucket.take(5.0)
    assert bucket.ready_at(5.0) == 6.0
    assert bucket.ready_at(6.0) == 6.0


def test_a_token_taken_early_is_paid_back() -> None:
    """A request that cannot wait, such as the next hop of a redirect, slows those after it."""
    bucket = TokenBucket(1.0)
    for _ in range(3):
        bucket.take(0.0)
    assert bucket.ready_at(0.0) == 3.0


def test_a_long_pause_saves_no_more_than_the_burst() -> None:
    """A laptop that slept for a year does not storm the server."""
    bucket = TokenBucket(10.0, 2)
    times = takes(bucket, 0.0, [0.0] * 5 + [3e7] + [0.0] * 3)[5:]
    assert [time - times[0] for time in times] == pytest.approx([0, 0, 0.1, 0.2], abs=1e-6)


def test_rounding_does_not_add_up() -> None:
    """After a million tokens at an awkward rate the clock is right to the last bit but few."""
    bucket, start = TokenBucket(3_000.7, 1), 12_345.678
    now = start
    for _ in range(1_000_001):
        now = bucket.ready_at(now)
        bucket.take(now)
    assert now - start == pytest.approx(1_000_000 / 3_000.7, rel=1e-13)


@given(RATES, BURSTS, st.lists(st.just(0.0) | st.floats(0, 1_000), min_size=2, max_size=60), st.floats(0, 1e6))
def test_no_window_gets_more_than_its_share(
    rate: float, burst: float | None, pauses: list[float], start: float
) -> None:
    """Between any two takes, t seconds apart, at most rate * t + burst tokens went out."""
    times = takes(TokenBucket(rate, burst), start, pauses)
    assert all(early <= late for early, late in pairwise(times))
    for first, early in enumerate(times):
        for last in range(first, len(times)):
            allowed = rate * (times[last] - early) + burst_of(rate, burst)
            assert last - first + 1 <= allowed * (1 + 1e-9) + rate * 1e-9


@given(RATES, BURSTS, st.integers(1, 300), st.floats(0, 1e6))
def test_a_greedy_taker_gets_the_whole_rate(rate: float, burst: float | None, count: int, start: float) -> None:
    """Whoever takes each token as it comes gets at least rate * t - 1 in t seconds."""
    times = takes(TokenBucket(rate, burst), start, [0.0] * count)
    for taken, time in enumerate(times):
        assert taken >= rate * (time - start) - 1 - rate * 1e-9


@pytest.mark.parametrize(
    ("rate", "burst"), [(0, None), (-1, None), (float("nan"), None), (float("inf"), None), (1, 0.9), (1, float("nan"))]
)
def test_an_impossible_bucket_is_refused(rate: float, burst: float | None) -> None:
    """A bucket that could never give a token, or hold none back, is not built."""
    with pytest.raises(ValueError, match="no such bucket"):
        TokenBucket(rate, burst)
