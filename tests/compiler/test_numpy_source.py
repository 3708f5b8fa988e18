"""Programs over NumPy as they are written."""

from __future__ import annotations

import math
import random
from itertools import product as grid

import pytest
from optional import np
from samples import (
    PROGRAMS,
    SPECIAL,
    STEPS,
    WRITTEN,
    agrees,
    coefficients,
    demo,
    long_sums,
    outer,
    parts,
    read_once,
    rectified,
    rosenbrock,
    same,
    vector,
    written,
)

from micrograd_like import (
    Value,
    compile,
    compile_step,
    exp,
    nn,
    ops,
    tanh,
)
from micrograd_like.compiler.rows import unrefusing


def test_a_mask_hides_no_nan_from_a_gradient_that_is_finite_elsewhere():
    model = nn.MLP(2, [4, 4, 1], "relu", seed=0)
    parameters = model.parameters()
    loss = sum(model([0.5, 0.1 * i]) for i in range(5))  # linear in the last layer
    program = compile(loss, parameters, parameters)
    assert " * np.sign(A1)" in program.source
    values = [math.nan, *(p.data for p in parameters[1:])]
    _, gradient = program(values)
    assert same(gradient, compile(loss, parameters, parameters, backend="python")(values)[1])
    assert 0 < np.isnan(gradient).sum() < len(parameters)


@pytest.mark.parametrize("name", [name for name in ops.TABLE if name in ops.BUILTIN])
def test_a_row_over_numpy_gives_what_it_gives_anywhere(name):
    op = ops.TABLE[name]
    count = op.arity or (3 if name == "affine" else 2)
    start = {"acosh": 1.5}.get(name, 0.5)
    xs = [Value(start, label) for label in "xyz"[:count]]
    program = compile(op(*xs), xs)
    numbers = np.array(list(grid(SPECIAL, repeat=count)))
    expected = [unrefusing(op)(*row) for row in numbers.tolist()]
    got = program(numbers)
    wrong = [i for i, x in enumerate(expected) if not same(got[i], x)]
    assert not wrong, [(numbers[i], got[i], expected[i]) for i in wrong]


def test_functions_of_arrays_are_the_operations_that_call_them():
    pytest.importorskip("numpy")
    from micrograd_like.compiler import arrays

    called = [op for op in ops.TABLE.values() if op.array.partition("(")[0] in arrays.FUNCTIONS]
    assert len(called) > 15
    for op in called:
        rows = list(grid(SPECIAL, repeat=op.arity or 2))
        expected = [unrefusing(op)(*row) for row in rows]
        with np.errstate(all="ignore"):
            orders = op.origin[1] if op.origin else ()  # further arguments in its template
            got = arrays.function(op, op.array, "np")(*np.array(rows).T, *orders)
        wrong = [i for i, x in enumerate(expected) if not same(got[i], x)]
        assert not wrong, [(op.name, rows[i], got[i], expected[i]) for i in wrong]


@pytest.mark.parametrize("size", [0.0, 1.0, 100.0, 299.0, 400.0, 750.0, 1e5, 1e308])
def test_sums_of_exponentials_keep_their_digits_whatever_the_size(size):
    pytest.importorskip("numpy")
    from micrograd_like.compiler import arrays

    rng = np.random.default_rng(0)
    for rows in (1, 5, 3000):  # so many that the sum of their squares is large
        x = rng.uniform(-1, 1, (rows, 4)) + size * rng.choice([-1.0, 1.0], (rows, 1))
        x[0] = -size, size, -np.inf, 0.0
        with np.errstate(all="ignore"):
            got = arrays.logsumexp(np, x)
        expected = [ops.logsumexp(*row) for row in x[:50].tolist()]
        assert got[:50].tolist() == pytest.approx(expected, rel=1e-14, abs=1e-15)


@pytest.mark.parametrize("fused", [True, False])
def test_the_networks_source_has_one_line_a_matrix_equation(fused):
    model, loss = demo(fused)
    program = agrees(loss, model.parameters(), "numpy")
    lines = [line.strip() for line in program.source.splitlines()]
    for equation in (
        "Z1 = X @ W1.T + b1",
        "A1 = np.maximum(Z1, 0.0)",
        "Z2 = A1 @ W2.T + b2",
        "dA1 = dZ2 @ W2",
        "dZ1 = dA1 * np.sign(A1)",
        "dW2 = dZ2.T @ A1",
        "dW1 = dZ1.T @ X",
        "db2 = ones100 @ dZ2",
        "gradient = 0.0002 * values",
    ):
        assert equation in lines
    report = program.report()
    assert report.nodes > 100_000
    assert report.statements <= 40
    assert report.matrix_products >= 6
    assert report.gathers == 0


def test_the_fused_and_the_chopped_network_are_the_same_program():
    sources = [
        compile(loss, m.parameters(), m.parameters()).source for m, loss in map(demo, (1, 0))
    ]
    assert sources[0] == sources[1]


