"""The tape: a graph in its simplest form."""

from __future__ import annotations

import math
import random
import tracemalloc
from itertools import accumulate, pairwise

import pytest
from optional import np
from samples import BACKENDS, SPECIAL, random_graph, same

from micrograd_like import (
    Op,
    Value,
    affine,
    compile,
    grad,
    greater,
    ops,
    topological_order,
    where,
)
from micrograd_like.compiler.tape import record
from micrograd_like.errors import OperandError, TraceError


def test_constants_fold_and_equal_expressions_are_one():
    x = Value(2.0, "x")
    tape = record([(x * 2 * 3 + 0 * 1) * (6 * x) + Value(1.0) * 5], [x])
    assert str(tape) == "v1 = 5.0 + 36.0·v0·v0\nreturn v1"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_term_that_a_sum_has_to_keep_apart_several_times_is_one_assignment(backend):
    xs = [Value(x) for x in (1.0, -2.0, 3.0)]
    roots = [0.0 * x - x - x - x for x in xs]
    assert str(record(roots[:1], xs)) == "v3 = -1.0·v0\nv4 = 0.0·v0 + 3.0·v3\nreturn v4"
    program = compile(roots, xs, backend=backend)
    assert list(program([1.0, -2.0, 3.0])) == [-3.0, 6.0, -9.0]
    assert math.isnan(program([math.inf, 1.0, 1.0])[0])


def test_a_tape_has_assignments_in_order():
    x, y = Value(2.0), Value(3.0)
    root = 2.0 * x * y + ops.maximum(x, 0.5) - 3.0 * y + 1.0
    assert str(record([root, Value(5.0)], [x, y])).splitlines() == [
        "v2 = max(v0, 0.5)",
        "v3 = 1.0 + 1.0·v2 + -3.0·v1 + 2.0·v0·v1",
        "return v3, 5.0",
    ]


