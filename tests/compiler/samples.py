"""Graphs of all kinds, and their programs as somebody read them: shared by the tests here."""

from __future__ import annotations

import json
import math
import random
from itertools import product as grid
from pathlib import Path

import pytest
from optional import np

from micrograd_like import (
    Value,
    affine,
    compile,
    compile_step,
    exp,
    grad,
    log,
    losses,
    nn,
    ops,
    tanh,
)
from micrograd_like.datasets import moons

BACKENDS = ["numpy", "python"]


UNARY = [
    "exp", "expm1", "tanh", "sigmoid", "softplus", "relu", "leaky_relu", "elu", "gelu", "silu",
    "erf", "sin", "cos", "tan", "sinh", "cosh", "atan", "asinh", "abs", "neg",
]  # fmt: skip


# Not atan2: programs may lose the sign of a zero (x - x is 0·x), and it jumps there.
BINARY = ["add", "sub", "mul", "max", "min", "hypot", "logaddexp"]


def random_graph(seed, size, leaves):
    """Leaves and a root: sums, products, rows of the table, constants, shared sub-expressions."""
    rng = random.Random(seed)
    xs = [
        Value(rng.uniform(-1.5, 1.5), rng.choice(["", f"x[{i}]", f"p{i}"])) for i in range(leaves)
    ]
    nodes = list(xs)
    for _ in range(size):
        a, b = rng.choice(nodes), rng.choice(nodes)
        kind = rng.random()
        if kind < 0.35:
            node = ops.TABLE[rng.choice(UNARY)](a)
        elif kind < 0.85:
            other = b if rng.random() < 0.7 else rng.choice([2.0, -1.0, 0.5, 1.0, 0.0, 3.0])
            node = ops.TABLE[rng.choice(BINARY)](a, other)
        elif kind < 0.9:
            node = a ** rng.choice([0, 1, 2, 3, 4])
        elif kind < 0.95:
            n = rng.randint(1, 4)
            weights = [rng.choice(nodes) for _ in range(n)]
            inputs = [rng.choice([*nodes, 0.25]) for _ in range(n)]
            node = affine(weights, inputs, b)
        else:
            node = a / (1.5 + b * b)
        if math.isfinite(node.data) and abs(node.data) < 1e5:
            nodes.append(node)
    return xs, nodes[-1]


def same(x, y, scale=1.0):
    return np.allclose(x, y, rtol=1e-9, atol=1e-11 * max(1.0, scale), equal_nan=True)


def largest(xs):
    return max([1.0, *(abs(x) for x in xs if math.isfinite(x))])


def agrees(root, inputs, backend):
    program = compile(root, inputs, inputs, backend=backend)
    value, gradient = program([x.data for x in inputs])
    expected = grad(root, inputs)
    assert same(value, root.data)
    assert same(gradient, expected, largest(expected)), program.source
    return program


def mlp_loss(widths, fused, activation, examples, seed=0):
    rng = random.Random(seed)
    model = nn.MLP(widths[0], widths[1:], activation=activation, seed=seed, fused=fused)
    rows = [[rng.uniform(-1, 1) for _ in range(widths[0])] for _ in range(examples)]
    outputs = [model(row) for row in rows]
    targets = [[rng.uniform(-1, 1) for _ in range(widths[-1])] for _ in range(examples)]
    terms = []
    for output, target in zip(outputs, targets, strict=True):
        output = output if isinstance(output, list) else [output]
        terms += [(o - t) ** 2 for o, t in zip(output, target, strict=True)]
    loss = sum(terms) / len(terms) + 1e-3 * sum(p * p for p in model.parameters())
    return model, loss


def rosenbrock(n, first=0.1):
    x = [Value(first * i - 0.3, f"x[{i}]") for i in range(n)]
    terms = [100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(n - 1)]
    return x, sum(terms)


def flat(rows):
    return [x for row in rows for x in row]


