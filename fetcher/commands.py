"""L3: the command that is run for each fetched URL: some at a time, without a shell, and none longer than the run."""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from fetcher.engines.base import give
from fetcher.errors import Error, ErrorKind, words_of
from fetcher.events import Counters, Observer, Said, Settled
from fetcher.model import Outcome, Record, to_line
from fetcher.options import FILE, URL, Command
from fetcher.text import span_text
from fetcher.urls import parse

#: Bytes of output read at once, and kept of a line that does not end.
_READ: Final = 64 * 1024
#: Bytes of output in which the last line is looked for, to say why a command failed.
_TAIL: Final = 4 * 1024
#: How long a command may take to end once it is asked to, in seconds: past its time, and when the run is over.
_PATIENCE: Final = 1.0
_HURRY: Final = 0.1


class Commands:
    """Runs a command for each record that it is given and passes the record on to ``settle``, once.

    A record whose command fails becomes a failure of kind ``exec``, which still tells where its file is. Those that wait
    are as many as it is given.
    """

    def __init__(
        self,
        command: Command,
        directory: Path,
        settle: Callable[[Settled], Awaitable[None]],
        counters: Counters,
        observe: Observer,
    ) -> None:
        self._command = command
        self._directory = directory
        self._settle = settle
        self._counters = counters
        self._observe = observe
        self._jobs = command.jobs or os.cpu_count() or 1
        self._waiting: deque[Settled] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._cut: list[Settled] = []
        self._stopped: str | None = None
        self._tasks: asyncio.TaskGroup | None = None

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """From now on run commands as tasks of this group."""
        self._tasks = tasks

    def wants(self, record: Record) -> bool:
        """Tell whether there is something to run for: a body that this run has fetched."""
        return record.outcome is Outcome.FETCHED and (record.path is not None or FILE not in self._command.words)

    async def take(self, settled: Settled) -> None:
        """Run the command for a record when its turn comes; does not wait for that."""
        if self._stopped is not None or self._tasks is None:
            await self._settle(self._failed(settled, f"not run: {self._stopped}"))
            return
        self._waiting.append(settled)
        if len(self._running) < self._jobs:
            self._running.add(self._tasks.create_task(self._work()))

    def stop(self, reason: str) -> None:
        """Start no more of them; ``reason`` is said of those that have not run."""
        self._stopped = self._stopped or reason

    async def finish(self, seconds: float, abort: asyncio.Event) -> None:
        """Give those under way so long, or until ``abort``, then end them, and settle all; to be called after a stop."""
        while self._waiting:
            await self._settle(self._failed(self._waiting.popleft(), f"not run: {self._stopped}"))
        await give(tuple(self._running), seconds, abort)
        cut, self._cut = self._cut, []
        for settled in cut:
            await self._settle(self._failed(settled, f"ended: {self._stopped}"))

    async def _work(self) -> None:
        """Take one record after another until none waits."""
        try:
            while self._waiting and self._stopped is None:
                await self._serve(self._waiting.popleft())
        finally:
            # Here and not in a callback: what is taken meanwhile would wait for a task that has ended.
            self._running.difference_update({asyncio.current_task()})

    async def _serve(self, settled: Settled) -> None:
        self._counters.commands += 1
        try:
            why = await self._run(settled.record)
        except asyncio.CancelledError:
            self._cut.append(settled)
            raise
        finally:
            self._counters.commands -= 1
        await self._settle(settled if why is None else self._failed(settled, why))

    async def _run(self, record: Record) -> str | None:
        """Run the command for one record; return why it failed."""
        limit, patience = self._command.timeout, _HURRY
        try:
            with _Output(lambda text: self._observe(Said(record.url, text))) as output:
                process = await asyncio.create_subprocess_exec(
                    *self._arguments(record),
                    stdin=PIPE,
                    stdout=output.inlet,
                    stderr=output.inlet,
                    start_new_session=True,
                )
                try:
                    async with asyncio.timeout(limit):
                        await _tell(process, to_line(record))
                        status = await process.wait()
                    patience = 0.0
                except TimeoutError:
                    patience = _PATIENCE
                    return f"took longer than {span_text(limit or 0.0)}"
                finally:
                    await _end(process, patience)
        except OSError as error:
            return f"cannot be started: {words_of(error)}"
        return _reason(status, output.last_line) if status else None

    def _arguments(self, record: Record) -> list[str]:
        """Return the command's words for one record; none of what is put in can be taken for an option."""
        meant = {}
        if record.path is not None:
            path = str(self._directory / record.path)
            meant[FILE] = f"./{path}" if path.startswith("-") else path
        if URL in self._command.words:
            meant[URL] = parse(record.url).target
        return [meant.get(word, word) for word in self._command.words]

    def _failed(self, settled: Settled, why: str) -> Settled:
        program = self._command.words[0].rpartition("/")[2]
        error = Error.of(ErrorKind.EXEC, f"{program} {why}")
        record = replace(settled.record, outcome=Outcome.FAILED, error=error)
        return Settled(record, to_line(record), settled.key)


class _Output:
    """What a command writes, read as it comes and told in whole lines; ``inlet`` is the end it writes to.

    It ends with the command, whoever else may still hold the other end.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._outlet, self.inlet = os.pipe()
        os.set_blocking(self._outlet, False)
        self._begun = self._tail = b""
        self._loop.add_reader(self._outlet, self._read)

    @property
    def last_line(self) -> str:
        """The last line that is not blank, or its end."""
        return (self._tail.decode("utf-8", "backslashreplace").strip().splitlines() or [""])[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Read what is there, and no more."""
        os.close(self.inlet)
        self._read()
        self._loop.remove_reader(self._outlet)
        os.close(self._outlet)
        self._pass_on(self._begun)

    def _read(self) -> None:
        try:
            data = os.read(self._outlet, _READ)
        except BlockingIOError:
            return
        self._tail = (self._tail + data)[-_TAIL:]
        lines, newline, begun = data.rpartition(b"\n")
        if newline or len(self._begun) > _READ:
            self._pass_on(self._begun + lines)
            self._begun = b""
        self._begun += begun

    def _pass_on(self, lines: bytes) -> None:
        if lines:
            self._tell(lines.decode("utf-8", "backslashreplace"))


async def _tell(process: Process, line: bytes) -> None:
    """Write the record to the command, which need not read it."""
    if process.stdin is not None:
        with suppress(ConnectionError):
            process.stdin.write(line)
            await process.stdin.drain()
        process.stdin.close()


async def _end(process: Process, patience: float) -> None:
    """End a command that has not ended, and with it what it has started."""
    try:
        if process.returncode is None:
            _signal(process, signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await process.wait()
    finally:
        if patience:
            _signal(process, signal.SIGKILL)
    if process.stdin is not None and process.stdin.transport.get_write_buffer_size():
        process.stdin.transport.abort()  # which nobody will read any more
    await process.wait()


def _signal(process: Process, number: signal.Signals) -> None:
    """Send a signal to the command and all that belongs to it: its session has one group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _reason(status: int, last_line: str) -> str:
    ended = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
    return f"{ended}: {last_line}" if last_line else ended
