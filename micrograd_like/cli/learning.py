"""The commands `train` and `predict`, and the small show without a command: networks learn.

Of lines of text, `writing.py` trains a GPT.

A model of two moons, say, is in `runs/moons`: `model.json`, `history.csv` and pictures.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import ops, training
from ..errors import InputError
from ..training import datasets, plots, tables
from ..training.datasets import Dataset
from ..training.predictor import Predictor
from ..words import meant, percent, printable, several
from . import processes, running, writing
from .folder import Folder
from .terminal import complain, csv_text, say

# The options of `train` for tables alone, and those of them for files.
FILES = ("label", "features", "drop", "texts", "missing", "regression", "encoding", "header")
TABLES = (*FILES, "hidden", "activation")
PLANES = {make.__name__: make for make in
          (datasets.moons, datasets.circles, datasets.spiral, datasets.xor)}  # fmt: skip
BUILT_IN = {**PLANES, "digits": datasets.digits}


def add_commands(commands: Any) -> None:
    """Add the parsers of the commands to the subparsers of the whole."""
    about = "train a classifier of tables, or a GPT of lines of text, and save it, with pictures"
    train = commands.add_parser("train", help=about)
    train.set_defaults(run=_train)
    kinds = ", ".join(BUILT_IN)
    what = f"{kinds} or a CSV file; names or a .txt file, of which it learns lines"
    train.add_argument("data", metavar="DATA", help=what)
    table = train.add_argument_group("tables", "a network of neurons learns to label their rows")
    add_table_options(table)
    number = "whether the label is a number to come near to (default: if it looks like one)"
    table.add_argument("--regression", action=argparse.BooleanOptionalAction, help=number)
    hidden = "widths of the hidden layers (default: 16,16, and 32 for digits)"
    table.add_argument("--hidden", type=widths, metavar="N,N", help=hidden)
    add_activation(table)
    writing.add_options(train)
    times = "how often all is learned from (default: 60 for tables, 12 for digits, 10 for lines)"
    train.add_argument("--epochs", type=int, metavar="N", help=times)
    train.add_argument("--lr", type=float, default=0.01, help="Adam's step size (default: 0.01)")
    add_sizes(train, batch_size=32)
    how = "how to compute (default: eager for tables, and compiled for lines where NumPy is)"
    train.add_argument("--engine", choices=training.ENGINES, help=how)
    train.add_argument("--devices", type=int, help="with --engine jax: how many share each batch")
    processes.add_options(train)
    out = "the folder to write (default: runs/DATA); where a run has written, one such as DATA-2"
    train.add_argument("--out", type=Path, help=out)
    again = train.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the model.json there")
    force = "overwrite what a run wrote there"
    again.add_argument("--force", action="store_true", help=force)

    writing.add_command(commands)
    predict = commands.add_parser("predict", help="label the rows of a table")
    predict.set_defaults(run=_predict)
    predict.add_argument("model", metavar="MODEL", help="a model.json that train wrote")
    predict.add_argument("data", metavar="FILE.csv", help="a table with the same feature columns")
    _add_reading(predict)


def add_table_options(parser: Any) -> None:
    """Add the options that say what of a table is learned, and how its file is to be read."""
    parser.add_argument("--label", help="the label column (default: the last), of a .txt table too")
    names = {"type": _names, "metavar": "A,B"}
    parser.add_argument("--features", help="the columns to learn from (default: all)", **names)
    parser.add_argument("--drop", help="columns not to learn from", **names)
    parser.add_argument("--texts", help="columns of texts, whatever is in them: codes", **names)
    _add_reading(parser)


def add_activation(parser: Any) -> None:
    """Add the option `--activation`."""
    kinds = ("activation", "rectifier")
    known = ", ".join(name for name, op in ops.TABLE.items() if op.kind in kinds)
    what = f"of the hidden layers: {known}, or another operation (default: tanh)"
    parser.add_argument("--activation", metavar="NAME", help=what)


def add_sizes(parser: Any, batch_size: int) -> None:
    """Add the options of batches, and of what is chosen at random."""
    many = f"how many examples a step learns from (default: {batch_size})"
    parser.add_argument("--batch-size", type=int, default=batch_size, metavar="N", help=many)
    drawn = "of weights, of batches and of what is held out (default: 0)"
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=drawn)
    held = "how much is not learned from, but held out (default: 0.2)"
    parser.add_argument("--test-fraction", type=float, default=0.2, metavar="SHARE", help=held)


def _add_reading(parser: Any) -> None:
    """Add the options that say how a file is to be read."""
    gaps = "what to do where cells are missing: leave the row out, or take the column's mean"
    parser.add_argument("--missing", choices=("drop", "mean"), help=gaps)
    parser.add_argument("--encoding", help="such as cp1252 (default: it is found out)")
    first = "whether the first row has the names of the columns (default: it is found out)"
    parser.add_argument("--header", action=argparse.BooleanOptionalAction, help=first)


def _names(text: str) -> list[str]:
    """Names between commas, with quotes around one that has a comma."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]


