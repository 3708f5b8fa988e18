"""Examples to learn from: two moons, two circles, handwritten digits, CSV files."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from ..errors import InputError, MissingExtraError
from ..words import several


@dataclass(frozen=True)
class Dataset:
    """Examples with class labels: `y[i]` is the place in `classes` of row i's label.

    `X` has one row an example and one number a feature; feature j is read as
    (number - shift[j]) / scale[j] by whoever trains on it.
    """

    name: str
    X: list[list[float]]
    y: list[int]
    features: list[str]
    label: str
    classes: list[str]
    shift: list[float]
    scale: list[float]

    def scaled(self) -> list[list[float]]:
        """X with every feature shifted and scaled."""
        return scale(self.X, self.shift, self.scale)


def scale(X: list[list[float]], shift: list[float], scale: list[float]) -> list[list[float]]:
    """(x - shift) / scale, feature by feature."""
    return [[(x - a) / s for x, a, s in zip(row, shift, scale, strict=True)] for row in X]


def moons(n: int = 400, noise: float = 0.1, seed: int = 0) -> Dataset:
    """Two interleaving half circles of radius 1, n/2 points each, with Gaussian noise."""
    random = Random(seed)
    rows, labels = [], []
    for i in range(n):
        angle, label = math.pi * random.random(), i % 2
        x, y = math.cos(angle), math.sin(angle)
        if label:
            x, y = 1.0 - x, 0.5 - y
        rows.append([x + random.gauss(0.0, noise), y + random.gauss(0.0, noise)])
        labels.append(label)
    return _plane("moons", rows, labels)


def circles(n: int = 400, noise: float = 0.1, seed: int = 0) -> Dataset:
    """Two circles around the origin, of radius 1 and 1/2, n/2 points each, with Gaussian noise."""
    random = Random(seed)
    rows, labels = [], []
    for i in range(n):
        angle, label = 2.0 * math.pi * random.random(), i % 2
        radius = 0.5 if label else 1.0
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        rows.append([x + random.gauss(0.0, noise), y + random.gauss(0.0, noise)])
        labels.append(label)
    return _plane("circles", rows, labels)


def _plane(name: str, rows: list[list[float]], labels: list[int]) -> Dataset:
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


@dataclass(frozen=True)
class Table:
    """A CSV file: its column names, and its rows of cells, each with its line in the file."""

    path: str
    columns: list[str]
    rows: list[tuple[int, list[str]]]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.columns)}

    def column(self, name: str) -> int:
        """The place of the column of that name. Raises InputError."""
        if name not in self._places:
            raise InputError(
                f"{self.path}: there is no column {name!r:.80}; there are {_names(self.columns)}"
            )
        return self._places[name]

    def numbers(self, names: list[str]) -> list[list[float]]:
        """The numbers in these columns, row by row. Raises InputError naming row and column."""
        return list(map(list, zip(*[self.read(name, _number) for name in names], strict=True)))

    def read(self, name: str, convert: Callable[[str], Any]) -> list[Any]:
        """What `convert`, which may raise a ValueError, makes of the cells of one column."""
        place, found = self.column(name), []
        for line, cells in self.rows:
            try:
                found.append(convert(cells[place].strip()))
            except ValueError as error:
                where = f"{self.path}: row {line}, column {name!r:.80}"
                raise InputError(f"{where}: {error}") from None
        return found


def _text(cell: str) -> str:
    if not cell:
        raise ValueError("the cell is empty")
    return cell


def _number(cell: str) -> float:
    # Python's float also reads 1_000 and the digits of other scripts.
    with suppress(ValueError):
        if cell.isascii() and "_" not in cell and math.isfinite(x := float(cell)):
            return x
    raise ValueError(f"{_text(cell)!r:.60} is not a finite number")


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a CSV file with a header in its first line (UTF-8; rows are counted as lines from 1).

    Raises InputError, with the row, for ragged or unreadable rows, and for a file without any;
    OSError if it can't be opened.
    """
    rows: list[tuple[int, list[str]]] = []
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            columns = [name.strip() for name in next(reader, [])]
            for cells in reader:
                if not any(map(str.strip, cells)) and len(cells) < 2:  # a blank line
                    continue
                if len(cells) != len(columns):
                    raise InputError(
                        f"{path}: row {reader.line_num} has {len(cells)} cells, "
                        f"the header has {len(columns)} columns ({_names(columns)})"
                    )
                rows.append((reader.line_num, cells))
        except csv.Error as error:
            raise InputError(f"{path}: row {reader.line_num}: {error}") from None
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: row {reader.line_num + 1} or later is not UTF-8 text: {error.reason}"
            ) from None
    if not columns:
        raise InputError(f"{path} is empty: a header and rows of numbers are needed")
    seen: set[str] = set()
    for i, name in enumerate(columns, 1):
        if not name or name in seen:
            problem = f"a second column {name!r:.80}" if name else f"no name for column {i}"
            raise InputError(f"{path}: row 1: the header has {problem}")
        seen.add(name)
    if not rows:
        raise InputError(f"{path} has a header but no rows")
    return Table(os.fspath(path), columns, rows)


