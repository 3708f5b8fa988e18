"""`compile_step`: one example traced, batches of any size computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import losses
from ..engine import Value, numbers_of, set_slot_of_grad
from ..errors import InputError, TraceError, warn
from ..gradients import adjoint_graphs, grad
from ..modes import apart, no_grad, paused
from ..nn import Module
from ..numerics import plain
from .equations import equations
from .execution import as_floats, check_backend, over_numpy, require_numpy
from .names import InputArray, identifier, input_arrays
from .tape import record
from .tracing import Trace, traced

if TYPE_CHECKING:
    from ..optim import Optimizer
    from .descent import Descent
    from .expressions import Source

MOST_WAYS = 8  # through the branches of a model and its loss, each with a program of its own


class _Plan(NamedTuple):
    """What the programs of a step have in common: what they are given, and how they run.

    `weights` and `examples` are the arrays of parameters and of the example. `jax` is the dtype and
    the number of devices; `share`, its leaf, scales the gradient where it begins, which is cheaper
    than where it ends.
    """

    parameters: list[Value]
    weights: list[InputArray]
    examples: list[InputArray]
    jax: tuple[str, int | None] | None
    share: list[Value]


class _Way:
    """The program of one way through the branches, which is right for examples that take it."""

    def __init__(self, trace: Trace, plan: _Plan) -> None:
        self.trace = trace
        self._plan = plan
        # With the loss and the outputs the program gives both sides of each comparison.
        self._shown = [*trace.logits, *trace.sides]
        with paused(), apart():
            objective = trace.root * plan.share[0] if plan.share else trace.root
            swept = adjoint_graphs(objective, plan.parameters)
            adjoints = {node: d for node, d in swept.items() if isinstance(d, Value)}
            slopes = [swept.get(p, 0.0) for p in plan.parameters]  # numbers, where constant
            gradient = [d if isinstance(d, Value) else Value(d) for d in slopes]
            self.printed, self.function, self._run = self._compiled(gradient, adjoints)

    def _compiled(
        self, gradient: Sequence[Value], adjoints: Mapping[Value, Value]
    ) -> tuple[Source, Callable[..., Any], Callable[..., Any]]:
        """The program of the loss, the outputs and a gradient: printed, as a function, and run."""
        from .lift import lift

        trace, plan, count = self.trace, self._plan, len(self._plan.parameters)
        leaves = [*plan.parameters, *trace.given, *plan.share]
        tape = record([trace.root, *self._shown, *gradient], leaves, trace.sources)
        derivatives = tape.outputs[1 + len(self._shown) :]
        own = {o: i for i, o in enumerate(derivatives) if isinstance(o, int) and o >= tape.inputs}
        arrays = [*plan.weights]
        arrays += [(name, shape, [count + i for i in of]) for name, shape, of in plan.examples]
        arrays += [(leaf.label, (), [tape.inputs - 1]) for leaf in plan.share]
        lifted = lift(tape, arrays, own, adjoints)
        if plan.jax:
            from . import xla
            from .jax_source import JaxPrinter

            source = JaxPrinter(lifted, count).step(len(self._shown))
            function = xla.pure(source, plan.jax[0])
            return source, function, xla.sharded(function, *plan.jax)
        from .numpy_source import NumpyPrinter

        source = NumpyPrinter(lifted, count).step(len(self._shown))
        function = over_numpy(source)
        return source, function, function

    @cached_property
    def _forward(self) -> Callable[..., Any]:
        return self._compiled([], {})[2]

    def results(self, values: Any, examples: Any, forward: bool) -> list[Any]:
        """The mean loss, the outputs of each example, and unless it is `forward` the gradient."""
        run = self._forward if forward else self._run
        if not self._plan.jax:
            return list(run(values, examples))
        from . import xla

        weights = xla.named(values, self._plan.weights)
        loss, outputs, *gradient = run(weights, xla.named(examples, self._plan.examples))
        return [loss, outputs, *[xla.flattened(g, self._plan.weights) for g in gradient]]

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
        sides = iter(outputs.T[len(self.trace.logits) :])
        for guard, left, right in zip(self.trace.guards, sides, sides, strict=True):
            taken &= guard.sign(left, right) == guard.outcome
        return taken


class Step:
    """A training step for batches: `step(X, y)` gives the mean loss and sets the gradients.

    `source` is the program and `function` runs it: from values and examples, as `arrays` gives
    them, to the mean loss, the outputs and the gradient, which is of the values' form: an array in
    the order of the parameters, with backend "jax" a dict of matrices. `parameters` are those that
    it differentiates; after a step `outputs` has what the model gave, of shape (examples, outputs).
    As it keeps these, a step belongs to one thread; `function` does not.

    Where model or loss compare Values there is a program for each way through the branches, made
    when an example first takes it, and `source` is that of the first. Examples on a ninth way are
    left to the eager engine, with a warning. No single function does all that: asking for
    `function` raises InputError.
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        loss: Callable[[Any, Any], Value],
        example: tuple[Sequence[float], Any],
        parameters: list[Value],
        labels: Sequence[str],
        jax: tuple[str, int | None] | None,
    ) -> None:
        self.parameters = parameters
        self.outputs: Any = None
        self._model, self._loss, self._example = model, loss, example
        self._is_warned = False
        self.learns: Descent | None = None  # the training that has the parameters
        trace = self._traced(example)
        self._traces = [trace]
        self.check()
        names: set[str] = set()
        weights = input_arrays(labels, names)
        examples = input_arrays([leaf.label for leaf in trace.given], names)
        share = [Value(1.0, identifier("share", names))] if jax else []
        self._plan = _Plan(parameters, weights, examples, jax, share)
        self._ways = [_Way(trace, self._plan)]

    def _traced(self, example: tuple[Sequence[float], Any]) -> Trace:
        self._settle()
        return traced(self._model, self._loss, example, self.parameters)

    def check(self) -> None:
        """Trace the example again: do model and loss compute what they did? Raises TraceError."""
        self._agree(self._traced(self._example))

    def _agree(self, trace: Trace) -> None:
        if not all(known.follows(trace) for known in self._traces):
            raise TraceError(
                "model or loss do not compute what they did when they were traced: an attribute "
                "that is changed, or random numbers, would be frozen"
            )

    @property
    def source(self) -> str:
        """The program; where there are branches, that of the first example."""
        return self._ways[0].printed.text

    @property
    def function(self) -> Callable[..., Any]:
        """What runs the program. Raises InputError where there are branches."""
        if self._ways[0].trace.guards:
            raise InputError("this step has a program for each way through its branches: call it")
        return self._ways[0].function

    def training(self, optimizer: Optimizer) -> Descent:
        """A block in which the step learns: it makes steps of the optimizer, on arrays.

        >>> import micrograd_like as ml
        >>> w = ml.Value(0.0)
        >>> step = compile_step(lambda x: w * x[0], ml.losses.mse, ([1.0], 2.0), [w])
        >>> with step.training(ml.optim.SGD([w], lr=0.1)) as training:
        ...     losses = [training([[1.0], [2.0]], [2.0, 4.0]) for _ in range(20)]
        >>> losses[0], round(w.data, 3)
        (10.0, 2.0)

        Within it the parameters are arrays, and the Values are old: see `Descent`. Raises
        InputError for an optimizer of other parameters, or with a `step` of its own.
        """
        from .descent import Descent

        return Descent(self, optimizer)

    def _settle(self) -> None:
        """Let the Values have what is learned: they are about to be looked at."""
        if self.learns:
            self.learns.write()

    def __call__(self, X: Any, y: Any) -> float:
        """The mean loss over the rows of X, and its gradient in each parameter's `.grad`."""
        loss, gradient = self.value_and_grad(X, y)
        for parameter, g in zip(self.parameters, gradient.tolist(), strict=True):
            set_slot_of_grad(parameter, g)
        return loss

    def value_and_grad(self, X: Any, y: Any) -> tuple[float, Any]:
        """The mean loss, and its gradient as an array in the order of the parameters."""
        loss, self.outputs, gradient = self._results(X, y, False)
        return float(loss), gradient

    def evaluate(self, X: Any, y: Any) -> float:
        """The mean loss, without its gradient; `outputs` are set."""
        loss, self.outputs = self._results(X, y, True)
        return float(loss)

    def _results(self, X: Any, y: Any, forward: bool) -> list[Any]:
        """The mean loss, the outputs, and unless it is `forward` the gradient."""
        targets = list(plain(y))
        values, examples = self._numbers(X, targets)
        first = self._ways[0]
        if not first.trace.guards:
            return first.results(values, examples, forward)
        np = require_numpy()
        parts: list[tuple[Any, list[Any]]] = []  # rows, and the results for them
        rest, tried = np.arange(len(examples)), 0
        while len(rest):
            if tried == len(self._ways):
                inputs = examples[rest, : first.trace.inputs].tolist()
                left = [targets[i] for i in rest]
                if not self._has_another((inputs[0], left[0])):
                    parts.append((rest, self._eagerly(inputs, left, forward)))
                    break
            way, tried = self._ways[tried], tried + 1
            found = way.over(rest, values, examples, forward)
            taken = np.concatenate([way.is_taken(results[1]) for _, results in found])
            if not taken.all():
                found = way.over(rest[taken], values, examples, forward)
            parts += found
            rest = rest[~taken]
        outputs = np.empty((len(examples), len(first.trace.logits)))
        means: list[Any] = [0.0] * (1 if forward else 2)
        for rows, (loss, shown, *gradient) in parts:
            outputs[rows] = shown[:, : outputs.shape[1]]
            share = len(rows) / len(examples)
            means = [m + share * x for m, x in zip(means, (loss, *gradient), strict=True)]
        return [means[0], outputs, *means[1:]]

    def _has_another(self, example: tuple[Sequence[float], Any]) -> bool:
        """Make a program for the way of the example, unless there are too many. Or TraceError."""
        if len(self._ways) == MOST_WAYS:
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
        if len(trace.logits) != len(self._traces[0].logits):
            raise TraceError("the model has not as many outputs for one example as for another")
        self._traces.append(trace)
        self._ways.append(_Way(trace, self._plan))
        return True

    def _eagerly(self, inputs: Sequence[Any], targets: Sequence[Any], forward: bool) -> list[Any]:
        np = require_numpy()
        self._settle()
        with apart(), no_grad() if forward else apart():
            outputs = [self._model(x) for x in inputs]
            rows = [numbers_of(out if isinstance(out, list) else [out]) for out in outputs]
            mean = losses.mean([self._loss(o, t) for o, t in zip(outputs, targets, strict=True)])
            gradient = [] if forward else [np.array(grad(mean, self.parameters))]
        return [mean.data, np.array(rows), *gradient]

    def arrays(self, X: Any, y: Any) -> tuple[Any, Any]:
        """What `function` takes: the parameters' numbers, and a row for each example.

        With backend "jax" both are dicts of arrays, named and shaped as in the source; those of the
        examples have the batch's axis in front.
        """
        values, examples = self._numbers(X, y)
        if not self._plan.jax:
            return values, examples
        from . import xla

        return xla.named(values, self._plan.weights), xla.named(examples, self._plan.examples)

    def _numbers(self, X: Any, y: Any) -> tuple[Any, Any]:
        """The parameters, and a row for each example, its inputs before its targets."""
        np = require_numpy()
        trace = self._traces[0]
        values = self.learns.values if self.learns else np.array(numbers_of(self.parameters))
        targets = as_floats([trace.row(t) for t in y])
        inputs = as_floats(X)
        if inputs.ndim == 1:
            inputs = inputs[:, None]
        if inputs.shape != (len(targets), trace.inputs) or not len(targets):
            raise InputError(
                f"a step takes rows of {trace.inputs} numbers and a target for each; got X "
                f"of shape {inputs.shape} and {len(targets)} targets"
            )
        return values, np.concatenate([inputs, targets], axis=1)

    def equations(self) -> str:
        """The program as LaTeX, an `aligned` environment with one equation a statement."""
        return equations(self._ways[0].printed.assignments)


