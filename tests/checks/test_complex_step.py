"""complex_step.py: the derivative of every row of the table, to a few roundings."""

from __future__ import annotations

import math

import pytest
from reference import DEFINITIONS

from micrograd_like import Value, grad, ops
from micrograd_like.checks.complex_step import complex_step
from micrograd_like.errors import InputError


def test_every_row_of_the_table_has_a_complex_form_of_the_same_value():
    assert all(ops.TABLE[name].analytic for name in ops.BUILTIN)
    for name, definition in DEFINITIONS.items():
        for xs in definition.samples:
            value = ops.TABLE[name].analytic(*map(complex, xs))
            assert math.isclose(value.real, ops.TABLE[name](*xs), rel_tol=1e-13)


@pytest.mark.parametrize("name", sorted(DEFINITIONS))
def test_it_gives_the_value_and_the_derivative(name):
    for xs in DEFINITIONS[name].samples:
        leaves = [Value(x) for x in xs]
        out = ops.TABLE[name](*leaves)
        for i, slope in enumerate(grad(out, leaves)):
            direction = [float(j == i) for j in range(len(xs))]
            value, numeric, hidden = complex_step(ops.TABLE[name], xs, direction)
            assert math.isclose(value, out.data, rel_tol=1e-13)
            assert math.isclose(numeric, slope, rel_tol=1e-12, abs_tol=1e-300)
            assert hidden < 1e-50


def test_what_has_no_complex_form_is_refused(made_up):
    with pytest.raises(InputError, match="cube has no complex form"):
        complex_step(made_up("cube", lambda x: x**3, lambda x, out: 3 * x * x), [2.0], [1.0])
    with pytest.raises(InputError, match="complex form of atanh fails"):
        complex_step(ops.atanh, [1.0], [0.0])


def test_a_row_of_the_users_with_a_complex_form_is_measured_by_it(made_up):
    from micrograd_like import gradcheck

    cube = made_up("cube", lambda x: x**3, lambda x, out: 3 * x * x, analytic=lambda z: z**3)
    plain = made_up("plain", lambda x: x**3, lambda x, out: 3 * x * x)
    reports = [gradcheck(row, [1.7]) for row in (cube, plain)]
    bounds = [report.rows[0].bound for report in reports]
    assert math.isclose(bounds[0], 3e-10 * 1.7**2, rel_tol=1e-4)
    assert bounds[0] != bounds[1]
