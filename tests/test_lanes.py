"""That the workers' shares add up to the run's limits, and who gets which request."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.hosts import Hosts, limits_of
from fetcher.lanes import Keep, Lanes, abroad, keep, keeps, share, worker_count
from fetcher.options import HostOptions, Limits, Options

_rates = st.none() | st.floats(0.001, 1e6)
_limits = st.builds(
    Limits,
    concurrency=st.integers(1, 200),
    per_host=st.none() | st.integers(1, 250),
    rate=_rates,
    host_rate=_rates,
)
_sections = st.lists(
    st.builds(
        HostOptions,
        pattern=st.sampled_from(["a.x", "*.x", "b.y", "*.y", "c"]),
        per_host=st.none() | st.integers(1, 250),
        host_rate=_rates,
    ),
    max_size=4,
    unique_by=lambda section: section.pattern,
)
_hosts = st.lists(st.sampled_from("abcdefg"), max_size=60)


@pytest.mark.parametrize(
    ("wanted", "concurrency", "per_host", "count"),
    [(2, 50, None, 2), (4, 1, None, 1), (4, 3, None, 3), (4, 4, 3, 1), (4, 7, 3, 2), (4, 50, 4, 4), (8, 50, 1, 8)],
)
def test_worker_count(wanted: int, concurrency: int, per_host: int | None, count: int) -> None:
    """There are as many as wanted, but none without a slot, nor one that cannot do for a host what the run may."""
    limits = Limits(concurrency=concurrency, per_host=per_host)
    assert worker_count(Options(limits=limits), wanted) == count
    section = HostOptions(pattern="a.example", per_host=per_host)
    assert worker_count(Options(limits=Limits(concurrency=concurrency), hosts=(section,)), wanted) == count


@pytest.mark.parametrize(
    ("limits", "workers", "kept"),
    [
        (Limits(), 2, Keep.APART),
        (Limits(per_host=25), 2, Keep.WHOLE),
        (Limits(per_host=26), 2, Keep.APART),
        (Limits(per_host=1, concurrency=2), 2, Keep.WHOLE),
        (Limits(per_host=2, concurrency=2), 2, Keep.APART),
        (Limits(per_host=40, host_rate=1.0), 2, Keep.STICKY),
        (Limits(adaptive=True), 2, Keep.STICKY),
        (Limits(robots=True), 2, Keep.STICKY),
        (Limits(rate=1.0), 2, Keep.APART),
    ],
)
def test_keep(limits: Limits, workers: int, kept: Keep) -> None:
    """A host is one worker's where that worker can reach its limits, and for ever where it has to know its rate or its rules."""
    assert keep(limits, workers) is kept


def test_keep_by_host() -> None:
    """Each host is dealt out as its own limits ask for."""
    hosts = HostOptions(pattern="a.x", host_rate=1.0), HostOptions(pattern="*.x", per_host=2)
    keep_of = keeps(Options(hosts=hosts, workers=2), 2)
    assert [keep_of(host) for host in ("a.x", "b.x", "c")] == [Keep.STICKY, Keep.WHOLE, Keep.APART]


@given(_limits, _sections, st.integers(1, 256))
def test_shares_add_up(limits: Limits, sections: list[HostOptions], wanted: int) -> None:
    """Whatever the limits: all workers together have the run's, for a host never more, and each can do something."""
    options = Options(limits=limits, hosts=tuple(sections), workers=wanted)
    workers = worker_count(options, options.workers)
    parts = [share(options, workers, worker) for worker in range(workers)]
    shares = [part.limits for part in parts]
    assert sum(each.concurrency for each in shares) == limits.concurrency
    assert max(each.concurrency for each in shares) - min(each.concurrency for each in shares) <= 1
    if limits.rate is not None:
        assert sum(each.rate or 0.0 for each in shares) == pytest.approx(limits.rate)
    for each in shares:
        assert (each.max_size, each.max_redirects) == (limits.max_size, limits.max_redirects)
    keep_of = keeps(options, workers)
    for host in ("a.x", "b.x", "b.y", "c", "d"):
        whole, own = _limits_for(options, host), [_limits_for(part, host) for part in parts]
        assert {each.host_rate for each in own} == {whole.host_rate}
        assert keep_of(host) is keep(whole, workers)
        if whole.host_rate is not None:
            assert keep_of(host) is Keep.STICKY
        of_host = [each.per_host for each in own if each.per_host is not None]
        if whole.per_host is None:
            assert of_host == []
        else:
            assert min(of_host) >= 1
            assert (sum if keep_of(host) is Keep.APART else max)(of_host) == whole.per_host


