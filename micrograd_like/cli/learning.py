"""The commands `train` and `predict`, and the small show without a command: networks learn.

Of lines of text, `writing.py` trains a GPT.

A model of two moons, say, is in `runs/moons`: `model.json`, `history.csv` and pictures.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import training
from ..errors import InputError, MissingExtraError
from ..training import datasets, plots
from ..training.datasets import Dataset
from ..words import printable
from . import processes, running, writing
from .classifier import Classifier
from .folder import HISTORY, MODEL, Folder, history_table
from .terminal import complain, csv_text, say

TABLES = ("label", "hidden", "activation")  # the options of `train` for tables alone
BUILT_IN = {"moons": datasets.moons, "circles": datasets.circles, "digits": datasets.digits}


def add_commands(commands: Any) -> None:
    """Add the parsers of the commands to the subparsers of the whole."""
    about = "train a classifier of tables, or a GPT of lines of text, and save it, with pictures"
    train = commands.add_parser("train", help=about)
    train.set_defaults(run=_train)
    what = "moons, circles, digits or a CSV file; names or a .txt file, of which it learns lines"
    train.add_argument("data", metavar="DATA", help=what)
    table = train.add_argument_group("tables", "a network of neurons learns to label their rows")
    table.add_argument("--label", help="the label column (default: the last), of a .txt table too")
    table.add_argument("--hidden", type=widths, metavar="N,N", help="widths of the hidden layers")
    table.add_argument("--activation", help="an op of the table of operations (default: tanh)")
    writing.add_options(train)
    train.add_argument("--epochs", type=int)
    train.add_argument("--lr", type=float, default=0.01, help="Adam's step size (default: 0.01)")
    train.add_argument("--batch-size", type=int, default=32)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--test-fraction", type=float, default=0.2)
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
    predict = commands.add_parser("predict", help="label the rows of a CSV file")
    predict.set_defaults(run=_predict)
    predict.add_argument("model", metavar="MODEL", help="a model.json that train wrote")
    predict.add_argument("data", metavar="FILE.csv", help="a table with the same feature columns")


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
    (writing.train if lines else _train_classifier)(arguments)


def _train_classifier(arguments: argparse.Namespace) -> None:
    hidden, epochs = ([32], 12) if arguments.data == "digits" else ([16, 16], 60)
    running.complete(arguments, hidden=hidden, activation="tanh", epochs=epochs, engine="eager")
    data = _dataset(arguments)
    train, test = datasets.split(data.y, arguments.test_fraction, arguments.seed)
    if arguments.data not in BUILT_IN:
        shift, deviation = datasets.standardise([data.X[i] for i in train])
        data = replace(data, shift=shift, scale=deviation)
    classifier = Classifier.untrained(data, arguments.hidden, arguments.activation, arguments.seed)
    folder = Folder(arguments, data.name)
    layers = "-".join(map(str, classifier.model.widths))
    say(
        f"{data.name}: {len(data.features)} features, {len(data.classes)} classes, "
        f"{len(train)} examples to train on and {len(test)} to test on; "
        f"MLP {layers}, {len(classifier.model.parameters())} parameters"
    )
    inputs = data.scaled()
    X, y = [inputs[i] for i in train], [data.y[i] for i in train]
    history = running.fit(arguments, classifier.model, classifier.about(), folder, X, y)
    truth = [data.y[i] for i in test]
    predicted = classifier.classify([data.X[i] for i in test])
    if not arguments.process_id:  # alone, or the first of several processes
        files: dict[str, str | bytes] = {HISTORY: history_table(history)}
        try:
            figures = {
                "loss.png": plots.loss_curve(history),
                "confusion.png": plots.confusion_matrix(truth, predicted, data.classes),
            }
            if len(data.features) == 2:
                figures["boundary.png"] = plots.decision_boundary(
                    classifier.classify, data.X, data.y, data.features, data.classes
                )
            files |= {name: running.png(figure) for name, figure in figures.items()}
        except MissingExtraError as error:
            say(f"no pictures: {error}")
        folder.finish(files)
        say(f"wrote {', '.join([MODEL, *files])} in {folder.path}")
    right = sum(a == b for a, b in zip(truth, predicted, strict=True))
    say(f"test accuracy {100.0 * right / len(truth):.1f} %")
    if history.interrupted:
        processes.leave(0)


def _dataset(arguments: argparse.Namespace) -> Dataset:
    if arguments.data in BUILT_IN:
        if arguments.label is not None:
            raise InputError(f"--label is for CSV files, not for {arguments.data}")
        return BUILT_IN[arguments.data]()
    if not arguments.data.lower().endswith(".csv") and not Path(arguments.data).exists():
        raise InputError(
            f"{arguments.data!r} is neither moons, circles, digits or names, nor a CSV or .txt file"
        )
    return datasets.from_csv(arguments.data, arguments.label)


def _predict(arguments: argparse.Namespace) -> None:
    classifier = Classifier.load(arguments.model)
    table = datasets.read_table(arguments.data)
    rows = table.numbers(classifier.features)
    labels = classifier.classify(rows)
    names = ["" if label is None else classifier.classes[label] for label in labels]
    lines = [line for line, _ in table.rows]
    text = csv_text(("row", "prediction"), *zip(lines, names, strict=True))
    if sys.stdout.isatty():
        text = "\n".join(map(printable, text.split("\n")))
    print(text, end="", flush=True)
    if None in labels:
        first = f"the first in row {lines[labels.index(None)]}"
        complain(f"no label for {labels.count(None)} rows, {first}: the network's outputs are NaN")
    if classifier.label in table.columns:
        place = table.column(classifier.label)
        truth = [cells[place].strip() for _, cells in table.rows]
        right = [t == name for t, name in zip(truth, names, strict=True) if t]
        if right:
            accuracy = f"{100.0 * sum(right) / len(right):.1f} %"
            complain(f"accuracy {accuracy} of {len(right)} labelled rows")


def show(_: argparse.Namespace) -> None:
    """Learn the moons, draw what was learned in characters, and say what to try next."""
    data = datasets.moons(200)
    classifier = Classifier.untrained(data, [8, 8], activation="relu", seed=1)
    model = classifier.model
    print(f"A network of {len(model.parameters())} scalar Values learns to tell two moons apart:\n")
    training.fit(model, data.X, data.y, epochs=40, batch_size=10, callbacks=[running.report])
    print(
        f"\n{_plane(classifier, data)}\n\n"
        "o and x are the data, the shaded side is where the network says x.\n\n"
        "Try next:\n"
        "  micrograd-like train digits        real handwritten digits, in about twenty seconds\n"
        "  micrograd-like train moons         the same with pictures, in runs/moons\n"
        "  micrograd-like train FILE.csv      your own data: columns of numbers, then a label\n"
        "  micrograd-like train names         a GPT invents names; FILE.txt has your own lines\n"
        '  micrograd-like eval "tanh(w*x + b)" w=-3 x=2 b=6.88\n'
        "                                     an expression, node by node, with its gradients\n"
        "  micrograd-like --help"
    )


def _plane(classifier: Classifier, data: Dataset) -> str:
    """What the network says in each cell of the plane, and the data, as lines of characters."""
    # A cell is 1/16 wide and 1/8 high, about as a terminal's are.
    points = zip(data.X, data.y, strict=True)
    marks = {(round(16 * x), round(-8 * y)): "ox"[label] for (x, y), label in points}
    columns, rows = [range(min(places), max(places) + 1) for places in zip(*marks, strict=True)]
    lines = []
    for row in rows:
        sides = classifier.classify([[column / 16, row / -8] for column in columns])
        cells = zip(columns, sides, strict=True)
        lines.append("".join(marks.get((x, row), "░" if side else " ") for x, side in cells))
    return "\n".join(lines)
