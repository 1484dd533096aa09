"""How much goes at once, and a second, to hosts that redirects lead to."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from fetcher.chunks import Pace
from fetcher.model import Request
from fetcher.visits import Visits
from tests.fakes import Clock, simulated


@pytest.mark.parametrize(
    ("pace", "most", "seconds"),
    [
        (Pace(2, None, learning=False), 2, 4.5),
        (Pace(1, None, learning=False), 1, 9.0),
        (Pace(None, None, learning=False), 10, 0.9),
        (Pace(None, 2.0, learning=False), 2, 5.4),
        (Pace(5, 2.0, learning=True), 2, 5.4),
        (Pace(1, 0.5, learning=False), 1, 18.9),
    ],
)
def test_visits(pace: Pace, most: int, seconds: float) -> None:
    """Of ten visits to each of two hosts, nearly a second long, no more go on at once, nor begin in a second, than may."""
    active: Counter[str] = Counter()
    peak: Counter[str] = Counter()

    async def visit(visits: Visits, host: str) -> None:
        async with visits.to(host):
            active[host] += 1
            peak[host] = max(peak[host], active[host])
            await asyncio.sleep(0.9)
            active[host] -= 1

    async def run() -> float:
        visits = Visits(lambda _: pace, Clock(), shared=False)
        await asyncio.gather(*(visit(visits, host) for host in "ab" * 10))
        return asyncio.get_running_loop().time()

    assert simulated(run()) == pytest.approx(seconds)
    assert peak == {"a": most, "b": most}


def test_a_visit_that_is_given_up() -> None:
    """Who is cancelled while waiting, or on the visit, is in nobody's way."""

    async def run() -> None:
        visits = Visits(lambda _: Pace(1, None, learning=False), Clock(), shared=False)

        async def visit() -> None:
            async with visits.to("a"):
                await asyncio.sleep(100)

        visiting = [asyncio.create_task(visit()) for _ in range(3)]
        await asyncio.sleep(1)
        for task in visiting:
            task.cancel()
        await asyncio.wait(visiting)
        async with asyncio.timeout(1), visits.to("a"):
            pass

    simulated(run())


@pytest.mark.parametrize(("rate", "most"), [(None, 1), (0.5, 5)])
def test_what_is_forgotten(rate: float | None, most: int) -> None:
    """A host that nobody visits is remembered only as long as its rate knows of a visit."""

    async def run() -> None:
        visits = Visits(lambda _: Pace(1, rate, learning=False), Clock(), shared=False)
        async with visits.to("a long visit"):
            for number in range(100):
                async with visits.to(str(number)):
                    assert len(visits) <= most + 1
                await asyncio.sleep(1)
        for number in range(9):
            await asyncio.sleep(1)
            async with visits.to(str(number % 2)):
                pass
        assert len(visits) <= 2

    simulated(run())


@pytest.mark.parametrize(("shared", "visited"), [(False, ["c"]), (True, ["b", "c"])])
def test_whose_turn_it_is(shared: bool, visited: list[str]) -> None:
    """The host that a request was started for is not visited; from workers that is never a mirror."""
    asked = Request(0, "http://a/", "http://a/", "a", "urls.txt", 1)
    visits = Visits(lambda _: Pace(1, None, learning=False), Clock(), shared=shared)
    assert [host for host in "abc" if visits.are(asked, host)] == ["b", "c"]
    mirrored = replace(asked, host="b", primary=asked)
    assert [host for host in "bc" if visits.are(mirrored, host)] == visited
