"""The library's exceptions: `MicrogradError` and its few children.

Every child is also the built-in exception that fits, so `except ValueError` keeps working.
"""

from __future__ import annotations

from collections.abc import Sequence


class MicrogradError(Exception):
    """Whatever this library refuses is a `MicrogradError`."""


class InputError(MicrogradError, ValueError):
    """A value, a length or an option that the called function cannot use."""


class OperandError(MicrogradError, TypeError):
    """An object of a type that the library does not compute with."""


class DomainError(MicrogradError, ValueError):
    """Finite arguments at which an operation has no finite real value, such as log(-1).

    `op` is the name of the operation, `arguments` its arguments, `labels` the labels of their nodes
    ("" where there is none).
    """

    def __init__(
        self, op: str, domain: str, arguments: Sequence[float], labels: Sequence[str] = ()
    ) -> None:
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
    """Data was changed after the forward pass, and the gradient's graph would not match it."""


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


class MissingExtraError(MicrogradError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(package, extra)
        self.package = package
        self.extra = extra

    def __str__(self) -> str:
        return (
            f"{self.package} is not installed: pip install 'micrograd_like[{self.extra}]' brings it"
        )
