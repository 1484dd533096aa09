"""The live screen as text, and the rates and guesses on it."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetcher.events import Counters, HostCount, Machines, Transfer
from fetcher.model import Failure, Outcome, Request
from fetcher.text import printable
from fetcher.views.lines import RED, Line, cells, fit_url, plain
from fetcher.views.meter import Meter
from fetcher.views.screen import Screen, ScreenContext

NOW = 67.0
CONTEXT = ScreenContext(sources="urls.txt", directory="fetched", concurrency=50)
HOSTILE = "https://user:secret@evil.example/\x1b[2J\u202e[bold]x[/a]:smile:"


def transfer(index: int, url: str, age: float, received: int = 0, total: int | None = None) -> Transfer:
    """Return an attempt that is ``age`` seconds old and has just received a byte."""
    return Transfer(Request(index, url, url, "host", "urls.txt", index), NOW - age, received, total, NOW)


def host(ok: int, failed: int, retries: int, state: str, seconds: float | None) -> HostCount:
    """Return the count of a host that takes ``seconds``."""
    count = HostCount(ok, failed, retries, state, retries, not state)
    if seconds is not None:
        count.latencies.add(seconds)
    return count


def example(extra: int = 0) -> Counters:
    """Return the counters of the documented screen, with ``extra`` transfers, hosts and failures more."""
    counters = Counters(0.0)
    counters.read, counters.total, counters.ok, counters.failed, counters.retrying = 8_000, 10_000, 6_133, 71, 14
    counters.outcomes.update({Outcome.FETCHED: 6_011, Outcome.UNCHANGED: 122, Outcome.FAILED: 71})
    counters.ended_bytes = 1_500_000_000
    counters.errors = {
        "http.404": {"a": 30, "b": 22},
        "http.429": {"api.example.com": 9},
        "http.503": {"a": 6},
        "timeout.read": {"slow.example.com": 3},
        "dns": {"no.such.host": 1},
    }
    for seconds in (0.048,) * 18 + (0.610,) * 2:
        counters.latencies.add(seconds)
    slow = transfer(3, "https://slow.example.com/report?year=2024", 20, 12_000)
    slow.last_byte = NOW - 14
    rows = [
        transfer(1, "https://cdn.example.org/iso/debian-12.iso", 24, 270_000_000, 659_000_000),
        transfer(2, "https://cdn.example.org/video/intro.mp4", 10, 82_000_000, 88_000_000),
        slow,
        *(transfer(9 + number, f"https://x.example/{number}", 1.5) for number in range(47)),
        *(transfer(90 + number, f"https://y.example/{number}", 3 + number, 1_000, 9_000) for number in range(extra)),
    ]
    counters.active = {row.request.index: row for row in rows}
    counters.hosts = {
        "cdn.example.org": host(5_899, 27, 0, "", 0.590),
        "old.example.net": host(0, 6, 3, "connect.refused", None),
        "api.example.com": host(112, 38, 9, "http.429", 4.1),
        **{f"h{number}.example.org": host(number, 0, 0, "", 0.1) for number in range(extra)},
    }
    counters.hold("api.example.com", NOW + 11.5)
    for number in range(1 + extra):
        url = f"https://old.example.net/a/b{number}.html"
        counters.last_failures.append(Failure(url, "urls.txt", 5_120 + number, "http.404", "404 Not Found"))
    return counters


def texts(lines: Sequence[Line]) -> list[str]:
    """Return the frame without its styles."""
    return [plain(line) for line in lines]


def frame(counters: Counters, size: tuple[int, int], context: ScreenContext = CONTEXT, now: float = NOW) -> list[str]:
    """Return the first frame of a screen."""
    return texts(Screen(counters, context).frame(now, size))


def test_a_cluster() -> None:
    """Where others fetch, one line more tells how many they are."""
    counters = example()
    counters.machines = Machines(64, 128, 120)
    lines = frame(counters, (80, 24))
    assert lines[3:5] == ["cluster   workers 64   lanes 128   at work 120", ""]
    assert lines[:3] + lines[4:6] == frame(example(), (80, 24))[:5]


def test_the_documented_screen() -> None:
    """At 80 by 24 the screen is the documented one; what has just started is one line."""
    assert frame(example(), (80, 24)) == [
        "fetcher  urls.txt -> fetched/                         50 at once, Ctrl-C to stop",
        "━" * 28 + "─" * 18 + "   62%   6,204 / 10,000   ETA 0:41",
        "92.6 URLs/s     27.6 MB/s   1.85 GB   0:01:07   p50 48 ms    p95 609 ms",
        "",
        "ok 6,011   unchanged 122   failed 71   retry 14   active 50   waiting 3,732",
        "404 52   429 9   503 6   timeout.read 3   dns 1",
        "",
        "active                                               size    done           rate",
        " cdn.example.org/iso/debian-12.iso                 659 MB     40%      11.2 MB/s",
        " slow.example.com/report?year=2024                      - 12.0 kB   waiting 14 s",
        " cdn.example.org/video/intro.mp4                  88.0 MB     93%      8.20 MB/s",
        " +47 more, all younger than 2 s",
        "",
        "hosts                              ok  failed     p95   state",
        " api.example.com                  112      38   4.1 s   429 x9, resumes in 12 s",
        " old.example.net                    0       6       -   refused x3",
        " cdn.example.org                5,899      27  578 ms",
        "",
        "last failed  http.404  https://old.example.net/a/b0.html  (line 5,120)",
    ]


def test_a_number_that_hosts_decide_is_the_most() -> None:
    """Where each host finds out how many it can take, the title says that the number is a bound."""
    context = ScreenContext(sources="urls.txt", directory="fetched", concurrency=200, adaptive=True)
    assert frame(example(), (80, 24), context)[0].endswith("  up to 200 at once, Ctrl-C to stop")


def test_a_big_terminal_shows_more() -> None:
    """At 120 by 40 there are 14 transfers, 10 hosts, 5 failures with messages, in all 40 rows."""
    lines = frame(example(extra=30), (120, 40))
    heads = [next(place for place, line in enumerate(lines) if line.startswith(name)) for name in ("active", "hosts")]
    assert len(lines) == 40
    assert lines[heads[0] + 15].startswith(" +66 more, all younger than ")
    assert heads[1] - heads[0] == 17
    assert lines[-5] == ("last failed  http.404  https://old.example.net/a/b30.html  (line 5,150)  404 Not Found")
    assert len(lines) - 5 - heads[1] == 11
    assert lines[-1].split() == [
        "http.404",
        "https://old.example.net/a/b26.html",
        "(line",
        "5,146)",
        "404",
        "Not",
        "Found",
    ]


def test_a_small_terminal_loses_air_before_rows() -> None:
    """With too few rows blank lines go first, then rows of the longest table; totals and one failure stay."""
    assert "" not in frame(example(extra=30), (80, 15))
    lines = frame(example(extra=30), (80, 10))
    assert len(lines) == 10
    first_words = [line.split()[0] for line in lines[5:]]
    assert first_words == ["active", "y.example/29", "hosts", "api.example.com", "last"]


@pytest.mark.parametrize("size", [(59, 24), (50, 8), (80, 9)])
def test_a_tiny_terminal_gets_one_line(size: tuple[int, int]) -> None:
    """Below 60 columns or 10 rows the screen is the plain progress line."""
    assert frame(example(), size) == ["fetcher: 6,204/10,000 62% failed 71 92.6/s ETA 41s"[: size[0]]]


def test_an_open_list_has_no_bar() -> None:
    """While the list is still being sent there is neither bar nor time left."""
    counters = example()
    counters.total = None
    lines = frame(counters, (80, 24))
    assert lines[1] == "6,204 done, list still open"
    assert "ETA" not in "\n".join(lines)
    assert "waiting 1,732" in lines[4]


def test_a_single_file_is_measured_in_bytes() -> None:
    """The bar of one big file follows its bytes, and so does the time left."""
    counters = Counters(NOW - 10)
    counters.read = counters.total = 1
    counters.active[0] = transfer(0, "https://cdn.example.org/debian.iso", 10, 250_000_000, 1_000_000_000)
    lines = frame(counters, (80, 24))
    assert lines[1] == "━" * 11 + "─" * 34 + "   25%  250 MB / 1.00 GB   ETA 0:30"
    assert lines[2].startswith("0 URLs/s        25.0 MB/s   250 MB    0:00:10")
    assert lines[4:] == [
        "ok 0   failed 0   active 1   waiting 0",
        "",
        "active                                               size    done           rate",
        " cdn.example.org/debian.iso                       1.00 GB     25%      25.0 MB/s",
    ]
    counters.active[0].total = None
    assert frame(counters, (80, 24))[1] == "250 MB of a file of unknown size"


def test_what_does_not_apply_is_left_out() -> None:
    """A run that has just started is four lines: no tables, no failures, no quantiles."""
    counters = Counters(NOW)
    counters.total = 5
    assert frame(counters, (80, 24))[2:] == [
        "0 URLs/s        0 B/s       0 B       0:00:00",
        "",
        "ok 0   failed 0   active 0   waiting 5",
    ]


def test_stopping_takes_the_place_of_the_title() -> None:
    """What the run still waits for, and how to cut that short, is said whole at 80 columns."""
    counters = example()
    counters.stopping = "finishing 12 transfers (up to 5 s), Ctrl-C again to drop them"
    lines = frame(counters, (80, 24))
    assert lines[0] == f"fetcher  {counters.stopping}"
    assert lines[1].endswith("ETA -")
    assert frame(counters, (59, 24)) == [f"fetcher: {counters.stopping}"[:59]]


def test_without_utf8_the_screen_is_ascii() -> None:
    """Without UTF-8 bars, levels and other people's letters are ASCII, and still fit."""
    counters = example()
    counters.active[1].request = Request(1, "https://文.example/" + "字" * 30, "", "", "", 1)
    context = ScreenContext(sources="文.txt", directory=None, concurrency=1, ascii_only=True)
    lines = frame(counters, (80, 24), context)
    assert all(line.isascii() and len(line) <= 80 for line in lines)
    assert lines[0].startswith("fetcher  \\u6587.txt  ")
    assert lines[1].startswith("[####")
    assert lines[8].startswith(" \\u6587.example/")


