"""L2: messages as one block of bytes behind its size, between processes of one run, which trust each other."""

import pickle
from collections.abc import Sequence
from typing import Any, Final

#: Bytes in front of a block, which tell its size.
HEADER: Final = 4


def packed(messages: Sequence[object]) -> bytes:
    """Return a block, its header in front."""
    block = pickle.dumps(messages, pickle.HIGHEST_PROTOCOL)
    return len(block).to_bytes(HEADER, "big") + block


def size_of(header: bytes) -> int:
    """Return how many bytes follow a header."""
    return int.from_bytes(header, "big")


def unpacked(block: bytes) -> list[Any]:
    """Return the messages of a block."""
    messages: list[Any] = pickle.loads(block)  # noqa: S301  from a process of our own
    return messages
