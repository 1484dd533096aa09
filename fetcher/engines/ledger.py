"""L3: what an engine whose work is done elsewhere knows of each request, from what it is told."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from fetcher.clock import Clock
from fetcher.engines.base import Past
from fetcher.engines.channel import Pulse
from fetcher.errors import Error, ErrorKind
from fetcher.events import Counters, Observer, Retrying, Settled, Transfer
from fetcher.history import History
from fetcher.model import Attempt, Request
from fetcher.naming import Told

#: A request over which so many workers have died is not given to another one.
_DEATHS: Final = 3

_SILENT: Final = Pulse(0, 0, 0, ())
_DIED: Final = Error.of(ErrorKind.INTERNAL, "its worker process died")


@dataclass(slots=True)
class Entry:
    """A request that is somebody's: what came of its attempts so far, and the one under way."""

    request: Request
    past: Past
    last: Error = _DIED
    transfer: Transfer | None = None
    deaths: int = 0
    told: Told = field(default_factory=Told)

    def failed(self, error: Error, not_before: float | None = None) -> None:
        """Note how the attempt under way has ended."""
        self.past = Past((*self.past.retried, error.kind), not_before)
        self.last = error
        self.transfer = None


@dataclass(slots=True, eq=False)
class Account:
    """Those who fetch at one place: their entries, what they said last, and the bytes that their ended attempts took."""

    entries: dict[str, Entry] = field(default_factory=dict)
    pulse: Pulse = _SILENT
    bytes: int = 0


class Ledger:
    """Keeps the counters of a run as if its requests were made here."""

    def __init__(self, clock: Clock, counters: Counters, observe: Observer) -> None:
        self._clock = clock
        self._counters = counters
        self._observe = observe
        self._waiting = 0
        self._retrying = 0

    def begun(self, entry: Entry) -> None:
        """Learn that an attempt is under way."""
        now = self._clock.monotonic()
        entry.transfer = Transfer(entry.request, now, last_byte=now)
        self._counters.active[entry.request.index] = entry.transfer

    def retried(self, account: Account, event: Retrying) -> None:
        """Note a retry, so that it is one for others too if those who decided it die."""
        self._counters.retry(event.request.host, event.error.kind)
        entry = account.entries.get(event.request.key)
        if entry is not None:
            self.ended(account, entry)
            entry.failed(event.error, self._clock.monotonic() + event.delay)

    def ended(self, account: Account, entry: Entry) -> None:
        """Count what is known of the attempt under way; whoever makes it says, if alive, how much it really was."""
        transfer = self._counters.active.pop(entry.request.index, None)
        if transfer is not None:
            self.count(account, account.bytes + transfer.received)

    def handed_back(self, account: Account, history: History) -> None:
        """Learn all of a request that is to be tried again, by others."""
        entry = account.entries.get(history.request.key)
        if entry is not None and history.last is not None and history.last.error is not None:
            retried = (*history.retried, history.last.error.kind)
            entry.past = Past(retried, entry.past.not_before, history)

    def count(self, account: Account, ended_bytes: int) -> None:
        """Learn how many bytes the ended attempts of an account took in all."""
        self._counters.ended_bytes += ended_bytes - account.bytes
        account.bytes = ended_bytes

    def show(self, account: Account, pulse: Pulse) -> None:
        """Let the run's counters show what they are at."""
        self.count(account, pulse.ended_bytes)
        for moving in pulse.active:
            entry = account.entries.get(moving.key)
            if entry is not None and (transfer := entry.transfer) is not None:
                transfer.received, transfer.total, transfer.last_byte = moving.received, moving.total, moving.last_byte
        self._waiting += pulse.waiting - account.pulse.waiting
        self._retrying += pulse.retrying - account.pulse.retrying
        account.pulse = pulse
        self._counters.waiting, self._counters.retrying = self._waiting, self._retrying

    def silence(self, account: Account) -> None:
        """Let the run's counters show that nothing waits there any more."""
        self.show(account, _SILENT._replace(ended_bytes=account.bytes))

    def mourn(self, account: Account) -> Iterator[tuple[str, Entry]]:
        """Learn that they have died. What they were at is to be tried again; yield, with its key, what is not any more."""
        self.silence(account)
        for key, entry in tuple(account.entries.items()):
            if entry.transfer is None:
                continue
            self.ended(account, entry)
            entry.failed(_DIED)
            entry.deaths += 1
            if entry.deaths < _DEATHS:
                self._counters.retry(entry.request.host, _DIED.kind)
                self._observe(Retrying(entry.request, _DIED, len(entry.past.retried), 0.0))
            else:
                yield key, entry
        account.bytes = 0

    def drop(self, account: Account, reason: str) -> Iterator[Settled]:
        """Forget the entries of those who tell no more; yield what those that were begun end with, for this reason."""
        entries, account.entries = account.entries, {}
        for entry in entries.values():
            if entry.transfer is not None:
                self.ended(account, entry)
                entry.failed(Error.of(ErrorKind.CANCELLED, f"{reason}; its worker told no more"))
            if entry.past.retried:
                yield self.end(entry)

    def end(self, entry: Entry) -> Settled:
        """Return what a request ends with that has failed, and of which nobody else can tell."""
        history = entry.past.history
        if history is None:
            now, (*retried, _) = self._clock.monotonic(), entry.past.retried
            before = History(entry.request, self._clock.now(), now, len(retried), tuple(retried))
            history = before.after(Attempt(number=len(retried) + 1, started=now, ended=now, error=entry.last))
        return history.settled()
