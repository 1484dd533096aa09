"""L4: charts as inline SVG. Places are percentages, so that a chart fits every width while its text keeps its size."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Final

from fetcher.report.markup import Html, element, joined
from fetcher.text import clock_text

#: Distances of ticks on an axis of time that people are used to, in seconds.
_TIME_STEPS: Final = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 1_800),
    *(3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000, 31_536_000),
)


@dataclass(frozen=True, slots=True)
class LogAxis:
    """A logarithmic axis over whole powers of ten of seconds; places on it go from 0 to 100."""

    low: int
    high: int

    @classmethod
    def around(cls, seconds: Iterable[float]) -> "LogAxis":
        """Return the axis that has room for all of these; at least one power of ten."""
        logs = [log10(max(1e-4, each)) for each in seconds] or [-3.0, 0.0]
        low = floor(min(logs))
        return cls(low, max(low + 1, ceil(max(logs))))

    def place(self, seconds: float) -> float:
        """Return where a duration stands."""
        share = (log10(max(1e-9, seconds)) - self.low) / (self.high - self.low)
        return 100 * min(1.0, max(0.0, share))

    def ticks(self) -> list[tuple[float, str]]:
        """Return places and names of the powers of ten."""
        return [(self.place(10.0**power), _power(power)) for power in range(self.low, self.high + 1)]


def _power(power: int) -> str:
    if power < -3:
        return f"0.{'0' * (-power - 4)}1 ms"
    return f"{10 ** (power + 3):,} ms" if power < 0 else f"{10**power:,} s"


def bar(*parts: tuple[str, float]) -> Html:
    """Return a bar of one or more parts, each with its class and its width in percent."""
    drawn: list[Html] = []
    left = 0.0
    for kind, width in parts:
        if width > 0:
            drawn.append(element("rect", class_=kind, x=_percent(left), width=_percent(max(width, 0.3)), height="100%"))
        left += width
    return element("svg", joined(drawn), class_="bar", aria_hidden="true")


def box(axis: LogAxis, quantiles: Sequence[float]) -> Html:
    """Return a box plot: a line over the middle 90 percent, a box over the middle half, a mark at the median."""
    low, first, middle, third, high = (axis.place(each) for each in quantiles)
    return element(
        "svg",
        *(element("line", class_="grid", x1=_percent(at), x2=_percent(at), y1=0, y2="100%") for at, _ in axis.ticks()),
        element("line", class_="whisker", x1=_percent(low), x2=_percent(high), y1="50%", y2="50%"),
        element(
            "rect", class_="box", x=_percent(first), width=_percent(max(0.5, third - first)), y="20%", height="60%"
        ),
        element("line", class_="median", x1=_percent(middle), x2=_percent(middle), y1="10%", y2="90%"),
        class_="boxplot",
        aria_hidden="true",
    )


def box_axis(axis: LogAxis) -> Html:
    """Return the names of an axis' powers of ten, for the head of a column of box plots; not all if they are many."""
    ticks = axis.ticks()
    return _names([tick for index, tick in enumerate(ticks) if index % ceil(len(ticks) / 3) == 0], "boxplot")


def histogram(counts: dict[int, int], steps: int, marks: Sequence[tuple[str, float]]) -> Html:
    """Return bars over a logarithmic axis of seconds, ``steps`` for each power of ten, and above them named marks."""
    low, high = floor(min(counts) / steps), floor(max(counts) / steps) + 1
    axis = LogAxis(low, high)
    width = 100 / (steps * (high - low))
    top, lines = scale(max(counts.values()))
    bars = [
        element(
            "rect",
            element("title", f"{count:,}"),
            class_="ok",
            x=_percent((step - low * steps) * width + width * 0.06),
            width=_percent(width * 0.88),
            y=_percent(100 - 100 * count / top),
            height=_percent(100 * count / top),
        )
        for step, count in sorted(counts.items())
    ]
    drawn = _grid(lines, top) + bars
    for row, (name, seconds) in enumerate(marks):
        at, right = axis.place(seconds), axis.place(seconds) > 78
        y = 16 * (row - len(marks))
        drawn.append(element("line", class_="mark", x1=_percent(at), x2=_percent(at), y1=y, y2="100%"))
        drawn.append(
            element(
                "text",
                name,
                class_="name",
                x=_percent(at),
                y=y + 10,
                dx=-4 if right else 4,
                text_anchor="end" if right else "start",
            )
        )
    return _framed(element("svg", joined(drawn), class_="plot tall"), lines, "{:,.0f}", axis.ticks(), "frame marked")


