"""Programs for JAX: pure functions that its transformations take, and steps shared by devices."""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
import textwrap
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CASES, check_step, random_model
from samples import largest, random_graph, same

from micrograd_like import Value, compile, compile_step, exp, grad, losses, nn, ops, tanh, training
from micrograd_like.errors import InputError, MissingExtraError, OperandError, ProcessError

jax = pytest.importorskip("jax", reason="needs the extra jax")
np = pytest.importorskip("numpy")

from micrograd_like.compiler import xla  # noqa: E402 - needs NumPy


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def network(count=23, activation="tanh", widths=(5, 4)):
    rng = random.Random(7)
    X = [[rng.uniform(-1, 1) for _ in range(3)] for _ in range(count)]
    y = [rng.randrange(4) for _ in X]
    return nn.MLP(3, list(widths), activation=activation, seed=3), X, y


# --- the same results as the eager engine ---------------------------------------------------------


@settings(max_examples=8)
@given(seed=st.integers(0, 10**9), size=st.integers(0, 40), leaves=st.integers(1, 5))
def test_any_graph_and_a_batch_of_it_give_what_the_engine_computes(seed, size, leaves):
    xs, root = random_graph(seed, size, leaves)
    order = random.Random(seed).sample(xs, leaves)
    program = compile(root, xs, order, backend="jax")
    point = [x.data for x in xs]
    value, gradient = program(point)
    expected = grad(root, order)
    assert same(value, root.data)
    assert same(gradient, expected, largest(expected)), program.source
    values, gradients = program([point, point])
    assert same(values, [value] * 2)
    assert same(gradients, [gradient] * 2, largest(expected))


@settings(max_examples=CASES or 20)
@given(seed=st.integers(0, 10**9))
def test_a_step_of_any_model_of_vectors_and_matrices_gives_what_the_engine_does(seed):
    model, loss, parameters, X, y = random_model(seed)
    step = compile_step(model, loss, (X[0], y[0]), parameters, backend="jax")
    check_step(step, model, loss, parameters, X, y)


@pytest.mark.parametrize("count", [4, 5])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_matrix_of_each_example_is_summed_along_its_own_axes(axis, count):
    w = [Value(0.3 * j - 0.4, f"w[{j}]") for j in range(3)]

    def model(x):
        table = [[tanh(x[i] * w[j]) for j in range(3)] for i in range(4)]
        return [sum(line) for line in (zip(*table, strict=True) if axis == 0 else table)]

    X, y = [[0.1 * i - 0.07 * k for i in range(4)] for k in range(count)], [0, 1, 2, 0, 1][:count]
    step = compile_step(model, losses.cross_entropy, (X[0], y[0]), w, backend="jax")
    check_step(step, model, losses.cross_entropy, w, X, y)


def test_the_gradient_of_a_penalty_is_added_to_that_of_the_rest():
    x = [Value(0.1 * i - 0.2, f"x[{i}]") for i in range(5)]
    root = sum(exp(xi) for xi in x) + 0.01 * sum(xi * xi for xi in x)
    program = compile(root, x, x, backend="jax")
    assert "0.02 * values" in program.source
    value, gradient = program([xi.data for xi in x])
    assert same(value, root.data)
    assert same(gradient, grad(root, x))


def test_a_sech_is_written_with_the_tanh_beside_it_where_it_is_squared_and_only_there():
    x, y = ([Value(0.3 * i - 0.5, f"{name}[{i}]") for i in range(4)] for name in "xy")
    sech = [ops.sech(xi) for xi in x]
    with_y = list(zip(sech, y, strict=True))
    written = {
        "squared": [s * s for s in sech],
        "squared, among other terms": [-2.0 * s * s + yi for s, yi in with_y],
        "squared, and the square used twice": [tanh(s * s * yi) - s * s for s, yi in with_y],
    }
    not_written = {
        "once, too": [s * s + s * yi for s, yi in with_y],
        "once": [s * yi for s, yi in with_y],
        "once among others": [s * s + s * yi + yi * yi - 0.5 * yi for s, yi in with_y],
        "crosswise": [s * t for s, t in zip(sech, sech[::-1], strict=True)],
        "an output": [*sech, *(s * s for s in sech)],
        "an argument": [ops.hypot(s, yi) + s * s for s, yi in with_y],
        "in part": [s * s for s in sech[1:]],
        "summed": [sum(s * s for s in sech)],
    }
    for name, others in (written | not_written).items():
        roots = [*(tanh(xi) * yi for xi, yi in zip(x, y, strict=True)), *others]
        program = compile(roots, [*x, *y], backend="jax")
        assert ("cosh" in program.source) == (name in not_written), (name, program.source)
        assert same(program([v.data for v in (*x, *y)]), [r.data for r in roots]), program.source


