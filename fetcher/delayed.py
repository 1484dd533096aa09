"""L1: requests that wait for their time."""

from heapq import heapify, heappop, heappush

from fetcher.model import Request


class Delayed:
    """Gives requests back when their time has come, the earliest first, those of one time in the order they came in.

    Times are seconds on any clock.
    """

    __slots__ = ("_heap", "_sequence")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Request]] = []
        self._sequence = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._heap)

    @property
    def next_at(self) -> float | None:
        """The time of the next; None if none waits."""
        return self._heap[0][0] if self._heap else None

    def add(self, request: Request, not_before: float) -> None:
        """Take a request until its time."""
        self._sequence += 1
        heappush(self._heap, (not_before, self._sequence, request))

    def pop(self, now: float) -> Request | None:
        """Give back the next; None if its time has not come."""
        return heappop(self._heap)[2] if self._heap and self._heap[0][0] <= now else None

    def withdraw(self, host: str) -> list[Request]:
        """Give back all to a host, whatever their time."""
        taken = sorted(each for each in self._heap if each[2].host == host)
        if taken:
            self._heap = [each for each in self._heap if each[2].host != host]
            heapify(self._heap)
        return [request for _, _, request in taken]

    def clear(self) -> None:
        """Forget all."""
        self._heap.clear()
