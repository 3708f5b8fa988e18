"""engines.py: losses by name, and two ways to compute a batch with the same answers."""

import contextlib
import itertools
import math
import random
import warnings
import weakref
from functools import partial
from types import SimpleNamespace

import pytest

from micrograd_like import (
    MicrogradError,
    Value,
    compile_step,
    grad,
    losses,
    nn,
    optim,
    training,
    value_and_grad,
)
from micrograd_like.datasets import moons
from micrograd_like.errors import InputError, MicrogradWarning, OperandError
from micrograd_like.training import engines
from micrograd_like.training.engines import find_loss

DATA = moons(12)


def made(name, loss="cross_entropy", model=None):
    if name == "compiled":
        pytest.importorskip("numpy")
    model = model or nn.MLP(2, [3, 2 if loss == "cross_entropy" else 1], seed=0)
    descent = optim.SGD(model.parameters())
    sample = DATA.X[:4], DATA.y[:4]
    eager = engines.Eager(model, training.LOSSES[loss], descent)
    return model, engines.make(name, eager, sample, None)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_both_give_the_mean_loss_its_gradient_and_the_number_of_right_labels(loss):
    answers = []
    for name in ("eager", "compiled"):
        model, engine = made(name, loss)
        mean = engine(DATA.X, DATA.y)
        right = training.LOSSES[loss].right(engine.outputs, DATA.y)
        assert engine.evaluate(DATA.X, DATA.y) == pytest.approx(mean, rel=1e-14)
        assert training.LOSSES[loss].right(engine.outputs, DATA.y) == right
        answers.append([mean, right, *(p.grad for p in model.parameters())])
    assert type(engine) is not engines.Eager
    assert answers[0] == pytest.approx(answers[1], rel=1e-12, abs=1e-15)
    assert any(answers[0][2:])
    assert 0 <= answers[0][1] <= (12 if loss == "cross_entropy" else 0)


@pytest.mark.parametrize("name", ["eager", "compiled"])
def test_a_batch_does_away_with_the_gradients_before_it_and_evaluation_leaves_them(name):
    model, engine = made(name)
    engine(DATA.X, DATA.y)
    before = [p.grad for p in model.parameters()]
    engine.evaluate(DATA.X[:5], DATA.y[:5])
    assert [p.grad for p in model.parameters()] == before
    engine(DATA.X, DATA.y)
    assert [p.grad for p in model.parameters()] == before


def test_an_evaluation_holds_the_graph_of_one_example_at_a_time():
    class Input(Value):
        pass

    seen, alive = [], []
    w = Value(2.0)

    def model(row):
        x = Input(row[0])
        seen.append(weakref.ref(x))
        alive.append(sum(x() is not None for x in seen))
        return w * x

    eager = engines.Eager(model, training.LOSSES["mse"], optim.SGD([w]))
    assert eager.evaluate([[1.0]] * 9, [1.0] * 9) == eager.mean([[1.0]] * 9, [1.0] * 9).data == 1.0
    assert (max(alive[:9]), max(alive)) == (2, 9)


def test_a_loss_that_is_not_finite_is_not_differentiated():
    model, engine = made("eager", "mse")
    model.layers[-1].neurons[0].b.data = 1e200
    assert engine(DATA.X, DATA.y) == math.inf
    assert not any(p.grad for p in model.parameters())


class Branching(nn.Module):
    """Traced from its first example, a program of it would be wrong for others."""

    def __init__(self):
        self.w = Value(2.0)

    def __call__(self, x):
        left = getattr(x[0], "data", x[0]) < 0.5
        return self.w * x[0] if left else self.w * x[1]


class Untraceable(Branching):
    def __call__(self, x):
        return self.w * math.exp(x[0])


@pytest.mark.parametrize("kind", [Branching, Untraceable])
def test_what_cannot_be_compiled_goes_on_eagerly_with_a_warning(kind):
    with pytest.warns(MicrogradWarning, match="not compiled, the eager engine goes on"):
        _, engine = made("compiled", "mse", kind())
    assert type(engine) is engines.Eager