def widths(text: str) -> list[int]:
    """Widths of layers, such as 16,16; argparse refuses "invalid widths" where this fails."""
    return [int(part) for part in text.split(",") if part.strip()]


def _train(arguments: argparse.Namespace) -> None:
    processes.join(arguments)
    # Of a .txt file, --label says that it is a table all the same.
    lines = writing.is_text(arguments.data) and (
        arguments.data in writing.BUILT_IN or arguments.label is None
    )
    for name in TABLES if lines else writing.SIZES:
        if getattr(arguments, name) is not None:
            kind = "tables" if lines else "lines of text"
            raise InputError(f"--{name} is for {kind}, not for {arguments.data}")
    (writing.train if lines else _train_table)(arguments)


def _train_table(arguments: argparse.Namespace) -> None:
    hidden, epochs = ([32], 12) if arguments.data == "digits" else ([16, 16], 60)
    running.complete(arguments, hidden=hidden, activation="tanh", epochs=epochs, engine="eager")
    data, train, test = prepared(arguments, BUILT_IN)
    predictor = Predictor.untrained(data, arguments.hidden, arguments.activation, arguments.seed)
    inputs, targets = data.scaled(), data.y
    if not data.classes:
        shift, deviation = datasets.standardise([[data.y[i]] for i in train])
        targets = [t for (t,) in datasets.scale([[t] for t in data.y], shift, deviation)]
        predictor.target = [*shift, *deviation]
        far = max(targets, key=abs)
        if math.isinf(far * far):
            label = data.y[targets.index(far)]
            raise InputError(f"{arguments.data}: {label!r} is too far from the other labels")
    folder = Folder(arguments, data.name)
    for note in data.notes:
        say(note)
    layers = "-".join(map(str, predictor.model.widths))
    what = f"{len(data.classes)} classes"
    if not data.classes:
        what = f"the number {data.label!r} (losses are of it in standard deviations)"
    say(
        f"{data.name}: {len(data.features)} features, {what}, "
        f"{len(train)} examples to train on and {len(test)} to test on; "
        f"MLP {layers}, {len(predictor.model.parameters())} parameters"
    )
    history = running.fit(
        arguments,
        predictor.model,
        predictor.about(),
        folder,
        _rows(inputs, train),
        _rows(targets, train),
        loss="cross_entropy" if data.classes else "mse",
        validation=(_rows(inputs, test), _rows(targets, test)),
    )
    truth, predicted = _rows(data.y, test), predictor.classify(_rows(data.X, test))
    if not arguments.process_id:  # alone, or the first of several processes
        running.finish(
            folder, history, lambda: _pictures(predictor, data, (train, test), predicted)
        )
    say(f"test {_measured(truth, predicted, bool(data.classes))}")
    if history.interrupted:
        processes.leave(0)


def _rows(rows: Any, places: list[int]) -> Any:
    """The rows at these places: of a list a list, of an array an array."""
    return [rows[i] for i in places] if isinstance(rows, list) else rows[places]


def _pictures(
    predictor: Predictor, data: Dataset, places: tuple[list[int], list[int]], predicted: list[Any]
) -> dict[str, Any]:
    """What was learned, as figures by the names of their files. Raises MissingExtraError.

    `places` are of the examples to train on and to test on; `predicted` is for the latter.
    """
    inputs = [] if data.texts else data.features
    (X, y), held = [(_rows(data.X, some), _rows(data.y, some)) for some in places]
    if not data.classes:
        figures = {"predicted.png": plots.predicted_numbers(held[1], predicted, data.label)}
        if len(inputs) == 1:
            figures["curve.png"] = plots.fitted_curve(
                predictor.classify, X, y, inputs[0], data.label, held_out=held
            )
        return figures
    figures = {"confusion.png": plots.confusion_matrix(held[1], predicted, data.classes)}
    if len(inputs) == 2:
        figures["boundary.png"] = plots.decision_boundary(
            predictor.probabilities, X, y, inputs, data.classes, held_out=held
        )
    return figures


def _measured(truth: list[Any], predicted: list[Any], labels: bool) -> str:
    """How good predictions are, in words; those that are None are wrong labels, but no numbers."""
    if labels:
        right = sum(a == b for a, b in zip(truth, predicted, strict=True))
        return f"accuracy {percent(right / len(truth))}"
    pairs = [(t, x) for t, x in zip(truth, predicted, strict=True) if x is not None]
    if not pairs:
        return "error nan"
    n, mean = len(pairs), math.fsum(t for t, _ in pairs) / len(pairs)
    mse = math.fsum((t - x) * (t - x) for t, x in pairs) / n
    variance = math.fsum((t - mean) * (t - mean) for t, _ in pairs) / n
    absolute = math.fsum(abs(t - x) for t, x in pairs) / n
    share = 1.0 - mse / variance if variance else math.nan
    return f"error {mse:.4g} (mse), R² {share:.3f}, mean absolute error {absolute:.4g}"


