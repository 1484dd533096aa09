"""L2: how many files and connections this process may have open at once."""

import resource
from contextlib import suppress
from typing import Final

#: Descriptors for standard streams, event loop, journal, lists, resolver and libraries.
_OURS: Final = 24
#: A transfer needs its connection and its file.
_EACH: Final = 2


def allow(wanted: int) -> int:
    """Raise the soft limit of descriptors as far as ``wanted`` transfers at once need, and return how many it allows.

    At least 1, at most ``wanted``.
    """
    needed = _OURS + _EACH * wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        with suppress(OSError, ValueError):  # some kernels have a limit of their own below the hard one
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    return max(1, (soft - _OURS) // _EACH)
