"""L2: the beginnings of bodies, in the order that makes a crash at any point harmless.

    partial/<hash>       the bytes that have come
    partial/<hash>.json  what they are the beginning of; without it they are nothing

The note is there before the first byte and gone before the file is begun anew. Bytes of an earlier boot are not
trusted: after a power cut a file may hold less, or something else, than was written to it.
"""

import os
from contextlib import suppress
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Final

import orjson

from fetcher.conditional import Held

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class Partials:
    """The directory of beginnings, shared by processes that each have a ``prefix``. Its methods block but a few.

    :meth:`path`, :meth:`fresh` and :meth:`may_hold` do not.
    """

    def __init__(self, directory: Path, prefix: str = "") -> None:
        self._directory = directory
        self._noted: set[str] = set()
        self._prefix = prefix
        self._fresh = count()
        self._boot = _boot()

    def path(self, key: str) -> str:
        """Return where the bytes of this request's body are put together, if they may be gone on with."""
        return f"{self._directory}/{_name(key)}"

    def fresh(self) -> str:
        """Return where a body can be put together that will not be gone on with: a name that nothing else has."""
        return f"{self._directory}/{self._prefix}{next(self._fresh)}"

    def may_hold(self, key: str) -> bool:
        """Tell whether there can be a beginning for this request."""
        return bool(self._noted) and _name(key) in self._noted

    def sweep(self) -> None:
        """Find the beginnings that earlier runs have left, and remove everything that is none; raises OSError."""
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if not self._note_of(entry.name):
                    with suppress(OSError):
                        os.unlink(entry)  # noqa: PTH108  a DirEntry is no Path

    def look(self) -> None:
        """Find the beginnings, and leave the rest: it may be another process's; raises OSError."""
        with os.scandir(self._directory) as entries:
            for entry in entries:
                self._note_of(entry.name)

    def find(self, key: str) -> Held | None:
        """Return what is held of this request's body."""
        validator = self._read(_name(key))
        if validator is None:
            return None
        with suppress(OSError):
            size = os.lstat(self.path(key)).st_size
            return Held(size, validator) if size else None
        return None

    def note(self, key: str, validator: str) -> None:
        """Say what the bytes that come now are the beginning of; raises OSError."""
        self._noted.add(_name(key))
        self._note(_name(key)).write_bytes(orjson.dumps({"validator": validator, "boot": self._boot}))

    def forget(self, key: str) -> None:
        """Take back what was noted; the bytes are nothing from then on."""
        if self.may_hold(key):
            self._note(_name(key)).unlink(missing_ok=True)
            self._noted.discard(_name(key))

    def remove(self, key: str, path: str) -> None:
        """Remove the note and the bytes at ``path``, as far as they are there."""
        with suppress(OSError):
            self.forget(key)
            os.unlink(path)  # noqa: PTH108

    def _note_of(self, entry: str) -> bool:
        """Tell whether this file is a beginning or its note, and remember it."""
        name = entry.removesuffix(".json")
        if self._read(name) is None or not (self._directory / name).is_file():
            return False
        self._noted.add(name)
        return True

    def _note(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _read(self, name: str) -> str | None:
        """Return the validator in a note of this boot."""
        try:
            note = orjson.loads(self._note(name).read_bytes())
            validator = note["validator"] if note["boot"] == self._boot else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return validator if isinstance(validator, str) else None


def _name(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:32]


def _boot() -> str:
    """Return what changes with every boot; where the system does not tell, the process is all that is known."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return f"process {os.getpid()}"
