"""Lists in every form: what a form is known by, its rows, and what is wrong with a bad one."""

import csv
import gzip
import io
import os
import tempfile
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from fetcher.details import Details
from fetcher.errors import ErrorKind, UsageError
from fetcher.model import Row
from fetcher.options import Form
from fetcher.sources import parquet
from fetcher.sources.base import FormError, Reader, ReadError
from fetcher.sources.forms import by_bytes, by_name, reader_of
from fetcher.sources.opener import beginning
from fetcher.sources.parquet import ParquetSource
from fetcher.sources.sitemap import SitemapReader
from tests.contracts.source_contract import Make, SourceContract, collect
from tests.lists import list_at

NAMESPACE = "http://www.sitemaps.org/schemas/sitemap/0.9"


def table(rows: Sequence[Sequence[str]], comma: str = ",") -> bytes:
    """Return a table as the library writes it."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=comma).writerows(rows)
    return text.getvalue().encode()


def sitemap(urls: Sequence[str], more: str = "") -> bytes:
    """Return a sitemap on one line."""
    entries = "".join(f"<url><loc>{escape(url)}</loc>{more}</url>" for url in urls)
    return f'<?xml version="1.0"?>\n<urlset xmlns="{NAMESPACE}">{entries}</urlset>'.encode()


def written(form: Form, urls: Sequence[str]) -> bytes:
    """Return a list in a form that is made of bytes."""
    match form:
        case Form.NDJSON:
            return b"".join(orjson.dumps({"url": url}) + b"\n" for url in urls)
        case Form.CSV | Form.TSV:
            return table([["url"], *([url] for url in urls)], "\t" if form is Form.TSV else ",")
        case Form.SITEMAP:
            return sitemap(urls)
        case _:
            return "".join(f"{url}\n" for url in urls).encode()


class _Bytes(SourceContract):
    form = Form.LINES

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        """A file whose name says nothing; what it is, its first bytes say, unless there are none."""

        def make(urls: Sequence[str]) -> Any:
            path = tmp_path / "list"
            path.write_bytes(written(self.form, urls))
            return list_at(str(path), form=self.form)

        return make


class TestNdjson(_Bytes):
    form = Form.NDJSON


class TestCsv(_Bytes):
    form = Form.CSV
    first = 2


class TestTsv(_Bytes):
    form = Form.TSV
    first = 2


class TestSitemap(_Bytes):
    form = Form.SITEMAP


class TestZstd(SourceContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        """A zstd file of two frames."""

        def make(urls: Sequence[str]) -> Any:
            data = written(Form.LINES, urls)
            path = tmp_path / "list"
            path.write_bytes(zstd.compress(data[:1000]) + zstd.compress(data[1000:]))
            return list_at(str(path))

        return make


class TestParquet(SourceContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        """A Parquet file of several row groups."""

        def make(urls: Sequence[str]) -> Any:
            path = tmp_path / "list.parquet"
            pq.write_table(pa.table({"url": pa.array(urls, pa.string())}), path, row_group_size=700)
            return ParquetSource(str(path), "url")

        return make


# What a form is known by.


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("urls.txt", Form.AUTO),
        ("urls", Form.AUTO),
        ("csv", Form.AUTO),
        ("a.csv/urls", Form.AUTO),
        ("-", Form.AUTO),
        ("URLS.CSV", Form.CSV),
        ("a/urls.tsv.gz", Form.TSV),
        ("urls.jsonl", Form.NDJSON),
        ("urls.ndjson.zst", Form.NDJSON),
        ("sitemap.xml.gz", Form.SITEMAP),
        ("urls.parquet", Form.PARQUET),
        ("urls.gz", Form.AUTO),
    ],
)
def test_by_name(path: str, form: Form) -> None:
    """The ending tells the form; that of a packed file stands before the one that says so."""
    assert by_name(path) is form


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b"", Form.LINES),
        (b"http://h/a\n", Form.LINES),
        (b"http://h/?fields=id,url,name\n", Form.LINES),
        (b"# id,url\nhttp://h/\n", Form.LINES),
        (b'{"id":1,"url":"/"}\n', Form.LINES),
        (b"id,url\n1,http://h/a\n", Form.CSV),
        (b'\xef\xbb\xbf"url"\r\nhttp://h/a\r\n', Form.CSV),
        (b"id;url\n", Form.CSV),
        (b"id\turl\n", Form.TSV),
        (b"id,link\n", Form.LINES),
        (b"PAR1\0", Form.PARQUET),
        (b'<?xml version="1.0"?>', Form.SITEMAP),
        (b"\xef\xbb\xbf \n<urlset>", Form.SITEMAP),
        (b"<s:sitemapindex xmlns:s=", Form.SITEMAP),
        (b"<html>", Form.LINES),
        (b"url\xff,", Form.LINES),
    ],
)
def test_by_bytes(head: bytes, form: Form) -> None:
    """The first bytes tell the form where the name does not; in doubt it is lines."""
    assert by_bytes(head, "url") is form


# Rows.


def rows_of(form: Form, *pieces: bytes, column: str = "url") -> list[Row]:
    """Return the rows of a list that comes in these pieces."""
    reader = reader_of(form, column, "list", pieces[0] if pieces else b"")
    return [*(row for piece in pieces for row in reader.feed(piece)), *reader.end()]


def told(rows: Sequence[Row]) -> list[tuple[int, str, str | None]]:
    """Return line, URL and complaint of rows."""
    return [(row.line, row.text, None if row.error is None else row.error.message) for row in rows]


def test_ndjson() -> None:
    """Objects are rows, comments and blank lines are not; what is no object is told by its line, without its text."""
    data = b'\xef\xbb\xbf{"url":"http://h/a","id":7,"x":[1]}\r\n\n # c\n "secret"\n{"url":3}\n{"url":"http://h/b"'
    assert told(rows_of(Form.NDJSON, data)) == [
        (1, "http://h/a", None),
        (4, "list", 'list:4 is not a JSON object with "url"'),
        (5, "list", 'list:5 has no "url"'),
        (6, "list", 'list:6 is not a JSON object with "url"'),
    ]
    assert rows_of(Form.NDJSON, data)[0].details == Details(id="7", meta={"x": [1]})


def test_objects_among_lines() -> None:
    """A list of lines may say more of some, bytes that are no text or not."""
    data = (
        b'http://h/{a}\n{"url":"http://h/b","name":"b"}\n# c\n{ "url":"http://h/c"}\nhttp://h/\xe9\n{"\xe9"}\n{}\n{"a'
    )
    rows = rows_of(Form.LINES, data)
    assert [(row.line, row.text) for row in rows] == [
        (1, "http://h/{a}"), (2, "http://h/b"), (4, "http://h/c"), (5, "http://h/\\xe9"), (6, "list"), (7, "list"), (8, "list"),
    ]  # fmt: skip
    assert rows[1].details == Details(name="b")


def test_too_long_an_object() -> None:
    """A line above 1 MiB is one row, which has nothing of it."""
    data = b'{"url":"http://h/' + b"x" * 1_100_000 + b'"}\nhttp://h/b\n'
    for form in (Form.LINES, Form.NDJSON):
        first, _ = rows_of(form, data)
        assert (first.line, first.text) == (1, "list")
        assert first.error is not None
        assert first.error.message.startswith("line too long: 1,100,019 bytes, at most 1,048,576 (list:1)")


def test_csv() -> None:
    """Quotes, line ends inside them, blank lines and short rows are understood; what may be a cut URL is refused."""
    data = (
        b'id, url ,note\r\n1,http://h/a,"two\nlines, ""quoted"""\r\n\r\n2, http://h/b \n3,http://h/c,x,y\n'
        b'4,http://h/d,"x"y\n5,,\n6,http://h/\xe9,\n7,http://h/e\n8,http://h/f,"open\n9,http://h/g\n'
    )
    assert told(rows_of(Form.CSV, data)) == [
        (2, "http://h/a", None),
        (5, "http://h/b", None),
        (6, "list", "4 cells, where the first line names 3: quote a cell that holds what parts them (list:6)"),
        (7, "list", "not a row of a table: ',' expected after '\"' (list:7)"),
        (8, "list", 'list:8 has no "url"'),
        (9, "list", "not UTF-8 (list:9)"),
        (10, "http://h/e", None),
        (11, "list", "a quote that is never closed (list:11)"),
    ]
    assert rows_of(Form.CSV, data)[0].details == Details(id="1", meta={"note": 'two\nlines, "quoted"'})


