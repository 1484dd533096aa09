"""The real command as a process, as scripts and cron jobs meet it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fastjsonschema

from fetcher.schema import record_schema

#: Raises JsonSchemaValueException unless it is given a record.
check_record: Final = fastjsonschema.compile(record_schema())

FETCHER: Final = ("-m", "fetcher")

#: What Python and asyncio print, whatever the exit status, about things that were never closed or awaited.
_NEGLECT: Final = (
    "Exception ignored",
    "ResourceWarning",
    "was never awaited",
    "was never retrieved",
    "was destroyed but it is pending",
    "Unclosed ",
)


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished process: its exit status (negative: killed by that signal) and what it wrote."""

    code: int
    stdout_bytes: bytes
    stderr_bytes: bytes

    @property
    def stdout(self) -> str:
        """Standard output as strict UTF-8."""
        return self.stdout_bytes.decode()

    @property
    def stderr(self) -> str:
        """Standard error as strict UTF-8."""
        return self.stderr_bytes.decode()

    @property
    def records(self) -> list[dict[str, Any]]:
        """Standard output as NDJSON.

        Raises AssertionError unless it is whole lines, each a JSON object, and those that are records fit the schema.
        """
        lines = self.stdout_bytes.split(b"\n")
        assert lines.pop() == b"", f"the last line is torn: {self.stdout_bytes[-200:]!r}"
        records = [json.loads(line) for line in lines]
        assert all(isinstance(record, dict) for record in records), f"not all are objects: {self.stdout}"
        for record in records:
            if "outcome" in record:
                check_record(record)
        return records


@dataclass(frozen=True, slots=True)
class Command:
    """Runs ``fetcher`` in ``directory``; with only PATH in its environment, and warnings as errors.

    ``program`` are Python's arguments before those of the command.
    """

    directory: Path
    program: Sequence[str] = FETCHER

    def __call__(
        self, *args: str | Path, stdin: bytes | None = None, env: Mapping[str, str] | None = None, timeout: float = 60.0
    ) -> Ran:
        """Run to the end; ``stdin`` None is /dev/null, ``env`` is added to the environment.

        Raises TimeoutExpired after ``timeout`` seconds, AssertionError if the process left something unclosed.
        """
        with self.start(*args, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE, env=env) as process:
            stdout, stderr = process.communicate(stdin, timeout)
        ran = Ran(process.returncode, stdout, stderr)
        neglected = [sign for sign in _NEGLECT if sign.encode() in stderr]
        assert not neglected, f"left something unclosed: {ran.stderr}"
        return ran

    @contextmanager
    def start(
        self,
        *args: str | Path,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start it, and kill it at the end of the ``with`` if it still runs; the streams are as subprocess takes them."""
        line = [sys.executable, "-W", "error", *self.program, *map(str, args)]
        environment = {"PATH": os.environ["PATH"], **(env or {})}
        with subprocess.Popen(
            line, cwd=self.directory, stdin=stdin, stdout=stdout, stderr=stderr, env=environment
        ) as process:
            try:
                yield process
            finally:
                process.kill()
