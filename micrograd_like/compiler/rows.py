"""Operations as functions of floats that refuse nothing, and answer as IEEE 754 does instead."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from math import inf, nan
from typing import Final

from ..errors import DomainError
from ..ops import BUILTIN, Op


def unrefusing(op: Op) -> Callable[..., float]:
    """The row as a function of numbers which answers as IEEE 754 does outside its domain."""

    def function(*args: float) -> float:
        xs = [float(x) for x in args]
        try:
            return op.evaluate(xs)
        except DomainError:
            return op.ieee(*xs)
        except ValueError:  # a row of the user's
            return nan

    def builtin(*xs: float) -> float:
        try:
            return compute(*xs)
        except (ArithmeticError, ValueError):
            return function(*xs)

    compute = op.compute
    return builtin if op.name in BUILTIN else function


def relu(x: float) -> float:
    return 0.0 if x <= 0.0 else x


def step(x: float) -> float:
    return 1.0 if x > 0.0 else 0.0 if x <= 0.0 else nan


def sign(x: float) -> float:
    return 1.0 if x > 0.0 else -1.0 if x < 0.0 else x


def maximum(x: float, y: float) -> float:
    return x if x >= y else y if y > x else nan


def minimum(x: float, y: float) -> float:
    return x if x <= y else y if y < x else nan


def greater(x: float, y: float) -> float:
    return 1.0 if x > y else 0.0 if x < y else 0.5 if x == y else nan


def where(condition: float, x: float, y: float) -> float:
    return x if condition != 0.0 else y


def damp(x: float, w: float) -> float:
    return x * w if w != 0.0 else 0.0


def leaky_relu(x: float, slope: float) -> float:
    return x if x > 0.0 else slope * x


def elu(x: float, alpha: float) -> float:
    return x if x > 0.0 else alpha * math.expm1(x)


def sigmoid(x: float) -> float:
    e = math.exp(-abs(x))
    return (1.0 if x >= 0.0 else e) / (1.0 + e)


def silu(x: float) -> float:
    return damp(x, sigmoid(x))


def sech(x: float) -> float:
    c = math.cosh(x)
    return 1.0 / c if c != inf else 2.0 * math.exp(-abs(x))


def softplus(x: float) -> float:
    return (x if x > 0.0 else 0.0) + math.log1p(math.exp(-abs(x)))


def logaddexp(x: float, y: float) -> float:
    if x == y:
        return x + 0.6931471805599453
    return (x if x > y else y) + math.log1p(math.exp(-abs(x - y)))


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


def normcdf(x: float) -> float:
    return 0.5 * math.erfc(x * -0.7071067811865476)


def normpdf(x: float) -> float:
    return math.exp(-0.5 * x * x) * 0.3989422804014327


def gelu(x: float) -> float:
    return damp(x, normcdf(x))


def gelu_slope(x: float) -> float:
    return normcdf(x) + damp(x, normpdf(x))


def one_minus_square(x: float) -> float:
    return (1.0 - x) * (1.0 + x)


def log(x: float) -> float:
    return math.log(x) if x > 0.0 else -inf if x == 0.0 else nan


def pow_slope(x: float, y: float) -> float:
    return y * math.pow(x, y - 1.0) if y != 0.0 else 0.0


def cosine(x: float, y: float) -> float:
    h = math.hypot(x, y)
    if h == 0.0:
        return 0.0
    if h == inf:
        if math.isinf(x):
            return math.copysign(1.0, x) if math.isfinite(y) else nan
        if not math.isfinite(y):
            return 0.0 * x
        # Both are finite, and only their distance from the origin overflows.
        return x * 0.25 / math.hypot(x * 0.25, y * 0.25)
    return x / h


def inversion(x: float, y: float) -> float:
    return cosine(x, y) / math.hypot(x, y)


# What compiled programs may call: the functions above, and those of `numerics.py` imported here.
FUNCTIONS: Final = {name: f for name, f in list(globals().items()) if inspect.isfunction(f)}


def sources(ops: Iterable[Op]) -> list[str]:
    """The source of the functions that these operations call, as they are written for Numba."""
    called = set().union(*(_called(op.numba) for op in ops))
    return [inspect.getsource(f) for name, f in FUNCTIONS.items() if name in called]


def is_vectorised(op: Op) -> bool:
    """Whether SIMD has instructions for all that the operation does, as it is written for Numba.

    A loop that calls a function of the math module, other than the square root, is not vectorised.
    """
    return not any("." in name and name != "math.sqrt" for name in _called(op.numba))


@cache
def _called(template: str) -> frozenset[str]:
    """The functions that a template for Numba calls, itself or through `FUNCTIONS`."""
    called: set[str] = set()
    texts = [template.replace("@", "")]
    while texts:
        calls = [node for node in ast.walk(ast.parse(texts.pop())) if isinstance(node, ast.Call)]
        new = {ast.unparse(node.func) for node in calls} - called
        called |= new
        texts += [inspect.getsource(FUNCTIONS[name]) for name in new & FUNCTIONS.keys()]
    return frozenset(called)
