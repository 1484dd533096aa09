"""Bodies in an object store: whole or not there, in bounded memory, and nothing of the credentials anywhere."""

import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Self

import pytest

from fetcher.disk import Disk
from fetcher.errors import LocalError
from fetcher.model import Record
from fetcher.naming import Template
from fetcher.sinks import objects, spool
from fetcher.sinks import store as stores
from fetcher.sinks.files import Naming
from fetcher.sinks.objects import ObjectsSink
from fetcher.sinks.store import ObjectStore
from tests import azure, s3
from tests.answers import body_of
from tests.command import Command
from tests.contracts.sink_contract import Place, SinkContract, head, request, store
from tests.contracts.source_contract import open_descriptors
from tests.server import Scope
from tests.stores import SECRET, Bucket

pytest.importorskip("obstore", reason="obstore, the extra `s3`, is not installed")

_NUMBERS = count()

Buckets = Callable[[str], Bucket]


@pytest.fixture(scope="module", params=["s3", "gs", "az"])
def bucket_named(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buckets]:
    """What gives buckets of one kind, from a server that runs."""
    if request.param == "az":
        if azure.AZURITE is None:
            pytest.skip("azurite-blob, of the npm package azurite, is not installed")
        with azure.running(tmp_path_factory.mktemp("azure")) as port:
            yield partial(azure.Container, port)
    else:
        with s3.running() as port:
            yield partial(s3.Bucket, port, scheme=request.param)


