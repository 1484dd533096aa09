"""L4: every ending of the command as an exit status and at most one line."""

import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol, runtime_checkable

from typer import BadParameter
from typer.exceptions import Abort, TyperException

from fetcher.cli.app import app
from fetcher.errors import LocalError, UsageError, words_of
from fetcher.status import ExitStatus, StoppedError, error_status, stopped_status
from fetcher.text import printable


@runtime_checkable
class _Suggesting(Protocol):
    """Typer's error for an option that does not exist. It suggests what is spelt alike, however the option begins."""

    option_name: str
    possibilities: Sequence[str]


def outcome() -> int:  # noqa: PLR0911  one table
    """Carry out the command line of this process and return the exit status; only a bug shows a traceback."""
    try:
        return app(standalone_mode=False, prog_name="fetcher") or ExitStatus.OK
    except Abort:
        return ExitStatus.INTERRUPTED
    except TyperException as error:
        _say(_usage(error))
        return ExitStatus.USAGE
    except StoppedError as error:
        _say(str(error))
        return stopped_status(error.stop)
    except (UsageError, LocalError) as error:
        _say(str(error))
        return error_status(error)
    except SystemExit as ending:
        # Typer makes 1 of a reader that went away, which here means that some URLs failed.
        if isinstance(ending.__context__, BrokenPipeError):
            return ExitStatus.PIPE
        raise
    except OSError as error:
        _say(words_of(error, str(error)))
        return ExitStatus.LOCAL
    except Exception:  # noqa: BLE001  the last resort: the documented status of a bug, and all that helps to mend it
        traceback.print_exc()
        _say("a bug; please report the lines above")
        return ExitStatus.BUG


def _usage(error: TyperException) -> str:
    """Return in one line what was wrong with the command line, and where help is."""
    if isinstance(error, BadParameter):
        # Only an option without a value gets here, from the environment: all others are text until `params` reads it.
        return f"{getattr(error.param, 'envvar', None)}: write 1 or 0"
    context = getattr(error, "ctx", None)
    if context is not None and isinstance(error, _Suggesting):
        options = [name for parameter in context.command.get_params(context) for name in parameter.opts]
        error.possibilities = [name for name in options if name.startswith(error.option_name)] or error.possibilities
    message = error.format_message().rstrip(".")
    command = context.command_path if context is not None else "fetcher"
    return f"{message[:1].lower()}{message[1:]}  ({command} --help tells more)"


def _say(message: str) -> None:
    with suppress(OSError):
        print(f"fetcher: {printable(message)}", file=sys.stderr)
