"""descent.py: what learns on arrays has the numbers that Values would have, whatever ends it."""

from __future__ import annotations

import copy
import math
import pickle
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrograd_like import (
    MicrogradError,
    Value,
    compile_step,
    engine,
    grad,
    log,
    losses,
    maximum,
    modes,
    nn,
    no_grad,
    optim,
    stale,
    tanh,
)
from micrograd_like.errors import DivergenceError, InputError, TraceError

numpy = pytest.importorskip("numpy")

RNG = random.Random(1)
X = [[RNG.uniform(-1, 1), RNG.uniform(-1, 1)] for _ in range(7)]
Y = [RNG.uniform(-1, 1) for _ in X]
MODEL = nn.MLP(2, [3, 1], "tanh", seed=0)
START = MODEL.state_dict()


def huber(out, t):
    d = abs(out - t)
    return 0.5 * d * d if d <= 0.5 else 0.5 * d - 0.125


STEP = compile_step(MODEL, losses.mse, (X[0], Y[0]))
BRANCHED = compile_step(MODEL, huber, (X[0], Y[0]))


class Lion(optim.Optimizer):
    """A rule of one's own (without the sign, which arrays would not know)."""

    def __init__(self, params, lr=0.01, weight_decay=0.0, max_norm=None):
        super().__init__(params, lr, weight_decay, max_norm)

    remembers = {"m": -math.inf}  # noqa: RUF012

    def rule(self, sqrt, lr):
        def update(p, g, m):
            c = 0.9 * m + 0.1 * g
            return p - lr * c / sqrt(c * c + 1e-12), 0.99 * m + 0.01 * g

        return update


def decaying(steps):
    return 0.3 / (1 + steps)


RULES = {
    "SGD": (optim.SGD, {"momentum": st.sampled_from([0.0, 0.9])}),
    "Adam": (optim.Adam, {"betas": st.sampled_from([(0.9, 0.999), (0.0, 0.5)])}),
    "AdamW": (optim.AdamW, {"eps": st.sampled_from([1e-8, 1e-3])}),
    "Lion": (Lion, {}),
}


@st.composite
def optimizers(draw):
    """A function that makes an optimizer, and whether sums over all parameters go into it."""
    kind, own = RULES[draw(st.sampled_from(sorted(RULES)))]
    options = {
        "lr": draw(st.sampled_from([0.01, 0.3, decaying])),
        "weight_decay": draw(st.sampled_from([0.0, 0.1])),
        "max_norm": draw(st.sampled_from([None, 0.1, 1e9])),
        **{name: draw(values) for name, values in own.items()},
    }
    return lambda: kind(STEP.parameters, **options), options["max_norm"] is not None


def fresh(make):
    MODEL.load_state_dict(START)
    MODEL.zero_grad()
    return make()


def numbers(optimizer):
    values, memory = optimizer.snapshot()
    columns = [memory[name] for name in optimizer.remembers]
    grads = [p.grad for p in optimizer.params]
    return memory["steps"], [x for column in (values, grads, *columns) for x in column]


def on_values(step, optimizer, count, first=0):
    means = []
    for k in range(first, first + count):
        means.append(step(X[k % 3 :], Y[k % 3 :]))
        optimizer.step()
    return means


def on_arrays(step, optimizer, count, before=lambda k, training: None):
    means = []
    with step.training(optimizer) as training:
        for k in range(count):
            before(k, training)
            means.append(training(X[k % 3 :], Y[k % 3 :]))
    return means


