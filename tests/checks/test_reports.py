"""reports.py: what gradcheck found, as text and as a U-curve."""

from __future__ import annotations

import math

import pytest

from micrograd_like import Value, abs, exp, gradcheck, sin
from micrograd_like.errors import InputError


def test_a_report_is_a_table():
    report = gradcheck(lambda x, y: x * y + abs(x - 3.0), [3.0, 4.0])
    assert str(report).splitlines() == [
        "derivative  gradient  numeric  ± bound",
        "∂/∂x0              4        4    8e-10  kink",
        "∂/∂x1              3        3    6e-10  ok",
        "∂²/∂x0²            0        0        0  kink",
        "∂²/∂x0∂x1          1        1    1e-10  kink",
        "∂²/∂x1²            0        0        0  kink",
        "kink of abs at v2 (node v3 = |v2|): slope -1.0 to the left, 1.0 to the right, 0.0 used",
        "nothing is wrong",
    ]


def test_a_report_of_many_inputs_shows_the_wrong_ones_and_some_others(made_up):
    wrong = made_up("wrong", lambda x: x * x, lambda x, out: 2.1 * x)

    def f(*xs: Value) -> Value:
        return sum((x * x for x in xs[:-1]), wrong(xs[-1]))

    text = str(gradcheck(f, [1.5] * 30, raise_exception=False)).splitlines()
    assert len(text) == 1 + 20 + 2
    assert text[1].startswith("∂/∂x29 ")
    assert text[1].endswith("WRONG")
    assert text[-2] == "... 10 inputs more"


def test_the_u_curve_falls_with_truncation_and_rises_with_rounding():
    report = gradcheck(lambda x: sin(x * x) * exp(x), [1.3])
    curve = report.curve(0)
    errors = dict(curve.points)
    assert errors[min(errors)] > 1e3 * errors[curve.step] < errors[max(errors)]
    assert curve.step == min(curve.model, key=lambda pair: pair[1])[0]
    for (_, error), (step, allowed) in zip(curve.points, curve.model, strict=True):
        if step < 1e-2:
            assert error <= 1.5 * allowed
    assert math.fabs(curve.slope.value - report.rows[0].gradient) <= curve.slope.bound
    with pytest.raises(InputError, match="not one of index 1"):
        report.curve(1)


def test_the_u_curve_is_a_picture():
    from micrograd_like.plots import u_curve

    curve = gradcheck(lambda x: sin(x * x) * exp(x), [1.3]).curve()
    (axes,) = u_curve(curve).axes
    modelled, measured, _ = axes.lines
    assert list(modelled.get_ydata()) == [error for _, error in curve.model]
    assert list(measured.get_ydata()) == [error for _, error in curve.points if error > 0.0]
