"""Which statements of the lifted program share a loop nest, and where each array lies.

Statements over one shape, each of which needs of the others only its own element, are one nest.
What is computed there and read nowhere else is never stored. An array of few operations is not
stored either: it is *cheap*, and is computed again wherever it is read.

Stored arrays lie in flat buffers, and a `Buffer` says where each element is. The longer axis of an
array is contiguous there, and is the inner loop, for SIMD. Outputs are computed in their places
where these are regular.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Final, Literal, NamedTuple

import numpy as np

from .form import Array, Indices, Lifted, Piece, Statement, Term, View, pieces
from .products import is_product
from .strides import SUMMED, affine, layout, operands, order, through

SHORT: Final = 32  # a sum of so many products is written out
_CHEAP: Final = 6  # so many operations are repeated rather than stored
_MOST_WAITING: Final = 200  # after so many statements that cannot join a nest, few more can

Blocks = Sequence[tuple[str, int]]  # names and sizes of what the program fills; 0 for one number
# How a statement's sums over an axis are taken: written out term by term; each element added up in
# a register by a loop of its own; or row after row of the operands added to the stored result.
# Products of matrices are calls of kernels.
Strategy = Literal["inline", "dot", "rows", "product"]


class Buffer(NamedTuple):
    """Where an array lies: its i-th element is at positions[i] of the buffer of this name."""

    name: str
    positions: Indices


class Nest(NamedTuple):
    """Statements of one shape that are computed element by element, in one loop nest."""

    strategy: Strategy
    statements: Sequence[Statement]


class _Read(NamedTuple):
    """A statement reads a view; `elementwise` where each of its elements reads its own there."""

    statement: Statement
    view: View
    elementwise: bool


class Plan:
    """The nests in their order, and what is stored.

    `cheap` and `buffers` go by the numbers of arrays, of which `names` has the names. `sizes` has
    the buffers that the program makes for itself, and `pieces` all that is put out, the number that
    the program returns, without a block, at last.
    """

    def __init__(self, lifted: Lifted, blocks: Blocks, names: Mapping[int, str]) -> None:
        self.inputs = {a.number: Buffer("values", np.asarray(of)) for a, of in lifted.inputs}
        reads = {statement: list(_reads(statement)) for statement in lifted.statements}
        self.readers: dict[int, list[_Read]] = defaultdict(list)
        for read in chain.from_iterable(reads.values()):
            self.readers[read.view.array.number].append(read)
        outputs = iter(lifted.tape.outputs)
        self.pieces: list[Piece] = []
        for name, size in blocks:
            self.pieces += pieces(lifted, name * bool(size), islice(outputs, size or 1))
        self.pieces.sort(key=lambda piece: piece.block == "")
        self.pieces_of: dict[int, list[Piece]] = defaultdict(list)  # each array
        for piece in self.pieces:
            if isinstance(piece.source, Array):
                self.pieces_of[piece.source.number].append(piece)
        self.cheap: dict[int, Statement] = {}
        self.costs: dict[int, int] = {}  # in operations, of cheap arrays
        # What each statement needs that is not cheap, and the statements that need an array.
        self.needs: dict[int, list[_Read]] = {}
        self.needed_by: dict[int, set[int]] = defaultdict(set)
        for statement in lifted.statements:
            self._find_needs(statement, reads[statement])
        self.strategies = {s.result.number: self._strategy(s) for s in lifted.statements}
        self.nests = list(self._nests(lifted.statements))
        self.buffers = dict(self.inputs)
        self.sizes: dict[str, int] = {}
        for nest in self.nests:
            for statement in nest.statements:
                if statement.result.shape != ():
                    self._store(statement.result, nest, names[statement.result.number])

    # --- what is computed again ---

    def _find_needs(self, statement: Statement, reads: Sequence[_Read]) -> None:
        number = statement.result.number
        cost = sum(1 + self.costs.get(read.view.array.number, 0) for read in reads)
        if cost <= _CHEAP and self._is_cheap(statement, cost):
            self.cheap[number], self.costs[number] = statement, cost
        needs = self.needs[number] = []
        for read in reads:
            array, places = read.view.array, read.view.places
            for need in self.needs[array.number] if array.number in self.cheap else (read,):
                view = read.view if need is read else through(need.view, array, places)
                needs.append(_Read(statement, view, read.elementwise))
        if number not in self.cheap or self.pieces_of[number]:
            for need in needs:
                self.needed_by[need.view.array.number].add(number)

    def _is_cheap(self, statement: Statement, cost: int) -> bool:
        """Whether the array is a sum of few operations, and each reader needs a regular part."""
        number, shape = statement.result.number, statement.result.shape
        if shape == () or statement.op is not None or isinstance(statement.constant, Array):
            return False
        if any(t.kind != "each" or isinstance(t.coefficient, Array) for t in statement.terms):
            return False
        readers = self.readers[number]
        needed = [piece.places for piece in self.pieces_of[number]]
        if any(len(places) == statement.result.size for places in needed):
            return False
        needed += [read.view.places for read in readers]
        return (
            cost * len(readers) <= 3 * _CHEAP
            and all(read.elementwise or read.statement.result.shape == () for read in readers)
            and all(affine(places) is not None for places in needed)
        )

    # --- nests ---

    def _nests(self, statements: Iterable[Statement]) -> Iterable[Nest]:
        """The statements in nests, each after those whose results it reads."""
        waiting = [s for s in statements if s.result.number not in self.cheap]
        done = {*self.inputs, *self.cheap}
        while waiting:
            nest, waiting = self._next_nest(waiting, done)
            done.update(s.result.number for s in nest.statements)
            yield nest

    def _next_nest(
        self, waiting: Sequence[Statement], done: set[int]
    ) -> tuple[Nest, list[Statement]]:
        """The nest of the first statement, with those that can join it, and those that wait on."""
        first, *others = waiting
        strategy = self.strategies[first.result.number]
        if strategy != "inline":
            return Nest(strategy, [first]), others
        shape = first.result.shape
        members, rest = [first], list[Statement]()
        results = {first.result.number}
        for k, statement in enumerate(others):
            if len(rest) == _MOST_WAITING:
                rest += others[k:]
                break
            if (
                statement.result.shape == shape
                and self.strategies[statement.result.number] == "inline"
                and self._is_ready(statement, results, done)
            ):
                members.append(statement)
                results.add(statement.result.number)
            else:
                rest.append(statement)
        return Nest("inline", members), rest

    def _is_ready(self, statement: Statement, results: set[int], done: set[int]) -> bool:
        """Whether all that the statement reads is stored, or is its own element in the nest."""
        shape = statement.result.shape
        for need in self.needs[statement.result.number]:
            array = need.view.array
            if array.number in done or array.data is not None:
                continue
            if array.number not in results:
                return False
            own = need.elementwise and array.shape == shape and need.view.is_whole
            if shape != () and not own:
                return False
        return True

    def _strategy(self, statement: Statement) -> Strategy:
        shape = statement.result.shape
        sums = [term for term in statement.terms if term.kind != "each"]
        lengths = [term.left.places.shape[-1] for term in sums]
        if is_product(statement):
            return "product"
        if sum(lengths) <= 4:
            return "inline"
        if shape == ():
            return "dot"
        inner = order(shape)[-1]
        if not self._is_contiguous(sums, len(shape), inner):
            return "dot"
        if max(lengths) <= SHORT and shape[inner] >= 8:
            return "inline"
        return "dot" if self._is_contiguous(sums, len(shape), SUMMED) else "rows"

    def _is_contiguous(self, sums: Sequence[Term], axes: int, axis: int) -> bool:
        """Whether what a step along the axis reads next is the same element, or a neighbour."""
        for term in sums:
            for view, own in operands(term, axes):
                if axis in own:
                    known = self.inputs.get(view.array.number)  # other buffers are chosen later
                    positions = known.positions if known else layout(view.array.shape)
                    fit = affine(positions[view.places])
                    if fit is None or abs(fit[1][own.index(axis)]) > 1:
                        return False
        return True

    # --- what is stored ---

    def _store(self, array: Array, nest: Nest, name: str) -> None:
        """Give the array a buffer if it outlives its nest: if outputs, or statements, need it.

        That is the block of outputs that all of it is in, regularly, where there is one.
        """
        for piece in self.pieces_of[array.number]:
            distinct, first = np.unique(piece.places, return_index=True)
            positions = piece.positions[first]
            if len(distinct) < array.size:
                continue
            fit = affine(positions.reshape(array.shape))
            # A kernel writes vectors.
            if fit is not None and (nest.strategy != "product" or 1 in fit[1][-2:]):
                self.buffers[array.number] = Buffer(piece.block, positions)
                return
        inside = {s.result.number for s in nest.statements}
        elsewhere = self.pieces_of[array.number] or not self.needed_by[array.number] <= inside
        if nest.strategy != "inline" or elsewhere:
            self.buffers[array.number] = Buffer(name, layout(array.shape))
            self.sizes[name] = array.size


def _reads(statement: Statement) -> Iterable[_Read]:
    for arg in statement.args:
        if isinstance(arg, View):
            yield _Read(statement, arg, arg.places.ndim <= len(statement.result.shape))
    for term in statement.terms:
        for view in term.views:
            yield _Read(statement, view, term.kind == "each")
