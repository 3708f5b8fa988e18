"""compile_forward: what a function of an example returns, for examples of any length."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CASES
from test_examples import INF, NAN, flat, same
from test_families import KINDS, logits, model, states

from micrograd_like import Value, compile_forward, compile_step, losses, optim, softmax, take, tanh
from micrograd_like.errors import DomainError, InputError, OperandError, TraceError

pytest.importorskip("numpy")


def numbers(tree):
    """Values as floats, in lists; tuples become lists."""
    if isinstance(tree, (list, tuple)):
        return [numbers(item) for item in tree]
    return tree.data if isinstance(tree, Value) else float(tree)


def alike(found, expected):
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(alike, found, expected))
    return same(found, expected)


def rows_of(m, kind):
    return lambda tokens: [logits(m, h) for h in states(m, tokens, kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_position_of_a_causal_model_is_in_one_program(kind):
    m = model(1)
    forward = compile_forward(rows_of(m, kind), m, [0, 1, 2, 3, 0])
    for tokens in ([1], [2, 0], [1, 1, 1, 1], [3, 3, 2, 1, 0], [0, 2, 2]):
        assert alike(forward(tokens), numbers(rows_of(m, kind)(tokens)))
    assert (forward.report().programs, forward.report().padded) == (1, 4)
    assert "gradient" not in forward.source
    for p in flat(m):
        p.data *= -1.5
    found = forward.batch([[1, 2], [0], [3, 1, 1]])
    assert alike(found, [numbers(rows_of(m, kind)(t)) for t in ([1, 2], [0], [3, 1, 1])])


def test_the_last_position_alone_has_a_program_for_each_length():
    m = model(2)

    def last(tokens):
        return softmax(rows_of(m, "attention")(tokens)[-1])

    forward = compile_forward(last, m, [0, 1, 2])
    for tokens in ([1, 1], [2, 0, 3], [3]):
        assert alike(forward(tokens), numbers(last(tokens)))
    assert (forward.report().programs, forward.report().padded) == (3, 0)


def test_results_have_the_shape_that_the_function_gives_them():
    w = [Value(0.5), Value(-2.0)]

    def several(x, ys):
        z = tanh(w[0] * x)
        return z, [y * w[1] for y in ys], [[z, z, 3.0], [], ([x],)]

    forward = compile_forward(several, w, (0.3, [1.0, 2.0]))
    assert alike(forward(0.7, [5.0]), numbers(several(0.7, [5.0])))
    assert alike(
        forward.batch([(1, [2, 3]), (2.0, [])]), numbers([several(1, [2, 3]), several(2, [])])
    )
    single = compile_forward(lambda x: w[1] * x, w, 1.0)
    assert single(3.0) == -6.0
    assert single.batch([1.0, 2]) == [-2.0, -4.0]
    assert single.batch([]) == []


def test_what_grows_from_call_to_call_has_a_program_for_each_size():
    m = model(3)

    def step(token, past):
        x = take(m["a"], token)
        past = [*past, x]
        scores = softmax([sum(u * v for u, v in zip(x, y, strict=True)) for y in past])
        h = [sum(s * y[j] for s, y in zip(scores, past, strict=True)) for j in range(2)]
        return logits(m, h), past

    forward = compile_forward(step, m, (0, []))
    found, expected = [], []
    for token in (1, 3, 0, 0):
        row, found = forward(token, found)
        out, expected = step(token, expected)
        assert alike(row, numbers(out))
    assert alike(found, numbers(expected))


def test_a_step_has_forward_programs_that_see_what_is_learned():
    m = model(4)

    def loss(tokens):
        rows = rows_of(m, "recurrent")(tokens[:-1])
        return losses.mean(
            [losses.cross_entropy(r, t) for r, t in zip(rows, tokens[1:], strict=True)]
        )

    step = compile_step(loss, m, [0, 1, 2, 3])
    forward = step.forward(rows_of(m, "recurrent"), [0, 1, 2])
    with step.training(optim.SGD(step.parameters, lr=0.5)) as training:
        before = forward([1, 2])
        training([[0, 1], [2, 3, 1]])
        during = forward([1, 2])
    assert during != before
    assert during == forward([1, 2])
    assert alike(during, numbers(rows_of(m, "recurrent")([1, 2])))


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_numbers_that_are_not_read_do_not_spoil_what_is(bad):
    m = model(5)
    forward = compile_forward(rows_of(m, "attention"), m, [0, 1, 2, 3])
    forward([1, 1])
    m["a"][2][0].data = m["p"][3][0].data = bad
    for tokens in ([1, 1], [0, 3, 1], [2, 0], [0, 0, 0, 0]):
        assert alike(forward(tokens), numbers(rows_of(m, "attention")(tokens)))


def test_branches_are_followed():
    w = Value(0.5)
    forward = compile_forward(lambda x: [w * x if x > 0 else w - x, x], [w], 1.0)
    assert forward.batch([2.0, -3.0]) == [[1.0, 2.0], [3.5, -3.0]]
    changing = compile_forward(lambda x: [[w], w] if x > 0 else [w, [w]], [w], 1.0)
    with pytest.raises(TraceError, match="as many outputs"):
        changing(-1.0)


def test_what_is_refused():
    w, m = Value(2.0), model(6)
    with pytest.raises(InputError, match="parameters are needed"):
        compile_forward(lambda x: w * x, [], 1.0)
    with pytest.raises(TraceError, match="take"):
        compile_forward(lambda t: m["a"][t], m, 1)
    with pytest.raises(TraceError):
        compile_forward(lambda x: {"y": w * x}, [w], 1.0)
    forward = compile_forward(lambda t: take(m["a"], t), m, 1)
    with pytest.raises(InputError, match="from 0 to 3, and t is 4"):
        forward(4)
    with pytest.raises(OperandError, match="list of examples"):
        forward.batch(3)
    scale = [1.0]
    scaled = compile_forward(lambda x: w * x * scale[0], [w], 1.0)
    scaled.check()
    scale[0] = 2.0
    assert scaled(3.0) == 6.0  # as it was traced, until it is checked
    with pytest.raises(TraceError, match="attribute"):
        scaled.check()


def test_jax_gives_the_same():
    pytest.importorskip("jax")
    m = model(7)
    forward = compile_forward(rows_of(m, "attention"), m, [0, 1, 2], backend="jax")
    for tokens in ([1, 3, 3], [2, 0]):
        assert alike(forward(tokens), numbers(rows_of(m, "attention")(tokens)))


@settings(max_examples=CASES or 20)
@given(seed=st.integers(0, 10**9))
def test_any_outputs_are_those_of_the_engine(seed):
    rng = random.Random(seed)
    m, kind = model(seed), rng.choice(KINDS)
    pick = rng.choice([lambda r: r, lambda r: r[-1], lambda r: r[::2], lambda r: [sum(r[0]), r]])

    def outputs(tokens, x):
        rows = [[z * x for z in row] for row in rows_of(m, kind)(tokens)]
        return pick(rows) if is_straight or x > 0.0 else pick([softmax(row) for row in rows])

    is_straight = rng.random() < 0.7
    batch = [
        ([rng.randrange(4) for _ in range(rng.randint(1, 4))], rng.uniform(-1, 1)) for _ in range(4)
    ]
    forward = compile_forward(outputs, m, batch[0])
    for _ in range(2):
        try:
            expected = [numbers(outputs(*example)) for example in batch]
        except DomainError:
            break
        assert alike(forward.batch(batch), expected)
        for p in flat(m):
            p.data = rng.choice([rng.uniform(-2, 2)] * 9 + [INF, NAN, 0.0])