@pytest.mark.parametrize("name", training.LOSSES)
def test_a_loss_is_the_same_by_its_name_and_by_its_function(name):
    assert find_loss(name) is find_loss(getattr(losses, name)) is training.LOSSES[name]


def test_a_function_is_a_loss_without_labels():
    rule = find_loss(abs)
    assert rule == (abs, None)
    assert rule.right([[1.0]], [1.0]) == 0
    rule.usable(None)([[0.0]], ["anything"], [0])  # it may take any target


def test_a_model_may_have_plain_numbers_among_its_outputs():
    """One class is the reference, whose score is 0."""

    class Referred(nn.Module):
        def __init__(self):
            self.score = nn.Neuron(2, nonlin=False)

        def __call__(self, x):
            return [self.score(x), 0.0]

    history = training.fit(
        Referred(), DATA.X, DATA.y, loss="cross_entropy", epochs=2, engine="eager"
    )
    assert len(history.loss) == 2


def test_a_model_may_return_its_outputs_in_parts():
    pytest.importorskip("numpy")

    class Split(nn.MLP):
        def __call__(self, x):
            first, second = super().__call__(x)
            return first, ([second], ())

    def of_parts(out, t):
        return losses.cross_entropy([out[0], out[1][0][0]], t)

    for engine in ("eager", "compiled"):
        ended = []
        for kind, loss in [(Split, of_parts), (nn.MLP, losses.cross_entropy)]:
            model, descent = kind(2, [3, 2], "tanh", seed=0), "sgd"
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                training.fit(model, DATA.X, DATA.y, loss=loss, optimizer=descent, engine=engine)
            ended.append([p.data for p in model.parameters()])
        assert ended[0] == pytest.approx(ended[1], rel=1e-9)


def test_outputs_in_a_tuple_are_taken_for_labels():
    pytest.importorskip("numpy")

    class Tuple(nn.MLP):
        def __call__(self, x):
            return tuple(super().__call__(x))

    for engine in ("eager", "compiled"):
        found = [
            training.fit(kind(2, [3, 2], "tanh", seed=0), DATA.X, DATA.y, engine=engine).accuracy
            for kind in (Tuple, nn.MLP)
        ]
        assert found[0] == found[1] != [0.0] * 10


@pytest.mark.filterwarnings("ignore:not compiled")
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_loss_that_is_a_plain_number_is_refused_in_words(engine):
    class Slope(nn.MLP):
        def __call__(self, x):
            return value_and_grad(super().__call__)(x)[1][0]

    with pytest.raises(OperandError, match=r"plain number.*give value_and_grad\(f\)\(x\) a Value"):
        training.fit(Slope(2, [3, 1], "tanh"), DATA.X, DATA.y, loss="mse", engine=engine)
    with pytest.raises(OperandError, match="plain number"):
        training.fit([Value(1.0)], [[1.0], [2.0]], loss=sum, engine=engine)


@pytest.mark.parametrize(
    ("name", "outputs", "labels"),
    [
        ("cross_entropy", [[0.0, 2.0, 1.0], [3.0, 3.0, 3.0]], [1, 0]),
        ("binary_cross_entropy", [[0.4], [0.5], [0.6]], [0, 0, 1]),
        ("binary_cross_entropy_with_logits", [[-0.1], [0.0], [0.1]], [0, 0, 1]),
        ("hinge", [[-0.1], [0.0], [0.1]], [-1, -1, 1]),
    ],
)
def test_outputs_are_taken_for_labels(name, outputs, labels):
    rule = training.LOSSES[name]
    assert rule.right(outputs, labels) == len(labels)
    assert rule.right(outputs, [7, *labels[1:]]) == len(labels) - 1


def test_a_named_loss_sees_targets_before_any_step_and_names_the_place():
    model = nn.MLP(1, [2], seed=0)
    check = training.LOSSES["cross_entropy"].usable(model)
    check([[0.5], [1.5]], [0, 1], [0, 1])
    with pytest.raises(ValueError, match=r"^y\[7\]: a label is .* from 0 to 1, got 2") as caught:
        check([[0.5], [1.5]], [0, 2], [3, 7])
    assert isinstance(caught.value, MicrogradError)
    narrow = training.LOSSES["mse"].usable(model)
    with pytest.raises(ValueError, match=r"^this MLP takes 1 inputs, got 2"):
        narrow([[0.5, 1.0]], [0.0], [0])


