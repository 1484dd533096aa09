"""Names: safe whatever the URL holds, and never one for two URLs."""

import re
import sys
from hashlib import sha256
from itertools import chain, combinations
from pathlib import PurePosixPath
from unicodedata import normalize

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fetcher.claims import Names, _variants
from fetcher.errors import UsageError
from fetcher.mediatypes import _remembered, extension
from fetcher.model import Request
from fetcher.naming import Template, Told, _clean_name
from fetcher.options import DEFAULT_NAME
from fetcher.paths import split_extension

DEFAULT = Template.parse(DEFAULT_NAME)
SHA = sha256(b"body").hexdigest()
DATE = "2026-11-21"

#: Windows' device names, CONIN$ and the superscript ports among them.
DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{n}" for port in ("com", "lpt") for n in "123456789¹²³"
}


def request(target: str, host: str = "h", index: int = 0, line: int = 1) -> Request:
    """Return a request for the target."""
    return Request(index=index, url=target, target=target, host=host, source="t", line=line)


def name(target: str, content_type: str | None = None, template: Template = DEFAULT) -> str:
    """Return the target's name."""
    return template.name(request(target), Told(content_type), SHA, DATE)


def digest(text: str, length: int = 8) -> str:
    """Return the first hex digits of the text's SHA-256."""
    return sha256(text.encode()).hexdigest()[:length]


def folded(path: str) -> str:
    """Return what case-blind and decomposing disks see."""
    return normalize("NFD", normalize("NFD", path).casefold())


@pytest.mark.parametrize(
    ("path", "content_type", "expected"),
    [
        ("/a/b.html?x=1", "text/html", "a/b@x=1.html"),
        ("", "text/html", "index.html"),
        ("/", "application/json", "index.html"),
        ("/?x=1", None, "index@x=1.html"),
        ("/a/", None, "a/index.html"),
        ("//a///b", None, "a/b"),
        ("/a", "text/html", "a.html"),
        ("/a", "TEXT/HTML; charset=utf-8", "a.html"),
        ("/a", None, "a"),
        ("/a", "application/octet-stream", "a"),
        ("/a", "no/such-type", "a"),
        ("/a.php", "text/html", "a.php"),
        ("/A.JPG", "image/png", "A.JPG"),
        ("/v1.2", "text/html", "v1.2.html"),
        ("/v1.2", None, "v1.2"),
        ("/a.tar.gz", "application/gzip", "a.tar.gz"),
        ("/a.mp4", "text/html", "a.mp4"),
        ("/a.7z", "text/html", "a.7z"),
        ("/a.elevenchars", "text/html", "a.elevenchars.html"),
        ("/.htaccess", "text/plain", ".htaccess.txt"),
        ("/a#b/c?d", None, "a"),
        ("/a?", None, "a"),
        ("/a?b#c", None, "a@b"),
        ("/a?b?c", None, f"a@{digest('b?c')}"),
        ("/a?u=x/y", None, f"a@{digest('u=x/y')}"),
        ("/a?" + "q" * 60, None, "a@" + "q" * 60),
        ("/a?" + "q" * 61, None, f"a@{digest('q' * 61)}"),
        ("/a?q=%2f&r=-._~,+", "text/html", "a@q=%2f&r=-._~,+.html"),
    ],
)
def test_path_query_and_type_make_the_name(path: str, content_type: str | None, expected: str) -> None:
    """The default name follows the URL; the type only adds an extension that is missing."""
    assert name("http://h" + path, content_type) == "h/" + expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/%41%2d%7e", "A-~"),
        ("/a%20b", "a b"),
        ("/caf%C3%A9", "café"),
        ("/cafe%CC%81", "café"),
        ("/%E2%82%AC%2f", "€%2F"),
        ("/%ff%41", "%FF%41"),
        ("/100%25", "100%25"),
        ("/100%", "100%"),
        ("/%zz", "%zz"),
        ("/%2541", "%2541"),
        ("/..%2f..%2fetc", "..%2F..%2Fetc"),
        ("/../.", "%2E%2E/%2E"),
        ("/%2e%2E/x", "%2E%2E/x"),
        ("/...", "%2E%2E%2E"),
        ("/~root/~", "%7Eroot/%7E"),
        ("/-rf/-", "%2Drf/%2D"),
        ("/a./b%20", "a%2E/b%20"),
        ("/%20", "%20"),
        ("/%00%1b%7f%C2%85", "%00%1B%7F%C2%85"),
        ("/a%E2%80%AEb", "a%E2%80%AEb"),
        ("/%3a%2a%3F%22%3c%3E%7C%5c", "%3A%2A%3F%22%3C%3E%7C%5C"),
        (r"/a:b\c", "a%3Ab%5Cc"),
        ("/CON", "%43ON"),
        ("/nul.txt", "%6Eul.txt"),
        ("/Com1.tar.gz", "%43om1.tar.gz"),
        ("/lpt%C2%B2", "%6Cpt²"),
        ("/aux%20.c", "%61ux .c"),
        ("/console/com10", "console/com10"),
        ("/.fetcher", ".fetcher"),
        ("/\ud800", "%ED%A0%80"),
        ("/%E2%80%8B%CC%87", normalize("NFC", "%E2%80%8B\u0307")),
        ("/-\u0307", "%2\u1e0a"),
    ],
)
def test_escapes_are_decoded_only_where_that_is_safe(path: str, expected: str) -> None:
    """What a disk, a shell or a terminal could take for something else is percent-escaped."""
    assert name("http://h" + path) == "h/" + expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("example.org", "example.org"),
        ("example.org:8080", "example.org_8080"),
        ("[::1]:8080", "[--1]_8080"),
        ("[::1]", "[--1]"),
        ("..", "%2E%2E"),
        ("a/../b", "a%2F..%2Fb"),
        (".Fetcher", "%2EFetcher"),
        ("con", "%63on"),
    ],
)
def test_host_becomes_one_part(host: str, expected: str) -> None:
    """A host is a single folder without colons, never one that means something else."""
    assert DEFAULT.name(request("http://h/a", host), Told(), None, DATE) == f"{expected}/a"


