"""Give it a list of URLs; get every file, whole, and one record per URL saying what happened.

from fetcher import Options, fetch_all

async for record in fetch_all(["https://example.com/a", "https://example.com/b"]):
    print(record.url, record.ok, record.path)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fetcher.api import Item, fetch_all, fetch_one
    from fetcher.errors import BusyError, Error, ErrorKind, LocalError, UsageError
    from fetcher.model import Outcome, Record, Request, Summary
    from fetcher.options import Bounds, Existing, HostOptions, Limits, Options, Output, Retries, Timeouts, Tls

__all__ = [
    "Bounds",
    "BusyError",
    "Error",
    "ErrorKind",
    "Existing",
    "HostOptions",
    "Item",
    "Limits",
    "LocalError",
    "Options",
    "Outcome",
    "Output",
    "Record",
    "Request",
    "Retries",
    "Summary",
    "Timeouts",
    "Tls",
    "UsageError",
    "fetch_all",
    "fetch_one",
]

_HOMES: Final = {
    "api": ("Item", "fetch_all", "fetch_one"),
    "errors": ("BusyError", "Error", "ErrorKind", "LocalError", "UsageError"),
    "model": ("Outcome", "Record", "Request", "Summary"),
    "options": ("Bounds", "Existing", "HostOptions", "Limits", "Options", "Output", "Retries", "Timeouts", "Tls"),
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used (PEP 562): the command starts in half the time."""
        for home, names in _HOMES.items():
            if name in names:
                return getattr(import_module(f"fetcher.{home}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
