"""A graph in symbols: each node has one of its own, and so has each derivative that is unknown."""

from __future__ import annotations

import re
from typing import Any

import pytest
from reference import labelled

from micrograd_like import Op, Value, affine, grad, ops
from micrograd_like.errors import InputError
from micrograd_like.views.derivation import derive
from micrograd_like.views.symbols import SymbolicGraph


def last(root: Value, wrt: Value, **options: Any) -> str:
    return derive(root, wrt, **options).text.splitlines()[-1]


def test_the_edges_are_the_parents_on_the_way_with_their_partials() -> None:
    x, y, c = Value(2.0, "x"), Value(3.0, "y"), Value(4.0, "c")
    v = labelled(x * y, "v")
    root = labelled(v * v + c.exp(), "r")
    graph = SymbolicGraph(root, [x], "")
    written = {
        graph.names[node]: [(graph.names[parent], d.text) for parent, d in edges]
        for node, edges in graph.edges.items()
    }
    assert written == {
        "x": [],
        "v": [("x", "y")],
        "v1": [("v", "v"), ("v", "v")],
        "r": [("v1", "1")],
    }
    assert graph.ratio(root, x).text == "∂r/∂x"
    assert graph.mentioned([graph.symbol(v) * 2.0]) == {v}


def test_negations_without_a_label_are_signs() -> None:
    x = Value(2.0, "x")
    y = (-x).tanh()
    graph = SymbolicGraph(y, [x], "")
    assert graph.operand(y.parents[0]).text == "-x"
    assert graph.operation(y, {}).text == "tanh(-x)"
    assert SymbolicGraph(y, [y.parents[0]], "").operand(y.parents[0]).text == "v1"


def test_a_sum_over_an_index_that_counts_up_is_a_sigma() -> None:
    def neuron(weight: str, entry: str, start: int = 0) -> str:
        ws = [Value(0.1, weight.format(i)) for i in range(20)]
        xs = [Value(1.0, entry.format(i + start)) for i in range(20)]
        z = affine(ws, xs, 0.0)
        return SymbolicGraph(z, ws, "").operation(z, {}).text

    assert neuron("w[{}]", "x[{}]") == "Σ{i=0…19} w[i] · x[i]"
    assert neuron("w{}_1", "x{}", 2) == "Σ{i=0…19} w{i}_1 · x{i+2}"
    assert neuron("50% w{}", "x{}").startswith("Σ{i=0…19} 50% w{i} · ")
    assert neuron("weight", "x{}").startswith("weight·x0 + weight_2·x1 + ")


def test_labels_that_are_more_than_names_stand_in_parentheses() -> None:
    x, w = Value(2.0, "x1"), Value(3.0, "w1")
    n = labelled(x * w, "x1*w1 + b")
    o = labelled(n.tanh() * n, "o")
    text = derive(o, [x, w]).text
    assert "v1 = tanh(x1*w1 + b)" in text
    assert "δ_(x1*w1 + b) = (x1*w1 + b) · sech(x1*w1 + b)² + v1" in text
    assert last(labelled(n.tanh(), "o"), x, activation="α") == "∂o/∂x1 = α'(x1*w1 + b) · w1"


def test_different_activations_get_names_of_their_own() -> None:
    w = Value(0.5, "w")
    z = labelled(w.tanh(), "z")
    y = labelled(z.sigmoid(), "y")
    assert last(y, w, activation="α") == "∂y/∂w = α_sigmoid'(z) · α_tanh'(w)"
    both = {"tanh": "α", "sigmoid": "σ"}
    assert last(y, w, activation=both) == "∂y/∂w = σ'(z) · α'(w)"
    assert (
        r"\sigma'\left(z\right) \cdot \alpha'\left(w\right)" in derive(y, w, activation=both).latex
    )
    assert last(y, w, activation={"tanh": "f"}).endswith(" · f'(w)")
    assert last(labelled(w.sin(), "y"), w, activation="α") == "∂y/∂w = α'(w)"
    assert last(labelled(w.leaky_relu(), "y"), w, activation="α") == "∂y/∂w = α'(w)"


def test_labels_that_are_alike_when_cleaned_are_different_nodes() -> None:
    a, b = Value(2.0, "a\n"), Value(7.0, "a\t")
    y = a * b * b
    assert derive(y, [a, b]).evaluate() == grad(y, [a, b]) == [49.0, 28.0]
    assert derive(y, [a, b], numbers=True).text.splitlines()[-1].endswith(" = 28.0")


def test_activations_with_different_parameters_are_different_functions() -> None:
    p = Value(-2.0, "p")
    y = p.leaky_relu(0.1) * p.leaky_relu(0.5)
    derived = derive(y, p, activation="α")
    assert derived.evaluate() == pytest.approx(grad(y, p)) == pytest.approx(-0.2)
    assert derived.text.endswith(" = v2 · α_1'(p) + v1 · α_2'(p)")
    assert derive(y, p, activation={"leaky_relu": "f"}).evaluate() == pytest.approx(-0.2)
    three = derive(y * p.tanh(), p, activation="α")
    assert "α_leaky_relu_2(p)" in three.text
    assert "α_tanh(p)" in three.text
    assert "α_1′(p)" in derive(y * p.tanh(), p, activation={"leaky_relu": "α", "tanh": "α_1"}).text
    same = {"tanh": "f", "sigmoid": "f"}
    with pytest.raises(InputError, match="'f' for both tanh and sigmoid"):
        derive(p.tanh().sigmoid(), p, activation=same)
    assert derive(p.tanh(), p, activation=same).evaluate() == grad(p.tanh(), p)


def test_labels_that_look_like_derivatives_are_not_overwritten() -> None:
    c, w, u = Value(4.0, "∂y/∂w"), Value(3.0, "w"), Value(2.0, "u")
    y = labelled(c * (w * u), "y")
    assert derive(y, [w, u]).evaluate() == grad(y, [w, u]) == [8.0, 12.0]
    assert "∂y/∂w′ = (∂y/∂w) · u" in derive(y, [w, u]).text
    for label in ("δ_v", "δ1", "α'(w)"):
        d = Value(5.0, label)
        v = labelled(w * d, "v")
        root = labelled((v * v).tanh() * d, "y")
        assert derive(root, [w, d], activation="α").evaluate() == pytest.approx(grad(root, [w, d]))


@pytest.mark.parametrize("name", [3, "", None, " "])
def test_an_activation_needs_a_name(name: Any) -> None:
    z = Value(1.0, "z")
    with pytest.raises(InputError, match=re.escape(repr(name))):
        derive(z.tanh(), z, activation={"tanh": name})


@pytest.mark.parametrize(
    ("name", "latex"),
    [
        (r"a\input{b}", r"\mathrm{a\backslash input\{b\}}"),
        ("50%", r"\mathrm{50\%}"),
        ("x^2 & y", r"\mathrm{x{\wedge}2\ \&\ y}"),
        ("}{", r"\mathrm{\}\{}"),
        ("made_up", r"\mathrm{made\_up}"),
    ],
)
def test_the_name_of_an_operation_is_text_in_latex(name: str, latex: str) -> None:
    made_up = Op(name, lambda x: x * x, lambda x, out: 2 * x)
    try:
        x = Value(2.0, "x")
        y = labelled(made_up(x) * x.tanh(), "y")
        assert f"{latex}\\left(x\\right)" in derive(y, x).latex
        different = derive(y, x, activation="α").latex
        assert rf"\alpha_{{{latex.replace(chr(92) + '_', '-')}}}" in different
    finally:
        del ops.TABLE[name]