@pytest.mark.parametrize("target", ["a", "/a", "http:a", "//", "?", "", "http://", "http://[::1/a", "x://h", "é\ud8ff"])
def test_target_need_not_be_a_url(target: str) -> None:
    """Odd targets get a name too, inside the host's folder."""
    assert re.fullmatch(r"h/[^/]+(/a)?", name(target))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{n:06}{ext}", "000008.gz"),
        ("{n}-{line:03}", "8-042"),
        (
            "{urlhash:.2}/{urlhash}{ext}",
            f"{digest('http://e.org/d/f.tar.gz?q=1', 2)}/{digest('http://e.org/d/f.tar.gz?q=1', 64)}.gz",
        ),
        ("{sha256:.2}/{sha256:.16}", f"{SHA[:2]}/{SHA[:16]}"),
        ("{date}/{dir}/{stem}_{query}{ext}", "2026-11-21/d/f.tar_q=1.gz"),
        ("x{id}/{path}", "x/d/f.tar@q=1.gz"),
        ("{id}/{id}/a", "a"),
        ("a//b", "a/b"),
        ("{id}", digest("http://e.org/d/f.tar.gz?q=1", 16)),
        ("a:b/~/-{stem}/con.{n}", "a%3Ab/%7E/%2Df.tar/%63on.8"),
        (".FETCHER/{n}", "%2EFETCHER/8"),
        ("a/.fetcher/{n}", "a/.fetcher/8"),
        (r"..\{n}", r"..%5C8"),
    ],
)
def test_template_fields(template: str, expected: str) -> None:
    """Every field has its documented value; literal text is made safe like the rest."""
    wanted = request("http://e.org/d/f.tar.gz?q=1", "e.org", index=7, line=42)
    assert Template.parse(template).name(wanted, Told("text/html"), SHA, DATE) == expected


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("/{path}", "absolute"),
        ("{host}/", "folder"),
        ("../{path}", "part that is"),
        ("a/../{n}", "part that is"),
        ("./{n}", "part that is"),
        ("{name}", "no field {name}"),
        ("{}", "no field {}"),
        ("{Host}", "no field {Host}"),
        ("{n!r}", "no field {n!r}"),
        ("{host:.2}", "format"),
        ("{n:6}", "format"),
        ("{n:}", "format"),
        ("{n:.2}", "format"),
        ("{n:00}", "format"),
        ("{n:0999}", "format"),
        ("{sha256:02}", "format"),
        ("{sha256:.0}", "format"),
        ("{host", "brace"),
        ("host}", "brace"),
        ("{{n}}", "brace"),
    ],
)
def test_bad_template_says_why_and_lists_the_fields(template: str, reason: str) -> None:
    """A template that cannot work is a usage error, before anything is fetched."""
    with pytest.raises(UsageError, match=re.escape(reason)) as caught:
        Template.parse(template)
    assert "{host} {path} {dir} {stem} {ext} {query} {n:06} {line} {id} {filename} {sha256} {urlhash} {date}" in str(
        caught.value
    )