def convolution():
    image = [[Value(0.1 * i - 0.05 * j, f"image[{i}][{j}]") for j in range(8)] for i in range(8)]
    kernel = [[Value(0.3 * i - 0.2 * j, f"kernel[{i}][{j}]") for j in range(3)] for i in range(3)]
    out = [
        tanh(sum(kernel[a][b] * image[i + a][j + b] for a, b in grid(range(3), repeat=2)))
        for i, j in grid(range(6), repeat=2)
    ]
    return [*flat(image), *flat(kernel)], sum(o * o for o in out)


def recurrent_cell():
    w = [[Value(0.1 * (i - j), f"w[{i}][{j}]") for j in range(4)] for i in range(4)]
    u = [Value(0.2 * i, f"u[{i}]") for i in range(4)]
    h = [0.0] * 4
    for t in range(6):
        x = math.sin(t)
        h = [tanh(affine(row, h, ui * x)) for row, ui in zip(w, u, strict=True)]
    return [*flat(w), *u], sum(h)


def batch_normalisation():
    x = [[Value(math.sin(3 * i + j), f"x[{i}][{j}]") for j in range(3)] for i in range(5)]
    gamma = [Value(1.0 + j, f"gamma[{j}]") for j in range(3)]
    beta = [Value(0.1 * j, f"beta[{j}]") for j in range(3)]
    total = Value(0.0)
    for j in range(3):
        column = [row[j] for row in x]
        mean = sum(column) / 5
        variance = sum((c - mean) ** 2 for c in column) / 5
        normal = [gamma[j] * (c - mean) / (variance + 1e-5) ** 0.5 + beta[j] for c in column]
        total = total + sum(v * v * v for v in normal)
    return [*flat(x), *gamma, *beta], total


def softmax_cross_entropy():
    model = nn.MLP(3, [5, 4], "tanh", seed=1)
    rows = [[math.sin(i + j) for j in range(3)] for i in range(7)]
    terms = [losses.cross_entropy(model(row), i % 4) for i, row in enumerate(rows)]
    return model.parameters(), losses.mean(terms)


def black_scholes():
    names = ["spot", "strike", "rate", "volatility", "time"]
    spot, strike, rate, sigma, time = xs = [
        Value(v, name) for v, name in zip([100.0, 95.0, 0.03, 0.2, 0.7], names, strict=True)
    ]
    d1 = (log(spot / strike) + (rate + sigma**2 / 2) * time) / (sigma * time**0.5)
    d2 = d1 - sigma * time**0.5

    def phi(d):
        return 0.5 * (1 + (d / math.sqrt(2)).erf())

    return xs, spot * phi(d1) - strike * exp(-rate * time) * phi(d2)


def residual():
    model = nn.MLP(4, [4, 4], "tanh", seed=0)
    x = [Value(0.1 * i, f"x[{i}]") for i in range(4)]
    h = x
    for _ in range(3):
        h = [a + b for a, b in zip(h, model(h), strict=True)]
    return [*x, *model.parameters()], sum(v * v for v in h)


PROGRAMS = {
    "rosenbrock": lambda: rosenbrock(30),
    "convolution": convolution,
    "recurrent cell": recurrent_cell,
    "batch normalisation": batch_normalisation,
    "softmax cross-entropy": softmax_cross_entropy,
    "Black-Scholes": black_scholes,
    "residual connections": residual,
}


SPECIAL = [
    0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.7, 1e-9, -1e-310, 20.0, -40.0, 750.0, 1e200, -1.7e308,
    math.inf, -math.inf, math.nan,
]  # fmt: skip


def demo(fused=True):
    model = nn.MLP(2, [16, 16, 1], seed=0, activation="relu", fused=fused)
    data = moons(100)
    targets = [1.0 if label else -1.0 for label in data.y]
    terms = [(1 - t * model(x)).relu() for x, t in zip(data.X, targets, strict=True)]
    return model, sum(terms) / 100 + 1e-4 * sum(p * p for p in model.parameters())


def vector(name, n, first=0.3):
    return [Value(first + 0.2 * i * (-1) ** i, f"{name}[{i}]") for i in range(n)]


def matrix(name, m, n):
    return [[Value(0.3 * i - 0.2 * j + 0.1, f"{name}[{i}][{j}]") for j in range(n)]
            for i in range(m)]  # fmt: skip


