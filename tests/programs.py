"""Random scalar programs out of bytes, three independent evaluators, and how far they may be off.

A program is a `reference.Program`: data, so that it can be shrunk and pasted. `decode` makes one of
any string of bytes, so that a random loop, Hypothesis and a coverage-guided fuzzer share it.

The evaluators take nothing from the package:

- `RULES`: values and slopes in the math module, for floats, `Bounded` numbers and `Dual`s of them;
- `COMPLEX_STEP`: the cmath module, where an imaginary part of 1e-100 carries the derivative;
- `reference.DEFINITIONS`: the rows in mpmath, for differences of the whole program.

How far two of them may be apart follows from the program. A `Bounded` number is a float with a
bound on its error, carried along as in Wilkinson's running error analysis: an operation adds a few
roundings of its result (of its terms, for a sum, which compilers reorder) to what it makes, to
first order, of the errors of its operands. As the numbers inside a `Dual` they bound the errors of
derivatives too. Where that bound does not decide on which side of a kink, a pole or the end of a
domain a number lies, the case is an `UndecidedError`; sums and products of short numbers have no
error, so that kinks are met exactly too.
"""

from __future__ import annotations

import cmath
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

from reference import EPSILON, VALUE, Dual, Program

from micrograd_like import affine, ops
from micrograd_like.errors import MicrogradError

INF, NAN = math.inf, math.nan


class UndecidedError(Exception):
    """Rounding decides about the result, or it is not finite: there is nothing to compare with."""


class IllConditionedError(UndecidedError):
    """Within the bounds on errors is a pole, or the end of a domain: any result is right."""


class OutsideError(Exception):
    """The arguments are outside the domain, whatever the rounding."""


# --- numbers with an error ------------------------------------------------------------------------

_FUNCTION = 8.0 * EPSILON  # of a function: the math library's error, and NumPy's
_TINY = 1e-300  # what underflow may cost
_LARGEST = 1e300


class Bounded:
    """A float, and a bound on its error, to first order.

    `terms` is the sum of the magnitudes of the terms of which it is the sum: compiled programs add
    these up in another order.
    """

    __slots__ = ("error", "terms", "x")

    def __init__(self, x: float, error: float = 0.0, terms: float = 0.0) -> None:
        if not -_LARGEST < x < _LARGEST or not error < _LARGEST:
            raise UndecidedError("overflow")
        self.x, self.error, self.terms = x, error, max(terms, abs(x))

    def __add__(self, other: Any) -> Bounded:
        b = _bounded(other)
        if b is None:
            return NotImplemented
        error, terms = self.error + b.error, self.terms + b.terms
        if not (_is_short(self.x) and _is_short(b.x)):
            error += EPSILON * terms
        return Bounded(self.x + b.x, error, terms)

    def __mul__(self, other: Any) -> Bounded:
        b = _bounded(other)
        if b is None:
            return NotImplemented
        p, terms = self.x * b.x, self.terms * b.terms
        error = abs(self.x) * b.error + abs(b.x) * self.error + self.error * b.error
        if p and not (_is_short(self.x) and _is_short(b.x)) and abs(self.x) != 1.0 != abs(b.x):
            error += EPSILON * terms + _TINY
        elif not p and self.x and b.x:
            error += _TINY
        return Bounded(p, error, terms)

    def __truediv__(self, other: Any) -> Bounded:
        b = _bounded(other)
        if b is None:
            return NotImplemented
        if b.x == 0.0 and b.error == 0.0:
            raise OutsideError
        if b.error > 1e-3 * abs(b.x) or abs(b.x) < _TINY:
            raise IllConditionedError("a pole")
        q = self.x / b.x
        error = (self.error + abs(q) * b.error) / abs(b.x)
        if self.x and abs(b.x) != 1.0:
            error += EPSILON * self.terms / abs(b.x) + _TINY
        return Bounded(q, error, self.terms / abs(b.x))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Bounded:
        return Bounded(-self.x, self.error, self.terms)

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Bounded:
        return -self + other

    def __rtruediv__(self, other: Any) -> Bounded:
        return Bounded(other) / self

    def __repr__(self) -> str:
        return f"{self.x!r} ± {self.error:.3g}"