@pytest.mark.parametrize(("comma", "form"), [(",", Form.CSV), (";", Form.CSV), ("\t", Form.CSV), ("\t", Form.TSV)])
def test_commas(comma: str, form: Form) -> None:
    """What parts the cells is found out; another column can have the URLs, and ``url`` is like any other then."""
    data = table([["link", "url"], ["http://h/?a,b;c", "x"]], comma)
    [row] = rows_of(form, data, column="link")
    assert (row.text, row.details) == ("http://h/?a,b;c", Details(meta={"url": "x"}))


@pytest.mark.parametrize("form", [Form.CSV, Form.TSV])
def test_no_such_column(form: Form) -> None:
    """A table without the column is refused with the names that there are."""
    with pytest.raises(FormError, match=r'^no column "url"; there are: link, \\x1b\[m; see --column$'):
        rows_of(form, table([["link", "\x1b[m"], ["a", "b"]], "\t" if form is Form.TSV else ","))


def test_open_quote_is_bounded() -> None:
    """A quote that is never closed takes one row, and what follows within a mebibyte, not the memory."""
    data = b'url\n"http://h/a\n' + (b"x" * 99 + b"\n") * 12_000 + b"http://h/b\n"
    rows = rows_of(Form.CSV, *(data[start : start + 50_000] for start in range(0, len(data), 50_000)))
    assert rows[0].error is not None
    assert rows[0].error.message == "a quote that is not closed soon (list:2)"
    assert rows[-1].text == "http://h/b"