def test_outside_text_is_harmless() -> None:
    """Escapes and bidirectional controls in URLs and hosts are shown, markup is text, passwords are not shown."""
    counters = example()
    counters.active[1].request = Request(1, HOSTILE, "", "", "", 1)
    counters.hosts["evil\x1b[m"] = host(0, 99, 0, "dns", None)
    counters.last_failures.append(Failure(HOSTILE, "urls.txt", 1, "http.404", "no\x9b"))
    lines = frame(counters, (120, 40))
    assert [printable(line) for line in lines] == lines
    shown = r"***@evil.example/\x1b[2J\u202e[bold]x[/a]:smile:"
    assert lines[8].startswith(f" {shown} ")
    assert any(line.startswith(r" evil\x1b[m  ") for line in lines)
    assert f"https://{shown}  (line 1)  no\\x9b" in lines[-2]


def test_every_line_of_the_list_is_counted_once() -> None:
    """The numbers of the row of counts add up to the lines of the list, those of the kinds to the failures."""
    counters = example()
    counters.outcomes.update({Outcome.SKIPPED: 5, Outcome.DUPLICATE: 2})
    counters.ok += 7
    lines = frame(counters, (120, 24))
    assert sum(int(number.replace(",", "")) for number in re.findall(r" ([\d,]+)", lines[4])) == 10_000
    assert sum(int(number.replace(",", "")) for number in re.findall(r"\S+ ([\d,]+)", lines[5])) == 71
    assert frame(counters, (80, 24))[5] == "active 50   waiting 3,725"


