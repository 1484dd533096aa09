"""A server on loopback that speaks S3, or Google's dialect of it, in a process of its own, and what it holds."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote
from xml.etree import ElementTree as ET

from tests.stores import PREFIX, SECRET, ask

#: The server looks whether a request is signed, and not how.
SIGNED: Final = "AWS4-HMAC-SHA256 Credential=mine/20261121/us-east-1/s3/aws4_request"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of the server, which the environment leads to; ``scheme`` says by which name, s3 or gs."""

    port: int
    name: str
    scheme: str = "s3"

    @property
    def url(self) -> str:
        """What ``-o`` takes, with a prefix."""
        return f"{self.scheme}://{self.name}/{PREFIX}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a client needs to know."""
        base = f"http://127.0.0.1:{self.port}"
        if self.scheme == "gs":
            return {"GOOGLE_BASE_URL": base, "GOOGLE_BEARER_TOKEN": SECRET}
        return {
            "AWS_ENDPOINT_URL": base,
            "AWS_ACCESS_KEY_ID": "mine",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def objects(self) -> dict[str, bytes]:
        """Return every object below the prefix."""
        return {key: self.body(key) for key in self.keys()}

    def body(self, key: str) -> bytes:
        """Return one object."""
        return self._ask("GET", f"/{self.name}/{PREFIX}/{quote(key)}")

    def keys(self) -> list[str]:
        """Return the names of all below the prefix."""
        listing = ET.fromstring(self._ask("GET", f"/{self.name}?list-type=2&max-keys=10000&encoding-type=url"))
        keys = [unquote(each.text or "") for each in listing.iter() if each.tag.endswith("}Key")]
        return [key.removeprefix(f"{PREFIX}/") for key in keys]

    def size(self, key: str) -> int:
        """Return the bytes of an object, without reading it."""
        listing = ET.fromstring(self._ask("GET", f"/{self.name}?list-type=2&prefix={PREFIX}/{quote(key, safe='')}"))
        return sum(int(each.text or "") for each in listing.iter() if each.tag.endswith("}Size"))

    def uploads(self) -> list[str]:
        """Return what is not joined yet, and stays until somebody drops it."""
        return re.findall(r"<Key>(.*?)</Key>", self._ask("GET", f"/{self.name}?uploads").decode())

    def put(self, key: str, body: bytes) -> None:
        """Store what fetcher has not made."""
        self._ask("PUT", f"/{self.name}/{PREFIX}/{quote(key)}", body)

    def remove(self, key: str) -> None:
        """Remove an object."""
        self._ask("DELETE", f"/{self.name}/{PREFIX}/{quote(key)}")

    def make(self) -> None:
        """Make the bucket."""
        self._ask("PUT", f"/{self.name}")

    def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        return ask(self.port, method, path, body, {"Authorization": SIGNED})


@contextmanager
def running() -> Iterator[int]:
    """Run the server and yield its port."""
    command, root = [sys.executable, "-m", "tests.s3_server"], Path(__file__).parent.parent
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe, stderr=null) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()