def _bounded(x: Any) -> Bounded | None:
    if x.__class__ is Bounded:
        return x  # type: ignore[no-any-return]
    return Bounded(x) if x.__class__ is float else None


def _is_short(x: float) -> bool:
    """Whether it has so few bits that products of two such numbers are exact."""
    return abs(x) < 2.0**16 and (x * 1024.0).is_integer()


def _innermost(x: Any) -> Any:
    while x.__class__ is Dual:
        x = x.primal
    return x


def plain(x: Any) -> float:
    """The float inside."""
    x = _innermost(x)
    return x.x if x.__class__ is Bounded else x  # type: ignore[no-any-return]


def error_of(x: Any) -> float:
    x = _innermost(x)
    return x.error if x.__class__ is Bounded else 0.0


def is_positive(x: Any) -> bool:
    """Whether x > 0. Raises UndecidedError if its error decides."""
    number, error = plain(x), error_of(x)
    if abs(number) <= error and error:
        raise UndecidedError("a kink")
    if number == 0.0:
        _no_second_derivative(x)
    return number > 0.0


def _no_second_derivative(x: Any) -> None:
    if x.__class__ is Dual and x.primal.__class__ is Dual:
        raise UndecidedError("a second derivative at a kink")


# --- rules on floats, Bounded numbers and Duals ---------------------------------------------------

Rule = Callable[..., Any]


def _everywhere(*xs: float) -> float:
    return 1.0


def _function(
    f: Callable[..., float], *slopes: Rule, radius: Rule = _everywhere, rounded: bool = False
) -> Rule:
    """The function with these slopes. `radius` is the distance to its next singularity.

    `rounded` says that its argument may be off by roundings too.
    """

    def apply(*xs: Any) -> Any:
        classes = {x.__class__ for x in xs}
        if Dual in classes:
            primals = [x.primal if x.__class__ is Dual else x for x in xs]
            tangent: Any = None
            for x, slope in zip(xs, slopes, strict=True):
                if x.__class__ is Dual:
                    term = slope(*primals) * x.tangent
                    tangent = term if tangent is None else tangent + term
            return Dual(apply(*primals), tangent)
        numbers = [x.x if x.__class__ is Bounded else x for x in xs]
        try:
            y = f(*numbers)
        except OverflowError:
            raise UndecidedError("overflow") from None
        except (ValueError, ZeroDivisionError):
            room = abs(radius(*numbers))
            if any(x.error > 1e-3 * room for x in xs if x.__class__ is Bounded and x.error):
                raise IllConditionedError("the end of a domain") from None
            raise OutsideError from None
        if Bounded not in classes:
            return y
        error = _FUNCTION * abs(y) + _TINY
        room = radius(*numbers)
        if rounded:
            error += sum(
                _FUNCTION * abs(s(*numbers) * x) for s, x in zip(slopes, numbers, strict=True)
            )
        for x, slope in zip(xs, slopes, strict=True):
            if x.__class__ is Bounded and x.error:
                if x.error > 1e-3 * room or x.error > 1e-3:
                    raise IllConditionedError("a pole, or too large an error")
                error += abs(slope(*numbers)) * x.error + x.error * x.error
        return Bounded(y, error)

    return apply


def _magnitude(x: Any) -> Any:
    """|x| inside an even function, which has no kink at 0."""
    return -x if plain(x) < 0.0 else x


def _sech_square(x: Any) -> Any:
    q = _exp(-2.0 * _magnitude(x))
    return 4.0 * q / ((1.0 + q) * (1.0 + q))


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x > -700.0 else math.exp(x)


def _logistic_slope(x: Any) -> Any:
    return 0.25 * _sech_square(0.5 * x)


def _normal_density(x: Any) -> Any:
    return _exp(-0.5 * (x * x)) * (1.0 / math.sqrt(2.0 * math.pi))


def _reciprocal(x: Any) -> Any:
    if plain(x) == 0.0:
        raise UndecidedError("a pole")
    return 1.0 / x


def _inside(x: float) -> float:
    return 1.0 - abs(x)


