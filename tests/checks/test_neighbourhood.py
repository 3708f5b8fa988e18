"""neighbourhood.py: how f is called near its inputs, and what differs there."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from micrograd_like import Value, exp, sin, topological_order
from micrograd_like.checks.measuring import random_direction
from micrograd_like.checks.neighbourhood import Function, Trend, departures, replayed, rounding


def found(at: Sequence[float], f: Callable[..., float]) -> dict[int, tuple[Trend, Trend]]:
    def difference(xs: Sequence[float]) -> tuple[float, float]:
        return f(*xs), 1e-13

    direction = random_direction(at, random.Random(0))
    return {i: sides for i, *sides in departures(at, direction, difference)}


def test_a_difference_is_traced_to_the_numbers_that_make_it_grow():
    assert found([1.0] * 50, lambda *xs: 0.0) == {}
    rates = found([1.0] * 50, lambda *xs: 3.0 * (xs[7] - 1.0) - 2e-3 * (xs[31] - 1.0))
    assert list(rates) == [7, 31]
    for i, slope in ((7, 3.0), (31, -2e-3)):
        for side in rates[i]:
            assert side.order == 1
            assert math.fabs(side.factor - slope) <= side.error < 1e-6


@pytest.mark.parametrize("x", [2.0, -2.0])
def test_the_sides_are_told_apart(x):
    ((before, after),) = found([x], lambda y: 4.0 * max(y - x, 0.0)).values()
    assert (before.order, after.order) == (0, 1)
    assert after.factor == pytest.approx(4.0)


def test_a_difference_that_grows_like_the_square_has_order_2():
    ((before, after),) = found([-2.0], lambda x: 5.0 * (x + 2.0) ** 2).values()
    assert before.order == after.order == 2
    assert before.factor == pytest.approx(5.0) == after.factor


def test_neither_a_jump_nor_a_higher_power_nor_what_lies_further_off_counts():
    assert found([1.0], lambda x: float(x > 1.0)) == {}
    assert found([1.0], lambda x: (x - 1.0) ** 3) == {}
    assert found([1.0], lambda x: max(math.fabs(x - 1.0) - 1e-6, 0.0)) == {}


def test_where_it_is_defined_to_one_side_that_side_counts():
    ((before, after),) = found([1.0], lambda x: 0.0 * math.sqrt(x - 1.0) + x - 1.0).values()
    assert (before.order, after.order) == (0, 1)
    assert found([1.0], lambda x: 1.0 / 0.0) == {}


def test_f_is_called_at_other_inputs_which_are_put_back():
    x = Value(1.0, label="x")
    function = Function(lambda a, b: a[0] * a[1] + b, ([x, 2.0], [3.0][0]))
    assert function.at == [1.0, 2.0, 3.0]
    assert [leaf.label for leaf in function.leaves] == ["x", "x1", "x2"]
    assert function()[1] == 5.0
    assert function([2.0, 5.0, 1.0])[1] == 11.0
    assert x.data == 1.0
    twice = Function(lambda a, b: a * b, [x, x])
    assert twice.leaves[0] is x is not twice.leaves[1]


def test_a_graph_is_replayed_with_other_numbers():
    x, y = Value(1.0), Value(2.0)
    order = topological_order(exp(x * y) + y)
    assert replayed(order, {x: 0.5}) == math.exp(1.0) + 2.0
    assert (x.data, y.data) == (1.0, 2.0)


def test_rounding_grows_with_what_cancels():
    x = Value(0.7)
    assert rounding(sin(x)) < 1e-14
    assert 1e-9 < rounding((sin(x) + 1e8) - 1e8) < 1e-6
