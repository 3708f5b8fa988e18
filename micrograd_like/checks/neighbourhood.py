"""A function near its inputs: called there, and compared with the graph that it made at them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

from ..engine import Value, adjoints
from ..errors import InputError, OperandError
from ..numerics import number
from .differences import FAILURES

_FURTHEST, _STEPS = 2.0**-8, 18  # how far the inputs are moved, compared with them, and how often


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
        with self._moved(at or self.at):
            out = self.f(self.arguments) if self.together else self.f(*self.arguments)
            if isinstance(out, (list, tuple)) or hasattr(out, "tolist"):
                raise InputError("gradcheck needs a function with one result: check one at a time")
            root = out if isinstance(out, Value) else Value(out)
            return root, root.data

    @contextmanager
    def _moved(self, at: Sequence[float]) -> Iterator[None]:
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


class Departure(NamedTuple):
    """How a difference grows where number `i` moves by t: by factor · t (order 1) or factor · t².

    There is a factor for each side, `before` the number and `after` it, 0 where it does not grow;
    `error` bounds what is wrong with them.
    """

    i: int
    order: int
    before: float
    after: float
    error: float


def random_direction(at: Sequence[float], rng: random.Random) -> list[float]:
    """One in which no number moves much further than another, compared with its size."""
    return [rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.0) * (abs(x) or 1.0) for x in at]


def departures(
    at: Sequence[float],
    difference: Callable[[Sequence[float]], tuple[float, float]],
    rng: random.Random,
) -> Iterator[Departure]:
    """The numbers in `at` along which a difference that is 0 there grows.

    `difference` gives it near `at`, and what rounding explains of it. All numbers are moved along
    one random direction; where the difference grows, half of them, and so on.
    """
    direction = random_direction(at, rng)
    groups: list[Sequence[int]] = [range(len(at))]
    while groups:
        group = groups.pop()
        ways = [direction[i] if i in group else 0.0 for i in range(len(at))]
        sides = [_trend(at, ways, t, difference) for t in (-_FURTHEST, _FURTHEST)]
        orders = [side.order for side in sides if side is not None]
        if orders and not any(orders):
            continue
        if len(group) > 1:
            middle = len(group) // 2
            groups += [group[middle:], group[:middle]]
        elif orders:
            (i,) = group
            lowest, v = min(filter(None, orders)), direction[i]
            growing = [side if side and side.order == lowest else _Trend() for side in sides]
            before, after = growing if v > 0.0 else growing[::-1]
            error = max(before.error, after.error) / abs(v)
            yield Departure(i, lowest, before.factor / v, after.factor / v, error)


class _Trend(NamedTuple):
    """How a difference goes to 0: like factor · step, of order 1, or like its square; if not, 0."""

    order: int = 0
    factor: float = 0.0
    error: float = 0.0


def _trend(
    at: Sequence[float],
    ways: Sequence[float],
    t: float,
    difference: Callable[[Sequence[float]], tuple[float, float]],
) -> _Trend | None:
    """The trend at steps `t` and smaller ones, by factors of 4, until rounding explains it.

    None where there is nothing to compare at any step.
    """
    seen: list[tuple[float, float, float]] = []
    defined = False
    for _ in range(_STEPS):
        try:
            d, noise = difference([x + t * v for x, v in zip(at, ways, strict=True)])
        except FAILURES:
            seen.clear()
        else:
            defined = True
            if not abs(d) > noise:
                break
            seen.append((t, d, noise))
        t *= 0.25
    ratios = [abs(before[1] / after[1]) for before, after in pairwise(seen[-3:])]
    if len(ratios) == 2 and all(2.5 < ratio < 7.0 for ratio in ratios):
        order = 1
    elif len(ratios) == 2 and all(10.0 < ratio < 25.0 for ratio in ratios):
        order = 2
    else:
        return _Trend() if defined else None
    factors = [(d / t**order, noise / abs(t**order)) for t, d, noise in seen]
    error, factor = min((abs(y - x) + error, y) for (x, _), (y, error) in pairwise(factors))
    return _Trend(order, factor, error)
