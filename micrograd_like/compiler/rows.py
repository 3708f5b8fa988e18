"""Operations as functions of floats that refuse nothing, and answer as IEEE 754 does instead.

`unrefusing` makes one of any operation. Numba compiles functions from their text, and `sources`
gives it: that of `numerics.py`, and for some functions that of the twins below. Numba cannot
compile the exceptions that those catch or the long argument lists that they take, and it need not:
when compiled, nothing raises. The twin of the sigmoid has no branch, which compiled is faster.
`javascript.py` translates the same texts.
"""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from math import inf, nan
from typing import Any, Final

from .. import numerics
from ..errors import DomainError
from ..numerics import maximum, minimum
from ..ops import BUILTIN, Op


def unrefusing(op: Op) -> Callable[..., float]:
    """The operation as a function of numbers which answers as IEEE 754 does outside its domain."""

    def function(*args: float) -> float:
        xs = [float(x) for x in args]
        try:
            return op.evaluate(xs)
        except DomainError:
            return op.ieee(*xs)
        except ValueError:  # an operation of the user's
            return nan

    def builtin(*xs: float) -> float:
        try:
            return compute(*xs)
        except (ArithmeticError, ValueError):
            return function(*xs)

    compute = op.compute
    return builtin if op.name in BUILTIN else function


# --- for Numba and JavaScript ---------------------------------------------------------------------


def divide(x: float, y: float) -> float:
    return x / y


def pow(x: float, y: float) -> float:  # noqa: A001 - as in the math module
    return math.pow(x, y)


def sigmoid(x: float) -> float:
    e = math.exp(-abs(x))
    return (1.0 if x >= 0.0 else e) / (1.0 + e)


def sech(x: float) -> float:
    c = math.cosh(x)
    return 1.0 / c if c != inf else 2.0 * math.exp(-abs(x))


def logsumexp(xs: Sequence[float]) -> float:
    top = 0
    for i in range(len(xs)):
        if xs[i] > xs[top]:
            top = i
    largest, tail = xs[top], 0.0
    if math.isinf(largest):
        for x in xs:
            if x != x:
                return nan
        return largest
    for i in range(len(xs)):
        if i != top:
            tail += math.exp(xs[i] - largest)
    return largest + math.log1p(tail)


def largest(xs: Sequence[float]) -> float:
    out = xs[0]
    for i in range(1, len(xs)):
        out = maximum(out, xs[i])
    return out


def smallest(xs: Sequence[float]) -> float:
    out = xs[0]
    for i in range(1, len(xs)):
        out = minimum(out, xs[i])
    return out


def affine(operands: Sequence[float]) -> float:
    n = len(operands) // 2
    z = operands[2 * n]
    for i in range(n):
        z += operands[i] * operands[n + i]
    return z


_TWINS = (divide, pow, sigmoid, sech, logsumexp, largest, smallest, affine)

# What the templates of operations may call, beside the math module.
FUNCTIONS: Final[dict[str, Any]] = {
    **dict(inspect.getmembers(numerics, inspect.isfunction)),
    **{function.__name__: function for function in _TWINS},
}


def sources(ops: Iterable[Op]) -> list[str]:
    """The texts of the functions that these operations call, as they are written for Numba."""
    called = set().union(*(functions_called(op.numba) for op in ops))
    return [text_of(name) for name in FUNCTIONS if name in called]


@cache
def functions_called(template: str) -> frozenset[str]:
    """The functions that a template for Numba calls, itself or through others of `FUNCTIONS`."""
    called: set[str] = set()
    texts = [template.replace("@", "")]
    while texts:
        calls = [node for node in ast.walk(ast.parse(texts.pop())) if isinstance(node, ast.Call)]
        new = {ast.unparse(call.func) for call in calls} - called
        called |= new
        texts += map(text_of, new & FUNCTIONS.keys())
    return frozenset(called)


@cache
def text_of(name: str) -> str:
    """The text of one of `FUNCTIONS`."""
    return inspect.getsource(FUNCTIONS[name])
