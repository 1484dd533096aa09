"""The workloads: how many URLs, how large, from which server, how many at once."""

from dataclasses import dataclass, replace
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
DELAY: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One thing to fetch, the same for every contestant.

    ``sizes`` are the smallest and the largest body in bytes. Workloads with the same ``folder`` and ``count`` share
    their bodies. ``limit`` is the time in seconds that any run of it may take.
    """

    key: str
    title: str
    folder: str
    count: int
    sizes: tuple[int, int]
    concurrency: int = 50
    tls: bool = False
    delayed: bool = False
    interrupted: bool = False
    megabytes: bool = False
    limit: float = 120.0

    @property
    def unit(self) -> str:
        """Of the rate: requests or megabytes (10**6 bytes) a second."""
        return "MB/s" if self.megabytes else "req/s"

    @property
    def ideal(self) -> float | None:
        """Seconds that the server's delay alone takes, when all slots are busy all the time; None without a delay."""
        return -(-self.count // self.concurrency) * DELAY if self.delayed else None


_SMALL: Final = (KIB, 4 * KIB)


def _delayed(concurrency: int) -> Workload:
    return Workload(
        key=f"W4@{concurrency}",
        title=f"2,000 URLs, each answered after 100 ms, {concurrency} at once (the server is ours, bench/delay.py)",
        folder="w4",
        count=2000,
        sizes=(KIB, KIB),
        concurrency=concurrency,
        delayed=True,
    )


WORKLOADS: Final = (
    Workload(key="W1", title="20,000 bodies of 1-4 KiB, one host", folder="w1", count=20_000, sizes=_SMALL),
    Workload(
        key="W2", title="4,000 bodies of 64 KiB", folder="w2", count=4000, sizes=(64 * KIB, 64 * KIB), megabytes=True
    ),
    Workload(key="W3", title="4 bodies of 512 MiB", folder="w3", count=4, sizes=(512 * MIB, 512 * MIB), megabytes=True),
    *(_delayed(concurrency) for concurrency in (50, 200, 1000)),
    Workload(
        key="W5",
        title="a list of 1,000,000 lines, stopped by SIGINT after 4 s",
        folder="w5",
        count=1_000_000,
        sizes=(0, 0),
        interrupted=True,
        limit=60.0,
    ),
    Workload(key="W6", title="W1 over TLS 1.3", folder="w1", count=20_000, sizes=_SMALL, tls=True),
    Workload(key="W7", title="W1 spread over 20 hosts, by host and shuffled", folder="w1", count=20_000, sizes=_SMALL),
    Workload(key="live", title="W1 with live progress on a terminal, and off", folder="w1", count=20_000, sizes=_SMALL),
    Workload(key="start", title="start-up, beside `python -c pass`", folder="one", count=1, sizes=(0, 0)),
)

_QUICK: Final = {"W1": 4000, "W2": 800, "W4@50": 500, "W6": 4000, "start": 1}


def chosen(only: str | None, *, quick: bool) -> list[Workload]:
    """The workloads to run, in their order.

    ``only`` is a list with commas, in any case; ``W4`` stands for all of W4. With ``quick`` there are fewer, and fewer
    URLs in each. Raises ValueError on a name that is none, or none of the quick ones.
    """
    known = WORKLOADS
    if quick:
        known = tuple(
            replace(workload, count=_QUICK[workload.key], title=f"{workload.title} (quick: fewer)")
            for workload in known
            if workload.key in _QUICK
        )
    if only is None:
        return list(known)
    wanted = [name.strip().lower() for name in only.split(",")]
    for name in wanted:
        if not any(_names(name, workload) for workload in known):
            raise ValueError(f"no workload {name!r}; there are {', '.join(w.key for w in known)}")
    return [workload for workload in known if any(_names(name, workload) for name in wanted)]


def _names(name: str, workload: Workload) -> bool:
    key = workload.key.lower()
    return name in (key, key.partition("@")[0])