def test_where_the_examples_leave_a_domain_the_epoch_says_so():
    model = nn.MLP(2, [1], output_activation="log", seed=0)
    model.parameters()[-1].data = -30.0
    descent = optim.SGD(model.parameters())
    with (
        pytest.warns(MicrogradWarning, match="eager engine goes on: .*log is defined"),
        pytest.raises(ValueError, match="in batch 1 of epoch 1"),
    ):
        training.fit(
            model, DATA.X, DATA.y, loss=lambda out, t: out, optimizer=descent, engine="compiled"
        )


# --- who has the parameters -----------------------------------------------------------------------


def fitted(engine, make=optim.Adam, batches=None, **options):
    """The weights after training, or the error; the optimizer's state, and the last gradients."""
    if engine != "eager":
        pytest.importorskip("numpy")
    model = nn.MLP(2, [3, 2], "tanh", seed=0)
    rule = make(model.parameters(), lr=0.05)
    data = (DATA.X, DATA.y) if batches is None else (batches(model),)
    if batches is None:
        options["batch_size"] = 5
    try:
        ended = training.fit(model, *data, optimizer=rule, epochs=3, engine=engine, **options)
    except ZeroDivisionError as error:
        ended = error
    weights, memory = rule.snapshot()
    rest = [x for name in rule.remembers for x in memory[name]]
    return type(ended), [*weights, *rest, *(p.grad for p in model.parameters())]


def assert_fitted_alike(**options):
    (kind, expected), (same, found) = fitted("eager", **options), fitted("compiled", **options)
    assert kind is same
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    return kind


def test_callbacks_see_the_parameters_and_may_change_them():
    seen = []

    def callback(model, history):
        seen.append([*(p.data for p in model.parameters()), *(p.grad for p in model.parameters())])
        model.layers[0].neurons[0].w[0].data *= 0.5
        history.optimizer.lr *= 0.5
        if len(history) == 2:
            state = history.optimizer.state_dict()
            state["memory"]["steps"] = 0
            history.optimizer.load_state_dict(state)

    assert assert_fitted_alike(callbacks=[callback]) is training.History
    assert seen[3:] == [pytest.approx(numbers, rel=1e-9, abs=1e-12) for numbers in seen[:3]]
    assert seen[0] != seen[1]


def test_a_parameter_that_the_last_callback_changes_stays_so():
    def callback(model, history):
        model.layers[0].neurons[0].b.data = float(len(history))

    for engine in ("eager", "compiled"):
        _, numbers = fitted(engine, callbacks=[callback])
        assert numbers[2] == 3.0


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["callback", "batches"])
def test_whatever_ends_it_the_latest_step_stays(where, error):
    def callback(model, history):
        if len(history) == 2:
            raise error

    def batches(model):
        def made():
            yield DATA.X[:5], DATA.y[:5]
            yield DATA.X[5:], DATA.y[5:]
            raise error

        return made

    options = {"callbacks": [callback]} if where == "callback" else {"batches": batches}
    kind = assert_fitted_alike(**options)
    assert kind is (training.History if error is KeyboardInterrupt else error)


def test_what_makes_batches_sees_the_parameters_and_may_change_them():
    def batches(model):
        def made():
            for i in range(0, 12, 4):
                weight = model.layers[0].neurons[0].w[0]
                weight.data *= 0.5
                yield (
                    [[weight.data * x for x in row] for row in DATA.X[i : i + 4]],
                    DATA.y[i : i + 4],
                )

        return made

    assert assert_fitted_alike(batches=batches) is training.History


def test_an_optimizer_with_a_step_of_its_own_makes_it():
    class Counted(optim.SGD):
        steps = 0

        def step(self):
            super().step()
            self.steps += 1
            self.params[0].data = float(self.steps)

    assert assert_fitted_alike(make=Counted) is training.History
    assert fitted("compiled", make=Counted)[1][0] == 9.0


