"""L1: what a request tells of itself and of whoever makes it, and to whom."""

from dataclasses import dataclass
from typing import Final

from fetcher.body import ACCEPTED
from fetcher.conditional import Held, Part
from fetcher.cookiefile import EMPTY, Shelf
from fetcher.hosts import ALIKE, Hosts, merged
from fetcher.logins import Challenge, Logins
from fetcher.model import Headers, Request

#: What is asked for if nothing is known of a body: all that can be undone.
ALL: Final = (("Accept-Encoding", ACCEPTED),)


@dataclass(slots=True)
class Step:
    """Where an attempt has got to: whether redirects have never left the URL's origin, and what was asked of us here."""

    url: str
    own_origin: bool = True
    challenge: Challenge | None = None


class Identity:
    """What every request tells the server: ``user_agent`` everyone, ``headers`` only the URL's own origin.

    What ``hosts`` says besides goes to a URL's own origin too, if that is on such a host, and so do what the list says
    of the URL and what ``logins`` say; never to one it redirects to. The user's ``shelf`` of cookies is for whoever
    they are for.
    """

    def __init__(
        self,
        user_agent: str,
        headers: Headers = (),
        hosts: Hosts = ALIKE,
        logins: Logins | None = None,
        shelf: Shelf = EMPTY,
    ) -> None:
        self._ours = ("User-Agent", user_agent), ("Accept", "*/*")
        self._headers = headers
        self._hosts = hosts
        #: The User-Agent that the URL's own origin sees.
        self.agent = next((value for name, value in headers if name.lower() == "user-agent"), user_agent)
        self.logins = logins or Logins()
        self.shelf = shelf
        self._usual = self._fields(self._ours, headers, None, ALL)

    def fields(self, request: Request, step: "Step", *, cookie: str | None, asked: Headers) -> Headers:
        """Return the header fields of one step; a header of the user's replaces ours of that name, but what is ``asked``.

        All cookies go in one field (RFC 6265 section 5.4).
        """
        if not step.own_origin:
            return self._fields(self._ours, (), cookie, asked)
        section = self._hosts.of(request.host)
        headers = self._headers if section is None else merged(self._headers, section.headers)
        if request.details is not None and request.details.headers:
            headers = merged(headers, request.details.headers)
        authorization = self.logins.field(request, step.url, step.challenge)
        if authorization is not None:
            return self._fields((*self._ours, ("Authorization", authorization)), headers, cookie, asked)
        if cookie is None and asked is ALL and headers is self._headers:
            return self._usual
        return self._fields(self._ours, headers, cookie, asked)

    @staticmethod
    def _fields(ours: Headers, headers: Headers, cookie: str | None, asked: Headers) -> Headers:
        theirs = [(name.lower(), name, value) for name, value in headers]
        given = {lower for lower, _, _ in theirs}
        taken = {"cookie", *(name.lower() for name, _ in asked)}
        cookies = [value for lower, _, value in theirs if lower == "cookie"] + ([cookie] if cookie else [])
        return (
            *(field for field in ours if field[0].lower() not in given),
            *asked,
            *((name, value) for lower, name, value in theirs if lower not in taken),
            *([("Cookie", "; ".join(cookies))] if cookies else []),
        )


def asked_for(held: Held | Part | None, condition: Headers = ()) -> Headers:
    """Return the fields for a whole body, for the rest or a part of one, or for any if it is not the one that is kept.

    Only what can be undone is asked for. The rest of a body is the rest of its bytes as they are, so no coding then.
    """
    if held is None:
        return (*ALL, *condition) if condition else ALL
    return (("Accept-Encoding", "identity"), *held.fields, *condition)
