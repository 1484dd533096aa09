"""L2: one run at a time in a directory: a lock that the kernel frees when its holder ends, however that may be."""

import fcntl
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fetcher.clock import Clock
from fetcher.errors import BusyError
from fetcher.frozen import value
from fetcher.naming import STATE_DIRECTORY
from fetcher.text import seconds_text

#: Seconds between two tries; flock(2) could wait by itself, but nobody could cancel it.
_POLL: Final = 0.2


@value(frozen=True, slots=True)
class Patience:
    """How long to wait for another run, in seconds, and whom to tell that this happens."""

    seconds: float
    clock: Clock
    tell: Callable[[str], None]


class Lock:
    """DIR/.fetcher/lock. Its text is the holder's process number; it was last changed when that took it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = -1

    async def take(self, patience: Patience | None) -> None:
        """Take it, waiting if there is another holder; raises BusyError with its name, OSError."""
        # Nothing else happens on the loop before a run has its lock.
        path = self._directory / STATE_DIRECTORY / "lock"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if self._taken():
            return
        if patience is not None and patience.seconds > 0:
            clock = patience.clock
            end = clock.monotonic() + patience.seconds
            patience.tell(f"{self._holder()}; waiting up to {seconds_text(patience.seconds)}")
            while (left := end - clock.monotonic()) > 0:
                await clock.sleep(min(_POLL, left))
                if self._taken():
                    return
        raise BusyError(self._holder())

    def release(self) -> None:
        """Let go of it, if it was taken."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, b"%d\n" % os.getpid(), 0)
        return True

    def _holder(self) -> str:
        number = os.pread(self._file, 100, 0).decode("ascii", "replace").strip()
        since = datetime.fromtimestamp(os.fstat(self._file).st_mtime, UTC).astimezone()
        who = f" (pid {number}, since {since:%H:%M:%S})" if number else ""
        return f"another fetcher{who} is using {self._directory}"
