"""The real command with a file of options."""

from pathlib import Path

import pytest

from tests.command import Command
from tests.server import Scope


@pytest.mark.parametrize("workers", ["1", "2"])
def test_hosts(workers: str, run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """A host with a section gets no more at once than that allows, and its secret, whatever the others get."""
    other = server.origin(1)
    (tmp_path / "cron.toml").write_text(
        f"""
        concurrency = 8
        no-save = true
        [host."{server.base.removeprefix("http://")}"]
        per-host = 2
        [host."{server.base.removeprefix("http://")}".header]
        Authorization = {{ env = "TOKEN" }}
        """
    )
    urls = [
        scope.url(f"{name}/{each}", delay=0.05) for each in range(12) for name, scope in (("a", server), ("b", other))
    ]
    words = ("get", *urls, "--config", "cron.toml", "--workers", workers)
    ran = run_fetcher(*words, env={"TOKEN": "Bearer hush"})
    assert (ran.code, len(ran.records)) == (0, 24), ran.stderr
    assert "hush" not in ran.stdout + ran.stderr
    assert server.active_peak("a/") == 2
    assert 2 < server.active_peak("b/") <= 8
    told = [seen.resource.startswith(server.path("a/")) for seen in server.requests() if b"hush" in seen.head]
    assert told == [True] * 12
    assert not (tmp_path / "fetched").exists()


def test_missing_secret(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """Without a secret that the file asks for nothing is fetched, nor anything made."""
    (tmp_path / "c.toml").write_text('[host."api.example.com".header]\nAuthorization = { env = "TOKEN" }')
    ran = run_fetcher("get", server.url("a"), "--config", "c.toml")
    assert (ran.code, ran.stdout) == (2, "")
    message = 'c.toml: host."api.example.com": header.Authorization: TOKEN is not in the environment'
    assert ran.stderr == f"fetcher: {message}\n"
    assert server.requests() == []
    assert [path.name for path in tmp_path.iterdir()] == ["c.toml"]


def test_again(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """The file is in the command that the summary tells to run again; ``retry`` and ``-n`` take it too."""
    path = tmp_path / "c.toml"
    path.write_text('retries = 0\noutput-dir = "mirror"\n[header]\nX-Token = "hush"')
    path.chmod(0o644)
    bad = server.url("a", status=503)
    ran = run_fetcher("get", bad, "--config", "c.toml")
    assert (ran.code, ran.records[0]["attempts"]) == (1, 1)
    warning, *summary = ran.stderr.splitlines()
    assert warning == "fetcher: c.toml holds secrets, and everyone on this machine can read it: chmod o-r"
    assert f"again    python -m fetcher get '{bad}' --config c.toml" in summary
    path.chmod(0o600)
    ran = run_fetcher("retry", "mirror", "--config", "c.toml")
    assert (ran.code, ran.records[0]["attempts"]) == (1, 1)
    assert "again    python -m fetcher retry mirror --config c.toml" in ran.stderr
    assert "holds secrets" not in ran.stderr
    before = len(server.requests())
    (planned,) = run_fetcher("get", bad, "-n", "--config", "c.toml").records
    assert (planned["outcome"], len(server.requests())) == ("planned", before)
    assert [b"hush" in seen.head for seen in server.requests()] == [True, True]


def test_cron(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """With nothing in the environment and a file for all options, a night without failures says nothing."""
    (tmp_path / "urls.txt").write_text(server.url("a"))
    (tmp_path / "c.toml").write_text('quiet = true\noutput-dir = "mirror"\nhost-rate = 10\ndeadline = "2h"')
    for _ in range(2):
        ran = run_fetcher("get", "urls.txt", "--config", "c.toml")
        assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")
    assert len(server.requests()) == 1
