"""L2: which format is which archive; each is imported when it is needed, with the extra that it needs."""

import os
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from fetcher.model import Record
from fetcher.options import Format
from fetcher.sinks.base import Archive
from fetcher.sinks.shards import mend

#: A link is not followed, and a pipe not waited for.
_READING: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def archive(form: Format) -> Archive:
    """Return how bodies lie in this format; raises UsageError if its extra is not installed."""
    match form:
        case Format.WARC:
            from fetcher.sinks.warc import WarcArchive  # noqa: PLC0415

            return WarcArchive()
        case Format.TAR:
            from fetcher.sinks.tar import TarArchive  # noqa: PLC0415

            return TarArchive()
        case Format.PARQUET:
            from fetcher.sinks.parquet import ParquetArchive  # noqa: PLC0415

            return ParquetArchive()
        case Format.FILES:
            raise ValueError("files are no archive")


def mend_all(directory: Path) -> None:
    """Finish what processes that died have left open, in any format.

    Raises OSError, and UsageError if an extra is needed that is not installed.
    """
    mend(directory, archive_named)


def finished(directory: Path) -> list[Path]:
    """Return the archives in a directory that have their names; raises OSError, UsageError as :func:`mend_all` does."""
    return [path for path in sorted(directory.iterdir()) if path.is_file() and archive_named(path.name) is not None]


def archive_named(name: str) -> Archive | None:
    """Return how bodies lie in a file of that name, None if it is no archive; raises UsageError."""
    suffix = name.removesuffix(".gz").rpartition(".")[2]
    return archive(Format(suffix)) if suffix in ("warc", "tar", "parquet") else None


class Reader:
    """Reads bodies out of archives; any thread may call."""

    def __init__(self) -> None:
        self._archive_named = lru_cache(archive_named)

    def body_in(self, path: Path, record: Record) -> Iterator[bytes]:
        """Yield the body that a record says is in this archive, finished or not.

        Raises ValueError if it is not there, OSError, and UsageError if an extra is needed that is not installed.
        """
        archive = self._archive_named(path.name)
        if archive is None:
            raise ValueError("no archive")
        with open(os.open(path, _READING), "rb") as file:  # noqa: PTH123
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("no file")
            yield from archive.body_of(file, record)
