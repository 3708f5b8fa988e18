"""Derivatives read off the numbers of an operation, each with a bound on its error.

An operation that has a complex form is measured by the complex step, any other by central
differences. Neither looks at the table's partials, which are what is doubted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

from ..engine import Value, numbers_of
from ..errors import InputError
from ..ops import Op

FAILURES = (ArithmeticError, ValueError)  # what a function raises where it has no value
_SHARP = 1e-10  # of a local derivative: a thousand times what the complex step was off by
_NEARBY = 2.0**-20  # of an operand, for seeing how a derivative changes
_ROUNDINGS = 64.0  # units of an operand that a derivative may be off by
_FEW = 16  # operands, which are moved one by one
_POINTS = (0.31, -1.73, 2.29, 0.87, -0.43)  # where an operation shows how it rounds
EXACT = 2.0**-53  # the rounding unit of floats


class Slope(NamedTuple):
    """A derivative, right to within `bound`; at a kink, `sides` has those to the left and right.

    `bound` is infinite where no numbers tell the derivative, as at the edge of a domain. `steps`
    has, for each step h, h itself, the quotient, and what may be wrong with the quotient. `unit` is
    how finely the numbers are rounded, relative to themselves.
    """

    value: float
    bound: float
    sides: tuple[float, float] | None = None
    steps: tuple[tuple[float, float, float], ...] = ()
    unit: float = EXACT

    @property
    def resolved(self) -> bool:
        """Whether the bound tells it from one that is wrong by a factor of 1.001."""
        return self.bound <= max(1e-4 * abs(self.value), 1e-8)


def differences(f: Callable[[float], float], x: float, size: float, unit: float = EXACT) -> Slope:
    """The derivative of `f` at `x` by central differences, with the step that suits f there.

    Steps grow by factors of 4 from far below `size`, that of x or of what is small if x is 0. The
    error of a quotient at step h is truncation, which grows like h² and is read off neighbouring
    steps, and rounding: noise / h, where the noise is what f changes by at first, or what has not
    been proportional to h in a change since. Steps are believed for as long as their intervals meet
    those of all the smaller ones (Lepski's rule), so that neither a wiggle nor a kink that a large
    step jumps over can pass for a derivative. At a kink the even part of f around x grows like h.
    """

    def power_of_two(y: float) -> float:  # above it, and far enough from where floats end
        return math.ldexp(1.0, math.frexp(min(max(y, 1e-290), 1e300))[1])

    h = max(power_of_two(size) * 2.0**-40, power_of_two(abs(x)) * 8.0 * unit)
    highest = power_of_two(max(abs(x), 1.0)) * 0.25
    changes = []  # the steps, and how f changes to the right and to the left
    with suppress(*FAILURES):
        middle = f(x)
        while h <= highest * 1.001:
            rise, fall = f(x + h) - middle, f(x - h) - middle
            if not math.isfinite(rise - fall):
                break
            changes.append((h, rise, fall))
            h *= 4.0
    if len(changes) < 4:
        return Slope(math.nan, math.inf)
    hs, rises, falls = zip(*changes, strict=True)
    odd = [rise - fall for _, rise, fall in changes]
    even = [rise + fall for _, rise, fall in changes]
    central = [difference / (2.0 * h) for h, difference in zip(hs, odd, strict=True)]
    floor = [
        8.0 * unit * (abs(middle) + abs(rise) + abs(fall)) + 2.0 * unit * abs(x * slope)
        for (_, rise, fall), slope in zip(changes, central, strict=True)
    ]
    start = next((k for k, e in enumerate(even) if abs(e) > 32.0 * floor[k]), len(even))
    bends = even[start : start + 4]
    if len(bends) == 4 and all(3.0 < b / a < 5.3 for a, b in pairwise(bends)):
        k = start + 2
        left, right = -falls[k] / hs[k], rises[k] / hs[k]
        bound = abs(falls[k + 1] / hs[k + 1] + left) + abs(rises[k + 1] / hs[k + 1] - right)
        return Slope(0.5 * (left + right), bound + 4.0 * floor[k] / hs[k], (left, right))
    steps: list[tuple[float, float, float]] = []
    best, low, high, noise = (math.nan, math.inf), -math.inf, math.inf, 0.0
    # What changes late, and by no more than numbers around 1 round by, is noise of 1 - cos(x).
    late = next((abs(d) for d in odd if d), 0.0)
    if late <= 4.0 * math.ulp(max(1.0, *map(abs, odd))):
        noise = late
    for k in range(len(hs) - 2):
        first = next((abs(d) for d in odd[: k + 11] if d), 0.0)
        noise = max(noise, first, abs(odd[k + 1] - 4.0 * odd[k]))
        rounding = (noise + floor[k]) / hs[k]
        # Richardson's extrapolation takes the h² of the truncation out of two quotients.
        fine, coarse = (central[j] + (central[j] - central[j + 1]) / 15.0 for j in (k, k + 1))
        bound = abs(fine - coarse) + rounding
        steps.append((hs[k], central[k], abs(fine - central[k]) + rounding))
        if not (bound < math.inf and fine - bound <= high and fine + bound >= low):
            break
        low, high = max(low, fine - bound), min(high, fine + bound)
        if bound < best[1]:
            best = fine, bound
    return Slope(*best, steps=tuple(steps), unit=unit)


def rounding_unit(op: Op, xs: Sequence[float]) -> float:
    """How finely the operation's numbers are rounded, relative to them, near `xs` and elsewhere.

    That is half a unit in the last place they use: a row may compute in fewer bits than a float
    has. Where the numbers are few, as those of a step are, they say nothing about it.
    """
    found = set[float]()
    for t in _POINTS:
        # Each by another factor: what is the same for all would move no quotient.
        near = [x * (1.0 + 0.01 * t * (1.0 + i)) for i, x in enumerate(xs)]
        for points in (near, [t * (1.0 + t * i) for i in range(len(xs))]):
            with suppress(Exception):  # whatever an operation of the user's raises
                found.add(abs(op.evaluate(points)))
    mantissas = [int(math.ldexp(math.frexp(y)[0], 53)) for y in found if 0.0 < y < math.inf]
    if len(mantissas) < len(_POINTS):
        return EXACT
    return 2.0 ** (min([(m & -m).bit_length() for m in mantissas]) - 54)


class Local(NamedTuple):
    """A local derivative of a node, by the operand at `place`: `recorded`, and its real `slope`."""

    node: Value
    op: Op
    place: int
    parent: Value
    recorded: float
    slope: Slope


def measured(node: Value) -> list[Local]:
    """The local derivatives of a node, one for each parent.

    What the node recorded is taken for the slope, with an infinite bound where numbers cannot tell,
    and with the bound 0 at a kink if it lies between the slopes to both sides: a one-sided slope,
    or any between the two, is as good as another (a subgradient).
    """
    op, operands = node.op, node.operands
    if op is None:
        return []
    xs, records = numbers_of(operands), node.local_grads
    places = [place for place, d in enumerate(node.operand_grads) if d is not None]
    slopes = None
    if len(places) > _FEW:
        slopes = _together(op, xs, dict(zip(places, records, strict=True)))
    if slopes is None:
        slopes = [_measured(op, xs, place, d) for place, d in zip(places, records, strict=True)]
        if op.analytic is None and 1 < len(slopes) <= _FEW and not any(s.sides for s in slopes):
            slopes = _with_corner(op, xs, slopes)
    return [
        Local(node, op, place, parent, d, slope)
        for place, parent, d, slope in zip(places, node.parents, records, slopes, strict=True)
    ]


def _together(op: Op, xs: Sequence[float], records: Mapping[int, float]) -> list[Slope] | None:
    """The slopes of an operation with many operands, measured in one step along all of them.

    Each operand moves by as much as should move the result alike, but for a factor: errors of
    several records do not cancel then. None where they do not pass, to be looked at one by one.
    """
    sizes = [abs(x) for x in (*xs, *records.values()) if x]
    if op.analytic is None or not sizes or not (min(sizes) > 1e-50 and sum(sizes) < 1e50):
        return None
    largest, rng = max(map(abs, records.values())) or 1.0, Random(0)
    direction = {i: rng.choice((-1, 1)) * rng.uniform(0.5, 1.0) for i in records}
    direction = {i: u / (records[i] or largest) for i, u in direction.items()}
    h = 2.0**-100 * min(1.0, *sizes) / max(map(abs, direction.values()))
    try:
        out = op.analytic(*[complex(x, h * direction.get(i, 0.0)) for i, x in enumerate(xs)])
        off = abs(out.real - op.evaluate(xs))
    except FAILURES:
        return None
    terms = [u * records[i] for i, u in direction.items()]
    bound = _SHARP * len(terms)
    if off > 1e-9 * max(sizes) or not abs(out.imag / h - math.fsum(terms)) <= bound:
        return None
    return [Slope(records[i], bound / abs(u)) for i, u in direction.items()]


def _with_corner(op: Op, xs: Sequence[float], slopes: list[Slope]) -> list[Slope]:
    """The slopes, with sides where the operation has a kink that no single operand shows.

    It does if it chooses between operands that are alike here: x if x > 0 else y, at x = y = 0.
    """

    def along(t: float) -> float:
        return op.evaluate([x + t * (abs(x) or 1.0) / (1.0 + i) for i, x in enumerate(xs)])

    if differences(along, 0.0, 1.0, rounding_unit(op, xs)).sides is None:
        return slopes
    return [Slope(s.value, s.bound, (s.value, s.value), s.steps, s.unit) for s in slopes]


def _measured(op: Op, xs: Sequence[float], place: int, recorded: float) -> Slope:
    """The slope of the operation, where its derivative was `recorded`."""
    if not all(map(math.isfinite, xs)):
        return Slope(recorded, math.inf)
    slope = _at_kink(op, xs, place) or _slope(op, xs, place)
    if slope.sides is not None:
        low, high = min(slope.sides) - slope.bound, max(slope.sides) + slope.bound
        if low <= recorded <= high or any(map(math.isnan, (*slope.sides, recorded))):
            return Slope(recorded, 0.0, slope.sides)
        return Slope(low if recorded < low else high, slope.bound, slope.sides)
    known = slope.bound < math.inf
    if not math.isfinite(recorded):  # which the library's operations mean, at their poles
        known = slope.resolved and op.analytic is None
    if not known:
        return Slope(recorded, math.inf)
    if not abs(recorded - slope.value) <= slope.bound:
        # Where a derivative passes through 0 its terms cancel, and their roundings are left.
        nearby = _slope(op, _moved(xs, place, xs[place] * (1.0 + _NEARBY)), place)
        if nearby.bound < math.inf:
            change = abs(nearby.value - slope.value) / (_NEARBY * abs(xs[place]) or 1.0)
            scale = abs(xs[place]) * change + (abs(slope.value) if slope.unit > EXACT else 0.0)
            return Slope(slope.value, slope.bound + _ROUNDINGS * slope.unit * scale)
    return slope


def _slope(op: Op, xs: Sequence[float], place: int) -> Slope:
    """The derivative of what the operation computes by its operand at `place`."""
    x = xs[place]
    try:
        value, slope, hidden = complex_step(op, xs, place)
        out = op.evaluate(xs)
    except FAILURES:
        pass
    else:
        # If its value is another than that of its complex form, this says nothing about it.
        if abs(value - out) <= 1e-9 * (abs(out) + max(map(abs, xs)) * abs(slope)) + 1e-300:
            return Slope(slope, _SHARP * abs(slope) + hidden)
    # An operand of 0 has no size of its own: it is taken for a small one.
    size = abs(x) or min([2.0**-70, *(abs(other) for other in xs if other)])
    unit = rounding_unit(op, xs)
    return differences(lambda moved: op.evaluate(_moved(xs, place, moved)), x, size, unit)


def _at_kink(op: Op, xs: Sequence[float], place: int) -> Slope | None:
    """The slopes on both sides of a kink that the operation declares; None where there is none.

    They are those at the neighbouring floats: NaN beyond an edge of the domain.
    """
    if not op.kink or op.analytic is None:
        return None
    x, sides, values = xs[place], [], []
    gap = math.ulp(x) if x else 1e-100
    for beside in (_moved(xs, place, x - gap), _moved(xs, place, x + gap)):
        try:
            values.append(op.evaluate(beside))
            sides.append(complex_step(op, beside, place)[1])
        except FAILURES:
            sides.append(math.nan)
    size = max(map(abs, sides))
    near = (a == b or abs(b - a) <= 1e-6 * max(abs(a), abs(b)) + 1e-50 for a, b in (sides, values))
    if all(near):
        return None
    return Slope(0.5 * sum(sides), 1e-9 * size, (sides[0], sides[1]))


def complex_step(op: Op, xs: Sequence[float], place: int) -> tuple[float, float, float]:
    """The value of the operation, its derivative by one operand, and what the step may hide.

    f'(x) = Im f(x + ih) / h. Nothing is subtracted in that quotient, so that h may be 1e-30 and the
    derivative is right to a few ulp (Squire and Trapp, SIAM Review 40, 1998). Raises InputError for
    an operation without a complex form, or one that fails at `xs`.
    """
    if op.analytic is None:
        raise InputError(f"{op.name} has no complex form")
    # Where the operand is 0, the others tell what is small.
    size = abs(xs[place]) or min([abs(x) for x in xs if x], default=1.0)
    h = max(min(size, 1.0) * 2.0**-100, 2.0**-1020)
    try:
        out = op.analytic(*_moved(xs, place, complex(xs[place], h)))
    except FAILURES as error:
        raise InputError(f"the complex form of {op.name} fails at {xs}: {error}") from None
    # Nothing else tells its size, that of h²·log(h)² at most.
    third = 0.0 if xs[place] else 4.0 * (h * math.log(h)) ** 2
    return out.real, out.imag / h, 2.0**-1070 / h + third


def _moved(xs: Sequence[float], place: int, x: Any) -> list[Any]:
    return [*xs[:place], x, *xs[place + 1 :]]
