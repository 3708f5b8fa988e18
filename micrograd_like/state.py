"""Parameters to and from JSON: no pickle, every float in full, nothing half-written or half-read.

A file is one JSON object: `format` ("micrograd_like/1"), `parameters` (a number for each name) and
whatever else the writer adds, such as the architecture (`model`) or the classes of the data.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from numbers import Real
from typing import Any

from .engine import Value
from .errors import InputError, OperandError, StateError
from .numerics import number
from .words import several

FORMAT = "micrograd_like/1"

_LIST = re.compile(r"\[(?<![\w\]]\[)")  # not the index in a name

MOST_BYTES = 2**28  # of a model file, which has room for four million parameters


def by_name(model: Any) -> dict[str, Value]:
    """A Module's parameters by their names. Raises StateError if two have the same, or one none."""
    named = list(model.named_parameters())
    parameters = dict(named)
    for name, parameter in named:
        if parameters[name] is not parameter:
            raise StateError(f"two parameters are called {name!r:.80}, and one would be lost")
    names = {parameter for _, parameter in named}
    if nameless := sum(isinstance(p, Value) and p not in names for p in model.parameters()):
        raise StateError(
            f"{nameless} of the parameters() have no names, and would be lost: they are not in "
            f"attributes of this {type(model).__name__}, or of Modules in these; let what has them "
            "be a Module"
        )
    return parameters


def set_state(model: Any, state: Mapping[str, Any]) -> None:
    """Give a Module's parameters their numbers from `state`; raises StateError, then unchanged.

    `state` must have exactly the parameters' names, and a finite number for each.
    """
    if not isinstance(state, Mapping):
        raise StateError(f"a state is a dict of numbers by their names, not {state!r:.60}")
    parameters = by_name(model)
    missing = [f"{name!r:.80}" for name in parameters if name not in state]
    extra = [f"{name!r:.80}" for name in state if name not in parameters]
    if missing or extra:
        raise StateError(
            f"the state does not fit the model: it has {len(state)} numbers for {len(parameters)} "
            f"parameters; it lacks {several(missing) or 'none'}; only it has "
            f"{several(extra) or 'none'}"
        )
    numbers = {}
    for name, value in state.items():
        x = math.nan
        if isinstance(value, Real) and not isinstance(value, bool):
            with suppress(InputError, OperandError):  # it is too large, or a time span of NumPy's
                x = number(value)
        if not math.isfinite(x):
            raise StateError(f"parameter {name!r:.80} needs a finite number, got {_shown(value)}")
        numbers[name] = x
    assign(list(parameters.values()), [numbers[name] for name in parameters])


def assign(parameters: Sequence[Value], numbers: Sequence[float]) -> None:
    """Give each parameter its number: all of them or, where it fails or Ctrl-C comes, none."""
    before = [p.data for p in parameters]
    try:
        for p, x in zip(parameters, numbers, strict=True):
            p.data = x
    except BaseException:
        for p, x in zip(parameters, before, strict=True):
            p.data = x
        raise


def write_file(path: str | os.PathLike[str], parameters: Mapping[str, float], **extra: Any) -> None:
    """Write a model file, atomically: `path` holds the old file or the whole new one.

    Raises StateError for what is NaN or infinite, and for a file that would be too large to be read
    again; OSError where writing fails.
    """
    for name, value in parameters.items():
        if not math.isfinite(value):
            raise StateError(f"parameter {name!r} is {value!r}: only finite numbers are saved")
    content = {"format": FORMAT, **extra, "parameters": dict(parameters)}
    try:
        text = json.dumps(content, allow_nan=False, indent=1) + "\n"
        _check_density(text)
    except (TypeError, ValueError) as error:
        raise StateError(f"only finite numbers and texts are saved: {error}") from None
    if len(text) > MOST_BYTES:
        raise StateError(f"{path} would have {len(text):,} bytes: at most {MOST_BYTES:,} are read")
    write_atomically(path, text)


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write to a temporary file beside `path`, then rename it: whatever fails, `path` is whole.

    A link is followed, and a file's mode is kept. What is no file, such as a pipe or a device, is
    written to as it is. Text is written in UTF-8. Only a process that is killed leaves its
    temporary file, `.micrograd_like-XXXXXXXX.tmp`, which nothing reads: it can be deleted.
    """
    from pathlib import Path  # late: it takes a tenth of the package's import time

    data = content.encode() if isinstance(content, str) else content
    path = Path(path)
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file() and not target.is_dir():
        target.write_bytes(data)
        return
    # Not named after the target, whose name may be as long as the file system allows.
    temporary = target.parent / f".micrograd_like-{os.urandom(4).hex()}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            os.chmod(temporary, target.stat().st_mode)
        os.replace(temporary, target)
    except OSError as error:
        # The name that the user knows; a second one would be shown even if it were None.
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a model file, of at most MOST_BYTES.

    Raises StateError if it is none, OSError if it can't be read.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device, say, may never end
            raise ValueError("it is no file at all")
        if status.st_size > MOST_BYTES:
            raise ValueError(f"it has {status.st_size:,} bytes, at most {MOST_BYTES:,} are read")
        with open(path, "rb") as file:
            text = file.read(MOST_BYTES).decode("utf-8")
        _check_density(text)
        content = json.loads(
            text, parse_float=finite, parse_constant=finite, object_pairs_hook=_unique
        )
        if not isinstance(content, dict) or not isinstance(content.get("parameters"), dict):
            raise ValueError("it has no parameters")
        if content.get("format") != FORMAT:
            found = _shown(content.get("format"))
            raise ValueError(f"its format is {found}, and this version reads {FORMAT!r}")
    except (ValueError, RecursionError) as error:
        raise StateError(f"{path} is not a model file: {error}") from None
    return content


def _check_density(text: str) -> None:
    """Raises ValueError for millions of tiny parts, which take 30 times the memory of their text.

    As they are written here, a line each, brackets around something take 8 characters at least, and
    a name and its value 12.
    """
    brackets = text.count("{") + sum(1 for _ in _LIST.finditer(text))
    if 8 * brackets + 12 * text.count(":") > len(text) + 20_000:
        raise ValueError("it has more brackets and names than numbers")


def _shown(x: Any) -> str:
    """A number or a short text as it is, of other things the type: they may be deep, or huge."""
    if x is None or isinstance(x, (bool, float)) or (isinstance(x, int) and abs(x) < 10**60):
        return repr(x)
    return f"{x!r:.60}" if isinstance(x, str) else f"one of type {type(x).__name__}"


def finite(text: str) -> float:
    """The number in the text. Raises ValueError for one that is not finite, and for other text."""
    x = float(text)
    if not math.isfinite(x):
        raise ValueError(f"{text} is not a finite number")
    return x


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name occurs twice")
    return content
