"""L2: which form a list has, told by its name and its first bytes."""

import re
from typing import Final

from fetcher.options import Form
from fetcher.sources.base import FormError, Reader
from fetcher.sources.csvtable import csv_reader, header_of
from fetcher.sources.ndjson import ndjson_reader
from fetcher.sources.parquet import MAGIC
from fetcher.sources.sitemap import SitemapReader
from fetcher.sources.text import text_reader

_PACKED: Final = (".gz", ".gzip", ".zst", ".zstd")
_ENDINGS: Final = {
    "ndjson": Form.NDJSON,
    "jsonl": Form.NDJSON,
    "csv": Form.CSV,
    "tsv": Form.TSV,
    "tab": Form.TSV,
    "parquet": Form.PARQUET,
    "xml": Form.SITEMAP,
}
#: What stands before the root of a document is not looked at.
_XML: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml\s|!--|!DOCTYPE|(?:\w+:)?(?:urlset|sitemapindex)\b)")


def by_name(path: str) -> Form:
    """Return the form that a file's name tells, AUTO if it tells none; ``.gz`` and ``.zst`` at its end say nothing."""
    name = path.lower().rpartition("/")[2]
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return _ENDINGS.get(name.rpartition(".")[2], Form.AUTO) if "." in name else Form.AUTO


def by_bytes(head: bytes, column: str) -> Form:
    """Return the form of a list that begins so; lines of text if nothing else is certain."""
    if head.startswith(MAGIC):
        return Form.PARQUET
    if _XML.match(head):
        return Form.SITEMAP
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0].decode(errors="replace")
    if "://" in first or first.startswith(("#", "{")):
        return Form.LINES
    tables = ((",", Form.CSV), (";", Form.CSV), ("\t", Form.TSV))
    return next((form for comma, form in tables if column in header_of(first, comma)), Form.LINES)


def reader_of(form: Form, column: str, source: str, head: bytes) -> Reader:
    """Return the reader of a list that begins so; raises FormError if it cannot be read like this."""
    match by_bytes(head, column) if form is Form.AUTO else form:
        case Form.NDJSON:
            return ndjson_reader(source, column)
        case Form.CSV:
            return csv_reader(source, column)
        case Form.TSV:
            return csv_reader(source, column, "\t")
        case Form.SITEMAP:
            return SitemapReader(source)
        case Form.PARQUET:
            raise FormError("Parquet can be read only from a file that is not packed, named *.parquet")
        case _:
            return text_reader(source, column)
