"""Which sections a host falls under, and what they say together."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.errors import UsageError
from fetcher.hosts import ALIKE, Hosts, host_pattern, limits_of, merged
from fetcher.options import HostOptions, Limits, Options

SECTIONS = (
    HostOptions(pattern="api.example.com", headers=(("Authorization", "api"),)),
    HostOptions(pattern="*.example.com", per_host=2, headers=(("authorization", "any"), ("X-Any", "1"))),
    HostOptions(pattern="*.com", per_host=9, host_rate=5.0),
    HostOptions(pattern="localhost:8080", host_rate=1.0),
)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("api.example.com", (2, 5.0, {"X-Any": "1", "Authorization": "api"})),
        ("a.b.example.com", (2, 5.0, {"authorization": "any", "X-Any": "1"})),
        ("v2.api.example.com", (2, 5.0, {"authorization": "any", "X-Any": "1"})),
        ("example.com", (9, 5.0, {})),
        ("localhost:8080", (None, 1.0, {})),
        ("api.example.com:8080", None),
        ("localhost", None),
        ("com", None),
        ("notexample.org", None),
        ("[::1]:8080", None),
    ],
)
def test_what_is_said(host: str, said: tuple[int | None, float | None, dict[str, str]] | None) -> None:
    """The narrowest section goes first and wider ones fill in, field by field; their order says nothing."""
    for sections in (SECTIONS, SECTIONS[::-1]):
        found = Hosts(sections).of(host)
        assert said == (found and (found.per_host, found.host_rate, dict(found.headers)))


def test_no_sections() -> None:
    """Without sections there is nothing to be said of any host."""
    assert ALIKE.of("example.com") is None
    assert ALIKE.sections == ()


@pytest.mark.parametrize(
    ("written", "pattern"),
    [
        ("API.Example.com", "api.example.com"),
        ("example.com:80", "example.com"),
        ("example.com:443", "example.com"),
        ("*.Example.com:8443", "*.example.com:8443"),
        ("[0::1]:81", "[::1]:81"),
        ("b\u00fccher.example", "xn--bcher-kva.example"),
    ],
)
def test_patterns(written: str, pattern: str) -> None:
    """A pattern is written as in a URL and stands for the hosts of requests."""
    assert host_pattern(written) == pattern


@pytest.mark.parametrize(
    "written", ["", "*", "*.", "a.*.b", "**.a", "https://a.b", "a/b", "a b", "u@a", "a?", "a#", "a\\b", "a:0", "\x1b"]
)
def test_no_patterns(written: str) -> None:
    """What is no host is refused with examples of what is."""
    with pytest.raises(UsageError, match=r'is no host: write a host such as "api\.example\.com"'):
        Hosts([HostOptions(pattern=written)])


def test_twins() -> None:
    """Two sections for one host are refused, however they are written."""
    with pytest.raises(UsageError, match=r'two sections for the host "a\.b"'):
        Hosts([HostOptions(pattern="a.b"), HostOptions(pattern="A.b:443")])


def test_limits() -> None:
    """A section's limits take the place of those for all; what it leaves open stays."""
    limits = Limits(per_host=4, host_rate=2.0, concurrency=9)
    assert limits_of(limits, HostOptions(pattern="a")) == limits
    assert limits_of(limits, HostOptions(pattern="a", per_host=1)) == Limits(per_host=1, host_rate=2.0, concurrency=9)
    assert limits_of(limits, HostOptions(pattern="a", host_rate=1.0)).host_rate == 1.0


def test_secrets_are_not_shown() -> None:
    """Options can be printed, and sent to another process."""
    options = Options(hosts=SECTIONS)
    assert "'api'" not in repr(options)
    assert pickle.loads(pickle.dumps(options)) == options


_names = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join)


@given(st.lists(st.tuples(st.booleans(), _names), unique=True), _names)
def test_the_narrowest(patterns: list[tuple[bool, str]], host: str) -> None:
    """A host's own section is found, or else that of the longest wildcard that it ends like."""
    sections = [HostOptions(pattern=("*." if wild else "") + name, per_host=1) for wild, name in patterns]
    fitting = [name for wild, name in patterns if wild and host.endswith(f".{name}")]
    expected = host if (False, host) in patterns else f"*.{max(fitting, key=len)}" if fitting else None
    found = Hosts(sections).of(host)
    assert expected == (found and found.pattern)


def test_merged_fields() -> None:
    """Fields are replaced by name, whatever its case, all of one name at once."""
    wider = (("Accept", "a"), ("X", "1"), ("x", "2"))
    assert merged(wider, (("X", "3"), ("Y", "4"))) == (("Accept", "a"), ("X", "3"), ("Y", "4"))
    assert merged(wider, ()) == wider
