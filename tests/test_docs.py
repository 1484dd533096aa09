"""What the documents say is true: tables agree with the code, commands and pieces of Python run, links lead somewhere."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fetcher
from docs import man, tables
from fetcher import body, conditional, cookiejar, fetch, naming, paths
from fetcher.cli.config import OF_HOSTS
from fetcher.cli.flags import Flags, kinds
from fetcher.errors import MAX_MESSAGE, Error
from fetcher.events import Counters
from fetcher.model import RECORD_KEYS, Outcome, Request, Row, Timings
from fetcher.naming import Template, Told
from fetcher.options import Command, Limits, Retries, Timeouts
from fetcher.plan import Planner
from fetcher.run import GRACE
from fetcher.sinks import files, objects, parquet, store, tar, warc
from fetcher.sources.framing import MAX_LINE
from fetcher.status import ExitStatus
from fetcher.transport import connector, session
from fetcher.urls import MAX_URL
from fetcher.views.metrics import metrics_text
from tests.command import check_record

ROOT: Final = Path(__file__).parent.parent
README: Final = ROOT / "README.md"
CONFIG: Final = ROOT / "docs/config.md"
SECURITY: Final = ROOT / "docs/security.md"
CRON: Final = ROOT / "docs/cron.md"
FORMATS: Final = ROOT / "docs/formats.md"
DOCUMENTS: Final = (README, ROOT / "CHANGELOG.md", ROOT / ".github/CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: where its text begins, and its lines."""

    path: Path
    line: int
    language: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The lines as one text."""
        return "".join(f"{line}\n" for line in self.lines)


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of these languages in all documents."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start(2)) + 1
            found.append(Block(path, line, match[1], tuple(match[2].splitlines())))
    return [block for block in found if block.language in languages]


def commands() -> Iterator[tuple[str, str]]:
    """Yield where each shell command stands, and the command; variables that its block sets come with it."""
    for block in blocks("sh", "console", "crontab", "ini"):
        variables = ""
        for number, line in enumerate(block.lines, block.line):
            where = f"{block.path.name}:{number}"
            if re.match(r"[A-Z]\w*=", line):
                variables = f"{line}\n"
            elif (cron := re.match(r"(?:[\d*]+ +){5}(.*)", line)) is not None:
                yield where, relative(cron[1].replace(r"\%", "%"))
            elif line.startswith("ExecStart="):
                yield where, relative(line.partition("=")[2])
            elif block.language == "console" and line.startswith("$ "):
                yield where, line[2:]
            elif block.language == "sh" and line and not line.startswith("#"):
                yield where, variables + relative(line)


def relative(command: str) -> str:
    """Return a command with the test's own places for those of a whole machine."""
    for place, ours in (("/srv/", "srv/"), ("/var/lib/prometheus/node-exporter/", "srv/"), ("/usr/bin/", "")):
        command = command.replace(f" {place}", f" {ours}").removeprefix(place)
    return command


def table(heading: str, path: Path = README) -> list[list[str]]:
    """Return the rows, without their head, of the first table below a heading."""
    return tables.table(heading, path.read_text("utf-8"))[1:]


