"""The house's rules of who may import and do what, checked in the source text itself.

The table below is the design's order made exact. Where it says more than the design: ``text`` is the first word, since
errors and records are made of printable text; ``hashtable`` is a decision like the others, shared by plan and journal;
the library call (``api``) is work, right of ``wiring``. Inside a folder there is no order, but no cycle either, so that a
new source or sink is one file. ``fetcher/__init__.py`` is the list of public names: it may name any module, and others
take nothing from it but ``__version__``. ``except Exception`` stands twice: where a bug costs one URL, and where it ends
the command with the status that the contract promises.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = Path(__file__).parent.parent / "fetcher"

#: Each layer from left to right: what stands here imports only from lower layers, or from its left in its own.
LAYERS: Final = (
    "text frozen access errors details exchange model options events status",
    "hashtable body urls cookiefile logins hosts limits adaptive origins lanes delayed chunks retry redirects robots conditional division identity headers mediatypes paths disposition claims naming columns globs plan mirrors history schema lastrun scheduler",
    "clock descriptors ending atomic disk blocks channel cookiejar cookies transport sinks sources lock replay audit compaction journal demosite",
    "recorder answer visits segments fetch asking engines download commands run wiring lists api",
    "views report cli",
)
RANKS: Final = {name: (layer, place) for layer, names in enumerate(LAYERS) for place, name in enumerate(names.split())}

#: The doors of the package: exempt from the order, and from naming a layer.
DOORS: Final = ("__init__", "__main__")

#: What only some modules may import: a foreign name, and where modules that import it begin.
RESERVED: Final = {
    "time": ("clock",),
    "random": ("clock",),
    "secrets": ("clock",),
    "aiohttp": ("transport.", "demosite"),
    "aiofiles": ("sinks.", "sources."),
    "distributed": ("engines.dask",),
    "dask": ("engines.dask",),
    "pycurl": ("transport.curl_options",),
    "python_socks": ("transport.socks",),
    "protego": ("robots",),
    "pyarrow": ("sources.parquet", "sinks.parquet"),
    "typer": ("cli.",),
    "rich": ("views.", "cli."),
    "signal": ("cli.", "engines.", "commands", "sinks.", "__main__"),
}
#: What words and decisions have nothing to do with: the outside world, and waiting for it.
OUTSIDE: Final = frozenset(
    (
        *("asyncio", "concurrent", "multiprocessing", "select", "signal", "subprocess", "threading"),
        *("fcntl", "io", "logging", "os", "shutil", "sqlite3", "sys", "tempfile"),
        *("aiofiles", "aiohttp", "http", "rich", "socket", "ssl", "typer"),
        *("random", "secrets", "time"),
    )
)
#: Implementations, which only these modules may name.
CONCRETE: Final = ("transport.", "sinks.", "sources.", "engines.")
NAMERS: Final = ("wiring", "lists", "api", "cli.")

#: Where a bug may be caught: at one URL, and at the end of the command.
LAST_RESORTS: Final = ("fetch", "cli.outcome")

EMPTY_NAMES: Final = frozenset({"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"})
MAX_MODULE: Final = 400
MAX_FUNCTION: Final = 60


@dataclass(frozen=True)
class Module:
    """A module of the package: its name without the package's, its text and its tree."""

    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed text."""
        return ast.parse(self.text)

    @property
    def layer(self) -> int:
        """The number of its layer, 5 for the doors."""
        return len(LAYERS) if self.name in DOORS else RANKS[self.place][0]

    @property
    def place(self) -> str:
        """Its entry in the table: itself, or its folder."""
        return self.name.partition(".")[0]

    def imports(self) -> Iterator[str]:
        """Yield whatever is imported anywhere in it, under TYPE_CHECKING too, as absolute dotted names."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name}:{node.lineno}: relative import"
                assert node.module is not None
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def own_imports(self, known: frozenset[str]) -> Iterator[str]:
        """Yield those of this package, as names of modules; the package's own attributes as ``__init__:name``."""
        for name in self.imports():
            head, _, rest = name.partition(".")
            if head != "fetcher":
                continue
            parent = rest.rpartition(".")[0]
            yield rest if rest in known else parent if parent in known else f"__init__:{rest}"


