"""L0: how a run ended, as the process's exit status."""

from enum import IntEnum

from fetcher.errors import BusyError, LocalError, UsageError
from fetcher.model import Stop, Summary


class ExitStatus(IntEnum):
    """The documented exit statuses of the command."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    LOCAL = 3
    BUSY = 4
    UNFINISHED = 5
    BUG = 70
    HANGUP = 129
    INTERRUPTED = 130
    PIPE = 141
    TERMINATED = 143


_STOPPED = {
    Stop.INTERRUPT: ExitStatus.INTERRUPTED,
    Stop.TERMINATE: ExitStatus.TERMINATED,
    Stop.HANGUP: ExitStatus.HANGUP,
    Stop.PIPE: ExitStatus.PIPE,
    Stop.DISK: ExitStatus.LOCAL,
    Stop.WORKERS: ExitStatus.LOCAL,
    Stop.CLUSTER: ExitStatus.SOME_FAILED,
    Stop.LIMIT: ExitStatus.UNFINISHED,
}


class StoppedError(Exception):
    """A signal came before there was a run to stop: while it was being opened, or waited for another one."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(f"{stop.words} before the run began")
        self.stop = stop


def error_status(error: UsageError | LocalError) -> ExitStatus:
    """Return the status of a command that was not carried out, or not to its end."""
    if isinstance(error, UsageError):
        return ExitStatus.BUSY if isinstance(error, BusyError) else ExitStatus.USAGE
    return ExitStatus.LOCAL


def exit_status(summary: Summary) -> ExitStatus:
    """Return the status for a finished run: why it stopped early, else whether all URLs are ok."""
    if summary.stop is not None:
        return stopped_status(summary.stop)
    return ExitStatus.SOME_FAILED if summary.failed else ExitStatus.OK


def stopped_status(stop: Stop) -> ExitStatus:
    """Return the status for a run that was stopped."""
    return _STOPPED[stop]