@pytest.fixture
def bucket(bucket_named: Buckets, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, to which the environment leads."""
    bucket = bucket_named(f"bucket{next(_NUMBERS)}")
    bucket.make()
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    return bucket


@pytest.fixture
def sink(bucket: Bucket, tmp_path: Path) -> Iterator[ObjectsSink]:
    """A sink for the bucket."""
    with Disk() as disk:
        yield ObjectsSink(ObjectStore(bucket.url), tmp_path, named("{host}/{path}"), disk)


def named(template: str) -> Naming:
    """Return what names objects."""
    return Naming(Template.parse(template), "2026-11-21")


def files_open() -> set[int]:
    """Return the descriptors of files; connections are kept for the next request."""
    return {each for each in open_descriptors() if Path(f"/proc/self/fd/{each}").readlink().is_absolute()}


class Shown(Mapping[str, bytes]):
    """What is in a bucket; an object is read when it is looked at."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def __getitem__(self, key: str) -> bytes:
        return self._bucket.body(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._bucket.keys())

    def __len__(self) -> int:
        return len(self._bucket.keys())


class TestObjects(SinkContract):
    @pytest.fixture
    def place(self, bucket: Bucket, sink: ObjectsSink, monkeypatch: pytest.MonkeyPatch) -> Place:
        """Objects named by their URLs; what has more than 1,000 bytes goes in parts."""
        monkeypatch.setattr(objects, "BLOCK", 1_000)
        return Place(sink, lambda: Shown(bucket), bucket.uploads, descriptors=files_open)


class TestNamedByBody(SinkContract):
    @pytest.fixture
    def place(self, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
        """Objects named by what is in them; what has more than 1,000 bytes is put together in a file, and goes in parts."""
        monkeypatch.setattr(objects, "BLOCK", 1_000)
        monkeypatch.setattr(spool, "BLOCK", 1_000)
        with Disk() as disk:
            sink = ObjectsSink(ObjectStore(bucket.url), tmp_path, named("{sha256:.2}/{sha256}{ext}"), disk)
            yield Place(sink, lambda: Shown(bucket), bucket.uploads, descriptors=files_open)


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_equal_bodies_are_one_object(size: int, bucket: Bucket, tmp_path: Path) -> None:
    """Equal bodies of a run, and of a later one that remembers nothing, are put once; anothers' object is left alone."""
    body, another = body_of("a", size), body_of("b", size)
    taken = f"{sha256(another).hexdigest()}.txt"
    bucket.put(taken, b"mine")
    put: list[str] = []
    with Disk() as disk:
        for _ in range(2):
            sink = ObjectsSink(ObjectStore(bucket.url), tmp_path, named("{sha256}{ext}"), disk)
            for url, each in (("http://h/a", body), ("http://h/b", body), ("http://h/c", another)):
                stored = await store(sink, url, [each])
                put.append(str(stored.path))
    assert put[:3] == put[3:]
    assert put[0] == put[1] == f"{sha256(body).hexdigest()}.txt"
    assert "~" in put[2]
    assert bucket.objects() == {put[0]: body, put[2]: another, taken: b"mine"}


async def test_anothers_object_is_left_alone(bucket: Bucket, sink: ObjectsSink) -> None:
    """A body takes another name than what no run has made, whatever its size; its own is replaced."""
    large = b"x" * 2_000_000
    bucket.put("h/a.txt", b"mine")
    bucket.put("h/b.txt", b"mine")
    first = [await store(sink, "http://h/a", [b"a"]), await store(sink, "http://h/b", [large])]
    assert all(each.path is not None and "~" in each.path for each in first)
    again = ObjectsSink(sink.store, sink.directory, named("{host}/{path}"), sink.disk)  # which remembers nothing
    second = [await store(again, "http://h/a", [b"A"]), await store(again, "http://h/b", [large + b"!"])]
    assert [each.path for each in first] == [each.path for each in second]
    expected = {"h/a.txt": b"mine", "h/b.txt": b"mine", str(first[0].path): b"A", str(first[1].path): large + b"!"}
    assert bucket.objects() == expected


async def test_an_abandoned_upload(bucket: Bucket, sink: ObjectsSink) -> None:
    """What has gone in parts and is not finished is dropped; the turn passes to the next."""
    for n in range(6):
        writer = await sink.open(request(f"http://h/{n}"), head("http://h/"))
        for _ in range(18):
            await writer.write(b"x" * 1_000_000)
        assert bucket.uploads() or isinstance(bucket, azure.Container)
        await writer.abort()
        assert not bucket.uploads()
    assert bucket.objects() == {}


async def test_long_names_and_odd_types(bucket: Bucket, sink: ObjectsSink) -> None:
    """Whatever a list and a server say, the store takes it: a hostile one stops no run."""
    for url in ("http://h/" + "%C3%A9" * 400 + "/b" * 300, "http://h/" + "d/" * 490, "http://h/a%0D%0Ab?%2F&x=%25+;"):
        stored = await store(sink, url, [url.encode()])
        assert bucket.objects()[str(stored.path)] == url.encode()
    for n, odd in enumerate(("text/pl\u00e4in", "a/b\r\nX: y", "x" * 3_000, "", "text/html")):
        writer = await sink.open(request(f"http://h/{n}"), type(head(""))(200, "http://h/", content_type=odd))
        await writer.write(b"x")
        assert (await writer.commit()).path in bucket.objects()


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_a_store_that_fails(size: int, bucket: Bucket, tmp_path: Path) -> None:
    """A failure of the store is one of this machine's, in a few words, without an address or a secret."""
    nowhere = f"{bucket.url.partition(':')[0]}://no-such-bucket/x"
    with Disk() as disk:
        sink = ObjectsSink(ObjectStore(nowhere), tmp_path, named("{path}"), disk)
        with pytest.raises(LocalError) as failed:
            await store(sink, "http://h/a", [body_of("a", size)])
    assert failed.value.message.startswith(f"{nowhere}: ")
    assert any(word in failed.value.message for word in ("NoSuchBucket", "ContainerNotFound", "404"))
    assert SECRET not in failed.value.message
    assert "127.0.0.1" not in failed.value.message


def test_what_is_there(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few objects are looked for one by one, many in the listing, and what is not in it once more."""
    monkeypatch.setattr(stores, "_ASKED", 3)
    there = ObjectStore(bucket.url)
    for n in range(4):
        bucket.put(f"a/{n}", b"x" * n)
    records = [Record(url="u", source="s", line=1, outcome="fetched", path=f"a/{n}", bytes=n) for n in range(5)]  # type: ignore[arg-type]
    for _ in range(2):
        assert [there.has(record) for record in records] == [True] * 4 + [False]
    bucket.put("a/4", b"x" * 4)
    assert [there.has(record) for record in records] == [True] * 5
    assert ObjectStore(f"{bucket.url}/").has(Record(url="u", source="s", line=1, outcome="fetched", bytes=0))  # type: ignore[arg-type]


# --- the command


class Endless(threading.Thread):
    """A server that answers once, with so many zeros; a context manager."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/zeros"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()
        self.join()

    def run(self) -> None:
        connection, _ = self._listener.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {self._size}\r\n\r\n".encode())
            for _ in range(self._size >> 20):
                connection.sendall(bytes(1 << 20))


def test_a_run(bucket: Bucket, server: Scope, run_fetcher: Command, tmp_path: Path) -> None:
    """Bodies go to the store, the state stays here and is copied at the end; the same command again fetches the rest."""
    sizes = {"a.txt": 60, "b": 3_000, "c": 0, "d": 20_000_000}
    urls = {server.url(name, size=size): server.body_of(name, size) for name, size in sizes.items()}
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in [*urls, server.url("gone", status=404), *urls]))
    words = ("get", "urls.txt", "-o", bucket.url, "--json")
    ran = run_fetcher(*words, env=bucket.environment)
    assert ran.code == 1, ran.stderr
    fetched = {record["url"]: record for record in ran.records if record["outcome"] == "fetched"}
    held = bucket.objects()
    assert {url: held[record["path"]] for url, record in fetched.items()} == urls
    assert {record["path"] for record in ran.records if record["outcome"] == "duplicate"} >= {
        record["path"] for record in fetched.values()
    }
    state = tmp_path / "fetcher-state" / bucket.url.replace("://", "/")
    assert held[".fetcher/records.ndjson"] == (state / ".fetcher/records.ndjson").read_bytes()
    assert json.loads(held[".fetcher/last-run.json"])["exit_status"] == 1
    assert not bucket.uploads()
    shown = run_fetcher("records", bucket.url).records
    assert {record["url"] for record in shown if record["ok"]} == set(urls)
    bucket.remove(fetched[server.url("b", size=3_000)]["path"])
    again = run_fetcher(*words, "--workers", "2", env=bucket.environment)
    outcomes = [record["outcome"] for record in again.records if record["line"] <= 4]
    assert sorted(outcomes) == ["fetched", "skipped", "skipped", "skipped"]
    everything = ran.stdout_bytes + ran.stderr_bytes + again.stderr_bytes + b"".join(bucket.objects().values())
    assert SECRET.encode() not in everything
    assert run_fetcher("retry", bucket.url, env=bucket.environment).code == 1


def test_verify(bucket: Bucket, server: Scope, run_fetcher: Command, tmp_path: Path) -> None:
    """Every object is read again, by the records that are here, or by those in the store; what is found can be mended."""
    sizes = {"a.txt": 60, "b.txt": 3_000_000, "c.txt": 5}
    urls = [server.url(name, size=size) for name, size in sizes.items()]
    words = ("-o", bucket.url, "-q")
    assert run_fetcher("get", *urls, *words, env=bucket.environment).code == 0
    paths = {record["url"]: record["path"] for record in run_fetcher("records", bucket.url).records}
    ran = run_fetcher("verify", bucket.url, env=bucket.environment)
    assert (ran.code, ran.stdout) == (0, "")
    assert ran.stderr.startswith("3 files, 3.00 MB in ")
    bucket.put(paths[urls[0]], b"another")
    bucket.remove(paths[urls[1]])
    bucket.put("h/mine", b"mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for here in (run_fetcher, Command(elsewhere)):
        ran = here("verify", bucket.url, env=bucket.environment)
        assert ran.code == 1, ran.stderr
        told = [(record["finding"], record["path"], record["found_bytes"]) for record in ran.records]
        assert told[:2] == [("changed", paths[urls[0]], 7), ("missing", paths[urls[1]], None)]
        assert told[2:] == [("foreign", "h/mine", None)]
        assert f"fetcher get - -o {bucket.url} --existing replace" in ran.stderr
    assert not [*elsewhere.iterdir()]
    found = run_fetcher("verify", bucket.url, "--urls", env=bucket.environment).stdout_bytes
    again = run_fetcher("get", "-", *words, "--existing", "replace", stdin=found, env=bucket.environment)
    assert again.code == 0, again.stderr
    bucket.remove("h/mine")
    ran = run_fetcher("verify", bucket.url, "-q", env=bucket.environment)
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")


def test_nothing_to_verify(bucket: Bucket, run_fetcher: Command) -> None:
    """Where nothing was ever stored there is nothing to verify."""
    ran = run_fetcher("verify", bucket.url, env=bucket.environment)
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr == f"fetcher: {bucket.url} has no records: nothing was fetched into it\n"


def test_verify_without_an_answer(closed_port: int, run_fetcher: Command) -> None:
    """A store that does not answer is this machine's trouble, told once."""
    ran = run_fetcher("verify", "s3://bucket/x", env=s3.Bucket(closed_port, "bucket").environment)
    assert (ran.code, ran.stdout, ran.stderr.count("\n")) == (3, "", 1)
    assert ran.stderr.startswith("fetcher: s3://bucket/x: ")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_names_from_bodies(workers: str, bucket: Bucket, server: Scope, run_fetcher: Command) -> None:
    """Equal bodies of one run are one object; the next run has nothing to fetch."""
    bodies = ["small.txt?size=500", "large.txt?size=2000000"]
    urls = [server.url(f"{n}.txt", redirect_to=server.path(bodies[n % 2])) for n in range(6)]
    words = ("get", *urls, "-o", bucket.url, "--name", "{sha256:.2}/{sha256}{ext}", "--workers", workers, "--json")
    ran = run_fetcher(*words, env=bucket.environment)
    assert ran.code == 0, ran.stderr
    paths = {record["path"] for record in ran.records}
    assert paths == {f"{record['sha256'][:2]}/{record['sha256']}.txt" for record in ran.records}
    assert {key for key in bucket.keys() if not key.startswith(".fetcher/")} == paths  # noqa: SIM118
    assert {record["bytes"] for record in ran.records} == {500, 2_000_000}
    assert len(paths) == 2
    again = run_fetcher(*words, env=bucket.environment)
    assert {record["outcome"] for record in again.records} == {"skipped"}
    assert run_fetcher("verify", bucket.url, env=bucket.environment).code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "s3://"), "write a directory, or a store such as s3://bucket/prefix"),
        (("-o", "ftp://bucket"), "write a directory, or a store such as s3://bucket/prefix"),
        (("-o", "s3://b/../x"), "write a directory, or a store such as s3://bucket/prefix"),
        (("-o", "s3://key:SECRET@b"), "credentials come from the environment"),
        (("-o", "az://container"), "cannot use az://container: "),
        (("-o", "s3://b", "--format", "tar", "--name", "{n}"), "--name is for --format files"),
    ],
)
def test_refused(words: tuple[str, ...], said: str, run_fetcher: Command, tmp_path: Path) -> None:
    """What cannot be meant is refused in one line, before anything is fetched or made."""
    ran = run_fetcher("get", "http://127.0.0.1:1/", *words)
    assert (ran.code, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert said in ran.stderr
    assert "SECRET" not in ran.stderr
    assert not [*tmp_path.iterdir()]


def test_without_obstore(server: Scope, tmp_path: Path) -> None:
    """Without the extra the command to install it is told, and nothing is fetched."""
    program = "import sys; sys.modules['obstore'] = None; from fetcher.__main__ import main; main()"
    ran = Command(tmp_path, ("-c", program))("get", server.url("a"), "-o", "s3://bucket")
    assert (ran.code, ran.stderr) == (2, "fetcher: an object store needs obstore: pip install 'fetcher[s3]'\n")
    assert not server.requests()


def test_a_broken_body_publishes_nothing(bucket: Bucket, server: Scope, run_fetcher: Command) -> None:
    """A body that is cut short, after parts of it have gone, is nowhere to be seen."""
    url = server.url("a", size=20_000_000, truncate_at=18_000_000)
    ran = run_fetcher("get", url, "-o", bucket.url, "--retries", "0", env=bucket.environment)
    assert [record["error"]["kind"] for record in ran.records] == ["truncated"]
    assert {key for key in bucket.objects() if not key.startswith(".fetcher/")} == set()
    assert not bucket.uploads()


def test_killed(bucket: Bucket, server: Scope, run_fetcher: Command, tmp_path: Path) -> None:
    """After kill -9 the store has whole bodies only, and the same command completes them."""
    urls = {
        server.url(f"{n}", size=9_000 + n, delay=0.3 if n > 8 else 0): server.body_of(f"{n}", 9_000 + n)
        for n in range(20)
    }
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
    words = ("get", "urls.txt", "-o", bucket.url, "-c", "4", "--json")
    with run_fetcher.start(*words, env=bucket.environment) as process:
        assert process.stdout is not None
        for _ in range(7):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    whole = [*bucket.objects().values()]
    assert len(whole) >= 7
    assert {*whole} <= {*urls.values()}
    ran = run_fetcher(*words, env=bucket.environment)
    assert ran.code == 0, ran.stderr
    assert {record["url"]: record["sha256"] for record in ran.records} == {
        url: sha256(body).hexdigest() for url, body in urls.items()
    }
    held = bucket.objects()
    assert {record["url"]: held[record["path"]] for record in ran.records} == urls
    assert sorted(key for key in held if not key.startswith(".fetcher/")) == sorted(r["path"] for r in ran.records)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_interpreter_is_not_taken_down(
    workers: str, bucket: Bucket, server: Scope, run_fetcher: Command, tmp_path: Path
) -> None:
    """No process that has used a store runs into the end of its interpreter, where the store's threads may abort it."""
    hook = "import atexit, sys\natexit.register(lambda: 'obstore' in sys.modules and sys.stderr.write('TAKEN DOWN'))\n"
    (tmp_path / "sitecustomize.py").write_text(hook)
    environment = {**bucket.environment, "PYTHONPATH": str(tmp_path)}
    urls = [server.url(f"{n}") for n in range(8)]
    ran = run_fetcher("get", *urls, "-o", bucket.url, "--workers", workers, env=environment)
    assert (ran.code, "TAKEN DOWN" in ran.stderr) == (0, False)
    control = Command(tmp_path, ("-c", "import obstore"))(env=environment)
    assert (control.code, control.stderr) == (0, "TAKEN DOWN")


@pytest.mark.slow
def test_memory(bucket: Bucket, server: Scope, run_fetcher: Command, tmp_path: Path) -> None:
    """A body of a gigabyte takes less than 100 MiB of memory, the interpreter and all libraries included."""
    with Endless(1 << 30) as endless:
        program = "import resource, subprocess, sys\n"
        program += "ran = subprocess.run([sys.executable, '-m', 'fetcher', *sys.argv[1:]])\n"
        program += "sys.stderr.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))\n"
        program += "sys.exit(ran.returncode)"
        words = ("get", endless.url, "-o", bucket.url, "-qq", "--json")
        ran = Command(tmp_path, ("-c", program))(*words, env=bucket.environment, timeout=280)
    [record] = ran.records
    assert (ran.code, record["bytes"]) == (0, 1 << 30), ran.stderr
    assert int(ran.stderr) < 100 * 1024  # KiB
    assert bucket.size(record["path"]) == 1 << 30
