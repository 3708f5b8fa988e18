"""The lifted form as source over NumPy, meant to be read.

Arrays have the axes that the lifter gave them, and those that differ from one example of a batch to
the next have one more, in front: they are *batched*. The same statements are written for both.
`jax_source.py` says what JAX has in other words.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import count as count_from
from itertools import islice
from math import copysign, isfinite
from typing import Any, ClassVar, Self

import numpy as np

from ..ops import Op
from . import arrays
from . import expressions as ex
from .expressions import Assignment, Expression, Index, Source
from .form import (
    Array,
    Bools,
    Floats,
    Indices,
    Lifted,
    Piece,
    Route,
    Statement,
    Term,
    View,
    pieces,
)
from .padding import neutral
from .tape import word
from .terms import MOST_TERMS

# A program, and if it has padding, what prints the same without.
Written = tuple[Source, Callable[[], Source] | None]


class NumpyPrinter:
    """Writes a lifted program, or a step.

    The first `shared` inputs are the same for all examples of a batch, and the others are a row for
    each; with None there are no examples. Sums take in the padding of padded arrays; `exactly` they
    go over the real elements alone.
    """

    library: ClassVar[str] = "np"
    stacks: ClassVar[bool] = True  # the rows of all examples, where that makes larger products
    takes_rows: ClassVar[bool] = True  # by the numbers that choose; or products choose them

    def __init__(self, lifted: Lifted, shared: int | None = None, exactly: bool = False) -> None:
        self.lifted = lifted
        self.exactly = exactly or lifted.may_lose
        self.shared = shared
        self.given = "examples" if shared else "values"  # what has a row for each example
        self.constants: dict[str, Any] = {}
        self.functions: dict[Op, str] = {}
        self.constant_names: dict[Array, Expression] = {}
        self.inputs = dict(lifted.inputs)
        self.used = Counter(view.array for s in lifted.statements for view in s.views)
        given = [o for o in lifted.tape.outputs if isinstance(o, int) and o < lifted.tape.inputs]
        self.used.update([lifted.array_of[o] for o in given])  # which are shown, or compared
        self.batched = {array for array, numbers in lifted.inputs if self.varies(numbers)}
        for statement in lifted.statements:
            if any(view.array in self.batched for view in statement.views):
                self.batched.add(statement.result)
        self.rectified: dict[Array, Array] = {}  # z, and relu(z)
        self.inlined: dict[Array, Expression] = {}  # arrays that are written where they are read
        self.assignments: list[Assignment] = []
        self.has_ones = False  # of as many as there are examples
        self.said_once: set[Term] = set()  # terms of statements that are written elsewhere
        self.decay = 0.0  # how much of the values is in the gradient
        self.ends: set[Array] = set()  # arrays of which only the sums over the examples are made
        # Arrays whose rows are one below another, those of all examples, and what is computed so.
        self.stacked: set[Array] = set()
        self.by_rows: set[Statement] = set()
        self.varied: set[Array] = set()  # what is batched, but not while such a one is written
        # What only chooses, as whole numbers; and what terms are whose products choose.
        self.choosing = {a for a, _ in lifted.inputs if self.takes_rows and self._chooses(a)}
        self.chosen: dict[Term, Expression] = {}
        for term in [term for s in lifted.statements for term in s.terms] * self.takes_rows:
            if (rows := self._chosen(term)) is not None:
                self.chosen[term] = rows
                self.used.subtract(v.array for v in term.views if v.array.name in lifted.one_hot)

    def varies(self, numbers: Indices) -> bool:
        """Whether these inputs, of one array, differ from one example to the next."""
        return self.shared is not None and len(numbers) > 0 and int(numbers[0]) >= self.shared

    # --- the whole ---

    @classmethod
    def written(
        cls, lifted: Lifted, write: Callable[[Self], Source], shared: int | None = None
    ) -> Written:
        """The program as `write` has a printer write it."""
        source = write(cls(lifted, shared))
        if not lifted.is_padded or lifted.may_lose:
            return source, None
        return source, lambda: write(cls(lifted, shared, exactly=True))

    def program(
        self, blocks: Sequence[tuple[str, int]], jacobian: tuple[int, int] | None = None
    ) -> Source:
        """`program(values)`, which returns its outputs in blocks: a name and a size each.

        The first may be a single number, of size 0; the others are arrays, the last one of the
        shape of the Jacobian, if there is one. A batch of examples has a row of values for each.
        """
        many = self.shared == 0
        outputs = iter(self.lifted.tape.outputs)
        parts = {name: pieces(self.lifted, name, islice(outputs, n or 1)) for name, n in blocks}
        self.decay = 0.0 if many else self._decay(parts.get("gradient", ()))
        self._take_inputs()
        for statement in self.lifted.statements:
            self.statement(statement)
        results = []
        for name, size in blocks:
            if size:
                self.assemble(name, size, parts[name], many)
            results.append(ex.name(name) if size else self._number_of(parts[name][0], many))
        if jacobian:
            results[-1] = self._reshaped(results[-1], many, jacobian)
        return self._source("values", results)

    def step(self, outputs: int) -> Source:
        """`program(values, examples)`, traced from one example, for a batch of them.

        The shared inputs are the parameters, whose numbers are `values`; the others are an example,
        a row of `examples`. It returns the mean of the first output over the examples, the next
        `outputs` of each example, if any, and of what is left, a gradient, the mean again.
        """
        value, *rest = self.lifted.tape.outputs
        loss = pieces(self.lifted, "", [value])[0]
        results = pieces(self.lifted, "outputs", rest[:outputs])
        gradient = pieces(self.lifted, "gradient", rest[outputs:])
        wanted = {loss.source, *(piece.source for piece in results)}
        self.ends = {
            source
            for _, _, source, places in gradient
            if isinstance(source, Array)
            and source not in wanted
            and not self.used[source]
            and len(places) == source.size
        }
        self.ends &= {statement.result for statement in self.lifted.statements}  # and no inputs
        if self.stacks:
            self._stack()
        self._take_inputs()
        for statement in self.lifted.statements:
            result = statement.result
            if result in self.ends & self.batched and not statement.op:
                self.assign(result.name, self._summed(statement))
                self.batched.discard(result)
            else:
                self.ends.discard(result)
                self.statement(statement)
        if outputs:
            _, positions, source, places = results[0]
            if source in self.batched and list(positions) == list(places) == [*range(outputs)]:
                self.assign("outputs", self._argument(results[0].operand((outputs,)), 1))
            else:
                self.assemble("outputs", outputs, results, many=True)
        if gradient:
            self.gradient(rest[outputs:], gradient)
        mean = self._number_of(loss, many=False)
        if loss.source in self.batched:
            mean = ex.quotient(self.over_examples(mean, 0), self.count())
        names = [ex.name("outputs")] * bool(outputs) + [ex.name("gradient")] * bool(gradient)
        return self._source("values, examples", [mean, *names])

    def _source(self, arguments: str, results: Sequence[Expression]) -> Source:
        if self.has_ones:
            ones = Assignment(ex.name("ones"), self.new("ones", self.count()), moves=True)
            self.assignments.insert(0, ones)
        return Source(arguments, self.assignments, results, self.constants, axes=self._axes())

    def _axes(self) -> dict[str, int]:
        """How many axes each array has: the rows of all examples, one below another, have none."""
        known = {"values": 1, self.given: 2} if self.shared is not None else {"values": 1}
        known |= {name: np.ndim(x) for name, x in self.constants.items() if not callable(x)}
        for array in dict.fromkeys([*self.inputs, *(s.result for s in self.lifted.statements)]):
            batched = array in self.batched and array not in self.stacked
            known[array.name] = len(array.shape) + batched
        return known

    def assign(
        self, target: str | Expression, value: Expression, sign: str = "=", moves: bool = False
    ) -> None:
        target = ex.name(target) if isinstance(target, str) else target
        self.assignments.append(Assignment(target, value, sign, moves))

    def count(self) -> Expression:
        return ex.call("len", ex.name(self.given))

    # --- inputs ---

    def _take_inputs(self) -> None:
        for array, numbers in self.lifted.inputs:
            if self.takes_rows and array.name in self.lifted.one_hot and not self.used[array]:
                continue
            taken = self.input(array, np.asarray(numbers))
            if ex.text(taken) != array.name:
                self.assign(array.name, taken, moves=not isinstance(taken, ast.BinOp))

    def input(self, array: Array, numbers: Indices) -> Expression:
        """The array, from `values` or, what varies in a step, from `examples`."""
        if array.name in self.lifted.one_hot:
            every = self._choosing(array.whole)
            assert every is not None
            return self.one_hot(every, array.shape[-1])
        name, first, size = "values", 0, self.shared or self.lifted.tape.inputs
        batched = array in self.batched
        if batched and self.shared:
            size = sum(a.size for a, _ in self.lifted.inputs if a.name not in self.lifted.one_hot)
            name, first, size = "examples", self.shared, size - self.shared
        flat = self._flat(name, size, batched)
        taken = self.exact(View(flat, (numbers - first).reshape(array.shape)))
        return _whole(taken) if array in self.choosing else taken

    def _flat(self, name: str, size: int, batched: bool) -> Array:
        """The numbers that come in, or go out, in a row."""
        flat = Array(-1, (size,), (), None, name)
        if batched:
            self.batched.add(flat)
        return flat

    # --- numbers that choose ---

    def _chooses(self, array: Array) -> bool:
        """Whether it is of numbers that choose, and do nothing else."""
        numbers = [i for choosing in self.lifted.one_hot.values() for i in choosing]
        return not self.used[array] and any(self.lifted.array_of[i] is array for i in numbers)

    def _choosing(self, rows: View) -> Expression | None:
        """By which numbers rows of ones and zeros have their ones, if it is a view of such rows."""
        numbers = self.lifted.one_hot.get(rows.array.name)
        if numbers is None or not rows.places.ndim:
            return None
        choices = rows.array.shape[-1]
        of, columns = np.divmod(rows.places, choices)
        if (of != of[..., :1]).any() or (columns != np.arange(columns.shape[-1])).any():
            return None
        if columns.shape[-1] < choices:  # a number may choose what is not among these
            return None
        choosing = numbers[of[..., 0]]
        source = self.lifted.array_of[int(choosing.flat[0])]
        taken = self.exact(View(source, self.lifted.place_of[choosing]))
        return taken if source in self.choosing or not self.takes_rows else _whole(taken)

    def one_hot(self, chosen: Expression, count: int) -> Expression:
        """For each of these numbers a row, with a 1 at one of so many places."""
        self.constants[f"eye{count}"] = np.eye(count)
        return ex.method(ex.name(f"eye{count}"), "take", chosen, ex.number(0))

    def _chosen(self, term: Term) -> Expression | None:
        """What rows of ones and zeros choose, in a term, of what is the same for all examples."""
        for rows, others in zip(term.views, term.views[::-1], strict=True):
            if others.array in self.batched or others.real is not None or term.kind == "each":
                continue
            if (choosing := self._choosing(rows)) is None:
                continue
            of = others.row if term.kind == "total" or others.places.ndim == 1 else others
            is_first = rows is term.left or rows.places.ndim == 1
            if of is not None and of.places.ndim < 3 and (of.places.ndim == 1 or is_first):
                return ex.method(self.exact(of.turned), "take", choosing, ex.number(0))
        return None

    # --- rows of all examples, one below another ---

    def _stack(self) -> None:
        """Find what is to be computed so: products of two matrices then are, not one for each."""
        wanted: set[Array] = set()
        able: set[Statement] = set()
        for statement in reversed(self.lifted.statements):
            views = [view for view in statement.views if view.array in self.batched]
            if statement.result in self.ends & self.batched:
                products = [t for t in statement.terms if t.kind == "matmul"]
                factors = [view for t in products for view in t.views]
                wanted.update(v.array for v in factors if v.turned.is_whole)
            elif self._can_be_by_rows(statement):
                able.add(statement)
                products = [t for t in statement.terms if t.kind == "matmul"]
                if statement.result in wanted or any(
                    view.places.ndim == 2 for t in products for view in t.views[1:]
                ):
                    wanted.update(view.array for view in views)
        for statement in self.lifted.statements:
            result, is_able = statement.result, statement in able
            follows = is_able and any(view.array in self.stacked for view in statement.views)
            has_rows = result in self.batched and 0 < len(result.shape) < 3
            if has_rows and result.real is None and (result in wanted or follows):
                self.stacked.add(result)
            if is_able and (follows or result in self.stacked):
                self.by_rows.add(statement)

    def _can_be_by_rows(self, statement: Statement) -> bool:
        """Whether each row of the result depends on the same row of what is batched alone."""
        axes = len(statement.shape)
        numbers = [*statement.args, statement.constant, *(t.coefficient for t in statement.terms)]
        if (
            statement.result not in self.batched
            or not 0 < axes < 3
            or any(isinstance(x, Array) for x in numbers)
            or any(view.real is not None for view in [*statement.views])
            or statement.result.real is not None
            or _is_narrow(statement)
            or _is_repeated(statement)
            or statement.parts
        ):
            return False
        args = [x for x in statement.args if isinstance(x, View)]
        each = [*args, *(v for t in statement.terms if t.kind == "each" for v in t.views)]
        if any(view.array in self.batched and view.places.ndim < axes for view in each):
            return False  # one row of an example beside several
        if not all(self._has_rows(x, x.places.ndim == axes) for x in args):
            return False
        for term in statement.terms:
            if term in self.chosen:
                return False
            if term.kind == "matmul":
                left, right = term.views
                if right.array in self.batched and left.places.ndim == 1:
                    left, right = right, left
                if left.places.ndim != 2 or right.array in self.batched:
                    return False
                if not self._has_rows(left, False):
                    return False
            elif not all(self._has_rows(view, term.kind == "each") for view in term.views):
                return False
        return True

    def _has_rows(self, view: View, repeated: bool) -> bool:
        """Whether the rows of a view, which may be repeated along an axis, are those of an array.

        Of what is the same for all examples, it may be the same row for all.
        """
        places, array = view.places, view.array
        if array not in self.batched:
            return repeated and bool((places == places[:1]).all())
        if repeated and places.ndim == 2 and (column := view.column):
            return column.is_whole
        if view.is_whole:
            return True
        index = view.index() if places.ndim == len(array.shape) == 2 else None
        return index is not None and index[0] == slice(None)

    def _by_rows(self, value: Expression, array: Array) -> Expression:
        """What has an axis for the examples, with the rows of all one below another."""
        return self._reshaped(value, True, array.shape[1:])

    # --- sums over the examples ---

    def _summed(self, statement: Statement) -> Expression:
        """The sum of a statement's result over the examples."""
        shape = statement.shape
        parts = [self._summed_term(term, shape) for term in statement.terms]
        if statement.constant != 0.0 or not parts:
            parts.append(ex.product(self.count(), self.number(statement.constant)))
        whole = ex.total(parts)
        return self._viewed(whole, statement.taken, False) if statement.taken else whole

    def _summed_term(self, term: Term, shape: tuple[int, ...]) -> Expression:
        batched = {view.array for view in term.views} & self.batched
        if not batched:
            return ex.product(self.count(), self.term(term, shape))
        if term.kind == "each" and term.right is None:
            summed = self.over_examples(self._each(term.left, len(shape)), len(shape))
            return self.scaled(term.coefficient, summed)
        # A product of what differs in each example is a matrix product, if it is outer.
        outer = term.kind == "each" and all(view.array in batched for view in term.views)
        for x, y in (term.views, term.views[::-1]) if outer else ():
            if x.is_single and len(shape) == 1:
                summed = ex.matmul(self.exact(x.first), self.exact(y))
                return self.scaled(term.coefficient, summed)
            if len(shape) == 2 and (column := x.column) and (row := y.row):
                summed = ex.matmul(ex.transposed(self.exact(column)), self.exact(row))
                return self.scaled(term.coefficient, summed)
        both = term.right and all(view.array in batched for view in term.views)
        matrices = term.kind == "matmul" and all(v.places.ndim == 2 for v in term.views)
        if both and matrices and not self._cuts(term):
            rows, columns = map(self._stacked_rows, term.views)
            return self.scaled(term.coefficient, ex.matmul(ex.transposed(rows), columns))
        return ex.method(self.term(term, shape), "sum", ex.number(0))

    def _cuts(self, term: Term) -> bool:
        """Whether only some products of the term are to be taken."""
        return self.exactly and term.real() is not None

    def _stacked_rows(self, view: View) -> Expression:
        """The columns of a matrix that each example has, as rows, one example below another."""
        turned = view.turned
        if view.array in self.stacked and turned.is_whole:
            return ex.name(view.array.name)
        if (route := turned.route()) is not None and not turned.is_whole and turned.index() is None:
            taken = self._along(route, self._array(view.array), True)
        else:
            taken = self.exact(turned)
        return self._reshaped(taken, True, turned.places.shape[1:])

    def over_examples(self, summed: Expression, axes: int) -> Expression:
        """The sum of what has so many axes after that of the examples."""
        if axes > 1 or ex.is_broadcast(summed):
            return ex.method(summed, "sum", ex.number(0))
        self.has_ones = True
        return ex.matmul(ex.name("ones"), summed)

    def totalled(self, value: Expression, source: Array | float, axes: int) -> Expression:
        """The sum over the examples of a piece, with so many axes, of this array or number."""
        if source in self.ends:
            return value
        if isinstance(source, Array) and source in self.batched:
            return self.over_examples(value, axes)
        return ex.product(self.count(), value)

    # --- outputs ---

    def _number_of(self, piece: Piece, many: bool) -> Expression:
        number = self._argument(piece.operand(()), 0)
        if many and not isinstance(piece.source, Array):
            return self.new("full", self.count(), number)
        return number

    def assemble(self, name: str, size: int, parts: Sequence[Piece], many: bool) -> None:
        """An array of its pieces, with a row for each example or, in a step, the sums over them."""
        decay = self.decay if name == "gradient" else 0.0
        if decay:
            self.assign(name, ex.product(self.number(decay), ex.name("values")))
        else:
            room = ex.sizes(self.count(), size) if many else ex.number(size)
            self.assign(name, self.new("empty", room), moves=True)
        flat = self._flat(name, size, many)
        for piece in parts:
            shape: tuple[int, ...] = (len(piece.positions),) if len(piece.positions) > 1 else ()
            view = View(flat, piece.positions.reshape(shape))
            source = piece.source
            if view.index() is None:
                turned = piece.by_position()
                straight = View(flat, turned.positions)
                route = isinstance(source, Array) and View(source, turned.places).route()
                if route and straight.index() is not None:
                    piece, view = turned, straight
                elif route := view.route():
                    shape = route.sizes
                    view = View(flat, piece.positions.reshape(shape))
                elif isinstance(source, Array) and View(source, piece.places).is_all:
                    shape = source.shape
                    view = View(flat, piece.positions.reshape(shape))
            value = self._argument(piece.operand(shape), len(shape))
            if self.shared and not many:
                value = self.totalled(value, source, len(shape))
            where = self.exact(view)
            if not isinstance(where, ast.Subscript):
                where = ex.item(where, slice(None))
            self.assign(where, value, "+=" if decay else "=", moves=True)

    def gradient(self, outputs: Sequence[int | float], parts: Sequence[Piece]) -> None:
        """The mean over the examples, of outputs that come in these pieces."""
        self.assemble("gradient", len(outputs), parts, many=False)
        share = ex.quotient(ex.number(1.0), self.count())
        self.assign("gradient", share, "*=", moves=True)

    # --- what is written in one operation, though the form has it in several ---

    def _decay(self, gradient: Sequence[Piece]) -> float:
        """c, where each component of the gradient has the term c · (its own variable); or 0.

        That is the gradient of a penalty: `gradient = c * values` says it in one operation.
        The statements then go without these terms.
        """
        statements: dict[Array | float, Statement] = {s.result: s for s in self.lifted.statements}
        outputs = self.lifted.tape.outputs
        given_out = Counter(self.lifted.array_of[o] for o in outputs if isinstance(o, int))
        found: set[Term] = set()
        for _, positions, array, _ in gradient:
            if not isinstance(array, Array) or array not in statements or self.used[array]:
                return 0.0
            if not given_out[array] == len(positions) == array.size:
                return 0.0
            terms = statements[array].terms
            own = [
                term
                for term in terms
                if (term.kind, term.right) == ("each", None)
                and np.array_equal(self._numbers(term.left).reshape(-1), positions)
                and any(_fills(other, array.size) for other in terms if other is not term)
            ]
            if not own:
                return 0.0
            found.add(own[0])
        size = sum(len(piece.positions) for piece in gradient)
        c = self._common(found) if found and size == self.lifted.tape.inputs else 0.0
        if c:
            self.said_once = found
        return c

    def _norm(self, terms: list[Term]) -> float:
        """c, where c times the sum of the squares of all inputs is among the terms; or 0."""
        squares = [
            term
            for term in terms
            if term.right is not None
            and term.left.array is term.right.array
            and term.left.array in self.inputs
            and np.array_equal(term.left.places, term.right.places)
        ]
        numbers = [self._numbers(term.left).reshape(-1) for term in squares]
        if len(squares) < 2 or not np.array_equal(
            np.sort(np.concatenate(numbers)), np.arange(self.lifted.tape.inputs)
        ):
            return 0.0
        if c := self._common(squares):
            terms[:] = [term for term in terms if term not in squares]
        return c

    def _common(self, terms: Collection[Term]) -> float:
        """The coefficient of all these terms, if it is one number; or 0."""
        first, *others = {term.coefficient for term in terms}
        return 0.0 if others or isinstance(first, Array) else first

    def _numbers(self, view: View) -> Indices:
        """Which inputs the elements of a view are; none if they are not inputs."""
        numbers = self.inputs.get(view.array)
        return np.empty(0, np.intp) if numbers is None else numbers[view.places]

    # --- statements ---

    def statement(self, statement: Statement) -> None:
        name, shape = statement.result.name, statement.shape
        if statement.parts:
            self.assign(name, self._joined(statement))
            return
        narrow = shape != () and _is_narrow(statement)
        inner = () if narrow else shape
        is_by_rows = statement in self.by_rows
        if is_by_rows:
            self.batched, self.varied = set(), self.batched
        if statement.op is not None:
            values = [self._call(statement, statement.op, inner)]
        else:
            parts = self._parts(statement, inner)
            values = [ex.total(parts[:MOST_TERMS])]
            for first in range(MOST_TERMS, len(parts), MOST_TERMS):
                values.append(ex.total([ex.name(name), *parts[first : first + MOST_TERMS]]))
        if narrow:  # equal elements: one is computed
            values[-1] = self._repeated(values[-1], shape)
        elif _is_repeated(statement):
            values[-1] = ex.product(values[-1], self.new("ones", ex.sizes(*shape)))
        is_stacked = statement.result in self.stacked
        if is_by_rows:
            self.batched, self.varied = self.varied, set()
            if statement.taken or not is_stacked:
                values[-1] = self._reshaped(values[-1], True, shape)
        if statement.taken:
            batched = statement.result in self.batched
            values[-1] = self._viewed(values[-1], statement.taken, batched)
        if is_stacked and (statement.taken or not is_by_rows):
            values[-1] = self._by_rows(values[-1], statement.result)
        is_step = statement.op is not None and self.template(statement.op) == _STEP
        if is_step and self.used[statement.result] == 1:
            self.inlined[statement.result] = values[0]
            return
        if statement.fill is not None and not self.exactly:
            values[-1] = self._filled(values[-1], statement.result, statement.fill)
        for value in values:
            self.assign(name, value)

    def _joined(self, statement: Statement) -> Expression:
        """The parts along a new first axis. One long array takes a third of NumPy's `stack`."""
        batched = statement.result in self.batched
        every = ast.List([self.exact(part) for part in statement.parts])
        whole = ex.call(f"{self.library}.concatenate", every, *[ex.number(1)] * batched)
        by_rows = statement.result in self.stacked
        return self._reshaped(whole, batched, statement.shape[by_rows:])

    def _filled(self, value: Expression, array: Array, fill: float) -> Expression:
        """The value with what is not real in the array replaced."""
        assert array.real is not None
        real = array.real.reshape(array.shape)
        if fill == 0.0:
            return ex.product(value, self.constant("mask", real.astype(float)))
        return ex.total([value, self.constant("mask", np.where(real, 0.0, fill))])

    def _masked(self, value: Expression, real: Bools, fill: float) -> Expression:
        mask = self.constant("mask", real)
        return ex.call(f"{self.library}.where", mask, value, self.number(fill))

    def _repeated(self, value: Expression, shape: tuple[int, ...]) -> Expression:
        ones = self.new("ones", ex.sizes(*shape))
        return ex.call(f"{self.library}.multiply.outer", value, ones)

    def _parts(self, statement: Statement, shape: tuple[int, ...]) -> list[Expression]:
        """The terms of a sum, in an order in which the first is subtracted only if all are."""
        parts: list[Expression] = []
        terms = [term for term in statement.terms if term not in self.said_once]
        if statement.shape == () and self.shared is None and (c := self._norm(terms)):
            parts.append(self.scaled(c, ex.matmul(ex.name("values"), ex.name("values"))))
        parts += [self.term(term, shape) for term in terms]
        if statement.constant != 0.0 or not parts:
            parts.append(self.number(statement.constant))
        return ex.ordered(parts)

    def _call(self, statement: Statement, op: Op, shape: tuple[int, ...]) -> Expression:
        first = statement.args[0]
        if isinstance(first, View) and first.places.ndim > len(shape):  # all along its last axis
            args = [self.exact(first)]
            if self.exactly and (real := first.real) is not None:
                args = [self._masked(args[0], real, neutral(op) or 0.0)]
        else:
            args = [self._argument(argument, len(shape)) for argument in statement.args]
        template = arrays.simpler(self.template(op), statement.args)
        if not template:
            return ex.call(self._function(op), *args)
        if isinstance(first, View) and first.is_whole:
            if template == _RELU:
                self.rectified[first.array] = statement.result
            elif template == _STEP and first.array in self.rectified:
                # The step, NaN included: NumPy's own takes twice as long.
                return ex.call("np.sign", self._array(self.rectified[first.array]))
        given: list[Any] = args if op.arity is not None else [args]
        by_name = dict(zip(op.arguments, given, strict=True))
        return ex.filled(template, by_name, lambda name: self._named(op, name))

    def template(self, op: Op) -> str:
        return op.array

    def _named(self, op: Op, function: str) -> str:
        """The name in the source of a function in a template: of the library, or of our own."""
        module, _, name = function.rpartition(".")
        if not module:
            return self._function(op)
        return f"{self.library}.{name}" if module == "xp" else function

    def _function(self, op: Op) -> str:
        """The name of the operation as one of the constants: a function of arrays."""
        if op not in self.functions:
            name = f"{'op_' * op.name[:1].isdigit()}{word(op.name)}_"
            while name in self.constants:  # operations of one name, of the user's
                name += "_"
            self.constants[name] = arrays.function(op, self.template(op), self.library)
            self.functions[op] = name
        return self.functions[op]

    def new(self, kind: str, *arguments: Expression) -> Expression:
        """A new array: np.ones(3), say."""
        return ex.call(f"{self.library}.{kind}", *arguments)

    def _argument(self, argument: View | float | Array, axes: int) -> Expression:
        if isinstance(argument, View):
            return self._each(argument, axes)
        return self.number(argument)

    def number(self, x: float | Array) -> Expression:
        if isinstance(x, Array):
            return self._array(x)
        size = ex.number(abs(x)) if isfinite(x) else ex.name(f"{self.library}.{abs(x)}")
        return ex.minus(size) if x < 0.0 or (x == 0.0 and copysign(1.0, x) < 0.0) else size

    def scaled(self, c: float | Array, *factors: Expression) -> Expression:
        if isinstance(c, Array):
            return ex.product(self._array(c), *factors)
        scaled = ex.product(*[self.number(abs(c))] * (abs(c) != 1.0), *factors)
        return ex.minus(scaled) if c < 0.0 else scaled

    def term(self, term: Term, shape: tuple[int, ...]) -> Expression:
        left, right, c = term.left, term.right, term.coefficient
        if term.kind == "each":
            factors = [self._each(view, len(shape)) for view in term.views]
            return self.scaled(c, *factors)
        if self._cuts(term):
            return self.scaled(c, self._restricted(term))
        if (chosen := self.chosen.get(term)) is not None:
            return self.scaled(c, chosen)
        if right is None:
            return self.scaled(c, self._total(left))
        if term.kind == "matmul":
            return self.scaled(c, self._matmul(left, right))
        if isinstance(c, Array):
            scaled = ex.product(self._array(c), self.exact(left), self.exact(right))
            return self.summed_along(scaled, left.places.shape[-1])
        return self.scaled(c, self._inner(left, right))

    def _restricted(self, term: Term) -> Expression:
        """The sum of those products that are real."""
        real = term.real()
        assert real is not None
        sides = [self.exact(view) for view in term.views]
        if term.kind == "matmul" and all(view.places.ndim > 1 for view in term.views):
            more = ex.name("...")
            sides = [
                ex.item(side, more, *index, slice(None))
                for side, index in zip(
                    sides, ((slice(None), None), (None, slice(None))), strict=True
                )
            ]
        elif any(view.places.ndim > 1 for view in term.views):
            sides = [
                ex.item(side, slice(None), None)
                if view.array in self.batched and view.places.ndim == 1
                else side
                for side, view in zip(sides, term.views, strict=True)
            ]
        masked = self._masked(ex.product(*sides), real, 0.0)
        return ex.method(masked, "sum", ex.number(-1))

    def _inner(self, left: View, right: View) -> Expression:
        """The sum of products over the last axis."""
        a, b = self.exact(left), self.exact(right)
        both = left.array in self.batched and right.array in self.batched
        if left.places.ndim == 1 and not both:
            return ex.matmul(b, a) if right.array in self.batched else ex.matmul(a, b)
        return self.summed_along(ex.product(a, b), left.places.shape[-1])

    def _matmul(self, left: View, right: View) -> Expression:
        if left.places.ndim == right.places.ndim == 1:
            return self._inner(left, right)
        if left.places.ndim == right.places.ndim:
            return ex.matmul(self.exact(left), self._transposed(right))
        matrix, vector = (left, right) if left.places.ndim == 2 else (right, left)
        v = self.exact(vector)
        if vector.array not in self.batched:
            return ex.matmul(self.exact(matrix), v)
        if matrix.array not in self.batched:
            return ex.matmul(v, self._transposed(matrix))
        every = slice(None)
        columns = ex.matmul(self.exact(matrix), ex.item(v, every, every, None))
        return ex.item(columns, every, every, 0)

    def _total(self, view: View) -> Expression:
        """The sum over the view's last axis; along an axis of the array where it is one."""
        array, places = view.array, view.places
        batched = array in self.batched
        if places.ndim == 1:
            ordered = View(array, np.sort(places))
            if ordered.is_all and len(array.shape) == 2:
                return ex.method(self._array(array), "sum", *[ex.sizes(1, 2)] * batched)
            view = ordered if ordered.is_all else view
            return self.summed_along(self.exact(view), len(places), axis=-1 if batched else 0)
        turned = view.turned
        if turned.is_whole and places.ndim == 2:
            return self.summed_along(self.exact(turned), len(turned.places), axis=-2)
        return self.summed_along(self.exact(view), places.shape[-1])

    def summed_along(self, summed: Expression, count: int, axis: int = -1) -> Expression:
        """The sum over the last axis (0 of a vector, -2 of a matrix), of so many elements."""
        # A product with ones takes half as long as NumPy's sum.
        self.constants[f"ones{count}"] = np.ones(count)
        ones = ex.name(f"ones{count}")
        return ex.matmul(ones, summed) if axis != -1 else ex.matmul(summed, ones)

    # --- views ---

    def _array(self, array: Array) -> Expression:
        if array.data is None:
            name = self.inlined.get(array) or ex.name(array.name)
            if array in self.stacked:
                return name if array in self.varied else self._reshaped(name, True, array.shape)
            return self._by_rows(name, array) if array in self.varied else name
        if array not in self.constant_names:  # a matrix of numbers is the data, as a rule
            stem = "X" if array.data.ndim == 2 else "c"
            self.constant_names[array] = self.constant(stem, array.data)
        return self.constant_names[array]

    def constant(self, stem: str, data: Floats | Indices | Bools) -> Expression:
        for name, known in self.constants.items():
            if getattr(known, "dtype", None) == data.dtype and np.array_equal(known, data):
                return ex.name(name)
        taken = {array.name for array in self.lifted.array_of} | set(self.constants)
        numbered = (stem if stem == "X" and n == 1 else f"{stem}{n}" for n in count_from(1))
        name = next(name for name in numbered if name not in taken)
        self.constants[name] = data
        return ex.name(name)

    def item(self, array: Expression, batched: bool, *index: Index) -> Expression:
        return ex.item(array, *[slice(None)] * batched, *index)

    def _reshaped(self, array: Expression, batched: bool, shape: Sequence[int]) -> Expression:
        match array:  # which may be reshaped itself
            case ast.Call(ast.Attribute(value, "reshape")):
                array = value
        if len(shape) == 1 and not batched:
            return ex.method(array, "ravel")
        axes = map(ex.number, [-1] * batched + [*shape])
        return ex.method(array, "reshape", *axes)

    def _each(self, view: View, axes: int) -> Expression:
        """The view as an operand of an elementwise operation whose result has so many axes."""
        part, repeats = view.without_repeats()
        index: list[Index] = [None if is_repeated else slice(None) for is_repeated in repeats]
        index = ([None] * axes + index)[len(index) :]
        batched = part.array in self.batched
        while index and index[-1] is not None:
            index.pop()
        while index and index[0] is None and not batched:
            index.pop(0)
        taken = self.exact(part)
        return self.item(taken, batched, *index) if index else taken

    def _transposed(self, view: View) -> Expression:
        if view.array in self.batched or view.places.ndim == 3:
            return self.exact(view.turned)
        return ex.transposed(self.exact(view))

    def exact(self, view: View) -> Expression:
        """The view with the axes that its places have (after the batch's)."""
        return self._viewed(self._array(view.array), view, view.array in self.batched)

    def _viewed(self, name: Expression, view: View, batched: bool) -> Expression:
        """The view of an array of which this is an expression."""
        array, places = view.array, view.places
        if view.is_whole:
            return name
        if array.shape == ():
            return self._repeated(name, places.shape)
        if (index := view.index()) is not None:
            return self.item(name, batched, *index)
        if (route := view.route()) is not None:
            taken = self._along(route, name, batched)
            turned = places.shape != route.sizes
            return self._reshaped(taken, batched, places.shape) if turned else taken
        if len(array.shape) == 1:
            return self.item(name, batched, self.constant("places", places))
        where = self.constant("places", places)
        if not batched:
            return ex.method(name, "take", where)
        return self.item(self._reshaped(name, True, (array.size,)), True, where)

    def _along(self, route: Route, array: Expression, batched: bool) -> Expression:
        """The view that a route leads to."""
        if route.part is not None:
            array = self.item(array, batched, route.part)
        if route.shape is not None:
            array = self._reshaped(array, batched, route.shape)
        if route.taken:
            array = self.item(array, batched, *route.taken)
        if route.axes == (1, 0) and not batched:
            return ex.transposed(array)
        if route.axes is not None:
            turned = [0] * batched + [axis + batched for axis in route.axes]
            array = ex.method(array, "transpose", *map(ex.number, turned))
        return array


