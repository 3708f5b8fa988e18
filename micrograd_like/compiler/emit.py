"""Third step: the lifted program as Python source over NumPy, meant to be read.

Arrays have the axes that the lifter gave them, and those that differ from one example of a batch to
the next have one more, in front: they are *batched*. The same statements are written for both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, ClassVar

import numpy as np

from .. import ops
from ..ops import Op
from . import arrays
from .form import Array, Floats, Indices, Lifted, Statement, Term, View
from .tape import word

# How rows of the table are written over NumPy, where it has the function. Other rows are applied
# element by element.
_NUMPY: dict[Op, str] = {
    ops.exp: "np.exp(@x)", ops.expm1: "np.expm1(@x)", ops.log1p: "np.log1p(@x)",
    ops.log: "np.log(@x)", ops.ieee_log: "np.log(@x)", ops.sqrt: "np.sqrt(@x + 0.0)",
    ops.tanh: "np.tanh(@x)", ops.sin: "np.sin(@x)", ops.cos: "np.cos(@x)", ops.tan: "np.tan(@x)",
    ops.asin: "np.arcsin(@x)", ops.acos: "np.arccos(@x)", ops.atan: "np.arctan(@x)",
    ops.sinh: "np.sinh(@x)", ops.cosh: "np.cosh(@x)", ops.asinh: "np.arcsinh(@x)",
    ops.acosh: "np.arccosh(@x)", ops.atanh: "np.arctanh(@x)", ops.absolute: "np.abs(@x)",
    ops.relu: "np.maximum(@x, 0.0)", ops.step: "np.heaviside(@x, 0.0)", ops.sign: "np.sign(@x)",
    ops.maximum: "np.maximum(@x, @y)", ops.minimum: "np.minimum(@x, @y)",
    ops.atan2: "np.arctan2(@y, @x)", ops.hypot: "np.hypot(@x, @y)",
    ops.logaddexp: "np.logaddexp(@x, @y)", ops.softplus: "np.logaddexp(@x, 0.0)",
    ops.div: "@x / @y", ops.ieee_div: "@x / @y",
    ops.sech: "1.0 / np.cosh(@x)",
}  # fmt: skip


_MOST_TERMS = 100


class Source:
    """The text of `program(values)`, and the constants that it reads, by their names.

    `masked` says that derivatives of kinks are masks, which lose NaN.
    """

    def __init__(self, text: str, constants: dict[str, Any], masked: bool) -> None:
        self.text = text
        self.constants = constants
        self.masked = masked


def emit(
    lifted: Lifted,
    blocks: Sequence[tuple[str, int]],
    batched: bool = False,
    exact: bool = False,
    emitter: type[Emitter] | None = None,
) -> Source:
    """The source of the program, which returns its outputs in blocks: a name and a size each.

    The first may be a single number, of size 0; the others are arrays. With `batched` the program
    takes a row of values for each example. With `exact` NaN is never masked away by the derivative
    of a kink. `emitter` writes for another library than NumPy.
    """
    return (emitter or Emitter)(lifted, batched, exact).source(blocks)


def emit_step(
    lifted: Lifted, parameters: int, outputs: int, emitter: type[Emitter] | None = None
) -> Source:
    """The source of `program(values, examples)`, traced from one example, for a batch of them.

    The first inputs are the parameters, whose numbers are `values`; the others are an example,
    a row of `examples`. It returns the mean of the first output over the examples, the next
    `outputs` of each example, and of what is left, a gradient, the mean again.
    """
    return (emitter or Emitter)(lifted, False, True, parameters).step(outputs)


# What goes into an array: elements of another (or a number), at these positions, from these places.
Piece = tuple[Array | None, Any, Any]


class Emitter:
    """Writes for NumPy. What another library says in other words are `rows` and methods below."""

    rows: ClassVar[dict[Op, str]] = _NUMPY

    def __init__(
        self, lifted: Lifted, batched: bool, exact: bool, parameters: int | None = None
    ) -> None:
        self.lifted = lifted
        self.parameters = parameters
        self.constants: dict[str, Any] = {}
        self.functions: dict[Op, str] = {}
        self.known: dict[int, str] = {}  # names of constants
        self.arrays = {a.number: a for a in lifted.array_of}
        self.batched: set[int] = set()
        if batched:
            self.batched = {s.result.number for s in lifted.statements}
            self.batched |= {array.number for array, _ in lifted.inputs}
        elif parameters is not None:
            self.batched = {
                array.number
                for array, numbers in lifted.inputs
                if len(numbers) and self._is_of_examples(numbers[0])
            }
            for statement in lifted.statements:
                if any(map(self._is_batched, _views(statement))):
                    self.batched.add(statement.result.number)
        self.batch = batched
        self.given = "values" if parameters is None else "examples"  # what has a batch's rows
        self.masks: set[int] = set() if exact else self._masks()
        self.lines: list[str] = []
        self.said_once: set[int] = set()  # terms of statements that are written elsewhere

    def _is_of_examples(self, number: int) -> bool:
        return self.parameters is not None and number >= self.parameters

    # --- the whole ---

    def source(self, blocks: Sequence[tuple[str, int]]) -> Source:
        for array, numbers in self.lifted.inputs:
            self._take_input(array, numbers, "values", self.lifted.tape.inputs)
        start = 0
        fills: list[tuple[str, int, list[Piece], float | None]] = []
        for name, size in blocks:
            if size:
                outputs = self.lifted.tape.outputs[start : start + size]
                pieces = self._pieces(outputs)
                decay = self._decay(outputs, pieces) if name == "gradient" else None
                fills.append((name, size, pieces, decay))
            start += size or 1
        for statement in self.lifted.statements:
            if statement.result.number not in self.masks:
                self._statement(statement)
        for name, size, pieces, decay in fills:
            self._assemble(name, size, pieces, decay)
        number = self.lifted.tape.outputs[0]
        results = [name if size else self._output(number) for name, size in blocks]
        self.lines.append(f"return {', '.join(results)}")
        return self._finished("values")

    def step(self, outputs: int) -> Source:
        count = self.parameters
        assert count is not None
        for array, numbers in self.lifted.inputs:
            given = array.number in self.batched
            name, size = (
                ("examples", self.lifted.tape.inputs - count) if given else ("values", count)
            )
            self._take_input(array, numbers - count if given else numbers, name, size)
        value, *rest = self.lifted.tape.outputs
        results = self._pieces(rest[:outputs])
        pieces = self._pieces(rest[outputs:])
        used = self._uses()
        used.update(piece[0].number for piece in results if piece[0] is not None)
        ends = {
            array.number
            for array, _, places in pieces
            if array is not None and not used[array.number] and len(places) == array.size
        }
        for statement in self.lifted.statements:
            result = statement.result
            if result.number in ends and result.number in self.batched and not statement.op:
                self.lines.append(f"{result.name} = {self._summed(statement)}")
                self.batched.discard(result.number)
            else:
                ends.discard(result.number)
                self._statement(statement)
        shown = ["outputs"]
        whole = results[0][0] if len(results) == 1 else None
        if (
            whole is not None
            and whole.number in self.batched
            and (whole.shape == (outputs,) and np.array_equal(results[0][1], results[0][2]))
        ):
            self.lines.append(f"outputs = {whole.name}")
        else:
            self.batch = True
            self._assemble("outputs", outputs, results)
            self.batch = False
        if pieces:
            self._gradient(rest[outputs:], pieces, ends)
            shown.append("gradient")
        mean = self._output(value)
        if isinstance(value, int) and self.lifted.array_of[value].number in self.batched:
            mean = f"{_factor(self._over_examples(mean, 0))} / len(examples)"
        self.lines.append(f"return {mean}, {', '.join(shown)}")
        return self._finished("values, examples")

    def _finished(self, arguments: str) -> Source:
        body = "\n".join(f"    {line}" for line in self.lines)
        return Source(f"def program({arguments}):\n{body}\n", self.constants, bool(self.masks))

    def _take_input(self, array: Array, numbers: Indices, name: str, size: int) -> None:
        batched = array.number in self.batched
        text = self._part(name, size, numbers, array.shape, batched)
        if text is None:
            text = self._item(name, batched, self._constant("places", numbers))
            if len(array.shape) > 1:
                text = self._reshaped(text, batched, array.shape)
        if text != array.name:
            self.lines.append(f"{array.name} = {text}")

    def _summed(self, statement: Statement) -> str:
        """The sum of a statement's result over the examples."""
        shape = statement.result.shape
        parts = [self._summed_term(term, shape) for term in statement.terms]
        constant = statement.constant
        if isinstance(constant, Array):
            parts.append(f"len(examples) * {self._array(constant)}")
        elif constant != 0.0 or not parts:
            parts.append(f"len(examples) * {_number(constant)}")
        return _joined(parts)

    def _summed_term(self, term: Term, shape: tuple[int, ...]) -> str:
        left, right = term.left, term.right
        batched = [v for v in (left, right) if v is not None and self._is_batched(v)]
        if not batched:
            return f"len(examples) * {_factor(self._term(term, shape))}"
        text = None
        if term.kind == "each" and right is None:
            text = self._over_examples(self._each(left, len(shape)), len(shape), left)
        elif term.kind == "each" and right is not None and len(batched) == 2:
            text = self._summed_product(left, right, shape)
        if text is None:
            return f"({self._term(term, shape)}).sum(0)"
        return self._scaled(term.coefficient, text)

    def _over_examples(self, text: str, axes: int, view: View | None = None) -> str:
        """The sum of what has so many axes after that of the examples."""
        if axes > 1 or (view is not None and view.places.ndim != axes) or "None" in text:
            return f"{_factor(text)}.sum(0)"
        line = f"ones = {self._new('ones', 'len(examples)')}"
        if line not in self.lines:
            self.lines.insert(0, line)
        return f"ones @ {_factor(text)}"

    def _summed_product(self, left: View, right: View, shape: tuple[int, ...]) -> str | None:
        """Over the examples, a product of what differs in each is a matrix product, if outer."""
        for x, y in ((left, right), (right, left)):
            if _is_single(x) and len(shape) == 1 and y.places.shape == shape:
                single = self._exact(View(x.array, x.places.reshape(-1)[0].reshape(())))
                return f"{_factor(single)} @ {_factor(self._exact(y))}"
            if len(shape) == 2:
                column = x.places.ndim == 2 and bool(np.all(x.places == x.places[:, :1]))
                row = y.places.ndim == 1 or bool(np.all(y.places == y.places[:1]))
                if column and row and x.places.shape[0] == shape[0]:
                    a = _factor(self._exact(View(x.array, x.places[:, 0])))
                    b = y.places if y.places.ndim == 1 else y.places[0]
                    return f"{a}.T @ {_factor(self._exact(View(y.array, b)))}"
        return None

    def _output(self, output: int | float) -> str:
        if isinstance(output, float):
            number = _number(output)
            return self._new("full", f"len({self.given}), {number}") if self.batch else number
        array = self.lifted.array_of[output]
        return self._exact(View(array, self.lifted.place_of[output].reshape(())))

    def _pieces(self, outputs: Sequence[int | float]) -> list[Piece]:
        """The positions in the gradient that come from each array, and their places there."""
        by_array: dict[int, tuple[list[int], list[int]]] = {}
        fixed: dict[float, list[int]] = {}
        for position, output in enumerate(outputs):
            if isinstance(output, float):
                fixed.setdefault(output, []).append(position)
            else:
                array = self.lifted.array_of[output]
                positions, places = by_array.setdefault(array.number, ([], []))
                positions.append(position)
                places.append(int(self.lifted.place_of[output]))
        pieces: list[Piece] = []
        for number, (positions, places) in by_array.items():
            order = np.argsort(places, kind="stable")
            pieces.append((self.arrays[number], np.asarray(positions)[order],
                           np.asarray(places)[order]))  # fmt: skip
        pieces += [(None, np.asarray(positions), x) for x, positions in fixed.items()]
        return pieces

    def _assemble(
        self,
        name: str,
        size: int,
        pieces: Sequence[Piece],
        decay: float | None = None,
        ends: set[int] | None = None,
    ) -> None:
        """An array of its pieces, plus `decay` times the values.

        With `ends` it has their sums over the examples: arrays in `ends` are such sums already.
        """
        shape = f"(len({self.given}), {size})" if self.batch else str(size)
        first = self._new("empty", shape) if decay is None else f"{_number(decay)} * values"
        self.lines.append(f"{name} = {first}")
        for piece in pieces:
            total = ends is not None and not (piece[0] is not None and piece[0].number in ends)
            self._fill(name, size, piece, "=" if decay is None else "+=", total)

    def _gradient(
        self, outputs: Sequence[int | float], pieces: Sequence[Piece], ends: set[int]
    ) -> None:
        """The mean over the examples, of outputs that come in these pieces."""
        self._assemble("gradient", len(outputs), pieces, ends=ends)
        self.lines.append("gradient *= 1.0 / len(examples)")

    def _fill(self, target: str, size: int, piece: Piece, assign: str, total: bool = False) -> None:
        """Assign a piece of an array; with `total`, its sum over the examples."""
        array, positions, places = piece
        if array is None:
            value = _number(places)
            shape: tuple[int, ...] = (len(positions),)
        elif len(positions) == 1:
            value = self._exact(View(array, places.reshape(())))
            single = self._item(target, self.batch, str(positions[0]))
            value = self._totalled(value, array) if total else value
            self.lines.append(f"{single} {assign} {value}")
            return
        else:
            whole = len(places) == array.size and np.array_equal(places, np.arange(array.size))
            shape = array.shape if whole else (len(places),)
            if _slice(positions) or self._part(target, size, positions, shape, self.batch) is None:
                shape = (len(places),)
            value = self._exact(View(array, places.reshape(shape)))
        value = self._totalled(value, array) if total else value
        where = self._part(target, size, positions, shape, self.batch)
        if where is None:
            where = self._item(target, self.batch, self._constant("places", positions))
        elif where == target:
            where = f"{target}[:]"
        self.lines.append(f"{where} {assign} {value}")

    def _totalled(self, value: str, array: Array | None) -> str:
        if array is not None and array.number in self.batched:
            return self._over_examples(value, len(array.shape))
        return f"len(examples) * {_factor(value)}"

    def _decay(self, outputs: Sequence[int | float], pieces: Sequence[Piece]) -> float | None:
        """c, where each component of the gradient has the term c · (its own variable).

        That is the gradient of a penalty: `gradient = c * values` says it in one operation.
        The statements then go without these terms.
        """
        if self.batch or len(outputs) != self.lifted.tape.inputs:
            return None
        found: list[tuple[Statement, Term]] = []
        statements = {s.result.number: s for s in self.lifted.statements}
        used = self._uses()
        elsewhere = Counter(
            self.lifted.array_of[o].number for o in self.lifted.tape.outputs if isinstance(o, int)
        )
        for array, positions, places in pieces:
            statement = statements.get(array.number) if array is not None else None
            if statement is None or array is None or used[array.number]:
                return None
            if elsewhere[array.number] != len(positions):
                return None
            if len(places) != array.size or len(statement.terms) < 2:
                return None
            for term in statement.terms:
                if (
                    term.kind == "each"
                    and term.right is None
                    and not isinstance(term.coefficient, Array)
                ):
                    numbers = self._numbers(term.left)
                    rest = [t for t in statement.terms if t is not term]
                    if (
                        numbers is not None
                        and np.array_equal(numbers.reshape(-1), positions)
                        and any(_fills(t, array.size) for t in rest)
                    ):
                        found.append((statement, term))
                        break
            else:
                return None
        coefficients = {term.coefficient for _, term in found}
        if len(coefficients) != 1:
            return None
        self.said_once = {id(term) for _, term in found}
        return float(next(iter(coefficients)))  # type: ignore[arg-type]

    def _numbers(self, view: View) -> Indices | None:
        """Which inputs the elements of a view are; None if they are none."""
        for array, numbers in self.lifted.inputs:
            if array is view.array:
                return np.asarray(numbers)[view.places]
        return None

    def _uses(self) -> Counter[int]:
        """How often the statements read each array."""
        uses: Counter[int] = Counter()
        for statement in self.lifted.statements:
            for view in _views(statement):
                uses[view.array.number] += 1
        return uses

    def _masks(self) -> set[int]:
        """The arrays of steps, 1(z > 0), that are written `(z > 0)` where they are factors.

        A NaN in z must not be masked away: it shows in the value, since relu(z) is computed too.
        """
        if any(s.op is ops.where for s in self.lifted.statements):
            self.mask_of: dict[int, Statement] = {}
            return set()  # NaN may be chosen away
        rectified = {
            s.args[0].array.number
            for s in self.lifted.statements
            if s.op is ops.relu and isinstance(s.args[0], View)
        }
        masks = {
            s.result.number: s
            for s in self.lifted.statements
            if s.op is ops.step
            and isinstance(s.args[0], View)
            and s.args[0].array.number in rectified
            and _is_whole(s.args[0])
        }
        for statement in self.lifted.statements:
            for term in statement.terms:
                views = [v for v in (term.left, term.right) if v is not None]
                # Among masks alone, * and + and - would be those of booleans.
                alone = term.coefficient in (1.0, -1.0) and all(
                    view.array.number in masks for view in views
                )
                for view in views:
                    if term.kind != "each" or not _is_whole(view) or alone:
                        masks.pop(view.array.number, None)
            for arg in statement.args:
                if isinstance(arg, View):
                    masks.pop(arg.array.number, None)
        for output in self.lifted.tape.outputs:
            if isinstance(output, int):
                masks.pop(self.lifted.array_of[output].number, None)
        self.mask_of = masks
        return set(masks)

    # --- statements ---

    def _statement(self, statement: Statement) -> None:
        name, shape = statement.result.name, statement.result.shape
        narrow = shape != () and _is_narrow(statement)
        inner = () if narrow else shape
        if statement.op is not None:
            lines = [self._call(statement, inner)]
        else:
            parts = self._sum(statement, inner)
            # Python's compiler recurses into sums: long ones are written in several lines.
            lines = [_joined(parts[:_MOST_TERMS])]
            for first in range(_MOST_TERMS, len(parts), _MOST_TERMS):
                lines.append(_joined([name, *parts[first : first + _MOST_TERMS]]))
        if narrow:  # equal elements: one is computed
            lines[-1] = f"np.multiply.outer({lines[-1]}, {self._new('ones', str(shape))})"
        self.lines += [f"{name} = {line}" for line in lines]

    def _sum(self, statement: Statement, shape: tuple[int, ...]) -> list[str]:
        parts = []
        terms = [term for term in statement.terms if id(term) not in self.said_once]
        whole = self.parameters is None and not self.batch
        if statement.result.shape == () and whole and (c := self._norm(terms)):
            parts.append("values @ values" if c == 1.0 else f"{_number(c)} * (values @ values)")
        parts += [self._term(term, shape) for term in terms]
        constant = statement.constant
        if isinstance(constant, Array):
            parts.append(self._array(constant))
        elif constant != 0.0 or not parts:
            parts.append(_number(constant))
        # What is subtracted comes later: -y + x is one operation more than x - y.
        leading = next((k for k, part in enumerate(parts) if not part.startswith("-")), 0)
        return [parts[leading], *parts[:leading], *parts[leading + 1 :]]

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
        coefficients = {t.coefficient for t in squares}
        if len(squares) < 2 or len(coefficients) != 1:
            return 0.0
        (c,) = coefficients
        covered = np.sort(np.concatenate(numbers))
        if isinstance(c, Array) or not np.array_equal(covered, np.arange(self.lifted.tape.inputs)):
            return 0.0
        for term in squares:
            terms.remove(term)
        return c

    def _call(self, statement: Statement, shape: tuple[int, ...]) -> str:
        op = statement.op
        assert op is not None
        first = statement.args[0]
        if op is ops.logsumexp and isinstance(first, View) and first.places.ndim > len(shape):
            return self._logsumexp(self._exact(first))
        args = [self._argument(a, shape) for a in statement.args]
        template = self.rows.get(op)
        if template is None:
            return f"{self._function(op)}({', '.join(args)})"
        by_name = dict(zip(op.arguments, args, strict=True))
        infix = template.startswith("@")
        if infix and not any(isinstance(a, View) and a.array.data is None for a in statement.args):
            return f"{self._function(op)}({', '.join(args)})"
        return re.sub(r"@(\w+)", lambda m: by_name[m[1]], template)

    def _function(self, op: Op) -> str:
        if op not in self.functions:
            name = f"{'op_' * op.name[:1].isdigit()}{word(op.name)}_"
            while name in (*self.constants, "logsumexp_rows_"):  # rows of one name, of the user's
                name += "_"
            self.constants[name] = self._row_function(op)
            self.functions[op] = name
        return self.functions[op]

    def _row_function(self, op: Op) -> Callable[..., Any]:
        return arrays.function(op, np) or arrays.elementwise(op)

    def _logsumexp(self, text: str) -> str:
        """Over the last axis."""
        self.constants["logsumexp_rows_"] = lambda x: arrays.logsumexp(np, x)
        return f"logsumexp_rows_({text})"

    def _new(self, kind: str, arguments: str) -> str:
        """A new array: np.ones(3), say."""
        return f"np.{kind}({arguments})"

    def _argument(self, argument: View | float | Array, shape: tuple[int, ...]) -> str:
        if isinstance(argument, View):
            return self._each(argument, len(shape))
        return self._array(argument) if isinstance(argument, Array) else _number(argument)

    def _term(self, term: Term, shape: tuple[int, ...]) -> str:
        c = term.coefficient
        sign = scale = ""
        if isinstance(c, Array):
            scale = self._array(c)
        elif c != 1.0:
            sign = "-" if c < 0.0 else ""
            scale = "" if abs(c) == 1.0 else _number(abs(c))
        factors = [scale] if scale else []
        if term.kind == "matmul":
            assert term.right is not None
            text = self._matmul(term.left, term.right)
            factors.append(_factor(text) if factors or sign else text)
        elif term.kind == "each":
            parts = [_factor(self._each(term.left, len(shape), term.right is not None))]
            if term.right is not None:
                parts.append(_factor(self._each(term.right, len(shape))))
            if term.left.array.number in self.masks:
                parts.reverse()  # a mask comes last: it cannot be negated
            factors += parts
        elif term.right is None:
            text = self._total(term.left)
            factors.append(f"({text})" if (factors or sign) and "@" in text else text)
        elif isinstance(c, Array):
            product = f"{scale} * {_factor(self._exact(term.left))} * "
            product += _factor(self._exact(term.right))
            factors = [self._summed_along(product, term.left.places.shape[-1])]
        else:
            text = self._inner(term.left, term.right)
            factors.append(_factor(text) if factors or sign else text)
        return sign + " * ".join(factors)

    def _scaled(self, c: float | Array, text: str) -> str:
        if isinstance(c, Array):
            return f"{self._array(c)} * {_factor(text)}"
        if c == 1.0:
            return text
        sign = "-" if c < 0.0 else ""
        return f"{sign}{_factor(text)}" if abs(c) == 1.0 else f"{_number(c)} * {_factor(text)}"

    def _inner(self, left: View, right: View) -> str:
        """The sum of products over the last axis."""
        a, b = _factor(self._exact(left)), _factor(self._exact(right))
        both = self._is_batched(left) and self._is_batched(right)
        if left.places.ndim == 1 and not both:
            return f"{b} @ {a}" if self._is_batched(right) else f"{a} @ {b}"
        return self._summed_along(f"{a} * {b}", left.places.shape[-1])

    def _matmul(self, left: View, right: View) -> str:
        if left.places.ndim == right.places.ndim == 1:
            return self._inner(left, right)
        if left.places.ndim == 2 and right.places.ndim == 2:
            return f"{_factor(self._exact(left))} @ {self._transposed(right)}"
        matrix, vector = (left, right) if left.places.ndim == 2 else (right, left)
        v = _factor(self._exact(vector))
        if not self._is_batched(vector):
            return f"{_factor(self._exact(matrix))} @ {v}"
        if not self._is_batched(matrix):
            return f"{v} @ {self._transposed(matrix)}"
        return f"({_factor(self._exact(matrix))} @ {v}[:, :, None])[:, :, 0]"

    def _total(self, view: View) -> str:
        """The sum over the view's last axis; along an axis of the array where it is one."""
        array, places = view.array, view.places
        name = self._array(array)
        batched = self._is_batched(view)
        if places.size == array.size:
            whole = np.arange(array.size).reshape(array.shape)
            if places.ndim == 2 and len(array.shape) == 2:
                if np.array_equal(places, whole.T):
                    return self._summed_along(name, len(whole), axis=-2)
                if np.array_equal(places, whole):
                    return self._summed_along(name, whole.shape[1])
            if places.ndim == 1 and np.array_equal(np.sort(places), np.arange(array.size)):
                if len(array.shape) == 1:
                    return self._summed_along(name, array.size, axis=-1 if batched else 0)
                return f"{name}.sum({(1, 2) if batched else ''})"
        return self._summed_along(self._exact(view), places.shape[-1])

    def _summed_along(self, text: str, count: int, axis: int = -1) -> str:
        """The sum over the last axis (0 of a vector, -2 of a matrix), of so many elements."""
        # A product with ones takes half as long as NumPy's sum.
        ones = f"ones{count}"
        self.constants[ones] = np.ones(count)
        return f"{ones} @ {_factor(text)}" if axis != -1 else f"{_factor(text)} @ {ones}"

    # --- views ---

    def _is_batched(self, view: View) -> bool:
        return view.array.number in self.batched

    def _array(self, array: Array) -> str:
        if array.data is None:
            return array.name
        if array.number not in self.known:  # a matrix of numbers is the data, as a rule
            stem = "X" if array.data.ndim == 2 else "c"
            self.known[array.number] = self._constant(stem, array.data)
        return self.known[array.number]

    def _constant(self, stem: str, data: Floats | Indices) -> str:
        for name, known in self.constants.items():
            if (
                isinstance(known, np.ndarray)
                and known.dtype == data.dtype
                and known.shape == data.shape
                and np.array_equal(known, data)
            ):
                return name
        taken = {array.name for array in self.arrays.values()} | set(self.constants)
        count = 1
        name = stem if stem == "X" else f"{stem}1"
        while name in taken:
            count += 1
            name = f"{stem}{count}"
        self.constants[name] = data
        return name

    def _item(self, name: str, batched: bool, *index: str) -> str:
        return f"{name}[{', '.join([':', *index] if batched else index)}]"

    def _reshaped(self, text: str, batched: bool, shape: tuple[int, ...]) -> str:
        axes = [-1, *shape] if batched else list(shape)
        return f"{text}.reshape({', '.join(map(str, axes))})"

    def _part(
        self, name: str, size: int, positions: Indices, shape: tuple[int, ...], batched: bool
    ) -> str | None:
        """Elements of a flat array as a view of a shape; None if they are not regular."""
        if shape == ():
            return self._item(name, batched, str(int(positions[0])))
        part = _slice(positions)
        if part is not None:
            whole = len(positions) == size and part == f":{size}"
            text = name if whole else self._item(name, batched, part)
            return text if len(shape) == 1 else self._reshaped(text, batched, shape)
        if len(shape) == 2:
            m, n = shape
            base, stride = int(positions[0]), int(positions[n] - positions[0]) if m > 1 else n
            regular = base + stride * np.arange(m)[:, None] + np.arange(n)
            if n < stride and np.array_equal(positions, regular.reshape(-1)):
                stop = base + m * stride
                if stop <= size:
                    block = self._item(name, batched, f"{base or ''}:{stop}")
                    block = self._reshaped(block, batched, (m, stride))
                    return self._item(block, batched, ":", f":{n}")
        return None

    def _each(self, view: View, axes: int, among: bool = False) -> str:
        """The view as an operand of an elementwise operation whose result has so many axes."""
        array, places = view.array, view.places
        batched = self._is_batched(view)
        if array.number in self.masks:
            argument = self.mask_of[array.number].args[0]
            assert isinstance(argument, View)
            return f"({self._each(argument, axes)} > 0.0)"
        if places.size > 0 and _is_single(view):
            text = self._exact(View(array, places.reshape(-1)[0].reshape(())))
            return text + (f"[:{', None' * axes}]" if batched and axes else "")
        if places.ndim == 2 and axes == 2:
            if places.shape[0] > 1 and np.all(places == places[:1]):
                row = self._exact(View(array, places[0]))
                return f"{row}[:, None]" if batched else row
            if places.shape[1] > 1 and np.all(places == places[:, :1]):
                column = self._exact(View(array, places[:, 0]))
                return self._item(column, batched, ":", "None")
            if places.shape[1] == 1 and among:  # the left side of an outer product
                column = self._exact(View(array, places[:, 0]))
                return self._item(column, batched, ":", "None")
        if places.ndim == 1 and axes == 2:  # the right side of an outer product
            row = self._exact(view)
            return f"{row}[:, None]" if batched else row
        return self._exact(view)

    def _transposed(self, view: View) -> str:
        turned = View(view.array, view.places.T)
        if not self._is_batched(view):
            text = _factor(self._exact(view))
            return text.removesuffix(".T") if text.endswith(".T") else f"{text}.T"
        return _factor(self._exact(turned))

    def _exact(self, view: View) -> str:
        """The view with the axes that its places have (after the batch's)."""
        array, places = view.array, view.places
        name, batched = self._array(array), self._is_batched(view)
        if places.ndim > 2:
            row = self._exact(View(array, places.reshape(-1)))
            return self._reshaped(row, batched, places.shape)
        if array.shape == ():
            if places.ndim == 0:
                return name
            ones = self._new("ones", str(places.shape))
            return f"np.multiply.outer({name}, {ones})" if batched else f"({name} * {ones})"
        if places.ndim == 0:
            return self._item(name, batched, *self._index(array, int(places)))
        flat = places.reshape(-1)
        if len(flat) == array.size and np.array_equal(flat, np.arange(array.size)):
            if places.shape == array.shape:
                return name
            if places.ndim == 1 and array.shape[0] == 1:
                return self._item(name, batched, "0")
            if places.ndim == 1 and not batched:
                return f"{name}.ravel()"
            return self._reshaped(name, batched, places.shape)
        if places.ndim == 1:
            return self._row(array, name, batched, places)
        return self._block(array, name, batched, places)

    def _row(self, array: Array, name: str, batched: bool, places: Indices) -> str:
        part = _slice(places)
        if len(array.shape) == 1:
            if part is None:
                part = self._constant("places", places)
            return self._item(name, batched, part)
        p, q = array.shape
        rows, columns = places // q, places % q
        if np.ptp(rows) == 0 and (within := _slice(columns)) is not None:
            index = [str(rows[0])] if len(places) == q else [str(rows[0]), within]
            return self._item(name, batched, *index)
        if np.ptp(columns) == 0 and (within := _slice(rows)) is not None:
            within = ":" if len(places) == p else within
            return self._item(name, batched, within, str(columns[0]))
        flat = self._reshaped(name, batched, (array.size,)) if batched else f"{name}.ravel()"
        if part is not None:
            return self._item(flat, batched, part)
        return self._gather(array, name, batched, places)

    def _block(self, array: Array, name: str, batched: bool, places: Indices) -> str:
        if len(array.shape) == 2:
            p, q = array.shape
            turn = ".transpose(0, 2, 1)" if batched else ".T"
            for part, after in ((places, ""), (places.T, turn)):
                rows, columns = part[:, 0] // q, part[0] % q
                if np.array_equal(part, rows[:, None] * q + columns):
                    r, c = _slice(rows), _slice(columns)
                    if r is not None and c is not None:
                        index = [":" if len(rows) == p else r]
                        index += [] if len(columns) == q else [c]
                        text = name if index == [":"] else self._item(name, batched, *index)
                        return f"{text}{after}"
        return self._gather(array, name, batched, places)

    def _gather(self, array: Array, name: str, batched: bool, places: Indices) -> str:
        where = self._constant("places", places)
        if not batched:
            return f"{name}[{where}]" if len(array.shape) == 1 else f"{name}.take({where})"
        flat = name if len(array.shape) == 1 else self._reshaped(name, True, (array.size,))
        return f"{flat}[:, {where}]"

    def _index(self, array: Array, place: int) -> list[str]:
        if len(array.shape) == 2:
            return [str(place // array.shape[1]), str(place % array.shape[1])]
        return [str(place)]


def _joined(parts: list[str]) -> str:
    """The parts as a sum. What is subtracted comes later: -y + x is one operation more."""
    leading = next((k for k, part in enumerate(parts) if not part.startswith("-")), 0)
    parts = [parts[leading], *parts[:leading], *parts[leading + 1 :]]
    text = parts[0]
    for part in parts[1:]:
        text += f" - {part[1:]}" if part.startswith("-") else f" + {part}"
    return text


def _is_narrow(statement: Statement) -> bool:
    """Whether all elements are the same, though the result has axes."""
    views = _views(statement)
    arrays_too = [*statement.args, statement.constant, *(t.coefficient for t in statement.terms)]
    simple = all(term.kind == "each" for term in statement.terms)
    return (
        simple and all(map(_is_single, views)) and not any(isinstance(x, Array) for x in arrays_too)
    )


def _fills(term: Term, size: int) -> bool:
    """Whether a term alone has as many elements as the result."""
    if term.kind != "each":
        return True
    views = [term.left, term.right] if term.right is not None else [term.left]
    return any(view.places.size == size == len(np.unique(view.places)) for view in views)


def _is_single(view: View) -> bool:
    """Whether all of its elements are the same one."""
    return view.places.ndim == 0 or bool(np.all(view.places == view.places.flat[0]))


def _views(statement: Statement) -> list[View]:
    views = [a for a in statement.args if isinstance(a, View)]
    for term in statement.terms:
        views.append(term.left)
        if term.right is not None:
            views.append(term.right)
    return views


def _is_whole(view: View) -> bool:
    shape = view.array.shape
    return view.places.shape == shape and np.array_equal(
        view.places.reshape(-1), np.arange(view.array.size)
    )


def _slice(places: Indices) -> str | None:
    """The slice that takes these places, if one does."""
    first = int(places[0])
    if len(places) == 1:
        return f"{first}:{first + 1}"
    step = int(places[1]) - first
    if step <= 0 or not np.array_equal(places, first + step * np.arange(len(places))):
        return None
    stop = int(places[-1]) + 1
    return f"{first or ''}:{stop}" + (f":{step}" if step != 1 else "")


def _number(x: float) -> str:
    return repr(x) if isfinite(x) else f"{'-' * (x < 0.0)}np.{abs(x)}"


def _factor(text: str) -> str:
    """The text as a factor: in parentheses if it is a sum or a product."""
    depth = 0
    for c in text:
        depth += (c in "([") - (c in ")]")
        if depth == 0 and c == " ":
            return f"({text})"
    return f"({text})" if text.startswith("-") else text
