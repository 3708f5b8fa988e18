"""Loop nests as they are written: Python itself runs them, and finds what the engine computes."""

from __future__ import annotations

import math
import operator
import random
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from models import CASES, random_model, roots_of

from micrograd_like import Value, exp, grad, losses, ops, tanh

np = pytest.importorskip("numpy")

from ragged import random_ragged  # noqa: E402
from samples import LOOPS, lifted, read_once, unpadded, written  # noqa: E402

from micrograd_like.compiler import loops, rows  # noqa: E402


def same(x, y, scale=0.0):
    """Whether x and y agree to 1e-12, and are NaN and infinite in the same places."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    with np.errstate(invalid="ignore"):
        near = np.isfinite(y) & (np.abs(x - y) <= 1e-12 * np.maximum(np.abs(y), scale))
    return x.shape == y.shape and bool(np.all((x == y) | near | (np.isnan(x) & np.isnan(y))))


def largest(xs):
    return max([1.0, *(abs(x) for x in xs if math.isfinite(x))])


def leaves(count, numbers=None):
    numbers = numbers or [0.5] * count
    return [Value(x, f"x[{i}]") for i, x in enumerate(numbers)]


def random_root(rng, xs, size):
    """Sums, products, rows of the table and whole rows of alike expressions, some out of order."""
    unary = ["tanh", "relu", "sigmoid", "sin", "gelu", "softplus", "abs", "elu", "silu", "neg"]
    binary = ["add", "sub", "mul", "max", "min", "logaddexp"]
    vectors = [list(xs)]
    for _ in range(size):
        a, b = rng.choice(vectors), rng.choice(vectors)
        kind = rng.random()
        if kind < 0.3:
            op = ops.TABLE[rng.choice(unary)]
            vectors.append([op(x) for x in a])
        elif kind < 0.6:
            op, shift = ops.TABLE[rng.choice(binary)], rng.randrange(3)
            vectors.append([op(x, b[(i + shift) % len(b)]) for i, x in enumerate(a)])
        elif kind < 0.75:
            weights = [[rng.uniform(-1, 1) for _ in a] for _ in range(rng.randint(1, 10))]
            vectors.append(
                [tanh(sum(w * x for w, x in zip(row, a, strict=True))) for row in weights]
            )
        elif kind < 0.9:
            vectors.append([rng.choice(a) * 0.7 + rng.choice([1.0, -0.5]) for _ in a])
        else:
            vectors.append([x / (1.5 + y * y) for x in a[:4] for y in b[:4]])
    return sum((tanh(0.1 * x) for vector in vectors[-4:] for x in vector), Value(0.0))


def across(out, a, b, places, at, c):
    """What the kernel of this name computes, and how it reads `places`."""
    (g, i, j, k), rest = counts(places, at), iter(places[at + 4 :].astype(int).tolist())
    out_g, out_i, a_g, a_i, a_k, b_g, b_k = (taken(rest, n) for n in (g, i, g, i, k, g, k))
    multiplied(
        out, a, b, c, (out_g, out_i, np.arange(j)), (a_g, a_i, a_k), (b_g, np.arange(j), b_k)
    )


def along(out, a, b, places, at, c):
    (g, i, j, k), rest = counts(places, at), iter(places[at + 4 :].astype(int).tolist())
    out_g, out_i, a_g, a_i, b_g, b_j = (taken(rest, n) for n in (g, i, g, i, g, j))
    neighbours = np.arange(j), np.arange(k)
    multiplied(
        out,
        a,
        b,
        c,
        (out_g, out_i, neighbours[0]),
        (a_g, a_i, neighbours[1]),
        (b_g, b_j, neighbours[1]),
    )


def counts(places, at):
    return places[at : at + 4].astype(int).tolist()


def taken(numbers, count):
    return np.array([next(numbers) for _ in range(count)], int)


def multiplied(out, a, b, c, *steps):
    """Set out to c · a @ b.T, at places that are sums of steps along three axes."""
    to, left, right = (x[:, None, None] + y[:, None] + z for x, y, z in steps)
    out[to] = c * (a[left] @ b[right].transpose(0, 2, 1))


def emitted(outputs, inputs, wrt=None):
    """The loops as they are written, and the blocks that they fill."""
    program = lifted(outputs, inputs, wrt, stacks=False)
    if program._lifted.may_lose:
        program = unpadded(outputs, inputs, wrt)
    return loops.emit_loops(program._lifted, program._blocks), program._blocks


def interpreted(outputs, inputs, gradient=True):
    """The text of the loops, if Python, which runs them without a compiler, finds them right."""
    single = isinstance(outputs, Value)
    roots = [outputs] if single else outputs
    expected = {"outputs": [r.data for r in roots]}
    if gradient:
        expected["gradient"] = [grad(r, inputs) for r in roots]
    text, blocks = emitted(outputs, inputs, inputs if gradient else None)
    space = {"math": math, "np": np, "inf": math.inf, "nan": math.nan, "add": operator.add}
    space |= {"INF": math.inf, "NAN": math.nan}
    space["njit"] = lambda *_, **__: lambda function: function
    space |= {"part": lambda array, start, size: array[start : start + size]}
    space |= {"across": across, "along": along}
    source = text.source.removeprefix(loops._HEADER)
    exec(re.sub("^from micrograd_like.compiler.kernels .*", "", source, flags=re.M), space)
    for shape in ((), (2,)):
        found = {
            name: np.full((*shape, size) if size else shape, math.nan) for name, size in blocks
        }
        values = np.broadcast_to([x.data for x in inputs], (*shape, len(inputs)))
        given = {**found, **text.arrays, "values": values}
        first, *rest = text.signature
        if shape:
            names = [first, "outputs", *rest] if single else text.signature
            space["batch"](*[given[name] for name in names])
        else:
            returned = space["program"](*[given[name] for name in text.signature])
            found |= {"outputs": returned} if single else {}
        for name, got in found.items():
            wanted = np.ravel(expected[name])
            for row in np.reshape(got, (-1, len(wanted))):
                assert same(row, wanted, largest(wanted)), (name, text.source)
    return text.source


@settings(max_examples=40)
@given(seed=st.integers(0, 10**9), count=st.integers(1, 20), several=st.booleans())
def test_any_graph_is_written_as_loops_that_compute_it(seed, count, several):
    rng = random.Random(seed)
    xs = leaves(count, [rng.uniform(-1.5, 1.5) for _ in range(count)])
    root = random_root(rng, xs, 6)
    interpreted([root, xs[0] * root, Value(3.0)] if several else root, xs)


@settings(max_examples=CASES or 20)
@given(seed=st.integers(0, 10**9))
def test_any_model_of_vectors_and_matrices_is_written_as_loops_that_compute_it(seed):
    model, loss, parameters, X, y = random_model(seed)
    _, roots = roots_of(model, loss, X, y)
    interpreted(losses.mean(roots), parameters)
    interpreted(roots, parameters)


@settings(max_examples=CASES or 15)
@given(seed=st.integers(0, 10**9))
@example(seed=2305)  # two masks of the same numbers in other shapes
def test_any_ragged_program_is_written_as_loops_that_compute_it(seed):
    xs, loss = random_ragged(seed)
    interpreted(loss, xs)


def numbered(name, *shape):
    """A matrix or a vector of leaves."""
    if len(shape) == 1:
        return [Value(math.sin(1.0 + i), f"{name}[{i}]") for i in range(shape[0])]
    return [
        [Value(math.cos(1.0 + i * shape[1] + j), f"{name}[{i}][{j}]") for j in range(shape[1])]
        for i in range(shape[0])
    ]


@pytest.mark.parametrize(
    ("rows_", "length"),
    [(1, 3), (2, 3), (12, 3), (6, 3), (9, 3), (1, 11), (3, 11), (33, 3), (1, 50), (2, 50), (4, 50)],
)
def test_sums_over_an_axis_with_coefficients_of_any_shape(length, rows_):
    a, u, v = numbered("a", rows_, length), numbered("u", rows_), numbered("v", length)
    b, w = numbered("b", 2, length), numbered("w", length, 9)
    c = [[0.5 + math.sin(3.0 * i + j) for j in range(60)] for i in range(60)]
    i_, k_ = range(rows_), range(length)
    sums = [
        [sum(c[i][k] * a[i][k] * v[k] for k in k_) for i in i_],
        [sum(c[i][0] * a[i][k] * v[k] for k in k_) for i in i_],
        [sum(c[0][k] * a[i][k] * v[k] for k in k_) for i in i_],
        [sum(a[i][k] * v[k] for k in k_) - 2.0 * u[i] + c[i][0] for i in i_],
        [sum(c[i][k] * a[i][k] for k in k_) for i in i_],
        [sum(c[i][k] * a[i][k] * u[i] for i in i_) for k in k_],
        [sum(c[0][k] * a[i][k] for i in i_) for k in k_],
        [sum(c[i][k] * a[i][k] * v[k] for k in k_)
         + sum(c[j][0] * a[j][0] * u[j] for j in i_) for i in i_],
        [sum(c[i][j] * a[i][k] * b[j][k] for k in k_) for i in i_ for j in range(2)],
        [sum(c[k][j] * a[i][k] * b[j][k] for k in k_) for i in i_ for j in range(2)],
        [sum(c[i][j] * a[i][k] * w[k][j] for k in k_) for i in i_[:3] for j in range(9)],
        [u[i] + c[i][j] + sum(a[i][k] * w[k][j] for k in k_) for i in i_[:3] for j in range(9)],
        [sum(a[i][k] * v[(k * k + 3 * k // 2) % length] for k in k_) for i in i_],
        [sum(a[i][k] * v[-1 - k] for k in k_) for i in i_],
    ]  # fmt: skip
    inputs = [*(x for row in a + b + w for x in row), *u, *v]
    for vector in sums:
        interpreted([tanh(x) for x in vector], inputs)
        source = interpreted([tanh(x) for x in vector], inputs, gradient=False)
        assert "+ -" not in source
        interpreted(sum(exp(-x) for x in vector), inputs)


@pytest.mark.parametrize("count", [7, 8, 64, 65, 150])
def test_sums_of_many_terms_that_have_nothing_in_common(count):
    x = y = Value(0.5, "x")
    parts = []
    for k in range(count):
        y = ops.sin(y + 0.1 * k) if k % 3 else tanh(y)
        parts.append(-y if k % 2 else y)
    interpreted(sum(parts), [x])


def test_constants_may_be_infinite_or_nan():
    x, y = xs = [Value(0.5, "x"), Value(-2.0, "y")]
    low, high, nan = Value(-math.inf), Value(math.inf), Value(math.nan)
    with np.errstate(all="ignore"):
        source = interpreted(
            [ops.minimum(x * y, high), ops.maximum(x + y, low), ops.hypot(x, nan)], xs
        )
    for number in ("inf", "(-inf)", "nan"):
        assert f", {number})" in source


MENTIONED = {
    "values", "gradient", "outputs", "data", "places", "math", "np", "inf", "nan", "add", "abs",
    "part", "work", "number", "across", "along", "range", "i0", "i1", "i2", "k", "INF", "NAN",
    *rows.FUNCTIONS,
}  # fmt: skip


def test_labels_do_not_hide_what_a_program_mentions():
    x, y = xs = [Value(0.5, "x"), Value(-2.0, "y")]
    labels = [*sorted(MENTIONED), "∂", "for", "add", "add_2", "v1", "terms20", "ä", "ö", "ü"]
    nodes = [x]
    for k, label in enumerate(labels):
        nodes.append(tanh(ops.hypot(nodes[-1], y + 0.1 * k)))
        nodes[-1].label = label
    source = interpreted(sum(nodes) + ops.logsumexp(*nodes[:20]), xs)
    assigned = set(re.findall(r"^ +(\w+) = ", source, re.M))
    assert {"math_2", "t", "t_2", "t_3"} <= assigned
    assert assigned & MENTIONED == {"number", "work"}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_are_written_as_they_were_when_somebody_read_them(name):
    assert written(name) == read_once(name)


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "operations"),
    [
        (lambda x: ops.hypot(ops.hypot(x[0], x[1]), x[2]), 2 * 4),
        (lambda x: x[0] * x[1] + x[2], 5),
        (lambda x: ops.logsumexp(x[0] * x[1], x[1], x[2]), 9),
        (lambda x: ops.logsumexp(*map(tanh, x)), 4 + 3),
        (lambda x: sum(xi * xi for xi in x), 4),
        (lambda x: sum(tanh(0.5 * xi) for xi in x), 8),
    ],
)
def test_what_is_too_long_is_told_by_the_operations_written_out(root, operations, monkeypatch):
    """Two for a call and one for each of its arguments, one for each factor and each term."""
    xs = leaves(40)
    monkeypatch.setattr(loops, "MOST_OPERATIONS", operations)
    emitted(root(xs), xs)
    monkeypatch.setattr(loops, "MOST_OPERATIONS", operations - 1)
    with pytest.raises(loops.UnsuitableError):
        emitted(root(xs), xs)
