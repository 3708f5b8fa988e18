"""Examples of different lengths: in the program of the longest, where it gives what they give."""

from __future__ import annotations

import itertools
import math
import random
import warnings

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CASES
from test_examples import INF, NAN, agrees, flat, table

from micrograd_like import Value, compile_step, losses, optim, softmax, take, tanh
from micrograd_like.compiler import families
from micrograd_like.errors import InputError, MicrogradWarning, TraceError

pytest.importorskip("numpy")

WIDTH = 2


def model(seed, choices=4):
    rng = random.Random(seed)
    tables = {name: table(choices, WIDTH, rng) for name in ("a", "head")}
    return tables | {"w": table(WIDTH, WIDTH, rng), "p": table(8, WIDTH, rng), "b": Value(0.3)}


def states(m, tokens, kind):
    """Vectors, one for each token, which none looks ahead for."""
    past, found = [], []
    h = [Value(0.1)] * WIDTH
    for t, token in enumerate(tokens):
        x = [u + v for u, v in zip(take(m["a"], token), m["p"][t], strict=True)]
        if kind == "recurrent":
            h = [tanh(sum(w * v for w, v in zip(row, h, strict=True)) + u) for row, u in
                 zip(m["w"], x, strict=True)]  # fmt: skip
        elif kind == "attention":
            past.append(x)
            scores = softmax([sum(u * v for u, v in zip(x, y, strict=True)) for y in past])
            h = [sum(s * y[j] for s, y in zip(scores, past, strict=True)) for j in range(WIDTH)]
        else:
            h = [tanh(v) * m["b"] for v in x]
        found.append(h)
    return found


def logits(m, h):
    return [sum(u * v for u, v in zip(row, h, strict=True)) for row in m["head"]]


def terms(m, tokens, kind):
    found = states(m, tokens[:-1], kind)
    return [losses.cross_entropy(logits(m, h), t) for h, t in zip(found, tokens[1:], strict=True)]


def penalty(m):
    return 0.01 * sum(p * p for p in flat(m["w"]))


CAUSAL = {
    "mean": lambda m, ts, kind: losses.mean(terms(m, ts, kind)),
    "sum": lambda m, ts, kind: sum(terms(m, ts, kind)),
    "own mean": lambda m, ts, kind: (1 / (len(ts) - 1)) * sum(terms(m, ts, kind)) + penalty(m),
    "weighted": lambda m, ts, kind: sum(0.9**i * x for i, x in enumerate(terms(m, ts, kind))) - 2.0,
    "backwards": lambda m, ts, kind: -sum(-x for x in reversed(terms(m, ts, kind))) / 3,
    "of the first two": lambda m, ts, kind: sum(terms(m, ts, kind)[:2]),
}
OTHER = {
    "last": lambda m, ts, kind: terms(m, ts, kind)[-1],
    "pooled": lambda m, ts, kind: tanh(losses.mean([h[0] for h in states(m, ts, kind)])) * m["b"],
    "root": lambda m, ts, kind: sum(terms(m, ts, kind)) ** 0.5,
    "largest": lambda m, ts, kind: max(terms(m, ts, kind)),
}
KINDS = ("recurrent", "attention", "alone")


def documents(rng, count, longest=5, choices=4):
    return [[rng.randrange(choices) for _ in range(rng.randint(2, longest))] for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CAUSAL)
def test_shorter_examples_are_padded_where_none_looks_ahead(name, kind):
    m, rng = model(1), random.Random(name + kind)

    def loss(tokens):
        return CAUSAL[name](m, tokens, kind)

    step = compile_step(loss, m, [0, 1, 2, 3, 0])
    batch = [[1, 2], *documents(rng, 4), [3, 3, 1, 0, 0]]
    agrees(step, loss, m, batch)
    lengths = len({*map(len, batch)})
    assert step.report().programs == 1
    assert step.report().padded == lengths - 1
    assert f"{lengths - 1} padded" in str(step.report())
    for p in flat(m):
        p.data = rng.uniform(-2, 2)
    agrees(step, loss, m, batch[:2])


@pytest.mark.parametrize("name", OTHER)
def test_others_have_a_program_for_each_length(name):
    m, rng = model(2), random.Random(name)

    def loss(tokens):
        return OTHER[name](m, tokens, "attention")

    step = compile_step(loss, m, [0, 1, 2, 3])
    batch = [[1, 2], [3, 1], [2, 2, 1], [0, 0, 1, 3], [1, 1, 1, 1]]
    agrees(step, loss, m, batch)
    assert step.report().padded == 0
    assert step.report().structures == 3
    assert step.report().programs >= 3
    for p in flat(m):
        p.data = rng.uniform(-2, 2)
    agrees(step, loss, m, batch)


