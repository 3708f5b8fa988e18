"""The lifted program as Python loops over floats, for Numba: what `nests.py` plans, printed.

What is read or computed in a loop but does not depend on it is put into a local variable before
the loop. Short sums are written out; a long one is a loop that adds up in a register, or row by row
where its operands lie that way.

Arrays lie in flat buffers: `values`, `gradient`, `data` for the numbers of the graph, `places` for
irregular indices, and parts of `work` for arrays that have to be stored. An index is base +
Σ stride · i. Products of matrices are calls of the kernels of `kernels.py`.

Only sums over an axis may be reordered (see `add`). Numba's `fastmath` is for whole functions: LLVM
would factor out common operands, and fuse a product that overflows with the sum that it is in, and
then NaN and infinity need not come out where the eager engine has them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, NamedTuple

import numpy as np

from ..ops import Op
from . import rows
from .form import Array, Floats, Indices, Lifted, Piece, Statement, Term, View
from .nests import SHORT, Blocks, Buffer, Nest, Plan
from .products import call, separated
from .strides import SUMMED, affine, at, layout, operands, order
from .terms import joined, scaled, signed

# Numba takes 0.7 ms for an operation that is written out: this many take about seven seconds, and
# for more NumPy is the better choice.
MOST_OPERATIONS: Final = 10_000
_AT_ONCE: Final = 8  # so many rows are added at once to a stored result

_HEADER: Final = '''\
"""Written by micrograd_like from a graph of scalars."""

from __future__ import annotations

import math
from math import inf, nan
from math import inf as INF, nan as NAN  # as `numerics.py` has them

import numpy as np
from llvmlite import ir
from numba import float64, int64, njit
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array


@intrinsic
def add(context, a, b):
    """a + b as a step of a sum that may be taken in any order, so that it is vectorised."""

    def code(context, builder, signature, args):
        return builder.fadd(*args, flags=("reassoc", "nsz"))

    return float64(float64, float64), code


@intrinsic
def part(context, array, start, size):
    """A part of an array, as an array that does not keep the other alive."""

    def code(context, builder, signature, args):
        whole, size = make_array(array)(context, builder, args[0]), args[2]
        new = make_array(array)(context, builder)
        start = builder.gep(whole.data, [args[1]])
        populate_array(new, start, [size], [whole.itemsize], whole.itemsize, None)
        return new._getvalue()

    return array(array, int64, int64), code

'''

# What a program mentions, beside variables of its own.
_RESERVED: Final = (
    "values", "gradient", "outputs", "data", "places", "math", "np", "inf", "nan", "add", "abs",
    "part", "work", "across", "along", "range", "i0", "i1", "i2", "k", "INF", "NAN",
    "number", *rows.FUNCTIONS,
)  # fmt: skip


class UnsuitableError(Exception):
    """The program is not one for loop nests: it has Python functions, or is too irregular."""


@dataclass(frozen=True)
class Loops:
    """The source of `program(values, ...)`, its arguments in order, and the arrays among them.

    With padding, the program returns NaN if there is one in what it fills, too.
    """

    source: str
    signature: Sequence[str]
    arrays: dict[str, Any]


def emit_loops(lifted: Lifted, blocks: Blocks) -> Loops:
    """The program as loop nests. `blocks` are as in `NumpyPrinter.program`.

    Besides `program` the source has `batch`, which runs it for each row of `values`, and is
    compiled when it is called first.

    Raises UnsuitableError for operations that are not written for Numba, and for what is too long
    to compile.
    """
    for statement in lifted.statements:
        assert not statement.parts, "for loops no results are stacked"
        if statement.op is not None and not statement.op.numba:
            raise UnsuitableError(f"{statement.op.name} is not written for Numba")
    if len(lifted.statements) > MOST_OPERATIONS:
        raise UnsuitableError("the graph has too little structure")
    return _Printer(lifted, blocks).loops()


Axes = tuple[tuple[str, int], ...]  # loop variables, each with what is added to it
Body = list[Any]  # lines; what follows the line that opens a loop is the body of the loop


class _Part(NamedTuple):
    """A term of a sum, or a factor. `level` is of the open loops the innermost that it needs."""

    sign: str
    text: str
    level: int


class _Printer:
    def __init__(self, lifted: Lifted, blocks: Blocks) -> None:
        self.is_padded = lifted.is_padded
        lifted = separated(lifted)
        self.blocks = blocks
        self.names = Counter(_RESERVED)  # how often each was asked for, or is in use
        self.name = {s.result.number: self._named(s.result.name) for s in lifted.statements}
        self.plan = Plan(lifted, blocks, self.name)
        self.sums = {s.result.number for s in lifted.statements if _adds(s)}
        self.buffers = self.plan.buffers
        self.stacks: dict[int, str] = {}  # arrays for so many arguments of a variadic operation
        self.data: list[Floats] = []
        self.places: list[Indices] = []
        self.ops: set[Op] = set()
        self.kernels: set[str] = set()
        self.operations = 0
        self.count = 0  # of local variables
        # Arrays whose element at hand is in a local variable: of one element, or of this nest.
        self.local: dict[int, _Part] = {}
        # The program's body and those of the open loops; what has a local variable in each.
        self.open: list[Body] = [[]]
        self.known: list[dict[str, _Part]] = [{}]
        self.level: dict[str, int] = {}  # of the variables of the open loops

    def loops(self) -> Loops:
        for nest in self.plan.nests:
            self._nest(nest)
            if self.operations > MOST_OPERATIONS:
                raise UnsuitableError("too much is written out for a compiler")
        sizes = {**{name: size for size, name in self.stacks.items()}, **self.plan.sizes}
        single = self.blocks[0][1] == 0
        for piece in self.plan.pieces:
            self._put_out(piece)
        if self.is_padded:
            self._look_for_nan(single)
        if sizes:  # used once more, or it would be freed after its parts are taken
            self._line(f"work[0] = {'number' if single else '0.0'}")
        if single or self.is_padded:
            self._line("return number")
        arrays: dict[str, Any] = {}
        if self.data:
            arrays["data"] = np.concatenate(self.data)
        if self.places:
            # Unsigned, for which Numba has no check for indices from the end.
            arrays["places"] = np.concatenate(self.places).astype(np.uint64)
        ends = accumulate(sizes.values(), initial=0)
        parts = [
            f"{name} = part(work, {start}, {size})"
            for (name, size), start in zip(sizes.items(), ends, strict=False)
        ]
        parts[:0] = [f"work = np.empty({sum(sizes.values())})"] * bool(sizes)
        signature = ["values", *(name for name, size in self.blocks if size), *arrays]
        kinds = ", ".join("uint64[::1]" if s == "places" else "float64[::1]" for s in signature)
        options = "cache=True, nogil=True, error_model='numpy'"
        results = ["outputs"] * single
        each = [name if name in arrays else f"{name}[i]" for name in signature]
        lines = [
            _HEADER,
            *(f"from micrograd_like.compiler.kernels import {k}" for k in sorted(self.kernels)),
            *(f"@njit(error_model='numpy')\n{text}\n" for text in rows.sources(self.ops)),
            f"@njit('({kinds},)', {options})",
            f"def program({', '.join(signature)}):",
            *(f"    {part}" for part in parts),
            *_indented(self.open[0], 1),
            "",
            "",
            f"@njit({options})",
            f"def batch({', '.join([signature[0], *results, *signature[1:]])}):",
            "    for i in range(len(values)):",
            f"        {'outputs[i] = ' * single}program({', '.join(each)})",
            "",
        ]
        return Loops("\n".join(lines), signature, arrays)

    # --- names, lines and loops ---

    def _named(self, label: str) -> str:
        """A name like the label, with a number behind it where it is taken."""
        stem = name = label if label.isascii() else "t"
        count = max(1, self.names[stem])
        while name in self.names:
            count += 1
            name = f"{stem}_{count}"
        self.names[stem], self.names[name] = count, 1
        return name

    def _variable(self) -> str:
        self.count += 1
        return self._named(f"v{self.count}")

    def _line(self, text: str) -> None:
        self.open[-1].append(text)

    def _define(self, value: str) -> _Part:
        """A new local variable of this value."""
        name = self._variable()
        self._line(f"{name} = {value}")
        return _Part("", name, len(self.open) - 1)

    def _loop(self, variable: str, start: int, stop: int, step: int = 1) -> None:
        ends = f"{start}, {stop}, {step}" if start or step > 1 else str(stop)
        body: Body = []
        self.open[-1] += [f"for {variable} in range({ends}):", body]
        self.level[variable] = len(self.open)
        self.open.append(body)
        self.known.append({})

    def _close(self, loops: int = 1) -> None:
        del self.open[len(self.open) - loops :], self.known[len(self.known) - loops :]

    # --- nests ---

    def _nest(self, nest: Nest) -> None:
        shape = nest.statements[0].result.shape
        if nest.strategy == "dot":
            self._dot(nest.statements[0])
        elif nest.strategy == "product":
            self._product_of_matrices(nest.statements[0])
        elif nest.strategy == "rows":
            self._add_rows(nest.statements[0])
        else:
            for axis in order(shape):
                self._loop(f"i{axis}", 0, shape[axis])
            for statement in nest.statements:
                self._element(statement)
            self._close(len(shape))
            for statement in nest.statements if shape else ():
                del self.local[statement.result.number]

    def _element(self, statement: Statement) -> None:
        array, axes = statement.result, _axes(statement.result.shape)
        value = self._value(statement, axes)
        if axes:
            value = self.local[array.number] = self._define(value.text)
        if not axes or array.number in self.buffers:
            self._store(array, axes, value.text)

    def _store(self, array: Array, axes: Axes, value: str, operator: str = "=") -> None:
        if axes:
            buffer = self.buffers[array.number]
            index, _ = self._index(buffer.positions.reshape(array.shape), axes)
            self._line(f"{buffer.name}[{index}] {operator} {value}")
        else:  # it is in a local variable of the whole program
            name = self.name[array.number]
            self.local[array.number] = _Part("", name, 0)
            self._line(f"{name} = {value}")

    def _dot(self, statement: Statement) -> None:
        """Each element is added up in a register; a few at a time, which share operands."""
        shape = statement.result.shape
        most = (1, 2, 4)[3 - len(shape) :]
        shares = any(term.kind == "matmul" for term in statement.terms)
        tile = [_divisor(size, m) if shares else 1 for size, m in zip(shape, most, strict=True)]
        corners: list[Axes] = [()]
        for axis, count in enumerate(tile):
            self._loop(f"i{axis}", 0, shape[axis], count)
            corners = [(*c, (f"i{axis}", d)) for c in corners for d in range(count)]
        by_length: dict[int, list[Term]] = {}
        for term in statement.terms:
            if term.kind != "each":
                by_length.setdefault(term.left.places.shape[-1], []).append(term)
        sums: list[list[_Part]] = [[] for _ in corners]
        for length, terms in by_length.items():
            # LLVM looks into summands that are sums, too, and would cancel what they cancel first.
            in_turn = any(t.right is None and t.left.array.number in self.sums for t in terms)
            names = [self._variable() for _ in corners]
            self._line(f"{' = '.join(names)} = 0.0")
            self._loop("k", 0, length)
            for name, axes, parts in zip(names, corners, sums, strict=True):
                summand = self._sum([self._product(t, axes, ("k", 0)) for t in terms]).text
                added = f"{name} + ({summand})" if in_turn else f"add({name}, {summand})"
                self._line(f"{name} = {added}")
                parts.append(_Part("", name, len(shape)))
            self._close()
        for axes, parts in zip(corners, sums, strict=True):
            self._store(statement.result, axes, self._value(statement, axes, parts).text)
        self._close(len(shape))

    def _product_of_matrices(self, statement: Statement) -> None:
        """A call of a kernel, after operands are laid out anew where it needs that."""
        (term,) = statement.terms
        out = self.buffers[statement.result.number]
        buffers = [self._buffer(view.array) for view in term.views]
        positions = [b.positions[v.places] for b, v in zip(buffers, term.views, strict=True)]
        found = call(out.positions.reshape(statement.result.shape), *positions)
        assert found is not None
        operands = list(zip(buffers, positions, strict=True))[:: -1 if found.swapped else 1]
        names = []
        for (buffer, old), new in zip(operands, found.layouts, strict=True):
            names.append(buffer.name if new is None else self._laid_out(buffer.name, old, new))
        where = self._placed(np.array(found.table))
        arguments = (out.name, *names, "places", str(where), repr(term.coefficient))
        self.kernels.add(found.kernel)
        self._line(f"{found.kernel}({', '.join(arguments)})")

    def _laid_out(self, source: str, old: Indices, new: Indices) -> str:
        """The name of an array that has what is at the old positions of another at the new ones."""
        name = self._named(f"{source}_laid")
        self.plan.sizes[name] = old.size
        order = np.empty(old.size, np.intp)
        order[new.reshape(-1)] = old.reshape(-1)
        self._loop("k", 0, old.size)
        index, _ = self._index(order, (("k", 0),))
        self._line(f"{name}[k] = {source}[{index}]")
        self._close()
        return name

    def _placed(self, numbers: Indices) -> int:
        """Where these are among the places."""
        start = sum(map(len, self.places))
        self.places.append(numbers)
        return start

    def _buffer(self, array: Array) -> Buffer:
        if array.number not in self.buffers:
            self.buffers[array.number] = self._constant(array)
        return self.buffers[array.number]

    def _add_rows(self, statement: Statement) -> None:
        """Row after row of the operands is added to the stored result."""
        result, shape = statement.result, statement.result.shape
        axes = _axes(shape)
        *outer, inner = order(shape)
        for axis in outer:
            self._loop(f"i{axis}", 0, shape[axis])
        self._loop(f"i{inner}", 0, shape[inner])
        self._store(result, axes, self._value(statement, axes, ()).text)
        self._close()
        for term in statement.terms:
            if term.kind == "each":
                continue
            length = term.left.places.shape[-1]
            regular = length - length % _AT_ONCE
            for start, stop in ((0, regular), (regular, length)):
                if start < stop:
                    count = min(_AT_ONCE, stop - start)
                    self._loop("k", start, stop, count)
                    self._loop(f"i{inner}", 0, shape[inner])
                    parts = [self._product(term, axes, ("k", q)) for q in range(count)]
                    self._store(result, axes, self._sum(parts).text, "+=")
                    self._close(2)
        self._close(len(outer))

    # --- values ---

    def _value(
        self, statement: Statement, axes: Axes, sums: Sequence[_Part] | None = None
    ) -> _Part:
        """What an element is; its sums over an axis are written out unless they are given."""
        if statement.op is not None:
            return self._call(statement.op, statement.args, axes)
        terms = [self._product(t, axes) for t in statement.terms if t.kind == "each"]
        if sums is None:
            sums = [
                self._product(term, axes, q)
                for term in statement.terms
                if term.kind != "each"
                for q in range(term.left.places.shape[-1])
            ]
        terms += sums
        if statement.constant != 0.0 or not terms:
            terms.insert(0, self._read(statement.constant, axes))
        return self._sum(terms)

    def _sum(self, terms: Sequence[_Part]) -> _Part:
        """The terms added up, in two chains if there are many: the processor adds both at once."""
        self.operations += len(terms)
        if len(terms) > 2 * SHORT:
            starts = range(0, len(terms), SHORT)
            return self._sum([self._define(self._sum(terms[k : k + SHORT]).text) for k in starts])
        text = _joined(terms)
        if len(terms) >= 8:
            text = f"({_joined(terms[::2])}) + ({_joined(terms[1::2])})"
        return _Part("", text, max(term.level for term in terms))

    def _product(
        self, term: Term, axes: Axes, summed: int | tuple[str, int] | None = None
    ) -> _Part:
        """The term; of a sum over an axis, the summand at a number, or at a loop variable."""
        views = operands(term, len(axes))
        c = term.coefficient
        if isinstance(c, Array):  # a number for each element, or for each summand
            views.append((c.whole, (*range(len(axes)), SUMMED)[: len(c.shape)]))
        every: Any = (*axes, summed)  # so that SUMMED, which is -1, has its place
        factors = []
        for view, own in views:
            if isinstance(summed, int) and SUMMED in own:
                view, own = View(view.array, view.places[..., summed]), own[:-1]
            factors.append(self._read(view, tuple(every[axis] for axis in own)))
        self.operations += len(factors)
        if isinstance(c, Array):
            factors.insert(0, factors.pop())
        product = " * ".join(factor.text for factor in factors)
        sign, text = ("", product) if isinstance(c, Array) else scaled(c, product)
        return _Part(sign, text, max(factor.level for factor in factors))

    def _call(self, op: Op, args: Sequence[View | float | Array], axes: Axes) -> _Part:
        self.ops.add(op)
        if op.arity is None:
            texts = [self._stack(args, axes)]
        else:
            texts = [self._argument(arg, axes) for arg in args]
            self.operations += 2 + len(args)
        by_name = dict(zip(op.arguments, texts, strict=True))
        text = re.sub(r"@(\w+)", lambda match: by_name[match[1]], op.numba)
        return _Part("", text, len(self.open) - 1)

    def _argument(self, argument: View | float | Array, axes: Axes) -> str:
        sign, text, _ = self._read(argument, axes)
        return f"(-{text})" if sign else text

    def _stack(self, args: Sequence[View | float | Array], axes: Axes) -> str:
        """The name of an array of the arguments: Numba takes no long tuples."""
        first = args[0]
        size = len(args)
        if along := isinstance(first, View) and first.places.ndim > len(axes):
            size = first.places.shape[-1]
        if size not in self.stacks:
            self.stacks[size] = self._named(f"terms{size}")
        name = self.stacks[size]
        if along:
            self._loop("k", 0, size)
            self._line(f"{name}[k] = {self._argument(first, (*axes, ('k', 0)))}")
            self._close()
            self.operations += 4
        else:
            for k, argument in enumerate(args):
                self._line(f"{name}[{k}] = {self._argument(argument, axes)}")
            self.operations += 2 * size
        return name

    # --- reading ---

    def _read(self, source: View | Array | float, axes: Axes) -> _Part:
        """An element of a view at the loop variables, the last of which belong to its axes."""
        if isinstance(source, float):
            return _Part(*signed(source), 0)
        view = source.whole if isinstance(source, Array) else source
        number, places = view.array.number, view.places
        if number in self.local:
            return self.local[number]
        axes = axes[len(axes) - places.ndim :]
        if number in self.plan.cheap:
            value = self._value(at(places, self.plan.cheap[number]), axes)
            return self._kept(value, alone=False)
        buffer = self._buffer(view.array)
        index, level = self._index(buffer.positions[places], axes)
        return self._kept(_Part("", f"{buffer.name}[{index}]", level), alone=True)

    def _constant(self, array: Array) -> Buffer:
        """A place among the data, with the longer axis contiguous."""
        assert array.data is not None, array.name
        positions = layout(array.shape)
        flat = np.empty(array.size)
        flat[positions] = array.data.reshape(-1)
        start = sum(map(len, self.data))
        self.data.append(flat)
        return Buffer("data", positions + start)

    def _kept(self, part: _Part, alone: bool) -> _Part:
        """A local variable for the part, before the loops on which it does not depend.

        What stands alone, an element, is read in the innermost loop if it depends on that: it is
        read there once, as a rule.
        """
        _, text, level = part
        for known in self.known[: level + 1]:
            if text in known:
                return known[text]
        innermost = len(self.open) - 1
        if level == innermost and (alone or level == 0):
            return part if alone else _Part("", f"({text})", level)
        name = self._variable()
        # A body that is not the innermost ends in the loop that is open in it.
        body = self.open[level]
        body.insert(len(body) - 2 * (level < innermost), f"{name} = {text}")
        self.known[level][text] = _Part("", name, level)
        return self.known[level][text]

    def _index(self, positions: Indices, axes: Axes) -> tuple[str, int]:
        """The index of these positions at the loop variables, and its level."""
        fit = affine(positions)
        if fit is None:
            start = self._placed(positions.reshape(-1))
            numbers = start + np.arange(positions.size).reshape(positions.shape)
            index, level = self._index(numbers, axes)
            return f"places[{index}]", level
        base, strides = fit
        base += sum(stride * shift for (_, shift), stride in zip(axes, strides, strict=True))
        steps = [(stride, v) for (v, _), stride in zip(axes, strides, strict=True) if stride]
        terms = [scaled(stride, variable) for stride, variable in steps]
        if base or not terms:
            terms.append(signed(base))
        level = max((self.level[variable] for _, variable in steps), default=0)
        return joined(terms), level

    # --- outputs ---

    def _put_out(self, piece: Piece) -> None:
        """Fill in what was not computed in its place, or return it."""
        source, places, positions = piece.source, piece.places, piece.positions
        if isinstance(source, Array):
            buffer = self.buffers.get(source.number)
            if buffer is not None and buffer.name == piece.block:
                left = buffer.positions[places] != positions
                places, positions = places[left], positions[left]
        if len(positions) == 0:
            return
        if len(positions) == 1:
            places, positions = places[0], positions[0]
        axes = _axes(positions.shape)
        for variable, _ in axes:
            self._loop(variable, 0, len(positions))
        value = self._read(View(source, places) if isinstance(source, Array) else source, axes)
        index, _ = self._index(positions, axes)
        target = f"{piece.block}[{index}] =" if piece.block else "number ="
        self._line(f"{target} {value.sign}{value.text}")
        self._close(len(axes))

    def _look_for_nan(self, single: bool) -> None:
        """Make the number NaN if there is one in the blocks: a sum of squares tells."""
        total = self._define("0.0").text
        for name, size in self.blocks:
            if size:
                self._loop("k", 0, size)
                self._line(f"{total} = add({total}, {name}[k] * {name}[k])")
                self._close()
        self._line(f"number = {f'number if {total} == {total} else nan' if single else total}")


def _adds(statement: Statement) -> bool:
    """Whether it adds a term, that is no product, to another one, or to a constant."""
    alone = sum(t.kind == "each" and t.right is None for t in statement.terms)
    return alone > 0 and len(statement.terms) + (statement.constant != 0.0) > 1


def _indented(body: Body, depth: int) -> Iterable[str]:
    for item in body:
        if isinstance(item, list):
            yield from _indented(item, depth + 1)
        else:
            yield "    " * depth + item


def _joined(parts: Sequence[_Part]) -> str:
    return joined([(part.sign, part.text) for part in parts])


def _divisor(size: int, most: int) -> int:
    return next(d for d in range(most, 0, -1) if size % d == 0)


def _axes(shape: tuple[int, ...]) -> Axes:
    return tuple((f"i{axis}", 0) for axis in range(len(shape)))
