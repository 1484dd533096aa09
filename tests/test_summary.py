"""The end of a run in a few lines, and its progress in one."""

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.errors import ErrorKind
from fetcher.events import Counters
from fetcher.model import Failure, Outcome, Stop, Summary
from fetcher.text import printable, rate_text
from fetcher.views.lines import RED, cells, clip, column, fit, plain, safe, shorten
from fetcher.views.summary import SummaryContext, plain_line, summary_lines, summary_text

CONTEXT = SummaryContext(
    again="fetcher get urls.txt -o fetched", directory="fetched", records="fetcher records fetched --failed"
)


def summary(errors: Mapping[str, Mapping[str, int]], *, ok: int = 9_862, left: int = 0) -> Summary:
    """Return a summary with these failures, by kind and host."""
    failed = sum(sum(hosts.values()) for hosts in errors.values())
    failures = [
        Failure(f"https://{host}/a/b.html", "urls.txt", 5_120, kind, f"{kind} it is")
        for kind, hosts in errors.items()
        for host, count in hosts.items()
        for _ in range(count)
    ]
    return Summary(
        lines=ok + failed + left,
        ok=ok,
        failed=failed,
        not_started=left,
        outcomes={Outcome.FETCHED: ok - 122, Outcome.UNCHANGED: 122, Outcome.SKIPPED: 0, Outcome.FAILED: failed},
        errors=errors,
        failures=tuple(failures[:10]),
        retries=0,
        bytes=0,
        wire_bytes=3_100_000_000,
        elapsed=108.0,
        p50=0.048,
        p95=0.610,
    )


EXAMPLE = summary(
    {
        "dns": {"no.such.host": 3},
        "http.404": {"cdn.example.org": 25, "old.example.net": 71},
        "timeout.read": {"slow.example.com": 8},
        "http.429": {"api.example.com": 31},
    }
)


def test_many_failures_are_grouped_by_kind() -> None:
    """The summary of a run with many failures is the documented one, letter by letter."""
    assert summary_lines(EXAMPLE, CONTEXT) == [
        "10,000 URLs in 0:01:48   92.6/s   3.10 GB   p50 48 ms, p95 610 ms",
        "9,862 ok (122 unchanged), 138 failed, 0 not started",
        "  96  http.404              old.example.net 71, cdn.example.org 25",
        "  31  http.429              api.example.com 31          try --host-rate 5",
        "   8  timeout.read          slow.example.com 8          try --read-timeout 60",
        "   3  dns                   no.such.host 3",
        "files    fetched/                 list    fetcher records fetched --failed",
        "again    fetcher get urls.txt -o fetched   (fetches only the 138)",
    ]


def test_few_failures_are_listed_one_by_one() -> None:
    """Up to ten failures are named with kind, URL, line and message, and what to try is said once."""
    few = summary({"http.404": {"old.example.net": 1}, "timeout.read": {"slow.example.com": 2}})
    assert summary_lines(few, CONTEXT)[1:7] == [
        "9,862 ok (122 unchanged), 3 failed, 0 not started",
        "  http.404      https://old.example.net/a/b.html  urls.txt:5120  http.404 it is",
        "  timeout.read  https://slow.....com/a/b.html  urls.txt:5120  timeout.read it is",
        "  timeout.read  https://slow.....com/a/b.html  urls.txt:5120  timeout.read it is",
        "hint     timeout.read: try --read-timeout 60",
        "files    fetched/                 list    fetcher records fetched --failed",
    ]


def test_off_a_terminal_failed_urls_are_whole() -> None:
    """In a mail or a log each of a few failures stands with its whole URL and list."""
    url, source = f"https://slow.example.com/{'long/' * 40}?x=1", f"/srv/{'lists/' * 10}urls.txt"
    few = replace(
        summary({"http.404": {"slow.example.com": 1}}), failures=(Failure(url, source, 7, "http.404", "404"),)
    )
    assert f"  http.404  {url}  {source}:7  404" in summary_lines(few, replace(CONTEXT, width=None))
    assert max(map(len, summary_lines(few, replace(CONTEXT, width=120)))) <= 120


def test_all_ok_is_two_lines() -> None:
    """A run without failures says so in two lines."""
    assert summary_lines(summary({}), CONTEXT) == [
        "9,862 URLs in 0:01:48   91.3/s   3.10 GB   p50 48 ms, p95 610 ms",
        "9,862 ok (122 unchanged), 0 failed, 0 not started",
    ]


