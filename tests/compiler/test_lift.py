"""What is lifted together: sums of several lengths, siblings, heads; and what padding may do."""

from __future__ import annotations

import math
import random
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CASES
from ragged import agree, check_ragged, linear, matrix, points

from micrograd_like import Value, compile, compile_step, grad, losses, ops, tanh

np = pytest.importorskip("numpy")

from samples import agrees, unpadded, vector  # noqa: E402

from micrograd_like.compiler.numpy_source import NumpyPrinter  # noqa: E402


@settings(max_examples=CASES or 25)
@given(seed=st.integers(0, 10**9))
def test_any_ragged_program_is_what_its_numbers_are(seed):
    check_ragged(seed, unpadded)


@settings(max_examples=CASES // 100 or 2)
@given(seed=st.integers(0, 10**9))
def test_any_ragged_program_is_what_its_numbers_are_over_jax(seed):
    pytest.importorskip("jax")
    check_ragged(seed, unpadded, "jax")


def transformer(n=5, heads=2, width=4, layers=1, seed=0):
    """Leaves and what the loss of a causal transformer is the sum of."""
    rng = random.Random(seed)
    X, size = matrix(rng, "X", n, width), width // heads
    Ws = [[matrix(rng, f"w{k}", width, width) for k in "qkvo"] for _ in range(layers)]
    xs = X
    for Q, K, V, O in Ws:  # noqa: E741
        queries, keys, values = ([linear(W, x) for x in xs] for W in (Q, K, V))
        new = []
        for i in range(n):
            out = []
            for head in range(heads):
                s = slice(head * size, (head + 1) * size)
                scores = [
                    sum(a * b for a, b in zip(queries[i][s], keys[j][s], strict=True)) / size**0.5
                    for j in range(i + 1)
                ]
                weights = losses.softmax(scores)
                out += [
                    sum(w * v[k] for w, v in zip(weights, values, strict=False))
                    for k in range(s.start, s.stop)
                ]
            new.append([a + b for a, b in zip(linear(O, out), xs[i], strict=True)])
        xs = [[tanh(v) for v in row] for row in new]
    terms = [ops.logsumexp(*row) - row[0] for row in xs]
    return [x for row in [*X, *(r for each in Ws for W in each for r in W)] for x in row], terms


@pytest.mark.parametrize("layers", [1, 2])
def test_a_transformer_has_as_many_statements_whatever_its_length(layers):
    counts = []
    for n in (4, 7):
        leaves, terms = transformer(n, layers=layers)
        loss = sum(terms)
        program = compile(loss, leaves, leaves)
        assert agree(program([x.data for x in leaves]), (loss.data, grad(loss, leaves)))
        counts.append((program.report().statements, program.report().gathers))
    assert counts[0] == counts[1]
    assert counts[0][0] < 40 + 40 * layers
    assert counts[0][1] == 0


def test_labels_of_a_second_layer_are_those_of_another_array():
    leaves, terms = transformer(3, layers=2)
    source = compile(sum(terms), leaves, leaves).source
    assert "wq_2 = " in source
    assert len(source.splitlines()) < 120


def graph_network(seed, n=12, width=3, layers=2):
    """Leaves and the loss of layers over a random graph, in which a node sees itself, too."""
    rng = random.Random(seed)
    near = [[j for j in range(n) if rng.random() < 0.3] or [(i + 1) % n] for i in range(n)]
    rows = X = matrix(rng, "X", n, width)
    Ws = [matrix(rng, f"W{k}_", width, width) for k in range(layers)]
    for W in Ws:
        means = [
            [sum(rows[j][k] for j in near[i]) / len(near[i]) + rows[i][k] for k in range(width)]
            for i in range(n)
        ]
        rows = [[tanh(v) for v in linear(W, mean)] for mean in means]
    leaves = [x for row in [*X, *(r for W in Ws for r in W)] for x in row]
    return leaves, sum(v * v for row in rows for v in row)


@pytest.mark.parametrize("seed", range(3))
def test_a_graph_network_is_few_products_with_an_adjacency_matrix_a_layer(seed):
    leaves, loss = graph_network(seed)
    program = compile(loss, leaves, leaves)
    assert program.report().statements <= 30
    assert program.report().gathers == 0
    assert [*filter(re.compile("X|c").match, program._constants)] == ["X2", "X3"]
    single = compile(loss, leaves, leaves, backend="python")
    for x in points(seed, leaves):
        assert agree(program(x), single(x.tolist()))


def test_partial_sums_that_cancel_others_are_not_written_out():
    x = [Value(v, f"x[{i}]") for i, v in enumerate((1.0, 2.0**-53, 2.0**-53))]
    total = x[0] + x[1]
    lost = [total - x[0] - x[1], total + x[2] - x[0]]
    assert compile([total * total, *lost], x)([v.data for v in x])[1:].tolist() == [
        -(2.0**-53),
        0.0,
    ]


@pytest.mark.parametrize(
    "of",
    [
        lambda sums, z: sum(ops.logsumexp(*pair) for pair in pairwise(sums)),
        lambda sums, z: sum(s.sin() * (s + b.exp()).tanh() for s, b in zip(sums, z, strict=True)),
    ],
)
def test_what_is_computed_of_one_number_is_one_array_with_what_is_of_sums(of):
    x, z = vector("x", 10), vector("z", 4)
    root = of([sum(x[i * (i + 1) // 2 : (i + 1) * (i + 2) // 2]) for i in range(4)], z)
    source = compile(root, [*x, *z]).source
    assert max(map(source.count, ("logsumexp_(", "np.sin(", "np.tanh("))) == 1
    agrees(root, [*x, *z], "numpy")


def convolved(kernel, image):
    """The sums of a kernel of 3 × 3 over an image, at its borders of what is there."""
    size = len(image)
    return [
        [
            sum(
                kernel[a][b] * image[i + a - 1][j + b - 1]
                for a in range(3)
                for b in range(3)
                if 0 <= i + a - 1 < size and 0 <= j + b - 1 < size
            )
            for j in range(size)
        ]
        for i in range(size)
    ]


def test_two_convolutions_copy_what_is_padded_once():
    rng = random.Random(0)
    image, first, second = (matrix(rng, name, n, n) for name, n in [("X", 6), ("K", 3), ("C", 3)])
    hidden = [[tanh(v) for v in row] for row in convolved(first, image)]
    loss = sum(tanh(v) ** 2 for row in convolved(second, hidden) for v in row)
    leaves = [x for rows in (image, first, second) for row in rows for x in row]
    program = compile(loss, leaves, leaves)
    assert program.report().statements <= 26
    assert program.report().gathers == 4
    single = compile(loss, leaves, leaves, backend="python")
    for x in points(0, leaves):
        assert agree(program(x), single(x.tolist()))


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_a_step_takes_images_with_borders(backend):
    if backend == "jax":
        pytest.importorskip("jax")
    rng = random.Random(0)
    kernels = {f"K{c}": matrix(rng, f"K{c}", 3, 3) for c in range(2)}

    def loss(image):
        return sum(tanh(v) ** 2 for K in kernels.values() for r in convolved(K, image) for v in r)

    batch = [[[rng.gauss(0, 1) for _ in range(5)] for _ in range(5)] for _ in range(3)]
    step = compile_step(loss, kernels, batch[0], backend=backend)
    assert len(step.source.splitlines()) <= 18
    batch[2][0][0] = 1e200
    parameters = [k for K in kernels.values() for row in K for k in row]
    for _ in range(2):
        mean = losses.mean([loss(image) for image in batch])
        assert step(batch) == pytest.approx(mean.data, rel=1e-12)
        gradient = np.array([k.grad for k in parameters])
        assert np.allclose(gradient, grad(mean, parameters), 1e-9, 1e-12, equal_nan=True)
        batch[2][0][0] = math.inf


def test_a_triangle_of_a_matrix_is_a_product_with_zeros():
    rng = random.Random(0)
    L, x = matrix(rng, "L", 5, 5), matrix(rng, "x", 1, 5)[0]
    y = [sum(L[i][j] * x[j] for j in range(i + 1)) for i in range(5)]
    leaves = [*[L[i][j] for i in range(5) for j in range(5)], *x]
    program = compile(sum(tanh(v) for v in y), leaves, leaves)
    assert "    L_parts = L * mask1\n" in program.source
    assert " = L_parts @ x\n" in program.source
    single = compile(sum(tanh(v) for v in y), leaves, leaves, backend="python")
    for point in points(0, leaves):
        assert agree(program(point), single(point.tolist()))


def recurrent(W, U, xs):
    """The sum of the squares of the states of a recurrent network."""
    state, total = [0.0] * len(W), 0.0
    for x in xs:
        state = [tanh(a + b) for a, b in zip(linear(W, x), linear(U, state), strict=True)]
        total = total + sum(v * v for v in state)
    return total


@pytest.mark.parametrize("given", [False, True])
def test_gradients_of_what_is_used_at_each_step_of_time_are_products_of_matrices(given):
    rng = random.Random(0)
    W, U, X = (matrix(rng, name, m, n) for name, m, n in [("W", 3, 2), ("U", 3, 3), ("X", 6, 2)])
    leaves = [x for rows in (W, U, X) for row in rows for x in row]
    xs = X if given else [[x.data for x in row] for row in X]
    loss = recurrent(W, U, xs)
    program = compile(loss, leaves, leaves)
    (stacked,) = re.findall(
        r"(\w+) = np.concatenate\(\[dt\d+, .*\]\).reshape\(6, 3\)", program.source
    )
    assert re.search(rf"dW = {stacked}.T @ X", program.source)
    assert re.search(rf"dU = {stacked}\[1:6\].T @ t\d+", program.source)
    assert program.report().gathers == 0
    assert r" &= \left[dt_{3}, dt_{6}, " in program.equations()
    single = compile(loss, leaves, leaves, backend="python")
    rows = list(points(0, leaves))
    for x, *of_batch in zip(rows, *program(np.array(rows)), strict=True):
        assert agree(program(x), single(x.tolist()))
        assert agree(of_batch, single(x.tolist()))


def test_parts_of_what_is_stacked_count_once_each():
    rng = random.Random(0)
    a, b = ([matrix(rng, f"{name}{t}_", 1, 3)[0] for t in range(10)] for name in "ab")
    pairs = [(i, j) for i in range(3) for j in range(3)]
    roots = [
        tanh(sum((1.0 if all_alike or t < 5 else 2.0) * a[t][i] * b[t][j] for t in range(10)))
        for all_alike in (True, False)
        for i, j in pairs
    ]
    leaves = [x for row in (*a, *b) for x in row]
    program = compile(sum(roots), leaves, leaves)
    assert program.source.count("concatenate") >= 2
    single = compile(sum(roots), leaves, leaves, backend="python")
    for x in points(0, leaves):
        assert agree(program(x), single(x.tolist()))


@pytest.mark.parametrize("backend", ["numpy", "numba", "jax"])
def test_a_step_through_time_gives_what_the_engine_gives(backend):
    pytest.importorskip("numba" if backend == "numba" else "numpy")
    if backend == "jax":
        pytest.importorskip("jax")
    rng = random.Random(0)
    parameters = {"W": matrix(rng, "W", 3, 2), "U": matrix(rng, "U", 3, 3)}
    batch = [[[rng.gauss(0, 1), rng.gauss(0, 1)] for _ in range(5)] for _ in range(3)]
    step = compile_step(
        lambda xs: recurrent(*parameters.values(), xs), parameters, batch[0], backend=backend
    )
    mean = losses.mean([recurrent(*parameters.values(), xs) for xs in batch])
    assert step(batch) == pytest.approx(mean.data, rel=1e-12)
    leaves = [x for rows in parameters.values() for row in rows for x in row]
    assert [x.grad for x in leaves] == pytest.approx(grad(mean, leaves), rel=1e-10)


def alike(x, y):
    return np.allclose(x, y, 1e-11, 1e-13, equal_nan=True)


def test_what_padding_hides_is_computed_again_wherever_a_program_is_called():
    leaves, terms = transformer(4)
    point = np.array([x.data for x in leaves])
    point[13] = math.inf  # of the last position, which the others do not look at
    expected = compile(terms, leaves, backend="python")(point.tolist())
    assert list(map(math.isfinite, expected)) == [True, True, True, False]
    program = compile(terms, leaves)
    printed = NumpyPrinter(program._laid_out).program(program._blocks)
    bare = {**printed.constants, "np": np}
    exec(printed.text, bare)
    with np.errstate(all="ignore"):
        assert np.isnan(bare["program"](point)).all()
    for results in (program(point), program.function(point), program(point[None])[0]):
        assert alike(results, expected)
    jax = pytest.importorskip("jax")
    program = compile(terms, leaves, backend="jax")
    with jax.enable_x64(True):
        for function in (program.function, jax.jit(program.function)):
            assert alike(function(point), expected)
        batch = jax.jit(jax.vmap(program.function))
        assert alike(batch(np.array([point, point]))[1], expected)
    for results in (program(point), program(point[None])[0]):
        assert alike(results, expected)


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_a_step_computes_again_what_padding_hides(backend):
    if backend == "jax":
        pytest.importorskip("jax")
    rng = random.Random(1)
    W = matrix(rng, "W", 3, 3)

    def model(x):
        """The logarithm of how much each row is like those before it, and like itself."""
        rows = [linear(W, x[3 * i : 3 * i + 3]) for i in range(3)]
        alike = [
            [sum(a * b for a, b in zip(x, y, strict=True)) for y in rows[: i + 1]]
            for i, x in enumerate(rows)
        ]
        return [ops.logsumexp(*row) for row in alike]

    parameters = [w for row in W for w in row]
    X = [[0.1 * (i + j) for j in range(9)] for i in range(3)]
    step = compile_step(model, losses.mse, (X[0], [0.0] * 3), parameters, backend=backend)
    X[1][7] = math.inf  # which the first two outputs do not depend on
    step.value_and_grad(X, [[0.0] * 3] * 3)
    outputs = [v.data for v in model(X[1])[:2]]
    assert np.all(np.isfinite(outputs))
    assert step.outputs[1][:2].tolist() == pytest.approx(outputs)


def test_a_program_that_may_lose_a_nan_sums_what_is_real_alone():
    leaves, terms = transformer(4)
    loss = sum(terms)
    root = ops.where(leaves[0], loss, 0.0) + 0.0 * loss
    program = compile(root, leaves, leaves)
    assert program._lifted.may_lose
    assert "np.where(mask" in program.source
    single = compile(root, leaves, leaves, backend="python")
    for x in points(0, leaves):
        assert agree(program(x), single(x.tolist()))


def test_what_is_not_real_is_no_assignment():
    leaves, terms = transformer(4)
    form = compile(sum(terms), leaves, leaves)._lifted
    assert form.is_padded
    for number, (array, place) in enumerate(zip(form.array_of, form.place_of, strict=True)):
        assert array.members[place] == number
        assert array.real is None or array.real[place]
