"""Loop nests compiled by Numba, kept on disk, and called: backend "numba"."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, Final

import numpy as np

from .execution import listed, over_numpy
from .form import Lifted
from .loops import UnsuitableError, emit_loops
from .nests import Blocks
from .numpy_source import NumpyPrinter

_COMPILED: Final[dict[str, dict[str, Any]]] = {}  # what each source defines, by its module's name
_COMPILING: Final = Lock()


def native(lifted: Lifted, blocks: Blocks, jacobian: tuple[int, int] | None) -> Native | None:
    """The program compiled; None if that is unsuitable, and NumPy the better choice."""
    try:
        return Native(lifted, blocks, jacobian)
    except UnsuitableError:
        return None


class Native:
    """The program as machine code: `single` takes values in one axis, `batch` in two.

    `jacobian` is the shape of the last result, if it has two axes. Where a program with padding
    gives NaN, NumPy computes the same without it. Raises UnsuitableError, as `emit_loops` does.
    """

    def __init__(self, lifted: Lifted, blocks: Blocks, jacobian: tuple[int, int] | None) -> None:
        from numba import TypingError

        self._loops = emit_loops(lifted, blocks)
        self.source: Final = self._loops.source
        self._inputs = lifted.tape.inputs
        self._blocks = [(name, size) for name, size in blocks if size]
        self._has_number = blocks[0][1] == 0  # the first result, which `program` returns
        self._jacobian = jacobian
        self._is_padded = lifted.is_padded
        # Of Python's interpreter, and printed when it is first needed.
        exact = cache(
            lambda: over_numpy(NumpyPrinter(lifted, exactly=True).program(blocks, jacobian))
        )
        self._exactly: Callable[[Any], Any] = lambda values: exact()(values)
        compiled = functions_of(self.source)
        self._batch = compiled["batch"]
        self.single: Final = self._caller(compiled["program"])
        # Of what is no array of floats: of elements whose type it does not know, of an empty list.
        self.refusals: Final = (TypeError, TypingError, ValueError)

    def _caller(self, run: Any) -> Any:
        """A function of `values` with as little work around the machine code as there can be.

        It raises one of `refusals` for what is not a writable, contiguous array of as many floats.
        """
        lines = [
            "def program(values):",
            f"    if len(values) != {self._inputs}:",
            "        raise TypeError('another number of values')",
        ]
        names = [name for name, _ in self._blocks]
        lines += [f"    {name} = empty({size})" for name, size in self._blocks]
        lines.append(f"    number = run({', '.join(self._loops.signature)})")
        if self._is_padded:
            lines += ["    if number != number:", "        return exactly(values)"]
        results = ["number"] * self._has_number + names
        if self._jacobian is not None:
            results[-1] += f".reshape({self._jacobian})"
        lines.append(f"    return {', '.join(results)}")
        space = {"run": run, "empty": np.empty, "exactly": self._exactly, **self._loops.arrays}
        exec("\n".join(lines), space)
        return space.pop("program")  # which holds the space: no cycle

    def batch(self, values: Any) -> Any:
        """The results for each row of a contiguous array of floats with two axes."""
        count = len(values)
        shapes = [(count,)] * self._has_number + [(count, size) for _, size in self._blocks]
        results = [np.empty(shape) for shape in shapes]
        self._batch(values, *results, *self._loops.arrays.values())
        if self._jacobian is not None:
            results[-1] = results[-1].reshape(count, *self._jacobian)
        if self._is_padded:
            lost = [np.isnan(result).any(tuple(range(1, result.ndim))) for result in results]
            for i in np.flatnonzero(np.any(lost, 0)):
                exact = self._exactly(values[i])
                for result, row in zip(results, listed(exact), strict=True):
                    result[i] = row
        return tuple(results) if len(results) > 1 else results[0]


def functions_of(source: str) -> dict[str, Any]:
    """What the source defines. Numba finds the machine code on disk if it was compiled before."""
    import numba

    versions = f"{numba.__version__} {np.__version__} {sys.version}"
    kernels = Path(__file__).with_name("kernels.py").read_text(encoding="utf-8")
    digest = hashlib.sha256(f"{versions}\n{kernels}\n{source}".encode()).hexdigest()[:32]
    # Names of symbols begin with the module's name, and must differ from one program to another.
    name = f"micrograd_like_program_{digest}"
    with _COMPILING:
        if name not in _COMPILED:
            # Numba imports the module by its name when it reads its cache.
            module = sys.modules[name] = ModuleType(name)
            _execute(source, module)
            _COMPILED[name] = module.__dict__
    return _COMPILED[name]


def _execute(source: str, module: ModuleType) -> None:
    if (path := kept_at(f"{module.__name__}.py")) is not None:
        try:
            exec(compile(source, path, "exec"), module.__dict__)
            return
        except Exception:  # what is kept is damaged, or was removed meanwhile
            pass
    without = source.replace("cache=True", "cache=False")
    exec(compile(without, f"<{module.__name__}>", "exec"), module.__dict__)


def kept_at(name: str) -> str | None:
    """The path of an empty file of this name, in the directory for compiled programs.

    Numba keeps machine code beside the file that a function is said to come from, while that file
    does not change; what runs is never read from it. None where no such file can be, or where
    others may write: Numba unpickles what it finds. The directory is MICROGRAD_LIKE_CACHE, or else
    the user's `~/.cache/micrograd_like`.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    chosen = os.environ.get("MICROGRAD_LIKE_CACHE") or f"{caches}/micrograd_like"
    directory = Path(os.path.expanduser(chosen))
    path = directory / name
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = directory.stat()
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o002):
            return None
        if not path.exists():
            path.touch()
    except OSError:
        return None
    return str(path)
