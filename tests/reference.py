"""What the tests hold the package to, none of it computed by the package.

Three sources: the table `data/op_reference.json` (values and derivatives to the last bit), the
definition of every row in mpmath, from which derivatives follow by differences at 80 digits, and
dual numbers, which differentiate random programs forwards by rules of their own.
"""

from __future__ import annotations

import cmath
import functools
import json
import math
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from optional import mp

from micrograd_like import Op, Value, grad, ops, topological_order
from micrograd_like.engine import adjoints
from micrograd_like.errors import DomainError
from micrograd_like.views import algebra

EPSILON = 2.0**-52

# --- the reference table --------------------------------------------------------------------------

# Another file of the same schema can be tried by naming it in this variable.
REFERENCE_PATH = Path(
    os.environ.get("MICROGRAD_OP_REFERENCE", Path(__file__).parent / "data" / "op_reference.json")
)
ROW_OF = {"pow_const": "pow"}  # where an entry of the file is not named like its row


@dataclass(frozen=True)
class Point:
    """One point of one operation, with its true value and derivatives rounded to doubles.

    `second` has the second derivatives by pairs of argument positions. The condition numbers
    `value_condition` and `first_conditions` are by how much errors of the arguments are amplified.
    """

    name: str
    names: tuple[str, ...]
    xs: tuple[float, ...]
    constants: tuple[float, ...]
    kind: str
    tags: frozenset[str]
    value: float
    first: tuple[float, ...]
    second: dict[tuple[int, int], float]
    value_condition: float
    first_conditions: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.xs + self.constants))})"

    @property
    def row(self) -> Op:
        return ops.TABLE[ROW_OF.get(self.name, self.name)]


@functools.cache
def reference() -> dict[str, list[Point]]:
    """The points of the reference file by the name of their entry."""
    entries = json.loads(REFERENCE_PATH.read_text(encoding="utf-8"))["ops"]
    return {name: [_point(name, e, p) for p in e["points"]] for name, e in entries.items()}


def reference_points(*kinds: str) -> list[Point]:
    return [point for points in reference().values() for point in points if point.kind in kinds]


def _point(name: str, entry: dict[str, Any], raw: dict[str, Any]) -> Point:
    names = tuple(entry["args"])
    fixed = [value for value in entry["params"].values() if isinstance(value, float)]
    condition = raw.get("cond", {})
    hex_of = raw["d2_f64"]
    second = {
        (i, j): float.fromhex(hex_of[a + b] if a + b in hex_of else hex_of[b + a])
        for i, a in enumerate(names)
        for j, b in enumerate(names)
    }
    return Point(
        name=name,
        names=names,
        xs=tuple(map(float.fromhex, raw["x_hex"])),
        constants=(float.fromhex(raw["p_hex"]),) if "p_hex" in raw else tuple(fixed),
        kind=raw["kind"],
        tags=frozenset(raw.get("tags") or ()),
        value=float.fromhex(raw["value_f64"]),
        first=tuple(map(float.fromhex, raw["d_f64"])),
        second=second,
        value_condition=float(condition.get("value", 4.0)),
        first_conditions=tuple(map(float, condition.get("d", [4.0] * len(names)))),
    )


def same(got: float, want: float) -> bool:
    """Equal, or both NaN."""
    return got == want or (math.isnan(got) and math.isnan(want))


def ulps(got: float, want: float) -> float:
    """The distance of `got` from `want` in units of the last place of `want`."""
    if got == want or (math.isnan(got) and math.isnan(want)):
        return 0.0
    if not math.isfinite(got) or not math.isfinite(want):
        return math.inf
    return abs(got - want) / math.ulp(want)


@dataclass(frozen=True)
class Miss:
    """An answer of the engine outside the bounds of the reference file."""

    point: Point
    quantity: str  # "value", "d/dx", "d²/dxdy": in words, with the file's argument names
    got: float
    want: float
    bound: float

    def __str__(self) -> str:
        return (
            f"{self.point}: {self.quantity} is {self.got!r}, not {self.want!r}: "
            f"{ulps(self.got, self.want):.3g} ulp, where {self.bound:.3g} are allowed"
        )


