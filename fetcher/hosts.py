"""L1: which of the run's sections a host falls under."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from fetcher.errors import FetchError, UsageError
from fetcher.model import Headers
from fetcher.options import HostOptions, Limits
from fetcher.text import printable
from fetcher.urls import parse

_ANY: Final = "*."


class Hosts:
    """What is said of some hosts, found by a request's ``host``.

    A host's own section goes before that of a wildcard, and a longer wildcard before a shorter one; what a section leaves
    open, the next one says. Raises UsageError for patterns that are no hosts, and for two that are the same.
    """

    def __init__(self, sections: Iterable[HostOptions] = ()) -> None:
        self._sections: dict[str, HostOptions] = {}
        named = [(host_pattern(section.pattern), section) for section in sections]
        for pattern, section in sorted(named, key=lambda each: (each[0].count("."), not each[0].startswith(_ANY))):
            if pattern in self._sections:
                raise UsageError(f'two sections for the host "{pattern}"')
            self._sections[pattern] = _within(section, self._wildcard(pattern.removeprefix(_ANY)), pattern)

    @property
    def sections(self) -> tuple[HostOptions, ...]:
        """All sections, none of which leaves open what a wider one says."""
        return tuple(self._sections.values())

    def of(self, host: str) -> HostOptions | None:
        """Return the section for a host; None if there is nothing but what holds for all."""
        if not self._sections:
            return None
        return self._sections.get(host) or self._wildcard(host)

    def _wildcard(self, host: str) -> HostOptions | None:
        _, dot, rest = host.partition(".")
        while dot:
            section = self._sections.get(_ANY + rest)
            if section is not None:
                return section
            _, dot, rest = rest.partition(".")
        return None


#: No host is like no other.
ALIKE: Final = Hosts()


def host_pattern(text: str) -> str:
    """Return a host, or a wildcard for all names that end like one, in the form that requests have; raises UsageError."""
    wildcard = _ANY if text.startswith(_ANY) else ""
    name = text.removeprefix(wildcard)
    try:
        host = "" if set(name) & set("/?#@\\") else parse(f"http://{name}/").host
    except FetchError:
        host = ""
    if not host:
        hint = 'write a host such as "api.example.com", "localhost:8080" or "*.example.com"'
        raise UsageError(f'"{printable(text)}" is no host: {hint}')
    return wildcard + host.removesuffix(":443")


def limits_of(limits: Limits, section: HostOptions) -> Limits:
    """Return the limits as they hold for the hosts of a section."""
    return replace(
        limits,
        per_host=limits.per_host if section.per_host is None else section.per_host,
        host_rate=limits.host_rate if section.host_rate is None else section.host_rate,
    )


def merged(wider: Headers, narrower: Headers) -> Headers:
    """Return both lists of fields, those of the wider one replaced where the narrower one has that name."""
    given = {name.lower() for name, _ in narrower}
    return (*(field for field in wider if field[0].lower() not in given), *narrower)


def _within(section: HostOptions, wider: HostOptions | None, pattern: str) -> HostOptions:
    if wider is None:
        return replace(section, pattern=pattern)
    return HostOptions(
        pattern=pattern,
        per_host=wider.per_host if section.per_host is None else section.per_host,
        host_rate=wider.host_rate if section.host_rate is None else section.host_rate,
        headers=merged(wider.headers, section.headers),
    )
