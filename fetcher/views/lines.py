"""L4: lines of styled text as data: made harmless, measured in terminal cells, cut to a width."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from fetcher.text import middle_cut, printable
from fetcher.urls import redact

if TYPE_CHECKING:
    from rich.text import Text

#: A piece of text and its style: ``PLAIN``, ``DIM``, or ``RED`` for failures only.
Span = tuple[str, str]
Line = list[Span]

PLAIN: Final = ""
DIM: Final = "dim"
RED: Final = "red"

#: Cells that are enough to tell a file by its name.
_NAME: Final = 12
#: The longest text from outside that is looked at, in characters: a URL of a megabyte costs no more than this.
_LONGEST: Final = 400


def safe(text: str, *, ascii_only: bool = False) -> str:
    """Return text from outside as it may stand on a terminal, in at most a few hundred characters.

    Variation selectors change the width of the character before them and are escaped too, so that the
    width of a text is the sum of its characters' widths.
    """
    text = printable(middle_cut(text, _LONGEST)).replace("\ufe0f", "\\ufe0f")
    return text.encode("ascii", "backslashreplace").decode() if ascii_only else text


def safe_url(url: str, *, ascii_only: bool = False) -> str:
    """Return a URL as :func:`safe` does, without its user and password."""
    return safe(redact(url), ascii_only=ascii_only)


def cells(text: str) -> int:
    """Return the width of harmless text in terminal cells. Rich is asked only about text that is not ASCII."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - runs that show nothing wide never load it

    return cell_len(text)


def fit(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` cells, its middle replaced by ``...``."""
    if cells(text) <= width:
        return text
    if text.isascii():
        return middle_cut(text, max(0, width))
    if width <= 3:
        return _head(text, width)
    head = _head(text, (width - 3) // 2)
    tail = _head(text[::-1], width - 3 - cells(head))[::-1]
    return f"{head}...{tail}"


def fit_url(url: str, width: int) -> str:
    """Return ``url`` in at most ``width`` cells; what gives way to ``...`` is first its folders, then the middle of its name."""
    if cells(url) <= width:
        return url
    host = url[: url.find("/", url.find("://") + 3 if "://" in url else 0) + 1]
    name = url[url.partition("?")[0].rfind("/") + 1 :]
    room = width - 3
    most = room - cells(host)
    if most < min(_NAME, cells(name)):
        return fit(url, width)
    if cells(name) > most:
        return f"{host}...{fit(name, most)}"
    tail = _head(url[::-1], max(cells(name), min(most, room - room // 2)))[::-1]
    return f"{_head(url, room - cells(tail))}...{tail}"


def shorten(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` cells, its end replaced by ``...``."""
    if cells(text) <= width:
        return text
    return _head(text, width - 3) + "..." if width > 3 else _head(text, width)


def column(text: str, width: int) -> str:
    """Return ``text`` in exactly ``width`` cells, left-aligned."""
    text = fit(text, width)
    return text + " " * (width - cells(text))


def clip(line: Line, width: int) -> Line:
    """Return what fits of ``line`` into ``width`` cells, without blanks at its end."""
    clipped: Line = []
    for text, style in line:
        kept = _head(text, width)
        clipped.append((kept, style))
        if kept != text:
            break
        width -= cells(kept)
    while clipped and not clipped[-1][0].rstrip():
        clipped.pop()
    if clipped:
        text, style = clipped[-1]
        clipped[-1] = (text.rstrip(), style)
    return clipped


def plain(line: Line) -> str:
    """Return the line's text."""
    return "".join(text for text, _ in line)


def styled(lines: Iterable[Line]) -> "Text":
    """Return the lines as one Rich text, which takes nothing in them for markup."""
    from rich.text import Text  # noqa: PLC0415

    return Text("\n").join(Text.assemble(*line) for line in lines)


def painter(*, color: bool) -> Callable[[Line], str]:
    """Return what turns a line into text with the terminal's control functions for its styles; without, if not ``color``."""
    from rich.color import ColorSystem  # noqa: PLC0415
    from rich.style import Style  # noqa: PLC0415

    system = ColorSystem.STANDARD if color else None
    styles = {PLAIN: Style.null(), DIM: Style(dim=True), RED: Style(color="red")}
    return lambda line: "".join(styles[style].render(text, color_system=system) for text, style in line)


def _head(text: str, width: int) -> str:
    if cells(text) <= width:
        return text
    if text.isascii():
        return text[: max(0, width)]
    end = 0
    for end, character in enumerate(text):  # noqa: B007 - the first index that no longer fits
        width -= cells(character)
        if width < 0:
            break
    return text[:end]