def misses(point: Point, order: int) -> list[Miss]:
    """Where the engine misses the value (order 0), the gradient (1) or the Hessian (2)."""
    xs = [Value(x) for x in point.xs]
    y = point.row(*xs, *point.constants)
    found: list[Miss] = []

    def hold(quantity: str, got: float, want: float, bound: float) -> None:
        if not ulps(got, want) <= bound:
            found.append(Miss(point, quantity, got, want, bound))

    if order == 0:
        hold("value", y.data, point.value, 4.0 * (1.0 + point.value_condition))
        unsigned = "zero_sign_unspecified" in point.tags
        if point.value == 0.0 and not unsigned and y.data == 0.0:
            hold("sign", math.copysign(1.0, y.data), math.copysign(1.0, point.value), 0.0)
    elif order == 1:
        for i, got in enumerate(grad(y, xs)):
            bound = 16.0 * (1.0 + point.first_conditions[i])
            hold(f"d/d{point.names[i]}", got, point.first[i], bound)
    else:
        for i, gradient in enumerate(grad(y, xs, create_graph=True)):
            for j, got in enumerate(grad(gradient, xs)):
                bound = 64.0 * (1.0 + point.first_conditions[i])
                name = f"d²/d{point.names[i]}d{point.names[j]}"
                hold(name, got, point.second[i, j], bound)
    return found


# --- the rows in mpmath ---------------------------------------------------------------------------

floats = st.floats


def away(gap: float, top: float) -> st.SearchStrategy[float]:
    """Numbers of either sign and a magnitude between `gap` and `top`."""
    return st.builds(operator.mul, st.sampled_from([-1.0, 1.0]), floats(gap, top))


def _apart(gap: float) -> st.SearchStrategy[tuple[float, ...]]:
    """Pairs of numbers that differ by `gap` or more."""
    return st.builds(lambda x, d: (x, x + d), floats(-30, 30), away(gap, 30))


def _vectors(low: float, high: float, size: int) -> st.SearchStrategy[tuple[float, ...]]:
    return st.lists(floats(low, high), min_size=1, max_size=size).map(tuple)


def _affine_operands() -> st.SearchStrategy[tuple[float, ...]]:
    sizes = st.integers(0, 4).map(lambda n: 2 * n + 1)
    return sizes.flatmap(lambda n: st.tuples(*[floats(-30, 30)] * n))


def _mp_affine(*operands: Any) -> Any:
    n = len(operands) // 2
    return operands[-1] + sum(w * x for w, x in zip(operands[:n], operands[n:-1], strict=True))


def _normal_cdf(x: Any) -> Any:
    return mp.erfc(-x / mp.sqrt(2)) / 2


def _normal_pdf(x: Any) -> Any:
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


@dataclass(frozen=True)
class Definition:
    """What a row is meant to compute, and where: `xs` draws arguments off its kinks and poles.

    `samples` are points at which every partial that is not zero everywhere differs from zero,
    from its own negative and from the other partial.
    """

    f: Callable[..., Any]
    xs: st.SearchStrategy[tuple[float, ...]]
    samples: tuple[tuple[float, ...], ...]


def _row(
    f: Callable[..., Any],
    xs: st.SearchStrategy[tuple[float, ...]] | tuple[st.SearchStrategy[float], ...],
    *samples: tuple[float, ...],
) -> Definition:
    return Definition(f, st.tuples(*xs) if isinstance(xs, tuple) else xs, samples)


_REAL = (floats(-30, 30),)
_REALS = (floats(-30, 30), floats(-30, 30))
_OFF_ZERO = (away(0.01, 30),)
_POSITIVE = floats(0.01, 30)
_POWERS = (_POSITIVE, floats(-5, 5))
_INSIDE = (floats(-0.99, 0.99),)
_OFF_JUMPS = st.builds(
    lambda n, part, y: ((n + part) * y, y), st.integers(-9, 9), floats(0.01, 0.99), away(0.1, 3)
)
_CLIPPED = st.permutations([-7.0, 0.0, 7.0]).flatmap(
    lambda centres: st.tuples(*[floats(c - 3.0, c + 3.0) for c in centres])
)
_DISTINCT = st.lists(st.integers(-300, 300), min_size=1, max_size=5, unique=True).map(
    lambda numbers: tuple(number / 10.0 for number in numbers)
)
_PLANE = (away(0.01, 30), away(0.01, 30))

