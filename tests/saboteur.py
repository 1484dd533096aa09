"""A disk that fails, or a process that dies, at the N-th thing that is done below one directory.

In the manner of SQLite's crash tests and of curl's torture mode: for every N, until a run comes through untouched.
"""

import builtins
import errno
import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, Final, NoReturn

import aiofiles.threadpool

from tests.command import Ran
from tests.server import Scope

#: What can go wrong, and with which things that are done to a disk.
_VULNERABLE: Final = {
    "full": {"create", "write", "replace", "mkdir"},  # from then on; of the first block half fits
    "descriptors": {"create", "open", "scandir"},  # EMFILE, once
    "broken": {"create", "open", "scandir", "write", "replace", "mkdir", "unlink", "ftruncate", "fsync", "pread"},
}
_VULNERABLE["kill"] = _VULNERABLE["broken"]  # SIGKILL, before the thing is done; amid a block
_ERRORS: Final = {"full": errno.ENOSPC, "descriptors": errno.EMFILE, "broken": errno.EIO}


class Saboteur:
    """Counts what can fail below ``root``, from 1, and does ``harm`` at number ``at``; then it has ``struck``."""

    def __init__(self, root: Path, harm: str, at: int) -> None:
        self.struck = False
        self._root = str(root.resolve())
        self._harm = harm
        self._at = at
        self._count = 0
        self._lock = Lock()

    def minds(self, target: Any) -> bool:
        """Tell whether a path or a descriptor is that of the root, or of something below it."""
        name = f"/proc/self/fd/{target}" if isinstance(target, int) else target
        path = os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name))  # noqa: PTH118, PTH119, PTH120
        path = os.readlink(path) if isinstance(target, int) else path  # noqa: PTH115
        return path == self._root or path.startswith(f"{self._root}/")

    def strike(self, kind: str) -> None:
        """Count one thing; raises OSError, or ends the process, if its time has come."""
        if self._is_due(kind):
            self._fail()

    def write(self, real: Callable[[Any], int], block: Any) -> int:
        """Write a block, half of it, or nothing."""
        before = self.struck
        if not self._is_due("write"):
            return real(block)
        half = memoryview(block)[: len(block) // 2]
        if self._harm in ("full", "kill") and not before and half:
            written = real(half)
            if self._harm == "full":
                return written
        return self._fail()

    def _is_due(self, kind: str) -> bool:
        with self._lock:
            if kind not in _VULNERABLE[self._harm]:
                return False
            self._count += 1
            due = self._count == self._at or (self._harm == "full" and self.struck)
            self.struck = self.struck or due
            return due

    def _fail(self) -> NoReturn:
        if self._harm == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = _ERRORS[self._harm]
        raise OSError(number, os.strerror(number))


class _File(io.FileIO):
    """A file that ``open`` has opened for writing."""

    saboteur: Saboteur

    def write(self, block: Any, /) -> int:
        return self.saboteur.write(super().write, block)


def _guarded(saboteur: Saboteur, name: str) -> Callable[..., Any]:
    real = getattr(os, name)

    def call(target: Any, *args: Any, **named: Any) -> Any:
        if saboteur.minds(target):
            creates = name == "open" and args[0] & (os.O_WRONLY | os.O_RDWR)
            saboteur.strike("create" if creates else name)
        return real(target, *args, **named)

    return call


def _writing(saboteur: Saboteur) -> Callable[..., Any]:
    real = os.write

    def write(descriptor: int, block: Any) -> int:
        if not saboteur.minds(descriptor):
            return real(descriptor, block)
        return saboteur.write(lambda part: real(descriptor, part), block)

    return write


def _opening(saboteur: Saboteur) -> Callable[..., Any]:
    real = builtins.open

    def opened(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **named: Any) -> Any:
        if isinstance(file, int) or not saboteur.minds(file):
            return real(file, mode, buffering, *args, **named)
        if named.get("opener") is None:  # else that calls os.open
            saboteur.strike("open" if mode in ("r", "rb") else "create")
        if mode not in ("wb", "xb", "ab"):
            return real(file, mode, buffering, *args, **named)
        raw = _File(file, mode, opener=named.get("opener"))
        raw.saboteur = saboteur
        return io.BufferedWriter(raw) if buffering else raw

    return opened


@contextmanager
def sabotaged(root: Path, harm: str, at: int) -> Iterator[Saboteur]:
    """Let a saboteur work while the context lasts."""
    saboteur = Saboteur(root, harm, at)
    names = ("open", "replace", "unlink", "mkdir", "ftruncate", "fsync", "scandir", "pread")
    opened = _opening(saboteur)
    patches: list[tuple[Any, str, Any]] = [(os, name, _guarded(saboteur, name)) for name in names]
    patches += [(os, "write", _writing(saboteur)), (aiofiles.threadpool, "sync_open", opened)]
    patches += [(builtins, "open", opened), (io, "open", opened)]
    before = [(module, name, getattr(module, name)) for module, name, _ in patches]
    try:
        for module, name, function in patches:
            setattr(module, name, function)
        yield saboteur
    finally:
        for module, name, real in before:
            setattr(module, name, real)


class SmallRun:
    """A list with a little of everything, and what one undisturbed run makes of it."""

    def __init__(self, server: Scope) -> None:
        sizes = {"a.txt": 60, "dir/b.txt": 1000, "dir/deep/c.txt": 5000, "dir/empty.bin": 0, "big.bin": 3_000_000}
        urls = [server.url(name, size=size, range=size > 2**20) for name, size in sizes.items()]
        moved = server.url("moved.txt", redirect_to=server.path("there"))
        self.lines = [*urls, moved, urls[0], server.url("nothing", status=204), server.url("missing", status=404), "no"]
        self.good = set(self.lines[:8])
        self._server = server
        self._bodies = [*(server.body_of(name, size) for name, size in sizes.items()), server.body_of("there")]
        self._ends: dict[int, tuple[str | None, str | None]] = {}
        self._files: dict[str, bytes] = {}

    def learn(self, directory: Path, ran: Ran) -> None:
        """Take an undisturbed run for the pattern of all others."""
        records = sorted(ran.records, key=lambda record: int(record["line"]))
        self._ends = {
            record["line"]: (record["path"], record["error"] and record["error"]["kind"]) for record in records
        }
        assert [kind for _, kind in self._ends.values()] == [None] * 8 + ["http.404", "invalid_url"]
        self._files = {record["path"]: body for record, body in zip(records, self._bodies, strict=False)}
        self.check_complete(directory, ran)

    def check_whole(self, directory: Path) -> set[str]:
        """Return the names of the files that are there; AssertionError if one is not what it should be."""
        found = {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}
        bodies = {name: path.read_bytes() for name, path in found.items() if not name.startswith(".fetcher/")}
        for name, body in bodies.items():
            assert body == self._files[name], f"{name}: {len(body)} bytes"
        return set(bodies)

    def check_complete(self, directory: Path, ran: Ran) -> None:
        """Raise AssertionError unless a run that ended so has made all good."""
        assert ran.code == 1, ran.stderr
        assert sorted(record["line"] for record in ran.records) == list(range(1, len(self.lines) + 1))
        for record in ran.records:
            line, error = record["line"], record["error"]
            assert record["url"] == self.lines[line - 1]
            assert (record["path"], error and error["kind"]) == self._ends[line], record
            if record["path"]:
                body = self._files[record["path"]]
                assert (record["bytes"], record["sha256"]) == (len(body), sha256(body).hexdigest())
        assert self.check_whole(directory) == self._files.keys()
        state = {path.name for path in (directory / ".fetcher").rglob("*")}
        assert state == {"lock", "partial", "records.ndjson", "last-run.json"}

    def done(self, directory: Path) -> set[str]:
        """Return the URLs that the journal's whole lines call fetched."""
        journal = directory / ".fetcher/records.ndjson"
        lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
        return {record["url"] for record in map(json.loads, lines) if record["ok"]}

    def asked(self) -> list[str]:
        """Return the URLs that the server was asked for, in order."""
        return [self._server.base + seen.resource for seen in self._server.requests()]
