"""L2: how handles of libcurl are set: what it is to do, and all that it would do by itself."""

import os
import ssl
from typing import Any, Final

from fetcher.errors import UsageError
from fetcher.model import Headers
from fetcher.options import Timeouts, Tls, Wire

PLAIN: Final = Wire()

#: What is read from a socket at once.
_READ_SIZE: Final = 128 * 1024

#: Options that pycurl has no name for; numbers of curl/curl.h, which never change.
_SUPPRESS_CONNECT_HEADERS: Final = 265
_DOH_SSL_VERIFYPEER: Final = 306
_DOH_SSL_VERIFYHOST: Final = 307
_QUICK_EXIT: Final = 322


def load(wire: Wire = PLAIN) -> Any:
    """Return the module pycurl; raises UsageError that says how to get it, or what its libcurl lacks."""
    try:
        import pycurl  # type: ignore[import-untyped, import-not-found, unused-ignore]  # noqa: PLC0415  an extra
    except ImportError as error:
        raise UsageError("--transport curl needs pycurl: pip install 'fetcher[curl]'") from error
    if wire.http3 and not pycurl.version_info()[4] & pycurl.VERSION_HTTP3:
        raise UsageError("--http3: the libcurl of this pycurl does not speak HTTP/3; its wheels do")
    return pycurl


def new_handle(pycurl: Any, timeouts: Timeouts, tls: Tls, wire: Wire) -> Any:
    """Return a handle with all set that requests have in common."""
    curl = pycurl.Curl()
    schemes = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
    for option, value in (
        (pycurl.PROTOCOLS, schemes),
        (pycurl.REDIR_PROTOCOLS, schemes),
        (pycurl.NOSIGNAL, 1),
        (pycurl.FOLLOWLOCATION, 0),
        (pycurl.PATH_AS_IS, 1),
        # Without PIPEWAIT: the first requests to a host connect side by side, and share what is there later. With it
        # they wait for the first one's whole answer where the server speaks HTTP/1.1 only.
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_3 if wire.http3 else pycurl.CURL_HTTP_VERSION_2TLS),
        (pycurl.HTTP09_ALLOWED, 0),
        (pycurl.HTTP_CONTENT_DECODING, 0),
        (_SUPPRESS_CONNECT_HEADERS, 1),
        (_QUICK_EXIT, 1),
        (pycurl.USERAGENT, ""),
        (pycurl.PROXY, ""),
        (pycurl.NOPROXY, ""),
        (pycurl.BUFFERSIZE, _READ_SIZE),
        (pycurl.CONNECTTIMEOUT_MS, max(1, round(timeouts.connect * 1000))),
        (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
        (pycurl.PROXY_SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
    ):
        curl.setopt(option, value)
    if wire.doh is not None:
        curl.setopt(pycurl.DOH_URL, wire.doh)
    _trust(pycurl, curl, tls)
    return curl


def _trust(pycurl: Any, curl: Any, tls: Tls) -> None:
    if not tls.verify:
        for option in (pycurl.SSL_VERIFYPEER, pycurl.SSL_VERIFYHOST):
            curl.setopt(option, 0)
        for option in (pycurl.PROXY_SSL_VERIFYPEER, pycurl.PROXY_SSL_VERIFYHOST):
            curl.setopt(option, 0)
        for option in (_DOH_SSL_VERIFYPEER, _DOH_SSL_VERIFYHOST):
            curl.setopt(option, 0)
        return
    ca_file, ca_path = (str(tls.ca_file), None) if tls.ca_file is not None else _system_certificates()
    for option, value in (
        (pycurl.CAINFO, ca_file),
        (pycurl.PROXY_CAINFO, ca_file),
        (pycurl.CAPATH, ca_path),
        (pycurl.PROXY_CAPATH, ca_path),
    ):
        if value is None:
            curl.unsetopt(option)
        else:
            curl.setopt(option, value)


def identify(pycurl: Any, curl: Any, tls: Tls) -> None:
    """Let a handle show the user's certificate, which it does from then on."""
    curl.setopt(pycurl.SSLCERT, str(tls.cert))
    curl.setopt(pycurl.SSLKEY, str(tls.key or tls.cert))
    if tls.key_password is not None:
        curl.setopt(pycurl.KEYPASSWD, tls.key_password)


def header_lines(headers: Headers) -> list[str | bytes]:
    """Return fields as libcurl takes them: an empty one ends in a semicolon, and a name alone keeps its own away."""
    lines = [f"{name}: {value}" if value else f"{name};" for name, value in headers]
    given = {name.lower() for name, _ in headers}
    lines += [f"{name}:" for name in ("Accept", "User-Agent", "Proxy-Connection") if name.lower() not in given]
    return [line if line.isascii() else line.encode() for line in lines]


def _system_certificates() -> tuple[str | None, str | None]:
    """Return the file and the directory of the system's certificates, as Python finds them.

    libcurl remembers what it has read of a file, but not if there is a directory too. So a directory counts only
    without a file, or beside one that the environment names.
    """
    paths = ssl.get_default_verify_paths()
    named = paths.openssl_cafile_env in os.environ
    return paths.cafile, paths.capath if named or paths.cafile is None else None
