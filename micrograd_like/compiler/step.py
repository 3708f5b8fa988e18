"""`compile_step`: one example traced, batches of any size computed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from .. import losses
from ..engine import Value, numbers_of, set_slot_of_grad
from ..errors import DomainError, InputError, OperandError, TraceError, warn
from ..gradients import grad
from ..modes import apart, no_grad, paused
from ..nn import Module
from ..numerics import plain
from .equations import equations
from .examples import Nested, Pairs, arguments
from .execution import as_floats, check_backend, over_numpy, require_numpy, unless_nan
from .names import InputArray, identifier, input_arrays
from .tape import record
from .tracing import Trace

if TYPE_CHECKING:
    from ..optim import Optimizer
    from .descent import Descent
    from .expressions import Source

MOST_WAYS = 8  # through the branches of a model and its loss, each with a program of its own


class _Plan:
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


class _Way:
    """The program of one way through the branches, which is right for examples that take it."""

    def __init__(self, trace: Trace, plan: _Plan) -> None:
        self.trace = trace
        self._plan = plan
        names = set(plan.names)
        self.examples = input_arrays(trace.names, names)
        self._one_hot = list(_one_hot_arrays(trace, self.examples, names))
        # The share of an example in the mean scales the gradient where it begins, which is cheaper
        # for JAX than where it ends.
        self._share = [Value(1.0, identifier("share", names))] if plan.jax else []
        # With the loss and the outputs the program gives both sides of each comparison.
        self._shown = [*trace.shown, *trace.sides]
        with paused(), apart():
            self.printed, self.function, self._run = self._compiled(plan.parameters)

    def _compiled(
        self, wrt: Sequence[Value]
    ) -> tuple[Source, Callable[..., Any], Callable[..., Any]]:
        """The program of the loss, the outputs and a gradient: printed, as a function, and run."""
        from .lift import lift

        trace, plan, count = self.trace, self._plan, len(self._plan.parameters)
        # An indicator is a factor where what this makes of infinities, 0·inf = NaN, would be seen.
        chosen = () if trace.could_lose_nan else trace.leaves[len(trace.given) :]
        leaves = [*plan.parameters, *trace.leaves, *self._share]
        root = trace.root
        objective = [root * self._share[0] if plan.jax else root] if wrt else []
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
            return source, function, unless_nan(run, source, exactly(JaxPrinter))
        from .numpy_source import NumpyPrinter

        source = NumpyPrinter(lifted, count).step(len(self._shown))
        function = over_numpy(source, exactly(NumpyPrinter))
        return source, function, function

    @cached_property
    def _forward(self) -> Callable[..., Any]:
        with paused(), apart():
            return self._compiled([])[2]

    def results(self, values: Any, examples: Any, forward: bool) -> list[Any]:
        """The mean loss, the outputs of each example, and unless it is `forward` the gradient."""
        run = self._forward if forward else self._run
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
    trace: Trace, arrays: Sequence[InputArray], names: set[str]
) -> Iterator[_OneHot]:
    """One for the numbers of each array that have so many indicators; `names` are taken."""
    first: dict[int, int] = {}
    number = len(trace.given)
    for place, leaves in trace.indicators.items():
        first[place] = number
        number += len(leaves)
    for name, _, numbers in arrays:
        for count in sorted({len(trace.indicators[i]) for i in numbers if i in first}):
            places = [i for i in numbers if i in first and len(trace.indicators[i]) == count]
            shape = (len(places), count) if len(places) > 1 else (count,)
            of = [first[i] + k for i in places for k in range(count)]
            yield _OneHot(identifier(f"one_hot_{name}", names), shape, of, places)


class _Family:
    """The programs for examples of one structure: one for each way through the branches.

    Examples on a way that would be the ninth are left to the eager engine, with a warning.
    """

    def __init__(self, problem: Pairs | Nested, plan: _Plan, example: Any) -> None:
        self._problem, self._plan, self._example = problem, plan, example
        self._traces = [self._traced(example)]
        self._is_warned = False
        self.check()
        self.ways = [_Way(self._traces[0], plan)]

    def _traced(self, example: Any) -> Trace:
        self._plan.settle()
        return self._problem.trace(example, self._plan.parameters)

    def check(self) -> None:
        """Trace the example again. Raises TraceError where something else comes out."""
        self._agree(self._traced(self._example))

    def _agree(self, trace: Trace) -> None:
        if not all(known.follows(trace) for known in self._traces):
            raise TraceError(
                "model or loss do not compute what they did when they were traced: an attribute "
                "that is changed, or random numbers, would be frozen"
            )

    def results(
        self, values: Any, rows: Any, example: Callable[[int], Any], forward: bool
    ) -> list[Any]:
        """The mean loss, the outputs, and unless it is `forward` the gradient.

        `rows` has the numbers of each example, and `example(i)` is the one of row i itself.
        """
        np = require_numpy()
        results = self._by_programs(values, rows, example, forward)
        chooses = any(way.trace.choices for way in self.ways)
        if chooses and any(np.isnan(x).any() for x in results):
            # Rows that are not chosen count as 0 times what they are, which is NaN for infinities.
            with suppress(DomainError):
                return self._eagerly([example(i) for i in range(len(rows))], forward)
        return results

    def _by_programs(
        self, values: Any, rows: Any, example: Callable[[int], Any], forward: bool
    ) -> list[Any]:
        first = self.ways[0]
        if not first.trace.guards:
            first.check_choices(rows)
            return first.results(values, rows, forward)
        np = require_numpy()
        parts: list[tuple[Any, list[Any]]] = []  # rows, and the results for them
        rest, tried = np.arange(len(rows)), 0
        while len(rest):
            if tried == len(self.ways) and not self._has_another(example(int(rest[0]))):
                left = [example(int(i)) for i in rest]
                parts.append((rest, self._eagerly(left, forward)))
                break
            way, tried = self.ways[tried], tried + 1
            found = way.over(rest, values, rows, forward)
            taken = np.concatenate([way.is_taken(results[1]) for _, results in found])
            way.check_choices(rows[rest[taken]])
            if not taken.all():
                found = way.over(rest[taken], values, rows, forward)
            parts += found
            rest = rest[~taken]
        return combined(parts, len(rows), len(first.trace.shown))

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
        trace = self._traced(example)
        self._agree(trace)
        if any(known.path == trace.path for known in self._traces):
            return False  # by a rounding error, the program finds it on another way
        if len(trace.shown) != len(self._traces[0].shown):
            raise TraceError("the model has not as many outputs for one example as for another")
        self._traces.append(trace)
        self.ways.append(_Way(trace, self._plan))
        return True

    def _eagerly(self, examples: Sequence[Any], forward: bool) -> list[Any]:
        np = require_numpy()
        self._plan.settle()
        with apart(), no_grad() if forward else apart():
            made = [self._problem.of(*arguments(example)) for example in examples]
            mean = losses.mean([loss for loss, _ in made])
            gradient = [] if forward else [np.array(grad(mean, self._plan.parameters))]
            outputs = np.array([numbers_of(shown) for _, shown in made])
        return [mean.data, outputs, *gradient]


def combined(parts: Sequence[tuple[Any, list[Any]]], count: int, shown: int) -> list[Any]:
    """The results of a batch from those of parts of it, each of which comes with its rows."""
    np = require_numpy()
    outputs = np.empty((count, shown))
    means: list[Any] = [0.0] * (len(parts[0][1]) - 1)
    for rows, (loss, part, *gradient) in parts:
        outputs[rows] = part[:, :shown]
        share = len(rows) / count
        with np.errstate(all="ignore"):
            means = [m + share * x for m, x in zip(means, (loss, *gradient), strict=True)]
    return [means[0], outputs, *means[1:]]


class Step:
    """A training step for batches: `step(batch)` gives the mean loss and sets the gradients.

    A batch is a list of examples, of the structure of the one that was traced or of others: for
    each there is a program, made when the first such example comes. A step of a model and a loss
    takes `step(X, y)`, rows of inputs and their targets.

    `source` is the program and `function` runs it: from values and examples, as `arrays` gives
    them, to the mean loss, the outputs (of a model) and the gradient, which is of the values' form:
    an array in the order of the parameters, with backend "jax" a dict of matrices. `parameters` are
    those that it differentiates; after a step of a model `outputs` has what it gave, of shape
    (examples, outputs). As it keeps these, a step belongs to one thread; `function` does not.

    Where model or loss compare Values there is a program for each way through the branches, made
    when an example first takes it, and `source` is that of the first. Examples on a ninth way are
    left to the eager engine, with a warning. No single function does all that: asking for
    `function` raises InputError, as it does where examples have come of several structures.
    """

    def __init__(
        self,
        problem: Pairs | Nested,
        example: Any,
        parameters: list[Value],
        labels: Sequence[str],
        jax: tuple[str, int | None] | None,
    ) -> None:
        self.parameters = parameters
        self.outputs: Any = None
        self._problem = problem
        self._plan = _Plan(parameters, labels, jax)
        structure = problem.structure(example, []) if isinstance(problem, Nested) else None
        self._first = _Family(problem, self._plan, example)
        self._families: dict[Hashable, _Family] = {structure: self._first}

    def check(self) -> None:
        """Trace the examples again: do model and loss compute what they did? Raises TraceError."""
        for family in self._families.values():
            family.check()

    @property
    def source(self) -> str:
        """The program; where there are several, that of the first example."""
        return self._first.ways[0].printed.text

    @property
    def function(self) -> Callable[..., Any]:
        """What runs the program. Raises InputError where there are several."""
        if self._first.ways[0].trace.guards:
            raise InputError("this step has a program for each way through its branches: call it")
        if len(self._families) > 1:
            raise InputError("this step has a program for each structure of examples: call it")
        return self._first.ways[0].function

    @property
    def learns(self) -> Descent | None:
        """The training that has the parameters."""
        return self._plan.learns

    @learns.setter
    def learns(self, training: Descent | None) -> None:
        self._plan.learns = training

    def training(self, optimizer: Optimizer) -> Descent:
        """A block in which the step learns: it makes steps of the optimizer, on arrays.

        >>> import micrograd_like as ml
        >>> w = ml.Value(0.0)
        >>> step = compile_step(lambda x, y: (w * x - y) ** 2, [w], (1.0, 2.0))
        >>> with step.training(ml.optim.SGD([w], lr=0.1)) as training:
        ...     losses = [training([(1.0, 2.0), (2.0, 4.0)]) for _ in range(20)]
        >>> losses[0], round(w.data, 3)
        (10.0, 2.0)

        Within it the parameters are arrays, and the Values are old: see `Descent`. Raises
        InputError for an optimizer of other parameters, or with a `step` of its own.
        """
        from .descent import Descent

        return Descent(self, optimizer)

    def __call__(self, *batch: Any) -> float:
        """The mean loss over a batch, and its gradient in each parameter's `.grad`."""
        loss, gradient = self.value_and_grad(*batch)
        for parameter, g in zip(self.parameters, gradient.tolist(), strict=True):
            set_slot_of_grad(parameter, g)
        return loss

    def value_and_grad(self, *batch: Any) -> tuple[float, Any]:
        """The mean loss, and its gradient as an array in the order of the parameters."""
        loss, self.outputs, gradient = self._results(batch, False)
        return float(loss), gradient

    def evaluate(self, *batch: Any) -> float:
        """The mean loss, without its gradient; `outputs` are set."""
        loss, self.outputs = self._results(batch, True)
        return float(loss)

    def _results(self, batch: tuple[Any, ...], forward: bool) -> list[Any]:
        """The mean loss, the outputs, and unless it is `forward` the gradient."""
        values = self._plan.values
        if isinstance(self._problem, Pairs):
            rows, n = self._rows_of_pairs(*batch), self._problem.inputs
            targets = list(plain(batch[1]))
            return self._first.results(
                values, rows, lambda i: (rows[i, :n].tolist(), targets[i]), forward
            )
        return self._results_of_nested(values, self._examples(*batch), forward)

    def _results_of_nested(self, values: Any, batch: list[Any], forward: bool) -> list[Any]:
        assert isinstance(self._problem, Nested)
        groups: dict[Hashable, tuple[list[int], list[Any]]] = {}
        for i, example in enumerate(batch):
            numbers: list[Any] = []
            structure = self._problem.structure(example, numbers)
            places, rows = groups.setdefault(structure, ([], []))
            places.append(i)
            rows.append(numbers)
        for structure, (places, _) in groups.items():
            if structure not in self._families:
                self._families[structure] = _Family(self._problem, self._plan, batch[places[0]])
        parts = [
            (
                places,
                self._families[structure].results(
                    values, as_floats(rows), [batch[i] for i in places].__getitem__, forward
                ),
            )
            for structure, (places, rows) in groups.items()
        ]
        return parts[0][1] if len(parts) == 1 else combined(parts, len(batch), 0)

    def _examples(self, *batch: Any) -> list[Any]:
        """The examples of a batch. Raises InputError, and OperandError for what is no list."""
        if len(batch) != 1:
            raise InputError(f"a step takes a list of examples, got {len(batch)} arguments")
        examples = plain(batch[0])
        if not isinstance(examples, (list, tuple)):
            raise OperandError(f"a step takes a list of examples, got {examples!r:.60}")
        if not examples:
            raise InputError("a step takes a list of examples, and this one is empty")
        return list(examples)

    def arrays(self, *batch: Any) -> tuple[Any, Any]:
        """What `function` takes: the parameters' numbers, and a row for each example.

        With backend "jax" both are dicts of arrays, named and shaped as in the source; those of the
        examples have the batch's axis in front.
        """
        values = self._plan.values
        if isinstance(self._problem, Pairs):
            rows = self._rows_of_pairs(*batch)
        else:
            found: list[list[Any]] = []
            for example in self._examples(*batch):
                found.append([])
                if (
                    self._families.get(self._problem.structure(example, found[-1]))
                    is not self._first
                ):
                    raise InputError("an example is not of the structure of the first one")
            rows = as_floats(found)
        if not self._plan.jax:
            return values, rows
        from . import xla

        of_examples = xla.named(rows, self._first.ways[0].examples)
        return xla.named(values, self._plan.weights), of_examples

    def _rows_of_pairs(self, *batch: Any) -> Any:
        """A row for each example, its inputs before its targets."""
        assert isinstance(self._problem, Pairs)
        if len(batch) != 2:
            raise InputError(f"a step of a model takes rows X and targets y, got {len(batch)}")
        X, y = batch
        row, count = self._problem.row, self._problem.inputs
        targets = as_floats([row(t) for t in y])
        inputs = as_floats(X)
        if inputs.ndim == 1:
            inputs = inputs[:, None]
        if inputs.shape != (len(targets), count) or not len(targets):
            raise InputError(
                f"a step takes rows of {count} numbers and a target for each; got X "
                f"of shape {inputs.shape} and {len(targets)} targets"
            )
        return require_numpy().concatenate([inputs, targets], axis=1)

    def equations(self) -> str:
        """The program as LaTeX, an `aligned` environment with one equation a statement."""
        return equations(self._first.ways[0].printed.assignments)


