"""Runs that obey robots.txt, among fakes and on a virtual clock."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetcher.errors import ErrorKind, FetchError
from fetcher.events import Retrying, Ruled
from fetcher.model import Headers, Outcome, Record, Row, Stop
from fetcher.options import Limits, Options, Retries, Timeouts
from tests.fakes import SILENCE, START, Answer, Answers, Source, simulated
from tests.test_run import Rig, kinds, urls

REFUSED: Final = Answer(error=FetchError(ErrorKind.CONNECT_REFUSED, "h refused"))


def says(*lines: str, delay: float = 0.0) -> Sequence[Answer]:
    """Return a robots.txt with these rules for everyone."""
    return (Answer(body=["\n".join(("User-agent: *", *lines)).encode()], delay=delay),)


def to(location: str, delay: float = 0.0) -> Sequence[Answer]:
    """Return a redirect."""
    return (Answer(status=302, headers=(("location", location),), delay=delay),)


def rig(
    answers: Answers,
    *,
    concurrency: int = 5,
    per_host: int | None = None,
    retries: int = 0,
    timeout: float | None = None,
) -> Rig:
    """Return a run that obeys robots.txt files."""
    options = Options(
        limits=Limits(concurrency=concurrency, per_host=per_host, robots=True),
        retries=Retries(count=retries),
        timeouts=Timeouts(total=timeout),
    )
    return Rig(answers=answers, options=options)


def sent(run: Rig) -> list[str]:
    """Return what was asked for, in order, without its scheme."""
    return [hop.url.partition("//")[2] for hop in run.transport.hops]


def started(records: Sequence[Record]) -> list[float]:
    """Return when the first attempts of these began, in simulated seconds."""
    return [round(datetime.fromisoformat(str(record.started_at)).timestamp() - START, 3) for record in records]


def words(run: Rig) -> list[str]:
    """Return what was told of robots.txt files."""
    return [f"{event.url}: {event.words}" for event in run.events if isinstance(event, Ruled)]


def test_asked_first_and_once() -> None:
    """Each origin is asked once, before anything else, and what it forbids is never asked for."""
    run = rig({"http://a/robots.txt": says("Disallow: /1"), "https://a/robots.txt": (Answer(status=404),)})
    summary = simulated(run([*urls(3, "a"), "https://a/1", "http://b/1", "http://a/robots.txt"]))
    assert run.transport.sent["http://a/robots.txt"] == 2
    assert all(run.transport.sent[f"{origin}/robots.txt"] == 1 for origin in ("https://a", "http://b"))
    for origin in ("http://a", "https://a", "http://b"):
        ours = [hop.url for hop in run.transport.hops if hop.url.startswith(f"{origin}/")]
        assert ours[0] == f"{origin}/robots.txt"
    assert "a/1" not in [hop.url.removeprefix("http://") for hop in run.transport.hops]
    refused = run.by_line[2]
    assert (refused.outcome, refused.attempts, refused.started_at) == (Outcome.FAILED, 0, None)
    assert refused.error is not None
    assert (refused.error.kind, refused.error.transient) == ("robots", False)
    assert refused.error.message == "disallowed by http://a/robots.txt"
    assert kinds(run.records) == {"fetched": 5, "robots": 1}
    assert (summary.lines, summary.retries) == (6, 0)
    assert summary.wire_bytes == sum(record.wire_bytes for record in run.records)


def test_other_origins_go_on() -> None:
    """URLs that wait for their rules hold no slot: one is enough for the asking, the other serves everyone else."""
    run = rig({"http://a/robots.txt": says(delay=50.0)}, concurrency=2)
    simulated(run([*urls(20, "a"), *urls(20, "b")]))
    assert started([run.by_line[line] for line in range(21, 41)]) == [0.0] * 20
    assert min(started([run.by_line[line] for line in range(1, 21)])) == 50.0


def test_crawl_delay() -> None:
    """Starts are so far apart, from the asking on, whatever slots are free; other hosts do not wait."""
    run = rig({"http://a/robots.txt": says("Crawl-delay: 7", "Disallow: /1", delay=2.0)})
    simulated(run([*urls(4, "a"), "http://b/"]))
    assert started([run.by_line[line] for line in (1, 3, 4, 5)]) == [7.0, 14.0, 21.0, 0.0]
    assert words(run)[-1] == "http://a/robots.txt: obeyed, 7 s between requests"


class Late(Source):
    """A list whose rows but the first come after a long while."""

    async def rows(self) -> AsyncGenerator[Row, None]:
        async with aclosing(super().rows()) as rows:
            async for row in rows:
                yield row
                await asyncio.sleep(1000.0 if row.line == 1 else 0.0)


def test_crawl_delay_of_a_host_that_comes_back() -> None:
    """It holds for requests that come when there have been none for long, and nobody is asked again."""
    run = rig({"http://a/robots.txt": says("Crawl-delay: 7")})
    simulated(run(Late(urls(3, "a"))))
    assert started([run.by_line[line] for line in (1, 2, 3)]) == [7.0, 1000.0, 1007.0]
    assert run.transport.sent["http://a/robots.txt"] == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_holds_the_origin(status: int) -> None:
    """The asking is retried like any request, and holds the origin's URLs like one; then they go on."""
    refusal = Answer(status=status, headers=(("retry-after", "30"),))
    run = rig({"http://a/robots.txt": (refusal, *says("Disallow: /1"))}, retries=1)
    summary = simulated(run([*urls(3, "a"), "http://b/"]))
    assert kinds(run.records) == {"fetched": 3, "robots": 1}
    assert started([run.by_line[line] for line in (1, 3, 4)]) == [30.0, 30.0, 0.0]
    assert run.transport.sent["http://a/robots.txt"] == 2
    assert "http://a/robots.txt: " + f"{status}, asked again in 30 s" in words(run)
    assert summary.retries == 0
    assert not [event for event in run.events if isinstance(event, Retrying)]


