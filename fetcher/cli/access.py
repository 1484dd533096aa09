"""L4: who we say we are. What is secret comes from files and the environment; a command line is for all to see."""

import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fetcher.access import Access, Auth, Cookie, Login
from fetcher.cli import params
from fetcher.cli.flags import Flags
from fetcher.cookiefile import cookies_of
from fetcher.errors import UsageError
from fetcher.model import Headers
from fetcher.options import Tls


def access(flags: Flags) -> Access:
    """Return logins and cookies; raises UsageError, which shows no secret."""
    return Access(
        logins=_logins(flags),
        auth=Auth(params.choice("--auth", flags.auth, tuple(Auth))),
        cookies=() if flags.cookies is None else _cookies("--cookies", flags.cookies),
    )


def headers(flags: Flags) -> Headers:
    """Return the fields for every URL's own origin, the bearer's token among them (RFC 6750 section 2.1)."""
    fields = params.headers("--header", flags.header or [])
    if flags.bearer is None:
        return fields
    if flags.user is not None or any(name.lower() == "authorization" for name, _ in fields):
        raise UsageError("--bearer is one Authorization, and --user or --header another: say one of them")
    token = params.secret("--bearer", flags.bearer)
    if set(token) - params.TOKEN68:
        raise UsageError("--bearer: write the token alone, without the word Bearer")
    return (*fields, ("Authorization", f"Bearer {token}"))


def tls(flags: Flags) -> Tls:
    """Return whom to trust, and what to show; raises UsageError if the files do not hold it."""
    chosen = Tls(
        ca_file=None if flags.ca_file is None else params.certificates("--ca-file", flags.ca_file),
        verify=not flags.insecure,
        cert=None if flags.cert is None else Path(flags.cert),
        key=None if flags.key is None else Path(flags.key),
        key_password=None if flags.key_password is None else params.secret("--key-password", flags.key_password),
    )
    if chosen.cert is not None:
        import ssl

        from fetcher.transport.tls import load_identity

        load_identity(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), chosen)
    return chosen


def exposed(flags: Flags) -> Iterator[str]:
    """Yield a warning for each file of secrets that everyone on this machine can read."""
    for path in filter(None, (flags.netrc, flags.cookies, flags.key or flags.cert)):
        with suppress(OSError):
            mode = Path(path).stat().st_mode
            if stat.S_ISREG(mode) and mode & stat.S_IROTH:
                yield params.for_all_to_read(path)


def _logins(flags: Flags) -> tuple[Login, ...]:
    """Return the user of the command line, whose password may stand in a netrc file, then that file's users."""
    known = () if flags.netrc is None else _netrc("--netrc", flags.netrc)
    user = flags.user
    if user is None:
        if flags.password is not None:
            raise UsageError("--password needs --user, whose it is")
        return known
    if ":" in user:
        raise UsageError("--user: write the name alone; the password goes into --password @FILE, or env:NAME")
    params.field_value("--user", user)
    if flags.password is not None:
        return (Login(user=user, password=params.secret("--password", flags.password)), *known)
    if flags.netrc is None:
        raise UsageError("--user needs --password @FILE, or env:NAME, or --netrc FILE")
    return tuple(login for login in known if login.user == user)


def _netrc(option: str, path: str) -> tuple[Login, ...]:
    """Return what a netrc file says; its ``default`` is for any host."""
    from netrc import NetrcParseError, netrc

    try:
        hosts = netrc(path).hosts
    except NetrcParseError as error:
        raise UsageError(f"{option} {path}, line {error.lineno}: this is no netrc file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {path}: {params.reason(error)}") from None
    return tuple(
        Login(host=None if host == "default" else host.lower(), user=user or "", password=password or "")
        for host, (user, _, password) in hosts.items()
    )


def _cookies(option: str, path: str) -> tuple[Cookie, ...]:
    try:
        return cookies_of(Path(path).read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {path}: {params.reason(error)}") from None
    except UsageError as error:
        raise UsageError(f"{option} {path}: {error}") from None
