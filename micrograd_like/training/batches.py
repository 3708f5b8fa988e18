"""What `fit` learns from: examples in lists or memory-mapped arrays, or an iterable of batches.

Both kinds give batches of checked examples: inputs, each a list of floats, and their targets, or
whole examples of any length. Lists are checked at once. Memory-mapped arrays and batches may be
larger than memory: they are read late, and checked when they are read.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import copy_context
from copy import copy
from functools import partial
from itertools import chain
from mmap import mmap
from numbers import Integral
from random import Random
from typing import Any
from zlib import crc32

from ..errors import InputError, OperandError
from ..numerics import number, number_in, plain

Batch = tuple[list[Any], ...]  # inputs and targets, or whole examples
# Of inputs, targets and their places, what the loss can use (`Loss.usable`).
Usable = Callable[[list[Any], list[Any], Sequence[int]], Batch]

_MANY = 2**16  # numbers of a memory-mapped array to hold at a time
_END: Any = object()  # of an iterable
_FEW = 16  # examples to trace and to compare engines on
_FEWER = 3  # of those that may be long
_ALL_IGNORED = "every target is the one to ignore: no example is left to learn from"


class Examples:
    """The rows of X, of `width` numbers, with their targets y. Raises InputError for a misfit."""

    def __init__(self, X: Any, y: Any, usable: Usable) -> None:
        self._late = _on_disk(X) or _on_disk(y)
        self._usable = usable
        if self._late:
            self._columns = [x if _on_disk(x) and x.shape else _list(x) for x in (X, y)]
            _check_lengths(*self._columns)
        else:
            X, y = _checked(X, y)
            self._columns = [*usable(X, y, range(len(y)))]
            if not self._columns[0]:
                raise InputError(_ALL_IGNORED)
        self._places = array("q", range(len(self._columns[0])))
        self.width = len(_row(self._columns[0][0]))
        self._prepared: Callable[[list[Any], Sequence[int]], list[Any]] | None = None
        # How many examples are held at a time where that is free.
        self._free = max(1, _MANY // max(1, self.width)) if self._late else self.count

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

    def prepare(self, rows_of: Callable[[Any, Any], Any], with_rows: Any) -> None:
        """Let the inputs of batches have rows, by `with_rows`, which are made now, if they can be.

        What is read late has none.
        """
        if not self._late:
            places = sorted(self._places)
            rows = rows_of(*[[column[i] for i in places] for column in self._columns])
            where = {place: i for i, place in enumerate(places)}
            self._prepared = lambda inputs, chosen: with_rows(
                inputs, rows[[where[place] for place in chosen]]
            )

    def shuffle(self, random: Random) -> None:
        """Put the examples in another order."""
        random.shuffle(self._places)

    def sample(self) -> Batch:
        """A few of the examples, the first and others at equal distances."""
        some = copy(self)
        some._places = self._places[:: max(1, self.count // _FEW)]
        if (batch := next(chain(some.batches(), self.batches()), None)) is None:
            raise InputError(_ALL_IGNORED)
        return batch

    def batches(self, size: int | None = None) -> Iterator[Batch]:
        """The examples in batches of `size`, or in as few as memory is sure to hold."""
        size = size or self._free
        for start in range(0, self.count, size):
            places = self._places[start : start + size]
            batch: Batch = tuple(
                [column[i] for i in places] if isinstance(column, list) else column[list(places)]
                for column in self._columns
            )
            if self._late:
                X, y = batch
                X, y = _checked(X, y, places, self.width)
                batch = self._usable(X, y, places)
            if self._prepared is not None:
                batch = self._prepared(batch[0], places), batch[1]
            if batch[-1]:
                yield batch

    def digest(self) -> int:
        """A checksum by which to know the examples again; where they are read late, of a few."""
        total = 0
        for inputs, targets in [self.sample()] if self._late else self.batches():
            for row, target in zip(inputs, targets, strict=True):
                numbers = target if isinstance(target, list) else [target]
                try:
                    content = array("d", [*row, *numbers]).tobytes()
                except TypeError:  # no numbers: a loss of the user's may take anything
                    content = array("d", row).tobytes() + repr(target).encode()
                total = crc32(content, total)
        return total


class Documents(Examples):
    """Examples of any length: numbers, lists of them, or tuples of what the loss takes.

    Raises InputError, or OperandError, for what is no finite number, naming its place.
    """

    def __init__(self, documents: Any) -> None:
        examples = [_document(x, f"example {i}") for i, x in enumerate(_list(documents))]
        if not examples:
            raise InputError("there are no examples to learn from: the list is empty")
        if 0 in (sizes := [*map(_size, examples)]):
            raise InputError(f"example {sizes.index(0)} is empty: it has no number")
        self._columns = [examples]
        self._places = array("q", range(len(examples)))
        self._late, self._free, self._prepared = False, len(examples), None

    def sample(self) -> Batch:
        """A few of the examples, the longest first, for its program may serve the others."""
        examples, places = self._columns[0], self._places
        longest = max(places, key=lambda i: _size(examples[i]))
        some = places[:: max(1, self.count // _FEWER)]
        return ([examples[i] for i in (longest, *some)],)

    def prepare(self, rows_of: Callable[[Any, Any], Any], with_rows: Any) -> None:
        """Each batch is read: that takes a fraction of its program's time."""

    def digest(self) -> int:
        """A checksum by which to know the examples again."""
        total = 0
        for (examples,) in self.batches(_MANY):
            total = crc32(repr(examples).encode(), total)
        return total


