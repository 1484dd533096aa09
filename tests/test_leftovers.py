"""What outlives a test is found."""

import subprocess
import threading

import pytest

from tests.leftovers import none_left


def test_left_thread() -> None:
    """A thread that would keep the interpreter alive is found."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    with pytest.raises(AssertionError, match="threads"), none_left(grace=0):
        thread.start()
    done.set()
    thread.join()


def test_left_process() -> None:
    """A child process is found, running or not waited for."""
    child = None
    with pytest.raises(AssertionError, match="processes"), none_left():
        child = subprocess.Popen(["sleep", "60"])
    assert child is not None
    with child:
        child.kill()