@pytest.mark.parametrize(
    ("outputs", "written"),
    [
        # Coefficients move out of products and quotients, constants are folded.
        (lambda x, y: x / y, "v2 = div(v0, v1); return v2"),
        (lambda x, y: 2.0 * x / y, "v2 = ieee_div(v0, v1); v3 = 2.0·v2; return v3"),
        (lambda x, y: x / (4.0 * y), "v2 = ieee_div(v0, v1); v3 = 0.25·v2; return v3"),
        (lambda x, y: (2.0 * x) / (4.0 * y), "v2 = ieee_div(v0, v1); v3 = 0.5·v2; return v3"),
        (lambda x, y: 2.0 / (4.0 * y), "v2 = 4.0·v1; v3 = div(2.0, v2); return v3"),
        (lambda x, y: (3.0 * x) / 2.0, "v2 = 1.5·v0; return v2"),
        (lambda x, y: Value(2.0) * 3.0 + Value(1.5), "return 7.5"),
        # Not where this would overflow, vanish or divide by zero.
        (lambda x, y: x / 1e-310, "v2 = div(v0, 1e-310); return v2"),
        (lambda x, y: 1e300 * x / 1e-300, "v2 = 1e+300·v0; v3 = div(v2, 1e-300); return v3"),
        (lambda x, y: 1e-300 * x / 1e300, "v2 = 1e-300·v0; v3 = div(v2, 1e+300); return v3"),
        (lambda x, y: ops.ieee_div(x, 0.0), "v2 = ieee_div(v0, 0.0); return v2"),
        (lambda x, y: x * 1e200 * 1e200, "v2 = 1e+200·v0; v3 = mul(v2, 1e+200); return v3"),
        (lambda x, y: 1e-200 * (1e-200 * x), "v2 = 1e-200·v0; v3 = mul(1e-200, v2); return v3"),
        (lambda x, y: x * 1e-200 * 0.0, "v2 = 0.0·v0; return v2"),
        # Small powers are products.
        (lambda x, y: ops.power(x, 0.0) + y, "v2 = 1.0 + 1.0·v1; return v2"),
        (lambda x, y: x**1 + y, "v2 = 1.0·v0 + 1.0·v1; return v2"),
        (lambda x, y: x**2 + y, "v2 = 1.0·v1 + 1.0·v0·v0; return v2"),
        (lambda x, y: x**3, "v2 = 1.0·v0·v0; v3 = 1.0·v0·v2; return v3"),
        (lambda x, y: x**4, "v2 = pow(v0, 4.0); return v2"),
        (lambda x, y: x**y, "v2 = pow(v0, v1); return v2"),
        (lambda x, y: ops.pow_slope(3.0 * x, 0.0) + y, "return v1"),
        (lambda x, y: ops.pow_slope(3.0 * x, 1.0) + y, "v2 = 1.0 + 1.0·v1; return v2"),
        (lambda x, y: ops.pow_slope(3.0 * x, 2.0), "v2 = 6.0·v0; return v2"),
        (lambda x, y: ops.pow_slope(3.0 * x, 3.0), "v2 = 27.0·v0·v0; return v2"),
        (lambda x, y: ops.pow_slope(x, 4.0), "v2 = 1.0·v0·v0; v3 = 4.0·v0·v2; return v3"),
        (lambda x, y: ops.pow_slope(x, 5.0), "v2 = ieee_pow(v0, 4.0); v3 = 5.0·v2; return v3"),
        (lambda x, y: ops.pow_slope(x, y), "v2 = pow_slope(v0, v1); return v2"),
        # Equal expressions are one.
        (lambda x, y: [x * y + 1.0, y * x + 1.0], "v2 = 1.0 + 1.0·v0·v1; return v2, v2"),
        (lambda x, y: [x + y, y + x], "v2 = 1.0·v0 + 1.0·v1; return v2, v2"),
        (
            lambda x, y: [ops.maximum(x, c) for c in (0.0, -0.0, math.nan, -math.nan)],
            "v2 = max(v0, 0.0); v3 = max(v0, -0.0); v4 = max(v0, nan); return v2, v3, v4, v4",
        ),
        # So are multiples that several use, and sums that are multiplied by constants.
        (
            lambda x, y: (d := 3.0 * x).tanh() + d.sin(),
            "v2 = 3.0·v0; v3 = tanh(v2); v4 = sin(v2); v5 = 1.0·v3 + 1.0·v4; return v5",
        ),
        (lambda x, y: 2.0 * (x + y) - x, "v2 = 1.0·v0 + 1.0·v1; v3 = 2.0·v2 + -1.0·v0; return v3"),
        # What is used once is taken up; 2x - x stays, which is NaN for an infinite x.
        (lambda x, y: x - 2.0 * (x * y) + 1.5, "v2 = 1.5 + 1.0·v0 + -2.0·v0·v1; return v2"),
        (lambda x, y: 2.0 * x + x, "v2 = 3.0·v0; return v2"),
        (lambda x, y: 2.0 * x - x, "v2 = -1.0·v0; v3 = 2.0·v0 + 1.0·v2; return v3"),
        (
            lambda x, y: 3.0 * (x * y) - x * y * 2.0,
            "v2 = 1.0·v0·v1; v3 = -2.0·v2; v4 = 3.0·v2 + 1.0·v3; return v4",
        ),
        (
            lambda x, y: affine([x, y, 2.0], [y, 3.0, x], 1.5),
            "v2 = 1.5 + 3.0·v1 + 2.0·v0 + 1.0·v0·v1; return v2",
        ),
        (
            lambda x, y: x * (x + y + 1.0) - x * (x + (y + 1.0)),  # equal as soon as both are flat
            "v2 = 1.0 + 1.0·v0 + 1.0·v1; v3 = -1.0·v0·v2; v4 = 1.0·v3 + 1.0·v0·v2; return v4",
        ),
        (lambda x, y: 0.0 * x + x, "v2 = 1.0·v0; v3 = 0.0·v0 + 1.0·v2; return v3"),
        (
            lambda x, y: affine([2.0, x], [3.0, y], 1.5) + x,
            "v2 = 7.5 + 1.0·v0 + 1.0·v0·v1; return v2",
        ),
        (
            lambda x, y: x.sin() * y + ops.power(x.exp(), 0.0),  # exp is dropped
            "v2 = sin(v0); v3 = 1.0 + 1.0·v1·v2; return v3",
        ),
        (lambda x, y: [x, -y, y * 1.0, x + 0.0, 4.0], "v2 = -1.0·v1; return v0, v2, v1, v0, 4.0"),
        # Nor is taken up what would meet its own negative, or another constant.
        (
            lambda x, y: (s := x + y) * 1.0 - x + (y - s),
            "v2 = 1.0·v0 + 1.0·v1; v3 = 1.0·v2 + -1.0·v0; v4 = 1.0·v1 + -1.0·v2; "
            "v5 = 1.0·v3 + 1.0·v4; return v5",
        ),
        (lambda x, y: x + (y - x), "v2 = 1.0·v1 + -1.0·v0; v3 = 1.0·v0 + 1.0·v2; return v3"),
        (lambda x, y: (x + 4.0) - 4.0, "v2 = 4.0 + 1.0·v0; v3 = -4.0 + 1.0·v2; return v3"),
        (
            lambda x, y: (x - 0.5) + (y - 0.5) + x * y,
            "v2 = -0.5 + 1.0·v0; v3 = -0.5 + 1.0·v1; v4 = 1.0·v2 + 1.0·v3 + 1.0·v0·v1; return v4",
        ),
        (
            lambda x, y: x - (y - 1.0) + x * y,
            "v2 = 1.0 + 1.0·v0 + -1.0·v1 + 1.0·v0·v1; return v2",
        ),
        # A product in another order is the same.
        (
            lambda x, y: [x * y + 1.0, y * x + 2.0],
            "v2 = 1.0·v0·v1; v3 = 1.0 + 1.0·v2; v4 = 2.0 + 1.0·v2; return v3, v4",
        ),
        (
            lambda x, y: [affine([x], [y], 1.0), affine([y], [x], 2.0)],
            "v2 = 1.0·v0·v1; v3 = 1.0 + 1.0·v2; v4 = 2.0 + 1.0·v2; return v3, v4",
        ),
        # Quotients of multiples, and constants that would overflow as one, are told apart.
        (
            lambda x, y: [(2.0 * x) / (4.0 * y), (2.0 * y) / (4.0 * x)],
            "v2 = ieee_div(v0, v1); v3 = ieee_div(v1, v0); v4 = 0.5·v2; v5 = 0.5·v3; return v4, v5",
        ),
        (
            lambda x, y: [1e200 * x * 1e200, 1e200 * y * 1e200, 1e200 * x * 1e200],
            "v2 = 1e+200·v0; v3 = mul(v2, 1e+200); "
            "v4 = 1e+200·v1; v5 = mul(v4, 1e+200); return v3, v5, v3",
        ),
    ],
)
def test_a_graph_is_recorded_in_its_simplest_form(outputs, written):
    xs = [Value(2.0), Value(3.0)]
    roots = outputs(*xs)
    roots = [r if isinstance(r, Value) else Value(r) for r in np.atleast_1d(roots)]
    assert str(record(roots, xs)).replace("\n", "; ") == written


