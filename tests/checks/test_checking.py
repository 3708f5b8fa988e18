"""checking.py: wrong gradients are refused and their operations named, right ones pass.

`MICROGRAD_GRADCHECK_GRAPHS=10000 python -m pytest tests/checks/test_checking.py` measures the rates
on more random graphs than the suite does.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import struct
import sys
from collections.abc import Callable
from fractions import Fraction
from inspect import signature
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import planted
from reference import ADMISSIBLE, BINARY, DEFINITIONS, DUAL, VALUE, Program

from micrograd_like import (
    Op,
    Value,
    abs,
    cos,
    exp,
    grad,
    gradcheck,
    greater,
    hessian,
    hypot,
    log,
    maximum,
    nn,
    ops,
    relu,
    sin,
    sqrt,
    tanh,
    topological_order,
    where,
)  # fmt: skip
from micrograd_like.checks.checking import GradientError
from micrograd_like.checks.reports import Report
from micrograd_like.errors import DomainError, InputError, OperandError

GRAPHS = int(os.environ.get("MICROGRAD_GRADCHECK_GRAPHS", "100"))


def random_program(rng: random.Random, *, smooth: bool = True) -> Program:
    """A program of up to 12 steps; where not `smooth`, it may come near poles, kinks and cuts."""
    numbers = [rng.uniform(-3.0, 3.0) for _ in range(rng.randint(1, 3))]
    inputs, steps = tuple(numbers), []
    for _ in range(rng.randint(1, 12)):
        name, last = rng.choice(sorted(DUAL)), len(numbers) - 1
        operands: list[int | float] = [rng.randint(max(0, last - 3), last)]
        if name in BINARY:
            operands.append(rng.choice([rng.randint(0, last), rng.uniform(-2.0, 2.0)]))
            rng.shuffle(operands)
        xs = Program.pick(numbers, operands)
        out = math.nan
        if not smooth or ADMISSIBLE.get(name, lambda *_: True)(*xs):
            with contextlib.suppress(ValueError):
                out = ops.TABLE[name](*xs)
        if not math.fabs(out) < (30.0 if smooth else 1e6):
            name, operands, out = "sin", [last], math.sin(numbers[last])
        steps.append((name, tuple(operands)))
        numbers.append(out)
    return Program(inputs, tuple(steps))


def check(program: Program) -> Report:
    return gradcheck(lambda *xs: program.run(xs, VALUE)[-1], program.inputs, raise_exception=False)


def refused(f: Callable[..., object], inputs: object, **options: bool) -> Report:
    with pytest.raises(GradientError) as caught:
        gradcheck(f, inputs, **options)
    return caught.value.report


# --- right gradients ------------------------------------------------------------------------------


@pytest.mark.parametrize("smooth", [True, False])
def test_a_right_gradient_of_a_random_graph_is_never_refused(smooth):
    refusals = [
        (seed, report.problem)
        for seed in range(GRAPHS)
        if not (report := check(random_program(random.Random(seed), smooth=smooth)))
        and not any(math.isnan(row.gradient) for row in report.rows)
    ]
    assert refusals == []


@pytest.mark.parametrize(
    ("f", "at", "slope"),
    [
        (lambda x: sqrt(x * x), [0.0], "√v1 has the slope inf"),
        (lambda x: (x**3) ** (1 / 3), [0.0], "has the slope inf"),
        (lambda *xs: sqrt(sum((x - sum(xs) / 3.0) ** 2 for x in xs)), [1.0, 1.0, 1.0], "√v"),
        (lambda x: 1.0 / (1.0 + exp(-x)), [-800.0], "chain rule"),  # exp(800) is inf
        (lambda x, y: (x**0.5 - x**0.5).sinh() + y, [0.0, 1.0], "has the slope inf"),
    ],
)
def test_a_gradient_that_is_nan_where_the_function_is_finite_is_wrong(f, at, slope):
    report = refused(f, at)
    assert math.isnan(report.rows[0].gradient)
    assert report.problem.startswith("∂/∂x0 is nan: infinities meet")
    assert slope in report.problem


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-6])
def test_a_right_quotient_of_few_bits_is_not_refused(size, made_up):
    """It is the same number where both operands grow alike."""

    def single(x):
        return struct.unpack("f", struct.pack("f", x))[0]

    quotient = made_up("quotient", lambda x, y: single(single(x) / single(y)),
                  (lambda x, y, out: 1.0 / y, lambda x, y, out: -x / (y * y)))  # fmt: skip
    rng = random.Random(0)
    for _ in range(20):
        assert gradcheck(quotient, [rng.uniform(0.1, 3.0) * size for _ in range(2)])


def test_a_derivative_that_is_nan_by_convention_is_no_fault():
    assert gradcheck(lambda x, y: x**y, [-2.0, 2.0])


@pytest.mark.parametrize("name", sorted(DEFINITIONS))
def test_every_row_passes_and_is_resolved_off_its_kinks(name):
    for xs in DEFINITIONS[name].samples:
        report = gradcheck(ops.TABLE[name], list(xs))
        assert all(row.verdict == "ok" for row in (*report.rows, *report.second)), report
        assert report.kinks == ()


ZEROS_AND_ONES = [0.0, 0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 1e-3, 1e-8, 10.0, 100.0]
UNARY = ["tanh", "exp", "sin", "cos", "sigmoid", "softplus", "gelu", "silu", "erf", "atan", "sinh",
         "cosh", "asinh", "expm1", "log1p", "sqrt", "log", "relu", "abs", "elu"]  # fmt: skip


def of_powers(rng: random.Random, numbers: list[Value]) -> Value:
    """A short graph with many powers, and sums and products of what was there before."""
    numbers = [*numbers]
    for _ in range(rng.randint(1, 5)):
        a, b, kind = rng.choice(numbers), rng.choice(numbers), rng.random()
        if kind < 0.3:
            numbers.append(ops.TABLE[rng.choice(UNARY)](a))
        elif kind < 0.55:
            numbers.append(a * b)
        elif kind < 0.7:
            numbers.append(a + rng.choice([b, 1.0, -0.5]))
        elif kind < 0.9:
            numbers.append(a ** rng.choice([2, 3, 4, 5, 0.5, 1.5, -1]))
        else:
            name = rng.choice(["hypot", "logaddexp", "max", "atan2", "div", "sub"])
            numbers.append(ops.TABLE[name](a, b))
    return numbers[-1]


def test_a_right_gradient_is_not_refused_at_zeros_and_ones():
    decided = 0
    for seed in range(4 * GRAPHS):
        rng = random.Random(seed)
        at = [rng.choice(ZEROS_AND_ONES) for _ in range(rng.randint(1, 3))]
        try:
            root = of_powers(random.Random(seed), [Value(x) for x in at])
        except DomainError:
            continue
        # A partial that underflows is wrong in the end: 1/x² of 1e217, say.
        if any(
            node.data and not 1e-100 < abs(node.data) < 1e100 for node in topological_order(root)
        ):
            continue
        if math.isfinite(root.data):
            report = gradcheck(lambda *xs, seed=seed: of_powers(random.Random(seed), xs), at,
                               raise_exception=False)  # fmt: skip
            if not any(math.isnan(row.gradient) for row in report.rows):
                assert report, (seed, str(report))
                decided += 1
    assert decided > 3 * GRAPHS


def test_inputs_of_hugely_different_magnitude_are_checked():
    report = gradcheck(lambda x, y, z: x * y.gelu() + z.log() * 1e-3, [0.3, 1e300, 1e-300])
    assert all(row.verdict == "ok" for row in report.rows)


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("hypot", (1.0, 1e150)), ("hypot", (1e150, 20.0)), ("hypot", (-1.588862931694695, 1.77e-9)),
        ("elu", (-705.0, 1e150)), ("elu", (-705.0, -1e150)), ("atan2", (1e-40, 1.2e46)),
        ("cosine", (-39.0, -1.9e11)), ("inversion", (-604554467.0, 0.0996)), ("tan", (-7.9e9,)),
        ("sin", (4.4e38,)), ("cos", (-4.8e-149,)), ("cosh", (1.3e-163,)), ("damp", (0.0, -2e-163)),
        ("sech", (-8.6e-155,)), ("one_minus_square", (2e-157,)), ("logaddexp", (-160.4, 1.3e-92)),
        ("logsumexp", (1.1e-143, 528.0, -0.9)), ("pow", (0.0, 3.0)), ("ieee_pow", (0.0, 2.5)),
    ],
)  # fmt: skip
def test_a_right_row_is_not_refused_at_operands_of_any_size(name, at):
    assert gradcheck(lambda *xs: ops.TABLE[name](*xs), at)


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: (x**2) ** 3 * y,
        lambda x, y: ((x * y) ** 3).sigmoid(),
        lambda x, y: (x * y).sinh() ** 3,
        lambda x, y: ops.elu(x - 5e-9) * y,  # beside its kink
        lambda x, y: ops.logaddexp((-x).expm1(), x) * y,  # slopes that cancel
        lambda x, y: ((x + 17.3) ** 17 * y).cos(),  # a wave that is passed fast
    ],
)
def test_powers_of_0_are_right_in_the_second_derivatives_too(f):
    for at in ([0.0, 1.0], [-0.0, 2.0]):
        assert gradcheck(f, at)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0, 4.0])
def test_second_derivatives_of_a_power_of_0_by_its_exponent_first_are_right(exponent):
    assert gradcheck(lambda y, x: x**y, [exponent, 0.0])


def near_a_zero_of_the_slope() -> list[tuple[str, tuple[float, ...]]]:
    """Points where the terms of a derivative cancel: close to where their sum is 0, and on it."""
    zeros = [
        ("gelu", (-0.7517915246935645,)), ("silu", (-1.2784645427610738,)),
        ("gelu_slope", (2.0**0.5,)), ("gelu_slope", (-(2.0**0.5),)),
        *[("inversion", (y, y)) for y in (1.7, 1e-5, 1e150)],
        *[("pow_slope", (x, -1.0 / math.log(x))) for x in (0.3, 1.7, 1e8)],
    ]  # fmt: skip
    rng = random.Random(0)
    return [
        (
            name,
            (*xs[:-1], xs[-1] + rng.gauss(0.0, 10.0 ** rng.uniform(0.0, 12.0)) * math.ulp(xs[-1])),
        )
        for name, xs in zeros
        for _ in range(20)
    ]


def test_a_right_derivative_is_not_refused_where_it_passes_through_0():
    for name, at in near_a_zero_of_the_slope():
        assert gradcheck(ops.TABLE[name], at)


@pytest.mark.parametrize("exponent", [2.0, 3.0, 5.0, 100.0])
def test_a_power_has_no_kink_at_0(exponent):
    report = gradcheck(lambda x: x**exponent, [0.0])
    assert {row.verdict for row in (*report.rows, *report.second)} == {"ok"}


def test_a_result_that_does_not_depend_on_the_inputs_has_gradient_0():
    for f in (lambda x: 5.0, lambda x: Value(5.0), lambda x: 0.0 * x):
        assert [row.gradient for row in gradcheck(f, [2.0]).rows] == [0.0]
    assert gradcheck(lambda x: x, [0.0]).rows[0].gradient == 1.0


def test_a_softmax_that_shifts_by_the_largest_number_is_its_graph():
    def loss(*xs):
        shift = max(x.data for x in xs)
        return log(sum((exp(x - shift) for x in xs), Value(0.0))) + shift - xs[0]

    assert gradcheck(loss, [3.0, -1.0, 0.5])


def test_the_parameters_of_a_model_can_be_checked_through_a_closure():
    model = nn.MLP(2, [4, 1], seed=0)
    before = [p.data for p in model.parameters()]
    report = gradcheck(lambda *_: (model([0.3, -0.4]) - 1.0) ** 2, model.parameters())
    assert all(row.verdict == "ok" for row in report.rows)
    assert [p.data for p in model.parameters()] == before
    assert all(p.grad == 0.0 for p in model.parameters())


# --- wrong gradients ------------------------------------------------------------------------------


def plant(program: Program, seed: int, factor: float) -> tuple[Callable[..., Value], list[str]]:
    """The program with one local derivative scaled, and a list that gets the name of its op."""
    named: list[str] = []

    def f(*xs: Value) -> Value:
        rng = random.Random(seed)
        root: Value = program.run(xs, VALUE)[-1]
        node = rng.choice([n for n in topological_order(root) if n.parents] or [root])
        named[:] = [node.op.name if node.op else ""]
        places = [i for i, d in enumerate(node.operand_grads) if d is not None]
        return planted(factor, root, node, rng.choice(places)) if places else root

    return f, named


@pytest.mark.parametrize("factor", [1.001, -1.0])
def test_a_wrong_local_derivative_is_caught_wherever_it_changes_the_gradient(factor):
    """By a relative 1e-6 or more: a thousandth of what is planted."""
    counted = 0
    for seed in range(GRAPHS):
        program = random_program(random.Random(seed))
        f, named = plant(program, seed, factor)
        xs = [Value(x) for x in program.inputs]
        right, wrong = grad(program.run(xs, VALUE)[-1], xs), grad(f(*xs), xs)
        if not any(
            math.fabs(b - a) > 1e-6 * math.fabs(a) for a, b in zip(right, wrong, strict=True)
        ):
            continue
        report = refused(f, program.inputs, second=False)
        assert report.culprit is not None
        assert [report.culprit.op] == named
        counted += 1
    assert counted > GRAPHS // 2


def bent(partial: Callable[..., object]) -> Callable[..., object]:
    """The partial, with the same number and a graph that changes by a tenth more than it should."""

    def wrong(*args: object) -> object:
        d = partial(*args)
        return d + 0.1 * (d - d.data) if isinstance(d, Value) else d

    return wrong


def test_a_number_hidden_from_the_graph_of_a_partial_is_noticed(monkeypatch):
    """Where it changes a second derivative by 1 % or more of all that is there."""
    counted = 0
    for seed in range(GRAPHS):
        program = random_program(random.Random(seed))

        def f(xs, program=program):
            return program.run(xs, VALUE)[-1]

        name = random.Random(seed).choice([name for name, _ in program.steps])
        gradient = grad(f(xs := [*map(Value, program.inputs)]), xs)
        right = hessian(f, program.inputs)
        with monkeypatch.context() as planted:
            row = ops.TABLE[name]
            planted.setattr(row, "partials", tuple(map(bent, row.partials)))
            wrong = hessian(f, program.inputs)
            most = max(map(math.fabs, gradient)) + max(math.fabs(d) for ds in right for d in ds)
            if any(
                math.fabs(b - a) > 0.01 * most
                for row1, row2 in zip(right, wrong, strict=True)
                for a, b in zip(row1, row2, strict=True)
            ):
                assert "a number is missing" in refused(f, [list(program.inputs)]).problem
                counted += 1
    assert counted > GRAPHS // 5


@pytest.mark.parametrize("mistake", [lambda d: 1.001 * d, lambda d: -d, lambda d: 0.0])
def test_the_row_and_the_node_of_a_wrong_partial_are_named(mistake, made_up):
    wrong = made_up("wrong_sine", math.sin, lambda x, out: mistake(cos(x)))
    report = refused(lambda x, y: sin(x) * wrong(x * y) + exp(y), [0.7, 1.1])
    assert (report.culprit.op, report.culprit.operand) == ("wrong_sine", "x")
    assert report.culprit.node == "v3 = wrong_sine(v2)"
    assert math.isclose(report.culprit.numeric, math.cos(0.7 * 1.1), rel_tol=1e-8)
    assert "wrong_sine" in report.problem
    assert "∂/∂x0" in report.problem


def test_swapped_operands_are_named(made_up):
    wrong = made_up(
        "difference_of_squares",
        lambda x, y: x * x - y * y,
        (lambda x, y, out: -2.0 * y, lambda x, y, out: 2.0 * x),
    )
    assert refused(lambda x, y: wrong(x, y), [2.0, 3.0]).culprit.op == "difference_of_squares"


@pytest.mark.parametrize("name", ["exp", "tanh", "gelu", "hypot", "atan2", "affine"])
@pytest.mark.parametrize("factor", [1.001, -1.0])
def test_a_wrong_row_of_the_library_is_named(name, factor, monkeypatch):
    row = ops.TABLE[name]
    partials = row.partials
    if name == "affine":
        wrong = [lambda *a: [factor * d for d in partials[0](*a)]]
    else:
        wrong = [lambda *a: factor * partials[0](*a), *partials[1:]]
    monkeypatch.setattr(row, "partials", tuple(wrong))
    xs = DEFINITIONS[name].samples[0]
    report = refused(lambda *xs: row(*xs), list(xs))
    assert report.culprit.op == name


def test_a_row_of_the_library_that_computes_something_else_is_named(monkeypatch):
    monkeypatch.setattr(ops.tanh, "compute", lambda x: math.tanh(1.001 * x))
    assert refused(lambda x: tanh(x) * 2.0, [0.5]).culprit.op == "tanh"


@pytest.mark.parametrize("wrong", [0, 61])
def test_one_wrong_element_of_a_hundred_is_found(wrong, made_up):
    rng = random.Random(0)
    xs = [rng.uniform(-1.0, 1.0) for _ in range(100)]
    weighted = made_up(
        "weighted",
        lambda *xs: math.fsum((i + 1) * math.sin(x) for i, x in enumerate(xs)),
        lambda *a: [
            (i + 1) * math.cos(x) * (1.001 if i == wrong else 1.0) for i, x in enumerate(a[:-1])
        ],
    )
    report = refused(lambda *xs: weighted(*xs) + xs[0] * xs[0], xs)
    assert report.culprit.operand == f"xs[{wrong}]"
    assert [row.name for row in report.rows if not row.ok] == [f"∂/∂x{wrong}"]


def test_a_second_derivative_that_alone_is_wrong_is_traced_to_its_row(made_up):
    cosine = made_up("my_cosine", math.cos, lambda x, out: sin(x))
    sine = made_up("my_sine", math.sin, lambda x, out: cosine(x))
    assert gradcheck(lambda x: sine(2 * x) * x, [0.7], second=False)
    report = refused(lambda x: sine(2 * x) * x, [0.7])
    assert (report.culprit.op, report.culprit.order) == ("my_cosine", 2)
    assert [row.verdict for row in (*report.rows, *report.second)] == ["ok", "WRONG"]
    assert report.culprit.node == "v4 = my_cosine(v1)"


@pytest.mark.parametrize(
    "partial",
    [
        lambda x, out: 2.0 * (x.data if isinstance(x, Value) else x),
        lambda x, out: 2.0 * (x.detach() if isinstance(x, Value) else x),
    ],
)
def test_a_partial_whose_graph_lacks_a_part_has_wrong_second_derivatives(partial, made_up):
    """Its number is right, its graph is not."""
    square = made_up("square", lambda x: x * x, partial)
    assert gradcheck(lambda x: square(x) + x, [1.5], second=False)
    problem = refused(lambda x: square(x) + x, [1.5]).problem
    assert "second derivatives by x0 are not those of the gradient's graph" in problem
    report = refused(lambda *xs: sum((x * x for x in xs), square(xs[3])) * xs[0], [1.5] * 6)
    assert "second derivatives by x3 are not" in report.problem


def test_a_graph_that_lacks_a_part_is_found_where_the_input_is_small(made_up):
    grown = made_up("grown", math.exp, lambda x, out: out.data if isinstance(out, Value) else out)
    problem = refused(grown, [1e-4]).problem
    assert "second derivatives by x0 are not those of the gradient's graph" in problem


@pytest.mark.parametrize(
    ("compute", "partials", "at"),
    [
        (lambda x, y: x * y, (lambda x, y, out: x, lambda x, y, out: y), [2.0, 2.0]),
        (lambda x: x * x, (lambda x, out: x,), [0.0]),
        (lambda x: x**3, (lambda x, out: 3.0 * x,), [1.0]),
        (lambda x, y: x - y, (lambda x, y, out: exp(out), lambda x, y, out: -1.0), [0.5, 0.5]),
        (
            lambda *xs: math.fsum(xs),
            (lambda *xs_out: [x / xs_out[0] for x in xs_out[:-1]],),
            [3.0] * 5,
        ),
    ],
)
def test_a_gradient_that_is_right_at_the_inputs_alone_is_wrong_in_the_second_order(
    compute, partials, at, made_up
):
    op = made_up("coincidence", compute, partials)
    inputs = [at] if op.arity is None else at
    f = (lambda xs: op(*xs)) if op.arity is None else op
    assert gradcheck(f, inputs, second=False)
    report = gradcheck(f, inputs, raise_exception=False)
    assert not report
    assert (report.culprit.op, report.culprit.order) == ("coincidence", 2)
    assert "its own derivatives are not: beside the inputs" in report.problem
    leaves = [Value(x) for x in at]
    assert not gradcheck(f, [leaves] if op.arity is None else leaves, raise_exception=False)
    assert [leaf.data for leaf in leaves] == at


def test_of_many_inputs_the_wrong_second_derivatives_are_named(made_up):
    cosine = made_up("my_cosine", math.cos, lambda x, out: sin(x))
    sine = made_up("my_sine", math.sin, lambda x, out: cosine(x))
    report = refused(lambda *xs: sum((x * x for x in xs), sine(xs[3])) * xs[0], [1.5] * 6)
    assert report.culprit.op == "my_cosine"
    assert [row.name for row in report.second if not row.ok] == ["∂²/∂u∂x3"]
    assert len(report.second) == 6


@pytest.mark.parametrize("name", ["atan2", "hypot", "tanh", "gelu", "acosh", "logaddexp", "pow"])
def test_a_wrong_second_derivative_of_the_library_is_named(name, monkeypatch):
    """An operation in the partials has a wrong derivative, which only second ones meet."""
    row, xs = ops.TABLE[name], DEFINITIONS[name].samples[0]
    leaves = [Value(x) for x in xs]
    graphs = grad(row(*leaves), leaves, create_graph=True)
    used = [n.op for n in topological_order(*graphs) if n.op and n.op.kind != "arithmetic"]
    inner = next(op for op in used if op is not row)
    wrong = [lambda *a, partial=partial: 1.001 * partial(*a) for partial in inner.partials]
    monkeypatch.setattr(inner, "partials", tuple(wrong))
    report = refused(lambda *xs: row(*xs), list(xs))
    assert (report.culprit.op, report.culprit.order) == (inner.name, 2)


def test_operands_that_move_unevenly_do_not_hide_or_make_errors(made_up):
    product = made_up(
        "product",
        lambda x, y, z: x * y + z,
        (lambda x, y, z, out: y, lambda x, y, z, out: x, lambda x, y, z, out: 1.0),
    )
    for size in (1e-5, 1e-25, 1e-60):
        assert gradcheck(lambda x, size=size: product(x, sin(x), size * x), [0.7])
    for x in (10.0, 40.0, 100.0):
        assert gradcheck(lambda x: product(x, sin(x), tanh(x)), [x])


def test_a_part_computed_from_data_is_told_from_a_wrong_row():
    report = refused(lambda x, y: x * x.data + y, [1.5, 2.0])
    assert report.culprit is None
    assert "∂/∂x0 is 1.5, that of f itself " in report.problem
    assert "of slope 1.5," in report.problem
    assert "detached" in report.problem


def test_a_detached_part_of_one_input_of_many_is_found():
    def f(*xs):
        total = Value(0.0)
        for x in xs:
            total = total + x * x
        return total + 0.001 * xs[77].data

    assert "∂/∂x77 " in refused(f, [0.01 * i + 0.1 for i in range(100)]).problem


def test_data_changed_after_the_forward_pass_is_said_to_be():
    def f(x):
        y = x * 2.0
        z = y * y
        y.data = 7.0
        return z

    assert "data was changed" in refused(f, [1.5]).problem


@pytest.mark.parametrize("partial", [lambda x, out: math.nan, lambda x, out: math.inf])
def test_a_partial_that_is_no_number_where_there_is_a_slope_is_wrong(partial, made_up):
    twice = made_up("twice", lambda x: 2.0 * x, partial)
    assert refused(twice, [1.0]).culprit.op == "twice"


def test_without_an_exception_the_report_is_false(made_up):
    twice = made_up("twice", lambda x: 2.0 * x, lambda x, out: 2.002)
    report = gradcheck(lambda x: twice(x), [1.0], raise_exception=False)
    assert not report
    assert "WRONG" in str(report)


# --- kinks and edges ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "x", "op", "slopes"),
    [
        (relu, 0.0, "relu", (0.0, 1.0, 0.0)),
        (lambda x: abs(x - 1.0) + x, 1.0, "abs", (-1.0, 1.0, 0.0)),
        (lambda x: maximum(x, 2.0), 2.0, "max", (0.0, 1.0, 0.5)),
        (lambda x: hypot(x, 0.0), 0.0, "hypot", (-1.0, 1.0, 0.0)),
    ],
)
def test_a_kink_is_reported_and_no_error(f, x, op, slopes):
    report = gradcheck(f, [x])
    (kink,) = report.kinks
    assert (kink.op, kink.left, kink.right, kink.used) == (op, *slopes)
    assert report.rows[0].verdict == "kink"
    assert str(kink) in str(report)


@pytest.mark.parametrize("d", [1e-3, 1e-9, 1e-13, -1e-13, 1e-200])
def test_a_point_near_a_kink_is_an_ordinary_point(d, made_up):
    ramp = made_up("ramp", lambda x: max(x, 0.0), lambda x, out: 1.0 if x > 0.0 else 0.0)
    for f in (relu, abs, ramp):
        report = gradcheck(f, [d], second=False)
        assert report.kinks == ()
        assert report.rows[0].verdict == "ok"


def test_a_kink_of_a_users_row_is_told_from_an_error(made_up):
    ramp = made_up("ramp", lambda x: max(x, 0.0), lambda x, out: 1.0 if x > 0.0 else 0.5)
    (kink,) = gradcheck(ramp, [0.0]).kinks
    assert (kink.left, kink.right, kink.used) == (0.0, 1.0, 0.5)
    wrong = made_up("wrong_ramp", lambda x: max(x, 0.0), lambda x, out: 1.0 if x > 0.0 else -0.5)
    assert refused(wrong, [0.0]).culprit.op == "wrong_ramp"


def test_a_branch_in_f_at_the_inputs_is_no_error():
    for x in (0.0, 1e-3, 1e-6):
        assert gradcheck(lambda x: 2.0 * x if x.data > 0.0 else 3.0 * x, [x])
        assert gradcheck(lambda x: 2.0 * x if x.data > 1e-6 else 3.0 * x - 1e-6, [x])


@pytest.mark.parametrize("f", [sqrt, ops.acosh, ops.asin, lambda x: (x - 1.0) ** 0.5])
def test_the_edge_of_a_domain_is_no_error(f):
    x = 0.0 if f is sqrt else 1.0
    (edge,) = gradcheck(f, [x]).kinks
    assert "edge of the domain" in str(edge)


# --- where kinks meet -----------------------------------------------------------------------------


def test_shares_of_a_tie_may_round():
    assert gradcheck(lambda x: ops.minimum(x, x, x) - x, [1.0])


Germ = tuple[Fraction, Fraction]  # a number, and the slope with which it moves to one side


def larger(x: Germ, y: Germ) -> Germ:
    return max(x, y)  # of equal numbers, the one that grows more


def scaled(x: Germ, factor: Fraction) -> Germ:
    return factor * x[0], factor * x[1]


def plus(x: Germ, y: Germ) -> Germ:
    return x[0] + y[0], x[1] + y[1]


ZERO = (Fraction(0), Fraction(0))
PIECEWISE: dict[str, Callable[..., Germ]] = {
    "relu": lambda x: larger(x, ZERO),
    "abs": lambda x: larger(x, scaled(x, Fraction(-1))),
    "leaky": lambda x: larger(x, scaled(x, Fraction(1, 4))),
    "elsewise": lambda c, x, y: x if c > ZERO else y,
    "max": larger,
    "min": lambda x, y: min(x, y),
    "add": plus,
    "sub": lambda x, y: plus(x, scaled(y, Fraction(-1))),
}


def piecewise_rows(right: bool) -> dict[str, Callable[..., Any]]:
    """The operations on Values; some are a user's own, whose conventions may be wrong."""
    ramp, both = (0.0, 0.5) if right else (2.0, 1.0)
    of_their_own = {
        "relu": Op("own_relu", lambda x: max(x, 0.0),
                   lambda x, out: 1.0 if x > 0.0 else ramp if x == 0.0 else 0.0),
        "max": Op("own_max", max, (lambda x, y, out: both if x == y else float(x > y),
                                   lambda x, y, out: both if x == y else float(x < y))),
        "elsewise": Op("elsewise", lambda c, x, y: x if c > 0.0 else y,
                       (lambda c, x, y, out: 0.0, lambda c, x, y, out: float(c > 0.0),
                        lambda c, x, y, out: float(c <= 0.0))),
    }  # fmt: skip
    return {**ops.TABLE, "leaky": lambda x: ops.leaky_relu(x, 0.25), **of_their_own}


