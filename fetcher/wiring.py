"""L3: options become objects; the one place that names concrete classes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from os import getpid
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from fetcher import __version__
from fetcher.atomic import whole
from fetcher.clock import Clock, SystemClock, entropy
from fetcher.cookiefile import Shelf
from fetcher.descriptors import allow
from fetcher.disk import Disk
from fetcher.engines.inline import Inline
from fetcher.errors import LocalError, UsageError, words_of
from fetcher.events import Counters, Notice, Observer, RecordWriter, Waiting
from fetcher.fetch import Fetch
from fetcher.hosts import Hosts
from fetcher.identity import Identity
from fetcher.journal import Journal, partial_in
from fetcher.lanes import Lanes, abroad, keeps, share, worker_count
from fetcher.lock import Patience
from fetcher.logins import Logins
from fetcher.model import timestamp
from fetcher.naming import PARTS, STATE_DIRECTORY, Template
from fetcher.options import Carrier, Format, HostOptions, Limits, Options, Output, Timeouts, Tls
from fetcher.replay import JOURNAL
from fetcher.robots import Gate, product_token
from fetcher.run import Parts, Run
from fetcher.sinks.base import Adopter, NameGiver, Sink
from fetcher.sinks.files import FilesSink, Naming
from fetcher.sinks.formats import archive, finished, mend_all
from fetcher.sinks.null import NullSink
from fetcher.sinks.partial import Partials
from fetcher.sinks.shards import Rotation, ShardsSink
from fetcher.sinks.small import NEVER, SmallBodies
from fetcher.transport.base import Reach, Transport
from fetcher.transport.proxies import Proxies

if TYPE_CHECKING:
    from fetcher.engines.base import Engine
    from fetcher.engines.chunk import Chunk
    from fetcher.engines.cluster import Cluster
    from fetcher.engines.processes import Processes
    from fetcher.engines.spool import Space
    from fetcher.engines.worker import Assignment, Desk
    from fetcher.sinks.store import ObjectStore
    from fetcher.visits import Visits

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

    Raises UsageError for a bad name template or pattern of hosts, LocalError if the directory cannot be used, BusyError
    if it is in use.
    """
    template = Template.parse(options.output.name)
    Hosts(options.hosts)
    options = _affordable(options, ears.observe)
    prepare(options)
    if options.block_private and Proxies(options.proxy).used:
        raise UsageError("--block-private cannot see where a proxy connects to; say --proxy '' to go without one")
    workers = worker_count(options, options.workers)
    naming = Naming(template, timestamp(ears.clock.now())[:10])
    async with AsyncExitStack() as stack:
        disk = stack.enter_context(Disk())
        journal: Journal | None = None
        sink: Sink = NullSink()
        if options.output.save:
            directory = options.output.directory
            patience = Patience(options.output.wait, ears.clock, lambda message: ears.observe(Waiting(message)))
            writable = not options.dry_run
            objects = _objects(options.output)
            there = None if objects is None else objects.has
            journal = Journal(
                directory, disk.executor, naming.remember, writable=writable, patience=patience, there=there
            )
            if objects is not None and writable:
                stack.push_async_callback(_copy, objects, directory)
            await stack.enter_async_context(journal)
            for notice in journal.notices:
                ears.observe(Notice(notice))
            if not options.dry_run:
                await _mend(directory, disk, objects)
                # What workers leave that die, and the last archives on their way to a store.
                stack.push_async_callback(_mend, directory, disk, objects)
                place = _Place(options.output, Partials(journal.partial), naming, disk, ears.clock, objects=objects)
                sink = await stack.enter_async_context(_stored(place))
                if isinstance(sink, FilesSink):
                    await sink.take_up()
                if isinstance(sink, Adopter):
                    await _take_over(options.output, sink, journal, ears.observe)
        named = options.output.save and options.output.format is Format.FILES
        engine: Engine
        if options.engine is not None and isinstance(sink, Adopter):
            engine = await stack.enter_async_context(_cluster(options, options.engine, sink, ears))
        elif workers > 1 and not options.dry_run:
            engine = _processes(options, workers, naming, ears)
        else:
            engine = await stack.enter_async_context(_inline(options, sink, ears))
        parts = Parts(
            engine=engine,
            memory=journal,
            writers=([] if journal is None or options.dry_run else [journal]) + list(ears.writers),
            clock=ears.clock,
            counters=ears.counters,
            observe=ears.observe,
            preview=naming.foresee if named else lambda _: None,
        )
        yield Run(options, parts)


