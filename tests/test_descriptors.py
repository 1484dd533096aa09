"""How many transfers the limit of open files allows."""

import resource

import pytest

from fetcher.descriptors import allow

NO_LIMIT = resource.RLIM_INFINITY


class Limit:
    """A limit of open files, soft and hard; ``most`` is what the kernel agrees to."""

    def __init__(self, soft: int, hard: int, most: int = 10**6) -> None:
        self.values = (soft, hard)
        self.most = most

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.values

    def setrlimit(self, _: int, values: tuple[int, int]) -> None:
        if values[0] > self.most:
            raise ValueError("current limit exceeds maximum limit")
        self.values = values


@pytest.mark.parametrize(
    ("limit", "wanted", "allowed", "soft"),
    [
        (Limit(1024, 4096), 50, 50, 1024),
        (Limit(1024, 4096), 500, 500, 1024),
        (Limit(1024, 4096), 501, 501, 1026),
        (Limit(1024, 4096), 2036, 2036, 4096),
        (Limit(1024, 4096), 2037, 2036, 4096),
        (Limit(1024, 4096), 10_000, 2036, 4096),
        (Limit(64, 64), 50, 20, 64),
        (Limit(64, 64), 20, 20, 64),
        (Limit(8, 8), 50, 1, 8),
        (Limit(64, NO_LIMIT), 50, 50, 124),
        (Limit(NO_LIMIT, NO_LIMIT), 10_000, 10_000, NO_LIMIT),
        (Limit(256, NO_LIMIT, most=10_240), 10_000, 116, 256),
    ],
)
def test_allow(monkeypatch: pytest.MonkeyPatch, limit: Limit, wanted: int, allowed: int, soft: int) -> None:
    """The soft limit is raised no further than needed, and what it cannot hold is not allowed."""
    hard = limit.values[1]
    monkeypatch.setattr(resource, "getrlimit", limit.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", limit.setrlimit)
    assert allow(wanted) == allowed
    assert limit.values == (soft, hard)