# How the table writes over NumPy a rectified array, and the derivative of that.
_RELU, _STEP = "xp.maximum(@x, 0.0)", "xp.heaviside(@x, 0.0)"


def _whole(numbers: Expression) -> Expression:
    """Whole numbers that are floats, as integers."""
    return ex.method(numbers, "astype", ex.name("int"))


def _is_narrow(statement: Statement) -> bool:
    """Whether all elements are the same, though the result has axes."""
    return _is_of_numbers(statement) and all(view.is_single for view in statement.views)


def _is_repeated(statement: Statement) -> bool:
    """Whether all elements are the same along an axis of the result."""
    shape = statement.shape
    if not _is_of_numbers(statement) or any(v.places.ndim > len(shape) for v in statement.views):
        return False
    places = [np.broadcast_to(view.places, shape) for view in statement.views]
    return any(
        size > 1 and all((p == p.take([0], axis)).all() for p in places)
        for axis, size in enumerate(shape)
    )


def _is_of_numbers(statement: Statement) -> bool:
    """Whether it is element by element, with numbers that are the same for all."""
    numbers = [*statement.args, statement.constant, *(t.coefficient for t in statement.terms)]
    return all(term.kind == "each" for term in statement.terms) and not any(
        isinstance(x, Array) for x in numbers
    )


def _fills(term: Term, size: int) -> bool:
    """Whether a term alone has as many elements as the result."""
    if term.kind != "each":
        return True
    return any(v.places.size == size == len(np.unique(v.places)) for v in term.views)