def test_digest_template_needs_the_body() -> None:
    """A name made of the body's digest is not known before the body is."""
    template = Template.parse("{sha256}")
    assert template.needs_body
    assert not Template.parse("{urlhash}").needs_body
    with pytest.raises(ValueError, match="digest"):
        template.name(request("http://h/a"), Told(), None, DATE)


def test_long_part_is_cut_on_a_character_and_keeps_its_extension() -> None:
    """A part of more than 200 bytes ends in a hash of the whole part, before its extension."""
    assert name("http://h/" + "a" * 200) == "h/" + "a" * 200
    assert name("http://h/" + "a" * 201) == "h/" + "a" * 200 + "~" + digest("a" * 201)
    whole = "é" * 200 + ".html"
    assert name("http://h/" + "%C3%A9" * 200, "text/html") == "h/" + "é" * 97 + "~" + digest(whole) + ".html"


def test_long_path_is_collapsed() -> None:
    """A path of more than 1000 bytes keeps its first part and its extension."""
    longest = "http://h/" + "a/" * 498 + "bb"
    assert len(name(longest)) == 1000
    assert name(longest + "b") == "h/" + digest(longest + "b", 16)
    assert name(longest, "text/html") == "h/" + digest(longest, 16) + ".html"


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/javascript", ".js"),
        ("Application/JSON ; charset=x", ".json"),
        ("application/x-gzip", ".gz"),
        ("application/octet-stream", ""),
        ("application/msword", ".doc"),
        ("", ""),
        ("/", ""),
        ("\ud800", ""),
    ],
)
def test_extension_of_a_media_type(content_type: str, expected: str) -> None:
    """Our own table comes first, the standard library's second, and what is unknown has none."""
    assert extension(content_type) == expected


def test_long_media_types_are_not_remembered() -> None:
    """A server that makes them up fills no memory; what it says is understood all the same."""
    before = _remembered.cache_info().currsize
    for number in range(10):
        assert extension("text/html;" + "x" * 255 + str(number)) == ".html"
        assert extension("text/" + "x" * 255 + str(number)) == ""
    assert _remembered.cache_info().currsize == before


#: What URLs are made of when someone means harm.
SHARDS = [
    *'/.\\~-%?#@:[<|*" \n\x1b\x85\u0307\u0338\u202e\u200b\u2126\ud800\U0001f600',
    *("..", "//", "://", "%2e", "%2F", "%5c", "%20", "%00", "%ff", "%25", "%E2%80%AE", "%E2%89%AE"),
    *("con", "NUL", "lpt1", ".html", ".7z", ".2", "x=1&y=2", ".fetcher", "%2Efetcher", "a" * 199, "\u00e9" * 90),
]
hostile_texts = st.text(max_size=300) | st.lists(st.sampled_from(SHARDS), max_size=40).map("".join)
content_types = st.none() | st.sampled_from(["text/html", "image/png; q=1", "x/y"]) | st.text(max_size=30)
templates = st.sampled_from(
    [
        DEFAULT_NAME,
        "{path}",
        "{dir}/{query}",
        "{stem}{ext}",
        "{query}",
        "-{host}.",
        "{host}{path}{path}{path}{sha256:.4}",
    ]
).map(Template.parse)


