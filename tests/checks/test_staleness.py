"""staleness.py: the nodes whose record no longer fits the data of their operands are listed."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micrograd_like import (
    Op,
    Value,
    affine,
    grad,
    greater,
    log,
    ops,
    stale,
    topological_order,
    where,
)
from micrograd_like.errors import InputError, OperandError, StaleGraphError


def test_stale_lists_the_nodes_that_no_longer_fit_and_backward_stays_right() -> None:
    x, w = Value(3.0, label="x"), Value(2.0, label="w")
    product = w * x
    square = product * product
    total = affine([w, square], [square, 1.0], x)
    assert stale(total) == []
    expected = grad(total, [x, w])
    x.data = 5.0
    assert stale(total) == [product, total]
    x.grad = w.grad = 0.0
    total.backward()
    assert [x.grad, w.grad] == expected
    x.data = 3.0
    assert stale(total) == []
    product.data = 7.0
    assert stale(total) == [product, square]
    with pytest.raises(OperandError):
        stale(3.0)  # type: ignore[arg-type]


def test_stale_lists_what_a_choice_did_not_take_as_graphs_of_gradients_refuse_it() -> None:
    x, y = Value(2.0), Value(3.0)
    product = x * y
    root = where(greater(y, x), x, product)
    y.data = 4.0
    assert stale(root) == [product]
    assert grad(root, x) == 1.0
    with pytest.raises(StaleGraphError):
        grad(root, x, create_graph=True)


def test_a_change_that_changes_nothing_of_the_record_is_not_stale() -> None:
    x = Value(-1.0)
    y = x.relu()
    x.data = -2.0
    assert stale(y) == []
    nan = Value(math.nan) * 2.0
    assert stale(nan) == []
    x = Value(2.0)
    y = log(x)
    x.data = -1.0
    assert stale(y) == [y]


def test_a_partial_by_a_constant_is_not_asked_for(made_up: Callable[..., Op]) -> None:
    def fails(x: float, y: float, out: float) -> float:
        raise InputError("no such partial")

    row = made_up("row", lambda x, y: x * y, (lambda x, y, out: y, fails))
    assert stale(row(Value(2.0), 3.0)) == []


OPERATIONS = [ops.add, ops.sub, ops.mul, ops.hypot, ops.maximum, ops.logaddexp, ops.tanh, ops.relu]
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 710.0, 1e-320, 1e155, -1e308])
PLACES = st.integers(0, 30)


@given(
    st.lists(NUMBERS, min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from(OPERATIONS), PLACES, PLACES), max_size=12),
    PLACES,
    NUMBERS,
)
def test_stale_is_empty_where_the_graph_of_the_gradient_fits(
    data: list[float], recipe: list[tuple[Op, int, int]], i: int, changed: float
) -> None:
    """`grad` has a check of its own, and refuses."""
    nodes = [Value(x) for x in data]
    for op, *places in recipe:
        nodes.append(op(*[nodes[place % len(nodes)] for place in places[: op.arity]]))
    root = nodes[-1]
    order = topological_order(root)
    assert stale(root) == []
    order[i % len(order)].data = changed
    leaves = [node for node in order if node.op is None]
    try:
        grad(root, leaves, create_graph=True)
        refused = False
    except StaleGraphError:
        refused = True
    assert bool(stale(root)) == refused
