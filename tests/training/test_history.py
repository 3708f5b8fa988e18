"""history.py: one row an epoch, whole or not at all; a break changes nothing."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrograd_like import MicrogradError, nn, optim, training
from micrograd_like.datasets import moons
from micrograd_like.training import History
from micrograd_like.training.engines import Eager

ROWS = [{"loss": 0.5, "accuracy": 0.25}, {"loss": 0.125, "accuracy": 1.0}]


def history():
    made = History()
    for row in ROWS:
        made.begin_epoch()
        made.end_epoch(row)
    return made


def test_it_is_read_by_column_and_by_row():
    made = history()
    assert len(made) == 2
    assert (made.loss, made.accuracy) == ([0.5, 0.125], [0.25, 1.0])
    assert made.validation_loss == made.validation_accuracy == []
    assert made.columns()["accuracy"] == made.accuracy
    assert made.rows() == [{"epoch": 1, **ROWS[0]}, {"epoch": 2, **ROWS[1]}]
    assert repr(made) == "<History of 2 epochs, {'epoch': 2, 'loss': 0.125, 'accuracy': 1.0}>"
    assert repr(History()) == "<History of 0 epochs>"


def test_an_epoch_that_was_begun_and_not_ended_is_no_row():
    made = history()
    assert not made.mid_epoch
    made.begin_epoch()
    assert made.mid_epoch
    assert len(made) == 2
    made.end_epoch(ROWS[0])
    assert not made.mid_epoch


def test_what_does_not_fit_adds_nothing():
    made = history()
    made.begin_epoch()
    with pytest.raises(KeyError):
        made.end_epoch({"loss": 0.0, "accuracy": 0.0, "error": 0.0})
    assert made.mid_epoch
    assert made.rows() == history().rows()
    assert [len(column) for column in made.columns().values()] == [2, 2, 0, 0]


DATA = moons(30)
RULES = {
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: optim.Adam(p, lr=0.02, betas=(0.8, 0.99)),
}


def network(seed=0, **options):
    return nn.MLP(2, [3, 2], **{"activation": "tanh", "seed": seed, **options})


def bits(model):
    return [p.data.hex() for p in model.parameters()]


def trained(model, epochs, rule="adam", X=DATA.X, y=DATA.y, **options):
    descent = RULES[rule](model.parameters()) if isinstance(rule, str) else rule
    options = {"batch_size": 7, "seed": 3} | options
    return training.fit(model, X, y, optimizer=descent, epochs=epochs, **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.json"


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("options", [{}, {"validation": 0.3}, {"seed": None}], ids=str)
def test_a_break_after_any_epoch_changes_no_bit(path, engine, rule, options):
    straight = network()
    if options == {"seed": None}:  # drawn, and kept in the file
        trained(straight, 1, rule, engine=engine, **options, callbacks=[training.checkpoint(path)])
        seed = json.loads(path.read_text(encoding="utf-8"))["training"]["run"]["seed"]
        straight = network()
        whole = trained(straight, 5, rule, engine=engine, seed=seed)
    else:
        whole = trained(straight, 5, rule, engine=engine, **options)
        first = network()
        trained(first, 2, rule, engine=engine, **options, callbacks=[training.checkpoint(path)])
    second = network(seed=9)
    history = trained(second, 4, rule, engine=engine, **options, resume=path,
                      callbacks=[training.checkpoint(path)])  # fmt: skip
    third = network(seed=10)
    history = trained(third, 5, rule, engine=engine, **options, resume=path)
    assert bits(third) == bits(straight) != bits(second)
    assert history.rows() == whole.rows()
    assert not history.interrupted


@settings(max_examples=15)
@given(done=st.integers(1, 4), rows=st.integers(2, 30), size=st.integers(1, 40))
def test_the_order_of_examples_goes_on_too(tmp_path_factory, done, rows, size):
    path = tmp_path_factory.getbasetemp() / "order.json"
    orders = []
    for epochs, options in (
        (5, {}),
        (done, {"callbacks": [training.checkpoint(path)]}),
        (5, {"resume": path}),
    ):
        seen = []

        def loss(out, target, seen=seen):
            seen.append(target)
            return out * 0.0

        X = [float(i) for i in range(rows)]
        training.fit(nn.MLP(1, [1], seed=0), X, X, loss=loss, epochs=epochs, batch_size=size,
                     **options)  # fmt: skip
        orders.append(seen)
    assert orders[0] == orders[1] + orders[2]


def test_a_memory_mapped_array_and_batches_are_gone_on_with(path, tmp_path):
    numpy = pytest.importorskip("numpy")
    numpy.save(tmp_path / "X.npy", numpy.array(DATA.X))
    late = numpy.load(tmp_path / "X.npy", mmap_mode="r")
    pairs = [(DATA.X[:20], DATA.y[:20]), (DATA.X[20:], DATA.y[20:])]
    for data in ((late, DATA.y), (pairs,)):
        straight, first, second = network(), network(), network(seed=1)
        training.fit(straight, *data, epochs=4)
        training.fit(first, *data, epochs=2, callbacks=[training.checkpoint(path)])
        training.fit(second, *data, epochs=4, resume=path)
        assert bits(second) == bits(straight)
    once = network()
    training.fit(once, iter(pairs), epochs=3, resume=path)  # one epoch is left
    training.fit(straight := network(), pairs, epochs=3)
    assert bits(once) == bits(straight)


def test_the_rate_that_a_callback_set_goes_on_too(path):
    def halve(descent):
        def callback(model, history):
            descent.lr /= 2.0

        return callback

    straight = network()
    rule = optim.SGD(straight.parameters(), lr=0.5, momentum=0.5)
    trained(straight, 4, rule, callbacks=[halve(rule)])
    first, second = network(), network()
    rule = optim.SGD(first.parameters(), lr=0.5, momentum=0.5)
    trained(first, 2, rule, callbacks=[halve(rule), training.checkpoint(path)])
    rule = optim.SGD(second.parameters(), lr=0.5, momentum=0.5)
    trained(second, 4, rule, callbacks=[halve(rule)], resume=path)
    assert bits(second) == bits(straight)


def test_control_c_in_the_middle_of_an_epoch_goes_on_from_the_last_whole_one(path):
    straight = network()
    trained(straight, 3)
    torn = network()

    class Torn(optim.Adam):
        def step(self):
            super().step()
            if self.state_dict()["memory"]["steps"] == 7:  # of 5 a whole epoch
                raise KeyboardInterrupt

    rule = Torn(torn.parameters(), lr=0.02, betas=(0.8, 0.99))
    save = training.checkpoint(path)
    history = trained(torn, 3, rule, callbacks=[save])
    assert history.interrupted
    assert history.mid_epoch
    with pytest.raises(ValueError, match="after a whole epoch"):
        save(torn, history)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["training"]["run"]["optimizer"] = content["training"]["optimizer"]["rule"] = "Adam"
    path.write_text(json.dumps(content), encoding="utf-8")
    trained(torn, 3, resume=path)
    assert bits(torn) == bits(straight)


def test_a_run_that_is_done_gives_its_history_and_its_model(path):
    model = network()
    history = trained(model, 2, callbacks=[training.checkpoint(path)])
    other = network(seed=1)
    again = trained(other, 2, resume=path)
    assert again.rows() == history.rows()
    assert bits(other) == bits(model)


def test_the_file_is_a_model_file_with_whatever_is_written_along(path):
    model = network()
    trained(model, 2, callbacks=[training.checkpoint(path, note="mine")])
    other = network(seed=1)
    other.load(path)
    assert bits(other) == bits(model)
    assert json.loads(path.read_text(encoding="utf-8"))["note"] == "mine"


OTHERWISE = {
    "seed": ({"seed": 4}, "seed was 3, is 4"),
    "batch size": ({"batch_size": 8}, "batch_size was 7, is 8"),
    "data": ({"X": [[0.5, 0.5], *DATA.X[1:]]}, "the data differs"),
    "a target": ({"y": [1 - DATA.y[0], *DATA.y[1:]]}, "the data differs"),
    "order": ({"X": DATA.X[::-1], "y": DATA.y[::-1]}, "the data differs"),
    "fewer examples": (
        {"X": DATA.X[:-1], "y": DATA.y[:-1]},
        "examples was 30, is 29",
    ),
    "validation": ({"validation": (DATA.X, DATA.y)}, "validation was None, is 30"),
    "loss": (
        {"loss": "hinge", "y": [1.0] * 30, "model": nn.MLP(2, [1])},
        "loss was 'cross_ent",
    ),
    "rule": ({"rule": "momentum"}, "optimizer was 'Adam', is 'SGD'"),
    "lr": ({"lr": 0.03}, "lr was 0.02, is 0.03"),
    "model": ({"model": nn.MLP(2, [4, 2])}, "the model differs"),
    "activation": ({"model": network(activation="relu")}, "the model differs"),
    "epochs": ({"epochs": 1}, "2 epochs, 1 in all"),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_differs_from_the_first_part_is_named_and_nothing_changes(path, name):
    options, says = OTHERWISE[name]
    trained(network(), 2, callbacks=[training.checkpoint(path)])
    options = {"model": network(seed=5), "epochs": 3, **options}
    model = options.pop("model")
    rule = options.pop("rule", "adam")
    rule = RULES[rule](model.parameters())
    rule.lr = options.pop("lr", rule.lr)
    before, state = bits(model), rule.state_dict()
    with pytest.raises(ValueError, match=says) as caught:
        trained(model, rule=rule, resume=path, **options)
    assert isinstance(caught.value, MicrogradError)
    assert bits(model) == before
    assert rule.state_dict() == state


def without(*names):
    def change(content):
        *way, last = names
        for name in way:
            content = content[name]
        del content[last]

    return change


def with_(value, *names):
    def change(content):
        *way, last = names
        for name in way:
            content = content[name]
        content[last] = value

    return change


MEMORY = ("training", "optimizer", "memory")
BROKEN = {
    "no training": without("training"),
    "training of another kind": with_([1], "training"),
    "no run": without("training", "run"),
    "a run of another kind": with_("run", "training", "run"),
    "no seed": without("training", "run", "seed"),
    "a seed of another kind": with_([0], "training", "run", "seed"),
    "no optimizer": without("training", "optimizer"),
    "no rule": without("training", "optimizer", "rule"),
    "a text for settings": with_("abc", "training", "optimizer", "settings"),
    "another setting": with_(1.0, "training", "optimizer", "settings", "gain"),
    "a setting out of range": with_(-1.0, "training", "optimizer", "settings", "lr"),
    "betas out of range": with_([0.9, 1.0], "training", "optimizer", "settings", "betas"),
    "no memory": without(*MEMORY),
    "no steps": without(*MEMORY, "steps"),
    "half a step": with_(1.5, *MEMORY, "steps"),
    "steps without end": with_(10**400, *MEMORY, "steps"),
    "steps before the first": with_(-1, *MEMORY, "steps"),
    "too few moments": with_([0.0], *MEMORY, "m"),
    "a text among the moments": with_(["x"] * 17, *MEMORY, "m"),
    "a negative square": with_([-1.0] * 17, *MEMORY, "v"),
    "no history": without("training", "history"),
    "a list too short": with_([0.5], "training", "history", "accuracy"),
    "a list too many": with_([0.5, 0.5], "training", "history", "validation_loss"),
    "a text in a list": with_(["a", "b"], "training", "history", "loss"),
    "no epochs": with_([], "training", "history", "loss"),
    "columns of another kind": with_(5, "training", "run", "columns"),
    "a parameter too few": without("parameters", "layers[0].neurons[0].b"),
    "a parameter of another kind": with_("x", "parameters", "layers[0].neurons[0].b"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_broken_is_refused_and_nothing_changes(path, name):
    trained(network(), 2, callbacks=[training.checkpoint(path)])
    content = json.loads(path.read_text(encoding="utf-8"))
    BROKEN[name](content)
    path.write_text(json.dumps(content), encoding="utf-8")
    model = network(seed=5)
    rule = RULES["adam"](model.parameters())
    before, state = bits(model), rule.state_dict()
    with pytest.raises(ValueError, match=r"model\.json") as caught:
        trained(model, 3, rule, resume=path)
    assert isinstance(caught.value, MicrogradError)
    assert bits(model) == before
    assert rule.state_dict() == state


def test_what_is_not_finite_is_not_written_and_the_old_file_stays(path):
    model = network()
    rule = RULES["adam"](model.parameters())
    save = training.checkpoint(path)
    history = trained(model, 1, rule, callbacks=[save])
    before = path.read_bytes()
    rule.state_dict()["memory"]["v"][0] = math.inf
    with pytest.raises(ValueError, match="only finite numbers") as caught:
        save(model, history)
    assert isinstance(caught.value, MicrogradError)
    assert path.read_bytes() == before


def test_resuming_needs_a_module(path):
    model = network()
    trained(model, 1, callbacks=[training.checkpoint(path)])
    rule = RULES["adam"](model.parameters())
    with pytest.raises(ValueError, match="Module"):
        trained(lambda x: model(x), 2, rule, resume=path)
    with pytest.raises(FileNotFoundError):
        trained(model, 2, resume="nothing.json")


def test_a_loss_that_is_not_finite_after_a_break_leaves_what_the_file_has(path, monkeypatch):
    model, other = network(), network(seed=1)
    trained(model, 2, callbacks=[training.checkpoint(path)])
    monkeypatch.setattr(Eager, "__call__", lambda *_: math.inf)
    with pytest.raises(ValueError, match="the loss is inf in batch 1 of epoch 3"):
        trained(other, 3, resume=path)
    assert bits(other) == bits(model)