# fmt: off
_exp: Rule   = _function(math.exp, lambda x: _exp(x))
_expm1       = _function(math.expm1, lambda x: _exp(x))
_log         = _function(math.log, _reciprocal, radius=lambda x: x)
_log1p       = _function(math.log1p, lambda x: _reciprocal(1.0 + x), radius=lambda x: 1.0 + x)
_sqrt: Rule  = _function(math.sqrt, lambda x: 0.5 * _reciprocal(_sqrt(x)), radius=lambda x: x)
_tanh        = _function(math.tanh, _sech_square)
_sigmoid     = _function(_logistic, _logistic_slope)
_sin: Rule   = _function(math.sin, lambda x: _cos(x))
_cos: Rule   = _function(math.cos, lambda x: -_sin(x))
_tan: Rule   = _function(math.tan, lambda x: 1.0 + _tan(x) * _tan(x),
                         radius=lambda x: abs(math.cos(x)))
_asin        = _function(math.asin, lambda x: _reciprocal(_sqrt((1.0 - x) * (1.0 + x))),
                         radius=_inside)
_acos        = _function(math.acos, lambda x: -_reciprocal(_sqrt((1.0 - x) * (1.0 + x))),
                         radius=_inside)
_atan        = _function(math.atan, lambda x: 1.0 / (1.0 + x * x))
_sinh: Rule  = _function(math.sinh, lambda x: _cosh(x))
_cosh: Rule  = _function(math.cosh, lambda x: _sinh(x))
_asinh       = _function(math.asinh, lambda x: 1.0 / _sqrt(1.0 + x * x))
_acosh       = _function(math.acosh, lambda x: _reciprocal(_sqrt((x - 1.0) * (x + 1.0))),
                         radius=lambda x: x - 1.0)
_atanh       = _function(math.atanh, lambda x: _reciprocal((1.0 - x) * (1.0 + x)), radius=_inside)
_erf         = _function(math.erf, lambda x: _exp(-(x * x)) * (2.0 / math.sqrt(math.pi)))
_normal      = _function(lambda x: 0.5 * math.erfc(-x / math.sqrt(2.0)), _normal_density,
                         rounded=True)
_arctan2     = _function(math.atan2, lambda y, x: x / (x * x + y * y),
                         lambda y, x: -y / (x * x + y * y), radius=math.hypot)
_length: Rule = _function(math.hypot, lambda x, y: x / _length(x, y),
                          lambda x, y: y / _length(x, y), radius=math.hypot)
_positive_power: Rule = _function(
    math.pow, lambda x, y: y * _positive_power(x, y - 1.0),
    lambda x, y: _log(x) * _positive_power(x, y), radius=lambda x, y: x)
# fmt: on


def _atan2(y: Any, x: Any) -> Any:
    if plain(x) <= error_of(x) and abs(plain(y)) <= error_of(y):
        raise IllConditionedError("the cut, or the sign of a zero")
    return _arctan2(y, x)


def _hypot(x: Any, y: Any) -> Any:
    if plain(x) == 0.0 == plain(y) and not error_of(x) and not error_of(y):
        _no_second_derivative(x + y)
        return 0.0 * (x + y)
    return _length(x, y)


def _power(x: Any, y: Any) -> Any:
    base, exponent = plain(x), plain(y)
    if y.__class__ in (Bounded, Dual):
        if base > 0.0:
            return _positive_power(x, y)
        if error_of(x) or error_of(y):
            raise IllConditionedError("the end of a domain")
        if (base == 0.0 and exponent < 0.0) or (base < 0.0 and not exponent.is_integer()):
            raise OutsideError
        if y.__class__ is Dual:
            raise UndecidedError("no derivative by the exponent")
        return Bounded(math.pow(base, exponent), _FUNCTION * abs(base**exponent))
    return _monomial(x, y)


def _monomial(x: Any, c: float) -> Any:
    if c == 0.0:
        return 0.0 * x + 1.0
    if x.__class__ is Dual:
        return Dual(_monomial(x.primal, c), c * _monomial(x.primal, c - 1.0) * x.tangent)
    base = plain(x)
    if not error_of(x) and ((base < 0.0 and not c.is_integer()) or (base == 0.0 and c < 0.0)):
        raise OutsideError
    if x.__class__ is not Bounded:
        try:
            return math.pow(x, c)
        except OverflowError:
            raise UndecidedError("overflow") from None
    if x.error > 1e-3 * abs(base):
        raise IllConditionedError("the end of a domain")
    if base < 0.0 and not c.is_integer():
        raise OutsideError
    y = _monomial(base, c)
    slope = abs(c * y / base) if base else 0.0
    return Bounded(y, _FUNCTION * abs(y) + _TINY + 2.0 * slope * x.error)


