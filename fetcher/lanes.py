"""L1: which worker fetches what, so that every limit of the run holds over all of them together."""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from fetcher.hashtable import HashTable, hash64
from fetcher.hosts import Hosts, limits_of
from fetcher.options import HostOptions, Limits, Options


class Keep(Enum):
    """Whether all of a host's URLs go to one worker: none of them need, those of one time do, or those of all times."""

    APART = 0
    WHOLE = 1
    STICKY = 2


def worker_count(options: Options, wanted: int) -> int:
    """Return how many workers there can be: each needs a slot, and those that a host may have if it cannot be divided."""
    limits = options.limits
    caps = [limits.per_host, *(each.per_host for each in options.hosts)]
    needed = max((cap for cap in caps if cap is not None and cap < wanted), default=1)
    return max(1, min(wanted, limits.concurrency // needed))


def keep(limits: Limits, workers: int) -> Keep:
    """Tell how a host with these limits is dealt out; kept whole, its worker's limits for it are the run's.

    A host is divided, and its limits with it, where no worker could reach them alone and there is something for each.
    A worker that knows a host's rate has to keep it.
    """
    if limits.host_rate is not None or limits.adaptive or limits.robots:
        return Keep.STICKY
    if limits.per_host is not None and limits.per_host <= max(workers - 1, limits.concurrency // workers):
        return Keep.WHOLE
    return Keep.APART


def keeps(options: Options, workers: int) -> Callable[[str], Keep]:
    """Return what tells how each host is dealt out."""
    usual, hosts = keep(options.limits, workers), Hosts(options.hosts)
    known = {each.pattern: keep(limits_of(options.limits, each), workers) for each in hosts.sections}

    def keep_of(host: str) -> Keep:
        section = hosts.of(host)
        return usual if section is None else known[section.pattern]

    return keep_of


def share(options: Options, workers: int, worker: int) -> Options:
    """Return the options of one worker, from 0; the limits of all together are never more than the run's."""
    limits = options.limits

    def part(whole: Limits) -> int | None:
        """Return how much of a host's requests at once is this worker's."""
        if whole.per_host is None or keep(whole, workers) is not Keep.APART:
            return whole.per_host
        return whole.per_host // workers + (worker < whole.per_host % workers)

    def section(of: HostOptions) -> HostOptions:
        return replace(of, per_host=part(limits_of(limits, of)))

    own = replace(
        limits,
        concurrency=limits.concurrency // workers + (worker < limits.concurrency % workers),
        per_host=part(limits),
        rate=None if limits.rate is None else limits.rate / workers,
        max_speed=None if limits.max_speed is None else max(1.0, limits.max_speed / workers),
    )
    return replace(options, limits=own, hosts=tuple(section(each) for each in Hosts(options.hosts).sections))


def abroad(options: Options, workers: int) -> Options:
    """Return limits for hosts that are asked by other workers: a small part, but never nothing, of what the run may do.

    All workers together may do as much there as whoever has such a host, or one request each at once.
    """

    def part(whole: int | None) -> int | None:
        return None if whole is None else max(1, whole // workers)

    def pace(whole: float | None) -> float | None:
        return None if whole is None else whole / workers

    limits = options.limits
    sections = Hosts(options.hosts).sections
    return Options(
        limits=Limits(per_host=part(limits.per_host), host_rate=pace(limits.host_rate)),
        hosts=tuple(
            HostOptions(pattern=each.pattern, per_host=part(each.per_host), host_rate=pace(each.host_rate))
            for each in sections
        ),
    )


class Lanes:
    """Deals requests out to ``workers``: each to the one with the least to do, or, where a host is kept whole, to its.

    Such a host is forgotten when none of its requests is under way, unless its worker has to remember its rate.
    """

    def __init__(self, workers: int, keep_of: Callable[[str], Keep]) -> None:
        self._load = [0] * workers
        self._keep_of = keep_of
        self._sticky = HashTable(32)
        self._hosts: dict[str, list[int]] = {}

    def assign(self, host: str) -> int:
        """Return the worker for one more request of this host."""
        kept = self._keep_of(host)
        worker = self._idlest() if kept is Keep.APART else self._worker_of(host, sticky=kept is Keep.STICKY)
        self._load[worker] += 1
        return worker

    def finished(self, host: str, worker: int) -> None:
        """Learn that a request dealt to ``worker`` is under way no more."""
        self._load[worker] -= 1
        entry = self._hosts.get(host)
        if entry is not None:
            entry[1] -= 1
            if not entry[1]:
                del self._hosts[host]

    def _worker_of(self, host: str, *, sticky: bool) -> int:
        entry = self._hosts.get(host)
        if entry is None:
            worker = self._idlest()
            if sticky:
                known = self._sticky.add(hash64(host), worker)
                worker = worker if known is None else known
            entry = self._hosts[host] = [worker, 0]
        entry[1] += 1
        return entry[0]

    def _idlest(self) -> int:
        return self._load.index(min(self._load))