@pytest.mark.parametrize(
    ("answer", "fetched"),
    [
        (Answer(status=404), True),
        (Answer(status=401), True),
        (Answer(status=204), True),
        (Answer(status=500), False),
        (Answer(status=503), False),
        (Answer(status=429), False),
        (REFUSED, False),
        (SILENCE, False),
        (Answer(cut=FetchError(ErrorKind.TRUNCATED, "4 of 10 bytes")), False),
        (Answer(cut=ZeroDivisionError()), False),
        (Answer(headers=(("content-encoding", "gzip"),)), False),
        (Answer(status=302), True),
    ],
)
def test_other_answers(answer: Answer, fetched: bool) -> None:
    """Whatever comes of asking, each URL has its one record; nothing is fetched from who could not say."""
    run = rig({"http://h/robots.txt": (answer,)}, retries=1, timeout=60.0)
    summary = simulated(run(urls(3)))
    assert kinds(run.records) == ({"fetched": 3} if fetched else {"robots": 3})
    assert (summary.lines, len(run.records)) == (3, 3)
    assert run.transport.sent["http://h/robots.txt"] <= 2


@pytest.mark.parametrize(("hops", "kind"), [(1, "robots"), (5, "robots"), (6, "fetched")])
def test_a_file_elsewhere(hops: int, kind: str) -> None:
    """Five redirects are followed, to other hosts too, whose own rules do not matter; then there is none."""
    answers = {f"http://h{number}/robots.txt": to(f"http://h{number + 1}/robots.txt") for number in range(hops)}
    run = rig(answers | {f"http://h{hops}/robots.txt": says("Disallow: /")})
    simulated(run(["http://h0/a"]))
    assert kinds(run.records) == {kind: 1}
    assert sum(url.endswith("robots.txt") for url in sent(run)) == min(hops, 5) + 1


