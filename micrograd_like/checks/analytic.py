"""The table's rows on complex numbers, for the complex step: f'(x) = Im f(x + ih) / h.

Nothing is subtracted in that quotient, so that h may be 1e-30 and the derivative is right to a few
ulp (Squire and Trapp, SIAM Review 40, 1998). The forms here are the definitions of the operations,
not their derivatives: they say nothing that the partials in `ops.py` could have wrong too. They
expect imaginary parts far smaller than the real ones. Where an operation is defined piece by piece,
the real part decides which piece is continued.
"""

from __future__ import annotations

import cmath
import math
import operator
from collections.abc import Callable, Sequence

from ..errors import InputError

_SQRT_HALF = math.sqrt(0.5)


def complex_step(
    name: str, xs: Sequence[float], direction: Sequence[float]
) -> tuple[float, float, float]:
    """The value of the row `name`, its derivative along `direction`, and what h may hide in it.

    Raises InputError for a row without a complex form, or one that fails at `xs`.
    """
    if name not in FORMS:
        raise InputError(f"{name} has no complex form")
    pairs = [(abs(x), abs(v)) for x, v in zip(xs, direction, strict=True) if v]
    scales = [min(x, 1.0) / v for x, v in pairs if x]
    if len(scales) < len(pairs):  # where an operand is 0, the others tell what is small
        largest = max(v for x, v in pairs if not x)
        scales += [min([1.0, *(abs(x) for x in xs if x)]) / largest]
    scale = min(scales, default=1.0)
    h = max(scale * (2.0**-100 if scale > 1e-150 else 2.0**-40), 2.0**-1020)
    try:
        out = FORMS[name](*[complex(x, h * v) for x, v in zip(xs, direction, strict=True)])
    except (ArithmeticError, ValueError) as error:
        raise InputError(f"the complex form of {name} fails at {xs}: {error}") from None
    # Where an operand is 0, nothing else tells how large the terms of third order are.
    third = 0.0 if all(x for x, _ in pairs) else 4.0 * h * h
    return out.real, out.imag / h, 2.0**-1070 / h + third


def _expm1(z: complex) -> complex:
    return complex(math.expm1(z.real), cmath.exp(z).imag)


def _log1p(z: complex) -> complex:
    return complex(math.log1p(z.real), cmath.phase(1.0 + z))


def _pow(z: complex, w: complex) -> complex:
    if w.imag == 0.0 and w.real == int(w.real) and abs(w.real) <= 64.0:
        out = 1.0 + 0.0j
        for _ in range(abs(int(w.real))):
            out *= z
        return 1.0 / out if w.real < 0.0 else out
    if z.real == 0.0 and z.imag == 0.0:
        return 1.0 + 0.0j if w == 0.0 else 0.0j
    if z.real == 0.0 and w.real % 1.0:
        raise ValueError("a branch point")
    if z.real < 0.0:  # defined for integers only
        return cmath.exp(w * cmath.log(-z)) * (-1.0 if w.real % 2.0 else 1.0)
    return cmath.exp(w * cmath.log(z))


def _sigmoid(z: complex) -> complex:
    if z.real >= 0.0:
        return 1.0 / (1.0 + cmath.exp(-z))
    e = cmath.exp(z)
    return e / (1.0 + e)


def _softplus(z: complex) -> complex:
    return z + _log1p(cmath.exp(-z)) if z.real > 0.0 else _log1p(cmath.exp(z))


def _logsumexp(*zs: complex) -> complex:
    top = max(range(len(zs)), key=lambda i: zs[i].real)
    tail = 0.0j
    for i, z in enumerate(zs):
        if i != top:
            tail += cmath.exp(z - zs[top])
    return zs[top] + _log1p(tail)


def _erf(z: complex) -> complex:
    """By a series of positive terms below 2, by the continued fraction of erfc beyond."""
    if abs(z.real) >= 2.0:
        return 1.0 - _erfc(z) if z.real > 0.0 else _erfc(-z) - 1.0
    term = total = z
    n = 0
    while abs(term) > 1e-18 * abs(total):
        n += 1
        term *= 2.0 * z * z / (2 * n + 1)
        total += term
    return 2.0 / math.sqrt(math.pi) * cmath.exp(-z * z) * total


def _erfc(z: complex) -> complex:
    if z.real < 2.0:
        return 2.0 - _erfc(-z) if z.real <= -2.0 else 1.0 - _erf(z)
    fraction = z
    for k in range(80, 0, -1):
        fraction = z + 0.5 * k / fraction
    return cmath.exp(-z * z) / (math.sqrt(math.pi) * fraction)


def _normcdf(z: complex) -> complex:
    return 0.5 * _erfc(-_SQRT_HALF * z)


