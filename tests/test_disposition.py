"""Names that servers propose: understood as they are sent, and never more than one part of a path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.disposition import filename
from fetcher.model import Request
from fetcher.naming import Template, Told


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (None, None),
        ("", None),
        ("attachment", None),
        ('attachment; filename="a b.txt"', "a b.txt"),
        ("attachment; filename=a.txt", "a.txt"),
        ("ATTACHMENT ;FileName = a.txt ; x=y", "a.txt"),
        ("attachment; filename=two words.txt", "two words.txt"),
        ('attachment; filename="a\\"b;c.txt"', 'a"b;c.txt'),
        ("filename=a.txt", "a.txt"),
        ("inline; filename=\"x.txt\"; filename*=UTF-8''na%C3%AFve.txt", "naïve.txt"),
        ("inline; filename*=utf-8'en'a%20b.txt; filename=x.txt", "a b.txt"),
        ("inline; filename*=iso-8859-1''na%EFve.txt", "naïve.txt"),
        ("inline; filename*=UTF-8''%FF; filename=x.txt", "x.txt"),
        ("inline; filename*=koi8-r''a; filename=x.txt", "x.txt"),
        ("inline; filename*=x; filename=x.txt", "x.txt"),
        ("inline; filename=a.txt; filename=b.txt", "a.txt"),
        ('attachment; filename="café.txt"', "café.txt"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="C:\\\\dir\\\\x.exe"', "x.exe"),
        ("attachment; filename*=UTF-8''..%2Fx", "x"),
        ('attachment; filename=".bashrc"', "bashrc"),
        ('attachment; filename=".."', None),
        ('attachment; filename="a/"', None),
        ('attachment; filename=""', None),
        ("attachment; filename=" + "a" * 5000, None),
    ],
)
def test_filenames(field: str | None, name: str | None) -> None:
    """RFC 6266 as it is written and as it is served; only the last component counts."""
    assert filename(field) == name


@given(st.text() | st.text("filename*=;\"\\'/.%2F ", max_size=40).map(lambda text: f"attachment; filename{text}"))
def test_any_field(field: str) -> None:
    """Whatever a server sends, the file lies in its folder, under a name that the disk takes."""
    name = filename(field)
    assert name is None or (name and not {"/", "\\"} & set(name) and name[0] not in ". ")
    request = Request(0, "http://h/d/x?y", "http://h/d/x?y", "h", "list", 1)
    path = Template.parse("{host}/{filename}").name(request, Told("text/html", field), None, "")
    folder, slash, last = path.rpartition("/")
    assert (folder, slash) == ("h", "/")
    assert last not in {"", ".", ".."}
    if name is None:
        assert last == "x@y.html"
