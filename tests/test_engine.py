"""`Value` and its graph: what a node holds, what a sweep does, and what is refused."""

from __future__ import annotations

import copy
import gc
import itertools
import math
import operator
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optional import cases, np
from reference import (
    BINARY,
    COMPLEX,
    DUAL,
    VALUE,
    Program,
    check_gradient,
    complex_step_gradient,
    forward_gradient,
    forward_hessian,
    programs,
    same,
)

from micrograd_like import Op, Value, affine, grad, no_grad, ops, topological_order
from micrograd_like.engine import packed
from micrograd_like.errors import (
    DomainError,
    InputError,
    MicrogradError,
    OperandError,
    StaleGraphError,
)

INF, NAN = math.inf, math.nan


def leaves(*data: float) -> list[Value]:
    return [Value(x) for x in data]


def nodes_of(program: Program) -> tuple[list[Value], Value]:
    """The inputs and the root of a program's graph."""
    inputs = leaves(*program.inputs)
    return inputs, program.run(inputs, VALUE)[-1]


# --- the node -------------------------------------------------------------------------------------


def test_a_leaf_has_data_and_nothing_else() -> None:
    x = Value(3, label="x")
    assert (x.data, x.grad, x.op, x.label) == (3.0, 0.0, None, "x")
    assert x.parents == x.local_grads == x.operands == ()
    assert type(x.data) is type(x.grad) is float


def test_a_node_has_its_op_its_parents_in_order_and_a_local_derivative_for_each() -> None:
    a, b = leaves(6.0, 3.0)
    for node, row, local in [
        (a + b, ops.add, (1.0, 1.0)),
        (a - b, ops.sub, (1.0, -1.0)),
        (a * b, ops.mul, (3.0, 6.0)),
        (a / b, ops.div, (1 / 3, -(2 / 3))),
        (b - a, ops.sub, (1.0, -1.0)),
    ]:
        first, second = (b, a) if node.data == -3.0 else (a, b)
        assert (node.op, node.parents, node.local_grads) == (row, (first, second), local)
        assert node.operands == node.parents


def test_parents_repeat_where_an_operand_does() -> None:
    x = Value(3.0)
    assert ((x * x).parents, (x * x).local_grads) == ((x, x), (3.0, 3.0))
    assert ops.where(x, x, x).parents == (x,)  # the side that is taken
    assert affine([x, x], [x, x], x).parents == (x,) * 5
    assert grad(x * x, x) == 6.0
    assert grad(affine([x, x], [x, x], x), x) == 13.0


@pytest.mark.parametrize(
    ("make", "operands", "local"),
    [
        (lambda x: x + 2, (None, 2.0), (1.0,)),
        (lambda x: 2 + x, (2.0, None), (1.0,)),
        (lambda x: x - 2, (None, 2.0), (1.0,)),
        (lambda x: 2 - x, (2.0, None), (-1.0,)),
        (lambda x: x * 2, (None, 2.0), (2.0,)),
        (lambda x: 2 * x, (2.0, None), (2.0,)),
        (lambda x: x / 2, (None, 2.0), (0.5,)),
        (lambda x: 2 / x, (2.0, None), (-0.125,)),
        (lambda x: x**2, (None, 2.0), (8.0,)),
        (lambda x: 2**x, (2.0, None), (16.0 * math.log(2.0),)),
        (lambda x: ops.where(1.0, x, 5.0), (1.0, None, 5.0), (1.0,)),
        (lambda x: ops.logsumexp(1.0, x), (1.0, None), (1 / (1 + math.exp(-3.0)),)),
    ],
)
def test_constants_are_operands_but_not_parents(
    make: Callable[[Value], Value], operands: tuple[float | None, ...], local: tuple[float, ...]
) -> None:
    x = Value(4.0)
    node = make(x)
    assert node.parents == (x,)
    assert node.operands == tuple(x if a is None else a for a in operands)
    assert all(type(a) is float for a in node.operands if a is not x)
    assert node.local_grads == pytest.approx(local, rel=1e-15)


@pytest.mark.parametrize(
    "number",
    [True, 1, 1.0, Fraction(1), *cases(lambda: [np.float32(1), np.int64(1), np.bool_(True)])],
    ids=repr,
)
def test_every_numeric_type_becomes_a_float(number: Any) -> None:
    assert type(Value(number).data) is float
    assert [type(a) for a in (Value(2.0) + number).operands] == [Value, float]
    assert type(affine([Value(2.0)], [3.0], number).operands[-1]) is float


def test_data_that_is_assigned_becomes_a_float() -> None:
    x = Value(1.0)
    x.data = 2
    assert (type(x.data), x.data) == (float, 2.0)


def test_changing_data_later_does_not_falsify_a_backward_pass() -> None:
    a, b = leaves(2.0, 3.0)
    y = (a * b).tanh() * a + b.exp()
    want = grad(y, [a, b])
    a.data, b.data = 100.0, -100.0
    assert grad(y, [a, b]) == want
    y.backward()
    assert [a.grad, b.grad] == want
    assert y.local_grads == (1.0, 1.0)


def test_data_grad_and_label_are_writable_and_the_graph_is_not() -> None:
    x = Value(1.0)
    y = x * x
    y.label, y.grad, x.data = "y", 5.0, 3.0
    assert (y.label, y.grad, (x * x).data, y.data) == ("y", 5.0, 9.0, 1.0)
    for name in ("parents", "local_grads", "operands", "nonsense"):
        with pytest.raises(AttributeError):
            setattr(y, name, ())


def test_data_that_is_not_a_number_is_refused_and_the_old_stays() -> None:
    x = Value(1.0)
    with pytest.raises(OperandError):
        x.data = "2"
    assert x.data == 1.0


def test_repr_shows_data_grad_and_label() -> None:
    x = Value(2.0, label="w")
    assert repr(x) == "Value(data=2.0, grad=0.0, label='w')"
    assert repr(x * 3) == "Value(data=6.0, grad=0.0)"


def test_detach_cuts_the_graph_and_keeps_the_number() -> None:
    x = Value(2.0)
    y = x * x
    y.label = "y"
    cut = y.detach()
    assert (cut.data, cut.label, cut.parents, cut.op) == (4.0, "y", (), None)
    assert grad(cut * x, x) == 4.0


def test_positive_is_the_node_itself() -> None:
    x = Value(2.0)
    assert +x is x


# --- identity, order and truth --------------------------------------------------------------------


def test_equality_and_hash_are_identity() -> None:
    a, b = leaves(1.0, 1.0)
    assert a == a
    assert a != b
    assert a != 1.0
    assert len({a, b, a}) == 2
    assert b not in [a]
    key = {a: "a"}
    a.data = 5.0
    assert key[a] == "a"


@pytest.mark.parametrize("other", [lambda x: Value(x), lambda x: x, lambda x: np.float64(x)])
@pytest.mark.parametrize("compare", [operator.lt, operator.le, operator.gt, operator.ge])
def test_comparisons_go_by_data(compare: Callable[..., bool], other: Callable[..., Any]) -> None:
    for x, y in itertools.product([-1.0, 0.0, 2.0, INF, NAN], repeat=2):
        assert compare(Value(x), other(y)) is compare(x, y)
        assert compare(other(x), Value(y)) is compare(x, y)


def test_sum_max_min_and_sorted_work_on_values() -> None:
    xs = leaves(3.0, 1.0, 2.0)
    assert sum(xs).data == 6.0
    assert grad(sum(xs), xs) == [1.0, 1.0, 1.0]
    assert max(xs) is xs[0]
    assert min(xs) is xs[1]
    assert sorted(xs) == [xs[1], xs[2], xs[0]]
    assert max(xs, key=lambda x: -x.data) is xs[1]


