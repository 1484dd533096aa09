"""The arithmetic, the tables and the verdicts of the benchmarks, without running any."""

import fcntl
import hashlib
import itertools
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from bench import goals, report, table, verdict
from bench.measure import Invocation, Run, WrongRun, measure
from bench.peers import ARIA2, CURL, CURL_TRANSPORT, CURL_WORKERS, SESSION, WGET2, WORKERS, Job, environment, fetcher
from bench.samples import Sample, Samples
from bench.site import Body, make_bodies, write_lists
from bench.workloads import WORKLOADS, Workload, chosen

W1 = WORKLOADS[0]


def sample(
    name: str, number: int, *, workload: str = "W1", wall: float = 1.0, rate: float = 100.0, ideal: float | None = None
) -> Sample:
    """A run of which only some figures matter."""
    return Sample(
        workload=workload,
        name=name,
        number=number,
        wall=wall,
        rate=rate,
        cpu=40.0,
        peak=20.0,
        excess=ideal and wall / ideal,
    )


def small(sizes: tuple[int, int] = (1, 100)) -> Workload:
    """A workload of three bodies."""
    return Workload(key="T", title="a trial", folder="t", count=3, sizes=sizes)


def rows(text: str) -> list[list[str]]:
    """The cells of a table."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


class TestSamples:
    def test_median_over_rounds(self) -> None:
        """One disturbed round moves no median."""
        samples = Samples(sample(SESSION, number, wall=wall) for number, wall in enumerate((1.0, 9.0, 1.5)))
        assert samples.median("W1", SESSION, "wall") == 1.5

    def test_ratio_within_rounds(self) -> None:
        """A ratio is taken inside each round, so that a slow round counts for both: not the ratio of the medians."""
        samples = Samples()
        for number, (mine, theirs) in enumerate(((10, 100), (40, 50), (90, 90))):
            samples.add(sample(SESSION, number, rate=mine))
            samples.add(sample(CURL, number, rate=theirs))
        assert samples.ratio("W1", SESSION, CURL, "rate") == pytest.approx(0.8)

    def test_ratio_needs_the_same_round(self) -> None:
        """Rounds that only one of the two has run give no ratio."""
        samples = Samples([sample(SESSION, 0, rate=50), sample(SESSION, 1, rate=70), sample(CURL, 1)])
        assert samples.ratio("W1", SESSION, CURL, "rate") == pytest.approx(0.7)
        assert samples.ratio("W1", SESSION, WGET2, "rate") is None

    def test_nothing_measured(self) -> None:
        """What was not measured is None, not zero."""
        samples = Samples([sample(SESSION, 0)])
        assert samples.median("W1", SESSION, "first") is None
        assert samples.median("W2", SESSION, "wall") is None
        assert samples.ratio_of_least("W1", SESSION, CURL) is None

    def test_least(self) -> None:
        """Start-up compares the shortest of each."""
        samples = Samples([sample("a", 0, wall=0.6), sample("a", 1, wall=0.4), sample("b", 0, wall=0.2)])
        assert samples.ratio_of_least("W1", "a", "b") == pytest.approx(2.0)


class TestTable:
    def test_aligned(self) -> None:
        """Every line is equally long, the first column left, the others right."""
        text = table.render(["who", "s"], [["a", "1.00"], ["longer", "10"]])
        assert text.splitlines() == [
            "| who    |    s |",
            "| ------ | ---: |",
            "| a      | 1.00 |",
            "| longer |   10 |",
        ]

    @pytest.mark.parametrize(
        ("value", "text"),
        [(None, "-"), (0.04567, "0.046"), (1.234, "1.23"), (12.34, "12.3"), (999.6, "1,000"), (23768.0, "23,768")],
    )
    def test_figure(self, value: float | None, text: str) -> None:
        """Figures have as many digits as mean something."""
        assert table.figure(value) == text

    def test_columns_of_peers_that_ran(self) -> None:
        """Rates are compared with each peer that took part, and no other."""
        text = table.results(W1, Samples([sample(SESSION, 0, rate=50), sample(CURL, 0)]))
        head, _, mine, theirs = rows(text)
        assert head[-1] == f"x {CURL}"
        assert (mine[0], mine[-1]) == (SESSION, "0.500")
        assert (theirs[0], theirs[-1]) == (CURL, "1.00")
        assert ARIA2 not in text

    def test_ideal(self) -> None:
        """Behind a server that waits, the wall time is compared with the waiting alone."""
        workload = next(workload for workload in WORKLOADS if workload.key == "W4@50")
        text = table.results(workload, Samples([sample(SESSION, 0, workload="W4@50", wall=5.0, ideal=4.0)]))
        assert dict(zip(rows(text)[0], rows(text)[2], strict=True))["wall / ideal"] == "1.25"

    def test_pairs(self) -> None:
        """Live progress is compared with the row above it, in wall and CPU time."""
        workload = next(workload for workload in WORKLOADS if workload.key == "live")
        samples = Samples(
            [
                sample(SESSION + goals.OFF, 0, workload="live", wall=2.0),
                sample(SESSION + goals.LIVE, 0, workload="live", wall=3.0),
            ]
        )
        assert [row[-2] for row in rows(table.results(workload, samples))[2:]] == ["1.00", "1.50"]


class TestGoals:
    def judged(self, samples: Samples) -> dict[str, list[str]]:
        return {row[0]: row[1:] for row in rows(goals.judge(samples))[2:]}

    def test_met_and_missed(self) -> None:
        """Both transports are held against their own bounds."""
        samples = Samples(
            [
                sample(CURL, 0, rate=100),
                sample(SESSION, 0, rate=45),
                sample(WORKERS, 0, rate=55),
                sample(CURL_TRANSPORT, 0, rate=110),
            ]
        )
        judged = self.judged(samples)
        assert judged["W1: rate / curl -Z"] == [">= 0.4", "0.450", "met", ">= 1.1", "1.10", "met"]
        assert judged["W1: rate / curl -Z, 2 workers"][:3] == [">= 0.6", "0.550", "missed"]

    def test_not_measured(self) -> None:
        """A goal whose contestant was left out is not called met; one of a workload that was not run is not shown."""
        judged = self.judged(Samples([sample(CURL, 0)]))
        assert judged["W1: rate / curl -Z"] == [">= 0.4", "-", "not measured", ">= 1.1", "-", "not measured"]
        assert not any(text.startswith("W2") for text in judged)

    def test_order_of_the_list(self) -> None:
        """Whichever order is slower, the difference counts."""
        for by_host, shuffled in itertools.permutations((1.0, 1.25)):
            samples = Samples(
                [
                    sample(SESSION + goals.BY_HOST, 0, workload="W7", wall=by_host),
                    sample(SESSION + goals.SHUFFLED, 0, workload="W7", wall=shuffled),
                ]
            )
            (row,) = self.judged(samples).values()
            assert row[:3] == ["<= 1.1", "1.25", "missed"]

    def test_goals_name_workloads(self) -> None:
        """Every goal belongs to a workload that there is."""
        assert {goal.workload for goal in goals.GOALS} <= {workload.key for workload in WORKLOADS}


class TestReport:
    def test_notes_are_kept(self, tmp_path: Path) -> None:
        """What people have written below Notes outlives the next report; the figures above do not."""
        path = tmp_path / "RESULTS.md"
        report.write(path, "# One\n\nold figures\n")
        path.write_text(path.read_text() + "\nW3 was missed: the disk.\n\n## More\n")
        noted = path.read_text().partition(report.NOTES)[2]
        report.write(path, "# Two\n")
        assert path.read_text() == f"# Two\n\n{report.NOTES}{noted}"

    def test_left_out_is_named(self) -> None:
        """Who was left out stands in the report with the reason."""
        assert "- wget2: left out, not there\n" in report.preface([], {"wget2": "not there"}, 3)


class TestChosen:
    def test_all(self) -> None:
        """Without a choice everything is run."""
        assert chosen(None, quick=False) == list(WORKLOADS)

    def test_some(self) -> None:
        """Names may be in any case and order; W4 is all of W4."""
        assert [workload.key for workload in chosen("w6, W4", quick=False)] == ["W4@50", "W4@200", "W4@1000", "W6"]

    def test_quick(self) -> None:
        """The quick workloads are smaller, and share bodies only where they have as many."""
        quick = chosen(None, quick=True)
        full = {workload.key: workload.count for workload in WORKLOADS}
        assert all(workload.count < full[workload.key] for workload in quick if workload.key != "start")
        for one, other in itertools.combinations(quick, 2):
            assert one.folder != other.folder or one.count == other.count

    def test_unknown(self) -> None:
        """A name that is none is refused."""
        with pytest.raises(ValueError, match="w9"):
            chosen("W1,W9", quick=False)


class TestContestants:
    def test_names(self) -> None:
        """Goals find the variants of fetcher by the names that these have."""
        assert fetcher().name == SESSION
        assert fetcher("--workers", "2").name == WORKERS
        assert fetcher("--transport", "curl").name == CURL_TRANSPORT
        assert fetcher("--transport", "curl", "--workers", "2").name == CURL_WORKERS

    def test_commands(self, tmp_path: Path) -> None:
        """Progress is off unless it is what is measured; certificates are given only where there are any."""
        job = Job(write_lists(tmp_path, "x", []), 50, None, tmp_path / "files")
        plain, live = fetcher().command(job), fetcher("--progress", "live").command(job)
        assert plain[plain.index("--progress") + 1] == "off"
        assert (live.count("--progress"), "off" in live) == (1, False)
        assert "--ca-file" not in plain
        assert "--ca-file" in fetcher().command(replace(job, ca_file=tmp_path / "ca.pem"))

    def test_surroundings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No proxy and no option of the caller's environment reaches a contestant."""
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("FETCHER_CONCURRENCY", "1")
        assert not {"http_proxy", "FETCHER_CONCURRENCY"} & environment(tmp_path).keys()


