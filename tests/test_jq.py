"""The documented jq recipes on a real run with every kind of outcome, each against the same computed here."""

import csv
import io
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pytest

from tests.command import Command
from tests.server import Server

Record = dict[str, Any]

#: What a recipe prints: its lines.
Expect = Callable[[list[Record]], list[str]]


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run: its records in order, and the directory it filled."""

    records: list[Record]
    output: bytes
    directory: Path


@pytest.fixture(scope="session")
def jq_run(running_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run over good, bad, moved, flaky, repeated and equal URLs on two hosts."""
    server = running_server.scope("/jq/")
    other = server.origin(1)
    lines = [
        *(server.url(f"page{number}.html", body=f"<p>{number}", type="text/html") for number in range(12)),
        *(other.url(f"data{number}.bin", size=1000 * number, delay=0.01 * number) for number in range(8)),
        *(server.url(f"copy{number}.txt", body="the same", type="text/plain") for number in range(3)),
        *(server.url(f"missing{number}", status=404) for number in range(4)),
        *(other.url(f"gone{number}", status=410) for number in range(2)),
        other.url("busy", status=503, retry_after="0"),
        server.url("flaky", fail_times=1, retry_after="0"),
        server.url("moved", redirect_to=other.url("data1.bin", size=1000)),
        server.url("none", status=204),
        server.url("page1.html", body="<p>1", type="text/html"),
        'not a "url", at all',
        "ftp://h/x",
        "http://:80/",
    ]
    directory = tmp_path_factory.mktemp("jq")
    (directory / "urls.txt").write_text("# a list\n" + "".join(f"{line}\n" for line in lines))
    ran = Command(directory)("get", "urls.txt", "--retries", "1")
    assert ran.code == 1
    assert len(ran.records) == len(lines)
    return Run(ran.records, ran.stdout_bytes, directory)


def ask(jq: str, run: Run, *words: str) -> list[str]:
    """Return the lines that jq prints for a run's records."""
    done = subprocess.run([jq, *words], input=run.output, capture_output=True, check=True, timeout=30)
    return done.stdout.decode().splitlines()


def number(value: float | str | None) -> str:
    """Return a number as jq prints it in text."""
    return "" if value is None else json.dumps(value).removesuffix(".0")


def tsv(*values: float | str | None) -> str:
    """Return values as jq's @tsv prints them."""
    return "\t".join(value if isinstance(value, str) else number(value) for value in values)


def counted(keys: list[str]) -> Mapping[str, int]:
    """Return how often each comes, as a JSON object of jq has it."""
    return Counter(keys)


def ranked(keys: list[str]) -> list[str]:
    """Return ``count, tab, key`` lines, the most frequent first; like jq's objects, in the order of their coming."""
    return [f"{count}\t{key}" for key, count in Counter(keys).most_common()]


def failed(records: list[Record]) -> list[Record]:
    """Return those that are not ok."""
    return [record for record in records if not record["ok"]]


def with_path(records: list[Record]) -> list[Record]:
    """Return those that have a file."""
    return [record for record in records if record["path"]]


def p95_by_host(records: list[Record]) -> list[str]:
    """Return host, count and 95th percentile of the ok ones; jq sorts null first."""
    fine = sorted((record for record in records if record["ok"]), key=lambda record: record["host"] or "")
    lines = []
    for host, group in groupby(fine, key=lambda record: record["host"]):
        elapsed = sorted(record["elapsed"] for record in group)
        lines.append(tsv(host, len(elapsed), elapsed[int(len(elapsed) * 0.95)]))
    return lines


def same_content(records: list[Record]) -> list[str]:
    """Return the URLs of each body that came more than once."""
    digests = sorted({record["sha256"] for record in records if record["sha256"]})
    groups = [[record["url"] for record in records if record["sha256"] == digest] for digest in digests]
    return [" ".join(urls) for urls in groups if len(urls) > 1]


def slowest(records: list[Record]) -> list[str]:
    """Return the ten slowest; equal ones in the order of jq's sort, which is stable."""
    return [
        tsv(record["elapsed"], record["url"]) for record in sorted(records, key=lambda record: -record["elapsed"])[:10]
    ]


LINES: Final[list[tuple[int, list[str], Expect]]] = [
    (1, ["-r", "select(.ok|not).url"], lambda records: [record["url"] for record in failed(records)]),
    (
        2,
        ["-r", "select(.error.transient).url"],
        lambda records: [record["url"] for record in failed(records) if record["error"]["transient"]],
    ),
    (
        3,
        [
            "-rn",
            (
                "reduce inputs as $r ({}; if $r.ok then . else .[$r.error.kind]+=1 end)"
                r'|to_entries|sort_by(-.value)[]|"\(.value)\t\(.key)"'
            ),
        ],
        lambda records: ranked([record["error"]["kind"] for record in failed(records)]),
    ),
    (
        4,
        [
            "-rn",
            (
                'reduce inputs as $r ({}; if $r.ok then . else .[$r.host // "-"]+=1 end)'
                r'|to_entries|sort_by(-.value)[:10][]|"\(.value)\t\(.key)"'
            ),
        ],
        lambda records: ranked([record["host"] or "-" for record in failed(records)])[:10],
    ),
    (
        5,
        [
            "-rs",
            (
                "map(select(.ok))|group_by(.host)[]|(map(.elapsed)|sort) as $e"
                "|[.[0].host,($e|length),$e[(($e|length)*0.95|floor)]]|@tsv"
            ),
        ],
        p95_by_host,
    ),
    (8, ["-rs", "sort_by(-.elapsed)[:10][]|[.elapsed,.url]|@tsv"], slowest),
    (
        9,
        ["-r", "select(.path)|[.url,.path]|@tsv"],
        lambda records: [tsv(record["url"], record["path"]) for record in with_path(records)],
    ),
    (
        12,
        ["-r", r'select(.error.kind=="invalid_url")|"\(.source):\(.line): \(.url)"'],
        lambda records: [
            f"{record['source']}:{record['line']}: {record['url']}"
            for record in failed(records)
            if record["error"]["kind"] == "invalid_url"
        ],
    ),
    (
        13,
        [
            "-rs",
            'map(select(.sha256))|group_by(.sha256)[]|select(length>1)|map(.url)|join(" ")',
        ],
        same_content,
    ),
    (
        14,
        ["-r", r'select(.redirects|length>0)|"\(.url) -> \(.final_url)"'],
        lambda records: [f"{record['url']} -> {record['final_url']}" for record in records if record["redirects"]],
    ),
]