def test_a_branch_on_a_node_is_refused() -> None:
    x = Value(1.0, label="x")
    for branch in (bool, lambda v: v and 1, lambda v: not v, lambda v: 1 if v else 0):
        with pytest.raises(OperandError, match=r"label='x'.*\.data") as caught:
            branch(x)
        assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("convert", [float, int, complex, round, math.exp, math.floor, math.fsum])
def test_a_value_does_not_turn_into_a_number_by_itself(convert: Callable[..., Any]) -> None:
    x = Value(1.0)
    with pytest.raises(TypeError):
        convert([x] if convert is math.fsum else x)


# --- what may stand beside a Value ----------------------------------------------------------------


def kind_of(x: Any) -> str:
    return type(x).__name__


ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge]
NUMPY_NUMBERS = [
    np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64, np.float16, np.float32,
    np.float64, np.longdouble, np.bool_,
]  # fmt: skip


@pytest.mark.parametrize(
    "number", [*cases(lambda: [kind(2) for kind in NUMPY_NUMBERS]), True, 2, Fraction(2)], ids=repr
)
@pytest.mark.parametrize("apply", ARITHMETIC)
def test_numbers_of_every_type_stand_on_either_side_of_an_operator(
    apply: Callable[..., Value], number: Any
) -> None:
    x = Value(3.0)
    right, left = apply(x, number), apply(number, x)
    assert (type(right), type(left)) == (Value, Value)
    assert (right.data, left.data) == (apply(3.0, float(number)), apply(float(number), 3.0))
    assert right.parents == left.parents == (x,)
    assert right.operands == (x, float(number))
    assert left.operands == (float(number), x)


@pytest.mark.parametrize("apply", COMPARISONS)
def test_arrays_are_refused_on_either_side_of_a_comparison(apply: Callable[..., Any]) -> None:
    x = Value(3.0)
    for array in (np.ones(2), np.ones((2, 2)), np.ones(2, dtype=int), np.array([None])):
        for args in [(x, array), (array, x)]:
            with pytest.raises(OperandError, match="one Value an element"):
                apply(*args)


@pytest.mark.parametrize("apply", ARITHMETIC)
def test_arrays_of_what_is_no_number_are_refused(apply: Callable[..., Any]) -> None:
    x = Value(3.0)
    for array in (np.array([None]), np.array([1j]), np.array([{}])):
        for args in [(x, array), (array, x)]:
            with pytest.raises((OperandError, ValueError)):
                apply(*args)


@pytest.mark.parametrize("bad", ["1", None, [1.0], (1.0,), {}, b"1", 1j, object()], ids=kind_of)
@pytest.mark.parametrize("apply", ARITHMETIC + COMPARISONS)
def test_what_is_no_number_is_refused_on_either_side_of_an_operator(
    apply: Callable[..., Any], bad: Any
) -> None:
    x = Value(3.0)
    for args in [(x, bad), (bad, x)]:
        with pytest.raises(OperandError, match=f"of type {type(bad).__name__}"):
            apply(*args)


@pytest.mark.parametrize("apply", [operator.matmul, operator.floordiv, divmod])
@pytest.mark.parametrize("other", [Value(3.0), 2.0, *cases(lambda: [np.ones(1)])], ids=repr)
def test_operators_without_a_row_are_type_errors(apply: Callable[..., Any], other: Any) -> None:
    x = Value(3.0)
    for args in [(x, other), (other, x)]:
        with pytest.raises(TypeError):
            apply(*args)


def test_numpy_functions_refuse_values() -> None:
    x = Value(3.0)
    for f in (np.exp, np.tanh, np.abs):
        with pytest.raises(TypeError):
            f(x)
    array = np.ones(2)
    with pytest.raises(TypeError):
        array += x
    assert array.tolist() == [1.0, 1.0]


class Parameter(Value):
    """A Value of the user's own kind."""


@pytest.mark.parametrize("apply", ARITHMETIC)
def test_subclasses_of_value_are_operands_like_any_other(apply: Callable[..., Value]) -> None:
    p, x = Parameter(3.0, label="p"), Value(2.0)
    for args in [(p, x), (x, p), (p, 2.0), (2.0, p), (p, p)]:
        node = apply(*args)
        assert node.data == apply(*[a.data if isinstance(a, Value) else a for a in args])
        assert node.parents == tuple(a for a in args if isinstance(a, Value))
    assert (p > x, x > p, p.tanh().parents, ops.hypot(p, x).parents) == (True, False, (p,), (p, x))
    assert affine([p, x], [x, p], p).parents == (p, x, x, p, p)
    y = p * p + x
    y.backward()
    assert (p.grad, grad(y, p), p.label) == (6.0, 6.0, "p")


def test_a_domain_error_in_an_operator_names_the_labels() -> None:
    a, b = Value(-8.0, label="a"), Value(0.5, label="b")
    with pytest.raises(DomainError, match=r"pow .*-8\.0 \(label 'a'\), 0\.5 \(label 'b'\)"):
        a**b
    with pytest.raises(DomainError, match=r"pow .*-8\.0 \(label 'a'\), 0\.5$"):
        a**0.5
    with pytest.raises(DomainError, match=r"pow .*got -8, 0\.5 \(label 'b'\)|got -8\.0, 0\.5"):
        (-8) ** b
    zero = Value(0.0, label="z")
    for divide in (lambda: a / zero, lambda: 1 / zero, lambda: a / 0, lambda: zero**-1):
        with pytest.raises(DomainError, match=r"label '[az]'"):
            divide()
    with pytest.raises(DomainError, match=r"log is defined on \(0, inf\), got -8\.0 \(label 'a'\)"):
        a.log()


def test_dividing_an_infinity_or_nan_by_zero_is_no_error() -> None:
    assert (Value(INF) / 0).data == (Value(INF) / Value(0.0)).data == (INF / Value(0.0)).data == INF
    assert math.isnan((Value(NAN) / 0).data)


# --- inlined partials -----------------------------------------------------------------------------

SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.5, -3.0, 1e-320, 1e200, -1e200, 1e308, INF, -INF, NAN]
OPERATORS = {"add": operator.add, "sub": operator.sub, "mul": operator.mul,
             "div": operator.truediv, "pow": operator.pow}  # fmt: skip


def bits(x: float) -> str:
    """Every bit of `x` but the payload of a NaN, in letters."""
    return x.hex()


def check_operator_against_row(name: str, xs: tuple[float, float], form: tuple[bool, bool]) -> None:
    """Fail where the operator's value or local derivatives are not the row's, bit for bit."""
    row = ops.TABLE[name]
    args = [Value(x) if is_value else x for x, is_value in zip(xs, form, strict=True)]
    try:
        data = row.evaluate(xs)
    except DomainError as error:
        with pytest.raises(DomainError, match=re.escape(str(error))):
            OPERATORS[name](*args)
        return
    node = OPERATORS[name](*args)
    want = [
        partial(*xs, data) for partial, is_value in zip(row.partials, form, strict=True) if is_value
    ]
    assert (node.op, node.operands) == (row, tuple(args))
    assert bits(node.data) == bits(data)
    got = list(map(bits, node.local_grads))
    assert got == list(map(bits, want)), f"local derivatives of {name} at {xs}"


