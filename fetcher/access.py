"""L0: who we say we are to servers: logins and cookies of the user's own."""

from dataclasses import dataclass, field
from enum import StrEnum


class Auth(StrEnum):
    """How a name and a password are told: as they are (RFC 7617), or proven without telling them (RFC 7616)."""

    BASIC = "basic"
    DIGEST = "digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user's name and password for ``host``, a name in lower case for all its ports, or with one; None is any host."""

    host: str | None = None
    user: str
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """One line of a file of cookies.

    It goes to ``domain``, and with ``below`` to all names below it; ``expires`` is in seconds since 1970, None if never.
    """

    domain: str
    below: bool
    path: str
    secure: bool
    expires: float | None
    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Logins, of which the first that fits a URL's host counts, behind what stands in the URL; and cookies.

    A login goes to the URL's own origin only; cookies wherever they belong, redirects included.
    """

    logins: tuple[Login, ...] = ()
    auth: Auth = Auth.BASIC
    cookies: tuple[Cookie, ...] = ()


#: Nobody in particular.
NOBODY = Access()