@overload
def compile_step(
    model: Callable[[Any], Any],
    loss: Callable[[Any, Any], Value],
    example: tuple[Sequence[float], Any],
    parameters: Sequence[Value] | None = None,
    *,
    backend: str = "numpy",
    dtype: str = "float64",
    devices: int | None = None,
) -> Step: ...
@overload
def compile_step(
    loss: Callable[..., Value],
    parameters: Any,
    example: Any,
    *,
    static: Collection[int] = (),
    backend: str = "numpy",
    dtype: str = "float64",
    devices: int | None = None,
) -> Step: ...
def compile_step(
    *arguments: Any,
    static: Collection[int] = (),
    backend: str = "numpy",
    dtype: str = "float64",
    devices: int | None = None,
    **named: Any,
) -> Step:
    """Trace the loss of one example; the step then takes batches of any size.

    `compile_step(loss, parameters, example)` is for any loss: `example` is a number, or a list of
    numbers and lists, and the loss is `loss(example)`; where it is a tuple, `loss(*example)`. The
    parameters are Values in lists or dicts, nested as you like, whose keys name the arrays of the
    program. `step(batch)` takes a list of examples. They may be of other lengths: each structure
    has a program, made when the first such example comes. Arguments at the places `static`, which
    are not numbers, are handed over as they are, and there is a program for each.

    `compile_step(model, loss, example, parameters=None)` is for an example (x, y), a row of numbers
    and a target, and `loss(model(x), y)`; `step(X, y)` takes rows and targets. The parameters are
    those of the model, a Module, if none are named. `losses.cross_entropy` takes its label as a row
    of zeros with a one.

    Numbers of the example become Values, and results equal the eager engine's to rounding, whatever
    the examples. By `take` a number of the example chooses from a list. Branches on comparisons of
    Values are followed: see `Step`. What is detached, or
    computed under `no_grad`, is computed anew in each step, as a constant. Refused are uses of
    a number, such as `.data`, or an index, by the line of yours that does it, random numbers, and
    whatever else differs when the example is traced a second time. What changes only later, such as
    an attribute of the model, remains as it was traced; `step.check()` traces again and raises
    TraceError if it has changed, which `fit` does after every epoch.

    With `backend="jax"` XLA compiles it, in `dtype`, as `compile` says, and each batch is shared
    out to so many `devices` (one, but with several processes all that there are), which need not
    divide it.

    Raises TraceError (a ValueError) where model or loss cannot be followed, InputError if there
    are fewer devices.
    """
    check_backend(backend, ("numpy", "jax"), dtype)
    if backend != "jax" and devices is not None:
        raise InputError("devices are for backend='jax'")
    given = _by_name(arguments, named)
    problem: Pairs | Nested
    if "model" in given:
        if static:
            raise InputError("static arguments are for compile_step(loss, parameters, example)")
        problem = Pairs(given["model"], given["loss"])
        parameters, labels = _of_model(given["model"], given["parameters"])
    else:
        problem = Nested(given["loss"], static)
        parameters, labels = _named_parameters(given["parameters"])
    if not parameters:
        raise InputError("compile_step needs parameters to differentiate by")
    jax = (dtype, devices) if backend == "jax" else None
    return Step(problem, given["example"], parameters, labels, jax)


