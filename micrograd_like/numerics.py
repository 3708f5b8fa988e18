"""Numbers, and functions of floats that the math module lacks or refuses to answer.

Each is accurate to a few ulp wherever its result is a normal float, with infinities and NaN where
IEEE 754 has them. What is differentiable here is a row of `ops.py`. Compiled programs use most of
these functions too, by their source: see `compiler/rows.py`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import reduce
from numbers import Complex, Integral, Real
from typing import Any

from .errors import InputError, OperandError

INF = math.inf
NAN = math.nan


def number(x: Any) -> float:
    """The float that a number stands for: an int, bool, Fraction, Decimal or NumPy scalar.

    Raises OperandError for anything else, and InputError for an integer beyond the floats.
    """
    if x.__class__ is float:
        return x
    kind = type(x).__name__
    if x.__class__ is int or _is_real(x):
        try:
            return float(x)
        except OverflowError:
            raise InputError(f"a number of type {kind} is too large for a float") from None
        except (TypeError, ValueError):  # a signalling NaN is no float
            pass
    _refuse_times(x)
    if _is_bare_array(x) and isinstance(item := x.item(), (float, int)):
        return float(item)
    if hasattr(x, "__take__"):
        advice = "it is in place of an example's number, and x * Value(1.0) is a Value of either"
    elif hasattr(x, "__apply_op__"):
        advice = "a number is needed here: use its .data"
    elif isinstance(x, str):
        advice = "convert it with float() first"
    elif isinstance(x, Complex) and not isinstance(x, Real):
        advice = "the library computes with real numbers"
    elif hasattr(x, "tolist"):
        advice = "use one Value an element, e.g. [Value(v) for v in array.tolist()]"
    else:
        advice = "use a float, an int or a Value"
    raise OperandError(f"cannot compute with {x!r:.60} of type {kind}: {advice}")


def _refuse_times(x: Any) -> None:
    """NumPy makes integers of an array of times, where their unit is a nanosecond."""
    if getattr(getattr(x, "dtype", None), "kind", None) in ("m", "M"):
        raise OperandError(
            f"times are no numbers, got {x!r:.60}: divide a difference of times by a unit, such as "
            "np.timedelta64(1, 's')"
        )


def _is_bare_array(x: Any) -> bool:
    """Whether it is an array without axes, or a tensor, not masked, and no scalar of NumPy's."""
    if isinstance(x, _numpys("generic")) or hasattr(x, "mask"):
        return False
    return getattr(x, "ndim", None) == 0 and hasattr(x, "item")


def number_in(x: Any) -> float | None:
    """As `number`, but None where it refuses."""
    try:
        return number(x)
    except OperandError:
        return None


def has_axes(x: Any) -> bool:
    """Whether it is an array that meets a Value element by element."""
    return isinstance(x, _numpys("ndarray")) and x.ndim > 0


def holds_objects(x: Any) -> bool:
    """Whether it is an array of Values, or of other objects, that has axes."""
    return has_axes(x) and x.dtype.hasobject


def elementwise(f: Callable[..., Any], args: Sequence[Any]) -> Any:
    """F of the elements of the arrays among `args`, as an array of objects.

    Shapes are broadcast. Raises OperandError for masked arrays, whose hidden numbers would count.
    """
    numpy = sys.modules["numpy"]
    if any(isinstance(arg, numpy.ma.MaskedArray) for arg in args):
        raise OperandError("a masked array is refused: fill it, or leave out what is masked")
    arrays = []
    for arg in args:
        _refuse_times(arg)
        if has_axes(arg):
            arrays.append(arg.astype(object))
        else:
            arrays.append(numpy.empty((), object))
            arrays[-1][()] = arg
    return numpy.frompyfunc(f, len(args), 1)(*arrays)


def whole(name: str, x: Any) -> int:
    """An integer of at least 1 as an int: NumPy's overflow, or add up to floats. Or InputError."""
    integer = isinstance(x, Integral) and _is_real(x) and not isinstance(x, bool)
    if not integer or x < 1:
        raise InputError(f"{name} is a whole number, at least 1, got {x!r:.60}")
    return int(x)


def plain(x: Any) -> Any:
    """An array, or a table of pandas', as lists of Python's numbers; anything else as it is.

    Raises OperandError for a dict or a set: keys would count as numbers, or these have no order.
    """
    if x.__class__ is list:
        return x
    if isinstance(x, (dict, set, frozenset)):
        raise OperandError(f"a list is needed, in order, not {x!r:.60} of type {type(x).__name__}")
    _refuse_times(x)
    frame: Any = getattr(sys.modules.get("pandas"), "DataFrame", ())
    if isinstance(x, frame):
        x = x.to_numpy(object)  # it would iterate over its columns' names
    return x.tolist() if hasattr(x, "tolist") else x


