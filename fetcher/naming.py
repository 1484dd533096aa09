"""L1: URL and response facts become a safe relative path, and no two URLs get the same one."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256 as sha256_of
from itertools import chain, count
from typing import Final
from unicodedata import normalize

from fetcher.errors import UsageError
from fetcher.mediatypes import extension
from fetcher.model import Request

#: The owner of what no run has made.
_NOBODY: Final = "\0"

#: The folder in the output directory that no URL may name.
STATE_DIRECTORY: Final = ".fetcher"

#: Bytes of UTF-8. A cut part and a collision add 9 each, so every part stays within the 255 of common file systems.
_MAX_PART: Final = 200
_MAX_PATH: Final = 1000
#: A path whose folders got so many marks that it is longer than this is collapsed too; systems take 4,096 in all.
_MAX_MARKED: Final = 1500

_MAX_QUERY: Final = 60
_SAFE_QUERY: Final = re.compile(r"[A-Za-z0-9._~=&,+%-]*")
_ESCAPES: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_EXTENSION: Final = re.compile(r"(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,10}")

_FORBIDDEN: Final = frozenset(':*?"<>|\\/')
_DEVICE: Final = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])(?= *(?:\.|\Z))", re.IGNORECASE)
_EDGES: Final = re.compile(r"\A\.+\Z|\A[~-]|[. ]\Z")
#: Parts that are safe at first sight: most of them, at a third of the cost.
_PLAIN: Final = re.compile(
    rf"(?!{_DEVICE.pattern})[\w%@=+](?:[\w%@=&,+~ .-]{{0,{_MAX_PART - 2}}}[\w%@=&,+~-])?", re.ASCII | re.IGNORECASE
)


def _digest(text: str) -> str:
    return sha256_of(text.encode("utf-8", "surrogatepass")).hexdigest()


def _quote(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


def _is_safe(char: str) -> bool:
    return char.isprintable() and char not in _FORBIDDEN


def _decode(text: str) -> str:
    """Undo percent-escapes (RFC 3986 section 2.1) that stand for safe, printable UTF-8.

    An escaped slash or percent sign stays, or it could not be told from a separator or an escape.
    """
    return _ESCAPES.sub(_decode_run, text) if "%" in text else text


def _decode_run(match: re.Match[str]) -> str:
    try:
        text = bytes.fromhex(match[0].replace("%", "")).decode()
    except UnicodeDecodeError:
        return match[0].upper()
    return "".join(char if _is_safe(char) and char != "%" else _quote(char) for char in text)


def _safe_part(part: str) -> str:
    """Return one non-empty part of a path as a name that every common file system takes.

    Not empty, not dots alone, in NFC, at most 209 bytes; a safe part of up to 200 comes back as it is.
    """
    if _PLAIN.fullmatch(part):
        return part
    part = "".join(char if _is_safe(char) else _quote(char) for char in part)
    if _DEVICE.match(part):
        part = _quote(part[0]) + part[1:]
    part = _EDGES.sub(lambda match: _quote(match[0]), part)
    # Last, since a combining mark may now follow the last letter of an escape.
    part = normalize("NFC", part)
    if len(part.encode()) <= _MAX_PART:
        return part
    stem, suffix = _split_extension(part)
    kept = stem.encode()[: _MAX_PART - len(suffix)].decode(errors="ignore")
    return f"{kept}~{_digest(part)[:8]}{suffix}"


def _split_extension(name: str) -> tuple[str, str]:
    """Return stem and extension, with its dot: 1 to 10 ASCII letters and digits, not digits alone (``v1.2``)."""
    stem, _, suffix = name.rpartition(".")
    if stem and _EXTENSION.fullmatch(suffix):
        return stem, "." + suffix
    return name, ""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a name can be made of. Only ``folder`` has slashes."""

    request: Request
    folder: str
    stem: str
    extension: str
    query: str
    sha256: str
    date: str

    @classmethod
    def of(cls, request: Request, content_type: str | None, sha256: str, date: str) -> "_Facts":
        """Take the target apart by hand: it need not be a URL that a parser accepts."""
        rest, _, query = request.target.partition("#")[0].partition("?")
        _, found, after = rest.partition("://")
        path = after.partition("/")[2] if found else rest
        *folders, last = map(_decode, path.split("/"))
        stem, suffix = _split_extension(last) if last else ("index", ".html")
        if not suffix and content_type is not None:
            suffix = extension(content_type)
        if len(query) > _MAX_QUERY or not _SAFE_QUERY.fullmatch(query):
            query = _digest(query)[:8]
        return cls(request, "/".join(folders), stem, suffix, query, sha256, date)

    @property
    def host(self) -> str:
        """``host_port``, and an IPv6 address with dashes: no colons."""
        address, bracket, rest = self.request.host.replace("/", "%2F").rpartition("]")
        return address.replace(":", "-") + bracket + rest.replace(":", "_")

    @property
    def path(self) -> str:
        """The URL's whole path, its last part with query and extension."""
        slash = "/" if self.folder else ""
        mark = "@" if self.query else ""
        return f"{self.folder}{slash}{self.stem}{mark}{self.query}{self.extension}"


