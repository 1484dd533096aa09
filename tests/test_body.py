"""Content codings: undone whole, or refused; never silently short, never without bound."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.body import Decoding, Rest, Undecoded, codings
from fetcher.errors import ErrorKind, FetchError

MB = 1_000_000


def gz(body: bytes, level: int = 9) -> bytes:
    """Gzip without the time of day, so that every run tests the same data."""
    return gzip.compress(body, level, mtime=0)


def raw_deflate(body: bytes) -> bytes:
    """Deflate as some senders do it: without the zlib wrapper."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


def members(body: bytes) -> bytes:
    """Gzip in some 20 members, an empty one last."""
    step = len(body) // 20 + 1
    return b"".join(gz(body[at : at + step]) for at in range(0, len(body) + step, step))


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gz),
    "members": ("gzip", members),
    "padded": ("gzip", lambda body: gz(body) + bytes(9)),
    "stored": ("gzip", lambda body: gz(body, 0)),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", raw_deflate),
}
#: Encoders whose every proper prefix is incomplete.
WHOLE = ("gzip", "stored", "zlib", "raw")


def encode(body: bytes, stack: Sequence[str]) -> tuple[bytes, tuple[str, ...]]:
    """Apply the encoders in order; return the data and the codings in the same order."""
    for name in stack:
        body = ENCODERS[name][1](body)
    return body, tuple(ENCODERS[name][0] for name in stack)


