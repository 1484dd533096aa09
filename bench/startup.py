"""Start-up: how long the command takes before any work, beside an interpreter that does nothing."""

import shutil
import sys
from collections.abc import Sequence

from bench import goals
from bench.measure import Invocation, WrongRun, measure
from bench.peers import FETCHER, Contestant, Job, environment, in_one_process
from bench.samples import Sample, Samples
from bench.site import ONE, lists_at
from bench.turns import Arena
from bench.workloads import MIB, Workload


def start_often(
    arena: Arena, workload: Workload, contestants: Sequence[Contestant], times: int, samples: Samples
) -> None:
    """Start everything ``times`` times in turns: nothing, what prints a text, and ``get`` of the one URL."""
    for number in range(times):
        for name, command in _commands(arena, contestants):
            shutil.rmtree(arena.run, ignore_errors=True)
            arena.run.mkdir()
            run = measure(
                Invocation(
                    argv=command,
                    folder=arena.run,
                    out=arena.run / "out.txt",
                    err=arena.run / "err.txt",
                    environment=environment(arena.run),
                    limit=workload.limit,
                )
            )
            if run.status != 0:
                raise WrongRun(f"{name}: exit status {run.status}; {(arena.run / 'err.txt').read_text()[-500:]}")
            samples.add(
                Sample(
                    workload=workload.key,
                    name=name,
                    number=number,
                    wall=run.wall,
                    rate=1 / run.wall,
                    cpu=run.cpu * 1e6,
                    peak=run.peak / MIB,
                )
            )


def _commands(arena: Arena, contestants: Sequence[Contestant]) -> list[tuple[str, list[str]]]:
    job = Job(lists_at(arena.lists, ONE), 50, None, arena.run / "files")
    return [
        (goals.PASS, [sys.executable, "-c", "pass"]),
        (goals.VERSION, [*FETCHER, "--version"]),
        (goals.HELP, [*FETCHER, "--help"]),
        *((contestant.name, contestant.command(job)) for contestant in in_one_process(contestants)),
    ]
