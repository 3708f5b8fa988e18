"""Examples to learn from: four shapes in a plane, handwritten digits, names, lines of text."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from ..errors import InputError, MissingExtraError
from ..numerics import number, whole

# The place of a point of a class (0 or 1) at a turn from 0 to 1.
Point = Callable[[float, int], tuple[float, float]]


@dataclass(frozen=True)
class Dataset:
    """Examples with class labels: `y[i]` is the place in `classes` of row i's label.

    Without classes, it is a number to come near to. `X` has one row an example, in lists or an
    array, and a number for each input, which is read as (number - shift[j]) / scale[j] by whoever
    trains on it. Each of the `features` is an input, or is in `texts`, and has one for each text.
    Where a number is missing (`missing="mean"`) it is NaN. `notes` say what else is to be known,
    `decimal` is the decimal point of the file.
    """

    name: str
    X: Any
    y: list[Any]
    features: list[str]
    label: str
    classes: list[str]
    shift: list[float]
    scale: list[float]
    texts: dict[str, list[str]] = field(default_factory=dict)
    missing: str | None = None
    notes: list[str] = field(default_factory=list)
    decimal: str | None = None

    def scaled(self) -> Any:
        """X with every input shifted and scaled, and the mean, which is 0, where one is missing."""
        return scale(self.X, self.shift, self.scale)


def scale(X: Any, shift: list[float], scale: list[float]) -> Any:
    """(x - shift) / scale, input by input; 0 for one that is NaN. Lists give lists."""
    if isinstance(X, list):
        return [
            [0.0 if x != x else (x - a) / s for x, a, s in zip(row, shift, scale, strict=True)]
            for row in X
        ]
    import numpy as np

    if hasattr(X, "columns") or np.shape(X)[1:] != (len(shift),):
        raise InputError(f"inputs are rows of {len(shift)} numbers: predict takes tables by name")
    with np.errstate(all="ignore"):
        return np.where(np.isnan(X), 0.0, (X - np.array(shift)) / np.array(scale))


def moons(n: int = 400, noise: float = 0.1, seed: int = 0) -> Dataset:
    """Two interleaving half circles of radius 1, n/2 points each, with Gaussian noise."""

    def point(turn: float, label: int) -> tuple[float, float]:
        x, y = math.cos(math.pi * turn), math.sin(math.pi * turn)
        return (1.0 - x, 0.5 - y) if label else (x, y)

    return _plane("moons", point, n, noise, seed)


def circles(n: int = 400, noise: float = 0.1, seed: int = 0) -> Dataset:
    """Two circles around the origin, of radius 1 and 1/2, n/2 points each, with Gaussian noise."""

    def point(turn: float, label: int) -> tuple[float, float]:
        angle, radius = 2.0 * math.pi * turn, 0.5 if label else 1.0
        return radius * math.cos(angle), radius * math.sin(angle)

    return _plane("circles", point, n, noise, seed)


def spiral(n: int = 400, noise: float = 0.1, seed: int = 0) -> Dataset:
    """Two arms of a spiral around the origin, one and a half turns, n/2 points each, with noise."""

    def point(turn: float, label: int) -> tuple[float, float]:
        radius, angle = 3.0 * turn, 3.0 * math.pi * turn + math.pi * label
        return radius * math.cos(angle), radius * math.sin(angle)

    return _plane("spiral", point, n, noise, seed)


def xor(n: int = 400, noise: float = 0.1, seed: int = 0) -> Dataset:
    """Points of a square, n/2 of each class: class 1 where one coordinate alone is positive."""
    random = Random(seed)

    def point(turn: float, label: int) -> tuple[float, float]:
        x, y = 4.0 * turn - 2.0, random.uniform(0.2, 2.0)
        return x, -y if (x > 0.0) == bool(label) else y

    return _plane("xor", point, n, noise, seed)


def _plane(name: str, point: Point, n: int, noise: float, seed: int) -> Dataset:
    noise, random = number(noise), Random(seed)
    labels = [i % 2 for i in range(whole("n", n))]
    rows = [
        [x + random.gauss(0.0, noise) for x in point(random.random(), label)] for label in labels
    ]
    return Dataset(name, rows, labels, ["x1", "x2"], "label", ["0", "1"], [0.0] * 2, [1.0] * 2)


def digits() -> Dataset:
    """1,797 real handwritten digits of 8 × 8 pixels from 0 to 16, with scikit-learn's copy of them.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    Raises MissingExtraError (an ImportError) without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtraError("scikit-learn", "data") from None
    bunch = load_digits()
    features = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
    classes = [str(digit) for digit in range(10)]
    rows, labels = bunch.data.tolist(), bunch.target.tolist()
    return Dataset("digits", rows, labels, features, "digit", classes, [0.0] * 64, [16.0] * 64)


