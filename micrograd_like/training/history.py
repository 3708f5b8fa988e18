"""What happened in a training, and checkpoints: files to go on from, one after each epoch."""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random
from typing import Any

from .. import state
from ..errors import InputError, StateError
from ..module import Module
from ..numerics import number
from ..optim import Optimizer


class History:
    """What happened, one number an epoch in each list.

    `loss` and `accuracy` are means over the epoch's examples, each taken when its batch was
    computed; `validation_loss` and `validation_accuracy` are taken after the epoch. The accuracies
    are empty where the loss is not one of the library's classification losses. An example with
    several labels is right where all are; of a soft target the likeliest label counts.
    `interrupted` tells whether Ctrl-C, or a callback, ended the training.

    `run` says what is trained on what, and `optimizer` trains it: a checkpoint has both.
    """

    # Not a dataclass: that module takes a quarter of the package's import time.

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.accuracy: list[float] = []
        self.validation_loss: list[float] = []
        self.validation_accuracy: list[float] = []
        self.interrupted = False
        self.run: dict[str, Any] = {}
        self.optimizer: Optimizer | None = None
        self._begun = 0

    def __len__(self) -> int:
        return len(self.loss)

    def __repr__(self) -> str:
        last = f", {self.rows()[-1]}" if len(self) else ""
        return f"<History of {len(self)} epochs{last}>"

    @property
    def mid_epoch(self) -> bool:
        """Whether the model may have learned from batches after the last whole epoch."""
        return self._begun > len(self)

    def columns(self) -> dict[str, list[float]]:
        """The four lists by their names."""
        names = ("loss", "accuracy", "validation_loss", "validation_accuracy")
        return {name: getattr(self, name) for name in names}

    def rows(self) -> list[dict[str, float]]:
        """One dict an epoch, of the lists that have a number for it."""
        columns = {name: column for name, column in self.columns().items() if column}
        rows = enumerate(zip(*columns.values(), strict=True), 1)
        return [{"epoch": i, **dict(zip(columns, row, strict=True))} for i, row in rows]

    def begin_epoch(self) -> None:
        """Note that the model is about to change."""
        self._begun = len(self) + 1

    def end_epoch(self, row: dict[str, float]) -> None:
        """Add what was measured: all of it or, where Ctrl-C comes between, nothing."""
        columns, done = self.columns(), len(self)
        try:
            for name, x in row.items():
                columns[name].append(x)
        except BaseException:
            for column in columns.values():
                del column[done:]
            raise


def checkpoint(path: str | os.PathLike[str], **extra: Any) -> Callable[[Module, History], None]:
    """A callback for `fit` that writes the model after each epoch, and what `resume` needs.

    The file is one that `model.load` reads, written atomically: after a crash it has the last
    whole epoch. `extra` is written along, as JSON.

    Raises StateError (a ValueError) for what is not finite, OSError where writing fails.
    """

    def save(model: Module, history: History) -> None:
        if history.mid_epoch or history.optimizer is None:
            raise InputError("a checkpoint is written after a whole epoch, as a callback of fit")
        training = {
            "run": history.run,
            "optimizer": history.optimizer.state_dict(),
            "history": history.columns(),
        }
        state.write_file(path, model.state_dict(), **extra, training=training)

    return save


class Saved:
    """What the checkpoint at `path`, written within `epochs`, has. Raises StateError.

    `content` is all of it, with what was written along.
    """

    def __init__(self, path: str | os.PathLike[str], epochs: int) -> None:
        self.content = content = state.read_file(path)
        self.path = path
        self.parameters = content["parameters"]
        self.history = History()
        try:
            training = content["training"]
            names = ("run", "optimizer", "history")
            self.run, self.optimizer, columns = (dict(training[name]) for name in names)
            Random(self.run["seed"])
            for i in range(len(columns["loss"])):
                row = {name: number(columns[name][i]) for name in self.run["columns"]}
                self.history.end_epoch(row)
            if self.history.columns() != columns:
                raise InputError("the lists of its history do not fit together")
        except (LookupError, TypeError, ValueError) as error:
            raise StateError(f"{path} has no training to go on from: {error}") from None
        if not 1 <= len(self.history) <= epochs:
            raise StateError(f"{path} has {len(self.history)} epochs, {epochs} in all are wanted")

    def restore(self, model: Any, optimizer: Optimizer, run: dict[str, Any]) -> None:
        """Set model and optimizer. Raises StateError naming what differs, then unchanged."""
        if not isinstance(model, Module):
            raise InputError("resume needs a Module, whose parameters have names")
        for name, value in run.items():
            if (before := self.run.get(name)) != value:
                what = f"{name} was {before!r:.60}, is {value!r}"
                if name in ("data", "model"):  # a checksum, and a long text
                    what = f"the {name} differs"
                raise StateError(f"{self.path} cannot be resumed: {what}")
        parameters = model.parameters()
        unchanged = [p.data for p in parameters]
        try:
            model.load_state_dict(self.parameters)
            optimizer.load_state_dict(self.optimizer)
        except StateError as error:
            state.assign(parameters, unchanged)
            raise StateError(f"{self.path} cannot be resumed: {error}") from None
