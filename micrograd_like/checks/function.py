"""The function that is checked, called at its inputs, and beside them compared with its graph.

What it computes from `.data`, or from something detached, is missing in the graph, whose derivative
is then not that of the function, though every operation is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

from ..engine import Value
from ..errors import InputError, OperandError
from ..given import Given
from ..numerics import has_axes, nested, number, plain
from .measuring import EXACT, FAILURES, Slope, differences

# Of the inputs: rounding is far below the first, and most branches of f are further off. What is
# small, beside gradients that are not known that well, is seen with the second alone.
_STEPS = 2.0**-16, 2.0**-8


class Function:
    """f and its inputs, which are moved and put back.

    Inputs are numbers or Values, or lists of them, nested. Leaves stay the Values that they are;
    for anything else there is a leaf of its own. Raises OperandError and InputError.
    """

    def __init__(self, f: Callable[..., Any], inputs: Any) -> None:
        if not callable(f):
            raise OperandError(f"gradcheck needs a function, got {f!r:.60}: gradcheck(f, inputs)")
        self.f = f
        self._leaves: dict[Value, None] = {}
        several = hasattr(inputs, "__iter__") and not isinstance(inputs, Value)
        if not isinstance(inputs, (list, tuple)) and not has_axes(inputs):
            inputs = list(plain(inputs)) if several else [inputs]
        together = nested(self._adopted, inputs, alike=True)
        self.arguments = list(together)
        self.leaves = [*self._leaves]
        if not self.leaves:
            raise InputError("gradcheck needs one input or more")
        if len(self.arguments) > 1:
            try:
                signature(f).bind(*self.arguments)
            except TypeError:  # f takes them all as one list
                self.arguments = [together]
            except ValueError:  # a builtin, which has no signature
                pass
        self.at = [leaf.data for leaf in self.leaves]
        # How far inputs move together: no two alike, so that what they change does not cancel.
        self.scale = [(abs(x) or 1.0) / (1.0 + i / len(self.at)) for i, x in enumerate(self.at)]

    def _adopted(self, x: Any) -> Any:
        if not isinstance(x, Value):
            x = Given(number(x), f"x{len(self._leaves)}")
        elif x.op is not None or x in self._leaves:
            x = Value(x.data, x.label)
        self._leaves[x] = None
        return x

    def __call__(self, at: Sequence[float]) -> tuple[Value, float]:
        """The result and its number (which moves back with the inputs if it is one of them)."""
        try:
            self.put(at)
            out = self.f(*nested(lambda x: x, self.arguments, alike=True))  # which f may change
            if isinstance(out, (list, tuple)) or hasattr(out, "tolist"):
                raise InputError("gradcheck needs a function with one result: check one at a time")
            root = out if isinstance(out, Value) else Value(out)
            return root, root.data
        finally:
            self.put(self.at)

    @contextmanager
    def moved(self, t: float) -> Iterator[None]:
        """Within it the inputs are others: moved by `t`, relative to their size."""
        before = self.at
        self.at = [x + t * scale for x, scale in zip(before, self.scale, strict=True)]
        try:
            self.put(self.at)
            yield
        finally:
            self.at = before
            self.put(before)

    def put(self, at: Sequence[float]) -> None:
        """Give the inputs these numbers."""
        for leaf, x in zip(self.leaves, at, strict=True):
            leaf.data = x

    def of_graph(self, order: Sequence[Value], at: Sequence[float]) -> float:
        """What the graph of the nodes `order` gives for its last one, with these inputs."""
        data = dict(zip(self.leaves, at, strict=True))
        for node in order:
            if node.op is None:
                data.setdefault(node, node.data)
            else:
                xs = [data[a] if isinstance(a, Value) else a for a in node.operands]
                data[node] = node.op.evaluate(xs)
        return data[order[-1]]

    def slope(self, i: int, f: Callable[[Sequence[float]], float], unit: float = EXACT) -> Slope:
        """That of `f` by input `i`; its numbers are rounded to `unit`."""
        at = self.at

        def along(x: float) -> float:
            return f([*at[:i], x, *at[i + 1 :]])

        return differences(along, at[i], abs(at[i]) or 1.0, unit)

    def departure(
        self,
        order: Sequence[Value],
        wanted: Callable[[Value, float], float],
        rounding: Callable[[Value], float],
    ) -> tuple[int, float] | None:
        """The first input by which the graph of the nodes `order` lacks a slope, and this slope.

        Of the result of f and its number, `wanted` makes what the graph should give; `rounding` is
        how far off that may be. All inputs are moved together; then half of those that matter.
        """

        def lacking(group: range, t: float) -> float:
            moved = [x + t * self.scale[i] * (i in group) for i, x in enumerate(self.at)]
            try:
                root, number = self(moved)
                off = wanted(root, number) - self.of_graph(order, moved)
            except FAILURES:
                return 0.0
            return off / t if off and abs(off) > rounding(root) else 0.0

        def slope(group: range) -> float:
            """At a branch of f there is another slope on one side alone, or far away alone."""
            for step in _STEPS:
                found = [lacking(group, t * step) for t in (-0.25, 0.25, -1.0, 1.0)]
                if all(found) and all(0.5 < s / found[0] < 2.0 for s in found):
                    return found[0]
            return 0.0

        group = range(len(self.at))
        if not slope(group):
            return None
        while len(group) > 1:
            middle = len(group) // 2
            group = group[:middle] if slope(group[:middle]) else group[middle:]
        return group[0], slope(group) / self.scale[group[0]]
