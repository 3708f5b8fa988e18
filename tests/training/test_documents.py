"""fit on examples of any length, which a loss takes whole: texts of tokens, or tuples."""

import json
import math
import random
import warnings
from itertools import chain, pairwise

import pytest

from micrograd_like import (
    MicrogradError,
    Value,
    compile_forward,
    compile_step,
    log,
    losses,
    nn,
    optim,
    take,
    training,
)
from micrograd_like.errors import DivergenceError, DomainError, InputError, OperandError

RNG = random.Random(3)
TEXTS = [[RNG.randrange(4) for _ in range(RNG.randrange(2, 6))] for _ in range(13)]


def parameters():
    rng = random.Random(0)
    rows = [[Value(rng.uniform(-1, 1)) for _ in range(4)] for _ in range(4)]
    return {"table": rows, "scale": Value(1.0)}


def loss_of(parameters):
    def loss(tokens):
        rows = [(take(parameters["table"], a), b) for a, b in pairwise(tokens)]
        scale = parameters["scale"]
        return losses.mean([losses.cross_entropy([scale * z for z in row], b) for row, b in rows])

    return loss


class Chain(nn.Module):
    """A model that is not called: it has a loss."""

    def __init__(self):
        self.weights = parameters()

    def loss(self, tokens):
        return loss_of(self.weights)(tokens)


def fitted(engine, epochs=3, **options):
    if engine != "eager":
        pytest.importorskip("numpy")
    values = parameters()
    options = {"loss": loss_of(values), "batch_size": 4} | options
    history = training.fit(values, TEXTS, epochs=epochs, engine=engine, **options)
    every = [p.data for row in values["table"] for p in row]
    return [*every, values["scale"].data], history


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("options", [{}, {"validation": 0.3}, {"validation": TEXTS[:3]}], ids=str)
def test_both_engines_learn_the_same(options):
    (expected, told), (found, history) = (fitted(e, **options) for e in ("eager", "compiled"))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert history.loss == pytest.approx(told.loss, rel=1e-9)
    assert history.validation_loss == pytest.approx(told.validation_loss, rel=1e-9)
    assert len(history.validation_loss) == (3 if options else 0)
    assert history.accuracy == []
    assert history.loss[-1] < history.loss[0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("engine", ["numba", "jax"])
def test_other_engines_learn_the_same(engine):
    pytest.importorskip(engine)
    (expected, _), (found, _) = fitted("eager", epochs=2), fitted(engine, epochs=2)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_optimizers_go_by_name():
    for name, rule in {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}.items():
        assert type(fitted("eager", epochs=1, optimizer=name)[1].optimizer) is rule


REFUSED = {
    "a domain": (DomainError, lambda w, x: log(w * w * x[0])),
    "a choice": (InputError, lambda w, x: take([w, w], x[0]) * 1.0),
    "a list": (OperandError, lambda w, x: w * ([w] if len(x) == 1 else 1.0)),
    "no values": (InputError, lambda w, x: sum(losses.softmax([w] * (len(x) - 1))) * x[0]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_loss_refuses_is_raised_as_the_engine_raises_it(name):
    pytest.importorskip("numpy")
    error, of = REFUSED[name]
    w, bad, good = Value(2.0), [-1.0], [1.0, 1.0]

    def loss(x):
        return of(w, x)

    def learn():
        with compile_step(loss, [w], good).training(optim.SGD([w])) as step:
            step([bad])

    paths = {
        "the engine": lambda: loss(bad),
        "the first example": lambda: compile_step(loss, [w], bad),
        "a later one": lambda: compile_step(loss, [w], good)([bad]),
        "in a batch": lambda: compile_step(loss, [w], good)([good, bad]),
        "without a gradient": lambda: compile_step(loss, [w], good).evaluate([bad]),
        "a function": lambda: compile_forward(loss, [w], good)(bad),
        "learned": learn,
    }
    for path, call in paths.items():
        with pytest.raises(MicrogradError) as caught:
            call()
        assert type(caught.value) is error, path
        assert "is used at" not in str(caught.value)
    expected = DivergenceError if error is DomainError else error
    for engine in ("eager", "compiled"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is not compiled
            with pytest.raises(expected):
                training.fit([w], [bad, good], loss=loss, engine=engine, optimizer=optim.SGD([w]))
    assert w.data == 2.0


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_break_changes_no_bit_and_the_file_has_the_names_of_the_parameters(tmp_path, engine):
    path = tmp_path / "model.json"
    straight, whole = fitted(engine, 4)
    fitted(engine, 2, callbacks=[training.checkpoint(path)])
    content = json.loads(path.read_text(encoding="utf-8"))
    assert list(content["parameters"]) == [
        *(f"table[{i}][{j}]" for i in range(4) for j in range(4)), "scale"
    ]  # fmt: skip
    again, history = fitted(engine, 4, resume=path)
    assert [x.hex() for x in again] == [x.hex() for x in straight]
    assert history.rows() == whole.rows()
    with pytest.raises(ValueError, match="the data differs"):
        training.fit(values := parameters(), TEXTS[::-1], loss=loss_of(values), epochs=4,
                     batch_size=4, resume=path)  # fmt: skip


def test_a_module_that_is_not_called_has_a_loss():
    model, values = Chain(), parameters()
    training.fit(model, TEXTS, epochs=2)
    training.fit(values, TEXTS, loss=loss_of(values), epochs=2)
    every = [*chain(*values["table"]), values["scale"]]
    assert [p.data for p in model.parameters()] == [p.data for p in every]


def test_parameters_come_in_a_list_and_examples_in_tuples():
    weights = {}
    for engine in ("eager", "compiled"):
        if engine != "eager":
            pytest.importorskip("numpy")
        w = [Value(0.5), Value(-0.5)]
        examples = [([0.1 * i] * (1 + i % 2), float(i)) for i in range(8)]

        def loss(xs, t, w=w):
            return (w[0] * sum(xs) + w[1] - t) ** 2

        training.fit(w, examples, loss=loss, optimizer=optim.SGD(w, lr=0.01), epochs=2,
                     batch_size=3, engine=engine)  # fmt: skip
        weights[engine] = [p.data for p in w]
    assert weights["compiled"] == pytest.approx(weights["eager"], rel=1e-9)


BAD = {
    "targets": (dict(y=[1]), "no targets beside"),
    "no examples": (dict(X=[]), "the list is empty"),
    "no list": (dict(X=3), "come in lists"),
    "NaN": (dict(X=[[0, 1], [2, math.nan]]), r"example 1\[1\] is nan"),
    "an empty one": (dict(X=[[0, 1], [], [2]]), "example 1 is empty"),
    "an empty one in tuples": (dict(X=[([0], 1), ([], ())]), "example 1 is empty"),
    "an empty one to validate on": (dict(validation=[[]]), "example 0 is empty"),
    "a text": (dict(X=[[0, 1], "ab"]), "example 1: cannot compute with 'ab'"),
    "no loss": (dict(loss="cross_entropy"), "need a loss"),
    "no parameters": (dict(model=[]), "or has parameters to learn, not"),
    "a validation of batches": (dict(validation=(TEXTS, TEXTS)), "a list of examples or a frac"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused_before_anything_changes(name):
    values = parameters()
    options, says = BAD[name]
    options = {"model": values, "X": TEXTS, "loss": loss_of(values), "epochs": 1, **options}
    with pytest.raises((ValueError, TypeError), match=says) as caught:
        training.fit(options.pop("model"), options.pop("X"), **options)
    assert isinstance(caught.value, MicrogradError)
    assert values["scale"].data == 1.0