def prepared(
    arguments: argparse.Namespace, built_in: Mapping[str, Callable[[], Dataset]]
) -> tuple[Dataset, list[int], list[int]]:
    """The data that the arguments name, and the places of what to train on and to test on.

    The data of a file is scaled by the mean and the deviation of what to train on. Raises
    InputError.
    """
    options = {name: getattr(arguments, name) for name in FILES}
    if arguments.data in built_in:
        for name, value in options.items():
            if value is not None:
                raise InputError(f"--{name} is for CSV files, not for {arguments.data}")
        data = built_in[arguments.data]()
    elif arguments.data.lower().endswith(".csv") or Path(arguments.data).exists():
        lists = {name: options[name] or () for name in ("drop", "texts")}
        data = tables.from_csv(arguments.data, **options | lists)
    else:
        raise InputError(
            f"{arguments.data!r} is neither {', '.join(built_in)}, nor a CSV file"
            f"{meant(arguments.data, built_in)}"
        )
    strata = data.y if data.classes else [0] * len(data.y)
    train, test = datasets.split(strata, arguments.test_fraction, arguments.seed)
    if arguments.data not in built_in:
        shift, deviation = datasets.standardise(_rows(data.X, train))
        data = replace(data, shift=shift, scale=deviation)
    return data, train, test


def _predict(arguments: argparse.Namespace) -> None:
    predictor, notes = Predictor.load(arguments.model), list[str]()
    table = predictor.read(
        arguments.data, encoding=arguments.encoding, header=arguments.header, notes=notes
    )
    found = predictor.predict(table, arguments.missing)
    names = ["" if x is None else x for x in found]
    text = csv_text(("row", "prediction"), *zip(table.index, names, strict=True))
    if sys.stdout.isatty():
        text = "\n".join(map(printable, text.split("\n")))
    print(text, end="", flush=True)
    for note in notes:
        complain(note)
    if None in found:
        first = f"the first in row {table.index[found.index(None)]}"
        gap = "cells are missing, or " if "drop" in (arguments.missing, predictor.missing) else ""
        complain(
            f"no label for {found.count(None)} rows, {first}: {gap}the network's outputs are NaN"
        )
    if predictor.label in table:
        truth = tables.labels(table[predictor.label], bool(predictor.classes))
        classes = predictor.classes
        pairs = zip(truth, found, strict=True)
        known = [
            i for i, (t, x) in enumerate(pairs) if t is not None and (classes or x is not None)
        ]
        strange = {*_rows(truth, known)} - {*classes} if classes else ()
        if strange:
            some = several([f"{label!r:.60}" for label in sorted(strange)])
            complain(f"labels that were not learned: {some}")
        if known:
            measured = _measured(_rows(truth, known), _rows(found, known), bool(classes))
            complain(f"{measured} of {len(known)} labelled rows")


def show(_: argparse.Namespace) -> None:
    """Learn the moons, draw what was learned in characters, and say what to try next."""
    data = datasets.moons(200)
    predictor = Predictor.untrained(data, [8, 8], activation="relu", seed=1)
    model = predictor.model
    print(f"A network of {len(model.parameters())} scalar Values learns to tell two moons apart:\n")
    training.fit(model, data.X, data.y, epochs=40, batch_size=10, callbacks=[running.report])
    print(
        f"\n{_plane(predictor, data)}\n\n"
        "o and x are the data, the shaded side is where the network says x.\n\n"
        "Try next:\n"
        "  micrograd-like train digits        real handwritten digits, in some seconds\n"
        "  micrograd-like train moons         the same with pictures, in runs/moons\n"
        "  micrograd-like play moons          a page in which you see it learn, and change it\n"
        "  micrograd-like train FILE.csv      your own table\n"
        "  micrograd-like train names         a GPT invents names; FILE.txt has your own lines\n"
        '  micrograd-like eval "tanh(w*x + b)" w=-3 x=2 b=6.88\n'
        "                                     an expression, node by node, with its gradients\n"
        "  micrograd-like --help"
    )


def _plane(predictor: Predictor, data: Dataset) -> str:
    """What the network says in each cell of the plane, and the data, as lines of characters."""
    # A cell is 1/16 wide and 1/8 high, about as a terminal's are.
    points = zip(data.X, data.y, strict=True)
    marks = {(round(16 * x), round(-8 * y)): "ox"[label] for (x, y), label in points}
    columns, rows = [range(min(places), max(places) + 1) for places in zip(*marks, strict=True)]
    lines = []
    for row in rows:
        sides = predictor.classify([[column / 16, row / -8] for column in columns])
        cells = zip(columns, sides, strict=True)
        lines.append("".join(marks.get((x, row), "░" if side else " ") for x, side in cells))
    return "\n".join(lines)
