"""The folder of a run, where `train` writes `model.json`, `history.csv` and pictures.

Nothing is overwritten that no run wrote. Where an earlier run wrote, a run takes the next free
name, as `runs/moons-2`, or overwrites (`--force`), or goes on (`--resume`).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any

from .. import nn, state, training
from ..errors import InputError, StateError
from ..training.history import History, Saved
from .terminal import csv_text

MODEL, HISTORY = "model.json", "history.csv"
BESIDE = (
    HISTORY,
    *(f"{name}.png" for name in ("loss", "confusion", "boundary", "predicted", "curve")),
)
# Pictures are known again by it: it is in the file, where matplotlib's own name would be.
METADATA = {"Software": "micrograd-like train"}


class Folder:
    """Where a run writes: `path`, which is made, or chosen anew, with the first file.

    Raises InputError, before the work, where nothing can be written or a file is in the way.
    """

    def __init__(self, arguments: argparse.Namespace, name: str) -> None:
        path = arguments.out or Path("runs") / name
        if arguments.resume:
            if not arguments.out:
                *_, path = chain([path], takewhile(Path.exists, _numbered(path)))
            Saved(path / MODEL, arguments.epochs)
        nearest = next(parent for parent in (path, *path.parents) if parent.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(f"--out {path}: {nearest} is a file, or nothing can be written there")
        self.path = path
        self._data = arguments.data
        self._again = arguments.resume or arguments.force
        self._new = not path.exists()
        if not self._new and not self._is_taken():
            self._check()
        self._begun = False

    def save(self, model: nn.Module, history: History, about: Mapping[str, Any]) -> None:
        """Write a checkpoint, with what it is about."""
        if not self._begun:
            if self._new or self._is_taken():
                self._make()
            self._check()
        training.checkpoint(self.path / MODEL, **about)(model, history)
        if not self._begun:
            for name in BESIDE:  # they were of the model that is overwritten now
                (self.path / name).unlink(missing_ok=True)
            self._begun = True

    def finish(self, files: Mapping[str, str | bytes]) -> None:
        """Write those of the files `BESIDE` the model; the others are of an earlier run, and go."""
        self._check()
        for name in BESIDE:
            if name in files:
                state.write_atomically(self.path / name, files[name])
            else:
                (self.path / name).unlink(missing_ok=True)

    def _make(self) -> None:
        """Make the folder, under the first name that is free by now."""
        for path in chain([self.path], _numbered(self.path)):
            with suppress(FileExistsError):
                path.mkdir(parents=True)  # of runs that begin at once, one can
                self.path, self._new = path, False
                return

    def _is_taken(self) -> bool:
        """Whether the folder is that of another run, which is to stay."""
        return not self._again and self._written() is not None

    def _written(self) -> str | None:
        """The history of the run that wrote the model that is there; None if no run did."""
        try:
            saved = Saved(self.path / MODEL, sys.maxsize)
        except (OSError, StateError):
            return None
        ours = {"classifier", "gpt"} & saved.content.keys()
        return history_table(saved.history) if ours else None

    def _check(self) -> None:
        """Raises InputError for a file in the way: one that no run wrote, or the data."""
        written = self._written()
        for path in (self.path / name for name in (MODEL, *BESIDE)):
            if not os.path.lexists(path):
                continue
            if os.path.exists(self._data) and path.exists() and path.samefile(self._data):
                raise InputError(f"{path} is the data: choose another folder with --out")
            if written is None or not _is_ours(path, written):
                raise InputError(
                    f"{path} is in the way, and train did not write it: move it, or choose another "
                    "folder with --out"
                )


def history_table(history: History) -> str:
    """The history as CSV, a line an epoch."""
    rows = history.rows()
    return csv_text(rows[0], *(row.values() for row in rows))


def _numbered(path: Path) -> Iterator[Path]:
    path = path if path.name.strip(".") else path.resolve()
    return (path.with_name(f"{path.name}-{i}") for i in count(2))


def _is_ours(path: Path, history: str) -> bool:
    """Whether this file beside a model with that history was written with it, or earlier."""
    if path.name == MODEL:
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if path.name == HISTORY:
            return history.encode().startswith(file.read(len(history) + 1))
        return METADATA["Software"].encode() in file.read(1000)
