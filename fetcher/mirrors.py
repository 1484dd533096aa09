"""L1: where a request goes on when its URL has failed."""

from dataclasses import replace
from typing import Final

from fetcher.errors import Error, ErrorKind
from fetcher.model import Request
from fetcher.urls import parse

#: Failures that are no server's, so that no other one can do better.
_OURS: Final = frozenset({ErrorKind.CANCELLED, ErrorKind.DISK, ErrorKind.INTERNAL})


def at_mirror(request: Request, error: Error | None = None) -> Request | None:
    """Return the request for the next of its mirrors, None if there is none or ``error`` is nothing a mirror mends.

    The list's header fields for the URL go with it only if it is of the same origin.
    """
    details, primary = request.details, request.primary or request
    if details is None or not details.mirrors or (error is not None and error.kind in _OURS):
        return None
    url = parse(details.mirrors[0])
    headers = primary.details.headers if primary.details and url.origin == parse(primary.target).origin else ()
    return replace(
        request,
        target=url.target,
        host=url.host,
        userinfo=url.userinfo,
        details=replace(details, headers=headers, mirrors=details.mirrors[1:]),
        primary=primary,
    )
