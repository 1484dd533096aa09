"""L4: what people type, understood: sizes, times, rates, header fields. Each refusal says what would be accepted."""

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Final

from fetcher.errors import FetchError, UsageError
from fetcher.headers import fault, is_value
from fetcher.model import Headers
from fetcher.options import MOST_ADAPTIVE
from fetcher.text import printable
from fetcher.urls import parse

#: Digits enough for every purpose, and few enough for a float.
_NUMBER: Final = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"
_SIZE: Final = re.compile(_NUMBER + r"\s*([kKmMgGtT]?)(i?)[bB]?")
_DURATION: Final = re.compile(_NUMBER + r"\s*(ms|s|m|h|)")
_RATE: Final = re.compile(_NUMBER + r"\s*(?:/\s*([smh]))?")
_SECONDS: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
#: What tokens are made of (RFC 9110 section 11.2).
TOKEN68: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=")
#: Where object stores are, as ``-o`` names them.
STORES: Final = ("s3", "gs", "az")


def whole(option: str, text: str) -> int:
    """Return a whole number; raises UsageError."""
    if re.fullmatch(r"[0-9]{1,9}", text.strip()) is None:
        raise UsageError(f'{option} "{text}": write a whole number such as 50')
    return int(text)


def size(option: str, text: str) -> int:
    """Return bytes for ``500k``, ``10M``, ``2Gi``, ``1.5G``; raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        raise UsageError(f'{option} "{text}": write a size such as 500k, 10M or 2Gi')
    power = " kmgt".index(match[2].lower() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def rotation(option: str, text: str) -> tuple[int | None, int | None]:
    """Return bytes and bodies for ``1G``, ``10000x`` or ``1G,10000x``, None for what is not said; raises UsageError."""
    limits: list[int | None] = [None, None]
    for part in text.split(","):
        counted = re.fullmatch(r"([0-9]{1,9})x", part.strip())
        place = 0 if counted is None else 1
        if limits[place] is not None:
            raise UsageError(
                f'{option} "{text}": write a size such as 1G, a number of bodies such as 10000x, or 1G,10000x'
            )
        limits[place] = size(option, part) if counted is None else int(counted[1])
    return limits[0], limits[1]


def duration(option: str, text: str) -> float:
    """Return seconds for ``30``, ``30s``, ``500ms``, ``5m``, ``2h``; raises UsageError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f'{option} "{text}": write a time such as 30, 30s, 5m or 2h')
    return float(match[1]) * _SECONDS[match[2]]


def concurrency(option: str, text: str) -> tuple[int, bool]:
    """Return how many at once, and if that is for each host to find out: ``50``, ``auto``; raises UsageError."""
    if text.strip() == "auto":
        return MOST_ADAPTIVE, True
    if re.fullmatch(r"[0-9]{1,9}", text.strip()) is None:
        raise UsageError(f'{option} "{text}": write a whole number such as 50, or auto')
    return int(text), False


def failures(option: str, text: str) -> tuple[int | None, float | None]:
    """Return a number of failures for ``50``, or else their share for ``5%``; raises UsageError."""
    match = re.fullmatch(_NUMBER + r"\s*%", text.strip())
    if match is not None and float(match[1]) < 100:
        return None, float(match[1]) / 100
    if match is not None or re.fullmatch(r"[0-9]{1,9}", text.strip()) is None:
        raise UsageError(f'{option} "{text}": write a number such as 50, or a share such as 5%')
    return int(text), None


def rate(option: str, text: str) -> float:
    """Return a number per second for ``20``, ``20/s``, ``100/m``, ``5/h``; raises UsageError."""
    match = _RATE.fullmatch(text.strip())
    if match is None or float(match[1]) == 0:
        raise UsageError(f'{option} "{text}": write a rate such as 20, 20/s or 100/m')
    return float(match[1]) / _SECONDS[match[2] or "s"]


def choice(option: str, text: str, choices: tuple[str, ...]) -> str:
    """Return one of the words; raises UsageError."""
    if text not in choices:
        raise UsageError(f'{option} "{text}": write one of {", ".join(choices)}')
    return text


def proxy(option: str, text: str) -> str:
    """Return a proxy's URL; raises UsageError. An empty one means none, whatever the environment says."""
    scheme, found, rest = text.partition("://")
    url = text if found or not text else f"http://{text}"
    try:
        if url:
            from yarl import URL

            from fetcher.transport.proxies import SOCKS

            checked = f"http://{rest}" if scheme.lower() in SOCKS else url
            parse(checked)
            URL(checked)  # which is stricter about the user and password
    except (FetchError, ValueError) as error:
        raise UsageError(f"{option}: write a proxy such as http://proxy:3128") from error
    return url