@given(target=hostile_texts, host=hostile_texts, content_type=content_types, template=templates)
def test_name_is_safe_and_portable(target: str, host: str, content_type: str | None, template: Template) -> None:
    """Whatever a URL holds, its name lies inside the directory and suits every common file system."""
    wanted = request("http://h/" + target, host)
    path = template.name(wanted, Told(content_type), SHA, DATE)
    assert path == template.name(wanted, Told(content_type), SHA, DATE)
    assert path == normalize("NFC", path)
    assert len(path.encode()) <= 1000
    assert folded(path.split("/")[0]) != ".fetcher"
    for part in path.split("/"):
        assert 0 < len(part.encode()) <= 209
        assert part.isprintable()
        assert not set(part) & set(':*?"<>|\\')
        assert part not in {".", ".."}
        assert part[0] not in "~-"
        assert part[-1] not in ". "
        assert part.split(".")[0].rstrip(" ").lower() not in DEVICES
    assert PurePosixPath("/out", path).is_relative_to("/out")


@pytest.mark.parametrize("device", sorted(device for device in DEVICES if device.isalnum() and device.isascii()))
@pytest.mark.parametrize("rest", ["", ".x", "/y", ".x/y", "?z"])
def test_no_device_takes_the_fast_path(device: str, rest: str) -> None:
    """A device's name is escaped however it is written and wherever it stands, but only where it stands alone."""
    for spelled in (device, device.upper(), device.title()):
        escape = f"%{ord(spelled[0]):02X}{spelled[1:]}"
        assert name(f"http://h/{spelled}{rest}") == f"h/{escape}{rest.replace('?', '@')}".replace(
            f"{escape}@", f"{spelled}@"
        )
        assert name(f"http://h/{spelled}x{rest}") == f"h/{spelled}x{rest.replace('?', '@')}"


#: What clean targets are made of, what is just not clean, and how they end.
CLEAN_PARTS = [
    *("a", "B9", "page.html", "a.tar.gz", "v1.2", "x_y-z", "q@w,+", "console", "com10", "a.elevenchars", "a.e1", "x~"),
    *(
        "",
        "~",
        "-",
        ".",
        "..",
        "a.",
        "%41",
        "%2F",
        ":",
        " ",
        "\u00e9",
        "con",
        "CON.",
        "aux",
        "nul.x",
        "Lpt9.txt",
        ".fetcher",
    ),
    *("a" * 195, "b" * 201, "c" * 195 + ".gz", "d" * 99, "!", "(", "*"),
]
QUERIES = ["", "?", "?id=1", "?x.", "?x.y", "?a=%41", "?a/b", "?" + "q" * 60, "?" + "q" * 61, "?a?b", "#f", "?x#f"]
clean_targets = st.builds(
    lambda parts, query: "".join("/" + part for part in parts) + query,
    st.lists(st.sampled_from(CLEAN_PARTS[:12]) | st.sampled_from(CLEAN_PARTS), max_size=6),
    st.sampled_from(QUERIES),
)
hosts = st.sampled_from(["h", "example.org:8080", "[::1]:80", ".fetcher", "con", "", "\u00e9" * 99, "a/b", "x" * 300])


@settings(max_examples=400)
@given(
    path=clean_targets | hostile_texts,
    host=hosts,
    content_type=content_types,
    scheme=st.sampled_from(["http", "https"]),
)
@example("/" + "c" * 150 + "?" + "q" * 60, "h", None, "http")
@example("/" + "c" * 196, "h", "text/html", "http")
@example("/a./c", "h", None, "http")
@example("/" + "b" * 201 + "/c", "h", None, "http")
@example("/a/b" * 60, "\u00e9" * 300, None, "http")
def test_the_fast_path_is_only_faster(path: str, host: str, content_type: str | None, scheme: str) -> None:
    """A target that needs no mending gets the name that it gets by the long way."""
    wanted = request(f"{scheme}://h{path}", host)
    assert DEFAULT.name(wanted, Told(content_type), None, DATE) == DEFAULT._name(wanted, Told(content_type), None, DATE)


