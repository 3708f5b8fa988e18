"""Sums of several lengths as products of matrices that have 0 for what is missing.

So a hand writes the sums over a node's neighbours, with the adjacency matrix of the graph, a
convolution's sums at the borders of an image, with an image that is padded, and sums with a
triangle of a matrix. What stands under a zero does not count; where it is infinite the product is
NaN, and the sums are computed again of what is real: see `form.py`.
"""

from __future__ import annotations

from itertools import combinations
from math import prod
from typing import NamedTuple

import numpy as np

from .form import Bools, Floats, Indices
from .padding import Lines, along

_MOST_CELLS = 1024  # of a table that may be empty for the most part
_LEAST_FULL = 1 / 16  # of a larger one
_LEAST_REAL = 0.4  # of the parts of an array that are copied


class Tabled(NamedTuple):
    """Lines of an array, and coefficients, of which those that are not `real` are 0.

    All have a row for each sum.
    """

    lines: Indices
    coefficients: Floats
    real: Bools


def tabled(
    shape: tuple[int, ...], places: Indices, c: Floats, owner: Indices, count: int
) -> Tabled | None:
    """So many sums, of several lengths, of coefficients times elements of an array.

    None where a table would be empty for the most part, and where the sums of each length are over
    whole lines of the array, or are no sums.
    """
    found = _lines(shape, places, owner, count)
    cells = owner * found.size + found.slots
    if count * found.size > max(_MOST_CELLS, len(places) / _LEAST_FULL):
        return None
    if _are_whole(shape, places, owner, count):
        return None
    rows, real = np.zeros((count, found.size)), np.zeros((count, found.size), dtype=bool)
    rows.reshape(-1)[cells] = c
    real.reshape(-1)[cells] = True
    return Tabled(found.places, rows, real)


def in_lines(
    shape: tuple[int, ...], places: Indices, others: Indices, owner: Indices, count: int
) -> tuple[Indices, Indices] | None:
    """So many sums, of several lengths, of products of elements of one array with those of another.

    Lines of the first array, and places in the other, -1 for what is missing; both have a row for
    each sum. None where much is missing, and where lines would be whole without that.
    """
    found = _lines(shape, places, owner, count)
    if len(places) < _LEAST_REAL * count * found.size or _are_whole(shape, places, owner, count):
        return None
    rows = np.full((count, found.size), -1)
    rows[owner, found.slots] = others
    if np.count_nonzero(rows >= 0) < len(places):
        return None
    return found.places, rows


def _are_whole(shape: tuple[int, ...], places: Indices, owner: Indices, count: int) -> bool:
    """Whether the sums of each length are over whole lines of an array, or are no sums."""
    lengths = np.bincount(owner, minlength=count)
    for length in np.unique(lengths):
        of = lengths[owner] == length
        if length > 1 and _lines(shape, places[of], owner[of], count).size > length:
            return False
    return True


def _lines(shape: tuple[int, ...], places: Indices, owner: Indices, count: int) -> Lines:
    """The shortest lines in which all places of each owner are."""
    axes = combinations(range(len(shape) + 1), 2) if shape else [(0, 0)]
    shortest_first = sorted(axes, key=lambda ends: prod(shape[slice(*ends)]))
    found = (along(shape, slice(*ends), places, owner, count) for ends in shortest_first)
    return next(lines for lines in found if lines)
