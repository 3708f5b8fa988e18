"""tracing.py: what is trained is what was written, or it is refused, with the line."""

from __future__ import annotations

import contextlib
import copy
import math
import random
import re
import threading
import warnings
from collections import namedtuple
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optional import np

from micrograd_like import (
    Op,
    Value,
    affine,
    compile_step,
    exp,
    grad,
    jvp,
    log,
    losses,
    nn,
    no_grad,
    ops,
    optim,
    take,
    tanh,
    training,
    value_and_grad,
)
from micrograd_like.compiler import tracing
from micrograd_like.compiler.tracing import Trace, traced
from micrograd_like.errors import (
    DivergenceError,
    DomainError,
    InputError,
    MicrogradWarning,
    TraceError,
)

pytest.importorskip("numpy")

RNG = random.Random(5)
X = [[RNG.uniform(-1.5, 1.5), float(RNG.choice([0, 0, 0, 1]))] for _ in range(41)]
Y = [float(i % 7 == 3) + 2.0 * (i % 11 == 5) for i in range(41)]


class Linear(nn.Module):
    """Two weights and a bias, in a function of the test's."""

    def __init__(self, f=lambda model, x: model.linear(x)):
        self.w = [Value(0.7, "w[0]"), Value(-0.4, "w[1]")]
        self.b = Value(0.1, "b")
        self.f = f
        self.scale = 1.0

    def linear(self, x):
        return sum(w * xi for w, xi in zip(self.w, x, strict=True)) + self.b

    def __call__(self, x):
        return self.f(self, x)


def trained(f, loss, engine, X=X, Y=Y, **options):
    """The losses and weights after a few epochs, and the warnings."""
    model = Linear(f)
    random.seed(3)
    np.random.seed(3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MicrogradWarning)
        try:
            history = training.fit(
                model, X, Y, loss=loss, epochs=4, batch_size=9, engine=engine,
                optimizer=optim.SGD(model.parameters(), lr=0.02), **options,
            )  # fmt: skip
            found = history.loss
        except DivergenceError as error:  # which both engines should find in the same batch
            found = [error.epoch, error.batch]
    messages = [str(w.message) for w in caught if w.category is MicrogradWarning]
    return [*found, *(p.data for p in model.parameters())], messages


def assert_trained_alike(f, loss, engine="compiled", **options):
    """Returns the warnings of the compiled engine."""
    expected, none = trained(f, loss, "eager", **options)
    found, messages = trained(f, loss, engine, **options)
    assert none == []
    assert len(messages) <= 1
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    return messages


def huber(out, t):
    d = abs(out - t)
    return 0.5 * d * d if d <= 1.0 else d - 0.5


def weighted(out, t):
    return (out - t) ** 2 * (50.0 if t == 1 else 1.0)


def clipped(out, t):
    return (min(max(out, -0.3), 0.8) - t) ** 2 + 0.0 * out


def hinged(out, t):
    margin = 1.0 - out * t
    return margin if margin > 0 else 0.0 * out


def by_truth(out, t):
    return out * out if not t else (out - t) ** 2


def in_a_tuple(out, t):
    return abs(out - t) if t in (0.0, 3.0) else (out - t) ** 2


def not_equal(out, t):
    return abs(out) if t != 0.0 and out >= t else (out - t) ** 2


def stopped(out, t):
    return (out - t) ** 2 * out.detach() + (out.detach() - 2.0 * out) ** 2


def weighed_without_gradient(out, t):
    with no_grad():
        weight = exp(-((out - t) ** 2))
        half = tanh(weight) if weight > 0.5 else weight * 0.5
    return (out - t) ** 2 * weight + half * out


FOLLOWED = [
    huber, weighted, clipped, hinged, by_truth, in_a_tuple, not_equal, stopped,
    weighed_without_gradient,
]  # fmt: skip


@pytest.mark.parametrize("loss", FOLLOWED)
def test_branches_and_constants_of_a_loss_are_followed(loss):
    assert assert_trained_alike(Linear.linear, loss) == []


@pytest.mark.parametrize("loss", FOLLOWED[::3])
def test_they_are_followed_by_jax(loss):
    pytest.importorskip("jax")
    assert assert_trained_alike(Linear.linear, loss, engine="jax") == []


def normed(model, x):
    norm = sum(w.detach() ** 2 for w in model.w).sqrt()
    return model.linear(x) / norm


def rectified(model, x):
    out = model.linear(x)
    return out if out > 0 else 0.1 * out


def of_the_larger_input(model, x):
    return model.linear([max(x), min(x)])


def of_a_clipped_input(model, x):
    return model.linear([xi if -1.0 < xi < 1.0 else (1.0 if xi > 0 else -1.0) for xi in x])


def with_an_error_that_is_caught(model, x):
    try:
        return log(model.linear(x))
    except ValueError:
        return model.linear(x)


@pytest.mark.parametrize(
    "f",
    [
        normed,
        rectified,
        of_the_larger_input,
        of_a_clipped_input,
        with_an_error_that_is_caught,
    ],
)
def test_branches_and_constants_of_a_model_are_followed(f):
    assert assert_trained_alike(f, "mse") == []


def by_number(model, x):
    return model.linear(x) / math.sqrt(sum(w.data**2 for w in model.w))


def by_method(model, x):
    out = model.linear(x)
    return out if float(f"{out:.3f}") > 0 else 0.1 * out


