"""L1: which worker fetches what, so that every limit of the run holds over all of them together."""

from dataclasses import replace

from fetcher.hashtable import HashTable, hash64
from fetcher.options import Limits


def worker_count(limits: Limits, wanted: int) -> int:
    """Return how many workers there can be: each needs a slot, and those that a host may have if it cannot be divided."""
    needed = limits.per_host if limits.per_host is not None and limits.per_host < wanted else 1
    return max(1, min(wanted, limits.concurrency // needed))


def keeps_hosts_whole(limits: Limits, workers: int) -> bool:
    """Tell whether all of a host's URLs go to one worker, whose limits for the host are then the run's.

    A host is divided, and its limits with it, where no worker could reach them alone and there is something for each.
    """
    if limits.host_rate is not None or limits.adaptive:
        return True
    return limits.per_host is not None and limits.per_host <= max(workers - 1, limits.concurrency // workers)


def share(limits: Limits, workers: int, worker: int) -> Limits:
    """Return the limits of one worker, from 0; those of all together are never more than the run's."""
    per_host = limits.per_host
    if per_host is not None and not keeps_hosts_whole(limits, workers):
        per_host = per_host // workers + (worker < per_host % workers)
    return replace(
        limits,
        concurrency=limits.concurrency // workers + (worker < limits.concurrency % workers),
        per_host=per_host,
        rate=None if limits.rate is None else limits.rate / workers,
        max_speed=None if limits.max_speed is None else max(1.0, limits.max_speed / workers),
    )


class Lanes:
    """Deals requests out to ``workers``: each to the one with the least to do, or, with hosts kept whole, to its host's.

    A host is forgotten when none of its requests is under way; with ``sticky``, never: its worker knows its rate.
    """

    def __init__(self, workers: int, *, whole_hosts: bool, sticky: bool = False) -> None:
        self._load = [0] * workers
        self._whole = whole_hosts
        self._sticky = HashTable(32) if sticky else None
        self._hosts: dict[str, list[int]] = {}

    def assign(self, host: str) -> int:
        """Return the worker for one more request of this host."""
        worker = self._worker_of(host) if self._whole else self._idlest()
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

    def _worker_of(self, host: str) -> int:
        entry = self._hosts.get(host)
        if entry is None:
            worker = self._idlest()
            if self._sticky is not None:
                known = self._sticky.add(hash64(host), worker)
                worker = worker if known is None else known
            entry = self._hosts[host] = [worker, 0]
        entry[1] += 1
        return entry[0]

    def _idlest(self) -> int:
        return self._load.index(min(self._load))