def product_of(a, b):
    return [[sum(x * y[j] for x, y in zip(row, b, strict=True)) for j in range(len(b[0]))]
            for row in a]  # fmt: skip


def penalised(loss, inputs):
    return loss + 0.1 * sum(p * p for p in inputs)


def case_penalty_on_a_scalar():
    q = Value(0.3, "q")
    return [q], q.exp() + q * q + q


def case_rows_of_a_matrix_and_a_penalty():
    a = matrix("A", 2, 2)
    return flat(a), penalised(sum(sum(row) ** 2 for row in a), flat(a))


def case_columns_of_a_matrix_and_a_penalty():
    a = matrix("A", 3, 2)
    return flat(a), penalised(sum((1 - sum(c)).relu() for c in zip(*a, strict=True)), flat(a))


def case_sum_of_a_matrix_product_and_a_penalty():
    a, b = matrix("A", 2, 3), matrix("B", 3, 2)
    inputs = [*flat(a), *flat(b)]
    return inputs, penalised(sum(map(sum, product_of(a, b))), inputs)


def case_sum_of_a_square_matrix_product():
    a, b = matrix("A", 3, 3), matrix("B", 3, 3)
    return [*flat(a), *flat(b)], sum(map(sum, product_of(a, b))) ** 2


def case_zeros_of_both_signs():
    x = Value(-0.7, "x")
    return [x], ops.exp(ops.maximum(x, 0.0)) + ops.maximum(x, -0.0) * x


def case_a_long_sum_of_different_arrays():
    x = [Value(0.001 * i, "same") for i in range(3000)]
    return x, sum(v.exp() for v in x)


def case_labels_of_different_depth():
    x = [Value(0.5, "w[0][1]"), Value(0.25, "w[0]"), Value(2.0, "w")]
    return x, x[0] * x[1] + x[2] ** 3


def case_names_equal_after_normalisation():
    a, b = Value(1.0, "ﬁ"), Value(2.0, "fi")
    return [a, b], a * b.exp() - a


def case_names_of_the_source():
    x = [Value(0.1 * i, f"ones3[{i}]") for i in range(3)]
    y = [Value(0.1 * i, f"len[{i}]") for i in range(3)]
    z = [Value(0.3, label) for label in ("x²", "½", "None", "__debug__", "sigmoid_", "t1", "t1[0]")]
    middle = sum(x) * sum(y)
    middle.label = "ones3"
    return [*x, *y, *z], middle.sigmoid() + sum(v * v * v for v in z)


def case_masks_with_signs():
    q, h = vector("q", 3), vector("h", 3)
    return [*q, *h], sum((1 - a).relu() * b for a in q for b in h)


def case_constants_that_would_overflow():
    x = Value(1e-300, "x")
    return [x], (x * 1e200) * 1e200 + x / 1e-310 * 1e-300


def case_masks_of_masks():
    x = vector("x", 3)
    return x, -sum(a.relu().relu() for a in x)


def case_inputs_in_any_order():
    a, v = matrix("A", 3, 4), vector("v", 5)
    inputs = random.Random(0).sample([*flat(a), *v], 17)
    return inputs, sum(x.tanh() * v[2] for x in flat(a)) + sum(x.exp() for x in v)


def case_a_penalty_on_some():
    x, y = vector("x", 3), vector("y", 2)
    return [*x, *y], penalised(sum(x).exp() + y[0].sin(), x)


def case_a_penalty_on_two_of_three():
    x, y, z = vector("x", 3), vector("y", 2), Value(0.5, "z")
    return [*x, *y, z], penalised(z, [*x, *y])


def case_the_same_difference_twice():
    x = Value(0.5, "x")
    return [x], (2.0 * x - x) * (3.0 * x - x).exp()


def case_a_sum_of_more_than_a_line_holds():
    x = [Value(0.01 * i, "xyz"[i % 3] * (i + 1)) for i in range(150)]
    return x, sum(v.exp() if i % 2 else -v.sin() for i, v in enumerate(x))


BROKEN_ONCE = {name: make for name, make in globals().items() if name.startswith("case_")}


