"""One program of a step: for examples of one structure that take one way through the branches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from ..engine import Value
from ..errors import InputError, StaleGraphError, TraceError
from ..modes import apart, paused
from .execution import listed, over_numpy, require_numpy, unless_nan
from .javascript_source import Check, Indicator, JavaScriptPrinter, only_read
from .lengths import weighted
from .names import identifier, input_arrays, single_names
from .plan import Plan
from .tape import InputArray, record
from .tracing import Rule, Trace

if TYPE_CHECKING:
    from .expressions import Source
    from .native import Native
    from .numpy_source import NumpyPrinter
    from .xla import Learning


class Compiled(NamedTuple):
    """A program: its source, a function, and what runs it from arrays of NumPy to such.

    What is `printed` says what its statements are; loops are not printed so.
    """

    source: str
    statements: int
    printed: Source | None
    function: Callable[..., Any]
    run: Callable[..., Any]


class Way:
    """The program of one way through the branches, which is right for examples that take it.

    With `is_weighted` the coefficients of the terms of the loss are inputs, after the numbers of
    the example: see `lengths.py`. By the terms' keys `groups` has those that share one.
    """

    def __init__(self, trace: Trace, plan: Plan, is_weighted: bool = False) -> None:
        self.trace = trace
        self._plan = plan
        with apart():
            weights = weighted(trace) if is_weighted else None
        self._root = weights.root if weights else trace.root
        self._weights = weights.leaves if weights else []
        self.groups = weights.groups if weights else []
        names = set(plan.names)
        self.examples = input_arrays(trace.names, names)
        self._one_hot = list(_one_hot_arrays(trace, self.examples, len(self.groups), names))
        if weights:
            shape = (len(self.groups),) if len(self.groups) > 1 else ()
            numbers = [len(trace.given) + i for i in range(len(self.groups))]
            self.examples.append((identifier("weights", names), shape, numbers))
        # The share of an example in the mean scales the gradient where it begins, which is cheaper
        # for JAX than where it ends.
        self._share = [Value(1.0, identifier("share", names))] if plan.jax else []
        # With the loss and the outputs the program gives both sides of each comparison.
        self._shown = [*trace.shown, *trace.sides]

    @cached_property
    def gradient(self) -> Compiled:
        """The program of the loss, the outputs and the gradient. Raises TraceError."""
        try:
            with paused(), apart():
                return self._compiled(self._plan.parameters)
        except StaleGraphError as error:
            raise TraceError(
                f"an operation of yours is another one for Values than for floats: {error}"
            ) from error

    @cached_property
    def forward(self) -> Compiled:
        """The program of the loss and the outputs."""
        with paused(), apart():
            return self._compiled([])

    def _arrays(self) -> list[InputArray]:
        """The arrays of the parameters, and after them those of an example and its indicators."""
        count = len(self._plan.parameters)
        further = [*self.examples, *[(a.name, a.shape, a.numbers) for a in self._one_hot]]
        placed = [(name, shape, [count + i for i in numbers]) for name, shape, numbers in further]
        return [*self._plan.weights, *placed]

    def _compiled(self, wrt: Sequence[Value]) -> Compiled:
        if self._plan.is_javascript:
            return self._in_javascript(wrt)
        from .lift import lift

        trace, plan, count = self.trace, self._plan, len(self._plan.parameters)
        root = self._root
        objective = [root * self._share[0] if self._share else root] if wrt else []
        # An indicator is a factor where what this makes of infinities, 0·inf = NaN, would be seen.
        chosen = () if trace.could_lose_nan else trace.leaves[len(trace.given) :]
        numbers = [*trace.given, *self._weights, *trace.leaves[len(trace.given) :]]
        leaves = [*plan.parameters, *numbers, *self._share]
        outputs = [root, *self._shown]
        tape = record(outputs, leaves, trace.sources, chosen, roots=objective, wrt=wrt)
        derivatives = tape.outputs[1 + len(self._shown) :]
        own = {o: i for i, o in enumerate(derivatives) if isinstance(o, int) and o >= tape.inputs}
        arrays = self._arrays()
        arrays += [(leaf.label, (), [tape.inputs - 1]) for leaf in self._share]
        np = require_numpy()
        hot = {a.name: count + np.array(a.choosing) for a in self._one_hot}
        lifted = replace(lift(tape, arrays, own, True, count, not plan.is_native), one_hot=hot)

        def step(printer: NumpyPrinter) -> Source:
            return printer.step(len(self._shown))

        def compiled(printed: Source, function: Any, run: Any) -> Compiled:
            return Compiled(printed.text, len(printed.assignments), printed, function, run)

        if plan.is_native:
            from .native import native

            sizes = [("shown_", len(self._shown)), ("gradient", len(wrt))]
            blocks = [("outputs", 0), *[(name, size) for name, size in sizes if size]]
            looped = lift(tape, arrays, own, False, count) if lifted.may_lose else lifted
            if loops := native(looped, blocks, None):
                one_by_one = self._one_by_one(loops)
                return Compiled(loops.source, len(lifted.statements), None, one_by_one, one_by_one)
        if plan.jax:
            from . import xla
            from .jax_source import JaxPrinter

            dtype, devices = plan.jax
            source, exactly = JaxPrinter.written(lifted, step, count)

            def run(source: Source) -> Callable[..., Any]:
                return xla.sharded(xla.pure(source, dtype), dtype, devices)

            function = xla.pure(source, dtype, exactly)
            either = unless_nan(run, source, exactly)
            return compiled(source, function, np.errstate(all="ignore")(either))
        from .layouts import laid_out
        from .numpy_source import NumpyPrinter

        source, exactly = NumpyPrinter.written(laid_out(lifted), step, count)
        function = over_numpy(source, exactly)
        return compiled(source, function, function)

    def _in_javascript(self, wrt: Sequence[Value]) -> Compiled:
        """The program for one example, in which what chooses is told from its number."""
        trace, count = self.trace, len(self._plan.parameters)
        leaves = [*self._plan.parameters, *trace.leaves]
        roots = [trace.root] if wrt else []
        tape = record([trace.root, *self._shown], leaves, trace.sources, roots=roots, wrt=wrt)
        loss, *outputs = tape.outputs
        shown = len(trace.shown)
        sides, gradient = outputs[shown : len(self._shown)], outputs[len(self._shown) :]
        checks = [
            Check(guard.sign, left, right, guard.outcome)
            for guard, left, right in zip(trace.guards, sides[::2], sides[1::2], strict=True)
        ]
        indicators = [
            Indicator(count + place, choice)
            for place, choices in trace.indicators.items()
            for choice in range(len(choices))
        ]
        printer = JavaScriptPrinter(
            replace(tape, outputs=[*[loss] * bool(wrt), *outputs[:shown], *gradient]),
            single_names(self._arrays(), tape.inputs),
        )
        blocks = [*[0] * bool(wrt), *[shown] * bool(shown), *[len(wrt)] * bool(wrt)]
        choices = {count + place: most for place, most in trace.choices.items()}
        sizes = [("", size) for size in blocks]
        source = printer.step(count, indicators, choices, checks, sizes)
        return Compiled(source, len(tape.assignments), None, only_read, only_read)

    def _one_by_one(self, loops: Native) -> Callable[..., Any]:
        """A batch by loops for one example; those know nothing of numbers that choose."""
        np = require_numpy()
        count = len(self._plan.parameters)
        hot = [(np.array(a.numbers), a.choosing, np.arange(a.shape[-1])) for a in self._one_hot]
        shown = 1 if self._shown else 0  # results that are outputs

        def run(values: Any, examples: Any) -> Any:
            batch, given = examples.shape
            rows = np.empty((batch, count + given + sum(len(numbers) for numbers, _, _ in hot)))
            rows[:, :count] = values
            rows[:, count : count + given] = examples
            for numbers, choosing, choices in hot:
                is_chosen = examples[:, choosing, None] == choices
                rows[:, count + numbers] = is_chosen.reshape(batch, -1)
            if batch == 1:
                loss, *rest = listed(loops.single(rows[0]))
                return loss, *[outputs[None] for outputs in rest[:shown]], *rest[shown:]
            loss, *rest = listed(loops.batch(rows))
            return loss.mean(), *rest[:shown], *[gradient.mean(0) for gradient in rest[shown:]]

        return np.errstate(all="ignore")(run)  # type: ignore[no-any-return]

    def results(self, values: Any, examples: Any, forward: bool) -> list[Any]:
        """The mean loss, the outputs of each example, and unless it is `forward` the gradient."""
        self.trace.check_others()
        run = self.forward.run if forward else self.gradient.run
        if self._plan.jax:
            from . import xla

            weights = xla.named(values, self._plan.weights)
            found = run(weights, xla.named(examples, self.examples))
        else:
            found = run(values, examples)
        results = listed(found)
        if self._plan.jax and not forward:
            results[-1] = xla.flattened(results[-1], self._plan.weights)
        if not self._shown:
            results.insert(1, require_numpy().empty((len(examples), 0)))
        return results

    def learning(self, moved: Callable[..., Any]) -> Learning:
        """For JAX, the gradient's program with a step of an optimizer: see `Learning`."""
        from .xla import Learning

        plan, printed = self._plan, self.gradient.printed
        assert plan.jax is not None
        assert printed is not None
        return Learning(printed, plan.weights, plan.jax, moved)

    def over(
        self, rows: Any, values: Any, examples: Any, forward: bool
    ) -> list[tuple[Any, list[Any]]]:
        """The rows in portions, each with the results for it.

        Portions for JAX have few sizes, for each of which it compiles the program: powers of 2.
        """
        portions = []
        while self._plan.jax and len(rows):
            size = 1 << (len(rows).bit_length() - 1)
            portions.append(rows[:size])
            rows = rows[size:]
        if len(rows):
            portions.append(rows)
        return [(some, self.results(values, examples[some], forward)) for some in portions]

    def is_taken(self, outputs: Any) -> Any:
        """By which of the examples that gave these outputs.

        Where the sides differ as roundings do, or tie by them, theirs may be the other outcome: the
        engine decides. Whole numbers tie for better reasons, and so do those of an example.
        """
        np = require_numpy()
        taken = np.ones(len(outputs), bool)
        sides = iter(outputs.T[len(self.trace.shown) :])
        for guard, left, right in zip(self.trace.guards, sides, sides, strict=True):
            taken &= guard.sign(left, right) == guard.outcome
            with np.errstate(invalid="ignore"):  # of infinities
                near = abs(left - right) < 2.0**-48 * np.where(right == 0.0, 1.0, abs(right))
                whole = np.floor(left) == left
            computed = guard.left.op is not None or guard.right.op is not None
            taken &= ~near | ((left == right) & (whole | (not computed)))
            if self.trace.choices:  # the engine may have a number there: see `Trace.is_spoiled`
                taken &= (left == left) & (right == right)
        return taken

    def may_take(self, examples: Any) -> Any:
        """Which of these rows choose what is there: others are on another way, or refused."""
        right = require_numpy().ones(len(examples), bool)
        for count, places in self._choosing.items():
            right &= _choose(examples[:, places], count).all(1)
        return right

    def check(self, examples: Any) -> None:
        """Raises InputError for numbers in these rows that are no targets, or choose nothing."""
        np = require_numpy()
        for rule, words, places in self._required:
            columns = [examples[:, some] for some in places]
            right = rule(*columns)
            if np.count_nonzero(right) < right.size:  # a small part of the time of .all()
                wrong = [float(column[~right][0]) for column in columns]
                raise InputError(f"{words}, got {', '.join(map(repr, wrong))}")
        for count, places in self._choosing.items():
            numbers = examples[:, places]
            if not (right := _choose(numbers, count)).all():
                row, k = divmod(int((~right).argmax()), right.shape[1])
                name = np.array(self.trace.names)[places][k]
                raise InputError(
                    f"take chooses by a whole number from 0 to {count - 1}, and {name} is "
                    f"{float(numbers[row, k])!r}"
                )

    @cached_property
    def _required(self) -> list[tuple[Rule, str, list[Any]]]:
        """The rules, what to say where one does not hold, and the columns that it takes."""
        return [
            (rule, words, [_sliced(list(column)) for column in zip(*sorted(places), strict=True)])
            for (rule, words, _), places in self.trace.required.items()
        ]

    @cached_property
    def _choosing(self) -> dict[int, Any]:
        """The columns of the numbers that choose, by how many there are to choose among."""
        columns: dict[int, list[int]] = {}
        for place, count in self.trace.choices.items():
            columns.setdefault(count, []).append(place)
        return {count: _sliced(sorted(places)) for count, places in columns.items()}


