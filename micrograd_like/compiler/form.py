"""The lifted form: a program on arrays, as data.

`lift.py` makes it from the tape, and each target has a printer that walks it. It is declared here,
once:

- an `Array` has up to three axes: it is an input, a constant, or a result;
- a `View` takes elements of an array: all of it, a row, a block, its transpose, or any others;
- a `Term` is coefficient · left · right, element by element or summed along an axis;
- a `Statement` computes one array: an operation applied to views, a constant plus terms, or
  arrays put together;
- the `Lifted` program has the statements in order, and knows where the outputs are.

Arrays may be *padded*: the rows of a causal attention are of different lengths, and an array of
them has elements that are no numbers of the tape; so has a table of who is whose neighbour in a
graph. A sum along such a row takes them in. They are 0 there, which is exact as long as what they
are multiplied with is finite; if it is not, they are NaN and the sum is, which is seen in the
results. Then, and where a NaN could be lost on the way, the same statements are computed with every
sum restricted to the elements that are `real`.

Nothing here is ever changed after it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ops import Op
from .tape import InputArray, Tape

Indices = NDArray[np.intp]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """An array of the program, of 0 to 3 axes: an input, a constant, or what is computed.

    `members` are the assignments in it, in the order of its elements; of what is copied from other
    arrays they are -1. `data` are the numbers of a constant, which has no name: printers give it
    one. `real` says of a padded array which elements are assignments (of a copy, or a constant:
    which of its numbers count); the others have -1 in `members`.
    """

    number: int
    shape: tuple[int, ...]
    members: Sequence[int]
    data: Floats | None
    name: str
    real: Bools | None = None

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def whole(self) -> View:
        """All of its elements, in its shape."""
        return View(self, np.arange(self.size).reshape(self.shape))


NOWHERE = Array(-1, (), (), None, "")


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
    def real(self) -> Bools | None:
        """Which of its elements are real, in its shape; None if all are."""
        if self.array.real is None:
            return None
        real = self.array.real[self.places]
        return None if real.all() else real

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

    @property
    def turned(self) -> View:
        """With its last two axes exchanged, if it has two."""
        places = self.places
        return View(self.array, places.swapaxes(-1, -2) if places.ndim > 1 else places)

    def without_repeats(self) -> tuple[View, list[bool]]:
        """Without the axes along which its elements are the same, and which of its axes those are.

        A view of several rows that are all the same is a row then.
        """
        places, repeats = self.places, []
        for axis in range(places.ndim):
            first = places.take([0], axis)
            repeats.append(bool((places == first).all()))
            places = first if repeats[-1] else places
        return View(self.array, places.squeeze()), repeats

    def index(self) -> tuple[int | slice, ...] | None:
        """The index of a vector or matrix that takes these places; None if slices do not."""
        places, shape = self.places, self.array.shape
        if places.ndim == 0:
            return tuple(map(int, np.unravel_index(int(places), shape)))
        if len(shape) < 2:
            part = progression(places) if places.ndim == 1 else None
            return None if part is None else (part,)
        if len(shape) > 2:
            return None
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

    def route(self) -> Route | None:
        """How to get there by slicing, reshaping and transposing; None if that does not do."""
        places = self.places
        steps: list[tuple[int, int]] = []  # sizes and strides, one or several of each axis
        for axis in range(places.ndim):
            line = places[tuple(slice(None) if a == axis else 0 for a in range(places.ndim))]
            steps += _steps(line)
        base, size = int(places.flat[0]), self.array.size
        regular: Indices = np.full((), base)
        for length, stride in steps:
            regular = np.add.outer(regular, stride * np.arange(length))
        if not np.array_equal(regular.reshape(-1), places.reshape(-1)):
            return None
        if any(stride <= 0 for _, stride in steps):
            return None
        order = sorted(range(len(steps)), key=lambda k: -steps[k][1])
        descending = [steps[k] for k in order]
        part, shape, found = None, self.array.shape, None
        if len(shape) == 1 and steps and base + (span := prod(descending[0])) <= size > span:
            part, shape = slice(base, base + span, 1), (span,)
            found = _boxed(descending, 0, span)
        if found is None:
            part, shape = None, self.array.shape
            found = _boxed(descending, base, size)
        if found is None:
            return None
        box, index = found
        axes = tuple(order.index(k) for k in range(len(steps)))
        sizes = tuple(length for length, _ in steps)
        return Route(
            part,
            None if box == shape else box,
            index,
            None if list(axes) == sorted(axes) else axes,
            sizes,
        )


def _boxed(
    steps: Sequence[tuple[int, int]], base: int, size: int
) -> tuple[tuple[int, ...], tuple[int | slice, ...]] | None:
    """The shape of an array of this size, and the index in it, that take places in such steps."""
    shape: list[int] = []
    index: list[int | slice] = []
    for length, stride in steps:
        if size % stride or size // stride < length:
            return None
        shape.append(size // stride)
        start, base = divmod(base, stride)
        if start + length > shape[-1]:
            return None
        index.append(slice(None) if length == shape[-1] else slice(start, start + length, 1))
        size = stride
    if size > 1:
        shape.append(size)
        index.append(base)
    while index and index[-1] == slice(None):
        index.pop()
    return tuple(shape), tuple(index)


class Route(NamedTuple):
    """From an array to a view: a part of a vector, reshape, index, transpose, reshape.

    What is None, or empty, is not needed. `sizes` are those before it is reshaped to the view's.
    """

    part: slice | None
    shape: tuple[int, ...] | None
    taken: tuple[int | slice, ...]
    axes: tuple[int, ...] | None
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """coefficient · left · right, or coefficient · left, as part of a sum of arrays.

    With `kind` "each" elementwise; with "total" summed over the last axis of the views; with
    "matmul" left @ right.T, for views of shapes (m, k) and (n, k) (or (k,), for a product of a
    matrix and a vector, or of two vectors), or so for each of c: (c, m, k) and (c, n, k). A
    coefficient is a number, or an array of them.
    """

    kind: Literal["each", "total", "matmul"]
    coefficient: float | Array
    left: View
    right: View | None = None

    @property
    def views(self) -> list[View]:
        return [self.left] if self.right is None else [self.left, self.right]

    def real(self) -> Bools | None:
        """Which of the products that it sums are real, the sum's axis last; None if all are."""
        sides = [view.real for view in self.views]
        if self.kind == "matmul" and self.right is not None:
            two = self.left.places.ndim > 1 and self.right.places.ndim > 1
            sides = [
                side if side is None or not two else np.expand_dims(side, axis)
                for side, axis in zip(sides, (-2, -3), strict=True)
            ]
        known = [side for side in sides if side is not None]
        if self.kind == "each" or not known:
            return None
        return known[0] if len(known) == 1 else known[0] & known[1]


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """result = op(args), or result = constant + the terms. Arguments are views or numbers.

    Or it is arrays, its `parts`, that are stacked along a new first axis. Elements that are not
    real become `fill`; with None they may be anything. Where the result is laid out otherwise than
    it is computed, it is what is `taken` from an array that is.
    """

    result: Array
    op: Op | None = None
    args: Sequence[View | float | Array] = ()
    constant: float | Array = 0.0
    terms: Sequence[Term] = ()
    fill: float | None = None
    parts: Sequence[View] = ()
    taken: View | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """In which it is computed."""
        return (self.taken.array if self.taken else self.result).shape

    @property
    def views(self) -> list[View]:
        """The views that it reads."""
        views = [argument for argument in self.args if isinstance(argument, View)]
        return [*views, *[view for term in self.terms for view in term.views], *self.parts]