def words(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


# --- tables


def test_tables() -> None:
    """Options, keys and error kinds are those of the code, in its order, with its defaults, types and hints."""
    text = README.read_text("utf-8")
    assert tables.filled(text) == text, "make docs brings the tables up to date"
    for heading in ("Options", "The record", "Error kinds"):
        assert all(row[2] for row in table(heading)), heading
    defaults = {field.name: row[1] for field, row in zip(fields(Flags)[1:], table("Options"), strict=True)}
    none = [defaults[field.name] for field in fields(Flags)[1:] if field.default is None]
    assert not [said for said in none if re.fullmatch("off|`[^`]*`", said)], (
        "where there is none, the README says what holds"
    )


def test_tables_follow_the_code() -> None:
    """What the code does not have goes, what it has comes, and sentences stay."""
    text = README.read_text("utf-8")
    (row,) = re.findall(r"^\| `--rate R` .*\n", text, re.MULTILINE)
    assert tables.filled(text.replace(row, "| `--speed R` | `3` | gone |\n")) == text.replace(
        row, f"| `--rate R` | none | {tables.parameter('rate').help} |\n"
    )


def test_man_page() -> None:
    """The man page is what the tables and the help make of it now, and roff finds nothing to complain of."""
    page = man.PAGE.read_text("utf-8")
    assert man.page() == page, "make docs writes it anew"
    assert all(f"\n.B {man.escaped(tables.option_names(field.name))}\n" in page for field in fields(Flags)[1:])
    assert page.isascii()
    if (groff := shutil.which("groff")) is None:
        pytest.skip("groff is not installed")
    ran = subprocess.run(
        [groff, "-man", "-Tutf8", "-ww", "-z", str(man.PAGE)], capture_output=True, text=True, check=True
    )
    assert (ran.stdout, ran.stderr) == ("", "")


@pytest.mark.parametrize(
    ("text", "roff"),
    [
        (".TH is no request", "\\&.TH is no request"),
        ("'quoted' --long-option", "\\(aqquoted\\(aq \\-\\-long\\-option"),
        ("a\\b ~ ^ `", "a\\eb \\(ti \\(ha \\(ga"),
    ],
)
def test_words_of_the_man_page(text: str, roff: str) -> None:
    """Nothing in a text is a request or an escape, and a hyphen stays one."""
    assert man.escaped(text) == roff


def test_every_option_can_come_from_elsewhere() -> None:
    """The README says so of the environment, docs/config.md of a file and of what a section has; header fields have their own way."""
    names = {field.name: tables.parameter(field.name).envvar for field in fields(Flags) if field.name != "sources"}
    assert names.pop("header") is None
    assert all(variable and variable.startswith("FETCHER_") for variable in names.values())
    assert {*kinds(), "config"} == {*names, "header"}
    assert tuple(words(row[0])[0] for row in table("Hosts", CONFIG)) == OF_HOSTS


def test_record_example() -> None:
    """The record in docs/record.md has all keys in order, those inside too; outcomes are those of the code."""
    whole, error = (json.loads(block.text) for block in blocks("json"))
    assert tuple(whole) == RECORD_KEYS
    assert list(whole["timings"]) == [field.name for field in fields(Timings)]
    assert list(error) == [field.name for field in fields(Error)]
    rows = {words(row[0])[0]: row[2] for row in table("The record")}
    assert set(words(rows["outcome"])) == set(Outcome)
    assert words(rows["timings"]) == [" ".join(field.name for field in fields(Timings))]


def test_record_schema() -> None:
    """The record in docs/record.md fits the schema."""
    whole, error = (json.loads(block.text) for block in blocks("json"))
    check_record(whole)
    check_record({**whole, "outcome": "failed", "ok": False, "error": error})


def test_exit_statuses() -> None:
    """The table has every exit status, in order."""
    assert [int(row[0]) for row in table("Exit statuses")] == sorted(ExitStatus)


def test_every_ending_of_a_night() -> None:
    """The page about cron says of every exit status what to do."""
    assert [int(row[0]) for row in table("How it ended", CRON)] == sorted(ExitStatus)


def test_metrics() -> None:
    """The page about cron has every metric, in the order of the file, and rules of no other."""
    text = metrics_text(Counters(0.0).summary(1.0), ExitStatus.OK, job="job", now=1.0)
    names = re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)
    assert [words(row[0])[0] for row in table("Metrics", CRON)] == names
    assert set(re.findall(r"\bfetcher_\w+", CRON.read_text("utf-8"))) == set(names)


def test_file_names() -> None:
    """The examples are called what the table says."""
    for url, path in (map("".join, map(words, row)) for row in table("File names")):
        request = Planner().plan(Row("list", 1, url))
        assert isinstance(request, Request)
        assert Template.parse(Flags().name).name(request, Told(), None, "2026-01-01") == path


# --- promises and bounds

