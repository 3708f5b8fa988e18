"""Derivatives of functions and of graphs, and questions about nodes."""

from __future__ import annotations

import copy
import math
import pickle
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optional import cases, np
from reference import VALUE, Program, forward_gradient, forward_hessian, programs

from micrograd_like import (
    DomainError,
    MicrogradError,
    Value,
    affine,
    compile,
    grad,
    gradcheck,
    greater,
    hessian,
    jacobian,
    jvp,
    log,
    logaddexp,
    logsumexp,
    maximum,
    minimum,
    no_grad,
    ops,
    relu,
    topological_order,
    value_and_grad,
    where,
)
from micrograd_like.engine import adjoints
from micrograd_like.errors import InputError, OperandError, StaleGraphError
from micrograd_like.gradients import adjoint_graphs, between, is_stale, recomputed


def polar(x: list[Value]) -> list[Value]:
    """Cartesian coordinates of the polar ones (r, t)."""
    r, t = x
    return [r * t.cos(), r * t.sin()]


def rosenbrock(x: list[Value]) -> Value:
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def leaves(*data: float) -> list[Value]:
    return [Value(x) for x in data]


def all_close(got: Any, want: Any, tolerance: float = 1e-12) -> bool:
    """Equal structures of lists and tuples of nearly equal numbers."""
    if isinstance(want, (list, tuple)):
        same_kind = type(got) is type(want) and len(got) == len(want)
        return same_kind and all(map(lambda g, w: all_close(g, w, tolerance), got, want))
    return type(got) is float and math.isclose(got, want, rel_tol=tolerance, abs_tol=tolerance)


# --- value_and_grad -------------------------------------------------------------------------------


def test_value_and_grad_of_one_argument_is_the_value_and_its_derivative() -> None:
    assert value_and_grad(lambda x: x**3)(2.0) == (8.0, 12.0)


def test_value_and_grad_of_several_arguments_has_a_tuple_of_gradients() -> None:
    assert value_and_grad(lambda x, y: x * y + x)(3.0, 4.0) == (15.0, (5.0, 3.0))


def test_value_and_grad_keeps_the_structure_of_its_arguments() -> None:
    def loss(layers: list[tuple[list[list[Value]], Value]], scale: Value) -> Value:
        total: Any = 0.0
        for weights, bias in layers:
            for row in weights:
                total = total + sum(w * w for w in row)
            total = total + 3 * bias
        return total * scale

    value, gradient = value_and_grad(loss)([([[1.0, 2.0], [3.0]], 4.0), ([], 5.0)], 2.0)
    assert value == 82.0
    assert gradient == ([[[[4.0, 8.0], [12.0]], 6.0], [[], 6.0]], 41.0)


@pytest.mark.parametrize(
    "x",
    [
        [2.0, 3.0],
        (2.0, 3.0),
        [2, Fraction(3)],
        *cases(lambda: [np.array([2.0, 3.0]), [np.float32(2), 3]]),
    ],
)
def test_value_and_grad_takes_lists_tuples_arrays_and_numbers_of_every_type(x: Any) -> None:
    assert value_and_grad(lambda x: x[0] * x[0] * x[1])(x) == (12.0, [12.0, 4.0])


def test_value_and_grad_takes_arrays_of_several_axes() -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    value, gradient = value_and_grad(lambda x: x[0][0] * x[1][1] - x[0][1] * x[1][0])(x)
    assert (value, gradient) == (-2.0, [[4.0, -3.0], [-2.0, 1.0]])
    assert value_and_grad(lambda x: x * x)(np.array(3.0)) == (9.0, 6.0)
    assert value_and_grad(lambda x: x * x)(np.float64(3.0)) == (9.0, 6.0)


def test_functions_get_arrays_where_they_are_given_arrays() -> None:
    x, y = np.array([1.0, 2.0]), np.array([[1.0, 2.0], [3.0, 4.0]])
    assert value_and_grad(lambda v: sum((3 * v + v) ** 2))(x) == (80.0, [32.0, 64.0])
    assert value_and_grad(lambda a, b: (b @ a).sum() * a[0])(x, y)[0] == 16.0
    assert jacobian(lambda v: y @ v, x) == [[1.0, 2.0], [3.0, 4.0]]
    assert hessian(lambda v: v @ v, x) == [[2.0, 0.0], [0.0, 2.0]]
    assert jvp(lambda v: 2 * v, x, x) == ([2.0, 4.0], [2.0, 4.0])
    w = np.array([Value(1.0), Value(2.0)])
    value, gradient = value_and_grad(lambda v: (3 * v) @ v)(w)
    assert value.data == 15.0
    assert grad(gradient[0], list(w)) == [6.0, 0.0]
    assert value_and_grad(lambda v: v[0].sum() + v[1])([x, 5]) == (8.0, [[1.0, 1.0], 1.0])
    assert value_and_grad(lambda v: sum(3 * v))(memoryview(x)) == (9.0, [3.0, 3.0])  # as JAX's
    ragged = np.array([[1.0, 2.0], [3.0]], dtype=object)
    assert value_and_grad(lambda v: v[0][1] * v[1][0])(ragged) == (6.0, [[0.0, 3.0], [2.0]])
    with pytest.raises(TypeError, match="None"):
        value_and_grad(lambda v: v @ v)(np.ma.array(x, mask=[False, True]))


@pytest.mark.parametrize("kind", [list, np.array])
def test_functions_may_change_the_lists_and_arrays_that_they_get(kind: Callable[..., Any]) -> None:
    """Derivatives are by the numbers that they were given, not by what stands there afterwards."""

    def f(v: Any) -> Any:
        v[0] *= v[1]
        v[1] = v[0] + 1.0
        return v[0] * v[1]

    def g(v: Any) -> Any:
        return v[0] * v[1] * (v[0] * v[1] + 1.0)

    x = kind([2.0, 3.0])
    assert value_and_grad(f)(x) == value_and_grad(g)(x)
    assert jacobian(f, x) == jacobian(g, x)
    assert hessian(f, x) == hessian(g, x)
    assert jvp(f, x, [1.0, -1.0]) == jvp(g, x, [1.0, -1.0])
    assert [*x] == [2.0, 3.0]


def test_a_function_returns_no_lists_of_lists() -> None:
    with pytest.raises(OperandError, match="one Value, or a flat list of them"):
        jacobian(lambda x: np.outer(x, x), np.array([1.0, 2.0]))


