"""To add an operation is to add a row: one that is made up works everywhere."""

from __future__ import annotations

import ast
import cmath
import json
import math
import pickle
from pathlib import Path

import pytest
from javascript import computed
from optional import np
from test_structure import FILES

from micrograd_like import Op, Value, derive, draw, explain, grad, gradcheck, nn, ops, player, steps
from micrograd_like import compile as compile_graph
from micrograd_like.cli.expressions import functions, parse
from micrograd_like.ops import exp


def mish_like(x: float) -> float:
    return x / (1.0 + math.exp(-2.0 * x))


@pytest.fixture
def row(made_up: type[Op]) -> Op:
    return made_up(
        "swash",
        mish_like,
        lambda x, out: (1.0 + (1.0 + 2.0 * x) * exp(-2.0 * x)) / (1.0 + exp(-2.0 * x)) ** 2.0,
        text="swash⟨@x⟩",
        latex=r"\mathrm{swash}\langle{@x}\rangle",
        kind="rectifier",
        array="@x / (1.0 + xp.exp(-2.0 * @x))",
        numba="(@x) / (1.0 + math.exp(-2.0 * (@x)))",
        torch=lambda torch_nn: torch_nn.SiLU(),
        analytic=lambda z: z / (1.0 + cmath.exp(-2.0 * z)),
    )


X = 0.7
SLOPE = (1.0 + (1.0 + 2.0 * X) * math.exp(-2.0 * X)) / (1.0 + math.exp(-2.0 * X)) ** 2
BEND = 1e-5


def curvature() -> float:
    def slope(x: float) -> float:
        e = math.exp(-2.0 * x)
        return (1.0 + (1.0 + 2.0 * x) * e) / (1.0 + e) ** 2

    return (slope(X + BEND) - slope(X - BEND)) / (2.0 * BEND)


def test_it_computes_and_differentiates_to_any_order(row: Op) -> None:
    x = Value(X, label="x")
    y = row(x)
    y.backward()
    assert (y.data, y.op) == (row(X), row)
    assert math.isclose(x.grad, SLOPE, rel_tol=1e-15)
    first = grad(y, x, create_graph=True)
    assert math.isclose(grad(first, x), curvature(), rel_tol=1e-8)
    assert pickle.loads(pickle.dumps(y)).op is row


def test_it_is_seen(row: Op) -> None:
    x = Value(X, label="x")
    y = row(x)
    y.label = "y"
    assert "swash⟨x⟩" in str(steps(y))
    assert "swash" in draw(y).source
    assert "swash" in player(y).html
    derivation = derive(y, [x])
    assert "swash⟨x⟩" in derivation.text
    assert r"\mathrm{swash}\langle{x}\rangle" in derivation.latex


def test_it_is_explained(row: Op, capsys: pytest.CaptureFixture[str]) -> None:
    x = Value(X, label="x")
    y = row(x)
    y.label = "y"
    explain(x, y * y)
    assert f"{SLOPE:.4g}" in capsys.readouterr().out


def test_it_is_checked_by_its_complex_form(row: Op, made_up: type[Op]) -> None:
    assert gradcheck(lambda x: row(2.0 * x), [X])
    wrong = made_up("wrong", mish_like, lambda x, out: 1.000001 * out, analytic=row.analytic)
    with pytest.raises(RuntimeError) as caught:
        gradcheck(lambda x: wrong(x), [X], second=False)
    assert caught.value.report.culprit.op == "wrong"  # type: ignore[attr-defined]


def test_the_command_line_knows_it(row: Op) -> None:
    assert functions()["swash"] is row
    root, leaves = parse("swash(2*x)").build({"x": X})
    assert root.data == row(2.0 * X)
    assert json.dumps(list(leaves)) == '["x"]'


def test_it_is_javascript_by_what_it_has_for_numba_or_words_of_its_own(row: Op) -> None:
    x = Value(X, label="x")
    for spelled, shown in [
        ("", "x / (1 + Math.exp(-2 * x))"),
        ("@x / (1 + Math.E ** (-2 * @x))", "E **"),
    ]:
        row.javascript = spelled
        source = compile_graph(row(x), [x], [x], backend="javascript").source
        assert shown in source
        ((value, slope),) = computed(source, [[[X]]])
        assert math.isclose(value, mish_like(X), rel_tol=1e-14)
        assert math.isclose(slope, SLOPE, rel_tol=1e-14)


@pytest.mark.parametrize("backend", ["numpy", "python", "numba", "jax"])
def test_it_compiles_in_the_words_that_it_has_for_each_target(row: Op, backend: str) -> None:
    if backend != "python":
        pytest.importorskip({"numba": "numba", "jax": "jax"}.get(backend, "numpy"))
    xs = [Value(X + 0.1 * i, label=f"x[{i}]") for i in range(8)]
    root = row(xs[0])
    for x in xs[1:]:
        root = root + row(x)
    program = compile_graph(root, xs, xs, backend=backend)
    words = {"numpy": "np.exp(", "jax": "jnp.exp(", "numba": "math.exp("}
    assert words.get(backend, "swash") in program.source
    assert ("swash" in program.source) == (backend == "python")
    points = [0.3 * i - 1.0 for i in range(8)]
    value, gradient = program(points)
    assert math.isclose(value, math.fsum(map(mish_like, points)), rel_tol=1e-12)
    leaves = [Value(x) for x in points]
    assert np.allclose(gradient, [grad(row(x), x) for x in leaves], rtol=1e-12)


def test_a_network_finds_it_by_name_and_starts_as_its_kind_asks(row: Op) -> None:
    assert nn.Neuron(3, "swash").activation is row
    widest = max(abs(w.data) for w in nn.Neuron(4000, "swash", nout=4000, seed=0).w)
    assert 0.95 * math.sqrt(6.0 / 4000) < widest <= math.sqrt(6.0 / 4000)  # He, not Glorot


def test_it_leaves_for_pytorch(row: Op) -> None:
    torch = pytest.importorskip("torch")
    model = nn.MLP(2, [3, 1], activation="swash", seed=0)
    assert isinstance(model.to_torch()[1], torch.nn.SiLU)


# What the algebra of sums, products and powers is about, and the reduction that compilers know.
ARITHMETIC = {
    *("add", "sub", "mul", "div", "neg", "power", "ieee_div", "ieee_pow", "ieee_log", "log"),
    *("pow_slope", "damp", "affine_row", "logsumexp"),
}


@pytest.mark.parametrize(
    "name", sorted(set(FILES) - {"ops", "methods", "engine", "losses", "__init__"})
)
def test_no_other_file_knows_an_operation_by_its_name(name: str) -> None:
    """Apart: methods, what is exported, and what is written with operations, as losses are."""
    named = {
        node.attr
        for node in ast.walk(FILES[name])
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "ops"
        and isinstance(getattr(ops, node.attr, None), Op)
    }
    if name == "cli.expressions":  # what % is, and max and min, by the names that are exported
        named -= {"maximum", "minimum", "mod"}
    assert named - ARITHMETIC == set()
    source = (Path(ops.__file__).parent / f"{name.replace('.', '/')}.py").read_text("utf-8")
    for known in ops.BUILTIN - ARITHMETIC - {"abs", "max", "min", "pow", "affine"}:
        if name != "cli.commands":
            assert f'.name == "{known}"' not in source
