"""Bring the README's tables up to date with the code: ``python -m docs.tables``.

Names, defaults, types and hints are the code's; the sentences beside them are the README's and stay. A new row begins with
what ``--help`` says.
"""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, get_type_hints

from fetcher.cli.flags import Flags
from fetcher.errors import HINTS, ONCE, ErrorKind, http_kind, is_transient
from fetcher.model import RECORD_KEYS
from fetcher.schema import record_schema

README: Final = Path(__file__).parent.parent / "README.md"

#: JSON Schema's types as the README calls them.
_TYPES: Final = {
    "string": "string",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "object",
}


@dataclass(frozen=True, slots=True)
class Own:
    """A cell that is the README's own; ``first`` is what it begins with."""

    first: str = ""


#: A row, by the heads of its columns; the first is its name.
Row = dict[str, str | Own]


def parameter(name: str) -> Any:
    """Return what Typer is told about a field of Flags."""
    return get_type_hints(Flags, include_extras=True)[name].__metadata__[0]


def option_names(name: str) -> str:
    """Return how help shows the option of a field: ``-o, --output-dir DIR``."""
    option = parameter(name)
    names = ", ".join((option.default, *option.param_decls))  # in Annotated, Typer's first argument is a name too
    return f"{names} {option.metavar}" if option.metavar else names


def table(heading: str, text: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, its head first; a KeyError if there is none."""
    return [re.split(r" (?<!\\)\| ", row[2:-2]) for row in _found(heading, text)[0].splitlines() if row[:3] != "|--"]


def filled(text: str) -> str:
    """Return the README with its tables as they ought to be."""
    for heading, wanted in (("Options", _options()), ("The record", _record()), ("Error kinds", _kinds())):
        old = {row[0]: row for row in table(heading, text)[1:]}
        head = list(wanted[0])
        rows = [head]
        for row in wanted:
            name, *_ = cells = [cell.first if isinstance(cell, Own) else cell for cell in row.values()]
            kept = old.get(name, cells)
            rows.append([kept[at] if isinstance(cell, Own) else cells[at] for at, cell in enumerate(row.values())])
        lines = [f"| {' | '.join(cells)} |\n" for cells in rows]
        lines.insert(1, f"|{'---|' * len(head)}\n")
        start, end = _found(heading, text).span()
        text = text[:start] + "".join(lines) + text[end:]
    return text


def _found(heading: str, text: str) -> re.Match[str]:
    found = re.compile(r"(?:^\|.*\n)+", re.MULTILINE).search(text, text.index(f"# {heading}\n"))
    if found is None:
        raise KeyError(heading)
    return found


def _options() -> list[Row]:
    rows: list[Row] = []
    for field in fields(Flags):
        if field.name != "sources":
            default = Own("none") if field.default is None else f"`{field.default}`" if field.default else "off"
            names, does = option_names(field.name).replace("|", "\\|"), Own(parameter(field.name).help)
            rows.append({"option": f"`{names}`", "default": default, "what it does": does})
    return rows


def _record() -> list[Row]:
    shapes = record_schema()["properties"]
    rows: list[Row] = []
    for key in RECORD_KEYS:
        names = shapes[key]["type"]
        first, *others = [names] if isinstance(names, str) else names
        rows.append({"key": f"`{key}`", "type": _TYPES[first] + ("?" if "null" in others else ""), "meaning": Own()})
    return rows


def _kinds() -> list[Row]:
    rows: list[Row] = []
    for kind in ErrorKind:
        transient = "yes, once" if kind in ONCE else "yes" if is_transient(kind) else "no"
        hint = f"`{HINTS[kind]}`" if kind in HINTS else ""
        rows.append({"kind": f"`{kind}`", "transient": transient, "meaning": Own(), "hint": hint})
    statuses = range(400, 600)
    hints: dict[str, list[str]] = {}
    for status in statuses:
        if http_kind(status) in HINTS:
            hints.setdefault(HINTS[http_kind(status)], []).append(str(status))
    rows.append(
        {
            "kind": f"`{http_kind(400)}` to `{http_kind(599)}`",
            "transient": " ".join(str(status) for status in statuses if is_transient(http_kind(status))),
            "meaning": Own(),
            "hint": "; ".join(f"{', '.join(those)}: `{hint}`" for hint, those in hints.items()),
        }
    )
    return rows


if __name__ == "__main__":
    README.write_text(filled(README.read_text("utf-8")), "utf-8")
