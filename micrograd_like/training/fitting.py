"""`fit`: mini-batch training with progress, validation, a history, and checkpoints to go on from.

Each batch becomes one graph, from its examples to the mean loss; one example at a time and the full
batch are the same call with another `batch_size`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from numbers import Integral
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import losses, state
from ..engine import Value
from ..errors import DivergenceError, DomainError, InputError, StateError, TraceError, warn
from ..modes import no_grad, paused
from ..nn import Module, architecture
from ..numerics import is_count, number
from ..optim import SGD, Adam, Optimizer
from ..state import assign
from .batches import Batches, Examples, examples, held_out

if TYPE_CHECKING:
    from ..compiler import Step


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

ENGINES = ("eager", "compiled", "jax")
BATCH_SIZE = 32

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
        self._training: tuple[dict[str, Any], Optimizer] | None = None  # after a whole epoch

    def __len__(self) -> int:
        return len(self.loss)

    def __repr__(self) -> str:
        last = f", {self.rows()[-1]}" if self.loss else ""
        return f"<History of {len(self)} epochs{last}>"

    @property
    def mid_epoch(self) -> bool:
        """Whether the model may have learned from batches after the last whole epoch."""
        return self._training is None

    def _cut(self, epochs: int) -> None:
        """Forget what came after so many epochs."""
        for column in self._columns().values():
            del column[epochs:]

    def rows(self) -> list[dict[str, float]]:
        """One dict an epoch, of the lists that have a number for it."""
        columns = self._columns().items()
        return [
            {"epoch": i + 1} | {name: column[i] for name, column in columns if column}
            for i in range(len(self))
        ]

    def _columns(self) -> dict[str, list[float]]:
        return {
            "loss": self.loss,
            "accuracy": self.accuracy,
            "validation_loss": self.validation_loss,
            "validation_accuracy": self.validation_accuracy,
        }


def fit(
    model: Callable[[Any], Any],
    X: Any,
    y: Any = None,
    *,
    loss: str | Callable[[Any, Any], Value] = "cross_entropy",
    optimizer: str | Optimizer = "adam",
    epochs: int = 10,
    batch_size: int | None = BATCH_SIZE,
    validation: Any = None,
    seed: int | None = 0,
    progress: bool = False,
    callbacks: Sequence[Callable[[Any, History], Any]] = (),
    engine: str = "eager",
    devices: int | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> History:
    """Train `model` in place on the m examples X, targets y; returns what happened.

    `X` is m rows of numbers (lists or an array of shape (m, n); numbers for a model of one input),
    `y` m targets. Of a memory-mapped array (`numpy.load(path, mmap_mode="r")`) the rows of a batch
    are read, and checked, when their turn comes: it may be larger than memory.
    Without `y`, `X` is an iterable of batches (X, y), or a function that returns one, begun anew
    in each epoch; their sizes and their order are yours.
    `loss` is a name from `LOSSES` or a function of one example's output and target
    that returns a Value; each batch is descended on the mean over its examples. `optimizer` is one
    made for the model's parameters, or "sgd" or "adam" for one with the default settings here.
    `batch_size=1` descends on one example at a time, `batch_size=None` on all of them.
    `engine="compiled"` traces one example and computes batches on arrays (`compile_step`, with the
    extra `compile`): the same weights to rounding, much faster. Where model and loss cannot be
    traced, it warns and goes on without. `engine="jax"` does so with XLA (the extra `jax`), the
    examples of each batch shared out to so many `devices` (one, if you don't say; of several
    processes, which `jax.distributed` has joined, all).
    `validation` is a pair (X, y), the fraction of the examples to hold out, or batches (no list of
    them, which could be a pair). Shuffling and holding out depend on `seed` alone. `progress` shows
    a bar where tqdm is installed. After each epoch every callback is called with the model and the
    history; one that returns True ends the training. So does Ctrl-C: the history has the epochs
    that were finished, model and optimizer are as the latest whole step left them, and what was
    switched off meanwhile, garbage collection and gradients, is on again.
    `resume` is a file that the callback `checkpoint(path)` wrote: parameters, optimizer and history
    become those of its last epoch, and the epochs after it, up to `epochs` in all, give what they
    would have given without the break, to the bit. Everything else must be as it was.

    Raises InputError (a ValueError) for data that does not fit, before anything changes, or where
    it is read late, after the batches before it; StateError (a ValueError) for a file that cannot
    be resumed with these arguments, before anything changes; and
    DivergenceError (a ValueError) with epoch and batch when a loss is not finite or leaves its
    domain: the parameters are then those of the last batch whose loss was finite. Within
    `detect_anomaly` the eager engine raises AnomalyError earlier, where a number stops being
    finite, and leaves the parameters at which it did.
    """
    if engine not in ENGINES:
        raise InputError(f"engine is one of {', '.join(ENGINES)}, not {engine!r:.60}")
    if devices is not None and engine != "jax":
        raise InputError("devices are for engine='jax'")
    epochs = _whole("epochs", epochs)
    if batch_size is not None:
        batch_size = _whole("batch_size", batch_size)
    rule = _loss(loss)
    saved = None if resume is None else _saved(resume, epochs)
    history = History() if saved is None else saved.history
    finished = len(history)
    if seed is None:
        seed = Random().getrandbits(32) if saved is None else saved.run["seed"]
    elif isinstance(seed, Integral):
        seed = int(seed)  # NumPy's integers too
    random = Random(seed)
    source: Examples | Batches
    if y is None:
        if batch_size != BATCH_SIZE:
            raise InputError("batches without y are as large as they are: leave out batch_size")
        source = Batches(X, epochs - finished)
    else:
        source = examples(X, y)
    held = held_out(validation, source, epochs - finished, random)
    size = (batch_size or len(source)) if isinstance(source, Examples) else None
    descent = _optimizer(optimizer, model)

    parameters = descent.params
    # Before the latest step: the numbers gave a finite loss.
    good, memory = [p.data for p in parameters], descent._memory
    stepping = False
    silenced = no_grad.open_here()
    try:
        shown = source.sample(16)
        check = _target_check(rule, model, shown[0][0])
        for part in (source, held):
            if part is not None:
                part.check_targets(check)
        run = {
            "seed": seed,
            "loss": loss if isinstance(loss, str) else getattr(loss, "__name__", "custom"),
            "model": architecture(model),
            "optimizer": type(descent).__name__,
            **descent._settings(),
            "examples": _count(source),
            "batch_size": size,
            "data": source.digest(),
            "validation": _count(held),
            "columns": _columns(rule, held),
        }
        step = None
        if engine == "jax":
            from ..compiler import xla

            xla.check()
            weights = [p.data for p in parameters] if saved is None else saved.parameters
            xla.agree({**run, "weights": weights, "epochs": epochs, "history": history.rows()})
        if engine != "eager":
            step = _compiled(model, rule, parameters, *shown, engine, devices)
        if saved is not None:
            saved.restore(model, descent, run)
            good, memory = [p.data for p in parameters], descent._memory
            for _ in range(finished):
                source.shuffle(random)
        with paused(), _progress(history, epochs, progress) as show:
            for epoch in range(finished + 1, epochs + 1):
                history._training = None
                source.shuffle(random)
                total, hits, seen = 0.0, 0, 0
                for batch, (inputs, targets) in enumerate(source.batches(size), 1):
                    try:
                        if step is None:
                            mean, correct = _differentiate(model, rule, descent, inputs, targets)
                        else:
                            mean, correct = _step(step, rule, inputs, targets)
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
                    total += mean * len(inputs)
                    hits += correct
                    seen += len(inputs)
                measured = {"loss": total / seen, "accuracy": hits / seen}
                if held is not None:
                    measured |= _validate(model, rule, step, held)
                for name in run["columns"]:
                    history._columns()[name].append(measured[name])
                finished = epoch
                history._training = run, descent
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


def checkpoint(path: str | os.PathLike[str], **extra: Any) -> Callable[[Module, History], None]:
    """A callback for `fit` that writes the model after each epoch, and what `resume` needs.

    The file is one that `model.load` reads, written atomically: after a crash it has the last
    whole epoch. `extra` is written along, as JSON.

    >>> import tempfile
    >>> from micrograd_like import nn
    >>> path = tempfile.mkdtemp() + "/line.json"
    >>> X, y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
    >>> straight, first, second = (nn.MLP(1, [1], seed=s) for s in (0, 0, 1))
    >>> _ = fit(straight, X, y, loss="mse", epochs=5)
    >>> _ = fit(first, X, y, loss="mse", epochs=2, callbacks=[checkpoint(path)])
    >>> _ = fit(second, X, y, loss="mse", epochs=5, resume=path)
    >>> second.state_dict() == straight.state_dict()
    True

    Raises StateError (a ValueError) for what is not finite, OSError where writing fails.
    """

    def save(model: Module, history: History) -> None:
        if history._training is None:
            raise InputError("a checkpoint is written after a whole epoch, as a callback of fit")
        run, descent = history._training
        training = {
            "run": run,
            "optimizer": descent.state_dict(),
            "history": history._columns(),
        }
        state.write_file(path, model.state_dict(), **extra, training=training)

    return save


class _Saved(NamedTuple):
    """What a checkpoint has; `run` is what must be the same for `fit` to go on from it."""

    path: str
    parameters: dict[str, Any]
    run: dict[str, Any]
    optimizer: dict[str, Any]
    history: History

    def restore(self, model: Any, descent: Optimizer, run: dict[str, Any]) -> None:
        """Set model and optimizer. Raises StateError naming what differs, then unchanged."""
        if not isinstance(model, Module):
            raise InputError("resume needs a Module, whose parameters have names")
        for name, value in run.items():
            if (before := self.run.get(name)) != value:
                long = name in ("data", "model")
                what = f"the {name} differs" if long else f"{name} was {before!r:.60}, is {value!r}"
                raise StateError(f"{self.path} cannot be resumed: {what}")
        parameters = model.parameters()
        unchanged = [p.data for p in parameters]
        try:
            model.load_state_dict(self.parameters)
            descent.load_state_dict(self.optimizer)
        except StateError as error:
            assign(parameters, unchanged)
            raise StateError(f"{self.path} cannot be resumed: {error}") from None


def _saved(path: str | os.PathLike[str], epochs: int) -> _Saved:
    """The content of a checkpoint that was written within `epochs`. Raises StateError."""
    content = state.read_file(path)
    history = History()
    try:
        training = content["training"]
        run, optimizer, columns = (dict(training[k]) for k in ("run", "optimizer", "history"))
        for name, column in history._columns().items():
            column += map(number, columns[name])
            if bool(column) != (name in run["columns"]) or len(column) not in (0, len(history)):
                raise InputError(f"the history's {name} is not that of every epoch")
        if not isinstance(run["seed"], (int, float, str)):
            raise InputError("there is no seed")
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(
            f"{path} has no training to go on from, as a file of checkpoint has: {error}"
        ) from None
    if not 1 <= len(history) <= epochs:
        raise StateError(
            f"{path} has {len(history)} epochs, and {epochs} in all are wanted: ask for more"
        )
    return _Saved(os.fspath(path), content["parameters"], run, optimizer, history)


def _columns(rule: Loss, held: Examples | Batches | None) -> list[str]:
    """The names of the history's lists that get numbers."""
    kinds = ["loss", "accuracy"] if rule.predict else ["loss"]
    return kinds if held is None else [*kinds, *(f"validation_{kind}" for kind in kinds)]


