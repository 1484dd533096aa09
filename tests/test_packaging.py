"""What is shipped, and what starting it costs."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import fetcher

ROOT = Path(__file__).parent.parent


@pytest.fixture
def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a Python of its own."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )


def imported(*arguments: str) -> set[str]:
    """Return the modules that a Python of its own imports, submodules included."""
    lines = python("-X", "importtime", *arguments).stderr.splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


def test_version(project: dict[str, Any]) -> None:
    """The version is written down once, in the package; the command and the installed metadata repeat it."""
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "fetcher/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", fetcher.__version__)
    assert version("fetcher") == fetcher.__version__
    assert python("-m", "fetcher", "--version").stdout == f"fetcher {fetcher.__version__}\n"


def test_changelog() -> None:
    """The changelog's latest entry is this version's."""
    entries = re.findall(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert entries[0] == fetcher.__version__


def test_extras(project: dict[str, Any]) -> None:
    """The extra ``all`` is all the others together."""
    extras = project["project"]["optional-dependencies"]
    everything = set(extras.pop("all"))
    assert everything == {f"fetcher[{extra}]" for extra in extras}


def test_licence(project: dict[str, Any]) -> None:
    """The licence named is the one that is there."""
    assert project["project"]["license"] == "MIT"
    assert (ROOT / project["project"]["license-files"][0]).read_text("utf-8").startswith("MIT License\n")


def test_wheel(tmp_path: Path) -> None:
    """The wheel holds the package, its type marker, the man page and the licence, and nothing else; above all no tests."""
    pytest.importorskip("hatchling")
    python("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    (wheel,) = tmp_path.iterdir()
    assert wheel.name == f"fetcher-{fetcher.__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    info = {name for name in names if name.startswith(f"fetcher-{fetcher.__version__}.dist-info/")}
    assert any(name.endswith("/LICENSE") for name in info)
    source = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fetcher").rglob("*.py")}
    source |= {"fetcher/py.typed", "fetcher/report/page.css", "fetcher/report/page.js"}
    manual = f"fetcher-{fetcher.__version__}.data/data/share/man/man1/fetcher.1"
    assert names - info == {*source, manual}


def test_type_marker() -> None:
    """The package says that it is typed (PEP 561)."""
    assert (ROOT / "fetcher/py.typed").is_file()


def test_importing_the_package() -> None:
    """It imports nothing until a name is used."""
    modules = imported("-c", "import fetcher")
    assert {name for name in modules if name.partition(".")[0] == "fetcher"} == {"fetcher"}
    assert not {"aiohttp", "asyncio", "rich", "typer"} & modules
    assert "aiohttp" in imported("-c", "from fetcher import fetch_all")


def test_version_is_quicker() -> None:
    """The version waits for nothing."""
    modules = imported("-m", "fetcher", "--version")
    assert "fetcher.__main__" in modules or "fetcher" in modules
    assert not {"typer", "asyncio", "dataclasses", "fetcher.cli", "fetcher.errors"} & modules


@pytest.mark.parametrize("arguments", [["--help"], ["get", "--help"]])
def test_help_is_quick(arguments: list[str]) -> None:
    """Help needs neither a network nor colours, so it does not wait for their imports."""
    modules = imported("-m", "fetcher", *arguments)
    assert "fetcher.cli.app" in modules
    assert not {"aiohttp", "asyncio", "rich", "pydantic", "ssl", "fetcher.wiring"} & modules


def test_a_run_converts_nothing() -> None:
    """No run waits for the import of what Typer converts values with, for there are none."""
    modules = imported("-m", "fetcher", "get", "--dry-run", "--no-save", "http://127.0.0.1:1/")
    assert "fetcher.wiring" in modules
    assert "pydantic" not in modules


def test_rules_are_read_when_there_are_some() -> None:
    """No run waits for the import of what reads robots.txt files before it has one."""
    modules = imported("-m", "fetcher", "get", "--dry-run", "--robots", "--no-save", "http://127.0.0.1:1/")
    assert "fetcher.robots" in modules
    assert "protego" not in modules