@pytest.mark.parametrize(
    "path",
    ["", "/", "/a", "/a.html", "/a/b/c.html?id=1", "/a/?x=1", "/console/com10.d/v1.2", "/" + "a" * 195, "/a/b" * 90],
)
def test_common_targets_take_the_fast_path(path: str) -> None:
    """It would be of no use if nothing took it."""
    assert (_clean_name(request("http://h" + path), "text/html") is not None) == bool(path)


@given(part=st.text(st.characters(exclude_characters="/{}"), min_size=1, max_size=16).filter(str.strip))
def test_safe_text_stays_as_it_is(part: str) -> None:
    """Making a safe part safe again changes nothing."""
    once = Template.parse("x/" + part + "x").name(request("http://h/"), Told(), None, DATE)
    assert Template.parse(once).name(request("http://h/"), Told(), None, DATE) == once


def test_later_owner_gets_a_variant() -> None:
    """Two owners of one path get two names, and each the same one again."""
    names = Names()
    assert names.claim("h/a.html", "A") == "h/a.html"
    assert names.claim("h/a.html", "B") == f"h/a~{digest('B')}.html"
    assert names.claim("h/a.html", "A") == "h/a.html"
    assert names.claim("h/a.html", "B") == f"h/a~{digest('B')}.html"


@pytest.mark.parametrize(
    ("first", "second"),
    [("h/a", "h/A"), ("h/caf\u00e9", "h/CAFE\u0301"), ("H/stra\u00dfe", "h/STRASSE"), ("h/\u03c3", "h/\u03c2")],
)
def test_names_that_a_disk_may_take_for_one_are_one(first: str, second: str) -> None:
    """Letter case and composition do not tell names apart."""
    names = Names()
    names.claim(first, "A")
    assert names.claim(second, "B") == f"{second}~{digest('B')}"


def test_a_file_and_a_folder_never_share_a_name() -> None:
    """The later of file and folder gives way; everything below a moved folder moves alike."""
    names = Names()
    assert names.claim("h/a", "A") == "h/a"
    assert names.claim("h/a/b", "B") == f"h/a~{digest('h/a')}/b"
    assert names.claim("h/a/c/d", "C") == f"h/a~{digest('h/a')}/c/d"
    assert names.claim("h/A/e", "F") == f"h/A~{digest('h/a')}/e"
    assert names.claim("h/a/c", "D") == f"h/a~{digest('h/a')}/c~{digest('D')}"
    assert names.claim("h", "E") == f"h~{digest('E')}"


def test_planted_variants_do_not_help() -> None:
    """A list that names the variants in advance only makes the names differ more."""
    names = Names()
    for number, path in enumerate(["a", f"a~{digest('B')}", f"a~{digest('B 2')}", f"a~{digest('a')}"]):
        assert names.claim(path, str(number)) == path
    assert names.claim("a", "B") == f"a~{digest('B 3')}"
    assert names.claim("a/b", "C") == f"a~{digest('a 2')}/b"


def test_folder_in_use_stays_in_use() -> None:
    """A folder that is no file is not left for its variant, which a list may have named."""
    names = Names()
    assert names.claim("a/b", "A") == "a/b"
    assert names.claim(f"a~{digest('a')}/b", "B") == f"a~{digest('a')}/b"
    assert names.claim("a/c/d", "C") == "a/c/d"


def test_equal_content_is_stored_once() -> None:
    """With the body's digest as owner, two URLs of equal content share a name, and others do not."""
    names = Names()
    assert names.claim("ab/x", SHA) == names.claim("ab/x", SHA) == "ab/x"
    assert names.claim("ab/x", digest("other", 64)) != "ab/x"


def test_remembered_variant_outlives_its_cause() -> None:
    """A variant stays although the owner that caused it is gone."""
    names = Names()
    names.remember(f"h/a~{digest('B')}", "B")
    names.remember(f"h/b~{digest('h/b')}/c", "C")
    assert names.claim("h/a", "B") == f"h/a~{digest('B')}"
    assert names.claim("h/a", "A") == "h/a"
    assert names.claim("h/b/c", "C") == f"h/b~{digest('h/b')}/c"
    assert names.claim("h/b/d", "D") == f"h/b~{digest('h/b')}/d"
    assert names.claim("h/b", "E") == "h/b"


