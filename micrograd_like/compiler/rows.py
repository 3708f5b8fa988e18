"""Rows of the table as functions that Numba compiles too: `loops.py` copies their source.

Each gives what the row of `ops.py`, or the function of `numerics.py`, gives, with infinities and
NaN where those refuse. Compiled, nothing raises: to divide by zero, and to overflow, is as IEEE 754
has it. A function may use the ones above it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import inf, nan


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