def from_csv(path: str | os.PathLike[str], label: str | None = None) -> Dataset:
    """The examples in a CSV file, whose column `label` (default: the last) has the classes.

    The other columns are numbers. Raises InputError (a ValueError) naming row and column.
    """
    table = read_table(path)
    if len(table.columns) < 2:
        raise InputError(
            f"{path}: row 1: features and a label need at least two columns, separated by commas; "
            f"there is one, {table.columns[0]!r:.60}"
        )
    label = table.columns[-1] if label is None else label
    table.column(label)
    features = [name for name in table.columns if name != label]
    texts = table.read(label, _text)
    classes = sorted(set(texts), key=_natural)
    if len(classes) < 2:
        raise InputError(
            f"{path}: column {label!r:.80} has the single class {classes[0]!r:.80}: two are needed"
        )
    if len(classes) > max(2, len(texts) // 2):
        raise InputError(
            f"{path}: column {label!r:.80} has {len(classes)} classes in {len(texts)} rows: "
            "that looks like no label (--label names the column)"
        )
    places = {name: i for i, name in enumerate(classes)}
    rows, labels = table.numbers(features), [places[text] for text in texts]
    name, n = Path(path).stem, len(features)
    return Dataset(name, rows, labels, features, label, classes, [0.0] * n, [1.0] * n)


def standardise(X: list[list[float]]) -> tuple[list[float], list[float]]:
    """The mean and the standard deviation of each feature; 1 in place of a deviation of 0."""
    shift, deviation = [], []
    for column in zip(*X, strict=True):
        mean = math.fsum(x / len(column) for x in column)
        spread = math.hypot(*[x - mean for x in column]) / math.sqrt(len(column))
        shift.append(mean)
        deviation.append(spread or 1.0)
    return shift, deviation


def split(y: list[int], fraction: float, seed: int | None) -> tuple[list[int], list[int]]:
    """The places of examples to train on and, of `fraction` of each class, to test on.

    Both are shuffled with `seed`. Raises InputError if either would be empty.
    """
    if not 0.0 < fraction < 1.0:
        raise InputError(f"the test fraction is between 0 and 1, got {fraction!r}")
    random = Random(seed)
    by_class: dict[int, list[int]] = {}
    for i, label in enumerate(y):
        by_class.setdefault(label, []).append(i)
    train, test = [], []
    for places in by_class.values():
        random.shuffle(places)
        count = round(fraction * len(places))
        test += places[:count]
        train += places[count:]
    if not train or not test:
        raise InputError(
            f"a test fraction of {fraction!r} of {len(y)} examples leaves none to "
            + ("train" if not train else "test")
            + " on"
        )
    random.shuffle(train)
    random.shuffle(test)
    return train, test


def _natural(text: str) -> tuple[float, str]:
    """Numbers by size, before other texts by the alphabet."""
    try:
        x = float(text)
    except ValueError:
        return (math.inf, text)
    return (x, text) if math.isfinite(x) else (math.inf, text)


def _names(names: list[str]) -> str:
    return several([f"{name!r:.80}" for name in names], 6)
