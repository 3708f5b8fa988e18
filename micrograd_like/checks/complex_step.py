"""The complex step: f'(x) = Im f(x + ih) / h.

Nothing is subtracted in that quotient, so that h may be 1e-30 and the derivative is right to a few
ulp (Squire and Trapp, SIAM Review 40, 1998).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from ..ops import Op


def complex_step(
    op: Op, xs: Sequence[float], direction: Sequence[float]
) -> tuple[float, float, float]:
    """The value of the operation, its derivative along `direction`, and what h may hide in it.

    Raises InputError for an operation without a complex form, or one that fails at `xs`.
    """
    if op.analytic is None:
        raise InputError(f"{op.name} has no complex form")
    pairs = [(abs(x), abs(v)) for x, v in zip(xs, direction, strict=True) if v]
    scales = [min(x, 1.0) / v for x, v in pairs if x]
    if len(scales) < len(pairs):  # where an operand is 0, the others tell what is small
        largest = max(v for x, v in pairs if not x)
        scales += [min([1.0, *(abs(x) for x in xs if x)]) / largest]
    scale = min(scales, default=1.0)
    h = max(scale * (2.0**-100 if scale > 1e-150 else 2.0**-40), 2.0**-1020)
    try:
        out = op.analytic(*[complex(x, h * v) for x, v in zip(xs, direction, strict=True)])
    except (ArithmeticError, ValueError) as error:
        raise InputError(f"the complex form of {op.name} fails at {xs}: {error}") from None
    # Where an operand is 0, nothing else tells how large the terms of third order are.
    third = 0.0 if all(x for x, _ in pairs) else 4.0 * h * h
    return out.real, out.imag / h, 2.0**-1070 / h + third
