"""One run of one command: its wall time, CPU time and peak memory, bounded in time."""

import errno
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SAMPLE: Final = 0.05
_RESCAN: Final = 8
_SCREEN: Final = struct.pack("HHHH", 40, 120, 0, 0)


class WrongRun(Exception):  # noqa: N818 - it is the run that is wrong
    """A run that does not count: it failed, lost or changed a body, or took too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A command to run: standard output and error go to ``out`` and ``err``, or error to a terminal that is read.

    ``interrupt_after`` seconds its process group gets SIGINT, as on Ctrl-C; after ``limit`` seconds it is killed.
    """

    argv: Sequence[str]
    folder: Path
    out: Path
    err: Path
    environment: Mapping[str, str]
    limit: float
    terminal: bool = False
    interrupt_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run took: seconds, CPU seconds with all children, peak bytes over all processes, and when it was.

    ``began`` and ``interrupted`` are seconds since the epoch; ``stopping`` is the time from SIGINT to the end. Peak
    memory is the sum of each process's peak, looked at 20 times a second; pages that they share count for each.
    """

    status: int
    wall: float
    cpu: float
    peak: int
    began: float
    interrupted: float | None
    stopping: float | None


def measure(invocation: Invocation) -> Run:
    """Run a command to its end. Raises WrongRun when that takes longer than its limit; nothing of it is left then."""
    screen, keyboard = _terminal() if invocation.terminal else (None, None)
    try:
        with invocation.out.open("wb") as out, invocation.err.open("wb") as err:
            began, start = time.time(), time.perf_counter()
            process = subprocess.Popen(
                invocation.argv,
                cwd=invocation.folder,
                env=invocation.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err if keyboard is None else keyboard,
                start_new_session=True,
            )
        if keyboard is not None:
            os.close(keyboard)
        watch = _Watch(process.pid, start, invocation)
        try:
            watch.until_end(screen)
            wall = time.perf_counter() - start
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if screen is not None:
            os.close(screen)
    sent = watch.interrupted
    return Run(
        status=process.returncode,
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        peak=watch.peak,
        began=began,
        interrupted=None if sent is None else began + sent,
        stopping=None if sent is None else wall - sent,
    )


def _terminal() -> tuple[int, int]:
    """Both ends of a terminal of 120 by 40."""
    screen, keyboard = pty.openpty()
    fcntl.ioctl(keyboard, termios.TIOCSWINSZ, _SCREEN)
    return screen, keyboard


class _Watch:
    """Looks at a process group while it runs."""

    def __init__(self, leader: int, start: float, invocation: Invocation) -> None:
        self._leader = leader
        self._start = start
        self._invocation = invocation
        self._peaks: dict[int, int] = {leader: 0}
        self.interrupted: float | None = None
        self.peak = 0

    def until_end(self, screen: int | None) -> None:
        """Wait for the leader's end, reading the screen meanwhile."""
        ended = os.pidfd_open(self._leader)
        try:
            poller = select.poll()
            poller.register(ended, select.POLLIN)
            if screen is not None:
                poller.register(screen, select.POLLIN)
            sample, count = 0.0, 0
            while ended not in (ready := {descriptor for descriptor, _ in poller.poll(_SAMPLE * 1000)}):
                if screen in ready and not _drained(screen):
                    poller.unregister(screen)
                elapsed = time.perf_counter() - self._start
                if elapsed >= sample:
                    self._look(rescan=count % _RESCAN == 0)
                    sample, count = elapsed + _SAMPLE, count + 1
                self._act(elapsed)
        finally:
            os.close(ended)

    def _act(self, elapsed: float) -> None:
        after = self._invocation.interrupt_after
        if after is not None and self.interrupted is None and elapsed >= after:
            self.interrupted = time.perf_counter() - self._start
            os.killpg(self._leader, signal.SIGINT)
        if elapsed > self._invocation.limit:
            raise WrongRun(f"did not end within {self._invocation.limit:g} s")

    def _look(self, *, rescan: bool) -> None:
        if rescan:
            for number in (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdecimal()):
                with suppress(ProcessLookupError):
                    if number not in self._peaks and os.getpgid(number) == self._leader:
                        self._peaks[number] = 0
        for number, peak in self._peaks.items():
            self._peaks[number] = max(peak, _peak(number))
        self.peak = sum(self._peaks.values())


def _peak(number: int) -> int:
    """The largest resident size that a process has had, in bytes; 0 when it is gone."""
    try:
        status = Path(f"/proc/{number}/status").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    _, found, rest = status.partition(b"VmHWM:")
    return int(rest.split(maxsplit=1)[0]) * 1024 if found else 0


def _drained(screen: int | None) -> bool:
    """Read what is on the screen; False when nobody will write there any more."""
    assert screen is not None
    try:
        return bool(os.read(screen, 65536))
    except OSError as error:
        if error.errno == errno.EIO:
            return False
        raise
