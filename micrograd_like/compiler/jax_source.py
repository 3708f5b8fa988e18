"""The lifted form as source over jax.numpy: nothing is assigned in place, and sums are sums.

What is the same as over NumPy is in `numpy_source.py`. `xla.py` runs the programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from ..ops import Op
from . import arrays
from .expressions import (
    Call,
    Expression,
    Item,
    List,
    Method,
    Minus,
    Name,
    Number,
    Operation,
    Table,
    product,
    total,
)
from .form import Array, Indices, Lifted, Statement, Term, View
from .numpy_source import NumpyPrinter, Piece


class JaxPrinter(NumpyPrinter):
    """Writes a program or a step as a pure function of JAX arrays.

    A step takes its parameters and its examples as dicts of arrays, and returns the gradient as
    one. Its last input is not given: it is the share of each example in the mean, by which the
    loss that is differentiated is multiplied.
    """

    library: ClassVar[str] = "jnp"

    def __init__(self, lifted: Lifted, shared: int | None = None) -> None:
        self.share = lifted.tape.inputs - 1  # of a step
        super().__init__(lifted, shared)
        if shared is not None:
            self.given = next(a.name for a, numbers in lifted.inputs if self._varies(numbers))
        # The square of a sech beside the tanh of the same is written with that: cosh would take
        # three times as long as all else.
        self.squares: dict[int, str] = {}  # arrays of a sech: the names of their tanh
        tanh_of = dict(_calls(lifted, _TANH))
        for argument, sech in _calls(lifted, _SECH):
            if tanh := tanh_of.get(argument):
                self.squares[sech.number] = tanh.name
        for view in [v for s in self.lifted.statements for v in _unsquared(s)]:
            self.squares.pop(view.array.number, None)
        for output in self.lifted.tape.outputs:
            if isinstance(output, int):
                self.squares.pop(self.lifted.array_of[output].number, None)

    def _varies(self, numbers: Indices) -> bool:
        return super()._varies(numbers) and int(numbers[0]) != self.share

    def _statement(self, statement: Statement) -> None:
        if statement.result.number not in self.squares:
            super()._statement(statement)

    def _term(self, term: Term, shape: tuple[int, ...]) -> Expression:
        if (name := self.squares.get(term.left.array.number)) is not None:
            one, tanh = Number(1.0), Name(name)
            square = [Operation("+", (one, Minus(tanh))), Operation("+", (one, tanh))]
            return self._scaled(term.coefficient, product(square))
        return super()._term(term, shape)

    def _template(self, op: Op) -> str:
        return op.jax

    def _namespace(self) -> Any:
        import jax.numpy as jnp

        return jnp

    def _by_element(self, op: Op) -> Callable[..., Any]:
        return _called_back(arrays.elementwise(op))

    def _new(self, kind: str, *arguments: Expression) -> Expression:
        return super()._new(kind, *arguments, Name("dtype"))

    def _summed_along(self, summed: Expression, count: int, axis: int = -1) -> Expression:
        return Method(summed, "sum", str(axis))

    def _over_examples(self, summed: Expression, axes: int, view: View | None = None) -> Expression:
        return Method(summed, "sum", "0")

    def _input(self, array: Array, numbers: Indices) -> Expression:
        if self.shared is None:
            return super()._input(array, numbers)
        if numbers[0] == self.share:
            return Operation("/", (Number(1.0), self._count()))
        where = "examples" if array.number in self.batched else "values"
        return Item(Name(where), (f'"{array.name}"',))

    def _gradient(
        self, outputs: Sequence[int | float], pieces: Sequence[Piece], ends: set[int]
    ) -> None:
        """By the parameters' arrays, each of its shape; its terms have their share of the mean."""
        entries = []
        for array, numbers in self.lifted.inputs:
            if numbers[0] >= len(outputs):
                continue
            pieces = self._pieces([outputs[i] for i in numbers])
            if len(pieces) == 1:
                source, positions, places = pieces[0]
                if source is not None:
                    places = places[np.argsort(positions)]
                piece = (source, positions, places)
                value = self._part_of(piece, array.shape, False, ends)
            else:
                value = Name(f"d_{array.name}_")
                self._assemble(value.text, array.size, pieces, False, ends=ends)
                if len(array.shape) != 1:
                    value = Method(value, "reshape", str(array.shape))
            entries.append((array.name, value))
        self._assign("gradient", Table(tuple(entries)), moves=True)

    def _assemble(
        self,
        name: str,
        size: int,
        pieces: Sequence[Piece],
        many: bool,
        decay: float | None = None,
        ends: set[int] | None = None,
    ) -> None:
        parts = [
            self._part_of(piece, (len(piece[1]),) if len(piece[1]) > 1 else (), many, ends)
            for piece in pieces
        ]
        whole = parts[0]
        stacked = size == 1 or len(parts) > 1
        if stacked:
            stack = f"{self.library}.{'column_stack' if many else 'hstack'}"
            whole = Call(stack, (List(tuple(parts)),))
        order = np.concatenate([positions for _, positions, _ in pieces])
        if not np.array_equal(order, np.arange(size)):
            whole = self._item(whole, many, self._constant("places", np.argsort(order)))
        self._assign(name, whole, moves=stacked)
        if decay is not None:
            decayed = product([self._number(decay), Name("values")])
            self._assign(name, total([decayed, Name(name)]))

    def _part_of(
        self, piece: Piece, shape: tuple[int, ...], many: bool, ends: set[int] | None
    ) -> Expression:
        """A piece as an array of this shape."""
        array, _, places = piece
        if array is None:
            part = self._new("full", Name(str(shape)), self._number(places))
        else:
            part = self._exact(View(array, places.reshape(shape)))
        batched = array is not None and array.number in self.batched
        if many and not batched:
            axes = ", ".join([f"len({self.given})", *map(str, shape)])
            rows = Name(f"({axes},)")
            return Call(f"{self.library}.broadcast_to", (part, rows))
        if ends is not None and not (array is not None and array.number in ends):
            return self._totalled(part, array)
        return part


# How the table writes what has a square without cosh.
_TANH, _SECH = "xp.tanh(@x)", "1.0 / xp.cosh(@x)"


def _calls(lifted: Lifted, template: str) -> Iterator[tuple[int, Array]]:
    """The numbers of the arrays that a function is taken of as a whole, and its results."""
    for statement in lifted.statements:
        if statement.op is not None and statement.op.jax == template:
            view = statement.args[0]
            if isinstance(view, View) and view.is_whole:
                yield view.array.number, statement.result


def _unsquared(statement: Statement) -> list[View]:
    """The views in a statement that are not, as a whole, multiplied by themselves."""
    views = [argument for argument in statement.args if isinstance(argument, View)]
    for term in statement.terms:
        square = len(term.views) == 2 and term.left.array is term.views[1].array
        if not (term.kind == "each" and square and all(view.is_whole for view in term.views)):
            views += term.views
    return views


def _called_back(elementwise: Callable[..., Any]) -> Callable[..., Any]:
    """A row of the user's, computed by Python in the midst of XLA's program.

    JAX refuses to differentiate or to export it; programs have the derivatives of their own.
    """
    import jax
    import jax.numpy as jnp

    def function(*xs: Any) -> Any:
        xs = tuple(jnp.broadcast_arrays(*xs))
        like = jax.ShapeDtypeStruct(xs[0].shape, xs[0].dtype)

        def computed(*xs: Any) -> Any:
            return np.asarray(elementwise(*map(np.asarray, xs)), like.dtype)

        return jax.pure_callback(computed, like, *xs, vmap_method="expand_dims")

    return function