def by_gradient(model, x):
    out = model.linear(x)
    return out * (1.0 + abs(grad(out, model.w[0])))


def by_sweep(model, x):
    out = model.linear(x)
    return out * (1.0 + jvp(out, model.w[0], 1.0) ** 2)


def by_dict(model, x):
    return model.linear(x) * {1.0: 2.0}.get(x[1], 1.0)


def by_index(model, x):
    return model.w[int(x[1])] * x[0] + model.b


def by_key(model, x):
    return model.linear(x) * {0.0: 1.0, 1.0: 2.0}[x[1]]


def by_type(model, x):
    return model.linear(x) * (2.0 if isinstance(x[0], float) else 1.0)


def by_writing(model, x):
    if model.w[1].data > -0.3:
        model.w[1].data = -0.3
    return model.linear(x)


STEPS = Value(0.0)


def by_number_of_its_own(model, x):
    STEPS.data += 1.0
    return model.linear(x) * (1.0 if STEPS.data < 1000.0 else 2.0)


def by_dropout(model, x):
    return model.linear(x) * (0.0 if random.random() < 0.1 else 1.0)


def by_numpys_dropout(model, x):
    return model.linear(x) * (0.0 if np.random.rand() < 0.1 else 1.0)


RELU_OF_ONE = Op("relu_of_one", lambda x: max(0.0, x), lambda x, out: 1.0 if x > 0 else 0.0)
SINE_OF_FLOATS = Op("sine_of_floats", math.sin, lambda x, out: math.cos(x))


def by_partial_that_compares(model, x):
    return RELU_OF_ONE(model.linear(x))


def by_partial_of_floats(model, x):
    return SINE_OF_FLOATS(model.linear(x))


ROUGH_AT_ZERO = Op("rough", abs, lambda x, out: (2.0 if x * 1.0 == 0.0 else 1.0) * ops.sign(out))
TWO_FACED = Op("two_faced", lambda x: x * x, lambda x, out: x * (2 if isinstance(x, float) else 3))


def by_partial_of_equality(model, x):
    return ROUGH_AT_ZERO(model.linear(x))


def by_partial_of_kinds(model, x):
    return TWO_FACED(model.linear(x))


def by_rare_dropout(model, x):
    return model.linear(x) * (random.random() if x[1] == 1.0 else 1.0)


@pytest.mark.parametrize(
    ("f", "said"),
    [
        (by_number, r"math\.sqrt\(sum\(w\.data"),
        (by_method, r"out if float\(f"),
        (by_gradient, r"abs\(grad\(out"),
        (by_sweep, r"jvp\(out"),
        (by_dict, r"get\(x\[1\], 1\.0\)"),
        (by_index, r"as an integer at .*model\.w\[int\(x\[1\]\)\].*take\(rows, i\)"),
        (by_key, "cannot be traced.*KeyError"),
        (by_type, r"isinstance\(x, int\), say, tells them apart"),
        (by_writing, r"model\.w\[1\]\.data"),
        (by_number_of_its_own, "changes the number of a Value"),
        (by_dropout, "random numbers"),
        (by_numpys_dropout, "random numbers"),
        (by_rare_dropout, "random numbers"),
        (by_partial_that_compares, "a partial of relu_of_one compares"),
        (by_partial_of_floats, "a partial of sine_of_floats is a function of floats"),
        (by_partial_of_equality, "a partial of rough compares"),
        (by_partial_of_kinds, "an operation of yours .* two_faced"),
    ],
)
def test_what_cannot_be_followed_is_learned_eagerly_with_a_warning(f, said):
    (message,) = assert_trained_alike(f, "mse")
    assert "eager engine goes on" in message
    assert re.search(said, message)


def test_a_refusal_names_every_line():
    def model(x):
        a = w.data * x[0]
        return a * w + w.detach().data

    w = Value(2.0, "w")
    with pytest.raises(TraceError, match=r"test_tracing\.py:\d+ \(a = w\.data \* x\[0\]\), .*_tr"):
        compile_step(model, losses.mse, ([1.0], 1.0), [w])


def test_a_refusal_names_the_line_of_the_users_through_other_packages():
    def loss(out, t):
        return out * sum(copy.deepcopy([t * out]))

    with pytest.raises(TraceError, match=r"used at [^;]*test_tracing[^;]*deepcopy\(\[t \* out\]\)"):
        compile_step(Linear(), loss, (X[0], Y[0]))


def test_a_number_of_an_example_is_its_own_copy():
    def loss(out, t):
        return (out - sum(copy.deepcopy([t]))) ** 2

    assert assert_trained_alike(Linear.linear, loss) == []


def test_arrays_of_values_are_followed():
    model = Linear(lambda model, x: (np.array(x) * model.b + np.array(model.w)).sum())
    loss = lambda out, t: np.maximum(np.array([out, t]) * out, 0.25).sum() + out  # noqa: E731
    step = compile_step(model, loss, (X[0], 1.0))
    batch = [([2.0, 3.0], 0.5), ([-4.0, 1.0], 3.0), ([1.0, 1.0], -0.5)]
    expected = losses.mean([loss(model(x), t) for x, t in batch])
    assert step(*zip(*batch, strict=True)) == pytest.approx(expected.data, rel=1e-12)


