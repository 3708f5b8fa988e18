"""The library's exceptions, `MicrogradError` and its few children, and its warning.

Every child is also the built-in exception that fits, so `except ValueError` keeps working.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

_PACKAGE = os.path.join(os.path.dirname(__file__), "")


class MicrogradError(Exception):
    """Whatever this library refuses is a `MicrogradError`."""


class MicrogradWarning(UserWarning):
    """What this library takes for a mistake, but does all the same."""


def warn(message: str) -> None:
    """A MicrogradWarning at the line of user code that called the library."""
    warnings.warn(message, MicrogradWarning, stacklevel=users_frame()[1])


def users_frame() -> tuple[FrameType, int]:
    """The innermost frame outside the library, and how far up it is: the caller's is 1."""
    frame, level = sys._getframe(1), 1
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        frame, level = frame.f_back, level + 1
    return frame, level


def users_line() -> tuple[str, int] | None:
    """The file and line of the user's that asks for something, be it through Python's or NumPy's.

    None where it is the library itself that asks through one, for a message with an array in it.
    """
    frame, _ = users_frame()
    outer: FrameType | None = frame
    while outer is not None and _is_of_python_or_numpy(outer):
        outer = outer.f_back
    outer = outer or frame
    file = outer.f_code.co_filename
    return None if file.startswith(_PACKAGE) else (file, outer.f_lineno)


def _is_of_python_or_numpy(frame: FrameType) -> bool:
    """Whether it is their code. Other packages, which may have a model in them, are the user's."""
    name = str(frame.f_globals.get("__name__")).partition(".")[0]
    return name == "numpy" or (name in sys.stdlib_module_names and name != "__main__")


class InputError(MicrogradError, ValueError):
    """A value, a length or an option that the called function cannot use."""


class OperandError(MicrogradError, TypeError):
    """An object of a type that the library does not compute with."""


class Count(local):
    """A number that each thread has for itself."""

    count = 0


refusals = Count()
"""How many DomainErrors there were in this thread: a trace is to know of those that were caught."""


class DomainError(MicrogradError, ValueError):
    """Finite arguments at which an operation has no finite real value, such as log(-1).

    `op` is the name of the operation, `arguments` its arguments, `labels` the labels of their nodes
    ("" where there is none).
    """

    def __init__(
        self, op: str, domain: str, arguments: Sequence[float], labels: Sequence[str] = ()
    ) -> None:
        refusals.count += 1
        self.op = op
        self.domain = domain
        self.arguments = tuple(arguments)
        self.labels = tuple(labels)
        super().__init__(op, domain, self.arguments, self.labels)

    def __str__(self) -> str:
        labels = self.labels or ("",) * len(self.arguments)
        got = ", ".join(
            f"{value!r} (label {label!r})" if label else repr(value)
            for value, label in zip(self.arguments, labels, strict=True)
        )
        return f"{self.op} is defined {self.domain}, got {got}"


class StaleGraphError(MicrogradError, ValueError):
    """The gradient's graph would not match the forward pass: data was changed since, as a rule."""


class TraceError(MicrogradError, ValueError):
    """A model or loss that one example does not show as a function of arrays."""


class StateError(MicrogradError, ValueError):
    """A model file, or a state, that does not fit the model."""


class DivergenceError(MicrogradError, ValueError):
    """The loss became NaN or infinite. `epoch` and `batch` count from 1."""

    def __init__(self, message: str, epoch: int, batch: int) -> None:
        super().__init__(message, epoch, batch)
        self.epoch = epoch
        self.batch = batch

    def __str__(self) -> str:
        return str(self.args[0])


class ProcessError(MicrogradError, RuntimeError):
    """One of several processes that train together is missing, or was lost."""


class RendererError(MicrogradError, RuntimeError):
    """Graphviz is missing, fails, or cannot write the format; the message says what to do."""


_NAME = __name__.partition(".")[0]


class MissingExtraError(MicrogradError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(package, extra)
        self.package = package
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.package} is not installed: {how_to_install(self.extra)} brings it"


def how_to_install(extra: str) -> str:
    """The command that brings an extra of the package, from where the package itself comes from."""
    sources = "in the folder of its sources"
    if Path(__file__).parent.with_name("pyproject.toml").exists():
        return f"pip install -e '.[{extra}]' ({sources})"
    from importlib import metadata  # late: it takes as long as all of this package

    with suppress(metadata.PackageNotFoundError):
        # pip writes it where the package came from a folder, and not from an index.
        if "dir_info" in (metadata.distribution(_NAME).read_text("direct_url.json") or ""):
            return f"pip install '.[{extra}]' ({sources})"
    return f"pip install '{_NAME}[{extra}]'"


def shown(*names: str) -> Callable[[], list[str]]:
    """A module's `__dir__` (PEP 562), by which completion shows its public names alone."""
    return lambda: sorted(names)


def found_later(module: str, where: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` (PEP 562), which imports names from `where` they are when asked.

    Of a module by its own name, that is the module.
    """

    def find(name: str) -> Any:
        if name not in where:
            text = f"module {module!r} has no attribute {name!r}"
            if not name.startswith("_"):  # many a tool asks for those
                words = import_module(".words", __package__)
                text += words.meant(name, dir(sys.modules[module]))
            # Without an object, Python's tracebacks add no guess of their own.
            raise AttributeError(text, name=name, obj=None)
        found = import_module(f".{where[name]}", __package__)
        return found if where[name] == name else getattr(found, name)

    return find


# Errors that only one module raises are written there, and found here too.
_ELSEWHERE = {
    "AnomalyError": "checks.anomaly",
    "ExpressionError": "cli.expressions",
    "GradientError": "checks.checking",
}
__getattr__ = found_later(__name__, _ELSEWHERE)
__dir__ = shown(*_ELSEWHERE, *(name for name in globals() if name.endswith(("Error", "Warning"))))