def _by_name(arguments: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """The arguments of one of the two forms, by their names. Raises OperandError."""
    second = arguments[1] if len(arguments) > 1 else named.get("parameters")
    if isinstance(second, Module):
        raise OperandError("the parameters of a module are needed here: module.parameters()")
    is_pair = "model" in named or (arguments and "loss" in named)
    if is_pair or (len(arguments) > 1 and callable(second)):
        names, optional = ["model", "loss", "example", "parameters"], {"parameters": None}
    else:
        names, optional = ["loss", "parameters", "example"], {}
    given = dict(zip(names, arguments, strict=False))
    unknown = [*(named.keys() & given.keys()), *(named.keys() - set(names))]
    given = {**optional, **given, **named}
    missing = [name for name in names if name not in given]
    if len(arguments) > len(names) or unknown or missing:
        problem = f"lacks {missing[0]}" if missing else f"has more than these: {unknown or names}"
        raise OperandError(f"compile_step({', '.join(names)}) {problem}")
    return given


def _of_model(model: Any, parameters: Any) -> tuple[list[Value], list[str]]:
    """The parameters of a model, or those that are named, with their labels."""
    if parameters is None:
        if not isinstance(model, Module):
            raise InputError("compile_step needs a Module, or the parameters of the model")
        parameters = model.parameters()
    parameters = list(parameters)
    labels = [p.label for p in parameters]
    if isinstance(model, Module) and len(set(labels)) < len(labels):
        paths = {p: path for path, p in model.named_parameters()}
        labels = [paths.get(p, p.label) for p in parameters]
    return parameters, labels


def _named_parameters(tree: Any) -> tuple[list[Value], list[str]]:
    """The Values in lists and dicts, each once, with labels by the keys on the way to it.

    Those that no key leads to have their own. Raises OperandError for what is no Value.
    """
    found: dict[Value, str] = {}

    def visit(x: Any, name: str, indices: str) -> None:
        if isinstance(x, Value):
            found.setdefault(x, f"{name}{indices}" if name else x.label)
        elif isinstance(x, Mapping):
            stem = name + "".join(f"_{i}" for i in indices.strip("[]").split("][") if i)
            for key, item in x.items():
                visit(item, f"{stem}_{key}" if stem else str(key), "")
        elif isinstance(x, (list, tuple)):
            for i, item in enumerate(x):
                visit(item, name, f"{indices}[{i}]")
        else:
            advice = ": module.parameters()" if isinstance(x, Module) else f", got {x!r:.60}"
            raise OperandError(f"parameters are Values, in lists and dicts{advice}")

    visit(tree, "", "")
    return list(found), list(found.values())
