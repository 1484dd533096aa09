"""L3: what a response says in its header fields."""

from collections.abc import Iterator, Mapping

from fetcher.body import codings
from fetcher.conditional import Held, Part, is_part, remainder, strong_validator
from fetcher.errors import ErrorKind, FetchError, http_kind
from fetcher.exchange import Exchange
from fetcher.model import Head, Headers
from fetcher.retry import quota_reset, retry_after
from fetcher.transport.base import Response


class Answer:
    """A response and what its header fields say; of repeated fields, ``fields`` has the first."""

    __slots__ = ("fields", "head", "response")

    def __init__(self, response: Response, url: str) -> None:
        self.response = response
        self.fields = dict(reversed(response.headers))
        self.head = _head(response, self.fields, url)

    def exchange(self, asked: Headers) -> Exchange:
        """Return it with the header fields that asked for it."""
        response = self.response
        told = (response.status, response.reason, response.headers, response.http_version, response.remote_ip)
        return Exchange(self.head.url, asked, *told)

    @property
    def codings(self) -> tuple[str, ...]:
        """The content codings of the body, in the order they were applied; raises FetchError for unknown ones."""
        if "content-encoding" not in self.fields:
            return ()
        return codings(value for name, value in self.response.headers if name == "content-encoding")

    def rest_of(self, held: Held) -> int | None:
        """Return how many bytes it brings if it is the rest of what is held; None if it is anything else."""
        if not self._partial:
            return None
        rest = remainder(held, *self._range())
        return rest if self.response.length in (None, rest) else None

    def brings(self, part: Part) -> bool:
        """Tell whether its body is this part."""
        return self._partial and is_part(part, *self._range())

    def divisible(self, held: Held | None) -> bool:
        """Tell whether parts of its body can be asked for: one that has sent the rest of what is held can send others."""
        return self.head.validator is not None and (
            held is not None or self.fields.get("accept-ranges", "").lower() == "bytes"
        )

    def wish(self, now: float) -> float | None:
        """Return the seconds that the origin of a failure asks to be left alone, now being seconds since 1970."""
        asked, quota = retry_after(self.fields.get("retry-after"), now), quota_reset(self.fields, now)
        return quota if not asked else max(asked, quota or 0.0)

    def failure(self) -> FetchError:
        """Return what a status that brings no body worth keeping means."""
        status, said = self.response.status, f"{self.response.status:03} {self.response.reason}".strip()
        if 400 <= status < 600:
            return FetchError(http_kind(status), said)
        if status == 206:
            return FetchError(ErrorKind.TRUNCATED, f"{said}: a part, where the whole was asked for")
        if 300 <= status < 400:
            return FetchError(ErrorKind.REDIRECT_INVALID, f"{said} leads nowhere")
        return FetchError(ErrorKind.PROTOCOL, f"{said} is no answer to a GET")

    @property
    def _partial(self) -> bool:
        """Whether it has bytes of the body as they are, and not all of them."""
        return self.response.status == 206 and "content-encoding" not in self.fields

    def _range(self) -> Iterator[str | None]:
        """Yield what it says of them."""
        return (self.fields.get(name) for name in ("content-range", "etag", "last-modified"))


def _head(response: Response, found: Mapping[str, str], url: str) -> Head:
    media_type, _, parameters = found.get("content-type", "").partition(";")
    return Head(
        status=response.status,
        url=url,
        http_version=response.http_version,
        remote_ip=response.remote_ip,
        content_type=media_type.strip().lower() or None,
        charset=_charset(parameters),
        etag=found.get("etag"),
        last_modified=found.get("last-modified"),
        disposition=found.get("content-disposition"),
        # Bytes that were decoded on their way cannot be gone on with.
        validator=None
        if "content-encoding" in found
        else strong_validator(found.get("etag"), found.get("last-modified"), found.get("date")),
    )


def _charset(parameters: str) -> str | None:
    """RFC 9110 section 8.3.2; quoted or not."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower() or None
    return None
