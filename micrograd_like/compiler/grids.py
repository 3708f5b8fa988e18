"""How the elements of a group are laid out: in which order, in which shape, with which gaps.

A group of m·n sums of products whose left operands take m distinct rows and whose right operands
take n distinct rows, in all combinations, is a *grid*: a product of matrices. Several of equal
sizes side by side, as the heads of an attention are, are one of three axes; and where a good part
of the combinations is there, as in a causal attention, the others are padding.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .form import Array, Bools, Floats, Indices
from .padding import continued

_LEAST_REAL = 0.4  # of the elements of a padded grid


class Layout:
    """Where the members of a group are: the member at each element (-1 for none), and the shape."""

    def __init__(self, order: Indices, shape: tuple[int, ...]) -> None:
        self.order = order
        self.shape = shape
        real = order >= 0
        self.real: Bools | None = None if real.all() else real

    def spread(self, column: NDArray[Any], size: int | None = None) -> NDArray[Any]:
        """What each member has, a number or several along a last axis, at the elements.

        What is not real gets what the first real one has, or if it is of places below a `size`,
        such that the places go on as they do.
        """
        full: NDArray[Any] = column[self.order].reshape((*self.shape, *column.shape[1:]))
        if self.real is None:
            return full
        real = self.real.reshape(self.shape)
        if size is not None:
            return continued(full, real, size)
        full[~real] = full[real][0]
        return full

    def is_like(self, other: Layout) -> bool:
        return self.shape == other.shape and np.array_equal(self.order, other.order)


class Grid(NamedTuple):
    """Distinct left and right rows, and the layout in which the elements combine them.

    The rows have an axis for the sum, one for the rows, and before it one for the grids, if there
    are several side by side.
    """

    rows: Indices
    columns: Indices
    layout: Layout


def grid_of(left: Indices, right: Indices, c: Floats, padded: bool) -> Grid | None:
    """All combinations of m left and n right rows, where the elements are just those.

    With `padded` also several such grids, and grids of which elements are missing.
    """
    count, k = left.shape
    if (count == 1 and k == 1) or not np.all(c == c[0, 0]):
        return None
    rows, at_left = _sorted_rows(left)
    columns, at_right = _sorted_rows(right)
    m, n = len(rows), len(columns)
    if m * n < count or len(np.unique(at_left * n + at_right)) != count:
        return None
    if m * n == count:
        if k == 1 and (m == 1 or n == 1):
            return None
        return Grid(rows, columns, Layout(np.lexsort((at_right, at_left)), without_ones(m, n)))
    if not padded or k == 1:
        return None
    of_left, of_right = _components(at_left, at_right, m, n)
    parts = int(of_left.max()) + 1
    p, q = m // parts, n // parts
    sizes = np.bincount(of_left), np.bincount(of_right, minlength=parts)
    if p < 2 or q < 2 or (sizes[0] != p).any() or (sizes[1] != q).any():
        return None
    if count < _LEAST_REAL * parts * p * q:
        return None
    # The rows of each part, in order, and where in its part each row is.
    by_left, by_right = np.argsort(of_left, kind="stable"), np.argsort(of_right, kind="stable")
    in_left, in_right = np.empty(m, dtype=np.intp), np.empty(n, dtype=np.intp)
    in_left[by_left] = np.tile(np.arange(p), parts)
    in_right[by_right] = np.tile(np.arange(q), parts)
    order = np.full(parts * p * q, -1)
    order[(of_left[at_left] * p + in_left[at_left]) * q + in_right[at_right]] = np.arange(count)
    several = (parts,) if parts > 1 else ()
    return Grid(
        rows[by_left].reshape(*several, p, k),
        columns[by_right].reshape(*several, q, k),
        Layout(order, (*several, p, q)),
    )


def _components(at_left: Indices, at_right: Indices, m: int, n: int) -> tuple[Indices, Indices]:
    """Which grid each row is in: rows that an element combines are in the same one."""
    of_left = np.arange(m)
    while True:
        of_right = np.full(n, m)
        np.minimum.at(of_right, at_right, of_left[at_left])
        before = of_left.copy()
        np.minimum.at(of_left, at_left, of_right[at_right])
        if np.array_equal(before, of_left):
            break
    labels = np.unique(of_left)
    return np.searchsorted(labels, of_left), np.searchsorted(labels, of_right)


def _sorted_rows(rows: Indices) -> tuple[Indices, Indices]:
    """The distinct rows in order, and which of them each row is."""
    if rows.shape[1] == 1:  # several times faster than what follows
        distinct, inverse = np.unique(rows[:, 0], return_inverse=True)
        return distinct[:, None], inverse
    distinct, inverse = np.unique(rows, axis=0, return_inverse=True)
    return distinct, inverse.ravel()  # NumPy 2.0 has two axes here


def aligned(columns: list[tuple[Array, Indices]], count: int) -> Layout:
    """A layout of `count` elements in which the columns of places in arrays line up best."""
    if count == 1 or not columns:
        return Layout(np.arange(count), without_ones(count))
    distinct = [len(np.unique(places)) for _, places in columns]
    primary = int(np.argmax(distinct))
    source, places = columns[primary]
    if source.real is not None and distinct[primary] == count == source.real.sum():
        order = np.full(source.size, -1)
        order[places] = np.arange(count)
        return Layout(order, source.shape)
    others = [p for k, (_, p) in enumerate(columns) if k != primary]
    order = np.lexsort((*reversed(others), places))
    return Layout(order, _shape_of(source, places[order]))


def _shape_of(source: Array, places: Indices) -> tuple[int, ...]:
    """The shape in which sorted places of the source are a whole, or a block, of it."""
    if len(source.shape) > 1:
        axes = [np.unique(i) for i in np.unravel_index(places, source.shape)]
        sizes = without_ones(*map(len, axes))
        if prod(sizes) == len(places) and len(sizes) > 1:
            block = np.ravel_multi_index(np.meshgrid(*axes, indexing="ij"), source.shape)
            if np.array_equal(block.reshape(-1), places):
                return sizes
    return (len(places),)


def without_ones(*shape: int) -> tuple[int, ...]:
    return tuple(size for size in shape if size > 1)