SPECIAL = [0.0, 1.0, -1.0, 0.5, -0.7, 3.0, -20.0, 400.0, 1e200, math.inf, -math.inf, math.nan]
# sech alone is 1/cosh, which is 0 where cosh overflows; programs may lose the sign of a zero.
SIGNS = {"atan2", "ieee_div", "div", "copysign"}


def test_every_row_and_its_partials_are_functions_of_arrays_with_infinities_and_nan():
    x, y, z = Value(0.3, "x"), Value(0.6, "y"), Value(0.2, "z")
    names, roots = [], []
    for name in sorted(ops.BUILTIN - {"affine", "where", *SIGNS}):
        op = ops.TABLE[name]
        leaves = [x, y, z][: op.arity or 3]
        root = op(1.0 + x) if name == "acosh" else op(*leaves)
        names.append(name)
        roots.append(root)
        for i, slope in enumerate(grad(root, leaves, create_graph=True)):
            if isinstance(slope, Value) and slope.op is not None:
                names.append(f"{name}'{i}")
                roots.append(slope)
    program = compile(roots, [x, y, z], backend="jax")
    with jax.enable_x64(True):
        assert "callback" not in str(jax.make_jaxpr(program.function)(np.zeros(3)))
    rows = [[a, b, 0.25] for a in SPECIAL for b in (0.5, -2.0, 0.0, math.inf, 1e200)]
    results = program(rows)
    straight = compile(roots, [x, y, z], backend="python")
    wrong = {
        (name, tuple(row[:2])): (got, want)
        for row, line in zip(rows, results, strict=True)
        for name, got, want in zip(names, line.tolist(), straight(row), strict=True)
        if not np.isclose(got, want, rtol=1e-9, atol=1e-15, equal_nan=True)
    }
    assert not wrong


def test_the_square_root_of_minus_zero_has_the_sign_that_it_has_in_the_engine(x64):
    x = Value(4.0, "x")
    program = compile(ops.sqrt(x), [x], [x], backend="jax")
    for zero in (0.0, -0.0):
        value, (slope,) = program([zero])
        assert (math.copysign(1.0, value), slope) == (1.0, math.inf)
        assert jax.grad(lambda v: program.function(v)[0])(np.array([zero]))[0] == math.inf
    assert math.isnan(program([-1.0])[0])


