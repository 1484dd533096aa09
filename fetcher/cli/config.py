"""L4: a file of options (TOML), read as if its values had been typed."""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from fetcher.cli import params
from fetcher.errors import UsageError
from fetcher.hosts import Hosts
from fetcher.model import Headers
from fetcher.options import HostOptions

_T = TypeVar("_T")

#: What a section for hosts has.
OF_HOSTS: Final = ("per-host", "host-rate", "header")
#: The names of header fields that are secrets, by all experience; and what a password looks like in a proxy's URL.
_SECRET: Final = re.compile(r"auth|cookie|key|passw|secret|token", re.IGNORECASE)
_PASSWORD: Final = re.compile(r":[^/@]+@")
#: What makes a key an option.
_OPTION: Final = re.compile(r"--(?=[a-z])")
#: The permission bit that lets everyone read.
_READ_BY_ALL: Final = 0o004


@dataclass(frozen=True, slots=True)
class Config:
    """What a file says: ``settings`` by parameter, as text unless flags, and what is different for some ``hosts``.

    ``warning`` is not empty if secrets stand there for everyone to read.
    """

    path: str
    settings: Mapping[str, Any]
    hosts: tuple[HostOptions, ...]
    warning: str = ""


def read(path: str, kinds: Mapping[str, type]) -> Config:
    """Return what a file says; ``kinds`` has the type of each parameter: bool, int for a count, list, or str for text.

    Raises UsageError for what cannot be read or cannot be meant. It never shows the value of a header field.
    """
    import tomllib

    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            tables = tomllib.loads(file.read().decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {'not UTF-8' if isinstance(error, UnicodeDecodeError) else error}") from error
    with blamed(path):
        known = {name.replace("_", "-"): kind for name, kind in kinds.items()}
        sections = _table("host", tables.pop("host", {}))
        settings: dict[str, Any] = {}
        for key, value in tables.items():
            _check(key, known)
            settings[key.replace("-", "_")] = _setting(key, known[key], value)
        hosts = tuple(_section(pattern, section) for pattern, section in sections.items())
        Hosts(hosts)
    warning = ""
    if mode & _READ_BY_ALL and _holds_secrets(tables, *sections.values()):
        warning = params.for_all_to_read(path)
    return Config(path, settings, hosts, warning)


@contextmanager
def blamed(place: str) -> Iterator[None]:
    """Name the file, or what stands there in it, in a UsageError that its values cause."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{place}: {_OPTION.sub('', str(error))}") from error


def _setting(key: str, kind: type, value: object) -> object:
    """Return a value as Typer would have it of a command line."""
    if kind is bool:
        return _instance(key, value, bool, "true or false")
    if kind is int:
        if value not in (0, 1, 2):
            raise UsageError(f"{key}: write true, false or 2")
        return int(value)
    if kind is list:
        return [f"{name}: {content}" for name, content in _fields(key, value)]
    return _text(key, value)


def _section(pattern: str, value: object) -> HostOptions:
    where = f'host."{pattern}"'
    section = _table(where, value)
    with blamed(where):
        for key in section:
            _check(key, OF_HOSTS)
        cap, rate = section.get("per-host"), section.get("host-rate")
        return HostOptions(
            pattern=pattern,
            per_host=None if cap is None else params.whole("per-host", _text("per-host", cap)),
            host_rate=None if rate is None else params.rate("host-rate", _text("host-rate", rate)),
            headers=_fields("header", section.get("header", {})),
        )


def _fields(where: str, value: object) -> Headers:
    """Return the header fields of a table: a value is text, or stands in a file or in the environment."""
    return tuple(
        params.field(f"{where}.{name}", name, _content(f"{where}.{name}", given))
        for name, given in _table(where, value).items()
    )


def _content(where: str, given: object) -> str:
    if isinstance(given, str):
        return given
    source, place = next(iter(given.items()), ("", "")) if isinstance(given, dict) else ("", "")
    if source not in ("file", "env") or given != {source: place} or not isinstance(place, str):
        raise UsageError(where + ': write text, { file = "..." } or { env = "..." }')
    return params.content(where, source, place)


def _text(where: str, value: object) -> str:
    """Return text; a number may stand without quotes."""
    if isinstance(value, bool):
        raise UsageError(f"{where}: write text or a number")
    return str(_instance(where, value, (str, int, float), "text or a number"))


def _table(where: str, value: object) -> dict[str, Any]:
    return _instance(where, value, dict, "a table")


def _instance(where: str, value: object, kind: type[_T] | tuple[type[_T], ...], accepted: str) -> _T:
    if not isinstance(value, kind):
        raise UsageError(f"{where}: write {accepted}")
    return value


def _check(key: str, known: Collection[str]) -> None:
    """Refuse a key that is none of those known."""
    if key in known:
        return
    from difflib import get_close_matches

    close = get_close_matches(key.replace("_", "-"), known, 1)
    every = ", ".join(known) if known is OF_HOSTS else "the long options of fetcher get, without the dashes, and host"
    raise UsageError(f"{key}: no such key; {f'did you mean {close[0]}?' if close else f'there are {every}'}")


def _holds_secrets(*tables: Mapping[str, Any]) -> bool:
    fields = [field for table in tables for field in table.get("header", {}).items()]
    written = any(isinstance(content, str) and _SECRET.search(name) for name, content in fields)
    return written or any(_PASSWORD.search(str(table.get("proxy", ""))) for table in tables)
