"""What `fit` learns from: examples in lists or memory-mapped arrays, or an iterable of batches.

Both kinds give batches of checked examples: inputs, each a list of floats, and their targets.
Lists are checked at once. Memory-mapped arrays and batches may be larger than memory: they are read
late, and checked when they are read.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from functools import partial
from random import Random
from typing import Any

from ..errors import InputError, OperandError
from ..numerics import number

Batch = tuple[list[Any], list[Any]]
# Raises InputError for a target that the loss cannot use; of inputs, targets and their places.
Check = Callable[[list[Any], list[Any], Iterable[int]], None]

_MANY = 2**16  # numbers of a memory-mapped array to hold at a time


class Examples:
    """The rows of X with their targets y. Raises InputError if they don't fit."""

    def __init__(self, X: Any, y: Any, check: Check) -> None:
        self._late = _on_disk(X) or _on_disk(y)
        self._columns: Sequence[Any]
        if self._late:
            self._columns = [x if _on_disk(x) and x.shape else _list(x) for x in (X, y)]
            _check_lengths(*self._columns)
        else:
            X, y = self._columns = _checked(X, y)
            check(X, y, range(len(X)))
        self._places = array("q", range(len(self._columns[0])))
        self._check = check
        self._width = len(_row(self._columns[0][0]))
        # How many examples are held at a time where that is free.
        self._free = max(1, _MANY // max(1, self._width)) if self._late else len(self._places)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._places)

    def hold_out(self, fraction: float, random: Random) -> Examples:
        """Take that fraction of the examples out, at random, and return them."""
        count = round(fraction * self.count) if 0.0 < fraction < 1.0 else 0
        if not 0 < count < self.count:
            raise InputError(
                f"validation={fraction!r} holds out {count} of {self.count} examples: give a "
                "fraction between 0 and 1 that leaves some on either side, or a pair (X, y)"
            )
        self.shuffle(random)
        held = copy(self)
        held._places, self._places = self._places[:count], self._places[count:]
        return held

    def shuffle(self, random: Random) -> None:
        """Put the examples in another order."""
        random.shuffle(self._places)

    def sample(self, count: int) -> Batch:
        """About that many of the examples, the first and others at equal distances."""
        return self._take(self._places[:: max(1, self.count // count)])

    def batches(self, size: int | None = None) -> Iterator[Batch]:
        """The examples in batches of `size`, or in as few as memory is sure to hold."""
        return self._batches(self._places, size or self._free)

    def digest(self) -> int:
        """A checksum by which to know the examples again; where they are read late, of 1,000."""
        from zlib import crc32

        total = 0
        places = self._places[:: max(1, self.count // 1000)] if self._late else self._places
        for inputs, targets in self._batches(places, self._free):
            for row, target in zip(inputs, targets, strict=True):
                numbers = target if isinstance(target, list) else [target]
                try:
                    tail = array("d", numbers).tobytes()
                except TypeError:  # no numbers: a loss of the user's may take anything
                    tail = repr(target).encode()
                total = crc32(tail, crc32(array("d", row).tobytes(), total))
        return total

    def _batches(self, places: array[int], size: int) -> Iterator[Batch]:
        for start in range(0, len(places), size):
            yield self._take(places[start : start + size])

    def _take(self, places: array[int]) -> Batch:
        inputs, targets = (
            [column[i] for i in places] if isinstance(column, list) else column[list(places)]
            for column in self._columns
        )
        if not self._late:
            return inputs, targets
        inputs, targets = _checked(inputs, targets, places, self._width)
        self._check(inputs, targets, places)
        return inputs, targets


class Batches:
    """Batches (X, y), made by the caller and in the caller's order.

    `source` is an iterable, or a function that returns one, which every epoch begins anew; an
    iterator has its batches once. The first batch is read at once, and is not lost.
    """

    count = "batches"

    def __init__(self, source: Any, epochs: int, check: Check, name: str = "X") -> None:
        if isinstance(source, Iterator):
            if epochs > 1:
                raise InputError(
                    f"{name} is an iterator, which gives its batches once, and they are wanted "
                    f"for {epochs} epochs: give a list, or a function that returns a new iterator"
                )
        elif not callable(source) and not isinstance(source, Iterable):
            raise InputError(
                f"without y, {name} is an iterable of batches (X, y) or a function that returns "
                f"one, got {source!r:.60}"
            )
        self._name = name
        self._open = source if callable(source) else partial(iter, source)
        self._check = check
        self._width: int | None = None
        self._opened = self._begin()
        self._first: list[Batch] = [next(self._opened)]

    def shuffle(self, random: Random) -> None:
        """The order is the caller's."""

    def sample(self, count: int) -> Batch:
        """About that many examples of the first batch."""
        inputs, targets = self._first[0]
        step = max(1, len(inputs) // count)
        return inputs[::step], targets[::step]

    def batches(self, size: int | None = None) -> Iterator[Batch]:
        """The batches of one epoch, as they come."""
        if self._first:
            yield self._first.pop()
        else:
            self._opened = self._begin()
        yield from self._opened

    def digest(self) -> int:
        """Nothing: what the batches hold is not known before they are read."""
        return 0

    def _begin(self) -> Iterator[Batch]:
        count = 0
        for count, batch in enumerate(self._open(), 1):
            where = f"batch {count} of {self._name}"
            try:
                X, y = batch
            except (TypeError, ValueError):
                raise InputError(f"{where} is a pair (X, y), got {batch!r:.60}") from None
            try:
                inputs, targets = _checked(X, y, None, self._width)
                self._width = len(inputs[0])
                self._check(inputs, targets, range(len(targets)))
            except (InputError, OperandError) as error:
                hint = " (without y, X is an iterable of batches)" if self._width is None else ""
                raise type(error)(f"{where}: {error}{hint}") from None
            yield inputs, targets
        if not count:
            raise InputError(
                f"{self._name} has no batches"
                + ("" if self._width is None else " for another epoch: each epoch begins it anew")
            )


def held_out(
    validation: Any, source: Examples | Batches, epochs: int, check: Check, random: Random
) -> Examples | Batches | None:
    """What to validate on; the examples of a fraction are taken out of `source`."""
    if validation is None:
        return None
    held: Examples | Batches
    wanted = len(source.sample(1)[0][0])
    if isinstance(validation, (tuple, list)):
        if len(validation) != 2:
            raise InputError(
                f"validation is a pair (X, y) or a fraction, got {len(validation)} items; give "
                "batches as a function that returns an iterator"
            )
        held = Examples(validation[0], validation[1], check)
    elif callable(validation) or (
        isinstance(validation, Iterable) and not isinstance(validation, (str, bytes, dict))
    ):
        held = Batches(validation, epochs, check, "validation")
    elif isinstance(source, Batches):
        raise InputError(
            f"validation={validation!r:.60}: nothing can be held out of batches: give a pair "
            "(X, y), or batches to validate on"
        )
    else:
        return source.hold_out(number(validation), random)
    width = len(held.sample(1)[0][0])
    if width != wanted:
        raise InputError(f"validation has rows of {width} numbers, X of {wanted}")
    return held


def _checked(
    X: Any, y: Any, places: Sequence[int] | None = None, width: int | None = None
) -> Batch:
    """X as lists of floats, and y. Raises InputError naming the row by its place, if not finite."""
    rows = [_row(x) for x in _list(X)]
    targets = [_target(t) for t in _list(y)]
    _check_lengths(rows, targets)
    places = range(len(rows)) if places is None else places
    wanted = len(rows[0]) if width is None else width
    for i, row, target in zip(places, rows, targets, strict=True):
        if len(row) != wanted:
            other = "row 0 has" if i else "those before have"
            raise InputError(f"row {i} of X has {len(row)} numbers, {other} {wanted}")
        if not all(map(math.isfinite, row)):
            j = [math.isfinite(x) for x in row].index(False)
            raise InputError(f"X[{i}][{j}] is {row[j]!r}: inputs are finite numbers")
        for t in target if isinstance(target, list) else [target]:
            if not _is_finite(t):
                raise InputError(f"y[{i}] is {target!r}: targets are finite numbers")
    return rows, targets


def _check_lengths(X: Sequence[Any], y: Sequence[Any]) -> None:
    if len(X) != len(y):
        raise InputError(f"X has {len(X)} rows, but y has {len(y)}")
    if not len(X):
        raise InputError("there are no examples to learn from: X is empty")


def _on_disk(x: Any) -> bool:
    """Whether x is a memory-mapped array, or a view of one."""
    from mmap import mmap

    while x is not None and not isinstance(x, mmap):
        x = getattr(x, "base", None)
    return x is not None


def _is_finite(target: Any) -> bool:
    try:
        return math.isfinite(number(target))
    except OperandError:  # what a loss of the user's makes of it is its business
        return True


def _list(x: Any) -> list[Any]:
    x = _plain(x)
    if not isinstance(x, Iterable) or isinstance(x, (str, bytes, dict)):
        raise InputError(f"examples come in lists or arrays, got {x!r:.60}")
    return list(x)


def _target(t: Any) -> Any:
    """A target as a number or a list of several; an array's column has lists of one."""
    t = _plain(t)
    if not isinstance(t, (list, tuple)):
        return t
    row = _row(t)
    return row[0] if len(row) == 1 else row


def _row(x: Any) -> list[float]:
    x = _plain(x)
    xs = list(x) if isinstance(x, (list, tuple)) else [x]
    return xs if {*map(type, xs)} == {float} else [number(xi) for xi in xs]


def _plain(x: Any) -> Any:
    """An array as lists of Python's numbers."""
    return x.tolist() if hasattr(x, "tolist") else x