@pytest.mark.parametrize(
    ("stop", "line"),
    [
        (Stop.INTERRUPT, "stopped by Ctrl-C"),
        (Stop.TERMINATE, "stopped by SIGTERM"),
        (Stop.HANGUP, "stopped by a hang-up"),
        (Stop.PIPE, "stopped: the reader of the output went away"),
        (Stop.DISK, "stopped: the disk failed"),
        (Stop.WORKERS, "stopped: worker processes failed"),
        (Stop.LIMIT, "stopped by a limit"),
    ],
)
def test_a_stopped_run_says_why_and_what_is_left(stop: Stop, line: str) -> None:
    """The first line of a stopped run says what stopped it, the last what to type for the rest."""
    lines = summary_lines(replace(summary({}, left=3_732), stop=stop, stopped=stop.words), CONTEXT)
    assert lines[0] == line
    assert lines[1].startswith("9,862 of 13,594 URLs in 0:01:48   91.3/s")
    assert lines[2].endswith("0 failed, 3,732 not started")
    assert lines[3:] == [
        "files    fetched/",
        "again    fetcher get urls.txt -o fetched   (fetches only the 3,732)",
    ]


def test_only_commands_that_were_given_are_printed() -> None:
    """Without a directory, lists and state there is nothing to find and no promise to fetch only the rest."""
    context = SummaryContext(again="fetcher get urls.txt --no-save", resumes=False)
    assert summary_lines(EXAMPLE, context)[-2:] == [
        "   3  dns                   no.such.host 3",
        "again    fetcher get urls.txt --no-save",
    ]
    assert summary_lines(EXAMPLE, replace(CONTEXT, report="fetcher report fetched"))[-1] == (
        "report   fetcher report fetched"
    )


def test_commands_are_never_cut() -> None:
    """A command too long for the width is printed whole, to be pasted, without the remark behind it."""
    again = f"fetcher get {'list/' * 30}urls.txt -o {'out/' * 10}fetched"
    lines = summary_lines(EXAMPLE, replace(CONTEXT, again=again, directory="out/" * 10))
    assert lines[-1] == f"again    {again}"
    assert lines[-3:-1] == [f"files    {'out/' * 10}", "list     fetcher records fetched --failed"]


def test_rare_kinds_are_folded() -> None:
    """Beyond ten kinds the rest is one line, and the numbers still add up to all failures."""
    many = summary({f"http.{status}": {"a.example": status} for status in range(400, 415)})
    rows = [line for line in summary_lines(many, CONTEXT) if re.match(r" +[\d,]+  ", line)]
    assert len(rows) == 11
    assert rows[-1].endswith("  +5 more kinds")
    assert sum(int(row.split()[0].replace(",", "")) for row in rows) == many.failed


def test_many_hosts_of_one_kind_are_counted() -> None:
    """The hosts that failed most are named as long as they fit; the others are a number."""
    wide = summary({"connect.refused": {f"host{number}.example.org": number + 1 for number in range(40)}})
    row = summary_lines(wide, CONTEXT)[2]
    assert row == "  820  connect.refused       host39.example.org 40, +39 more"
    assert len(row) <= 80
    assert "host37.example.org 38, +37 more" in summary_lines(wide, replace(CONTEXT, width=200))[2]


def test_dns_hint_only_if_every_host_fails_so() -> None:
    """A name that does not resolve asks whether the network is up only when nothing else worked."""
    broken = summary({ErrorKind.DNS: {f"host{number}": 1 for number in range(20)}})
    assert "is the network up?" not in "\n".join(summary_lines(broken, CONTEXT))
    assert "is the network up?" in summary_lines(replace(broken, ok=0), CONTEXT)[2]


def test_small_runs_read_well() -> None:
    """One URL is no plural, has no rate, and seconds are enough for a short run."""
    one = replace(summary({}), lines=1, ok=1, elapsed=1.24, outcomes={Outcome.FETCHED: 1}, wire_bytes=4_200_000)
    assert summary_lines(one, CONTEXT) == ["1 URL in 1.2 s   4.20 MB", "1 ok, 0 failed, 0 not started"]
    none = replace(one, lines=0, ok=0, elapsed=0.0, wire_bytes=0, p50=None, p95=None)
    assert summary_lines(none, CONTEXT)[0] == "0 URLs in 0 ms"


HOSTILE = "https://user:secret@evil.example/\x1b[2J\u202e[bold]x[/a]:smile:\r\n"


def test_outside_text_is_harmless_on_a_terminal() -> None:
    """Escapes and bidirectional controls are shown as such, markup is text, passwords are not shown."""
    failure = Failure(HOSTILE, "li\x1bst.txt", 1, "http.404", "gone \x9b1m[/b] away")
    evil = replace(
        summary({"http.404": {"evil\x07.example": 1}}), failures=(failure,), stop=Stop.LIMIT, stopped=HOSTILE
    )
    context = replace(CONTEXT, width=120, directory="o\x1b", again="fetcher get 'a\x1bb'")
    lines = summary_lines(evil, context)
    assert [printable(line) for line in lines] == lines
    assert r"https://***@evil.example/\x1b[2J\u202e[bold]x[/a]:smile:\x0d\x0a" in lines[3]
    assert r"gone \x9b1m[/b] away" in lines[3]
    grouped = summary_lines(replace(evil, failures=()), context)
    assert r"evil\x07.example 1" in grouped[3]
    assert [printable(line) for line in grouped] == grouped


