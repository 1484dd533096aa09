"""The counters add up, and latencies are right within what they promise."""

from dataclasses import replace
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.errors import Error
from fetcher.events import MAX_HOSTS, MAX_LISTED, OTHER_HOSTS, Counters, Latencies, Transfer
from fetcher.model import Outcome, Record, Request, Stop


def record(line: int, outcome: Outcome, host: str | None = "a", *, kind: str = "dns", **values: float) -> Record:
    """Make a record; a failed one has an error of this kind."""
    error = Error.of(kind, "failed") if outcome is Outcome.FAILED else None
    size = int(values.get("size", 0))
    elapsed = values.get("elapsed", 0.1)
    url = f"http://{host}/{line}"
    return Record(url=url, source="-", line=line, host=host, outcome=outcome, error=error, bytes=size, elapsed=elapsed)


@given(st.lists(st.floats(1e-4, 1e5), min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_right_within_5_percent(seconds: list[float], share: float) -> None:
    """The histogram answers as the sorted list would, nearly."""
    latencies = Latencies()
    for value in seconds:
        latencies.add(value)
    exact = sorted(seconds)[max(1, ceil(share * len(seconds))) - 1]
    assert latencies.count == len(seconds)
    assert latencies.quantile(share) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("exponent", [-13, -1, 0, 9])
@pytest.mark.parametrize("nudge", [0.0, -1e-12, 1e-12])
def test_a_power_of_two_is_no_exception(exponent: int, nudge: float) -> None:
    """Where one row of buckets ends and the next begins, nothing is counted in a wrong one."""
    latencies = Latencies()
    latencies.add(2.0**exponent + nudge)
    assert latencies.quantile(0.5) == pytest.approx(2.0**exponent, rel=0.035)


def test_no_latencies_have_no_quantile() -> None:
    """Nothing measured is not zero seconds."""
    assert Latencies().quantile(0.5) is None


def test_an_immeasurably_short_time_is_counted() -> None:
    """A clock too coarse for a loopback server breaks nothing."""
    latencies = Latencies()
    latencies.add(0.0)
    assert latencies.quantile(1.0) == pytest.approx(1e-4, rel=0.05)


@given(
    st.lists(
        st.tuples(st.sampled_from(Outcome), st.sampled_from(["a", "b", None]), st.sampled_from(["dns", "decode"]))
    ),
    st.none() | st.integers(0, 30),
    st.integers(0, 30),
)
def test_the_summary_adds_up(settled: list[tuple[Outcome, str | None, str]], total: int | None, unsettled: int) -> None:
    """Every line is ok, failed or not started; every failure has its kind and host; every outcome is counted."""
    counters = Counters(started=5.0)
    counters.total = total
    counters.read = len(settled) + unsettled
    for line, (outcome, host, kind) in enumerate(settled, 1):
        counters.settle(record(line, outcome, host, kind=kind))
    result = counters.summary(7.5, Stop.LIMIT, "stopped by --deadline 2 s")
    assert result.ok + result.failed + result.not_started == result.lines
    assert result.lines == max(counters.read, total or 0)
    assert sum(result.outcomes.values()) == counters.settled == len(settled)
    assert set(result.outcomes) == {outcome.value for outcome in Outcome}
    assert result.outcomes["failed"] == result.failed
    assert sum(count for hosts in result.errors.values() for count in hosts.values()) == result.failed
    assert sum(host.failed for host in counters.hosts.values()) == result.failed
    assert len(result.failures) == min(result.failed, MAX_LISTED)
    assert (result.elapsed, result.stop, result.stopped) == (2.5, Stop.LIMIT, "stopped by --deadline 2 s")


def test_only_answers_count_as_answers() -> None:
    """Skipped, duplicate and planned lines have no latency and add no bytes."""
    counters = Counters(started=0.0)
    for line, outcome in enumerate(Outcome, 1):
        counters.settle(record(line, outcome, size=10, elapsed=1.0))
    assert counters.latencies.count == counters.hosts["a"].latencies.count == counters.hosts["a"].ok == 2
    assert counters.bytes == 20
    assert counters.summary(1.0).p50 == pytest.approx(1.0, rel=0.05)


def test_received_bytes_include_transfers_under_way() -> None:
    """The rate on the display does not wait for a big file to end."""
    counters = Counters(started=0.0)
    counters.ended_bytes = 5
    request = Request(index=0, url="http://a/", target="http://a/", host="a", source="-", line=1)
    counters.active[0] = Transfer(request, started=0.0, received=3)
    assert counters.wire_bytes == counters.summary(1.0).wire_bytes == 8


def test_a_host_is_in_trouble_until_it_answers() -> None:
    """What may be the host's fault is counted until it answers; that a URL is missing is an answer."""
    counters = Counters(started=0.0)
    counters.retry("a", "http.429")
    host = counters.host("a")
    assert (counters.retries, host.retries) == (1, 1)
    assert (host.trouble, host.times, host.answers) == ("http.429", 1, False)
    counters.settle(record(1, Outcome.FAILED, kind="http.503"))
    counters.settle(record(2, Outcome.FAILED, kind="http.503"))
    assert (host.trouble, host.times, host.answers) == ("http.503", 2, False)
    counters.settle(record(3, Outcome.FETCHED))
    assert (host.trouble, host.times, host.answers) == ("http.503", 2, True)
    counters.settle(record(4, Outcome.FAILED, kind="tls.verify"))
    assert (host.trouble, host.times, host.answers) == ("tls.verify", 1, False)
    counters.settle(replace(record(5, Outcome.FAILED, kind="http.404"), status=404))
    assert (host.trouble, host.times, host.answers) == ("tls.verify", 1, True)


def test_the_longest_hold_counts() -> None:
    """A host is held until the latest of the times that were told."""
    counters = Counters(started=0.0)
    for until in (5.0, 9.0, 7.0):
        counters.hold("a", until)
    assert counters.host("a").until == 9.0


def test_lines_stand_in_one_place() -> None:
    """Every known line has its record, is under way, waits for a retry, or is in the queue."""
    counters = Counters(started=0.0)
    counters.read = 7
    counters.settle(record(1, Outcome.FETCHED))
    counters.retrying = 2
    counters.active[0] = Transfer(Request(0, "http://a/", "http://a/", "a", "-", 1), started=0.0)
    assert (counters.known, counters.queued) == (7, 3)
    counters.total = 10
    assert (counters.known, counters.queued) == (10, 6)


def test_error_kinds_are_ranked() -> None:
    """Kinds come by number, equal ones by name."""
    counters = Counters(started=0.0)
    for line, kind in enumerate(("dns", "http.404", "decode", "http.404")):
        counters.settle(record(line, Outcome.FAILED, f"host{line}", kind=kind))
    assert list(counters.error_kinds.items()) == [("http.404", 2), ("decode", 1), ("dns", 1)]


def test_failures_are_listed_first_and_last() -> None:
    """The summary lists the first failures, the display the latest."""
    counters = Counters(started=0.0)
    for line in range(1, 21):
        counters.settle(record(line, Outcome.FAILED))
    assert [failure.line for failure in counters.first_failures] == list(range(1, 11))
    assert [failure.line for failure in counters.last_failures] == [16, 17, 18, 19, 20]


def test_a_very_wide_list_is_counted_in_bounded_memory() -> None:
    """Beyond ten thousand hosts the rest is one, and the sums stay right."""
    counters = Counters(started=0.0)
    for line in range(MAX_HOSTS + 5):
        counters.settle(record(line, Outcome.FAILED, f"host{line}"))
    assert len(counters.hosts) == len(counters.errors["dns"]) == MAX_HOSTS + 1
    assert counters.hosts[OTHER_HOSTS].failed == counters.errors["dns"][OTHER_HOSTS] == 5
    counters.settle(record(0, Outcome.FAILED, "host0"))
    assert counters.hosts["host0"].failed == counters.errors["dns"]["host0"] == 2


def test_a_summary_is_a_snapshot() -> None:
    """What was handed out does not change while the run goes on."""
    counters = Counters(started=0.0)
    counters.settle(record(1, Outcome.FAILED))
    before = counters.summary(1.0)
    counters.settle(record(2, Outcome.FAILED))
    assert before.failed == before.errors["dns"]["a"] == before.outcomes["failed"] == len(before.failures) == 1
