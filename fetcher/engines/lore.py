"""L3: what hosts have said to chunks, for those that ask them next."""

from collections.abc import Iterable, Iterator, Sequence

from fetcher.engines.channel import Held
from fetcher.engines.lane import Lane
from fetcher.model import Request
from fetcher.origins import MEMORY, Hold
from fetcher.robots import KNOWN, Recent, Ruling
from fetcher.urls import parse


class Lore:
    """Holds and rules; times are on the run's monotonic clock."""

    def __init__(self) -> None:
        self._holds: dict[str, Hold] = {}
        self._rulings: Recent[str, Ruling] = Recent(KNOWN)

    def hold(self, host: str, hold: Hold, now: float) -> None:
        """Learn of a hold, and forget those that nobody need know any more."""
        self._holds.pop(host, None)
        self._holds[host] = hold
        while (oldest := next(iter(self._holds))) != host and self._holds[oldest].until + MEMORY < now:
            del self._holds[oldest]

    def keep_to(self, lane: Lane, host: str) -> None:
        """Let a lane's next chunks leave a host alone as long as it wants."""
        hold = self._holds.get(host)
        if hold is not None and not hold.down:
            lane.backlog.hold(host, hold.until)

    def learn(self, ruling: Ruling) -> None:
        """Learn what an origin's rules are."""
        self._rulings.put(ruling.origin, ruling, ruling.weight)

    def holds(self, hosts: Iterable[str], now: float) -> Iterator[Held]:
        """Yield what a chunk has to know of these hosts."""
        for host in hosts:
            hold = self._holds.get(host)
            if hold is not None and hold.until + MEMORY > now:
                yield Held(host, hold)

    def rulings(self, lane: Lane, requests: Sequence[Request], now: float) -> Iterator[Ruling]:
        """Yield the rules for these requests, and let the lane's next chunks keep to them, too."""
        if not lane.options.limits.robots:
            return
        hosts = {parse(request.target).origin: request.host for request in requests}
        for origin, host in hosts.items():
            ruling = self._rulings.get(origin)
            if ruling is not None and (ruling.rules is None or ruling.until > now):
                lane.backlog.space(host, ruling.apart)
                yield ruling
