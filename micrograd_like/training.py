"""`fit`: mini-batch training with progress, validation and a history.

Each batch becomes one graph, from its examples to the mean loss; one example at a time and the full
batch are the same call with another `batch_size`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from numbers import Integral
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from . import collector, losses
from .engine import Value, no_grad
from .errors import DivergenceError, DomainError, InputError, OperandError, TraceError, warn
from .nn import Module
from .numerics import is_count, number
from .optim import SGD, Adam, Optimizer
from .state import assign

if TYPE_CHECKING:
    from .lifting import Step


class Loss(NamedTuple):
    """A loss with a name: `of(output, target)` for one example, and how outputs become labels."""

    of: Callable[[Any, Any], Value]
    predict: Callable[[list[float]], float] | None


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

ENGINES = ("eager", "compiled")

OPTIMIZERS: dict[str, Callable[[list[Value]], Optimizer]] = {
    "sgd": lambda parameters: SGD(parameters, lr=0.1),
    "adam": lambda parameters: Adam(parameters, lr=0.01),
}


class History:
    """What happened, one number an epoch in each list.

    `loss` and `accuracy` are means over the epoch's examples, each taken when its batch was
    computed; `validation_loss` and `validation_accuracy` are taken after the epoch. The accuracies
    are empty where the loss is not one of the named classification losses. `interrupted` tells
    whether Ctrl-C, or a callback, ended the training.
    """

    # Not a dataclass: that module takes a quarter of the package's import time.

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.accuracy: list[float] = []
        self.validation_loss: list[float] = []
        self.validation_accuracy: list[float] = []
        self.interrupted = False

    def __len__(self) -> int:
        return len(self.loss)

    def __repr__(self) -> str:
        last = f", {self.rows()[-1]}" if self.loss else ""
        return f"<History of {len(self)} epochs{last}>"

    def _cut(self, epochs: int) -> None:
        """Forget what came after so many epochs."""
        for column in self._columns().values():
            del column[epochs:]

    def _columns(self) -> dict[str, list[float]]:
        return {
            "loss": self.loss,
            "accuracy": self.accuracy,
            "validation_loss": self.validation_loss,
            "validation_accuracy": self.validation_accuracy,
        }

    def rows(self) -> list[dict[str, float]]:
        """One dict an epoch, of the lists that have a number for it."""
        columns = self._columns().items()
        return [
            {"epoch": i + 1} | {name: column[i] for name, column in columns if column}
            for i in range(len(self))
        ]


def fit(
    model: Callable[[Any], Any],
    X: Any,
    y: Any,
    *,
    loss: str | Callable[[Any, Any], Value] = "cross_entropy",
    optimizer: str | Optimizer = "adam",
    epochs: int = 10,
    batch_size: int | None = 32,
    validation: tuple[Any, Any] | float | None = None,
    seed: int | None = 0,
    progress: bool = False,
    callbacks: Sequence[Callable[[Any, History], Any]] = (),
    engine: str = "eager",
) -> History:
    """Train `model` in place on the m examples X, targets y; returns what happened.

    `X` is m rows of numbers (lists or an array of shape (m, n); numbers for a model of one input),
    `y` m targets. `loss` is a name from `LOSSES` or a function of one example's output and target
    that returns a Value; each batch is descended on the mean over its examples. `optimizer` is one
    made for the model's parameters, or "sgd" or "adam" for one with the default settings here.
    `batch_size=1` descends on one example at a time, `batch_size=None` on all of them.
    `engine="compiled"` traces one example and computes batches on arrays (`compile_step`, with the
    extra `compile`): the same weights to rounding, much faster. Where model and loss cannot be
    traced, it warns and goes on without.
    `validation` is a pair (X, y), or the fraction of the examples to hold out. Shuffling and
    holding out depend on `seed` alone. `progress` shows a bar where tqdm is installed. After each
    epoch every callback is called with the model and the history; one that returns True ends the
    training. So does Ctrl-C: the history has the epochs that were finished, model and optimizer are
    as the latest whole step left them, and what was switched off meanwhile, garbage collection and
    gradients, is on again.

    Raises InputError (a ValueError) for data that does not fit, before anything changes, and
    DivergenceError (a ValueError) with epoch and batch when a loss is not finite or leaves its
    domain: the parameters are then those of the last batch whose loss was finite. Within
    `detect_anomaly` the eager engine raises AnomalyError earlier, where a number stops being
    finite, and leaves the parameters at which it did.
    """
    if engine not in ENGINES:
        raise InputError(f"engine is one of {', '.join(ENGINES)}, not {engine!r:.60}")
    rule = _loss(loss)
    inputs, targets = examples(X, y)
    random = Random(int(seed) if isinstance(seed, Integral) else seed)  # NumPy's integers too
    held = _held_out(validation, inputs, targets, random)
    batch_size = len(inputs) if batch_size is None else batch_size
    for name, count in (("epochs", epochs), ("batch_size", batch_size)):
        if not is_count(count):
            raise InputError(f"{name} is a whole number, at least 1, got {count!r:.60}")
    descent = _optimizer(optimizer, model)

    parameters = descent.params
    # Before the latest step: the numbers gave a finite loss.
    good, memory = [p.data for p in parameters], descent._memory
    stepping = False
    silenced = no_grad.open_here()
    history = History()
    finished = 0
    order = list(range(len(inputs)))
    try:
        _check_targets(rule, model, inputs[0], [*targets, *held[1]])
        step = None
        if engine == "compiled":
            step = _compiled(model, rule, parameters, inputs, targets)
        with collector.paused(), _progress(epochs, progress) as show:
            for epoch in range(1, epochs + 1):
                random.shuffle(order)
                total, hits = 0.0, 0
                for batch, start in enumerate(range(0, len(order), batch_size), 1):
                    rows = order[start : start + batch_size]
                    batch_inputs, batch_targets = _chosen(rows, inputs), _chosen(rows, targets)
                    try:
                        if step is None:
                            mean, correct = _differentiate(
                                model, rule, descent, batch_inputs, batch_targets
                            )
                        else:
                            mean, correct = _step(step, rule, batch_inputs, batch_targets)
                    except DomainError as error:
                        raise _diverged(str(error), epoch, batch) from error
                    if not math.isfinite(mean):
                        raise _diverged(f"the loss is {mean!r}", epoch, batch)
                    good, memory = [p.data for p in parameters], descent._memory
                    stepping = True
                    descent.step()
                    stepping = False
                    if not _are_finite(parameters):
                        raise _diverged(
                            "the step led to a parameter that is not finite", epoch, batch
                        )
                    total += mean * len(rows)
                    hits += correct
                history.loss.append(total / len(order))
                if rule.predict:
                    history.accuracy.append(hits / len(order))
                if held[0]:
                    if step is None:
                        validation_loss, hits = evaluate(model, *held, rule)
                    else:
                        validation_loss, hits = _step(step, rule, *held, descend=False)
                    history.validation_loss.append(validation_loss)
                    if rule.predict:
                        history.validation_accuracy.append(hits / len(held[0]))
                finished = epoch
                show(history)
                answers = [callback(model, history) for callback in callbacks]
                if any(answer is True for answer in answers):
                    history.interrupted = True
                    break
    except (KeyboardInterrupt, DivergenceError) as error:
        no_grad.reopen(silenced)  # Ctrl-C may keep a context from being left
        if stepping or isinstance(error, DivergenceError) or not _are_finite(parameters):
            assign(parameters, good)
        if stepping:
            descent._memory = memory
        if isinstance(error, DivergenceError):
            raise
        history._cut(finished)
        history.interrupted = True
    return history


def _are_finite(parameters: list[Value]) -> bool:
    return all(math.isfinite(p.data) for p in parameters)


def _differentiate(
    model: Callable[[Any], Any],
    rule: Loss,
    descent: Optimizer,
    inputs: list[Any],
    targets: list[Any],
) -> tuple[float, int]:
    """The mean loss over a batch, with its gradient in `.grad`, and the number of right labels.

    A function of its own so that the batch's graph is freed before the next one is built.
    """
    outputs = [model(x) for x in inputs]
    mean = losses.mean([rule.of(out, t) for out, t in zip(outputs, targets, strict=True)])
    if math.isfinite(mean.data):
        descent.zero_grad()
        mean.backward()
    return mean.data, _hits(rule, outputs, targets)


def _compiled(
    model: Callable[[Any], Any],
    rule: Loss,
    parameters: list[Value],
    inputs: list[Any],
    targets: list[Any],
) -> Step | None:
    """The compiled step; None, with a warning, where it cannot be or is not the eager one."""
    from .lifting import compile_step

    try:
        step = compile_step(model, rule.of, (inputs[0], targets[0]), parameters)
    except TraceError as error:
        _warn_eager(str(error))
        return None
    # A branch on .data shows itself in examples that take the other side. Not in all: see the docs.
    some = range(0, len(inputs), max(1, len(inputs) // 16))
    shown, answers = _chosen(list(some), inputs), _chosen(list(some), targets)
    loss = step.evaluate(shown, answers)
    try:
        expected, _ = evaluate(model, shown, answers, rule)
    except DomainError:
        return step  # the epoch will meet it, and say where
    if not math.isclose(loss, expected, rel_tol=1e-9, abs_tol=1e-12):
        _warn_eager(
            f"other examples have another loss ({loss!r}) than the engine's ({expected!r}): "
            "the model or the loss branches on data"
        )
        return None
    return step


def _warn_eager(why: str) -> None:
    warn(f"not compiled, the eager engine goes on: {why}")


def _step(
    step: Step, rule: Loss, inputs: list[Any], targets: list[Any], descend: bool = True
) -> tuple[float, int]:
    """What `_differentiate` does, or without `descend` what `evaluate` does, on arrays."""
    mean = step(inputs, targets) if descend else step.evaluate(inputs, targets)
    if rule.predict is None:
        return mean, 0
    outputs = step.outputs.tolist()
    return mean, sum(rule.predict(out) == t for out, t in zip(outputs, targets, strict=True))


def evaluate(
    model: Callable[[Any], Any], inputs: list[Any], targets: list[Any], rule: Loss
) -> tuple[float, int]:
    """The mean loss over all examples, without gradients, and the number of right labels."""
    with no_grad():
        outputs = [model(x) for x in inputs]
        mean = losses.mean([rule.of(out, t) for out, t in zip(outputs, targets, strict=True)])
    return mean.data, _hits(rule, outputs, targets)


def _hits(rule: Loss, outputs: list[Any], targets: list[Any]) -> int:
    if rule.predict is None:
        return 0
    return sum(rule.predict(_data(out)) == t for out, t in zip(outputs, targets, strict=True))


def _chosen(rows: list[int], column: list[Any]) -> list[Any]:
    return [column[i] for i in rows]


def _diverged(what: str, epoch: int, batch: int) -> DivergenceError:
    return DivergenceError(
        f"{what} in batch {batch} of epoch {epoch}; the model is back at its last good state: "
        "try a smaller learning rate",
        epoch,
        batch,
    )


def _data(output: Any) -> list[float]:
    return [v.data for v in output] if isinstance(output, list) else [output.data]


def _loss(loss: str | Callable[[Any, Any], Value]) -> Loss:
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise InputError(f"there is no loss {loss!r:.60}; there are {', '.join(LOSSES)}")
        return LOSSES[loss]
    if not callable(loss):
        raise InputError(f"a loss is a name or a function of output and target, got {loss!r:.60}")
    for known in LOSSES.values():
        if loss is known.of:
            return known
    return Loss(loss, None)


def _optimizer(optimizer: str | Optimizer, model: Any) -> Optimizer:
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            names = ", ".join(OPTIMIZERS)
            raise InputError(f"there is no optimizer {optimizer!r:.60}; there are {names}")
        if not isinstance(model, Module):
            raise InputError("an optimizer by name needs a Module: make one of your parameters")
        return OPTIMIZERS[optimizer](model.parameters())
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"an optimizer is a name or made for parameters, got {optimizer!r:.60}")
    if isinstance(model, Module) and not set(optimizer.params) <= set(model.parameters()):
        raise InputError("the optimizer was made for parameters that are not this model's")
    return optimizer


def examples(X: Any, y: Any) -> tuple[list[Any], list[Any]]:
    """X and y as lists, each row of X a list of floats. Raises InputError if they don't fit."""
    rows = [_row(x) for x in _list(X)]
    targets = [_target(t) for t in _list(y)]
    if len(rows) != len(targets):
        raise InputError(f"X has {len(rows)} rows, but y has {len(targets)}")
    if not rows:
        raise InputError("there are no examples to learn from: X is empty")
    for i, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise InputError(f"row {i} of X has {len(row)} numbers, row 0 has {len(rows[0])}")
        for j, x in enumerate(row):
            if not math.isfinite(x):
                raise InputError(f"X[{i}][{j}] is {x!r}: inputs are finite numbers")
        target = targets[i]
        for t in target if isinstance(target, list) else [target]:
            if not _is_finite(t):
                raise InputError(f"y[{i}] is {target!r}: targets are finite numbers")
    return rows, targets


