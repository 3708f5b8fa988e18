"""Values in place of numbers: within a function that is differentiated, and within a trace."""

from __future__ import annotations

from typing import Any, NoReturn

from .engine import Value, numbers_of
from .errors import InputError
from .numerics import has_axes, number, number_in


class Given(Value):
    """A Value in place of a number, which compares as one: `1 if y == 1 else -1` is as of numbers.

    It is so while a function runs that was written for numbers, and a plain Value afterwards.
    """

    __slots__ = ()
    __passes__ = True  # with the function: each is its own copy

    def __reduce__(self) -> NoReturn:
        raise InputError(
            "a variable of a function that is being differentiated cannot be pickled: what comes "
            "back would have no derivative by it. Write .data for its number"
        )

    def __eq__(self, other: Any) -> Any:
        if has_axes(other):
            return super().__eq__(other)
        if isinstance(other, Given) or not (isinstance(other, Value) or number_in(other) is None):
            return self.equals(other)
        return NotImplemented

    __hash__ = Value.__hash__

    def equals(self, other: Any) -> Any:
        """Whether the numbers of both are equal."""
        x, y = numbers_of([self, other if isinstance(other, Value) else number(other)])
        return x == y


Given.__name__ = "Value"  # what messages call it: to users it is nothing else
