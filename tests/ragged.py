"""Programs of vectors of several lengths, drawn at random: attention, recurrence, neighbours.

CASES=10000 python -m pytest -k any_ragged     # so many, instead of the suite's few
"""

from __future__ import annotations

import math
import random

import pytest
from optional import np

from micrograd_like import Value, compile, exp, losses, ops, sigmoid, tanh


def matrix(rng, name, m, n):
    return [[Value(rng.gauss(0, 0.7), f"{name}[{i}][{j}]") for j in range(n)] for i in range(m)]


def linear(W, x):
    return [sum(w * v for w, v in zip(row, x, strict=True)) for row in W]


def weights_of(kind, scores):
    """Attention's weights: a softmax in several spellings, or what is none."""
    if kind == "softmax":
        return losses.softmax(scores)
    if kind == "logsumexp":
        total = ops.logsumexp(*scores)
        return [exp(s - total) for s in scores]
    if kind == "exp":
        powers = [exp(s) for s in scores]
        total = sum(powers)
        return [p / total for p in powers]
    if kind == "mean":
        return [tanh(s) / len(scores) for s in scores]
    return scores if kind == "linear" else [tanh(s) for s in scores]


def attention(rng):
    """Layers of several heads, over what came before, a window of it, or another sequence."""
    n, heads = rng.randint(2, 5), rng.randint(1, 3)
    width = heads * rng.randint(1, 3)
    size = width // heads
    kind = rng.choice(["softmax", "logsumexp", "exp", "mean", "linear", "tanh"])
    sees = rng.choice(["causal", "causal", "strict", "window", "encoder", "mixed"])
    scaled, residual, nonlinear = (rng.random() < 0.5 for _ in range(3))
    layers = rng.choice([1, 1, 2])
    X, Y = matrix(rng, "X", n, width), matrix(rng, "Y", rng.randint(2, 4), width)
    # The labels of a second layer are those of the first.
    Ws = [[matrix(rng, name, width, width) for name in "QKVO"] for _ in range(layers)]
    xs = X
    for Q, K, V, O in Ws:  # noqa: E741 - as papers call it
        given = Y if sees == "encoder" else xs
        queries = [linear(Q, x) for x in xs]
        keys, values = ([linear(W, x) for x in given] for W in (K, V))
        outputs = []
        for i, query in enumerate(queries):
            seen = {
                "strict": range(max(i, 1)),
                "window": range(max(0, i - 1), i + 1),
                "encoder": range(len(given)),
                "mixed": range(rng.randint(1, len(given))),
            }.get(sees, range(i + 1))
            output = []
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                scores = [
                    sum(a * b for a, b in zip(query[part], keys[j][part], strict=True))
                    for j in seen
                ]
                if scaled:
                    scores = [s / size**0.5 for s in scores]
                weights = weights_of(kind, scores)
                output += [
                    sum(w * values[j][k] for w, j in zip(weights, seen, strict=True))
                    for k in range(part.start, part.stop)
                ]
            projected = linear(O, output)
            if residual:
                projected = [a + b for a, b in zip(projected, xs[i], strict=True)]
            outputs.append([tanh(a) for a in projected] if nonlinear else projected)
        xs = outputs
    leaves = [
        *X,
        *(Y if sees == "encoder" else []),
        *(row for each in Ws for W in each for row in W),
    ]
    return leaves, xs


def recurrence(rng):
    """A cell with gates, or without, over sequences of several lengths."""
    width, gated = rng.randint(1, 3), rng.random() < 0.5
    W, U = matrix(rng, "W", width, 2), matrix(rng, "U", width, width)
    F, G = matrix(rng, "F", width, 2), matrix(rng, "G", width, width)
    leaves, last = [*W, *U, *(F + G if gated else [])], []
    for s, length in enumerate(rng.choices([1, 2, 3, 4], k=rng.randint(1, 3))):
        X = matrix(rng, f"X{s}_", length, 2)
        leaves += X
        state = [0.0] * width
        for x in X:
            new = [tanh(a + b) for a, b in zip(linear(W, x), linear(U, state), strict=True)]
            if gated:
                gates = [
                    sigmoid(a + b) for a, b in zip(linear(F, x), linear(G, state), strict=True)
                ]
                new = [g * a + (1.0 - g) * b for g, a, b in zip(gates, new, state, strict=True)]
            state = new
        last.append(state)
    return leaves, last


def memory(rng):
    """An LSTM, whose gates are alike, or of which some are, unrolled to several lengths."""
    width, biased = rng.randint(1, 3), rng.random() < 0.5
    gates = {name: rng.choice([sigmoid, sigmoid, tanh]) for name in "ifo"} | {"g": tanh}
    Ws, Us = (
        {g: matrix(rng, f"{x}{g}", width, n) for g in gates}
        for x, n in zip("WU", (2, width), strict=True)
    )
    bs = {g: matrix(rng, f"b{g}", 1, width)[0] if biased else [0.0] * width for g in gates}
    leaves, last = [row for each in (Ws, Us) for W in each.values() for row in W], []
    leaves += [*bs.values()] if biased else []
    for s, length in enumerate(rng.choices([1, 2, 3], k=rng.randint(1, 2))):
        X = matrix(rng, f"X{s}_", length, 2)
        leaves += X
        state, cell = [0.0] * width, [0.0] * width
        for x in X:
            i, f, o, g = (
                [
                    function(a + b + c)
                    for a, b, c in zip(linear(Ws[k], x), linear(Us[k], state), bs[k], strict=True)
                ]
                for k, function in gates.items()
            )
            cell = [a * b + c * d for a, b, c, d in zip(f, cell, i, g, strict=True)]
            state = [a * tanh(b) for a, b in zip(o, cell, strict=True)]
        last.append(state)
    return leaves, last