@st.composite
def piecewise_programs(draw: st.DrawFn) -> list[tuple[str, tuple[int, ...], int]]:
    """Steps on what there was before, the input being the first: operation, operands, factor."""
    steps = []
    for i in range(draw(st.integers(1, 7))):
        name = draw(st.sampled_from(sorted(PIECEWISE)))
        count = len(signature(PIECEWISE[name]).parameters)
        operands = draw(st.tuples(*[st.integers(0, i)] * count))
        steps.append((name, operands, draw(st.sampled_from([1, -1, 2, -3]))))
    return steps


@given(piecewise_programs(), st.sampled_from([0.0, 0.5, -2.0]), st.booleans())
@settings(max_examples=int(os.environ.get("MICROGRAD_GRADCHECK_KINKS", "300")), deadline=None)
def test_where_kinks_meet_the_slopes_of_the_function_decide(program, x, right):
    def slope(to: int) -> Fraction:
        numbers = [(Fraction(x), Fraction(to))]
        for name, operands, factor in program:
            out = PIECEWISE[name](*(numbers[i] for i in operands))
            numbers.append(scaled(out, Fraction(factor)))
        return to * numbers[-1][1]

    def f(x: Value) -> Value:
        numbers = [x]
        for name, operands, factor in program:
            numbers.append(rows[name](*(numbers[i] for i in operands)) * float(factor))
        return numbers[-1]

    before = dict(ops.TABLE)
    try:
        rows = piecewise_rows(right)
        report = gradcheck(f, [x], second=False, raise_exception=False)
    finally:
        ops.TABLE.clear()
        ops.TABLE.update(before)
    low, high = sorted((slope(-1), slope(1)))
    assert report.ok is (low <= report.rows[0].gradient <= high), report
    if low != high and report.ok:
        assert report.rows[0].verdict == "kink"
    if not report.ok:
        assert report.culprit or "kinks meet there, of v" in report.problem


