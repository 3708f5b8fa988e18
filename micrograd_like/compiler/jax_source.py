"""The lifted form as source over jax.numpy: nothing is assigned in place, and sums are sums.

What is the same as over NumPy is in `numpy_source.py`. `xla.py` runs the programs.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import ClassVar

import numpy as np

from ..ops import Op
from . import arrays
from . import expressions as ex
from .expressions import Expression, Source
from .form import Array, Indices, Lifted, Piece, Statement, Term, View, pieces
from .numpy_source import NumpyPrinter
from .padding import watched


class JaxPrinter(NumpyPrinter):
    """Writes a program or a step as a pure function of JAX arrays.

    A step takes its parameters and its examples as dicts of arrays, and returns the gradient as
    one. Its last input is not given: it is the share of each example in the mean, by which the
    loss that is differentiated is multiplied.
    """

    library: ClassVar[str] = "jnp"
    stacks: ClassVar[bool] = False  # XLA finds that out, and in which order axes are best
    takes_rows: ClassVar[bool] = False  # XLA is faster with the products

    def __init__(self, lifted: Lifted, shared: int | None = None, exactly: bool = False) -> None:
        self.share = lifted.tape.inputs - 1  # of a step
        super().__init__(lifted, shared, exactly)
        if shared is not None:
            self.given = next(a.name for a, numbers in lifted.inputs if self.varies(numbers))
        # The square of a sech beside the tanh of the same is written with that: cosh would take
        # three times as long as all else.
        tanh_of = dict(_calls(lifted, _TANH))
        squared = Counter(
            term.left.array for s in lifted.statements for term in s.terms if _is_square(term)
        )
        given_out = {lifted.array_of[o] for o in lifted.tape.outputs if isinstance(o, int)}
        self.squares = {  # arrays of a sech that is only squared, and the tanh of the same
            sech: tanh_of[argument]
            for argument, sech in _calls(lifted, _SECH)
            if argument in tanh_of
            and sech not in given_out
            and self.used[sech] == 2 * squared[sech]
        }
        # XLA makes (x + a) + b into x + (a + b), where a + b may be 0 and x + a have been rounded.
        sums = {s.result: _added(s) for s in lifted.statements if s.constant != 0.0}
        self.rounded = {*chain.from_iterable(sums.values())} & {*sums}
        # And it makes one sum of a sum of sums, whose rounding errors may be computed from both.
        totals = {s.result: found for s in lifted.statements if (found := _added(s, "total"))}
        for added in map(_added, lifted.statements):
            for array in added & {*totals}:
                self.rounded |= totals[array] & added & {*totals}

    def _source(self, arguments: str, results: Sequence[Expression]) -> Source:
        source = super()._source(arguments, results)
        if self.exactly or not self.lifted.is_padded:
            return source
        assigned = {ex.text(assignment.target) for assignment in source.assignments}
        known = {s.result for s in self.lifted.statements if s.result.name in assigned}
        arrays = watched(self.lifted.statements, known)
        return replace(source, watched=[ex.name(array.name) for array in arrays])

    def varies(self, numbers: Indices) -> bool:
        return super().varies(numbers) and int(numbers[0]) != self.share

    def statement(self, statement: Statement) -> None:
        if statement.result not in self.squares:
            super().statement(statement)
        if statement.result in self.rounded:
            name = ex.name(statement.result.name)
            bits = [ex.name(f"jnp.finfo(dtype).{part}") for part in ("nexp", "nmant")]
            self.assign(name, ex.call("jax.lax.reduce_precision", name, *bits), moves=True)

    def term(self, term: Term, shape: tuple[int, ...]) -> Expression:
        if (beside := self.squares.get(term.left.array)) is not None:
            one, tanh = ex.number(1.0), ex.name(beside.name)
            square = ex.product(ex.total([one, ex.minus(tanh)]), ex.total([one, tanh]))
            return self.scaled(term.coefficient, square)
        return super().term(term, shape)

    def template(self, op: Op) -> str:
        return op.jax

    def new(self, kind: str, *arguments: Expression) -> Expression:
        return super().new(kind, *arguments, ex.name("dtype"))

    def summed_along(self, summed: Expression, count: int, axis: int = -1) -> Expression:
        return ex.method(summed, "sum", ex.number(axis))

    def over_examples(self, summed: Expression, axes: int) -> Expression:
        return ex.method(summed, "sum", ex.number(0))

    def input(self, array: Array, numbers: Indices) -> Expression:
        if self.shared is None or array.name in self.lifted.one_hot:
            return super().input(array, numbers)
        if numbers[0] == self.share:
            return ex.quotient(ex.number(1.0), self.count())
        where = ex.name("examples" if array in self.batched else "values")
        if array.name not in self.lifted.parts:
            return ex.item(where, ast.Constant(array.name))
        parts = self.lifted.parts[array.name]
        every = ast.List([ex.item(where, ast.Constant(name)) for name, _, _ in parts])
        in_turn = np.concatenate([np.asarray(of) for _, _, of in parts])
        axis = ex.number(0 if np.array_equal(numbers, in_turn) else 1)  # of rows, or of columns
        return ex.method(ex.call("jnp.stack", every, axis), "reshape", ex.sizes(*array.shape))

    def one_hot(self, chosen: Expression, count: int) -> Expression:
        self.constants["one_hot_"] = arrays.one_hot
        return ex.call("one_hot_", chosen, ex.number(count))

    def gradient(self, outputs: Sequence[int | float], parts: Sequence[Piece]) -> None:
        """By the parameters' arrays, each of its shape; its terms have their share of the mean."""
        entries: dict[str, Expression] = {}
        for given, shape, numbers in self.lifted.given:
            if numbers[0] >= len(outputs):
                continue
            name = f"d_{given}_"
            parts = pieces(self.lifted, name, [outputs[i] for i in numbers])
            if len(parts) == 1:
                entries[given] = self._part(parts[0].by_position(), shape)
                continue
            self.assemble(name, len(numbers), parts, many=False)
            entries[given] = ex.name(name)
            if len(shape) != 1:
                entries[given] = ex.method(ex.name(name), "reshape", ex.sizes(*shape))
        self.assign(
            "gradient", ast.Dict([*map(ast.Constant, entries)], [*entries.values()]), moves=True
        )

    def assemble(self, name: str, size: int, parts: Sequence[Piece], many: bool) -> None:
        every = [
            self._part(part, part.places.shape if len(part.places) > 1 else (), many)
            for part in parts
        ]
        whole = every[0]
        stacked = size == 1 or len(every) > 1
        if stacked:
            stack = "column_stack" if many else "hstack"
            whole = ex.call(f"{self.library}.{stack}", ast.List(every))
        order = np.concatenate([part.positions for part in parts])
        if not np.array_equal(order, np.arange(size)):
            whole = self.item(whole, many, self.constant("places", np.argsort(order)))
        if self.decay and name == "gradient":
            stacked = False
            whole = ex.total([ex.product(self.number(self.decay), ex.name("values")), whole])
        self.assign(name, whole, moves=stacked)

    def _part(self, piece: Piece, shape: tuple[int, ...], many: bool = False) -> Expression:
        """A piece as an array of this shape."""
        operand, source = piece.operand(shape), piece.source
        if isinstance(operand, View):
            part = self.exact(operand)
        else:
            part = self.new("full", ex.sizes(*shape), self.number(operand))
        if many and source not in self.batched:
            rows = ex.sizes(self.count(), *shape)
            return ex.call(f"{self.library}.broadcast_to", part, rows)
        if many or not self.shared:
            return part
        return self.totalled(part, source, len(shape))


# How the table writes what has a square without cosh.
_TANH, _SECH = "xp.tanh(@x)", "1.0 / xp.cosh(@x)"


def _calls(lifted: Lifted, template: str) -> Iterator[tuple[Array, Array]]:
    """The arrays that a function is taken of as a whole, and its results."""
    for statement in lifted.statements:
        if statement.op is not None and statement.op.jax == template:
            view = statement.args[0]
            if isinstance(view, View) and view.is_whole:
                yield view.array, statement.result


def _added(statement: Statement, kind: str = "each") -> set[Array]:
    """The arrays that it adds up, element by element or along an axis, without the products."""
    return {t.left.array for t in statement.terms if (t.kind, t.right) == (kind, None)}


def _is_square(term: Term) -> bool:
    """Whether it is the square of an array, element by element."""
    alike = term.right is not None and term.left.array is term.right.array
    return alike and term.kind == "each" and all(view.is_whole for view in term.views)