def test_constants_of_the_models_own_may_be_read():
    scale, w = Value(2.0), Value(3.0)
    step = compile_step(
        lambda x: w * x[0] * scale.data if scale > 1.0 else w, losses.mse, ([1.0], 1.0), [w]
    )
    assert step([[1.0]], [1.0]) == 25.0
    assert step.function is not None


def test_a_node_made_before_the_trace_is_refused():
    w = Value(3.0)
    twice = w * 2.0
    with pytest.raises(TraceError, match="before the example was traced"):
        compile_step(lambda x: twice * x[0], losses.mse, ([1.0], 1.0), [w])


@pytest.mark.parametrize("loss", FOLLOWED)
def test_a_step_alone_is_the_eager_engine_whatever_the_batch(loss):
    model = Linear(rectified)
    step = compile_step(model, loss, (X[0], Y[0]))
    for rows in (slice(0, 1), slice(1, 41), slice(3, 20, 4)):
        mean = losses.mean([loss(model(x), t) for x, t in zip(X[rows], Y[rows], strict=True)])
        with no_grad():  # whatever is around it
            value, gradient = step.value_and_grad(X[rows], Y[rows])
            assert step.evaluate(X[rows], Y[rows]) == pytest.approx(value, rel=1e-12)
        assert value == pytest.approx(mean.data, rel=1e-12)
        assert gradient.tolist() == pytest.approx(grad(mean, step.parameters), rel=1e-12, abs=1e-14)
        assert step.outputs.ravel().tolist() == pytest.approx([model(x).data for x in X[rows]])


def test_a_step_with_branches_has_no_single_function():
    step = compile_step(Linear(), huber, (X[0], Y[0]))
    with pytest.raises(InputError, match="a program for each way"):
        _ = step.function
    assert "def program" in step.source


def test_beyond_eight_ways_examples_go_to_the_eager_engine_with_one_warning():
    def stairs(out, t):
        return next((out - k) ** 2 * k for k in range(2, 99) if t < k)

    targets = [float(i % 12) for i in range(41)]
    (message,) = assert_trained_alike(Linear.linear, stairs, Y=targets)
    assert "more than 8 ways" in message


def test_a_comparison_with_nan_is_as_it_is_eagerly():
    w = Value(1.0)

    def model(x):
        z = w * x[0] * 1e308 * 10.0
        return w if z - z < 1.0 else 2.0 * w

    step = compile_step(model, losses.mse, ([0.0], 0.0), [w])
    assert step([[0.0], [1.0], [0.0]], [0.0] * 3) == pytest.approx(2.0)
    assert step.outputs.tolist() == [[1.0], [2.0], [1.0]]


def test_outputs_as_many_as_the_branch_likes_are_refused():
    w = Value(1.0)
    step = compile_step(
        lambda x: [w] if x[0] > 0 else [w, w], lambda o, t: o[0] * t, ([1.0], 0.0), [w]
    )
    with pytest.raises(TraceError, match="as many outputs"):
        step([[1.0], [-1.0]], [0.0, 0.0])


def test_parameters_compare_with_numbers_by_identity_as_they_do_eagerly():
    w = Value(1.0)
    step = compile_step(
        lambda x: w * x[0] if w == 1.0 else -w * x[0], losses.mse, ([1.0], 0.0), [w]
    )
    step([[1.0]], [0.0])
    assert step.outputs.tolist() == [[-1.0]]


def test_a_gradient_within_the_loss_is_followed_as_a_graph():
    def penalised(model, x):
        out = model.linear(x).tanh()
        return out + grad(out, model.w[0], create_graph=True) ** 2

    assert assert_trained_alike(penalised, "mse") == []


def test_a_gradient_through_a_choice_within_the_loss_is_followed_as_a_graph():
    def penalised(model, x):
        out = model.linear(x)
        out = ops.where(ops.greater(out, 0.0), out.tanh(), out**2)
        return out + grad(out, model.w[0], create_graph=True) ** 2

    assert assert_trained_alike(penalised, "mse") == []


def annealed(model, history):
    model.scale *= 0.9


def unfrozen(model, history):
    model.scale = 0.0 if len(history) < 2 else 1.0


@pytest.mark.parametrize("callback", [annealed, unfrozen])
@pytest.mark.parametrize("f", [
    lambda model, x: model.linear(x) * model.scale,
    lambda model, x: model.linear(x) if model.linear(x) > model.scale else model.b + 1.0,
])  # fmt: skip
def test_what_a_callback_changes_is_noticed(f, callback):
    (message,) = assert_trained_alike(f, "mse", callbacks=[callback])
    assert "attribute" in message


def test_what_the_makers_of_batches_change_is_noticed_before_the_batch():
    losses_of = {}
    for engine in ("eager", "compiled"):
        model = Linear(lambda model, x: model.linear(x) * model.scale)

        def batches(model=model):
            for i in range(0, 40, 10):
                model.scale = 1.0 + 0.1 * (i == 30)
                yield X[i : i + 10], Y[i : i + 10]

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history = training.fit(model, batches, loss="mse", epochs=3, engine=engine)
        losses_of[engine] = history.loss
    assert len(caught) == 1
    assert losses_of["compiled"] == pytest.approx(losses_of["eager"], rel=1e-9)


