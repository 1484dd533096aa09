"""Commands among others: none is forgotten, whenever it comes."""

import asyncio
from pathlib import Path

import pytest

from fetcher.commands import Commands
from fetcher.events import Counters, Event, Said, Settled
from fetcher.model import Outcome, Record, to_line
from fetcher.options import Command


def fetched(number: int, path: str | None = "p") -> Settled:
    """Return what a fetch has come to."""
    url = f"http://h/{number}"
    record = Record(url=url, source="list", line=number, outcome=Outcome.FETCHED, path=path)
    return Settled(record, to_line(record), url)


class Rig:
    """Commands, and what came of them."""

    def __init__(self, *words: str, jobs: int = 1) -> None:
        self.settled: list[Settled] = []
        self.events: list[Event] = []
        self.counters = Counters(0.0)
        chosen = Command(words=words, jobs=jobs)
        self.commands = Commands(chosen, Path("-d"), self.settle, self.counters, self.events.append)

    async def settle(self, settled: Settled) -> None:
        """Take a record."""
        self.settled.append(settled)

    @property
    def messages(self) -> list[str]:
        """What the records say, in order."""
        return [each.record.error.message if each.record.error else "" for each in self.settled]


async def test_one_comes_as_another_ends() -> None:
    """What is taken at the moment in which the last command ends does not wait for one that has ended."""
    rig = Rig("true")
    taken: list[asyncio.Task[None]] = []
    enough = asyncio.Event()

    async def settle(settled: Settled) -> None:
        rig.settled.append(settled)
        if len(rig.settled) == 5:
            enough.set()
        else:
            taken.append(asyncio.create_task(rig.commands.take(fetched(len(rig.settled)))))

    rig.commands._settle = settle
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        rig.commands.begin(tasks)
        await rig.commands.take(fetched(0))
        await enough.wait()
    assert [each.record.line for each in rig.settled] == list(range(5))
    assert rig.counters.commands == 0


@pytest.mark.parametrize(
    ("outcome", "path", "word", "wanted"),
    [
        (Outcome.FETCHED, "p", "{path}", True),
        (Outcome.FETCHED, None, "{path}", False),
        (Outcome.FETCHED, None, "{url}", True),
        *((outcome, "p", "{path}", False) for outcome in Outcome if outcome is not Outcome.FETCHED),
    ],
)
async def test_wanted(outcome: Outcome, path: str | None, word: str, *, wanted: bool) -> None:
    """A command is for what was fetched, and has a file if it asks for one."""
    record = Record(url="http://h/", source="list", line=1, outcome=outcome, path=path)
    assert Rig("true", word).commands.wants(record) is wanted


async def test_no_option() -> None:
    """A directory that begins with a dash does not make an option of a file; a user and password are not put in."""
    rig = Rig("printf", "%s\\n", "{path}", "{url}", "p{}")
    record = fetched(1).record
    secret = Record(url="http://me:hush@h/%20?{path}", source="list", line=1, outcome=record.outcome, path="p")
    async with asyncio.TaskGroup() as tasks:
        rig.commands.begin(tasks)
        await rig.commands.take(Settled(secret, to_line(secret), "key"))
    assert [event.text for event in rig.events if isinstance(event, Said)] == [
        "./-d/p\nhttp://h/%20?%7Bpath%7D\np{}",
    ]
    assert rig.settled[0].record is secret


async def test_stopped() -> None:
    """Once it is stopped nothing starts, and what waits, or comes, is told so."""
    rig = Rig("sleep", "60")
    async with asyncio.TaskGroup() as tasks:
        rig.commands.begin(tasks)
        for number in range(3):
            await rig.commands.take(fetched(number))
        await asyncio.sleep(0)
        rig.commands.stop("enough")
        await rig.commands.finish(0.0, asyncio.Event())
        await rig.commands.take(fetched(3))
    assert sorted(rig.messages) == ["sleep ended: enough"] + ["sleep not run: enough"] * 3
    assert all(each.record.path == "p" and each.key == each.record.url for each in rig.settled)
    assert rig.counters.commands == 0
