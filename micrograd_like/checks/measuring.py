"""One node, measured: what its operation's own numbers say its local derivatives are.

An operation that has a complex form is measured by the complex step, any other by central
differences. Neither looks at the table's partials, which are what is doubted.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..engine import Value
from ..errors import InputError
from ..numerics import number
from ..ops import Op
from .complex_step import complex_step
from .differences import FAILURES, UNKNOWN, Slope, differences

_SHARP = 1e-10  # of a local derivative: a thousand times what the complex step was off by
_TOGETHER = 8  # operands that are measured one by one; of more, all along one direction
_ROUNDINGS = 32.0  # that a derivative may be off by where it is the small difference of large terms


@dataclass(frozen=True)
class Point:
    """An operation and its operands' numbers; `moving` are the places of the Values among them."""

    op: Op
    xs: tuple[float, ...]
    out: float
    moving: tuple[int, ...]

    @staticmethod
    def of(node: Value) -> Point:
        assert node.op is not None
        operands = node.operands
        moving = tuple(j for j, a in enumerate(operands) if isinstance(a, Value))
        xs = tuple(a.data if isinstance(a, Value) else a for a in operands)
        return Point(node.op, xs, node.data, moving)

    def moved(self, direction: Sequence[float], t: float) -> Point:
        """The operation at xs + t · direction. Raises what it raises where it is not defined."""
        return self._with([x + t * v for x, v in zip(self.xs, direction, strict=True)])

    def at(self, moving: Sequence[float]) -> Point:
        """The operation where the Values have these numbers. Raises like `moved`."""
        xs = [*self.xs]
        for place, x in zip(self.moving, moving, strict=True):
            xs[place] = x
        return self._with(xs)

    def _with(self, xs: Sequence[float]) -> Point:
        return Point(self.op, tuple(xs), self.op.evaluate(xs), self.moving)

    def direction(self, weights: Mapping[int, float]) -> list[float]:
        """The direction with these weights at these places."""
        return [weights.get(place, 0.0) for place in range(len(self.xs))]

    def along(self, direction: Sequence[float]) -> Slope:
        """The derivative of what the operation computes, along `direction`."""
        if self.op.analytic is not None:
            try:
                value, slope, hidden = complex_step(self.op, self.xs, direction)
            except InputError:
                pass
            else:
                size = max(abs(x) for x in self.xs)
                same = 1e-9 * (abs(self.out) + size * abs(slope)) + 1e-300
                # An operation that computes something else than its complex form is measured as
                # it is.
                if abs(value - self.out) <= same:
                    return Slope(slope, _SHARP * abs(slope) + hidden)
        low, high, grain = self._range(direction)
        return differences(lambda t: self.moved(direction, t).out, low, high, grain)

    def _range(self, direction: Sequence[float]) -> tuple[float, float, float]:
        """The smallest and largest step along `direction`, and the rounding of the argument."""
        pairs = [(abs(x), abs(v)) for x, v in zip(self.xs, direction, strict=True) if v]
        around = min([2.0**-70, *(abs(x) for x in self.xs if x)])  # of what is 0
        scales = [x / v for x, v in pairs if x] or [around]
        low = power_of_two(min(scales)) * 2.0**-40
        high = power_of_two(max(max(x, 1.0) / v for x, v in pairs)) * 0.25
        return low, high, max([math.ulp(x) / v for x, v in pairs if x], default=0.0)

    def rounding(self, place: int) -> float:
        """How far the derivative by an operand moves when that operand does by a few roundings.

        Where a derivative passes through 0, the terms that it is made of cancel, and their
        roundings are all that is left of it, in the partial and in the complex form.
        """
        x, unit = self.xs[place], self.direction({place: 1.0})
        try:
            gap = 2.0**-20
            nearby = self.moved(unit, gap * x).along(unit)
        except FAILURES:
            return 0.0
        return _ROUNDINGS * 2.0**-52 / gap * abs(nearby.value - self.along(unit).value)

    def bend(self, place: int) -> tuple[float, float] | None:
        """The slopes on both sides of a kink that the operation declares, in operand `place`.

        They are those of the neighbouring floats: NaN beyond an edge of the domain. None where
        there is no kink.
        """
        if not self.op.kink or self.op.analytic is None:
            return None
        x, unit = self.xs[place], self.direction({place: 1.0})
        gap = math.ulp(x) if x else 1e-100
        slopes, values = [], []
        for step in (-gap, gap):
            try:
                beside = self.moved(unit, step)
                slopes.append(complex_step(self.op, beside.xs, unit)[1])
                values.append(beside.out)
            except FAILURES:
                slopes.append(math.nan)
                values.append(math.nan)
        left, right = slopes
        same = abs(right - left) <= max(1e-6 * max(abs(left), abs(right)), 0.0 if x else 1e-50)
        jump = abs(values[1] - values[0]) - 4.0 * math.ulp(self.out)
        if same and not jump > 8.0 * gap * (abs(left) + abs(right)) + gap * gap:
            return None
        return left, right

    def partial(self, place: int) -> float | None:
        """What the table's partial by that operand says here; None if it fails."""
        partials, args = self.op.partials, (*self.xs, self.out)
        try:
            said = partials[0](*args)[place] if self.op.arity is None else partials[place](*args)
            return number(said)
        except (*FAILURES, TypeError):
            return None