def modules() -> list[Module]:
    """Read the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found.append(Module(name.removesuffix(".__init__"), path.read_text("utf-8")))
    return found


MODULES: Final = modules()
KNOWN: Final = frozenset(module.name for module in MODULES)


def begins(name: str, places: tuple[str, ...]) -> bool:
    """Tell whether a module is one of these, or in one of these folders (``sinks.``)."""
    return any(name == place or (place.endswith(".") and f"{name}.".startswith(place)) for place in places)


def upward_imports(module: Module) -> list[str]:
    """An import leads to a lower layer, or to the left in the same one."""
    if module.name in DOORS:
        return []
    wrong = []
    for name in module.own_imports(KNOWN | set(RANKS)):
        if name == "__init__:__version__":
            continue
        place = name.partition(".")[0]
        inside = place == module.place and "." in module.name and name != module.name
        if not inside and (place not in RANKS or RANKS[place] >= RANKS[module.place]):
            wrong.append(f"imports {name}")
    return wrong


def concrete_imports(module: Module) -> list[str]:
    """Implementations are known to those who build, and to their own folder; all others see ``base``."""
    if begins(module.name, NAMERS) or module.name in DOORS:
        return []
    return [
        f"imports {name}"
        for name in module.own_imports(KNOWN | set(RANKS))
        if begins(name, CONCRETE) and not name.endswith(".base") and not begins(name, (f"{module.place}.",))
    ]


def foreign_imports(module: Module) -> list[str]:
    """Time, chance, network, files and terminal each have few doors; words and decisions have none."""
    wrong = []
    for name in module.imports():
        head = name.partition(".")[0]
        if not begins(module.name, RESERVED.get(head, (module.name,))) or (module.layer < 2 and head in OUTSIDE):
            wrong.append(f"imports {name}")
    return wrong


def called(node: ast.Call) -> str:
    """Return the name by which something is called: ``print``, ``.open``, ``asyncio.sleep``."""
    function = node.func
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute):
        owner = function.value.id if isinstance(function.value, ast.Name) else ""
        return f"{owner}.{function.attr}"
    return ""


def forbidden_calls(module: Module) -> list[str]:
    """Only edges print, only the clock sleeps and reads the time, and words and decisions open nothing."""
    wrong = []
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        attribute = name.rpartition(".")[2]
        if (
            (name == "print" and not begins(module.name, ("views.", "cli.")))
            or (name in ("asyncio.sleep", "sleep") and module.name != "clock")
            or (name in ("datetime.now", "datetime.utcnow", "datetime.today", "date.today", "loop.time"))
            or (module.layer < 2 and attribute in ("open", "read_text", "read_bytes", "write_text", "write_bytes"))
            or name in ("eval", "exec", "breakpoint", "input")
        ):
            wrong.append(f"line {node.lineno}: calls {name}")
    return wrong


def named(node: ast.expr | None) -> set[str]:
    """Return the exceptions that an ``except`` names; a bare one names BaseException."""
    if node is None:
        return {"BaseException"}
    nodes = node.elts if isinstance(node, ast.Tuple) else [node]
    return {ast.unparse(each).rpartition(".")[2] for each in nodes}


def raised_again(handler: ast.ExceptHandler, tree: ast.Module) -> bool:
    """Tell whether a handler ends by raising what it caught, or keeps it in a variable that is raised later."""
    last = handler.body[-1]
    if isinstance(last, ast.Raise):
        return last.exc is None
    kept = {
        ast.unparse(target)
        for node in handler.body
        if isinstance(node, ast.Assign) and ast.unparse(node.value) == handler.name
        for target in node.targets
    }
    return any(isinstance(node, ast.Raise) and node.exc and ast.unparse(node.exc) in kept for node in ast.walk(tree))


def broad_handlers(module: Module) -> list[str]:
    """Bugs surface but at the last resorts; what catches more than ``Exception``, or a cancellation, raises it again."""
    wrong = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            names = named(node.type)
            if ("Exception" in names and module.name not in LAST_RESORTS) or (
                names & {"BaseException", "CancelledError"} and not raised_again(node, module.tree)
            ):
                wrong.append(f"line {node.lineno}: except {', '.join(sorted(names))}")
        elif isinstance(node, ast.Call) and called(node).rpartition(".")[2] == "suppress":
            names = set().union(*(named(argument) for argument in node.args))
            if names & {"Exception", "BaseException", "CancelledError"}:
                wrong.append(f"line {node.lineno}: suppress {', '.join(sorted(names))}")
    return wrong


def wrong_docstring(module: Module) -> list[str]:
    """The first line says the layer and the one job."""
    first = (ast.get_docstring(module.tree) or "").partition("\n")[0]
    if module.name in DOORS:
        return [] if first else ["has no docstring"]
    prefix = f"L{module.layer}: "
    return [] if first.startswith(prefix) and first.endswith((".", ":")) else [f'begins "{first}", not "{prefix}..."']


def too_long(module: Module) -> list[str]:
    """A module has at most 400 lines, a function 60."""
    wrong = []
    lines = len(module.text.splitlines())
    if lines > MAX_MODULE:
        wrong.append(f"has {lines} lines")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                wrong.append(f"{node.name} has {length} lines")
    return wrong


def empty_names(module: Module) -> list[str]:
    """A name says what is in it; folders are two deep at most."""
    parts = module.name.split(".")
    wrong = [f"is called {part}" for part in parts if EMPTY_NAMES & set(part.split("_"))]
    wrong += ["lies too deep"] * (len(parts) > 2)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and node.name.endswith(("Manager", "Helper", "Utils", "Util", "Mixin")):
            wrong.append(f"line {node.lineno}: class {node.name}")
    return wrong


def cycles(edges: dict[str, set[str]]) -> list[str]:
    """Return the modules that can reach themselves."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = set(edges.get(start, ()))
        while ahead:
            seen |= ahead
            ahead = {far for near in ahead for far in edges.get(near, ())} - seen
        return seen

    return sorted(name for name in edges if name in reached(name))


