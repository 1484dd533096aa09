"""Never executed, only type-checked: the library as its users' programs see it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import assert_type

import fetcher
from fetcher import (
    BusyError,
    Error,
    ErrorKind,
    Existing,
    Item,
    Limits,
    LocalError,
    Options,
    Outcome,
    Output,
    Record,
    Retries,
    Timeouts,
    Tls,
    UsageError,
    fetch_all,
    fetch_one,
)

assert_type(fetcher.__version__, str)


async def one() -> str | None:
    """One URL, one record, plain attributes."""
    record = await fetch_one("https://example.com/a")
    assert_type(record, Record)
    assert_type(record.ok, bool)
    assert_type(record.outcome, Outcome)
    assert_type(record.status, int | None)
    assert_type(record.path, str | None)
    assert_type(record.bytes, int | None)
    assert_type(record.error, Error | None)
    if record.error is not None and record.error.kind == ErrorKind.DNS:
        assert_type(record.error.transient, bool)
        return record.error.message
    return record.sha256


async def from_anywhere() -> AsyncIterator[str]:
    """URLs may come one by one."""
    yield "https://example.com/a"


async def many() -> list[Record]:
    """Every kind of iterable of text will do, and every option has its type."""
    options = Options(
        limits=Limits(concurrency=8, per_host=2, rate=10.5, host_rate=1, max_size=10_000_000, max_redirects=5),
        timeouts=Timeouts(connect=5, read=10, total=60.0),
        retries=Retries(count=1, max_wait=30),
        tls=Tls(ca_file=Path("ca.pem"), verify=True),
        output=Output(directory=Path("bodies"), name="{host}/{path}", existing=Existing.REPLACE, save=True),
        headers=(("Authorization", "Bearer x"),),
        user_agent="me/1.0",
        proxy="http://proxy:3128",
    )
    generator = fetch_all((f"https://example.com/{number}" for number in range(3)), options)
    assert_type(generator, AsyncGenerator[Record, None])
    async with aclosing(generator) as records:
        found = [record async for record in records if record.ok]
    found += [record async for record in fetch_all(from_anywhere())]
    item = Item("https://example.com/a", id=7, name="a.html", headers=(("X-Key", "x"),), meta={"price": 3.5})
    found += [record async for record in fetch_all([item, "https://example.com/b"])]
    found.append(await fetch_one(Item("https://example.com/", sha256="ab" * 32, max_size=9, mirrors=("https://m/",))))
    found += [record async for record in fetch_all(["https://example.com/"], options=Options())]
    return found


def program() -> int:
    """What can go wrong as a whole is three exceptions; a URL that fails is none."""
    try:
        records = asyncio.run(many())
    except BusyError:
        return 4
    except UsageError as error:
        print(error)  # noqa: T201  a user's program may
        return 2
    except LocalError as error:
        print(error.message)  # noqa: T201
        return 3
    return len([record for record in records if record.outcome is Outcome.FAILED])


async def refused(record: Record) -> None:
    """What a type checker must catch; an ignore that nothing needs is an error itself."""
    await fetch_one(Path("urls.txt"))  # type: ignore[arg-type]
    await fetch_one("https://example.com/", {"concurrency": 8})  # type: ignore[arg-type]
    fetch_all([b"https://example.com/"])  # type: ignore[list-item]
    Item("https://example.com/", "a.html")  # type: ignore[call-arg]
    Item(sha256="ab" * 32)  # type: ignore[call-arg]
    Options(Limits())  # type: ignore[call-arg]
    Options(concurrency=8)  # type: ignore[call-arg]
    Limits(concurrency="8")  # type: ignore[arg-type]
    Output(directory="bodies")  # type: ignore[arg-type]
    record.status = 200  # type: ignore[misc]
    record.path.upper()  # type: ignore[union-attr]
