"""Loop nests compiled by Numba, kept on disk, and called: backend "numba"."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from threading import Lock
from types import ModuleType
from typing import Any, Final

import numpy as np

from .form import Lifted
from .loops import UnsuitableError, emit_loops
from .nests import Blocks

_COMPILING = Lock()


def native(lifted: Lifted, blocks: Blocks, jacobian: tuple[int, int] | None) -> Native | None:
    """The program compiled; None if that is unsuitable, and NumPy the better choice."""
    try:
        return Native(lifted, blocks, jacobian)
    except UnsuitableError:
        return None


class Native:
    """The program as machine code: `single` takes values in one axis, `batch` in two.

    `jacobian` is the shape of the last result, if it has two axes. Raises UnsuitableError, as
    `emit_loops` does.
    """

    def __init__(self, lifted: Lifted, blocks: Blocks, jacobian: tuple[int, int] | None) -> None:
        from numba import TypingError

        self._loops = emit_loops(lifted, blocks)
        self.source: Final = self._loops.source
        self._inputs = lifted.tape.inputs
        self._blocks = [(name, size) for name, size in blocks if size]
        self._has_number = blocks[0][1] == 0  # the first result, which `program` returns
        self._jacobian = jacobian
        compiled = functions_of(
            self.source, lambda: emit_loops(lifted, blocks, cached=False).source
        )
        self._batch = compiled["batch"]
        self.single: Final = self._caller(compiled["program"])
        # Of what is no array of floats; the latter of elements whose type it does not know.
        self.refusals: Final = (TypeError, TypingError)

    def _caller(self, run: Any) -> Any:
        """A function of `values` with as little work around the machine code as there can be.

        It raises one of `refusals` for what is not a writable, contiguous array of as many floats.
        """
        lines = [
            "def program(values):",
            f"    if len(values) != {self._inputs}:",
            "        raise TypeError('another number of values')",
        ]
        lines += [f"    {name} = empty({size})" for name, size in self._blocks]
        results = [name for name, _ in self._blocks]
        call = f"run({', '.join(self._loops.signature)})"
        if self._has_number:
            results.insert(0, call)
        else:
            lines.append(f"    {call}")
        if self._jacobian is not None:
            results[-1] += f".reshape({self._jacobian})"
        lines.append(f"    return {', '.join(results)}")
        space = {"run": run, "empty": np.empty, **self._loops.arrays}
        exec("\n".join(lines), space)
        return space.pop("program")  # which holds the space: no cycle

    def batch(self, values: Any) -> Any:
        """The results for each row of a contiguous array of floats with two axes."""
        count = len(values)
        results: list[Any] = [np.empty((count, size)) for _, size in self._blocks]
        if self._has_number:
            results.insert(0, np.empty(count))
        self._batch(values, *results, *self._loops.arrays.values())
        if self._jacobian is not None:
            results[-1] = results[-1].reshape(count, *self._jacobian)
        return tuple(results) if len(results) > 1 else results[0]


def functions_of(source: str, uncached: Callable[[], str]) -> dict[str, Any]:
    """What the source defines, from the cache on disk if it was compiled before.

    Numba keeps the machine code beside the source file. Where there can be no file, what `uncached`
    gives is run, the same source without the caching. The text that runs is always the one given,
    never what is found in the file.
    """
    import numba

    versions = f"{numba.__version__} {np.__version__} {sys.version}"
    digest = hashlib.sha256(f"{versions}\n{source}".encode()).hexdigest()[:32]
    # Names of symbols begin with the module's name, and must differ from one program to another.
    # Numba imports the module by its name when it reads its cache.
    name = f"micrograd_like_program_{digest}"
    with _COMPILING:
        module = sys.modules.get(name)
        if module is None:
            module = sys.modules[name] = ModuleType(name)
            try:
                path = kept_source(f"{name}.py", source)
                if path is None or not _executes(source, path, module):
                    exec(compile(uncached(), f"<{name}>", "exec"), module.__dict__)
            except BaseException:
                del sys.modules[name]
                raise
    return module.__dict__


def _executes(source: str, path: str, module: ModuleType) -> bool:
    """Whether the source runs with its cache, which may be damaged, or be removed meanwhile."""
    try:
        exec(compile(source, path, "exec"), module.__dict__)
    except (OSError, ImportError, EOFError, ValueError, UnpicklingError):
        return False
    return True


def kept_source(name: str, source: str) -> str | None:
    """The path of a file with this source in the cache directory; None if it cannot be there."""
    directory = cache_directory()
    path = directory / name
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = directory.stat()
        # Numba unpickles what it finds there: nobody else may have put it there.
        foreign = hasattr(os, "getuid") and status.st_uid != os.getuid()
        if foreign or (os.name == "posix" and status.st_mode & 0o002):
            return None
        if path.exists() and path.read_text(encoding="utf-8") == source:
            return str(path) if os.access(directory, os.W_OK) else None
        # Written beside it and moved: another process sees all of the file or none of it.
        descriptor, temporary = tempfile.mkstemp(dir=directory, suffix=".tmp")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(source)
            # The same time for all who write it: Numba takes another time for another source.
            os.utime(temporary, (1e9, 1e9))
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    except (OSError, ValueError):
        return None
    return str(path)


def cache_directory() -> Path:
    """Where compiled programs are kept: MICROGRAD_LIKE_CACHE, or the user's place for caches."""
    if chosen := os.environ.get("MICROGRAD_LIKE_CACHE"):
        return Path(chosen)
    home = Path(os.path.expanduser("~"))
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "micrograd_like"
