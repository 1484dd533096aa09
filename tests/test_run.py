"""One input line, exactly one record: whatever servers, lists, disks, readers and users do."""

import asyncio
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetcher.engines.inline import Inline
from fetcher.errors import Error, ErrorKind, FetchError, LocalError
from fetcher.events import Counters, Event, Notice, RecordWriter, Retrying, Settled
from fetcher.fetch import Fetch
from fetcher.identity import Identity
from fetcher.model import Outcome, Record, Row, Stop, Summary
from fetcher.naming import STATE_DIRECTORY
from fetcher.options import Bounds, Existing, Limits, Options, Output, Retries, Timeouts
from fetcher.robots import Gate
from fetcher.run import GRACE, Parts, Run
from fetcher.sources.listfile import ListSource
from fetcher.transport.base import Hop
from fetcher.wiring import Ears, opened
from tests.fakes import (
    SILENCE,
    START,
    Answer,
    Answers,
    Clock,
    Memory,
    Response,
    Sink,
    Source,
    Transport,
    Writer,
    simulated,
)
from tests.lists import list_at
from tests.server import Scope

UNAVAILABLE: Final = Answer(status=503)


def cut() -> Answer:
    """Return an answer whose body does not arrive whole."""
    return Answer(cut=FetchError(ErrorKind.TRUNCATED, "4 of 10 bytes, then closed"))


@dataclass(kw_only=True)
class Rig:
    """A run among fakes, and all that can be seen of it."""

    answers: Answers = field(default_factory=dict)
    default: Answer = field(default_factory=Answer)
    options: Options = field(default_factory=Options)
    sink: Sink = field(default_factory=Sink)
    memory: Memory | None = None
    writer: Writer = field(default_factory=Writer)
    dice: float = 0.0
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock = Clock(self.dice)
        limits = self.options.limits
        self.transport = Transport(self.answers, self.default)
        self.counters = Counters(0.0)
        gate = Gate("test", self.options.retries.max_wait) if limits.robots else None
        fetch = Fetch(self.transport, self.sink, Identity("test"), limits, clock, gate)
        self.run = Run(
            self.options,
            Parts(
                engine=Inline(self.options, fetch, clock, self.counters, self.events.append),
                memory=self.memory,
                writers=[writer for writer in (self.memory, self.writer) if writer is not None],
                clock=clock,
                counters=self.counters,
                observe=self.events.append,
                preview=lambda request: f"file{request.line}",
            ),
        )

    async def __call__(self, lines: Sequence[str] | Source, *stops: tuple[float, Stop]) -> Summary:
        """Run over the lines, being stopped at the given times, and check what holds for every run."""
        source = lines if isinstance(lines, Source) else Source(lines)
        loop = asyncio.get_running_loop()
        for when, reason in stops:
            loop.call_at(when, self.run.stop, reason)
        summary = await self.run([source])
        assert summary.ok + summary.failed + summary.not_started == summary.lines
        assert source.closed or not source.read
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert self.counters.active == {}
        assert max(self.transport.peak_of.values(), default=0) <= 1
        assert self.transport.peak <= self.options.limits.concurrency
        return summary

    @property
    def records(self) -> list[Record]:
        """The records that came out, in order."""
        return self.writer.records

    @property
    def by_line(self) -> dict[int, Record]:
        """The records by line; there are no two of one line."""
        found = {record.line: record for record in self.records}
        assert len(found) == len(self.records)
        return found


def kinds(records: Collection[Record]) -> Counter[str]:
    """Count records by the kind of their error, else by their outcome."""
    return Counter(record.error.kind if record.error else record.outcome for record in records)


def urls(count: int, host: str = "h") -> list[str]:
    """Return so many URLs."""
    return [f"http://{host}/{number}" for number in range(count)]


_POOL: Final = [f"http://{host}/{number}" for host in "ab" for number in range(4)]
_INVALID: Final = ["example.com/x", "ftp://h/x", "http://", "http://h/a b"]

#: Every way an attempt can end: well, with each error there is, cut short, in a bug, or never.
_attempts: Final = st.one_of(
    st.builds(Answer, delay=st.sampled_from([0.0, 0.5, 3.0])),
    st.builds(Answer, status=st.sampled_from([204, 206, 304, 404, 503])),
    st.builds(Answer, status=st.just(429), headers=st.just((("retry-after", "7"),))),
    st.sampled_from(list(ErrorKind)).map(lambda kind: Answer(error=FetchError(kind, "so it was chosen"))),
    st.sampled_from(list(ErrorKind)).map(lambda kind: Answer(cut=FetchError(kind, "so it was chosen"))),
    st.just(Answer(cut=ZeroDivisionError())),
    st.just(SILENCE),
)
_answers: Final = st.dictionaries(
    st.sampled_from(_POOL), st.lists(_attempts, min_size=1, max_size=4), max_size=len(_POOL)
)
_lines: Final = st.lists(st.sampled_from(_POOL + _INVALID), max_size=30)
_options: Final = st.builds(
    Options,
    limits=st.builds(Limits, concurrency=st.integers(1, 8), per_host=st.sampled_from([None, 1, 2])),
    timeouts=st.just(Timeouts(total=20.0)),
    retries=st.builds(Retries, count=st.integers(0, 3)),
)
_dice: Final = st.sampled_from([0.0, 0.3, 0.999])
_stops: Final = st.lists(st.tuples(st.sampled_from([0.0, 0.4, 2.0, 6.0, 30.0]), st.sampled_from(Stop)), max_size=2)


def settled_by_disk(answers: Answers) -> bool:
    """Tell whether some answer fails as only a disk does, which stops the run."""
    errors = [error for several in answers.values() for each in several for error in (each.error, each.cut)]
    return any(isinstance(error, FetchError) and error.kind == ErrorKind.DISK for error in errors)