def test_the_derivatives_that_jax_takes_itself_are_the_tables_at_kinks_too(x64):
    x, y = Value(0.0, "x"), Value(0.0, "y")
    names = ["relu", "leaky_relu", "elu", "abs", "max", "min", "sigmoid", "softplus", "gelu",
             "silu", "tanh", "erf", "logaddexp", "damp", "atan", "asinh"]  # fmt: skip
    roots = [ops.TABLE[n](*[x, y][: 1 if n in ("leaky_relu", "elu") else ops.TABLE[n].arity])
             for n in names]  # fmt: skip
    roots += [ops.clip(x, y, 0.0), ops.clip(x, 0.0, 0.7)]
    program = compile(roots, [x, y], backend="jax")
    own = compile(roots, [x, y], [x, y])
    for point in ([0.0, 0.0], [0.7, -0.4], [-1.5, -1.5]):
        theirs = jax.jacrev(program.function)(np.array(point))
        assert np.allclose(theirs, own(point)[1], rtol=1e-12, atol=1e-15), point


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_a_step_gives_what_the_one_over_numpy_gives_in_any_order_of_the_parameters(loss):
    model, X, y = network(activation="gelu" if loss == "mse" else "tanh")
    if loss == "mse":
        y = [[0.1 * k, -0.5, float(k % 2), 0.0] for k in y]
    parameters = random.Random(0).sample(model.parameters(), len(model.parameters()))
    of = getattr(losses, loss)
    steps = [
        compile_step(model, of, (X[0], y[0]), parameters, backend=backend)
        for backend in ("numpy", "jax")
    ]
    (value, gradient), (ours, slopes) = [step.value_and_grad(X, y) for step in steps]
    assert ours == pytest.approx(value, rel=1e-13)
    assert np.allclose(slopes, gradient, rtol=1e-11, atol=1e-15)
    assert np.allclose(steps[1].outputs, steps[0].outputs, rtol=1e-13)
    assert steps[1].evaluate(X, y) == pytest.approx(value, rel=1e-13)


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_gradients_in_pieces_and_transposed_go_to_their_places(seed):
    rng = random.Random(0)

    def matrix(name, rows, columns):
        return [
            [Value(rng.uniform(-1.0, 1.0), f"{name}[{i}][{j}]") for j in range(columns)]
            for i in range(rows)
        ]

    (W, V), scale = (matrix("W", 3, 4), matrix("V", 4, 4)), Value(0.3, "scale")
    u, k = [Value(rng.random(), f"u[{j}]") for j in range(4)], [Value(-0.2, "k[0]")]

    def model(x):
        h = [tanh(sum(x[i] * W[i][j] for i in range(3)) + u[3 - j]) for j in range(4)]
        z = [sum(h[i] * V[(i + j) % 4][j] for i in range(4)) for j in range(4)]
        return [zj * scale + k[0] + (u[j] ** 2 if j < 2 else W[0][j]) for j, zj in enumerate(z)]

    parameters = [*(w for row in W + V for w in row), scale, *u, *k]
    if seed is not None:
        random.Random(seed).shuffle(parameters)
    X, y = [[rng.uniform(-1, 1) for _ in range(3)] for _ in range(7)], [0, 3, 1, 2, 1, 0, 3]
    steps = [
        compile_step(model, losses.cross_entropy, (X[0], y[0]), parameters, backend=backend)
        for backend in ("numpy", "jax")
    ]
    (value, gradient), (ours, slopes) = [step.value_and_grad(X, y) for step in steps]
    assert ours == pytest.approx(value, rel=1e-13)
    assert np.allclose(slopes, gradient, rtol=1e-11, atol=1e-15)
    with jax.enable_x64(True):
        given = steps[1].arrays(X, y)
        by_name = steps[1].function(*given)[2]
    assert {n: g.shape for n, g in by_name.items()} == {n: w.shape for n, w in given[0].items()}
    flat = np.array([p.data for p in parameters])
    layout = steps[1].plan.weights
    assert np.array_equal(xla.flattened(xla.named(flat, layout), layout), flat)
    if seed is None:
        assert all(np.shares_memory(x, flat) for x in xla.named(flat, layout).values())


def test_parameters_may_be_called_share_and_a_loss_may_be_constant():
    w, share = Value(0.5, "w"), Value(1.5, "share")

    def loss(output, target):
        return output * target

    X, y = [[1.0], [2.0], [4.0]], [1.0, -1.0, 2.0]
    step = compile_step(lambda x: w * x[0] + share, loss, (X[0], y[0]), [w, share], backend="jax")
    value, gradient = step.value_and_grad(X, y)
    assert value == pytest.approx((0.5 * 7.0 + 1.5 * 2.0) / 3.0)
    assert gradient.tolist() == pytest.approx([7.0 / 3.0, 2.0 / 3.0])
    constant = compile_step(
        lambda x: Value(1.0), lambda o, t: Value(2.0), (X[0], y[0]), [w], backend="jax"
    )
    assert constant(X, y) == 2.0
    assert w.grad == 0.0


