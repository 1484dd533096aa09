"""L1: a body's content codings undone as it streams, strictly and within bounds."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from fetcher.errors import ErrorKind, FetchError
from fetcher.text import size_text

if TYPE_CHECKING:
    from zlib import _Decompress

#: The value for Accept-Encoding: what :class:`Decoding` can undo.
ACCEPTED: Final = "gzip, deflate"

_NAMES: Final = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
_NO_CODING: Final = frozenset({"", "identity", "none"})
#: One coding is usual, two happen by accident; each costs a window of memory.
_MAX_CODINGS: Final = 5

#: Bytes taken in and given out by one call of zlib: small input, since zlib copies what is left over.
_STEP_IN: Final = 64 * 1024
_STEP_OUT: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class _Bound:
    """How far data may grow: ``slack`` bytes, and ``ratio`` times what has been received."""

    slack: int
    ratio: int


#: One layer of DEFLATE cannot pass 1,032 times, so only stacked codings meet this.
_BODY: Final = _Bound(10 * 1024 * 1024, 1_100)
#: What is still encoded hardly shrinks when it is encoded again; without this, data that decodes
#: to nothing in the end could keep the machine busy for hours on the way.
_BETWEEN: Final = _Bound(1024 * 1024, 16)


def codings(values: Iterable[str]) -> tuple[str, ...]:
    """Return the content codings named by all values of Content-Encoding, in the order they were applied.

    Names come back in lower case, ``x-gzip`` as ``gzip`` (RFC 9110 section 8.4.1.3); ``identity``,
    ``none`` and empty members are dropped. Raises FetchError of kind ``decode`` for any other name
    than these and ``deflate``, and for more than five.
    """
    members = [member.strip().lower() for value in values for member in value.split(",")]
    names = [name for name in members if name not in _NO_CODING]
    for name in names:
        if name not in _NAMES:
            raise FetchError(ErrorKind.DECODE, f'content coding "{name}" was not asked for')
    if len(names) > _MAX_CODINGS:
        raise FetchError(ErrorKind.DECODE, f"{len(names)} content codings on one body, {_MAX_CODINGS} are undone")
    return tuple(_NAMES[name] for name in names)


class Decoding:
    """Undoes the codings ``applied`` to one body (see :func:`codings`): all of it comes out, or a FetchError.

    Feed it the chunks in order, taking all pieces of one before the next, and close it when the body is whole.
    Pieces of a decoded body are 256 KiB at most. An empty body is an empty body under any coding.

    Raises FetchError of kind
    ``truncated`` for a stream that stops before its end;
    ``decode`` for damaged data, a wrong checksum, or bytes after the end (RFC 1950, 1951, 1952);
    ``too_large`` for more than ``max_size`` bytes, or more than a compressed body can honestly hold.
    """

    def __init__(self, applied: Sequence[str], *, max_size: int | None) -> None:
        self._decoders = [_Decoder(coding, _BODY if at == 0 else _BETWEEN) for at, coding in enumerate(applied)][::-1]
        self._max_size = max_size
        self._received = 0
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what the body holds as far as this chunk reaches."""
        self._received += len(chunk)
        pieces: Iterator[bytes] = iter((chunk,))
        for decoder in self._decoders:
            pieces = decoder.feed(pieces, self._received)
        for piece in pieces:
            self._size += len(piece)
            if self._max_size is not None and self._size > self._max_size:
                most = size_text(self._max_size)
                raise FetchError(ErrorKind.TOO_LARGE, f"body is more than {most}, the most allowed")
            yield piece

    def close(self) -> None:
        """Confirm that the body may end here."""
        for decoder in self._decoders:
            decoder.close()


