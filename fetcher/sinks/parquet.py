"""L2: bodies and what is known of them as rows of Parquet files; the only importer of pyarrow, an extra.

A Parquet file can be read only when it is finished. Until then its rows stand in a tar archive, of which a crash costs
nothing.
"""

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Final

import orjson

from fetcher.errors import UsageError
from fetcher.model import Record, Stored
from fetcher.sinks.base import Entry
from fetcher.sinks.tar import FACTS, TarArchive, facts_behind, samples

#: Bytes of bodies in a row group, which is what a reader and a writer hold at once.
_GROUP: Final = 64 << 20
#: Many small bodies make a row group too.
_ROWS: Final = 100_000
#: What finished files begin with.
_MAGIC: Final = b"PAR1"


def load() -> Any:
    """Return pyarrow with its Parquet part; raises UsageError if it is not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise UsageError("--format parquet needs pyarrow: pip install 'fetcher[parquet]'") from error
    return pa


class ParquetArchive:
    """Rows of a body and its facts; see :class:`fetcher.sinks.base.Archive`. Raises UsageError without pyarrow."""

    suffix: Final = ".parquet"
    wants_wire: Final = False
    most: Final = 256_000_000

    def __init__(self) -> None:
        self._pa = load()
        self._tar = TarArchive()
        self._rows = 0
        self._turn = Lock()
        self._last: tuple[tuple[int, ...], Any] = ((), None)

    def begin(self, name: str, at: float, write: Callable[[bytes], None]) -> int:
        """Return 0."""
        self._rows = 0
        return self._tar.begin(name, at, write)

    def append(self, name: str, offset: int, entry: Entry, write: Callable[[bytes], None]) -> Stored:
        """Write what will be the next row."""
        self._tar.append(name, offset, entry, write)
        self._rows += 1
        return Stored(name, entry.size, entry.sha256, self._rows - 1)

    def whole(self, path: Path) -> int:
        """Return where the last whole row ends."""
        return self._tar.whole(path)

    def body_of(self, file: BinaryIO, record: Record) -> Iterator[bytes]:
        """Yield the body that a record tells of; raises ValueError if it is not there, OSError."""
        row = record.offset or 0
        if file.read(len(_MAGIC)) != _MAGIC:
            found = next(islice(samples(file), row, None), None)
            if found is None:
                raise ValueError("it has no such row")
            file.seek(found[0])
            yield file.read(found[1].size)
            return
        try:
            yield self._row(file, row)
        except self._pa.ArrowException as error:
            raise ValueError(f"no Parquet: {error}") from error

    def _row(self, file: BinaryIO, row: int) -> bytes:
        """Return a body of a finished file. The row group is kept for the next call, which often asks for its neighbour."""
        found = os.fstat(file.fileno())
        table = self._pa.parquet.ParquetFile(file)
        for group in range(table.metadata.num_row_groups):
            count = table.metadata.row_group(group).num_rows
            if row < count:
                key = (found.st_dev, found.st_ino, found.st_mtime_ns, group)
                with self._turn:
                    if self._last[0] != key:
                        self._last = key, table.read_row_group(group, ["body"])["body"]
                    body: bytes = self._last[1][row].as_py()
                return body
            row -= count
        raise ValueError("it has no such row")

    def finish(self, path: Path, final: Path) -> None:
        """Write the rows to a Parquet file, and move it to its place."""
        pa, schema, made = self._pa, self._schema(), path.with_name(f"{path.name}.new")
        with path.open("rb") as file, pa.parquet.ParquetWriter(made, schema, compression="zstd") as writer:
            for rows in _grouped(file):
                writer.write_table(pa.Table.from_pylist(rows, schema))
        made.replace(final)
        path.unlink()

    def _schema(self) -> Any:
        pa = self._pa
        text, number, at = pa.string(), pa.int64(), pa.timestamp("ms", "UTC")
        others = {"line": number, "status": pa.int32(), "bytes": number, "fetched_at": at, "body": pa.large_binary()}
        return pa.schema([pa.field(name, others.get(name, text)) for name in (*FACTS, "body")])


def _grouped(file: BinaryIO) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of an unfinished file, as many at a time as make a row group."""
    rows: list[dict[str, Any]] = []
    size = 0
    for begins, member, _ in samples(file):
        if rows and (size + member.size > _GROUP or len(rows) >= _ROWS):
            yield rows
            rows, size = [], 0
        row = facts_behind(file, begins, member)
        file.seek(begins)
        row["fetched_at"] = datetime.fromisoformat(row["fetched_at"])
        row["meta"] = row["meta"] and orjson.dumps(row["meta"]).decode()
        rows.append({**row, "body": file.read(member.size)})
        size += member.size
    yield rows
