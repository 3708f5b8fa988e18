"""Operations on names: how they are written and simplified, and that they stay what they were."""

from __future__ import annotations

import re
from typing import Any

import pytest
from reference import number_of

from micrograd_like import Value, affine, ops
from micrograd_like.errors import OperandError
from micrograd_like.views.algebra import Expression, Form, apply, formula, partials, total, write

a, b, c, x, y, z = map(Expression, "abcxyz")


def test_no_numbers_stand_side_by_side_in_latex() -> None:
    two, three = Expression(number=2.0), Expression(number=3.0)
    assert apply(ops.pow_slope, (two, three)).latex == r"3 \cdot 2^{3 - 1}"
    slope = apply(ops.gelu_slope, (two,))
    assert slope.latex == r"\Phi\left(2\right) + 2 \cdot \varphi\left(2\right)"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (1 * x, "x"),
        (x * 1.0, "x"),
        (x + 0, "x"),
        (0 - x, "-x"),
        (x - 0, "x"),
        (x * 0, "0"),
        (x / 1, "x"),
        (Expression(number=1.0) / 0.0, "1 / 0"),
        (ops.affine_row(a, 2.0, x, y, 0.0), "a·x + 2·y"),
        (ops.affine_row(a, b, x, y, c), "a·x + b·y + c"),
        (x**1, "x"),
        (x**0, "1"),
        (ops.neg(-x), "x"),
        (x + -y, "x - y"),
        (x - -y, "x + y"),
        (x + -2, "x - 2"),
        (-x * -y, "x·y"),
        (-x * y, "-x·y"),
        (-x / -y, "-x / (-y)"),
        (x * -2, "-2·x"),
        (x * x, "x²"),
        (x * y * x, "x²·y"),
        (x**2 * x, "x³"),
        (x * 2 * y * 3, "6·x·y"),
        (total([x, x]), "2·x"),
        (ops.sech(x) * ops.sech(x), "sech(x)²"),
        (x * (1 / y), "x / y"),
        (x / y * (z / x), "z / y"),
        (x**2 * (1 / x), "x"),
        (x * (1 / x), "1"),
        (1e-200 * (y * (1e-200 * x)), "1e-200·1e-200·y·x"),
        (1e200 * (y * (1e200 * x)), "1e+200·1e+200·y·x"),
        (x * 5e-324, "x·4.94065645841247e-324"),
        (x * 0.25, "0.25·x"),
        (ops.ieee_log(Expression(number=2.0)), "log(2)"),
        (ops.ieee_log(Expression(number=-2.0)), "log(-2)"),
        (ops.inversion(2.0, x), "2 / (2² + x²)"),
        (ops.damp(x, 0.25 * y), "0.25·x·y"),
        (ops.sqrt(x) ** 3, "(√x)³"),
        (ops.sqrt(x * y), "√(x·y)"),
        (ops.sqrt(ops.sqrt(x)), "√(√x)"),
        (Expression("x²") ** 2, "(x²)²"),
        (Expression("(a) + (b)") * c, "((a) + (b))·c"),
        (Expression("(a)(b)") * c, "((a)(b))·c"),
        (Expression("(a + b)") * c, "(a + b)·c"),
        (ops.exceeds(x, y + 1), "H(x - (y + 1))"),
        (x * (a + b), "x·(a + b)"),
        ((a + b) ** 2, "(a + b)²"),
        (x - (a - b), "x - (a - b)"),
        (x ** (a + 1), "x^(a + 1)"),
        ((-x) ** 2, "(-x)²"),
        (x**0.5, "x^0.5"),
        (apply(ops.mul, (apply(ops.div, (a, b)), c)), "(a / b)·c"),
        (ops.exp(-x), "exp(-x)"),
        (ops.damp(x, 2.0), "2·x"),
        (total([x, y, x, -y]), "2·x"),
        (total([-x, y]), "y - x"),
        (total([x + 1, x + 1, -(y - 3)]), "2·(x + 1) + 3 - y"),
        (-(x - y), "y - x"),
        (x * -(a - b), "x·(b - a)"),
        (total([2 * x, 3 * x]), "5·x"),
        (c * ops.mod(a, b), "c·(a mod b)"),
        (ops.mod(a, b) * c, "(a mod b)·c"),
        (-ops.mod(a, b), "-(a mod b)"),
        (ops.mod(ops.mod(a, b), c), "(a mod b) mod c"),
        (ops.mod(a, b) + c, "a mod b + c"),
    ],
)
def test_constants_simplify_and_parentheses_stand_where_they_must(
    expression: Expression, text: str
) -> None:
    assert expression.text == text


