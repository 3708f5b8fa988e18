"""A graph in symbols: each node has one of its own, and so has each derivative that is unknown."""

from __future__ import annotations

import re
from typing import Any

import pytest
from reference import evaluated, labelled

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
    assert graph.mentioned([graph.symbols[v] * 2.0]) == {v}


def test_an_operation_is_written_in_the_names_of_its_operands_or_what_they_are() -> None:
    x, w = Value(2.0, "x"), Value(3.0, "w")
    y = affine([w, 1.0], [x, w], 0.0).tanh()
    graph = SymbolicGraph(y, [x], "")
    z = y.parents[0]
    assert graph.operation(z, {}).text == "w·x + w"
    assert graph.operation(y, {}).text == "tanh(v1)"
    assert graph.operation(y, {z: graph.operation(z, {})}).text == "tanh(w·x + w)"
    assert SymbolicGraph(y, [x], "α").operation(y, {}).text == "α(v1)"


def test_different_names_look_different_in_latex() -> None:
    spelled = ["w1", "w_1", "w[1]", "w₁", "w¹", "x", "x_", "x²", "x2", "a\n", "a\t"]
    leaves = [Value(1.0, label) for label in spelled]
    graph = SymbolicGraph(affine(leaves, [1.0] * len(leaves), 0.0), leaves, "")
    written = [graph.symbols[leaf].latex for leaf in leaves]
    assert len(set(written)) == len(spelled)
    assert written[:2] == ["w_{1}", "w_{1}{}'"]


def test_labels_that_are_more_than_names_stand_in_parentheses() -> None:
    x, w = Value(2.0, "x1"), Value(3.0, "w1")
    n = labelled(x * w, "x1*w1 + b")
    o = labelled(n.tanh() * n, "o")
    text = derive(o, [x, w]).text
    assert "v1 = tanh(x1*w1 + b)" in text
    assert "δ_(x1*w1 + b) = (x1*w1 + b) · (1 - v1²) + v1" in text
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
    same = {"tanh": "f", "sigmoid": "f"}
    assert last(y, w, activation=same) == "∂y/∂w = f_sigmoid'(z) · f_tanh'(w)"
    assert last(y, w, activation={"tanh": "σ"}) == "∂y/∂w = y · (1 - y) · σ_tanh'(w)"
    assert last(labelled(w.sin(), "y"), w, activation="α") == "∂y/∂w = cos(w)"
    assert last(labelled(w.leaky_relu(), "y"), w, activation="α") == "∂y/∂w = α'(w)"


def test_labels_that_are_alike_when_cleaned_are_different_nodes() -> None:
    a, b = Value(2.0, "a\n"), Value(7.0, "a\t")
    y = a * b * b
    assert evaluated(derive(y, [a, b]), [a, b]) == grad(y, [a, b]) == [49.0, 28.0]


def test_activations_with_different_parameters_have_slopes_of_their_own() -> None:
    p = Value(-2.0, "p")
    y = p.leaky_relu(0.1) * p.leaky_relu(0.5)
    for activation in ("α", {"leaky_relu": "f"}):
        derived = derive(y, p, activation=activation)
        assert grad(y, p) == pytest.approx(-0.2)
        assert evaluated(derived, [p]) == pytest.approx([grad(y, p)])
    three = derive(y * p.tanh(), p, activation="α")
    assert "α_leaky_relu(p, 0.1)" in three.text
    assert "α_tanh(p)" in three.text


def test_labels_that_look_like_derivatives_are_not_overwritten() -> None:
    c, w, u = Value(4.0, "∂y/∂w"), Value(3.0, "w"), Value(2.0, "u")
    y = labelled(c * (w * u), "y")
    assert evaluated(derive(y, [w, u]), [w, u]) == grad(y, [w, u]) == [8.0, 12.0]
    assert "∂y/∂w′ = (∂y/∂w) · u" in derive(y, [w, u]).text
    for label in ("δ_v", "δ1", "α'(w)"):
        d = Value(5.0, label)
        v = labelled(w * d, "v")
        root = labelled((v * v).tanh() * d, "y")
        derived = derive(root, [w, d], activation="α")
        assert evaluated(derived, [w, d]) == pytest.approx(grad(root, [w, d]))


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
        assert r"\mathrm{α\_" in different.replace(r"\alpha ", "α")
    finally:
        del ops.TABLE[name]


@pytest.mark.parametrize(
    "partial",
    [
        lambda x, y, out: 1.0 if x == out else 0.0,
        lambda x, y, out: 0.0 if y == out else 1.0,
        lambda x, y, out: 0.0 if x != out else 1.0,
        lambda x, y, out: 1.0 if 3.0 in (x, y) else 0.0,
        lambda x, y, out: 1.0 if x in {3.0} else 0.0,
        lambda x, y, out: {3.0: 1.0}.get(x, 0.0),
        lambda x, y, out: 1.0 if x > y else 0.0,
    ],
)
def test_a_partial_that_compares_is_a_symbol(partial: Any, made_up: type[Op]) -> None:
    row = made_up("larger", max, [partial, lambda x, y, out: 0.0])
    x, y = Value(3.0, "x"), Value(2.0, "y")
    root = labelled(row(x, y) * x, "L")
    assert grad(root, x) == 6.0
    assert last(root, x) == "∂L/∂x = x · larger_1'(x, y) + v1"