# fmt: off
DEFINITIONS: dict[str, Definition] = {
    "add":        _row(lambda x, y: x + y, _REALS, (1.5, -2.0)),
    "sub":        _row(lambda x, y: x - y, _REALS, (1.5, -2.0)),
    "mul":        _row(lambda x, y: x * y, _REALS, (1.5, -2.0)),
    "div":        _row(lambda x, y: x / y, (floats(-30, 30), away(0.01, 30)), (1.5, -2.0)),
    "mod":        _row(lambda x, y: x - y * mp.floor(x / y), _OFF_JUMPS, (1.75, -0.5), (7.5, 2.0)),
    "neg":        _row(lambda x: -x, _REAL, (1.5,)),
    "pow":        _row(mp.power, _POWERS, (1.5, -2.0), (3.0, 0.7)),
    "exp":        _row(mp.exp, _REAL, (1.5,)),
    "expm1":      _row(mp.expm1, _REAL, (1.5,)),
    "log":        _row(mp.log, (_POSITIVE,), (1.5,)),
    "log2":       _row(lambda x: mp.log(x) / mp.log(2), (_POSITIVE,), (1.5,)),
    "log10":      _row(mp.log10, (_POSITIVE,), (1.5,)),
    "xlogy":      _row(lambda x, y: x * mp.log(y), (floats(-30, 30), _POSITIVE), (1.5, 3.0)),
    "log1p":      _row(mp.log1p, (floats(-0.99, 30),), (1.5,)),
    "logaddexp":  _row(lambda x, y: mp.log(mp.exp(x) + mp.exp(y)), _REALS, (1.5, -0.5)),
    "logsumexp":  _row(lambda *xs: mp.log(sum(map(mp.exp, xs))), _vectors(-30, 30, 4),
                       (1.5, -0.5, 0.3), (1.5, 1.0)),
    "sqrt":       _row(mp.sqrt, (_POSITIVE,), (1.5,)),
    "tanh":       _row(mp.tanh, _REAL, (0.5,)),
    "sigmoid":    _row(lambda x: 1 / (1 + mp.exp(-x)), _REAL, (0.5,)),
    "softplus":   _row(lambda x: mp.log1p(mp.exp(x)), _REAL, (0.5,)),
    "relu":       _row(lambda x: max(x, 0), _OFF_ZERO, (0.5,), (-0.5,)),
    "leaky_relu": _row(lambda x, s: x if x > 0 else s * x, (away(0.01, 30), floats(0, 2)),
                       (-0.5, 0.2)),
    "elu":        _row(lambda x, a: x if x > 0 else a * mp.expm1(x), (away(0.01, 30), floats(0, 2)),
                       (-0.5, 0.2)),
    "gelu":       _row(lambda x: x * _normal_cdf(x), _REAL, (0.5,)),
    "silu":       _row(lambda x: x / (1 + mp.exp(-x)), _REAL, (0.5,)),
    "erf":        _row(mp.erf, (floats(-6, 6),), (0.5,)),
    "sin":        _row(mp.sin, _REAL, (0.5,)),
    "cos":        _row(mp.cos, _REAL, (0.5,)),
    "tan":        _row(mp.tan, (floats(-1.5, 1.5),), (0.5,)),
    "asin":       _row(mp.asin, _INSIDE, (0.5,)),
    "acos":       _row(mp.acos, _INSIDE, (0.5,)),
    "atan":       _row(mp.atan, _REAL, (0.5,)),
    "atan2":      _row(mp.atan2, _PLANE, (0.5, 1.5)),
    "hypot":      _row(mp.hypot, _PLANE, (0.5, 1.5)),
    "sinh":       _row(mp.sinh, _REAL, (0.5,)),
    "cosh":       _row(mp.cosh, _REAL, (0.5,)),
    "asinh":      _row(mp.asinh, _REAL, (0.5,)),
    "acosh":      _row(mp.acosh, (floats(1.01, 30),), (1.5,)),
    "atanh":      _row(mp.atanh, _INSIDE, (0.5,)),
    "clip":       _row(lambda x, low, high: min(max(x, low), high), _CLIPPED,
                       (0.5, -1.0, 2.0), (-3.0, -1.0, 2.0), (3.0, -1.0, 2.0), (0.5, 2.0, -1.0)),
    "abs":        _row(abs, _OFF_ZERO, (0.5,), (-0.5,)),
    "max":        _row(max, _apart(0.01), (0.5, 1.5), (1.5, 0.5)),
    "min":        _row(min, _apart(0.01), (0.5, 1.5), (1.5, 0.5)),
    "largest":    _row(lambda *xs: max(xs), _DISTINCT, (0.5, 1.5, -2.0), (1.5,)),
    "smallest":   _row(lambda *xs: min(xs), _DISTINCT, (0.5, 1.5, -2.0), (1.5,)),
    "affine":     _row(_mp_affine, _affine_operands(), (2.0, -0.5, 1.5, 0.3, 0.1)),
    "ieee_div":   _row(lambda x, y: x / y, (floats(-30, 30), away(0.01, 30)), (1.5, -2.0)),
    "ratio":      _row(lambda x, y: x / y, (floats(-30, 30), away(0.01, 30)), (1.5, -2.0)),
    "floor_div":  _row(lambda x, y: mp.floor(x / y), _OFF_JUMPS, (7.5, 2.0)),
    "ieee_log":   _row(mp.log, (_POSITIVE,), (1.5,)),
    "ieee_pow":   _row(mp.power, _POWERS, (1.5, -2.0), (3.0, 0.7)),
    "pow_slope":  _row(lambda x, y: y * x ** (y - 1), _POWERS, (1.5, -2.0), (3.0, 0.7)),
    "pow_log":    _row(lambda x, y: x**y * mp.log(x), _POWERS, (1.5, -2.0), (3.0, 0.7)),
    "pow_xy":     _row(lambda x, y: x ** (y - 1) * (1 + y * mp.log(x)), _POWERS,
                       (1.5, -2.0), (3.0, 0.7)),
    "pow_yy":     _row(lambda x, y: x**y * mp.log(x) ** 2, _POWERS, (1.5, -2.0), (3.0, 0.7)),
    "lead":       _row(lambda x, y: x - y, _REALS, (1.5, -2.0)),
    "fraction":   _row(lambda x, t: mp.exp(x - t), _REALS, (1.5, -2.0)),
    "damp":       _row(lambda x, w: x * w, _REALS, (1.5, -2.0)),
    "sech":       _row(mp.sech, _REAL, (0.5,)),
    "gelu_slope": _row(lambda x: _normal_cdf(x) + x * _normal_pdf(x), _REAL, (0.5,)),
    "one_minus_square": _row(lambda x: 1 - x * x, _REAL, (0.5,)),
    "cosine":     _row(lambda x, y: x / mp.hypot(x, y), _PLANE, (0.5, 1.5)),
    "inversion":  _row(lambda x, y: x / (x * x + y * y), _PLANE, (0.5, 1.5)),
    "step":       _row(lambda x: mp.mpf(x > 0), _OFF_ZERO, (0.5,)),
    "within":     _row(lambda x, low, high: mp.mpf(low <= x <= high), _CLIPPED, (0.5, -1.0, 2.0)),
    "sign":       _row(mp.sign, _OFF_ZERO, (0.5,)),
    "greater":    _row(lambda x, y: mp.mpf(x > y), _apart(0.01), (0.5, 1.5)),
    "equals":     _row(lambda x, y: mp.mpf(x == y), _apart(0.01), (0.5, 1.5)),
    "exceeds":    _row(lambda x, y: mp.mpf(x > y), _apart(0.01), (0.5, 1.5)),
    # Only ever asked with a step as condition, and flat in it.
    "where":      _row(lambda c, x, y: x if c > 0.5 else y,
                       (st.sampled_from([0.0, 1.0]), floats(-30, 30), floats(-30, 30)),
                       (1.0, 2.0, 3.0), (0.0, 2.0, 3.0)),
}
# fmt: on

