"""The command line: `micrograd-like train`, `predict`, and a small show without arguments.

A refusal is one line on stderr and exit status 2, and leaves no files. That of an expression (the
commands on expressions are in `inspection.py`) has the expression below it, and a caret. Where
training or writing fails late it is the same, but files that were whole by then stay, such as the
model of the last whole epoch. Neither files nor arguments can send a terminal control characters:
in messages, and in tables on a terminal, they are �.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TextIO

from .. import __version__, nn, state, training
from ..errors import (
    ExpressionError,
    InputError,
    MicrogradError,
    MissingExtraError,
    ProcessError,
    StateError,
)
from ..modes import no_grad
from ..optim import Adam
from ..training import datasets, plots
from ..training.datasets import Dataset
from ..words import printable
from . import inspection, processes

BUILT_IN = {"moons": datasets.moons, "circles": datasets.circles, "digits": datasets.digits}

# For each loss, the targets of classes 0 and 1 (None: a label for each of many classes) and the
# activation of the output.
TARGETS: dict[str, tuple[tuple[float, float] | None, str | None]] = {
    "cross_entropy": (None, None),
    "hinge": ((-1.0, 1.0), None),
    "binary_cross_entropy": ((0.0, 1.0), "sigmoid"),
    "binary_cross_entropy_with_logits": ((0.0, 1.0), None),
}


@dataclass
class Classifier:
    """A network, with what turns rows of a table into its inputs and its outputs into labels."""

    model: nn.MLP
    loss: str
    label: str
    features: list[str]
    classes: list[str]
    shift: list[float]
    scale: list[float]

    def classify(self, rows: list[list[float]]) -> list[int]:
        """The place in `classes` for each row of numbers as they stand in the table."""
        predict = training.LOSSES[self.loss].predict
        targets = TARGETS[self.loss][0]
        assert predict is not None
        labels = []
        with no_grad():
            for row in datasets.scale(rows, self.shift, self.scale):
                out = self.model(row)
                target = predict([v.data for v in out] if isinstance(out, list) else [out.data])
                labels.append(int(target) if targets is None else targets.index(target))
        return labels


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    # None where whoever started this has closed them (`>&-`).
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # it may be unable to show a label
            stream.reconfigure(errors="replace")
    status = _run(sys.argv[1:] if argv is None else argv)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop(sys.stdout)
    except OSError as error:
        _drop(sys.stdout)
        status = status or _refuse(f"stdout: {error.strerror or error}")
    return status


def _run(argv: Sequence[str]) -> int:
    if argv and argv[0] in inspection.COMMANDS:
        argv = inspection.options_first(argv)
    try:
        arguments = _parser().parse_args(argv)
        if processes.is_wanted(arguments):
            return processes.supervise(argv, arguments)
        return int(arguments.run(arguments))
    except SystemExit as exit_:  # of --help, or of a refused option
        return int(exit_.code or 0)
    except ExpressionError as error:
        status = _refuse(error.message)
        _complain(error.excerpt(shutil.get_terminal_size().columns))
        return status
    except ProcessError as error:
        _refuse(str(error))
        processes.leave()
    except MicrogradError as error:
        return _refuse(str(error))
    except BrokenPipeError:
        _drop(sys.stdout)
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        _complain("micrograd-like: interrupted")
        return 130


def _refuse(message: str) -> int:
    _complain(f"micrograd-like: {printable(' '.join(message.split()))}")
    return 2


def _complain(text: str) -> None:
    """Print on stderr; where that is full or gone the exit status has to do."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)


