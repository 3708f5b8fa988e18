"""Values in place of numbers compare as these: functions take the same branches."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import copy, deepcopy
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optional import np

from micrograd_like import DomainError, Value, gradcheck, hessian, jacobian, jvp, value_and_grad
from micrograd_like.errors import InputError

few = st.sampled_from([-1.0, 0.0, 1.0, 2.0, 0.5])
BRANCHES: list[Callable[[Any, Any], Any]] = [
    lambda w, y: w if y == 1 else -w,
    lambda w, y: w * w if y != 0.0 else -w,
    lambda w, y: w * w if 1 == y else -w,  # noqa: SIM300
    lambda w, y: -w if y in (0, Fraction(1, 2)) else w * y,
    lambda w, y: w if w == y else w * y,
    lambda w, y: sum([w * k for k in [-1.0, 0.0, 2.0] if k != y], 0.0 * w),
    lambda w, y: w if y not in ("1", None) else -w,
]


@pytest.mark.parametrize("f", BRANCHES)
@given(few, few)
def test_a_function_takes_the_branches_that_it_takes_of_numbers(
    f: Callable[[Any, Any], Any], w: float, y: float
) -> None:
    assert value_and_grad(f)(w, y)[0] == f(w, y)
    assert value_and_grad(lambda v: f(v[0], v[1]))([w, y])[0] == f(w, y)
    nested = jvp(lambda u: value_and_grad(f)(u, y)[0], w, 1.0)
    assert nested[0] == f(w, y)


def test_forms_in_forms_take_them_too() -> None:
    def outer(w: Any, y: Any) -> Any:
        return value_and_grad(lambda u, z: u * u if z == 1 else -u)(w, y)[1][0]

    assert value_and_grad(outer)(3.0, 1) == (6.0, (2.0, 0.0))
    assert jacobian(lambda v: [x if x == 3 else 2 * x for x in v], [3, 1]) == [[1, 0], [0, 2]]
    assert hessian(lambda x: x * x if x == 2 else 2 * x, 2) == 2.0
    assert gradcheck(lambda w, y: w if y == 1 else -w, [3.0, 1]).rows[0].gradient == 1.0


def test_they_are_plain_values_afterwards_and_beside_values() -> None:
    kept: list[Any] = []

    def f(w: Any) -> Any:
        kept.append(w)
        assert w in kept
        assert w != Value(3.0)
        return w / len(kept[1:])

    with pytest.raises(DomainError):
        value_and_grad(f)(3.0)
    value_and_grad(f)(3.0)
    assert [type(w) for w in kept] == [Value, Value]
    assert 3.0 not in kept
    assert kept[0] != kept[1]


def test_each_is_its_own_copy_as_numbers_are() -> None:
    kept: list[Any] = []

    def f(w: Any) -> Any:
        kept.extend([w, copy(w), deepcopy(w), *deepcopy(w * w).parents, *deepcopy([w])])
        return w * w

    assert value_and_grad(f)(3.0) == (9.0, 6.0)
    assert all(w is kept[0] for w in kept)
    assert type(kept[0]) is Value


@pytest.mark.parametrize(
    "twice",
    [
        lambda x: [deepcopy(x[0]), deepcopy(x[1])],
        lambda x: [copy(w) for w in x],
        lambda x: [2.0 * w for w in deepcopy(x)],
        lambda x: deepcopy([w + w for w in x]),
        lambda x: deepcopy(np.array(x) * 2.0).tolist(),
    ],
)
def test_what_is_computed_of_copies_has_the_derivatives(twice: Any) -> None:
    def f(x: Any) -> Any:
        a, b = twice(x)
        return a * b * b

    def plain(x: Any) -> Any:
        scale = twice([1.0, 1.0])[0]
        return scale**3 * x[0] * x[1] ** 2

    for x in ([2.0, 3.0], [0.5, -1.0]):
        assert value_and_grad(f)(x) == value_and_grad(plain)(x)
        assert jvp(f, x, [1.0, 2.0]) == jvp(plain, x, [1.0, 2.0])
        assert hessian(f, x) == hessian(plain, x)
    slope = lambda x: value_and_grad(f)(x)[1][0]  # noqa: E731
    assert value_and_grad(slope)([2.0, 3.0]) == value_and_grad(
        lambda x: value_and_grad(plain)(x)[1][0]
    )([2.0, 3.0])


@pytest.mark.parametrize("thing", [lambda x: x, lambda x: x * x, lambda x: [x]])
def test_pickling_one_is_refused_since_what_comes_back_has_no_derivative(thing: Any) -> None:
    with pytest.raises(InputError, match="cannot be pickled"):
        value_and_grad(lambda x: x * pickle.loads(pickle.dumps(thing(x))))(3.0)


def test_they_compare_with_the_elements_of_an_array() -> None:
    def chosen(w: Any, y: Any) -> Any:
        return sum(w * float(k) for k in (np.arange(3) == y) * 3 + (y != np.arange(3)))

    assert value_and_grad(chosen)(2.0, 1) == (2.0 * 5, (5.0, 0.0))

    def among(ws: Any, y: Any) -> Any:
        assert [*(ws == y)] == [*(y == ws)] == [not x for x in y != ws]
        return sum(ws[y == ws])

    assert value_and_grad(among)(np.array([2.0, 1.0, 2.0]), 2.0)[1] == ([1.0, 0.0, 1.0], 0.0)