@dataclass(frozen=True, slots=True, eq=False)
class Lifted:
    """The program: its inputs, its statements in order, and where each number of the tape is.

    Of an input there are the array and the numbers of the inputs in it. `array_of[number]` and
    `place_of[number]` say which array has what the tape calls by this number, and at which place;
    what is written out where it is used is `NOWHERE`.

    An array of inputs may be several that were given, one after the other; by its name `parts` has
    them.

    Some inputs are not given: arrays of a row for each number that chooses, with a 1.0 at what it
    chooses, and else 0.0. By the names of such arrays `one_hot` has the inputs, of one array, that
    are these numbers: a product with rows like these is what indexing with the numbers gives.

    If it `may_lose` a NaN, what comes of padding may not be seen in the results.
    """

    tape: Tape
    inputs: Sequence[tuple[Array, Indices]]
    statements: Sequence[Statement]
    array_of: Sequence[Array]
    place_of: Indices
    parts: Mapping[str, Sequence[InputArray]] = field(default_factory=dict)
    one_hot: Mapping[str, Indices] = field(default_factory=dict)
    may_lose: bool = False

    @property
    def given(self) -> Iterator[InputArray]:
        """The arrays of the inputs as they are given."""
        for array, numbers in self.inputs:
            whole = (array.name, array.shape, numbers.tolist())
            yield from self.parts.get(array.name, [whole])

    @property
    def is_padded(self) -> bool:
        """Whether there are padded arrays."""
        return any(v.array.real is not None for s in self.statements for v in s.views)


class Piece(NamedTuple):
    """What a block of outputs has at `positions`: an array's elements at `places`, or a number."""

    block: str
    positions: Indices
    source: Array | float
    places: Indices

    def by_position(self) -> Piece:
        """The same, in the order of the positions."""
        order = np.argsort(self.positions)
        return Piece(self.block, self.positions[order], self.source, self.places[order])

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


def _steps(line: Indices) -> list[tuple[int, int]]:
    """Sizes and strides of which a line of places is composed, the outer ones first."""
    count = len(line)
    if count == 1:
        return []
    stride = int(line[1]) - int(line[0])
    same = np.diff(line) == stride
    run = count if same.all() else int(np.argmin(same)) + 1
    while count % run:
        run -= 1
    return [*_steps(line[::run]), (run, stride)] if run > 1 else [(count, -1)]


def progression(places: Indices) -> slice | None:
    """The slice that takes these places, if one does."""
    first = int(places[0])
    if len(places) == 1:
        return slice(first, first + 1, 1)
    step = int(places[1]) - first
    if step <= 0 or not np.array_equal(places, first + step * np.arange(len(places))):
        return None
    return slice(first, int(places[-1]) + 1, step)