def test_numbers_stay_where_they_were() -> None:
    """A number that was shown once stays, in the room that it had, so that those beside it do not jump."""
    counters = example()
    screen = Screen(counters, CONTEXT)
    screen.frame(NOW, (80, 24))
    counters.retrying, counters.failed = 0, 7
    line = texts(screen.frame(NOW, (80, 24)))[4]
    assert line == "ok 6,011   unchanged 122   failed 7    retry 0    active 50   waiting 3,810"


@pytest.mark.parametrize(
    ("width", "figures", "graph"),
    [
        (60, "1,001 URLs/s    0 B/s       1.85 GB   0:01:07   p50 48 ms", ""),
        (80, "1,001 URLs/s    0 B/s       1.85 GB   0:01:07   p50 48 ms    p95 609 ms", ""),
        (100, "1,001 URLs/s    0 B/s       1.85 GB   0:01:07   p50 48 ms    p95 609 ms", "42 s " + "▁" * 20 + "█"),
        (120, "1,001 URLs/s    0 B/s       1.85 GB   0:01:07   p50 48 ms    p95 609 ms", "60 s " + "▁" * 28 + "█"),
        (200, "1,001 URLs/s    0 B/s       1.85 GB   0:01:07   p50 48 ms    p95 609 ms", "60 s " + "▁" * 28 + "█"),
    ],
)
def test_figures_are_whole_or_not_there(width: int, figures: str, graph: str) -> None:
    """What has no room is left out whole; of the minute's throughput the latest stays."""
    counters = example()
    screen = Screen(counters, CONTEXT)
    for second in range(1, 67):
        counters.ok += 1 if second < 65 else 5_000
        screen.frame(float(second), (width, 24))
    assert texts(screen.frame(NOW, (width, 24)))[2] == f"{figures:<74}{graph}".rstrip()