def test_a_parameter_may_be_the_loss_itself():
    W = [[Value(1.0), Value(2.0)], [Value(3.0), Value(4.0)]]
    parameters = {"W": W, "b": Value(5.0)}
    for loss, want in (
        (lambda x: W[0][1], [0.0, 1.0, 0.0, 0.0, 0.0]),
        (lambda x: parameters["b"], [0.0, 0.0, 0.0, 0.0, 1.0]),
        (lambda x: W[1][0] if x > 0.0 else W[0][0] * x, [-0.25, 0.0, 0.75, 0.0, 0.0]),
    ):
        step = compile_step(loss, parameters, 1.0, backend="jax")
        assert step.value_and_grad([1.0, 2.0, -1.0, 3.0])[1].tolist() == want


def test_outputs_and_parameters_that_no_example_touches_are_filled_in():
    w, b, unused = Value(0.5, "w"), Value(-1.0, "b"), Value(2.0, "unused")

    def model(x):
        return [w * x[0], b * 1.0, b + x[0] * x[1], Value(3.0), Value(3.0)]

    def loss(output, target):
        return (output[0] - target) ** 2 + w * output[2] + b**2

    X, y = [[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]], [1.0, 2.0, 3.0]
    ours, other = [
        compile_step(model, loss, (X[0], y[0]), [w, unused, b], backend=backend)
        for backend in ("jax", "numpy")
    ]
    value, gradient = ours.value_and_grad(X, y)
    expected, slopes = other.value_and_grad(X, y)
    assert value == pytest.approx(expected)
    assert gradient == pytest.approx(slopes)
    assert ours.outputs == pytest.approx(other.outputs)


# --- a pure function ------------------------------------------------------------------------------


def test_the_source_has_one_line_a_matrix_equation_and_assigns_nothing_in_place():
    model, X, y = network()
    step = compile_step(model, losses.cross_entropy, (X[0], y[0]), backend="jax")
    for line in ("Z1 = X @ W1.T + b1", "A1 = jnp.tanh(Z1)", "dW2 = dZ2.T @ A1"):
        assert f"    {line}\n" in step.source
    assert "(1.0 - A1) * (1.0 + A1)" in step.source
    assert "cosh" not in step.source
    assert "] =" not in step.source
    assert "np." not in step.source.replace("jnp.", "")
    assert r"Z_{1} &= X\, W_{1}^\top + b_{1}" in step.equations()
    assert "hstack" not in step.equations()


def test_jit_grad_and_vmap_take_the_function(x64):
    x = [Value(0.3, "x[0]"), Value(-0.8, "x[1]")]
    root = tanh(x[0] * x[1]) + exp(x[0])
    program = compile(root, x, x, backend="jax")
    value, gradient = jax.jit(program.function)(np.array([0.3, -0.8]))
    assert value.dtype == gradient.dtype == np.float64
    assert float(value) == pytest.approx(root.data, rel=1e-14)
    by_jax = jax.grad(lambda v: program.function(v)[0])(np.array([0.3, -0.8]))
    assert np.allclose(by_jax, gradient, rtol=1e-14)
    curvature = jax.jacfwd(lambda v: program.function(v)[1])(np.array([0.3, -0.8]))
    first = grad(root, x, create_graph=True)
    assert np.allclose(curvature, [grad(g, x) for g in first], rtol=1e-12)
    values, _ = jax.vmap(program.function)(np.array([[0.3, -0.8], [1.0, 2.0]]))
    assert float(values[1]) == pytest.approx(math.tanh(2.0) + math.e, rel=1e-14)
    model, X, y = network()
    step = compile_step(model, losses.cross_entropy, (X[0], y[0]), backend="jax")
    weights, examples = step.arrays(X, y)
    assert {name: w.shape for name, w in weights.items()} == {
        "W1": (5, 3), "b1": (5,), "W2": (4, 5), "b2": (4,)
    }  # fmt: skip
    assert {name: x.shape for name, x in examples.items()} == {"X": (23, 3), "Y": (23, 4)}
    slopes = jax.grad(lambda w: step.function(w, examples)[0])(weights)
    gradient = step.function(weights, examples)[2]
    assert gradient.keys() == weights.keys()
    for name, slope in slopes.items():
        assert np.allclose(slope, gradient[name], rtol=1e-10, atol=1e-15)


