"""`affine`, a sum of products as one node; `take`, a row that a number chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from . import ops
from .engine import NATIVE, Value, new_node, slot_of_data
from .errors import InputError, OperandError
from .numerics import is_masked, number, plain

RowT = TypeVar("RowT")


@overload
def affine(  # type: ignore[overload-overlap]
    ws: Sequence[float], xs: Sequence[float], b: float = 0.0
) -> float: ...
@overload
def affine(
    ws: Sequence[Value | float], xs: Sequence[Value | float], b: Value | float = 0.0
) -> Value: ...
def affine(ws: Any, xs: Any, b: Any = 0.0) -> Any:
    """The sum of products b + w1·x1 + ... + wn·xn, added from left to right, as one node.

    Its operands are the ws, then the xs, then b; numbers among them are constants, and of numbers
    alone the result is a number. Raises InputError (a ValueError) if ws and xs differ in length.

    >>> affine([Value(1.0), Value(2.0)], [3.0, 4.0], Value(0.5)).data
    11.5
    """
    if isinstance(b, Value) and (node := sum_of_products(ws, xs, b)) is not None:
        return node
    try:
        n, count = len(ws), len(xs)
    except TypeError:
        raise OperandError("affine needs a sequence of ws and a sequence of xs") from None
    if n != count:
        raise InputError(f"affine needs one x for each w, got {n} ws and {count} xs")
    if is_masked(ws) or is_masked(xs):
        raise OperandError("a masked array is refused: fill it, or leave out what is masked")
    return ops.affine_row(*plain(ws), *plain(xs), b)


def sum_of_products(ws: Any, xs: Any, b: Any) -> Value | None:
    """The node, of lists as they usually are; None where the row is to be called.

    The ws and b are Values, and the xs are Values, or all of them floats.
    """
    sequences = list, tuple
    if ws.__class__ not in sequences or xs.__class__ not in sequences or len(ws) != len(xs):
        return None
    operands: tuple[Any, ...] | None = None
    try:
        linear = (*ws, b)
        weights = [*map(slot_of_data, linear)]
        z = weights.pop()
        if len(xs) and xs[0].__class__ is float and {*map(type, xs)} == {float}:
            inputs, parents, local = xs, linear, (*xs, 1.0)
            operands = (*ws, *xs, b)
        else:
            inputs = [*map(slot_of_data, xs)]
            parents, local = (*ws, *xs, b), (*inputs, *weights, 1.0)
    except TypeError:  # numbers elsewhere among the operands
        return None
    for w, x in zip(weights, inputs):  # noqa: B905 - equally long
        z += w * x
    return new_node(z, ops.affine_row, parents, operands, local, None)


def take(rows: Sequence[RowT], i: Any) -> RowT:
    """`rows[i]`, so that it can be compiled: the embedding of a token, the logit of a label.

    `rows` are Values or numbers, or lists of them, equally long, and `i` is a whole number from 0
    on. To a step (`compile_step`) it makes no difference which one the example has: the numbers of
    an example choose anew in each, where `rows[i]` would be frozen, and is refused. Raises
    InputError (a ValueError) for a number that is none of the rows', OperandError (a TypeError) for
    what is no number.

    >>> take([[1.0, 2.0], [3.0, 4.0]], 1)
    [3.0, 4.0]
    """
    if not hasattr(rows, "__getitem__") or not hasattr(rows, "__len__") or isinstance(rows, dict):
        raise OperandError(f"take chooses from a list of rows, got {rows!r:.60}")
    if (choose := getattr(i, "__take__", None)) is not None:
        return choose(rows)  # type: ignore[no-any-return]
    if isinstance(i, Value):
        raise OperandError(
            f"take chooses by a plain number, and {i!r:.60} was computed: by a step it may be a "
            "number of the example, as it is"
        )
    return rows[chosen(i, len(rows))]


def chosen(i: Any, count: int, name: str = "it") -> int:
    """One of `count` choices, as an int. Raises InputError."""
    whole = i if i.__class__ is int else number(i)
    if 0 <= whole < count and whole == int(whole):
        return int(whole)
    if not count:
        raise InputError("take has no row to choose from")
    raise InputError(
        f"take chooses by a whole number from 0 to {count - 1}, and {name} is {plain(i)!r:.60}"
    )


if NATIVE and not TYPE_CHECKING:
    from ._native import sum_of_products
