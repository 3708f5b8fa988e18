"""Second step: the tape's assignments become operations on arrays.

Assignments of one *level* (the longest path from the inputs) and one *form* (the same operation, or
sums of terms of operands from the same arrays) are one array. The elements of each are laid out as
`grids.py` says, so that its operands line up: as a whole array, its transpose, a slice, a row
repeated along the other axis. What does not line up is an index gather.

Sums of several lengths are one array too, where what they add up is a part of a padded array, whose
other elements are 0 then: see `padding.py`; or where they are products with a table of zeros and
coefficients: see `tables.py`. `ragged.py` comes before, and makes sums of what is none only for
want of a second term.

What comes out is the lifted form: see `form.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ops import Op
from .form import NOWHERE, Array, Bools, Floats, Indices, Lifted, Statement, Term, View
from .grids import Grid, Layout, aligned, grid_of, without_ones
from .names import ResultNames, identifier
from .padding import Padding, completed, lines, may_lose, neutral
from .ragged import Evened, evened
from .tables import in_lines, tabled
from .tape import Call, InputArray, Sum, Tape


def lift(
    tape: Tape,
    inputs: Sequence[InputArray],
    derivative_of: Mapping[int, int] | None = None,
    padded: bool = True,
    shared: int | None = None,
    stacks: bool = True,
) -> Lifted:
    """The tape on arrays. `inputs` are the arrays of the inputs: name, shape, and their numbers.

    `derivative_of` has the input that each output of a gradient belongs to: those of different
    arrays stay apart, though they be of one form, as the derivatives of weights and biases are.
    Unless `padded`, no array is padded, has three axes, or is several inputs, which must be among
    the first `shared` ones. Without `stacks` no results are stacked, which loops do not need.
    """
    shared = tape.inputs if shared is None else shared
    even = evened(tape, inputs, shared, changes=padded)
    return _Lifter(even, derivative_of or {}, padded, shared, padded and stacks).lifted()


_LEAST_STACKED = 5  # arrays: to stack four takes as long as their outer products do


class _Lifter:
    def __init__(
        self,
        even: Evened,
        derivative_of: Mapping[int, int],
        padded: bool,
        shared: int,
        stacks: bool,
    ) -> None:
        self.tape, self.levels, inputs, self.parts = even
        tape = self.tape
        self.is_padded = padded
        self.is_stacked = stacks
        total = tape.inputs + len(tape.assignments)
        self.array_number = np.full(total, -1, dtype=np.intp)
        self.array_of = [-1] * total  # the same, for looking at one at a time
        self.place = np.zeros(total, dtype=np.intp)
        self.form_of: dict[int, object] = {}  # of the level that is being lifted
        self.arrays: list[Array] = []
        self.constants: dict[bytes, Array] = {}
        self.tables: dict[tuple[int, bytes], tuple[Array, Indices]] = {}
        self.inputs: list[tuple[Array, Indices]] = []
        self.statements: list[Statement] = []
        self.padding = Padding()
        for name, shape, numbers in inputs:
            array = self._new(shape, numbers, name=name)
            self.inputs.append((array, np.asarray(numbers, dtype=np.intp)))
        self.of_inputs = set(range(len(self.arrays)))
        self.varying = {a.number for a, numbers in self.inputs if numbers[0] >= shared}
        self.stacks: dict[tuple[int, ...], Array] = {}  # by the numbers of what is stacked
        self.belongs_to = {number: self.array_of[i] for number, i in derivative_of.items()}
        given = [part for parts in self.parts.values() for part in parts]
        self.names = ResultNames(
            (name for name, _, _ in (*inputs, *given)),
            tape.number_of,
            tape.adjoint_of,
            {number: name for name, _, numbers in given for number in numbers},
        )

    def _new(
        self,
        shape: tuple[int, ...],
        members: Sequence[int] | Indices = (),
        data: Floats | None = None,
        name: str = "",
        real: Bools | None = None,
    ) -> Array:
        numbers = np.asarray(members, dtype=np.intp)
        given = numbers >= 0
        own = numbers[given]
        if len(own) < len(numbers):
            real = given
        array = self._added(shape, numbers.tolist(), data, name, real)
        self.array_number[own] = array.number
        for member in own.tolist():
            self.array_of[member] = array.number
        self.place[own] = np.flatnonzero(given)
        return array

    def _copy(self, shape: tuple[int, ...], name: str, real: Bools | None = None) -> Array:
        """An array of what is in others, too."""
        return self._added(shape, [-1] * prod(shape), None, name, real)

    def _added(self, *described: Any) -> Array:
        array = Array(len(self.arrays), *described)
        self.arrays.append(array)
        return array

    def _constant(self, data: Floats) -> Array:
        """An array of numbers; equal ones are the same array."""
        key = _key(data)
        array = self.constants.get(key)
        if array is None:
            array = self.constants[key] = self._new(data.shape, (), data)
        return array

    def _table(
        self, rows: NDArray[Any], real: Bools, source: Array | None = None
    ) -> tuple[Array, Indices]:
        """An array of these rows, of which not all may be real, and their places in it.

        They are numbers, or elements of a `source`, at their places. What has such rows in another
        order, or as columns, serves, too.
        """
        number = source.number if source else -1
        order, key = _sorted(rows, real)
        if (number, key) not in self.tables:
            array = (
                self._copied(rows, real, source)
                if source
                else self._constant(np.ascontiguousarray(rows))
                if real.all()
                else self._new(rows.shape, (), np.ascontiguousarray(rows), real=real.reshape(-1))
            )
            places = np.arange(rows.size).reshape(rows.shape)
            columns, transposed = _sorted(rows.T, real.T)
            self.tables[number, transposed] = array, places.T[columns]
            self.tables[number, key] = array, places[order]
        array, in_order = self.tables[number, key]
        return array, in_order[np.argsort(order)]

    def _copied(self, rows: Indices, real: Bools, source: Array) -> Array:
        """An array of the elements of the source at these places, and 0 for what is not real."""
        places = completed(np.where(real, rows, -1), source.size)
        if source.real is not None:
            places = np.where(source.real[places], places, np.flatnonzero(source.real)[0])
        name = identifier(f"{source.name}_parts", self.names.names)
        array = self._copy(rows.shape, name, real.reshape(-1))
        copy = Term("each", 1.0, View(source, places))
        self.statements.append(Statement(array, terms=[copy]))
        if source.number in self.varying:
            self.varying.add(array.number)
        self.padding.add(self.statements[-1])
        self.padding.known[array] = self.padding.fills[array] = 0.0
        return array

    def lifted(self) -> Lifted:
        for level in self.levels:
            plans = [p for family in _grouped(level, self._family) for p in self._plans(family)]
            self.form_of.clear()
            for plan in sorted(plans, key=lambda plan: int(plan.members[0])):
                self._lift(plan)
        array_of = [self.arrays[i] if i >= 0 else NOWHERE for i in self.array_of]
        fills = self.padding.fills
        statements = [
            replace(s, fill=fills[s.result]) if s.result in fills else s for s in self.statements
        ]
        lifted = Lifted(self.tape, self.inputs, statements, array_of, self.place, self.parts)
        return replace(lifted, may_lose=lifted.is_padded and self.loses)

    @cached_property
    def loses(self) -> bool:
        """Whether a NaN may not show in what is computed of it."""
        return any(
            may_lose(a.op, tuple(None if isinstance(x, int) else x for x in a.args))
            for a in self.tape.assignments
            if isinstance(a, Call)
        )

    def _form(self, number: int) -> object:
        """What assignments have in common that are computed alike, term for term."""
        assignment = self.tape.assignments[number - self.tape.inputs]
        array = self.array_of
        if isinstance(assignment, Call):
            return (
                assignment.op,
                *[array[a] if a.__class__ is int else None for a in assignment.args],
            )
        # A pair of arrays is one number here: sorting is most of the work.
        many = len(self.arrays)
        pairs = [(array[a], array[b]) for a, b in assignment.products]
        return (
            assignment.constant == 0.0,
            (*sorted([array[a] for a in assignment.linear]),),
            (*sorted([i * many + j if i >= j else j * many + i for i, j in pairs]),),
        )

    def _family(self, number: int) -> object:
        """The form without the numbers of alike terms, where there may be padding."""
        form: Any = self._form(number)
        self.form_of[number] = form
        return _without_numbers(form) if self.is_padded else form

    def _plans(self, family: list[int]) -> Iterator[_Plan]:
        """How to lift assignments that may differ in the numbers of their terms: together, or not.

        Those that differ in nothing are always one array.
        """
        parts = [family]
        if len({self.belongs_to[m] for m in family if m in self.belongs_to}) > 1:
            parts = _grouped(family, self.belongs_to.get)
        for part in parts:
            forms = _grouped(part, self.form_of.__getitem__)
            if (plan := self._plan(part, len(forms) == 1)) is not None:
                yield plan
            else:
                yield from (plan for f in forms if (plan := self._plan(f, True)) is not None)

    def _plan(self, group: list[int], is_even: bool) -> _Plan | None:
        """How to lift the group as one array, if that can be; it can if it is even.

        What padding must be for that, it is from here on.
        """
        members = np.asarray(group)
        assignments: list[Any] = [self.tape.assignments[m - self.tape.inputs] for m in group]
        demands: list[tuple[Array, float]] = []
        classes, along = None, None
        if not isinstance(assignments[0], Call):
            if (classes := self._classes(members, assignments, demands)) is None:
                return None
        elif self.is_padded and (along := self._lines(assignments)) is not None:
            demands.append((along.array, neutral(assignments[0].op) or 0.0))
        elif not is_even:
            return None
        for array, fill in demands:
            self.padding.fill(array, fill)
        return _Plan(members, assignments, classes, along)

    def _lift(self, plan: _Plan) -> None:
        if plan.classes is not None:
            self._lift_sums(plan.members, plan.assignments, plan.classes)
        elif plan.along is not None:
            self._lift_along_lines(plan.members, plan.assignments, plan.along)
        else:
            self._lift_calls(plan.members, plan.assignments)

    def _state(self, layout: Layout, members: Indices, **computed: Any) -> None:
        """Add the statement whose result has these members, laid out so."""
        numbers = members[layout.order]
        if layout.real is not None:
            numbers[~layout.real] = -1
        unnamed = Statement(Array(-1, layout.shape, numbers.tolist(), None, ""), **computed)
        name = self.names.of(unnamed, self._array_so_far)
        result = self._new(layout.shape, numbers, name=name)
        if any(view.array.number in self.varying for view in unnamed.views):
            self.varying.add(result.number)
        self.statements.append(Statement(result, **computed))
        self.padding.add(self.statements[-1])

    # --- calls ---

    def _lift_calls(self, members: Indices, calls: Sequence[Any]) -> None:
        op: Op = calls[0].op
        columns = list(zip(*[call.args for call in calls], strict=True))
        sources = {
            k: (self._array(column[0]), self.place[np.asarray(column)])
            for k, column in enumerate(columns)
            if isinstance(column[0], int)
        }
        layout = aligned(list(sources.values()), len(calls))
        args: list[View | float | Array] = []
        arrays = {array for array, _ in sources.values()}
        all_along = len(sources) == len(columns) and len(arrays) == 1  # an axis of one array
        if op.arity is None and op.array and all_along:
            source = arrays.pop()
            stacked = np.stack([places for _, places in sources.values()], axis=-1)
            args.append(View(source, layout.spread(stacked, source.size)))
            columns = []
        for k, column in enumerate(columns):
            if k in sources:
                array, places = sources[k]
                args.append(View(array, layout.spread(places, array.size)))
            else:
                args.append(self._number(layout.spread(np.asarray(column, dtype=float))))
        self._state(layout, members, op=op, args=args)

    def _lines(self, calls: Sequence[Any]) -> View | None:
        """The lines of a padded array that the arguments of these calls are along, if they are."""
        op: Op = calls[0].op
        nothing = neutral(op)
        numbers = [a for call in calls for a in call.args]
        if nothing is None or not op.array or not all(isinstance(a, int) for a in numbers):
            return None
        source = self._array(numbers[0])
        if any(self.array_of[a] != source.number for a in numbers):
            return None
        owner = np.repeat(np.arange(len(calls)), [len(call.args) for call in calls])
        found = lines(source, self.place[np.asarray(numbers)], owner, len(calls))
        if found is None or not self.padding.can_be(source, nothing):
            return None
        return View(source, found.places)

    def _lift_along_lines(self, members: Indices, calls: Sequence[Any], along: View) -> None:
        order = np.argsort(along.places[:, 0], kind="stable")
        layout = Layout(order, without_ones(len(calls)))
        lines = View(along.array, layout.spread(along.places))
        self._state(layout, members, op=calls[0].op, args=[lines])

    def _array(self, number: int) -> Array:
        return self.arrays[self.array_of[number]]

    def _array_so_far(self, number: int) -> Array | None:
        return None if self.array_of[number] < 0 else self._array(number)

    def _number(self, data: Floats) -> float | Array:
        """One number if they are all the same, else an array of them."""
        first = float(data.flat[0])
        same = np.all(data == first) and np.all(np.signbit(data) == np.signbit(first))
        if same or np.all(np.isnan(data)):
            return first
        return self._constant(data)

    # --- sums ---

    def _lift_sums(self, members: Indices, sums: Sequence[Any], classes: _Classes) -> None:
        if self.is_stacked:
            self._stack(classes)
        # Terms with coefficients of their own, more than one an element, are products with rows
        # of numbers: x·w for data x.
        for key, (places, coefficients) in list(classes.items()):
            if len(key) == 1 and not np.all(coefficients == coefficients[:, :1]):
                del classes[key]
                self._add_product(classes, key[0], places[0], coefficients)

        grids: dict[_Key, Grid] = {
            key: grid
            for key, (places, c) in classes.items()
            if len(key) == 2 and (grid := grid_of(places[0], places[1], c, self.is_padded))
        }

        def length(key: _Key) -> int:
            return int(classes[key][1].shape[1])

        chosen = max(grids, key=length, default=None)
        if chosen is not None:
            layout = grids[chosen].layout
        else:
            columns = [
                (self.arrays[array], column[:, 0])
                for key, (places, _) in classes.items()
                if length(key) == 1
                for array, column in zip(key, places, strict=True)
            ]
            if columns:
                layout = aligned(columns, len(sums))
            else:
                places, _ = next(iter(classes.values()))
                order = np.argsort(places[0][:, 0], kind="stable")
                layout = Layout(order, without_ones(len(sums)))

        terms = []
        for key in sorted(classes, key=len, reverse=True):  # products first
            grid = grids.get(key)
            if grid and grid.layout.is_like(layout):
                terms.append(self._product(key, grid, classes[key][1]))
            else:
                terms.append(self._term(key, *classes[key], layout))
        constant = np.asarray([s.constant for s in sums])
        self._state(layout, members, constant=self._number(layout.spread(constant)), terms=terms)

    def _stack(self, classes: _Classes) -> None:
        """Make outer products of many arrays alike one product of two in which these are stacked.

        So are the gradients of what is used at each step of time. On one side may be parts of one
        array.
        """
        if sum(c.shape[1] == 1 for _, c in classes.values()) < _LEAST_STACKED:
            return
        for is_one in ((False, False), (False, True), (True, False), (False,)):
            alike: dict[tuple[object, ...], list[_Key]] = {}
            for key, (places, c) in classes.items():
                if len(key) == len(is_one) and c.shape[1] == 1:
                    sides = map(self._side, key, places, is_one)
                    alike.setdefault((*sides, c.tobytes() if len(key) > 1 else None), []).append(
                        key
                    )
            for kind, keys in alike.items():
                if len(keys) >= _LEAST_STACKED and None not in kind[:-1]:
                    self._stack_alike(classes, keys, is_one)

    def _side(self, number: int, places: Indices, is_one: bool) -> object:
        """What operands have in common that can be one: the array, or all but that."""
        array = self.arrays[number]
        if is_one:
            return number
        if array.data is not None or array.real is not None or not 0 < len(array.shape) < 3:
            return None
        return array.shape, number in self.varying, places.tobytes()

    def _stack_alike(self, classes: _Classes, keys: list[_Key], is_one: Sequence[bool]) -> None:
        """Make these classes one, if that is a product of matrices.

        Adjoints come in the order of time so, the last of which was computed first.
        """

        def time(key: _Key) -> int:
            at = [classes[key][0][k].flat[0] for k, one in enumerate(is_one) if one]
            return int(at[0]) if at else key[1] if len(key) > 1 else -key[0]

        keys.sort(key=time)
        sides = [*zip(*keys, strict=True)]
        steps = np.arange(len(keys))
        if any(
            len({*side}) < len(keys) for side, one in zip(sides, is_one, strict=True) if not one
        ):
            return
        c = np.hstack([classes[key][1] for key in keys])
        rows = [
            np.hstack([classes[key][0][k] for key in keys])
            + (0 if one else self.arrays[sides[k][0]].size * steps)
            for k, one in enumerate(is_one)
        ]
        if len(rows) == 1:
            is_sum = sides[0] in self.stacks and np.all(c == c[0, 0])
            other = _distinct(c)[1][:, None] * len(keys) + steps
        else:
            is_sum, other = False, rows[1]
        if not is_sum and not grid_of(rows[0], other, np.ones(c.shape), True):
            return
        whole, places = [], []
        for side, row, one in zip(sides, rows, is_one, strict=True):
            stack, start = (self.arrays[side[0]], 0) if one else self._stacked(side)
            whole.append(stack.number)
            places.append(row + start)
        if (*whole,) in classes:  # of other parts of the same
            return
        for key in keys:
            del classes[key]
        classes[(*whole,)] = places, c

    def _stacked(self, numbers: tuple[int, ...]) -> tuple[Array, int]:
        """An array in which these are, one after the other, and the place at which they begin."""
        arrays = [self.arrays[number] for number in numbers]
        for known, stack in self.stacks.items():
            start = known.index(numbers[0]) if numbers[0] in known else 0
            if known[start : start + len(numbers)] == numbers:
                return stack, start * arrays[0].size
        stack = self._copy((len(numbers), *arrays[0].shape), self.names.new())
        self.stacks[numbers] = stack
        self.statements.append(Statement(stack, parts=[array.whole for array in arrays]))
        if numbers[0] in self.varying:
            self.varying.add(stack.number)
        return stack, 0

    def _classes(
        self, members: Indices, sums: Sequence[Sum], demands: list[tuple[Array, float]]
    ) -> _Classes | None:
        """The terms of the sums by the arrays of their operands: places, and coefficients.

        Both have a row for each sum, sorted by places. Of products the later array is on the left.
        Rows that are along lines of a padded array are whole lines, and the `demands` say what
        padding must be then. None if rows would be of several lengths.
        """
        count = len(sums)
        classes: _Classes = {}
        late: list[_Completed] = []
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
                places, own = self.place[numbers[:, of]], owner[of]
                key = tuple(sources[:, of][:, 0].tolist())
                if self.is_padded and len(own) > count:
                    along = self._along_lines(key, places, coefficients[of], own, count, demands)
                    if along is not None:
                        classes[key] = along
                        continue
                    if (np.bincount(own, minlength=count) * count != len(own)).any():
                        if self.loses:
                            return None
                        if axes == 2:
                            factors = self._completed(key, places, coefficients[of], own, members)
                            if factors is None:
                                return None
                            late.append(factors)
                            continue
                        shape = self.arrays[key[0]].shape
                        found = tabled(shape, places[0], coefficients[of], own, count)
                        if not found or not self._add_product(
                            classes, key[0], *found, self._rank(members)
                        ):
                            return None
                        continue
                order = np.lexsort((*places[::-1], own))
                classes[key] = (
                    [column[order].reshape(count, -1) for column in places],
                    coefficients[of][order].reshape(count, -1),
                )
        for factors in late:  # now it is certain that they are needed
            copy, of_copy = self._table(factors.rows, factors.rows >= 0, factors.source)
            sides = [(copy.number, of_copy[factors.row_of]), (factors.number, factors.lines)]
            (left, right), both = zip(*sorted(sides, key=lambda side: -side[0]), strict=True)
            classes[left, right] = both, np.full(factors.lines.shape, factors.c)
        return classes

    def _completed(
        self, key: _Key, places: Indices, c: Floats, owner: Indices, members: Indices
    ) -> _Completed | None:
        """Products of whole lines of one array with rows from the other, of which some is missing.

        None if there is none that is a product of matrices.
        """
        if not np.all(c == c[0]):
            return None
        for side in (0, 1):
            array, source = self.arrays[key[side]], self.arrays[key[1 - side]]
            found = in_lines(array.shape, places[side], places[1 - side], owner, len(members))
            if found is None:
                continue
            lines, copied = found
            rows, row_of = _distinct(copied, self._rank(members))
            of_rows = row_of[:, None] * rows.shape[1] + np.arange(rows.shape[1])
            if grid_of(lines, of_rows, np.ones(lines.shape), True):
                return _Completed(array.number, lines, source, rows, row_of, float(c[0]))
        return None

    def _along_lines(
        self,
        key: _Key,
        places: Indices,
        c: Floats,
        owner: Indices,
        count: int,
        demands: list[tuple[Array, float]],
    ) -> tuple[Sequence[Indices], Floats] | None:
        """Terms of which one operand is along whole lines of a padded array, that is 0 elsewhere.

        The other operand's places are completed by any.
        """
        if not np.all(c == c[0]):
            return None
        for side, number in enumerate(key):
            source = self.arrays[number]
            if not self.padding.can_be(source, 0.0):
                continue
            found = lines(source, places[side], owner, count)
            if found is None:
                continue
            demands.append((source, 0.0))
            operands = [found.places]
            if len(key) > 1:
                other = np.full(found.places.shape, -1)
                other[owner, found.slots] = places[1 - side]
                operands.insert(1 - side, completed(other, self.arrays[key[1 - side]].size))
            return operands, np.full(found.places.shape, c[0])
        return None

    def _add_product(
        self,
        classes: _Classes,
        number: int,
        lines: Indices,
        coefficients: Floats,
        real: Bools | None = None,
        rank: Indices | None = None,
    ) -> bool:
        """Add sums of coefficients times lines of an array, as products with rows of a table.

        Some coefficients may not be `real`; then it must be a product of matrices, or is not added.
        """
        size = coefficients.shape[1]
        counts = np.ones(coefficients.shape, bool) if real is None else real
        both, row_of = _distinct(np.hstack([coefficients, counts]), rank)
        table, of_table = self._table(both[:, :size], both[:, size:] > 0.0)
        table_first = number in self.of_inputs
        if real is not None:
            table_first = table_first or size > 1 < lines[0, 1] - lines[0, 0]
        factors = [(number, lines), (table.number, of_table[row_of])]
        if table_first:
            factors.reverse()
        (left, right), places = zip(*factors, strict=True)
        ones = np.ones_like(coefficients)
        if real is not None and not grid_of(places[0], places[1], ones, True):
            return False
        classes[left, right] = (places, ones)
        return True

    def _rank(self, members: Indices) -> Indices | None:
        """The places of what these are derivatives with respect to, if it is all in one array."""
        pairs = [self.names.primals.get(member, ((0, -1),)) for member in members.tolist()]
        primals = [pair[0][1] for pair in pairs]
        arrays = {self.array_of[primal] if primal >= 0 else -1 for primal in primals}
        if len(arrays) > 1 or -1 in arrays:
            return None
        places: Indices = self.place[primals]
        return places

    def _product(self, key: _Key, grid: Grid, c: Floats) -> Term:
        """A product of matrices, or an outer one, by broadcasting."""
        rows, columns = grid.rows, grid.columns
        a, b = self.arrays[key[0]], self.arrays[key[1]]
        if c.shape[1] == 1:  # there are several rows and several columns
            return Term("each", float(c.flat[0]), View(a, rows), View(b, columns[:, 0]))
        x = View(a, rows if len(rows) > 1 else rows[0])
        y = View(b, columns if len(columns) > 1 else columns[0])
        return Term("matmul", float(c.flat[0]), x, y)

    def _term(self, key: _Key, operands: Sequence[Indices], c: Floats, layout: Layout) -> Term:
        each = c.shape[1] == 1
        if each or len(key) == 1:  # coefficients are the same along the last axis
            c = c[:, 0]
        views = [
            View(
                self.arrays[array],
                layout.spread(places[:, 0] if each else places, self.arrays[array].size),
            )
            for array, places in zip(key, operands, strict=True)
        ]
        return Term("each" if each else "total", self._number(layout.spread(c)), *views)


class _Plan(NamedTuple):
    """Members of an array, their assignments, and the terms of sums, or the lines of arguments."""

    members: Indices
    assignments: Sequence[Any]
    classes: _Classes | None
    along: View | None


class _Completed(NamedTuple):
    """Products of lines of one array with rows: places in a source, or -1 where they are 0."""

    number: int
    lines: Indices
    source: Array
    rows: Indices
    row_of: Indices
    c: float


def _grouped(numbers: Sequence[int], key: Callable[[int], object]) -> list[list[int]]:
    groups: dict[object, list[int]] = {}
    for number in numbers:
        groups.setdefault(key(number), []).append(number)
    return list(groups.values())


def _without_numbers(form: Any) -> object:
    """The form of assignments whose alike terms, or arguments, are any number."""
    if isinstance(form[0], Op):
        return form if form[0].arity is not None else (form[0], frozenset(form[1:]))
    constant, linear, products = form
    return (constant, frozenset(linear), frozenset(products))


# The arrays that a term is of: one, or two.
_Key = tuple[int, ...]
_Classes = dict[_Key, tuple[Sequence[Indices], Floats]]


def _key(data: NDArray[Any]) -> bytes:
    return repr(data.shape).encode() + data.tobytes()


def _sorted(rows: NDArray[Any], real: Bools) -> tuple[Indices, bytes]:
    """An order of rows that depends on what is in them alone, and a key of the rows in it."""
    both = np.ascontiguousarray(np.hstack([rows, real]))
    row = np.dtype((np.void, both.itemsize * both.shape[1]))  # as bytes: any order will do
    order = np.argsort(both.view(row).reshape(-1), kind="stable")
    return order, _key(both[order])


def _distinct(rows: NDArray[Any], rank: Indices | None = None) -> tuple[NDArray[Any], Indices]:
    """The distinct rows by their lowest rank, and which of them each row is."""
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.ravel()
    lowest: Indices = first
    if rank is not None:
        lowest = np.full(len(first), rank.max())
        np.minimum.at(lowest, inverse, rank)
    order = np.argsort(lowest)
    return rows[first[order]], np.argsort(order)[inverse]