@pytest.mark.parametrize("form", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_has_the_partials_of_its_row_bit_for_bit_at_special_values(
    name: str, form: tuple[bool, bool]
) -> None:
    for xs in itertools.product(SPECIAL, repeat=2):
        check_operator_against_row(name, xs, form)


@given(
    name=st.sampled_from(sorted(OPERATORS)),
    xs=st.tuples(st.floats(), st.floats()),
    form=st.sampled_from([(True, True), (True, False), (False, True)]),
)
def test_an_operator_has_the_partials_of_its_row_bit_for_bit_anywhere(
    name: str, xs: tuple[float, float], form: tuple[bool, bool]
) -> None:
    check_operator_against_row(name, xs, form)


@pytest.mark.parametrize("name", sorted(set(OPERATORS) - {"pow"}))  # pow asks its row
@pytest.mark.parametrize("i", [0, 1])
def test_the_comparison_with_the_row_fails_on_a_wrong_inlined_partial(
    name: str, i: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ops.TABLE[name]
    right = row.partials
    wrong = list(right)
    wrong[i] = lambda *xs: right[i](*xs) * (1.0 + 2.0**-52)
    check_operator_against_row(name, (2.5, 0.3), (True, True))
    monkeypatch.setattr(row, "partials", tuple(wrong))
    with pytest.raises(AssertionError, match=f"local derivatives of {name}"):
        check_operator_against_row(name, (2.5, 0.3), (True, True))


def test_unary_operators_and_methods_have_the_partials_of_their_rows() -> None:
    for x in SPECIAL:
        for apply, row in [(operator.neg, ops.neg), (abs, ops.absolute), (Value.exp, ops.exp)]:
            node = apply(Value(x))
            assert node.op is row
            assert bits(node.data) == bits(row(x))
            assert bits(node.local_grads[0]) == bits(row.partials[0](x, row(x)))


# --- affine ---------------------------------------------------------------------------------------


def chopped(ws: Iterable[Any], xs: Iterable[Any], b: Any) -> Any:
    z = b
    for w, x in zip(ws, xs, strict=True):
        z = z + w * x
    return z


@st.composite
def operands_of_affine(draw: st.DrawFn) -> tuple[list[Any], list[Any], Any]:
    """ws, xs and b, of Values and constants in any mixture, at least one of them a Value."""
    n = draw(st.integers(0, 5))
    numbers = draw(st.lists(st.floats(-10, 10), min_size=2 * n + 1, max_size=2 * n + 1))
    mixture = draw(st.lists(st.booleans(), min_size=2 * n + 1, max_size=2 * n + 1))
    mixture[draw(st.integers(0, 2 * n))] = True
    # A neuron's operands are all Values, or those of its first layer: the fast paths.
    form = draw(st.sampled_from([[True] * (2 * n + 1), [True] * n + [False] * n + [True], mixture]))
    mixed = [Value(x) if v else x for x, v in zip(numbers, form, strict=True)]
    return mixed[:n], mixed[n:-1], mixed[-1]


@given(operands_of_affine())
def test_affine_is_one_node_equal_to_the_chopped_sum_with_equal_gradients(
    operands: tuple[list[Any], list[Any], Any],
) -> None:
    ws, xs, b = operands
    node = affine(ws, xs, b)
    variables = [v for v in (*ws, *xs, b) if isinstance(v, Value)]
    assert node.op is ops.affine_row
    assert node.operands == (*ws, *xs, b)
    assert node.parents == tuple(variables)
    reference = chopped(ws, xs, b)
    assert node.data == pytest.approx(reference.data, rel=1e-12, abs=1e-12)
    assert grad(node, variables) == pytest.approx(grad(reference, variables), rel=1e-12, abs=1e-12)


@given(operands_of_affine())
def test_affine_has_the_value_and_partials_of_its_row_bit_for_bit(
    operands: tuple[list[Any], list[Any], Any],
) -> None:
    ws, xs, b = operands
    fast, slow = affine(ws, xs, b), ops.affine_row(*ws, *xs, b)
    assert bits(fast.data) == bits(slow.data)
    assert fast.operands == slow.operands
    assert list(map(bits, fast.local_grads)) == list(map(bits, slow.local_grads))


def test_affine_passes_special_values_on_like_its_row() -> None:
    for w, x, b in itertools.product(SPECIAL, repeat=3):
        fast = affine([Value(w)], [Value(x)], Value(b))
        slow = ops.affine_row(Value(w), Value(x), Value(b))
        assert bits(fast.data) == bits(slow.data)
        assert list(map(bits, fast.local_grads)) == list(map(bits, slow.local_grads))
        assert fast.local_grads[-1] == 1.0


def test_affine_of_nothing_is_its_bias() -> None:
    b = Value(2.0)
    node = affine([], [], b)
    assert (node.data, node.parents, node.local_grads, node.operands) == (2.0, (b,), (1.0,), (b,))
    assert grad(node, b) == 1.0


def test_affine_without_a_bias_adds_none() -> None:
    w = Value(2.0)
    assert affine([w], [3.0]).data == 6.0
    assert affine([w], [3.0]).operands == (w, 3.0, 0.0)


@pytest.mark.parametrize(
    "xs", [[3, 4], (3.0, 4.0), *cases(lambda: [np.array([3.0, 4.0]), [np.float32(3), 4]])]
)
def test_affine_takes_numbers_of_every_type_in_every_sequence(xs: Any) -> None:
    ws, b = leaves(1.0, 2.0), Value(0.5)
    for node in (affine(ws, xs, b), affine(xs, ws, b), affine(tuple(ws), xs, b)):
        assert node.data == 11.5
        assert node.parents == (*ws, b)
        assert grad(node, [*ws, b]) == [3.0, 4.0, 1.0]
        assert all(type(a) in (Value, float) for a in node.operands)
    assert affine(ws, xs, 1).data == 12.0


@pytest.mark.parametrize("n", [0, 1, 3])
def test_affine_refuses_unequal_lengths(n: int) -> None:
    with pytest.raises(InputError, match=f"got 2 ws and {n} xs") as caught:
        affine(leaves(1.0, 2.0), leaves(*range(n)), Value(0.0))
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("bad", ["1", None, [1.0], *cases(lambda: [np.ones(2)]), 1j], ids=repr)
def test_affine_refuses_operands_of_a_wrong_type_in_every_place(bad: Any) -> None:
    v = Value(1.0)
    for ws, xs, b in [
        ([bad], [v], v), ([v], [bad], v), ([v], [v], bad), ([bad], [1.0], 1.0), ([v], [1.0], bad),
        ([v, v], [1.0, bad], v), ([v, v], [v, bad], v), ([v, bad], [v, v], v), ([], [], bad),
    ]:  # fmt: skip
        with pytest.raises(OperandError):
            affine(ws, xs, b)


@pytest.mark.parametrize(
    "bad", [3.0, None, Value(3.0), iter([1.0])], ids=["3.0", "None", "v", "it"]
)
def test_affine_refuses_what_is_no_sequence(bad: Any) -> None:
    for ws, xs in [(bad, [Value(1.0)]), ([Value(1.0)], bad)]:
        with pytest.raises(OperandError, match="a sequence of ws and a sequence of xs"):
            affine(ws, xs, 0.0)


def test_affine_under_no_grad_is_a_leaf() -> None:
    w, b = leaves(2.0, 1.0)
    with no_grad():
        for node in (affine([w], [3.0], b), affine([w], [w], b), affine([3], [w], 1)):
            assert (node.parents, node.op) == ((), None)
        assert affine([w], [3.0], b).data == 7.0


def test_affine_twice_differentiates() -> None:
    w, x, b = leaves(2.0, 3.0, 1.0)
    dw, dx, db = grad(affine([w], [x], b) ** 2, [w, x, b], create_graph=True)
    assert (dw.data, dx.data, db.data) == (42.0, 28.0, 14.0)
    assert grad(dw, [w, x, b]) == [18.0, 26.0, 6.0]


# --- backward -------------------------------------------------------------------------------------


def test_backward_sets_the_grad_of_every_node() -> None:
    a, b = leaves(2.0, -3.0)
    c = a * b
    d = c + a
    e = d * d
    e.backward()
    assert (e.grad, d.grad, c.grad, a.grad, b.grad) == (1.0, -8.0, -8.0, 16.0, -16.0)


def test_backward_twice_doubles_the_leaf_and_nothing_else() -> None:
    x = Value(2.0)
    square = x * x
    y = square * x
    y.backward()
    assert (x.grad, square.grad, y.grad) == (12.0, 2.0, 1.0)
    y.backward()
    assert (x.grad, square.grad, y.grad) == (24.0, 2.0, 1.0)


def test_two_losses_that_share_a_node_add_up_on_the_leaves() -> None:
    x = Value(3.0)
    shared = x * x
    first, second = shared * 2.0, shared.tanh() + x
    first.backward()
    second.backward()
    twin = Value(3.0)
    ((twin * twin) * 2.0 + ((twin * twin).tanh() + twin)).backward()
    assert x.grad == pytest.approx(twin.grad, rel=1e-15)
    assert shared.grad == second.parents[0].local_grads[0]


def test_backward_on_a_leaf_adds_the_seed() -> None:
    x = Value(3.0)
    x.backward()
    x.backward(2.0)
    assert x.grad == 3.0


@pytest.mark.parametrize(
    "seed", [0.5, -2, True, *cases(lambda: [np.float32(3)]), Fraction(1, 4), 0.0, INF]
)
def test_the_seed_is_the_adjoint_of_the_root(seed: Any) -> None:
    x = Value(3.0)
    y = x * x
    y.backward(seed)
    assert (y.grad, x.grad) == (float(seed), 6.0 * float(seed))
    assert type(y.grad) is float


@pytest.mark.parametrize("seed", ["1", None, Value(1.0), *cases(lambda: [np.ones(1)]), 1j])
def test_a_seed_that_is_no_number_is_refused_and_nothing_changes(seed: Any) -> None:
    x = Value(3.0)
    y = x * x
    x.grad = y.grad = 7.0
    with pytest.raises(OperandError):
        y.backward(seed)
    assert (x.grad, y.grad) == (7.0, 7.0)


@pytest.mark.parametrize("bad", [None, "0", [0.0], 1j, Value(1.0)], ids=repr)
def test_a_gradient_that_is_no_number_is_refused_at_once(bad: Any) -> None:
    x = Value(2.0)
    x.grad = 7
    with pytest.raises(OperandError):
        x.grad = bad
    assert (x.grad, type(x.grad)) == (7.0, float)


def test_the_example_of_micrograds_readme_has_its_numbers() -> None:
    a = Value(-4.0)
    b = Value(2.0)
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    g.backward()
    assert f"{g.data:.4f} {a.grad:.4f} {b.grad:.4f}" == "24.7041 138.8338 645.5773"


def test_augmented_assignment_makes_new_nodes() -> None:
    x = Value(2.0)
    y = x
    y *= 3.0
    y += x
    y -= 1.0
    y /= 2.0
    y **= 2
    assert (x.data, x.parents, y.data) == (2.0, (), 12.25)
    assert grad(y, x) == 14.0


# --- grad -----------------------------------------------------------------------------------------


def test_grad_of_one_value_is_one_float_and_of_several_a_list() -> None:
    x, y = leaves(2.0, 5.0)
    z = x * x * y
    assert grad(z, x) == 20.0
    for several in ([x, y], (x, y), iter([x, y])):
        assert grad(z, several) == [20.0, 4.0]
    assert grad(z, {x: "x"}) == [20.0]
    assert grad(z, []) == []
    assert grad(z, [x, x]) == [20.0, 20.0]
    assert all(type(g) is float for g in grad(z, [x, y]))


@pytest.mark.parametrize("create_graph", [False, True])
def test_grad_touches_no_grad(create_graph: bool) -> None:
    x, y = leaves(2.0, 5.0)
    z = (x * y).tanh() + x
    everything = topological_order(z)
    for i, node in enumerate(everything):
        node.grad = float(i)
    grad(z, [x, y], create_graph=create_graph)
    assert [node.grad for node in everything] == list(range(len(everything)))


@pytest.mark.parametrize("create_graph", [False, True])
def test_grad_is_zero_where_the_root_does_not_depend(create_graph: bool) -> None:
    x, other = leaves(2.0, 3.0)
    later = x * other
    results = grad(x * x, [other, x, later], create_graph=create_graph)
    numbers = [g.data if isinstance(g, Value) else g for g in results]
    assert numbers == [0.0, 4.0, 0.0]


@pytest.mark.parametrize("create_graph", [False, True])
def test_grad_of_a_node_by_itself_is_one(create_graph: bool) -> None:
    for y in (Value(2.0), Value(2.0) * 3.0):
        g = grad(y, y, create_graph=create_graph)
        assert (g.data if isinstance(g, Value) else g) == 1.0


@pytest.mark.parametrize("create_graph", [False, True])
def test_wrt_may_be_intermediate_nodes(create_graph: bool) -> None:
    x = Value(2.0)
    u = x * x
    v = u * 3.0
    y = u * v
    results = grad(y, [u, v, x], create_graph=create_graph)
    assert [g.data if isinstance(g, Value) else g for g in results] == [24.0, 4.0, 96.0]


def test_create_graph_gives_derivatives_to_third_order_and_beyond() -> None:
    x = Value(0.7)
    for f, derivatives in [
        (lambda x: x**5, [5 * 0.7**4, 20 * 0.7**3, 60 * 0.7**2, 120 * 0.7]),
        (lambda x: x.sin(), [math.cos(0.7), -math.sin(0.7), -math.cos(0.7), math.sin(0.7)]),
        (lambda x: x.exp(), [math.exp(0.7)] * 4),
        (lambda x: 1 / x, [-(0.7**-2), 2 * 0.7**-3, -6 * 0.7**-4, 24 * 0.7**-5]),
        (lambda x: x.log(), [1 / 0.7, -(0.7**-2), 2 * 0.7**-3, -6 * 0.7**-4]),
    ]:
        y = f(x)
        for want in derivatives:
            assert grad(y, x) == pytest.approx(want, rel=1e-13)
            y = grad(y, x, create_graph=True)
            assert y.data == pytest.approx(want, rel=1e-13)


def test_mixed_third_derivatives_are_right() -> None:
    x, y = leaves(2.0, 3.0)
    f = x**3 * y**2
    fx = grad(f, x, create_graph=True)
    fxy = grad(fx, y, create_graph=True)
    assert (fx.data, fxy.data, grad(fxy, [x, y])) == (108.0, 72.0, [72.0, 24.0])
    g = grad(f, y, create_graph=True)
    assert grad(grad(g, x, create_graph=True), x) == 72.0


def test_the_gradient_of_a_gradient_norm_reaches_the_leaves_by_backward() -> None:
    x, y = leaves(2.0, 3.0)
    dx, dy = grad(x * x * y, [x, y], create_graph=True)
    (dx * dx + dy * dy).backward()
    assert (x.grad, y.grad) == (2 * 12 * 6 + 2 * 4 * 4, 2 * 12 * 4)


def test_derivatives_by_intermediate_nodes_can_be_differentiated_again() -> None:
    x = Value(2.0)
    u = x * x
    du = grad(u**3, u, create_graph=True)
    assert (du.data, grad(du, u), grad(du, x)) == (48.0, 24.0, 96.0)


def test_a_constant_gradient_is_a_value_too() -> None:
    x = Value(2.0)
    g = grad(3 * x + 1, x, create_graph=True)
    assert (type(g), g.data, grad(g, x)) == (Value, 3.0, 0.0)


def test_a_product_with_one_is_not_written_down() -> None:
    x, y = leaves(2.0, 3.0)
    dx = grad((x + y - 1.0).sin(), x, create_graph=True)
    assert [node.op for node in topological_order(dx)] == [None, None, ops.add, ops.sub, ops.cos]
    assert grad(x * y, x, create_graph=True) is y


def test_create_graph_makes_graphs_under_no_grad_too() -> None:
    x = Value(2.0)
    y = x**3
    with no_grad():
        g = grad(y, x, create_graph=True)
        assert grad(grad(g, x, create_graph=True), x) == 6.0
    assert (g.data, grad(g, x)) == (12.0, 12.0)


@pytest.mark.parametrize(
    "bad", [3.0, None, "x", [3.0], [None], "xy", *cases(lambda: [np.ones(2)])], ids=repr
)
@pytest.mark.parametrize("create_graph", [False, True])
def test_grad_by_what_is_no_value_is_refused(bad: Any, create_graph: bool) -> None:
    x = Value(1.0)
    with pytest.raises(OperandError, match="with respect to Values, not ") as caught:
        grad(x * x, bad, create_graph=create_graph)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("bad", [3.0, None, "x", [Value(1.0)]])
@pytest.mark.parametrize("create_graph", [False, True])
def test_grad_of_what_is_no_value_is_refused(bad: Any, create_graph: bool) -> None:
    with pytest.raises(OperandError, match="root"):
        grad(bad, Value(1.0), create_graph=create_graph)


# --- stale graphs ---------------------------------------------------------------------------------


def test_create_graph_on_changed_data_is_refused() -> None:
    x = Value(1.0, label="x")
    y = x.sin()
    x.data = 2.0
    with pytest.raises(StaleGraphError, match=r"sin .* was made") as caught:
        grad(y, x, create_graph=True)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, MicrogradError)
    assert grad(y, x) == math.cos(1.0)


def test_a_change_that_leaves_the_value_but_not_the_partials_is_refused_too() -> None:
    x, y = Value(2.0), Value(0.0)
    product = x * y
    x.data = 5.0
    with pytest.raises(StaleGraphError, match="mul"):
        grad(product, y, create_graph=True)


def test_create_graph_on_a_changed_weight_names_no_innocent_graph() -> None:
    w, x = leaves(2.0, 3.0)
    old = w * x
    w.data = 5.0
    new = w * x
    assert grad(new, x, create_graph=True).data == 5.0
    with pytest.raises(StaleGraphError):
        grad(old, x, create_graph=True)


@pytest.mark.parametrize(
    ("f", "second"),
    [
        (lambda x: x**3, 6.0),
        (lambda x: x.atan(), -0.5),
        (lambda x: x * x * x, 6.0),
        (lambda x: x.tan(), 2.0 * math.tan(1.0) / math.cos(1.0) ** 2),
        (lambda x: x.exp(), math.e),
    ],
    ids=["x**3", "atan", "x*x*x", "tan", "exp"],
)
def test_after_a_change_of_sign_a_second_derivative_is_refused_or_right(
    f: Callable[[Value], Value], second: float
) -> None:
    x = Value(1.0)
    y = f(x)
    x.data = -1.0  # where the first derivatives of odd functions are the same
    try:
        got = grad(grad(y, x, create_graph=True), x)
    except StaleGraphError:
        return
    assert got == pytest.approx(second)


@pytest.mark.parametrize(
    ("f", "before", "after"),
    [(Value.log, 1.0, 0.0), (Value.log1p, 0.0, -1.0), (Value.atanh, 0.0, 1.0),
     (Value.log, 1.0, -1.0), (Value.sqrt, 1.0, -1.0), (lambda x: 1 / x, 1.0, 0.0),
     (lambda x: x**-1, 1.0, 0.0), (lambda x: x**x, 1.0, -0.5)],
)  # fmt: skip
def test_a_change_to_data_off_the_domain_is_a_stale_graph_too(
    f: Callable[[Value], Value], before: float, after: float
) -> None:
    x = Value(before)
    y = f(x)
    x.data = after
    with pytest.raises(StaleGraphError):
        grad(y, x, create_graph=True)


def test_a_change_off_the_paths_to_wrt_is_no_reason_to_refuse() -> None:
    w, x = leaves(2.0, 3.0)
    y = x * x + w.sin() * w
    w.data = 5.0
    assert grad(grad(y, x, create_graph=True), x) == 2.0
    with pytest.raises(StaleGraphError):
        grad(y, [x, w], create_graph=True)


def test_changing_data_back_makes_the_graph_good_again() -> None:
    x = Value(1.0)
    y = x**3
    x.data = 2.0
    x.data = 1.0
    assert grad(grad(y, x, create_graph=True), x) == 6.0


def test_nan_in_a_graph_is_not_taken_for_a_change() -> None:
    x = Value(NAN)
    assert math.isnan(grad(x.sin() * x, x, create_graph=True).data)


# --- order and reproducibility --------------------------------------------------------------------


def test_topological_order_has_parents_first_and_every_node_once() -> None:
    a, b = leaves(1.0, 2.0)
    c = a * b
    d = c + a
    assert topological_order(d) == [a, b, c, d]
    assert topological_order(d, c, d) == [a, b, c, d]
    assert topological_order(c, d) == [a, b, c, d]
    assert topological_order(a) == [a]
    assert topological_order() == []


def test_topological_order_goes_through_parents_in_their_order() -> None:
    w, x, b = leaves(1.0, 2.0, 3.0)
    for node, order in [
        (affine([w], [x], b), [w, x, b]),
        (affine([b], [x], w), [b, x, w]),
        (affine([b], [1.0], w), [b, w]),
        (x - w, [x, w]),
        (ops.where(1.0, x, w), [x]),
    ]:
        assert topological_order(node) == [*order, node]
    choice = ops.where(1.0, x, w)
    assert topological_order(choice, untaken=True) == [x, w, choice]
    inner, last = w * x, x * b
    outer = affine([inner, b], [last, w], inner)
    assert topological_order(outer) == [w, x, inner, b, last, outer]


@given(programs())
def test_topological_order_of_any_graph_is_one(program: Program) -> None:
    inputs, root = nodes_of(program)
    order = topological_order(root, *inputs)
    place = {node: i for i, node in enumerate(order)}
    assert len(place) == len(order)
    assert order.index(root) == place[root]
    for node in order:
        assert all(place[parent] < place[node] for parent in node.parents)


def plain_order(*roots: Value) -> list[Value]:
    """What `topological_order` says, in the fewest words: depth first, parents in their order."""
    order: list[Value] = []
    seen: set[Value] = set()

    def visit(node: Value) -> None:
        if node not in seen:
            seen.add(node)
            for parent in node.parents:
                visit(parent)
            order.append(node)

    for root in roots:
        visit(root)
    return order


@given(programs(most=40))
def test_topological_order_is_that_of_a_plain_depth_first_search(program: Program) -> None:
    inputs, root = nodes_of(program)
    second = grad(root, inputs, create_graph=True)
    assert topological_order(root) == plain_order(root)
    assert topological_order(*second, root) == plain_order(*second, root)


@given(programs())
def test_topological_order_leaves_out_what_was_seen(program: Program) -> None:
    root = nodes_of(program)[1]
    seen: set[Value] = set()
    first = topological_order(*root.parents[:1], seen=seen)
    rest = topological_order(root, seen=seen)
    assert seen == {*first, *rest}
    assert first + rest == plain_order(*root.parents[:1], root)
    assert topological_order(root, *root.parents, seen=seen) == []


@given(programs())
def test_edges_pair_parents_and_local_derivatives(program: Program) -> None:
    for node in topological_order(nodes_of(program)[1]):
        assert [parent for parent, _ in node.edges] == list(node.parents)
        assert [local for _, local in node.edges] == list(node.local_grads)
        assert [a for a in node.operands if isinstance(a, Value)] == list(node.parents)


@pytest.mark.parametrize("bad", [1.0, None, [Value(1.0)]])
def test_a_root_that_is_no_value_is_refused(bad: Any) -> None:
    with pytest.raises(OperandError, match="root"):
        topological_order(Value(1.0), bad)


def build_in_order(program: Program, order: Callable[[list[int]], int]) -> list[Value]:
    """The nodes of a program, made in the order that `order` picks from what can be made next."""
    results: dict[int, Any] = dict(enumerate(leaves(*program.inputs)))
    first = len(results)
    todo = list(range(len(program.steps)))
    while todo:
        ready = [
            i for i in todo if all(a in results for a in program.steps[i][1] if isinstance(a, int))
        ]
        i = order(ready)
        todo.remove(i)
        name, operands = program.steps[i]
        args = [results[a] if isinstance(a, int) else a for a in operands]
        results[first + i] = VALUE[name](*args)
    return [results[i] for i in range(len(results))]


@given(program=programs(most=25), rng=st.randoms(use_true_random=False))
def test_the_order_of_construction_changes_no_bit_of_a_gradient(
    program: Program, rng: random.Random
) -> None:
    answers = set()
    for order in (min, max, rng.choice):
        nodes = build_in_order(program, order)
        inputs, root = nodes[: len(program.inputs)], nodes[-1]
        plain = grad(root, inputs)
        graphs = grad(root, inputs, create_graph=True)
        assert [g.data for g in graphs] == plain
        root.backward()
        assert [v.grad for v in inputs] == plain
        second = [g for graph in graphs for g in grad(graph, inputs)]
        answers.add(tuple(map(bits, plain + second)))
    assert len(answers) == 1


REPRODUCE = """
import sys
from micrograd_like import Value, grad
clutter = [object() for _ in range(int(sys.argv[1]))]  # moves every id
w = [Value(0.1 * i, label=f"w{i}") for i in range(-20, 20)]
y = sum((a * b).tanh() * c for a, b, c in zip(w, w[7:] + w[:7], w[13:] + w[:13]))
y = (y * y + y).sigmoid() + sum(a * a for a in {a.label: a for a in w}.values())
g = grad(y, w, create_graph=True)
h = grad(sum(a * a for a in g), w)
print([a.data.hex() for a in g], [a.hex() for a in h])
"""


def test_hash_seeds_and_addresses_change_no_bit_of_a_gradient() -> None:
    root = Path(__file__).parent.parent
    outputs = {
        subprocess.run(
            [sys.executable, "-c", REPRODUCE, clutter],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, clutter in [("0", "0"), ("1", "12345"), ("4242", "777")]
    }
    assert len(outputs) == 1
    assert "0x1." in outputs.pop()


# --- random graphs --------------------------------------------------------------------------------


@settings(max_examples=300)
@given(programs())
def test_gradients_of_random_graphs_agree_with_dual_numbers(program: Program) -> None:
    inputs, root = nodes_of(program)
    check_gradient(root, inputs, forward_gradient(program))


@settings(max_examples=200)
@given(programs(COMPLEX))
def test_gradients_of_random_analytic_graphs_agree_with_the_complex_step(program: Program) -> None:
    inputs, root = nodes_of(program)
    check_gradient(root, inputs, complex_step_gradient(program))


@settings(max_examples=150)
@given(programs(most=5))
def test_second_derivatives_of_random_graphs_agree_with_duals_of_duals(program: Program) -> None:
    inputs, root = nodes_of(program)
    gradients = grad(root, inputs, create_graph=True)
    for gradient, want in zip(gradients, forward_hessian(program), strict=True):
        check_gradient(gradient, inputs, want)


def every_op() -> Program:
    """The sum of every op of a number of its own, (0.5 or 1.4) or, if binary, of that and 1.7."""
    steps: list[tuple[str, tuple[int | float, ...]]] = []
    total = 0
    for name in sorted(DUAL):
        argument = len(steps) + 2
        steps += [
            ("add", (0, 1.0)) if name == "acosh" else ("mul", (0, 1.25)),
            (name, (argument, 1) if name in BINARY else (argument,)),
            ("add", (argument + 1, total)),
        ]
        total = argument + 2
    return Program((0.4, 1.7), tuple(steps))


def test_the_program_of_every_op_agrees_with_dual_numbers() -> None:
    program = every_op()
    inputs, root = nodes_of(program)
    assert {node.op.name for node in topological_order(root) if node.op} == set(DUAL)
    check_gradient(root, inputs, forward_gradient(program))
    gradients = grad(root, inputs, create_graph=True)
    for gradient, want in zip(gradients, forward_hessian(program), strict=True):
        check_gradient(gradient, inputs, want)


@pytest.mark.parametrize("name", sorted(set(DUAL) - {"add", "sub", "mul", "div", "neg"}))
def test_the_comparison_with_dual_numbers_fails_on_a_wrong_partial(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ops.TABLE[name]
    xs = [0.4, 1.7][: row.arity] if name != "acosh" else [1.4]
    if name in {"leaky_relu", "elu"}:
        xs = [0.4]
    program = Program(tuple(xs), ((name, tuple(range(len(xs)))),))
    inputs, root = nodes_of(program)
    check_gradient(root, inputs, forward_gradient(program))
    wrong = tuple(lambda *a, p=p: p(*a) * 1.001 + 1e-5 for p in row.partials)
    monkeypatch.setattr(row, "partials", wrong)
    inputs, root = nodes_of(program)
    with pytest.raises(AssertionError, match="d/dx"):
        check_gradient(root, inputs, forward_gradient(program))


def test_the_comparison_with_duals_of_duals_fails_where_only_second_derivatives_are_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true = ops.sech.partials[0]
    monkeypatch.setattr(ops.sech, "partials", (lambda x, out: 1.001 * true(x, out),))
    program = Program((0.5,), (("tanh", (0,)),))
    inputs, root = nodes_of(program)
    check_gradient(root, inputs, forward_gradient(program))
    with pytest.raises(AssertionError, match="d/dx"):
        check_gradient(
            grad(root, inputs[0], create_graph=True), inputs, forward_hessian(program)[0]
        )


@given(programs(most=8), st.floats(-3, 3), st.floats(-3, 3))
def test_the_gradient_is_linear_in_the_root(program: Program, alpha: float, beta: float) -> None:
    inputs = leaves(*program.inputs)
    results = program.run(inputs, VALUE)
    y, z = results[-1], results[max(0, len(results) - 3)]
    pairs = zip(grad(y, inputs), grad(z, inputs), strict=True)
    check_gradient(alpha * y + beta * z, inputs, [alpha * a + beta * b for a, b in pairs])


@given(programs(), st.floats(-8, 8))
def test_the_seed_scales_the_gradient(program: Program, seed: float) -> None:
    inputs, root = nodes_of(program)
    root.backward(seed)
    check_gradient(root * seed, inputs, [v.grad for v in inputs])


# --- copying and pickling -------------------------------------------------------------------------


def shape(root: Value) -> list[Any]:
    """Everything about a graph but the identity of its nodes."""
    order = topological_order(root)
    place = {node: i for i, node in enumerate(order)}
    return [
        (
            bits(node.data),
            node.grad,
            node.label,
            node.op,
            [place[a] if isinstance(a, Value) else ("constant", a) for a in node.operands],
            list(map(bits, node.local_grads)),
        )
        for node in order
    ]


def labelled_graph() -> Value:
    """Every layout of a node: no, one, two and many operands, with and without constants."""
    a, b = Value(0.5, label="a"), Value(2.0, label="b")
    c = a * b
    c.label = "c"
    parts = [
        c.tanh(), -c, c + 1, 1 - c, c * c, c**2, 2**c, c / 3, affine([a, b], [c, a], b),
        affine([a], [2.0], b), affine([a, 3], [b, c], 1), affine([], [], c),
        ops.where(1.0, c, 2.0), ops.where(1.0, 2.0, c), ops.logsumexp(c), ops.logsumexp(c, 1.0),
        ops.logsumexp(a, b, c), a.leaky_relu(), c.elu(2.0),
    ]  # fmt: skip
    root = sum(parts[1:], parts[0])
    root.label = "root"
    root.backward()
    return root


def copies(root: Value) -> Iterator[Value]:
    yield copy.deepcopy(root)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.loads(pickle.dumps(root, protocol))


def test_a_copied_or_pickled_graph_is_the_same_graph_of_other_nodes() -> None:
    root = labelled_graph()
    for twin in copies(root):
        assert shape(twin) == shape(root)
        assert not set(topological_order(twin)) & set(topological_order(root))
        assert grad(twin, topological_order(twin)) == grad(root, topological_order(root))
        gradients = grad(twin, topological_order(twin), create_graph=True)
        assert [g.data for g in gradients] == grad(root, topological_order(root))


def test_a_copy_keeps_the_recorded_derivatives_after_data_has_changed() -> None:
    x = Value(2.0)
    y = x * x
    x.data = 5.0
    for twin in copies(y):
        (parent, _) = twin.parents
        assert (twin.data, parent.data, twin.local_grads) == (4.0, 5.0, (2.0, 2.0))


def test_a_leaf_is_copied_and_pickled_with_its_grad_and_label() -> None:
    x = Value(2.0, label="x")
    x.grad = 3.0
    for twin in copies(x):
        assert (twin.data, twin.grad, twin.label, twin.op) == (2.0, 3.0, "x", None)
        assert twin is not x


@pytest.mark.parametrize("x", [0.0, -0.0, INF, -INF, NAN, 5e-324, 0.1])
def test_special_values_survive_copying_and_pickling(x: float) -> None:
    for twin in copies(Value(x) * x):
        assert bits(twin.operands[1]) == bits(x)
        assert bits(twin.data) == bits(x * x)


def test_a_shallow_copy_shares_the_parents() -> None:
    root = labelled_graph()
    for node in topological_order(root):
        twin = copy.copy(node)
        assert twin is not node
        assert (twin.operands, twin.parents, twin.op) == (node.operands, node.parents, node.op)
        assert (twin.data, twin.grad, twin.label) == (node.data, node.grad, node.label)
        assert twin.local_grads == node.local_grads
        assert grad(twin, twin.parents) == grad(node, node.parents)


def test_deepcopy_keeps_sharing_across_the_roots_of_a_container() -> None:
    x = Value(2.0)
    shared = x * x
    first, second = shared + 1.0, shared.tanh()
    twins = copy.deepcopy({"roots": [first, second], "shared": shared, "leaf": x, "again": first})
    one, two = twins["roots"]
    assert one.parents[0] is two.parents[0] is twins["shared"]
    assert twins["shared"].parents == (twins["leaf"],) * 2
    assert twins["again"] is one
    assert twins["leaf"] is not x
    assert grad(one + two, twins["leaf"]) == grad(first + second, x)


def test_a_leaf_that_the_memo_has_is_shared_by_the_copy_of_its_graph() -> None:
    w, x = Value(2.0), Value(3.0)
    y = copy.deepcopy(w * x, {id(w): w})
    assert y.parents[0] is w
    assert y.parents[1] is not x
    y.backward()
    assert (w.grad, x.grad) == (3.0, 0.0)


def test_two_deepcopies_share_nothing() -> None:
    x = Value(2.0)
    assert copy.deepcopy(x) is not copy.deepcopy(x)
    y = x * x
    assert copy.deepcopy(y).parents[0] is not copy.deepcopy(y).parents[0]


def test_roots_pickled_together_share_their_leaves_and_own_the_nodes_in_between() -> None:
    x = Value(2.0, label="x")
    shared = x * x
    first, second = shared + 1.0, shared.tanh()
    one, two, leaf, again = pickle.loads(pickle.dumps([first, second, x, first]))
    assert one is again
    assert one.parents[0].parents == two.parents[0].parents == (leaf, leaf)
    assert one.parents[0] is not two.parents[0]
    assert grad(one + two, leaf) == grad(first + second, x)


def test_a_pickled_root_keeps_the_sharing_inside_its_graph() -> None:
    x = Value(2.0)
    y = x
    for _ in range(200):  # a tree of 2**200 nodes if sharing were lost
        y = y + y
    twin = pickle.loads(pickle.dumps(y))
    assert len(topological_order(twin)) == 201
    assert grad(twin, topological_order(twin)[0]) == 2.0**200


def test_unpickled_in_another_process_a_graph_still_differentiates() -> None:
    script = (
        "import pickle, sys; from micrograd_like import grad, topological_order\n"
        "y = pickle.loads(sys.stdin.buffer.read())\n"
        "print(grad(y, topological_order(y)[0]).hex())"
    )
    x = Value(0.3)
    y = (x * x).tanh() + x
    out = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps(y),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        check=True,
    ).stdout
    assert out.decode().strip() == grad(y, x).hex()


# --- depth ----------------------------------------------------------------------------------------


# CPython 3.13 frees nested objects, tuples of tuples even, with up to 10,000 C calls in each other,
# where other versions have 50 (or ask how much stack is left), and dies of it on smaller stacks.
SMALL_STACK = 1024 * 1024 if sys.version_info[:2] == (3, 13) else 256 * 1024


def on_a_small_stack(task: Callable[[], Any]) -> Any:
    """The result of `task` on a thread with a small stack."""
    results: list[Any] = []
    before = threading.stack_size(SMALL_STACK)
    try:
        thread = threading.Thread(target=lambda: results.append(task()))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    (result,) = results
    return result


def chain(x: Value, link: Callable[[Value, Value], Value], n: int) -> Value:
    y = x
    for _ in range(n):
        y = link(y, x)
    return y


# As first, second, only, first of many and last of many parents.
LINKS: dict[str, Callable[[Value, Value], Value]] = {
    "y + x": lambda y, x: y + x,
    "x + y": lambda y, x: x + y,
    "y + 1": lambda y, x: y + 1.0,
    "1 - y": lambda y, x: 1.0 - y,
    "-y": lambda y, x: -y,
    "y * y": lambda y, x: y * y,
    "affine, first": lambda y, x: affine([y, x], [1.0, 1.0], x),
    "affine, last": lambda y, x: affine([x, x], [x, x], y),
    "affine, middle": lambda y, x: affine([x], [y], x),
    "affine, alone": lambda y, x: affine([], [], y),
    "where": lambda y, x: ops.where(1.0, y, 2.0),
}


@pytest.mark.parametrize("link", LINKS)
def test_a_chain_of_100_000_does_everything_on_a_thread_with_a_small_stack(link: str) -> None:
    n = 100_000

    def task() -> list[bool]:
        x = Value(1.0)
        y = chain(x, LINKS[link], n)
        order = topological_order(y)
        outcome = [len(order) == n + 1, order[0] is x, order[-1] is y]
        g = grad(y, x)
        y.backward()
        outcome += [same(x.grad, g), "Value(data=" in repr(y), len(y.operands) >= 1]
        del order
        return outcome  # and y is freed here

    assert on_a_small_stack(task) == [True] * 6


def test_a_chain_of_1_000_000_builds_sorts_differentiates_copies_pickles_prints_and_frees() -> None:
    n = 1_000_000

    def task() -> list[Any]:
        x = Value(1.0)
        y = chain(x, LINKS["y + x"], n)
        answers: list[Any] = [y.data, len(topological_order(y)), grad(y, x), repr(y)]
        y.backward()
        answers.append(x.grad)
        twin = copy.deepcopy(y)
        del x, y
        answers.append(grad(twin, topological_order(twin)[0]))
        pickled = pickle.dumps(twin)
        del twin
        twin = pickle.loads(pickled)
        answers.append(grad(twin, topological_order(twin)[0]))
        return answers

    m = n + 1.0
    gc.disable()  # halves the time, and shows that nothing here needs the collector
    try:
        answers = on_a_small_stack(task)
    finally:
        gc.enable()
    assert answers == [m, n + 1, m, f"Value(data={m}, grad=0.0)", m, m, m]


def test_a_deep_graph_has_a_gradient_graph_as_deep() -> None:
    def task() -> list[float]:
        x = Value(1.0)
        y = chain(x, lambda y, x: y * x, 20_000)
        dy = grad(y, x, create_graph=True)
        return [dy.data, grad(dy, x)]

    assert on_a_small_stack(task) == [20_001.0, 20_001.0 * 20_000.0]


def test_a_node_of_100_000_parents_differentiates() -> None:
    xs = leaves(*range(100_000))
    y = affine(xs, xs, 1.0)
    assert grad(y, xs) == [2.0 * i for i in range(100_000)]


def test_a_node_has_no_dict() -> None:
    assert not hasattr(Value(1.0), "__dict__")


# --- no_grad --------------------------------------------------------------------------------------


def test_under_no_grad_every_result_is_a_leaf() -> None:
    x = Value(0.5)
    with no_grad():
        results = [
            x + x, x + 1, 1 + x, x - x, 1 - x, x * x, 2 * x, x / x, 1 / x, x**x, x**2, 2**x, -x,
            abs(x), x.tanh(), x.leaky_relu(), ops.hypot(x, 1.0), ops.logsumexp(x, x, x),
            affine([x], [x], x), sum([x, x]),
        ]  # fmt: skip
    for node in results:
        assert (node.parents, node.local_grads, node.op, node.operands) == ((), (), None, ())
    assert results[5].data == 0.25
    assert (x * x).parents == (x, x)


def test_no_grad_nests() -> None:
    x = Value(2.0)
    context = no_grad()
    with context:
        with no_grad(), context:
            assert (x * x).parents == ()
        assert (x * x).parents == ()
    assert (x * x).parents == (x, x)


def test_no_grad_opened_anew_as_it_was_is_open() -> None:
    x = Value(2.0)
    with no_grad():
        no_grad.reopen(no_grad.open_here())
        assert (x * x).parents == ()
    assert (x * x).parents == (x, x)


def test_no_grad_ends_with_an_exception() -> None:
    x = Value(2.0)
    with pytest.raises(DomainError), no_grad():
        (-x).log()
    assert (x * x).parents == (x, x)


def test_no_grad_decorates_functions() -> None:
    x = Value(2.0)

    @no_grad()
    def square(v: Value, depth: int = 3) -> Value:
        return square(v, depth - 1) if depth else v * v

    assert square(x).parents == ()
    assert square.__name__ == "square"
    assert (x * x).parents == (x, x)


# --- rows of one's own in the engine --------------------------------------------------------------


def test_a_partial_may_return_an_int_or_a_numpy_scalar(made_up: type[Op]) -> None:
    twice = made_up("twice", lambda x: 2 * x, lambda x, out: 2)
    thrice = made_up("thrice", lambda x: np.float64(3 * x), lambda x, out: np.float64(3))
    both = made_up(
        "both", lambda x, y: 2 * x + y, (lambda x, y, out: 2, lambda x, y, out: np.float32(1))
    )
    every = made_up("every", lambda *xs: sum(xs), lambda *xs_out: [1] * (len(xs_out) - 1))
    x, y = leaves(2.0, 5.0)
    for node in (both(x, y), both(x, 5.0), every(x, y), every(x, y, x)):
        assert {type(d) for d in node.local_grads} == {float}
    assert (grad(both(x, y), [x, y]), grad(every(x, y, x), [x, y])) == ([2.0, 1.0], [2.0, 1.0])
    for apply, slope in [
        (twice, 2.0),
        (thrice, 3.0),
        (lambda x: x.__apply_unary__(twice), 2.0),
        (lambda x: x.__apply_unary__(thrice), 3.0),
    ]:
        y = apply(x)
        assert (type(y.data), type(y.local_grads[0])) == (float, float)
        assert (grad(y, x), grad(y * y, x, create_graph=True).data) == (slope, 4.0 * slope**2)
        assert grad(y, x, create_graph=True).data == slope


def test_the_partial_by_a_constant_is_not_computed(made_up: type[Op]) -> None:
    def fails(x: float, y: float, out: float) -> float:
        raise ValueError("no derivative")

    scaled = made_up("scaled", lambda x, y: x * y, (lambda x, y, out: y, fails))
    x = Value(2.0)
    assert grad(scaled(x, 3.0), x) == 3.0
    assert grad(scaled(x, 3.0), x, create_graph=True).data == 3.0
    with pytest.raises(
        InputError, match=r"^a partial of scaled fails at 2\.0, 3\.0: no derivative$"
    ):
        scaled(x, Value(3.0))


def test_a_partial_of_the_users_that_fails_is_named(made_up: type[Op]) -> None:
    rooted = made_up("rooted", lambda x: abs(x) ** 0.5, lambda x, out: 0.5 / out)
    with pytest.raises(InputError, match=r"a partial of rooted fails at 0\.0"):
        rooted(Value(0.0))
    assert rooted(Value(4.0)).local_grads == (0.25,)


def test_a_row_of_the_users_with_too_few_partials_is_named(made_up: type[Op]) -> None:
    row = made_up("short", lambda *xs: math.fsum(xs), lambda *xs_out: [1.0])
    with pytest.raises(InputError, match="short has 3 operands, and gave 1 partials"):
        row(Value(1.0), Value(2.0), 3.0)


def test_micrograds_own_sanity_check_has_its_numbers() -> None:
    x = Value(-4.0)
    z = 2 * x + 2 + x
    q = z.relu() + z * x
    h = (z * z).relu()
    y = h + q + q * x
    y.backward()
    assert (y.data, x.grad) == (-20.0, 46.0)


def test_numbers_are_packed_as_doubles() -> None:
    numbers = [1.5, -0.0, math.inf, 5e-324]
    values = [Value(x) for x in numbers[:2]] + numbers[2:]
    assert packed(values) == struct.pack("4d", *numbers)
    assert packed(iter([])) == b""
    with pytest.raises((AttributeError, TypeError)):
        packed([values[0], None])
