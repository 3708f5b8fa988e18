"""Examples as rows of numbers, and what a trace puts in the place of each number.

`Pairs` is for models and losses, `loss(model(x), y)`; `Nested` for losses of a whole example.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from functools import partial
from inspect import Parameter, signature
from itertools import chain
from typing import Any, TypeAlias

from .. import losses, ops
from ..engine import Value
from ..errors import InputError, OperandError, TraceError
from ..numerics import flat, number, number_in, plain
from ..sums import affine
from .tracing import Trace, traced

# What a loss makes of an example: its Value, and what the model gave on the way.
Made: TypeAlias = tuple[Any, Sequence[Any]]


class Pairs:
    """Examples (x, y) of a row of inputs and a target, with the loss `loss(model(x), y)`."""

    is_loss = True

    def __init__(self, model: Callable[[Any], Any], loss: Callable[[Any, Any], Value]) -> None:
        self._model = model
        self._loss = loss
        self.called = model, loss
        self.inputs = 0
        self._kinds: set[Any] = set()  # of inputs, of what they are in, and in a tuple of targets
        self.row: Callable[[Any], Sequence[float]] = _single  # a target as numbers

    def of(self, x: Any, y: Any) -> Made:
        """The loss, and the outputs of the model in a list."""
        outputs = self._model(x)
        return self._loss(outputs, y), flat(outputs)

    def unlike(self, X: Any, y: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """Examples of other kinds of numbers than those before: ints where were floats, say."""
        of_rows = _kinds(X[0]) if len(y) else set()
        if len(y) and isinstance(X[0], (list, tuple)):
            of_rows |= {*map(type, chain.from_iterable(X))}
        if not self._kinds >= {*of_rows, *zip(map(type, y), strict=True)}:
            for x, target in zip(X, y, strict=True):
                if not self._kinds >= (kinds := {*_kinds(x), (type(target),)}):
                    yield x, target
                    self._kinds |= kinds

    def trace(
        self, example: Any, parameters: Sequence[Value], outcomes: Iterable[bool] = ()
    ) -> Trace:
        """The trace of an example. Raises TraceError, and InputError if it has no number."""

        def run(trace: Trace) -> Made:
            x, y = example
            inputs = [trace.leaf(number, f"X[{i}]") for i, number in enumerate(x)]
            self.inputs = len(inputs)
            outputs = self._model(given := _of_kind(x, inputs))
            _check_same(given, inputs)
            shown = flat(outputs)
            y = plain(y)
            if (smoothing := _smoothing(self._loss)) is not None:
                self.row = partial(_one_hot, count=(n := len(shown)))
                targets = [trace.leaf(t, f"Y[{k}]") for k, t in enumerate(self.row(y))]
                if smoothing:
                    targets = [(1.0 - smoothing) * t + smoothing / n for t in targets]
                return ops.logsumexp(*shown) - affine(targets, shown), shown
            if isinstance(y, (list, tuple)):
                self.row = partial(_several, count=len(y))
                targets = [trace.leaf(t, f"Y[{k}]") for k, t in enumerate(y)]
                loss = self._loss(outputs, given := _of_kind(y, targets))
                _check_same(given, targets)
                return loss, shown
            self.row = _single
            return self._loss(outputs, trace.leaf(y, "Y")), shown

        return traced(run, parameters, lambda: self.of(*example), self.called, outcomes)


class Rows(Sequence[Any]):
    """The examples (x, y) of some rows of inputs, an array or tuples, and their targets."""

    def __init__(self, inputs: Any, targets: Sequence[Any]) -> None:
        self._inputs, self._targets = inputs, targets

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, i: Any) -> Any:
        x = self._inputs[i]
        return x if isinstance(x, tuple) else x.tolist(), self._targets[i]


class Prepared(list[Any]):
    """Rows of inputs as lists, and as the rows of a step, with their targets: `Step.rows_of`."""

    def __init__(self, inputs: Sequence[Any], rows: Any) -> None:
        super().__init__(inputs)
        self.rows = rows


class Nested:
    """Examples of numbers and lists of them, with the loss `loss(*example)` or `loss(example)`.

    A tuple has the arguments of the loss, anything else is its only one. The arguments at the
    places `static` are handed over as they are.
    """

    is_loss = True

    def __init__(self, loss: Callable[..., Any], static: Collection[int] = ()) -> None:
        self.loss = loss
        self.called = (loss,)
        self._static = frozenset(static)
        # Of each argument's numbers, and of what they are in.
        self._kinds: defaultdict[int, set[Any]] = defaultdict(set)

    def of(self, *example: Any) -> Made:
        return self.loss(*example), ()

    def structure(self, example: Any, numbers: list[Any]) -> Hashable:
        """What examples of one program have in common; the example's numbers join `numbers`.

        Raises OperandError for what is neither a number nor a list.
        """
        of = self._kinds
        if not self._static and example.__class__ is not tuple:
            return _structure(example, numbers, of[0])
        return (
            "arguments",
            *[
                _key(argument) if i in self._static else _structure(argument, numbers, of[i])
                for i, argument in enumerate(arguments(example))
            ],
        )

    def count_kinds(self) -> int:
        """How many kinds of numbers have come: int and float, say, for each argument."""
        return sum(map(len, self._kinds.values()))

    def forget_kinds(self) -> None:
        """Take the next examples for the first ones."""
        self._kinds.clear()

    def trace(
        self, example: Any, parameters: Sequence[Value], outcomes: Iterable[bool] = ()
    ) -> Trace:
        """The trace of an example. Raises TraceError, and InputError if it has no number."""

        def run(trace: Trace) -> Made:
            names = _names(self.loss)
            given = [
                argument if i in self._static else _traced(argument, trace, next(names))
                for i, argument in enumerate(arguments(example))
            ]
            made = self.of(*given)
            found: list[Value] = []
            for i, argument in enumerate(given):
                if i not in self._static:
                    _flattened(argument, found)
            _check_same(found, trace.given)
            return made

        eagerly = lambda: self.of(*arguments(example))  # noqa: E731
        return traced(run, parameters, eagerly, self.called, outcomes)


class Outputs(Nested):
    """Examples of which a function gives Values, or nested lists of them, and no loss."""

    is_loss = False

    def of(self, *example: Any) -> Made:
        found: list[Any] = []
        self.shape = _flattened(self.loss(*example), found)
        return Value(0.0), found

    def trace(
        self, example: Any, parameters: Sequence[Value], outcomes: Iterable[bool] = ()
    ) -> Trace:
        """The trace of an example, with the shape of its outputs. Raises TraceError."""
        trace = super().trace(example, parameters, outcomes)
        trace.shape = self.shape
        return trace


def _flattened(x: Any, found: list[Any]) -> Any:
    """The shape of lists in lists, with None for each Value; the Values join those found."""
    if isinstance(x, (list, tuple)):
        return [_flattened(item, found) for item in x]
    if not isinstance(x, Value) and number_in(x) is None:
        raise TraceError(f"a function is to return Values, or lists of them, not {x!r:.60}")
    found.append(x if isinstance(x, Value) else Value(x))
    return None


def _check_same(given: Sequence[Any], leaves: Sequence[Value]) -> None:
    """Raises TraceError where the leaves that were given are not as they were."""
    if [*map(id, given)] != [*map(id, leaves)]:
        raise TraceError(
            "model or loss changes its example, a list, which is then another one in the next "
            "epoch: let it change a copy, such as sorted(x) for x.sort() or [*x, 0] for x.append(0)"
        )


def arguments(example: Any) -> tuple[Any, ...]:
    """What a loss is called with."""
    return example if isinstance(example, tuple) else (example,)


def _structure(x: Any, numbers: list[Any], kinds: set[Any]) -> Hashable:
    """The shape of an example, whose numbers join `numbers`; tuples are none of lists.

    Their types join `kinds`, with those of the arrays that they are in, each as a tuple.
    """
    container, x = x.__class__, plain(x)
    if isinstance(x, (list, tuple)):
        shape: Hashable = len(x)
        if {*map(type, x)} <= kinds:  # as nearly all lists are: in short
            numbers += x
        elif {*(items := tuple([_structure(item, numbers, kinds) for item in x]))} != {None}:
            shape = items
        if isinstance(x, tuple):
            return container, shape
        if container is not list:
            kinds.add((container,))
        return shape
    numbers.append(_number(x))
    kinds.add(x.__class__)
    return None


def _traced(x: Any, trace: Trace, path: str) -> Any:
    """Leaves of a trace in the places of the numbers; tuples, which compare so, stay such."""
    x = plain(x)
    if isinstance(x, (list, tuple)):
        items = [_traced(item, trace, f"{path}[{i}]") for i, item in enumerate(x)]
        return _of_kind(x, items)
    return trace.leaf(_number(x), path)


def _of_kind(x: Any, items: list[Any]) -> Any:
    """The items as what x is: a tuple, a named one, or else a list."""
    return getattr(x, "_make", tuple)(items) if isinstance(x, tuple) else items[:]


def _number(x: Any) -> float:
    try:
        return number(x)
    except OperandError as error:
        raise OperandError(
            f"an example has numbers, and lists of them: {error}. An argument of another kind is "
            "handed over as it is with static=(its place,)"
        ) from None


def _key(x: Any) -> Hashable:
    """What tells a static argument from others."""
    try:
        hash(x)
    except TypeError:
        raise OperandError(
            f"a static argument is a key of programs: {x!r:.60} is not hashable"
        ) from None
    return type(x), x, repr(x) if isinstance(x, (float, tuple)) else ""  # (1,) is (True,), 0.0 -0.0


def _names(function: Callable[..., Any]) -> Iterator[str]:
    """What the arguments are called, then x and y and so on."""
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    try:
        names = [p.name for p in signature(function).parameters.values() if p.kind in kinds]
    except (TypeError, ValueError):  # a function that is not Python's
        names = []
    yield from names
    count = 0
    while True:
        count += 1
        if (name := f"x{count}") not in names:
            yield name


def _kinds(row: Any) -> set[type]:
    return {type(row), *map(type, row)} if isinstance(row, (list, tuple)) else {type(row)}


def _single(target: Any) -> Sequence[float]:
    if hasattr(target, "__len__"):
        raise InputError(f"a target is a number, as in the example that was traced: {target!r:.60}")
    return (number(target),)


def _several(target: Any, count: int) -> Sequence[float]:
    target = plain(target)
    if not isinstance(target, (list, tuple)) or len(target) != count:
        raise InputError(
            f"a target has {count} numbers, as in the example that was traced: {target!r:.60}"
        )
    return target


def _smoothing(loss: Any) -> float | None:
    """The label smoothing of `losses.cross_entropy`, as it is or by `partial`; None of others."""
    if loss is losses.cross_entropy:
        return 0.0
    if getattr(loss, "func", None) is not losses.cross_entropy or loss.args:
        return None
    options = dict(loss.keywords)
    smoothing = number(options.pop("label_smoothing", 0.0))
    return smoothing if not options and 0.0 <= smoothing <= 1.0 else None


def _one_hot(label: Any, count: int) -> Sequence[float]:
    """A label as a row of zeros with a one, or probabilities as they are. Raises InputError."""
    if hasattr(label, "__len__"):
        return [number(t) for t in losses.probabilities(list(plain(label)), count)]
    label = number(label)
    if not 0 <= label < count or label != int(label):
        raise InputError(
            f"a label is an integer from 0 to {count - 1}, got {label!r}: a step takes no label to "
            "be ignored, leave such examples out"
        )
    return [float(k == label) for k in range(count)]
