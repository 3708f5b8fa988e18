"""The programs of a step: one for each structure of examples, and way through the branches."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from .. import losses
from ..engine import Value, numbers_of
from ..errors import DomainError, InputError, TraceError, warn
from ..gradients import grad
from ..modes import apart, paused, settle
from ..numerics import number
from .examples import Nested, Pairs, arguments
from .execution import are_finite, as_floats, require_numpy
from .lengths import coefficients, weighted
from .plan import Plan
from .surroundings import Surroundings
from .tracing import Trace
from .ways import Compiled, Way

CHANGED = (
    "model or loss do not compute what they did when they were traced: an attribute that is "
    "changed, or random numbers, would be frozen"
)
MOST_WAYS = 8  # through the branches of a model and its loss, each with a program of its own
_MOST_PADDING = 2  # times as many numbers as there are, for the sake of one program for a batch
MOST_STRUCTURES = 32  # of examples, each with a program of its own


class Layout(NamedTuple):
    """Where the numbers of examples of one structure are in the rows of a family's programs.

    They take these `columns` of the `row`: what else it has is the coefficients of the loss, and
    numbers that do not count. Their outputs are at the places `shown` among those of the program.
    """

    family: Family
    columns: slice | list[int]
    row: Any
    shown: list[int]


def rows_of(layouts: Sequence[Layout], numbers: Sequence[Sequence[Any]]) -> Any:
    """A row for each example, of one family, with its numbers. Raises InputError."""
    rows = require_numpy().empty((len(layouts), len(layouts[0].row)))
    for i, (layout, given) in enumerate(zip(layouts, numbers, strict=True)):
        rows[i] = layout.row
        try:
            rows[i, layout.columns] = given
        except OverflowError:  # an integer beyond the floats
            rows[i, layout.columns] = as_floats(given)
    return layouts[0].family.checked(rows)


class Family:
    """The programs for examples of one structure: one for each way through the branches.

    Shorter examples are among them where the loss allows it, with coefficients of their own.
    Examples on a way that would be the ninth are left to the eager engine, with a warning.
    """

    def __init__(
        self, problem: Pairs | Nested, plan: Plan, example: Any, trace: Trace | None = None
    ) -> None:
        self._problem, self._plan = problem, plan
        self._examples = [example]  # the first on each way
        self._is_warned = False
        if trace is None:
            trace = self.traced(example)
            self._repeat(trace, example)
            self.compare(trace, example)
        self._traces = [trace]
        # Tokens come in any number, as a rule: to do it later would take twice as long.
        has_tokens = isinstance(problem, Nested) and len(self._traces[0].choices) > 1
        is_weighted = has_tokens and not plan.is_javascript
        self.ways = [self._way(self._traces[0], is_weighted)]

    def _way(self, trace: Trace, is_weighted: bool = False) -> Way:
        way = Way(trace, self._plan, is_weighted)
        if self._problem.is_loss:  # compiled now, when what is wrong with it is best seen
            way.gradient  # noqa: B018
        return way

    @property
    def shape(self) -> Any:
        """The shape of the outputs, where they are nested lists."""
        return self._traces[0].shape

    @property
    def layout(self) -> Layout:
        """Where the numbers of examples of this structure are."""
        way = self.ways[0]
        weights = [way.trace.terms[keys[0]][1] for keys in way.groups]
        numbers = numbers_of(way.trace.given)
        row = require_numpy().array([*numbers, *weights])
        return Layout(self, slice(len(numbers)), row, [*range(len(way.trace.shown))])

    @property
    def _groups(self) -> Sequence[Sequence[int]] | None:
        """The keys of the terms that share a coefficient; None if the loss can have none."""
        if self.ways[0].groups or not self._traces[0].terms:
            return self.ways[0].groups
        weights = weighted(self._traces[0])
        return weights and weights.groups

    def may_serve(self, other: Family) -> bool:
        """Whether the terms of the other one's loss are among those of this one's."""
        groups = self._groups
        longer, shorter = self._traces[0], other._traces[0]
        return groups is not None and coefficients(groups, longer, shorter) is not None

    def layout_of(self, trace: Trace, values: Any) -> Layout | None:
        """Where the numbers of another example are, if the program gives its results, too.

        `values` are those of the parameters when it was traced.
        """
        longer, groups = self._traces[0], self._groups
        if groups is None or (found := coefficients(groups, longer, trace)) is None:
            return None
        if groups and not self.ways[0].groups:
            longer = self.traced(self._examples[0])  # with the numbers that the parameters have now
            self._follow(longer)
            self._traces, self.ways = [longer], [self._way(longer, is_weighted=True)]
        place = {name: i for i, name in enumerate(longer.names)}
        columns: Any = [place[name] for name in trace.names]
        if columns == [*range(len(columns))]:
            columns = slice(len(columns))
        row = self.layout.row
        row[len(longer.given) :] = found
        shown = [longer.keys_of_shown.index(key) for key in trace.keys_of_shown]
        layout = Layout(self, columns, row, shown)
        rows = rows_of([layout], [numbers_of(trace.given)])
        loss, outputs, *_ = self.ways[0].results(values, rows, not self._problem.is_loss)
        results = [loss, *outputs[0, shown]]
        expected = numbers_of([trace.root, *trace.shown])
        single = self._plan.jax is not None and self._plan.jax[0] == "float32"
        tolerance = 1e-4 if single else 1e-12
        if not all(_agree(x, y, tolerance) for x, y in zip(results, expected, strict=True)):
            return None
        longer.serve(trace)
        return layout

    def is_at(self, layout: Layout, example: Any) -> bool:
        """Whether the numbers of an example, with its coefficients, are still there."""
        found = coefficients(self._groups or [], self._traces[0], self.traced(example))
        known: list[float] = layout.row[len(self._traces[0].given) :].tolist()
        return found == known

    def traced(self, example: Any, outcomes: Iterable[bool] = ()) -> Trace:
        """The trace of an example, with the parameters as they are now. Raises TraceError."""
        settle()
        return self._problem.trace(example, self._plan.parameters, outcomes)

    def traced_later(self, example: Any) -> Trace:
        """The trace of an example that has come now, and is to leave nothing for others.

        Raises TraceError where it does; then all is as it was.
        """
        before = Surroundings(*self._problem.called)
        try:
            trace = self.traced(example)
            self._repeat(trace, example)
            self.follow()
        except TraceError:
            before.bring_back()
            raise
        return trace

    def follow(self) -> None:
        """Raises TraceError where the first example is not what it was."""
        with suppress(DomainError):  # of parameters that are others since
            self._follow(self.traced(self._examples[0]))

    def _repeat(self, trace: Trace, example: Any) -> None:
        """Raises TraceError where the trace of an example is another one the second time."""
        again = self.traced(example)
        if again.path != trace.path:
            raise TraceError(CHANGED)
        if again.continues(trace):
            raise TraceError("model or loss keeps numbers of an example for the next one")

    def check(self) -> None:
        """Trace the examples again, on each way. Raises TraceError where something else comes out.

        On a way that its example has left since, an operation may refuse its numbers.
        """
        self._follow(self.traced(self._examples[0]))
        for known, example in zip(self._traces, self._examples, strict=True):
            if known.guards:
                try:
                    path = self.traced(example, [g.outcome for g in known.guards]).path
                except (TraceError, DomainError) as error:
                    if not isinstance(error.__cause__ or error, DomainError):
                        raise
                    continue
                if path != known.path:
                    raise TraceError(CHANGED)

    def compare(self, trace: Trace, example: Any) -> None:
        """Raises TraceError where Values do not give what the numbers of the example do."""
        if trace.is_spoiled:  # then the program's results are, too, and the engine is asked
            return
        with paused(), apart():
            loss, shown = self._problem.of(*arguments(example))
        results = [x if isinstance(x, Value) else Value(number(x)) for x in (loss, *shown)]
        _check_equal("", numbers_of([trace.root, *trace.shown]), numbers_of(results))
        if self._problem.is_loss:
            wrt = self._plan.parameters
            _check_equal("a derivative of ", grad(trace.root, wrt), grad(results[0], wrt))

    def admit(self, example: Any) -> None:
        """Raises TraceError where an example of another kind, a tuple say, has another program."""
        trace = self.traced(example)
        if not all(known.follows(trace) for known in self._traces):
            raise TraceError(
                "an example is of another kind, a tuple for a list or an int for a float, than "
                "those before, and model or loss tells them apart, or has changed since"
            )
        self.compare(trace, example)

    def _follow(self, trace: Trace) -> None:
        if not all(known.follows(trace) for known in self._traces):
            raise TraceError(CHANGED)

    def checked(self, rows: Any) -> Any:
        """The rows of examples. Raises InputError where all take one way that refuses a number."""
        if not self.ways[0].trace.guards:
            self.ways[0].check(rows)
        return rows

    def results(self, values: Any, rows: Any, examples: Sequence[Any], forward: bool) -> list[Any]:
        """The mean loss, the outputs, and unless it is `forward` the gradient.

        `rows` has the numbers of each of the examples, and is `checked`.
        """
        np = require_numpy()
        first = self.ways[0]
        if not first.trace.guards:
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
            taken = way.may_take(rows[rest])
            if not taken.any():
                continue
            found = way.over(rest[taken], values, rows, forward)
            taken[taken] = np.concatenate([way.is_taken(results[1]) for _, results in found])
            way.check(rows[rest[taken]])
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
        """Whether results are not finite that may be so where the engine computes them.

        Rows that are not chosen, and terms that a shorter example lacks, count as 0 times what they
        are, which is NaN for infinities. Or a DomainError is caught, which no program raises.
        """
        ways = self.ways
        if all(way.trace.is_total and not (way.trace.choices or way.groups) for way in ways):
            return False
        with require_numpy().errstate(all="ignore"):
            return not are_finite(results)

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
        trace = self.traced_later(example)
        self._follow(trace)
        # By a rounding error, the program finds what is on a known path on another way.
        if trace.is_spoiled or any(known.path == trace.path for known in self._traces):
            return False
        if len(trace.shown) != len(self._traces[0].shown) or trace.shape != self.shape:
            raise TraceError("the model has not as many outputs for one example as for another")
        self.compare(trace, example)
        self._examples.append(example)
        self._traces.append(trace)
        self.ways.append(self._way(trace))
        return True

    def eagerly(self, examples: Sequence[Any], forward: bool) -> list[Any]:
        """The results, the outputs in lists, as the eager engine has them."""
        settle()
        with apart():
            made = [self._problem.of(*arguments(example)) for example in examples]
            mean = losses.mean([loss for loss, _ in made])
            gradient = [] if forward else [grad(mean, self._plan.parameters)]
        outputs = [numbers_of(shown) for _, shown in made]
        return [mean.data, outputs, *map(require_numpy().array, gradient)]


def _check_equal(what: str, found: Sequence[float], expected: Sequence[float]) -> None:
    """Raises TraceError. Derivatives may be NaN, which the engine is asked for again."""
    size = max([1.0, *[abs(y) for y in expected if math.isfinite(y)]]) if what else 1.0
    for x, y in zip(found, expected, strict=True):
        if not _agree(x / size, y / size, 1e-9) or (not what and (x != x) != (y != y)):
            raise TraceError(
                f"of numbers that are Values it makes {what}{x!r}, where it makes {what}{y!r} of "
                "plain ones: isinstance(x, int), say, tells them apart, and value_and_grad(f)(x)"
            )


def _agree(x: float, y: float, tolerance: float) -> bool:
    return math.isclose(x, y, rel_tol=tolerance, abs_tol=tolerance) or x != x or y != y


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
        self.are_lists = structure is not None  # the examples: they are no numbers
        self.first = Family(problem, plan, example)
        self.every = [self.first]
        # None for those that are left to the eager engine: there are too many.
        self.layouts: dict[Hashable, Layout | None] = {structure: self.first.layout}
        self.shapes = {structure: self.first.shape}  # of the outputs
        # Examples whose coefficients a callback may change, by whatever the loss looks at.
        self._padded: dict[Hashable, Any] = {}
        self._surroundings = Surroundings(*problem.called)
        # Where examples are in the program of longer ones of a batch, though they have their own.
        self._beside: dict[tuple[Hashable, Family], Layout | None] = {}

    def results(self, values: Any, batch: Sequence[Any], forward: bool) -> list[Any]:
        """The mean loss, the outputs of each example, and unless it is `forward` the gradient."""
        found, every = self._read(batch)
        by_family: dict[Family | None, list[int]] = {}
        for i, layout in enumerate(found):
            by_family.setdefault(layout and layout.family, []).append(i)
        parts: list[tuple[int, list[Any]]] = []
        outputs: list[Any] = [()] * len(batch)
        for family, places in by_family.items():
            examples = [batch[i] for i in places]
            if family is None:
                loss, shown, *gradient = self.first.eagerly(examples, forward)
            else:
                layouts: list[Any] = [found[i] for i in places]
                rows = rows_of(layouts, [every[i] for i in places])
                loss, shown, *gradient = family.results(values, rows, examples, forward)
                if shown.size:
                    taken = zip(shown, layouts, strict=True)
                    shown = [row[layout.shown] for row, layout in taken]
                if family.may_spoil([loss, *gradient, shown]):
                    with suppress(DomainError):  # which a program does not raise
                        loss, shown, *gradient = family.eagerly(examples, forward)
            parts.append((len(places), [loss, *gradient]))
            for i, row in zip(places, shown, strict=True):
                outputs[i] = row
        loss, *gradient = parts[0][1] if len(parts) == 1 else mean_of(parts, len(batch))
        return [loss, outputs, *gradient]

    def sole(self, batch: Sequence[Any]) -> tuple[Family, Any] | None:
        """The family of all examples, and their rows; None if they are of several, or of none."""
        layouts, every = self._read(batch)
        known = [layout for layout in layouts if layout]
        if len(known) < len(layouts) or len({layout.family for layout in known}) > 1:
            return None
        return known[0].family, rows_of(known, every)

    def shape(self, example: Any) -> Any:
        """The shape of the outputs of an example that has been computed."""
        return self.shapes[self._problem.structure(example, [])]

    def _read(self, batch: Sequence[Any]) -> tuple[list[Layout | None], list[list[Any]]]:
        """Where the numbers of each example are, and the numbers."""
        every: list[list[Any]] = [[] for _ in batch]
        read = self._problem.structure
        known = self._problem.count_kinds()
        structures = [read(*each) for each in zip(batch, every, strict=True)]
        if not all(every):
            i = every.index([])
            raise InputError(f"example {i} of the batch, {batch[i]!r:.60}, has no number")
        if self._problem.count_kinds() > known:  # there are ints where there were floats, say
            before = Surroundings(*self._problem.called)
            try:
                for example in batch:
                    self.first.compare(self.first.traced(example), example)
                self.first.follow()
            except TraceError:
                before.bring_back()
                self._problem.forget_kinds()
                raise
        if not self.layouts.keys() >= {*structures}:
            # The longest first, for it may serve the others.
            for i in sorted(range(len(batch)), key=lambda i: -len(every[i])):
                if structures[i] not in self.layouts:
                    self._lay_out(structures[i], batch[i])
        layouts = [self.layouts[structure] for structure in structures]
        if len({layout and layout.family for layout in layouts}) > 1:
            layouts = self._joined(layouts, structures, batch)
        return layouts, every

    def _joined(
        self, layouts: list[Layout | None], structures: list[Hashable], batch: Sequence[Any]
    ) -> list[Layout | None]:
        """All in the program of the longest example, where that has not too much to do."""
        sizes = [len(layout.row) if layout else 0 for layout in layouts]
        longest = layouts[sizes.index(most := max(sizes))]
        if longest is None or most * (len(sizes) - sizes.count(0)) > _MOST_PADDING * sum(sizes):
            return layouts
        found = dict(zip(structures, zip(layouts, batch, strict=True), strict=True))
        joined = {
            structure: self._layout_beside(longest.family, structure, *one)
            for structure, one in found.items()
        }
        # Their own layouts are others where that program has got coefficients for the joined.
        own = {s for s in found if joined[s] is found[s][0]}
        return [self.layouts[s] if s in own else joined[s] for s in structures]

    def _layout_beside(
        self, longer: Family, structure: Hashable, layout: Layout | None, example: Any
    ) -> Layout | None:
        """Where the numbers of an example are in a program of longer ones, or in their own."""
        if layout is None or layout.family is longer:
            return layout
        key = structure, longer
        if key not in self._beside:
            self._beside[key] = None
            if longer.may_serve(layout.family):
                trace, values = self.first.traced(example), self._values()
                self._beside[key] = self._layout_in(longer, trace, values)
        return self._beside[key] or layout

    def _lay_out(self, structure: Hashable, example: Any) -> None:
        """Find where the numbers of an example of a new structure are, if not in a new program."""
        trace = self.first.traced_later(example)
        self.first.compare(trace, example)
        self.shapes[structure] = trace.shape
        self._padded[structure] = example
        self.layouts[structure] = self._layout_of(trace, example)

    def _layout_of(self, trace: Trace, example: Any) -> Layout | None:
        values = self._values()
        for family in self.every:
            if found := self._layout_in(family, trace, values):
                return found
        if len(self.every) == MOST_STRUCTURES:
            if None not in self.layouts.values():
                warn(
                    f"there are examples of more than {MOST_STRUCTURES} structures, and no program "
                    "of one serves the others: the eager engine computes the rest, one by one"
                )
            return None
        self.every.append(Family(self._problem, self._plan, example, trace))
        return self.every[-1].layout

    def _layout_in(self, family: Family, trace: Trace, values: Any) -> Layout | None:
        found, now = family.layout_of(trace, values), family.layout
        for structure, known in self.layouts.items():
            if known and known.family is family and len(known.row) != len(now.row):
                self.layouts[structure] = now  # it has weights since, found or not
        return found

    def _values(self) -> Any:
        """The numbers that the parameters were traced with last."""
        return require_numpy().array(numbers_of(self._plan.parameters))

    def rows(self, batch: Sequence[Any]) -> Any:
        """The rows of examples for the first program. Raises InputError for others."""
        found = self.sole(batch)
        if found is None or found[0] is not self.first:
            raise InputError(
                "there are examples that are not computed by the first of the programs"
            )
        return found[1]

    def check(self) -> None:
        """Trace the examples again. Raises TraceError where something else comes out."""
        for family in self.every:
            family.check()
        try:
            self._surroundings.check()
        except TraceError:
            for structure, example in self._padded.items():
                if (layout := self.layouts[structure]) and not layout.family.is_at(layout, example):
                    raise TraceError(CHANGED) from None
            self._surroundings = Surroundings(*self._problem.called)


class Report:
    """What became of the examples.

    `structures` of examples have come, of which `padded` are computed by the program of a longer
    one, with coefficients of their own, and `eager` by the engine; there are so many `programs`,
    the first of which has `statements`, with `matrix_products` and index `gathers` in them.
    """

    def __init__(self, program: Compiled, families: Families | Family) -> None:
        layouts: list[Layout | None] = []
        every = [families] if isinstance(families, Family) else families.every
        if isinstance(families, Families):
            layouts += families.layouts.values()
        self.structures = max(len(layouts), 1)
        self.eager = layouts.count(None)
        self.padded = self.structures - self.eager - len(every)
        self.programs = sum(len(family.ways) for family in every)
        self.statements = program.statements
        self.matrix_products = program.printed.matrix_products if program.printed else 0
        self.gathers = program.printed.gathers if program.printed else 0

    def __str__(self) -> str:
        structures = f"{self.structures} structure{'s' * (self.structures > 1)} of examples"
        programs = f"{self.programs} program{'s' * (self.programs > 1)}"
        padded = f", {self.padded} padded with coefficients" if self.padded else ""
        eager = f", {self.eager} by the eager engine" if self.eager else ""
        return (
            f"{structures}{padded}{eager}: {programs}, the first of {self.statements:,} "
            f"statements, {self.matrix_products} matrix products, {self.gathers} gathers"
        )

    __repr__ = __str__