@settings(max_examples=40, deadline=None)
@given(made=optimizers(), count=st.integers(1, 6), step=st.sampled_from([STEP, BRANCHED]))
def test_steps_on_arrays_are_those_on_values_to_the_bit(made, count, step):
    make, sums = made
    expected = on_values(step, optimizer := fresh(make), count), *numbers(optimizer)
    found = on_arrays(step, optimizer := fresh(make), count), *numbers(optimizer)
    if not sums:
        assert found == expected
    assert found[0] == pytest.approx(expected[0], rel=1e-13)
    assert found[1] == expected[1] == count
    assert found[2] == pytest.approx(expected[2], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_whatever_ends_the_block_the_values_have_the_latest_whole_step(error):
    make = lambda: optim.Adam(STEP.parameters, lr=0.1)  # noqa: E731
    on_values(STEP, optimizer := fresh(make), 3)
    expected = numbers(optimizer)

    def end(k, training):
        if k == 3:
            raise error

    optimizer = fresh(make)
    with pytest.raises(error):
        on_arrays(STEP, optimizer, 5, end)
    assert numbers(optimizer) == expected
    on_arrays(STEP, optimizer, 1)  # the step is free again


def test_ctrl_c_amid_the_last_writing_costs_nothing(monkeypatch):
    optimizer = fresh(lambda: optim.SGD(STEP.parameters, lr=0.1))
    restore, calls = optim.Optimizer.restore, []

    def torn(self, snapshot):
        calls.append(snapshot)
        if len(calls) == 1:
            optimizer.params[0].data = 99.0
            raise KeyboardInterrupt
        restore(self, snapshot)

    monkeypatch.setattr(optim.Optimizer, "restore", torn)
    with pytest.raises(KeyboardInterrupt):
        on_arrays(STEP, optimizer, 1)
    assert len(calls) == 2
    found = numbers(optimizer)
    on_values(STEP, optimizer := fresh(lambda: optim.SGD(STEP.parameters, lr=0.1)), 1)
    assert found == numbers(optimizer)


def test_what_is_changed_after_write_is_gone_on_with():
    def change(optimizer):
        optimizer.params[0].data += 1.0
        optimizer.lr = 0.01
        optimizer.momentum = 0.5
        memory = {"steps": 7, "velocity": [0.25] * len(optimizer.params)}
        optimizer.load_state_dict({**optimizer.state_dict(), "memory": memory})

    def change_amid(k, training):
        if k == 2:
            training.write()
            assert numbers(optimizer) == seen
            change(optimizer)

    make = lambda: optim.SGD(STEP.parameters, lr=0.1)  # noqa: E731
    on_values(STEP, optimizer := fresh(make), 2)
    seen = numbers(optimizer)
    change(optimizer)
    on_values(STEP, optimizer, 1, first=2)
    expected = numbers(optimizer)
    on_arrays(STEP, optimizer := fresh(make), 3, change_amid)
    assert numbers(optimizer) == expected


def test_a_setting_that_changes_what_is_remembered_counts_from_the_next_step():
    make = lambda: optim.SGD(STEP.parameters, lr=0.1)  # noqa: E731
    momenta = [0.0, 0.0, 0.9, 0.9, 0.0, 0.0]

    def change(k, training):
        optimizer.momentum = momenta[k]

    optimizer = fresh(make)
    for k in range(6):
        change(k, None)
        on_values(STEP, optimizer, 1, first=k)
    expected = numbers(optimizer)
    on_arrays(STEP, optimizer := fresh(make), 6, change)
    assert numbers(optimizer) == expected


def test_a_value_that_is_changed_while_it_waits_is_named():
    def change_a_value(k, training):
        bias = MODEL.layers[0].neurons[1].b
        other = threading.Thread(target=lambda: setattr(bias, "data", 1.5 + k))
        other.start()
        other.join()

    def change_the_memory(k, training):
        state = optimizer.state_dict()
        other = threading.Thread(target=optimizer.load_state_dict, args=(state,))
        training(X, Y)
        other.start()
        other.join()

    for change, says in [
        (change_a_value, r"layers\[0\]\.neurons\[1\]\.b.* was changed .* call its `write`"),
        (change_the_memory, "the optimizer's state was changed while a step learned"),
    ]:
        optimizer = fresh(lambda: optim.Adam(STEP.parameters, lr=0.1))
        with pytest.raises(InputError, match=says):
            on_arrays(STEP, optimizer, 3, change)


def test_outside_of_its_block_a_training_is_refused():
    training = STEP.training(fresh(lambda: optim.SGD(STEP.parameters, lr=0.1)))
    with pytest.raises(InputError, match=r"with step.training\(optimizer\) as training"):
        training(X, Y)
    with training:
        training(X, Y)
    learned = [p.data for p in STEP.parameters]
    with pytest.raises(InputError, match="within its block"):
        training(X, Y)
    assert [p.data for p in STEP.parameters] == learned


def test_within_the_block_a_step_computes_with_what_was_learned():
    optimizer = fresh(lambda: optim.SGD(STEP.parameters, lr=0.1))
    with STEP.training(optimizer) as training:
        first = training(X, Y)
        assert STEP.evaluate(X, Y) == STEP(X, Y) < first
    assert STEP.evaluate(X, Y) == STEP(X, Y) < first
    assert MODEL.state_dict() != START


@pytest.mark.parametrize("rows", [1, 1500])
def test_within_the_block_a_model_predicts_and_saves_what_was_learned(tmp_path, rows):
    optimizer = fresh(lambda: optim.Adam(STEP.parameters, lr=0.1))
    with STEP.training(optimizer) as training:
        training(X, Y)
        saved = MODEL.state_dict()
        training(X, Y)
        predicted = MODEL.predict(X[:1] * rows)
        training(X, Y)
        MODEL.save(tmp_path / "model.json")
    on_values(STEP, optimizer := fresh(lambda: optim.Adam(STEP.parameters, lr=0.1)), 1)
    assert saved == MODEL.state_dict()
    on_values(STEP, optimizer, 1)
    assert predicted == pytest.approx([MODEL(X[0]).data] * rows, rel=1e-13)
    on_values(STEP, optimizer, 1)
    expected = MODEL.state_dict()
    MODEL.load(tmp_path / "model.json")
    assert MODEL.state_dict() == expected


LOOKS = {
    "data": lambda: [p.data for p in MODEL.parameters()][-1],
    "gradient": lambda: MODEL.parameters()[-1].grad,
    "call": lambda: MODEL(X[0]).data,
    "call without gradients": no_grad()(lambda: MODEL(X[0]).data),
    "predict": lambda: MODEL.predict(X[:1])[0],
    "derivative": lambda: grad(MODEL(X[0]), MODEL.parameters()[0]),
    "local derivative": lambda: (MODEL.parameters()[-1] * X[0][0] * Value(2.0)).local_grads[1],
    "copy": lambda: copy.deepcopy(MODEL)(X[0]).data,
    "pickle": lambda: pickle.loads(pickle.dumps(MODEL))(X[0]).data,
    "text": lambda: float(f"{MODEL.parameters()[-1]:.17g}"),
    "detached": lambda: MODEL.parameters()[-1].detach().data,
    "comparison": lambda: sum(MODEL.parameters()[-1] < k / 9999 for k in range(9999)),
    "choice": lambda: maximum(MODEL.parameters()[-1], MODEL.parameters()[0]).data,
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_within_the_block_whoever_looks_sees_what_was_learned(look):
    on_values(STEP, optimizer := fresh(lambda: optim.SGD(STEP.parameters, lr=0.1)), 1)
    expected = look()
    optimizer = fresh(lambda: optim.SGD(STEP.parameters, lr=0.1))
    with STEP.training(optimizer) as training:
        training(X, Y)
        assert look() == pytest.approx(expected, rel=1e-12)
    MODEL.load_state_dict(START)
    assert look() != pytest.approx(expected, rel=1e-6) or look is LOOKS["gradient"]


def eager_loss():
    return losses.mean([losses.mse(MODEL(x), y) for x, y in zip(X, Y, strict=True)])


def forget(optimizer):
    state = optimizer.state_dict()
    state["memory"]["m"] = [0.0] * len(optimizer.params)
    optimizer.load_state_dict(state)


def go_back(optimizer):
    snapshot = optimizer.snapshot()
    MODEL.load_state_dict(START)
    optimizer.restore(snapshot)


CHANGES = {
    "data": lambda optimizer, before: setattr(optimizer.params[1], "data", 0.3),
    "gradient": lambda optimizer, before: optimizer.zero_grad(),
    "gradients that add up": lambda optimizer, before: eager_loss().backward(),
    "eager step": lambda optimizer, before: (
        optimizer.zero_grad(), eager_loss().backward(), optimizer.step()
    ),
    "sweep of a graph of before": lambda optimizer, before: before.backward(),
    "gradients of a step": lambda optimizer, before: (STEP(X, Y), optimizer.step()),
    "other optimizer": lambda optimizer, before: optim.SGD(optimizer.params, lr=0.1).step(),
    "other optimizer's snapshot": lambda optimizer, before: go_back(optim.SGD(optimizer.params)),
    "own snapshot": lambda optimizer, before: go_back(optimizer),
    "memory": lambda optimizer, before: forget(optimizer),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_changed_within_the_block_counts(change):
    optimizer = fresh(lambda: optim.Adam(STEP.parameters, lr=0.1))
    before = eager_loss()
    on_values(STEP, optimizer, 2)
    change(optimizer, before)
    expected = numbers(optimizer)
    on_values(STEP, optimizer, 2)
    at_the_end = numbers(optimizer)
    optimizer = fresh(lambda: optim.Adam(STEP.parameters, lr=0.1))
    before = eager_loss()
    with STEP.training(optimizer) as training:
        training(X, Y)
        training(X[1:], Y[1:])
        change(optimizer, before)
        steps, found = numbers(optimizer)
        assert steps == expected[0]
        assert found == pytest.approx(expected[1], rel=1e-9)
        training(X, Y)
        training(X[1:], Y[1:])
    assert numbers(optimizer)[1] == pytest.approx(at_the_end[1], rel=1e-9)


def test_within_the_block_the_graph_of_before_is_stale_and_new_nodes_have_the_domain_of_what_is():
    w = Value(0.0)
    step = compile_step(lambda x: (w - x) ** 2, [w], 2.0)
    before = w * w
    with step.training(optim.SGD([w], lr=0.5)) as training:
        training([2.0])
        assert stale(before) == [before]
        training([3.0])
        assert log(w).data == math.log(3.0)
        training([4.0])
        with no_grad():
            assert log(w).data == math.log(4.0)
            w.data = 0.0
            training([5.0])
            assert log(w).data == math.log(5.0)


@pytest.mark.skipif(not engine.NATIVE, reason="it is the engine in C that asks")
def test_within_the_block_nobody_is_asked_about_values_that_have_what_was_learned(monkeypatch):
    asked = []
    with STEP.training(fresh(lambda: optim.SGD(STEP.parameters, lr=0.1))) as training:
        training(X, Y)
        MODEL(X[0])
        for name in ("made", "touched", "land"):
            monkeypatch.setattr(modes, name, lambda *_, name=name: asked.append(name))
        assert tanh(MODEL.parameters()[0] * 2.0).data == math.tanh(MODEL.parameters()[0].data * 2.0)
        assert engine.numbers_of([Value(1.0)]) == [1.0]
        monkeypatch.undo()
    assert not asked


def test_a_training_within_another_one_may_have_a_rule_of_ones_own():
    another = compile_step(MODEL, losses.mse, (X[0], Y[0]))
    optimizers = fresh(lambda: (optim.Adam(STEP.parameters, lr=0.1), Lion(STEP.parameters)))
    on_values(STEP, optimizers[0], 1)
    on_values(STEP, optimizers[1], 1)
    expected = numbers(optimizers[1])
    optimizers = fresh(lambda: (optim.Adam(STEP.parameters, lr=0.1), Lion(STEP.parameters)))
    with STEP.training(optimizers[0]) as training:
        training(X, Y)
        with another.training(optimizers[1]) as other:
            other(X, Y)
    assert numbers(optimizers[1]) == expected


@pytest.mark.parametrize("rate", [1e200, 1e308])
def test_a_step_that_leads_away_is_undone(rate):
    optimizer = fresh(lambda: optim.SGD(STEP.parameters, lr=lambda k: 0.1 if k < 2 else rate))
    on_arrays(STEP, optimizer, 2)
    good = numbers(optimizer)[1][: len(START)]
    optimizer = fresh(lambda: optim.SGD(STEP.parameters, lr=optimizer.lr))
    with pytest.raises(DivergenceError, match=r"in step \d; the parameters are back") as caught:
        on_arrays(STEP, optimizer, 9)
    assert caught.value.batch in (3, 4)
    assert numbers(optimizer)[1][: len(START)] == good


def test_a_schedule_without_a_rate_ends_it_with_the_steps_before():
    optimizer = fresh(lambda: optim.SGD(STEP.parameters, lr=lambda k: 0.1 if k < 2 else -1.0))
    with pytest.raises(InputError, match=r"^lr\(2\) is at least 0"):
        on_arrays(STEP, optimizer, 3)
    found = numbers(optimizer)
    on_values(STEP, optimizer := fresh(lambda: optim.SGD(STEP.parameters, lr=0.1)), 2)
    assert found == numbers(optimizer)


def test_a_schedule_that_reads_a_parameter_while_it_waits_is_refused():
    def lr(steps):
        return 0.1 + abs(STEP.parameters[0].data) if steps else 0.1

    optimizer = fresh(lambda: optim.SGD(STEP.parameters, lr=lr))
    with STEP.training(optimizer) as learning:
        learning(X, Y)
        with pytest.raises(TraceError, match="the optimizer looks at a parameter"):
            learning(X, Y)
    assert numbers(optimizer)[0] == 1


def test_what_arrays_do_not_know_is_refused():
    class Own(optim.SGD):
        def step(self):
            super().step()

    class Counting(optim.SGD):
        calls = 0  # an attribute of the class, until it counts

        def rule(self, sqrt, *factors):
            self.calls += 1
            return super().rule(sqrt, 0.5 * factors[0] if self.calls > 100 else factors[0])

    with pytest.raises(InputError, match="the rule of Counting is another one for arrays"):
        STEP.training(Counting(STEP.parameters))
    some = optim.SGD(STEP.parameters[:-1])
    for optimizer, says in [(Own(STEP.parameters), "Own has a `step`"), (some, "other parameters")]:
        with pytest.raises(InputError, match=says) as caught:
            STEP.training(optimizer)
        assert isinstance(caught.value, MicrogradError)
    optimizer = optim.SGD(STEP.parameters)
    with (
        STEP.training(optimizer),
        pytest.raises(InputError, match="in another training"),
        STEP.training(optimizer),
    ):
        pass
    w = Value(1.0)
    assert compile_step(lambda x: w * x[0], losses.mse, (X[0], Y[0]), [w]).training(optim.SGD([w]))


def test_a_part_of_the_parameters_is_learned_as_the_refusal_says():
    w, frozen = Value(1.0), Value(2.0)
    step = compile_step(lambda x: (w * frozen - x) ** 2, [w, frozen], 3.0)
    optimizer = optim.SGD([w], lr=0.1)
    with pytest.raises(InputError, match="call the step and then the optimizer's own"):
        step.training(optimizer)
    step([3.0])
    optimizer.step()
    assert (round(w.data, 12), frozen.data) == (1.4, 2.0)


class InPlace(optim.SGD):
    """A rule that writes into what it is given, as one does with arrays."""

    remembers = {"v": -math.inf}  # noqa: RUF012

    def rule(self, sqrt, lr):
        def update(p, g, v):
            g *= 0.5
            v *= 0.9
            v += g
            p -= lr * v
            return p, v

        return update


def test_a_rule_that_writes_into_arrays_leaves_the_step_before_alone():
    MODEL.load_state_dict(START)
    before = [p.data for p in MODEL.parameters()]
    _, expected = STEP.value_and_grad(X, Y)
    descent = STEP.training(InPlace(MODEL.parameters(), lr=0.1))
    with descent:
        descent(X, Y)
        assert descent.before() == (before, {"steps": 0})
        descent.write()
        assert [p.grad for p in MODEL.parameters()] == list(expected)


def assert_alternate(steps):
    """Trainings of the same parameters, one after the other and again, are those on Values."""
    makers = (
        lambda: optim.SGD(STEP.parameters, lr=0.1, momentum=0.9),
        lambda: optim.Adam(STEP.parameters, lr=0.02),
    )
    one, other = map(fresh, makers)
    expected, seen = [], []
    for k in range(8):
        expected += on_values(BRANCHED, other, 1, k) if k % 3 else on_values(STEP, one, 1, k)
        expected.append(STEP.evaluate(X, Y))
    expected += [*numbers(one), *numbers(other)]
    one, other = map(fresh, makers)
    with steps[0].training(one) as first, steps[1].training(other) as second:
        for k in range(8):
            seen.append((second if k % 3 else first)(X[k % 3 :], Y[k % 3 :]))
            seen.append(steps[0].evaluate(X, Y))
    for x, y in zip([*seen, *numbers(one), *numbers(other)], expected, strict=True):
        assert x == pytest.approx(y, rel=1e-9, abs=1e-13)


def test_trainings_of_the_same_parameters_go_on_from_each_other():
    assert_alternate((STEP, BRANCHED))


# --- on devices (several: see test_xla.py) --------------------------------------------------------


@pytest.fixture(scope="module")
def on_jax():
    pytest.importorskip("jax")
    return {
        loss: compile_step(MODEL, loss, (X[0], Y[0]), backend="jax") for loss in (losses.mse, huber)
    }


def assert_close(found, expected):
    assert found[0] == expected[0]
    assert found[1] == pytest.approx(expected[1], rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("loss", [losses.mse, huber])
@pytest.mark.parametrize(
    "make",
    [
        lambda: optim.AdamW(STEP.parameters, lr=decaying, max_norm=0.1),
        lambda: optim.SGD(STEP.parameters, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda: Lion(STEP.parameters),
    ],
)
def test_on_devices_it_has_the_same_numbers(on_jax, loss, make):
    means = on_arrays(STEP if loss is losses.mse else BRANCHED, optimizer := fresh(make), 8)
    expected = numbers(optimizer)
    found = on_arrays(on_jax[loss], optimizer := fresh(make), 8)
    assert found == pytest.approx(means, rel=1e-9)
    assert_close(numbers(optimizer), expected)


def test_on_devices_what_is_changed_counts_and_what_is_written_is_seen(on_jax):
    def change(k, training):
        optimizer.lr = 0.1 / (1 + k)
        optimizer.momentum = 0.9 if k > 3 else 0.0
        optimizer.weight_decay = 0.1 if k > 4 else 0.0
        if k == 2:
            training.write()
            written.append(numbers(optimizer))
            optimizer.params[0].data += 1.0
        if k == 5:
            seen.append(step.evaluate(X, Y))

    ended, written, seen = [], [], []
    for step in (STEP, on_jax[losses.mse]):
        optimizer = fresh(lambda: optim.SGD(STEP.parameters))
        on_arrays(step, optimizer, 8, change)
        ended.append(numbers(optimizer))
    assert_close(written[1], written[0])
    assert_close(ended[1], ended[0])
    assert seen[1] == pytest.approx(seen[0], rel=1e-12)


DAMPING = [1.0]


class Damped(optim.SGD):
    """Its rule reads attributes, one of which counts for short gradients, and an item."""

    damping = 1.0
    least = 1e-9

    def gradient(self, of, p, g):
        share = of.least(1.0, of.norm(g) / self.least)
        return of.each(lambda g: (share * g,), g)[0]

    def rule(self, sqrt, lr):
        return lambda p, g: (p - self.damping * DAMPING[0] * lr * g,)


class Layerwise(optim.SGD):
    """Its rule knows the parameters apart."""

    first = 6

    def gradient(self, of, p, g):
        scale = [0.1 if i < self.first else 1.0 for i in range(len(self.params))]
        scale = scale if of is optim.LISTS else numpy.array(scale)
        return of.each(lambda g, s: (g * s,), g, scale)[0]


class Careful(Damped):
    def gradient(self, of, p, g):
        if of is not optim.LISTS and not (of.norm(g) < 1e3):
            raise AssertionError("this is no gradient")
        return g


def assert_devices_follow(on_jax, rule, change):
    """What `change` does to a rule amid the steps counts on devices as it does over NumPy."""
    ended = []
    for step in (STEP, on_jax[losses.mse]):
        optimizer = fresh(lambda: rule(STEP.parameters, lr=0.3))
        on_arrays(step, optimizer, 6, lambda k, _, rule=optimizer: change(k, rule))
        ended.append(numbers(optimizer))
    assert_close(ended[1], ended[0])


@pytest.mark.parametrize("rule", [Layerwise, Careful])
def test_on_devices_a_rule_may_know_parameters_apart_or_refuse_some_gradients(on_jax, rule):
    def change(k, optimizer):
        optimizer.first, optimizer.damping = 6 + k, 1.0 / (1 + k)

    assert_devices_follow(on_jax, rule, change)


def test_on_devices_trainings_of_the_same_parameters_go_on_from_each_other(on_jax):
    assert_alternate((on_jax[losses.mse], on_jax[huber]))


@pytest.mark.parametrize("where", ["attribute", "attribute for some", "variable"])
def test_on_devices_what_a_rule_of_ones_own_reads_counts(on_jax, where):
    def change(k, optimizer):
        if where == "attribute":
            optimizer.damping = 1.0 / (1 + k // 2)
        elif where == "attribute for some":
            optimizer.least = 0.5 + 0.5 * (k // 2)
        else:
            DAMPING[0] = 1.0 / (1 + k // 2)

    assert_devices_follow(on_jax, Damped, change)


@pytest.mark.parametrize("rate", [1e200, 1e308])
def test_on_devices_a_step_that_leads_away_is_undone(on_jax, rate):
    ended = []
    for step in (STEP, on_jax[losses.mse]):
        optimizer = fresh(lambda: optim.SGD(STEP.parameters, lr=lambda k: 0.1 if k < 2 else rate))
        with pytest.raises(DivergenceError) as caught:
            on_arrays(step, optimizer, 9)
        ended.append((caught.value.batch, str(caught.value), numbers(optimizer)))
    assert ended[0][:2] == ended[1][:2]
    assert_close(ended[1][2], ended[0][2])


def test_on_devices_states_give_their_memory_away(on_jax):
    step = on_jax[losses.mse]
    optimizer = fresh(lambda: optim.Adam(STEP.parameters))
    states = []

    def look(k, training):
        if k:
            states.append(training._device[0].rows)

    on_arrays(step, optimizer, 3, look)
    assert [rows.is_deleted() for rows in states] == [True, True]


def test_on_devices_ctrl_c_amid_a_step_keeps_the_one_before(on_jax, monkeypatch):
    step = on_jax[losses.mse]
    make = lambda: optim.Adam(STEP.parameters, lr=0.1)  # noqa: E731
    on_arrays(step, optimizer := fresh(make), 2)
    expected = numbers(optimizer)
    optimizer = fresh(make)

    def tear(k, training):
        if k == 2:
            (learning,) = training._learnings.values()
            monkeypatch.setattr(type(learning), "__call__", torn)

    def torn(self, before, now, examples, factors):
        before.delete()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_arrays(step, optimizer, 5, tear)
    assert_close(numbers(optimizer), expected)


class Clipped(optim.SGD):
    def gradient(self, of, p, g):
        norm = of.norm(g)
        return of.each(lambda g: (g * (0.1 / norm),), g)[0] if norm > 0.1 else g


class Shrinking(optim.SGD):
    def updated(self, of, p, g, memory):
        p, memory = super().updated(of, p, g, memory)
        return of.each(lambda p: (0.9 * p,), p)[0], memory


class Forgetting(optim.SGD):
    def remembered(self, of, p, memory):
        columns = dict.fromkeys(self.remembers, of.each(lambda p: (p - p,), p)[0])
        return {**super().remembered(of, p, memory), **columns}


@pytest.mark.parametrize("rule", [Clipped, Shrinking, Forgetting])
def test_on_devices_a_rule_that_no_program_has_is_that_of_arrays(on_jax, rule):
    weights = []
    for step in (STEP, on_jax[losses.mse]):
        MODEL.load_state_dict(START)
        with step.training(rule(MODEL.parameters(), lr=0.3, momentum=0.5)) as learn:
            for _ in range(3):
                learn(X, Y)
        weights.append([p.data for p in MODEL.parameters()])
    assert weights[1] == pytest.approx(weights[0], rel=1e-12)
