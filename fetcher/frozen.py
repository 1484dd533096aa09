"""L0: values that are frozen to the type checker and cheap to make.

A frozen dataclass makes each of its fields by ``object.__setattr__``, which takes three times as long as an assignment:
for the ten values of one fetched URL, a fifth of all the work this program does for it. So those that are made for
every line of a list are declared frozen, which mypy holds everyone to, and are plain dataclasses when they run.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["value"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:
    from collections.abc import Callable
    from dataclasses import dataclass

    def value(*, frozen: bool, slots: bool, kw_only: bool = False) -> Callable[[type[Any]], type[Any]]:
        """Make a dataclass that is equal, hashed and copied as a frozen one is, which only the type checker guards."""
        return dataclass(slots=slots, kw_only=kw_only, unsafe_hash=frozen)