class Undecoded:
    """Passes a body on as it comes, while it is checked in the same way as one that is decoded.

    ``confirm`` hears at the end what SHA-256 it has when decoded, and raises FetchError if that is wrong.
    """

    def __init__(self, decoding: Decoding, confirm: Callable[[str], None]) -> None:
        self._decoding = decoding
        self._confirm = confirm
        self._digest = sha256()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the chunk, if it decodes as far as it reaches."""
        for piece in self._decoding.feed(chunk):
            self._digest.update(piece)
        yield chunk

    def close(self) -> None:
        """Confirm that the body may end here."""
        self._decoding.close()
        self._confirm(self._digest.hexdigest())


class Rest:
    """Passes on as many bytes as a Content-Range announced; raises FetchError for fewer or more, whatever the framing."""

    def __init__(self, size: int) -> None:
        self._announced = size
        self._received = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the chunk; kind ``protocol`` if it is too much."""
        self._received += len(chunk)
        if self._received > self._announced:
            reason = f"more than the {self._announced:,} bytes that Content-Range tells"
            raise FetchError(ErrorKind.PROTOCOL, reason)
        yield chunk

    def close(self) -> None:
        """Confirm that the body may end here; kind ``truncated`` if it may not."""
        if self._received < self._announced:
            reason = f"{self._received:,} of the {self._announced:,} bytes that Content-Range tells"
            raise FetchError(ErrorKind.TRUNCATED, reason)


class _Decoder:
    """Undoes one coding.

    held -> open -> ended -> open (gzip: the next member) -> ended ...

    *held*: the first byte of a deflate body waits for the second. An end anywhere but before the
    first byte or in *ended* is a truncation.
    """

    def __init__(self, coding: str, bound: _Bound) -> None:
        self._coding = coding
        self._bound = bound
        self._held = b""
        self._stream: _Decompress | None = None
        self._ended = False
        self._size = 0

    def feed(self, chunks: Iterable[bytes], received: int) -> Iterator[bytes]:
        """Yield what ``chunks`` decode to, as far as they reach; ``received`` counts the body's bytes until now."""
        most = self._bound.slack + self._bound.ratio * received
        for chunk in chunks:
            for start in range(0, len(chunk), _STEP_IN):
                for piece in self._decode(chunk[start : start + _STEP_IN]):
                    self._size += len(piece)
                    if self._size > most:
                        reason = f"decompresses to more than {self._bound.ratio:,} times its size"
                        raise FetchError(ErrorKind.TOO_LARGE, reason)
                    yield piece

    def close(self) -> None:
        """Confirm that the body may end here."""
        if self._stream is not None or self._held:
            reached = f"after {size_text(self._size)} decoded"
            raise FetchError(ErrorKind.TRUNCATED, f"{self._coding} data stops before its end, {reached}")

    def _decode(self, data: bytes) -> Iterator[bytes]:
        more = False
        while data or more:
            stream = self._stream
            if stream is None:
                data = self._open(data)
                continue
            try:
                piece = stream.decompress(data, _STEP_OUT)
            except zlib.error as error:
                reason = str(error).rpartition(": ")[2]
                raise FetchError(ErrorKind.DECODE, f"says {self._coding}, is not: {reason}") from error
            if stream.eof:
                data, more = stream.unused_data, False
                self._stream, self._ended = None, True
            else:
                # A full piece may leave output inside zlib that no further input will push out.
                data, more = stream.unconsumed_tail, len(piece) == _STEP_OUT
            if piece:
                yield piece

    def _open(self, data: bytes) -> bytes:
        """Start on the stream at the front of ``data``; return what it shall read now."""
        if self._ended and self._coding == "gzip":
            data = data.lstrip(b"\0")  # writers to tape and blocks pad with zeros, and gzip has always put up with it
            if not data:
                return b""
        elif self._ended:
            raise FetchError(ErrorKind.DECODE, f"says {self._coding}, is not: bytes after its end")
        data = self._held + data
        self._held = b""
        if self._coding == "gzip":
            self._stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        elif len(data) < 2:
            self._held = data
            return b""
        else:
            self._stream = zlib.decompressobj(wbits=zlib.MAX_WBITS if _is_zlib(data) else -zlib.MAX_WBITS)
        return data


def _is_zlib(data: bytes) -> bool:
    """Tell a zlib header (RFC 1950 section 2.2) from the bare DEFLATE that some senders call deflate.

    Bare DEFLATE looks like it only if it starts with a stored block padded with other bits than zeros.
    """
    return data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
