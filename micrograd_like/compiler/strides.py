"""Views element by element: along which loops they move, and by how much in memory.

A loop nest has a loop for each axis of a statement's result, and one for the axis of a sum.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any, Final

import numpy as np

from .form import Array, Indices, Statement, Term, View

SUMMED: Final = -1  # the axis that a sum runs over, among those of its operands


def operands(term: Term, axes: int) -> list[tuple[View, tuple[int, ...]]]:
    """The views of a term, and which of the result's axes each of theirs is, or SUMMED."""
    if term.kind == "matmul":
        two = all(view.places.ndim > 1 for view in term.views)
        shared = tuple(range(axes - 2))  # a product of matrices for each of these
        pairs = zip(term.views, (axes - 2, axes - 1) if two else (0, 0), strict=True)
        return [
            (v, (*shared, axis, SUMMED) if v.places.ndim > 1 else (SUMMED,)) for v, axis in pairs
        ]
    own = (*range(axes), SUMMED) if term.kind == "total" else tuple(range(axes))
    return [(view, own) for view in term.views]


def order(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes from the outer loop to the inner one, which is the longest."""
    return (1, 0) if len(shape) == 2 and shape[0] > shape[1] else tuple(range(len(shape)))


def layout(shape: tuple[int, ...]) -> Indices:
    """The position of each element of a stored array, with the longer axis contiguous."""
    axes = order(shape)
    stored = np.arange(prod(shape)).reshape([shape[axis] for axis in axes])
    return stored.transpose(np.argsort(axes)).reshape(-1)


def at(places: Indices, statement: Statement) -> Statement:
    """The statement for some elements of its result alone, of terms taken element by element."""
    terms = [
        Term(t.kind, t.coefficient, *(through(v, statement.result, places) for v in t.views))
        for t in statement.terms
    ]
    return replace(statement, terms=terms)


def through(view: View, array: Array, places: Indices) -> View:
    """What the view, an operand of all elements of the array, is at some of these elements."""
    return View(view.array, np.broadcast_to(view.places, array.shape).reshape(-1)[places])


def affine(positions: Indices) -> tuple[int, tuple[int, ...]] | None:
    """The base and strides of positions that are base + Σ stride · index; None if they are not."""
    base = int(positions.flat[0])
    strides = tuple(
        int(positions.take(min(1, size - 1), axis).flat[0]) - base
        for axis, size in enumerate(positions.shape)
    )
    indices: Any = np.indices(positions.shape, sparse=True)
    regular = base + sum(s * i for s, i in zip(strides, indices, strict=True))
    return (base, strides) if np.array_equal(positions, regular) else None
