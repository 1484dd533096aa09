"""L1: what an origin's robots.txt lets us fetch (RFC 9309), and which requests wait to know it.

unknown --first request waits--> asked --its answer--> known --a day, or too many others known--> unknown
                                   | its host is down
                                   +--> unknown
"""

import re
from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from fetcher.errors import Error, ErrorKind, FetchError
from fetcher.frozen import value
from fetcher.model import Request
from fetcher.text import seconds_text
from fetcher.urls import Url, parse

if TYPE_CHECKING:
    from protego import Protego

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")

#: How many bytes of a robots.txt are heeded (section 2.5), and how many redirects to it are followed (section 2.3.1.2).
MOST_HEEDED: Final = 500 * 1024
MOST_HOPS: Final = 5
#: Seconds until an origin is asked again (section 2.4).
_FRESH: Final = 86_400.0
#: Characters of rules that are known at once, and those of them that are parsed, which takes up to 75 times the memory.
KNOWN: Final = 32 * 1024 * 1024
_PARSED: Final = 512 * 1024
#: What an origin takes that has no rules, as so many characters.
_BARE: Final = 400

#: The source of requests that no row of a list asked for.
_FILE: Final = "robots.txt"
#: Each rule with a wildcard is looked at for each URL, in 1.5 us; a file with very many is none that people wrote.
_WILDCARDS: Final = 5_000
#: What servers answer who do not want to be asked now; the other 4xx mean that there is no robots.txt.
_TOO_MANY: Final = "http.429"
#: A redirect that leads nowhere is like no robots.txt, too.
_NOWHERE: Final = frozenset({ErrorKind.REDIRECT_LIMIT, ErrorKind.REDIRECT_INVALID})

_TOKEN: Final = re.compile(r"[A-Za-z_-]+")
_AGENT: Final = re.compile(r"\s*user(?:-|\s*)agent(?:\s*:|\s)\s*([A-Za-z_-]+|\*(?=\s|#|$))?", re.IGNORECASE)
#: Of one group that is left, whom it was for makes no difference.
_ANYONE: Final = "*"
#: Rules as they are spelled, and misspelled.
_RULE: Final = re.compile(r"\s*(?:allow|d[ias]+l+[oa]w|crawl[\s-]*delay)\b", re.IGNORECASE)


def product_token(agent: str) -> str:
    """Return the name by which rules are meant for a User-Agent: ``fetcher`` for ``fetcher/1.0``; empty if it has none."""
    token = _TOKEN.match(agent)
    return token[0].lower() if token is not None else ""


def group(text: str, token: str) -> str:
    """Return the rules for a product token, of all groups with its name, or else of those for ``*`` (section 2.2.1).

    What a hostile file has for others is not parsed: rules for many names take memory for each name.
    """
    ours: list[str] = []
    anyones: list[str] = []
    named: set[str] = set()
    met, over = False, True
    for line in text.splitlines():
        agent = _AGENT.match(line)
        if agent is not None:
            if over:
                named, over = set(), False
            named.add((agent[1] or "").lower())
            met = met or token in named
        elif _RULE.match(line):
            over = True
            if token in named:
                ours.append(line)
            if "*" in named:
                anyones.append(line)
    return "\n".join(ours if met and token else anyones)


@value(frozen=True, slots=True)
class Rules:
    """What an origin said for our product token: the lines of its ``group``, or why there are none.

    With ``obstacle`` it has not said anything, and nothing is allowed; without lines everything is.
    """

    origin: str
    group: str = ""
    obstacle: str = ""
    absence: str = ""

    def words(self, delay: float) -> str:
        """Say what came of asking, for people."""
        if self.obstacle:
            return f"{self.obstacle}, so nothing is fetched from there"
        if self.absence:
            return f"{self.absence}, so everything is allowed"
        apart = f", {seconds_text(delay)} between requests" if delay else ""
        return ("obeyed" if self.group else "allows everything") + apart


def learned(origin: str, error: Error | None, body: bytes, token: str) -> "tuple[Rules, Protego | None]":
    """Return what the last attempt at an origin's robots.txt says (section 2.3.1), parsed too if there are rules.

    A file that is cut at the most that is heeded, which is the error ``too_large``, loses its last line if it is cut, too.
    This may take long.
    """
    if error is None or error.kind == ErrorKind.TOO_LARGE:
        if error is not None:
            body = body[: max(body.rfind(b"\n"), body.rfind(b"\r")) + 1]
        rules = Rules(origin, group(body.decode("utf-8-sig", "replace"), token))
        if rules.group.count("*") + rules.group.count("$") > _WILDCARDS:
            return Rules(origin, obstacle=f"more than {_WILDCARDS:,} wildcards"), None
        return rules, _parsed(rules.group) if rules.group else None
    if error.kind in _NOWHERE or (error.kind.startswith("http.4") and error.kind != _TOO_MANY):
        return Rules(origin, absence=error.message), None
    return Rules(origin, obstacle=error.message), None


def _parsed(lines: str) -> "Protego":
    from protego import Protego  # noqa: PLC0415  most runs ask nobody

    return Protego.parse(f"User-agent: *\n{lines}")