class TestSite:
    def test_bodies(self, tmp_path: Path) -> None:
        """Bodies are as large as said, all different, the same in each making, and described rightly."""
        bodies = make_bodies(tmp_path / "one", small((2**20, 3 * 2**20)))
        again = make_bodies(tmp_path / "two", small((2**20, 3 * 2**20)))
        for name, body in bodies.items():
            content = body.path.read_bytes()
            assert 2**20 <= len(content) == body.size <= 3 * 2**20
            assert hashlib.sha256(content).hexdigest() == body.sha256 == again[name].sha256
        assert len({body.sha256 for body in bodies.values()}) == 3

    def test_lists(self, tmp_path: Path) -> None:
        """Both lists name the same URLs, and curl's says which file."""
        lists = write_lists(tmp_path, "x", ["http://127.0.0.1/t/a.bin"])
        assert lists.urls.read_text() == "http://127.0.0.1/t/a.bin\n"
        assert lists.config.read_text() == 'url = "http://127.0.0.1/t/a.bin"\noutput = "a.bin"\n'


class TestVerdict:
    @pytest.fixture
    def bodies(self, tmp_path: Path) -> dict[str, Body]:
        return make_bodies(tmp_path / "site", small())

    @pytest.fixture
    def folder(self, tmp_path: Path, bodies: Mapping[str, Body]) -> Path:
        folder = tmp_path / "files"
        folder.mkdir()
        for name, body in bodies.items():
            (folder / name).write_bytes(body.path.read_bytes())
        return folder

    def write_records(self, path: Path, bodies: Mapping[str, Body], changed: Mapping[str, object]) -> None:
        lines = [
            {"url": f"http://h/t/{name}", "ok": True, "outcome": "fetched", "path": name}
            | {"bytes": body.size, "sha256": body.sha256}
            for name, body in bodies.items()
        ]
        lines[1].update(changed)
        path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))

    def test_right(self, tmp_path: Path, folder: Path, bodies: Mapping[str, Body]) -> None:
        """A run that is right passes."""
        verdict.check_files(folder, bodies)
        self.write_records(tmp_path / "records", bodies, {})
        verdict.check_records(tmp_path / "records", folder, bodies)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda path: path.unlink(),
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            lambda path: path.write_bytes(path.read_bytes() + b"x"),
            lambda path: path.with_name("stray").write_bytes(b""),
        ],
        ids=["missing", "short", "long", "stray"],
    )
    def test_wrong_files(self, folder: Path, bodies: Mapping[str, Body], damage: Callable[[Path], object]) -> None:
        """A file that is missing, cut, longer or too many is found."""
        damage(folder / "t-000001.bin")
        with pytest.raises(WrongRun):
            verdict.check_files(folder, bodies)

    @pytest.mark.parametrize(
        "changed",
        [
            {"ok": False},
            {"outcome": "skipped"},
            {"sha256": "0" * 64},
            {"bytes": 0},
            {"path": "t-000002.bin"},
            {"path": "none"},
            {"url": "http://h/t/t-000002.bin"},
        ],
        ids=str,
    )
    def test_wrong_record(
        self, tmp_path: Path, folder: Path, bodies: Mapping[str, Body], changed: dict[str, object]
    ) -> None:
        """A single record that is wrong in any of what is promised is found."""
        self.write_records(tmp_path / "records", bodies, changed)
        with pytest.raises(WrongRun, match="wrong"):
            verdict.check_records(tmp_path / "records", folder, bodies)

    def test_missing_record(self, tmp_path: Path, folder: Path, bodies: Mapping[str, Body]) -> None:
        """A record too few is found."""
        self.write_records(tmp_path / "records", bodies, {})
        text = (tmp_path / "records").read_bytes()
        (tmp_path / "records").write_bytes(text[: text.rindex(b"{")])
        with pytest.raises(WrongRun, match="2 records for 3"):
            verdict.check_records(tmp_path / "records", folder, bodies)