@pytest.mark.parametrize("per_host", [None, 1])
@pytest.mark.parametrize("target", ["http://b/1", "https://a/1"])
def test_a_redirect_to_another_origin(target: str, per_host: int | None) -> None:
    """It is followed when that one has been asked, without a second look at the first; nobody waits for ever."""
    origin = target.removesuffix("/1")
    run = rig({"http://a/0": to(target), f"{origin}/robots.txt": says(delay=5.0)}, concurrency=1, per_host=per_host)
    simulated(run(["http://a/0"]))
    assert [hop.url for hop in run.transport.hops] == [
        "http://a/robots.txt",
        "http://a/0",
        f"{origin}/robots.txt",
        target,
    ]
    (record,) = run.records
    assert (record.outcome, record.final_url, record.attempts, record.elapsed) == ("fetched", target, 1, 5.0)
    assert [hop.url for hop in record.redirects] == ["http://a/0"]


@pytest.mark.parametrize("known", [True, False])
def test_a_redirect_to_what_is_forbidden(known: bool) -> None:
    """It is refused, whether its origin had been asked before or not."""
    run = rig({"http://a/0": to("http://b/1"), "http://b/robots.txt": says("Disallow: /1")}, retries=3)
    simulated(run([*(["http://b/0"] if known else []), "http://a/0"]))
    record = next(record for record in run.records if record.url == "http://a/0")
    assert record.error is not None
    assert (record.error.kind, record.error.message) == ("robots", "disallowed by http://b/robots.txt")
    assert (record.attempts, record.status, record.final_url, len(record.redirects)) == (1, 302, "http://a/0", 1)
    assert run.transport.sent["http://b/1"] == 0
    assert run.transport.sent["http://a/0"] == 1


def test_redirects_through_many_origins() -> None:
    """Each is asked before it is gone to, and the limit of redirects holds over all of them."""
    run = rig({f"http://h{number}/": to(f"http://h{number + 1}/") for number in range(30)})
    simulated(run(["http://h0/"]))
    assert kinds(run.records) == {"redirect.limit": 1}
    assert sent(run) == [f"h{number}/{file}" for number in range(21) for file in ("robots.txt", "")]


def test_credentials_stay_at_home_when_an_attempt_goes_on() -> None:
    """A user's password is not told to the next origin, nor asked for its robots.txt."""
    run = rig({"http://a/0": to("http://b/1")})
    simulated(run(["http://u:p@a/0"]))
    told = [hop.url for hop in run.transport.hops if any(name == "Authorization" for name, _ in hop.headers)]
    assert told == ["http://a/0"]


def test_the_time_of_an_attempt_that_goes_on() -> None:
    """``--timeout`` bounds what it takes before and after the asking together, and not the asking."""
    answers = {"http://a/0": to("http://b/1", delay=6.0), "http://b/robots.txt": says(delay=8.0)}
    run = rig(answers | {"http://b/1": (Answer(delay=6.0),)}, timeout=10.0)
    simulated(run(["http://a/0"]))
    (record,) = run.records
    assert record.error is not None
    assert (record.error.kind, record.elapsed) == ("timeout.total", 6.0 + 8.0 + 4.0)


def test_stopped_before_the_rules_are_known() -> None:
    """What waits was not started; what was put off was, and is told as cancelled."""
    answers = {"http://a/0": to("http://b/1"), "http://b/robots.txt": (SILENCE,), "http://c/3": (Answer(delay=5.0),)}
    run = rig(answers)
    summary = simulated(run(["http://a/0", "http://b/2", "http://c/3"], (3.0, Stop.INTERRUPT)))
    assert kinds(run.records) == {"cancelled": 1, "fetched": 1}
    assert summary.not_started == 1
    cancelled = next(record for record in run.records if record.error)
    assert (cancelled.url, cancelled.status, cancelled.attempts, len(cancelled.redirects)) == ("http://a/0", 302, 1, 1)
    assert run.counters.waiting == 0


