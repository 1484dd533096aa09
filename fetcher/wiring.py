"""L3: options become objects; the one place that names concrete classes."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from fetcher import __version__
from fetcher.clock import Clock, SystemClock
from fetcher.descriptors import allow
from fetcher.disk import Disk
from fetcher.engines.inline import Inline
from fetcher.errors import UsageError
from fetcher.events import Counters, Notice, Observer, RecordWriter
from fetcher.fetch import Fetch, Identity
from fetcher.journal import Journal
from fetcher.model import timestamp
from fetcher.naming import Template
from fetcher.options import Options
from fetcher.run import Parts, Run
from fetcher.sinks.files import FilesSink, Naming
from fetcher.sinks.null import NullSink
from fetcher.sinks.partial import Partials
from fetcher.sources.argv import ArgvSource
from fetcher.sources.base import Source
from fetcher.sources.opener import check
from fetcher.sources.text import TextSource
from fetcher.transport.base import Reach
from fetcher.transport.proxies import Proxies
from fetcher.transport.session import SessionTransport

if TYPE_CHECKING:
    from fetcher.sinks.base import Sink

USER_AGENT: Final = f"fetcher/{__version__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ears:
    """Who hears of a run: ``writers`` of its records, ``observe`` of its events, ``counters`` of its numbers."""

    counters: Counters
    observe: Observer = lambda _: None
    writers: Sequence[RecordWriter] = ()
    clock: Clock = field(default_factory=SystemClock)


@asynccontextmanager
async def opened(options: Options, ears: Ears) -> AsyncIterator[Run]:
    """Open all that a run with these options needs, and yield it ready to be called.

    Raises UsageError for a bad name template, LocalError if the directory cannot be used, BusyError if it is in use.
    """
    template = Template.parse(options.output.name)
    options = _affordable(options, ears.observe)
    proxies = Proxies(options.proxy)
    if options.block_private and proxies.used:
        raise UsageError("--block-private cannot see where a proxy connects to; say --proxy '' to go without one")
    naming = Naming(template, timestamp(ears.clock.now())[:10])
    identity = Identity(options.user_agent or USER_AGENT, options.headers)
    async with AsyncExitStack() as stack:
        disk = stack.enter_context(Disk())
        journal: Journal | None = None
        sink: Sink = NullSink()
        if options.output.save:
            directory = options.output.directory
            journal = Journal(directory, disk.executor, naming.remember, writable=not options.dry_run)
            await stack.enter_async_context(journal)
            for notice in journal.notices:
                ears.observe(Notice(notice))
            sink = files = FilesSink(directory, Partials(journal.partial), naming, disk)
            if not options.dry_run:
                await files.take_up()
        named = options.output.save and not template.needs_body
        transport = SessionTransport(
            options.timeouts,
            options.tls,
            proxies,
            ears.clock,
            Reach(connections=options.limits.concurrency, block_private=options.block_private),
        )
        await stack.enter_async_context(transport)
        fetch = Fetch(transport, sink, identity, options.limits, ears.clock)
        parts = Parts(
            engine=Inline(options, fetch, ears.clock, ears.counters, ears.observe),
            memory=journal,
            writers=([] if journal is None or options.dry_run else [journal]) + list(ears.writers),
            clock=ears.clock,
            counters=ears.counters,
            observe=ears.observe,
            preview=lambda request: naming.claim(request, None, None) if named else None,
        )
        yield Run(options, parts)


def _affordable(options: Options, observe: Observer) -> Options:
    """Return the options with as many requests at once as this process may have files open for."""
    wanted = options.limits.concurrency
    allowed = allow(wanted)
    if allowed == wanted:
        return options
    observe(Notice(f"{allowed} at once instead of {wanted}: the limit of open files is low (ulimit -n)"))
    return replace(options, limits=replace(options.limits, concurrency=allowed))


def sources(arguments: Iterable[str]) -> list[Source]:
    """Return what the words of a command line name: literal URLs, list files, ``-`` for standard input.

    Adjacent URLs are one source. Raises UsageError if a file cannot be read.
    """
    found: list[Source] = []
    urls: list[tuple[int, str]] = []
    for position, word in enumerate(arguments, start=1):
        if word.lower().startswith(("http://", "https://")):
            urls.append((position, word))
            continue
        if urls:
            found.append(ArgvSource(urls))
            urls = []
        check(word)
        found.append(TextSource(word))
    if urls:
        found.append(ArgvSource(urls))
    return found