# --- arguments ------------------------------------------------------------------------------------


def test_arguments_come_one_by_one_or_as_lists_or_as_one_list():
    for f, inputs in (
        (lambda x, y: x * y, [2.0, 3.0]),
        (lambda v: v[0] * v[1], [2.0, 3.0]),
        (lambda v: v[0] * v[1], [[2.0, 3.0]]),
        (lambda v, y: v[0] * y, ([2.0], Value(3.0))),
        (lambda *v: v[0] * v[1], [2, 3]),
    ):
        assert [row.gradient for row in gradcheck(f, inputs).rows] == [3.0, 2.0]
    assert gradcheck(lambda x: x * x, 3.0).rows[0].gradient == 6.0


@pytest.mark.parametrize(
    ("f", "inputs", "error", "message"),
    [
        (3.0, [1.0], OperandError, "needs a function"),
        (sin, [], InputError, "one input or more"),
        (sin, [math.nan], InputError, "f is nan"),
        (sin, ["1"], OperandError, "float"),
        (exp, [1000.0], InputError, "f is inf"),
        (lambda x: [x, x], [1.0], InputError, "one result"),
        (lambda x: x * random.random(), [1.0], InputError, "same inputs"),
    ],
)
def test_what_cannot_be_checked_is_refused(f, inputs, error, message):
    with pytest.raises(error, match=message):
        gradcheck(f, inputs)


