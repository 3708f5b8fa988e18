"""Syntax trees of programs over arrays: their text, their counts, and templates of operations."""

from __future__ import annotations

import ast

import pytest

from micrograd_like.compiler import expressions as ex
from micrograd_like.compiler.expressions import Assignment, Source, text

x, y, z = map(ex.name, "xyz")
places = ex.name("places1")
half = ex.number(0.5)


@pytest.mark.parametrize(
    ("tree", "written"),
    [
        (ex.product(half, x, y), "0.5 * x * y"),
        (ex.product(half, ex.product(x, y)), "0.5 * (x * y)"),
        (ex.product(half, ex.matmul(x, y)), "0.5 * (x @ y)"),
        (ex.matmul(ex.product(x, y), z), "(x * y) @ z"),
        (ex.matmul(x, ex.transposed(y)), "x @ y.T"),
        (ex.transposed(ex.transposed(y)), "y"),
        (ex.minus(ex.product(x, y)), "-x * y"),
        (ex.minus(ex.matmul(x, y)), "-(x @ y)"),
        (ex.quotient(ex.total([x, y]), z), "(x + y) / z"),
        (ex.total([x, ex.minus(ex.product(half, y)), z]), "x - 0.5 * y + z"),
        (ex.total([ex.minus(x), y]), "y - x"),
        (ex.total([ex.minus(x), ex.minus(y)]), "-x - y"),
        (ex.total([x, ex.minus(ex.matmul(y, z))]), "x - (y @ z)"),
        (ex.total([x, ex.matmul(y, z)]), "x + y @ z"),
        (ex.total([x, ex.minus(ex.total([y, z]))]), "x - (y + z)"),
        (ex.total([x, ex.total([y, z])]), "x + (y + z)"),
        (ex.method(ex.product(x, y), "sum", ex.number(0)), "(x * y).sum(0)"),
        (ex.item(x, slice(0, 3, 1)), "x[:3]"),
        (ex.item(x, slice(0, 1, 1)), "x[0:1]"),
        (ex.item(x, slice(1, 8, 3), 2), "x[1:8:3, 2]"),
        (ex.item(x, slice(None), None, places), "x[:, None, places1]"),
        (ex.item(x, ast.Constant("W1")), 'x["W1"]'),
        (ex.call("np.ones", ex.sizes(2)), "np.ones((2,))"),
        (ex.call("np.ones", ex.sizes(ex.call("len", x), 2)), "np.ones((len(x), 2))"),
        (ex.name("np.inf"), "np.inf"),
    ],
)
def test_a_tree_is_written_with_few_parentheses_and_products_of_matrices_stand_out(tree, written):
    assert text(tree) == written


def source(*values, results=()):
    return Source("values", [Assignment(x, value) for value in values], results, {})


def test_products_of_matrices_are_counted_without_sums_and_the_square_of_the_values():
    ones, values = ex.name("ones5"), ex.name("values")
    counted = [ex.matmul(x, y), ex.product(half, ex.matmul(ex.product(x, y), z))]
    others = [ex.matmul(ones, x), ex.matmul(x, ones), ex.matmul(values, values), ex.product(x, y)]
    assert source(*counted, *others, results=[ex.matmul(x, x)]).matrix_products == 3


def test_gathers_are_counted_wherever_they_are():
    taken = [ex.item(x, places), ex.item(x, slice(None), ex.name("places2"))]
    taken.append(ex.product(half, ex.method(x, "take", places)))
    others = [ex.item(x, slice(0, 3, 1)), ex.call("f", places), ex.method(x, "take", y)]
    assert source(*taken, *others).gathers == 3
    put = Assignment(ex.item(x, places), y)
    assert Source("values", [put], [], {}).gathers == 1


@pytest.mark.parametrize(
    ("template", "written"),
    [
        ("xp.maximum(@x, 0.0)", "np.maximum(a, 0.0)"),
        ("@x / @y", "a / b[0]"),
        ("1.0 / xp.cosh(@x)", "1.0 / np.cosh(a)"),
        ("@x * xp.sign(@x)", "a * np.sign(a)"),
        ("-@y", "-b[0]"),
        ("power(@x, @y)", "own(a, b[0])"),
        ("jax.nn.relu(@x)", "jax.nn.relu(a)"),
        ("logsumexp(@xs)", "own(a, b[0], a)"),
        ("xp.clip(@x, min=-1.0, max=@y)", "np.clip(a, min=-1.0, max=b[0])"),
        ("(@x > 0.0) * @x", "(a > 0.0) * a"),
        ("-@x**2 % @y", "-a ** 2 % b[0]"),
        (
            "xp.where((@x > 0.0) & ~(@y > 1.0), @x, 0.0)",
            "np.where((a > 0.0) & ~(b[0] > 1.0), a, 0.0)",
        ),
        ("@x * (@y // 2.0)", "a * (b[0] // 2.0)"),
        ("@x > @y", "(a > b[0]) * 1.0"),
    ],
)
def test_a_template_takes_arguments_and_names_of_functions(template, written):
    a, b = ex.name("a"), ex.item(ex.name("b"), 0)
    arguments = {"x": a, "y": b, "xs": [a, b, a]}
    names = {"power": "own", "logsumexp": "own"}
    tree = ex.filled(template, arguments, lambda name: names.get(name, name.replace("xp", "np")))
    assert text(tree) == written