def _count(source: Examples | Batches | None) -> int | str | None:
    if source is None:
        return None
    return len(source) if isinstance(source, Examples) else "batches"


def _validate(
    model: Callable[[Any], Any], rule: Loss, step: Step | None, held: Examples | Batches
) -> dict[str, float]:
    """The mean loss and the share of right labels over the examples in `held`, for a history."""
    mean, hits, seen = 0.0, 0, 0
    for inputs, targets in held.batches():
        if step is None:
            loss, correct = evaluate(model, inputs, targets, rule)
        else:
            loss, correct = _step(step, rule, inputs, targets, descend=False)
        seen += len(inputs)
        mean += (loss - mean) * (len(inputs) / seen)
        hits += correct
    return {"validation_loss": mean, "validation_accuracy": hits / seen}


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
    engine: str,
    devices: int | None,
) -> Step | None:
    """The compiled step; None, with a warning, where it cannot be or is not the eager one."""
    from ..compiler import compile_step

    try:
        step = compile_step(
            model,
            rule.of,
            (inputs[0], targets[0]),
            parameters,
            backend="jax" if engine == "jax" else "numpy",
            devices=devices,
        )
    except TraceError as error:
        _warn_eager(str(error))
        return None
    # A branch on .data shows itself in examples that take the other side. Not in all: see the docs.
    loss = step.evaluate(inputs, targets)
    try:
        expected, _ = evaluate(model, inputs, targets, rule)
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