def compile_step(
    model: Callable[[Any], Any],
    loss: Callable[[Any, Any], Value],
    example: tuple[Sequence[float], Any],
    parameters: Sequence[Value] | None = None,
    *,
    backend: str = "numpy",
    dtype: str = "float64",
    devices: int | None = None,
) -> Step:
    """Trace `loss(model(x), y)` on one example (x, y); the step then takes batches of any size.

    Inputs and targets become Values, and results equal the eager engine's to rounding, whatever
    the examples. Branches on comparisons of Values are followed: see `Step`. What is detached, or
    computed under `no_grad`, is computed anew in each step, as a constant. Refused are uses of
    a number, such as `.data`, by the line of yours that does it, random numbers, and whatever else
    differs when the example is traced a second time. What changes only later, such as an
    attribute of the model, remains as it was traced; `step.check()` traces again and raises
    TraceError if it has changed, which `fit` does after every epoch. `losses.cross_entropy` takes
    its label as a row of zeros with a one.

    With `backend="jax"` XLA compiles it, in `dtype`, as `compile` says, and each batch is shared
    out to so many `devices` (one, but with several processes all that there are), which need not
    divide it.

    Raises TraceError (an InputError) where model or loss cannot be followed, InputError if there
    are fewer devices.
    """
    check_backend(backend, ("numpy", "jax"), dtype)
    if backend != "jax" and devices is not None:
        raise InputError("devices are for backend='jax'")
    if parameters is None:
        if not isinstance(model, Module):
            raise InputError("compile_step needs a Module, or the parameters of the model")
        parameters = model.parameters()
    parameters = list(parameters)
    if not parameters:
        raise InputError("compile_step needs parameters to differentiate by")
    labels = [p.label for p in parameters]
    if isinstance(model, Module) and len(set(labels)) < len(labels):
        paths = {p: path for path, p in model.named_parameters()}
        labels = [paths.get(p, p.label) for p in parameters]
    jax = (dtype, devices) if backend == "jax" else None
    return Step(model, loss, example, parameters, labels, jax)
