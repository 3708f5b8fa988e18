"""training.py: fit learns, reproducibly, and never leaves a half-changed model."""

import gc
import math
import os
import signal

import pytest

from micrograd_like import MicrogradError, Value, losses, nn, no_grad, optim, training
from micrograd_like.datasets import moons

XOR = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]


def model_and_data(loss):
    data = moons(40)
    targets = [1.0 if label else -1.0 for label in data.y] if loss == "hinge" else data.y
    return nn.MLP(2, [8, 2 if loss == "cross_entropy" else 1], seed=0), data.X, targets


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge", "binary_cross_entropy_with_logits"])
def test_fit_learns_to_tell_the_moons_apart(loss):
    model, X, y = model_and_data(loss)
    history = training.fit(model, X, y, loss=loss, epochs=60, batch_size=10)
    assert len(history) == 60
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert history.accuracy[-1] > 0.85
    assert not history.interrupted


def test_fit_learns_a_regression():
    model = nn.MLP(1, [8, 1], seed=0)
    xs = [i / 10 - 1 for i in range(21)]
    history = training.fit(model, xs, [x * x for x in xs], loss="mse", epochs=150, batch_size=None)
    assert history.loss[-1] < 0.01
    assert history.accuracy == []


def test_a_loss_may_be_a_function_of_one_output_and_target():
    model = nn.MLP(2, [1], seed=0)
    history = training.fit(model, XOR, [0, 1, 1, 2], loss=lambda out, t: abs(out - t), epochs=300)
    assert history.loss[-1] < 0.1
    assert history.accuracy == []


def test_one_step_is_the_mean_gradient_of_the_batch():
    model, twin = nn.MLP(2, [3, 1], seed=0), nn.MLP(2, [3, 1], seed=0)
    y = [0.0, 1.0, 1.0, 0.0]
    rule = optim.SGD(model.parameters(), lr=0.5)
    history = training.fit(model, XOR, y, loss="mse", optimizer=rule, epochs=1, batch_size=None)
    loss = losses.mse([twin(x) for x in XOR], y)
    loss.backward()
    optim.SGD(twin.parameters(), lr=0.5).step()
    assert history.loss == pytest.approx([loss.data], rel=1e-14)
    assert [p.data for p in model.parameters()] == pytest.approx(
        [p.data for p in twin.parameters()], rel=1e-13
    )


@pytest.mark.parametrize("batch_size", [1, 3, 4, None])
def test_every_example_is_seen_once_an_epoch_whatever_the_batch_size(batch_size):
    seen = []
    weight = Value(0.0)

    class Spy(nn.Module):
        def __init__(self):
            self.w = weight

        def __call__(self, x):
            seen.append(x[0])
            return self.w * x[0]

    X = [[float(i)] for i in range(10)]
    training.fit(Spy(), X, [0.0] * 10, loss=losses.mse, epochs=3, batch_size=batch_size)
    assert len(seen) == 30  # the call that checks the targets leaves nothing behind
    for epoch in range(3):
        assert sorted(seen[10 * epoch : 10 * epoch + 10]) == [float(i) for i in range(10)]
    assert seen[:10] != seen[10:20]  # shuffled anew


def test_equal_seeds_give_equal_weights_to_the_last_bit():
    runs = []
    for seed in (3, 3, 4):
        model, X, y = model_and_data("hinge")
        training.fit(model, X, y, loss="hinge", epochs=3, batch_size=8, seed=seed)
        runs.append([p.data.hex() for p in model.parameters()])
    assert runs[0] == runs[1] != runs[2]