@dataclass(frozen=True, slots=True)
class _Place:
    """What bodies are kept with, in process ``number`` of so many ``processes``."""

    output: Output
    partials: Partials
    naming: NameGiver
    disk: Disk
    clock: Clock
    number: int = 0
    processes: int = 1
    objects: "ObjectStore | None" = None


@asynccontextmanager
async def _stored(place: _Place) -> AsyncIterator[Sink]:
    """Open the sink of the format."""
    output = place.output
    if output.format is Format.FILES and place.objects is not None:
        from fetcher.sinks.objects import ObjectsSink  # noqa: PLC0415

        yield ObjectsSink(place.objects, partial_in(output.directory), place.naming, place.disk)
        return
    if output.format is Format.FILES:
        # With workers every processor has enough to do.
        after = None if place.processes == 1 else NEVER
        async with SmallBodies(output.directory, place.disk, after) as small:
            yield FilesSink(output.directory, place.partials, place.naming, place.disk, small)
        return
    rotation = Rotation(size=output.rotate, count=output.rotate_count, first=place.number + 1, step=place.processes)
    form, disk = archive(output.format), place.disk
    async with ShardsSink(output.directory, form, rotation, disk, place.clock, place.objects) as sink:
        yield sink


def _objects(output: Output) -> "ObjectStore | None":
    """Return the store that bodies go to, if they go to one; raises UsageError."""
    if output.store is None or not output.save:
        return None
    from fetcher.sinks.store import ObjectStore  # noqa: PLC0415

    return ObjectStore(output.store)


async def _copy(objects: "ObjectStore", directory: Path) -> None:
    """Put the run's state beside its bodies, as far as there is some; raises LocalError."""
    for name in (JOURNAL, f"{STATE_DIRECTORY}/last-run.json"):
        if (directory / name).exists():
            await objects.copy(directory / name, name)


async def _mend(directory: Path, disk: Disk, objects: "ObjectStore | None") -> None:
    """Finish the archives of processes that have died, and send all that are for a store; raises LocalError."""
    try:
        await whole(disk.run(mend_all, directory))
        if objects is not None:
            for path in await disk.run(finished, directory):
                await objects.send(path)
    except OSError as error:
        raise LocalError(f"cannot finish {error.filename or directory}: {words_of(error, str(error))}") from error


async def _take_over(output: Output, sink: Adopter, journal: Journal, observe: Observer) -> None:
    """Take what a cluster has fetched for a run that died; raises LocalError."""
    if output.store is None and not (output.directory / PARTS).is_dir():
        return
    from fetcher.engines.salvage import salvage  # noqa: PLC0415  most runs need none

    found = await salvage(_space(output), sink, journal, sink.disk)
    if found:
        observe(Waiting(f"{found:,} files of a run that was cut off taken over"))


def prepare(options: Options) -> None:
    """Import what a run with these options needs, which takes its time, so let no loop wait for it.

    Raises UsageError if an optional part is missing.
    """
    maker(options)
    if options.engine is not None:
        from fetcher.engines.dask import load, scheduler_address  # noqa: PLC0415  most runs need none

        scheduler_address(options.engine, encrypted=True)
        if options.output.store is not None and Template.parse(options.output.name).needs_body:
            raise UsageError("--name: with --engine, an object cannot be called by its own hash; {urlhash} can be had")
        load()
    if options.output.save and options.output.format is not Format.FILES:
        archive(options.output.format)
    _objects(options.output)