def _choose(numbers: Any, count: int) -> Any:
    """Which of these numbers choose one of so many."""
    return (numbers >= 0.0) & (numbers < count) & (numbers == numbers.round())


def _sliced(places: list[int]) -> Any:
    """The places as a slice if they are one: that takes a third of the time."""
    first, end = places[0], places[-1] + 1
    return slice(first, end) if end - first == len(places) else places


class _OneHot(NamedTuple):
    """An array of the indicators of some numbers of the example, which are at these places."""

    name: str
    shape: tuple[int, ...]
    numbers: list[int]
    choosing: list[int]


def _one_hot_arrays(
    trace: Trace, arrays: Sequence[InputArray], weights: int, names: set[str]
) -> Iterator[_OneHot]:
    """One for the numbers of each array that have so many indicators; `names` are taken."""
    first: dict[int, int] = {}
    number = len(trace.given) + weights
    for place, leaves in trace.indicators.items():
        first[place] = number
        number += len(leaves)
    for name, _, numbers in arrays:
        for count in sorted({len(trace.indicators[i]) for i in numbers if i in first}):
            places = [i for i in numbers if i in first and len(trace.indicators[i]) == count]
            shape = (len(places), count) if len(places) > 1 else (count,)
            of = [first[i] + k for i in places for k in range(count)]
            yield _OneHot(identifier(f"one_hot_{name}", names), shape, of, places)
