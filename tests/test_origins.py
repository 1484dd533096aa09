"""Origins in trouble, driven by numbers: held once for a burst, recovering step by step, down only after patience."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.origins import Hold, Origin, Pushback, Refusal

PUSHBACK = Pushback(retries=3, max_wait=300.0)


def refusal(started: float, ended: float, wait: float | None = None, *, vague: bool = False) -> Refusal:
    """Make a refusal; without a time, backoff takes half of what it may."""
    return Refusal(started, ended, wait, vague, 0.5)


def held(wait: float | None = 3.0, running: int = 8) -> Origin:
    """Return an origin that has refused a request from 0 to 1, while so many ran."""
    origin = Origin(PUSHBACK)
    origin.refused(refusal(0.0, 1.0, wait), running)
    return origin


@pytest.mark.parametrize(("wait", "until"), [(3.0, 4.0), (300.0, 301.0), (301.0, 301.0), (None, 1.5), (0.0, 1.5)])
def test_the_stated_wait_is_obeyed_up_to_the_longest(wait: float | None, until: float) -> None:
    """No time, or none at all, is left to backoff."""
    assert held(wait).until == until


def test_backoff_doubles_and_starts_over_after_an_answer() -> None:
    """Refusals in a row wait 1, 2, 4, ... up to 60 seconds, here halved by the dice."""
    origin, waits = Origin(PUSHBACK), []
    for number in range(9):
        now = 1_000.0 * number
        origin.refused(refusal(now, now + 1), 1)
        waits.append(origin.until - now - 1)
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    origin.answered(8_002.0)
    origin.refused(refusal(9_000.0, 9_001.0), 1)
    assert origin.until == 9_001.5


def test_a_burst_counts_once() -> None:
    """What was under way when the hold began prolongs it only by a time that it states."""
    origin = held(None)
    for _ in range(50):
        origin.refused(refusal(0.9, 1.1), 8)
    assert origin.until == 1.5
    origin.refused(refusal(0.9, 1.2, 2.0), 8)
    assert origin.until == 3.2
    origin.refused(refusal(4.0, 5.0), 1)
    assert origin.until == 6.0


def test_recovery_doubles_each_round() -> None:
    """1, 2, 4, then as many as ran before, and it is forgotten; late answers from before the hold change nothing."""
    origin = held(running=8)
    limits = []
    while not origin.healthy:
        limits.append(origin.limit)
        for _ in range(int(origin.limit)):
            origin.answered(0.5)
            origin.answered(4.0)
    assert limits == [1, 2, 4]
    assert origin.limit == inf


def test_one_vague_refusal_is_its_urls_own() -> None:
    """Only a second one with no answer between holds the origin."""
    origin = Origin(PUSHBACK)
    origin.refused(refusal(0.0, 1.0, vague=True), 8)
    assert (origin.until, origin.limit) == (-inf, inf)
    origin.answered(0.0)
    assert origin.healthy
    origin.refused(refusal(1.0, 2.0, vague=True), 8)
    origin.refused(refusal(1.0, 3.0, vague=True), 8)
    assert (origin.until, origin.limit) == (3.5, 1)


@pytest.mark.parametrize("answer", [True, False])
def test_a_second_wait_that_is_too_long_is_not_waited_for(answer: bool) -> None:
    """After the first the origin gets its chance; an answer makes good, and so does a wait that can be obeyed."""
    origin = held(3_600.0)
    reasons = [origin.down]
    origin.refused(refusal(400.0, 401.0, 3_600.0), 1)
    reasons.append(origin.down)
    if answer:
        origin.answered(800.0)
    else:
        origin.refused(refusal(800.0, 801.0, 2.0), 1)
    reasons.append(origin.down)
    assert reasons == ["", "it asks to wait 3600 s", ""]


@pytest.mark.parametrize("retries", [0, 3, 20])
def test_failures_in_a_row_open_the_circuit(retries: int) -> None:
    """Ten, but more than one URL may make alone; then probes at growing intervals, and patience has an end."""
    origin, needed = Origin(Pushback(retries=retries, max_wait=300.0)), max(10, retries + 1)
    for _ in range(needed - 1):
        origin.unreached(1.0, 1.0, 4)
    assert origin.until == -inf
    probes = []
    now = 1.0
    while not origin.down:
        origin.unreached(now, now, 1)
        origin.unreached(now, now, 1)
        assert origin.limit == 1
        probes.append(now := origin.until)
    assert probes == [2.0, 4.0, 8.0, 16.0, 32.0]
    assert f"{needed + 4} connections failed" in origin.down
    for _ in range(9):
        origin.unreached(now, now, 1)
        now = origin.until
    assert now == 32.0 + 32 + 8 * 60


def test_an_answer_closes_the_circuit() -> None:
    """Whatever was counted is forgotten, and the way back is step by step."""
    origin = Origin(PUSHBACK)
    for _ in range(10):
        origin.unreached(1.0, 1.0, 4)
    limits = []
    while not origin.healthy:
        limits.append(origin.limit)
        origin.answered(3.0)
    assert limits == [1, 2, 3]
    for _ in range(9):
        origin.unreached(5.0, 5.0, 4)
    assert origin.limit == inf


def test_two_that_tell_each_other_are_as_one() -> None:
    """A hold that another has told of counts as one's own: what comes of it, here or there, is the same."""
    ours, theirs = Origin(PUSHBACK), Origin(PUSHBACK)
    waits = []
    for number in range(4):
        now = 1_000.0 * number
        here, there = (ours, theirs) if number % 2 else (theirs, ours)
        assert here.refused(refusal(now, now + 1), 8)
        assert there.told(here.hold, 4)
        assert not there.refused(refusal(now + 0.5, now + 1.1), 4)
        assert not here.told(there.hold, 8)
        assert (here.hold, here.limit, there.limit) == (there.hold, 1, 1)
        waits.append(here.until - now - 1)
    assert waits == [0.5, 1.0, 2.0, 4.0]
    for _ in range(8):
        theirs.answered(9_000.0)
    assert theirs.healthy
    assert not ours.healthy


