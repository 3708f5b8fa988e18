"""measuring.py: a derivative is as right as it says, or says that it is not."""

from __future__ import annotations

import math
import random

import pytest
from reference import DEFINITIONS

from micrograd_like import Value, grad, gradcheck, maximum, ops, relu, sqrt
from micrograd_like.checks.measuring import Slope, complex_step, differences, measured
from micrograd_like.errors import InputError


def slopes(node: Value) -> list[Slope]:
    return [local.slope for local in measured(node)]


# --- central differences --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (math.sin, math.cos),
        (math.exp, math.exp),
        (lambda x: math.sin(1e6 * x), lambda x: 1e6 * math.cos(1e6 * x)),
        (lambda x: (x + 1e8) - 1e8, lambda x: 1.0),
        (lambda x: (1.0 - math.cos(1e-3 * x)) * 1e6, lambda x: 1e3 * math.sin(1e-3 * x)),
        (lambda x: math.log(x), lambda x: 1.0 / x),
        (lambda x: 1e10 + x * x, lambda x: 2.0 * x),
    ],
)
def test_differences_are_as_right_as_they_say(f, slope):
    rng = random.Random(0)
    for _ in range(100):
        x = math.exp(rng.uniform(-4.0, 4.0))
        found = differences(f, x, x)
        assert math.fabs(found.value - slope(x)) <= found.bound
        assert found.bound < 0.05 * math.fabs(slope(x)) + 5e-3


def test_a_kink_has_a_slope_to_each_side():
    found = differences(lambda t: 3.0 * max(t, 0.0) + t + t * t, 0.0, 1.0)
    assert found.sides == pytest.approx((1.0, 4.0))
    assert found.value == pytest.approx(2.5)


@pytest.mark.parametrize("x", [1e-3, 1e-9, 1e-13, 1e-200])
def test_a_kink_beside_the_point_is_none_of_its_own(x):
    for sign in (1.0, -1.0):
        found = differences(math.fabs, sign * x, x)
        assert found.sides is None
        assert math.fabs(found.value - sign) <= found.bound < 1e-6


def test_a_wiggle_that_large_steps_miss_counts():
    found = differences(lambda t: t + 1e-9 * math.sin(1e6 * t), 0.0, 1.0)
    assert math.fabs(found.value - 1.001) <= found.bound < 2e-4


def test_where_f_has_no_numbers_there_is_no_bound():
    for f in (math.sqrt, math.log, lambda t: math.inf, lambda t: 1.0 / t):
        assert differences(f, 0.0, 1.0).bound == math.inf


# --- the complex step -----------------------------------------------------------------------------


def test_every_row_of_the_table_has_a_complex_form_of_the_same_value():
    assert all(ops.TABLE[name].analytic for name in ops.BUILTIN)
    for name, definition in DEFINITIONS.items():
        for xs in definition.samples:
            value = ops.TABLE[name].analytic(*map(complex, xs))
            assert math.isclose(value.real, ops.TABLE[name](*xs), rel_tol=1e-13)


@pytest.mark.parametrize("name", sorted(DEFINITIONS))
def test_the_complex_step_gives_the_value_and_the_derivative(name):
    for xs in DEFINITIONS[name].samples:
        leaves = [Value(x) for x in xs]
        out = ops.TABLE[name](*leaves)
        for place, slope in enumerate(grad(out, leaves)):
            value, numeric, hidden = complex_step(ops.TABLE[name], xs, place)
            assert math.isclose(value, out.data, rel_tol=1e-13)
            assert math.isclose(numeric, slope, rel_tol=1e-12, abs_tol=1e-300)
            assert hidden < 1e-50


def test_what_has_no_complex_form_is_refused(made_up):
    with pytest.raises(InputError, match="cube has no complex form"):
        complex_step(made_up("cube", lambda x: x**3, lambda x, out: 3 * x * x), [2.0], 0)
    with pytest.raises(InputError, match="complex form of pow fails"):
        complex_step(ops.power, [0.0, 0.5], 0)


def test_a_row_of_the_users_with_a_complex_form_is_measured_by_it(made_up):
    cube = made_up("cube", lambda x: x**3, lambda x, out: 3 * x * x, analytic=lambda z: z**3)
    plain = made_up("plain", lambda x: x**3, lambda x, out: 3 * x * x)
    sharp, less = (gradcheck(row, [1.7]).rows[0].bound for row in (cube, plain))
    assert math.isclose(sharp, 3e-10 * 1.7**2, rel_tol=1e-4)
    assert sharp < less


# --- a node ---------------------------------------------------------------------------------------


def test_a_slope_for_each_parent_and_none_for_constants():
    x, y = Value(3.0), Value(2.0)
    found = [round(slope.value, 9) for slope in slopes(x**y)]
    assert found == [6.0, round(9 * math.log(3.0), 9)]
    assert len(measured(x**2.0)) == 1
    assert [slope.value for slope in slopes(x * x)] == [3.0, 3.0]
    assert measured(x) == []
    (local,) = measured(2.0 / x)
    assert (local.place, local.parent, local.recorded) == (1, x, -2.0 / 9.0)


def test_the_table_has_no_part_in_it(monkeypatch):
    monkeypatch.setattr(ops.exp, "partials", (lambda x, out: 0.0,))
    (slope,) = slopes(ops.exp(Value(1.0)))
    assert slope.value == pytest.approx(math.e)


def test_a_kink_has_sides_and_a_record_between_them_is_as_good_as_any():
    (slope,) = slopes(relu(Value(0.0)))
    assert (slope.value, slope.bound, slope.sides) == (0.0, 0.0, (0.0, 1.0))
    tie = slopes(maximum(Value(2.0), Value(2.0)))
    assert [slope.value for slope in tie] == [0.5, 0.5]
    (edge,) = slopes(sqrt(Value(0.0)))
    assert edge.value == math.inf
    assert edge.sides is not None
    assert math.isnan(edge.sides[0])


def test_nothing_is_known_where_numbers_are_not_finite():
    (slope,) = slopes(Value(1e300) ** 2)
    assert slope.bound == math.inf
    (slope,) = slopes(Value(math.inf).tanh())
    assert slope.bound == math.inf
