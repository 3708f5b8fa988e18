"""Second step: the tape's assignments become operations on arrays.

Assignments of one *level* (the longest path from the inputs) and one *form* (the same operation, or
sums of as many terms, of operands from the same arrays) are one array. A group of m·n sums of
products whose left operands take m distinct rows and whose right operands take n distinct rows, in
all combinations, is a matrix product. The elements of each group are put in an order in which its
operands line up: as a whole array, its transpose, a slice, a row repeated along the other axis.
What does not line up is an index gather.

What comes out is the lifted form: see `form.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..engine import Value
from ..ops import Op
from .form import Array, Floats, Indices, Lifted, Statement, Term, View
from .names import InputArray, ResultNames
from .tape import Call, Sum, Tape


def lift(
    tape: Tape,
    inputs: Sequence[InputArray],
    derivative_of: Mapping[int, int] | None = None,
    adjoints: Mapping[Value, Value] | None = None,
) -> Lifted:
    """The tape on arrays. `inputs` are the arrays of the inputs: name, shape, and their numbers.

    `derivative_of` has the input that each output of a gradient belongs to: those of different
    arrays stay apart, though they be of one form, as the derivatives of weights and biases are.
    `adjoints` are the nodes that are derivatives with respect to nodes: arrays of them are called
    dZ where those are called Z.
    """
    return _Lifter(tape, inputs, derivative_of or {}, adjoints or {}).lifted()


class _Lifter:
    def __init__(
        self,
        tape: Tape,
        inputs: Sequence[InputArray],
        derivative_of: Mapping[int, int],
        adjoints: Mapping[Value, Value],
    ) -> None:
        self.tape = tape
        total = tape.inputs + len(tape.assignments)
        self.array_number = np.full(total, -1, dtype=np.intp)
        self.array_of = [-1] * total  # the same, for looking at one at a time
        self.place = np.zeros(total, dtype=np.intp)
        self.arrays: list[Array] = []
        self.constants: dict[bytes, Array] = {}
        self.inputs: list[tuple[Array, Indices]] = []
        self.statements: list[Statement] = []
        for name, shape, numbers in inputs:
            array = self._new(shape, numbers, name=name)
            self.inputs.append((array, np.asarray(numbers, dtype=np.intp)))
        self.of_inputs = set(range(len(self.arrays)))
        self.belongs_to = {number: self.array_of[i] for number, i in derivative_of.items()}
        self.names = ResultNames((name for name, _, _ in inputs), tape.number_of, adjoints)

    def _new(
        self,
        shape: tuple[int, ...],
        members: Sequence[int] | Indices = (),
        data: Floats | None = None,
        name: str = "",
    ) -> Array:
        numbers = np.asarray(members, dtype=np.intp)
        array = Array(len(self.arrays), shape, numbers.tolist(), data, name)
        self.arrays.append(array)
        self.array_number[numbers] = array.number
        for member in array.members:
            self.array_of[member] = array.number
        self.place[numbers] = np.arange(len(numbers))
        return array

    def _constant(self, data: Floats) -> Array:
        """An array of numbers; equal ones are the same array."""
        key = _key(data)
        array = self.constants.get(key)
        if array is None:
            array = self.constants[key] = self._new(data.shape, (), data)
        return array

    def _table(self, rows: Floats) -> tuple[Array, Indices]:
        """A constant with these rows, and their places in it; what is known transposed serves."""
        transposed = np.ascontiguousarray(rows.T)
        places = np.arange(rows.size)
        if _key(rows) not in self.constants and _key(transposed) in self.constants:
            return self._constant(transposed), places.reshape(transposed.shape).T
        return self._constant(np.ascontiguousarray(rows)), places.reshape(rows.shape)

    def lifted(self) -> Lifted:
        for level in self._levels():
            for members in _grouped(level, self._form):
                together = [members]
                if len({self.belongs_to[m] for m in members if m in self.belongs_to}) > 1:
                    together = _grouped(members, self.belongs_to.get)
                for group in together:
                    assignments: list[Any] = [
                        self.tape.assignments[m - self.tape.inputs] for m in group
                    ]
                    calls = isinstance(assignments[0], Call)
                    lift = self._lift_calls if calls else self._lift_sums
                    lift(np.asarray(group), assignments)
        array_of = [self.arrays[i] for i in self.array_of]
        return Lifted(self.tape, self.inputs, self.statements, array_of, self.place)

    def _levels(self) -> list[list[int]]:
        first = self.tape.inputs
        level = [0] * (first + len(self.tape.assignments))
        levels: list[list[int]] = []
        for number, assignment in enumerate(self.tape.assignments, first):
            operands: list[Any]
            if isinstance(assignment, Call):
                operands = [a for a in assignment.args if a.__class__ is int]
            else:
                operands = [*assignment.linear]
                for pair in assignment.products:
                    operands += pair
            highest = max(map(level.__getitem__, operands), default=0)
            level[number] = highest + 1
            while len(levels) <= highest:
                levels.append([])
            levels[highest].append(number)
        return levels

    def _form(self, number: int) -> object:
        assignment = self.tape.assignments[number - self.tape.inputs]
        array = self.array_of
        if isinstance(assignment, Call):
            return (
                assignment.op,
                *[array[a] if a.__class__ is int else None for a in assignment.args],
            )
        pairs = [(array[a], array[b]) for a, b in assignment.products]
        return (
            assignment.constant == 0.0,
            (*sorted([array[a] for a in assignment.linear]),),
            (*sorted([pair if pair[0] >= pair[1] else pair[::-1] for pair in pairs]),),
        )

    def _state(self, shape: tuple[int, ...], members: Indices, **computed: Any) -> None:
        """Add the statement whose result has this shape, and these members in this order."""
        unnamed = Statement(Array(-1, shape, members.tolist(), None, ""), **computed)
        name = self.names.of(unnamed, self._array_so_far)
        result = self._new(shape, members, name=name)
        self.statements.append(Statement(result, **computed))

    # --- calls ---

    def _lift_calls(self, members: Indices, calls: Sequence[Any]) -> None:
        op: Op = calls[0].op
        columns = list(zip(*[call.args for call in calls], strict=True))
        sources = {
            k: (self._array(column[0]), self.place[np.asarray(column)])
            for k, column in enumerate(columns)
            if isinstance(column[0], int)
        }
        order, shape = self._aligned(list(sources.values()), len(calls))
        args: list[View | float | Array] = []
        arrays = {array for array, _ in sources.values()}
        all_along = len(sources) == len(columns) and len(arrays) == 1  # an axis of one array
        if op.arity is None and op.array and all_along:
            stacked = np.stack([places[order] for _, places in sources.values()], axis=-1)
            args.append(View(arrays.pop(), stacked.reshape(*shape, len(columns))))
            columns = []
        for k, column in enumerate(columns):
            if k in sources:
                array, places = sources[k]
                args.append(View(array, places[order].reshape(shape)))
            else:
                args.append(self._number(np.asarray(column, dtype=float)[order].reshape(shape)))
        self._state(shape, members[order], op=op, args=args)

    def _array(self, number: int) -> Array:
        return self.arrays[self.array_of[number]]

    def _array_so_far(self, number: int) -> Array | None:
        return None if self.array_of[number] < 0 else self._array(number)

    def _number(self, data: Floats) -> float | Array:
        """One number if they are all the same, else an array of them."""
        first = float(data.flat[0])
        if data.size == 1:
            return first
        same = np.all(data == first) and np.all(np.signbit(data) == np.signbit(first))
        if same or np.all(np.isnan(data)):
            return first
        return self._constant(data)

    def _aligned(
        self, columns: list[tuple[Array, Indices]], count: int
    ) -> tuple[Indices, tuple[int, ...]]:
        """An order of `count` elements in which the columns line up best, and their shape."""
        if count == 1 or not columns:
            return np.arange(count), _without_ones(count)
        distinct = [len(np.unique(places)) for _, places in columns]
        primary = int(np.argmax(distinct))
        source, places = columns[primary]
        others = [p for k, (_, p) in enumerate(columns) if k != primary]
        order = np.lexsort((*reversed(others), places))
        return order, _shape_of(source, places[order])

    # --- sums ---

    def _lift_sums(self, members: Indices, sums: Sequence[Any]) -> None:
        classes = self._classes(sums)
        # Terms with coefficients of their own, more than one an element, are products with rows
        # of numbers: x·w for data x.
        for key, (operands, coefficients) in list(classes.items()):
            if len(key) == 1 and not np.all(coefficients == coefficients[:, :1]):
                rows, row_of = _distinct(coefficients)
                table, of_table = self._table(rows)
                factors = [(key[0], operands[0]), (table.number, of_table[row_of])]
                if key[0] in self.of_inputs:
                    factors.reverse()
                (left, right), places = zip(*factors, strict=True)
                del classes[key]
                classes[left, right] = (places, np.ones_like(coefficients))

        grids: dict[_Key, _Grid] = {
            key: grid
            for key, (operands, c) in classes.items()
            if len(key) == 2 and (grid := _grid(operands[0], operands[1], c)) is not None
        }

        def length(key: _Key) -> int:
            return int(classes[key][1].shape[1])

        order: Indices
        shape: tuple[int, ...]
        chosen = max(grids, key=length, default=None)
        if chosen is not None:
            order, shape = grids[chosen].order, grids[chosen].shape
        else:
            columns = [
                (self.arrays[array], places[:, 0])
                for key, (operands, _) in classes.items()
                if length(key) == 1
                for array, places in zip(key, operands, strict=True)
            ]
            if columns:
                order, shape = self._aligned(columns, len(sums))
            else:
                operands, _ = next(iter(classes.values()))
                order = np.argsort(operands[0][:, 0], kind="stable")
                shape = _without_ones(len(sums))

        terms = []
        for key in sorted(classes, key=len, reverse=True):  # products first
            grid = grids.get(key)
            if grid and grid.shape == shape and np.array_equal(grid.order, order):
                terms.append(self._product(key, grid, classes[key][1]))
            else:
                terms.append(self._term(key, *classes[key], order, shape))
        constant = np.asarray([s.constant for s in sums])
        number = self._number(constant[order].reshape(shape))
        self._state(shape, members[order], constant=number, terms=terms)

    def _classes(self, sums: Sequence[Sum]) -> dict[_Key, tuple[Sequence[Indices], Floats]]:
        """The terms of the sums by the arrays of their operands: places, and coefficients.

        Both have a row for each sum, sorted by places. Of products the later array is on the left.
        """
        count = len(sums)
        classes: dict[_Key, tuple[Sequence[Indices], Floats]] = {}
        every: list[list[dict[Any, float]]]
        every = [[s.linear for s in sums], [s.products for s in sums]]
        for axes, terms in enumerate(every, 1):
            of_terms: Iterable[Any] = chain.from_iterable(terms)
            if axes == 2:
                of_terms = chain.from_iterable(of_terms)
            numbers = np.fromiter(of_terms, np.intp).reshape(-1, axes).T
            if not numbers.size:
                continue
            sources = self.array_number[numbers]
            if axes == 2:
                swap = sources[0] < sources[1]
                numbers = np.where(swap, numbers[::-1], numbers)
                sources = np.where(swap, sources[::-1], sources)
            every_c = chain.from_iterable([each.values() for each in terms])
            coefficients = np.fromiter(every_c, np.float64)
            owner = np.repeat(np.arange(count), [len(each) for each in terms])
            kinds = sources[0] * len(self.arrays) + sources[-1]
            for kind in np.unique(kinds):
                of = kinds == kind
                places = self.place[numbers[:, of]]
                order = np.lexsort((*places[::-1], owner[of]))
                key = tuple(sources[:, of][:, 0].tolist())
                classes[key] = (
                    [column[order].reshape(count, -1) for column in places],
                    coefficients[of][order].reshape(count, -1),
                )
        return classes

    def _product(self, key: _Key, grid: _Grid, c: Floats) -> Term:
        """A product of matrices, or an outer one, by broadcasting."""
        rows, columns = grid.rows, grid.columns
        a, b = self.arrays[key[0]], self.arrays[key[1]]
        if c.shape[1] == 1:  # there are several rows and several columns
            return Term("each", float(c.flat[0]), View(a, rows), View(b, columns[:, 0]))
        x = View(a, rows if len(rows) > 1 else rows[0])
        y = View(b, columns if len(columns) > 1 else columns[0])
        return Term("matmul", float(c.flat[0]), x, y)

    def _term(
        self,
        key: _Key,
        operands: Sequence[Indices],
        c: Floats,
        order: Indices,
        shape: tuple[int, ...],
    ) -> Term:
        k = c.shape[1]
        each = k == 1
        if each or len(key) == 1:  # coefficients are the same along the last axis
            coefficient = self._number(c[order, 0].reshape(shape))
        else:
            coefficient = self._number(c[order].reshape(*shape, k))
        axes = shape if each else (*shape, k)
        views = [
            View(self.arrays[array], places[order].reshape(axes))
            for array, places in zip(key, operands, strict=True)
        ]
        return Term("each" if each else "total", coefficient, *views)


def _grouped(numbers: Sequence[int], key: Callable[[int], object]) -> list[list[int]]:
    groups: dict[object, list[int]] = {}
    for number in numbers:
        groups.setdefault(key(number), []).append(number)
    return list(groups.values())


# The arrays that a term is of: one, or two.
_Key = tuple[int, ...]


def _key(data: Floats) -> bytes:
    return repr(data.shape).encode() + data.tobytes()


def _distinct(rows: Floats) -> tuple[Floats, Indices]:
    """The distinct rows in order of appearance, and which of them each row is."""
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return rows[first[order]], np.argsort(order)[inverse.ravel()]


class _Grid(NamedTuple):
    """Distinct left and right rows, and the order and shape in which elements combine them."""

    rows: Indices
    columns: Indices
    order: Indices
    shape: tuple[int, ...]


def _grid(left: Indices, right: Indices, c: Floats) -> _Grid | None:
    """All combinations of m left and n right rows, where the elements are just those."""
    count, k = left.shape
    if (count == 1 and k == 1) or not np.all(c == c[0, 0]):
        return None
    rows, at_left = _sorted_rows(left)
    columns, at_right = _sorted_rows(right)
    m, n = len(rows), len(columns)
    if m * n != count or (k == 1 and (m == 1 or n == 1)):
        return None
    if len(np.unique(at_left * n + at_right)) != count:
        return None
    return _Grid(rows, columns, np.lexsort((at_right, at_left)), _without_ones(m, n))


def _sorted_rows(rows: Indices) -> tuple[Indices, Indices]:
    """The distinct rows in order, and which of them each row is."""
    if rows.shape[1] == 1:  # several times faster than what follows
        distinct, inverse = np.unique(rows[:, 0], return_inverse=True)
        return distinct[:, None], inverse
    distinct, inverse = np.unique(rows, axis=0, return_inverse=True)
    return distinct, inverse.ravel()  # NumPy 2.0 has two axes here


def _without_ones(*shape: int) -> tuple[int, ...]:
    return tuple(size for size in shape if size > 1)


def _shape_of(source: Array, places: Indices) -> tuple[int, ...]:
    """The shape in which sorted places of the source are a whole, or a block, of it."""
    count = len(places)
    if len(source.shape) == 2:
        width = source.shape[1]
        rows, columns = np.unique(places // width), np.unique(places % width)
        if len(rows) * len(columns) == count and len(rows) > 1 and len(columns) > 1:
            block = (rows[:, None] * width + columns).reshape(-1)
            if np.array_equal(block, places):
                return (len(rows), len(columns))
    return (count,)
