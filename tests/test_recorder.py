"""Settled records reach every writer, in order, in batches, whatever the writers do."""

import asyncio
from collections.abc import Sequence

import pytest

from fetcher.errors import LocalError
from fetcher.events import Settled
from fetcher.model import Outcome, Record, Stop
from fetcher.recorder import Recorder
from tests.fakes import Writer, simulated


def settled(line: int) -> Settled:
    """Return a settled record of that line."""
    record = Record(url=f"http://h/{line}", source="list", line=line, outcome=Outcome.FETCHED)
    return Settled(record, b"%d\n" % line, record.url)


def lines(writer: Writer) -> list[int]:
    """Return the lines that a writer got, in order."""
    return [record.line for record in writer.records]


class Heard:
    """Notes what a recorder reports."""

    def __init__(self) -> None:
        self.failed: list[tuple[Stop, str]] = []
        self.written: list[int] = []

    def recorder(self, *writers: Writer) -> Recorder:
        """Return a recorder that reports here."""
        return Recorder(writers, self._written, lambda reason, message: self.failed.append((reason, message)))

    def _written(self, batch: Sequence[Settled]) -> None:
        self.written += [each.record.line for each in batch]


def test_everything_in_order_on_leaving() -> None:
    """Leaving the context writes all that was put, once and in order, to each writer."""

    async def main() -> None:
        heard, first, second = Heard(), Writer(), Writer(delay=1.0)
        async with heard.recorder(first, second) as recorder:
            for line in range(2_000):
                await recorder.put(settled(line))
            await recorder.put(settled(2_000), settled(2_001))
        assert lines(first) == lines(second) == heard.written == list(range(2_002))
        assert heard.failed == []

    simulated(main())


def test_first_writer_first() -> None:
    """A batch reaches the second writer, and is reported written, only after the first has it."""

    async def main() -> None:
        heard, first, second = Heard(), Writer(opened=False), Writer(opened=False)
        async with heard.recorder(first, second) as recorder:
            await recorder.put(settled(1))
            second.gate.set()
            await asyncio.sleep(10)
            assert second.batches == []
            first.gate.set()
            second.gate.clear()
            await asyncio.sleep(10)
            assert lines(first) == [1]
            assert heard.written == []
            second.gate.set()
            await asyncio.sleep(10)
            assert heard.written == [1]

    simulated(main())


def test_few_records_are_written_soon() -> None:
    """A lone record is written within a tenth of a second, together with those that follow closely."""

    async def main() -> None:
        writer = Writer()
        async with Heard().recorder(writer) as recorder:
            await recorder.put(settled(1))
            await asyncio.sleep(0.01)
            await recorder.put(settled(2))
            assert writer.batches == []
            await asyncio.sleep(0.1)
            assert [len(batch) for batch in writer.batches] == [2]
            await asyncio.sleep(10)
            await recorder.put(settled(3))
            await asyncio.sleep(0.1)
            assert lines(writer) == [1, 2, 3]

    simulated(main())


def test_many_records_are_written_at_once() -> None:
    """A full batch waits for nobody."""

    async def main() -> None:
        loop, writer = asyncio.get_running_loop(), Writer()
        async with Heard().recorder(writer) as recorder:
            await recorder.put(*map(settled, range(256)))
            for _ in range(10):
                await asyncio.sleep(0)
            assert loop.time() == 0.0
            assert len(writer.records) == 256

    simulated(main())


def test_slow_writer_holds_up() -> None:
    """While a writer is stuck, putting stops at a bound and goes on when the writer does."""

    async def main() -> None:
        writer = Writer(opened=False)
        put = 0
        async with Heard().recorder(writer) as recorder:

            async def produce() -> None:
                nonlocal put
                for line in range(10_000):
                    await recorder.put(settled(line))
                    put += 1

            producer = asyncio.create_task(produce())
            await asyncio.sleep(100)
            assert 1_000 < put < 3_000
            writer.gate.set()
            await producer
        assert lines(writer) == list(range(10_000))

    simulated(main())


