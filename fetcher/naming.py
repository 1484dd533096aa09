"""L1: URL and response facts become a safe relative path, and no two URLs get the same one."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, count
from typing import Final

from fetcher.errors import UsageError
from fetcher.hashtable import HashTable, hash64
from fetcher.mediatypes import extension
from fetcher.model import Request
from fetcher.paths import CLEAN_PART, MAX_PART, decode, digest, folded, quote, safe_part, split_extension

#: The owner of what no run has made.
_NOBODY: Final = "\0"

#: The folder in the output directory that no URL may name.
STATE_DIRECTORY: Final = ".fetcher"

#: Bytes of UTF-8.
_MAX_PATH: Final = 1000
#: A path whose folders got so many marks that it is longer than this is collapsed too; systems take 4,096 in all.
_MAX_MARKED: Final = 1500

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
        *folders, last = map(decode, path.split("/"))
        stem, suffix = split_extension(last) if last else ("index", ".html")
        if not suffix and content_type is not None:
            suffix = extension(content_type)
        if len(query) > _MAX_QUERY or not _SAFE_QUERY.fullmatch(query):
            query = digest(query)[:8]
        return cls(request, "/".join(folders), stem, suffix, query, sha256, date)

    @property
    def path(self) -> str:
        """The URL's whole path, its last part with query and extension."""
        slash = "/" if self.folder else ""
        mark = "@" if self.query else ""
        return f"{self.folder}{slash}{self.stem}{mark}{self.query}{self.extension}"


