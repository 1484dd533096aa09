"""L3: a list that is somewhere else, fetched as anything else is, but kept in memory until it is read."""

from fetcher.asking import Pages
from fetcher.clock import Clock
from fetcher.errors import Error
from fetcher.events import Observer, Transfer
from fetcher.fetch import Fetch
from fetcher.model import Request
from fetcher.options import Options
from fetcher.retry import RetryPolicy

#: No sitemap is longer, in bytes (sitemaps.org), packed or not.
MOST = 50 * 1024 * 1024


async def download(request: Request, fetch: Fetch, options: Options, clock: Clock, observe: Observer) -> bytes | Error:
    """Return a body, or why there is none: it has failed as often as a URL of a list may."""
    policy = RetryPolicy(options.retries.count, options.retries.max_wait)
    retried: tuple[str, ...] = ()
    while True:
        pages, started = Pages(MOST), clock.monotonic()
        transfer = Transfer(request, started, last_byte=started)
        attempts = fetch.aside(pages, options.limits)
        attempt = await attempts.attempt(transfer, len(retried) + 1, options.timeouts.total, observe)
        if attempt.error is None:
            return bytes(pages.body)
        delay = policy.delay(attempt, retried, clock.random())
        if delay is None:
            return attempt.error
        retried += (attempt.error.kind,)
        await clock.sleep(delay)
