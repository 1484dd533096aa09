"""L1: a line of text as a URL that can be asked for: parsed, checked, escaped no more than needed."""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from fetcher.errors import ErrorKind, FetchError
from fetcher.frozen import value
from fetcher.text import printable

#: Longer URLs are refused, in characters, as written and as sent; servers commonly refuse beyond 8,000.
MAX_URL: Final = 65_536

_PORTS: Final = {"http": 80, "https": 443}
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_OTHER_SCHEME: Final = re.compile(r"(about|blob|data|file|javascript|magnet|mailto|tel|urn):", re.IGNORECASE)
_CONTROL_OR_BLANK: Final = re.compile("[\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff]")
#: Percent-escaped: RFC 3986 allows it nowhere in a URL, but people and browsers write it. Brackets are left alone.
_ILLEGAL: Final = re.compile(r"[^\x21\x23-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e]+")
_HOST_NAME: Final = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.?"
)
#: Most lines of most lists: nothing to lower, escape, drop or refuse. The host and the length are checked after it.
_CLEAN: Final = re.compile(r"(https?)://([a-z0-9_.:-]{1,259})/[\x21\x24-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e]*")
_CLEAN_HOST: Final = re.compile(
    r"((?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.){0,30}[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(:[1-9][0-9]{0,4})?"
)
_PORT: Final = re.compile(r"[0-9]{1,5}")
#: User and password of any URL in a text; at its start even if the scheme is missing or mistyped.
_USERINFO: Final = re.compile(r"(:/+|^//|^(?=[^/?#]*:))[^/?#]*@")
_MAX_NAME: Final = 253


@value(frozen=True, slots=True)
class Url:
    """An absolute http or https URL, ready to be sent.

    ``target`` is ASCII, without fragment and userinfo; ``host`` is ``name`` or ``name:port`` (the default
    port left out, IPv6 in brackets); ``userinfo`` is as written, or None.
    """

    target: str
    scheme: str
    host: str
    userinfo: str | None

    @property
    def origin(self) -> str:
        """Scheme, host and port (RFC 9110 section 4.3.1): what credentials belong to."""
        return f"{self.scheme}://{self.host}"

    @property
    def key(self) -> str:
        """Equal for two lines that ask for the same thing of the same server as the same user."""
        return self.target if self.userinfo is None else f"{self.userinfo}@{self.target}"


def parse(text: str) -> Url:
    """Return the URL that a line asks for; path and query stay as written, illegal characters percent-escaped.

    No scheme is guessed. Raises FetchError with kind ``invalid_url`` or ``unsupported_scheme``.
    """
    clean = _CLEAN.fullmatch(text)
    if clean is not None and len(text) <= MAX_URL:
        scheme, authority = clean.groups()
        host = _clean_host(authority)
        if host is not None:
            return Url(text, scheme, host, None)
    return _parse(text)


@lru_cache(maxsize=4096)
def _clean_host(text: str) -> str | None:
    """Return the host if nothing is to be done about it. A list has far fewer hosts than lines."""
    clean = _CLEAN_HOST.fullmatch(text)
    if clean is None:
        return None
    name, port = clean.groups()
    if len(name) > _MAX_NAME or (port is not None and (int(port[1:]) > 65_535 or int(port[1:]) in _PORTS.values())):
        return None
    return text


def _parse(text: str) -> Url:
    match = _SCHEME.match(text)
    if match is None:
        other = _OTHER_SCHEME.match(text)
        if other is not None:
            raise _unsupported(other[1])
        raise _invalid("not a URL: {}", text)
    scheme = match[1].lower()
    if scheme not in _PORTS:
        raise _unsupported(f"{scheme}://")
    bad = _CONTROL_OR_BLANK.search(text)
    if bad is not None:
        what = "blank" if bad[0] in " \xa0" else "control character"
        raise _invalid(f"{what} at character {bad.start() + 1} of {{}}; write {_percent(bad)}", text)
    rest = text[match.end() :].partition("#")[0]
    cut = next((i for i, char in enumerate(rest) if char in "/?\\"), len(rest))
    userinfo, _, host_port = rest[:cut].rpartition("@")
    host = _authority(host_port, scheme, text)
    path = rest[cut:]
    if not path.startswith("/"):
        path = "/" + path
    target = f"{scheme}://{host}{_ILLEGAL.sub(_percent, path)}"
    length = max(len(text), len(target))
    if length > MAX_URL:
        raise FetchError(ErrorKind.INVALID_URL, f"URL of {length:,} characters; the most is {MAX_URL:,}")
    return Url(target, scheme, host, userinfo or None)


def host_of(authority: str) -> str:
    """Return the host of a :class:`Url`, or of its target's authority, without the port."""
    return authority if authority.endswith("]") else authority.rpartition(":")[0] or authority


def redact(url: str) -> str:
    """Return ``url`` with ``***`` for its user and password, for people's eyes; it need not be a good URL."""
    return _USERINFO.sub(r"\1***@", url)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "backslashreplace"))


def _authority(text: str, scheme: str, url: str) -> str:
    if text.startswith("["):
        literal, bracket, port = text[1:].partition("]")
        host = f"[{_ipv6(literal, url)}]" if bracket else ""
        if port and not port.startswith(":"):
            host = ""
        port = port[1:]
    else:
        host, _, port = text.partition(":")
        host = _name(host, url)
    if not host:
        raise _invalid("no host in {}", url)
    if not port:
        return host
    if _PORT.fullmatch(port) is None or not 0 < int(port) < 65_536:
        raise _invalid("port is not 1 to 65535 in {}", url)
    return host if int(port) == _PORTS[scheme] else f"{host}:{int(port)}"


def _ipv6(literal: str, url: str) -> str:
    try:
        address = IPv6Address(literal)
    except AddressValueError:
        raise _invalid("not an IPv6 address in {}", url) from None
    if address.scope_id is not None:
        raise _invalid("an IPv6 zone has no place in {}", url)
    return str(address)


def _name(host: str, url: str) -> str:
    name = host.lower() if host.isascii() else _to_ascii(host, url)
    if name and (len(name.removesuffix(".")) > _MAX_NAME or _HOST_NAME.fullmatch(name) is None):
        raise _invalid("not a host name in {}", url)
    return name


def _to_ascii(host: str, url: str) -> str:
    """UTS 46, non-transitional: the mapping of today's browsers, never that of IDNA 2003."""
    import idna  # noqa: PLC0415  tables of 0.1 s, needed by few lists

    try:
        mapped = idna.uts46_remap(host, std3_rules=False, transitional=False)
        if len(mapped) > _MAX_NAME + 1:
            return mapped  # too long for any name; Punycode takes quadratic time
        labels = [
            label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in mapped.split(".")
        ]
    except UnicodeError:
        raise _invalid("not a host name in {}", url) from None
    return ".".join(labels).lower()


def _invalid(message: str, url: str) -> FetchError:
    """No part of the URL stands in the message but through ``redact``: a wrong port may be half a password."""
    return FetchError(ErrorKind.INVALID_URL, message.format(f'"{printable(redact(url), 200)}"'))


def _unsupported(scheme: str) -> FetchError:
    return FetchError(ErrorKind.UNSUPPORTED_SCHEME, f"{printable(scheme, 100)} is not fetched; http and https are")
