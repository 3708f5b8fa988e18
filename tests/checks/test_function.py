"""function.py: f is called near its inputs, and where it differs from its graph, that is seen."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable

import pytest
from optional import np

from micrograd_like import Value, topological_order
from micrograd_like.checks.function import Function


def departure(f: Callable[..., Value], at: list[float]) -> tuple[int, float] | None:
    function = Function(f, at)
    root, _ = function(function.at)
    return function.departure(topological_order(root), lambda _, number: number, lambda _: 1e-13)


def test_f_is_called_at_other_inputs_which_are_put_back():
    x = Value(1.0, label="x")
    function = Function(lambda a, b: a[0] * a[1] + b, ([x, 2.0], 3.0))
    assert function.at == [1.0, 2.0, 3.0]
    assert [leaf.label for leaf in function.leaves] == ["x", "x1", "x2"]
    assert function(function.at)[1] == 5.0
    assert function([2.0, 5.0, 1.0])[1] == 11.0
    assert x.data == 1.0
    twice = Function(lambda a, b: a * b, [x, x])
    assert twice.leaves[0] is x is not twice.leaves[1]


def test_f_gets_arrays_where_there_are_arrays():
    x = np.array([1.0, 2.0])
    assert Function(lambda v, y: (3 * v) @ v + y, [x, 1.0])([1.0, 2.0, 1.0])[1] == 16.0
    assert Function(lambda v: (3 * v) @ v, x)([2.0, 1.0])[1] == 15.0
    assert Function(lambda a, b: a * b, x)([2.0, 3.0])[1] == 6.0


def test_f_gets_tuples_as_they_are_and_may_change_what_it_gets():
    def f(v):
        v[0] *= v[1]
        return v[0] * v[1]

    point = namedtuple("Point", "a b")(1.0, 2.0)
    assert Function(lambda p: p.a * p.b if p == (2.0, 3.0) else None, point)([2.0, 3.0])[1] == 6.0
    for inputs in ([1.0, 2.0], [[1.0, 2.0]], np.array([1.0, 2.0])):
        function = Function(f, inputs)
        assert function([1.0, 2.0])[1] == function([1.0, 2.0])[1] == 4.0


def test_a_slope_that_the_graph_lacks_is_traced_to_the_input():
    assert departure(lambda *xs: sum(x * x for x in xs), [1.0] * 50) is None
    i, slope = departure(lambda *xs: sum(x * x for x in xs) - 3.0 * xs[31].data, [1.0] * 50)
    assert (i, slope) == (31, pytest.approx(-3.0))


def test_a_branch_of_f_is_no_departure():
    for x in (0.0, 1e-7, -1e-7):
        assert departure(lambda x: 2.0 * x if x.data > 0.0 else 3.0 * x, [x]) is None


def test_where_f_is_defined_to_one_side_there_is_none():
    assert departure(lambda x: x.sqrt() + x.data, [0.0]) is None
