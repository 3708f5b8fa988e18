"""Arrays of inputs that are used alike, as one."""

from __future__ import annotations

import random

import pytest
from ragged import agree, linear, matrix, points

from micrograd_like import Value, compile, compile_step, exp, grad, losses, sigmoid, tanh

np = pytest.importorskip("numpy")

from micrograd_like.compiler.siblings import cut_apart  # noqa: E402
from micrograd_like.compiler.tape import Tape  # noqa: E402


def names(program):
    """What the arrays of the source are called, those of the gradient not."""
    return [line.split(" = ")[0].strip() for line in program.source.splitlines() if " = " in line]


def checked(loss, leaves):
    """The program of the loss and the gradient, which is right with odd numbers put in, too."""
    program = compile(loss, leaves, leaves)
    single = compile(loss, leaves, leaves, backend="python")
    rows = list(points(0, leaves))
    for x, *of_batch in zip(rows, *program(np.array(rows)), strict=True):
        assert agree(program(x), single(x.tolist()))
        assert agree(of_batch, single(x.tolist()))
    return program


def lstm(width=3, length=4):
    """Weights by name, and a loss of a sequence of vectors of two numbers."""
    rng = random.Random(1)
    Ws, Us = (
        [matrix(rng, f"{x}{g}", width, n) for g in "ifoc"] for x, n in [("W", 2), ("U", width)]
    )
    bs = [matrix(rng, f"b{g}", 1, width)[0] for g in "ifoc"]

    def loss(xs):
        state, cell, total = [0.0] * width, [0.0] * width, 0.0
        for x in xs:
            sums = [
                [a + b + c for a, b, c in zip(linear(W, x), linear(U, state), bias, strict=True)]
                for W, U, bias in zip(Ws, Us, bs, strict=True)
            ]
            i, f, o = ([sigmoid(v) for v in gate] for gate in sums[:3])
            g = [tanh(v) for v in sums[3]]
            cell = [a * b + c * d for a, b, c, d in zip(f, cell, i, g, strict=True)]
            state = [a * tanh(b) for a, b in zip(o, cell, strict=True)]
            total = total + sum(v * v for v in state)
        return total

    every = {
        f"{x}{g}": W
        for x, of in (("W", Ws), ("U", Us), ("b", bs))
        for g, W in zip("ifoc", of, strict=True)
    }
    return every, loss


def flat(tree):
    return [tree] if isinstance(tree, Value) else [leaf for item in tree for leaf in flat(item)]


def test_the_gates_of_an_lstm_are_one_array_and_their_weights_too():
    weights, loss = lstm()
    leaves = [leaf for W in weights.values() for leaf in flat(W)]
    program = checked(loss([[0.3, -0.1], [0.2, 0.5], [-0.4, 0.1], [0.9, 0.2]]), leaves)
    assert names(program)[:3] == ["W", "U", "b"]
    assert {"dWi", "dWf", "dWo", "dWc", "dUi", "dbc"} < {*names(program)}
    assert program.report().statements <= 30 + 25 * 4


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_a_step_has_gradients_by_the_names_that_the_user_gave(backend):
    if backend == "jax":
        pytest.importorskip("jax")
    weights, loss = lstm()
    rng = random.Random(2)
    batch = [[[rng.gauss(0, 1), rng.gauss(0, 1)] for _ in range(n)] for n in (3, 2, 3)]
    step = compile_step(loss, weights, batch[0], backend=backend)
    value = step(batch)
    leaves = flat([*weights.values()])
    expected = losses.mean([loss(example) for example in batch])
    assert value == pytest.approx(expected.data, rel=1e-12)
    assert [leaf.grad for leaf in leaves] == pytest.approx(grad(expected, leaves), rel=1e-9)


@pytest.mark.parametrize(("by", "product"), [("rows", "W @ x"), ("columns", "W.T @ x")])
def test_what_is_multiplied_by_rows_or_columns_follows_one_another(by, product):
    rng = random.Random(0)
    Ws = {f"W{k}": matrix(rng, f"W{k}", 3, 3) for k in "abc"}
    given = [0.5, -0.2, 0.3]

    def loss(x):
        every = [zip(*W, strict=True) if by == "columns" else W for W in Ws.values()]
        return sum(tanh(v) ** 2 for W in every for v in linear(W, x))

    x = [Value(v, f"x[{i}]") for i, v in enumerate(given)]
    assert f" = {product}\n" in checked(loss(x), flat([*Ws.values(), x])).source
    pytest.importorskip("jax")
    step = compile_step(loss, Ws, given, backend="jax")
    assert step([given]) == pytest.approx(loss(x).data, rel=1e-12)


def test_several_kernels_are_rows_of_one_matrix():
    rng = random.Random(0)
    kernels = [matrix(rng, f"K{c}", 2, 2) for c in range(3)]
    image = [[rng.gauss(0, 1) for _ in range(6)] for _ in range(6)]
    sums = [
        sum(
            K[a][b] * image[i + a - 1][j + b - 1]
            for a in range(2)
            for b in range(2)
            if i + a >= 1 and j + b >= 1
        )
        for K in kernels
        for i in range(6)
        for j in range(6)
    ]
    program = checked(sum(tanh(s) ** 2 for s in sums), flat(kernels))
    assert names(program)[0] == "K"
    assert program.report().statements <= 10
    assert program.report().gathers == 0


