"""`History`: what happened in a training, epoch by epoch."""

from __future__ import annotations

from typing import Any

from ..optim import Optimizer


def _column(name: str) -> property:
    return property(lambda history: history.columns()[name])


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
        self.interrupted = False
        self.run: dict[str, Any] = {}
        self.optimizer: Optimizer | None = None
        self._rows: list[dict[str, float]] = []
        self._begun = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        last = f", {self.rows()[-1]}" if self._rows else ""
        return f"<History of {len(self)} epochs{last}>"

    loss = _column("loss")
    accuracy = _column("accuracy")
    validation_loss = _column("validation_loss")
    validation_accuracy = _column("validation_accuracy")

    @property
    def mid_epoch(self) -> bool:
        """Whether the model may have learned from batches after the last whole epoch."""
        return self._begun > len(self)

    def columns(self) -> dict[str, list[float]]:
        """All four lists by their names."""
        names = ("loss", "accuracy", "validation_loss", "validation_accuracy")
        return {name: [row[name] for row in self._rows if name in row] for name in names}

    def rows(self) -> list[dict[str, float]]:
        """One dict an epoch, of the lists that have a number for it."""
        return [{"epoch": i, **row} for i, row in enumerate(self._rows, 1)]

    def begin_epoch(self) -> None:
        """Note that the model is about to change."""
        self._begun = len(self) + 1

    def end_epoch(self, row: dict[str, float]) -> None:
        """Add what was measured, in one piece: Ctrl-C leaves no epoch in part."""
        self._rows.append(row)
