"""losses.py: exact values and gradients, in the tails too; clear refusals. And softmax."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optional import mp

from micrograd_like import (
    DomainError,
    MicrogradError,
    Value,
    grad,
    gradcheck,
    losses,
    nn,
    sigmoid,
    softmax,
    training,
)
from micrograd_like.errors import DivergenceError, OperandError

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


def exact_soft_cross_entropy(logits, target, smoothing=0.0):
    """PyTorch's definition, with the gradient by the logits; a label stands for a one among 0s."""
    n = len(logits)
    soft = target if isinstance(target, list) else [float(k == target) for k in range(n)]
    weights = [(1 - mp.mpf(smoothing)) * mp.mpf(t) + mp.mpf(smoothing) / n for t in soft]
    losses_and_gradients = [exact_cross_entropy(logits, k) for k in range(n)]
    loss = sum(t * one for t, (one, _) in zip(weights, losses_and_gradients, strict=True))
    gradient = [
        sum(t * g[i] for t, (_, g) in zip(weights, losses_and_gradients, strict=True))
        for i in range(n)
    ]
    return loss, gradient


@given(
    st.lists(st.tuples(logit, st.floats(0.01, 1.0) | st.just(0.0)), min_size=2, max_size=6),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.booleans(),
)
def test_soft_targets_and_smoothed_labels_are_exact(pairs, smoothing, soft):
    logits = [z for z, _ in pairs]
    total = math.fsum(t for _, t in pairs)
    target = [t / total for _, t in pairs] if soft and total else len(logits) - 1
    values = [Value(z) for z in logits]
    loss = losses.cross_entropy(values, target, label_smoothing=smoothing)
    want, gradient = exact_soft_cross_entropy(logits, target, smoothing)
    assert loss.data == pytest.approx(float(want), rel=1e-13)
    assert grad(loss, values) == pytest.approx([float(g) for g in gradient], rel=1e-13, abs=1e-14)


@pytest.mark.parametrize(
    ("target", "smoothing"),
    [([0.25, 0.5, 0.25], 0.0), (2, 0.1), ([1.0, 0.0, 0.0], 0.0), ([1e-9, 1.0 - 1e-9, 0.0], 0.0)],
)
@pytest.mark.parametrize(
    "logits", [[1000.0, -1000.0, 0.0], [-1000.0, 1000.0, 3.0], [1e3, 1e3, 1e3]]
)
def test_soft_targets_are_stable_at_logits_of_a_thousand(logits, target, smoothing):
    values = [Value(z) for z in logits]
    loss = losses.cross_entropy(values, target, label_smoothing=smoothing)
    with mp.workdps(1000):
        want, gradient = exact_soft_cross_entropy(logits, target, smoothing)
    assert loss.data == pytest.approx(float(want), rel=1e-12)
    assert grad(loss, values) == pytest.approx([float(g) for g in gradient], abs=1e-12)


@pytest.mark.parametrize("one", [1, 1.0, Value(1.0)])
def test_a_certain_soft_target_has_the_digits_of_a_label(one):
    values = [Value(40.0), Value(0.0), Value(-3.0)]
    label = losses.cross_entropy(values, 0)
    soft = losses.cross_entropy(values, [one, 0, Value(0.0)])
    assert 0.0 < soft.data == label.data < 1e-17
    assert grad(soft, values) == grad(label, values)


def test_probabilities_that_are_values_are_part_of_the_graph():
    logits = [0.3, -1.2, 2.0]
    targets = [Value(0.2), 0.5, Value(0.3)]
    values = [Value(z) for z in logits]
    loss = losses.cross_entropy(values, targets, label_smoothing=0.1)
    want, _ = exact_soft_cross_entropy(logits, [0.2, 0.5, 0.3], 0.1)
    assert close(loss.data, want)
    one, _ = exact_cross_entropy(logits, 0)
    assert close(grad(loss, targets[0]), (1 - mp.mpf(0.1)) * one)
    assert gradcheck(lambda *zs: losses.cross_entropy(zs, [0.2, 0.5, 0.3]), logits)


def test_ignored_labels_are_left_out_of_the_mean():
    rows = [[Value(0.1), Value(0.7)], [Value(2.0), Value(-1.0)], [Value(0.0), Value(5.0)]]
    for ignored, keyword in ((-100, {}), (0, {"ignore_index": 0}), (7, {"ignore_index": 7})):
        for smoothing in (0.0, 0.1):
            kept = [losses.cross_entropy(rows[i], 1, label_smoothing=smoothing) for i in (0, 2)]
            batch = losses.cross_entropy(
                rows, [1, ignored, 1], label_smoothing=smoothing, **keyword
            )
            assert batch.data == (kept[0].data + kept[1].data) / 2.0
            assert grad(batch, rows[1]) == [0.0, 0.0]
    sequences = losses.cross_entropy([rows[:2], rows[2:]], [[1, -100], [1]])
    assert sequences.data == losses.cross_entropy(rows, [1, -100, 1]).data


def test_a_batch_has_a_soft_target_for_each_row():
    rows = [[Value(0.1), Value(0.7)], [Value(2.0), Value(-1.0)]]
    batch = losses.cross_entropy(rows, [[0.25, 0.75], (1, 0)])
    singles = [losses.cross_entropy(rows[0], [0.25, 0.75]), losses.cross_entropy(rows[1], 0)]
    assert batch.data == (singles[0].data + singles[1].data) / 2.0