Checker = Callable[[Module], list[str]]
CHECKERS: Final[tuple[Checker, ...]] = (
    upward_imports,
    concrete_imports,
    foreign_imports,
    forbidden_calls,
    broad_handlers,
    wrong_docstring,
    too_long,
    empty_names,
)


def test_every_module_has_its_place() -> None:
    """A new module is put into the table, where its author decides what it may know."""
    assert sorted({module.place for module in MODULES} - set(RANKS) - set(DOORS)) == []
    assert len(RANKS) == len(" ".join(LAYERS).split()), "a module stands twice"
    assert len(MODULES) > 30


@pytest.mark.parametrize("check", CHECKERS)
def test_the_house_is_in_order(check: Checker) -> None:
    """No module breaks a rule."""
    placed = [module for module in MODULES if module.place in RANKS or module.name in DOORS]
    assert {module.name: wrong for module in placed if (wrong := check(module))} == {}, check.__doc__


def test_there_are_no_cycles() -> None:
    """Two modules that need each other are one; this sees them inside folders too."""
    edges = {module.name: {name for name in module.own_imports(KNOWN) if name in KNOWN} for module in MODULES}
    assert cycles({name: found for name, found in edges.items() if name != "__init__"}) == []
    assert edges["plan"] == {"columns", "conditional", "details", "errors", "frozen", "hashtable", "model", "urls"}, (
        "imports are not seen"
    )


def test_the_doors_stay_small() -> None:
    """The public names and the start of the command are all there is in them."""
    for module in MODULES:
        assert module.name not in DOORS or len(module.text.splitlines()) <= 60


