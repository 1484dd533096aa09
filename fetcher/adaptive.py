"""L1: how many requests a host takes at once, found out from how soon it answers."""

from math import inf
from typing import Final

#: At once in the beginning.
_START: Final = 2.0
#: Answers may take so many times as long as the quickest round's.
_TOLERANCE: Final = 1.25
#: A round has at least so many answers.
_ROUND: Final = 5


class Adaptive:
    """One host's ``limit``, from 1 to ``most``: more as long as answers come as soon as ever, less when they do not.

    It is told of each answer. A round is as many answers as may run at once; after each that used the limit, and was not
    slow, the limit doubles, and since it once was too high, grows by one. After a slow one it shrinks as far as answers
    were slower than may be, and after a refusal by half: additive increase, multiplicative decrease. If half of the limit
    has not helped, it was not the limit: what answers take now is what they take.
    """

    __slots__ = ("_base", "_count", "_doubling", "_most", "_peak", "_slow", "_sum", "limit")

    def __init__(self, most: float) -> None:
        self._most = most
        self.limit = min(_START, most)
        self._base = inf
        self._doubling = True
        #: How long answers took before the limit began to shrink, and how large it was.
        self._slow: tuple[float, float] | None = None
        self._count, self._sum, self._peak = 0, 0.0, 0

    def answered(self, seconds: float, running: int) -> bool:
        """Learn how long an answer took, and how many requests ran, itself included; tell if more may run than before."""
        self._count += 1
        self._sum += seconds
        self._peak = max(self._peak, running)
        if self._count < max(_ROUND, self.limit):
            return False
        before, mean, used = self.limit, self._sum / self._count, self._peak >= int(self.limit)
        self._begin()
        if self._slow is not None and before <= max(1.0, self._slow[1] / 2):
            if mean > 0.75 * self._slow[0]:
                self._base = mean
            self._slow = None
        self._base = min(self._base, mean)
        if mean > _TOLERANCE * self._base:
            self._slow = self._slow or (mean, before)
            self._shrink(max(0.5, _TOLERANCE * self._base / mean))
            return False
        self._slow = None
        if used:
            self.limit = min(self._most, 2 * before if self._doubling else before + 1)
        return self.limit > before

    def refused(self, running: int) -> None:
        """Learn that so many at once were too many. A burst of refusals is to be told once."""
        self.limit = min(self.limit, float(running))
        self._shrink(0.5)
        self._slow = None
        self._begin()

    def _shrink(self, factor: float) -> None:
        self._doubling = False
        self.limit = max(1.0, self.limit * factor)

    def _begin(self) -> None:
        self._count, self._sum, self._peak = 0, 0.0, 0