def test_cancelled_put_is_kept() -> None:
    """Whoever is cancelled while waiting for room has put the records all the same, and only once."""

    async def main() -> None:
        writer = Writer(opened=False)
        async with Heard().recorder(writer) as recorder:
            await recorder.put(settled(0))
            await asyncio.sleep(1)
            putting = asyncio.create_task(recorder.put(*map(settled, range(1, 5_000))))
            await asyncio.sleep(1)
            stuck = not putting.done()
            putting.cancel()
            await asyncio.wait({putting})
            writer.gate.set()
        assert stuck
        assert lines(writer) == list(range(5_000))

    simulated(main())


@pytest.mark.parametrize(
    ("error", "report"), [(LocalError("disk full"), (Stop.DISK, "disk full")), (BrokenPipeError(), (Stop.PIPE, ""))]
)
@pytest.mark.parametrize("at", [0, 1])
def test_failed_writer_is_left_out(error: Exception, report: tuple[Stop, str], at: int) -> None:
    """A writer that fails is reported once and asked no more; the other one misses nothing, hurried or not."""

    async def main() -> None:
        heard, good, bad = Heard(), Writer(), Writer(error=error)
        writers = [good]
        writers.insert(at, bad)
        async with heard.recorder(*writers) as recorder:
            await recorder.put(settled(0))
            await asyncio.sleep(1)
            recorder.hurry()
            for line in range(1, 4):
                await recorder.put(settled(line))
                await asyncio.sleep(1)
        assert heard.failed == [report]
        assert lines(good) == heard.written == [0, 1, 2, 3]
        assert bad.batches == []

    simulated(main())


@pytest.mark.parametrize("early", [True, False])
def test_hurry_leaves_out_the_stuck(early: bool) -> None:
    """In a hurry a stuck writer is given two seconds, before the write or during it; the others get everything."""

    async def main() -> None:
        loop, heard, stuck, good = asyncio.get_running_loop(), Heard(), Writer(opened=False), Writer()
        async with heard.recorder(stuck, good) as recorder:
            await recorder.put(settled(1))
            if not early:
                await asyncio.sleep(100)
            hurried = loop.time()
            recorder.hurry()
            for line in range(2, 4_000):
                await recorder.put(settled(line))
            assert loop.time() == hurried
        assert loop.time() - hurried <= 2.1
        assert lines(good) == heard.written == list(range(1, 4_000))
        assert heard.failed == []

    simulated(main())


def test_hurry_frees_those_who_wait_for_room() -> None:
    """Who waits in put when the hurry begins goes on at once."""

    async def main() -> None:
        writer = Writer(opened=False)
        async with Heard().recorder(writer) as recorder:
            await recorder.put(settled(0))
            await asyncio.sleep(1)
            putting = asyncio.create_task(recorder.put(*map(settled, range(1, 5_000))))
            await asyncio.sleep(1)
            stuck = not putting.done()
            recorder.hurry()
            await asyncio.wait_for(putting, 0.1)
        assert stuck

    simulated(main())


def test_hurry_spares_the_quick() -> None:
    """A writer that takes a second per batch is slow, not stuck: it gets everything."""

    async def main() -> None:
        heard, slow = Heard(), Writer(delay=1.0)
        async with heard.recorder(slow) as recorder:
            recorder.hurry()
            await recorder.put(settled(1))
            await asyncio.sleep(10)
            await recorder.put(settled(2))
        assert lines(slow) == [1, 2]

    simulated(main())


def test_bug_in_a_writer_hangs_nobody() -> None:
    """An error that no writer may raise is raised to those who put and to who leaves."""

    async def main() -> None:
        async with Heard().recorder(Writer(error=ZeroDivisionError())) as recorder:
            for line in range(10_000):
                await recorder.put(settled(line))

    with pytest.raises(ZeroDivisionError):
        simulated(main())


def test_leaving_by_an_error_writes_too() -> None:
    """An error in the context still lets everything out, and stays the error."""
    writers: list[Writer] = []

    async def main() -> None:
        writers.append(Writer(delay=5.0))
        async with Heard().recorder(*writers) as recorder:
            await recorder.put(settled(1))
            raise KeyError

    with pytest.raises(KeyError):
        simulated(main())
    assert lines(writers[0]) == [1]