@settings(max_examples=300)
@given(lines=_lines, answers=_answers, options=_options, dice=_dice, stops=_stops, remembers=st.booleans())
def test_one_line_one_record(
    lines: list[str],
    answers: dict[str, list[Answer]],
    options: Options,
    dice: float,
    stops: list[tuple[float, Stop]],
    remembers: bool,
) -> None:
    """Each line has exactly one record; of a stopped run each line that was started, and no line two."""

    async def main() -> None:
        rig = Rig(answers=answers, options=options, dice=dice, memory=Memory() if remembers else None)
        summary = await rig(lines, *stops)
        found = rig.by_line
        assert summary.lines == len(lines)
        assert {line: record.url for line, record in found.items()}.items() <= dict(enumerate(lines, 1)).items()
        assert len(found) == summary.ok + summary.failed
        assert summary.ok == sum(record.ok for record in found.values())
        if summary.stop is None:
            assert len(found) == len(lines)
        else:
            assert stops or settled_by_disk(answers)
        first = {url: line for line, url in reversed(list(enumerate(lines, 1)))}
        for url, attempts in rig.transport.sent.items():
            record = found[first[url]]
            assert record.attempts == attempts == len(record.retried) + 1 <= options.retries.count + 1
            assert record.outcome is (Outcome.FAILED if record.error else Outcome.FETCHED)
        for record in found.values():
            assert (record.outcome is Outcome.DUPLICATE) == (record.duplicate_of is not None)
            assert record.duplicate_of is None or record.duplicate_of == first[record.url] < record.line
            assert record.url not in _INVALID or not record.ok

    simulated(main())


class TestOrder:
    def test_slots_are_used_and_no_more(self) -> None:
        """Ten requests of one second, three at once, take four seconds."""

        async def main() -> None:
            rig = Rig(default=Answer(delay=1.0), options=Options(limits=Limits(concurrency=3)))
            summary = await rig(urls(10))
            assert rig.transport.peak == 3
            assert summary.elapsed == pytest.approx(4.0)

        simulated(main())

    def test_rate(self) -> None:
        """No more requests start than the rate allows, and a worker that went on does not get around it."""

        async def main() -> None:
            rig = Rig(options=Options(limits=Limits(rate=2.0, concurrency=50)))
            assert (await rig(urls(11))).elapsed == pytest.approx(5.0, abs=0.01)

        simulated(main())

    def test_slow_host_holds_up_nobody(self) -> None:
        """Behind a host that may run one request at a time, the other hosts' requests overtake."""

        async def main() -> None:
            options = Options(limits=Limits(concurrency=2, per_host=1))
            rig = Rig(answers={url: [Answer(delay=10.0)] for url in urls(5, "slow")}, options=options)
            await rig(urls(5, "slow") + urls(20, "quick"))
            assert [record.host for record in rig.records[:20]] == ["quick"] * 20

        simulated(main())

    def test_retries_hold_no_slot(self) -> None:
        """With a single slot, other hosts answer while the first request waits for its retry, which comes in time."""

        async def main() -> None:
            late = Answer(status=503, headers=(("retry-after", "100"),))
            rig = Rig(answers={"http://h/0": [late, Answer()]}, options=Options(limits=Limits(concurrency=1)))
            await rig([*urls(1), *urls(3, "i")])
            assert [record.line for record in rig.records] == [2, 3, 4, 1]
            last = rig.records[-1]
            assert (last.attempts, last.retried, last.outcome) == (2, ("http.503",), Outcome.FETCHED)
            assert last.elapsed == pytest.approx(100.0)
            assert all(record.elapsed == 0.0 for record in rig.records[:3])

        simulated(main())

    def test_retries_are_told(self) -> None:
        """A retry is an event and is counted, also as waiting while it waits; the last failure is the record's."""

        async def main() -> None:
            rig = Rig(default=UNAVAILABLE, options=Options(retries=Retries(count=2)), dice=0.5)
            loop = asyncio.get_running_loop()
            seen: list[int] = []
            loop.call_at(0.25, lambda: seen.append(rig.counters.retrying))
            summary = await rig(urls(1))
            assert [(event.attempt, event.delay) for event in rig.events if isinstance(event, Retrying)] == [
                (1, 0.5),
                (2, 1.0),
            ]
            assert seen == [1]
            assert summary.retries == 2
            assert kinds(rig.records) == {"http.503": 1}

        simulated(main())

    def test_retry_sums_up_bytes(self) -> None:
        """``wire_bytes`` counts what all attempts received."""

        async def main() -> None:
            rig = Rig(answers={"http://h/0": [cut(), cut(), Answer()]})
            summary = await rig(urls(1))
            assert (rig.records[0].bytes, rig.records[0].wire_bytes) == (4, 12)
            assert (summary.bytes, summary.wire_bytes) == (4, 12)

        simulated(main())


