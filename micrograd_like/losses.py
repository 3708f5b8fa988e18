"""Losses, of one example and of batches: mse, cross-entropies, hinge.

Every loss takes `(outputs, targets)`, of one example or, in lists of equal length, of a batch, and
returns one Value: the mean over the batch, divided by its length once. All are exact in the tails:
with logits of ±1000 neither value nor gradient overflows, cancels or becomes NaN.
InputError (a ValueError) is raised for empty batches, lengths that differ and targets out of range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import ops
from .engine import Value
from .errors import InputError
from .numerics import number, plain
from .sums import affine


def mean(values: Sequence[Value]) -> Value:
    """The sum of the values, from left to right, divided by their number. One Value is itself."""
    if not len(values):
        raise InputError("a mean needs at least one value: the batch is empty")
    if len(values) == 1:
        return values[0]
    first, *others = values
    return affine([1.0] * len(others), others, first) / float(len(values))


def mse(outputs: Any, targets: Any) -> Value:
    """The mean of (output - target)², over a batch and over the components of an output."""
    return _mean_of(lambda output, target: (output - target) ** 2, outputs, targets)


def binary_cross_entropy(probabilities: Any, targets: Any) -> Value:
    """-(t log p + (1 - t) log(1 - p)) for a probability p in (0, 1) and a target t in [0, 1].

    A term whose factor is the number 0 is left out, so that p may be 1 where t is. Where p comes
    from a sigmoid, `binary_cross_entropy_with_logits` of the sigmoid's argument is exact for all p.
    Raises DomainError where the loss is infinite.
    """

    def loss(p: Any, t: Any) -> Any:
        return _blend(t, lambda: -ops.log(p), lambda: -ops.log1p(-p))

    return _mean_of(loss, probabilities, targets)


def binary_cross_entropy_with_logits(logits: Any, targets: Any) -> Value:
    """The same with p = sigmoid(z) for the logit z: t softplus(-z) + (1 - t) softplus(z)."""

    def loss(z: Any, t: Any) -> Any:
        return _blend(t, lambda: ops.softplus(-z), lambda: ops.softplus(z))

    return _mean_of(loss, logits, targets)


def cross_entropy(logits: Any, labels: Any) -> Value:
    """-log softmax(logits)[label] for a list of at least two logits and an integer label.

    It is softplus(logsumexp of the other logits - logits[label]): the usual
    logsumexp(logits) - logits[label] has no correct digit left once the label's probability is
    within 1e-16 of 1. Labels count from 0.
    """
    logits, labels = _list(logits), _list(labels)
    if not isinstance(logits, list):
        raise InputError("cross_entropy needs a list of logits for each example, got a single one")
    if isinstance(labels, list):
        return mean([cross_entropy(row, label) for row, label in _pairs(logits, labels)])
    if len(logits) < 2:
        raise InputError(f"cross_entropy needs at least two logits, got {len(logits)}")
    label = int(labels) if number(labels).is_integer() else -1
    if not 0 <= label < len(logits):
        raise InputError(f"a label is an integer from 0 to {len(logits) - 1}, got {labels!r}")
    others = ops.logsumexp(*logits[:label], *logits[label + 1 :])
    loss: Value = ops.softplus(others - logits[label])
    return loss


def hinge(scores: Any, targets: Any) -> Value:
    """max(0, 1 - t·score) for a target t of -1 or +1."""

    def loss(score: Any, t: Any) -> Any:
        if not isinstance(t, Value) and number(t) not in (-1.0, 1.0):
            raise InputError(f"a hinge loss's target is -1 or +1, got {t!r}")
        return ops.relu(1.0 - t * score)

    return _mean_of(loss, scores, targets)


def _mean_of(loss: Callable[[Any, Any], Value], outputs: Any, targets: Any) -> Value:
    """The loss of one output, or the mean over a list of outputs, which may be lists in turn."""
    outputs, targets = _list(outputs), _list(targets)
    if isinstance(outputs, list):
        return mean([_mean_of(loss, output, target) for output, target in _pairs(outputs, targets)])
    return loss(outputs, targets)


def _blend(t: Any, one: Callable[[], Any], zero: Callable[[], Any]) -> Any:
    """t·one() + (1 - t)·zero(), without the term whose factor is the number 0."""
    if not isinstance(t, Value):
        t = number(t)
        if not 0.0 <= t <= 1.0:
            raise InputError(f"a binary cross-entropy's target is from 0 to 1, got {t!r}")
        if t in (0.0, 1.0):
            return one() if t else zero()
    return t * one() + (1.0 - t) * zero()


def _list(x: Any) -> Any:
    """Arrays, tuples and ranges as lists; anything else as it is."""
    x = plain(x)
    return list(x) if isinstance(x, (tuple, range)) else x


def _pairs(outputs: list[Any], targets: Any) -> list[tuple[Any, Any]]:
    if not isinstance(targets, list) or len(targets) != len(outputs):
        raise InputError(
            f"{len(outputs)} outputs need a list of as many targets, got {targets!r:.60}"
        )
    return list(zip(outputs, targets, strict=True))