def test_arrays_and_lists_train_alike():
    numpy = pytest.importorskip("numpy")
    runs = []
    for convert in (lambda a: a, numpy.array, tuple):
        model, X, y = model_and_data("cross_entropy")
        training.fit(model, convert(X), convert(y), epochs=2)
        runs.append(model.state_dict())
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("validation", [0.25, "pair"])
def test_validation_is_measured_after_each_epoch(validation):
    model, X, y = model_and_data("cross_entropy")
    held = (X[:10], y[:10]) if validation == "pair" else validation
    history = training.fit(model, X, y, epochs=4, validation=held)
    assert len(history.validation_loss) == len(history.validation_accuracy) == 4
    if validation == "pair":
        outputs = [model(x) for x in X[:10]]
        assert history.validation_loss[-1] == losses.cross_entropy(outputs, y[:10]).data
        right = sum((b.data > a.data) == t for (a, b), t in zip(outputs, y[:10], strict=True))
        assert history.validation_accuracy[-1] == right / 10


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize(
    ("loss", "targets", "right"),
    [
        ("cross_entropy", [1, 0, 1], 2 / 3),
        ("cross_entropy", [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], 2 / 3),
        ("cross_entropy", [[0.4, 0.6], [0.9, 0.1], [0.5, 0.5]], 1.0),
        ("binary_cross_entropy_with_logits", [[0, 1], [1, 0.8], [0, 0]], 2 / 3),
        ("binary_cross_entropy", [[1, 1], [1, 0], [1, 1]], 1 / 3),
        ("hinge", [[-1, 1], [1, 1], [1, 1]], 2 / 3),
    ],
)
def test_accuracy_counts_one_hot_soft_and_several_labels(engine, loss, targets, right):
    class Given(nn.Module):
        def __init__(self):
            self.scale = Value(1.0)

        def __call__(self, x):
            return [a * self.scale for a in x]

    X = [[-1.0, 2.0], [3.0, 1.0], [2.0, -1.0]]
    if loss == "binary_cross_entropy":
        X = [[0.2, 0.9], [0.7, 0.4], [0.6, 0.3]]
    model, held = Given(), (X, targets)
    still = optim.SGD(model.parameters(), lr=0.0)
    history = training.fit(
        model, X, targets, loss=loss, optimizer=still, epochs=1, engine=engine, validation=held
    )
    assert history.accuracy == history.validation_accuracy == [right]


def test_a_row_of_logits_for_each_of_several_labels_is_right_where_all_are():
    class Rows(nn.Module):
        def __init__(self):
            self.scale = Value(1.0)

        def __call__(self, x):
            return [[a * self.scale, 0.5, 0.0] for a in x]

    model = Rows()
    still = optim.SGD(model.parameters(), lr=0.0)
    X, y = [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], [[0, 1], [1, 1], [0, 0]]
    assert training.fit(model, X, y, optimizer=still, epochs=1).accuracy == [2 / 3]
    ignored = [[-100, 1], [1, -100], [0, -100]]
    assert training.fit(model, X, ignored, optimizer=still, epochs=1).accuracy == [2 / 3]


def test_held_out_examples_are_not_trained_on_and_the_callers_lists_stay():
    X, y = [[1.0], [2.0], [3.0], [4.0]], [0.0] * 4
    model = nn.MLP(1, [1], seed=0)
    trained = []

    def loss(out, target):
        trained.append(out.data)
        return losses.mse(out, target)

    training.fit(model, X, y, loss=loss, epochs=1, validation=0.5, batch_size=None)
    assert len(trained) == 2 + 2  # two to train on, two to validate on
    assert len(X) == len(y) == 4


@pytest.mark.parametrize("listing", [lambda f: [f], lambda f: (x for x in [f]), lambda f: f])
def test_callbacks_see_each_epoch_and_may_end_the_training(listing):
    model, X, y = model_and_data("hinge")
    epochs = []

    def callback(seen_model, history):
        assert seen_model is model
        epochs.append(len(history))
        return len(history) == 3

    history = training.fit(model, X, y, loss="hinge", epochs=10, callbacks=listing(callback))
    assert epochs == [1, 2, 3]
    assert len(history) == 3
    assert history.interrupted


@pytest.mark.parametrize("callbacks", [5, [5], "save", [None]])
def test_what_is_no_callback_is_refused_before_anything_changes(callbacks):
    model, X, y = model_and_data("hinge")
    before = model.state_dict()
    with pytest.raises(TypeError, match="callbacks are functions of model and history, got"):
        training.fit(model, X, y, loss="hinge", callbacks=callbacks)
    assert model.state_dict() == before


