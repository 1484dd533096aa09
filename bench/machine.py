"""The machine and the programs that were measured, in words."""

import importlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

#: Where programs are looked for; servers stand where only root looks.
PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
_PROGRAMS: Final = (("nginx", "-v"), ("curl", "-V"), ("aria2c", "-v"), ("wget2", "--version"))


def describe() -> Iterator[tuple[str, str]]:
    """Pairs of a name and what there is of it: processor, cores, kernel, and a version for each program."""
    yield "processor", _processor()
    yield "cores", str(len(os.sched_getaffinity(0)))
    yield "kernel", f"{platform.system()} {platform.release()}"
    yield "python", platform.python_version()
    for package in ("fetcher", "aiohttp"):
        yield package, metadata.version(package)
    try:
        yield "pycurl", str(importlib.import_module("pycurl").version)
    except ImportError:
        yield "pycurl", "not installed"
    for program, option in _PROGRAMS:
        yield program, _version(program, option)


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _version(program: str, option: str) -> str:
    try:
        run = subprocess.run(
            [shutil.which(program, path=PATH) or program, option],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": PATH},
            timeout=10,
            check=False,
        )
    except FileNotFoundError:
        return "not installed"
    found = re.search(r"\d+\.\d+[.\d]*", run.stdout)
    return found[0] if found else run.stdout.strip()
