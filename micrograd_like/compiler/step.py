"""`compile_step`: one example traced, batches of any size computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from .. import losses, ops
from ..engine import Value, slot_of_data
from ..errors import InputError, MicrogradError, TraceError
from ..gradients import adjoint_graphs
from ..modes import paused
from ..nn import Module
from ..numerics import number
from ..sums import affine
from .equations import equations
from .execution import as_floats, check_backend, over_numpy, require_numpy
from .names import identifier, input_arrays
from .tape import record

if TYPE_CHECKING:
    from .expressions import Source


@dataclass(frozen=True)
class _Trace:
    """What the functions made of one example.

    `given` are the leaves that stand for it, of which the first `inputs` are the model's; `root` is
    the loss and `logits` are what the model gave. `row` turns a target into numbers.
    """

    root: Value
    logits: list[Value]
    given: list[Value]
    inputs: int
    row: Callable[[Any], Sequence[float]]


class Step:
    """A training step for batches: `step(X, y)` gives the mean loss and sets the gradients.

    `source` is the program and `function` runs it: from values and examples, as `arrays` gives
    them, to the mean loss, the outputs and the gradient, which is of the values' form: an array in
    the order of the parameters, with backend "jax" a dict of matrices. `parameters` are those that
    it differentiates; after a step `outputs` has what the model gave, of shape (examples, outputs).
    As it keeps these, a step belongs to one thread; `function` does not.
    """

    def __init__(
        self,
        parameters: list[Value],
        labels: Sequence[str],
        trace: _Trace,
        backend: str,
        dtype: str,
        devices: int | None,
    ) -> None:
        self.parameters = parameters
        self.outputs: Any = None
        self._trace = trace
        self._jax = (dtype, devices) if backend == "jax" else None
        names: set[str] = set()
        weights = input_arrays(labels, names)
        self._layouts = weights, input_arrays([leaf.label for leaf in trace.given], names)
        objective, self._share = trace.root, []
        if self._jax:
            # The gradient is scaled where it begins, which is cheaper than where it ends.
            self._share = [Value(1.0, identifier("share", names))]
            objective = trace.root * self._share[0]
        with paused():
            swept = adjoint_graphs(objective, parameters)
            adjoints = {node: d for node, d in swept.items() if isinstance(d, Value)}
            zero = Value(0.0)
            gradient = [adjoints.get(p, zero) for p in parameters]
            self._printed, self.function, self._run = self._compiled(gradient, adjoints)
        self.source = self._printed.text

    def _compiled(
        self, gradient: Sequence[Value], adjoints: Mapping[Value, Value]
    ) -> tuple[Source, Callable[..., Any], Callable[..., Any]]:
        """The program of the loss, the outputs and a gradient: printed, as a function, and run."""
        from .lift import lift

        trace, count = self._trace, len(self.parameters)
        leaves = [*trace.given, *self._share]
        tape = record([trace.root, *trace.logits, *gradient], [*self.parameters, *leaves])
        derivatives = tape.outputs[1 + len(trace.logits) :]
        own = {o: i for i, o in enumerate(derivatives) if isinstance(o, int) and o >= tape.inputs}
        weights, examples = self._layouts
        arrays = [*weights, *((n, shape, [count + i for i in of]) for n, shape, of in examples)]
        arrays += [(leaf.label, (), [tape.inputs - 1]) for leaf in self._share]
        lifted = lift(tape, arrays, own, adjoints)
        if self._jax:
            from . import xla
            from .jax_source import JaxPrinter

            source = JaxPrinter(lifted, count).step(len(trace.logits))
            function = xla.pure(source, self._jax[0])
            return source, function, xla.sharded(function, *self._jax)
        from .numpy_source import NumpyPrinter

        source = NumpyPrinter(lifted, count).step(len(trace.logits))
        function = over_numpy(source)
        return source, function, function

    @cached_property
    def _forward(self) -> Callable[..., Any]:
        return self._compiled([], {})[2]

    def __call__(self, X: Any, y: Any) -> float:
        """The mean loss over the rows of X, and its gradient in each parameter's `.grad`."""
        loss, gradient = self.value_and_grad(X, y)
        for parameter, g in zip(self.parameters, gradient.tolist(), strict=True):
            parameter.grad = g
        return loss

    def value_and_grad(self, X: Any, y: Any) -> tuple[float, Any]:
        """The mean loss, and its gradient as an array in the order of the parameters."""
        loss, self.outputs, gradient = self._run(*self.arrays(X, y))
        if self._jax:
            from . import xla

            gradient = xla.flattened(gradient, self._layouts[0])
        return float(loss), gradient

    def evaluate(self, X: Any, y: Any) -> float:
        """The mean loss, without its gradient; `outputs` are set."""
        loss, self.outputs = self._forward(*self.arrays(X, y))
        return float(loss)

    def arrays(self, X: Any, y: Any) -> tuple[Any, Any]:
        """What `function` takes: the parameters' numbers, and a row for each example.

        With backend "jax" both are dicts of arrays, named and shaped as in the source; those of the
        examples have the batch's axis in front.
        """
        np = require_numpy()
        values = np.array([*map(slot_of_data, self.parameters)])
        targets = as_floats([self._trace.row(t) for t in y])
        inputs = as_floats(X)
        if inputs.ndim == 1:
            inputs = inputs[:, None]
        if inputs.shape != (len(targets), self._trace.inputs) or not len(targets):
            raise InputError(
                f"a step takes rows of {self._trace.inputs} numbers and a target for each; got X "
                f"of shape {inputs.shape} and {len(targets)} targets"
            )
        examples = np.concatenate([inputs, targets], axis=1)
        if not self._jax:
            return values, examples
        from . import xla

        return xla.named(values, self._layouts[0]), xla.named(examples, self._layouts[1])

    def equations(self) -> str:
        """The program as LaTeX, an `aligned` environment with one equation a statement."""
        return equations(self._printed.assignments)


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

    Inputs and targets become Values; the loss must not depend on them in other ways than through
    operations of the table. An exception is `losses.cross_entropy`, whose label chooses a logit.

    With `backend="jax"` XLA compiles it, in `dtype`, as `compile` says, and each batch is shared
    out to so many `devices` (one, but with several processes all that there are), which need not
    divide it.

    Raises TraceError (an InputError) where the functions refuse Values, InputError if there are
    fewer devices.
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
    trace = _traced(model, loss, example)
    labels = [p.label for p in parameters]
    if isinstance(model, Module) and len(set(labels)) < len(labels):
        paths = {p: path for path, p in model.named_parameters()}
        labels = [paths.get(p, p.label) for p in parameters]
    return Step(parameters, labels, trace, backend, dtype, devices)