def convolution(rng):
    """Kernels over an image with borders; the image is given, or made of constants."""
    m, n, k = rng.randint(2, 5), rng.randint(2, 5), rng.choice([2, 3])
    image = matrix(rng, "image", m, n)
    kernels = [matrix(rng, f"K{c}_", k, k) for c in range(rng.randint(1, 3))]
    leaves = [row for kernel in kernels for row in kernel]
    if rng.random() < 0.5:
        leaves += image
    else:
        image = [[x.data for x in row] for row in image]
    rows = [
        [
            tanh(
                sum(
                    kernel[a][b] * image[i + a - 1][j + b - 1]
                    for a in range(k)
                    for b in range(k)
                    if 0 <= i + a - 1 < m and 0 <= j + b - 1 < n
                )
            )
            for j in range(n)
        ]
        for kernel in kernels
        for i in range(m)
    ]
    return leaves, rows


def neighbours(rng):
    """Layers over a graph, in which nodes have neighbours of different number."""
    n, width = rng.randint(2, 6), rng.randint(1, 3)
    near = [[j for j in range(n) if rng.random() < 0.4] or [(i + 1) % n] for i in range(n)]
    X = matrix(rng, "X", n, width)
    Ws = [matrix(rng, "W", width, width) for _ in range(rng.randint(1, 2))]
    own, mean = rng.random() < 0.5, rng.random() < 0.5
    rows = X
    for W in Ws:
        sums = [
            [
                sum(rows[j][k] for j in near[i]) / (len(near[i]) if mean else 1)
                + (rows[i][k] if own else 0.0)
                for k in range(width)
            ]
            for i in range(n)
        ]
        rows = [[tanh(v) for v in linear(W, row)] for row in sums]
    return [*X, *(row for W in Ws for row in W)], rows


def tree(rng):
    """Sums over the children of a tree's nodes, from the leaves to its root."""
    W = matrix(rng, "W", 2, 2)
    leaves = [*W]

    def node(depth):
        if depth == 0 or rng.random() < 0.2:
            (x,) = matrix(rng, "x", 1, 2)
            leaves.append(x)
            return x
        children = [node(depth - 1) for _ in range(rng.randint(1, 3))]
        return [tanh(v) for v in linear(W, [sum(c) for c in zip(*children, strict=True)])]

    return leaves, [node(rng.randint(1, 3))]


KINDS = [attention, attention, recurrence, memory, convolution, neighbours, tree]


def random_ragged(seed):
    """Leaves and a loss of theirs."""
    rng = random.Random(seed)
    leaves, rows = rng.choice(KINDS)(rng)
    if len(rows[0]) > 1 and rng.random() < 0.5:
        loss = sum(ops.logsumexp(*row) - row[0] for row in rows)
    else:
        loss = sum(x * x for row in rows for x in row)
    leaves = [x for row in leaves for x in row]
    if rng.random() < 0.3:  # as weights are that someone put into lists
        for weight in leaves:
            weight.label = weight.label if weight.label[:1] in ("X", "Y") else ""
    return leaves, loss


def points(seed, leaves):
    """Where the graph was made, elsewhere, and with odd numbers put in."""
    rng = random.Random(seed)
    here = np.array([x.data for x in leaves])
    yield here
    yield rng.choice([0.5, -1.0, 1.5]) * here
    for odd in (math.inf, -math.inf, math.nan):
        x = here.copy()
        x[rng.randrange(len(x))] = odd
        yield x


def agree(x, y):
    """Whether two programs' results are the same, to rounding."""
    x, y = (np.array([r[0], *r[1]]) for r in (x, y))
    finite = np.abs(y[np.isfinite(y)])
    return np.allclose(x, y, 1e-9, 1e-12 * max([1.0, *finite]), equal_nan=True)


def check_ragged(seed, unpadded, backend="numpy"):
    """Compile a random program and compare it with one of single numbers, alone and in a batch."""
    leaves, loss = random_ragged(seed)
    program = compile(loss, leaves, leaves, backend=backend)
    single = compile(loss, leaves, leaves, backend="python")
    plain = unpadded(loss, leaves, leaves)
    rows = list(points(seed, leaves))
    losses_of, gradients = program(np.array(rows))
    for x, of_batch in zip(rows, zip(losses_of, gradients, strict=True), strict=True):
        expected = single(x.tolist())
        if not agree(plain(x), expected):
            continue  # what overflows in one order of summation only
        assert agree(program(x), expected), program.source
        assert agree(of_batch, expected), program.source
    expected = single(rows[0].tolist())
    assert expected[0] == pytest.approx(loss.data, rel=1e-11)
    return program