def test_quotes_cannot_keep_it_busy() -> None:
    """A row whose quotes open again on every line is given up soon."""
    data = b'url\n"http://h/a\n' + b'",a"b,"\n' * 30_000
    rows = rows_of(Form.CSV, data)
    assert rows[0].error is not None
    assert rows[0].error.message == "a quote that is not closed soon (list:2)"
    assert rows[1].line < 60


def test_sitemap() -> None:
    """Entries count as lines; what is said of them is meta, what extensions say is passed over; entities are resolved."""
    data = (
        f'<!-- c --><s:urlset xmlns:s="{NAMESPACE}" xmlns:i="urn:image"><s:url><s:loc>\n http://h/?a&amp;b </s:loc>'
        "<s:lastmod>2026-11-21</s:lastmod><i:image><i:loc>http://h/i.png</i:loc></i:image></s:url>"
        "<s:url><s:lastmod/></s:url><other><loc>http://h/no</loc></other></s:urlset>"
    ).encode()
    first, second = rows_of(Form.AUTO, data)
    assert first == Row("list", 1, "http://h/?a&b", None, Details(meta={"lastmod": "2026-11-21"}))
    assert (second.line, second.error and second.error.message) == (2, 'list:2 has no "url"')


def test_sitemap_index() -> None:
    """The entries of an index are lists themselves."""
    reader = SitemapReader("list")
    data = b"<sitemapindex><sitemap><loc>http://h/1.xml</loc></sitemap><sitemap><loc>http://h/2.xml</loc></sitemap>"
    assert list(reader.feed(data)) == []
    assert [(row.line, row.text) for row in reader.nested] == [(1, "http://h/1.xml"), (2, "http://h/2.xml")]
    assert list(reader.feed(b"</sitemapindex>")) == list(reader.end()) == reader.nested == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'<!DOCTYPE u [<!ENTITY a "aa">]><urlset><url><loc>&a;</loc></url></urlset>', "declares entities"),
        (b'<!DOCTYPE u [<!ENTITY % a SYSTEM "file:///etc/passwd">%a;]><urlset/>', "declares entities"),
        (b"<html/>", "not a sitemap: its root is <html>"),
        (b"<urlset><url>", "not well-formed XML: no element found"),
        (b"<urlset><url></urlset>", "not well-formed XML: mismatched tag"),
        (b'<?xml version="1.0" encoding="x-none"?><urlset/>', "not well-formed XML: unknown encoding"),
        (b"", "not well-formed XML: no element found"),
        (b"<urlset>" + b"<a>" * 200, "nested too deeply"),
        (b"<urlset><url><loc>" + b"x" * 1_100_000, "an element of more than"),
        (b'<urlset a="' + b"x" * 2_000_000, "a tag of more than"),
    ],
)
def test_bad_sitemap(data: bytes, message: str) -> None:
    """Bombs, cuts and other documents end the list with a reason."""
    with pytest.raises(ReadError, match=message):
        rows_of(Form.SITEMAP, *(data[start : start + 30_000] for start in range(0, len(data) or 1, 30_000)))


def test_what_comes_before_the_fault_is_read() -> None:
    """A sitemap that is damaged gives the entries before that."""
    rows = SitemapReader("list").feed(sitemap(["http://h/a"])[:-9] + b"</no>")
    assert next(rows).text == "http://h/a"
    with pytest.raises(ReadError):
        next(rows)


