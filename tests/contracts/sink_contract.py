"""What every place for bodies must keep; a test class per sink inherits it and gives ``place``."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

import pytest

from fetcher.details import Details
from fetcher.errors import ErrorKind, FetchError
from fetcher.exchange import Exchange
from fetcher.model import Head, Request, Stored
from fetcher.sinks.base import Sink
from tests.answers import body_of
from tests.contracts.source_contract import open_descriptors

#: Bytes; the suite of a sink that gathers blocks makes them 1,000 bytes long.
SIZES = [0, 1, 999, 1_000, 3_007, 300_000]


@dataclass(frozen=True, slots=True)
class Place:
    """A sink, what it shows the world (place to body), and the names of what it has hidden on its way there.

    ``where`` is the place that a stored body is said to have, ``descriptors`` what it may leave none of open.
    """

    sink: Sink
    shown: Callable[[], Mapping[str, bytes]]
    hidden: Callable[[], Iterable[str]]
    where: Callable[[Stored], str | None] = lambda stored: stored.path
    descriptors: Callable[[], set[int]] = open_descriptors


def request(url: str, index: int = 0) -> Request:
    """Return a request for ``url``, as a list's line."""
    return Request(index=index, url=url, target=url, host=url.split("/")[2], source="list", line=index + 1)


def head(url: str) -> Head:
    """Return the head of an ordinary response."""
    fields = (("content-type", "text/plain"),)
    exchange = Exchange(url, (("Accept", "*/*"),), 200, "OK", fields, "1.1", "192.0.2.1")
    return Head(status=200, url=url, content_type="text/plain", exchanges=(exchange,))


async def store(sink: Sink, url: str, pieces: Iterable[bytes]) -> Stored:
    """Put a whole body into a sink, or abort as soon as anything goes wrong: what a fetch does."""
    writer = await sink.open(request(url), head(url))
    try:
        for piece in pieces:
            await writer.write(piece)
        return await writer.commit()
    except BaseException:
        await writer.abort()
        raise


def cut(body: bytes, size: int) -> list[bytes]:
    """Return ``body`` in pieces of ``size`` bytes."""
    return [body[start : start + size] for start in range(0, len(body), size)]


class SinkContract:
    @pytest.fixture
    def place(self) -> Place:
        """Return an empty place."""
        raise NotImplementedError

    @staticmethod
    def check(place: Place, stored: Stored, body: bytes) -> None:
        """Assert that ``body`` is what is stored, and is shown where it says."""
        assert (stored.bytes, stored.sha256) == (len(body), sha256(body).hexdigest())
        where = place.where(stored)
        if where is not None:
            assert place.shown()[where] == body

    @pytest.mark.parametrize("size", SIZES)
    async def test_expected_digest(self, place: Place, size: int) -> None:
        """A body with the digest that the list tells is kept; of any other, nothing is left."""
        if place.sink.wants_wire:
            pytest.skip("what comes is not what the list tells of: the fetch compares it where it is decoded")
        body = body_of("expected", size)
        for digest, fits in ((sha256(b"another").hexdigest(), False), (sha256(body).hexdigest(), True)):
            asked = replace(request("http://h/expected"), details=Details(sha256=digest))
            writer = await place.sink.open(asked, head("http://h/expected"))
            await writer.write(body)
            if fits:
                self.check(place, await writer.commit(), body)
                continue
            with pytest.raises(FetchError) as caught:
                await writer.commit()
            assert caught.value.kind == ErrorKind.CHECKSUM
            await writer.hold()
            assert (dict(place.shown()), list(place.hidden())) == ({}, [])

    @pytest.mark.parametrize("pieces", [7, 400, 1_000, 200_000])
    @pytest.mark.parametrize("size", SIZES)
    async def test_bodies(self, place: Place, size: int, pieces: int) -> None:
        """A body of any size, in pieces of any size, is kept whole, with its size and digest."""
        body = body_of("/a", size)
        self.check(place, await store(place.sink, "http://h/a", cut(body, max(pieces, size // 1_000))), body)
        assert not [*place.hidden()]

    @pytest.mark.parametrize("size", SIZES)
    async def test_nothing_shown_before_commit(self, place: Place, size: int) -> None:
        """Nothing of a body is shown until all of it is."""
        writer = await place.sink.open(request("http://h/a"), head("http://h/a"))
        for piece in cut(body_of("/a", size), 1_000):
            await writer.write(piece)
            assert not place.shown()
        await writer.commit()

    @pytest.mark.parametrize("size", SIZES)
    async def test_abort(self, place: Place, size: int) -> None:
        """An aborted body leaves nothing, whatever was written of it, and does not stand in the way of the next."""
        before = place.descriptors()
        for written in (0, size // 2, size):
            writer = await place.sink.open(request("http://h/a"), head("http://h/a"))
            for piece in cut(body_of("/a", written), 600):
                await writer.write(piece)
            await writer.abort()
            assert not place.shown()
            assert not [*place.hidden()]
        assert place.descriptors() <= before
        body = body_of("/b", size)
        self.check(place, await store(place.sink, "http://h/a", cut(body, 600)), body)

    @pytest.mark.parametrize("size", [0, 10, 100_000])
    async def test_hold(self, place: Place, size: int) -> None:
        """A body that is held shows nothing, leaves nothing open, and the next attempt gets whole all the same."""
        before = place.descriptors()
        body = body_of("/a", size)
        part = replace(head("http://h/a"), validator='"1"')
        writer = await place.sink.open(request("http://h/a"), part)
        for piece in cut(body, 600):
            await writer.write(piece)
        await writer.hold()
        assert not place.shown()
        assert place.descriptors() <= before
        held = await place.sink.held(request("http://h/a"))
        assert held is None or (0 < held.size <= size and held.validator == '"1"')
        writer = await place.sink.open(request("http://h/a"), part, held)
        for piece in cut(body[held.size if held else 0 :] + b"the rest", 600):
            await writer.write(piece)
        self.check(place, await writer.commit(), body + b"the rest")
        assert not [*place.hidden()]
        assert await place.sink.held(request("http://h/a")) is None
        assert place.descriptors() <= before

    async def test_many_at_once(self, place: Place) -> None:
        """Bodies that arrive at the same time do not mix."""
        bodies = {f"http://h/{n}": body_of(str(n), n * 100) for n in range(60)}
        stored = await asyncio.gather(*(store(place.sink, url, cut(body, 300)) for url, body in bodies.items()))
        for each, body in zip(stored, bodies.values(), strict=True):
            self.check(place, each, body)
        assert not [*place.hidden()]

    @pytest.mark.parametrize("size", [10, 5_000])
    async def test_cancel_anywhere(self, place: Place, size: int) -> None:
        """A fetch cancelled at any step leaves the whole body or nothing, and nothing open."""
        body = body_of("/a", size)
        before = place.descriptors()
        for steps in range(60):
            url = f"http://h/{steps}"
            task = asyncio.create_task(store(place.sink, url, cut(body, 500)))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task}, timeout=5)
            assert task.done()
            assert not [*place.hidden()]
            assert set(place.shown().values()) <= {body}
        assert place.descriptors() <= before