@pytest.mark.parametrize(
    ("check", "name", "text"),
    [
        (upward_imports, "urls", "from fetcher.run import Run"),
        (upward_imports, "urls", "from fetcher import run"),
        (upward_imports, "urls", "import fetcher.run"),
        (upward_imports, "urls", "import fetcher"),
        (upward_imports, "urls", "from fetcher import Options"),
        (upward_imports, "urls", "from fetcher.plan import Planner"),
        (upward_imports, "urls", "from fetcher.urls import parse"),
        (upward_imports, "urls", "from fetcher.nowhere import it"),
        (upward_imports, "urls", "def f():\n    from fetcher.plan import Planner"),
        (
            upward_imports,
            "urls",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fetcher.run import Run",
        ),
        (upward_imports, "views.ndjson", "from fetcher.cli.env import Environment"),
        (upward_imports, "views.ndjson", "from fetcher.views.ndjson import NdjsonWriter"),
        (upward_imports, "transport.base", "from fetcher.sources.base import Source"),
        (upward_imports, "errors", "from fetcher.model import Record"),
        (concrete_imports, "run", "from fetcher.sinks.files import FilesSink"),
        (concrete_imports, "fetch", "from fetcher.transport.session import SessionTransport"),
        (concrete_imports, "views.log", "from fetcher.sources import text"),
        (concrete_imports, "sinks.files", "from fetcher.transport import session"),
        (foreign_imports, "urls", "import asyncio"),
        (foreign_imports, "model", "import os.path"),
        (foreign_imports, "plan", "def f():\n    from aiohttp import web"),
        (foreign_imports, "plan", "from time import time"),
        (foreign_imports, "run", "import time"),
        (foreign_imports, "run", "from random import random"),
        (foreign_imports, "body", "import aiohttp"),
        (foreign_imports, "journal", "import aiofiles"),
        (foreign_imports, "wiring", "import typer"),
        (foreign_imports, "run", "from rich.text import Text"),
        (forbidden_calls, "run", "print(1)"),
        (forbidden_calls, "fetch", "async def f():\n    await asyncio.sleep(1)"),
        (forbidden_calls, "fetch", "async def f():\n    await sleep(1)"),
        (forbidden_calls, "retry", "datetime.now(UTC)"),
        (forbidden_calls, "options", "open('x')"),
        (forbidden_calls, "options", "Path('x').open()"),
        (forbidden_calls, "options", "Path('x').read_text()"),
        (broad_handlers, "run", "try:\n    f()\nexcept Exception:\n    raise"),
        (broad_handlers, "run", "try:\n    f()\nexcept (ValueError, Exception) as e:\n    pass"),
        (broad_handlers, "run", "try:\n    f()\nexcept:\n    pass"),
        (broad_handlers, "fetch", "try:\n    f()\nexcept BaseException:\n    pass"),
        (broad_handlers, "fetch", "try:\n    f()\nexcept asyncio.CancelledError:\n    return"),
        (broad_handlers, "fetch", "try:\n    f()\nexcept BaseException as e:\n    raise ValueError from e"),
        (broad_handlers, "atomic", "try:\n    f()\nexcept asyncio.CancelledError as e:\n    kept = e\nraise other"),
        (broad_handlers, "run", "with suppress(ValueError, Exception):\n    f()"),
        (broad_handlers, "run", "with contextlib.suppress(asyncio.CancelledError):\n    f()"),
        (wrong_docstring, "urls", ""),
        (wrong_docstring, "urls", '"""URLs."""'),
        (wrong_docstring, "urls", '"""L2: URLs."""'),
        (wrong_docstring, "cli.app", '"""L3: the command."""'),
        (wrong_docstring, "__main__", "x = 1"),
        (too_long, "urls", "x = 1\n" * 401),
        (too_long, "urls", "def f():\n" + "    x = 1\n" * 60),
        (too_long, "urls", "class C:\n    async def f():\n" + "        x = 1\n" * 60),
        (empty_names, "utils", ""),
        (empty_names, "cli.string_helpers", ""),
        (empty_names, "views.deep.down", ""),
        (empty_names, "run", "class TaskManager: ..."),
    ],
)
def test_a_checker_sees_the_fault(check: Checker, name: str, text: str) -> None:
    """A rule that nothing can break guards nothing."""
    assert check(Module(name, text))


@pytest.mark.parametrize(
    ("check", "name", "text"),
    [
        (
            upward_imports,
            "plan",
            "from fetcher import urls\nfrom fetcher.model import Record\nimport fetcher.errors, re",
        ),
        (upward_imports, "wiring", "from fetcher import __version__\nfrom fetcher.sinks.null import NullSink"),
        (upward_imports, "views.log", "from fetcher.views.lines import Line"),
        (upward_imports, "cli.app", "from fetcher.cli import params"),
        (concrete_imports, "wiring", "from fetcher.sinks.files import FilesSink"),
        (concrete_imports, "run", "from fetcher.sources.base import Source"),
        (concrete_imports, "sources.argv", "from fetcher.sources.text import decode"),
        (foreign_imports, "clock", "import asyncio, random, time"),
        (foreign_imports, "redirects", "from yarl import URL"),
        (foreign_imports, "transport.session", "import aiohttp"),
        (forbidden_calls, "cli.app", "print(1)"),
        (forbidden_calls, "sinks.files", "async def f():\n    await aiofiles.open('x')"),
        (broad_handlers, "fetch", "try:\n    f()\nexcept Exception:\n    pass"),
        (broad_handlers, "run", "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
        (broad_handlers, "run", "with suppress(OSError):\n    f()"),
        (broad_handlers, "atomic", "try:\n    f()\nexcept asyncio.CancelledError as e:\n    kept = e\nraise kept"),
        (wrong_docstring, "urls", '"""L1: URLs.\n\nMore."""'),
        (too_long, "urls", "x = 1\n" * 400),
        (too_long, "urls", "def f():\n" + "    x = 1\n" * 59),
        (empty_names, "cli.params", "class Params: ..."),
    ],
)
def test_a_checker_lets_good_code_pass(check: Checker, name: str, text: str) -> None:
    """A rule that everything breaks would soon be turned off."""
    assert check(Module(name, text)) == []


def test_cycles_are_found() -> None:
    """However long they are; and what only leads into one is not in one."""
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"e"}, "f": set()}) == ["a", "b", "c", "e"]
