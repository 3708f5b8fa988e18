"""The plan of the loops: which statements share a nest, what is stored, and where."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from micrograd_like import Value, compile, tanh

np = pytest.importorskip("numpy")

from test_loops import leaves, numbered  # noqa: E402

from micrograd_like.compiler.nests import Plan  # noqa: E402
from micrograd_like.compiler.products import separated  # noqa: E402
from micrograd_like.compiler.strides import affine, layout, order  # noqa: E402


def planned(outputs, inputs, wrt=None):
    program = compile(outputs, inputs, wrt)
    lifted = separated(program._lifted)
    names = {s.result.number: s.result.name for s in lifted.statements}
    return Plan(lifted, program._blocks, names)


def test_regular_positions_are_a_base_and_strides():
    assert affine(np.asarray(7)) == (7, ())
    assert affine(np.array([3])) == (3, (0,))
    assert affine(np.array([5, 3, 1])) == (5, (-2,))
    assert affine(np.array([[0, 1, 2], [10, 11, 12]])) == (0, (10, 1))
    assert affine(np.array([[4, 4], [6, 6]])) == (4, (2, 0))
    assert affine(np.array([0, 1, 3])) is None
    assert affine(np.array([[0, 1], [2, 4]])) is None


def test_the_longer_axis_is_the_inner_loop_and_contiguous():
    assert [order(shape) for shape in ((), (3,), (2, 5), (5, 2))] == [(), (0,), (0, 1), (1, 0)]
    assert layout((2, 3)).tolist() == [0, 1, 2, 3, 4, 5]
    assert layout((3, 2)).tolist() == [0, 3, 1, 4, 2, 5]


def test_what_each_element_alone_needs_shares_a_nest_and_is_not_stored():
    xs = leaves(40)
    result = planned(sum(tanh(tanh(0.5 * x) + x) for x in xs), xs)
    assert [(nest.strategy, len(nest.statements)) for nest in result.nests] == [
        ("inline", 2),
        ("dot", 1),
    ]
    assert list(result.sizes.values()) == [40]  # what the sum reads
    assert [len(s.terms) for s in result.cheap.values()] == [1, 2]  # 0.5 * x, and the sum with x


def test_rosenbrocks_function_is_a_nest_for_the_value_and_one_for_the_gradient():
    xs = leaves(30)
    terms = [100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2 for a, b in pairwise(xs)]
    result = planned(sum(terms), xs, xs)
    assert result.cheap
    assert not result.sizes
    arrays = [n for n in result.nests if n.statements[0].result.shape != ()]
    assert [buffer.name for buffer in result.buffers.values()].count("gradient") == len(arrays) == 1


@pytest.mark.parametrize(
    ("rows", "length", "columns", "strategy"),
    [
        (3, 4, 5, "inline"),  # so short that it is written out
        (2, 20, 9, "product"),
        (9, 40, 2, "product"),
    ],
)
def test_a_product_of_matrices_is_for_a_kernel_if_it_is_long(rows, length, columns, strategy):
    a, b = numbered("a", rows, length), numbered("b", length, columns)
    products = [
        tanh(sum(x * b[k][j] for k, x in enumerate(row))) for row in a for j in range(columns)
    ]
    inputs = [x for row in a + b for x in row]
    nests = planned(products, inputs).nests
    assert nests[0].strategy == strategy
    assert math.prod(nests[0].statements[0].result.shape) == rows * columns


@pytest.mark.parametrize(
    ("length", "count", "strategy"),
    [
        (20, 9, "inline"),  # written out, an element of each sum after the other
        (40, 9, "rows"),  # too long for that: row after row
        (40, 2, "rows"),
        (20, 2, "rows"),
    ],
)
def test_sums_over_an_axis_are_taken_as_their_operands_lie(length, count, strategy):
    a = numbered("a", length, count)
    sums = [tanh(sum(x * x for x in column)) for column in zip(*a, strict=True)]
    nests = planned(sums, [x for row in a for x in row]).nests
    assert nests[0].strategy == strategy


def test_outputs_are_computed_in_their_places_where_these_are_regular():
    xs = leaves(12)
    result = planned([tanh(x) for x in xs[::-1]], xs)
    (buffer,) = [b for b in result.buffers.values() if b.name == "outputs"]
    assert sorted(buffer.positions.tolist()) == list(range(12))
    mixed = planned([Value(2.0), *(tanh(xs[k]) for k in (0, 3, 1)), xs[0] * xs[1]], xs)
    assert [piece.block for piece in mixed.pieces] == ["outputs"] * 3
    assert {piece.source for piece in mixed.pieces if isinstance(piece.source, float)} == {2.0}
