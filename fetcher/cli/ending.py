"""L4: what ends a run without a summary, told to programs that read standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from typer import Exit

from fetcher.cli.flags import Flags
from fetcher.errors import LocalError, UsageError
from fetcher.status import StoppedError, error_status, stopped_status


@contextmanager
def told(flags: Flags) -> Iterator[None]:
    """With ``--progress json`` end the command with an object in place of an error's line for people."""
    if flags.progress != "json":
        yield
        return
    try:
        yield
    except (UsageError, LocalError, StoppedError) as error:
        from fetcher.views.objects import error_object

        status = stopped_status(error.stop) if isinstance(error, StoppedError) else error_status(error)
        with suppress(OSError):
            print(error_object(str(error), status), file=sys.stderr, flush=True)
        raise Exit(status) from None
