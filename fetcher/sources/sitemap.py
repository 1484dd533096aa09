"""L2: a sitemap, or an index of sitemaps, as sitemaps.org describes them."""

from collections.abc import Iterator
from typing import Final
from xml.parsers import expat

from fetcher.columns import row_of
from fetcher.model import Row
from fetcher.sources.base import FormError, ReadError
from fetcher.text import printable

#: Bytes fed to the parser at once, so that it never runs long.
_STEP: Final = 16 * 1024
#: A tag, a comment or the text of an element can be so long, in bytes.
_LONGEST: Final = 1024 * 1024

#: What a sitemap says of a URL besides its place.
_SAID: Final = ("lastmod", "changefreq", "priority")

_ROOTS: Final = {"urlset": "url", "sitemapindex": "sitemap"}


class SitemapReader:
    """One row per ``<url>``, which counts as its line; ``lastmod``, ``changefreq`` and ``priority`` are its meta.

    The entries of an index are ``nested``. Declarations of entities are refused
    and nothing outside is ever read, so a small file cannot become a large one. Raises ReadError for what is no
    sitemap, is not well-formed, or has longer parts than 1 MiB.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self.line = 0
        self.nested: list[Row] = []
        self._path: list[str] = []
        self._entry = ""
        self._values: dict[str, str] = {}
        self._text: list[str] | None = None
        self._size = 0
        self._fed = 0
        self._rows: list[Row] = []
        self._parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._stop
        parser.CharacterDataHandler = self._data
        parser.EntityDeclHandler = self._refuse

    def feed(self, piece: bytes) -> Iterator[Row]:
        """Yield the rows of the entries that end in this piece."""
        self.nested.clear()
        for start in range(0, len(piece), _STEP):
            yield from self._parse(piece[start : start + _STEP])

    def end(self) -> Iterator[Row]:
        """Make sure that the document is whole."""
        yield from self._parse(b"", last=True)

    def tally(self, piece: bytes) -> int:
        """Return how many entries end in this piece."""
        return sum(1 for _ in self.feed(piece))

    def _parse(self, data: bytes, *, last: bool = False) -> Iterator[Row]:
        self._fed += len(data)
        error: ReadError | None = None
        try:
            self._parser.Parse(data, last)
        except expat.ExpatError as wrong:
            error = ReadError(f"not well-formed XML: {wrong}")
        except (LookupError, ValueError) as wrong:  # an encoding that Python does not know, or expat cannot use
            error = ReadError(f"not well-formed XML: {wrong}")
        except ReadError as wrong:
            error = wrong
        rows, self._rows = self._rows, []
        yield from rows
        if error is not None:
            raise error
        if self._fed - self._parser.CurrentByteIndex > _LONGEST:
            raise ReadError(f"a tag of more than {_LONGEST:,} bytes")

    def _start(self, name: str, attributes: dict[str, str]) -> None:  # noqa: ARG002  the signature is expat's
        name = name.rpartition(" ")[2]
        if not self._path:
            if name not in _ROOTS:
                raise FormError(f"not a sitemap: its root is <{printable(name, 40)}>")
            self._entry = _ROOTS[name]
        self._path.append(name)
        if len(self._path) > 100:
            raise ReadError("elements are nested too deeply")
        if len(self._path) == 2:
            self._values = {}
        elif len(self._path) == 3:
            self._text = []
            self._size = 0

    def _stop(self, name: str) -> None:
        name = self._path.pop()
        if len(self._path) == 2 and self._text is not None:
            if self._path[1] == self._entry and (name == "loc" or name in _SAID):
                self._values.setdefault("url" if name == "loc" else name, "".join(self._text).strip())
            self._text = None
        elif len(self._path) == 1 and name == self._entry:
            self.line += 1
            row = row_of(self._source, self.line, self._values)
            (self.nested if self._entry == "sitemap" and row.error is None else self._rows).append(row)

    def _data(self, text: str) -> None:
        if self._text is not None and len(self._path) == 3:
            self._size += len(text)
            if self._size > _LONGEST:
                raise ReadError(f"an element of more than {_LONGEST:,} characters")
            self._text.append(text)

    def _refuse(self, *declaration: object) -> None:  # noqa: ARG002
        raise ReadError("it declares entities, which no sitemap needs")
