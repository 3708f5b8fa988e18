"""A classifier: a network, and what turns rows of a table into inputs and outputs into labels.

`train` makes one and writes it to `model.json`, from where `predict` reads it.
"""

from __future__ import annotations

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
        targets, output_activation = LOSSES[loss]
        if targets is not None and len(data.classes) != 2:
            raise InputError(
                f"the loss {loss} is for two classes, and {data.name} has {len(data.classes)}: "
                "use cross_entropy"
            )
        nouts = [*hidden, 1 if targets else len(data.classes)]
        model = nn.MLP(len(data.features), nouts, activation, output_activation, seed)
        return cls(model, loss, data.label, data.features, data.classes, data.shift, data.scale)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """The one in a file that `train` wrote. Raises StateError if it does not add up."""
        content = state.read_file(path)
        parameters = content["parameters"]
        try:
            widths = _list_of(int, content["model"]["widths"])
            activation = content["model"]["activation"]
            output_activation = content["model"]["output_activation"]
            about = content["classifier"]
            loss, label = _list_of(str, [about["loss"], about["label"]])
            features, classes = [_list_of(str, about[key]) for key in ("features", "classes")]
            shift, scale = [_list_of(float, about[key]) for key in ("shift", "scale")]
        except (KeyError, TypeError):
            raise StateError(
                f"{path} holds no classifier: predict needs a model.json that train wrote"
            ) from None
        # The counts must agree before a model of that size is built.
        targets = LOSSES.get(loss, (None,))[0]
        if (
            loss not in LOSSES
            or min(widths, default=0) < 1
            or sum((nin + 1) * nout for nin, nout in pairwise(widths)) != len(parameters)
            or not len(features) == len(shift) == len(scale) == widths[0]
            or widths[-1] != (1 if targets else len(classes))
            or (targets and len(classes) != 2)
            or 0.0 in scale
        ):
            raise StateError(
                f"{path}: its widths, features, classes and parameters do not fit together"
            )
        try:
            model = nn.MLP(widths[0], widths[1:], activation, output_activation, seed=0)
        except InputError as error:
            raise StateError(f"{path}: {error}") from None
        model.load_state_dict(parameters)
        return cls(model, loss, label, features, classes, shift, scale)

    def about(self) -> dict[str, dict[str, Any]]:
        """What `load` finds in the file, besides the parameters."""
        layers = self.model.layers
        hidden, output = [nn.activation_name(layers[i].neurons[0].activation) for i in (0, -1)]
        return {
            "model": {
                "widths": self.model.widths,
                "activation": None if len(layers) == 1 else hidden,
                "output_activation": output,
            },
            "classifier": {name: x for name, x in vars(self).items() if name != "model"},
        }

    def check_resumes(self, path: str | os.PathLike[str]) -> None:
        """Raise StateError, naming what differs, for a file of another model or other classes.

        Shift and scale follow from the seed and the data, which `fit` compares.
        """
        content = state.read_file(path)
        for section, items in self.about().items():
            before = content.get(section)
            for name, value in items.items():
                old = before.get(name) if isinstance(before, dict) else None
                if old != value and name not in ("shift", "scale"):
                    raise StateError(
                        f"{path} cannot be resumed: {name} was {old!r:.60}, is {value!r:.60}"
                    )

    @property
    def targets(self) -> Sequence[float]:
        """What the loss takes for each class."""
        return LOSSES[self.loss][0] or range(len(self.classes))

    def classify(self, rows: list[list[float]]) -> list[int]:
        """The place in `classes` for each row of numbers as they stand in the table."""
        predict = training.LOSSES[self.loss].predict
        assert predict is not None
        labels, targets = [], self.targets
        with no_grad():
            for row in datasets.scale(rows, self.shift, self.scale):
                out = self.model(row)
                target = predict([v.data for v in out] if isinstance(out, list) else [out.data])
                labels.append(targets.index(target))
        return labels


def _list_of(kind: type, x: Any) -> list[Any]:
    """`x`, if it is a list of that kind and nothing else; TypeError otherwise."""
    if not isinstance(x, list) or any(type(item) is not kind for item in x):
        raise TypeError
    return x