def by_branch(optimizer, p, g):
    return p - 0.05 * (g if g < 0.1 else 0.1)


def by_function(optimizer, p, g):
    return p - 0.05 * math.tanh(g)


def by_noise(optimizer, p, g):
    return p - 0.05 * g + 0.01 * random.gauss(0.0, 1.0)


def by_count(optimizer, p, g):
    optimizer.count += 1
    return p - 0.05 * g / optimizer.count


def by_parameters(optimizer, p, g):
    return p - 0.05 * g * math.hypot(*(p.data for p in optimizer.params))


@pytest.mark.parametrize("rule", [by_branch, by_function, by_noise, by_count, by_parameters])
def test_a_rule_that_arrays_do_not_know_is_that_of_each_number(rule):
    class Own(optim.SGD):
        count = 0

        def rule(self, sqrt, *factors):
            return lambda p, g: (rule(self, p, g),)

    def make(*arguments, **options):
        random.seed(5)
        return Own(*arguments, **options)

    assert assert_fitted_alike(make=make) is training.History
    pytest.importorskip("numpy")
    model = nn.MLP(2, [3, 2], "tanh", seed=0)
    step = compile_step(model, losses.cross_entropy, (DATA.X[0], DATA.y[0]))
    with pytest.raises(InputError, match="the rule of Own is another one for arrays"):
        step.training(Own(step.parameters))


def by_gradients(parameters, steps):
    return 0.05 / math.hypot(*(p.grad for p in parameters))


def by_comparison(parameters, steps):
    return 0.05 if parameters[0] > 0.75 else 0.01


def by_operation(parameters, steps):
    with contextlib.suppress(MicrogradError):
        return 0.05 * sum(p * p for p in parameters).data
    return 0.0


def by_generator(parameters, steps):
    return 0.05 * random.random()


def by_gradients_later(parameters, steps):
    return 0.05 if steps < 4 else by_gradients(parameters, steps)


SCHEDULES = [by_gradients, by_comparison, by_operation, by_generator, by_gradients_later]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_sees_the_parameters_as_they_are_and_draws_what_it_would(schedule):
    def make(parameters, **options):
        random.seed(5)
        return optim.SGD(parameters, lr=partial(schedule, parameters))

    warned = pytest.warns(MicrogradWarning, match="the optimizer looks at a parameter")
    with warned if schedule is by_gradients_later else contextlib.nullcontext():
        assert assert_fitted_alike(make=make) is training.History


def test_a_method_that_was_put_into_an_optimizer_is_that_of_each_number():
    def make(*arguments, **options):
        made = optim.SGD(*arguments, **options)
        made.gradient = lambda of, p, g: of.each(lambda g: (min(g, 0.1),), g)[0]
        return made

    assert assert_fitted_alike(make=make) is training.History


class Keeping(optim.SGD):
    """Gradients add up from batch to batch."""

    def zero_grad(self):
        pass


class Within(optim.SGD):
    """Parameters stay in an interval."""

    def restore(self, snapshot):
        numbers, memory = snapshot
        super().restore(([min(max(x, -0.3), 0.3) for x in numbers], memory))


@pytest.mark.parametrize("make", [Keeping, Within])
def test_an_optimizer_with_other_methods_of_its_own_uses_them(make):
    assert assert_fitted_alike(make=make) is training.History


@pytest.mark.parametrize("writes", [True, False])
def test_a_schedule_that_moves_a_value_of_the_loss_gives_that_of_each_step(writes):
    pytest.importorskip("numpy")
    weights = []
    for engine in ("eager", "compiled"):
        model, held = nn.Neuron(2, "tanh", seed=0), SimpleNamespace(beta=Value(0.0))

        def schedule(steps, held=held):
            if writes:
                held.beta.data = 0.5 * steps
            else:
                held.beta = Value(0.5 * steps)
            return 0.1

        with contextlib.nullcontext() if engine == "eager" else pytest.warns(match="eager engine"):
            training.fit(
                model, DATA.X, DATA.y, loss=lambda z, t, held=held: (z - t) ** 2 + held.beta * z,
                optimizer=optim.SGD(model.parameters(), lr=schedule), epochs=2, engine=engine,
            )  # fmt: skip
        weights.append([p.data for p in model.parameters()])
    assert weights[0] == pytest.approx(weights[1], rel=1e-12)


