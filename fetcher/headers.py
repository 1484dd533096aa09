"""L1: the header fields that a user or a list may set."""

import re
from typing import Final

#: Field names are tokens (RFC 9110 section 5.6.2); values are visible text, blanks and tabs (section 5.5).
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]*")
#: What the request itself decides.
_OURS: Final = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "accept-encoding",
        "te",
        "upgrade",
        "range",
        "if-range",
        "if-none-match",
        "if-modified-since",
    }
)


def is_value(text: str) -> bool:
    """Tell whether a text can be a header field's value."""
    return _VALUE.fullmatch(text) is not None


def fault(name: str, value: str) -> str | None:
    """Return why a header field cannot be sent, without its value, or None if it can."""
    if _NAME.fullmatch(name) is None or not is_value(value):
        return "write a header field such as 'Accept: text/html'"
    return f"{name} is decided by the request itself" if name.lower() in _OURS else None