class Maker(Protocol):
    """Makes a transport that is not open yet."""

    def __call__(self, timeouts: Timeouts, tls: Tls, proxies: Proxies, clock: Clock, reach: Reach) -> Transport:
        """Return it."""
        ...


def maker(options: Options) -> Maker:
    """Return what makes this kind of transport; raises UsageError if an optional part is missing."""
    if options.transport is Carrier.CURL:
        from fetcher.transport.curl import CurlTransport  # noqa: PLC0415
        from fetcher.transport.curl_options import load  # noqa: PLC0415

        load(options.wire)
        return partial(CurlTransport, wire=options.wire)
    from fetcher.transport.session import SessionTransport  # noqa: PLC0415

    if Proxies(options.proxy).socks:
        from fetcher.transport import socks  # noqa: PLC0415

        socks.load()
    return SessionTransport


@asynccontextmanager
async def fetching(options: Options, sink: Sink, clock: Clock, visits: "Visits | None" = None) -> AsyncIterator[Fetch]:
    """Open the transport and yield what makes attempts over it."""
    reach = Reach(connections=options.limits.concurrency, block_private=options.block_private)
    make = maker(options)
    async with make(options.timeouts, options.tls, Proxies(options.proxy), clock, reach) as transport:
        agent = options.user_agent or USER_AGENT
        if options.contact is not None:
            agent = f"{agent} (+{options.contact})"
        access = options.access
        logins, shelf = Logins(access, entropy()), Shelf(access.cookies)
        identity = Identity(agent, options.headers, Hosts(options.hosts), logins, shelf)
        gate = Gate(product_token(identity.agent), options.retries.max_wait) if options.limits.robots else None
        fetch = Fetch(transport, sink, identity, options.limits, clock, gate)
        fetch.visits = visits
        yield fetch


def _visits(options: Options, clock: Clock, *, shared: bool) -> "Visits | None":
    """Return who keeps the hosts that redirects lead to within these limits, if they have any."""
    limits: tuple[Limits | HostOptions, ...] = (options.limits, *options.hosts)
    if all(each.per_host is None and each.host_rate is None for each in limits):
        return None
    from fetcher.chunks import paces  # noqa: PLC0415  most runs need none
    from fetcher.visits import Visits  # noqa: PLC0415

    return Visits(paces(options), clock, shared=shared)


@asynccontextmanager
async def _inline(options: Options, sink: Sink, ears: Ears) -> AsyncIterator[Inline]:
    """Open all that fetching in this process needs."""
    visits = _visits(options, ears.clock, shared=False)
    async with fetching(options, sink, ears.clock, visits) as fetch:
        yield Inline(options, fetch, ears.clock, ears.counters, ears.observe)


def _processes(options: Options, workers: int, naming: Naming, ears: Ears) -> "Processes":
    """Return the engine that has so many workers."""
    from fetcher.engines.processes import Crew, Processes  # noqa: PLC0415  most runs need none
    from fetcher.engines.worker import Assignment  # noqa: PLC0415
    from fetcher.transport.tls import tls_context  # noqa: PLC0415

    if options.tls.has_files:
        tls_context(options.tls, own_origin=True)  # to fail before there are any
    visiting = abroad(options, workers)
    shares = [share(options, workers, number) for number in range(workers)]
    assignments = [Assignment(number, own, visiting, naming.needs_body) for number, own in enumerate(shares)]
    lanes = Lanes(workers, keeps(options, workers))
    return Processes(Crew(assignments, lanes, _worker_engine), naming, ears.clock, ears.counters, ears.observe)


