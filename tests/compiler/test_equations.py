"""Programs as LaTeX."""

from __future__ import annotations

import ast
import itertools
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optional import np
from samples import SOURCES, demo

from micrograd_like import Value, compile, compile_step, losses, nn, softmax, sqrt, tanh
from micrograd_like.compiler.equations import equations
from micrograd_like.compiler.expressions import Assignment, Source, name, total
from micrograd_like.errors import InputError
from micrograd_like.training.gpt import GPT


def latex_of(*assignments, **axes):
    return equations(Source("", assignments, [], {}, axes={"values": 1} | axes))


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
        ("values @ values", r"\lVert \theta \rVert^2"),
        ("A @ A", r"A\, A"),
        ("A @ A.T", r"A\, A^\top"),
        ("(A @ B.T).T", r"\left(A\, B^\top\right)^\top"),
        ("A.T.reshape(2, 3).transpose()", r"\left(A^\top\right)^\top"),
        ("(A @ B).reshape(-1, 2, 3).transpose(0, 2, 1)", r"\left(A\, B\right)^\top"),
        ("X.transpose(0, 2, 1, 3)", r"\mathrm{permute}_{0, 2, 1, 3}\left(X\right)"),
        ("(A @ B)[1:3]", r"\left(A\, B\right)[1:3]"),
        ("wte.take(tokens, 0)", r"\mathrm{wte}[\mathrm{tokens}]"),
        ("np.power(x, -0.5)", "x^{-0.5}"),
        ("np.power(x + y, z)", r"\left(x + y\right)^{z}"),
        ("np.power(np.power(x, y), 2.0)", r"\left(x^{y}\right)^{2}"),
        ("np.power(x @ x.T, 2.0)", r"\left(x\, x^\top\right)^{2}"),
        ("x + np.power(dx, 2.0)", r"x + \left(dx\right)^{2}"),
        ("np.sqrt(x)", r"\sqrt{x}"),
        ("fraction_(x, y - z)", r"\exp\left(x - \left(y - z\right)\right)"),
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
        ("u[:, :, None] * v", r"u\, \mathbf{1}^\top \odot v"),
        ("u[:, 0, None] * v", r"u[:, 0, None] \odot v"),
        ("X.sum(0) * y", r"\left(\textstyle\sum_{0} X\right) \odot y"),
        ("x if a_b else y", r"\texttt{x if a\_b else y}"),
        ("f(x)(y) * z", r"\texttt{f(x)(y)} \odot z"),
        ("logaddexp(x, y)", r"\mathrm{logaddexp}\left(x, y\right)"),
        ("x / y * z", r"\frac{x}{y} \odot z"),
        ("x * np.heaviside(y, 0.0)", r"x \odot \mathbf{1}[y > 0]"),
        ("X.sum(0)", r"\textstyle\sum_{0} X"),
        ("(X * Y).sum(-2)", r"\mathbf{1}^\top \left(X \odot Y\right)"),
        ("x.take(places1)", r"x[\mathrm{places}_{1}]"),
        ("x[:, places2] * y", r"x[:, \mathrm{places}_{2}] \odot y"),
        ("x.take(t, 1)", r"\texttt{x.take(t, 1)}"),
        ("x.max(y)", r"\texttt{x.max(y)}"),
        ("np.sum(x, axis=0)", r"\texttt{np.sum(x, axis=0)}"),
        ("np.take(x, y)", r"\mathrm{take}\left(x, y\right)"),
        ("np.transpose(x)", r"\mathrm{transpose}\left(x\right)"),
        ("np.multiply.outer(x, y)", r"x\, y^\top"),
        ("(x + y).reshape(2, 3) * z", r"\left(x + y\right) \odot z"),
        ("z - (x - y).ravel()", r"z - \left(x - y\right)"),
        ("-(x + y).ravel()", r"-\left(x + y\right)"),
        ("x[1:3, None] * y", r"x[1:3, None] \odot y"),
        ("x @ (y * z)", r"x\, \left(y \odot z\right)"),
        ("x @ (y * z).reshape(2, 3)", r"x\, \left(y \odot z\right)"),
        ("x.ravel()", "x"),
        ("x.reshape(2, 3)", "x"),
        ("x[1:3]", "x[1:3]"),
        ("t7_2 * dt7_2", r"t_{7,2} \odot dt_{7,2}"),
        ("down1", r"\mathrm{down}_{1}"),  # the adjoint of nothing that the program has
        ("lm_head @ dlm_head", r"\mathrm{lm\_head}\, d\mathrm{lm\_head}"),
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
    (row,) = latex_of(Assignment(y, value)).splitlines()[1:-1]
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


