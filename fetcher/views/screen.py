"""L4: the live screen as lines of styled text, made from counters; no I/O and no clock of its own."""

from dataclasses import dataclass, replace
from heapq import nsmallest
from math import ceil
from typing import Final

from fetcher.events import Counters, HostCount, Transfer
from fetcher.model import Outcome
from fetcher.text import clock_text, rate_text, size_text, span_text
from fetcher.views.lines import DIM, PLAIN, RED, Line, clip, column, fit_url, safe, safe_url, shorten
from fetcher.views.meter import HISTORY, Meter
from fetcher.views.summary import failure_line, percent, plain_line

#: Below this size there is one line.
_MIN_WIDTH: Final = 60
_MIN_HEIGHT: Final = 10
#: From these on there are failures' messages and the throughput of the last minute, and more rows.
_WIDE: Final = 100
_TALL: Final = 36

#: A transfer gets a row of its own from this age on; one that got no byte for so long is waiting. Seconds.
_OLD: Final = 2.0
#: The widths of the numbers in the rows of transfers and hosts, in cells.
_TRANSFER_NUMBERS: Final = 32
_HOST_NUMBERS: Final = 26
#: The least room for the name of a host.
_HOST_NAME: Final = 16
#: The widths of the figures of the whole run, in cells: as they grow and shrink, the others stay where they are.
_FIGURES: Final = (13, 9, 7, 7, 10, 10)
#: Outcomes with a name of their own in the row of counts.
_TOLD_APART: Final = frozenset({Outcome.FETCHED.value, Outcome.FAILED.value})
#: Numbers that are shown even if they are zero.
_ALWAYS: Final = frozenset({"ok", "failed", "active", "waiting"})
#: So many seconds of the last minute make one cell of the throughput.
_STEP: Final = 2

_LEVELS: Final = "▁▂▃▄▅▆▇█"
_ASCII_LEVELS: Final = "_.-=+*%#"