def test_functions_get_tuples_where_they_are_given_tuples() -> None:
    is_goal = lambda at, w: w if at == (2, 3) else -w  # noqa: E731
    assert value_and_grad(is_goal)((2, 3), 5.0) == (5.0, ([0.0, 0.0], 1.0))
    assert value_and_grad(is_goal)([2, 3], 5.0)[0] == is_goal([2, 3], 5.0) == -5.0
    cell = namedtuple("cell", "row column")(2.0, 3.0)
    assert value_and_grad(lambda c: c.row * c.column)(cell) == (6.0, [3.0, 2.0])
    assert value_and_grad(lambda cs: cs[0].row ** 2)([cell, 1]) == (4.0, [[4.0, 0.0], 0.0])
    assert hessian(lambda c: c.row * c.column, cell) == [[0.0, 1.0], [1.0, 0.0]]
    assert gradcheck(lambda c, w: c.row * c.column * w, [cell, 2.0]).ok


def test_functions_get_arrays_where_they_are_given_tables() -> None:
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4]})
    assert value_and_grad(lambda v: (2 * v)[1][0])(table) == (4.0, [[0.0, 0.0], [2.0, 0.0]])
    assert value_and_grad(lambda v: (2 * v)[1])(table["b"]) == (8.0, [0.0, 2.0])


def test_value_and_grad_leaves_values_that_it_is_given_alone() -> None:
    x = Value(3.0)
    value, slope = value_and_grad(lambda v: v * v)(x)
    assert (value.data, slope.data) == (9.0, 6.0)
    value, slopes = value_and_grad(lambda a, b: a * b * b)(x, x)
    assert (value.data, *(slope.data for slope in slopes)) == (27.0, 9.0, 18.0)
    assert (x.grad, x.data) == (0.0, 3.0)


def test_value_and_grad_of_an_unused_argument_is_zero() -> None:
    assert value_and_grad(lambda x, y: x * x)(3.0, 4.0) == (9.0, (6.0, 0.0))


@pytest.mark.parametrize("constant", [5, 5.0, *cases(lambda: [np.float64(5)]), Fraction(5)])
def test_a_function_that_returns_a_plain_number_is_refused(constant: Any) -> None:
    for differentiate in (
        lambda f, x: value_and_grad(f)(x), jacobian, hessian, lambda f, x: jvp(f, x, [1.0, 0.0])
    ):  # fmt: skip
        for f in (lambda x: constant, lambda x: x[0].data):
            with pytest.raises(OperandError, match=r"(?s)\.data.*create_graph=True"):
                differentiate(f, [1.0, 2.0])
        with pytest.raises(OperandError, match=r"\.data"):
            jacobian(lambda x: [constant, 1.0], [1.0, 2.0])
    assert value_and_grad(lambda x: Value(constant))([1.0, 2.0]) == (5.0, [0.0, 0.0])


def test_value_and_grad_of_an_argument_itself_is_one() -> None:
    assert value_and_grad(lambda x: x)(3.0) == (3.0, 1.0)
    assert value_and_grad(lambda x: x[1])([3.0, 4.0]) == (4.0, [0.0, 1.0])


def test_value_and_grad_may_close_over_values() -> None:
    w = Value(2.0)
    assert value_and_grad(lambda x: w * x * x)(3.0) == (18.0, 12.0)
    assert w.grad == 0.0


def test_value_and_grad_of_several_results_points_to_jacobian() -> None:
    for f in (lambda x: [x, x], lambda x: (x,)):
        with pytest.raises(InputError, match="jacobian"):
            value_and_grad(f)(1.0)


@pytest.mark.parametrize("bad", ["1", None, {"a": 1.0}, 1j, ["a"], [[None]]], ids=repr)
def test_value_and_grad_refuses_arguments_that_are_no_numbers(bad: Any) -> None:
    with pytest.raises(OperandError):
        value_and_grad(lambda x: Value(1.0))(bad)


@pytest.mark.parametrize("result", [None, "1", *cases(lambda: [np.ones(2)])], ids=repr)
def test_value_and_grad_refuses_results_that_are_no_numbers(result: Any) -> None:
    with pytest.raises(OperandError):
        value_and_grad(lambda x: result)(1.0)


def test_an_error_in_the_function_comes_through() -> None:
    with pytest.raises(DomainError):
        value_and_grad(lambda x: x.log())(-1.0)
    with pytest.raises(KeyError):
        jacobian(lambda x: {}["nothing"], [1.0])


# --- jacobian -------------------------------------------------------------------------------------

R, T = 2.0, 0.3
POLAR_JACOBIAN = [[math.cos(T), -R * math.sin(T)], [math.sin(T), R * math.cos(T)]]


def test_jacobian_of_a_function_has_a_row_for_each_output() -> None:
    assert all_close(jacobian(polar, [R, T]), POLAR_JACOBIAN)


def test_jacobian_of_a_graph_is_that_of_the_function() -> None:
    x = leaves(R, T)
    assert jacobian(polar(x), x) == jacobian(polar, [R, T])
    assert jacobian(tuple(polar(x)), tuple(x)) == jacobian(polar, (R, T))
    assert [v.grad for v in x] == [0.0, 0.0]


def test_jacobian_leaves_out_the_axis_of_a_single_value() -> None:
    x, y = leaves(2.0, 3.0)
    z = x * x * y
    assert jacobian(z, x) == 12.0
    assert jacobian(z, [x, y]) == [12.0, 4.0]
    assert jacobian([z, x], y) == [4.0, 0.0]
    assert jacobian([z], [x]) == [[12.0]]
    assert jacobian(lambda x: x**3, 2.0) == 12.0
    assert jacobian(lambda x: [x**3, x], 2.0) == [12.0, 1.0]
    assert jacobian(lambda x: x[0] * x[1], [2.0, 3.0]) == [3.0, 2.0]
    assert jacobian(lambda x: (x[0] * x[1],), [2.0, 3.0]) == [[3.0, 2.0]]


def test_jacobian_of_constants_and_inputs_is_of_zeros_and_ones() -> None:
    assert jacobian(lambda x: [x[0], 5, x[1], 1.5], [2.0, 3.0]) == [[1, 0], [0, 0], [0, 1], [0, 0]]
    assert jacobian(lambda x: Value(5.0), [2.0, 3.0]) == [0.0, 0.0]
    assert jacobian([], [Value(1.0)]) == []
    assert jacobian([Value(1.0)], []) == [[]]


def test_jacobian_takes_an_array_for_the_variables() -> None:
    assert jacobian(polar, np.array([R, T])) == jacobian(polar, [R, T])


def test_jacobian_by_an_intermediate_node_is_the_derivative_by_it() -> None:
    x = Value(2.0)
    u = x * x
    assert jacobian([u * 3, u * x], [x, u]) == [[12.0, 3.0], [12.0, 2.0]]


@pytest.mark.parametrize("bad", [3.0, [3.0], "x", None, [[Value(1.0)]]], ids=repr)
def test_jacobian_refuses_what_is_no_value_on_either_side(bad: Any) -> None:
    x = Value(1.0)
    for outputs, wrt in [(x * x, bad), ([x * x], bad), (bad, x), (bad, [x])]:
        with pytest.raises(OperandError):
            jacobian(outputs, wrt)


