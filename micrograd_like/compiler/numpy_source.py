"""The lifted form as source over NumPy, meant to be read.

Arrays have the axes that the lifter gave them, and those that differ from one example of a batch to
the next have one more, in front: they are *batched*. The same statements are written for both.
`jax_source.py` says what JAX has in other words.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from math import copysign, isfinite
from typing import Any, ClassVar

import numpy as np

from ..ops import Op
from . import arrays
from . import expressions as ex
from .expressions import Assignment, Expression, Index, Source
from .form import Array, Floats, Indices, Lifted, Statement, Term, View, progression
from .tape import word

# Python's compiler recurses into sums: longer ones are written in several lines.
_MOST_TERMS = 100

# What goes into an array: elements of another, or a number, at these positions, from these places.
Piece = tuple[Array | float, Indices, Indices]


class NumpyPrinter:
    """Writes a lifted program, or a step.

    The first `shared` inputs are the same for all examples of a batch, and the others are a row for
    each; with None there are no examples. With `exact` NaN is never masked away by the derivative
    of a kink.
    """

    library: ClassVar[str] = "np"

    def __init__(self, lifted: Lifted, shared: int | None = None, exact: bool = True) -> None:
        self.lifted = lifted
        self.shared = shared
        self.given = "examples" if shared else "values"  # what has a row for each example
        self.constants: dict[str, Any] = {}
        self.functions: dict[Op, str] = {}
        self.constant_names: dict[Array, str] = {}
        self.batched = {array for array, numbers in lifted.inputs if self.varies(numbers)}
        for statement in lifted.statements:
            if any(map(self._is_batched, statement.views)):
                self.batched.add(statement.result)
        self.masks: dict[Array, Statement] = {} if exact else self._masks()
        self.assignments: list[Assignment] = []
        self.has_ones = False  # of as many as there are examples
        self.said_once: set[Term] = set()  # terms of statements that are written elsewhere

    def varies(self, numbers: Indices) -> bool:
        """Whether these inputs, of one array, differ from one example to the next."""
        return self.shared is not None and len(numbers) > 0 and int(numbers[0]) >= self.shared

    # --- the whole ---

    def program(
        self, blocks: Sequence[tuple[str, int]], jacobian: tuple[int, int] | None = None
    ) -> Source:
        """`program(values)`, which returns its outputs in blocks: a name and a size each.

        The first may be a single number, of size 0; the others are arrays, the last one of the
        shape of the Jacobian, if there is one. A batch of examples has a row of values for each.
        """
        many = self.shared == 0
        self._take_inputs()
        start = 0
        fills: list[tuple[str, int, list[Piece], float | None]] = []
        for name, size in blocks:
            if size:
                outputs = self.lifted.tape.outputs[start : start + size]
                pieces = self.pieces(outputs)
                decay = self._decay(outputs, pieces) if name == "gradient" and not many else None
                fills.append((name, size, pieces, decay))
            start += size or 1
        for statement in self.lifted.statements:
            if statement.result not in self.masks:
                self.statement(statement)
        for name, size, pieces, decay in fills:
            self.assemble(name, size, pieces, many, decay)
        number = self.lifted.tape.outputs[0]
        results = [ex.name(name) if size else self._output(number, many) for name, size in blocks]
        if jacobian:
            results[-1] = self._reshaped(results[-1], many, jacobian)
        return self._source("values", results)

    def step(self, outputs: int) -> Source:
        """`program(values, examples)`, traced from one example, for a batch of them.

        The shared inputs are the parameters, whose numbers are `values`; the others are an example,
        a row of `examples`. It returns the mean of the first output over the examples, the next
        `outputs` of each example, and of what is left, a gradient, the mean again.
        """
        self._take_inputs()
        value, *rest = self.lifted.tape.outputs
        results, pieces = self.pieces(rest[:outputs]), self.pieces(rest[outputs:])
        used = self._uses()
        used.update(source for source, _, _ in results)
        ends = {  # arrays of which only the sums over the examples are needed
            source
            for source, _, places in pieces
            if isinstance(source, Array) and not used[source] and len(places) == source.size
        }
        for statement in self.lifted.statements:
            result = statement.result
            if result in ends and result in self.batched and not statement.op:
                self.assign(result.name, self._summed(statement))
                self.batched.discard(result)
            else:
                ends.discard(result)
                self.statement(statement)
        source, positions, places = results[0]
        whole = isinstance(source, Array) and source.shape == (outputs,) and source in self.batched
        if isinstance(source, Array) and whole and np.array_equal(positions, places):
            self.assign("outputs", ex.name(source.name))
        else:
            self.assemble("outputs", outputs, results, many=True)
        if pieces:
            self.gradient(rest[outputs:], pieces, ends)
        mean = self._output(value, many=False)
        if isinstance(value, int) and self.lifted.array_of[value] in self.batched:
            mean = ex.quotient(self.over_examples(mean, 0), self.count())
        shown = [ex.name("outputs"), *[ex.name("gradient")] * bool(pieces)]
        return self._source("values, examples", [mean, *shown])

    def _source(self, arguments: str, results: Sequence[Expression]) -> Source:
        if self.has_ones:
            ones = Assignment(ex.name("ones"), self.new("ones", self.count()), moves=True)
            self.assignments.insert(0, ones)
        return Source(arguments, self.assignments, results, self.constants, bool(self.masks))

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
            taken = self.input(array, np.asarray(numbers))
            if ex.text(taken) != array.name:
                self.assign(array.name, taken, moves=not isinstance(taken, ast.BinOp))

    def input(self, array: Array, numbers: Indices) -> Expression:
        """The array, from `values` or, what varies in a step, from `examples`."""
        name, first, size = "values", 0, self.shared or self.lifted.tape.inputs
        batched = array in self.batched
        if batched and self.shared:
            name, first, size = "examples", self.shared, self.lifted.tape.inputs - self.shared
        flat = self._flat(name, size, batched)
        return self.exact(View(flat, (numbers - first).reshape(array.shape)))

    def _flat(self, name: str, size: int, batched: bool) -> Array:
        """The numbers that come in, or go out, in a row."""
        flat = Array(-1, (size,), (), None, name)
        if batched:
            self.batched.add(flat)
        return flat

    # --- sums over the examples ---

    def _summed(self, statement: Statement) -> Expression:
        """The sum of a statement's result over the examples."""
        shape = statement.result.shape
        parts = [self._summed_term(term, shape) for term in statement.terms]
        constant = statement.constant
        if isinstance(constant, Array) or constant != 0.0 or not parts:
            parts.append(ex.product(self.count(), self.number(constant)))
        return ex.total(parts)

    def _summed_term(self, term: Term, shape: tuple[int, ...]) -> Expression:
        left, right = term.left, term.right
        batched = [view for view in term.views if self._is_batched(view)]
        if not batched:
            return ex.product(self.count(), self.term(term, shape))
        text = None
        if term.kind == "each" and right is None:
            each = self._each(left, len(shape))
            text = self.over_examples(each, len(shape), left)
        elif term.kind == "each" and right is not None and len(batched) == 2:
            text = self._summed_product(left, right, shape)
        if text is None:
            return ex.method(self.term(term, shape), "sum", ex.number(0))
        return self.scaled(term.coefficient, text)

    def over_examples(self, summed: Expression, axes: int, view: View | None = None) -> Expression:
        """The sum of what has so many axes after that of the examples."""
        other = view is not None and view.places.ndim != axes
        if axes > 1 or other or ex.is_broadcast(summed):
            return ex.method(summed, "sum", ex.number(0))
        self.has_ones = True
        return ex.matmul(ex.name("ones"), summed)

    def _summed_product(self, left: View, right: View, shape: tuple[int, ...]) -> Expression | None:
        """Over the examples, a product of what differs in each is a matrix product, if outer."""
        for x, y in ((left, right), (right, left)):
            if x.is_single and len(shape) == 1 and y.places.shape == shape:
                single = View(x.array, x.places.reshape(-1)[0].reshape(()))
                return ex.matmul(self.exact(single), self.exact(y))
            if len(shape) == 2:
                column = x.places.ndim == 2 and bool(np.all(x.places == x.places[:, :1]))
                row = y.places.ndim == 1 or bool(np.all(y.places == y.places[:1]))
                if column and row and x.places.shape[0] == shape[0]:
                    a = self.exact(View(x.array, x.places[:, 0]))
                    b = y.places if y.places.ndim == 1 else y.places[0]
                    return ex.matmul(ex.transposed(a), self.exact(View(y.array, b)))
        return None

    # --- outputs ---

    def _output(self, output: int | float, many: bool) -> Expression:
        if isinstance(output, float):
            number = self.number(output)
            return self.new("full", self.count(), number) if many else number
        array = self.lifted.array_of[output]
        return self.exact(View(array, self.lifted.place_of[output].reshape(())))

    def pieces(self, outputs: Sequence[int | float]) -> list[Piece]:
        """What outputs consist of: of each array, or number, the positions and the places."""
        found: dict[Array | float, list[tuple[int, int]]] = {}
        for position, output in enumerate(outputs):
            if isinstance(output, float):
                found.setdefault(output, []).append((0, position))
            else:
                pair = (int(self.lifted.place_of[output]), position)
                found.setdefault(self.lifted.array_of[output], []).append(pair)
        pieces: list[Piece] = []
        for source, pairs in sorted(found.items(), key=lambda pair: isinstance(pair[0], float)):
            places, positions = np.asarray(sorted(pairs)).T
            pieces.append((source, positions, places))
        return pieces

    def assemble(
        self,
        name: str,
        size: int,
        pieces: Sequence[Piece],
        many: bool,
        decay: float | None = None,
        ends: set[Array] | None = None,
    ) -> None:
        """An array of its pieces, plus `decay` times the values; with `many` a row an example.

        With `ends` it has their sums over the examples: arrays in `ends` are such sums already.
        """
        if decay is None:
            room = ex.sizes(self.count(), size) if many else ex.number(size)
            self.assign(name, self.new("empty", room), moves=True)
        else:
            self.assign(name, ex.product(self.number(decay), ex.name("values")))
        for piece in pieces:
            summed = ends is not None and piece[0] not in ends
            self._fill(name, size, piece, "=" if decay is None else "+=", many, summed)

    def gradient(
        self, outputs: Sequence[int | float], pieces: Sequence[Piece], ends: set[Array]
    ) -> None:
        """The mean over the examples, of outputs that come in these pieces."""
        self.assemble("gradient", len(outputs), pieces, many=False, ends=ends)
        share = ex.quotient(ex.number(1.0), self.count())
        self.assign("gradient", share, "*=", moves=True)

    def _fill(
        self, target: str, size: int, piece: Piece, sign: str, many: bool, summed: bool
    ) -> None:
        """Assign a piece of an array; with `summed`, its sum over the examples."""
        source, positions, places = piece
        shape: tuple[int, ...] = (len(positions),)
        if isinstance(source, Array):
            if len(positions) == 1:
                shape = ()
            elif View(source, places).is_all and progression(positions) is None:
                shape = source.shape
            value = self.exact(View(source, places.reshape(shape)))
        else:
            value = self.number(source)
        if summed:
            value = self.totalled(value, source)
        where = self.exact(View(self._flat(target, size, many), positions.reshape(shape)))
        if ex.has_name(where, target):
            where = ex.item(where, slice(None))
        self.assign(where, value, sign, moves=True)

    def totalled(self, value: Expression, source: Array | float) -> Expression:
        if isinstance(source, Array) and source in self.batched:
            return self.over_examples(value, len(source.shape))
        return ex.product(self.count(), value)

    # --- what is written in one operation, though the form has it in several ---

    def _decay(self, outputs: Sequence[int | float], pieces: Sequence[Piece]) -> float | None:
        """c, where each component of the gradient has the term c · (its own variable).

        That is the gradient of a penalty: `gradient = c * values` says it in one operation.
        The statements then go without these terms.
        """
        if len(outputs) != self.lifted.tape.inputs:
            return None
        found: list[Term] = []
        statements = {s.result: s for s in self.lifted.statements}
        used = self._uses()
        tape = self.lifted.tape
        given_out = Counter(self.lifted.array_of[o] for o in tape.outputs if isinstance(o, int))
        for array, positions, _ in pieces:
            if not isinstance(array, Array) or array not in statements or used[array]:
                return None
            if not given_out[array] == len(positions) == array.size:
                return None
            terms = statements[array].terms
            for term in terms:
                numbers = self._numbers(term.left)
                if (
                    (term.kind, term.right) == ("each", None)
                    and not isinstance(term.coefficient, Array)
                    and numbers is not None
                    and np.array_equal(numbers.reshape(-1), positions)
                    and any(_fills(other, array.size) for other in terms if other is not term)
                ):
                    found.append(term)
                    break
            else:
                return None
        coefficients = {term.coefficient for term in found}
        if len(coefficients) != 1:
            return None
        self.said_once = set(found)
        return float(coefficients.pop())  # type: ignore[arg-type]

    def _norm(self, terms: list[Term]) -> float:
        """c, where c times the sum of the squares of all inputs is among the terms; or 0."""
        squares: list[Term] = []
        numbers: list[Indices] = []
        for term in terms:
            left, right = term.left, term.right
            if right is not None and left.array is right.array:
                mine = self._numbers(left)
                if mine is not None and np.array_equal(left.places, right.places):
                    squares.append(term)
                    numbers.append(mine.reshape(-1))
        coefficients = {term.coefficient for term in squares}
        if len(squares) < 2 or len(coefficients) != 1:
            return 0.0
        (c,) = coefficients
        covered = np.sort(np.concatenate(numbers))
        if isinstance(c, Array) or not np.array_equal(covered, np.arange(self.lifted.tape.inputs)):
            return 0.0
        for term in squares:
            terms.remove(term)
        return c

    def _numbers(self, view: View) -> Indices | None:
        """Which inputs the elements of a view are; None if they are none."""
        for array, numbers in self.lifted.inputs:
            if array is view.array:
                return np.asarray(numbers)[view.places]
        return None

    def _uses(self) -> Counter[Array | float]:
        """How often the statements read each array."""
        return Counter(view.array for s in self.lifted.statements for view in s.views)

    def _masks(self) -> dict[Array, Statement]:
        """The arrays of steps, 1(z > 0), that are written `(z > 0)` where they are factors.

        A NaN in z must not be masked away: it shows in the value, since relu(z) is computed too.
        """
        statements = self.lifted.statements
        written = {s.result: s.op.array for s in statements if s.op is not None}
        if any(template.startswith("where(") for template in written.values()):
            return {}  # NaN may be chosen away
        rectified = {
            s.args[0].array
            for s in statements
            if written.get(s.result) == _RELU and isinstance(s.args[0], View)
        }
        masks = {
            s.result: s
            for s in statements
            if written.get(s.result) == _STEP
            and isinstance(s.args[0], View)
            and s.args[0].array in rectified
            and s.args[0].is_whole
        }
        outputs = self.lifted.tape.outputs
        other = {self.lifted.array_of[o] for o in outputs if isinstance(o, int)}
        for statement in statements:
            other.update(a.array for a in statement.args if isinstance(a, View))
            for term in statement.terms:
                # Among masks alone, * and + and - would be those of booleans.
                alone = term.coefficient in (1.0, -1.0) and all(
                    view.array in masks and view.array not in other for view in term.views
                )
                other.update(
                    view.array
                    for view in term.views
                    if term.kind != "each" or not view.is_whole or alone
                )
        return {array: masks[array] for array in masks if array not in other}

    # --- statements ---

    def statement(self, statement: Statement) -> None:
        name, shape = statement.result.name, statement.result.shape
        narrow = shape != () and _is_narrow(statement)
        inner = () if narrow else shape
        if statement.op is not None:
            values = [self._call(statement, statement.op, inner)]
        else:
            parts = self._parts(statement, inner)
            values = [ex.total(parts[:_MOST_TERMS])]
            for first in range(_MOST_TERMS, len(parts), _MOST_TERMS):
                values.append(ex.total([ex.name(name), *parts[first : first + _MOST_TERMS]]))
        if narrow:  # equal elements: one is computed
            values[-1] = self._repeated(values[-1], shape)
        for value in values:
            self.assign(name, value)

    def _repeated(self, value: Expression, shape: tuple[int, ...]) -> Expression:
        ones = self.new("ones", ex.sizes(*shape))
        return ex.call(f"{self.library}.multiply.outer", value, ones)

    def _parts(self, statement: Statement, shape: tuple[int, ...]) -> list[Expression]:
        """The terms of a sum, in an order in which the first is subtracted only if all are."""
        parts: list[Expression] = []
        terms = [term for term in statement.terms if term not in self.said_once]
        if statement.result.shape == () and self.shared is None and (c := self._norm(terms)):
            parts.append(self.scaled(c, ex.matmul(ex.name("values"), ex.name("values"))))
        parts += [self.term(term, shape) for term in terms]
        constant = statement.constant
        if isinstance(constant, Array) or constant != 0.0 or not parts:
            parts.append(self.number(constant))
        return ex.ordered(parts)

    def _call(self, statement: Statement, op: Op, shape: tuple[int, ...]) -> Expression:
        first = statement.args[0]
        if isinstance(first, View) and first.places.ndim > len(shape):  # all along its last axis
            args = [self.exact(first)]
        else:
            args = [self._argument(argument, shape) for argument in statement.args]
        template = self.template(op)
        if not template:
            return ex.call(self._function(op), *args)
        by_name = {name: [x] for name, x in zip(op.arguments, args, strict=False)}
        if op.arity is None:
            by_name = {op.arguments[0]: args}
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

    def _argument(self, argument: View | float | Array, shape: tuple[int, ...]) -> Expression:
        if isinstance(argument, View):
            return self._each(argument, len(shape))
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
            factors = [self._each(left, len(shape), right is not None)]
            if right is not None:
                factors.append(self._each(right, len(shape)))
            if left.array in self.masks:
                factors.reverse()  # a mask comes last: it cannot be negated
            return self.scaled(c, *factors)
        if right is None:
            return self.scaled(c, self._total(left))
        if term.kind == "matmul":
            return self.scaled(c, self._matmul(left, right))
        if isinstance(c, Array):
            scaled = ex.product(self._array(c), self.exact(left), self.exact(right))
            return self.summed_along(scaled, left.places.shape[-1])
        return self.scaled(c, self._inner(left, right))

    def _inner(self, left: View, right: View) -> Expression:
        """The sum of products over the last axis."""
        a, b = self.exact(left), self.exact(right)
        both = self._is_batched(left) and self._is_batched(right)
        if left.places.ndim == 1 and not both:
            return ex.matmul(b, a) if self._is_batched(right) else ex.matmul(a, b)
        return self.summed_along(ex.product(a, b), left.places.shape[-1])

    def _matmul(self, left: View, right: View) -> Expression:
        if left.places.ndim == right.places.ndim == 1:
            return self._inner(left, right)
        if left.places.ndim == 2 and right.places.ndim == 2:
            return ex.matmul(self.exact(left), self._transposed(right))
        matrix, vector = (left, right) if left.places.ndim == 2 else (right, left)
        v = self.exact(vector)
        if not self._is_batched(vector):
            return ex.matmul(self.exact(matrix), v)
        if not self._is_batched(matrix):
            return ex.matmul(v, self._transposed(matrix))
        every = slice(None)
        columns = ex.matmul(self.exact(matrix), ex.item(v, every, every, None))
        return ex.item(columns, every, every, 0)

    def _total(self, view: View) -> Expression:
        """The sum over the view's last axis; along an axis of the array where it is one."""
        array, places = view.array, view.places
        name = self._array(array)
        batched = self._is_batched(view)
        if places.size == array.size:
            whole = np.arange(array.size).reshape(array.shape)
            if places.ndim == 2 and len(array.shape) == 2:
                if np.array_equal(places, whole.T):
                    return self.summed_along(name, len(whole), axis=-2)
                if np.array_equal(places, whole):
                    return self.summed_along(name, whole.shape[1])
            if places.ndim == 1 and np.array_equal(np.sort(places), np.arange(array.size)):
                if len(array.shape) == 1:
                    return self.summed_along(name, array.size, axis=-1 if batched else 0)
                return ex.method(name, "sum", *[ex.sizes(1, 2)] * batched)
        return self.summed_along(self.exact(view), places.shape[-1])

    def summed_along(self, summed: Expression, count: int, axis: int = -1) -> Expression:
        """The sum over the last axis (0 of a vector, -2 of a matrix), of so many elements."""
        # A product with ones takes half as long as NumPy's sum.
        self.constants[f"ones{count}"] = np.ones(count)
        ones = ex.name(f"ones{count}")
        return ex.matmul(ones, summed) if axis != -1 else ex.matmul(summed, ones)

    # --- views ---

    def _is_batched(self, view: View) -> bool:
        return view.array in self.batched

    def _array(self, array: Array) -> Expression:
        if array.data is None:
            return ex.name(array.name)
        if array not in self.constant_names:  # a matrix of numbers is the data, as a rule
            stem = "X" if array.data.ndim == 2 else "c"
            self.constant_names[array] = self.constant(stem, array.data)
        return ex.name(self.constant_names[array])

    def constant(self, stem: str, data: Floats | Indices) -> str:
        for name, known in self.constants.items():
            if (
                isinstance(known, np.ndarray)
                and known.dtype == data.dtype
                and known.shape == data.shape
                and np.array_equal(known, data)
            ):
                return name
        taken = {array.name for array in self.lifted.array_of} | set(self.constants)
        count = 1
        name = stem if stem == "X" else f"{stem}1"
        while name in taken:
            count += 1
            name = f"{stem}{count}"
        self.constants[name] = data
        return name

    def item(self, array: Expression, batched: bool, *index: Index) -> Expression:
        return ex.item(array, *[slice(None)] * batched, *index)

    def _reshaped(self, array: Expression, batched: bool, shape: Sequence[int]) -> Expression:
        axes = map(ex.number, [-1] * batched + [*shape])
        return ex.method(array, "reshape", *axes)

    def _each(self, view: View, axes: int, among: bool = False) -> Expression:
        """The view as an operand of an elementwise operation whose result has so many axes."""
        array, places = view.array, view.places
        batched = self._is_batched(view)
        if array in self.masks:
            argument = self.masks[array].args[0]
            assert isinstance(argument, View)
            return ex.above(self._each(argument, axes), ex.number(0.0))
        if places.size > 0 and view.is_single:
            single = self.exact(View(array, places.reshape(-1)[0].reshape(())))
            return ex.item(single, slice(None), *[None] * axes) if batched and axes else single
        row = column = None
        if axes == 2 and places.ndim == 1:  # the right side of an outer product
            row = places
        elif axes == 2 and places.shape[0] > 1 and np.all(places == places[:1]):
            row = places[0]
        elif (axes == 2 and places.shape[1] > 1 and np.all(places == places[:, :1])) or (
            axes == 2 and places.shape[1] == 1 and among
        ):
            column = places[:, 0]
        if row is not None:
            along = self.exact(View(array, row))
            return ex.item(along, slice(None), None) if batched else along
        if column is not None:
            return self.item(self.exact(View(array, column)), batched, slice(None), None)
        return self.exact(view)

    def _transposed(self, view: View) -> Expression:
        if self._is_batched(view):
            return self.exact(View(view.array, view.places.T))
        return ex.transposed(self.exact(view))

    def exact(self, view: View) -> Expression:
        """The view with the axes that its places have (after the batch's)."""
        array, places = view.array, view.places
        name, batched = self._array(array), self._is_batched(view)
        if places.ndim > 2:
            return self._reshaped(
                self.exact(View(array, places.reshape(-1))), batched, places.shape
            )
        if array.shape == () and places.ndim == 0:
            return name
        if array.shape == ():
            if batched:
                return self._repeated(name, places.shape)
            return ex.product(name, self.new("ones", ex.sizes(*places.shape)))
        if places.ndim and view.is_all:
            if places.shape == array.shape:
                return name
            if places.ndim == 1 and array.shape[0] == 1:
                return self.item(name, batched, 0)
            if places.ndim == 1 and not batched:
                return ex.method(name, "ravel")
            return self._reshaped(name, batched, places.shape)
        if (index := view.index()) is not None:
            return self.item(name, batched, *index)
        if places.ndim == 1 and len(array.shape) == 2 and (part := progression(places)) is not None:
            flat = (
                self._reshaped(name, True, (array.size,)) if batched else ex.method(name, "ravel")
            )
            return self.item(flat, batched, part)
        if places.ndim == 2 and (index := View(array, places.T).index()) is not None:
            block = self.item(name, batched, *index) if index else name
            turned = map(ex.number, (0, 2, 1))
            return ex.method(block, "transpose", *turned) if batched else ex.transposed(block)
        if len(array.shape) == 1 and (rows := self._block(array, places, batched)) is not None:
            return rows
        where = self.constant("places", places)
        if len(array.shape) == 1:
            return self.item(name, batched, where)
        if not batched:
            return ex.method(name, "take", ex.name(where))
        return self.item(self._reshaped(name, True, (array.size,)), True, where)

    def _block(self, array: Array, places: Indices, batched: bool) -> Expression | None:
        """Equally long rows of a vector, at equal distances, as a matrix; None if they are not."""
        if places.ndim != 2:
            return None
        m, n = places.shape
        base, stride = int(places[0, 0]), int(places[1, 0] - places[0, 0]) if m > 1 else n
        stop = base + m * stride
        regular = base + stride * np.arange(m)[:, None] + np.arange(n)
        if not n <= stride or stop > array.size or not np.array_equal(places, regular):
            return None
        rows = self.item(self._array(array), batched, slice(base, stop, 1))
        rows = self._reshaped(rows, batched, (m, stride))
        return rows if n == stride else self.item(rows, batched, slice(None), slice(0, n, 1))


# How the table writes over NumPy what `_masks` looks for.
_RELU, _STEP = "xp.maximum(@x, 0.0)", "xp.heaviside(@x, 0.0)"


def _is_narrow(statement: Statement) -> bool:
    """Whether all elements are the same, though the result has axes."""
    numbers = [*statement.args, statement.constant, *(t.coefficient for t in statement.terms)]
    return (
        all(term.kind == "each" for term in statement.terms)
        and all(view.is_single for view in statement.views)
        and not any(isinstance(x, Array) for x in numbers)
    )


def _fills(term: Term, size: int) -> bool:
    """Whether a term alone has as many elements as the result."""
    if term.kind != "each":
        return True
    return any(v.places.size == size == len(np.unique(v.places)) for v in term.views)
