"""Examples to learn from: two moons, two circles, handwritten digits, names, CSV and text files."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ..errors import InputError, MissingExtraError
from ..state import finite
from ..words import several

# The place of a point of a class (0 or 1) at a turn from 0 to 1.
Point = Callable[[float, int], tuple[float, float]]


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


def _plane(name: str, point: Point, n: int, noise: float, seed: int) -> Dataset:
    random = Random(seed)
    labels = [i % 2 for i in range(n)]
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


@dataclass(frozen=True)
class Table:
    """A CSV file: the place of each column by its name, and the rows, each with its line."""

    path: str
    columns: dict[str, int]
    rows: list[tuple[int, list[str]]]

    def column(self, name: str) -> int:
        """The place of the column of that name. Raises InputError."""
        if name not in self.columns:
            known = several([f"{name!r:.80}" for name in self.columns], 6)
            raise InputError(f"{self.path}: there is no column {name!r:.80}; there are {known}")
        return self.columns[name]

    def numbers(self, names: list[str]) -> list[list[float]]:
        """The numbers in these columns, row by row. Raises InputError naming row and column."""
        places = {name: self.column(name) for name in names}
        return [
            [self._number(cells[place], line, name) for name, place in places.items()]
            for line, cells in self.rows
        ]

    def _number(self, cell: str, line: int, name: str) -> float:
        # Python's float also reads 1_000 and the digits of other scripts.
        with suppress(ValueError):
            if cell.isascii() and "_" not in cell:
                return finite(cell)
        problem = f"{cell!r:.60} is not a finite number" if cell else "the cell is empty"
        raise InputError(f"{self.path}: row {line}, column {name!r:.80}: {problem}")


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a CSV file with a header in its first line (UTF-8; rows are counted as lines from 1).

    Raises InputError, with the row, for ragged or unreadable rows, and for a file without any;
    OSError if it can't be opened.
    """
    rows: list[tuple[int, list[str]]] = []
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            # A blank line has no cells.
            rows += [(reader.line_num, [x.strip() for x in cells]) for cells in reader if cells]
        except csv.Error as error:
            raise InputError(f"{path}: row {reader.line_num}: {error}") from None
        except UnicodeDecodeError:
            raise InputError(f"{path}: row {reader.line_num + 1} or later is not UTF-8") from None
    header = rows.pop(0)[1] if rows else []
    columns = {name: place for place, name in enumerate(header)}
    if "" in columns or len(columns) < len(header):
        raise InputError(f"{path}: the header needs a name for each column, and none of them twice")
    rows = [row for row in rows if row[1] != [""]]
    for line, cells in rows:
        if len(cells) != len(header):
            raise InputError(f"{path}: row {line} has {len(cells)} cells, the header {len(header)}")
    if not rows:
        raise InputError(f"{path} is empty: there are no rows below a header")
    return Table(os.fspath(path), columns, rows)


def from_csv(path: str | os.PathLike[str], label: str | None = None) -> Dataset:
    """The examples in a CSV file, whose column `label` (default: the last) has the classes.

    The other columns are numbers. Raises InputError (a ValueError) naming row and column.
    """
    table = read_table(path)
    label = list(table.columns)[-1] if label is None else label
    place = table.column(label)
    texts = [cells[place] for _, cells in table.rows]
    if "" in texts:
        line, _ = table.rows[texts.index("")]
        raise InputError(f"{path}: row {line}, column {label!r:.80}: the cell is empty")
    features = [name for name in table.columns if name != label]
    classes = sorted(set(texts), key=_natural)
    if not features or not 2 <= len(classes) <= max(2, len(texts) // 2):
        raise InputError(
            f"{path}: column {label!r:.80} has {len(classes)} classes in {len(texts)} rows, beside "
            f"{len(features)} other columns: that looks like no label (--label names the column)"
        )
    places = {name: i for i, name in enumerate(classes)}
    rows, labels = table.numbers(features), [places[text] for text in texts]
    file, n = Path(path), len(features)
    name = file.stem if file.stem.strip(".") else file.name  # "...csv" is no way up
    return Dataset(name, rows, labels, features, label, classes, [0.0] * n, [1.0] * n)


def standardise(X: list[list[float]]) -> tuple[list[float], list[float]]:
    """The mean and the standard deviation of each feature; 1 in place of a deviation of 0."""
    columns = list(zip(*X, strict=True))
    shift = [math.fsum(x / len(X) for x in column) for column in columns]
    spread = [math.hypot(*[x - m for x in xs]) for xs, m in zip(columns, shift, strict=True)]
    return shift, [s / math.sqrt(len(X)) or 1.0 for s in spread]


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
        raise InputError(f"a test fraction of {fraction!r} leaves {len(y)} examples on one side")
    random.shuffle(train)
    random.shuffle(test)
    return train, test


def _natural(text: str) -> tuple[float, str]:
    """Numbers by size, before other texts by the alphabet."""
    x = math.inf
    with suppress(ValueError):
        x = float(text)
    return (math.inf if math.isnan(x) else x, text)
