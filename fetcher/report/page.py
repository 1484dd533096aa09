"""L4: a run as one HTML file that asks the network for nothing."""

from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from typing import Final

from fetcher.model import Summary
from fetcher.report.markup import Html, element, joined
from fetcher.report.sections import sections
from fetcher.report.stats import Stats
from fetcher.report.tables import share_text
from fetcher.text import clock_text, middle_cut, rate_text, size_text, span_text

#: The longest command that is shown whole, in characters.
_LONGEST: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the records do not say: what they are the records of, and what else is known of the run.

    ``command`` is complete and without secrets; ``ended`` says why the run stopped early; ``compared`` tells if there
    was an earlier run; ``version`` is that of the program.
    """

    source: str
    summary: Summary
    version: str
    command: str | None = None
    ended: str | None = None
    compared: bool = False


def page(stats: Stats, about: About) -> bytes:
    """Return the whole file, in UTF-8, of less than a million bytes however many records there were.

    It is readable without scripts; its policy (Content Security Policy level 3) allows its own style and script and no
    request at all.
    """
    style, script = _asset("page.css"), _asset("page.js")
    title = _title(about.summary)
    policy = f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; base-uri 'none'; form-action 'none'"
    head = joined(
        [
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=policy),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("meta", name="referrer", content="no-referrer"),
            element("meta", name="robots", content="noindex"),
            element("title", title),
            element("style", style),
        ]
    )
    parts = sections(stats, about.summary, compared=about.compared)
    body = joined(
        [
            element("header", element("h1", title), _tiles(about.summary), _facts(stats, about)),
            element("nav", joined([element("a", part.title, href=f"#{part.name}") for part in parts])),
            element("main", *(part.html() for part in parts)),
            element("footer", f"Made by fetcher {about.version}. Times of day are UTC."),
            element("script", script),
        ]
    )
    html = element("html", element("head", head), element("body", body), lang="en")
    return f"<!doctype html>\n{html}\n".encode()


def _asset(name: str) -> Html:
    return Html((files(__package__) / name).read_text("utf-8"))


def _digest(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"


def _title(summary: Summary) -> str:
    urls = f"{summary.lines:,} URL{'' if summary.lines == 1 else 's'}"
    if summary.lines and summary.ok == summary.lines:
        return f"{urls}, all ok"
    return f"{urls}, {share_text(summary.ok, summary.lines)} ok"


def _tiles(summary: Summary) -> Html:
    settled = summary.ok + summary.failed
    took = span_text(summary.elapsed) if summary.elapsed < 59.5 else clock_text(summary.elapsed)
    tiles: list[tuple[str, str, str | None]] = [
        ("ok", f"{summary.ok:,}", None),
        ("failed", f"{summary.failed:,}", "bad" if summary.failed else None),
        ("not started", f"{summary.not_started:,}", None) if summary.not_started else ("", "", None),
        ("received", size_text(summary.wire_bytes), None),
        ("took", took, None),
        ("URLs per second", rate_text(settled / summary.elapsed), None) if summary.elapsed else ("", "", None),
        ("median time", span_text(summary.p50), None) if summary.p50 is not None else ("", "", None),
        ("p95", span_text(summary.p95), None) if summary.p95 is not None else ("", "", None),
    ]
    shown = [
        element("div", element("dt", name), element("dd", number), class_=kind) for name, number, kind in tiles if name
    ]
    return element("dl", joined(shown), class_="tiles")


def _facts(stats: Stats, about: About) -> Html:
    facts: list[tuple[str, str | Html]] = [("Source", element("code", middle_cut(about.source, _LONGEST)))]
    if about.command is not None:
        facts.append(("Command", element("code", middle_cut(about.command, _LONGEST))))
    if stats.started is not None:
        facts.append(("First request", _moment(stats.started)))
    if about.ended is not None:
        facts.append(("Ended early", about.ended))
    pairs = [joined([element("dt", name), element("dd", shown)]) for name, shown in facts]
    return element("dl", joined(pairs), class_="facts")


def _moment(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
