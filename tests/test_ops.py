"""The table of operations: every value, every derivative, every convention, every refusal."""

from __future__ import annotations

import copy
import math
import os
import pickle
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optional import cases, mp, np
from reference import (
    DEFINITIONS,
    Miss,
    Point,
    check_row,
    misses,
    reference,
    reference_points,
    same,
    ulps,
)

import micrograd_like
from micrograd_like import DomainError, MicrogradError, Op, Value, grad, hessian, ops
from micrograd_like.compiler import rows
from micrograd_like.errors import InputError, OperandError

INF, NAN = math.inf, math.nan
ROWS = sorted(ops.BUILTIN)


def the(name: str) -> Op:
    return ops.TABLE[name]


# --- the reference table --------------------------------------------------------------------------

# Where the engine is outside the reference file's bounds: by entry, quantity and a tag that all
# these points bear, with the reason. Nothing else is left out of the smooth points.
KNOWN_MISSES = {
    ("pow", "d²/dydx", "subnormal_input"): "∂/∂x of ln(x)·x^y passes 1/x, which overflows there",
    ("atan2", "d²/dydx", "subnormal_input"): "the true one is infinite: inf - inf on the way",
    ("atan2", "d²/dxdy", "subnormal_input"): "the true one is infinite: inf - inf on the way",
    ("atan2", "d/dy", "subnormal_input"): "the file says to skip it: hypot(x, y) has no digits",
    ("atan2", "d/dx", "subnormal_input"): "the file says to skip it: hypot(x, y) has no digits",
    ("hypot", "d/dx", "subnormal_input"): "the file says to skip it: hypot(x, y) has no digits",
    ("hypot", "d/dy", "subnormal_input"): "the file says to skip it: hypot(x, y) has no digits",
    ("gelu", "sign", "near_exp_range"): "an underflow from below gives 0.0, not -0.0",
}


def smooth_points(name: str) -> list[Point]:
    return [point for point in reference()[name] if point.kind == "smooth"]


def known(miss: Miss) -> bool:
    return any((miss.point.name, miss.quantity, tag) in KNOWN_MISSES for tag in miss.point.tags)


@pytest.mark.parametrize("order", [0, 1, 2], ids=["value", "gradient", "hessian"])
@pytest.mark.parametrize("name", reference())
def test_every_smooth_point_of_the_reference_is_met_to_a_few_ulps(name: str, order: int) -> None:
    points = smooth_points(name)
    assert points
    found = [miss for point in points for miss in misses(point, order) if not known(miss)]
    assert found == [], "\n".join(map(str, found))


@pytest.mark.skipif("MICROGRAD_OP_REFERENCE" in os.environ, reason="about the bundled file")
def test_the_known_misses_in_the_bundled_reference_are_these() -> None:
    found = {
        f"{miss.quantity} of {point}"
        for point in reference_points("smooth")
        for order in range(3)
        for miss in misses(point, order)
    }
    assert found == {
        "d²/dydx of atan2(1e-310, 2e-310)",
        "d²/dxdy of atan2(1e-310, 2e-310)",
        "d/dx of hypot(5e-324, 5e-324)",
        "d/dy of hypot(5e-324, 5e-324)",
        "sign of gelu(-700.0)",
    }


@pytest.mark.parametrize("point", reference_points("domain", "pole"), ids=str)
def test_poles_and_arguments_off_the_domain_raise_domain_error(point: Point) -> None:
    xs = [Value(x, label=f"node {i}") for i, x in enumerate(point.xs)]
    with pytest.raises(DomainError) as caught:
        point.row(*xs, *point.constants)
    assert caught.value.op == point.row.name
    assert caught.value.arguments == point.xs + point.constants
    with pytest.raises(DomainError):
        point.row(*point.xs, *point.constants)


@pytest.mark.parametrize(
    "point", reference_points("d2_undefined", "infinite_derivative", "partial"), ids=str
)
def test_where_some_derivatives_exist_these_are_right(point: Point) -> None:
    xs = [Value(x) for x in point.xs]
    y = point.row(*xs, *point.constants)
    assert ulps(y.data, point.value) <= 4
    for got, want in zip(grad(y, xs), point.first, strict=True):
        assert math.isnan(want) or ulps(got, want) <= 16


CONVENTIONS: dict[str, Callable[..., list[float]]] = {
    "relu": lambda x: [0.0],
    "leaky_relu": lambda x, slope: [slope],
    "abs": lambda x: [0.0],
    "max": lambda x, y: [0.5, 0.5],
    "min": lambda x, y: [0.5, 0.5],
    "hypot": lambda x, y: [0.0, 0.0],
    "atan2": lambda y, x: [1.0 / x, 0.0],  # on the cut, what the partials are on either side of it
}


@pytest.mark.parametrize("point", reference_points("kink"), ids=str)
def test_kinks_follow_the_published_conventions(point: Point) -> None:
    xs = [Value(x) for x in point.xs]
    y = point.row(*xs, *point.constants)
    assert y.data == point.value
    assert grad(y, xs) == CONVENTIONS[point.name](*point.xs, *point.constants)


@pytest.mark.parametrize("point", reference_points("undefined_value"), ids=str)
def test_values_by_convention_are_those_of_ieee_754(point: Point) -> None:
    xs = [Value(x) for x in point.xs]
    y = point.row(*xs, *point.constants)
    assert ulps(y.data, point.value) <= 1
    expected = {"pow": [0.0], "atan2": [NAN, NAN]}[point.row.name]
    for got, want in zip(grad(y, xs), expected, strict=False):
        assert same(got, want)


# --- planted errors: the checkers above do fail ---------------------------------------------------

Partial = Callable[..., Any]
PLANTED: dict[str, Callable[[Partial, Partial], Partial]] = {
    "a thousandth too large": lambda true, other: lambda *xs: true(*xs) * 1.001,
    "of the wrong sign": lambda true, other: lambda *xs: -true(*xs),
    "of the other argument": lambda true, other: other,
    "zero": lambda true, other: lambda *xs: true(*xs) * 0.0,
    "off by a thousandth": lambda true, other: lambda *xs: true(*xs) + 0.001,
}
FLAT = {
    *(("step", 0), ("sign", 0), ("greater", 0), ("greater", 1), ("exceeds", 0), ("exceeds", 1)),
    *(("equals", 0), ("equals", 1), ("floor_div", 0), ("floor_div", 1)),
    *(("within", 0), ("within", 1), ("within", 2)),
}


def plants() -> list[Any]:
    """Every wrong partial, but those that are right: the partials of flat rows are all zero."""
    cases = []
    for name in ROWS:
        arity = the(name).arity
        for i in range(arity or 0) if name != "where" else ():  # a choice: tests/test_gradients.py
            for how in PLANTED:
                if (name, i) in FLAT and how != "off by a thousandth":
                    continue
                if how == "of the other argument" and (arity != 2 or name == "add"):
                    continue
                cases.append(pytest.param(name, i, how, id=f"{name}-{i}-{how}"))
    return cases


def check_at_samples(row: Op) -> None:
    for xs in DEFINITIONS[row.name].samples:
        check_row(row, xs)


