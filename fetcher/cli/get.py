"""L4: ``fetcher get``: from what was typed to the exit status."""

import asyncio
import gc
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fetcher.atomic import AtomicFile, replace_file
from fetcher.cli import access, params
from fetcher.cli.config import blamed
from fetcher.cli.env import Environment
from fetcher.cli.flags import PROGRESS, Flags
from fetcher.cli.metrics import MetricsFile
from fetcher.cli.quick import trusting_nobody
from fetcher.cli.show import Show
from fetcher.cli.signals import Beginning, handled
from fetcher.errors import LocalError, UsageError
from fetcher.events import Notice
from fetcher.lastrun import to_json
from fetcher.model import Stop, Summary
from fetcher.naming import STATE_DIRECTORY, Template
from fetcher.options import (
    ROTATE,
    Bounds,
    Carrier,
    Command,
    Existing,
    Form,
    Format,
    Limits,
    Listing,
    Options,
    Output,
    Retries,
    Timeouts,
    Wire,
)
from fetcher.status import ExitStatus, exit_status
from fetcher.views.failed import FailedList
from fetcher.views.ndjson import NdjsonWriter

if TYPE_CHECKING:
    from fetcher.events import RecordWriter
    from fetcher.sources.base import Source

_T = TypeVar("_T")


def options_of(flags: Flags) -> Options:
    """Return what was typed as options, and what a file says; raises UsageError for what cannot be meant.

    The file has to make sense by itself, so that an error can be laid at its door.
    """
    config = flags.config
    if config is None:
        return _options(flags)
    with blamed(config.path):
        _options(replace(Flags(), **config.settings))
    return replace(_options(flags), hosts=config.hosts)


def _options(flags: Flags) -> Options:
    Template.parse(flags.name)
    params.choice("--progress", flags.progress, PROGRESS)
    written = {
        "--failed": flags.failed,
        "--summary": flags.summary,
        "--metrics": flags.metrics,
        "--report": flags.report,
    }
    for one, another in combinations((name for name, path in written.items() if path is not None), 2):
        if written[one] == written[another]:
            raise UsageError(f"{one} and {another} need a file each")
    if flags.changed and flags.no_save:
        raise UsageError("--changed compares with what is there, and --no-save keeps nothing")
    concurrency, adaptive = params.concurrency("--concurrency", flags.concurrency)
    failures, share = _if_given(params.failures, "--max-failures", flags.max_failures) or (None, None)
    return Options(
        limits=Limits(
            concurrency=concurrency,
            adaptive=adaptive,
            per_host=_if_given(params.whole, "--per-host", flags.per_host),
            rate=_if_given(params.rate, "--rate", flags.rate),
            host_rate=_if_given(params.rate, "--host-rate", flags.host_rate),
            max_speed=_if_given(params.size, "--max-speed", flags.max_speed),
            max_size=_if_given(params.size, "--max-size", flags.max_size),
            max_redirects=params.whole("--max-redirects", flags.max_redirects),
            segments=params.whole("--segments", flags.segments),
            robots=flags.robots,
        ),
        timeouts=Timeouts(
            connect=params.duration("--connect-timeout", flags.connect_timeout),
            read=params.duration("--read-timeout", flags.read_timeout),
            total=_if_given(params.duration, "--timeout", flags.timeout),
        ),
        retries=Retries(
            count=params.whole("--retries", flags.retries),
            max_wait=params.duration("--max-retry-wait", flags.max_retry_wait),
        ),
        bounds=Bounds(
            deadline=_if_given(params.duration, "--deadline", flags.deadline), failures=failures, failed_share=share
        ),
        tls=access.tls(flags),
        output=_output(flags),
        command=_command(flags),
        headers=access.headers(flags),
        access=access.access(flags),
        user_agent=_if_given(params.field_value, "--user-agent", flags.user_agent),
        contact=_if_given(params.contact, "--contact", flags.contact),
        proxy=_if_given(params.proxy, "--proxy", flags.proxy),
        block_private=flags.block_private,
        wire=Wire(http3=flags.http3, doh=_if_given(params.https, "--doh-url", flags.doh_url)),
        workers=params.whole("--workers", flags.workers),
        engine=flags.engine,
        transport=Carrier(params.choice("--transport", flags.transport, tuple(Carrier))),
        dry_run=flags.dry_run,
    )


def listing_of(flags: Flags) -> Listing:
    """Return how lists are read; raises UsageError."""
    form = Form(params.choice("--input-format", flags.input_format, tuple(Form)))
    return Listing(form=form, column=flags.column, glob=flags.glob)


def _output(flags: Flags) -> Output:
    directory, store = params.place("--output-dir", flags.output_dir)
    size, count = params.rotation("--rotate", flags.rotate)
    return Output(
        directory=directory,
        store=store,
        name=flags.name,
        existing=Existing(params.choice("--existing", flags.existing, tuple(Existing))),
        save=not flags.no_save,
        format=Format(params.choice("--format", flags.format, tuple(Format))),
        rotate=ROTATE if size is None else size,
        rotate_count=count,
        wait=params.duration("--wait", flags.wait),
    )