def https(option: str, text: str) -> str:
    """Return an https URL; raises UsageError."""
    try:
        url = parse(text)
    except FetchError as error:
        raise UsageError(f"{option}: {error.message}") from error
    if url.scheme != "https":
        raise UsageError(f'{option} "{printable(text)}": write an https URL such as https://dns.example/dns-query')
    return text


def place(option: str, text: str) -> tuple[Path, str | None]:
    """Return the directory that ``-o`` names; for an object store that of its state, and its URL. Raises UsageError."""
    scheme, found, rest = text.partition("://")
    if not found:
        return directory(option, text), None
    parts = [part for part in rest.split("/") if part]
    if scheme not in STORES or not parts or rest.startswith("/") or {".", ".."} & {*parts}:
        raise UsageError(f'{option} "{printable(text)}": write a directory, or a store such as s3://bucket/prefix')
    if re.search(r"[@?#\\%]", rest):
        raise UsageError(f"{option}: a store has neither user nor query; credentials come from the environment")
    return Path("fetcher-state", scheme, *parts), text


def directory(option: str, text: str) -> Path:
    """Return a directory's path; raises UsageError for an empty one: a variable that a script forgot to set."""
    if not text:
        raise UsageError(f'{option} "": write a directory such as fetched')
    return Path(text)


def certificates(option: str, text: str) -> Path:
    """Return the path of a file of certificates; raises UsageError."""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=text)
    except ssl.SSLError as error:
        raise UsageError(f"{option} {text}: write a file of certificates (PEM)") from error
    except OSError as error:
        raise UsageError(f"{option} {text}: {error.strerror}") from error
    return Path(text)


def words(option: str, text: str) -> tuple[str, ...]:
    """Return a command's words, as a shell would have them; raises UsageError, also if there is no such program."""
    try:
        found = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"{option}: {str(error).lower()}") from error
    if not found:
        raise UsageError(f"{option}: write a command such as: gzip -t {{path}}")
    if shutil.which(found[0]) is None:
        raise UsageError(f"{option}: no such command: {printable(found[0])}")
    return found


def field_value(option: str, text: str) -> str:
    """Return a header field's value; raises UsageError."""
    if not is_value(text.strip()):
        raise UsageError(f"{option}: control characters have no place in a header field")
    return text.strip()


def contact(option: str, text: str) -> str:
    """Return a URL or an address for a comment of a header field (RFC 9110 section 5.6.5); raises UsageError."""
    if re.fullmatch(r"[!-'*-\[\]-~]+", text.strip()) is None:
        raise UsageError(f'{option} "{text}": write an address such as me@example.com or https://example.com/bot')
    return text.strip()


def headers(option: str, texts: list[str]) -> Headers:
    """Return the fields of ``K: V`` and ``@FILE`` arguments, in order; raises UsageError, which shows no value."""
    fields: list[tuple[str, str]] = []
    for text in texts:
        if text.startswith("@"):
            fields.extend(_field(f"{option} {text}, line {number}", line) for number, line in _lines(option, text[1:]))
        else:
            fields.append(_field(option, text))
    return tuple(fields)


def _lines(option: str, path: str) -> list[tuple[int, str]]:
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} @{path}: {reason(error)}") from error
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]


def secret(option: str, text: str) -> str:
    """Return what ``@FILE`` or ``env:NAME`` holds; raises UsageError, which shows neither that nor anything else typed."""
    for mark, source in (("@", "file"), ("env:", "env")):
        if text.startswith(mark):
            return content(option, source, text.removeprefix(mark))
    raise UsageError(f"{option}: a secret has no place on a command line: write @FILE or env:NAME")


def content(where: str, source: str, place: str) -> str:
    """Return what a file holds, without the blanks around it, or a variable; raises UsageError if that is nothing."""
    try:
        found = Path(place).read_text("utf-8-sig").strip() if source == "file" else os.environ.get(place)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: {place}: {reason(error)}") from error
    if not found:
        raise UsageError(f"{where}: {place} is {'empty' if found == '' else 'not in the environment'}")
    return found


def reason(error: OSError | UnicodeDecodeError) -> str:
    """Return why a file cannot be read as text."""
    return error.strerror or "cannot be read" if isinstance(error, OSError) else "not UTF-8"


def for_all_to_read(path: str) -> str:
    """Return what to say of a file with secrets that everyone can read."""
    return f"{path} holds secrets, and everyone on this machine can read it: chmod o-r"


def _field(where: str, text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    return field(where, name.strip() if colon else "", value.strip())


def field(where: str, name: str, value: str) -> tuple[str, str]:
    """Return a header field, its value without outer blanks; raises UsageError, which does not show the value."""
    value = value.strip(" \t")
    if (wrong := fault(name, value)) is not None:
        raise UsageError(f"{where}: {wrong}")
    return name, value
