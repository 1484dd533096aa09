"""L1: which parts of a long body are asked for, where several may be under way at once and are read in order."""

from typing import Final

#: The bytes of a part: long enough for the time between two to matter little, short enough to wait in memory.
PART: Final = 4 * 1024 * 1024
#: Shorter bodies are not divided: they are there before much is gained.
LEAST: Final = 4 * PART


class Division:
    """The bytes from ``start`` to ``size`` as parts, numbered from 0, each claimed by one stream until it gives it back.

    A part that is farther ahead of the reader than ``ahead`` others has to wait: all that has come by then is in memory.
    """

    def __init__(self, start: int, size: int, ahead: int, part: int) -> None:
        self.start = start
        self.size = size
        self._part = part
        self._ahead = ahead
        self._parts = -(-(size - start) // part)
        #: Those from here on have never been claimed; of those before, these have been given back.
        self._fresh = 0
        self._back: set[int] = set()

    def number(self, at: int) -> int:
        """Return which part the byte at this offset is in."""
        return (at - self.start) // self._part

    def bounds(self, number: int) -> tuple[int, int]:
        """Return the offsets of a part's first byte and of the first one behind it."""
        begin = self.start + number * self._part
        return begin, min(begin + self._part, self.size)

    def claim(self, number: int) -> bool:
        """Claim this part, unless it is claimed; to be called only for the reader's own, which is the first unread."""
        if number in self._back:
            self._back.remove(number)
        elif number == self._fresh:
            self._fresh += 1
        else:
            return False
        return True

    def next(self, reading: int) -> int | None:
        """Return the first part that can be claimed while this one is read; None if there is none."""
        number = min(self._back, default=self._fresh)
        return number if number < min(self._parts, reading + 1 + self._ahead) else None

    def give_back(self, number: int) -> None:
        """Let somebody else claim a part."""
        self._back.add(number)
