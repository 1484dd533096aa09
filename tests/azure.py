"""An Azure Blob Storage on loopback, by Azurite, and what it holds."""

import base64
import hashlib
import hmac
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Final
from urllib.parse import quote
from xml.etree import ElementTree as ET

from tests.sockets import until
from tests.stores import PREFIX, SECRET, ask

#: Where the program is, an npm package; None where it is not installed.
AZURITE: Final = shutil.which("azurite-blob")

_ACCOUNT: Final = "mine"


@dataclass(frozen=True, slots=True)
class Container:
    """A container of the server, which the environment leads to; see Bucket in tests.stores."""

    port: int
    name: str

    @property
    def url(self) -> str:
        """What ``-o`` takes, with a prefix."""
        return f"az://{self.name}/{PREFIX}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a client needs to know."""
        return {
            "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{self.port}/{_ACCOUNT}",
            "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": SECRET,
        }

    def objects(self) -> dict[str, bytes]:
        """Return every object below the prefix."""
        return {key: self.body(key) for key in self.keys()}

    def body(self, key: str) -> bytes:
        """Return one object."""
        return self._ask("GET", self._path(key))

    def keys(self) -> list[str]:
        """Return the names of all below the prefix."""
        return [*self._sizes()]

    def size(self, key: str) -> int:
        """Return the bytes of an object, without reading it."""
        return self._sizes()[key]

    def uploads(self) -> list[str]:
        """Return nothing: blocks that are never joined are dropped by the service, after a week."""
        return []

    def put(self, key: str, body: bytes) -> None:
        """Store what fetcher has not made."""
        self._ask("PUT", self._path(key), body=body, fields={"x-ms-blob-type": "BlockBlob"})

    def remove(self, key: str) -> None:
        """Remove an object."""
        self._ask("DELETE", self._path(key))

    def make(self) -> None:
        """Make the container."""
        self._ask("PUT", f"/{self.name}", {"restype": "container"})

    def _path(self, key: str) -> str:
        return f"/{self.name}/{PREFIX}/{quote(key)}"

    def _sizes(self) -> dict[str, int]:
        listing = ET.fromstring(self._ask("GET", f"/{self.name}", {"restype": "container", "comp": "list"}))
        return {
            (blob.findtext("Name") or "").removeprefix(f"{PREFIX}/"): int(blob.findtext("*/Content-Length") or "")
            for blob in listing.iter("Blob")
        }

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        fields: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send a request, signed with the account's key, and return the body of the answer."""
        query, target = query or {}, f"/{_ACCOUNT}{path}"
        sent = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02", **(fields or {})}
        signed = [
            *(method, "", "", str(len(body) or ""), *[""] * 8),
            *(f"{name}:{value}" for name, value in sorted(sent.items())),
            f"/{_ACCOUNT}{target}",
            *(f"{name}:{value}" for name, value in sorted(query.items())),
        ]
        proof = hmac.digest(base64.b64decode(SECRET), "\n".join(signed).encode(), hashlib.sha256)
        sent["Authorization"] = f"SharedKey {_ACCOUNT}:{base64.b64encode(proof).decode()}"
        words = "&".join(f"{name}={value}" for name, value in query.items())
        return ask(self.port, method, f"{target}?{words}", body, sent)


@contextmanager
def running(directory: Path) -> Iterator[int]:
    """Run the server, which keeps what it is told below ``directory``, and yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    # It has no end of its own: the shell ends it when there is nobody left to write to the shell.
    command = [
        "sh",
        "-c",
        '"$@" & cat; kill $!; wait',
        "sh",
        AZURITE or "",
        "--silent",
        "--disableTelemetry",
        "--skipApiVersionCheck",
    ]
    command += ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(directory)]
    environment = {"PATH": f"{Path(AZURITE or '').parent}:/usr/bin:/bin", "AZURITE_ACCOUNTS": f"{_ACCOUNT}:{SECRET}"}
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=null, stderr=null, env=environment) as process:
        try:
            until(lambda: _answers(port), 60.0)
            yield port
        finally:
            process.communicate()


def _answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
