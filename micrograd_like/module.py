"""Module: something with parameters, which are found among its attributes, saved and loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import wraps
from itertools import product
from types import FunctionType
from typing import Any

from . import ops, state
from .copying import attributes_of
from .engine import Value, topological_order
from .errors import shown, warn
from .words import several

__dir__ = shown("Module", "label_parameters")

_PLAIN = (list, tuple, dict, bool, str, ops.Op)  # which have no `parameters`


class Module:
    """Something with parameters: the Values in its attributes, and those of the Modules there.

    Lists, tuples, dicts and arrays of Values among the attributes are searched too. A parameter's
    name is its path, such as `layers[0].neurons[3].w[1]`; one that is found twice is listed once.
    What was computed from others of them, such as an activation that is kept, is none (but within
    `no_grad` nothing knows what it was computed from).
    """

    def named_parameters(self) -> Iterator[tuple[str, Value]]:
        """Each parameter with its name, in the order of the attributes.

        Those of modules that list their `parameters` themselves come last.
        """
        found, _ = _search(self)
        yield from [(name, parameter) for parameter, name in found.items()]

    def parameters(self) -> list[Value]:
        """The parameters, in the order of `named_parameters`.

        Where a class within has `parameters` of its own, they are what that says: of a layer that
        is frozen so there are none. Warns (MicrogradWarning) if one was replaced by a node that
        updates it, as in `w = w - lr * w.grad`.
        """
        found, left_out = _search(self)
        parameters = [p for p in found if p not in left_out] if left_out else [*found]
        computed = [p for p in parameters if p.op is not None]
        rebound = [found[p] for p in computed if _is_update(p, parameters)]
        if rebound:
            warn(
                f"instead of a parameter there is a computed node at {several(rebound)}: "
                "what trains the parameter does not reach it, and its graph grows with every step; "
                "change a parameter in place, e.g. w.data -= lr * w.grad"
            )
        return parameters

    def __init_subclass__(cls, **options: Any) -> None:
        """Let a `parameters` of the class's own list each once.

        In micrograd `super().parameters() + [self.gain]` does: here super() finds it, too.
        """
        super().__init_subclass__(**options)
        if isinstance(own := vars(cls).get("parameters"), FunctionType):
            cls.parameters = _each_once(own)  # type: ignore[method-assign]

    def zero_grad(self) -> None:
        """Set every parameter's gradient to 0."""
        for parameter in self.parameters():
            parameter.grad = 0.0

    def state_dict(self) -> dict[str, float]:
        """The number of each parameter by its name.

        Raises StateError (a ValueError) if two have the same name, or one has none: it is what a
        `parameters` of your own found beside the attributes.
        """
        return {name: p.data for name, p in state.by_name(self).items()}

    def load_state_dict(self, numbers: Mapping[str, float]) -> None:
        """Set the parameters from such a dict. Raises StateError (a ValueError), then unchanged."""
        state.set_state(self, numbers)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters to a JSON file, atomically and with every float in full.

        Raises StateError (a ValueError) if one is not finite, OSError if writing fails: the old
        file is then as it was.
        """
        state.write_file(path, self.state_dict())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read the parameters from a file that `save` wrote, into this model.

        Raises StateError (a ValueError) if the file does not fit, OSError if it can't be read, and
        then changes nothing. Nothing in the file is executed, and no more than 256 MiB are read.
        """
        self.load_state_dict(state.read_file(path)["parameters"])


def label_parameters(module: Module) -> None:
    """Label each parameter with its name."""
    for name, parameter in module.named_parameters():
        parameter.label = name


def _each_once(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def parameters(*args: Any, **named: Any) -> Any:
        found = method(*args, **named)
        values = isinstance(found, list) and all(isinstance(p, Value) for p in found)
        return [*dict.fromkeys(found)] if values else found

    return parameters


def _computed(found: Collection[Value]) -> set[Value]:
    """Those that were computed from others that were found."""
    if not (made := [node for node in found if node.op is not None]):
        return set()
    reached = set(found)
    for node in topological_order(*made, untaken=True):
        if not reached.isdisjoint(node.operands):
            reached.add(node)
    return {node for node in made if not reached.isdisjoint(node.operands)}


def _is_update(node: Value, parameters: list[Value]) -> bool:
    """Whether `node` is a lost leaf, changed by numbers: w - 0.1, or (0.9·w + 0.2) - 0.1.

    Modules may keep other nodes: activations, or weights computed from their parameters.
    """
    if node.op not in (ops.add, ops.sub):
        return False
    while node.op in (ops.add, ops.sub, ops.mul) and len(node.parents) == 1:
        (node,) = node.parents
    return node.op is None and node not in parameters


def _search(module: Module) -> tuple[dict[Value, str], set[Value]]:
    """The names of the parameters, and those that are in none of the lists of modules within."""
    seen, found, within = set[int](), dict[Value, str](), list[tuple[str, Any]]()
    _walk("", module, seen, found, within)
    listed, count = {*found} if within else set[Value](), len(within)
    for path, item in within:  # what comes to them is within another one of them
        if isinstance(item, Module):
            _walk_attributes(path, item, seen, found, within)
    for k, (path, item) in enumerate(within):
        for i, parameter in enumerate(item.parameters()):
            if isinstance(parameter, Value):
                found.setdefault(parameter, f"{path}.parameters()[{i}]")
                if k < count:
                    listed.add(parameter)
    for node in _computed(found):
        del found[node]
    return found, found.keys() - listed if within else set()


def _walk(
    path: str, item: Any, seen: set[int], found: dict[Value, str], within: list[tuple[str, Any]]
) -> None:
    """Find the Values below `item`. What was `seen` is not searched again: modules may share it.

    Into the list `within` comes what has `parameters` of its own, and is not searched.
    """
    if isinstance(item, Value):
        found.setdefault(item, path)
    elif path and item.__class__ not in _PLAIN and _has_its_own(item):
        if id(item) not in seen:
            seen.add(id(item))
            within.append((path, item))
    elif isinstance(item, (Module, dict, list, tuple)) and id(item) not in seen:
        seen.add(id(item))
        if isinstance(item, Module):
            _walk_attributes(path, item, seen, found, within)
        elif isinstance(item, dict):
            for key, x in item.items():
                _walk(f"{path}[{key!r}]", x, seen, found, within)
        else:
            for i, x in enumerate(item):
                _walk(f"{path}[{i}]", x, seen, found, within)
    elif getattr(getattr(item, "dtype", None), "hasobject", False):  # an array of Values
        for index in product(*map(range, item.shape)):
            _walk(f"{path}{''.join(f'[{i}]' for i in index)}", item[index], seen, found, within)


def _walk_attributes(path: str, module: Module, *where: Any) -> None:
    for name, x in attributes_of(module).items():
        _walk(f"{path}.{name}" if path else name, x, *where)


def _has_its_own(item: Any) -> bool:
    """Whether its class says what its parameters are, be it a module or not."""
    method = getattr(item.__class__, "parameters", Module.parameters)
    return method is not Module.parameters and callable(method)