def mixed(xs, weights):
    """Attention by one head, where any may look at any."""
    q, k = (
        [[sum(a * b for a, b in zip(w, x, strict=True)) for w in W] for x in xs] for W in weights
    )
    shares = [
        softmax([sum(a * b for a, b in zip(row, other, strict=True)) for other in k]) for row in q
    ]
    return sum(p * x[0] for row in shares for p, x in zip(row, xs, strict=True)) ** 2


def normalised(xs, weights):
    """The batch norm of a linear layer."""
    h = [[sum(a * b for a, b in zip(w, x, strict=True)) for w in weights[0]] for x in xs]
    columns = [*zip(*h, strict=True)]
    means = [sum(column) / len(h) for column in columns]
    spreads = [
        sqrt(sum((x - m) ** 2 for x in column) / len(h) + 1e-5)
        for column, m in zip(columns, means, strict=True)
    ]
    return sum(tanh((row[k] - means[k]) / spreads[k]) for row in h for k in range(2)) ** 2


@pytest.mark.parametrize(
    ("loss", "rows"),
    [
        (mixed, [r"\exp\left(t_{5} - t_{6}\right)", r"dt_{6} \odot t_{7} + t_{12}"]),
        (normalised, [r"t_{3} - t_{4}", r"2\,t_{20} \odot t_{5}", r"dt_{5} + dt_{5,2} + dt_{3}"]),
    ],
)
def test_a_row_of_each_example_is_no_column(loss, rows):
    weights = [[[Value(0.1 + i + 2 * j + k) for k in range(2)] for j in range(2)] for i in range(2)]
    xs = [[0.5, -0.25], [1.0, 0.75], [0.0, 0.5]]
    step = compile_step(lambda xs: loss(xs, weights), weights, xs)
    for row in rows:
        assert f"&= {row} \\\\" in step.equations()


def test_the_gradient_of_a_layer_of_one_input_is_a_product_of_matrices():
    model = nn.MLP(1, [5, 1], "tanh", seed=0)
    latex = compile_step(lambda x: model(x) ** 2, model.parameters(), 0.3).equations()
    assert r"t_{5} &= x\, W_{1}^\top + b_{1}" in latex
    assert r"dW_{1} &= x^\top\, dt_{5}" in latex
    assert r"dW_{2} &= dZ_{2}^\top\, t_{6}" in latex


def test_equations_go_without_what_takes_inputs_or_puts_results_together():
    y, x, z = name("y"), name("x"), name("z")
    lines = [Assignment(x, name("values"), moves=True), Assignment(y, total([x, z]))]
    assert latex_of(*lines) == "\\begin{aligned}\ny &= x + z\n\\end{aligned}"


@pytest.mark.parametrize(
    ("expression", "latex"),
    [
        ("X.sum(-1)", r"X\, \mathbf{1}"),
        ("X.sum(0)", r"\mathbf{1}^\top X"),
        ("(v.take(places) * X).sum(-1)", r"\left(v[\mathrm{places}] \odot X\right)\, \mathbf{1}"),
        ("v.sum(0)", r"\textstyle\sum v"),
        ("(X[:, :, None] * v).sum(0)", r"\textstyle\sum_{0} X\, v^\top"),
        ("X[:, None].sum(0) * X", r"\left(\textstyle\sum_{0} X\right) \odot X"),
        (
            "v.sum(-1) * X.sum()",
            r"\left(\textstyle\sum v\right) \odot \left(\textstyle\sum X\right)",
        ),
    ],
)
def test_the_sum_along_an_axis_of_a_matrix_is_none_of_all(expression, latex):
    value = ast.parse(expression, mode="eval").body
    written = latex_of(Assignment(name("y"), value), X=2, v=1, places=2)
    assert written.splitlines()[1] == f"y &= {latex}"