def test_a_parameter_that_joins_the_optimizer_is_noticed():
    def join(model, history):
        descent.params.append(model.b)

    for engine, expected in (("eager", 0), ("compiled", 1)):
        model = Linear()
        descent = optim.SGD(model.w, lr=0.1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with contextlib.suppress(ValueError):  # the optimizer may not be made for it
                training.fit(model, X, Y, loss="mse", optimizer=descent, epochs=2, engine=engine,
                             callbacks=[join])  # fmt: skip
        assert len(caught) == expected


def test_check_says_what_a_step_alone_cannot_notice():
    model = Linear(lambda model, x: model.linear(x) * model.scale)
    step = compile_step(model, huber, (X[0], Y[0]))
    step(X, Y)
    model.w[0].data, model.b.data = -3.0, 4.0
    step.check()
    model.scale = 0.5
    with pytest.raises(TraceError, match="attribute"):
        step.check()


@pytest.mark.parametrize("constants", [(-1.0, -2.0), (1.0, 2.0**61), (math.inf, 314159.0)])
def test_constants_with_one_hash_are_told_apart(constants):
    assert len({*map(hash, constants)}) == 1
    model = Linear(lambda model, x: tanh(model.linear(x) + model.scale))
    model.scale, now = constants
    step = compile_step(model, losses.mse, (X[0], Y[0]))
    step.check()
    model.scale = now
    with pytest.raises(TraceError, match="attribute"):
        step.check()

    def loss(xs):
        return sum(exp(model.b * x * c * 1e-20) for c in constants for x in xs)

    step = compile_step(loss, [model.b], [1.0, 2.0])
    assert step([[3.0, -1.0], [2.0]]) == losses.mean([loss([3.0, -1.0]), loss([2.0])]).data


def test_a_change_on_a_way_that_the_example_has_left_is_noticed():
    def loss(out, t):
        d = abs(out - t)
        return model.scale * (log(d) + d if d > 1.0 else d * d)

    model = Linear()
    step = compile_step(model, loss, ([0.0, 0.0], 3.0))
    step([[0.0, 0.0], [1.0, 0.0]], [3.0, 4.0])
    assert step.report().programs == 1
    model.b.data = 2.9  # the example is on another way, which none was on
    step.check()
    model.scale = 0.5
    with pytest.raises(TraceError, match="attribute"):
        step.check()
    model.scale = 1.0
    model.b.data = 3.0  # where the logarithm of the first way is refused
    step.check()


def reading(model, h):
    return h * abs(h.data)


def drawing(model, h):
    return h + random.gauss(0.0, 1.0)


def counting(model, h):
    model.calls += 1
    return h * model.calls


@pytest.mark.parametrize("later", [reading, drawing, counting])
def test_what_is_refused_later_on_a_way_that_the_first_example_does_not_take_is_noticed(later):
    def f(model, x):
        h = model.linear(x)
        if x[0] > 0.0:
            return h.tanh()
        return later(model, h) if model.is_late else h

    model = Linear(f)
    model.is_late, model.calls = False, 1
    step = compile_step(model, losses.mse, ([1.0, 0.0], 3.0))
    step([[1.0, 0.0], [-1.0, 0.0]], [3.0, 4.0])
    step.check()
    model.is_late = True
    with pytest.raises(TraceError):
        step.check()
    assert model.calls == 1


BETA = 1.0
SCALED = Op("scaled", lambda x: BETA * x, lambda x, out: BETA * 1.0)


def test_a_number_that_an_operation_of_the_users_looks_at_is_noticed():
    def callback(model, history):
        global BETA
        BETA *= 0.5

    def f(model, x):
        return SCALED(model.linear(x))

    global BETA
    found = []
    for engine in ("eager", "compiled"):
        BETA = 1.0
        found.append(trained(f, "mse", engine, callbacks=[callback]))
    (expected, _), (weights, (message,)) = found
    assert weights == pytest.approx(expected, rel=1e-9)
    assert "from here" in message


BOUNDS = {"low": 0.45}
SHRUNK = Op(
    "shrunk",
    lambda x: x if abs(x) > BOUNDS["low"] else 0.0,
    lambda x, out: ops.where(ops.greater(abs(x), BOUNDS["low"]), 1.0, 0.0),
)


def test_a_threshold_that_an_operation_of_the_users_looks_at_is_noticed():
    """None of the points at which operations are told apart lies in between."""

    def callback(model, history):
        BOUNDS["low"] += 0.1

    found = []
    for engine in ("eager", "compiled"):
        BOUNDS["low"] = 0.45
        found.append(trained(lambda m, x: SHRUNK(m.linear(x)), "mse", engine, callbacks=[callback]))
    (expected, _), (weights, (message,)) = found
    assert weights == pytest.approx(expected, rel=1e-9)
    assert "from here" in message


class Teaching(optim.SGD):
    """It also changes the number of a Value that no gradient trains."""

    teacher = Value(0.0)

    def step(self):
        super().step()
        self.teacher.data = 0.9 * self.teacher.data + 0.1 * self.params[0].data


def test_what_a_step_of_the_users_changes_is_noticed_before_the_next_batch():
    weights = []
    for engine in ("eager", "compiled"):
        model = Linear()
        optimizer = Teaching(model.parameters(), lr=0.02)
        optimizer.teacher = teacher = Value(0.5)
        loss = lambda out, t: (out - t) ** 2 + (out - teacher.detach()) ** 2  # noqa: B023, E731
        with warnings.catch_warnings(record=True) as caught:
            training.fit(model, X, Y, loss=loss, optimizer=optimizer, epochs=1, engine=engine)
        assert ["from here" in str(w.message) for w in caught] == [True] * len(weights)
        weights.append([p.data for p in model.parameters()])
    assert weights[1] == pytest.approx(weights[0], rel=1e-12)


def logarithm_or(out, t):
    try:
        return (log(out) - t) ** 2
    except DomainError:
        return (out - t) ** 2


def root_or(out, t):
    try:
        return (out + 0.1 * t / (out - 0.0 * t)).sqrt()
    except ValueError:
        return out * out * t


def test_an_error_that_is_caught_for_some_examples_is_computed_as_it_is_eagerly():
    for loss in (logarithm_or, root_or):
        model = Linear()
        x = next(x for x in X if model(x).data > 0.0)
        step = compile_step(model, loss, (x, 1.0))
        mean = losses.mean([loss(model(x), t) for x, t in zip(X, Y, strict=True)])
        value, gradient = step.value_and_grad(X, Y)
        assert value == pytest.approx(mean.data, rel=1e-12)
        assert gradient.tolist() == pytest.approx(grad(mean, step.parameters), rel=1e-12)
        assert step.evaluate(X, Y) == pytest.approx(mean.data, rel=1e-12)
    x = next(x for x in X if model(x).data < 0.0)
    with pytest.raises(TraceError, match="catches a DomainError"):
        compile_step(model, logarithm_or, (x, 1.0))


def test_an_error_of_a_users_operation_is_computed_as_it_is_eagerly(made_up):
    mylog = made_up("mylog", math.log, lambda x, out: 1.0 / x)

    def loss(x):
        try:
            return w * mylog(x)
        except DomainError:
            return w * 7.0

    w = Value(2.0, "w")
    assert compile_step(loss, [w], 1.0)([1.0, -1.0]) == pytest.approx((0.0 + 14.0) / 2.0)


@pytest.mark.parametrize("engine", ["compiled", "numba", "jax"])
def test_several_numbers_of_an_example_of_a_model_may_choose(engine):
    pytest.importorskip({"compiled": "numpy"}.get(engine, engine))

    class Embedding(nn.Module):
        def __init__(self):
            self.rows = [[Value(0.1 * i - 0.2 * j) for j in range(2)] for i in range(3)]

        def __call__(self, x):
            return take(self.rows, x[0])

    def loss(out, target):
        return 0.5 * losses.cross_entropy(out, target)

    trained = []
    for how in ("eager", engine):
        model = Embedding()
        X, y = [[0], [1], [2]] * 3, [0, 1, 1] * 3
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            training.fit(model, X, y, loss=loss, epochs=3, batch_size=2, engine=how)
        trained.append([p.data for p in model.parameters()])
    assert trained[1] == pytest.approx(trained[0], rel=1e-9)


def test_errors_of_other_threads_are_not_those_of_the_trace():
    def fail():
        while not done.is_set():
            with contextlib.suppress(DomainError):
                log(-1.0)

    done, w = threading.Event(), Value(2.0, "w")
    thread = threading.Thread(target=fail)
    thread.start()
    try:
        step = compile_step(lambda x: sum((w * x).tanh() for _ in range(3000)), [w], 1.0)
    finally:
        done.set()
        thread.join()
    assert step([1.0]) == pytest.approx(3000.0 * math.tanh(2.0))


def test_a_model_in_an_installed_package_is_followed_as_any_other(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages" / "somebodys_model"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("def loss(w, x):\n    return w * x * abs(w.data)\n")
    monkeypatch.syspath_prepend(folder.parent)
    import somebodys_model

    w = Value(2.0, "w")
    with pytest.raises(TraceError, match=r"somebodys_model.*:2 .*abs\(w\.data\)"):
        compile_step(lambda x: somebodys_model.loss(w, x), [w], 1.0)


@pytest.mark.parametrize("batch", [[[1], [1.0]], [[1.0], [1]]])
def test_another_kind_of_number_anywhere_in_a_batch_is_noticed(batch):
    w = Value(2.0, "w")
    model = lambda x: w * x[0] * (3.0 if isinstance(x[0], int) else 1.0)  # noqa: E731
    step = compile_step(model, lambda out, y: (out - y) ** 2, ([1.0], 0.0), [w])
    step([[1.0], [1.0]], [0.0, 0.0])
    with pytest.raises(TraceError):
        step(batch, [0.0, 0.0])


# --- losses at random -----------------------------------------------------------------------------

OUT = [
    lambda o, t: o - t, lambda o, t: o, lambda o, t: t, lambda o, t: o * o, lambda o, t: abs(o - t),
    lambda o, t: 2.0 * t, lambda o, t: o.detach() - t, lambda o, t: tanh(o),
]  # fmt: skip
CONDITIONS = [
    lambda a, b, c: a < c, lambda a, b, c: a >= b, lambda a, b, c: a > c and b < 1.0,
    lambda a, b, c: not (a <= -c), lambda a, b, c: max(a, b) > c, lambda a, b, c: a == 0.0,
    lambda a, b, c: b != 3.0,
]  # fmt: skip
RESULTS = [
    lambda a, b: a * a + 0.1 * b, lambda a, b: a * b, lambda a, b: (a - b) ** 2,
    lambda a, b: a.detach() * b if isinstance(a, Value) else a * b, lambda a, b: max(a, b) * a,
    lambda a, b: tanh(a) - 0.3 * b,
]  # fmt: skip
LEAKS = [
    lambda a: a, lambda a: a, lambda a: a, lambda a: a * getattr(a, "data", 1.0),
    lambda a: a * random.random(), lambda a: a * {0.0: 2.0}.get(a, 1.0),
]  # fmt: skip


def random_loss(seed):
    """Branches, detached parts, blocks without gradient, and now and then a leak."""

    def loss(out, t):
        rng = random.Random(seed)

        def expression(depth):
            a, b = (f(out, t) for f in rng.choices(OUT, k=2))
            condition, silent = rng.choice(CONDITIONS), rng.random() < 0.2
            first, second = rng.choices(RESULTS, k=2)
            leak, cut = rng.choice(LEAKS) if rng.random() < 0.2 else LEAKS[0], rng.uniform(-1, 1)
            below = expression(depth - 1) if depth else out
            with no_grad() if silent else contextlib.nullcontext():
                made = first(a, b) if condition(a, b, cut) else second(b, below)
            return leak(made) + 0.5 * below

        return expression(2) + 0.0 * out

    return loss


@settings(max_examples=20)
@given(seed=st.integers(0, 10**9))
def test_any_loss_is_trained_as_it_was_written(seed):
    assert_trained_alike(Linear.linear, random_loss(seed))


@settings(max_examples=40)
@given(seed=st.integers(0, 10**9))
def test_any_step_is_the_eager_engine_or_refused(seed):
    model, loss = Linear(), random_loss(seed)
    try:
        step = compile_step(model, loss, (X[0], Y[0]))
        value, gradient = step.value_and_grad(X, Y)
    except TraceError:
        return
    mean = losses.mean([loss(model(x), t) for x, t in zip(X, Y, strict=True)])
    assert value == pytest.approx(mean.data, rel=1e-12)
    assert gradient.tolist() == pytest.approx(grad(mean, step.parameters), rel=1e-9, abs=1e-12)


@settings(max_examples=1)
@given(seed=st.integers(0, 10**9))
def test_any_loss_is_trained_so_by_jax(seed):
    pytest.importorskip("jax")
    assert_trained_alike(Linear.linear, random_loss(seed), engine="jax", X=X[:17], Y=Y[:17])


def test_the_engine_in_c_tells_a_trace_what_made_does(monkeypatch):
    """It leaves a dict of another kind alone, and `made` fills it."""
    w = [Value(0.5), Value(-2.0)]
    constant = exp(Value(0.25))

    def run(trace):
        x, t = trace.leaf(3.0, "x"), trace.leaf(1.0, "t")
        z = w[0] * x + take([w[1], w[0] * w[1]], t) * constant
        for c in (0.0, -0.0, 1e-300, math.inf, -1.5):
            z = z * 1.0 + c * w[0].detach() if z > -9.0 else z - c
        with no_grad():
            kept = tanh(z * z)
        y = affine(w, [x, kept], z) + affine(w, [1.0, 2.0]) - (-z) ** 2 + constant / 2.0
        return y, [z, kept * x + 1.0 / x, x * 2.0 + t]

    class Slow(Trace):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.keys = type("Keys", (dict,), {})(self.keys)

    fast = traced(run, w, None, [])
    monkeypatch.setattr(tracing, "Trace", Slow)
    slow = traced(run, w, None, [])
    assert len(fast.guards) == 5
    for name in ("path", "keys_of_shown", "constant", "names", "choices"):
        assert getattr(fast, name) == getattr(slow, name), name
    assert [(key, c) for key, (_, c) in fast.terms.items()] == [
        (key, c) for key, (_, c) in slow.terms.items()
    ]


# --- what is neither given nor a parameter --------------------------------------------------------


def of_no_grad(x):
    with no_grad():
        return tanh(TEACHER * 2.0) + tanh(TEACHER * x)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: TEACHER,
        lambda x: TEACHER * x,
        lambda x: affine([TEACHER, TEACHER], [x, TEACHER], 1.0),
        lambda x: (TEACHER * 2.0).detach(),
        lambda x: TEACHER.detach(),
        lambda x: 1.0 if x > TEACHER else 2.0,
        lambda x: x if TEACHER > 0.5 else 2.0 * x,
        lambda x: grad(TEACHER**2 * x, TEACHER, create_graph=True),
        of_no_grad,
    ],
)
def test_another_number_of_a_value_that_is_no_parameter_is_noticed_at_once(f):
    w = Value(0.5, "w")
    loss = lambda x: (w * x - f(x)) ** 2  # noqa: E731
    batch = [1.0, 2.0]
    TEACHER.data = 0.25
    step, both = compile_step(loss, [w], 2.0), compile_step(loss, [w, TEACHER], 2.0)
    step(batch)
    TEACHER.data = 1.5
    with pytest.raises(TraceError, match="no parameter of the step"):
        step(batch)
    expected = losses.mean([loss(x) for x in batch])
    assert both(batch) == pytest.approx(expected.data, rel=1e-12)
    assert w.grad == pytest.approx(grad(expected, w), rel=1e-12)


