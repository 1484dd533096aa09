"""L4: events as lines for people."""

from collections.abc import Callable
from typing import Final

from fetcher.events import Event, Notice, Observer, Redirected, Retrying, Ruled, Said, Trouble, Waiting
from fetcher.model import Request
from fetcher.text import printable, span_text
from fetcher.urls import redact

#: Characters that are shown of a line that a command has written.
_SAID: Final = 300


def listener(print_line: Callable[[str], None], *, verbose: bool) -> Observer:
    """Return an observer that prints notices.

    If ``verbose``, it prints every retry, redirect, robots.txt and line of a command too, with its URL.
    """

    def hear(event: Event) -> None:
        if isinstance(event, Said):
            if verbose:
                for text in event.text.splitlines():
                    print_line(f"{printable(text, _SAID)}  {redact(event.url)}")
            return
        line = _line(event) if verbose or isinstance(event, Notice | Waiting | Trouble) else None
        if line is not None:
            print_line(line)
        if isinstance(event, Trouble) and verbose:
            for text in event.traceback.splitlines():
                print_line(text)

    return hear


def _line(event: Retrying | Redirected | Ruled | Notice | Waiting | Trouble) -> str:
    match event:
        case Notice(message=message) | Waiting(message=message):
            return f"fetcher: {message}"
        case Retrying(request=request, error=error, attempt=attempt, delay=delay):
            return f"retry {attempt} in {span_text(delay)}: {error.kind}: {error.message}  {_where(request)}"
        case Redirected(request=request, status=status, location=location):
            return f"{status} to {redact(location)}  {_where(request)}"
        case Ruled(url=url, words=words):
            return f"{url}: {words}"
        case Trouble(request=request):
            return f"fetcher: a bug met {_where(request)}; please report what -v shows"


def _where(request: Request) -> str:
    place = f"  ({request.source}:{request.line})" if request.line else ""
    return f"{redact(request.url)}{place}"