@pytest.mark.parametrize("answer", [True, False, None, 1, "done", [True]])
def test_true_alone_ends_the_training_be_it_numpys_or_not(answer):
    np = pytest.importorskip("numpy")
    numpys = [np.array([answer])[0], np.array(answer)] if isinstance(answer, bool) else []
    for given in [answer, *numpys]:
        model, X, y = model_and_data("hinge")
        ends = [lambda model, history: given]  # noqa: B023
        history = training.fit(model, X, y, loss="hinge", epochs=2, callbacks=ends)
        assert len(history) == (1 if answer is True else 2)


def test_control_c_returns_what_was_learned_so_far():
    model, X, y = model_and_data("hinge")
    snapshots = []

    def interrupt(_, history):
        snapshots.append(model.state_dict())
        if len(history) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    history = training.fit(model, X, y, loss="hinge", epochs=50, callbacks=[interrupt])
    assert history.interrupted
    assert 2 <= len(history) < 50
    assert all(math.isfinite(p.data) for p in model.parameters())
    assert model.state_dict() != nn.MLP(2, [8, 1], seed=0).state_dict()


def test_a_step_cut_in_half_by_control_c_is_undone():
    model = nn.MLP(2, [2, 1], seed=0)

    class Torn(optim.SGD):
        steps = 0

        def step(self):
            self.steps += 1
            if self.steps == 2:
                self.params[0].data = 99.0
                raise KeyboardInterrupt
            super().step()

    before = []
    descent = Torn(model.parameters(), lr=0.1)
    training.fit(
        model, XOR, [0, 1, 1, 0], loss="mse", optimizer=descent, epochs=3, batch_size=None,
        callbacks=[lambda m, h: before.append(m.state_dict())],
    )  # fmt: skip
    assert model.state_dict() == before[0]


@pytest.mark.filterwarnings("error")
def test_a_loss_that_is_not_finite_stops_at_the_last_good_state():
    model = nn.MLP(1, [1], seed=0)
    start = model.state_dict()
    descent = optim.SGD(model.parameters(), lr=1e200)
    with pytest.raises(ValueError, match="batch 1 of epoch 2") as caught:
        training.fit(model, [[1.0], [2.0]], [3.0, 4.0], loss="mse", optimizer=descent,
                     epochs=5, batch_size=None)  # fmt: skip
    assert (caught.value.epoch, caught.value.batch) == (2, 1)
    assert isinstance(caught.value, MicrogradError)
    assert model.state_dict() == start  # the one step led away from it


def test_a_step_to_infinity_is_undone_also_when_it_is_the_last():
    model = nn.MLP(1, [1], seed=0)
    start = model.state_dict()
    descent = optim.SGD(model.parameters(), lr=1e308)
    with pytest.raises(ValueError, match="not finite in batch 1 of epoch 1"):
        training.fit(model, [[1e3]], [1e3], loss="mse", optimizer=descent, epochs=1)
    assert model.state_dict() == start


