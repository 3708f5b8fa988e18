"""Losses, of one example and of batches: mse, cross-entropies, hinge. And softmax.

Every loss takes `(outputs, targets)`, of one example or, in lists of equal length, of a batch, and
returns one Value (of plain numbers a number): the mean over the batch. All are exact in the tails:
with logits of ±1000 neither value nor gradient overflows, cancels or becomes NaN.
InputError (a ValueError) is raised for empty batches, lengths that differ and targets out of range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import ops
from .engine import Value, numbers_of
from .errors import DomainError, InputError, OperandError, shown
from .modes import innermost, traces
from .numerics import number, plain
from .sums import affine, take

_ROUNDING = 2.0**-40  # by which a sum of probabilities may be off
_ROUNDING_OF_SUMS = 1e-6  # in single precision
_BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
__all__ = ["cross_entropy", "hinge", "mean", "mse", "softmax", *_BINARY]
__dir__ = shown(*__all__)


def mean(values: Iterable[Value]) -> Value:
    """The sum of the values, from left to right, divided by their number. One Value is itself."""
    values = list(plain(values))
    if not values:
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
    Raises DomainError where the loss is infinite, and for p outside [0, 1].
    """

    def loss(p: Any, t: Any) -> Any:
        _check_probability(p)
        return _blend(t, lambda: -ops.log(p), lambda: -ops.log1p(-p))

    return _mean_of(loss, probabilities, targets)


def binary_cross_entropy_with_logits(logits: Any, targets: Any) -> Value:
    """The same with p = sigmoid(z) for the logit z: t softplus(-z) + (1 - t) softplus(z)."""

    def loss(z: Any, t: Any) -> Any:
        return _blend(t, lambda: ops.softplus(-z), lambda: ops.softplus(z))

    return _mean_of(loss, logits, targets)


def cross_entropy(
    logits: Any, targets: Any, *, label_smoothing: float = 0.0, ignore_index: int = -100
) -> Value:
    """-log softmax(logits)[label] for a list of at least two logits and an integer label.

    It is softplus(logsumexp of the other logits - logits[label]): the usual
    logsumexp(logits) - logits[label] has no correct digit left once the label's probability is
    within 1e-16 of 1. Labels count from 0; in a batch, those equal to `ignore_index` are left out.

    A target may also be the list of all labels' probabilities t, which sum to 1: the loss is the
    mean of theirs, weighted by t. `label_smoothing` ε puts ε/n + (1 - ε)·t in the place of t.
    """
    smoothing = number(label_smoothing)
    if not 0.0 <= smoothing <= 1.0:
        raise InputError(f"label_smoothing is from 0 to 1, got {label_smoothing!r}")
    examples = list(_examples(_list(logits), _list(targets)))
    if any(isinstance(t, Value) and not _chooses(t) for _, t in examples):
        raise OperandError("a label is a plain integer: use its .data")
    kept = [(row, t) for row, t in examples if not _is_ignored(t, ignore_index, len(row))]
    if examples and not kept:
        every = "every label is" if len(examples) > 1 else "the label is"
        raise InputError(f"{every} {ignore_index}, the ignore_index: no example is left to learn")
    return mean([_cross_entropy(row, target, smoothing) for row, target in kept])


def _examples(logits: Any, targets: Any) -> Iterator[tuple[list[Any], Any]]:
    """The lists of logits in a batch, or in lists of batches, each with its target."""
    if not isinstance(logits, list):
        raise InputError("cross_entropy needs a list of logits for each example, got a single one")
    first = _list(logits[0]) if logits else targets
    if isinstance(first, list):
        rows = [first, *map(_list, logits[1:])] if logits else []
        for row, target in _pairs(rows, targets):
            yield from _examples(row, _list(target))
    else:
        yield logits, targets


def _cross_entropy(logits: list[Any], target: Any, smoothing: float) -> Any:
    n = len(logits)
    if n < 2:
        raise InputError(f"cross_entropy needs at least two logits, got {n}")

    def exact(label: int) -> Any:
        others = ops.logsumexp(*logits[:label], *logits[label + 1 :])
        return ops.softplus(others - logits[label])

    if isinstance(target, list):
        weights = probabilities(target, n)
    elif _chooses(target):
        total = ops.logsumexp(*logits)
        loss = total - take(logits, target)
        return (1.0 - smoothing) * loss + smoothing * (total - mean(logits)) if smoothing else loss
    else:
        label = int(target) if number(target).is_integer() else -1
        if not 0 <= label < n:
            raise InputError(f"a label is an integer from 0 to {n - 1}, got {target!r}")
        if not smoothing:
            return exact(label)
        weights = [float(k == label) for k in range(n)]
    if smoothing:
        weights = [(1.0 - smoothing) * t + smoothing / n for t in weights]
    # A sum of terms >= 0. A term's lost digits count where its probability is near 1 and all others
    # are smaller: those are made exact which may be that one, the largest and the unknown.
    numbers = [-1.0 if isinstance(t, Value) else t for t in weights]
    total, top = ops.logsumexp(*logits), max(range(n), key=numbers.__getitem__)
    terms = [
        exact(k) if k == top or t < 0.0 else total - logits[k] for k, t in enumerate(numbers) if t
    ]
    return affine([t for t in weights if isinstance(t, Value) or t], terms)


