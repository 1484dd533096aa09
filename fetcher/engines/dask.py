"""L3: a cluster of Dask's as a pool of machines, with the ``dask`` extra."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import orjson

from fetcher.clock import Clock
from fetcher.engines.chunk import Build, Chunk, fetch_chunk
from fetcher.engines.pool import State
from fetcher.errors import LocalError, UsageError, words_of
from fetcher.text import printable

if TYPE_CHECKING:
    from distributed import Client, Future

#: Seconds that the scheduler may take to answer, and its first worker to come.
_CONNECT: Final = 10.0
#: Seconds between two looks at which workers there are, and how many in a row may find none.
_LOOK: Final = 5.0
_LOOKS: Final = 6

_STATES: Final[dict[str | None, State]] = {"pending": State.OPEN, "finished": State.OVER, "error": State.FAILED}


def load() -> None:
    """Take the time to import it; raises UsageError where it is not installed."""
    try:
        import distributed  # noqa: F401, PLC0415  an extra
    except ImportError as error:
        raise UsageError("--engine dask needs distributed: pip install 'fetcher[dask]'") from error
    # Its messages go to standard error, where a run has its own; what counts is an exception too.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)


def scheduler_address(engine: str, *, encrypted: bool) -> str:
    """Return the address, with its protocol, in ``dask://HOST:PORT`` or in the file of ``dask:FILE``.

    ``encrypted`` if TLS is set up, without which there is no address beyond this machine: who speaks to a scheduler can
    have anything executed. Raises UsageError.
    """
    hint = "write dask://HOST:PORT, or dask:FILE with the file that a scheduler has written"
    kind, colon, rest = engine.partition(":")
    if kind != "dask" or not colon or not rest.strip("/"):
        raise UsageError(f'--engine "{printable(engine)}": {hint}')
    if rest.startswith("//"):
        address = ("tls:" if encrypted else "tcp:") + rest
    else:
        try:
            address = str(orjson.loads(Path(rest).read_bytes())["address"])
        except OSError as error:
            raise UsageError(f"--engine {printable(engine)}: {words_of(error)}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"--engine {printable(engine)}: the file is no scheduler's; {hint}") from error
    match = re.fullmatch(r"(tcp|tls)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})/?", address)
    if match is None:
        raise UsageError(f'--engine "{printable(engine)}": {hint}')
    if match[1] == "tcp" and not _is_loopback(match[2].strip("[]")):
        raise UsageError(
            f"--engine: {match[2]} is another machine, and anyone on the way could have anything executed: set up TLS, "
            "distributed.comm.tls in Dask's configuration"
        )
    return address.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@asynccontextmanager
async def connected(engine: str, build: Build, clock: Clock) -> AsyncIterator["DaskPool"]:
    """Connect to a scheduler, and yield its workers once there is one; raises UsageError if that cannot be."""
    import dask.config  # noqa: PLC0415  an extra
    from distributed import Client  # noqa: PLC0415

    tls = "distributed.comm.tls."
    address = scheduler_address(
        engine, encrypted=all(dask.config.get(tls + key, None) for key in ("ca-file", "client.cert", "client.key"))
    )
    client = Client(address, asynchronous=True, set_as_default=False, timeout=_CONNECT)
    try:
        threads = await _first_workers(client, address, clock)
    except BaseException:
        await _close(client)
        raise
    pool = DaskPool(client, address, build, threads)
    watching = asyncio.create_task(pool.watch(clock))
    try:
        yield pool
    finally:
        watching.cancel()
        await asyncio.wait((watching,))
        await _close(client)


async def _first_workers(client: "Client", address: str, clock: Clock) -> dict[str, int]:
    """Return how many threads each worker has, once there is one; raises UsageError."""
    what = "cannot be reached"
    try:
        await client
        what = "has no workers"
        async with asyncio.timeout(_CONNECT):
            while not (threads := await client.nthreads()):
                await clock.sleep(0.2)
    except (OSError, TimeoutError) as error:
        raise UsageError(f"--engine: the scheduler at {address} {what}") from error
    return dict(threads)


async def _close(client: "Client") -> None:
    with suppress(OSError, TimeoutError):
        await client.close()


class DaskPool:
    """The workers of one cluster, as they come and go; see :class:`fetcher.engines.pool.Pool`."""

    def __init__(self, client: "Client", address: str, build: Build, threads: dict[str, int]) -> None:
        self.scheduler = f"the scheduler at {address}"
        #: How many looks in a row have found no worker.
        self.empty = 0
        self._client = client
        self._build = build
        self._threads = threads
        self.load: Counter[str] = Counter()

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return len(self._threads)

    @property
    def threads(self) -> int:
        """How many chunks its workers have been started for, all together."""
        return sum(self._threads.values())

    async def watch(self, clock: Clock) -> NoReturn:
        """Learn now and then which workers there are."""
        while True:
            await clock.sleep(_LOOK)
            with suppress(OSError, TimeoutError):
                threads = await self._client.nthreads()
                self._threads = threads or self._threads
                self.empty = 0 if threads else self.empty + 1

    def submit(self, chunk: Chunk) -> "_DaskJob":
        """Have a chunk fetched by the worker with the least to do, or, if that is gone meanwhile, by another."""
        worker = min(self._threads, key=lambda each: self.load[each] / self._threads[each])
        self.load[worker] += 1
        future = self._client.submit(
            run_chunk,
            chunk,
            self._build,
            key=f"fetcher-{chunk.name}",
            pure=False,
            workers=[worker],
            allow_other_workers=True,
        )
        return _DaskJob(self, future, worker)


class _DaskJob:
    def __init__(self, pool: DaskPool, future: "Future[None]", worker: str) -> None:
        self._pool = pool
        self._future = future
        self._worker = worker
        self._released = False

    @property
    def state(self) -> State:
        """Released, it is none of the scheduler's business any more."""
        if self._released:
            return State.OPEN
        state = _STATES.get(self._future.status, State.LOST)
        return State.LOST if state is State.OPEN and self._pool.empty >= _LOOKS else state

    async def reason(self) -> str:
        """Return what its worker has said, or what is wrong with the cluster."""
        if self._future.status == "pending":
            return f"{self._pool.scheduler} has no workers any more"
        if self._future.status != "error":
            return f"{self._pool.scheduler} is gone"
        error: Any = await self._future.exception()
        return str(error) if isinstance(error, LocalError) else f"{type(error).__name__}: {error}"

    def release(self) -> None:
        """Dask forgets a task that nobody wants; it goes on, but finds that out."""
        if not self._released:
            self._released = True
            self._pool.load[self._worker] -= 1
            self._future.release()


def run_chunk(chunk: Chunk, build: Build) -> None:
    """Fetch a chunk in a worker, beside whatever else that does: a chunk waits most of the time."""
    from distributed import get_worker, secede  # noqa: PLC0415  an extra
    from distributed.core import Status  # noqa: PLC0415

    worker = get_worker()
    key = worker.get_current_task()
    secede()

    def gone() -> bool:
        """A task that nobody wants stays in its worker until it ends, as cancelled; so do all when the scheduler is gone."""
        task = worker.state.tasks.get(key)
        return task is None or task.state not in ("executing", "long-running") or worker.status != Status.running

    fetch_chunk(chunk, build, gone)