@pytest.mark.parametrize(("name", "i", "how"), plants())
def test_the_row_checker_fails_on_a_partial_that_is(
    name: str, i: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = the(name)
    check_at_samples(row)
    wrong = list(row.partials)
    wrong[i] = PLANTED[how](row.partials[i], row.partials[i - 1])
    monkeypatch.setattr(row, "partials", tuple(wrong))
    with pytest.raises(AssertionError, match=f"partial {i} of {name}"):
        check_at_samples(row)


@pytest.mark.parametrize("how", ["scaled", "negated", "zeroed"])
@pytest.mark.parametrize(
    ("name", "i"), [*(("affine", i) for i in range(5)), *(("logsumexp", i) for i in range(3))]
)
def test_the_row_checker_fails_on_a_wrong_partial_of_a_variadic_row(
    name: str, how: str, i: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = the(name)
    (true,) = row.partials
    sample = DEFINITIONS[name].samples[0]
    factor = {"scaled": 1.001, "negated": -1.0, "zeroed": 0.0}[how]
    monkeypatch.setattr(
        row,
        "partials",
        (lambda *xs: [d * factor if j == i else d for j, d in enumerate(true(*xs))],),
    )
    with pytest.raises(AssertionError, match=f"partial {i} of {name}"):
        check_row(row, sample)


@pytest.mark.parametrize("name", ROWS)
def test_the_row_checker_fails_on_a_wrong_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row, true = the(name), the(name).compute
    monkeypatch.setattr(row, "compute", lambda *xs: true(*xs) + 1e-9)
    with pytest.raises(AssertionError):
        check_row(row, DEFINITIONS[name].samples[0])


@pytest.mark.parametrize("name", reference())
def test_the_reference_checker_fails_on_a_gradient_a_millionth_too_large(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = smooth_points(name)[0].row
    for i, true in enumerate(row.partials[: len(smooth_points(name)[0].xs)]):
        wrong = list(row.partials)
        wrong[i] = lambda *xs, true=true: true(*xs) * (1.0 + 1e-6)
        with monkeypatch.context() as patch:
            patch.setattr(row, "partials", tuple(wrong))
            assert [m for p in smooth_points(name) for m in misses(p, 1) if not known(m)]


def test_the_reference_checker_fails_on_a_value_a_billionth_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in reference():
        row = smooth_points(name)[0].row
        true = row.compute
        with monkeypatch.context() as patch:
            patch.setattr(row, "compute", lambda *xs, true=true: true(*xs) * (1.0 + 1e-9))
            assert [m for p in smooth_points(name) for m in misses(p, 0) if not known(m)], name


def test_the_reference_checker_fails_where_only_the_second_derivative_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true = ops.sech.partials[0]
    monkeypatch.setattr(ops.sech, "partials", (lambda x, out: true(x, out) * (1.0 + 1e-6),))
    assert not [m for p in smooth_points("tanh") for m in misses(p, 1)]
    assert [m for p in smooth_points("tanh") for m in misses(p, 2)]


# --- every row against its definition -------------------------------------------------------------


def test_every_row_has_a_definition_to_be_checked_against() -> None:
    assert set(DEFINITIONS) == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_partials_are_the_differences_of_the_definition(name: str) -> None:
    @settings(max_examples=40)
    @given(xs=DEFINITIONS[name].xs)
    def check(xs: tuple[float, ...]) -> None:
        check_row(the(name), xs)

    check()


@given(x=st.floats(-10, -0.01), n=st.integers(-5, 6))
def test_a_negative_base_with_an_integer_exponent_has_the_slope_of_the_monomial(
    x: float, n: int
) -> None:
    v = Value(x)
    want = n * x ** (n - 1) if n else 0.0
    for y in (v**n, ops.power(v, float(n)), v ** Value(n)):
        assert grad(y, v) == pytest.approx(want, rel=1e-14)


@pytest.mark.parametrize(("row", "base"), [(ops.log2, 2), (ops.log10, 10)])
@given(x=st.floats(1e-300, 1e300))
def test_slopes_of_logarithms_lose_no_digits_at_any_size(row: Op, base: int, x: float) -> None:
    v = Value(x)
    with mp.workdps(40):
        assert ulps(grad(row(v), v), float(1 / (mp.mpf(x) * mp.log(base)))) <= 4


@given(xs=st.tuples(*[st.sampled_from([-INF, -1.0, 0.0, 1.0, 2.5, INF])] * 3))
def test_the_partials_of_a_clip_sum_to_one_and_are_zero_or_one(
    xs: tuple[float, float, float],
) -> None:
    x, low, high = values = [Value(v) for v in xs]
    partials = grad(ops.clip(*values), values)
    assert sorted(partials) == [0.0, 0.0, 1.0]
    assert (partials[0] == 1.0) == (low <= x <= high)


# --- how rows are written -------------------------------------------------------------------------


def written(template: str, **arguments: str) -> str:
    return re.sub(r"@([a-z_]+)", lambda match: arguments[match[1]], template)


@pytest.mark.parametrize("name", sorted(set(ROWS) - {"affine"}))
def test_the_template_for_compiled_python_computes_what_the_row_computes(name: str) -> None:
    row = the(name)
    for xs in DEFINITIONS[name].samples:
        names = [f"v{i}" for i in range(len(xs))]
        if row.arity is None:
            source = written(row.numba, xs=f"[{', '.join(names)}]")
        else:
            source = written(row.numba, **dict(zip(row.arguments, names, strict=True)))
        value = eval(source, {**rows.FUNCTIONS, "math": math}, dict(zip(names, xs, strict=True)))
        assert math.isclose(value, row(*xs), rel_tol=2.0**-50)


@pytest.mark.parametrize("name", sorted(set(ROWS) - {"affine"}))
def test_the_text_and_latex_templates_name_every_argument_and_no_other(name: str) -> None:
    row = the(name)
    for template in (row.text, row.latex, row.array, row.jax, row.numba):
        assert set(re.findall(r"@([a-z_]+)", template)) == set(row.arguments)


# What is written otherwise than as a function's name before its arguments, in text and in LaTeX,
# and how tightly that binds: 1 a sum, 2 a product, 3 a negation, 4 a power.
# fmt: off
NOTATION: dict[str, tuple[Any, ...]] = {
    "add":              ("@x + @y",             r"@x + @y", 1),
    "sub":              ("@x - @y",             r"@x - @y", 1),
    "mul":              ("@x·@y",               r"@x \cdot @y", 2),
    "div":              ("@x / @y",             r"\frac{@x}{@y}", 2),
    "mod":              ("@x mod @y",           r"@x \bmod @y", 2),
    "neg":              ("-@x",                 r"-@x", 3),
    "pow":              ("@x^@y",               r"@x^{@y}", 4),
    "exp":              ("exp(@x)",             r"e^{@x}"),
    "log":              ("log(@x)",             r"\ln\left(@x\right)"),
    "log2":             ("log2(@x)",            r"\log_{2}\left(@x\right)"),
    "log10":            ("log10(@x)",           r"\log_{10}\left(@x\right)"),
    "xlogy":            ("@x·log(@y)",          r"@x \cdot \ln\left(@y\right)", 2),
    "sqrt":             ("√@x",                 r"\sqrt{@x}"),
    "tanh":             ("tanh(@x)",            r"\tanh\left(@x\right)"),
    "sigmoid":          ("σ(@x)",               r"\sigma\left(@x\right)"),
    "sin":              ("sin(@x)",             r"\sin\left(@x\right)"),
    "cos":              ("cos(@x)",             r"\cos\left(@x\right)"),
    "tan":              ("tan(@x)",             r"\tan\left(@x\right)"),
    "asin":             ("asin(@x)",            r"\arcsin\left(@x\right)"),
    "acos":             ("acos(@x)",            r"\arccos\left(@x\right)"),
    "atan":             ("atan(@x)",            r"\arctan\left(@x\right)"),
    "hypot":            ("hypot(@x, @y)",       r"\sqrt{@x^2 + @y^2}"),
    "sinh":             ("sinh(@x)",            r"\sinh\left(@x\right)"),
    "cosh":             ("cosh(@x)",            r"\cosh\left(@x\right)"),
    "abs":              ("|@x|",                r"\left|@x\right|"),
    "max":              ("max(@x, @y)",         r"\max\left(@x, @y\right)"),
    "min":              ("min(@x, @y)",         r"\min\left(@x, @y\right)"),
    "affine":           ("w·x + b",             r"w \cdot x + b"),
    "ieee_div":         ("@x / @y",             r"\frac{@x}{@y}", 2),
    "ratio":            ("@x / @y",             r"\frac{@x}{@y}", 2),
    "floor_div":        ("⌊@x / @y⌋",           r"\left\lfloor \frac{@x}{@y} \right\rfloor"),
    "within":           ("1(@low ≤ @x ≤ @high)",
                         r"\mathbf{1}\left(@low \le @x \le @high\right)"),
    "ieee_log":         ("log(@x)",             r"\ln\left(@x\right)"),
    "ieee_pow":         ("@x^@y",               r"@x^{@y}", 4),
    "pow_slope":        ("@y·@x^(@y - 1)",      r"@y \cdot @x^{@y - 1}", 2),
    "pow_log":          ("@x^@y·log(@x)",       r"@x^{@y} \cdot \ln\left(@x\right)", 2),
    "pow_xy":           ("@x^(@y - 1)·(1 + @y·log(@x))",
                         r"@x^{@y - 1} \cdot \left(1 + @y \ln @x\right)", 2),
    "pow_yy":           ("@x^@y·log(@x)²",      r"@x^{@y} \cdot \ln^2 @x", 2),
    "lead":             ("@x - @y",             "@x - @y", 1),
    "fraction":         ("exp(@x - @total)",    r"e^{@x - @total}"),
    "damp":             ("@x·@w",               r"@x \cdot @w", 2),
    "gelu_slope":       ("Φ(@x) + @x·φ(@x)",
                         r"\Phi\left(@x\right) + @x \cdot \varphi\left(@x\right)", 1),
    "one_minus_square": ("(1 - @x²)",           r"\left(1 - @x^2\right)"),
    "cosine":           ("@x / hypot(@x, @y)",  r"\frac{@x}{\sqrt{@x^2 + @y^2}}", 2),
    "inversion":        ("@x / (@x² + @y²)",    r"\frac{@x}{@x^2 + @y^2}", 2),
    "step":             ("1(@x > 0)",           r"\mathbf{1}\left(@x > 0\right)"),
    "largest":          ("max(@xs)",            r"\max\left(@xs\right)"),
    "smallest":         ("min(@xs)",            r"\min\left(@xs\right)"),
    "equals":           ("1(@x = @y)",          r"\mathbf{1}\left(@x = @y\right)"),
    "exceeds":          ("H(@x - @y)",          r"H\left(@x - @y\right)"),
    "greater":          ("1(@x > @y)",          r"\mathbf{1}\left(@x > @y\right)"),
}
# fmt: on


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_written_as_mathematics_is(name: str) -> None:
    row = the(name)
    call = "(" + ", ".join(f"@{argument}" for argument in row.arguments) + ")"
    shown = name.replace("_", r"\_")
    plain = (f"{name}{call}", rf"\operatorname{{{shown}}}\left{call[:-1]}\right)")
    text, latex, *binding = NOTATION.get(name, plain)
    assert (row.text, row.latex, row.binding) == (text, latex, *(binding or [9]))


@pytest.mark.parametrize("name", ROWS)
def test_latex_braces_and_delimiters_are_balanced(name: str) -> None:
    latex = the(name).latex
    bare = latex.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    assert latex.count(r"\left") == latex.count(r"\right")


# --- kinks ----------------------------------------------------------------------------------------

# fmt: off
AT_KINKS: list[tuple[Callable[..., Value], tuple[float, ...], float, tuple[float, ...]]] = [
    (ops.relu,       (0.0,),       0.0, (0.0,)),
    (ops.relu,       (-0.0,),      0.0, (0.0,)),
    (ops.absolute,   (0.0,),       0.0, (0.0,)),
    (ops.absolute,   (-0.0,),      0.0, (0.0,)),
    (ops.leaky_relu, (0.0,),       0.0, (0.01,)),
    (ops.leaky_relu, (0.0, 0.3),   0.0, (0.3, 0.0)),
    (ops.elu,        (0.0,),       0.0, (1.0,)),
    (ops.elu,        (0.0, 0.3),   0.0, (0.3, 0.0)),
    (ops.maximum,    (2.0, 2.0),   2.0, (0.5, 0.5)),
    (ops.minimum,    (2.0, 2.0),   2.0, (0.5, 0.5)),
    (ops.maximum,    (0.0, -0.0),  0.0, (0.5, 0.5)),
    (ops.minimum,    (INF, INF),   INF, (0.5, 0.5)),
    (ops.clip,       (2.0, 2.0, 3.0),  2.0, (1.0, 0.0, 0.0)),
    (ops.clip,       (3.0, 2.0, 3.0),  3.0, (1.0, 0.0, 0.0)),
    (ops.clip,       (1.0, 2.0, 2.0),  2.0, (0.0, 1.0, 0.0)),
    (ops.clip,       (2.0, 2.0, 2.0),  2.0, (1.0, 0.0, 0.0)),
    (ops.clip,       (3.0, 2.0, 2.0),  2.0, (0.0, 0.0, 1.0)),
    (ops.clip,       (1.5, 2.0, 1.0),  1.0, (0.0, 0.0, 1.0)),
    (ops.clip,       (2.0, 2.0, 1.0),  1.0, (0.0, 0.0, 1.0)),
    (ops.clip,       (0.5, 2.0, 1.0),  1.0, (0.0, 0.0, 1.0)),
    (ops.clip,       (-INF, -INF, INF), -INF, (1.0, 0.0, 0.0)),
    (ops.clip,       (INF, 0.0, 1.0),  1.0, (0.0, 0.0, 1.0)),
    (ops.mod,        (6.0, 2.0),   0.0, (1.0, -3.0)),
    (ops.mod,        (-6.0, 2.0),  0.0, (1.0, 3.0)),
    (ops.mod,        (0.0, -2.0),  0.0, (1.0, 0.0)),
    (ops.mod,        (-5.0, INF),  INF, (1.0, 1.0)),
    (ops.xlogy,      (0.0, 0.0),   0.0, (-INF, 0.0)),
    (ops.xlogy,      (0.0, 2.0),   0.0, (math.log(2.0), 0.0)),
    (ops.xlogy,      (0.0, -2.0),  0.0, (NAN, 0.0)),
    (ops.xlogy,      (0.0, INF),   0.0, (INF, 0.0)),
    (lambda x: ops.xlogy(x, x), (0.0,), 0.0, (-INF,)),
    (ops.hypot,      (0.0, 0.0),   0.0, (0.0, 0.0)),
    (ops.hypot,      (-2.0, 0.0),  2.0, (-1.0, 0.0)),
    (ops.sqrt,       (0.0,),       0.0, (INF,)),
    (ops.sqrt,       (-0.0,),      0.0, (INF,)),
    (ops.asin,       (1.0,),       math.pi / 2, (INF,)),
    (ops.asin,       (-1.0,),      -math.pi / 2, (INF,)),
    (ops.acos,       (1.0,),       0.0, (-INF,)),
    (ops.acos,       (-1.0,),      math.pi, (-INF,)),
    (ops.acosh,      (1.0,),       0.0, (INF,)),
    (ops.atan2,      (0.0, 0.0),   0.0, (NAN, NAN)),
    (lambda x: x**0, (0.0,),       1.0, (0.0,)),
    (lambda x: x**0, (-3.0,),      1.0, (0.0,)),
    (lambda x: x**0, (INF,),       1.0, (0.0,)),
    (lambda x: x**0, (NAN,),       1.0, (0.0,)),
    (lambda x: x**1, (0.0,),       0.0, (1.0,)),
    (lambda x: x**2, (0.0,),       0.0, (0.0,)),
    (lambda x: x**0.5, (0.0,),     0.0, (INF,)),
    (lambda x, y: x**y, (0.0, 2.0), 0.0, (0.0, 0.0)),
]
# fmt: on


@pytest.mark.parametrize(("f", "xs", "value", "gradient"), AT_KINKS)
def test_derivatives_at_kinks_and_ends_of_domains_are_the_documented_ones(
    f: Callable[..., Value], xs: tuple[float, ...], value: float, gradient: tuple[float, ...]
) -> None:
    variables = [Value(x) for x in xs]
    y = f(*variables)
    assert y.data == value
    for got, want in zip(grad(y, variables), gradient, strict=True):
        assert same(got, want)
    for graph, want in zip(grad(y, variables, create_graph=True), gradient, strict=True):
        assert same(graph.data, want)


@pytest.mark.parametrize(
    ("f", "xs"),
    [
        (ops.relu, (0.0,)),
        (ops.absolute, (0.0,)),
        (ops.leaky_relu, (0.0,)),
        (ops.maximum, (2.0, 2.0)),
        (ops.minimum, (2.0, 2.0)),
        (ops.clip, (2.0, 2.0, 3.0)),
        (ops.clip, (1.0, 2.0, 2.0)),
        (ops.clip, (INF, -INF, INF)),
        (ops.mod, (6.0, 2.0)),
        (lambda x: x**0, (0.0,)),
        (lambda x: x**1, (0.0,)),
    ],
)
def test_second_derivatives_of_piecewise_linear_ops_are_zero_even_at_their_kinks(
    f: Callable[..., Value], xs: tuple[float, ...]
) -> None:
    variables = [Value(x) for x in xs]
    for gradient in grad(f(*variables), variables, create_graph=True):
        assert grad(gradient, variables) == [0.0] * len(xs)


def test_rows_that_only_partials_use_state_their_kinks_too() -> None:
    assert (ops.step.kink, ops.step(0.0)) == ("step(0) = 0", 0.0)
    assert (ops.sign.kink, ops.sign(0.0)) == ("sign(0) = 0", 0.0)
    assert (ops.within.kink, ops.within(1.0, 1.0, 1.0)) == ("1 at the bounds", 1.0)
    assert (ops.exceeds.kink, ops.exceeds(1.0, 1.0)) == ("1/2 at a tie", 0.5)
    assert ops.greater(1.0, 1.0) == 0.0


# --- the edges of the floats ----------------------------------------------------------------------

# fmt: off
AT_THE_EDGES: list[tuple[Op, tuple[float, ...], float]] = [
    # Overflow gives the infinity of IEEE 754.
    (ops.exp, (1000.0,), INF), (ops.expm1, (1000.0,), INF),
    (ops.sinh, (1000.0,), INF), (ops.sinh, (-1000.0,), -INF),
    (ops.cosh, (1000.0,), INF), (ops.cosh, (-1000.0,), INF),
    (ops.power, (10.0, 400.0), INF), (ops.power, (-10.0, 400.0), INF),
    (ops.power, (-10.0, 401.0), -INF), (ops.power, (0.1, -400.0), INF),
    (ops.mul, (1e200, 1e200), INF), (ops.add, (1e308, 1e308), INF),
    (ops.div, (1e200, -1e-200), -INF), (ops.hypot, (1.5e308, 1.5e308), INF),
    (ops.exp, (-1000.0,), 0.0), (ops.power, (10.0, -400.0), 0.0),
    (ops.ieee_pow, (10.0, 400.0), INF), (ops.ieee_pow, (-10.0, 401.0), -INF),
    # Large arguments where a formula would overflow on the way.
    (ops.softplus, (31.0,), 31.0 + math.exp(-31.0)), (ops.sech, (720.0,), 2.0 * math.exp(-720.0)),
    (ops.logsumexp, (0.0, -40.0), math.exp(-40.0)), (ops.logsumexp, (INF, NAN), NAN),
    (ops.softplus, (1000.0,), 1000.0), (ops.softplus, (-1000.0,), 0.0),
    (ops.sigmoid, (-1000.0,), 0.0), (ops.sigmoid, (1000.0,), 1.0),
    (ops.silu, (-1000.0,), 0.0), (ops.gelu, (-1000.0,), 0.0), (ops.tanh, (-1000.0,), -1.0),
    (ops.logaddexp, (1e308, -1e308), 1e308), (ops.logsumexp, (-1e308, 1e308, 0.0), 1e308),
    (ops.logaddexp, (-1000.0, -1000.0), -1000.0 + math.log(2.0)), (ops.sech, (1000.0,), 0.0),
    # Infinities take their limits.
    (ops.add, (INF, -INF), NAN), (ops.sub, (INF, INF), NAN), (ops.mul, (INF, 0.0), NAN),
    (ops.div, (1.0, -INF), 0.0), (ops.div, (INF, INF), NAN), (ops.div, (INF, 0.0), INF),
    (ops.div, (-INF, 0.0), -INF), (ops.div, (INF, -0.0), -INF), (ops.neg, (INF,), -INF),
    (ops.power, (INF, -1.0), 0.0), (ops.power, (-INF, 3.0), -INF), (ops.power, (2.0, INF), INF),
    (ops.power, (0.5, INF), 0.0), (ops.power, (0.0, -INF), INF), (ops.power, (INF, 0.0), 1.0),
    (ops.power, (-1.0, INF), 1.0), (ops.power, (-INF, 0.5), INF),
    (ops.exp, (INF,), INF), (ops.exp, (-INF,), 0.0), (ops.expm1, (-INF,), -1.0),
    (ops.log, (INF,), INF), (ops.log, (-INF,), NAN), (ops.log2, (INF,), INF),
    (ops.log2, (-INF,), NAN), (ops.log10, (INF,), INF), (ops.log10, (-INF,), NAN),
    (ops.log2, (5e-324,), -1074.0), (ops.log10, (1e300,), 300.0),
    (ops.xlogy, (INF, 2.0), INF), (ops.xlogy, (INF, 0.5), -INF), (ops.xlogy, (INF, 1.0), NAN),
    (ops.xlogy, (-INF, 0.0), INF), (ops.xlogy, (-2.0, INF), -INF), (ops.xlogy, (0.0, NAN), NAN),
    (ops.xlogy, (2.0, -INF), NAN), (ops.xlogy, (0.0, -INF), 0.0), (ops.xlogy, (1e-310, 2.0),
    1e-310 * math.log(2.0)), (ops.mod, (INF, 2.0), NAN), (ops.mod, (5.0, INF), 5.0),
    (ops.mod, (5.0, -INF), -INF), (ops.mod, (1e308, 3.0), 2.0), (ops.mod, (-1e-20, 1.0), 1.0),
    (ops.mod, (INF, 0.0), NAN), (ops.clip, (-INF, 0.0, 1.0), 0.0),
    (ops.clip, (7.0, -INF, INF), 7.0),
    (ops.log1p, (INF,), INF),
    (ops.log1p, (-INF,), NAN), (ops.sqrt, (INF,), INF), (ops.sqrt, (-INF,), NAN),
    (ops.logaddexp, (INF, 1.0), INF), (ops.logaddexp, (-INF, 1.0), 1.0),
    (ops.logaddexp, (-INF, -INF), -INF), (ops.logaddexp, (INF, INF), INF),
    (ops.logaddexp, (INF, -INF), INF), (ops.logsumexp, (INF, 1.0, -INF), INF),
    (ops.logsumexp, (-INF, -INF), -INF), (ops.logsumexp, (-INF, 2.0), 2.0),
    (ops.logsumexp, (INF, INF), INF),
    (ops.tanh, (INF,), 1.0), (ops.tanh, (-INF,), -1.0), (ops.sigmoid, (INF,), 1.0),
    (ops.sigmoid, (-INF,), 0.0), (ops.softplus, (INF,), INF), (ops.softplus, (-INF,), 0.0),
    (ops.relu, (INF,), INF), (ops.relu, (-INF,), 0.0), (ops.leaky_relu, (-INF, 0.1), -INF),
    (ops.elu, (-INF, 1.0), -1.0), (ops.elu, (INF, 1.0), INF), (ops.gelu, (INF,), INF),
    (ops.gelu, (-INF,), 0.0), (ops.silu, (INF,), INF), (ops.silu, (-INF,), 0.0),
    (ops.erf, (INF,), 1.0), (ops.erf, (-INF,), -1.0),
    (ops.sin, (INF,), NAN), (ops.cos, (-INF,), NAN), (ops.tan, (INF,), NAN),
    (ops.asin, (INF,), NAN), (ops.acos, (-INF,), NAN), (ops.atan, (INF,), math.pi / 2),
    (ops.atan2, (INF, INF), math.pi / 4), (ops.atan2, (1.0, -INF), math.pi),
    (ops.hypot, (INF, 1.0), INF), (ops.hypot, (-INF, NAN), INF),
    (ops.sinh, (-INF,), -INF), (ops.cosh, (-INF,), INF), (ops.asinh, (-INF,), -INF),
    (ops.acosh, (INF,), INF), (ops.acosh, (-INF,), NAN), (ops.atanh, (INF,), NAN),
    (ops.absolute, (-INF,), INF), (ops.maximum, (-INF, INF), INF), (ops.minimum, (-INF, INF), -INF),
    (ops.affine_row, (INF, 0.0, 1.0), NAN), (ops.affine_row, (INF, 2.0, 1.0), INF),
    # What the partials ask, IEEE 754 answers.
    (ops.ieee_div, (1.0, 0.0), INF), (ops.ieee_div, (1.0, -0.0), -INF),
    (ops.ratio, (0.0, 0.0), 0.0), (ops.ratio, (1.0, 0.0), INF), (ops.ratio, (1e-310, 1e-310), 1.0),
    (ops.floor_div, (1.0, 0.0), NAN), (ops.floor_div, (-5.0, INF), -1.0),
    (ops.within, (INF, 0.0, INF), 1.0), (ops.within, (-INF, 0.0, INF), 0.0),
    (ops.ieee_div, (0.0, 0.0), NAN), (ops.ieee_log, (0.0,), -INF), (ops.ieee_log, (-1.0,), NAN),
    (ops.ieee_pow, (0.0, -1.0), INF), (ops.ieee_pow, (-0.0, -1.0), -INF),
    (ops.ieee_pow, (-0.0, -2.0), INF), (ops.ieee_pow, (-8.0, 0.5), NAN),
    (ops.pow_slope, (0.0, 0.0), 0.0), (ops.pow_slope, (0.0, 0.5), INF),
    (ops.damp, (INF, 0.0), 0.0), (ops.damp, (-INF, 0.0), 0.0), (ops.damp, (INF, 2.0), INF),
    (ops.cosine, (0.0, 0.0), 0.0), (ops.cosine, (INF, 1.0), 1.0), (ops.cosine, (-INF, 1.0), -1.0),
    (ops.cosine, (1.0, INF), 0.0), (ops.cosine, (INF, INF), NAN),
    (ops.cosine, (1.5e308, 1.5e308), math.sqrt(0.5)), (ops.step, (0.0,), 0.0),
    (ops.sign, (-INF,), -1.0), (ops.exceeds, (INF, INF), 0.5), (ops.gelu_slope, (-INF,), 0.0),
    (ops.gelu_slope, (INF,), 1.0),
]
# fmt: on


@pytest.mark.parametrize(("row", "xs", "want"), AT_THE_EDGES)
def test_overflow_and_infinities_answer_as_ieee_754_says(
    row: Op, xs: tuple[float, ...], want: float
) -> None:
    assert ulps(row(*xs), want) <= 4
    assert same(row(*map(Value, xs)).data, row(*xs))


def test_operators_overflow_like_their_rows() -> None:
    x = Value(1000.0)
    assert x.exp().data == x.cosh().data == x.sinh().data == (10.0**x).data == INF
    assert (-x).sinh().data == -INF
    assert (x**1000).data == (x * 1e306).data == INF
    assert (Value(-10.0) ** 401).data == -INF
    assert grad(x.exp(), x) == grad(x.cosh(), x) == INF


# Arguments that leave it to the other one to decide.
UNDECIDED = {
    "leaky_relu": (-0.5, 0.2),
    "elu": (-0.5, 0.2),
}


@pytest.mark.parametrize("name", ROWS)
def test_nan_propagates_through(name: str) -> None:
    row = the(name)
    sample = UNDECIDED.get(name, DEFINITIONS[name].samples[0])
    for i in range(len(sample)):
        if name == "where" and i != 1:
            continue  # a choice: the condition takes the first, the second is not looked at
        xs = (*sample[:i], NAN, *sample[i + 1 :])
        assert math.isnan(row(*xs)), f"argument {i}"
        assert math.isnan(row(*map(Value, xs)).data), f"argument {i}"


def test_nan_reaches_the_gradient() -> None:
    for name in ["exp", "log", "sqrt", "tanh", "sigmoid", "relu", "abs", "sin", "gelu", "mul"]:
        row = the(name)
        xs = [Value(NAN) for _ in range(row.arity or 1)]
        assert all(map(math.isnan, grad(row(*xs), xs))), name


def test_an_infinite_local_derivative_times_zero_is_nan() -> None:
    for y_of in (lambda x: (x * x).sqrt(), lambda x: x.relu().sqrt(), lambda x: abs(x).sqrt()):
        x = Value(0.0)
        assert math.isnan(grad(y_of(x), x))
        assert math.isnan(grad(y_of(x), x, create_graph=True).data)


def test_an_infinite_local_derivative_times_a_constant_zero_is_nan_in_graphs_too() -> None:
    x = Value(3.0)
    y = (x * 0.0).sqrt()
    assert math.isnan(grad(y, x))
    assert math.isnan(grad(y, x, create_graph=True).data)


# --- domains --------------------------------------------------------------------------------------

REFUSED: list[tuple[Op, tuple[float, ...]]] = [
    (ops.log, (-1.0,)),
    (ops.log, (0.0,)),
    (ops.log, (-0.0,)),
    (ops.log2, (-1.0,)),
    (ops.log2, (0.0,)),
    (ops.log10, (-1e-300,)),
    (ops.log10, (0.0,)),
    (ops.xlogy, (1.0, 0.0)),
    (ops.xlogy, (-1e-300, -1.0)),
    (ops.mod, (1.0, 0.0)),
    (ops.mod, (0.0, -0.0)),
    (ops.log1p, (-1.0,)),
    (ops.sqrt, (-1e-300,)),
    (ops.power, (-8.0, 0.5)),
    (ops.power, (0.0, -1.0)),
    (ops.power, (-8.0, 1.0 / 3.0)),
    (ops.div, (1.0, 0.0)),
    (ops.div, (0.0, -0.0)),
    (ops.asin, (2.0,)),
    (ops.acos, (-1.0000000000000002,)),
    (ops.acosh, (0.0,)),
    (ops.atanh, (1.0,)),
]

DOMAINS = {
    "log": "on (0, inf)",
    "log2": "on (0, inf)",
    "log10": "on (0, inf)",
    "xlogy": "for y > 0, and for x = 0",
    "mod": "for a divisor other than 0",
    "log1p": "on (-1, inf)",
    "sqrt": "on [0, inf)",
    "pow": "for x > 0, for x < 0 with an integer exponent and for x = 0 with one >= 0",
    "div": "for a divisor other than 0",
    "asin": "on [-1, 1]",
    "acos": "on [-1, 1]",
    "acosh": "on [1, inf)",
    "atanh": "on (-1, 1)",
}


@pytest.mark.parametrize(("row", "xs"), REFUSED)
def test_a_domain_error_names_the_op_the_argument_and_the_label(
    row: Op, xs: tuple[float, ...]
) -> None:
    with pytest.raises(DomainError) as caught:
        row(*[Value(x, label=f"input {i}") for i, x in enumerate(xs)])
    message = str(caught.value)
    assert message.startswith(f"{row.name} is defined {DOMAINS[row.name]}, got ")
    for i, x in enumerate(xs):
        assert f"{x!r} (label 'input {i}')" in message
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, MicrogradError)
    with pytest.raises(DomainError, match=re.escape(f"got {xs[0]!r}")):
        row(*xs)


def test_the_message_of_a_domain_error_is_one_sentence() -> None:
    with pytest.raises(DomainError) as caught:
        Value(-1.0, label="p").log()
    assert str(caught.value) == "log is defined on (0, inf), got -1.0 (label 'p')"


def test_a_constant_culprit_has_no_label() -> None:
    with pytest.raises(DomainError, match=r"got 1\.0 \(label 'x'\), 0\.0$"):
        Value(1.0, label="x") / 0


def test_a_domain_error_survives_pickling() -> None:
    error = DomainError("log", "on (0, inf)", [-1.0], ["p"])
    twin = pickle.loads(pickle.dumps(error))
    assert (str(twin), twin.op, twin.arguments) == (str(error), "log", (-1.0,))
    assert twin.labels == ("p",)


# --- calling a row --------------------------------------------------------------------------------


def test_a_row_on_floats_gives_a_float() -> None:
    assert ops.tanh(0.0) == 0.0
    assert type(ops.tanh(0.5)) is type(ops.add(1, 2)) is float


def test_a_row_on_values_gives_a_node_that_records_it() -> None:
    x = Value(0.5)
    y = ops.tanh(x)
    assert (y.op, y.parents) == (ops.tanh, (x,))
    assert y.data == math.tanh(0.5)


def test_every_row_is_exported_under_its_name() -> None:
    names = {"max": "maximum", "min": "minimum", "affine": None}
    hidden = set(ROWS) - {row for row in ROWS if hasattr(micrograd_like, row)} - set(names)
    assert hidden == {
        "ieee_div", "ratio", "floor_div", "within", "ieee_log", "ieee_pow", "pow_slope", "pow_log",
        "pow_xy", "pow_yy", "lead", "fraction", "damp", "sech", "gelu_slope", "one_minus_square",
        "cosine", "inversion", "step", "sign", "exceeds", "equals", "largest", "smallest",
    }  # fmt: skip
    for name in set(ROWS) - hidden - {"affine"}:
        assert getattr(micrograd_like, names.get(name) or name) is the(name)


@pytest.mark.parametrize("name", [n for n in ROWS if hasattr(Value, n)])
def test_the_method_is_the_row(name: str) -> None:
    (x, *rest) = DEFINITIONS[name].samples[0]
    v, others = Value(x), [] if the(name).defaults else rest
    by_method, by_row = getattr(v, name)(*others), the(name)(v, *others)
    assert by_method.op is the(name)
    assert by_method.data == by_row.data
    assert by_method.local_grads == by_row.local_grads
    assert by_method.operands[1:] == by_row.operands[1:]


def test_defaults_are_slope_a_hundredth_alpha_one_and_the_exact_gelu() -> None:
    assert ops.leaky_relu(-1.0) == -0.01
    assert Value(-1.0).leaky_relu().data == -0.01
    assert (
        Value(-1.0).leaky_relu(0.2).data == Value(-1.0).leaky_relu(negative_slope=0.2).data == -0.2
    )
    assert ops.elu(-1.0) == Value(-1.0).elu().data == math.expm1(-1.0)
    assert Value(-1.0).elu(alpha=2.0).data == 2.0 * math.expm1(-1.0)
    assert ops.gelu(1.0) == pytest.approx(0.5 * (1.0 + math.erf(math.sqrt(0.5))), rel=1e-15)


def test_slope_and_alpha_may_be_values_with_gradients() -> None:
    x, slope = Value(-2.0), Value(0.1)
    assert grad(ops.leaky_relu(x, slope), [x, slope]) == [0.1, -2.0]
    assert grad(ops.elu(x, slope), slope) == math.expm1(-2.0)


@pytest.mark.parametrize(("args", "got"), [((), 0), ((1.0, 2.0), 2)])
def test_a_wrong_number_of_arguments_is_refused(args: tuple[float, ...], got: int) -> None:
    with pytest.raises(InputError, match=rf"tanh takes \(x\), got {got} arguments"):
        ops.tanh(*args)
    if args:
        with pytest.raises(InputError, match="tanh takes"):
            ops.tanh(*map(Value, args))


def test_a_wrong_number_of_arguments_is_refused_with_the_names_of_the_right_ones() -> None:
    with pytest.raises(InputError, match=r"hypot takes \(x, y\), got 1 arguments"):
        ops.hypot(1.0)


def test_arguments_are_completed_with_the_defaults_that_they_leave_out() -> None:
    assert ops.elu.complete((2.0,)) == (2.0, 1.0)
    assert ops.elu.complete((2.0, 3.0)) == (2.0, 3.0)
    assert ops.logsumexp.complete((2.0, 3.0)) == (2.0, 3.0)


def test_logsumexp_of_nothing_is_refused_as_such() -> None:
    with pytest.raises(InputError, match="at least one"):
        ops.logsumexp()


@pytest.mark.parametrize("operands", [(1.0, 2.0), (INF, 2.0), (Value(1.0), 2.0), ()])
def test_an_even_number_of_affine_operands_is_refused_as_such(operands: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match="n weights, n inputs and a bias"):
        ops.affine_row(*operands)


@pytest.mark.parametrize("bad", ["1", None, [1.0], 1j])
def test_a_row_refuses_what_is_neither_a_number_nor_a_value(bad: Any) -> None:
    for args in [(bad, 1.0), (1.0, bad), (Value(1.0), bad), (bad, Value(1.0))]:
        with pytest.raises(OperandError):
            ops.hypot(*args)


# --- rows of one's own ----------------------------------------------------------------------------


def test_a_made_up_unary_row_computes_and_differentiates(made_up: type[Op]) -> None:
    cube = made_up("cube", lambda x: x * x * x, lambda x, out: 3.0 * x * x, text="@x³")
    assert cube(2.0) == cube(2) == 8.0
    x = Value(2.0)
    y = cube(x)
    assert (y.data, y.op, y.local_grads) == (8.0, cube, (12.0,))
    y.backward()
    assert x.grad == 12.0
    first = grad(cube(x), x, create_graph=True)
    second = grad(first, x, create_graph=True)
    assert (first.data, second.data, grad(second, x)) == (12.0, 12.0, 6.0)


def test_a_made_up_binary_row_computes_and_differentiates(made_up: type[Op]) -> None:
    weigh = made_up(
        "weigh", lambda x, y: x * x * y, (lambda x, y, out: 2.0 * x * y, lambda x, y, out: x * x)
    )
    x, y = Value(3.0), Value(5.0)
    assert grad(weigh(x, y), [x, y]) == [30.0, 9.0]
    assert weigh(x, 5.0).parents == (x,)
    assert weigh(3.0, y).local_grads == (9.0,)
    dx, dy = grad(weigh(x, y), [x, y], create_graph=True)
    assert [grad(dx, [x, y]), grad(dy, [x, y])] == [[10.0, 6.0], [6.0, 0.0]]


def test_a_made_up_variadic_row_computes_and_differentiates(made_up: type[Op]) -> None:
    def square_sum(*xs: float) -> float:
        return math.fsum(x * x for x in xs)

    row = made_up("square_sum", square_sum, lambda *xs_out: [2.0 * x for x in xs_out[:-1]])
    xs = [Value(1.0), Value(2.0), Value(3.0), Value(4.0)]
    for n in range(1, 5):
        assert grad(row(*xs[:n]), xs[:n]) == [2.0, 4.0, 6.0, 8.0][:n]
    mixed = row(1.0, xs[1], 3, xs[3])
    assert (mixed.data, mixed.parents, mixed.local_grads) == (30.0, (xs[1], xs[3]), (4.0, 8.0))
    assert mixed.operands == (1.0, xs[1], 3.0, xs[3])
    assert grad(grad(mixed, xs[1], create_graph=True), xs) == [0.0, 2.0, 0.0, 0.0]


def test_a_made_up_row_has_templates_and_defaults(made_up: type[Op]) -> None:
    row = made_up(
        "my_op", lambda x, k: x * k, (lambda x, k, out: k, lambda x, k, out: x), defaults=(3.0,)
    )
    assert (row.text, row.numba) == ("my_op(@x, @k)", "")
    assert row.latex == r"\operatorname{my\_op}\left(@x, @k\right)"
    assert row(2.0) == row(Value(2.0)).data == 6.0
    three = made_up(
        "three",
        lambda x, k, m: x * k + m,
        (lambda x, k, m, out: k, lambda x, k, m, out: x, lambda x, k, m, out: 1.0),
        defaults=(3.0, 0.5),
    )
    assert (three(2.0), three(2.0, 5.0), three(2.0, 5.0, 0.25)) == (6.5, 10.5, 10.25)
    assert (row.arguments, row.arity, repr(row)) == (("x", "k"), 2, "<Op my_op>")


def test_a_made_up_rows_errors_are_domain_errors(made_up: type[Op]) -> None:
    row = made_up("root", lambda x: math.sqrt(x), lambda x, out: 0.5 / out, domain="for x >= 0")
    with pytest.raises(DomainError, match=r"root is defined for x >= 0, got -1\.0 \(label 'a'\)"):
        row(Value(-1.0, label="a"))
    assert math.isnan(row(-INF))
    silent = made_up("silent", lambda x: math.sqrt(x), lambda x, out: 0.5 / out)
    with pytest.raises(DomainError, match=r"^silent is defined on \(-inf, inf\), got -1\.0$"):
        silent(-1.0)
    huge = made_up("huge", lambda x: math.exp(x), lambda x, out: out, ieee=lambda x: INF)
    assert huge(1e9) == huge(Value(1e9)).data == INF


def test_what_a_made_up_row_computes_becomes_a_float(made_up: type[Op]) -> None:
    side = made_up("side", lambda x: 1 if x > 0 else -1, lambda x, out: 0.0)
    results = [side.evaluate([2.0]), side(2), side(2.0), side(Value(-2.0)).data]
    assert results == [1.0, 1.0, 1.0, -1.0]
    assert {*map(type, results)} == {float}
    third = made_up("third", lambda x: x ** (1 / 3), lambda x, out: 0.0)
    for x in (-8.0, -8, Value(-8.0)):
        with pytest.raises(TypeError, match="the result of third is no number"):
            third(x)


def test_a_graph_with_a_made_up_row_pickles_and_deep_copies(made_up: type[Op]) -> None:
    cube = made_up("cube", lambda x: x * x * x, lambda x, out: 3.0 * x * x)
    y = cube(Value(2.0)) + 1.0
    for twin in (pickle.loads(pickle.dumps(y)), copy.deepcopy(y)):
        (node,) = twin.parents
        assert node.op is cube
        assert grad(twin, node.parents) == [12.0]


def test_unpickling_a_row_that_is_not_there_is_refused(made_up: type[Op]) -> None:
    made_up("fleeting", lambda x: x, lambda x, out: 1.0)
    pickled = pickle.dumps(ops.TABLE["fleeting"])
    del ops.TABLE["fleeting"]
    with pytest.raises(InputError, match="no operation 'fleeting'"):
        pickle.loads(pickled)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_itself_when_copied_or_pickled(name: str) -> None:
    row = the(name)
    assert copy.copy(row) is copy.deepcopy(row) is pickle.loads(pickle.dumps(row)) is row


@pytest.mark.parametrize("name", ["tanh", "pow", "ieee_div", "affine"])
def test_the_name_of_a_built_in_row_is_refused_and_the_row_stays(
    made_up: type[Op], name: str
) -> None:
    before = the(name)
    with pytest.raises(InputError, match=f"has an op '{name}' already"):
        made_up(name, math.tanh, lambda x, out: 1.0)
    assert the(name) is before


@pytest.mark.parametrize(
    "partials",
    [
        lambda x: 1.0,
        lambda x, y, out: 1.0,
        (lambda x, out: 1.0, lambda y, out: 1.0),
        (lambda x, y, out: 1.0, lambda y, out: 1.0),
        (),
        math.cos,
        ops.cos,
        None,
    ],
    ids=["no output", "too many", "two of one", "short", "none", "builtin", "a row", "None"],
)
def test_partials_that_do_not_take_the_arguments_and_the_output_are_refused(
    made_up: type[Op], partials: Any
) -> None:
    with pytest.raises(InputError, match="partial"):
        made_up("mistaken", math.sin, partials)
    assert "mistaken" not in ops.TABLE


@pytest.mark.parametrize("name", [3, None, "", b"op"])
def test_a_name_that_is_no_text_is_refused(made_up: type[Op], name: Any) -> None:
    with pytest.raises(InputError, match=r"name is a text, not"):
        made_up(name, math.sin, lambda x, out: ops.cos(x))


def test_what_computes_nothing_and_a_kind_that_is_none_are_refused(made_up: type[Op]) -> None:
    nothing: Any = None
    with pytest.raises(InputError, match="'mistaken' needs a function that computes it, not None"):
        made_up("mistaken", nothing, lambda x, out: ops.cos(x))
    with pytest.raises(InputError, match=r"no kind 'rectifer'; did you mean rectifier\?"):
        made_up("mistaken", math.sin, lambda x, out: ops.cos(x), kind="rectifer")
    assert "mistaken" not in ops.TABLE


def test_the_partials_of_any_number_of_arguments_may_come_one_by_one(made_up: type[Op]) -> None:
    total = made_up("total", lambda *xs: math.fsum(xs), lambda *xs_out: (1.0 for _ in xs_out[1:]))
    x, y = Value(2.0), Value(3.0)
    out = total(x, y, 1.0) * x
    assert grad(out, [x, y]) == [8.0, 2.0]
    assert hessian(out, [x, y]) == [[2.0, 1.0], [1.0, 0.0]]


# --- numbers --------------------------------------------------------------------------------------

NUMPY_REALS = [
    np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64,
    np.intc, np.longlong, np.float16, np.float32, np.float64, np.longdouble,
]  # fmt: skip


@pytest.mark.parametrize(
    "x",
    [True, 1, 1.0, Fraction(1), Decimal(1), *cases(lambda: [kind(1) for kind in NUMPY_REALS])],
    ids=repr,
)
def test_a_number_of_any_real_type_becomes_a_float(x: Any) -> None:
    assert ops.number(x) == 1.0
    assert type(ops.number(x)) is type(Value(x).data) is type(ops.tanh(x)) is float


def test_numbers_keep_their_value() -> None:
    assert ops.number(Fraction(1, 3)) == 1 / 3
    assert ops.number(Decimal("0.1")) == 0.1
    assert ops.number(-(2**60)) == -(2.0**60)
    assert math.isnan(ops.number(Decimal("nan")))


def test_numpy_scalars_keep_their_value() -> None:
    assert ops.number(np.float32(0.1)) == float(np.float32(0.1))
    assert ops.number(np.float64("-inf")) == -INF


def refused_of_numpy() -> list[tuple[Any, str]]:
    """What NumPy has that is no real number, and the advice."""
    return [
        (np.ones(3), "one Value an element"),
        (np.ones((2, 2)), "one Value an element"),
        (np.str_("1.5"), r"float\(\)"),
        (np.complex128(1), "real numbers"),
        (np.complex64(1), "real numbers"),
        (np.timedelta64(5, "s"), "by a unit"),
        (np.datetime64("2020-01-01"), "by a unit"),
    ]


@pytest.mark.parametrize(
    ("x", "advice"),
    [
        *cases(refused_of_numpy, names=2),
        ("1.5", r"float\(\)"),
        (None, "use a float, an int or a Value"),
        ([1.0], "use a float, an int or a Value"),
        (b"1", "use a float, an int or a Value"),
        (object(), "use a float, an int or a Value"),
        (1j, "real numbers"),
        (Value(1.0), r"use its \.data$"),  # detached it would be no plain number either
    ],
    ids=lambda x: f"{type(x).__name__}" if not isinstance(x, str) else None,
)
def test_anything_else_is_refused_with_the_type_and_what_to_do(x: Any, advice: str) -> None:
    with pytest.raises(OperandError, match=advice) as caught:
        Value(x)
    assert isinstance(caught.value, TypeError)
    assert type(x).__name__ in str(caught.value)


@pytest.mark.parametrize("x", [10**1000, -(10**1000), Fraction(10**1000)])
def test_an_integer_beyond_the_floats_is_a_value_error(x: Any) -> None:
    for use in (Value, ops.number, ops.tanh, lambda x: Value(1.0) + x, lambda x: x * Value(1.0)):
        with pytest.raises(InputError, match="too large for a float") as caught:
            use(x)
        assert isinstance(caught.value, ValueError)


def test_a_signalling_nan_is_refused_by_the_library_itself() -> None:
    with pytest.raises(MicrogradError):
        Value(Decimal("sNaN"))


def test_a_refusal_does_not_print_a_book() -> None:
    with pytest.raises(OperandError) as caught:
        Value([0.0] * 100_000)
    assert len(str(caught.value)) < 300


# --- pickles of a user's operations ---------------------------------------------------------------


def test_a_pickled_graph_of_a_users_operation_finds_it_again(made_up: type[Op]) -> None:
    row = made_up("act", lambda x: x * x, lambda x, out: 2 * x)
    data = pickle.dumps(row(Value(3.0)))
    assert pickle.loads(data).op is row
    again = made_up("act", lambda x: x * x, lambda x, out: 2 * x)  # a cell that is run again
    assert pickle.loads(data).op is again


@pytest.mark.parametrize(
    ("compute", "partials"),
    [
        (lambda x: x**3, lambda x, out: 2 * x),
        (lambda x: x * x, lambda x, out: 3 * x),
        (lambda x, y: x * x, (lambda x, y, out: 2 * x, lambda x, y, out: 0.0)),
        (lambda x: x * x if x > 0 else math.nan, lambda x, out: 2 * x),
        (lambda x: math.sqrt(x), lambda x, out: 2 * x),
        (lambda x: x * x if x < 1000 else 0.0, lambda x, out: 2 * x),
        (lambda x: x * x if x > -10 else 0.0, lambda x, out: 2 * x),
        (lambda x: x * x if not 0 < x < 0.1 else 0.0, lambda x, out: 2 * x),
    ],
)
def test_a_pickled_graph_is_refused_where_its_operation_was_redefined(
    made_up: type[Op], compute: Callable[..., float], partials: Any
) -> None:
    data = pickle.dumps(made_up("act", lambda x: x * x, lambda x, out: 2 * x)(Value(3.0)))
    made_up("act", compute, partials)
    with pytest.raises(InputError, match="'act'"):
        pickle.loads(data)


def test_a_users_operation_of_any_number_of_arguments_is_pickled(made_up: type[Op]) -> None:
    row = made_up("norm1", lambda *xs: sum(map(abs, xs)), lambda *xs: [1.0 for _ in xs[:-1]])
    node = row(Value(1.0), Value(2.0), 3.0)
    assert pickle.loads(pickle.dumps(node)).op is row


def test_a_partial_that_forgets_its_return_is_refused(made_up: Any) -> None:
    def forgetful(x: Any, out: Any) -> Any:
        2.0 * x

    row = made_up("forgetful", lambda x: x * x, forgetful)
    with pytest.raises(OperandError, match=r"a partial of forgetful is no number: .*None"):
        row(Value(3.0))
    row = made_up("empty", lambda x: None, lambda x, out: 1.0)
    with pytest.raises(OperandError, match=r"the result of empty is no number: .*None"):
        row(Value(3.0))
