"""L3: one lane of a cluster: its requests, its chunks under way, and when the next may begin."""

import asyncio
from dataclasses import dataclass, field

from fetcher.chunks import MOST, PATIENCE, Backlog, room
from fetcher.engines.chunk import Chunk
from fetcher.engines.ledger import Account
from fetcher.engines.pool import Job
from fetcher.engines.spool import Inbox
from fetcher.options import Options


@dataclass(slots=True, eq=False)
class Lane:
    """Requests whose limits are kept by one chunk at a time; others of its chunks only wait for what is under way."""

    number: int
    options: Options
    backlog: Backlog
    account: Account = field(default_factory=Account)
    works: "set[Work]" = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    #: When its rate has forgotten what was started.
    clear: float = 0.0
    #: When its last chunk began to leave.
    left: float = 0.0
    #: How many requests its next chunk may have: few after a death, to find out which of them it was.
    most: int = MOST

    @property
    def slots(self) -> int:
        """How many requests may be under way at once."""
        return self.options.limits.concurrency

    def room(self, now: float) -> int:
        """Return how many its next chunk may have under way, 0 if it may not begin now."""
        if now < self.clear:
            return 0
        active = sum(entry.transfer is not None for work in self.works for entry in work.account.entries.values())
        return room(self.slots, self.slots - active, now - self.left)

    def wake_at(self, now: float) -> float | None:
        """Return when its next chunk may begin although nothing is told before; None if that cannot be."""
        waiting = self.backlog.wake_at(now)
        if waiting is None:
            return None
        return max((each for each in (waiting, self.clear, self.left + PATIENCE) if each > now), default=None)


@dataclass(slots=True, eq=False)
class Work:
    """A chunk under way."""

    lane: Lane
    chunk: Chunk
    job: Job
    inbox: Inbox
    account: Account
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
