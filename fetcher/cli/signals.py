"""L4: signals end the run in good order, before there is one too, suspend it, or ask how it goes."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from fetcher.model import Stop
from fetcher.status import StoppedError

_STOPS: Final = {signal.SIGINT: Stop.INTERRUPT, signal.SIGTERM: Stop.TERMINATE, signal.SIGHUP: Stop.HANGUP}


class Beginning:
    """A context that :meth:`stop` ends by StoppedError, as ``asyncio.timeout`` does by TimeoutError."""

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._stopped: Stop | None = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._stopped is not None and kind is asyncio.CancelledError and task is not None and not task.uncancel():
            raise StoppedError(self._stopped) from None

    def stop(self, reason: Stop) -> bool:
        """End what goes on in the context; False if it is over, and there is a run to stop."""
        if self._task is not None and self._stopped is None:
            self._stopped = reason
            self._task.cancel()
        return self._task is not None


def _nothing() -> None:
    pass


@contextmanager
def handled(
    stop: Callable[[Stop], None], report: Callable[[], None], leave: Callable[[], None] = _nothing
) -> Iterator[None]:
    """While it lasts, INT, TERM and HUP call ``stop``, USR1 calls ``report``, and TSTP ``leave`` first, on the event loop.

    A signal that was ignored when the command started stays ignored: ``nohup`` and a shell's ``&`` mean it.
    """
    loop = asyncio.get_running_loop()

    def hear(number: int, _: object) -> None:
        if number == signal.SIGUSR1:
            loop.call_soon_threadsafe(report)
        elif number == signal.SIGTSTP:
            loop.call_soon_threadsafe(suspend)
        else:
            loop.call_soon_threadsafe(stop, _STOPS[signal.Signals(number)])

    def suspend() -> None:
        leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)  # returns when the shell lets it go on
        signal.signal(signal.SIGTSTP, hear)

    wanted = (*_STOPS, signal.SIGTSTP)
    taken = [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]
    # Not the loop's own handlers: when those go, Ctrl-C is a KeyboardInterrupt for the rest of the process.
    before = {number: signal.signal(number, hear) for number in (*taken, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
