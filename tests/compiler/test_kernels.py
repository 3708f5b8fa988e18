"""The kernels of loops, against NumPy: any sizes, any places, NaN and infinities."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")
pytest.importorskip("numba")

from test_loops import same  # noqa: E402

from micrograd_like.compiler import kernels  # noqa: E402

sizes = st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 40), st.integers(0, 20))


def laid_out(rng, shape, straight):
    """Steps along three axes that lead to different places, and how many numbers there are.

    Along the last axis they are neighbours if it is `straight`.
    """
    order = rng.permutation(3)
    if straight:
        order = [*(axis for axis in order if axis != 2), 2]
    steps, stride = [None] * 3, 1
    for axis in order[::-1]:
        count = shape[axis]
        along = np.arange(count) if straight and axis == 2 else rng.permutation(count)
        steps[axis] = stride * along
        stride *= max(count, 1) + rng.integers(3)
    return steps, stride


def numbers(rng, size, odd):
    x = rng.standard_normal(size)
    if odd and size:
        x[rng.integers(size, size=1 + size // 50)] = rng.choice([math.nan, math.inf, -math.inf])
    return x


def at(array, steps):
    g, i, k = steps
    return array[g[:, None, None] + i[:, None] + k]


def check(kernel, shape, seed, odd):
    rng = np.random.default_rng(seed)
    g, i, j, k = shape
    out_steps, size = laid_out(rng, (g, i, j), straight=True)
    out = np.full(size, 7.0)
    a_steps, size = laid_out(rng, (g, i, k), straight=kernel is kernels.along)
    a = numbers(rng, size, odd)
    if kernel is kernels.along:
        b_steps, size = laid_out(rng, (g, j, k), straight=True)
        parts = [*out_steps[:2], *a_steps[:2], *b_steps[:2]]
    else:
        (b_g, b_k, b_j), size = laid_out(rng, (g, k, j), straight=True)
        b_steps = b_g, b_j, b_k
        parts = [*out_steps[:2], *a_steps, b_g, b_k]
    b = numbers(rng, size, odd)
    first = int(rng.integers(3))
    places = np.concatenate([np.arange(first), shape, *parts]).astype(np.uint64)
    kernel(out, a, b, places, first, -0.5)
    with np.errstate(all="ignore"):
        products = at(a, a_steps)[:, :, None] * at(b, b_steps)[:, None]
        expected = np.full(out.size, 7.0)
        where = out_steps[0][:, None, None] + out_steps[1][:, None] + out_steps[2]
        expected[where] = -0.5 * products.sum(-1)
    assert same(out, expected, 10.0)


@settings(max_examples=150)
@given(shape=sizes, seed=st.integers(0, 10**9), odd=st.booleans())
def test_neighbours_in_the_second_operand_are_multiplied_across(shape, seed, odd):
    check(kernels.across, shape, seed, odd)


@settings(max_examples=150)
@given(shape=sizes, seed=st.integers(0, 10**9), odd=st.booleans())
def test_rows_of_neighbours_are_multiplied_along(shape, seed, odd):
    check(kernels.along, shape, seed, odd)


SCRIPT = """
import sys
from numba.core import caching
if sys.argv[1:]:  # no place to keep anything
    for kind in (caching.CompileResultCacheImpl, caching.CodeLibraryCacheImpl):
        kind._locator_classes = []
from micrograd_like.compiler import kernels
for kernel in (kernels.across, kernels.along):
    print(sum(kernel.stats.cache_hits.values()), kernel.stats.cache_path)
"""


def loaded(directory, *arguments):
    """How often kernels were found on disk by a new process, and where they are kept."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(directory)}
    command = [sys.executable, "-c", SCRIPT, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [line.partition(" ")[::2] for line in done.stdout.splitlines()]


def test_kernels_are_compiled_once_and_without_a_place_to_keep_them(tmp_path):
    for hits in ("0", "1"):
        for count, path in loaded(tmp_path / "cache"):
            assert count == hits
            assert path.startswith(str(tmp_path / "cache"))
    for code in tmp_path.glob("cache/*/*.nbc"):
        code.write_bytes(b"damaged")
    assert [count for count, _ in loaded(tmp_path / "cache")] == ["0", "0"]
    assert loaded(tmp_path / "cache", "nowhere") == [("0", "None")] * 2
