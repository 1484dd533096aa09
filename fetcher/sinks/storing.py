"""L2: the process that stores small bodies for a run, as long as the run is there; see :mod:`fetcher.sinks.small`."""

import signal
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from fetcher.blocks import HEADER, packed, size_of, unpacked
from fetcher.sinks.shelf import Placed, Shelf

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(directory: str) -> None:
    """Serve the run at the other end of the socket that is standard input: a block of calls in, one of results out."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they are for the run to obey
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError), open(0, "rb", closefd=False) as calls, open(0, "wb", closefd=False) as results:
        _serve(Shelf(directory), calls, results)  # until the run has gone: then nobody wants to know of an error


def _serve(shelf: Shelf, calls: BinaryIO, results: BinaryIO) -> None:
    told: Sequence[Placed | OSError | None] = [None]
    while True:
        results.write(packed(told))
        results.flush()
        size = size_of(calls.read(HEADER))
        block = calls.read(size)
        if not size or len(block) < size:
            return
        told = [_store(shelf, *call) for call in unpacked(block)]


def _store(shelf: Shelf, *call: *tuple[bytes, str, str, bool, str | None]) -> Placed | OSError:
    try:
        return shelf.store(*call)
    except OSError as error:
        return error
