"""L2: a table in Parquet, read batch by batch."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson

from fetcher.atomic import whole
from fetcher.columns import row_of
from fetcher.errors import UsageError
from fetcher.model import Row
from fetcher.sources.base import ReadError
from fetcher.sources.listfile import shown, unreadable
from fetcher.text import printable

#: The first bytes, and the last, of such a file.
MAGIC: Final = b"PAR1"

#: Rows in one hop to a thread; bytes read ahead for each column.
_ROWS: Final = 1_024
_AHEAD: Final = 64 * 1024

_PLAIN: Final = (str, int, float, bool, type(None))


class ParquetSource:
    """A Parquet file with the URL in ``column``; rows count from 1; see Source."""

    def __init__(self, path: str, column: str) -> None:
        self.name = shown(path)
        self._path = path
        self._column = column

    def check(self) -> None:
        """Make sure that rows can be read; raises UsageError."""
        try:
            with _opened(self._path) as file:
                names = file.schema_arrow.names
        except ReadError as error:
            raise UsageError(f"cannot read {printable(self._path)}: {error}") from error
        if self._column not in names:
            found = printable(", ".join(names), 200)
            raise UsageError(f'{printable(self._path)}: no column "{self._column}"; there are: {found}; see --column')

    async def rows(self) -> AsyncGenerator[Row, None]:
        """Yield the rows in order."""
        line = 0
        batches = _batches(self._path)
        try:
            while batch := await whole(asyncio.to_thread(next, batches, None)):
                for values in batch:
                    line += 1
                    yield row_of(self.name, line, values, self._column)
        except ReadError as error:
            yield unreadable(self.name, error, line)
        finally:
            batches.close()

    async def count(self) -> int | None:
        """Return what the file says of itself."""
        try:
            return await whole(asyncio.to_thread(self._count))
        except ReadError:
            return None

    def _count(self) -> int:
        with _opened(self._path) as file:
            return int(file.metadata.num_rows)


def load() -> Any:
    """Return the library that reads Parquet; raises UsageError if it is not installed."""
    try:
        from pyarrow import parquet  # noqa: PLC0415  an extra, and slow to import
    except ImportError as error:
        raise UsageError("a Parquet list needs pyarrow: pip install 'fetcher[parquet]'") from error
    return parquet


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Open a file; raises ReadError if it is none that can be read, also in the block."""
    parquet = load()
    try:
        with (
            Path(path).open("rb", buffering=0) as stream,
            parquet.ParquetFile(stream, buffer_size=_AHEAD) as file,
        ):
            yield file
    except (OSError, ValueError) as error:  # pyarrow's own errors are among them
        reason = error.strerror if isinstance(error, OSError) and error.strerror else printable(str(error), 200)
        raise ReadError(reason) from error


def _batches(path: str) -> Generator[list[dict[str, Any]], None, None]:
    with _opened(path) as file:
        for batch in file.iter_batches(_ROWS, use_threads=False):
            if batch.num_rows:
                yield [_as_json(values) for values in batch.to_pylist()]


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    """Return a row in which everything is what JSON has."""
    if all(isinstance(value, _PLAIN) for value in values.values()):
        return values
    found = orjson.loads(orjson.dumps(values, default=_text, option=orjson.OPT_NON_STR_KEYS))
    assert isinstance(found, dict)  # noqa: S101
    return found


def _text(value: Any) -> str:
    """Return what JSON has no word for: dates beyond the usual, decimals, bytes."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
