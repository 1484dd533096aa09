"""L4: the commands, as Typer knows them."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from fetcher import __version__
from fetcher.cli.ending import told
from fetcher.cli.env import Environment, command_words
from fetcher.cli.flags import NOT_FOR_RETRY, Flags, RetryFlags
from fetcher.cli.help import PanelCommand, RetryCommand
from fetcher.cli.quick import QuickCommand, QuickGroup
from fetcher.errors import UsageError
from fetcher.status import ExitStatus

_Directory = Annotated[str | None, typer.Argument(metavar="DIR", help="What -o named.", show_default=False)]

_Flags = TypeVar("_Flags", bound=Flags)

app = typer.Typer(
    cls=QuickGroup,
    name="fetcher",
    help="Give it a list of URLs; get every file, whole, and one JSON record per URL saying what happened.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _given(directory: str | None) -> tuple[Path, str | None]:
    """Return a directory with records and, if its bodies are in a store, that one's URL; raises UsageError."""
    if not directory:
        raise UsageError("name a DIR: what -o of fetcher get was, by default fetched")
    from fetcher.cli import params

    return params.place("DIR", directory)


def _taking(
    flags: type[_Flags], without: frozenset[str] = frozenset()
) -> Callable[[Callable[[_Flags], None]], Callable[..., None]]:
    """Give a function the parameters that the fields of ``flags`` declare, so that they are written down once."""
    whole = inspect.signature(flags)
    kept = whole.replace(parameters=[each for name, each in whole.parameters.items() if name not in without])

    def decorate(command: Callable[[_Flags], None]) -> Callable[..., None]:
        def call(**typed: Any) -> None:
            given = flags(**typed)
            with told(given):
                command(given)

        call.__signature__ = kept  # type: ignore[attr-defined]
        call.__name__, call.__doc__ = command.__name__, command.__doc__
        return call

    return decorate


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", show_default=False)] = False,
) -> None:
    """Take what holds for all commands."""
    if version:
        print(f"fetcher {__version__}", flush=True)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(ExitStatus.USAGE)


@app.command(cls=PanelCommand, short_help="Fetch the URLs of lists.")
@_taking(Flags)
def get(flags: Flags) -> None:
    """Fetch every URL of each SOURCE: a list file, - for standard input, or a URL.
    Each body becomes a file, each line of the list one JSON record.
    """  # noqa: D205  one paragraph, or help would have a line too many
    if not flags.sources:
        raise UsageError("name a SOURCE: a list file, - for standard input, or a URL; fetcher get --help tells more")
    from fetcher.cli.get import main

    raise typer.Exit(main(flags, Environment.current(), [*command_words(), *sys.argv[1:]]))


@app.command(cls=RetryCommand, short_help="Fetch again what failed in DIR.")
@_taking(RetryFlags, NOT_FOR_RETRY)
def retry(flags: RetryFlags) -> None:
    """Fetch again what failed in DIR, as far as its latest record says so.

    Names must be made as they were then: give --name again.
    """
    _given(flags.directory)
    from fetcher.cli.retry import main

    directory = flags.directory or ""
    flags = replace(flags, sources=[directory], output_dir=directory, existing="replace")
    raise typer.Exit(main(flags, Environment.current(), [*command_words(), *sys.argv[1:]]))


@app.command(cls=QuickCommand, short_help="Print the latest record of each URL in DIR.")
def records(
    directory: _Directory = None,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that failed.", show_default=False)] = False,
    url: Annotated[str | None, typer.Option(metavar="U", help="Only this URL's.", show_default=False)] = None,
    path: Annotated[str | None, typer.Option(metavar="P", help="Only this file's.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Earlier ones too.", show_default=False)] = False,
    urls: Annotated[bool, typer.Option("--urls", help="As a list that get takes.", show_default=False)] = False,
) -> None:
    """Print the latest record of each URL that was ever fetched into DIR."""
    from fetcher.cli.records import Wanted, main

    wanted = Wanted(failed=failed, url=url, path=path, every=every, urls=urls)
    raise typer.Exit(main(_given(directory)[0], wanted, Environment.current()))


@app.command(cls=QuickCommand, short_help="Check that the files in DIR are as recorded.")
def verify(
    directory: _Directory = None,
    *,
    urls: Annotated[
        bool, typer.Option("--urls", help="As a list that get takes, without the foreign ones.", show_default=False)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="No summary if all is well.", show_default=False)
    ] = False,
) -> None:
    """Hash every file in DIR again and print those that are not as recorded: missing, changed, unreadable, foreign.

    DIR can be an object store, such as s3://bucket/prefix.
    """
    from fetcher.cli.verify import main

    raise typer.Exit(main(*_given(directory), Environment.current(), urls=urls, quiet=quiet))


@app.command(cls=QuickCommand, short_help="Make a page about the last run in DIR.")
def report(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="DIR: its last run; FILE: records; -: records.", show_default=False),
    ] = None,
    *,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE", help="The page; - for standard output.", show_default=False),
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Print the summary instead.", show_default=False)] = False,
) -> None:
    """Make a page of HTML of the last run in DIR, or of records in a FILE or from standard input (-).

    DIR's becomes DIR/.fetcher/report.html, that of run.ndjson run.html; the one of - goes to standard output.
    """
    if not source:
        raise UsageError("name a DIR, a file of records, or - for standard input; fetcher report --help tells more")
    from fetcher.cli.report import main

    raise typer.Exit(main(source, output, Environment.current(), text=text))


@app.command(cls=QuickCommand)
def schema() -> None:
    """Print the shape of a record as JSON Schema."""
    import orjson

    from fetcher.schema import record_schema

    print(orjson.dumps(record_schema(), option=orjson.OPT_INDENT_2).decode(), flush=True)


@app.command(cls=QuickCommand, short_help="Fetch 300 URLs from a site built in.")
def demo(
    *,
    serve: Annotated[
        str | None,
        typer.Option(metavar="PORT", help="Only serve the site, on this port of 127.0.0.1.", show_default=False),
    ] = None,
    output_dir: Annotated[str, typer.Option("-o", "--output-dir", metavar="DIR", help="Where files go.")] = "fetched",
) -> None:
    """Fetch about 300 URLs, good and bad, from a site built in, and show what came of them."""
    from fetcher.cli import params
    from fetcher.cli.demo import main, serve_only

    if serve is not None:
        raise typer.Exit(serve_only(params.whole("--serve", serve)))
    raise typer.Exit(main(output_dir, Environment.current()))
