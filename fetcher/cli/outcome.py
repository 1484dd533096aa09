"""L4: every ending of the command as an exit status and at most one line."""

import os
import sys
import traceback

from typer.exceptions import Abort, Exit, TyperException

from fetcher.cli.app import app
from fetcher.errors import BusyError, LocalError, UsageError
from fetcher.status import ExitStatus
from fetcher.text import printable


def outcome() -> int:  # noqa: PLR0911  one table
    """Carry out the command line of this process and return the exit status; only a bug shows a traceback."""
    try:
        return app(standalone_mode=False, prog_name="fetcher") or ExitStatus.OK
    except Exit as ending:
        return ending.exit_code
    except Abort:
        return ExitStatus.INTERRUPTED
    except TyperException as error:
        show = getattr(error, "show", None)
        show() if show is not None else _say(str(error))
        return ExitStatus.USAGE
    except BusyError as error:
        _say(str(error))
        return ExitStatus.BUSY
    except UsageError as error:
        _say(str(error))
        return ExitStatus.USAGE
    except LocalError as error:
        _say(error.message)
        return ExitStatus.LOCAL
    except BrokenPipeError:
        # A help page that nobody reads on; nothing may be flushed into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitStatus.PIPE
    except Exception:  # noqa: BLE001  the last resort: the documented status of a bug, and all that helps to mend it
        traceback.print_exc()
        _say("a bug; please report the lines above")
        return ExitStatus.BUG


def _say(message: str) -> None:
    print(f"fetcher: {printable(message)}", file=sys.stderr)
