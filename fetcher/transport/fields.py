"""L2: header fields as they are told."""

from functools import lru_cache
from typing import Final

from fetcher.redirects import location_text

#: Most fields are the same in answer after answer; longer ones are not remembered.
_COMMON: Final = 100


def field(name: bytes, value: bytes) -> tuple[str, str]:
    """Return what :func:`decoded` does, remembered where it is short."""
    return _remembered(name, value) if len(name) + len(value) < _COMMON else decoded(name, value)


def decoded(name: bytes, value: bytes) -> tuple[str, str]:
    """Return a header field as text, its name in lower case.

    Values are ASCII by the book; UTF-8 and Latin-1 are seen (RFC 9110 section 5.5).
    """
    lower = name.decode("ascii", "replace").lower()
    if lower == "location":
        return lower, location_text(value)
    try:
        return lower, value.decode()
    except UnicodeDecodeError:
        return lower, value.decode("latin-1")


_remembered: Final = lru_cache(512)(decoded)
