"""measuring.py: a derivative is as right as it says, or says that it is not."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable

import pytest
from reference import DEFINITIONS

from micrograd_like import Value, grad, gradcheck, maximum, ops, relu, sqrt
from micrograd_like.checks.measuring import (
    EXACT,
    Slope,
    complex_step,
    differences,
    measured,
    rounding_unit,
)
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


@pytest.mark.parametrize("x", [10.0**-k for k in range(3, 10)])
@pytest.mark.parametrize("of", [lambda x: 1.0 - math.cos(x), lambda x: math.log(1.0 + x * x) / 2.0,
                                lambda x: math.sqrt(1.0 + x * x) - 1.0])  # fmt: skip
def test_what_numbers_around_one_are_rounded_by_is_no_slope(of, x):
    found = differences(of, x, x)
    assert math.fabs(found.value - x) <= found.bound + x**3


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


# --- many operands, corners, and rows of fewer bits -----------------------------------------------


@pytest.mark.parametrize("row", [ops.affine_row, ops.logsumexp])
def test_many_operands_are_measured_in_one_step(row, monkeypatch):
    rng = random.Random(0)
    xs = [Value(rng.gauss(0.0, 1.0)) for _ in range(301)]
    calls = []
    analytic = row.analytic
    monkeypatch.setattr(row, "analytic", lambda *zs: calls.append(0) or analytic(*zs))
    for local in measured(row(*xs)):
        assert local.slope.value == local.recorded
        assert local.slope.resolved
    assert len(calls) == 1


@pytest.mark.parametrize("mistake", [lambda ds: [1.001 * ds[0], *ds[1:]],
                                     lambda ds: [*ds[:-1], 0.0],
                                     lambda ds: [ds[1], ds[0], *ds[2:]]])  # fmt: skip
def test_among_many_operands_a_wrong_record_is_found(mistake, monkeypatch):
    rng = random.Random(0)
    partials = ops.affine_row.partials[0]
    monkeypatch.setattr(ops.affine_row, "partials", (lambda *a: mistake(partials(*a)),))
    node = ops.affine_row(*[Value(rng.gauss(0.0, 1.0)) for _ in range(301)])
    right = partials(*[parent.data for parent in node.parents], node.data)
    for local, d in zip(measured(node), right, strict=True):
        assert math.isclose(local.slope.value, d, rel_tol=1e-9)
        assert local.slope.bound < 1e-6


def test_a_choice_between_operands_that_are_alike_is_a_kink(made_up):
    chosen = made_up(
        "chosen",
        lambda c, x, y: x if c > 0.0 else y,
        (lambda c, x, y, out: 0.0, lambda c, x, y, out: 0.0, lambda c, x, y, out: 1.0),
    )
    assert all(slope.sides for slope in slopes(chosen(Value(0.0), Value(0.0), Value(0.0))))
    assert not any(slope.sides for slope in slopes(chosen(Value(-1.0), Value(2.0), Value(2.0))))


SINGLE: dict[str, tuple[Callable[..., float], tuple[Callable[..., float], ...]]] = {
    "sin": (math.sin, (math.cos,)),
    "exp": (math.exp, (math.exp,)),
    "tanh": (math.tanh, (lambda x: 1.0 - math.tanh(x) ** 2,)),
    "square": (lambda x: x * x, (lambda x: 2.0 * x,)),
    "third": (lambda x: x / 3.0, (lambda x: 1.0 / 3.0,)),
    "ramp": (lambda x: max(x, 0.0), (lambda x: float(x > 0.0),)),
    "product": (lambda x, y: x * y, (lambda x, y: y, lambda x, y: x)),
    "sum": (lambda x, y: x + y, (lambda x, y: 1.0, lambda x, y: 1.0)),
}


def in_single_precision(x: float) -> float:
    return float(struct.unpack("f", struct.pack("f", x))[0])


@pytest.mark.parametrize("name", sorted(SINGLE))
@pytest.mark.parametrize("of_inputs", [True, False])
def test_a_row_that_rounds_to_fewer_bits_is_as_right_as_it_can_be(name, of_inputs, made_up):
    """Its numbers and partials are floats of 32 bits, and what they are computed from may be."""
    single = in_single_precision
    compute, partials = SINGLE[name]
    taken = single if of_inputs else float
    factor = 1.0
    made: list[Callable[..., float]] = [
        lambda x, out: single(factor * partials[0](taken(x))),
    ]
    if len(partials) == 2:
        made = [
            lambda x, y, out: single(factor * partials[0](taken(x), taken(y))),
            lambda x, y, out: single(factor * partials[1](taken(x), taken(y))),
        ]
    row = made_up(f"{name}32", lambda *xs: single(compute(*map(taken, xs))), made)
    rng = random.Random(name)
    for _ in range(100):
        xs = [rng.gauss(0.0, 1.0) * 10.0 ** rng.uniform(-2.0, 1.0) for _ in partials]
        factor = 1.0
        assert gradcheck(row, xs, second=False), xs
        factor = 1.05
        report = gradcheck(row, xs, second=False, raise_exception=False)
        assert report.ok is all(
            math.fabs(row.gradient - row.numeric) <= row.bound for row in report.rows
        )
        if name in ("square", "product", "third") and all(math.fabs(x) > 0.1 for x in xs):
            assert not report


def test_the_rounding_of_a_row_is_measured(made_up):
    def rounded(digits: int) -> Callable[..., float]:
        return lambda x: math.ldexp(round(math.ldexp(math.frexp(x)[0], digits)),
                                    digits * -1 + math.frexp(x)[1])  # fmt: skip

    for digits in (8, 11, 24, 40):
        row = made_up(f"rounded{digits}", rounded(digits), lambda x, out: 1.0)
        assert rounding_unit(row, [0.7]) == 2.0**-digits
    assert rounding_unit(ops.exp, [0.7]) == EXACT
    assert rounding_unit(ops.step, [0.7]) == EXACT
    assert rounding_unit(ops.log, [0.7]) == EXACT