def test_a_longer_example_has_a_new_program_which_serves_those_between():
    m = model(3)

    def loss(tokens):
        return CAUSAL["mean"](m, tokens, "attention")

    step = compile_step(loss, m, [0, 1, 2])
    agrees(step, loss, m, [[1, 2], [0, 1, 1]])
    assert (step.report().programs, step.report().padded) == (1, 1)
    agrees(step, loss, m, [[1, 2], [0, 1, 1, 2], [1, 1, 1, 1, 0], [0, 1, 0]])
    assert (step.report().programs, step.report().padded) == (2, 2)


def test_a_batch_is_computed_by_the_program_of_its_longest_if_that_has_not_too_much_to_do():
    m = model(11)

    def loss(tokens):
        return CAUSAL["mean"](m, tokens, "alone")

    step, long = compile_step(loss, m, [0, 1, 2]), [1, 2, 0, 1, 2, 2, 0]
    agrees(step, loss, m, [[1, 2, 0]])
    agrees(step, loss, m, [long])
    assert step.report().programs == 2
    mixed, short = [[0, 1], [2, 1, 0], long], [[0, 1]] * 9 + [long]
    for batch in (mixed, short):
        agrees(step, loss, m, batch)
    assert step.sole(mixed)
    assert step.sole(short) is None


def test_numbers_may_be_of_any_count_and_are_padded_once_a_shorter_list_comes():
    w = [Value(0.3), Value(-0.7)]

    def loss(xs):
        h, total = Value(0.0), Value(0.0)
        for x in xs:
            h = tanh(w[0] * h + w[1] * x)
            total = total + (h - x) ** 2
        return total / len(xs)

    step = compile_step(loss, w, [0.5, 1.0, -0.3])
    assert "weights" not in step.source
    agrees(step, loss, w, [[0.1, 0.2, 0.3]])
    w[0].data, w[1].data = 0.4, -0.6  # as an optimizer does meanwhile
    agrees(step, loss, w, [[0.1, 0.2], [0.3, 0.1, 0.4], [2.0], [-1.0]])
    assert "weights" in step.source
    assert (step.report().programs, step.report().padded) == (1, 2)


@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e200])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_what_only_padding_reads_does_not_spoil_the_rest(bad, place):
    m = model(4)

    def loss(tokens):
        return CAUSAL["mean"](m, tokens, "attention")

    step = compile_step(loss, m, [0, 1, 2, 3, 1])
    batch = [[1, 2], [0, 0, 2]]
    step(batch)
    m["p"][place][0].data = bad
    for example in batch:
        agrees(step, loss, m, [example])
    agrees(step, loss, m, batch)


def test_a_step_of_the_optimizer_is_the_eager_one():
    trained = []
    for compiled in (False, True):
        m, rng = model(5), random.Random(5)

        def loss(tokens, m=m):
            return CAUSAL["own mean"](m, tokens, "recurrent")

        step = compile_step(loss, m, [0, 1, 2, 3, 1])
        optimizer = optim.Adam(flat(m), lr=0.05)
        for _ in range(8):
            batch = documents(rng, 3)
            if compiled:
                step(batch)
            else:
                optimizer.zero_grad()
                losses.mean([loss(tokens) for tokens in batch]).backward()
            optimizer.step()
        trained.append([p.data for p in flat(m)])
    assert trained[0] == pytest.approx(trained[1], rel=1e-9)


def test_training_on_arrays_takes_examples_of_all_lengths():
    trained = []
    for on_arrays in (False, True):
        m, rng = model(6), random.Random(6)

        def loss(tokens, m=m):
            return CAUSAL["mean"](m, tokens, "alone")

        step = compile_step(loss, m, [0, 1, 2])
        optimizer = optim.Adam(step.parameters, lr=0.05)
        if on_arrays:
            with step.training(optimizer) as training:
                for _ in range(8):
                    training(documents(rng, 3))
        else:
            for _ in range(8):
                step(documents(rng, 3))
                optimizer.step()
        trained.append([p.data for p in flat(m)])
    assert trained[0] == pytest.approx(trained[1], rel=1e-12)


def test_a_token_out_of_range_is_refused_in_shorter_examples_too():
    m = model(7)
    step = compile_step(lambda ts: CAUSAL["mean"](m, ts, "alone"), m, [0, 1, 2, 3])
    for batch in ([[0, 4]], [[0, 4, 3, 2]]):
        with pytest.raises(InputError, match=r"from 0 to 3, and ts\[1\] is 4"):
            step(batch)
    step([[0, 1]])
    with pytest.raises(InputError, match=r"from 0 to 3, and ts\[1\] is -1"):
        step([[1, -1]])


