"""Operations as functions of arrays, where libraries of arrays have none of their own.

The templates of `ops.py` (`Op.array`, `Op.jax`) call them by their names. They give what the table
gives, NaN and infinities included, without the refusals. Each takes the library's namespace first
(`xp`: NumPy, or jax.numpy), and is written so that JAX, which differentiates them itself where it
is asked to, finds the table's derivatives at the kinks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, reduce
from typing import Any

import numpy as np

from ..ops import Op
from .rows import unrefusing


def logsumexp(xp: Any, *xs: Any) -> Any:
    """Log Σ exp as `numerics.logsumexp` does it: of one array, over its last axis."""
    x = _stacked(xp, xs)
    if xp is not np:
        from jax.nn import logsumexp as known

        return known(x, -1)
    result = np.log(np.exp(x) @ _ones(x.shape[-1]))
    if np.vdot(result, result) < 1e5 or np.abs(result).max() < 300.0:  # not if there is a NaN
        return result  # no sum came near to what floats have room for
    largest = np.maximum.reduce(x, -1)
    result = np.log(np.exp(x - largest[..., None]) @ _ones(x.shape[-1])) + largest
    return np.where(np.isinf(largest), largest, result)[()]


@cache
def _ones(count: int) -> Any:
    return np.ones(count)


def sigmoid(xp: Any, x: Any) -> Any:
    t = xp.exp(-xp.abs(x))
    return xp.where(x >= 0.0, 1.0, t) / (1.0 + t)


def damp(xp: Any, x: Any, w: Any) -> Any:
    return xp.where((w == 0.0) & ~xp.isfinite(x), 0.0, x) * w


def silu(xp: Any, x: Any) -> Any:
    return damp(xp, x, sigmoid(xp, x))


def leaky_relu(xp: Any, x: Any, slope: Any) -> Any:
    return xp.where(x > 0.0, x, slope * x)


def elu(xp: Any, x: Any, alpha: Any) -> Any:
    return xp.where(x > 0.0, x, alpha * xp.expm1(xp.where(x > 0.0, 0.0, x)))


def clip(xp: Any, x: Any, low: Any, high: Any) -> Any:
    x = xp.where((x < low) | (low != low), low, x)
    return xp.where((x > high) | (high != high), high, x)


def within(xp: Any, x: Any, low: Any, high: Any) -> Any:
    known = (x == x) & (low == low) & (high == high)
    return xp.where((low <= x) & (x <= high), 1.0, xp.where(known, 0.0, xp.nan))


def where(xp: Any, condition: Any, x: Any, y: Any) -> Any:
    return xp.where(condition != 0.0, x, y)


def step(xp: Any, x: Any) -> Any:
    return xp.where(x > 0.0, 1.0, xp.where(x <= 0.0, 0.0, xp.nan))


def power(xp: Any, x: Any, y: Any) -> Any:
    if xp is np:  # which takes roots for powers of 1/2: they are something else at -inf and -0.0
        x = np.where((y == 0.5) & ((x == -np.inf) | (x == 0.0)), np.abs(x), x)
    return xp.power(x, y)


def simpler(template: str, args: Sequence[Any]) -> str:
    """The template for arguments of which some are numbers: without a function that needs not be.

    Powers are the library's own, but for those of 1/2.
    """
    if template == "power(@x, @y)" and isinstance(args[1], float) and args[1] != 0.5:
        return "xp.power(@x, @y)"
    return template


def ratio(xp: Any, x: Any, y: Any) -> Any:
    return xp.where(x == 0.0, 0.0, x / y)


def floor_div(xp: Any, x: Any, y: Any) -> Any:
    return xp.where(y == 0.0, xp.nan, xp.floor_divide(x, y))


def xlogy(xp: Any, x: Any, y: Any) -> Any:
    pole = (x == 0.0) & ((y <= 0.0) | (y == xp.inf))
    return x * xp.log(xp.where(pole, 1.0, y))


def greater(xp: Any, x: Any, y: Any) -> Any:
    return xp.where(x > y, 1.0, xp.where(x <= y, 0.0, xp.nan))


def equals(xp: Any, x: Any, y: Any) -> Any:
    return xp.where(x == y, 1.0, xp.where((x < y) | (x > y), 0.0, xp.nan))


def largest(xp: Any, *xs: Any) -> Any:
    """The maximum: of one array, over its last axis."""
    return reduce(np.maximum, xs) if len(xs) > 1 and xp is np else xp.max(_stacked(xp, xs), -1)


def smallest(xp: Any, *xs: Any) -> Any:
    return reduce(np.minimum, xs) if len(xs) > 1 and xp is np else xp.min(_stacked(xp, xs), -1)


def _stacked(xp: Any, xs: Sequence[Any]) -> Any:
    """One array as it is, several along a new last axis, where JAX gives each of k ties 1/k."""
    return xs[0] if len(xs) == 1 else xp.stack(xp.broadcast_arrays(*xs), -1)


def exceeds(xp: Any, x: Any, y: Any) -> Any:
    return xp.where(x > y, 1.0, xp.where(x < y, 0.0, xp.where(x == y, 0.5, xp.nan)))


def pow_slope(xp: Any, x: Any, y: Any) -> Any:
    return xp.where(y == 0.0, 0.0, y * power(xp, x, y - 1.0))


def pow_log(xp: Any, x: Any, y: Any) -> Any:
    return xp.where(x < 0.0, xp.nan, damp(xp, xp.log(x), power(xp, x, y)))


def pow_partial(xp: Any, x: Any, y: Any, m: int, n: int) -> Any:
    if n == 0:
        return damp(xp, pow_partial(xp, x, y - 1.0, m - 1, 0), y) if m else power(xp, x, y)
    slopes: list[Any] = [1.0] + [0.0] * n
    for j in range(m):
        derived = [0.0, *(k * slope for k, slope in enumerate(slopes[:-1], 1))]
        slopes = [s * (y - j) + d for s, d in zip(slopes, derived, strict=True)]
    log = xp.log(x)
    total, extreme = slopes[0], 0.0
    for k in range(1, n + 1):
        total = total * log + math.comb(n, k) * slopes[k]
    for k in range(n, -1, -1):
        term = slopes[k] * (math.comb(n, k) * log ** (n - k) if k < n else 1.0)
        extreme = xp.where(slopes[k] != 0.0, term, extreme)
    result = power(xp, x, y - m)
    return xp.where(xp.isinf(log), damp(xp, extreme, result), damp(xp, result, total))


def lead(xp: Any, x: Any, y: Any) -> Any:
    return xp.where((x == y) & xp.isinf(x), x, x - y)


def fraction(xp: Any, x: Any, total: Any) -> Any:
    log = x - total
    # Squares find what is not finite in a third of the time of isfinite.
    if xp is not np or not np.vdot(total, total) < np.inf:
        log = xp.where((x == total) & xp.isinf(total), xp.minimum(total, 0.0), log)
    return xp.exp(log)


# NumPy has no error function; called element by element, math's are a tenth as fast as tanh.
_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def erf(xp: Any, x: Any) -> Any:
    return np.asarray(_erf(x), dtype=float)  # JAX has its own


def normcdf(xp: Any, x: Any) -> Any:
    x = x * -math.sqrt(0.5)
    if xp is np:
        return 0.5 * np.asarray(_erfc(x), dtype=float)
    from jax.scipy.special import erfc

    return 0.5 * erfc(x)


def gelu(xp: Any, x: Any) -> Any:
    return damp(xp, x, normcdf(xp, x))


def gelu_slope(xp: Any, x: Any) -> Any:
    density = xp.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))
    return normcdf(xp, x) + damp(xp, x, density)


def cosine(xp: Any, x: Any, y: Any) -> Any:
    # Where only the distance from the origin would overflow, it is that of a point nearer by.
    far = (xp.abs(x) > 1e300) | (xp.abs(y) > 1e300)
    x, y = xp.where(far, 0.25 * x, x), xp.where(far, 0.25 * y, y)
    h = xp.hypot(x, y)
    within = x / xp.where(h == 0.0, 1.0, h)
    return xp.where(xp.isinf(x), xp.where(xp.isfinite(y), xp.sign(x), xp.nan), within)


def inversion(xp: Any, x: Any, y: Any) -> Any:
    return xp.divide(cosine(xp, x, y), xp.hypot(x, y))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        logsumexp, sigmoid, damp, silu, leaky_relu, elu, clip, within, where, step, power, ratio,
        floor_div, xlogy, greater, exceeds, equals, largest, smallest, pow_slope, pow_log,
        pow_partial, lead, fraction, erf, gelu, gelu_slope, cosine, inversion,
    )
}  # fmt: skip


def function(op: Op, template: str, library: str) -> Callable[..., Any]:
    """The operation over a library, "np" or "jnp": the one above that its template calls.

    Other operations, as those of the user's, are applied element by element.
    """
    known = FUNCTIONS.get(template.partition("(")[0])
    if known is None:
        return elementwise(op) if library == "np" else _called_back(elementwise(op))
    xp: Any = np
    if library != "np":
        import jax.numpy as xp
    return lambda *xs: known(xp, *xs)[()]


def one_hot(chosen: Any, count: int) -> Any:
    """In JAX for each of these whole numbers a row, with 1 at its place, and else 0."""
    from jax.nn import one_hot as known

    return known(chosen.astype(int), count, dtype=chosen.dtype)


def elementwise(op: Op) -> Callable[..., Any]:
    """Any operation over NumPy, one element at a time."""
    vectorised = np.vectorize(unrefusing(op), otypes=[float])
    return lambda *xs: vectorised(*xs)[()]


def _called_back(elementwise: Callable[..., Any]) -> Callable[..., Any]:
    """A row of the user's, computed by Python in the midst of XLA's program.

    JAX refuses to differentiate or to export it; programs have the derivatives of their own. The
    numbers travel as integers: XLA calls from threads of its own, where JAX's x64 may be off, and
    floats would lose half their digits.
    """
    import jax
    import jax.numpy as jnp

    @jax.custom_jvp  # type: ignore[untyped-decorator]
    def function(*xs: Any) -> Any:
        dtype = jnp.result_type(*xs)
        arrays = [x.astype(dtype) for x in jnp.broadcast_arrays(*xs)]
        every = [jax.lax.bitcast_convert_type(x, np.int32) for x in arrays]

        def computed(*every: Any) -> Any:
            xs = [np.ascontiguousarray(bits).view(dtype) for bits in every]
            result = np.ascontiguousarray(elementwise(*xs), dtype)
            return result.view(np.int32).reshape(np.broadcast_shapes(*[x.shape for x in every]))

        like = jax.ShapeDtypeStruct(every[0].shape, np.int32)
        bits = jax.pure_callback(computed, like, *every, vmap_method="expand_dims")
        return jax.lax.bitcast_convert_type(bits, dtype)

    @function.defjvp  # type: ignore[untyped-decorator]
    def _(*_: Any) -> Any:
        raise ValueError(
            "JAX cannot differentiate an operation of yours, which is a callback: "
            "compile its gradient, with wrt"
        )

    return function  # type: ignore[no-any-return]