@pytest.mark.parametrize(
    ("counted", "text"),
    [
        (HostCount(), ""),
        (HostCount(trouble="http.429", times=9, until=NOW + 11.5, answers=False), "429 x9, resumes in 12 s"),
        (HostCount(trouble="http.429", times=9, until=NOW + 11.5, answers=True), "429 x9, resumes in 12 s"),
        (HostCount(trouble="http.429", times=1_000, until=NOW + 11.5), "429, resumes in 12 s"),
        (HostCount(trouble="timeout.connect", times=2, until=NOW + 700), "resumes in 12 min"),
        (HostCount(trouble="timeout.connect", times=2, until=NOW, answers=False), "timeout.connect x2"),
        (HostCount(trouble="dns", times=1, answers=False), "dns"),
        (HostCount(trouble="dns", times=1, answers=True), ""),
    ],
)
def test_how_a_host_is(counted: HostCount, text: str) -> None:
    """A host that is held says until when, also if it answers what was under way; one that answers says nothing."""
    counters = Counters(NOW)
    counters.hosts = {"h": counted}
    row = frame(counters, (80, 24))[-1]
    assert row[56:] == text


def test_a_narrow_screen_still_names_hosts() -> None:
    """With 60 columns a host can be told by its name, and when it goes on."""
    lines = frame(example(), (60, 24))
    assert " api.example.com       112      38   4.1 s   resumes in 12 s" in lines
    assert " cdn.example.org     5,899      27  578 ms" in lines


def test_lines_without_a_host_are_no_host() -> None:
    """Lines that are no URL have no row among the hosts."""
    counters = example()
    counters.hosts["-"] = host(0, 99, 0, "invalid_url", None)
    assert not any(line.startswith(" - ") for line in frame(counters, (80, 24)))


@pytest.mark.parametrize(
    ("url", "width", "expected"),
    [
        ("https://a.example/b.html", 24, "https://a.example/b.html"),
        ("https://a.example/many/folders/down/b.html", 30, "https://a.example/...wn/b.html"),
        ("https://a.example/x/a-name-of-some-length.iso", 44, "https://a.example/...a-name-of-...length.iso"),
        ("a.example/x/a-name-of-some-length.iso", 26, "a.example/...a-nam...h.iso"),
        ("a.example/q?from=/b/c&to=x", 20, "a.exampl.../b/c&to=x"),
        ("a-host-of-some-length.example/x", 20, "a-host-o...example/x"),
        ("https://a.example/x", 3, "htt"),
        ("https://a.example/x", 0, ""),
    ],
)
def test_a_cut_url_keeps_host_and_name(url: str, width: int, expected: str) -> None:
    """Folders go first, then the middle of the name; the rest fills the width."""
    assert fit_url(url, width) == expected