def small():
    x, y, z = Value(0.5, "x"), Value(2.0, "y"), Value(-1.0, "z")
    return [x, y, z], [x * y - z, 1.0 - ops.where(x, 2.0, y) * 3.0, Value(4.0), x, -(z / y)]


def outer():
    u, v, w = vector("u", 3), vector("v", 2), vector("w", 2)
    table = [[(a * b - c).tanh() for b, c in zip(v, w, strict=True)] for a in u]
    return [*u, *v, *w], sum(x * x for row in table for x in row) - 2.0 * sum(u)


def parts():
    a, v = matrix("A", 4, 3), vector("v", 8)
    column, row = [r[1] for r in a], a[2]
    block = [x * 2.0 for r in a[1:3] for x in r[:2]]
    total = sum(column) * sum(row) + sum(v[::2]) - sum(x.exp() for x in v[1:4])
    return [*flat(a), *v], total + sum(b.sin() for b in block) + v[7] * a[3][2] + v[5].cos() * v[2]


def rectified():
    model = nn.MLP(2, [3, 1], "relu", seed=0)
    loss = sum((model([0.5, 0.1 * i]) - i).relu() for i in range(4))
    return model.parameters(), penalised(loss, model.parameters())


def coefficients():
    a, v = matrix("A", 3, 2), vector("v", 3)
    mixed = [sum((0.5 * i - j) * x for j, x in enumerate(r)) for i, r in enumerate(a)]
    root = sum((i + 1.0) * m * x for i, (m, x) in enumerate(zip(mixed, v, strict=True)))
    b = matrix("B", 3, 2)
    for i, (p, q) in enumerate(zip(a, b, strict=True)):
        weighted = sum(
            (i + 2.0 * j + 1.5) * x * y for j, (x, y) in enumerate(zip(p, q, strict=True))
        )
        root += weighted.tanh()
    inputs = [*flat(a), *flat(b), *v]
    return inputs, root - sum(3.0 * sum(r).exp() for r in zip(*a, strict=True))


def functions():
    xs = [Value(0.6, "x"), Value(0.4, "y"), Value(1.5, "z")]
    rows = [op for name, op in sorted(ops.TABLE.items()) if name in ops.BUILTIN and op.arity]
    return xs, [sum(op(*(xs[::-1] if op is ops.acosh else xs)[: op.arity]) for op in rows)]


def odd_numbers():
    x, y = Value(0.5, "x"), Value(2.0, "y")
    return [x, y], [ops.maximum(x, c) * y for c in (math.nan, math.inf, -math.inf)] + [
        x + c for c in (math.nan, math.inf, -math.inf)
    ]


def step_of(loss, activation):
    width = {"cross_entropy": 4, "mse": 2}.get(loss.__name__, 1)
    model = nn.MLP(3, [5, width], activation, seed=3)
    label = [0.5, 1.5] if width == 2 else 1
    return compile_step(model, loss, ([0.5, -0.5, 0.25], label))


def step_with_all_kinds_of_terms():
    model = nn.MLP(2, [3, 2], "sigmoid", seed=3)

    def loss(outputs, target):
        a, b = outputs
        penalty = sum(0.1 * p * p for p in model.parameters())
        return (a * b - target).abs() + penalty + 2.0 * a.exp() * model.layers[0].neurons[0].b

    return compile_step(model, loss, ([0.5, -0.5], 1.0))


def tied_weights():
    """Each weight is used in two products of matrices, and once more with a product of inputs."""
    w, v = matrix("w", 2, 3), matrix("v", 3, 3)

    def model(x):
        h = [affine(row, x, 0.0).tanh() for row in w]
        back = [affine(column, h, 0.0) for column in zip(*w, strict=True)]
        form = sum(v[i][j] * (a * b) for i, a in enumerate(x) for j, b in enumerate(x))
        return [*back, form]

    return model, [*flat(w), *flat(v)]


def step_of_tied_weights():
    model, parameters = tied_weights()
    example = ([0.5, -0.5, 0.25], [1.0, 2.0, 3.0, 4.0])
    return compile_step(model, losses.mse, example, parameters)


