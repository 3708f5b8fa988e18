"""Gradients held against numbers that the table of derivatives has no part in.

`gradcheck` asks three questions, each of them where it can be answered sharply:

- Are the local derivatives right? Every node's record is compared with the derivative of what its
  row computes: by the complex step for the table's rows, by central differences for a user's.
- Are they put together rightly? The chain rule is carried out a second time, on those numeric
  local derivatives and with a bound on the error of each; a gradient outside the bound is wrong.
- Is the graph f? f is called again near the inputs, and must give what the recorded graph gives
  there, to rounding. What f computed from `.data` is missing in the graph and shows here.

All this costs a few sweeps and a few calls of f, not some for each input. The rounding of a whole
f, which drowns the small ones of a thousand gradients in differences of f itself, is never
divided by a step. `Report.curve` has these differences, for looking at.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any

from ..engine import Value, topological_order
from ..errors import DomainError, GradientError, InputError, OperandError
from ..gradients import grad
from ..numerics import number
from ..ops import BUILTIN, Op
from ..sums import affine
from ..views.notation import Expression, apply, names, numeral
from .complex_step import complex_step

EPSILON = 2.0**-52

# Their derivatives have zeros between pieces that cancel: a few ulp of out/x are rounding there.
CANCELLING = frozenset({"gelu", "silu", "gelu_slope", "inversion", "pow_slope"})

# Of these all second derivatives are 0 but for products of different operands, and at kinks.
STRAIGHT = frozenset({
    "add", "sub", "neg", "mul", "affine", "relu", "leaky_relu", "abs", "sign", "step", "max", "min",
    "greater", "where", "damp",
})  # fmt: skip

PERIODIC = frozenset({"sin", "cos", "tan"})
_SHARP = 1e-10  # of a local derivative: a thousand times what the complex step was off by
_FAILURES = (ArithmeticError, ValueError)
_TOGETHER = 8  # operands that are checked one by one; of more, all along one direction


# --- differences ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """The central difference at one step: the `quotient`, and what may be wrong with it."""

    step: float
    quotient: float
    truncation: float
    rounding: float


@dataclass(frozen=True)
class Slope:
    """A derivative by differences, to within `bound`; at a kink, those to the `left` and `right`.

    `bound` is infinite where no differences can be taken, as at the edge of a domain.
    """

    value: float
    bound: float
    step: float = math.nan
    left: float = math.nan
    right: float = math.nan
    steps: tuple[Step, ...] = ()

    @property
    def kink(self) -> bool:
        return self.left == self.left


_UNKNOWN = Slope(math.nan, math.inf)


def differences(
    f: Callable[[float], float], low: float, high: float, grain: float = 0.0, noise: float = 0.0
) -> Slope:
    """The derivative of `f` at 0 by central differences, with the step that suits f there.

    Steps grow from `low` to `high` by factors of 4. The error model of a quotient at step h has
    truncation, read off neighbouring steps, and rounding: noise / h, where the noise is what
    remains of f's odd and even parts around 0 when their leading powers of h are taken out, at all
    steps where that does not yet grow like the next power. `grain` is the rounding of the
    argument, `noise` what f is known to be wrong by. Larger steps are believed for as long as
    their intervals meet those of all the smaller ones (Lepski's rule), so that neither a wiggle
    nor a kink that a large step jumps over can pass for a derivative. The even part at a kink
    grows like h, not like h².
    """
    middle = _finite(f, 0.0)
    if middle is None:
        return _UNKNOWN
    points: list[tuple[float, float, float]] = []
    h = low
    while h <= high * 1.001:
        after, before = _finite(f, h), _finite(f, -h)
        if after is None or before is None:
            break
        points.append((h, before, after))
        h *= 4.0
    if len(points) < 4:
        return _UNKNOWN
    hs = [h for h, _, _ in points]
    central = [(after - before) / (2.0 * h) for h, before, after in points]
    even = [(after - middle) + (before - middle) for _, before, after in points]
    floor = [
        noise + 4.0 * math.ulp(max(abs(middle), abs(before), abs(after))) + grain * abs(slope)
        for (_, before, after), slope in zip(points, central, strict=True)
    ]
    sides = _kink(points, middle, even, floor)
    if sides:
        left, right = sides
        bent = 0.5 * (left.value + right.value)
        return Slope(bent, max(left.bound, right.bound), hs[0], left.value, right.value)
    odd = [after - before for _, before, after in points]
    remains = [
        max(abs(even[k + 1] - 16.0 * even[k]) / 8.0, abs(odd[k + 1] - 4.0 * odd[k]) / 1.2)
        for k in range(len(points) - 1)
    ]
    # From where on it grows like h³ or h⁴ it is not noise.
    noisy = next(
        (
            k + 1
            for k in range(len(remains) - 2)
            if 40.0 * remains[k] < remains[k + 1] < 600.0 * remains[k]
            and 40.0 * remains[k + 1] < remains[k + 2] < 600.0 * remains[k + 1]
        ),
        len(remains),
    )
    best = _UNKNOWN
    low_end, high_end = -math.inf, math.inf
    steps = []
    open_ = True
    for k in range(len(points) - 2):
        if k > noisy and remains[k] > abs(odd[k]):
            break  # the series in h has ended
        noise = max([noise, *remains[k : min(k + 11, noisy)]])
        rounding = (2.0 * noise + floor[k]) / hs[k]
        fine, coarse = _extrapolated(central, k), _extrapolated(central, k + 1)
        truncation = abs(fine - coarse)
        steps.append(Step(hs[k], central[k], abs(fine - central[k]), rounding))
        bound = truncation + rounding
        if not bound < math.inf:
            open_ = False
        open_ = open_ and fine - bound <= high_end and fine + bound >= low_end
        if open_:
            low_end, high_end = max(low_end, fine - bound), min(high_end, fine + bound)
            if bound < best.bound:
                best = Slope(fine, bound, hs[k])
    return Slope(best.value, best.bound, best.step, steps=tuple(steps))


def _extrapolated(central: Sequence[float], k: int) -> float:
    """Richardson: the h² of the truncation taken out of the quotients at h and 4 h."""
    return central[k] + (central[k] - central[k + 1]) / 15.0


def _kink(
    points: Sequence[tuple[float, float, float]],
    middle: float,
    even: Sequence[float],
    floor: Sequence[float],
) -> tuple[Slope, Slope] | None:
    """The slopes to both sides, if they differ however small the step."""
    start = next((k for k, e in enumerate(even) if abs(e) > 32.0 * floor[k]), len(even))
    levels = range(start, min(start + 3, len(even) - 1))
    ratios = [even[k + 1] / even[k] for k in levels if even[k]]
    if len(ratios) < 3 or not all(3.0 < ratio < 5.3 for ratio in ratios):
        return None
    sides = []
    for side in (1, 2):
        sign = 1.0 if side == 2 else -1.0
        slopes = [sign * (p[side] - middle) / p[0] for p in points[start : start + 4]]
        value = slopes[2] + (slopes[2] - slopes[3]) / 3.0
        error = abs(value - slopes[2]) + 4.0 * floor[start + 2] / points[start + 2][0]
        sides.append(Slope(value, error))
    return sides[0], sides[1]


def _finite(f: Callable[[float], float], x: float) -> float | None:
    try:
        y = f(x)
    except _FAILURES:
        return None
    return y if math.isfinite(y) else None


# --- one row at one point -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Point:
    """A row and its operands as they are now; `moving` are the places of the Values among them."""

    op: Op
    xs: tuple[float, ...]
    out: float
    moving: tuple[int, ...]

    @staticmethod
    def of(node: Value) -> _Point:
        assert node.op is not None
        operands = node.operands
        moving = tuple(j for j, a in enumerate(operands) if isinstance(a, Value))
        xs = tuple(a.data if isinstance(a, Value) else a for a in operands)
        return _Point(node.op, xs, node.data, moving)

    def along(self, direction: Sequence[float]) -> Slope:
        """The derivative of what the row computes, along `direction`."""
        if self.op.name in BUILTIN:
            try:
                value, slope, hidden = complex_step(self.op, self.xs, direction)
            except InputError:
                pass
            else:
                size = max(abs(x) for x in self.xs)
                at_rest = 1e-9 * (abs(self.out) + size * abs(slope)) + 1e-300
                # A row that computes something else than its complex form is checked as it is.
                if abs(value - self.out) <= at_rest:
                    bound = _SHARP * abs(slope) + hidden
                    if self.op.name in CANCELLING:
                        near = min(abs(x) for x in self.xs if x) if any(self.xs) else 1.0
                        largest = max(map(abs, direction))
                        bound += 32.0 * EPSILON * abs(self.out) / near * largest
                    return Slope(slope, bound)
        low, high, grain = self._range(direction)
        return differences(lambda t: self.value(direction, t), low, high, grain)

    def value(self, direction: Sequence[float], t: float) -> float:
        return self.op.evaluate([x + t * v for x, v in zip(self.xs, direction, strict=True)])

    def _range(self, direction: Sequence[float]) -> tuple[float, float, float]:
        """The smallest and largest step along `direction`, and the rounding of the argument."""
        pairs = [(abs(x), abs(v)) for x, v in zip(self.xs, direction, strict=True) if v]
        around = min([2.0**-70, *(abs(x) for x in self.xs if x)])  # of what is 0
        scales = [x / v for x, v in pairs if x] or [around]
        low = _power_of_two(min(scales)) * 2.0**-40
        high = _power_of_two(max(max(x, 1.0) / v for x, v in pairs)) * 0.25
        return low, high, max([math.ulp(x) / v for x, v in pairs if x], default=0.0)

    def unit(self, *places: int, weights: Sequence[float] | None = None) -> list[float]:
        direction = [0.0] * len(self.xs)
        for k, place in enumerate(places):
            direction[place] = weights[k] if weights else 1.0
        return direction

    def bend(self, place: int) -> tuple[float, float] | None:
        """The slopes on both sides of a kink of a row of the table, in operand `place`.

        They are those of the neighbouring floats: NaN beyond an edge of the domain. None where
        there is no kink.
        """
        if not self.op.kink or self.op.name not in BUILTIN:
            return None
        x = self.xs[place]
        gap = math.ulp(x) if x else 1e-100
        slopes, values = [], []
        for moved in (x - gap, x + gap):
            xs = [*self.xs]
            xs[place] = moved
            try:
                values.append(self.op.evaluate(xs))
                slopes.append(complex_step(self.op, xs, self.unit(place))[1])
            except _FAILURES:
                values.append(math.nan)
                slopes.append(math.nan)
        left, right = slopes
        same = abs(right - left) <= max(1e-6 * max(abs(left), abs(right)), 0.0 if x else 1e-50)
        jump = abs(values[1] - values[0]) - 4.0 * math.ulp(self.out)
        if same and not jump > 8.0 * gap * (abs(left) + abs(right)) + gap * gap:
            return None
        return left, right


def _power_of_two(x: float) -> float:
    return math.ldexp(1.0, math.frexp(min(max(x, 1e-290), 1e300))[1])


@dataclass(frozen=True)
class Kink:
    """A node where a row has no derivative, and the gradient uses `used`, a convention.

    `left` and `right` are the slopes on both sides; NaN beyond the edge of a domain.
    """

    node: str
    op: str
    operand: str
    left: float
    right: float
    used: float

    def __str__(self) -> str:
        edge = math.isnan(self.left) or math.isnan(self.right)
        what = "edge of the domain" if edge else "kink"
        node = f" (node {self.node})" if self.node else ""
        return (
            f"{what} of {self.op} at {self.operand}{node}: slope "
            f"{numeral(self.left)} to the left, {numeral(self.right)} to the right, "
            f"{numeral(self.used)} used"
        )


@dataclass(frozen=True)
class Culprit:
    """The first node whose row is wrong: `recorded` is its derivative, `numeric` ± `bound` true."""

    node: str
    op: str
    operand: str
    at: tuple[float, ...]
    recorded: float
    numeric: float
    bound: float
    order: int = 1
    within: str = ""  # the node whose partial the op belongs to, for a second derivative
    remark: str = ""

    def __str__(self) -> str:
        place = f"in {self.within}" if self.within else f"at node {self.node}"
        what = f"d/d{self.operand}" if self.order == 1 else "second derivative"
        point = ", ".join(f"{x!r}" for x in self.at[:4]) + (", ..." if len(self.at) > 4 else "")
        return (
            f"the row of op {self.op!r} is wrong {place}: its {what} at ({point}) is "
            f"{self.recorded!r}, the numbers that it computes say {_measured(self)}{self.remark}"
        )


def _measured(x: Culprit | Row) -> str:
    return f"{x.numeric!r} ± {x.bound:.1g}" if x.bound else repr(x.numeric)


@dataclass(frozen=True)
class _Local:
    """The numeric local derivatives of a node, aligned with its parents; bounds; kinks by place."""

    slopes: list[float]
    bounds: list[float]
    kinks: dict[int, tuple[float, float]]


def _local(node: Value, rng: random.Random) -> _Local:
    point = _Point.of(node)
    recorded = node.local_grads
    slopes, bounds = list(recorded), [0.0] * len(recorded)
    kinks: dict[int, tuple[float, float]] = {}

    def measure(k: int) -> None:
        place = point.moving[k]
        sides = point.bend(place)
        slope = _UNKNOWN
        if sides is None:
            slope = point.along(point.unit(place))
            sides = (slope.left, slope.right) if slope.kink else None
        if sides is not None:
            kinks[k] = sides
            allowed = slope.bound if slope.kink else 1e-9 * max(map(abs, sides))
            # A one-sided slope, or any between the two, is as good as another (a subgradient).
            said = _said(point, place)
            record = said is None or said != said or abs(said - recorded[k]) <= 1e-9 * abs(said)
            within = min(sides) - allowed <= recorded[k] <= max(sides) + allowed
            if record and (within or any(x != x for x in (*sides, recorded[k]))):
                return
            if not record and said is not None:
                slopes[k], bounds[k] = said, 1e-9 * abs(said)
                return
            slope = Slope(min(sides, key=lambda side: abs(side - recorded[k])), allowed)
        if slope.bound < math.inf:
            slopes[k], bounds[k] = slope.value, slope.bound
        else:
            bounds[k] = math.inf

    def halve(ks: Sequence[int]) -> None:
        if len(ks) <= _TOGETHER:
            for k in ks:
                measure(k)
            return
        sizes = sorted(abs(recorded[k]) for k in ks if recorded[k])
        typical = sizes[len(sizes) // 2] if sizes else 1.0
        weights = [
            rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.0) / max(abs(recorded[k]), 1e-3 * typical)
            for k in ks
        ]
        direction = point.unit(*[point.moving[k] for k in ks], weights=weights)
        slope = point.along(direction)
        terms = [w * recorded[k] for w, k in zip(weights, ks, strict=True)]
        allowed = slope.bound + 1e-12 * sum(map(abs, terms))
        if not slope.kink and abs(math.fsum(terms) - slope.value) <= allowed < 1e-5:
            for w, k in zip(weights, ks, strict=True):
                bounds[k] = allowed / abs(w)
        else:
            middle = len(ks) // 2
            halve(ks[:middle])
            halve(ks[middle:])

    if all(map(math.isfinite, point.xs)) and math.isfinite(point.out):
        halve(range(len(recorded)))
    else:
        bounds = [math.inf] * len(recorded)
    return _Local(slopes, bounds, kinks)


# --- the chain rule, a second time ----------------------------------------------------------------


def _sweep(
    order: Sequence[Value], root: Value, local: dict[Value, _Local]
) -> tuple[dict[Value, float], dict[Value, float], dict[Value, float]]:
    """Adjoints from numeric local derivatives, bounds on their errors, and sums of |paths|."""
    adjoint = dict.fromkeys(order, 0.0)
    error = dict.fromkeys(order, 0.0)
    size = dict.fromkeys(order, 0.0)
    adjoint[root] = size[root] = 1.0
    for node in reversed(order):
        if node.op is None or not (size[node] or error[node]):
            continue
        a, e, s = adjoint[node], error[node], size[node]
        numeric = local[node]
        for parent, d, bound in zip(node.parents, numeric.slopes, numeric.bounds, strict=True):
            adjoint[parent] += a * d
            size[parent] += s * (abs(d) + (bound if bound < math.inf else 0.0))
            error[parent] += e * abs(d) + (abs(a) + e) * bound if bound else e * abs(d)
            error[parent] += 16.0 * EPSILON * size[parent]
    return adjoint, error, size


def _tangents(order: Sequence[Value], direction: dict[Value, float]) -> dict[Value, float]:
    tangent = dict.fromkeys(order, 0.0)
    for node in order:
        if node in direction:
            tangent[node] = direction[node]
        elif node.op is not None:
            terms = zip(node.parents, node.local_grads, strict=True)
            tangent[node] = _total(tangent[p] * d for p, d in terms if tangent[p])
    return tangent


def _total(terms: Iterable[float]) -> float:
    """The sum; NaN of opposite infinities, and of what is too large for a float on the way."""
    try:
        return math.fsum(terms)
    except _FAILURES:
        return math.nan


def _curvature(
    node: Value, first: dict[Value, float], second: dict[Value, float]
) -> tuple[float, float]:
    """The second derivative of what a node's row computes along two directions, and its bound."""
    point = _Point.of(node)
    u, v = (
        [tangent[a] if isinstance(a, Value) else 0.0 for a in node.operands]
        for tangent in (first, second)
    )

    def slope(t: float) -> Slope:
        moved = [x + t * w for x, w in zip(point.xs, v, strict=True)]
        return _Point(point.op, tuple(moved), point.op.evaluate(moved), point.moving).along(u)

    def value(t: float) -> float:
        return slope(t).value

    if not any(u) or not any(v):
        return 0.0, 0.0
    noise = 0.0
    low, high, grain = point._range(v)
    if point.op.name in BUILTIN:
        at = _finite(value, 0.0)
        if at is not None and at == _finite(value, high) == _finite(value, -high):
            # A straight line, or one as far as the digits of its slope go.
            straight = point.op.name in STRAIGHT
            return 0.0, 0.0 if straight else 8.0 * math.ulp(at) / high + 2.0**-960
        if point.op.name == "elu" and point.xs[0]:  # no step over its kink
            high = min(high, 0.25 * abs(point.xs[0]) / max(map(abs, v)))
        if point.op.name in PERIODIC:
            speed = max(map(abs, v))
            low = max(min(low, 2.0**-40 / speed), 64.0 * grain)
            if low * speed > 2.0**-10:  # all steps are too much of a wave
                return 0.0, math.inf
        with suppress(InputError):
            noise = complex_step(point.op, point.xs, u)[2]
        # Slopes by several operands may cancel.
        parts = zip(node.parents, node.local_grads, strict=True)
        noise += 4.0 * EPSILON * sum(abs(first[a] * d) for a, d in parts if first[a])
    else:  # a slope by differences is smooth on steps larger than its own
        low *= 2.0**10
        noise = slope(0.0).bound
        if not noise < math.inf:
            return 0.0, math.inf
    result = differences(value, low, high, grain, noise)
    if result.kink:
        used = _engine_curvature(node, first, second)
        inside = min(result.left, result.right) <= used <= max(result.left, result.right)
        return (used, 0.0) if inside else (result.value, result.bound)
    return result.value, result.bound


def _engine_curvature(node: Value, first: dict[Value, float], second: dict[Value, float]) -> float:
    """The same from the row's partials."""
    pairs, slope = _partial_along(node, first)
    return _total(
        second[a] * g for (a, _), g in zip(pairs, grad(slope, [x for _, x in pairs]), strict=True)
    )


def _partial_along(
    node: Value, first: dict[Value, float]
) -> tuple[list[tuple[Value, Value]], Value]:
    """A node's derivative along `first` on leaves of its own, which stand for its parents."""
    leaves = [Value(a.data) if isinstance(a, Value) else a for a in node.operands]
    pairs = [
        (a, x) for a, x in zip(node.operands, leaves, strict=True)
        if isinstance(a, Value) and isinstance(x, Value)
    ]  # fmt: skip
    assert node.op is not None
    out = node.op(*leaves)
    slopes = grad(out, [x for _, x in pairs], create_graph=True)
    return pairs, affine([first[a] for a, _ in pairs], slopes, Value(0.0))


# --- whether the graph is f -----------------------------------------------------------------------


class _Function:
    """f at its inputs, and the inputs moved and put back."""

    def __init__(self, f: Callable[..., Any], inputs: Any) -> None:
        if not callable(f):
            raise OperandError(f"gradcheck needs a function, got {f!r:.60}: gradcheck(f, inputs)")
        self.f = f
        self.leaves: list[Value] = []
        self._known: set[Value] = set()
        if isinstance(inputs, Value) or not hasattr(inputs, "__iter__"):
            inputs = [inputs]
        self.arguments = [self._adopt(x) for x in (
            inputs.tolist() if hasattr(inputs, "tolist") else inputs
        )]  # fmt: skip
        self.together = len(self.arguments) > 1 and not _takes(f, len(self.arguments))
        self.at = [leaf.data for leaf in self.leaves]
        if not self.leaves:
            raise InputError("gradcheck needs one input or more")
        for i, x in enumerate(self.at):
            if not math.isfinite(x):
                raise InputError(f"gradcheck needs finite inputs, input {i} is {x!r}")

    def _adopt(self, x: Any) -> Any:
        if hasattr(x, "tolist"):
            x = x.tolist()
        if isinstance(x, (list, tuple)):
            return [self._adopt(item) for item in x]
        if isinstance(x, Value) and x.op is None and x not in self._known:
            leaf = x
            self._known.add(x)
        elif isinstance(x, Value):
            leaf = Value(x.data, x.label)
        else:
            leaf = Value(number(x), f"x{len(self.leaves)}")
        self.leaves.append(leaf)
        return leaf

    def __call__(self, at: Sequence[float] | None = None) -> tuple[Value, float]:
        """The result and its number (which moves back with the inputs if it is one of them)."""
        with self.moved(at or self.at):
            out = self.f(self.arguments) if self.together else self.f(*self.arguments)
            if isinstance(out, (list, tuple)) or hasattr(out, "tolist"):
                raise InputError("gradcheck needs a function with one result: check one at a time")
            root = out if isinstance(out, Value) else Value(out)
            return root, root.data

    @contextmanager
    def moved(self, at: Sequence[float]) -> Iterator[None]:
        try:
            for leaf, x in zip(self.leaves, at, strict=True):
                leaf.data = x
            yield
        finally:
            for leaf, x in zip(self.leaves, self.at, strict=True):
                leaf.data = x


def _takes(f: Callable[..., Any], count: int) -> bool:
    """Whether f can be called with so many arguments in a row, as far as Python knows."""
    from inspect import signature

    try:
        signature(f).bind(*[None] * count)
    except ValueError:  # a builtin, say, which has no signature
        return True
    except TypeError:
        return False
    return True


def _replayed(order: Sequence[Value], moved: dict[Value, float]) -> float:
    """The number of the last node of `order` when the leaves in `moved` have other numbers."""
    data: dict[Value, float] = {}
    for node in order:
        if node in moved:
            data[node] = moved[node]
        elif node.op is None:
            data[node] = node.data
        else:
            data[node] = node.op.evaluate(
                [data[a] if isinstance(a, Value) else a for a in node.operands]
            )
    return data[order[-1]]


def _noise(root: Value) -> float:
    """How much rounding may have changed the number of `root`: a few ulp of every node."""
    order = topological_order(root)
    size = dict.fromkeys(order, 0.0)
    size[root] = 1.0
    total = 0.0
    for node in reversed(order):
        if s := size[node]:
            total += s * math.ulp(node.data) if math.isfinite(node.data) else 0.0
            for parent, d in zip(node.parents, node.local_grads, strict=True):
                size[parent] += s * abs(d)
    return 8.0 * total


@dataclass(frozen=True)
class _Departure:
    """How f and the graph differ near the inputs: by `slope` · t to one side or both, or by t²."""

    order: int
    before: float
    after: float


class _Neighbourhood:
    """f compared with its graph at inputs that are moved along random directions."""

    def __init__(self, function: _Function, order: Sequence[Value], rng: random.Random) -> None:
        self.function = function
        self.order = order
        self.direction = [
            rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.0) * (abs(x) or 1.0) for x in function.at
        ]

    def departures(self) -> Iterator[tuple[int, _Departure]]:
        """The inputs along which f is not its graph."""
        groups = [tuple(range(len(self.direction)))]
        while groups:
            group = groups.pop()
            found = self._compare(group)
            if found is not None and found.order == 0:
                continue
            if len(group) > 1:
                middle = len(group) // 2
                groups += [group[middle:], group[:middle]]
            elif found is not None:
                v = self.direction[group[0]]
                slopes = (found.before / v, found.after / v)
                yield group[0], _Departure(found.order, *(slopes if v > 0.0 else slopes[::-1]))

    def _difference(self, group: Sequence[int], t: float) -> tuple[float, float] | None:
        """F minus its graph, and what rounding explains of it; None where there is no f."""
        at = [*self.function.at]
        for i in group:
            at[i] += t * self.direction[i]
        try:
            root, there = self.function(at)
            graph = _replayed(self.order, dict(zip(self.function.leaves, at, strict=True)))
        except _FAILURES:
            return None
        if graph == there or (graph != graph and there != there):
            return 0.0, 0.0
        return there - graph, _noise(root) + math.ulp(there)

    def _compare(self, group: Sequence[int]) -> _Departure | None:
        """None where f is defined to neither side at any step."""
        sides = []
        for sign in (-1.0, 1.0):
            seen: list[tuple[float, float]] = []
            defined = False
            t = 2.0**-8
            for _ in range(18):
                difference = self._difference(group, sign * t)
                if difference is not None:
                    defined = True
                    d, noise = difference
                    if not abs(d) > 4.0 * noise:
                        break
                    seen.append((sign * t, d))
                else:
                    seen.clear()
                t *= 0.25
            sides.append((defined, *_trend(seen)))
        (any_before, order_before, before), (any_after, order_after, after) = sides
        if not any_before and not any_after:
            return None
        order = min([o for o in (order_before, order_after) if o], default=0)
        if order == 1:
            return _Departure(1, before if order_before == 1 else 0.0,
                              after if order_after == 1 else 0.0)  # fmt: skip
        return _Departure(order, before, after)


