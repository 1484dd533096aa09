"""L4: the end of a run in a few lines, and its progress in one; text from numbers, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import nlargest
from typing import TYPE_CHECKING, Final

from fetcher.errors import HINTS, ErrorKind
from fetcher.events import Counters
from fetcher.model import Failure, Outcome, Summary
from fetcher.text import clock_text, printable, rate_text, size_text, span_text
from fetcher.views.lines import (
    DIM,
    PLAIN,
    RED,
    Line,
    cells,
    clip,
    column,
    fit,
    fit_url,
    plain,
    safe,
    safe_url,
    shorten,
    styled,
)
from fetcher.views.meter import Meter

if TYPE_CHECKING:
    from rich.text import Text

#: Kinds of failure beyond these are told together.
_MAX_KINDS: Final = 10
#: Of very many hosts of one kind, or hints, so many are shown.
_MAX_HOSTS: Final = 5
_MAX_HINTS: Final = 3

#: Off a terminal a failed URL and what is said of it take at most so many cells.
_WHOLE: Final = 1_000

#: Widths of the columns of grouped failures, in cells.
_KIND: Final = 20
_HOSTS: Final = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryContext:
    """What the numbers do not say. Commands are complete, quoted for a shell, and printed whole.

    ``directory`` is where bodies went (None: nowhere); ``again`` is the user's own command, which fetches only
    what is missing if it ``resumes`` (None: not known); ``records`` lists the failed URLs, ``report`` is the report, or
    makes it (None: no such line). ``width`` is the terminal's in columns, of which 80 to 120 are used; None off a
    terminal, where 80 are, but URLs that failed stand whole: nobody can make a mail wider.
    """

    again: str | None
    directory: str | None = None
    records: str | None = None
    report: str | None = None
    resumes: bool = True
    width: int | None = 80


def summary_lines(summary: Summary, context: SummaryContext) -> list[str]:
    """Return the run in at most about 20 lines, the most important last; two if every URL is ok."""
    return [plain(line) for line in _lines(summary, context)]


def summary_text(summary: Summary, context: SummaryContext) -> "Text":
    """Return the same lines for a terminal: failures in red, what explains them dim. To be printed unwrapped."""
    return styled(_lines(summary, context))


def plain_line(counters: Counters, now: float, meter: Meter | None = None) -> str:
    """Return the progress in one line: ``fetcher: 6,204/10,000 62% failed 71 812/s ETA 41s``.

    Rate and ETA are those of ``meter``, else of the whole run.
    """
    meter = meter or Meter(counters.started)
    meter.sample(counters, now)
    rate = f"failed {counters.failed:,} {rate_text(meter.rate)}/s"
    if counters.total is None:
        return f"fetcher: {counters.settled:,} done, list still open, {rate}"
    share = percent(counters.settled, counters.total)
    eta = "-" if meter.eta is None else f"{meter.eta:.0f}s" if meter.eta < 100 else clock_text(meter.eta)
    return f"fetcher: {counters.settled:,}/{counters.total:,} {share}% {rate} ETA {eta}"


def percent(done: int, total: int) -> int:
    """Return the share in whole percent; 100 only when all is done."""
    return min(100, done * 100 // total) if total > 0 else 100


def failure_line(failure: Failure, place: str, kind_width: int, width: int) -> Line:
    """Return one failure in ``width`` cells if it can be done: kind, URL, place, message; URL and message are cut."""
    url, message = safe_url(failure.url), safe(failure.message)
    room = max(20, width - kind_width - 2 - cells(place) - 2)
    if message:
        room -= 2
        room -= cells(message := shorten(message, max(room - cells(url), room * 2 // 5)))
    spans = [(column(failure.kind, kind_width), RED), (f"  {fit_url(url, room)}  {place}", PLAIN)]
    return [*spans, (f"  {message}", DIM)] if message else spans


def _lines(summary: Summary, context: SummaryContext) -> list[Line]:
    width = max(80, min(120, context.width or 0))
    lines: list[Line] = []
    if summary.stop is not None:
        lines.append([(shorten(safe(summary.stopped), width), PLAIN)])
    lines += [_headline(summary, width), _counts(summary)]
    if summary.failed:
        listed = summary.failed <= len(summary.failures)
        lines += _listed(summary, width if context.width else _WHOLE) if listed else _grouped(summary, width)
    if summary.failed or summary.not_started:
        lines += _next_steps(summary, context, width)
    return lines


def _headline(summary: Summary, width: int) -> Line:
    settled = summary.ok + summary.failed
    count = f"{settled:,} of {summary.lines:,}" if summary.not_started else f"{summary.lines:,}"
    took = span_text(summary.elapsed) if summary.elapsed < 59.5 else clock_text(summary.elapsed)
    parts = [f"{count} URL{'' if summary.lines == 1 else 's'} in {took}"]
    if summary.elapsed > 0 and settled > 1:
        parts.append(f"{rate_text(settled / summary.elapsed)}/s")
    if summary.wire_bytes:
        parts.append(size_text(summary.wire_bytes))
    if summary.p50 is not None and summary.p95 is not None and settled > 1:
        parts.append(f"p50 {span_text(summary.p50)}, p95 {span_text(summary.p95)}")
    while len("   ".join(parts)) > width:
        parts.pop()
    return [("   ".join(parts), PLAIN)]


def _counts(summary: Summary) -> Line:
    special = [
        f"{count:,} {outcome}"
        for outcome, count in summary.outcomes.items()
        if count and outcome not in (Outcome.FETCHED, Outcome.FAILED)
    ]
    inner = f" ({', '.join(special)})" if special else ""
    failed = (f"{summary.failed:,} failed", RED if summary.failed else PLAIN)
    return [(f"{summary.ok:,} ok{inner}, ", PLAIN), failed, (f", {summary.not_started:,} not started", PLAIN)]


def _listed(summary: Summary, width: int) -> list[Line]:
    """List failures one by one, and what to try."""
    kinds = list(dict.fromkeys(failure.kind for failure in summary.failures))
    kind_width = max(len(kind) for kind in kinds)
    lines: list[Line] = []
    for failure in summary.failures:
        place = f"{fit(safe(failure.source), max(24, width // 5))}:{failure.line}"
        lines.append([("  ", PLAIN), *failure_line(failure, place, kind_width, width - 2)])
    hints = [(kind, hint) for kind in kinds if (hint := _hint(kind, summary))]
    return lines + [[("hint     ", DIM), (f"{kind}: {hint}", PLAIN)] for kind, hint in hints[:_MAX_HINTS]]


def _grouped(summary: Summary, width: int) -> list[Line]:
    """Group failures by kind, the most frequent first."""
    sums = {kind: sum(hosts.values()) for kind, hosts in summary.errors.items()}
    kinds = sorted(sums, key=lambda kind: (-sums[kind], kind))
    listed = _MAX_KINDS if len(kinds) > _MAX_KINDS + 1 else len(kinds)  # a line for one more tells what it is
    rest = kinds[listed:]
    more = sum(sums[kind] for kind in rest)
    count_width = max(4, *(len(f"{count:,}") + 2 for count in (*sums.values(), more)))
    lines: list[Line] = []
    for kind in kinds[:listed]:
        hint = _hint(kind, summary)
        room = width - count_width - _KIND - 4
        if hint and room - len(hint) - 2 >= 12:
            hosts = _hosts(summary.errors[kind], room - len(hint) - 2)
            hosts = column(hosts, max(cells(hosts), min(_HOSTS, room - len(hint) - 2)))
        else:
            hosts, hint = _hosts(summary.errors[kind], room), ""
        row = [(f"{sums[kind]:>{count_width},}  {column(kind, _KIND)}", RED), (f"  {hosts}", PLAIN)]
        lines.append(clip([*row, (f"  {hint}", DIM)], width))
    if rest:
        lines.append([(f"{more:>{count_width},}  ", RED), (f"+{len(rest)} more kinds", DIM)])
    return lines


def _hosts(counts: Mapping[str, int], width: int) -> str:
    """Return the hosts that failed most, with their counts, in ``width`` cells; a URL that is none has no host."""
    named = {host: count for host, count in counts.items() if host != "-"}
    top = nlargest(_MAX_HOSTS, named.items(), key=lambda item: item[1])
    text = ""
    for shown, (host, count) in enumerate(top):
        more = f", +{len(named) - shown - 1} more" if len(named) - shown - 1 else ""
        number = f" {count:,}"
        if not text:
            text = fit(safe(host), width - len(number) - len(more)) + number
        elif cells(longer := f"{text}, {safe(host)}{number}") + len(more) <= width:
            text = longer
        else:
            return f"{text}, +{len(named) - shown} more"
    return f"{text}, +{len(named) - len(top)} more" if len(named) > len(top) else text


def _hint(kind: str, summary: Summary) -> str:
    if kind == ErrorKind.DNS:
        return "is the network up?" if not summary.ok and set(summary.errors) == {kind} else ""
    return HINTS.get(kind, "")


def _next_steps(summary: Summary, context: SummaryContext, width: int) -> list[Line]:
    lines: list[Line] = []
    if context.directory is not None:
        directory = printable(context.directory)
        lines.append([("files    ", DIM), (directory if directory.endswith("/") else f"{directory}/", PLAIN)])
    if context.records is not None and summary.failed:
        records: Line = [("list    ", DIM), (printable(context.records), PLAIN)]
        joined: Line = [*lines[0], (" " * (34 - cells(plain(lines[0]))), PLAIN), *records] if lines else []
        if joined and cells(plain(lines[0])) <= 31 and cells(plain(joined)) <= width:
            lines = [joined]
        else:
            lines.append([("list     ", DIM), records[1]])
    if context.again is not None:
        again: Line = [("again    ", DIM), (printable(context.again), PLAIN)]
        only: Line = [(f"   (fetches only the {summary.failed + summary.not_started:,})", DIM)]
        whole = context.resumes and cells(plain([*again, *only])) <= width
        lines.append([*again, *only] if whole else again)
    if context.report is not None:
        lines.append([("report   ", DIM), (printable(context.report), PLAIN)])
    return lines