def power_of_two(x: float) -> float:
    """The power of 2 above `x`, within the range in which steps can be taken."""
    return math.ldexp(1.0, math.frexp(min(max(x, 1e-290), 1e300))[1])


def measured(node: Value, rng: random.Random) -> list[Slope]:
    """The numeric local derivatives of a node, one for each parent.

    What the node recorded is given back, with an infinite bound where numbers cannot tell, and with
    the bound 0 at a kink if it lies between the slopes to both sides: a one-sided slope, or any
    between the two, is as good as another (a subgradient).
    """
    point, recorded = Point.of(node), node.local_grads
    if not all(map(math.isfinite, (*point.xs, point.out))):
        return [Slope(d, math.inf) for d in recorded]
    found: dict[int, Slope] = {}
    groups: list[Sequence[int]] = [range(len(recorded))]
    while groups:
        group = groups.pop()
        if len(group) <= _TOGETHER:
            found.update({k: _measured(point, point.moving[k], recorded[k]) for k in group})
        elif bounds := _bounds(point, {k: recorded[k] for k in group}, rng):
            found.update({k: Slope(recorded[k], bound) for k, bound in bounds.items()})
        else:
            middle = len(group) // 2
            groups += [group[middle:], group[:middle]]
    return [found[k] for k in range(len(recorded))]


def _measured(point: Point, place: int, recorded: float) -> Slope:
    """The derivative by the operand at `place`, where the node recorded `recorded`."""
    slope, sides = UNKNOWN, point.bend(place)
    if sides is None:
        slope = point.along(point.direction({place: 1.0}))
        if slope.sides is None:
            if not slope.bound < math.inf:
                return Slope(recorded, math.inf)
            if point.op.analytic is not None and not abs(recorded - slope.value) <= slope.bound:
                return replace(slope, bound=slope.bound + point.rounding(place))
            return slope
        sides = slope.sides
    allowed = slope.bound if slope.sides else 1e-9 * max(map(abs, sides))
    said = point.partial(place)
    if said is not None and abs(said - recorded) > 1e-9 * abs(said):
        return Slope(said, 1e-9 * abs(said), sides=sides)
    within = min(sides) - allowed <= recorded <= max(sides) + allowed
    if within or any(map(math.isnan, (*sides, recorded))):
        return Slope(recorded, 0.0, sides=sides)
    return Slope(min(sides, key=lambda side: abs(side - recorded)), allowed, sides=sides)


def _bounds(
    point: Point, recorded: Mapping[int, float], rng: random.Random
) -> dict[int, float] | None:
    """Bounds on the errors of many records at once; None if they do not agree with the numbers.

    All are compared along one random direction, in which none of them is small.
    """
    sizes = sorted(abs(d) for d in recorded.values() if d)
    typical = sizes[len(sizes) // 2] if sizes else 1.0
    weights = {
        k: rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.0) / max(abs(d), 1e-3 * typical)
        for k, d in recorded.items()
    }
    slope = point.along(point.direction({point.moving[k]: w for k, w in weights.items()}))
    terms = [w * recorded[k] for k, w in weights.items()]
    allowed = slope.bound + 1e-12 * sum(map(abs, terms))
    if slope.sides is None and abs(math.fsum(terms) - slope.value) <= allowed < 1e-5:
        return {k: allowed / abs(w) for k, w in weights.items()}
    return None
