"""What `train` leaves of a table: a network, and what makes inputs of rows and labels of outputs.

Its file, `model.json`, has both as JSON to be read; nothing in it is executed.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

from .. import nn, state
from ..errors import InputError, StateError
from ..losses import softmax
from . import datasets, tables
from .datasets import Dataset


@dataclass
class Predictor:
    """A network for the columns `features` of a table, that knows what is in the column `label`.

    It has an output for each of the `classes`, the largest of which is its answer; without classes
    one output, whose number is (label - target[0]) / target[1]. Its inputs are those of a `Dataset`
    with these `features` and `texts`.
    """

    model: nn.MLP
    activation: str
    label: str
    features: list[str]
    classes: list[str]
    shift: list[float]
    scale: list[float]
    texts: dict[str, list[str]] = field(default_factory=dict)
    missing: str | None = None
    target: list[float] = field(default_factory=lambda: [0.0, 1.0])
    decimal: str | None = None

    @classmethod
    def untrained(cls, data: Dataset, hidden: list[int], activation: str, seed: int) -> Predictor:
        """One for the data, with hidden layers of these widths. Raises InputError."""
        outputs = len(data.classes) or 1
        model = nn.MLP(len(data.shift), [*hidden, outputs], activation, seed=seed)
        of_rows = (data.shift, data.scale, data.texts, data.missing)
        names = (activation, data.label, data.features, data.classes)
        return cls(model, *names, *of_rows, decimal=data.decimal)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictor:
        """The one in a file that `train` wrote. Raises StateError if it does not add up."""
        content = state.read_file(path)
        needs = "predict needs a model.json that train wrote for a table"
        if "classifier" not in content:
            what = "the parameters of a network alone, which model.load reads"
            if "gpt" in content:
                what = "a GPT, which invents lines: micrograd-like sample"
            raise StateError(f"{path} holds no classifier: it has {what}; {needs}")
        try:
            parameters, about = content["parameters"], content["classifier"]
            widths, activation = content["model"]["widths"], content["model"]["activation"]
            features, classes = about["features"], about["classes"]
            texts = dict(about.get("texts", {}))
            target, missing = about.get("target", [0.0, 1.0]), about.get("missing")
            decimal = about.get("decimal")
            (row,) = datasets.scale([about["shift"]], about["shift"], about["scale"])
            datasets.scale([target[:1]], target[:1], target[1:])
            # The counts must agree before a model of that size is built.
            if (
                min(widths) < 1
                or len(classes) == 1
                or (widths[0], widths[-1]) != (len(row), len(classes) or 1)
                or sum((nin + 1) * nout for nin, nout in pairwise(widths)) != len(parameters)
                or len(row) != sum(len(texts.get(name, "1")) for name in features)
                or not all(isinstance(xs, list) for xs in (features, classes, *texts.values()))
                or not all(isinstance(x, str) for x in [about["label"], *features, *classes])
                or not all(isinstance(x, str) for x in chain(*texts.values()))
                or any(len({*xs}) < len(xs) for xs in (features, classes, *texts.values()))
                or missing not in (None, "drop", "mean")
                or decimal not in (None, ".", ",")
            ):
                raise InputError("its parts do not fit together")
            model = nn.MLP(widths[0], widths[1:], activation, seed=0)
            model.load_state_dict(parameters)
            of_rows = (about["shift"], about["scale"], texts, missing, target, decimal)
            return cls(model, activation, about["label"], features, classes, *of_rows)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            raise StateError(
                f"{path} holds no classifier whose parts fit together: {needs}"
            ) from None

    def about(self) -> dict[str, dict[str, Any]]:
        """What `load` finds in the file, besides the parameters."""
        about = vars(self).copy()
        model, activation = about.pop("model"), about.pop("activation")
        return {"model": {"widths": model.widths, "activation": activation}, "classifier": about}

    def read(self, path: str | os.PathLike[str], **how: Any) -> Any:
        """The table in a file as a DataFrame, as `predict` takes it; see `tables.read_table`."""

        def texts(layout: tables.Layout) -> list[str]:
            return [*self.texts, *tables.inexact(layout, [self.label][: len(self.classes)])]

        return tables.read_table(
            path, known=self.features, decimal=self.decimal, texts=texts, **how
        )

    def predict(self, table: Any, missing: str | None = None) -> list[Any]:
        """The label, or the number, of each row: of a file, a DataFrame, or rows of the features.

        None where an output is NaN, or where a cell is missing if it learned, or `missing` says, to
        "drop" such rows. Raises InputError for what is unlike the table that it learned from.
        """
        if isinstance(table, (str, os.PathLike)):
            table = self.read(table)
        elif not hasattr(table, "columns"):
            table = tables.of_rows(table, self.features)
        where = table.attrs.get("path", "the table")
        missing = missing or self.missing
        problems = tables.absent(table, self.features)
        there = [name for name in self.features if [*table].count(name) == 1]
        X, gaps = tables.numbers(table, there, self.texts, missing, problems)
        tables.refuse(where, problems)
        found = self.classify(X)
        lost = gaps.any(axis=1).tolist() if missing == "drop" else [False] * len(X)
        names = self.classes
        return [
            None if x is None or gone else names[x] if names else x
            for x, gone in zip(found, lost, strict=True)
        ]

    def classify(self, rows: Any) -> list[Any]:
        """The place in `classes`, or the number, for each row of inputs, before they are scaled.

        None where an output is NaN, as it may be for numbers far from those that were learned from.
        """
        found = self.model.predict(datasets.scale(rows, self.shift, self.scale))
        shift, scale = self.target
        if self.classes:
            return found
        return [None if x is None else shift + scale * x for x in found]

    def probabilities(self, rows: Any) -> list[list[float] | None]:
        """The probability of each of the `classes`, for each row of inputs, before they are scaled.

        None where an output is NaN.
        """
        outputs = self.model.outputs(datasets.scale(rows, self.shift, self.scale))
        return [None if any(map(math.isnan, xs)) else softmax(xs) for xs in outputs]
