"""What the programs of a step have in common: the parameters, and how they run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from math import prod
from typing import Any, Protocol, TypeAlias

from ..engine import Value, packed
from ..errors import InputError, OperandError
from ..module import Module
from .execution import require_numpy
from .names import input_arrays
from .surroundings import containers

BACKENDS = ("numpy", "numba", "jax", "javascript")


class Training(Protocol):
    """What has the parameters as arrays while a step learns: see `Descent`."""

    @property
    def values(self) -> Any:
        """The parameters, as an array."""


_Leaf: TypeAlias = tuple[Any, str, tuple[int, ...]]


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
        self.learns: Training | None = None

    @property
    def values(self) -> Any:
        """The numbers of the parameters, as an array."""
        if self.learns:
            return self.learns.values
        return require_numpy().frombuffer(packed(self.parameters))


def planned(parameters: Any, backend: str, jax: tuple[str, int | None], function: Any) -> Plan:
    """The plan for parameters in lists and dicts, which a function has, too.

    Raises InputError if there are none.
    """
    values, labels = named_parameters(parameters)
    if not values:
        raise InputError("parameters are needed, Values for the program to have as arrays")
    if unnamed := [value for value, label in zip(values, labels, strict=True) if not label]:
        found = _names_within(function, set(unnamed))
        labels = [label or found.get(v, "") for v, label in zip(values, labels, strict=True)]
    return Plan(values, labels, backend, jax)


def named_parameters(tree: Any) -> tuple[list[Value], list[str]]:
    """The Values in lists and dicts, each once, with labels by the keys on the way to it.

    Those that no key leads to have their own, or where these are in lists of lists, x0, x1 and so
    on. Raises OperandError for what is no Value.
    """
    found: dict[Value, None] = {}
    arrays: dict[str, dict[Value, tuple[int, ...]]] = {}
    for x, name, indices in _leaves(tree):
        if not isinstance(x, Value):
            advice = ": module.parameters()" if isinstance(x, Module) else f", got {x!r:.60}"
            raise OperandError(f"parameters are Values, in lists and dicts{advice}")
        if x not in found:
            found[x] = None
            arrays.setdefault(name, {})[x] = indices
    labels: dict[Value, str] = {}
    for name, members in arrays.items():
        if name or (max(map(len, members.values())) > 1 and not any(x.label for x in members)):
            labels |= _labels(name, members)
    return list(found), [labels.get(x, x.label) for x in found]


def _leaves(x: Any, name: str = "", indices: tuple[int, ...] = ()) -> Iterator[_Leaf]:
    """What is in lists and dicts, with the keys on the way as a name, and the places after it."""
    if isinstance(x, Mapping):
        stem = name + "".join(f"_{i}" for i in indices)
        for key, item in x.items():
            yield from _leaves(item, f"{stem}_{key}" if stem else str(key))
    elif isinstance(x, (list, tuple)):
        for i, item in enumerate(x):
            yield from _leaves(item, name, (*indices, i))
    else:
        yield x, name, indices


def _labels(name: str, members: Mapping[Value, tuple[int, ...]]) -> dict[Value, str]:
    """Labels by places: of one array where these fill it, else of one for each first place."""
    sizes = [len({*along}) for along in zip_longest(*members.values())]
    if len(sizes) <= 2 and prod(sizes) == len(members):
        name = name or "x"
        return {x: name + "".join(f"[{i}]" for i in at) for x, at in members.items()}
    parts: dict[str, dict[Value, tuple[int, ...]]] = {}
    for x, at in members.items():
        part = "".join([f"{name}_" if name else "x", *map(str, at[:1])])
        parts.setdefault(part, {})[x] = at[1:]
    return {x: label for part in parts.items() for x, label in _labels(*part).items()}


def _names_within(function: Any, wanted: set[Value]) -> dict[Value, str]:
    """Labels for Values by the variables, attributes and keys by which a function has them.

    A list of all is one array, which says nothing of matrices in it. So where there are several
    ways to a Value, that counts which has the fewest beside it.
    """
    arrays: list[tuple[str, dict[Value, tuple[int, ...]]]] = []
    for tree in containers(function):
        of_tree: dict[str, dict[Value, tuple[int, ...]]] = {}
        for x, name, indices in _leaves(tree):
            if isinstance(x, Value) and x in wanted:
                of_tree.setdefault(name, {}).setdefault(x, indices)
        arrays += of_tree.items()
    labels: dict[Value, str] = {}
    for name, members in sorted(arrays, key=lambda array: len(array[1])):
        if not labels.keys() & members.keys():
            labels |= _labels(name, members)
    return labels
