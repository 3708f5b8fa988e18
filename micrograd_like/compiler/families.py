"""The programs of a step: one for each structure of examples, and way through the branches."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import losses
from ..engine import Value, numbers_of
from ..errors import DomainError, InputError, TraceError, warn
from ..gradients import grad
from ..modes import apart, no_grad, paused
from .examples import Nested, Pairs, arguments
from .execution import as_floats, over_numpy, require_numpy, unless_nan
from .lengths import coefficients, weighted
from .names import InputArray, identifier, input_arrays
from .tape import record
from .tracing import Trace

if TYPE_CHECKING:
    from .descent import Descent
    from .expressions import Source
    from .numpy_source import NumpyPrinter

MOST_WAYS = 8  # through the branches of a model and its loss, each with a program of its own
MOST_STRUCTURES = 32  # of examples, each with a program of its own


class Plan:
    """What the programs of a step have in common: what they differentiate by, and how they run.

    `weights` are the arrays of the parameters, `names` what these are called, `jax` is the dtype
    and the number of devices, and `learns` the training that has the parameters.
    """

    def __init__(
        self,
        parameters: list[Value],
        labels: Sequence[str],
        jax: tuple[str, int | None] | None,
    ) -> None:
        self.parameters = parameters
        self.names: set[str] = set()
        self.weights = input_arrays(labels, self.names)
        self.jax = jax
        self.learns: Descent | None = None

    def settle(self) -> None:
        """Let the Values have what is learned: they are about to be looked at."""
        if self.learns:
            self.learns.write()

    @property
    def values(self) -> Any:
        """The numbers of the parameters, as an array."""
        if self.learns:
            return self.learns.values
        return require_numpy().array(numbers_of(self.parameters))


class Compiled(NamedTuple):
    """A program as it is printed, as a function, and what runs it from arrays of NumPy to such."""

    printed: Source
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
        """The program of the loss, the outputs and the gradient."""
        with paused(), apart():
            return self._compiled(self._plan.parameters)

    @cached_property
    def forward(self) -> Compiled:
        """The program of the loss and the outputs."""
        with paused(), apart():
            return self._compiled([])

    def _compiled(self, wrt: Sequence[Value]) -> Compiled:
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
        arrays = [*plan.weights]
        arrays += [(name, shape, [count + i for i in of]) for name, shape, of in self.examples]
        arrays += [(a.name, a.shape, [count + i for i in a.numbers]) for a in self._one_hot]
        arrays += [(leaf.label, (), [tape.inputs - 1]) for leaf in self._share]
        np = require_numpy()
        lifted = replace(
            lift(tape, arrays, own),
            one_hot={a.name: count + np.array(a.choosing) for a in self._one_hot},
        )

        def exactly(printer: type[NumpyPrinter]) -> Callable[[], Source] | None:
            """What prints the program without its padding, if it has any."""
            if not lifted.is_padded or lifted.may_lose:
                return None
            return lambda: printer(lifted, count, True).step(len(self._shown))

        if plan.jax:
            from . import xla
            from .jax_source import JaxPrinter

            dtype, devices = plan.jax
            source = JaxPrinter(lifted, count).step(len(self._shown))

            def run(source: Source) -> Callable[..., Any]:
                return xla.sharded(xla.pure(source, dtype), dtype, devices)

            function = xla.pure(source, dtype, exactly(JaxPrinter))
            return Compiled(source, function, unless_nan(run, source, exactly(JaxPrinter)))
        from .numpy_source import NumpyPrinter

        source = NumpyPrinter(lifted, count).step(len(self._shown))
        function = over_numpy(source, exactly(NumpyPrinter))
        return Compiled(source, function, function)

    def results(self, values: Any, examples: Any, forward: bool) -> list[Any]:
        """The mean loss, the outputs of each example, and unless it is `forward` the gradient."""
        run = self.forward.run if forward else self.gradient.run
        if self._plan.jax:
            from . import xla

            weights = xla.named(values, self._plan.weights)
            found = run(weights, xla.named(examples, self.examples))
        else:
            found = run(values, examples)
        results: list[Any] = list(found) if isinstance(found, tuple) else [found]
        if self._plan.jax and not forward:
            results[-1] = xla.flattened(results[-1], self._plan.weights)
        if not self._shown:
            results.insert(1, require_numpy().empty((len(examples), 0)))
        return results

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
        """By which of the examples that gave these outputs."""
        taken = require_numpy().ones(len(outputs), bool)
        sides = iter(outputs.T[len(self.trace.shown) :])
        for guard, left, right in zip(self.trace.guards, sides, sides, strict=True):
            taken &= guard.sign(left, right) == guard.outcome
        return taken

    @cached_property
    def _choices(self) -> tuple[Any, Any]:
        np = require_numpy()
        return np.array([*self.trace.choices], int), np.array([*self.trace.choices.values()], int)

    def check_choices(self, examples: Any) -> None:
        """Raises InputError for numbers in these rows that choose what is not there."""
        places, counts = self._choices
        if not len(places):
            return
        numbers = examples[:, places]
        right = (numbers >= 0) & (numbers < counts) & (numbers % 1.0 == 0.0)
        if not right.all():
            row, k = divmod(int((~right).argmax()), len(places))
            name = self.trace.names[places[k]]
            raise InputError(
                f"take chooses by a whole number from 0 to {counts[k] - 1}, and {name} is "
                f"{float(numbers[row, k])!r}"
            )


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


class Layout(NamedTuple):
    """Where the numbers of examples of one structure are in the rows of a family's programs.

    They take these `columns` of the `row`: what else it has is the coefficients of the loss, and
    numbers that do not count. Their outputs are at the places `shown` among those of the program.
    """

    family: Family
    columns: slice | list[int]
    row: Any
    shown: list[int]

    def rows(self, numbers: Sequence[Sequence[Any]]) -> Any:
        """A row for each example."""
        rows = require_numpy().tile(self.row, (len(numbers), 1))
        rows[:, self.columns] = as_floats(numbers)
        return rows


class Family:
    """The programs for examples of one structure: one for each way through the branches.

    Shorter examples are among them where the loss allows it, with coefficients of their own.
    Examples on a way that would be the ninth are left to the eager engine, with a warning.
    """

    def __init__(
        self, problem: Pairs | Nested, plan: Plan, example: Any, trace: Trace | None = None
    ) -> None:
        self._problem, self._plan, self._example = problem, plan, example
        self._traces = [trace or self.traced(example)]
        self._is_warned = False
        self.check()
        # Tokens come in any number, as a rule: to do it later would take twice as long.
        self.ways = [self._way(self._traces[0], len(self._traces[0].choices) > 1)]

    def _way(self, trace: Trace, is_weighted: bool = False) -> Way:
        way = Way(trace, self._plan, is_weighted)
        if self._problem.is_loss:  # compiled now, when what is wrong with it is best seen
            way.gradient  # noqa: B018
        return way

    @property
    def layout(self) -> Layout:
        """Where the numbers of examples of this structure are."""
        way = self.ways[0]
        weights = [way.trace.terms[keys[0]][1] for keys in way.groups]
        numbers = numbers_of(way.trace.given)
        row = require_numpy().array([*numbers, *weights])
        return Layout(self, slice(len(numbers)), row, [*range(len(way.trace.shown))])

    def layout_of(self, trace: Trace, values: Any) -> Layout | None:
        """Where the numbers of another example are, if the program gives its results, too.

        `values` are those of the parameters when it was traced.
        """
        longer, groups = self._traces[0], self.ways[0].groups
        if not groups and longer.terms:
            if not (weights := weighted(longer)):
                return None
            groups = weights.groups
        if (found := coefficients(groups, longer, trace)) is None:
            return None
        if groups and not self.ways[0].groups:
            self.ways = [self._way(longer, is_weighted=True)]
        place = {name: i for i, name in enumerate(longer.names)}
        columns: Any = [place[name] for name in trace.names]
        if columns == [*range(len(columns))]:
            columns = slice(len(columns))
        row = self.layout.row
        row[len(longer.given) :] = found
        shown = [longer.keys_of_shown.index(key) for key in trace.keys_of_shown]
        layout = Layout(self, columns, row, shown)
        rows = layout.rows([numbers_of(trace.given)])
        loss, outputs, *_ = self.ways[0].results(values, rows, not self._problem.is_loss)
        results = [loss, *outputs[0, shown]]
        expected = numbers_of([trace.root, *trace.shown])
        return layout if all(map(_agree, results, expected)) else None

    def traced(self, example: Any) -> Trace:
        """The trace of an example, with the parameters as they are now."""
        self._plan.settle()
        return self._problem.trace(example, self._plan.parameters)

    def check(self) -> None:
        """Trace the example again. Raises TraceError where something else comes out."""
        self._follow(self.traced(self._example))

    def _follow(self, trace: Trace) -> None:
        if not all(known.follows(trace) for known in self._traces):
            raise TraceError(
                "model or loss do not compute what they did when they were traced: an attribute "
                "that is changed, or random numbers, would be frozen"
            )

    def results(self, values: Any, rows: Any, examples: Sequence[Any], forward: bool) -> list[Any]:
        """The mean loss, the outputs, and unless it is `forward` the gradient.

        `rows` has the numbers of each of the examples.
        """
        np = require_numpy()
        first = self.ways[0]
        if not first.trace.guards:
            first.check_choices(rows)
            return first.results(values, rows, forward)
        parts: list[tuple[Any, list[Any]]] = []  # rows, and the results for them
        rest, tried = np.arange(len(rows)), 0
        while len(rest):
            if tried == len(self.ways) and not self._has_another(examples[rest[0]]):
                left = [examples[i] for i in rest]
                loss, outputs, *gradient = self.eagerly(left, forward)
                parts.append((rest, [loss, np.array(outputs), *gradient]))
                break
            way, tried = self.ways[tried], tried + 1
            found = way.over(rest, values, rows, forward)
            taken = np.concatenate([way.is_taken(results[1]) for _, results in found])
            way.check_choices(rows[rest[taken]])
            if not taken.all():
                found = way.over(rest[taken], values, rows, forward)
            parts += found
            rest = rest[~taken]
        outputs = np.empty((len(rows), len(first.trace.shown)))
        for places, results in parts:
            outputs[places] = results[1][:, : outputs.shape[1]]
        loss, *gradient = mean_of([(len(p), [r[0], *r[2:]]) for p, r in parts], len(rows))
        return [loss, outputs, *gradient]

    def may_spoil(self, results: Sequence[Any]) -> bool:
        """Whether there is a NaN that may be of what does not count.

        Rows that are not chosen, and terms that a shorter example lacks, count as 0 times what they
        are, which is NaN for infinities.
        """
        counted = any(way.trace.choices or way.groups for way in self.ways)
        np = require_numpy()
        return counted and any(np.isnan(x).any() for x in results)

    def _has_another(self, example: Any) -> bool:
        """Make a program for the way of the example, unless there are too many. Or TraceError."""
        if len(self.ways) == MOST_WAYS:
            if not self._is_warned:
                warn(
                    f"model and loss have more than {MOST_WAYS} ways through their branches: the "
                    "eager engine computes examples on others, one by one"
                )
                self._is_warned = True
            return False
        trace = self.traced(example)
        self._follow(trace)
        if any(known.path == trace.path for known in self._traces):
            return False  # by a rounding error, the program finds it on another way
        if len(trace.shown) != len(self._traces[0].shown):
            raise TraceError("the model has not as many outputs for one example as for another")
        self._traces.append(trace)
        self.ways.append(self._way(trace))
        return True

    def eagerly(self, examples: Sequence[Any], forward: bool) -> list[Any]:
        """The results, the outputs in lists, as the eager engine has them."""
        self._plan.settle()
        with apart(), no_grad() if forward else apart():
            made = [self._problem.of(*arguments(example)) for example in examples]
            mean = losses.mean([loss for loss, _ in made])
            gradient = [] if forward else [grad(mean, self._plan.parameters)]
        outputs = [numbers_of(shown) for _, shown in made]
        return [mean.data, outputs, *map(require_numpy().array, gradient)]


def _agree(x: float, y: float) -> bool:
    return math.isclose(x, y, rel_tol=1e-12, abs_tol=1e-12) or x != x or y != y


def mean_of(parts: Sequence[tuple[int, list[Any]]], count: int) -> list[Any]:
    """The means of a batch from those of parts of it, each of which comes with its size."""
    means: list[Any] = [0.0] * len(parts[0][1])
    with require_numpy().errstate(all="ignore"):
        for size, results in parts:
            means = [m + size / count * x for m, x in zip(means, results, strict=True)]
    return means


class Families:
    """The programs for examples of all structures, made when the first of each comes."""

    def __init__(self, problem: Nested, plan: Plan, example: Any) -> None:
        self._problem, self._plan = problem, plan
        structure = problem.structure(example, [])
        self.first = Family(problem, plan, example)
        self.every = [self.first]
        # None for those that are left to the eager engine: there are too many.
        self.layouts: dict[Hashable, Layout | None] = {structure: self.first.layout}

    def results(self, values: Any, batch: Sequence[Any], forward: bool) -> list[Any]:
        """The mean loss, the outputs of each example, and unless it is `forward` the gradient."""
        np = require_numpy()
        groups: dict[Hashable, tuple[list[int], list[Any]]] = {}
        for i, example in enumerate(batch):
            numbers: list[Any] = []
            structure = self._problem.structure(example, numbers)
            places, rows = groups.setdefault(structure, ([], []))
            places.append(i)
            rows.append(numbers)
        if not groups.keys() <= self.layouts.keys():
            new = [(rows, key, places[0]) for key, (places, rows) in groups.items()]
            for _, structure, place in sorted(new, key=lambda each: -len(each[0][0])):
                if structure not in self.layouts:  # the longest first, for it may serve the others
                    self.layouts[structure] = self._layout_of(batch[place])
        by_family: dict[Family, list[tuple[Layout, list[int], Any]]] = {}
        parts: list[tuple[int, list[Any]]] = []
        outputs: list[Any] = [()] * len(batch)
        for structure, (places, rows) in groups.items():
            if layout := self.layouts[structure]:
                laid_out = layout, places, layout.rows(rows)
                by_family.setdefault(layout.family, []).append(laid_out)
            else:
                loss, shown, *gradient = self.first.eagerly([batch[i] for i in places], forward)
                parts.append((len(places), [loss, *gradient]))
                for i, row in zip(places, shown, strict=True):
                    outputs[i] = row
        for family, every in by_family.items():
            examples = [batch[i] for _, places, _ in every for i in places]
            rows = every[0][2] if len(every) == 1 else np.concatenate([rows for *_, rows in every])
            results = family.results(values, rows, examples, forward)
            exact = None
            if family.may_spoil(results):
                with suppress(DomainError):  # which a program does not raise
                    exact = family.eagerly(examples, forward)
            loss, shown, *gradient = exact or results
            parts.append((len(examples), [loss, *gradient]))
            row = iter(shown)
            for layout, places, _ in every:
                for i in places if layout.shown else ():
                    outputs[i] = next(row) if exact else next(row)[layout.shown]
        loss, *gradient = parts[0][1] if len(parts) == 1 else mean_of(parts, len(batch))
        return [loss, outputs, *gradient]

    def _layout_of(self, example: Any) -> Layout | None:
        """Where the numbers of an example of a new structure are, perhaps in a new program."""
        trace = self.first.traced(example)
        values = require_numpy().array(numbers_of(self._plan.parameters))
        for family in self.every:
            if layout := family.layout_of(trace, values):
                for structure, known in self.layouts.items():
                    if known and known.family is family and len(known.row) != len(layout.row):
                        self.layouts[structure] = family.layout  # it has weights now
                return layout
        if len(self.every) == MOST_STRUCTURES:
            if None not in self.layouts.values():
                warn(
                    f"there are examples of more than {MOST_STRUCTURES} structures, and no program "
                    "of one serves the others: the eager engine computes the rest, one by one"
                )
            return None
        self.every.append(Family(self._problem, self._plan, example, trace))
        return self.every[-1].layout

    def rows(self, batch: Sequence[Any]) -> Any:
        """The rows of examples for the first program. Raises InputError for others."""
        rows = []
        for example in batch:
            numbers: list[Any] = []
            layout = self.layouts.get(self._problem.structure(example, numbers))
            if layout is None or layout.family is not self.first:
                raise InputError(f"{example!r:.60} is not for the first of the programs")
            rows.append(layout.rows([numbers]))
        return require_numpy().concatenate(rows)

    def check(self) -> None:
        """Trace the examples again. Raises TraceError where something else comes out."""
        for family in self.every:
            family.check()
