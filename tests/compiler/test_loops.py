"""Backend "numba": loop nests give what the eager engine gives, compile once, and know limits."""

from __future__ import annotations

import inspect
import math
import operator
import os
import random
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from itertools import product as grid
from types import SimpleNamespace

import pytest

from micrograd_like import Op, Value, compile, exp, grad, losses, nn, numerics, ops, tanh
from micrograd_like.errors import DomainError, InputError, MissingExtraError, OperandError

np = pytest.importorskip("numpy")
pytest.importorskip("numba")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from models import CASES, random_model, roots_of  # noqa: E402
from samples import LOOPS, read_once, written  # noqa: E402

from micrograd_like.compiler import loops, rows  # noqa: E402
from micrograd_like.compiler.straight import unrefusing  # noqa: E402

SPECIAL = [
    0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.7, 1e-9, -1e-310, 20.0, -40.0, 710.0, -712.0, 750.0,
    1e200, -1.7e308, 1.5e308, math.inf, -math.inf, math.nan,
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROGRAD_LIKE_CACHE", str(directory))
        yield directory


def same(x, y, scale=0.0):
    """Whether x and y agree to 1e-12, and are NaN and infinite in the same places."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    with np.errstate(invalid="ignore"):
        near = np.isfinite(y) & (np.abs(x - y) <= 1e-12 * np.maximum(np.abs(y), scale))
    return x.shape == y.shape and bool(np.all((x == y) | near | (np.isnan(x) & np.isnan(y))))


def largest(xs):
    return max([1.0, *(abs(x) for x in xs if math.isfinite(x))])


def agrees(root, inputs):
    """The program, after a comparison with the engine and with NumPy where the graph stands."""
    program = compile(root, inputs, inputs, backend="numba")
    assert program.backend == "numba"
    values = np.array([x.data for x in inputs])
    value, gradient = program(values)
    expected = grad(root, inputs)
    assert same(value, root.data, 1.0)
    assert same(gradient, expected, largest(expected)), program.source
    by_arrays, slopes = compile(root, inputs, inputs)(values)
    assert same(value, by_arrays, 1.0)
    assert same(gradient, slopes, largest(expected))
    return program


def rosenbrock(xs):
    return sum(
        (100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2 for a, b in pairwise(xs)),
        Value(0.0),
    )


def leaves(count, numbers=None):
    numbers = numbers or [0.5] * count
    return [Value(x, f"x[{i}]") for i, x in enumerate(numbers)]


# --- every row of the table -----------------------------------------------------------------------


ROWS = [name for name, row in vars(rows).items() if inspect.isfunction(row)]


# The functions of math as they are when compiled: nothing raises.
IEEE = SimpleNamespace(
    exp=np.exp, expm1=np.expm1, log=np.log, log1p=np.log1p, cosh=np.cosh, hypot=np.hypot,
    pow=np.power, erfc=math.erfc, copysign=np.copysign, isinf=np.isinf, isfinite=np.isfinite,
)  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_those_of_the_table(name, monkeypatch):
    row = getattr(rows, name)
    monkeypatch.setattr(rows, "math", IEEE)
    op = ops.TABLE.get(name)
    reference = unrefusing(op) if op else getattr(numerics, name, None) or ops._normpdf
    count = 3 if name == "logsumexp" else len(inspect.signature(row).parameters)
    with np.errstate(all="ignore"):
        for xs in grid(map(np.float64, SPECIAL), repeat=count):
            got = row(xs) if name == "logsumexp" else row(*xs)
            assert same(got, reference(*map(float, xs))), xs


def test_logsumexp_of_one_number_is_that_number():
    assert rows.logsumexp((1.5,)) == 1.5
    x = Value(1.5)
    assert compile(ops.logsumexp(x), [x], backend="numba")([2.5]) == 2.5


def everything():
    """All rows, each on inputs of its own, and the row of each output."""
    start = {"acosh": 1.5, "atanh": 0.5}
    table = [op for name, op in sorted(ops.TABLE.items()) if name in ops.BUILTIN]
    arity = {op: op.arity or (5 if op is ops.affine_row else 3) for op in table}
    inputs = leaves(0)
    outputs = []
    for op in table:
        xs = [Value(start.get(op.name, 0.5), f"in_{op.name}[{k}]") for k in range(arity[op])]
        outputs.append(op(*xs))
        inputs += xs
    return table, arity, inputs, outputs


def test_every_row_is_compiled_with_its_infinities_and_nan():
    table, arity, inputs, outputs = everything()
    program = compile(outputs, inputs, backend="numba")
    assert program.backend == "numba"
    rng = random.Random(0)
    for _ in range(2000):
        xs = [rng.choice(SPECIAL) if rng.random() < 0.8 else rng.gauss(0, 2) for _ in inputs]
        results = program(np.array(xs)).tolist()
        start = 0
        for op, result in zip(table, results, strict=True):
            arguments = xs[start : start + arity[op]]
            start += arity[op]
            if op is ops.affine_row and not all(abs(x) < 1e100 for x in arguments):
                continue  # a sum that overflows on the way depends on its order
            try:
                expected = op.evaluate(arguments)
            except DomainError:
                assert not math.isfinite(result), (op, arguments)
                continue
            assert same(result, expected), (op, arguments, result, expected)


def test_the_partials_of_every_row_are_compiled():
    _, _, inputs, outputs = everything()
    weighted = [(1.0 + 0.1 * k) * y for k, y in enumerate(outputs) if math.isfinite(y.data)]
    agrees(sum(weighted), inputs)


# --- graphs ---------------------------------------------------------------------------------------


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


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 10**9), count=st.integers(1, 20))
def test_any_graph_compiles_to_what_the_engine_computes(seed, count):
    rng = random.Random(seed)
    xs = leaves(count, [rng.uniform(-1.5, 1.5) for _ in range(count)])
    agrees(random_root(rng, xs, 6), xs)


def emitted(outputs, inputs, wrt=None):
    """The loops as they are written, and the blocks that they fill."""
    program = compile(outputs, inputs, wrt)
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
    space["njit"] = lambda *_, **__: lambda function: function
    exec(text.source.removeprefix(loops._HEADER), space)
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
    for number in ("inf", "(-inf)", "(nan)"):
        assert f", {number})" in source


MENTIONED = {
    "values", "gradient", "outputs", "data", "places", "math", "np", "inf", "nan", "add", "abs",
    "range", "i0", "i1", "k", *ROWS,
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
    assert not assigned & MENTIONED


def mlp_loss(widths, fused, activation, examples, numbers=None):
    rng = random.Random(1)
    model = nn.MLP(widths[0], widths[1:], activation=activation, seed=0, fused=fused)
    for p, x in zip(model.parameters(), numbers or (), strict=False):
        p.data = x
    terms = []
    for _ in range(examples):
        scores = model([rng.uniform(-1, 1) for _ in range(widths[0])])
        terms.append(ops.logsumexp(*scores) - scores[rng.randrange(len(scores))])
    return model.parameters(), sum(terms) / examples + 1e-3 * sum(p * p for p in model.parameters())


@pytest.mark.parametrize(
    ("widths", "fused", "activation", "examples"),
    [([3, 40, 9, 2], True, "tanh", 3), ([2, 5, 3], False, "relu", 41)],
)
def test_networks_are_loop_nests(widths, fused, activation, examples):
    parameters, loss = mlp_loss(widths, fused, activation, examples)
    program = agrees(loss, parameters)
    # Their length is that of the network, not of the graph.
    assert len(program.source.splitlines()) < 700


def test_nan_and_infinity_go_the_same_ways_as_in_the_engine():
    widths = [2, 3, 2]
    parameters, loss = mlp_loss(widths, True, "relu", 9)
    program = compile(loss, parameters, parameters, backend="numba")
    numbers = [p.data for p in parameters]
    for place in range(len(numbers)):
        for x in (math.nan, math.inf, -math.inf, 0.0):
            changed = [*numbers[:place], x, *numbers[place + 1 :]]
            others, root = mlp_loss(widths, True, "relu", 9, changed)
            value, gradient = program(np.array(changed))
            assert same(value, root.data, 1.0)
            expected = grad(root, others)
            assert same(gradient, expected, largest(expected)), (place, x)


@pytest.mark.parametrize("name", LOOPS)
def test_loops_are_written_as_they_were_when_somebody_read_them(name):
    assert written(name) == read_once(name)


# --- Rosenbrock's function, batches and shapes ----------------------------------------------------


@pytest.fixture(scope="module")
def program():
    xs = leaves(30)
    return compile(rosenbrock(xs), xs, xs, backend="numba")


def test_a_scalar_program_is_a_few_loops_without_storage(program):
    assert program.source.count("    for ") == 3  # value, gradient, and the rows of a batch
    assert "np.empty" not in program.source
    xs = leaves(30, np.random.default_rng(0).standard_normal(30).tolist())
    value, gradient = program(np.array([x.data for x in xs]))
    root = rosenbrock(xs)
    assert same(value, root.data)
    assert same(gradient, grad(root, xs), 1.0)
    assert isinstance(value, float)
    again = compile(rosenbrock(xs), xs, xs, backend="numba")
    assert again.function.__globals__["run"] is program.function.__globals__["run"]


def test_a_batch_gives_what_its_rows_give(program):
    rows_ = np.random.default_rng(0).standard_normal((7, 30))
    for batch in (rows_, rows_[::-1], np.asfortranarray(rows_), rows_.tolist()):
        values, gradients = program(batch)
        assert values.shape == (7,)
        assert gradients.shape == (7, 30)
        for row, value, gradient in zip(batch, values, gradients, strict=True):
            single, slopes = program(np.array(row))
            assert same(value, single)
            assert same(gradient, slopes, 1.0)
    values, gradients = program(np.empty((0, 30)))
    assert values.shape == (0,)
    assert gradients.shape == (0, 30)


def test_values_of_any_kind_and_layout_are_taken_and_left_alone(program):
    numbers = np.linspace(-1, 1, 30)
    expected = program(numbers)
    frozen = numbers.copy()
    frozen.flags.writeable = False
    spread = np.zeros(60)
    spread[::2] = numbers
    for values in (numbers.tolist(), tuple(numbers.tolist()), frozen, spread[::2], numbers[None]):
        value, gradient = program(values)
        assert same(np.ravel(value), [expected[0]])
        assert same(np.ravel(gradient), expected[1])
    assert same(program([1] * 30)[0], 0.0)
    assert np.array_equal(numbers, np.linspace(-1, 1, 30))
    for wrong in (numbers[:-1], np.zeros((2, 29)), np.zeros((2, 2, 30)), 1.0):
        with pytest.raises(InputError, match="takes 30 values"):
            program(wrong)
    with pytest.raises(OperandError, match="takes numbers"):
        program(["a"] * 30)


def test_threads_do_not_share_what_they_compute(program):
    inputs = np.random.default_rng(0).standard_normal((200, 30))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(program, inputs))
    values, gradients = program(inputs)
    assert same([value for value, _ in results], values)
    assert same([gradient for _, gradient in results], gradients, 1.0)


def test_several_outputs_give_a_jacobian_and_constants_are_filled_in():
    a, b, c = xs = [Value(0.5, "a"), Value(2.0, "lambda"), Value(-1.0, "∂")]
    outputs = [a * b, ops.log(a) + c, Value(7.0), a]
    program = compile(outputs, xs, xs, backend="numba")
    values, jacobian = program([0.5, 2.0, -1.0])
    assert same(values, [1.0, math.log(0.5) - 1.0, 7.0, 0.5])
    expected = [[2.0, 0.5, 0.0], [2.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    assert same(jacobian, expected)
    values, jacobian = program([[0.5, 2.0, -1.0]] * 2)
    assert values.shape == (2, 4)
    assert same(jacobian, [expected] * 2)
    assert not math.isfinite(program([-1.0, 2.0, -1.0])[0][1])
    with pytest.raises(DomainError, match="label 'a'"):
        program([-1.0, 2.0, -1.0], check=True)


def test_an_irregular_gather_reads_the_right_elements():
    rng = random.Random(0)
    xs = leaves(20, [rng.gauss(0, 1) for _ in range(20)])
    places = [rng.randrange(20) for _ in range(50)]
    agrees(sum(exp(xs[i]) * xs[j] for i, j in pairwise(places)), xs)


# --- limits ---------------------------------------------------------------------------------------


def test_rows_of_the_user_run_over_numpy():
    cube = Op("cube_of_loops", lambda x: x * x * x, lambda x, out: 3 * x * x)
    try:
        x = Value(2.0, "x")
        program = compile(cube(x), [x], [x], backend="numba")
        with pytest.raises(loops.UnsuitableError, match="the row cube_of_loops is Python code"):
            emitted(cube(x), [x])
    finally:
        del ops.TABLE["cube_of_loops"]
    assert program.backend == "numpy"
    value, gradient = program([2.0])
    assert (value, gradient.tolist()) == (8.0, [12.0])


def test_a_long_logsumexp_and_a_long_sum_compile_as_loops():
    xs = leaves(1200, np.random.default_rng(0).standard_normal(1200).tolist())
    program = agrees(ops.logsumexp(*xs) + sum(x * x for x in xs), xs)
    assert len(program.source.splitlines()) < 120


def test_a_large_irregular_graph_runs_over_numpy():
    rng = random.Random(0)
    nodes = xs = leaves(10)
    for _ in range(6000):
        a, b, c = rng.choices(nodes[-40:], k=3)
        nodes = [*nodes[-40:], rng.choice([tanh(a * b + c), a - 0.5 * b, exp(-a * a) * c])]
    program = compile(nodes[-1], xs, backend="numba")
    assert program.backend == "numpy"
    assert "numpy" in str(program.report())
    assert same(program([0.5] * 10), nodes[-1].data, 1.0)


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


def test_without_numba_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    x = Value(2.0)
    with pytest.raises(MissingExtraError, match=r"numba is not .*micrograd_like\[native\]"):
        compile(x * x, [x], backend="numba")


# --- the cache ------------------------------------------------------------------------------------


SCRIPT = """
import sys
import micrograd_like
assert not {"numba", "numpy"} & set(sys.modules)
x, y = xs = [micrograd_like.Value(2.0, "x"), micrograd_like.Value(3.0, "y")]
program = micrograd_like.compile(micrograd_like.tanh(x * y - 6.0) + x, xs, xs, backend="numba")
value, gradient = program([2.0, 3.0])
assert (value, gradient.tolist()) == (2.0, [4.0, 2.0])
stats = program.function.__globals__["run"].stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def run(directory):
    environment = {**os.environ, "MICROGRAD_LIKE_CACHE": str(directory)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_second_process_finds_the_machine_code_and_survives_a_damaged_one(tmp_path):
    directory = tmp_path / "cache"
    assert run(directory) == ["0", "1"]
    assert run(directory) == ["1", "0"]
    (source,) = directory.glob("*.py")
    for code in directory.glob("__pycache__/*.nbc"):
        code.write_bytes(b"damaged")
    assert run(directory)[0] == "0"
    source.write_text("raise SystemExit('not what was written')")
    run(directory)


def test_without_a_place_of_ones_own_nothing_is_cached(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("no directory")
    everyones = tmp_path / "everyones"
    everyones.mkdir()
    everyones.chmod(0o777)
    for place in (file, file / "below", everyones) if os.name == "posix" else (file,):
        monkeypatch.setenv("MICROGRAD_LIKE_CACHE", str(place))
        assert loops._cached_source("program.py", "pass") is None
    assert not list(everyones.iterdir())
    own = tmp_path / "of mine" / "own"
    monkeypatch.setenv("MICROGRAD_LIKE_CACHE", str(own))
    for source in ("pass", "pass", "..."):
        path = loops._cached_source("program.py", source)
        assert path == str(own / "program.py")
        assert (own / "program.py").read_text() == source
        assert os.stat(path).st_mtime == 1e9
        own.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        assert loops._cached_source("program.py", "...") is None  # read-only by now
    assert list(own.iterdir()) == [own / "program.py"]
    monkeypatch.setenv("MICROGRAD_LIKE_CACHE", str(everyones))
    x = Value(2.0)
    program = compile(x * x + 0.125, [x], [x], backend="numba")
    assert program([2.0])[0] == 4.125


def test_what_cannot_be_cached_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROGRAD_LIKE_CACHE", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))

    def refuse(*_):
        raise PermissionError

    for name, instead in (("replace", refuse), ("getuid", lambda: -1)):
        if hasattr(os, name):
            with monkeypatch.context() as patch:
                patch.setattr(os, name, instead)
                assert loops._cached_source("program.py", "pass") is None
            assert not list(tmp_path.iterdir())
    assert loops._cached_source("program.py", "pass") == str(tmp_path / "program.py")


def test_a_source_is_compiled_once_by_each_version_of_what_compiles_it(monkeypatch):
    first = loops._compiled("answer = 42\n")
    assert first["answer"] == 42
    assert loops._compiled("answer = 42\n") is first
    monkeypatch.setattr(np, "__version__", "another")
    assert loops._compiled("answer = 42\n") is not first


def test_the_cache_is_where_the_platform_keeps_such_things(monkeypatch, tmp_path):
    monkeypatch.delenv("MICROGRAD_LIKE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert loops.cache_directory() == tmp_path / "micrograd_like"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert loops.cache_directory().parts[-3:] == ("Library", "Caches", "micrograd_like")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert loops.cache_directory().parts[-3:] == ("AppData", "Local", "micrograd_like")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert loops.cache_directory() == tmp_path / "micrograd_like"


def test_loops_have_no_equations():
    x = Value(2.0, "x")
    with pytest.raises(InputError, match="backend='numpy'"):
        compile(x * x, [x], backend="numba").equations()
    assert "x" in compile(x * x, [x], backend="numpy").equations()