class TestMeasure:
    def run(self, folder: Path, code: str, *, limit: float = 20.0, terminal: bool = False) -> Run:
        return measure(
            Invocation(
                argv=[sys.executable, "-c", code],
                folder=folder,
                out=folder / "out",
                err=folder / "err",
                environment={},
                limit=limit,
                terminal=terminal,
            )
        )

    def test_status(self, tmp_path: Path) -> None:
        """The exit status and the output are the command's."""
        assert self.run(tmp_path, "print(1); raise SystemExit(3)").status == 3
        assert (tmp_path / "out").read_text() == "1\n"

    def test_limit(self, tmp_path: Path) -> None:
        """A command that goes on for longer than its limit is a wrong run, and is gone with its children."""
        code = (
            "import fcntl, os, time; lock = open('lock', 'w'); fcntl.flock(lock, fcntl.LOCK_EX); os.fork(); "
            "time.sleep(30); open('late', 'w')"
        )
        with pytest.raises(WrongRun, match="within"):
            self.run(tmp_path, code, limit=1.0)
        with (tmp_path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # free when both are gone
        assert not (tmp_path / "late").exists()

    def test_terminal(self, tmp_path: Path) -> None:
        """Standard error can be a terminal that somebody reads, however much is written."""
        code = "import sys; assert sys.stderr.isatty(); print('x' * 1_000_000, file=sys.stderr)"
        assert self.run(tmp_path, code, terminal=True).status == 0