@pytest.mark.parametrize(
    ("expression", "latex"),
    [
        ("X.take(places) * X[2]", r"\mathrm{ravel}\left(X\right)[\mathrm{places}] \odot X[2]"),
        ("X.take(places, 0)", r"X[\mathrm{places}]"),
        ("v.take(places)", r"v[\mathrm{places}]"),
    ],
)
def test_entries_taken_of_a_matrix_are_not_its_rows(expression, latex):
    value = ast.parse(expression, mode="eval").body
    written = latex_of(Assignment(name("y"), value), X=2, v=1, places=1)
    assert written.splitlines()[1] == f"y &= {latex}"


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_the_gradient_is_not_its_decay_alone(backend):
    pytest.importorskip(backend)
    model, loss = demo()
    loss = loss + 0.5 * sum(p * p for p in model.parameters())
    program = compile(loss, model.parameters(), model.parameters(), backend=backend)
    *_, last = program.equations().removesuffix("\n\\end{aligned}").splitlines()
    assert last.startswith(r"\nabla_{\theta} &= 1.0002\,\theta + ")
    assert r"\left[dW_{1}, db_{1}, dW_{2}, db_{2}, dW_{3}, db_{3}\right]^\top" in last


def test_different_arrays_have_different_symbols():
    assert "= w_{1} + w_{1}'" in latex_of(Assignment(name("y"), total([name("w1"), name("w_1")])))
    parts = [Assignment(name(dx), name("W")) for dx in ("dW", "dW_2", "dW2", "dX")]
    assert re.findall("(.*) &= W", latex_of(*parts)) == ["dW", "dW_{2}'", "dW_{2}", r"\mathrm{dX}"]


def test_a_program_of_floats_has_no_equations():
    x = Value(2.0, "x")
    with pytest.raises(InputError, match="backend='numpy'"):
        compile(x * x, [x], backend="python").equations()


def test_the_equations_of_a_gpt_are_those_of_its_numbers():
    model = GPT("abc", embed=8, heads=2, context=5)
    latex = compile_step(model.loss, model.weights, model.tokens("abca")).equations()
    for equation in (
        r"E &= \mathrm{wte}[\mathrm{tokens}[:, :5]] + \mathrm{wpe}",
        r"Q_{1} &= \mathrm{permute}_{0, 2, 1, 3}\left(N_{1}\, \mathrm{wq}_{1}^\top\right)",
        r"S_{1} &= 0.5\,Q_{1}\, K_{1}^\top + \mathrm{mask}_{1}",
        r"Z_{1} &= \mathrm{permute}_{0, 2, 1, 3}\left(A_{1}\, V_{1}\right)",
        r"X &= H_{1}\, \mathrm{down}_{1}^\top + Y_{1}",
        r"d\mathrm{down}_{1} &= dX^\top\, H_{1}",
        r"d\mathrm{lm\_head} &= dL^\top\, X",
    ):
        assert f"{equation} \\\\" in latex


def test_a_page_of_equations_compiles_with_pdflatex(typeset):
    begin, end = "\\begin{aligned}", "\\end{aligned}"
    sources = json.loads(SOURCES.read_text(encoding="utf-8")).values()
    pages = [
        ["\\[", *lines[lines.index(begin) : lines.index(end) + 1], "\\]"]
        for lines in sources
        if begin in lines
    ]
    assert len(pages) > 15
    page = typeset("\n".join(line for page in pages for line in page), width=70)
    assert page.stat().st_size > 10_000


# --- read back ------------------------------------------------------------------------------------

MATRICES = {
    x: np.random.default_rng(k).uniform(0.5, 1.5, (3, 3) if x.isupper() else 3)
    for k, x in enumerate("ABCuv")
}
NUMBERS = st.sampled_from(["2.0", "0.5"])


def with_vectors(of):
    """Matrices that vectors are in: columns, or rows beside a matrix, as b is in X W^T + b."""
    vectors = st.one_of(
        st.sampled_from("uv"),
        st.builds("({} @ {})".format, of, st.sampled_from("uv")),
        st.builds("(-0.5 * ({} @ {}))".format, st.sampled_from("uv"), of),
        st.builds("np.tanh(u * {})".format, st.sampled_from("uv")),
    )
    matrices = st.one_of(of, st.builds("{}[:, None]".format, vectors))
    rows = st.one_of(vectors, st.builds("({} @ {})".format, vectors, of))
    return st.builds("({} {} {})".format, matrices, st.sampled_from("+-*"), rows)


def combined(of):
    """Expressions of programs, of other such: of square matrices, which all signs take."""
    return st.one_of(
        with_vectors(of),
        st.builds("({} {} {})".format, of, st.sampled_from(["+", "-", "*", "/", "@"]), of),
        st.builds("({} * {})".format, NUMBERS, of),
        st.builds("(-{})".format, of),
        st.builds("{}.T".format, of),
        st.builds("np.power({}, {})".format, st.builds("np.exp({})".format, of), NUMBERS),
        st.builds("np.{}({})".format, st.sampled_from(["tanh", "exp", "sin"]), of),
        st.builds("{}.reshape(3, 3)".format, of),
        st.builds("{}[:, :]".format, of),
    )


