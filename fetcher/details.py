"""L0: what a row says besides its URL."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final

from fetcher.frozen import value


@value(frozen=True, slots=True)
class Details:
    """What a row says besides its URL; most rows say nothing, and have none.

    ``name`` is the file's path below the output directory; ``headers`` are for the URL's own origin; ``sha256`` is what
    the body must have, in lower-case hex; ``max_size`` is in bytes; ``mirrors`` are URLs that are asked in this order
    when the URL has failed; ``meta`` is whatever else stands there.
    """

    id: str | None = None
    name: str | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    sha256: str | None = None
    max_size: int | None = None
    mirrors: tuple[str, ...] = ()
    meta: Mapping[str, Any] | None = None

    @property
    def asked(self) -> Mapping[str, Any] | None:
        """What a record tells of it beside ``id`` and ``meta``: of header fields the names, since values are secrets."""
        told = {
            "name": self.name,
            "headers": [name for name, _ in self.headers],
            "sha256": self.sha256,
            "max_size": self.max_size,
            "mirrors": self.mirrors,
        }
        return {key: value for key, value in told.items() if value not in (None, (), [])} or None


@dataclass(frozen=True, slots=True)
class Item:
    """One URL for the library to fetch, with what a list could say of it besides.

    ``name`` is the file's path below the output directory; ``headers`` are for the URL's own origin; ``sha256`` is what
    the body must have, in hex; ``max_size`` is in bytes; ``mirrors`` are URLs that are asked in this order when ``url``
    has failed. The record has the ``id``, a number as text, and ``meta``, which is anything that JSON can say. Nothing
    is checked here: what cannot be meant makes a record of kind ``bad_record``, as in a list.
    """

    url: str
    _: KW_ONLY
    id: str | int | None = None
    name: str | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    sha256: str | None = None
    max_size: int | None = None
    mirrors: tuple[str, ...] = ()
    meta: Mapping[str, Any] | None = None


#: What a row has that says nothing besides its URL.
NO_DETAILS: Final = Details()
