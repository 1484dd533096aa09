"""L3: messages between a run and its workers."""

from typing import NamedTuple, Protocol

from fetcher import channel
from fetcher.engines.base import Past
from fetcher.events import Event
from fetcher.history import History
from fetcher.model import Record, Request, Stop
from fetcher.naming import Told
from fetcher.origins import Hold
from fetcher.robots import Ruling


class Order(NamedTuple):
    """To a worker: fetch this; ``past`` is what workers that have died told of it."""

    request: Request
    past: Past


class Named(NamedTuple):
    """To a worker: the answer to its :class:`Claim`, a :class:`fetcher.sinks.base.Name`."""

    key: str
    path: str
    ours: bool


class Cease(NamedTuple):
    """To a worker: start nothing more, for this reason."""

    reason: str


class Finish(NamedTuple):
    """To a worker: give what is under way so many seconds, then drop it, tell, and end."""

    seconds: float


class Abort(NamedTuple):
    """To a worker: drop what is under way now."""


class Claim(NamedTuple):
    """From a worker: what is this request's body called? See :class:`fetcher.sinks.base.NameGiver`."""

    key: str
    told: Told
    digest: str | None
    obstacle: str | None


class Begun(NamedTuple):
    """From a worker: it makes an attempt at this request."""

    key: str


class Done(NamedTuple):
    """From a worker: what a request ends with, as a :class:`fetcher.events.Settled`; ``ended_bytes`` as in a Pulse.

    Unpickling the record takes a quarter of the time of reading its line.
    """

    record: Record
    line: bytes
    key: str
    ended_bytes: int


class Held(NamedTuple):
    """From a worker, and then to the others: it holds this host."""

    host: str
    hold: Hold


class Heard(NamedTuple):
    """From a worker: something has happened."""

    event: Event


class GivenUp(NamedTuple):
    """From a worker: going on makes no sense."""

    reason: Stop
    message: str


class Moving(NamedTuple):
    """How far a transfer is; see :class:`fetcher.events.Transfer`."""

    key: str
    received: int
    total: int | None
    last_byte: float


class Pulse(NamedTuple):
    """From a worker, now and then: how many wait, how many bytes ended attempts took, and what is under way."""

    waiting: int
    retrying: int
    ended_bytes: int
    active: tuple[Moving, ...]


class Laid(NamedTuple):
    """From a chunk: it lays the body of this request aside, and what the answer says of its name."""

    request: Request
    told: Told


class Leaving(NamedTuple):
    """From a chunk: it starts nothing more, and waits for what is under way."""


class Left(NamedTuple):
    """From a chunk: this is to be tried again, by another one."""

    history: History


class Learned(NamedTuple):
    """From a chunk: what it has heard of an origin's rules."""

    ruling: Ruling


class Ended(NamedTuple):
    """From a worker: all is told."""


Message = (
    Order
    | Named
    | Cease
    | Finish
    | Abort
    | Claim
    | Begun
    | Done
    | Held
    | Heard
    | GivenUp
    | Pulse
    | Laid
    | Leaving
    | Left
    | Learned
    | Ended
)


class Sender(Protocol):
    """Takes messages to whoever has ordered the work."""

    def send(self, message: Message) -> None:
        """Have it sent with others, in order."""
        ...

    async def drain(self) -> None:
        """Wait while the other end is far behind."""
        ...


#: One end, at the run or at a worker.
Channel = channel.Channel[Message, Message]
