"""Central differences: a derivative read off the numbers of a function, with a bound on its error.

The quotient (f(h) - f(-h)) / 2h is wrong by truncation, which grows like h², and by rounding, which
grows like 1/h. Neither is known beforehand, so both are estimated from the numbers themselves, at
many steps h, and the step is taken where their sum is least.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

FAILURES = (ArithmeticError, ValueError)  # what a function raises where it has no value


@dataclass(frozen=True)
class Step:
    """The central difference at one step: the `quotient`, and what may be wrong with it."""

    step: float
    quotient: float
    truncation: float
    rounding: float


@dataclass(frozen=True)
class Slope:
    """A derivative, right to within `bound`; at a kink, `sides` has those to the left and right.

    `bound` is infinite where no numbers tell the derivative, as at the edge of a domain.
    """

    value: float
    bound: float
    step: float = math.nan
    sides: tuple[float, float] | None = None
    steps: tuple[Step, ...] = ()


UNKNOWN = Slope(math.nan, math.inf)


def differences(f: Callable[[float], float], low: float, high: float, grain: float = 0.0) -> Slope:
    """The derivative of `f` at 0 by central differences, with the step that suits f there.

    Steps grow from `low` to `high` by factors of 4. The error model of a quotient at step h has
    truncation, read off neighbouring steps, and rounding: noise / h, where the noise is what
    remains of f's odd and even parts around 0 when their leading powers of h are taken out, at all
    steps where that does not yet grow like the next power. `grain` is the rounding of the
    argument. The even part at a kink grows like h, not like h².
    """
    middle = _finite(f, 0.0)
    if middle is None:
        return UNKNOWN
    points: list[tuple[float, float, float]] = []
    h = low
    while h <= high * 1.001:
        after, before = _finite(f, h), _finite(f, -h)
        if after is None or before is None:
            break
        points.append((h, before, after))
        h *= 4.0
    if len(points) < 4:
        return UNKNOWN
    hs = [h for h, _, _ in points]
    odd = [after - before for _, before, after in points]
    even = [(after - middle) + (before - middle) for _, before, after in points]
    central = [difference / (2.0 * h) for h, difference in zip(hs, odd, strict=True)]
    floor = [
        4.0 * math.ulp(max(abs(middle), abs(before), abs(after))) + grain * abs(slope)
        for (_, before, after), slope in zip(points, central, strict=True)
    ]
    kink = _kink(points, middle, even, floor)
    if kink is not None:
        return kink
    remains = [
        max(abs(even[k + 1] - 16.0 * even[k]) / 8.0, abs(odd[k + 1] - 4.0 * odd[k]) / 1.2)
        for k in range(len(points) - 1)
    ]
    noisy = _noisy(remains)
    steps, candidates = [], []
    for k in range(len(points) - 2):
        if k > noisy and remains[k] > abs(odd[k]):
            break  # the series in h has ended
        noise = max(remains[: min(k + 11, noisy)])
        rounding = (2.0 * noise + floor[k]) / hs[k]
        fine, coarse = _extrapolated(central, k), _extrapolated(central, k + 1)
        steps.append(Step(hs[k], central[k], abs(fine - central[k]), rounding))
        candidates.append(Slope(fine, abs(fine - coarse) + rounding, hs[k]))
    best = _narrowest(candidates)
    return Slope(best.value, best.bound, best.step, steps=tuple(steps))


def _finite(f: Callable[[float], float], x: float) -> float | None:
    try:
        y = f(x)
    except FAILURES:
        return None
    return y if math.isfinite(y) else None


def _extrapolated(central: Sequence[float], k: int) -> float:
    """Richardson: the h² of the truncation taken out of the quotients at h and 4 h."""
    return central[k] + (central[k] - central[k + 1]) / 15.0


def _noisy(remains: Sequence[float]) -> int:
    """How many of the steps have noise: from where on it grows like h³ or h⁴, it is none."""
    for k in range(len(remains) - 2):
        first, second, third = remains[k : k + 3]
        if 40.0 * first < second < 600.0 * first and 40.0 * second < third < 600.0 * second:
            return k + 1
    return len(remains)


def _narrowest(candidates: Iterable[Slope]) -> Slope:
    """The one of the least bound among those that can be believed.

    Larger steps are believed for as long as their intervals meet those of all the smaller ones
    (Lepski's rule), so that neither a wiggle nor a kink that a large step jumps over can pass for a
    derivative.
    """
    best, low, high = UNKNOWN, -math.inf, math.inf
    for slope in candidates:
        start, end = slope.value - slope.bound, slope.value + slope.bound
        if not (slope.bound < math.inf and start <= high and end >= low):
            break
        low, high = max(low, start), min(high, end)
        if slope.bound < best.bound:
            best = slope
    return best


def _kink(
    points: Sequence[tuple[float, float, float]],
    middle: float,
    even: Sequence[float],
    floor: Sequence[float],
) -> Slope | None:
    """The slopes to both sides, if they differ however small the step."""
    start = next((k for k, e in enumerate(even) if abs(e) > 32.0 * floor[k]), len(even))
    levels = range(start, min(start + 3, len(even) - 1))
    ratios = [even[k + 1] / even[k] for k in levels if even[k]]
    if len(ratios) < 3 or not all(3.0 < ratio < 5.3 for ratio in ratios):
        return None
    slopes, bounds = [], []
    for side, sign in ((1, -1.0), (2, 1.0)):
        quotients = [sign * (p[side] - middle) / p[0] for p in points[start : start + 4]]
        slopes.append(quotients[2] + (quotients[2] - quotients[3]) / 3.0)
        error = abs(slopes[-1] - quotients[2])
        bounds.append(error + 4.0 * floor[start + 2] / points[start + 2][0])
    left, right = slopes
    return Slope(0.5 * (left + right), max(bounds), points[0][0], (left, right))