# --- hessian --------------------------------------------------------------------------------------


def test_hessian_of_a_function_is_that_worked_out_by_hand() -> None:
    a, b = -1.2, 1.0
    want = [[2 - 400 * b + 1200 * a * a, -400 * a], [-400 * a, 200.0]]
    assert all_close(hessian(rosenbrock, [a, b]), want)


def test_hessian_of_a_graph_is_that_of_the_function() -> None:
    x = leaves(-1.2, 1.0)
    assert hessian(rosenbrock(x), x) == hessian(rosenbrock, [-1.2, 1.0])
    assert hessian(rosenbrock(x), tuple(x)) == hessian(rosenbrock, (-1.2, 1.0))
    assert [v.grad for v in x] == [0.0, 0.0]


def test_hessian_takes_an_array_for_the_variables() -> None:
    assert hessian(rosenbrock, np.array([-1.2, 1.0])) == hessian(rosenbrock, [-1.2, 1.0])


def test_hessian_by_one_variable_is_a_float() -> None:
    x, y = leaves(3.0, 5.0)
    assert hessian(x**2 * y, x) == 10.0
    assert hessian(x**2 * y, [x]) == [[10.0]]
    assert hessian(lambda x: x**4, 2.0) == 48.0
    assert hessian(lambda x: x.sin(), 0.5) == -math.sin(0.5)


def test_hessian_of_a_quadratic_form_is_its_symmetric_matrix_exactly() -> None:
    matrix = [[2.0, -1.0, 0.5], [-1.0, 3.0, 0.0], [0.5, 0.0, 1.0]]

    def form(x: list[Value]) -> Value:
        terms = [0.5 * matrix[i][j] * x[i] * x[j] for i in range(3) for j in range(3)]
        return sum(terms[1:], terms[0])

    assert hessian(form, [0.3, -0.7, 1.1]) == matrix


def test_hessian_of_logsumexp_is_diag_p_minus_p_p() -> None:
    x = [0.3, -0.7, 1.1, 0.0]
    weights = [math.exp(v) for v in x]
    p = [w / math.fsum(weights) for w in weights]
    want = [[p[i] * ((i == j) - p[j]) for j in range(4)] for i in range(4)]
    assert all_close(hessian(lambda x: ops.logsumexp(*x), x), want)


def test_hessian_of_a_linear_or_constant_function_is_zero() -> None:
    zeros = [[0.0, 0.0], [0.0, 0.0]]
    assert hessian(lambda x: 3 * x[0] - x[1], [1.0, 2.0]) == zeros
    assert hessian(lambda x: Value(7), [1.0, 2.0]) == zeros
    assert hessian(lambda x: ops.relu(x[0]) + abs(x[1]), [1.0, -2.0]) == zeros


@settings(max_examples=60)
@given(programs(most=6))
def test_hessians_of_random_programs_are_symmetric_and_agree_with_dual_numbers(
    program: Program,
) -> None:
    got = hessian(lambda x: program.run(x, VALUE)[-1], list(program.inputs))
    want = forward_hessian(program)
    for i, row in enumerate(got):
        for j, entry in enumerate(row):
            size = 1.0 + max(abs(v) for v in want[i])
            assert math.isclose(entry, want[i][j], rel_tol=1e-7, abs_tol=1e-7 * size)
            assert math.isclose(entry, got[j][i], rel_tol=1e-7, abs_tol=1e-7 * size)


def test_hessian_of_several_results_is_refused() -> None:
    x = Value(1.0)
    for output, wrt in [(lambda x: [x], 1.0), ([x * x], x), (3.0, x), (None, [x])]:
        with pytest.raises(InputError, match="one result"):
            hessian(output, wrt)


def test_hessian_of_a_stale_graph_is_refused() -> None:
    x = Value(1.0)
    y = x.sin()
    x.data = 2.0
    with pytest.raises(StaleGraphError):
        hessian(y, x)


# --- jvp ------------------------------------------------------------------------------------------


def test_jvp_of_a_function_gives_values_and_directional_derivatives() -> None:
    values, derivatives = jvp(polar, [R, T], [1.0, 2.0])
    assert all_close(values, [R * math.cos(T), R * math.sin(T)])
    assert all_close(derivatives, [row[0] + 2.0 * row[1] for row in POLAR_JACOBIAN])
    assert jvp(lambda x: x[0] * x[1], [2.0, 3.0], [1.0, 0.0]) == (6.0, 3.0)
    assert jvp(lambda x: x * x, 3.0, 0.5) == (9.0, 3.0)
    assert jvp(lambda x: [x * x, 7], 3.0, 0.5) == ([9.0, 7.0], [3.0, 0.0])


def test_jvp_of_a_graph_gives_directional_derivatives_alone() -> None:
    x, y = leaves(2.0, 3.0)
    z = x * x * y
    assert jvp(z, x, 2.0) == 24.0
    assert jvp(z, [x, y], [1.0, 10.0]) == 52.0
    assert jvp([z, x, y * 2], (x, y), (1.0, 10.0)) == [52.0, 1.0, 20.0]
    assert jvp([], [x], [1.0]) == []
    assert (x.grad, y.grad, z.grad) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "direction", [[1, 10], (True, Fraction(10)), *cases(lambda: [np.array([1.0, 10.0])])]
)
def test_jvp_takes_directions_of_every_numeric_type(direction: Any) -> None:
    x = leaves(2.0, 3.0)
    assert jvp(x[0] * x[1], x, direction) == 23.0


def test_jvp_does_not_depend_on_data_changed_later() -> None:
    x = Value(2.0)
    y = x * x
    x.data = 100.0
    assert jvp(y, x, 1.0) == 4.0


def test_jvp_of_a_variable_named_twice_moves_it_twice() -> None:
    x = Value(2.0)
    assert jvp(x * x, [x, x], [1.0, 1.0]) == 8.0


def test_jvp_by_a_node_and_what_it_was_made_from_is_the_jacobian_times_the_direction() -> None:
    x = Value(2.0)
    y = x * x
    z = y * 3.0
    assert jacobian(z, [x, y]) == [12.0, 3.0]
    assert jvp(z, [x, y], [1.0, 1.0]) == 15.0


@pytest.mark.parametrize("one", [1.0, Value(1.0)])
def test_jvp_by_a_choice_and_what_it_was_made_from_adds_both(one: Any) -> None:
    x, y = leaves(2.0, 5.0)
    chosen = where(greater(x, 0.0), x * 2.0, y)
    result = jvp(chosen * 3.0, [x, chosen], [one, one])
    assert result.data if isinstance(result, Value) else result == 9.0


