"""L2: the only door to time and chance."""

import asyncio
import random
import secrets
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time, waits, and throws dice. Seconds throughout."""

    def now(self) -> float:
        """Return the wall clock as seconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Return a clock that never goes back; only differences mean something."""
        ...

    def random(self) -> float:
        """Return an even random number from 0 (included) to 1 (excluded)."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clock and random source."""

    def now(self) -> float:
        """Return the wall clock as seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Return the monotonic clock, the one asyncio's event loop uses."""
        return time.monotonic()

    def random(self) -> float:
        """Return an even random number from 0 to 1. Jitter needs no secrecy."""
        return random.random()  # noqa: S311

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(seconds)


def entropy() -> bytes:
    """Return 16 bytes that nobody can guess."""
    return secrets.token_bytes(16)


class DistantClock(SystemClock):
    """This machine's clock, with the monotonic time of another one, as far as the wall clocks of both agree.

    ``epoch`` is the other's wall clock less its monotonic one.
    """

    def __init__(self, epoch: float) -> None:
        self._ahead = self.now() - super().monotonic() - epoch

    def monotonic(self) -> float:
        """Return a clock that never goes back, and means the same on both machines."""
        return super().monotonic() + self._ahead
