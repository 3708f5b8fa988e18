"""Arrays laid out for those who read them, and the rows of a batch one below another."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from models import CASES
from optional import np

from micrograd_like import Value, compile, compile_step, grad, losses, tanh
from micrograd_like.training.gpt import GPT

pytest.importorskip("numpy")

from ragged import linear, matrix, random_ragged

from micrograd_like.compiler.layouts import laid_out


def gpt():
    model = GPT("abc", embed=4, heads=2, context=5)
    return model, compile_step(model.loss, model.weights, model.tokens("abca"))


def test_an_attention_is_written_as_in_a_textbook():
    _, step = gpt()
    lines = [line.strip() for line in step.source.splitlines()]
    for line in (
        "Q1 = (N1 @ wq1.T).reshape(-1, 5, 2, 2).transpose(0, 2, 1, 3)",
        "A1 = fraction_(S1, t25[:, :, :, None])",
        "Z1 = (A1 @ V1).transpose(0, 2, 1, 3).reshape(-1, 4)",
        "Y1 = Z1 @ wo1.T + X1",
        "U1 = M1 @ up1.T",
        "ddown1 = dX.T @ H1",
        "dwo1 = dY1.T @ Z1",
        "dN1 = dV1 @ wv1 + dK1 @ wk1 + dQ1 @ wq1",
    ):
        assert line in lines
    assert any(
        re.fullmatch(r"S1 = .* \* \(Q1 @ K1\.transpose\(0, 1, 3, 2\)\) \+ mask1", x) for x in lines
    )
    assert step.source.count(".transpose(") == 12  # into heads and out of them, and factors


def test_a_batch_of_texts_has_the_gradient_of_the_engine():
    model, step = gpt()
    batch = [model.tokens(text) for text in ("abca", "b", "ca", "aaaa")]
    value, gradient = step.value_and_grad(batch)
    mean = losses.mean([model.loss(tokens) for tokens in batch])
    assert value == pytest.approx(mean.data, rel=1e-13)
    assert gradient.tolist() == pytest.approx(grad(mean, step.parameters), rel=1e-11, abs=1e-14)


@pytest.mark.parametrize("count", [8, 12, 16, 36])
def test_coefficients_of_each_term_are_laid_out_with_their_sums(count):
    w = [Value(0.3 * i - 1.0, f"w[{i}]") for i in range(count)]
    quarters = [1.0 + 1.5 * a * a - 2.0 * b * b for a, b in zip(w[::2], w[1::2], strict=True)]
    sums = [1.0 + 1.5 * a - 2.0 * b for a, b in zip(quarters[::2], quarters[1::2], strict=True)]
    found = compile(sums, w)([x.data for x in w])
    assert found.tolist() == pytest.approx([x.data for x in sums], rel=1e-14, abs=1e-14)


@settings(max_examples=CASES or 25)
@given(seed=st.integers(0, 10**9))
def test_layouts_move_elements_and_change_nothing_else(seed):
    leaves, root = random_ragged(seed)
    before = compile(root, leaves, leaves)._lifted
    after = laid_out(before)
    assert after.inputs == before.inputs
    for old, new in zip(before.statements, after.statements, strict=True):
        a, b = old.result, new.result
        assert (a.number, a.name, a.size, old.op) == (b.number, b.name, b.size, new.op)
        assert sorted(a.members) == sorted(b.members)
        for place, number in enumerate(b.members):
            if number >= 0:
                assert after.array_of[number] is b
                assert after.place_of[number] == place
            assert b.real is None or {*b.members} == {-1} or b.real[place] == (number >= 0)


def sequence_model(rng):
    """A loss of rows of numbers, of layers that do something to each row, or to all of them."""
    n, width = rng.randint(2, 4), rng.randint(2, 3)
    kinds = [
        rng.choice(["linear", "tanh", "place", "mix", "norm", "weigh", "shift", "residual"])
        for _ in range(rng.randint(2, 6))
    ]
    kinds.insert(0, "linear")
    parameters = [
        {
            "W": matrix(rng, f"W{i}", width, width),
            "P": matrix(rng, f"P{i}", n, width),
            "M": matrix(rng, f"M{i}", n, n),
            "v": [Value(rng.gauss(0, 1), f"v{i}[{j}]") for j in range(width)],
        }
        for i in range(len(kinds))
    ]

    def loss(rows, targets):
        xs = rows
        for kind, p in zip(kinds, parameters, strict=True):
            before = xs
            if kind == "linear":
                xs = [linear(p["W"], x) for x in xs]
            elif kind == "tanh":
                xs = [[tanh(a) for a in x] for x in xs]
            elif kind == "place":
                xs = [
                    [a + b for a, b in zip(x, row, strict=True)]
                    for x, row in zip(xs, p["P"], strict=True)
                ]
            elif kind == "mix":
                xs = list(
                    zip(*[linear(p["M"], column) for column in zip(*xs, strict=True)], strict=True)
                )
            elif kind == "norm":
                xs = [[a * (sum(b * b for b in x) + 1.0) ** -0.5 for a in x] for x in xs]
            elif kind == "weigh":
                xs = [
                    [a * sum(b * c for b, c in zip(x, p["v"], strict=True)) for a in x] for x in xs
                ]
            elif kind == "shift":
                xs = [[a * xs[0][0] for a in x] for x in xs]
            else:
                xs = [
                    [a + b for a, b in zip(linear(p["W"], x), before[-1], strict=True)] for x in xs
                ]
        scores = [sum(x) for x in xs]
        return sum((s - t) ** 2 for s, t in zip(scores, targets, strict=True)) / n

    def example():
        return [[rng.gauss(0, 1) for _ in range(width)] for _ in range(n)], [
            rng.gauss(0, 1) for _ in range(n)
        ]

    return loss, parameters, example


@settings(max_examples=CASES or 25)
@example(seed=59944818)  # a sum over the first of three axes
@given(seed=st.integers(0, 10**9))
def test_rows_below_one_another_give_what_each_example_does(seed):
    loss, parameters, example = sequence_model(random.Random(seed))
    batch = [example() for _ in range(3)]
    step = compile_step(loss, parameters, batch[0])
    for some in (batch[:1], batch):
        value, gradient = step.value_and_grad(some)
        mean = losses.mean([loss(*each) for each in some])
        assert value == pytest.approx(mean.data, rel=1e-11)
        expected = grad(mean, step.parameters)
        assert np.abs(gradient - expected).max() < 1e-11 * max(1.0, np.abs(expected).max())