#: The numbers of each bound, as the code has them: bytes, seconds or a count.
BOUNDS: Final = {
    "a line of a head": (session._MAX_LINE,),
    "header fields in a head": (session._MAX_FIELDS,),
    "bytes without a head or a piece of a body": (connector._MAX_BESIDE,),
    "interim (1xx) responses": (connector._MAX_INTERIM,),
    "redirects": (Limits().max_redirects,),
    "cookies of one URL": (cookiejar._MOST, cookiejar._LONGEST),
    "compressions of one body, one upon another": (body._MAX_CODINGS,),
    "size after decompression": (body._BODY.ratio, body._BODY.slack),
    "size between two compressions": (body._BETWEEN.ratio, body._BETWEEN.slack),
    "size of a body, decompressed": (Limits().max_size,),
    "a URL": (MAX_URL,),
    "a line of a list": (MAX_LINE,),
    "time to connect": (Timeouts().connect,),
    "time without a byte": (Timeouts().read,),
    "time of an attempt": (Timeouts().total,),
    "time of an `--exec` command": (Command(words=("x",)).timeout,),
    "attempts after the first": (Retries().count,),
    "Retry-After": (Retries().max_wait,),
    "error and redirect bodies that are read": (fetch._DRAINED, fetch._DRAINING),
    "a part of a file's path": (paths.MAX_PART, paths.MAX_PART + 2 * len("~01234567"), 255),
    "a file's path below DIR": (naming._MAX_PATH,),
    "an error's `message`": (MAX_MESSAGE,),
}


def amounts(cell: str) -> tuple[float | None, ...]:
    """Return the numbers in a text, in bytes where a unit follows, and None for ``none``."""
    units = {"KiB": 1024, "MiB": 1024 * 1024}
    found = re.findall(r"\bnone\b|\b[\d,]*\d(?: [KM]iB)?\b", cell)
    return tuple(
        None if word == "none" else int(word.split()[0].replace(",", "")) * units.get(word.partition(" ")[2], 1)
        for word in found
    )


def test_bounds() -> None:
    """Each bound in docs/security.md is the code's."""
    assert {row[0]: amounts(row[1]) for row in table("10. Everything has an end", SECURITY)} == BOUNDS


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (README, f"gives transfers {GRACE:g} s to finish"),
        (README, f"at least {files._WORTH // 1024} KiB"),
        (FORMATS, f"of the last {warc._REMEMBERED:,} of {warc._WORTH} bytes or more"),
        (FORMATS, f"than {objects.BLOCK >> 20} MiB goes in parts of {store.PART >> 20} MiB, four such bodies"),
        (FORMATS, f"{parquet._GROUP >> 20} MiB of bodies or less"),
        (FORMATS, f"more than {parquet.ParquetArchive.most // 10**6} MB fails"),
        (FORMATS, " ".join(tar.FACTS)),
        (ROOT / "docs/record.md", f"at most {MAX_MESSAGE} characters"),
        (SECURITY, f"Last-Modified at least {conditional._SETTLED:g} s older than its Date"),
    ],
)
def test_numbers_in_sentences(path: Path, sentence: str) -> None:
    """Numbers that stand in sentences are the code's too."""
    assert sentence in " ".join(path.read_text("utf-8").split())


def test_names_of_tests() -> None:
    """Each promise names tests that hold it, and all of those are there."""
    text_of_it = SECURITY.read_text("utf-8")
    promises = re.split(r"^### ", text_of_it, flags=re.MULTILINE)[1:]
    assert [int(promise.partition(".")[0]) for promise in promises] == list(range(1, 14))
    for promise in promises:
        assert "\nHeld by `" in promise, promise.splitlines()[0]
    named = re.findall(r"`([\w/]+\.py)::([\w:]+)`", text_of_it)
    assert len(named) == text_of_it.count("::test_")
    assert [f"{file}::{name}" for file, name in named if name not in named_in(ROOT / "tests" / file)] == []


