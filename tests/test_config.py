"""A file of options: what it may say, what it says instead of whom, and how it is refused."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fetcher.cli import get, retry
from fetcher.cli.config import Config, read
from fetcher.cli.flags import NOT_FOR_RETRY, Flags, kinds
from fetcher.cli.get import options_of
from fetcher.cli.outcome import outcome
from fetcher.errors import UsageError
from fetcher.options import HostOptions
from fetcher.status import ExitStatus

#: Makes a file of this text and carries out a command with it, up to its flags.
Flagged = Callable[..., Flags]


def config(directory: Path, text: str) -> Config:
    """Return what a file with this text says."""
    path = directory / "c.toml"
    path.write_text(text)
    return read(str(path), kinds())


@pytest.fixture
def flagged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Flagged:
    """Return what gives the flags of a command line with a file of this text."""
    monkeypatch.chdir(tmp_path)
    seen: list[Flags] = []

    def main(flags: Flags, *_: object) -> ExitStatus:
        seen.append(flags)
        return ExitStatus.OK

    monkeypatch.setattr(get, "main", main)
    monkeypatch.setattr(retry, "main", main)

    def flagged(text: str | None, *words: str, command: str = "get") -> Flags:
        typed = ["fetcher", command, "x", *words]
        if text is not None:
            (tmp_path / "c.toml").write_text(text)
            typed += ["--config", "c.toml"]
        monkeypatch.setattr(sys, "argv", typed)
        assert outcome() == 0
        return seen.pop()

    return flagged


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", {}),
        ("\ufeffper-host = 5", {"per_host": "5"}),
        ('concurrency = "auto"', {"concurrency": "auto"}),
        ("rate = 0.5", {"rate": "0.5"}),
        ("no-save = true\njson = false", {"no_save": True, "json": False}),
        ("quiet = true", {"quiet": 1}),
        ("quiet = 2", {"quiet": 2}),
        ('[header]\nA = "1"\nb = "x: y"', {"header": ["A: 1", "b: x: y"]}),
    ],
)
def test_settings(text: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """A value is taken as the same words on a command line would be."""
    assert config(tmp_path, text) == Config(str(tmp_path / "c.toml"), settings, ())


def test_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A section has limits and fields of its hosts, whose values may stand in a file or in the environment."""
    (tmp_path / "key").write_text("\ufeffhush\n")
    monkeypatch.setenv("TOKEN", "Bearer t")
    text = f"""
        [host."*.example.com"]
        per-host = 2
        host-rate = "60/m"
        [host."api.example.com".header]
        Accept = " */*\t"
        Authorization = {{ env = "TOKEN" }}
        X-Key = {{ file = "{tmp_path}/key" }}
    """
    assert config(tmp_path, text).hosts == (
        HostOptions(pattern="*.example.com", per_host=2, host_rate=1.0),
        HostOptions(
            pattern="api.example.com",
            headers=(("Accept", "*/*"), ("Authorization", "Bearer t"), ("X-Key", "hush")),
        ),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("per_host = 5", "per_host: no such key; did you mean per-host?"),
        ("concurency = 5", "concurency: no such key; did you mean concurrency?"),
        ("x = 5", "x: no such key; there are the long options of fetcher get, without the dashes, and host"),
        (
            'sources = "x"',
            "sources: no such key; there are the long options of fetcher get, without the dashes, and host",
        ),
        (
            'config = "x"',
            "config: no such key; there are the long options of fetcher get, without the dashes, and host",
        ),
        ("retries = true", "retries: write text or a number"),
        ("retries = [1]", "retries: write text or a number"),
        ("retries = 1979-05-27", "retries: write text or a number"),
        ('retries = "x"', 'retries "x": write a whole number such as 50'),
        ("retries = -1", 'retries "-1": write a whole number such as 50'),
        ("per-host = 1.5", 'per-host "1.5": write a whole number such as 50'),
        ("rate = nan", 'rate "nan": write a rate such as 20, 20/s or 100/m'),
        ("concurrency = 0", "concurrency must be 1 to 10000, not 0"),
        ("http3 = true", "HTTP/3 needs transport curl"),
        ('failed = "a"\nsummary = "a"', "failed and summary need a file each"),
        ('no-save = "yes"', "no-save: write true or false"),
        ("quiet = 3", "quiet: write true, false or 2"),
        ('header = ["A: b"]', "header: write a table"),
        ("header.A = 1", 'header.A: write text, { file = "..." } or { env = "..." }'),
        ('header.A = { env = "B", file = "c" }', 'header.A: write text, { file = "..." } or { env = "..." }'),
        ("header.A = { env = 1 }", 'header.A: write text, { file = "..." } or { env = "..." }'),
        ("header.A = {}", 'header.A: write text, { file = "..." } or { env = "..." }'),
        ('header.A = { file = "/none" }', "header.A: /none: No such file or directory"),
        ('header.A = { file = "/dev/null" }', "header.A: /dev/null is empty"),
        ('header.A = { env = "NONE_SUCH" }', "header.A: NONE_SUCH is not in the environment"),
        ('header.A = "hush\\nB: c"', "header.A: write a header field such as 'Accept: text/html'"),
        ('header."A b" = "hush"', "header.A b: write a header field such as 'Accept: text/html'"),
        ('header.range = "bytes=0-"', "header.range: range is decided by the request itself"),
        ("host = 1", "host: write a table"),
        ("host.a = 1", 'host."a": write a table'),
        ("host.a.per-hots = 1", 'host."a": per-hots: no such key; did you mean per-host?'),
        ("host.a.x = 1", 'host."a": x: no such key; there are per-host, host-rate, header'),
        ("host.a.per-host = 0", 'host."a": per-host must be at least 1, not 0'),
        ('host.a.host-rate = "x"', 'host."a": host-rate "x": write a rate such as 20, 20/s or 100/m'),
        ("host.a.header = 1", 'host."a": header: write a table'),
        (
            'host."a/b".per-host = 1',
            '"a/b" is no host: write a host such as "api.example.com", "localhost:8080" or "*.example.com"',
        ),
        ("host.a.per-host = 1\nhost.A.per-host = 1", 'two sections for the host "a"'),
        ("per-host", "Expected '=' after a key in a key/value pair (at end of document)"),
        ("per-host = 1\nper-host = 2", "Cannot overwrite a value (at end of document)"),
    ],
)
def test_refusals(text: str, message: str, tmp_path: Path) -> None:
    """What cannot be meant is refused with the file, the key and what would be accepted, before anything else."""
    with pytest.raises(UsageError) as caught:
        options_of(Flags(config=config(tmp_path, text)))
    assert str(caught.value) == f"{tmp_path}/c.toml: {message}"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is not there, or no text, is named."""
    with pytest.raises(UsageError, match=r"--config .*/none: No such file or directory"):
        read(str(tmp_path / "none"), kinds())
    (tmp_path / "c.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"c\.toml: not UTF-8"):
        read(str(tmp_path / "c.toml"), kinds())


@pytest.mark.parametrize(
    ("text", "mode", "warned"),
    [
        ('header.Authorization = "hush"', 0o644, True),
        ('host.a.header.X-Api-Key = "hush"', 0o604, True),
        ('proxy = "http://user:hush@proxy:3128"', 0o644, True),
        ('header.Authorization = "hush"', 0o640, False),
        ('header.Authorization = { env = "PATH" }', 0o644, False),
        ('header.Accept = "text/html"\nproxy = "http://proxy:3128"', 0o644, False),
        ("", 0o644, False),
    ],
)
def test_secrets_for_all_to_read(text: str, mode: int, *, warned: bool, tmp_path: Path) -> None:
    """Secrets in a file that everyone can read are worth a warning, which does not show them."""
    path = tmp_path / "c.toml"
    path.write_text(text)
    path.chmod(mode)
    warning = read(str(path), kinds()).warning
    expected = f"{path} holds secrets, and everyone on this machine can read it: chmod o-r"
    assert warning == (expected if warned else "")


@pytest.mark.parametrize("command", ["get", "retry"])
@pytest.mark.parametrize("name", kinds())
def test_precedence(name: str, command: str, flagged: Flagged, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every option: what is typed goes before the environment, that before the file, and that before the default.

    A file that serves ``get`` serves ``retry`` too, which passes over what it has no use for.
    """
    option, variable = f"--{name.replace('_', '-')}", f"FETCHER_{name.upper()}"
    key = option[2:]
    monkeypatch.delenv(variable, raising=False)
    # The value in the file, the same as flags have it, a variable and what is typed, each with its value.
    kind = kinds()[name]
    file, said, environment, meant, words, typed = {
        str: ('"11"', "11", "22", "22", [option, "33"], "33"),
        int: ("1", 1, "2", 2, ["-qqq"], 3),
        list: ('{ A = "1" }', ["A: 1"], "B: 2", ["B: 2"], [option, "C: 3"], ["C: 3"]),
        bool: ("true", True, "0", False, [option], True),
    }[kind]
    default = getattr(flagged("", command=command), name)
    if command == "retry" and name in NOT_FOR_RETRY:
        assert getattr(flagged(f"{key} = {file}", command=command), name) == default
        return
    assert default == getattr(Flags(), name) != said
    assert getattr(flagged(f"{key} = {file}", command=command), name) == said
    monkeypatch.setenv(variable, environment)
    assert getattr(flagged(f"{key} = {file}", command=command), name) == meant
    assert getattr(flagged(f"{key} = {file}", *words, command=command), name) == typed


def test_the_environment_names_it(flagged: Flagged, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """FETCHER_CONFIG names a file; one that is typed goes before it; none is read unasked."""
    for name in ("fetcher.toml", ".fetcher.toml", "config.toml"):
        (tmp_path / name).write_text("nonsense")
    (tmp_path / "other.toml").write_text("per-host = 7")
    assert flagged(None).config is None
    monkeypatch.setenv("FETCHER_CONFIG", "other.toml")
    assert flagged(None).per_host == "7"
    assert flagged("per-host = 8").per_host == "8"


def test_options(tmp_path: Path) -> None:
    """What a file says of hosts is in the options, with what else was said."""
    said = config(tmp_path, "retries = 1\n[host.a]\nper-host = 2")
    options = options_of(Flags(retries="5", config=said))
    assert options.hosts == (HostOptions(pattern="a", per_host=2),)
    assert options.retries.count == 5
