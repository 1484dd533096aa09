"""L4: ``--metrics FILE``: written however the run ends."""

import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fetcher.atomic import AtomicFile
from fetcher.cli.show import Show
from fetcher.errors import BusyError, LocalError, UsageError
from fetcher.model import Summary
from fetcher.status import ExitStatus, StoppedError
from fetcher.views.metrics import metrics_text

#: Of an earlier file so many characters are read, which is more than one of ours has.
_MOST: Final = 1 << 20


class MetricsFile:
    """Replaces ``path`` by the metrics of a run when the context ends, also by an error; label ``job`` is DIR's name.

    Only one that did not begin leaves it alone, refused because there is another or stopped while it waited for that:
    the other one will write its own.
    Raises UsageError on entering if the file cannot be written, LocalError at the end.
    """

    def __init__(self, path: Path, show: Show) -> None:
        self._file = AtomicFile(path)
        self._path = path
        self._show = show
        self._ended: tuple[Summary, ExitStatus] | None = None

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def ended(self, summary: Summary, status: ExitStatus) -> None:
        """Take what there is to tell of a run that has come to its end."""
        self._ended = summary, status

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, BusyError | StoppedError):
            self._file.__exit__(kind, error, trace)
            return
        show = self._show
        summary, status = self._ended or (show.counters.summary(show.clock.monotonic()), ExitStatus.BUG)
        if error is not None:
            status = _status(error)
        job = Path(os.path.abspath(show.flags.output_dir)).name  # noqa: PTH100  resolve() would follow links
        text = metrics_text(summary, status, job=job, now=show.clock.now(), before=self._before())
        self._file.conclude(text.encode(errors="backslashreplace"), error)

    def _before(self) -> str:
        try:
            if self._path.is_file():
                with self._path.open(encoding="utf-8", errors="replace") as file:
                    return file.read(_MOST)
        except OSError:
            pass
        return ""


def _status(error: BaseException) -> ExitStatus:
    if isinstance(error, UsageError):
        return ExitStatus.USAGE
    return ExitStatus.LOCAL if isinstance(error, LocalError | OSError) else ExitStatus.BUG
