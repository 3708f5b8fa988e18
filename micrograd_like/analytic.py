"""The table's operations continued to complex numbers, for the complex step of `gradcheck`.

The forms here are the definitions of the operations, not their derivatives: they say nothing that
the partials in `ops.py` could have wrong too. They expect imaginary parts far smaller than the real
ones. Where an operation is defined piece by piece, the real part decides which piece is continued.
"""

from __future__ import annotations

import cmath
import math
import operator

_SQRT_HALF = math.sqrt(0.5)


def pow(z: complex, w: complex) -> complex:  # noqa: A001 - as in the math module
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


def sigmoid(z: complex) -> complex:
    if z.real >= 0.0:
        return 1.0 / (1.0 + cmath.exp(-z))
    e = cmath.exp(z)
    return e / (1.0 + e)


def logsumexp(*zs: complex) -> complex:
    top = max(range(len(zs)), key=lambda i: zs[i].real)
    tail = 0.0j
    for i, z in enumerate(zs):
        if i != top:
            tail += cmath.exp(z - zs[top])
    return zs[top] + log1p(tail)


def erf(z: complex) -> complex:
    """By a series of positive terms below 2, by the continued fraction of erfc beyond."""
    if abs(z.real) >= 2.0:
        return 1.0 - erfc(z) if z.real > 0.0 else erfc(-z) - 1.0
    term = total = z
    n = 0
    while abs(term) > 1e-18 * abs(total):
        n += 1
        term *= 2.0 * z * z / (2 * n + 1)
        total += term
    return 2.0 / math.sqrt(math.pi) * cmath.exp(-z * z) * total


def erfc(z: complex) -> complex:
    if z.real < 2.0:
        return 2.0 - erfc(-z) if z.real <= -2.0 else 1.0 - erf(z)
    fraction = z
    for k in range(80, 0, -1):
        fraction = z + 0.5 * k / fraction
    return cmath.exp(-z * z) / (math.sqrt(math.pi) * fraction)


def elu(z: complex, alpha: complex) -> complex:
    if z.real > 0.0:
        return z
    if z.real > -1.0 or alpha.real == 0.0:
        return alpha * expm1(z)
    sign = math.copysign(1.0, alpha.real)  # alpha may lift what underflows without it
    return sign * cmath.exp(z + cmath.log(sign * alpha)) - alpha


def sech(z: complex) -> complex:
    if abs(z.real) < 700.0:
        return 1.0 / cmath.cosh(z)
    return 2.0 * cmath.exp(-z if z.real > 0.0 else z)


def hypot(x: complex, y: complex) -> complex:
    large, small = (x, y) if abs(x.real) >= abs(y.real) else (y, x)
    if large.real == 0.0:
        return cmath.sqrt(x * x + y * y)
    if large.real < 0.0:
        large = -large
    ratio = small / large
    return large + small * (ratio / (1.0 + cmath.sqrt(1.0 + ratio * ratio)))


def cosine(x: complex, y: complex) -> complex:
    if abs(x.real) <= abs(y.real):
        ratio = x / y if y.real > 0.0 else x / -y
        return ratio / cmath.sqrt(1.0 + ratio * ratio)
    return (1.0 if x.real > 0.0 else -1.0) / cmath.sqrt(1.0 + (y / x) ** 2)


def inversion(x: complex, y: complex) -> complex:
    if abs(x.real) >= abs(y.real):
        return 1.0 / (x * (1.0 + (y / x) ** 2))
    return (x / y) / (y * (1.0 + (x / y) ** 2))


def atan2(y: complex, x: complex) -> complex:
    if abs(x.real) >= abs(y.real):
        turn = 0.0 if x.real > 0.0 else math.copysign(math.pi, y.real)
        return turn + cmath.atan(y / x)
    return math.copysign(0.5 * math.pi, y.real) - cmath.atan(x / y)


