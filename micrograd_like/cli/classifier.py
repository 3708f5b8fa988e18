"""A classifier: a network, and what turns rows of a table into inputs and outputs into labels.

`train` makes one and writes it to `model.json`, from where `predict` reads it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .. import nn, state, training
from ..errors import InputError, StateError
from ..modes import no_grad
from ..training import datasets
from ..training.datasets import Dataset

# For each loss, the targets of classes 0 and 1 (None: each of many classes is its own target) and
# the activation of the output.
LOSSES: dict[str, tuple[tuple[float, float] | None, str | None]] = {
    "cross_entropy": (None, None),
    "hinge": ((-1.0, 1.0), None),
    "binary_cross_entropy": ((0.0, 1.0), "sigmoid"),
    "binary_cross_entropy_with_logits": ((0.0, 1.0), None),
}


@dataclass
class Classifier:
    """A network for the columns `features` of a table, and the `classes` in its column `label`."""

    model: nn.MLP
    activation: str
    loss: str
    label: str
    features: list[str]
    classes: list[str]
    shift: list[float]
    scale: list[float]

    @classmethod
    def untrained(
        cls, data: Dataset, hidden: list[int], activation: str, loss: str, seed: int
    ) -> Classifier:
        """One for the data, with hidden layers of these widths. Raises InputError."""
        nouts = [*hidden, _outputs(loss, data.classes)]
        model = nn.MLP(len(data.features), nouts, activation, LOSSES[loss][1], seed)
        labels = (data.label, data.features, data.classes)
        return cls(model, activation, loss, *labels, data.shift, data.scale)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """The one in a file that `train` wrote. Raises StateError if it does not add up."""
        content = state.read_file(path)
        try:
            parameters, about = content["parameters"], content["classifier"]
            widths, activation = content["model"]["widths"], content["model"]["activation"]
            loss, features, classes = about["loss"], about["features"], about["classes"]
            (row,) = datasets.scale([about["shift"]], about["shift"], about["scale"])
            # The counts must agree before a model of that size is built.
            if (
                min(widths) < 1
                or (widths[0], widths[-1]) != (len(features), _outputs(loss, classes))
                or sum((nin + 1) * nout for nin, nout in pairwise(widths)) != len(parameters)
                or len(row) != widths[0]
                or not all(isinstance(name, str) for name in [*features, *classes])
            ):
                raise InputError("its parts do not fit together")
            model = nn.MLP(widths[0], widths[1:], activation, LOSSES[loss][1], seed=0)
            model.load_state_dict(parameters)
            return cls(model, activation, **about)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            raise StateError(
                f"{path} holds no classifier whose parts fit together: "
                "predict needs a model.json that train wrote"
            ) from None

    def about(self) -> dict[str, dict[str, Any]]:
        """What `load` finds in the file, besides the parameters."""
        about = vars(self).copy()
        model, activation = about.pop("model"), about.pop("activation")
        return {"model": {"widths": model.widths, "activation": activation}, "classifier": about}

    @property
    def targets(self) -> Sequence[float]:
        """What the loss takes for each class."""
        return LOSSES[self.loss][0] or range(len(self.classes))

    def classify(self, rows: list[list[float]]) -> list[int | None]:
        """The place in `classes` for each row of numbers as they stand in the table.

        None where an output is NaN, as it may be for numbers far from those that were learned from.
        """
        predict = training.LOSSES[self.loss].predict
        assert predict is not None
        labels: list[int | None] = []
        with no_grad():
            for row in datasets.scale(rows, self.shift, self.scale):
                out = self.model(row)
                outputs = [v.data for v in (out if isinstance(out, list) else [out])]
                unknown = any(map(math.isnan, outputs))
                labels.append(None if unknown else self.targets.index(predict(outputs)))
        return labels


def _outputs(loss: str, classes: Sequence[str]) -> int:
    """The width of the last layer. Raises InputError for a loss that is not for such classes."""
    if LOSSES[loss][0] is None:
        return len(classes)
    if len(classes) != 2:
        raise InputError(f"{loss} is for two classes, not {len(classes)}: use cross_entropy")
    return 1
