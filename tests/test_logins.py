"""Names and passwords: whose go where, and how they are told or proven."""

from base64 import b64encode
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.access import Access, Auth, Login
from fetcher.logins import _LONGEST, _REMEMBERED, Challenge, Logins, challenges
from fetcher.model import Request

NETRC = (
    Login(host="a.example", user="ann", password="pw-a"),
    Login(host="a.example:8080", user="bob", password="pw-b"),
    Login(host="a.example", user="cat", password="pw-c"),
    Login(host="[::1]", user="six", password="pw-6"),
)
ANY = Login(user="any", password="pw")

#: RFC 7616 section 3.9.1.
REALM = 'realm="http-auth@example.org"'
NONCE = 'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"'
OPAQUE = 'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
MUFASA = (b"Mufasa", b"Circle of Life")


def request(url: str, userinfo: str | None = None) -> Request:
    """Return a request for a URL in its plain form."""
    return Request(0, url, url, url.split("/")[2], "list", 1, userinfo)


def basic(user: str, password: str) -> str:
    """Return what proves to be this user (RFC 7617)."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def parameters(field: str) -> dict[str, str]:
    """Return the parameters of a Digest answer."""
    scheme, _, rest = field.partition(" ")
    assert scheme == "Digest"
    return {name: value.strip('"') for name, _, value in (each.partition("=") for each in rest.split(", "))}


@pytest.mark.parametrize(
    ("logins", "url", "userinfo", "told"),
    [
        ((), "http://a.example/", None, None),
        (NETRC, "http://a.example/x", None, basic("ann", "pw-a")),
        (NETRC, "https://a.example:99/x", None, basic("ann", "pw-a")),
        (NETRC, "http://a.example:8080/x", None, basic("bob", "pw-b")),
        (NETRC, "http://[::1]:80/", None, basic("six", "pw-6")),
        (NETRC, "http://b.example/", None, None),
        (NETRC, "http://x.a.example/", None, None),
        ((*NETRC, ANY), "http://b.example/", None, basic("any", "pw")),
        ((ANY, *NETRC), "http://a.example/", None, basic("ann", "pw-a")),
        # What stands in the URL goes first; a password that does not is looked up by name.
        (NETRC, "http://a.example/", "me:x", basic("me", "x")),
        (NETRC, "http://a.example/", "me:", basic("me", "")),
        (NETRC, "http://a.example/", "me", basic("me", "")),
        (NETRC, "http://a.example/", "cat", basic("cat", "pw-c")),
        ((ANY,), "http://a.example/", "any", basic("any", "pw")),
        ((), "http://a.example/", "u%40h:p%3Aq", basic("u@h", "p:q")),
        ((Login(user="jürgen", password="höch"),), "http://a.example/", None, basic("jürgen", "höch")),
    ],
)
def test_who(logins: tuple[Login, ...], url: str, userinfo: str | None, told: str | None) -> None:
    """The login of the narrowest place counts, behind what the URL says."""
    assert Logins(Access(logins=logins)).field(request(url, userinfo), url) == told


@pytest.mark.parametrize(
    ("said", "response"),
    [
        (f'{REALM}, qop="auth, auth-int", algorithm=MD5, {NONCE}, {OPAQUE}', "8ca523f5e9506fed4657c9700eebdbec"),
        (
            f'{REALM}, qop="auth, auth-int", algorithm=SHA-256, {NONCE}, {OPAQUE}',
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
    ],
)
def test_rfc_7616(said: str, response: str) -> None:
    """The examples of RFC 7616 section 3.9.1 come out as they stand there."""
    [challenge] = challenges([f"Digest {said}"])
    told = parameters(challenge.answer(MUFASA, "/dir/index.html", CNONCE))
    assert told == {
        "username": "Mufasa",
        "realm": "http-auth@example.org",
        "nonce": NONCE.split('"')[1],
        "uri": "/dir/index.html",
        "response": response,
        "algorithm": said.partition("algorithm=")[2].partition(",")[0],
        "opaque": OPAQUE.split('"')[1],
        "qop": "auth",
        "nc": "00000001",
        "cnonce": CNONCE,
    }


def test_older() -> None:
    """A challenge of 1996, without ``qop``, gets the answer of RFC 2069; no algorithm means MD5."""
    [challenge] = challenges(['Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'])
    told = parameters(challenge.answer((b"Mufasa", b"CircleOfLife"), "/dir/index.html", "unused"))
    assert told.pop("response") == "1949323746fe6a43ef61f9606e7febea"
    assert told.keys() == {"username", "realm", "nonce", "uri"}


def test_session_variant() -> None:
    """With ``-sess`` the password's hash is bound to the nonces (RFC 7616 section 3.4.2)."""

    def hashed(*parts: str) -> str:
        return sha256(":".join(parts).encode()).hexdigest()

    challenge = Challenge("r", "n", None, "SHA-256-sess", counted=True)
    told = parameters(challenge.answer((b"me", b"pw"), "/", "c"))
    secret = hashed(hashed("me", "r", "pw"), "n", "c")
    assert told["response"] == hashed(secret, "n", "00000001", "c", "auth", hashed("GET", "/"))


