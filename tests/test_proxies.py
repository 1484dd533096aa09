"""Which proxy a URL goes through."""

import os

import pytest

from fetcher.errors import ErrorKind, FetchError
from fetcher.transport.proxies import Proxies, is_socks, looks_up

HTTP, HTTPS = "http://a.example/x", "https://a.example/x"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the environment speaks of proxies."""
    for name in tuple(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def test_none() -> None:
    """Without a word about proxies, requests go directly."""
    assert Proxies(None).find(HTTP) is None


def test_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that was given is the one, whatever the environment says; an empty one is none."""
    monkeypatch.setenv("http_proxy", "http://env:1")
    monkeypatch.setenv("no_proxy", "*")
    assert [Proxies("http://given:2").find(url) for url in (HTTP, HTTPS)] == ["http://given:2"] * 2
    assert Proxies("").find(HTTP) is None
    assert Proxies("given:2").find(HTTP) == "http://given:2"


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({"http_proxy": "http://p:1"}, HTTP, "http://p:1"),
        ({"http_proxy": "http://p:1"}, HTTPS, None),
        ({"https_proxy": "http://p:1"}, HTTPS, "http://p:1"),
        ({"https_proxy": "http://p:1"}, HTTP, None),
        ({"HTTP_PROXY": "http://p:1"}, HTTP, "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, HTTPS, "http://p:1"),
        ({"http_proxy": "http://low:1", "HTTP_PROXY": "http://up:1"}, HTTP, "http://low:1"),
        ({"http_proxy": "", "HTTP_PROXY": "http://up:1"}, HTTP, None),
        # A web server's program: what a client sends as "Proxy:" must not choose the proxy.
        ({"HTTP_PROXY": "http://up:1", "REQUEST_METHOD": "GET"}, HTTP, None),
        ({"ALL_PROXY": "http://p:1"}, HTTP, "http://p:1"),
        ({"all_proxy": "http://p:1"}, HTTPS, "http://p:1"),
        ({"all_proxy": "http://all:1", "https_proxy": "http://p:1"}, HTTPS, "http://p:1"),
        ({"all_proxy": "socks5://all:1", "http_proxy": "http://p:1"}, HTTP, "http://p:1"),
        ({"http_proxy": "p:1"}, HTTP, "http://p:1"),
        ({"http_proxy": "me:secret@p:1"}, HTTP, "http://me:secret@p:1"),
        ({"https_proxy": "https://p:1"}, HTTPS, "https://p:1"),
        *(
            ({"all_proxy": "http://p:1", "no_proxy": bypassed}, "http://www.a.example:8080/", proxy)
            for bypassed, proxy in {
                "*": None,
                "a.example": None,
                ".a.example": None,
                "A.EXAMPLE": None,
                "x, www.a.example , y": None,
                "www.a.example:8080": None,
                "www.a.example:80": "http://p:1",
                "b.example": "http://p:1",
                "example.a": "http://p:1",
                "ww.a.example": "http://p:1",
                "": "http://p:1",
            }.items()
        ),
        ({"all_proxy": "http://p:1", "NO_PROXY": "a.example"}, HTTP, None),
        ({"all_proxy": "http://p:1", "no_proxy": "127.0.0.1"}, "http://127.0.0.1:8080/", None),
        ({"no_proxy": "b.example"}, HTTP, None),
    ],
)
def test_environment(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, proxy: str | None) -> None:
    """The environment is read as curl and wget read it."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Proxies(None).find(url) == proxy


@pytest.mark.parametrize("name", ["given", "all_proxy"])
def test_other_schemes(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A proxy that no transport can speak to is an error, not a detour; its password is not shown."""
    proxy = "ftp://me:secret@p:1"
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(FetchError, match=r"^proxy ftp://\*\*\*@p:1 is neither http:// nor ") as caught:
        Proxies(proxy if name == "given" else None).find(HTTP)
    assert caught.value.kind == ErrorKind.PROXY


@pytest.mark.parametrize("scheme", ["socks4", "Socks4a", "socks5", "SOCKS5H"])
def test_socks(scheme: str) -> None:
    """SOCKS proxies are found like others; with an h or an a at the end they look names up, as HTTP proxies do."""
    proxy = f"{scheme}://p:1"
    assert Proxies(proxy).find(HTTP) == proxy
    assert is_socks(proxy)
    assert looks_up(proxy) == (scheme[-1] in "aH")
    assert not is_socks("http://socks5:1")
    assert looks_up("http://p:1")


@pytest.mark.parametrize(
    ("given", "environment", "socks"),
    [
        (None, {}, False),
        (None, {"all_proxy": "Socks5://p:1"}, True),
        (None, {"https_proxy": "socks4://p:1", "http_proxy": "http://p:1"}, True),
        (None, {"all_proxy": "socks5://p:1", "https_proxy": "http://p:1", "http_proxy": "http://p:1"}, False),
        (None, {"ftp_proxy": "socks5://p:1"}, False),
        ("", {"all_proxy": "socks5://p:1"}, False),
        ("http://p:1", {"all_proxy": "socks5://p:1"}, False),
        ("socks5h://p:1", {}, True),
    ],
)
def test_any_socks(
    monkeypatch: pytest.MonkeyPatch, given: str | None, environment: dict[str, str], *, socks: bool
) -> None:
    """Whether a SOCKS proxy will be needed is known before any URL is."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Proxies(given).socks is socks
