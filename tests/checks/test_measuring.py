"""measuring.py: the local derivatives of one node, from the numbers of its operation alone."""

from __future__ import annotations

import math
import random

import pytest

from micrograd_like import Value, affine, maximum, ops, relu, sqrt
from micrograd_like.checks.differences import Slope
from micrograd_like.checks.measuring import Point, measured


def measure(node: Value) -> list[Slope]:
    return measured(node, random.Random(0))


def test_a_slope_for_each_parent_and_none_for_constants():
    x, y = Value(3.0), Value(2.0)
    assert [round(slope.value, 9) for slope in measure(x**y)] == [6.0, round(9 * math.log(3.0), 9)]
    assert len(measure(x**2.0)) == 1
    assert [slope.value for slope in measure(x * x)] == [3.0, 3.0]


def test_the_table_has_no_part_in_it(monkeypatch):
    monkeypatch.setattr(ops.exp, "partials", (lambda x, out: 0.0,))
    (slope,) = measure(ops.exp(Value(1.0)))
    assert slope.value == pytest.approx(math.e)


def test_many_operands_are_compared_with_their_records_at_once_and_a_wrong_one_is_measured(made_up):
    calls = []

    def total(*xs: float) -> float:
        calls.append(1)
        return math.fsum(xs)

    def partials(*xs_out: float) -> list[float]:
        return [1.0 + 0.001 * (i == wrong) for i in range(len(xs_out) - 1)]

    row = made_up("total", total, partials)
    wrong = -1
    node = row(*[Value(float(i)) for i in range(1, 1001)])
    calls.clear()
    assert [slope.value for slope in measure(node)] == [1.0] * 1000
    assert len(calls) < 100
    wrong = 617
    slopes = measure(row(*[Value(float(i)) for i in range(1, 1001)]))
    assert slopes[617].value == pytest.approx(1.0, abs=slopes[617].bound)
    assert slopes[617].bound < 1e-6


def test_a_kink_has_sides_and_a_record_between_them_is_as_good_as_any():
    (slope,) = measure(relu(Value(0.0)))
    assert (slope.value, slope.bound, slope.sides) == (0.0, 0.0, (0.0, 1.0))
    tie = measure(maximum(Value(2.0), Value(2.0)))
    assert [slope.value for slope in tie] == [0.5, 0.5]
    (edge,) = measure(sqrt(Value(0.0)))
    assert edge.value == math.inf
    assert edge.sides is not None
    assert math.isnan(edge.sides[0])


def test_nothing_is_known_where_numbers_are_not_finite():
    (slope,) = measure(Value(1e300) ** 2)
    assert slope.bound == math.inf


def test_a_point_is_an_operation_at_its_operands():
    x, y = Value(3.0), Value(4.0)
    point = Point.of(affine([x, 2.0], [y, 5.0], 1.0))
    assert (point.op, point.xs, point.out) == (ops.affine_row, (3.0, 2.0, 4.0, 5.0, 1.0), 23.0)
    assert point.moving == (0, 2)
    assert point.at([1.0, 1.0]).out == 12.0
    assert point.moved([1.0, 0.0, 0.0, 0.0, 0.0], 2.0).out == 31.0
    assert [point.partial(place) for place in point.moving] == [4.0, 3.0]
    assert point.along([1.0, 0.0, 1.0, 0.0, 0.0]).value == pytest.approx(7.0)