def test_every_answer_has_its_number() -> None:
    """Answers to one challenge are counted, and each has a number of its own that is used once."""
    logins = Logins(Access(logins=(ANY,), auth=Auth.DIGEST), b"entropy")
    url = "http://a.example/p?q"
    assert logins.field(request(url), url) is None
    headers = (("www-authenticate", 'Digest realm="r", nonce="n", qop="auth"'),)
    challenge = logins.challenge(request(url), url, headers)
    assert challenge is not None
    told = [parameters(logins.field(request(url), url, challenge) or "")]
    told += [parameters(logins.field(request(url), url) or "") for _ in range(2)]  # what is remembered
    assert [each["nc"] for each in told] == ["00000001", "00000002", "00000003"]
    assert {each["uri"] for each in told} == {"/p?q"}
    assert len({each["cnonce"] for each in told}) == 3
    assert logins.field(request("http://b.example/"), "http://b.example/") is None


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (['Digest realm="r", nonce="n"'], [("r", "n", None, False)]),
        (['Basic realm="x", Digest realm=r,nonce=n , qop=auth'], [("r", "n", None, True)]),
        (["Negotiate", 'digest REALM="r", Nonce="n"'], [("r", "n", None, False)]),
        (['Negotiate YWJj==, Digest realm="r", nonce="n"'], [("r", "n", None, False)]),
        (['Digest realm="a \\"b\\" c, d=e", nonce="n"'], [('a "b" c, d=e', "n", None, False)]),
        (
            ['Digest realm="r", nonce="1", algorithm=MD5', 'Digest realm="r", nonce="2", algorithm="SHA-256"'],
            [("r", "1", "MD5", False), ("r", "2", "SHA-256", False)],
        ),
        (['Digest realm="r", nonce="n", qop="auth-int"'], []),
        (['Digest realm="r", nonce="n", algorithm=SHA-512-256'], []),
        (['Digest realm="r"'], []),
        (['Digest nonce="n"'], []),
        (["Digest"], []),
        ([""], []),
        (['realm="r", nonce="n"'], []),
        (["Digest " + 'x="y", ' * _LONGEST + 'realm="r", nonce="n"'], []),
    ],
)
def test_challenges(fields: list[str], found: list[tuple[str, str, str | None, bool]]) -> None:
    """Challenges are found among others, and those that cannot be answered are passed over."""
    assert [(each.realm, each.nonce, each.algorithm, each.counted) for each in challenges(fields)] == found


def test_the_stronger_hash() -> None:
    """Of two challenges the one with SHA-256 is answered, wherever it stands."""
    logins = Logins(Access(logins=(ANY,), auth=Auth.DIGEST))
    headers = tuple(
        ("www-authenticate", f'Digest realm="r", nonce="n", algorithm={name}') for name in ("MD5", "SHA-256", "MD5")
    )
    url = "http://a.example/"
    challenge = logins.challenge(request(url), url, headers)
    assert challenge is not None
    assert challenge.algorithm == "SHA-256"


@pytest.mark.parametrize(
    ("access", "userinfo", "answered"),
    [
        (Access(logins=(ANY,), auth=Auth.DIGEST), None, True),
        (Access(auth=Auth.DIGEST), "me:pw", True),
        (Access(auth=Auth.DIGEST), None, False),
        (Access(logins=(ANY,)), None, False),
    ],
)
def test_who_answers(access: Access, userinfo: str | None, *, answered: bool) -> None:
    """Only who has a name, and was told to prove it, answers a challenge."""
    url = "http://a.example/"
    headers = (("www-authenticate", 'Digest realm="r", nonce="n"'),)
    assert (Logins(access).challenge(request(url, userinfo), url, headers) is not None) == answered


def test_memory_is_bounded() -> None:
    """However many origins there are, the challenges of the latest are remembered."""
    logins = Logins(Access(logins=(ANY,), auth=Auth.DIGEST))
    headers = (("www-authenticate", 'Digest realm="r", nonce="n"'),)
    urls = [f"http://{number}.example/" for number in range(_REMEMBERED + 1)]
    for url in urls:
        logins.challenge(request(url), url, headers)
    assert logins.field(request(urls[0]), urls[0]) is None
    assert logins.field(request(urls[1]), urls[1]) is not None


def test_odd_names() -> None:
    """A name with quotes is quoted, one that is not ASCII is told as RFC 8187 says."""
    challenge = Challenge('a "r"', "n", None, None, counted=False)
    assert r'username="a\"b\\c", realm="a \"r\""' in challenge.answer((b'a"b\\c', b""), "/", "c")
    assert "username*=UTF-8''J%C3%A4s%C3%B8n" in challenge.answer(("Jäsøn".encode(), b""), "/", "c")


PIECES = [
    "Digest ",
    "Basic",
    " ",
    ",",
    "=",
    '"',
    "\\",
    "realm",
    "nonce",
    "x",
    "==",
    "qop=auth",
    'nonce="n"',
    'realm="r"',
    "\t",
]


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_any_challenge(value: str) -> None:
    """However a field is mangled, reading it ends, and what is found can be answered in one line."""
    for challenge in challenges([value]):
        assert not set("\r\n") & set(challenge.answer((b"me", b"pw"), "/", "c"))
