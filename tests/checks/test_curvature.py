"""curvature.py: partials whose graphs do not go along with their operation are found."""

from __future__ import annotations

import math
import random

import pytest
from reference import DEFINITIONS

from micrograd_like import Value, maximum, ops, relu, sqrt
from micrograd_like.checks.curvature import graphs_of_partials, wrong_curvatures
from micrograd_like.checks.differences import Slope


def wrong(node: Value) -> list[tuple[int, float, Slope]]:
    return list(wrong_curvatures(node, [1.0] * len(node.parents), random.Random(0)))


@pytest.mark.parametrize("name", sorted(DEFINITIONS.keys() - {"where"}))  # flat in its condition
def test_those_of_the_table_do(name):
    for xs in DEFINITIONS[name].samples:
        assert wrong(ops.TABLE[name](*map(Value, xs))) == []


def test_at_kinks_and_edges_there_is_nothing_to_find(made_up):
    ramp = made_up("ramp", lambda x: max(x, 0.0), lambda x, out: 1.0 if x > 0.0 else 0.0)
    for node in (relu(Value(0.0)), sqrt(Value(0.0)), maximum(Value(1.0), Value(1.0))):
        assert wrong(node) == []
    for x in (0.0, 1e-3, -1e-9):
        assert wrong(ramp(Value(x))) == []


def test_the_parent_and_both_second_derivatives_are_given(made_up):
    row = made_up(
        "row", lambda x, y: x * y * y, (lambda x, y, out: y * y, lambda x, y, out: 12.0 + 3.0 * y)
    )
    found = wrong(row(Value(4.0), Value(2.0)))  # d/dy is 2xy = 16, should be 18 at y = 2
    assert [k for k, _, _ in found] == []  # it is wrong at the node, too, which others find
    row = made_up(
        "row", lambda x, y: x * y * y, (lambda x, y, out: y * y, lambda x, y, out: 10.0 + 3.0 * y)
    )
    found = wrong(row(Value(4.0), Value(2.0)))
    assert [k for k, _, _ in found] == [0, 1]
    for (_, recorded, slope), said, true in zip(found, (0.0, 7.0), (4.0, 12.0), strict=True):
        assert recorded == said
        assert math.fabs(slope.value - true) <= slope.bound < 1e-5


def test_the_graphs_of_partials_stand_on_leaves_of_their_own():
    x = Value(3.0)
    node = x * x * x
    parents, partials = graphs_of_partials(node)
    assert [leaf.data for leaf in parents] == [9.0, 3.0]
    assert [graph.data for graph in partials] == [3.0, 9.0]
    assert x not in parents