class Recent(Generic[_Key, _Value]):
    """Keeps the values used last, as many as weigh ``most`` together, and at least one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._weight = 0
        self._entries: OrderedDict[_Key, tuple[_Value, int]] = OrderedDict()

    def get(self, key: _Key) -> _Value | None:
        """Return the value, None if there is none or it was forgotten."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def items(self) -> list[tuple[_Key, _Value]]:
        """Return all that is kept."""
        return [(key, value) for key, (value, _) in self._entries.items()]

    def put(self, key: _Key, value: _Value, weight: int) -> None:
        """Keep a value, and forget others for it."""
        self.drop(key)
        self._entries[key] = value, weight
        self._weight += weight
        while self._weight > self._most and len(self._entries) > 1:
            self.drop(next(iter(self._entries)))

    def drop(self, key: _Key) -> None:
        """Forget a value."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._weight -= entry[1]


@value(frozen=True, slots=True)
class Ruling:
    """What is known of an origin, for others who ask it: with which errors asking has ``failed`` so far, or its rules.

    These hold ``until`` then, and keep requests ``apart`` by so many seconds.
    """

    origin: str
    failed: tuple[str, ...] = ()
    rules: Rules | None = None
    until: float = 0.0
    apart: float = 0.0

    @property
    def weight(self) -> int:
        """What it takes to remember it, as so many characters."""
        return _BARE + (0 if self.rules is None else len(self.rules.group))


class UnknownRules(Exception):  # noqa: N818  no error: somebody has to ask first
    """Whether a URL may be fetched depends on an origin that has not been asked."""

    def __init__(self, origin: str) -> None:
        super().__init__(origin)
        self.origin = origin


class Gate:
    """Lets through what robots.txt files allow to a ``token``; times are seconds on any clock, given as ``now``.

    A Crawl-delay beyond ``most_delay`` counts as that.
    """

    def __init__(self, token: str, most_delay: float) -> None:
        self.token = token
        self._most_delay = most_delay
        self._known: Recent[str, tuple[Rules, float]] = Recent(KNOWN)
        self._parsed: Recent[str, Protego] = Recent(_PARSED)
        self._waiting: dict[str, list[Request]] = {}
        #: How many requests wait.
        self.waiting = 0
        self._asked = 0

    def check(self, url: Url, now: float) -> float:
        """Return how many seconds apart requests like this one shall start.

        Raises FetchError of kind ``robots`` if it is not allowed, UnknownRules if that is not known.
        """
        entry = self._known.get(url.origin)
        if entry is None or entry[1] <= now:
            raise UnknownRules(url.origin)
        rules = entry[0]
        if rules.obstacle:
            raise FetchError(ErrorKind.ROBOTS, f"{url.origin}/robots.txt: {rules.words(0.0)}")
        if not rules.group:
            return 0.0
        parsed = self._understood(rules)
        if not parsed.can_fetch(url.target, _ANYONE):
            raise FetchError(ErrorKind.ROBOTS, f"disallowed by {url.origin}/robots.txt")
        return self._delay(parsed)

    def wait(self, origin: str, request: Request) -> Request | None:
        """Let a request wait for its origin's rules, or another's; the first gives a request for them, to be made."""
        self.waiting += 1
        waiting = self._waiting.get(origin)
        if waiting is not None:
            waiting.append(request)
            return None
        self._waiting[origin] = [request]
        self._asked += 1
        url = parse(f"{origin}/robots.txt")
        return Request(-self._asked, url.target, url.target, url.host, _FILE, 0)

    def learn(self, rules: Rules, parsed: "Protego | None", now: float) -> str:
        """Take what was learned of an origin, and say it for people."""
        self.know(rules, now + _FRESH)
        if parsed is None:
            return rules.words(0.0)
        self._parsed.put(rules.group, parsed, len(rules.group))
        return rules.words(self._delay(parsed))

    def know(self, rules: Rules, until: float) -> None:
        """Take what others have learned of an origin."""
        self._known.put(rules.origin, (rules, until), _BARE + len(rules.group))

    def rulings(self) -> list[Ruling]:
        """Return what is known of all origins, for others."""
        return [
            Ruling(origin, (), rules, until, self._delay(self._understood(rules)) if rules.group else 0.0)
            for origin, (rules, until) in self._known.items()
        ]

    def release(self, asked: Request) -> list[Request]:
        """Return who has waited for what this request asked for, in the order in which they came."""
        released = self._waiting.pop(parse(asked.target).origin, [])
        self.waiting -= len(released)
        return released

    def _understood(self, rules: Rules) -> "Protego":
        parsed = self._parsed.get(rules.group)
        if parsed is None:
            parsed = _parsed(rules.group)
            self._parsed.put(rules.group, parsed, len(rules.group))
        return parsed

    def _delay(self, parsed: "Protego") -> float:
        return min(parsed.crawl_delay(_ANYONE) or 0.0, self._most_delay)


def asks_for_rules(request: Request) -> bool:
    """Tell whether a request is one of :meth:`Gate.wait`, which no row of a list asked for."""
    return request.index < 0
