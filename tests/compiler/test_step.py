"""compile_step and fit(engine="compiled"): one example traced gives what batches of Values give."""

from __future__ import annotations

import math
import random
import re
import warnings
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from models import CASES, check_step, random_model
from samples import tied_weights

from micrograd_like import Value, compile_step, grad, losses, nn, optim, tanh, training
from micrograd_like.errors import DivergenceError, InputError, OperandError, TraceError

pytest.importorskip("numpy")

TARGETS = {
    "cross_entropy": (4, lambda rng: rng.randrange(4)),
    "hinge": (1, lambda rng: rng.choice([-1.0, 1.0])),
    "mse": (2, lambda rng: [rng.random(), rng.random()]),
    "binary_cross_entropy_with_logits": (1, lambda rng: rng.choice([0.0, 1.0])),
}


def problem(loss, count=23, **options):
    rng = random.Random(7)
    width, target = TARGETS[loss]
    X = [[rng.uniform(-1, 1) for _ in range(3)] for _ in range(count)]
    y = [target(rng) for _ in X]
    return nn.MLP(3, [5, width], seed=3, **options), X, y


def the_step_agrees(model, loss, X, y):
    step = compile_step(model, loss, (X[0], y[0]))
    value = step(X, y)
    gradients = [p.grad for p in model.parameters()]
    model.zero_grad()
    mean = losses.mean([loss(model(x), t) for x, t in zip(X, y, strict=True)])
    mean.backward()
    assert value == pytest.approx(mean.data, rel=1e-12)
    assert gradients == pytest.approx([p.grad for p in model.parameters()], rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("loss", TARGETS)
@pytest.mark.parametrize("options", [{"activation": "tanh"}, {"activation": "relu"},
                                     {"activation": "gelu", "fused": False},
                                     {"activation": "leaky_relu"}])  # fmt: skip
@pytest.mark.parametrize("count", [1, 2, 23])
def test_a_step_is_the_mean_loss_over_a_batch_of_any_size_and_its_gradient(loss, options, count):
    model, X, y = problem(loss, **options)
    step = compile_step(model, getattr(losses, loss), (X[0], y[0]))
    value = step(X[:count], y[:count])
    gradients = [p.grad for p in model.parameters()]
    outputs = step.outputs.tolist()
    model.zero_grad()
    expected = [model(x) for x in X[:count]]
    mean = losses.mean([getattr(losses, loss)(o, t) for o, t in zip(expected, y, strict=False)])
    mean.backward()
    assert value == pytest.approx(mean.data, rel=1e-12)
    assert gradients == pytest.approx([p.grad for p in model.parameters()], rel=1e-9, abs=1e-13)
    flat = [o.data for out in expected for o in (out if isinstance(out, list) else [out])]
    assert [o for row in outputs for o in row] == pytest.approx(flat, rel=1e-12)
    assert step.evaluate(X[:count], y[:count]) == pytest.approx(value)


@pytest.mark.parametrize("loss", TARGETS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_hundred_compiled_steps_lead_to_the_eager_weights(loss, optimizer):
    weights, histories = [], []
    for engine in ("eager", "compiled"):
        model, X, y = problem(loss)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            history = training.fit(
                model, X, y, loss=loss, optimizer=optimizer, epochs=34, batch_size=8,
                validation=(X[:5], y[:5]), engine=engine,
            )  # fmt: skip
        weights.append([p.data for p in model.parameters()])
        histories.append(history)
    assert weights[1] == pytest.approx(weights[0], rel=1e-9, abs=1e-9)
    assert histories[1].loss == pytest.approx(histories[0].loss, rel=1e-9)
    assert histories[1].accuracy == histories[0].accuracy
    assert histories[1].validation_loss == pytest.approx(histories[0].validation_loss, rel=1e-9)
    assert histories[1].validation_accuracy == histories[0].validation_accuracy


def test_a_custom_module_and_a_custom_loss_are_traced():
    class Gated(nn.Module):
        def __init__(self):
            self.up = nn.Layer(3, 4, "tanh", seed=0)
            self.gate = nn.Layer(3, 4, "sigmoid", seed=1)
            self.scale = Value(0.5, label="scale")

        def __call__(self, x):
            return self.scale * sum(u * g for u, g in zip(self.up(x), self.gate(x), strict=True))

    def loss(output, target):
        return (output - target).abs() + 0.01 * output**2

    rng = random.Random(0)
    X = [[rng.uniform(-1, 1) for _ in range(3)] for _ in range(11)]
    y = [rng.uniform(-1, 1) for _ in X]
    model = Gated()
    the_step_agrees(model, loss, X, y)


def test_parameters_alone_in_the_loss_count_once():
    model, X, y = problem("mse")

    def loss(output, target):
        return losses.mse(output, target) + 0.1 * sum(p * p for p in model.parameters())

    the_step_agrees(model, loss, X, y)


def test_weights_in_several_products_of_matrices_are_differentiated_by():
    model, parameters = tied_weights()
    rng = random.Random(0)
    X = [[rng.uniform(-1, 1) for _ in range(3)] for _ in range(7)]
    y = [[rng.uniform(-1, 1) for _ in range(4)] for _ in X]
    shuffled = rng.sample(parameters, len(parameters))
    for order in (parameters, shuffled):
        step = compile_step(model, losses.mse, (X[0], y[0]), order)
        value, gradient = step.value_and_grad(X, y)
        mean = losses.mean([losses.mse(model(x), t) for x, t in zip(X, y, strict=True)])
        assert value == pytest.approx(mean.data, rel=1e-12)
        assert gradient.tolist() == pytest.approx(grad(mean, order), rel=1e-9, abs=1e-12)


def test_gradients_of_different_arrays_stay_apart_though_they_are_of_one_form():
    w, v = [[Value(0.1 * i - 0.3, f"{name}[{i}]") for i in range(3)] for name in "wv"]
    step = compile_step(
        lambda x: sum(wi * xi for wi, xi in zip(w + v, x, strict=True)),
        losses.mse,
        ([0.5] * 6, 1.0),
        [*w, *v],
    )
    assert re.search(r"^ +dw = \w+ @ X\[:, :3\]$", step.source, re.MULTILINE)
    assert re.search(r"^ +dv = \w+ @ X\[:, 3:6\]$", step.source, re.MULTILINE)


def test_layers_in_attributes_of_a_module_are_matrices_of_their_names():
    class Two(nn.Module):
        def __init__(self):
            self.first = nn.Layer(3, 5, activation="tanh", seed=0)
            self.second = nn.Layer(5, 4, activation=None, seed=1)

        def __call__(self, x):
            return self.second(self.first(x))

    model = Two()
    assert model.first.parameters()[0].label == model.second.parameters()[0].label
    step = compile_step(model, losses.cross_entropy, ([0.1, 0.2, 0.3], 1))
    assert "t6 = X @ first_W.T + first_b\n" in step.source
    assert "t9 = t7 @ second_W.T + second_b\n" in step.source
    scale = Value(2.0, "scale")
    scaled = compile_step(
        model,
        lambda z, y: scale * losses.mse(z, y),
        ([0.1, 0.2, 0.3], [0.0] * 4),
        [*model.parameters(), scale],
    )
    assert "    first_W = values[:20]" in scaled.source
    assert "    scale = values[44]\n" in scaled.source
    alone = compile_step(model.first, losses.mse, ([1.0] * 3, [0.0] * 5))
    assert "X @ W.T + b\n" in alone.source
    model.first.neurons[0].w[0].label = "special"  # labels that differ are the user's
    for neuron in model.second.neurons:
        for parameter in neuron.parameters():
            parameter.label = f"second.{parameter.label}"
    assert (
        "    special = values[0]\n"
        in compile_step(model, losses.cross_entropy, ([0.1, 0.2, 0.3], 1)).source
    )


@pytest.mark.parametrize("seed", range(32))
def test_any_terms_of_weights_and_inputs_are_summed_over_the_examples(seed):
    rng = random.Random(seed)
    n, grid = 3, [(i, j) for i in range(3) for j in range(3)]
    W = [[Value(rng.uniform(-1, 1), f"W[{i}][{j}]") for j in range(n)] for i in range(n)]
    v = [Value(rng.uniform(-1, 1), f"v[{i}]") for i in range(n)]
    s = Value(rng.uniform(-1, 1), "s")
    c = [[rng.uniform(-1, 1) for _ in range(n)] for _ in range(n)]
    kinds = [
        lambda x, i, j: W[i][j] * x[i] * x[j],
        lambda x, i, j: W[i][j] * (x[i] + 1.0),
        lambda x, i, j: W[i][j] * W[i][j] * x[j],
        lambda x, i, j: W[i][j] * c[i][j] * x[j],
        lambda x, i, j: (c[i][j] * W[i][j] - v[j]) * x[i] * s,
        lambda x, i, j: tanh(W[i][j] * x[i]) * v[i],
        lambda x, i, j: (W[i][j] - c[i][j] * x[j]) ** 2,
        lambda x, i, j: W[i][j] * v[i] * v[j] - 0.5 * s,
        lambda x, i, j: W[j][i] * x[i] * v[j] * c[i][j] * x[j],
        lambda x, i, j: tanh(x[i] * x[j]) * W[i][j] - tanh(x[j]) * W[j][i],
        lambda x, i, j: W[i][j] * x[i] + 0.7 * W[i][j],
        lambda x, i, j: W[i][j] * x[i] * x[j] + c[i][j] * W[i][j],
    ]
    chosen = rng.sample(kinds, rng.randrange(1, 4))

    def model(x):
        return sum(kind(x, i, j) for kind in chosen for i, j in grid)

    parameters = [*(w for row in W for w in row), *v, s]
    X = [[rng.uniform(-1, 1) for _ in range(n)] for _ in range(5)]
    y = [rng.uniform(-1, 1) for _ in X]

    def loss(output, target):
        return output * target + 0.1 * output

    step = compile_step(model, loss, (X[0], y[0]), parameters)
    value, gradient = step.value_and_grad(X, y)
    mean = losses.mean([loss(model(x), t) for x, t in zip(X, y, strict=True)])
    assert value == pytest.approx(mean.data, rel=1e-12)
    assert gradient.tolist() == pytest.approx(grad(mean, parameters), rel=1e-9, abs=1e-12)


@settings(max_examples=CASES or 60)
@given(seed=st.integers(0, 10**9))
@example(seed=3731)  # a row of each example times a column of each is no row below others
@example(seed=575666)  # the gradient of a matrix whose parts come from a vector
def test_any_model_of_vectors_and_matrices_gives_what_the_engine_does(seed):
    model, loss, parameters, X, y = random_model(seed)
    step = compile_step(model, loss, (X[0], y[0]), parameters)
    check_step(step, model, loss, parameters, X, y)


@pytest.mark.parametrize(
    ("number", "written"),
    [(lambda i: 0.7, "len(examples) * 0.7"), (lambda i: 0.7 + i, "len(examples) * c1")],
)
def test_a_constant_in_a_gradient_counts_in_every_example(number, written):
    v = [Value(0.3, f"v[{i}]") for i in range(3)]
    X, y = [[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]], [0.0, 0.0]
    for sign, total in ((1.0, f"ones @ X + {written}"), (-1.0, f"{written} - (ones @ X)")):

        def model(x, sign=sign):
            return sum(sign * v[i] * x[i] + number(i) * v[i] for i in range(3))

        step = compile_step(model, lambda out, t: out * 1.0, (X[0], y[0]), v)
        assert f"    dv = {total}\n" in step.source
        expected = [number(i) + sign * (X[0][i] + X[1][i]) / 2.0 for i in range(3)]
        assert step.value_and_grad(X, y)[1].tolist() == pytest.approx(expected)


def test_a_constant_loss_has_no_gradient():
    w = Value(3.0, "w")
    step = compile_step(lambda x: Value(1.0), lambda o, t: Value(2.0), ([1.0], 2.0), [w])
    assert step([[1.0], [3.0]], [2.0, 5.0]) == 2.0
    assert w.grad == 0.0
    assert step.outputs.tolist() == [[1.0], [1.0]]


def test_a_slope_that_is_the_same_number_everywhere_is_no_zero():
    w, b = Value(3.0, "w"), Value(1.0, "b")
    step = compile_step(lambda x: w * x[0] + 0.5 * b, lambda o, t: o - t, ([1.0], 2.0), [w, b])
    step([[1.0], [3.0]], [2.0, 5.0])
    assert (w.grad, b.grad) == (2.0, 0.5)


def test_parameters_may_have_the_names_of_inputs_and_targets():
    w, v = Value(2.0, "X[0]"), Value(3.0, "Y")
    step = compile_step(lambda x: w * x[0] + v, losses.mse, ([1.0], 2.0), [w, v])
    assert step([[1.0], [3.0]], [6.0, 8.0]) == pytest.approx(1.0)
    assert (w.grad, v.grad) == pytest.approx(((-2 * 1 + 2 * 3) / 2, 0.0))


def test_an_example_without_a_number_is_refused():
    w = Value(1.0, "w")
    with pytest.raises(InputError, match="no number"):
        compile_step(lambda x: w * w, lambda o, t: o, ([], []), [w])


def test_the_example_does_not_matter_but_for_its_shape():
    model, X, y = problem("cross_entropy")
    steps = [compile_step(model, losses.cross_entropy, (X[i], y[i])) for i in range(4)]
    assert len({y[i] for i in range(4)}) > 1
    assert len({step.source for step in steps}) == 1


def test_the_source_has_one_line_a_matrix_equation():
    model, X, y = problem("cross_entropy", activation="tanh")
    source = compile_step(model, losses.cross_entropy, (X[0], y[0])).source
    assert "Z1 = X @ W1.T + b1" in source
    assert "A1 = np.tanh(Z1)" in source
    assert "Z2 = A1 @ W2.T + b2" in source
    assert ".T @ A1" in source
    assert ".T @ X" in source


def test_loops_give_the_outputs_and_the_mean_of_a_batch():
    pytest.importorskip("numba")
    model, X, y = problem("cross_entropy")
    step = compile_step(model, losses.cross_entropy, (X[0], y[0]), backend="numba")
    for count in (1, 5):
        check_step(step, model, losses.cross_entropy, model.parameters(), X[:count], y[:count])


def test_a_step_has_equations():
    model, X, y = problem("cross_entropy")
    step = compile_step(model, losses.cross_entropy, (X[0], y[0]))
    assert r"Z_{1} &= X\, W_{1}^\top + b_{1}" in step.equations()


def test_a_loss_that_is_no_value_is_refused():
    model, X, y = problem("cross_entropy")
    with pytest.raises(TraceError, match=r"return a Value, not 1\.0"):
        compile_step(model, lambda logits, label: 1.0, (X[0], y[0]))


def test_what_cannot_be_traced_says_why_and_the_eager_engine_goes_on():
    model, X, y = problem("cross_entropy")

    def loss(logits, label):
        return losses.cross_entropy(logits, label - 0)  # which label is computed

    with pytest.raises(TraceError, match="one example"):
        compile_step(model, loss, (X[0], y[0]))
    weights = []
    for engine in ("eager", "compiled"):
        model, X, y = problem("cross_entropy")
        if engine != "eager":
            with pytest.warns(UserWarning, match="not compiled"):
                training.fit(model, X, y, loss=loss, epochs=2, engine=engine)
        else:
            training.fit(model, X, y, loss=loss, epochs=2, engine=engine)
        weights.append([p.data for p in model.parameters()])
    assert weights[0] == weights[1]


def test_a_branch_on_data_is_found_where_examples_take_both_sides():
    model, X, y = problem("mse")

    class Branching(nn.Module):
        def __init__(self):
            self.inner = model

        def __call__(self, x):
            out = self.inner(x)
            return out if out[0].data > 0.0 else [-o for o in out]

    with pytest.warns(UserWarning, match=r"test_step\.py:\d+ \(return out if out\[0\]\.data > 0"):
        training.fit(Branching(), X, y, loss="mse", epochs=1, engine="compiled")


def test_divergence_is_found_and_the_model_left_at_its_last_good_state():
    model, X, y = problem("mse")
    with pytest.raises(DivergenceError):
        training.fit(
            model, X, y, loss="mse", epochs=200, engine="compiled",
            optimizer=optim.SGD(model.parameters(), lr=1e6),
        )  # fmt: skip
    assert all(math.isfinite(p.data) for p in model.parameters())


def test_a_function_needs_its_parameters_named():
    w = Value(2.0, "w")
    with pytest.raises(InputError, match="parameters"):
        compile_step(lambda x: w * x[0], losses.mse, ([1.0], 2.0))
    step = compile_step(lambda x: w * x[0], losses.mse, ([1.0], 2.0), [w])
    assert step([[1.0], [3.0]], [2.0, 5.0]) == pytest.approx(0.5)
    assert w.grad == pytest.approx((2 * 0.0 * 1.0 + 2 * 1.0 * 3.0) / 2)


def test_a_penalty_on_parameters_and_inputs_counts_each():
    model, X, y = problem("mse")

    def loss(output, target):
        squares = sum(p * p for p in model.parameters()) + sum(o * o for o in output)
        return losses.mse(output, target) + squares + sum(t * t for t in target)

    step = compile_step(model, loss, (X[0], y[0]))
    expected = losses.mean([loss(model(x), t) for x, t in zip(X, y, strict=True)])
    assert step(X, y) == pytest.approx(expected.data, rel=1e-12)
    assert step.evaluate(X, y) == pytest.approx(expected.data, rel=1e-12)


def test_examples_of_another_shape_and_labels_that_are_none_are_refused():
    model, X, y = problem("cross_entropy")
    step = compile_step(model, losses.cross_entropy, (X[0], y[0]))
    for wrong in ([[1.0, 2.0]], [[1.0, 2.0, 3.0, 4.0]], [[1.0, 2.0, 3.0]] * 2, []):
        with pytest.raises(InputError, match="rows of 3"):
            step(wrong, y[:1] if wrong else [])
    pairs = compile_step(nn.MLP(3, [2], seed=0), losses.mse, (X[0], [1.0, 2.0]))
    for target in ([1.0], [1.0, 2.0, 3.0], [], 1.0):
        with pytest.raises(InputError, match="a target has 2 numbers"):
            pairs(X[:1], [target])
    single = compile_step(nn.MLP(3, [1], seed=0), losses.mse, (X[0], 1.0))
    with pytest.raises(InputError, match="a target is a number"):
        single(X[:1], [[1.0]])
    with pytest.raises(OperandError, match=r"a list of targets, got 1\.0"):
        single(X[:1], 1.0)
    with pytest.raises(InputError, match="4 probabilities as targets"):
        step(X[:1], [[0.0, 1.0, 0.0]])
    for label in (-1, 4, 1.5):
        with pytest.raises(InputError, match=f"label is an integer from 0 to 3, got {label}"):
            step(X[:1], [label])
    with pytest.raises(InputError, match="parameters"):
        compile_step(model, losses.cross_entropy, (X[0], y[0]), [])


def soft(z, t):
    return losses.cross_entropy([z, 0.0, -z], t)


def of_probability(z, t):
    return losses.binary_cross_entropy(z.sigmoid(), t)


REFUSED = {  # right targets, and what each loss refuses
    losses.hinge: ([1.0, -1.0], [0.0, 2.0, math.nan]),
    losses.binary_cross_entropy_with_logits: ([1.0, 0.25], [-1.0, 1.5, math.nan]),
    of_probability: ([1, 0], [-1, 2]),
    soft: ([[0.2, 0.3, 0.5], [0, 1.0, 0]], [[0.5, 0.5, 0.5], [1.5, 0.0, -0.5]]),
}
FORMS = {
    "of a model": lambda model, loss, parameters, x, y: (
        compile_step(model, loss, (x, y)),
        lambda X, Y: (X, Y),
    ),
    "of examples": lambda model, loss, parameters, x, y: (
        compile_step(lambda x, y: loss(model(x), y), parameters, (x, y)),
        lambda X, Y: ([*zip(X, Y, strict=True)],),
    ),
    "of several": lambda model, loss, parameters, x, y: (
        compile_step(
            lambda x, ys: losses.mean([loss(model([*x[:2], i]), y) for i, y in enumerate(ys)]),
            parameters,
            (x, [y, y, y]),
        ),
        lambda X, Y: (
            [(x, [Y[0], y][: i + 1]) for i, (x, y) in enumerate(zip(X, Y, strict=True))],
        ),
    ),
    "of a branch": lambda model, loss, parameters, x, y: (
        compile_step(
            lambda x, y: loss(model(x), y) * (2.0 if x[0] > 0.0 else 3.0), parameters, (x, y)
        ),
        lambda X, Y: ([*zip(X, Y, strict=True)],),
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", REFUSED)
def test_targets_are_refused_in_each_example_that_the_loss_refuses(loss, form):
    model, X = nn.MLP(3, [4, 1], seed=3), [[0.3, -0.5, 0.1], [-0.2, 0.4, 0.9]]
    right, wrong = REFUSED[loss]
    step, batch = FORMS[form](model, loss, model.parameters(), X[0], right[0])
    assert math.isfinite(step(*batch(X, right)))
    assert step.evaluate(*batch(X, right)) == pytest.approx(step(*batch(X, right)))
    for y in wrong:
        with pytest.raises(InputError) as eagerly:
            loss(model(X[1]), y)
        for call in (step, step.value_and_grad, step.evaluate):
            with pytest.raises(InputError, match=str(eagerly.value)[:30]):
                call(*batch(X, [right[0], y]))
    if form != "of a branch":
        step.function(*step.arrays(*batch(X[:1], right[:1])))


def test_targets_that_are_computed_are_refused_and_parameters_are_none():
    w = [Value(0.5), Value(0.25)]
    step = compile_step(lambda x, y: losses.hinge(w[0] * x, 2 * y - 1), w, (1.0, 0))
    assert step([(1.0, 0), (0.5, 1)]) == pytest.approx((1.5 + 0.75) / 2)
    with pytest.raises(InputError, match=r"-1 or \+1, got -3.0"):
        step([(1.0, 0), (0.5, -1)])
    step = compile_step(lambda x: losses.hinge(w[0] * x, w[1]), w, (1.0,))
    assert step([(1.0,), (2.0,)]) == pytest.approx(1.0 - 1.5 * 0.125)


def test_a_loss_outside_its_domain_is_a_divergence():
    w = Value(1.0, "w")

    class Line(nn.Module):
        def __init__(self):
            self.w = w

        def __call__(self, x):
            return (self.w * x[0]).log()

    with pytest.raises(DivergenceError):
        training.fit(Line(), [[1.0], [-1.0]], [0.0, 0.0], loss="mse", epochs=1, engine="compiled")


SOFT = [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]


@pytest.mark.parametrize("targets", [[0, 1, 2], SOFT], ids=["labels", "soft targets"])
@pytest.mark.parametrize("smoothing", [None, 0.0, 0.1])
def test_cross_entropy_takes_soft_targets_and_label_smoothing(targets, smoothing):
    loss = losses.cross_entropy
    if smoothing is not None:
        loss = partial(loss, label_smoothing=smoothing)
    model, X = nn.MLP(2, [3], seed=0), [[0.1, 0.2], [0.3, -0.4], [1.0, 2.0]]
    step = compile_step(model, loss, (X[0], targets[0]))
    value, gradient = step.value_and_grad(X, targets)
    mean = losses.mean([loss(model(x), t) for x, t in zip(X, targets, strict=True)])
    assert value == pytest.approx(mean.data, rel=1e-12)
    assert gradient.tolist() == pytest.approx(grad(mean, step.parameters), rel=1e-9, abs=1e-12)
    refusals = {"from 0 to 2": 3, "leave such examples out": -100, "sum to 1": [0.5, 0.6, 0.7]}
    for says, wrong in refusals.items():
        with pytest.raises(InputError, match=says):
            step(X[:1], [wrong])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_loss_of_ones_own_may_use_the_label(smoothing):
    def loss(logits, label):
        return 2.0 * losses.cross_entropy(logits, label, label_smoothing=smoothing)

    model, X = nn.MLP(2, [3], seed=0), [[0.1, 0.2], [0.3, -0.4], [1.0, 2.0]]
    the_step_agrees(model, loss, X, [2, 0, 1])
    for label in (3, -1, 0.5, -100):
        with pytest.raises(InputError, match=f"from 0 to 2, and Y is {float(label)}"):
            compile_step(model, loss, (X[0], 1))(X[:1], [label])
