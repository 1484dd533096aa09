"""L1: URL and response facts become a safe relative path."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from fetcher.disposition import filename
from fetcher.errors import UsageError
from fetcher.mediatypes import extension
from fetcher.model import Request
from fetcher.paths import CLEAN_PART, MAX_PART, decode, digest, folded, quote, safe_part, split_extension

#: The folder in the output directory that no URL may name.
STATE_DIRECTORY: Final = ".fetcher"
#: Where archives grow.
OPEN: Final = f"{STATE_DIRECTORY}/open"
#: Where other machines put bodies together, and tell of them.
PARTS: Final = f"{STATE_DIRECTORY}/parts"

#: Bytes of UTF-8.
_MAX_PATH: Final = 1000

#: In characters, of which a host's folder can have some that take four bytes.
_MAX_CLEAN: Final = _MAX_PATH - 3 * MAX_PART

_MAX_QUERY: Final = 60
_SAFE_QUERY: Final = re.compile(r"[A-Za-z0-9._~=&,+%-]*")
#: Targets whose default name is safe at first sight: folders, last part and query need neither decoding nor escaping.
_CLEAN_TARGET: Final = re.compile(
    rf"https?://[^/?#]*/((?:{CLEAN_PART}/)*)((?:{CLEAN_PART})?)(?:\?([A-Za-z0-9._~=&,+%-]{{0,{_MAX_QUERY}}}))?"
)


def _host(host: str) -> str:
    """Return ``host_port``, and an IPv6 address with dashes: no colons, no slashes."""
    address, bracket, rest = host.replace("/", "%2F").rpartition("]")
    return address.replace(":", "-") + bracket + rest.replace(":", "_")


@lru_cache(maxsize=4096)
def _host_folder(host: str) -> str:
    """Return the first part of a default name with its slash. A list has far fewer hosts than lines."""
    return _first_part(safe_part(_host(host))) + "/" if host else ""


def _first_part(part: str) -> str:
    """Keep clear of the folder of our own state."""
    return quote(".") + part[1:] if folded(part) == STATE_DIRECTORY else part


def _clean_name(request: Request, content_type: str | None) -> str | None:
    """Return the default name of a request whose target is clean, None of any other: most names, at a third of the cost."""
    clean = _CLEAN_TARGET.fullmatch(request.target)
    if clean is None:
        return None
    folders, last, query = clean.groups()
    stem, suffix = split_extension(last) if last else ("index", ".html")
    if not suffix and content_type is not None:
        suffix = extension(content_type)
    last = f"{stem}@{query}{suffix}" if query else stem + suffix
    path = _host_folder(request.host) + folders + last
    # The query may end in a dot.
    return path if len(last) <= MAX_PART and len(path) <= _MAX_CLEAN and last[-1] != "." else None


class Told(NamedTuple):
    """What an answer says that its file is called by: the media type, which may add an extension, and a proposed name."""

    content_type: str | None = None
    disposition: str | None = None


def _own_name(request: Request) -> str | None:
    """Return the name that the list gives the file."""
    return None if request.details is None else request.details.name


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a name can be made of. Only ``folder`` has slashes."""

    request: Request
    folder: str
    stem: str
    extension: str
    query: str
    told: "Told"
    sha256: str
    date: str

    @classmethod
    def of(cls, request: Request, told: "Told", sha256: str, date: str) -> "_Facts":
        """Take the target apart by hand: it need not be a URL that a parser accepts."""
        rest, _, query = request.target.partition("#")[0].partition("?")
        _, found, after = rest.partition("://")
        path = after.partition("/")[2] if found else rest
        *folders, last = map(decode, path.split("/"))
        stem, suffix = split_extension(last) if last else ("index", ".html")
        if not suffix and told.content_type is not None:
            suffix = extension(told.content_type)
        if len(query) > _MAX_QUERY or not _SAFE_QUERY.fullmatch(query):
            query = digest(query)[:8]
        return cls(request, "/".join(folders), stem, suffix, query, told, sha256, date)

    @property
    def path(self) -> str:
        """The URL's whole path, its last part with query and extension."""
        slash = "/" if self.folder else ""
        return f"{self.folder}{slash}{self.last}"

    @property
    def last(self) -> str:
        """The last part of the URL's path, with query and extension."""
        mark = "@" if self.query else ""
        return f"{self.stem}{mark}{self.query}{self.extension}"

    @property
    def filename(self) -> str:
        """What the server calls the file; the last part of the URL's path if it does not say."""
        return filename(self.told.disposition) or self.last

    @property
    def id(self) -> str:
        """What the list calls the row, as one part of a path; empty if it does not say."""
        details = self.request.details
        return "" if details is None or details.id is None else details.id.replace("/", quote("/"))


