"""L2: names to addresses, by the system's resolver, on threads that nothing has to wait for."""

import asyncio
import errno
import socket
import threading
from contextlib import suppress
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from fetcher.transport.guard import is_public
from fetcher.transport.timeline import current_timeline

#: Look-ups under way at once.
_MOST: Final = 32

_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
_AddressInfo = list[
    tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]]
]


class SystemResolver(AbstractResolver):
    """Asks ``getaddrinfo`` on daemon threads: a name server that never answers holds neither disk work nor the exit.

    A thread pool would do both: its threads are joined when the interpreter ends.
    With ``public_first``, addresses that are not public are left out as long as there is another, so that a failure
    is that one's own. This is no defence: an address that stands in a URL never comes by here.
    """

    def __init__(self, *, public_first: bool = False) -> None:
        self._public_first = public_first
        self._slots = asyncio.Semaphore(_MOST)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of ``host``; raises OSError (socket.gaierror) if there are none."""
        async with self._slots:
            with current_timeline().dns():
                found = await _on_daemon_thread(host, port, family)
        if self._public_first:
            found = [each for each in found if is_public(str(each[4][0]))] or found
        return [
            ResolveResult(hostname=host, host=str(address[0]), port=port, family=family, proto=proto, flags=_NUMERIC)
            for family, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Nothing to close: look-ups under way end by themselves."""


async def _on_daemon_thread(host: str, port: int, family: socket.AddressFamily) -> "_AddressInfo":
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_AddressInfo] = loop.create_future()

    def look_up() -> None:
        result: _AddressInfo | OSError
        try:
            result = socket.getaddrinfo(  # type: ignore[assignment]
                host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
        except (OSError, UnicodeError) as error:
            result = error if isinstance(error, OSError) else OSError(str(error))
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_deliver, future, result)

    try:
        threading.Thread(target=look_up, name=f"dns {host}", daemon=True).start()
    except RuntimeError as error:  # the system has no thread left
        raise OSError(errno.EAGAIN, str(error)) from error
    return await future


def _deliver(future: "asyncio.Future[_AddressInfo]", result: "_AddressInfo | OSError") -> None:
    if future.done():
        return
    if isinstance(result, OSError):
        future.set_exception(result)
    else:
        future.set_result(result)