def test_jvp_refuses_a_choice_whose_condition_was_changed() -> None:
    condition, x = leaves(1.0, 2.0)
    y = where(condition, x, 3.0)
    condition.data = 0.0
    with pytest.raises(StaleGraphError):
        jvp(y, x, Value(1.0))


def test_jvp_ignores_infinite_slopes_of_what_does_not_move() -> None:
    w, x = leaves(0.0, 2.0)
    z = w.sqrt() + x
    assert jacobian(z, [x]) == [1.0]
    assert jvp(z, [x], [1.0]) == jvp(z, [w, x], [0.0, 1.0]) == 1.0
    assert jvp(lambda v: v[0] ** v[1], [-2.0, 3.0], [1, 0]) == (-8.0, 12.0)  # by v[1] it is NaN
    along = value_and_grad(lambda t: jvp(lambda v: v[0].sqrt() + v[1] ** 2, [0.0, t], [0, 1])[1])
    assert along(3.0) == (6.0, 2.0)


@settings(max_examples=100)
@given(programs(), st.lists(st.floats(-2, 2), min_size=3, max_size=3))
def test_jvp_is_the_jacobian_times_the_direction(program: Program, components: list[float]) -> None:
    direction = components[: len(program.inputs)]

    def f(x: list[Value]) -> list[Value]:
        return program.run(x, VALUE)[-3:]

    values, derivatives = jvp(f, list(program.inputs), direction)
    rows = jacobian(f, list(program.inputs))
    assert values == [v.data for v in f(leaves(*program.inputs))]
    for derivative, row in zip(derivatives, rows, strict=True):
        terms = [a * b for a, b in zip(row, direction, strict=True)]
        size = 1.0 + max(map(abs, terms)) + max(map(abs, row))
        assert math.isclose(derivative, sum(terms), rel_tol=1e-8, abs_tol=1e-8 * size)


@pytest.mark.parametrize(
    "direction", [[1.0], [1.0, 2.0, 3.0], [], *cases(lambda: [np.ones(3)])], ids=repr
)
def test_jvp_refuses_a_direction_of_another_length(direction: Any) -> None:
    x = leaves(2.0, 3.0)
    got = len(direction)
    with pytest.raises(InputError, match=f"got {got} for 2") as caught:
        jvp(x[0] * x[1], x, direction)
    assert isinstance(caught.value, ValueError)
    with pytest.raises(InputError):
        jvp(lambda x: x[0] * x[1], [2.0, 3.0], direction)


@pytest.mark.parametrize("direction", [["a", "b"], [None, 1.0], "ab", [[1.0], [2.0]], 1.0, None])
def test_jvp_refuses_a_direction_that_is_no_list_of_numbers(direction: Any) -> None:
    x = leaves(2.0, 3.0)
    with pytest.raises(MicrogradError):
        jvp(x[0] * x[1], x, direction)


@pytest.mark.parametrize("bad", [[3.0], "x", [None], [[Value(1.0)]]], ids=repr)
def test_jvp_refuses_what_is_no_value_on_either_side(bad: Any) -> None:
    x = Value(1.0)
    with pytest.raises(MicrogradError):
        jvp(x * x, bad, [1.0])
    with pytest.raises(MicrogradError):
        jvp(bad, x, 1.0)


# --- together -------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(programs())
def test_both_forms_of_every_transform_agree_to_the_last_bit(program: Program) -> None:
    def f(x: list[Value]) -> Value:
        return program.run(x, VALUE)[-1]

    numbers = list(program.inputs)
    variables = leaves(*numbers)
    root = f(variables)
    ones = [1.0] * len(numbers)
    gradient = grad(root, variables)
    assert value_and_grad(f)(numbers) == (root.data, gradient)
    assert jacobian(f, numbers) == jacobian(root, variables) == gradient
    assert hessian(f, numbers) == hessian(root, variables)
    assert jvp(f, numbers, ones) == (root.data, jvp(root, variables, ones))


def test_newtons_method_finds_the_minimum_of_the_rosenbrock_function() -> None:
    x = [-1.2, 1.0]
    for _ in range(7):
        (_, (a, b)), ((p, q), (_, s)) = value_and_grad(rosenbrock)(x), hessian(rosenbrock, x)
        determinant = p * s - q * q
        x = [x[0] - (s * a - q * b) / determinant, x[1] - (p * b - q * a) / determinant]
    assert all_close(x, [1.0, 1.0])


def test_a_function_is_differentiated_under_no_grad_too() -> None:
    with no_grad():
        assert value_and_grad(lambda x: x * x)(3.0) == (9.0, 6.0)
        assert hessian(lambda x: x**3, 3.0) == 18.0
        assert jacobian(lambda x: [x * x, x], 3.0) == [6.0, 1.0]
        assert jvp(lambda x: x**3, 3.0, 1.0) == (27.0, 27.0)
        assert gradcheck(lambda x: x**3, [3.0]).ok
        assert not (Value(1.0) * 2.0).parents
        value, slope = value_and_grad(lambda x: x * x)(Value(3.0))  # Values, as without no_grad
        assert (value.data, slope.data, value.op, slope.op) == (9.0, 6.0, None, None)
        (row,) = jacobian(lambda x: [x[0] * x[1]], [Value(3.0), 2.0])
        assert [x.data for x in row] == [2.0, 3.0]


def test_a_function_may_have_constant_parts_under_no_grad_as_without_it() -> None:
    forms: list[Callable[[], Any]] = [
        lambda: hessian(lambda v: v[0] * v[0] + v[1], [1.0, 2.0]),
        lambda: hessian(lambda v: 3.0 * v + 1.0, 2.0),
        lambda: jacobian(lambda v: [v[0] * v[1], Value(1.0)], [1.0, 2.0]),
        lambda: value_and_grad(lambda v: Value(2.0))(1.0),
        lambda: jvp(lambda v: [v[0] * 2.0, Value(1.0)], [1.0, 2.0], [1.0, 0.0]),
    ]
    expected = [form() for form in forms]
    with no_grad():
        assert [form() for form in forms] == expected
        for form in (jacobian, hessian, lambda y, x: jvp(y, x, 1.0)):
            with pytest.raises(InputError, match="within no_grad"):
                form(Value(2.0), Value(1.0))


def test_what_a_function_computes_under_no_grad_is_a_constant() -> None:
    def f(x: Any, form: Callable[[Any], Any]) -> Any:
        with no_grad():
            constant = form(x)
        return x * constant

    for form in (
        lambda x: x**3,
        lambda x: value_and_grad(lambda y: y**3 / 3.0 * x)(x)[1],
        lambda x: value_and_grad(lambda y: y**3)(x)[0],
        lambda x: hessian(lambda y: y**5 / 20.0, x),
        lambda x: jacobian(lambda y: [y**4 / 4.0], x)[0],
        lambda x: jvp(lambda y: y**4 / 4.0, x, 1.0)[1],
    ):
        assert value_and_grad(lambda x, form=form: f(x, form))(2.0) == (16.0, 8.0)