def _command(flags: Flags) -> Command | None:
    """Return what to run for each URL."""
    if flags.exec is None:
        if flags.exec_jobs is not None or flags.exec_timeout is not None:
            raise UsageError("--exec-jobs and --exec-timeout need --exec")
        return None
    return Command(
        words=params.words("--exec", flags.exec),
        jobs=_if_given(params.whole, "--exec-jobs", flags.exec_jobs),
        timeout=_if_given(params.duration, "--exec-timeout", flags.exec_timeout),
    )


def _if_given(parse: Callable[[str, str], _T], option: str, text: str | None) -> _T | None:
    return None if text is None else parse(option, text)


def main(flags: Flags, environment: Environment, typed: Sequence[str]) -> ExitStatus:
    """Fetch what the flags say and return how it ended; ``typed`` is the command line, shown for running it again.

    Raises UsageError before anything is fetched, LocalError if this machine fails.
    """
    options = options_of(flags)
    load(options)
    from fetcher.lists import follower, sources

    show = Show(flags, environment, typed)
    follow = None if options.dry_run else follower(options, show.observe)
    found = sources(flags.sources or [], listing_of(flags), follow)
    if environment.stdin_is_terminal and "-" in (flags.sources or ()):
        show.say("reading URLs from the keyboard, Ctrl-D ends")
    return carry_out(options, found, show)


def load(options: Options) -> None:
    """Import what a run with these options needs; raises UsageError if something is missing, or cannot be meant."""
    from fetcher.wiring import maker, prepare

    with trusting_nobody():
        maker(options)
    prepare(options)


def carry_out(options: Options, found: Sequence["Source"], show: Show) -> ExitStatus:
    """Fetch what is found, write and show all that the flags ask for, and return how it ended.

    Raises UsageError before anything is fetched, LocalError if this machine fails.
    """
    flags, environment = show.flags, show.environment
    if flags.config is not None and flags.config.warning:
        show.observe(Notice(flags.config.warning))
    for warning in access.exposed(flags):
        show.observe(Notice(warning))
    with ExitStack() as files:
        metrics = files.enter_context(MetricsFile(Path(flags.metrics), show)) if flags.metrics is not None else None
        writers: list[RecordWriter] = []
        if flags.failed is not None:
            writers.append(FailedList(files.enter_context(AtomicFile(Path(flags.failed)))))
        numbers = files.enter_context(AtomicFile(Path(flags.summary))) if flags.summary is not None else None
        report = None
        if flags.report is not None:
            from fetcher.cli.reportfile import ReportFile

            report = files.enter_context(ReportFile(Path(flags.report), show))
            writers.append(report)
        if environment.prints_records(flags):
            writers.append(NdjsonWriter(environment.stdout_fd, changed=flags.changed))
        summary = asyncio.run(fetch(options, found, writers, show))
        status = exit_status(summary)
        if numbers is not None:
            numbers.write(to_json(show.told(summary)))
        if metrics is not None:
            metrics.ended(summary, status)
        if report is not None:
            report.ended(summary)
    show.end(summary)
    return status


async def fetch(options: Options, found: Sequence["Source"], writers: Sequence["RecordWriter"], show: Show) -> Summary:
    """Run until all is settled or a signal says stop, showing how it goes.

    Raises StoppedError if the signal comes before there is a run.
    """
    from fetcher.wiring import Ears, opened

    gc.freeze()
    gc.enable()
    ears = Ears(counters=show.counters, observe=show.observe, writers=writers, clock=show.clock)
    beginning = Beginning()

    def stop(reason: Stop) -> None:
        if beginning.stop(reason):
            return
        first = show.counters.stopping is None
        run.stop(reason)
        if first:
            show.stopping()

    async with AsyncExitStack() as stack:
        # The screen goes first: a signal that is not handled ends the process where it stands.
        with handled(stop, show.report, show.leave):
            with beginning:
                run = await stack.enter_async_context(opened(options, ears))
            async with show:
                summary = await run(found, count=show.counts)
            return await _kept(summary, options, show)


async def _kept(summary: Summary, options: Options, show: Show) -> Summary:
    """Keep the summary in the directory, while that is ours; return it, changed if there is no room for it."""
    if not options.output.save or options.dry_run:
        return summary
    path = options.output.directory / STATE_DIRECTORY / "last-run.json"
    try:
        await asyncio.to_thread(replace_file, path, to_json(show.told(summary)))
    except LocalError as error:
        if summary.stop is None:
            show.observe(Notice(error.message))
            return replace(summary, stop=Stop.DISK, stopped=Stop.DISK.words)
    return summary
