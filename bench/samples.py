"""What was measured, and the arithmetic on it: medians, and ratios within one round."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal

Quantity = Literal["wall", "rate", "cpu", "peak", "first", "stopping", "excess"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run: its round, seconds, requests or megabytes a second, CPU in us per request, peak memory in MiB.

    ``first`` is when the first request was seen and ``stopping`` the time from SIGINT to the end, in seconds;
    ``excess`` is the wall time by what the server's delay alone takes.
    """

    workload: str
    name: str
    number: int
    wall: float
    rate: float
    cpu: float
    peak: float
    first: float | None = None
    stopping: float | None = None
    excess: float | None = None


class Samples:
    """All runs, by workload and contestant."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._runs: defaultdict[tuple[str, str], list[Sample]] = defaultdict(list)
        for sample in samples:
            self.add(sample)

    def add(self, sample: Sample) -> None:
        """Take one more run."""
        self._runs[sample.workload, sample.name].append(sample)

    def names(self, workload: str) -> list[str]:
        """The contestants of a workload, as they first came."""
        return [name for key, name in self._runs if key == workload]

    def values(self, workload: str, name: str, of: Quantity) -> list[float]:
        """A quantity in each round; none where it was not measured."""
        found = (getattr(sample, of) for sample in self._runs.get((workload, name), ()))
        return [value for value in found if value is not None]

    def median(self, workload: str, name: str, of: Quantity) -> float | None:
        """The median over the rounds; None where nothing was measured."""
        values = self.values(workload, name, of)
        return median(values) if values else None

    def ratio(self, workload: str, name: str, other: str, of: Quantity) -> float | None:
        """The median of the rounds' ratios of ``name`` to ``other``; None where they share no round."""
        others = {sample.number: getattr(sample, of) for sample in self._runs.get((workload, other), ())}
        ratios = [
            getattr(sample, of) / others[sample.number]
            for sample in self._runs.get((workload, name), ())
            if others.get(sample.number)
        ]
        return median(ratios) if ratios else None

    def ratio_of_least(self, workload: str, name: str, other: str) -> float | None:
        """The ratio of the shortest wall times, for runs so short that every disturbance only adds."""
        walls, others = self.values(workload, name, "wall"), self.values(workload, other, "wall")
        return min(walls) / min(others) if walls and others else None
