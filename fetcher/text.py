"""L0: text from outside made harmless, and numbers made readable."""

import re
from typing import Final

#: Characters that move the cursor, change the terminal or reorder what is read:
#: C0, DEL and C1 controls, line and paragraph separators, bidirectional controls (UAX 9),
#: zero-width marks, and lone surrogates.
_HARMFUL: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]"
)
#: The same characters as they stand in UTF-8, without those that JSON always escapes.
_HARMFUL_UTF8: Final = re.compile(
    rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81(?:\xa0|[\xa6-\xa9])|\xef\xbb\xbf"
)

_SIZE_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def printable(text: str, limit: int = 0) -> str:
    r"""Return ``text`` with every harmful character shown as ``\x1b`` or ``\u202e``.

    With a ``limit`` (3 or more), what would be longer is cut to that many characters, ending in ``...``.
    """
    shown = _HARMFUL.sub(_escape, text)
    return f"{shown[: limit - 3]}..." if 0 < limit < len(shown) else shown


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def harmless_json(line: bytes) -> bytes:
    r"""Return the JSON text ``line`` with harmful characters as ``\uXXXX``: the same value, safe to show.

    JSON itself escapes only C0 controls (RFC 8259 section 7).
    """
    if line.isascii() and b"\x7f" not in line:
        return line
    return _HARMFUL_UTF8.sub(lambda match: f"\\u{ord(match[0].decode()):04x}".encode(), line)


def middle_cut(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` characters, its middle replaced by ``...``: a URL keeps host and file name."""
    if len(text) <= width:
        return text
    if width <= 3:
        return text[:width]
    keep = width - 3
    head = keep // 2
    return f"{text[:head]}...{text[len(text) - (keep - head) :]}"


def place(source: str, line: int) -> str:
    """Return where a row stands, for people: ``urls.txt:12``."""
    return f"{middle_cut(printable(source), 80)}:{line}"


def size_text(count: float) -> str:
    """Return a number of bytes for people: ``812 B``, ``4.20 MB``, ``659 MB`` (powers of 1000)."""
    if count < 999.5:
        return f"{count:.0f} B"
    unit = 0
    while count >= 999.5 and unit < len(_SIZE_UNITS) - 1:
        count /= 1000
        unit += 1
    return f"{count:.{0 if count >= 99.95 else 1 if count >= 9.995 else 2}f} {_SIZE_UNITS[unit]}"


def clock_text(seconds: float) -> str:
    """Return a whole duration for people: ``0:01:07``."""
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def span_text(seconds: float) -> str:
    """Return a short duration for people: ``48 ms``, ``4.1 s``, ``14 s``, ``12 min``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def seconds_text(seconds: float) -> str:
    """Return a configured number of seconds as its user wrote it: ``30 s``, ``0.5 s``."""
    return f"{seconds:g} s"


def rate_text(rate: float) -> str:
    """Return a number per second with about three digits: ``812``, ``92.6``, ``0.25``, ``0``."""
    return f"{rate:,.0f}" if rate >= 99.95 or rate == 0 else f"{rate:.1f}" if rate >= 9.995 else f"{rate:.2f}"