_DIGITS, _STEP = 80, 1e-20


def _difference(f: Callable[..., Any], i: int) -> Callable[..., Any]:
    """The partial of `f` by argument i: a central difference, right to about 40 digits."""

    def partial(*xs: Any) -> Any:
        h = mp.mpf(_STEP)
        return (f(*xs[:i], xs[i] + h, *xs[i + 1 :]) - f(*xs[:i], xs[i] - h, *xs[i + 1 :])) / (2 * h)

    return partial


def _hold(
    what: str, f: Callable[..., Any], xs: Sequence[float], got: float, allowed: float
) -> None:
    """Fail where `got` is off `f(*xs)` by more than `allowed` roundings of it or its arguments."""
    exact = [mp.mpf(x) for x in xs]
    want = f(*exact)
    scale = abs(want) + sum(abs(x * _difference(f, i)(*exact)) for i, x in enumerate(exact))
    error = abs(mp.mpf(got) - want)
    noise = 1e-20  # the differences have some; what is smaller, the reference table judges
    assert error <= allowed * EPSILON * scale + noise, (
        f"{what} at {tuple(xs)} is {got!r}, not {float(want)!r}: off by {float(error):.3g}, where "
        f"{allowed:g} roundings are {float(allowed * EPSILON * scale):.3g}"
    )


