"""differences.py: a derivative by differences is as right as it says, or says that it is not."""

from __future__ import annotations

import math
import random

import pytest

from micrograd_like.checks.differences import differences
from micrograd_like.checks.measuring import power_of_two


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
        found = differences(lambda t, x=x: f(x + t), x * 2.0**-40, max(x, 1.0) / 4, math.ulp(x))
        assert math.fabs(found.value - slope(x)) <= found.bound
        assert found.bound < 0.05 * math.fabs(slope(x)) + 5e-3


def test_a_kink_has_a_slope_to_each_side():
    found = differences(lambda t: 3.0 * max(t, 0.0) + t + t * t, 2.0**-40, 0.25)
    assert found.sides == pytest.approx((1.0, 4.0))
    assert found.value == pytest.approx(2.5)


@pytest.mark.parametrize("x", [1e-3, 1e-9, 1e-13, 1e-200])
def test_a_kink_beside_the_point_is_none_of_its_own(x):
    found = differences(lambda t: math.fabs(x + t), power_of_two(x) * 2.0**-40, 0.25, math.ulp(x))
    assert found.sides is None
    assert math.fabs(found.value - 1.0) <= found.bound < 1e-6


def test_a_wiggle_that_large_steps_miss_counts():
    def f(t: float) -> float:
        return t + 1e-9 * math.sin(1e6 * t)

    found = differences(f, 2.0**-40, 0.25)
    assert math.fabs(found.value - 1.001) <= found.bound < 1e-4


def test_where_f_has_no_numbers_there_is_no_bound():
    for f in (math.sqrt, math.log, lambda t: math.inf, lambda t: 1.0 / t):
        assert differences(f, 2.0**-40, 0.25).bound == math.inf