def test_two_begin_at_the_same_time() -> None:
    """Of two holds that cross on their way the longer lasts, whoever hears of it."""
    ours, theirs = held(5.0), Origin(PUSHBACK)
    theirs.refused(refusal(0.0, 1.01, 3.0), 4)
    first, second = ours.hold, theirs.hold
    ours.told(second, 8)
    theirs.told(first, 4)
    assert ours.until == theirs.until == 6.0
    assert (ours.hold.refusals, theirs.hold.refusals) == (1, 1)


def test_it_is_down_for_all() -> None:
    """Who is told of an open circuit makes no ten attempts of its own, and doubles the wait with its first failure."""
    ours, theirs = Origin(PUSHBACK), Origin(PUSHBACK)
    now = 1.0
    for _ in range(10):
        ours.unreached(now, now, 4)
    while not ours.down:
        now = ours.until
        ours.unreached(now, now, 1)
    theirs.told(ours.hold, 4)
    assert theirs.down == ours.down
    now = theirs.until
    theirs.unreached(now, now, 1)
    assert theirs.until == now + 32
    theirs.answered(now + 40)
    assert not theirs.down


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["answered", "refused", "vague", "unreached", "told"]),
            st.sampled_from([0.0, 0.5, 2.0, 100.0]),
            st.sampled_from([None, 0.0, 1.0, 400.0]),
            st.integers(1, 9),
        )
    )
)
def test_it_is_never_undercut_and_never_hopeless(
    events: list[tuple[str, float, float | None, int]],
) -> None:
    """Whatever comes: holds are as long as was asked, none longer than the longest, one may always run, and so on."""
    origin, now = Origin(PUSHBACK), 1.0
    for what, age, wait, running in events:
        now += 1.0
        before = origin.until
        if what == "answered":
            origin.answered(now - age)
        elif what == "unreached":
            origin.unreached(now - age, now, running)
        elif what == "told":
            origin.told(Hold(now - age, now + (wait or 0.0) / 2, "", running, bool(wait), 0, inf, 1.0), running)
        else:
            origin.refused(refusal(now - age, now, wait, vague=what == "vague"), running)
            assert origin.until >= now + min(wait or 0.0, 300.0) or not wait
        assert before <= origin.until <= now + 300.0 or before == origin.until
        assert origin.limit >= 1
    for _ in range(10):
        origin.answered(now + 1.0)
    assert origin.healthy
    assert not origin.down
