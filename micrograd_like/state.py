"""Parameters to and from JSON: no pickle, every float in full, nothing half-written or half-read.

A file is one JSON object: `format` ("micrograd_like/1"), `parameters` (a number for each name) and
whatever else the writer adds, such as the architecture (`model`) or the classes of the data.
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from .engine import Value
from .errors import StateError

FORMAT = "micrograd_like/1"


def state_of(named_parameters: Iterable[tuple[str, Value]]) -> dict[str, float]:
    """The number of each parameter by its name."""
    return {name: parameter.data for name, parameter in named_parameters}


def set_state(named_parameters: Iterable[tuple[str, Value]], state: Mapping[str, Any]) -> None:
    """Give every parameter its number from `state`; raises StateError before it changes any.

    `state` must have exactly the parameters' names, and a finite number for each.
    """
    parameters = dict(named_parameters)
    missing = [name for name in parameters if name not in state]
    extra = [name for name in state if name not in parameters]
    if missing or extra:
        raise StateError(
            f"the state does not fit the model: it has {len(state)} numbers for "
            f"{len(parameters)} parameters"
            + _some("; it lacks", missing)
            + _some("; only it has", extra)
        )
    numbers = {}
    for name, value in state.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise StateError(f"parameter {name!r} needs a number, got {value!r:.60}")
        try:
            numbers[name] = float(value)
        except OverflowError:
            numbers[name] = math.inf
        if not math.isfinite(numbers[name]):
            raise StateError(f"parameter {name!r} needs a finite number, got {value!r:.60}")
    for name, parameter in parameters.items():
        parameter.data = numbers[name]


def write_file(path: str | os.PathLike[str], parameters: Mapping[str, float], **extra: Any) -> None:
    """Write a model file, atomically: `path` holds the old file or the whole new one.

    Raises StateError for what is NaN or infinite, OSError where writing fails.
    """
    for name, value in parameters.items():
        if not math.isfinite(value):
            raise StateError(f"parameter {name!r} is {value!r}: only finite numbers are saved")
    content = {"format": FORMAT, **extra, "parameters": dict(parameters)}
    try:
        text = json.dumps(content, allow_nan=False, indent=1)
    except ValueError as error:
        raise StateError(f"only finite numbers are saved: {error}") from None
    write_atomically(path, text + "\n")


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write to a temporary file beside `path`, then rename it.

    A link is followed, and a file's mode is kept. What is no file, such as a pipe or a device, is
    written to as it is.
    """
    from pathlib import Path  # late: it takes a tenth of the package's import time

    path = Path(path)
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, "a file name is needed", os.fspath(path))
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file() and not target.is_dir():
        target.write_text(text, encoding="utf-8")
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}")
    try:
        with open(temporary, "x", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            os.chmod(temporary, target.stat().st_mode)
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename, error.filename2 = os.fspath(path), None  # the one that the user knows
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a model file. Raises StateError if it is none, OSError if it can't be read."""
    from pathlib import Path

    try:
        content = json.loads(
            Path(path).read_text(encoding="utf-8"),
            parse_float=_finite,
            parse_constant=_finite,
            object_pairs_hook=_unique,
        )
    except (ValueError, RecursionError) as error:
        raise StateError(f"{path} is not a model file: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("parameters"), dict):
        raise StateError(f"{path} is not a model file: it has no parameters")
    if content.get("format") != FORMAT:
        raise StateError(
            f"{path} has the format {content.get('format')!r:.60}; this version reads {FORMAT!r}"
        )
    return content


def _some(verb: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{verb} {', '.join(map(repr, names[:3]))}{more}"


def _finite(text: str) -> float:
    x = float(text)
    if not math.isfinite(x):
        raise ValueError(f"{text} is not a finite number")
    return x


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name occurs twice")
    return content
