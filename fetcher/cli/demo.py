"""L4: ``fetcher demo``: the real command on a list of good and bad URLs from the built-in site."""

import asyncio
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

from fetcher.cli.env import Environment, command_words
from fetcher.cli.flags import Flags
from fetcher.cli.get import fetch, options_of
from fetcher.cli.show import Show
from fetcher.cli.signals import handled
from fetcher.demosite import DemoSite, demo_lines, expected
from fetcher.errors import UsageError
from fetcher.events import Settled
from fetcher.model import Summary
from fetcher.options import Form
from fetcher.sources.forms import reader_of
from fetcher.sources.listfile import ListSource
from fetcher.status import ExitStatus
from fetcher.text import printable

#: Tried first, so that a second demo meets its own files again.
_PORT = 8765
_LIST = "demo-urls.txt"


class _Judge:
    """Compares each record with what its URL was made to do."""

    def __init__(self, expectations: Mapping[str, str | None]) -> None:
        self._expectations = expectations
        self.surprises: list[str] = []
        self.meant_to_fail = sum(kind is not None for kind in expectations.values())

    async def write(self, batch: Sequence[Settled]) -> None:
        """Look at a batch of records."""
        for record in (settled.record for settled in batch):
            kind = record.error.kind if record.error is not None else None
            wanted = self._expectations.get(record.url)
            if kind != wanted:
                self.surprises.append(f"{record.url}: {kind or 'ok'} instead of {wanted or 'ok'}")


def main(output_dir: str, environment: Environment) -> ExitStatus:
    """Run the demo and return 0 if every URL did what it was made to do."""
    flags = Flags(sources=[_LIST], output_dir=output_dir, existing="replace", json=False)
    command = command_words()
    show = Show(flags, environment, [*command, "demo", *(("-o", output_dir) if output_dir != "fetched" else ())])
    judge, summary = asyncio.run(_run(flags, show))
    show.end(summary)
    if summary.stop is not None:
        return ExitStatus.INTERRUPTED
    for line in judge.surprises:
        print(printable(line), file=environment.stderr)
    count = summary.lines - len(judge.surprises)
    print(f"\n{count} of {summary.lines} did what they were made to do; {judge.meant_to_fail} were meant to fail.")
    print(_NEXT.format(fetcher=shlex.join(command), directory=printable(output_dir)), flush=True)
    return ExitStatus.SOME_FAILED if judge.surprises else ExitStatus.OK


_NEXT = """\
Next:
  {fetcher} report {directory}                       # a page about this run
  {fetcher} demo --serve 8080 &                      # the same site, to play with
  {fetcher} get examples/urls.txt --concurrency 50   # a list of yours looks like this
  {fetcher} get examples/urls.txt | jq -r 'select(.ok|not).url'
  jq -r 'select(.path)|[.url,.path]|@tsv' {directory}/.fetcher/records.ndjson
"""


async def _run(flags: Flags, show: Show) -> tuple[_Judge, Summary]:
    async with AsyncExitStack() as stack:
        try:
            site = await stack.enter_async_context(DemoSite(_PORT))
        except UsageError:
            site = await stack.enter_async_context(DemoSite())
        lines = demo_lines(site.base_url, site.closed_port)
        judge = _Judge(expected(site.base_url, site.closed_port))
        with tempfile.TemporaryFile() as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
            file.seek(0)
            source = ListSource(_LIST, partial(reader_of, Form.LINES, "url"), file.fileno())
            return judge, await fetch(options_of(flags), [source], [judge], show)


def serve_only(port: int) -> ExitStatus:
    """Serve the demo site until Ctrl-C."""
    asyncio.run(_serve(port))
    return ExitStatus.OK


async def _serve(port: int) -> None:
    async with DemoSite(port) as site:
        print(f"serving {site.base_url}/ until Ctrl-C; its list: curl -s {site.base_url}/", flush=True)
        ended = asyncio.Event()
        with handled(lambda _: ended.set(), lambda: None):
            await ended.wait()