FUNCTIONS = {
    r"\tanh": np.tanh, r"\exp": np.exp, r"\sin": np.sin, r"\cosh": np.cosh, r"\max": np.maximum,
    r"\sigma": lambda x: 1.0 / (1.0 + np.exp(-x)), r"\mathrm{sign}": np.sign,
    r"\mathrm{logaddexp}": np.logaddexp,
    r"\mathrm{logsumexp}": lambda x: np.log(np.exp(x).sum(-1)), r"\mathrm{len}": len,
    r"\mathrm{softplus}": lambda x: np.log1p(np.exp(x)), r"\mathrm{abs}": abs,
    r"\mathrm{relu}": lambda x: np.maximum(x, 0.0), r"\mathrm{step}": lambda x: (x > 0.0) * 1.0,
}  # fmt: skip


class Reader:
    """What LaTeX says of matrices: a matrix product binds more tightly than ⊙, and ⊙ than +.

    A vector is a column, with ⊤ a row, and beside a matrix the same row for each of its rows.
    """

    def __init__(self, latex, symbols=MATRICES):
        tokens = r"""\\left\(|\\right\)|\\mathbf\{1\}|\\textstyle\\sum|\\(?!mathrm)[a-z]+|\\,|[\d.]+
            |d?(?:\\mathrm\{\w+\}|[A-Za-z])(?:_\{[\d,]+\})?|[-+{}^,]"""
        self.tokens = [*re.findall(tokens, latex, re.VERBOSE), "end"]
        self.symbols = symbols

    def take(self, *expected):
        token = self.tokens.pop(0)
        assert not expected or token in expected, (token, self.tokens)
        return token

    def next_is(self, *tokens):
        return self.tokens[0] in tokens

    def sum(self):
        total = -self.each(self.take("-")) if self.next_is("-") else self.each()
        while self.next_is("+", "-"):
            total = total + self.each() if self.take() == "+" else total - self.each()
        return total

    def each(self, _=None):
        x = self.product()
        while self.next_is(r"\odot"):
            x = x * self.product(self.take())
        return x

    def product(self, _=None):
        x = self.power()
        while not self.next_is("+", "-", r"\odot", r"\right)", "}", ",", "end"):
            if self.next_is(r"\,"):  # which is not there after a row of ones
                self.take()
            y = self.power()
            is_outer = np.ndim(x) == 1 and np.ndim(y) == 2 and len(y) == 1
            x = np.outer(x, y) if is_outer else x @ y if np.ndim(x) and np.ndim(y) else x * y
        return x

    def power(self):
        x = self.atom()
        if self.next_is("^"):
            self.take()
            if self.next_is(r"\top") and self.take():
                x = x[None] if x.ndim == 1 else x.T
            else:
                x = x ** self.braced()
        assert not self.next_is("^")  # LaTeX refuses it
        return x

    def braced(self):
        self.take("{")
        x = self.sum()
        self.take("}")
        return x

    def atom(self):
        token = self.take()
        if token == r"\frac":
            return self.braced() / self.braced()
        if token in FUNCTIONS:
            self.take(r"\left(")
            arguments = [self.sum()]
            while self.take(",", r"\right)") == ",":
                arguments.append(self.sum())
            return FUNCTIONS[token](*arguments)
        if token == r"\textstyle\sum":
            return np.sum(self.power())
        if token == r"\left(":
            x = self.sum()
            self.take(r"\right)")
            return x
        if token == r"\mathbf{1}":
            return np.ones(3)
        return self.symbols[token] if token in self.symbols else float(token)


@settings(max_examples=300)
@given(st.recursive(st.sampled_from("ABC"), combined, max_leaves=8))
def test_an_equation_says_what_the_program_computes(expression):
    value, axes = ast.parse(expression, mode="eval").body, {x: MATRICES[x].ndim for x in MATRICES}
    (row,) = latex_of(Assignment(name("y"), value), **axes).split("\n")[1:-1]
    reader = Reader(row.removeprefix("y &= "))
    with np.errstate(all="ignore"):
        found, expected = reader.sum(), eval(expression, {"np": np, **MATRICES})
    assert reader.tokens == ["end"], row
    assert np.allclose(found, expected, rtol=1e-9, atol=1e-9, equal_nan=True), row