def step_of_a_function():
    w, v = vector("w", 3), Value(0.5, "v")

    def model(x):
        return sum(a * b for a, b in zip(w, x, strict=True)) * v + w[0] + 3.0 * v

    return compile_step(model, losses.mse, ([1.0, 2.0, 3.0], 1.0), [*w, v])


def step_of_attention():
    from micrograd_like.training.gpt import GPT

    model = GPT("abc", embed=4, heads=2, context=5)
    return compile_step(model.loss, model.weights, model.tokens("abca"))


def long_sums():
    a, v = matrix("A", 3, 40), vector("v", 40, 0.001)
    hidden = [tanh(sum(x * y for x, y in zip(row, v, strict=True))) for row in a]
    table = product_of(a, [[x, 1.0 - x] for x in v])
    root = sum(hidden) + sum(x.tanh() for x in flat(table)) + ops.logsumexp(*v) + sum(v)
    return [*flat(a), *v], root + sum(i * x for i, x in enumerate(v)) + ops.logsumexp(*hidden, 2.0)


WRITTEN = {
    **{name: PROGRAMS[name] for name in ("batch normalisation", "softmax cross-entropy")},
    **{f.__name__: f for f in (small, outer, parts, rectified, coefficients)},
    **{f.__name__: f for f in (functions, odd_numbers, long_sums)},
    "Rosenbrock": lambda: rosenbrock(6),
    **{
        name: BROKEN_ONCE[name]
        for name in BROKEN_ONCE
        if "any_order" in name or "twice" in name or "depth" in name
    },
    "penalty": lambda: (x := vector("x", 3), penalised(sum(v.exp() for v in x), x)),
}


STEPS = {
    "step, cross-entropy": lambda: step_of(losses.cross_entropy, "tanh"),
    "step, hinge": lambda: step_of(losses.hinge, "relu"),
    "step, mse": lambda: step_of(losses.mse, "gelu"),
    "step, all kinds of terms": step_with_all_kinds_of_terms,
    "step, function": step_of_a_function,
    "step, tied weights": step_of_tied_weights,
    "step, attention": step_of_attention,
    "step, binary cross-entropy": lambda: step_of(
        losses.binary_cross_entropy_with_logits, "sigmoid"
    ),
}


LOOPS = {f"loops, {name}": make for name, make in WRITTEN.items()}


SOURCES = Path(__file__).parent.parent / "data" / "sources.json"


def lifted(*arguments, **options):
    """The program as it is lifted with these options."""
    from micrograd_like.compiler import lift as module

    lift = module.lift
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "lift", lambda *args, **_: lift(*args[:3], **options))
        return compile(*arguments)


def unpadded(*arguments):
    return lifted(*arguments, padded=False)


def written(name):
    """The program for one example, that for a batch, equations, and that of floats if short."""
    pytest.importorskip("numpy")
    from micrograd_like.compiler.loops import emit_loops
    from micrograd_like.compiler.numpy_source import NumpyPrinter

    if name in STEPS:
        step = STEPS[name]()
        return [*step.source.splitlines(), *step.equations().splitlines()]
    inputs, root = (WRITTEN | LOOPS)[name]()
    wrt = inputs if isinstance(root, Value) else None
    program = compile(root, inputs, wrt)
    if name in LOOPS:
        native = emit_loops(program._lifted, program._blocks)
        arrays = [f"{array} = {numbers.tolist()}" for array, numbers in native.arrays.items()]
        return [*native.source.partition("def program")[2].splitlines(), *arrays]
    batch = NumpyPrinter(program._laid_out, shared=0).program(program._blocks, program._jacobian)
    straight = compile(root, inputs, wrt, backend="python")
    texts = [program.source, batch.text, program.equations()]
    if len(inputs) < 6:
        texts.append(straight.source)
    return [line for text in texts for line in text.splitlines()]


def read_once(name):
    return json.loads(SOURCES.read_text(encoding="utf-8"))[name]


if __name__ == "__main__":
    sources = {name: written(name) for name in [*WRITTEN, *STEPS, *LOOPS]}
    SOURCES.write_text(json.dumps(sources, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