def test_shorter_examples_that_are_computed_otherwise_are_noticed():
    m = model(8)

    def loss(tokens):
        scale = 1.0 if len(tokens) > 3 else 2.0
        found = terms(m, tokens, "attention")
        return sum(x if i else x * scale for i, x in enumerate(found))

    def other(tokens):
        hs = states(m, tokens, "alone")
        return sum(tanh(h[0]) if len(tokens) > 3 else h[0] * h[0] for h in hs)

    for function, padded in ((loss, 2), (other, 1)):
        step = compile_step(function, m, [0, 1, 2, 3, 1])
        agrees(step, function, m, [[1, 2], [0, 1, 3], [1, 1, 1, 2]])
        assert step.report().padded >= padded


def test_sums_that_only_rounding_is_for_are_not_taken_apart():
    w = Value(0.4)

    def loss(xs):
        total, lost = Value(0.0), Value(0.0)
        for x in xs:  # Kahan's
            y = w * x - lost
            new = total + y
            lost = (new - total) - y
            total = new
        return total + lost

    step = compile_step(loss, [w], [0.5, 0.25, 3.0])
    agrees(step, loss, [w], [[0.1, 0.2], [0.7, 0.1, 3.3]])


@pytest.mark.parametrize(
    "is_low",
    [
        lambda x: x / 10 <= 0.3,  # a program has 0.1·x, which is 0.30000000000000004 for 3
        lambda x: not x / 10 > 0.6,
        lambda x: not x / 10 - 0.3 > 0.0,
        lambda x: not (x * 0.3) / 3 > 0.7,  # for 7 they tie in a program
        lambda x: x < math.inf,
    ],
)
@pytest.mark.parametrize("first", [1.0, 9.0])
def test_a_branch_that_only_rounding_is_for_is_the_engines(is_low, first):
    w = Value(0.4)

    def loss(x):
        return w * 100.0 if is_low(x) else w * x

    step = compile_step(loss, [w], first)
    for x in range(11):
        assert step([float(x)]) == pytest.approx(loss(float(x)).data, rel=1e-12), x
    batch = [float(x) for x in range(11)]
    assert step(batch) == pytest.approx(losses.mean(list(map(loss, batch))).data, rel=1e-12)


@pytest.mark.parametrize("factor", [-1.0, 1.0, 2.0])
def test_a_term_that_is_made_twice_counts_twice(factor):
    b = [Value(0.1 * i + 0.1) for i in range(6)]

    def once(xs):
        total, s = Value(0.0), b[0] * 0.0
        for weight, x in zip(b, xs, strict=False):
            s = s + weight * x
            total = total + (tanh(s) - x) ** 2
        return total

    def loss(xs):
        return once(xs) + factor * once(xs) + b[0]

    batch = [[0.3, -1.0], [0.5, 0.2, 0.7], [1.0]]
    value = compile_step(loss, b, [1.0] * 6)(batch)
    found = [p.grad for p in b]
    mean = losses.mean([loss(xs) for xs in batch])
    for p in b:
        p.grad = 0.0
    mean.backward()
    assert value == pytest.approx(mean.data, rel=1e-12)
    assert found == pytest.approx([p.grad for p in b], rel=1e-12)