def _xlogy(x: Any, y: Any) -> Any:
    if plain(y) > 0.0 or abs(plain(x)) > error_of(x):
        return x * _log(y)
    if error_of(x) or error_of(y):
        raise IllConditionedError("the end of a domain")
    if Dual in (x.__class__, y.__class__):
        raise UndecidedError("a pole")
    return Bounded(0.0)


def _mod(x: Any, y: Any) -> Any:
    a, b = plain(x), plain(y)
    if b == 0.0 and not error_of(y):
        raise OutsideError
    if abs(b) <= 1e3 * error_of(y):
        raise IllConditionedError("a pole")
    quotient, error = a / b, error_of(x) + abs(a / b) * error_of(y)
    if (
        error
        and math.isfinite(quotient)
        and abs(quotient - round(quotient)) <= error / abs(b) + EPSILON * abs(quotient)
    ):
        raise UndecidedError("a jump")
    return x - Bounded(a // b) * y  # bounded, so that the product has an error


def _logsumexp(*xs: Any) -> Any:
    numbers = [*map(plain, xs)]
    top: Any = max(numbers)
    if any(_innermost(x).__class__ is Bounded for x in xs):  # differences with it are rounded
        top = Bounded(top, 4.0 * EPSILON * max(map(abs, numbers)))
    total: Any = 0.0
    for x in xs:
        total = total + _exp(x - top)
    return _log(total) + top


def _sum_of_products(*operands: Any) -> Any:
    n = len(operands) // 2
    total = operands[-1]
    for w, x in zip(operands[:n], operands[n:-1], strict=True):
        total = total + w * x
    return total


def _softplus(x: Any) -> Any:
    if plain(x) > 0.0:
        return x + _log1p(_exp(-x))
    return _log1p(_exp(x))


def _leaky(x: Any, slope: Any) -> Any:
    return x if is_positive(x) else slope * x


def _elu(x: Any, alpha: Any) -> Any:
    if x.__class__ is float and alpha.__class__ is not float:
        x = Bounded(x)  # or its exponential would have no error
    return x if is_positive(x) else alpha * _expm1(x)


def _relu(x: Any) -> Any:
    return x if is_positive(x) else 0.0 * x


def _absolute(x: Any) -> Any:
    if is_positive(x):
        return x
    return -x if plain(x) else 0.0 * x


def _larger(x: Any, y: Any) -> Any:
    difference = plain(x) - plain(y)
    error = error_of(x) + error_of(y)
    if abs(difference) <= error and error:
        raise UndecidedError("a tie")
    if difference == 0.0:
        _no_second_derivative(x)
        _no_second_derivative(y)
    return x if difference > 0.0 else y if difference < 0.0 else 0.5 * x + 0.5 * y


def _clip(x: Any, low: Any, high: Any) -> Any:
    for a, b in ((x, low), (x, high), (low, high)):
        error = error_of(a) + error_of(b)
        if abs(plain(a) - plain(b)) <= error and error:
            raise UndecidedError("a bound")
    if plain(low) <= plain(x) <= plain(high):
        return x
    return low if plain(x) < plain(low) <= plain(high) else high


def _quotient(x: Any, y: Any) -> Any:
    """The quotient where it is finite: a pole is an infinity."""
    if plain(y) == 0.0:
        raise UndecidedError("a pole")
    return x / y


def _where(condition: Any, x: Any, y: Any) -> Any:
    return x + 0.0 * y if plain(condition) else y + 0.0 * x


def _flat(x: Any) -> Any:
    """1 where x > 0, else 0, with a derivative of 0."""
    return 0.0 * x + (1.0 if is_positive(x) else 0.0)


# fmt: off
RULES: dict[str, Rule] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "neg": operator.neg, "pow": _power, "exp": _exp, "expm1": _expm1, "log": _log,
    "log1p": _log1p, "sqrt": _sqrt, "tanh": _tanh, "sigmoid": _sigmoid, "softplus": _softplus,
    "relu": _relu, "leaky_relu": _leaky, "elu": _elu, "erf": _erf, "sin": _sin, "cos": _cos,
    "tan": _tan, "asin": _asin, "acos": _acos, "atan": _atan, "atan2": _atan2, "hypot": _hypot,
    "sinh": _sinh, "cosh": _cosh, "asinh": _asinh, "acosh": _acosh, "atanh": _atanh,
    "abs": _absolute, "max": _larger, "logsumexp": _logsumexp, "affine": _sum_of_products,
    "logaddexp": _logsumexp, "mod": _mod, "xlogy": _xlogy, "clip": _clip,
    "log2": lambda x: _log(x) * (1.0 / math.log(2.0)),
    "log10": lambda x: _log(x) * (1.0 / math.log(10.0)),
    "min":  lambda x, y: -_larger(-x, -y),
    "gelu": lambda x: x * _normal(x),
    "silu": lambda x: x * _sigmoid(x),
    # Rows that the partials of others use.
    "step": _flat, "where": _where, "damp": operator.mul, "ieee_div": _quotient, "ratio": _quotient,
    "sech":             lambda x: 2.0 / (_exp(x) + _exp(-x)),
    "one_minus_square": lambda x: (1.0 - x) * (1.0 + x),
    "sign":             lambda x: _flat(x) - _flat(-x),
    "cosine":           lambda x, y: _quotient(x, _hypot(x, y)),
    "inversion":        lambda x, y: _quotient(x, x * x + y * y),
    "gelu_slope":       lambda x: _normal(x) + x * _normal_density(x),
}
# fmt: on


