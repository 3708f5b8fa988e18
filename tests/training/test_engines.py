"""engines.py: two ways to compute a batch, with the same two methods and the same answers."""

import math

import pytest

from micrograd_like import Value, nn, optim, training
from micrograd_like.datasets import moons
from micrograd_like.errors import MicrogradWarning
from micrograd_like.training import engines

DATA = moons(12)


def made(name, loss="cross_entropy", model=None):
    if name == "compiled":
        pytest.importorskip("numpy")
    model = model or nn.MLP(2, [3, 2 if loss == "cross_entropy" else 1], seed=0)
    descent = optim.SGD(model.parameters())
    sample = DATA.X[:4], DATA.y[:4]
    return model, engines.make(name, model, training.LOSSES[loss], descent, sample, None)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_both_give_the_mean_loss_its_gradient_and_the_number_of_right_labels(loss):
    answers = []
    for name in ("eager", "compiled"):
        model, engine = made(name, loss)
        mean, right = engine.differentiate(DATA.X, DATA.y)
        assert engine.evaluate(DATA.X, DATA.y) == (pytest.approx(mean, rel=1e-14), right)
        answers.append([mean, right, *(p.grad for p in model.parameters())])
    assert type(engine) is engines.Compiled
    assert answers[0] == pytest.approx(answers[1], rel=1e-12, abs=1e-15)
    assert any(answers[0][2:])
    assert 0 <= answers[0][1] <= (12 if loss == "cross_entropy" else 0)


@pytest.mark.parametrize("name", ["eager", "compiled"])
def test_a_batch_does_away_with_the_gradients_before_it_and_evaluation_leaves_them(name):
    model, engine = made(name)
    engine.differentiate(DATA.X, DATA.y)
    before = [p.grad for p in model.parameters()]
    engine.evaluate(DATA.X[:5], DATA.y[:5])
    assert [p.grad for p in model.parameters()] == before
    engine.differentiate(DATA.X, DATA.y)
    assert [p.grad for p in model.parameters()] == before


def test_evaluating_is_what_the_public_function_does():
    model, engine = made("eager")
    rule = training.LOSSES["cross_entropy"]
    assert training.evaluate(model, DATA.X, DATA.y, rule) == engine.evaluate(DATA.X, DATA.y)


def test_a_loss_that_is_not_finite_is_not_differentiated():
    model, engine = made("eager", "mse")
    model.layers[-1].neurons[0].b.data = 1e200
    assert engine.differentiate(DATA.X, DATA.y)[0] == math.inf
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
