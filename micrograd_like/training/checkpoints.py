"""Files to go on from: `checkpoint` writes one after each epoch, and `fit(resume=...)` reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from .. import state
from ..errors import InputError, StateError
from ..nn import Module
from ..numerics import number
from ..optim import Optimizer
from .history import History


def checkpoint(path: str | os.PathLike[str], **extra: Any) -> Callable[[Module, History], None]:
    """A callback for `fit` that writes the model after each epoch, and what `resume` needs.

    The file is one that `model.load` reads, written atomically: after a crash it has the last
    whole epoch. `extra` is written along, as JSON.

    >>> import tempfile
    >>> from micrograd_like import nn
    >>> from micrograd_like.training import fit
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
        if history.mid_epoch or history.optimizer is None:
            raise InputError("a checkpoint is written after a whole epoch, as a callback of fit")
        training = {
            "run": history.run,
            "optimizer": history.optimizer.state_dict(),
            "history": history.columns(),
        }
        state.write_file(path, model.state_dict(), **extra, training=training)

    return save


class Saved(NamedTuple):
    """What a checkpoint has; `run` is what must be the same for `fit` to go on from it."""

    path: str
    parameters: dict[str, Any]
    run: dict[str, Any]
    optimizer: dict[str, Any]
    history: History

    def restore(self, model: Any, optimizer: Optimizer, run: dict[str, Any]) -> None:
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
            optimizer.load_state_dict(self.optimizer)
        except StateError as error:
            state.assign(parameters, unchanged)
            raise StateError(f"{self.path} cannot be resumed: {error}") from None


def read(path: str | os.PathLike[str], epochs: int) -> Saved:
    """The content of a checkpoint that was written within `epochs`. Raises StateError."""
    content = state.read_file(path)
    history = History()
    try:
        training = content["training"]
        run, optimizer, columns = (dict(training[k]) for k in ("run", "optimizer", "history"))
        for row in _rows({name: columns[name] for name in history.columns()}, run["columns"]):
            history.end_epoch(row)
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
    return Saved(os.fspath(path), content["parameters"], run, optimizer, history)


def _rows(columns: dict[str, Any], wanted: list[str]) -> list[dict[str, float]]:
    """The history's rows. Raises InputError where a column lacks, or has too many, numbers."""
    epochs = len(columns["loss"])
    for name, column in columns.items():
        if len(column) != (epochs if name in wanted else 0):
            raise InputError(f"the history's {name} is not that of every epoch")
    return [{name: number(columns[name][i]) for name in wanted} for i in range(epochs)]