@given(st.text("ab/?:字.", max_size=40), st.integers(0, 50))
def test_a_cut_url_fits(url: str, width: int) -> None:
    """Whatever the URL, it is as wide as it may be, and whole if that is enough."""
    cut = fit_url(url, width)
    assert cells(cut) <= width
    assert cut == url or cells(url) > width


def test_many_kinds_are_cut_between_kinds() -> None:
    """Of more kinds than fit the most frequent are shown, the others are a number."""
    counters = example()
    counters.errors = {f"http.{status}": {"a": status} for status in range(400, 460)}
    line = frame(counters, (80, 24))[5]
    assert line.startswith("459 459   458 458   ")
    assert line.endswith("   +53 more")


def test_only_failures_are_red() -> None:
    """Red are failures: their number, their kinds, the states of hosts in trouble."""
    counters = example()
    red = [
        text.strip() for line in Screen(counters, CONTEXT).frame(NOW, (80, 24)) for text, style in line if style == RED
    ]
    kinds = "404 52   429 9   503 6   timeout.read 3   dns 1"
    states = ["38", "429 x9, resumes in 12 s", "6", "refused x3", "27"]
    assert red == ["failed", "71", kinds, *states, "http.404"]


def test_hosts_are_surveyed_once_a_second() -> None:
    """What takes a look at all hosts stays as it is for a second; what is counted does not."""
    counters = example()
    screen = Screen(counters, CONTEXT)
    screen.frame(NOW, (80, 24))
    counters.hosts["new.example"] = host(0, 500, 0, "dns", None)
    counters.outcomes[Outcome.FETCHED] += 1
    soon, later = texts(screen.frame(NOW + 0.9, (80, 24))), texts(screen.frame(NOW + 1.1, (80, 24)))
    assert "new.example" not in "\n".join(soon)
    assert "ok 6,012" in soon[4]
    assert any(line.startswith(" new.example ") for line in later)


def test_throughput_of_the_last_minute() -> None:
    """A wide screen draws the last 60 seconds in 30 cells, the highest for the fastest."""
    counters = Counters(0.0)
    counters.total = 10_000
    screen = Screen(counters, CONTEXT)
    for tenth in range(1_000):
        counters.ok += tenth // 100
        screen.frame(tenth / 10, (120, 40))
    line = texts(screen.frame(100.0, (120, 40)))[2]
    assert line.split()[:2] == ["89.1", "URLs/s"]
    assert re.search("   60 s ([▁-█]+)$", line)
    graph = line.rpartition(" ")[2]
    assert len(graph) == 30
    assert list(graph) == sorted(graph)
    assert graph[-1] == "█"
    assert "█" not in texts(screen.frame(100.1, (80, 40)))[2]