@pytest.mark.parametrize("where", ["schedule", "factors"])
def test_a_schedule_that_changes_the_model_is_that_of_each_step(where):
    pytest.importorskip("numpy")

    class Annealing(optim.SGD):
        def factors(self, lr, steps):
            if where == "factors":
                model.scale = 0.9**steps
            return super().factors(lr, steps)

    class Scaled(nn.Module):
        scale = 1.0

        def __init__(self):
            self.linear = nn.Neuron(2, "tanh", seed=0)
            self.scale = 1.0

        def __call__(self, x):
            return self.linear(x) * self.scale

    def schedule(steps):
        if where == "schedule":
            model.scale = 1.0 / (1.0 + steps)
        return 0.1

    weights = []
    for engine in ("eager", "compiled"):
        model = Scaled()
        rule = Annealing(model.parameters(), lr=schedule)
        with warnings.catch_warnings(record=True) as caught:
            training.fit(model, DATA.X, DATA.y, loss="mse", optimizer=rule, epochs=2, engine=engine,
                         batch_size=4)  # fmt: skip
        assert ["optimizer's schedule" in str(w.message) for w in caught] == [True] * len(weights)
        weights.append([model.scale, *(p.data for p in model.parameters())])
    assert weights[0] == weights[1]


# --- a model with a state of its own --------------------------------------------------------------


class Dropping(nn.Module):
    """It drops an input now and then, counts its calls, and grows steeper with them."""

    def __init__(self, kind):
        self.linear = nn.Neuron(2, "tanh", seed=0)
        self.parts = [Counter()]
        self.rng = random.Random(1)
        if kind == "numpy":
            self.rng = pytest.importorskip("numpy").random.default_rng(1)

    def __call__(self, x):
        kept = [xi if self.rng.random() < 0.8 else 0.0 for xi in x]
        return self.linear(kept) * self.parts[0]()


class Counter(nn.Module):
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return 1.0 + self.calls / 100


@pytest.mark.parametrize("kind", ["python", "numpy"])
def test_what_a_refused_trace_did_to_a_model_is_undone(kind):
    pytest.importorskip("numpy")
    weights = []
    for engine in ("eager", "compiled"):
        model = Dropping(kind)
        rule = optim.SGD(model.parameters(), lr=0.1)
        with contextlib.ExitStack() as stack:
            if engine != "eager":
                stack.enter_context(pytest.warns(MicrogradWarning, match="not compiled"))
            training.fit(model, DATA.X, DATA.y, loss="mse", optimizer=rule, epochs=2, engine=engine)
        weights.append([model.parts[0].calls, *(p.data for p in model.parameters())])
    assert weights[0] == weights[1]


@pytest.mark.parametrize("draw", [random.random, itertools.cycle([0.5, 1.0, 0.9]).__next__])
def test_a_named_loss_that_sees_targets_does_not_move_what_the_model_has(draw):
    weights = []
    for loss in ("mse", lambda out, t: (out - t) ** 2):
        model = Dropping("python")
        model.rng = SimpleNamespace(random=draw)
        random.seed(1)
        rule = optim.SGD(model.parameters(), lr=0.1)
        training.fit(model, DATA.X[:9], DATA.y[:9], loss=loss, optimizer=rule, epochs=2)
        weights.append([model.parts[0].calls, *(p.data for p in model.parameters())])
    assert weights[0] == weights[1]


def test_a_named_loss_that_sees_targets_leaves_a_running_mean_that_is_a_value():
    class Centred(nn.Module):
        def __init__(self):
            self.net, self.mean = nn.MLP(2, [1], seed=0), Value(0.0)

        def parameters(self):
            return self.net.parameters()

        def __call__(self, x):
            self.mean.data += 0.1 * (x[0] - self.mean.data)
            return self.net([x[0] - self.mean, x[1]])

    means = []
    for loss in ("mse", lambda out, t: (out - t) ** 2):
        training.fit(model := Centred(), DATA.X[:9], DATA.y[:9], loss=loss, epochs=1)
        means.append(model.mean.data)
    assert means[0] == means[1]