#: The heading of a table, if it has one, and its rows. Without rows there is no table.
_Table = tuple[list[Line], list[Line]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenContext:
    """What the counters do not say: the name of the list, where bodies go (None: nowhere), how many at once.

    ``adaptive`` if that many are the most. With ``ascii_only`` every other character is shown as an escape.
    """

    sources: str
    directory: str | None
    concurrency: int
    adaptive: bool = False
    ascii_only: bool = False


@dataclass(frozen=True, slots=True)
class _Survey:
    """What takes a look at every host or latency, and is therefore taken once a second."""

    at: float
    p50: float | None
    p95: float | None
    errors: list[tuple[str, int]]
    hosts: list[tuple[str, HostCount, float | None]]


class Screen:
    """Draws the run, frame by frame; a frame costs the same whatever the length of the list."""

    def __init__(self, counters: Counters, context: ScreenContext) -> None:
        self._counters = counters
        self._context = context
        self._meter = Meter(counters.started)
        self._survey: _Survey | None = None
        #: How wide each number of the row of counts has been.
        self._counted: dict[str, int] = {}

    def frame(self, now: float, size: tuple[int, int]) -> list[Line]:
        """Return the screen ``now`` for ``size`` columns and rows; never wider, never higher.

        Blank lines are the first to go when rows are scarce, then rows of the longest table.
        """
        width, height = size
        counters = self._counters
        self._meter.sample(counters, now)
        if width < _MIN_WIDTH or height < _MIN_HEIGHT:
            text = f"fetcher: {counters.stopping}" if counters.stopping else plain_line(counters, now, self._meter)
            return [clip([(self._safe(text), PLAIN)], width)][:height]
        if self._survey is None or now - self._survey.at >= 1:
            self._survey = _survey(counters, now)
        tall = height >= _TALL
        tables = [
            self._active(now, width, 14 if tall else 6),
            self._hosts(self._survey, now, width, 10 if tall else 5),
            self._failures(width, 5 if tall else 1),
        ]
        head = [self._title(width), self._bar(width), self._rates(self._survey, now, width), *self._machines()]
        lines = _stack([head, self._counts(self._survey, width)], tables, height)
        return [clip(line, width) for line in lines]

    def _safe(self, text: str) -> str:
        return safe(text, ascii_only=self._context.ascii_only)

    def _title(self, width: int) -> Line:
        context, stopping = self._context, self._counters.stopping
        if stopping:
            return [("fetcher  ", PLAIN), (shorten(self._safe(stopping), width - 9), PLAIN)]
        left = f"fetcher  {self._safe(context.sources)}"
        if context.directory is not None:
            left += f" -> {self._safe(context.directory).removesuffix('/')}/"
        right = f"  {'up to ' if context.adaptive else ''}{context.concurrency:,} at once, Ctrl-C to stop"
        return [(column(left, width - len(right)), PLAIN), (right, DIM)]

    def _bar(self, width: int) -> Line:
        """Show lines done of all; of a single file, bytes; of a list still open, no bar."""
        counters = self._counters
        done, total = counters.settled, counters.total
        if total is None:
            return [(f"{done:,} done, list still open", PLAIN)]
        whole = f"{total:,}"
        label = f"{done:>{len(whole)},} / {whole}"
        if total == 1 and len(counters.active) == 1:
            (transfer,) = counters.active.values()
            if transfer.total is None:
                return [(f"{size_text(transfer.received)} of a file of unknown size", PLAIN)]
            done, total = transfer.received, transfer.total
            label = f"{size_text(done)} / {size_text(total)}"
        eta = _eta_text(None if counters.stopping else self._meter.eta)
        tail = f"  {percent(done, total):>3}%  {label}   ETA {eta:<4}"
        room = width - len(tail) - (2 if self._context.ascii_only else 0)
        filled = min(room, done * room // total) if total else room
        if self._context.ascii_only:
            return [(f"[{'#' * filled}{' ' * (room - filled)}]{tail}", PLAIN)]
        return [("━" * filled, PLAIN), ("─" * (room - filled), DIM), (tail, PLAIN)]

    def _machines(self) -> list[Line]:
        """Show what fetches, if that is not this machine."""
        machines = self._counters.machines
        if machines is None:
            return []
        numbers = f"workers {machines.workers:,}   lanes {machines.lanes:,}   at work {machines.busy:,}"
        return [[(f"cluster   {numbers}", PLAIN)]]

    def _rates(self, survey: _Survey, now: float, width: int) -> Line:
        counters, meter = self._counters, self._meter
        figures = [f"{rate_text(meter.rate)} URLs/s", f"{size_text(meter.byte_rate)}/s", size_text(counters.wire_bytes)]
        figures.append(clock_text(now - counters.started))
        if survey.p50 is not None and survey.p95 is not None:
            figures += [f"p50 {span_text(survey.p50)}", f"p95 {span_text(survey.p95)}"]
        columns = [figure.ljust(taken) for figure, taken in zip(figures, _FIGURES, strict=False)]
        while len(text := "   ".join(columns).rstrip()) > width:
            columns.pop()
        if width < _WIDE:
            return [(text, PLAIN)]
        room = min(HISTORY // _STEP, width - sum(_FIGURES) - 3 * len(_FIGURES) - len("00 s "))
        graph = self._graph(meter.history(_STEP)[-room:])
        gap = " " * (sum(_FIGURES) + 3 * len(_FIGURES) - len(text))
        return [(text, PLAIN), (f"{gap}{room * _STEP} s ", DIM), (graph, PLAIN)] if graph else [(text, PLAIN)]

    def _graph(self, rates: list[float]) -> str:
        """Draw one level per rate, the highest for the peak."""
        levels = _ASCII_LEVELS if self._context.ascii_only else _LEVELS
        peak = max(rates, default=0.0) or 1.0
        return "".join(levels[min(len(levels) - 1, int(rate / peak * len(levels)))] for rate in rates)

    def _counts(self, survey: _Survey, width: int) -> list[Line]:
        """Count every line once: the numbers of the first line add up to all lines known.

        What was shown once stays, and as wide as it was, so that nothing moves but the numbers.
        """
        counters = self._counters
        numbers = [("ok", counters.outcomes[Outcome.FETCHED])]
        numbers += [(name, count) for name, count in counters.outcomes.items() if name not in _TOLD_APART]
        numbers += [("failed", counters.failed), ("retry", counters.retrying)]
        numbers += [("active", len(counters.active)), ("waiting", counters.queued)]
        lines: list[Line] = [[]]
        left = width
        for name, count in numbers:
            if not count and name not in _ALWAYS and name not in self._counted:
                continue
            style = RED if name == "failed" and count else PLAIN
            self._counted[name] = max(self._counted.get(name, 0), len(f"{count:,}"))
            number = f"{count:,}".ljust(self._counted[name])
            taken = len(name) + 1 + len(number)
            if lines[-1] and left < 3 + taken:
                lines.append([])
                left = width
            gap = "   " if lines[-1] else ""
            lines[-1] += [(f"{gap}{name} ", style or DIM), (number, style)]
            left -= len(gap) + taken
        if not survey.errors:
            return lines
        kinds = ""
        for shown, (kind, count) in enumerate(survey.errors):
            longer = f"{kinds}{'   ' if kinds else ''}{_short(kind)} {count:,}"
            if len(longer) > width - len("   +999 more"):
                kinds += f"   +{len(survey.errors) - shown} more"
                break
            kinds = longer
        return [*lines, [(kinds, RED)]]

    def _active(self, now: float, width: int, rows: int) -> _Table:
        """Show the transfers that are big or stuck, longest-running first; the rest is one line."""
        active = self._counters.active
        oldest = nsmallest(rows + 1, active.values(), key=_started)
        shown = [transfer for transfer in oldest[:rows] if now - transfer.started >= _OLD]
        if not shown:
            return [], []
        room = width - _TRANSFER_NUMBERS - 1
        head: Line = [(column("active", room + 1) + f"{'size':>9}{'done':>8}{'rate':>15}", DIM)]
        lines: list[Line] = []
        for transfer in shown:
            scheme, _, rest = safe_url(transfer.request.url, ascii_only=self._context.ascii_only).partition("://")
            name = fit_url(rest or scheme, room)
            lines.append([(f" {column(name, room)}{_transfer_numbers(transfer, now)}", PLAIN)])
        if len(active) > len(shown):
            age = max(1.0, now - oldest[len(shown)].started)
            lines.append([(f" +{len(active) - len(shown):,} more, all younger than {_whole_seconds(age)}", DIM)])
        return [head], lines

    def _hosts(self, survey: _Survey, now: float, width: int, rows: int) -> _Table:
        state_width = 42 if width >= _WIDE else min(24, width - _HOST_NUMBERS - 3 - _HOST_NAME)
        room = width - _HOST_NUMBERS - 3 - state_width
        head: Line = [(f"{column('hosts', room + 1)}{'ok':>9}{'failed':>8}{'p95':>8}   state", DIM)]
        lines: list[Line] = []
        for name, host, p95 in survey.hosts[:rows]:
            lines.append(
                [
                    (f" {column(self._safe(name), room)}{host.ok:>9,}", PLAIN),
                    (f"{host.failed:>8,}", RED if host.failed else PLAIN),
                    (f"{'-' if p95 is None else span_text(p95):>8}   ", PLAIN),
                    (_state(host, now, state_width), RED),
                ]
            )
        return [head], lines

    def _failures(self, width: int, rows: int) -> _Table:
        """Show the latest failures, the newest first."""
        latest = list(self._counters.last_failures)[: -rows - 1 : -1]
        label = "last failed  "
        kind_width = max((len(failure.kind) for failure in latest), default=0)
        lines: list[Line] = []
        for failure in latest:
            url = safe_url(failure.url, ascii_only=self._context.ascii_only)
            shown = replace(failure, url=url, message=self._safe(failure.message) if width >= _WIDE else "")
            margin = " " * len(label) if lines else label
            place = f"(line {failure.line:,})"
            lines.append([(margin, DIM), *failure_line(shown, place, kind_width, width - len(label))])
        return [], lines


def _survey(counters: Counters, now: float) -> _Survey:
    latencies = counters.latencies
    # Lines without a host are counted like one.
    hosts = ((name, host) for name, host in counters.hosts.items() if name != "-")
    worst = nsmallest(10, hosts, key=lambda item: _badness(item[1], now))
    return _Survey(
        at=now,
        p50=latencies.quantile(0.5),
        p95=latencies.quantile(0.95),
        errors=list(counters.error_kinds.items()),
        hosts=[(name, host, host.latencies.quantile(0.95)) for name, host in worst],
    )


def _badness(host: HostCount, now: float) -> tuple[bool, int, int, int]:
    """Order hosts: those in trouble now, then those that failed most, then those that were asked most."""
    return (host.answers and host.until <= now, -host.failed, -host.retries, -host.ok)


def _state(host: HostCount, now: float, width: int) -> str:
    """Say what is wrong with a host, how often in a row, and when it goes on, as far as that fits."""
    trouble = _short(host.trouble)
    often = f"{trouble} x{host.times:,}" if host.times > 1 else trouble
    if host.until <= now:
        return "" if host.answers else often
    resumes = f"resumes in {_whole_seconds(host.until - now)}"
    longest_first = (f"{often}, {resumes}", f"{trouble}, {resumes}", resumes)
    return next((text for text in longest_first if len(text) <= width), resumes)


def _whole_seconds(seconds: float) -> str:
    """Return a span of time rounded up, which changes at most once a second: ``2 s``, ``12 min``."""
    return span_text(ceil(seconds)) if seconds >= 10 else f"{ceil(seconds)} s"


def _started(transfer: Transfer) -> float:
    return transfer.started


def _transfer_numbers(transfer: Transfer, now: float) -> str:
    silent = now - (transfer.last_byte or transfer.started)
    age = now - transfer.started
    rate = f"waiting {span_text(silent)}" if silent >= _OLD else f"{size_text(transfer.received / age)}/s"
    if transfer.total is None:
        return f"{'-':>9}{size_text(transfer.received):>8}{rate:>15}"
    return f"{size_text(transfer.total):>9}{percent(transfer.received, transfer.total):>7}%{rate:>15}"


def _stack(fixed: list[list[Line]], tables: list[_Table], height: int) -> list[Line]:
    """Put blocks below each other in at most ``height`` rows; only tables lose rows, the longest first."""
    blocks = [block for block in (*fixed, *map(_whole, tables)) if block]
    while (surplus := sum(map(len, blocks)) - height) > 0 and len(blocks) > len(fixed):
        max(tables, key=_rows)[1].pop()
        blocks = [block for block in (*fixed, *map(_whole, tables)) if block]
    lines: list[Line] = []
    for place, block in enumerate(blocks):
        if 0 < place <= -surplus:
            lines.append([])
        lines += block
    return lines[:height]


def _rows(table: _Table) -> int:
    return len(table[1])


def _whole(table: _Table) -> list[Line]:
    head, rows = table
    return [*head, *rows] if rows else []


def _short(kind: str) -> str:
    return kind.removeprefix("http.").removeprefix("connect.")


def _eta_text(seconds: float | None) -> str:
    """Return ``-``, ``0:41`` or ``1:02:03``."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else clock_text(seconds)