def chunks_of(data: bytes, cuts: Sequence[int] = ()) -> Iterator[bytes]:
    """Yield ``data`` cut at these places; a place named twice makes an empty chunk."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        yield data[start:end]


def read(data: bytes, applied: Sequence[str], *, cuts: Sequence[int] = (), max_size: int | None = None) -> bytearray:
    """Collect a decoded body."""
    decoding = Decoding(applied, max_size=max_size)
    body = bytearray()
    for chunk in chunks_of(data, cuts):
        for piece in decoding.feed(chunk):
            body += piece
    decoding.close()
    return body


def failure(data: bytes, applied: Sequence[str], *, max_size: int | None = None) -> tuple[FetchError, int]:
    """Return how decoding fails and how many bytes came out before."""
    count = 0
    try:
        decoding = Decoding(applied, max_size=max_size)
        for piece in decoding.feed(data):
            count += len(piece)
        decoding.close()
    except FetchError as error:
        return error, count
    pytest.fail(f"passed as whole: {count} bytes")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ()),
        ([""], ()),
        (["identity"], ()),
        (["none, ,IDENTITY"], ()),
        (["gzip"], ("gzip",)),
        (["X-GZip"], ("gzip",)),
        ([" deflate ,gzip"], ("deflate", "gzip")),
        (["deflate", "identity, gzip"], ("deflate", "gzip")),
        (["gzip, gzip"], ("gzip", "gzip")),
    ],
)
def test_codings_are_listed_in_the_order_applied(values: list[str], expected: tuple[str, ...]) -> None:
    """All field values count as one list; names that mean nothing are dropped."""
    assert codings(values) == expected


@pytest.mark.parametrize("value", ["br", "gzip, zstd", "compress", "x-deflate", "gzip;q=1", "gzip deflate", '"gzip"'])
def test_an_unknown_coding_is_an_error(value: str) -> None:
    """What was not asked for is not stored in its encoded form as if it were the body."""
    with pytest.raises(FetchError) as caught:
        codings([value])
    assert caught.value.kind == ErrorKind.DECODE


def test_the_error_names_the_unknown_coding() -> None:
    """The reader sees which coding it was."""
    with pytest.raises(FetchError, match=r'^content coding "br" was not asked for$'):
        codings(["gzip, Br"])


def test_the_number_of_codings_is_bounded() -> None:
    """A header of a thousand codings does not buy a thousand windows of memory."""
    assert len(codings(["gzip"] * 5)) == 5
    with pytest.raises(FetchError, match=r"^6 content codings"):
        codings(["gzip"] * 6)


@given(
    st.binary(max_size=60),
    st.sampled_from([1, 1, 2, 100, 15_000]),
    st.lists(st.sampled_from(sorted(ENCODERS)), max_size=3),
    st.lists(st.integers(0, 2**20), max_size=6),
)
def test_any_stack_of_codings_is_undone(word: bytes, times: int, stack: list[str], cuts: list[int]) -> None:
    """Whatever the codings and however the network cuts the data, the same bytes come out."""
    body = word * times
    data, applied = encode(body, stack)
    assert read(data, applied, cuts=cuts, max_size=len(body)) == body


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_every_byte_may_come_alone(name: str) -> None:
    """Chunks of one byte end no step too early."""
    body = bytes(range(256)) * 3
    data, applied = encode(body, [name])
    assert read(data, applied, cuts=range(len(data))) == body


def test_output_held_back_by_zlib_is_fetched() -> None:
    """A step that fills up just when the input ends leaves bytes behind that no more input will push out."""
    for size in range(256 * 1024, 256 * 1024 + 300, 10):
        assert len(read(raw_deflate(bytes(size)), ["deflate"])) == size


@given(
    st.binary(max_size=300),
    st.lists(st.sampled_from(WHOLE), max_size=2),
    st.sampled_from(WHOLE),
    st.integers(1, 2**20),
)
def test_a_cut_stream_never_passes_as_whole(body: bytes, stack: list[str], last: str, cut: int) -> None:
    """Data cut anywhere after its first byte is a truncation, which is worth another try."""
    data, applied = encode(body, [*stack, last])
    error, _ = failure(data[: 1 + cut % (len(data) - 1)], applied)
    assert error.kind == ErrorKind.TRUNCATED


def test_a_cut_inside_the_second_member_is_noticed() -> None:
    """One whole member does not vouch for the next."""
    data = gz(b"one") + gz(b"two")
    for end in range(len(gz(b"one")) + 1, len(data)):
        error, _ = failure(data[:end], ["gzip"])
        assert error.kind == ErrorKind.TRUNCATED


def test_a_cut_inside_an_inner_coding_is_noticed() -> None:
    """The outer coding being whole does not vouch for the inner one."""
    error, _ = failure(gz(zlib.compress(b"body")[:-1]), ["deflate", "gzip"])
    assert error.kind == ErrorKind.TRUNCATED
    assert error.message == "deflate data stops before its end, after 4 B decoded"


@given(st.binary(min_size=1, max_size=200), st.sampled_from(["gzip", "zlib"]), st.data())
def test_a_changed_byte_never_changes_the_body(body: bytes, name: str, draw: st.DataObject) -> None:
    """A checksum guards each stream: damage is an error, or (in a gzip header) means nothing."""
    data, applied = encode(body, [name])
    first = 2 if name == "zlib" else 0  # a deflate body without its header may be a bare one, which has no checksum
    at = draw.draw(st.integers(first, len(data) - 1))
    changed = data[:at] + bytes([data[at] ^ draw.draw(st.integers(1, 255))]) + data[at + 1 :]
    try:
        assert read(changed, applied) == body
    except FetchError as error:
        assert error.kind in (ErrorKind.DECODE, ErrorKind.TRUNCATED)  # noqa: PT017


@pytest.mark.parametrize(
    ("data", "coding"),
    [
        (b"<html>not compressed", "gzip"),
        (b"<html>not compressed", "deflate"),
        (b"\0\0\0\0", "gzip"),
        (zlib.compress(b"body"), "gzip"),
        (gz(b"body"), "deflate"),
        (gz(b"body") + b"junk", "gzip"),
        (gz(b"body") + b"\0\0junk", "gzip"),
        (zlib.compress(b"body") + b"\0", "deflate"),
        (zlib.compress(b"body") + zlib.compress(b"body"), "deflate"),
        (raw_deflate(b"body") + b"\0", "deflate"),
        (gz(b"body")[:-8] + bytes(8), "gzip"),
        (gz(b"body")[:-4] + bytes(4), "gzip"),
        (zlib.compress(b"body")[:-4] + bytes(4), "deflate"),
        (b"\x78\xbb" + zlib.compress(b"body")[2:], "deflate"),
    ],
)
def test_data_that_is_not_what_it_says_is_an_error(data: bytes, coding: str) -> None:
    """Wrong data, wrong checksums, wrong lengths, unknown dictionaries and surplus bytes are all refused."""
    error, _ = failure(data, [coding])
    assert error.kind == ErrorKind.DECODE
    assert error.message.startswith(f"says {coding}, is not")


@pytest.mark.parametrize("applied", [["gzip"], ["deflate"], ["gzip", "deflate"]])
def test_an_empty_body_is_empty_under_any_coding(applied: list[str]) -> None:
    """Servers label bodies they do not send."""
    assert read(b"", applied) == b""


@pytest.mark.parametrize("stack", [[], ["gzip"], ["raw", "gzip"]])
def test_the_size_limit_counts_decoded_bytes(stack: list[str]) -> None:
    """A body of just the limit passes; one byte more does not, and nothing over the limit comes out."""
    data, applied = encode(bytes(MB), stack)
    assert len(read(data, applied, max_size=MB)) == MB
    error, count = failure(data, applied, max_size=MB - 1)
    assert error.kind == ErrorKind.TOO_LARGE
    assert count < MB


def test_a_size_limit_of_nothing_refuses_the_first_byte() -> None:
    """Zero is a limit, not the absence of one."""
    assert read(b"", (), max_size=0) == b""
    error, count = failure(b"x", (), max_size=0)
    assert (error.kind, count) == (ErrorKind.TOO_LARGE, 0)


def test_a_highly_compressible_body_is_no_bomb() -> None:
    """What one layer of gzip can honestly do is allowed, in pieces of bounded size and flat memory."""
    data = gz(bytes(MB)) * 40
    tracemalloc.start()
    try:
        count = largest = 0
        for piece in Decoding(["gzip"], max_size=None).feed(data):
            count += len(piece)
            largest = max(largest, len(piece))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 40 * MB
    assert largest <= 256 * 1024
    assert peak < 2 * MB


def test_a_stacked_bomb_stops_early() -> None:
    """500 MB in 500 kB in 5 kB end after what 5 kB may become, in flat memory."""
    data = gz(gz(bytes(MB)) * 500)
    tracemalloc.start()
    try:
        error, count = failure(data, ["gzip", "gzip"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.kind == ErrorKind.TOO_LARGE
    assert error.message == "decompresses to more than 1,100 times its size"
    assert count < 10 * 2**20 + 1_100 * len(data)
    assert peak < 4 * MB


def test_a_bomb_that_decodes_to_nothing_stops_too() -> None:
    """Padding without end behind a tiny inner body costs no more than a stated multiple of what was received."""
    padding = gz(bytes(50 * MB))
    error, count = failure(padding, ["gzip", "gzip"])
    assert error.kind == ErrorKind.DECODE
    error, count = failure(gz(gz(b"x")) + padding, ["gzip", "gzip"])
    assert error.message == "decompresses to more than 16 times its size"
    assert (error.kind, count) == (ErrorKind.TOO_LARGE, 1)


def test_a_rest_is_as_long_as_announced() -> None:
    """Of the bytes that a Content-Range tells, none may be missing and none too many."""
    rest = Rest(5)
    assert [*rest.feed(b"abc"), *rest.feed(b""), *rest.feed(b"de")] == [b"abc", b"", b"de"]
    rest.close()
    with pytest.raises(FetchError) as caught:
        _ = list(rest.feed(b"f"))
    assert (caught.value.kind, caught.value.message) == (
        ErrorKind.PROTOCOL,
        "more than the 5 bytes that Content-Range tells",
    )
    short = Rest(5)
    assert list(short.feed(b"abcd")) == [b"abcd"]
    with pytest.raises(FetchError) as caught:
        short.close()
    assert (caught.value.kind, caught.value.message) == (
        ErrorKind.TRUNCATED,
        "4 of the 5 bytes that Content-Range tells",
    )


@pytest.mark.parametrize("coded", [True, False])
def test_undecoded(coded: bool) -> None:
    """What is passed on as it comes is checked all the same, and its digest is that of what it decodes to."""
    body = b"body" * 1_000
    sent, told = zlib.compress(body) if coded else body, list[str]()
    checking = Undecoded(Decoding(("deflate",) if coded else (), max_size=None), told.append)
    passed = b"".join(piece for start in range(0, len(sent), 7) for piece in checking.feed(sent[start : start + 7]))
    checking.close()
    assert (passed, told) == (sent, [sha256(body).hexdigest()])
    if coded:
        short = Undecoded(Decoding(("deflate",), max_size=None), told.append)
        assert [*short.feed(sent[:-1])]
        with pytest.raises(FetchError):
            short.close()
