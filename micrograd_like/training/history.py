"""`History`: what happened in a training, epoch by epoch."""

from __future__ import annotations

from typing import Any

from ..optim import Optimizer


class History:
    """What happened, one number an epoch in each list.

    `loss` and `accuracy` are means over the epoch's examples, each taken when its batch was
    computed; `validation_loss` and `validation_accuracy` are taken after the epoch. The accuracies
    are empty where the loss is not one of the named classification losses. `interrupted` tells
    whether Ctrl-C, or a callback, ended the training.

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
        self._begun = self._ended = 0

    def __len__(self) -> int:
        return self._ended

    def __repr__(self) -> str:
        last = f", {self.rows()[-1]}" if len(self) else ""
        return f"<History of {len(self)} epochs{last}>"

    @property
    def mid_epoch(self) -> bool:
        """Whether the model may have learned from batches after the last whole epoch."""
        return self._begun > self._ended

    def columns(self) -> dict[str, list[float]]:
        """The four lists by their names."""
        return {
            "loss": self.loss,
            "accuracy": self.accuracy,
            "validation_loss": self.validation_loss,
            "validation_accuracy": self.validation_accuracy,
        }

    def rows(self) -> list[dict[str, float]]:
        """One dict an epoch, of the lists that have a number for it."""
        columns = self.columns().items()
        return [
            {"epoch": i + 1} | {name: column[i] for name, column in columns if column}
            for i in range(len(self))
        ]

    def begin_epoch(self) -> None:
        """Note that the model is about to change."""
        self._begun = self._ended + 1

    def end_epoch(self, row: dict[str, float]) -> None:
        """Add what was measured: all of it or, where Ctrl-C comes between, nothing."""
        columns = self.columns()
        try:
            for name, x in row.items():
                columns[name].append(x)
            self._ended += 1
        except BaseException:
            for column in columns.values():
                del column[self._ended :]
            raise