@pytest.mark.parametrize(
    ("text", "latex", "squared", "of_a_product", "in_a_product"),
    [
        ("@x³", "@x^3", "(x³)²", "(-a·b)³", "x³·c"),
        ("@x + 1", "@x + 1", "(x + 1)²", "-a·b + 1", "(x + 1)·c"),
        ("2·@x", r"2 \cdot @x", "(2·x)²", "2·(-a·b)", "2·x·c"),
        ("@x / 2", r"\frac{@x}{2}", "(x / 2)²", "-a·b / 2", "(x / 2)·c"),
        ("@x ∨ 0", r"@x \vee 0", "(x ∨ 0)²", "-a·b ∨ 0", "(x ∨ 0)·c"),
        ("f[@x + 1]", r"f\left[@x + 1\right]", "f[x + 1]²", "f[-a·b + 1]", "f[x + 1]·c"),
    ],
)
def test_a_row_that_does_not_say_how_tightly_it_binds_gets_the_parentheses_of_its_signs(
    text: str, latex: str, squared: str, of_a_product: str, in_a_product: str, made_up: Any
) -> None:
    row = made_up("row", lambda x: x, lambda x, out: 1.0, text=text, latex=latex)
    assert (row(x) ** 2).text == squared
    assert row(-a * b).text == of_a_product
    assert (row(x) * c).text == in_a_product
    needed = squared.startswith("(")
    inner = latex.replace("@x", "x")
    assert (row(x) ** 2).latex == (rf"\left({inner}\right)^{{2}}" if needed else inner + "^{2}")


@pytest.mark.parametrize(
    ("expression", "latex"),
    [
        (x / (a + b), r"\frac{x}{a + b}"),
        (ops.exceeds(x, y), r"H\left(x - y\right)"),
        (ops.exp(x) ** 2, r"\left(e^{x}\right)^{2}"),
        (ops.hypot(x, y) ** 2, r"\left(\sqrt{x^2 + y^2}\right)^{2}"),
        (Expression("w20[0]") ** 2, r"\left(w_{20}^{[0]}\right)^{2}"),
        (ops.sech(x) ** 2, r"\mathrm{sech}\left(x\right)^{2}"),
        (x * -1.5e-7, r"-1.5 \cdot 10^{-7} \cdot x"),
        (ops.sigmoid(ops.log(x)), r"\sigma\left(\ln\left(x\right)\right)"),
    ],
)
def test_latex_has_the_parentheses_that_powers_need(expression: Expression, latex: str) -> None:
    assert expression.latex == latex


def test_products_may_have_spaces() -> None:
    expression = x * y - ops.tanh(z) ** 2
    assert (1e-9 * y).written("latex") == r"10^{-9} \cdot y"
    assert expression.written("text", spaced=True) == "x · y - tanh(z)²"


def test_long_sums_and_arguments_are_elided_and_say_how_many_are_missing() -> None:
    terms = [Expression(f"x{i}") * y for i in range(100)]
    long = total(terms)
    assert long.written("text", most=12) == "x0·y + x1·y + x2·y + … 96 more … + x99·y"
    assert r"\underbrace{\cdots}_{96}" in long.written("latex", most=12)
    assert total(terms[:12]).written("text", most=12).count("+") == 11
    difference = terms[0]
    for term in terms[1:]:
        difference = difference - term
    assert difference.written("text", most=3).endswith("+ … 96 more … - x99·y")
    many = apply(ops.logsumexp, [Expression(f"x{i}") for i in range(50)])
    assert many.written("text", most=5) == "logsumexp(x0, x1, x2, … 46 more …, x49)"