class Keeping(nn.Module):
    """It keeps its inputs, what it makes of them, and its output."""

    def __init__(self):
        self.w = [Value(0.5), Value(-0.5)]
        self.x = self.squares = self.out = None

    def __call__(self, x):
        self.x, self.squares = x, [xi * xi for xi in x]
        self.out = sum(w * xi for w, xi in zip(self.w, self.squares, strict=True)) * x[0]
        return self.out


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_what_a_model_keeps_of_an_example_is_no_parameter(engine, tmp_path):
    if engine == "compiled":
        pytest.importorskip("numpy")
    model, found = Keeping(), []
    callback = lambda model, history: found.append([*model.state_dict()])  # noqa: E731
    training.fit(
        model, DATA.X, DATA.y, loss="mse", epochs=3, engine=engine,
        callbacks=[callback, training.checkpoint(tmp_path / "model.json")],
    )  # fmt: skip
    assert found == [["w[0]", "w[1]"]] * 3
    assert model.parameters() == model.w
    Keeping().load(tmp_path / "model.json")


def test_rows_of_examples_in_memory_are_made_once():
    pytest.importorskip("numpy")
    from micrograd_like.compiler import Step

    made, rows_of = [], Step.rows_of

    def counted(step, X, y):
        if not hasattr(X, "rows"):
            made.append(len(y))
        return rows_of(step, X, y)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Step, "rows_of", counted)
        data, model = moons(40), nn.MLP(2, [3, 2], seed=0)
        labels = [-100 if i % 5 == 0 else label for i, label in enumerate(data.y)]
        history = training.fit(
            model, data.X, labels, epochs=4, batch_size=5, engine="compiled", validation=0.25
        )
    assert made[1:] == [24, 8]  # and the sample's
    other = nn.MLP(2, [3, 2], seed=0)
    expected = training.fit(other, data.X, labels, epochs=4, batch_size=5, validation=0.25)
    assert history.loss == pytest.approx(expected.loss, rel=1e-9)
    assert history.validation_accuracy == expected.validation_accuracy


@pytest.mark.parametrize("name", ["compiled", "jax"])
def test_a_model_that_has_its_optimizer_keeps_what_that_remembers(name):
    pytest.importorskip({"compiled": "numpy"}.get(name, name))
    weights = []
    for engine in ("eager", name):
        model = nn.MLP(2, [2, 1], "tanh", seed=0)
        model.optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            training.fit(
                model, DATA.X, DATA.y, loss="mse", optimizer=model.optimizer, epochs=3,
                batch_size=5, engine=engine, callbacks=[lambda model, history: None],
            )  # fmt: skip
        weights.append([p.data for p in model.parameters()])
    assert weights[1] == pytest.approx(weights[0], rel=1e-9)


class Kept(nn.Module):
    """It keeps what it computes, and a penalty is of that: so do variational autoencoders."""

    def __init__(self):
        self.inside = nn.Neuron(2, seed=1)
        self.last = nn.Neuron(1, nonlin=False, seed=2)

    def __call__(self, x):
        self.z = self.inside(x)
        return self.last([self.z])


@pytest.mark.filterwarnings("ignore:not compiled")
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_loss_may_read_what_the_model_kept_of_its_example(engine):
    model, same = Kept(), Kept()
    descent = optim.SGD(same.parameters(), lr=0.1)
    by_hand = losses.mean(
        [losses.mse(same(x), t) + 3.0 * same.z**2 for x, t in zip(DATA.X, DATA.y, strict=True)]
    )
    by_hand.backward()
    descent.step()
    training.fit(
        model, DATA.X, DATA.y, loss=lambda out, t: losses.mse(out, t) + 3.0 * model.z**2,
        optimizer=optim.SGD(model.parameters(), lr=0.1), epochs=1, engine=engine,
    )  # fmt: skip
    assert [p.data for p in model.parameters()] == pytest.approx(
        [p.data for p in same.parameters()], rel=1e-12
    )


