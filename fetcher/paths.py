"""L1: the parts of a relative path, made such that every common file system takes them."""

import re
from hashlib import sha256
from typing import Final
from unicodedata import normalize

#: Bytes of UTF-8. A cut part and a collision add 9 each, so every part stays within the 255 of common file systems.
MAX_PART: Final = 200

_ESCAPES: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")

_FORBIDDEN: Final = frozenset(':*?"<>|\\/')
_DEVICE: Final = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])(?= *(?:\.|\Z))", re.IGNORECASE)
_EDGES: Final = re.compile(r"\A\.+\Z|\A[~-]|[. ]\Z")
#: Parts that are safe at first sight: most of them, at a third of the cost.
_PLAIN: Final = re.compile(
    rf"(?!{_DEVICE.pattern})[\w%@=+](?:[\w%@=&,+~ .-]{{0,{MAX_PART - 2}}}[\w%@=&,+~-])?", re.ASCII | re.IGNORECASE
)
#: The same for a part of a URL, in which nothing is to be decoded either, and whatever stands behind it. Character by
#: character: a set with ``\w`` in it, or a choice to come back to, would double the time.
CLEAN_PART: Final = (
    r"(?![CPANLcpanl](?i:ON|RN|UX|UL|(?:OM|PT)[0-9])(?![A-Za-z0-9_@=&,+~-]))"
    rf"[A-Za-z0-9_@=+][A-Za-z0-9_@=&,+~.-]{{0,{MAX_PART - 1}}}+(?<!\.)"
)


def digest(text: str) -> str:
    """Return the text's SHA-256 in hex, whatever characters it holds."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def quote(text: str) -> str:
    """Percent-escape the whole text."""
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


def _is_safe(char: str) -> bool:
    return char.isprintable() and char not in _FORBIDDEN


def decode(text: str) -> str:
    """Undo percent-escapes (RFC 3986 section 2.1) that stand for safe, printable UTF-8.

    An escaped slash or percent sign stays, or it could not be told from a separator or an escape.
    """
    return _ESCAPES.sub(_decode_run, text) if "%" in text else text


def _decode_run(match: re.Match[str]) -> str:
    try:
        text = bytes.fromhex(match[0].replace("%", "")).decode()
    except UnicodeDecodeError:
        return match[0].upper()
    return "".join(char if _is_safe(char) and char != "%" else quote(char) for char in text)


def safe_part(part: str) -> str:
    """Return one non-empty part of a path as a name that every common file system takes.

    Not empty, not dots alone, in NFC, at most 209 bytes; a safe part of up to 200 comes back as it is.
    """
    if _PLAIN.fullmatch(part):
        return part
    part = "".join(char if _is_safe(char) else quote(char) for char in part)
    if _DEVICE.match(part):
        part = quote(part[0]) + part[1:]
    part = _EDGES.sub(lambda match: quote(match[0]), part)
    # Last, since a combining mark may now follow the last letter of an escape.
    part = normalize("NFC", part)
    if len(part.encode()) <= MAX_PART:
        return part
    stem, suffix = split_extension(part)
    kept = stem.encode()[: MAX_PART - len(suffix)].decode(errors="ignore")
    return f"{kept}~{digest(part)[:8]}{suffix}"


def split_extension(name: str) -> tuple[str, str]:
    """Return stem and extension, with its dot: 1 to 10 ASCII letters and digits, not digits alone (``v1.2``)."""
    stem, _, suffix = name.rpartition(".")
    if stem and len(suffix) <= 10 and suffix.isascii() and suffix.isalnum() and not suffix.isdigit():
        return stem, "." + suffix
    return name, ""


def folded(path: str) -> str:
    """Return the key that is equal for names a disk may take for one (Unicode 3.13, canonical caseless matching)."""
    if path.isascii():
        return path.lower()
    return normalize("NFD", normalize("NFD", path).casefold())
