"""The commands `train` and `predict`, and the small show without a command: networks learn.

A model of two moons, say, is in `runs/moons`: `model.json`, `history.csv` and pictures.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import nn, state, training
from ..errors import InputError, MissingExtraError
from ..optim import Adam
from ..training import datasets, plots
from ..training.datasets import Dataset
from ..words import printable
from . import processes
from .classifier import LOSSES, Classifier
from .terminal import complain, say

BUILT_IN = {"moons": datasets.moons, "circles": datasets.circles, "digits": datasets.digits}


def add_commands(commands: Any) -> None:
    """Add the parsers of the commands to the subparsers of the whole."""
    train = commands.add_parser("train", help="train a classifier and save it, with pictures")
    train.set_defaults(run=_train)
    train.add_argument("data", metavar="DATA", help="moons, circles, digits, or a CSV file")
    train.add_argument("--label", help="the CSV's label column (default: the last)")
    train.add_argument(
        "--hidden", type=_widths, default=None, metavar="N,N", help="widths of the hidden layers"
    )
    train.add_argument("--activation", default="tanh", help="an op of the table (default: tanh)")
    train.add_argument("--loss", default="cross_entropy", choices=LOSSES)
    train.add_argument("--epochs", type=int, default=None)
    train.add_argument("--lr", type=float, default=0.01, help="Adam's step size (default: 0.01)")
    train.add_argument("--batch-size", type=int, default=32)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--test-fraction", type=float, default=0.2)
    train.add_argument(
        "--engine", default="eager", choices=training.ENGINES, help="compiled: on arrays, faster"
    )
    train.add_argument("--devices", type=int, help="with --engine jax: how many share each batch")
    processes.add_options(train)
    train.add_argument("--out", type=Path, help="the folder to write (default: runs/DATA)")
    train.add_argument(
        "--resume", action="store_true", help="go on from the last whole epoch of the model there"
    )

    predict = commands.add_parser("predict", help="label the rows of a CSV file")
    predict.set_defaults(run=_predict)
    predict.add_argument("model", metavar="MODEL", help="a model.json that train wrote")
    predict.add_argument(
        "data", metavar="FILE.csv", help="a CSV file with the same feature columns"
    )


def _widths(text: str) -> list[int]:
    try:
        widths = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        widths = [0]
    if any(width < 1 for width in widths):
        raise argparse.ArgumentTypeError(f"widths are whole numbers such as 16,16, not {text!r}")
    return widths


def _train(arguments: argparse.Namespace) -> int:
    processes.join(arguments)
    data = _dataset(arguments)
    train, test = datasets.split(data.y, arguments.test_fraction, arguments.seed)
    if arguments.data not in BUILT_IN:
        shift, deviation = datasets.standardise([data.X[i] for i in train])
        data = replace(data, shift=shift, scale=deviation)
    large = arguments.data == "digits"
    hidden, epochs = arguments.hidden, arguments.epochs
    if hidden is None:
        hidden = [32] if large else [16, 16]
    if epochs is None:
        epochs = 12 if large else 60
    classifier = Classifier.untrained(
        data, hidden, arguments.activation, arguments.loss, arguments.seed
    )
    out = arguments.out or Path("runs") / data.name
    _check_out(out)

    widths = "-".join(map(str, classifier.model.widths))
    say(
        f"{data.name}: {len(data.features)} features, {len(data.classes)} classes, "
        f"{len(train)} examples to train on and {len(test)} to test on; "
        f"MLP {widths}, {len(classifier.model.parameters())} parameters"
    )
    history = _fit(classifier, data, train, epochs, out / "model.json", arguments)
    if not len(history):
        complain("micrograd-like: interrupted in the first epoch")
        return 130
    truth = [data.y[i] for i in test]
    predicted = classifier.classify([data.X[i] for i in test])
    if _writes(arguments):
        state.write_atomically(out / "history.csv", _csv(history.rows()))
        written = ["model.json", "history.csv"]
        try:
            written += _draw(classifier, data, history, truth, predicted, out)
        except MissingExtraError as error:
            say(f"no pictures: {error}")
        say(f"wrote {', '.join(written)} in {out}")
    right = sum(a == b for a, b in zip(truth, predicted, strict=True))
    say(f"test accuracy {100.0 * right / len(truth):.1f} %")
    return 0


def _writes(arguments: argparse.Namespace) -> bool:
    """Whether this is the process that writes: alone, or the first of several."""
    return not arguments.process_id


def _dataset(arguments: argparse.Namespace) -> Dataset:
    if arguments.data in BUILT_IN:
        if arguments.label is not None:
            raise InputError(f"--label is for CSV files, not for {arguments.data}")
        return BUILT_IN[arguments.data]()
    if not arguments.data.lower().endswith(".csv") and not Path(arguments.data).exists():
        raise InputError(f"{arguments.data!r} is neither moons, circles or digits nor a CSV file")
    return datasets.from_csv(arguments.data, arguments.label)


def _check_out(out: Path) -> None:
    """Refuse, before the work, a folder that can't be one."""
    for path in (out, *out.parents):
        if path.exists():
            if not path.is_dir():
                raise InputError(f"--out {out}: {path} is a file")
            if not os.access(path, os.W_OK | os.X_OK):
                raise InputError(f"--out {out}: {path} cannot be written to")
            return