# --- the complex step -----------------------------------------------------------------------------


def _c_expm1(z: complex) -> complex:
    return complex(math.expm1(z.real), math.exp(z.real) * math.sin(z.imag))


def _c_log1p(z: complex) -> complex:
    return complex(math.log1p(z.real), math.atan2(z.imag, 1.0 + z.real))


def _c_xlogy(z: complex, w: complex) -> complex:
    if w.real <= 0.0:
        raise UndecidedError("a cut")
    return z * cmath.log(w)


def _c_sigmoid(z: complex) -> complex:
    if z.real >= 0.0:
        return 1.0 / (1.0 + cmath.exp(-z))
    return cmath.exp(z) / (1.0 + cmath.exp(z))


def _c_softplus(z: complex) -> complex:
    return z + _c_log1p(cmath.exp(-z)) if z.real > 0.0 else _c_log1p(cmath.exp(z))


def _c_power(z: complex, w: complex) -> complex:
    if z.real < 0.0 and w.imag == 0.0 and w.real.is_integer():
        return (-1.0) ** (w.real % 2.0) * _c_power(-z, w)
    if z.real <= 0.0:
        raise UndecidedError("a cut")
    angle = w.real * math.atan2(z.imag, z.real) + w.imag * math.log(z.real)
    return math.pow(z.real, w.real) * cmath.exp(complex(0.0, angle))


def _c_logsumexp(*zs: complex) -> complex:
    top = max(z.real for z in zs)
    total = 0j
    for z in zs:
        total += cmath.exp(z - top)
    return cmath.log(total) + top


def _c_hypot(z: complex, w: complex) -> complex:
    scale = max(abs(z.real), abs(w.real))
    z, w = z / scale, w / scale
    return scale * cmath.sqrt(z * z + w * w)


def _c_atan2(w: complex, z: complex) -> complex:
    if abs(w.real) > abs(z.real):
        return math.copysign(math.pi / 2.0, w.real) - cmath.atan(z / w)
    return cmath.atan(w / z) + (0.0 if z.real > 0.0 else math.copysign(math.pi, w.real))