def test_remembers_its_owner() -> None:
    """A name is remembered for the owner an earlier run gave it to, and not because this run gave it."""
    names = Names()
    names.remember("h/a", "A")
    assert names.remembers("h/a", "A")
    assert names.claim("h/a", "A") == "h/a"
    assert names.remembers("h/a", "A")
    assert not names.remembers("h/a", "B")
    assert not names.remembers("h", "A")
    assert names.claim("h/b", "B") == "h/b"
    assert not names.remembers("h/b", "B")


def test_avoided() -> None:
    """What lies in the way gets no owner, nor does anything below it, whoever had it before."""
    names = Names()
    names.remember("h/a", "A")
    names.avoid("h/a")
    assert names.claim("h/a", "A") == f"h/a~{digest('A')}"
    names.avoid(f"h/a~{digest('A')}")
    assert names.claim("h/a", "A") == f"h/a~{digest('A 2')}"
    assert not names.remembers("h/a", "A")
    names.avoid("H")
    assert names.claim("h/a", "A") == f"h~{digest('h')}/a"
    names.avoid(f"h~{digest('h')}")
    assert names.claim("h/a", "A") == f"h~{digest('h 2')}/a"


PARTS = ["a", "A", "b", "b.c", "B.C", "\u00e9", "E\u0301"]
#: Names that a list can hold to get in the way of the variants.
PLANTED = [
    f"a~{digest('a')}",
    f"A~{digest('a')}",
    f"b~{digest('a/b')}",
    *(f"a~{digest(f'http://h/{n}')}" for n in range(4)),
]


def paths_of(parts: list[str]) -> st.SearchStrategy[dict[str, str]]:
    """Make the paths that a few owners want, by owner."""
    path = st.lists(st.sampled_from(parts), min_size=1, max_size=4).map("/".join)
    return st.lists(path, min_size=1, max_size=12).map(lambda paths: {f"http://h/{n}": p for n, p in enumerate(paths)})


def assert_disjoint(given_names: list[str]) -> None:
    """Fail if two names are equal, or one is a folder of the other, to the most forgetful disk."""
    for one, other in combinations(map(folded, given_names), 2):
        assert one != other
        assert not one.startswith(other + "/")
        assert not other.startswith(one + "/")


@given(wanted=paths_of(PARTS + PLANTED))
def test_names_never_clash(wanted: dict[str, str]) -> None:
    """No two owners share a name, no name is another's folder, and asking again changes nothing."""
    names = Names()
    first = {owner: names.claim(path, owner) for owner, path in wanted.items()}
    assert_disjoint(list(first.values()))
    assert {owner: names.claim(path, owner) for owner, path in wanted.items()} == first


@given(wanted=paths_of(PARTS), data=st.data())
def test_names_survive_a_second_run(wanted: dict[str, str], data: st.DataObject) -> None:
    """Whatever part of the first run is remembered, and in whatever order the second one asks, those names stay."""
    names = Names()
    first = {owner: names.claim(path, owner) for owner, path in wanted.items()}
    kept = data.draw(st.lists(st.sampled_from(sorted(wanted)), unique=True), label="remembered")
    again = Names()
    for owner in kept:
        again.remember(first[owner], owner)
    order = data.draw(st.permutations(sorted(wanted)), label="order")
    second = {owner: again.claim(wanted[owner], owner) for owner in order}
    assert {owner: second[owner] for owner in kept} == {owner: first[owner] for owner in kept}
    assert_disjoint(list(second.values()))


def test_folders_that_are_files_all_the_way_down() -> None:
    """However many folders of a path are files already, no name outgrows what systems take."""
    names = Names()
    path = "h"
    for _ in range(500):
        path = f"{path}/a"
        got = names.claim(path, f"http://{path}")
        assert len(got.encode()) < 2_000
        assert names.claim(path, f"http://{path}") == got


