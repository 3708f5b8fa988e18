"""Second derivatives that the graph of a node's partials does not have.

The graph of a gradient is made of the operations in the partials, and each of them is checked like
any other. But partials may be right at a node and wrong beside it, or hide a number from their
graph. So their graph is evaluated beside the node too, and must go on being the derivative there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from ..engine import Value, topological_order
from ..gradients import grad
from ..sums import affine
from .differences import Slope
from .measuring import Point
from .neighbourhood import departures, replayed


def graphs_of_partials(node: Value) -> tuple[list[Value], list[Value]]:
    """Leaves that stand for the node's parents, and the graph of the partial by each of them."""
    assert node.op is not None
    leaves = [Value(a.data) if isinstance(a, Value) else a for a in node.operands]
    parents = [leaf for leaf in leaves if isinstance(leaf, Value)]
    return parents, grad(node.op(*leaves), parents, create_graph=True)


def wrong_curvatures(
    node: Value, first: Sequence[float], rng: random.Random
) -> Iterator[tuple[int, float, Slope]]:
    """How the derivative of a node along `first` changes with its parents, where the graph errs.

    `first` has a component for each parent. Yields the number of a parent, the second derivative
    that the graph of the partials has, and the one that it should have.
    """
    point = Point.of(node)
    parents, partials = graphs_of_partials(node)
    slope = affine(first, partials, Value(0.0))
    order = topological_order(slope)
    along = point.direction(dict(zip(point.moving, first, strict=True)))
    rounding = 1e-12 * sum(abs(w * p.data) for w, p in zip(first, partials, strict=True))

    def difference(at: Sequence[float]) -> tuple[float, float]:
        measured = point.at(at).along(along)
        said = replayed(order, dict(zip(parents, at, strict=True)))
        return said - measured.value, measured.bound + rounding

    for found in departures([x.data for x in parents], difference, rng):
        if found.order == 1 and found.before and found.after:
            recorded = grad(slope, parents[found.i])
            excess = 0.5 * (found.before + found.after)
            bound = found.error + 0.5 * math.fabs(found.after - found.before)
            yield found.i, recorded, Slope(recorded - excess, bound)
