"""Products of matrices, for the loops that Numba compiles: compiled once, kept on disk, called.

Both kernels compute out[g, i, j] = c · Σ a[g, i, k] · b[g, j, k], of flat arrays that do not
overlap, with the sum over k taken in any order, and products not rounded before they are added.
They do so on vectors of eight numbers, for which they are written in LLVM's instructions: in loops
of any length it finds few by itself. Integers are unsigned, for which Numba has no check for
indices from the end.

Numba keeps the machine code beside this file or, where it may not write, among the user's caches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

LANES: Final = 8  # of a vector; a processor with shorter ones takes several
_FREELY: Final = ("reassoc", "nsz", "contract")
_INT, _LANE = ir.IntType(64), ir.IntType(32)
_VECTOR: Final = ir.VectorType(ir.DoubleType(), LANES)
_ZEROS: Final = ir.Constant(_VECTOR, [0.0] * LANES)

_instructions: Callable[[Callable[..., Any]], Callable[..., Any]] = intrinsic


def _kernel(function: Callable[..., None]) -> Any:
    """The function compiled, or found on disk."""
    kinds = "void(float64[::1], float64[::1], float64[::1], uint64[::1], uint64, float64)"
    compiled = partial(njit, kinds, nogil=True, error_model="numpy")
    try:
        return compiled(cache=True)(function)
    except Exception:  # there is no place to keep it, or what was kept is damaged
        return compiled()(function)


@_instructions
def _outer(
    context: Any, out: Any, to: Any, a: Any, rows: Any, b: Any, columns: Any, lanes: Any,
    places: Any, steps: Any, c: Any,
) -> Any:  # fmt: skip
    """For each of some rows of a, vectors of `out`: for each of some columns one, of so many lanes.

    The `steps` along k are at two of the places, and are as many as the last of them says.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Vectors(context, builder, signature, args)
        out, to, a, rows, b, columns, lanes, places, (a_k, b_k, length), c = vectors.arguments
        mask = vectors.mask(lanes)
        pairs = list(product(range(len(rows)), range(len(columns))))
        sums = [vectors.sum() for _ in pairs]
        with cgutils.for_range(builder, length) as loop:
            k, start = (vectors.number(places, step, loop.index) for step in (a_k, b_k))
            xs = [vectors.repeated(vectors.number(a, row, k)) for row in rows]
            ys = [vectors.load(b, builder.add(column, start), mask) for column in columns]
            for total, (i, j) in zip(sums, pairs, strict=True):
                vectors.add(total, xs[i], ys[j])
        for total, (i, j) in zip(sums, pairs, strict=True):
            place = builder.add(to[i], ir.Constant(_INT, j * LANES))
            vectors.store(builder.load(total), c, out, place, mask)
        return context.get_dummy_value()

    kinds = (out, to, a, rows, b, columns, lanes, places, steps, c)
    return types.void(*kinds), code