def summed(records: list[Record], key: Callable[[Record], str], value: str) -> Mapping[str, int]:
    """Return the sums of a number by a key."""
    sums: dict[str, int] = {}
    for record in records:
        sums[key(record)] = sums.get(key(record), 0) + (record[value] or 0)
    return sums


def first_byte(records: list[Record]) -> Mapping[str, float]:
    """Return median and 99th percentile of the wait for the first byte."""
    waits = sorted(wait for record in records if record["timings"] and (wait := record["timings"]["wait"]) is not None)
    return {"p50": waits[int(len(waits) * 0.5)], "p99": waits[int(len(waits) * 0.99)]}


OBJECTS: Final[list[tuple[int, list[str], Callable[[list[Record]], Mapping[str, Any]]]]] = [
    (
        6,
        ["-n", 'reduce inputs as $r ({}; .[$r.content_type // "-"] += ($r.bytes // 0))'],
        lambda records: summed(records, lambda record: record["content_type"] or "-", "bytes"),
    ),
    (
        7,
        ["-n", 'reduce inputs as $r ({}; .[$r.status // "none"|tostring] += 1)'],
        lambda records: counted([str(record["status"] or "none") for record in records]),
    ),
    (
        17,
        ["-n", 'reduce inputs as $r ({}; .[($r.started_at // "-")[:19]] += ($r.wire_bytes // 0))'],
        lambda records: summed(records, lambda record: (record["started_at"] or "-")[:19], "wire_bytes"),
    ),
    (
        18,
        [
            "-s",
            "map(.timings.wait // empty)|sort as $t|{p50:$t[($t|length)*0.5|floor],p99:$t[($t|length)*0.99|floor]}",
        ],
        first_byte,
    ),
]


@pytest.mark.parametrize(("recipe", "words", "expect"), LINES)
def test_lines(recipe: int, words: list[str], expect: Expect, jq: str, jq_run: Run) -> None:
    """A recipe that prints lines prints those that the records hold, and there are some."""
    expected = expect(jq_run.records)
    assert expected, recipe
    assert ask(jq, jq_run, *words) == expected


@pytest.mark.parametrize(("recipe", "words", "expect"), OBJECTS)
def test_objects(
    recipe: int, words: list[str], expect: Callable[[list[Record]], Mapping[str, Any]], jq: str, jq_run: Run
) -> None:
    """A recipe that adds things up gets the same sums."""
    expected = expect(jq_run.records)
    assert len(expected) > 1 or recipe == 17
    assert json.loads("\n".join(ask(jq, jq_run, *words))) == expected


def test_file_to_url(jq: str, jq_run: Run) -> None:
    """Recipe 10: the URLs of a file, its duplicates included."""
    [duplicate] = [record for record in jq_run.records if record["outcome"] == "duplicate"]
    urls = ask(jq, jq_run, "-r", "--arg", "p", duplicate["path"], "select(.path==$p).url")
    assert urls == [duplicate["url"]] * 2


def test_check_all_files(jq: str, jq_run: Run, tmp_path: Path) -> None:
    """Recipe 11: sha256sum finds every file as recorded in the journal, and one that was changed."""
    shutil.copytree(jq_run.directory, tmp_path / "copy")
    script = (
        f"{jq} -r 'select(.path)|\"\\(.sha256)  \\(.path)\"' fetched/.fetcher/records.ndjson"
        " | (cd fetched && sha256sum -c --quiet)"
    )
    check = ["bash", "-o", "pipefail", "-c", script]
    assert subprocess.run(check, cwd=tmp_path / "copy", check=False, timeout=30).returncode == 0
    path = with_path(jq_run.records)[0]["path"]
    (tmp_path / "copy/fetched" / path).write_text("changed")
    done = subprocess.run(check, cwd=tmp_path / "copy", check=False, timeout=30, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stdout == f"{path}: FAILED\n"


def test_csv(jq: str, jq_run: Run) -> None:
    """Recipe 15: a spreadsheet reads what was recorded, commas and quotes included."""
    rows = list(csv.reader(io.StringIO("\n".join(ask(jq, jq_run, "-r", "[.url,.status,.bytes,.elapsed]|@csv")))))
    assert rows == [
        [record["url"], number(record["status"]), number(record["bytes"]), number(record["elapsed"])]
        for record in jq_run.records
    ]


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_gate(share: float, jq: str, jq_run: Run) -> None:
    """Recipe 16: the pipeline fails if too many URLs did."""
    gate = [jq, "-es", f"map(.ok)|(map(select(.))|length)/length >= {share}"]
    done = subprocess.run(gate, input=jq_run.output, check=False, timeout=30, capture_output=True)
    good = 1 - len(failed(jq_run.records)) / len(jq_run.records)
    assert (done.returncode == 0) is (good >= share)
