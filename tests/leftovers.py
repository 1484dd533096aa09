"""What must not outlive a test."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def none_left(grace: float = 1.0) -> Iterator[None]:
    """Raise AssertionError if the body leaves a thread that is not a daemon, or child processes, running or unreaped.

    Threads get ``grace`` seconds to end. Children are only looked for if there were none before.
    """
    before, childless = set(threading.enumerate()), not _has_children()
    yield
    left = [thread for thread in threading.enumerate() if not thread.daemon and thread not in before]
    for thread in left:
        thread.join(grace)
    assert not [thread for thread in left if thread.is_alive()], "threads left behind"
    assert not (childless and _has_children()), "child processes left behind"


def _has_children() -> bool:
    if not hasattr(os, "waitid"):
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