_FIELDS: Final[dict[str, Callable[[_Facts], str]]] = {
    "host": lambda facts: _host(facts.request.host),
    "path": lambda facts: facts.path,
    "dir": lambda facts: facts.folder,
    "stem": lambda facts: facts.stem,
    "ext": lambda facts: facts.extension,
    "query": lambda facts: facts.query,
    "n": lambda facts: str(facts.request.index + 1),
    "line": lambda facts: str(facts.request.line),
    "id": lambda facts: facts.id,
    "filename": lambda facts: facts.filename,
    "sha256": lambda facts: facts.sha256,
    "urlhash": lambda facts: digest(facts.request.target),
    "date": lambda facts: facts.date,
}
#: The format specs by field: zero-padded to a width, cut to a number of hex digits.
_SPECS: Final = {
    **dict.fromkeys(("n", "line"), re.compile(r"0([1-9][0-9]?)")),
    **dict.fromkeys(("sha256", "urlhash"), re.compile(r"\.([1-9][0-9]?)")),
}
_FIELD: Final = re.compile(r"(\{[^{}]*\})")


@dataclass(frozen=True, slots=True)
class _Field:
    """A field in a template; ``size`` is the number in its format spec, 0 without one."""

    name: str
    size: int

    @classmethod
    def parse(cls, text: str) -> "_Field":
        """Read ``{name}`` or ``{name:spec}``. Raises UsageError."""
        name, colon, spec = text[1:-1].partition(":")
        if name not in _FIELDS:
            raise _bad(f"there is no field {text}")
        if not colon:
            return cls(name, 0)
        match = _SPECS[name].fullmatch(spec) if name in _SPECS else None
        if match is None:
            raise _bad(f"{text} has a format that is neither a width ({{n:06}}) nor a length ({{urlhash:.2}})")
        return cls(name, int(match[1]))

    def render(self, facts: _Facts) -> str:
        """Return the field's value."""
        value = _FIELDS[self.name](facts)
        if not self.size:
            return value
        return value.zfill(self.size) if self.name in {"n", "line"} else value[: self.size]


def _bad(reason: str) -> UsageError:
    fields = " ".join(f"{{{name}:06}}" if name == "n" else f"{{{name}}}" for name in _FIELDS)
    return UsageError(f"--name: {reason}; the fields are {fields}")


@dataclass(frozen=True, slots=True)
class Template:
    """How files are named.

    ``needs_body``: the name is known only when the body is whole, since it tells its digest; ``needs_head``: only when
    there is an answer, since it tells what the server calls the file.
    """

    pieces: tuple[str | _Field, ...]
    needs_body: bool
    needs_head: bool
    is_default: bool

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Read a template such as ``{host}/{path}``.

        Raises UsageError for unknown fields and formats, and for a path that is empty, absolute, a folder or goes up.
        """
        pieces: list[str | _Field] = []
        for piece in filter(None, _FIELD.split(text)):
            if _FIELD.fullmatch(piece):
                pieces.append(_Field.parse(piece))
            elif "{" in piece or "}" in piece:
                raise _bad(f"a brace without its partner in {text}")
            else:
                pieces.append(piece)
        if not text.strip():
            raise _bad("the template is empty")
        if text.startswith("/"):
            raise _bad(f"{text} is an absolute path")
        if text.endswith("/"):
            raise _bad(f"{text} names a folder, not a file")
        if {".", ".."}.intersection(text.split("/")):
            raise _bad(f"{text} has a part that is . or ..")
        fields = {piece.name for piece in pieces if isinstance(piece, _Field)}
        return cls(
            tuple(pieces),
            "sha256" in fields,
            "filename" in fields,
            pieces == [_Field("host", 0), "/", _Field("path", 0)],
        )

    def foresees(self, request: Request) -> bool:
        """Tell whether the name of a body is known before it is asked for, but for an extension."""
        return _own_name(request) is not None or not (self.needs_body or self.needs_head)

    def name(self, request: Request, told: Told, sha256: str | None, date: str) -> str:
        """Return the file's path relative to the output directory, with ``/``, whatever the URL holds.

        It never leaves that directory, nor enters its state; it is at most 1000 bytes of UTF-8, each part at most 209.
        A name in the list goes before the template. ``date`` is the run's, ``YYYY-MM-DD``.
        Raises ValueError if ``needs_body`` and ``sha256`` is None.
        """
        own = _own_name(request)
        if own is not None:
            return _path(request, own)
        if self.is_default and (path := _clean_name(request, told.content_type)) is not None:
            return path
        if self.needs_body and sha256 is None:
            raise ValueError("the name depends on the body's digest")
        return self._name(request, told, sha256, date)

    def _name(self, request: Request, told: Told, sha256: str | None, date: str) -> str:
        facts = _Facts.of(request, told, sha256 or "", date)
        return _path(request, "".join(each if isinstance(each, str) else each.render(facts) for each in self.pieces))


def _path(request: Request, text: str) -> str:
    """Return a text with slashes as a path that can be used."""
    parts = [safe_part(part) for part in text.split("/") if part]
    if not parts:
        return digest(request.target)[:16]
    parts[0] = _first_part(parts[0])
    path = "/".join(parts)
    if len(path.encode()) <= _MAX_PATH:
        return path
    return f"{parts[0]}/{digest(request.target)[:16]}{split_extension(parts[-1])[1]}"