def nested(f: Callable[[Any], Any], x: Any, alike: bool = False) -> Any:
    """F of each number or Value in x, in lists that are nested as they are in x.

    Where they are to be `alike`, tuples are tuples, and what is an array of any library, or a table
    of pandas', is an array of objects.
    """
    numpy: Any = sys.modules.get("numpy")
    if alike and numpy and getattr(x, "ndim", 0):
        x = x.to_numpy(object) if hasattr(x, "to_numpy") else numpy.asanyarray(x)
        out: Any = numpy.empty(x.shape, object)
        for at, item in zip(numpy.ndindex(x.shape), x.flat, strict=True):
            out[at] = nested(f, item, alike)
        return out
    x = plain(x)
    if not isinstance(x, (list, tuple)):
        return f(x)
    items = [nested(f, item, alike) for item in x]
    return getattr(x, "_make", tuple)(items) if alike and isinstance(x, tuple) else items


def flat(x: Any) -> list[Any]:
    """What is in lists, tuples and arrays, and in those within them; of anything else itself."""
    x = x.tolist() if hasattr(x, "tolist") else x
    return [i for item in x for i in flat(item)] if isinstance(x, (list, tuple)) else [x]


def is_masked(x: Any) -> bool:
    """Whether it is an array that hides some of its numbers. In pandas `mask` is a method."""
    return hasattr(x, "mask") and not callable(x.mask)


def _is_real(x: Any) -> bool:
    if isinstance(x, Real):
        # NumPy's time spans are integers by name, but cannot be used as such.
        return hasattr(x, "__index__") or not isinstance(x, Integral)
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(x, decimal.Decimal):
        return True
    return isinstance(x, _numpys("bool_"))


def _numpys(name: str) -> Any:
    """A type of NumPy's, for isinstance; () where NumPy is not loaded, or is being loaded."""
    return getattr(sys.modules.get("numpy"), name, ())


def divide(x: float, y: float) -> float:
    """Divide with the answers of IEEE 754 at y = 0."""
    try:
        return x / y
    except ZeroDivisionError:
        return NAN if x == 0.0 or x != x else math.copysign(INF, x) * math.copysign(1.0, y)


def log(x: float) -> float:
    """The logarithm, with -inf at 0 and NaN below."""
    return math.log(x) if x > 0.0 else -INF if x == 0.0 else NAN


def ratio(x: float, y: float) -> float:
    """Divide with 0 for x = 0, also at y = 0."""
    return divide(x, y) if x else 0.0


def mod(x: float, y: float) -> float:
    return x % y if y else NAN


def floor_div(x: float, y: float) -> float:
    """The whole number of times that y is taken from x in `x % y`."""
    return x // y if y else NAN


def xlogy(x: float, y: float) -> float:
    """The product x · log y, and 0 for x = 0 whatever y is, unless that is NaN."""
    return x * math.log(y) if x or y != y else 0.0


def pow(x: float, y: float) -> float:  # noqa: A001 - as in the math module
    """Raise to a power with the answers of IEEE 754: poles are infinite, the rest NaN."""
    try:
        return math.pow(x, y)
    except OverflowError:
        return -INF if x < 0.0 and y % 2.0 == 1.0 else INF
    except ValueError:
        return NAN if x else math.copysign(INF, x) if y % 2.0 == 1.0 else INF


def pow_slope(x: float, y: float) -> float:
    """The product y · x**(y - 1), and 0 for y = 0, even at x = 0."""
    return y * pow(x, y - 1.0) if y else 0.0


def pow_log(x: float, y: float) -> float:
    """The derivative of x**y by y, x**y · log(x), and 0 for x = 0 < y."""
    return damp(log(x), pow(x, y)) if x >= 0.0 else NAN


def pow_partial(x: float, y: float, m: int, n: int) -> float:
    """The derivative of x**y, m times by x and n times by y.

    By x there is the falling factorial (y)_m = y (y - 1) ... (y - m + 1) times x**(y - m), by y
    Leibniz' rule: the sum over k of C(n, k) · (k-th derivative of (y)_m) · log(x)**(n - k), times
    x**(y - m). At 0 and inf the highest power of the logarithm decides.
    """
    if n == 0:  # to the bit as a chain of pow_slope gives it
        factors = [y] + [0.0 for _ in range(m)]
        for k in range(m):
            factors[k + 1] = factors[k] - 1.0
        product = pow(x, factors[m])
        for k in range(m - 1, -1, -1):
            product = damp(product, factors[k])
        return product
    if not x >= 0.0:
        return NAN
    taylor = [1.0] + [0.0 for _ in range(n)]  # coefficients of (y + s)_m as a polynomial in s
    for j in range(m):
        for k in range(n, 0, -1):
            taylor[k] = taylor[k] * (y - j) + taylor[k - 1]
        taylor[0] *= y - j
    power, is_extreme = pow(x, y - m), x == 0.0 or x == INF
    total, weight, left = taylor[0], 1.0, float(n)
    for coefficient in taylor[1:]:
        if is_extreme and total:
            break
        weight *= left
        left -= 1.0
        total = (0.0 if is_extreme else total * log(x)) + weight * coefficient
    if is_extreme and total:
        if left > 0.0:
            total *= -INF if x == 0.0 and left % 2.0 == 1.0 else INF
        return damp(total, power)
    return damp(power, total)