@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize(
    "loss", ["cross_entropy", "mse", "binary_cross_entropy_with_logits", "hinge"]
)
def test_the_equations_of_a_step_give_the_loss_and_the_gradient_of_every_parameter(
    loss, activation, backend
):
    pytest.importorskip(backend)
    rng = np.random.default_rng(len(loss))
    X, y = rng.normal(size=(3, 3)), np.array([0, 1, 2 if loss == "cross_entropy" else 1])
    if loss == "hinge":
        y = 2 * y - 1
    outputs = 3 if loss == "cross_entropy" else 1
    model = nn.MLP(3, [3, 3, outputs], activation, seed=1)
    step = compile_step(model, getattr(losses, loss), (X[0], int(y[0])), backend=backend)
    expected = step(X, y.tolist())
    known = {"X": X, "Y": np.eye(3)[y] if outputs == 3 else y, r"\mathrm{examples}": X}
    for k, layer in enumerate(model.layers, 1):
        known[f"W_{{{k}}}"] = np.array([[w.data for w in n.w] for n in layer.neurons]).squeeze()
        known[f"b_{{{k}}}"] = np.array([n.b.data for n in layer.neurons]).squeeze()
    for row in step.equations().splitlines()[1:-1]:
        symbol, value = row.removesuffix(r" \\").split(" &= ")
        reader = Reader(value, known)
        known[symbol] = reader.sum()
        assert reader.tokens == ["end"], row
    assert known[r"\mathrm{loss}"].item() == pytest.approx(expected, rel=1e-12)
    count = 3 if backend == "numpy" else 1  # these are of the sum over the examples, or of the mean
    for k, layer in enumerate(model.layers, 1):
        dW, db = np.ravel(known[f"dW_{{{k}}}"]) / count, np.ravel(known[f"db_{{{k}}}"]) / count
        assert dW == pytest.approx([w.grad for n in layer.neurons for w in n.w], rel=1e-9)
        assert db == pytest.approx([n.b.grad for n in layer.neurons], rel=1e-9)


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_each_part_of_a_gradient_has_an_equation(backend):
    pytest.importorskip(backend)
    w, v, loss = [Value(0.5, "w[0]"), Value(0.25, "w[1]")], Value(0.75, "v"), Value(1.5, "loss")

    def f(x):
        return 3.0 * w[0] + tanh(w[1] * x) * v + loss * x

    latex = compile_step(f, [*w, v, loss], 0.5, backend=backend).equations()
    rows = dict(row.removesuffix(r" \\").split(" &= ") for row in latex.splitlines()[1:-1])
    if backend == "jax":
        parts = {r"\nabla_{\theta}[w]", "dv", r"d\mathrm{loss}"}
    else:
        of_examples = r"\mathrm{len}\left(\mathrm{examples}\right)"
        assert rows[r"\nabla_{\theta}[0]"] == rf"{of_examples} \odot 3"
        # dv is what it is for each example.
        assert rows[r"\nabla_{\theta}[2]"] == r"\mathbf{1}^\top dv"
        parts = {r"d\mathrm{loss}"}
    assert parts <= {*rows}
    assert r"\mathrm{loss\_}" in rows  # for the loss is a parameter's name


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_a_gradient_that_is_a_number_has_an_equation(backend):
    pytest.importorskip(backend)
    x = [Value(1.0, f"x[{i}]") for i in range(3)]
    latex = compile(sum(3.0 * v for v in x), x, x, backend=backend).equations()
    assert r"\nabla_{\theta} &= " in latex
    latex = compile(tanh(x[0]) + 3.0 * x[1], x, x, backend=backend).equations()
    assert re.search(r"\\nabla_\{\\theta\}.* &= .*3", latex)


def test_a_sum_over_the_examples_is_none_over_the_rows_of_each():
    model = GPT("abc", embed=8, heads=2, context=5)
    latex = compile_step(model.loss, model.weights, model.tokens("abca")).equations()
    assert r"d\mathrm{wpe} &= \textstyle\sum_{0} dE" in latex


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_back_as_the_same_float(x):
    (row,) = latex_of(Assignment(name("y"), ast.Constant(x))).splitlines()[1:-1]
    mantissa, _, exponent = row.removeprefix("y &= ").partition("10^{")
    if exponent and not mantissa.endswith(r"\cdot "):
        mantissa += "1"
    text = mantissa.removesuffix(r" \cdot ")
    assert float(f"{text}e{exponent.removesuffix('}')}" if exponent else text) == x
