"""The site: bodies that are the same in every run, and the lists that name them."""

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.workloads import MIB, Workload

#: The folder of the bodies that the server makes up.
TINY: Final = "w5"
#: The lists of a single URL.
ONE: Final = "one"


@dataclass(frozen=True, slots=True)
class Body:
    """What a server sends for one URL."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Lists:
    """One list of URLs: a line each, and as a configuration that names a file for each, for curl."""

    urls: Path
    config: Path


def make_bodies(root: Path, workload: Workload) -> dict[str, Body]:
    """Write the bodies of ``workload`` to ``root/folder``, and say what they are, by file name.

    They do not compress, and no two are the same.
    """
    folder = root / workload.folder
    folder.mkdir(parents=True)
    dice = random.Random(workload.folder)
    return {
        name: _write(folder / name, dice.randint(*workload.sizes), dice)
        for name in (f"{workload.folder}-{number:06}.bin" for number in range(workload.count))
    }


def _write(path: Path, size: int, dice: random.Random) -> Body:
    # Large bodies are one random block, numbered, so that no block passes for another.
    block = dice.randbytes(min(size, MIB))
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for offset in range(0, size, MIB):
            piece = (offset.to_bytes(8, "big") + block[8:])[: size - offset]
            digest.update(piece)
            file.write(piece)
    return Body(path, size, digest.hexdigest())


def write_lists(folder: Path, name: str, urls: list[str]) -> Lists:
    """Write ``urls`` as both lists, ``name.txt`` and ``name.curl``; a file is called as the URL's last part."""
    lists = lists_at(folder, name)
    lists.urls.write_text("".join(f"{url}\n" for url in urls))
    lists.config.write_text("".join(f'url = "{url}"\noutput = "{url.rpartition("/")[2]}"\n' for url in urls))
    return lists


def lists_at(folder: Path, name: str) -> Lists:
    """Where both lists called ``name`` are."""
    return Lists(folder / f"{name}.txt", folder / f"{name}.curl")
