"""A classifier: a network, and what turns rows of a table into inputs and outputs into labels.

`train` makes one and writes it to `model.json`, from where `predict` reads it.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .. import nn, state
from ..errors import InputError, StateError
from ..modes import no_grad
from ..training import datasets
from ..training.datasets import Dataset


@dataclass
class Classifier:
    """A network for the columns `features` of a table, and the `classes` in its column `label`.

    It has an output for each class, the largest of which is its answer.
    """

    model: nn.MLP
    activation: str
    label: str
    features: list[str]
    classes: list[str]
    shift: list[float]
    scale: list[float]

    @classmethod
    def untrained(cls, data: Dataset, hidden: list[int], activation: str, seed: int) -> Classifier:
        """One for the data, with hidden layers of these widths. Raises InputError."""
        model = nn.MLP(len(data.features), [*hidden, len(data.classes)], activation, seed=seed)
        labels = (data.label, data.features, data.classes)
        return cls(model, activation, *labels, data.shift, data.scale)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """The one in a file that `train` wrote. Raises StateError if it does not add up."""
        content = state.read_file(path)
        try:
            parameters, about = content["parameters"], content["classifier"]
            widths, activation = content["model"]["widths"], content["model"]["activation"]
            features, classes = about["features"], about["classes"]
            (row,) = datasets.scale([about["shift"]], about["shift"], about["scale"])
            # The counts must agree before a model of that size is built.
            if (
                min(widths) < 1
                or (widths[0], widths[-1]) != (len(features), len(classes))
                or sum((nin + 1) * nout for nin, nout in pairwise(widths)) != len(parameters)
                or len(row) != widths[0]
                or not all(isinstance(name, str) for name in [*features, *classes])
            ):
                raise InputError("its parts do not fit together")
            model = nn.MLP(widths[0], widths[1:], activation, seed=0)
            model.load_state_dict(parameters)
            labels = (about["label"], features, classes)
            return cls(model, activation, *labels, about["shift"], about["scale"])
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

    def classify(self, rows: list[list[float]]) -> list[int | None]:
        """The place in `classes` for each row of numbers as they stand in the table.

        None where an output is NaN, as it may be for numbers far from those that were learned from.
        """
        labels: list[int | None] = []
        with no_grad():
            for row in datasets.scale(rows, self.shift, self.scale):
                outputs = [v.data for v in self.model(row)]
                unknown = any(map(math.isnan, outputs))
                labels.append(None if unknown else outputs.index(max(outputs)))
        return labels