@st.composite
def anything(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Counters:
    """Draw counters as wild as their types allow."""
    count = st.integers(0, 10**9)
    text = st.text(max_size=300) | st.just(HOSTILE)
    kind = st.sampled_from(["http.404", "connect.unreachable", "dns", "unsupported_scheme"])
    counters = Counters(0.0)
    counters.total = draw(st.none() | count)
    counters.read, counters.ok, counters.failed, counters.retrying = (draw(count) for _ in range(4))
    counters.outcomes = {outcome.value: draw(count) for outcome in Outcome}
    counters.ended_bytes = draw(st.integers(0, 10**16))
    counters.stopping = draw(st.none() | text)
    counters.errors = draw(st.dictionaries(kind, st.dictionaries(text, count, max_size=3)))
    for number in range(draw(st.integers(0, 20))):
        made = transfer(number, draw(text), draw(st.floats(-1, 1e6)), draw(count), draw(st.none() | count))
        counters.active[number] = made
    counters.hosts = {
        name: host(draw(count), draw(count), draw(count), draw(kind | st.just("")), draw(st.floats(0, 1e6)))
        for name in draw(st.sets(text, max_size=12))
    }
    for _ in range(draw(st.integers(0, 5))):
        counters.last_failures.append(Failure(draw(text), draw(text), draw(count), draw(kind), draw(text)))
    return counters


@settings(max_examples=150)
@given(anything(), st.integers(0, 200), st.integers(0, 60), st.booleans(), st.text(max_size=200))
def test_never_wider_nor_higher_than_the_terminal(
    counters: Counters, width: int, height: int, ascii_only: bool, name: str
) -> None:
    """Whatever the numbers and names, each frame fits and holds no control character."""
    context = ScreenContext(sources=name, directory=name, concurrency=10_000, ascii_only=ascii_only)
    screen = Screen(counters, context)
    for now in (NOW, NOW + 1, NOW + 5):
        lines = texts(screen.frame(now, (width, height)))
        assert len(lines) <= height
        assert all(cells(line) <= width for line in lines)
        assert [printable(line) for line in lines] == lines
        assert all(line.isascii() for line in lines) or not ascii_only


def metered(*samples: tuple[float, int, int], total: int | None = 1_000) -> Meter:
    """Return a meter that saw (seconds, lines, bytes) of a list of ``total`` lines."""
    meter = Meter(0.0)
    counters = Counters(0.0)
    counters.total = total
    for now, counters.ok, counters.ended_bytes in samples:
        meter.sample(counters, now)
    return meter


def test_rates_are_those_of_the_last_ten_seconds() -> None:
    """A young run has its mean rate; later only the last ten seconds count."""
    young = metered((2.0, 100, 4_000))
    assert (young.rate, young.byte_rate) == (50.0, 2_000.0)
    assert metered().rate == 0.0
    old = metered(*((second, 100 * min(second, 20), 0) for second in range(41)))
    assert old.rate == 0.0
    assert metered(*((second, 100 * min(second, 20), 0) for second in range(26))).rate == 50.0


def test_no_guess_in_the_first_three_seconds() -> None:
    """The end is not guessed while the run is young, the list open, or nothing moves."""
    assert metered((2.9, 100, 0)).eta is None
    assert metered((4.0, 200, 0)).eta == 16.0
    assert metered((3.0, 100, 0)).eta is not None
    assert metered((3.0, 100, 0), total=None).eta is None
    assert metered((3.0, 0, 0)).eta is None
    assert metered((3.0, 1_000, 0)).eta == 0.0


def test_a_guess_stands_for_a_second() -> None:
    """The time left changes at most once a second."""
    assert metered((4.0, 400, 0), (4.9, 980, 0)).eta == 6.0
    assert metered((4.0, 400, 0), (5.0, 500, 0)).eta == 5.0


def test_a_request_that_has_to_wait_bounds_the_guess_from_below() -> None:
    """The run does not end before the last of the requests that wait for their time; after that they are any others."""
    counters = Counters(0.0)
    counters.total, counters.ok, counters.retrying = 100, 96, 4
    counters.hold("h", 18.0)
    meter = Meter(0.0)
    meter.sample(counters, 10.0)
    assert meter.eta == 8.0
    for second in range(11, 24):
        meter.sample(counters, float(second))
    assert meter.rate == 0.0
    assert meter.eta is None


def test_known_bytes_bound_the_guess_from_below() -> None:
    """A big file that is under way takes as long as its bytes, however few lines are left."""
    counters = Counters(0.0)
    counters.total, counters.ok, counters.ended_bytes = 100, 99, 9_000
    counters.active[0] = transfer(0, "https://a.example/", 5, 1_000, 61_000)
    meter = Meter(0.0)
    meter.sample(counters, 10.0)
    assert meter.byte_rate == 1_000.0
    assert meter.eta == 60.0