def _elu(z: complex, alpha: complex) -> complex:
    if z.real > 0.0:
        return z
    if z.real > -1.0 or alpha.real == 0.0:
        return alpha * _expm1(z)
    sign = math.copysign(1.0, alpha.real)  # alpha may lift what underflows without it
    return sign * cmath.exp(z + cmath.log(sign * alpha)) - alpha


def _gelu_slope(z: complex) -> complex:
    return _normcdf(z) + z * cmath.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def _sech(z: complex) -> complex:
    if abs(z.real) < 700.0:
        return 1.0 / cmath.cosh(z)
    return 2.0 * cmath.exp(-z if z.real > 0.0 else z)


def _hypot(x: complex, y: complex) -> complex:
    large, small = (x, y) if abs(x.real) >= abs(y.real) else (y, x)
    if large.real == 0.0:
        return cmath.sqrt(x * x + y * y)
    if large.real < 0.0:
        large = -large
    ratio = small / large
    return large + small * (ratio / (1.0 + cmath.sqrt(1.0 + ratio * ratio)))


def _cosine(x: complex, y: complex) -> complex:
    if abs(x.real) <= abs(y.real):
        ratio = x / y if y.real > 0.0 else x / -y
        return ratio / cmath.sqrt(1.0 + ratio * ratio)
    return (1.0 if x.real > 0.0 else -1.0) / cmath.sqrt(1.0 + (y / x) ** 2)


def _inversion(x: complex, y: complex) -> complex:
    if abs(x.real) >= abs(y.real):
        return 1.0 / (x * (1.0 + (y / x) ** 2))
    return (x / y) / (y * (1.0 + (x / y) ** 2))


def _atan2(y: complex, x: complex) -> complex:
    if abs(x.real) >= abs(y.real):
        turn = 0.0 if x.real > 0.0 else math.copysign(math.pi, y.real)
        return turn + cmath.atan(y / x)
    return math.copysign(0.5 * math.pi, y.real) - cmath.atan(x / y)


def _affine(*zs: complex) -> complex:
    n = len(zs) // 2
    out = zs[-1]
    for w, x in zip(zs[:n], zs[n:-1], strict=True):
        out += w * x
    return out


def _step(z: complex) -> complex:
    return complex(z.real > 0.0)


# fmt: off
FORMS: dict[str, Callable[..., complex]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "neg": operator.neg, "pow": _pow,
    "exp": cmath.exp, "expm1": _expm1, "log": cmath.log, "log1p": _log1p, "sqrt": cmath.sqrt,
    "logaddexp": _logsumexp, "logsumexp": _logsumexp,
    "tanh": cmath.tanh, "sigmoid": _sigmoid, "softplus": _softplus,
    "relu":       lambda z: z if z.real > 0.0 else 0.0j,
    "leaky_relu": lambda z, slope: z if z.real > 0.0 else slope * z,
    "elu": _elu,
    "gelu":       lambda z: z * _normcdf(z),
    "silu":       lambda z: z * _sigmoid(z),
    "erf": _erf,
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan,
    "asin": cmath.asin, "acos": cmath.acos, "atan": cmath.atan, "atan2": _atan2, "hypot": _hypot,
    "sinh": cmath.sinh, "cosh": cmath.cosh,
    "asinh": cmath.asinh, "acosh": cmath.acosh, "atanh": cmath.atanh,
    "abs":        lambda z: z if z.real > 0.0 else -z,
    "max":        lambda x, y: x if x.real >= y.real else y,
    "min":        lambda x, y: x if x.real <= y.real else y,
    "affine": _affine,
    "ieee_div": operator.truediv, "ieee_log": cmath.log, "ieee_pow": _pow,
    "pow_slope":  lambda x, y: y * _pow(x, y - 1.0),
    "damp": operator.mul, "sech": _sech, "gelu_slope": _gelu_slope,
    "one_minus_square": lambda z: 1.0 - z * z,
    "cosine": _cosine, "inversion": _inversion,
    "step": _step,
    "sign":       lambda z: complex((z.real > 0.0) - (z.real < 0.0)),
    "greater":    lambda x, y: 0.5 * (1.0 + complex((x.real > y.real) - (x.real < y.real))),
    "where":      lambda condition, x, y: x if condition.real else y,
}
# fmt: on

# Their derivatives have zeros between pieces that cancel: a few ulp of out/x are rounding there.
CANCELLING = frozenset({"gelu", "silu", "gelu_slope", "inversion", "pow_slope"})

# Of these all second derivatives are 0 but for products of different operands, and at kinks.
STRAIGHT = frozenset({
    "add", "sub", "neg", "mul", "affine", "relu", "leaky_relu", "abs", "sign", "step", "max", "min",
    "greater", "where", "damp",
})  # fmt: skip

PERIODIC = frozenset({"sin", "cos", "tan"})
