"""Logins, cookies and certificates as they are typed; and that no secret of any kind leaves where it belongs."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from fetcher.access import Access, Auth, Login
from fetcher.cli.flags import Flags
from fetcher.cli.get import options_of
from fetcher.errors import UsageError
from tests.answers import with_options
from tests.certificates import Certificates
from tests.command import Command, Ran
from tests.server import Scope, Server

SECRET: Final = "hush-hush"
NETRC: Final = f"machine 127.0.0.1 login me password {SECRET}\ndefault login x password other"
CHALLENGE: Final = with_options("", status=401, header=['WWW-Authenticate:Digest realm="r", nonce="n", qop="auth"'])


@dataclass(frozen=True)
class Kind:
    """A way to give a secret: options, variables, files; and what of it the URL's own origin must see, if anything."""

    options: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    seen: tuple[str, str] | None = None


def basic(user: str, password: str = SECRET) -> str:
    """Return the value of an Authorization field."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


KINDS: Final = {
    "header": Kind(("-H", "@h"), files={"h": f"X-Key: {SECRET}"}, seen=("x-key", SECRET)),
    "bearer": Kind(("--bearer", "@t"), files={"t": f"{SECRET}\n"}, seen=("authorization", f"Bearer {SECRET}")),
    "bearer of the environment": Kind(
        ("--bearer", "env:TOKEN"), env={"TOKEN": SECRET}, seen=("authorization", f"Bearer {SECRET}")
    ),
    "basic": Kind(
        ("--user", "me", "--password", "@p"), files={"p": f"{SECRET}\n"}, seen=("authorization", basic("me"))
    ),
    "basic of the environment": Kind(
        env={"FETCHER_USER": "me", "FETCHER_PASSWORD": "env:PASS", "PASS": SECRET}, seen=("authorization", basic("me"))
    ),
    "digest": Kind(("--user", "me", "--password", "@p", "--auth", "digest"), files={"p": SECRET}),
    "netrc": Kind(("--netrc", "n"), files={"n": NETRC}, seen=("authorization", basic("me"))),
    "user in netrc": Kind(("--netrc", "n", "--user", "me"), files={"n": NETRC}, seen=("authorization", basic("me"))),
    "file of options": Kind(
        ("--config", "c"),
        files={"c": 'user = "me"\npassword = "@p"\n', "p": SECRET},
        seen=("authorization", basic("me")),
    ),
    "cookies": Kind(
        ("--cookies", "c"),
        files={"c": f"127.0.0.1\tFALSE\t/\tFALSE\t0\tsid\t{SECRET}"},
        seen=("cookie", f"sid={SECRET}"),
    ),
}


def grep(needles: Sequence[str], haystack: bytes) -> list[str]:
    """Return what is found of these, as they are or in the way of Basic."""
    return [needle for needle in needles if needle.encode() in haystack]


@pytest.mark.parametrize("transport", ["session", "curl"])
@pytest.mark.parametrize("name", KINDS)
def test_secrets_stay(run_fetcher: Command, server: Scope, tmp_path: Path, name: str, transport: str) -> None:
    """However a run ends for its URLs, a secret stands in nothing that it writes, and no other origin is told it."""
    if transport == "curl":
        pytest.importorskip("pycurl", reason="pycurl, the extra `curl`, is not installed")
    kind = KINDS[name]
    for file, text in kind.files.items():
        (tmp_path / file).write_text(text)
        (tmp_path / file).chmod(0o600)
    there = server.origin(1)
    away = there.url("away", redirect_to="back").replace("127.0.0.1", "localhost")
    urls = [
        server.url("own"),
        server.url("leaves", redirect_to=away),
        server.url("gone", status=404),
        server.url("refused", status=401, header=['WWW-Authenticate:Digest realm="r", nonce="n", qop="auth"']),
        server.url("again", fail_times=1, fail_as="close_before_head=1"),
        server.url("junk", raw=b"no HTTP"),
    ]
    (tmp_path / "urls").write_text("\n".join(urls))
    writes = ("--failed", "failed", "--summary", "summary", "--metrics", "metrics", "-v", "--json", "--retries", "1")
    ran = run_fetcher("get", "urls", *writes, "--transport", transport, *kind.options, env=kind.env)
    assert ran.code == 1
    assert [record["ok"] for record in sorted(ran.records, key=lambda each: each["line"])] == [
        *(True, True, False, False, True, False),
    ]
    needles = (SECRET, *(basic(user).partition(" ")[2] for user in ("me", "x", "")))
    written = {
        path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name not in kind.files
    }
    assert tmp_path / "fetched/.fetcher/last-run.json" in written
    written |= {Path("stdout"): ran.stdout_bytes, Path("stderr"): ran.stderr_bytes}
    assert [(path, found) for path, text in written.items() if (found := grep(needles, text))] == []
    others = server.requests("away") + server.requests("back")
    assert len(others) == 2
    assert not any(grep((*needles, "Digest "), seen.head) for seen in others)
    if kind.seen is not None:
        name_of_field, value = kind.seen
        assert {seen.header(name_of_field) for seen in server.requests("own")} == {value}


def test_digest(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """With --auth digest a password is proven, not told; workers do it too."""
    (tmp_path / "p").write_text(SECRET)
    urls = [server.url(str(number), fail_times=1, fail_as=CHALLENGE.removeprefix("?")) for number in range(4)]
    login = ("--user", "me", "--password", "@p", "--auth", "digest", "--workers", "2", "--retries", "0")
    ran = run_fetcher("get", *urls, *login)
    assert ran.code == 0, ran.stderr
    said = [seen.header("authorization") for seen in server.requests()]
    assert {each and each[:21] for each in said} == {None, 'Digest username="me",'}


def test_cookies_of_the_other_host(run_fetcher: Command, server: Scope, tmp_path: Path) -> None:
    """Where a redirect leads, that host's cookies go, and no others."""
    jar = tmp_path / "jar"
    jar.write_text("127.0.0.1\tFALSE\t/\tFALSE\t0\there\t1\nlocalhost\tFALSE\t/\tFALSE\t0\tthere\t2\n")
    before = jar.read_bytes()
    away = server.url("away").replace("127.0.0.1", "localhost")
    ran = run_fetcher("get", server.url("own", redirect_to=away, set_cookie=["here=3; Path=/"]), "--cookies", "jar")
    assert ran.code == 0
    assert [seen.header("cookie") for seen in server.requests()] == ["here=1", "there=2"]
    assert jar.read_bytes() == before


