"""How numbers and nodes are called: what a reader of the text and LaTeX sees."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micrograd_like import Value
from micrograd_like.views.names import (
    factor,
    latex_name,
    latex_numeral,
    looks_like_a_name,
    names,
    numeral,
    superscript,
)


@pytest.mark.parametrize(
    ("name", "latex"),
    [
        ("x", "x"),
        ("w1", "w_{1}"),
        ("w10", "w_{10}"),
        ("w_10", "w_{10}"),
        ("w_1_2", "w_{1,2}"),
        ("w[2]", "w_{2}"),
        ("W[0,1]", "W_{0,1}"),
        ("w20[0]", "w_{20}^{[0]}"),
        ("alpha", r"\alpha"),
        ("α", r"\alpha"),
        ("Ω_2", r"\Omega_{2}"),
        ("αβ", r"\mathrm{\alpha \beta }"),
        ("beta_1", r"\beta_{1}"),
        ("x₁", "x_{1}"),
        ("x'", "x'"),
        ("z_out", r"z_{\mathrm{out}}"),
        ("z_i", "z_{i}"),
        ("loss", r"\mathrm{loss}"),
        ("loss2", r"\mathrm{loss}_{2}"),
        ("layers[0].neurons[1].w[2]", "w^{[0]}_{1,2}"),
        ("model.layers[3].neurons[0].b", "b^{[3]}_{0}"),
        ("encoder.w", r"\mathrm{encoder.w}"),
        ("50% & $", r"\mathrm{50\%\ \&\ \$}"),
        ("a_b^c~d#{}\\", r"\mathrm{a\_b{\wedge}c\sim d\#\{\}\backslash }"),
        ("é", r"\mathrm{\text{é}}"),
        ("x\u0302", r"\mathrm{x?}"),
        ("\u0301", r"\mathrm{?}"),
        ("x²", r"\mathrm{x{}^{2}}"),
        ("x_", r"\mathrm{x\_}"),
        ("two\nlines", r"\mathrm{two?lines}"),
    ],
)
def test_a_name_is_set_as_a_mathematician_would(name: str, latex: str) -> None:
    assert latex_name(name) == latex


def test_names_are_told_apart_as_they_are_written() -> None:
    nodes = [Value(0.0, label) for label in ("a\n", "a\t", "a b")]
    assert list(names(nodes, str.strip).values()) == ["a", "a_2", "a b"]


@given(st.text(max_size=12))
def test_the_latex_of_any_name_has_balanced_braces_and_nothing_to_escape(name: str) -> None:
    latex = latex_name(name)
    bare = latex.replace(r"\{", "").replace(r"\}", "")
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    for special in "$&#%":
        assert latex.count(special) == latex.count(f"\\{special}")
    assert "\n" not in latex


@pytest.mark.parametrize(
    ("number", "text", "latex"),
    [
        (2.0, "2.0", "2"),
        (-0.5, "-0.5", "-0.5"),
        (1 / 3, "0.3333", "0.3333"),
        (1.5e-7, "1.5e-07", r"1.5 \cdot 10^{-7}"),
        (math.inf, "inf", r"\infty"),
        (-math.inf, "-inf", r"-\infty"),
        (math.nan, "nan", r"\mathrm{NaN}"),
    ],
)
def test_numbers_have_four_digits(number: float, text: str, latex: str) -> None:
    assert (numeral(number), latex_numeral(number)) == (text, latex)


def test_nodes_without_a_label_are_numbered_and_equal_labels_told_apart() -> None:
    nodes = [Value(0.0, label) for label in ("a", "", "a", "v1", "", "a_2")]
    assert list(names(nodes).values()) == ["a", "v2", "a_3", "v1", "v3", "a_2"]


def test_what_needs_no_parentheses_in_a_formula_looks_like_a_name() -> None:
    assert all(map(looks_like_a_name, ("x", "W[0,1]", "(a + b)", "x\u0302")))
    assert not any(map(looks_like_a_name, ("a + b", "(a)(b)", "(()", "-x", "x²", "²")))


def test_a_factor_with_a_sign_has_parentheses_and_an_exponent_stands_above() -> None:
    assert [factor(x) for x in (2.0, -2.0, 1 / 3)] == ["2.0", "(-2.0)", "0.3333"]
    assert superscript("-10") == "⁻¹⁰"