def _drop(stream: TextIO) -> None:
    """Whoever read it has gone (`| head`), or it is full: write no more there, nor at exit."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(line: str) -> None:
    """Print a line of progress; the work goes on when nobody reads it."""
    try:
        print(printable(line), flush=True)
    except BrokenPipeError:
        _drop(sys.stdout)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.exit(_refuse(f"{message} (micrograd-like --help tells more)"))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="micrograd-like",
        description="A scalar autograd engine: without a command, a network learns two moons.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.set_defaults(run=_show)
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=_Parser)

    train = commands.add_parser("train", help="train a classifier and save it, with pictures")
    train.set_defaults(run=_train)
    train.add_argument("data", metavar="DATA", help="moons, circles, digits, or a CSV file")
    train.add_argument("--label", help="the CSV's label column (default: the last)")
    train.add_argument(
        "--hidden", type=_widths, default=None, metavar="N,N", help="widths of the hidden layers"
    )
    train.add_argument("--activation", default="tanh", help="an op of the table (default: tanh)")
    train.add_argument("--loss", default="cross_entropy", choices=TARGETS)
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
    inspection.add_commands(commands)
    return parser


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
    hidden = arguments.hidden
    if hidden is None:
        hidden = [32] if arguments.data == "digits" else [16, 16]
    epochs = arguments.epochs
    if epochs is None:
        epochs = 12 if arguments.data == "digits" else 60
    classifier = _classifier(data, hidden, arguments)
    out = arguments.out or Path("runs") / data.name
    _check_out(out)

    widths = "-".join(map(str, classifier.model.widths))
    _say(
        f"{data.name}: {len(data.features)} features, {len(data.classes)} classes, "
        f"{len(train)} examples to train on and {len(test)} to test on; "
        f"MLP {widths}, {len(classifier.model.parameters())} parameters"
    )
    about = _about(classifier)
    path = out / "model.json"
    if arguments.resume:
        _check_same(path, about)
    checkpoint = training.checkpoint(path, **about)

    def save(model: nn.Module, history: training.History) -> None:
        if _writes(arguments):
            out.mkdir(parents=True, exist_ok=True)
            checkpoint(model, history)

    history = _fit(classifier, data, train, epochs, arguments, save, path)
    if not len(history):
        _complain("micrograd-like: interrupted in the first epoch")
        return 130
    if history.interrupted:
        _say(f"interrupted after {len(history)} of {epochs} epochs (--resume goes on)")
        if history.mid_epoch:  # the file has the model of the last whole one
            classifier.model.load(path)
        else:
            save(classifier.model, history)

    truth = [data.y[i] for i in test]
    predicted = classifier.classify([data.X[i] for i in test])
    right = sum(a == b for a, b in zip(truth, predicted, strict=True))
    accuracy = f"test accuracy {100.0 * right / len(truth):.1f} %"
    if not _writes(arguments):
        _say(accuracy)
        return 0
    state.write_atomically(out / "history.csv", _csv(history.rows()))
    written = ["model.json", "history.csv"]
    try:
        written += _draw(classifier, data, history, truth, predicted, out)
    except MissingExtraError as error:
        _say(f"no pictures: {error}")
    _say(f"wrote {', '.join(written)} in {out}")
    _say(accuracy)
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


def _classifier(data: Dataset, hidden: list[int], arguments: argparse.Namespace) -> Classifier:
    targets, output_activation = TARGETS[arguments.loss]
    if targets is not None and len(data.classes) != 2:
        raise InputError(
            f"the loss {arguments.loss} is for two classes, and {data.name} has "
            f"{len(data.classes)}: use cross_entropy"
        )
    nouts = [*hidden, 1 if targets else len(data.classes)]
    model = nn.MLP(
        len(data.features), nouts, arguments.activation, output_activation, arguments.seed
    )
    return Classifier(
        model, arguments.loss, data.label, data.features, data.classes, data.shift, data.scale
    )


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
    arguments: argparse.Namespace,
    save: Callable[[nn.Module, training.History], None],
    path: Path,
) -> training.History:
    targets = TARGETS[classifier.loss][0]
    inputs = data.scaled()
    bar = sys.stderr is not None and sys.stderr.isatty()

    def report(model: Any, history: training.History) -> None:
        if not bar and len(history) % -(-epochs // 10) == 0:
            _say(
                f"epoch {len(history):3d}  loss {history.loss[-1]:.4f}  "
                f"training accuracy {100.0 * history.accuracy[-1]:.1f} %"
            )

    return training.fit(
        classifier.model,
        [inputs[i] for i in places],
        [data.y[i] if targets is None else targets[data.y[i]] for i in places],
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


def _about(classifier: Classifier) -> dict[str, dict[str, Any]]:
    """What a model file says besides the parameters, so that `predict` finds all it needs there."""
    model = classifier.model
    hidden, last = model.layers[0].neurons[0], model.layers[-1].neurons[0]
    return {
        "model": {
            "widths": model.widths,
            "activation": None if len(model.layers) == 1 else nn.activation_name(hidden.activation),
            "output_activation": nn.activation_name(last.activation),
        },
        "classifier": {
            "loss": classifier.loss,
            "label": classifier.label,
            "features": classifier.features,
            "classes": classifier.classes,
            "shift": classifier.shift,
            "scale": classifier.scale,
        },
    }


def _check_same(path: Path, about: dict[str, dict[str, Any]]) -> None:
    """Refuse to go on from a file of another model or other classes, naming what differs.

    Shift and scale follow from the seed and the data, which `fit` compares.
    """
    content = state.read_file(path)
    for section, items in about.items():
        before = content.get(section)
        for name, value in items.items():
            old = before.get(name) if isinstance(before, dict) else None
            if old != value and name not in ("shift", "scale"):
                raise StateError(
                    f"{path} cannot be resumed: {name} was {old!r:.60}, is {value!r:.60}"
                )


def _load(path: str) -> Classifier:
    """The classifier in a file that `train` wrote. Raises StateError if it does not add up."""
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
    outputs = 1 if TARGETS.get(loss, (None,))[0] else len(classes)
    if (
        loss not in TARGETS
        or min(widths, default=0) < 1
        or sum((nin + 1) * nout for nin, nout in pairwise(widths)) != len(parameters)
        or not len(features) == len(shift) == len(scale) == widths[0]
        or widths[-1] != outputs
        or (TARGETS[loss][0] and len(classes) != 2)
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
    return Classifier(model, loss, label, features, classes, shift, scale)


def _list_of(kind: type, x: Any) -> list[Any]:
    """`x`, if it is a list of that kind and nothing else; TypeError otherwise."""
    if not isinstance(x, list) or any(type(item) is not kind for item in x):
        raise TypeError
    return x


def _predict(arguments: argparse.Namespace) -> int:
    classifier = _load(arguments.model)
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
            _complain(f"accuracy {share:.1f} % of {len(known)} labelled rows")
    return 0


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _show(arguments: argparse.Namespace) -> int:
    """Learn the moons, draw what was learned in characters, and say what to try next."""
    data = datasets.moons(200)
    model = nn.MLP(2, [8, 8, 1], activation="relu", seed=1)
    targets = [1.0 if label else -1.0 for label in data.y]
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
    print(_plane(model, data))
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


def _plane(model: nn.MLP, data: Dataset, width: int = 64, height: int = 20) -> str:
    (left, right), (bottom, top) = [
        (min(values) - 0.1, max(values) + 0.1) for values in zip(*data.X, strict=True)
    ]
    with no_grad():
        cells = [
            [
                "░" if model([left + (right - left) * (column + 0.5) / width,
                              top - (top - bottom) * (row + 0.5) / height]) > 0.0 else " "
                for column in range(width)
            ]
            for row in range(height)
        ]  # fmt: skip
    for (x, y), label in zip(data.X, data.y, strict=True):
        column = int((x - left) / (right - left) * width)
        row = int((top - y) / (top - bottom) * height)
        cells[row][column] = "x" if label else "o"
    return "\n".join("  " + "".join(line) for line in cells)