TEACHER = Value(0.25, "teacher")


def test_another_number_of_a_value_that_was_read_is_noticed_at_once():
    w, beta = Value(0.5, "w"), Value(0.25, "beta")
    step = compile_step(lambda x: (w * x - beta.data * 2.0) ** 2, [w], 2.0)
    step([1.0, 2.0])
    beta.data = 0.5
    with pytest.raises(TraceError, match="no parameter of the step"):
        step([1.0, 2.0])


@pytest.mark.parametrize(
    "f",
    [
        lambda beta, x: beta * x,
        lambda beta, x: beta * 2.0,
        lambda beta, x: beta.detach(),
        lambda beta, x: 1.0 if x > beta else 2.0,
        lambda beta, x: x if beta > 0.5 else 2.0 * x,
        lambda beta, x: beta.data,
    ],
)
def test_another_number_of_a_value_that_was_computed_before_is_noticed_at_once(f):
    w, beta = Value(0.5, "w"), Value(0.5) * 0.5
    step = compile_step(lambda x: (w * x - f(beta, x)) ** 2, [w], 2.0)
    step([1.0, 2.0])
    beta.data = 1.5
    with pytest.raises(TraceError, match="no parameter of the step"):
        step([1.0, 2.0])


@pytest.mark.parametrize("first", [[1.0, 2.0], [1.0, -2.0]])
def test_a_loss_may_be_0_on_some_ways_and_no_other_number(first):
    w = Value(0.5, "w")
    loss = lambda x, t: max(0.0, 1.0 - t * w * x)  # noqa: E731
    batch = [(1.0, 2.0), (1.0, -2.0), (0.5, 1.0), (3.0, 1.0)]
    mean, gradient = compile_step(loss, [w], tuple(first)).value_and_grad(batch)
    expected = losses.mean([loss(*example) for example in batch])
    assert mean == pytest.approx(expected.data)
    assert gradient == pytest.approx(grad(expected, [w]))
    counting = compile_step(lambda x: 1.0 if w * x > 0 else 0.0, [w], -1.0)
    for refused in (lambda: counting([2.0]), lambda: compile_step(lambda x: 0.0, [w], 1.0)):
        with pytest.raises(TraceError, match="to return a Value, not"):
            refused()


