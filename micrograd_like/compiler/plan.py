"""What the programs of a step have in common: the parameters, and how they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..engine import Value, packed
from ..errors import InputError, OperandError
from ..nn import Module
from .execution import require_numpy
from .names import input_arrays

if TYPE_CHECKING:
    from .descent import Descent


BACKENDS = ("numpy", "numba", "jax", "javascript")


class Plan:
    """What the programs of a step have in common: what they differentiate by, and how they run.

    `weights` are the arrays of the parameters, `names` what these are called, and `learns` the
    training that has the parameters. `jax` is the dtype and the number of devices; what
    `is_native` is compiled by Numba, and what `is_javascript` is only printed.
    """

    def __init__(
        self,
        parameters: list[Value],
        labels: Sequence[str],
        backend: str,
        jax: tuple[str, int | None],
    ) -> None:
        self.parameters = parameters
        self.names: set[str] = set()
        self.weights = input_arrays(labels, self.names)
        self.jax = jax if backend == "jax" else None
        self.is_native = backend == "numba"
        self.is_javascript = backend == "javascript"
        self.learns: Descent | None = None

    def settle(self) -> None:
        """Let the Values have what is learned: they are about to be looked at."""
        if self.learns:
            self.learns.write()

    @property
    def values(self) -> Any:
        """The numbers of the parameters, as an array."""
        if self.learns:
            return self.learns.values
        return require_numpy().frombuffer(packed(self.parameters))


def planned(parameters: Any, backend: str, jax: tuple[str, int | None]) -> Plan:
    """The plan for parameters in lists and dicts. Raises InputError if there are none."""
    values, labels = named_parameters(parameters)
    if not values:
        raise InputError("parameters are needed, Values for the program to have as arrays")
    return Plan(values, labels, backend, jax)


def named_parameters(tree: Any) -> tuple[list[Value], list[str]]:
    """The Values in lists and dicts, each once, with labels by the keys on the way to it.

    Those that no key leads to have their own. Raises OperandError for what is no Value.
    """
    found: dict[Value, str] = {}

    def visit(x: Any, name: str, indices: str) -> None:
        if isinstance(x, Value):
            found.setdefault(x, f"{name}{indices}" if name else x.label)
        elif isinstance(x, Mapping):
            stem = name + "".join(f"_{i}" for i in indices.strip("[]").split("][") if i)
            for key, item in x.items():
                visit(item, f"{stem}_{key}" if stem else str(key), "")
        elif isinstance(x, (list, tuple)):
            for i, item in enumerate(x):
                visit(item, name, f"{indices}[{i}]")
        else:
            advice = ": module.parameters()" if isinstance(x, Module) else f", got {x!r:.60}"
            raise OperandError(f"parameters are Values, in lists and dicts{advice}")

    visit(tree, "", "")
    return list(found), list(found.values())