class Batches:
    """Batches (X, y), made by the caller and in the caller's order, with rows of `width` numbers.

    `source` is an iterable, or a function that returns one, which every epoch begins anew; an
    iterator has its batches once. The first batch is read at once, and is not lost.
    """

    count = "batches"

    def __init__(self, source: Any, epochs: int, usable: Usable) -> None:
        if isinstance(source, Iterator) and epochs > 1:
            raise InputError(f"X is an iterator, which gives its batches once, not {epochs} times")
        if not callable(source) and not isinstance(source, Iterable):
            raise InputError(
                "without y, X is an iterable of batches (X, y) or a function that returns one, "
                f"got {source!r:.60}"
            )
        self._source = source
        self._usable = usable
        self.width: int | None = None
        rest = self._begun()
        inputs, targets = first = next(rest)
        self._opened: Iterator[Batch] | None = chain([first], rest)
        apart = max(1, len(inputs) // _FEW)
        self._sample = inputs[::apart], targets[::apart]

    def shuffle(self, random: Random) -> None:
        """The order is the caller's."""

    def sample(self) -> Batch:
        """A few examples of the first batch."""
        return self._sample

    def batches(self, size: int | None = None) -> Iterator[Batch]:
        """The batches of one epoch, as they come."""
        opened, self._opened = self._opened or self._begun(), None
        return opened

    def digest(self) -> int:
        """Nothing: what the batches hold is not known before they are read."""
        return 0

    def _begun(self) -> Iterator[Batch]:
        given = 0
        # In a context of its own: a generator within `no_grad` is within it between batches, too.
        run = copy_context().run
        source = run(iter, run(self._source) if callable(self._source) else self._source)
        for count, batch in enumerate(iter(partial(run, next, source, _END), _END), 1):
            where = f"batch {count} of X"
            try:
                X, y = batch
            except (TypeError, ValueError):
                raise InputError(f"{where} is a pair (X, y), got {batch!r:.60}") from None
            try:
                inputs, targets = _checked(X, y, None, self.width)
                self.width = len(inputs[0])
                inputs, targets = self._usable(inputs, targets, range(len(targets)))
            except (InputError, OperandError) as error:
                hint = " (without y, X is an iterable of batches)" if self.width is None else ""
                raise type(error)(f"{where}: {error}{hint}") from None
            if targets:
                given += 1
                yield inputs, targets
        if not given:
            raise InputError("X has no batches for this epoch: each epoch begins it anew")


def held_out(
    validation: Any, source: Examples | Batches, usable: Usable, random: Random
) -> Examples | None:
    """What to validate on; the examples of a fraction are taken out of `source`."""
    if validation is None:
        return None
    if isinstance(source, Documents) and isinstance(validation, list):
        return Documents(validation)
    if not isinstance(validation, (tuple, list)):
        if isinstance(source, Batches):
            raise InputError("nothing can be held out of batches: validation is a pair (X, y)")
        return source.hold_out(number(validation), random)
    if isinstance(source, Documents):
        raise InputError(f"validation is a list of examples or a fraction, got {validation!r:.60}")
    if len(validation) != 2:
        raise InputError(f"validation is a pair (X, y) or a fraction, got {len(validation)} items")
    X, y = validation
    held = Examples(X, y, usable)
    if held.width != source.width:
        raise InputError(f"validation has rows of {held.width} numbers, X of {source.width}")
    return held


def _checked(X: Any, y: Any, places: Any = None, width: int | None = None) -> Batch:
    """X as lists of floats, and y. Raises InputError naming the row by its place, if not finite."""
    rows = [_row(x) for x in _list(X)]
    targets = [_target(t) for t in _list(y)]
    _check_lengths(rows, targets)
    wanted = len(rows[0]) if width is None else width
    for i, row, target in zip(places or range(len(rows)), rows, targets, strict=True):
        if len(row) != wanted:
            raise InputError(f"row {i} of X has {len(row)} numbers, those before have {wanted}")
        if not all(map(math.isfinite, row)):
            j = [math.isfinite(x) for x in row].index(False)
            raise InputError(f"X[{i}][{j}] is {row[j]!r}: inputs are finite numbers")
        for t in target if isinstance(target, list) else [target]:
            x = number_in(t)  # what is no number is left to the loss, which may be the user's
            if x is not None and not math.isfinite(x):
                raise InputError(f"y[{i}] is {target!r}: targets are finite numbers")
    return rows, targets


def _document(x: Any, where: str) -> Any:
    """The example as Python's numbers in lists; a tuple has the arguments of the loss."""
    x = plain(x)
    if isinstance(x, (list, tuple)):
        parts = [_document(part, f"{where}[{i}]") for i, part in enumerate(x)]
        return tuple(parts) if isinstance(x, tuple) else parts
    if isinstance(x, Integral):
        return int(x)
    try:
        finite = math.isfinite(x := number(x))
    except OperandError as error:
        raise OperandError(f"{where}: {error}") from None
    if not finite:
        raise InputError(f"{where} is {x!r}: the numbers of examples are finite")
    return x


def _size(example: Any) -> int:
    """How many numbers are in it."""
    return sum(map(_size, example)) if isinstance(example, (list, tuple)) else 1


def _check_lengths(X: Sequence[Any], y: Sequence[Any]) -> None:
    if len(X) != len(y):
        raise InputError(f"X has {len(X)} rows, but y has {len(y)}")
    if not len(X):
        raise InputError("there are no examples to learn from: X is empty")


def _on_disk(x: Any) -> bool:
    """Whether x is a memory-mapped array, or a view of one."""
    while x is not None and not isinstance(x, mmap):
        x = getattr(x, "base", None)
    return x is not None


def _list(x: Any) -> list[Any]:
    x = plain(x)
    if not isinstance(x, Iterable) or isinstance(x, (str, bytes, dict)):
        raise InputError(f"examples come in lists or arrays, got {x!r:.60}")
    return list(x)


def _target(t: Any) -> Any:
    """A target as a number or a list of several; an array's column has lists of one."""
    t = plain(t)
    if isinstance(t, (list, tuple)):
        t = _row(t)
        return t[0] if len(t) == 1 else t
    return t


def _row(x: Any) -> list[float]:
    x = plain(x)
    xs = list(x) if isinstance(x, (list, tuple)) else [x]
    return xs if {*map(type, xs)} == {float} else [number(xi) for xi in xs]
