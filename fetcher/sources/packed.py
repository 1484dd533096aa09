"""L2: gzip and zstd unpacked step by step, each of bounded size."""

import sys
import zlib
from contextlib import suppress
from typing import Final, Protocol

from fetcher.sources.base import ReadError

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"

_DAMAGED: Final = "compressed data is damaged"
_CUT: Final = "compressed data ends early"


class Unpacker(Protocol):
    """Unpacks the bytes of one file."""

    def step(self, data: bytes, most: int) -> tuple[bytes, bytes]:
        """Return the next unpacked bytes and the packed ones that are left; ``most`` bytes may have more behind them.

        Raises ReadError where the data are damaged, a step after the last good bytes if these can be had.
        """
        ...

    def finish(self) -> None:
        """Raise ReadError if there is more to come."""
        ...


def may_be_packed(head: bytes) -> bool:
    """Tell whether more bytes are needed to know if a file that begins so is packed."""
    return any(len(head) < len(magic) and magic.startswith(head) for magic in (_GZIP, _ZSTD))


def unpacker(head: bytes) -> Unpacker | None:
    """Return what unpacks a file that begins so, None if it is not packed."""
    if head.startswith(_GZIP):
        return _Gunzip()
    return _Unzstd() if head.startswith(_ZSTD) else None


class _Gunzip:
    """Unpacks gzip: several members in a row, zeros behind the last."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=31)
        self._damaged = False

    def step(self, data: bytes, most: int) -> tuple[bytes, bytes]:
        """Return the next unpacked bytes; where data are damaged, the last good ones first."""
        if self._damaged:
            raise ReadError(_DAMAGED)
        if self._decoder.eof:
            data = data.lstrip(b"\0")  # gzip pads to a tape's block size
            if not data:
                return b"", b""
            self._decoder = zlib.decompressobj(wbits=31)
        before = self._decoder.copy()
        try:
            piece = self._decoder.decompress(data, most)
        except zlib.error:
            self._damaged = True
            return _salvage(before, data), data
        return piece, self._decoder.unconsumed_tail or self._decoder.unused_data

    def finish(self) -> None:
        """Raise ReadError if there is more to come."""
        if not self._decoder.eof:
            raise ReadError(_CUT)


class _Unzstd:
    """Unpacks zstd: several frames in a row, which may ask for windows of 128 MiB, as the command makes at most."""

    def __init__(self) -> None:
        # Few lists need it.
        if sys.version_info >= (3, 14):
            from compression.zstd import ZstdDecompressor, ZstdError  # noqa: PLC0415
        else:
            from backports.zstd import ZstdDecompressor, ZstdError  # noqa: PLC0415

        self._make, self._error = ZstdDecompressor, ZstdError
        self._decoder = ZstdDecompressor()

    def step(self, data: bytes, most: int) -> tuple[bytes, bytes]:
        """Return the next unpacked bytes."""
        if self._decoder.eof:
            if not data:
                return b"", b""
            self._decoder = self._make()
        try:
            piece = self._decoder.decompress(data, most)
        except self._error:
            raise ReadError(_DAMAGED) from None
        return piece, self._decoder.unused_data

    def finish(self) -> None:
        """Raise ReadError if there is more to come."""
        if not self._decoder.eof:
            raise ReadError(_CUT)


def _salvage(decoder: "zlib._Decompress", data: bytes) -> bytes:
    """Return what can be unpacked before the damage; zlib itself throws that away."""
    good = bytearray()
    with suppress(zlib.error):
        for position in range(len(data)):
            good += decoder.decompress(data[position : position + 1])
    return bytes(good)
