"""Products of matrices in the lifted form, as calls of the kernels of `kernels.py`.

First they get statements of their own: what else a statement adds, and what it puts at elements
that are not real, is an elementwise statement then. Where all arrays lie, `call` says which kernel
finds its operands side by side as it needs them, and which of them are to be laid out anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count, product
from typing import Final, Literal, NamedTuple

import numpy as np

from .form import Array, Floats, Indices, Lifted, Statement, Term

_SHORT: Final = 4  # sums of so few products are written out


def is_product(statement: Statement) -> bool:
    """Whether it is a product of matrices and nothing else, for a kernel."""
    return (
        statement.op is None
        and statement.fill is None
        and statement.constant == 0.0
        and len(statement.terms) == 1
        and _is_long(statement.terms[0], statement.result.shape)
    )


def _is_long(term: Term, shape: tuple[int, ...]) -> bool:
    return (
        term.kind == "matmul"
        and shape != ()
        and isinstance(term.coefficient, float)
        and term.left.places.shape[-1] > _SHORT
        and all(view.array.shape != () for view in term.views)
    )


def separated(lifted: Lifted) -> Lifted:
    """The program with products in statements of their own, and with masks in place of fills."""
    separator = _Separator()
    statements = [part for s in lifted.statements for part in separator.parts(s)]
    return replace(lifted, statements=statements)


class _Separator:
    def __init__(self) -> None:
        self.numbers = count(-2, -1)  # of new arrays: no others are below -1
        self.masks: dict[tuple[tuple[int, ...], bytes], Array] = {}

    def parts(self, statement: Statement) -> Iterator[Statement]:
        result, fill, constant = statement.result, statement.fill, statement.constant
        if fill is None or result.real is None:
            yield from self._products(statement)
            return
        real = result.real.reshape(result.shape)
        if fill != 0.0 and statement.op is None and isinstance(constant, float):
            mask = self._mask(np.where(real, constant, fill))
            yield from self._products(replace(statement, constant=mask, fill=None))
            return
        inner = self._new(result)
        yield from self._products(replace(statement, result=inner, fill=None))
        mask = self._mask(real.astype(float) if fill == 0.0 else np.where(real, 0.0, fill))
        term = Term("each", mask if fill == 0.0 else 1.0, inner.whole)
        yield Statement(result, constant=0.0 if fill == 0.0 else mask, terms=[term])

    def _products(self, statement: Statement) -> Iterator[Statement]:
        if is_product(statement):
            yield statement
            return
        terms = []
        for term in statement.terms:
            if _is_long(term, statement.result.shape):
                inner = self._new(statement.result)
                yield Statement(inner, terms=[term])
                term = Term("each", 1.0, inner.whole)
            terms.append(term)
        yield replace(statement, terms=terms)

    def _new(self, result: Array) -> Array:
        return Array(next(self.numbers), result.shape, (), None, result.name)

    def _mask(self, numbers: Floats) -> Array:
        key = numbers.shape, numbers.tobytes()
        if key not in self.masks:
            self.masks[key] = Array(next(self.numbers), numbers.shape, (), numbers.reshape(-1), "")
        return self.masks[key]


Kernel = Literal["across", "along"]


class Call(NamedTuple):
    """A call of a kernel: with the right operand as its first if it is `swapped`.

    `layouts` are the new positions of operands that are to be laid out anew, first those of the
    kernel's first. `table` is what the kernel reads.
    """

    kernel: Kernel
    swapped: bool
    layouts: tuple[Indices | None, Indices | None]
    table: tuple[int, ...]


def call(out: Indices, left: Indices, right: Indices) -> Call | None:
    """How to compute a product, of positions with the axes of a term of kind "matmul".

    None where the result does not lie side by side along an axis of it.
    """
    if left.ndim < right.ndim:
        left, out = left[None], out[None]
    elif left.ndim > right.ndim or left.ndim == 1:
        right, out = right[None], out[..., None]
    if out.ndim == 2:
        out, left, right = out[None], left[None], right[None]
    found: list[tuple[int, Call]] = []
    for swapped in (False, True):
        a, b = (right, left) if swapped else (left, right)
        o = out.transpose(0, 2, 1) if swapped else out
        places = _separate(o)
        if places is None or not _are_neighbours(places[2]):
            continue
        for a_anew, b_anew in product((False, True), (None, "kj", "jk")):
            new_a = _layout(a.shape) if a_anew else None
            new_b = _layout(b.shape, b_anew == "kj") if b_anew else None
            sides = (
                _separate(a if new_a is None else new_a),
                _separate(b if new_b is None else new_b),
            )
            for kernel in ("across", "along"):
                table = _table(kernel, o.shape, places, *sides)
                if table is not None:
                    cost = _cost(kernel, o.shape, a.shape[-1])
                    cost += 6 * (a.size * a_anew + b.size * bool(b_anew))
                    found.append((cost, Call(kernel, swapped, (new_a, new_b), table)))
    return min(found, key=lambda each: each[0], default=(0, None))[1]


def _cost(kernel: Kernel, shape: tuple[int, ...], length: int) -> int:
    """A measure of the time, in tenths of nanoseconds, as it was found."""
    g, i, j = shape
    if kernel == "across":
        return g * -(-i // 4) * -(-j // 16) * (10 * length + 50)
    return g * -(-i // 2) * -(-j // 8) * (25 * -(-length // 8) + 45)


Steps = tuple[Indices, Indices, Indices]  # along each of three axes, the first with the base


def _separate(positions: Indices) -> Steps | None:
    """Of three axes, numbers that add up to the positions; None if none do."""
    g, i, j = positions[:, 0, 0], positions[0, :, 0], positions[0, 0]
    i, j = i - i[0], j - j[0]
    regular = g[:, None, None] + i[:, None] + j
    return (g, i, j) if np.array_equal(positions, regular) else None


def _are_neighbours(steps: Indices) -> bool:
    return np.array_equal(steps, np.arange(len(steps)))


def _layout(shape: tuple[int, ...], turned: bool = False) -> Indices:
    """Positions one after another, along the last axis or else the one before it."""
    if not turned:
        return np.arange(np.prod(shape)).reshape(shape)
    g, j, k = shape
    return np.arange(np.prod(shape)).reshape(g, k, j).transpose(0, 2, 1)


def _table(
    kernel: Kernel, shape: tuple[int, ...], out: Steps, a: Steps | None, b: Steps | None
) -> tuple[int, ...] | None:
    """What the kernel reads; None if it does not suit the operands."""
    if a is None or b is None:
        return None
    (out_g, out_i, _), (a_g, a_i, a_k), (b_g, b_j, b_k) = out, a, b
    parts: tuple[Indices, ...]
    if kernel == "across" and _are_neighbours(b_j):
        parts = out_g, out_i, a_g, a_i, a_k, b_g, b_k
    elif kernel == "along" and _are_neighbours(a_k) and _are_neighbours(b_k):
        parts = out_g, out_i, a_g, a_i, b_g, b_j
    else:
        return None
    return (*shape, len(a_k), *np.concatenate(parts).tolist())
