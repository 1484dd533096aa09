"""L4: HTML in which text from outside cannot be anything but text."""

from html import escape
from typing import Final

from fetcher.text import printable

#: Elements without an end tag, of those that are used.
_VOID: Final = frozenset({"meta"})


class Html(str):
    """Markup made by this module; every other string is text and is escaped before it stands beside it."""

    __slots__ = ()


def text(content: str) -> Html:
    """Return text as markup; control characters and bidirectional ones are shown, not obeyed."""
    return Html(escape(printable(content), quote=True))


def joined(parts: "list[Html]") -> Html:
    """Return pieces of markup as one."""
    return Html("".join(parts))


def element(name: str, /, *content: str | None, **attributes: str | float | None) -> Html:
    """Return an element; what is None is left out. ``class_`` stands for ``class``, ``data_v`` for ``data-v``.

    Attributes are for values of our own making and for text; none whose value is code or an address is made of text
    from outside but ``href``, which :func:`link` checks.
    """
    begin = [name]
    for key, given in attributes.items():
        if given is not None:
            shown = f"{given:g}" if isinstance(given, float) else str(given)
            begin.append(f'{key.rstrip("_").replace("_", "-")}="{text(shown)}"')
    start = f"<{' '.join(begin)}>"
    if name in _VOID:
        return Html(start)
    inside = "".join(part if isinstance(part, Html) else text(part) for part in content if part is not None)
    return Html(f"{start}{inside}</{name}>")


def link(url: str) -> Html:
    """Return a URL as a link to it if a browser would ask a web server for just that, else as text.

    What is not shown as it is, such as control characters, a password or the middle of a very long one, makes no link.
    """
    shown = text(url)
    changed = shown != escape(url, quote=True) or "..." in url or "***@" in url
    if changed or not url.lower().startswith(("http://", "https://")):
        return element("span", shown, class_="url")
    return element("a", shown, class_="url", href=url, rel="noreferrer noopener")
