"""L1: patterns in URLs, as curl has them: ``[1-100]``, ``[001-100:3]``, ``[a-z]``, ``{one,two}``."""

import re
from collections.abc import Iterator
from math import prod
from typing import Final, Protocol

from fetcher.errors import ErrorKind, FetchError
from fetcher.text import printable
from fetcher.urls import redact

#: As many URLs as one pattern may stand for.
MOST: Final = 10_000_000

_PART: Final = re.compile(
    r"""
      \\(?P<escaped>[\[\]{}])
    | (?<=[/@])(?P<address>\[[0-9A-Fa-f]*:[0-9A-Fa-f:.]*\])
    | \[(?P<from>[0-9]{1,18})-(?P<to>[0-9]{1,18})(?::(?P<step>[0-9]{1,18}))?\]
    | \[(?P<first>[a-z])-(?P<last>[a-z])(?::(?P<stride>[0-9]{1,2}))?\]
    | \[(?P<First>[A-Z])-(?P<Last>[A-Z])(?::(?P<Stride>[0-9]{1,2}))?\]
    | \{(?P<words>[^{}\[\]]+)\}
    | (?P<wrong>[\[\]{}])
    | (?P<text>[^\\\[\]{}]+|\\)
    """,
    re.VERBOSE | re.DOTALL,
)


class Pattern:
    """The URLs that a text with patterns stands for, the last pattern varying fastest; ``len`` says how many.

    A backslash before a bracket or a brace takes its meaning away; an IPv6 address keeps its brackets. Raises FetchError
    of kind ``invalid_url`` for what is no pattern, and for more than ten million URLs.
    """

    def __init__(self, text: str) -> None:
        self._parts = [_choices(match, text) for match in _PART.finditer(text)]
        self._count = prod(map(len, self._parts))
        if self._count > MOST:
            raise _bad(text, f"stands for {self._count:,} URLs; the most is {MOST:,}")

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return map(self._at, range(self._count))

    def _at(self, index: int) -> str:
        chosen: list[str] = []
        for part in reversed(self._parts):
            index, place = divmod(index, len(part))
            chosen.append(part[place])
        return "".join(reversed(chosen))


class _Choices(Protocol):
    """What one part of a pattern can be."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> str: ...


class _Numbers:
    """Numbers as text, padded with zeros to a width."""

    def __init__(self, numbers: range, width: int) -> None:
        self._numbers = numbers
        self._width = width

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int, /) -> str:
        return f"{self._numbers[index]:0{self._width}}"


def _choices(match: re.Match[str], text: str) -> _Choices:
    found = match.groupdict()
    if found["wrong"]:
        raise _bad(
            text, f"has no pattern at character {match.start() + 1}: write [1-100], [a-z:2], {{a,b}} or \\{match[0]}"
        )
    if found["words"]:
        return found["words"].split(",")
    if found["from"]:
        width = len(found["from"]) if found["from"].startswith("0") else 0
        numbers = _range(int(found["from"]), int(found["to"]), found["step"], text)
        if len(numbers) > MOST:
            raise _bad(text, f"stands for {len(numbers):,} URLs; the most is {MOST:,}")
        return _Numbers(numbers, width)
    for first, last, stride in (("first", "last", "stride"), ("First", "Last", "Stride")):
        if found[first]:
            return [chr(code) for code in _range(ord(found[first]), ord(found[last]), found[stride], text)]
    return [found["escaped"] or match[0]]


def _range(start: int, end: int, step: str | None, text: str) -> range:
    stride = 1 if step is None else int(step)
    if start > end or not stride:
        raise _bad(text, "has a range that does not go up")
    return range(start, end + 1, stride)


def _bad(text: str, reason: str) -> FetchError:
    return FetchError(ErrorKind.INVALID_URL, f'"{printable(redact(text), 120)}" {reason}')
