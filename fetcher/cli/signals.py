"""L4: signals end the run in good order, or ask how it goes."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from fetcher.model import Stop

_STOPS: Final = {signal.SIGINT: Stop.INTERRUPT, signal.SIGTERM: Stop.TERMINATE, signal.SIGHUP: Stop.HANGUP}


@contextmanager
def handled(stop: Callable[[Stop], None], report: Callable[[], None]) -> Iterator[None]:
    """While it lasts, INT, TERM and HUP call ``stop`` and USR1 calls ``report``, on the event loop.

    A signal that was ignored when the command started stays ignored: ``nohup`` and a shell's ``&`` mean it.
    """
    loop = asyncio.get_running_loop()

    def hear(number: int, _: object) -> None:
        if number == signal.SIGUSR1:
            loop.call_soon_threadsafe(report)
        else:
            loop.call_soon_threadsafe(stop, _STOPS[signal.Signals(number)])

    taken = [number for number in _STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    # Not the loop's own handlers: when those go, Ctrl-C is a KeyboardInterrupt for the rest of the process.
    before = {number: signal.signal(number, hear) for number in (*taken, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
