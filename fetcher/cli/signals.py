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
    taken = [number for number in _STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in taken:
        loop.add_signal_handler(number, stop, _STOPS[number])
    loop.add_signal_handler(signal.SIGUSR1, report)
    try:
        yield
    finally:
        for number in (*taken, signal.SIGUSR1):
            loop.remove_signal_handler(number)
