"""Events as lines for people."""

import pytest

from fetcher.errors import Error
from fetcher.events import Event, Notice, Redirected, Retrying, Ruled, Trouble
from fetcher.model import Request
from fetcher.views.log import listener

REQUEST = Request(0, "http://u:pw@h/a", "http://h/a", "h", "urls.txt", 7, "u:pw")
WHERE = "http://***@h/a  (urls.txt:7)"


@pytest.mark.parametrize(
    ("event", "always", "verbose"),
    [
        (Notice("the disk is nearly full"), ["fetcher: the disk is nearly full"], []),
        (
            Retrying(REQUEST, Error.of("http.503", "503 Service Unavailable"), 2, 1.5),
            [],
            [f"retry 2 in 1.5 s: http.503: 503 Service Unavailable  {WHERE}"],
        ),
        (Redirected(REQUEST, 301, "http://x:pw@i/b"), [], [f"301 to http://***@i/b  {WHERE}"]),
        (Ruled("http://h/robots.txt", "obeyed"), [], ["http://h/robots.txt: obeyed"]),
        (Redirected(Request(-1, "http://h/x", "http://h/x", "h", "", 0), 301, "/y"), [], ["301 to /y  http://h/x"]),
        (
            Trouble(REQUEST, 'Traceback:\n  File "x"\nKeyError: 1'),
            [f"fetcher: a bug met {WHERE}; please report what -v shows"],
            ["Traceback:", '  File "x"', "KeyError: 1"],
        ),
    ],
)
def test_lines(event: Event, always: list[str], verbose: list[str]) -> None:
    """Notices and bugs are told to everyone, retries, redirects, rules and traces to those who asked; never a password."""
    quiet_lines: list[str] = []
    listener(quiet_lines.append, verbose=False)(event)
    assert quiet_lines == always
    verbose_lines: list[str] = []
    listener(verbose_lines.append, verbose=True)(event)
    assert verbose_lines == always + verbose