BAD = {
    "no examples": (dict(X=[], y=[]), "empty"),
    "lengths": (dict(y=[0, 1]), "4 rows, but y has 2"),
    "ragged": (dict(X=[[0, 1], [1], [0, 1], [1, 1]]), "row 1 of X has 1 numbers"),
    "NaN": (dict(X=[[0, 1], [1, math.nan], [0, 1], [1, 1]]), r"X\[1\]\[1\] is nan"),
    "width": (dict(X=[[0.0]] * 4), "takes 2 inputs, got 1"),
    "a label out of range, at the end": (dict(y=[0, 1, 1, 2]), "from 0 to 1"),
    "a fractional label": (dict(y=[0, 1, 0.5, 1]), "integer"),
    "loss": (dict(loss="no_loss"), "no loss 'no_loss'"),
    "optimizer": (dict(optimizer="no_optimizer"), "no optimizer"),
    "epochs": (dict(epochs=0), "epochs"),
    "batch size": (dict(batch_size=0), "batch_size"),
    "fractional batch size": (dict(batch_size=2.5), "batch_size"),
    "engine": (dict(engine="quantum"), "quantum"),
    "validation": (dict(validation=1.5), "fraction"),
    "too small a validation": (dict(validation=0.01), "fraction"),
    "a validation of other rows": (dict(validation=([[1.0]], [1])), "rows of 1 numbers, X of 2"),
    "half a validation": (dict(validation=([[1.0, 1.0]],)), "pair"),
    "a validation of NaN": (dict(validation=math.nan), "fraction"),
    "no loss": (dict(loss=None), "a loss is"),
    "an optimizer's class": (dict(optimizer=optim.Adam), "an optimizer is"),
    "no X": (dict(X=None), "lists or arrays"),
    "a bad label to validate": (dict(validation=([[1, 1]], [7])), "from 0 to 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_data_that_does_not_fit_is_refused_before_anything_changes(name):
    options, says = BAD[name]
    model = nn.MLP(2, [3, 2], seed=0)
    before = model.state_dict()
    arguments = {"X": XOR, "y": [0, 1, 1, 0], "epochs": 1, "batch_size": 1, **options}
    with pytest.raises(ValueError, match=says) as caught:
        training.fit(model, arguments.pop("X"), arguments.pop("y"), **arguments)
    assert isinstance(caught.value, MicrogradError)
    assert model.state_dict() == before


def test_an_optimizer_of_another_model_is_refused():
    other = nn.MLP(2, [2], seed=0)
    with pytest.raises(ValueError, match="not this model's"):
        training.fit(nn.MLP(2, [2]), XOR, [0, 1, 1, 0], optimizer=optim.SGD(other.parameters()))


@pytest.mark.parametrize("enabled", [True, False])
def test_the_cyclic_collector_pauses_and_is_left_as_it_was_found(enabled):
    model = nn.MLP(2, [1], seed=0)
    states = []
    was = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        training.fit(model, XOR, [0, 1, 1, 0], loss="mse", epochs=1,
                     callbacks=[lambda *_: states.append(gc.isenabled())])  # fmt: skip
        states.append(gc.isenabled())
        with pytest.raises(ZeroDivisionError):
            training.fit(model, XOR, [0, 1, 1, 0], loss=lambda *_: 1 / 0, epochs=1)
        states.append(gc.isenabled())
    finally:
        (gc.enable if was else gc.disable)()
    assert states == [False, enabled, enabled]


def test_progress_shows_a_bar_where_tqdm_is_installed(capsys):
    pytest.importorskip("tqdm")
    model = nn.MLP(2, [1], seed=0)
    training.fit(model, XOR, [0, 1, 1, 0], loss="mse", epochs=2, progress=True)
    assert "2/2" in capsys.readouterr().err
    training.fit(model, XOR, [0, 1, 1, 0], loss="mse", epochs=2)
    assert capsys.readouterr().err == ""


def test_the_history_has_one_row_an_epoch():
    model = nn.MLP(2, [2], seed=0)
    history = training.fit(model, XOR, [0, 1, 1, 0], epochs=2)
    assert [list(row) for row in history.rows()] == [["epoch", "loss", "accuracy"]] * 2
    assert history.rows()[1]["epoch"] == 2


def test_a_target_that_is_not_finite_is_named():
    model = nn.MLP(2, [1], seed=0)
    with pytest.raises(ValueError, match=r"y\[1\] is nan"):
        training.fit(model, XOR, [0.0, math.nan, 1.0, 0.0], loss="mse", epochs=1)


def test_a_column_of_targets_trains_like_a_list():
    runs = []
    for y in ([0.0, 1.0, 1.0, 0.0], [[0.0], [1.0], [1.0], [0.0]]):
        model = nn.MLP(2, [2, 1], seed=0)
        training.fit(model, XOR, y, loss="mse", epochs=2)
        runs.append(model.state_dict())
    assert runs[0] == runs[1]


def test_numpys_integers_are_whole_numbers():
    numpy = pytest.importorskip("numpy")
    two = numpy.int64(2)
    model = nn.MLP(two, [two], seed=two)
    assert model.state_dict() == nn.MLP(2, [2], seed=2).state_dict()
    history = training.fit(model, XOR, [0, 1, 1, 0], epochs=two, batch_size=two, seed=two)
    assert len(history) == 2


def test_numpys_integers_neither_overflow_nor_become_floats():
    numpy = pytest.importorskip("numpy")
    for epochs in (numpy.int8(127), numpy.uint64(2)):
        history = training.fit(nn.Neuron(2, seed=0), XOR, [0, 1, 1, 0], loss="mse", epochs=epochs)
        assert len(history) == epochs


def test_a_loss_that_leaves_its_domain_is_undone_and_names_epoch_and_batch():
    model = nn.MLP(1, [1], output_activation="sigmoid", seed=0)
    descent = optim.SGD(model.parameters(), lr=1e6)
    with pytest.raises(ValueError, match=r"is defined on .* in batch \d of epoch \d") as caught:
        training.fit(model, [[1.0], [1.1]], [0, 1], loss="binary_cross_entropy",
                     optimizer=descent, epochs=9, batch_size=1)  # fmt: skip
    assert isinstance(caught.value, MicrogradError)
    assert all(0.0 < model([x]).data < 1.0 for x in (1.0, 1.1))


def test_control_c_while_validating_leaves_a_history_of_whole_epochs():
    model = nn.MLP(2, [2, 1], seed=0)
    calls = []

    def loss(out, target):
        calls.append(target)
        if len(calls) == 6 + 5:  # four to train on and two to validate on, then again
            raise KeyboardInterrupt
        return losses.mse(out, target)

    history = training.fit(
        model, XOR, [0, 1, 1, 0], loss=loss, epochs=3, validation=(XOR[:2], [0, 1])
    )
    assert history.interrupted
    assert [len(history.loss), len(history.validation_loss)] == [1, 1]
    assert len(history.rows()) == 1


def test_control_c_between_steps_keeps_the_latest_step():
    model = nn.MLP(2, [2, 1], seed=0)
    seen = []

    def interrupt(_, history):
        seen.append(model.state_dict())
        raise KeyboardInterrupt

    history = training.fit(
        model, XOR, [0, 1, 1, 0], loss="mse", epochs=3, batch_size=None, callbacks=[interrupt]
    )
    assert history.interrupted
    assert [model.state_dict()] == seen


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_an_optimizer_by_name_has_its_rate(name):
    kind, rate = {"sgd": (optim.SGD, 0.1), "adam": (optim.Adam, 0.01)}[name]
    weights = []
    for by_name in (True, False):
        model = nn.MLP(2, [1], seed=0)
        rule = name if by_name else kind(model.parameters(), lr=rate)
        training.fit(model, XOR, [0, 1, 1, 0], loss="mse", optimizer=rule, epochs=2)
        weights.append(model.state_dict())
    assert weights[0] == weights[1]
    with pytest.raises(ValueError, match="needs a Module"):
        training.fit(lambda x: x[0], XOR, [0, 1, 1, 0], optimizer=name)


def test_nothing_is_learned_within_no_grad_which_says_so():
    model = nn.MLP(2, [2], seed=0)
    before = model.state_dict()
    with no_grad(), pytest.raises(ValueError, match="none within no_grad") as caught:
        training.fit(model, XOR, [0, 1, 1, 0], epochs=1)
    assert isinstance(caught.value, MicrogradError)
    assert model.state_dict() == before


def test_a_callback_that_leaves_no_grad_open_is_found():
    block = no_grad()
    try:
        with pytest.raises(ValueError, match="none within no_grad"):
            training.fit(
                nn.MLP(2, [2], seed=0), XOR, [0, 1, 1, 0],
                callbacks=[lambda model, history: block.__enter__() and None],
            )  # fmt: skip
    finally:
        block.__exit__(None, None, None)
