"""Operations that refuse nothing: as functions of numbers, and as what Numba compiles."""

from __future__ import annotations

import ast
import math
from graphlib import TopologicalSorter
from itertools import product as grid
from types import SimpleNamespace

import pytest

from micrograd_like import Value, ops

np = pytest.importorskip("numpy")

from test_loops import same  # noqa: E402

from micrograd_like.compiler import rows  # noqa: E402
from micrograd_like.compiler.rows import unrefusing  # noqa: E402

SPECIAL = [
    0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.7, 1e-9, -1e-310, 20.0, -40.0, 710.0, -712.0, 750.0,
    1e200, -1.7e308, 1.5e308, math.inf, -math.inf, math.nan,
]  # fmt: skip


# The functions of math as they are when compiled: nothing raises.
IEEE = SimpleNamespace(
    exp=np.exp, expm1=np.expm1, log=np.log, log1p=np.log1p, cosh=np.cosh, hypot=np.hypot,
    pow=np.power, erfc=math.erfc, copysign=np.copysign, isinf=np.isinf, isfinite=np.isfinite,
    sqrt=np.sqrt, pi=math.pi,
)  # fmt: skip


def compiled(op):
    """What Numba compiles for the operation, run by Python over NumPy's floats."""
    space = {"math": IEEE, "inf": math.inf, "nan": math.nan, "INF": math.inf, "NAN": math.nan}
    exec("\n".join(["from __future__ import annotations", *rows.sources([op])]), space)
    arguments = "*xs" if op.arity is None else ", ".join(op.arguments)
    return eval(f"lambda {arguments}: {op.numba.replace('@', '')}", space)


@pytest.mark.parametrize("name", [name for name, op in ops.TABLE.items() if rows.sources([op])])
def test_functions_that_numba_compiles_are_the_operations(name):
    op = ops.TABLE[name]
    function, reference = compiled(op), unrefusing(op)
    with np.errstate(all="ignore"):
        for xs in grid(map(np.float64, SPECIAL), repeat=op.arity or 3):
            assert same(function(*xs), reference(*map(float, xs))), xs


def test_no_function_that_numba_compiles_calls_itself():
    """Kept on disk, such machine code crashes the next process (Numba's issue 6061)."""
    texts = [text for op in ops.TABLE.values() for text in rows.sources([op])]
    calls = {}
    for text in set(texts):
        (function,) = ast.parse(text).body
        names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
        calls[function.name] = names
    TopologicalSorter(calls).prepare()  # which refuses circles
    assert "pow_partial" in calls


def test_logsumexp_of_one_number_is_that_number():
    assert rows.logsumexp((1.5,)) == 1.5


def test_what_an_operation_calls_through_others_comes_with_it():
    names = [text.partition("(")[0] for text in rows.sources([ops.silu, ops.inversion])]
    assert sorted(names) == [f"def {n}" for n in ("cosine", "damp", "divide", "inversion",
                                                  "sigmoid", "silu")]  # fmt: skip
    assert rows.sources([ops.exp, ops.mul]) == []


def everything():
    """All operations, each on inputs of its own, and the operation of each output."""
    start = {"acosh": 1.5, "atanh": 0.5}
    table = [op for name, op in sorted(ops.TABLE.items()) if name in ops.BUILTIN]
    arity = {op: op.arity or (5 if op is ops.affine_row else 3) for op in table}
    inputs = []
    outputs = []
    for op in table:
        xs = [Value(start.get(op.name, 0.5), f"in_{op.name}[{k}]") for k in range(arity[op])]
        outputs.append(op(*xs))
        inputs += xs
    return table, arity, inputs, outputs