def _trend(seen: Sequence[tuple[float, float]]) -> tuple[int, float]:
    """Whether differences shrink like t (1, and the factor), like t² (2), or end (0)."""
    if len(seen) < 3:
        return 0, 0.0
    (_, a), (_, b), (t, c) = seen[-3:]
    ratios = [abs(a / b), abs(b / c)]
    if all(ratio < 7.0 for ratio in ratios) and all(ratio > 2.5 for ratio in ratios):
        return 1, c / t
    if all(10.0 < ratio < 25.0 for ratio in ratios):
        return 2, c / (t * t)
    return 0, 0.0


# --- the check ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One derivative: by the engine, and numerically to within `bound`."""

    name: str
    gradient: float
    numeric: float
    bound: float
    note: str = ""

    @property
    def ok(self) -> bool:
        if self.gradient == self.numeric or self.numeric != self.numeric:
            return True
        return self.bound == math.inf or abs(self.gradient - self.numeric) <= self.bound

    @property
    def resolved(self) -> bool:
        """Whether the bound tells a derivative from one that is wrong by a factor of 1.001."""
        return self.bound <= max(1e-4 * abs(self.numeric), 1e-8)

    @property
    def verdict(self) -> str:
        if not self.ok:
            return "WRONG"
        return self.note or ("ok" if self.resolved else "not resolved")