def test_what_is_used_otherwise_stays_apart():
    rng = random.Random(0)
    Q, K = matrix(rng, "Q", 2, 2), matrix(rng, "K", 2, 2)
    X = matrix(rng, "X", 3, 2)
    queries, keys = ([linear(W, x) for x in X] for W in (Q, K))
    scores = [sum(a * b for a, b in zip(q, k, strict=True)) for q in queries for k in keys]
    program = checked(sum(exp(s) for s in scores), flat([Q, K, X]))
    assert {"Q", "K"} < {*names(program)}


def test_what_is_multiplied_with_something_else_stays_apart():
    rng = random.Random(0)
    x = flat(matrix(rng, "x", 1, 2))
    first, second = ([matrix(rng, f"{name}{k}", 2, 2) for k in "ab"] for name in "UV")
    hidden = [[tanh(v) for v in linear(U, x)] for U in first]
    towers = [tanh(v) for V, h in zip(second, hidden, strict=True) for v in linear(V, h)]
    program = checked(sum(v * v for v in towers), flat([x, first, second]))
    assert {"U", "Va", "Vb"} < {*names(program)}


def without_labels(seed):
    """A loss of causal attention, and its weights in one list, with labels and without."""
    rng = random.Random(seed)
    xs = [[rng.gauss(0, 1) for _ in range(4)] for _ in range(6)]
    Q, K, V, O = (matrix(rng, name, 4, 4) for name in "QKVO")  # noqa: E741
    queries, keys, values = ([linear(W, x) for x in xs] for W in (Q, K, V))
    loss = Value(0.0)
    for i, query in enumerate(queries):
        mixed = []
        for head in (0, 2):
            scores = [query[head] * k[head] + query[head + 1] * k[head + 1] for k in keys[: i + 1]]
            chances = losses.softmax(scores)
            mixed += [
                sum(c * v[head + j] for c, v in zip(chances, values, strict=False))
                for j in range(2)
            ]
        loss = loss + sum(tanh(y) ** 2 for y in linear(O, mixed))
    return loss, {"Q": Q, "K": K, "V": V, "O": O}


@pytest.mark.parametrize("order", ["QKVO", "KQVO", "OVQK", "VKOQ", "QOKV"])
def test_queries_and_keys_that_have_no_labels_are_arrays_of_their_own(order):
    loss, weights = without_labels(0)
    leaves = flat([weights[name] for name in order])
    wanted = compile(loss, leaves, leaves).report()
    for leaf in leaves:
        leaf.label = ""
    reached = checked(loss, leaves).report()
    assert reached.statements <= wanted.statements + 1
    assert reached.matrix_products == wanted.matrix_products


def test_one_key_head_for_all_queries_is_told_apart_too():
    rng = random.Random(3)
    xs = [[rng.gauss(0, 1) for _ in range(3)] for _ in range(4)]
    Q, K = matrix(rng, "Q", 4, 3), matrix(rng, "K", 2, 3)
    queries, keys = ([linear(W, x) for x in xs] for W in (Q, K))
    scores = [q[h] * k[0] + q[h + 1] * k[1] for q in queries for h in (0, 2) for k in keys]
    leaves = flat([Q, K])
    for leaf in leaves:
        leaf.label = ""
    program = checked(sum(exp(s) for s in scores), leaves)
    assert "x = values[:12].reshape(4, 3)" in program.source
    assert "x_2 = values[12:18].reshape(2, 3)" in program.source


def test_rows_without_labels_stay_together_where_none_multiplies_another_one():
    rng = random.Random(4)
    leaves = flat([matrix(rng, "", 3, 2), matrix(rng, "", 2, 3)])
    for leaf in leaves:
        leaf.label = ""
    first, second = (
        [leaves[i : i + n] for i in places] for places, n in (((0, 2, 4), 2), ((6, 9), 3))
    )
    hidden = [tanh(v) for v in linear(first, [0.5, -1.5])]
    loss = sum(v * v for v in linear(second, hidden))
    assert "x = values\n" in checked(loss, leaves).source
    neighbours = linear(first, [hidden[0], hidden[1]])
    chained = neighbours[0] * neighbours[1] + neighbours[1] * neighbours[2]
    assert "x = values\n" in checked(loss + chained, leaves).source


def test_a_tape_is_gone_through_once_however_many_vectors_there_are():
    class Watched(list):
        passes = 0

        def __iter__(self):
            Watched.passes += 1
            return super().__iter__()

    vectors = [(f"b{i}", (3,), range(3 * i, 3 * i + 3)) for i in range(4)]
    assert cut_apart(Tape(12, Watched(), [], {}, {}, 0), vectors) == vectors
    assert Watched.passes == 1
