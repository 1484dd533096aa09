"""L4: what lets commands start quickly.

Typer's own conversion needs pydantic, which takes 0.17 s to import, also where there is nothing to convert.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

_CERTIFICATES: Final = "SSL_CERT_FILE"

#: Annotations whose values arrive as they are meant: text, lists of text, counts.
_AS_TYPED: Final[dict[Any, Any]] = {str: str, int: int, bool: bool, list[str]: (tuple, list)}


class _AsTyped:
    """Stands before a parameter's own conversion and lets pass what needs none."""

    def __init__(self, parameter: Any) -> None:
        self._convert = parameter.get_runtime_param
        self._wanted = _AS_TYPED.get(parameter.type_descriptor.annotation, ())

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None or isinstance(value, self._wanted):
            return () if value is None and (param.multiple or param.nargs == -1) else value
        return self._convert().coerce(value, param=param, ctx=ctx)


def quickened(parameters: list[Any]) -> list[Any]:
    """Return the same parameters, each of which now takes what is as meant as it is."""
    for parameter in parameters:
        if hasattr(parameter, "get_runtime_param") and not hasattr(parameter, "as_typed"):
            parameter.as_typed = _AsTyped(parameter)
            parameter.get_runtime_param = lambda quick=parameter.as_typed: quick
    return parameters


class QuickCommand(TyperCommand):
    """A command that starts quickly."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, ``--help`` included."""
        return quickened(super().get_params(ctx))


class QuickGroup(TyperGroup):
    """A group of commands that starts quickly."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, ``--help`` and those for completion included."""
        return quickened(super().get_params(ctx))


@contextmanager
def trusting_nobody() -> Iterator[None]:
    """Let TLS contexts that are made meanwhile have none of the system's certificates, which take 20 ms to read.

    aiohttp makes two when it is imported, and a run uses neither. The environment is changed for that, so this is for a
    process that has no other thread, and for nothing that makes contexts to be used.
    """
    given = os.environ.get(_CERTIFICATES)
    os.environ[_CERTIFICATES] = os.devnull
    try:
        yield
    finally:
        if given is None:
            del os.environ[_CERTIFICATES]
        else:
            os.environ[_CERTIFICATES] = given