@dataclass(frozen=True)
class Report:
    """What `gradcheck` found: true where the gradient is right.

    `rows` has the derivative by each input, `second` second derivatives, `kinks` the nodes where
    the gradient is a convention, `problem` the sentence that says what is wrong ("" if nothing is)
    and `culprit` the row of the table that is.
    """

    rows: tuple[Row, ...]
    second: tuple[Row, ...] = ()
    kinks: tuple[Kink, ...] = ()
    problem: str = ""
    culprit: Culprit | None = None
    _function: _Function | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        return not self.problem

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        table = [("derivative", "gradient", "numeric", "± bound", "")]
        shown = sorted(self.rows, key=lambda row: row.ok) if len(self.rows) > 20 else self.rows
        table += [
            (
                row.name,
                f"{row.gradient:.10g}",
                f"{row.numeric:.10g}",
                f"{row.bound:.1g}",
                row.verdict,
            )
            for row in (*shown[:20], *self.second)
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            f"{line[0]:<{widths[0]}}  {line[1]:>{widths[1]}}  {line[2]:>{widths[2]}}  "
            f"{line[3]:>{widths[3]}}  {line[4]}".rstrip()
            for line in table
        ]
        if len(self.rows) > 20:
            lines.append(f"... {len(self.rows) - 20} inputs more")
        lines += map(str, self.kinks[:10])
        unresolved = sum(row.verdict == "not resolved" for row in (*self.rows, *self.second))
        if unresolved:
            lines.append(f"{unresolved} derivatives could not be told from wrong ones by numbers")
        return "\n".join([*lines, self.problem or "nothing is wrong"])

    def curve(self, i: int = 0) -> Curve:
        """The central differences of f by input `i` (from 0) over the step: the U-curve.

        It calls f some forty times. Raises InputError if there is no such input.
        """
        function = self._function
        assert function is not None
        if not -len(self.rows) <= i < len(self.rows):
            raise InputError(f"there are {len(self.rows)} inputs, not one of index {i}")
        x = function.at[i]

        def along(t: float) -> float:
            at = [*function.at]
            at[i] = x + t
            return function(at)[1]

        scale = _power_of_two(abs(x) or 1.0)
        found = differences(along, scale * 2.0**-40, scale, math.ulp(x))
        return Curve(self.rows[i].name, self.rows[i].gradient, found)