def test_two_trainings_at_a_time_see_what_the_other_learned():
    a, b = Value(0.5, "a"), Value(-0.5, "b")
    first = compile_step(lambda x: (a * x - b) ** 2, [a], 1.0)
    second = compile_step(lambda x: (a * x - b) ** 2, [b], 1.0)
    other = compile_step(lambda x: abs(a * x), [a], 1.0)
    with first.training(optim.SGD([a], lr=0.1)) as learn_a:
        learn_a([1.0])
        assert other.evaluate([1.0]) == pytest.approx(0.3)  # of the 0.5 that it was, less 0.2
        with second.training(optim.SGD([b], lr=0.1)) as learn_b:
            with pytest.raises(TraceError, match="no parameter of the step"):
                learn_b([1.0])
            with pytest.raises(TraceError, match="no parameter of the step"):
                second.evaluate([1.0])
    assert (a.data, b.data) == (pytest.approx(0.3), -0.5)


def test_a_derivative_that_is_a_constant_of_plain_numbers_is_none_of_values():
    w = Value(0.5, "w")
    cubed = value_and_grad(lambda a: w * a**3)
    with pytest.raises(TraceError, match=r"a derivative of .* of plain ones"):
        compile_step(lambda x: w * cubed(x)[1], [w], 2.0)