def check_row(row: Op, xs: Sequence[float]) -> None:
    """Fail where the row's value or one of its partials is not what its definition implies.

    The partials are looked at as every user of the table does: as floats that a node records, as
    gradients, and as gradients that are graphs.
    """
    f = DEFINITIONS[row.name].f
    values = [Value(x) for x in xs]
    node = row(*values)
    plain = row(*xs)
    gradients = grad(node, values)
    graphs = grad(node, values, create_graph=True)
    assert plain == node.data, f"{row.name} of floats is {plain!r}, of Values {node.data!r}"
    recorded = dict.fromkeys(values, 0.0) | dict(node.edges)  # where has no edge to what it is not
    assert list(recorded.values()) == gradients
    assert [g.data for g in graphs] == gradients
    with mp.workdps(_DIGITS):
        _hold(row.name, f, xs, node.data, 8)
        for i, got in enumerate(gradients):
            _hold(f"partial {i} of {row.name}", _difference(f, i), xs, got, 16)


# --- dual numbers ---------------------------------------------------------------------------------


class Dual:
    """A number and its derivative along one direction. Duals of Duals have second derivatives."""

    def __init__(self, primal: Any, tangent: Any) -> None:
        self.primal, self.tangent = primal, tangent

    def __add__(self, other: Any) -> Dual:
        b = _dual(other)
        return Dual(self.primal + b.primal, self.tangent + b.tangent)

    def __mul__(self, other: Any) -> Dual:
        b = _dual(other)
        return Dual(self.primal * b.primal, self.tangent * b.primal + self.primal * b.tangent)

    def __truediv__(self, other: Any) -> Dual:
        b = _dual(other)
        quotient = self.primal / b.primal
        return Dual(quotient, (self.tangent - quotient * b.tangent) / b.primal)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Dual:
        return -1.0 * self

    def __sub__(self, other: Any) -> Dual:
        return self + -other

    def __rsub__(self, other: Any) -> Dual:
        return -self + other

    def __rtruediv__(self, other: Any) -> Dual:
        return _dual(other) / self


def _dual(x: Any) -> Dual:
    return x if isinstance(x, Dual) else Dual(x, 0.0)


def primal(x: Any) -> float:
    """The plain number inside a Dual of any depth."""
    while isinstance(x, Dual):
        x = x.primal
    return x  # type: ignore[no-any-return]