@dataclass(frozen=True)
class Curve:
    """Central differences over the step: truncation falls to the left, rounding rises.

    `slope` is the derivative that extrapolation reads off them, to within its bound.
    """

    name: str
    gradient: float
    slope: Slope

    @property
    def points(self) -> list[tuple[float, float]]:
        """Pairs of a step ε and the distance of the central difference from the gradient."""
        return [(s.step, abs(s.quotient - self.gradient)) for s in self.slope.steps]

    @property
    def step(self) -> float:
        """The ε at which the model allows the least."""
        return min(self.model, key=lambda pair: pair[1], default=(math.nan, 0.0))[0]

    @property
    def model(self) -> list[tuple[float, float]]:
        """Pairs of a step ε and what the error model allows there: truncation + rounding."""
        return [(s.step, s.truncation + s.rounding) for s in self.slope.steps]


def gradcheck(
    f: Callable[..., Any],
    inputs: Any,
    *,
    second: bool = True,
    raise_exception: bool = True,
    seed: int = 0,
) -> Report:
    """Whether the gradient of `f` at `inputs` is right, and if not, which row of which node is not.

    `inputs` are f's arguments, called as f(*inputs): numbers, Values, or lists of them, nested as
    you like. An f of one argument gets them as the one list that they are, as `hessian` does.
    Leaves are handed to f themselves, so that a closure over a model's parameters can be checked
    too; their data is moved and put back.

    With `second` the second derivatives are checked as well: of up to four inputs all of them, of
    more along random directions, which `seed` chooses. Where f has a kink, the convention of the
    gradient is accepted if it lies between the slopes to both sides, and the report names it.

    Raises GradientError with the report in it, unless `raise_exception` is False; then the report
    is false. Raises InputError where there is nothing to check: f is not finite at the inputs, has
    several results, or gives two results at the same inputs.

    >>> report = gradcheck(lambda x, y: x * y + x**2, [3.0, 4.0])
    >>> report.ok, [row.gradient for row in report.rows]
    (True, [10.0, 3.0])
    """
    report = _Check(_Function(f, inputs), random.Random(seed)).report(second)
    if raise_exception and not report.ok:
        raise GradientError(report.problem, report)
    return report