def test_a_derivative_by_a_value_of_a_number_is_followed_and_the_refusal_says_which():
    w = Value(0.5, "w")
    cubed = value_and_grad(lambda a, kind: w * a**3 if kind == 1 else w * a)
    with pytest.raises(TraceError, match=r"x \* Value\(1\.0\) is a Value of either"):
        compile_step(lambda x, kind: cubed(Value(x), kind)[1][0] ** 2, [w], (2.0, 1))
    batch = [(2.0, 1), (3.0, 0), (1.5, 1)]
    loss = lambda x, kind: cubed(x * Value(1.0), kind)[1][0] ** 2  # noqa: E731
    value, gradient = compile_step(loss, [w], batch[0]).value_and_grad(batch)
    expected = losses.mean([loss(*example) for example in batch])
    assert value == pytest.approx(expected.data, rel=1e-12)
    assert gradient.tolist() == pytest.approx(grad(expected, [w]), rel=1e-12)


@pytest.mark.parametrize("write", ["{}".format, "{:.2f}".format, str, repr, "%s".__mod__])
def test_a_number_that_is_written_is_used(write):
    w = Value(0.5, "w")
    for loss in (lambda x: w * x * len(write(x)), lambda x: w * x * len(write(w))):
        with pytest.raises(TraceError, match="the number of a Value is used"):
            compile_step(loss, [w], 2.0)


Cell = namedtuple("Cell", "row column")
CELLS = [(0, 0), (2, 3), (1, 1), (2, 3)]


@pytest.mark.parametrize("kind", [tuple, list, Cell._make])
@pytest.mark.parametrize(
    "is_goal",
    [lambda at: at == (2, 3) or at == [2, 3], lambda at: at in [(2, 3), [1, 1]],
     lambda at: tuple(at) < (1, 2), lambda at: isinstance(at, tuple)],
)  # fmt: skip
def test_what_numbers_of_an_example_are_in_compares_as_it_does_eagerly(kind, is_goal):
    u, v = Value(0.3), Value(0.4)
    loss = lambda at, y: (u * at[0] + v * at[1] - y) ** 2 * (5.0 if is_goal(at) else 1.0)  # noqa: E731
    batch = [(kind(at), float(i)) for i, at in enumerate(CELLS)]
    expected = losses.mean([loss(*example) for example in batch])
    step = compile_step(loss, [u, v], batch[0])
    assert step.evaluate(batch) == pytest.approx(expected.data, rel=1e-12)


