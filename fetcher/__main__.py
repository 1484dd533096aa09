"""The command ``fetcher``; what ends it early ends it with one line and the documented exit status."""

import gc
import os
import signal
import sys

from fetcher import __version__


def main() -> None:
    """Run the command and exit."""
    # From the first moment on, also while the rest is imported.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    # Nothing that is imported is ever garbage; looking for some takes a twentieth of the start.
    gc.disable()
    _hold_standard_descriptors()
    if sys.argv[1:] == ["--version"] and _told_version():
        return
    from fetcher.cli.outcome import outcome  # noqa: PLC0415
    from fetcher.ending import leave  # noqa: PLC0415

    status = outcome()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Nobody takes it any more; Python would try again at exit, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    leave(status)


def _told_version() -> bool:
    """Print the version without importing anything; False if that went wrong, for the command to try and to tell."""
    line = f"fetcher {__version__}\n".encode()
    try:
        return os.write(1, line) == len(line)
    except OSError:
        return False


def _hold_standard_descriptors() -> None:
    """Open what was closed, or the next file opened would become standard output."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Standard input stays closed to Python: a list that should come from there must not pass for an empty one.
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


if __name__ == "__main__":
    main()
