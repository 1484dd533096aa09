"""Contestants in turns over one workload: each once a round, on an empty folder, checked after every run."""

import http.client
import shutil
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from bench import goals, verdict
from bench.delay import delaying
from bench.measure import Invocation, Run, WrongRun, measure
from bench.nginx import HOSTS, Nginx
from bench.peers import CURL, CURL_MOST, Contestant, Job, environment, fetcher, in_one_process
from bench.samples import Sample
from bench.site import TINY, Body, Lists, make_bodies, write_lists
from bench.workloads import MIB, Workload

_INTERRUPT_AFTER: Final = 4.0
_WARM: Final = 2000
_INTERRUPTED: Final = 130  # fetcher's exit status then


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the results: who runs, on which lists."""

    name: str
    contestant: Contestant
    lists: Lists


@dataclass(frozen=True, slots=True)
class Arena:
    """Where all happens: a folder with the site, one for the lists, one for the run, and the server."""

    root: Path
    nginx: Nginx

    @property
    def site(self) -> Path:
        """What the servers serve."""
        return site_of(self.root)

    @property
    def lists(self) -> Path:
        """All lists of URLs."""
        return self.root / "lists"

    @property
    def run(self) -> Path:
        """All that one run writes; it is gone before the next."""
        return self.root / "run"


def site_of(root: Path) -> Path:
    """The folder that the server of an arena at ``root`` serves."""
    return root / "site"


class Ground:
    """Prepares workloads, and makes the bodies of each folder once."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._made: dict[str, dict[str, Body]] = {}

    def bodies(self, workload: Workload) -> dict[str, Body]:
        """The bodies of a workload; none for the one that is interrupted, whose server makes them up."""
        if workload.interrupted:
            return {}
        if workload.folder not in self._made:
            self._made[workload.folder] = make_bodies(self._arena.site, workload)
        return self._made[workload.folder]

    @contextmanager
    def entries(self, workload: Workload, contestants: Sequence[Contestant]) -> Iterator[list[Entry]]:
        """Who takes part with which lists, while the server that they need runs."""
        arena, nginx = self._arena, self._arena.nginx
        names = list(self.bodies(workload))
        with delaying(arena.site / workload.folder) if workload.delayed else nullcontext(0) as port:
            if workload.interrupted:
                urls = [nginx.url(f"{TINY}/{number:07}.bin") for number in range(workload.count)]
            elif workload.delayed:
                urls = [f"http://127.0.0.1:{port}/{workload.folder}/{name}" for name in names]
            else:
                urls = [nginx.url(f"{workload.folder}/{name}", tls=workload.tls) for name in names]
                _warm(nginx, workload, names[:_WARM])
            if workload.key == "W7":
                yield self._spread(workload, contestants, names)
                return
            lists = write_lists(arena.lists, workload.key, urls)
            if workload.key == "live":
                yield _displayed(lists, contestants)
            else:
                yield [Entry(contestant.name, contestant, lists) for contestant in contestants]
            lists.urls.unlink()
            lists.config.unlink()

    def _spread(self, workload: Workload, contestants: Sequence[Contestant], names: Sequence[str]) -> list[Entry]:
        share = -(-len(names) // len(HOSTS))
        urls = [
            self._arena.nginx.url(f"{workload.folder}/{name}", host=HOSTS[place // share])
            for place, name in enumerate(names)
        ]
        by_host = write_lists(self._arena.lists, "by-host", urls)
        Random(workload.key).shuffle(urls)
        shuffled = write_lists(self._arena.lists, "shuffled", urls)
        return [
            Entry(contestant.name + order, contestant, lists)
            for contestant in in_one_process(contestants)
            for order, lists in ((goals.SHUFFLED, shuffled), (goals.BY_HOST, by_host))
        ]


def _displayed(lists: Lists, contestants: Sequence[Contestant]) -> list[Entry]:
    """The same without progress and with live progress on a terminal."""
    entries = []
    for contestant in in_one_process(contestants):
        live = fetcher(*contestant.options, "--progress", "live", terminal=True)
        entries += [
            Entry(contestant.name + goals.OFF, contestant, lists),
            Entry(contestant.name + goals.LIVE, live, lists),
        ]
    return entries


def _warm(nginx: Nginx, workload: Workload, names: Sequence[str]) -> None:
    """Ask the server for the first bodies' heads, so that nobody is the first."""
    connection = (
        http.client.HTTPSConnection(
            "127.0.0.1", nginx.tls, timeout=30, context=ssl.create_default_context(cafile=nginx.ca_file)
        )
        if workload.tls
        else http.client.HTTPConnection("127.0.0.1", nginx.plain, timeout=30)
    )
    for name in names:
        connection.request("HEAD", f"/{workload.folder}/{name}")
        if connection.getresponse().read():
            raise WrongRun(f"the server answers HEAD for {name} with a body")
    connection.close()


def take_turns(
    arena: Arena, workload: Workload, entries: Sequence[Entry], bodies: dict[str, Body], number: int
) -> Iterator[Sample]:
    """Run every entry once, in an order that moves on with the round's ``number``; raises WrongRun."""
    for place in range(len(entries)):
        entry = entries[(place + number) % len(entries)]
        try:
            yield _run(arena, workload, entry, bodies, number)
        except WrongRun as error:
            raise WrongRun(f"{workload.key}, {entry.name}: {error}") from error


def _run(arena: Arena, workload: Workload, entry: Entry, bodies: dict[str, Body], number: int) -> Sample:
    shutil.rmtree(arena.run, ignore_errors=True)
    files = arena.run / "files"
    files.mkdir(parents=True)
    concurrency = min(workload.concurrency, CURL_MOST) if entry.name == CURL else workload.concurrency
    job = Job(entry.lists, concurrency, arena.nginx.ca_file if workload.tls else None, files)
    invocation = Invocation(
        argv=entry.contestant.command(job),
        folder=files,
        out=arena.run / "records.ndjson",
        err=arena.run / "messages.txt",
        environment=environment(arena.run),
        limit=workload.limit,
        terminal=entry.contestant.terminal,
        interrupt_after=_INTERRUPT_AFTER if workload.interrupted else None,
    )
    offset = arena.nginx.log.stat().st_size if workload.interrupted else 0
    run = measure(invocation)
    first = None
    if workload.interrupted:
        count, rate, first = _interrupted(arena.nginx.log, offset, invocation, run, entry.contestant)
    else:
        _check(invocation, run, bodies, records=entry.contestant.records)
        count = len(bodies)
        rate = (sum(body.size for body in bodies.values()) / 1e6 if workload.megabytes else count) / run.wall
    shutil.rmtree(arena.run)
    return Sample(
        workload=workload.key,
        name=entry.name,
        number=number,
        wall=run.wall,
        rate=rate,
        cpu=run.cpu / count * 1e6,
        peak=run.peak / MIB,
        first=first,
        stopping=run.stopping,
        excess=run.wall / workload.ideal if workload.ideal else None,
    )


def _check(invocation: Invocation, run: Run, bodies: dict[str, Body], *, records: bool) -> None:
    if run.status != 0:
        raise WrongRun(f"exit status {run.status}; {invocation.err.read_text(errors='replace')[-500:]}")
    if records:
        verdict.check_records(invocation.out, invocation.folder, bodies)
    else:
        verdict.check_files(invocation.folder, bodies)


def _interrupted(
    log: Path, offset: int, invocation: Invocation, run: Run, contestant: Contestant
) -> tuple[int, float, float]:
    """What the server's log says of a run that was stopped: answers, the rate of them, seconds to the first.

    The rate is from the first answer to SIGINT. Raises WrongRun also when there was no answer by then.
    """
    with log.open("rb") as file:
        file.seek(offset)
        times = [float(line) for line in file]
    if run.interrupted is None:
        raise WrongRun("ended before it was interrupted")
    before = sum(time <= run.interrupted for time in times)
    if not before:
        raise WrongRun("sent no request before it was interrupted")
    if contestant.records:
        if run.status != _INTERRUPTED:
            raise WrongRun(f"exit status {run.status} after SIGINT")
        verdict.check_interrupted(invocation.out, invocation.folder, answered=len(times))
    else:
        verdict.check_interrupted_files(invocation.folder, answered=before)
    # The log's clock stands still within one turn of the server's loop, so the first may seem to come too early.
    return len(times), before / (run.interrupted - times[0]), max(times[0] - run.began, 0.0)