def test_the_numbers_of_an_example_on_another_way_are_plain_ones_there_too():
    u = Value(0.3)

    def loss(x, kind):
        return (u * x) ** 2 if kind == 0 else u * value_and_grad(lambda t: t * t * u)(x)[1]

    step = compile_step(loss, [u], (1.0, 0))
    with pytest.raises(TraceError, match="plain ones"):
        step.evaluate([(1.0, 0), (2.0, 1)])


@pytest.mark.parametrize(
    "is_rare",
    [lambda t: t in np.array([2.0, 3.0]), lambda t: (np.arange(4) == t)[2:].any(),
     lambda t: np.any(t == np.array([[3], [2]])), lambda t: (t != np.array([0.0, 1.0])).all()],
)  # fmt: skip
def test_a_number_of_an_example_is_compared_with_each_of_an_array(is_rare):
    u = Value(0.3)
    loss = lambda t: (u * t - 1.0) ** 2 * (5.0 if is_rare(t) else 1.0)  # noqa: E731
    batch = [0.0, 2.0, 3.0, 1.0]
    step = compile_step(loss, [u], 0.0)
    expected = losses.mean(list(map(loss, batch)))
    assert step.evaluate(batch) == pytest.approx(expected.data, rel=1e-12)


@pytest.mark.parametrize(
    "keep",
    [lambda x, last: x, lambda x, last: [x[0] * 1.0],
     lambda x, last: [(0.5 * (last or x)[0] + 0.5 * x[0] * Value(1.0)).detach()],
     no_grad()(lambda x, last: [x[0] * Value(1.0)])],
)  # fmt: skip
def test_a_model_that_keeps_the_numbers_of_an_example_is_refused(keep):
    """Also where it had seen the traced example just before, and so computes the same twice."""
    u, last = Value(0.3), [None]

    def model(x):
        change = x[0] - last[0][0] if last[0] else 0.0
        last[0] = keep(x, last[0])
        return u * x[0] + change

    model([1.0])
    with pytest.raises(TraceError, match="keeps numbers of an example"):
        compile_step(model, losses.mse, ([1.0], 2.0), [u])


def test_rows_of_a_model_that_are_tuples_compare_as_such():
    u = Value(0.3)
    model = lambda x: (u * x[0] + x[1]) * (5.0 if x == (2.0, 3.0) else 1.0)  # noqa: E731
    rows, targets = [(0.0, 1.0), (2.0, 3.0), (1.0, 1.0)], [1.0, 2.0, 3.0]
    step = compile_step(model, losses.mse, (rows[0], 1.0), [u])
    expected = losses.mse(list(map(model, rows)), targets)
    assert step.evaluate(rows, targets) == pytest.approx(expected.data, rel=1e-12)


def latched(model, x):
    if x[0] > 0.9:
        model.seen = 1.0
    return model.linear(x) * (1.0 if model.seen is None else 0.5)


def latched_by_a_new_attribute(model, x):
    if x[0] > 0.9:
        model.cache = getattr(model, "cache", {}) | {"seen": True}
    return model.linear(x) * (0.5 if hasattr(model, "cache") else 1.0)


def normed_by_the_largest(model, x):
    model.most = getattr(model, "most", 0.9)
    if abs(x[0]) > model.most:
        model.most = abs(x[0])
    return model.linear(x) / model.most


@pytest.mark.parametrize("f", [latched, latched_by_a_new_attribute, normed_by_the_largest])
def test_what_an_example_on_a_rare_way_leaves_for_others_is_noticed_at_once(f):
    def of(model, x):
        model.seen = getattr(model, "seen", None)
        return f(model, x)

    X = [[0.1 * (i % 9), 0.5] for i in range(40)]
    X[25] = [1.5, 0.5]
    (message,) = assert_trained_alike(of, "mse", X=X, Y=[0.3 * x for x, _ in X])
    assert "from here" in message
    w = Value(0.5)
    model = SimpleNamespace(linear=lambda x: w * x[0])
    step = compile_step(lambda x, y: (of(model, x) - y) ** 2, [w], ([0.1], 0.5))
    left = dict(vars(model))
    with pytest.raises(TraceError, match="do not compute what they did"):
        step([([0.1], 0.5), ([2.0], 0.5), ([0.3], 0.5)])
    assert vars(model) == left


def test_what_an_example_of_another_length_leaves_for_others_is_noticed_at_once():
    w, seen = Value(0.5), {}

    def loss(*xs):
        if len(xs) > 2:
            seen["long"] = True
        return sum(((w * x - 1.0) ** 2 for x in xs), Value(0.0)) * (0.5 if seen else 1.0)

    step = compile_step(loss, [w], (0.1, 0.2))
    with pytest.raises(TraceError, match="do not compute what they did"):
        step([(0.1, 0.5), (2.0, 0.5, 0.1), (0.3, 0.5)])
    assert seen == {}
