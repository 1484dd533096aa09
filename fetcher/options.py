"""L0: everything chosen for a run, validated on construction, picklable."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from fetcher.access import NOBODY, Access
from fetcher.errors import UsageError

#: How files are called when the user says nothing else.
DEFAULT_NAME: Final = "{host}/{path}"

#: Bytes of an archive when the user names none.
ROTATE: Final = 1_000_000_000

#: As many at once as ``auto`` ever tries, all hosts together.
MOST_ADAPTIVE: Final = 200

#: As many parts of one body at once as a server may be asked for.
MOST_SEGMENTS: Final = 16

#: More processes than any machine has use for.
MAX_WORKERS: Final = 256


class Carrier(StrEnum):
    """What carries the requests: one aiohttp session, or libcurl."""

    SESSION = "session"
    CURL = "curl"


class Form(StrEnum):
    """The forms that a list can have; AUTO is told by its name and its first bytes."""

    AUTO = "auto"
    LINES = "lines"
    NDJSON = "ndjson"
    CSV = "csv"
    TSV = "tsv"
    PARQUET = "parquet"
    SITEMAP = "sitemap"


class Format(StrEnum):
    """What bodies are kept as: a file each, or many in an archive."""

    FILES = "files"
    WARC = "warc"
    TAR = "tar"
    PARQUET = "parquet"


class Existing(StrEnum):
    """What to do with a URL that an earlier run has fetched: nothing, ask if it has changed, or fetch it again."""

    SKIP = "skip"
    REFRESH = "refresh"
    REPLACE = "replace"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much at once and how fast. Rates are requests started per second; ``max_size`` is decoded bytes.

    ``max_speed`` is bytes of bodies received per second, by all transfers together.

    A long body is fetched over up to ``segments`` requests at once, as far as nothing else waits for them.

    With ``robots`` each origin is asked for its robots.txt first, and what that forbids is not fetched.

    With ``adaptive`` each host gets as many at once, within these limits, as it answers without getting slower.
    """

    concurrency: int = 50
    adaptive: bool = False
    per_host: int | None = None
    rate: float | None = None
    host_rate: float | None = None
    max_speed: float | None = None
    max_size: int | None = None
    max_redirects: int = 20
    segments: int = 1
    robots: bool = False

    def __post_init__(self) -> None:
        _require(1 <= self.concurrency <= 10_000, f"concurrency must be 1 to 10000, not {self.concurrency}")
        _require(self.per_host is None or self.per_host >= 1, f"per-host must be at least 1, not {self.per_host}")
        _require(self.rate is None or self.rate > 0, "rate must be above 0")
        _require(self.host_rate is None or self.host_rate > 0, "host-rate must be above 0")
        _require(self.max_speed is None or self.max_speed >= 1, "max-speed must be at least 1 byte per second")
        _require(self.max_size is None or self.max_size >= 0, "max-size must not be negative")
        _require(self.max_redirects >= 0, f"max-redirects must not be negative: {self.max_redirects}")
        most = MOST_SEGMENTS
        _require(1 <= self.segments <= most, f"segments must be 1 to {most}, not {self.segments}")

    @property
    def look_ahead(self) -> int:
        """How many requests are known ahead of the running ones, so that hosts can take turns."""
        return max(2_000, 10 * self.concurrency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds to wait: for a connection, for the next byte, and for one attempt in total (None: no bound)."""

    connect: float = 10.0
    read: float = 30.0
    total: float | None = None

    def __post_init__(self) -> None:
        _require(self.connect > 0, "connect-timeout must be above 0")
        _require(self.read > 0, "read-timeout must be above 0")
        _require(self.total is None or self.total > 0, "timeout must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often a transient failure is tried again, and the longest Retry-After obeyed, in seconds."""

    count: int = 3
    max_wait: float = 300.0

    def __post_init__(self) -> None:
        _require(self.count >= 0, f"retries must not be negative: {self.count}")
        _require(self.max_wait >= 0, "max-retry-wait must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """When a run gives up: after ``deadline`` seconds, or when more than ``failures`` rows have failed.

    ``failed_share`` is the same as a part of all settled rows, 0 to 1, of which there must be a hundred first.
    """

    deadline: float | None = None
    failures: int | None = None
    failed_share: float | None = None

    def __post_init__(self) -> None:
        _require(self.deadline is None or self.deadline > 0, "deadline must be above 0")
        _require(self.failures is None or self.failures >= 0, "max-failures must not be negative")
        share = self.failed_share
        _require(share is None or 0 <= share < 1, "max-failures must be below 100 percent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Which certificates are trusted: the system's, or those of ``ca_file``; ``verify=False`` trusts anyone.

    ``cert`` is the user's own, shown to a URL's own origin if that asks; its private key is in ``key`` or the same file,
    maybe encrypted with ``key_password``. All files are PEM.
    """

    ca_file: Path | None = None
    verify: bool = True
    cert: Path | None = None
    key: Path | None = None
    key_password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _require(self.key is None or self.cert is not None, "key needs cert, to which it belongs")
        _require(self.key_password is None or self.cert is not None, "key-password needs cert, whose key it opens")

    @property
    def has_files(self) -> bool:
        """Whether there is something to be read, which may be wrong."""
        return self.ca_file is not None or self.cert is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """What only libcurl can do: try HTTP/3 first, and look names up over HTTPS, by the server with the URL ``doh``."""

    http3: bool = False
    doh: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where bodies and state go, what they are called, and what happens to those already there.

    An archive takes no more bodies once it has ``rotate`` bytes or ``rotate_count`` bodies. With ``store``, a URL such as ``s3://bucket/prefix``,
    bodies go there, and only the state to ``directory``, and archives until they are finished.
    ``wait`` is how many seconds to wait while another run uses the directory.
    """

    directory: Path = Path("fetched")
    name: str = DEFAULT_NAME
    existing: Existing = Existing.SKIP
    save: bool = True
    format: Format = Format.FILES
    rotate: int = ROTATE
    rotate_count: int | None = None
    store: str | None = None
    wait: float = 0.0

    def __post_init__(self) -> None:
        _require(self.rotate >= 1, "rotate must be at least 1 byte")
        _require(self.rotate_count is None or self.rotate_count >= 1, "rotate must be at least 1 body")
        archived = self.format is not Format.FILES
        _require(
            not archived or self.name == DEFAULT_NAME,
            "--name is for --format files: in an archive bodies have no names",
        )
        _require(self.wait >= 0, "wait must not be negative")


#: Words of a command for which the file's path and the URL are put in.
FILE, URL = "{path}", "{url}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What is run for each fetched URL: a program and its arguments, no shell, with the record on its standard input.

    The words ``{path}`` and ``{url}`` stand for the file and the URL; they are whole words, so that neither can become
    part of a script. ``jobs`` are run at once, None: as many as there are processors; none for more than ``timeout``
    seconds.
    """

    words: tuple[str, ...]
    jobs: int | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        _require(bool(self.words), "exec needs a command")
        for word in self.words:
            if word not in (FILE, URL) and (FILE in word or URL in word):
                raise UsageError(f"exec: {FILE} and {URL} stand alone, as in: sh -c 'wc -c < \"$1\"' sh {FILE}")
        _require(self.jobs is None or self.jobs >= 1, f"exec-jobs must be at least 1, not {self.jobs}")
        _require(self.timeout is None or self.timeout > 0, "exec-timeout must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """How lists are read: their ``form``, which ``column`` has the URLs, and if these are patterns (``glob``)."""

    form: Form = Form.AUTO
    column: str = "url"
    glob: bool = False

    def __post_init__(self) -> None:
        _require(bool(self.column), "column must not be empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """What holds for the hosts of a ``pattern`` instead of what holds for all; None leaves that as it is.

    A pattern is a host, ``name`` or ``name:port``, or with ``*.`` before it every name that ends so. ``headers`` go to
    these hosts only, besides those for all, which they replace where they have the same name.
    """

    pattern: str
    per_host: int | None = None
    host_rate: float | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        _require(self.per_host is None or self.per_host >= 1, f"per-host must be at least 1, not {self.per_host}")
        _require(self.host_rate is None or self.host_rate > 0, "host-rate must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything chosen for a run.

    ``headers`` go with the first request to the URL's own origin and are never sent to another one; ``hosts`` says what
    is different for some hosts, the narrowest pattern first; ``access`` has logins, which go where ``headers`` go, and
    cookies;
    ``proxy`` overrides the environment's ``http_proxy``, ``https_proxy`` and ``no_proxy``. With ``block_private`` no
    connection is made to an address that is not of the public internet, whatever name or redirect leads there.
    ``command`` is run for each URL that was fetched, and belongs to fetching it: if it fails, so has the URL.
    ``contact`` is told in the User-Agent, so that who runs a server knows whom to write to.
    ``workers`` is how many processes fetch, which share the limits; with more than one, a script that calls the library
    must be importable without running (``if __name__ == "__main__":``), as multiprocessing demands.
    ``engine`` is a cluster that fetches instead, ``dask://HOST:PORT`` or ``dask:FILE`` with a scheduler file; ``workers``
    is then how much of it is used at once, 1 being all.
    """

    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    retries: Retries = field(default_factory=Retries)
    bounds: Bounds = field(default_factory=Bounds)
    tls: Tls = field(default_factory=Tls)
    output: Output = field(default_factory=Output)
    command: Command | None = None
    headers: tuple[tuple[str, str], ...] = ()
    hosts: tuple[HostOptions, ...] = ()
    access: Access = NOBODY
    user_agent: str | None = None
    contact: str | None = None
    proxy: str | None = None
    block_private: bool = False
    transport: Carrier = Carrier.SESSION
    wire: Wire = field(default_factory=Wire)
    workers: int = 1
    engine: str | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        _require(1 <= self.workers <= MAX_WORKERS, f"workers must be 1 to {MAX_WORKERS}, not {self.workers}")
        if self.command is not None and FILE in self.command.words:
            _require(self.output.save, f"exec with {FILE} needs a file, and no-save keeps none")
            alone = self.output.format is Format.FILES and self.output.store is None
            _require(alone, f"exec with {FILE} needs a file for each body: format files, in a directory")
        if self.engine is not None:
            _require(self.output.save, "--engine needs a place that all machines share, and --no-save keeps nothing")
            _require(self.output.format is Format.FILES, "--engine keeps bodies as files or objects: --format files")
        if self.transport is not Carrier.CURL:
            _require(not self.wire.http3, "HTTP/3 needs --transport curl")
            _require(self.wire.doh is None, "DNS over HTTPS needs --transport curl")
