"""The two ways to compute a batch: node by node, or compiled to a program on arrays.

Both have the same two methods, so that the loop in `fit` need not know which it has:
`differentiate(inputs, targets)` leaves the gradient of the mean loss in the parameters, and
`evaluate(inputs, targets)` does without. Each returns the mean loss over the batch and the number
of right labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .. import losses
from ..engine import Value
from ..errors import DomainError, TraceError, warn
from ..modes import no_grad
from ..optim import Optimizer
from .batches import Batch
from .named import Loss

if TYPE_CHECKING:
    from ..compiler import Step

ENGINES = ("eager", "compiled", "jax")


class Eager:
    """Builds the graph of each batch. It is freed when the method returns, before the next one."""

    def __init__(self, model: Callable[[Any], Any], loss: Loss, optimizer: Optimizer) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer

    def differentiate(self, inputs: list[Any], targets: list[Any]) -> tuple[float, int]:
        """Nothing is differentiated where the loss is not finite."""
        mean, right = _computed(self.model, inputs, targets, self.loss)
        if math.isfinite(mean.data):
            self.optimizer.zero_grad()
            mean.backward()
        return mean.data, right

    def evaluate(self, inputs: list[Any], targets: list[Any]) -> tuple[float, int]:
        return evaluate(self.model, inputs, targets, self.loss)


class Compiled:
    """Runs a compiled step on arrays."""

    def __init__(self, step: Step, loss: Loss) -> None:
        self.step = step
        self.loss = loss

    def differentiate(self, inputs: list[Any], targets: list[Any]) -> tuple[float, int]:
        return self.step(inputs, targets), self.loss.right(self.step.outputs, targets)

    def evaluate(self, inputs: list[Any], targets: list[Any]) -> tuple[float, int]:
        return self.step.evaluate(inputs, targets), self.loss.right(self.step.outputs, targets)


Engine = Eager | Compiled


def evaluate(
    model: Callable[[Any], Any], inputs: list[Any], targets: list[Any], rule: Loss
) -> tuple[float, int]:
    """The mean loss over all examples, without gradients, and the number of right labels."""
    with no_grad():
        mean, right = _computed(model, inputs, targets, rule)
    return mean.data, right


def _computed(
    model: Callable[[Any], Any], inputs: list[Any], targets: list[Any], loss: Loss
) -> tuple[Value, int]:
    outputs = [model(x) for x in inputs]
    mean = losses.mean([loss.of(out, t) for out, t in zip(outputs, targets, strict=True)])
    numbers = ([v.data for v in out] if isinstance(out, list) else [out.data] for out in outputs)
    return mean, loss.right(numbers, targets)


def agree(parts: Mapping[str, object]) -> None:
    """Raises InputError where another process has other parts, MissingExtraError without JAX."""
    from ..compiler import xla

    xla.check()
    xla.agree(parts)


def make(
    name: str,
    model: Callable[[Any], Any],
    loss: Loss,
    optimizer: Optimizer,
    sample: Batch,
    devices: int | None,
) -> Engine:
    """The engine of that name.

    Where the model cannot be compiled, or would give other numbers, it is the eager one, with a
    warning. `sample` has examples to trace and to compare on.
    """
    eager = Eager(model, loss, optimizer)
    if name == "eager":
        return eager
    from ..compiler import compile_step

    inputs, targets = sample
    try:
        step = compile_step(
            model,
            loss.of,
            (inputs[0], targets[0]),
            optimizer.params,
            backend="jax" if name == "jax" else "numpy",
            devices=devices,
        )
    except TraceError as error:
        warn(f"not compiled, the eager engine goes on: {error}")
        return eager
    # A branch on .data shows itself in examples that take the other side. Not in all: see the docs.
    mean = step.evaluate(inputs, targets)
    try:
        expected, _ = eager.evaluate(inputs, targets)
    except DomainError:  # the epoch will meet it, and say where
        return Compiled(step, loss)
    if math.isclose(mean, expected, rel_tol=1e-9, abs_tol=1e-12):
        return Compiled(step, loss)
    warn(
        f"not compiled, the eager engine goes on: other examples have another loss ({mean!r}) than "
        f"the engine's ({expected!r}): the model or the loss branches on data"
    )
    return eager