def _is_ignored(target: Any, index: int, labels: int) -> bool:
    if _chooses(target):  # each comparison is a branch, and `take` refuses what is no label anyway
        return 0 <= index < labels and target == index
    return not isinstance(target, list) and number(target) == index


def _chooses(target: Any) -> bool:
    """Whether it is a label of the example that a step is traced from: see `take`."""
    return hasattr(target, "__take__")


def probabilities(target: list[Any], n: int) -> list[Any]:
    """A soft target, checked as far as it is of numbers: Values among them may change."""
    if len(target) != n:
        raise InputError(
            f"{n} logits have a label or {n} probabilities as targets, got {target!r:.60}"
        )
    weights = [t if isinstance(t, Value) else number(t) for t in target]
    numbers = [t for t in weights if not isinstance(t, Value)]
    if not all(0.0 <= t < math.inf for t in numbers):
        raise InputError(f"the probabilities of a target are from 0 to 1, got {target!r:.60}")
    if len(numbers) < n:
        _check(_are_shares, "the probabilities of a target are from 0 to 1, and sum to 1", *weights)
    elif abs(math.fsum(numbers) - 1.0) > _ROUNDING_OF_SUMS:
        raise InputError(f"the probabilities of a target sum to 1, these to {math.fsum(numbers)!r}")
    return weights


def softmax(values: Any) -> list[Any]:
    """exp(z) of each value z, divided by their sum, as exp(z - logsumexp(values)).

    That overflows nowhere; -inf gives 0 with a derivative of 0, whatever the others are. The
    difference rounds to the precision of the largest |z|, so that a probability has a relative
    error of up to |z|·2⁻⁵²: 2e-13 for values of ±1000. The derivative of a probability p by its own
    z is p - p², which near p = 1 has an absolute error of 2⁻⁵³; sigmoid(z - y) of two has none.
    """
    values = _list(values)
    if not isinstance(values, list) or not values:
        raise InputError(f"softmax needs a list of at least one value, got {values!r:.60}")
    total = ops.logsumexp(*values)
    return [ops.fraction(z, total) for z in values]


def hinge(scores: Any, targets: Any) -> Value:
    """max(0, 1 - t·score) for a target t of -1 or +1."""

    def loss(score: Any, t: Any) -> Any:
        _check(_is_sign, "a hinge loss's target is -1 or +1", t)
        return ops.relu(1.0 - t * score)

    return _mean_of(loss, scores, targets)


def _mean_of(loss: Callable[[Any, Any], Value], outputs: Any, targets: Any) -> Value:
    """The loss of one output, or the mean over a list of outputs, which may be lists in turn."""
    outputs, targets = _list(outputs), _list(targets)
    if isinstance(outputs, list):
        return mean([_mean_of(loss, output, target) for output, target in _pairs(outputs, targets)])
    return loss(outputs, targets)


def _check_probability(p: Any) -> None:
    """Raises DomainError outside [0, 1]: of one term alone the loss would be a negative number."""
    if traces.get() and innermost(traces):
        return  # whose numbers are those of one example
    (x,) = numbers_of([p]) if isinstance(p, Value) else (number(p),)
    if not -_ROUNDING <= x <= 1.0 + _ROUNDING and x == x:
        labels = [p.label] if isinstance(p, Value) else []
        raise DomainError("binary_cross_entropy", "for probabilities from 0 to 1", [x], labels)


def _check(rule: Callable[..., Any], words: str, *targets: Any) -> None:
    """Raises InputError for targets, numbers, that the rule refuses. Values may be any.

    Values in place of an example's numbers are checked in each example of a step: `Trace.require`.
    """
    if values := [t for t in targets if isinstance(t, Value)]:
        if (require := getattr(values[0], "__require__", None)) is not None:
            require(rule, words, targets)
    elif not rule(*map(number, targets)):
        raise InputError(f"{words}, got {', '.join(map(repr, targets))}")


# Rules of numbers, or of arrays of them.


def _is_sign(t: Any) -> Any:
    return abs(t) == 1.0


def _is_share(t: Any) -> Any:
    return (t >= 0.0) & (t <= 1.0)


def _are_shares(*ts: Any) -> Any:
    right = abs(sum(ts) - 1.0) <= _ROUNDING_OF_SUMS
    for t in ts:
        right = right & (t >= 0.0)
    return right


def _blend(t: Any, one: Callable[[], Any], zero: Callable[[], Any]) -> Any:
    """t·one() + (1 - t)·zero(), without the term whose factor is the number 0."""
    _check(_is_share, "a binary cross-entropy's target is from 0 to 1", t)
    if not isinstance(t, Value) and (t := number(t)) in (0.0, 1.0):
        return one() if t else zero()
    return t * one() + (1.0 - t) * zero()


def _list(x: Any) -> Any:
    """Arrays, tuples, ranges and generators as lists; anything else as it is."""
    x = plain(x)
    return list(x) if isinstance(x, (tuple, range, Iterator)) else x


def _pairs(outputs: list[Any], targets: Any) -> list[tuple[Any, Any]]:
    if not isinstance(targets, list) or len(targets) != len(outputs):
        raise InputError(
            f"{len(outputs)} outputs need a list of as many targets, got {targets!r:.60}"
        )
    return list(zip(outputs, targets, strict=True))
