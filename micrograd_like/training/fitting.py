"""`fit`: training in batches, with validation, a history, and checkpoints to go on from."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from functools import partial
from numbers import Integral
from random import Random
from typing import Any

from ..engine import Value
from ..errors import DivergenceError, DomainError, InputError, OperandError
from ..gradients import listed
from ..modes import no_grad, paused, tracing, waiting
from ..module import Module
from ..nn import architecture
from ..numerics import plain, whole
from ..optim import SGD, Adam, AdamW, Optimizer
from . import engines
from .batches import Batch, Batches, Documents, Examples, held_out
from .engines import Eager, Engine, Loss, check_name, find_loss
from .history import History, Saved

BATCH_SIZE = 32

OPTIMIZERS: dict[str, Callable[[list[Value]], Optimizer]] = {
    "sgd": partial(SGD, lr=0.1),
    "adam": partial(Adam, lr=0.01),
    "adamw": partial(AdamW, lr=0.01),
}


def fit(
    model: Any,
    X: Any,
    y: Any = None,
    *,
    loss: str | Callable[..., Value] = "cross_entropy",
    optimizer: str | Optimizer = "adam",
    epochs: int = 10,
    batch_size: int | None = BATCH_SIZE,
    validation: Any = None,
    seed: int | None = 0,
    progress: bool = False,
    callbacks: Iterable[Callable[[Any, History], Any]] = (),
    engine: str = "eager",
    devices: int | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> History:
    """Train `model` in place on the m examples X with the targets y; returns what happened.

    `X` is m rows of numbers: lists, an array of shape (m, n), or numbers for a model of one input.
    `y` has m targets. Both are read at the start, and what changes them later, in a callback say,
    does not count: give batches instead. A memory-mapped array (`numpy.load(path, mmap_mode="r")`)
    may be larger than memory: the rows of a batch are read, and checked, when their turn comes.
    Without `y`, `X` is an iterable of batches (X, y), or a function that returns one. Each epoch
    begins it anew; the sizes and the order of the batches are yours.

    `fit(parameters, documents, loss=loss)` is for examples of any length, such as texts of tokens:
    numbers, lists of them, or tuples of what `loss(*example)` takes. The parameters are Values in
    lists or dicts, or a Module that is not called, whose method `loss` it is if no other is named.
    `validation` is then a list of examples, or a fraction.

    `loss` is a name from `LOSSES`, or a function of one example's output and target that returns a
    Value; each step descends on the mean over a batch. Examples with the `ignore_index` of
    `losses.cross_entropy` as label are left out. `optimizer` is "sgd", "adam", "adamw", or one made
    for the model's parameters. `batch_size=1` takes one example at a time, `batch_size=None` all.
    `validation` is a pair (X, y), or the fraction of the examples to hold out. Shuffling and
    holding out depend on `seed` alone.

    `engine="compiled"` traces one example and computes batches on arrays (`compile_step`, with the
    extra `compile`): the weights are the same to rounding, and come much faster. Where model and
    loss cannot be followed, it warns, and the eager engine goes on. They are traced again after
    each epoch and its callbacks, before each of your own batches, and after each step of an
    optimizer that has a `step` of its own, so an attribute that is changed there is noticed. A call
    that moves a generator, or a number of the model's own, is noticed at once, and so is a schedule
    of the optimizer's that changes the model from its first steps on. A model that does so for one
    example in a thousand, or by the clock, is noticed after an epoch at the earliest, if at all.
    `engine="numba"` does so with loops in machine code (the extra `native`), and
    `engine="jax"` with XLA (the extra `jax`), which shares the examples of each batch out to
    `devices`, a number: one if you don't say, or with several processes, joined by
    `jax.distributed`, all that there are.

    After each epoch every callback is called with the model and the history; one that returns True
    ends the training. So does Ctrl-C: the history has the epochs that were finished, and model and
    optimizer are as the latest whole step left them. `progress` shows a bar where tqdm is
    installed. `resume` is a file that the callback `checkpoint(path)` wrote: parameters, optimizer
    and history become those of its last epoch, and the epochs after it, up to `epochs` in all, give
    what they would have given without the break, to the bit (but where a compiled loss branches:
    the sums of its branches may be added in another order). All else must be as it was.

    Raises, all of them ValueErrors, InputError for data that does not fit, before anything changes,
    or where it is read late, after the batches before it; StateError for a file that cannot be
    resumed with these arguments, before anything changes; and DivergenceError with epoch and batch
    when a loss is not finite or leaves its domain: model and optimizer are then as they were at the
    last batch whose loss was finite. Within `no_grad`, where nothing would be learned, it raises
    InputError. Within `detect_anomaly` the eager engine raises AnomalyError
    earlier, where a number stops being finite, and leaves the parameters at which it did.
    """
    _check_gradients()
    check_name("engine", engine, engines.ENGINES)
    if devices is not None and engine != "jax":
        raise InputError("devices are for engine='jax'")
    epochs = whole("epochs", epochs)
    callbacks = [callbacks] if callable(callbacks) else listed(callbacks)  # called in every epoch
    if others := [callback for callback in callbacks if not callable(callback)]:
        raise OperandError(f"callbacks are functions of model and history, got {others[0]!r:.60}")
    if batch_size is not None:
        batch_size = whole("batch_size", batch_size)
    whole_examples = not callable(model)
    if whole_examples:
        if y is not None:
            raise InputError("there are no targets beside examples that have a loss of their own")
        model = model if isinstance(model, Module) else Parameters(model)
        loss = loss if callable(loss) else getattr(model, "loss", loss)
        if not callable(loss):
            raise InputError("parameters need a loss=..., a function of an example")
    rule = find_loss(loss)
    watched = y is None and not whole_examples  # what makes the batches
    saved = None if resume is None else Saved(resume, epochs)
    history = History() if saved is None else saved.history
    finished = len(history)
    if seed is None:
        seed = Random().getrandbits(32) if saved is None else saved.run["seed"]
    elif isinstance(seed, Integral):
        seed = int(seed)  # NumPy's integers too
    random = Random(seed)
    descent = _optimizer(optimizer, model)
    way: Engine | None = None
    outside = {mode: mode.open_here() for mode in (no_grad, tracing, waiting)}
    if watched and batch_size != BATCH_SIZE:
        raise InputError("batches without y are as large as they are: leave out batch_size")

    try:
        usable = rule.usable(model)
        source: Batches | Examples
        if whole_examples:
            source = Documents(X)
        elif watched:
            source = Batches(X, epochs - finished, usable)
        else:
            source = Examples(X, y, usable)
        held = held_out(validation, source, usable, random)
        size = None if isinstance(source, Batches) else batch_size or source.count
        kinds = ["loss", "accuracy"] if rule.hits else ["loss"]
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
            "columns": [*kinds, *(f"validation_{kind}" for kind in kinds if held is not None)],
        }
        if engine == "jax":
            from ..compiler import xla

            xla.check()
            weights = [p.data for p in descent.params] if saved is None else saved.parameters
            xla.agree({**run, "weights": weights, "epochs": epochs, "history": history.rows()})
        eager = Eager(model, rule, descent)
        way = engines.make(engine, eager, source.sample(), devices)
        way.prepare(source, held)
        if saved is not None:
            saved.restore(model, descent, run)
            eager.before = descent.snapshot()
            for _ in range(finished):
                source.shuffle(random)
        history.run, history.optimizer = run, descent
        with paused(), closing(way), _bar(history, epochs, progress) as bar:
            for epoch in range(finished + 1, epochs + 1):
                history.begin_epoch()
                source.shuffle(random)
                measured = _learn(way, rule, source.batches(size), epoch, watched)
                if held is not None:
                    measured |= _validate(way, rule, held.batches())
                history.end_epoch({name: measured[name] for name in run["columns"]})
                if bar is not None:
                    bar.update()
                    bar.set_postfix({name: f"{measured[name]:.4g}" for name in run["columns"]})
                way.check()
                way.write()
                answers = [callback(model, history) for callback in callbacks]
                if any(plain(answer) is True for answer in answers):  # NumPy's, too
                    history.interrupted = True
                    break
                if callbacks and epoch < epochs:
                    way.check()
    except KeyboardInterrupt:
        if way is not None:
            way.close()
        for mode, blocks in outside.items():
            mode.reopen(blocks)  # Ctrl-C may keep a context from being left
        history.interrupted = True
    return history


class Parameters(Module):
    """Values in lists and dicts, which a checkpoint names by the keys on the way to them."""

    def __init__(self, values: Any) -> None:
        self.values = values
        if not self.parameters():
            raise InputError(f"a model is called, or has parameters to learn, not {values!r:.60}")

    def named_parameters(self) -> Iterator[tuple[str, Value]]:
        for path, parameter in super().named_parameters():
            yield re.sub(r"^values(\['(\w+)'\])?", r"\2", path), parameter

    def __repr__(self) -> str:
        return f"{len(self.parameters())} Values"


def _learn(
    engine: Engine, rule: Loss, batches: Iterator[Batch], epoch: int, watched: bool
) -> dict[str, float]:
    """The mean loss of an epoch, and the share of right labels. Raises DivergenceError.

    If `watched`, what makes the batches may look at the model between them, and change it.
    """
    total, hits, seen = 0.0, 0, 0
    for number, batch in enumerate(batches, 1):
        cause = None
        _check_gradients()
        if watched:
            engine.check()
        try:
            mean, problem = engine.advance(*batch)
        except DomainError as error:
            mean, problem, cause = math.nan, str(error), error
        if problem:
            engine.undo()
            what = f"{problem} in batch {number} of epoch {epoch}; the model is back at its last"
            advice = "good state: try a smaller learning rate"
            raise DivergenceError(f"{what} {advice}", epoch, number) from cause
        total += mean * len(batch[0])
        hits += rule.right(engine.outputs, batch[-1])
        seen += len(batch[0])
        if watched:
            engine.write()
    return {"loss": total / seen, "accuracy": hits / seen}


def _validate(engine: Engine, rule: Loss, batches: Iterator[Batch]) -> dict[str, float]:
    """The mean loss, and the share of right labels, without a step."""
    mean, hits, seen = 0.0, 0, 0
    for batch in batches:
        loss = engine.evaluate(*batch)
        seen += len(batch[0])
        mean += (loss - mean) * (len(batch[0]) / seen)
        hits += rule.right(engine.outputs, batch[-1])
    return {"validation_loss": mean, "validation_accuracy": hits / seen}


def _check_gradients() -> None:
    """Raises InputError within `no_grad`."""
    if no_grad.open_here():
        raise InputError("fit learns from gradients, and there are none within no_grad: leave it")


def _optimizer(optimizer: str | Optimizer, model: Any) -> Optimizer:
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


def _bar(history: History, epochs: int, wanted: bool) -> AbstractContextManager[Any]:
    """A bar of tqdm, or None where none is wanted or tqdm is not installed."""
    if wanted:
        with suppress(ImportError):
            from tqdm import tqdm

            return tqdm(total=epochs, initial=len(history), unit="epoch")  # type: ignore[no-any-return]
    return nullcontext()
