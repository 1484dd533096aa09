"""Names to addresses, on threads that nobody waits for."""

import asyncio
import contextvars
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fetcher.clock import SystemClock
from fetcher.transport import resolver
from fetcher.transport.resolver import SystemResolver
from fetcher.transport.timeline import Timeline, begin

ADDRESSES = [
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 80, 0, 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80)),
]


@pytest.fixture(autouse=True)
def timeline() -> Timeline:
    """A timeline for look-ups to be noted on, as every request has one."""
    timeline = Timeline(SystemClock())
    begin(timeline)
    return timeline


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Return a function that puts another ``getaddrinfo`` in place."""

    def put(look_up: Callable[..., Any]) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    return put


class Silence:
    """A name server that says nothing until the test's end."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.end = threading.Event()

    def __call__(self, host: str, *_: object, **__: object) -> Any:
        self.asked.append(host)
        self.end.wait(20)
        return ADDRESSES


def join_look_ups() -> None:
    """Wait until the last look-up is over."""
    for thread in threading.enumerate():
        if thread.name.startswith("dns "):
            thread.join(5)


@pytest.fixture
def silence(answer: Callable[[Callable[..., Any]], None]) -> Iterator[Silence]:
    """No look-up is answered before the test ends."""
    silence = Silence()
    answer(silence)
    yield silence
    silence.end.set()
    join_look_ups()


async def test_addresses(answer: Callable[[Callable[..., Any]], None], timeline: Timeline) -> None:
    """All addresses come in the system's order, and the look-up is noted on the timeline."""
    answer(lambda *_, **__: ADDRESSES)
    found = await SystemResolver().resolve("name.invalid", 80)
    assert [(each["host"], each["port"], each["family"]) for each in found] == [
        ("2001:db8::1", 80, socket.AF_INET6),
        ("192.0.2.1", 80, socket.AF_INET),
    ]
    assert {each["hostname"] for each in found} == {"name.invalid"}
    assert timeline.lookup is not None
    assert timeline.looked_up is not None
    assert timeline.started <= timeline.lookup <= timeline.looked_up


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_NONAME, "no"), OSError(5, "no"), UnicodeError("no")])
async def test_failure(answer: Callable[[Callable[..., Any]], None], error: Exception) -> None:
    """Whatever the system says no with is an OSError."""

    def fail(*_: object, **__: object) -> None:
        raise error

    answer(fail)
    with pytest.raises(OSError, match="no"):
        await SystemResolver().resolve("name.invalid", 80)


async def test_no_thread_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that has no thread to give is an OSError like the others."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(OSError, match="can't start new thread"):
        await SystemResolver().resolve("name.invalid", 80)


async def test_own_threads(answer: Callable[[Callable[..., Any]], None]) -> None:
    """Look-ups run beside the event loop, on threads that end with them and hold up no exit."""
    seen: list[threading.Thread] = []

    def look_up(*_: object, **__: object) -> Any:
        seen.append(threading.current_thread())
        return ADDRESSES

    answer(look_up)
    await SystemResolver().resolve("name.invalid", 80)
    assert seen[0] is not threading.main_thread()
    assert seen[0].daemon
    seen[0].join(5)
    assert not seen[0].is_alive()


async def test_cancel(silence: Silence) -> None:
    """A look-up that hangs can be cancelled at once; its late answer disturbs nobody."""
    task = asyncio.create_task(SystemResolver().resolve("name.invalid", 80))
    while not silence.asked:  # noqa: ASYNC110  on another thread
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    assert task.cancelled()
    silence.end.set()
    join_look_ups()
    await asyncio.sleep(0)


async def test_bound(silence: Silence, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many look-ups at once are the most; the others wait their turn and are answered too."""
    monkeypatch.setattr(resolver, "_MOST", 4)
    system = SystemResolver()
    tasks = [
        asyncio.create_task(system.resolve(f"n{number}.invalid", 80), context=contextvars.copy_context())
        for number in range(10)
    ]
    while len(silence.asked) < 4:  # noqa: ASYNC110  on another thread
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)
    assert len(silence.asked) == 4
    silence.end.set()
    assert len(await asyncio.gather(*tasks)) == 10
    assert len(silence.asked) == 10


HANGING = """
import asyncio, socket, threading
from fetcher.clock import SystemClock
from fetcher.options import Timeouts, Tls
from fetcher.transport.base import Hop
from fetcher.transport.proxies import Proxies
from fetcher.transport.session import SessionTransport

asked = threading.Event()

def look_up(*_, **__):
    asked.set()
    threading.Event().wait()

async def main():
    async with SessionTransport(Timeouts(connect=60), Tls(), Proxies(""), SystemClock()) as transport:
        async def get():
            async with transport.send(Hop("http://name.invalid/", ())):
                pass
        task = asyncio.create_task(get())
        await asyncio.to_thread(asked.wait)
        print("asked", flush=True)
        task.cancel()
        await asyncio.wait({task})

socket.getaddrinfo = look_up
asyncio.run(main())
print("done", flush=True)
"""


def test_exit_while_a_look_up_hangs() -> None:
    """A name server that never answers does not keep the process from ending, nor make it complain."""
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", HANGING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        began = time.monotonic()
        out, err = process.communicate(timeout=10)
    assert time.monotonic() - began < 2
    assert (process.returncode, out, err) == (0, "done\n", "")
