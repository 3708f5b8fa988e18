"""losses.py: exact values and gradients, in the tails too; clear refusals."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optional import mp

from micrograd_like import MicrogradError, Value, grad, losses, nn, sigmoid

mp.dps = 60
logit = st.floats(-50.0, 50.0)


def close(got, want, ulps=64):
    want = float(want)
    return got == want or abs(got - want) <= ulps * math.ulp(want)


def exact_cross_entropy(logits, label):
    total = sum(mp.exp(mp.mpf(z)) for z in logits)
    probabilities = [mp.exp(mp.mpf(z)) / total for z in logits]
    gradient = [p - (1 if i == label else 0) for i, p in enumerate(probabilities)]
    return -mp.log(probabilities[label]), gradient


@given(st.lists(logit, min_size=2, max_size=6), st.data())
def test_cross_entropy_is_exact(logits, data):
    label = data.draw(st.integers(0, len(logits) - 1))
    values = [Value(z) for z in logits]
    loss = losses.cross_entropy(values, label)
    want, gradient = exact_cross_entropy(logits, label)
    # Each logit enters through differences of logits, which round to 1e-14 at most here.
    assert loss.data == pytest.approx(float(want), rel=1e-13)
    assert grad(loss, values) == pytest.approx([float(g) for g in gradient], rel=1e-13, abs=1e-300)


@pytest.mark.parametrize("logits", [[1000.0, -1000.0], [-1000.0, 1000.0], [0.0, 1000.0, -1000.0]])
@pytest.mark.parametrize("label", [0, 1])
def test_cross_entropy_is_stable_at_logits_of_a_thousand(logits, label):
    values = [Value(z) for z in logits]
    loss = losses.cross_entropy(values, label)
    mp.dps = 1000
    try:
        want, gradient = exact_cross_entropy(logits, label)
    finally:
        mp.dps = 60
    assert loss.data == pytest.approx(float(want), rel=1e-13)
    assert grad(loss, values) == pytest.approx([float(g) for g in gradient], abs=1e-300)


def test_cross_entropy_keeps_the_digits_of_a_confident_prediction():
    values = [Value(40.0), Value(0.0)]
    loss = losses.cross_entropy(values, 0)
    assert close(loss.data, mp.log1p(mp.exp(-40)), 8)
    assert close(grad(loss, values[0]), -1 / (1 + mp.exp(40)), 8)


@given(logit, st.sampled_from([0.0, 1.0]))
def test_binary_cross_entropy_with_logits_is_exact(z, t):
    value = Value(z)
    loss = losses.binary_cross_entropy_with_logits(value, t)
    s = 1 if t else -1
    assert close(loss.data, mp.log1p(mp.exp(-s * mp.mpf(z))), 8)
    assert close(grad(loss, value), -s / (1 + mp.exp(s * mp.mpf(z))), 64)


@given(st.floats(-5, 5), st.floats(0.0, 1.0))
def test_the_two_binary_cross_entropies_agree_also_for_soft_targets(z, t):
    logit = Value(z)
    direct = losses.binary_cross_entropy(sigmoid(logit), t)
    stable = losses.binary_cross_entropy_with_logits(logit, t)
    assert direct.data == pytest.approx(stable.data, rel=1e-12, abs=1e-12)
    assert grad(direct, logit) == pytest.approx(grad(stable, logit), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize(("z", "t", "loss"), [(1000, 1, 0.0), (-1000, 0, 0.0), (1000, 0, 1000.0)])
def test_binary_cross_entropy_with_logits_is_stable_at_a_thousand(z, t, loss):
    value = Value(z)
    out = losses.binary_cross_entropy_with_logits(value, t)
    assert out.data == loss
    assert grad(out, value) == (1.0 if loss else 0.0)


def test_a_value_as_target_is_part_of_the_graph():
    z, t = Value(0.3), Value(0.25)
    loss = losses.binary_cross_entropy_with_logits(z, t)
    want = losses.binary_cross_entropy_with_logits(Value(0.3), 0.25)
    assert loss.data == pytest.approx(want.data, rel=1e-15)
    assert grad(loss, t) == pytest.approx(-0.3, rel=1e-13)


def test_a_probability_of_exactly_one_is_right_or_refused():
    assert losses.binary_cross_entropy(Value(1.0), 1).data == 0.0
    assert losses.binary_cross_entropy(Value(0.0), 0).data == 0.0
    with pytest.raises(ValueError, match=r"log is defined on \(0, inf\), got 0.0 \(label 'p'\)"):
        losses.binary_cross_entropy(Value(0.0, label="p"), 1)


def test_hinge_is_zero_beyond_the_margin_and_linear_before_it():
    score = Value(0.25)
    loss = losses.hinge(score, -1)
    assert (loss.data, grad(loss, score)) == (1.25, 1.0)
    loss = losses.hinge(score, 1)
    assert (loss.data, grad(loss, score)) == (0.75, -1.0)
    assert losses.hinge(Value(2.0), 1).data == 0.0


def test_mse_is_the_mean_of_squares():
    a, b = Value(1.0), Value(4.0)
    loss = losses.mse([a, b], [0.0, 2.0])
    assert loss.data == 2.5
    assert grad(loss, [a, b]) == [1.0, 2.0]
    assert losses.mse([[a, b]], [[0.0, 2.0]]).data == 2.5


BATCHES = {
    "mse": (losses.mse, [0.3, -0.2, 1.5], [1.0, 0.0, 2.0]),
    "hinge": (losses.hinge, [0.3, -0.2, 1.5], [1, -1, -1]),
    "binary_cross_entropy": (losses.binary_cross_entropy, [0.3, 0.2, 0.9], [1, 0, 1]),
    "with_logits": (losses.binary_cross_entropy_with_logits, [0.3, -0.2, 1.5], [1, 0, 0]),
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_is_the_mean_of_its_examples_divided_once(name):
    loss, outputs, targets = BATCHES[name]
    values = [Value(x) for x in outputs]
    batch = loss(values, targets)
    singles = [loss(v, t) for v, t in zip(values, targets, strict=True)]
    total = singles[0].data + singles[1].data + singles[2].data
    assert batch.data == total / 3.0
    assert grad(batch, values) == pytest.approx(
        [grad(single, v) / 3.0 for single, v in zip(singles, values, strict=True)], rel=1e-15
    )
    assert loss(values[:1], targets[:1]).data == singles[0].data  # a batch of 1


def test_a_batch_of_cross_entropies_is_their_mean():
    rows = [[Value(0.1), Value(0.7)], [Value(2.0), Value(-1.0)]]
    batch = losses.cross_entropy(rows, [1, 1])
    singles = [losses.cross_entropy(row, 1).data for row in rows]
    assert batch.data == (singles[0] + singles[1]) / 2.0


def test_arrays_are_accepted_as_targets():
    numpy = pytest.importorskip("numpy")
    scores = [Value(0.5), Value(-0.5)]
    assert losses.hinge(scores, numpy.array([1, -1])).data == 0.5
    rows = [[Value(0.1), Value(0.7)]]
    assert losses.cross_entropy(rows, numpy.array([1])).data < 0.7


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda v: losses.mse([], []), "empty"),
        (lambda v: losses.hinge([v], [1, -1]), "1 outputs need a list of as many targets"),
        (lambda v: losses.hinge([v, v], 1), "as many targets"),
        (lambda v: losses.hinge(v, 0), "-1 or \\+1"),
        (lambda v: losses.binary_cross_entropy(v, 1.5), "from 0 to 1"),
        (lambda v: losses.binary_cross_entropy_with_logits(v, -1), "from 0 to 1"),
        (lambda v: losses.binary_cross_entropy_with_logits(v, math.nan), "from 0 to 1"),
        (lambda v: losses.cross_entropy([v, v], 2), "from 0 to 1"),
        (lambda v: losses.cross_entropy([v, v], -1), "from 0 to 1"),
        (lambda v: losses.cross_entropy([v, v], 0.5), "integer"),
        (lambda v: losses.cross_entropy([v, v], math.nan), "integer"),
        (lambda v: losses.cross_entropy([v], 0), "at least two"),
        (lambda v: losses.cross_entropy(v, 0), "list of logits"),
        (lambda v: losses.cross_entropy([[v, v], [v, v]], [0]), "2 outputs need a list"),
    ],
)
def test_what_does_not_fit_is_a_value_error_of_the_library(call, says):
    with pytest.raises(ValueError, match=says) as caught:
        call(Value(0.5))
    assert isinstance(caught.value, MicrogradError)


def test_one_example_and_the_full_batch_descend_alike():
    """The gradient over a batch is the mean of the gradients of its examples."""
    rows, labels = [[0.1, 0.2], [-0.5, 0.9], [1.0, -1.0]], [0, 2, 1]
    model = nn.MLP(2, [4, 3], seed=3)
    parameters = model.parameters()
    batch = grad(losses.cross_entropy([model(x) for x in rows], labels), parameters)
    singles = [
        grad(losses.cross_entropy(model(x), y), parameters)
        for x, y in zip(rows, labels, strict=True)
    ]
    means = [sum(gs) / 3.0 for gs in zip(*singles, strict=True)]
    assert batch == pytest.approx(means, rel=1e-12, abs=1e-16)