def test_inputs_are_put_back_when_f_fails():
    x = Value(1.0)
    calls = []

    def f(x):
        calls.append(x.data)
        if len(calls) > 2:
            raise KeyError
        return x * x

    with pytest.raises(KeyError):
        gradcheck(f, x)
    assert x.data == 1.0 != calls[-1]


def test_deep_graphs_are_checked():
    def f(x):
        for _ in range(sys.getrecursionlimit() * 2):
            x = x * 1.0001
        return x

    assert gradcheck(f, [1.0], second=False)


@pytest.mark.parametrize("x", [-2.0, 0.3, 800.0])
def test_a_choice_is_right_on_both_sides_and_a_kink_between(x):
    def f(x):
        return where(greater(x, 0.0), x * x + 1.0, x.exp())

    assert gradcheck(f, [x])
    assert where(greater(Value(0.0), 0.0), 1.0, 2.0).data == 2.0


@pytest.mark.parametrize(
    "f",
    [
        lambda x: where(greater(x, 1.0), x * x, x),
        lambda x: where(greater(x * x, 1.0), x * x, x) + 3 * x,
        lambda x: where(1.0 - greater(1.0, x), x * x, x.exp()),
    ],
)
def test_a_choice_that_switches_at_the_point_is_a_kink(f):
    assert [row.verdict for row in gradcheck(f, [1.0], second=False).rows] == ["kink"]
    assert [row.verdict for row in gradcheck(f, [1.5], second=False).rows] == ["ok"]


@pytest.mark.parametrize(
    "f",
    [
        lambda x: where(greater(abs(x), 0.0), x + 3.0 * x**2, 0.0),
        lambda x: where(greater(x * x, 0.0), 2.0 * x, 0.0) - x,
        lambda x: where(greater(abs(x), 0.0), x, where(greater(x + 1.0, 0.0), 0.0, x)),
    ],
)
def test_a_number_that_is_chosen_at_the_point_alone_hides_no_slope(f):
    report = gradcheck(f, [0.0], raise_exception=False)
    assert not report
    assert "kinks meet there" in report.problem
    assert gradcheck(f, [0.5])


def test_a_number_chosen_at_the_point_alone_is_right_where_it_is_the_limit():
    def f(x):
        return where(greater(x * x, 0.0), x.sin() / where(greater(x * x, 0.0), x, 1.0), 1.0)

    assert gradcheck(f, [0.0])
