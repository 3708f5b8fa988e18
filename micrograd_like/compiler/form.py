"""The lifted form: a program on arrays, as data.

`lift.py` makes it from the tape, and each target has a printer that walks it. It is declared here,
once:

- an `Array` is a vector, a matrix or a single number: an input, a constant, or a result;
- a `View` takes elements of an array: all of it, a row, a block, its transpose, or any others;
- a `Term` is coefficient · left · right, element by element or summed along an axis;
- a `Statement` computes one array: an operation applied to views, or a constant plus terms;
- the `Lifted` program has the statements in order, and knows where the outputs are.

Nothing here is ever changed after it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ops import Op
from .tape import Tape

Indices = NDArray[np.intp]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """An array of the program, of 0, 1 or 2 axes: an input, a constant, or what is computed.

    `members` are the assignments in it, in the order of its elements; `data` are the numbers of a
    constant, which has no name: printers give it one.
    """

    number: int
    shape: tuple[int, ...]
    members: Sequence[int]
    data: Floats | None
    name: str

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Elements of an array, at `places` (of its flat form), in the shape of `places`."""

    array: Array
    places: Indices

    @property
    def first(self) -> View:
        """The first of its elements."""
        return View(self.array, self.places.reshape(-1)[0].reshape(()))

    @property
    def is_single(self) -> bool:
        """Whether all of its elements are the same one."""
        return bool(np.all(self.places == self.first.places))

    @property
    def is_whole(self) -> bool:
        """Whether it is the array, in its shape."""
        return self.places.shape == self.array.shape and self.is_all

    @property
    def is_all(self) -> bool:
        """Whether it has all elements of the array in their order, in whatever shape."""
        flat = self.places.reshape(-1)
        return len(flat) == self.array.size and np.array_equal(flat, np.arange(len(flat)))

    @property
    def row(self) -> View | None:
        """The vector that each row of it is, if it has several; a vector is a row."""
        if self.places.ndim == 1:
            return self
        places = self.places[0]
        return View(self.array, places) if np.all(self.places == places) else None

    @property
    def column(self) -> View | None:
        """The vector that each column of it is."""
        if self.places.ndim != 2 or not np.all(self.places == self.places[:, :1]):
            return None
        return View(self.array, self.places[:, 0])

    def index(self) -> tuple[int | slice, ...] | None:
        """The index of a vector or matrix that takes these places; None if slices do not."""
        places, shape = self.places, self.array.shape
        if places.ndim == 0:
            return tuple(map(int, np.unravel_index(int(places), shape)))
        if len(shape) < 2:
            part = progression(places) if places.ndim == 1 else None
            return None if part is None else (part,)
        # Of a matrix, a vector is taken from one row, or else from one column.
        grids = {1: [places[None], places[:, None]], 2: [places]}.get(places.ndim, [])
        for axis, grid in enumerate(grids):
            taken = [grid[:, 0] // shape[1], grid[0] % shape[1]]
            parts: list[Any] = [progression(numbers) for numbers in taken]
            if None in parts or not np.array_equal(grid, taken[0][:, None] * shape[1] + taken[1]):
                continue
            parts = [
                slice(None) if len(numbers) == size else part
                for numbers, size, part in zip(taken, shape, parts, strict=True)
            ]
            if places.ndim == 1:
                parts[axis] = int(taken[axis][0])
            while parts and parts[-1] == slice(None):
                parts.pop()
            return tuple(parts)
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """coefficient · left · right, or coefficient · left, as part of a sum of arrays.

    With `kind` "each" elementwise; with "total" summed over the last axis of the views; with
    "matmul" left @ right.T, for views of shapes (m, k) and (n, k) (or (k,), for a product of a
    matrix and a vector, or of two vectors). A coefficient is a number, or an array of them.
    """

    kind: Literal["each", "total", "matmul"]
    coefficient: float | Array
    left: View
    right: View | None = None

    @property
    def views(self) -> list[View]:
        return [self.left] if self.right is None else [self.left, self.right]


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """result = op(args), or result = constant + the terms. Arguments are views or numbers."""

    result: Array
    op: Op | None = None
    args: Sequence[View | float | Array] = ()
    constant: float | Array = 0.0
    terms: Sequence[Term] = ()

    @property
    def views(self) -> list[View]:
        """The views that it reads."""
        views = [argument for argument in self.args if isinstance(argument, View)]
        return views + [view for term in self.terms for view in term.views]


@dataclass(frozen=True, slots=True, eq=False)
class Lifted:
    """The program: its inputs, its statements in order, and where each number of the tape is.

    Of an input there are the array and the numbers of the inputs in it. `array_of[number]` and
    `place_of[number]` say which array has what the tape calls by this number, and at which place.

    Some inputs are not given: arrays of a row for each number that chooses, with a 1.0 at what it
    chooses, and else 0.0. By the names of such arrays `one_hot` has the inputs, of one array, that
    are these numbers: a product with rows like these is what indexing with the numbers gives.
    """

    tape: Tape
    inputs: Sequence[tuple[Array, Indices]]
    statements: Sequence[Statement]
    array_of: Sequence[Array]
    place_of: Indices
    one_hot: Mapping[str, Indices] = field(default_factory=dict)


class Piece(NamedTuple):
    """What a block of outputs has at `positions`: an array's elements at `places`, or a number."""

    block: str
    positions: Indices
    source: Array | float
    places: Indices

    def operand(self, shape: tuple[int, ...]) -> View | float:
        """What it is in this shape; a number remains one."""
        if isinstance(self.source, Array):
            return View(self.source, self.places.reshape(shape))
        return self.source


def pieces(lifted: Lifted, block: str, outputs: Iterable[int | float]) -> list[Piece]:
    """What the outputs of a block consist of: a piece of each array, and then of each number."""
    found: dict[Array | str, list[tuple[int, int]]] = {}
    for position, output in enumerate(outputs):
        if isinstance(output, int):
            place = int(lifted.place_of[output])
            found.setdefault(lifted.array_of[output], []).append((place, position))
        else:
            found.setdefault(repr(output), []).append((0, position))
    result = []
    for key in sorted(found, key=lambda key: isinstance(key, str)):
        places, positions = np.array(sorted(found[key])).T
        source = float(key) if isinstance(key, str) else key
        result.append(Piece(block, positions, source, places))
    return result


def progression(places: Indices) -> slice | None:
    """The slice that takes these places, if one does."""
    first = int(places[0])
    if len(places) == 1:
        return slice(first, first + 1, 1)
    step = int(places[1]) - first
    if step <= 0 or not np.array_equal(places, first + step * np.arange(len(places))):
        return None
    return slice(first, int(places[-1]) + 1, step)
