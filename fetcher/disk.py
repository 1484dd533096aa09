"""L2: blocking work on threads of its own, as much of it in one hop as waits for one."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar

#: More threads do not make a disk faster.
_THREADS: Final = 4
#: While a hop is under way, the next one starts when so many calls wait: a slow disk takes several at a time.
_MANY: Final = 16
#: The most calls in one hop.
_MOST: Final = 64

_T = TypeVar("_T")
_Call = tuple["Result[Any]", Callable[..., Any], tuple[Any, ...]]


class Result(asyncio.Future[_T]):
    """What a call will give. A thread cannot be stopped, so whoever waits is cancelled only when it is there.

    Otherwise the call would go on behind the back of whoever tidies up after it.
    """

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002
        """Return False: asyncio then keeps the cancellation until the task goes on."""
        return False

    def settle(self, value: _T | BaseException) -> None:
        """Give the value, or raise the error, to whoever waits."""
        if isinstance(value, BaseException):
            self.set_exception(value)
            self.exception()  # whoever was cancelled meanwhile will not look
        else:
            self.set_result(value)


class Disk:
    """A few threads for disk work, as a context manager; leaving it waits for what is under way.

    A hop to a thread and back costs more than most calls, so :meth:`together` shares one among many.
    """

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(_THREADS, "disk")
        self._waiting: list[_Call] = []
        self._hops = 0
        self._called = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.executor.shutdown()

    async def run(self, function: Callable[..., _T], *args: object) -> _T:
        """Call a function in a hop of its own: one that may take long."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, function, *args)

    def together(self, function: Callable[..., _T], *args: object) -> "Result[_T]":
        """Call a quick function in one hop with what else waits; a cancellation is put off until it is done."""
        loop = asyncio.get_running_loop()
        future: Result[_T] = Result(loop=loop)
        self._waiting.append((future, function, args))
        if not self._called and (not self._hops or (len(self._waiting) >= _MANY and self._hops < _THREADS)):
            self._called = True
            loop.call_soon(self._hop, loop)  # so that whatever else is called in this turn comes along
        return future

    def _hop(self, loop: asyncio.AbstractEventLoop) -> None:
        self._called = False
        calls, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        self._hops += 1
        hop = self.executor.submit(_perform, calls)

        def done(_: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._deliver, loop, calls, hop)

        hop.add_done_callback(done)

    def _deliver(self, loop: asyncio.AbstractEventLoop, calls: Sequence[_Call], hop: Future[list[Any]]) -> None:
        self._hops -= 1
        if self._waiting and not self._called:
            self._hop(loop)
        bug = hop.exception()
        results = hop.result() if bug is None else [bug] * len(calls)
        for (future, _, _), result in zip(calls, results, strict=True):
            future.settle(result)


def _perform(calls: Sequence[_Call]) -> list[Any]:
    """Make the calls one after the other, and return what each returns or the OSError it raises."""
    results: list[Any] = []
    for _, function, args in calls:
        try:
            results.append(function(*args))
        except OSError as error:
            results.append(error)
    return results
