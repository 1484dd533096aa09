"""L0: a request and its response as they were sent."""

from fetcher.frozen import value

_Fields = tuple[tuple[str, str], ...]


@value(frozen=True, slots=True)
class Exchange:
    """One request and the head of its response as they were sent, for archives; ``url`` is without credentials."""

    url: str
    asked: _Fields
    status: int
    reason: str
    headers: _Fields
    http_version: str
    remote_ip: str | None = None