class _Check:
    def __init__(self, function: _Function, rng: random.Random) -> None:
        self.function, self.rng = function, rng
        self.root, out = function()
        _, again = function()
        if out != again and (out == out or again == again):
            raise InputError(
                f"f gives {out!r} and then {again!r} at the same inputs: what is random in f has "
                "to be seeded there"
            )
        if not math.isfinite(out):
            raise InputError(f"f is {out!r} at the inputs: there is no derivative to check")
        self.inputs = function.leaves
        self.order = topological_order(self.root)
        inside = set(self.order)
        every = [*self.order, *(x for x in dict.fromkeys(self.inputs) if x not in inside)]
        self.names = names(every)
        self.local = {node: _local(node, rng) for node in self.order if node.op is not None}
        self.adjoint, self.error, self.size = _sweep(self.order, self.root, self.local)
        active = set(self.inputs)
        for node in self.order:
            if not active.isdisjoint(node.parents):
                active.add(node)
        self.active = [n for n in self.order if n.op is not None and n in active and self.size[n]]
        self.kinks = [
            Kink(self._formula(node), node.op.name, self.names[node.parents[k]], *sides,
                 node.local_grads[k])
            for node in self.active if node.op is not None
            for k, sides in self.local[node].kinks.items() if node.parents[k] in active
        ]  # fmt: skip

    def report(self, second: bool) -> Report:
        rows = []
        bent = self._downstream_of_kinks()
        infinite = not all(math.isfinite(d) for node in self.order for d in node.local_grads)
        for leaf, gradient in zip(self.inputs, grad(self.root, self.inputs), strict=True):
            note = "kink" if leaf in bent else ""
            numeric = self.adjoint.get(leaf, 0.0)
            if gradient != gradient and infinite:  # times 0
                note, numeric = "kink", math.nan
            name, bound = f"∂/∂{self.names[leaf]}", self.error.get(leaf, 0.0)
            bound = math.inf if bound != bound else bound
            rows.append(Row(name, gradient, numeric, bound, note))
        wrong = [row for row in rows if not row.ok]
        kinks = list(self.kinks)
        if wrong:
            culprit = self._culprit()
            return self._report(rows, [], kinks, self._blame(wrong, culprit), culprit)
        problem = self._departure(kinks, second)
        if problem or not second:
            return self._report(rows, [], kinks, problem, None)
        seconds, culprit, problem = self._second()
        return self._report(rows, seconds, kinks, problem, culprit)

    def _report(
        self,
        rows: Sequence[Row],
        second: Sequence[Row],
        kinks: Sequence[Kink],
        problem: str,
        culprit: Culprit | None,
    ) -> Report:
        return Report(tuple(rows), tuple(second), tuple(kinks), problem, culprit, self.function)

    def _downstream_of_kinks(self) -> set[Value]:
        """The inputs' side: every node from which a kink is reached."""
        reached = {
            p for n in self.active for k, p in enumerate(n.parents) if k in self.local[n].kinks
        }
        for node in reversed(self.order):
            if node in reached:
                reached.update(node.parents)
        return reached

    def _formula(self, node: Value) -> str:
        assert node.op is not None
        operands = [
            Expression(self.names[a]) if isinstance(a, Value) else Expression(number=a)
            for a in node.operands
        ]
        text = apply(node.op, operands).text
        return f"{self.names[node]} = {text if len(text) <= 60 else text[:59] + '…'}"

    def _culprit(self) -> Culprit | None:
        return next(self._wrong(self.active, self.local, self._formula), None)

    def _wrong(
        self,
        nodes: Sequence[Value],
        local: dict[Value, _Local],
        formula: Callable[[Value], str],
        within: str = "",
    ) -> Iterator[Culprit]:
        for node in nodes:
            point, mine = _Point.of(node), local[node]
            trio = zip(node.local_grads, mine.slopes, mine.bounds, strict=True)
            for k, (recorded, slope, bound) in enumerate(trio):
                if recorded == slope or abs(recorded - slope) <= bound or slope != slope:
                    continue
                place = point.moving[k]
                argument = f"xs[{place}]"
                if point.op.arity is not None:
                    argument = point.op.arguments[place]
                remark = _remark(point, place, recorded)
                yield Culprit(formula(node), point.op.name, argument, point.xs, recorded, slope,
                              bound, within=within, remark=remark)  # fmt: skip

    def _blame(self, wrong: Sequence[Row], culprit: Culprit | None) -> str:
        worst = wrong[0]
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        said = f"{worst.name} is {worst.gradient!r}, not {_measured(worst)}{more}: "
        if culprit:
            return said + str(culprit)
        return said + (
            "each node's local derivatives are right, and the reverse sweep has not put them "
            "together as the chain rule does"
        )

    def _departure(self, kinks: list[Kink], second: bool) -> str:
        """What f does that its graph does not; its own branches at the inputs join the kinks."""
        for i, found in _Neighbourhood(self.function, self.order, self.rng).departures():
            name = self.names[self.inputs[i]]
            gradient = self.adjoint.get(self.inputs[i], 0.0)
            if found.order == 2:
                if second:
                    return (
                        f"the second derivative of f by {name} is not that of its graph: something "
                        "in f is computed from .data, or detached, and is missing in the graph"
                    )
                continue
            if bool(found.before) != bool(found.after):
                left, right = gradient + found.before, gradient + found.after
                kinks.append(Kink("", "f, which branches", name, left, right, gradient))
                continue
            missing = 0.5 * (found.before + found.after)
            return (
                f"∂/∂{name} is {gradient:.6g}, that of f itself {gradient + missing:.4g}: each row "
                f"is right, but a part of f, of slope {missing:.3g}, is missing in its graph, as "
                "what is computed from .data or detached is"
            )
        return ""

    def _second(self) -> tuple[list[Row], Culprit | None, str]:
        """Second derivatives by pairs of inputs, or along directions if there are many."""
        slopes = grad(self.root, self.inputs, create_graph=True)
        n = len(self.inputs)
        pairs: list[tuple[str, list[float], list[float]]] = []
        if n <= 4:
            for i, j in combinations_with_replacement(range(n), 2):
                one, two = (self.names[self.inputs[k]] for k in (i, j))
                name = f"∂²/∂{one}²" if i == j else f"∂²/∂{one}∂{two}"
                pairs.append((name, [float(k == i) for k in range(n)],
                              [float(k == j) for k in range(n)]))  # fmt: skip
        else:
            for k in range(2):
                u, v = (
                    [self.rng.choice((-1, 1)) * self.rng.uniform(0.5, 1) * (abs(x) or 1.0)
                     for x in self.function.at] for _ in "uv"
                )  # fmt: skip
                pairs.append((f"∂²/∂u{k + 1}∂v{k + 1}", u, v))
        rows = []
        for name, u, v in pairs:
            row, first, other, numeric = self._second_along(name, u, v, slopes)
            rows.append(row)
            if not row.ok:
                culprit = self._second_culprit(first, other, numeric)
                said = f"{name} is {row.gradient!r}, not {_measured(row)}: "
                if n > 4:
                    said = f"the second derivative along two directions: {said}"
                return (
                    rows,
                    culprit,
                    said
                    + str(culprit or "each row is right, and the graph of the gradient is not"),
                )
        return rows, None, ""

    def _second_along(
        self, name: str, u: Sequence[float], v: Sequence[float], slopes: Sequence[Value]
    ) -> tuple[Row, dict[Value, float], dict[Value, float], dict[Value, tuple[float, float]]]:
        chosen = [(w, g) for w, g in zip(u, slopes, strict=True) if w]  # 0 · inf would be NaN
        along = chosen[0][1]
        if len(chosen) > 1:
            along = affine([w for w, _ in chosen], [g for _, g in chosen], Value(0.0))
        by = [(w, x) for w, x in zip(v, self.inputs, strict=True) if w]
        engine = _total(
            w * g for (w, _), g in zip(by, grad(along, [x for _, x in by]), strict=True)
        )
        size = _sizes(along)
        rounding = _total(abs(w) * size.get(x, 0.0) for w, x in by)
        first = _tangents(self.order, dict(zip(self.inputs, u, strict=True)))
        other = _tangents(self.order, dict(zip(self.inputs, v, strict=True)))
        numeric: dict[Value, tuple[float, float]] = {}
        terms, bound = [], 1e-11 * rounding
        for node in self.active:
            if not any(first[p] for p in node.parents) or not any(other[p] for p in node.parents):
                continue
            if self.local[node].kinks:  # nothing to compare with
                c, error = _engine_curvature(node, first, other), 0.0
            else:
                c, error = numeric[node] = _curvature(node, first, other)
            if not error < math.inf:
                c, error = _engine_curvature(node, first, other), math.inf
            terms.append(self.adjoint[node] * c)
            bound += self.size[node] * (error + 1e-10 * abs(c)) + self.error[node] * abs(c)
        total = _total(terms) if all(map(math.isfinite, terms)) else math.nan
        if engine != engine and any(numbers.kinks for numbers in self.local.values()):
            total = math.nan  # an infinite derivative at a kink, times 0
        note = "kink" if self.kinks else ""
        bound = math.inf if bound != bound else bound
        return Row(name, engine, total, bound, note), first, other, numeric

    def _second_culprit(
        self,
        first: dict[Value, float],
        other: dict[Value, float],
        numeric: dict[Value, tuple[float, float]],
    ) -> Culprit | None:
        for node, (c, bound) in numeric.items():
            used = _engine_curvature(node, first, other)
            if abs(used - c) <= bound + 1e-10 * abs(c):
                continue
            point = _Point.of(node)
            pairs, slope = _partial_along(node, first)
            order = [n for n in topological_order(slope) if n.op is not None]
            local = {n: _local(n, self.rng) for n in order}
            own = {leaf: self.names[a] for a, leaf in pairs}
            inner = names(topological_order(slope)) | own

            def formula(n: Value, inner: dict[Value, str] = inner) -> str:
                assert n.op is not None
                operands = [
                    Expression(inner[a]) if isinstance(a, Value) else Expression(number=a)
                    for a in n.operands
                ]
                return apply(n.op, operands).text

            within = f"the partial of {point.op.name!r} at node {self._formula(node)}"
            for culprit in self._wrong(order, local, formula, within):
                return culprit
            return Culprit(
                self._formula(node), point.op.name, "", point.xs, used, c, bound, order=2,
                remark=": its partials are right here, but not how they change",
            )  # fmt: skip
        return None


def _sizes(root: Value) -> dict[Value, float]:
    """The sum over all paths of the absolute products of their local derivatives."""
    order = topological_order(root)
    size = dict.fromkeys(order, 0.0)
    size[root] = 1.0
    for node in reversed(order):
        if s := size[node]:
            for parent, d in zip(node.parents, node.local_grads, strict=True):
                size[parent] += s * abs(d)
    return size


def _remark(point: _Point, place: int, recorded: float) -> str:
    """Whether a wrong record is what its row says."""
    try:
        if point.op.evaluate(point.xs) != point.out:
            return ": data was changed after the node was made"
    except DomainError:
        return ""
    said = _said(point, place)
    same = said is None or abs(said - recorded) <= 1e-9 * abs(recorded)
    return "" if same else f": the node has not recorded its row's partial, {said!r}"


def _said(point: _Point, place: int) -> float | None:
    """The partial of the row at the node's operands; None if it fails."""
    partials, args = point.op.partials, (*point.xs, point.out)
    try:
        said = partials[0](*args)[place] if point.op.arity is None else partials[place](*args)
        return number(said)
    except (*_FAILURES, TypeError):
        return None