_FIELDS: Final[dict[str, Callable[[_Facts], str]]] = {
    "host": lambda facts: _host(facts.request.host),
    "path": lambda facts: facts.path,
    "dir": lambda facts: facts.folder,
    "stem": lambda facts: facts.stem,
    "ext": lambda facts: facts.extension,
    "query": lambda facts: facts.query,
    "n": lambda facts: str(facts.request.index + 1),
    "line": lambda facts: str(facts.request.line),
    "id": lambda _: "",
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
    """How files are named. ``needs_body``: the name is known only when the body is whole, since it tells its digest."""

    pieces: tuple[str | _Field, ...]
    needs_body: bool
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
        needs_body = any(isinstance(piece, _Field) and piece.name == "sha256" for piece in pieces)
        return cls(tuple(pieces), needs_body, pieces == [_Field("host", 0), "/", _Field("path", 0)])

    def name(self, request: Request, content_type: str | None, sha256: str | None, date: str) -> str:
        """Return the file's path relative to the output directory, with ``/``, whatever the URL holds.

        It never leaves that directory, nor enters its state; it is at most 1000 bytes of UTF-8, each part at most 209.
        A ``content_type`` of None adds no extension; ``date`` is the run's, ``YYYY-MM-DD``.
        Raises ValueError if ``needs_body`` and ``sha256`` is None.
        """
        if self.is_default and (path := _clean_name(request, content_type)) is not None:
            return path
        if self.needs_body and sha256 is None:
            raise ValueError("the name depends on the body's digest")
        return self._name(request, content_type, sha256, date)

    def _name(self, request: Request, content_type: str | None, sha256: str | None, date: str) -> str:
        facts = _Facts.of(request, content_type, sha256 or "", date)
        text = "".join(piece if isinstance(piece, str) else piece.render(facts) for piece in self.pieces)
        parts = [safe_part(part) for part in text.split("/") if part]
        if not parts:
            return digest(request.target)[:16]
        parts[0] = _first_part(parts[0])
        path = "/".join(parts)
        if len(path.encode()) <= _MAX_PATH:
            return path
        return f"{parts[0]}/{digest(request.target)[:16]}{split_extension(parts[-1])[1]}"


def _variants(stem: str, suffix: str, seed: str) -> Iterator[str]:
    """Yield other names, the same ones for the same seed: ``stem~0a1b2c3d.html``, endlessly."""
    for number in count(1):
        yield f"{stem}~{digest(seed if number == 1 else f'{seed} {number}')[:8]}{suffix}"


#: What is known of a path: whether it is a folder, whose file it is and if an earlier run has made that, or, as long as
#: it is neither, that a variant of it can be in use.
_FOLDER: Final = 1
_EARLIER: Final = 2
_VARIED: Final = 4
_OWNER: Final = (1 << 64) - 8

_LATELY: Final = 1024

#: The mark of a variant of a file or folder, in a folded path.
_VARIANT: Final = re.compile(r"~[0-9a-f]{8}(?=(?:\.[a-z0-9]{1,10})?\Z)")


def _mark(owner: str) -> int:
    return hash64(owner) & _OWNER or 8


class Names:
    """Remembers which owner has which name, so that no two share one, not even on a case-blind or NFD disk.

    No name is both a file and a folder. The owner is the URL; for a template that ``needs_body`` give the
    body's SHA-256 instead, and equal content gets one name, that is, one file.

    A name costs about 17 bytes, and so does a folder: paths are kept as Python's 64-bit string hashes, owners as the
    first 61 bits of them; those are keyed anew in each process, so that no list can aim at a clash.
    """

    def __init__(self) -> None:
        self._facts = HashTable(64)
        self._remembering = False
        self._nested = True  # whether all that a folder lies in are folders
        self._lately: set[str] = set()  # folders, so that few are looked up again and again

    def claim(self, path: str, owner: str) -> str:
        """Return ``path`` if it is free or the owner's, else a variant of it that is: ``a~0a1b2c3d.html``.

        A folder of that path which is another's file becomes ``folder~0a1b2c3d``, for everything below it.
        Asking again gives the same name, as does a later run that was told this one by :meth:`remember`; only where
        a list holds the variant itself as a URL must that run remember its owner too.
        """
        # Most names are new, in a folder that is known.
        key = folded(path)
        folder = key.rpartition("/")[0]
        if self._nested and len(path) <= _MAX_MARKED // 4 and (not folder or self._is_folder(folder)):
            mark = _mark(owner)
            facts = self._facts.add(hash64(key), mark)
            if facts is None:
                self._note_variant(key)
                return path
            if facts & _OWNER == mark:
                return path
        return self._claim(path, owner)

    def remember(self, path: str, owner: str) -> None:
        """Record that an earlier run gave ``path`` to ``owner``."""
        self._remembering = True
        self._put(folded(path), _mark(owner) | _EARLIER)

    def remembers(self, path: str, owner: str) -> bool:
        """Tell whether an earlier run gave ``path`` to ``owner``."""
        return self._remembering and self._get(folded(path)) & (_OWNER | _EARLIER) == _mark(owner) | _EARLIER

    def avoid(self, path: str) -> None:
        """Record that nobody may have ``path``, nor anything below it."""
        key = folded(path)
        facts = self._get(key)
        if facts & _FOLDER:
            self._nested = False
            self._lately.clear()
            self._facts.set(hash64(key), facts & ~_FOLDER)
        self._put(key, _mark(_NOBODY))

    def _claim(self, path: str, owner: str) -> str:
        path = self._below_folders(path)
        if len(path.encode()) > _MAX_MARKED:
            path = f"{path.partition('/')[0]}/{digest(owner)[:16]}{split_extension(path)[1]}"
        folder, slash, last = path.rpartition("/")
        stem, suffix = split_extension(last)
        variants = _variants(folder + slash + stem, suffix, owner)
        if self._get(folded(path)) == _VARIED:
            first = next(variants)
            if self._owns(first, owner):
                return first
            variants = chain((first,), variants)
        return next(name for name in chain((path,), variants) if self._take(name, owner))

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
            key = folded(plain)
            facts = self._get(key)
            if facts and not facts & _FOLDER:
                variants = _variants(plain, "", key)
                first = next(variants)
                if self._get(folded(first)) & _FOLDER:
                    plain = first
                elif facts & _OWNER:
                    plain = next(name for name in chain((first,), variants) if not self._get(folded(name)) & _OWNER)
            placed = plain + "/"
        return placed + last

    def _take(self, path: str, owner: str) -> bool:
        key = folded(path)
        if self._get(key) & (_FOLDER | _OWNER):
            return self._owns(path, owner)
        self._put(key, _mark(owner))
        return True

    def _owns(self, path: str, owner: str) -> bool:
        return self._get(folded(path)) & _OWNER == _mark(owner)

    def _put(self, key: str, mark: int) -> None:
        place = hash64(key)
        facts = self._facts.add(place, mark)
        if facts is not None:
            self._facts.set(place, facts & _FOLDER | mark)
        self._note_variant(key)
        while (key := key.rpartition("/")[0]) and not self._is_folder(key):
            self._facts.set(hash64(key), self._get(key) | _FOLDER)
            self._note_variant(key)

    def _is_folder(self, key: str) -> bool:
        if key in self._lately:
            return True
        if not self._get(key) & _FOLDER:
            return False
        if len(self._lately) >= _LATELY:
            self._lately.clear()
        self._lately.add(key)
        return True

    def _note_variant(self, key: str) -> None:
        """If this can be the first variant of a path, note with that path that it has one."""
        if "~" in key and (varied := _VARIANT.sub("", key)) != key:
            self._facts.set(hash64(varied), self._get(varied) | _VARIED)

    def _get(self, key: str) -> int:
        return self._facts.get(hash64(key)) or 0
