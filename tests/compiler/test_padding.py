"""What operations make of padding: found by trying, and right for every row of the table."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CASES
from samples import BACKENDS

from micrograd_like import Value, compile, cos, ops, tanh
from micrograd_like.training.gpt import GPT

np = pytest.importorskip("numpy")

from ragged import agree, points, random_ragged  # noqa: E402

from micrograd_like.compiler import expressions as ex  # noqa: E402
from micrograd_like.compiler.form import Array, Statement, Term, View  # noqa: E402
from micrograd_like.compiler.numpy_source import NumpyPrinter  # noqa: E402
from micrograd_like.compiler.padding import (  # noqa: E402
    completed,
    continued,
    lines,
    may_lose,
    neutral,
    result,
    watched,
)
from micrograd_like.compiler.rows import unrefusing  # noqa: E402

NUMBERS = [0.0, 1.0, -1.0, 0.4, -2.7, 3.0, 700.0, -700.0, 1e200, math.inf, -math.inf]
FIXED = [row for row in ops.TABLE.values() if row.arity is not None]


def test_a_logarithm_of_a_sum_does_not_notice_minus_infinity():
    assert neutral(ops.logsumexp) == -math.inf
    assert neutral(ops.exp) is None


def test_what_does_not_notice_an_argument_is_the_same_without_it():
    rng = random.Random(0)
    for row in ops.TABLE.values():
        if (nothing := neutral(row)) is not None:
            for _ in range(100):
                xs = [rng.uniform(-9, 9) for _ in range(rng.randint(1, 4))]
                more = [*xs, nothing]
                rng.shuffle(more)
                assert row(*more) == pytest.approx(row(*xs), rel=1e-15)


def test_operations_that_may_lose_a_nan_are_known():
    lost = {row.name for row in FIXED if may_lose(row, (None,) * row.arity)}
    assert {"where", "hypot", "damp", "pow"} <= lost
    assert not lost & {"tanh", "exp", "relu", "step", "mul", "fraction", "max", "gelu_slope"}
    assert not may_lose(ops.power, (None, -0.5))
    assert may_lose(ops.where, (None, None, 1.0))
    assert not may_lose(ops.logsumexp, (None,) * 50)


def test_operations_of_which_nothing_is_known_may_lose_a_nan():
    mine = ops.Op("mine", lambda x: x, lambda x, out: 1.0)
    assert may_lose(mine, (None,))
    assert neutral(mine) is None
    assert result(mine, (0.0,)) is None


@pytest.mark.parametrize("row", FIXED, ids=lambda row: row.name)
def test_a_nan_is_never_lost_by_others(row):
    rng = random.Random(1)
    compute = unrefusing(row)
    if may_lose(row, (None,) * row.arity):
        return
    for _ in range(300):
        xs = [rng.choice([*NUMBERS, rng.uniform(-9, 9)]) for _ in range(row.arity)]
        xs[rng.randrange(row.arity)] = math.nan
        assert math.isnan(compute(*xs))


@pytest.mark.parametrize("row", FIXED, ids=lambda row: row.name)
def test_what_padding_becomes_does_not_depend_on_other_numbers(row):
    rng = random.Random(2)
    compute = unrefusing(row)
    for known in (0.0, -math.inf, math.inf, 1.0):
        for k in range(row.arity):
            args = tuple(known if i == k else None for i in range(row.arity))
            if (found := result(row, args)) is None:
                continue
            for _ in range(200):
                xs = [rng.choice([rng.uniform(-9, 9), rng.gauss(0, 1e100)]) for _ in args]
                xs[k] = known
                assert compute(*xs) == found


def test_padding_becomes_0_where_a_softmax_has_it():
    assert result(ops.exp, (-math.inf,)) == 0.0
    assert result(ops.fraction, (-math.inf, None)) == 0.0
    assert result(ops.mul, (0.0, None)) == 0.0
    assert result(ops.div, (0.0, None)) is None  # 0/0 is NaN


def padded(shape, real):
    real = np.array(real, dtype=bool).reshape(-1)
    return Array(0, shape, np.where(real, 0, -1).tolist(), None, "a", real)


def test_lines_of_a_padded_array_have_all_that_is_real_in_them():
    triangle = padded((3, 3), np.tril(np.ones((3, 3))))
    rows = lines(triangle, np.array([0, 3, 4, 6, 7, 8]), np.array([0, 1, 1, 2, 2, 2]), 3)
    assert rows.places.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert rows.slots.tolist() == [0, 0, 1, 0, 1, 2]
    columns = lines(triangle, np.array([0, 3, 6, 4, 7, 8]), np.array([0, 0, 0, 1, 1, 2]), 3)
    assert columns.places.tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    some = lines(triangle, np.array([0, 3, 6, 7]), np.array([0, 1, 2, 2]), 3)
    assert some is None  # the second row has 4 also, and the third 8
    twice = lines(triangle, np.array([0, 0, 3, 4]), np.array([0, 0, 1, 1]), 2)
    assert twice is None


def test_rows_are_completed_in_equal_steps_or_as_others_are():
    assert completed(np.array([[0, 4, -1], [1, 5, 9]]), 12).tolist() == [[0, 4, 8], [1, 5, 9]]
    assert completed(np.array([[7, -1, -1], [7, 2, 4]]), 9).tolist() == [[7, 2, 4], [7, 2, 4]]
    assert completed(np.array([[5, -1], [7, 2]]), 9).tolist() == [[5, 0], [7, 2]]


def test_places_go_on_as_the_real_ones_do():
    whole = 10 + np.arange(12).reshape(3, 4)
    real = np.tril(np.ones((3, 4), dtype=bool))
    assert np.array_equal(continued(np.where(real, whole, 0), real, 30), whole)
    assert continued(np.where(real, whole, 0), real, 21).max() <= 20
    stacked = np.stack([whole, whole + 50], axis=-1)
    assert np.array_equal(continued(np.where(real[..., None], stacked, 0), real, 90), stacked)


def run(source, x):
    space = {**source.constants, "np": np}
    exec(source.text, space)
    with np.errstate(all="ignore"):
        return space["program"](x)


@settings(max_examples=CASES or 15)
@given(seed=st.integers(0, 10**9))
def test_where_nothing_watched_is_nan_padding_has_changed_nothing(seed):
    leaves, loss = random_ragged(seed)
    program = compile(loss, leaves, leaves)
    form, blocks = program._lifted, program._blocks
    source = NumpyPrinter(form).program(blocks)
    names = {ex.text(assignment.target) for assignment in source.assignments}
    known = {s.result for s in form.statements if s.result.name in names}
    arrays = watched(form.statements, known)
    assert bool(arrays) == form.is_padded
    source = replace(source, watched=[ex.name(array.name) for array in arrays])
    for x in points(seed, leaves):
        found, seen = run(source.watching, x)
        if not any(np.isnan(array).any() for array in seen):
            assert agree(found, run(NumpyPrinter(form, exactly=True).program(blocks), x))


def test_one_small_array_stands_for_all_sums_of_a_gpt():
    model = GPT("abc", embed=8, heads=2, context=5, layers=2)
    loss = model.loss(model.tokens("abca"))
    form = compile(loss, model.parameters(), model.parameters())._lifted
    [array] = watched(form.statements, {s.result for s in form.statements})
    assert array.size == 5


def test_an_array_stands_only_for_those_that_it_takes_in_whole():
    def array(name, shape, real=None):
        return Array(-1, shape, [], None, name, real)

    triangle = array("a", (3, 3), np.tril(np.ones((3, 3), bool)).reshape(-1))
    upper = array("upper", (3, 3), np.arange(9) < 6)
    sums, some, total = array("sums", (3,)), array("some", (2,)), array("total", ())
    every = np.arange(9).reshape(3, 3)
    made = Statement(sums, terms=[Term("total", 1.0, View(triangle, every))])

    def stands_for_sums(result, kind, places):
        statement = Statement(result, terms=[Term(kind, 2.0, View(sums, places))])
        found = watched([made, statement], {result})
        assert found in ([], [result])
        return bool(found)

    assert watched([made], {sums}) == [sums]
    assert stands_for_sums(total, "total", np.arange(3))
    assert not stands_for_sums(some, "each", np.arange(2))
    assert stands_for_sums(upper, "each", every % 3)
    assert not stands_for_sums(upper, "each", every // 3)  # the last row is not real


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_one_number_each_are_whole_rows_without_padding_too(backend):
    x, u = ([Value(0.1 + i, f"{name}[{i}]") for i in range(n)] for name, n in (("x", 5), ("u", 2)))

    def sums(x, u):
        def over(factors, i):
            return sum(factors[j] * tanh(u[i]) for j in range(i, 5, 2))

        tanhs, cosines = [tanh(v) for v in x], [cos(v) for v in x]
        return [over(tanhs, 0) + over(cosines, 1), over(tanhs, 1) + over(cosines, 0)]

    program = compile(sums(x, u), x + u, backend=backend)
    for i, odd in [(0, math.nan), (3, math.inf), (5, math.nan)]:
        at = [0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 2.0]
        at[i] = odd
        values = [Value(v) for v in at]
        expected = [y.data for y in sums(values[:5], values[5:])]
        assert list(program(at)) == pytest.approx(expected, rel=1e-14, nan_ok=True)