@_instructions
def _inner(
    context: Any, out: Any, to: Any, a: Any, rows: Any, b: Any, column: Any, lanes: Any,
    places: Any, steps: Any, c: Any,
) -> Any:  # fmt: skip
    """For each of some rows of a, a vector of `out`: of its products with rows of b.

    Where these start is at the first of the `steps`. There are eight of them, or the last is taken
    again; the third says how long rows are.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Vectors(context, builder, signature, args)
        out, to, a, rows, b, column, lanes, places, (b_j, last, length), c = vectors.arguments
        starts = []
        for lane in range(LANES):
            j = ir.Constant(_INT, lane)
            j = builder.select(builder.icmp_unsigned("<", j, last), j, last)
            starts.append(builder.add(column, vectors.number(places, b_j, j)))
        sums = [[vectors.sum() for _ in starts] for _ in rows]

        def step(k: Any, mask: Any) -> None:
            xs = [vectors.load(a, builder.add(row, k), mask) for row in rows]
            for j, start in enumerate(starts):
                y = vectors.load(b, builder.add(start, k), mask)
                for totals, x in zip(sums, xs, strict=True):
                    vectors.add(totals[j], x, y)

        width = ir.Constant(_INT, LANES)
        rest = builder.urem(length, width)
        with cgutils.for_range(builder, builder.udiv(length, width)) as loop:
            step(builder.mul(loop.index, width), None)
        with builder.if_then(builder.icmp_unsigned("!=", rest, ir.Constant(_INT, 0))):
            step(builder.sub(length, rest), vectors.mask(rest))
        for totals, place in zip(sums, to, strict=True):
            vector = vectors.sums([builder.load(total) for total in totals])
            vectors.store(vector, c, out, place, vectors.mask(lanes))
        return context.get_dummy_value()

    kinds = (out, to, a, rows, b, column, lanes, places, steps, c)
    return types.void(*kinds), code


class _Vectors:
    """Writes instructions on vectors. Of the arguments arrays are pointers, and tuples lists."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> None:
        self.builder = builder
        self.arguments: list[Any] = []
        for kind, value in zip(signature.args, args, strict=True):
            if isinstance(kind, types.Array):
                value = arrayobj.make_array(kind)(context, builder, value).data
            elif isinstance(kind, types.BaseTuple):
                value = cgutils.unpack_tuple(builder, value)
            self.arguments.append(None if isinstance(kind, types.NoneType) else value)

    def mask(self, lanes: Any) -> Any:
        """Of the first lanes, so many; None for all."""
        if lanes is None:
            return None
        kind = ir.VectorType(_INT, LANES)
        return self.builder.icmp_unsigned(
            "<", ir.Constant(kind, [*range(LANES)]), self.repeated(lanes)
        )

    def repeated(self, x: Any) -> Any:
        """A number in all lanes."""
        none = ir.Constant(ir.VectorType(x.type, LANES), ir.Undefined)
        vector = self.builder.insert_element(none, x, ir.Constant(_LANE, 0))
        return self.shuffled(vector, none, [0] * LANES)

    def shuffled(self, x: Any, y: Any, lanes: Sequence[int]) -> Any:
        """Lanes of x, and after them of y."""
        return self.builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_LANE, LANES), lanes))

    def number(self, array: Any, start: Any, index: Any) -> Any:
        """What is in an array of numbers, so far from the start."""
        return self.builder.load(self.builder.gep(array, [self.builder.add(start, index)]))

    def load(self, array: Any, place: Any, mask: Any) -> Any:
        """Eight neighbours from a place on; where the mask does not have them, they are 0."""
        pointer = self._pointer(array, place)
        if mask is None:
            return self.builder.load(pointer, align=8)
        load = self._function(
            "llvm.masked.load.v8f64.p0", _VECTOR, pointer.type, _LANE, mask.type, _VECTOR
        )
        return self.builder.call(load, [pointer, ir.Constant(_LANE, 8), mask, _ZEROS])

    def store(self, vector: Any, c: Any, array: Any, place: Any, mask: Any) -> None:
        """Put c · vector at a place and those after it, as far as the mask has them."""
        pointer = self._pointer(array, place)
        vector = self.builder.fmul(vector, self.repeated(c))
        if mask is None:
            self.builder.store(vector, pointer, align=8)
            return
        store = self._function(
            "llvm.masked.store.v8f64.p0", ir.VoidType(), _VECTOR, pointer.type, _LANE, mask.type
        )
        self.builder.call(store, [vector, pointer, ir.Constant(_LANE, 8), mask])

    def _pointer(self, array: Any, place: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(array, [place]), _VECTOR.as_pointer())

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        return cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(result, arguments), name
        )

    def sum(self) -> Any:
        """A variable that is 0."""
        total = cgutils.alloca_once(self.builder, _VECTOR)
        self.builder.store(_ZEROS, total)
        return total

    def add(self, total: Any, x: Any, y: Any) -> None:
        """Add x · y to a variable."""
        both = self.builder.fmul(x, y, flags=_FREELY)
        after = self.builder.fadd(self.builder.load(total), both, flags=_FREELY)
        self.builder.store(after, total)

    def sums(self, vectors: list[Any]) -> Any:
        """The sum of the lanes of each of eight vectors."""
        for size in (1, 2, 4):
            # Each vector has `size` sums side by side, and again; two vectors become one.
            evens = [lane for lane in range(2 * LANES) if not lane & size]
            lanes = sorted(
                evens, key=lambda lane: (lane % LANES // (2 * size), lane // LANES, lane)
            )
            vectors = [
                self.builder.fadd(
                    self.shuffled(x, y, lanes),
                    self.shuffled(x, y, [lane + size for lane in lanes]),
                    flags=_FREELY,
                )
                for x, y in zip(vectors[::2], vectors[1::2], strict=True)
            ]
        return vectors[0]


@_kernel
def across(out: Any, a: Any, b: Any, places: Any, at: Any, c: Any) -> None:
    """The product where neighbours along j are neighbours in `out` and in b.

    `places` has at `at`: how many g, i, j and k there are; then the places in `out` for each g and
    for each i, those in a for each g, i and k, and those in b for each g and k. An element's place
    is their sum, and j.
    """
    zero, one, two, three = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
    four, lanes = np.uint64(4), np.uint64(LANES)
    gs, rows, columns, length = places[at], places[at + one], places[at + two], places[at + three]
    out_g = at + four
    out_i = out_g + gs
    a_g = out_i + rows
    a_i = a_g + gs
    a_k = a_i + rows
    b_g = a_k + length
    steps = a_k, b_g + gs, length
    last, most = rows - one, lanes + lanes
    for g in range(gs):
        o, p, q = places[out_g + g], places[a_g + g], places[b_g + g]
        for i in range(zero, rows, four):
            # Rows that are not there are the last one, again.
            i1, i2, i3 = min(i + one, last), min(i + two, last), min(i + three, last)
            o0, o1 = o + places[out_i + i], o + places[out_i + i1]
            o2, o3 = o + places[out_i + i2], o + places[out_i + i3]
            p0, p1 = p + places[a_i + i], p + places[a_i + i1]
            p2, p3 = p + places[a_i + i2], p + places[a_i + i3]
            of_a = p0, p1, p2, p3
            if columns < lanes:
                to = o0, o1, o2, o3
                _outer(out, to, a, of_a, b, (q,), columns, places, steps, c)
            elif columns < most:
                for first in range(zero, columns, lanes):
                    j = min(first, columns - lanes)  # some are computed twice
                    to = o0 + j, o1 + j, o2 + j, o3 + j
                    _outer(out, to, a, of_a, b, (q + j,), None, places, steps, c)
            else:
                for first in range(zero, columns, most):
                    j = min(first, columns - most)
                    to = o0 + j, o1 + j, o2 + j, o3 + j
                    of_b = q + j, q + j + lanes
                    _outer(out, to, a, of_a, b, of_b, None, places, steps, c)


@_kernel
def along(out: Any, a: Any, b: Any, places: Any, at: Any, c: Any) -> None:
    """The product where neighbours along k are neighbours in a and in b, those along j in `out`.

    `places` has at `at`: how many g, i, j and k there are; then the places in `out` for each g and
    for each i, those in a for each g and i, and those in b for each g and j.
    """
    zero, one, two, three = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
    four, lanes = np.uint64(4), np.uint64(LANES)
    gs, rows, columns, length = places[at], places[at + one], places[at + two], places[at + three]
    out_g = at + four
    out_i = out_g + gs
    a_g = out_i + rows
    a_i = a_g + gs
    b_g = a_i + rows
    b_j = b_g + gs
    for g in range(gs):
        o, p, q = places[out_g + g], places[a_g + g], places[b_g + g]
        for i in range(zero, rows, two):
            i1 = min(i + one, rows - one)
            o0, o1 = o + places[out_i + i], o + places[out_i + i1]
            of_a = p + places[a_i + i], p + places[a_i + i1]
            if columns < lanes:
                steps = b_j, columns - one, length
                _inner(out, (o0, o1), a, of_a, b, q, columns, places, steps, c)
            else:
                for first in range(zero, columns, lanes):
                    j = min(first, columns - lanes)
                    to, steps = (o0 + j, o1 + j), (b_j + j, lanes - one, length)
                    _inner(out, to, a, of_a, b, q, None, places, steps, c)