def _c_mod(z: complex, w: complex) -> complex:
    return complex(z.real % w.real, z.imag - z.real // w.real * w.imag)


def _c_clip(z: complex, low: complex, high: complex) -> complex:
    above = low if _c_positive(low - z) else z
    return high if _c_positive(above - high) else above


def _c_positive(z: complex) -> bool:
    if abs(z.real) < 1e-99:
        raise UndecidedError("a kink")
    return z.real > 0.0


# Not erf and gelu: cmath has no error function.
# fmt: off
COMPLEX_STEP: dict[str, Rule] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "neg": operator.neg, "pow": _c_power, "exp": cmath.exp, "expm1": _c_expm1, "log": cmath.log,
    "log1p": _c_log1p, "logaddexp": _c_logsumexp, "logsumexp": _c_logsumexp, "sqrt": cmath.sqrt,
    "tanh": cmath.tanh, "sigmoid": _c_sigmoid, "softplus": _c_softplus, "sin": cmath.sin,
    "cos": cmath.cos, "tan": cmath.tan, "asin": cmath.asin, "acos": cmath.acos,
    "atan": cmath.atan, "atan2": _c_atan2, "hypot": _c_hypot, "sinh": cmath.sinh,
    "cosh": cmath.cosh, "asinh": cmath.asinh, "acosh": cmath.acosh, "atanh": cmath.atanh,
    "affine": _sum_of_products, "mod": _c_mod, "xlogy": _c_xlogy, "clip": _c_clip,
    "log2":       lambda z: cmath.log(z) / math.log(2.0),
    "log10": cmath.log10,
    "silu":       lambda z: z * _c_sigmoid(z),
    "relu":       lambda z: z if _c_positive(z) else 0j,
    "leaky_relu": lambda z, slope: z if _c_positive(z) else slope * z,
    "elu":        lambda z, alpha: z if _c_positive(z) else alpha * _c_expm1(z),
    "abs":        lambda z: z if _c_positive(z) else -z,
    "max":        lambda z, w: z if _c_positive(z - w) else w,
    "min":        lambda z, w: w if _c_positive(z - w) else z,
    "one_minus_square": lambda z: (1.0 - z) * (1.0 + z),
    "damp": operator.mul, "ieee_div": operator.truediv, "ratio": operator.truediv,
    "sech":       lambda z: 1.0 / cmath.cosh(z),
}
# fmt: on

# --- programs out of bytes ------------------------------------------------------------------------

UNARY = tuple(
    name
    for name in RULES
    if ops.TABLE[name].arity == 1 and name not in ("sign", "step", "gelu_slope")
)
BINARY = tuple(name for name in RULES if ops.TABLE[name].arity == 2 and name != "damp")
# By how often they come: arithmetic, functions, sums of products, and what only partials use.
OPS = (
    *("add", "sub", "mul", "div") * 6,
    *("pow", "affine", "logsumexp") * 4,
    *UNARY * 2,
    *BINARY * 2,
    *("clip", "where", "sign", "step", "gelu_slope", "damp"),
)
CONSTANTS = (0.0, 1.0, -1.0, 2.0, 0.5, 3.0, -2.0, 0.1, -0.7, 1.5, 10.0, -0.0, 4.0, -3.0, 1e-3, 7.3)
EXTREMES = (1e308, -1e308, 5e-324, 1e-160, -1e160, 709.0, -745.0, 1e16, INF, -INF, NAN, 40.0)
LARGEST = 1e3  # of the numbers in a tame program

MAKE: dict[str, Rule] = {**VALUE, "affine": lambda *xs: _affine(*xs)}


def _affine(*operands: Any) -> Any:
    n = len(operands) // 2
    return affine(operands[:n], operands[n:-1], operands[-1])


def decode(data: bytes, most: int = 20) -> Program:
    """The program that the bytes stand for; every string of bytes is one.

    Seven of eight first bytes make it tame: what is refused or large gives way to a sine.
    """
    source = iter(data)

    def byte() -> int:
        return next(source, 0)

    head = byte()
    wild = head >= 0xE0
    numbers = [_number(byte(), byte(), wild) for _ in range(1 + head % 4)]
    inputs = tuple(numbers)
    steps: list[tuple[str, tuple[int | float, ...]]] = []

    def operand() -> int | float:
        b, last = byte(), len(numbers) - 1
        if b < 128:
            return max(0, last - b % 4)
        if b < 208:
            return b % (last + 1)
        return _number(b, byte(), wild) if b >= 232 else CONSTANTS[b % len(CONSTANTS)]

    def emit(name: str, operands: tuple[int | float, ...]) -> None:
        xs = Program.pick(numbers, operands)
        try:
            out = ops.TABLE[name].evaluate(xs)
        except MicrogradError:
            out = NAN
        if not wild and not abs(out) < LARGEST:
            name, operands = "sin", (len(numbers) - 1,)
            out = math.sin(numbers[-1])
        steps.append((name, operands))
        numbers.append(out)

    while len(steps) < most and (code := next(source, None)) is not None:
        name = OPS[code % len(OPS)]
        arity = ops.TABLE[name].arity
        if arity is None:
            arity = 1 + byte() % 4
            arity = 2 * arity - 1 if name == "affine" else arity
        operands = [operand() for _ in range(arity)]
        if all(isinstance(a, float) for a in operands):
            operands[-1] = len(numbers) - 1
        if name == "where":  # the rows only ever ask it with a step as condition
            emit("step", (len(numbers) - 1,))
            operands[0] = len(numbers) - 1
        emit(name, tuple(operands))
    return Program(inputs, tuple(steps))