def _traced(
    model: Callable[[Any], Any],
    loss: Callable[[Any, Any], Value],
    example: tuple[Sequence[float], Any],
) -> _Trace:
    """Raises TraceError, and InputError for an example without a number."""
    x, y = example
    inputs = [Value(xi, f"X[{i}]") for i, xi in enumerate(x)]
    row: Callable[[Any], Sequence[float]]
    try:
        outputs = model(inputs)
        logits = outputs if isinstance(outputs, list) else [outputs]
        if loss is losses.cross_entropy:
            row = partial(_one_hot, count=len(logits))
            targets = [Value(t, f"Y[{k}]") for k, t in enumerate(row(y))]
            root = ops.logsumexp(*logits) - affine(targets, logits)
        elif isinstance(y, (list, tuple)):
            row = list
            targets = [Value(t, f"Y[{k}]") for k, t in enumerate(y)]
            root = loss(outputs, targets)
        else:
            row = _single
            targets = [Value(y, "Y")]
            root = loss(outputs, targets[0])
    except (TypeError, ValueError, AttributeError, MicrogradError) as error:
        raise TraceError(f"the loss cannot be traced from one example: {error}") from error
    if not isinstance(root, Value):
        raise TraceError(f"the loss is to return a Value, not {root!r:.60}")
    if not inputs and not targets:
        raise InputError("an example has no number, neither an input nor a target")
    return _Trace(root, logits, [*inputs, *targets], len(inputs), row)


def _single(target: Any) -> Sequence[float]:
    return (number(target),)


def _one_hot(label: Any, count: int) -> Sequence[float]:
    """A label as a row of zeros with a one. Raises InputError for what is none."""
    if not 0 <= label < count or label != int(label):
        raise InputError(f"a label is an integer from 0 to {count - 1}, got {label!r}")
    return [float(k == label) for k in range(count)]