class Force(nn.Module):
    """The derivative of an energy, whose weights it has."""

    def __init__(self):
        self.energy = nn.MLP(2, [3, 1], "tanh", seed=0)

    def __call__(self, x):
        xs = [Value(number) if isinstance(number, float) else number for number in x]
        return [-slope for slope in grad(self.energy(xs), xs, create_graph=True)]


@pytest.mark.filterwarnings("ignore:not compiled")
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_models_with_derivatives_in_them_are_measured_as_they_learn(engine):
    model = Force()
    y = [[1.0, 2.0]] * len(DATA.X)
    history = training.fit(
        model, DATA.X, y, loss="mse", epochs=3, engine=engine, validation=(DATA.X, y)
    )
    expected = losses.mean([losses.mse(model(x), t) for x, t in zip(DATA.X, y, strict=True)])
    assert history.validation_loss[-1] == pytest.approx(expected.data, rel=1e-12)


@pytest.mark.parametrize("name", ["eager", "compiled"])
def test_a_target_that_a_loss_of_ones_own_refuses_is_refused_wherever_it_is(name):
    pytest.importorskip("numpy")
    X, y = [[i / 50] for i in range(50)], [1.0] * 50
    y[-1] = 0.0  # which is not among those that engines are compared on
    loss = lambda output, target: losses.hinge(output, target) + 0.1  # noqa: E731
    with pytest.raises(InputError, match=r"-1 or \+1, got 0.0"):
        training.fit(nn.MLP(1, [1], seed=0), X, y, loss=loss, epochs=1, engine=name)


class Watched(list):
    """A list that can be referred to weakly."""


def test_examples_are_measured_one_after_the_other():
    """Thousands of them at a time, with their graphs, would need much memory."""
    model, alive, most = nn.MLP(2, [3, 1], seed=0), [], []

    def outputs(x):
        out = Watched([model(x)])
        alive.append(weakref.ref(out))
        most.append(sum(ref() is not None for ref in alive))
        return out

    eager = engines.Eager(outputs, find_loss("mse"), optim.SGD(model.parameters()))
    mean = eager.evaluate(DATA.X, [[t] for t in DATA.y])
    expected = losses.mse([model(x) for x in DATA.X], DATA.y).data
    assert (mean, len(eager.outputs)) == (expected, len(DATA.X))
    assert max(most) <= 2


@pytest.mark.parametrize(
    ("y", "held"),
    [([1.0, [1.0, 2.0]] * 6, None), ([[1.0] * (2 + i % 2) for i in range(12)], None),
     ([1.0, None] * 6, None), ([1.0] * 12, [[1.0, 2.0]] * 12)],
)  # fmt: skip
def test_targets_of_several_kinds_are_left_to_the_eager_engine(y, held):
    def loss(out, t):
        return (out - (sum(t) if isinstance(t, list) else 0.5 if t is None else t)) ** 2

    weights = []
    for engine in ("eager", "compiled"):
        model = nn.MLP(2, [2, 1], seed=0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            training.fit(
                model, DATA.X, y, loss=loss, epochs=2, engine=engine,
                validation=held and (DATA.X, held),
            )  # fmt: skip
        weights.append([p.data for p in model.parameters()])
        assert len(caught) == (engine == "compiled")
    assert weights[0] == weights[1]


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_batch_of_examples_that_are_right_has_a_loss_of_0(engine):
    model = nn.MLP(2, [1], seed=0)
    before = [p.data for p in model.parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = training.fit(
            model, [[1.0, 2.0], [3.0, 0.5]], [0.0, 0.0], batch_size=1, epochs=2, engine=engine,
            loss=lambda out, t: max(0, t * out), validation=([[1.0, 1.0]], [0.0]),
        )  # fmt: skip
    assert (history.loss, history.validation_loss) == ([0.0, 0.0], [0.0, 0.0])
    assert [p.data for p in model.parameters()] == before
