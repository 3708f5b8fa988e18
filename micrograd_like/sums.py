"""`affine`: a sum of products as one node, the linear part of a neuron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from . import ops
from .engine import Value, new_node, slot_of_data
from .errors import InputError, OperandError


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
    try:
        n, count = len(ws), len(xs)
    except TypeError:
        raise OperandError("affine needs a sequence of ws and a sequence of xs") from None
    if n != count:
        raise InputError(f"affine needs one x for each w, got {n} ws and {count} xs")
    if hasattr(ws, "mask") or hasattr(xs, "mask"):
        raise OperandError("a masked array is refused: fill it, or leave out what is masked")
    if not isinstance(b, Value):
        return ops.affine_row(*ws, *xs, b)
    operands: tuple[Any, ...] | None = None
    try:
        linear = (*ws, b)
        weights = [*map(slot_of_data, linear)]
        z = weights.pop()
        if n and xs[0].__class__ is float and {*map(type, xs)} == {float}:
            inputs, parents, local = xs, linear, (*xs, 1.0)
            operands = (*ws, *xs, b)
        else:
            inputs = [*map(slot_of_data, xs)]
            parents, local = (*ws, *xs, b), (*inputs, *weights, 1.0)
    except AttributeError:  # numbers elsewhere among the operands
        return ops.affine_row(*ws, *xs, b)
    for w, x in zip(weights, inputs):  # noqa: B905 - equally long
        z += w * x
    return new_node(z, ops.affine_row, parents, operands, local, None)