class ModelNames:
    """What :class:`Names` promises, written as plainly as can be: a dict of files and a set of folders."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, bool]] = {}
        self.folders: set[str] = set()

    def claim(self, path: str, owner: str) -> str:
        """Give the path, its owner's first variant if it has that one, or whatever is free."""
        path = self.below_folders(path)
        folder, slash, last = path.rpartition("/")
        stem, suffix = split_extension(last)
        variants = _variants(folder + slash + stem, suffix, owner)
        first = next(variants)
        if self.owns(first, owner) and not self.owns(path, owner):
            return first
        for name in chain((path, first), variants):
            if self.owns(name, owner):
                return name
            if folded(name) not in self.folders and folded(name) not in self.files:
                self.put(name, owner, earlier=False)
                return name
        raise AssertionError

    def below_folders(self, path: str) -> str:
        """Put a variant for each folder that is a file, or whose variant is in use."""
        *folders, last = path.split("/")
        placed = ""
        for part in folders:
            plain = placed + part
            if folded(plain) not in self.folders:
                first = next(_variants(plain, "", folded(plain)))
                if folded(first) in self.folders:
                    plain = first
                elif folded(plain) in self.files:
                    plain = next(n for n in _variants(plain, "", folded(plain)) if folded(n) not in self.files)
            placed = plain + "/"
        return placed + last

    def remember(self, path: str, owner: str) -> None:
        """Note the owner an earlier run has given it to."""
        self.put(path, owner, earlier=True)

    def remembers(self, path: str, owner: str) -> bool:
        """Tell of these."""
        return self.files.get(folded(path)) == (owner, True)

    def avoid(self, path: str) -> None:
        """Make it nobody's, and no folder."""
        self.folders.discard(folded(path))
        self.put(path, "nobody", earlier=False)

    def owns(self, path: str, owner: str) -> bool:
        """Tell whose it is."""
        return self.files.get(folded(path), ("", False))[0] == owner

    def put(self, path: str, owner: str, *, earlier: bool) -> None:
        """Note a file and the folders it lies in, up to one that is known."""
        key = folded(path)
        self.files[key] = owner, earlier
        while (key := key.rpartition("/")[0]) and key not in self.folders:
            self.folders.add(key)


OWNERS = [f"http://h/{n}" for n in range(2)]
STEPS = st.tuples(
    st.sampled_from(["claim", "claim", "claim", "remember", "remembers", "avoid"]),
    st.lists(st.sampled_from(["a", "A", "b.c", *PLANTED[:2], *PLANTED[3:5]]), min_size=1, max_size=3).map("/".join),
    st.sampled_from(OWNERS),
)


@settings(max_examples=500)
@given(st.lists(STEPS, max_size=30))
@example([("claim", "a/b/c", "A"), ("avoid", "a", ""), ("claim", "a/b/d", "B")])
@example(
    [("claim", "a/b", "A"), ("claim", "a/c", "A"), ("avoid", "a", ""), ("remember", "a/d", "B"), ("claim", "a/e", "B")]
)
@example([("claim", f"a~{digest('B')}", "B"), ("remember", "a", "A"), ("claim", "a", "B")])
def test_names_are_those_of_the_model(steps: list[tuple[str, str, str]]) -> None:
    """The table of hashes, the flags in it and the short cuts change no answer, whatever was done before."""
    names, model = Names(), ModelNames()
    for step, path, owner in steps:
        arguments = (path,) if step == "avoid" else (path, owner)
        assert getattr(names, step)(*arguments) == getattr(model, step)(*arguments)


def test_a_name_costs_little_memory() -> None:
    """Names and their folders, one folder to three names, need at most 24 bytes a name."""
    names = Names()
    for number in range(30_000):
        names.claim(f"h/{number // 3}/{number}.html", f"http://h/{number // 3}/{number}")
    leaves = {id(leaf): leaf for leaf in names._facts._leaves}.values()
    assert sum(sys.getsizeof(leaf) + sum(map(sys.getsizeof, leaf)) for leaf in leaves) / 30_000 <= 24.5
