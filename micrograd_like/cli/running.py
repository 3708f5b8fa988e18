"""A run of training: the loop, the file that it leaves, and what it says meanwhile."""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .. import nn, training
from ..errors import MissingExtraError
from ..optim import Adam
from ..training import plots
from ..words import percent
from .folder import HISTORY, METADATA, MODEL, Folder, history_table
from .terminal import say


def complete(arguments: argparse.Namespace, **defaults: Any) -> None:
    """Give the options that were not given their defaults, which depend on the data."""
    for name, value in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)


def fit(
    arguments: argparse.Namespace,
    model: Any,
    about: Mapping[str, Any],
    folder: Folder,
    *examples: Any,
    **options: Any,
) -> training.History:
    """Train on the examples, and write the model, with what it is about, after each epoch.

    Raises KeyboardInterrupt if no epoch was finished.
    """
    bar = sys.stderr.isatty()

    def save(model: nn.Module, history: training.History) -> None:
        if not arguments.process_id:
            folder.save(model, history, about)

    history = training.fit(
        model,
        *examples,
        optimizer=Adam(model.parameters(), lr=arguments.lr),
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        progress=bar,
        callbacks=[save] if bar else [save, partial(report, epochs=arguments.epochs)],
        engine=arguments.engine,
        devices=arguments.devices,
        resume=folder.path / MODEL if arguments.resume else None,
        **options,
    )
    if not len(history) or (history.interrupted and arguments.process_id):
        raise KeyboardInterrupt
    if history.interrupted:
        if history.mid_epoch:  # the file has the model of the last whole one
            model.load(folder.path / MODEL)
        else:
            save(model, history)
        done, how = f"{len(history)} of {arguments.epochs} epochs", f"--resume --out {folder.path}"
        say(f"interrupted after {done} ({how} goes on)")
    return history


def report(_: Any, history: training.History, epochs: int = 0) -> None:
    """A callback for `fit`: prints a line after epoch 1, 2, ..., 10, 20, ..., and after the last.

    `epochs` says which the last one is.
    """
    epoch = len(history)
    if epoch % 10 ** (len(str(epoch)) - 1) == 0 or epoch == epochs:
        more = ""
        if history.accuracy:
            more = f"  training accuracy {percent(history.accuracy[-1])}"
        elif history.validation_loss:
            more = f"  test loss {history.validation_loss[-1]:.4f}"
        say(f"epoch {epoch:3d}  loss {history.loss[-1]:.4f}{more}")


def finish(
    folder: Folder, history: training.History, pictures: Callable[[], dict[str, Any]] = dict
) -> None:
    """Write the history and pictures beside the model, and say so."""
    files: dict[str, str | bytes] = {HISTORY: history_table(history)}
    try:
        figures = pictures() | {"loss.png": plots.loss_curve(history)}
        files |= {name: _png(figure) for name, figure in figures.items()}
    except MissingExtraError as error:
        say(f"no pictures: {error}")
    except KeyboardInterrupt:  # all epochs are finished
        say("no pictures: interrupted")
    folder.finish(files)
    say(f"wrote {', '.join([MODEL, *files])} in {folder.path}")


def _png(figure: Any) -> bytes:
    """The figure as a file by which `Folder` knows it again."""
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a label may need a glyph that matplotlib's font lacks
        figure.savefig(picture, metadata=METADATA)
    return picture.getvalue()
