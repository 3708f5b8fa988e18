"""What the elements of padded arrays are that are not real, and what operations make of them.

Nothing here knows an operation by its name: what one does with padding is found by trying it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from itertools import product
from math import inf, isnan, nan, prod
from typing import NamedTuple

import numpy as np

from ..ops import BUILTIN, Op
from .form import Array, Bools, Indices, Statement, View
from .rows import unrefusing

_FINITE = (0.0, 1.0, -1.0, 0.3, -2.7, 1e3, -1e3, 1e300, -1e300, 1e-300)
_ANY = (0.0, 1.0, -1.0, 0.3, -2.7, inf, -inf)


@cache
def neutral(op: Op) -> float | None:
    """The argument that a variadic operation does not notice, if there is one."""
    if op.arity is not None or op.name not in BUILTIN:
        return None
    compute = unrefusing(op)
    for e in (-inf, inf, 0.0, 1.0):
        if all(compute(x, e) == x == compute(e, x) for x in (*_ANY, *_FINITE) if x != -e or x == 0):
            return e
    return None


@cache
def may_lose(op: Op, constants: tuple[float | None, ...]) -> bool:
    """Whether a NaN among the arguments may not show in the result.

    `constants` are the arguments that are numbers, None for the others. Of an operation of the
    user's nothing is known.
    """
    if op.name not in BUILTIN:
        return True
    compute = unrefusing(op)
    constants = constants if op.arity is not None else constants[:3]
    variable = [k for k, c in enumerate(constants) if c is None]
    for k in variable:
        choices = [_ANY if c is None else (c,) for c in constants]
        choices[k] = (nan,)
        if not all(isnan(compute(*xs)) for xs in product(*choices)):
            return True
    return False


@cache
def result(op: Op, args: tuple[float | None, ...]) -> float | None:
    """The result if it is the same whatever finite numbers the arguments are that are None."""
    if op.name not in BUILTIN or op.arity is None or all(x is None for x in args):
        return None
    compute = unrefusing(op)
    results = {compute(*xs) for xs in product(*[_FINITE if x is None else (x,) for x in args])}
    result = results.pop()
    return result if not results and result == result else None


class Padding:
    """What padding is in each array: known of those that statements compute."""

    def __init__(self) -> None:
        self.statements: dict[Array, Statement] = {}
        self.known: dict[Array, float | None] = {}
        self.fills: dict[Array, float] = {}

    def add(self, statement: Statement) -> None:
        self.statements[statement.result] = statement

    def of(self, array: Array) -> float | None:
        """What the elements are that are not real; None for anything, finite if all goes well."""
        if array not in self.known:
            self.known[array] = self._found(array)
        return self.known[array]

    def can_be(self, array: Array, fill: float) -> bool:
        """Whether its padding is this, or can be made so."""
        return array in self.statements and self.of(array) in (fill, None)

    def fill(self, array: Array, fill: float) -> None:
        """Make its padding this, unless it is."""
        if self.of(array) is None:
            self.known[array] = self.fills[array] = fill

    def _found(self, array: Array) -> float | None:
        statement = self.statements.get(array)
        if statement is None or array.real is None:
            return None
        empty = ~array.real.reshape(array.shape)
        if statement.op is not None:
            return result(statement.op, tuple(_at(x, empty, self) for x in statement.args))
        if any(term.kind != "each" for term in statement.terms):
            return None
        parts = [_at(statement.constant, empty, self)]
        for term in statement.terms:
            factors = [_at(x, empty, self) for x in (term.coefficient, *term.views)]
            known = [x for x in factors if x is not None]
            unknown = len(known) < len(factors) and 0.0 not in known
            parts.append(None if unknown else 0.0 if 0.0 in known else prod(known))
        known = [x for x in parts if x is not None]
        infinite = {x for x in known if abs(x) == inf}
        if infinite:
            return infinite.pop() if len(infinite) == 1 else None
        return None if len(known) < len(parts) else float(sum(known))


def _at(x: View | float | Array, empty: Bools, padding: Padding) -> float | None:
    """What an operand is at the empty places of a result, if it is the same at all of them."""
    if isinstance(x, Array):
        assert x.data is not None
        first, *others = np.unique(x.data[empty]).tolist()
        return None if others else float(first)
    if not isinstance(x, View):
        return x
    if x.array.real is None or x.places.shape != empty.shape:
        return None
    known = x.array.real[x.places[empty]]
    return None if known.any() else padding.of(x.array)


def watched(statements: Sequence[Statement], known: Collection[Array]) -> list[Array]:
    """Arrays, of those `known`, of which one has a NaN if padding has made one anywhere.

    A sum over padding makes it, if at all, and then what is computed of that has it, too, where no
    NaN is lost. So one array may stand for many before it: those are taken that stand for most,
    and of these the smallest. There are none if those known don't stand for all.
    """
    makers = 0
    of: dict[Array, int] = {}  # for which statements a result stands, a bit for each
    for statement in statements:
        bits = 0
        if any(view.array.real is not None for view in statement.views):
            bits, makers = 1 << makers, makers + 1
        for array in dict.fromkeys(view.array for view in statement.views):
            if of.get(array) and _reads_all(statement, array):
                bits |= of[array]
        of[statement.result] = bits
    found: list[Array] = []
    missing = (1 << makers) - 1
    candidates = [array for array in of if array in known]
    while missing:
        best = max(candidates, key=lambda a: ((of[a] & missing).bit_count(), -a.size), default=None)
        if best is None or not of[best] & missing:
            return []
        found.append(best)
        missing &= ~of[best]
    return found


def _reads_all(statement: Statement, array: Array) -> bool:
    """Whether all that is real in an array goes into what is real in the result."""
    real = statement.result.real
    read = np.zeros(array.size, bool) if array.real is None else ~array.real
    if real is None:
        for view in statement.views:
            if view.array is array:
                read[view.places] = True
        return bool(read.all())
    if statement.taken or statement.parts:
        return False
    views = [x for x in statement.args if isinstance(x, View)]
    views += [v for term in statement.terms if term.kind != "matmul" for v in term.views]
    axes = len(statement.shape)
    for view in views:
        if view.array is array:
            rows = view.places.shape[axes:]  # which the operation, or the sum, goes along
            places = np.broadcast_to(view.places, (*statement.shape, *rows))
            read[places[real.reshape(statement.shape)]] = True
    return bool(read.all())


class Lines(NamedTuple):
    """Where in an array a line for each owner begins, and where in its line each given place is."""

    starts: Indices
    slots: Indices
    size: int
    stride: int

    @property
    def places(self) -> Indices:
        """A row of places for each owner."""
        return self.starts[:, None] + self.stride * np.arange(self.size)


def along(
    shape: tuple[int, ...], axes: slice, places: Indices, owner: Indices, count: int
) -> Lines | None:
    """Lines along neighbouring axes of an array, if those of each of so many owners are in one.

    Each of the `places` belongs to an owner.
    """
    size, stride = prod(shape[axes]), prod(shape[axes.stop :])
    slots = places // stride % size
    starts = np.zeros(count, dtype=np.intp)
    starts[owner] = places - slots * stride
    in_one = np.array_equal(starts[owner] + slots * stride, places)
    return Lines(starts, slots, size, stride) if in_one else None


def lines(source: Array, places: Indices, owner: Indices, count: int) -> Lines | None:
    """Lines of a padded array, one for each of so many owners, whose real places are the owner's.

    Each of the `places` belongs to an owner.
    """
    if source.real is None:
        return None
    real = source.real.reshape(source.shape)
    lengths = np.bincount(owner, minlength=count)
    if len(np.unique(owner * source.size + places)) < len(places):
        return None
    for axis in reversed(range(real.ndim)):
        found = along(source.shape, slice(axis, axis + 1), places, owner, count)
        in_line = np.broadcast_to(real.sum(axis, keepdims=True), source.shape).reshape(-1)
        if found and np.array_equal(in_line[found.starts], lengths):
            return found
    return None


def completed(rows: Indices, size: int) -> Indices:
    """The rows with what is missing (-1) filled in by places below `size`.

    In steps of one stride if the known ones are so; else as in a row that agrees in the rest, or
    with any place of the row.
    """
    known = rows >= 0
    if known.all():
        return rows
    slots = np.arange(rows.shape[1])
    first = np.argmax(known, axis=1)
    several = np.flatnonzero(known.sum(axis=1) > 1)
    every = np.arange(len(rows))
    if len(several):
        i = several[0]
        a, b = np.flatnonzero(known[i])[:2]
        stride = (rows[i, b] - rows[i, a]) // (b - a)
        regular: Indices = (rows[every, first] - stride * first)[:, None] + stride * slots
        if ((regular == rows) | ~known).all() and regular.min() >= 0 and regular.max() < size:
            return regular
    result: Indices = np.where(known, rows, rows[every, first][:, None])
    whole = rows[known.all(axis=1)]
    patterns, of = np.unique(known, axis=0, return_inverse=True)
    of = of.ravel()
    for k, pattern in enumerate(patterns):
        by_part = {row[pattern].tobytes(): row for row in whole}
        for i in np.flatnonzero(of == k):
            result[i] = by_part.get(rows[i][pattern].tobytes(), result[i])
    return result


def continued(places: Indices, real: Bools, size: int) -> Indices:
    """Places where those that are real are kept, and the others go on as those do, below `size`.

    Both have the shape of a result; places may have an axis more. Where they don't go on in equal
    steps along each axis, the others are the first real one.
    """
    first = tuple(int(i[0]) for i in np.nonzero(real))
    base = places[first]
    regular = np.broadcast_to(base, places.shape)
    for axis, length in enumerate(real.shape):
        before, after = (
            tuple(part if a == axis else slice(None) for a in range(real.ndim))
            for part in (slice(None, -1), slice(1, None))
        )
        pairs = np.argwhere(real[before] & real[after])
        if not len(pairs):
            continue
        at = tuple(pairs[0])
        along = np.arange(length) - first[axis]
        along = along.reshape([-1 if a == axis else 1 for a in range(places.ndim)])
        regular = regular + along * (places[after][at] - places[before][at])
    if not np.array_equal(regular[real], places[real]):
        regular = np.broadcast_to(base, places.shape)
    filled = np.where((regular >= 0) & (regular < size), regular, base)
    result: Indices = filled.copy()
    result[real] = places[real]
    return result
