"""Products of matrices apart from what else is computed, and the calls of kernels for them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")

from test_loops import across, along, numbered, same  # noqa: E402

from micrograd_like import compile, tanh  # noqa: E402
from micrograd_like.compiler.products import call, is_product, separated  # noqa: E402
from micrograd_like.training.gpt import GPT  # noqa: E402

KERNELS = {"across": across, "along": along}


def positions(rng, shape, kind):
    """Where the elements of an operand lie, and how many numbers there are."""
    size = math.prod(shape)
    order = rng.permutation(len(shape))
    regular = np.arange(size).reshape([shape[axis] for axis in order]).transpose(np.argsort(order))
    if kind == "rows out of order":
        axis = rng.integers(len(shape))
        regular = regular.take(rng.permutation(shape[axis]), axis)
    return rng.permutation(size)[regular] if kind == "irregular" else 5 + regular


KINDS = st.sampled_from(["regular", "rows out of order", "irregular"])


@settings(max_examples=200)
@given(
    counts=st.tuples(st.integers(1, 3), *[st.integers(1, 20)] * 3),
    axes=st.sampled_from([(3, 3), (2, 2), (2, 1), (1, 2)]),
    kinds=st.tuples(KINDS, KINDS),
    seed=st.integers(0, 10**9),
)
def test_any_operands_are_multiplied(counts, axes, kinds, seed):
    rng = np.random.default_rng(seed)
    g, i, j, k = counts
    left, right = (
        positions(rng, (g, n, k)[3 - count :], kind)
        for n, count, kind in zip((i, j), axes, kinds, strict=True)
    )
    shape = (g, i, j) if axes == (3, 3) else (i, j) if axes == (2, 2) else (i, j)[axes[1] > 1 :][:1]
    out = np.arange(math.prod(shape)).reshape(shape)
    if len(shape) > 1 and rng.random() < 0.5:
        out = (
            np.arange(math.prod(shape)).reshape(*shape[:-2], shape[-1], shape[-2]).swapaxes(-1, -2)
        )
    a, b = (rng.standard_normal(side.max() + 1) for side in (left, right))
    found = call(out, left, right)
    sides = [(a, left), (b, right)]
    operands = []
    for (array, old), new in zip(sides[:: -1 if found.swapped else 1], found.layouts, strict=True):
        if new is not None:
            anew = np.full(old.size, math.nan)
            anew[new.reshape(-1)] = array[old.reshape(-1)]
            array = anew
        operands.append(array)
    result = np.full(out.size, math.nan)
    KERNELS[found.kernel](result, *operands, np.array(found.table).astype(np.uint64), 0, 2.0)
    x, y = a[left], b[right]
    expected = 2.0 * (
        x @ y.swapaxes(-1, -2) if min(x.ndim, y.ndim) > 1 else x @ y if y.ndim == 1 else y @ x
    )
    assert same(result[out], expected, 10.0)


def test_operands_that_lie_as_a_kernel_needs_them_stay_where_they_are():
    def rows(m, n):
        return np.arange(m * n).reshape(m, n)

    forward = call(rows(7, 16), rows(7, 16), rows(16, 16))
    assert (forward.kernel, forward.layouts) == ("along", (None, None))
    back = call(rows(7, 16), rows(7, 16), rows(16, 16).T)
    assert (back.kernel, back.layouts) == ("across", (None, None))
    outer = call(rows(16, 16), rows(7, 16).T, rows(7, 16).T)
    assert (outer.kernel, outer.layouts) == ("across", (None, None))
    turned = call(rows(16, 7).T, rows(7, 16), rows(16, 16).T)
    assert turned.swapped


def test_a_result_without_neighbours_is_for_no_kernel():
    assert call(2 * np.arange(9).reshape(3, 3), *[np.arange(15).reshape(3, 5)] * 2) is None


def lifted(outputs, inputs, wrt=None):
    return compile(outputs, inputs, wrt)._lifted


def test_products_stand_alone_and_short_ones_stay():
    w, u, x = numbered("w", 6, 7), numbered("u", 6, 3), numbered("x", 7)
    long = [tanh(sum(a * b for a, b in zip(row, x, strict=True)) + 0.5) for row in w]
    short = [tanh(sum(a * b for a, b in zip(row, x[:3], strict=True)) + 0.5) for row in u]
    inputs = [*(a for row in w + u for a in row), *x]
    assert [is_product(s) for s in separated(lifted(long, inputs)).statements] == [
        True, False, False,
    ]  # fmt: skip
    assert not any(is_product(s) for s in separated(lifted(short, inputs)).statements)


def test_what_is_not_real_is_filled_in_by_masks():
    model = GPT("abc", embed=4, heads=2, context=6)
    before = lifted(model.loss([3, 0, 1, 2, 0, 3]), model.parameters(), model.parameters())
    fills = {s.fill for s in before.statements} - {None}
    assert fills == {0.0, -math.inf}
    after = separated(before)
    assert {s.fill for s in after.statements} == {None}
    results = [s.result.number for s in after.statements]
    assert len(set(results)) == len(results)
    assert {s.result.number for s in before.statements} <= set(results)
    known = {a.number for a, _ in after.inputs}
    for statement in after.statements:
        assert all(
            view.array.number in known or view.array.data is not None for view in statement.views
        )
        known.add(statement.result.number)