@given(st.sampled_from(list(Form)[1:]), st.lists(st.integers(0, 400)), st.binary(max_size=40))
def test_pieces_do_not_matter(form: Form, cuts: list[int], junk: bytes) -> None:
    """However a list is cut into pieces, and whatever stands in it, its rows are the same, or so is what is wrong."""
    if form is Form.PARQUET:
        return

    def outcome(*pieces: bytes) -> tuple[list[Row], str]:
        reader: Reader = reader_of(form, "url", "list", b"")
        rows = []
        try:
            for piece in pieces:
                rows += list(reader.feed(piece))
            rows += list(reader.end())
        except ReadError as error:
            return rows, str(error)
        return rows, ""

    data = written(form, ["http://h/a", "http://h/é", "http://h/b,c"]) + junk
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    whole, parted = outcome(data), outcome(*(data[start:end] for start, end in pairwise(edges)))
    # Of two mistakes in XML the parser may see either first.
    assert parted[1].partition(":")[0] == whole[1].partition(":")[0]
    if not whole[1]:
        assert parted == whole


# Packed.


@pytest.mark.parametrize("form", [Form.LINES, Form.NDJSON, Form.CSV, Form.TSV, Form.SITEMAP])
@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
async def test_packed(tmp_path: Path, form: Form, pack: Any) -> None:
    """Every form can be packed; what it is shows once it is unpacked, early too."""
    path = tmp_path / "list"
    path.write_bytes(pack(written(form, ["http://h/a", "http://h/b"])))
    assert [row.text for row in await collect(list_at(str(path)))] == ["http://h/a", "http://h/b"]
    assert beginning(str(path)) == written(form, ["http://h/a", "http://h/b"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda packed: packed[:-3], "compressed data ends early"),
        (lambda packed: packed[:-3] + b"xyz", "compressed data is damaged"),
        (lambda packed: packed + b"more", "compressed data is damaged"),
    ],
)
async def test_bad_zstd(tmp_path: Path, change: Any, message: str) -> None:
    """Damage and cuts are a last row."""
    path = tmp_path / "list.zst"
    options = {int(zstd.CompressionParameter.checksum_flag): 1}
    path.write_bytes(change(zstd.compress(b"http://h/a\n", options=options)))
    *_, last = await collect(list_at(str(path)))
    assert last.error is not None
    assert message in last.error.message
    assert last.error.kind == ErrorKind.BAD_RECORD


async def test_zstd_bomb(tmp_path: Path) -> None:
    """A few bytes that unpack to a hundred megabytes of blank lines ask for nothing, piece by piece."""
    path = tmp_path / "list"
    path.write_bytes(zstd.compress(b"\n" * 100_000_000))
    assert path.stat().st_size < 100_000
    assert await collect(list_at(str(path))) == []


@given(st.binary(max_size=100))
async def test_zstd_of_anything(junk: bytes) -> None:
    """Bytes that only begin like zstd end in one row, never in an exception."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\x28\xb5\x2f\xfd" + junk)
        file.flush()
        await collect(list_at(file.name))


# Parquet.


async def test_parquet_columns(tmp_path: Path) -> None:
    """Columns mean what they mean elsewhere; values that JSON lacks become text, nulls are nothing."""
    path = tmp_path / "list.parquet"
    columns = {
        "url": ["http://h/a", None],
        "id": [5, None],
        "headers": pa.array([[("Accept", "a/b")], None], pa.map_(pa.string(), pa.string())),
        "mirrors": [["http://i/a"], []],
        "day": [date(2026, 11, 21), None],
        "cost": [Decimal("1.50"), None],
        "raw": [b"\xff", None],
        "nan": [float("nan"), None],
    }
    pq.write_table(pa.table(columns), path)
    first, second = await collect(ParquetSource(str(path), "url"))
    meta = {"day": "2026-11-21", "cost": "1.50", "raw": "\\xff", "nan": None}
    assert first.details == Details("5", headers=(("Accept", "a/b"),), mirrors=("http://i/a",), meta=meta)
    assert (second.line, second.error and second.error.message) == (2, f'{path}:2 has no "url"')


async def test_parquet_refused(tmp_path: Path) -> None:
    """What is no such file, or lacks the column, is refused at once; what breaks later is a row."""
    path = tmp_path / "list.parquet"
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(UsageError, match="cannot read"):
        ParquetSource(str(path), "url").check()
    [row] = await collect(ParquetSource(str(path), "url"))
    assert row.error is not None
    assert row.error.kind == ErrorKind.BAD_RECORD
    pq.write_table(pa.table({"link": ["http://h/a"]}), path)
    with pytest.raises(UsageError, match=r'no column "url"; there are: link; see --column$'):
        ParquetSource(str(path), "url").check()
    with pytest.raises(FormError, match="only from a file that is not packed"):
        reader_of(Form.AUTO, "url", "-", b"PAR1")


def test_parquet_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing library is told with the command that installs it."""
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"^a Parquet list needs pyarrow: pip install 'fetcher\[parquet\]'$"):
        parquet.load()
    assert os.listdir(tmp_path) == []  # noqa: PTH208
