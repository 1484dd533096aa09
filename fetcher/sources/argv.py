"""L2: the URLs given on the command line."""

from collections.abc import AsyncGenerator, Iterable

from fetcher.model import Row
from fetcher.sources.text import decode


class ArgvSource:
    """URLs that were arguments, each with its position among the SOURCE arguments, counted from 1."""

    name = "argv"

    def __init__(self, urls: Iterable[tuple[int, str]]) -> None:
        self._urls = tuple(urls)

    async def rows(self) -> AsyncGenerator[Row, None]:
        r"""Yield one row per URL; an argument that is not UTF-8 has its bytes as ``\xe9`` and an error."""
        for position, url in self._urls:
            yield decode(self.name, position, _bytes_of(url.strip(" \t\r")))

    async def count(self) -> int:
        """Return how many URLs there are."""
        return len(self._urls)


def _bytes_of(argument: str) -> bytes:
    """Return an argument as it was typed: PEP 383 brings bytes that are no text as lone surrogates."""
    try:
        return argument.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return argument.encode(errors="surrogatepass")