_FIELDS: Final[dict[str, Callable[[_Facts], str]]] = {
    "host": lambda facts: facts.host,
    "path": lambda facts: facts.path,
    "dir": lambda facts: facts.folder,
    "stem": lambda facts: facts.stem,
    "ext": lambda facts: facts.extension,
    "query": lambda facts: facts.query,
    "n": lambda facts: str(facts.request.index + 1),
    "line": lambda facts: str(facts.request.line),
    "id": lambda _: "",
    "sha256": lambda facts: facts.sha256,
    "urlhash": lambda facts: _digest(facts.request.target),
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
    """How files are named. ``needs_body``: the name is known only when the body is whole, since it tells its digest."""

    pieces: tuple[str | _Field, ...]
    needs_body: bool

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
        return cls(tuple(pieces), any(isinstance(piece, _Field) and piece.name == "sha256" for piece in pieces))

    def name(self, request: Request, content_type: str | None, sha256: str | None, date: str) -> str:
        """Return the file's path relative to the output directory, with ``/``, whatever the URL holds.

        It never leaves that directory, nor enters its state; it is at most 1000 bytes of UTF-8, each part at most 209.
        A ``content_type`` of None adds no extension; ``date`` is the run's, ``YYYY-MM-DD``.
        Raises ValueError if ``needs_body`` and ``sha256`` is None.
        """
        if self.needs_body and sha256 is None:
            raise ValueError("the name depends on the body's digest")
        facts = _Facts.of(request, content_type, sha256 or "", date)
        text = "".join(piece if isinstance(piece, str) else piece.render(facts) for piece in self.pieces)
        parts = [_safe_part(part) for part in text.split("/") if part]
        if not parts:
            return _digest(request.target)[:16]
        if _folded(parts[0]) == STATE_DIRECTORY:
            parts[0] = _quote(".") + parts[0][1:]
        path = "/".join(parts)
        if len(path.encode()) <= _MAX_PATH:
            return path
        return f"{parts[0]}/{_digest(request.target)[:16]}{_split_extension(parts[-1])[1]}"


def _folded(path: str) -> str:
    """Return the key that is equal for names a disk may take for one (Unicode 3.13, canonical caseless matching)."""
    if path.isascii():
        return path.lower()
    return normalize("NFD", normalize("NFD", path).casefold())


def _variants(stem: str, suffix: str, seed: str) -> Iterator[str]:
    """Yield other names, the same ones for the same seed: ``stem~0a1b2c3d.html``, endlessly."""
    for number in count(1):
        yield f"{stem}~{_digest(seed if number == 1 else f'{seed} {number}')[:8]}{suffix}"


class Names:
    """Remembers which owner has which name, so that no two share one, not even on a case-blind or NFD disk.

    No name is both a file and a folder. The owner is the URL; for a template that ``needs_body`` give the
    body's SHA-256 instead, and equal content gets one name, that is, one file.

    A name costs two integers: paths and owners are kept as Python's 64-bit string hashes, which are keyed
    anew in each process, so that no list can aim at a clash; the complement marks what an earlier run has given.
    """

    def __init__(self) -> None:
        self._files: dict[int, int] = {}
        self._folders: set[int] = set()

    def claim(self, path: str, owner: str) -> str:
        """Return ``path`` if it is free or the owner's, else a variant of it that is: ``a~0a1b2c3d.html``.

        A folder of that path which is another's file becomes ``folder~0a1b2c3d``, for everything below it.
        Asking again gives the same name, as does a later run that was told this one by :meth:`remember`; only where
        a list holds the variant itself as a URL must that run remember its owner too.
        """
        path = self._below_folders(path)
        if len(path.encode()) > _MAX_MARKED:
            path = f"{path.partition('/')[0]}/{_digest(owner)[:16]}{_split_extension(path)[1]}"
        folder, slash, last = path.rpartition("/")
        stem, suffix = _split_extension(last)
        variants = _variants(folder + slash + stem, suffix, owner)
        first = next(variants)
        if self._owns(first, owner) and not self._owns(path, owner):
            return first
        return next(name for name in chain((path, first), variants) if self._take(name, owner))

    def remember(self, path: str, owner: str) -> None:
        """Record that an earlier run gave ``path`` to ``owner``."""
        self._put(_folded(path), ~hash(owner))

    def remembers(self, path: str, owner: str) -> bool:
        """Tell whether an earlier run gave ``path`` to ``owner``."""
        return self._files.get(hash(_folded(path))) == ~hash(owner)

    def avoid(self, path: str) -> None:
        """Record that nobody may have ``path``, nor anything below it."""
        self._folders.discard(hash(_folded(path)))
        self._put(_folded(path), hash(_NOBODY))

    def _below_folders(self, path: str) -> str:
        """Return ``path`` with every folder that is a file replaced by its variant.

        A variant in use stays in use although this run has not met the file: an earlier one has.
        """
        folder, slash, last = path.rpartition("/")
        if not slash:
            return path
        placed = ""
        for part in folder.split("/"):
            plain = placed + part
            if not self._is_folder(plain):
                variants = _variants(plain, "", _folded(plain))
                first = next(variants)
                if self._is_folder(first):
                    plain = first
                elif self._is_file(plain):
                    plain = next(name for name in chain((first,), variants) if not self._is_file(name))
            placed = plain + "/"
        return placed + last

    def _take(self, path: str, owner: str) -> bool:
        if self._is_folder(path) or self._is_file(path):
            return self._owns(path, owner)
        self._put(_folded(path), hash(owner))
        return True

    def _is_folder(self, path: str) -> bool:
        return hash(_folded(path)) in self._folders

    def _is_file(self, path: str) -> bool:
        return hash(_folded(path)) in self._files

    def _owns(self, path: str, owner: str) -> bool:
        return self._files.get(hash(_folded(path))) in (hash(owner), ~hash(owner))

    def _put(self, key: str, mark: int) -> None:
        self._files[hash(key)] = mark
        while (key := key.rpartition("/")[0]) and hash(key) not in self._folders:
            self._folders.add(hash(key))