def test_a_function_may_return_an_array() -> None:
    A = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert jacobian(lambda x: A @ np.array(x), [1.0, 1.0]) == A.tolist()
    assert jvp(lambda x: A @ np.array(x), [1.0, 1.0], [1.0, 0.0]) == ([3.0, 7.0], [1.0, 3.0])
    assert value_and_grad(lambda x: np.array(x * x))(3.0) == (9.0, 6.0)


def test_forward_and_reverse_mode_agree_on_a_program_worked_out_by_dual_numbers() -> None:
    program = Program((0.5, -1.5), (("mul", (0, 1)), ("tanh", (2,)), ("hypot", (3, 0))))
    f: Callable[[list[Value]], Value] = lambda x: program.run(x, VALUE)[-1]  # noqa: E731
    want = forward_gradient(program)
    assert all_close(jacobian(f, [0.5, -1.5]), want)
    assert all_close([jvp(f, [0.5, -1.5], e)[1] for e in ([1, 0], [0, 1])], want)


# --- nested -------------------------------------------------------------------------------------

FORMS: dict[str, Callable[[Callable[[Any], Any], Any], Any]] = {
    "value_and_grad": lambda f, x: value_and_grad(f)(x)[1],
    "jacobian": jacobian,
    "jvp": lambda f, x: jvp(f, x, 1.0)[1],
    "grad": lambda f, x: grad_of(f, x),
}


def number_of(x: Any) -> float:
    return x.data if isinstance(x, Value) else x


def grad_of(f: Callable[[Any], Any], x: Any) -> Any:
    """By `grad`, as one would write it within a function: with create_graph=True."""
    inner = x * 1.0 if isinstance(x, Value) else Value(x)
    return grad(f(inner), inner, create_graph=True)


@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("second", FORMS)
@pytest.mark.parametrize("third", FORMS)
def test_derivatives_nest_in_any_combination(first: str, second: str, third: str) -> None:
    def f(x: Any) -> Any:
        return x**4 + (2.0 * x).sin()

    x = 0.7
    slope = number_of(FORMS[first](f, x))
    assert math.isclose(slope, 4 * x**3 + 2 * math.cos(2 * x), rel_tol=1e-14)
    curvature = number_of(FORMS[second](lambda y: FORMS[first](f, y), x))
    assert math.isclose(curvature, 12 * x**2 - 4 * math.sin(2 * x), rel_tol=1e-14)
    jerk = number_of(FORMS[third](lambda z: FORMS[second](lambda y: FORMS[first](f, y), z), x))
    assert math.isclose(jerk, 24 * x - 8 * math.cos(2 * x), rel_tol=1e-13)


@pytest.mark.parametrize("outer", FORMS)
def test_the_hessian_nests(outer: str) -> None:
    assert number_of(FORMS[outer](lambda x: hessian(lambda y: y**3, x), 2.0)) == 6.0
    assert hessian(lambda x: FORMS[outer](lambda y: y**4, x), 2.0) == 48.0


@pytest.mark.parametrize("outer", ["value_and_grad", "jacobian", "jvp"])
@pytest.mark.parametrize("inner", FORMS)
def test_a_derivative_is_with_respect_to_its_own_argument_only(outer: str, inner: str) -> None:
    """Perturbation confusion (Siskind and Pearlmutter 2005): d/dx [x · d/dy (x·y)] = 2x."""
    form = FORMS[inner]
    assert FORMS[outer](lambda x: x * form(lambda y: x * y, 2.0), 5.0) == 10.0
    assert FORMS[outer](lambda x: x * form(lambda y: x + y, 1.0), 1.0) == 1.0
    assert FORMS[outer](lambda x: x * form(lambda y: x * y, x), 5.0) == 10.0
    assert FORMS[outer](lambda x: form(lambda y: x * x * y * y, x), 3.0) == 54.0  # 2 x³


@pytest.mark.parametrize("at", [-1.0, 2.0])
@pytest.mark.parametrize("inner", FORMS)
def test_a_variable_further_out_may_choose_and_stand_on_the_side_not_taken(
    inner: str, at: float
) -> None:
    """The inner result is a Value then: a program of it takes the other side elsewhere."""

    def f(x: Any) -> Any:
        return x * FORMS[inner](lambda y: where(greater(x, 0.0), x * y, y * y), 3.0)

    x = Value(at)
    y, slope = value_and_grad(f)(x)
    assert (y.data, slope.data) == ((4.0, 4.0) if at > 0.0 else (-6.0, 6.0))
    run = compile([y, slope], [x], backend="python")
    assert [*run([2.0])] == [4.0, 4.0]
    assert [*run([-2.0])] == [-12.0, 6.0]


@pytest.mark.parametrize("inner", ["value_and_grad", "jacobian", "jvp"])
def test_what_does_not_depend_on_a_variable_further_out_is_a_number(inner: str) -> None:
    w = Value(3.0)
    got: list[Any] = []

    def f(x: Any) -> Any:
        got.append(FORMS[inner](lambda y: w * y * y, 2.0))
        return x * got[-1]

    assert value_and_grad(f)(5.0) == (60.0, 12.0)
    assert got == [12.0]


def test_derivatives_of_values_are_values_in_the_structure_of_the_arguments() -> None:
    x, y = leaves(2.0, 3.0)
    value, (dx, dy) = value_and_grad(lambda x, y: x * x * y)(x, y)
    assert grad(value, [x, y]) == [12.0, 4.0]
    assert grad(dx, [x, y]) == [6.0, 4.0]
    assert grad(dy, [x, y]) == [4.0, 0.0]
    ((a, b),) = jacobian(lambda v: [v[0] * v[1]], [x, y])
    assert (grad(a, [x, y]), grad(b, [x, y])) == ([0.0, 1.0], [1.0, 0.0])
    assert (x.grad, y.grad) == (0.0, 0.0)


def test_the_direction_of_jvp_may_be_of_values() -> None:
    x, v = leaves(3.0, 0.5)
    value, tangent = jvp(lambda z: z**3, x, v)
    assert (value.data, tangent.data) == (27.0, 13.5)
    assert grad(tangent, [x, v]) == [9.0, 27.0]


