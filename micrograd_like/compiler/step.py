"""`compile_step`: one example traced, batches of any size computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .. import losses, ops
from ..engine import Value
from ..errors import InputError, MicrogradError, TraceError
from ..gradients import adjoint_graphs
from ..modes import paused
from ..nn import Module
from ..numerics import number
from ..sums import affine
from .equations import equations
from .program import (
    _executed,
    _name_arrays,
    _numpy,
    as_floats,
    check_backend,
    highlighted,
    input_arrays,
)
from .tape import record

if TYPE_CHECKING:
    from .xla import Layout


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
        source: str,
        function: Callable[..., Any],
        run: Callable[..., Any],
        forward: Callable[[], Callable[..., Any]],
        row: Callable[[Any], Sequence[float]],
        inputs: int,
        layouts: tuple[Layout, Layout] | None,
    ) -> None:
        self.parameters = parameters
        self.inputs = inputs
        self.source = source
        self.outputs: Any = None
        self.function = function
        self._run = run
        self._make_forward = forward
        self._row = row
        self._layouts = layouts

    def __call__(self, X: Any, y: Any) -> float:
        """The mean loss over the rows of X, and its gradient in each parameter's `.grad`."""
        loss, gradient = self.value_and_grad(X, y)
        for parameter, g in zip(self.parameters, gradient.tolist(), strict=True):
            parameter.grad = g
        return loss

    def equations(self) -> str:
        """The program as LaTeX, an `aligned` environment with one equation a statement."""
        return equations(self.source)

    def _repr_html_(self) -> str:
        return highlighted(self.source)

    def value_and_grad(self, X: Any, y: Any) -> tuple[float, Any]:
        """The mean loss, and its gradient as an array in the order of the parameters."""
        loss, self.outputs, gradient = self._run(*self.arrays(X, y))
        if self._layouts is not None:
            from . import xla

            gradient = xla.flattened(gradient, self._layouts[0])
        return float(loss), gradient

    def evaluate(self, X: Any, y: Any) -> float:
        """The mean loss, without its gradient; `outputs` are set."""
        loss, self.outputs = self._forward(*self.arrays(X, y))
        return float(loss)

    @cached_property
    def _forward(self) -> Callable[..., Any]:
        return self._make_forward()

    def arrays(self, X: Any, y: Any) -> tuple[Any, Any]:
        """What `function` takes: the parameters' numbers, and a row for each example.

        With backend "jax" both are dicts of arrays, named and shaped as in the source; those of the
        examples have the batch's axis in front.
        """
        np = _numpy()
        values = np.array([p.data for p in self.parameters])
        targets = as_floats([self._row(t) for t in y])
        inputs = as_floats(X)
        if inputs.ndim == 1:
            inputs = inputs[:, None]
        if inputs.shape != (len(targets), self.inputs) or not len(targets):
            raise InputError(
                f"a step takes rows of {self.inputs} numbers and a target for each; got X of shape "
                f"{inputs.shape} and {len(targets)} targets"
            )
        examples = np.concatenate([inputs, targets], axis=1)
        if self._layouts is None:
            return values, examples
        from . import xla

        return xla.named(values, self._layouts[0]), xla.named(examples, self._layouts[1])


def _single(target: Any) -> Sequence[float]:
    return (number(target),)


class _OneHot:
    """A label as a row of zeros with a one."""

    def __init__(self, count: int) -> None:
        self.rows = [[float(i == k) for i in range(count)] for k in range(count)]

    def __call__(self, label: Any) -> Sequence[float]:
        if not 0 <= label < len(self.rows) or label != int(label):
            last = len(self.rows) - 1
            raise InputError(f"a label is an integer from 0 to {last}, got {label!r}")
        return self.rows[int(label)]


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
    from .emit import emit_step
    from .lift import lift

    if parameters is None:
        if not isinstance(model, Module):
            raise InputError("compile_step needs a Module, or the parameters of the model")
        parameters = model.parameters()
    parameters = list(parameters)
    if not parameters:
        raise InputError("compile_step needs parameters to differentiate by")
    x, y = example
    inputs = [Value(xi, f"X[{i}]") for i, xi in enumerate(x)]
    try:
        outputs = model(inputs)
        logits = outputs if isinstance(outputs, list) else [outputs]
        if loss is losses.cross_entropy:
            # The label as a row of zeros with a one.
            targets = [Value(float(k == int(y)), f"Y[{k}]") for k in range(len(logits))]
            row: Callable[[Any], Sequence[float]]
            root = ops.logsumexp(*logits) - affine(targets, logits)
            row = _OneHot(len(logits))
        elif isinstance(y, (list, tuple)):
            targets = [Value(t, f"Y[{k}]") for k, t in enumerate(y)]
            root = loss(outputs, targets)
            row = list
        else:
            targets = [Value(y, "Y")]
            root = loss(outputs, targets[0])
            row = _single
    except (TypeError, ValueError, AttributeError, MicrogradError) as error:
        raise TraceError(f"the loss cannot be traced from one example: {error}") from error
    if not isinstance(root, Value):
        raise TraceError(f"the loss is to return a Value, not {root!r:.60}")
    given = [*inputs, *targets]
    if not given:
        raise InputError("an example has no number, neither an input nor a target")
    labels = [p.label for p in parameters]
    if isinstance(model, Module) and len(set(labels)) < len(labels):
        paths = {p: path for path, p in model.named_parameters()}
        labels = [paths.get(p, p.label) for p in parameters]
    weights = input_arrays(labels)
    count = len(parameters)
    names = {name for name, _, _ in weights}
    examples = []
    for name, shape, numbers in input_arrays([leaf.label for leaf in given]):
        while name in names:
            name += "_"
        examples.append((name, shape, numbers))
    arrays = [*weights, *((n, shape, [count + i for i in of]) for n, shape, of in examples)]
    objective = root
    if backend == "jax":
        # The gradient is scaled where it begins, which is cheaper than where it ends.
        share = "share"
        while share in names | {name for name, _, _ in examples}:
            share += "_"
        arrays.append((share, (), [count + len(given)]))
        given.append(Value(1.0, share))
        objective = root * given[-1]

    def program(outputs: list[Value]) -> tuple[str, Callable[..., Any], Callable[..., Any]]:
        tape = record([root, *logits, *outputs], [*parameters, *given])
        gradients = tape.outputs[1 + len(logits) :]
        own = {o: i for i, o in enumerate(gradients) if isinstance(o, int) and o >= tape.inputs}
        lifted = lift(tape, arrays, own)
        _name_arrays(lifted, adjoints)
        if backend == "jax":
            from . import xla

            source = emit_step(lifted, count, len(logits), xla.XlaEmitter)
            function = xla.pure(source, dtype)
            return source.text, function, xla.sharded(function, dtype, devices)
        source = emit_step(lifted, count, len(logits))
        function = _executed(source.text, {**source.constants, "np": _numpy()})
        return source.text, function, function

    with paused():
        swept = adjoint_graphs(objective, parameters)
        adjoints = {node: d for node, d in swept.items() if isinstance(d, Value)}
        zero = Value(0.0)
        text, function, run = program([adjoints.get(p, zero) for p in parameters])
    layouts = (weights, examples) if backend == "jax" else None
    return Step(parameters, text, function, run, lambda: program([])[2], row, len(inputs), layouts)
