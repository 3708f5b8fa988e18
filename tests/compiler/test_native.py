"""Backend "numba": machine code gives what the eager engine gives, is kept, and knows limits."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrograd_like import Value, compile, compile_step, exp, grad, nn, ops, tanh
from micrograd_like.errors import DomainError, InputError, MissingExtraError, OperandError

np = pytest.importorskip("numpy")
pytest.importorskip("numba")

from test_examples import flat  # noqa: E402
from test_families import CAUSAL  # noqa: E402
from test_families import model as attending  # noqa: E402
from test_loops import emitted, largest, leaves, random_root, same  # noqa: E402
from test_rows import SPECIAL, everything  # noqa: E402

from micrograd_like.compiler import loops, native  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROGRAD_LIKE_CACHE", str(directory))
        yield directory


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


# --- the table of operations ----------------------------------------------------------------------


def test_every_row_and_its_partials_are_compiled_with_infinities_and_nan():
    table, arity, inputs, outputs = everything()
    weighted = [(1.0 + 0.1 * k) * y for k, y in enumerate(outputs) if math.isfinite(y.data)]
    slopes = grad(sum(weighted), inputs, create_graph=True)
    program = compile([*outputs, *slopes], inputs, backend="numba")
    assert program.backend == "numba"
    expected = [y.data for y in (*outputs, *slopes)]
    assert same(program(np.array([x.data for x in inputs])), expected)
    rng = random.Random(0)
    for _ in range(2000):
        xs = [rng.choice(SPECIAL) if rng.random() < 0.8 else rng.gauss(0, 2) for _ in inputs]
        results = program(np.array(xs)).tolist()
        start = 0
        for op, result in zip(table, results[: len(table)], strict=True):
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


def test_logsumexp_of_one_number_is_that_number():
    x = Value(1.5)
    assert compile(ops.logsumexp(x), [x], backend="numba")([2.5]) == 2.5


# --- graphs ---------------------------------------------------------------------------------------


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 10**9), count=st.integers(1, 20))
def test_any_graph_compiles_to_what_the_engine_computes(seed, count):
    rng = random.Random(seed)
    xs = leaves(count, [rng.uniform(-1.5, 1.5) for _ in range(count)])
    agrees(random_root(rng, xs, 6), xs)


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


# --- padding --------------------------------------------------------------------------------------


def test_padding_is_not_seen_in_any_way_to_call_a_program():
    """Infinite numbers make NaN of padding, 0·inf, and then the same is computed without it."""
    tables, tokens = attending(0), [3, 0, 1, 2, 0, 3]
    parameters = flat(tables)

    def loss(tokens):
        return CAUSAL["mean"](tables, tokens, "attention")

    program = compile(loss(tokens), parameters, parameters, backend="numba")
    assert program.backend == "numba"
    assert program._lifted.is_padded
    step = compile_step(loss, tables, tokens, backend="numba")
    rng = random.Random(0)
    here = [p.data for p in parameters]
    rows_ = [here]
    for x in (math.inf, -math.inf, math.nan, 1e200):
        places = rng.sample(range(len(here)), 4)
        rows_ += [[*here[:place], x, *here[place + 1 :]] for place in places]
    losses, gradients = program(np.array(rows_))
    for row, of_batch, slopes in zip(rows_, losses, gradients, strict=True):
        for p, x in zip(parameters, row, strict=True):
            p.data = x
        root = loss(tokens)
        expected = grad(root, parameters)
        scale = largest(expected)
        for value, gradient in (
            (of_batch, slopes),
            program(np.array(row)),
            program.function(np.array(row)),
            step.value_and_grad([tokens]),
            step.value_and_grad([tokens, tokens]),
        ):
            assert same(value, root.data, 1.0)
            assert same(gradient, expected, scale)


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


def test_operations_of_the_user_run_over_numpy(made_up):
    cube = made_up("cube_of_loops", lambda x: x * x * x, lambda x, out: 3 * x * x)
    x = Value(2.0, "x")
    program = compile(cube(x), [x], [x], backend="numba")
    with pytest.raises(loops.UnsuitableError, match="cube_of_loops is not written for Numba"):
        emitted(cube(x), [x])
    assert program.backend == "numpy"
    value, gradient = program([2.0])
    assert (value, gradient.tolist()) == (8.0, [12.0])


def test_operations_of_the_user_that_are_written_for_numba_are_compiled(made_up):
    def compute(x, scale):
        return math.sin(scale * max(x, 0.0))

    wave = made_up(
        "wave of mine",
        compute,
        (
            lambda x, scale, out: scale * ops.cos(scale * ops.relu(x)) * ops.step(x),
            lambda x, scale, out: ops.relu(x) * ops.cos(scale * ops.relu(x)),
        ),
        numba="math.sin(@scale * relu(@x))",
    )
    xs = leaves(9, [0.25 * k - 1.0 for k in range(9)])
    agrees(sum(wave(x, 0.5 + i) * x for i, x in enumerate(xs)), xs)


def test_without_numba_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    x = Value(2.0)
    with pytest.raises(MissingExtraError, match=r"numba is not .*pip install .*\[native\]"):
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
        assert native.kept_at("program.py") is None
    assert not list(everyones.iterdir())
    own = tmp_path / "of mine" / "own"
    monkeypatch.setenv("MICROGRAD_LIKE_CACHE", str(own))
    assert native.kept_at("program.py") == str(own / "program.py")
    os.utime(own / "program.py", (1e9, 1e9))
    own.chmod(0o755)
    assert native.kept_at("program.py") == str(own / "program.py")
    assert os.stat(own / "program.py").st_mtime == 1e9  # or Numba would compile again
    if hasattr(os, "getuid"):
        monkeypatch.setattr(os, "getuid", lambda: -1)
        assert native.kept_at("program.py") is None


def test_a_source_is_compiled_once_by_each_version_of_what_compiles_it(monkeypatch):
    first = native.functions_of("answer = 42\n")
    assert first["answer"] == 42
    assert native.functions_of("answer = 42\n") is first
    monkeypatch.setattr(np, "__version__", "another")
    assert native.functions_of("answer = 42\n") is not first


def test_what_cannot_be_kept_runs_from_the_source_without_a_cache(monkeypatch):
    monkeypatch.setattr(native, "kept_at", lambda _: None)
    x = Value(2.0)
    assert "cache=True" in emitted(x * x, [x])[0].source
    program = compile(x * x - 0.375, [x], backend="numba")
    assert program([2.0]) == 3.625
    assert not program.function.__globals__["run"].stats.cache_path


def test_a_source_that_fails_is_tried_again_without_its_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROGRAD_LIKE_CACHE", str(tmp_path))
    source = "if __name__ and 'cache=True' != 'cache=' + 'False':\n    raise EOFError\nanswer = 7\n"
    assert native.functions_of(source)["answer"] == 7
    with pytest.raises(ZeroDivisionError):
        native.functions_of("1 / 0")
    with pytest.raises(ZeroDivisionError):
        native.functions_of("1 / 0")


def test_the_cache_is_among_the_users_caches(monkeypatch, tmp_path):
    monkeypatch.delenv("MICROGRAD_LIKE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.kept_at("program.py") == str(tmp_path / "micrograd_like" / "program.py")


def test_loops_have_no_equations():
    x = Value(2.0, "x")
    with pytest.raises(InputError, match="backend='numpy'"):
        compile(x * x, [x], backend="numba").equations()
    assert "x" in compile(x * x, [x], backend="numpy").equations()


@pytest.mark.parametrize("count", [6, 30])
def test_what_was_rounded_is_not_added_up_with_what_rounded_it(count):
    rng = random.Random(count)
    xs = [Value(rng.uniform(-5.0, 5.0), f"x[{i}]") for i in range(count)]
    whole = 6755399441055744.0  # 1.5·2**52, which rounds to whole numbers
    large = Value(1e16, "large")
    for root in (
        sum((x + whole) - whole for x in xs),
        sum(((x * y + whole) - whole) * 3.0 for x, y in pairwise(xs)),
        sum((x + large) - large for x in xs),
    ):
        inputs = [*xs, large]
        assert compile(root, inputs, backend="numba")([x.data for x in inputs]) == root.data


def test_a_program_without_inputs_takes_an_empty_list():
    x = Value(2.0)
    program = compile(x * x, [], [x], backend="numba")
    for nothing in ([], (), np.empty(0)):
        value, gradient = program(nothing)
        assert (value, gradient.tolist()) == (4.0, [4.0])
    assert [each.tolist() for each in program(np.empty((2, 0)))] == [[4.0, 4.0], [[4.0], [4.0]]]
