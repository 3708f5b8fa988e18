"""Models of vectors and matrices that are combined at random, as nobody would write them.

CASES=100000 python -m pytest -k any_model      # so many, instead of the suite's few
"""

from __future__ import annotations

import os
import random

import pytest
from optional import np

from micrograd_like import Value, grad, losses, ops, tanh

CASES = int(os.environ.get("CASES", "0"))

FUNCTIONS = [
    tanh, ops.sin, ops.relu, ops.gelu, ops.absolute, ops.softplus, lambda x: x * x, lambda x: -x,
    lambda x: 0.5 * x + 0.3, lambda x: 1.0 / (1.5 + x * x),
]  # fmt: skip
OF_TWO = [
    lambda x, y: x * y, lambda x, y: x + y, lambda x, y: 0.5 * x - 2.0 * y, ops.maximum,
    lambda x, y: tanh(x) * y,
]  # fmt: skip
# New vectors and matrices of vectors a, b and matrices A, B, which need not be as long.
COMBINED = [
    lambda f, g, a, b, A, B: [f(x) for x in a],
    lambda f, g, a, b, A, B: [[f(x) for x in row] for row in A],
    lambda f, g, a, b, A, B: [g(x, b[i % len(b)]) for i, x in enumerate(a)],
    lambda f, g, a, b, A, B: [
        [g(x, B[i % len(B)][j % len(B[0])]) for j, x in enumerate(row)] for i, row in enumerate(A)
    ],
    lambda f, g, a, b, A, B: [[f(g(x, y)) for y in b] for x in a],
    lambda f, g, a, b, A, B: [sum(x * a[j % len(a)] for j, x in enumerate(row)) for row in A],
    lambda f, g, a, b, A, B: [
        sum(x * a[i % len(a)] for i, x in enumerate(column)) for column in zip(*A, strict=True)
    ],
    lambda f, g, a, b, A, B: [
        [sum(x * B[k % len(B)][j] for k, x in enumerate(row)) for j in range(len(B[0]))]
        for row in A
    ],
    lambda f, g, a, b, A, B: [f(sum(row)) for row in A],
    lambda f, g, a, b, A, B: [f(sum(column)) for column in zip(*A, strict=True)],
    lambda f, g, a, b, A, B: [list(column) for column in zip(*A, strict=True)],
    lambda f, g, a, b, A, B: [a[(3 * i * i + 1) % len(a)] * (1.0 - 1.5 * i) for i in range(4)],
    lambda f, g, a, b, A, B: [row[0] for row in A],
    lambda f, g, a, b, A, B: list(A[-1]),
    lambda f, g, a, b, A, B: [ops.logsumexp(*row) for row in A],
    lambda f, g, a, b, A, B: [x * b[0] for x in a],
    lambda f, g, a, b, A, B: [sum(x for row in A for x in row) * 0.1, *a],
]


# Other labels than those of the matrices: in other ways, twice, or none.
LABELS = [
    None, None, lambda i: "", lambda i: "" if i % 3 else f"w[{i}]", lambda i: f"p[{i}]",
    lambda i: f"q[{i // 3}][{i % 3}]", lambda i: f"a{i // 2}",
    lambda i: ["a", "a[0]", "a[1]", "b_1", "values", "W[0]", "é[2]"][i % 7],
]  # fmt: skip


def random_model(seed):
    """Vectors and matrices of an example and of parameters, combined in ways drawn at random."""
    rng = random.Random(seed)
    m, n, count = rng.randint(2, 4), rng.randint(1, 4), rng.randint(1, 5)
    W, V = (
        [[Value(rng.uniform(-1, 1), f"{name}[{i}][{j}]") for j in range(k)] for i in range(m)]
        for name, k in (("W", n), ("V", m))
    )
    u = [Value(rng.uniform(-1, 1), f"u[{i}]") for i in range(m)]
    kind = rng.randrange(3)

    def model(x):
        rng = random.Random(seed)
        vectors, matrices = [list(x), u], [W, V]
        for _ in range(rng.randint(2, 7)):
            combined = rng.choice(COMBINED)(
                rng.choice(FUNCTIONS), rng.choice(OF_TWO),
                *rng.choices(vectors[:2] + vectors[-2:], k=2),
                *rng.choices(matrices[:2] + matrices[-2:], k=2),
            )  # fmt: skip
            if isinstance(combined[0], list):
                matrices.append([row[:4] for row in combined[:4]])
            else:
                vectors.append(combined[:5])
        return [0.1 * x for x in (vectors[-1] + matrices[-1][-1] + vectors[-2])[: 2 + seed % 3]]

    def loss(outputs, target):
        if kind == 0:
            return losses.cross_entropy(outputs, 1) * target
        if kind == 1:
            return sum((x - target) ** 2 for x in outputs)
        return sum(tanh(x * target) for x in outputs) + 0.01 * sum(w * w for w in parameters)

    parameters = [*(w for row in W + V for w in row), *u]
    if labels := rng.choice(LABELS):
        for i, parameter in enumerate(parameters):
            parameter.label = labels(i)
    if seed % 2:
        rng.shuffle(parameters)
    X = [[rng.uniform(-1, 1) for _ in range(n)] for _ in range(count)]
    return model, loss, parameters, X, [rng.uniform(-1, 1) for _ in X]


def roots_of(model, loss, X, y):
    """The outputs for each example, and its loss. What depends on inputs alone are Values, too."""
    outputs = [model([Value(xi) for xi in x]) for x in X]
    return outputs, [loss(out, t) for out, t in zip(outputs, y, strict=True)]


def check_step(step, model, loss, parameters, X, y):
    """Whether a step gives, for the examples, what the engine does."""
    value, gradient = step.value_and_grad(X, y)
    outputs, roots = roots_of(model, loss, X, y)
    mean = losses.mean(roots)
    slopes = grad(mean, parameters)
    assert value == pytest.approx(mean.data, rel=1e-11, abs=1e-13), step.source
    assert np.allclose(gradient, slopes, 1e-9, 1e-11 * max(1.0, *map(abs, slopes))), step.source
    numbers = [[x.data for x in out] for out in outputs]
    assert np.allclose(step.outputs, numbers, 1e-11, 1e-13)