def _whole(name: str, count: Any) -> int:
    """The count as an int: NumPy's integers overflow, or add up to floats. Raises InputError."""
    if not is_count(count):
        raise InputError(f"{name} is a whole number, at least 1, got {count!r:.60}")
    return int(count)


def _target_check(rule: Loss, model: Callable[[Any], Any], x: Any) -> Callable[[Any], object]:
    """A function that lets a named loss see a target, on numbers, before any step is made."""
    if rule not in LOSSES.values():
        return lambda target: None
    with no_grad():
        output = model(x)

    def check(target: Any) -> None:
        # Only a probability of 0 or 1 is outside a loss's domain; fit will meet it.
        with no_grad(), suppress(DomainError):
            rule.of(output, target)

    return check


@contextmanager
def _progress(history: History, epochs: int, wanted: bool) -> Iterator[Callable[[History], None]]:
    """A function to call after each epoch, which moves a bar if one is wanted and tqdm is there."""
    if wanted:
        try:
            from tqdm import tqdm
        except ImportError:
            wanted = False
    if not wanted:
        yield lambda history: None
        return
    with tqdm(total=epochs, initial=len(history), unit="epoch") as bar:

        def show(history: History) -> None:
            bar.update()
            bar.set_postfix({k: f"{v:.4g}" for k, v in history.rows()[-1].items() if k != "epoch"})

        yield show
