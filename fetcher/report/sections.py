"""L4: the parts of a report between its head and its foot."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fetcher.errors import HINTS
from fetcher.events import HostCount, Latencies
from fetcher.model import Outcome, Summary
from fetcher.report.markup import Html, element, joined
from fetcher.report.plots import LogAxis, areas, bar, box, box_axis, histogram, time_ticks
from fetcher.report.stats import LONGEST_NAME, NO_HOST, PHASES, STEPS, Change, Group, HostTimes, Stats
from fetcher.report.tables import Cell, Lists, cell, fine_text, missing, place, share_text, table, url_cell
from fetcher.text import middle_cut, rate_text, size_text, span_text

#: Rows of the tables of hosts and of media types.
_HOSTS: Final = 50
_TYPES: Final = 50
#: Kinds of failure that are told one by one, of which this program has about thirty, and statuses.
_KINDS: Final = 60
#: The phases in the order in which they are told, which is the order in which they happen.
_PHASE_WORDS: Final = {
    "blocked": "waiting for a connection",
    "dns": "looking up the name",
    "connect": "connecting",
    "tls": "TLS",
    "send": "sending",
    "wait": "waiting for the first byte",
    "receive": "receiving",
}
_QUANTILES: Final = (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99))
_BOX: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
_COMPARED: Final = (Change.BROKEN, Change.MENDED, Change.DIFFERENT, Change.STILL, Change.FIRST, Change.SAME)


@dataclass(frozen=True, slots=True)
class Section:
    """One part: its title, a word or two about it, and what is below."""

    title: str
    note: str | None
    content: tuple[Html, ...]

    @property
    def name(self) -> str:
        """What links to it are made of."""
        return self.title.lower().replace(" ", "-")

    def html(self) -> Html:
        """Return it as markup."""
        note = self.note and element("p", self.note, class_="note")
        return element("section", element("h2", self.title), note, *self.content, id=self.name)


def sections(stats: Stats, summary: Summary, *, compared: bool) -> list[Section]:
    """Return them all; the summary knows of lines too that have no record; ``compared``: there was an earlier run."""
    lists = Lists()
    # Room for lists is given away in this order: what failed is why one looks at all.
    kinds = _kinds(stats, lists)
    changes = _changes(stats, lists, compared=compared)
    return [
        _outcomes(stats, summary, lists),
        kinds,
        _over_time(stats),
        _latency(stats),
        _hosts(stats),
        _phases(stats),
        _slowest(stats),
        _biggest(stats),
        _retries(stats),
        _types(stats),
        changes,
    ]


def _section(title: str, note: str | None, *content: Html) -> Section:
    return Section(title, note, content)


def _empty(title: str, words: str) -> Section:
    return _section(title, None, element("p", words, class_="empty"))


def _outcomes(stats: Stats, summary: Summary, lists: Lists) -> Section:
    colors = {Outcome.FAILED: "bad", Outcome.FETCHED: "ok", Outcome.UNCHANGED: "ok"}
    groups: list[tuple[str, str, Group]] = []
    for outcome in Outcome:
        if count := summary.outcomes.get(outcome, 0):
            listed = stats.outcomes[outcome].first if outcome in stats.outcomes else []
            groups.append((outcome.value, colors.get(outcome, "other"), Group(count, listed)))
    if summary.not_started:
        groups.append(("not started", "other", Group(summary.not_started)))
    return _section("What became of the URLs", "A line opens its first URLs.", lists.bars(groups, summary.lines))


def _kinds(stats: Stats, lists: Lists) -> Section:
    title = "Why URLs failed"
    if not stats.kinds:
        return _empty(title, "None failed.")
    ranked = sorted(stats.kinds.items(), key=lambda item: (-item[1].count, item[0]))
    hints = [(kind, HINTS[kind]) for kind, _ in ranked if kind in HINTS]
    told = [element("li", element("code", kind), f": {hint}") for kind, hint in hints]
    groups = [(kind, "bad", group) for kind, group in ranked[:_KINDS]]
    if rest := ranked[_KINDS:]:
        groups.append((f"{len(rest)} more kinds", "bad", Group(sum(group.count for _, group in rest))))
    bars = lists.bars(groups, stats.counters.failed)
    advice = joined([element("h3", "What may help"), element("ul", joined(told), class_="list")]) if told else Html("")
    return _section(title, "Shares are of all failures.", bars, advice)


def _over_time(stats: Stats) -> Section:
    slots, width = stats.timeline.slots(), stats.timeline.width
    title = "Over time"
    if not slots:
        return _empty(title, "Nothing was sent.")
    ticks = time_ticks(width * len(slots))
    ok, failed = [slot.ok / width for slot in slots], [slot.failed / width for slot in slots]
    received, busy = [slot.bytes / width for slot in slots], [slot.busy / width for slot in slots]
    unit, name = _byte_unit(max(received))
    return _section(
        title,
        f"From the start of the first URL; each step is {fine_text(width)}.",
        element("h3", f"URLs done per second (at most {rate_text(max(map(sum, zip(ok, failed, strict=True))))})"),
        _legend([("ok", "ok"), ("bad", "failed")]),
        areas([("ok", ok), ("bad", failed)], ticks),
        element("h3", f"{name} received per second (at most {size_text(max(received))})"),
        areas([("receive", [each / unit for each in received])], ticks),
        element("h3", f"URLs in progress, waits between attempts included (at most {max(busy):,.0f})"),
        areas([("other", busy)], ticks),
    )


def _byte_unit(most: float) -> tuple[float, str]:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if most >= unit:
            return unit, name
    return 1, "Bytes"


def _latency(stats: Stats) -> Section:
    title = "How long a URL took"
    latencies = stats.counters.latencies
    found = _found(latencies, [share for _, share in _QUANTILES])
    if not found:
        return _empty(title, "No URL was fetched.")
    marks = [(f"{name} {span_text(seconds)}", seconds) for (name, _), seconds in zip(_QUANTILES, found, strict=True)]
    return _section(
        title,
        "URLs that were fetched, redirects, retries and waits included. Half of them took no longer than p50, 95 of 100 "
        "no longer than p95.",
        _tiles([(name, span_text(seconds)) for (name, _), seconds in zip(_QUANTILES, found, strict=True)]),
        histogram(stats.histogram, STEPS, marks),
    )


def _found(latencies: Latencies, shares: Sequence[float]) -> list[float]:
    return [seconds for share in shares if (seconds := latencies.quantile(share)) is not None]


def _tiles(pairs: Sequence[tuple[str, str]]) -> Html:
    tiles = [element("div", element("dt", name), element("dd", shown)) for name, shown in pairs]
    return element("dl", joined(tiles), class_="tiles")


def _legend(names: Sequence[tuple[str, str]]) -> Html:
    items = [element("li", bar((kind, 100)), name) for kind, name in names]
    return element("ul", joined(items), class_="legend")


def _busiest(stats: Stats) -> list[tuple[str, HostCount]]:
    """Return the hosts with most URLs."""
    hosts = stats.counters.hosts.items()
    return sorted(hosts, key=lambda item: (-item[1].ok - item[1].failed, item[0]))[:_HOSTS]


def _of(shown: int, count: int) -> str:
    return f" The {shown:,} with most URLs, of {count:,}." if shown < count else ""


def _hosts(stats: Stats) -> Section:
    busiest = _busiest(stats)
    if not busiest:
        return _empty("Hosts", "No host was asked for anything.")
    boxes = {name: _found(count.latencies, _BOX) for name, count in busiest}
    axis = LogAxis.around(seconds for found in boxes.values() for seconds in found)
    rows = [
        [
            _host_cell(name),
            cell(f"{count.ok + count.failed:,}", count.ok + count.failed),
            cell(f"{count.failed:,}", count.failed),
            cell(f"{count.retries:,}", count.retries),
            *_bytes_cells(stats.hosts.get(name)),
            cell(span_text(boxes[name][2]), boxes[name][2]) if boxes[name] else missing(),
            cell(span_text(boxes[name][4]), boxes[name][4]) if boxes[name] else missing(),
            Cell(box(axis, boxes[name]) if boxes[name] else ""),
        ]
        for name, count in busiest
    ]
    columns = ["Host", "URLs", "Failed", "Retries", "Received", "p50", "p95", box_axis(axis)]
    return _section(
        "Hosts",
        "Times of the URLs that were fetched: the mark is the median, the box the middle half, the line the middle "
        f"nine tenths.{_of(len(busiest), len(stats.counters.hosts))}",
        table(columns, rows),
    )


def _host_cell(name: str) -> Cell:
    return Cell("no host: not a URL" if name == NO_HOST else middle_cut(name, LONGEST_NAME), class_="host")


def _bytes_cells(times: HostTimes | None) -> list[Cell]:
    return [cell(size_text(times.bytes), times.bytes) if times is not None else missing()]


def _phases(stats: Stats) -> Section:
    title = "Where the time went"
    if not stats.all_hosts.timed:
        return _empty(title, "No record has timings.")
    timed = [(name, times) for name, _ in _busiest(stats) if (times := stats.hosts.get(name)) and times.timed]
    # What never happened, such as TLS in a run over http, is no column.
    shown = [phase for phase, seconds in zip(PHASES, stats.all_hosts.seconds, strict=True) if seconds]
    rows = [_phase_row(name, times, shown) for name, times in timed]
    total = _phase_row("all hosts", stats.all_hosts, shown)
    return _section(
        title,
        f"The mean of each host's last attempts, and how it is divided.{_of(_HOSTS, len(stats.hosts))}",
        _legend([(phase, f"{_PHASE_WORDS[phase]} ({phase})") for phase in shown]),
        table(["Host", "URLs", "Mean", "", *shown], rows, total=total if len(rows) > 1 else ()),
    )


def _phase_row(name: str, times: HostTimes, shown: Sequence[str]) -> list[Cell]:
    seconds = dict(zip(PHASES, times.seconds, strict=True))
    whole = sum(times.seconds)
    parts = [(phase, 100 * seconds[phase] / whole) for phase in shown] if whole else []
    return [
        _host_cell(name),
        cell(f"{times.timed:,}", times.timed),
        cell(fine_text(whole / times.timed), whole / times.timed),
        Cell(bar(*parts)),
        *(cell(fine_text(mean) if mean else "-", mean) for mean in (seconds[phase] / times.timed for phase in shown)),
    ]


def _slowest(stats: Stats) -> Section:
    entries = stats.slowest.entries
    if not entries:
        return _empty("The slowest", "Nothing was sent.")
    rows = [[cell(fine_text(each.elapsed), each.elapsed), url_cell(each), Cell(each.kind or "ok")] for each in entries]
    note = f"The {len(entries)} that took longest, waits between attempts included." if len(entries) > 1 else None
    return _section("The slowest", note, table(["Time", "URL", "Outcome"], rows))


def _biggest(stats: Stats) -> Section:
    entries = [each for each in stats.biggest.entries if each.bytes]
    if not entries:
        return _empty("The biggest", "Nothing was stored.")
    rows = [[cell(size_text(each.bytes), each.bytes), url_cell(each), Cell(place(each))] for each in entries]
    return _section("The biggest", "Sizes after decompression.", table(["Size", "URL", "Line"], rows))


def _retries(stats: Stats) -> Section:
    retries = stats.retries
    if not retries.urls:
        return _empty("Retries", "Nothing was tried twice.")
    ranked = sorted(retries.kinds.items(), key=lambda item: (-item[1].attempts, item[0]))
    rows = [
        [
            Cell(kind),
            cell(f"{count.attempts:,}", count.attempts),
            cell(f"{count.urls:,}", count.urls),
            cell(f"{count.saved:,}", count.saved),
            cell(share_text(count.saved, count.urls), count.saved / count.urls),
        ]
        for kind, count in ranked[:_KINDS]
    ]
    attempts = stats.counters.retries
    return _section(
        "Retries",
        f"{attempts:,} more attempts for {retries.urls:,} URLs, of which {retries.saved:,} got through that would have "
        f"failed. Earlier attempts and the waits for the next ones add up to {span_text(retries.seconds)}.",
        table(["Failed with", "Attempts", "URLs", "Got through", "Share"], rows),
    )


def _types(stats: Stats) -> Section:
    if not stats.types:
        return _empty("What was fetched", "No URL was fetched.")
    ranked = sorted(stats.types.items(), key=lambda item: (-item[1].bytes, -item[1].count, item[0]))
    count, size = sum(share.count for _, share in ranked), sum(share.bytes for _, share in ranked)
    rows = [
        [
            Cell(kind),
            cell(f"{share.count:,}", share.count),
            cell(share_text(share.count, count), share.count),
            cell(size_text(share.bytes), share.bytes),
            cell(share_text(share.bytes, size), share.bytes),
            Cell(bar(("receive", 100 * share.bytes / size if size else 0))),
        ]
        for kind, share in ranked[:_TYPES]
    ]
    more = f"The {_TYPES} with most bytes, of {len(ranked):,} media types." if len(ranked) > _TYPES else None
    return _section("What was fetched", more, table(["Media type", "Files", "Share", "Bytes", "Share", ""], rows))


def _changes(stats: Stats, lists: Lists, *, compared: bool) -> Section:
    title = "What is new"
    if not compared:
        return _empty(title, "There is no earlier run to compare with.")
    colors = {Change.BROKEN: "bad", Change.STILL: "bad", Change.MENDED: "ok", Change.DIFFERENT: "ok"}
    groups = [
        (change.value, colors.get(change, "other"), stats.changes[change])
        for change in _COMPARED
        if change in stats.changes
    ]
    if not groups:
        return _empty(title, "This run has fetched nothing that could be compared.")
    total = sum(group.count for _, _, group in groups)
    return _section(title, "Against what earlier runs found out about the same URLs.", lists.bars(groups, total))