def named_in(path: Path) -> set[str]:
    """Return the tests of a file as pytest names them, without running it."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, functions):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, functions)}
    return {name for name in found if "test_" in name}


# --- the README's first screen, links, targets


def test_first_screen() -> None:
    """Thirty lines say what it is, how it looks, how to try it, three uses, and why not something else."""
    lines = README.read_text("utf-8").splitlines()[:30]
    assert lines[:2] == [
        "# fetcher",
        "Give it a list of URLs; get every file, whole, and one JSON record per URL saying what happened.",
    ]
    assert [line.split("  ")[0] for line in lines if line.startswith("$ make ")] == ["$ make demo", "$ make test"]
    uses = [line for line in lines if "fetcher get" in line and not line.startswith("again")]
    assert [use[:2] for use in uses] == ["$ ", "$ ", "0 "]
    assert any(line.startswith("## Why not") for line in lines)
    assert [line[:1] for line in lines[-8:]] == ["|"] * 7 + [""]


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/pictures/*.svg")), ids=lambda path: path.name)
def test_pictures(path: Path) -> None:
    """A picture is an image without anything from elsewhere or of the machine on which it was taken."""
    text = path.read_text("utf-8")
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert not re.search(r"href|url\(|@import|<script|/tmp|/home|/root", text)


def test_links() -> None:
    """A link to a file or a heading leads there."""
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
            if "://" in target:
                continue
            file, _, anchor = target.partition("#")
            linked = path.parent / file if file else path
            assert linked.exists(), f"{path.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)", linked.read_text("utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
                assert anchor in slugs, f"{path.name}: {target}"


def test_every_page_is_in_the_index() -> None:
    """The README leads to each page of docs/, and each begins with its heading and a sentence."""
    index = README.read_text("utf-8").partition("Pages that tell more:")[2].partition("\n## ")[0]
    for path in sorted(ROOT.glob("docs/*.md")):
        assert f"(docs/{path.name})" in index, path.name
        assert re.match(r"# .+\n\n[A-Z`](?:[^\n]|\n(?!\n))*\.(?: |\n)", path.read_text("utf-8")), path.name


def test_named_files_and_targets() -> None:
    """Paths of the source and targets of make that a document names are there."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        for name in re.findall(r"`((?:fetcher|tests|docs|examples)/[\w./]+)`", text):
            assert "NAME" in name or (ROOT / name).exists(), f"{path.name}: {name}"
        made = set(re.findall(r"(?:^|^\$ |`)make ([a-z-]+)", text, re.MULTILINE))
        assert made <= targets, path.name