@pytest.mark.parametrize(
    ("root", "written"),
    [
        # The derivatives are made on the tape: none is a graph.
        (lambda x, y: x * y, "v2 = 1.0·v0·v1; return v2, v1, v0"),
        (lambda x, y: x + 2.0, "v2 = 2.0 + 1.0·v0; return v2, 1.0, 0.0"),
        (
            lambda x, y: x * x * y,
            "v2 = 1.0·v0·v0; v3 = 1.0·v1·v2; v4 = 1.0·v0·v1; v5 = 2.0·v4; return v3, v5, v2",
        ),
        # A multiple that goes several ways is an assignment, one that goes on alone is none.
        (
            lambda x, y: 3.0 * (x.exp() * y.sin()),
            "v2 = exp(v0); v3 = sin(v1); v4 = cos(v1); v5 = 3.0·v2·v3; v6 = 3.0·v2·v4; "
            "return v5, v5, v6",
        ),
        (
            lambda x, y: 3.0 * (y.exp() * affine([x], [y], 1.0)),
            "v2 = exp(v1); v3 = 1.0 + 1.0·v0·v1; v4 = 1.0·v2·v3; v5 = 3.0·v2; v6 = 3.0·v4; "
            "v7 = 1.0·v1·v5; v8 = 3.0·v4 + 1.0·v0·v5; return v6, v7, v8",
        ),
        # Each side of a choice counts where it is taken.
        (
            lambda x, y: ops.where(x, y.exp(), x * y),
            "v2 = exp(v1); v3 = 1.0·v0·v1; v4 = where(v0, v2, v3); v5 = where(v0, 0.0, v0); "
            "v6 = where(v0, v2, 0.0); v7 = where(v0, 0.0, v1); v8 = 1.0·v5 + 1.0·v6; "
            "return v4, v7, v8",
        ),
    ],
)
def test_derivatives_are_recorded_after_the_outputs(root, written):
    x, y = Value(2.0), Value(3.0)
    out = root(x, y)
    assert str(record([out], [x, y], roots=[out], wrt=[x, y])).replace("\n", "; ") == written