def pow_log(x: complex, y: complex) -> complex:
    if x.real < 0.0 or (x.real == 0.0 and y.real <= 2.0):  # where x²·log(x) bends too much
        raise ValueError("x is negative, or a branch point")
    return pow(x, y) * cmath.log(x)


def pow_partial(x: complex, y: complex, m: int, n: int) -> complex:
    """By n derivatives of a product: each factor of (y)_m · x**(y - m) is derived or is not."""
    if x.real < 0.0 and n:
        raise ValueError("x is negative")
    terms = [1.0 + 0.0j] + [0.0j] * n  # of the k-th derivative of (y)_m
    for j in range(m):
        derived = [0.0j, *(k * term for k, term in enumerate(terms[:-1], 1))]
        terms = [term * (y - j) + d for term, d in zip(terms, derived, strict=True)]
    total = 0.0j
    for k, term in enumerate(terms):
        power = cmath.log(x) ** (n - k) if k < n else 1.0
        total += math.comb(n, k) * term * power
    return total * pow(x, y - m)


def within(z: complex, low: complex, high: complex) -> complex:
    return complex(low.real <= z.real <= high.real)


def mod(z: complex, w: complex) -> complex:
    return complex(z.real % w.real, (z - floor_div(z, w) * w).imag)


def affine(*zs: complex) -> complex:
    n = len(zs) // 2
    return sum(map(operator.mul, zs[:n], zs[n:-1]), zs[-1])


# fmt: off
# In terms of the others.
def expm1(z: complex) -> complex: return complex(math.expm1(z.real), cmath.exp(z).imag)
def log1p(z: complex) -> complex: return complex(math.log1p(z.real), cmath.phase(1.0 + z))
def log2(z: complex) -> complex: return cmath.log(z) / math.log(2.0)
def xlogy(z: complex, w: complex) -> complex: return z * cmath.log(w) if z or w.real > 0.0 else 0.0j
def normcdf(z: complex) -> complex: return 0.5 * erfc(-_SQRT_HALF * z)
def normpdf(z: complex) -> complex: return cmath.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
def gelu(z: complex) -> complex: return z * normcdf(z)
def gelu_slope(z: complex) -> complex: return normcdf(z) + z * normpdf(z)
def softplus(z: complex) -> complex: return logsumexp(z, 0.0)
def silu(z: complex) -> complex: return z * sigmoid(z)
def pow_slope(x: complex, y: complex) -> complex: return y * pow(x, y - 1.0)
def fraction(x: complex, total: complex) -> complex: return cmath.exp(x - total)
def one_minus_square(z: complex) -> complex: return 1.0 - z * z

# Piece by piece.
def step(z: complex) -> complex: return complex(z.real > 0.0)
def sign(z: complex) -> complex: return complex((z.real > 0.0) - (z.real < 0.0))
def relu(z: complex) -> complex: return z if z.real > 0.0 else 0.0j
def leaky_relu(z: complex, slope: complex) -> complex: return z if z.real > 0.0 else slope * z
def absolute(z: complex) -> complex: return z if z.real > 0.0 else -z
def maximum(x: complex, y: complex) -> complex: return x if x.real >= y.real else y
def minimum(x: complex, y: complex) -> complex: return x if x.real <= y.real else y
def clip(z: complex, low: complex, high: complex) -> complex: return minimum(maximum(z, low), high)
def floor_div(z: complex, w: complex) -> complex: return complex(z.real // w.real)
def largest(*zs: complex) -> complex: return max(zs, key=lambda z: z.real)
def smallest(*zs: complex) -> complex: return min(zs, key=lambda z: z.real)
def equals(x: complex, y: complex) -> complex: return complex(x.real == y.real)
def greater(x: complex, y: complex) -> complex: return complex(x.real > y.real)
def exceeds(x: complex, y: complex) -> complex: return 0.5 + 0.5 * sign(x - y)
def where(choice: complex, x: complex, y: complex) -> complex: return x if choice.real else y
# fmt: on