def areas(
    layers: Sequence[tuple[str, Sequence[float]]], ticks: Sequence[tuple[float, str]], form: str = "{:,g}"
) -> Html:
    """Return areas, one above the other, over slots of equal width; each has its class and its heights.

    ``form`` says how the numbers of the upright axis are written.
    """
    count = len(layers[0][1])
    floor_ = [0.0] * count
    tops: list[tuple[str, list[float]]] = []
    for kind, heights in layers:
        floor_ = [below + height for below, height in zip(floor_, heights, strict=True)]
        tops.append((kind, floor_))
    top, lines = scale(max(tops[-1][1]))
    # The highest is drawn first, so that each covers what is not its own.
    paths = [
        element("path", class_=kind, d=_steps([1000 - 1000 * height / top for height in heights]))
        for kind, heights in reversed(tops)
        if any(heights)
    ]
    inner = element(
        "svg", joined(paths), viewBox=f"0 0 {count} 1000", preserveAspectRatio="none", width="100%", height="100%"
    )
    return _framed(element("svg", *_grid(lines, top), inner, class_="plot"), lines, form, ticks)


def scale(most: float) -> tuple[float, list[float]]:
    """Return the upper end of an axis for numbers up to ``most``, and where it has lines: two or three, round ones."""
    if most <= 0:
        return 1.0, [0.0, 1.0]
    power = 10.0 ** floor(log10(most))
    step = next(step for step in (0.5 * power, power, 2 * power, 5 * power) if step * 3 >= most)
    count = max(1, ceil(most / step - 1e-9))
    return step * count, [step * line for line in range(count + 1)]


def time_ticks(seconds: float, most: int = 5) -> list[tuple[float, str]]:
    """Return places and names of round times on an axis that begins with 0 and is ``seconds`` long."""
    step = next((step for step in _TIME_STEPS if seconds / step < most), _TIME_STEPS[-1])
    places = [step * index for index in range(min(most * 2, floor(seconds / step) + 1))]
    return [(100 * at / seconds, _moment(at, step)) for at in places] if seconds > 0 else []


def _moment(at: float, step: float) -> str:
    if step < 1:
        return f"{at * 1000:.0f} ms" if step < 0.1 else f"{at:.1f} s"
    return f"{at:.0f} s" if step < 30 else clock_text(at)


def _steps(heights: Sequence[float]) -> str:
    """Return the path of an area below steps of width 1."""
    words = ["M0 1000"]
    before: str | None = None
    for place, height in enumerate(heights):
        at = f"{height:.0f}"
        if at != before:
            words.append(f"{f'H{place}' if place else ''}V{at}")
            before = at
    return "".join([*words, f"H{len(heights)}V1000Z"])


def _grid(lines: Sequence[float], top: float) -> list[Html]:
    places = (_percent(100 - 100 * line / top) for line in lines)
    return [element("line", class_="grid", x1=0, x2="100%", y1=at, y2=at) for at in places]


def _names(ticks: Sequence[tuple[float, str]], kind: str) -> Html:
    names: list[Html] = []
    for at, name in ticks:
        anchor = "start" if at < 4 else "end" if at > 96 else "middle"
        names.append(element("text", name, x=_percent(at), y=12, text_anchor=anchor))
    return element("svg", joined(names), class_=f"ticks {kind}")


def _framed(
    plot: Html, lines: Sequence[float], form: str, ticks: Sequence[tuple[float, str]], kind: str = "frame"
) -> Html:
    """Return a plot between the numbers of its upright axis and the names of the other one."""
    numbers = joined([element("span", form.format(line)) for line in reversed(lines)])
    return element("div", element("div", numbers, class_="upright"), plot, _names(ticks, "along"), class_=kind)


def _percent(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".") + "%"
