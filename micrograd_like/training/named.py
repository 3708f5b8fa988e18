"""The losses and optimizers that `fit` knows by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from .. import losses
from ..engine import Value
from ..errors import DomainError, InputError
from ..modes import no_grad
from ..nn import Module
from ..optim import SGD, Adam, Optimizer
from .batches import Check


class Loss(NamedTuple):
    """A loss with a name: `of(output, target)` for one example, and how outputs become labels."""

    of: Callable[[Any, Any], Value]
    predict: Callable[[list[float]], float] | None

    def right(self, outputs: Any, targets: Sequence[Any]) -> int:
        """How many outputs are taken for what their target says; 0 where there are no labels.

        `outputs` has a list of floats for each target, or is an array of that form.
        """
        if self.predict is None:
            return 0
        rows = outputs.tolist() if hasattr(outputs, "tolist") else outputs
        return sum(self.predict(row) == t for row, t in zip(rows, targets, strict=True))

    def target_check(self, model: Callable[[Any], Any]) -> Check:
        """A function that lets a named loss see targets, on numbers, before any step is made."""
        outputs: list[Any] = []  # one, for all targets

        def check(inputs: list[Any], targets: list[Any], places: Iterable[int]) -> None:
            with no_grad():
                if not outputs:
                    outputs.append(model(inputs[0]))
                for place, target in zip(places, targets, strict=True):
                    try:
                        self.of(outputs[0], target)
                    except DomainError:  # of a probability of 0 or 1, which the model may not give
                        pass
                    except InputError as error:
                        raise InputError(f"y[{place}]: {error}") from None

        return check if self in LOSSES.values() else lambda inputs, targets, places: None


def _largest(outputs: list[float]) -> float:
    return float(max(range(len(outputs)), key=outputs.__getitem__))


LOSSES = {
    "mse": Loss(losses.mse, None),
    "cross_entropy": Loss(losses.cross_entropy, _largest),
    "binary_cross_entropy": Loss(losses.binary_cross_entropy, lambda out: float(out[0] > 0.5)),
    "binary_cross_entropy_with_logits": Loss(
        losses.binary_cross_entropy_with_logits, lambda out: float(out[0] > 0.0)
    ),
    "hinge": Loss(losses.hinge, lambda out: 1.0 if out[0] > 0.0 else -1.0),
}

OPTIMIZERS: dict[str, Callable[[list[Value]], Optimizer]] = {
    "sgd": partial(SGD, lr=0.1),
    "adam": partial(Adam, lr=0.01),
}


def check_name(kind: str, name: str, names: Collection[str]) -> None:
    """Raises InputError, with the names that there are."""
    if name not in names:
        raise InputError(f"there is no {kind} {name!r:.60}; there are {', '.join(names)}")


def find_loss(loss: str | Callable[[Any, Any], Value]) -> Loss:
    """The loss of that name, or a function as a loss. Raises InputError."""
    if isinstance(loss, str):
        check_name("loss", loss, LOSSES)
        return LOSSES[loss]
    if not callable(loss):
        raise InputError(f"a loss is a name or a function of output and target, got {loss!r:.60}")
    return next((known for known in LOSSES.values() if known.of is loss), Loss(loss, None))


def find_optimizer(optimizer: str | Optimizer, model: Any) -> Optimizer:
    """One of that name for the model's parameters, or one that was made. Raises InputError."""
    if isinstance(optimizer, str):
        check_name("optimizer", optimizer, OPTIMIZERS)
        if not isinstance(model, Module):
            raise InputError("an optimizer by name needs a Module: make one of your parameters")
        return OPTIMIZERS[optimizer](model.parameters())
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"an optimizer is a name or made for parameters, got {optimizer!r:.60}")
    if isinstance(model, Module) and not set(optimizer.params) <= set(model.parameters()):
        raise InputError("the optimizer was made for parameters that are not this model's")
    return optimizer
