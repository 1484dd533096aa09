"""L1: how many requests a host takes at once, found out from how soon it answers, and from what it refuses."""

from math import inf
from typing import Final

#: At once in the beginning.
_START: Final = 2.0
#: Answers may take so many times as long as the quickest round's.
_TOLERANCE: Final = 1.25
#: A round has at least so many answers.
_ROUND: Final = 5
#: Rounds just below what was refused before one more is tried, at first and at most.
_PATIENCE: Final = 16
_PATIENCE_MOST: Final = 1024


class Adaptive:
    """One host's ``limit``, from 1 to ``most``: more as long as answers come as soon as ever, less when they do not.

    It is told of each answer. A round is as many answers as may run at once, all to requests that began with this limit;
    after each that used it, and was not slow, the limit doubles, and since it once was too high, grows by one. After a
    slow one it shrinks as far as answers were slower than may be, and after a refusal by half: additive increase,
    multiplicative decrease. If half of the limit has not helped, it was not the limit: what answers take now is what
    they take.

    A refusal costs more than a slow round: all must wait. So what was refused is not tried again but by one more, after
    rounds enough without trouble, twice as many after each refusal; when that went well, it is forgotten.
    """

    __slots__ = (
        *("_base", "_calm", "_ceiling", "_count", "_doubling", "_most", "_patience"),
        *("_peak", "_raised", "_since", "_slow", "_sum", "limit"),
    )

    def __init__(self, most: float) -> None:
        self._most = most
        self.limit = min(_START, most)
        self._base = inf
        self._doubling = True
        #: How long answers took before the limit began to shrink, and how large it was.
        self._slow: tuple[float, float] | None = None
        #: The most that was not refused, the rounds with so many, how many it takes, and if they have been enough before.
        self._ceiling = inf
        self._calm, self._patience, self._raised = 0, _PATIENCE // 2, False
        self._since = -inf
        self._count, self._sum, self._peak = 0, 0.0, 0

    def answered(self, started: float, ended: float, running: int) -> bool:
        """Learn of an answer, and how many requests ran, itself included; tell if more may run than before."""
        if started < self._since:
            return False
        self._count += 1
        self._sum += ended - started
        self._peak = max(self._peak, running)
        if self._count < max(_ROUND, self.limit):
            return False
        before, mean, used = self.limit, self._sum / self._count, self._peak >= int(self.limit)
        self._adapt(mean, used=used)
        self._begin(self._since if self.limit == before else ended)
        return self.limit > before

    def refused(self, running: int, now: float) -> None:
        """Learn that so many at once were too many. A burst of refusals is to be told once."""
        self._ceiling = max(1.0, min(self.limit, float(running)) - 1)
        self._calm, self._patience, self._raised = 0, min(2 * self._patience, _PATIENCE_MOST), False
        self.limit = min(self.limit, float(running))
        self._shrink(0.5)
        self._slow = None
        self._begin(now)

    def _adapt(self, mean: float, *, used: bool) -> None:
        """Set the limit by what the answers of a round took."""
        before = self.limit
        if self._slow is not None and before <= max(1.0, self._slow[1] / 2):
            if mean > 0.75 * self._slow[0]:
                self._base = mean
            self._slow = None
        self._base = min(self._base, mean)
        if mean > _TOLERANCE * self._base:
            self._slow = self._slow or (mean, before)
            self._shrink(max(0.5, _TOLERANCE * self._base / mean))
            return
        self._slow = None
        if used:
            if before >= self._ceiling:
                self._endure()
            self.limit = min(self._most, self._ceiling, 2 * before if self._doubling else before + 1)

    def _endure(self) -> None:
        """Count a round at the ceiling, which gives way in the end."""
        self._calm += 1
        if self._calm >= self._patience:
            self._calm = 0
            self._ceiling += 1
            if self._raised:
                self._ceiling, self._patience = inf, _PATIENCE // 2
            self._raised = True

    def _shrink(self, factor: float) -> None:
        self._doubling = False
        self.limit = max(1.0, self.limit * factor)

    def _begin(self, now: float) -> None:
        self._since = now
        self._count, self._sum, self._peak = 0, 0.0, 0