def _function(f: Callable[[float], float], slope: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def apply(x: Any) -> Any:
        if isinstance(x, Dual):
            return Dual(apply(x.primal), slope(x.primal) * x.tangent)
        return f(x)

    return apply


_exp = _function(math.exp, lambda x: _exp(x))
_log = _function(math.log, lambda x: 1.0 / x)
_sqrt = _function(math.sqrt, lambda x: 0.5 / _sqrt(x))
_sin = _function(math.sin, lambda x: _cos(x))
_cos = _function(math.cos, lambda x: -_sin(x))
_sinh = _function(math.sinh, lambda x: _cosh(x))
_cosh = _function(math.cosh, lambda x: _sinh(x))
_erf = _function(math.erf, lambda x: 2.0 / math.sqrt(math.pi) * _exp(-(x * x)))
_atan = _function(math.atan, lambda x: 1.0 / (1.0 + x * x))
_asin = _function(math.asin, lambda x: 1.0 / _sqrt(1.0 - x * x))
_asinh = _function(math.asinh, lambda x: 1.0 / _sqrt(1.0 + x * x))


def _logistic(x: Any) -> Any:
    return 1.0 / (1.0 + _exp(-x)) if primal(x) > 0.0 else 1.0 - 1.0 / (1.0 + _exp(x))


def _soft(x: Any) -> Any:
    return x + _log(1.0 + _exp(-x)) if primal(x) > 0.0 else _log(1.0 + _exp(x))


def _atan2(y: Any, x: Any) -> Any:
    quadrant = math.atan2(primal(y), primal(x)) - math.atan(primal(y) / primal(x))
    return _atan(y / x) + quadrant


# fmt: off
DUAL: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "neg": operator.neg,
    "pow":        lambda x, y: _exp(y * _log(x)),
    "exp": _exp, "log": _log, "sqrt": _sqrt, "sin": _sin, "cos": _cos, "sinh": _sinh,
    "cosh": _cosh, "erf": _erf, "atan": _atan, "asin": _asin, "asinh": _asinh,
    "mod":        lambda x, y: x - math.floor(primal(x) / primal(y)) * y,
    "log2":       lambda x: _log(x) / math.log(2.0),
    "log10":      lambda x: _log(x) / math.log(10.0),
    "xlogy":      lambda x, y: x * _log(y),
    "expm1":      lambda x: _exp(x) - 1.0,
    "log1p":      lambda x: _log(1.0 + x),
    "logaddexp":  lambda x, y: x + _soft(y - x),
    "tanh":       lambda x: 2.0 * _logistic(2.0 * x) - 1.0,
    "sigmoid":    _logistic,
    "softplus":   _soft,
    "gelu":       lambda x: 0.5 * x * (1.0 + _erf(x * math.sqrt(0.5))),
    "silu":       lambda x: x * _logistic(x),
    "tan":        lambda x: _sin(x) / _cos(x),
    "acos":       lambda x: 0.5 * math.pi - _asin(x),
    "atan2":      _atan2,
    "hypot":      lambda x, y: _sqrt(x * x + y * y),
    "acosh":      lambda x: _log(x + _sqrt(x * x - 1.0)),
    "atanh":      lambda x: 0.5 * _log((1.0 + x) / (1.0 - x)),
    "relu":       lambda x: x if primal(x) > 0.0 else 0.0 * x,
    "leaky_relu": lambda x: x if primal(x) > 0.0 else 0.01 * x,
    "elu":        lambda x: x if primal(x) > 0.0 else _exp(x) - 1.0,
    "abs":        lambda x: x if primal(x) > 0.0 else -x,
    "max":        lambda x, y: x if primal(x) > primal(y) else y,
    "min":        lambda x, y: x if primal(x) < primal(y) else y,
}
COMPLEX: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "neg": operator.neg,
    "pow":      lambda x, y: cmath.exp(y * cmath.log(x)),
    "exp": cmath.exp, "log": cmath.log, "sqrt": cmath.sqrt, "sin": cmath.sin, "cos": cmath.cos,
    "tan": cmath.tan, "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh,
    "sigmoid":  lambda x: 1.0 / (1.0 + cmath.exp(-x)),
    "softplus": lambda x: cmath.log(1.0 + cmath.exp(x)),
    "silu":     lambda x: x / (1.0 + cmath.exp(-x)),
    "hypot":    lambda x, y: cmath.sqrt(x * x + y * y),
    "log2":     lambda x: cmath.log(x) / math.log(2.0),
    "log10": cmath.log10,
    "xlogy":    lambda x, y: x * cmath.log(y),
    "log1p":    lambda x: cmath.log(1.0 + x),
    "expm1":    lambda x: cmath.exp(x) - 1.0,
}
# Operators where there are any: they have fast paths of their own.
VALUE: dict[str, Callable[..., Any]] = {
    **ops.TABLE,
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "neg": operator.neg, "pow": operator.pow, "mod": operator.mod, "abs": abs,
}