class TestPoliteness:
    def test_a_refusal_holds_its_host_only(self) -> None:
        """No request to the host inside the hold, no slot held, and the other host ends as if it were alone."""

        async def main() -> None:
            lasted = []
            for status in (200, 429):
                refused = Answer(status=status, headers=(("retry-after", "3"),), delay=0.1)
                answers = {url: [refused, Answer(delay=0.1)] for url in urls(4, "a")}
                options = Options(limits=Limits(concurrency=10, per_host=4))
                rig = Rig(answers=answers, default=Answer(delay=0.1), options=options)
                begun = asyncio.get_running_loop().time()
                await rig(urls(20, "a") + urls(200, "b"))
                ends = {host: [record for record in rig.records if record.host == host] for host in "ab"}
                assert all(record.ok for record in rig.records)
                lasted.append(max(map(ended_at, ends["b"])) - START - begun)
                if status == 429:
                    first = min(ended_at(record) for record in ends["a"]) - START - begun
                    assert 3.1 <= first <= 3.6
                    assert Counter(record.attempts for record in ends["a"]) == {1: 16, 2: 4}
            assert lasted[1] == pytest.approx(lasted[0], rel=0.05)

        simulated(main())

    def test_an_empty_quota_holds(self) -> None:
        """A good answer that says that nothing is left is the last for so long."""

        async def main() -> None:
            empty = Answer(headers=(("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "60")))
            options = Options(limits=Limits(concurrency=1))
            rig = Rig(answers={"http://h/2": [empty]}, options=options)
            await rig(urls(6))
            assert [ended_at(record) - START for record in rig.records] == pytest.approx([0, 0, 0, 60, 60, 60])
            assert {record.attempts for record in rig.records} == {1}

        simulated(main())

    def test_too_long_a_wait_fails_the_rest(self) -> None:
        """The URL fails at once; after the longest wait another is tried, and the rest is not, nor lost."""

        async def main() -> None:
            never = Answer(status=429, headers=(("retry-after", "86400"),))
            rig = Rig(default=never, options=Options(limits=Limits(concurrency=1)))
            summary = await rig(urls(5_000))
            assert kinds(rig.records) == {"http.429": 2, "host_down": 4_998}
            assert summary.elapsed == pytest.approx(300.0)
            assert rig.transport.sent.total() == 2

        simulated(main())

    def test_a_quota_that_stays_empty_fails_the_rest(self) -> None:
        """A server that answers, but says each time that the next quota is hours away, does not keep a run for days."""

        async def main() -> None:
            empty = Answer(headers=(("ratelimit", '"day";r=0;t=40000'),))
            rig = Rig(default=empty, options=Options(limits=Limits(concurrency=1)))
            summary = await rig(urls(100))
            assert kinds(rig.records) == {"fetched": 2, "host_down": 98}
            assert summary.elapsed == pytest.approx(300.0)

        simulated(main())

    def test_a_dead_host_takes_seconds(self) -> None:
        """Of 10,000 URLs few are tried; the others say why not, and other hosts do not wait."""

        async def main() -> None:
            dead = Answer(error=FetchError(ErrorKind.CONNECT_REFUSED, "refused"))
            rig = Rig(answers={url: [dead] for url in urls(10_000)}, dice=0.5, memory=Memory())
            summary = await rig(urls(10_000) + urls(100, "i"))
            assert summary.elapsed < 20
            assert summary.ok == 100
            found = kinds(rig.records)
            assert found["connect.refused"] < 100
            assert found["host_down"] == 10_000 - found["connect.refused"]
            untried = [record for record in rig.records if record.error and record.error.kind == ErrorKind.HOST_DOWN]
            assert all(record.attempts == 0 and record.error and record.error.transient for record in untried)
            assert len(rig.transport.sent) == found["connect.refused"] + 100

        simulated(main())

    @pytest.mark.parametrize(("seconds", "lost"), [(0.5, 0), (6.0, 0), (40.0, 2_000)])
    def test_a_host_that_comes_back(self, seconds: float, lost: int) -> None:
        """Within the patience of a run nothing is lost; later, what is left of the list still succeeds."""

        async def main() -> None:
            rig = Rig(dice=0.5, options=Options(retries=Retries(count=9)))
            send, loop = rig.transport.send, asyncio.get_running_loop()

            def revived(hop: Hop) -> AbstractAsyncContextManager[Response]:
                if loop.time() < seconds:
                    raise FetchError(ErrorKind.CONNECT_REFUSED, "refused")
                return send(hop)

            class Slow(Source):
                async def rows(self) -> AsyncGenerator[Row, None]:
                    async for row in super().rows():
                        yield row
                        if row.line == 2_000:
                            await asyncio.sleep(70.0)

            rig.transport.send = revived  # type: ignore[method-assign, assignment]
            await rig(Slow(urls(3_000)))
            assert sum(not record.ok for record in rig.records) == lost
            assert all(record.ok for line, record in rig.by_line.items() if line > 2_000)

        simulated(main())

    @pytest.mark.parametrize("hosts", [1, 2])
    def test_auto_settles_near_the_knee(self, hosts: int) -> None:
        """Of a server that slows beyond 8 at once and refuses 12, nearly all is had that it can give, in peace."""

        async def main() -> None:
            options = Options(limits=Limits(concurrency=200, adaptive=True), retries=Retries(count=20))
            rig = Rig(options=options, dice=0.5)
            active, refused = Counter[str](), Counter[str]()
            levels: dict[str, list[int]] = defaultdict(list)

            @asynccontextmanager
            async def loaded(hop: Hop) -> AsyncIterator[Response]:
                host = hop.url.split("/")[2]
                active[host] += 1
                try:
                    levels[host].append(active[host])
                    if active[host] >= 12:
                        refused[host] += 1
                        yield Response(Answer(status=503))
                        return
                    await asyncio.sleep(0.1 * max(1.0, active[host] / 8))
                    yield Response(Answer())
                finally:
                    active[host] -= 1

            rig.transport.send = loaded  # type: ignore[method-assign]
            summary = await rig([url for number in range(hosts) for url in urls(1_500, f"h{number}")])
            assert summary.failed == 0
            assert summary.elapsed < 1.4 * 1_500 * 0.1 / 8
            for host, seen in levels.items():
                late = seen[len(seen) // 2 :]
                assert 6 <= sum(late) / len(late) <= 12
                assert refused[host] <= 15

        simulated(main())

    def test_a_stop_while_a_host_is_down(self) -> None:
        """What was tried has its record, what was not has none, or says that it was not."""

        async def main() -> None:
            rig = Rig(default=Answer(error=FetchError(ErrorKind.DNS, "no address")), dice=0.5)
            summary = await rig(urls(5_000), (4.0, Stop.INTERRUPT))
            assert summary.not_started > 4_000
            assert set(kinds(rig.records)) == {"dns"}
            assert len(rig.records) == len(rig.transport.sent)

        simulated(main())

    def test_a_bad_url_does_not_hold_its_host(self) -> None:
        """A 503 without a time, among good answers, is its URL's own."""

        async def main() -> None:
            limits = Limits(concurrency=2)
            answers = {"http://h/3": [Answer(status=503, delay=0.1)]}
            rig = Rig(answers=answers, default=Answer(delay=0.1), options=Options(limits=limits), dice=0.5)
            summary = await rig(urls(100))
            assert summary.ok == 99
            assert summary.elapsed == pytest.approx(5.2, abs=0.3)

        simulated(main())


def ended_at(record: Record) -> float:
    """Return when a record's last attempt ended, in seconds since 1970."""
    begun = datetime.fromisoformat(record.started_at or "")
    return begun.timestamp() + record.elapsed


class TestBounds:
    def test_runs_by_deadline_equal_one_long_run(self) -> None:
        """Each takes just what those before have left, and together they send what one run sends."""

        async def main() -> None:
            memory, sent, left = Memory(), Counter[str](), 10
            for lines, started in ((10, 4), (6, 4), (2, 2)):
                assert left == lines
                options = Options(limits=Limits(concurrency=2), bounds=Bounds(deadline=1.5))
                rig = Rig(default=Answer(delay=1.0), options=options, memory=memory)
                summary = await rig(urls(10))
                left = summary.not_started
                assert rig.transport.sent.total() == started
                assert (summary.stop, left) == ((Stop.LIMIT, lines - started) if started < lines else (None, 0))
                assert summary.outcomes["skipped"] == 10 - lines
                sent += rig.transport.sent
            assert sent == Counter(urls(10))

        simulated(main())

    @pytest.mark.parametrize("existing", list(Existing))
    @pytest.mark.parametrize("dry_run", [False, True])
    def test_what_may_be_replaced(self, existing: Existing, dry_run: bool) -> None:
        """Memory hears of what is fetched again, and before it is; nothing is where it cannot note that."""
        options = Options(output=Output(existing=existing), dry_run=dry_run)

        async def main() -> None:
            first = Rig(memory=Memory())
            await first(urls(3))
            assert first.memory is not None
            assert first.memory.begun == []
            stored = {each.key: each.record for each in first.memory.settled if each.key is not None}
            again = existing is not Existing.SKIP and not dry_run
            rig = Rig(memory=Memory(stored), options=options)
            await rig(urls(4))
            assert rig.memory is not None
            assert rig.memory.begun == (urls(3) if again else [])
            rig = Rig(memory=Memory(stored, LocalError("cannot write it")), options=options)
            summary = await rig(urls(4))
            assert summary.stop == (Stop.DISK if again else None)
            assert not any(rig.transport.sent[url] for url in urls(3))

        simulated(main())

    def test_deadline_in_the_middle_of_transfers(self) -> None:
        """What does not end soon after is dropped, and says why; what waits for its retry ends as it failed."""

        async def main() -> None:
            rig = Rig(
                answers={"http://i/0": [UNAVAILABLE]},
                default=SILENCE,
                options=Options(bounds=Bounds(deadline=30.0), retries=Retries(count=99)),
                dice=0.999,
            )
            summary = await rig([*urls(2), "http://i/0"])
            assert summary.elapsed == pytest.approx(30.0 + GRACE)
            assert [record.error and record.error.message for record in rig.records if record.host == "h"] == [
                "stopped by --deadline 30 s after 0 B"
            ] * 2
            assert (summary.stop, summary.stopped) == (Stop.LIMIT, "stopped by --deadline 30 s")

        simulated(main())

    @pytest.mark.parametrize(
        ("bounds", "failing", "failed"),
        [
            (Bounds(failures=0), 1, 1),
            (Bounds(failures=4), 5, 5),
            (Bounds(failures=5), 5, None),
            (Bounds(failed_share=0.05), 300, 100),
            (Bounds(failed_share=0.5), 60, 100),
            (Bounds(failed_share=0.5), 40, None),
        ],
    )
    def test_max_failures(self, bounds: Bounds, failing: int, failed: int | None) -> None:
        """The first URLs fail; one failure too many, or too large a part of a hundred or more, ends the run."""

        async def main() -> None:
            options = Options(limits=Limits(concurrency=1), bounds=bounds)
            rig = Rig(answers={url: [Answer(status=404)] for url in urls(failing)}, options=options)
            summary = await rig(urls(300))
            if failed is None:
                assert (summary.stop, summary.failed, summary.not_started) == (None, failing, 0)
            else:
                assert summary.stop is Stop.LIMIT
                assert summary.ok + summary.failed == max(failed, 100 if bounds.failed_share else 0)

        simulated(main())

    def test_the_last_failure_ends_nothing(self) -> None:
        """A run whose list is done is complete, however much of it failed, and a deadline that is not reached is none."""

        async def main() -> None:
            rig = Rig(default=Answer(status=404), options=Options(bounds=Bounds(failures=2, deadline=9.0)))
            summary = await rig(urls(3))
            assert (summary.stop, summary.failed, summary.elapsed) == (None, 3, 0.0)

        simulated(main())


class TestSpeed:
    @pytest.mark.parametrize("concurrency", [1, 7])
    def test_bytes_per_second(self, concurrency: int) -> None:
        """200,000 bytes in pieces of 1,000 take 20 seconds at 10,000 a second, and never more came than that."""

        async def main() -> None:
            limits = Limits(max_speed=10_000, concurrency=concurrency)
            rig = Rig(default=Answer(body=(b"x" * 1_000,) * 10), options=Options(limits=limits))
            loop, seen = asyncio.get_running_loop(), list[tuple[float, int]]()
            for second in range(1, 20):
                loop.call_at(second, lambda: seen.append((loop.time(), rig.counters.wire_bytes)))
            summary = await rig(urls(20))
            assert summary.elapsed == pytest.approx(20.0, rel=0.05)
            assert len(seen) == 19
            assert all(0 <= time * 10_000 + 1_000 * (concurrency + 1) - got <= 20_000 for time, got in seen)

        simulated(main())


class TestDuplicates:
    @pytest.mark.parametrize("delay", [0.0, 1.0])
    def test_follow_their_original(self, delay: float) -> None:
        """A duplicate settles behind its original, tells of its file, and nothing is fetched for it."""

        async def main() -> None:
            rig = Rig(memory=Memory(), default=Answer(delay=delay))
            await rig(["http://h/a", "http://h/a#x", "HTTP://H:80/a"])
            first, *others = rig.records
            assert rig.transport.sent == {"http://h/a": 1}
            assert (first.line, first.sha256) == (1, sha256(b"body").hexdigest())
            for other in others:
                assert (other.outcome, other.duplicate_of, other.attempts) == (Outcome.DUPLICATE, 1, 0)
                assert (other.path, other.sha256, other.bytes) == (first.path, first.sha256, first.bytes)
            assert [other.url for other in others] == ["http://h/a#x", "HTTP://H:80/a"]

        simulated(main())

    def test_long_after_their_original(self) -> None:
        """The original's file is found again when its record has long been written."""

        async def main() -> None:
            pause = asyncio.Event()
            asyncio.get_running_loop().call_later(10.0, pause.set)

            class Paused(Source):
                async def rows(self) -> AsyncGenerator[Row, None]:
                    async for row in super().rows():
                        yield row
                        await pause.wait()

            rig = Rig(memory=Memory())
            await rig(Paused(["http://h/a", "http://h/a"]))
            first, second = rig.records
            assert (second.outcome, second.path, second.sha256) == (Outcome.DUPLICATE, first.path, first.sha256)

        simulated(main())

    def test_of_a_failure(self) -> None:
        """A duplicate of a failed line is ok as such and has no file."""

        async def main() -> None:
            rig = Rig(memory=Memory(), default=Answer(status=404, delay=1.0))
            summary = await rig(["http://h/a", "http://h/a"])
            assert [record.outcome for record in rig.records] == [Outcome.FAILED, Outcome.DUPLICATE]
            assert rig.records[1].path is None
            assert (summary.ok, summary.failed) == (1, 1)

        simulated(main())

    def test_wait_through_retries(self) -> None:
        """Duplicates wait as long as their original does, and hold up nobody else."""

        async def main() -> None:
            rig = Rig(answers={"http://h/0": [UNAVAILABLE, Answer()]}, dice=0.9, memory=Memory())
            await rig([*urls(1), *urls(3)])
            assert [record.line for record in rig.records] == [3, 4, 1, 2]

        simulated(main())


class TestStop:
    def test_transfers_finish(self) -> None:
        """A stopped run finishes what is under way, starts nothing more, and counts what is left."""

        async def main() -> None:
            rig = Rig(default=Answer(delay=2.0), options=Options(limits=Limits(concurrency=2)))
            summary = await rig(urls(10), (3.0, Stop.INTERRUPT))
            assert kinds(rig.records) == {"fetched": 4}
            assert (summary.stop, summary.not_started, summary.lines) == (Stop.INTERRUPT, 6, 10)
            assert summary.elapsed == pytest.approx(4.0)

        simulated(main())

    def test_beyond_the_grace_period(self) -> None:
        """What takes longer is dropped and becomes ``cancelled``; what was never started gets no record."""

        async def main() -> None:
            answers = {"http://h/0": [Answer(delay=0.9 + GRACE)], "http://h/1": [Answer(delay=1.1 + GRACE)]}
            rig = Rig(answers=answers, options=Options(limits=Limits(concurrency=2)))
            summary = await rig(urls(10), (1.0, Stop.TERMINATE))
            assert asyncio.get_running_loop().time() == pytest.approx(1.0 + GRACE)
            assert [record.line for record in rig.records] == [1, 2]
            assert kinds(rig.records) == {"fetched": 1, "cancelled": 1}
            assert rig.records[1].error == Error("cancelled", "stopped by SIGTERM after 0 B", transient=True)
            assert (summary.stop, summary.not_started) == (Stop.TERMINATE, 8)

        simulated(main())

    def test_dropped_transfer_leaves_nothing(self) -> None:
        """A transfer dropped in the middle of its body tells how far it came, and its body is aborted."""

        async def main() -> None:
            rig = Rig(default=Answer(body=(b"some", b"more"), gap=10.0))
            await rig(urls(1), (11.0, Stop.HANGUP))
            assert rig.records[0].error is not None
            assert rig.records[0].error.message == "stopped by a hang-up after 4 B"
            assert rig.records[0].wire_bytes == 4
            assert (rig.sink.aborted, rig.sink.bodies) == (["http://h/0"], {})

        simulated(main())

    def test_second_stop_is_at_once(self) -> None:
        """The second call drops what is under way, without a moment's grace."""

        async def main() -> None:
            rig = Rig(default=SILENCE)
            await rig(urls(3), (1.0, Stop.INTERRUPT), (2.0, Stop.INTERRUPT))
            assert kinds(rig.records) == {"cancelled": 3}
            assert asyncio.get_running_loop().time() == pytest.approx(2.0)

        simulated(main())

    def test_second_stop_ends_the_counting(self) -> None:
        """Nor does it wait for the rest of the list to be counted; the first does, but for two seconds only."""

        class Endless(Source):
            async def rows(self) -> AsyncGenerator[Row, None]:
                async for row in super().rows():
                    yield row
                await asyncio.sleep(1e6)

            async def count(self) -> int | None:
                await asyncio.sleep(1e6)
                return 0

        async def main() -> None:
            loop = asyncio.get_running_loop()
            summary = await Rig()(Endless(urls(3)), (0.0, Stop.INTERRUPT), (0.1, Stop.INTERRUPT))
            assert loop.time() == pytest.approx(0.1)
            assert summary.lines == summary.not_started
            begun = loop.time()
            await Rig()(Endless(urls(3)), (begun, Stop.INTERRUPT))
            assert loop.time() - begun == pytest.approx(2.0)

        simulated(main())

    def test_waiting_for_a_retry(self) -> None:
        """A request that waits for its retry settles at once, with its last error."""

        async def main() -> None:
            late = Answer(status=503, headers=(("retry-after", "200"),))
            rig = Rig(default=late)
            summary = await rig(urls(2), (1.0, Stop.INTERRUPT))
            assert kinds(rig.records) == {"http.503": 2}
            assert [record.attempts for record in rig.records] == [1, 1]
            assert (summary.failed, summary.not_started) == (2, 0)
            assert asyncio.get_running_loop().time() == pytest.approx(1.0)

        simulated(main())

    def test_dropped_retry(self) -> None:
        """A request dropped in its second attempt is ``cancelled`` and still tells of its first."""

        async def main() -> None:
            rig = Rig(answers={"http://h/0": [cut(), SILENCE]})
            await rig(urls(1), (1.0, Stop.INTERRUPT))
            record = rig.records[0]
            assert kinds([record]) == {"cancelled": 1}
            assert (record.attempts, record.retried, record.wire_bytes) == (2, ("truncated",), 4)

        simulated(main())

    def test_failure_during_the_grace_period(self) -> None:
        """What fails while the run ends is not tried again."""

        async def main() -> None:
            rig = Rig(default=Answer(status=503, delay=2.0))
            await rig(urls(1), (1.0, Stop.INTERRUPT))
            assert kinds(rig.records) == {"http.503": 1}
            assert (rig.transport.sent.total(), rig.events, rig.counters.retries) == (1, [], 0)

        simulated(main())

    def test_before_it_begins(self) -> None:
        """A run stopped before it begins fetches nothing."""

        async def main() -> None:
            rig = Rig()
            rig.run.stop(Stop.INTERRUPT)
            summary = await rig(urls(5))
            assert (rig.transport.hops, rig.records) == ([], [])
            assert (summary.stop, summary.not_started) == (Stop.INTERRUPT, 5)

        simulated(main())

    def test_silent_list(self) -> None:
        """A list that never sends its next line does not keep a stopped run waiting."""

        class Silent(Source):
            async def rows(self) -> AsyncGenerator[Row, None]:
                self.read, self.closed = 1, True
                yield Row("-", 1, "http://h/0")
                await asyncio.sleep(1e6)

        async def main() -> None:
            rig = Rig()
            summary = await rig(Silent([], countable=False), (1.0, Stop.INTERRUPT))
            assert (summary.lines, summary.ok) == (1, 1)
            assert asyncio.get_running_loop().time() == pytest.approx(1.0)

        simulated(main())

    def test_stuck_reader(self) -> None:
        """A reader that takes nothing cannot keep a stopped run: it is left out, and the journal has everything."""

        async def main() -> None:
            rig = Rig(memory=Memory(), writer=Writer(opened=False))
            assert rig.memory is not None
            summary = await rig(urls(9_000), (1.0, Stop.INTERRUPT), (1.1, Stop.INTERRUPT))
            assert asyncio.get_running_loop().time() < 4.0
            assert sorted(record.line for record in rig.memory.records) == list(range(1, summary.ok + 1))
            assert rig.records == []

        simulated(main())


class TestLocalTrouble:
    @pytest.mark.parametrize("step", ["open", "write", "commit"])
    def test_disk_error(self, step: str) -> None:
        """A disk that fails a body stops the run at once, saying why; transfers under way are dropped."""

        async def main() -> None:
            sink = Sink(trap=step, error=LocalError("no space left on device: /out"))
            rig = Rig(sink=sink, default=SILENCE, answers={"http://h/3": [Answer(delay=1.0)]})
            summary = await rig(urls(10))
            assert summary.stop is Stop.DISK
            assert kinds(rig.records) == {"disk": 1, "cancelled": 9}
            assert rig.events == [Notice("no space left on device: /out")]
            assert asyncio.get_running_loop().time() == pytest.approx(1.0)

        simulated(main())

    def test_many_disk_errors(self) -> None:
        """That many fail together is no second wish to stop: the rest of the list is still counted."""

        class Slow(Source):
            async def count(self) -> int | None:
                await asyncio.sleep(1.0)
                return await super().count()

        async def main() -> None:
            rig = Rig(
                sink=Sink(trap="open", error=LocalError("disk full")), options=Options(limits=Limits(concurrency=9))
            )
            summary = await rig(Slow(urls(5_000)))
            assert summary.stop is Stop.DISK
            assert (summary.lines, summary.not_started) == (5_000, 5_000 - len(rig.records))
            assert 1 <= len(rig.records) <= 9

        simulated(main())

    @pytest.mark.parametrize(
        ("error", "stop", "events"),
        [
            (LocalError("standard output: disk full"), Stop.DISK, [Notice("standard output: disk full")]),
            (BrokenPipeError(), Stop.PIPE, []),
        ],
    )
    def test_writer_fails(self, error: Exception, stop: Stop, events: list[Event]) -> None:
        """A reader that goes away, or a full disk behind it, ends the run; the journal has all that was done."""

        async def main() -> None:
            rig = Rig(memory=Memory(), writer=Writer(error=error), default=SILENCE, answers={"http://h/0": [Answer()]})
            summary = await rig(urls(3))
            assert rig.memory is not None
            assert summary.stop is stop
            assert rig.events == events
            assert kinds(rig.memory.records) == {"fetched": 1, "cancelled": 2}
            assert asyncio.get_running_loop().time() < 1.0

        simulated(main())

    def test_bug_in_the_list(self) -> None:
        """An error that no source may raise ends the run and is raised, after the records that there are."""

        async def main() -> None:
            def texts() -> Any:
                yield "http://h/0"
                raise ZeroDivisionError

            rig = Rig(default=SILENCE)
            with pytest.raises(ExceptionGroup) as caught:
                await rig.run([Source(texts(), countable=False)])
            assert caught.group_contains(ZeroDivisionError)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        simulated(main())

    def test_cancelled_run(self) -> None:
        """Whoever cancels the run gets it cancelled, with what was done written and no task left."""

        async def main() -> None:
            rig = Rig(default=SILENCE, answers={"http://h/0": [Answer()]})
            running = asyncio.create_task(rig.run([Source(urls(3))]))
            await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.wait({running})
            assert running.cancelled()
            assert kinds(rig.records) == {"fetched": 1}
            assert asyncio.all_tasks() == {asyncio.current_task()}

        simulated(main())


class TestMemory:
    def test_look_ahead(self) -> None:
        """Of a list of a million lines, no more than the look-ahead is read while nothing is done."""

        async def main() -> None:
            rig = Rig(default=SILENCE)
            source = Source((f"http://h/{number}" for number in range(1_000_000)), countable=False)
            await rig(source, (1.0, Stop.INTERRUPT), (1.0, Stop.INTERRUPT))
            assert source.read == rig.options.limits.look_ahead == 2_000

        simulated(main())

    @pytest.mark.parametrize("line", ["http://h/{}", "http://h/", "no url {}"])
    def test_slow_writer_slows_reading(self, line: str) -> None:
        """While the output is stuck, a bounded part of the list is read: of URLs, duplicates and bad lines alike."""

        async def main() -> None:
            rig = Rig(writer=Writer(opened=False))
            source = Source((line.format(number) for number in range(10_000)), countable=False)
            reached: list[int] = []

            def look() -> None:
                reached.append(source.read)
                rig.writer.gate.set()

            asyncio.get_running_loop().call_at(60.0, look)
            summary = await rig(source)
            assert reached[0] < 6_000
            assert len(rig.records) == summary.lines == 10_000

        simulated(main())

    @pytest.mark.parametrize(("countable", "totals"), [(True, [6, 6]), (False, [None, 6])])
    def test_count(self, countable: bool, totals: list[int | None]) -> None:
        """With ``count`` the total is known while the list is open; of a list that cannot tell it is at its end."""

        class Slow(Source):
            async def rows(self) -> AsyncGenerator[Row, None]:
                async for row in super().rows():
                    yield row
                await asyncio.sleep(0.6)

        async def main() -> None:
            rig = Rig(default=Answer(delay=1.0))
            seen: list[int | None] = []
            for moment in (0.5, 0.7):
                asyncio.get_running_loop().call_later(moment, lambda: seen.append(rig.counters.total))
            sources = [Source(urls(3)), Slow(urls(3, "i"), countable=countable)]
            summary = await rig.run(sources, count=True)
            assert seen == totals
            assert summary.lines == 6

        simulated(main())


class TestDirectory:
    """Runs with all their real parts, over a real directory and server."""

    @pytest.fixture
    def options(self, tmp_path: Path) -> Options:
        """Options for a directory of the test's own."""
        return Options(output=Output(directory=tmp_path / "out"), retries=Retries(count=0))

    async def test_second_run_skips(self, server: Scope, options: Options) -> None:
        """The same list again fetches only what failed; the rest is ``skipped`` and tells of the file."""
        lines = [server.url("a"), server.url("a"), server.url("b", fail_times=1, fail_status=404), "nonsense"]
        first = by_line(await fetched(options, lines))
        second = by_line(await fetched(options, lines))
        assert outcomes(first) == ["fetched", "duplicate", "http.404", "invalid_url"]
        assert outcomes(second) == ["skipped", "duplicate", "fetched", "invalid_url"]
        assert len(server.requests("a")) == 1
        for line in (1, 2):
            assert (second[line].path, second[line].sha256) == (first[1].path, first[1].sha256)
            assert (second[line].status, second[line].bytes) == (200, len(server.body_of("a")))
        assert set(files(options).values()) == {server.body_of("a"), server.body_of("b")}

    async def test_replace_fetches_again(self, server: Scope, options: Options) -> None:
        """``--existing replace`` fetches what is there already, under the same name."""
        again = Options(output=Output(directory=options.output.directory, existing=Existing.REPLACE))
        first = by_line(await fetched(options, [server.url("a")]))
        second = by_line(await fetched(again, [server.url("a")]))
        assert outcomes(second) == ["fetched"]
        assert len(server.requests("a")) == 2
        assert first[1].path == second[1].path

    async def test_lost_and_changed_files_are_fetched_again(self, server: Scope, options: Options) -> None:
        """A file that is gone or has another size is not skipped."""
        lines = [server.url("a"), server.url("b")]
        first = by_line(await fetched(options, lines))
        directory = options.output.directory
        (directory / (first[1].path or "")).unlink()
        (directory / (first[2].path or "")).write_bytes(b"")
        assert outcomes(by_line(await fetched(options, lines))) == ["fetched", "fetched"]
        assert files(options) == {server.path(name): server.body_of(name) for name in "ab"}

    @pytest.mark.parametrize("before", [False, True])
    async def test_dry_run(self, server: Scope, options: Options, before: bool) -> None:
        """A dry run says what would be done, asks no server, and makes nothing."""
        if before:
            await fetched(options, [server.url("b")])
        there, asked = tree(options), len(server.requests())
        lines = [server.url("a"), server.url("b"), server.url("a"), "nonsense"]
        dry = Options(output=options.output, dry_run=True)
        records = by_line(await fetched(dry, lines))
        b = "skipped" if before else "planned"
        assert outcomes(records) == ["planned", b, "duplicate", "invalid_url"]
        assert records[1].path == records[3].path == f"{server.host.replace(':', '_')}{server.path('a')}"
        assert (len(server.requests()), tree(options)) == (asked, there)

    async def test_dry_run_of_a_late_duplicate(self, server: Scope, options: Options) -> None:
        """A dry run tells a duplicate's file even if nothing remembers the original."""
        lines = [server.url("a"), *(server.url(f"x{number}") for number in range(3_000)), server.url("a")]
        records = by_line(await fetched(Options(output=options.output, dry_run=True), lines))
        assert records[3_002].path == records[1].path is not None

    async def test_dry_run_keeps_nothing(self, server: Scope) -> None:
        """Where nothing would be stored, a dry run names no file."""
        records = by_line(await fetched(Options(output=Output(save=False), dry_run=True), [server.url("a")]))
        assert outcomes(records) == ["planned"]
        assert records[1].path is None

    @pytest.mark.parametrize("torn", [0, 1, 200, 700])
    @pytest.mark.parametrize("crash", [1, 12, 30])
    async def test_crash_and_again(
        self, server: Scope, options: Options, tmp_path: Path, crash: int, torn: int
    ) -> None:
        """After a kill at any time the same command ends with one record per line and every byte right.

        What a kill leaves is what lies in the directory at that moment, here with a journal that lost its last bytes.
        """
        lines = [server.url(f"{number % 31}", size=(number % 31) * 977) for number in range(40)]
        left = tmp_path / "left"

        class Killed:
            seen = 0

            async def write(self, batch: Sequence[Settled]) -> None:
                self.seen += len(batch)
                if self.seen >= crash and not left.exists():
                    with suppress(shutil.Error):  # for a body that got its name meanwhile
                        shutil.copytree(options.output.directory, left)

        limits = Limits(concurrency=3, rate=400)
        await fetched(Options(output=options.output, limits=limits), lines, Killed())
        journal = left / STATE_DIRECTORY / "records.ndjson"
        journal.write_bytes(journal.read_bytes()[: max(0, journal.stat().st_size - torn)])
        again = Options(output=Output(directory=left))
        records = by_line(await fetched(again, lines))
        assert sorted(records) == list(range(1, 41))
        assert all(record.ok for record in records.values())
        assert files(again) == {
            f"{server.path(str(number))}@size={number * 977}": server.body_of(str(number), number * 977)
            for number in range(31)
        }
        for record in records.values():
            body = (left / (record.path or "")).read_bytes()
            assert (record.bytes, record.sha256) == (len(body), sha256(body).hexdigest())
        assert outcomes(by_line(await fetched(again, lines))).count("skipped") == 31

    async def test_stopped_by_a_signal_and_again(self, server: Scope, options: Options) -> None:
        """A run stopped twice in the middle of bodies leaves no half file, and the same command finishes it."""
        lines = [server.url("slow", size=9_000, drip="9,0.3")]
        writer = Listener()
        async with running(options, writer) as run:
            task = asyncio.create_task(run([listed(options, lines)]))
            await server_busy(server)
            run.stop(Stop.INTERRUPT)
            run.stop(Stop.INTERRUPT)
            begun = time.monotonic()
            summary = await task
        assert time.monotonic() - begun < 2.0
        assert (summary.stop, kinds(writer.records)) == (Stop.INTERRUPT, {"cancelled": 1})
        assert files(options) == {}
        assert outcomes(by_line(await fetched(options, [server.url("slow", size=9_000)]))) == ["fetched"]


class Listener:
    """Keeps the records of a real run."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def write(self, batch: Sequence[Settled]) -> None:
        self.records += [settled.record for settled in batch]


def listed(options: Options, lines: Sequence[str]) -> ListSource:
    """Return a list file of these lines."""
    path = options.output.directory.parent / "urls.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return list_at(str(path))


@asynccontextmanager
async def running(options: Options, *writers: RecordWriter) -> AsyncIterator[Run]:
    """Open a real run."""
    async with opened(options, Ears(counters=Counters(time.monotonic()), writers=writers)) as run:
        yield run


async def fetched(options: Options, lines: Sequence[str], *writers: RecordWriter) -> list[Record]:
    """Return the records of a real run over a list file."""
    listener = Listener()
    async with running(options, listener, *writers) as run:
        source = Source(lines) if not options.output.save else listed(options, lines)
        summary = await run([source])
    assert summary.ok + summary.failed == summary.lines == len(listener.records) == len(lines)
    return listener.records


async def server_busy(server: Scope) -> None:
    """Wait until the server is answering."""
    async with asyncio.timeout(10):
        while not server.active_now():  # noqa: ASYNC110  the server has its own loop
            await asyncio.sleep(0.001)


def by_line(records: Sequence[Record]) -> dict[int, Record]:
    """Return the records by line."""
    return {record.line: record for record in sorted(records, key=lambda record: record.line)}


def outcomes(records: dict[int, Record]) -> list[str]:
    """Return error kinds or outcomes in the order of lines."""
    return [record.error.kind if record.error else record.outcome.value for record in records.values()]


def files(options: Options) -> dict[str, bytes]:
    """Return the bodies in the directory by their path below the host; nothing else lies there but the state."""
    found = {}
    directory = options.output.directory
    for path in directory.rglob("*"):
        host, *below = path.relative_to(directory).parts
        if host != STATE_DIRECTORY and path.is_file():
            found["/" + "/".join(below)] = path.read_bytes()
    return found


def tree(options: Options) -> dict[Path, bytes]:
    """Return all that lies beside the list."""
    return {path: path.read_bytes() for path in options.output.directory.rglob("*") if path.is_file()}
