"""A function near its inputs: called there, and compared with the graph that it made at them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ..engine import Value, adjoints
from ..errors import InputError, OperandError
from ..numerics import number
from .differences import FAILURES

_FURTHEST, _STEPS = 2.0**-8, 18  # how far numbers are moved in a direction, and how often


class Function:
    """f and its inputs, which are moved and put back.

    Inputs are numbers or Values, or lists of them, nested. Leaves stay the Values that they are;
    for anything else there is a leaf of its own. Raises OperandError and InputError.
    """

    def __init__(self, f: Callable[..., Any], inputs: Any) -> None:
        if not callable(f):
            raise OperandError(f"gradcheck needs a function, got {f!r:.60}: gradcheck(f, inputs)")
        self.f = f
        self.leaves: list[Value] = []
        self._known: set[Value] = set()
        if isinstance(inputs, Value) or not hasattr(inputs, "__iter__"):
            inputs = [inputs]
        self.arguments = [
            self._adopt(x) for x in (inputs.tolist() if hasattr(inputs, "tolist") else inputs)
        ]
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
        if not isinstance(x, Value):
            x = Value(number(x), f"x{len(self.leaves)}")
        elif x.op is not None or x in self._known:
            x = Value(x.data, x.label)
        self._known.add(x)
        self.leaves.append(x)
        return x

    def __call__(self, at: Sequence[float] | None = None) -> tuple[Value, float]:
        """The result and its number (which moves back with the inputs if it is one of them)."""
        try:
            for leaf, x in zip(self.leaves, at or self.at, strict=True):
                leaf.data = x
            out = self.f(self.arguments) if self.together else self.f(*self.arguments)
            if isinstance(out, (list, tuple)) or hasattr(out, "tolist"):
                raise InputError("gradcheck needs a function with one result: check one at a time")
            root = out if isinstance(out, Value) else Value(out)
            return root, root.data
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


def replayed(order: Sequence[Value], moved: Mapping[Value, float]) -> float:
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


def rounding(root: Value) -> float:
    """How much rounding may have changed the number of `root`: a few ulp of every node."""
    ulps = [abs(g) * math.ulp(node.data) for node, g in adjoints(root).items()]
    return 8.0 * sum(ulps) + math.ulp(root.data)


# --- what differs beside a point ------------------------------------------------------------------


class Trend(NamedTuple):
    """How a difference goes to 0 with the step: like `factor` ± `error` times its power `order`.

    The order is 1 or 2, or 0 where there is no such difference.
    """

    order: int = 0
    factor: float = 0.0
    error: float = 0.0


def departures(
    at: Sequence[float],
    direction: Sequence[float],
    difference: Callable[[Sequence[float]], tuple[float, float]],
) -> Iterator[tuple[int, Trend, Trend]]:
    """The numbers in `at` along which a difference that is 0 there grows, and how it does so.

    `difference` gives it near `at`, and what rounding explains of it. All numbers are moved along
    `direction`, by a fraction of it; where the difference grows, half of them, and so on. Yields
    the place of the number, and the trends below and above it.
    """
    groups: list[Sequence[int]] = [range(len(at))]
    while groups:
        group = groups.pop()

        def along(t: float, group: Sequence[int] = group) -> tuple[float, float]:
            moved = [*at]
            for i in group:
                moved[i] += t * direction[i]
            return difference(moved)

        sign = math.copysign(1.0, direction[group[0]])
        sides = [_trend(along, sign * side) for side in (-_FURTHEST, _FURTHEST)]
        defined = [side for side in sides if side is not None]
        if defined and not any(side.order for side in defined):
            continue
        if len(group) > 1:
            middle = len(group) // 2
            groups += [group[middle:], group[:middle]]
        elif defined:
            (i,) = group
            before, after = (
                Trend(order, factor / direction[i] ** order, error / abs(direction[i]) ** order)
                for order, factor, error in (side or Trend() for side in sides)
            )
            yield i, before, after


def _trend(difference: Callable[[float], tuple[float, float]], t: float) -> Trend | None:
    """The trend at steps `t` and smaller ones, by factors of 4, until rounding explains it.

    None where there is nothing to compare at any step.
    """
    seen: list[tuple[float, float, float]] = []
    defined = False
    for _ in range(_STEPS):
        try:
            d, noise = difference(t)
        except FAILURES:
            seen.clear()
        else:
            defined = True
            if not abs(d) > noise:
                if seen and abs(seen[-1][1]) > 64.0 * noise:
                    seen.clear()  # it ended, as at a branch further off, and did not go to 0
                break
            seen.append((t, d, noise))
        t *= 0.25
    ratios = [abs(before[1] / after[1]) for before, after in pairwise(seen[-3:])]
    if len(ratios) == 2 and all(2.5 < ratio < 7.0 for ratio in ratios):
        order = 1
    elif len(ratios) == 2 and all(10.0 < ratio < 25.0 for ratio in ratios):
        order = 2
    else:
        return Trend() if defined else None
    factors = [(d / t**order, noise / abs(t) ** order) for t, d, noise in seen]
    error, factor = min((abs(y - x) + error, y) for (x, _), (y, error) in pairwise(factors))
    return Trend(order, factor, error)