@pytest.mark.parametrize("seed", range(30))
def test_derivatives_made_on_the_tape_are_those_of_graphs_of_gradients(seed):
    xs, root = random_graph(seed, 25, 3)
    between = [node for node in topological_order(root) if node.op is not None][:3]
    wrt = [*xs, *between]
    graphs = grad(root, wrt, create_graph=True)
    numbers = [compile(root, xs, wrt, backend="python"), compile(graphs, xs, backend="python")]
    rng = random.Random(seed)
    for _ in range(10):
        at = [rng.choice([*SPECIAL, 0.3, -1.7]) for _ in xs]
        (_, found), expected = (program(at) for program in numbers)
        assert all(map(same, found, expected)), (at, found, expected)


def two_sum(a, b):
    s = a + b
    c = s - a
    return s, (a - (s - c)) + (b - c)


def turned_two_sum(a, b):
    s = a + b
    c = s - a
    return s, (b - c) + (a - (s - c))


def fast_two_sum(a, b):
    s = a + b
    return s, b - (s - a)


def kahan(*terms):
    s, c = 0.0, 0.0
    for term in terms:
        y = term - c
        t = s + y
        c = (t - s) - y
        s = t
    return s, c


def corrected(a, b, d):
    (s, e), (t, f) = two_sum(a, b), two_sum(a, d)
    return s, t, s + e, d - (t + f), (s - a) + e


def left_over(*terms):
    s, errors = terms[0], []
    for term in terms[1:]:
        t = s + term
        errors.append(term - (t - s))
        s = t
    return errors


def differences(*terms):
    running = list(accumulate(terms))
    return [b - a for a, b in pairwise(running)]


def ogita_rump(*terms):
    s, c = terms[0], 0.0
    for term in terms[1:]:
        s, e = two_sum(s, term)
        c = c + e
    return s + c, c


def rounded(a, b):
    return (a + 6755399441055744.0) - 6755399441055744.0, (b - 2.0**60) + 2.0**60


ERRORS = [(two_sum, 2), (turned_two_sum, 2), (fast_two_sum, 2), (kahan, 2), (kahan, 3),
          (corrected, 3), (left_over, 6), (differences, 6), (ogita_rump, 6),
          (rounded, 2)]  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("sums", "count"), ERRORS)
def test_what_a_sum_rounds_off_is_computed_as_written(sums, count, backend):
    for numbers in (
        [1e16, 1.0, -3.7, 2.2, 1.0, -1e16],
        [3.4, -1e-9, 1e9, 0.3, 1e-8, 4e17],
        [1.0, 1e-17, 1e-16, 1.1e-16, 1e-16, 0.1],
        [0.1, -1e17, 0.7, 12.3, 1e17, 0.9],
    ):
        xs = [Value(x) for x in numbers[:count]]
        roots = list(sums(*xs))
        program = compile(roots, xs, backend=backend)
        assert list(program(numbers[:count])) == [root.data for root in roots]


