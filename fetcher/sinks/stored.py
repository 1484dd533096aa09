"""L2: the bodies of a store read again: whole objects, and entries of archives."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Final, Self

from fetcher.model import Record

if TYPE_CHECKING:
    from fetcher.sinks.store import ObjectStore

#: So many tables are kept at hand: as many as processes that have filled some at the same time, mostly.
_TABLES: Final = 4

#: Yields the body that a record says is in an archive; see Reader.
BodyIn = Callable[[Path, Record], Iterable[bytes]]


class StoredBodies:
    """What records say is in ``store``, a context manager; any thread may read.

    An archive that is still on its way there is where ``local`` says. An entry of an archive is copied to a temporary
    file. Of a table, whose rows have no bytes of their own, all is.
    """

    #: Reading waits for the store more than for the processor.
    threads: Final = 8

    def __init__(self, store: "ObjectStore", local: Callable[[str], Path], body_in: BodyIn) -> None:
        self._store = store
        self._local = local
        self._body_in = body_in
        self._folder = TemporaryDirectory(prefix="fetcher-")
        self._tables: list[Path] = []
        self._turn = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._folder.cleanup()

    def pieces(self, record: Record) -> Iterator[bytes]:
        """Yield the body; blocks. Raises FileNotFoundError, ValueError if it is not there, OSError, LocalError."""
        path = record.path or ""
        if record.offset is None:
            yield from self._store.read(path)
        elif (held := self._local(path)).exists():
            yield from self._body_in(held, record)
        elif record.length is None:
            with self._turn:
                body = b"".join(self._body_in(self._table(path), record))
            yield body
        else:
            with TemporaryDirectory(dir=self._folder.name) as folder:
                entry = Path(folder, Path(path).name)
                with entry.open("xb") as file:
                    file.seek(record.offset)  # what stands before takes no room
                    file.writelines(self._store.read(path, record.offset, record.length))
                yield from self._body_in(entry, record)

    def paths(self) -> Iterator[str]:
        """Yield the key of every object; blocks. Raises LocalError."""
        return self._store.paths()

    def _table(self, path: str) -> Path:
        """Return a copy of a table; whoever calls has the turn."""
        table = Path(self._folder.name, Path(path).name)
        if table in self._tables:
            self._tables.remove(table)
        else:
            with table.open("wb") as file:
                file.writelines(self._store.read(path))
        self._tables.append(table)
        if len(self._tables) > _TABLES:
            self._tables.pop(0).unlink()
        return table
