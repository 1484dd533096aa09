"""L4: the parameters of ``fetcher get`` as they are typed: text, not yet understood."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from typer import Argument, Context, Option

from fetcher.access import Auth
from fetcher.cli.config import Config, read
from fetcher.errors import ErrorKind
from fetcher.options import Carrier, Existing, Form, Format, Listing, Options

#: What holds where nothing is typed.
_DEFAULTS: Final = Options()
_LISTING: Final = Listing()

#: How progress is shown.
PROGRESS: Final = ("auto", "live", "lines", "json", "off")

INPUT, OUTPUT, SPEED, PATIENCE = "Input", "Output", "Speed", "Patience"
REQUEST, PRINTING = "Request", "Printing"


def _option(panel: str, help_text: str, *names: str, words: Iterable[str] = (), **more: Any) -> Any:
    """Return an option that the environment can set too: ``--per-host`` as FETCHER_PER_HOST.

    ``words`` are all that it takes, for a shell to complete them.
    """
    variable = (
        "FETCHER_"
        + next(name for name in names if name.startswith("--")).partition("/")[0][2:].replace("-", "_").upper()
    )
    return Option(
        *names,
        help=help_text,
        rich_help_panel=panel,
        envvar=variable,
        show_envvar=False,
        autocompletion=(lambda: words) if words else None,
        **more,
    )


def _or_environment(given: list[str] | None) -> list[str] | None:
    """Typer splits a variable at every blank, of which header fields have some; here a line is a field."""
    return given or os.environ.get("FETCHER_HEADER", "").splitlines() or None


def _read(path: str) -> Config:
    return read(path, kinds())


def _preferred(context: Context, config: Config | None) -> Config | None:
    """Let a file's settings stand for the defaults, so that what is typed, or in the environment, goes before them."""
    if config is not None:
        context.default_map = {**config.settings}
        if _or_environment(None):
            context.default_map.pop("header", None)
    return config


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """One field per parameter; the annotations are what ``--help`` shows."""

    sources: Annotated[
        list[str] | None,
        Argument(metavar="SOURCE", show_default=False, help="list file, - for standard input, or URL"),
    ] = None

    input_format: Annotated[
        str,
        _option(
            INPUT, "auto, lines, ndjson, csv, tsv, parquet or sitemap", "--input-format", metavar="FORM", words=Form
        ),
    ] = _LISTING.form.value
    column: Annotated[str, _option(INPUT, "which column of a table has the URLs", "--column", metavar="NAME")] = (
        _LISTING.column
    )
    glob: Annotated[
        bool, _option(INPUT, "take URLs as patterns: [001-100:3] [a-z] {a,b}", "--glob", show_default=False)
    ] = False

    output_dir: Annotated[
        str,
        _option(OUTPUT, "where files and the run's state go; or s3://...", "-o", "--output-dir", metavar="DIR"),
    ] = str(_DEFAULTS.output.directory)
    name: Annotated[str, _option(OUTPUT, "how files are called, see below", "--name", metavar="TEMPLATE")] = (
        _DEFAULTS.output.name
    )
    existing: Annotated[
        str, _option(OUTPUT, "skip, refresh or replace what is there", "--existing", metavar="WHAT", words=Existing)
    ] = _DEFAULTS.output.existing.value
    no_save: Annotated[
        bool, _option(OUTPUT, "fetch and hash, keep nothing: check links", "--no-save", show_default=False)
    ] = False

    format: Annotated[
        str, _option(OUTPUT, "files, or archives: warc, tar or parquet", "--format", metavar="FORM", words=Format)
    ] = _DEFAULTS.output.format.value
    rotate: Annotated[
        str, _option(OUTPUT, "begin a new archive after so many bytes or bodies (10000x)", "--rotate", metavar="SIZE")
    ] = "1G"
    exec: Annotated[
        str | None, _option(OUTPUT, "run this for each fetched URL: CMD with {path}, {url}", "--exec", metavar="CMD")
    ] = None
    exec_jobs: Annotated[
        str | None, _option(OUTPUT, "so many at once  [as there are processors]", "--exec-jobs", metavar="N")
    ] = None
    exec_timeout: Annotated[
        str | None, _option(OUTPUT, "and none longer than this", "--exec-timeout", metavar="DUR")
    ] = None

    concurrency: Annotated[str, _option(SPEED, "requests at once, or auto", "-c", "--concurrency", metavar="N")] = str(
        _DEFAULTS.limits.concurrency
    )
    per_host: Annotated[
        str | None,
        _option(SPEED, "requests at once to one host  [as --concurrency]", "--per-host", metavar="N"),
    ] = None
    rate: Annotated[str | None, _option(SPEED, "requests started: 20, 20/s, 100/m", "--rate", metavar="R")] = None
    host_rate: Annotated[str | None, _option(SPEED, "the same for each host", "--host-rate", metavar="R")] = None

    max_speed: Annotated[
        str | None, _option(SPEED, "bytes a second, all together: 500k, 10M", "--max-speed", metavar="SIZE")
    ] = None

    segments: Annotated[
        str, _option(SPEED, "requests at once for one large file, where slots are free", "--segments", metavar="N")
    ] = str(_DEFAULTS.limits.segments)

    workers: Annotated[
        str, _option(SPEED, "processes that share the work and the limits", "--workers", metavar="N")
    ] = str(_DEFAULTS.workers)

    engine: Annotated[
        str | None, _option(SPEED, "a cluster that fetches: dask://HOST:PORT (an extra)", "--engine", metavar="URL")
    ] = None

    transport: Annotated[
        str, _option(SPEED, "session (aiohttp) or curl (an extra)", "--transport", metavar="HOW", words=Carrier)
    ] = _DEFAULTS.transport.value

    http3: Annotated[
        bool, _option(SPEED, "with --transport curl: HTTP/3 where a host has it", "--http3", show_default=False)
    ] = False

    retries: Annotated[str, _option(PATIENCE, "tries after the first, for what may pass", "--retries", metavar="N")] = (
        str(_DEFAULTS.retries.count)
    )
    connect_timeout: Annotated[str, _option(PATIENCE, "for DNS, TCP and TLS", "--connect-timeout", metavar="S")] = (
        f"{_DEFAULTS.timeouts.connect:g}"
    )
    read_timeout: Annotated[str, _option(PATIENCE, "without a single byte", "--read-timeout", metavar="S")] = (
        f"{_DEFAULTS.timeouts.read:g}"
    )
    timeout: Annotated[
        str | None, _option(PATIENCE, "for one attempt in total, redirects and body included", "--timeout", metavar="S")
    ] = None
    max_retry_wait: Annotated[
        str, _option(PATIENCE, "the longest Retry-After that is obeyed", "--max-retry-wait", metavar="S")
    ] = f"{_DEFAULTS.retries.max_wait:g}"
    max_size: Annotated[
        str | None, _option(PATIENCE, "refuse larger bodies: 500k, 10M, 2Gi", "--max-size", metavar="SIZE")
    ] = None

    deadline: Annotated[
        str | None, _option(PATIENCE, "for the whole run; the same command again goes on", "--deadline", metavar="DUR")
    ] = None
    max_failures: Annotated[
        str | None, _option(PATIENCE, "give up when more URLs have failed: 50 or 5%", "--max-failures", metavar="N")
    ] = None

    header: Annotated[
        list[str] | None,
        Option(
            "-H",
            "--header",
            metavar="'K: V'",
            help="a field for the URL's own origin; @FILE reads them",
            rich_help_panel=REQUEST,
            show_default=False,
            callback=_or_environment,
        ),
    ] = None
    user: Annotated[
        str | None, _option(REQUEST, "log in to the URL's own origin with this name", "--user", metavar="NAME")
    ] = None
    password: Annotated[
        str | None, _option(REQUEST, "where its password is: @FILE or env:NAME", "--password", metavar="WHERE")
    ] = None
    auth: Annotated[
        str, _option(REQUEST, "basic, or digest, which tells no password", "--auth", metavar="HOW", words=Auth)
    ] = _DEFAULTS.access.auth.value
    bearer: Annotated[
        str | None, _option(REQUEST, "where a token is: @FILE or env:NAME", "--bearer", metavar="WHERE")
    ] = None
    netrc: Annotated[
        str | None,
        _option(REQUEST, "names and passwords by host, as ftp and curl read them", "--netrc", metavar="FILE"),
    ] = None
    cookies: Annotated[
        str | None, _option(REQUEST, "cookies as browsers export them; only read", "--cookies", metavar="FILE")
    ] = None
    cert: Annotated[
        str | None, _option(REQUEST, "show this certificate (PEM) if asked for one", "--cert", metavar="FILE")
    ] = None
    key: Annotated[
        str | None, _option(REQUEST, "the certificate's private key  [in the same file]", "--key", metavar="FILE")
    ] = None
    key_password: Annotated[
        str | None, _option(REQUEST, "where the key's password is", "--key-password", metavar="WHERE")
    ] = None
    user_agent: Annotated[str | None, _option(REQUEST, "instead of fetcher/VERSION", "--user-agent", metavar="S")] = (
        None
    )
    contact: Annotated[
        str | None, _option(REQUEST, "told in the User-Agent: an address or a URL", "--contact", metavar="S")
    ] = None
    max_redirects: Annotated[str, _option(REQUEST, "hops that are followed", "--max-redirects", metavar="N")] = str(
        _DEFAULTS.limits.max_redirects
    )
    proxy: Annotated[
        str | None, _option(REQUEST, "instead of http_proxy, https_proxy, no_proxy", "--proxy", metavar="URL")
    ] = None
    ca_file: Annotated[
        str | None, _option(REQUEST, "trust these certificates (PEM) instead of the system's", "--ca-file", metavar="F")
    ] = None
    doh_url: Annotated[
        str | None, _option(REQUEST, "with --transport curl: look names up over HTTPS", "--doh-url", metavar="URL")
    ] = None
    block_private: Annotated[
        bool,
        _option(REQUEST, "connect to addresses of the public internet only", "--block-private", show_default=False),
    ] = False
    robots: Annotated[
        bool, _option(REQUEST, "obey robots.txt, its Crawl-delay too", "--robots", show_default=False)
    ] = False
    insecure: Annotated[bool, _option(REQUEST, "trust any certificate", "-k", "--insecure", show_default=False)] = False

    json: Annotated[
        bool | None,
        _option(
            PRINTING,
            "records on standard output  [unless a terminal]",
            "--json/--no-json",
            show_default=False,
        ),
    ] = None
    changed: Annotated[
        bool, _option(PRINTING, "records of new and changed files only", "--changed", show_default=False)
    ] = False
    quiet: Annotated[
        int,
        _option(
            PRINTING, "say nothing if all is well; -qq: nothing at all", "-q", "--quiet", count=True, show_default=False
        ),
    ] = 0
    verbose: Annotated[
        bool, _option(PRINTING, "a line per retry, redirect and robots.txt", "-v", "--verbose", show_default=False)
    ] = False
    progress: Annotated[
        str, _option(PRINTING, "auto, live, lines, json or off", "--progress", metavar="HOW", words=PROGRESS)
    ] = "auto"
    failed: Annotated[
        str | None, _option(PRINTING, "write the failed lines, to fetch them again", "--failed", metavar="FILE")
    ] = None
    summary: Annotated[str | None, _option(PRINTING, "write the end summary as JSON", "--summary", metavar="FILE")] = (
        None
    )
    metrics: Annotated[
        str | None, _option(PRINTING, "write numbers for Prometheus' node exporter", "--metrics", metavar="FILE")
    ] = None
    report: Annotated[
        str | None, _option(PRINTING, "write a page of HTML about the run", "--report", metavar="FILE")
    ] = None

    dry_run: Annotated[
        bool,
        _option(PRINTING, "send nothing; print what would be fetched where", "-n", "--dry-run", show_default=False),
    ] = False
    wait: Annotated[str, _option(PRINTING, "for another run in DIR to end: 10m", "--wait", metavar="DUR")] = (
        f"{_DEFAULTS.output.wait:g}"
    )
    config: Annotated[
        Config | None,
        _option(
            PRINTING,
            "options, and sections for hosts, from a file (TOML)",
            "--config",
            metavar="FILE",
            parser=_read,
            callback=_preferred,
            is_eager=True,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryFlags(Flags):
    """The parameters of ``fetcher retry``: those of ``get``, but what the directory decides."""

    directory: Annotated[str | None, Argument(metavar="DIR", show_default=False, help="what -o named")] = None
    kind: Annotated[
        list[str] | None,
        Option(
            "--kind",
            metavar="KIND",
            autocompletion=lambda: list(ErrorKind),
            help="only what failed so: http.503, timeout; may be repeated",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None


#: Parameters of ``get`` that ``retry`` has no use for.
NOT_FOR_RETRY: Final = frozenset({"sources", "input_format", "column", "glob", "output_dir", "existing", "no_save"})

#: Parameters that no file sets: what to fetch is for the command to say, and a file names no other.
NOT_IN_FILE: Final = frozenset({"sources", "config"})


def kinds() -> dict[str, type]:
    """Return what a file can set, each with its type: bool, int, list, or str for what ``params`` understands."""
    found: dict[str, type] = {}
    for name, hint in get_type_hints(Flags).items():
        types = {get_origin(each) or each for each in get_args(hint) or (hint,)}
        if name not in NOT_IN_FILE:
            found[name] = next((kind for kind in (bool, int, list) if kind in types), str)
    return found