def test_after_a_function_that_raises_nothing_is_traced_any_more() -> None:
    x = Value(2.0)

    def fails(v: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        value_and_grad(fails)(1.0)
    assert value_and_grad(lambda y: x * y)(2.0) == (4.0, 2.0)


def test_a_function_further_in_may_run_in_another_thread() -> None:
    def in_a_thread(x: Any) -> Any:
        with ThreadPoolExecutor(1) as threads:
            return x * threads.submit(lambda: value_and_grad(lambda y: y**3 * x)(2.0)[1]).result()

    assert value_and_grad(in_a_thread)(5.0) == (300.0, 120.0)


@given(programs())
def test_the_gradient_of_a_directional_derivative_is_a_row_of_the_hessian(program: Program) -> None:
    def f(xs: Any) -> Any:
        return program.run(xs, VALUE)[-1]

    x = list(program.inputs)
    unit = [1.0, *(0.0 for _ in x[1:])]
    try:
        want = hessian(f, x)[0]
    except DomainError:
        return
    got = value_and_grad(lambda xs: jvp(f, xs, unit)[1])(x)[1]
    for a, b in zip(got, want, strict=True):
        assert a == b or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) or (a != a or b != b)


# --- questions about nodes ------------------------------------------------------------------------


@given(programs())
def test_between_has_what_depends_on_the_given_and_leads_to_the_root(program: Program) -> None:
    inputs = leaves(*program.inputs)
    root, given = program.run(inputs, VALUE)[-1], inputs[:1]
    depends = set(given)
    for node in topological_order(root):
        if any(parent in depends for parent in node.parents):
            depends.add(node)
    found = between(root, given)
    assert list(found) == [node for node in topological_order(root) if node in depends]
    assert all(found[node] == node.operands for node in found)


def test_between_stops_at_nothing_before_an_intermediate_node():
    x, y = leaves(2.0, 3.0)
    inner = x * y
    outer = inner + x
    assert list(between(outer, [inner])) == [inner, outer]
    assert list(between(outer, [x])) == [x, inner, outer]
    assert list(between(outer, [Value(1.0)])) == []


@given(programs())
def test_adjoints_as_graphs_have_the_numbers_of_adjoints(program: Program) -> None:
    inputs = leaves(*program.inputs)
    root = program.run(inputs, VALUE)[-1]
    numbers = adjoints(root)
    for node, graph in adjoint_graphs(root, inputs).items():
        assert (graph.data if isinstance(graph, Value) else graph) == numbers.get(node, 0.0)


def test_a_node_recomputed_follows_the_data_of_its_operands():
    x, y = leaves(2.0, 3.0)
    node = log(x * y)
    assert recomputed(node) == node.data
    assert recomputed(x) == 2.0
    node.parents[0].data = 5.0
    assert recomputed(node) == math.log(5.0)
    node.parents[0].data = -5.0
    assert math.isnan(recomputed(node))


@pytest.mark.parametrize(
    ("make", "change", "stale"),
    [
        (lambda x: x * 2.0, 3.0, True),
        (lambda x: x * 2.0, 1.0, False),
        (lambda x: relu(x), -1.0, True),
        (lambda x: x - x, 7.0, False),
        (lambda x: log(x), -1.0, True),
        (lambda x: x * x * 0.0, 4.0, False),
        (lambda x: affine([x], [1.0], 1.0), 5.0, True),
    ],
)
def test_a_node_is_stale_where_its_operands_do_not_give_it_any_more(make, change, stale):
    x = Value(1.0)
    node = make(x)
    assert not is_stale(node)
    assert not is_stale(x)
    x.data = change
    assert is_stale(node) == stale


def test_a_node_whose_value_is_the_same_is_stale_where_its_derivatives_are_not():
    x = Value(3.0)
    square = x * x
    x.data = -3.0
    assert recomputed(square) == square.data
    assert is_stale(square)


# --- derivatives where the chain rule meets 0 times infinity --------------------------------------


def nth(f, x, order):
    """The derivative of that order, by differentiating graphs again and again."""
    leaf = Value(x)
    y = f(leaf)
    for _ in range(order):
        y = grad(y, leaf, create_graph=True)
    return y.data


@pytest.mark.parametrize("k", range(7))
def test_derivatives_of_a_whole_power_at_0_are_the_polynomials(k):
    for order in range(k + 5):
        want = math.factorial(k) if order == k else 0.0
        assert nth(lambda x: x**k, 0.0, order) == want
        assert nth(lambda x: x ** float(k), -0.0, order) == want
        assert nth(lambda x: x ** Value(k), 0.0, order) == want


@pytest.mark.parametrize("y", [0.0, 1.0, 2.0, 3.0, 0.3])
def test_derivatives_of_a_power_by_its_exponent_follow_those_by_its_base(y):
    x, y = Value(1.7), Value(y)
    second = grad(grad(x**y, x, create_graph=True), x, create_graph=True)
    want = 1.7 ** (y.data - 2) * (2 * y.data - 1 + y.data * (y.data - 1) * math.log(1.7))
    assert grad(second, y) == pytest.approx(want, rel=1e-14)
    third = grad(second, x, create_graph=True)
    program = compile([second, third], [x, y], [x], backend="python")
    assert program([0.0, 2.0]) == ([2.0, 0.0], [[0.0], [0.0]])


@given(x=st.floats(0.1, 3), y=st.floats(-3, 3), m=st.integers(0, 3), n=st.integers(0, 3))
def test_mixed_derivatives_of_a_power_are_those_of_its_formula(x, y, m, n):
    # (y)_m · x**(y - m), as a function of y alone: n derivatives of that by graphs
    a, b = Value(x), Value(y)
    got = a**b
    for _ in range(m):
        got = grad(got, a, create_graph=True)
    for _ in range(n):
        got = grad(got, b, create_graph=True)

    def other(t):
        product = t * 0.0 + 1.0
        for j in range(m):
            product = product * (t - j)
        return product * ((t - m) * math.log(x)).exp()

    want = nth(other, y, n)
    assert got.data == pytest.approx(want, rel=1e-9, abs=1e-9 * max(1.0, x ** (y - m)))


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "silu", "gelu", "erf"])
@pytest.mark.parametrize("x", [math.inf, -math.inf, 1e308, -1e308, 1500.0, -1500.0])
def test_derivatives_of_any_order_have_their_limits_at_infinity(name, x):
    v = Value(x)
    slope = grad(ops.TABLE[name](v), v, create_graph=True)
    assert slope.data == (1.0 if x > 0.0 and name in ("softplus", "silu", "gelu") else 0.0)
    for _ in range(4):
        slope = grad(slope, v, create_graph=True)
        assert slope.data == 0.0


def test_second_derivatives_of_x_to_the_y_at_0_are_limits():
    assert hessian(lambda v: v[0] ** v[1], [0.0, 3.0]) == [[0.0, 0.0], [0.0, 0.0]]
    assert hessian(lambda v: v[0] ** v[1], [0.0, 2.0]) == [[2.0, 0.0], [0.0, 0.0]]
    for y in (0.5, 2.0, 7.0):  # 0**y is 0 for all y > 0
        for order in range(4):
            assert nth(lambda exponent: 0.0**exponent, y, order) == 0.0
    y = Value(3.0)
    assert math.isnan(grad(Value(-1e-200) ** y, y))  # though the power underflows


