"""The timeline loses nothing, however long a run takes, and has a bounded number of slots."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.report.timeline import SLOTS, Timeline

#: Start, duration, the last part of it in which bytes came, bytes, and whether it went well.
SPANS = st.tuples(
    st.floats(0, 1e5) | st.floats(0, 5),
    st.floats(0, 3e4) | st.floats(0, 1),
    st.floats(0, 1e5),
    st.integers(0, 10**12),
    st.booleans(),
)


@given(st.lists(SPANS, min_size=1, max_size=60))
def test_totals(spans: list[tuple[float, float, float, int, bool]]) -> None:
    """URLs, bytes and seconds add up to what was put in; all lies between the first start and the last end."""
    timeline = Timeline()
    for start, lasts, receive, received, ok in spans:
        timeline.add(ok=ok, start=start, end=start + lasts, receive=receive, received=received)
    slots = timeline.slots()
    assert 1 <= len(slots) <= SLOTS
    assert sum(slot.ok for slot in slots) == sum(span[4] for span in spans)
    assert sum(slot.failed for slot in slots) == sum(not span[4] for span in spans)
    assert sum(slot.bytes for slot in slots) == pytest.approx(sum(span[3] for span in spans), rel=1e-6)
    assert sum(slot.busy for slot in slots) == pytest.approx(sum(span[1] for span in spans), rel=1e-6, abs=1e-6)
    assert timeline.start <= min(span[0] for span in spans)
    assert timeline.start + len(slots) * timeline.width >= max(span[0] + span[1] for span in spans)


def test_where_it_stands() -> None:
    """A URL in progress counts in every slot it touches, with its share; its bytes where they came; its end at the end."""
    timeline = Timeline()
    timeline.add(ok=True, start=0, end=16, receive=8, received=800)
    timeline.add(ok=False, start=12, end=14, receive=0, received=0)
    slots = timeline.slots()
    width = timeline.width
    assert [slot.busy / width for slot in slots][:3] == pytest.approx([1, 1, 1])
    assert slots[int(13 / width)].busy == pytest.approx(2 * width)
    assert slots[int(7 / width)].bytes == 0
    assert slots[int(9 / width)].bytes == pytest.approx(100 * width)
    assert slots[int(16 / width)].ok == 1
    assert slots[int(14 / width)].failed == 1


def test_nothing() -> None:
    """A timeline without URLs has no slots."""
    assert Timeline().slots() == []