def _fit(
    classifier: Classifier,
    data: Dataset,
    places: list[int],
    epochs: int,
    path: Path,
    arguments: argparse.Namespace,
) -> training.History:
    """Train on the examples at these places; `path` and the model are of the last whole epoch."""
    if arguments.resume:
        classifier.check_resumes(path)
    checkpoint = training.checkpoint(path, **classifier.about())
    bar = sys.stderr.isatty()

    def save(model: nn.Module, history: training.History) -> None:
        if _writes(arguments):
            path.parent.mkdir(parents=True, exist_ok=True)
            checkpoint(model, history)

    def report(model: Any, history: training.History) -> None:
        if not bar and len(history) % -(-epochs // 10) == 0:
            say(
                f"epoch {len(history):3d}  loss {history.loss[-1]:.4f}  "
                f"training accuracy {100.0 * history.accuracy[-1]:.1f} %"
            )

    inputs, targets = data.scaled(), classifier.targets
    history = training.fit(
        classifier.model,
        [inputs[i] for i in places],
        [targets[data.y[i]] for i in places],
        loss=classifier.loss,
        optimizer=Adam(classifier.model.parameters(), lr=arguments.lr),
        epochs=epochs,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        progress=bar,
        callbacks=[save, report],
        engine=arguments.engine,
        devices=arguments.devices,
        resume=path if arguments.resume else None,
    )
    if history.interrupted and len(history):
        say(f"interrupted after {len(history)} of {epochs} epochs (--resume goes on)")
        if history.mid_epoch:  # the file has the model of the last whole one
            classifier.model.load(path)
        else:
            save(classifier.model, history)
    return history


def _draw(
    classifier: Classifier,
    data: Dataset,
    history: training.History,
    truth: list[int],
    predicted: list[int],
    out: Path,
) -> list[str]:
    """Write the pictures; returns their names."""
    figures = {
        "loss.png": plots.loss_curve(history),
        "confusion.png": plots.confusion_matrix(truth, predicted, data.classes),
    }
    if len(data.features) == 2:
        figures["boundary.png"] = plots.decision_boundary(
            classifier.classify, data.X, data.y, data.features, data.classes
        )
    else:
        (out / "boundary.png").unlink(missing_ok=True)  # of an earlier run
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a label may need a glyph that matplotlib's font lacks
        for name, figure in figures.items():
            picture = io.BytesIO()
            figure.savefig(picture)
            state.write_atomically(out / name, picture.getvalue())
    return list(figures)


def _predict(arguments: argparse.Namespace) -> int:
    classifier = Classifier.load(arguments.model)
    table = datasets.read_table(arguments.data)
    labels = classifier.classify(table.numbers(classifier.features))
    names = [classifier.classes[label] for label in labels]
    rows = [
        {"row": line, "prediction": name} for (line, _), name in zip(table.rows, names, strict=True)
    ]
    text = _csv(rows)
    if sys.stdout.isatty():
        text = "\n".join(map(printable, text.split("\n")))
    print(text, end="", flush=True)
    if classifier.label in table.columns:
        place = table.column(classifier.label)
        truth = [cells[place].strip() for _, cells in table.rows]
        known = [(t, name) for t, name in zip(truth, names, strict=True) if t]
        if known:
            share = 100.0 * sum(t == name for t, name in known) / len(known)
            complain(f"accuracy {share:.1f} % of {len(known)} labelled rows")
    return 0


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def show(_: argparse.Namespace) -> int:
    """Learn the moons, draw what was learned in characters, and say what to try next."""
    data = datasets.moons(200)
    classifier = Classifier.untrained(data, [8, 8], activation="relu", loss="hinge", seed=1)
    model, targets = classifier.model, [classifier.targets[label] for label in data.y]
    print(f"A network of {len(model.parameters())} scalar Values learns to tell two moons apart:\n")

    def report(model: Any, history: training.History) -> None:
        if len(history) % 5 == 0:
            print(
                f"  epoch {len(history):2d}   loss {history.loss[-1]:.4f}   "
                f"accuracy {100.0 * history.accuracy[-1]:5.1f} %",
                flush=True,
            )

    training.fit(model, data.X, targets, loss="hinge", epochs=40, batch_size=10, callbacks=[report])
    print()
    print(_plane(classifier, data))
    print(
        "\n  o and x are the data, the shaded side is where the network says x.\n\n"
        "Try next:\n"
        "  micrograd-like train digits        real handwritten digits, in about twenty seconds\n"
        "  micrograd-like train moons         the same with pictures, in runs/moons\n"
        "  micrograd-like train FILE.csv      your own data: columns of numbers, then a label\n"
        '  micrograd-like eval "tanh(w*x + b)" w=-3 x=2 b=6.88\n'
        "                                     an expression, node by node, with its gradients\n"
        "  micrograd-like --help\n"
        '  python -c "from micrograd_like import Value; x = Value(3.0); y = x**2; '
        'y.backward(); print(x.grad)"'
    )
    return 0


def _plane(classifier: Classifier, data: Dataset, width: int = 64, height: int = 20) -> str:
    """What the network says in each cell of the plane, and the data, as lines of characters."""
    (left, right), (bottom, top) = [
        (min(values) - 0.1, max(values) + 0.1) for values in zip(*data.X, strict=True)
    ]
    xs = [left + (right - left) * (column + 0.5) / width for column in range(width)]
    ys = [top - (top - bottom) * (row + 0.5) / height for row in range(height)]
    cells = [
        ["░" if side else " " for side in classifier.classify([[x, y] for x in xs])] for y in ys
    ]
    for (x, y), label in zip(data.X, data.y, strict=True):
        column = int((x - left) / (right - left) * width)
        row = int((top - y) / (top - bottom) * height)
        cells[row][column] = "x" if label else "o"
    return "\n".join("  " + "".join(line) for line in cells)