def names() -> list[str]:
    """5,163 first names of people in the United States, in small letters, from A to Z.

    Source: the Census Bureau's lists of 1990, as the PyPI package `names` has them. Nothing of that
    package is executed. Raises MissingExtraError (an ImportError) without it.
    """
    from importlib import metadata  # late: it takes as long as all of this package

    try:
        package = metadata.distribution("names")
    except metadata.PackageNotFoundError:
        raise MissingExtraError("names", "data") from None
    found: set[str] = set()
    for file in ("dist.female.first", "dist.male.first"):
        lines = Path(str(package.locate_file(f"names/{file}"))).read_text(encoding="ascii")
        found.update(line.split()[0].lower() for line in lines.splitlines() if line.strip())
    return sorted(found)


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a text file (UTF-8), without blanks around them, and without empty ones.

    Raises InputError where it is none, or has no line; OSError if it can't be opened.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        row = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{path}: row {row} is not UTF-8") from None
    lines = [line.strip() for line in text.split("\n")]
    if not any(lines):
        raise InputError(f"{path} is empty: there is no line with a text")
    return [line for line in lines if line]


def standardise(X: Any) -> tuple[list[float], list[float]]:
    """The mean and the standard deviation of each input, without those that are NaN.

    The deviation is 1 of an input that never moves, but for rounding. Raises MissingExtraError
    without NumPy.
    """
    try:
        import numpy as np
    except ImportError:
        raise MissingExtraError("numpy", "data") from None
    X = np.asarray(X, float)
    whole = np.isfinite(X).all()  # NumPy takes ten times as long to look for NaN
    mean, std = (np.mean, np.std) if whole else (np.nanmean, np.nanstd)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of inputs without a number
        low, high = np.nanmin(X, 0), np.nanmax(X, 0)
        # Powers of two round nothing, and no square overflows; what never moves is 0 below.
        unit = np.ldexp(1.0, np.frexp(np.fmax(high, -low))[1] - 1)
        above = X / unit - low / unit
        shift, deviation = (low / unit + mean(above, 0)) * unit, std(above, 0)
    moves = deviation > 8.0 * np.finfo(float).eps
    return np.nan_to_num(shift).tolist(), np.where(moves, deviation * unit, 1.0).tolist()


def split(y: list[int], fraction: float, seed: int | None) -> tuple[list[int], list[int]]:
    """The places of examples to train on and, of `fraction` of each class, to test on.

    Both are shuffled with `seed`. Raises InputError if either would be empty.
    """
    random = Random(seed)
    by_class: dict[int, list[int]] = {}
    for i, label in enumerate(y):
        by_class.setdefault(label, []).append(i)
    train, test = [], []
    for places in by_class.values():
        random.shuffle(places)
        count = round(fraction * len(places)) if 0.0 < fraction < 1.0 else 0
        test += places[:count]
        train += places[count:]
    if not train or not test:
        none = "train" if test else "test"
        raise InputError(
            f"a test fraction of {fraction!r} leaves none of {len(y)} examples to "
            f"{none} on: take another, or more examples"
        )
    random.shuffle(train)
    random.shuffle(test)
    return train, test