# Where a step of a random program may go: well off poles, kinks and cuts, so that the rounding of
# its argument does not decide about its derivative.
ADMISSIBLE: dict[str, Callable[..., bool]] = {
    "div":   lambda x, y: abs(y) > 0.1,
    "pow":   lambda x, y: 0.1 < x < 10.0 and abs(y) < 3.0,
    "exp":   lambda x: x < 3.0,
    "expm1": lambda x: x < 3.0,
    "mod":   lambda x, y: abs(y) > 0.1 and abs(x) < 10.0 and 0.1 < x / y % 1.0 < 0.9,
    "log":   lambda x: x > 0.1,
    "log2":  lambda x: x > 0.1,
    "log10": lambda x: x > 0.1,
    "xlogy": lambda x, y: y > 0.1,
    "log1p": lambda x: x > -0.9,
    "sqrt":  lambda x: x > 0.1,
    "sinh":  lambda x: abs(x) < 3.0,
    "cosh":  lambda x: abs(x) < 3.0,
    "tan":   lambda x: abs(math.cos(x)) > 0.3,
    "asin":  lambda x: abs(x) < 0.9,
    "acos":  lambda x: abs(x) < 0.9,
    "atanh": lambda x: abs(x) < 0.9,
    "acosh": lambda x: x > 1.1,
    "atan2": lambda y, x: abs(x) > 0.1 and (x > 0.0 or abs(y) > 0.1),
    "hypot": lambda x, y: abs(x) + abs(y) > 0.1,
    "relu":  lambda x: abs(x) > 0.1,
    "leaky_relu": lambda x: abs(x) > 0.1,
    "elu":   lambda x: abs(x) > 0.1,
    "abs":   lambda x: abs(x) > 0.1,
    "max":   lambda x, y: abs(x - y) > 0.1,
    "min":   lambda x, y: abs(x - y) > 0.1,
}
# fmt: on
BINARY = {
    *("add", "sub", "mul", "div", "mod", "pow", "xlogy", "logaddexp", "atan2", "hypot", "max"),
    "min",
}
LARGEST = 30.0  # of the numbers in a random program


@dataclass(frozen=True)
class Program:
    """A computation as data: each step applies an op to earlier results (ints) or constants."""

    inputs: tuple[float, ...]
    steps: tuple[tuple[str, tuple[int | float, ...]], ...]

    def run(self, inputs: Sequence[Any], table: dict[str, Callable[..., Any]]) -> list[Any]:
        """The inputs and, after them, the result of every step."""
        results = list(inputs)
        for name, operands in self.steps:
            results.append(table[name](*self.pick(results, operands)))
        return results

    @staticmethod
    def pick(results: Sequence[Any], operands: Sequence[int | float]) -> list[Any]:
        return [results[a] if isinstance(a, int) else a for a in operands]


@st.composite
def programs(
    draw: st.DrawFn,
    table: dict[str, Callable[..., Any]] = DUAL,
    most: int = 12,
) -> Program:
    """Programs of the ops in `table`, with every number in it moderate and off kinks."""
    names = sorted(table)
    numbers = draw(st.lists(floats(-3, 3), min_size=1, max_size=3))
    inputs = tuple(numbers)
    steps: list[tuple[str, tuple[int | float, ...]]] = []
    for _ in range(draw(st.integers(1, most))):
        name = draw(st.sampled_from(names))
        last = len(numbers) - 1
        operands: list[int | float] = [draw(st.integers(max(0, last - 3), last))]
        if name in BINARY:
            operands.append(draw(st.one_of(st.integers(0, last), floats(-2, 2))))
            if draw(st.booleans()):
                operands.reverse()
        xs = Program.pick(numbers, operands)
        out = math.nan
        if ADMISSIBLE.get(name, lambda *_: True)(*xs):
            out = float(ops.TABLE[name](*xs))
        if not abs(out) < LARGEST:
            name, operands = "sin", [last]
            out = math.sin(numbers[last])
        steps.append((name, tuple(operands)))
        numbers.append(out)
    return Program(inputs, tuple(steps))


