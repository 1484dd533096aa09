"""Write the man page, docs/fetcher.1, from the README's tables and the texts of ``--help``: ``python -m docs.man``."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

from typer.main import get_command

from docs.tables import README, parameter, table
from fetcher import __version__
from fetcher.cli.app import app
from fetcher.cli.flags import Flags
from fetcher.cli.help import FOOTER

PAGE: Final = Path(__file__).parent / "fetcher.1"

EXAMPLES: Final = (
    ("fetcher get urls.txt --concurrency 50", "Fetch a list."),
    ("fetcher get urls.txt | jq -r 'select(.ok|not).url'", "Print the URLs that failed."),
    ("fetcher get urls.txt -o mirror --existing refresh -q", "Fetch what has changed, and say nothing if all is well."),
    ("fetcher retry mirror --kind timeout", "Fetch again what took too long."),
)
FILES: Final = (
    ("DIR/.fetcher/records.ndjson", "the journal: the records of all runs in DIR"),
    ("DIR/.fetcher/last-run.json", "the summary of the last run"),
    ("DIR/.fetcher/partial/", "bodies that are not whole yet"),
    ("DIR/.fetcher/report.html", "what fetcher report has made"),
)
#: What roff or a terminal's font would make something else of.
_ESCAPES: Final = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}


def plain(markdown: str) -> str:
    """Return the words of a cell, without links and backticks."""
    return re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", markdown).replace("`", "").replace("\\|", "|")


def escaped(text: str) -> str:
    """Return text in lines of at most 80 characters as roff takes them: none is a request, and hyphens can be pasted."""
    lines = wrap(text, 72, break_on_hyphens=False, break_long_words=False)
    return "\n".join(re.sub(r"^\.", r"\\&.", "".join(_ESCAPES.get(each, each) for each in line)) for line in lines)


def entry(name: str, text: str) -> Iterator[str]:
    """Yield the lines of a name and what it is."""
    yield from (".TP", f".B {escaped(name)}", escaped(text))


def of_get() -> Iterator[str]:
    """Yield the options of ``get``, by the groups of its help, in the README's words."""
    panel = None
    names = [field.name for field in fields(Flags) if field.name != "sources"]
    for name, (option, default, does) in zip(names, table("Options", README.read_text("utf-8"))[1:], strict=True):
        if (now := parameter(name).rich_help_panel) != panel:
            panel = now
            yield f".SS {panel}"
        held = "" if default in {"off", "none"} else f" [default: {plain(default)}]"
        yield from entry(plain(option), plain(does) + held)


def commands() -> Iterator[tuple[str, Any]]:
    """Yield the commands and their names."""
    yield from get_command(app).commands.items()  # type: ignore[attr-defined]


def of_others() -> Iterator[str]:
    """Yield the options of the other commands, in the words of their help."""
    for name, command in commands():
        own = [each for each in command.params if name != "retry" or each.name == "kind"]
        options = [each for each in own if each.opts[0].startswith("-")]
        if name == "get" or not options:
            continue
        yield f".SS fetcher {name}"
        for option in options:
            names = ", ".join(option.opts)
            yield from entry(f"{names} {option.metavar}" if option.metavar else names, option.help)
        if name == "retry":
            yield from (".PP", "and those of", ".B fetcher get", "but what the directory decides.")


def page() -> str:
    """Return the whole page."""
    readme = README.read_text("utf-8")
    lines = [
        f'.TH FETCHER 1 "" "fetcher {__version__}" "User Commands"',
        ".nh",
        ".ad l",
        ".SH NAME",
        "fetcher \\- fetch lists of URLs, and tell what became of each",
        ".SH SYNOPSIS",
    ]
    for name, command in commands():
        arguments = [f"\\fI{each.metavar}\\fP" for each in command.params if not each.opts[0].startswith("-")]
        options = ["[\\fIoptions\\fP]"] if len(command.params) > len(arguments) else []
        lines += [".SY fetcher", " ".join((name, *options, *arguments)) + (" ..." if name == "get" else ""), ".YS"]
    lines += [".SH DESCRIPTION", escaped(str(app.info.help))]
    for name, command in commands():
        lines += entry(f"fetcher {name}", " ".join(str(command.help).split()))
    lines += [".SH OPTIONS OF FETCHER GET", *of_get(), ".SH OPTIONS OF OTHER COMMANDS", *of_others()]
    lines += [".SH EXIT STATUS"]
    for status, meaning in table("Exit statuses", readme)[1:]:
        lines += entry(status, plain(meaning))
    lines += [".SH ERROR KINDS", "The values of", ".B error.kind", "in records."]
    for kind, _, meaning, hint in table("Error kinds", readme)[1:]:
        lines += entry(plain(kind), plain(meaning) + (f" (hint: {plain(hint)})" if hint else ""))
    lines += [".SH VALUES", escaped(FOOTER.partition("Environment:")[0]), ".SH ENVIRONMENT"]
    lines += [escaped("Every option of fetcher get: FETCHER_CONCURRENCY=20, FETCHER_NO_SAVE=1.")]
    lines += [escaped("Also http_proxy, https_proxy, no_proxy, SSL_CERT_FILE, NO_COLOR, TERM."), ".SH FILES"]
    for name, what in FILES:
        lines += entry(name, what)
    lines += [".SH EXAMPLES"]
    for command, does in EXAMPLES:
        lines += [".TP", escaped(does), ".EX", escaped(command), ".EE"]
    lines += [".SH SEE ALSO", ".BR curl (1),", ".BR jq (1),", ".BR crontab (5)"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