def _is_finite(target: Any) -> bool:
    try:
        return math.isfinite(number(target))
    except OperandError:  # what a loss of the user's makes of it is its business
        return True


def _list(x: Any) -> list[Any]:
    x = x.tolist() if hasattr(x, "tolist") else x
    if not isinstance(x, Iterable) or isinstance(x, (str, bytes, dict)):
        raise InputError(f"examples come in lists or arrays, got {x!r:.60}")
    return list(x)


def _target(t: Any) -> Any:
    """A target as a number or a list of several; an array's column has lists of one."""
    if not _is_sequence(t):
        return t
    row = _row(t)
    return row[0] if len(row) == 1 else row


def _is_sequence(x: Any) -> bool:
    return isinstance(x, (list, tuple)) or (hasattr(x, "tolist") and isinstance(x.tolist(), list))


def _row(x: Any) -> list[float]:
    return [number(xi) for xi in (_list(x) if _is_sequence(x) else [x])]


def _held_out(
    validation: Any, inputs: list[Any], targets: list[Any], random: Random
) -> tuple[list[Any], list[Any]]:
    """The examples to validate on; those of a fraction are taken out of `inputs` and `targets`."""
    if validation is None:
        return [], []
    if isinstance(validation, (tuple, list)):
        if len(validation) != 2:
            raise InputError(
                f"validation is a pair (X, y) or a fraction, got {len(validation)} items"
            )
        held_inputs, held_targets = examples(*validation)
        if len(held_inputs[0]) != len(inputs[0]):
            raise InputError(
                f"validation has rows of {len(held_inputs[0])} numbers, X of {len(inputs[0])}"
            )
        return held_inputs, held_targets
    fraction = number(validation)
    count = round(fraction * len(inputs)) if 0.0 < fraction < 1.0 else 0
    if not 0 < count < len(inputs):
        raise InputError(
            f"validation={validation!r} holds out {count} of {len(inputs)} examples: give a "
            "fraction between 0 and 1 that leaves some on either side, or a pair (X, y)"
        )
    order = list(range(len(inputs)))
    random.shuffle(order)
    held = order[:count], order[count:]
    (kept_out, rest), (kept_out_targets, rest_targets) = (
        [[column[i] for i in part] for part in held] for column in (inputs, targets)
    )
    inputs[:], targets[:] = rest, rest_targets
    return kept_out, kept_out_targets


def _check_targets(rule: Loss, model: Callable[[Any], Any], x: Any, targets: list[Any]) -> None:
    """Let a named loss see every target once, on numbers, before any step is made."""
    if rule not in LOSSES.values():
        return
    with no_grad():
        output = model(x)
        for target in targets:
            # Only a probability of 0 or 1 is outside a loss's domain; fit will meet it.
            with suppress(DomainError):
                rule.of(output, target)


@contextmanager
def _progress(epochs: int, wanted: bool) -> Iterator[Callable[[History], None]]:
    """A function to call after each epoch, which moves a bar if one is wanted and tqdm is there."""
    if wanted:
        try:
            from tqdm import tqdm
        except ImportError:
            wanted = False
    if not wanted:
        yield lambda history: None
        return
    with tqdm(total=epochs, unit="epoch") as bar:

        def show(history: History) -> None:
            bar.update()
            bar.set_postfix({k: f"{v:.4g}" for k, v in history.rows()[-1].items() if k != "epoch"})

        yield show
