"""An S3-speaking server on loopback, in a process of its own, and what it holds, asked for without credentials' checks."""

import http.client
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote
from xml.etree import ElementTree as ET

_PROGRAM: Final = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""
#: The server looks whether a request is signed, and not how.
_SIGNED: Final = {"Authorization": "AWS4-HMAC-SHA256 Credential=mine/20261121/us-east-1/s3/aws4_request"}
SECRET: Final = "SECRET-KEY-OF-MINE"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of the server, which the environment leads to."""

    port: int
    name: str

    @property
    def url(self) -> str:
        """What ``-o`` takes, with a prefix."""
        return f"s3://{self.name}/some/prefix"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a client needs to know."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "mine",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def objects(self) -> dict[str, bytes]:
        """Return every object below the prefix."""
        return {key: self.body(key) for key in self.keys()}

    def body(self, key: str) -> bytes:
        """Return one object."""
        return self._ask("GET", f"/{self.name}/some/prefix/{quote(key)}")

    def keys(self) -> list[str]:
        """Return the names of all below the prefix."""
        listing = ET.fromstring(self._ask("GET", f"/{self.name}?list-type=2&max-keys=10000&encoding-type=url"))
        keys = [unquote(each.text or "") for each in listing.iter() if each.tag.endswith("}Key")]
        return [key.removeprefix("some/prefix/") for key in keys]

    def size(self, key: str) -> int:
        """Return the bytes of an object, without reading it."""
        listing = ET.fromstring(self._ask("GET", f"/{self.name}?list-type=2&prefix=some/prefix/{quote(key, safe='')}"))
        return sum(int(each.text or "") for each in listing.iter() if each.tag.endswith("}Size"))

    def uploads(self) -> list[str]:
        """Return what is not joined yet."""
        return re.findall(r"<Key>(.*?)</Key>", self._ask("GET", f"/{self.name}?uploads").decode())

    def put(self, key: str, body: bytes) -> None:
        """Store what fetcher has not made."""
        self._ask("PUT", f"/{self.name}/some/prefix/{quote(key)}", body)

    def remove(self, key: str) -> None:
        """Remove an object."""
        self._ask("DELETE", f"/{self.name}/some/prefix/{quote(key)}")

    def make(self) -> None:
        """Make the bucket."""
        self._ask("PUT", f"/{self.name}")

    def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request(method, path, body, _SIGNED)
            response = connection.getresponse()
            told = response.read()
            assert response.status < 300, told
            return told
        finally:
            connection.close()


@contextmanager
def running() -> Iterator[int]:
    """Run the server and yield its port."""
    command = [sys.executable, "-c", _PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()