def test_certificate(run_fetcher: Command, running_server: Server, server: Scope, certificates: Certificates) -> None:
    """A server that insists on a certificate gets it; over a redirect it does not."""
    bases = [running_server.listen(certificates.required) for _ in range(2)]
    inside, outside = (server.url(name).replace(server.base, base) for name, base in zip("ab", bases, strict=True))
    leaves = server.url("c", redirect_to=outside).replace(server.base, bases[0])
    options = ("--ca-file", certificates.ca_file, "--no-save", "--retries", "0", "--json")
    apart = ("--cert", certificates.client, "--key", certificates.client_key, "--key-password", "env:PASS")

    def failures(ran: Ran) -> list[str | None]:
        found = {record["url"]: (record["error"] or {}).get("kind") for record in ran.records}
        return [found[url] for url in (inside, leaves)]

    ran = run_fetcher("get", inside, leaves, *options, *apart, env={"PASS": certificates.client_password})
    first, second = failures(ran)
    assert first is None
    assert second in ("tls.handshake", "connect.closed", "tls.verify")
    assert certificates.client_password not in ran.stdout + ran.stderr
    assert not server.requests("b")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--password", "@p"), "--password needs --user, whose it is"),
        (("--user", "me"), "--user needs --password @FILE, or env:NAME, or --netrc FILE"),
        (("--user", "me:hush"), "--user: write the name alone; the password goes into --password @FILE, or env:NAME"),
        (
            ("--user", "me", "--password", "hush"),
            "--password: a secret has no place on a command line: write @FILE or env:NAME",
        ),
        (("--bearer", "hush"), "--bearer: a secret has no place on a command line: write @FILE or env:NAME"),
        (("--bearer", "@none"), "--bearer: none: No such file or directory"),
        (("--bearer", "@empty"), "--bearer: empty is empty"),
        (("--bearer", "@words"), "--bearer: write the token alone, without the word Bearer"),
        (("--bearer", "env:NONE_SUCH"), "--bearer: NONE_SUCH is not in the environment"),
        (("--bearer", "@p", "--user", "me"), "--bearer is one Authorization, and --user or --header another"),
        (("--bearer", "@p", "-H", "authorization: hush"), "--bearer is one Authorization, and --user or --header"),
        (("--auth", "ntlm"), '--auth "ntlm": write one of basic, digest'),
        (("--netrc", "none"), "--netrc none: No such file or directory"),
        (("--netrc", "words"), "--netrc words, line 1: this is no netrc file"),
        (("--netrc", "binary"), "--netrc binary: not UTF-8"),
        (("--cookies", "words"), "--cookies words: line 1 is no cookie: 7 fields with tabs between them"),
        (("--cookies", "binary"), "--cookies binary: not UTF-8"),
        (("--key", "p"), "key needs cert, to which it belongs"),
        (("--cert", "p"), "no certificate (PEM) in p, or no private key in p"),
        (("--cert", "{client}", "--key", "{key}"), "the key in {key} is encrypted: say --key-password @FILE"),
    ],
)
def test_refusals(
    run_fetcher: Command, tmp_path: Path, certificates: Certificates, options: tuple[str, ...], message: str
) -> None:
    """What cannot be meant is refused in one line, without the secret, before anything is fetched."""
    (tmp_path / "p").write_text("hush")
    (tmp_path / "words").write_text("Bearer hush")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"hush \xff\xff")
    places = {"client": certificates.client, "key": certificates.client_key}
    ran = run_fetcher("get", "http://127.0.0.1:9/", *(option.format(**places) for option in options))
    assert ran.code == 2
    assert ran.stderr.startswith(f"fetcher: {message.format(**places)}")
    assert ran.stderr.count("\n") == 1
    assert "hush" not in ran.stderr
    assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize("option", ["--netrc", "--cookies", "--cert", "--key"])