def test_inputs_in_turn_are_multiplied_as_arrays():
    u, v = vector("u", 3, 0.1), vector("v", 3, 0.2)
    program = compile(
        [a * b for a, b in zip(u, v, strict=True)], [u[0], v[0], v[1], u[1], u[2], v[2]]
    )
    assert "    t2 = v * u\n" in program.source
    assert program([1.0, 10.0, 20.0, 2.0, 3.0, 30.0]).tolist() == [10.0, 40.0, 90.0]


def test_a_matrix_of_numbers_is_there_once_though_its_transpose_is_used():
    rng = random.Random(0)
    x = vector("x", 4, 0.3)
    rows = [tanh(sum(rng.uniform(-1.0, 1.0) * xj for xj in x)) for _ in range(3)]
    source = compile(sum(rows), x, x).source
    assert "    t1 = X @ x\n" in source
    assert "    dx = X.T @ dt1\n" in source


def test_what_is_subtracted_comes_after_what_it_is_subtracted_from():
    x, y = Value(1.0, "x"), Value(2.0, "y")
    assert "    t2 = y - x\n" in compile(y - x, [x, y]).source


def test_nan_for_each_is_nan_for_all():
    x = vector("x", 3, 0.3)
    assert "np.maximum(x, np.nan)" in compile([ops.maximum(xi, math.nan) for xi in x], x).source


def test_rosenbrock_is_slices():
    x, f = rosenbrock(100)
    program = compile(f, x, x)
    assert "x[1:100] - x[:99] * x[:99]" in program.source
    assert program.report().gathers == 0
    assert program.report().statements <= 11
    assert "for numpy" in str(program.report())
    assert program.report().nodes > program.report().assignments > 300


def test_the_same_graph_has_the_same_source():
    one, two = (compile(*reversed(PROGRAMS["convolution"]())).source for _ in range(2))
    assert one == two


@pytest.mark.parametrize("name", [*WRITTEN, *STEPS])
def test_programs_are_written_as_they_were_when_somebody_read_them(name):
    """To have them written anew, and read: `PYTHONPATH=tests python tests/compiler/samples.py`."""
    assert written(name) == read_once(name)


@pytest.mark.parametrize("make", [outer, parts, rectified, coefficients, long_sums])
def test_programs_that_somebody_read_compute_what_the_engine_does(make):
    inputs, root = make()
    agrees(root, inputs, "numpy")


PAIRS = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)]


@pytest.mark.parametrize(
    "term",
    [
        lambda x, y, z, k: y[PAIRS[k][0]] + z[PAIRS[k][1]],
        lambda x, y, z, k: x[k] + y[PAIRS[k][0]] * z[PAIRS[k][1]],
        lambda x, y, z, k: x[k // 2] + y[PAIRS[k][0]] * z[PAIRS[k][1]],
        lambda x, y, z, k: y[PAIRS[k][1]] * x[4 - k] + y[PAIRS[k][0]] * z[PAIRS[k][1]],
    ],
)
def test_the_order_in_which_alike_elements_are_written_does_not_matter(term):
    pytest.importorskip("numpy")
    from micrograd_like.compiler.numpy_source import NumpyPrinter

    x, y, z = vector("x", 5), vector("y", 3), vector("z", 2)
    told = set()
    for seed in range(5):
        order = random.Random(seed).sample(range(5), 5)
        program = compile(sum(tanh(term(x, y, z, k)) for k in order), [*x, *y, *z])
        source = NumpyPrinter(program._laid_out).program(program._blocks)
        told.add(f"{source.text} {source.constants}")
    assert len(told) == 1


def test_a_loss_that_is_a_derivative_too_is_a_mean_all_the_same():
    w = Value(0.3, "w")
    X, y = [[0.1], [0.2], [0.7]], [1.0, 2.0, 3.0]
    example = (X[0], y[0])
    step = compile_step(lambda x: exp(w + x[0]), lambda out, t: out * t, example, [w])
    loss, gradient = step.value_and_grad(X, y)
    expected = sum(math.exp(0.3 + x) * t for (x,), t in zip(X, y, strict=True)) / 3.0
    assert same(loss, expected)
    assert same(gradient, [expected])


def test_an_output_that_is_a_number_is_no_element_of_the_array_around_it():
    v = vector("v", 3)

    def model(x):
        model.hidden = [tanh(a * x[0]) for a in v]
        return [model.hidden[0], Value(5.0), model.hidden[2]]

    step = compile_step(model, lambda out, y: (sum(model.hidden) - y) ** 2, ([0.5], 1.0), v)
    step.evaluate([[0.1], [0.2]], [1.0, 2.0])
    assert step.outputs[:, 1].tolist() == [5.0, 5.0]
    assert same(step.outputs[:, 2], [math.tanh(v[2].data * x) for x in (0.1, 0.2)])
