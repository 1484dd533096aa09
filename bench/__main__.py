"""``python -m bench``: run the benchmarks, print their tables, and write bench/RESULTS.md."""

import argparse
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import goals, machine, report, table
from bench.measure import WrongRun
from bench.nginx import ServerError, serving
from bench.peers import Contestant, Job, present
from bench.samples import Samples
from bench.site import ONE, write_lists
from bench.startup import start_often
from bench.turns import Arena, Ground, site_of, take_turns
from bench.workloads import Workload, chosen

RESULTS: Final = Path(__file__).parent / "RESULTS.md"
_MEMORY: Final = Path("/dev/shm")
_GIB: Final = 2**30
#: A start takes so little that each round has several.
_STARTS: Final = 6


def main() -> int:
    """Run what the command line asks for: 0 when all runs were right, 1 when one was wrong, 2 when none can be.

    130 and 143 when it is stopped by SIGINT or SIGTERM.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure fetcher beside curl, aria2 and wget2."
    )
    parser.add_argument("--quick", action="store_true", help="fewer and smaller workloads; writes no report")
    parser.add_argument("--only", metavar="W1,W6", help="these workloads; writes no report")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often everybody runs (3; quick: 2)")
    given = parser.parse_args()
    rounds: int = given.rounds or (2 if given.quick else 3)
    try:
        workloads = chosen(given.only, quick=given.quick)
    except ValueError as error:
        parser.error(str(error))
    _prepare_process()
    try:
        text = _bench(workloads, rounds, quick=given.quick)
    except (ServerError, NoRoom) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except WrongRun as error:
        print(f"WRONG RUN: {error}", file=sys.stderr)
        return 1
    if given.only is None and not given.quick:
        report.write(RESULTS, text)
    print(text)
    return 0


class NoRoom(Exception):  # noqa: N818 - a word for it, as in "no room"
    """Neither memory nor the temporary folder has room for the site and its copies."""


def _prepare_process() -> None:
    # Children get what this process has: Ctrl-C must not be ignored, and 1000 connections need descriptors.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _bench(workloads: Sequence[Workload], rounds: int, *, quick: bool) -> str:
    """Run ``workloads``; the text of the report, which judges no goals when they are ``quick``. Whatever happens, no process and no file of it stays."""
    load = " ".join(f"{average:.2f}" for average in os.getloadavg())
    facts = [("date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"), *machine.describe(), ("load average at start", load)]
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=_folder(workloads))))
        arena = Arena(root, stack.enter_context(serving(site_of(root), root / "nginx")))
        arena.site.mkdir()
        arena.lists.mkdir()
        able, absent = _present(arena)
        print(f"taking part: {', '.join(contestant.name for contestant in able)}", file=sys.stderr)
        for name, reason in absent.items():
            print(f"left out: {name}, {reason}", file=sys.stderr)
        samples, ground, tables = Samples(), Ground(arena), []
        for workload in workloads:
            _measure(arena, ground, workload, able, rounds, samples)
            tables.append((f"{workload.key}: {workload.title}", table.results(workload, samples)))
    if not quick:
        tables.append(("Goals", goals.judge(samples)))
    return report.compose(report.preface(facts, absent, rounds), tables)


def _folder(workloads: Sequence[Workload]) -> Path | None:
    """Where site and copies go: memory if there is room, else the temporary folder (None). Raises NoRoom."""
    needed = max(max(workload.count * workload.sizes[1] for workload in workloads) * 5 // 2, _GIB)
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > needed:
        return _MEMORY
    if shutil.disk_usage(tempfile.gettempdir()).free > needed:
        return None
    raise NoRoom(f"{needed / _GIB:.1f} GiB are needed, in /dev/shm or the temporary folder")


def _present(arena: Arena) -> tuple[list[Contestant], dict[str, str]]:
    """The contestants, tried on one small URL."""
    (arena.site / "one.bin").write_bytes(b"one\n")
    lists = write_lists(arena.lists, ONE, [arena.nginx.url("one.bin")])
    arena.run.mkdir()
    return present(Job(lists, 50, None, arena.run), arena.run)


def _measure(
    arena: Arena, ground: Ground, workload: Workload, able: Sequence[Contestant], rounds: int, samples: Samples
) -> None:
    """Run one workload in all its rounds, and say meanwhile how each run went."""
    if workload.key == "start":
        start_often(arena, workload, able, rounds * _STARTS, samples)
        return
    bodies = ground.bodies(workload)
    with ground.entries(workload, able) as entries:
        for number in range(rounds):
            for sample in take_turns(arena, workload, entries, bodies, number):
                samples.add(sample)
                print(f"{workload.key} {number + 1}/{rounds} {sample.name}: {sample.wall:.2f} s", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
