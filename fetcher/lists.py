"""L3: what the words of a command line name, as lists to read."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from fetcher.asking import Pages
from fetcher.clock import SystemClock
from fetcher.columns import URL
from fetcher.download import MOST, Downloads
from fetcher.engines.inline import Inline
from fetcher.errors import Error, ErrorKind, UsageError
from fetcher.events import Counters, Observer, Waiting
from fetcher.model import Request, Row
from fetcher.options import Form, Listing, Options
from fetcher.plan import Planner
from fetcher.sources.argv import ArgvSource
from fetcher.sources.base import FormError, ReadError, Source
from fetcher.sources.forms import by_name, reader_of
from fetcher.sources.globbed import GlobbedSource
from fetcher.sources.listfile import Follow, ListSource
from fetcher.sources.opener import beginning, check, is_packed, rereadable
from fetcher.sources.parquet import ParquetSource
from fetcher.text import printable
from fetcher.urls import redact
from fetcher.wiring import fetching


def sources(arguments: Iterable[str], listing: Listing, follow: Follow | None) -> list[Source]:
    """Return what the words of a command line name: literal URLs, list files, ``-`` for standard input.

    ``follow`` reads the sitemaps that an index names; without it, they are rows. Adjacent URLs are one source. Raises UsageError if a file cannot be read, or needs what is not installed.
    """
    found = _named(arguments, listing, follow)
    return [GlobbedSource(source) for source in found] if listing.glob else found


def _named(arguments: Iterable[str], listing: Listing, follow: Follow | None) -> list[Source]:
    found: list[Source] = []
    urls: list[tuple[int, str]] = []
    for position, word in enumerate(arguments, start=1):
        if word.lower().startswith(("http://", "https://")):
            urls.append((position, word))
            continue
        if urls:
            found.append(ArgvSource(urls))
            urls = []
        found.append(_list(word, listing, follow))
    if urls:
        found.append(ArgvSource(urls))
    return found


def _list(path: str, listing: Listing, follow: Follow | None) -> Source:
    """Return the source of a list; raises UsageError if not even its beginning can be read."""
    check(path)
    form = by_name(path) if listing.form is Form.AUTO else listing.form
    if form is Form.PARQUET and rereadable(path) and not is_packed(path):
        table = ParquetSource(path, listing.column)
        table.check()
        return table
    choose = partial(reader_of, form, listing.column)
    if rereadable(path):
        try:
            head = beginning(path)
            next(choose(path, head).feed(head), None)
        except FormError as error:
            raise UsageError(f"{printable(path)}: {error}") from error
        except ReadError:
            pass  # what can be read is fetched, and the rest is told in a record
    return ListSource(path, choose, follow=follow)


def follower(options: Options, observe: Observer) -> Follow:
    """Return what fetches the sitemaps that an index names, one at a time, and reads them.

    One that cannot be had is a row that says why; so is one that is an index itself. What holds for the URLs of a list,
    rates and robots.txt included, holds for them among themselves.
    """
    clock = SystemClock()
    choose = partial(reader_of, Form.SITEMAP, URL)

    async def refuse(rows: Sequence[Row]) -> AsyncGenerator[Row, None]:
        for row in rows:
            yield replace(row, error=Error.of(ErrorKind.BAD_RECORD, "an index that an index names is not read"))

    async def rows_of(row: Row, downloads: Downloads) -> AsyncGenerator[Row, None]:
        observe(Waiting(f"{row.source} is an index of sitemaps: reading {redact(row.text)}"))
        decision = Planner().plan(row)
        found = await downloads.get(decision) if isinstance(decision, Request) else None
        if isinstance(found, bytes):
            async with aclosing(ListSource(redact(row.text), choose, found, refuse).rows()) as rows:
                async for inner in rows:
                    yield inner
        else:
            yield replace(row, error=found)  # if it is no URL, that is told where the others are

    async def follow(rows: Sequence[Row]) -> AsyncGenerator[Row, None]:
        pages = Pages(MOST)
        async with fetching(options, pages, clock) as fetch:
            engine = Inline(options, fetch, clock, Counters(clock.monotonic()), observe)
            async with Downloads(engine, pages) as downloads:
                for row in rows:
                    async with aclosing(rows_of(row, downloads)) as found:
                        async for each in found:
                            yield each

    return follow