def test_derivatives_of_powers_survive_a_pickle():
    x, y = Value(0.5, "x"), Value(1.5, "y")
    third = grad(grad(grad(x**y, x, create_graph=True), y, create_graph=True), y, create_graph=True)
    again = pickle.loads(pickle.dumps(third))
    assert again.data == third.data
    assert again.op is third.op


def lattice(plus, a, b):
    """Log-probability of the last state of a chain: the only path there is b, b, b."""
    states = [Value(0.0), -math.inf, -math.inf, -math.inf]
    for _ in range(3):
        states = [
            states[0] + a,
            *(plus(states[j] + a, states[j - 1] + b) for j in (1, 2, 3)),
        ]
    return states[3]


@pytest.mark.parametrize("plus", [logaddexp, logsumexp])
def test_paths_that_are_impossible_take_no_share(plus):
    a, b = Value(-0.3), Value(-1.2)
    root = lattice(plus, a, b)
    assert root.data == pytest.approx(-3.6)
    assert grad(root, [a, b]) == [0.0, 3.0]
    assert jacobian(grad(root, [a, b], create_graph=True), [a, b]) == [[0.0, 0.0], [0.0, 0.0]]
    value, gradient = compile(root, [a, b], [a, b], backend="python")([-0.5, -2.0])
    assert (value, list(gradient)) == (-6.0, [0.0, 3.0])


@pytest.mark.parametrize("x", [-math.inf, -1.0, 2.0, math.inf])
@pytest.mark.parametrize("y", [-math.inf, 0.5, math.inf])
def test_logaddexp_and_logsumexp_of_two_are_alike_at_infinities(x, y):
    results = []
    for plus in (logaddexp, logsumexp):
        a, b = Value(x), Value(y)
        out = plus(a, b)
        results.append((out.data, *grad(out, [a, b])))
    assert results[0] == pytest.approx(results[1], rel=1e-14)
    both = x if x == y else 0.0
    assert sum(results[0][1:]) == pytest.approx(1.0 + math.copysign(1.0, both) * math.isinf(both))


# --- a choice -------------------------------------------------------------------------------------


def guarded(x, condition):
    """exp(x) where the condition holds, else 1 + x·x: at 1000 one side is infinite."""
    return where(condition(x), x.exp(), 1 + x * x)


CONDITIONS = {
    "a number": lambda x: 0,
    "a bool": lambda x: False,
    "an operation": lambda x: greater(0.0, x),
    "a product of operations": lambda x: greater(0.0, x) * greater(5.0, x),
}


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=list(CONDITIONS))
def test_the_side_that_is_not_taken_has_no_part_in_derivatives_of_any_order(condition):
    x = Value(1000.0)
    y = guarded(x, condition)
    y.backward()
    assert x.grad == grad(y, x) == 2000.0
    assert [nth(lambda x: guarded(x, condition), 1000.0, k) for k in (1, 2, 3)] == [2000, 2, 0]

    def along(x):
        return jvp(lambda x: guarded(x, condition), x, 1.0)[1]

    assert along(1000.0) == 2000.0
    assert jvp(along, 1000.0, 1.0)[1] == 2.0


@pytest.mark.parametrize("backend", ["python", "numpy", "numba"])
def test_a_program_takes_the_side_that_its_inputs_choose(backend):
    pytest.importorskip("numpy")
    if backend == "numba":
        pytest.importorskip("numba")
    x = Value(-1.0, "x")
    y = guarded(x, lambda x: greater(0.0, x))
    first = grad(y, x, create_graph=True)
    program = compile([y, first], [x], [x], backend=backend)
    for at in (-2.0, 3.0, 1000.0, 1e200):
        (value, slope), jacobian = program([at])
        want = [math.exp(at)] * 3 if at < 0 else [1 + at * at, 2 * at, 2.0]
        assert [value, slope] == pytest.approx(want[:2], rel=1e-12)
        assert [float(jacobian[0][0]), float(jacobian[1][0])] == pytest.approx(want[1:], rel=1e-12)


def test_what_is_shared_between_sides_and_outside_counts_where_it_is_used():
    def f(v):
        x, c, d = v
        shared = (x * 3).sin()
        inner = where(d, shared * 2, shared.exp() * x)
        return where(c, inner + shared, x * shared) + shared

    def plain(v, c, d):
        x = v[0]
        shared = (x * 3).sin()
        inner = shared * 2 if d else shared.exp() * x
        return (inner + shared if c else x * shared) + shared

    conditions = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)]
    leaves = [Value(0.7, "x"), Value(1.0, "c"), Value(1.0, "d")]
    root = f(leaves)
    program = compile(root, leaves, leaves[:1], backend="python")
    second = compile(grad(root, leaves[0], create_graph=True), leaves, leaves[:1], backend="python")
    for c, d in conditions:
        x = Value(0.4)
        want = plain([x], c, d)
        slope = grad(want, x, create_graph=True)
        value, (first,) = program([0.4, c, d])
        assert [value, first] == pytest.approx([want.data, slope.data])
        assert [*second([0.4, c, d])[1]] == pytest.approx([grad(slope, x)])
        y = f([x, Value(c), Value(d)])
        assert grad(y, x) == pytest.approx(slope.data, rel=1e-15)


def test_choices_of_the_same_condition_below_different_ones_keep_them_apart():
    x, y, c, d = Value(2.0, "x"), Value(1.0, "y"), Value(0.0, "c"), Value(1.0, "d")
    root = where(c, where(y, x**2, 0.0), 0.0) + where(d, where(y, x**3, 0.0), 0.0)
    assert grad(root, x) == grad(root, x, create_graph=True).data == 12.0
    assert jvp(root, x, 1.0) == 12.0
    root = where(c, where(y, x**2, 0.0), where(y, x**3, 0.0))
    first = grad(root, x, create_graph=True)
    second = grad(first, x, create_graph=True)
    assert [first.data, second.data, grad(second, x)] == [12.0, 12.0, 6.0]
    program = compile(root, [x, y, c], [x], backend="python")
    for at, value, slope in [((2.0, 1.0, 1.0), 4.0, 4.0), ((2.0, 0.0, 1.0), 0.0, 0.0)]:
        assert program(at) == (value, [slope])


@pytest.mark.parametrize("c", [0.0, 1.0])
@pytest.mark.parametrize("d", [0.0, 1.0])
def test_what_sides_of_several_choices_share_has_no_part_where_none_is_taken(c, d):
    x, c, d = Value(0.0, "x"), Value(c, "c"), Value(d, "d")
    root = x.sqrt()
    root = where(c, root, 0.0) + where(d, where(c, 0.0, root * 2), 0.0) + 3 * x + x * x
    first = grad(root, x, create_graph=True)
    taken = c.data or d.data
    assert first.data == grad(root, x) == jvp(root, x, 1.0) == (math.inf if taken else 3.0)
    if not taken:
        assert grad(first, x) == 2.0
        traced = compile(root, [x, c, d], [x], backend="python")
        assert traced([0.0, 0.0, 0.0]) == (0.0, [3.0])
        assert traced([4.0, 0.0, 1.0]) == (32.0, [11.5])


