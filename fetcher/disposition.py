"""L1: the file name that a Content-Disposition field proposes (RFC 6266)."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

#: A longer field proposes nothing.
_LONGEST: Final = 4_096

#: One parameter: a quoted string with its escapes, or what stands before the next semicolon, blanks included, since
#: many servers forget the quotes.
_PARAMETER: Final = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"]*))', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_CHARSETS: Final = {"utf-8": "utf-8", "iso-8859-1": "latin-1"}


def filename(field: str | None) -> str | None:
    r"""Return the last component of the name that a field proposes, None if it proposes none that can be used.

    ``filename*`` (RFC 8187) goes before ``filename``. Both slashes part components, and dots and blanks at the ends are
    dropped, so the name is neither hidden nor a folder. It may hold any other character: it is still to be made safe.
    """
    if field is None or len(field) > _LONGEST:
        return None
    found: dict[str, str] = {}
    for name, quoted, bare in _PARAMETER.findall(";" + field if _starts_with_parameter(field) else field):
        found.setdefault(name.lower(), _ESCAPED.sub(r"\1", quoted) or bare.strip())
    for proposed in (_extended(found.get("filename*", "")), found.get("filename", "")):
        last = re.split(r"[/\\]", proposed)[-1].strip(". ")
        if last:
            return last
    return None


def _starts_with_parameter(field: str) -> bool:
    """Tell whether the type, ``attachment`` or another, was forgotten."""
    return "=" in field.partition(";")[0]


def _extended(text: str) -> str:
    """Return the value of ``UTF-8''na%C3%AFve``; empty if it is none."""
    charset, first, rest = text.partition("'")
    _, second, escaped = rest.partition("'")
    encoding = _CHARSETS.get(charset.lower())
    if not (first and second) or encoding is None:
        return ""
    try:
        return unquote_to_bytes(escaped).decode(encoding)
    except UnicodeDecodeError:
        return ""
