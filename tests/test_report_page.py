"""The page: one file that is whole, bounded, and harmless whatever servers, lists and records files say."""

import base64
import hashlib
import re
from collections import defaultdict
from dataclasses import replace
from html.parser import HTMLParser
from math import isclose
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.model import Outcome, Stop, Timings
from fetcher.report.page import About, page
from fetcher.report.plots import LogAxis, scale, time_ticks
from fetcher.report.stats import Change, Stats
from fetcher.report.tables import fine_text, share_text
from tests.test_report_stats import gathered, record

VOID: Final = {"meta"}
#: What nothing on the page may be: scripts and styles that the policy does not name, and whatever asks for something.
FORBIDDEN: Final = {"style", "src", "srcset", "action", "formaction", "data", "poster", "background", "xlink:href"}

HOSTILE: Final = (
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "&lt;b&gt;&#x3c;",
    "\x1b]0;title\x07\x1b[31m",
    "\u202egnp.exe\u2066\u200b",
    "]]>--><!--",
    "javascript:alert(1)",
    "\x00\ud800\ufeff\u2028",
)


class Page(HTMLParser):
    """A page as a reader meets it; raises AssertionError if an element is not closed, or is one that asks for something."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.raw = html
        self.attributes: defaultdict[str, list[str]] = defaultdict(list)
        self.tags: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
        self.texts: defaultdict[str, list[str]] = defaultdict(list)
        self._open: list[str] = []
        self.feed(html.decode())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            self.attributes[name].append(value or "")
        self.tags[tag].append({name: value or "" for name, value in attrs})
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]].append(data)

    @property
    def shown(self) -> str:
        """All that is there to be read."""
        return "\n".join(text for tag, texts in self.texts.items() if tag not in ("style", "script") for text in texts)

    def rows(self, title: str) -> list[list[str]]:
        """Return the table below a heading as text, without its head."""
        section = self.raw.decode().partition(f"<h2>{title}</h2>")[2].partition("</section>")[0]
        body = section.partition("<tbody>")[2].partition("</tbody>")[0]
        return [
            [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]
            for row in re.findall(r"<tr>(.*?)</tr>", body)
        ]


def about(stats: Stats, **more: Any) -> About:
    """Return what is known of these records."""
    known: dict[str, Any] = {"source": "urls.txt", "summary": stats.summary(), "version": "0.1.0"}
    return About(**known | more)


def made(stats: Stats, **more: Any) -> Page:
    """Return the page of these records."""
    return Page(page(stats, about(stats, **more)))


def full() -> Stats:
    """Return a run with something in every part."""
    stats = gathered(
        *(
            record(
                line,
                host=f"h{line % 3}",
                elapsed=0.01 * line,
                bytes=1000 * line,
                content_type=("text/html", "image/png")[line % 2],
                wire_bytes=1000 * line,
                timings=Timings(dns=0.001, wait=0.005 * line, receive=0.001),
            )
            for line in range(1, 30)
        ),
        record(30, "http.404", elapsed=0.1),
        record(31, retried=("http.503",), elapsed=2.0),
        record(32, outcome=Outcome.DUPLICATE, started_at=None),
    )
    stats.add(record(33, "dns", host=None), Change.BROKEN)
    return stats


def harmless(found: Page) -> None:
    """Nothing runs but the one script, nothing is asked for, and no text is taken for markup."""
    assert len(found.tags["script"]) == len(found.tags["style"]) == 1
    assert not FORBIDDEN & set(found.attributes)
    assert not [name for name in found.attributes if name.startswith("on")]
    assert not {"img", "link", "iframe", "object", "embed", "base", "form"} & set(found.tags)
    assert all(link.startswith(("http://", "https://", "#")) for link in found.attributes["href"])
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]", found.raw.decode()
    )


def test_policy() -> None:
    """The policy forbids everything but the style and the script that are there, by their digests."""
    found = made(full())
    (policy,) = (tag["content"] for tag in found.tags["meta"] if tag.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    digests = {
        kind: f"'sha256-{base64.b64encode(hashlib.sha256(found.texts[kind][0].encode()).digest()).decode()}'"
        for kind in ("style", "script")
    }
    assert rules == {
        "default-src": "'none'",
        "style-src": digests["style"],
        "script-src": digests["script"],
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert found.raw.index(b"Content-Security-Policy") < found.raw.index(b"<style>")


def test_all_parts() -> None:
    """All parts are there, in their order, each with a heading that the links at the top lead to."""
    found = made(full(), compared=True)
    assert found.texts["h2"] == [
        "What became of the URLs",
        "Why URLs failed",
        "Over time",
        "How long a URL took",
        "Hosts",
        "Where the time went",
        "The slowest",
        "The biggest",
        "Retries",
        "What was fetched",
        "What is new",
    ]
    assert [link[1:] for link in found.attributes["href"] if link.startswith("#")] == found.attributes["id"]
    harmless(found)


def test_numbers() -> None:
    """What the parts show is what was counted."""
    found = made(full())
    assert found.texts["h1"] == ["33 URLs, 93.9 % ok"]
    assert found.rows("The slowest")[0] == ["2.0 s", "http://h/31", "ok"]
    assert found.rows("The biggest")[0] == ["29.0 kB", "http://h/29", "urls.txt:29"]
    assert found.rows("Retries") == [["http.503", "1", "1", "1", "100 %"]]
    assert [row[:3] for row in found.rows("What was fetched")] == [
        ["image/png", "15", "50.0 %"],
        ["text/html", "14", "46.7 %"],
        ["(none)", "1", "3.3 %"],
    ]
    assert {row[0]: row[1:3] for row in found.rows("Hosts")}["h1"] == ["10", "0"]


def test_an_early_end() -> None:
    """What was not started is counted, and why the run ended is said."""
    stats = full()
    summary = replace(stats.summary(), not_started=7, lines=40, stop=Stop.INTERRUPT)
    found = made(stats, summary=summary, ended="stopped by Ctrl-C", command="fetcher get urls.txt")
    assert "stopped by Ctrl-C" in found.shown
    assert found.shown.count("not started") == 2
    assert "fetcher get urls.txt" in found.texts["code"]


@pytest.mark.parametrize("outcome", [Outcome.SKIPPED, Outcome.FAILED, Outcome.FETCHED, Outcome.PLANNED])
def test_little_to_tell(outcome: Outcome) -> None:
    """Where there is nothing to show, the page says so in words."""
    found = made(gathered(record(outcome=outcome, started_at=None, attempts=0, bytes=None)))
    harmless(found)
    assert len(found.texts["h2"]) == 11
    assert "Nothing was tried twice." in found.shown


@given(st.text(max_size=40) | st.sampled_from(HOSTILE), st.text(max_size=40) | st.sampled_from(HOSTILE))
def test_hostile_texts(one: str, other: str) -> None:
    """No text from outside becomes markup, code or an address, wherever it comes from."""
    stats = gathered(
        record(1, "dns", url=one, source=other, host=one or None),
        record(2, url=f"http://h/{one}", content_type=other, host=other or None, timings=Timings(wait=1.0)),
        record(3, other or "dns", url=f"https://{other}", retried=(one, other)),
        record(4, url=f"javascript:{one}", outcome=Outcome.SKIPPED),
    )
    harmless(made(stats, source=one, command=other, compared=True))


def test_hostile_text_is_shown() -> None:
    """It is not left out either: a person can see what it was."""
    found = made(gathered(*(record(line, "dns", url=text) for line, text in enumerate(HOSTILE))))
    assert "</script><script>alert(1)</script>" in found.shown
    assert r"\x1b]0;title\x07" in found.shown
    assert r"\u202egnp.exe" in found.shown
    assert not [link for link in found.attributes["href"] if not link.startswith("#")]


def test_size() -> None:
    """A page stays below a million bytes, whatever there is to list, and lists what failed first."""
    long = "&" * 5_000
    stats = Stats()
    for line in range(3_000):
        kind = (None, f"http.{400 + line // 2 % 200}", f"k{long}{line}")[line % 3]
        stats.add(
            record(
                line,
                kind,
                url=f"http://{line}/{long}",
                host=f"{line}{long}",
                source=long,
                content_type=f"{line}{long}",
                retried=(long + str(line % 400),),
                timings=Timings(*[0.001] * 7),
            ),
            list(Change)[line % 6],
        )
    found = made(stats, source=long, command=long, compared=True)
    assert len(found.raw) < 1_000_000
    harmless(found)


@pytest.mark.parametrize("most", [0, 1e-9, 0.3, 1, 2, 2.01, 7, 10, 99, 100, 101, 1234, 5e9])
def test_scale(most: float) -> None:
    """An axis begins with 0, ends at or above what it must show, and has two to four round lines in equal distances."""
    top, lines = scale(most)
    assert lines[0] == 0
    assert isclose(lines[-1], top)
    assert most <= top * (1 + 1e-9)
    assert not most or top < most * 2.5
    assert 2 <= len(lines) <= 4


@pytest.mark.parametrize(
    ("seconds", "names"),
    [
        (0, []),
        (0.05, ["0 ms", "20 ms", "40 ms"]),
        (1.5, ["0.0 s", "0.5 s", "1.0 s", "1.5 s"]),
        (9, ["0 s", "2 s", "4 s", "6 s", "8 s"]),
        (1250, ["0:00:00", "0:05:00", "0:10:00", "0:15:00", "0:20:00"]),
        (1e10, None),
    ],
)
def test_time_ticks(seconds: float, names: list[str] | None) -> None:
    """Ticks stand at times that people are used to, few enough for a small screen."""
    ticks = time_ticks(seconds)
    assert len(ticks) <= 10
    assert all(0 <= at <= 100 for at, _ in ticks)
    assert names is None or [name for _, name in ticks] == names


def test_log_axis() -> None:
    """A logarithmic axis has room for all it is made for, and names whole powers of ten."""
    axis = LogAxis.around([0.005, 3.0])
    assert [name for _, name in axis.ticks()] == ["1 ms", "10 ms", "100 ms", "1 s", "10 s"]
    assert [at for at, _ in axis.ticks()] == pytest.approx([0, 25, 50, 75, 100])
    assert axis.place(0) == 0
    assert axis.place(1e9) == 100
    assert LogAxis.around([]).ticks()


@pytest.mark.parametrize(
    ("count", "total", "text"),
    [(0, 0, "-"), (0, 5, "0 %"), (5, 5, "100 %"), (1, 3, "33.3 %"), (1, 10**6, "0.1 %"), (999_999, 10**6, "99.9 %")],
)
def test_share_text(count: int, total: int, text: str) -> None:
    """Only all is 100 percent, and only nothing 0."""
    assert share_text(count, total) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 ms"), (0.0004, "0.4 ms"), (0.0121, "12 ms"), (1.25, "1.2 s")])
def test_fine_text(seconds: float, text: str) -> None:
    """Short times have a digit more."""
    assert fine_text(seconds) == text
