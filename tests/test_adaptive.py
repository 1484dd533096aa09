"""How many at once, found out against servers made of arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.adaptive import Adaptive


def settled(knee: float, refuses: float, most: float = 200.0, jitter: float = 0.0) -> list[float]:
    """Return the limit after each of 300 rounds at a server that slows beyond the knee and refuses from so many on."""
    adaptive, limits = Adaptive(most), []
    for turn in range(300):
        running = int(adaptive.limit)
        if running >= refuses:
            adaptive.refused(running)
        else:
            for number in range(max(5, running)):
                noise = 1 + jitter * ((turn * 7 + number * 13) % 11 - 5) / 5
                adaptive.answered(0.1 * max(1.0, running / knee) * noise, running)
        limits.append(adaptive.limit)
    return limits


@pytest.mark.parametrize("jitter", [0.0, 0.3])
@pytest.mark.parametrize(("knee", "refuses"), [(8, 12), (8, 1_000), (50, 70), (2, 3), (1_000, 30)])
def test_it_settles_near_the_knee(knee: float, refuses: float, jitter: float) -> None:
    """Where answers slow down, or, where they never do, below what is refused."""
    late = settled(knee, refuses, jitter=jitter)[50:]
    near = min(knee, refuses)
    assert near / 2 <= sum(late) / len(late) <= 1.5 * near
    assert min(late) >= 1


def test_it_grows_quickly_to_the_most() -> None:
    """A server that never slows gets all there is, after some rounds."""
    assert settled(1e9, 1e9)[:7] == [4, 8, 16, 32, 64, 128, 200]
    assert max(settled(1e9, 1e9, most=3.0)) == 3


def test_an_unused_limit_does_not_grow() -> None:
    """What was not tried is not known to be good."""
    adaptive = Adaptive(200.0)
    assert not any(adaptive.answered(0.1, 1) for _ in range(1_000))
    assert adaptive.limit == 2


def test_slower_answers_of_another_kind_are_the_new_measure() -> None:
    """Pages of 10 ms, then of 100 ms whatever the load: it takes a step back and goes on."""
    adaptive = Adaptive(50.0)
    for _ in range(100):
        adaptive.answered(0.01, int(adaptive.limit))
    for _ in range(3_000):
        adaptive.answered(0.1, int(adaptive.limit))
    assert adaptive.limit == 50


@given(
    st.lists(st.tuples(st.sampled_from(["answered", "refused"]), st.floats(0, 1e4), st.integers(1, 300)), max_size=300),
    st.floats(1, 500),
)
def test_it_stays_within_its_bounds(events: list[tuple[str, float, int]], most: float) -> None:
    """Whatever happens, one may always run, and never more than the most."""
    adaptive = Adaptive(most)
    for what, seconds, running in events:
        if what == "refused":
            adaptive.refused(running)
        else:
            before = adaptive.limit
            assert adaptive.answered(seconds, running) == (adaptive.limit > before)
        assert 1 <= adaptive.limit <= most