@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_for_all_to_read(
    run_fetcher: Command, tmp_path: Path, certificates: Certificates, option: str, mode: int
) -> None:
    """A file of secrets that everyone can read is worth a line, which does not keep the run from its work."""
    secret = tmp_path / "secret"
    secret.write_text({"--netrc": NETRC, "--cookies": "# none\n"}.get(option) or certificates.both.read_text())
    secret.chmod(mode)
    (tmp_path / "urls").write_text("")
    more = ("--cert", str(certificates.both)) if option == "--key" else ()
    ran = run_fetcher("get", "urls", option, "secret", *more)
    assert ran.code == 0
    said = "secret holds secrets, and everyone on this machine can read it: chmod o-r"
    assert (said in ran.stderr) == bool(mode & 0o004)


def test_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of the command line goes before those of the file, of whom it may choose one; hosts are in lower case."""
    monkeypatch.setenv("PASS", " hush ")
    netrc = tmp_path / "n"
    netrc.write_text("default login d password 1\nmachine A.example login a password 2\nmachine b.example password 3")
    a, b = Login(host="a.example", user="a", password="2"), Login(host="b.example", user="", password="3")
    d, me = Login(user="d", password="1"), Login(user="me", password=" hush ")

    def access(**flags: str) -> Access:
        return options_of(Flags(**flags)).access  # type: ignore[arg-type]

    assert access() == Access()
    assert access(netrc=str(netrc)).logins == (d, a, b)
    assert access(netrc=str(netrc), user="a").logins == (a,)
    assert access(netrc=str(netrc), user="nobody").logins == ()
    assert access(netrc=str(netrc), user="me", password="env:PASS").logins == (me, d, a, b)
    assert access(user="me", password="env:PASS", auth="digest").auth is Auth.DIGEST
    assert "hush" not in repr(access(user="me", password="env:PASS"))


def test_nothing_is_asked(tmp_path: Path, certificates: Certificates, capfd: pytest.CaptureFixture[str]) -> None:
    """An encrypted key without a password does not make the TLS library ask for one at the terminal."""
    with pytest.raises(UsageError, match="is encrypted"):
        options_of(Flags(cert=str(certificates.client), key=str(certificates.client_key)))
    assert capfd.readouterr().err == ""
