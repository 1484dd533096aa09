"""Tables in Markdown that can also be read as they are."""

from collections.abc import Sequence

from bench.peers import ARIA2, CURL, WGET2
from bench.samples import Quantity, Samples
from bench.workloads import Workload

_PEERS = (CURL, ARIA2, WGET2)


def render(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns are as wide as their widest cell; all but the first are flushed right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = [":".rjust(width, "-") if place else "-" * width for place, width in enumerate(widths)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    return "\n".join(line(cells) for cells in (head, rule, *rows))


def figure(value: float | None) -> str:
    """A figure with three digits that count, or a dash."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def results(workload: Workload, samples: Samples) -> str:
    """The table of one workload, a row for each contestant."""
    key = workload.key
    if key == "start":
        return _startup(key, samples)
    columns: list[tuple[str, Quantity]] = [(workload.unit, "rate"), ("wall s", "wall")]
    if workload.delayed:
        columns.append(("wall / ideal", "excess"))
    if workload.interrupted:
        columns = [(workload.unit, "rate"), ("first request s", "first"), ("stop s", "stopping")]
    columns += [("CPU us/req", "cpu"), ("peak MiB", "peak")]
    names = samples.names(key)
    if key in ("W7", "live"):
        return _compared(key, columns, samples)
    peers = [peer for peer in _PEERS if peer in names]
    head = [key, *(title for title, _ in columns), *(f"x {peer}" for peer in peers)]
    rows = [
        [
            name,
            *(figure(samples.median(key, name, of)) for _, of in columns),
            *(figure(samples.ratio(key, name, peer, "rate")) for peer in peers),
        ]
        for name in names
    ]
    return render(head, rows)


def _compared(key: str, columns: Sequence[tuple[str, Quantity]], samples: Samples) -> str:
    """Pairs of rows, the second of which is compared with the first."""
    names = samples.names(key)
    rows = []
    for place, name in enumerate(names):
        cells = [figure(samples.median(key, name, of)) for _, of in columns]
        partner = names[place - 1] if place % 2 else name
        rows.append([name, *cells, *(figure(samples.ratio(key, name, partner, of)) for of in ("wall", "cpu"))])
    return render([key, *(title for title, _ in columns), "x wall", "x CPU"], rows)


def _startup(key: str, samples: Samples) -> str:
    names = samples.names(key)
    rows = [
        [
            name,
            figure(min(samples.values(key, name, "wall")) * 1000),
            figure(samples.ratio_of_least(key, name, names[0])),
        ]
        for name in names
    ]
    return render(["least of all", "ms", f"x {names[0]}"], rows)
