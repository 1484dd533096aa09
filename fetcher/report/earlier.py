"""L4: what was known of each URL before a run, in about 17 bytes a URL, to compare the run with; arithmetic only."""

from fetcher.hashtable import HashTable, hash64
from fetcher.model import Outcome, Record
from fetcher.replay import Fact
from fetcher.report.stats import Change

_COMPARED = frozenset({Outcome.FETCHED, Outcome.UNCHANGED, Outcome.FAILED})


class Earlier:
    """For each URL whether its latest record was ok, and a hash of its body's digest."""

    def __init__(self) -> None:
        self._known = HashTable(64)

    def learn(self, said: Fact) -> None:
        """Take an earlier record; of several about a URL the last one counts."""
        self._known.set(hash64(said.key), _standing(said.sha256, ok=said.ok))

    def __len__(self) -> int:
        return len(self._known)

    def compare(self, record: Record, key: str) -> Change | None:
        """Return what is new in the record of a key; None if it is not about a fetch, or there is nothing to compare."""
        if not len(self) or record.outcome not in _COMPARED:
            return None
        before = self._known.get(hash64(key))
        if before is None:
            return Change.FIRST
        if not record.ok:
            return Change.BROKEN if before & 1 else Change.STILL
        if not before & 1:
            return Change.MENDED
        return Change.SAME if before == _standing(record.sha256, ok=True) else Change.DIFFERENT


def _standing(sha256: str | None, *, ok: bool) -> int:
    return hash64(sha256) & ~1 | ok
