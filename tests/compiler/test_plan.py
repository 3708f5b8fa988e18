"""plan.py: what the arrays of a step are called, and which Values they have."""

from functools import partial
from itertools import pairwise

import pytest

from micrograd_like import Value, compile_step, losses, optim, take, tanh, training
from micrograd_like.compiler.plan import named_parameters
from micrograd_like.errors import OperandError

pytest.importorskip("numpy")


def matrix(rows, columns, scale=0.1):
    return [[Value(scale * (i - j) + 0.05) for j in range(columns)] for i in range(rows)]


def labels_of(tree):
    return named_parameters(tree)[1]


def test_keys_and_places_are_labels():
    a, b = matrix(2, 2), [Value(1.0), Value(2.0)]
    assert labels_of({"a": a, "b": b, "c": b[0]}) == [
        "a[0][0]", "a[0][1]", "a[1][0]", "a[1][1]", "b[0]", "b[1]"
    ]  # fmt: skip
    assert labels_of({"layers": [{"w": b}, {"w": a[0]}]}) == [
        "layers_0_w[0]", "layers_0_w[1]", "layers_1_w[0]", "layers_1_w[1]"
    ]  # fmt: skip


def test_lists_of_more_than_a_matrix_are_several_arrays():
    a, b = matrix(1, 2), [Value(1.0)]
    assert labels_of({"w": [a, b, Value(0.0)]}) == ["w_0[0][0]", "w_0[0][1]", "w_1[0]", "w_2"]
    assert labels_of([a, b]) == ["x0[0][0]", "x0[0][1]", "x1[0]"]
    assert labels_of([[Value(1.0), Value(2.0)], [Value(3.0)]]) == ["x0[0]", "x0[1]", "x1[0]"]
    assert labels_of(matrix(2, 1)) == ["x[0][0]", "x[1][0]"]
    assert labels_of([Value(1.0), Value(2.0)]) == ["", ""]
    assert labels_of([[Value(1.0, "k")], [Value(2.0, "l")]]) == ["k", "l"]


def test_what_is_no_value_is_refused():
    with pytest.raises(OperandError, match="got 3"):
        named_parameters({"a": [Value(1.0), 3]})


def program(tree, head):
    """A loss of tokens that has its parameters in variables of its own."""

    def scores(token):
        return [tanh(sum(w * x for w, x in zip(row, take(tree, token), strict=True)))
                for row in head]  # fmt: skip

    def loss(tokens):
        pairs = pairwise(tokens)
        return losses.mean([losses.cross_entropy(scores(t), after) for t, after in pairs])

    return loss


def flat(*matrices):
    return [p for rows in matrices for row in rows for p in row]


def test_parameters_in_a_list_are_the_arrays_that_the_loss_has():
    tree, head = matrix(4, 3), matrix(4, 3)
    loss, batch = program(tree, head), [[0, 1, 2, 3], [2, 1]]
    by_name = compile_step(loss, {"tree": tree, "head": head}, batch[0])
    expected = by_name.value_and_grad(batch)
    for parameters in (flat(tree, head), [tree, head]):
        step = compile_step(loss, parameters, batch[0])
        assert step.report().statements == by_name.report().statements
        value, gradient = step.value_and_grad(batch)
        assert value == pytest.approx(expected[0], rel=1e-12)
        assert gradient.tolist() == pytest.approx(expected[1].tolist(), rel=1e-12)


class Model:
    def __init__(self):
        self.rows, self.bias = matrix(2, 3), [Value(0.1), Value(0.2)]
        self.every = [*flat(self.rows), *self.bias]

    def loss(self, xs, scale=1.0):
        z = [sum(w * x for w, x in zip(row, xs, strict=True)) for row in self.rows]
        return sum((a + b) ** 2 for a, b in zip(z, self.bias, strict=True)) * scale


GLOBAL = matrix(2, 2)


def of_globals(x):
    return sum(p * x for row in GLOBAL for p in row)


@pytest.mark.parametrize("name", ["method", "partial", "lambda", "object in a list", "global"])
def test_wherever_a_loss_has_them(name):
    model = Model()
    models = [model]
    loss, parameters, example = {
        "method": (model.loss, model.every, [1.0, 2.0, 3.0]),
        "partial": (partial(model.loss, scale=2.0), model.every, [1.0, 2.0, 3.0]),
        "lambda": (lambda xs: model.loss(xs), model.every, [1.0, 2.0, 3.0]),
        "object in a list": (lambda xs: models[0].loss(xs), model.every, [1.0, 2.0, 3.0]),
        "global": (of_globals, flat(GLOBAL), 1.0),
    }[name]
    source = compile_step(loss, parameters, example).source
    assert ("GLOBAL = values.reshape(2, 2)" if name == "global" else "bias = values[6:8]") in source
    assert " x = values" not in source


def test_fit_names_them_so_too(monkeypatch):
    model, sources = Model(), []
    compiled = compile_step

    def kept(*arguments, **options):
        sources.append(compiled(*arguments, **options))
        return sources[-1]

    monkeypatch.setattr("micrograd_like.compiler.compile_step", kept)
    training.fit(model.every, [[1.0, 2.0, 3.0]] * 3, loss=model.loss, epochs=1, engine="compiled",
                 optimizer=optim.SGD(model.every, lr=0.01))  # fmt: skip
    assert "rows = values[:6].reshape(2, 3)" in sources[0].source
