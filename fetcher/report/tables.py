"""L4: tables, lists and bars of a report, of which a bounded number of bytes is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fetcher.report.markup import Html, element, joined, link
from fetcher.report.plots import bar
from fetcher.report.stats import Entry, Group
from fetcher.text import span_text

#: A page has room for so many bytes of URLs below bars; the rest of it is bounded by the numbers of rows.
ROOM: Final = 400_000


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what it shows, and its number if it has one, by which its column is sorted."""

    shown: str
    number: float | None = None
    class_: str | None = None


def cell(shown: str, number: float) -> Cell:
    """Return the cell of a number, which is aligned to the right."""
    return Cell(shown, number, "number")


def missing() -> Cell:
    """Return the cell of a number that is not there; it is smaller than all others."""
    return Cell("-", -1, "number")


def table(columns: Sequence[str | Html], rows: Sequence[Sequence[Cell]], *, total: Sequence[Cell] = ()) -> Html:
    """Return a table that can be sorted; ``total`` is a row that stays below the others."""
    classes = [each.class_ for each in rows[0]]
    heads = [element("th", name, scope="col", class_=kind) for name, kind in zip(columns, classes, strict=True)]
    foot = element("tfoot", _row(total, "all")) if total else None
    body = element("tbody", joined([_row(row) for row in rows]))
    inside = element("table", element("thead", element("tr", joined(heads))), body, foot, class_="sortable")
    return element("div", inside, class_="table")


def _row(cells: Sequence[Cell], kind: str | None = None) -> Html:
    return element(
        "tr",
        *(element("td", each.shown, class_=each.class_, data_v=_plain(each.number)) for each in cells),
        class_=kind,
    )


def _plain(number: float | None) -> str | None:
    return None if number is None else f"{number:.12g}"


def url_cell(each: Entry) -> Cell:
    """Return the cell of a URL."""
    return Cell(link(each.url))


def place(each: Entry) -> str:
    """Return where in which list a URL stands."""
    return f"{each.source}:{each.line}"


class Lists:
    """Makes bars that open lists of URLs, all of them together in a bounded number of bytes."""

    def __init__(self) -> None:
        self._room = ROOM

    def bars(self, groups: Sequence[tuple[str, str, Group]], total: int) -> Html:
        """Return a bar for each name, class and group, of which each opens its first URLs."""
        longest = max((group.count for _, _, group in groups), default=0)
        return element("div", *(self._bar(*each, longest, total) for each in groups), class_="bars")

    def _bar(self, name: str, kind: str, group: Group, longest: int, total: int) -> Html:
        summary = joined(
            [
                element("span", name),
                bar((kind, 100 * group.count / longest)),
                element("span", f"{group.count:,}", class_="number"),
                element("span", share_text(group.count, total), class_="number note"),
            ]
        )
        if not group.first:
            return element("div", summary, class_="row")
        return element("details", element("summary", summary), self._list(group))

    def _list(self, group: Group) -> Html:
        items: list[Html] = []
        for each in group.first:
            item = _item(each)
            if len(item) > self._room:
                break
            # Counted in bytes, of which a character can have four.
            self._room -= len(item.encode())
            items.append(item)
        if len(items) < group.count:
            first = (
                f"the first {len(items):,} of {group.count:,}" if items else f"{group.count:,}, no room to list them"
            )
            items.append(element("li", first, class_="more"))
        return element("ul", joined(items), class_="list")


def _item(each: Entry) -> Html:
    facts = [place(each)]
    if each.message:
        facts.append(each.message)
    elif each.elapsed:
        facts.append(fine_text(each.elapsed))
    return element("li", link(each.url), " ", element("small", " · ".join(facts)))


def share_text(count: int, total: int) -> str:
    """Return a share in percent: ``9.7 %``; ``100 %`` only if it is all, and ``0 %`` only if it is nothing."""
    if not 0 < count < total:
        return "-" if not total else f"{100 * count // total} %"
    return f"{min(99.9, max(0.1, 100 * count / total)):.1f} %"


def fine_text(seconds: float) -> str:
    """Return a duration for people, short ones with one digit more: ``0.4 ms``, ``4.1 ms``, ``48 ms``, ``1.2 s``."""
    return f"{seconds * 1000:.1f} ms" if 0 < seconds < 0.00995 else span_text(seconds)
