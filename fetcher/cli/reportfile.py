"""L4: ``--report FILE``: the page about a run, gathered while it runs and written however it ends."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from fetcher.atomic import AtomicFile
from fetcher.cli import params
from fetcher.cli.show import Show
from fetcher.errors import UsageError
from fetcher.events import Settled
from fetcher.model import Summary
from fetcher.report.earlier import Earlier
from fetcher.report.reading import earlier_in
from fetcher.report.stats import Stats
from fetcher.status import StoppedError


class ReportFile:
    """Takes the records of a run, and replaces ``path`` by the page about it when the context ends, also by an error.

    Only a run that has not begun leaves it alone. Raises UsageError on entering if the file cannot be written,
    LocalError then or at the end.
    """

    def __init__(self, path: Path, show: Show) -> None:
        self._file = AtomicFile(path)
        self._show = show
        self._stats = Stats()
        self._earlier = Earlier()
        self._summary: Summary | None = None

    def __enter__(self) -> Self:
        flags = self._show.flags
        self._file.__enter__()
        if not flags.no_save and not flags.dry_run:
            try:
                self._earlier = earlier_in(params.place("--output-dir", flags.output_dir)[0])
            except BaseException as error:
                self._file.__exit__(type(error), error, None)
                raise
        return self

    async def write(self, batch: Sequence[Settled]) -> None:
        """Count a batch of records."""
        for settled in batch:
            record = settled.record
            self._stats.add(record, self._earlier.compare(record, settled.key or record.url))

    def ended(self, summary: Summary) -> None:
        """Take the summary of a run that has come to its end."""
        self._summary = summary

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UsageError | StoppedError):
            self._file.__exit__(kind, error, trace)
            return
        self._file.conclude(self._page(), error)

    def _page(self) -> bytes:
        from fetcher.report.page import About, page

        show = self._show
        summary = self._summary or show.counters.summary(show.clock.monotonic())
        about = About(
            source=show.sources,
            summary=summary,
            version=show.told(summary).version,
            command=show.command,
            ended=summary.stopped or None,
            compared=len(self._earlier) > 0,
        )
        return page(self._stats, about)
