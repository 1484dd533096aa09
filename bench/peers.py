"""The contestants: fetcher in its variants, curl, aria2 and wget2, each told to do the same and to say nothing."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.machine import PATH
from bench.site import Lists

SESSION: Final = "fetcher get"
WORKERS: Final = "fetcher get --workers 2"
CURL_TRANSPORT: Final = "fetcher get --transport curl"
CURL_WORKERS: Final = "fetcher get --transport curl --workers 2"
CURL: Final = "curl -Z"
ARIA2: Final = "aria2c"
WGET2: Final = "wget2"
FETCHER: Final = (sys.executable, "-m", "fetcher")
#: curl 7 and 8 take more on the command line, and use this.
CURL_MOST: Final = 300


@dataclass(frozen=True, slots=True)
class Job:
    """What to fetch, how many at once, the certificates to trust, and the folder for the files."""

    lists: Lists
    concurrency: int
    ca_file: Path | None
    files: Path


@dataclass(frozen=True, slots=True)
class Contestant:
    """Somebody who can do a job: the command for it, and for fetcher its ``options`` and that it writes records."""

    name: str
    argv: Callable[[Job], Sequence[str | Path]]
    records: bool = False
    options: tuple[str, ...] = ()
    terminal: bool = False

    def command(self, job: Job) -> list[str]:
        """The whole command for ``job``."""
        return [str(word) for word in self.argv(job)]


def environment(home: Path) -> dict[str, str]:
    """The environment of every contestant: no proxies, no configuration but the system's."""
    return {
        "PATH": PATH,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PYTHONSAFEPATH": "1",
        "TERM": "xterm-256color",
    }


def fetcher(*options: str, terminal: bool = False) -> Contestant:
    """``fetcher get`` with ``options``; without any about progress it shows none."""
    shown = () if "--progress" in options else ("--progress", "off")

    def argv(job: Job) -> Sequence[str | Path]:
        trust = ("--ca-file", job.ca_file) if job.ca_file else ()
        common = ("-o", job.files, "-c", str(job.concurrency), "--json")
        return (*FETCHER, "get", job.lists.urls, *common, *options, *shown, *trust)

    return Contestant(" ".join((SESSION, *options)), argv, records=True, options=options, terminal=terminal)


def in_one_process(contestants: Iterable[Contestant]) -> list[Contestant]:
    """The variants of fetcher that have no workers."""
    return [contestant for contestant in contestants if contestant.records and "--workers" not in contestant.options]


def _curl(job: Job) -> Sequence[str | Path]:
    trust = ("--cacert", job.ca_file) if job.ca_file else ()
    return ("curl", "-q", "-sS", "-Z", "--parallel-max", str(job.concurrency), *trust, "-K", job.lists.config)


def _aria2(job: Job) -> Sequence[str | Path]:
    trust = (f"--ca-certificate={job.ca_file}",) if job.ca_file else ()
    return (
        *("aria2c", "--no-conf", "-q", "--show-console-readout=false", "--summary-interval=0", "-n"),
        *("--download-result=hide", "--file-allocation=none", "--allow-overwrite=true", "--auto-file-renaming=false"),
        *("--deferred-input=true", "--follow-torrent=false", "--follow-metalink=false", "--remote-time=false"),
        *(f"-j{job.concurrency}", "-x1", "-s1", "-d", job.files, *trust, "-i", job.lists.urls),
    )


def _wget2(job: Job) -> Sequence[str | Path]:
    trust = (f"--ca-certificate={job.ca_file}",) if job.ca_file else ()
    return (
        *("wget2", "-q", "--progress=none", "--no-robots", "--no-hsts", "--no-hpkp", "--no-ocsp", "--no-netrc"),
        *("--no-cookies", "--no-compression", "--no-metalink", "--no-xattr", "--no-use-server-timestamps"),
        *(f"--max-threads={job.concurrency}", "-P", job.files, *trust, "-i", job.lists.urls),
    )


_PEERS: Final = (Contestant(CURL, _curl), Contestant(ARIA2, _aria2), Contestant(WGET2, _wget2))
_VARIANTS: Final = (("--workers", "2"), ("--transport", "curl"), ("--transport", "curl", "--workers", "2"))


def present(trial: Job, home: Path) -> tuple[list[Contestant], dict[str, str]]:
    """Those who can take part, and why the others cannot.

    A variant of fetcher can when it knows the options and fetches ``trial``, a job of one URL.
    """
    usage = subprocess.run([*FETCHER, "get", "--help"], capture_output=True, text=True, check=True, timeout=30).stdout
    able, absent = [fetcher()], dict[str, str]()
    for options in _VARIANTS:
        variant = fetcher(*options)
        unknown = [option for option in options if option.startswith("--") and option not in usage]
        fault = f"there is no option {unknown[0]}" if unknown else _fault(variant, trial, environment(home))
        if fault:
            absent[variant.name] = fault
        else:
            able.append(variant)
    for peer in _PEERS:
        program = peer.command(trial)[0]
        if shutil.which(program, path=PATH):
            able.append(peer)
        else:
            absent[peer.name] = f"{program} is not installed"
    return able, absent


def _fault(variant: Contestant, trial: Job, surroundings: Mapping[str, str]) -> str | None:
    """Why a variant does not fetch ``trial``, in a line; None when it does."""
    folder = trial.files / variant.name.replace(" ", "")
    try:
        run = subprocess.run(
            variant.command(replace(trial, files=folder)),
            capture_output=True,
            text=True,
            timeout=30,
            env=surroundings,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "does not end"
    lines = run.stderr.strip().splitlines()
    return None if run.returncode == 0 else (lines[-1] if lines else f"exit status {run.returncode}")
