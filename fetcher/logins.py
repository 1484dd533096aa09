"""L1: what proves to a server who asks: Basic (RFC 7617), and Digest (RFC 7616), which answers a challenge."""

import hashlib
import re
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from fetcher.access import NOBODY, Access, Auth
from fetcher.model import Headers, Request
from fetcher.urls import host_of

#: Challenges that are remembered, one an origin, so that the next request there answers before it is asked.
_REMEMBERED: Final = 1_000
#: The longest field with challenges that is read.
_LONGEST: Final = 8_192

_HASHES: Final[Mapping[str, Callable[[bytes], "hashlib._Hash"]]] = {
    "sha-256": hashlib.sha256,
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False),
}
#: A challenge's scheme, or one of its parameters (RFC 9110 section 11.6.1).
_PIECE: Final = re.compile(
    r"""[\s,]*+ (?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]++)
        (?: \s*+ = \s*+ (?: "(?P<quoted>(?:[^"\\]|\\.)*+)" | (?P<token>[^\s,"=]++) ) )?""",
    re.VERBOSE,
)
#: What some schemes have in place of parameters.
_TOKEN68: Final = re.compile(r"[\sA-Za-z0-9._~+/-]*=*\s*(?=,|\Z)")


@dataclass(slots=True)
class Challenge:
    """What a server wants answered, and how often it was: each answer to it has another number."""

    realm: str
    nonce: str
    opaque: str | None
    algorithm: str | None
    #: Whether the answer is bound to its number (``qop=auth``), which servers of 1996 do not know.
    counted: bool
    answers: int = 0

    def answer(self, who: tuple[bytes, bytes], uri: str, cnonce: str) -> str:
        """Return the Authorization field's value for a GET of ``uri``, path and query as they are sent."""
        self.answers += 1
        user, password = who
        algorithm = (self.algorithm or "MD5").lower()
        digest = _HASHES[algorithm.removesuffix("-sess")]

        def hashed(*parts: str | bytes) -> str:
            return digest(b":".join(part.encode() if isinstance(part, str) else part for part in parts)).hexdigest()

        secret = hashed(user, self.realm, password)
        if algorithm.endswith("-sess"):
            secret = hashed(secret, self.nonce, cnonce)
        count = f"{self.answers:08x}"
        bound = (count, cnonce, "auth") if self.counted else ()
        fields = [
            _user(user),
            f"realm={_quoted(self.realm)}",
            f"nonce={_quoted(self.nonce)}",
            f'uri="{uri}"',
            f'response="{hashed(secret, self.nonce, *bound, hashed("GET", uri))}"',
        ]
        if self.algorithm is not None:
            fields.append(f"algorithm={self.algorithm}")
        if self.opaque is not None:
            fields.append(f"opaque={_quoted(self.opaque)}")
        if self.counted:
            fields.append(f"qop=auth, nc={count}")
        if self.counted or algorithm.endswith("-sess"):
            fields.append(f'cnonce="{cnonce}"')
        return f"Digest {', '.join(fields)}"


class Logins:
    """Finds out with which name and password a request goes, and says so as the server wants it.

    ``entropy`` is what nobody else knows, for numbers that are used once.
    """

    def __init__(self, access: Access = NOBODY, entropy: bytes = b"") -> None:
        self._digest = access.auth is Auth.DIGEST
        self._entropy = entropy
        self._used = 0
        self._of_host: dict[str | None, tuple[bytes, bytes]] = {}
        self._passwords: dict[tuple[str | None, bytes], bytes] = {}
        for login in access.logins:
            user, password = login.user.encode(), login.password.encode()
            self._of_host.setdefault(login.host, (user, password))
            self._passwords.setdefault((login.host, user), password)
        self._challenges: OrderedDict[str, Challenge] = OrderedDict()

    def field(self, request: Request, url: str, challenge: Challenge | None = None) -> str | None:
        """Return the Authorization field's value for one hop within the URL's origin; None if there is none.

        It answers ``challenge``, or else the last one of that origin. With Digest, nothing is said before that.
        """
        who = self._who(request)
        if who is None:
            return None
        if not self._digest:
            return "Basic " + b64encode(b":".join(who)).decode("ascii")
        origin, uri = _split(url)
        challenge = challenge or self._challenges.get(origin)
        return None if challenge is None else challenge.answer(who, uri, self._once())

    def challenge(self, request: Request, url: str, headers: Headers) -> Challenge | None:
        """Return what the answer 401 from ``url`` asks, if there is something to say to it, and remember it."""
        if not self._digest or self._who(request) is None:
            return None
        found = challenges(value for name, value in headers if name == "www-authenticate")
        if not found:
            return None
        best = next((each for each in found if _is_strong(each)), found[0])
        origin, _ = _split(url)
        self._challenges[origin] = best
        self._challenges.move_to_end(origin)
        if len(self._challenges) > _REMEMBERED:
            self._challenges.popitem(last=False)
        return best

    def _who(self, request: Request) -> tuple[bytes, bytes] | None:
        """Return name and password, which are percent-encoded in a URL; for a name alone, what is known of it."""
        if not self._of_host and request.userinfo is None:
            return None  # as for most lists
        places = (request.host, host_of(request.host), None)
        if request.userinfo is None:
            return next((self._of_host[place] for place in places if place in self._of_host), None)
        name, colon, password = request.userinfo.partition(":")
        user = unquote_to_bytes(name)
        if colon:
            return user, unquote_to_bytes(password)
        known = ((place, user) for place in places)
        return user, next((self._passwords[each] for each in known if each in self._passwords), b"")

    def _once(self) -> str:
        self._used += 1
        return hashlib.blake2b(self._used.to_bytes(8, "big"), key=self._entropy, digest_size=16).hexdigest()


def challenges(values: Iterable[str]) -> list[Challenge]:
    """Return the Digest challenges of WWW-Authenticate fields that can be answered, in order; the rest is passed over."""
    found = []
    for value in values:
        for scheme, given in _schemes(value[:_LONGEST]):
            algorithm, qop = given.get("algorithm"), given.get("qop")
            known = (algorithm or "md5").lower().removesuffix("-sess") in _HASHES
            counted = qop is not None and "auth" in re.split(r"[\s,]+", qop.lower())
            if scheme == "digest" and known and "realm" in given and "nonce" in given and (counted or not qop):
                found.append(Challenge(given["realm"], given["nonce"], given.get("opaque"), algorithm, counted))
    return found


def _schemes(value: str) -> list[tuple[str, dict[str, str]]]:
    """Return each scheme, in lower case, and its parameters, of which the first of a name counts."""
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while (piece := _PIECE.match(value, position)) is not None:
        position = piece.end()
        name, quoted, token = piece["name"].lower(), piece["quoted"], piece["token"]
        if quoted is None and token is None:
            found.append((name, {}))
            if (other := _TOKEN68.match(value, position)) is not None:
                position = other.end()
        elif found:
            found[-1][1].setdefault(name, token if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
    return found


def _is_strong(challenge: Challenge) -> bool:
    return (challenge.algorithm or "").lower().startswith("sha-256")


def _split(url: str) -> tuple[str, str]:
    """Return a URL's origin, and its path and query."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority}", slash + path


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _user(user: bytes) -> str:
    """Return the user's name as a parameter; one that is not ASCII in the way of RFC 8187."""
    if user.isascii():
        return f"username={_quoted(user.decode('ascii'))}"
    return f"username*=UTF-8''{quote_from_bytes(user, safe='')}"
