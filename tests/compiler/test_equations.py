"""Programs as LaTeX."""

from __future__ import annotations

import ast
import itertools

import pytest
from samples import demo

from micrograd_like import Value, compile, tanh
from micrograd_like.compiler.equations import equations
from micrograd_like.compiler.expressions import Assignment, name, total
from micrograd_like.errors import InputError


def test_equations_are_the_same_in_latex():
    model, loss = demo()
    program = compile(loss, model.parameters(), model.parameters())
    latex = program.equations()
    for equation in (
        r"Z_{1} &= X\, W_{1}^\top + b_{1}",
        r"A_{1} &= \max\left(0, Z_{1}\right)",
        r"dZ_{1} &= dA_{1} \odot \mathrm{sign}\left(A_{1}\right)",
        r"dW_{2} &= dZ_{2}^\top\, A_{1}",
    ):
        assert equation in latex
    assert "values" not in latex


@pytest.mark.parametrize(
    ("expression", "latex"),
    [
        ("-x", "-x"),
        ("x - (y + z)", r"x - \left(y + z\right)"),
        ("x / (y + z)", r"\frac{x}{y + z}"),
        ("-2.0 * x", r"-2\,x"),
        ("2.0 * (x + y)", r"2\,\left(x + y\right)"),
        ("u[:, None] * v", r"u\, \mathbf{1}^\top \odot v"),
        ("(x * y + z) @ v", r"\left(x \odot y + z\right)\, v"),
        ("(x * y) @ z", r"\left(x \odot y\right)\, z"),
        ("v @ v", r"\lVert v \rVert^2"),
        ("ones5 @ X", r"\mathbf{1}^\top X"),
        ("np.heaviside(x, 0.0)", r"\mathbf{1}[x > 0]"),
        ("jnp.heaviside(x, 0.0)", r"\mathbf{1}[x > 0]"),
        ("np.maximum(x, 0.0) * y", r"\max\left(0, x\right) \odot y"),
        ("jnp.maximum(x, 0.0)", r"\max\left(0, x\right)"),
        ("np.tanh(x)", r"\tanh\left(x\right)"),
        ("jnp.tanh(x)", r"\tanh\left(x\right)"),
        ("jax.nn.sigmoid(x)", r"\sigma\left(x\right)"),
        ("jax.nn.softplus(x)", r"\mathrm{softplus}\left(x\right)"),
        ("sigmoid_(x)", r"\sigma\left(x\right)"),
        ("MAX_(x)", r"\mathrm{MAX}\left(x\right)"),
        ("(x - y) * z", r"\left(x - y\right) \odot z"),
        ("u[:, :, None] * v", r"u \odot v"),
        ("X.sum(0) * y", r"\left(\textstyle\sum X\right) \odot y"),
        ("x if a_b else y", r"\texttt{x if a\_b else y}"),
        ("f(x)(y) * z", r"\texttt{f(x)(y)} \odot z"),
        ("logaddexp(x, y)", r"\mathrm{logaddexp}\left(x, y\right)"),
        ("x / y * z", r"\frac{x}{y} \odot z"),
        ("x * np.heaviside(y, 0.0)", r"x \odot \mathbf{1}[y > 0]"),
        ("X.sum(0)", r"\textstyle\sum X"),
        ("x.take(places1)", r"x[\mathrm{places}_{1}]"),
        ("x.ravel()", "x"),
        ("x.reshape(2, 3)", "x"),
        ("x[1:3]", "x[1:3]"),
        ("dt7_2", "dt_{7,2}"),
        ("w_0_1", "w_{0,1}"),
        ("the_rest", r"\mathrm{the\_rest}"),
        ("x if y else f(x)(y)", r"\texttt{x if y else f(x)(y)}"),
        ("f(x)(y)", r"\texttt{f(x)(y)}"),
        ("np.clip(x, max=y)", r"\texttt{np.clip(x, max=y)}"),
        ("(x > 0) * y", r"\left(\texttt{x > 0}\right) \odot y"),
        ("~(x > 0)", r"\texttt{~(x > 0)}"),
    ],
)
def test_an_expression_of_a_program_is_written_as_mathematics_is(expression, latex):
    y, value = name("y"), ast.parse(expression, mode="eval").body
    (row,) = equations([Assignment(y, value)]).splitlines()[1:-1]
    assert row == f"y &= {latex}"


@pytest.mark.parametrize(
    ("f", "latex"),
    [
        (lambda s, w, X, i, j: tanh(s[i] * X[i][j]), r"X \odot s\, \mathbf{1}^\top"),
        (lambda s, w, X, i, j: tanh(w[j] * X[i][j]), r"X \odot w"),
        (lambda s, w, X, i, j: tanh(s[i] * w[j]), r"w\, s^\top"),
        (lambda s, w, X, i, j: tanh(s[i] + w[j] + X[i][j]), r"s\, \mathbf{1}^\top + w + X"),
    ],
)
def test_a_factor_of_each_row_is_no_outer_product(f, latex):
    s, w = (
        [Value(0.1 * i, f"s[{i}]") for i in range(3)],
        [Value(0.2 * j, f"w[{j}]") for j in range(4)],
    )
    X = [[Value(0.3 * i - 0.1 * j, f"X[{i}][{j}]") for j in range(4)] for i in range(3)]
    total = sum((f(s, w, X, i, j) for i in range(3) for j in range(4)), Value(0.0))
    program = compile(total, [*s, *w, *itertools.chain(*X)])
    assert f"&= {latex} \\\\" in program.equations()


def test_equations_go_without_what_takes_inputs_or_puts_results_together():
    y, x, z = name("y"), name("x"), name("z")
    lines = [Assignment(x, name("values"), moves=True), Assignment(y, total([x, z]))]
    assert equations(lines) == "\\begin{aligned}\ny &= x + z\n\\end{aligned}"


def test_a_program_of_floats_has_no_equations():
    x = Value(2.0, "x")
    with pytest.raises(InputError, match="backend='numpy'"):
        compile(x * x, [x], backend="python").equations()
