"""L2: the end of a process, also while threads that are not Python's are still at work in it."""

import os
import sys
from typing import Final, NoReturn

#: Extensions whose own threads let go of Python's objects at times of their choosing. One that does so while the
#: interpreter is taken down aborts the process, and nothing can be waited for.
_RESTLESS: Final = ("obstore",)


def leave(status: int) -> NoReturn:
    """End the process with this status; all that is to be written must have been."""
    if any(sys.modules.get(name) is not None for name in _RESTLESS):
        os._exit(status)
    sys.exit(status)
