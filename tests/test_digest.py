"""Digest authentication over a real connection: asked, answered, and told to nobody else."""

from typing import Final

import pytest

from fetcher.access import Access, Auth, Login
from fetcher.identity import Identity
from fetcher.logins import Logins
from tests.answers import Value, with_options
from tests.server import Scope
from tests.test_fetch import Tried, fetched, session

CHALLENGE: Final = 'WWW-Authenticate:Digest realm="r", nonce="n", qop="auth"'
REFUSED: Final = with_options("", status=401, header=[CHALLENGE], body="who?").removeprefix("?")


def identity(**more: str) -> Identity:
    """Return who proves to be somebody."""
    login = Login(user="me", password="hush", **more)
    return Identity("test/1.0", logins=Logins(Access(logins=(login,), auth=Auth.DIGEST), b"entropy"))


def answers(server: Scope, path: str = "") -> list[str | None]:
    """Return what each request said about who asks, up to the number of its answer."""
    said = [seen.header("authorization") for seen in server.requests(path)]
    assert not any(each and "hush" in each for each in said)
    return [each and each.partition("nc=")[2][:8] for each in said]


async def test_asked_once(server: Scope) -> None:
    """The first request is asked who it is and sent again with the answer; later ones say so at once."""
    async with session() as transport:
        me = identity()
        first = await Tried(server.url("a", fail_times=1, fail_as=REFUSED)).over(transport, me)
        second = await Tried(server.url("b?c=d")).over(transport, me)
    assert (first.kind, second.kind) == (None, None)
    assert first.body == server.body_of("a")
    assert first.attempt.wire_bytes == len(server.body_of("a"))
    assert answers(server) == [None, "00000001", "00000002"]
    assert f'uri="{server.path("b?c=d")}"' in (server.requests("b")[0].header("authorization") or "")
    assert len({seen.connection for seen in server.requests()}) == 1


async def test_not_good_enough(server: Scope) -> None:
    """An answer that is refused is not given again."""
    tried = await fetched(server.url("a", status=401, header=[CHALLENGE]), identity())
    assert (tried.kind, tried.error.message) == ("http.401", "401 Unauthorized")
    assert answers(server) == [None, "00000001"]


async def test_stale(server: Scope) -> None:
    """A nonce that has become old is replaced by the new one of the challenge."""
    async with session() as transport:
        me = identity()
        await Tried(server.url("a", fail_times=1, fail_as=REFUSED)).over(transport, me)
        stale = REFUSED.replace("%22n%22", "%22new%22")
        assert stale != REFUSED
        tried = await Tried(server.url("b", fail_times=1, fail_as=stale)).over(transport, me)
    assert tried.kind is None
    assert answers(server, "b") == ["00000002", "00000001"]
    assert 'nonce="new"' in (server.requests("b")[1].header("authorization") or "")


async def test_redirects(server: Scope) -> None:
    """Each hop within the origin is answered; nobody else is, not even when asked, nor the way back."""
    other = server.origin(1)
    back = server.url("back", fail_times=1, fail_as=REFUSED)
    away = other.url("away", status=302, redirect_to=back)
    inside = server.url("inside", fail_times=1, fail_as=REFUSED, redirect_to=away)
    tried = await fetched(server.url("start", fail_times=1, fail_as=REFUSED, redirect_to=inside), identity())
    assert tried.kind == "http.401"
    assert answers(server) == [None, "00000001", "00000002", "00000001", None, None]
    assert [seen.resource.partition("?")[0].rpartition("/")[2] for seen in server.requests()] == [
        *("start", "start", "inside", "inside", "away", "back"),
    ]


async def test_nobody_elses_challenge(server: Scope) -> None:
    """Where the login is not for the host, the challenge is a failure like any other."""
    tried = await fetched(server.url("a", fail_times=1, fail_as=REFUSED), identity(host="b.example"))
    assert tried.kind == "http.401"
    assert answers(server) == [None]


async def test_userinfo(server: Scope) -> None:
    """User and password of a URL are proven, not told, and only if asked for."""
    none = Identity("test/1.0", logins=Logins(Access(auth=Auth.DIGEST)))
    url = server.url("a", fail_times=1, fail_as=REFUSED).replace("://", "://me:hush@", 1)
    assert (await fetched(url, none)).kind is None
    assert answers(server) == [None, "00000001"]


@pytest.mark.parametrize("said", ["Basic realm=x", 'Digest realm="r", nonce="n", qop="auth-int"', "Digest"])
async def test_never_told(server: Scope, said: str) -> None:
    """Who was told to prove it does not tell the password to a server that asks for that."""
    options: dict[str, Value] = {"status": 401, "header": [f"WWW-Authenticate:{said}"]}
    assert (await fetched(server.url("a", **options), identity())).kind == "http.401"
    assert answers(server) == [None]