def lead(x: float, y: float) -> float:
    """The difference x - y; of equal infinities there is none, and it is x."""
    return x if x == y and math.isinf(x) else x - y


def fraction(x: float, total: float) -> float:
    """The fraction exp(x - total) of a sum whose log is `total`: 0 for x = -inf, 1 for inf."""
    if math.isinf(total) and x == total:
        return 1.0 if x > 0.0 else 0.0
    return math.exp(x - total)


def sigmoid(x: float) -> float:
    if x >= 0.0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)


def sech(x: float) -> float:
    try:
        return 1.0 / math.cosh(x)
    except OverflowError:
        return 2.0 * math.exp(-abs(x))


def softplus(x: float) -> float:
    return (x if x > 0.0 else 0.0) + math.log1p(math.exp(-abs(x)))


def logaddexp(x: float, y: float) -> float:
    return x + math.log(2.0) if x == y else max(x, y) + math.log1p(math.exp(-abs(x - y)))


def logsumexp(*xs: float) -> float:
    """The largest argument leaves the sum and comes back through log1p, which keeps the tail."""
    if not xs:
        raise InputError("logsumexp needs at least one argument")
    top = max(range(len(xs)), key=xs.__getitem__)
    largest, tail = xs[top], 0.0
    if math.isinf(largest):
        return largest if not any(map(math.isnan, xs)) else NAN
    for i, x in enumerate(xs):
        if i != top:
            tail += math.exp(x - largest)
    return largest + math.log1p(tail)


def relu(x: float) -> float:
    return 0.0 if x <= 0.0 else x


def leaky_relu(x: float, slope: float) -> float:
    return x if x > 0.0 else slope * x


def elu(x: float, alpha: float) -> float:
    return x if x > 0.0 else alpha * math.expm1(x)


def normcdf(x: float) -> float:
    return 0.5 * math.erfc(x * -math.sqrt(0.5))


def normpdf(x: float) -> float:
    return math.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))


def gelu(x: float) -> float:
    return damp(x, normcdf(x))


def gelu_slope(x: float) -> float:
    return normcdf(x) + damp(x, normpdf(x))


def silu(x: float) -> float:
    return damp(x, sigmoid(x))


def damp(x: float, w: float) -> float:
    return x * w if w else 0.0


def one_minus_square(x: float) -> float:
    return (1.0 - x) * (1.0 + x)


def cosine(x: float, y: float) -> float:
    h = math.hypot(x, y)
    if h == 0.0:
        return 0.0
    if h == INF:
        if math.isinf(x):
            return math.copysign(1.0, x) if math.isfinite(y) else NAN
        if not math.isfinite(y):
            return 0.0 * x
        # Both are finite, and only their distance from the origin overflows.
        return x * 0.25 / math.hypot(x * 0.25, y * 0.25)
    return x / h


def inversion(x: float, y: float) -> float:
    return divide(cosine(x, y), math.hypot(x, y))


def maximum(x: float, y: float) -> float:
    return x if x >= y else y if y > x else NAN


def minimum(x: float, y: float) -> float:
    return x if x <= y else y if y < x else NAN


def clip(x: float, low: float, high: float) -> float:
    return minimum(maximum(x, low), high)


def within(x: float, low: float, high: float) -> float:
    if low <= x <= high:
        return 1.0
    return NAN if x != x or low != low or high != high else 0.0


def largest(*xs: float) -> float:
    """The largest argument, of equal ones the first, or NaN if one is NaN."""
    if not xs:
        raise InputError("max needs at least one argument")
    return reduce(maximum, xs)


def smallest(*xs: float) -> float:
    """The smallest argument, of equal ones the first, or NaN if one is NaN."""
    if not xs:
        raise InputError("min needs at least one argument")
    return reduce(minimum, xs)


def equals(x: float, y: float) -> float:
    return 1.0 if x == y else 0.0 if x < y or x > y else NAN


def sign(x: float) -> float:
    return 1.0 if x > 0.0 else -1.0 if x < 0.0 else x


def step(x: float) -> float:
    return 1.0 if x > 0.0 else 0.0 if x <= 0.0 else NAN


def greater(x: float, y: float) -> float:
    return 1.0 if x > y else 0.0 if x <= y else NAN


def exceeds(x: float, y: float) -> float:
    return 1.0 if x > y else 0.0 if x < y else 0.5 if x == y else NAN


def where(condition: float, x: float, y: float) -> float:
    return x if condition else y


def affine(*operands: float) -> float:
    n = len(operands) // 2
    if len(operands) != 2 * n + 1:
        raise InputError(
            f"affine takes n weights, n inputs and a bias, got {len(operands)} operands"
        )
    z = operands[-1]
    for w, x in zip(operands[:n], operands[n:-1], strict=True):
        z += w * x
    return z