def test_several_outputs_give_their_jacobian():
    x = [Value(1.0, "x[0]"), Value(2.0, "x[1]")]
    program = compile([x[0] * x[1], x[0] + x[1], Value(3.0)], x, x, backend="jax")
    values, jacobian = program([1.0, 2.0])
    assert values.tolist() == [2.0, 3.0, 3.0]
    assert jacobian.tolist() == [[2.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    assert program([[1.0, 2.0]] * 3)[1].shape == (3, 3, 2)


def test_an_exported_program_runs_where_the_package_is_not(tmp_path):
    from jax import export

    model, X, y = network(3)
    parameters = model.parameters()
    loss = losses.mean([losses.cross_entropy(model(x), t) for x, t in zip(X, y, strict=True)])
    program = compile(loss, parameters, parameters, backend="jax")
    values = np.array([p.data for p in parameters])
    with jax.enable_x64(True):
        exported = export.export(jax.jit(program.function))(
            jax.ShapeDtypeStruct(values.shape, values.dtype)
        )
    (tmp_path / "program").write_bytes(exported.serialize())
    np.save(tmp_path / "values.npy", values)
    code = """
        import sys
        sys.modules["micrograd_like"] = None
        import jax, numpy as np
        from jax import export
        jax.config.update("jax_enable_x64", True)
        program = export.deserialize(bytearray(open("program", "rb").read()))
        value, gradient = program.call(np.load("values.npy"))
        np.save("results.npy", np.concatenate([[value], gradient]))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, check=True)
    results = np.load(tmp_path / "results.npy")
    assert results[0] == pytest.approx(loss.data, rel=1e-13)
    assert np.allclose(results[1:], grad(loss, parameters), rtol=1e-11, atol=1e-16)


def test_jax_finds_the_shares_of_ties_of_three():
    xs = [Value(1.0), Value(2.0)]
    for extremum in (ops.maximum, ops.minimum):
        program = compile(extremum(*xs, 1.0), xs, xs, backend="jax")
        with jax.enable_x64(True):
            point = np.array([1.0, 1.0])
            by_jax = jax.grad(lambda v, run=program.function: run(v)[0])(point)
        assert by_jax.tolist() == program(point)[1].tolist() == [1 / 3, 1 / 3]


def test_a_row_of_the_users_is_called_back_and_jax_refuses_to_look_into_it(made_up):
    cube = made_up("cube", lambda x: x * x * x, lambda x, out: 3.0 * x * x)
    x = Value(2.0, "x")
    program = compile(cube(x) * x, [x], [x], backend="jax")
    assert [float(r) for r in program([2.0])[1]] == [32.0]
    assert program([[2.0], [1.0]])[0].tolist() == [16.0, 1.0]
    short = compile(cube(x) * x, [x], [x], backend="jax", dtype="float32")([1.1])
    assert {result.dtype for result in short} == {np.dtype(np.float32)}
    assert short[0] == pytest.approx(1.1**4, rel=1e-6)
    with jax.enable_x64(True):
        point = np.array([2.0])
        with pytest.raises(ValueError, match="callback"):
            jax.grad(lambda v: program.function(v)[0])(point)
        with pytest.raises(NotImplementedError, match="callback"):
            jax.export.export(jax.jit(program.function))(jax.ShapeDtypeStruct((1,), point.dtype))


def test_a_row_that_xla_calls_from_threads_of_its_own_gets_and_gives_float64(made_up):
    cube = made_up("cube", lambda x: x * x * x, lambda x, out: 3.0 * x * x)
    xs = [Value(0.1 * i) for i in range(20)]
    state, total = Value(0.0), Value(0.0)
    for x in xs:
        state = ops.sin(0.5 * state + x)
        total = total + cube(state)
    rows = np.random.default_rng(0).normal(size=(3000, len(xs)))
    by_xla, by_numpy = (compile(total, xs, backend=of)(rows) for of in ("jax", "numpy"))
    assert np.allclose(by_xla, by_numpy, rtol=1e-11, atol=1e-11)


# --- dtypes ---------------------------------------------------------------------------------------


def test_float64_is_never_rounded_silently_and_the_users_configuration_stays():
    x = Value(0.1, "x")
    program = compile(x * x, [x], [x], backend="jax")
    with jax.enable_x64(False):
        assert program([0.1])[0] == 0.1 * 0.1
        assert jax.numpy.asarray(0.1).dtype == np.float32
        for call, problem in (
            (program.function, "float64, which JAX has switched off"),
            (jax.jit(program.function), "float64, and was given float32"),
        ):
            with pytest.raises(InputError, match=problem + ": .*jax_enable_x64.*dtype='float32'"):
                call(np.array([0.1]))
    with jax.enable_x64(True):
        assert float(program.function(np.array([0.1]))[0]) == 0.1 * 0.1
        for whole in (np.array([2**40]), np.array([3], np.int32), [5]):
            assert float(program.function(whole)[0]) == float(whole[0]) ** 2
        with pytest.raises(InputError, match="was given float32"):
            program.function(np.array([0.1], np.float32))
    model, X, y = network(3)
    step = compile_step(model, losses.cross_entropy, (X[0], y[0]), backend="jax")
    with jax.enable_x64(False), pytest.raises(InputError, match="dtype='float32'"):
        step.function(*step.arrays(X, y))


def test_float32_is_float32_throughout_wherever_it_runs():
    model, X, y = network(activation="gelu")
    step = compile_step(model, losses.cross_entropy, (X[0], y[0]), backend="jax", dtype="float32")
    expected = compile_step(model, losses.cross_entropy, (X[0], y[0])).value_and_grad(X, y)
    value, gradient = step.value_and_grad(X, y)
    assert gradient.dtype == step.outputs.dtype == np.float32
    assert value == pytest.approx(expected[0], rel=1e-5)
    assert np.allclose(gradient, expected[1], rtol=1e-3, atol=1e-6)
    arrays = jax.tree.map(lambda x: x.astype(np.float32), step.arrays(X, y))
    for x64 in (False, True):
        with jax.enable_x64(x64):
            jaxpr = jax.make_jaxpr(step.function)(*arrays)
        assert not re.search(r"f64\[\d", str(jaxpr))
        assert {x.dtype for x in jaxpr.out_avals} == {np.dtype(np.float32)}


def test_constants_of_a_program_in_float32_are_float32(x64):
    xs = [Value(0.1 * i, f"x[{i}]") for i in range(4)]
    program = compile(
        [0.3 * i * x for i, x in enumerate(xs, 1)], xs, backend="jax", dtype="float32"
    )
    assert "c1" in program.source
    jaxpr = jax.make_jaxpr(program.function)(np.ones(4, np.float32))
    assert not re.search(r"f64\[\d", str(jaxpr))


def test_what_does_not_fit_is_refused(monkeypatch):
    x = Value(1.0, "x")
    with pytest.raises(InputError, match="dtype is float64 or float32, not 'float16'"):
        compile(x, [x], backend="jax", dtype="float16")
    with pytest.raises(InputError, match="needs backend='jax'"):
        compile(x, [x], dtype="float32")
    with pytest.raises(InputError, match="numpy, python, numba, jax or javascript"):
        compile(x, [x], backend="xla")
    program = compile(x, [x], backend="jax")
    with pytest.raises(InputError, match="takes 1 values"):
        program([1.0, 2.0])
    with pytest.raises(OperandError):
        program(["1"])
    model, X, y = network()
    with pytest.raises(InputError, match="numpy, numba, jax or javascript"):
        compile_step(model, losses.cross_entropy, (X[0], y[0]), backend="python")
    with pytest.raises(InputError, match="devices are for backend='jax'"):
        compile_step(model, losses.cross_entropy, (X[0], y[0]), devices=1)
    with pytest.raises(InputError, match="engine='jax'"):
        training.fit(model, X, y, devices=1)
    for wrong, error in ((99, InputError), (0, InputError), (1.5, OperandError)):
        with pytest.raises(error, match="devices"):
            training.fit(model, X, y, engine="jax", devices=wrong)
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(MissingExtraError, match=r"^jax is not .*pip install .*\[jax\]"):
        compile(x, [x], backend="jax")
    with pytest.raises(MissingExtraError, match=r"^jax is not .*pip install .*\[jax\]"):
        training.fit(model, X, y, engine="jax")


# --- devices --------------------------------------------------------------------------------------

EIGHT_DEVICES = """
import json, random
import numpy as np
from micrograd_like import nn, training
from micrograd_like.errors import InputError
from micrograd_like.compiler import xla

rng = random.Random(0)
X = [[rng.uniform(-1, 1) for _ in range(3)] for _ in range(22)]
y = [rng.randrange(4) for _ in X]
weights = {}
for devices in (None, 1, 4, 8):
    model = nn.MLP(3, [5, 4], seed=3)
    options = {"engine": "jax", "devices": devices} if devices else {}
    training.fit(model, X, y, epochs=25, batch_size=13, validation=(X[:3], y[:3]), **options)
    weights[str(devices)] = [p.data for p in model.parameters()]
try:
    training.fit(model, X, y, engine="jax", devices=9)
except InputError as error:
    refusal = str(error)
shapes = []
def look(values, examples):
    import jax
    jax.debug.inspect_array_sharding(
        examples, callback=lambda s: shapes.append(s.shard_shape((16, 3)))
    )
    return (examples @ values).sum(), examples @ values, values
xla.sharded(look, "float64", 8)(np.ones(3), np.ones((13, 3)))
print(json.dumps({"weights": weights, "refusal": refusal, "sharding": shapes}))
"""


def test_weights_after_50_steps_are_the_eager_engines_on_devices_that_do_not_divide_the_batch():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    result = subprocess.run(
        [sys.executable, "-c", EIGHT_DEVICES],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(result.stdout.splitlines()[-1])
    eager = told["weights"].pop("None")
    assert set(told["weights"]) == {"1", "4", "8"}
    for weights in told["weights"].values():
        assert weights == pytest.approx(eager, rel=0.0, abs=1e-9)
    assert told["refusal"].startswith("9 devices were asked for, and there are 8")
    assert told["sharding"] == [[2, 3]]


def test_what_cannot_be_traced_is_trained_by_the_eager_engine_with_a_warning():
    weights = []
    for engine in ("eager", "jax"):
        model, X, y = network(9)
        options = {"loss": lambda out, t: losses.cross_entropy(out, t + 0), "epochs": 1}
        if engine == "eager":
            training.fit(model, X, y, **options)
        else:
            with pytest.warns(UserWarning, match="not compiled"):
                training.fit(model, X, y, engine=engine, **options)
        weights.append([p.data for p in model.parameters()])
    assert weights[0] == weights[1]


# --- several processes (tests/test_processes.py has real ones) ------------------------------------


@pytest.fixture
def processes(monkeypatch):
    """Sets of how many processes JAX says that this is one."""

    def are(count):
        monkeypatch.setattr(jax, "process_count", lambda: count)

    are(2)
    return are


def test_of_several_processes_all_devices_take_part(processes, monkeypatch):
    kinds = [types.SimpleNamespace(platform=platform) for platform in ("gpu", "gpu", "gpu")]
    monkeypatch.setattr(jax, "devices", lambda: kinds)
    assert xla._devices(None) == xla._devices(3) == kinds
    for count in (1, 2, 4):
        with pytest.raises(InputError, match=r"^. devices were asked for, and there are 3$"):
            xla._devices(count)
    processes(1)
    assert xla._devices(None) == xla._devices(1) == kinds[:1]
    assert xla._devices(2) == kinds[:2]
    kinds[:] = [types.SimpleNamespace(platform="cpu")]
    with pytest.raises(InputError, match="there is 1; XLA_FLAGS=--xla_force"):
        xla._devices(2)
    for wrong in (True, 1.0, "1"):
        with pytest.raises(OperandError, match="devices is a whole number, not"):
            xla._devices(wrong)


def test_processes_agree_or_name_the_first_that_differs_and_in_what(processes, monkeypatch):
    from jax.experimental import multihost_utils

    gathered = []

    def with_those_of(*others):
        def gather(mine):
            gathered.append(mine)
            return np.array([mine if other is None else other for other in others])

        monkeypatch.setattr(multihost_utils, "process_allgather", gather)

    parts = {"model": [1, 2], "data": "a,b", "options": {"epochs": 3}}
    with_those_of(None, None)
    xla.agree(parts)
    xla.agree({**parts, "data": "a,c", "options": None})
    mine, other = gathered
    assert mine.dtype == np.uint8
    assert (mine == other).all(1).tolist() == [True, False, False]
    with_those_of(None, None, other)
    with pytest.raises(
        InputError, match=r"^process 2 differs from process 0 in its data, options:"
    ):
        xla.agree(parts)
    with_those_of(other, None, mine)
    with pytest.raises(
        InputError, match=r"^process 1 differs from process 0 in its data, options:"
    ):
        xla.agree(parts)
    processes(1)
    xla.agree(parts)
    assert len(gathered) == 4


def test_a_process_joins_the_others_with_its_number_and_its_patience(monkeypatch):
    told = []
    monkeypatch.setattr(
        jax.distributed,
        "initialize",
        lambda *arguments, **options: told.append((arguments, options)),
    )
    xla.join("host:1234", 4, 2, 30)
    patience = {"initialization_timeout": 30, "heartbeat_timeout_seconds": 30}
    where = {"coordinator_bind_address": "host:1234"}  # and not at all addresses
    assert told == [(("host:1234", 4, 2), where | patience)]


def test_a_lost_process_is_told_from_what_else_jax_raises(processes):
    lost, other = jax.errors.JaxRuntimeError("UNAVAILABLE"), ValueError("shapes")
    gloo = ValueError("Gloo all-reduce failed")
    for error, raised in ((lost, ProcessError), (gloo, ProcessError), (other, ValueError)):
        processes(2)
        with pytest.raises(raised) as told, xla._peers():
            raise error
        if raised is ProcessError:
            assert str(told.value).startswith("process 0 has lost another process")
            assert told.value.__cause__ is error
        processes(1)
        with pytest.raises(type(error)) as told, xla._peers():
            raise error
        assert told.value is error


def test_constants_that_were_added_one_after_the_other_stay_apart():
    xs = [Value(x) for x in (3.4, -0.7)]
    whole = [(x + 1.5 * 2.0**52) - 1.5 * 2.0**52 for x in xs]
    program = compile(whole, xs, xs, backend="jax")
    for values, slopes in (program([3.4, -0.7]), [each[0] for each in program([[3.4, -0.7]])]):
        assert values.tolist() == [3.0, -1.0]
        assert slopes.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    with jax.enable_x64(True):
        slopes = jax.grad(lambda x: program.function(x)[0].sum())(np.array([3.4, -0.7]))
    assert slopes.tolist() == [1.0, 1.0]
    short = [(x + 1.5 * 2.0**23) - 1.5 * 2.0**23 for x in xs]
    values = compile(short, xs, backend="jax", dtype="float32")([3.4, -0.7])
    assert values.tolist() == [3.0, -1.0]


def test_errors_of_a_sum_of_sums_are_those_of_its_own_order():
    def error(a, b):
        z = (a + b) - a
        return (a - ((a + b) - z)) + (b - z)

    numbers = [1.5530764339221814, 5521910708222612.0, -0.47715640081037314, -3046059354296498.5]
    a, b, c, d = xs = [Value(x) for x in numbers]
    errors = (error(a, b) + error(c, d)) + error(a + b, c + d)
    assert compile(errors, xs, backend="jax")(numbers) == errors.data