def test_a_sum_of_many_sums_with_constants_takes_no_list_of_them_for_each():
    xs = [Value(0.5) for _ in range(4000)]
    root = sum(1.0 - 2.0 * x for x in xs)
    tracemalloc.start()
    record([root], xs)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5000 * len(xs)  # bytes; with a list for each it is 18,000


@pytest.mark.parametrize("backend", BACKENDS)
def test_constants_do_not_become_one_that_has_fewer_digits(backend):
    x = Value(1e300)
    for root in (x * 1e-160 * 1e-160, x / 1e160 / 1e160, (x * 1e-160) / 1e160):
        value, gradient = compile(root, [x], [x], backend=backend)([x.data])
        assert value == pytest.approx(root.data, rel=1e-15, abs=0.0)
        assert gradient[0] == grad(root, x)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_zero_stays_inside_a_quotient(backend):
    x, y = Value(2.0), Value(3.0)
    assert compile((0.0 * x) / y, [x, y], backend=backend)([1e308, 1e-308]) == 0.0
    infinite = Value(math.inf)
    program = compile(infinite / (0.0 * y), [infinite, y], backend=backend)
    assert program([math.inf, 3.0]) == math.inf


# --- operations of the user's ---------------------------------------------------------------------


def number_in(x):
    return x.data if isinstance(x, Value) else x


# By what its partial does: the operation, and whether differentiating it is refused, too.
OF_ONE_EXAMPLE = {
    "calls math": (Op("of_math", math.sin, lambda x, out: math.cos(x)), True),
    "asks for a truth": (Op("of_truth", abs, lambda x, out: out / x if x else 0.0), True),
    "calls a method": (Op("of_method", math.floor, lambda x, out: 0.0 * x.is_integer()), True),
    "compares": (Op("of_sign", lambda x: max(0.0, x), lambda x, out: 1.0 if x > 0 else 0.0), False),
    "takes the largest": (
        Op("of_max", lambda x: x * max(x, 0.0), lambda x, out: 2.0 * max(x, 0.0)),
        False,
    ),
    "reads data": (Op("of_data", lambda x: x * x, lambda x, out: 2.0 * number_in(x)), False),
    "compares data": (
        Op("of_data_sign", lambda x: max(0.0, x), lambda x, out: 1.0 if number_in(x) > 0 else 0.0),
        False,
    ),
    "detaches": (
        Op("of_detached", lambda x: x * x, lambda x, out: x + getattr(x, "detach", lambda: x)()),
        False,
    ),
}


@pytest.mark.parametrize("what", OF_ONE_EXAMPLE)
def test_an_operation_whose_partial_is_no_function_of_values_is_refused_by_its_name(what):
    op, is_of_floats = OF_ONE_EXAMPLE[what]
    x = Value(0.5)
    root = op(2.0 * x)
    assert compile(root, [x], backend="python")([0.5]) == op(1.0)
    with pytest.raises(TraceError, match=f"a partial of {op.name} .*write it in the library's"):
        compile(root, [x], [x], backend="python")
    if is_of_floats:
        with pytest.raises(OperandError, match=f"a partial of {op.name} .*write it in the lib"):
            grad(root, x, create_graph=True)
    assert grad(root, x) == 2.0 * op.partials[0](1.0, op(1.0))


def test_an_operation_that_is_not_differentiated_may_be_of_floats():
    x, y = Value(0.5), Value(2.0)
    op, _ = OF_ONE_EXAMPLE["calls math"]
    program = compile(op(x) * y, [x, y], [y], backend="python")
    assert program([0.5, 2.0]) == (math.sin(0.5) * 2.0, [math.sin(0.5)])


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_operation_that_chooses_by_where_chooses_anew_in_a_program(backend):
    op = Op("mine", lambda x: max(0.0, x), lambda x, out: where(greater(x, 0.0), 1.0, 0.0))
    x = Value(0.5)
    program = compile(op(x), [x], [x], backend=backend)
    assert [float(program([at])[1][0]) for at in (0.5, -1.0, 2.0)] == [1.0, 0.0, 1.0]