def _number(first: int, second: int, wild: bool) -> float:
    if wild and first % 4 == 0:
        return EXTREMES[second % len(EXTREMES)]
    if first % 4 == 1:
        return CONSTANTS[second % len(CONSTANTS)]
    return ((first * 256 + second) * 40503 % 65536 - 32768) / 32768.0 * (3.0 if first % 2 else 1.1)


def shrunk(program: Program, fails: Callable[[Program], bool]) -> Program:
    """A program that still fails, and of which no step, operand or input can be simplified."""
    best, simpler = program, True
    while simpler:
        simpler = False
        for candidate in _simpler(best):
            constant = any(all(isinstance(a, float) for a in xs) for _, xs in candidate.steps)
            if not constant and _conditions_are_steps(candidate) and fails(candidate):
                best, simpler = candidate, True
                break
    return best


def _conditions_are_steps(program: Program) -> bool:
    names = [*("" for _ in program.inputs), *(name for name, _ in program.steps)]
    return all(
        names[xs[0]] == "step" if isinstance(xs[0], int) else xs[0] in (0.0, 1.0)
        for name, xs in program.steps
        if name == "where"
    )


def _simpler(program: Program) -> Iterator[Program]:
    inputs, steps = program.inputs, program.steps
    n = len(inputs)
    if steps:
        yield Program(inputs, steps[:-1])
    for k in reversed(range(len(steps))):
        for instead in dict.fromkeys(steps[k][1]):
            yield _without(program, n + k, instead)
    for i in range(n if n > 1 else 0):
        yield _without(program, i, inputs[i])
    for k, (name, operands) in enumerate(steps):
        if ops.TABLE[name].arity is None and len(operands) > 2:
            half = len(operands) // 2
            fewer = operands[1:half] + operands[half + 1 :] if name == "affine" else operands[1:]
            yield Program(inputs, (*steps[:k], (name, fewer), *steps[k + 1 :]))
        for place, operand in enumerate(operands):
            simpler = (1.0, 2.0, *range(n)) if isinstance(operand, int) else (1.0, 2.0)
            for other in simpler:
                if isinstance(other, int) and isinstance(operand, int) and other >= operand:
                    continue
                if isinstance(operand, float) and _length_of(other) >= _length_of(operand):
                    continue
                changed = (*operands[:place], other, *operands[place + 1 :])
                yield Program(inputs, (*steps[:k], (name, changed), *steps[k + 1 :]))
    for i, x in enumerate(inputs):
        for simple in (1.0, 2.0, 0.5, round(x, 1) if math.isfinite(x) else x):
            if _length_of(simple) < _length_of(x):
                yield Program((*inputs[:i], simple, *inputs[i + 1 :]), steps)


def _length_of(x: float) -> tuple[int, float]:
    return len(repr(x)), abs(x)


def _without(program: Program, dropped: int, instead: int | float) -> Program:
    """The program without that result; who used it gets `instead`, another result or a number."""

    def renamed(a: int | float) -> int | float:
        if not isinstance(a, int):
            return a
        if a == dropped:
            return instead
        return a - (a > dropped)

    return Program(
        tuple(x for i, x in enumerate(program.inputs) if i != dropped),
        tuple(
            (name, tuple(map(renamed, operands)))
            for i, (name, operands) in enumerate(program.steps, len(program.inputs))
            if i != dropped
        ),
    )