def test_an_expression_may_be_deeper_than_the_stack() -> None:
    deep = x
    for _ in range(5000):
        deep = apply(ops.sin, (deep,))
    assert deep.text.startswith("sin(sin(")


def test_an_expression_has_no_truth_value() -> None:
    with pytest.raises(OperandError, match="x is an expression"):
        bool(x)


@pytest.mark.parametrize("form", ["textbook", "exact"])
def test_every_row_and_its_partials_are_written_and_agree_with_the_floats(form: Form) -> None:
    arguments = (0.3, 0.7, 0.2)
    for name in ops.BUILTIN:
        op = ops.TABLE[name]
        xs = arguments[: len(op.arguments)] if op.arity else (0.3, 0.7, 0.2)
        if name == "acosh":
            xs = (1.3,)
        symbols = [Expression(f"x{i}") for i in range(len(xs))]
        out = Expression("out")
        numbers = {f"x{i}": number for i, number in enumerate(xs)}
        numbers["out"] = op(*xs)
        assert number_of(apply(op, symbols), numbers) == pytest.approx(numbers["out"])
        floats = op.partials[0](*xs, numbers["out"]) if op.arity is None else None
        for i, partial in enumerate(partials(op, symbols, out, form)):
            assert partial is not None, name
            want = floats[i] if floats else op.partials[i](*xs, numbers["out"])
            # (Nothing flows where a choice has None.)
            assert number_of(partial, numbers) == pytest.approx(want or 0.0), (name, partial)
            assert not re.search(r"(?<![\w.])1·", partial.text)
            assert partial.latex.count(r"\left") == partial.latex.count(r"\right")


def test_write_takes_operands_as_texts_that_bind_more_or_less_tightly() -> None:
    assert write(ops.mul, [("a + b", 1), ("c", 9)]) == "(a + b)·c"
    assert write(ops.mul, [("a", 9), ("c", 9)], spaced=True) == "a · c"
    assert write(ops.neg, [("a / b", 1.95)]) == "-a / b"


def test_a_formula_is_a_nodes_operation_on_the_names_of_its_operands_or_on_numbers() -> None:
    names = {Value(2.0): "u", Value(-3.0): "v + w", Value(0.0): "b"}
    u, v, b = names
    assert formula(u, names) == ""
    assert formula(u * v, names) == "u·(v + w)"
    assert formula(u * v, {u: 2.0, v: -3.0, b: 0.0}, digits=4, spaced=True) == "2.0 · (-3.0)"
    assert formula(u / 3, names) == "u / 3"
    assert formula(u * (1 / 3), names, digits=4) == "u·0.3333"
    assert formula(ops.maximum(u, 0.5), names) == "max(u, 0.5)"


def test_the_formula_of_a_sum_of_products_has_the_first_and_the_last_of_many() -> None:
    names = {Value(2.0): "u", Value(-3.0): "v", Value(0.0): "b"}
    u, v, b = names
    assert formula(affine([u, 1.5], [v, u], b), names) == "u·v + 1.5·u + b"
    assert formula(affine([u, -1.5], [v, u]), names) == "u·v - 1.5·u"
    assert formula(affine([u], [v], b), {u: 2.0, v: -3.0, b: 0.0}, digits=4) == "2.0·(-3.0) + 0.0"
    many = affine([u] * 9, [v] * 9, b)
    assert formula(many, names, most=5) == "u·v + u·v + u·v + … + u·v + b"
    assert formula(ops.logsumexp(u, v, b, u, v, b), names, most=5) == "logsumexp(u, v, b, …, b)"