@given(_limits, _sections, st.integers(1, 256))
def test_abroad(limits: Limits, sections: list[HostOptions], workers: int) -> None:
    """What all workers together may do at a host that is another's is no more than the run may, or one request each."""
    options = Options(limits=limits, hosts=tuple(sections))
    part = abroad(options, workers)
    for host in ("a.x", "b.x", "b.y", "c", "d"):
        whole, own = _limits_for(options, host), _limits_for(part, host)
        assert (own.per_host is None, own.host_rate is None) == (whole.per_host is None, whole.host_rate is None)
        if whole.per_host is not None and own.per_host is not None:
            assert own.per_host >= 1
            assert workers * own.per_host <= max(whole.per_host, workers)
        if whole.host_rate is not None:
            assert own.host_rate == pytest.approx(whole.host_rate / workers)


def _limits_for(options: Options, host: str) -> Limits:
    section = Hosts(options.hosts).of(host)
    return options.limits if section is None else limits_of(options.limits, section)


@given(st.integers(1, 9), _hosts, st.data(), st.booleans())
def test_whole_hosts_stay_together(workers: int, hosts: list[str], data: st.DataObject, sticky: bool) -> None:
    """At any moment all requests of a host are at one worker; with ``sticky``, at the same one for ever."""
    lanes = Lanes(workers, lambda _: Keep.STICKY if sticky else Keep.WHOLE)
    dealt: list[tuple[str, int]] = []
    ever: dict[str, int] = {}
    for host in hosts:
        worker = lanes.assign(host)
        assert 0 <= worker < workers
        assert {other for name, other in dealt if name == host} <= {worker}
        if sticky:
            assert ever.setdefault(host, worker) == worker
        dealt.append((host, worker))
        while data.draw(st.booleans()) and dealt:
            lanes.finished(*dealt.pop(data.draw(st.integers(0, len(dealt) - 1))))


@given(st.integers(1, 9), _hosts)
def test_balance(workers: int, hosts: list[str]) -> None:
    """With hosts divided, no worker has two requests more than another, whatever finishes where it was dealt."""
    lanes = Lanes(workers, lambda _: Keep.APART)
    load = Counter(dict.fromkeys(range(workers), 0))
    for position, host in enumerate(hosts):
        load[lanes.assign(host)] += 1
        assert max(load.values()) - min(load.values()) <= 1
        if position % 3 == 2:
            busiest = load.most_common(1)[0][0]
            lanes.finished(host, busiest)
            load[busiest] -= 1


def test_new_hosts_go_to_the_idlest() -> None:
    """A host that is not known yet goes to the worker with the least to do."""
    lanes = Lanes(2, lambda _: Keep.WHOLE)
    assert [lanes.assign(host) for host in "aaabb"] == [0, 0, 0, 1, 1]
    assert lanes.assign("c") == 1
    for _ in range(3):
        lanes.finished("a", 0)
    assert lanes.assign("d") == 0


@pytest.mark.parametrize(("sticky", "again"), [(False, 1), (True, 0)])
def test_forgetting(again: int, *, sticky: bool) -> None:
    """A host without requests under way is forgotten, and may go elsewhere, unless its worker knows its rate."""
    lanes = Lanes(2, lambda _: Keep.STICKY if sticky else Keep.WHOLE)
    assert (lanes.assign("a"), lanes.assign("b")) == (0, 1)
    lanes.finished("a", 0)
    lanes.finished("b", 1)
    assert lanes.assign("c") == 0
    assert lanes.assign("a") == again