@given(st.lists(st.floats(-1000.0, 1000.0), min_size=1, max_size=6))
def test_softmax_is_right_to_the_precision_of_the_largest_logit(logits):
    values = [Value(z) for z in logits]
    found = softmax(values)
    allowed = (4.0 + max(map(abs, logits))) * 2.0**-52
    with mp.workdps(1000):
        total = sum(mp.exp(mp.mpf(z)) for z in logits)
        want = [float(mp.exp(mp.mpf(z)) / total) for z in logits]
    assert [p.data for p in found] == pytest.approx(want, rel=allowed, abs=1e-300)
    assert softmax(logits) == [p.data for p in found]
    for i, p in enumerate(found):
        slopes = [want[i] * ((i == k) - q) for k, q in enumerate(want)]
        assert grad(p, values) == pytest.approx(slopes, abs=2.0 * allowed)


def test_softmax_has_derivatives_of_the_second_order_and_takes_numbers_among_values():
    assert gradcheck(lambda x, y: softmax([x, 0.5, y])[1] * 3.0, [0.3, -1.2])
    assert [p.data for p in softmax((Value(0.0), 0))] == [0.5, 0.5]


def test_a_logit_of_minus_infinity_has_no_probability_and_no_gradient():
    values = [Value(0.5), Value(-math.inf), Value(0.5)]
    found = softmax(values)
    assert [p.data for p in found] == pytest.approx([0.5, 0.0, 0.5], rel=1e-15)
    assert grad(found[1], values) == [0.0, 0.0, 0.0]
    assert grad(found[0], values) == pytest.approx([0.25, 0.0, -0.25], rel=1e-15)
    assert grad(grad(found[1], values[1], create_graph=True), values) == [0.0, 0.0, 0.0]
    masked = [Value(-math.inf), Value(-math.inf)]
    nothing = softmax(masked)
    assert [p.data for p in nothing] == grad(nothing[0], masked) == [0.0, 0.0]
    loss = losses.cross_entropy(values, [0.25, 0.0, 0.75])
    assert grad(loss, values) == pytest.approx([0.25, 0.0, -0.25], rel=1e-15)


@pytest.mark.parametrize("nothing", [[], (), 1.0, Value(1.0)])
def test_softmax_of_nothing_and_of_a_single_number_is_refused(nothing):
    with pytest.raises(ValueError, match="a list of at least one value"):
        softmax(nothing)


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


@pytest.mark.parametrize("p", [1.5, 2.0, -0.5, -1.0, math.inf])
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_what_is_no_probability_is_refused_whatever_the_target(p, target):
    with pytest.raises(DomainError, match=rf"probabilities from 0 to 1, got {p} \(label 'p'\)"):
        losses.binary_cross_entropy(Value(p, "p"), target)
    model = nn.Neuron(1, None, seed=0)
    model.w[0].data, model.b.data = 0.0, p
    with pytest.raises(DivergenceError, match="from 0 to 1"):
        training.fit(model, [[1.0]], [target], loss="binary_cross_entropy", epochs=1)


def test_a_probability_may_be_off_by_rounding():
    assert abs(losses.binary_cross_entropy(Value(1.0 + 2**-50), 1).data) < 2**-49


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


@pytest.mark.parametrize("values", [{1.0: 2.0, 3.0: 4.0}, {1.0, 3.0}])
def test_a_mean_is_of_what_has_an_order(values):
    with pytest.raises(OperandError, match="a list is needed"):
        losses.mean(values)


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


def test_generators_are_lists_of_outputs_and_targets():
    xs = [Value(1.0), Value(3.0)]
    assert losses.mean(x for x in xs).data == 2.0
    assert losses.mse((x for x in xs), (t for t in [0.0, 1.0])).data == 2.5
    rows = [[1.0, 2.0], [3.0, 0.0]]
    expected = losses.cross_entropy(rows, [0, 1])
    assert losses.cross_entropy([map(float, row) for row in rows], [0, 1]) == expected


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
        (lambda v: losses.cross_entropy([], []), "empty"),
        (lambda v: losses.cross_entropy([v, v], []), "2 logits have a label or 2 probabilities"),
        (lambda v: losses.cross_entropy([v, v], [v, v, v]), "2 logits have a label or 2"),
        (lambda v: losses.cross_entropy([v, v], [-0.5, 1.5]), "from 0 to 1, got"),
        (lambda v: losses.cross_entropy([v, v], [v, -0.5]), "from 0 to 1, got"),
        (lambda v: losses.cross_entropy([v, v], [math.nan, 1.0]), "from 0 to 1, got"),
        (lambda v: losses.cross_entropy([v, v], [math.inf, 0.0]), "from 0 to 1, got"),
        (lambda v: losses.cross_entropy([v, v], [0.5, 0.4]), r"sum to 1, these to 0\.9"),
        (lambda v: losses.cross_entropy([v, v], 0, label_smoothing=1.5), "label_smoothing"),
        (lambda v: losses.cross_entropy([v, v], 0, label_smoothing=math.nan), "label_smoothing"),
        (lambda v: losses.cross_entropy([v, v], -100), "the label is -100"),
        (lambda v: losses.cross_entropy([[v, v]] * 2, [1, 1], ignore_index=1), "every label is 1"),
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