def test_a_host_that_is_down() -> None:
    """URLs that wait for the rules of a host that cannot be reached are told as those of any such host."""
    run = rig({f"{scheme}://h/robots.txt": (REFUSED,) for scheme in ("http", "https")}, retries=30)
    simulated(run([*urls(3), "https://h/9"]))
    assert kinds(run.records) == {"host_down": 4}
    assert all("connections failed in a row" in record.error.message for record in run.records if record.error)
    assert {record.attempts for record in run.records} == {0}


def test_one_slot_and_long_lists() -> None:
    """However few slots there are, hosts and their rules never wait for each other for ever."""
    hosts = [f"h{number}" for number in range(20)]
    answers = {f"http://{host}/robots.txt": says("Disallow: /1", delay=0.1) for host in hosts}
    run = rig(answers, concurrency=1, per_host=1)
    simulated(run([f"http://{host}/{number}" for number in range(5) for host in hosts]))
    assert kinds(run.records) == {"fetched": 80, "robots": 20}
    assert all(run.transport.sent[f"http://{host}/robots.txt"] == 1 for host in hosts)


_ORIGINS: Final = ["http://a", "https://a", "http://b"]
_POOL: Final = [f"{origin}/{number}" for origin in _ORIGINS for number in range(4)]
_files: Final = st.one_of(
    st.sampled_from([says("Disallow: /1"), says("Disallow: /r", "Crawl-delay: 2", delay=1.0), says("Allow: /")]),
    st.sampled_from([(Answer(status=404),), (Answer(status=503), *says("Disallow: /")), (REFUSED,), (SILENCE,)]),
)
_bodies: Final = st.one_of(
    st.just((Answer(),)),
    st.just((Answer(status=503), Answer())),
    st.sampled_from(_ORIGINS).map(lambda origin: to(f"{origin}/r", delay=0.5)),
)


@settings(max_examples=60)
@given(
    files=st.fixed_dictionaries({f"{origin}/robots.txt": _files for origin in _ORIGINS}),
    bodies=st.dictionaries(st.sampled_from(_POOL), _bodies),
    lines=st.lists(st.sampled_from(_POOL), max_size=12, unique=True),
    concurrency=st.integers(1, 4),
    stop=st.none() | st.sampled_from([0.2, 1.0, 3.0]),
)
def test_one_line_one_record(
    files: Answers, bodies: Answers, lines: list[str], concurrency: int, stop: float | None
) -> None:
    """Whatever the files say, and whenever a run is stopped; nothing is asked for that is forbidden, or not yet allowed."""
    answers = {url: [replace(each, headers=_numbered(each, url)) for each in found] for url, found in bodies.items()}
    run = rig(dict(files) | answers, concurrency=concurrency, retries=1, timeout=60.0)
    stops = [] if stop is None else [(stop, Stop.INTERRUPT)]
    summary = simulated(run(lines, *stops))
    assert len(run.by_line) == len(lines) - summary.not_started
    assert stop is not None or not summary.not_started
    asked: set[str] = set()
    for hop in run.transport.hops:
        origin, _, path = hop.url.rpartition("/")
        if path == "robots.txt":
            asked.add(origin)
            continue
        assert origin in asked
        rules = b"".join(files[f"{origin}/robots.txt"][-1].body)
        assert files[f"{origin}/robots.txt"] not in ((REFUSED,), (SILENCE,))
        assert f"Disallow: /{path[0]}".encode() not in rules
        assert not rules.endswith(b"Disallow: /")


def _numbered(answer: Answer, url: str) -> Headers:
    """Return the fields of a redirect to a place that no other URL leads to."""
    return tuple((name, value + url.rpartition("//")[2].replace("/", "-")) for name, value in answer.headers)


def test_without_the_option_nobody_is_asked() -> None:
    """A robots.txt is a file like any other."""
    run = Rig()
    simulated(run(urls(3)))
    assert sent(run) == ["h/0", "h/1", "h/2"]