@asynccontextmanager
async def _cluster(options: Options, engine: str, sink: Adopter, ears: Ears) -> AsyncIterator["Cluster"]:
    """Connect to the engine that has other machines."""
    from fetcher.engines.cluster import Cluster, Site  # noqa: PLC0415  most runs need none
    from fetcher.engines.dask import connected  # noqa: PLC0415
    from fetcher.engines.salvage import run_name  # noqa: PLC0415
    from fetcher.transport.tls import tls_context  # noqa: PLC0415

    output = replace(options.output, directory=options.output.directory.resolve())
    space, name = (
        _space(output),
        run_name(f"{int(1000 * ears.clock.now()):x}-{getpid()}", commanded=bool(options.command)),
    )
    if options.tls.has_files:
        tls_context(options.tls, own_origin=True)  # to fail before anybody works
    try:
        await sink.disk.run(space.begin, name)
    except OSError as error:
        raise LocalError(f"cannot use {error.filename or space}: {words_of(error, str(error))}") from error
    async with connected(engine, chunk_engine, ears.clock) as pool:
        count = worker_count(options, options.workers if options.workers > 1 else pool.threads)
        own = replace(options, output=output, tls=_absolute(options.tls))
        shares = [share(own, count, number) for number in range(count)]
        ears.observe(Waiting(f"{count} lanes on {pool.workers} workers of {pool.scheduler}"))
        lanes = Lanes(count, keeps(options, count))
        site = Site(shares, abroad(options, count), lanes, sink, sink.disk, space, name)
        cluster = Cluster(pool, site, ears.clock, ears.counters, ears.observe)
        try:
            yield cluster
        finally:
            if not cluster.lost:
                await sink.disk.run(space.clear)


def _space(output: Output) -> "Space":
    """Return where machines leave each other what they have."""
    from fetcher.sinks.shared import SharedFolder, SharedStore  # noqa: PLC0415  most runs need none

    return SharedFolder(output.directory) if output.store is None else SharedStore(output.store)


def _absolute(tls: Tls) -> Tls:
    """Return the same files for those who work in other directories."""
    ca_file, cert, key = (path and path.resolve() for path in (tls.ca_file, tls.cert, tls.key))
    return replace(tls, ca_file=ca_file, cert=cert, key=key)


@asynccontextmanager
async def chunk_engine(chunk: "Chunk", desk: "Desk", counters: Counters, clock: Clock) -> AsyncIterator[Inline]:
    """Open, on another machine, all that a chunk needs."""
    from fetcher.engines.chunk import Aside  # noqa: PLC0415  all of it is loaded by then

    options = _affordable(chunk.options, desk.observe)
    partials = Partials(partial_in(options.output.directory), f"{chunk.name.replace('/', '-')}-")
    async with AsyncExitStack() as stack:
        disk = stack.enter_context(Disk())
        objects = _objects(options.output)
        if objects is None:
            await disk.run(partials.look)
        place = _Place(
            options.output, partials, Aside(chunk.bodies, desk.lay), disk, clock, processes=2, objects=objects
        )
        sink = await stack.enter_async_context(_stored(place))
        visits = _visits(chunk.abroad, clock, shared=True)
        fetch = await stack.enter_async_context(fetching(options, sink, clock, visits))
        yield Inline(options, fetch, clock, counters, desk.observe)


@asynccontextmanager
async def _worker_engine(assignment: "Assignment", desk: "Desk", counters: Counters) -> AsyncIterator[Inline]:
    """Open, in a worker, all that its share of the requests needs."""
    options = _affordable(assignment.options, desk.observe)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        sink: Sink = NullSink()
        if options.output.save:
            partials = Partials(partial_in(options.output.directory), f"{assignment.number}-")
            disk = stack.enter_context(Disk())
            await disk.run(partials.look)
            place = _Place(
                *(options.output, partials, desk, disk, clock, assignment.number, options.workers),
                objects=_objects(options.output),
            )
            sink = await stack.enter_async_context(_stored(place))
        visits = _visits(assignment.abroad, clock, shared=True)
        fetch = await stack.enter_async_context(fetching(options, sink, clock, visits))
        yield Inline(options, fetch, clock, counters, desk.observe)


def _affordable(options: Options, observe: Observer) -> Options:
    """Return the options with as many requests at once as this process may have files open for."""
    wanted = options.limits.concurrency
    allowed = allow(wanted)
    if allowed == wanted:
        return options
    observe(Notice(f"{allowed} at once instead of {wanted}: the limit of open files is low (ulimit -n)"))
    return replace(options, limits=replace(options.limits, concurrency=allowed))
