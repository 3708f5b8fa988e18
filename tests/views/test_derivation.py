"""`derive`: symbols that say what the numbers do."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference import VALUE, Program, evaluated, labelled, programs

from micrograd_like import Op, Value, affine, grad, greater, nn, ops, topological_order, where
from micrograd_like.errors import InputError, OperandError
from micrograd_like.views import algebra
from micrograd_like.views.algebra import Expression
from micrograd_like.views.derivation import Derivation, derive
from micrograd_like.views.names import latex_text, names
from micrograd_like.views.symbols import SymbolicGraph
from micrograd_like.words import printable

CLAIMS = Path(__file__).parent.parent / "data" / "seed_claims.json"


class Net:
    """The network of document 002, with its names."""

    def __init__(self, activation: Callable[[Value], Value] = Value.tanh) -> None:
        names = ["w10", "x00", "b10", "w11", "x01", "b11", "w20[0]", "b20[0]", "w20[1]", "b20[1]"]
        numbers = (0.5, -0.75, 0.25, 1.5, 0.625, -1.0, -0.5, 0.125, 2.0, 0.375)
        v = self.leaves = {name: Value(x, name) for name, x in zip(names, numbers, strict=True)}
        self.z10 = labelled(v["w10"] * v["x00"] + v["b10"], "z10")
        self.z11 = labelled(v["w11"] * v["x01"] + v["b11"], "z11")
        x10 = labelled(activation(self.z10), "x10")
        x11 = labelled(activation(self.z11), "x11")
        first, second = v["w20[0]"] * x10 + v["b20[0]"], v["w20[1]"] * x11 + v["b20[1]"]
        self.z20 = labelled(first + second, "z20")
        self.y = labelled(activation(self.z20), "y")

    def derive(self, *names: str, **options: Any) -> Derivation:
        wrt = [self.leaves[name] for name in names]
        return derive(self.y, wrt if len(wrt) > 1 else wrt[0], **options)


PARAMETERS = ("b20[0]", "b20[1]", "w20[0]", "w20[1]", "b10", "w10", "b11", "w11")


def chain_of_diamonds(n: int) -> tuple[Value, Value]:
    x = v = Value(0.7, "x")
    for _ in range(n):
        v = v.sin() * v.cos()
    return v, x


# --- what document 002 derives --------------------------------------------------------------------


def test_one_variable_of_the_two_layer_network_is_derived_as_section_2_does() -> None:
    assert Net().derive("w10", activation="α").text.splitlines() == [
        "z10 = w10 · x00 + b10",
        "x10 = α(z10)",
        "z11 = w11 · x01 + b11",
        "x11 = α(z11)",
        "z20 = w20[0] · x10 + b20[0] + w20[1] · x11 + b20[1]",
        "y = α(z20)",
        "∂y/∂w10 = ∂y/∂z20 · ∂z20/∂x10 · ∂x10/∂z10 · ∂z10/∂w10",
        "∂y/∂w10 = α'(z20) · w20[0] · α'(z10) · x00",
    ]


def test_concrete_activations_are_derived_by_their_rows_as_in_textbooks_or_exactly() -> None:
    result = Net().derive("w10").text.splitlines()[-1]
    assert result == "∂y/∂w10 = (1 - y²) · w20[0] · (1 - x10²) · x00"
    result = Net().derive("w10", form="exact").text.splitlines()[-1]
    assert result == "∂y/∂w10 = sech(z20)² · w20[0] · sech(z10)² · x00"
    result = Net(Value.sigmoid).derive("w10").text.splitlines()[-1]
    assert result == "∂y/∂w10 = y · (1 - y) · w20[0] · x10 · (1 - x10) · x00"


def test_several_variables_share_named_sub_expressions_as_section_3_describes() -> None:
    derivation = Net().derive(*PARAMETERS, activation="α")
    assert derivation.text.splitlines()[6:] == [
        "δ20 = α'(z20)",
        "δ11 = δ20 · w20[1] · α'(z11)",
        "δ10 = δ20 · w20[0] · α'(z10)",
        "∂y/∂b20[0] = δ20",
        "∂y/∂b20[1] = δ20",
        "∂y/∂w20[0] = δ20 · x10",
        "∂y/∂w20[1] = δ20 · x11",
        "∂y/∂b10 = δ10",
        "∂y/∂w10 = δ10 · x00",
        "∂y/∂b11 = δ11",
        "∂y/∂w11 = δ11 · x01",
    ]


def test_the_counts_of_the_two_layer_network_are_those_of_the_catalogue() -> None:
    claims = {c["id"]: c for c in json.loads(CLAIMS.read_text(encoding="utf-8"))["claims"]}
    expected = claims["002-22"]["checks"][0]["expected"]
    counts = Net().derive(*PARAMETERS, activation="α").counts
    assert counts["paths"] == expected["partials"] == 8
    assert counts["shared"] == expected["multiplications_shared"] == 8
    assert counts["unshared"] == expected["multiplications_from_scratch"] == 12
    assert counts["path_by_path"] == 12


def test_the_network_in_latex() -> None:
    assert Net().derive("w10", activation="α").latex.splitlines()[-4:] == [
        r"y &= \alpha\left(z_{20}\right) \\",
        r"\frac{\partial y}{\partial w_{10}} &= \frac{\partial y}{\partial z_{20}} \cdot "
        r"\frac{\partial z_{20}}{\partial x_{10}} \cdot \frac{\partial x_{10}}{\partial z_{10}} "
        r"\cdot \frac{\partial z_{10}}{\partial w_{10}} \\",
        r"&= \alpha'\left(z_{20}\right) \cdot w_{20}^{[0]} \cdot \alpha'\left(z_{10}\right) "
        r"\cdot x_{00}",
        r"\end{aligned}",
    ]


# --- agreement with the numbers -------------------------------------------------------------------


def assert_agrees(root: Value, wrt: Sequence[Value], **options: Any) -> None:
    """What the equations give is what the engine gives, together and one by one."""
    for form in ("textbook", "exact"):
        together = evaluated(derive(root, wrt, form=form, **options), wrt)
        for i, (one, want) in enumerate(zip(wrt, grad(root, wrt), strict=True)):
            near = pytest.approx(want, rel=1e-9, abs=1e-9 * max(1.0, abs(want)))
            alone = evaluated(derive(root, one, form=form, **options), [one])
            assert together is None or together[i] == near
            assert alone is None or alone == [near]


@given(programs())
@settings(max_examples=60, deadline=None)
def test_the_derived_expressions_give_the_gradients_of_the_engine(program: Program) -> None:
    inputs = [Value(x) for x in program.inputs]
    root = program.run(inputs, VALUE)[-1]
    assert_agrees(root, inputs)
    assert_agrees(root, inputs, activation="α")


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_derivatives_by_intermediate_nodes_agree_too(data: st.DataObject) -> None:
    program = data.draw(programs())
    values = program.run([Value(x) for x in program.inputs], VALUE)
    wrt = data.draw(st.lists(st.sampled_from(values), min_size=1, max_size=4))
    assert_agrees(values[-1], wrt)


@pytest.mark.parametrize("fused", [True, False])
def test_a_whole_network_is_derived_right(fused: bool) -> None:
    model = nn.MLP(2, [4, 3, 1], activation="tanh", seed=3, fused=fused)
    x = [Value(0.3, "x0"), Value(-1.2, "x1")]
    root = (model(x) - 0.5) ** 2
    assert_agrees(root, [*model.parameters(), *x])
    counts = derive(root, model.parameters()).counts
    assert counts["shared"] < counts["unshared"] < counts["path_by_path"]


def sympy_of(e: Expression, names: dict[str, Any], sympy: Any) -> Any:
    functions: dict[str, Callable[..., Any]] = {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "mul": lambda x, y: x * y,
        "div": lambda x, y: x / y,
        "ieee_div": lambda x, y: x / y,
        "pow": lambda x, y: x**y,
        "ieee_pow": lambda x, y: x**y,
        "neg": lambda x: -x,
        "damp": lambda x, y: x * y,
        "ieee_log": sympy.log,
        "pow_slope": lambda x, y: y * x ** (y - 1),
        "pow_log": lambda x, y: x**y * sympy.log(x),
        "pow_xy": lambda x, y: x ** (y - 1) * (1 + y * sympy.log(x)),
        "pow_yy": lambda x, y: x**y * sympy.log(x) ** 2,
        "lead": lambda x, y: x - y,
        "fraction": lambda x, total: sympy.exp(x - total),
        "sigmoid": lambda x: 1 / (1 + sympy.exp(-x)),
        "softplus": lambda x: sympy.log(1 + sympy.exp(x)),
        "hypot": lambda x, y: sympy.sqrt(x**2 + y**2),
    }
    if e.op is None:
        return names[e.name] if e.number is None else sympy.nsimplify(e.number)
    function = functions.get(e.op.name) or getattr(sympy, e.op.name)
    return function(*[sympy_of(part, names, sympy) for part in e.operands])


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    "formula",
    [
        lambda x, y: x**3 - 2 * x * y + 1 / y,
        lambda x, y: (x * y).tanh() * x.sin() + (x - y).exp(),
        lambda x, y: ((x * x + y * y).log() / y).cos(),
        lambda x, y: (x**y).sqrt() + (2 * x).sigmoid() * (x + y).softplus(),
        lambda x, y: (x / (x + y)).atan() * x**2,
    ],
)
def test_sympy_agrees_that_it_is_the_derivative(formula: Any, together: bool) -> None:
    sympy = pytest.importorskip("sympy")
    x, y = Value(0.7, "x"), Value(1.3, "y")
    symbols = {"x": sympy.Symbol("x", positive=True), "y": sympy.Symbol("y", positive=True)}
    root = formula(x, y)
    label = names(topological_order(root))
    for node in topological_order(root):
        if node.op is not None:
            operands = [
                Expression(label[a]) if isinstance(a, Value) else Expression(number=a)
                for a in node.operands
            ]
            symbols[label[node]] = sympy_of(algebra.apply(node.op, operands), symbols, sympy)
    for derived in [derive(root, [x, y])] if together else [derive(root, x), derive(root, y)]:
        for symbol, expression in derived.equations:
            symbols[symbol.name] = sympy_of(expression, symbols, sympy)
    for variable in ("x", "y"):
        ours = symbols[f"∂{label[root]}/∂{variable}"]
        difference = ours - sympy.diff(symbols[label[root]], symbols[variable])
        for point in ((0.3, 0.8), (1.9, 0.4)):
            at = {symbols["x"]: point[0], symbols["y"]: point[1]}
            assert abs(difference.evalf(30, subs=at)) < 1e-12


def wrong_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    total = algebra.total
    monkeypatch.setattr(algebra, "total", lambda terms: total([*terms[:-1], -terms[-1]]))


def dropped_term(monkeypatch: pytest.MonkeyPatch) -> None:
    total = algebra.total
    monkeypatch.setattr(algebra, "total", lambda terms: total(terms[:-1]))


def dropped_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = SymbolicGraph._edges
    monkeypatch.setattr(
        SymbolicGraph, "_edges", lambda self, *args: [*dict(edges(self, *args)).items()]
    )


@pytest.mark.parametrize("plant", [wrong_sign, dropped_term, dropped_edge])
def test_a_wrong_sign_and_a_dropped_term_are_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def proof() -> None:
        x, y = Value(0.7, "x"), Value(1.3, "y")
        assert_agrees((x * x + x.sin() * y).exp() * x, [x, y])

    proof()
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        proof()


# --- length ---------------------------------------------------------------------------------------


def test_the_derivation_of_exponentially_many_paths_is_as_long_as_the_graph() -> None:
    lengths = [len(derive(*chain_of_diamonds(n)).text) for n in (10, 20, 40)]
    assert lengths[2] < 2.5 * lengths[1] < 6 * lengths[0]
    root, x = chain_of_diamonds(40)
    assert evaluated(derive(root, x), [x]) == pytest.approx([grad(root, x)])
    assert derive(root, x).text.splitlines()[-1].startswith("∂v120/∂x = ")


def test_long_chains_need_no_recursion_and_are_elided() -> None:
    x = v = Value(0.3, "x")
    for _ in range(5000):
        v = (v * 1.001).sin()
    derived = derive(v, x)
    assert evaluated(derived, [x]) == pytest.approx([grad(v, x)])
    assert derived.counts["paths"] == 1
    assert re.search(r"^⋮ \(\d+ more\)$", derived.text, re.MULTILINE)
    assert r"\vdots" in derived.latex
    assert len(derived.text) < 150_000


def test_sums_of_many_terms_are_elided() -> None:
    w = Value(0.5, "w")
    loss = Value(0.0, "start")
    for i in range(100):
        loss = loss + w * Value(float(i), f"x{i}")
    loss.label = "L"
    lines = derive(loss, w).text.splitlines()
    assert lines[0] == "L = start + w · x0 + w · x1 + … 97 more … + w · x99"
    assert lines[-1] == "∂L/∂w = x0 + x1 + x2 + … 96 more … + x99"
    ws = [Value(0.1, f"w[{i}]") for i in range(50)]
    z = labelled(affine(ws, [Value(1.0, f"x{i + 1}") for i in range(50)], Value(0.0, "b")), "z")
    derived = derive(labelled(z.tanh(), "y"), ws[3])
    first = "z = w[0] · x1 + w[1] · x2 + w[2] · x3 + … 47 more … + b"
    assert derived.text.splitlines()[0] == first
    assert r"w_{2} \cdot x_{3} + \underbrace{\cdots}_{47} + b" in derived.latex
    assert derived.text.splitlines()[-1] == "∂y/∂w[3] = (1 - y²) · x4"


# --- names and constants --------------------------------------------------------------------------


def last(root: Value, *wrt: Value, **options: Any) -> str:
    return derive(root, wrt[0] if len(wrt) == 1 else wrt, **options).text.splitlines()[-1]


def test_constants_simplify() -> None:
    x = Value(3.0, "x")
    assert last(labelled(x**2, "y"), x) == "∂y/∂x = 2 · x"
    assert last(labelled(x**3, "y"), x) == "∂y/∂x = 3 · x²"
    assert last(labelled(x * x, "y"), x) == "∂y/∂x = 2 · x"
    assert last(labelled(1 * x + 0, "y"), x) == "∂y/∂x = 1"
    assert last(labelled(x - x, "y"), x) == "∂y/∂x = 0"
    assert last(labelled(ops.neg(-x) * 2 * 3, "y"), x) == "∂y/∂x = 6"
    assert last(labelled(5 - x * -2, "y"), x) == "∂y/∂x = 2"
    assert last(labelled(-(x.exp()), "y"), x) == "∂y/∂x = -v1"


@given(programs())
@settings(max_examples=40, deadline=None)
def test_no_derivation_multiplies_by_one_or_adds_zero(program: Program) -> None:
    inputs = [Value(x) for x in program.inputs]
    derived = derive(program.run(inputs, VALUE)[-1], inputs)
    for _, expression in derived.equations:
        text = expression.written("text", spaced=True)
        assert not re.search(r"(?<![\w.])1 ·|· 1(?![\w.(])|\+ 0(?![\w.])|- -|\+ -", text), text


def test_a_variable_that_the_root_does_not_depend_on_and_the_root_itself() -> None:
    x, y = Value(1.0, "x"), Value(2.0, "y")
    root = labelled(x * 2, "r")
    assert last(root, y) == "∂r/∂y = 0"
    assert last(root, root) == "∂r/∂r = 1"
    wrt = [x, y, root, x]
    assert evaluated(derive(root, wrt), wrt) == [2.0, 0.0, 1.0, 2.0]
    assert derive(x, x).counts["paths"] == 1
    assert derive(x, y).counts == {"paths": 0, "path_by_path": 0, "unshared": 0, "shared": 0}


@pytest.fixture
def made_up_row() -> Any:
    cube = Op("made_up_cube", lambda x: x**3, lambda x, out: 3 * math.pow(x, 2))
    yield cube
    del ops.TABLE["made_up_cube"]


def test_a_partial_that_is_not_written_in_the_tables_ops_is_a_symbol(made_up_row: Op) -> None:
    x = Value(2.0, "x")
    y = labelled(made_up_row(x) * x, "y")
    derived = derive(y, x)
    assert evaluated(derived, [x]) == pytest.approx([grad(y, x)])
    assert last(labelled(made_up_row(x), "c"), x) == "∂c/∂x = made_up_cube'(x)"
    assert derived.text.splitlines()[2:] == [
        "∂y/∂x = ∂y/∂v1 · ∂v1/∂x + v1",
        "∂y/∂x = x · made_up_cube'(x) + v1",
    ]


def test_graphs_whose_data_was_changed_have_the_same_symbols() -> None:
    x = Value(2.0, "x")
    y = labelled(x * x, "y")
    derived = derive(y, x)
    x.data = 3.0
    assert derive(y, x).text == derived.text


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda x: derive(x, 3.0), OperandError, "3.0"),
        (lambda x: derive(x, "x"), OperandError, "'x'"),
        (lambda x: derive(x, [x, 2.0]), OperandError, "2.0"),
        (lambda x: derive(2.0, x), OperandError, "float"),
        (lambda x: derive(x, []), InputError, "at least one"),
        (lambda x: derive(x, x, activation={"nope": "α"}), InputError, "nope"),
        (lambda x: derive(x, x, activation=3), OperandError, "3"),
        (lambda x: derive(x, x, form="short"), InputError, "textbook, exact, not 'short'"),
    ],
)
def test_refusals_name_the_culprit(call: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=re.escape(says)):
        call(Value(1.0, "x"))


def test_a_tie_is_half_a_step() -> None:
    q = Value(1.0, "q")
    y = labelled(ops.maximum(q, q), "y")
    assert last(y, q) == "∂y/∂q = 2 · H(q - q)"


def test_unspecified_functions_of_one_name_are_told_apart_by_their_constants() -> None:
    x, s = Value(0.5, "x"), Value(0.3, "s")
    y = labelled(ops.leaky_relu(x) + ops.leaky_relu(x, 0.5), "y")
    derivation = derive(y, x, activation="α")
    assert derivation.text.splitlines()[0] == "y = α(x) + α(x, 0.5)"
    assert last(y, x, activation="α") == "∂y/∂x = α'(x) + α_1'(x, 0.5)"
    y = labelled(ops.leaky_relu(x, s) * x, "y")
    assert last(y, s, activation="α") == "∂y/∂s = x · α_2'(x, s)"


def test_what_cancels_in_the_result_has_lines_for_the_chain_rule_that_speaks_of_it() -> None:
    p, q = Value(2.0, "p"), Value(3.0, "q")
    r = labelled(p / q, "r")
    y = labelled(ops.maximum(r * q, 1.0) ** -2.0, "y")
    *lines, chain, partials, result = derive(y, q).text.splitlines()
    assert result == "∂y/∂q = 0"
    used = set(re.findall(r"\bv\d", chain + partials))
    assert used
    assert used <= {line.split(" = ")[0] for line in lines}


def test_definitions_and_chain_rules_have_no_idle_constants() -> None:
    p, q, w = Value(2.0, "p"), Value(3.0, "q"), Value(0.5, "w")
    assert derive(labelled(sum([p, q], Value(0.0) * 0), "L"), p).text.endswith("∂L/∂p = 1")
    assert derive(labelled(0 + p + q, "L"), p).text.splitlines()[0] == "L = p + q"
    assert derive(labelled(1 * p + -0.5 * w, "L"), p).text.splitlines()[0] == "L = p - 0.5 · w"
    fused = affine([1.0, -0.5], [p, w], 0.0)
    assert derive(labelled(fused, "L"), p).text.splitlines()[0] == "L = p - 0.5 · w"
    assert last(labelled(2 ** (p**2), "y"), p) == "∂y/∂p = 2 · log(2) · y · p"
    assert last(labelled(p / 4, "y"), p) == "∂y/∂p = 0.25"
    assert last(labelled(p.exp() / q.exp() * q.exp(), "y"), p).count("/") == 2


def test_notebooks_show_latex_and_print_shows_text() -> None:
    derived = Net().derive("w10", "b10")
    assert derived._repr_latex_() == f"$$\n{derived.latex}\n$$"
    assert str(derived) == derived.text
    assert repr(derived) == "<Derivation of ∂y/∂w10, ∂y/∂b10>"


def test_a_label_never_breaks_a_line() -> None:
    x = Value(1.0, "a\nb")
    assert len(derive(labelled(x * 2, "y"), x).text.splitlines()) == 2


# --- LaTeX ----------------------------------------------------------------------------------------


NAMES = (
    r"a\input{b}", "}{", "{", "\\", "$", "$$", "#1", "50%", "a&b", "~x^2_y", "^", "_", "a\nb",
    "\\\n", "f@x", "@x", "φ²", "<b>", "`'\"", "\0", "\\end{aligned}",
)  # fmt: skip


def operation_called(name: str) -> Op:
    """A product of a made-up name, whose arguments have names with an accent."""
    row = Op(name, lambda ξ, é: ξ * é, (lambda ξ, é, out: é, lambda ξ, é, out: 1.0 * float(ξ)))
    del ops.TABLE[name]
    return row


def derivations() -> list[Derivation]:
    """A page full: every row, labels of all sorts, numbers, elisions."""
    net = Net()
    x = Value(0.4, "x")
    rows = [
        derive(op(x * 1.25), x)
        for name, op in ops.TABLE.items()
        if op.arity == 1 and name in ops.BUILTIN and name != "acosh"
    ]
    labels = (
        "α", "w_10", "layers[0].neurons[1].w[2]", r"50% of $x_1 & {y}\ #~^|<>`\"", "weight",
        "a'", "x1*w1 + x2*w2", "z_out", "encoder.w", "W1[0,1]", "x₁", "two\nlines", "a''",
    )  # fmt: skip
    leaves = [Value(1.0 + i / 8, label) for i, label in enumerate(labels)]
    root = leaves[0] * 1e-9
    for leaf in leaves:
        root = (root + leaf**2 * root).tanh() / leaf + leaf * leaf
    alike = (
        "x\u0302", "i\u032f", "\u0301", "w1", "w_1", "w[1]", "w₁", "w¹", "x²",
    )  # fmt: skip
    others = [Value(1.0 + i / 8, label) for i, label in enumerate(alike)]
    squares = others[0]
    for leaf in others[1:]:
        squares = squares + leaf**2 * ops.maximum(leaf, 0.5)
    theirs = [operation_called(name) for name in NAMES]
    called = x * 1.25
    for row in theirs:
        called = row(called, x) * row(x, 2.0)
    many = [Value(0.1, f"w20[{i}]") for i in range(30)]
    neuron = affine(many, [Value(1.0, f"x{i}") for i in range(30)], Value(0.0, "b")).relu()
    return [
        net.derive("w10", activation="α"),
        net.derive("w10", form="exact"),
        net.derive(*PARAMETERS, activation="φ"),
        derive(root, leaves, form="exact"),
        derive(root, leaves, activation="f"),
        derive(neuron, many[3]),
        derive(squares.tanh(), others, form="exact"),
        derive(called, x),
        *[derive(called, x, activation=name) for name in NAMES],
        derive(ops.hypot(x, x * 2) + ops.maximum(x, x * x) + ops.logsumexp(x, x * x, x**x), x),
        *rows,
    ]


def test_latex_is_balanced_and_of_macros_that_every_renderer_has() -> None:
    allowed = {
        "Phi", "acute", "alpha", "arccos", "arcsin", "arctan", "backslash", "bar", "begin", "bmod",
        "cdot", "cdots", "cos", "cosh", "ddot", "delta", "end", "exp", "frac", "hat", "le", "left",
        "lfloor", "ln", "log", "mathbf", "mathrm", "max", "min", "partial", "phi", "quad", "rfloor",
        "right", "sigma", "sim", "sin", "sinh", "sqrt", "sum", "tan", "tanh", "text", "underbrace",
        "varphi", "vdots", "wedge",
    }  # fmt: skip
    for derived in derivations():
        latex = derived.latex
        bare = re.sub(r"\\[{}]", "", latex)
        assert bare.count("{") == bare.count("}")
        assert latex.count(r"\left") == latex.count(r"\right")
        assert set(re.findall(r"\\([A-Za-z]+)", latex)) <= allowed
        assert not re.search(r"[^\x00-\x7f]", latex)
        assert not re.search(r"\n\n|\$", latex.replace(r"\$", ""))


@given(st.text(min_size=1, max_size=8))
@example("f@ξ·")
@example("a\nb")
@example("}{\\")
def test_operations_of_any_name_are_one_line_of_text_and_balanced_latex(name: str) -> None:
    if name in ops.TABLE:
        return
    x, y = Value(0.5, "x"), Value(2.0, name)
    derived = derive(operation_called(name)(x, y) * operation_called(name)(y, x), [x, y])
    assert len(derived.text.splitlines()) == 5
    assert f"{printable(name)}(" in derived.text
    assert rf"\mathrm{{{latex_text(name)}}}\left(" in derived.latex
    bare = re.sub(r"\\[{}]", "", derived.latex)
    assert bare.count("{") == bare.count("}")
    assert len(derived.latex.splitlines()) == 7
    assert not re.search(r"(?<!\\)(\\\\)*[$#%]", derived.latex)


def test_a_page_of_derivations_compiles_with_pdflatex(typeset: Callable[[str], Path]) -> None:
    x = Value(0.5, "é")
    accents = derive(operation_called("ß ü")(x, x), x)
    page = typeset("\n\n".join(derived._repr_latex_() for derived in [*derivations(), accents]))
    assert page.stat().st_size > 10_000


# --- choices --------------------------------------------------------------------------------------


def test_both_sides_of_a_choice_are_derived_whichever_is_taken() -> None:
    texts = set()
    for at in (2.0, 0.5):
        x, w = Value(at, "x"), Value(3.0, "w")
        y = labelled(where(greater(x, 1.0), x**2, -x * w), "y")
        texts.add(derive(y, [x, w]).text)
    (text,) = texts
    assert text.splitlines()[-2:] == [
        "∂y/∂x = 2 · where(v1, 1, 0) · x - δ4 · w",
        "∂y/∂w = δ4 · v3",
    ]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(range(6)), max_size=6), st.floats(-2.0, 2.0), st.floats(-2.0, 2.0))
@example([5, 5], 0.5, -0.5)
def test_the_derivation_of_choices_has_the_numbers_of_the_gradient(
    steps: list[int], at_x: float, at_w: float
) -> None:
    x, w = Value(at_x, "x"), Value(at_w, "w")
    y = x * w
    for step in steps:
        y = [
            lambda y: where(greater(x, 0.3), y, x),
            lambda y: where(greater(y, w), x, y * w),
            lambda y: where(x, y.tanh(), y * y),
            lambda y: where(greater(w, x), 2.0, y),
            lambda y: where(1.0, y, w),
            lambda y: where(greater(y, x), y * w, y) * y,
        ][step](y)
    derived = derive(y, [x, w])
    for got, want in zip(evaluated(derived, [x, w]) or (), grad(y, [x, w]), strict=False):
        assert got == pytest.approx(want, rel=1e-9, abs=1e-9)
