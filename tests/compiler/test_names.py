"""Names of arrays: from labels, whatever they are."""

from __future__ import annotations

import pytest
from samples import BACKENDS, agrees

from micrograd_like import (
    Value,
    compile,
    compile_step,
    ops,
    take,
    tanh,
)
from micrograd_like.compiler.names import input_arrays


@pytest.mark.parametrize("form", ["w[{}]", "w_{}", "w{}", "a.w_{}", "layers[0].neurons[{}].b"])
def test_numbered_labels_are_an_array(form):
    xs = [Value(0.1 * i, form.format(i)) for i in (1, 0, 2)]
    ((name, shape, numbers),) = input_arrays([x.label for x in xs])
    assert name == {"a": "a_w", "l": "b1"}.get(form[0], "w")
    assert (shape, numbers) == ((3,), [1, 0, 2])


def test_labels_that_are_no_names_become_some():
    assert [input_arrays([label])[0][0] for label in ("__", "_", "", "np", "t1", "X_")] == [
        "v", "v", "x", "v_np", "t_1", "v_X"
    ]  # fmt: skip
    assert input_arrays(["a\nb_0", "a\nb_1"]) == [("a_b", (2,), [0, 1])]
    assert input_arrays([""]) == [("x", (), [0])]
    assert input_arrays(["", ""]) == [("x", (2,), [0, 1])]


def test_labels_of_nodes_name_their_arrays():
    xs = [Value(0.1 * i, f"x[{i}]") for i in range(2)]
    hidden = [tanh(2.0 * x) for x in xs]
    for i, h in enumerate(hidden):
        h.label = f"h[{i}]"
    root = hidden[0] * hidden[1]
    root.label = "loss[0]"
    source = compile(root, xs).source
    assert "    h = np.tanh(t1)\n    v_loss_0 = h[0] * h[1]\n" in source
    hidden[0].label = "g"
    assert "    t2 = np.tanh(t1)\n" in compile(root, xs).source  # of two names, none


@pytest.mark.parametrize(
    "label",
    ["lambda", "np", "values", "gradient", "outputs", "program", "ones2", "places1", "c1", "t5",
     "X", "X[0]", "tanh_[0]", "logaddexp_[1]", "1x", "a b", "∂", "", "def[0]", "_", "__"],
)  # fmt: skip
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_label_is_a_label(label, backend):
    xs = [Value(0.5, label), Value(-0.25, label), Value(1.5, f"{label}2")]
    root = sum((x * 0.3 + 1.0).tanh() * x for x in xs) + xs[0].sigmoid() * ops.logaddexp(*xs[:2])
    agrees(root, xs, backend)


def test_the_table_by_which_numbers_choose_has_a_name_of_its_own():
    rows = [[Value(0.3, "eye2[0][0]"), Value(0.5, "eye2[0][1]")], [Value(0.7), Value(0.9)]]

    def loss(i, eye2):
        return tanh(take(rows, i)[0] * eye2) + take(rows[0], i)

    step = compile_step(loss, [*rows[0], *rows[1]], (1, 2.0))
    assert step([(0, 1.0)]) == pytest.approx(loss(0, 1.0).data)
