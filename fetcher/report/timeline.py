"""L4: amounts by time, however long it takes, in a bounded number of slots; arithmetic only."""

from dataclasses import dataclass
from itertools import accumulate
from math import floor
from typing import Final

#: At most so many slots, and when there would be more, each becomes twice as wide; so there are at least half as many.
SLOTS: Final = 240
#: The width of a slot at first, in seconds.
_NARROW: Final = 1 / 64


@dataclass(slots=True)
class Slot:
    """What happened in one slot of time: URLs that ended, bytes received, and seconds of URLs in progress."""

    ok: int = 0
    failed: int = 0
    bytes: float = 0.0
    busy: float = 0.0


class _Spread:
    """Amounts spread evenly over spans of time. A long span costs no more than a short one: only its ends are noted."""

    def __init__(self) -> None:
        self._sums: dict[int, float] = {}
        self._steps: dict[int, float] = {}

    def add(self, start: float, end: float, amount: float, width: float) -> None:
        first, last = floor(start / width), floor(end / width)
        sums = self._sums
        if first == last:
            sums[first] = sums.get(first, 0.0) + amount
            return
        density = amount / (end - start)
        sums[first] = sums.get(first, 0.0) + density * ((first + 1) * width - start)
        sums[last] = sums.get(last, 0.0) + density * (end - last * width)
        if last > first + 1:
            steps = self._steps
            steps[first + 1] = steps.get(first + 1, 0.0) + density * width
            steps[last] = steps.get(last, 0.0) - density * width

    def amounts(self, first: int, last: int) -> list[float]:
        """Return the amount of each slot from ``first`` to ``last``, which are all that there are."""
        slots = range(first, last + 1)
        levels = accumulate(self._steps.get(slot, 0.0) for slot in slots)
        # Steps that cancel out leave a rounding error.
        return [max(0.0, self._sums.get(slot, 0.0) + level) for slot, level in zip(slots, levels, strict=True)]

    def widen(self, first: int, last: int) -> None:
        """Make one slot of two."""
        amounts = self.amounts(first, last)
        self._sums, self._steps = {}, {}
        for slot, amount in enumerate(amounts, first):
            self._sums[slot >> 1] = self._sums.get(slot >> 1, 0.0) + amount


class Timeline:
    """URLs that ended, bytes and URLs in progress by time, in at most 240 slots of ``width`` seconds each."""

    def __init__(self) -> None:
        self.width = _NARROW
        self._first: int | None = None
        self._last = 0
        self._ends: dict[int, list[int]] = {}
        self._bytes = _Spread()
        self._busy = _Spread()

    def add(self, *, ok: bool, start: float, end: float, receive: float, received: int) -> None:
        """Count a URL from ``start`` to ``end``, seconds since 1970, whose bytes came in the last ``receive`` seconds."""
        self._reach(start, end)
        ends = self._ends.setdefault(floor(end / self.width), [0, 0])
        ends[0 if ok else 1] += 1
        self._busy.add(start, end, end - start, self.width)
        if received:
            self._bytes.add(max(start, end - receive), end, received, self.width)

    @property
    def start(self) -> float:
        """When the first slot begins, in seconds since 1970; 0 if there is none."""
        return (self._first or 0) * self.width

    def slots(self) -> list[Slot]:
        """Return all slots, from the first to the last in which something happened; none if nothing did."""
        if self._first is None:
            return []
        first, last = self._first, self._last
        ends = (self._ends.get(slot, (0, 0)) for slot in range(first, last + 1))
        amounts = zip(ends, self._bytes.amounts(first, last), self._busy.amounts(first, last), strict=True)
        return [Slot(ok, failed, received, busy) for (ok, failed), received, busy in amounts]

    def _reach(self, start: float, end: float) -> None:
        while True:
            first, last = floor(start / self.width), floor(end / self.width)
            if self._first is not None:
                first, last = min(first, self._first), max(last, self._last)
            if last - first < SLOTS:
                self._first, self._last = first, last
                return
            self._widen()

    def _widen(self) -> None:
        if self._first is not None:
            self._bytes.widen(self._first, self._last)
            self._busy.widen(self._first, self._last)
            ends: dict[int, list[int]] = {}
            for slot, (ok, failed) in self._ends.items():
                wide = ends.setdefault(slot >> 1, [0, 0])
                wide[0] += ok
                wide[1] += failed
            self._ends = ends
            self._first, self._last = self._first >> 1, self._last >> 1
        self.width *= 2