# --- what runs


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The demo site as the README says to start it, on a free port; its host and port."""
    command = [sys.executable, "-m", "fetcher", "demo", "--serve", "0"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            process.send_signal(signal.SIGTERM)


def environment(directory: Path) -> dict[str, str]:
    """Return PATH, on which ``fetcher`` is that of this Python, and what docs/config.md and docs/access.md want to find."""
    shim = directory / "bin" / "fetcher"
    if not shim.exists():
        shim.parent.mkdir(parents=True, exist_ok=True)
        program = "import sys; sys.argv[0] = 'fetcher'; from fetcher.__main__ import main; main()"
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -X dev -W error -c "{program}" "$@"\n')
        shim.chmod(0o755)
    return {"PATH": f"{shim.parent}:{os.environ['PATH']}", "API_TOKEN": "Bearer hush", "MIRROR_PASSWORD": "hush"}


def run(code: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Run in ``directory``, without input, and return what came of it."""
    return subprocess.run(
        code,
        cwd=directory,
        env=environment(directory.parent),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def said(ran: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines of standard error, without what asyncio's debug mode says about a busy machine."""
    return [line for line in ran.stderr.splitlines() if not line.startswith("Executing <")]


def example(site: str, *without: str) -> str:
    """Return the example list, for ``site``, without the lines that have one of these words."""
    lines = (ROOT / "examples/urls.txt").read_text("utf-8").replace("127.0.0.1:8080", site).splitlines(keepends=True)
    return "".join(line for line in lines if not any(word in line for word in without))


@pytest.fixture(scope="module")
def prepared(site: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as the documents expect it: lists, and an earlier run with all sorts of records."""
    directory = tmp_path_factory.mktemp("prepared") / "here"
    (directory / "srv").mkdir(parents=True)
    (directory / "urls.txt").write_text(example(site, "/big/", "/late/") + "example.com/no-scheme\n")
    # Without retries the flaky one fails, so that there is a failure that may pass.
    ran = run(["fetcher", "get", "urls.txt", "--retries", "0", "--json"], directory)
    assert ran.returncode == 1, ran.stderr
    (directory / "run.ndjson").write_text(ran.stdout)
    for name in ("urls.txt", "srv/urls.txt"):
        (directory / name).write_text(example(site, "/big/", "/late/", "/flaky/"))
    (settings,) = blocks("toml")
    (directory / "mirror.toml").write_text(settings.text)
    for name in ("client.key", "token"):
        (directory / name).write_text("hush\n")
    for language, name in (("ndjson", "urls.ndjson"), ("csv", "urls.csv"), ("xml", "sitemap.xml")):
        (listed,) = blocks(language)
        (directory / name).write_text(listed.text.replace("127.0.0.1:8080", site))
    pq.write_table(pa.table({"url": [f"http://{site}/pages/001.txt"]}), directory / "urls.parquet")
    assert run(["fetcher", "get", "srv/urls.txt", "-o", "srv/mirror", "-q"], directory).returncode == 1
    for form, place in {"warc": "crawl", "tar": "shards", "parquet": "table"}.items():
        ran = run(["fetcher", "get", "urls.txt", "-o", place, "--format", form, "-qq"], directory)
        assert (ran.returncode, ran.stderr) == (1, "")
    (directory / "failed.txt").write_text(f"# http.404 (urls.txt:32)\nhttp://{site}/status/404/001.html\n")
    return directory


@pytest.fixture
def here(prepared: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return shutil.copytree(prepared, tmp_path / "here")


COMMANDS: Final = [
    pytest.param(command, id=where)
    for where, command in commands()
    if not command.startswith(("make ", "fetcher demo --serve"))
]
#: Lines of standard error that no documented command may cause.
COMPLAINTS: Final = re.compile(r"^(fetcher|bash|jq|sha256sum|gzip)?: |^Usage|Traceback|Warning", re.MULTILINE)


@pytest.mark.usefixtures("jq")
@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, here: Path, site: str) -> None:
    """Each command of the documents runs without a complaint, and a recipe finds something."""
    command = command.replace("127.0.0.1:8080", site).replace("127.0.0.1_8080", site.replace(":", "_"))
    ran = run(["bash", "-u", "-c", command], here)
    assert COMPLAINTS.search(ran.stderr) is None, ran.stderr
    # The list has failures on purpose, which fetcher tells by 1, and so does the recipe for CI.
    may_fail = re.search(r"jq -es|fetcher (get|retry srv/) ?[^|]*$", command) is not None
    assert ran.returncode in ((0, 1) if may_fail else (0,)), ran.stderr
    quiet = r"jq -es|--quiet|verify srv/| -q( #|$| --report)| > run|fetcher report (?!.*--text)"
    silent = re.search(quiet, command) is not None
    assert (ran.stdout == "") is silent


def test_commands_are_found() -> None:
    """The documents are read as they are meant: eighteen recipes, the uses of the first screen, and more."""
    found = [command for _, command in commands()]
    assert sum("$F" in command for command in found) == 18
    assert sum("srv/mirror" in command for command in found) == 11
    assert len(found) > 30


@pytest.mark.usefixtures("jq")
def test_first_run(site: str, tmp_path: Path) -> None:
    """The summary and the failed URLs of the first screen are what a first run prints."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "urls.txt").write_text(example(site))
    summary, uses = blocks("text")[0], blocks("console")[0]
    command = next(line for line in uses.lines if "jq" in line)[2:]
    ran = run(["bash", "-c", command], here)
    assert sorted(ran.stdout.splitlines()) == sorted(
        line.replace("127.0.0.1:8080", site) for line in uses.lines if line.startswith("http")
    )
    got = said(ran)
    assert [line.split(" in ")[0] for line in got[:1]] == [line.split(" in ")[0] for line in summary.lines[:1]]
    assert got[1] == summary.lines[1]
    assert [line.split()[0] for line in got[2:]] == [line.split()[0] for line in summary.lines[2:]]
    assert got[4] == summary.lines[4]


@pytest.mark.parametrize(
    "block", [pytest.param(block, id=f"{block.path.name}:{block.line}") for block in blocks("python")]
)
def test_python(block: Block, here: Path, site: str) -> None:
    """Each piece of Python in the documents runs and prints something; ours leave nothing unclosed."""
    strict = [] if block.path == FORMATS else ["-X", "dev", "-W", "error"]
    ran = run([sys.executable, *strict, "-c", block.text.replace("127.0.0.1:8080", site)], here)
    assert (ran.returncode, said(ran)) == (0, [])
    assert ran.stdout


def test_promised_names() -> None:
    """All that the documents import is promised."""
    for block in blocks("python"):
        for names in re.findall(r"^from fetcher import (.*)", block.text, re.MULTILINE):
            assert set(names.split(", ")) <= set(fetcher.__all__)