def test_only_failures_are_red() -> None:
    """The text for a terminal has the same lines; red are numbers and kinds of failures, nothing when all is well."""
    text = summary_text(EXAMPLE, CONTEXT)
    assert text.plain.splitlines() == summary_lines(EXAMPLE, CONTEXT)
    red = [text.plain[span.start : span.end].split() for span in text.spans if span.style == RED]
    assert red == [["138", "failed"], ["96", "http.404"], ["31", "http.429"], ["8", "timeout.read"], ["3", "dns"]]
    assert not [span for span in summary_text(summary({}), CONTEXT).spans if span.style == RED]


@given(
    st.dictionaries(
        st.sampled_from([*ErrorKind, *(f"http.{status}" for status in range(400, 440))]),
        st.dictionaries(st.text(max_size=70), st.integers(1, 10**7), min_size=1, max_size=8),
        max_size=25,
    ),
    st.integers(0, 10**7),
    st.integers(0, 200),
    st.none() | st.sampled_from(Stop),
)
def test_any_summary_is_short_harmless_and_adds_up(
    errors: dict[str, dict[str, int]], left: int, width: int, stop: Stop | None
) -> None:
    """Whatever failed: at most 20 lines, 120 cells each, no control character, and sums that are right."""
    failed = sum(sum(hosts.values()) for hosts in errors.values())
    run = replace(EXAMPLE, errors=errors, failed=failed, not_started=left, stop=stop, lines=9_862 + failed + left)
    run = replace(run, failures=(), stopped="stopped by a limit" * 9)
    lines = summary_lines(run, replace(CONTEXT, width=width))
    assert len(lines) <= 20
    assert max(map(cells, lines)) <= max(80, min(width, 120))
    assert [printable(line) for line in lines] == lines
    rows = [int(line.split()[0].replace(",", "")) for line in lines if re.match(r" +[\d,]+  ", line)]
    assert sum(rows) == failed


def counters(total: int | None = 10_000) -> Counters:
    """Return the counters of a run under way."""
    counted = Counters(0.0)
    counted.total, counted.ok, counted.failed = total, 6_133, 71
    return counted


@pytest.mark.parametrize(
    ("total", "now", "line"),
    [
        (10_000, 7.64, "fetcher: 6,204/10,000 62% failed 71 812/s ETA 5s"),
        (10_000, 1.0, "fetcher: 6,204/10,000 62% failed 71 6,204/s ETA -"),
        (10_000, 3_600.0, "fetcher: 6,204/10,000 62% failed 71 1.72/s ETA 0:36:42"),
        (6_205, 7.64, "fetcher: 6,204/6,205 99% failed 71 812/s ETA 0s"),
        (6_204, 7.64, "fetcher: 6,204/6,204 100% failed 71 812/s ETA 0s"),
        (None, 7.64, "fetcher: 6,204 done, list still open, failed 71 812/s"),
    ],
)
def test_progress_in_one_line(total: int | None, now: float, line: str) -> None:
    """One line tells done, total, share, failures, rate and the time left; an open list has no end."""
    assert plain_line(counters(total), now) == line


@pytest.mark.parametrize(
    ("rate", "text"), [(0, "0"), (0.254, "0.25"), (9.996, "10.0"), (92.59, "92.6"), (99.96, "100"), (1234.5, "1,234")]
)
def test_rates_have_about_three_digits(rate: float, text: str) -> None:
    """A rate is shown no more precisely than it is known."""
    assert rate_text(rate) == text


@given(st.text(max_size=600), st.integers(0, 90), st.booleans())
def test_cutting_counts_cells(text: str, width: int, ascii_only: bool) -> None:
    """Every way to cut keeps within the cells given, whatever the characters' widths."""
    shown = safe(text, ascii_only=ascii_only)
    assert printable(shown) == shown
    assert shown.isascii() or not ascii_only
    assert cells(fit(shown, width)) <= width
    assert cells(shorten(shown, width)) <= width
    assert cells(column(shown, width)) == width
    assert cells(plain(clip([("ab ", ""), (shown, "dim"), ("  ", "")], width))) <= width


def test_wide_characters_keep_head_and_tail() -> None:
    """A cut text keeps as much of its head and tail as there are cells for."""
    assert fit("文" * 10 + "end", 15) == "文文文...文end"
    assert shorten("文" * 10, 8) == "文文..."
    assert plain(clip([("文" * 3, "")], 5)) == "文文"
