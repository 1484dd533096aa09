"""What tests ask of an object store that runs on loopback."""

import http.client
from collections.abc import Mapping
from typing import Final, Protocol

#: What the keys of a run begin with.
PREFIX: Final = "some/prefix"
#: What a client proves itself with, in Base64.
SECRET: Final = "U0VDUkVULUtFWS1PRi1NSU5F"


def ask(port: int, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return what a server on loopback answers; it must be well."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        told = response.read()
        assert response.status < 300, told
        return told
    finally:
        connection.close()


class Bucket(Protocol):
    """A bucket, which the environment leads to."""

    @property
    def url(self) -> str:
        """What ``-o`` takes, with a prefix."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """What a client needs to know."""
        ...

    def objects(self) -> dict[str, bytes]:
        """Return every object below the prefix."""
        ...

    def body(self, key: str) -> bytes:
        """Return one object."""
        ...

    def keys(self) -> list[str]:
        """Return the names of all below the prefix."""
        ...

    def size(self, key: str) -> int:
        """Return the bytes of an object, without reading it."""
        ...

    def uploads(self) -> list[str]:
        """Return what is not joined yet, and stays until somebody drops it."""
        ...

    def put(self, key: str, body: bytes) -> None:
        """Store what fetcher has not made."""
        ...

    def remove(self, key: str) -> None:
        """Remove an object."""
        ...

    def make(self) -> None:
        """Make the bucket."""
        ...