def test_too_many_structures_go_to_the_eager_engine_with_one_warning(monkeypatch):
    monkeypatch.setattr(families, "MOST_STRUCTURES", 3)
    m = model(9)

    def loss(tokens):
        return OTHER["last"](m, tokens, "recurrent")

    step = compile_step(loss, m, [0, 1])
    with pytest.warns(MicrogradWarning, match="more than 3 structures"):
        agrees(step, loss, m, [[1] * n for n in (2, 3, 4, 5)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agrees(step, loss, m, [[2] * n for n in (3, 4, 5, 6)])
    assert (step.report().programs, step.report().eager) == (3, 2)
    with pytest.raises(InputError, match="each structure"):
        _ = step.function


def test_coefficients_of_shorter_examples_that_change_later_are_noticed_by_check():
    m, weights = model(4), [1.0] * 6

    def loss(tokens):
        return weights[len(tokens)] * CAUSAL["sum"](m, tokens, "recurrent")

    step = compile_step(loss, m, [0, 1, 2, 3, 1])
    batch = [[1, 2], [0, 0, 2]]
    agrees(step, loss, m, batch)
    assert step.report().padded == 2
    step.check()
    weights[4] = 0.5  # of examples that have not come
    step.check()
    weights[3] = 0.5
    with pytest.raises(TraceError, match="attribute"):
        step.check()


def test_what_changes_later_is_noticed_by_check():
    m, scale = model(10), [1.0]
    step = compile_step(lambda ts: CAUSAL["mean"](m, ts, "alone") * scale[0], m, [0, 1, 2])
    step([[0, 1]])
    step.check()
    scale[0] = 2.0
    with pytest.raises(TraceError, match="attribute"):
        step.check()


def test_a_value_that_is_no_parameter_may_be_of_a_shorter_example_alone():
    scale, m = {n: Value(1.0) for n in (2, 3, 4)}, model(11)

    def loss(tokens):
        return sum(x * scale[len(tokens)] for x in terms(m, tokens, "alone"))

    step = compile_step(loss, m, [0, 1, 2, 3])
    before = step([[0, 1], [1, 2, 3]])
    assert step.report().padded == 2
    assert step([[0, 1], [1, 2, 3]]) == before
    scale[3].data = 2.0
    with pytest.raises(TraceError, match="no parameter of the step"):
        step([[0, 1, 2]])


@pytest.mark.parametrize("backend", ["jax", "numba"])
def test_every_backend_takes_all_lengths(backend):
    pytest.importorskip(backend)
    m = model(11)

    def loss(tokens):
        return CAUSAL["mean"](m, tokens, "attention")

    step = compile_step(loss, m, [0, 1, 2, 3], backend=backend)
    agrees(step, loss, m, [[0, 1], [1, 1, 3], [2, 0, 1, 1]])
    agrees(step, loss, m, [[3, 0]])
    assert step.report().padded == 2
    if backend == "numba":
        assert "numba" in step.source
        with pytest.raises(InputError, match="no program of equations"):
            step.equations()


def test_single_precision_is_enough_to_be_padded():
    pytest.importorskip("jax")
    m = model(12)

    def loss(tokens):
        return CAUSAL["mean"](m, tokens, "attention")

    step = compile_step(loss, m, [0, 1, 2], backend="jax", dtype="float32")
    assert step([[1, 2]]) == pytest.approx(loss([1, 2]).data, rel=1e-5)
    assert step.report().padded == 1


@pytest.mark.parametrize("infinite", range(3))
def test_a_branch_on_the_loss_of_an_infinite_logit_is_the_engines(infinite):
    logits, weight = [Value(1.0), Value(2.0), Value(3.0)], Value(2.0)

    def loss(label):
        found = losses.cross_entropy(logits, label)  # in a trace inf - inf, where the engine has 0
        return weight * 1.0 if found < 0.5 else 3.0 * weight

    step = compile_step(loss, [*logits, weight], 0)
    agrees(step, loss, [*logits, weight], [0, 1, 2])
    logits[infinite].data = INF
    for batch in ([0], [1], [2], [0, 1, 2]):
        agrees(step, loss, [*logits, weight], batch)


# --- at random ------------------------------------------------------------------------------------


def random_ragged(seed):
    """A loss of a list of tokens and of numbers, of any length, made of the pieces above."""
    rng = random.Random(seed)
    m, kind = model(seed, choices := rng.randint(2, 4)), rng.choice(KINDS)
    of = rng.choice([*CAUSAL.values(), *CAUSAL.values(), *OTHER.values()])
    how = rng.randrange(4)

    def loss(tokens, xs):
        total = of(m, tokens, kind)
        if how == 1:
            total = total + sum(m["b"] * x for x in xs)
        elif how == 2:
            total = total * 0.5 - losses.mean([tanh(m["b"] * x) for x in xs])
        elif how == 3 and xs[0] > 0.0:
            total = total * m["b"]
        return total

    def example():
        n = rng.randint(2, 4)
        return (
            [rng.randrange(choices) for _ in range(n)],
            [rng.choice([rng.uniform(-1, 1), 1]) for _ in range(rng.choice([n, 2]))],
        )

    return loss, m, [example() for _ in range(rng.randint(2, 5))]


@settings(max_examples=CASES or 20)
@given(seed=st.integers(0, 10**9))
@hypothesis.example(seed=3630)  # a trace is NaN where the engine has a number
def test_any_ragged_batch_is_the_eager_engines(seed):
    loss, m, batch = random_ragged(seed)
    step = compile_step(loss, m, batch[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        agrees(step, loss, m, batch)
        rng = random.Random(seed)
        # Not -1e160, say: what cancels there swallows what it is added to, and a softmax hangs on
        # its scores' last bits. Both depend on the order of a sum, and on whether a product is
        # rounded before it is added, which BLAS does not do.
        for p in flat(m):
            p.data = rng.choice([rng.uniform(-2, 2)] * 12 + [INF, NAN, 0.0, -4.0])
        agrees(step, loss, m, batch[::-1])
    assert step.report().structures == len({tuple(map(len, e)) for e in [batch[0], *batch]})
    assert math.isfinite(step.report().statements)
    assert all(len(e) == 2 for e in itertools.chain(batch))
