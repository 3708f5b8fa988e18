"""`fit`: training in batches, with validation, a history, and checkpoints to go on from."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from random import Random
from typing import Any

from ..engine import Value
from ..errors import DivergenceError, DomainError, InputError
from ..modes import no_grad, paused
from ..nn import architecture
from ..numerics import is_count
from ..optim import Optimizer
from . import checkpoints, engines
from .batches import Batch, Batches, Examples, held_out
from .engines import Engine
from .history import History
from .named import check_name, find_loss, find_optimizer

BATCH_SIZE = 32


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
    """Train `model` in place on the m examples X with the targets y; returns what happened.

    `X` is m rows of numbers: lists, an array of shape (m, n), or numbers for a model of one input.
    `y` has m targets. A memory-mapped array (`numpy.load(path, mmap_mode="r")`) may be larger than
    memory: the rows of a batch are read, and checked, when their turn comes. Without `y`, `X` is an
    iterable of batches (X, y), or a function that returns one. Each epoch begins it anew; the sizes
    and the order of the batches are yours.

    `loss` is a name from `LOSSES`, or a function of one example's output and target that returns a
    Value; each step descends on the mean over a batch. `optimizer` is "sgd", "adam", or one made
    for the model's parameters. `batch_size=1` takes one example at a time, `batch_size=None` all.
    `validation` is a pair (X, y), the fraction of the examples to hold out, or batches (no list of
    them, which could be a pair). Shuffling and holding out depend on `seed` alone.

    `engine="compiled"` traces one example and computes batches on arrays (`compile_step`, with the
    extra `compile`): the weights are the same to rounding, and come much faster. Where model and
    loss cannot be traced, it warns, and the eager engine goes on. `engine="jax"` does so with XLA
    (the extra `jax`), and shares the examples of each batch out to `devices`, a number: one if you
    don't say, or with several processes, joined by `jax.distributed`, all that there are.

    After each epoch every callback is called with the model and the history; one that returns True
    ends the training. So does Ctrl-C: the history has the epochs that were finished, model and
    optimizer are as the latest whole step left them, and garbage collection and gradients, which
    may be switched off meanwhile, are on again. `progress` shows a bar where tqdm is installed.
    `resume` is a file that the callback `checkpoint(path)` wrote: parameters, optimizer and history
    become those of its last epoch, and the epochs after it, up to `epochs` in all, give what they
    would have given without the break, to the bit. Everything else must be as it was.

    Raises InputError (a ValueError) for data that does not fit, before anything changes, or where
    it is read late, after the batches before it; StateError (a ValueError) for a file that cannot
    be resumed with these arguments, before anything changes; and DivergenceError (a ValueError)
    with epoch and batch when a loss is not finite or leaves its domain: model and optimizer are
    then as they were at the last batch whose loss was finite. Within `detect_anomaly` the eager
    engine raises AnomalyError earlier, where a number stops being finite, and leaves the parameters
    at which it did.
    """
    check_name("engine", engine, engines.ENGINES)
    if devices is not None and engine != "jax":
        raise InputError("devices are for engine='jax'")
    epochs = _whole("epochs", epochs)
    if batch_size is not None:
        batch_size = _whole("batch_size", batch_size)
    rule = find_loss(loss)
    saved = None if resume is None else checkpoints.read(resume, epochs)
    history = History() if saved is None else saved.history
    finished = len(history)
    if seed is None:
        seed = Random().getrandbits(32) if saved is None else saved.run["seed"]
    elif isinstance(seed, Integral):
        seed = int(seed)  # NumPy's integers too
    random = Random(seed)
    descent = find_optimizer(optimizer, model)
    if y is None and batch_size != BATCH_SIZE:
        raise InputError("batches without y are as large as they are: leave out batch_size")

    silenced = no_grad.open_here()
    try:
        check = rule.target_check(model)
        left = epochs - finished
        source = Batches(X, left, check) if y is None else Examples(X, y, check)
        held = held_out(validation, source, left, check, random)
        size = None if isinstance(source, Batches) else batch_size or source.count
        run = {
            "seed": seed,
            "loss": loss if isinstance(loss, str) else getattr(loss, "__name__", "custom"),
            "model": architecture(model),
            "optimizer": type(descent).__name__,
            **descent.settings(),
            "examples": source.count,
            "batch_size": size,
            "data": source.digest(),
            "validation": None if held is None else held.count,
            "columns": _columns(rule.predict is not None, held is not None),
        }
        if engine == "jax":
            weights = [p.data for p in descent.params] if saved is None else saved.parameters
            engines.agree({**run, "weights": weights, "epochs": epochs, "history": history.rows()})
        way = engines.make(engine, model, rule, descent, source.sample(16), devices)
        if saved is not None:
            saved.restore(model, descent, run)
            for _ in range(finished):
                source.shuffle(random)
        history.run, history.optimizer = run, descent
        learner = _Learner(way, descent)
        with paused(), _progress(history, epochs, progress) as show:
            for epoch in range(finished + 1, epochs + 1):
                history.begin_epoch()
                source.shuffle(random)
                measured = learner.learn(source.batches(size), epoch)
                if held is not None:
                    measured |= _validate(way, held)
                history.end_epoch({name: measured[name] for name in run["columns"]})
                show(history)
                answers = [callback(model, history) for callback in callbacks]
                if any(answer is True for answer in answers):
                    history.interrupted = True
                    break
    except KeyboardInterrupt:
        no_grad.reopen(silenced)  # Ctrl-C may keep a context from being left
        history.interrupted = True
    return history


class _Learner:
    """Descends on batches, in whole steps, the latest of which can be undone."""

    def __init__(self, engine: Engine, optimizer: Optimizer) -> None:
        self.engine = engine
        self.optimizer = optimizer
        self.before = optimizer.snapshot()  # the latest step: these numbers gave a finite loss

    def learn(self, batches: Iterator[Batch], epoch: int) -> dict[str, float]:
        """The mean loss of an epoch, and the share of right labels. Raises DivergenceError."""
        total, hits, seen = 0.0, 0, 0
        for batch, (inputs, targets) in enumerate(batches, 1):
            try:
                mean, right = self.engine.differentiate(inputs, targets)
            except DomainError as error:
                raise self._diverged(str(error), epoch, batch) from error
            if not math.isfinite(mean):
                raise self._diverged(f"the loss is {mean!r}", epoch, batch)
            self.before = self.optimizer.snapshot()
            try:
                self.optimizer.step()
                if not all(math.isfinite(p.data) for p in self.optimizer.params):
                    what = "the step led to a parameter that is not finite"
                    raise self._diverged(what, epoch, batch)
            except BaseException:  # Ctrl-C, say, in a rule of the user's
                self.optimizer.restore(self.before)
                raise
            total += mean * len(inputs)
            hits += right
            seen += len(inputs)
        return {"loss": total / seen, "accuracy": hits / seen}

    def _diverged(self, what: str, epoch: int, batch: int) -> DivergenceError:
        """The error to raise, once the latest step is undone."""
        self.optimizer.restore(self.before)
        return DivergenceError(
            f"{what} in batch {batch} of epoch {epoch}; the model is back at its last good state: "
            "try a smaller learning rate",
            epoch,
            batch,
        )


def _validate(engine: Engine, held: Examples | Batches) -> dict[str, float]:
    """The mean loss and the share of right labels over the examples in `held`."""
    mean, hits, seen = 0.0, 0, 0
    for inputs, targets in held.batches():
        loss, right = engine.evaluate(inputs, targets)
        seen += len(inputs)
        mean += (loss - mean) * (len(inputs) / seen)
        hits += right
    return {"validation_loss": mean, "validation_accuracy": hits / seen}


def _columns(labelled: bool, validated: bool) -> list[str]:
    """The names of the history's lists that get numbers."""
    kinds = ["loss", "accuracy"] if labelled else ["loss"]
    return [*kinds, *(f"validation_{kind}" for kind in kinds if validated)]


def _whole(name: str, count: Any) -> int:
    """The count as an int: NumPy's integers overflow, or add up to floats. Raises InputError."""
    if not is_count(count):
        raise InputError(f"{name} is a whole number, at least 1, got {count!r:.60}")
    return int(count)


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