def test_a_choice_survives_copies_and_pickles_with_both_sides():
    x = Value(2.0, "x")
    root = where(greater(x, 0.0), x * 3, x.exp())
    for twin in (copy.deepcopy(root), pickle.loads(pickle.dumps(root))):
        (leaf,) = [n for n in topological_order(twin, untaken=True) if n.op is None]
        assert (twin.data, grad(twin, leaf)) == (6.0, 3.0)
        value, (slope,) = compile(twin, [leaf], [leaf], backend="python")([-1.0])
        assert value == slope == pytest.approx(math.exp(-1))


def test_a_condition_that_changed_makes_a_choice_stale():
    c, x, y = Value(1.0), Value(2.0), Value(2.0)
    root = where(c, x, y)
    c.data = 0.0  # the same number, from the other side
    assert is_stale(root)
    with pytest.raises(StaleGraphError):
        grad(root, x, create_graph=True)


def test_a_partial_that_is_another_one_for_values_is_not_called_a_change_of_data(made_up):
    larger = made_up(
        "larger",
        max,
        [lambda x, y, out: 1.0 if x == out else 0.0, lambda x, y, out: 1.0 if y == out else 0.0],
    )
    x, y = Value(3.0), Value(2.0)
    root = larger(x, y) * x
    assert grad(root, [x, y]) == [6.0, 0.0]
    with pytest.raises(StaleGraphError, match=r"a partial of larger .* write >= or <="):
        grad(root, x, create_graph=True)
    x.data = 4.0
    with pytest.raises(StaleGraphError, match="data was changed after"):
        grad(root, x, create_graph=True)


def test_where_says_what_it_is_and_chooses_numbers():
    assert where(True, 1.0, 2.0) == 1.0
    assert where(greater(1.0, 2.0), 1.0, 2.0) == 2.0
    assert "Both sides" in " ".join(where.__doc__.split())
    with pytest.raises(DomainError):
        where(greater(Value(-1.0), 0.0), log(Value(-1.0)), 0.0)
    x = Value(-1.0)
    safe = where(greater(x, 0.0), x, 1.0)
    y = where(greater(x, 0.0), log(safe), 0.0)
    assert (y.data, grad(y, x)) == (0.0, 0.0)


# --- ties -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("extreme", [maximum, minimum])
@given(numbers=st.lists(st.sampled_from([-1.0, 0.5, 2.0]), min_size=1, max_size=6))
def test_a_tie_of_k_splits_1_over_k_each(extreme, numbers):
    xs = list(map(Value, numbers))
    best = (max if extreme is maximum else min)(numbers)
    want = [float(x == best) / numbers.count(best) for x in numbers]
    y = extreme(*xs)
    assert (y.data, extreme(*numbers)) == (best, best)
    assert grad(y, xs) == pytest.approx(want)
    graphs = grad(y * y, xs, create_graph=True)
    assert [g.data for g in graphs] == pytest.approx([2 * best * share for share in want])
    assert grad(graphs[0], xs) == pytest.approx([2 * want[0] * share for share in want])


@pytest.mark.parametrize("backend", ["python", "numpy", "numba", "jax"])
def test_max_of_many_compiles(backend):
    pytest.importorskip({"python": "numpy"}.get(backend, backend))
    xs = [Value(x, f"x[{i}]") for i, x in enumerate((1.0, -2.0, 0.5, 1.0))]
    program = compile(maximum(*xs) * minimum(*xs), xs, xs, backend=backend)
    for numbers in ([1.0, 2.0, 3.0, 3.0], [0.0, 0.0, 0.0, 0.0], [5.0, -1.0, -1.0, -1.0]):
        leaves = list(map(Value, numbers))
        want = grad(maximum(*leaves) * minimum(*leaves), leaves)
        assert list(map(float, program(numbers)[1])) == pytest.approx(want)


def test_max_refuses_nothing_at_all_and_passes_nan_on():
    with pytest.raises(InputError, match="max needs at least one"):
        maximum()
    assert math.isnan(maximum(1.0, math.nan, 2.0))
    assert all(map(math.isnan, grad(maximum(x := Value(math.nan), Value(2.0), Value(1.0)), [x])))


@pytest.mark.parametrize("form", [jacobian, hessian, lambda f, x: jvp(f, x, [1.0])])
def test_a_function_of_nested_numbers_is_for_value_and_grad_as_the_others_say(form: Any) -> None:
    with pytest.raises(OperandError, match=r"a list of numbers \(value_and_grad takes nested"):
        form(lambda x: x[0][0] ** 2, [[3.0]])
    assert value_and_grad(lambda x: x[0][0] ** 2)([[3.0]]) == (9.0, [[6.0]])


@pytest.mark.parametrize("listing", [list, tuple, iter, lambda xs: (x for x in xs), dict.fromkeys])
def test_the_forms_take_whatever_lists_the_variables_and_go_through_it_once(
    listing: Callable[[Any], Any],
) -> None:
    x, y = Value(2.0), Value(3.0)
    f = x * y**2
    assert grad(f, listing([x, y])) == [9.0, 12.0]
    assert jacobian(listing([f, x * y]), listing([x, y])) == [[9.0, 12.0], [3.0, 2.0]]
    assert hessian(f, listing([x, y])) == [[0.0, 6.0], [6.0, 4.0]]
    assert jvp(listing([f, x * y]), listing([x, y]), [1.0, 0.0]) == [9.0, 3.0]
    nested = value_and_grad(lambda z: hessian(z * x * y**2, listing([x, y]))[0][1])(2.0)
    assert [float(v.data if isinstance(v, Value) else v) for v in nested] == [12.0, 6.0]


def test_within_no_grad_a_constant_has_no_derivatives() -> None:
    x = Value(2.0)
    outside = x * x
    with no_grad():
        assert grad(outside, x) == 4.0
        for create_graph in (False, True):
            with pytest.raises(InputError, match="no_grad"):
                grad(x * x, x, create_graph=create_graph)
        with pytest.raises(InputError, match="no_grad"):
            jvp([x * x, x], x, 1.0)
        assert jvp([outside, x], x, 1.0) == [4.0, 1.0]
        assert jvp(lambda x: x * x, 2.0, 1.0) == (4.0, 4.0)
        assert value_and_grad(lambda x: x * x)(2.0) == (4.0, 4.0)
        assert grad(x, x) == 1.0