def forward_gradient(program: Program) -> list[float]:
    """The gradient of the last result by each input, in forward mode."""
    gradient = []
    for i in range(len(program.inputs)):
        seeded = [Dual(x, float(i == j)) for j, x in enumerate(program.inputs)]
        gradient.append(_dual(program.run(seeded, DUAL)[-1]).tangent)
    return gradient


def forward_hessian(program: Program) -> list[list[float]]:
    """The second derivatives of the last result by each pair of inputs."""
    n = len(program.inputs)

    def entry(i: int, j: int) -> float:
        seeded = [
            Dual(Dual(x, float(i == k)), Dual(float(j == k), 0.0))
            for k, x in enumerate(program.inputs)
        ]
        tangent = _dual(program.run(seeded, DUAL)[-1]).tangent
        return _dual(tangent).tangent  # type: ignore[no-any-return]

    return [[entry(i, j) for j in range(n)] for i in range(n)]


def complex_step_gradient(program: Program) -> list[float]:
    """The gradient of an analytic program: what a tiny imaginary part of an input turns into."""
    h = 1e-100
    gradient = []
    for i in range(len(program.inputs)):
        shifted = [complex(x, h * (i == j)) for j, x in enumerate(program.inputs)]
        gradient.append(program.run(shifted, COMPLEX)[-1].imag / h)
    return gradient


def check_gradient(root: Value, inputs: Sequence[Value], want: Sequence[float]) -> None:
    """Fail where the gradient of `root` is off `want` by more than its paths' rounding."""
    size = dict.fromkeys(topological_order(root, *inputs), 0.0)
    size[root] = 1.0
    for node in reversed(list(topological_order(root))):
        for parent, local in zip(node.parents, node.local_grads, strict=True):
            size[parent] += size[node] * abs(local)
    for i, (got, true) in enumerate(zip(grad(root, inputs), want, strict=True)):
        allowed = 1e-9 * (1.0 + size[inputs[i]])
        assert abs(got - true) <= allowed, f"d/dx{i} is {got!r}, not {true!r} ± {allowed:.2g}"


def labelled(value: Value, label: str) -> Value:
    """The node itself, with that label."""
    value.label = label
    return value


def number_of(expression: algebra.Expression, numbers: Mapping[str, float | None]) -> float:
    """The expression's value where names stand for `numbers`.

    Raises ArithmeticError where a number on the way is not finite, or underflows: floats differ
    there from the real numbers that derivations are written for.
    """
    done: dict[int, float] = {}
    for e in algebra.parts_first([expression]):
        xs = [done[id(part)] for part in e.operands]
        x: Any = numbers.get(e.name, e.number) if e.op is None else e.op.evaluate(xs)
        products = (ops.mul, ops.div, ops.power)
        vanishes = e.op in products and xs[0] and (xs[1] or e.op is not ops.mul)
        if not (2.0**-1022 <= abs(x) < math.inf or (x == 0.0 and not vanishes)):
            raise ArithmeticError(f"{e.text} is {x!r}")
        done[id(e)] = x
    return done[id(expression)]


def evaluated(derived: Any, wrt: Sequence[Value]) -> list[float] | None:
    """The derivatives by the numbers that the equations of a derivation make of the nodes' data.

    None where one on the way, or in the graph, is not finite, or underflows.
    """
    graph = derived._graph
    slopes = [d for node in graph.order for d in node.local_grads]
    if not all(map(math.isfinite, [*adjoints(graph.root).values(), *slopes])):
        return None
    numbers = {name: node.data for node, name in graph.names.items()}
    for (op, operands, place), slope in graph._slopes.items():
        alike = (n for n in graph.order if n.op is op and n.operands[: len(operands)] == operands)
        numbers[slope.name] = next(alike).operand_grads[place]
    try:
        for symbol, expression in derived.equations:
            numbers[symbol.name] = number_of(expression, numbers)
    except (ArithmeticError, DomainError):
        return None
    return [numbers[graph.ratio(graph.root, target).name] for target in wrt]
