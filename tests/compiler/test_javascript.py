"""Functions of floats in JavaScript: what they compute is what they compute in Python."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from javascript import computed
from optional import mpmath
from reference import ulps

from micrograd_like import ops
from micrograd_like.compiler.javascript import OURS, SCRIPTS, function, number, scripts, template
from micrograd_like.compiler.rows import unrefusing
from micrograd_like.errors import InputError

EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 3.0, -7.5, 20.0, -40.0, 1e-310, 1e300]
EDGES += [math.inf, -math.inf, math.nan]


def same(got: float, want: float, most: float = 4.0) -> bool:
    """To so many units in the last place; a zero of either sign is one."""
    return ulps(got, want) <= most


ROWS = sorted(op.name for op in ops.TABLE.values() if op.name in ops.BUILTIN and op.arity)
SOME = {1: EDGES, 2: [*product(EDGES, EDGES)], 3: [*product(EDGES[::2], EDGES[1::3], EDGES[::4])]}


@pytest.mark.parametrize("name", ROWS)
def test_an_operation_is_the_engines_at_the_edges_too(name: str) -> None:
    op = ops.TABLE[name]
    assert op.arity
    text = re.sub(r"@(\w+)", r"\1", op.javascript or template(op.numba))
    program = f"export const program = ([{', '.join(op.arguments)}]) => {text};"
    points = [x if isinstance(x, tuple) else (x,) for x in SOME[op.arity]]
    source = "\n".join([*scripts([program]), program])
    found = computed(source, [[xs] for xs in points])
    most = 16.0 if name == "pow_xy" else 4.0  # 1 + y·log(x), which has a zero
    for xs, (got,) in zip(points, found, strict=True):
        want = unrefusing(op)(*xs)
        assert same(got, want, most), (xs, got, want)


@pytest.mark.parametrize("name", ["logsumexp", "largest", "smallest", "affine"])
def test_an_operation_of_any_number_of_arguments_is_too(name: str) -> None:
    op = ops.TABLE[name]
    rng = random.Random(0)
    points = [[rng.choice([*EDGES, 0.3, -1.7]) for _ in range(5)] for _ in range(200)]
    program = f"export const program = (xs) => {name}(xs);"
    found = computed("\n".join([*scripts([program]), program]), [[xs] for xs in points])
    for xs, (got,) in zip(points, found, strict=True):
        assert same(got, unrefusing(op)(*xs)), xs


@pytest.mark.parametrize(("name", "most"), [("erf", 4.0), ("erfc", 8.0)])
def test_the_error_function_which_javascript_lacks_is_right_to_a_few_ulps(
    name: str, most: float
) -> None:
    rng = random.Random(1)
    xs = [rng.uniform(-3.0, 27.0) for _ in range(500)] + [rng.gauss(0.0, 1.0) for _ in range(500)]
    program = f"export const program = ([x]) => {name}(x);"
    found = computed("\n".join([*scripts([program]), program]), [[[x]] for x in xs])
    exact: Callable[[float], Any] = getattr(mpmath, name)
    for x, (got,) in zip(xs, found, strict=True):
        want = float(exact(x))
        assert abs(want) < 1e-307 or same(got, want, most), (x, got, want)


def test_only_what_is_called_is_written_and_what_that_calls() -> None:
    assert scripts(["Math.exp(x) + y.pow(2)"]) == []
    found = scripts(["pow_slope(x, y) + gelu(x)"])
    names = [text.partition("(")[0].removeprefix("function ") for text in found]
    assert names == ["damp", "erf", "erfc", "gelu", "normcdf", "pow", "pow_slope"]
    assert set(SCRIPTS) < OURS


def test_functions_are_written_as_one_would_write_them() -> None:
    assert function("softplus").splitlines() == [
        "function softplus(x) {",
        "  return (x > 0 ? x : 0) + Math.log1p(Math.exp(-Math.abs(x)));",
        "}",
    ]
    assert function("largest").splitlines() == [
        "function largest(xs) {",
        "  let out = xs[0];",
        "  for (let i = 1; i < xs.length; i++) {",
        "    out = maximum(out, xs[i]);",
        "  }",
        "  return out;",
        "}",
    ]


@pytest.mark.parametrize(
    ("python", "javascript"),
    [
        ("@x if @x else @y", "@x != 0 ? @x : @y"),
        ("(@x + 1.0) * -@y", "(@x + 1) * -@y"),
        ("@x - (@y - 2.5)", "@x - (@y - 2.5)"),
        ("-(@x * 1e-300) / math.pi", "-(@x * 1e-300) / Math.PI"),
        ("0.0 <= @x < inf and not @y", "0 <= @x && @x < Infinity && !(@y != 0)"),
        ("@x % 2 ** @y", "modulo(@x, pow(2, @y))"),
        ("(1.0 if @x > 0 else 2.0) if @y else 3.0", "@y != 0 ? (@x > 0 ? 1 : 2) : 3"),
        ("math.isnan(@x) or @x > 1", "Number.isNaN(@x) || @x > 1"),
    ],
)
def test_a_template_is_translated(python: str, javascript: str) -> None:
    assert template(python) == javascript


@pytest.mark.parametrize("python", ["scipy.special.j0(@x)", "@x @", "lambda: @x", "f(@x)"])
def test_what_is_not_known_is_refused(python: str) -> None:
    with pytest.raises(InputError, match="not known in JavaScript"):
        template(python)


def test_numbers_are_javascripts() -> None:
    xs = [0.0, -0.0, 1.0, 0.1, 1e16, 1e-7, 1.5e300, 5e-324, math.inf, -math.inf]
    assert [number(x) for x in xs[:4]] == ["0", "-0", "1", "0.1"]
    source = f"export const program = () => [{', '.join(map(number, xs))}];"
    (found,) = computed(source, [[]])
    assert [x.hex() for x in found] == [x.hex() for x in xs]
    assert number(math.nan) == "NaN"
